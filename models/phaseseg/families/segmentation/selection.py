"""Which frames to label next: those that a model is unsure of, and that differ from each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.comparison import cases_of, compare
from phaseseg.families.segmentation.inference import node_features
from phaseseg.families.segmentation.methods import Prediction, WeakLabels
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.fields import Table
from phaseseg.frame import Frame

FARTHEST = 10.0
"""Scaled features count up to so many standard deviations of the training data."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that might be labeled.

    run, number : where it is from
    disagreement : mean over the atoms of twice the standard deviation of the members' probabilities
    closeness : mean over the atoms of 4 p (1 - p), p the probability of being rich
    outside : share of the atoms with a feature outside of the range of the training data
    descriptor : (n,) float64; what the frame is like, see `describe`
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
        """Mean of the three, each from 0 to 1."""
        return (self.disagreement + self.closeness + self.outside) / 3


def describe(
    frame: Frame, model: SegmentationModel, *, run: str = "", number: int = 0, device: Any = "auto"
) -> Candidate:
    """Uncertainty and descriptor of a frame.

    The descriptor is the share of rich atoms and, for the atoms that are predicted poor and rich, the mean
    and the standard deviation of every feature, scaled as the network scales it but not clipped at the
    range of the training data; zeros for a phase without atoms.

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
    return Candidate(
        run, number, frame.timestep, float(2 * scores.uncertainty.mean(dtype=np.float64)),
        float(np.mean(4 * p * (1 - p))), float(scores.outside), np.concatenate(parts),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Choice:
    """A frame that was chosen; `distance` is that of its descriptor to the nearest one known before."""

    candidate: Candidate
    distance: float


def select_frames(
    candidates: Sequence[Candidate], n: int, *, labeled: Sequence[Candidate] = ()
) -> list[Choice]:
    """The n frames most worth labeling, in the order in which they are chosen.

    Farthest points first, weighted by uncertainty: the next frame is the one with the largest d (u + m),
    with d the distance of its descriptor to the nearest of the frames that are labeled or chosen already, u
    its uncertainty and m the mean uncertainty of all, which keeps frames in play of which the model is
    wrongly sure. Without labeled frames the first is the most uncertain one. Of equals the first in order is
    taken, so the same candidates give the same choice. The greedy rule is that of k-centers (T. F. Gonzalez,
    Theor. Comput. Sci. 38, 293 (1985), DOI 10.1016/0304-3975(85)90224-5; for networks O. Sener and
    S. Savarese, ICLR 2018, arXiv:1708.00489).

    Raises
    ------
    ValueError
        For n below 1 or above the number of candidates.
    """
    if n < 1:
        raise ValueError(f"the number of frames to choose must be at least 1, found {n}.")
    if n > len(candidates):
        count = "1 frame is" if len(candidates) == 1 else f"{len(candidates)} frames are"
        raise ValueError(f"{n} frames were asked for, but {count} there. Choose fewer or give more files.")
    points = np.array([one.descriptor for one in candidates])
    uncertainty = np.array([one.uncertainty for one in candidates])
    weight = uncertainty + uncertainty.mean()
    if not weight.any():
        weight = np.ones(len(points))
    distance = np.full(len(points), np.inf)
    for one in labeled:
        distance = np.minimum(distance, np.linalg.norm(points - one.descriptor, axis=1))
    open_ = np.ones(len(points), dtype=bool)
    choices = []
    for _ in range(n):
        worth = weight if np.isinf(distance).all() else weight * distance
        k = int(np.argmax(np.where(open_, worth, -1.0)))
        choices.append(Choice(candidates[k], float(distance[k])))
        open_[k] = False
        distance = np.minimum(distance, np.linalg.norm(points - points[k], axis=1))
    return choices


def choice_table(choices: Sequence[Choice]) -> Table:
    """One row a chosen frame, the first choice first."""
    return Table.of_rows(
        "Frames to label next",
        [
            {
                "file": one.candidate.run, "frame": one.candidate.number,
                "timestep": np.nan if one.candidate.timestep is None else one.candidate.timestep,
                "uncertainty": one.candidate.uncertainty, "disagreement": one.candidate.disagreement,
                "closeness to 1/2": one.candidate.closeness, "outside training": one.candidate.outside,
                "distance to nearest": one.distance if np.isfinite(one.distance) else np.nan,
            }
            for one in choices
        ],
    )  # fmt: skip


# ------------------------------------------------------------------------------- learning curve


def learning_curve(
    pool: Sequence[Frame],
    test: Mapping[str, Sequence[Frame]],
    fit: Callable[[list[Frame], int], SegmentationModel],
    *,
    begin: Sequence[int],
    add: int,
    rounds: int,
    seeds: Sequence[int] = (0, 1, 2),
    width: float = 2.7,
    progress: Callable[[str], None] | None = None,
) -> Table:
    """Does choosing pay? Networks trained on growing sets of chosen frames, and of frames drawn by chance.

    Parameters
    ----------
    pool : frames that can be labeled; their labels are made when they are trained on
    test : frames by kind, never trained on; judged by labels of the networks' own rule
    fit : trains a model on some frames with a seed
    begin : places in the pool of the frames that both start from
    add, rounds : frames added in each round, and how many rounds
    seeds : of the training and of the chance
    width : boundary width of the F1, Å

    Returns
    -------
    Table
        Columns `choice` ("selected" or "random"), `seed`, `frames`, `test` (kind, or "all" for the mean of
        the kinds), `two-class error` and `macro F1`.

    Raises
    ------
    ValueError
        If the pool is too small.
    """
    if len(begin) + add * rounds > len(pool):
        raise ValueError(f"{len(begin) + add * rounds} frames are needed, but the pool holds {len(pool)}.")
    rows: list[dict[str, Any]] = []

    def judge(model: SegmentationModel, how: str, seed: int, n: int) -> None:
        labels, found = WeakLabels(model.label_rule), []
        for kind, frames in test.items():
            result = compare(
                cases_of(frames, labels, group=kind, widths=(width,)), [Prediction(model)], widths=(width,)
            )
            numbers = result.pooled().numbers()
            found.append((numbers["error"], numbers[f"macro {width:g}"]))
            rows.append({"choice": how, "seed": seed, "frames": n, "test": kind} | _two(*found[-1]))
        rows.append({"choice": how, "seed": seed, "frames": n, "test": "all"} | _two(*np.mean(found, axis=0)))

    for seed in seeds:
        if progress is not None:
            progress(f"seed {seed}: {len(begin)} frames")
        first = fit([pool[k] for k in begin], seed)
        for how in ("selected", "random"):
            rng = np.random.default_rng(seed)
            model, chosen = first, list(begin)
            judge(model, how, seed, len(chosen))
            for _ in range(rounds):
                rest = [k for k in range(len(pool)) if k not in chosen]
                if how == "random":
                    chosen += sorted(rng.choice(rest, add, replace=False).tolist())
                else:
                    candidates = [describe(pool[k], model, number=k) for k in rest]
                    known = [describe(pool[k], model, number=k) for k in chosen]
                    chosen += [one.candidate.number for one in select_frames(candidates, add, labeled=known)]
                if progress is not None:
                    progress(f"seed {seed}, {how}: {len(chosen)} frames")
                model = fit([pool[k] for k in chosen], seed)
                judge(model, how, seed, len(chosen))
    return Table.of_rows("Learning curve", rows)


def _two(error: float, macro: float) -> dict[str, float]:
    return {"two-class error": float(error), "macro F1": float(macro)}
