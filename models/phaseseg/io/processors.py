"""Frames in pieces: LAMMPS writes a file per processor if the name of a dump has a `%`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

from phaseseg.io import lammps, lammps_binary
from phaseseg.io.reading import Block, Reading, TimedBlock
from phaseseg.io.source import ByteSource, InputError

Reader = Callable[[ByteSource, Reading], Iterator[Block]]
_MERGE: dict[str, Callable[[list[TimedBlock]], TimedBlock]] = {
    "lammps-dump": lammps.merged,
    "lammps-dump-binary": lammps_binary.merged,
}


def in_pieces(path: Path) -> bool:
    """Whether a name stands for the pieces of a dump."""
    return path.name.count("%") == 1 and not path.exists()


def pieces_of(path: Path) -> list[Path]:
    """The files of the processors 0, 1, ...; the file itself if it is not in pieces.

    Raises
    ------
    InputError
        If there are none, or one is missing.
    """
    if not in_pieces(path):
        return [path]
    before, _, after = path.name.partition("%")
    found: dict[int, Path] = {}
    for one in path.parent.iterdir() if path.parent.is_dir() else ():
        if match := re.fullmatch(f"{re.escape(before)}(0|[1-9][0-9]*){re.escape(after)}", one.name):
            found[int(match[1])] = one
    if not found:
        raise InputError(
            f"{path}: there are no files with the number of a processor in place of the %. Check the name "
            "and the folder."
        )
    missing = [number for number in range(max(found)) if number not in found]
    if missing:
        raise InputError(
            f"{path}: the piece {path.name.replace('%', str(missing[0]))} is missing, but there is "
            f"{found[max(found)].name}. Copy all pieces into one folder."
        )
    return [found[number] for number in sorted(found)]


def read_pieces(path: Path, form: str, reader: Reader, reading: Reading, first: int) -> Iterator[Block]:
    """The frames of a dump in pieces, unparsed; atoms come in the order of the processors.

    first : number of the first frame in messages
    """
    if form not in _MERGE:
        raise InputError(
            f"{path.name}: only LAMMPS dumps are read in pieces, and this is {form}. Give the files one "
            "by one."
        )
    files = pieces_of(path)
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(ByteSource(file))) for file in files]
        readers = [reader(source, reading) for source in sources]
        for number, blocks in enumerate(zip_longest(*readers), start=first):
            for source in sources:
                source.frame = number + 1
            yield _whole([file.name for file in files], blocks, form, reading, number)
            if None in blocks:
                return


def _whole(
    names: list[str], blocks: tuple[Block | None, ...], form: str, reading: Reading, number: int
) -> Block:
    ended = [name for name, block in zip(names, blocks, strict=True) if block is None]
    timed = [block for block in blocks if isinstance(block, TimedBlock)]

    def parse() -> dict[str, Any]:
        if ended:
            raise reading.cut(f"the piece {ended[0]} ends before this frame")
        whole = _MERGE[form](timed) if len(timed) == len(blocks) else None
        try:
            if whole is not None:
                steps = {block.timestep: name for name, block in zip(names, timed, strict=True)}
                if len(steps) > 1:
                    (one, a), (other, b), *_ = steps.items()
                    raise reading.error(
                        f"the pieces are of different runs: {a} has the time step {one} and {b} {other}. "
                        "Give the pieces of one run."
                    )
                return whole()
        except InputError:
            _parse_alone(names, blocks, reading, number)
            raise
        _parse_alone(names, blocks, reading, number)  # a piece whose header is cut off or damaged
        raise reading.error("the pieces do not belong together. Write the dump again.")

    block = TimedBlock(parse)
    block.timestep = timed[0].timestep if timed else None
    return block


def _parse_alone(names: list[str], blocks: tuple[Block | None, ...], reading: Reading, number: int) -> None:
    """Parse each piece, so that an error names its file and line."""
    label = reading.label
    for name, block in zip(names, blocks, strict=True):
        reading.label = f"{name}, frame {number}"
        if block is not None:
            block()
    reading.label = label
