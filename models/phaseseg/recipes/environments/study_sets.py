"""Measure outliers and comparisons of sets on tantalum and iron (see `sets`).

    python -m phaseseg.recipes.environments.study_sets outliers [--seeds 10]

`outliers` moves one atom in each of 20 configurations by 0.6 Å in a random direction and ranks the
configurations by their largest outlier score: area under the ROC curve (AUC) and average precision. The
settings of the score were chosen with seeds 0 to 7; those measured here start at 100.
"""

from __future__ import annotations

import argparse
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.outliers import outlier_scores
from phaseseg.frame import Frame
from phaseseg.recipes.cards import say
from phaseseg.recipes.environments.sets import read_set

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

SPECIES = {"ta": "Ta", "fe": "Fe"}
N_CORRUPTED = 20
MOVED = 0.6
"""Å"""
FIRST_SEED = 100


@cache
def described(name: str) -> tuple[DataSet, Doubles]:
    """A set and the descriptors of its atoms at their defaults."""
    data = read_set(name)
    return data, data.features(PowerSpectrum((SPECIES[name],)))


def corrupted(name: str, seed: int) -> tuple[Doubles, Integers, NDArray[np.bool_]]:
    """Descriptors, configurations, and which configurations have one atom that was moved by 0.6 Å."""
    data, rows = described(name)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(data.frames), N_CORRUPTED, replace=False)
    rows, spectrum = rows.copy(), PowerSpectrum((SPECIES[name],))
    for c in chosen.tolist():
        frame = data.frames[c]
        positions = frame.positions.copy()
        step = rng.normal(size=3)
        positions[rng.integers(len(positions))] += MOVED * step / np.linalg.norm(step)
        moved = Frame(positions, frame.cell, frame.pbc, frame.species, frame.species_names)
        rows[data.configurations == c] = spectrum(moved)
    return rows, data.configurations, np.isin(np.arange(len(data.frames)), chosen)


def outliers(seeds: int) -> None:
    """Print AUC and average precision of corrupted configurations, mean and range over seeds."""
    for name in SPECIES:
        results = []
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            rows, of, truth = corrupted(name, seed)
            strangest = np.zeros(len(truth))
            np.maximum.at(strangest, of, outlier_scores(rows, of))
            results.append((roc_auc_score(truth, strangest), average_precision_score(truth, strangest)))
        low, mean, high = np.min(results, axis=0), np.mean(results, axis=0), np.max(results, axis=0)
        say(
            f"{name}: AUC {mean[0]:.3f} ({low[0]:.3f} to {high[0]:.3f})  average precision {mean[1]:.2f} "
            f"({low[1]:.2f} to {high[1]:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["outliers"])
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    outliers(chosen.seeds)


if __name__ == "__main__":
    main()
