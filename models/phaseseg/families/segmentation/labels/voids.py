"""Voids: where a frame holds no liquid, and the areas of the surfaces that border on them.

The smoothed number density of all atoms, divided by that of the phase which the atoms belong to, is the
occupancy: 1 in each of two liquids, however different their densities are, 0 in a void and 1/2 at a free
surface. A void is where it is below 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.labels.density import Field, kernel_volume, smoothed_density
from phaseseg.families.segmentation.labels.domains import find_domains
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice

# The poor phase is a vapor, and no liquid, if its density is below this fraction of that of the rich phase.
VAPOR_DENSITY = 0.25
# It is measured where the density of the rich phase is below this fraction of its bulk, off its surface.
AWAY = 0.1
# The density of a phase is this quantile of the density at its atoms, so that surface atoms do not lower it.
BULK_QUANTILE = 0.9
# Volumes in units of the kernel's: smaller voids are cavities of a liquid, smaller pieces of matter
# molecules of a vapor.
CAVITY, MOLECULE = 1.0, 0.2
# Difference of the counts inside and outside of the voids over their noise. Fluctuations of random points
# reach 1.4, a void of the smallest size in a liquid has 2.3.
CONTRAST = 2.0
# Windows of at most this edge, in sigma, exclude voids if each holds at least this fraction of the atoms in
# the window around an atom. In melts the emptiest windows of 4 sigma hold 0.6 of them.
WINDOW, FILLED = 5.0, 0.55
# Slope of the occupancy, per Å, away from a surface: beyond the middle of a gap it rises faster than this.
BEYOND_MIDDLE = 1e-3


class Areas(NamedTuple):
    """Areas of the surfaces between the rich and the poor liquid and the voids, Å^2."""

    rich_poor: float
    rich_void: float
    poor_void: float


@dataclass(frozen=True, eq=False)
class Matter:
    """The occupancy of a frame that has voids.

    field : occupancy minus 1/2 on the lattice of the frame; cavities and vapor are mirrored at 0
    sigma : Å, of the smoothing
    two_liquids : whether the poor phase is a liquid, too, and not a vapor
    """

    field: Field
    sigma: float
    two_liquids: bool

    def depth(self) -> NDArray[np.float32]:
        """(n_x, n_y, n_z) float32, Å: depth under the free surface, exact if it is flat; ±inf far from it."""
        from scipy.special import ndtri

        depth = self.occupancy()
        ndtri(depth, out=depth)
        depth *= np.float32(self.sigma)
        return np.asarray(depth)

    @cached_property
    def surface(self) -> Interface:
        """The free surface."""
        return Interface(self.field.grid.values, 0.0, self.field.lattice)

    def is_void(self, interface: Interface) -> NDArray[np.bool_]:
        """(n_facets,) bool: which facets of the surface of the rich phase border on a void."""
        if not self.two_liquids:
            return np.ones(interface.n_facets, dtype=bool)
        return np.asarray(self.field.slopes(interface.points_off(-self.sigma))[0] < 0)

    def occupancy(self) -> NDArray[np.float32]:
        """(n_x, n_y, n_z) float32: 1 in a liquid, 1/2 at its free surface, 0 in a void."""
        return np.asarray(np.clip(self.field.grid.values + np.float32(0.5), 0, 1))

    def mirrored(self, layer: float, reach: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return mirror images of the atoms below the free surface: they continue the liquids beyond it.

        An atom at most `layer` Å below the surface is reflected at the plane of the facet nearest to it. Up
        to `reach` Å above the surface, further images fill one layer after the other, each the mirror image
        of the one before. An image that would lie in a liquid, or beyond the middle of a narrow gap, is left
        out.

        Returns
        -------
        atoms : (n_images,) int32, atoms of the frame
        shifts : (n_images, 3) float64, Å, from the atoms to their images
        """
        lattice, atoms = self.field.lattice, self.field.atoms
        nearest = np.zeros(len(atoms.coords), dtype=np.int32)
        chosen = np.flatnonzero(self.surface.distance(atoms, nearest, within=layer) <= layer)
        facets = self.surface.points_off(0.0)[nearest[chosen]]
        outward = self.surface.points_off(-1.0)[nearest[chosen]] - facets
        steps, shape = lattice.metric_steps, np.array(lattice.shape)
        toward = facets - atoms.coords[chosen]
        toward -= np.where(lattice.wrap, np.rint(toward / shape) * shape, 0.0)
        normals = outward @ steps
        depth = np.einsum("ij,ij->i", toward @ steps, normals)
        below = depth > 0
        found, shifts = [], []
        for k in range(ceil(reach / layer)):
            height = k * layer + (layer - depth if k % 2 else depth)
            images = atoms.coords[chosen] + (depth + height)[:, None] * outward
            images = np.where(lattice.wrap, images % shape, images)
            occupied, slopes = self.field.slopes(images)
            rising = np.einsum("ij,ij->i", slopes, normals) > BEYOND_MIDDLE
            kept = below & (height <= reach) & (occupied < 0) & ~rising
            found.append(atoms.order[chosen[kept]])
            shifts.append(((depth + height)[:, None] * normals)[kept])
        return np.concatenate(found), np.concatenate(shifts)

    def areas(self, rich: Field, level: float, interface: Interface, is_void: NDArray[np.bool_]) -> Areas:
        """Areas of the surfaces.

        rich : field of the rich phase, without dropped domains; interface : its surface at the level
        is_void : (n_facets,) bool; see `is_void`
        """
        # A share, so that all is all and nothing nothing in spite of rounding.
        sizes = interface.areas.astype(np.float64)
        whole = float(sizes.sum())
        rich_void = interface.area * (float(sizes[is_void].sum()) / whole if whole else 0.0)
        poor_void = 0.0
        if self.two_liquids:
            poor = rich.slopes(self.surface.points_off(self.sigma))[0] < level
            poor_void = float(self.surface.areas[poor].sum(dtype=np.float64))
        return Areas(interface.area - rich_void, rich_void, poor_void)


def find_matter(field: Field, sigma: float, rich: NDArray[np.bool_]) -> Matter | None:
    """Return the occupancy of a frame, or None if it has no voids.

    field : any field of the frame; its lattice and atoms are used
    sigma : Å; standard deviation of the Gaussian
    rich : (n_atoms,) bool; which packed atoms are of the rich phase
    """
    lattice, atoms = field.lattice, field.atoms
    if is_filled(in_windows(field, sigma), lattice, sigma):
        return None
    occupancy = smoothed_density(atoms, np.ones(len(rich), dtype=bool), lattice, sigma)
    at_atoms = interpolated(field, occupancy)
    whole = rich if rich.any() else ~rich
    of_whole = smoothed_density(atoms, whole, lattice, sigma)
    bulk, rest = bulk_densities(at_atoms, whole, interpolated(field, of_whole))
    return matter_of(field, occupancy, of_whole, bulk, rest, sigma)


def interpolated(field: Field, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n_atoms,) float32, other values on the grid of a field at its packed atoms."""
    return Field(replace(field.grid, values=values), field.lattice, field.atoms).interpolated()


def bulk_densities(
    at_atoms: NDArray[np.float32], whole: NDArray[np.bool_], of_whole: NDArray[np.float32]
) -> tuple[np.float32, np.float32 | None]:
    """Densities in the bulk of one phase and of the other, which is None if that is no liquid.

    at_atoms, of_whole : (n_atoms,), density of all atoms and of those of the first phase, at the atoms
    whole : (n_atoms,) bool, atoms of the first phase
    """
    bulk = np.float32(np.quantile(at_atoms[whole], BULK_QUANTILE))
    rest = at_atoms[of_whole < AWAY * bulk]
    two_liquids = bool(rest.size and np.median(rest) >= VAPOR_DENSITY * bulk)
    return bulk, np.float32(np.quantile(rest, BULK_QUANTILE)) if two_liquids else None


def matter_of(
    field: Field, occupancy: NDArray[np.float32], of_whole: NDArray[np.float32], bulk: np.float32,
    rest: np.float32 | None, sigma: float,
    copy: Callable[[NDArray[np.float32]], NDArray[np.float32]] = np.copy,
) -> Matter | None:  # fmt: skip
    """`find_matter` from the densities of all atoms and of those of one phase, whose grids it uses up.

    bulk, rest : as from `bulk_densities`
    copy : makes a grid that may be changed
    """
    lattice = field.lattice

    def on_grid(values: NDArray[np.float32]) -> Field:
        return Field(replace(field.grid, values=values), lattice, field.atoms)

    if rest is not None:
        occupancy -= of_whole
        occupancy /= rest
        of_whole /= bulk
        occupancy += of_whole
    else:
        occupancy /= bulk
    del of_whole  # a field less while the voids are found
    occupancy -= np.float32(0.5)
    if occupancy.min() >= 0:
        return None
    kernel = kernel_volume(lattice, sigma)
    void = np.negative(occupancy, out=occupancy)
    voids = find_domains(void, 0.0, lattice, min_volume=CAVITY * kernel)
    if not voids.n_kept:
        return None
    void = voids.without_dropped(void, 0.0, copy)
    inside = void >= 0
    if inside.all():
        return None  # voxels are too coarse for any atom to fill one
    full, empty = (0.5 - float(void.mean(dtype=np.float64, where=side)) for side in (~inside, inside))
    count = float(bulk) * kernel
    if (full - empty) * count < CONTRAST * sqrt((full + max(empty, 0.0)) * count + 1):
        return None
    occupancy = np.negative(void, out=void)
    pieces = find_domains(occupancy, 0.0, lattice, min_volume=MOLECULE * kernel)
    mirrored = pieces.without_dropped(occupancy, 0.0, copy)
    return Matter(on_grid(mirrored), sigma, rest is not None)


def in_windows(field: Field, sigma: float) -> NDArray[np.integer[Any]]:
    """Numbers of atoms in the coarse cells of the lattice, or in smaller ones if `is_filled` needs them."""
    lattice, atoms = field.lattice, field.atoms
    shape = np.array(lattice.shape)
    fine = np.ceil(2 * shape * lattice.spacing / (WINDOW * sigma)).astype(np.int64)
    cells = np.where(lattice.flat, lattice.cells, np.maximum(fine, lattice.cells))
    if not lattice.wrap.all() or (cells == lattice.cells).all():
        return np.diff(atoms.start).reshape(lattice.cells)
    places = (atoms.coords * (cells / shape).astype(np.float32)).astype(np.int32)
    flat = np.ravel_multi_index(tuple(places.T), tuple(cells), mode="clip")
    return np.bincount(flat, minlength=cells.prod()).reshape(cells)


def is_filled(in_cells: NDArray[np.integer[Any]], lattice: Lattice, sigma: float) -> bool:
    """Whether counts of atoms in windows exclude voids; False where they cannot tell.

    in_cells : (n_0, n_1, n_2) numbers of atoms in equal cells; two along each axis make a window
    """
    edges = 2 * np.array(lattice.shape) / in_cells.shape * lattice.spacing
    if not lattice.wrap.all() or (edges[~lattice.flat] > WINDOW * sigma).any():
        return False
    counts = in_cells
    for axis in np.flatnonzero(~lattice.flat).tolist():
        counts = counts + np.roll(counts, 1, axis)
    # The mean over atoms, not over windows: most windows may be empty.
    return bool(counts.min() >= FILLED * (counts**2).sum() / counts.sum())
