"""The modifiers for glass formers: knobs, then one call into phaseseg."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from ovito.traits import OvitoObject
from ovito.vis import BondsVis
from traits.api import Bool, Enum, Range, Str

from ovito_phaseseg.base import CheckedModifier, told
from phaseseg.fields import ClassName

# Ids are the number of ends of species B.
PAIRS = (
    ClassName(0, "A-A", (0.75, 0.75, 0.75)),
    ClassName(1, "A-B", (0.36, 0.54, 0.66)),
    ClassName(2, "B-B", (0.84, 0.19, 0.15)),
)
PALE = (0.87, 0.87, 0.85)
GRAPH_COLORS = (
    PALE, (0.12, 0.47, 0.71), (0.85, 0.47, 0.16), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.40, 0.74),
    (0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81),
)  # fmt: skip
# A in a graph, isolated A, B; and A, B without and with a B-B edge.
ISOLATED_COLORS = (PALE, (0.93, 0.69, 0.13), (0.25, 0.35, 0.45))
BB_COLORS = (PALE, (0.25, 0.35, 0.45), PAIRS[2].color)

METRICS = {
    "n_disjoint_graphs": "disjoint graphs", "n_bb_edges": "B-B edges", "n_isolated_a": "isolated A"
}  # fmt: skip


Steps = Generator[str | float, None, None]


def _bonds_vis() -> Any:
    return OvitoObject(
        BondsVis, title="Glass bonds", width=0.15, coloring_mode=BondsVis.ColoringMode.ByBondType
    )


class _GlassModifier(CheckedModifier):
    """What both modifiers have in common: bonds, and numbers against the frames of the trajectory."""

    def _frame(self, data: Any) -> Any:
        from ovito_phaseseg import convert

        itself = cast(Any, self)
        return convert.frame_from_data(data, itself.types, getattr(itself, "units", "lj"))

    def _put_bonds(
        self, data: Any, atoms: Any, b: tuple[str, ...], bonds: Any, chosen: str, pairs: Sequence[ClassName]
    ) -> None:
        """Add bonds, all of them or those that have the flag `chosen`; `b` are the species B."""
        import numpy as np

        from ovito_phaseseg import convert
        from phaseseg.fields import Bonds

        if chosen:
            rows = np.flatnonzero(bonds.columns[chosen])
            columns = {name: values[rows] for name, values in bonds.columns.items()}
            bonds = Bonds(bonds.atoms[rows], bonds.shifts[rows], columns)
        ends = atoms.species_mask(b)[bonds.atoms]
        convert.put_bonds(data, bonds, ends.sum(axis=1), pairs, cast(Any, self).bonds_vis)

    def _rows(
        self,
        data: Any,
        fields: Any,
        frame: int,
        cache: Any,
        key: str,
        slots: Any,
        fields_of: Callable[..., Any],
    ) -> Generator[str | float, None, list[tuple[Mapping[str, Any], Mapping[str, float]]]]:
        """Numbers and attributes of every frame; known ones are kept as long as OVITO keeps the cache."""
        upstream = None if slots is None else slots["upstream"]
        rows = cache["phaseseg.rows"] if cache.get("phaseseg.rows_key") == key else {}
        cache["phaseseg.rows_key"], cache["phaseseg.rows"] = key, rows
        rows[frame] = fields.level("frame"), _numbers(data.attributes)
        n_frames = 1 if upstream is None else upstream.num_frames
        for number in range(n_frames):
            if upstream is not None and number not in rows:
                yield f"Frame {number + 1:,} of {n_frames:,}, for the tables"
                other = upstream.compute(number)
                rows[number] = fields_of(self._frame(other)).level("frame"), _numbers(other.attributes)
            yield 0.6 + 0.3 * (number + 1) / n_frames
        return [rows[number] for number in sorted(rows)]

    def _put_series(
        self, data: Any, stem: str, title: str, curves: Mapping[str, str], rows: list[Any]
    ) -> str:
        """Tables of numbers against frame and temperature; says so where there is no temperature."""
        import numpy as np
        from ovito.data import DataTable

        from ovito_phaseseg import convert

        name = cast(Any, self).temperature
        table = np.array([[numbers[field] for field in curves] for numbers, _ in rows], dtype=float)
        columns = dict(zip(curves.values(), table.T, strict=True))
        convert.put_series(data, f"{stem}-frames", title, ("Frame", np.arange(len(rows))), columns)
        known = [row for row, (_, attributes) in enumerate(rows) if name in attributes]
        if not known:
            return f"No frame has a global attribute {name!r}; there is no table against it."
        temperature = np.array([rows[row][1][name] for row in known])
        order = np.argsort(temperature, kind="stable")
        columns = {title: values[known][order] for title, values in columns.items()}
        convert.put_series(
            data, f"{stem}-temperature", title, (name, temperature[order]), columns,
            DataTable.PlotMode.Scatter,
        )  # fmt: skip
        return ""


def _numbers(attributes: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in attributes.items()
        if isinstance(value, (int, float)) and isfinite(value)
    }


class GlassMetrics(_GlassModifier):
    """Graphs that the particles of species B form with their nearest neighbors, and three numbers of them.

    Parameters
    ----------
    b : str, default "B"
        Species B; several names separated by commas. All others are A.
    types : str, default ""
        Names of the particle types 1, 2, ..., separated by commas (`"A,B"`): for files without names.
        Given names take the place of those in the file.
    k : int, default 2
        Number of nearest neighbors that a particle is joined to.
    rule : "all" or "b-only", default "all"
        Every particle is joined to its nearest and edges that touch a B are kept; or only B are joined.
    bonds : bool, default True
        Output the edges as bonds, in addition to those that are there.
    bb_bonds_only : bool, default False
        Of the edges only those between two B.
    color_by : "nothing", "graph", "isolated" or "bb", default "nothing"
        Graph; isolated A (yellow) among A (pale) and B (dark); B with an edge to another B (red).
    trajectory_table : bool, default False
        Output the three numbers against the frame and against the temperature, which takes every frame.
    temperature : str, default "temperature"
        Global attribute that holds the temperature of a frame.

    Output: the particle properties `Graph ID` (1 the largest, 0 none), `Isolated` (1 for an A without
    edge) and `B-B Degree`; bonds with the properties `B-B` and `Length` and the bond types A-B and B-B;
    the attributes `GlassMetrics.*`; the tables `glass-metrics-frames` and `glass-metrics-temperature`.

    The graphs are kept for the current frame, and the rows of the tables for all: only `b`, `types`, `k`,
    `rule` and what lies upstream make them anew.
    """

    b = Str("B", label="Species B (comma separated)", ovito_group="Species")
    types = Str("", label="Names of types 1, 2, ...", ovito_group="Species", ovito_placeholder="A,B")

    k = Range(low=1, high=64, value=2, label="Nearest neighbors", ovito_group="Graph")
    rule = Enum("all", "b-only", label="Joined to them", ovito_group="Graph")

    bonds = Bool(True, label="Edges as bonds", ovito_group="Output", ovito_invalidate_cache=False)
    bb_bonds_only = Bool(False, label="Only B-B bonds", ovito_group="Output", ovito_invalidate_cache=False)
    color_by = Enum(
        "nothing", "graph", "isolated", "bb",
        label="Color particles by", ovito_group="Output", ovito_invalidate_cache=False,
    )  # fmt: skip
    bonds_vis = _bonds_vis()

    trajectory_table = Bool(
        False, label="Tables over all frames", ovito_group="Trajectory", ovito_invalidate_cache=False
    )
    temperature = Str(
        "temperature", label="Temperature (global attribute)", ovito_group="Trajectory",
        ovito_invalidate_cache=False,
    )  # fmt: skip

    def modify(
        self, data: Any, *, frame: int, data_cache: Any = None, input_slots: Any = None, **_: Any
    ) -> Steps:
        """Measure the graphs of `data`; called by OVITO."""
        with told("Glass structural metrics", "take fewer particles"):
            yield from self._measure(data, frame, data_cache, input_slots)

    def _measure(self, data: Any, frame: int, data_cache: Any, slots: Any) -> Steps:
        if "numba" not in sys.modules:
            yield "Loading; the very first use compiles for a while"
        from ovito_phaseseg import convert
        from phaseseg.families.liquid_glass import metrics

        def fields_of(atoms: Any) -> Any:
            return metrics.glass_metrics(atoms, convert.names_of(self.b), k=int(self.k), rule=self.rule)

        atoms = self._frame(data)
        yield 0.05
        # OVITO empties the cache when a parameter of the graphs or anything upstream changes.
        cache = {} if data_cache is None else data_cache.attributes
        settings = repr((self.b, self.types, self.k, self.rule))
        key = repr((frame, atoms.n_atoms, settings))
        if cache.get("phaseseg.key") != key:
            yield f"Graphs of {atoms.n_atoms:,} particles"
            cache["phaseseg.fields"] = fields_of(atoms)
            cache["phaseseg.key"] = key
        fields = cache["phaseseg.fields"]
        yield 0.6
        messages = list(fields.messages)
        if self.trajectory_table:
            rows = yield from self._rows(data, fields, frame, cache, settings, slots, fields_of)
            messages.append(self._put_series(data, "glass-metrics", "Number", METRICS, rows))
        yield "Output"
        convert.put_atoms(data, fields)
        if self.bonds:
            b, chosen = convert.names_of(self.b), "bb" if self.bb_bonds_only else ""
            self._put_bonds(data, atoms, b, fields["glass_bonds"], chosen, PAIRS[1:])
        self._color(data, atoms, fields)
        messages = [text for text in messages if text]
        convert.put_attributes(data, fields, messages, "GlassMetrics.")
        yield 1.0
        if messages:
            yield " ".join(messages)

    def _color(self, data: Any, atoms: Any, fields: Any) -> None:
        from ovito_phaseseg import convert

        if self.color_by == "graph":
            graph = fields["graph_id"]
            turn = (graph - 1) % (len(GRAPH_COLORS) - 1) + 1
            convert.put_class_colors(data, turn * (graph > 0), GRAPH_COLORS)
        elif self.color_by == "isolated":
            is_b = atoms.species_mask(convert.names_of(self.b))
            convert.put_class_colors(data, 2 * is_b + fields["isolated"], ISOLATED_COLORS)
        elif self.color_by == "bb":
            is_b = atoms.species_mask(convert.names_of(self.b))
            convert.put_class_colors(data, 1 * is_b + (fields["bb_degree"] > 0), BB_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows beside the modifier."""
        return f"B = {self.b}, k = {self.k}, {self.rule}"
