"""How the frames of files are walked: all in turn, or straight to those that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phaseseg.display import Message
from phaseseg.frame import Frame
from phaseseg.io.arrays import read_npz, read_pickle
from phaseseg.io.atoms import read_with_ase
from phaseseg.io.fixed_width import read_pdb
from phaseseg.io.gsd_file import read_gsd
from phaseseg.io.index import FORMATS, FrameIndex, Recorder, Stale, drop_index, index_for_jumps, load_index
from phaseseg.io.lammps import read_dump
from phaseseg.io.lammps_binary import read_binary_dump
from phaseseg.io.lammps_data import read_data
from phaseseg.io.processors import in_pieces, read_pieces
from phaseseg.io.reading import Block, Reading
from phaseseg.io.seeking import Entrances
from phaseseg.io.series import joined
from phaseseg.io.source import ByteSource, InputError
from phaseseg.io.text import read_extxyz, read_gro
from phaseseg.io.vasp import read_poscar, read_xdatcar

READERS: dict[str, Callable[[ByteSource, Reading], Iterator[Block]]] = {
    "lammps-dump": read_dump,
    "lammps-dump-binary": read_binary_dump,
    "lammps-data": read_data,
    "extxyz": read_extxyz,
    "poscar": read_poscar,
    "xdatcar": read_xdatcar,
    "gro": read_gro,
    "pdb": read_pdb,
    "npz": read_npz,
    "pickle": read_pickle,
}


def _blocks(path: Path, chosen: str, reading: Reading, first: int = 0) -> Generator[Block]:
    """The frames of the file, unparsed; they are counted from `first` in messages."""
    chosen, _, reading.style = chosen.partition(":")
    if chosen == "gsd":
        yield from read_gsd(path, reading)
        return
    if chosen not in READERS:
        yield from read_with_ase(path, chosen, reading)
        return
    if in_pieces(path):
        yield from read_pieces(path, chosen, READERS[chosen], reading, first)
        return
    with closing(ByteSource(path)) as source:
        source.frame = first
        recorder = Recorder(path, chosen, source) if chosen in FORMATS else None
        blocks = READERS[chosen](source, reading)
        complete = False
        try:
            while True:
                if recorder is not None:
                    recorder.before()
                block = next(blocks, None)
                if block is None:
                    complete = True
                    return
                if recorder is not None:
                    recorder.found()
                yield block
                source.frame += 1
        finally:
            if recorder is not None:
                recorder.store(complete=complete)


def _quiet_blocks(path: Path, chosen: str, reading: Reading, first: int) -> Iterator[Block]:
    """The blocks without warnings of NumPy: a number that is not finite is an error of `Frame`."""
    with closing(_blocks(path, chosen, reading, first)) as blocks:
        while True:
            with np.errstate(all="ignore"):
                block = next(blocks, None)
            if block is None:
                return
            yield block


class Jumps:
    """The frames of one file, unparsed and in any order, by its index.

    Parameters
    ----------
    path, form, index : file, its format and its index
    reading : as for all frames
    first : number of its first frame in messages
    """

    def __init__(self, path: Path, form: str, index: FrameIndex, reading: Reading, first: int = 0) -> None:
        self._path, self._form, self._index, self._reading, self._first = path, form, index, reading, first
        self._said_units = reading.said_units  # of the files before
        self._entrances = Entrances(path, index.members, index.points)
        self._source: ByteSource | None = None
        self._begin()

    def _begin(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = ByteSource(self._path)
        self._reading.said_units, self._state = self._said_units, -1
        self._blocks = READERS[self._form](self._source, self._reading)

    def close(self) -> None:
        assert self._source is not None
        self._source.close()
        self._entrances.close()

    def block(self, number: int) -> Block:
        """The frame of a number.

        Raises
        ------
        Stale
            If the file is not the one that was indexed.
        """
        state = int(self._index.states[number])
        if (state != number and state != self._state) or self._form not in FORMATS:
            self._begin()
            if state >= 0:
                self._next(state)
        return self._next(number)

    def _next(self, number: int) -> Block:
        assert self._source is not None
        try:
            self._index.go(self._source, self._entrances, number)
            self._source.frame = self._first + number
            with np.errstate(all="ignore"):
                block = next(self._blocks, None)
        except (InputError, OSError):
            raise Stale from None
        if block is None:
            raise Stale
        self._state = int(self._index.states[number])
        return block


Numbered = tuple[int, str, Block, list[Message]]


@dataclass(frozen=True)
class Selection:
    """The chosen frames of one or more files, in order; see `read_frames`."""

    paths: Sequence[Path]
    formats: Callable[[Path], str]
    start: Callable[[], Reading]
    frames: slice
    same_atoms: bool

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._read(by_index=len(self.paths) == 1)
        except Stale:  # before the first frame
            yield from self._read(by_index=False)

    def _read(self, by_index: bool) -> Iterator[Frame]:
        frames = self.frames
        first, last, step = frames.start or 0, frames.stop, frames.step or 1
        negative = first < 0 or (last is not None and last < 0)
        known = None
        if by_index and (negative or first or step > 1):
            known = self._known(far=negative or first > 0)
        if negative:
            if known is None or not known.complete:
                n_frames = sum(1 for _ in self._every(self.start()))  # this makes the index of a large file
                known = self._known(far=True) if by_index else None
            else:
                n_frames = len(known)
            first, last, _ = frames.indices(n_frames)
        if last is not None and last <= first:
            return
        reading = self.start()
        numbered = self._every(reading)
        if known is not None and (known.complete or (last is not None and last <= len(known))):
            end = len(known) if last is None else min(last, len(known))
            numbered = self._straight(known, reading, range(first, end, step))
        frame_zero: Block | None = None
        n_atoms: int | None = None
        notes: list[Message] = []
        for index, name, block, messages in numbered:
            notes += messages
            if index < first or (index - first) % step:
                if index == 0:
                    frame_zero = block
                continue
            if frame_zero is not None:
                # Frame 0 fixes the species codes, so that two parts of one file use the same ones.
                # If it is damaged, that matters only when it is requested.
                with suppress(InputError):
                    frame_zero()
                frame_zero = None
            frame = parsed(block, reading, name, index, notes)
            notes = []
            n_atoms = len(frame) if n_atoms is None else n_atoms
            if self.same_atoms and len(frame) != n_atoms:
                raise reading.error(
                    f"has {len(frame)} atoms, but the first frame read has {n_atoms}, and every "
                    "frame must have the same atoms here. Read the two parts one by one."
                )
            yield frame
            if last is not None and last <= index + step:
                return  # without a look at what follows: it may be damaged

    def _every(self, reading: Reading) -> Iterator[Numbered]:
        """All frames of the files."""

        def of_file(path: Path, first: int) -> Iterator[Block]:
            return _quiet_blocks(path, self.formats(path), reading, first)

        for index, found in enumerate(joined(self.paths, of_file, reading)):
            yield index, *found

    def _known(self, *, far: bool) -> FrameIndex | None:
        path = self.paths[0]
        form = self.formats(path)
        if form not in FORMATS:
            return None
        return index_for_jumps(path, form) if far else load_index(path, form)

    def _straight(self, known: FrameIndex, reading: Reading, numbers: range) -> Iterator[Numbered]:
        """The first frame and those of the numbers, by the index; all from one on where it is not right.

        Raises
        ------
        Stale
            If that is known before the first frame of the numbers.
        """
        path = self.paths[0]
        form = self.formats(path)
        with closing(Jumps(path, form, known, reading)) as jumps:
            for number in [0, *numbers] if numbers and numbers[0] else numbers:
                try:
                    block = jumps.block(number)
                except Stale:
                    drop_index(path, form)
                    if number in (0, numbers[0]):
                        raise
                    break
                yield number, path.name, block, []
            else:
                return
        yield from (one for one in self._every(reading) if one[0] >= number)


def parsed(block: Block, reading: Reading, name: str, index: int, notes: Sequence[Message] = ()) -> Frame:
    """The frame of a block, which is parsed."""
    reading.label, reading.index = f"{name}, frame {index}", index
    with np.errstate(all="ignore"):  # a number that is not finite is an error, not a warning before it
        return _frame(block, reading, index, notes)


def _frame(block: Block, reading: Reading, index: int, notes: Sequence[Message]) -> Frame:
    try:
        reading.messages = []
        parts = {"units": reading.units, "time": None, "timestep": None, "messages": (), **block()}
        parts = reading.with_cell(parts)
        if unused := [old for old, new in reading.renames.items() if new not in reading.names]:
            text = f"No atom or species is named {', '.join(unused)}; what names say of it has no effect."
            reading.note(text, "names-unused")
        parts["messages"] = (*notes, *parts["messages"], *reading.messages)
        if parts["time"] is None and parts["timestep"] is not None and reading.dt is not None:
            parts["time"] = parts["timestep"] * reading.dt
        return Frame(species_names=tuple(reading.names), source=reading.label, index=index, **parts)
    except InputError:
        raise
    except ValueError as error:
        said = str(error)
        raise (InputError(said) if said.startswith(reading.label) else reading.error(said)) from error
