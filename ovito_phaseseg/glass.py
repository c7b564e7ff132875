"""The modifiers for glass formers: structural metrics, and networks that distinguish liquid from glass."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any, ClassVar

from ovito.data import DataTable
from ovito.traits import OvitoObject
from ovito.vis import BondsVis

from ovito_phaseseg import convert
from ovito_phaseseg.base import AnalysisModifier, Evaluation, Job, NetworkModifier, Steps
from ovito_phaseseg.options import types_of_file
from phaseseg.families import Option
from phaseseg.families.liquid_glass.fields import PAIRS, PARTICLES
from phaseseg.fields import Bonds
from phaseseg.specs import PALE, PART_COLORS, ClassName

GRAPH_COLORS = (PALE, *PART_COLORS)
ISOLATED_COLORS = [one.color for one in PARTICLES]
# A, B without and with a B-B edge.
BB_COLORS = (PALE, PARTICLES[2].color, PAIRS[2].color)

# Curves of the trajectory tables, by field name.
METRICS = {
    "n_disjoint_graphs": "disjoint graphs", "n_bb_edges": "B-B edges", "n_isolated_a": "isolated A"
}  # fmt: skip
PROBABILITY = {"frame_glass_probability": "glass probability"}
ATTENTION = {f"attention_{name}": title for name, title in METRICS.items()}

BONDS = Option(
    "bonds", bool, True, "Add the edges to the existing bonds.", label="Edges as bonds", group="Output"
)
TRAJECTORY = (
    Option("trajectory_table", bool, False,
           "Output tables over frame and temperature; this analyzes every frame.",
           label="Tables over all frames", group="Trajectory"),
    Option("temperature", str, "temperature", "Global attribute with the temperature of a frame.",
           label="Temperature (global attribute)", group="Trajectory"),
)  # fmt: skip
MEASURE = (
    Option("b", str, "B", "Species B, separated by commas; all others are A.", "run",
           label="Species B (comma separated)", group="Species"),
    *types_of_file("Species", "A,B"),
    Option("k", int, 2, "Number of nearest neighbors connected to a particle.", "run", low=1, high=64,
           label="Nearest neighbors", group="Graph"),
    Option("rule", str, "all", "Connect all particles and keep edges with a B, or connect only the B.", "run",
           ("all", "b-only"), label="Particles connected", group="Graph"),
    BONDS,
    Option("bb_bonds_only", bool, False, "Add only edges between two B.", label="Only B-B bonds",
           group="Output"),
    Option("color_by", str, "nothing",
           "Graph; isolated A (orange), other A (pale) and B (dark); or B with an edge to another B (red).",
           choices=("nothing", "graph", "isolated", "bb"), label="Color particles by", group="Output"),
)  # fmt: skip
CLASSIFY = (
    BONDS,
    Option("kept_bonds_only", bool, True, "Add only edges with attention at or above the threshold.",
           label="Only bonds of the attention graphs", group="Output"),
    Option("color_by", str, "nothing", "Quantity shown by the particle colors.",
           choices=("nothing", "probability", "attention", "uncertainty"), label="Color particles by",
           group="Output"),
)  # fmt: skip


class _GlassOutput(AnalysisModifier):
    """Shared output of both modifiers: bonds, and tables over the frames of the trajectory.

    bonds_of : name of the field with the bonds
    only : flag column of the bonds, and the parameter that restricts the output to flagged bonds
    pairs : bond types
    series : identifier, title and curves of each trajectory table
    """

    bonds_of: ClassVar[str]
    only: ClassVar[tuple[str, str]]
    pairs: ClassVar[tuple[ClassName, ...]] = PAIRS
    series: ClassVar[tuple[tuple[str, str, Mapping[str, str]], ...]]

    bonds_vis = OvitoObject(
        BondsVis, title="Glass bonds", width=0.15, coloring_mode=BondsVis.ColoringMode.ByBondType
    )

    def is_b(self, now: Evaluation) -> Any:
        """Return (n_atoms,) bool, True for particles of species B."""
        raise NotImplementedError

    def put(self, now: Evaluation) -> Steps[None]:
        """Write the bonds and, on request, the trajectory tables."""
        if self.trajectory_table:
            yield from self._put_trajectory(now, self.temperature)
        if self.bonds and self.bonds_of in now.fields:
            bonds, (flag, parameter) = now.fields[self.bonds_of], self.only
            if getattr(self, parameter):
                kept = bonds.columns[flag] > 0
                columns = {name: values[kept] for name, values in bonds.columns.items()}
                bonds = Bonds(bonds.atoms[kept], bonds.shifts[kept], columns)
            kinds = self.is_b(now)[bonds.atoms].sum(axis=1)
            convert.put_bonds(
                now.data, self.bonds_of, bonds, kinds, self.pairs, {"bb": "B-B"}, self.bonds_vis, now.turn
            )

    def _put_trajectory(self, now: Evaluation, name: str) -> Steps[None]:
        """Write tables over the frame number and the temperature, read from the attribute `name`."""
        rows = yield from self._rows(now)
        axes: list[Any] = [("frames", "Frame", list(range(len(rows))), rows, DataTable.PlotMode.Line)]
        known = sorted((row for row in rows if name in row[1]), key=lambda row: row[1][name])
        if known:
            temperatures = [attributes[name] for _, attributes in known]
            axes.append(("temperature", name, temperatures, known, DataTable.PlotMode.Scatter))
        else:
            now.messages.append(f"No frame has a global attribute {name!r}; the table over it was not made.")
        for identifier, title, curves in self.series:
            for end, x, values, points, plot in axes if curves.keys() <= now.fields.keys() else ():
                columns = {text: [row.get(field, nan) for row, _ in points] for field, text in curves.items()}
                name_of_table = convert.numbered(f"{identifier}-{end}", now.turn)
                convert.put_series(now.data, name_of_table, title, (x, values), columns, plot)

    def _rows(self, now: Evaluation) -> Steps[list[tuple[Mapping[str, Any], Mapping[str, float]]]]:
        """Return numbers and attributes of every frame; cached as long as OVITO keeps the cache."""

        def nothing() -> Steps[dict[int, Any]]:
            yield 0.6
            return {}

        def row(data: Any, fields: Any) -> tuple[Mapping[str, Any], Mapping[str, float]]:
            numbers = ((name, convert.number_in(data.attributes, name)) for name in data.attributes)
            return fields.level("frame"), {name: one for name, one in numbers if one is not None}

        rows = yield from now.kept("rows", (now.job.key, now.job.rule), nothing)
        rows[now.number] = row(now.data, now.fields)
        for done, number in enumerate(now.numbers):
            low, high = (0.6 + 0.3 * n / len(now.numbers) for n in (done, done + 1))
            if number not in rows:
                yield f"Frame {number + 1:,} of {len(now.numbers):,} for the tables"
                data = now.data_of(number)
                frame = self.frame_of(data)
                output = yield from now.job.output(frame, low, high)
                rows[number] = row(data, now.job.fields(frame, output))
            yield high
        return [rows[number] for number in sorted(rows)]


class GlassMetrics(_GlassOutput, options=(*MEASURE, *TRAJECTORY)):
    """Compute graphs of species B and its nearest neighbors, and three structural metrics of them.

    Outputs are the particle properties `Graph ID` (1 is the largest graph, 0 means none), `Isolated` (1 for
    an A without an edge) and `B-B Degree`, bonds of types A-B and B-B, the attributes `GlassMetrics.*` and
    the tables `glass-metrics-frames` and `glass-metrics-temperature`. The graphs and the rows of the tables
    are cached until one of the first four parameters changes.
    """

    heading, prefix, file_units = "Glass structural metrics", "GlassMetrics.", "lj"
    bonds_of, only, pairs = "glass_bonds", ("bb", "bb_bonds_only"), PAIRS[1:]
    series = (("glass-metrics", "Number", METRICS),)

    def job(self, now: Evaluation) -> Steps[Job]:
        from phaseseg.families.liquid_glass.structural_metrics import measurer

        measure = measurer({"b": convert.names_of(self.b), "k": int(self.k), "rule": self.rule})
        yield 0.0
        return Job(
            rule=None,
            key=(self.b, self.types, self.names, self.k, self.rule),
            text="Graphs of",
            run=lambda frame, _: measure(frame),
            fields=lambda _, fields: fields,
        )

    def is_b(self, now: Evaluation) -> Any:
        return now.frame.species_mask(convert.names_of(self.b))

    def color(self, now: Evaluation) -> None:
        if self.color_by == "graph":
            graph = now.fields["graph_id"]
            turn = (graph - 1) % (len(GRAPH_COLORS) - 1) + 1
            convert.put_colors(now.data, turn * (graph > 0), GRAPH_COLORS)
        elif self.color_by == "isolated":
            convert.put_colors(now.data, 2 * self.is_b(now) + now.fields["isolated"], ISOLATED_COLORS)
        elif self.color_by == "bb":
            paired = now.fields["bb_degree"] > 0
            convert.put_colors(now.data, 1 * self.is_b(now) + paired, BB_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        return f"B = {self.b}, k = {self.k}, {self.rule}"


class GlassClassifier(_GlassOutput, NetworkModifier, family="liquid_glass", options=(*CLASSIFY, *TRAJECTORY)):
    """Distinguish glass from liquid with a trained network, for the configuration and for every particle.

    Outputs are the particle properties `Glass Probability`, `Glass Uncertainty` and, with attention,
    `Attention` (mean over the edges of a particle), bonds of types A-A, A-B and B-B with their attention, the
    attributes `GlassClassifier.*` and the tables `glass-probability-...` and `glass-attention-...`. An image
    network only gives the attributes. The output of the network is cached until a parameter of the first two
    groups changes, and the rows of the tables also until a threshold changes.
    """

    bonds_of, only = "attention_bonds", ("kept", "kept_bonds_only")
    series = (
        ("glass-probability", "Glass probability", PROBABILITY), ("glass-attention", "Number", ATTENTION)
    )  # fmt: skip

    def is_b(self, now: Evaluation) -> Any:
        return now.output.is_b

    def color(self, now: Evaluation) -> None:
        fields = now.fields
        if self.color_by == "probability" and "glass_probability" in fields:
            convert.put_shades(now.data, fields["glass_probability"])
        elif self.color_by == "uncertainty" and "glass_uncertainty" in fields:
            # The standard deviation of values between 0 and 1 is at most one half.
            convert.put_shades(now.data, 2 * fields["glass_uncertainty"])
        elif self.color_by == "attention" and "attention" in fields:
            # The mean over all edges is 1, which maps to the middle color.
            convert.put_shades(now.data, fields["attention"] / (1 + fields["attention"]))
