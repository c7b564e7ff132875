"""Methods that segment a frame: weak labels, networks, columns of the input, any value per atom.

A `Method` returns a `Segmentation`: the side of each atom and its distance to the interface. Networks,
baselines and the reference of an evaluation are all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.labels.assignment import assign_phases, has_interface, one_phase
from phaseseg.families.segmentation.labels.automatic import rule_of
from phaseseg.families.segmentation.labels.density import DensityField, density_field
from phaseseg.families.segmentation.labels.domains import find_domains
from phaseseg.families.segmentation.labels.weak_labels import label_density
from phaseseg.families.segmentation.model import Scores, SegmentationModel
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.score_field import score_field
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame

WIDTHS = (2.7, 0.68)
"""Boundary widths, Å: the one used in the paper's evaluation of large cells, and the one the paper states."""
BOUND = 3.0
"""Scores to be smoothed into a field must lie within ± this value; their scale is otherwise arbitrary."""
SIGMA, VOXEL = 1.0, 0.75  # Å: Gaussian width and voxel edge of that field


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of one method for the atoms of a frame.

    rich : (n_atoms,) bool, True on the rich side
    distance : (n_atoms,) float32, Å, signed, positive in the rich phase; NaN without an interface
    phase : classes (n_atoms,) int8 for each boundary width (Å)
    n_domains : number of rich domains
    score : (n_atoms,), larger for rich, if the method has one
    probability : (n_atoms,) float32, probability of rich, if the method has one
    seconds : elapsed time by stage
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
        """1 if all atoms are on the same side, or else 2."""
        return 2 if len(self.rich) and bool(self.rich.any()) and not bool(self.rich.all()) else 1

    @classmethod
    def of_fields(cls, by_width: Mapping[float, Fields], **more: Any) -> Segmentation:
        """Create from labels or predictions of a frame that differ only in the boundary width."""
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
        """Create from signed distances, Å; these are plus or minus infinity without an interface."""
        rich = np.asarray(distance > 0)
        finite = np.where(np.isfinite(distance), distance, np.nan).astype(np.float32)
        return cls(rich, finite, _phases(distance, rich, widths), **more)

    def part(self, atoms: NDArray[Any]) -> Segmentation:
        """Return the segmentation of a subset of the atoms."""
        columns = {name: getattr(self, name) for name in ("rich", "distance", "score", "probability")}
        own = {name: values[atoms] for name, values in columns.items() if values is not None}
        return replace(self, phase={width: phase[atoms] for width, phase in self.phase.items()}, **own)


def _phases(
    distance: NDArray[np.floating[Any]], rich: NDArray[np.bool_], widths: Sequence[float]
) -> dict[float, NDArray[np.int8]]:
    """Return the classes at each boundary width."""
    sides = np.where(rich, RICH, POOR)
    return {
        width: np.where((np.abs(distance) <= width / 2) & (width > 0), BOUNDARY, sides).astype(np.int8)
        for width in widths
    }


class Method(Protocol):
    """Something that segments frames; `name` is the heading of its row."""

    @property
    def name(self) -> str: ...

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation: ...


def decode(
    frame: Frame,
    score: NDArray[np.floating[Any]],
    widths: Sequence[float],
    *,
    min_volume: float = 200.0,
    undecided: NDArray[np.bool_] | None = None,
    start: float | None = None,
) -> Segmentation:
    """Determine sides, distances and classes from one number per atom that is positive in the rich phase.

    The numbers are treated like network scores with the level 0: they are smoothed by local-linear averaging
    with a Gaussian of 1 Å, domains smaller than `min_volume` (Å^3) are dropped, and distances are measured to
    the surface where the field is 0.

    score : (n_atoms,) between -3 and 3
    undecided : (n_atoms,) bool, atoms whose side follows from the field instead of their own number
    start : `perf_counter` at the start of the work
    """
    start = start or perf_counter()
    numbers = np.ascontiguousarray(score, dtype=np.float32)
    field = score_field(frame, numbers, sigma=SIGMA, voxel=VOXEL, bound=BOUND)
    domains = find_domains(field.grid.values, 0.0, field.lattice, min_volume=min_volume)
    if has_interface(domains, field.grid):
        order = field.atoms.order
        sides = numbers[order] >= 0
        if undecided is not None:
            sides = np.where(undecided[order], field.interpolated() >= 0, sides)
        assigned = assign_phases(frame, field, 0.0, domains, sides, sigma=SIGMA, boundary_width=max(widths))
        rich, n_domains = assigned.domain > 0, domains.n_kept
    else:
        whole = RICH if domains.n_kept else POOR
        assigned = one_phase(frame.n_atoms, whole)
        rich, n_domains = np.full(frame.n_atoms, whole == RICH), 0
    return Segmentation(
        rich, assigned.distance, _phases(assigned.distance, rich, widths), n_domains, score=numbers,
        seconds={"baseline": perf_counter() - start},
    )  # fmt: skip


def _at_widths(
    fields: Callable[[float], Fields], widths: Sequence[float], start: float
) -> tuple[dict[float, Fields], float]:
    """Return the fields at each boundary width, and the seconds from the start to the first result."""
    first = fields(widths[0])
    seconds = perf_counter() - start
    return {widths[0]: first, **{width: fields(width) for width in widths[1:]}}, seconds


class WeakLabels:
    """Weak labels by a rule.

    rule : a numerical threshold is the same for all frames
    """

    def __init__(self, rule: LabelRule, name: str = "weak labels") -> None:
        self.rule, self.name = rule, name

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        start = perf_counter()
        return self.of_density(frame, density_field(frame, rule_of(frame, self.rule)), widths, start)

    def of_density(
        self, frame: Frame, density: DensityField, widths: Sequence[float], start: float | None = None
    ) -> Segmentation:
        """Label a frame with a known density; `start` is `perf_counter` at the start of the work."""
        by_width, seconds = _at_widths(
            lambda width: label_density(frame, density, self.rule.replace(boundary_width=width)),
            widths, start or perf_counter(),
        )  # fmt: skip
        score = by_width[widths[0]]["phase_density"]
        return Segmentation.of_fields(by_width, score=score, seconds={"weak labels": seconds})


class Prediction:
    """Predictions of a model.

    Parameters
    ----------
    model : SegmentationModel
    name : heading; default: name of the checkpoint
    device : as in `SegmentationModel.score`
    options : as for `phaseseg.predict`, without the boundary width
    """

    def __init__(
        self, model: SegmentationModel, name: str = "", *, device: Any = "auto", **options: Any
    ) -> None:
        self.model, self.name, self.device, self.options = model, name or model.name, device, options
        self._last: tuple[Frame, Scores, float] | None = None

    def scores(self, frame: Frame) -> tuple[Scores, float]:
        """Return the scores of a frame and the elapsed seconds; the last frame is cached."""
        last = self._last  # another thread may replace it
        if last is None or last[0] is not frame:
            start = perf_counter()
            scores = self.model.score(frame, device=self.device)
            self._last = last = frame, scores, perf_counter() - start
        return last[1], last[2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def forget(self) -> None:
        """Drop the cached scores."""
        self._last = None

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        scores, seconds = self.scores(frame)
        return self.decoded(frame, scores, widths, {"network": seconds})

    def decoded(
        self, frame: Frame, scores: Scores, widths: Sequence[float], seconds: Mapping[str, float]
    ) -> Segmentation:
        """Determine phases and distances from scores."""
        by_width, decoding = _at_widths(
            lambda width: self.model.fields(frame, scores, boundary_width=width, **self.options),
            widths, perf_counter(),
        )  # fmt: skip
        return Segmentation.of_fields(
            by_width, score=scores.score, probability=scores.probability,
            seconds={**seconds, "decoding": decoding},
        )  # fmt: skip

    def members(self) -> list[Member]:
        """Return a method for each network of the model; they share one run of the networks."""
        return [Member(self, index) for index in range(self.model.n_members)]


class Member:
    """One network of a model, with the decoding and calibration of the ensemble."""

    def __init__(self, whole: Prediction, index: int) -> None:
        self.whole, self.index, self.name = whole, index, f"member {index + 1}"

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        scores, _ = self.whole.scores(frame)
        temperature = float(self.whole.model.checkpoint.config["score"]["temperature"])
        return self.whole.decoded(frame, one_member(scores, self.index, temperature), widths, {})


def one_member(scores: Scores, index: int, temperature: float) -> Scores:
    """Return the scores of a single network of a model."""
    score = scores.members[index]
    return replace(
        scores, score=score, members=score[None], uncertainty=np.zeros_like(score),
        probability=expit(score / np.float32(temperature)).astype(np.float32),
    )  # fmt: skip


class Column:
    """A column of the input as the reference.

    0 is poor, 1 is rich and 2 is boundary, independent of the boundary width. If a column has only 0 and 1,
    the interface is determined from the sides as for predictions. If the columns `phase` and
    `interface_distance` exist, as written by `phaseseg label`, these distances are used.
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
                f"{where}the column {self.column!r} must contain only 0 (poor), 1 (rich) and 2 (boundary), "
                f"found {', '.join(f'{value:g}' for value in classes[:6])}."
            )
        distance = frame.fields.get("interface_distance") if self.column == "phase" else None
        if distance is not None:
            given = np.asarray(distance, dtype=np.float32)
            side = np.where(values == RICH, np.inf, -np.inf)
            return Segmentation.of_distance(np.where(np.isfinite(given), given, side), widths)
        own = values.astype(np.int8)
        middle = own == BOUNDARY
        # The column does not tell the side of boundary atoms, so it follows from their surroundings.
        score = np.where(middle, 0.0, np.where(own == RICH, 1.0, -1.0))
        found = decode(frame, score, widths, undecided=middle)
        if middle.any():
            rich, phases = np.where(middle, found.rich, own == RICH), dict.fromkeys(widths, own)
        else:
            rich = own == RICH
            phases = {width: np.where(phase == BOUNDARY, phase, own) for width, phase in found.phase.items()}
        return replace(found, rich=rich, phase=phases)
