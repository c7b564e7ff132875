"""The modifiers for two liquids: knobs, then one call into phaseseg."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, cast

from ovito.traits import FilePath, OvitoObject
from ovito.vis import SurfaceMeshVis, VoxelGridVis
from traits.api import Bool, Enum, Float, Range, Str, Union

from ovito_phaseseg.base import CheckedModifier, told
from phaseseg.checkpoint import SUFFIX, bundled_checkpoints
from phaseseg.families import FAMILIES

DEFAULT_MODEL = FAMILIES["segmentation"].default
PROBABILITY_COLORS = [(0.27, 0.46, 0.71), (0.97, 0.96, 0.93), (0.85, 0.47, 0.16)]
UNCERTAINTY_COLORS = [(0.97, 0.96, 0.93), (0.55, 0.32, 0.62), (0.25, 0.05, 0.35)]
# The default comes first; it also stands for itself where nothing is bundled.
MODELS = list(dict.fromkeys([DEFAULT_MODEL, *bundled_checkpoints("segmentation")]))


class _PhaseModifier(CheckedModifier):
    """What labels and predictions have in common: how they are put into OVITO's data."""

    def _put(
        self, data: Any, fields: Any, rule: Any, field: Any, interface_grid: Callable[[], Any]
    ) -> Generator[str | float, None, None]:
        from ovito_phaseseg import convert

        itself = cast(Any, self)
        messages = list(fields.messages)
        convert.put_atoms(data, fields)
        convert.put_tables(data, fields)
        if itself.voxel_grid:
            convert.put_grid(data, rule.grid_name, fields[rule.grid_name], itself.grid_vis)
        if itself.interface_mesh and fields["n_domains"]:
            yield 0.85
            if not field.lattice.flat.any():
                level = fields[rule.level_name]
                convert.put_interface(data, rule.grid_name, interface_grid(), level, itself.interface_vis)
            else:
                messages.append("The interface of a 2D cell is a line; no surface mesh was made.")
        convert.put_attributes(data, fields, messages)
        yield 1.0
        if messages:
            yield " ".join(messages)


class WeakPhaseLabels(_PhaseModifier):
    """Label every particle as rich or poor in a chosen species, or as part of the boundary.

    Parameters
    ----------
    species : str, default "Fe"
        Species whose density tells the phases apart; several names separated by commas.
    types : str, default ""
        Names of the particle types 1, 2, ..., separated by commas (`"Fe,Mg,Si,O,N"`): for files
        without element names. Given names take the place of those in the file.
    sigma : float, default 1.5 Å
        Standard deviation of the Gaussian that smooths the density.
    voxel : float or None, default None
        Edge of a voxel, Å; None or 0 for half of sigma.
    field : "number" or "mole-fraction", default "number"
        Number density of the species (Å^-3), or its share of all atoms nearby.
    threshold : "steepest", "two-means", "midpoint" or "number", default "steepest"
        How the density is cut in two; "number" takes `threshold_value`.
    threshold_value : float, default 0
        The cut, Å^-3 or mole fraction; used with `threshold="number"`.
    phases : "auto" or "2", default "auto"
        "auto" finds out whether there are two phases at all; "2" cuts in any case.
    at : "atom" or "voxel", default "atom"
        Density at the particle itself, or in its voxel (as in the paper).
    keep : "all" or "largest", default "all"
        Rich domains to keep: those from `min_volume` on, or the largest.
    min_volume : float, default 200 Å^3
        Smaller domains are taken for noise.
    boundary_width : float, default 0.68 Å
        Particles within half of it of the interface are boundary.
    bulk_distance : float, default 5 Å
        Bulk begins this far from the interface.
    color_by_phase : bool, default False
        Color the particles by their phase.
    interface_mesh : bool, default True
        Output the interface as a surface mesh.
    voxel_grid : bool, default True
        Output the density as a voxel grid.

    Output: the particle properties `Phase` (typed: 0 poor, 1 rich, 2 boundary), `Phase Density`
    (Å^-3 or mole fraction), `Interface Distance` (Å, positive in the rich phase) and `Domain`
    (1 the largest); the voxel grid `phase-density`; the surface mesh `phase-interface`; the tables
    `phase-composition`, `phase-partition`, `phase-domains` and `phase-proxigram`; the attributes
    `PhaseSegmentation.*`.

    The density is kept for the current frame: only `species`, `types`, `sigma`, `voxel`, `field` and
    what lies upstream make it anew.
    """

    species = Str("Fe", label="Species (comma separated)", ovito_group="Species")
    types = Str("", label="Names of types 1, 2, ...", ovito_group="Species", ovito_placeholder="Fe,Mg,Si,O,N")

    sigma = Range(low=0.0, value=1.5, label="Sigma (Å)", ovito_group="Density")
    voxel = Union(None, Float, label="Voxel (Å; none = sigma/2)", ovito_group="Density")
    field = Enum("number", "mole-fraction", label="Field", ovito_group="Density")

    threshold = Enum(
        "steepest", "two-means", "midpoint", "number",
        label="Threshold", ovito_group="Phases", ovito_invalidate_cache=False,
    )  # fmt: skip
    threshold_value = Float(
        0.0, label="Number (Å⁻³ or mole fraction)", ovito_group="Phases", ovito_invalidate_cache=False
    )
    phases = Enum("auto", "2", label="Number of phases", ovito_group="Phases", ovito_invalidate_cache=False)
    at = Enum("atom", "voxel", label="Density at the", ovito_group="Phases", ovito_invalidate_cache=False)
    keep = Enum("all", "largest", label="Domains kept", ovito_group="Phases", ovito_invalidate_cache=False)
    min_volume = Range(
        low=0.0, value=200.0,
        label="Smallest domain (Å³)", ovito_group="Phases", ovito_invalidate_cache=False,
    )  # fmt: skip

    boundary_width = Range(
        low=0.0, value=0.68,
        label="Boundary width (Å)", ovito_group="Interface", ovito_invalidate_cache=False,
    )  # fmt: skip
    bulk_distance = Range(
        low=0.0, value=5.0,
        label="Bulk begins at (Å)", ovito_group="Interface", ovito_invalidate_cache=False,
    )  # fmt: skip

    color_by_phase = Bool(
        False, label="Color particles by phase", ovito_group="Output", ovito_invalidate_cache=False
    )
    interface_mesh = Bool(
        True, label="Interface as surface mesh", ovito_group="Output", ovito_invalidate_cache=False
    )
    voxel_grid = Bool(True, label="Density as voxel grid", ovito_group="Output", ovito_invalidate_cache=False)
    interface_vis = OvitoObject(
        SurfaceMeshVis,
        title="Phase interface",
        show_cap=False,
        surface_color=(0.93, 0.86, 0.56),
        surface_transparency=0.4,
    )
    grid_vis = OvitoObject(VoxelGridVis, title="Phase density", enabled=False)

    def modify(
        self, data: Any, *, frame: int, data_cache: Any = None, **_: Any
    ) -> Generator[str | float, None, None]:
        """Label the particles of `data`; called by OVITO."""
        with told("Weak phase labels", "choose larger voxels"):
            yield from self._label(data, frame, data_cache)

    def _label(self, data: Any, frame: int, data_cache: Any) -> Generator[str | float, None, None]:
        if "numba" not in sys.modules:
            yield "Loading; the very first use compiles for a while"
        from ovito_phaseseg import convert
        from phaseseg.families.segmentation.labels.density import density_field
        from phaseseg.families.segmentation.labels.weak_labels import interface_grid, label_density

        rule = self.rule()
        atoms = convert.frame_from_data(data, self.types)
        yield 0.05
        # OVITO empties the cache when a parameter of the density or anything upstream changes.
        cache = {} if data_cache is None else data_cache.attributes
        key = repr((frame, atoms.n_atoms, self.types, rule.species, rule.sigma, rule.voxel_size, rule.field))
        if cache.get("phaseseg.key") != key:
            for name in ("phaseseg.key", "phaseseg.density"):  # one density at a time in memory
                if name in cache:
                    del cache[name]
            yield f"Density of {', '.join(rule.species)} around {atoms.n_atoms:,} particles"
            cache["phaseseg.density"] = density_field(atoms, rule)
            cache["phaseseg.key"] = key
        density = cache["phaseseg.density"]
        yield 0.5
        yield "Phases and interface"
        fields = label_density(atoms, density, rule)
        yield 0.8
        yield "Output"
        if self.color_by_phase:
            convert.put_colors(data, fields["phase"])
        cut = fields["threshold"]
        yield from self._put(data, fields, rule, density, lambda: interface_grid(density, rule, cut))

    def rule(self) -> Any:
        """The parameters as a `LabelRule`."""
        from ovito_phaseseg.convert import names_of
        from phaseseg.families.segmentation.rules import LabelRule

        return LabelRule(
            species=names_of(self.species),
            sigma=self.sigma,
            voxel=self.voxel or None,
            field=self.field,
            threshold=self.threshold_value if self.threshold == "number" else self.threshold,
            at=self.at,
            keep=self.keep,
            min_volume=self.min_volume,
            boundary_width=self.boundary_width,
            phases=2 if self.phases == "2" else "auto",
            bulk_distance=self.bulk_distance,
        )

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows beside the modifier."""
        return f"{self.species}, σ {self.sigma:g} Å"


class PhaseSegmentation(_PhaseModifier):
    """Tell two liquids apart with a trained graph network: phase, probability, uncertainty.

    Parameters
    ----------
    model : name of a checkpoint that comes with phaseseg, default "segmentation/gat-v1"
    model_file : str, default ""
        Checkpoint file of your own (`phaseseg train segmentation`), in place of `model`.
    types : str, default ""
        Names of the particle types 1, 2, ..., separated by commas (`"Fe,Mg,Si,O,N"`): for files
        without element names. Given names take the place of those in the file.
    device : "auto", "cpu", "torch" or "cuda", default "auto"
        Compiled loops, which need no torch ("auto", "cpu"); torch on the processor or on a GPU.
    threshold : float between 0 and 1, default 0.5
        Probability from which on a particle is rich.
    boundary : "interface", "voxels" or "learned", default "interface"
        By the distance to the interface; by dilated voxels as in the paper; the class of a network
        that has learned it.
    boundary_width : float or None, default None
        Particles within half of it (Å) of the interface are boundary; None as the network was trained.
    keep : "all" or "largest", default "all"
        Rich domains to keep: those from `min_volume` on, or the largest.
    min_volume : float or None, default None
        Smaller domains (Å^3) are taken for noise; None as the network was trained.
    bulk_distance : float, default 5 Å
        Bulk begins this far from the interface.
    color_by : "nothing", "phase", "probability" or "uncertainty", default "nothing"
    interface_mesh : bool, default True
        Output the interface as a surface mesh.
    voxel_grid : bool, default True
        Output the score of the network as a voxel grid.

    Output: the particle properties `Phase` (typed: 0 poor, 1 rich, 2 boundary), `Phase Probability`
    (components poor, rich, and boundary if learned), `Phase Uncertainty`, `Interface Distance` (Å,
    positive in the rich phase) and `Domain` (1 the largest); the voxel grid `phase-score`; the surface
    mesh `phase-interface`; the tables `phase-composition`, `phase-partition`, `phase-domains` and
    `phase-proxigram`; the attributes `PhaseSegmentation.*`.

    What the network says is kept for the current frame: only `model`, `model_file`, `types`, `device`
    and what lies upstream run it anew.
    """

    model = Enum(DEFAULT_MODEL, MODELS, label="Checkpoint", ovito_group="Network")
    model_file = FilePath(
        "", label="Own file (empty: the checkpoint above)", ovito_group="Network",
        ovito_file_filter=[f"Checkpoints (*{SUFFIX})", "All files (*)"],
    )  # fmt: skip
    device = Enum("auto", "cpu", "torch", "cuda", label="Device", ovito_group="Network")
    types = Str("", label="Names of types 1, 2, ...", ovito_group="Network", ovito_placeholder="Fe,Mg,Si,O,N")

    threshold = Range(
        low=0.0, high=1.0, value=0.5, exclude_low=True, exclude_high=True,
        label="Threshold (probability)", ovito_group="Phases", ovito_invalidate_cache=False,
    )  # fmt: skip
    keep = Enum("all", "largest", label="Domains kept", ovito_group="Phases", ovito_invalidate_cache=False)
    min_volume = Union(
        None, Float, label="Smallest domain (Å³; none = as trained)", ovito_group="Phases",
        ovito_invalidate_cache=False,
    )  # fmt: skip

    boundary = Enum(
        "interface", "voxels", "learned",
        label="Boundary", ovito_group="Interface", ovito_invalidate_cache=False,
    )  # fmt: skip
    boundary_width = Union(
        None, Float, label="Boundary width (Å; none = as trained)", ovito_group="Interface",
        ovito_invalidate_cache=False,
    )  # fmt: skip
    bulk_distance = Range(
        low=0.0, value=5.0,
        label="Bulk begins at (Å)", ovito_group="Interface", ovito_invalidate_cache=False,
    )  # fmt: skip

    color_by = Enum(
        "nothing", "phase", "probability", "uncertainty",
        label="Color particles by", ovito_group="Output", ovito_invalidate_cache=False,
    )  # fmt: skip
    interface_mesh = Bool(
        True, label="Interface as surface mesh", ovito_group="Output", ovito_invalidate_cache=False
    )
    voxel_grid = Bool(True, label="Score as voxel grid", ovito_group="Output", ovito_invalidate_cache=False)
    interface_vis = OvitoObject(
        SurfaceMeshVis,
        title="Phase interface",
        show_cap=False,
        surface_color=(0.93, 0.86, 0.56),
        surface_transparency=0.4,
    )
    grid_vis = OvitoObject(VoxelGridVis, title="Phase score", enabled=False)

    def modify(
        self, data: Any, *, frame: int, data_cache: Any = None, **_: Any
    ) -> Generator[str | float, None, None]:
        """Predict the phases of `data`; called by OVITO."""
        with told("Phase segmentation", "take fewer particles"):
            yield from self._predict(data, frame, data_cache)

    def _predict(self, data: Any, frame: int, data_cache: Any) -> Generator[str | float, None, None]:
        if "numba" not in sys.modules:
            yield "Loading; the very first use compiles for a while"
        from ovito_phaseseg import convert
        from phaseseg.api import load_model

        network = load_model(self.model_file or self.model, "segmentation")
        options = {
            name: getattr(self, name)
            for name in ("threshold", "boundary", "boundary_width", "keep", "min_volume", "bulk_distance")
        }
        rule = network.rule(**options)
        atoms = convert.frame_from_data(data, self.types)
        yield 0.05
        # OVITO empties the cache when a parameter of the network or anything upstream changes.
        cache = {} if data_cache is None else data_cache.attributes
        key = repr((frame, atoms.n_atoms, self.types, network.checkpoint.hash, self.device))
        if cache.get("phaseseg.key") != key:
            for name in ("phaseseg.key", "phaseseg.scores", "phaseseg.field"):  # one frame in memory
                if name in cache:
                    del cache[name]
            yield f"{network.name} on {atoms.n_atoms:,} particles"
            scores = network.run(atoms, rule, device=self.device)
            cache["phaseseg.scores"], cache["phaseseg.field"] = scores, network.field(atoms, scores)
            cache["phaseseg.key"] = key
        scores, field = cache["phaseseg.scores"], cache["phaseseg.field"]
        yield 0.6
        yield "Phases and interface"
        fields = network.fields(atoms, scores, rule)
        yield 0.8
        yield "Output"
        if self.color_by == "phase":
            convert.put_colors(data, fields["phase"])
        elif self.color_by == "probability":
            convert.put_gradient(data, scores.probability, PROBABILITY_COLORS)
        elif self.color_by == "uncertainty":
            # No two networks can disagree by more than a standard deviation of one half.
            convert.put_gradient(data, 2 * scores.uncertainty, UNCERTAINTY_COLORS)
        yield from self._put(data, fields, rule, field, lambda: network.interface_grid(atoms, scores, rule))
        data.attributes[convert.PREFIX + "model"] = network.name
        data.attributes[convert.PREFIX + "model_sha256"] = network.checkpoint.hash

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows beside the modifier."""
        name = str(self.model_file).replace("\\", "/").rpartition("/")[2] or self.model
        return f"{name.removeprefix('segmentation/')}, p ≥ {self.threshold:g}"


class RestorePhaseTypes(CheckedModifier):
    """Give phase labels read from a file their names and colors back.

    Files keep the numbers or the names of the phases, not both and not the colors: extended XYZ by
    `phaseseg` and ASE hold a number `phase`, by OVITO a text `Phase`, LAMMPS dumps a number `phase`.
    The column becomes the typed property `Phase` (0 poor, 1 rich, 2 boundary). Columns such as
    `phase_density`, `interface_distance` and `domain` get the names that `WeakPhaseLabels` gives.

    Parameters
    ----------
    column : str, default ""
        Particle property that holds the phases; empty for `phase` in any spelling.
    color_by_phase : bool, default False
        Color the particles by their phase.
    """

    column = Str("", label="Column (empty: phase)", ovito_group="Input", ovito_placeholder="phase")
    color_by_phase = Bool(False, label="Color particles by phase", ovito_group="Output")

    def modify(self, data: Any, **_: Any) -> None:
        """Restore the types in `data`; called by OVITO."""
        from ovito_phaseseg import convert

        try:
            convert.restore(data, self.column)
        except ValueError as error:
            raise ValueError(f"Restore phase types: {error}") from error
        if self.color_by_phase:
            convert.put_colors(data, data.particles["Phase"][...])
