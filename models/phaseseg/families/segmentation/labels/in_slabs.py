"""Weak labels of a frame that is larger than memory, slab by slab; the steps are those of `label_frame`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.families.segmentation.fields import POOR, RICH
from phaseseg.families.segmentation.labels import density_kernels
from phaseseg.families.segmentation.labels.assignment import (
    PhaseAssignment,
    assign_atoms,
    count_masked,
    dropped_sentence,
    frame_numbers,
    has_interface,
    of_surface,
    one_phase,
    places_within,
    shells_around,
)
from phaseseg.families.segmentation.labels.automatic import (
    Measured,
    Width,
    coarse_rule,
    find_width,
    rule_of,
)
from phaseseg.families.segmentation.labels.density import (
    DIRECT_REACH,
    VOID_DENSITY,
    DensityField,
    Field,
    exact_density,
    kernel_volume,
    mean_density,
)
from phaseseg.families.segmentation.labels.domains import Domains, find_domains
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms, plan_lattice
from phaseseg.families.segmentation.labels.molecules_on_disk import find_molecules_on_disk
from phaseseg.families.segmentation.labels.profile import Kernel, Spread
from phaseseg.families.segmentation.labels.slabs import Pick, Slab, SlabWork, grid_of
from phaseseg.families.segmentation.labels.threshold import measure_cuts
from phaseseg.families.segmentation.labels.voids import (
    Areas,
    Matter,
    bulk_densities,
    interpolated,
    is_filled,
    matter_of,
)
from phaseseg.families.segmentation.labels.weak_labels import (
    NEAR_CUT,
    PROBES,
    SAFE,
    Verdict,
    smallest,
    verdict_of,
)
from phaseseg.families.segmentation.rules import FixedRule, LabelRule, PredictionRule
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame
from phaseseg.large.store import Chosen, FrameStore, InSlabs, Layers
from phaseseg.large.tasks import Arrays, meanwhile

NO_ATOMS = PackedAtoms(
    np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, 3), np.float32)
)


def check_space(frame: Frame) -> None:
    """Raise ValueError for a frame in two dimensions."""
    if frame.n_dimensions == 2:
        raise ValueError(f"{frame.error_prefix}a frame in two dimensions is not cut into slabs.")


def label_slabs(work: SlabWork, rule: LabelRule) -> InSlabs:
    """Label a frame on disk; see `label_frame`.

    Raises
    ------
    ValueError
        As `label_phases`; also for two dimensions, and for a cell that is mostly empty.
    """
    frame = work.outline
    check_space(frame)
    rule = rule_of(frame, rule, MeasuredInSlabs(work))
    lattice = plan_lattice(frame, rule, free=work.free)
    check_filled(frame, lattice)
    in_cells = work.disk.array(int(lattice.cells.prod()), np.int32)
    density, share = density_on_disk(work, rule, lattice, in_cells)
    found = verdict_of(measure_cuts(density), rule, frame.length_unit)
    return _Labeling(work, rule, density, found, in_cells, share).run()


def check_filled(frame: Frame, lattice: Lattice) -> None:
    """Raise ValueError for a grid of islands."""
    if lattice.islands is not None:
        raise ValueError(
            f"{frame.error_prefix}most of the cell is empty, and such a frame is not cut into slabs. Use "
            f"{option('slabs', 1)}, or cut off the empty space."
        )


def density_on_disk(
    work: SlabWork, rule: FixedRule, lattice: Lattice, in_cells: NDArray[np.int32] | None = None,
    counts: NDArray[np.float32] | None = None, alone: bool = False,
) -> tuple[DensityField, float]:  # fmt: skip
    """As `density_field`, without the atoms; and which part of the atoms is of the species.

    in_cells : zeros, filled with the number of atoms in each coarse cell
    counts : a grid that gets the atoms before they are smoothed
    alone : whether there are no other atoms than those of the species
    """
    frame, chosen = work.outline, work.store.choose(rule.species)
    n_chosen = chosen.outline.n_atoms
    per_atom = work.count_units(chosen) / n_chosen

    values = work.grid(lattice)
    work.smoothed(
        lattice, n_chosen if alone else frame.n_atoms, density_kernels.deposit,
        partial(_of_species, chosen, alone), "density", values, sigma=rule.sigma,
        scale=1 / lattice.voxel_volume, in_cells=in_cells, counts=counts,
    )  # fmt: skip
    counted = chosen.outline if alone else frame
    atom_density = mean_density(counted, lattice, rule.sigma)
    if rule.field == "mole-fraction":
        everything = all_atoms(work, rule.sigma, lattice)
        np.maximum(everything, np.float32(VOID_DENSITY * atom_density), out=everything)
        values /= everything
    grid, volume = grid_of(values, lattice, frame.pbc), kernel_volume(lattice, rule.sigma)
    nothing = np.empty(0, dtype=bool)
    field = DensityField(grid, lattice, NO_ATOMS, nothing, volume, atom_density, per_atom, rule)
    return field, n_chosen / frame.n_atoms


def _of_species(chosen: Chosen, alone: bool, layers: Layers) -> tuple[Any, NDArray[np.bool_]]:
    mask = chosen.among(layers.rows, layers.species)
    return (mask, np.ones(int(mask.sum()), bool)) if alone else (slice(None), mask)


def of_rows(values: NDArray[Any], layers: Layers) -> tuple[Any, NDArray[Any]]:
    """All atoms of layers with their values, from those of the frame."""
    return slice(None), values[layers.rows]


def _all_of(layers: Layers) -> tuple[Any, NDArray[np.bool_]]:
    return slice(None), np.ones(len(layers.rows), dtype=bool)


def species_density(work: SlabWork, sigma: float, lattice: Lattice, chosen: Chosen) -> NDArray[np.float32]:
    """Smoothed density of some atoms, Å^-3."""
    return _density(work, sigma, lattice, partial(_of_species, chosen, False), "density of the species")


def all_atoms(work: SlabWork, sigma: float, lattice: Lattice) -> NDArray[np.float32]:
    """Smoothed density of all atoms, Å^-3."""
    return _density(work, sigma, lattice, _all_of, "density of all atoms")


def _density(work: SlabWork, sigma: float, lattice: Lattice, chosen: Pick, doing: str) -> NDArray[np.float32]:
    values = work.grid(lattice)
    work.smoothed(
        lattice, work.outline.n_atoms, density_kernels.deposit, chosen, doing, values, sigma=sigma,
        scale=1 / lattice.voxel_volume,
    )  # fmt: skip
    return values


class MeasuredInSlabs(Measured):
    """Widths of species in a frame on disk."""

    def __init__(self, work: SlabWork) -> None:
        super().__init__(work.outline)
        self._work = work

    def width(self, species: Sequence[str]) -> Width:
        work, chosen = self._work, self._work.store.choose(species)
        atoms = chosen.outline
        per_atom = work.count_units(chosen) / atoms.n_atoms

        def density(rule: FixedRule, lattice: Lattice) -> tuple[DensityField, NDArray[np.float32]]:
            check_filled(atoms, lattice)
            rule, counts = rule.replace(species=tuple(species)), work.grid(lattice)
            return density_on_disk(work, rule, lattice, counts=counts, alone=True)[0], counts

        frame = work.outline.reduced
        return find_width(
            frame, species, atoms.reduced, per_atom, density,
            has_molecules="molecules" in work.store.others, free=work.free,
        )  # fmt: skip

    @property
    def residues(self) -> list[str]:
        names = self._work.store.words.get("residue", ())
        return list(names) if len(names) > 1 else []

    def area(self, width: Width) -> float:
        rule = coarse_rule(width.species, width.sigma)
        lattice = plan_lattice(self._work.outline, rule, free=self._work.free)
        check_filled(self._work.outline, lattice)
        field, _ = density_on_disk(self._work, rule, lattice)
        return Interface(field.grid.values, measure_cuts(field).steepest, lattice).area


class Phases:
    """Phases of the atoms of a frame on disk, which are assigned to the atoms or to their molecules.

    phase, distance, domain : (n_atoms,) columns, in files
    """

    def __init__(self, work: SlabWork, rule: FixedRule | PredictionRule) -> None:
        self._work, self._rule = work, rule
        self.molecules = find_molecules_on_disk(work, rule.by)
        self._columns = self._new(work.outline.n_atoms)
        self.phase, self.distance, self.domain = self._columns
        self._of_points = self._columns if self.molecules is None else self._new(len(self.molecules))

    def _new(self, n: int) -> list[NDArray[Any]]:
        return [self._work.disk.array(n, kind) for kind in (np.int8, np.float32, np.int32)]

    def each(
        self, lattice: Lattice, name: str, function: Callable[[Slab], Arrays], doing: str,
        reach: float = 0.0, *, keep: bool = False,
    ) -> Iterator[Arrays]:  # fmt: skip
        """`SlabWork.each` with the points to which phases are assigned."""
        centers = None if self.molecules is None else self.molecules.centers
        return self._work.each(lattice, name, function, doing, reach, centers, keep=keep)

    def of_atoms(self, values: NDArray[Any], rows: slice) -> NDArray[Any]:
        """Values of the points at some atoms."""
        return np.asarray(values[rows if self.molecules is None else self.molecules.of_atom[rows]])

    def put(self, found: Arrays) -> None:
        """Assign the points of a slab, from what `of_slab` gives."""
        rows = found.get("point_rows", found["rows"])
        for column, name in zip(self._of_points, ("phase", "distance", "domain"), strict=True):
            column[rows] = found[name]

    @staticmethod
    def of_slab(
        slab: Slab, phase: NDArray[np.int8], distance: NDArray[np.float32], domain: NDArray[np.int32]
    ) -> dict[str, NDArray[Any]]:
        """What the points of a slab are assigned, with rows, in few bytes."""
        few = domain.astype(np.min_scalar_type(int(domain.max(initial=0))))
        found: dict[str, NDArray[Any]] = {"rows": slab.rows.astype(np.int32)}
        found |= {"phase": phase, "distance": distance, "domain": few}
        if slab.points is not slab.own:
            found["point_rows"] = slab.point_rows.astype(np.int32)
        return found

    def done(self, n_domains: int) -> NDArray[np.int64]:
        """After all points, give every atom what its point has; returns `in_domains` of `of_surface`."""
        in_domains = np.zeros(n_domains + 1, dtype=np.int64)
        for rows in self._work.store.rows:
            if self.molecules is not None:
                for column, values in zip(self._columns, self._of_points, strict=True):
                    column[rows] = self.of_atoms(values, rows)
            in_domains += np.bincount(self.domain[rows], minlength=n_domains + 1)
        return in_domains

    def fill(self, one: PhaseAssignment) -> None:
        """Assign all atoms as the only one of an assignment."""
        for rows in self._work.store.rows:
            self.phase[rows], self.distance[rows], self.domain[rows] = one.phase, one.distance, one.domain

    def measured(self, kernel: Kernel, density: NDArray[np.float32]) -> Kernel:
        """`Kernel.measured` from the density at the atoms."""
        spread = Spread(kernel.sigma)
        for rows in self._work.store.rows:
            spread.add(density[rows], self.distance[rows])
        return spread.measured(kernel)

    def numbers(self, assigned: PhaseAssignment) -> tuple[dict[str, Any], list[Message]]:
        """`frame_numbers` with all but the atoms from an assignment."""
        store, rule, counts = self._work.store, self._rule, None
        each, n_species = chosen_each(store, rule.species), len(store.outline.species_names)
        for rows in store.rows:
            codes = store.species_of(rows)
            masks = {name: chosen.among(rows, codes) for name, chosen in each.items()}
            found = count_masked(
                masks, codes, n_species, self.phase[rows], self.distance[rows], rule.bulk_distance
            )
            counts = found if counts is None else counts + found
        assigned = replace(assigned, phase=self.phase, distance=self.distance, domain=self.domain)
        return frame_numbers(
            store.outline, assigned, rule.species, rule.bulk_distance, self.molecules, counts
        )


class _Labeling:
    """The labels of a frame on disk, from its density."""

    def __init__(
        self, work: SlabWork, rule: FixedRule, density: DensityField, found: Verdict,
        in_cells: NDArray[np.int32], share: float,
    ) -> None:  # fmt: skip
        self.work, self.rule, self.density, self.found, self.share = work, rule, density, found, share
        self.frame, self.in_cells = work.outline, in_cells.reshape(density.lattice.cells)
        self.chosen = work.store.choose(rule.species)
        self.phases = Phases(work, rule)
        self.at_atoms = work.disk.array(self.frame.n_atoms, np.float32)

    def run(self) -> InSlabs:
        rule, density, found, phases = self.rule, self.density, self.found, self.phases
        lattice, messages, n_phases = density.lattice, found.messages, found.n_phases
        assigned: PhaseAssignment | None = None
        if n_phases == 2 or rule.phases == 2:
            self.work.report(0.0, "domains")
            domains = find_domains(
                density.grid.values, found.cut, lattice, keep=rule.keep, min_volume=rule.min_volume
            )
            if domains.n_dropped:
                messages.append(dropped_sentence(domains, rule.keep, rule.min_volume, self.frame.length_unit))
            if has_interface(domains, density.grid):
                found_surface = meanwhile(self.work.disk, partial(self._interface, domains))
                probed, error = self._probed()
                matter = self._matter(probed, error)
                self.work.report(0.0, "interface")
                surface, interface = found_surface()
                volumes = meanwhile(
                    self.work.disk, partial(shells_around, interface, surface, found.cut, lattice)
                )
                labels = partial(self._labels, domains, interface, probed, error)
                for part in phases.each(lattice, "labels", labels, "labeling", self._reach, keep=True):
                    self.at_atoms[part["rows"]] = part["density"]
                    phases.put(part)
                in_domains = phases.done(domains.n_kept)
                areas = Areas(interface.area, 0.0, 0.0)
                if matter is not None:
                    field = Field(replace(density.grid, values=surface), lattice, NO_ATOMS)
                    areas = matter.areas(field, found.cut, interface, matter.is_void(interface))
                self.work.report(0.0, "volumes")
                assigned = of_surface(domains, interface, volumes(), lattice, rule.sigma, in_domains, areas)
                if assigned.kernel is not None and rule.field == "number":
                    assigned = replace(assigned, kernel=phases.measured(assigned.kernel, self.at_atoms))
            else:
                n_phases = found.no_domain_left()
        if assigned is None:
            dominant = found.dominant(rule, self.share)
            assigned = one_phase(1, RICH if dominant else POOR, self._matter_of_one(dominant))
            phases.fill(assigned)
            for part in self.work.each(lattice, "at", self._at_atoms, "labeling"):
                self.at_atoms[part["rows"]] = part["density"]
        numbers, more = phases.numbers(assigned)
        fields = Fields(
            {**found.numbers(density.output, n_phases, rule), **numbers},
            (*self.frame.messages, *messages, *more),
        )
        columns: dict[str, NDArray[Any]] = {
            "phase": phases.phase, "phase_density": self.at_atoms, "interface_distance": phases.distance,
            "domain": phases.domain,
        }  # fmt: skip
        return InSlabs(self.work.store, fields, columns, rule)

    def _interface(self, domains: Domains) -> tuple[NDArray[np.float32], Interface]:
        """The field without dropped domains, and where it has the cut."""
        surface = domains.without_dropped(self.density.grid.values, self.found.cut, self.work.copy)
        interface = Interface(surface, self.found.cut, self.density.lattice, self.work.disk.array)
        interface.spread()
        return surface, interface

    def _labels(
        self, domains: Domains, interface: Interface, probed: NDArray[np.int64], error: float, slab: Slab
    ) -> dict[str, NDArray[Any]]:
        points, around = self._fields(slab)
        at_points, rich = self._rich(slab, around, probed, error)
        assigned = assign_atoms(
            points, self.found.cut, domains, rich, interface, boundary_width=self.rule.boundary_width,
            sharpen=self.rule.at == "atom", exact=partial(exact_density, around),
        )  # fmt: skip
        return Phases.of_slab(slab, *assigned) | self._at_atoms(slab, at_points)

    def _at_atoms(self, slab: Slab, at_points: NDArray[np.float32] | None = None) -> dict[str, NDArray[Any]]:
        """The density at the atoms of a slab; at_points : at its points, if it is known."""
        at_own = at_points if at_points is not None and slab.points is slab.own else self._at(slab.own)
        return {"rows": slab.rows.astype(np.int32), "density": slab.own.unsort(at_own)}

    @property
    def _reach(self) -> float:
        """Grid points around a slab of the atoms that its exact densities need."""
        # From the atoms near the boundary, the foot of the perpendicular is this far.
        reach = DIRECT_REACH * self.rule.sigma + self.rule.boundary_width + 1.0
        return reach / float(self.density.lattice.spacing[0]) + 1

    def _fields(self, slab: Slab) -> tuple[Field, DensityField]:
        """The density with the points of a slab, and with the atoms in and around it."""
        chosen = self.chosen.among(slab.layers.rows, slab.layers.species)
        around = replace(self.density, atoms=slab.around, chosen=chosen[slab.around.order])
        return Field(self.density.grid, self.density.lattice, slab.points), around

    def _at(self, points: PackedAtoms) -> NDArray[np.float32]:
        """The density at points by interpolation, or at the voxels in which they are."""
        field = Field(self.density.grid, self.density.lattice, points)
        return field.at_voxels() if self.rule.at == "voxel" else field.interpolated()

    # Which atoms are rich -------------------------------------------------------------------------

    def _probed(self) -> tuple[NDArray[np.int64], float]:
        """Rows of the points nearest to the cut, and the largest error of interpolation among them."""
        if self.rule.at == "voxel":
            return np.empty(0, dtype=np.int64), 0.0
        found = [
            *self.phases.each(self.density.lattice, "probes", self._probes, "finding the cut", self._reach)
        ]
        rows, gaps, errors = (
            np.concatenate([one[name] for one in found]) for name in ("rows", "gaps", "errors")
        )
        chosen = smallest(gaps, PROBES)
        return rows[chosen], float(errors[chosen].max(initial=0.0))

    def _probes(self, slab: Slab) -> dict[str, NDArray[Any]]:
        points, around = self._fields(slab)
        at_points = points.interpolated()
        near, gap = self._near(at_points)
        probes = smallest(gap, PROBES)
        values, _ = exact_density(around, slab.points.coords[near[probes]])
        return {
            "rows": slab.point_rows[slab.points.order[near[probes]]], "gaps": gap[probes],
            "errors": np.abs(values - at_points[near[probes]]),
        }  # fmt: skip

    def _near(self, at_points: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        level = np.float32(self.found.cut)
        near = places_within(at_points, level, np.float32(NEAR_CUT * abs(self.found.cut)))
        return near, np.abs(at_points[near] - level)

    def _rich(
        self, slab: Slab, around: DensityField, probed: NDArray[np.int64], error: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Density at the points of a slab, exact where it decides, and which of them are rich."""
        cut = self.found.cut
        at_points = self._at(slab.points)
        rich = at_points >= np.float32(cut)
        if self.rule.at == "atom":
            near, gap = self._near(at_points)
            rows = slab.point_rows[slab.points.order[near]]
            settled = near[(gap <= SAFE * error) | np.isin(rows, probed)]
            if settled.size:
                values, _ = exact_density(around, slab.points.coords[settled])
                rich[settled], at_points[settled] = values >= cut, values
        return at_points, rich

    # Voids ----------------------------------------------------------------------------------------

    def _matter(self, probed: NDArray[np.int64], error: float) -> Matter | None:
        lattice = self.density.lattice
        if is_filled(self.in_cells, lattice, self.rule.sigma):
            return None
        rich = self.work.disk.array(self.frame.n_atoms, np.bool_)
        molecules = self.phases.molecules
        of_points = rich if molecules is None else self.work.disk.array(len(molecules), np.bool_)
        of_slab = partial(self._rich_points, probed, error)
        for part in self.phases.each(lattice, "rich", of_slab, "finding voids", self._reach):
            of_points[part["point_rows"]] = part["rich"]
        if molecules is not None:
            for rows in self.work.store.rows:
                rich[rows] = self.phases.of_atoms(of_points, rows)
        return find_matter_on_disk(self.work, self.density, self.rule.sigma, rich)

    def _rich_points(self, probed: NDArray[np.int64], error: float, slab: Slab) -> dict[str, NDArray[Any]]:
        rich = self._rich(slab, self._fields(slab)[1], probed, error)[1]
        return {"point_rows": slab.point_rows.astype(np.int32), "rich": slab.points.unsort(rich)}

    def _matter_of_one(self, dominant: bool) -> Matter | None:
        if is_filled(self.in_cells, self.density.lattice, self.rule.sigma):
            return None
        rich = np.broadcast_to(np.array(dominant), self.frame.n_atoms)
        return find_matter_on_disk(self.work, self.density, self.rule.sigma, rich)


def find_matter_on_disk(work: SlabWork, field: Field, sigma: float, rich: NDArray[np.bool_]) -> Matter | None:
    """As `find_matter`, for a field on disk; rich : (n_atoms,) in the order of the frame."""
    lattice, n = field.lattice, work.outline.n_atoms
    whole = rich if rich.any() else ~rich
    occupancy = all_atoms(work, sigma, lattice)
    of_whole = _density(work, sigma, lattice, partial(of_rows, whole), "density of a phase")
    at_atoms, of_whole_there = (work.disk.array(n, np.float32) for _ in range(2))
    both = partial(at_own, field, (occupancy, of_whole))
    for part in work.each(lattice, "voids", both, "density at the atoms"):
        at_atoms[part["rows"]], of_whole_there[part["rows"]] = part["0"], part["1"]
    bulk, rest = bulk_densities(at_atoms, whole, of_whole_there)
    nothing = Field(field.grid, lattice, NO_ATOMS)
    return matter_of(nothing, occupancy, of_whole, bulk, rest, sigma, work.copy)


def at_own(field: Field, grids: Sequence[NDArray[np.float32]], slab: Slab) -> dict[str, NDArray[Any]]:
    """Values of grids at the atoms of a slab, by interpolation: "0", "1" ..., and the rows of the atoms."""
    own = replace(field, atoms=slab.own)
    found = {str(k): slab.own.unsort(interpolated(own, values)) for k, values in enumerate(grids)}
    return {"rows": slab.rows.astype(np.int32), **found}


def chosen_each(store: FrameStore, species: Sequence[str]) -> dict[str, Chosen]:
    """The atoms of each species that the frame has; that of a prediction may lack some."""
    found = {}
    for name in species:
        with suppress(ValueError):
            found[name] = store.choose(name)
    return found
