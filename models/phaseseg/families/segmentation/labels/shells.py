"""Volume of space by distance to the interface: what turns counts of atoms into densities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import COARSE, Lattice, PackedAtoms

# Longest edge of a block, Å.
LARGEST_BLOCK = 4.5
# Blocks in which the distance bends by more than this part of their edge are measured point by point.
LARGEST_BEND = np.float32(0.45)
# From this part of it on, there is a ridge nearby.
RIDGE = np.float32(0.4)
# Points drawn in each block, from a sequence of low discrepancy (Kronecker's, of the root of
# x^4 = x + 1) that starts somewhere else in each block; powers of 2.
POINTS, BENT_POINTS, SEQUENCE = 64, 8, 4096
# Blocks measured at once: their coordinates take a few ten megabytes.
BLOCKS_AT_ONCE = 1 << 17
_DRAWN = (np.arange(SEQUENCE + POINTS) * 1.2207440846057596 ** -np.arange(1.0, 4.0)[:, None]) % 1 - 0.5
_DRAWN = _DRAWN.astype(np.float32)


@inner
def _is_rich(values, cut, wrap, g0, g1, g2):
    """Whether the field, linear between grid points, reaches the cut at grid coordinates."""
    i, j, k = int(g0), int(g1), int(g2)
    p, q, r = g0 - i, g1 - j, g2 - k
    n0, n1, n2 = values.shape
    u = i + 1 if i + 1 < n0 else (0 if wrap[0] else i)
    v = j + 1 if j + 1 < n1 else (0 if wrap[1] else j)
    w = k + 1 if k + 1 < n2 else (0 if wrap[2] else k)
    low = (1 - q) * ((1 - r) * values[i, j, k] + r * values[i, j, w]) + q * (
        (1 - r) * values[i, v, k] + r * values[i, v, w]
    )
    high = (1 - q) * ((1 - r) * values[u, j, k] + r * values[u, j, w]) + q * (
        (1 - r) * values[u, v, k] + r * values[u, v, w]
    )
    return (1 - p) * low + p * high >= cut


@inner
def _bend(here, before, after, index, n, wrap, most):
    """Linear and quadratic change of the distance along an axis; only the linear one at an open end.

    Next to a ridge, one of the two slopes is across it, which makes that slope the smaller one.
    """
    flat = np.float32(0)
    if n == 1:
        return flat, flat
    if not wrap and (index == 0 or index == n - 1):
        return after - here if index == 0 else here - before, flat
    half = (after - 2 * here + before) / 2
    if most * RIDGE < abs(half) <= most:
        return after - here if abs(after - here) > abs(here - before) else here - before, flat
    return (after - before) / 2, half


@jit
def _fill(first_plane, stop_plane, signed, wrap, edges, per_length, drawn, bent, counts):
    """Count points drawn in every block by the distance there; `counts` has one bin more at each end.

    Blocks in which the distance bends too much are left out, and noted in `bent`.
    """
    m0, m1, m2 = signed.shape
    half, last = np.float32(counts.size // 2), np.float32(counts.size - 1)
    bins = np.empty(POINTS, dtype=np.int32)
    most0, most1, most2 = LARGEST_BEND * edges[0], LARGEST_BEND * edges[1], LARGEST_BEND * edges[2]
    block = np.uint32(first_plane * m1 * m2)
    for i in range(first_plane, stop_plane):
        for j in range(m1):
            for k in range(m2):
                d = signed[i, j, k]
                first = np.uint32(block * np.uint32(2654435761)) // np.uint32(2**32 // SEQUENCE)
                block += np.uint32(1)
                if d != d:  # there is no interface
                    continue
                a0, b0 = _bend(
                    d, signed[(i - 1) % m0, j, k], signed[(i + 1) % m0, j, k], i, m0, wrap[0], most0
                )
                a1, b1 = _bend(
                    d, signed[i, (j - 1) % m1, k], signed[i, (j + 1) % m1, k], j, m1, wrap[1], most1
                )
                a2, b2 = _bend(
                    d, signed[i, j, (k - 1) % m2], signed[i, j, (k + 1) % m2], k, m2, wrap[2], most2
                )
                if abs(b0) > most0 or abs(b1) > most1 or abs(b2) > most2:
                    bent[i, j, k] = True
                    continue
                for p in range(POINTS):
                    x, y, z = drawn[0, first + p], drawn[1, first + p], drawn[2, first + p]
                    there = d + x * (a0 + b0 * x) + y * (a1 + b1 * y) + z * (a2 + b2 * z)
                    place = np.floor(there * per_length) + half
                    # A distance that is not known anywhere near is NaN, which is no bin.
                    bins[p] = np.int32(min(max(place, np.float32(0)), last)) if place == place else 0
                for p in range(POINTS):
                    counts[bins[p]] += 1


@jit
def _sign(first, stop, values, cut, wrap, coords, distance):
    for n in range(first, stop):
        if not _is_rich(values, cut, wrap, coords[n, 0], coords[n, 1], coords[n, 2]):
            distance[n] = -distance[n]


def shell_volumes(
    interface: Interface, values: NDArray[np.float32], cut: float, lattice: Lattice, *, bin_width: float,
    n_bins: int,
) -> NDArray[np.float64]:  # fmt: skip
    """(n_bins,) volume, Å^3, of the space in each bin of the signed distance to the interface.

    The distance is measured at the centers of blocks, which are coarse cells or equal parts of them; inside
    of a block, its change is taken from the neighbors to second order. Half way between two surfaces, where
    the distance has a ridge, it is measured at some points of every block instead. Space outside of
    the grid does not count.

    values : (n_x, n_y, n_z) float32, the field that equals `cut` at the interface
    n_bins : even; the edge in the middle is the interface
    """
    none, end = np.empty(0, dtype=np.int32), n_bins // 2 * bin_width

    def signed_at(places: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float32]:
        coords = places.astype(np.float32)
        distance = interface.distance(PackedAtoms(start, none, none, coords), within=end)
        in_parts(_sign, len(distance), values, np.float32(cut), lattice.wrap, coords, distance)
        return distance

    cells, shape = lattice.cells, np.array(lattice.shape)
    lengths = np.linalg.norm(lattice.metric_steps, axis=1) * shape / cells
    split = min(int(np.ceil(lengths.max() / LARGEST_BLOCK)), COARSE)  # no smaller than voxels
    n_cells, in_cell, size = int(cells.prod()), split**3, shape / cells / split
    # Every batch looks at all cells, so that their number must not grow with that of the cells.
    at_once = max(BLOCKS_AT_ONCE // in_cell, n_cells // 16, 1)
    parts = np.indices((split, split, split)).reshape(3, -1).T + 0.5

    def centers(blocks: NDArray[np.int64]) -> NDArray[np.float64]:
        corners = np.stack(np.unravel_index(blocks // in_cell, tuple(cells.tolist())), axis=1)
        return (split * corners + parts[blocks % in_cell]) * size

    # Coordinates take ten times the memory of distances, so they exist for some cells at a time.
    distance = np.empty((n_cells, in_cell), dtype=np.float32)
    for first in range(0, n_cells, at_once):
        stop = min(first + at_once, n_cells)
        start = (np.clip(np.arange(n_cells + 1), first, stop) - first) * in_cell
        places = centers(np.arange(first * in_cell, stop * in_cell))
        distance[first:stop] = signed_at(places, start).reshape(-1, in_cell)
    # Blocks lie cell by cell; for their neighbors they are put in a grid.
    by_cell, order = (*cells.tolist(), split, split, split), (0, 3, 1, 4, 2, 5)
    signed = np.ascontiguousarray(distance.reshape(by_cell).transpose(order)).reshape(cells * split)
    del distance
    bent = np.zeros(signed.shape, dtype=bool)
    edges, per_length = (lengths / split).astype(np.float32), np.float32(1 / bin_width)

    def count(first: int, stop: int) -> NDArray[np.int64]:
        found = np.zeros(n_bins + 2, dtype=np.int64)
        _fill(first, stop, signed, lattice.wrap, edges, per_length, _DRAWN, bent, found)
        return found

    counts = np.sum(in_parts(count, len(signed), least=1), axis=0)
    left = np.zeros(by_cell, dtype=bool)
    left.transpose(order)[:] = bent.reshape(left.transpose(order).shape)
    left, drawn, total = left.reshape(n_cells, in_cell), 0, counts[1:-1].astype(np.float64)
    for first in range(0, n_cells, at_once):
        stop = min(first + at_once, n_cells)
        chosen = np.flatnonzero(left[first:stop]) + first * in_cell
        per_cell = np.zeros(n_cells, dtype=np.int64)
        per_cell[first:stop] = left[first:stop].sum(axis=1)
        offsets = _DRAWN.T[(BENT_POINTS * drawn + np.arange(BENT_POINTS * len(chosen))) % SEQUENCE] * size
        drawn += len(chosen)
        points = np.repeat(centers(chosen), BENT_POINTS, axis=0) + offsets
        there = signed_at(points, BENT_POINTS * np.concatenate(([0], np.cumsum(per_cell))))
        there = there[np.isfinite(there)]
        total += np.histogram(there, n_bins, (-end, end))[0] * (POINTS / BENT_POINTS)
    per_point = lattice.voxel_volume * float(shape.prod()) / (n_cells * in_cell * POINTS)
    return np.asarray(total * per_point)
