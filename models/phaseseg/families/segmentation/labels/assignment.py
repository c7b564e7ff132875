"""Phases of the atoms from a field and the level at which it is cut, for labels and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.labels.composition import BIN_WIDTH, N_BINS, ROWS, composition_of
from phaseseg.families.segmentation.labels.counting import count_molecules, count_phases
from phaseseg.families.segmentation.labels.density import Field, kernel_volume
from phaseseg.families.segmentation.labels.domains import Domains
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.labels.molecules import Grouping, Molecules, by_molecule_sentence
from phaseseg.families.segmentation.labels.profile import InterfaceWidth, Kernel, interface_width
from phaseseg.families.segmentation.labels.shells import shell_volumes
from phaseseg.families.segmentation.labels.voids import Areas, Matter
from phaseseg.fields import Column, Grid, Message, Table
from phaseseg.frame import Frame

# Atoms closer than the first number, Å, to the edge of the boundary have their distance refined with the
# interpolated field; those then closer than the second are refined with the exact field, if available.
SHARPEN_WITHIN = (0.12, 0.01)
# Values that are compared at once, which fit into the cache.
PART = 1 << 16

ExactField = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Values (n,) and Cartesian slopes (n, 3) of a field at grid coordinates (n, 3)."""


@dataclass(frozen=True, eq=False)
class PhaseAssignment:
    """Phase, domain and distance to the interface of every atom, in the order of the frame.

    phase : (n_atoms,) int8; distance : (n_atoms,) float32, Å, signed; domain : (n_atoms,) int32
    volume_fraction : of the rich side; area : Å^2
    domains : table of the rich domains
    areas : Å^2, of the surfaces between the liquids and voids
    volumes : (n_bins,) Å^3, of the space in the bins of the distance
    kernel : of the field; None without an interface
    """

    phase: NDArray[np.int8]
    distance: NDArray[np.float32]
    domain: NDArray[np.int32]
    volume_fraction: float
    area: float
    domains: Table
    areas: Areas
    volumes: NDArray[np.float64]
    kernel: Kernel | None


def assign_phases(
    frame: Frame,
    field: Field,
    level: float,
    domains: Domains,
    rich: NDArray[np.bool_],
    *,
    sigma: float,
    boundary_width: float,
    sharpen: bool = True,
    exact: ExactField | None = None,
    matter: Matter | None = None,
    void_boundary: bool = True,
    molecules: Molecules | None = None,
) -> PhaseAssignment:
    """Domain, distance to the interface and phase of every atom.

    domains : those of the field at the level; there must be an interface
    rich : (n_atoms,) bool, which packed atoms are rich themselves
    sigma : of the Gaussian that smoothed the field, Å
    boundary_width : Å; 0 for no boundary
    sharpen : refine distances close to the edge of the boundary
    exact : the field evaluated without the grid, if available
    matter : where the voids are, if there are any
    void_boundary : whether the boundary includes atoms near a free surface. If not, `rich` is independent of
        the field, and rich atoms count only near voxels that are rich, too.
    molecules : whose centers of mass are the packed atoms; every atom gets what its molecule gets
    """
    free = matter is not None and not void_boundary
    surface = replace(field.grid, values=domains.without_dropped(field.grid.values, level))
    interface = Interface(surface.values, level, field.lattice)
    nearest = borrow(len(field.atoms.order) if free else 0, np.int32)
    phase, distance, domain = assign_atoms(
        field, level, domains, rich, interface, boundary_width=boundary_width, sharpen=sharpen, exact=exact,
        near_voxels=free, nearest=nearest,
    )  # fmt: skip
    areas = Areas(interface.area, 0.0, 0.0)
    if matter is not None:
        void = matter.is_void(interface)
        areas = matter.areas(Field(surface, field.lattice, field.atoms), level, interface, void)
        if free:
            at_void = (phase == BOUNDARY) & void[nearest[field.atoms.place]]
            phase[at_void] = np.where(domain[at_void] > 0, RICH, POOR)
    if molecules is not None:
        phase, distance = phase[molecules.of_atom], distance[molecules.of_atom]
        domain = domain[molecules.of_atom]
    in_domains = np.bincount(domain, minlength=domains.n_kept + 1)
    volumes = shells_around(interface, surface.values, level, field.lattice)
    assigned = of_surface(domains, interface, volumes, field.lattice, sigma, in_domains, areas)
    return replace(assigned, phase=phase, distance=distance, domain=domain)


def assign_atoms(
    field: Field, level: float, domains: Domains, rich: NDArray[np.bool_], interface: Interface, *,
    boundary_width: float, sharpen: bool, exact: ExactField | None, near_voxels: bool = False,
    nearest: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:  # fmt: skip
    """Phase, distance and domain of the atoms of a field, in the order of their frame; see `assign_phases`.

    near_voxels : whether rich atoms count only near voxels that are rich, too
    nearest : (n_atoms,) int32, filled with the number of the facet nearest to each packed atom
    """
    atoms, n_atoms = field.atoms, len(field.atoms.order)
    domain_packed = domains.of_atoms(atoms, rich, near_voxels=near_voxels)
    distance_packed = interface.distance(atoms, nearest)
    if sharpen and boundary_width > 0:
        _sharpen(field, level, boundary_width / 2, domain_packed, distance_packed, exact)
    phase, distance = borrow(n_atoms, np.int8), borrow(n_atoms, np.float32)
    domain = borrow(n_atoms, np.int32)
    half_width = np.float32(boundary_width / 2 if boundary_width > 0 else -1)
    packed = atoms.place, domain_packed, distance_packed
    in_parts(_assign, n_atoms, *packed, half_width, phase, distance, domain, least=8192)
    return phase, distance, domain


def shells_around(
    interface: Interface, values: NDArray[np.float32], level: float, lattice: Lattice
) -> NDArray[np.float64]:
    """`shell_volumes` in the bins of the tables; values : the field without dropped domains."""
    return shell_volumes(interface, values, level, lattice, bin_width=BIN_WIDTH, n_bins=N_BINS)


def of_surface(
    domains: Domains, interface: Interface, volumes: NDArray[np.float64], lattice: Lattice, sigma: float,
    in_domains: NDArray[np.int64], areas: Areas,
) -> PhaseAssignment:  # fmt: skip
    """The assignment without the atoms: what follows from domains and interface.

    volumes : `shells_around` the interface
    in_domains : (n_kept + 1,) atoms in each domain, the first of which is outside of all
    """
    table = _domain_table(domains.voxels, domains.percolates, in_domains[1:], lattice.voxel_volume)
    volume_fraction = float(domains.voxels.sum() / lattice.n_voxels)
    kernel = Kernel(sigma, kernel_volume(lattice, sigma))
    nothing = np.empty(0, np.int8), np.empty(0, np.float32), np.empty(0, np.int32)
    return PhaseAssignment(*nothing, volume_fraction, interface.area, table, areas, volumes, kernel)


def one_phase(n_atoms: int, phase: int, matter: Matter | None = None) -> PhaseAssignment:
    """All atoms in one phase without an interface: distances are NaN, and there are no domains."""
    free = 0.0 if matter is None else matter.surface.area
    return PhaseAssignment(
        np.full(n_atoms, phase, dtype=np.int8),
        np.full(n_atoms, np.nan, dtype=np.float32),
        np.zeros(n_atoms, dtype=np.int32),
        float(phase == RICH),
        0.0,
        _domain_table(np.empty(0, np.int64), np.empty((0, 3), bool), np.empty(0, np.int64), 0.0),
        Areas(0.0, free, 0.0) if phase == RICH else Areas(0.0, 0.0, free),
        np.zeros(N_BINS),
        None,
    )


def has_interface(domains: Domains, grid: Grid) -> bool:
    """Return whether rich domains remain and together leave part of the cell unfilled."""
    return bool(domains.n_kept) and int(domains.voxels.sum()) < grid.values.size


@jit
def _assign(first, stop, place, domain_in, distance_in, half_width, phase, distance, domain):
    """Sign the distances, assign the phases, and restore the frame's order."""
    for atom in range(first, stop):
        slot = place[atom]
        inside = domain_in[slot] > 0
        domain[atom] = domain_in[slot]
        distance[atom] = distance_in[slot] if inside else -distance_in[slot]
        phase[atom] = BOUNDARY if distance_in[slot] <= half_width else (RICH if inside else POOR)


def places_within(values: NDArray[np.float32], level: np.float32, window: np.float32) -> NDArray[np.int64]:
    """Places of the values within `window` of `level`."""
    firsts = range(0, len(values), PART)
    parts = [
        first + np.flatnonzero(np.abs(values[first : first + PART] - level) <= window) for first in firsts
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _sharpen(
    field: Field, level: float, half: float, domain: NDArray[Any], distance: NDArray[np.float32],
    exact: ExactField | None,
) -> None:  # fmt: skip
    """Refine, in place, the distances close to the edge of the boundary.

    Facets are accurate to 0.01 Å and move by as much with the grid, which would change the label of one atom
    in a thousand. From the foot of the perpendicular, the level set lies (value - level) / |slope| away along
    the slope: first by the interpolated field, then, for atoms that are still undecided, by the exact one,
    which does not depend on the grid.
    """
    places = places_within(distance, np.float32(half), np.float32(SHARPEN_WITHIN[0]))
    if not places.size:
        return
    points = field.atoms.coords[places].astype(np.float64)
    side = np.where(domain[places] > 0, 1.0, -1.0)
    before = side * distance[places]
    found, direction = before.copy(), _unit(field.slopes(points)[1])[0]

    def step(which: NDArray[np.int64], at: ExactField) -> None:
        s, along = found[which], direction[which]
        value, slope = at(points[which] - (s[:, None] * along) @ field.lattice.to_grid)
        direction[which], norm = _unit(slope)
        found[which] = s * (along * direction[which]).sum(axis=1) + (value - level) / norm

    for _ in range(2):
        step(np.arange(len(places)), field.slopes)
    if exact is not None:
        step(np.flatnonzero(np.abs(np.abs(found) - half) <= SHARPEN_WITHIN[1]), exact)
    # Where two surfaces are close, the perpendicular may lead to the other one; then the facets are used.
    good = (found * side > 0) & (np.abs(found - before) <= SHARPEN_WITHIN[0])
    distance[places[good]] = np.abs(found[good])


def _unit(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors and lengths; a length of zero counts as very small."""
    norm = np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    return vectors / norm[:, None], norm


def _domain_table(
    voxels: NDArray[np.int64], percolates: NDArray[np.bool_], atoms: NDArray[np.int64], voxel_volume: float
) -> Table:
    return Table(
        "Rich domains",
        {
            "domain": np.arange(1, len(voxels) + 1),
            Column("volume", "Å^3"): voxels * voxel_volume,
            "atoms": atoms,
            **{f"percolates along {axis}": percolates[:, n] for n, axis in enumerate("abc")},
        },
    )


def dropped_sentence(domains: Domains, keep: str, min_volume: float, unit: str) -> Message:
    """The message about rich domains that were not kept; `unit` of lengths."""
    which = "other than the largest" if keep == "largest" else f"smaller than {min_volume:g} {unit}^3"
    plural = "domain was" if domains.n_dropped == 1 else "domains were"
    text = f"{domains.n_dropped} rich {plural} dropped: {which}. Their atoms count as poor."
    return Message(text, "dropped-domains")


@dataclass(frozen=True, eq=False)
class Counts:
    """Numbers of atoms; those of parts of a frame add up to those of the frame.

    each : (n_bins,) of each species in which the rich phase is rich, by distance; total : of them together
    phases, by_distance : of each species, as in `Composition`
    """

    each: dict[str, NDArray[np.int64]]
    total: NDArray[np.int64]
    phases: NDArray[np.int64]
    by_distance: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            {name: self.each[name] + other.each[name] for name in self.each}, self.total + other.total,
            self.phases + other.phases, self.by_distance + other.by_distance,
        )  # fmt: skip


def count_frame(
    frame: Frame, species: Sequence[str], phase: NDArray[np.int8], distance: NDArray[np.float32],
    bulk_distance: float,
) -> Counts:  # fmt: skip
    """Count the atoms of a frame; see `frame_numbers`."""
    n_species = len(frame.species_names)
    return count_masked(masks_of(frame, species), frame.species, n_species, phase, distance, bulk_distance)


def count_masked(
    masks: Mapping[str, NDArray[np.bool_]], codes: NDArray[np.int32], n_species: int,
    phase: NDArray[np.int8], distance: NDArray[np.float32], bulk_distance: float,
) -> Counts:  # fmt: skip
    """Count atoms with these species, and the masks of `masks_of`."""
    end = N_BINS // 2 * BIN_WIDTH

    def by_distance(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.histogram(distance[mask], N_BINS, (-end, end))[0]

    each = {name: by_distance(mask) for name, mask in masks.items()}
    total = each[next(iter(masks))] if len(masks) == 1 else by_distance(any_of(masks, len(codes)))
    return Counts(each, total, *count_phases(phase, distance, codes, n_species, bulk_distance))


def frame_numbers(
    frame: Frame,
    assigned: PhaseAssignment,
    species: Sequence[str],
    bulk_distance: float,
    molecules: Grouping | None = None,
    counts: Counts | None = None,
) -> tuple[dict[str, Any], list[Message]]:
    """Compute a frame's numbers, tables and messages from the phases of its atoms.

    species : in which the rich phase is rich
    bulk_distance : Å from the interface beyond which a phase counts as bulk in the tables
    molecules : by which the phases are assigned
    counts : of the atoms, if they were counted before
    """
    if counts is None:
        counts = count_frame(frame, species, assigned.phase, assigned.distance, bulk_distance)
    composition = composition_of(frame.species_names, counts.phases, counts.by_distance, assigned.volumes)
    messages = []
    if molecules is not None:
        composition = replace(
            composition,
            molecules=count_molecules(molecules, assigned.phase, assigned.distance, bulk_distance),
        )
        if assigned.kernel is not None:
            messages.append(by_molecule_sentence(molecules))
    if composition.without_mass:
        from phaseseg.io.elements import likely_elements  # rarely needed

        text = f"No wt%: {', '.join(composition.without_mass)} is not an element with a known mass."
        if meant := likely_elements(composition.without_mass):
            text += f" If it stands for one, say so with the option 'names': {meant}."
        messages.append(Message(text, "no-mass"))
    rich_side, width = ROWS.index("rich side"), InterfaceWidth(why="there is no interface")
    if assigned.kernel is not None:
        width = interface_width(
            counts.total, assigned.volumes, BIN_WIDTH,
            reach=assigned.kernel.reach, resolution=assigned.kernel.resolution, unit=frame.length_unit,
        )  # fmt: skip
    if width.message:
        messages.append(width.message)
    return {
        "n_domains": len(assigned.domains),
        "rich_atom_fraction": float(composition.atom_fractions()[rich_side]),
        "rich_mass_fraction": float(composition.mass_fractions()[rich_side]),
        "rich_volume_fraction": assigned.volume_fraction,
        "interface_area": assigned.area,
        **{f"area_{between}": area for between, area in assigned.areas._asdict().items()},
        "interface_width": width.width,
        "interface_width_error": width.error,
        "interface_width_resolution": width.resolution,
        "mass_balance_residual": composition.mass_balance_residual(),
        "composition": composition.table(),
        "partition": composition.partition(),
        "domains": assigned.domains,
        "proxigram": composition.proxigram(counts.each),
    }, messages


def masks_of(frame: Frame, species: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Masks (n_atoms,) of the atoms of each species; the frame of a prediction may lack some."""
    masks = {}
    for name in species:
        with suppress(ValueError):
            masks[name] = frame.species_mask(name)
    return masks


def any_of(masks: Mapping[str, NDArray[np.bool_]], n: int) -> NDArray[np.bool_]:
    """(n,) bool, the atoms of any mask."""
    found = np.zeros(n, dtype=bool)
    for mask in masks.values():
        found |= mask
    return found
