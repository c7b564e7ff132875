"""The modifiers for two liquids: weak labels, phase segmentation, and types restored from files."""

from __future__ import annotations

from typing import Any

from ovito.traits import OvitoObject
from ovito.vis import SurfaceMeshVis, VoxelGridVis
from traits.api import Bool, Enum, Float, Range, Str, Union

from ovito_phaseseg.base import (
    AnalysisModifier,
    CheckedModifier,
    Evaluation,
    Job,
    NetworkModifier,
    Steps,
    error_prefix,
    reads,
    types_trait,
)
from phaseseg.families import FAMILIES

PROBABILITY_COLORS = [(0.27, 0.46, 0.71), (0.97, 0.96, 0.93), (0.85, 0.47, 0.16)]
UNCERTAINTY_COLORS = [(0.97, 0.96, 0.93), (0.55, 0.32, 0.62), (0.25, 0.05, 0.35)]
ATOM_FIELDS = [spec for spec in FAMILIES["segmentation"].fields if spec.level == "atom"]
PHASE = ATOM_FIELDS[0]
PHASE_COLORS = [entry.color for entry in PHASE.classes]


def _interface_vis() -> Any:
    return OvitoObject(
        SurfaceMeshVis, title="Phase interface", show_cap=False, surface_color=(0.93, 0.86, 0.56),
        surface_transparency=0.4,
    )  # fmt: skip


class _PhaseOutput(AnalysisModifier):
    """What labels and predictions have in common: how they are put into OVITO's data."""

    prefix = "PhaseSegmentation."
    tables = "phase-"

    def put(self, now: Evaluation) -> Steps[None]:
        """Write the grid, the interface and, on request, the rows of the composition as attributes."""
        from ovito_phaseseg import convert

        rule, field = now.job.rule, getattr(now.output, "field", now.output)  # of scores, or the density
        if self.voxel_grid:
            convert.put_grid(now.data, rule.grid_name, field.grid, self.grid_vis)
        if self.interface_mesh and now.fields["n_domains"]:
            yield 0.8
            if not field.lattice.flat.any():
                level = now.fields[rule.level_name]
                grid = field.without_dropped(level, keep=rule.keep, min_volume=rule.min_volume)
                convert.put_isosurface(
                    now.data, rule.grid_name, grid, level, "phase-interface", "Phase interface",
                    self.interface_vis,
                )  # fmt: skip
            else:
                now.messages.append("The interface of a 2D cell is a line; no surface mesh was made.")
        if self.table_attributes:
            convert.put_rows(now.data, now.fields["composition"], self.prefix)


class WeakPhaseLabels(_PhaseOutput):
    """Label every particle as rich or poor in a chosen species, or as part of the boundary.

    Parameters
    ----------
    species : str, default "Fe"
        Species whose density distinguishes the phases; several names separated by commas.
    types : str, default ""
        Names of the particle types 1, 2, ..., separated by commas (`"Fe,Mg,Si,O,N"`), for files
        without element names. They replace the names in the file.
    sigma : float, default 1.5 Å
        Standard deviation of the Gaussian that smooths the density.
    voxel : float or None, default None
        Edge of a voxel, Å; None or 0 for half of sigma.
    field : "number" or "mole-fraction", default "number"
        Number density of the species (Å^-3), or its fraction of all atoms nearby.
    threshold : "steepest", "two-means", "midpoint" or "number", default "steepest"
        How the threshold of the density is chosen; "number" takes `threshold_value`.
    threshold_value : float, default 0
        The threshold, Å^-3 or mole fraction; used with `threshold="number"`.
    phases : "auto" or "2", default "auto"
        "auto" decides whether there are two phases at all; "2" always separates two.
    at : "atom" or "voxel", default "atom"
        Density at the particle self, or in its voxel (as in the paper).
    keep : "all" or "largest", default "all"
        Rich domains to keep: all of at least `min_volume`, or only the largest.
    min_volume : float, default 200 Å^3
        Smaller domains are ignored as noise.
    boundary_width : float, default 0.68 Å
        Particles within half of it from the interface are boundary.
    bulk_distance : float, default 5 Å
        Bulk begins at this distance from the interface.
    color_by_phase : bool, default False
        Color the particles by their phase.
    interface_mesh : bool, default True
        Output the interface as a surface mesh.
    voxel_grid : bool, default True
        Output the density as a voxel grid.
    table_attributes : bool, default False
        Output the composition of each phase also as attributes (`PhaseSegmentation.rich.Fe_wt_percent`).

    Outputs are the particle properties `Phase` (typed: 0 poor, 1 rich, 2 boundary), `Phase Density`,
    `Interface Distance` (Å, positive in the rich phase) and `Domain` (1 is the largest), the grid
    `phase-density`, the surface `phase-interface`, four tables and the attributes `PhaseSegmentation.*`. The
    density of the current frame is kept until one of the first two groups of parameters changes.
    """

    heading = "Weak phase labels"
    remedy = "choose larger voxels"

    species = Str("Fe", label="Species (comma separated)", ovito_group="Species")
    types = types_trait("Species", "Fe,Mg,Si,O,N")

    sigma = Range(low=0.0, value=1.5, label="Sigma (Å)", ovito_group="Density")
    voxel = Union(None, Float, label="Voxel (Å; none = sigma/2)", ovito_group="Density")
    field = Enum("number", "mole-fraction", label="Field", ovito_group="Density")

    threshold = Enum("steepest", "two-means", "midpoint", "number", **reads("Threshold", "Phases"))
    threshold_value = Float(0.0, **reads("Number (Å⁻³ or mole fraction)", "Phases"))
    phases = Enum("auto", "2", **reads("Number of phases", "Phases"))
    at = Enum("atom", "voxel", **reads("Density at the", "Phases"))
    keep = Enum("all", "largest", **reads("Domains kept", "Phases"))
    min_volume = Range(low=0.0, value=200.0, **reads("Smallest domain (Å³)", "Phases"))

    boundary_width = Range(low=0.0, value=0.68, **reads("Boundary width (Å)", "Interface"))
    bulk_distance = Range(low=0.0, value=5.0, **reads("Bulk begins at (Å)", "Interface"))

    color_by_phase = Bool(False, **reads("Color particles by phase", "Output"))
    interface_mesh = Bool(True, **reads("Interface as surface mesh", "Output"))
    voxel_grid = Bool(True, **reads("Density as voxel grid", "Output"))
    table_attributes = Bool(False, **reads("Tables as attributes, too", "Output"))
    interface_vis = _interface_vis()
    grid_vis = OvitoObject(VoxelGridVis, title="Phase density", enabled=False)

    def job(self, now: Evaluation) -> Steps[Job]:
        """The density, and the labels that follow from it."""
        from phaseseg.families.segmentation.labels.density import density_field
        from phaseseg.families.segmentation.labels.weak_labels import label_density

        rule = self.rule()
        yield 0.0
        return Job(
            rule,
            key=(self.types, rule.species, rule.sigma, rule.voxel_size, rule.field),
            text=f"Density of {', '.join(rule.species)} around",
            run=lambda frame, _: density_field(frame, rule),
            fields=lambda frame, density: label_density(frame, density, rule),
        )

    def rule(self) -> Any:
        """The parameters as a `LabelRule`."""
        from ovito_phaseseg.convert import names_of
        from phaseseg.families.segmentation.rules import LabelRule

        options = {name: getattr(self, name) for name in (
            "sigma", "field", "at", "keep", "min_volume", "boundary_width", "bulk_distance"
        )}  # fmt: skip
        return LabelRule(
            species=names_of(self.species),
            voxel=self.voxel or None,
            threshold=self.threshold_value if self.threshold == "number" else self.threshold,
            phases=2 if self.phases == "2" else "auto",
            **options,
        )

    def color(self, now: Evaluation) -> None:
        """Color the particles by their phase."""
        from ovito_phaseseg import convert

        if self.color_by_phase:
            convert.put_class_colors(now.data, now.fields["phase"], PHASE_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows next to the modifier."""
        return f"{self.species}, σ {self.sigma:g} Å"


class PhaseSegmentation(_PhaseOutput, NetworkModifier, family="segmentation"):
    """Find two liquids with a trained graph network: phase, probability and uncertainty of every particle.

    Parameters
    ----------
    color_by : "nothing", "phase", "probability" or "uncertainty", default "nothing"
    interface_mesh : bool, default True
        Output the interface as a surface mesh.
    voxel_grid : bool, default True
        Output the score of the network as a voxel grid.
    table_attributes : bool, default False
        Output the composition of each phase also as attributes (`PhaseSegmentation.rich.Fe_wt_percent`).

    Outputs are those of `WeakPhaseLabels`, but for the particle properties `Phase Probability` (poor, rich,
    and boundary if learned) and `Phase Uncertainty` and the grid `phase-score`. The output of the network is
    kept until a parameter of the first group changes.
    """

    heading = "Phase segmentation"
    prefix, tables = "PhaseSegmentation.", "phase-"

    color_by = Enum("nothing", "phase", "probability", "uncertainty", **reads("Color particles by", "Output"))
    interface_mesh = Bool(True, **reads("Interface as surface mesh", "Output"))
    voxel_grid = Bool(True, **reads("Score as voxel grid", "Output"))
    table_attributes = Bool(False, **reads("Tables as attributes, too", "Output"))
    interface_vis = _interface_vis()
    grid_vis = OvitoObject(VoxelGridVis, title="Phase score", enabled=False)

    def color(self, now: Evaluation) -> None:
        """Color the particles by their phase or by what the networks say of them."""
        from ovito_phaseseg import convert

        if self.color_by == "phase":
            convert.put_class_colors(now.data, now.fields["phase"], PHASE_COLORS)
        elif self.color_by == "probability":
            convert.put_gradient(now.data, now.output.probability, PROBABILITY_COLORS)
        elif self.color_by == "uncertainty":
            # No two networks can disagree by more than a standard deviation of one half.
            convert.put_gradient(now.data, 2 * now.output.uncertainty, UNCERTAINTY_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows next to the modifier."""
        return f"{super().get_pipeline_short_info()}, p ≥ {self.threshold:g}"


class RestorePhaseTypes(CheckedModifier):
    """Restore names and colors of phase labels that were read from a file.

    Files store either the numbers or the names of the phases, and no colors: LAMMPS dumps and extended XYZ
    written by `phaseseg` and ASE hold a number `phase`, extended XYZ written by OVITO a text `Phase`. The
    column becomes the typed property `Phase` (0 poor, 1 rich, 2 boundary). Columns such as `phase_density`,
    `interface_distance` and `domain` are renamed to the properties of `WeakPhaseLabels`.

    Parameters
    ----------
    column : str, default ""
        Particle property with the phases; empty for `phase` in any spelling.
    color_by_phase : bool, default False
        Color the particles by their phase.
    """

    column = Str("", label="Column (empty: phase)", ovito_group="Input", ovito_placeholder="phase")
    color_by_phase = Bool(False, label="Color particles by phase", ovito_group="Output")

    def modify(self, data: Any, **_: Any) -> None:
        """Restore the types in `data`; called by OVITO."""
        from ovito_phaseseg import convert

        with error_prefix("Restore phase types", ""):
            convert.restore(data, ATOM_FIELDS, self.column)
        if self.color_by_phase:
            convert.put_class_colors(data, data.particles[PHASE.title][...], PHASE_COLORS)
