"""Evaluation against simulated propensities: `phaseseg evaluate -m mobility/...`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import isclose, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

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
from phaseseg.families.mobility.scores import ceiling
from phaseseg.families.mobility.structure import Structure, structure_of
from phaseseg.fields import Message, MessageCounter
from phaseseg.frame import Frame
from phaseseg.report import TextTable, write_evaluation


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
    model: Any,
    *,
    device: Any = "auto",
    target: str = "propensity",
    baselines: bool = False,
    **options: Any,
) -> Evaluation:
    """Compare predicted propensities with simulated ones.

    Parameters
    ----------
    runs : frames of each file by name; every frame is one system
    model : MobilityModel
    device : as in `MobilityModel.run`
    target : name of the column with the simulated propensity; see `targets_of`
    baselines : also correlate single descriptors of the structure, which need no training
    options : of the prediction, as for `phaseseg.predict`

    Raises
    ------
    ValueError
        If there are no frames or a frame has no such column, and as in `MobilityModel.run`.
    """
    rule = model.rule(**options)
    result, counter = Evaluation(model.name, target), MessageCounter()
    times, present = tuple(getattr(model, "times", ())), set[str]()
    for run, frames in runs.items():
        for number, frame in enumerate(frames):
            targets = targets_of(frame, target)
            output = model.run(frame, rule, device=device)
            fields = model.fields(frame, output, rule)
            counter.add(fields.messages)
            present |= {frame.species_names[code] for code in np.unique(frame.species)}
            mean, _ = default = _prediction(fields, frame)
            at = {
                time: _prediction(model.fields(frame, output, replace(rule, time=time)), frame)
                for time in times
            }
            single = descriptors_of(_structure(frame, rule)) if baselines else {}
            unknown = np.full(len(frame), nan)
            for one in targets:
                # A model that knows several times is compared at the nearest, within rounding.
                own = next((at[time] for time in times if isclose(time, one.time, rel_tol=1e-3)), default)
                found = {model.name: own} | {name: (values, unknown) for name, values in single.items()}
                meant = one.main if own is default else True
                result.compared += _compare(len(result), frame, one, found, meant)
            result.systems.append({"run": run, "frame": frame.source or number, "particles": len(frame)})
            if result.example is None:
                result.example = frame, targets[0].values, mean
    if not result.systems:
        raise ValueError("there are no frames to evaluate.")
    result.messages += [*counter.messages(), *_messages(result, present)]
    return result


def _prediction(fields: Mapping[str, Any], frame: Frame) -> tuple[Floats, Floats]:
    """Mean and uncertainty of the propensity; NaN where there is none."""
    mean = np.asarray(fields["propensity"], np.float64)
    return mean, np.asarray(fields.get("propensity_uncertainty", np.full(len(frame), nan)), np.float64)


def _structure(frame: Frame, rule: Any) -> Structure:
    """The structure of a frame as the model sees it, with cages if the temperature is known."""
    temperature = getattr(rule, "temperature", None) or frame.info.get("temperature")
    potential = getattr(rule, "potential", None)
    return structure_of(frame, temperature=temperature, potential=potential, cage=temperature is not None)


def _compare(
    system: int, frame: Frame, target: Target, found: Mapping[str, tuple[Floats, Floats]], meant: bool
) -> Iterator[Compared]:
    """Compare every method with a target for every type that it predicts, the most frequent type first.

    meant : whether the prediction of the model is for the time of the target
    """
    counts = np.bincount(frame.species, minlength=len(frame.species_names))
    for code in sorted(np.flatnonzero(counts), key=lambda code: (-counts[code], code)):
        own = frame.species == code
        highest = nan if target.halves is None else ceiling(*target.halves[own].T)
        for method, (mean, uncertainty) in found.items():
            if np.isfinite(mean[own]).all():
                yield Compared(
                    system, method, frame.species_names[code], target.time, target.main, meant,
                    target.values[own], mean[own], uncertainty[own], highest,
                )  # fmt: skip


def _messages(result: Evaluation, present: set[str]) -> Iterator[Message]:
    own = [one for one in result.compared if one.method == result.name]
    if constant := sorted({one.type for one in own if not isfinite(one.rho)}):
        yield Message(
            f"The correlation of type {', '.join(constant)} is not defined in some systems, because all "
            "values are equal or there is only one particle.", "no-correlation",
        )  # fmt: skip
    if missing := sorted(present - {one.type for one in own}):
        yield Message(
            f"{result.name} does not predict type {', '.join(missing)}, which is left out.", "not-predicted"
        )
    if not any(isfinite(one.ceiling) for one in own):
        yield Message(
            f"The ceiling is not known: it needs the column {result.target}{HALVES} with the means over each "
            "half of the runs, which phaseseg simulate ka3d writes.", "no-ceiling",
        )  # fmt: skip
