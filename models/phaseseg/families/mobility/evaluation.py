"""Evaluation against simulated propensities: `phaseseg evaluate -m mobility/...`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import isclose, isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.families import Mapped
from phaseseg.families.mobility.baselines import descriptors_of
from phaseseg.families.mobility.comparison import (
    HALVES,
    OF_CEILING,
    RHO,
    STATED,
    Compared,
    Comparison,
    Floats,
    Target,
    targets_of,
)
from phaseseg.families.mobility.evaluation_figures import evaluation_figures
from phaseseg.families.mobility.model import MobilityModel
from phaseseg.families.mobility.rules import MobilityRule
from phaseseg.families.mobility.scores import ceiling
from phaseseg.families.mobility.settings import SPECIES
from phaseseg.fields import Message, MessageCounter
from phaseseg.frame import Frame
from phaseseg.report import TextTable, write_evaluation
from phaseseg.trajectory import numbered, over_runs, whole_frame


class Evaluation(Comparison):
    """A comparison that can be printed and written as a report."""

    def shown(self, name: str) -> Iterator[TextTable | str]:
        """Yield the scores as one table."""
        rows, several = list(self.score_table().rows()), len(self) > 1
        timed = len({row["time"] for row in rows if isfinite(row["time"])}) > 1
        headings = ["method", "type", *(["time"] if timed else []), "rho", "rho / ceiling", "rho, pooled"]
        inside = f"inside {STATED:.0%} intervals"
        cells = [
            [
                row["method"], row["type"], *([f"{row['time']:g}"] if timed else []),
                _score(row[RHO], row[RHO.error]), _score(row[OF_CEILING], row[OF_CEILING.error]),
                _score(row["rho, all particles pooled"], nan),
                f"{row[inside]:.1%}" if isfinite(row[inside]) else "–",
            ]
            for row in rows
        ]  # fmt: skip
        n = f"mean of {len(self)} systems ± standard deviation" if several else "1 system"
        styles = ["bold" if row["method"] == self.name else None for row in rows]
        yield TextTable(f"{name}: {self.target}, {n}", [*headings, inside], cells, styles, n_labels=2)

    def write(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figures, tables and `metrics.json` with all numbers and `about`; return the page."""
        n = len(self)
        particles = sum(row["particles"] for row in self.systems)
        lead = (
            f"{n} system{'s' * (n > 1)}, {particles:,} particles. Correlations are computed per system and "
            "type and averaged; ± is the standard deviation over the systems."
        )
        sections = (
            ("Scores", ("scores",), ()), ("Simulated and predicted mobility", (), ("map", "scatter")),
            ("Correlation against time", (), ("times",)), ("Uncertainty", ("calibration",), ("calibration",)),
            ("Systems", ("systems",), ()),
        )  # fmt: skip
        return write_evaluation(
            folder, f"{self.name}: {self.target}", lead, sections, evaluation_figures(self), self.tables(),
            {**about, **self.to_dict()}, self.messages,
        )  # fmt: skip


def _score(value: float, error: float) -> str:
    if not isfinite(value):
        return "–"
    return f"{value:.3f}" + (f" ± {error:.3f}" if isfinite(error) else "")


# -------------------------------------------------------------------------------------- evaluation


def evaluate(
    runs: Mapping[str, Iterable[Frame]],
    model: MobilityModel,
    *,
    device: Any = "auto",
    target: str | None = None,
    baselines: bool = False,
    b: str | tuple[str, ...] | None = None,
    cage_temperature: float | None = None,
    potential: Any = None,
    seen: Callable[[Frame, Mapping[str, Any]], None] | None = None,
    mapped: Mapped = over_runs,
) -> Evaluation:
    """Compare predicted propensities with simulated ones.

    Parameters
    ----------
    runs : frames of each file by name; every frame is one system
    model : MobilityModel
    device : as in `MobilityModel.run`
    target : name of the column with the simulated propensity; see `targets_of`. By default that of the first
        target of the model. If it is the name of another one, that is compared
    baselines : also correlate single descriptors of the structure, which need no training
    b, cage_temperature, potential : as `b`, `temperature` and `potential` of `phaseseg.predict`
    seen : called with each frame, its predicted fields, and `simulated`, the first column to compare with
    mapped : applies a function to the frames of all runs, as `phaseseg.trajectory.over_runs` does

    Raises
    ------
    ValueError
        If there are no frames or a frame has no such column, and as in `MobilityModel.run`.
    """
    target = target or model.targets[0].name
    known = target if any(one.name == target for one in model.targets) else None
    rule = model.rule(b=b, temperature=cage_temperature, potential=potential, target=known)
    result, counter, untrained = Evaluation(model.name, target), MessageCounter(), set[str]()
    work = _Work(model, rule, device, target, baselines, seen is not None)
    for run, number, frame, one in numbered(mapped(work, runs)):
        name = frame.source or number
        if not result.systems:
            example = whole_frame(frame)
            result.example = example, targets_of(example, target)[0].values, one.propensity
        result.compared += [each._replace(system=len(result)) for each in one.compared]
        result.systems.append({"run": run, "frame": name, "particles": len(frame)})
        counter.add(one.messages)
        untrained |= one.untrained
        if seen is not None:
            seen(frame, one.shown)
    if not result.systems:
        raise ValueError("there are no frames to evaluate.")
    result.messages += [*counter.messages(), *_messages(result, untrained)]
    return result


class _Evaluated(NamedTuple):
    """What is kept of a system.

    propensity : (n_atoms,) float64, as predicted
    compared : as of system 0
    untrained : types that are not compared
    messages : of the prediction, without those of the reader
    shown : fields to show
    """

    propensity: Floats
    compared: Sequence[Compared]
    untrained: Set[str]
    messages: Iterable[Message]
    shown: Mapping[str, Any]


@dataclass(frozen=True)
class _Work:
    """Evaluates one frame, in this process or another."""

    model: MobilityModel
    rule: MobilityRule
    device: Any
    target: str
    baselines: bool
    shown: bool

    def __call__(self, frame: Frame) -> _Evaluated:
        model, rule, targets = self.model, self.rule, targets_of(frame, self.target)
        output = model.run(frame, rule, device=self.device)
        predicted = model.fields(frame, output, rule)
        single = _single(model, frame, rule) if self.baselines else {}
        compared: list[Compared] = []
        untrained = set[str]()
        for target in targets:
            own, types, meant = _for_time(model, rule, target)
            fields = predicted if own is rule else model.fields(frame, output, own)
            found = {model.name: (fields["propensity"], fields["propensity_uncertainty"])} | single
            untrained |= set(SPECIES) - set(types)
            compared += [
                one
                for one in _compare(output.codes, target, found, meant)
                if one.method != model.name or one.type in types
            ]
        shown = {**predicted, "simulated": targets[0].values} if self.shown else {}
        propensity = np.asarray(predicted["propensity"], np.float64)
        messages = [one for one in predicted.messages if one not in frame.messages]
        return _Evaluated(propensity, compared, untrained, messages, shown)


def _single(model: MobilityModel, frame: Frame, rule: MobilityRule) -> dict[str, tuple[Floats, Floats]]:
    """Single descriptors of a frame, without uncertainty; with cages if the temperature is known."""
    cage = rule.temperature is not None or "temperature" in frame.info
    descriptors = descriptors_of(model.structure(frame, rule, cage=cage))
    return {name: (values, np.full(len(frame), nan)) for name, values in descriptors.items()}


def _for_time(
    model: MobilityModel, rule: MobilityRule, target: Target
) -> tuple[MobilityRule, tuple[str, ...], bool]:
    """Choose the prediction to compare with a target: for its time, if the model knows that time.

    Returns the rule of the prediction, the types that it was trained on, and whether it is for that time,
    which is also taken for granted if neither of them states a time.
    """
    for known in model.targets:
        if rule.target not in (None, known.name):
            continue
        if known.time is not None and isclose(known.time, target.time, rel_tol=1e-3):
            return (rule if known.time == rule.time else replace(rule, time=known.time)), known.types, True
    default = model.target_of(rule)
    return rule, default.types, target.main and default.time is None and not isfinite(target.time)


def _compare(
    codes: NDArray[np.int32], target: Target, found: Mapping[str, tuple[Any, Any]], meant: bool
) -> Iterator[Compared]:
    """Compare every method with a target, for A and for B, as of system 0.

    meant : whether the prediction of the model is for the time of the target
    """
    for code, name in enumerate(SPECIES):
        own = codes == code
        highest = nan if target.halves is None else ceiling(*target.halves[own].T)
        for method, (mean, uncertainty) in found.items():
            yield Compared(
                0, method, name, target.time, target.main, meant, target.values[own],
                np.asarray(mean, np.float64)[own], np.asarray(uncertainty, np.float64)[own], highest,
            )  # fmt: skip


def _messages(result: Evaluation, untrained: set[str]) -> Iterator[Message]:
    own = [one for one in result.compared if one.method == result.name]
    if constant := sorted({one.type for one in own if not isfinite(one.rho)}):
        yield Message(
            f"The correlation of type {', '.join(constant)} is not defined in some systems, because all "
            "values are equal or there is only one particle.", "no-correlation",
        )  # fmt: skip
    if untrained:
        yield Message(
            f"{result.name} was not trained on type {', '.join(sorted(untrained))}, which is not compared.",
            "not-compared",
        )
    if not any(isfinite(one.ceiling) for one in own):
        yield Message(
            f"The ceiling is not known: it needs the column {result.target}{HALVES} with the means over each "
            "half of the runs, which phaseseg simulate ka3d writes.", "no-ceiling",
        )  # fmt: skip
