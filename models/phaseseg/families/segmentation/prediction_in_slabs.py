"""Predictions for a frame that is larger than memory, slab by slab; the steps are those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow, keeping
from phaseseg.display import option
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.inference import NetworkOutput
from phaseseg.families.segmentation.labels import density_kernels
from phaseseg.families.segmentation.labels.assignment import (
    PhaseAssignment,
    assign_atoms,
    dropped_sentence,
    has_interface,
    of_surface,
    one_phase,
    shells_around,
)
from phaseseg.families.segmentation.labels.density import Field
from phaseseg.families.segmentation.labels.domains import Domains, find_domains
from phaseseg.families.segmentation.labels.in_slabs import (
    NO_ATOMS,
    Phases,
    at_own,
    check_filled,
    check_space,
    chosen_each,
    find_matter_on_disk,
    of_rows,
    species_density,
)
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice, plan_lattice
from phaseseg.families.segmentation.labels.slabs import Slab, SlabWork, grid_of
from phaseseg.families.segmentation.labels.voids import Areas, is_filled
from phaseseg.families.segmentation.model import (
    Scores,
    SegmentationModel,
    probabilities_of,
)
from phaseseg.families.segmentation.rules import LabelRule, PredictionRule
from phaseseg.families.segmentation.score_field import VOID_DENSITY, corrected_scores
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame
from phaseseg.large.cut import cut
from phaseseg.large.disk import Disk
from phaseseg.large.store import FrameStore, InSlabs
from phaseseg.large.tasks import Arrays, each
from phaseseg.nn.device import Device
from phaseseg.specs import Progress

UNUSED = 3 * 2**30
"""Bytes of the arrays of a slab of the usual size that the networks keep for the next slab."""


def predict_slabs(
    store: FrameStore, disk: Disk, n_slabs: int, model: SegmentationModel, rule: PredictionRule, *,
    device: Device = "auto", progress: Progress | None = None,
) -> InSlabs:  # fmt: skip
    """Apply the networks to a frame on disk; see `Family.slabs`.

    Raises
    ------
    ValueError
        As `predict`; also for two dimensions, the boundary "voxels", and a frame with free surfaces.
    """
    check_space(store.outline)
    if rule.boundary == "voxels":
        raise ValueError(
            f"{store.outline.error_prefix}the boundary 'voxels' needs the whole frame in memory; choose "
            "'interface'."
        )
    return _Prediction(SlabWork(store, disk, n_slabs, progress), model, rule, device).run()


def scores_of_slab(
    model: SegmentationModel, device: Device, frame: Frame, own: NDArray[np.bool_], rows: NDArray[np.int32]
) -> dict[str, NDArray[Any]]:
    """Scores of the atoms of a slab without those of its halo, and a comparison of their features."""
    output = model.network(device)(frame, model.codes(frame), own)
    n_members, _, n_outputs = output.logits.shape
    of_own = borrow((n_members, int(np.count_nonzero(own)), n_outputs), np.float32)
    np.take(output.logits, np.flatnonzero(own), axis=1, out=of_own, mode="clip")
    scores = model.scores_of(frame, replace(output, logits=of_own))
    found = {
        "rows": rows, "score": scores.score, "probability": scores.probability,
        "uncertainty": scores.uncertainty, "n_outside": output.n_outside, "lowest": output.lowest,
        "highest": output.highest,
    }  # fmt: skip
    return found if scores.boundary is None else {**found, "boundary": scores.boundary}


class _Prediction:
    def __init__(
        self, work: SlabWork, model: SegmentationModel, rule: PredictionRule, device: Device
    ) -> None:
        self.work, self.model, self.rule, self.frame = work, model, rule, work.outline
        self.device = device
        n, new = self.frame.n_atoms, work.disk.array
        self.score, self.probability = new(n, np.float32), new(n, np.float32)
        self.between = new(n, np.float32) if model.config.outputs == 3 else None
        learned = self.between is not None and rule.boundary == "learned"
        self.phases = phases = Phases(work, rule)
        self.columns: dict[str, NDArray[Any]] = {
            "phase": phases.phase, "phase_probability": new((n, 3 if learned else 2), np.float32),
            "phase_uncertainty": new(n, np.float32), "interface_distance": phases.distance,
            "domain": phases.domain,
        }  # fmt: skip
        self.learned = self.between if learned else None

    # Networks -------------------------------------------------------------------------------------

    def _scores(self) -> Scores:
        """Run the networks slab by slab; returns the scores without their arrays for the atoms."""
        model, width = self.model, self.model.config.n_features
        n_outside = np.zeros(width, dtype=np.int64)
        low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
        done = 0
        for found in self._scores_of_slabs():
            rows = found["rows"]
            done += len(rows)
            n_outside += found["n_outside"]
            low, high = np.minimum(low, found["lowest"]), np.maximum(high, found["highest"])
            self.score[rows], self.probability[rows] = found["score"], found["probability"]
            self.columns["phase_uncertainty"][rows] = found["uncertainty"]
            if self.between is not None:
                self.between[rows] = found["boundary"]
            between = None if self.learned is None else found["boundary"]
            self.columns["phase_probability"][rows] = probabilities_of(found["probability"], between)
        assert done == self.frame.n_atoms
        nothing = np.empty(0, dtype=np.float32)
        outside = float(n_outside.max(initial=0) / self.frame.n_atoms)
        output = NetworkOutput(np.empty((0, 0, 0), np.float32), n_outside, low, high)
        return Scores(
            nothing, nothing[None], nothing, nothing, None, outside,
            model.features_outside(self.frame, output),
        )  # fmt: skip

    def _scores_of_slabs(self) -> Iterator[Arrays]:
        """`scores_of_slab` of all slabs with atoms."""
        store, work = self.work.store, self.work
        slabs = [ends for ends in pairwise(store.edges(work.n_slabs)) if store.filled[slice(*ends)].any()]
        with keeping(UNUSED):
            yield from each(
                work.disk, "scores", self._scores_of, slabs, "running the networks", work.report, keep=True
            )

    def _scores_of(self, ends: tuple[int, int]) -> dict[str, NDArray[Any]]:
        return scores_of_slab(self.model, self.device, *self._slab(*ends))

    def _slab(self, first: int, stop: int) -> tuple[Frame, NDArray[np.bool_], NDArray[np.int32]]:
        """Some layers with their halo, which atoms are those of the layers, and their rows in the frame."""
        store, n, halo = self.work.store, self.work.store.n_layers, self.model.halo
        frame = Frame(**{name: getattr(self.frame.reduced, name) for name in self.frame.__dataclass_fields__})
        begin, end = self._ends(first, stop)
        margin = int(np.ceil(halo * float(np.linalg.norm(np.linalg.inv(frame.cell)[:, 0])) * n)) + 1
        around = np.arange(first - margin, stop + margin)
        layers = store.load(np.unique(around % n if frame.pbc[0] else np.clip(around, 0, n - 1)))
        some = frame.replace(positions=layers.positions, species=layers.species)
        layer = store.layer_of(some)
        # Half an edge more, because the layers decide which atoms are there, and not rounding.
        slab = cut(some, halo + 1e-6, begin - 1e-9, end + 1e-9)
        own = slab.own & ((layer >= first) & (layer < stop))[slab.atoms]
        return slab.frame, own, layers.rows[slab.atoms[own]].astype(np.int32)

    def _ends(self, first: int, stop: int) -> tuple[float, float]:
        """Fractions along the first vector at which some layers begin and end, with all that is in them."""
        n = self.work.store.n_layers
        begin, end = first / n, stop / n
        if not self.frame.pbc[0]:
            low, high = self.frame.ends.range(0)
            begin, end = (min(low, begin) if first == 0 else begin), (max(high, end) if stop == n else end)
        return begin, end

    # Field ----------------------------------------------------------------------------------------

    def _field(self) -> Field:
        """The smoothed scores on a grid on disk."""
        work, smoothing = self.work, self.model.smoothing
        sigma = smoothing["sigma"]
        rule = LabelRule(("Fe",), sigma, smoothing["voxel"]).fixed()
        lattice = plan_lattice(self.frame, rule, n_fields=4, choose="cell", free=work.free)
        check_filled(self.frame, lattice)
        mean, density = work.grid(lattice), work.grid(lattice)
        in_cells = work.disk.array(int(lattice.cells.prod()), np.int32)
        work.smoothed(
            lattice, self.frame.n_atoms, density_kernels.deposit_weighted, partial(of_rows, self.score),
            "smoothing scores", mean, density, sigma=sigma, in_cells=in_cells,
        )  # fmt: skip
        void = VOID_DENSITY * float(np.median(work.at_voxels(density, lattice, "finding voids")))
        work.report(0.0, "correcting scores")
        values = corrected_scores(
            mean, density, work.grid(lattice), lattice, sigma=sigma, bound=smoothing["bound"],
            curvature=smoothing["curvature"], void=void,
        )  # fmt: skip
        del mean, density
        field = Field(grid_of(values, lattice, self.frame.pbc), lattice, NO_ATOMS)
        self._check_surfaces(field, in_cells)
        return field

    def _check_surfaces(self, field: Field, in_cells: NDArray[np.int32]) -> None:
        """Raise ValueError for a frame with voids."""
        sigma = self.model.label_rule.sigma
        if is_filled(in_cells.reshape(field.lattice.cells), field.lattice, sigma):
            return
        rich = self.work.disk.array(self.frame.n_atoms, np.bool_)
        np.greater_equal(self.score, 0, out=rich)
        if find_matter_on_disk(self.work, field, sigma, rich) is not None:
            raise ValueError(
                f"{self.frame.error_prefix}the frame has free surfaces, at which networks need mirror images "
                f"of the whole frame. Use {option('slabs', 1)} with more memory; weak labels (phaseseg "
                "label) may be made in slabs."
            )

    # Phases ---------------------------------------------------------------------------------------

    def run(self) -> InSlabs:
        """The prediction."""
        model, rule, frame = self.model, self.rule, self.frame
        scores = self._scores()
        field, level = self._field(), model.level(rule.threshold)
        assigned, messages = self._assign(field, level)
        n_phases = 2 if len(assigned.domains) else 1
        messages += model.one_network("phase")
        numbers, more = self.phases.numbers(assigned)
        uncertainty = self.columns["phase_uncertainty"]
        fields = Fields(
            {
                "score_grid": field.output, "n_phases": n_phases,
                "probability_threshold": float(rule.threshold), "score_threshold": level,
                "mean_uncertainty": float(uncertainty.mean(dtype=np.float64)),
                "outside_training": scores.outside, **numbers,
            },
            (*frame.messages, *messages, *model.validity(frame, scores), *more),
        )  # fmt: skip
        return InSlabs(self.work.store, fields, self.columns, rule)

    def _assign(self, field: Field, level: float) -> tuple[PhaseAssignment, list[Message]]:
        model, rule, frame, phases = self.model, self.rule, self.frame, self.phases
        lattice, values, messages = field.lattice, field.grid.values, list[Message]()
        self.work.report(0.0, "domains")
        domains = find_domains(values, level, lattice, keep=rule.keep, min_volume=rule.min_volume)
        if domains.n_dropped:
            messages.append(dropped_sentence(domains, rule.keep, rule.min_volume, frame.length_unit))
        whole = RICH if domains.n_kept else POOR
        if has_interface(domains, field.grid):
            sigma = model.smoothing["sigma"]
            surface = domains.without_dropped(values, level, self.work.copy)
            interface = Interface(surface, level, lattice, self.work.disk.array)
            density = self._species_density(lattice, sigma)
            at_atoms = self.work.disk.array(0 if density is None else frame.n_atoms, np.float32)
            interface.spread()
            of_slab = partial(self._phases_of, field, level, domains, interface, density)
            for part in phases.each(lattice, "phases", of_slab, "assigning phases"):
                phases.put(part)
                if density is not None:
                    at_atoms[part["rows"]] = part["0"]
            in_domains = phases.done(domains.n_kept)
            if 0 < in_domains[1:].sum() < frame.n_atoms:
                self._learn_boundary()
                self.work.report(0.0, "volumes")
                areas = Areas(interface.area, 0.0, 0.0)
                volumes = shells_around(interface, surface, level, lattice)
                assigned = of_surface(domains, interface, volumes, lattice, sigma, in_domains, areas)
                if density is not None and assigned.kernel is not None:
                    assigned = replace(assigned, kernel=phases.measured(assigned.kernel, at_atoms))
                number = f"{domains.n_kept} rich domain{'s' * (domains.n_kept > 1)}"
                return assigned, [Message(f"Two phases: {number} by {model.name}.", "two-phases"), *messages]
            whole = RICH if in_domains[1:].sum() else POOR
        missing = "poor" if whole == RICH else "rich"
        verdict = Message(f"One phase by {model.name}: no {missing} region is left.", "one-phase")
        assigned = one_phase(1, whole)
        phases.fill(assigned)
        return assigned, [verdict, *messages]

    def _phases_of(
        self, field: Field, level: float, domains: Domains, interface: Interface,
        density: NDArray[np.float32] | None, slab: Slab,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        points = replace(field, atoms=slab.points)
        at_points = self.score[slab.rows][slab.own.order]
        if self.phases.molecules is not None:
            at_points = points.interpolated()
        assigned = assign_atoms(
            points, level, domains, at_points >= np.float32(level), interface, sharpen=True, exact=None,
            boundary_width=self.rule.boundary_width if self.rule.boundary == "interface" else 0.0,
        )  # fmt: skip
        return Phases.of_slab(slab, *assigned) | ({} if density is None else at_own(field, [density], slab))

    def _learn_boundary(self) -> None:
        """Put atoms, or molecules, into the boundary that the networks predict."""
        if self.learned is None:
            return
        found, molecules = [self.learned, self.probability], self.phases.molecules
        if molecules is not None:
            found = [molecules.mean(self.work, values) for values in found]
        for rows in self.work.store.rows:
            between, p = (self.phases.of_atoms(values, rows).astype(np.float32) for values in found)
            boundary = between > (1 - between) * np.maximum(p, 1 - p)
            self.phases.phase[rows][boundary] = BOUNDARY

    def _species_density(self, lattice: Lattice, sigma: float) -> NDArray[np.float32] | None:
        """Smoothed density of the species in which the rich phase is rich; None if there are none."""
        names = list(chosen_each(self.work.store, self.rule.species))
        if not names:
            return None
        return species_density(self.work, sigma, lattice, self.work.store.choose(names))
