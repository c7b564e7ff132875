"""Measurements of the study: networks and baselines on windows and sets, attention against temperature.

They repeat those of Swanson et al. (DOI 10.48550/arXiv.1909.04648).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

EDGE = 12.0
"""σ: edge of the windows where one size is asked for; 0.2 of the paper's cell of 60 σ."""
PAPER_CELL = 60.0
"""σ: edge of the paper's cell, over which it writes those of windows."""

_BATCH = 20_000  # particles of windows that are looked at together
_IMAGES = 16


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
    energies = {
        "potential_energy": configurations.energies,
        "inherent_energy": configurations.inherent_energies,
    }
    frames = []
    for k, cell in enumerate(picks.cell):
        own, of = slice(windows.starts[k], windows.starts[k + 1]), configurations.frames[cell]
        info = {key: v for key, v in of.info.items() if not key.endswith("_energy")}
        info |= {key: float(v[windows.rows[own]].mean()) for key, v in energies.items() if v is not None}
        frames.append(
            Frame(
                windows.positions[own], windows.vectors[k], np.zeros(3, dtype=bool), windows.codes[own],
                config.species, units="lj", info=info, source=of.source,
            )
        )  # fmt: skip
    return frames


# Networks -----------------------------------------------------------------------------------------


class Evaluator:
    """The networks of a checkpoint, applied to windows and to whole configurations."""

    def __init__(self, model: GlassModel) -> None:
        self.model, self.config, self.n_members = model, model.config, model.n_members
        self._scale = float(model.checkpoint.config.get("temperature_scaling", 1.0))
        self._network: Any = model.network("cpu")

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


def score_set(logits: Logits, configurations: Configurations, one: GlassSet) -> StateScores:
    """The scores of a method on one set, from its logits of configurations of many sets.

    Raises
    ------
    ValueError
        If a state of the set is not there.
    """
    known, glass = configurations.states(one)
    own = Logits(logits.of[known[logits.of]], logits.members[:, known[logits.of]])
    if len(np.unique(glass[own.of])) < 2:
        raise ValueError(f"set {one.name} needs both liquid and glass.")
    return score_states(own, glass, configurations.run)


def logits_of_windows(
    network: Evaluator, configurations: Configurations, per: int, *, edge: float = EDGE, seed: int = 0
) -> Logits:
    """Logits for `per` windows of each configuration, with a given edge (σ) or the size of images."""
    cells = configurations.cells(network.config)
    if network.config.architecture == "cnn":
        edge = network.config.image_edge
    least = network.config.k + 1 if network.config.architecture == "dmpnn" else 1
    picks = sample_windows(cells, per, edge=edge, least=least, seed=seed)
    return network.windows(configurations, picks)


Curve = list[tuple[float, StateScores]]
"""Edge of the windows, σ (infinite: the whole cell), and the numbers for them."""


def against_edge(
    network: Evaluator, configurations: Configurations, sets: Sequence[GlassSet], edges: Sequence[float],
    *, particles: int, most: int = 60,
) -> dict[str, Curve]:  # fmt: skip
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
            logits = logits_of_windows(network, own, per, edge=edge)
        else:
            logits = network.whole(own)
        for one in sets:
            found[one.name].append((float(edge), score_set(logits, own, one)))
    return found


class BaselineNumbers(NamedTuple):
    """Numbers of the baselines on windows or whole configurations, measured once for all sets.

    of : (n,) the configuration of each item; numbers : {name: (n, n_numbers)}
    """

    configurations: Configurations
    of: NDArray[np.int64]
    numbers: Mapping[str, Floats]


def baseline_numbers(
    baselines: Sequence[Baseline], configurations: Configurations, config: GlassConfig | None = None,
    per: int = 0, edge: float = EDGE, seed: int = 0,
) -> BaselineNumbers:  # fmt: skip
    """Of `per` windows of each configuration; of whole ones without `config`."""
    frames, of = configurations.frames, np.arange(len(configurations))
    if config is not None:
        picks = sample_windows(configurations.cells(config), per, edge=edge, seed=seed)
        frames, of = window_frames(configurations, picks, config), picks.cell
    return BaselineNumbers(configurations, of, {one.name: one.measure(frames) for one in baselines})


def score_baseline(
    baseline: Baseline, training: BaselineNumbers, test: BaselineNumbers, one: GlassSet
) -> StateScores:
    """The scores on one set of a baseline that is fitted to its states in other configurations."""
    known, glass = (of_each[training.of] for of_each in training.configurations.states(one))
    fitted = baseline.fit(training.numbers[baseline.name][known], glass[known])
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


def attention_cut(network: Evaluator, configurations: Configurations) -> tuple[float, bool]:
    """One threshold for all, the trough of the attention of all their edges; and whether there is one."""
    values = [np.asarray(network.attention(frame).columns["attention"]) for frame in configurations.frames]
    found = trough(np.concatenate(values))
    return found.threshold, found.bimodal


def attention_numbers(
    network: Evaluator, configurations: Configurations, threshold: float
) -> dict[str, Floats]:
    """{name: (n,)}: `attention.METRICS` of graphs cut at a threshold, and `kept`, the share of edges."""
    found: dict[str, list[float]] = {name: [] for name in (*METRICS, "kept")}
    for frame in configurations.frames:
        bonds = network.attention(frame)
        is_b = network.config.codes_of(frame) == 1
        keep = np.asarray(bonds.columns["attention"]) >= np.float32(threshold)
        counts = graph_counts(len(is_b), is_b, bonds.atoms, keep)
        for name in METRICS:
            found[name].append(getattr(counts, name))
        found["kept"].append(keep.mean())
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def attention_tests(
    numbers: Mapping[str, Floats], configurations: Configurations, one: GlassSet
) -> list[dict[str, Any]]:
    """Is glass less than liquid? One-sided tests of rank sums and, where runs have both states, in pairs."""
    known, is_glass = configurations.states(one)
    sides = known & ~is_glass, is_glass
    liquid, glass = ({name: numbers[name][side] for name in METRICS} for side in sides)
    of_liquid, of_glass = (configurations.run[side] for side in sides)
    rows = [{"set": one.name, **row} for row in compare(liquid, glass).rows()]
    if np.isin(of_liquid, of_glass).all():
        paired = compare(liquid, glass, (of_liquid, of_glass))
        for row, other in zip(rows, paired.rows(), strict=True):
            row["p of pairs"] = other["p"]
    return rows
