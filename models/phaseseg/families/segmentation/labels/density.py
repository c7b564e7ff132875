"""Density of the chosen species on a grid and at the atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import in_parts, thread_count
from phaseseg.families.segmentation.labels import density_kernels, field_kernels
from phaseseg.families.segmentation.labels.domains import Domains, find_domains
from phaseseg.families.segmentation.labels.lattice import OPEN_MARGIN, Lattice, PackedAtoms, plan_lattice
from phaseseg.families.segmentation.labels.molecules import SmallMolecules
from phaseseg.families.segmentation.rules import FixedRule
from phaseseg.fields import Grid
from phaseseg.frame import SITE, Frame

# Reach of the exact sums in sigma: the omitted part is 1e-6 of a uniform density.
DIRECT_REACH = 5.5
# The mole fraction is set to zero where the atom density is below this fraction of its mean:
# in a void it would be the quotient of two rounding errors.
VOID_DENSITY = 0.02
LIGHT = ("H", "D", "T", SITE)
"""Species that follow heavier atoms: hydrogen and virtual sites."""


@dataclass(frozen=True, eq=False)
class Field:
    """A field on a grid, its geometry also along open and flat axes, and all atoms sorted along it."""

    grid: Grid
    lattice: Lattice
    atoms: PackedAtoms
    _found: dict[Any, Domains] = field(default_factory=dict, init=False, repr=False)

    def domains(self, level: float, *, keep: str, min_volume: float) -> Domains:
        """The regions at or above a level. The last result is cached."""
        key = level, keep, min_volume
        found = self._found.get(key)
        if found is None:
            found = find_domains(self.grid.values, level, self.lattice, keep=keep, min_volume=min_volume)
            self._found.clear()
            self._found[key] = found
        return found

    def without_dropped(self, level: float, *, keep: str, min_volume: float) -> Grid:
        """The field with the dropped domains mirrored below the level: its isosurface is the interface."""
        domains = self.domains(level, keep=keep, min_volume=min_volume)
        return self._in_place(replace(self.grid, values=domains.without_dropped(self.grid.values, level)))

    @property
    def output(self) -> Grid:
        """The grid with its place in space: of islands the one with the most atoms."""
        return self._in_place(self.grid)

    def _in_place(self, grid: Grid) -> Grid:
        islands = self.lattice.islands
        if islands is None:
            return grid
        island = islands.largest
        return replace(
            grid, values=np.ascontiguousarray(grid.values[islands.box(island)]),
            cell=self.lattice.steps * islands.size[island][:, None],
            origin=grid.origin + islands.corner[island] @ self.lattice.steps - islands.shift[island],
        )  # fmt: skip

    def interpolated(self) -> NDArray[np.float32]:
        """(n_atoms,) float32: the field at every packed atom, by cubic interpolation."""
        out = borrow(len(self.atoms.order), np.float32)
        where = self.atoms.coords, self.lattice.wrap, self.grid.values
        in_parts(field_kernels.interpolate, len(out), *where, out)
        return out

    def slopes(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values (n,) and Cartesian slopes (n, 3) at grid coordinates (n, 3), by cubic interpolation."""
        out = np.empty((len(points), 4))
        where = points, self.lattice.wrap, self.grid.values
        in_parts(field_kernels.interpolate_slope, len(out), *where, out)
        return out[:, 0], out[:, 1:] @ self.lattice.to_grid.T

    def at_voxels(self) -> NDArray[np.float32]:
        """(n_atoms,) float32: the field at the grid point nearest to every packed atom."""
        return at_voxels(self.grid.values, self.lattice, self.atoms.coords)


def at_voxels(
    values: NDArray[np.float32], lattice: Lattice, coords: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n,) float32: values at the grid points nearest to some grid coordinates."""
    out = borrow(len(coords), np.float32)
    in_parts(field_kernels.at_nearest, len(out), coords, lattice.wrap, values, out)
    return out


@dataclass(frozen=True, eq=False)
class DensityField(Field):
    """Smoothed density (or mole fraction) of the chosen species.

    chosen : (n_atoms,) bool, which of the sorted atoms are of the species
    kernel_volume : volume over which the kernel counts atoms, (4 pi)^(3/2) sigma^3, Å^3
    atom_density : atoms of all species per Å^3 (of the cell; along open axes of the atoms' extent)
    units_per_atom : number of units that move independently, for each chosen atom; see `count_units`
    rule : the rule of its species, sigma, voxel and field
    averaged : mean over several frames, so that direct sums over one frame are not its exact value
    """

    chosen: NDArray[np.bool_]
    kernel_volume: float
    atom_density: float
    units_per_atom: float
    rule: FixedRule
    averaged: bool = False


def density_field(
    frame: Frame, rule: FixedRule, lattice: Lattice | None = None, counts: NDArray[np.float32] | None = None
) -> DensityField:
    """Smooth the chosen species on a grid, the expensive part of labeling.

    Depends only on `rule.species`, `sigma`, `voxel` and `field`. The kernel is a Gaussian of standard
    deviation sigma (Å); the deposit's triangular-shaped cloud is divided out, so the field is the
    periodic kernel density itself, apart from aliasing (1e-3 rms of the mean at voxel = sigma/2).

    lattice : reuse this grid instead of choosing one (frames to be averaged share theirs)
    counts : a grid that gets the atoms before they are smoothed

    Raises
    ------
    ValueError
        As `plan_lattice`; also for a species that the frame does not have.
    """
    chosen = frame.species_mask(rule.species)
    per_atom = count_units(frame, chosen) / int(chosen.sum())
    lattice = plan_lattice(frame, rule) if lattice is None else lattice
    atoms = PackedAtoms.of(frame, lattice)
    chosen = chosen[atoms.order]
    values = smoothed_density(atoms, chosen, lattice, rule.sigma, counts)
    atom_density = mean_density(frame, lattice, rule.sigma)
    if rule.field == "mole-fraction":
        everything = smoothed_density(atoms, np.ones(frame.n_atoms, dtype=bool), lattice, rule.sigma)
        np.maximum(everything, np.float32(VOID_DENSITY * atom_density), out=everything)
        values /= everything
    grid = Grid(values, lattice.cell, lattice.origin, lattice.wrap & frame.pbc)
    volume = kernel_volume(lattice, rule.sigma)
    return DensityField(grid, lattice, atoms, chosen, volume, atom_density, per_atom, rule)


def count_units(frame: Frame, chosen: NDArray[np.bool_]) -> int:
    """Number of units among the chosen atoms that move independently, which sets the counting noise.

    These are molecules of up to 30 atoms. Without molecules, hydrogen and virtual sites count only if
    nothing else is chosen.
    """
    alone, n_molecules, small = chosen, 0, SmallMolecules.of_frame(frame)
    if small is not None:
        numbers, _ = small.of(slice(None))
        n_molecules = int(np.count_nonzero(np.bincount(numbers[chosen])[1:]))
        alone = chosen & (numbers == 0)
    counts = np.bincount(frame.species[alone], minlength=len(frame.species_names))
    return n_molecules + units_alone(frame.species_names, counts, n_molecules)


def units_alone(names: Sequence[str], counts: NDArray[np.int64], n_molecules: int = 0) -> int:
    """Units among atoms of no molecule, (n_species,) of each species; see `count_units`."""
    heavy = sum(int(n) for name, n in zip(names, counts, strict=True) if name not in LIGHT)
    return heavy if heavy or n_molecules else int(counts.sum())


def kernel_volume(lattice: Lattice, sigma: float) -> float:
    """Volume over which a Gaussian of sigma (Å) counts atoms, (4 pi)^(3/2) sigma^3 unless an axis is flat."""
    widths = np.array(lattice.shape) * lattice.spacing
    return float(np.where(lattice.flat, widths, 2 * sqrt(pi) * sigma).prod())


def mean_density(frame: Frame, lattice: Lattice, sigma: float) -> float:
    """Atoms per Å^3 of the cell; along open axes of the extent of the atoms, or of each island.

    sigma : of the lattice's plan, Å
    """
    if lattice.islands is not None:
        return frame.n_atoms / lattice.islands.filled
    density = frame.n_atoms / float(abs(np.linalg.det(lattice.cell)))
    widths = np.array(lattice.shape) * lattice.spacing
    # Atoms in one plane fill at least sigma of an open axis; a flat box may have any thickness.
    filled = np.maximum(widths - 2 * OPEN_MARGIN * sigma, sigma)
    return float(np.prod(np.where(lattice.wrap, 1.0, widths / filled), initial=density))


def smoothed_density(
    atoms: PackedAtoms, mask: NDArray[np.bool_], lattice: Lattice, sigma: float,
    counts: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Number density of the packed atoms of a mask, Å^-3, smoothed with a Gaussian of sigma (Å).

    counts : a grid that gets the atoms before they are smoothed
    """
    values = borrow(lattice.shape, np.float32)
    values.fill(0)
    atoms.add(density_kernels.deposit, lattice, mask, values)
    if counts is not None:
        counts[:] = values
    return smooth_grid(values, lattice, sigma, 1 / lattice.voxel_volume)


def smooth_grid(
    values: NDArray[np.float32], lattice: Lattice, sigma: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """Deposited values smoothed with a Gaussian of sigma (Å); may reuse `values`."""
    if lattice.orthogonal:
        taps = density_kernels.taps_of(lattice.steps, lattice.flat, sigma, scale)
        in_parts(density_kernels.convolve_planes, len(values), values, *taps[1:], lattice.wrap, least=4)
        plane = values.reshape(len(values), -1)
        n_sheets = -(-plane.shape[1] // density_kernels.SHEET)
        in_parts(density_kernels.convolve_sheets, n_sheets, plane, taps[0], lattice.wrap[0], least=2)
        return values
    from scipy import fft

    spectrum = fft.rfftn(values, overwrite_x=True, workers=thread_count())
    reciprocal = 2 * pi * np.linalg.inv(lattice.cell).T
    gram = reciprocal @ reciprocal.T
    shape = np.array(lattice.shape)
    in_parts(density_kernels.smooth_spectrum, len(spectrum), spectrum, gram, shape, sigma, least=4)
    spectrum *= np.float32(scale)
    smooth = fft.irfftn(spectrum, lattice.shape, overwrite_x=True, workers=thread_count())
    return np.ascontiguousarray(smooth, dtype=np.float32)


def exact_density(
    density: DensityField, points: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The field and its slope by direct sums over the atoms around: values (n,), Cartesian slopes (n, 3).

    points : (n, 3) grid coordinates, in any image

    Sums reach 5.5 sigma (the omitted part is 1e-6 of a uniform density), coordinates are float32 of the
    grid's (1e-5 of the density in a cell of 1000 Å). A few microseconds per point.
    """
    lattice, atoms, rule = density.lattice, density.atoms, density.rule
    shape = np.array(lattice.shape)
    wrapped = np.where(lattice.wrap, points - np.floor(points / shape) * shape, points)
    steps, edge = lattice.metric_steps, shape / lattice.cells
    # Across flat axes nothing is far away.
    reach = np.where(lattice.flat, 0, np.ceil(DIRECT_REACH * rule.sigma / lattice.spacing / edge))
    sums = np.empty((len(points), 8))
    in_parts(
        density_kernels.direct_sums, len(points), wrapped.astype(np.float32), density.chosen, edge,
        np.linalg.norm(steps, axis=1), reach.astype(np.int64), steps.astype(np.float32), lattice.wrap, shape,
        atoms.start, atoms.coords, lattice.cells, lattice.orthogonal, rule.field == "number", rule.sigma,
        DIRECT_REACH * rule.sigma, sums, least=64,
    )  # fmt: skip
    norm = float(np.where(lattice.flat, lattice.spacing, sqrt(2 * pi) * rule.sigma).prod())
    if rule.field == "number":
        return sums[:, 0] / norm, sums[:, 1:4] / norm
    everything = np.maximum(sums[:, 4], VOID_DENSITY * density.atom_density * norm)
    share = sums[:, 0] / everything
    return share, (sums[:, 1:4] - share[:, None] * sums[:, 5:8]) / everything[:, None]
