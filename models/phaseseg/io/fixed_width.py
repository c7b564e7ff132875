"""Files whose columns have a fixed width: what GRO and PDB share, and the PDB reader."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Category
from phaseseg.io.columns import parse_columns
from phaseseg.io.names import runs
from phaseseg.io.reading import Block, Reading, is_number, time_parts
from phaseseg.io.source import ByteSource, InputError

Letters = NDArray[np.uint8]


def letters(body: bytes, n_lines: int, width: int) -> Letters:
    """(n_lines, width) letters of lines, cut off or filled up with blanks."""
    first = body.find(b"\n") + 1
    if first > width and len(body) == first * n_lines:
        equal = np.frombuffer(body, np.uint8).reshape(n_lines, first)
        if (equal[:, -1] == ord("\n")).all():
            return equal[:, :width]
    return _filled(body.split(b"\n")[:n_lines], width)


def _filled(lines: Sequence[bytes], width: int) -> Letters:
    text = b"".join(line.rstrip(b"\r")[:width].ljust(width) for line in lines)
    return np.frombuffer(text, np.uint8).reshape(len(lines), width)


def words(columns: Letters) -> Category:
    """One word per row of (n_lines, width) letters."""
    cells = np.ascontiguousarray(columns).view(f"S{columns.shape[1]}")[:, 0]
    code: dict[bytes, int] = {}
    codes = np.array([code.setdefault(cell, len(code)) for cell in cells.tolist()], dtype=np.intp)
    found = Category.of([cell.decode("utf-8", "replace").strip() for cell in code])
    return found.take(codes)


def coordinates(
    reading: Reading, columns: Letters, width: int, first_column: int, lines: Sequence[int]
) -> NDArray[np.float64]:
    """(n_lines, 3) numbers from (n_lines, 3 width) letters.

    first_column, lines : numbers of the first letter and of every line in the file, for messages
    """
    n = len(columns)
    if n == 0:
        return np.empty((0, 3))
    spaced = np.full((n, 3, width + 1), ord(" "), dtype=np.uint8)
    spaced[:, :, :width] = columns.reshape(n, 3, width)
    spaced[:, 2, width] = ord("\n")
    try:
        return parse_columns(reading, spaced.tobytes(), n, "xyz", lines[0], positions=(0, 1, 2)).positions
    except InputError:
        cells = np.ascontiguousarray(columns).reshape(-1).tobytes()
        for at in range(3 * n):
            word = cells[at * width : (at + 1) * width].decode("utf-8", "replace")
            start = first_column + at % 3 * width
            if not is_number(word):
                raise reading.error(
                    f"coordinate {'xyz'[at % 3]} (columns {start} to {start + width - 1}) is "
                    f"{word.strip()!r}, not a number. Repair the line or leave this frame out.",
                    lines[at // 3],
                ) from None
        raise


def time_of_title(title: str) -> dict[str, Any]:
    """`time` (ps), `timestep` and messages from a title that GROMACS wrote: `water t= 1.50000 step= 750`."""
    time = re.search(r"\bt\s*=\s*([-+.\deE]+)", title)
    step = re.search(r"\bstep\s*=\s*(\d+)", title)
    return time_parts(time and time[1], step and step[1])


# ------------------------------------------------------------------------------------------- PDB


def read_pdb(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a PDB file, unparsed; each ends with END or ENDMDL. A cell is valid until the next."""
    cell = title = ""
    while source.peek(1):
        first_line = source.line_number + 1
        lines = source.until(b"END").split(b"\n")
        source.line()
        for line in lines:
            if line.startswith(b"CRYST1"):
                cell = line.decode("utf-8", "replace")
            elif line.startswith(b"TITLE"):
                title = line.decode("utf-8", "replace")
        atoms = [row for row, line in enumerate(lines) if line.startswith((b"ATOM", b"HETATM"))]
        if atoms:
            numbers = [first_line + row for row in atoms]
            yield partial(_parse_pdb, cell, title, numbers, [lines[row] for row in atoms], reading)


def _parse_pdb(
    cell: str, title: str, numbers: Sequence[int], lines: Sequence[bytes], reading: Reading
) -> dict[str, Any]:
    if reading.type_names:
        raise reading.without_types("a PDB file has atom names")
    rows = _filled(lines, 80)
    if (short := (rows[:, 53:] == ord(" ")).all(axis=1)).any():
        row = int(np.argmax(short))
        raise reading.error(
            f"the line ends before column 54, the last of the coordinates: {lines[row][30:54].strip()!r}. "
            "Write or copy the file again.",
            numbers[row],
        )
    name, residue, element = words(rows[:, 12:16]), words(rows[:, 17:21]), words(rows[:, 76:78])
    fields = {}
    for field, columns in (("occupancy", rows[:, 54:60]), ("bfactor", rows[:, 60:66])):
        values = words(columns)
        if reading.fields and all(map(is_number, values.names)):
            fields[field] = np.array(values.names, dtype=float)[values.codes]
    return {
        "positions": coordinates(reading, rows[:, 30:54], 8, 31, numbers),
        "species": reading.codes_of_atom_names(name, residue, element),
        # Residue, chain, number and insertion code, and the segment.
        "molecules": runs(rows[:, 17:27], rows[:, 72:76]),
        "categories": {"name": name, "residue": residue},
        "cell": _pdb_cell(cell, reading),
        "pbc": True,
        "fields": fields,
        **time_of_title(title),
    }


def _pdb_cell(line: str, reading: Reading) -> NDArray[np.float64]:
    if not line:
        return np.zeros((3, 3))
    from ase.cell import Cell

    numbers = [line[6:15], line[15:24], line[24:33], line[33:40], line[40:47], line[47:54]]
    if not all(map(is_number, numbers)):
        raise reading.error(
            f"CRYST1 must hold three edges and three angles, found {line[6:54].strip()!r}. Repair the line."
        )
    a, b, c, alpha, beta, gamma = map(float, numbers)
    if (a, b, c) == (1, 1, 1):  # the mark of a structure without a cell
        return np.zeros((3, 3))
    try:
        return np.asarray(Cell.new((a, b, c, alpha, beta, gamma)))
    except AssertionError:
        raise reading.error(f"three vectors cannot have the angles {alpha}, {beta}, {gamma}.") from None
