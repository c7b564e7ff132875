"""Frames as places in files, which any process that sees the files reads for itself."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from phaseseg.display import Message
from phaseseg.frame import Frame
from phaseseg.io.formats import choose_format
from phaseseg.io.index import FORMATS, FrameIndex, Recorder, Stale, index_for_jumps, stamp_of
from phaseseg.io.processors import in_pieces
from phaseseg.io.reading import Carried, Reading, TimedBlock, new_reading
from phaseseg.io.series import Files, Part, files_of, joined
from phaseseg.io.source import ByteSource, InputError
from phaseseg.io.walk import READERS, Jumps, parsed

SINGLE = ("lammps-data", "poscar", "npz", "pickle")
"""Formats with one frame in a file."""

_DEFAULTS = {"types": None, "names": None, "units": "metal", "dt": None, "fields": False, "cell": None}

Mapped = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Scanned(NamedTuple):
    """What a file holds. steps : time steps of its frames; units : the last that it says, if it says any."""

    form: str
    style: str
    places: FrameIndex
    steps: tuple[int | None, ...]
    units: str | None


class _File(NamedTuple):
    path: Path
    form: str
    style: str
    places: FrameIndex
    first: int  # number of its first frame
    units: str | None  # that the files before say


class _Place(NamedTuple):
    file: int
    frame: int
    number: int
    notes: tuple[Message, ...]


@dataclass
class Places:
    """The chosen frames of a trajectory.

    It is sent to processes that read frames in any order; files are opened where they are read.

    carried : what frame 0 determines for all frames
    """

    _files: Sequence[_File]
    _places: Sequence[_Place]
    _options: Mapping[str, Any]
    carried: Carried

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int, carried: Carried | None = None) -> tuple[Frame, Carried]:
        """Read a frame, and what is determined after it.

        carried : what the frames before have determined

        Raises
        ------
        InputError
            As `read_frames`; also if a file is not there or is not the one whose frames were found.
        """
        place = self._places[number]
        file = self._files[place.file]
        try:
            with readable(file.path, file.places.stamp):
                jumps, reading = self._opened(place.file)
                reading.resume(carried or self.carried)
                block = jumps.block(place.frame)
        except InputError:
            self._close()
            raise
        frame = parsed(block, reading, file.path.name, place.number, place.notes)
        return frame, reading.carried

    def _opened(self, number: int) -> tuple[Jumps, Reading]:
        """The file of a place; a thread keeps the last one open."""
        kept = self.__dict__.setdefault("_kept", threading.local())
        if getattr(kept, "number", None) != number:
            self._close()
            file, reading = self._files[number], _reading(self._options)
            reading.said_units, reading.style = file.units, file.style
            kept.jumps = Jumps(file.path, file.form, file.places, reading, file.first), reading
            kept.number = number
        found: tuple[Jumps, Reading] = kept.jumps
        return found

    def _close(self) -> None:
        kept = self.__dict__.get("_kept")
        if kept is not None and getattr(kept, "number", None) is not None:
            kept.number = None
            kept.jumps[0].close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


@contextmanager
def readable(path: Path, stamp: Any) -> Iterator[None]:
    """Raise InputError if a file is not there, or is another one than that of a stamp."""
    try:
        if stamp_of(path) != stamp:
            raise Stale
        yield
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file on {platform.node()}. Every worker must find the files under the "
            "same path."
        ) from None
    except Stale:
        raise InputError(
            f"{path}: the file has changed since its frames were found. Start again when nothing writes it "
            "any more."
        ) from None


def _reading(options: Mapping[str, Any]) -> Reading:
    return new_reading(*(options[name] for name in _DEFAULTS))


def placed(
    path: Files, *, mapped: Mapped | None = None, frames: slice | None = None,
    file_format: str | None = None, **options: Any,
) -> Places | None:  # fmt: skip
    """Find the frames of a trajectory; None if they have no places: in pieces, or read by another package.

    path, frames, file_format, options : as for `read_frames`
    mapped : applies a function to many items, as `map` does; it may use other processes
    """
    options = {**_DEFAULTS, **options}
    paths = [Path(os.path.abspath(one)) for one in files_of(path)]  # noqa: PTH100 - links stay as they are
    if any(map(in_pieces, paths)):
        return None
    if choose_format(paths[0], file_format, {"gsd", *READERS}).partition(":")[0] not in (*FORMATS, *SINGLE):
        return None
    if mapped is not None and len(paths) == 1:  # all at once, instead of asking twice
        alone: list[Places | None] = list(
            mapped(partial(placed, frames=frames, file_format=file_format, **options), paths)
        )
        return alone[0]
    scan = partial(scanned, file_format=file_format, options=options, steps=len(paths) > 1)
    found: list[Scanned | None] = list((mapped or map)(scan, paths))
    files: list[_File] = []
    reading = _reading(options)

    def blocks_of(path: Path, first: int) -> Iterator[TimedBlock]:
        one = found[len(files)]
        assert one is not None
        files.append(_File(path, one.form, one.style, one.places, first, reading.said_units))
        reading.said_units = one.units or reading.said_units
        for frame, step in enumerate(one.steps):
            block = TimedBlock(_unread, len(files) - 1, frame)
            block.timestep = step
            yield block

    if any(one is None for one in found):
        return None
    every: list[_Place] = []
    chosen: list[_Place] = []
    for number, (_, block, messages) in enumerate(joined(paths, blocks_of, reading)):
        inner = block.block if isinstance(block, Part) else block
        assert isinstance(inner, TimedBlock)
        file, frame = inner.args
        every.append(_Place(file, frame, number, tuple(messages)))
    for number in range(*(frames or slice(None)).indices(len(every))):
        before = every[chosen[-1].number + 1 : number] if chosen else every[:number]
        notes = [note for place in before for note in place.notes]
        chosen.append(every[number]._replace(notes=(*notes, *every[number].notes)))
    places = Places(files, chosen, options, reading.carried)
    if every:
        with suppress(InputError):
            first = Places(files, every[:1], options, reading.carried)
            [places.carried] = (mapped or map)(_after_first, [first])
    return places


def _after_first(places: Places) -> Carried:
    return places.read(0)[1]


def _unread(file: int, frame: int) -> dict[str, Any]:
    raise AssertionError(f"frame {frame} of file {file} was not read.")


def scanned(
    path: Path, *, file_format: str | None, options: Mapping[str, Any], steps: bool
) -> Scanned | None:
    """Find the frames of one file; None for a format without places.

    steps : whether the time steps of the frames are needed
    """
    form, _, style = choose_format(path, file_format, {"gsd", *READERS}).partition(":")
    if form not in (*FORMATS, *SINGLE):
        return None
    known = index_for_jumps(path, form) if form in FORMATS and not steps else None
    if known is not None and known.complete:
        units = None
        if (state := int(known.states[-1])) >= 0:
            reading = _reading(options)
            with closing(Jumps(path, form, known, reading)) as jumps, suppress(Stale):
                jumps.block(state)
                units = reading.said_units
        return Scanned(form, style, known, (None,) * len(known), units)
    reading = _reading(options)
    reading.style = style
    found: list[int | None] = []
    with closing(ByteSource(path)) as source, np.errstate(all="ignore"):
        recorder = Recorder(path, form, source)
        blocks = READERS[form](source, reading)
        while True:
            recorder.before()
            if (block := next(blocks, None)) is None:
                break
            recorder.found()
            found.append(Part(block, reading).look(path.name, source.frame) if steps else None)
            source.frame += 1
    if form in FORMATS:
        recorder.store(complete=True)
    made = recorder.index(complete=True)
    if made is None:
        return None
    if form in FORMATS and (stored := index_for_jumps(path, form)) is not None and stored.complete:
        made = stored  # with points
    return Scanned(form, style, made, tuple(found), reading.said_units)
