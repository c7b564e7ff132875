"""Evaluation of a network against weak labels or a column of the input: `phaseseg evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg import fields
from phaseseg.display import value_and_error
from phaseseg.families import Mapped
from phaseseg.families.segmentation.baselines import baselines as baseline_methods, fit_thresholds
from phaseseg.families.segmentation.comparison import (
    CONTENTS,
    DIFFERENCE,
    SCORE_COLUMNS,
    Case,
    Compared,
    Comparisons,
    Example,
    compare,
    compare_case,
    f1_column,
)
from phaseseg.families.segmentation.methods import WIDTHS, Column, Method, Prediction, WeakLabels
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.fields import Message
from phaseseg.frame import Frame
from phaseseg.report import TextTable, write_evaluation
from phaseseg.trajectory import numbered, over_runs, whole_frame

__all__ = ["Evaluation", "compare", "evaluate"]

FITTED = 8
"""Number of evaluated frames that baselines are fitted to if no other frames are given."""

Runs = Mapping[str, Iterable[Frame]]

_SECTIONS = (
    ("Scores", ("scores", "groups"), ("scores",)),
    ("Three classes", (), ("confusion",)),
    ("Reference and prediction", (), ("slices",)),
    ("Two classes", (), ("roc", "reliability")),
    ("Composition", ("composition", "partition"), ("composition",)),
    ("Frames", ("frames",), ()),
    ("Time", ("time",), ()),
)


class Evaluation(Comparisons):
    """Comparison of a network, and of other methods, with a reference over frames.

    model : SegmentationModel; the other parameters are those of `Comparisons`
    thresholds : thresholds of the baselines by name; empty without baselines
    """

    def __init__(
        self, model: SegmentationModel, methods: Sequence[Method], widths: Sequence[float], reference: str
    ) -> None:
        super().__init__(methods, widths, model.config.target, reference)
        self.model = model
        self.thresholds: Mapping[str, float] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return all results and the label rule as plain values."""
        return {"label_rule": self.model.label_rule.to_dict(), **super().to_dict()}

    def shown(self, name: str) -> Iterator[TextTable | str]:
        """Yield scores for two and three classes, the composition, and a line with the timing."""
        n, agree = len(self), int(self.pooled().verdicts.trace())
        what = "1 frame" if n == 1 else f"{n} frames, ± standard deviation over frames"
        yield self._scores(f"{name} against {self.reference} ({what})", SCORE_COLUMNS.values())
        for width in self.widths:
            kinds = ("macro", "poor", "rich", "boundary", "micro")
            headings = [f1_column(kind, width) for kind in kinds]
            yield self._scores(f"three classes, boundary {width:g} Å", headings)
        rows = list(self.content_table().rows())
        if any(isfinite(row[CONTENTS[0]]) for row in rows):
            yield _contents(rows, min(self.widths))
        times = [row for row in self.time_table().rows() if row["method"] == self.methods[0]]
        parts = ", ".join(f"{row['stage']} {value_and_error(row['seconds a frame'])} s" for row in times)
        yield f"Number of phases agrees in {agree} of {n} frames. Time per frame: {parts}."

    def _scores(self, title: str, shown: Collection[fields.Column]) -> TextTable:
        rows = [
            (row["method"], *(_score(row[one], row.get(one.error, np.nan)) for one in shown))
            for row in self.score_table().rows()
        ]
        # The title says the width.
        short = [one.quantity if one.part else one for one in shown]
        return TextTable(title, ["method", *short], rows, ["bold"] if len(rows) > 1 else [])

    def write(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write the page, figures, tables and `metrics.json` (results and `about`); return the page's path.

        Raises
        ------
        OutputError
            If a file cannot be written. No file is left incomplete.
        """
        from phaseseg.families.segmentation.evaluation_figures import evaluation_figures

        pooled, n = self.pooled(), len(self)
        lead = (
            f"{n} frame{'s' * (n > 1)}, {pooled.n_atoms:,} atoms; the number of phases agrees in "
            f"{pooled.verdicts.trace()} of {n}. Values ± standard deviation over the frames."
        )
        return write_evaluation(
            folder, f"{self.methods[0]} against {self.reference}", lead, _SECTIONS, evaluation_figures(self),
            self.tables(), {**about, **self.to_dict()}, self.messages,
        )  # fmt: skip


def _score(value: float, error: float) -> str:
    """Format a score with four decimals, or with five if it is close to 1."""
    if not isfinite(value):
        return "–"
    digits = 5 if 0.999 < value < 1 else 4
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if isfinite(error) else "")


def _contents(rows: Sequence[Mapping[str, Any]], width: float) -> TextTable:
    elements = [row["element"] for row in rows if row["phase"] == "rich"]
    lines = []
    for phase in ("rich", "poor"):
        for column in (*CONTENTS, DIFFERENCE):
            values = [row[column] for row in rows if row["phase"] == phase]
            name, form = ("difference", "{:+.2f} %") if column is DIFFERENCE else (column.quantity, "{:.3f}")
            lines.append((phase, name, *(form.format(v) if isfinite(v) else "–" for v in values)))
    title = f"composition excluding the boundary of {width:g} Å, wt%"
    return TextTable(title, ["phase", "", *elements], lines, ends=(2, 5), n_labels=2)


def evaluate(
    runs: Runs,
    model: SegmentationModel,
    *,
    device: Any = "auto",
    reference: str = "weak",
    boundary_width: float | Sequence[float] | None = None,
    baselines: bool = False,
    baseline_data: Runs | Iterable[Frame] | None = None,
    members: bool = False,
    seen: Callable[[Frame, Mapping[str, Any]], None] | None = None,
    mapped: Mapped = over_runs,
) -> Evaluation:
    """Compare the predictions of a model with a reference, frame by frame and pooled.

    Parameters
    ----------
    runs : frames of each trajectory, by name
    device : as in `SegmentationModel.score`
    reference : "weak" for labels made by the rule of the checkpoint, or the name of a column of the frames
        with 0 for poor, 1 for rich and, optionally, 2 for boundary
    boundary_width : Å, one or several; default `WIDTHS`
    baselines : also evaluate methods without a network
    baseline_data : frames or runs to fit the baselines to; implies `baselines`. By default the thresholds
        come from the card of the checkpoint or, if it has none, are fitted to the first evaluated frames.
    members : also evaluate each network of the model individually
    seen : called with each frame, its predicted fields, and `differs`, 1 where the reference says otherwise
    mapped : applies a function to the frames of all runs, as `phaseseg.trajectory.over_runs` does

    Raises
    ------
    ValueError
        For no frames, a boundary width below 0, or a column that is missing or has other values; also as
        `SegmentationModel.score`.
    """
    given = WIDTHS if boundary_width is None else np.atleast_1d(boundary_width).tolist()
    widths = tuple(dict.fromkeys(float(width) for width in given))
    if not widths or not all(isfinite(width) and width >= 0 for width in widths):
        raise ValueError(f"boundary widths must be finite and at least 0 Å, found {list(widths)}.")
    answer: Method = WeakLabels(model.label_rule) if reference == "weak" else Column(reference)
    whole = Prediction(model, device=device)
    methods: list[Method] = [whole, *(whole.members() if members else ())]
    thresholds: Mapping[str, float] = {}
    if baselines or baseline_data:
        thresholds, words, runs = _thresholds(runs, model, baseline_data)
        methods += baseline_methods(model.label_rule, thresholds)
    compared = "weak labels" if reference == "weak" else f"the column {reference}"
    result = Evaluation(model, methods, widths, compared)
    result.thresholds = thresholds
    if thresholds:
        result.notes.append(
            Message(f"Thresholds of the baselines were fitted to {words}.", "baselines-fitted")
        )

    work = _Work(answer, whole, methods, widths, seen is not None)
    for run, number, frame, (found, shown) in numbered(mapped(work, runs)):
        name = frame.source or f"{run}, frame {number}"
        row = replace(found.row, group=run, name=name)
        result.add(replace(found, row=row), partial(_example, work, frame))
        if seen is not None:
            seen(frame, shown)
    return result.checked()


_warm: set[str] = set()
"""Hashes of the models that this process has used."""


@dataclass(frozen=True)
class _Work:
    """Compares one frame, in this process or another; returns the counts, and fields to show.

    whole : the first of the methods
    """

    answer: Method
    whole: Prediction
    methods: Sequence[Method]
    widths: tuple[float, ...]
    shown: bool

    def __call__(self, frame: Frame) -> tuple[Compared, Mapping[str, Any]]:
        model, widths = self.whole.model, self.widths
        if model.checkpoint.hash not in _warm:  # timings exclude compilation and allocation
            self.whole(frame, widths[:1])
            self.whole.forget()
            self.answer(frame, widths)
            _warm.add(model.checkpoint.hash)
        case = Case("", frame, self.answer(frame, widths))
        found, shown = compare_case(case, self.methods, widths), {}
        if self.shown:  # the scores of this frame are still known
            fields = model.fields(frame, self.whole.scores(frame)[0], boundary_width=min(widths))
            differs = fields["phase"] != case.reference.phase[min(widths)]
            shown = {**fields, "differs": differs.astype(np.int8)}
        return found, shown


def _example(work: _Work, frame: Any) -> Example:
    example = work(whole_frame(frame))[0].example
    assert example is not None
    return example


def _thresholds(
    runs: Runs, model: SegmentationModel, data: Runs | Iterable[Frame] | None
) -> tuple[Mapping[str, float], str, Runs]:
    """Return baseline thresholds, a phrase on their origin, and the runs including frames read here."""
    rule, kept = model.label_rule, model.checkpoint.card.get("baselines")
    if data:
        frames = chain.from_iterable(data.values()) if isinstance(data, Mapping) else data
        return fit_thresholds(frames, rule), "the frames given for this purpose", runs
    if kept:
        known = {key: float(kept[key]) for key in ("fraction", "bins", "density", "sigma")}
        return known, "the training data of the checkpoint (thresholds from its card)", runs
    first: list[Frame] = []
    again: dict[str, Iterable[Frame]] = {}
    for name, frames in runs.items():
        rest = iter(frames)
        own = list(islice(rest, FITTED - len(first)))
        first += own
        again[name] = chain(own, rest) if rest is frames else frames
    words = "the first evaluated frames, which favors the baselines"
    return fit_thresholds(first, rule), words, again
