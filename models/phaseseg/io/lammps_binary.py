"""Binary LAMMPS dumps of atoms (dump atom and dump custom to a file .bin).

A frame is a header and, from every process of the run, the number of its numbers and these as float64, one
row per atom. Words do not occur: a column `element` holds types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.lammps import TIME_IN_PS, TRIPLES, box_of_bounds, check_units
from phaseseg.io.large_text import letters_of
from phaseseg.io.names import kind_of, topology
from phaseseg.io.reading import Block, Reading, TimedBlock, time_parts
from phaseseg.io.source import ByteSource

MAGIC = (b"DUMPCUSTOM", b"DUMPATOM")
_RESTRICTED, _GENERAL = 1, 2


class _Header(NamedTuple):
    timestep: int
    n_atoms: int
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    units: str
    time: float | None
    columns: list[str]


class _Cut(Exception):
    """The file ends inside a frame."""


def is_binary_dump(head: bytes) -> bool:
    """Whether a file begins like a binary dump: the negative length of a word, and the word."""
    return any(
        head[8:].startswith(word)
        and head[:8] in (struct.pack("<q", -len(word)), struct.pack(">q", -len(word)))
        for word in MAGIC
    )


def read_binary_dump(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a binary LAMMPS dump, unparsed."""
    while source.peek(1):
        try:
            header, data = _frame(source)
        except _Cut as cut:
            source.check()
            yield partial(_cut, str(cut), reading)
            return
        except ValueError as error:
            yield partial(_damaged, str(error), reading)
            return
        if header.units:  # only the first frame says it
            reading.said_units, source.stateful = header.units, source.frame
        block = TimedBlock(_parse, header, reading.said_units, data, reading)
        block.timestep = header.timestep
        yield block


def merged(blocks: Sequence[TimedBlock]) -> TimedBlock:
    """The pieces of a frame, each from one processor, as one block."""
    header, units, _, reading = blocks[0].args

    def unequal() -> dict[str, Any]:
        raise reading.error("the pieces of the frame have different columns. Write the dump again.")

    if len({tuple(block.args[0].columns) for block in blocks}) > 1:
        return TimedBlock(unequal)
    n_atoms = sum(block.args[0].n_atoms for block in blocks)
    parts = [part for block in blocks for part in block.args[2]]
    return TimedBlock(_parse, header._replace(n_atoms=n_atoms), units, parts, reading)


def _cut(text: str, reading: Reading) -> dict[str, Any]:
    raise reading.cut(text)


def _damaged(text: str, reading: Reading) -> dict[str, Any]:
    raise reading.error(text)


def _frame(source: ByteSource) -> tuple[_Header, list[NDArray[np.float64]]]:
    """Header and numbers of a frame; ValueError where they make no sense."""
    order = "<"

    def next_bytes(n: int) -> bytes:
        data = source.take(n)
        if len(data) < n:
            raise _Cut("the file ends inside the header of the frame")
        return bytes(data)

    def numbers(form: str) -> Any:
        found = struct.unpack(order + form, next_bytes(struct.calcsize(order + form)))
        return found if len(found) > 1 else found[0]

    start = source.peek(8 + max(map(len, MAGIC)))
    if len(start) == 8 + max(map(len, MAGIC)) and not is_binary_dump(start):
        raise ValueError(
            "the frame does not begin with DUMPCUSTOM or DUMPATOM, as those of LAMMPS since 2020 do. Convert "
            "an older file with its binary2txt, or write the dump again."
        )
    order = "<" if start[7:8] == b"\xff" and start[:1] != b"\xff" else ">"
    next_bytes(-numbers("q"))
    _, revision = numbers("ii")
    timestep, n_atoms, triclinic = numbers("qqi")
    flags = np.reshape(numbers("6i"), (3, 2))
    if triclinic == _GENERAL:
        vectors = np.reshape(numbers("12d"), (4, 3))
        cell, origin = vectors[:3], vectors[3]
    else:
        bounds = np.zeros((3, 3))
        bounds[:, :2] = np.reshape(numbers("6d"), (3, 2))
        if triclinic == _RESTRICTED:
            bounds[:, 2] = numbers("3d")
        cell, origin = box_of_bounds(bounds)
    n_columns = numbers("i")
    units = next_bytes(_length(numbers("i"))).decode("ascii", "replace")
    time = numbers("d") if next_bytes(1) != b"\0" else None
    columns = next_bytes(_length(numbers("i"))).decode("utf-8", "replace").split()
    if (
        revision < 2
        or len(columns) != n_columns
        or not columns
        or n_atoms < 0
        or triclinic not in (0, _RESTRICTED, _GENERAL)
    ):
        raise ValueError(
            f"the header makes no sense ({n_atoms} atoms, {n_columns} columns: {' '.join(columns)[:80]!r}). "
            "Write or copy the file again."
        )
    parts: list[NDArray[np.float64]] = []
    found = 0
    for _ in range(_length(numbers("i"))):
        n = numbers("i")
        if n < 0 or n % n_columns:
            raise ValueError(
                f"a block of {n} numbers has no whole rows of {n_columns}. Write or copy the file again."
            )
        data = source.take(8 * n)
        found += len(data) // (8 * n_columns)
        if len(data) < 8 * n:
            raise _Cut(f"ends after {found} of {n_atoms} atoms")
        parts.append(letters_of(data).view(f"{order}f8").reshape(-1, n_columns))
    if found != n_atoms:
        raise ValueError(
            f"the frame holds {found} atoms, but its header announces {n_atoms}. Write or copy the file "
            "again."
        )
    return _Header(timestep, n_atoms, cell, origin, (flags == 0).all(axis=1), units, time, columns), parts


def _length(n: int) -> int:
    if not 0 <= n < 1 << 24:
        raise ValueError(f"the header makes no sense: a length is {n}. Write or copy the file again.")
    return n


def _parse(
    header: _Header, units: str | None, parts: list[NDArray[np.float64]], reading: Reading
) -> dict[str, Any]:
    titles = header.columns
    of_frame = check_units(units, reading) if units else reading.units
    times = time_parts(header.time, header.timestep)
    if times["time"] is not None:
        times["time"] *= TIME_IN_PS[units or "metal"]
    rows = np.concatenate([np.empty((0, len(titles))), *parts]).astype(np.float64, copy=False)
    columns = dict(zip(titles, rows.T, strict=True))
    triple = next((three for three in TRIPLES if set(three) <= set(titles)), None)
    if triple is None:
        raise reading.error(
            f"no complete coordinates among the columns ({' '.join(titles)}). Dump x y z, xs ys zs, xu yu zu "
            "or xsu ysu zsu."
        )
    type_column = next((name for name in ("type", "element", "typelabel") if name in columns), None)
    if type_column is None:
        raise reading.error(f"the dump has no types (columns {' '.join(titles)}). Dump type, too.")
    types = _integers(type_column, columns[type_column], reading)
    if not reading.type_names:
        raise reading.unnamed(types, "a binary dump")
    positions = rows[:, [titles.index(name) for name in triple]]
    with np.errstate(over="ignore", invalid="ignore"):  # the frame refuses what is not finite
        positions = header.origin + positions @ header.cell if "s" in triple[0] else positions
    taken = {*triple, "id", "type", "element", "typelabel"}
    others = {
        name: np.ascontiguousarray(column)
        for name, column in columns.items()
        if name not in taken and (reading.fields or kind_of(name))
    }
    return {
        "positions": positions, "cell": header.cell, "origin": header.origin, "pbc": header.pbc,
        "species": reading.codes_of_types(types),
        "ids": _integers("id", columns["id"], reading) if "id" in columns else None,
        **times, **topology(others), "fields": others if reading.fields else {}, "units": of_frame,
    }  # fmt: skip


def _integers(title: str, values: NDArray[np.float64], reading: Reading) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(values) < 2**53) | (values % 1 != 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise reading.error(
            f"column {title} of atom {row + 1} is {values[row]:g}, not an integer. Write or copy the file "
            "again."
        )
    return values.astype(np.int64)
