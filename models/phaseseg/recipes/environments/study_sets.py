"""Measure outliers and comparisons of sets on tantalum and iron (see `sets`).

    python -m phaseseg.recipes.environments.study_sets outliers|liquids|suggest|spearman [--seeds 5]

`outliers` moves one atom in each of 20 configurations by 0.6 Å in a random direction and ranks the
configurations by their largest outlier score: area under the ROC curve (AUC) and average precision. It also
counts the configurations that a report lists, and how many of them were moved.

The other parts divide the set of iron into 75 % and 25 % of the configurations of each group.
`liquids` takes all liquids out of the 75 % and looks for them in the 25 %: AUC of single atoms by their
distance, and shares of atoms beyond the spacing.
`suggest` starts from half of the 75 % without liquids and asks which ten of the other half and the liquids
should come next. Linear potentials are fitted before, after, with ten at random, and with all liquids;
their root mean square errors of forces are those of the liquids in the 25 %.
`spearman` draws 40 subsets of 3 % of the atoms and correlates their coverage scores of the 75 % with the
errors of forces on the 25 %, pooled and as the geometric mean over groups (floor 0.01 eV/Å).

The settings of the scores were chosen with seeds 0 to 7; those measured here start at 100.
"""

from __future__ import annotations

import argparse
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from phaseseg.families.environments.comparison import coverage, suggest, usual_projection
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.outliers import outlier_limits, outlier_scores
from phaseseg.families.environments.potential import usual_descriptor
from phaseseg.families.environments.potential_basis import Repulsion, fit_basis
from phaseseg.families.environments.potential_table import FitTable, make_table
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
N_SUBSETS = 40
SUBSET = 0.03
"""Share of the atoms."""


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
    """Print AUC, average precision and lengths of lists of corrupted configurations, over seeds."""
    for name in SPECIES:
        results, groups = [], described(name)[0].groups
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            rows, of, truth = corrupted(name, seed)
            strangest = np.zeros(len(truth))
            np.maximum.at(strangest, of, outlier_scores(rows, of))
            scores = roc_auc_score(truth, strangest), average_precision_score(truth, strangest)
            listed = strangest >= outlier_limits(strangest, groups)
            results.append((*scores, listed.sum(), (listed & truth).sum()))
        low, mean, high = np.min(results, axis=0), np.mean(results, axis=0), np.max(results, axis=0)
        say(
            f"{name}: AUC {mean[0]:.3f} ({low[0]:.3f} to {high[0]:.3f})  average precision {mean[1]:.2f} "
            f"({low[1]:.2f} to {high[1]:.2f})  listed {mean[2]:.0f}, of which {mean[3]:.1f} were moved"
        )


# Comparisons of sets ---------------------------------------------------------------------------------


class Iron:
    """The set of iron, its liquids, and the configurations of a 75/25 split within groups."""

    def __init__(self, seed: int) -> None:
        self.data, self.rows = described("fe")
        self.rng = np.random.default_rng(seed)
        assert self.data.groups is not None
        self.groups = self.data.groups
        self.liquid = np.char.startswith(self.groups.astype(str), "liquid")
        inside = np.zeros(len(self.groups), dtype=bool)
        for name in np.unique(self.groups):
            own = self.rng.permutation(np.flatnonzero(self.groups == name))
            inside[own[: round(0.75 * len(own))]] = True
        self.training, self.test = np.flatnonzero(inside), np.flatnonzero(~inside)

    def part(self, configurations: Integers) -> tuple[Doubles, Integers]:
        """Descriptors of the atoms of some configurations, and which of these each belongs to."""
        starts, sizes = self.data.starts, self.data.sizes[configurations]
        atoms = np.concatenate([np.arange(starts[c], starts[c + 1]) for c in configurations.tolist()])
        return self.rows[atoms], np.repeat(np.arange(len(sizes)), sizes)


@cache
def iron_table() -> FitTable:
    """Rows of potentials of iron: power spectra, products of 16 components, and a screened repulsion."""
    data, _ = described("fe")
    assert data.energies is not None
    say("rows of the potentials")
    basis = fit_basis(data.frames, usual_descriptor(("Fe",)), 16, Repulsion())
    return make_table(data.frames, data.energies, data.forces, basis)


def force_errors(iron: Iron, training: Integers, test: Integers) -> tuple[float, float]:
    """Errors of a fit: root mean square of all forces in eV/Å, and the geometric mean over groups."""
    table = iron_table()
    forces = table.residuals(table.fit(training))[1]
    assert forces is not None
    test = test[table.above[test] < 2.0]
    squares = np.add.reduceat((forces**2).mean(axis=1), table.starts[:-1])[test]
    sizes, names = table.sizes[test], iron.groups[test]
    roots = [np.sqrt(squares[names == name].sum() / sizes[names == name].sum()) for name in np.unique(names)]
    return float(np.sqrt(squares.sum() / sizes.sum())), float(
        np.exp(np.mean(np.log(np.maximum(roots, 0.01))))
    )


def liquids(seeds: int) -> None:
    """Print how well the distance to a set without liquids finds liquids."""
    results = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        iron = Iron(seed)
        rows, of = iron.part(iron.training[~iron.liquid[iron.training]])
        others, other_of = iron.part(iron.test)
        found, truth = coverage(rows, others, of), iron.liquid[iron.test][other_of]
        auc = roc_auc_score(truth, found.distances)
        results.append((auc, found.beyond[truth].mean(), found.beyond[~truth].mean()))
    low, mean = np.min(results, axis=0), np.mean(results, axis=0)
    say(
        f"fe: AUC {mean[0]:.4f} (lowest {low[0]:.4f}); beyond the spacing are {mean[1]:.0%} of the atoms of "
        f"liquids and {mean[2]:.1%} of the others"
    )


def suggestions(seeds: int) -> None:
    """Print errors of forces of liquids before and after ten configurations are added."""
    results = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        iron = Iron(seed)
        solid = iron.rng.permutation(iron.training[~iron.liquid[iron.training]])
        start, rest = solid[: len(solid) // 2], solid[len(solid) // 2 :]
        withheld = iron.training[iron.liquid[iron.training]]
        pool, test = np.concatenate([rest, withheld]), iron.test[iron.liquid[iron.test]]
        chosen = suggest(iron.part(start)[0], *iron.part(pool), 10)
        picked = pool[chosen.configurations]
        sets = [start[:0], picked, iron.rng.choice(pool, 10, replace=False), withheld]
        before, after, random, best = (
            force_errors(iron, np.concatenate([start, more]), test)[0] for more in sets
        )
        closed = (before - after) / (before - best), (before - random) / (before - best)
        results.append((before, after, random, best, *closed, chosen.closed))
        say(
            f"fe, seed {seed}: {before:.3f} eV/Å before, {after:.3f} after ten suggestions "
            f"({np.count_nonzero(iron.liquid[picked])} liquids), {random:.3f} after ten at random, "
            f"{best:.3f} with all {len(withheld)} liquids; closed {closed[0]:.0%}, at random "
            f"{closed[1]:.0%}; gap of coverage closed {chosen.closed:.0%}"
        )
    mean, low = np.mean(results, axis=0), np.min(results, axis=0)
    say(f"fe: closed {mean[4]:.0%} on average (lowest {low[4]:.0%}), at random {mean[5]:.0%}")


def spearman(seeds: int) -> None:
    """Print rank correlations between coverage scores of random subsets and the errors of their fits."""
    results = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        iron = Iron(seed)
        target = iron.part(iron.training)[0]
        projection = usual_projection(iron.rows, iron.rows[:0])
        scores, errors = [], []
        for _ in range(N_SUBSETS):
            order = iron.rng.permutation(iron.training)
            budget = SUBSET * iron.data.sizes[iron.training].sum()
            subset = order[: np.searchsorted(np.cumsum(iron.data.sizes[order]), budget)]
            rows, of = iron.part(subset)
            scores.append(coverage(rows, target, of, projection=projection).score)
            errors.append(force_errors(iron, subset, iron.test))
        ranks = [float(spearmanr(scores, column)[0]) for column in np.transpose(errors)]
        results.append(ranks)
        say(f"fe, seed {seed}: Spearman {ranks[0]:.2f} with the pooled error, {ranks[1]:.2f} with geometric")
    mean, low = np.mean(results, axis=0), np.min(results, axis=0)
    say(f"fe: pooled {mean[0]:.2f} (lowest {low[0]:.2f}), geometric {mean[1]:.2f} (lowest {low[1]:.2f})")


PARTS = {"outliers": outliers, "liquids": liquids, "suggest": suggestions, "spearman": spearman}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    PARTS[chosen.part](chosen.seeds)


if __name__ == "__main__":
    main()
