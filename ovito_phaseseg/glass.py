"""The modifiers for glass formers: knobs, then one call into phaseseg."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from ovito.traits import FilePath, OvitoObject
from ovito.vis import BondsVis
from traits.api import Bool, Enum, Float, Range, Str, Union

from ovito_phaseseg.base import CheckedModifier, told
from ovito_phaseseg.modifiers import PROBABILITY_COLORS, UNCERTAINTY_COLORS
from phaseseg.checkpoint import SUFFIX, bundled_checkpoints
from phaseseg.families import FAMILIES
from phaseseg.specs import ClassName

DEFAULT_GLASS_MODEL = FAMILIES["liquid_glass"].default
GLASS_MODELS = list(dict.fromkeys([DEFAULT_GLASS_MODEL, *bundled_checkpoints("liquid_glass")]))

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
ATTENTION_COLORS = [(0.97, 0.96, 0.93), (0.93, 0.60, 0.30), (0.60, 0.05, 0.15)]

METRICS = {
    "n_disjoint_graphs": "disjoint graphs", "n_bb_edges": "B-B edges", "n_isolated_a": "isolated A"
}  # fmt: skip

PROBABILITY = {"frame_glass_probability": "glass probability"}
ATTENTION = {f"attention_{name}": title for name, title in METRICS.items()}

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

    def _put_bonds(self, data: Any, is_b: Any, bonds: Any, chosen: str, pairs: Sequence[ClassName]) -> None:
        """Add bonds, all of them or those that have the flag `chosen`."""
        import numpy as np

        from ovito_phaseseg import convert
        from phaseseg.fields import Bonds

        if chosen:
            rows = np.flatnonzero(bonds.columns[chosen])
            columns = {name: values[rows] for name, values in bonds.columns.items()}
            bonds = Bonds(bonds.atoms[rows], bonds.shifts[rows], columns)
        convert.put_bonds(data, bonds, is_b[bonds.atoms].sum(axis=1), pairs, cast(Any, self).bonds_vis)

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
        from phaseseg.families.liquid_glass import structural_metrics as metrics

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
        is_b = atoms.species_mask(convert.names_of(self.b))
        convert.put_atoms(data, fields)
        if self.bonds:
            chosen = "bb" if self.bb_bonds_only else ""
            self._put_bonds(data, is_b, fields["glass_bonds"], chosen, PAIRS[1:])
        self._color(data, is_b, fields)
        messages = [text for text in messages if text]
        convert.put_attributes(data, fields, messages, "GlassMetrics.")
        yield 1.0
        if messages:
            yield " ".join(messages)

    def _color(self, data: Any, is_b: Any, fields: Any) -> None:
        from ovito_phaseseg import convert

        if self.color_by == "graph":
            graph = fields["graph_id"]
            turn = (graph - 1) % (len(GRAPH_COLORS) - 1) + 1
            convert.put_class_colors(data, turn * (graph > 0), GRAPH_COLORS)
        elif self.color_by == "isolated":
            convert.put_class_colors(data, 2 * is_b + fields["isolated"], ISOLATED_COLORS)
        elif self.color_by == "bb":
            convert.put_class_colors(data, 1 * is_b + (fields["bb_degree"] > 0), BB_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows beside the modifier."""
        return f"B = {self.b}, k = {self.k}, {self.rule}"


class GlassClassifier(_GlassModifier):
    """Tell a glass from a liquid with a trained network, as a whole and around every particle.

    Parameters
    ----------
    model : name of a checkpoint that comes with phaseseg, default "liquid_glass/dmpnn-attention-v1"
    model_file : str, default ""
        Checkpoint file of your own (`phaseseg train liquid_glass`), in place of `model`.
    device : "auto", "cpu", "torch" or "cuda", default "auto"
        Compiled loops, which need no torch ("auto", "cpu"); torch on the processor or on a GPU.
    b : str, default ""
        Species B; several names separated by commas. All others are A. Empty for the names of A and B that
        the network was trained with.
    types : str, default ""
        Names of the particle types 1, 2, ..., separated by commas (`"A,B"`): for files without names.
        Given names take the place of those in the file.
    units : "lj" or "metal", default "lj"
        Units of the file, which OVITO does not know; those of the network are asked for.
    threshold : float between 0 and 1, default 0.5
        Probability from which on a configuration, or a particle, counts as glass.
    attention_threshold : float or None, default None
        Attention (1 is the mean) from which on an edge is in the attention graphs; None for that of the
        checkpoint, or the trough of the distribution.
    bonds : bool, default True
        Output the edges of a network with attention as bonds, in addition to those that are there.
    kept_bonds_only : bool, default True
        Of the edges only those at or above the threshold of attention: the attention graphs.
    color_by : "nothing", "probability", "attention" or "uncertainty", default "nothing"
    trajectory_table : bool, default False
        Output the probability and the numbers of the attention graphs against the frame and against the
        temperature, which takes every frame.
    temperature : str, default "temperature"
        Global attribute that holds the temperature of a frame.

    Output: the particle properties `Glass Probability`, `Glass Uncertainty` and, of a network with attention,
    `Attention` (mean of the edges of a particle); bonds with the properties `Attention`, `B-B`, `Length` and
    `Kept` (1 at or above the threshold) and the bond types A-A, A-B and B-B; the attributes
    `GlassClassifier.*`, among them `frame_glass_probability`, `glass_fraction` and `attention_threshold`; the
    tables `glass-probability-frames`, `glass-probability-temperature`, `glass-attention-frames` and
    `glass-attention-temperature`. A network of images says something of the configuration as a whole alone.

    What the network says is kept for the current frame: only `model`, `model_file`, `device`, `b`, `types`,
    `units` and what lies upstream run it anew. The rows of the tables are kept for all frames, until a
    threshold changes.
    """

    model = Enum(DEFAULT_GLASS_MODEL, GLASS_MODELS, label="Checkpoint", ovito_group="Network")
    model_file = FilePath(
        "", label="Own file (empty: the checkpoint above)", ovito_group="Network",
        ovito_file_filter=[f"Checkpoints (*{SUFFIX})", "All files (*)"],
    )  # fmt: skip
    device = Enum("auto", "cpu", "torch", "cuda", label="Device", ovito_group="Network")

    b = Str("", label="Species B (empty: as trained)", ovito_group="Species", ovito_placeholder="B")
    types = Str("", label="Names of types 1, 2, ...", ovito_group="Species", ovito_placeholder="A,B")
    units = Enum("lj", "metal", label="Units of the file", ovito_group="Species")

    threshold = Range(
        low=0.0, high=1.0, value=0.5, exclude_low=True, exclude_high=True,
        label="Threshold (probability)", ovito_group="Thresholds", ovito_invalidate_cache=False,
    )  # fmt: skip
    attention_threshold = Union(
        None, Float, label="Threshold (attention; none = found)", ovito_group="Thresholds",
        ovito_invalidate_cache=False,
    )  # fmt: skip

    bonds = Bool(True, label="Edges as bonds", ovito_group="Output", ovito_invalidate_cache=False)
    kept_bonds_only = Bool(
        True, label="Only bonds of the attention graphs", ovito_group="Output", ovito_invalidate_cache=False
    )
    color_by = Enum(
        "nothing", "probability", "attention", "uncertainty",
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
        """Classify `data`; called by OVITO."""
        with told("Liquid or glass", "take fewer particles"):
            yield from self._classify(data, frame, data_cache, input_slots)

    def _classify(self, data: Any, frame: int, data_cache: Any, slots: Any) -> Steps:
        if "numba" not in sys.modules:
            yield "Loading; the very first use compiles for a while"
        from ovito_phaseseg import convert
        from phaseseg.api import load_model

        network: Any = load_model(self.model_file or self.model, "liquid_glass")
        b = convert.names_of(self.b) or None
        options = {
            "b": b, "threshold": self.threshold, "attention_threshold": self.attention_threshold
        }  # fmt: skip
        rule = network.rule(**options)

        def fields_of(atoms: Any) -> Any:
            return network.predict(atoms, device=self.device, **options)

        atoms = self._frame(data)
        yield 0.05
        # OVITO empties the cache when a parameter of the network or anything upstream changes.
        cache = {} if data_cache is None else data_cache.attributes
        settings = repr((network.checkpoint.hash, self.device, self.b, self.types, self.units))
        key = repr((frame, atoms.n_atoms, settings))
        if cache.get("phaseseg.key") != key:
            yield f"{network.name} on {atoms.n_atoms:,} particles"
            cache["phaseseg.answer"] = network.run(atoms, rule, device=self.device)
            cache["phaseseg.key"] = key
        answer = cache["phaseseg.answer"]
        fields = network.fields(atoms, answer, rule)
        yield 0.6
        messages = list(fields.messages)
        if self.trajectory_table:
            key = repr((settings, options))
            rows = yield from self._rows(data, fields, frame, cache, key, slots, fields_of)
            messages.append(
                self._put_series(data, "glass-probability", "Glass probability", PROBABILITY, rows)
            )
            if "attention_bonds" in fields:
                self._put_series(data, "glass-attention", "Number", ATTENTION, rows)
        yield "Output"
        convert.put_atoms(data, fields)
        if self.bonds and "attention_bonds" in fields:
            chosen = "kept" if self.kept_bonds_only else ""
            self._put_bonds(data, answer.is_b, fields["attention_bonds"], chosen, PAIRS)
        self._color(data, fields)
        messages = [text for text in messages if text]
        convert.put_attributes(data, fields, messages, "GlassClassifier.")
        data.attributes["GlassClassifier.model"] = network.name
        data.attributes["GlassClassifier.model_sha256"] = network.checkpoint.hash
        yield 1.0
        if messages:
            yield " ".join(messages)

    def _color(self, data: Any, fields: Any) -> None:
        from ovito_phaseseg import convert

        if self.color_by == "probability" and "glass_probability" in fields:
            convert.put_gradient(data, fields["glass_probability"], PROBABILITY_COLORS)
        elif self.color_by == "uncertainty" and "glass_uncertainty" in fields:
            # No two networks can disagree by more than a standard deviation of one half.
            convert.put_gradient(data, 2 * fields["glass_uncertainty"], UNCERTAINTY_COLORS)
        elif self.color_by == "attention" and "attention" in fields:
            # The mean over the edges is 1, which becomes the middle of the colors.
            convert.put_gradient(data, fields["attention"] / (1 + fields["attention"]), ATTENTION_COLORS)

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """What OVITO Pro shows beside the modifier."""
        name = str(self.model_file).replace("\\", "/").rpartition("/")[2] or self.model
        return name.removeprefix("liquid_glass/")
