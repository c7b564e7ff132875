"""Measure clusters and selections of environments on the sets of tantalum and iron (see `sets`).

    python -m phaseseg.recipes.environments.study clusters [--seeds 3]
    python -m phaseseg.recipes.environments.study prune --set fe [--splits 5] [--products 24] [--slow]
    python -m phaseseg.recipes.environments.study audit --set ta [--seeds 5]

`prune` and `audit` are described in `study_fits`.

`clusters` compares the clusters of single atoms with the groups that their configurations were put into by
hand: adjusted Rand index (ARI) and normalized mutual information (NMI). Groups are not the truth: the atoms
of one configuration differ, and the groups overlap. Of iron, at most 900 atoms of each group are drawn.
The settings of the default method (scale, number of components, range of the criterion) were chosen with
these two sets in view, so the numbers describe the sets and are no prediction for others.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from phaseseg.families.environments.clusters import cluster
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.recipes.cards import say
from phaseseg.recipes.environments import study_fits
from phaseseg.recipes.environments.sets import read_set, sample_by_group, tags_of

SETS = {"ta": ("Ta", None), "fe": ("Fe", 900)}
"""Species, and the largest number of atoms of each group."""

METHODS: dict[str, dict[str, Any]] = {
    "mixture": {},
    "communities": {},
    "kmeans": {"n_clusters": 25},
    "tree": {"smallest": 20},
}


def rows_and_tags(name: str, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Descriptors at their defaults, and group numbers, of the atoms that clusters are compared on."""
    species, most = SETS[name]
    data = read_set(name)
    atoms = np.arange(len(data.configurations)) if most is None else sample_by_group(data, most, seed)
    return data.features(PowerSpectrum((species,)))[atoms], tags_of(data)[atoms]


def clusters(seeds: int) -> None:
    """Print ARI, NMI and number of clusters of every method, mean and range over seeds."""
    for name in SETS:
        rows, tags = rows_and_tags(name)
        say(f"{name}: {len(rows):,} atoms, {tags.max() + 1} groups")
        for method, options in METHODS.items():
            scores = []
            for seed in range(seeds if method != "tree" else 1):
                found = cluster(rows, method, seed=seed, **options)
                labels = found.assign(rows)
                ari = adjusted_rand_score(tags, labels)
                nmi = normalized_mutual_info_score(tags, labels)
                scores.append((ari, nmi, found.n_clusters, (labels < 0).mean()))
            low, mean, high = np.min(scores, axis=0), np.mean(scores, axis=0), np.max(scores, axis=0)
            say(
                f"  {method:8s} ARI {mean[0]:.3f} ({low[0]:.3f} to {high[0]:.3f})  NMI {mean[1]:.3f} "
                f"({low[1]:.3f} to {high[1]:.3f})  clusters {low[2]:.0f} to {high[2]:.0f}  "
                f"without a cluster {mean[3]:.1%}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["clusters", "prune", "audit"])
    parser.add_argument("--set", choices=["fe", "ta"], default="fe", help="of prune and audit")
    parser.add_argument("--seeds", type=int, default=3, help="of clusters and audit")
    parser.add_argument("--splits", type=int, default=5, help="of prune")
    parser.add_argument(
        "--products", type=int, default=study_fits.PRODUCTS, help="principal components multiplied in prune"
    )
    parser.add_argument("--slow", action="store_true", help="prune with all methods, not the quick ones only")
    chosen = parser.parse_args()
    if chosen.part == "clusters":
        clusters(chosen.seeds)
    elif chosen.part == "audit":
        study_fits.audit(chosen.set, chosen.seeds)
    else:
        study_fits.prune(chosen.set, chosen.splits, chosen.products, slow=chosen.slow)


if __name__ == "__main__":
    main()
