"""The grid of a density: its geometry, and the atoms sorted along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import ceil, floor, log10, prod
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import for_each, in_parts, number_of_parts
from phaseseg.families.segmentation.labels import density_kernels
from phaseseg.families.segmentation.labels.islands import Islands
from phaseseg.families.segmentation.rules import FixedRule
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import sort_by_place
from phaseseg.neighbors.islands import ends_of, group, packed

# Edge of the coarse cells in voxels.
COARSE = 4
# Atoms of a slab, on average at least.
FEWEST = 256
# Distance from the outermost atom to an open end of the grid, in sigma.
OPEN_MARGIN = 5.0
# Beyond this many voxels per atom, the grid of open axes may be mostly empty; a melt has 30.
SPARSE = 100
# Largest fraction of the free memory that a grid may take.
FREE_MEMORY_SHARE = 0.8
# A grid with more voxels per atom than this is almost empty: at the automatic sigma, an atom of the rich
# phase has 10. Such a grid may take this many bytes.
EMPTY, LARGEST_EMPTY = 10_000, 0.75e9
# Voxels along an axis beyond which indices and coordinates lose their meaning.
MOST_ALONG = 1e15


@dataclass(frozen=True)
class Lattice:
    """Geometry of a grid, shared by atoms and voxels.

    to_grid : (3, 3); `(position - origin) @ to_grid` are grid coordinates
    wrap : (3,) bool; axes along which the grid is periodic
    flat : (3,) bool; axes without extent (2D boxes): one voxel thick, ignored in distances
    axes : (3, 3) int64; vector i of the cell is `axes[i] @ frame.cell`, along periodic axes
    islands : where groups of atoms are not in their place but in boxes next to each other
    """

    shape: tuple[int, int, int]
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    wrap: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    axes: NDArray[np.int64] = field(default_factory=lambda: np.eye(3, dtype=np.int64))
    islands: Islands | None = None

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        return np.asarray(self.cell / np.array(self.shape, dtype=float)[:, None])

    @cached_property
    def to_grid(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.steps), dtype=np.float64)

    @cached_property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) distance between the planes of grid points across each axis, Å."""
        return np.asarray(1 / np.linalg.norm(self.to_grid, axis=0))

    @property
    def metric_steps(self) -> NDArray[np.float64]:
        """The steps for distances: zero along flat axes."""
        return np.where(self.flat[:, None], 0.0, self.steps)

    @property
    def orthogonal(self) -> bool:
        gram = self.steps @ self.steps.T
        scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        return bool(np.abs(gram / scale - np.eye(3)).max() < 1e-9)

    @property
    def voxel_volume(self) -> float:
        return float(abs(np.linalg.det(self.steps)))

    @property
    def n_voxels(self) -> int:
        """Number of voxels, of which those between the boxes of islands do not count."""
        sizes = np.array([self.shape]) if self.islands is None else self.islands.size
        return int(sizes.prod(axis=1).sum())

    @property
    def cells(self) -> NDArray[np.int64]:
        """(3,) number of coarse cells along each axis; they hold sorted atoms and facets."""
        return np.asarray(np.maximum(np.array(self.shape) // COARSE, 1))


@dataclass(frozen=True, eq=False)
class PackedAtoms:
    """The atoms sorted by the coarse cells of a lattice.

    start : CSR over the cells; order : (n_atoms,) int32 atom numbers; place : its inverse
    coords : (n_atoms, 3) float32, wrapped grid coordinates in that order
    """

    start: NDArray[np.int64]
    order: NDArray[np.int32]
    place: NDArray[np.int32]
    coords: NDArray[np.float32]

    @classmethod
    def of(cls, frame: Frame, lattice: Lattice) -> PackedAtoms:
        return cls.at(frame.positions, lattice, slice(None))

    @classmethod
    def at(cls, positions: NDArray[np.float64], lattice: Lattice, near: Any) -> PackedAtoms:
        """Sort points, (n, 3) Å, each of which is at the island of the atom `near` it, (n,) integers."""
        n, islands = len(positions), lattice.islands
        start = np.zeros(lattice.cells.prod() + 1, dtype=np.int64)
        order, place = borrow(n, np.int32), borrow(n, np.int32)
        if islands is not None:
            positions = positions + islands.shift[islands.of[near]]
        grid = positions, lattice.origin, lattice.to_grid, lattice.wrap, np.array(lattice.shape)
        cells = lattice.cells, lattice.cells / np.array(lattice.shape)
        in_parts(density_kernels.cells_of, n, *grid, *cells, place, least=4096)
        # Loops over atoms and grid then find both in the cache; ten million atoms in random order take
        # several times as long.
        sort_by_place(start, order, place)
        return cls(start, order, place, grid_coordinates(positions, lattice, order))

    def add(self, kernel: Callable[..., None], lattice: Lattice, *arrays: NDArray[Any]) -> None:
        """Add the atoms to a grid with `kernel(first, stop, coords, wrap, *arrays)`.

        Every second slab of coarse cells is worked on at the same time: their atoms have no voxel in common.
        """
        edges = self.start[:: prod(lattice.cells[1:].tolist())][deposit_edges(lattice, len(self.order))]
        slabs = list(pairwise(edges.tolist()))
        for half in (slabs[::2], slabs[1::2]):
            for_each(lambda part: kernel(*part, self.coords, lattice.wrap, *arrays), half)

    def unsort(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values per packed atom in the order of the frame."""
        out = borrow(len(values), values.dtype)
        return np.take(values, self.place, out=out, mode="clip")


def grid_coordinates(
    positions: NDArray[np.float64], lattice: Lattice, order: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(n, 3) float32, wrapped grid coordinates of points, in some order."""
    coords = borrow((len(order), 3), np.float32)
    grid = positions, lattice.origin, lattice.to_grid, lattice.wrap, np.array(lattice.shape)
    in_parts(density_kernels.pack, len(order), *grid, order, coords, least=4096)
    return coords


def deposit_edges(lattice: Lattice, n_atoms: int) -> list[int]:
    """Edges, in coarse cells along the first axis, of the slabs whose atoms are added to a grid together."""
    n_layers = int(lattice.cells[0])
    n_slabs = max(min(n_layers, number_of_parts(n_atoms, FEWEST)) // 2 * 2, 1)
    return [n_layers * k // n_slabs for k in range(n_slabs + 1)]


class _Size(NamedTuple):
    """Size of a grid before its voxels are counted as integers: they may be more than memory or int64 holds.

    counts : (3,) float64, grid points along the axes; the rest as in `Lattice`
    """

    counts: NDArray[np.float64]
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    wrap: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    islands: Islands | None
    orthogonal: bool


def plan_lattice(
    frame: Frame, rule: FixedRule, n_fields: int | None = None,
    choose: Literal["sigma", "voxel", "cell"] | None = None, free: float | None = None,
) -> Lattice:  # fmt: skip
    """Choose shape and extent of the grid, which lies along the vectors of the reduced cell.

    Along open axes it covers the atoms with a margin; where most of it would be empty, their islands.

    n_fields : number of fields that will be in memory; by default as many as the rule needs
    choose : what the user can change if the grid is too large; by default the voxel if the rule has one,
        otherwise sigma
    free : bytes of memory (or on a disk) that are free; by default those of this machine's memory

    Raises
    ------
    ValueError
        No atoms; sigma beyond half of a periodic axis; a grid that does not fit into memory; a large grid
        that is almost empty.
    """
    where = frame.error_prefix
    if frame.n_atoms == 0:
        raise ValueError(f"{where}the frame has no atoms, so there is nothing to label.")
    axes, frame = frame.axes, frame.reduced
    size = _size(frame, rule, choose)
    needed, allowed, free = _bytes(frame, rule, size, n_fields, free)
    if needed > allowed:
        grid = " x ".join(f"{c:.0f}" if c < 1e9 else f"{c:.3g}" for c in size.counts)
        room = f"{needed / 1e9:.3g} GB of memory where {free / 1e9:.3g} GB are free"
        if needed <= FREE_MEMORY_SHARE * free:
            each = f"{size.counts.prod() / frame.n_atoms:,.0f} voxels per atom"
            room = f"{needed / 1e9:.3g} GB of memory for an almost empty cell ({each})"
        raise ValueError(
            f"{where}voxels of {rule.voxel_size:g} {frame.length_unit} make a grid of {grid}, which needs "
            f"{room}; {_remedy(frame, rule, size, n_fields, choose, free)}."
        )
    counts, cell, origin, wrap, flat, islands, orthogonal = size
    if not orthogonal:
        from scipy.fft import next_fast_len

        edges = np.where(wrap | (islands is None), 1, COARSE)
        least, counts = counts, np.array([
            edge * next_fast_len(int(n // edge), real=True) for n, edge in zip(counts, edges, strict=True)
        ])  # fmt: skip
        if islands is not None:
            cell = np.where(wrap[:, None], cell, cell * (counts / least)[:, None])
    n0, n1, n2 = (int(count) for count in counts)
    return Lattice((n0, n1, n2), cell, origin, wrap, flat, axes, islands)


def _size(frame: Frame, rule: FixedRule, choose: str | None = None) -> _Size:
    """Size of the grid of a reduced frame; ValueError for a sigma beyond half of a periodic axis."""
    where, inverse, unit = frame.error_prefix, np.linalg.inv(frame.cell), frame.length_unit
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    cell, origin, wrap = frame.cell.copy(), frame.origin.copy(), frame.pbc.copy()
    flat = np.zeros(3, dtype=bool)
    short = np.flatnonzero(heights < 2 * rule.sigma)
    if short.size or not frame.pbc.all():
        fractions = (frame.positions - frame.origin) @ inverse
        low, high = fractions.min(axis=0), fractions.max(axis=0)
        if short.size == 1 and frame.n_atoms > 1 and frame.is_flat(short[0]):
            # A 2D box is one voxel thick and periodic, so that nothing varies along it.
            flat[short[0]] = wrap[short[0]] = True
        elif frame.pbc[short].any():
            axis = next(int(axis) for axis in short if frame.pbc[axis])
            remedy = f"choose a sigma of at most {heights[axis] / 2:.3g} {unit} or repeat the cell"
            if choose == "cell":
                remedy = f"repeat the cell, and check that its lengths are in {unit}"
            raise ValueError(
                f"{where}sigma is {rule.sigma:g} {unit}, more than half of the cell's {heights[axis]:.3g} "
                f"{unit} along axis {'abc'[axis]}; {remedy}."
            )
        for axis in np.flatnonzero(~wrap).tolist():
            margin = OPEN_MARGIN * rule.sigma / heights[axis]
            origin = origin + (low[axis] - margin) * frame.cell[axis]
            cell[axis] = frame.cell[axis] * (high[axis] - low[axis] + 2 * margin)
    lengths = np.linalg.norm(cell, axis=1)
    if lengths.max() > MOST_ALONG * rule.voxel_size:
        raise ValueError(
            f"{where}voxels of {rule.voxel_size:g} {unit} cannot be counted in a cell of {lengths.max():.3g} "
            f"{unit}; choose a {_lever(rule)} of at least {2 * lengths.max() / MOST_ALONG:.2g} {unit}."
        )
    counts = np.maximum(np.ceil(lengths / rule.voxel_size - 1e-6), 1)
    counts[flat] = 1
    finer = max(1.0, _sampling(cell, counts) / rule.voxel_size)
    counts = np.where(flat, 1, np.ceil(counts * finer - 1e-6))
    islands: Islands | None = None
    if counts.prod() > SPARSE * frame.n_atoms and not wrap.all():
        step = rule.voxel_size / finer
        islands = _islands(frame, fractions * heights, wrap, counts, step, rule.sigma)
    if islands is not None:
        counts = (islands.corner + islands.size).max(axis=0).astype(float)
        origin, of_step = frame.origin, (step / np.linalg.norm(cell, axis=1))[:, None]
        cell = np.where(wrap[:, None], cell, cell * of_step * counts[:, None])
    orthogonal = Lattice((1, 1, 1), cell, origin, wrap, flat).orthogonal
    return _Size(counts, cell, origin, wrap, flat, islands, orthogonal)


def _bytes(
    frame: Frame, rule: FixedRule, size: _Size, n_fields: int | None = None, free: float | None = None
) -> tuple[float, float, float]:
    """Bytes that a grid needs, that it may take, and that are free."""
    n_voxels = float(size.counts.prod())
    free = float(psutil.virtual_memory().available) if free is None else free
    if n_fields is None:
        # The field, and twice for a mole fraction; voids take two more.
        may_have_voids = not frame.pbc.all() or n_voxels > SPARSE * frame.n_atoms
        n_fields = (1 if rule.field == "number" else 2) + 2 * may_have_voids
    # The FFT of a cell that is not orthogonal has its spectrum and its workspace.
    needed = (4 * n_fields + (0 if size.orthogonal else 8) + 2) * n_voxels
    allowed = FREE_MEMORY_SHARE * free
    if n_voxels > EMPTY * frame.n_atoms:
        allowed = min(allowed, LARGEST_EMPTY)
    return needed, allowed, free


def _remedy(
    frame: Frame, rule: FixedRule, size: _Size, n_fields: int | None, choose: str | None, free: float
) -> str:
    """What to do about a grid that is too large; the length that it names has been tried."""
    if choose == "cell":
        return "cut off the empty space, or open the axes (pbc) along which there is nothing around the atoms"
    needed, allowed, _ = _bytes(frame, rule, size, n_fields, free)
    factor, name = (needed / allowed) ** (1 / 3), choose or _lever(rule)
    # Boxes of islands grow with sigma, and no sigma is above half of a thin cell.
    for _ in range(40):
        length = _rounded_up((rule.sigma if name == "sigma" else rule.voxel_size) * factor)
        other = rule.replace(sigma=length, voxel=None) if name == "sigma" else rule.replace(voxel=length)
        try:
            needed, allowed, _ = _bytes(frame, other, _size(frame, other), n_fields, free)
        except ValueError:
            name = "voxel"
            continue
        if needed <= allowed:
            return f"choose a {name} of at least {length:g} {frame.length_unit}"
        factor *= 1.1
    return f"choose a larger {name}"


def _lever(rule: FixedRule) -> str:
    """Which option sets the voxels of a rule."""
    return "sigma" if rule.voxel is None else "voxel"


def _rounded_up(length: float) -> float:
    """A length with two digits, not below the given one."""
    step = 10.0 ** (floor(log10(length)) - 1)
    return float(f"{ceil(length / step - 1e-9) * step:.6g}")


def _islands(
    frame: Frame, places: NDArray[np.float64], wrap: NDArray[np.bool_], counts: NDArray[np.float64],
    step: float, sigma: float,
) -> Islands | None:  # fmt: skip
    """The islands of atoms in boxes of a grid, if they fill less than half of the one without boxes.

    places : (n_atoms, 3), Å, along the axes; the open ones are perpendicular to all others
    counts : grid points along each axis without boxes; step : Å, between those along open axes
    """
    # No Gaussian reaches into another box, and the outermost coarse cells are empty.
    margin, along = max(OPEN_MARGIN * sigma, COARSE * step), np.flatnonzero(~wrap)
    places = places[:, along]
    of = group(places, 2 * margin)
    low, high = ends_of(places, of)
    size = np.tile(counts.astype(np.int64), (len(low), 1))
    size[:, along] = COARSE * np.ceil((high - low + 2 * margin) / (COARSE * step)).astype(np.int64)
    corner = packed(size, np.concatenate([np.flatnonzero(wrap), along]))
    if 2 * (corner + size).max(axis=0).prod() > counts.prod():
        return None
    heights = np.linalg.norm(frame.cell[along], axis=1)
    shift = (margin + corner[:, along] * step - low) @ (frame.cell[along] / heights[:, None])
    area = frame.volume / heights.prod()
    return Islands(of, corner, size, shift, area * float(np.maximum(high - low, sigma).prod(axis=1).sum()))


def _sampling(cell: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Coarsest wavelength, Å, that the grid does not resolve.

    This is the voxel edge in an orthogonal cell. It is longer in a strongly skewed cell, where grid points
    that are close along the axes lie far apart across the skew.
    """
    reciprocal = np.linalg.inv(cell / counts[:, None]).T
    shifts = np.array(
        [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) != (0, 0, 0)]
    )
    # An axis of a single point has nothing to resolve.
    shifts = shifts[(shifts[:, counts == 1] == 0).all(axis=1)]
    if not len(shifts):
        return 0.0
    return float(1 / np.linalg.norm(shifts @ reciprocal, axis=1).min())
