"""Measurements of the study: networks and baselines on windows and sets, attention against temperature.

They repeat those of Swanson et al. (DOI 10.48550/arXiv.1909.04648).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.attention import METRICS, attention_bonds, compare, trough
from phaseseg.families.liquid_glass.baselines import Baseline
from phaseseg.families.liquid_glass.crops import (
    Cells,
    CropSpec,
    count_particles,
    crop_graphs,
    cut_crops,
    draw_crops,
    graph_of,
)
from phaseseg.families.liquid_glass.evaluation import Logits, StateScores, score_states
from phaseseg.families.liquid_glass.images import Plane, Style, covering_images, draw
from phaseseg.families.liquid_glass.inference import GlassOutput
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.liquid_glass.structural_metrics import graph_counts
from phaseseg.fields import Bonds
from phaseseg.frame import Frame
from phaseseg.recipes.liquid_glass.datasets import Configurations, GlassSet, temperature_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EDGE = 12.0
"""σ: edge of the windows where one size is asked for; 0.2 of the paper's cell of 60 σ."""
EDGES = (3.0, 4.5, 6.0, 9.0, 12.0, 18.0, 24.0, 30.0)
PAPER_CELL = 60.0
"""σ: edge of the paper's cell, over which it writes those of windows."""

_BATCH = 20_000  # particles of windows that are looked at together
_IMAGES = 16
_OPEN = np.zeros(3, dtype=bool)


# Windows ------------------------------------------------------------------------------------------


def sample_windows(cells: Cells, per: int, *, edge: float = EDGE, least: int = 3, seed: int = 0) -> CropSpec:
    """Windows at random places, `per` from each configuration, the same for the same seed.

    edge : σ
    least : particles that a window must hold; with fewer another one is drawn

    Raises
    ------
    ValueError
        If a cell is smaller than the window, or hardly any window contains enough particles.
    """
    found = [
        draw_crops(cells, np.full(per, k), np.random.default_rng((seed, k)), edge=edge, least=least)
        for k in range(len(cells))
    ]
    return CropSpec(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def window_frames(configurations: Configurations, picks: CropSpec, config: GlassConfig) -> list[Frame]:
    """The particles of windows as open frames, with the mean energies of their particles in `info`.

    Energies are those in the whole configuration: a window alone would lose its bonds across the edge.
    `inherent_energy` is there where the configurations know it of every particle.
    """
    cells = configurations.cells(config)
    windows = cut_crops(cells, picks)
    energies, inherent = configurations.energies, configurations.inherent_energies
    frames = []
    for k, cell in enumerate(picks.cell):
        own = slice(windows.starts[k], windows.starts[k + 1])
        rows = windows.rows[own]
        info = {key: v for key, v in configurations.frames[cell].info.items() if not key.endswith("_energy")}
        info["potential_energy"] = float(energies[rows].mean())
        if inherent is not None:
            info["inherent_energy"] = float(inherent[rows].mean())
        frames.append(
            Frame(
                windows.positions[own], windows.vectors[k], _OPEN, windows.codes[own], config.species,
                units="lj", info=info, source=configurations.frames[cell].source,
            )
        )  # fmt: skip
    return frames


# Networks -----------------------------------------------------------------------------------------


class Evaluator:
    """The networks of a checkpoint, applied to windows and to whole configurations.

    name : of the checkpoint; config : GlassConfig
    """

    def __init__(self, checkpoint: Checkpoint | GlassModel) -> None:
        self.model = checkpoint if isinstance(checkpoint, GlassModel) else GlassModel(checkpoint)
        self.name, self.config = self.model.name, self.model.config
        self._scale = float(self.model.checkpoint.config.get("temperature_scaling", 1.0))
        self._network: Callable[..., Any] = self.model.network("cpu")

    @property
    def n_members(self) -> int:
        return self.model.n_members

    @property
    def least(self) -> int:
        """Number of particles that a window must hold."""
        return self.config.k + 1 if self.config.architecture == "dmpnn" else 1

    def windows(self, configurations: Configurations, picks: CropSpec) -> Logits:
        """Of windows; for networks on images they must have the edge of the images."""
        if self.config.architecture == "cnn":
            return Logits(picks.cell, self._of_images(configurations, picks))
        cells = configurations.cells(self.config)
        sizes = count_particles(cells, picks)
        parts, first = [], 0
        while first < len(picks):
            stop = first + max(int(np.searchsorted(np.cumsum(sizes[first:]), _BATCH)), 1)
            graphs = crop_graphs(cut_crops(cells, picks.take(slice(first, stop))), self.config)
            parts.append(self._network(graphs).graphs)
            first = stop
        return Logits(picks.cell, np.concatenate(parts, axis=1) / self._scale)

    def _of_images(self, configurations: Configurations, picks: CropSpec) -> Floats:
        config, style = self.config, Style.of(self.config)
        logits = np.empty((self.n_members, len(picks)))
        for k in np.unique(picks.cell):
            own = np.flatnonzero(picks.cell == k)
            plane = Plane.of(configurations.frames[k], config.codes_of(configurations.frames[k]))
            corners = plane.place(picks.corner[own])
            for at in range(0, len(own), _IMAGES):
                images = draw(plane, corners[at : at + _IMAGES], config.image_size, style)
                logits[:, own[at : at + _IMAGES]] = self._network(images)
        return logits / self._scale

    def whole(self, configurations: Configurations) -> Logits:
        """Of whole configurations; of images the mean of the logits of those that cover one."""
        members = []
        for frame in configurations.frames:
            if self.config.architecture == "cnn":
                codes = self.config.codes_of(frame)
                each = [self._network(images) for images in covering_images(frame, codes, self.config)]
                members.append(np.concatenate(each, axis=1).mean(axis=1) / self._scale)
            else:
                members.append(self.model.logits(frame)[0])
        return Logits(np.arange(len(configurations)), np.array(members, dtype=np.float64).T)

    def particles(self, configurations: Configurations) -> Logits:
        """Of the particles of whole configurations, by a network on graphs."""
        members = [self.model.logits(frame)[1] for frame in configurations.frames]
        of = np.repeat(np.arange(len(configurations)), [frame.n_atoms for frame in configurations.frames])
        return Logits(of, np.concatenate([one for one in members if one is not None], axis=1))

    def attention(self, frame: Frame) -> Bonds:
        """The edges of a configuration with their `attention`, mean over members and directions, and `bb`."""
        graphs = graph_of(frame, self.config)
        output: GlassOutput = self._network(graphs)
        assert output.attention is not None
        return attention_bonds(graphs, output.attention.mean(axis=0), self.config.codes_of(frame) == 1)


# Experiments --------------------------------------------------------------------------------------


def score_set(logits: Logits, configurations: Configurations, one: GlassSet, **options: Any) -> StateScores:
    """The scores of a method on one set, from its logits of configurations of many sets.

    options : as for `score_states`

    Raises
    ------
    ValueError
        If a state of the set is not there.
    """
    states = [one.label(frame) for frame in configurations.frames]
    known = np.array([state is not None for state in states], dtype=bool)[logits.of]
    glass = np.array([bool(state) for state in states])
    own = Logits(logits.of[known], logits.members[:, known])
    if len(np.unique(glass[own.of])) < 2:
        raise ValueError(f"set {one.name} needs both liquid and glass.")
    return score_states(own, glass, configurations.run, **options)


def logits_of_windows(
    network: Evaluator, configurations: Configurations, per: int, *, edge: float = EDGE, seed: int = 0
) -> Logits:
    """What a network says of `per` windows of each configuration, of an edge, σ, or the size of images."""
    cells = configurations.cells(network.config)
    if network.config.architecture == "cnn":
        edge = network.config.image_edge
    picks = sample_windows(cells, per, edge=edge, least=network.least, seed=seed)
    return network.windows(configurations, picks)


Curve = list[tuple[float, StateScores]]
"""Edge of the windows, σ (infinite: the whole cell), and the numbers for them."""


def against_edge(
    network: Evaluator,
    configurations: Configurations,
    sets: Sequence[GlassSet],
    edges: Sequence[float] = EDGES,
    *,
    particles: int = 15_000,
    most: int = 60,
    seed: int = 0,
) -> dict[str, Curve]:
    """Numbers of a network on graphs for windows of several edges and whole cells, set by set.

    particles : approximate number of particles in the windows of a configuration; most : windows of a size
    """
    own = configurations.of(*(state for one in sets for state in (one.glass, one.liquid)))
    cells = own.cells(network.config)
    density = np.mean(np.diff(cells.starts) / cells.lengths.prod(axis=1))
    found: dict[str, Curve] = {one.name: [] for one in sets}
    for edge in (*edges, np.inf):
        if np.isfinite(edge):
            per = int(np.clip(particles / (density * edge**network.config.dimensions), 4, most))
            logits = logits_of_windows(network, own, per, edge=edge, seed=seed)
        else:
            logits = network.whole(own)
        for one in sets:
            found[one.name].append((float(edge), score_set(logits, own, one)))
    return found


@dataclass(frozen=True, eq=False)
class BaselineNumbers:
    """Numbers of the baselines on windows or whole configurations, measured once for all sets.

    configurations : they are of
    of : (n,) the configuration of each item
    numbers : {name: (n, n_numbers)}
    """

    configurations: Configurations
    of: Integers
    numbers: Mapping[str, Floats]

    @classmethod
    def of_whole(cls, configurations: Configurations, baselines: Sequence[Baseline]) -> BaselineNumbers:
        frames = configurations.frames
        found = {one.name: one.measure(frames) for one in baselines}
        return cls(configurations, np.arange(len(frames)), found)

    @classmethod
    def of_windows(
        cls, configurations: Configurations, baselines: Sequence[Baseline], config: GlassConfig, per: int,
        *, edge: float = EDGE, seed: int = 0,
    ) -> BaselineNumbers:  # fmt: skip
        cells = configurations.cells(config)
        picks = sample_windows(cells, per, edge=edge, seed=seed)
        frames = window_frames(configurations, picks, config)
        return cls(configurations, picks.cell, {one.name: one.measure(frames) for one in baselines})


def score_baseline(
    baseline: Baseline, training: BaselineNumbers, test: BaselineNumbers, one: GlassSet
) -> StateScores:
    """The scores on one set of a baseline that is fitted to its states in other configurations."""
    states = [one.label(frame) for frame in training.configurations.frames]
    known = np.array([state is not None for state in states], dtype=bool)[training.of]
    glass = np.array([bool(state) for state in states])[training.of[known]]
    fitted = baseline.fit(training.numbers[baseline.name][known], glass)
    logits = Logits(test.of, fitted.logits(test.numbers[baseline.name])[None])
    return score_set(logits, test.configurations, one)


def against_temperature(network: Evaluator, configurations: Configurations) -> list[dict[str, Any]]:
    """A row for each configuration: run, temperature, probability of glass, mean of that of the particles."""
    logits = network.whole(configurations)
    rows = []
    for k, frame in enumerate(configurations.frames):
        row = {"run": int(configurations.run[k]), "temperature": temperature_of(frame),
               "probability": float(logits.probability[k])}  # fmt: skip
        if network.config.architecture == "dmpnn":
            own = network.particles(configurations.take([k]))
            row["particles"] = float(own.probability.mean())
        rows.append(row)
    return rows


# Attention ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttentionNumbers:
    """The metrics of attention graphs of configurations.

    threshold : (n,) where attention was cut
    numbers : {name: (n,)} of `attention.METRICS`
    shares : {name: (n,)} of the edges that are kept, and of the kept ones that are A-A, A-B and B-B
    """

    configurations: Configurations
    threshold: Floats
    numbers: Mapping[str, Floats]
    shares: Mapping[str, Floats]


def attention_cut(network: Evaluator, configurations: Configurations) -> tuple[float, bool]:
    """One threshold for all, the trough of the attention of all their edges; and whether there is one."""
    values = [np.asarray(network.attention(frame).columns["attention"]) for frame in configurations.frames]
    found = trough(np.concatenate(values))
    return found.threshold, found.bimodal


def attention_numbers(
    network: Evaluator, configurations: Configurations, threshold: float | None = None
) -> AttentionNumbers:
    """Metrics of attention graphs, cut at one threshold or, with None, each at the trough of its own."""
    cuts, rows, shares = [], [], []
    for frame in configurations.frames:
        bonds = network.attention(frame)
        is_b = network.config.codes_of(frame) == 1
        weight = np.asarray(bonds.columns["attention"])
        cut = trough(weight).threshold if threshold is None else threshold
        keep = weight >= np.float32(cut)
        counts = graph_counts(len(is_b), is_b, bonds.atoms, keep)
        ends = is_b[bonds.atoms].sum(axis=1)
        cuts.append(cut)
        rows.append([getattr(counts, name) for name in METRICS])
        shares.append(
            [keep.mean(), *(float(np.mean(ends[keep] == n)) if keep.any() else nan for n in (0, 1, 2))]
        )
    table, parts = np.array(rows, dtype=np.float64), np.array(shares)
    return AttentionNumbers(
        configurations, np.array(cuts), {name: table[:, k] for k, name in enumerate(METRICS)},
        {name: parts[:, k] for k, name in enumerate(("kept", "A-A", "A-B", "B-B"))},
    )  # fmt: skip


def attention_tests(found: AttentionNumbers, one: GlassSet) -> list[dict[str, Any]]:
    """Is glass less than liquid? One-sided tests of rank sums and, where runs have both states, in pairs."""
    states = [one.label(frame) for frame in found.configurations.frames]
    run = found.configurations.run
    liquid, glass = (np.array([state is side for state in states]) for side in (False, True))
    of_liquid, of_glass = (
        {name: values[which] for name, values in found.numbers.items()} for which in (liquid, glass)
    )
    rows = [dict(row) for row in compare(of_liquid, of_glass).rows()]
    if np.isin(run[liquid], run[glass]).all():
        paired = compare(of_liquid, of_glass, (run[liquid], run[glass]))
        for row, other in zip(rows, paired.rows(), strict=True):
            row["p of pairs"] = other["p"]
    return [{"set": one.name, **row} for row in rows]
