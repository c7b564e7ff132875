"""Trajectories in several files: which ones, in which order, and what the parts of a restarted run repeat."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.display import Message
from phaseseg.io.reading import Block, Reading, TimedBlock
from phaseseg.io.source import InputError

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a name with the wildcards `*`, `?` and `[...]`, or several files in their order."""


def files_of(given: Files) -> list[Path]:
    """The files that are meant; those that wildcards stand for in the order of the numbers in their names.

    Raises
    ------
    InputError
        If no file has such a name.
    """
    if not isinstance(given, (str, os.PathLike)):
        if not given:
            raise InputError("there is no file to read. Give one or more.")
        return [Path(one) for one in given]
    path = Path(given)
    if not glob.has_magic(os.fspath(path)) or path.exists():
        return [path]
    # A % stands for the number of a processor, and its files are one.
    pieces = path.name.count("%") == 1
    pattern = os.fspath(path.with_name(path.name.replace("%", "[0-9]*"))) if pieces else os.fspath(path)
    found = [Path(name) for name in glob.glob(pattern)]  # noqa: PTH207 - folders may have wildcards, too
    if pieces:
        found = _whole_names(path.name, found)
    if not found:
        raise InputError(f"{path}: no file has a name like this. Check the name and the folder.")
    return sorted(found, key=_natural)


def _whole_names(pattern: str, pieces: Sequence[Path]) -> list[Path]:
    """The names with a % of the pieces that a pattern with a % stands for."""
    before, after = (fnmatch.translate(part).removesuffix(r"\Z") for part in pattern.split("%"))
    names: dict[Path, None] = {}
    for piece in pieces:
        if match := re.fullmatch(f"({before})[0-9]+({after})", piece.name):
            names[piece.with_name(f"{match[1]}%{match[2]}")] = None
    return list(names)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts run.2 before run.10."""
    parts = re.split(r"([0-9]+)", os.fspath(path))
    return [(int(part), "") if k % 2 else (0, part) for k, part in enumerate(parts)]


class Part:
    """A frame that is parsed once, though its time step is asked for before."""

    def __init__(self, block: Block, reading: Reading) -> None:
        self._block: Block | None = block
        self._timed = isinstance(block, TimedBlock)
        self._reading = reading
        self._parts: dict[str, Any] | None = None
        self._messages: list[Message] = []
        self._timestep: int | None = block.timestep if isinstance(block, TimedBlock) else None

    @property
    def block(self) -> Block | None:
        """The frame as it was found; None once it is parsed."""
        return self._block

    def look(self, label: str, index: int) -> int | None:
        """Return the time step, or None if the frame has none or cannot be read."""
        if self._block is not None and not self._timed:
            self._reading.label, self._reading.index, self._reading.messages = label, index, []
            try:
                with np.errstate(all="ignore"):  # a number that is not finite is an error of `Frame`
                    self._parts = self()
            except ValueError:
                return None
            self._messages = self._reading.messages
        return self._timestep

    def __call__(self) -> dict[str, Any]:
        if self._block is None:
            assert self._parts is not None
            parts, self._parts = self._parts, None
            self._reading.messages += self._messages
            return parts
        parts = self._block()
        self._block, self._timestep = None, parts.get("timestep")  # the text is not needed any more
        return parts


def joined(
    files: Sequence[Path], blocks_of: Callable[[Path, int], Iterator[Block]], reading: Reading
) -> Iterator[tuple[str, Block, list[Message]]]:
    """Yield the frames of several files with the name of their file and what there is to say about them.

    A run that is continued from a restart file repeats the steps between that and its end. Frames at the
    beginning of a file whose time steps were in a file before are left out, unless the steps begin anew.

    blocks_of : the blocks of a file, given the number of its first frame
    """
    if len(files) == 1:
        yield from ((files[0].name, block, []) for block in blocks_of(files[0], 0))
        return
    first: int | None = None
    last: int | None = None  # time steps of the run so far
    index = 0
    notes: list[Message] = []
    for path in files:
        part: Part | None = None
        beginning, repeated = True, 0
        for block in blocks_of(path, index):
            part = Part(block, reading)
            if beginning:
                step = part.look(f"{path.name}, frame {index}", index)
                if None not in (step, first, last) and first < step <= last:  # type: ignore[operator]
                    repeated += 1
                    continue
                beginning = False
                if first is None or (step is not None and step <= first):
                    first, last = step, None
            yield path.name, part, [*notes, *([_left_out(repeated, path)] if repeated else [])]
            index, repeated, notes = index + 1, 0, []
        if repeated:
            notes.append(_left_out(repeated, path))
        if part is not None:
            step = part.look(f"{path.name}, frame {index}", index)
            last = step if last is None or step is None else max(last, step)


def _left_out(n: int, path: Path) -> Message:
    text = f"The first {n} frames of {path.name} repeat time steps of the file before it and were left out."
    if n == 1:
        text = f"The first frame of {path.name} repeats a time step of the file before it and was left out."
    return Message(text, "repeated-steps")
