"""What networks and baselines that tell liquid from glass are worth: windows, scores, every number of a card.

The independent unit is the run: what is uncertain is found from runs drawn with replacement, and windows of
one configuration never count as more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.attention import (
    METRICS,
    attention_bonds,
    attention_counts,
    compare,
    trough,
)
from phaseseg.families.liquid_glass.baselines import Baseline
from phaseseg.families.liquid_glass.crops import (
    Cells,
    Graphs,
    Picks,
    count_particles,
    cut_windows,
    draw_windows,
    graph_of,
    window_graphs,
)
from phaseseg.families.liquid_glass.images import Plane, Style, draw
from phaseseg.families.liquid_glass.inference import GlassOutput
from phaseseg.families.liquid_glass.model import GlassModel, _images
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.fields import Bonds
from phaseseg.frame import Frame
from phaseseg.neighbors import nearest_neighbors
from phaseseg.recipes.liquid_glass.datasets import Configurations, GlassSet, temperature_of
from phaseseg.statistics import Bootstrap

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EDGE = 12.0
"""σ: edge of the windows where one size is asked for; 0.2 of the paper's cell of 60 σ."""
EDGES = (3.0, 4.5, 6.0, 9.0, 12.0, 18.0, 24.0, 30.0)
PAPER_CELL = 60.0
"""σ: edge of the paper's cell, over which it writes those of windows."""
RESAMPLES = 2000

_BATCH = 20_000  # particles of windows that are looked at together
_IMAGES = 16
_OPEN = np.zeros(3, dtype=bool)
_TRIES = 200  # to find windows that hold enough particles


# Windows ------------------------------------------------------------------------------------------


def sample_windows(cells: Cells, per: int, *, edge: float = EDGE, least: int = 3, seed: int = 0) -> Picks:
    """Windows at random places, `per` from each configuration, the same for the same seed.

    edge : σ
    least : particles that a window must hold; with fewer another one is drawn

    Raises
    ------
    ValueError
        If a cell is smaller than the window, or there are hardly any windows with so many particles.
    """
    found = []
    for k in range(len(cells)):
        rng = np.random.default_rng((seed, k))
        which = np.full(per, k)
        picks = draw_windows(cells, which, rng, edge=edge)
        for _ in range(_TRIES):
            few = np.flatnonzero(count_particles(cells, picks) < least)
            if not len(few):
                break
            again = draw_windows(cells, which[few], rng, edge=edge)
            for values, new in zip(picks, again, strict=True):
                values[few] = new
        else:
            raise ValueError(f"windows of {edge:g} σ rarely hold {least} particles; choose larger ones.")
        found.append(picks)
    return Picks(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def window_frames(configurations: Configurations, picks: Picks, config: GlassConfig) -> list[Frame]:
    """The particles of windows as open frames, with the mean energies of their particles in `info`.

    Energies are those in the whole configuration: a window alone would lose its bonds across the edge.
    `inherent_energy` is there where the configurations know it of every particle.
    """
    cells = configurations.cells(config)
    windows = cut_windows(cells, picks)
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


# Answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scores:
    """What a method says of windows or whole configurations.

    of : (n,) int64, the configuration of each
    members : (n_members, n) logits of glass, calibrated
    """

    of: Integers
    members: Floats

    @property
    def logit(self) -> Floats:
        """(n,) of the mean probability of the members; no two probabilities near 0 or 1 become the same."""
        yes, no = -np.logaddexp(0, -self.members), -np.logaddexp(0, self.members)
        return np.asarray(np.logaddexp.reduce(yes, axis=0) - np.logaddexp.reduce(no, axis=0))

    @property
    def probability(self) -> Floats:
        """(n,) mean over the members."""
        return np.asarray(np.exp(-np.logaddexp(0, -self.members)).mean(axis=0))


class Judge:
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
        """Particles that a window must hold."""
        return self.config.k + 1 if self.config.architecture == "dmpnn" else 1

    def windows(self, configurations: Configurations, picks: Picks) -> Scores:
        """Of windows; those of images must have the edge that the network looks at."""
        if self.config.architecture == "cnn":
            return Scores(picks.cell, self._of_images(configurations, picks))
        cells = configurations.cells(self.config)
        sizes = count_particles(cells, picks)
        parts, first = [], 0
        while first < len(picks):
            stop = first + max(int(np.searchsorted(np.cumsum(sizes[first:]), _BATCH)), 1)
            graphs = window_graphs(cut_windows(cells, picks.take(slice(first, stop))), self.config)
            parts.append(self._network(graphs).graphs)
            first = stop
        return Scores(picks.cell, np.concatenate(parts, axis=1) / self._scale)

    def _of_images(self, configurations: Configurations, picks: Picks) -> Floats:
        config, style = self.config, Style.of_config(self.config)
        logits = np.empty((self.n_members, len(picks)))
        for k in np.unique(picks.cell):
            own = np.flatnonzero(picks.cell == k)
            plane = Plane.of(configurations.frames[k], config.codes_of(configurations.frames[k]))
            fractions = plane.positions @ np.linalg.inv(plane.cell)
            low, span = fractions.min(axis=0), np.ptp(fractions, axis=0)
            corner = picks.corner[own]
            corners = np.where(plane.pbc, corner, low + corner * span) @ plane.cell
            for at in range(0, len(own), _IMAGES):
                images = draw(plane, corners[at : at + _IMAGES], config.image_size, style)
                logits[:, own[at : at + _IMAGES]] = self._network(images)
        return logits / self._scale

    def whole(self, configurations: Configurations) -> Scores:
        """Of whole configurations; of images the mean of the logits of those that cover one."""
        members = []
        for frame in configurations.frames:
            if self.config.architecture == "cnn":
                codes = self.config.codes_of(frame)
                each = [self._network(images) for images in _images(frame, codes, self.config)]
                members.append(np.concatenate(each, axis=1).mean(axis=1))
            else:
                members.append(self.graph(frame)[1].graphs[:, 0])
        return Scores(np.arange(len(configurations)), np.array(members, dtype=np.float64).T / self._scale)

    def particles(self, configurations: Configurations) -> Scores:
        """Of the particles of whole configurations, by a network on graphs."""
        members, of = [], []
        for k, frame in enumerate(configurations.frames):
            members.append(np.array(self.graph(frame)[1].nodes, dtype=np.float64))
            of.append(np.full(frame.n_atoms, k))
        return Scores(np.concatenate(of), np.concatenate(members, axis=1) / self._scale)

    def graph(self, frame: Frame) -> tuple[Graphs, GlassOutput]:
        """The graph of a configuration, and what the networks say of it."""
        graphs = graph_of(frame, self.config)
        return graphs, self._network(graphs)

    def attention(self, frame: Frame) -> Bonds:
        """The edges of a configuration with their `attention`, mean over members and directions, and `bb`."""
        near = nearest_neighbors(frame, self.config.k, dimensions=self.config.dimensions)
        graphs = graph_of(frame, self.config, near=near)
        output: GlassOutput = self._network(graphs)
        assert output.attention is not None
        return attention_bonds(graphs, near, output.attention.mean(axis=0), self.config.codes_of(frame) == 1)


# Numbers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """How well a method tells liquid from glass.

    n_runs, n_glass, n_liquid : runs, and items of each state
    auc, accuracy : of all members together
    auc_error, accuracy_error : standard deviation over runs drawn with replacement
    auc_low, auc_high, accuracy_low, accuracy_high : 95 % intervals from the same
    auc_spread, accuracy_spread : standard deviation over the members, each alone; NaN for one
    auc_mean, accuracy_mean : mean over the members, each alone
    """

    n_runs: int
    n_glass: int
    n_liquid: int
    auc: float
    auc_error: float
    auc_low: float
    auc_high: float
    auc_mean: float
    auc_spread: float
    accuracy: float
    accuracy_error: float
    accuracy_low: float
    accuracy_high: float
    accuracy_mean: float
    accuracy_spread: float


class RunPairs(NamedTuple):
    """How often glass of run a is above liquid of run b; ties count one half.

    wins : (n_runs, n_runs); glass, liquid : (n_runs,) items of each
    """

    wins: Floats
    glass: Floats
    liquid: Floats

    def auc(self, counts: Floats | None = None) -> Floats:
        """Area under the curve of all items, () or, with how often each run counts (n, n_runs), (n,)."""
        c = np.ones(len(self.glass)) if counts is None else counts
        with np.errstate(invalid="ignore"):
            wins = ((c @ self.wins) * c).sum(axis=-1)
            return np.asarray(wins / ((c @ self.glass) * (c @ self.liquid)))


def run_pairs(score: ArrayLike, glass: ArrayLike, run: ArrayLike) -> RunPairs:
    """Compare the glass of every run with the liquid of every run.

    Parameters
    ----------
    score : (n,) higher for glass; glass : (n,) bool; run : (n,) integers from 0 on
    """
    x, positive, of = np.asarray(score, float), np.asarray(glass, bool), np.asarray(run, np.int64)
    n_runs = int(of.max(initial=-1)) + 1
    wins = np.zeros((n_runs, n_runs))
    above, whose = x[positive], of[positive]
    for b in range(n_runs):
        below = np.sort(x[~positive & (of == b)])
        if len(below):
            beaten = 0.5 * (np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right"))
            wins[:, b] = np.bincount(whose, beaten, n_runs)
    return RunPairs(
        wins, np.bincount(whose, minlength=n_runs).astype(float),
        np.bincount(of[~positive], minlength=n_runs).astype(float),
    )  # fmt: skip


def draws_of_runs(pairs: RunPairs, n_resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(n_resamples, n_runs) how often each run is drawn.

    Runs that hold glass, liquid or both are drawn among their like, so no resample lacks a state. None where
    there are fewer than three of a kind.
    """
    kinds = (pairs.glass > 0) + 2 * (pairs.liquid > 0)
    counts = np.zeros((n_resamples, len(kinds)))
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        drawn = Bootstrap(len(own), n_resamples, seed=seed + int(kind)).counts
        if not len(drawn):
            return np.zeros((0, len(kinds)))
        counts[:, own] = drawn
    return counts


def judge(
    scores: Scores, glass: ArrayLike, run: ArrayLike, *, n_resamples: int = RESAMPLES, seed: int = 0
) -> Judgement:
    """The numbers of a method.

    Parameters
    ----------
    scores : of items; above 0 is called glass
    glass, run : of each configuration, (n_configurations,) bool and integers

    Raises
    ------
    ValueError
        If one of the states is missing.

    >>> scores = Scores(np.arange(4), np.array([[2.0, 1.0, -1.0, 0.5]]))
    >>> judgement = judge(scores, [True, True, False, False], [1, 2, 1, 2])
    >>> judgement.auc, judgement.accuracy
    (1.0, 0.75)
    """
    positive = np.asarray(glass, dtype=bool)[scores.of]
    of = np.unique(np.asarray(run)[scores.of], return_inverse=True)[1]
    if not positive.any() or positive.all():
        raise ValueError("liquid and glass are both needed to be told apart.")
    logit = scores.logit
    pairs = run_pairs(logit, positive, of)
    drawn = draws_of_runs(pairs, n_resamples, seed)
    n = len(pairs.glass)
    right = np.bincount(of, (logit > 0) == positive, n)
    items = pairs.glass + pairs.liquid
    samples = (pairs.auc(drawn), drawn @ right / (drawn @ items) if len(drawn) else np.zeros(0))
    intervals = [Bootstrap(n, 0).interval(one) if len(one) else None for one in samples]
    auc, accuracy = float(pairs.auc()), float(right.sum() / items.sum())
    each = [(float(run_pairs(one, positive, of).auc()), float(np.mean((one > 0) == positive)))
            for one in scores.members]  # fmt: skip
    mean, spread = np.mean(each, axis=0), np.std(each, axis=0, ddof=1) if len(each) > 1 else (nan, nan)

    def numbers(k: int) -> tuple[float, float, float]:
        found = intervals[k]
        return (nan, nan, nan) if found is None else (found.error, found.low, found.high)

    (auc_error, auc_low, auc_high), (error, low, high) = numbers(0), numbers(1)
    return Judgement(
        n, int(positive.sum()), int((~positive).sum()), auc, auc_error, auc_low, auc_high, float(mean[0]),
        float(spread[0]), accuracy, error, low, high, float(mean[1]), float(spread[1]),
    )  # fmt: skip


# Experiments --------------------------------------------------------------------------------------


def judge_set(scores: Scores, configurations: Configurations, one: GlassSet, **options: Any) -> Judgement:
    """The numbers of a method on one set, from what it says of configurations of many.

    options : as for `judge`

    Raises
    ------
    ValueError
        If a state of the set is not there.
    """
    states = [one.label(frame) for frame in configurations.frames]
    known = np.array([state is not None for state in states], dtype=bool)[scores.of]
    glass = np.array([bool(state) for state in states])
    return judge(Scores(scores.of[known], scores.members[:, known]), glass, configurations.run, **options)


def scores_of_windows(
    network: Judge, configurations: Configurations, per: int, *, edge: float = EDGE, seed: int = 0
) -> Scores:
    """What a network says of `per` windows of each configuration, of an edge, σ, or the size of images."""
    cells = configurations.cells(network.config)
    if network.config.architecture == "cnn":
        edge = network.config.image_edge
    picks = sample_windows(cells, per, edge=edge, least=network.least, seed=seed)
    return network.windows(configurations, picks)


Curve = list[tuple[float, Judgement]]
"""Edge of the windows, σ (infinite: the whole cell), and the numbers for them."""


def against_edge(
    network: Judge,
    configurations: Configurations,
    sets: Sequence[GlassSet],
    edges: Sequence[float] = EDGES,
    *,
    particles: int = 15_000,
    most: int = 60,
    seed: int = 0,
) -> dict[str, Curve]:
    """Numbers of a network on graphs for windows of several edges and whole cells, set by set.

    particles : about so many are looked at in each configuration; most : windows of one size
    """
    own = configurations.of(*(state for one in sets for state in (one.glass, one.liquid)))
    cells = own.cells(network.config)
    density = np.mean(np.diff(cells.starts) / cells.lengths.prod(axis=1))
    found: dict[str, Curve] = {one.name: [] for one in sets}
    for edge in (*edges, np.inf):
        if np.isfinite(edge):
            per = int(np.clip(particles / (density * edge**network.config.dimensions), 4, most))
            scores = scores_of_windows(network, own, per, edge=edge, seed=seed)
        else:
            scores = network.whole(own)
        for one in sets:
            found[one.name].append((float(edge), judge_set(scores, own, one)))
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


def judge_baseline(
    baseline: Baseline, training: BaselineNumbers, test: BaselineNumbers, one: GlassSet
) -> Judgement:
    """A baseline fitted to items of a set in one lot of configurations, on those in another."""
    states = [one.label(frame) for frame in training.configurations.frames]
    known = np.array([state is not None for state in states], dtype=bool)[training.of]
    glass = np.array([bool(state) for state in states])[training.of[known]]
    fitted = baseline.fit(training.numbers[baseline.name][known], glass)
    scores = Scores(test.of, fitted.logits(test.numbers[baseline.name])[None])
    return judge_set(scores, test.configurations, one)


def against_temperature(network: Judge, configurations: Configurations) -> list[dict[str, Any]]:
    """A row for each configuration: run, temperature, probability of glass, mean of that of the particles."""
    scores = network.whole(configurations)
    rows = []
    for k, frame in enumerate(configurations.frames):
        row = {"run": int(configurations.run[k]), "temperature": temperature_of(frame),
               "probability": float(scores.probability[k]), "logit": float(scores.logit[k])}  # fmt: skip
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


def attention_cut(network: Judge, configurations: Configurations) -> tuple[float, bool]:
    """One threshold for all, the trough of the attention of all their edges; and whether there is one."""
    values = [np.asarray(network.attention(frame).columns["attention"]) for frame in configurations.frames]
    found = trough(np.concatenate(values))
    return found.threshold, found.bimodal


def attention_numbers(
    network: Judge, configurations: Configurations, threshold: float | None = None
) -> AttentionNumbers:
    """Metrics of attention graphs, cut at one threshold or, with None, each at the trough of its own."""
    cuts, rows, shares = [], [], []
    for frame in configurations.frames:
        bonds = network.attention(frame)
        is_b = network.config.codes_of(frame) == 1
        weight = np.asarray(bonds.columns["attention"])
        cut = trough(weight).threshold if threshold is None else threshold
        keep = weight >= np.float32(cut)
        counts = attention_counts(bonds, is_b, keep)
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
    sides = [{name: values[which] for name, values in found.numbers.items()} for which in (liquid, glass)]
    rows = [dict(row) for row in compare(*sides).rows()]
    if np.isin(run[liquid], run[glass]).all():
        paired = compare(*sides, liquid_runs=run[liquid], glass_runs=run[glass])
        for row, other in zip(rows, paired.rows(), strict=True):
            row["p of pairs"] = other["p"]
    return [{"set": one.name, **row} for row in rows]


def only_member(checkpoint: Checkpoint, member: int) -> Checkpoint:
    """One network of a checkpoint alone."""
    head = f"member{member}."
    weights = {
        f"member0.{k.removeprefix(head)}": v for k, v in checkpoint.weights.items() if k.startswith(head)
    }
    return replace(checkpoint, weights=weights, card={})
