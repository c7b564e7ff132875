"""What a segmentation is worth: methods on frames, against a reference, with every number of a card.

A method says of each atom of a frame on which side it is and how far from the interface; the reference is
one more method, or the known answer of a `Case`. Everything is counted frame by frame and added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from phaseseg.families.segmentation.fields import BOUNDARY, PHASE_CLASSES, POOR, RICH
from phaseseg.families.segmentation.labels.composition import element_masses
from phaseseg.families.segmentation.labels.density import DensityField, density_field
from phaseseg.families.segmentation.labels.weak_labels import label_density
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame
from phaseseg.metrics import class_scores, confusion_matrix, reliability, roc_curve, spread

if TYPE_CHECKING:
    from phaseseg.families.segmentation.model import Scores, SegmentationModel

WIDTHS = (2.7, 0.68)
"""Å: what the paper's evaluation of large cells really used, and what the paper states."""
NEAR = 1.5
"""Å: distances are compared for atoms that are not farther from the interface of the reference."""
CLASSES = tuple(phase.name for phase in PHASE_CLASSES)

_ROC_POINTS = 200
_SCORE_COLUMNS = {
    "error": "two-class error", "auc": "AUC", "calibration": "calibration error", "shift": "shift (Å)",
    "rms": "rms (Å)",
}  # fmt: skip
_F1_COLUMNS = {
    "macro": "macro F1", "boundary": "boundary F1", "rich": "rich F1", "poor": "poor F1",
    "micro": "micro F1",
}  # fmt: skip


# ----------------------------------------------------------------------- what a method says


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What one method says of the atoms of a frame.

    rich : (n_atoms,) bool, on which side each atom is
    distance : (n_atoms,) float32, Å, signed, positive in the rich phase; NaN where there is no interface
    phase : for each boundary width (Å) the classes, (n_atoms,) int8
    score : (n_atoms,), larger for rich, if the method has one
    probability : (n_atoms,) float32, of being rich, if the method has one
    n_domains : rich domains
    seconds : time taken, by stage
    """

    rich: NDArray[np.bool_]
    distance: NDArray[np.float32]
    phase: Mapping[float, NDArray[np.int8]]
    n_domains: int = 0
    score: NDArray[np.floating[Any]] | None = None
    probability: NDArray[np.float32] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def n_phases(self) -> int:
        """1 where all atoms are on one side."""
        return 2 if len(self.rich) and bool(self.rich.any()) and not bool(self.rich.all()) else 1

    @classmethod
    def of_fields(cls, by_width: Mapping[float, Fields], **more: Any) -> Segmentation:
        """From labels or predictions of a frame that differ in the boundary width alone."""
        first = next(iter(by_width.values()))
        rich = first["domain"] > 0 if first["n_domains"] else first["phase"] == RICH
        phases = {width: fields["phase"] for width, fields in by_width.items()}
        return cls(
            rich, first["interface_distance"], phases, first["n_domains"], messages=first.messages, **more
        )

    @classmethod
    def of_distance(
        cls, distance: NDArray[np.floating[Any]], widths: Sequence[float], **more: Any
    ) -> Segmentation:
        """From signed distances, Å, alone; plus or minus infinity where there is no interface."""
        rich = np.asarray(distance > 0)
        phases = {
            width: np.where(
                (np.abs(distance) <= width / 2) & (width > 0), BOUNDARY, np.where(rich, RICH, POOR)
            ).astype(np.int8)
            for width in widths
        }
        finite = np.where(np.isfinite(distance), distance, np.nan).astype(np.float32)
        return cls(rich, finite, phases, **more)

    def part(self, atoms: NDArray[Any]) -> Segmentation:
        """The same of some of the atoms."""
        return replace(
            self,
            rich=self.rich[atoms],
            distance=self.distance[atoms],
            phase={width: phase[atoms] for width, phase in self.phase.items()},
            score=None if self.score is None else self.score[atoms],
            probability=None if self.probability is None else self.probability[atoms],
        )


class Method(Protocol):
    """Something that segments frames; `name` is the heading of its row."""

    @property
    def name(self) -> str: ...

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation: ...


class WeakLabels:
    """The labels of a rule, as a method.

    rule : with a number for a threshold the cut is constant
    """

    def __init__(self, rule: LabelRule, name: str = "weak labels") -> None:
        self.rule, self.name = rule, name

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        start = perf_counter()
        density = density_field(frame, self.rule)
        return self.of_density(frame, density, widths, start)

    def of_density(
        self, frame: Frame, density: DensityField, widths: Sequence[float], start: float | None = None
    ) -> Segmentation:
        """The labels that follow from a density; `start` is when the work began."""
        start = perf_counter() if start is None else start
        by_width, seconds = {}, nan
        for width in widths:
            by_width[width] = label_density(frame, density, self.rule.replace(boundary_width=width))
            if len(by_width) == 1:
                seconds = perf_counter() - start
        first = next(iter(by_width.values()))
        return Segmentation.of_fields(
            by_width, score=first["phase_density"], seconds={"weak labels": seconds}
        )


class Prediction:
    """The predictions of a model, as a method.

    Parameters
    ----------
    model : SegmentationModel
    name : heading; the name of the checkpoint if left out
    device : as in `SegmentationModel.score`
    options : as for `phaseseg.api`; the boundary widths are those of the comparison
    """

    def __init__(
        self, model: SegmentationModel, name: str = "", *, device: Any = "auto", **options: Any
    ) -> None:
        self.model, self.name, self.device, self.options = model, name or model.name, device, options
        self._last: tuple[Frame, Scores, float] | None = None

    def scores(self, frame: Frame) -> tuple[Scores, float]:
        """The scores of a frame and the seconds they took; those of the last frame are kept."""
        if self._last is None or self._last[0] is not frame:
            start = perf_counter()
            scores = self.model.score(frame, device=self.device)
            self._last = frame, scores, perf_counter() - start
        return self._last[1], self._last[2]

    def forget(self) -> None:
        """Drop the scores that are kept."""
        self._last = None

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        scores, seconds = self.scores(frame)
        return self.decoded(frame, scores, widths, {"network": seconds})

    def decoded(
        self, frame: Frame, scores: Scores, widths: Sequence[float], seconds: Mapping[str, float]
    ) -> Segmentation:
        """Phases and distances that follow from scores."""
        start, decoding, by_width = perf_counter(), nan, {}
        for width in widths:
            by_width[width] = self.model.fields(frame, scores, boundary_width=width, **self.options)
            if len(by_width) == 1:
                decoding = perf_counter() - start
        return Segmentation.of_fields(
            by_width, score=scores.score, probability=scores.probability,
            seconds={**seconds, "decoding": decoding},
        )  # fmt: skip

    def members(self) -> list[Member]:
        """Each network of the model alone; the networks run once for all of them."""
        return [Member(self, index) for index in range(self.model.n_members)]


class Member:
    """One network of a model alone, decoded and calibrated as all of them together are."""

    def __init__(self, whole: Prediction, index: int) -> None:
        self.whole, self.index, self.name = whole, index, f"member {index + 1}"

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        scores, _ = self.whole.scores(frame)
        temperature = float(self.whole.model.checkpoint.config["score"]["temperature"])
        return self.whole.decoded(frame, one_member(scores, self.index, temperature), widths, {})


def one_member(scores: Scores, index: int, temperature: float) -> Scores:
    """The scores of one network of a model, as if it were alone."""
    score = scores.members[index]
    probability = expit(score / np.float32(temperature))
    return replace(
        scores,
        score=score,
        members=scores.members[index : index + 1],
        probability=probability.astype(np.float32),
        uncertainty=np.zeros_like(score),
    )


class Column:
    """A column of the input as the reference.

    0 is poor, 1 rich and 2 boundary, at whatever width; or 0 and 1 alone: the interface then is that of
    the sides themselves, found as that of predictions. A column `phase` beside `interface_distance`, as
    `phaseseg label` writes them, is used with these distances.
    """

    def __init__(self, column: str) -> None:
        self.column, self.name = column, f"column {column}"

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        where = frame.error_prefix
        if self.column not in frame.fields:
            there = ", ".join(frame.fields) or "none"
            raise ValueError(f"{where}there is no column {self.column!r}; the columns are {there}.")
        values = np.asarray(frame.fields[self.column])
        classes = np.unique(values) if values.ndim == 1 else np.array([nan])
        if not np.isin(classes, (POOR, RICH, BOUNDARY)).all():
            raise ValueError(
                f"{where}the column {self.column!r} must hold 0 (poor), 1 (rich) and 2 (boundary) only, "
                f"found {', '.join(f'{value:g}' for value in classes[:6])}."
            )
        distance = frame.fields.get("interface_distance") if self.column == "phase" else None
        if distance is not None:
            given = np.asarray(distance, dtype=np.float32)
            side = np.where(values == RICH, np.inf, -np.inf)
            return Segmentation.of_distance(np.where(np.isfinite(given), given, side), widths)
        own = values.astype(np.int8)
        middle = own == BOUNDARY
        # Which side an atom of the boundary is on is not said: what is around it decides.
        sides = _decode_sides(frame, np.where(middle, 0.0, np.where(own == RICH, 1.0, -1.0)), middle, widths)
        if middle.any():
            rich = np.where(middle, sides.rich, own == RICH)
            return replace(sides, rich=rich, phase=dict.fromkeys(widths, own))
        phases = {
            width: np.where(sides.phase[width] == BOUNDARY, BOUNDARY, own).astype(np.int8) for width in widths
        }
        return replace(sides, rich=own == RICH, phase=phases)


def _decode_sides(
    frame: Frame, score: NDArray[np.float64], undecided: NDArray[np.bool_], widths: Sequence[float]
) -> Segmentation:
    from phaseseg.families.segmentation.baselines import decode

    return decode(frame, score, widths, undecided=undecided)


# ------------------------------------------------------------------------------- comparison


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts of one method against the reference, over one frame or several.

    n_frames, n_atoms : how much was compared
    sides : (2, 2) int64, poor and rich; rows are the reference
    confusion : (3, 3) int64 for each boundary width; rows are the reference
    moments : (3,) number, sum and sum of squares of the differences of signed distances, Å
    verdicts : (2, 2) int64, frames of one and two phases; rows are the reference
    reference, prediction : {element: (3,) atoms in poor, rich and boundary at the narrowest width}
    samples : for each frame the sides of the reference, scores and probabilities
    seconds : by stage, a value a frame
    """

    n_frames: int
    n_atoms: int
    sides: NDArray[np.int64]
    confusion: Mapping[float, NDArray[np.int64]]
    moments: NDArray[np.float64]
    verdicts: NDArray[np.int64]
    reference: Mapping[str, NDArray[np.int64]]
    prediction: Mapping[str, NDArray[np.int64]]
    samples: tuple[tuple[NDArray[np.bool_], Any, Any], ...]
    seconds: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(
        cls, frame: Frame, reference: Segmentation, prediction: Segmentation, inside: Any = None
    ) -> Comparison:
        """Compare one frame; `inside` is a mask of the atoms that count."""
        species = frame.species
        # Whether a frame is one phase is asked of the whole of it.
        verdicts = np.zeros((2, 2), dtype=np.int64)
        verdicts[reference.n_phases - 1, prediction.n_phases - 1] = 1
        seconds = {stage: (value,) for stage, value in prediction.seconds.items()}
        if inside is not None:
            reference, prediction, species = reference.part(inside), prediction.part(inside), species[inside]
        apart = prediction.distance.astype(np.float64) - reference.distance
        apart = apart[(np.abs(reference.distance) < NEAR) & np.isfinite(apart)]
        narrow = min(reference.phase)

        def contents(phase: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
            n = len(frame.species_names)
            counts = np.bincount(phase.astype(np.int64) * n + species, minlength=3 * n).reshape(3, n)
            return {name: counts[:, k] for k, name in enumerate(frame.species_names) if counts[:, k].any()}

        sample = reference.rich, prediction.score, prediction.probability
        return cls(
            1,
            len(species),
            confusion_matrix(reference.rich, prediction.rich, 2),
            {w: confusion_matrix(reference.phase[w], prediction.phase[w], 3) for w in reference.phase},
            np.array([len(apart), apart.sum(), (apart**2).sum()]),
            verdicts,
            contents(reference.phase[narrow]),
            contents(prediction.phase[narrow]),
            (sample,),
            seconds,
        )

    @classmethod
    def pooled(cls, parts: Sequence[Comparison]) -> Comparison:
        """All together; there must be one at least."""

        def summed(dicts: Iterable[Mapping[Any, NDArray[np.int64]]]) -> dict[Any, NDArray[np.int64]]:
            total: dict[Any, NDArray[np.int64]] = {}
            for one in dicts:
                for key, counts in one.items():
                    total[key] = total.get(key, 0) + counts
            return total

        stages = dict.fromkeys(stage for part in parts for stage in part.seconds)
        return cls(
            sum(part.n_frames for part in parts),
            sum(part.n_atoms for part in parts),
            np.sum([part.sides for part in parts], axis=0),
            summed(part.confusion for part in parts),
            np.sum([part.moments for part in parts], axis=0),
            np.sum([part.verdicts for part in parts], axis=0),
            summed(part.reference for part in parts),
            summed(part.prediction for part in parts),
            tuple(sample for part in parts for sample in part.samples),
            {stage: tuple(v for part in parts for v in part.seconds.get(stage, ())) for stage in stages},
        )

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(self.confusion)

    def _sample(self, which: int) -> tuple[NDArray[np.bool_], NDArray[Any]] | None:
        """Sides of the reference, and scores (1) or probabilities (2), of all atoms."""
        if any(sample[which] is None for sample in self.samples):
            return None
        return (
            np.concatenate([sample[0] for sample in self.samples]),
            np.concatenate([np.asarray(sample[which]) for sample in self.samples]),
        )

    def numbers(self) -> dict[str, float]:
        """Every score by a short name; NaN where it has no value.

        `error` and `accuracy` of two classes, `auc`, `calibration` (expected error), `shift` and `rms` (Å,
        of the distance near the interface: the mean difference and the spread around it), `verdicts`
        (share of the frames whose number of phases is that of the reference); for each width w `macro w`,
        `micro w` and the F1 `poor w`, `rich w`, `boundary w`.
        """
        hits, total = int(np.trace(self.sides)), int(self.sides.sum())
        n, first, second = (float(moment) for moment in self.moments)
        scored, calibrated = self._sample(1), self._sample(2)
        numbers = {
            "error": 1 - hits / total if total else nan,
            "accuracy": hits / total if total else nan,
            "auc": nan if scored is None else roc_curve(*scored).auc,
            "calibration": nan if calibrated is None else _calibration(*calibrated),
            "shift": first / n if n else nan,
            "rms": float(np.sqrt(max(second / n - (first / n) ** 2, 0.0))) if n else nan,
            "verdicts": float(np.trace(self.verdicts) / self.verdicts.sum()),
        }
        for width, matrix in self.confusion.items():
            scores = class_scores(matrix)
            numbers[f"macro {width:g}"], numbers[f"micro {width:g}"] = scores.macro_f1, scores.micro_f1
            for name, value in zip(CLASSES, scores.f1, strict=True):
                numbers[f"{name} {width:g}"] = float(value)
        return numbers

    def contents(self, target: Sequence[str]) -> Table:
        """Weight content of every element in both phases, without the boundary of the narrowest width.

        A minority content is that of a target in the poor phase and of any other element in the rich one.
        """
        elements = list(dict.fromkeys([*self.reference, *self.prediction]))
        masses = element_masses(tuple(elements))
        none = np.zeros(3, dtype=np.int64)
        percent = []
        for counts in (self.reference, self.prediction):
            mass = np.array([counts.get(name, none) for name in elements], float).T * masses
            with np.errstate(divide="ignore", invalid="ignore"):
                percent.append(100 * mass / mass.sum(axis=1, keepdims=True))
        rows = [
            (phase, name, float(percent[0][code, k]), float(percent[1][code, k]),
             (name in target) == (phase == "poor"))
            for phase, code in (("rich", RICH), ("poor", POOR))
            for k, name in enumerate(elements)
        ]  # fmt: skip
        phases, names, expected, found, minority = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        before, after = np.array(expected, dtype=float), np.array(found, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(before > 0, 100 * (after - before) / before, np.nan)
        return Table(
            "Composition of the phases",
            {
                "phase": np.array(phases, dtype=str), "element": np.array(names, dtype=str),
                "reference (wt%)": before, "prediction (wt%)": after, "relative difference (%)": relative,
                "minority": np.array(minority, dtype=bool),
            },
        )  # fmt: skip

    def partition(self) -> Table:
        """Weight content of the rich over that of the poor phase, of the reference and of the method."""
        contents = self.contents(())
        rows = list(contents.rows())
        names = list(dict.fromkeys(str(row["element"]) for row in rows))
        columns: dict[str, NDArray[Any]] = {"element": np.array(names, dtype=str)}
        for source in ("reference", "prediction"):
            found = {(row["phase"], row["element"]): row[f"{source} (wt%)"] for row in rows}
            with np.errstate(divide="ignore", invalid="ignore"):
                columns[f"D, {source}"] = np.array(
                    [np.float64(found["rich", name]) / found["poor", name] for name in names], dtype=float
                )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = columns["D, prediction"] / columns["D, reference"]
        columns["relative difference (%)"] = 100 * (ratio - 1)
        return Table("Partition coefficients by weight, rich / poor", columns)

    def reliability(self) -> Table:
        """Predicted probability of the rich phase against how often it is rich; empty without one."""
        sample = self._sample(2)
        if sample is None or not len(sample[0]):
            return Table("Reliability", {})
        bins = reliability(*sample)
        return Table(
            "Reliability",
            {
                "from": bins.edges[:-1], "to": bins.edges[1:], "atoms": bins.count,
                "mean probability": bins.mean_probability, "share that is rich": bins.frequency,
            },
        )  # fmt: skip

    def roc(self) -> Table:
        """At most some 200 points of the ROC curve; empty where it has no value."""
        sample = self._sample(1)
        if sample is None or sample[0].all() or not sample[0].any():
            return Table("ROC curve", {})
        curve = roc_curve(*sample)
        along = curve.false_positive_rate + curve.true_positive_rate
        # More of the points where the curve bends, near the upper left corner.
        wanted = np.concatenate([np.linspace(0, 2, _ROC_POINTS // 2), 1 - np.geomspace(1e-4, 1, 50),
                                 1 + np.geomspace(1e-4, 1, 50)])  # fmt: skip
        kept = np.unique(np.clip(np.searchsorted(along, np.sort(wanted)), 0, len(along) - 1))
        kept = np.unique(np.concatenate([[0], kept, [len(along) - 1]]))
        return Table(
            "ROC curve",
            {
                "threshold of the score": curve.threshold[kept],
                "false positive rate": curve.false_positive_rate[kept],
                "true positive rate": curve.true_positive_rate[kept],
            },
        )

    def confusion_table(self, width: float) -> Table:
        """Atoms and, of each class of the reference, the shares."""
        counts = self.confusion[width]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = counts / counts.sum(axis=1, keepdims=True)
        return Table(
            f"Confusion at a boundary of {width:g} Å",
            {
                "reference": np.array(CLASSES),
                **{f"called {name}": counts[:, k] for k, name in enumerate(CLASSES)},
                **{f"share called {name}": shares[:, k] for k, name in enumerate(CLASSES)},
            },
        )


def _calibration(reference: NDArray[np.bool_], probability: NDArray[Any]) -> float:
    return reliability(reference, probability).expected_calibration_error


# ------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True, eq=False)
class Case:
    """A frame with what is right about it.

    group : rows of tables are pooled by it: a file, or a kind of hard case
    reference : the right answer, or what stands for it
    inside : (n_atoms,) bool, atoms that count; all if left out
    name : of this frame
    """

    group: str
    frame: Frame
    reference: Segmentation
    inside: NDArray[np.bool_] | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """One frame that was compared, and how every method did."""

    group: str
    name: str
    timestep: int | None
    n_domains: Mapping[str, int]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, eq=False)
class Shown:
    """The frame that stands in the pictures."""

    frame: Frame
    reference: Segmentation
    prediction: Segmentation


class Evaluation:
    """Methods against a reference over frames: the rows, and all that follows from them.

    Attributes
    ----------
    methods : names, the one that is judged first
    widths : boundary widths, Å
    target : what the rich phase is rich in
    reference : what the methods are compared with
    rows : one for each frame
    shown : the last frame of two phases
    messages : what is to be said
    """

    def __init__(
        self, methods: Sequence[str], widths: Sequence[float], target: Sequence[str], reference: str
    ) -> None:
        self.methods, self.widths, self.target = tuple(methods), tuple(widths), tuple(target)
        self.reference = reference
        self.rows: list[Row] = []
        self.shown: Shown | None = None
        self.messages: dict[str, None] = {}

    # Pooling -------------------------------------------------------------------------------------

    def groups(self) -> list[str]:
        return list(dict.fromkeys(row.group for row in self.rows))

    def pooled(self, method: str | None = None, group: str | None = None) -> Comparison:
        """One method, the first if left out, over all frames or those of a group."""
        name = self.methods[0] if method is None else method
        return Comparison.pooled([row.comparisons[name] for row in self.rows if group in (None, row.group)])

    def over_frames(self, method: str | None = None, group: str | None = None) -> dict[str, Any]:
        """Spread of every number over the frames: {name: metrics.Spread}."""
        name = self.methods[0] if method is None else method
        each = [row.comparisons[name].numbers() for row in self.rows if group in (None, row.group)]
        return {key: spread([numbers[key] for numbers in each]) for key in each[0]}

    # Tables --------------------------------------------------------------------------------------

    def score_table(self, group: str | None = None) -> Table:
        """A row for each method: everything pooled, with the standard deviation over the frames."""
        rows = []
        for method in self.methods:
            numbers = self.pooled(method, group).numbers()
            over = self.over_frames(method, group)
            row: dict[str, Any] = {"method": method}
            for key, heading in self._columns().items():
                row[heading] = numbers[key]
                if over[key].n > 1:
                    row[f"{heading} ±"] = over[key].deviation
            rows.append(row)
        return as_table(f"Scores against {self.reference}", rows)

    def _columns(self) -> dict[str, str]:
        columns = dict(_SCORE_COLUMNS)
        for width in self.widths:
            columns |= {f"{key} {width:g}": f"{name}, {width:g} Å" for key, name in _F1_COLUMNS.items()}
        return columns

    def group_table(self) -> Table:
        """A row for each group and method."""
        rows = []
        for group in self.groups():
            for method in self.methods:
                part = self.pooled(method, group)
                numbers = part.numbers()
                rows.append(
                    {"group": group, "method": method, "frames": part.n_frames, "atoms": part.n_atoms}
                    | {heading: numbers[key] for key, heading in self._columns().items()}
                    | {"verdicts that agree": numbers["verdicts"]}
                )
        return as_table(f"Scores against {self.reference}, by group", rows)

    def frame_table(self) -> Table:
        """A row for each frame, of the method that is judged."""
        rows = []
        for row in self.rows:
            one = row.comparisons[self.methods[0]]
            numbers = one.numbers()
            reference, predicted = np.argwhere(one.verdicts)[0] + 1
            rows.append(
                {"group": row.group, "frame": row.name,
                 "timestep": nan if row.timestep is None else row.timestep,
                 "atoms": one.n_atoms, "phases, reference": int(reference), "phases": int(predicted),
                 "domains": row.n_domains[self.methods[0]]}
                | {heading: numbers[key] for key, heading in self._columns().items()}
                | {f"{stage} (s)": values[0] for stage, values in one.seconds.items()}
            )  # fmt: skip
        return as_table(f"Frames, {self.methods[0]} against {self.reference}", rows)

    def content_table(self, method: str | None = None, group: str | None = None) -> Table:
        """`Comparison.contents` pooled, with the standard deviation of the relative difference."""
        name = self.methods[0] if method is None else method
        parts = [row.comparisons[name] for row in self.rows if group in (None, row.group)]
        pooled = Comparison.pooled(parts).contents(self.target)
        if len(parts) < 2:
            return pooled
        each: dict[tuple[Any, Any], list[float]] = {}
        for part in parts:
            for row in part.contents(self.target).rows():
                each.setdefault((row["phase"], row["element"]), []).append(row["relative difference (%)"])
        deviation = [spread(each[row["phase"], row["element"]]).deviation for row in pooled.rows()]
        columns = dict(pooled.columns)
        columns["relative difference (%) ±"] = np.array(deviation)
        return Table(pooled.title, columns)

    def time_table(self) -> Table:
        """Median seconds per frame by method and stage, and of a million atoms."""
        rows = []
        for method in self.methods:
            pooled = self.pooled(method)
            if not pooled.n_atoms:
                continue
            mean_atoms = pooled.n_atoms / pooled.n_frames
            stages = {stage: float(np.median(v)) for stage, v in pooled.seconds.items() if len(v)}
            rows += [
                {"method": method, "stage": stage, "seconds a frame": value,
                 "seconds a million atoms": 1e6 * value / mean_atoms}
                for stage, value in stages.items()
            ]  # fmt: skip
        return as_table("Time", rows)

    def tables(self) -> dict[str, Table]:
        """Every table by its name; those of the method that is judged unless they say otherwise."""
        pooled = self.pooled()
        tables = {"scores": self.score_table(), "frames": self.frame_table()}
        if len(self.groups()) > 1:
            tables["groups"] = self.group_table()
        for width in self.widths:
            tables[f"confusion_{width:g}"] = pooled.confusion_table(width)
        tables |= {
            "composition": self.content_table(), "partition": pooled.partition(),
            "reliability": pooled.reliability(), "roc": pooled.roc(), "time": self.time_table(),
        }  # fmt: skip
        return {name: table for name, table in tables.items() if len(table)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; null for what has no value."""
        pooled = self.pooled()

        def rounded(value: Any) -> Any:
            return None if isinstance(value, float) and not isfinite(value) else value

        methods = {}
        for method in self.methods:
            one = self.pooled(method)
            over = self.over_frames(method)
            methods[method] = {
                "scores": {key: rounded(value) for key, value in one.numbers().items()},
                "over_frames": {
                    key: {name: rounded(getattr(value, name)) for name in ("n", "mean", "deviation")}
                    for key, value in over.items()
                },
                "confusion": {f"{width:g}": matrix.tolist() for width, matrix in one.confusion.items()},
            }
        tables = self.tables()
        return {
            "method": self.methods[0],
            "reference": self.reference,
            "target": list(self.target),
            "boundary_widths": list(self.widths),
            "frames": pooled.n_frames,
            "atoms": pooled.n_atoms,
            "verdicts": pooled.verdicts.tolist(),
            "methods": methods,
            "tables": {
                name: [{key: rounded(value) for key, value in row.items()} for row in table.rows()]
                for name, table in tables.items()
            },
            "messages": list(self.messages),
        }


def as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as a table; NaN where one lacks a number."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(title, {name: np.array([row.get(name, nan) for row in rows]) for name in names})


def compare(
    cases: Iterable[Case],
    methods: Sequence[Method],
    *,
    widths: Sequence[float] = WIDTHS,
    target: Sequence[str] = ("Fe",),
    reference: str = "the known answer",
    progress: Callable[[Case], None] | None = None,
) -> Evaluation:
    """Let every method segment every case, and count.

    Parameters
    ----------
    cases : taken one by one
    methods : the first is the one that is judged
    widths : boundary widths, Å; those of the references
    target : what the rich phase is rich in
    reference : what the answers are, in words
    progress : called after each case

    Raises
    ------
    ValueError
        Without a case or a method, and what the methods raise.
    """
    if not methods:
        raise ValueError("there are no methods to compare.")
    names = [method.name for method in methods]
    result = Evaluation(names, widths, target, reference)
    outside: list[str] = []
    for case in cases:
        comparisons, domains = {}, {}
        for method in methods:
            found = method(case.frame, widths)
            one = Comparison.of(case.frame, case.reference, found, case.inside)
            domains[method.name] = found.n_domains
            if method is methods[0]:
                taken = {stage: (value,) for stage, value in case.reference.seconds.items()}
                one = replace(one, seconds={**one.seconds, **taken})
                two = case.reference.n_phases == 2
                if two or result.shown is None or result.shown.reference.n_phases == 1:
                    result.shown = Shown(case.frame, case.reference, found)
                outside += [line for line in found.messages if line.code == "outside-training"]
            comparisons[method.name] = one
        row = Row(case.group, case.name or case.frame.source, case.frame.timestep, domains, comparisons)
        result.rows.append(row)
        if progress is not None:
            progress(case)
    if not result.rows:
        raise ValueError("there are no frames to evaluate.")
    if outside:
        others = (
            f" In all {len(outside)} of {len(result.rows)} frames are outside." if len(outside) > 1 else ""
        )
        result.messages[outside[0] + others] = None
    return result


def cases_of(
    frames: Iterable[Frame], reference: Method, *, group: str, widths: Sequence[float] = WIDTHS
) -> Iterator[Case]:
    """Cases of frames whose right answer is what a method says."""
    for number, frame in enumerate(frames):
        name = frame.source or f"{group}, frame {number}"
        yield Case(group, frame, reference(frame, widths), name=name)


def evaluate(
    runs: Mapping[str, Iterable[Frame]],
    model: SegmentationModel,
    *,
    reference: str = "weak",
    widths: Sequence[float] = WIDTHS,
    baselines: Sequence[Method] = (),
    members: bool = False,
    device: Any = "auto",
    progress: Callable[[Case], None] | None = None,
) -> Evaluation:
    """Predictions of a model against a reference, frame by frame and pooled.

    Parameters
    ----------
    runs : name and frames of each trajectory
    model : SegmentationModel
    reference : "weak" for labels by the rule of the checkpoint, or the name of a column of the frames
        with 0 for poor, 1 for rich and, optionally, 2 for boundary
    widths : boundary widths, Å
    baselines : further methods
    members : also every network of the model alone
    device : as in `SegmentationModel.score`
    progress : called after each frame

    Raises
    ------
    ValueError
        No frames, a column that is not there or holds other values, and as `SegmentationModel.score`.
    """
    widths = tuple(dict.fromkeys(float(width) for width in widths))
    if not widths or not all(isfinite(width) and width >= 0 for width in widths):
        raise ValueError(f"boundary widths must be numbers of Å not below 0, found {list(widths)}.")
    answer: Method = WeakLabels(model.label_rule) if reference == "weak" else Column(reference)
    whole = Prediction(model, device=device)
    methods: list[Method] = [whole, *(whole.members() if members else ()), *baselines]
    warm = False

    def cases() -> Iterator[Case]:
        nonlocal warm
        for group, frames in runs.items():
            for case in cases_of(frames, answer, group=group, widths=widths):
                if not warm:  # compiling and the first touch of memory are no part of the times
                    whole(case.frame, widths[:1])
                    whole.forget()
                    case, warm = replace(case, reference=answer(case.frame, widths)), True
                yield case

    words = "weak labels" if reference == "weak" else f"the column {reference}"
    return compare(
        cases(), methods, widths=widths, target=model.config.target, reference=words, progress=progress
    )
