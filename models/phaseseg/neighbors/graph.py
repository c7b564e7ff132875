"""Neighbors within a cutoff, or the k nearest: atoms sorted by bins, and the graph of a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor, inf, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import bits_at_most, count_up, list_bits, load, splat, store
from phaseseg.frame import Frame

# Fewer atoms than so many to a bin cost more in bookkeeping than they save in distances.
ATOMS_PER_BIN = 8
# Two bins to a cutoff instead of one, where this makes a row of bins around a bin so much shorter.
FINER_BINS = 0.75
# Two lengths (Å or σ) closer than so are equal: rounding must not choose between neighbors of a lattice.
TIE = 1e-9
# Atoms to a bin where the k nearest are looked for: at least the first, and so many to each of the k.
ATOMS_PER_FINE_BIN, ATOMS_PER_NEIGHBOR = 6.0, 0.5
# Where bins around atoms hold so many times more than they should, they are made smaller.
CROWDED, MOST_BINS_PER_ATOM = 4, 8
# Where padding is put: further from any atom than any cutoff, and its square is still a float32.
FAR = np.float32(1e18)
# Neighbors are first looked for so much further than usual, by squares; more hits than so are not sorted.
WIDER, MOST_HITS = 1.5, 48
# Squares beyond those of all atoms, and beyond these, where the padding is.
NOT_FOUND, NOWHERE = np.float32(1e30), np.float32(1e36)


class Bins(NamedTuple):
    """Atoms sorted by bins, parallelepipeds that fill the cell (along open axes: the atoms' extent).

    Positions are kept relative to the center of their bin, so that float32 is as good in a box of
    10,000 Å as in one of 10 Å. All images within the cutoff of any atom of a bin are found in the bins
    at most `reach` further along each axis, counted on through the periodic images.

    kinds : atoms of a bin are sorted by their kind, 0 ... kinds - 1
    start : (n_bins * kinds + 1,) int64, CSR over the bins, the last axis fastest, and the kinds in each
    order : (n_atoms,) int32 atom numbers, bin by bin; a place in this order is called a slot
    offsets : (3, n_atoms + 16) float32, Å, from the center of the bin
    steps : (3, 3) float64, Å, edge vectors of a bin as rows
    shape, reach : (3,) int64; wrap : (3,) bool
    positions, cell, inverse : of the frame, float64, for what float32 cannot decide
    within : Å^2, square of the cutoff; doubt : Å^2, how far float32 may be off from it
    most : most candidates around a bin
    """

    kinds: int
    start: NDArray[np.int64]
    order: NDArray[np.int32]
    offsets: NDArray[np.float32]
    steps: NDArray[np.float64]
    shape: NDArray[np.int64]
    reach: NDArray[np.int64]
    wrap: NDArray[np.bool_]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    inverse: NDArray[np.float64]
    within: float
    doubt: float
    most: int


def sort_into_bins(
    frame: Frame, cutoff: float, codes: NDArray[np.integer[Any]] | None = None, kinds: int = 1
) -> Bins:
    """Bins for all pairs within `cutoff` (Å), atoms of each sorted by `codes`, 0 ... kinds - 1, if given.

    Raises
    ------
    ValueError
        The cutoff is not a positive number.
    """
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive length in Å, found {cutoff}.")
    inverse, low, span, heights = _extents(frame, frame.pbc)
    # One bin to a cutoff, or two.
    one, two = (np.maximum(np.floor(k * heights / cutoff * (1 - 1e-12)), 1) for k in (1, 2))
    shape = np.where(5 / two < FINER_BINS * 3 / one, two, one)
    while shape.prod() > max(frame.n_atoms / ATOMS_PER_BIN, 1):
        axis = int(np.argmin(heights / shape))
        if shape[axis] == 1:
            axis = int(np.argmax(shape))
        shape[axis] = max(np.floor(shape[axis] * 0.9), 1)
    reach = np.where(frame.pbc, np.inf, shape - 1)
    wide = heights > 0
    reach[wide] = np.minimum(reach[wide], np.ceil(cutoff * (1 - 1e-12) * shape[wide] / heights[wide]))
    bins = _sorted(frame, frame.pbc, inverse, low, span, shape, codes, kinds)
    bins = bins._replace(reach=reach.astype(np.int64), within=cutoff * cutoff)
    # Each of the two coordinates of a difference is rounded once or twice, and r^2 a few times.
    largest = float((np.abs(bins.steps) * (bins.reach + 0.5)[:, None]).sum(axis=0).max())
    doubt = float(np.finfo(np.float32).eps) * (8 * cutoff * largest + 4 * cutoff**2)
    return bins._replace(doubt=doubt, most=_most_candidates(bins))


def _extents(
    frame: Frame, pbc: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse of the cell; begin and length of what bins fill, in fractions; its heights, Å."""
    inverse = np.linalg.inv(frame.cell).astype(np.float64)
    low, span = np.zeros(3), np.ones(3)
    if frame.n_atoms and not pbc.all():
        ends = _extent(frame.positions, frame.origin, inverse)
        low, span = np.where(pbc, low, ends[0]), np.where(pbc, span, ends[1] - ends[0])
    return inverse, low, span, 1 / np.linalg.norm(inverse, axis=0) * span


def _sorted(
    frame: Frame, pbc: NDArray[np.bool_], inverse: NDArray[np.float64], low: NDArray[np.float64],
    span: NDArray[np.float64], shape: NDArray[np.float64], codes: NDArray[np.integer[Any]] | None = None,
    kinds: int = 1,
) -> Bins:  # fmt: skip
    """The atoms in bins of the given shape; `reach`, `within`, `doubt` and `most` are still to be set."""
    n_atoms = frame.n_atoms
    counts = shape.astype(np.int64)
    bins = Bins(
        kinds=kinds, start=np.zeros(counts.prod() * kinds + 1, dtype=np.int64),
        order=borrow(n_atoms, np.int32), offsets=borrow((3, n_atoms + 16), np.float32),
        steps=frame.cell * (span / shape)[:, None], shape=counts, reach=np.zeros(3, dtype=np.int64), wrap=pbc,
        positions=frame.positions, cell=frame.cell, inverse=inverse, within=0.0, doubt=0.0, most=0,
    )  # fmt: skip
    per = np.divide(shape, span, out=np.zeros(3), where=span > 0)
    codes = np.zeros(0, dtype=np.int32) if codes is None else np.asarray(codes, dtype=np.int32)
    _sort(bins, frame.origin, low, per, codes, borrow(n_atoms, np.int32))
    return bins


# Kernels ------------------------------------------------------------------------------------------


@jit
def _extent(positions, origin, inverse):
    """(2, 3): least and greatest fractional coordinates."""
    ends = np.empty((2, 3))
    ends[0], ends[1] = np.inf, -np.inf
    for atom in range(positions.shape[0]):
        x, y, z = (
            positions[atom, 0] - origin[0], positions[atom, 1] - origin[1], positions[atom, 2] - origin[2]
        )  # fmt: skip
        for axis in range(3):
            f = x * inverse[0, axis] + y * inverse[1, axis] + z * inverse[2, axis]
            ends[0, axis], ends[1, axis] = min(ends[0, axis], f), max(ends[1, axis], f)
    return ends


@jit
def _grid_coordinate(positions, atom, origin, inverse, axis, low, per, wrap):
    """Coordinate along an axis in bins, wrapped into [0, shape]."""
    f = (
        (positions[atom, 0] - origin[0]) * inverse[0, axis]
        + (positions[atom, 1] - origin[1]) * inverse[1, axis]
        + (positions[atom, 2] - origin[2]) * inverse[2, axis]
    )
    if wrap:
        f -= floor(f)
    return (f - low) * per


@jit
def _sort(bins, origin, low, per, codes, home):
    """Fill `start`, `order` and `offsets` of `bins`; `home` is for its own use."""
    n_atoms = bins.order.size
    shape, steps = bins.shape, bins.steps
    start, kinds = bins.start, bins.kinds
    for atom in range(n_atoms):
        flat = 0
        for axis in range(3):
            g = _grid_coordinate(
                bins.positions, atom, origin, bins.inverse, axis, low[axis], per[axis], bins.wrap[axis]
            )
            flat = flat * shape[axis] + min(max(int(g), 0), shape[axis] - 1)
        if kinds > 1:
            flat = flat * kinds + codes[atom]
        home[atom] = flat
        start[flat + 1] += 1
    for flat in range(start.size - 1):
        start[flat + 1] += start[flat]
    fill = start[:-1].copy()
    for atom in range(n_atoms):
        slot = fill[home[atom]]
        fill[home[atom]] += 1
        bins.order[slot] = atom
        flat = home[atom] // kinds
        x, y, z = 0.0, 0.0, 0.0
        for back in range(3):
            axis = 2 - back
            g = _grid_coordinate(
                bins.positions, atom, origin, bins.inverse, axis, low[axis], per[axis], bins.wrap[axis]
            )
            g -= flat % shape[axis] + 0.5
            flat //= shape[axis]
            x += g * steps[axis, 0]
            y += g * steps[axis, 1]
            z += g * steps[axis, 2]
        bins.offsets[0, slot], bins.offsets[1, slot], bins.offsets[2, slot] = x, y, z


@jit
def bin_there(bins, here, step, axis):
    """Index along an axis `step` bins further, and through how many images; index -1: beyond an open end."""
    there = here + step
    n = bins.shape[axis]
    if 0 <= there < n:
        return there, 0
    if not bins.wrap[axis]:
        return -1, 0
    image = there // n
    return there - image * n, image


@jit
def _most_candidates(bins):
    most = 0
    for b0 in range(bins.shape[0]):
        for b1 in range(bins.shape[1]):
            for b2 in range(bins.shape[2]):
                total = 0
                for i in range(-bins.reach[0], bins.reach[0] + 1):
                    p0, _ = bin_there(bins, b0, i, 0)
                    for j in range(-bins.reach[1], bins.reach[1] + 1):
                        p1, _ = bin_there(bins, b1, j, 1)
                        for k in range(-bins.reach[2], bins.reach[2] + 1):
                            p2, _ = bin_there(bins, b2, k, 2)
                            if p0 >= 0 and p1 >= 0 and p2 >= 0:
                                flat = (p0 * bins.shape[1] + p1) * bins.shape[2] + p2
                                total += bins.start[(flat + 1) * bins.kinds] - bins.start[flat * bins.kinds]
                most = max(most, total)
    return most


@jit
def pack_candidates(bins, b0, b1, b2, low, high, n, x, y, z, slots):
    """Append all that may be neighbors of the atoms of a bin: see `pack_around`."""
    return pack_around(bins, bins.reach, b0, b1, b2, low, high, n, x, y, z, slots)


@jit
def pack_around(bins, reach, b0, b1, b2, low, high, n, x, y, z, slots):
    """Append all of kinds low ... high - 1 at most `reach` bins from a bin along each axis, from index n on.

    `x`, `y`, `z` are from the center of the bin, Å. Returns the index after the last, a multiple of 16 up
    to which far places are filled in (as slot 0), and the index of the first atom of the bin itself. Up to
    16 numbers behind are written, too.
    """
    own = n
    steps, length = bins.steps, bins.offsets.shape[1]
    for i in range(-reach[0], reach[0] + 1):
        p0, _ = bin_there(bins, b0, i, 0)
        if p0 < 0:
            continue
        for j in range(-reach[1], reach[1] + 1):
            p1, _ = bin_there(bins, b1, j, 1)
            if p1 < 0:
                continue
            for k in range(-reach[2], reach[2] + 1):
                p2, _ = bin_there(bins, b2, k, 2)
                if p2 < 0:
                    continue
                if i == 0 and j == 0 and k == 0:
                    own = n
                dx = np.float32(i * steps[0, 0] + j * steps[1, 0] + k * steps[2, 0])
                dy = np.float32(i * steps[0, 1] + j * steps[1, 1] + k * steps[2, 1])
                dz = np.float32(i * steps[0, 2] + j * steps[1, 2] + k * steps[2, 2])
                flat = (p0 * bins.shape[1] + p1) * bins.shape[2] + p2
                flat *= bins.kinds
                first, stop = bins.start[flat + low], bins.start[flat + high]
                for slot in range(first, stop, 16):
                    at = n + slot - first
                    store(x, at, load(bins.offsets, slot) + splat(dx))
                    store(y, at, load(bins.offsets, slot + length) + splat(dy))
                    store(z, at, load(bins.offsets, slot + 2 * length) + splat(dz))
                    count_up(slots, at, slot, 1)
                n += stop - first
    far = splat(FAR)
    store(x, n, far)
    store(y, n, far)
    store(z, n, far)
    count_up(slots, n, 0, 0)
    return (n + 15) // 16 * 16, own


@jit
def shift_between(bins, a, b, x, y, z):
    """Cell vectors to add to positions[b] - positions[a], given the vector from slot a to b roughly."""
    i, j = bins.order[a], bins.order[b]
    positions, inverse = bins.positions, bins.inverse
    dx = x - (positions[j, 0] - positions[i, 0])
    dy = y - (positions[j, 1] - positions[i, 1])
    dz = z - (positions[j, 2] - positions[i, 2])
    return (
        np.rint(dx * inverse[0, 0] + dy * inverse[1, 0] + dz * inverse[2, 0]),
        np.rint(dx * inverse[0, 1] + dy * inverse[1, 1] + dz * inverse[2, 1]),
        np.rint(dx * inverse[0, 2] + dy * inverse[1, 2] + dz * inverse[2, 2]),
    )


@jit
def surely_within(bins, a, b, x, y, z):
    """Whether slot b is within the cutoff of slot a in float64, given the vector between them roughly."""
    s0, s1, s2 = shift_between(bins, a, b, x, y, z)
    i, j = bins.order[a], bins.order[b]
    # Always from the same end, so that a pair is decided alike from both sides.
    if i > j or (i == j and (s0 < 0 or (s0 == 0 and (s1 < 0 or (s1 == 0 and s2 < 0))))):
        i, j, s0, s1, s2 = j, i, -s0, -s1, -s2
    r2 = 0.0
    for k in range(3):
        d = bins.positions[j, k] - bins.positions[i, k]
        d += s0 * bins.cell[0, k] + s1 * bins.cell[1, k] + s2 * bins.cell[2, k]
        r2 += d * d
    return r2 <= bins.within


@jit
def squares(x, y, z, n, x0, y0, z0, within, doubt, r2):
    """Squared distances of n candidates from a place; not 0 if one is too close to the cutoff to be sure.

    n is a multiple of 16.
    """
    doubtful = np.uint64(0)
    x0, y0, z0, within, doubt = splat(x0), splat(y0), splat(z0), splat(within), splat(doubt * doubt)
    for k in range(0, n, 16):
        dx, dy, dz = load(x, k) - x0, load(y, k) - y0, load(z, k) - z0
        d2 = dx * dx + dy * dy + dz * dz
        off = d2 - within
        doubtful |= bits_at_most(off * off, doubt)
        store(r2, k, d2)
    return doubtful


@jit
def settle(bins, slot, slots, x, y, z, n, c, r2):
    """Replace the squares that are too close to the cutoff by 0 or by far more, as float64 decides."""
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    for k in range(n):
        if abs(r2[k] - within) <= doubt:
            inside = surely_within(bins, slot, slots[k], x[k] - x[c], y[k] - y[c], z[k] - z[c])
            r2[k] = np.float32(bins.within * (1 - 1e-6)) if inside else FAR


@jit
def _fill_csr(bins, counting, indptr, neighbors, lengths, shifts):
    """Count the neighbors of each atom into indptr[atom + 1], or write them down."""
    size = bins.most + 48
    x, y = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    z, r2 = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    slots = np.empty(size, dtype=np.int32)
    hits = np.empty(size, dtype=np.int32)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    flat = 0
    for b0 in range(bins.shape[0]):
        for b1 in range(bins.shape[1]):
            for b2 in range(bins.shape[2]):
                first, last = bins.start[flat], bins.start[flat + 1]
                flat += 1
                if first == last:
                    continue
                n, own = pack_candidates(bins, b0, b1, b2, 0, 1, 0, x, y, z, slots)
                for slot in range(first, last):
                    c = own + slot - first
                    if squares(x, y, z, n, x[c], y[c], z[c], within, doubt, r2):
                        settle(bins, slot, slots, x, y, z, n, c, r2)
                    r2[c] = FAR  # not a neighbor of itself
                    atom = bins.order[slot]
                    m, limit = 0, splat(within)
                    for k in range(0, n, 16):
                        m = list_bits(bits_at_most(load(r2, k), limit), k, hits, m)
                    if counting:
                        indptr[atom + 1] = m
                        continue
                    e = indptr[atom]
                    for h in range(m):
                        k = hits[h]
                        neighbors[e + h] = bins.order[slots[k]]
                        lengths[e + h] = np.sqrt(r2[k])
                    if shifts.shape[0]:
                        for h in range(m):
                            k = hits[h]
                            s0, s1, s2 = shift_between(
                                bins, slot, slots[k], x[k] - x[c], y[k] - y[c], z[k] - z[c]
                            )
                            at = indptr[atom] + h
                            shifts[at, 0], shifts[at, 1], shifts[at, 2] = s0, s1, s2


@jit
def _count_around(bins, reach, b0, b1, b2):
    total = 0
    for i in range(-reach[0], reach[0] + 1):
        p0, _ = bin_there(bins, b0, i, 0)
        for j in range(-reach[1], reach[1] + 1):
            p1, _ = bin_there(bins, b1, j, 1)
            for k in range(-reach[2], reach[2] + 1):
                p2, _ = bin_there(bins, b2, k, 2)
                if p0 >= 0 and p1 >= 0 and p2 >= 0:
                    flat = (p0 * bins.shape[1] + p1) * bins.shape[2] + p2
                    total += bins.start[flat + 1] - bins.start[flat]
    return total


@jit
def _covered(bins, reach, normals, heights, b, slot):
    """How far from an atom (Å) everything lies in the bins at most `reach` further."""
    cover = inf
    x, y, z = bins.offsets[0, slot], bins.offsets[1, slot], bins.offsets[2, slot]
    for axis in range(3):
        u = x * normals[0, axis] + y * normals[1, axis] + z * normals[2, axis]
        half = heights[axis] * (reach[axis] + 0.5)
        if bins.wrap[axis] or b[axis] > reach[axis]:
            cover = min(cover, half + u)
        if bins.wrap[axis] or b[axis] + reach[axis] < bins.shape[axis] - 1:
            cover = min(cover, half - u)
    return cover


@jit
def _k_smallest(r2, n, k, best, hits):
    """Fill `best` with the k smallest of n squares, n a multiple of 16; `hits` is for its own use."""
    for m in range(k):
        best[m] = NOT_FOUND
    last = k - 1
    for first in range(0, n, 16):
        found = list_bits(bits_at_most(load(r2, first), splat(best[last])), first, hits, 0)
        for h in range(found):
            value = r2[hits[h]]
            if value < best[last]:
                m = last
                while m > 0 and best[m - 1] > value:
                    best[m] = best[m - 1]
                    m -= 1
                best[m] = value


@jit
def _hits_sorted(r2, c, hits, n_hits, found):
    """Sort the candidates of `hits` by their squares into `found`, but for c; returns how many these are."""
    n = 0
    for h in range(n_hits):
        at = hits[h]
        if at == c:
            continue
        value, m = r2[at], n
        while m > 0 and r2[found[m - 1]] > value:
            found[m] = found[m - 1]
            m -= 1
        found[m] = at
        n += 1
    return n


@jit
def _choose(bins, places, slot, slots, x, y, z, c, hits, n_hits, r, atoms, images):
    """The first of some candidates, by their lengths in float64 and what breaks ties; r.size of them."""
    cell, inverse, order, k = bins.cell, bins.inverse, bins.order, r.size
    found = 0
    for h in range(n_hits):
        at = hits[h]
        there = slots[at]
        dx, dy, dz = (
            places[there, 0] - places[slot, 0], places[there, 1] - places[slot, 1],
            places[there, 2] - places[slot, 2],
        )  # fmt: skip
        ex, ey, ez = x[at] - x[c] - dx, y[at] - y[c] - dy, z[at] - z[c] - dz
        s0 = np.rint(ex * inverse[0, 0] + ey * inverse[1, 0] + ez * inverse[2, 0])
        s1 = np.rint(ex * inverse[0, 1] + ey * inverse[1, 1] + ez * inverse[2, 1])
        s2 = np.rint(ex * inverse[0, 2] + ey * inverse[1, 2] + ez * inverse[2, 2])
        dx += s0 * cell[0, 0] + s1 * cell[1, 0] + s2 * cell[2, 0]
        dy += s0 * cell[0, 1] + s1 * cell[1, 1] + s2 * cell[2, 1]
        dz += s0 * cell[0, 2] + s1 * cell[1, 2] + s2 * cell[2, 2]
        length, j, m = sqrt(dx * dx + dy * dy + dz * dz), order[there], found
        while m > 0:
            before = m - 1
            if length > r[before] + TIE:
                break
            if length >= r[before] - TIE:
                if j != atoms[before]:
                    first = j < atoms[before]
                elif s0 != images[before, 0]:
                    first = s0 < images[before, 0]
                elif s1 != images[before, 1]:
                    first = s1 < images[before, 1]
                else:
                    first = s2 < images[before, 2]
                if not first:
                    break
            m = before
        if m == k:
            continue
        found = min(found + 1, k)
        for t in range(found - 1, m, -1):
            r[t], atoms[t] = r[t - 1], atoms[t - 1]
            for axis in range(3):
                images[t, axis] = images[t - 1, axis]
        r[m], atoms[m], images[m, 0], images[m, 1], images[m, 2] = length, j, s0, s1, s2


@jit
def _sum_of_squares(start):
    total = 0
    for flat in range(start.size - 1):
        total += (start[flat + 1] - start[flat]) ** 2
    return total


@jit
def _in_order(positions, order, places):
    for slot in range(order.size):
        atom = order[slot]
        places[slot, 0], places[slot, 1] = positions[atom, 0], positions[atom, 1]
        places[slot, 2] = positions[atom, 2]


@jit
def _fill_nearest(bins, places, side, k, rows, neighbors, lengths, shifts):
    """Write down the k nearest of every atom i with rows[i] >= 0 into that row.

    places : (n_atoms, 3) float64, Å, positions in the order of the bins; `_in_order` fills them in
    side : Å, roughly the edge of a bin; what is nearer is looked through first
    """
    # Read from here, neighbors are in the cache: in a file their atoms may be anywhere.
    _in_order(bins.positions, bins.order, places)
    normals, heights = bins.inverse.copy(), np.zeros(3)
    largest = 0
    for axis in range(3):
        norm = sqrt((bins.inverse[:, axis] ** 2).sum())
        for other in range(3):
            normals[other, axis] /= norm
            heights[axis] += bins.steps[axis, other] * normals[other, axis]
        heights[axis] = abs(heights[axis])
    for flat in range(bins.start.size - 1):
        largest = max(largest, bins.start[flat + 1] - bins.start[flat])
    eps = 1.2e-7
    size = 27 * largest + 48
    x, y = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    z, r2 = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    slots, hits = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    best, sorted_hits = np.empty(k, dtype=np.float32), np.empty(MOST_HITS, dtype=np.int32)
    r, atoms, images = np.empty(k), np.empty(k, dtype=np.int32), np.empty((k, 3), dtype=np.int32)
    usual = side * side
    reach, b = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    pending = np.empty(largest, dtype=np.int64)
    flat = 0
    for b0 in range(bins.shape[0]):
        for b1 in range(bins.shape[1]):
            for b2 in range(bins.shape[2]):
                first, last = bins.start[flat], bins.start[flat + 1]
                flat += 1
                b[0], b[1], b[2] = b0, b1, b2
                n_pending = 0
                for slot in range(first, last):
                    if rows[bins.order[slot]] >= 0:
                        pending[n_pending] = slot
                        n_pending += 1
                far = max(side, sqrt(usual))
                while n_pending:
                    span, around = 0.0, largest
                    for axis in range(3):
                        reach[axis] = ceil(far / heights[axis]) if heights[axis] > 0 else 0
                        if not bins.wrap[axis]:
                            reach[axis] = min(reach[axis], bins.shape[axis] - 1)
                        around *= 2 * reach[axis] + 1
                    for axis in range(3):
                        extent = 0.0
                        for other in range(3):
                            extent += abs(bins.steps[other, axis]) * (reach[other] + 0.5)
                        span = max(span, extent)
                    if around + 48 > size:
                        around = _count_around(bins, reach, b0, b1, b2)
                    if around + 48 > size:
                        size = around + 48
                        x, y = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
                        z, r2 = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
                        slots, hits = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
                    n, own = pack_around(bins, reach, b0, b1, b2, 0, 1, 0, x, y, z, slots)
                    left, next_far = 0, 1.2 * far
                    for p in range(n_pending):
                        slot = pending[p]
                        c = own + slot - first
                        x0, y0, z0 = splat(x[c]), splat(y[c]), splat(z[c])
                        # Where the k-th usually is there are only few to sort.
                        reached = np.float32(WIDER * usual)
                        limit, n_hits = splat(reached), 0
                        for at in range(0, n, 16):
                            dx, dy, dz = load(x, at) - x0, load(y, at) - y0, load(z, at) - z0
                            d2 = dx * dx + dy * dy + dz * dz
                            store(r2, at, d2)
                            n_hits = list_bits(bits_at_most(d2, limit), at, hits, n_hits)
                        few = k < n_hits <= MOST_HITS
                        if few:
                            n_hits = _hits_sorted(r2, c, hits, n_hits, sorted_hits)
                            most = r2[sorted_hits[k - 1]]
                        else:
                            r2[c] = NOWHERE  # not a neighbor of itself
                            _k_smallest(r2, n, k, best, hits)
                            most = best[k - 1]
                        cover = _covered(bins, reach, normals, heights, b, slot)
                        length = sqrt(most)
                        if most >= NOT_FOUND or length + 1e-5 * (length + side) > cover:
                            next_far = max(next_far, 2 * far if most >= NOT_FOUND else 1.001 * length)
                            pending[left] = slot
                            left += 1
                            continue
                        usual += 0.05 * (min(most, 2 * usual) - usual)
                        # Everything that float32 cannot tell from the k-th.
                        doubt = eps * (8 * length * span + 4 * most + 16 * eps * span * span)
                        bound = np.float32(most + doubt + TIE * (2 * length + TIE))
                        if few and bound <= reached:
                            m = k
                            while m < n_hits and r2[sorted_hits[m]] <= bound:
                                m += 1
                            _choose(bins, places, slot, slots, x, y, z, c, sorted_hits, m, r, atoms, images)
                        else:
                            r2[c] = NOWHERE
                            limit, n_hits = splat(bound), 0
                            for at in range(0, n, 16):
                                n_hits = list_bits(bits_at_most(load(r2, at), limit), at, hits, n_hits)
                            _choose(bins, places, slot, slots, x, y, z, c, hits, n_hits, r, atoms, images)
                        row = rows[bins.order[slot]]
                        for m in range(k):
                            neighbors[row, m], lengths[row, m] = atoms[m], r[m]
                            for axis in range(3):
                                shifts[row, m, axis] = images[m, axis]
                    n_pending, far = left, next_far


@jit
def place_among(neighbors, shifts, i, row, m, other):
    """Where atom i stands in row `other`, that of its m-th neighbor, in the image that it is; -1: nowhere.

    `row` is the row of i.
    """
    for t in range(neighbors.shape[1]):
        if (
            neighbors[other, t] == i
            and shifts[other, t, 0] == -shifts[row, m, 0]
            and shifts[other, t, 1] == -shifts[row, m, 1]
            and shifts[other, t, 2] == -shifts[row, m, 2]
        ):
            return t
    return -1


@jit
def _symmetrize(counting, nearest, lengths, shifts, indptr, neighbors, edge_length, edge_shift, reverse):
    """Count the edges of each atom into indptr[atom + 1], or write them down."""
    n_atoms, k = nearest.shape
    if counting:
        for i in range(n_atoms):
            indptr[i + 1] += k
            for m in range(k):
                if place_among(nearest, shifts, i, i, m, nearest[i, m]) < 0:
                    indptr[nearest[i, m] + 1] += 1
        return
    fill = indptr[:-1] + k
    for i in range(n_atoms):
        for m in range(k):
            e, j = indptr[i] + m, nearest[i, m]
            neighbors[e], edge_length[e] = j, lengths[i, m]
            for axis in range(3):
                edge_shift[e, axis] = shifts[i, m, axis]
            t = place_among(nearest, shifts, i, i, m, nearest[i, m])
            if t >= 0:
                reverse[e] = indptr[j] + t
                continue
            back = fill[j]
            fill[j] += 1
            neighbors[back], edge_length[back] = i, lengths[i, m]
            for axis in range(3):
                edge_shift[back, axis] = -shifts[i, m, axis]
            reverse[e], reverse[back] = back, e


# Graph --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Graph:
    """Neighbors of every atom: each pair both ways, self-images included, no atom its own neighbor.

    The neighbors of atom i are `neighbors[indptr[i]:indptr[i + 1]]`, as often as images of them lie
    within the cutoff. Where the k nearest were asked for, they are the first k of these, by their
    lengths, and the others are those that have i among their own k nearest while i has not them.

    frame : of n_atoms atoms
    cutoff : Å, or infinite where a number of neighbors was asked for
    indptr : (n_atoms + 1,) int64; neighbors : (n_edges,) int32
    edge_length : (n_edges,) float32, Å
    n_neighbors : k, or None where a cutoff was asked for

    >>> from phaseseg import Frame
    >>> graph = neighbor_graph(Frame([[0.0, 0, 0]], [3.0, 9.0, 9.0], True, ["Fe"]), cutoff=3.5)
    >>> graph.neighbors, graph.edge_length, graph.edge_shift.tolist()
    (array([0, 0], dtype=int32), array([3., 3.], dtype=float32), [[-1, 0, 0], [1, 0, 0]])
    """

    frame: Frame
    cutoff: float
    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    edge_length: NDArray[np.float32]
    n_neighbors: int | None = None
    _shift: NDArray[np.int32] | None = field(default=None, repr=False)
    _reverse: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def n_edges(self) -> int:
        return len(self.neighbors)

    @cached_property
    def edge_index(self) -> NDArray[np.int64]:
        """(2, n_edges): atom i, neighbor j; networks send j -> i."""
        centers = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        return np.stack([centers, self.neighbors.astype(np.int64)])

    @cached_property
    def edge_shift(self) -> NDArray[np.int32]:
        """(n_edges, 3): how many cell vectors further than positions[j] the neighbor is.

        Within a cutoff they are searched again.
        """
        if self._shift is not None:
            return self._shift
        return _edges(sort_into_bins(self.frame, self.cutoff), self.indptr, shifts=True)[2]

    @property
    def reverse(self) -> NDArray[np.int64]:
        """(n_edges,): the edge from j to i of each edge from i to j, where the k nearest were asked for.

        Raises
        ------
        ValueError
            The graph was made with a cutoff.
        """
        if self._reverse is None:
            raise ValueError("the reverse of every edge is known in graphs of the k nearest neighbors alone.")
        return self._reverse

    @cached_property
    def mutual(self) -> NDArray[np.bool_]:
        """(n_edges,): whether each atom of the edge is among the k nearest of the other; see `reverse`."""
        k = self.n_neighbors or 0
        own = np.arange(self.n_edges) - np.repeat(self.indptr[:-1], np.diff(self.indptr)) < k
        return np.asarray(own & own[self.reverse])

    @cached_property
    def edge_vector(self) -> NDArray[np.float64]:
        """(n_edges, 3), Å: positions[j] - positions[i] + edge_shift @ cell."""
        i, j = self.edge_index
        positions = self.frame.positions
        return np.asarray(positions[j] - positions[i] + self.edge_shift @ self.frame.cell)


def _edges(
    bins: Bins, indptr: NDArray[np.int64], *, shifts: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    n_edges = int(indptr[-1])
    neighbors, lengths = np.empty(n_edges, dtype=np.int32), np.empty(n_edges, dtype=np.float32)
    images = np.empty((n_edges if shifts else 0, 3), dtype=np.int32)
    _fill_csr(bins, False, indptr, neighbors, lengths, images)
    return neighbors, lengths, images


def neighbor_graph(frame: Frame, *, cutoff: float | None = None, n_neighbors: int | None = None) -> Graph:
    """The graph of all neighbors with r <= cutoff (Å), as float64 decides it, or of the k nearest.

    Any cell: triclinic, open along some axes, smaller than the cutoff; atoms anywhere. Linear in the
    number of atoms. An atom without neighbors has an empty row.

    With `n_neighbors=k` an image of j is a neighbor of i if it is among the k nearest of i, or i among
    the k nearest of j: see `nearest_neighbors`, in the dimensions that the frame has.

    Raises
    ------
    ValueError
        Not just one of the two is given; the cutoff is not a positive number; or what `nearest_neighbors`
        refuses.
    """
    if (cutoff is None) == (n_neighbors is None):
        raise ValueError("neighbor_graph needs either a cutoff or n_neighbors.")
    if n_neighbors is not None:
        return _symmetric_graph(frame, nearest_neighbors(frame, n_neighbors))
    cutoff = float(cutoff or 0.0)
    bins = sort_into_bins(frame, cutoff)
    indptr = np.zeros(frame.n_atoms + 1, dtype=np.int64)
    if frame.n_atoms:
        nothing = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32), np.zeros((0, 3), np.int32)
        _fill_csr(bins, True, indptr, *nothing)
        np.cumsum(indptr, out=indptr)
    neighbors, lengths, _ = _edges(bins, indptr, shifts=False)
    return Graph(frame, cutoff, indptr, neighbors, lengths)


# The k nearest ------------------------------------------------------------------------------------


class NearestNeighbors(NamedTuple):
    """The k nearest neighbors of n atoms, the nearest first.

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
    """The k nearest neighbors of every atom, images counted each for itself, an atom's own images, too.

    Neighbors are sorted by their lengths in float64; of those that are equally far (within 1e-9 Å) the
    lower number comes first, then the lower shift. Any cell: triclinic, open along some axes, smaller
    than the distances in question; atoms anywhere, also on top of each other. Linear in the number of
    atoms where they fill the cell about evenly.

    Parameters
    ----------
    k : how many
    dimensions : 2 takes the third axis as open, 3 as `frame.pbc` says; None as `frame.n_dimensions`
    of : (n_atoms,) bool, the atoms whose neighbors are asked for; None: all. Neighbors are any atoms.

    Returns
    -------
    NearestNeighbors
        A row for every atom, or for every one of `of` in their order.

    Raises
    ------
    ValueError
        k is not a whole number from 1 on; dimensions is neither 2 nor 3; `of` is no flag for each atom; or
        nothing is periodic and fewer than k other atoms are there.

    >>> from phaseseg import Frame
    >>> chain = Frame([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0]], [9.0, 9.0, 9.0], False, ["A", "A", "B"])
    >>> nearest_neighbors(chain, 2).neighbors.tolist()
    [[1, 2], [0, 2], [1, 0]]
    """
    where = frame.error_prefix
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"{where}the number of neighbors must be a whole number from 1 on, found {k!r}.")
    if dimensions not in (None, 2, 3):
        raise ValueError(f"{where}there are frames of 2 and 3 dimensions, found {dimensions!r}.")
    pbc = frame.pbc.copy()
    pbc[2] &= (dimensions or frame.n_dimensions) == 3
    n_atoms = frame.n_atoms
    if n_atoms and not pbc.any() and k > n_atoms - 1:
        raise ValueError(
            f"{where}the {k} nearest neighbors are asked for, but nothing is periodic and every atom has "
            f"only {n_atoms - 1} others; ask for fewer."
        )
    rows = np.arange(n_atoms, dtype=np.int32)
    n_rows = n_atoms
    if of is not None:
        asked = np.asarray(of)
        if asked.dtype != bool or asked.shape != (n_atoms,):
            raise ValueError(
                f"{where}of must be {n_atoms} flags, one for each atom, found {asked.dtype} {asked.shape}."
            )
        rows = np.where(asked, np.cumsum(asked, dtype=np.int32) - 1, -1).astype(np.int32)
        n_rows = int(np.count_nonzero(asked))
    neighbors, lengths = np.empty((n_rows, k), dtype=np.int32), np.empty((n_rows, k), dtype=np.float32)
    shifts = np.empty((n_rows, k, 3), dtype=np.int32)
    if n_rows:
        bins, side = _fine_bins(frame, pbc, max(ATOMS_PER_FINE_BIN, ATOMS_PER_NEIGHBOR * k))
        places = borrow((n_atoms, 3), np.float64)
        _fill_nearest(bins, places, side, int(k), rows, neighbors, lengths, shifts)
    return NearestNeighbors(neighbors, lengths, shifts)


def _fine_bins(frame: Frame, pbc: NDArray[np.bool_], wanted: float) -> tuple[Bins, float]:
    """Atoms in bins that are about cubes, and the edge of these, Å; one bin across what is thinner.

    So many atoms are wanted in a bin around an atom. A droplet in a large cell asks for more bins than atoms.
    """
    inverse, low, span, heights = _extents(frame, pbc)
    per_bin = wanted
    while True:
        wide, side = heights > 0, 1.0
        while wide.any():
            side = float((heights[wide].prod() * per_bin / frame.n_atoms) ** (1 / np.count_nonzero(wide)))
            thin = wide & (heights < side)
            if not thin.any():
                break
            wide &= ~thin
        shape = np.where(wide, np.maximum(np.floor(heights / side), 1), 1.0)
        bins = _sorted(frame, pbc, inverse, low, span, shape)
        # As an atom sees it: with the number of atoms in its bin as the weight.
        crowd = _sum_of_squares(bins.start) / frame.n_atoms
        if crowd <= CROWDED * (wanted + 1) or per_bin <= 1 / MOST_BINS_PER_ATOM or not wide.any():
            return bins, side
        per_bin = max(per_bin * wanted / crowd, 1 / MOST_BINS_PER_ATOM)


def _symmetric_graph(frame: Frame, nearest: NearestNeighbors) -> Graph:
    indptr = np.zeros(frame.n_atoms + 1, dtype=np.int64)
    neighbors, edge_length = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    edge_shift, reverse = np.empty((0, 3), dtype=np.int32), np.empty(0, dtype=np.int64)
    _symmetrize(True, *nearest, indptr, neighbors, edge_length, edge_shift, reverse)
    np.cumsum(indptr, out=indptr)
    n_edges = int(indptr[-1])
    neighbors, edge_length = np.empty(n_edges, dtype=np.int32), np.empty(n_edges, dtype=np.float32)
    edge_shift, reverse = np.empty((n_edges, 3), dtype=np.int32), np.empty(n_edges, dtype=np.int64)
    _symmetrize(False, *nearest, indptr, neighbors, edge_length, edge_shift, reverse)
    k = nearest.neighbors.shape[1]
    return Graph(frame, inf, indptr, neighbors, edge_length, k, edge_shift, reverse)
