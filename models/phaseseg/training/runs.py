"""Runs: trajectories by name, their digests, and their split into training and validation.

We split by run, because the configurations of one run stay correlated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.specs import Progress

VALIDATION_SHARE = 0.2

RunData = str | os.PathLike[str] | Iterable[Frame]
"""One run: a file, or an iterable of frames."""
Label = Callable[[Frame], Any]
"""What is to be learned of a frame; None leaves the frame out."""


@dataclass(frozen=True)
class RunFile(os.PathLike[str]):
    """A file of a run that does not say all that is needed to read it.

    cell, file_format : as in `read_frames`
    """

    path: Path
    cell: str | None = None
    file_format: str | None = None

    def __fspath__(self) -> str:
        return os.fspath(self.path)


@dataclass(frozen=True, eq=False)
class Run:
    """The frames of one file, or of one iterable.

    name : of the file, or a number
    group : runs of the same group are never divided between training and validation
    labels : of each frame, plain values; empty where frames have none
    """

    name: str
    frames: list[Frame]
    group: str = ""
    labels: tuple[Any, ...] = ()

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """sha256 of each frame; see `frame_digest`."""
        return tuple(map(frame_digest, self.frames))

    @property
    def digest(self) -> str:
        """sha256 of all frames and labels."""
        return joint_digest(self.digests, self.labels)

    def count(self, label: Any) -> int:
        """Number of frames with a label."""
        return self.labels.count(label)


def frame_digest(frame: Frame) -> str:
    """sha256 of positions, cell, periodicity and species."""
    content = hashlib.sha256(json.dumps([list(frame.species_names), frame.pbc.tolist()]).encode())
    for values in (frame.positions, frame.cell, frame.origin, frame.species):
        content.update(np.ascontiguousarray(values).tobytes())
    return content.hexdigest()


def joint_digest(digests: Iterable[str], labels: Sequence[Any] = ()) -> str:
    """sha256 of several frames, and of their labels."""
    digests = list(digests)
    text = json.dumps([digests, list(labels)]) if labels else "".join(digests)
    return hashlib.sha256(text.encode()).hexdigest()


def read_runs(
    data: RunData | Iterable[RunData],
    label: Label | None = None,
    *,
    types: Types = None,
    names: Names = None,
    units: Units = "metal",
    every: int = 1,
    columns: bool = False,
    what: str = "run",
    note: Progress = lambda done, line: None,
) -> list[Run]:
    """Read runs from files or iterables of frames; a single one need not be in a list.

    Parameters
    ----------
    data : paths, `RunFile` for files that need more to be read, or frames
    label : frames for which it gives None are left out; a run may have no frames then
    types, names, units : as in `read_frames`
    every : take every n-th frame
    columns : whether the other columns of files are read, as `Frame.fields`
    what : the name of runs that are no files; their number follows

    Runs whose frames have the same `seed` in `Frame.info` form one group.
    """
    from phaseseg.io import read_frames

    if isinstance(data, str | os.PathLike):
        data = [data]
    sources = list(cast(Iterable[Any], data))
    if sources and all(isinstance(run, Frame) for run in sources):
        sources = [sources]
    runs = []
    for number, source in enumerate(sources, start=1):
        if isinstance(source, str | os.PathLike):
            name, group = Path(source).name, os.fspath(source)
            note(0.0, f"reading {name}")
            file = source if isinstance(source, RunFile) else RunFile(Path(source))
            found: Iterable[Frame] = read_frames(
                file.path, types=types, names=names, units=units, frames=slice(None, None, every),
                fields=columns, cell=file.cell, file_format=file.file_format,
            )  # fmt: skip
        else:
            name = group = f"{what} {number}"
            found = islice(source, 0, None, every)
        labeled = [(frame, label(frame) if label else None) for frame in found]
        for message in dict.fromkeys(text for frame, _ in labeled for text in frame.messages):
            note(0.0, f"{name}: {message}")
        if label:
            labeled = [(frame, value) for frame, value in labeled if value is not None]
        frames, labels = [frame for frame, _ in labeled], tuple(value for _, value in labeled)
        seeds = {frame.info["seed"] for frame in frames if "seed" in frame.info}
        if len(seeds) == 1:
            group = f"seed {seeds.pop():g}"
        runs.append(Run(name, frames, group, labels if label else ()))
    return runs


def listed(runs: Sequence[Run], most: int = 4) -> str:
    """The names of runs in a sentence."""
    names = [run.name for run in runs]
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def refuse_copies(runs: Iterable[Run]) -> None:
    """Raise a ValueError if two groups of runs hold the same configuration."""
    holders: dict[str, Run] = {}
    for run in runs:
        for digest in run.digests:
            other = holders.setdefault(digest, run)
            if other.group != run.group:
                raise ValueError(
                    f"{run.name} and {other.name} hold the same configuration, so neither can be checked "
                    "against the other; leave one of them out."
                )


# ------------------------------------------------------------------------------------------ split


def validation_runs(n_runs: int) -> list[int]:
    """Choose runs for validation: a fifth, evenly spread, at least one.

    Examples
    --------
    >>> validation_runs(3), validation_runs(10)
    ([2], [4, 9])
    """
    n = max(1, round(VALIDATION_SHARE * n_runs))
    return [math.ceil((k + 1) * n_runs / n) - 1 for k in range(n)]


def validation_block(n_frames: int) -> slice:
    """The validation frames of a run: its last fifth, at least one; none of a single frame."""
    return slice(n_frames - (max(1, round(VALIDATION_SHARE * n_frames)) if n_frames > 1 else 0), None)


def split_by_time(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Each run without its `validation_block`, and these blocks; a run of a single frame has none."""
    trained: list[Run] = []
    held: list[Run] = []
    for run in runs:
        block = validation_block(len(run.frames))
        for part, frames in ((trained, slice(block.start)), (held, block)):
            if run.frames[frames] or part is trained:
                part.append(replace(run, frames=run.frames[frames], labels=run.labels[frames]))
    return trained, held


def fold_of_runs(runs: Sequence[Run], folds: int, states: Mapping[Any, str]) -> NDArray[np.int64]:
    """(n_runs,) the fold of each run; groups stay together, and every fold has frames of every state.

    states : the labels and what they are called in a message

    Raises
    ------
    ValueError
        If frames of a state are in fewer groups than there are folds.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    kinds = {
        name: tuple(any(run.count(label) for run in own) for label in states) for name, own in groups.items()
    }
    for number, state in enumerate(states.values()):
        found = sum(kind[number] for kind in kinds.values())
        if found < folds:
            raise ValueError(
                f"{found} independent run{'s' * (found != 1)} hold{'s' * (found == 1)} {state}, and {folds} "
                "folds need one each; give more runs (one file each) or fewer folds."
            )
    # Groups of one state alone first: those of several states then fill up what is missing.
    counts = np.zeros((folds, len(states)), dtype=np.int64)
    fold: dict[str, int] = {}
    for name in sorted(groups, key=lambda name: sum(kinds[name])):
        fold[name] = int(np.argmin(counts @ kinds[name]))
        counts[fold[name]] += kinds[name]
    return np.array([fold[run.group] for run in runs])
