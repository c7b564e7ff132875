"""Extended XYZ and GRO: files of plain text, read frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Category
from phaseseg.io.columns import parse_columns
from phaseseg.io.comment_line import parse_comment
from phaseseg.io.names import kind_of, runs
from phaseseg.io.reading import (
    Block,
    Reading,
    count_of,
    floats,
    is_number,
    next_text,
    plain_numbers,
    time_parts,
)
from phaseseg.io.source import ByteSource, InputError

# ---------------------------------------------------------------------------------- extended XYZ

_TRUE, _FALSE = {"t", "true", "1"}, {"f", "false", "0"}


def read_extxyz(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of an extended XYZ file, unparsed."""
    while (line := next_text(source)) is not None:
        n_atoms = count_of(source, line)
        comment = source.line() or ""
        first_line = source.line_number + 1
        yield partial(_parse_extxyz, n_atoms, comment, source.block(n_atoms), first_line, reading)


def _parse_extxyz(
    n_atoms: int, comment: str, body: bytes, first_line: int, reading: Reading
) -> dict[str, Any]:
    entries = parse_comment(comment)
    # Lattice comes before lattice, whatever their order.
    lower = {key.lower(): entries[key] for key in sorted(entries, key=lambda key: key in _EXACT_KEYS)}

    def bad(text: str) -> InputError:
        return reading.error(text, first_line - 1)

    if "lattice" not in lower:
        raise bad(
            'the comment line has no Lattice="ax ay az bx by bz cx cy cz", and an analysis needs the cell. '
            "Write the file as extended XYZ, with the cell."
        )
    flags = [word.lower() for word in plain_numbers(lower.get("pbc", "T T T")).split()]
    if len(flags) != 3 or not set(flags) <= _TRUE | _FALSE:
        raise bad(f'pbc must be like "T T F", found {lower["pbc"]!r}. Repair it.')

    # Kind and columns of every property.
    properties: dict[str, tuple[str, list[int]]] = {}
    titles: list[str] = []
    parts = lower.get("properties", "species:S:1:pos:R:3").split(":")
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if not width.isdecimal() or kind not in ("S", "R", "I", "L"):
            raise bad(f"Properties holds {name}:{kind}:{width}. Repair it.")
        properties[name] = kind, [*range(len(titles), len(titles) + int(width))]
        titles += [name] * int(width)

    found = ", ".join(properties)
    kind, position = properties.get("pos", ("", []))
    if kind != "R" or len(position) != 3:
        raise bad(
            f"the atoms have no coordinates (pos:R:3 among the Properties; found {found}). "
            "Write the positions."
        )
    name_column = next((properties[n][1][0] for n in ("species", "element") if n in properties), None)
    numbers = next((n for n in ("Z", "numbers") if n in properties), None)
    integers = {
        name: places[0]
        for name, (kind, places) in properties.items()
        if name in ("id", "type") and kind == "I" and len(places) == 1
    }
    if name_column is None and numbers is None and not (reading.type_names and "type" in integers):
        raise bad(f"the atoms have no species (species:S:1 among the Properties; found {found}). Write them.")
    if numbers and name_column is None and not reading.type_names:
        integers["Z"] = properties[numbers][1][0]
    own = {"pos", "id", "type", "Z", "numbers", "species", "element"}
    others = {name: one for name, one in properties.items()
              if name not in own and (reading.fields or kind_of(name))}  # fmt: skip
    parsed = parse_columns(
        reading, body, n_atoms, titles, first_line, positions=position, integers=integers,
        text=name_column, exact="properties" in lower,
        fields={name: places for name, (kind, places) in others.items() if kind in "RI"},
        words={name: places[0] for name, (kind, places) in others.items()
               if kind == "S" and kind_of(name) and len(places) == 1},
    )  # fmt: skip
    types = parsed.integers.get("type")
    are_numbers = [name.isdecimal() for name in parsed.names]
    if reading.type_names:
        if types is None and are_numbers and all(are_numbers):
            types = np.array([int(name) for name in parsed.names])[parsed.codes]
        if types is None:
            raise reading.without_types(found)
        species = reading.codes_of_types(types, first_line)
    elif "Z" in integers:
        from ase.data import chemical_symbols

        distinct, inverse = np.unique(parsed.integers["Z"], return_inverse=True)
        if unknown := [number for number in distinct.tolist() if not 0 <= number < len(chemical_symbols)]:
            raise reading.error(f"no element has the atomic number {unknown[0]}. Repair the species column.")
        names = [chemical_symbols[number] for number in distinct]
        species = reading.codes_of_names(inverse.astype(np.int32), names)
    elif any(are_numbers) and not set(parsed.names) <= set(reading.renames):
        # Atomic numbers or, as LAMMPS writes them, types? A guess would make hydrogen of type 1.
        raise reading.error(
            f"the species column holds numbers ({', '.join(parsed.names)}). Say what they stand "
            "for: types={26: 'Fe', 8: 'O'}, or types=('Fe', 'O') for 1, 2, on the command line --types Fe,O"
        )
    else:
        species = reading.codes_of_names(parsed.codes, parsed.names, types)
    return {
        "positions": parsed.positions,
        "cell": floats(lower["lattice"], (3, 3), "Lattice", reading.error),
        "origin": floats(lower.get("origin", "0 0 0"), (3,), "Origin", reading.error),
        "pbc": [flag in _TRUE for flag in flags],
        "species": species,
        "ids": parsed.integers.get("id"),
        **time_parts(lower.get("time"), lower.get("timestep")),
        "units": "lj" if lower.get("units") == "lj" else reading.units,
        "info": _info(entries),
        **parsed.others(reading.fields),
    }


# Keys of a comment line that have their own attribute in Frame.
_EXACT_KEYS = {"Lattice", "Properties", "pbc", "Origin", "timestep", "time", "units"}
_OWN_KEYS = {key.lower() for key in _EXACT_KEYS}


def _info(entries: dict[str, str]) -> dict[str, float]:
    """The entries of a comment line that are finite numbers."""
    numbers = {key: float(value) for key, value in entries.items()
               if key.lower() not in _OWN_KEYS and is_number(value)}  # fmt: skip
    return {key: number for key, number in numbers.items() if isfinite(number)}


# ------------------------------------------------------------------------------------------- GRO

_ANGSTROM_PER_NM = 10.0


def read_gro(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a GROMACS GRO file, unparsed."""
    title = source.line()
    while title is not None:
        line = source.line()
        if not title.strip() and not (line or "").strip().isdecimal():  # a blank line before the title
            title = line
            continue
        n_atoms = count_of(source, line or "")
        first_line = source.line_number + 1
        yield partial(_parse_gro, title, n_atoms, source.block(n_atoms), source.line(), first_line, reading)
        title = source.line()


def _parse_gro(
    title: str, n_atoms: int, body: bytes, box: str | None, first_line: int, reading: Reading
) -> dict[str, Any]:
    if reading.type_names:
        raise reading.without_types("a GRO file has atom names")
    n_lines = body.count(b"\n") + (not body.endswith(b"\n") and bool(body))
    if n_lines < n_atoms or box is None:
        raise reading.cut(f"ends after {n_lines} of {n_atoms} atom lines and its box line")
    # Columns have a fixed width; the distance between decimal points gives the number of digits.
    point = body.find(b".", 20)
    width = body.find(b".", point + 1) - point
    width = width if point >= 0 and 0 < width <= 40 else 8
    rows = _letters(body, n_atoms, 20 + 3 * width)
    spaced = np.full((n_atoms, 3, width + 1), ord(" "), dtype=np.uint8)
    spaced[:, :, :width] = rows[:, 20:].reshape(n_atoms, 3, width)
    spaced[:, 2, width] = ord("\n")
    try:
        parsed = parse_columns(
            reading, spaced.tobytes(), n_atoms, ("x", "y", "z"), first_line, positions=(0, 1, 2)
        )
    except InputError:
        cells = spaced[:, :, :width].tobytes().decode("utf-8", "replace")
        for at in range(3 * n_atoms):
            word, start = cells[at * width : (at + 1) * width], 20 + at % 3 * width
            if not is_number(word):
                raise reading.error(
                    f"coordinate {'xyz'[at % 3]} (columns {start + 1} to {start + width}) is "
                    f"{word.strip()!r}, not a number. Repair the line or leave this frame out.",
                    first_line + at // 3,
                ) from None
        raise
    name, residue = _words(rows[:, 10:15]), _words(rows[:, 5:10])
    # The caller's names are for atom names, so they come before the guess of the element.
    elements = [one if one in reading.renames else _element(one, reading) for one in name.names]
    numbers = floats(box, (len(box.split()),), "the box", reading.error) * _ANGSTROM_PER_NM
    if len(numbers) not in (3, 9):
        raise reading.error(f"the box line must hold 3 or 9 numbers, found {box.strip()[:80]!r}. Repair it.")
    cell = np.diag(numbers[:3])
    if len(numbers) == 9:
        # v1(y) v1(z) v2(x) v2(z) v3(x) v3(y) follow the diagonal
        cell[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = numbers[3:]
    time = re.search(r"\bt\s*=\s*([-+.\deE]+)", title)
    step = re.search(r"\bstep\s*=\s*(\d+)", title)
    return {
        "positions": parsed.positions * _ANGSTROM_PER_NM,
        "cell": cell,
        "pbc": True,
        "species": reading.codes_of_names(name.codes, elements),
        "molecules": runs(rows[:, :10]),
        "categories": {"name": name, "residue": residue},
        **time_parts(time and time[1], step and step[1]),
    }


def _words(letters: NDArray[np.uint8]) -> Category:
    """One word per row of (n_lines, width) letters."""
    cells = np.ascontiguousarray(letters).view(f"S{letters.shape[1]}")[:, 0]
    code: dict[bytes, int] = {}
    codes = np.array([code.setdefault(cell, len(code)) for cell in cells.tolist()], dtype=np.intp)
    words = Category.of([cell.decode("utf-8", "replace").strip() for cell in code])
    return Category(words.codes[codes], words.names)


def _letters(body: bytes, n_lines: int, width: int) -> NDArray[np.uint8]:
    """(n_lines, width) letters of lines, cut off or filled up with blanks."""
    first = body.find(b"\n") + 1
    if first > width and len(body) == first * n_lines:
        letters = np.frombuffer(body, np.uint8).reshape(n_lines, first)
        if (letters[:, -1] == ord("\n")).all():
            return letters[:, :width]
    lines = [line.rstrip(b"\r")[:width].ljust(width) for line in body.split(b"\n")[:n_lines]]
    return np.frombuffer(b"".join(lines), np.uint8).reshape(n_lines, width)


def _element(atom_name: str, reading: Reading) -> str:
    """Longest element symbol that the atom name begins with (`SI1` is Si, `OW` is O)."""
    from ase.data import chemical_symbols

    letters = re.sub(r"[^A-Za-z].*", "", atom_name.lstrip("0123456789"))
    for symbol in (letters[:2].capitalize(), letters[:1].upper()):
        if symbol in chemical_symbols[1:]:
            return symbol
    raise reading.error(
        f"the atom name {atom_name!r} does not begin with an element symbol. Name its element: "
        f"types={{{atom_name!r}: 'Fe'}}"
    )
