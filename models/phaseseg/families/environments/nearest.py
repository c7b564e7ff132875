"""Exact nearest neighbors in descriptor space, at most one of each label, such as the configuration."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.simd import WIDTH as LANES
from phaseseg.compiled.threads import for_each, parts_of
from phaseseg.families.environments.nearest_kernels import (
    GROUP,
    WIDTH,
    build,
    fill_leaves,
    search,
    uniform_labels,
)  # fmt: skip
from phaseseg.families.environments.scan_kernels import BLOCK, GROUP as SCANNED, fill_blocks, scan
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

LARGEST = 1e18
"""Squares of distances must be numbers in float32."""
PRECISION = 4e-7
"""Error of a distance in float32, next to the largest coordinate times the root of the dimensions."""
BATCH = 20_000
"""Queries between two calls of `progress`."""
FEW_DIMENSIONS = 12
"""In more dimensions a tree excludes little, and blocks of points are compared with many queries at once."""


class _Tree(NamedTuple):
    values: Doubles
    order: Integers
    children: Integers
    boxes: Doubles
    outer: NDArray[np.float32]
    leaves: NDArray[np.float32]


class Index:
    """A k-d tree of points (n, d) for searches of nearest points, exact in float64.

    Points are compared in float32; what may be near enough is computed again in float64. Building takes
    N log N. A search takes about log N for each query in few dimensions. In more than `FEW_DIMENSIONS`, it
    takes up to N, but products with many queries at once make it two to four times faster than the tree.

    Raises
    ------
    ValueError
        For anything but a finite array (n, d) with n >= 1 and d >= 1.

    >>> index = Index([[0.0], [1.0], [1.5], [9.0]])
    >>> index.search(1)[0].ravel().tolist()
    [1, 2, 1, 2]
    >>> index.search(1, labels=[0, 1, 1, 1])[0].ravel().tolist()
    [1, 0, 0, 0]
    """

    def __init__(self, points: ArrayLike) -> None:
        values = checked_points(points)
        if not len(values):
            raise ValueError("a search needs at least one point.")
        order, children, boxes = _built(values)
        leaves = np.empty((-(-len(values) // WIDTH), values.shape[1], WIDTH), dtype=np.float32)
        fill_leaves(values, order, leaves)
        self.tree = _Tree(values, order, children, boxes, _outer(boxes), leaves)
        self._largest = float(np.abs(values).max())
        if self._largest > LARGEST:
            raise ValueError(f"coordinates must be below {LARGEST:g}, found {self._largest:g}.")

    @property
    def n_points(self) -> int:
        return len(self.tree.values)

    def uniform(self, labels: Integers) -> Integers:
        """Return the label of every node of the tree under which all points have one, and -1 elsewhere."""
        out = np.empty(len(self.tree.children), dtype=np.int64)
        uniform_labels(labels, self.tree.order, self.tree.children, out)
        return out

    def slack(self, queries: Doubles) -> float:
        """Return a bound on the errors of distances in float32."""
        largest = max(self._largest, float(np.abs(queries).max(initial=0.0)))
        return PRECISION * float(np.sqrt(queries.shape[1])) * largest

    def search(
        self, k: int, labels: ArrayLike | None = None, *, queries: ArrayLike | None = None,
        own: ArrayLike | None = None, progress: Progress | None = None,
    ) -> tuple[Integers, Doubles]:  # fmt: skip
        """Return the nearest points of k different labels, none of which is that of the query.

        Parameters
        ----------
        k : number of labels
        labels : (n_points,) integers from 0 on; None for a label for each point, which gives its neighbors
        queries : (n_queries, d); None for the points themselves, with their labels
        own : (n_queries,) labels of the queries, -1 for none; None if no query has one
        progress : called with the completed fraction and a line; may raise to stop

        Returns
        -------
        (n_queries, k) int64 numbers of the points, the nearest first, -1 where there are fewer labels, and
        their distances, infinite there

        Raises
        ------
        ValueError
            For arrays that do not fit each other, or k below 1.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"the number of neighbors must be a whole number from 1 on, found {k!r}.")
        mine = np.arange(self.n_points) if labels is None else checked_labels(labels, self.n_points, "point")
        values = self.tree.values
        if queries is None:
            asked, sequence, from_ = values, self.tree.order, mine
        else:
            asked = checked_points(queries)
            if asked.shape[1] != values.shape[1]:
                raise ValueError(
                    f"the points have {values.shape[1]} dimensions, the queries {asked.shape[1]}."
                )
            sequence = np.arange(len(asked))
            from_ = (
                np.full(len(asked), -1)
                if own is None
                else checked_labels(own, len(asked), "query", lowest=-1)
            )
        found = np.full((len(asked), k), -1, dtype=np.int64)
        squares = np.full((len(asked), k), np.inf)
        slack = self.slack(asked)
        # Squares of all distances must be numbers in float32.
        if values.shape[1] > FEW_DIMENSIONS and slack < PRECISION * LARGEST:
            among: tuple[Any, ...] = values, self.tree.order, mine, *self._blocks
            kernel, size = scan, SCANNED
        else:
            among = self.tree, mine, self.uniform(mine), slack
            kernel, size = search, GROUP
        for first in range(0, len(asked), BATCH):
            if progress is not None:
                progress(first / len(asked), "searching nearest environments")
            batch = sequence[first : first + BATCH]
            if queries is not None and self.n_points > WIDTH:  # near ones after each other
                batch = batch[_built(asked[batch])[0]]
            parts = [batch[size * a : size * b] for a, b in parts_of(-(-len(batch) // size), 6)]
            for_each(lambda part: kernel(asked, from_, part, *among, found, squares), parts)
        return found, np.sqrt(squares)

    @cached_property
    def _blocks(self) -> tuple[Doubles, NDArray[np.float32], NDArray[np.float32]]:
        """Boxes, coordinates and halves of squares, as `fill_blocks` makes them."""
        n, d = self.tree.values.shape
        n_blocks = -(-n // BLOCK)
        boxes, halves = np.empty((n_blocks, 2, d)), np.empty((n_blocks, BLOCK), dtype=np.float32)
        blocks = np.empty((n_blocks, d, BLOCK), dtype=np.float32)
        fill_blocks(self.tree.values, self.tree.order, boxes, blocks, halves)
        return boxes, blocks, halves


def _built(values: Doubles) -> tuple[Integers, Integers, Doubles]:
    """Order, children and boxes of a tree, see `build`."""
    (n, d), n_nodes = values.shape, 2 * -(-len(values) // WIDTH) - 1
    order, children = np.arange(n), np.empty((n_nodes, 2), dtype=np.int64)
    boxes = np.empty((n_nodes, 2, d))
    build(values, order, children, boxes)
    return order, children, boxes


def _outer(boxes: Doubles) -> NDArray[np.float32]:
    """(n_nodes, 2, width) boxes rounded outward, on as many axes as lanes take; the others are unbounded."""
    n, _, d = boxes.shape
    width = -(-d // LANES) * LANES
    found = np.empty((n, 2, width), dtype=np.float32)
    for side, far in enumerate((-np.inf, np.inf)):
        found[:, side] = far
        found[:, side, :d] = np.nextafter(boxes[:, side].astype(np.float32), np.float32(far))
    return found


def checked_points(points: ArrayLike) -> Doubles:
    """Return points as contiguous (n, d) float64; ValueError if they are none, or not finite."""
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"points must be an array of rows of the same length, found {values.shape}.")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"point {row} is not finite; remove it or check its descriptor.")
    return np.ascontiguousarray(values)


def checked_labels(labels: ArrayLike, n: int, what: str, *, lowest: int = 0) -> Integers:
    """Return labels as (n,) int64; ValueError unless there is one from 0 on for each."""
    values = np.asarray(labels)
    if values.shape != (n,) or (n and (values.dtype.kind not in "iu" or values.min() < lowest)):
        raise ValueError(
            f"labels must be a whole number from {lowest} on for each {what} ({n}), found {values.dtype} "
            f"{values.shape}."
        )
    return np.ascontiguousarray(values, dtype=np.int64)
