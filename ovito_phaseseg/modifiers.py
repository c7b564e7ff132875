"""The modifiers for two liquids: weak labels, phase segmentation, and types restored from files."""

from __future__ import annotations

from typing import Any

from ovito.traits import OvitoObject
from ovito.vis import SurfaceMeshVis, VoxelGridVis

from ovito_phaseseg import convert
from ovito_phaseseg.base import AnalysisModifier, Evaluation, Job, NetworkModifier, Steps, error_prefix
from ovito_phaseseg.options import CheckedModifier, types_of_file
from phaseseg.families import FAMILIES, Option
from phaseseg.families.segmentation.rules import LabelRule

ATOM_FIELDS = [spec for spec in FAMILIES["segmentation"].fields if spec.level == "atom"]
PHASE = ATOM_FIELDS[0]
PHASE_COLORS = [entry.color for entry in PHASE.classes]
INTERFACE_VIS = OvitoObject(
    SurfaceMeshVis, title="Phase interface", show_cap=False, surface_color=(0.93, 0.86, 0.56),
    surface_transparency=0.4,
)  # fmt: skip

LABELS = (
    Option("species", str, "", "Species whose density distinguishes the phases, comma separated; if empty, "
           "Fe or the species that separates best.", "run", label="Species (empty: automatic)",
           group="Species", placeholder="automatic"),
    *types_of_file("Species", "Fe,Mg,Si,O,N"),
    Option("sigma", float, 0.0, "Standard deviation of the Gaussian that smooths the density, Å; 0 for a "
           "value from the density of the rich phase.", "run", low=0, label="Sigma (Å; 0: automatic)",
           group="Density"),
    Option("voxel", float, None, "Edge of a voxel, Å; None or 0 for half of sigma.", "run",
           label="Voxel (Å; none = sigma/2)", group="Density"),
    Option("field", str, "number", "Number density (Å^-3) of the species, or its local mole fraction.",
           "run", ("number", "mole-fraction"), label="Field", group="Density"),
    Option("threshold", str, "steepest", 'Rule for the density threshold; "number" uses `threshold_value`.',
           choices=("steepest", "two-means", "midpoint", "number"), label="Threshold", group="Phases"),
    Option("threshold_value", float, 0.0, 'Threshold (Å^-3 or mole fraction) for `threshold="number"`.',
           label="Number (Å⁻³ or mole fraction)", group="Phases"),
    Option("phases", str, "auto", '"auto" tests whether there are two phases; "2" always separates two.',
           choices=("auto", "2"), label="Number of phases", group="Phases"),
    Option("at", str, "atom", "Use the density at the particle, or in its voxel (as in the paper).",
           choices=("atom", "voxel"), label="Density at the", group="Phases"),
    Option("by", str, "auto", "By molecule, all particles of a molecule of up to 30 go where its center of "
           'mass is; "auto" is by molecule if most particles are in such molecules.',
           choices=("auto", "atom", "molecule"), label="Phases by", group="Phases"),
    Option("keep", str, "all", "Rich domains to keep: all with at least `min_volume`, or only the largest.",
           choices=("all", "largest"), label="Domains kept", group="Phases"),
    Option("min_volume", float, None, "Smaller domains (Å^3) are ignored as noise; None for 25 sigma^3.",
           label="Smallest domain (Å³; none: automatic)", group="Phases"),
    Option("boundary_width", float, None, "Width (Å) of the boundary layer, centered on the interface; None "
           "for 0.68 with Fe and else 0.34 sigma.", label="Boundary width (Å; none: automatic)",
           group="Interface"),
    Option("bulk_distance", float, None, "Distance from the interface at which the bulk begins, Å; None for "
           "2.5 sigma.", label="Bulk begins at (Å; none: automatic)", group="Interface"),
    Option("color_by_phase", bool, False, "Color the particles by their phase.",
           label="Color particles by phase", group="Output"),
)  # fmt: skip
COLOR_BY = Option("color_by", str, "nothing", "Quantity shown by the particle colors.",
                  choices=("nothing", "phase", "probability", "uncertainty"), label="Color particles by",
                  group="Output")  # fmt: skip
RESTORE = (
    Option("column", str, "", "Particle property with the phases; if empty, `phase` in any spelling.", "run",
           label="Column (empty: phase)", group="Input", placeholder="phase"),
    Option("color_by_phase", bool, False, "Color the particles by their phase.", "run",
           label="Color particles by phase", group="Output"),
)  # fmt: skip


def outputs(what: str) -> tuple[Option, ...]:
    """Return the options that switch outputs on and off; `what` is "Density" or "Score"."""
    return (
        Option("interface_mesh", bool, True, "Output the interface as a surface mesh.",
               label="Interface as surface mesh", group="Output"),
        Option("voxel_grid", bool, True, f"Output the {what.lower()} as a voxel grid.",
               label=f"{what} as voxel grid", group="Output"),
        Option("table_attributes", bool, False,
               "Also output the composition as attributes, such as `PhaseSegmentation.rich.Fe_wt_percent`.",
               label="Tables also as attributes", group="Output"),
    )  # fmt: skip


class _PhaseOutput(AnalysisModifier):
    """Shared output of labels and predictions."""

    prefix = "PhaseSegmentation."
    tables = "phase-"

    def put(self, now: Evaluation) -> Steps[None]:
        """Write the grid, the interface and, on request, the composition as attributes."""
        rule, field = now.job.rule, getattr(now.output, "field", now.output)  # scores or density
        if isinstance(rule, LabelRule):
            rule = rule.fixed(field.rule.species, field.rule.sigma)
        if self.voxel_grid:
            convert.put_grid(now.data, rule.grid_name, field.output, self.grid_vis, now.turn)
        if self.interface_mesh and now.fields["n_domains"]:
            yield 0.8
            if not field.lattice.flat.any():
                level = now.fields[rule.level_name]
                grid = field.without_dropped(level, keep=rule.keep, min_volume=rule.min_volume)
                identifier = convert.numbered("phase-interface", now.turn)
                convert.put_isosurface(
                    now.data, rule.grid_name, grid, level, identifier, "Phase interface", self.interface_vis
                )
            else:
                now.messages.append("The interface of a 2D cell is a line; no surface mesh was made.")
        if self.table_attributes:
            cells = convert.cells_of(now.fields["composition"])
            convert.put_attributes(now.data, cells, self.prefix, now.turn)


class WeakPhaseLabels(_PhaseOutput, options=(*LABELS, *outputs("Density"))):
    """Label every particle as rich or poor in a chosen species, or as boundary.

    Outputs are the particle properties `Phase` (typed: 0 poor, 1 rich, 2 boundary), `Phase Density`,
    `Interface Distance` (Å, positive in the rich phase) and `Domain` (1 is the largest), the grid
    `phase-density`, the surface `phase-interface`, four tables and the attributes `PhaseSegmentation.*`. The
    density of the current frame is cached until a parameter of the first two groups changes.
    """

    heading = "Weak phase labels"
    remedy = "choose larger voxels"

    interface_vis = INTERFACE_VIS
    grid_vis = OvitoObject(VoxelGridVis, title="Phase density", enabled=False)

    def job(self, now: Evaluation) -> Steps[Job]:
        from phaseseg.families.segmentation.labels.automatic import rule_of
        from phaseseg.families.segmentation.labels.density import density_field
        from phaseseg.families.segmentation.labels.weak_labels import label_density

        rule = self.rule()
        yield 0.0
        return Job(
            rule,
            key=(self.types, self.names, rule.species, rule.sigma, rule.voxel, rule.field),
            text=f"Density of {', '.join(rule.species) or 'the species'} around",
            run=lambda frame, _: density_field(frame, rule_of(frame, rule)),
            fields=lambda frame, density: label_density(frame, density, rule),
        )

    def rule(self) -> LabelRule:
        """The parameters as a `LabelRule`."""
        names = ("field", "at", "by", "keep", "min_volume", "boundary_width", "bulk_distance")
        return LabelRule(
            species=convert.names_of(self.species),
            sigma=self.sigma or "auto",
            voxel=self.voxel or None,
            threshold=self.threshold_value if self.threshold == "number" else self.threshold,
            phases=2 if self.phases == "2" else "auto",
            **{name: getattr(self, name) for name in names},
        )

    def color(self, now: Evaluation) -> None:
        if self.color_by_phase:
            convert.put_colors(now.data, now.fields["phase"], PHASE_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        width = f"{self.sigma:g} Å" if self.sigma else "automatic"
        return f"{self.species or 'automatic species'}, σ {width}"


class PhaseSegmentation(
    _PhaseOutput, NetworkModifier, family="segmentation", options=(COLOR_BY, *outputs("Score"))
):
    """Find two liquids with a trained graph network: phase, probability and uncertainty of every particle.

    Outputs are those of `WeakPhaseLabels`, with the particle properties `Phase Probability` (poor, rich, and
    boundary if learned) and `Phase Uncertainty` and the grid `phase-score` instead of the density. The output
    of the network is cached until a parameter of the first group changes.
    """

    heading = "Phase segmentation"
    prefix, tables = "PhaseSegmentation.", "phase-"

    interface_vis = INTERFACE_VIS
    grid_vis = OvitoObject(VoxelGridVis, title="Phase score", enabled=False)

    def color(self, now: Evaluation) -> None:
        if self.color_by == "phase":
            convert.put_colors(now.data, now.fields["phase"], PHASE_COLORS)
        elif self.color_by == "probability":
            convert.put_shades(now.data, now.output.probability)
        elif self.color_by == "uncertainty":
            # The standard deviation of values between 0 and 1 is at most one half.
            convert.put_shades(now.data, 2 * now.output.uncertainty)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        return f"{super().get_pipeline_short_info()}, p ≥ {self.threshold:g}"


class RestorePhaseTypes(CheckedModifier, options=RESTORE):
    """Restore names and colors of phase labels that were read from a file.

    Files store either the numbers or the names of the phases, and no colors. The column becomes the typed
    property `Phase` (0 poor, 1 rich, 2 boundary). Columns such as `phase_density`, `interface_distance` and
    `domain` are renamed to the properties of `WeakPhaseLabels`.
    """

    def modify(self, data: Any, **_: Any) -> None:
        with error_prefix("Restore phase types", ""):
            title = convert.restore(data, ATOM_FIELDS, self.column, _PhaseOutput.prefix)
        if self.color_by_phase:
            convert.put_colors(data, data.particles[title][...], PHASE_COLORS)
