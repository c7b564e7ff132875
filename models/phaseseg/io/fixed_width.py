"""Files whose columns have a fixed width: what GRO and PDB share, and the PDB reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Category
from phaseseg.io.columns import POWERS, parse_columns
from phaseseg.io.large_text import Text, letters_of
from phaseseg.io.names import runs
from phaseseg.io.reading import Block, Reading, is_number, time_parts
from phaseseg.io.source import ByteSource, InputError

Letters = NDArray[np.uint8]


def letters(body: Text, n_lines: int, width: int) -> Letters:
    """(n_lines, width) letters of lines, cut off or filled up with blanks."""
    first = body.find(b"\n") + 1
    if first > width and len(body) == first * n_lines:
        equal = letters_of(body).reshape(n_lines, first)
        if (equal[:, -1] == ord("\n")).all():
            return equal[:, :width]
    return _filled(bytes(body).split(b"\n")[:n_lines], width)


def _filled(lines: Sequence[bytes], width: int) -> Letters:
    text = b"".join(line.rstrip(b"\r")[:width].ljust(width) for line in lines)
    return np.frombuffer(text, np.uint8).reshape(len(lines), width)


def keys(columns: Letters) -> NDArray[np.uint64]:
    """(n_lines,) numbers that are equal where up to 8 letters are."""
    padded = np.zeros((len(columns), 8), np.uint8)
    padded[:, : columns.shape[1]] = columns
    return padded.view(np.uint64)[:, 0]


def words(columns: Letters) -> Category:
    """One word per row of (n_lines, width) letters, up to 8."""
    codes, first = np.empty(len(columns), np.int32), np.empty(len(columns), np.int64)
    table = np.zeros(1 << (2 * len(columns)).bit_length(), np.int32)
    n = _compiled(_distinct)(keys(columns), table, codes, first)
    return Category.of(
        [bytes(cell).rstrip(b"\0").decode("utf-8", "replace").strip() for cell in columns[first[:n]]]
    ).take(codes)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Here, and not at the top: numba takes longer to import than most files take to read.
    from phaseseg.compiled.jit import cached

    return cached(function, nogil=True)


def _distinct(keys: Any, table: Any, codes: Any, first: Any) -> int:
    """Number different keys by first appearance; `table` holds a power of two of zeros. Written for numba."""
    n, mask = 0, np.uint64(len(table) - 1)
    for row in range(len(keys)):
        # The high half of a product with an odd number is well mixed.
        place = ((keys[row] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
        while table[place] and keys[first[table[place] - 1]] != keys[row]:
            place = (place + np.uint64(1)) & mask
        if not table[place]:
            first[n] = row
            n += 1
            table[place] = n
        codes[row] = table[place] - 1
    return n


def _decimals(columns: Any, width: Any, powers: Any, out: Any) -> bool:
    """Parse numbers of fixed width like -1.234; False if there are others. Written for numba."""
    for row in range(out.shape[0]):
        for axis in range(3):
            p, end = axis * width, (axis + 1) * width
            while p < end and columns[row, p] == 32:
                p += 1
            negative = p < end and columns[row, p] == 45
            if negative:
                p += 1
            begin, point = p, end
            mantissa: Any = 0
            while p < end and (48 <= columns[row, p] <= 57 or (columns[row, p] == 46 and point == end)):
                if columns[row, p] == 46:
                    point = p
                else:
                    mantissa = mantissa * 10 + np.int64(columns[row, p] - 48)
                p += 1
            n_digits = p - begin - (point < end)
            n_decimals = p - point - 1 if point < end else 0
            while p < end and columns[row, p] == 32:
                p += 1
            if p < end or not 0 < n_digits <= 18:
                return False
            value = mantissa / powers[n_decimals]
            out[row, axis] = -value if negative else value
    return True


def coordinates(
    reading: Reading, columns: Letters, width: int, first_column: int, lines: Sequence[int]
) -> NDArray[np.float64]:
    """(n_lines, 3) numbers from (n_lines, 3 width) letters.

    first_column, lines : numbers of the first letter and of every line in the file, for messages
    """
    n = len(columns)
    positions = np.empty((n, 3))
    if _compiled(_decimals)(columns, width, POWERS, positions):
        return positions
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
        lines = bytes(source.until(b"END")).split(b"\n")
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
