"""Extended XYZ and GRO: files of plain text, read frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from phaseseg.display import option
from phaseseg.io.columns import parse_columns
from phaseseg.io.comment_line import parse_comment
from phaseseg.io.fixed_width import coordinates, keys, letters, time_of_title, words
from phaseseg.io.large_text import Text
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
    whole_number,
)
from phaseseg.io.source import ByteSource, InputError, number_of_ends

# ---------------------------------------------------------------------------------- extended XYZ

_TRUE, _FALSE = {"t", "true", "1"}, {"f", "false", "0"}


def read_extxyz(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of an extended XYZ file, unparsed."""
    while (line := next_text(source)) is not None:
        n_atoms = count_of(source, line)
        comment = source.line() or ""
        first_line = source.line_number + 1
        yield partial(parse_extxyz, n_atoms, comment, source.block(n_atoms), first_line, reading)


def parse_extxyz(n_atoms: int, comment: str, body: Text, first_line: int, reading: Reading) -> dict[str, Any]:
    """The arguments of a frame from its comment line and the lines of its atoms."""
    entries = parse_comment(comment)
    # Lattice comes before lattice, whatever their order.
    lower = {key.lower(): entries[key] for key in sorted(entries, key=lambda key: key in _EXACT_KEYS)}

    def bad(text: str) -> InputError:
        return reading.error(text, first_line - 1)

    flags = [word.lower() for word in plain_numbers(lower.get("pbc", "T T T")).split()]
    flags *= 3 if len(flags) == 1 else 1
    if len(flags) != 3 or not set(flags) <= _TRUE | _FALSE:
        raise bad(f'pbc must be like "T T F", found {lower["pbc"]!r}. Repair it.')

    # Kind and columns of every property.
    properties: dict[str, tuple[str, list[int]]] = {}
    titles: list[str] = []
    parts = lower.get("properties", "species:S:1:pos:R:3").split(":")
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if not re.fullmatch("[1-9][0-9]{0,2}", width) or kind not in ("S", "R", "I", "L"):
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
    unnamed = name_column is None and numbers is None
    if unnamed and "type" not in integers:
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
    if unnamed and types is not None and not reading.type_names:
        raise reading.unnamed(types, "the file")
    if reading.type_names:
        if types is None and are_numbers and all(are_numbers):
            types = np.array([whole_number(name) or 0 for name in parsed.names])[parsed.codes]
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
            f"the species column holds numbers ({', '.join(parsed.names)}). Say what they stand for, as in "
            f"{option('types', {26: 'Fe', 8: 'O'})}."
        )
    else:
        species = reading.codes_of_names(parsed.codes, parsed.names, types)
    return {
        "positions": parsed.positions,
        "cell": floats(lower["lattice"], (3, 3), "Lattice", reading.error) if "lattice" in lower else None,
        "origin": floats(lower.get("origin", "0 0 0"), (3,), "Origin", reading.error),
        "pbc": [flag in _TRUE for flag in flags],
        "species": species,
        "ids": parsed.integers.get("id"),
        **time_parts(lower.get("time"), lower.get("timestep")),
        "units": "lj" if lower.get("units") == "lj" else reading.units,
        **_numbers_and_words(entries),
        **parsed.others(reading),
    }


# Keys of a comment line that have their own attribute in Frame.
_EXACT_KEYS = {"Lattice", "Properties", "pbc", "Origin", "timestep", "time", "units"}
_OWN_KEYS = {key.lower() for key in _EXACT_KEYS}


def _numbers_and_words(entries: dict[str, str]) -> dict[str, Any]:
    """The entries of a comment line: finite numbers as `info`, everything else as `words`."""
    own = {key: value for key, value in entries.items() if key.lower() not in _OWN_KEYS}
    info = {key: float(value) for key, value in own.items() if is_number(value) and isfinite(float(value))}
    return {"info": info, "words": {key: value for key, value in own.items() if key not in info}}


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
        body, box = source.block(n_atoms), source.block(1)
        yield partial(_parse_gro, title, n_atoms, body, box, first_line, reading)
        title = source.line()


def _parse_gro(
    title: str,
    n_atoms: int,
    body: Text,
    box_line: Text,
    first_line: int,
    reading: Reading,
) -> dict[str, Any]:
    if reading.type_names:
        raise reading.without_types("a GRO file has atom names")
    n_lines = number_of_ends(body) + (not body.endswith(b"\n") and bool(body))
    if n_lines < n_atoms or not box_line:
        raise reading.cut(f"ends after {n_lines} of {n_atoms} atom lines and its box line")
    # Columns have a fixed width; the distance between decimal points gives the number of digits.
    point = body.find(b".", 20)
    width = body.find(b".", point + 1) - point
    width = width if point >= 0 and 0 < width <= 40 else 8
    rows = letters(body, n_atoms, 20 + 3 * width)
    lines = range(first_line, first_line + n_atoms)
    positions = coordinates(reading, rows[:, 20:], width, 21, lines)
    name, residue = words(rows[:, 10:15]), words(rows[:, 5:10])
    box = box_line.decode("utf-8", "replace")
    if not box.endswith("\n"):
        text = (
            f"The last line of the frame has no line end: {box.strip()!r:.80} may be cut off. Check the box."
        )
        reading.note(text, "no-line-end")
    numbers = floats(box, (len(box.split()),), "the box", reading.error) * _ANGSTROM_PER_NM
    if len(numbers) not in (3, 9):
        raise reading.error(f"the box line must hold 3 or 9 numbers, found {box.strip()[:80]!r}. Repair it.")
    cell = np.diag(numbers[:3])
    if len(numbers) == 9:
        # v1(y) v1(z) v2(x) v2(z) v3(x) v3(y) follow the diagonal
        cell[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = numbers[3:]
    with np.errstate(over="ignore"):  # the frame refuses what is not finite
        positions = positions * _ANGSTROM_PER_NM
    return {
        "positions": positions,
        "cell": cell,
        "pbc": True,
        "species": reading.codes_of_atom_names(name, residue),
        "molecules": runs(keys(rows[:, :5]), keys(rows[:, 5:10])),
        "categories": {"name": name, "residue": residue},
        **time_of_title(title),
    }
