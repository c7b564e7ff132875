"""Selection of frames to label next: frames with uncertain predictions that differ from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.fields import Table
from phaseseg.frame import Frame

FARTHEST = 10.0
"""Scaled features are clipped to this many standard deviations of the training data."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that could be labeled.

    run, number : origin of the frame
    disagreement : mean over atoms of twice the standard deviation of the members' probabilities
    closeness : mean over atoms of 4 p (1 - p), where p is the probability of rich
    outside : fraction of atoms with a feature outside the range of the training data
    descriptor : (n,) float64, see `describe`
    """

    run: str
    number: int
    timestep: int | None
    disagreement: float
    closeness: float
    outside: float
    descriptor: NDArray[np.float64]

    @property
    def uncertainty(self) -> float:
        """Mean of the three measures, each from 0 to 1."""
        return (self.disagreement + self.closeness + self.outside) / 3


def describe(
    frame: Frame, model: SegmentationModel, *, run: str = "", number: int = 0, device: Any = "auto"
) -> Candidate:
    """Compute the uncertainty and the descriptor of a frame.

    The descriptor contains the fraction of rich atoms and, for each predicted phase, the mean and standard
    deviation of every feature. Features are scaled as for the network, but not clipped to the range of the
    training data. A phase without atoms has zeros.

    Raises
    ------
    ValueError
        As `SegmentationModel.score`.
    """
    scores = model.score(frame, device=device)
    p = scores.probability.astype(np.float64)
    raw = node_features(frame, model.config.codes_of(frame), model.config)
    scaled = (raw - model.scaling.center) / model.scaling.scale
    scaled = np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float64)
    rich = p >= 0.5
    parts = [np.array([rich.mean()])]
    for phase in (~rich, rich):
        own = scaled[phase]
        parts += [own.mean(axis=0), own.std(axis=0)] if len(own) else [np.zeros(2 * scaled.shape[1])]
    disagreement = float(2 * scores.uncertainty.mean(dtype=np.float64))
    closeness = float(np.mean(4 * p * (1 - p)))
    descriptor = np.concatenate(parts)
    return Candidate(run, number, frame.timestep, disagreement, closeness, scores.outside, descriptor)


@dataclass(frozen=True, eq=False)
class Choice:
    """A selected frame, and the distance of its descriptor to the nearest one labeled or selected before."""

    candidate: Candidate
    distance: float


def select_frames(
    candidates: Iterable[Candidate] | Iterable[Frame],
    n: int,
    *,
    model: SegmentationModel | None = None,
    labeled: Iterable[Candidate] | Iterable[Frame] = (),
) -> list[Choice]:
    """Return the n frames most worth labeling, in the order of selection.

    Parameters
    ----------
    candidates : frames to select from, or their descriptions from `describe`
    n : number of frames
    model : used to describe frames; not needed for candidates that are already described
    labeled : frames that are already labeled, or their descriptions

    The next frame is the one with the largest d (u + m), where d is the distance of its descriptor to the
    nearest labeled or selected frame, u is its uncertainty, and m is the mean uncertainty of all candidates.
    The term m allows frames for which the model is confident but wrong. Without labeled frames, the most
    uncertain frame comes first. Ties go to the first candidate, so the selection is reproducible. This is the
    greedy k-center rule (T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985),
    DOI 10.1016/0304-3975(85)90224-5; for networks O. Sener and S. Savarese, ICLR 2018, arXiv:1708.00489).

    Raises
    ------
    ValueError
        For n below 1 or above the number of candidates.
    """
    candidates, labeled = _described(candidates, model), _described(labeled, model)
    if n < 1:
        raise ValueError(f"the number of frames to select must be at least 1, found {n}.")
    if n > len(candidates):
        count = "is only 1 frame" if len(candidates) == 1 else f"are only {len(candidates)} frames"
        raise ValueError(f"{n} frames were requested, but there {count}. Request fewer or add files.")
    points = np.array([one.descriptor for one in candidates])
    uncertainty = np.array([one.uncertainty for one in candidates])
    weight = uncertainty + uncertainty.mean()
    if not weight.any():
        weight = np.ones(len(points))
    distance = np.full(len(points), np.inf)
    for one in labeled:
        distance = np.minimum(distance, np.linalg.norm(points - one.descriptor, axis=1))
    chosen: dict[int, Choice] = {}
    for _ in range(n):
        worth = weight.copy() if np.isinf(distance).all() else weight * distance
        worth[list(chosen)] = -1.0
        k = int(np.argmax(worth))
        chosen[k] = Choice(candidates[k], float(distance[k]))
        distance = np.minimum(distance, np.linalg.norm(points - points[k], axis=1))
    return list(chosen.values())


def _described(frames: Iterable[Any], model: SegmentationModel | None) -> list[Candidate]:
    found: list[Candidate] = []
    for k, one in enumerate(frames):
        if isinstance(one, Candidate):
            found.append(one)
        elif model is None:
            raise ValueError("a model is needed to describe frames; give one (model=load_model(...)).")
        else:
            found.append(describe(one, model, run=one.source, number=k if one.index is None else one.index))
    return found


def choice_table(choices: Sequence[Choice]) -> Table:
    """One row per chosen frame, the first choice first."""
    rows = []
    for choice in choices:
        one, distance = choice.candidate, choice.distance
        rows.append(
            {
                "file": one.run, "frame": one.number,
                "timestep": np.nan if one.timestep is None else one.timestep,
                "uncertainty": one.uncertainty, "disagreement": one.disagreement,
                "closeness to 1/2": one.closeness, "outside training": one.outside,
                "distance to nearest": distance if np.isfinite(distance) else np.nan,
            }
        )  # fmt: skip
    return Table.of_rows("Frames to label next", rows)
