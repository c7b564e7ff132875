"""Frames of a file in pieces of many atoms, for frames that do not fit into memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.io import lammps, text
from phaseseg.io.formats import choose_format
from phaseseg.io.index import stamp_of
from phaseseg.io.large_text import Text
from phaseseg.io.packing import is_packed
from phaseseg.io.places import readable
from phaseseg.io.reading import Reading, count_of, new_reading, next_text, whole_number
from phaseseg.io.source import ByteSource, InputError
from phaseseg.specs import Progress

FORMATS = ("lammps-dump", "extxyz")
"""Formats of which a piece of a frame can be read."""
ROWS = 1 << 21
"""Atoms in a piece."""
MOST_HEADER_LINES = 100


@dataclass(frozen=True, eq=False)
class PiecedFrame:
    """One frame of a file, in pieces that must be read in their order before the next frame is asked for.

    n_atoms : number of atoms, as the file announces it
    pieces : frames with the atoms of each piece, all else as for the whole frame
    lookup : (n,) final codes of the species of the pieces, and their names; known once the pieces are read
    elsewhere : called after the first piece, gives the others if other processes can read them, else None
    add : must then be called with what each of these determines, in their order; returns (n,) the codes that
        its species have in the frame
    """

    n_atoms: int
    index: int
    pieces: Iterator[Frame]
    lookup: Callable[[], tuple[NDArray[np.int32], tuple[str, ...]]]
    elsewhere: Callable[[], Iterator[PlacedPiece] | None] = lambda: None
    add: Callable[[Determined], NDArray[np.int32]] = lambda _: np.empty(0, np.int32)


class Determined(NamedTuple):
    """What a piece determines for the others: names of its species codes, and their lowest types."""

    names: tuple[str, ...]
    lowest: dict[str, int]


class _Block(NamedTuple):
    """A piece of a frame that has been found, but not parsed.

    parse : called with the source, the reading, the number of atoms, that of the first line, and the text
    """

    parse: Callable[..., dict[str, Any]]
    n_atoms: int
    first_line: int
    body: Text


@dataclass(frozen=True)
class PlacedPiece:
    """A piece of a frame that any process reads that sees the file."""

    _file: Path
    _stamp: tuple[int, int]
    _offset: int
    _n_bytes: int
    _block: _Block
    _reading: _Reading

    def __len__(self) -> int:
        return self._block.n_atoms

    def read(self) -> tuple[Frame, Determined]:
        """The atoms of the piece, with the codes of its species."""
        with readable(self._file, self._stamp), self._file.open("rb") as file:
            file.seek(self._offset)
            body = file.read(self._n_bytes)
        reading, before = self._reading, dict(self._reading.type_names)
        with closing(ByteSource(self._file)) as source:
            frame = _frame(self._block._replace(body=body), source, reading, before)
        return frame, Determined(tuple(reading.names), reading.lowest)


class _Reading(Reading):
    """Remembers the lowest type of every species: a frame that is read at once numbers its species by it."""

    @property
    def lowest(self) -> dict[str, int]:
        found: dict[str, int] = self.__dict__.setdefault("_lowest", {})
        return found

    def lower(self, name: str, type_id: int) -> None:
        """A species has an atom of this type."""
        self.lowest[name] = min(type_id, self.lowest.get(name, type_id))

    def codes_of_names(
        self, codes: NDArray[np.int32], names: Sequence[str], order: NDArray[np.int64] | None = None
    ) -> NDArray[np.int32]:
        found = super().codes_of_names(codes, names, order)
        if order is not None and len(codes):
            for code, name in enumerate(names):
                mine = order[codes == code]
                if mine.size:
                    self.lower(self.renames.get(name, name), int(mine.min()))
        return found


def pieced_format(path: Path, file_format: str | None) -> bool:
    """Whether the frames of a file can be read in pieces."""
    return choose_format(path, file_format, _Any()) in FORMATS


def announced_atoms(path: Path, file_format: str | None = None) -> int:
    """The number of atoms that the first frame of a file announces; 0 if it announces none.

    Read from LAMMPS text dumps and data files, extended XYZ and GRO.
    """
    with suppress(InputError), closing(ByteSource(path)) as source:  # a reader says what is wrong
        form = choose_format(path, file_format, _Any()).partition(":")[0]
        if form in ("gro", "lammps-data"):
            source.line()  # the title
        if form in ("gro", "extxyz"):
            return max(whole_number(next_text(source) or "") or 0, 0)
        for _ in range(MOST_HEADER_LINES if form in ("lammps-dump", "lammps-data") else 0):
            line = source.line()
            if line is None or line.startswith("ITEM: ATOMS"):
                break
            if line.startswith("ITEM: NUMBER OF ATOMS"):
                return max(whole_number((source.line() or "").strip()) or 0, 0)
            if form == "lammps-data" and (counted := re.match(r"\s*(\d{1,18})\s+atoms\b", line)):
                return int(counted[1])
    return 0


def taken(found: PiecedFrame, rows: NDArray[np.int64], progress: Progress | None = None) -> Frame:
    """Some atoms of a frame; only these are kept in memory.

    rows : (n,) their rows in the frame, sorted

    Returns
    -------
    Frame
        Without molecules and categories. Atoms without an id in the file have their row + 1.
    """
    parts: list[Frame] = []
    start = 0
    for piece in found.pieces:
        here = rows[slice(*np.searchsorted(rows, (start, start + len(piece))))]
        ids = here + 1 if piece.ids is None else piece.ids[here - start]
        parts.append(piece.take(here - start, molecules=None, categories={}, ids=ids))
        start += len(piece)
        if progress is not None:
            progress(start / max(found.n_atoms, 1), f"reading, {start:,} of {found.n_atoms:,} atoms")
    lookup, names = found.lookup()
    joined = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in ("positions", "species", "ids")
    }
    common = set.intersection(*(set(one.fields) for one in parts))
    fields = {
        name: np.concatenate([one.fields[name] for one in parts])
        for name in parts[0].fields
        if name in common
    }
    joined["species"] = lookup[joined["species"]]
    return parts[0].replace(**joined, fields=fields, species_names=names)


class _Any:
    """A container of all names."""

    def __contains__(self, name: object) -> bool:
        return True


def read_pieces(
    path: Path, *, types: Types = None, names: Names = None, frames: slice | None = None,
    units: Units = "metal", cell: ArrayLike | str | None = None, dt: float | None = None,
    fields: bool = False, file_format: str | None = None, rows: int = ROWS,
) -> Iterator[PiecedFrame]:  # fmt: skip
    """Read a LAMMPS text dump or an extended XYZ file frame by frame, each frame in pieces.

    rows : atoms in a piece; for all else see `read_frames`

    Raises
    ------
    InputError
        As `read_frames`, and for a text that would have to be read twice: an open box around the atoms,
        frames counted from the end.
    """
    if isinstance(cell, str) and cell == "open":
        raise InputError(f"{path.name}: an open box around the atoms is not found in pieces. Give its edges.")
    chosen = frames or slice(None)
    first, last, step = chosen.start or 0, chosen.stop, chosen.step or 1
    if first < 0 or (last is not None and last < 0):
        raise InputError(f"{path.name}: frames of a file in pieces are counted from its beginning.")
    base = new_reading(types, names, units, dt, fields, cell)
    reading = _Reading(**{name: getattr(base, name) for name in base.__dataclass_fields__})
    walk = _dump_frames if choose_format(path, file_format, FORMATS) == "lammps-dump" else _xyz_frames
    with closing(ByteSource(path)) as source:
        found = walk(source, reading, rows)
        for index, (n_atoms, blocks) in enumerate(found):
            if last is not None and index >= last:
                return
            reading.label, reading.index = f"{path.name}, frame {index}", index
            source.frame = index
            if index < first or (index - first) % step:
                for _ in blocks:
                    pass
                continue
            yield PiecedFrame(
                n_atoms, index, _frames(blocks, source, reading), partial(_lookup, reading),
                partial(_elsewhere, path.absolute(), blocks, source, reading), partial(_add, reading),
            )  # fmt: skip
            for _ in blocks:  # what was not read
                pass


def _frames(blocks: Iterable[_Block], source: ByteSource, reading: _Reading) -> Iterator[Frame]:
    """The pieces as frames; messages come with the first."""
    by_type: Mapping[int, str] | None = None
    reading.above = {}
    for block in blocks:
        frame = _frame(block, source, reading, by_type)
        by_type = dict(reading.type_names)
        yield frame


def _frame(block: _Block, source: ByteSource, reading: _Reading, by_type: Mapping[int, str] | None) -> Frame:
    """A piece as a frame; by_type : names of the types in the pieces before, None for the first."""
    reading.messages = []
    try:
        with np.errstate(all="ignore"):
            found = block.parse(source, reading, block.n_atoms, block.first_line, block.body)
            parts = {"units": reading.units, "time": None, "timestep": None, "messages": (), **found}
            parts = reading.with_cell(parts)
            parts["messages"] = () if by_type is not None else (*parts["messages"], *reading.messages)
            if parts["time"] is None and parts["timestep"] is not None and reading.dt is not None:
                parts["time"] = parts["timestep"] * reading.dt
            if by_type is not None and by_type != reading.type_names:
                raise reading.error("the types begin at 0. Name each, as in types 0=A,1=B.")
            names = tuple(reading.names)
            return Frame(species_names=names, source=reading.label, index=reading.index, **parts)
    except InputError:
        raise
    except ValueError as error:
        said = str(error)
        raise (InputError(said) if said.startswith(reading.label) else reading.error(said)) from error


def _elsewhere(
    path: Path, blocks: Iterator[_Block], source: ByteSource, reading: _Reading
) -> Iterator[PlacedPiece] | None:
    if is_packed(path) or source.encoding != "utf-8" or reading.above:  # residues go on from piece to piece
        return None
    return _placed(path, blocks, source, reading)


def _placed(
    path: Path, blocks: Iterator[_Block], source: ByteSource, reading: _Reading
) -> Iterator[PlacedPiece]:
    stamp, sent = stamp_of(path), deepcopy(reading)
    for block in blocks:
        if source.line_number - block.first_line + 1 < block.n_atoms:  # the file ends here, which is an error
            _frame(block, source, reading, dict(reading.type_names))
        n_bytes = len(block.body)
        yield PlacedPiece(path, stamp, source.offset - n_bytes, n_bytes, block._replace(body=b""), sent)


def _add(reading: _Reading, determined: Determined) -> NDArray[np.int32]:
    for name, type_id in determined.lowest.items():
        reading.lower(name, type_id)
    return np.array([reading.code(name) for name in determined.names], dtype=np.int32)


def _lookup(reading: _Reading) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Final codes of the species, and their names."""
    lowest = reading.lowest
    names = sorted(reading.names, key=lambda name: lowest.get(name, -1)) if lowest else list(reading.names)
    return np.array([names.index(name) for name in reading.names], dtype=np.int32), tuple(names)


# ------------------------------------------------------------------------------------------ formats

Found = Iterator[tuple[int, Iterator[_Block]]]


def _blocks(
    source: ByteSource, n_atoms: int, rows: int, parse: Callable[..., dict[str, Any]]
) -> Iterator[_Block]:
    """The pieces of a frame; one without atoms for a frame without."""
    for begin in range(0, max(n_atoms, 1), rows):
        n, first_line = min(rows, n_atoms - begin), source.line_number + 1
        yield _Block(parse, n, first_line, source.block(n))


def _xyz_frames(source: ByteSource, reading: Reading, rows: int) -> Found:
    while (line := next_text(source)) is not None:
        n_atoms = count_of(source, line)
        yield n_atoms, _blocks(source, n_atoms, rows, partial(_parse_xyz, source.line() or ""))


def _parse_xyz(
    comment: str, _: ByteSource, reading: Reading, n: int, first_line: int, body: Text
) -> dict[str, Any]:
    return text.parse_extxyz(n, comment, body, first_line, reading)


def _dump_frames(source: ByteSource, reading: Reading, rows: int) -> Found:
    sections: dict[str, lammps.Section] = {}
    title = next_text(source)
    while title is not None:
        key, title = lammps.section_of(title)
        first_line = source.line_number + 1
        if key != "ATOMS":
            sections[key] = lammps.Section(title, source.until(b"ITEM:"), first_line)
            title = source.line()
            continue
        if "UNITS" in sections:
            reading.said_units = sections["UNITS"].body.decode("utf-8", "replace").strip()
        counted = sections.get("NUMBER OF ATOMS")
        n_atoms = None if counted is None else whole_number(counted.body.decode("utf-8", "replace").strip())
        parse = partial(_parse_dump, sections, title, reading.said_units)
        if n_atoms is None or n_atoms < 0:
            parse(source, reading, 0, first_line, b"")  # a sentence on what is wrong with the header
            raise source.error("the number of atoms is not known. Repair the header of the frame.")
        yield n_atoms, _blocks(source, n_atoms, rows, parse)
        sections, title = {}, next_text(source)
        if title is not None and not title.startswith("ITEM:"):
            raise source.error(f"has more atom lines than the {n_atoms} of its header. Write the file again.")
    if sections:
        raise source.error("the file ends inside the header of a frame.")


def _parse_dump(
    sections: Mapping[str, lammps.Section], title: str, units: str | None, source: ByteSource,
    reading: Reading, n: int, first_line: int, body: Text,
) -> dict[str, Any]:  # fmt: skip
    of_piece = {**sections, "ATOMS": lammps.Section(title, body, first_line)}
    if "NUMBER OF ATOMS" in sections:
        of_piece["NUMBER OF ATOMS"] = sections["NUMBER OF ATOMS"]._replace(body=str(n).encode())
    return lammps.parse_frame(of_piece, units, False, source, reading)
