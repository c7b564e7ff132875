"""Evaluation of networks and baselines against known states: `phaseseg evaluate`, and scores over runs.

The run is the independent unit: errors come from a bootstrap over runs, and configurations, windows or
particles of one run never count as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families import Mapped
from phaseseg.families.liquid_glass.baselines import BASELINES, THREE_METRICS, Baseline, three_metrics
from phaseseg.families.liquid_glass.model import GlassModel, logit_of_mean
from phaseseg.families.liquid_glass.rules import GlassRule
from phaseseg.families.liquid_glass.states import Label, label_of, named_label
from phaseseg.fields import Column, Message, Table, plain
from phaseseg.frame import Frame
from phaseseg.metrics import reliability
from phaseseg.report import TextTable, write_evaluation
from phaseseg.statistics import FEW_RUNS, Bootstrap
from phaseseg.trajectory import numbered, over_runs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 2000
PARTICLES = 10_000
"""Largest number of particles scored per configuration, evenly spaced in the file."""

# ----------------------------------------------------------------------------------------- scores


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits of a method for items, which are windows, whole configurations or particles.

    of : (n,) int64, the configuration of each item
    members : (n_members, n) calibrated logits of a glass
    """

    of: Integers
    members: Floats

    @property
    def logit(self) -> Floats:
        """(n,) logit of the mean probability of the members; unlike the probability it does not saturate."""
        return logit_of_mean(self.members)

    @property
    def probability(self) -> Floats:
        """(n,) mean over the members."""
        return probability_of(self.members)


def probability_of(members: Floats) -> Floats:
    """Mean probability along the first axis, from logits."""
    return np.asarray(np.exp(-np.logaddexp(0, -members)).mean(axis=0))


class Estimate(NamedTuple):
    """A score of the whole ensemble, and its variation.

    error : bootstrap standard error over runs; NaN for few runs
    low, high : 95 % interval from the same bootstrap
    mean, spread : mean and standard deviation over single members; the spread is NaN for one member
    """

    value: float
    error: float
    low: float
    high: float
    mean: float
    spread: float


@dataclass(frozen=True)
class StateScores:
    """How well a method distinguishes glass from liquid.

    n_runs, n_glass, n_liquid : numbers of runs, and of items of each state
    auc : area under the ROC curve: how often a glass scores above a liquid; NaN if one state is missing
    accuracy : fraction of items classified correctly at a probability of 1/2
    brier : mean squared difference of probability and state; 0 is perfect
    calibration : expected calibration error of the whole ensemble
    """

    n_runs: int
    n_glass: int
    n_liquid: int
    auc: Estimate
    accuracy: Estimate
    brier: Estimate
    calibration: float


class RunPairs(NamedTuple):
    """How often the glass of run a scores above the liquid of run b; ties count one half.

    wins : (n_runs, n_runs); glass, liquid : (n_runs,) numbers of items of each state
    """

    wins: Floats
    glass: Floats
    liquid: Floats

    def auc(self, counts: Floats | None = None) -> Floats:
        """Area under the ROC curve, (); (n,) if `counts` (n, n_runs) gives the weight of each run."""
        c = np.ones(len(self.glass)) if counts is None else counts
        with np.errstate(invalid="ignore"):
            wins = ((c @ self.wins) * c).sum(axis=-1)
            return np.asarray(wins / ((c @ self.glass) * (c @ self.liquid)))


def run_pairs(score: ArrayLike, glass: ArrayLike, run: ArrayLike) -> RunPairs:
    """Compare the glass of every run with the liquid of every run.

    score : (n,) higher for glass; glass : (n,) bool; run : (n,) integers from 0
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
    """Return (n_resamples, n_runs) how often each run is drawn; no rows with fewer than three runs of a kind.

    Runs with glass, with liquid and with both are drawn separately, so that no resample lacks a state.
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


def score_states(
    logits: Logits, glass: ArrayLike, run: ArrayLike, *, n_resamples: int = RESAMPLES, seed: int = 0
) -> StateScores:
    """Score a method.

    glass, run : state (bool) and run (number or name) of each configuration, (n_configurations,)

    >>> logits = Logits(np.arange(4), np.array([[2.0, 1.0, -1.0, 0.5]]))
    >>> scores = score_states(logits, [True, True, False, False], [1, 2, 1, 2])
    >>> scores.auc.value, scores.accuracy.value
    (1.0, 0.75)
    """
    positive = np.asarray(glass, dtype=bool)[logits.of]
    of = np.unique(np.asarray(run)[logits.of], return_inverse=True)[1].astype(np.int64)
    pairs = run_pairs(logits.logit, positive, of)
    drawn, n = draws_of_runs(pairs, n_resamples, seed), len(pairs.glass)
    items = pairs.glass + pairs.liquid

    def estimate(total: Any, samples: Floats, each: Sequence[float]) -> Estimate:
        interval = Bootstrap(n, 0).interval(samples)[:3] if len(samples) else (nan, nan, nan)
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else nan
        return Estimate(float(total), *interval, float(np.mean(each)), spread)

    def mean_of(score: Callable[[Logits], Floats]) -> Estimate:
        values, *each = (np.asarray(score(one), dtype=np.float64) for one in (logits, *single))
        sums = np.bincount(of, values, n)
        samples = drawn @ sums / np.maximum(drawn @ items, 1)
        return estimate(sums.sum() / items.sum(), samples, [float(one.mean()) for one in each])

    single = [Logits(logits.of, member[None]) for member in logits.members]
    areas = [float(run_pairs(one.logit, positive, of).auc()) for one in single]
    return StateScores(
        n, int(positive.sum()), int((~positive).sum()), estimate(pairs.auc(), pairs.auc(drawn), areas),
        mean_of(lambda one: (one.logit > 0) == positive),
        mean_of(lambda one: (one.probability - positive) ** 2),
        reliability(positive, logits.probability).expected_calibration_error,
    )  # fmt: skip


# ------------------------------------------------------------------------------------ evaluation


class Evaluation:
    """Scores of networks and baselines for configurations of known state.

    name : name of the checkpoint; reference : how the states are known, in words
    gap : temperatures between which a configuration is neither; None if a label gives the state
    frames : one row per configuration: run, name, temperature, state, probability
    scores : by method and by item, "configurations" or "particles"
    """

    def __init__(self, name: str, reference: str, gap: tuple[float, float] | None) -> None:
        self.name, self.reference, self.gap = name, reference, gap
        self.frames: list[dict[str, Any]] = []
        self.scores: dict[tuple[str, str], StateScores] = {}
        self.messages: list[Message] = []

    def __len__(self) -> int:
        """Number of configurations."""
        return len(self.frames)

    def score_table(self) -> Table:
        """Table with one row per method, for configurations and for particles."""
        rows = []
        for (method, what), one in self.scores.items():
            row: dict[str, Any] = {"method": method, "scored": what}
            for name, score in (("AUC", one.auc), ("accuracy", one.accuracy), ("Brier score", one.brier)):
                row |= {Column(name): score.value, Column(name).error: score.error}
            numbers = {"glass": one.n_glass, "liquid": one.n_liquid, "runs": one.n_runs}
            rows.append(row | {"calibration error": one.calibration} | numbers)
        return Table.of_rows("Scores", rows)

    def tables(self) -> dict[str, Table]:
        return {"scores": self.score_table(), "frames": Table.of_rows("Configurations", self.frames)}

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain values; None if undefined."""
        return {
            "method": self.name, "reference": self.reference, "frames": len(self),
            "tables": plain(self.tables()), "messages": plain(self.messages),
        }  # fmt: skip

    def shown(self, name: str) -> Iterator[TextTable | str]:
        """Yield the scores as one table for configurations and one for particles."""
        for what in dict.fromkeys(what for _, what in self.scores):
            own = {method: one for (method, scored), one in self.scores.items() if scored == what}
            first = next(iter(own.values()))
            errors = ", ± from a bootstrap over runs" if isfinite(first.brier.error) else ""
            title = f"{name}: {what}, {self.reference} ({_counts(first)}{errors})"
            headings = ("method", "AUC", "accuracy", "Brier score", "calibration error")
            rows = [
                (method, *(_score(x.value, x.error) for x in (one.auc, one.accuracy, one.brier)),
                 _score(one.calibration, nan))
                for method, one in own.items()
            ]  # fmt: skip
            yield TextTable(title, headings, tuple(rows), ("bold",) if len(rows) > 1 else ())

    def write(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figure, tables and `metrics.json` with all numbers and `about`; return the page."""
        from phaseseg.families.liquid_glass.evaluation_figures import evaluation_figure

        first = next(iter(self.scores.values()))
        lead = f"{_counts(first)}; ± from a bootstrap over runs."
        sections = (
            ("Scores", ("scores",), ()), ("Probability of a glass", (), ("probability",)),
            ("Configurations", ("frames",), ()),
        )  # fmt: skip
        caption = "Glass probability of each configuration; lines with points are means over runs."
        figures = [("probability", caption, evaluation_figure(self.frames, self.gap))]
        return write_evaluation(
            folder, f"{self.name}: {self.reference}", lead, sections, figures, self.tables(),
            {**about, **self.to_dict()}, self.messages,
        )  # fmt: skip


def _counts(one: StateScores) -> str:
    return f"{one.n_glass:,} glass and {one.n_liquid:,} liquid in {one.n_runs} runs"


def _score(value: float, error: float) -> str:
    return "–" if not isfinite(value) else f"{value:.4f}" + (f" ± {error:.4f}" if isfinite(error) else "")


def evaluate(
    runs: Mapping[str, Iterable[Frame]],
    model: GlassModel,
    *,
    device: Any = "auto",
    glass_below: float | None = None,
    liquid_above: float | None = None,
    temperature: str = "temperature",
    reference: str | None = None,
    b: str | tuple[str, ...] | None = None,
    baselines: bool = False,
    members: bool = False,
    seen: Callable[[Frame, Mapping[str, Any]], None] | None = None,
    mapped: Mapped = over_runs,
) -> Evaluation:
    """Compare the probabilities of a model with the known states of configurations.

    Parameters
    ----------
    runs : frames by the name of their run; runs are treated as independent
    model : GlassModel
    device : as in `GlassModel.run`
    glass_below, liquid_above : temperatures; at or below the first a configuration is a glass, at or above
        the second a liquid, and in between it is not scored
    temperature : key of the temperature in `Frame.info`
    reference : key of `Frame.info` with 1 or "glass" and 0 or "liquid", instead of temperatures
    b : names of the species B, as for `phaseseg.predict`
    baselines : also score methods without a network; each is a logistic regression fitted to all other runs
        (needs scikit-learn)
    members : also score each network of the model alone
    seen : called with each frame and the probabilities of its particles, if the model gives them
    mapped : applies a function to the frames of all runs, as `phaseseg.trajectory.over_runs` does

    Raises
    ------
    ValueError
        If there are no frames, no frame has a known state, or a file does not give the state, and as in
        `GlassModel.run`.
    ImportError
        If baselines are asked for and scikit-learn is not installed.
    """
    rule, named = model.rule(b=b), None if reference is None else named_label(reference)
    label = label_of(named, glass_below, liquid_above, temperature)
    gap = None if glass_below is None or liquid_above is None else (glass_below, liquid_above)
    words = f"the label {reference}" if gap is None else f"glass at T ≤ {gap[0]:g}, liquid at T ≥ {gap[1]:g}"
    result = Evaluation(model.name, words, gap)
    numbers: list[Sequence[Floats | str]] = []
    glass: list[bool] = []
    of_run: list[str] = []
    whole: list[Floats] = []
    particles: list[Floats] = []
    outside: list[Message] = []
    work = _Work(model, rule, device, label, temperature, baselines, seen is not None)
    for run, number, frame, one in numbered(mapped(work, runs)):
        name = frame.source or f"frame {number}"
        result.frames.append({"run": run, "frame": name, **one.row})
        outside += one.outside
        if seen is not None:
            seen(frame, one.shown)
        if one.state is None:
            continue
        numbers.append(one.numbers)
        glass.append(one.state)
        of_run.append(run)
        whole.append(one.whole)
        if one.particles is not None:
            particles.append(one.particles)
    if not result.frames:
        raise ValueError("there are no frames to evaluate.")
    if not glass:
        raise ValueError(f"none of the {len(result)} configurations has a known state ({words}).")
    logits = {"configurations": Logits(np.arange(len(whole)), np.array(whole).T)}
    if particles:
        of = np.repeat(np.arange(len(particles)), [each.shape[1] for each in particles])
        logits["particles"] = Logits(of, np.concatenate(particles, axis=1))
    for what, together in logits.items():
        result.scores[model.name, what] = score_states(together, glass, of_run)
        for k, alone in enumerate(together.members if members else ()):
            one = Logits(together.of, alone[None])
            result.scores[f"member {k + 1}", what] = score_states(one, glass, of_run)
    result.messages += _messages(result, glass, of_run, outside)
    for baseline, measured in zip(BASELINES, zip(*numbers, strict=True), strict=False):
        try:
            if missing := [one for one in measured if isinstance(one, str)]:
                raise ValueError(missing[0])
            out_of_run = cross_validated(baseline, np.array(measured), glass, of_run)
        except ValueError as error:
            sentence = f"The baseline {baseline.name!r} was left out: {str(error).rstrip('.')}."
            result.messages.append(Message(sentence, "baseline-left-out"))
            continue
        result.scores[baseline.name, "configurations"] = score_states(out_of_run, glass, of_run)
    return result


class _Evaluated(NamedTuple):
    """What is kept of a configuration.

    whole, particles : (n_members,) and (n_members, n) logits; the latter None if the model has none
    numbers : of every baseline, or why it cannot be measured
    shown : fields to show
    """

    row: dict[str, Any]
    state: bool | None
    outside: tuple[Message, ...]
    whole: Floats
    particles: Floats | None
    numbers: Sequence[Floats | str]
    shown: Mapping[str, Any]


@dataclass(frozen=True)
class _Work:
    """Evaluates one frame, in this process or another."""

    model: GlassModel
    rule: GlassRule
    device: Any
    label: Label
    temperature: str
    baselines: bool
    shown: bool

    def __call__(self, frame: Frame) -> _Evaluated:
        state, model = self.label(frame), self.model
        found, inside = model.logits(frame, self.rule, device=self.device)
        row = {
            "temperature": float(frame.info.get(self.temperature, nan)),
            "state": "" if state is None else "glass" if state else "liquid",
            "probability": float(probability_of(found[:, None])[0]),
        }
        shown, some = {}, inside
        if inside is not None:
            row["mean of particles"] = float(probability_of(inside).mean())
            some = inside[:, :: max(1, -(-inside.shape[1] // PARTICLES))].copy()
            if self.shown:
                shown = {"glass_probability": probability_of(inside)}
        outside = model.validity(frame, model.codes(frame, self.rule.b) == 1)
        scored = self.baselines and state is not None
        numbers = [self._numbers(baseline, frame) for baseline in BASELINES if scored]
        return _Evaluated(row, state, outside, found, some, numbers, shown)

    def _numbers(self, baseline: Baseline, frame: Frame) -> Floats | str:
        if baseline is THREE_METRICS:
            names = self.rule.b or self.model.config.species[1:]
            baseline = replace(baseline, numbers=partial(three_metrics, b=names, k=self.model.config.k))
        try:
            return np.asarray(baseline.measure([frame])[0])
        except ValueError as error:
            return str(error)


def _messages(
    result: Evaluation, glass: Sequence[bool], of_run: Sequence[str], outside: Sequence[Message]
) -> Iterator[Message]:
    n, n_runs = len(result), len(set(of_run))
    if outside:
        more = f" In all {len(outside)} of {n} configurations are outside." if len(outside) > 1 else ""
        yield Message(outside[0] + more, outside[0].code)
    if len(glass) < n:
        unknown = f"{n - len(glass)} of {n} configurations"
        yield Message(f"{unknown} are neither glass nor liquid and are not scored.", "not-scored")
    if len(set(glass)) == 1:
        missing = "liquid" if glass[0] else "glass"
        text = f"There is no {missing} among the configurations, so the AUC is not defined."
        yield Message(text, "one-state")
    if n_runs < FEW_RUNS:
        there = f"there {'is' if n_runs == 1 else 'are'} {n_runs}"
        yield Message(
            f"Errors need at least {FEW_RUNS} runs, and {there}: give one file per run.", "few-runs"
        )


def cross_validated(baseline: Baseline, numbers: Floats, glass: Sequence[bool], run: Sequence[str]) -> Logits:
    """Logits of a baseline for each run, from a regression fitted to all other runs; see `Baseline.fit`.

    numbers : (n_frames, n_numbers) that the baseline measures
    """
    states, runs = np.asarray(glass), np.asarray(run)
    logits = np.empty(len(numbers))
    for one in np.unique(runs):
        held = runs == one
        logits[held] = baseline.fit(numbers[~held], states[~held]).logits(numbers[held])
    return Logits(np.arange(len(numbers)), logits[None])
