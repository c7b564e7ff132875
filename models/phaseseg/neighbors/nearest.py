"""The k nearest neighbors of every atom."""

from __future__ import annotations

from math import ceil, inf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.products import product
from phaseseg.compiled.simd import WIDTH, bits_at_most, list_bits, load, splat, store
from phaseseg.compiled.threads import for_each, in_parts
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import (
    SPARE,
    Bins,
    Extent,
    bin_at,
    bins_of_shape,
    count_around,
    extent_of,
    hits_within,
    image_of,
    images_of,
    pack_all_around,
    room_for,
    side_by_side,
)

# Lengths (Å or σ) that differ by less from one to the next are equal: rounding must not choose between
# neighbors of a lattice. Equal lengths are looked for up to the second number beyond the k-th.
TIE, WIDEST_TIE = 1e-9, 1e-7
# Lengths that differ by rounding alone differ by less than this, unless atoms are far from the origin.
ROUNDING = 1e-12
# Least thickness of a periodic cell, in usual distances of the atoms across it.
THINNEST = 3e-5
# Atoms per bin: at least the first number, and the second for each of the k neighbors.
ATOMS_PER_FINE_BIN, ATOMS_PER_NEIGHBOR = 6.0, 0.5
# Groups of atoms are far apart from this many usual distances of the k-th neighbor on, by a sample of atoms.
WIDE_GAP, SAMPLE = 4, 9
# Float32 places atoms in bins that are wider, in cells, too badly to tell their images.
WIDEST_BIN = 1e5
# Edge of a bin in thicknesses of the cell; a wider one is mostly empty space along an open axis.
WIDEST_SEARCH = 30
# Bins that hold on average this many times the wanted number of atoms are made smaller, down to a limit.
CROWDED, MOST_BINS_PER_ATOM = 4, 8
# Neighbors are first looked for among squares up to this factor times the usual one of the k-th neighbor, and
# sorted if there are no more than this many.
WIDER, MOST_HITS = 1.5, 48
# Squares beyond those of all atoms, and beyond these, those of padding and of the atom itself.
NOT_FOUND, NOWHERE = np.float32(1e30), np.float32(1e36)


class NearestNeighbors(NamedTuple):
    """The k nearest neighbors of n atoms, nearest first.

    neighbors : (n, k) int32 atom numbers
    lengths : (n, k) float32, Å (σ in reduced units)
    shifts : (n, k, 3) int32; neighbor m of atom i is at positions[neighbors[i, m]] + shifts[i, m] @ cell
    """

    neighbors: NDArray[np.int32]
    lengths: NDArray[np.float32]
    shifts: NDArray[np.int32]


def nearest_neighbors(
    frame: Frame, k: int, *, dimensions: int | None = None, of: NDArray[np.bool_] | None = None
) -> NearestNeighbors:
    """The k nearest neighbors of every atom; each image counts separately, images of the atom itself too.

    Neighbors are sorted by their lengths in float64; of those that are equally far (within 1e-9 Å from one
    to the next) the lower number comes first, then the lower shift along the reduced cell. Any cell:
    triclinic, open along some axes, smaller than the distances in question; atoms anywhere, also on top of
    each other. Linear in the number of atoms where they fill the cell about evenly, also in groups that are
    far apart.

    Parameters
    ----------
    k : number of neighbors
    dimensions : 2 treats the third axis as open, 3 follows `frame.pbc`; None takes `frame.n_dimensions`
    of : (n_atoms,) bool, the atoms that get a row, in their order; None: all. Neighbors are any atoms.

    Raises
    ------
    ValueError
        k is not a positive whole number; dimensions is neither 2 nor 3; `of` is not one bool per atom; the
        cell has no thickness along a periodic axis (3e-5 of the usual distance of atoms across it); or
        nothing is periodic and there are fewer than k other atoms.

    >>> from phaseseg import Frame
    >>> chain = Frame([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0]], [9.0, 9.0, 9.0], False, ["A", "A", "B"])
    >>> nearest_neighbors(chain, 2).neighbors.tolist()
    [[1, 2], [0, 2], [1, 0]]
    """
    where = frame.error_prefix
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"{where}the number of neighbors must be a whole number from 1 on, found {k!r}.")
    if dimensions not in (None, 2, 3):
        raise ValueError(f"{where}dimensions must be 2 or 3, found {dimensions!r}.")
    pbc = frame.pbc.copy()
    pbc[2] &= (dimensions or frame.n_dimensions) == 3
    n_atoms = frame.n_atoms
    if n_atoms and not pbc.any() and k > n_atoms - 1:
        raise ValueError(
            f"{where}the {k} nearest neighbors were requested, but nothing is periodic and every atom has "
            f"only {n_atoms - 1} others; ask for fewer."
        )
    rows = np.arange(n_atoms, dtype=np.int32)
    n_rows = n_atoms
    if of is not None:
        asked = np.asarray(of)
        if asked.dtype != bool or asked.shape != (n_atoms,):
            raise ValueError(
                f"{where}of must be {n_atoms} booleans, one per atom, found {asked.dtype} {asked.shape}."
            )
        rows = np.where(asked, np.cumsum(asked, dtype=np.int32) - 1, -1).astype(np.int32)
        n_rows = int(np.count_nonzero(asked))
    neighbors, lengths = np.empty((n_rows, k), dtype=np.int32), np.empty((n_rows, k), dtype=np.float32)
    shifts = np.empty((n_rows, k, 3), dtype=np.int32)
    if n_rows:
        bins, side, gap = _fine_bins(frame.reduced, pbc, int(k))
        if pbc.any():
            # All k lie within the multiples of the shortest period: in a thin cell of few atoms a bin is much
            # larger, and holds millions of images.
            shortest = float(np.linalg.norm(frame.reduced.cell[pbc], axis=1).min())
            side = min(side, (k // 2 + 1) * shortest)
        places = borrow((n_atoms, 3), np.float64)
        in_parts(_take, n_atoms, bins.positions, bins.order, places, least=8192)
        largest = int(np.diff(bins.start).max())
        args = bins, places, largest, side, gap, int(k), rows, neighbors, lengths, shifts
        for_each(lambda part: _fill(*part, *args), bins.parts())
        for atom in np.flatnonzero((rows >= 0) & (neighbors[rows, 0] < 0)).tolist():
            row = rows[atom]
            neighbors[row], lengths[row] = _nearest_of_all(frame.positions, atom, int(k))
            shifts[row] = 0
    return NearestNeighbors(neighbors, lengths, images_of(frame, shifts))


def _nearest_of_all(
    positions: NDArray[np.float64], atom: int, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest of all other atoms and their distances, without images; ties as elsewhere."""
    r = np.linalg.norm(positions - positions[atom], axis=1)
    r[atom] = inf
    near = np.flatnonzero(r <= np.partition(r, k - 1)[k - 1] + WIDEST_TIE)
    near = near[np.argsort(r[near], kind="stable")]
    # Runs of distances that differ by no more than rounding are sorted by number.
    run = np.concatenate([[0], np.cumsum(np.diff(r[near]) > TIE)])
    near = near[np.lexsort((near, run))][:k]
    return near.astype(np.int32), r[near].astype(np.float32)


def _usual_distance(frame: Frame, extent: Extent, pbc: NDArray[np.bool_], k: int) -> float:
    """Å: a distance within which most atoms have their k nearest neighbors; with images, all atoms."""
    if pbc.any():
        return 2 * k * float(np.linalg.norm(frame.cell[pbc], axis=1).min())  # as far as own images
    some = extent.places[:: -(-frame.n_atoms // SAMPLE)]
    among = min(k, frame.n_atoms - 1)
    columns = np.ascontiguousarray(extent.places.T)

    def squared(place: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = (column - at for column, at in zip(columns, place, strict=True))
        return np.asarray(x * x + y * y + z * z)

    far = [np.partition(squared(place), among)[among] for place in some]
    return sqrt(float(np.median(far)) or max(far))  # several atoms may be in one place


def _balanced(heights: NDArray[np.float64], share: float) -> tuple[NDArray[np.float64], float, bool]:
    """Shape and edge, Å, of nearly cubic bins of that share of the volume, and whether there are several."""
    wide, side = heights > 0, 1.0
    while wide.any():
        side = float((heights[wide].prod() * share) ** (1 / np.count_nonzero(wide)))
        thin = wide & (heights < side)
        if not thin.any():
            break
        wide &= ~thin
    return np.where(wide, np.maximum(np.floor(heights / side), 1), 1.0), side, bool(wide.any())


def _check_thickness(frame: Frame, pbc: NDArray[np.bool_], heights: NDArray[np.float64]) -> None:
    """Raise ValueError for a periodic cell so thin that all neighbors would be images of the atom itself."""
    for axis in np.flatnonzero(pbc):
        across = np.delete(heights, axis)
        if heights[axis] < THINNEST * np.sqrt(across.prod() / frame.n_atoms):
            raise ValueError(
                f"{frame.error_prefix}the cell is {heights[axis]:.2g} {frame.length_unit} thick along a "
                "periodic axis, so the nearest neighbors of an atom are its own images. "
                "Check the cell and its units."
            )


def _fine_bins(frame: Frame, pbc: NDArray[np.bool_], k: int) -> tuple[Bins, float, float]:
    """Make nearly cubic bins for the k nearest neighbors; return them, their edge and the shortest gap, Å.

    Thin axes get one bin. The number of atoms in a bin is averaged over the atoms: a droplet in a large cell
    needs more bins than atoms. Groups of atoms that are far apart are put side by side where bins would
    be crowded.
    """
    extent = extent_of(frame, pbc)
    _check_thickness(frame, pbc, extent.heights)
    per_bin = wanted = max(ATOMS_PER_FINE_BIN, ATOMS_PER_NEIGHBOR * k)
    while True:
        shape, side, several = _balanced(extent.heights, per_bin / frame.n_atoms)
        bins = bins_of_shape(frame, pbc, extent, shape)
        # Averaged over atoms: each bin is weighted by its number of atoms.
        crowd = int((np.diff(bins.start) ** 2).sum()) / frame.n_atoms
        crowded = crowd > CROWDED * (wanted + 1)
        # The first search goes as far as the edge of a bin, over all images on its way.
        empty = (extent.span > WIDEST_BIN * shape).any() or side > WIDEST_SEARCH * extent.heights[pbc].min(
            initial=inf
        )
        if extent.gap == inf and not pbc.all() and (crowded or empty):
            usual = _usual_distance(frame, extent, pbc, k)
            extent = side_by_side(frame, pbc, extent, max(WIDE_GAP * usual, TIE))
            continue
        if not crowded or per_bin <= 1 / MOST_BINS_PER_ATOM or not several:
            return bins, side, extent.gap
        per_bin = max(per_bin * wanted / crowd, 1 / MOST_BINS_PER_ATOM)


@inner
def _covered(bins, reach, normals, heights, b, slot):
    """Distance from an atom, Å, up to which all others lie in the bins at most `reach` further."""
    cover = inf
    along = product(bins.offsets[0, slot], bins.offsets[1, slot], bins.offsets[2, slot], normals)
    for axis, u in enumerate(along):
        half = heights[axis] * (reach[axis] + 0.5)
        if bins.wrap[axis] or b[axis] > reach[axis]:
            cover = min(cover, half + u)
        if bins.wrap[axis] or b[axis] + reach[axis] < bins.shape[axis] - 1:
            cover = min(cover, half - u)
    return cover


@inner
def _k_smallest(near, n, k, best):
    """Fill `best` with the k smallest of n squares, whole registers."""
    r2, hits = near.r2, near.hits
    for m in range(k):
        best[m] = NOT_FOUND
    last = k - 1
    for first in range(0, n, WIDTH):
        found = list_bits(bits_at_most(load(r2, first), splat(best[last])), first, hits, 0)
        for h in range(found):
            value = r2[hits[h]]
            if value < best[last]:
                m = last
                while m > 0 and best[m - 1] > value:
                    best[m] = best[m - 1]
                    m -= 1
                best[m] = value


@inner
def _hits_sorted(near, c, n_hits, found):
    """Sort the hits except c by their squares into `found`; returns their number."""
    r2, n = near.r2, 0
    for h in range(n_hits):
        at = near.hits[h]
        if at == c:
            continue
        value, m = r2[at], n
        while m > 0 and r2[found[m - 1]] > value:
            found[m] = found[m - 1]
            m -= 1
        found[m] = at
        n += 1
    return n


@inner
def _measured(bins, places, near, slot, c, at):
    """Length, Å, number and image of a candidate."""
    there, home = near.slots[at], places[slot]
    dx, dy, dz = places[there, 0] - home[0], places[there, 1] - home[1], places[there, 2] - home[2]
    s0, s1, s2 = image_of(
        bins.inverse,
        near.x[at] - near.x[c] - dx, near.y[at] - near.y[c] - dy, near.z[at] - near.z[c] - dz,
    )  # fmt: skip
    ex, ey, ez = product(s0, s1, s2, bins.cell)
    dx, dy, dz = dx + ex, dy + ey, dz + ez
    return sqrt(dx * dx + dy * dy + dz * dz), bins.order[there], s0, s1, s2


@inner
def _choose(bins, places, near, slot, c, hits, n_hits, r, atoms, images):
    """The first r.size of some candidates, sorted by length in float64; ties as `nearest_neighbors` says.

    Returns whether the first are not certain, because lengths that are equal differ by more than rounding.
    """
    k, found, doubtful = r.size, 0, False
    for h in range(n_hits):
        length, j, s0, s1, s2 = _measured(bins, places, near, slot, c, hits[h])
        m = found
        while m > 0 and length <= r[m - 1] + TIE:
            if length >= r[m - 1] - TIE:
                doubtful |= abs(length - r[m - 1]) > ROUNDING
                last = images[m - 1]
                if not (j, s0, s1, s2) < (atoms[m - 1], last[0], last[1], last[2]):
                    break
            m -= 1
        if m == k:
            continue
        found = min(found + 1, k)
        for t in range(found - 1, m, -1):
            r[t], atoms[t] = r[t - 1], atoms[t - 1]
            for axis in range(3):
                images[t, axis] = images[t - 1, axis]
        r[m], atoms[m], images[m, 0], images[m, 1], images[m, 2] = length, j, s0, s1, s2
    return doubtful


@jit
def _settle(bins, places, near, slot, c, hits, n_hits, r, atoms, images):
    """As `_choose`, also where equal lengths differ by more than rounding; slower.

    Equal lengths form groups: from one to the next they differ by no more than a tie. So the order of the
    candidates does not matter.
    """
    k, found = r.size, 0
    for h in range(n_hits):  # the k least lengths
        length = _measured(bins, places, near, slot, c, hits[h])[0]
        m = found
        while m > 0 and length < r[m - 1]:
            m -= 1
        found = min(found + 1, k)
        for t in range(found - 1, m, -1):
            r[t] = r[t - 1]
        if m < k:
            r[m] = length
    most, grows = r[k - 1], True
    while grows:
        grows = False
        for h in range(n_hits):
            length = _measured(bins, places, near, slot, c, hits[h])[0]
            if most < length <= most + TIE:
                most, grows = length, True
    n_groups = 1
    groups, group_of = r.copy(), np.empty(k, dtype=np.int64)  # the least length of each group
    for m in range(1, k):
        if r[m] - r[m - 1] > TIE:
            groups[n_groups] = r[m]
            n_groups += 1
    found = 0
    for h in range(n_hits):
        length, j, s0, s1, s2 = _measured(bins, places, near, slot, c, hits[h])
        if length > most:
            continue
        group = n_groups - 1
        while length < groups[group]:
            group -= 1
        m = found
        while m > 0:
            last = images[m - 1]
            if (group_of[m - 1], atoms[m - 1], last[0], last[1], last[2]) < (group, j, s0, s1, s2):
                break
            m -= 1
        if m == k:
            continue
        found = min(found + 1, k)
        for t in range(found - 1, m, -1):
            r[t], atoms[t], group_of[t] = r[t - 1], atoms[t - 1], group_of[t - 1]
            for axis in range(3):
                images[t, axis] = images[t - 1, axis]
        r[m], atoms[m], images[m, 0], images[m, 1], images[m, 2] = length, j, s0, s1, s2
        group_of[m] = group


@jit
def _take(first, stop, positions, order, places):
    """The positions in the order of the bins, where neighbors are close in memory."""
    for slot in range(first, stop):
        for axis in range(3):
            places[slot, axis] = positions[order[slot], axis]


@jit
def _fill(first_bin, stop_bin, bins, places, largest, side, gap, k, rows, neighbors, lengths, shifts):
    """Write the k nearest of every atom i with rows[i] >= 0 into that row; -1 if farther than `gap`.

    places : (n_atoms, 3) float64, Å, positions in the order of the bins
    largest : number of atoms in the fullest bin
    side : Å, about the edge of a bin; the first search goes this far
    """
    normals, heights = bins.inverse.copy(), np.zeros(3)
    for axis in range(3):
        normals[:, axis] /= sqrt((bins.inverse[:, axis] ** 2).sum())
        heights[axis] = abs((bins.steps[axis] * normals[:, axis]).sum())
    eps = 1.2e-7
    size = 27 * largest + SPARE
    near = room_for(size)
    best, sorted_hits = np.empty(k, dtype=np.float32), np.empty(MOST_HITS, dtype=np.int32)
    r, atoms, images = np.empty(k), np.empty(k, dtype=np.int32), np.empty((k, 3), dtype=np.int32)
    usual = side * side
    reach, pending = np.zeros(3, dtype=np.int64), np.empty(largest, dtype=np.int64)
    for flat in range(first_bin, stop_bin):
        first, b, n_pending = bins.start[flat], bin_at(bins, flat), 0
        for slot in range(first, bins.start[flat + 1]):
            if rows[bins.order[slot]] >= 0:
                pending[n_pending] = slot
                n_pending += 1
        far = max(side, sqrt(usual))
        while n_pending:
            around = largest
            for axis in range(3):
                reach[axis] = ceil(far / heights[axis]) if heights[axis] > 0 else 0
                if not bins.wrap[axis]:
                    reach[axis] = min(reach[axis], bins.shape[axis] - 1)
                around *= 2 * reach[axis] + 1
            span = 0.0
            for axis in range(3):
                extent = 0.0
                for other in range(3):
                    extent += abs(bins.steps[other, axis]) * (reach[other] + 0.5)
                span = max(span, extent)
            if around + SPARE > size:
                around = count_around(bins, reach, flat)
            if around + SPARE > size:
                size = around + SPARE
                near = room_for(size)
            n, own = pack_all_around(bins, reach, flat, near)
            left, next_far = 0, 1.2 * far
            for p in range(n_pending):
                slot = pending[p]
                c = own + slot - first
                x0, y0, z0 = splat(near.x[c]), splat(near.y[c]), splat(near.z[c])
                # Only a few lie within the usual distance of the k-th neighbor.
                reached = np.float32(WIDER * usual)
                limit, n_hits = splat(reached), 0
                for at in range(0, n, WIDTH):
                    dx, dy, dz = load(near.x, at) - x0, load(near.y, at) - y0, load(near.z, at) - z0
                    d2 = dx * dx + dy * dy + dz * dz
                    store(near.r2, at, d2)
                    n_hits = list_bits(bits_at_most(d2, limit), at, near.hits, n_hits)
                few, hits = k < n_hits <= MOST_HITS, near.hits
                if few:
                    n_hits, hits = _hits_sorted(near, c, n_hits, sorted_hits), sorted_hits
                    most = near.r2[hits[k - 1]]
                else:
                    near.r2[c] = NOWHERE  # not a neighbor of itself
                    _k_smallest(near, n, k, best)
                    most = best[k - 1]
                cover = _covered(bins, reach, normals, heights, b, slot)
                length = sqrt(most)
                if most >= NOT_FOUND or length + 1e-5 * (length + side) > cover:
                    if cover >= gap:
                        neighbors[rows[bins.order[slot]], 0] = -1
                        continue
                    next_far = max(next_far, 2 * far if most >= NOT_FOUND else 1.001 * length)
                    pending[left] = slot
                    left += 1
                    continue
                if length > 0.99 * gap:
                    neighbors[rows[bins.order[slot]], 0] = -1
                    continue
                usual += 0.05 * (min(most, 2 * usual) - usual)
                # Includes all that float32 cannot distinguish from the k-th.
                doubt = eps * (8 * length * span + 4 * most + 16 * eps * span * span)
                bound = np.float32(most + doubt + WIDEST_TIE * (2 * length + WIDEST_TIE))
                if few and bound <= reached:
                    m = k
                    while m < n_hits and near.r2[hits[m]] <= bound:
                        m += 1
                else:
                    near.r2[c] = NOWHERE
                    m, hits = hits_within(near, n, bound), near.hits
                if _choose(bins, places, near, slot, c, hits, m, r, atoms, images):
                    _settle(bins, places, near, slot, c, hits, m, r, atoms, images)
                row = rows[bins.order[slot]]
                for m in range(k):
                    neighbors[row, m], lengths[row, m] = atoms[m], r[m]
                    for axis in range(3):
                        shifts[row, m, axis] = images[m, axis]
            n_pending, far = left, min(next_far, max(far, 1.01 * gap))
