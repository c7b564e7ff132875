"""The modifiers: knobs, then one call into phaseseg."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any, cast

from ovito.pipeline import ModifierInterface
from ovito.traits import OvitoObject
from ovito.vis import SurfaceMeshVis, VoxelGridVis
from traits.api import Bool, Enum, Float, HasTraits, Range, Str, Union


class _Checked(ModifierInterface):
    """Refuses a misspelt keyword, which OVITO would silently take for a new attribute."""

    def __init__(self, **parameters: Any) -> None:
        known = self.parameters()
        unknown = [name for name in parameters if name not in known and not name.endswith("_vis")]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}; "
                f"the parameters are {', '.join(known)}."
            )
        super().__init__(**parameters)

    def parameters(self) -> list[str]:
        """Names of the parameters, in the order in which they are shown."""
        itself = cast(HasTraits, self)
        return [name for name in itself.trait_names() if itself.trait(name).label]


class WeakPhaseLabels(_Checked):
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
        try:
            yield from self._label(data, frame, data_cache)
        except ValueError as error:
            raise ValueError(f"Weak phase labels: {error}") from error
        except MemoryError as error:
            raise MemoryError(
                f"Weak phase labels: the memory is not enough; choose larger voxels. {error}"
            ) from error
        except ImportError as error:
            raise ImportError(
                f"Weak phase labels: {error}; install everything with: pip install ovito-phaseseg[ovito]"
            ) from error

    def _label(self, data: Any, frame: int, data_cache: Any) -> Generator[str | float, None, None]:
        if "numba" not in sys.modules:
            yield "Loading; the very first use compiles for a while"
        from ovito_phaseseg import convert
        from phaseseg.families.segmentation.density import density_field
        from phaseseg.families.segmentation.labels import interface_grid, label_density

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
        messages = list(fields.messages)
        convert.put_atoms(data, fields)
        convert.put_tables(data, fields)
        if self.color_by_phase:
            convert.put_colors(data, fields["phase"])
        if self.voxel_grid:
            convert.put_grid(data, fields["density_grid"], self.grid_vis)
        if self.interface_mesh and fields["n_domains"]:
            yield 0.85
            if not density.lattice.flat.any():
                cut = fields["threshold"]
                convert.put_interface(data, interface_grid(density, rule, cut), cut, self.interface_vis)
            else:
                messages.append("The interface of a 2D cell is a line; no surface mesh was made.")
        convert.put_attributes(data, fields, messages)
        yield 1.0
        if messages:
            yield " ".join(messages)

    def rule(self) -> Any:
        """The parameters as a `LabelRule`."""
        from ovito_phaseseg.convert import names_of
        from phaseseg.families.segmentation.config import LabelRule

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


class RestorePhaseTypes(_Checked):
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
