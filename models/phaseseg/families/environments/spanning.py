"""Exact minimum spanning trees of points, and every single-linkage clustering that follows from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.nearest import Index, checked_points
from phaseseg.families.environments.spanning_kernels import (
    condense,
    cut_labels,
    find_roots,
    join,
    shortest_edges,
)  # fmt: skip
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

NEIGHBORS = 5
"""Neighbors of each point from which a tree starts; the result does not depend on it."""


class Merged(NamedTuple):
    """Points without duplicates.

    points : (n_distinct, d); members : (n_points,) row of each original point; counts : (n_distinct,)
    """

    points: Doubles
    members: Integers
    counts: Integers


def merge_duplicates(points: ArrayLike, tolerance: float = 0.0) -> Merged:
    """Merge equal points. Their order is lexicographic, so it does not depend on the order of the input.

    tolerance : coordinates are equal if they round to the same multiple of it; 0 for exact equality. The
        first of the points that are merged stands for all.

    Raises
    ------
    ValueError
        For anything but a finite array (n, d), or a negative tolerance.
    """
    values = checked_points(points)
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be zero or a positive number, found {tolerance}.")
    keys = np.rint(values / tolerance) if tolerance else values
    keys = keys + 0.0  # minus zero is zero
    _, first, members, counts = np.unique(
        keys, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    return Merged(values[first], members.reshape(-1).astype(np.int64), counts.astype(np.int64))


@dataclass(frozen=True, eq=False)
class SpanningTree:
    """A minimum spanning tree under the Euclidean distance.

    n_points : number of points
    edges : (n_points - 1, 2) int64, sorted by length; lengths : (n_points - 1,)
    """

    n_points: int
    edges: Integers
    lengths: Doubles

    def cut(self, distance: float) -> Integers:
        """Return (n_points,) labels of the connected components of all pairs within a distance (<=).

        Labels are ordered by size, then by the first point. Components of one point have labels, too.
        """
        labels = cut_labels(self.n_points, self.edges, int(np.searchsorted(self.lengths, distance, "right")))
        return by_size(labels)

    def condensed(self, smallest: int, weights: ArrayLike | None = None) -> CondensedTree:
        """Return the hierarchy of the clusters of at least `smallest` points (see `CondensedTree`).

        weights : (n_points,) how many original points each stands for; None for one each
        """
        if isinstance(smallest, bool) or not isinstance(smallest, (int, np.integer)) or smallest < 2:
            raise ValueError(f"a cluster has at least 2 points, found smallest={smallest!r}.")
        counts = np.ones(self.n_points) if weights is None else np.asarray(weights, dtype=np.float64)
        if counts.shape != (self.n_points,) or not (counts > 0).all():
            raise ValueError(f"weights must be {self.n_points} positive numbers, found {counts.shape}.")
        parents, born, died, sizes, stability, homes = condense(
            self.n_points, self.edges, self.lengths, counts, float(smallest)
        )
        return CondensedTree(parents, born, died, sizes, stability, homes)


@dataclass(frozen=True, eq=False)
class CondensedTree:
    """Clusters that a falling distance threshold splits off, each until it splits in two or dissolves.

    A split counts where both parts hold at least `smallest` points; other points fall off as noise.
    Cluster 0 holds everything. Parents have lower numbers than their children.

    parents : (n_clusters,) int64, -1 for the root; born, died : (n_clusters,) distances below which the
        cluster exists and at which it splits or has lost all but fewer than `smallest` points
    sizes : (n_clusters,) weight at birth
    stability : (n_clusters,) Σ over points of 1 / (distance at which it leaves) - 1 / born
    homes : (n_points,) the smallest cluster that holds each point

    References
    ----------
    Campello, Moulavi, Sander, PAKDD 2013, doi:10.1007/978-3-642-37456-2_14.
    """

    parents: Integers
    born: Doubles
    died: Doubles
    sizes: Doubles
    stability: Doubles
    homes: Integers

    @property
    def n_clusters(self) -> int:
        return len(self.parents)

    def leaves(self) -> Integers:
        """Return the clusters that do not split."""
        return np.setdiff1d(np.arange(self.n_clusters), self.parents)

    def stable(self) -> Integers:
        """Return the disjoint clusters of the largest total stability, without the root if it splits."""
        best, chosen = self.stability.copy(), np.ones(self.n_clusters, dtype=bool)
        below = np.zeros(self.n_clusters)
        split = np.zeros(self.n_clusters, dtype=bool)
        for c in range(self.n_clusters - 1, -1, -1):
            if split[c] and (below[c] > best[c] or c == 0):
                best[c], chosen[c] = below[c], False
            if c:
                below[self.parents[c]] += best[c]
                split[self.parents[c]] = True
        for c in range(1, self.n_clusters):  # nothing below a chosen cluster
            above = int(self.parents[c])
            if chosen[above]:
                chosen[c], chosen[above] = False, True
                self._drop(c, chosen)
        return np.flatnonzero(chosen)

    def _drop(self, c: int, chosen: NDArray[np.bool_]) -> None:
        under = np.zeros(self.n_clusters, dtype=bool)
        under[c] = True
        for d in range(c + 1, self.n_clusters):
            under[d] = under[self.parents[d]]
        chosen[under] = False

    def level(self, n_clusters: int) -> Integers:
        """Return disjoint clusters, the widest split first until there are that many or none can be split.

        The width of a cluster is the distance at which it splits.
        """
        children: dict[int, list[int]] = {}
        for c, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(c)
        current = [0]
        while True:
            able = [c for c in current if c in children]
            if not able or len(current) >= n_clusters:
                return np.sort(np.array(current, dtype=np.int64))
            widest = max(able, key=lambda c: (self.died[c], -c))
            current = [c for c in current if c != widest] + children[widest]

    def labels(self, clusters: ArrayLike) -> Integers:
        """Return (n_points,) the place in `clusters` of the cluster of each point; -1 for noise."""
        chosen = np.asarray(clusters, dtype=np.int64)
        place = np.full(self.n_clusters, -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        for c in range(1, self.n_clusters):
            if place[c] < 0:
                place[c] = place[self.parents[c]]
        return np.asarray(place[self.homes])


def spanning_tree(
    points: ArrayLike, n_neighbors: int = NEIGHBORS, *, progress: Progress | None = None
) -> SpanningTree:
    """Return an exact minimum spanning tree (of several, if distances are equal).

    Borůvka: each component but the largest gets its shortest edge to another one, until one is left. The
    nearest foreign point of a point is often among its neighbors. Points that see only their own component
    search again, unless they are farther from their last neighbor than the shortest edge found so far. Time
    grows as N log N in four dimensions. In ten, it grows as N^1.4 up to a million atoms of hot crystals, and
    as N log N only far beyond (decision 0021): the search for neighbors reaches more leaves of the tree the
    more there are. In many dimensions, time grows toward N^2.

    points : (n_points, d); merge duplicates first, or they crowd out other neighbors
    progress : called with the completed fraction (an estimate) and a line; may raise to stop

    Raises
    ------
    ValueError
        For anything but a finite array (n, d) with n >= 1, or fewer than one neighbor.

    References
    ----------
    March, Ram, Gray, KDD 2010, doi:10.1145/1835804.1835882.

    >>> spanning_tree([[0.0], [5.0], [1.0], [7.5]]).lengths.tolist()
    [1.0, 2.5, 4.0]
    """
    values = checked_points(points)
    n = len(values)
    if not n:
        raise ValueError("a spanning tree needs at least one point.")
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be 1 or more, found {n_neighbors}.")
    index = Index(values)
    report = progress or (lambda done, line: None)
    near, apart = index.search(
        min(n_neighbors, max(n - 1, 1)), progress=lambda f, line: report(0.8 * f, line)
    )
    squares = apart**2
    parents = np.arange(n)
    edges, found = np.empty((n - 1, 2), dtype=np.int64), 0
    while found < n - 1:
        report(0.8 + 0.2 * found / n, "joining components")
        best, ends = _shortest(index, find_roots(parents), near, squares)
        order = np.argsort(best, kind="stable")
        found = join(parents, ends[order], edges, found)
    lengths = np.sqrt(((values[edges[:, 0]] - values[edges[:, 1]]) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    return SpanningTree(n, edges[order], lengths[order])


def _shortest(index: Index, roots: Integers, near: Integers, squares: Doubles) -> tuple[Doubles, Integers]:
    """The shortest edge from each component but the largest to another: squared lengths and (n, 2) ends."""
    components, of = np.unique(roots, return_inverse=True)
    of = of.reshape(-1).astype(np.int64)
    largest = int(np.argmax(np.bincount(of)))
    best, ends = np.full(len(components), np.inf), np.empty((len(components), 2), dtype=np.int64)
    shortest_edges(
        index.tree, of, index.uniform(of), largest, near, squares, index.slack(index.tree.values), best, ends
    )
    wanted = np.arange(len(components)) != largest
    return best[wanted], ends[wanted]


def by_size(labels: NDArray[np.integer[Any]]) -> Integers:
    """Number labels anew: the largest is 0; of equal ones that which appears first. -1 stays."""
    found = np.full(len(labels), -1, dtype=np.int64)
    some = labels >= 0
    if some.any():
        _, first, inverse, counts = np.unique(
            labels[some], return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.lexsort((first, -counts))] = np.arange(len(counts))
        found[some] = rank[inverse.reshape(-1)]
    return found
