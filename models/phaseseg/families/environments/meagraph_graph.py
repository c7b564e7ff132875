"""The graph of a data set in descriptor space: atoms are joined if their environments are similar.

Descriptors are divided by the Euclidean norms of their columns. With the distance d of two atoms, the
similarity is s = exp(-d), normalized to (s - least + ε) / (largest - least + ε) with ε = 1e-5. Atoms are
joined if it is above `low`, which is the same as d below a distance. Equal atoms are merged first and count
as weights, and no array of all pairs is ever made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.meagraph_kernels import count_pairs, fill_pairs, largest_distance
from phaseseg.families.environments.nearest import Index
from phaseseg.families.environments.projection import checked_rows
from phaseseg.families.environments.spanning import (
    Merged,
    SpanningTree,
    by_size,
    merge_duplicates,
    spanning_tree,
)
from phaseseg.families.environments.spanning_kernels import cut_labels

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

LOW = 0.89999
"""Atoms are joined above this normalized similarity, unless another bound is given."""
SMALLEST = 1e-5
"""ε of the normalized similarity."""
TOLERANCE = 1e-9
"""Descriptors are equal if they round to the same multiple of this, in root mean squares of a column."""
NOISE = 1e-12
"""A column whose norm is this small next to the largest is rounding noise, and counts as zero."""
MOST_PAIRS = 30_000_000
"""A graph with more pairs, which takes about 2 GB, keeps those of each atom to its nearest only."""
NEIGHBORS = 50
"""Nearest atoms that are kept then."""


class Scale:
    """Norms of columns and ranges, each by a name: measured when first asked for, and kept from then on.

    A new scale measures the set that it is used on ("batch"); one that was kept from a fit makes the result
    for an atom independent of what else is in the set ("fitted"), except for its neighbors.

    kept : (n_columns,) norms, and (2,) lowest and highest values

    >>> scale = Scale()
    >>> scale.columns("x", np.array([[3.0], [4.0]]), np.ones(2)).ravel().tolist()
    [0.6, 0.8]
    >>> scale.columns("x", np.array([[10.0]]), np.ones(1)).ravel().tolist()
    [2.0]
    """

    def __init__(self, kept: Mapping[str, ArrayLike] | None = None) -> None:
        self.kept = {name: np.array(values, dtype=np.float64) for name, values in (kept or {}).items()}

    def columns(self, name: str, values: Doubles, weights: Doubles) -> Doubles:
        """Return values (n, n_columns) divided by the norms of the columns; weights : (n,) of the rows."""
        if name not in self.kept:
            norms = np.sqrt(weights @ values**2)
            norms[norms <= NOISE * norms.max(initial=0.0)] = np.inf
            # Infinity is no number of JSON and of checkpoints: 0 stands for a column that is left out.
            self.kept[name] = np.where(np.isinf(norms), 0.0, norms)
        norms = self.kept[name]
        return np.asarray(values * np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 0.0))

    def range(self, name: str, low: float, high: float) -> tuple[float, float]:
        """Return the range that is kept under a name; this one if there is none yet."""
        found = self.kept.setdefault(name, np.array([low, high]))
        return float(found[0]), float(found[1])


@dataclass(frozen=True, eq=False)
class Points:
    """Distinct atoms of a set on the scale of the graph.

    merged : rows divided by the norms of the columns, turned to their principal axes; with members and counts
    inputs : (n_distinct, n_features) the same rows, not turned
    scale : norms, and the range of distances under "distance"
    """

    merged: Merged
    inputs: Doubles
    scale: Scale

    def distance(self, low: float) -> float:
        """Return the distance below which atoms are joined; 0 for equal atoms only."""
        near, far = self.scale.range("distance", 0.0, 0.0)
        least, largest = np.exp(-far), np.exp(-near)
        bound = low * (largest - least + SMALLEST) + least - SMALLEST
        return float(-np.log(max(bound, np.finfo(float).tiny)))

    def tree(self) -> SpanningTree:
        """Return the exact minimum spanning tree of the distinct atoms."""
        return spanning_tree(self.merged.points)


def distinct_points(rows: ArrayLike, scale: Scale | None = None) -> Points:
    """Merge equal atoms, and measure the scale of the graph unless one is given.

    rows : (n_atoms, n_features)

    Raises
    ------
    ValueError
        For fewer than two rows without a scale, rows that are not finite, or another number of features.
    """
    values = checked_rows(rows)
    scale = Scale() if scale is None else scale
    if len(values) < (1 if "features" in scale.kept else 2):
        raise ValueError(f"a graph needs at least two atoms, found {len(values)}.")
    if (kept := scale.kept.get("features")) is not None and len(kept) != values.shape[1]:
        raise ValueError(
            f"the network was made for {len(kept)} features, and the rows have {values.shape[1]}. Use the "
            "same descriptor with the same settings, or train a network on this set."
        )
    scaled = scale.columns("features", values, np.ones(len(values)))
    size = float(scale.range("atoms", len(values), len(values))[0])
    merged = merge_duplicates(scaled, TOLERANCE / np.sqrt(size))
    centered = merged.points - merged.points.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1]
    turned = merged._replace(points=np.ascontiguousarray(centered @ axes))
    if "distance" not in scale.kept:
        scale.range("distance", _least_distance(turned), _largest_distance(turned.points))
    return Points(turned, merged.points, scale)


def _least_distance(merged: Merged) -> float:
    if (merged.counts > 1).any() or len(merged.points) < 2:
        return 0.0
    return float(Index(merged.points).search(1)[1].min())


def _largest_distance(points: Doubles) -> float:
    radii = np.sqrt((points**2).sum(axis=1))
    order = np.argsort(-radii, kind="stable")
    return float(largest_distance(points[order], radii[order]))


# Raw threshold ------------------------------------------------------------------------------------


def threshold_labels(points: Points, low: float = LOW, tree: SpanningTree | None = None) -> Integers:
    """Return (n_atoms,) clusters of the graph itself, without a network; -1 for atoms without an edge.

    They are the components below a cut of the spanning tree, so one tree gives the clusters of every `low`.
    Labels are ordered by size.

    >>> rows = np.array([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1], [9, 9]])
    >>> threshold_labels(distinct_points(rows)).tolist()
    [0, 0, 1, 1, -1]
    """
    tree = points.tree() if tree is None else tree
    below = int(np.searchsorted(tree.lengths, points.distance(low)))
    return component_labels(points.merged, tree.edges[:below, 0], tree.edges[:below, 1])


def component_labels(merged: Merged, first: Integers, second: Integers) -> Integers:
    """Return (n_atoms,) connected components of pairs of distinct atoms, by size; -1 for single atoms."""
    edges = np.stack([first, second], axis=1).astype(np.int64)
    roots = cut_labels(len(merged.points), edges, len(edges))[merged.members]
    sizes = np.bincount(roots, minlength=len(merged.points))
    return by_size(np.where(sizes[roots] > 1, roots, -1))


# Graph --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes that have an edge, and their pairs.

    merged : all distinct atoms; nodes : (n_nodes,) which of them are nodes
    weights : (n_nodes,) float64, how many atoms each node stands for
    inputs : (n_nodes, n_features), divided by the norms of the columns
    first, second : (n_pairs,) int64 nodes; edges lead both ways. A node of several atoms also has edges
        between them, which are not listed
    """

    merged: Merged
    nodes: Integers
    weights: Doubles
    inputs: Doubles
    first: Integers
    second: Integers


def build_graph(points: Points, low: float = LOW, neighbors: int | None = None) -> Graph:
    """Return the graph of all pairs above a similarity.

    points : see `distinct_points`
    low : least normalized similarity
    neighbors : a number to keep only the pairs of each atom to its nearest, and those of the spanning tree,
        so that the components stay the same; None for all pairs, or 50 if they are more than `MOST_PAIRS`

    Raises
    ------
    ValueError
        For `low` outside of [0, 1), or no neighbors.
    """
    if not 0 <= low < 1:
        raise ValueError(f"low must be at least 0 and below 1, found {low}.")
    merged, distance = points.merged, points.distance(low)
    found = _all_pairs(merged.points, distance) if neighbors is None else None
    first, second = found or _nearest_pairs(points, distance, NEIGHBORS if neighbors is None else neighbors)
    joined = merged.counts > 1
    joined[first] = joined[second] = True
    nodes = np.flatnonzero(joined)
    place = np.full(len(joined), -1)
    place[nodes] = np.arange(len(nodes))
    weights = merged.counts[nodes].astype(float)
    inputs = points.scale.columns("nodes", points.inputs[nodes], weights)
    return Graph(merged, nodes, weights, inputs, place[first], place[second])


def _all_pairs(points: Doubles, distance: float) -> tuple[Integers, Integers] | None:
    """All pairs below a distance; None if they are more than `MOST_PAIRS`."""
    order = np.argsort(points[:, 0], kind="stable")
    ordered = np.ascontiguousarray(points[order])
    square = np.nextafter(distance, 0) ** 2
    if (n := int(count_pairs(ordered, square, MOST_PAIRS))) > MOST_PAIRS:
        return None
    first, second = np.empty((2, n), dtype=np.int64)
    fill_pairs(ordered, square, first, second)
    return order[first], order[second]


def _nearest_pairs(points: Points, distance: float, neighbors: int) -> tuple[Integers, Integers]:
    if neighbors < 1:
        raise ValueError(f"neighbors must be at least 1, found {neighbors}.")
    values = points.merged.points
    k = min(neighbors, len(values) - 1)
    near, lengths = Index(values).search(k) if k else (np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0)))
    tree = points.tree()
    center = np.repeat(np.arange(len(values)), k)
    pairs = np.concatenate([np.stack([center, near.ravel()], axis=1), tree.edges])
    lengths = np.concatenate([lengths.ravel(), tree.lengths])
    kept = np.sort(pairs[lengths < distance], axis=1)
    kept = np.unique(kept, axis=0)
    return kept[:, 0].copy(), kept[:, 1].copy()


def normalized_scores(scores: Doubles, scale: Scale, name: str, weights: Doubles) -> Doubles:
    """Return scores (n_pairs,) shifted and divided by their range; equal atoms have edges of score 1."""
    present = np.append(scores, 1.0) if (weights > 1).any() or not len(scores) else scores
    low, high = scale.range(name, float(present.min()), float(present.max()))
    return np.asarray((scores - low + SMALLEST) / (high - low + SMALLEST))
