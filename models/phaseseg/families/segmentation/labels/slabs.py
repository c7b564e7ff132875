"""Fields on grids on disk, and the atoms around them slab by slab.

The grid of a whole frame is an array in a file. The loops over it are those for frames in memory, which go
through it plane by plane. Atoms are read slab by slab and sorted along the grid of the whole frame. So every
number comes from the same operations in the same order as in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from math import ceil, floor, pi
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import for_each, in_parts
from phaseseg.families.segmentation.labels import density_kernels
from phaseseg.families.segmentation.labels.density import at_voxels, units_alone
from phaseseg.families.segmentation.labels.lattice import (
    Lattice,
    PackedAtoms,
    deposit_edges,
    grid_coordinates,
)
from phaseseg.families.segmentation.labels.molecules import SmallMolecules
from phaseseg.fields import Grid
from phaseseg.large.disk import Disk
from phaseseg.large.store import Chosen, FrameStore, Layers, Outline
from phaseseg.large.tasks import Arrays, each
from phaseseg.specs import Progress

Pick = Callable[[Layers], tuple[Any, NDArray[Any]]]
"""Chooses some atoms of layers (a mask or slice), with a value for each of these."""
BLOCK = 2**27
"""Bytes of a block of planes that is worked on in memory."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Atoms of a slab of coarse cells of a lattice, and those around it.

    layers : atoms of the slab and around it; around : the same, sorted
    own : sorted atoms of the slab alone; their `order` are places in `rows`
    rows : (n_own,) rows of the frame
    points : as `own`, of the points at which phases are assigned: the atoms, or centers of molecules
    point_rows : (n_points,) as `rows`, for molecules their numbers
    """

    layers: Layers
    around: PackedAtoms
    own: PackedAtoms
    rows: NDArray[np.int64]
    points: PackedAtoms
    point_rows: NDArray[np.int64]


class SlabWork:
    """A frame on disk, worked on in slabs.

    n_slabs : number of slabs; fewer where the grid has not as many coarse cells
    """

    def __init__(self, store: FrameStore, disk: Disk, n_slabs: int, progress: Progress | None = None) -> None:
        self.store, self.disk, self.n_slabs = store, disk, n_slabs
        self._progress = progress
        self._units: dict[Chosen, int] = {}

    @property
    def outline(self) -> Outline:
        return self.store.outline

    @property
    def free(self) -> float:
        """Bytes that are free on the disk."""
        return float(psutil.disk_usage(str(self.disk.folder)).free)

    def report(self, done: float, text: str) -> None:
        """Report progress; an exception ends the work."""
        if self._progress is not None:
            self._progress(done, text)

    # Atoms ----------------------------------------------------------------------------------------

    def count_units(self, chosen: Chosen) -> int:
        """As `density.count_units`."""
        if chosen not in self._units:
            self._units[chosen] = self._count_units(chosen)
        return self._units[chosen]

    def _count_units(self, chosen: Chosen) -> int:
        names, molecules = self.outline.species_names, self.small_molecules
        if molecules is None:
            return units_alone(names, chosen.outline.counts)
        seen = self.disk.array(len(molecules.sizes), np.bool_)
        alone = np.zeros(len(names), dtype=np.int64)
        for rows in self.store.rows:
            species = self.store.species_of(rows)
            mine = chosen.among(rows, species)
            numbers, species = molecules.of(rows)[0][mine], species[mine]
            seen[numbers] = True
            alone += np.bincount(species[numbers == 0], minlength=len(names))
        n_molecules = int(np.count_nonzero(seen[1:]))
        return n_molecules + units_alone(names, alone, n_molecules)

    @cached_property
    def small_molecules(self) -> SmallMolecules | None:
        """`SmallMolecules` of the frame."""
        found = self.store.others.get("molecules")
        return None if found is None else SmallMolecules.among(found, self.store.rows, self.disk.array)

    def each(
        self, lattice: Lattice, name: str, function: Callable[[Slab], Arrays], doing: str,
        reach: float = 0.0, centers: FrameStore | None = None, *, keep: bool = False,
    ) -> Iterator[Arrays]:  # fmt: skip
        """Yield what a function gives for the slabs along the first axis of a lattice, in order; see `each`.

        reach : grid points around a slab within which atoms are needed
        centers : of molecules, at which phases are assigned
        """
        halo = ceil(reach * lattice.cells[0] / lattice.shape[0]) if reach else 0
        of_slab = partial(self._of_slab, lattice, function, halo, centers)
        return each(self.disk, name, of_slab, self._slabs(lattice), doing, self._progress, keep=keep)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": None}  # is reported here

    def _of_slab(
        self, lattice: Lattice, function: Callable[[Slab], Arrays], halo: int, centers: FrameStore | None,
        slab: tuple[int, int],
    ) -> Arrays:  # fmt: skip
        first, stop = slab
        layers = self.load(lattice, first - halo, stop + halo)
        around = PackedAtoms.at(layers.positions, lattice, slice(None))
        own, mine = _between(around, lattice, first, stop)
        rows = layers.rows[mine]
        points, point_rows = own, rows
        if centers is not None:
            there = self.load(lattice, first, stop, centers)
            packed = PackedAtoms.at(there.positions, lattice, slice(None))
            points, mine = _between(packed, lattice, first, stop)
            point_rows = there.rows[mine]
        return function(Slab(layers, around, own, rows, points, point_rows))

    def _slabs(self, lattice: Lattice) -> list[tuple[int, int]]:
        """Slabs of coarse cells, first and one past the last, with about as many atoms in each."""
        n_rows = int(lattice.cells[0])
        centers = [self._fraction(lattice, row + 0.5) for row in range(n_rows)]
        filled, n_layers = self.store.filled, self.store.n_layers
        layer = np.clip(np.floor(np.array(centers) * n_layers), 0, n_layers - 1).astype(int)
        # Every row has its share of a layer, and at least a little.
        weight = filled[layer] / np.bincount(layer, minlength=n_layers)[layer] + 1e-3
        total = np.concatenate([[0.0], np.cumsum(weight)])
        targets = total[-1] * np.arange(1, self.n_slabs) / self.n_slabs
        return list(pairwise(sorted({0, *np.searchsorted(total, targets).tolist(), n_rows})))

    def _fraction(self, lattice: Lattice, row: float) -> float:
        """Where a row of coarse cells begins along the first vector of the frame's reduced cell."""
        frame = self.outline.reduced
        at = lattice.origin + row / float(lattice.cells[0]) * lattice.cell[0] - frame.origin
        return float(at @ np.linalg.inv(frame.cell)[:, 0])

    def load(self, lattice: Lattice, first: int, stop: int, store: FrameStore | None = None) -> Layers:
        """Atoms of some rows of coarse cells, and more in the layers that hold them.

        store : of other points in the same cell
        """
        store = store or self.store
        n, rows = store.n_layers, int(lattice.cells[0])
        low, high = (self._fraction(lattice, row) * n for row in (first, stop))
        layers = np.arange(int(np.floor(low - 1e-3)), int(np.floor(high + 1e-3)) + 1)
        if lattice.wrap[0]:
            return store.load(np.unique(layers % n))
        if first <= 0:
            layers = np.arange(0, max(int(layers[-1]), 0) + 1)
        if stop >= rows:
            layers = np.arange(min(int(layers[0]), n - 1), n)
        return store.load(np.unique(np.clip(layers, 0, n - 1)))

    # Grids ----------------------------------------------------------------------------------------

    def grid(self, lattice: Lattice) -> NDArray[np.float32]:
        """A grid of zeros on disk."""
        return self.disk.array(lattice.shape, np.float32)

    def copy(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of a grid, on disk."""
        copied = self.disk.array(values.shape, values.dtype)
        for block in blocks(values):
            copied[block] = values[block]
        return copied

    def smoothed(
        self, lattice: Lattice, n_atoms: int, kernel: Callable[..., None], chosen: Pick, doing: str,
        *grids: NDArray[np.float32], sigma: float, scale: float = 1.0,
        in_cells: NDArray[np.int32] | None = None, counts: NDArray[np.float32] | None = None,
    ) -> None:  # fmt: skip
        """Add atoms to grids as `PackedAtoms.add` does, in the same order, and smooth them as `smooth_grid`.

        n_atoms : number of atoms that are added
        chosen : which of some layers are added (a mask or slice), and a value for each of these
        in_cells : (n_cells,) zeros, filled with the number of atoms in each coarse cell
        counts : a grid that gets what the (first) grid has before it is smoothed
        """
        if self.disk.kept.tasks is None:
            self._deposit(lattice, n_atoms, kernel, chosen, doing, *grids, in_cells=in_cells)
        else:
            planes = partial(
                self._planes, lattice, n_atoms, kernel, chosen, grids, sigma, scale, in_cells, counts
            )
            slabs = self._slabs(lattice)
            for _ in each(self.disk, "planes", planes, slabs, doing, self._progress):
                pass
            if lattice.orthogonal:
                return
        if counts is not None:
            counts[:] = grids[0]
        for values in grids:
            self.smooth(values, lattice, sigma, scale)

    def _planes(
        self, lattice: Lattice, n_atoms: int, kernel: Callable[..., None], chosen: Pick,
        grids: Sequence[NDArray[np.float32]], sigma: float, scale: float, in_cells: NDArray[np.int32] | None,
        counts: NDArray[np.float32] | None, slab: tuple[int, int],
    ) -> None:  # fmt: skip
        """`smoothed` for the planes of a slab, on another machine; a tilted cell is not smoothed there."""
        (n, rows), (first, stop) = (lattice.shape[0], int(lattice.cells[0])), slab
        low, high = (ceil(row * n / rows) for row in slab)
        taps = density_kernels.taps_of(lattice.steps, lattice.flat, sigma, scale)
        halo = len(taps[0]) - 1 if lattice.orthogonal else 0
        planes = np.arange(low - halo, high + halo)
        # A cloud has three planes, of which the second is the nearest.
        near = np.arange(floor((planes[0] - 2) * rows / n) - 1, ceil((planes[-1] + 3) * rows / n) + 1)
        layers = self.load(lattice, int(near[0]), int(near[-1]) + 1)
        if lattice.wrap[0]:
            planes, near = planes % n, near % rows
        else:
            planes, near = (some[(some >= 0) & (some < end)] for some, end in ((planes, n), (near, rows)))
        some, values = chosen(layers)
        packed, in_layer = PackedAtoms.at(layers.positions[some], lattice, slice(None)), cells_in_row(lattice)
        values, start = values[packed.order], packed.start[::in_layer]
        if in_cells is not None:
            own = packed.start[first * in_layer : stop * in_layer + 1]
            self.disk.put(in_cells, first * in_layer, np.diff(own))
        # Of these zeros, only the planes that are touched take memory.
        sheets = [np.zeros(lattice.shape, dtype=np.float32) for _ in grids]
        parts = list(pairwise(deposit_edges(lattice, n_atoms)))
        for part in (*parts[::2], *parts[1::2]):
            for row in np.intersect1d(near, np.arange(*part)).tolist():
                kernel(start[row], start[row + 1], packed.coords, lattice.wrap, values, *sheets)
        if counts is not None:
            self.disk.put(counts, low, sheets[0][low:high])
        for grid, sheet in zip(grids, sheets, strict=True):
            block = sheet[planes]
            if lattice.orthogonal:
                in_parts(density_kernels.convolve_planes, len(block), block, *taps[1:], lattice.wrap, least=4)
                _convolve(block, taps[0], False)
            begin = halo if lattice.wrap[0] else low - int(planes[0])
            self.disk.put(grid, low, block[begin : begin + high - low])

    def _deposit(
        self, lattice: Lattice, n_atoms: int, kernel: Callable[..., None],
        chosen: Pick, doing: str, *grids: NDArray[np.float32], in_cells: NDArray[np.int32] | None = None,
    ) -> None:  # fmt: skip
        edges, in_layer = deposit_edges(lattice, n_atoms), cells_in_row(lattice)
        n_parts = len(edges) - 1
        n_groups = max(min(self.n_slabs, n_parts // 2), 1)
        groups = [n_parts // 2 * k // n_groups * 2 for k in range(n_groups)] + [n_parts]
        waiting: list[tuple[NDArray[np.float32], NDArray[Any]]] = []
        for k, (first, stop) in enumerate(pairwise(groups)):
            self.report(k / n_groups, f"{doing}, slab {k + 1} of {n_groups}")
            layers = self.load(lattice, edges[first], edges[stop])
            some, values = chosen(layers)
            packed = PackedAtoms.at(layers.positions[some], lattice, slice(None))
            if in_cells is not None:
                low, high = edges[first] * in_layer, edges[stop] * in_layer
                in_cells[low:high] = np.diff(packed.start[low : high + 1])
            values = values[packed.order]
            parts = [
                slice(int(packed.start[a * in_layer]), int(packed.start[b * in_layer]))
                for a, b in pairwise(edges[first : stop + 1])
            ]
            pairs = [(packed.coords[part], values[part]) for part in parts]

            def add(pair: tuple[NDArray[np.float32], NDArray[Any]]) -> None:
                coords, value = pair
                kernel(0, len(coords), coords, lattice.wrap, value, *grids)

            for_each(add, pairs[::2])
            # The last part has voxels in common with the first one of the next slab, which comes before it.
            odd = [*waiting, *pairs[1::2]]
            waiting = [(coords.copy(), value) for coords, value in odd[-1:]] if stop < n_parts else []
            for_each(add, odd[: len(odd) - len(waiting)])

    def at_voxels(self, values: NDArray[np.float32], lattice: Lattice, doing: str) -> NDArray[np.float32]:
        """(n_atoms,) float32: values at the grid points nearest to the atoms, in no particular order."""
        found, at = self.disk.array(self.outline.n_atoms, np.float32), 0
        slabs = list(pairwise(self.store.edges(self.n_slabs)))
        of_slab = partial(self._at_voxels, values, lattice)
        for some in each(self.disk, "voxels", of_slab, slabs, doing, self._progress):
            found[at : at + len(some["values"])] = some["values"]
            at += len(some["values"])
        return found

    def _at_voxels(
        self, values: NDArray[np.float32], lattice: Lattice, layers: tuple[int, int]
    ) -> dict[str, NDArray[Any]]:
        found = []
        for positions in self.store.places(*layers):
            order = np.arange(len(positions), dtype=np.int32)
            found.append(at_voxels(values, lattice, grid_coordinates(positions, lattice, order)))
        return {"values": np.concatenate(found)}

    def smooth(
        self, values: NDArray[np.float32], lattice: Lattice, sigma: float, scale: float = 1.0
    ) -> NDArray[np.float32]:
        """As `smooth_grid`, of a grid on disk."""
        if not lattice.orthogonal:
            return self._smooth_spectrum(values, lattice, sigma, scale)
        taps = density_kernels.taps_of(lattice.steps, lattice.flat, sigma, scale)
        in_parts(density_kernels.convolve_planes, len(values), values, *taps[1:], lattice.wrap, least=4)
        m, wrap = len(taps[0]) - 1, bool(lattice.wrap[0])
        n, size = len(values), max(BLOCK // values[0].nbytes, 4 * m + 1)
        if n <= size:
            _convolve(values, taps[0], wrap)
            return values
        before = values[n - m :].copy() if wrap else values[:0].copy()
        head = values[:m].copy() if wrap else values[:0].copy()
        room = borrow((min(size, n) + 2 * m, *values.shape[1:]), values.dtype)
        for first in range(0, n, size):
            stop, behind = min(first + size, n), len(before)
            after = values[stop : stop + m]
            missing = m - len(after)
            # Planes beyond the end are the first ones again, before they were changed.
            parts = [before, values[first:stop], after, head[:missing]]
            planes = np.concatenate(parts, out=room[: sum(map(len, parts))])
            before = planes[max(behind + stop - first - m, 0) : behind + stop - first].copy()
            _convolve(planes, taps[0], False)
            values[first:stop] = planes[behind : behind + stop - first]
        return values

    def _smooth_spectrum(
        self, values: NDArray[np.float32], lattice: Lattice, sigma: float, scale: float
    ) -> NDArray[np.float32]:
        """By Fourier transforms along one axis after the other, as the transform of the whole grid does."""
        from scipy import fft

        n0, n1, n2 = lattice.shape
        spectrum = self.disk.array((n0, n1, n2 // 2 + 1), np.complex64)
        for block in blocks(values):
            spectrum[block] = fft.rfft(values[block], axis=2)
        columns = max(BLOCK // (8 * n0 * (n2 // 2 + 1)), 1)

        def along_first(transform: Callable[..., Any], **options: Any) -> None:
            for first in range(0, n1, columns):
                some = np.ascontiguousarray(spectrum[:, first : first + columns])
                spectrum[:, first : first + columns] = transform(some, axis=0, **options)

        along_first(fft.fft)
        for block in blocks(spectrum):
            spectrum[block] = fft.fft(spectrum[block], axis=1)
        reciprocal = 2 * pi * np.linalg.inv(lattice.cell).T
        shape = np.array(lattice.shape)
        gram = reciprocal @ reciprocal.T
        in_parts(density_kernels.smooth_spectrum, n0, spectrum, gram, shape, sigma, least=4)
        for block in blocks(spectrum):
            spectrum[block] *= np.float32(scale)
        along_first(fft.ifft, norm="forward")
        norm = np.float32(1 / (n0 * n1 * n2))
        for block in blocks(spectrum):
            planes = fft.ifft(spectrum[block], axis=1, norm="forward")
            values[block] = fft.irfft(planes, n2, axis=2, norm="forward") * norm
        return values


def _convolve(planes: NDArray[np.float32], taps: NDArray[np.float32], wrap: bool) -> None:
    """Convolve planes along the first axis, in place."""
    flat = planes.reshape(len(planes), -1)
    n_sheets = -(-flat.shape[1] // density_kernels.SHEET)
    in_parts(density_kernels.convolve_sheets, n_sheets, flat, taps, wrap, least=2)


def cells_in_row(lattice: Lattice) -> int:
    """Coarse cells in a row of them, which lies across the first axis."""
    return int(lattice.cells[1:].prod())


def _between(
    atoms: PackedAtoms, lattice: Lattice, first: int, stop: int
) -> tuple[PackedAtoms, NDArray[np.int64]]:
    """The sorted atoms in some rows of coarse cells, and which of the atoms these are."""
    in_row = cells_in_row(lattice)
    low, high = (int(atoms.start[row * in_row]) for row in (first, stop))
    mine = np.flatnonzero((atoms.place >= low) & (atoms.place < high))
    place = atoms.place[mine] - np.int32(low)
    order = np.empty(len(mine), dtype=np.int32)
    order[place] = np.arange(len(mine), dtype=np.int32)
    start = np.clip(atoms.start, low, high) - low
    return PackedAtoms(start, order, place, atoms.coords[low:high]), mine


def blocks(values: NDArray[Any]) -> Iterator[slice]:
    """Blocks of planes of a grid."""
    size = max(BLOCK // max(values[0].nbytes, 1), 1)
    return (slice(first, min(first + size, len(values))) for first in range(0, len(values), size))


def grid_of(values: NDArray[np.float32], lattice: Lattice, pbc: NDArray[np.bool_]) -> Grid:
    """A grid with its place."""
    return Grid(values, lattice.cell, lattice.origin, lattice.wrap & pbc)
