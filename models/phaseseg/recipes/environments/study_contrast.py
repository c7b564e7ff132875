"""Does a network trained by contrast make better clusters than the same graph without it? On fresh splits.

    python -m phaseseg.recipes.environments.study_contrast [--sets ta fe] [--splits 5] [--nets FOLDER]

With `--nets`, `study-contrast.json` is written there for the step `cards`.

Configurations are divided in two halves within their groups. The embedding (`fit.train_contrast`) is trained
on one half, without groups. The clusters of the atoms of the other half are compared with its groups.

`threshold`: connected components below a distance. It is the one that is best for the groups of the training
half; for embeddings, of the quarters that a network of the other quarter has not seen. `mixture`,
`communities` and `tree` have their defaults, are fitted on the training half and assign the atoms of the
other. Atoms without a cluster count as clusters of their own. `raw` are descriptors with columns of norm 1,
as in MEAGraph; `components` are the ten principal components that the embedding reads.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.clusters import cluster
from phaseseg.families.environments.contrast import Contrast
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.fit import COMPONENTS, train_contrast
from phaseseg.families.environments.projection import fit_projection
from phaseseg.families.environments.spanning import merge_duplicates, spanning_tree
from phaseseg.recipes.cards import put_text, say
from phaseseg.recipes.environments.sets import read_set, sample_by_group, tags_of
from phaseseg.recipes.environments.study_meagraph import PER_TAG, filled, scores

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Space = Callable[[Doubles], Doubles]

STEPS = np.geomspace(1e-3, 1, 60)
"""Thresholds that are tried, in the root mean square distance from the mean."""
SMOOTH = 5
"""The best threshold is that of the mean over as many neighbors on the grid, which is less noisy."""
METHODS = ("mixture", "communities", "tree")


def cuts(points: Doubles, unit: float) -> list[Integers]:
    """Clusters at every threshold."""
    merged = merge_duplicates(points, 1e-9)
    tree = spanning_tree(merged.points)
    return [tree.cut(step * unit)[merged.members] for step in STEPS]


def width(points: Doubles) -> float:
    """Root mean square distance from the mean."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def agreements(points: Doubles, unit: float, tags: Integers) -> Doubles:
    """Adjusted Rand index at every threshold."""
    return np.array([scores(tags, labels)["ARI"] for labels in cuts(points, unit)])


def best_of(curve: Doubles) -> int:
    """Place of the largest smoothed value."""
    padded = np.pad(curve, SMOOTH // 2, mode="edge")
    return int(np.argmax(np.convolve(padded, np.ones(SMOOTH) / SMOOTH, mode="valid")))


def raw_space(rows: Doubles) -> Space:
    """Columns of norm 1, times the square root of the number of rows."""
    norms = np.sqrt((rows**2).mean(axis=0))
    return lambda values: values / np.where(norms > 0, norms, 1.0)


def component_space(rows: Doubles) -> Space:
    """Principal components of compressed features."""
    return fit_projection(rows, COMPONENTS)


def embedded_space(rows: Doubles, of: Integers, seed: int) -> Space:
    """The embedding of a network trained on the rows."""
    return Contrast.of(train_contrast(rows, of, seed=seed))


def threshold_place(
    rows: Doubles, of: Integers, tags: Integers, space: Space, make: Callable[..., Space] | None, seed: int
) -> int:
    """The threshold for the training half; with `make`, by networks that have not seen the atoms."""
    if make is None:
        return best_of(agreements(space(rows), width(space(rows)), tags))
    names = np.random.default_rng(seed).permutation(np.unique(of))
    quarter = np.isin(of, names[: len(names) // 2])
    total = np.zeros(len(STEPS))
    for own in (quarter, ~quarter):
        inner = make(rows[own], of[own], seed)
        total += agreements(inner(rows[~own]), width(inner(rows[own])), tags[~own])
    return best_of(total)


def halves(groups: NDArray[np.str_], of: Integers, seed: int) -> NDArray[np.bool_]:
    """(n_atoms,) whether an atom is in the training half."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        own = rng.permutation(np.flatnonzero(groups == group))
        chosen[own[: len(own) // 2]] = True
    return chosen[of]


def measured(
    rows: Doubles, of: Integers, tags: Integers, own: NDArray[np.bool_], seed: int
) -> dict[str, Doubles]:
    """ARI, NMI, number of clusters and share of isolated atoms of every method on the other half."""
    train, test = rows[own], rows[~own]
    found: dict[str, Doubles] = {}
    spaces: dict[str, tuple[Space, Callable[..., Space] | None]] = {
        "raw": (raw_space(train), None),
        "components": (component_space(train), None),
        "embedding": (embedded_space(train, of[own], seed), embedded_space),
    }
    for name, (space, make) in spaces.items():
        place = threshold_place(train, of[own], tags[own], space, make, seed)
        labels = cuts(space(test), width(space(train)))[place]
        alone = np.bincount(labels)[labels] == 1
        found[f"{name}, threshold"] = np.array(list(scores(tags[~own], np.where(alone, -1, labels)).values()))
    embedding = spaces["embedding"][0]
    for method in METHODS:
        for name, function in (("components", partial(np.asarray)), ("embedding", embedding)):
            clusters = cluster(function(train), method, compress=name == "components", seed=seed)
            labels = clusters.assign(function(test))
            values = scores(tags[~own], labels) | {"clusters": len(np.unique(filled(labels[labels >= 0])))}
            found[f"{name}, {method}"] = np.array(list(values.values()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=["ta", "fe"], default=["ta", "fe"])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=100, help="seed of the first split")
    parser.add_argument("--nets", type=Path, help="folder for study-contrast.json")
    chosen = parser.parse_args()
    table: list[dict[str, Any]] = []
    for name in chosen.sets:
        data = read_set(name)
        assert data.groups is not None
        atoms = np.arange(data.n_atoms) if name == "ta" else sample_by_group(data, PER_TAG)
        rows = data.features(PowerSpectrum((name.capitalize(),)))[atoms]
        of, tags = data.configurations[atoms], tags_of(data)[atoms]
        say(f"{name}: {len(rows):,} atoms")
        found = []
        for seed in range(chosen.first, chosen.first + chosen.splits):
            found.append(measured(rows, of, tags, halves(data.groups, of, seed), seed))
            say(f"split {seed}: " + ", ".join(f"{key} {v[0]:.3f}" for key, v in found[-1].items()))
        for key in found[0]:
            values = np.array([one[key] for one in found])
            space, method = key.split(", ")
            about = {"set": name.capitalize(), "atoms": len(rows), "space": space, "method": method}
            table.extend(
                {**about, "split": k, "ARI": v[0], "NMI": v[1]} for k, v in enumerate(values.tolist())
            )
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=min(len(values) - 1, 1))
            say(
                f"  {key:24s} ARI {mean[0]:.3f} ± {spread[0]:.3f}  NMI {mean[1]:.3f} ± {spread[1]:.3f}  "
                f"{mean[2]:.0f} clusters, {mean[3]:.1%} isolated"
            )
    if chosen.nets is not None:
        put_text(chosen.nets / "study-contrast.json", json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
