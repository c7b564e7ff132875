"""Atoms sorted into bins, and the candidates for the neighbors of the atoms of a bin.

Every search for neighbors works bin by bin: the candidates for the neighbors of its atoms are packed once
into contiguous arrays (`pack_around`), then the distances from each atom are computed a register at a time
(`squares`). Where float32 cannot tell whether a pair lies within the cutoff, float64 decides (`settle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.products import product, product_from
from phaseseg.compiled.simd import (
    WIDTH,
    append_lanes,
    bits_at_most,
    count_up,
    fetch,
    greater,
    list_bits,
    load,
    splat,
    store,
)
from phaseseg.compiled.threads import Range, in_parts, parts_by_size
from phaseseg.frame import Frame
from phaseseg.neighbors.islands import ends_of, group, packed

# Limit of the atoms within the cutoff of an atom; matter has a few hundred.
MOST_IMAGES = 1e6
# With fewer atoms per bin, the bookkeeping costs more than the shorter candidate lists save.
ATOMS_PER_BIN = 8
# Two bins per cutoff replace one where they shorten a row of bins around a bin at least to this fraction.
FINER_BINS = 0.75
# Coordinate of padding: beyond any cutoff, but its square still fits float32.
FAR = np.float32(1e18)
# Atoms after the one at hand whose positions are fetched from memory: in random order, they are in no cache.
AHEAD = 24
# Room behind the last candidate: whole registers are written.
SPARE = 48


class Extent(NamedTuple):
    """Where the bins are: the cell along periodic axes, the range of the atoms along open ones.

    places : (n_atoms, 3) float64, Å, positions, or groups that are far apart along open axes side by side
    inverse : (3, 3), of the cell; low, span : (3,), start and length in fractions; heights : (3,), Å
    gap : Å; atoms that were moved relative to each other are and were at least this far apart
    """

    places: NDArray[np.float64]
    inverse: NDArray[np.float64]
    low: NDArray[np.float64]
    span: NDArray[np.float64]
    heights: NDArray[np.float64]
    gap: float = inf


class Bins(NamedTuple):
    """Atoms sorted into bins, parallelepipeds that fill the reduced cell (the extent of open axes).

    Positions are relative to the center of their bin, so float32 is as accurate in a box of 10,000 Å as in
    one of 10 Å. All images within the cutoff of an atom lie in bins at most `reach` further along each axis;
    bins are counted on through the periodic images.

    kinds : number of kinds of atoms; the atoms of a bin are sorted by their kind, 0 ... kinds - 1
    start : (n_bins * kinds + 1,) int64, CSR over the bins (last axis fastest) and the kinds in each
    order : (n_atoms,) int32 atom numbers, bin by bin; a position in this order is called a slot
    offsets : (3, n_atoms + spare) float32, Å, from the center of the bin
    steps : (3, 3) float64, Å, edge vectors of a bin as rows
    shape, reach : (3,) int64; wrap : (3,) bool
    positions, cell, inverse : of the frame in its reduced cell, float64, for pairs that float32 cannot decide
    within : Å^2, square of the cutoff; doubt : Å^2, largest error of a square in float32
    most : largest number of candidates around a bin

    Kernels whose first arguments are `first, stop` work on these bins (`compiled.threads`).
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

    @property
    def n_bins(self) -> int:
        return (len(self.start) - 1) // self.kinds

    def parts(self, least: int = 2048) -> list[Range]:
        """Ranges of bins that hold about `least` atoms each, for kernels that go bin by bin."""
        return parts_by_size(self.start[:: self.kinds], least)


def sort_into_bins(
    frame: Frame, cutoff: float, codes: NDArray[np.integer[Any]] | None = None, kinds: int = 1
) -> Bins:
    """Bins for all pairs within `cutoff` (Å).

    ValueError unless it is a positive number, and for a periodic cell so thin that every atom would have a
    million images within the cutoff.

    Images are those of the reduced cell: `images @ frame.axes` are those of the frame's own.

    codes : (n_atoms,) kinds of the atoms, 0 ... kinds - 1; None for one kind
    """
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive length in Å, found {cutoff}.")
    frame = frame.reduced
    extent = extent_of(frame, frame.pbc)
    if not frame.pbc.all() and (extent.heights / cutoff).clip(1).prod() > frame.n_atoms / ATOMS_PER_BIN:
        extent = side_by_side(frame, frame.pbc, extent, 1.5 * cutoff)
    heights = extent.heights
    _check_crowd(frame, cutoff, heights)
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
    bins = bins_of_shape(frame, frame.pbc, extent, shape, codes, kinds)
    bins = bins._replace(reach=reach.astype(np.int64), within=cutoff * cutoff)
    # Each of the two coordinates of a difference is rounded once or twice, and r^2 a few times.
    largest = float((np.abs(bins.steps) * (bins.reach + 0.5)[:, None]).sum(axis=0).max())
    doubt = float(np.finfo(np.float32).eps) * (8 * cutoff * largest + 4 * cutoff**2)
    return bins._replace(doubt=doubt, most=_most_candidates(bins))


def _most_candidates(bins: Bins) -> int:
    """Largest number of atoms at most `reach` bins from a bin along each axis."""
    counts = np.diff(bins.start[:: bins.kinds]).reshape(bins.shape)
    for axis, (n, reach, wraps) in enumerate(zip(bins.shape, bins.reach, bins.wrap, strict=True)):
        ends, total = np.arange(n) + np.array([[-reach], [reach + 1]]), counts.sum(axis, keepdims=True)
        before = np.insert(counts.cumsum(axis), 0, 0, axis)
        images, ends = np.divmod(ends, n) if wraps else (np.zeros_like(ends), ends.clip(0, n))
        along = [n if k == axis else 1 for k in range(3)]
        low, high = (
            before.take(end, axis) + image.reshape(along) * total
            for image, end in zip(images, ends, strict=True)
        )
        counts = high - low
    return int(counts.max(initial=0))


def _check_crowd(frame: Frame, cutoff: float, heights: NDArray[np.float64]) -> None:
    """Raise ValueError for a cell so thin along periodic axes that images are beyond count."""
    thin = frame.pbc & (heights < cutoff)
    lengths = np.where(frame.pbc, heights, np.maximum(heights, cutoff))
    images = frame.n_atoms * (2 * cutoff) ** 3 / lengths.prod() if thin.any() else 0.0
    if images > MOST_IMAGES:
        unit = frame.length_unit
        raise ValueError(
            f"{frame.error_prefix}the cell is {heights[thin].min():.2g} {unit} thick along a periodic axis, "
            f"so about {images:.0e} images lie within {cutoff:g} {unit} of every atom. "
            "Check the cell and its units."
        )


def extent_of(
    frame: Frame, pbc: NDArray[np.bool_], places: NDArray[np.float64] | None = None, gap: float = inf
) -> Extent:
    """The extent of the atoms of a frame in its reduced cell, or of their places."""
    inverse = np.linalg.inv(frame.cell).astype(np.float64)
    low, span = np.zeros(3), np.ones(3)
    if places is None:
        places = frame.positions
        if (frame.pbc & ~pbc)[2] and frame.is_flat(2):  # a layer, of which some atoms may be in other images
            images = np.rint((places - places[0]) @ inverse[:, 2])
            places = places - images[:, None] * frame.cell[2] if images.any() else places
    if frame.n_atoms and not pbc.all():
        ends = np.array(in_parts(_extent, len(places), places, frame.origin, inverse, least=8192))
        least, most = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
        low, span = np.where(pbc, low, least), np.where(pbc, span, most - least)
    return Extent(places, inverse, low, span, 1 / np.linalg.norm(inverse, axis=0) * span, gap)


def side_by_side(frame: Frame, pbc: NDArray[np.bool_], extent: Extent, gap: float) -> Extent:
    """Put groups of atoms that are more than `gap` (Å) from each other side by side, as close as that.

    Bins then follow the atoms, not the empty space, and their float32 offsets keep their digits.
    """
    along, heights = np.flatnonzero(~pbc), 1 / np.linalg.norm(extent.inverse, axis=0)
    coordinates = (extent.places - frame.origin) @ extent.inverse[:, along] * heights[along]
    of = group(coordinates, gap)
    low, high = ends_of(coordinates, of)
    size = np.ones((len(low), 3))
    size[:, along] = high - low + 1.01 * gap
    corner = packed(size, np.concatenate([np.flatnonzero(pbc), along]))[:, along]
    shift = (corner - low) / heights[along] @ frame.cell[along]
    return extent_of(frame, pbc, extent.places + shift[of], gap)


def bins_of_shape(
    frame: Frame, pbc: NDArray[np.bool_], extent: Extent, shape: NDArray[np.float64],
    codes: NDArray[np.integer[Any]] | None = None, kinds: int = 1,
) -> Bins:  # fmt: skip
    """The atoms in bins of the given shape; `reach`, `within`, `doubt` and `most` are left at zero."""
    places, inverse, low, span, *_ = extent
    n_atoms = frame.n_atoms
    counts = shape.astype(np.int64)
    bins = Bins(
        kinds=kinds, start=np.zeros(counts.prod() * kinds + 1, dtype=np.int64),
        order=borrow(n_atoms, np.int32), offsets=borrow((3, n_atoms + WIDTH), np.float32),
        steps=frame.cell * (span / shape)[:, None], shape=counts, reach=np.zeros(3, dtype=np.int64), wrap=pbc,
        positions=frame.positions, cell=frame.cell, inverse=inverse, within=0.0, doubt=0.0, most=0,
    )  # fmt: skip
    per = np.divide(shape, span, out=np.zeros(3), where=span > 0)
    codes = np.zeros(0, dtype=np.int32) if codes is None else np.asarray(codes, dtype=np.int32)
    home, grid = borrow(n_atoms, np.int32), (places, frame.origin, low, per)
    in_parts(_homes, n_atoms, bins, *grid, codes, home, least=4096)
    sort_by_place(bins.start, bins.order, home)
    in_parts(_offsets, bins.n_bins, bins, *grid, least=256)
    return bins


def layers_of(bins: Bins, layers: Sequence[range]) -> tuple[Bins, list[slice]]:
    """Some layers of bins across the first axis as bins of their own, and the slots that they had.

    Along this axis, the new bins have open ends, where neighbors are missing.
    """
    in_layer = int(bins.shape[1] * bins.shape[2]) * bins.kinds
    slots, counts = [], [np.zeros(1, dtype=np.int64)]
    for some in layers:
        start = bins.start[some.start * in_layer : some.stop * in_layer + 1]
        slots.append(slice(int(start[0]), int(start[-1])))
        counts.append(np.diff(start))
    n = sum(there.stop - there.start for there in slots)
    order, offsets = borrow(n, np.int32), borrow((3, n + WIDTH), np.float32)
    np.concatenate([bins.order[there] for there in slots], out=order)
    np.concatenate([bins.offsets[:, there] for there in slots], axis=1, out=offsets[:, :n])
    shape, wrap = bins.shape.copy(), bins.wrap.copy()
    shape[0], wrap[0] = sum(map(len, layers)), False
    start = np.cumsum(np.concatenate(counts))
    return bins._replace(start=start, order=order, offsets=offsets, shape=shape, wrap=wrap), slots


def images_of(frame: Frame, shifts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Images (..., 3) counted along the reduced cell, counted along the cell of the frame."""
    return shifts if frame.reduced is frame else (shifts @ frame.axes).astype(np.int32)


# Sorting ------------------------------------------------------------------------------------------


@jit
def _extent(first, stop, positions, origin, inverse):
    """(2, 3): least and greatest fractional coordinates."""
    ends = np.empty((2, 3))
    ends[0], ends[1] = np.inf, -np.inf
    for position in positions[first:stop]:
        for axis, f in enumerate(product_from(origin, position, inverse)):
            ends[0, axis], ends[1, axis] = min(ends[0, axis], f), max(ends[1, axis], f)
    return ends


@inner
def _bin_coordinates(bins, place, origin, low, per, g):
    """Coordinates of a place in bins, wrapped into [0, shape], into `g`."""
    g[0], g[1], g[2] = product_from(origin, place, bins.inverse)
    for axis in range(3):
        if bins.wrap[axis]:
            g[axis] -= floor(g[axis])
        g[axis] = (g[axis] - low[axis]) * per[axis]


@jit
def sort_by_place(start, order, place):
    """Sort items by their place, a whole number from 0 on: fill `start`, CSR over the places, zero at first.

    order : (n,) int32, the items in order; place : (n,) int32, becomes the inverse of `order`
    """
    for item in range(place.size):
        start[place[item] + 1] += 1
    for p in range(start.size - 1):
        start[p + 1] += start[p]
    fill = start[:-1].copy()
    for item in range(place.size):
        slot = fill[place[item]]
        fill[place[item]] += 1
        order[slot] = item
        place[item] = slot


@jit
def _homes(first, stop, bins, places, origin, low, per, codes, home):
    """The bin and kind of some atoms, as one number."""
    shape, kinds, g = bins.shape, bins.kinds, np.empty(3)
    for atom in range(first, stop):
        _bin_coordinates(bins, places[atom], origin, low, per, g)
        flat = 0
        for axis in range(3):
            flat = flat * shape[axis] + min(max(int(g[axis]), 0), shape[axis] - 1)
        home[atom] = flat * kinds + codes[atom] if kinds > 1 else flat


@inner
def bin_at(bins, flat):
    """Indices of a bin along the axes."""
    row = flat // bins.shape[2]
    return row // bins.shape[1], row % bins.shape[1], flat % bins.shape[2]


@jit
def _offsets(first, stop, bins, places, origin, low, per):
    """The offsets of the atoms of some bins."""
    kinds, g, last = bins.kinds, np.empty(3), bins.order.size - 1
    for flat in range(first, stop):
        b0, b1, b2 = bin_at(bins, flat)
        for slot in range(bins.start[flat * kinds], bins.start[(flat + 1) * kinds]):
            fetch(places, 3 * np.int64(bins.order[min(slot + AHEAD, last)]))
            _bin_coordinates(bins, places[bins.order[slot]], origin, low, per, g)
            x, y, z = product(g[0] - (b0 + 0.5), g[1] - (b1 + 0.5), g[2] - (b2 + 0.5), bins.steps)
            bins.offsets[0, slot], bins.offsets[1, slot], bins.offsets[2, slot] = x, y, z


# Candidates ---------------------------------------------------------------------------------------


@inner
def _bin_there(there, n, wraps):
    """The index of a bin along an axis of n bins, counted on through its ends; -1 beyond an open end."""
    if 0 <= there < n:
        return there
    return there - there // n * n if wraps else -1


@inner
def count_around(bins, reach, flat):
    """Number of atoms of all kinds at most `reach` bins from a bin along each axis."""
    b0, b1, b2 = bin_at(bins, flat)
    shape, wrap, total = bins.shape, bins.wrap, 0
    for i in range(-reach[0], reach[0] + 1):
        p0 = _bin_there(b0 + i, shape[0], wrap[0])
        for j in range(-reach[1], reach[1] + 1):
            p1 = _bin_there(b1 + j, shape[1], wrap[1])
            for k in range(-reach[2], reach[2] + 1):
                p2 = _bin_there(b2 + k, shape[2], wrap[2])
                if p0 >= 0 and p1 >= 0 and p2 >= 0:
                    there = (p0 * shape[1] + p1) * shape[2] + p2
                    total += bins.start[(there + 1) * bins.kinds] - bins.start[there * bins.kinds]
    return total


class Candidates(NamedTuple):
    """The candidates around a bin, with room for more.

    x, y, z : float32, Å, from the center of the bin; r2 : Å^2, squared distances from one of them
    slots : int32; hits : int32, places among the candidates of those that were found
    box : (6,) float32, Å, least x, y, z of the atoms of the bin itself, then the greatest ones
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    r2: NDArray[np.float32]
    slots: NDArray[np.int32]
    hits: NDArray[np.int32]
    box: NDArray[np.float32]


@inner
def room_for(size):
    """Room for `size` candidates, spare registers included."""
    x, y = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    z, r2 = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    slots, hits = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    return Candidates(x, y, z, r2, slots, hits, np.empty(6, dtype=np.float32))


@inner
def room_around(bins):
    """Room for the candidates around a bin of any kinds, where each kind may start at a whole register."""
    return room_for(bins.most + WIDTH * bins.kinds + SPARE)


@inner
def _find_box(bins, flat, into):
    """Set the box of the candidates around a bin."""
    box, first, stop = into.box, bins.start[flat * bins.kinds], bins.start[(flat + 1) * bins.kinds]
    for axis in range(3):
        low = high = bins.offsets[axis, first]
        for slot in range(first + 1, stop):
            low, high = min(low, bins.offsets[axis, slot]), max(high, bins.offsets[axis, slot])
        box[axis], box[axis + 3] = low, high


@inner
def _beyond(x, low, high):
    """Distances from an interval, which are zero or less inside."""
    return greater(greater(low - x, x - high), splat(np.float32(0)))


@inner
def pack_around(bins, reach, flat, low, high, n, into):
    """Append the candidates of kinds low ... high - 1 at most `reach` bins from a bin along each axis.

    If the bins have a cutoff, atoms farther than that from `into.box` are no candidates. These start at index
    n. Returns the index behind the last, rounded up to whole registers that padding fills (far away, slot 0),
    and the index of the first atom of the bin itself. Up to a register behind the end is overwritten.
    """
    own = n
    shape, wrap, steps, length, box = bins.shape, bins.wrap, bins.steps, bins.offsets.shape[1], into.box
    b0, b1, b2 = bin_at(bins, flat)
    x0, y0, z0 = splat(box[0]), splat(box[1]), splat(box[2])
    x1, y1, z1 = splat(box[3]), splat(box[4]), splat(box[5])
    limit = splat(np.float32(bins.within + 2 * bins.doubt if bins.within > 0 else inf))
    for i in range(-reach[0], reach[0] + 1):
        p0 = _bin_there(b0 + i, shape[0], wrap[0])
        if p0 < 0:
            continue
        for j in range(-reach[1], reach[1] + 1):
            p1 = _bin_there(b1 + j, shape[1], wrap[1])
            if p1 < 0:
                continue
            for k in range(-reach[2], reach[2] + 1):
                p2 = _bin_there(b2 + k, shape[2], wrap[2])
                if p2 < 0:
                    continue
                if i == 0 and j == 0 and k == 0:
                    own = n
                dx, dy, dz = product(i, j, k, steps)
                there = ((p0 * shape[1] + p1) * shape[2] + p2) * bins.kinds
                first, stop = bins.start[there + low], bins.start[there + high]
                for slot in range(first, stop, WIDTH):
                    x = load(bins.offsets, slot) + splat(np.float32(dx))
                    y = load(bins.offsets, slot + length) + splat(np.float32(dy))
                    z = load(bins.offsets, slot + 2 * length) + splat(np.float32(dz))
                    ax, ay, az = _beyond(x, x0, x1), _beyond(y, y0, y1), _beyond(z, z0, z1)
                    bits = bits_at_most(ax * ax + ay * ay + az * az, limit)
                    bits &= (np.uint64(1) << np.uint64(min(stop - slot, WIDTH))) - np.uint64(1)
                    append_lanes(bits, x, into.x, n)
                    append_lanes(bits, y, into.y, n)
                    append_lanes(bits, z, into.z, n)
                    n = list_bits(bits, slot, into.slots, n)
    far = splat(FAR)
    store(into.x, n, far)
    store(into.y, n, far)
    store(into.z, n, far)
    count_up(into.slots, n, 0, 0)
    return (n + WIDTH - 1) // WIDTH * WIDTH, own


@inner
def pack_all_around(bins, reach, flat, into):
    """`pack_around` of the candidates of all kinds, from the first place on."""
    _find_box(bins, flat, into)
    # Typed numbers: with literal ones, the function would be compiled once more for each.
    return pack_around(bins, reach, flat, np.int64(0), np.int64(bins.kinds), np.int64(0), into)


@inner
def pack_by_kind(bins, flat, into, edges, owns):
    """`pack_around` of all candidates, sorted by kind: those of kind k are edges[k] ... edges[k + 1] - 1.

    edges : (kinds + 1,), zero at first; owns : (kinds,), indices of the first atoms of the bin itself
    """
    _find_box(bins, flat, into)
    for kind in range(bins.kinds):
        edges[kind + 1], owns[kind] = pack_around(bins, bins.reach, flat, kind, kind + 1, edges[kind], into)


# Distances ----------------------------------------------------------------------------------------


@inner
def image_of(inverse, x, y, z):
    """Cell vectors (n0, n1, n2) whose sum is nearest to a vector."""
    n0, n1, n2 = product(x, y, z, inverse)
    return np.rint(n0), np.rint(n1), np.rint(n2)


@inner
def shift_between(bins, near, slot, c, k):
    """Cell vectors to add to the vector from the atom in `slot`, which is candidate c, to candidate k."""
    p, q = bins.positions[bins.order[slot]], bins.positions[bins.order[near.slots[k]]]
    return image_of(
        bins.inverse,
        near.x[k] - near.x[c] - (q[0] - p[0]),
        near.y[k] - near.y[c] - (q[1] - p[1]),
        near.z[k] - near.z[c] - (q[2] - p[2]),
    )


@inner
def _surely_within(bins, near, slot, c, k):
    """Whether candidate k is within the cutoff of candidate c, the atom in `slot`, in float64."""
    s0, s1, s2 = shift_between(bins, near, slot, c, k)
    i, j = bins.order[slot], bins.order[near.slots[k]]
    # Always computed from the same end, so that both directions of a pair agree.
    if i > j or (i == j and (s0 < 0 or (s0 == 0 and (s1 < 0 or (s1 == 0 and s2 < 0))))):
        i, j, s0, s1, s2 = j, i, -s0, -s1, -s2
    r2 = 0.0
    for axis in range(3):
        d = bins.positions[j, axis] - bins.positions[i, axis]
        d += s0 * bins.cell[0, axis] + s1 * bins.cell[1, axis] + s2 * bins.cell[2, axis]
        r2 += d * d
    return r2 <= bins.within


@inner
def squares(near, n, c, within, doubt):
    """Squared distances of n candidates, whole registers, from candidate c.

    Returns whether one is too close to `within`, the square of the cutoff, for float32: see `settle`.
    """
    x, y, z, doubtful = near.x, near.y, near.z, np.uint64(0)
    x0, y0, z0, within, doubt = splat(x[c]), splat(y[c]), splat(z[c]), splat(within), splat(doubt * doubt)
    for k in range(0, n, WIDTH):
        dx, dy, dz = load(x, k) - x0, load(y, k) - y0, load(z, k) - z0
        d2 = dx * dx + dy * dy + dz * dz
        off = d2 - within
        doubtful |= bits_at_most(off * off, doubt)
        store(near.r2, k, d2)
    return doubtful != 0


@inner
def settle(bins, near, n, slot, c):
    """Replace the squares that float32 cannot compare with the cutoff, as float64 decides.

    They become a little less than the square of the cutoff, or `FAR`. Candidate c is the atom in `slot`.
    """
    within, doubt, r2 = np.float32(bins.within), np.float32(bins.doubt), near.r2
    for k in range(n):
        if abs(r2[k] - within) <= doubt:
            inside = _surely_within(bins, near, slot, c, k)
            r2[k] = np.float32(bins.within * (1 - 1e-6)) if inside else FAR


@inner
def hits_within(near, n, within):
    """List the candidates whose squares are at most `within`; return their number. n : whole registers"""
    limit, found = splat(within), 0
    for k in range(0, n, WIDTH):
        found = list_bits(bits_at_most(load(near.r2, k), limit), k, near.hits, found)
    return found
