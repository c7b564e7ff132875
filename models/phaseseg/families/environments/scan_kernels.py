"""Compiled search in many dimensions: products of a few queries with blocks of points, in vectors of float32.

With q and p relative to the center of a block, |q - p|² = |q|² - 2 (q p - |p|² / 2), so near points have a
large "nearness" q p - |p|² / 2. What float32 cannot exclude is computed again in float64.
"""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.dense import TILE_ROWS, add_transposed
from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.simd import WIDTH as LANES, bits_at_most, greater, list_bits, load, splat, store
from phaseseg.families.environments.nearest_kernels import box_of, insert_hits

BLOCK = 64
"""Points of a block."""
GROUP = 8 * TILE_ROWS
"""Queries that are compared with a block at once; also a multiple of the lanes of a register."""
FAR = 1e38
"""Larger than half of any square, and a number in float32."""


@jit
def fill_blocks(points, order, boxes, blocks, halves):
    """Write the box (low, high) of each block of `order`, its points from the center, and half their squares.

    boxes : (n_blocks, 2, d); blocks : (n_blocks, d, BLOCK) float32; halves : (n_blocks, BLOCK) float32, `FAR`
    behind the last point
    """
    n, d = points.shape
    for b in range(len(blocks)):
        first, last = b * BLOCK, min((b + 1) * BLOCK, n)
        box_of(points, order[first:last], boxes[b])
        blocks[b] = np.float32(0)
        halves[b] = np.float32(FAR)
        for i in range(first, last):
            half = 0.0
            for axis in range(d):
                x = points[order[i], axis] - 0.5 * (boxes[b, 0, axis] + boxes[b, 1, axis])
                blocks[b, axis, i - first] = np.float32(x)
                half += 0.5 * x * x
            halves[b, i - first] = np.float32(half)


@inner
def box_to_box(a, b):
    """Squared distance of two boxes (low, high)."""
    total = 0.0
    for axis in range(a.shape[1]):
        off = max(a[0, axis] - b[1, axis], b[0, axis] - a[1, axis], 0.0)
        total += off * off
    return total


@inner
def _moved(queries, shift, x, squares):
    """x = queries - shift, for queries (d, GROUP) axis by axis; squares = their sums of squares."""
    for q in range(0, GROUP, LANES):
        sum_ = splat(np.float32(0))
        for axis in range(shift.size):
            off = load(queries, axis * GROUP + q) - splat(shift[axis])
            store(x, axis * GROUP + q, off)
            sum_ = sum_ + off * off
        store(squares, q, sum_)


@inner
def _bound(square, slack, own):
    """The least nearness of points whose square may be below one; own : |q|² in float32."""
    return np.float32(max(0.5 * (own - slack - square * (1 + 1e-6)), -0.5 * FAR))


@jit
def scan(queries, own, sequence, values, order, labels, boxes, blocks, halves, points, squares):
    """For every query the nearest points of k labels other than its own, sorted: points (n, k), squares.

    sequence : the order in which queries are answered; near ones after each other
    order : of the points in `boxes`, `blocks` and `halves`, see `fill_blocks`
    squares : what is found is below the last of a row
    """
    d, k, n_blocks = queries.shape[1], squares.shape[1], len(blocks)
    box, apart = np.empty((2, d)), np.empty(n_blocks)
    moved, x = np.zeros((d, GROUP), dtype=np.float32), np.empty((d, GROUP), dtype=np.float32)
    shift, lengths = np.empty(d, dtype=np.float32), np.empty(GROUP, dtype=np.float32)
    nearness = np.empty((GROUP, BLOCK), dtype=np.float32)
    hits = np.empty(BLOCK + 2 * LANES, dtype=np.int32)
    found = np.empty((GROUP, k), dtype=np.int64)
    for first in range(0, len(sequence), GROUP):
        group = sequence[first : first + GROUP]
        box_of(queries, group, box)
        center = 0.5 * (box[0] + box[1])
        reach = 0.5 * np.sqrt(((box[1] - box[0]) ** 2).sum())
        for row in range(len(group)):
            for axis in range(d):
                moved[axis, row] = np.float32(queries[group[row], axis] - center[axis])
        for b in range(n_blocks):
            apart[b] = box_to_box(box, boxes[b])
        found[:] = -2
        most = squares[group, k - 1].max()
        for b in np.argsort(apart):
            if apart[b] >= most:
                break
            far, wide = 0.0, 0.0
            for axis in range(d):
                middle = 0.5 * (boxes[b, 0, axis] + boxes[b, 1, axis]) - center[axis]
                shift[axis] = np.float32(middle)
                far += middle * middle
                wide += (0.5 * (boxes[b, 1, axis] - boxes[b, 0, axis])) ** 2
            # A bound on the errors of squares in float32: no number is longer than the sum of the three.
            slack = 5e-7 * (d + 8) * (reach + np.sqrt(far) + np.sqrt(wide)) ** 2
            _moved(moved, shift, x, lengths)
            _fill_nearness(x, blocks[b], halves, b, nearness)
            most = _take(
                queries, own, group, values, order, labels, b, slack, lengths, nearness, hits, found, squares,
                points,
            )  # fmt: skip


@inner
def _fill_nearness(x, block, halves, b, nearness):
    """nearness = x.T @ block - halves[b]."""
    for c in range(0, BLOCK, LANES):
        half = splat(np.float32(0)) - load(halves, b * BLOCK + c)
        for row in range(GROUP):
            store(nearness, row * BLOCK + c, half)
    add_transposed(x, 0, block, 0, len(x), nearness)


@inner
def _take(
    queries, own, group, values, order, labels, b, slack, lengths, nearness, hits, found, squares, points
):
    """Insert what is nearer among the points of a block; returns the largest square that is still open."""
    k, most = squares.shape[1], 0.0
    for row in range(len(group)):
        q, at = group[row], row * BLOCK
        bound = splat(_bound(squares[q, k - 1], slack, lengths[row]))
        best = load(nearness, at)
        for c in range(LANES, BLOCK, LANES):
            best = greater(best, load(nearness, at + c))
        if bits_at_most(bound, best):
            n = 0
            for c in range(0, BLOCK, LANES):
                n = list_bits(bits_at_most(bound, load(nearness, at + c)), np.int32(c), hits, n)
            insert_hits(
                queries[q], own[q], hits, n, b * BLOCK, values, order, labels, found[row], squares[q],
                points[q],
            )  # fmt: skip
        most = max(most, squares[q, k - 1])
    return most
