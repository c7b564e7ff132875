"""Comparison of methods with a reference: additive counts per frame, and the scores derived from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.fields import PHASE_CLASSES, POOR, RICH
from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.families.segmentation.methods import WIDTHS, Method, Segmentation
from phaseseg.fields import Column, Message, Table, plain
from phaseseg.frame import Frame
from phaseseg.metrics import class_scores, confusion_matrix, reliability, roc_curve, spread

NEAR = 1.5
"""Å: distances are compared for atoms within this distance of the reference interface."""
CLASSES = tuple(phase.name for phase in PHASE_CLASSES)
SCORE_COLUMNS = {
    "error": Column("two-class error"), "auc": Column("AUC"), "calibration": Column("calibration error"),
    "shift": Column("shift", "Å"), "rms": Column("rms", "Å"),
}  # fmt: skip
F1_KINDS = ("macro", "boundary", "rich", "poor", "micro")
CONTENTS = (Column("reference", "wt%"), Column("prediction", "wt%"))
DIFFERENCE = Column("relative difference", "%")


def f1_column(kind: str, width: float) -> Column:
    """Return the column heading of an F1 ("macro", "micro" or a class) at a boundary width (Å)."""
    return Column(f"{kind} F1", part=f"{width:g} Å", heading=f"{kind} F1, {width:g} Å")


def _added(parts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Add mappings key by key: arrays of counts are summed, tuples are concatenated."""
    total: dict[Any, Any] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts of one method against the reference for one or several frames.

    sides : (2, 2) int64, atoms on the poor and rich side; rows are the reference
    confusion : (3, 3) int64 for each boundary width; rows are the reference
    moments : (3,) count, sum and sum of squares of the differences in signed distance, Å
    verdicts : (2, 2) int64, frames with one and two phases; rows are the reference
    reference, prediction : {element: (3,) atoms in poor, rich and boundary at the narrowest width}
    samples : reference sides, scores and probabilities of each frame
    seconds : for each stage, one value per frame
    """

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
        """Compare one frame; `inside` is a mask of the atoms to include."""
        species = frame.species
        # The number of phases is compared for the whole frame, not only for the included atoms.
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

        return cls(
            confusion_matrix(reference.rich, prediction.rich, 2),
            {w: confusion_matrix(reference.phase[w], prediction.phase[w], 3) for w in reference.phase},
            np.array([len(apart), apart.sum(), (apart**2).sum()]),
            verdicts,
            contents(reference.phase[narrow]),
            contents(prediction.phase[narrow]),
            ((reference.rich, prediction.score, prediction.probability),),
            seconds,
        )

    @classmethod
    def pooled(cls, parts: Sequence[Comparison]) -> Comparison:
        """Pool one or more comparisons."""
        whole = ("sides", "moments", "verdicts", "samples")
        by_name = ("confusion", "reference", "prediction", "seconds")
        counts: dict[str, Any] = _added({name: getattr(part, name) for name in whole} for part in parts)
        counts |= {name: _added(getattr(part, name) for part in parts) for name in by_name}
        return cls(**counts)

    @property
    def n_frames(self) -> int:
        return int(self.verdicts.sum())

    @property
    def n_atoms(self) -> int:
        """Number of included atoms."""
        return int(self.sides.sum())

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(self.confusion)

    def _sample(self, which: int) -> tuple[NDArray[np.bool_], NDArray[Any]] | None:
        """Reference sides of all atoms, and their scores (`which` = 1) or probabilities (2)."""
        if any(sample[which] is None for sample in self.samples):
            return None
        rich, values = (np.concatenate([sample[k] for sample in self.samples]) for k in (0, which))
        return rich, values

    def numbers(self) -> dict[str, float]:
        """Return every score by a short name; NaN if it is undefined.

        `error` and `accuracy` of the two classes, `auc`, `calibration` (expected calibration error), `shift`
        and `rms` (Å: mean difference of the distances near the interface and standard deviation around it),
        `verdicts` (fraction of frames whose number of phases agrees with the reference); for each width w
        `macro w`, `micro w` and the F1 `poor w`, `rich w`, `boundary w`.
        """
        hits, total = int(np.trace(self.sides)), self.n_atoms
        n, first, second = (float(moment) for moment in self.moments)
        scored, calibrated = self._sample(1), self._sample(2)
        numbers = {
            "error": 1 - hits / total if total else nan,
            "accuracy": hits / total if total else nan,
            "auc": nan if scored is None else roc_curve(*scored).auc,
            "calibration": nan if calibrated is None else reliability(*calibrated).expected_calibration_error,
            "shift": first / n if n else nan,
            "rms": float(np.sqrt(max(second / n - (first / n) ** 2, 0.0))) if n else nan,
            "verdicts": int(np.trace(self.verdicts)) / self.n_frames,
        }
        for width, matrix in self.confusion.items():
            scores = class_scores(matrix)
            numbers[f"macro {width:g}"], numbers[f"micro {width:g}"] = scores.macro_f1, scores.micro_f1
            for name, value in zip(CLASSES, scores.f1, strict=True):
                numbers[f"{name} {width:g}"] = float(value)
        return numbers

    def contents(self, target: Sequence[str]) -> Table:
        """Weight content of every element in both phases, excluding the boundary of the narrowest width.

        Minority contents are those of target species in the poor phase and of all others in the rich phase.
        """
        elements = list(dict.fromkeys([*self.reference, *self.prediction]))
        masses = element_masses(tuple(elements))
        none = np.zeros(3, dtype=np.int64)
        percent = []
        for counts in (self.reference, self.prediction):
            mass = np.array([counts.get(name, none) for name in elements], float).T * masses
            with np.errstate(divide="ignore", invalid="ignore"):
                percent.append(100 * mass / mass.sum(axis=1, keepdims=True))
        rows = []
        for phase, code in (("rich", RICH), ("poor", POOR)):
            for k, name in enumerate(elements):
                before, after = (float(values[code, k]) for values in percent)
                relative = 100 * (after - before) / before if before > 0 else nan
                minority = (name in target) == (phase == "poor")
                rows.append((phase, name, before, after, relative, minority))
        headings = ("phase", "element", *CONTENTS, DIFFERENCE, "minority")
        columns = zip(*rows, strict=True) if rows else ((),) * len(headings)
        return Table("Composition of the phases", dict(zip(headings, columns, strict=True)))

    def partition(self) -> Table:
        """Ratio of the weight contents of the rich and the poor phase, for the reference and the method."""
        contents = self.contents(()).columns
        with np.errstate(divide="ignore", invalid="ignore"):
            reference, found = (np.divide(*contents[source].reshape(2, -1)) for source in CONTENTS)
            difference = 100 * (found / reference - 1)
        return Table(
            "Partition coefficients by weight, rich / poor",
            {
                "element": contents["element"][: len(found)],
                "D, reference": reference, "D, prediction": found, DIFFERENCE: difference,
            },
        )  # fmt: skip

    def reliability(self) -> Table:
        """Predicted probability of rich against observed frequency; empty if there are no probabilities."""
        sample, columns = self._sample(2), {}
        if sample is not None and len(sample[0]):
            bins = reliability(*sample)
            columns = {
                "from": bins.edges[:-1], "to": bins.edges[1:], "atoms": bins.count,
                "mean probability": bins.mean_probability, "share that is rich": bins.frequency,
            }  # fmt: skip
        return Table("Reliability", columns)

    def roc(self) -> Table:
        """ROC curve thinned to about 200 points; empty if it is undefined."""
        sample = self._sample(1)
        if sample is None or sample[0].all() or not sample[0].any():
            return Table("ROC curve", {})
        curve = roc_curve(*sample)
        along = curve.false_positive_rate + curve.true_positive_rate
        # The points are densest near the upper left corner, where the curve bends.
        bend = np.geomspace(1e-4, 1, 50)
        wanted = np.concatenate([np.linspace(0, 2, 100), 1 - bend, 1 + bend])
        kept = np.clip(np.searchsorted(along, wanted), 0, len(along) - 1)
        kept = np.unique([0, *kept, len(along) - 1])
        names = ("threshold", "false_positive_rate", "true_positive_rate")
        headings = ("threshold of the score", "false positive rate", "true positive rate")
        columns = [getattr(curve, name)[kept] for name in names]
        return Table("ROC curve", dict(zip(headings, columns, strict=True)))

    def confusion_table(self, width: float) -> Table:
        """Confusion matrix in atoms and as fractions of each reference class."""
        counts = self.confusion[width]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = counts / counts.sum(axis=1, keepdims=True)
        columns = {"reference": np.array(CLASSES)}
        columns |= {f"called {name}": counts[:, k] for k, name in enumerate(CLASSES)}
        columns |= {f"share called {name}": shares[:, k] for k, name in enumerate(CLASSES)}
        return Table(f"Confusion at a boundary of {width:g} Å", columns)


@dataclass(frozen=True, eq=False)
class Case:
    """A frame and its reference segmentation.

    group : tables have one row per group, such as a file or a kind of stress case
    reference : the true segmentation, or the one to compare with
    inside : (n_atoms,) bool, atoms to include; default: all
    name : name of this frame
    """

    group: str
    frame: Frame
    reference: Segmentation
    inside: NDArray[np.bool_] | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """The counts of every method for one frame."""

    group: str
    name: str
    timestep: int | None
    n_domains: Mapping[str, int]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, eq=False)
class Example:
    """The frame shown in the figures."""

    frame: Frame
    reference: Segmentation
    prediction: Segmentation


@dataclass(frozen=True, eq=False)
class Compared:
    """What is kept of one case.

    messages : of the first method, that the frame is outside of its range
    example : dropped when the object is sent to another process
    """

    row: Row
    messages: tuple[Message, ...]
    example: Example | None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "example": None}


def compare_case(case: Case, methods: Sequence[Method], widths: Sequence[float]) -> Compared:
    """Segment the frame of a case with every method and count."""
    comparisons, domains = {}, {}
    example: Example | None = None
    messages: tuple[Message, ...] = ()
    for method in methods:
        found = method(case.frame, widths)
        domains[method.name] = found.n_domains
        if example is None:
            found = replace(found, seconds={**found.seconds, **case.reference.seconds})
            example = Example(case.frame, case.reference, found)
            codes = ("outside-training", "free-surface")
            messages = tuple(line for line in found.messages if line.code in codes)
        comparisons[method.name] = Comparison.of(case.frame, case.reference, found, case.inside)
    name = case.name or case.frame.source
    return Compared(Row(case.group, name, case.frame.timestep, domains, comparisons), messages, example)


class Comparisons:
    """Comparison of methods with a reference over frames, and its tables.

    Parameters
    ----------
    methods : the first one is evaluated, the others are for comparison; the attribute contains their names
    widths : boundary widths of the references, Å
    target : species enriched in the rich phase
    reference : description of the reference, used in headings

    Attributes
    ----------
    rows : one per frame
    notes : additional messages

    Raises
    ------
    ValueError
        If there are no methods.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        widths: Sequence[float] = WIDTHS,
        target: Sequence[str] = ("Fe",),
        reference: str = "the known answer",
    ) -> None:
        if not methods:
            raise ValueError("there are no methods to compare.")
        self._methods = methods
        self.methods = tuple(method.name for method in methods)
        self.widths, self.target, self.reference = tuple(widths), tuple(target), reference
        f1 = {f"{key} {width:g}": f1_column(key, width) for width in self.widths for key in F1_KINDS}
        self._columns = SCORE_COLUMNS | f1
        self.rows: list[Row] = []
        self._example: Example | Callable[[], Example] | None = None
        self._two = False
        self.notes: list[Message] = []
        self._outside: list[Message] = []

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def add(self, found: Compared, again: Callable[[], Example] | None = None) -> None:
        """Add the counts of one case.

        again : makes the example of a case that comes from another process
        """
        two = bool(found.row.comparisons[self.methods[0]].verdicts[1].any())
        if two or not self._two:
            self._two, self._example = two, again if found.example is None else found.example
        self._outside += found.messages
        self.rows.append(found.row)

    @property
    def example(self) -> Example | None:
        """The last frame whose reference has two phases, or else the last frame."""
        if callable(self._example):
            self._example = self._example()
        return self._example

    def extend(self, cases: Iterable[Case]) -> Self:
        """Add several cases.

        Raises
        ------
        ValueError
            If there are no frames; also errors raised by the methods.
        """
        for case in cases:
            self.add(compare_case(case, self._methods, self.widths))
        return self.checked()

    def checked(self) -> Self:
        """Return the comparison; ValueError if there are no frames."""
        if not self.rows:
            raise ValueError("there are no frames to evaluate.")
        return self

    @property
    def messages(self) -> list[Message]:
        """Messages for the user."""
        if not self._outside:
            return self.notes
        first, n = self._outside[0], len(self._outside)
        more = f" In total, {n} of {len(self)} frames are outside." if n > 1 else ""
        return [Message(first + more, first.code), *self.notes]

    # Pooling -------------------------------------------------------------------------------------

    def groups(self) -> list[str]:
        return list(dict.fromkeys(row.group for row in self.rows))

    def _parts(self, method: str | None, group: str | None) -> list[Comparison]:
        name = self.methods[0] if method is None else method
        return [row.comparisons[name] for row in self.rows if group in (None, row.group)]

    def pooled(self, method: str | None = None, group: str | None = None) -> Comparison:
        """Pool the counts of one method (default: the first) over all frames or those of a group."""
        return Comparison.pooled(self._parts(method, group))

    def over_frames(self, method: str | None = None, group: str | None = None) -> dict[str, Any]:
        """Mean and standard deviation of every score over the frames: {name: metrics.Spread}."""
        each = [part.numbers() for part in self._parts(method, group)]
        return {key: spread([numbers[key] for numbers in each]) for key in each[0]}

    # Tables --------------------------------------------------------------------------------------

    def _headed(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Map the scores shown in tables to their headings."""
        return {heading: numbers[key] for key, heading in self._columns.items()}

    def score_table(self, group: str | None = None) -> Table:
        """One row per method: pooled scores, with the standard deviation over the frames."""
        rows = []
        for method in self.methods:
            numbers, over = self.pooled(method, group).numbers(), self.over_frames(method, group)
            row: dict[str, Any] = {"method": method}
            for key, heading in self._columns.items():
                row[heading] = numbers[key]
                if over[key].n > 1:
                    row[heading.error] = over[key].deviation
            rows.append(row)
        return Table.of_rows(f"Scores against {self.reference}", rows)

    def group_table(self) -> Table:
        """One row per group and method."""
        rows = []
        for group in self.groups():
            for method in self.methods:
                part = self.pooled(method, group)
                numbers = part.numbers()
                row = {"group": group, "method": method, "frames": part.n_frames, "atoms": part.n_atoms}
                rows.append(row | self._headed(numbers) | {"verdicts that agree": numbers["verdicts"]})
        return Table.of_rows(f"Scores against {self.reference}, by group", rows)

    def frame_table(self) -> Table:
        """One row per frame, for the evaluated method."""
        rows = []
        for row in self.rows:
            one = row.comparisons[self.methods[0]]
            reference, predicted = np.argwhere(one.verdicts)[0] + 1
            rows.append(
                {"group": row.group, "frame": row.name,
                 "timestep": nan if row.timestep is None else row.timestep,
                 "atoms": one.n_atoms, "phases, reference": int(reference), "phases": int(predicted),
                 "domains": row.n_domains[self.methods[0]]}
                | self._headed(one.numbers())
                | {Column(stage, "s"): values[0] for stage, values in one.seconds.items()}
            )  # fmt: skip
        return Table.of_rows(f"Frames, {self.methods[0]} against {self.reference}", rows)

    def content_table(self, method: str | None = None, group: str | None = None) -> Table:
        """`Comparison.contents` pooled, with the standard deviation of the relative difference."""
        parts = self._parts(method, group)
        pooled = Comparison.pooled(parts).contents(self.target)
        if len(parts) < 2:
            return pooled
        each: dict[tuple[Any, Any], list[float]] = {}
        for part in parts:
            for row in part.contents(self.target).rows():
                each.setdefault((row["phase"], row["element"]), []).append(row[DIFFERENCE])
        deviation = [spread(each[row["phase"], row["element"]]).deviation for row in pooled.rows()]
        return Table(pooled.title, {**pooled.columns, DIFFERENCE.error: deviation})

    def time_table(self) -> Table:
        """Median seconds per frame and per million atoms, by method and stage."""
        rows = []
        for method in self.methods:
            pooled = self.pooled(method)
            if not pooled.n_atoms:
                continue
            mean_atoms = pooled.n_atoms / pooled.n_frames
            for stage, values in pooled.seconds.items():
                seconds = float(np.median(values))
                row = {"method": method, "stage": stage, "seconds a frame": seconds}
                rows.append(row | {"seconds a million atoms": 1e6 * seconds / mean_atoms})
        return Table.of_rows("Time", rows)

    def tables(self) -> dict[str, Table]:
        """Return every table by name, for the evaluated method unless the table has a method column."""
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
        """Return all results as plain values; None for undefined ones."""
        pooled = self.pooled()
        methods = {}
        for method in self.methods:
            one, over = self.pooled(method), self.over_frames(method)
            spreads = {key: {"n": s.n, "mean": s.mean, "deviation": s.deviation} for key, s in over.items()}
            matrices = {f"{width:g}": matrix for width, matrix in one.confusion.items()}
            methods[method] = {"scores": one.numbers(), "over_frames": spreads, "confusion": matrices}
        numbers: dict[str, Any] = plain(
            {
                "method": self.methods[0], "reference": self.reference, "target": self.target,
                "boundary_widths": self.widths, "frames": pooled.n_frames, "atoms": pooled.n_atoms,
                "verdicts": pooled.verdicts, "methods": methods, "tables": self.tables(),
                "messages": self.messages,
            }
        )  # fmt: skip
        return numbers


def compare(cases: Iterable[Case], methods: Sequence[Method], **options: Any) -> Comparisons:
    """Segment every case with every method and count; options as for `Comparisons`.

    Raises
    ------
    ValueError
        If there are no cases or no methods; also errors raised by the methods.
    """
    return Comparisons(methods, **options).extend(cases)


def cases_of(
    frames: Iterable[Frame], reference: Method, *, group: str, widths: Sequence[float] = WIDTHS
) -> Iterator[Case]:
    """Yield a case for each frame, with the result of a method as the reference."""
    for number, frame in enumerate(frames):
        name = frame.source or f"{group}, frame {number}"
        yield Case(group, frame, reference(frame, widths), name=name)
