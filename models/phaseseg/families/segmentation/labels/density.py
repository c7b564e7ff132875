"""Density of the chosen species on a grid and at the atoms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi, sqrt
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.families.segmentation.labels import kernels
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.fields import Grid
from phaseseg.frame import Frame

# Edge of the coarse cells in voxels.
COARSE = 4
# Reach of the exact sums in sigma: what is left out is 1e-6 of a uniform density.
DIRECT_REACH = 5.5
# Open ends of the grid lie so many sigma beyond the outermost atom.
OPEN_MARGIN = 5.0
# A mole fraction is taken as zero where fewer than this share of the mean density of atoms is found:
# in a void it would be the quotient of two rounding errors.
VOID_DENSITY = 0.02
# A grid may take so much of the free memory.
FREE_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Lattice:
    """The grid's place in space: shared by the frame's atoms and the voxels.

    to_grid : (3, 3); `(position - origin) @ to_grid` are grid coordinates
    wrap : (3,) bool; axes along which the grid closes on itself
    flat : (3,) bool; axes of no extent (2D boxes): one voxel thick, left out of distances
    """

    shape: tuple[int, int, int]
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    wrap: NDArray[np.bool_]
    flat: NDArray[np.bool_]

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
        """The steps as far as distances go: zero along flat axes."""
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
    def cells(self) -> NDArray[np.int64]:
        """(3,) coarse cells along each axis: atoms are sorted by them, facets are looked up in them."""
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
        start = np.zeros(lattice.cells.prod() + 1, dtype=np.int64)
        order, place = borrow(frame.n_atoms, np.int32), borrow(frame.n_atoms, np.int32)
        coords = borrow((frame.n_atoms, 3), np.float32)
        kernels.pack(
            frame.positions, lattice.origin, lattice.to_grid, lattice.wrap, np.array(lattice.shape),
            lattice.cells, start, order, place, coords,
        )  # fmt: skip
        return cls(start, order, place, coords)

    def unsort(self, values: NDArray[Any]) -> NDArray[Any]:
        """Per-atom values from the sorted back to the frame's own order."""
        return np.asarray(values[self.place])


@dataclass(frozen=True, eq=False)
class Field:
    """A field on a grid, and the atoms sorted along it.

    grid : the field on the grid
    lattice : its geometry, also along open and flat axes
    atoms : all atoms of the frame, sorted along the grid
    """

    grid: Grid
    lattice: Lattice
    atoms: PackedAtoms

    def interpolated(self) -> NDArray[np.float32]:
        """(n_atoms,) float32: the field at every packed atom, by cubic interpolation."""
        out = borrow(len(self.atoms.order), np.float32)
        kernels.interpolate(self.atoms.coords, self.lattice.wrap, self.grid.values, out)
        return out

    def slopes(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values (n,) and Cartesian slopes (n, 3) at grid coordinates (n, 3), by cubic interpolation."""
        out = np.empty((len(points), 4))
        kernels.interpolate_slope(points, self.lattice.wrap, self.grid.values, out)
        return out[:, 0], out[:, 1:] @ self.lattice.to_grid.T

    def at_voxels(self) -> NDArray[np.float32]:
        """(n_atoms,) float32: the field at the grid point nearest to every packed atom."""
        out = np.empty(len(self.atoms.order), dtype=np.float32)
        kernels.at_nearest(self.atoms.coords, self.lattice.wrap, self.grid.values, out)
        return out


@dataclass(frozen=True, eq=False)
class DensityField(Field):
    """Smoothed density (or mole fraction) of the chosen species.

    chosen : (n_atoms,) bool, which of the sorted atoms are of the species
    kernel_volume : volume over which the kernel counts atoms, (4 pi)^(3/2) sigma^3, Å^3
    atom_density : atoms of all species per Å^3 (of the cell; along open axes of the atoms' extent)
    averaged : mean over several frames, so that direct sums over one frame are not its exact value
    """

    chosen: NDArray[np.bool_]
    kernel_volume: float
    atom_density: float
    mole_fraction: bool = False
    averaged: bool = False


def plan_lattice(frame: Frame, rule: LabelRule, n_fields: int | None = None) -> Lattice:
    """Choose shape and extent of the grid.

    n_fields : how many fields will be in memory; as many as the rule needs if left out

    Raises
    ------
    ValueError
        No atoms; sigma beyond half of a periodic axis; a grid that does not fit into memory.
    """
    where = f"{frame.source}: " if frame.source else ""
    if frame.n_atoms == 0:
        raise ValueError(f"{where}the frame has no atoms, so there is nothing to label.")
    inverse = np.linalg.inv(frame.cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    cell, origin, wrap = frame.cell.copy(), frame.origin.copy(), frame.pbc.copy()
    flat = np.zeros(3, dtype=bool)
    short = np.flatnonzero(heights < 2 * rule.sigma)
    if short.size or not frame.pbc.all():
        fractions = (frame.positions - frame.origin) @ inverse
        low, high = fractions.min(axis=0), fractions.max(axis=0)
        apart = fractions - fractions[:1]
        apart -= np.rint(apart) * frame.pbc  # also of atoms that are in other images of the cell
        coplanar = np.ptp(apart, axis=0) * heights < 1e-3
        if short.size == 1 and coplanar[short[0]] and frame.n_atoms > 1:
            # A 2D box: one voxel thick. It closes on itself, so that nothing varies along it.
            flat[short[0]] = wrap[short[0]] = True
        elif frame.pbc[short].any():
            axis = next(int(axis) for axis in short if frame.pbc[axis])
            raise ValueError(
                f"{where}sigma is {rule.sigma:g} Å, more than half of the cell's {heights[axis]:.3g} Å along "
                f"axis {'abc'[axis]}; choose a sigma of at most {heights[axis] / 2:.3g} Å or repeat the cell."
            )
        for axis in np.flatnonzero(~wrap).tolist():
            margin = OPEN_MARGIN * rule.sigma / heights[axis]
            origin = origin + (low[axis] - margin) * frame.cell[axis]
            cell[axis] = frame.cell[axis] * (high[axis] - low[axis] + 2 * margin)
    lengths = np.linalg.norm(cell, axis=1)
    counts = np.maximum(np.ceil(lengths / rule.voxel_size - 1e-6), 1)
    counts[flat] = 1
    reduced = _sampling(cell, counts)
    counts = np.where(flat, 1, np.ceil(counts * max(1.0, reduced / rule.voxel_size) - 1e-6))
    orthogonal = Lattice((1, 1, 1), cell, origin, wrap, flat).orthogonal
    # Field, and the FFT's spectrum and workspace; or the field alone, and twice for a mole fraction.
    n_fields = n_fields or (1 if rule.field == "number" else 2)
    each = (4 if orthogonal else 16) * n_fields + 2
    needed, free = each * counts.prod(), psutil.virtual_memory().available
    if needed > FREE_MEMORY_SHARE * free:
        least = rule.voxel_size * (needed / (FREE_MEMORY_SHARE * free)) ** (1 / 3)
        raise ValueError(
            f"{where}voxels of {rule.voxel_size:g} Å make a grid of "
            f"{' x '.join(f'{c:.0f}' for c in counts)}, which needs {needed / 1e9:.3g} GB "
            f"of memory where {free / 1e9:.3g} GB are free; choose a voxel of at least {least:.2g} Å."
        )
    if not orthogonal:
        from scipy.fft import next_fast_len

        counts = np.array([next_fast_len(int(count), real=True) for count in counts])
    n0, n1, n2 = (int(count) for count in counts)
    return Lattice((n0, n1, n2), cell, origin, wrap, flat)


def _sampling(cell: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Coarsest wavelength, Å, that the grid's reciprocal lattice leaves unresolved.

    The voxel edge for an orthogonal cell; more for a strongly skewed one, whose grid points lie far
    apart across the skew although they are close along the axes.
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


def density_field(frame: Frame, rule: LabelRule, lattice: Lattice | None = None) -> DensityField:
    """Smooth the chosen species on a grid: the costly half of labeling.

    Depends only on `rule.species`, `sigma`, `voxel` and `field`. The kernel is a Gaussian of standard
    deviation sigma (Å); the deposit's triangular-shaped cloud is divided out, so the field is the
    periodic kernel density itself but for aliasing (1e-3 rms of the mean at voxel = sigma/2).

    Parameters
    ----------
    lattice : reuse this grid instead of choosing one (frames to be averaged share theirs)

    Raises
    ------
    ValueError
        As `plan_lattice`; also for a species that the frame does not have.
    """
    chosen = frame.species_mask(rule.species)
    lattice = plan_lattice(frame, rule) if lattice is None else lattice
    atoms = PackedAtoms.of(frame, lattice)
    chosen = chosen[atoms.order]
    values = _smooth(atoms, chosen, lattice, rule.sigma)
    atom_density = mean_density(frame, lattice, rule.sigma)
    if rule.field == "mole-fraction":
        everything = _smooth(atoms, np.ones(frame.n_atoms, dtype=bool), lattice, rule.sigma)
        np.maximum(everything, np.float32(VOID_DENSITY * atom_density), out=everything)
        values /= everything
    widths = np.array(lattice.shape) * lattice.spacing
    kernel_volume: float = 1.0
    for axis in range(3):
        kernel_volume *= float(widths[axis]) if lattice.flat[axis] else 2 * sqrt(pi) * rule.sigma
    grid = Grid(values, lattice.cell, lattice.origin, lattice.wrap & frame.pbc)
    return DensityField(
        grid, lattice, atoms, chosen, kernel_volume, atom_density, rule.field == "mole-fraction"
    )


def mean_density(frame: Frame, lattice: Lattice, sigma: float) -> float:
    """Atoms of all species per Å^3 of the cell; along open axes of the atoms' extent.

    sigma : Å, for which the lattice was planned
    """
    density = frame.n_atoms / float(abs(np.linalg.det(lattice.cell)))
    widths = (np.array(lattice.shape) * lattice.spacing).tolist()
    for width, wrap in zip(widths, lattice.wrap, strict=True):
        if not wrap:
            # Atoms in one plane fill at least sigma of an open axis; a flat box may be as thin as it likes.
            density *= width / max(width - 2 * OPEN_MARGIN * sigma, sigma)
    return density


def _smooth(
    atoms: PackedAtoms, mask: NDArray[np.bool_], lattice: Lattice, sigma: float
) -> NDArray[np.float32]:
    values = borrow(lattice.shape, np.float32)
    values.fill(0)
    kernels.deposit(atoms.coords, mask, lattice.wrap, values)
    return smooth_grid(values, lattice, sigma, 1 / lattice.voxel_volume)


def smooth_grid(
    values: NDArray[np.float32], lattice: Lattice, sigma: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """What `kernels.deposit` left on the grid, smoothed with a Gaussian of sigma (Å); may reuse `values`."""
    if lattice.orthogonal:
        steps = np.linalg.norm(lattice.steps, axis=1)
        taps = [
            np.ones(1, dtype=np.float32) if flat else kernels.gaussian_taps(sigma, step)
            for step, flat in zip(steps, lattice.flat, strict=True)
        ]
        taps[0] = taps[0] * np.float32(scale)
        kernels.convolve(values, *taps, lattice.wrap)
        return values
    from scipy import fft

    spectrum = fft.rfftn(values, overwrite_x=True)
    reciprocal = 2 * pi * np.linalg.inv(lattice.cell).T
    gram = reciprocal @ reciprocal.T
    kernels.smooth_spectrum(spectrum, gram, np.array(lattice.shape), sigma)
    spectrum *= np.float32(scale)
    return np.ascontiguousarray(fft.irfftn(spectrum, lattice.shape, overwrite_x=True), dtype=np.float32)


def exact_density(
    density: DensityField, rule: LabelRule, points: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The field and its slope by direct sums over the atoms around: values (n,), Cartesian slopes (n, 3).

    points : (n, 3) grid coordinates, in any image

    Sums reach 5.5 sigma (what is left out is 1e-6 of a uniform density), coordinates are float32 of the
    grid's (1e-5 of the density in a cell of 1000 Å). A few microseconds a point.
    """
    lattice, atoms = density.lattice, density.atoms
    shape = np.array(lattice.shape)
    wrapped = np.where(lattice.wrap, points - np.floor(points / shape) * shape, points)
    sums = kernels.direct_sums(
        wrapped.astype(np.float32), density.chosen, lattice.to_grid, lattice.metric_steps, lattice.wrap,
        shape, atoms.start, atoms.coords, lattice.cells, lattice.orthogonal,
        rule.field == "number", rule.sigma, DIRECT_REACH * rule.sigma,
    )  # fmt: skip
    norm = 1.0
    for axis in range(3):
        norm *= float(lattice.spacing[axis]) if lattice.flat[axis] else sqrt(2 * pi) * rule.sigma
    if rule.field == "number":
        return sums[:, 0] / norm, sums[:, 1:4] / norm
    everything = np.maximum(sums[:, 4], VOID_DENSITY * density.atom_density * norm)
    share = sums[:, 0] / everything
    return share, (sums[:, 1:4] - share[:, None] * sums[:, 5:8]) / everything[:, None]
