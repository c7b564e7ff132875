"""Extended XYZ, XDATCAR and GRO: files of plain text, read frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame
from phaseseg.io.columns import parse_columns
from phaseseg.io.reading import Block, Reading, is_number, no_atoms
from phaseseg.io.source import ByteSource, InputError


def _count(source: ByteSource, line: str) -> int:
    try:
        n_atoms = int(line)
        if n_atoms < 0:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{source.label}, line {source.line_number}: here the number of atoms belongs, found "
            f"{line[:40]!r}. Has the frame before it the announced number of lines?"
        ) from None
    return n_atoms


def _next_text(source: ByteSource) -> str | None:
    """The next line that is not blank."""
    while (line := source.line()) is not None and not line.strip():
        pass
    return line


def _floats(text: str, shape: tuple[int, ...], what: str, label: str) -> NDArray[np.float64]:
    try:
        return np.array(text.split(), dtype=float).reshape(shape)
    except ValueError:
        size = int(np.prod(shape))
        raise InputError(
            f"{label}: {what} must be {size} numbers, found {text.strip()[:80]!r}. Repair it."
        ) from None


# ---------------------------------------------------------------------------------- extended XYZ

_KEY_VALUE = re.compile(r"""([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|[\[{]([^\]}]*)[\]}]|(\S+))""")
_TRUE, _FALSE = {"t", "true", "1"}, {"f", "false", "0"}


def read_extxyz(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of an extended XYZ file, unparsed."""
    while (line := _next_text(source)) is not None:
        n_atoms = _count(source, line)
        comment = source.line() or ""
        first_line = source.line_number + 1
        yield partial(
            _parse_extxyz, n_atoms, comment, source.block(n_atoms), first_line, source.label, reading
        )


def _parse_extxyz(
    n_atoms: int, comment: str, body: bytes, first_line: int, label: str, reading: Reading
) -> Frame:
    if n_atoms == 0:
        raise no_atoms(label)
    entries = {match[1]: next((g for g in match.groups()[1:] if g is not None), "")
               for match in _KEY_VALUE.finditer(comment)}  # fmt: skip
    lower = {key.lower(): value for key, value in entries.items()}
    if "lattice" not in lower:
        raise InputError(
            f'{label}, line {first_line - 1}: the comment line has no Lattice="ax ay az bx by bz cx cy cz", '
            "and an analysis needs the cell. Write the file as extended XYZ, with the cell."
        )
    cell = _floats(lower["lattice"].replace(",", " "), (3, 3), "Lattice", label)
    origin = _floats(lower.get("origin", "0 0 0").replace(",", " "), (3,), "Origin", label)
    flags = [word.lower() for word in lower.get("pbc", "T T T").replace(",", " ").split()]
    if len(flags) != 3 or not set(flags) <= _TRUE | _FALSE:
        raise InputError(
            f'{label}, line {first_line - 1}: pbc must be like "T T F", found {lower["pbc"]!r}. Repair it.'
        )

    # Name, kind and number of the first column of every property.
    properties: dict[str, tuple[str, int, int]] = {}
    titles: list[str] = []
    parts = lower.get("properties", "species:S:1:pos:R:3").split(":")
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if not width.isdecimal() or kind not in ("S", "R", "I", "L"):
            raise InputError(
                f"{label}, line {first_line - 1}: Properties holds {name}:{kind}:{width}. Repair it."
            )
        properties[name] = (kind, len(titles), int(width))
        titles += [name] * int(width)
    if properties.get("pos", ("", 0, 0))[::2] != ("R", 3):
        raise InputError(
            f"{label}, line {first_line - 1}: the atoms have no coordinates (pos:R:3 among the Properties; "
            f"found {', '.join(properties)}). Write the positions."
        )
    name_column = next((properties[n][1] for n in ("species", "element") if n in properties), None)
    numbers = next((n for n in ("Z", "numbers") if n in properties), None)
    integers = [name for name in ("id", "type") if properties.get(name, ("", 0, 0))[::2] == ("I", 1)]
    if name_column is None and numbers is None and not (reading.type_names and "type" in integers):
        raise InputError(
            f"{label}, line {first_line - 1}: the atoms have no species (species:S:1 among the Properties; "
            f"found {', '.join(properties)}). Write them."
        )
    by_number = name_column is None and not reading.type_names
    extra = {
        name: (column, width)
        for name, (kind, column, width) in properties.items()
        if reading.fields and kind in "RI" and name not in ("pos", "id", "type", "Z", "numbers")
    }
    position = properties["pos"][1]
    parsed = parse_columns(
        body, n_atoms, titles,
        reals=[*range(position, position + 3), *(c + k for c, width in extra.values() for k in range(width))],
        integers=[properties[name][1] for name in (*integers, *([numbers] if by_number and numbers else []))],
        text=name_column,
        label=label, first_line=first_line, exact="properties" in lower,
    )  # fmt: skip
    types = parsed.integers[:, integers.index("type")] if "type" in integers else None
    are_numbers = [name.isdecimal() for name in parsed.names]
    if reading.type_names:
        if types is None and (not parsed.names or not all(are_numbers)):
            raise reading.without_type_column(label, ", ".join(properties))
        if types is None:
            types = np.array([int(name) for name in parsed.names])[parsed.codes]
        species = reading.codes_of_types(types, label, first_line)
    elif by_number:
        distinct, inverse = np.unique(parsed.integers[:, -1], return_inverse=True)
        names = [_symbol(number, label) for number in distinct.tolist()]
        species = reading.codes_of_names(inverse.astype(np.int32), names)
    elif any(are_numbers) and not set(parsed.names) <= set(reading.renames):
        # Atomic numbers or, as LAMMPS writes them, types? A guess would make hydrogen of type 1.
        raise InputError(
            f"{label}: the species column holds numbers ({', '.join(parsed.names)}). Say what they stand "
            "for: types={26: 'Fe', 8: 'O'}, or types=('Fe', 'O') for 1, 2, on the command line --types Fe,O"
        )
    else:
        species = reading.codes_of_names(parsed.codes, parsed.names, types)
    fields, at = {}, 3
    for name, (_, width) in extra.items():
        fields[name] = np.ascontiguousarray(
            parsed.reals[:, at] if width == 1 else parsed.reals[:, at : at + width]
        )
        at += width
    timestep, time = lower.get("timestep"), lower.get("time")
    return reading.frame(
        label,
        positions=np.ascontiguousarray(parsed.reals[:, :3]),
        cell=cell,
        origin=origin,
        pbc=[flag in _TRUE for flag in flags],
        species=species,
        ids=parsed.integers[:, integers.index("id")] if "id" in integers else None,
        timestep=None if timestep is None else int(_floats(timestep, (), "timestep", label)),
        time=None if time is None else float(_floats(time, (), "time", label)),
        units="lj" if lower.get("units") == "lj" else reading.units,
        fields=fields,
        info=_info(entries),
    )


# Keys of a comment line that have a place of their own.
_OWN_KEYS = {"lattice", "properties", "pbc", "origin", "timestep", "time", "units"}


def _info(entries: dict[str, str]) -> dict[str, float]:
    """The entries of a comment line that are finite numbers."""
    found = {}
    for key, value in entries.items():
        if key.lower() in _OWN_KEYS:
            continue
        with suppress(ValueError):
            number = float(value)
            if isfinite(number):
                found[key] = number
    return found


@cache
def _symbols() -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols)


def _symbol(number: int, label: str) -> str:
    if not 0 <= number < len(_symbols()):
        raise InputError(f"{label}: there is no element with the number {number}. Repair the species column.")
    return _symbols()[number]


# --------------------------------------------------------------------------------------- XDATCAR

_CONFIGURATION = re.compile(r"(direct|cartesian)\s+configuration\s*=\s*(\d*)", re.IGNORECASE)


def read_xdatcar(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of an XDATCAR, unparsed; the header may come once or, for variable cells, every time."""
    cell = np.zeros((3, 3))
    scale = 1.0
    counts: list[int] = []
    names: list[str] = []
    while (line := _next_text(source)) is not None:
        configuration = _CONFIGURATION.match(line.strip())
        if configuration is None:  # the comment line of a header
            line = source.line() or ""
            scale = float(_floats(line, (), "the scale", f"{source.label}, line {source.line_number}"))
            where = f"{source.label}, line {source.line_number + 1}"
            cell = _floats(" ".join(source.line() or "" for _ in range(3)), (3, 3), "the cell", where)
            volume = abs(float(np.linalg.det(cell)))
            if scale < 0 < volume:  # VASP: minus the volume
                scale = float((-scale / volume) ** (1 / 3))
            cell = cell * scale
            words = (source.line() or "").split()
            if words and not words[0].isdecimal():
                # VASP 6 adds a hash (Fe/1a2b3c), some add the potential (Fe_pv).
                names = [re.split("[_/]", word)[0] for word in words]
                words = (source.line() or "").split()
            counts = [_count(source, word) for word in words]
            if not counts or (names and len(names) != len(counts)):
                raise InputError(
                    f"{source.label}, line {source.line_number}: {len(names)} species have {len(counts)} "
                    "numbers of atoms. Repair the header."
                )
            configuration = _CONFIGURATION.match((_next_text(source) or "").strip())
        if configuration is None or not counts:
            raise InputError(
                f"{source.label}, line {source.line_number}: here a line 'Direct configuration= 1' belongs. "
                "Is it an XDATCAR?"
            )
        first_line = source.line_number + 1
        body = source.block(sum(counts))
        direct = configuration[1].lower() == "direct"
        timestep = int(configuration[2]) if configuration[2] else None
        box = (cell, 0.0 if direct else scale)
        yield partial(_parse_xdatcar, *box, counts, names, timestep, body, first_line, source.label, reading)


def _parse_xdatcar(
    cell: NDArray[np.float64],
    scale: float,
    counts: list[int],
    names: list[str],
    timestep: int | None,
    body: bytes,
    first_line: int,
    label: str,
    reading: Reading,
) -> Frame:
    """`scale` is 0 for fractional coordinates."""
    if sum(counts) == 0:
        raise no_atoms(label)
    groups = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    if reading.type_names:
        species = reading.codes_of_types(groups + 1, label)
    elif names:
        species = reading.codes_of_names(groups, names)
    else:
        raise InputError(
            f"{label}: the header names no species. Give them in order: types=('Fe', 'O'), on the command "
            "line --types Fe,O"
        )
    parsed = parse_columns(
        body, len(groups), ("x", "y", "z"), reals=(0, 1, 2), label=label, first_line=first_line, exact=False
    )
    positions = parsed.reals * scale if scale else parsed.reals @ cell
    return reading.frame(
        label, positions=positions, cell=cell, pbc=True, species=species, timestep=timestep, time=None
    )


# ------------------------------------------------------------------------------------------- GRO

_ANGSTROM_PER_NM = 10.0


def read_gro(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a GROMACS GRO file, unparsed."""
    while (title := source.line()) is not None:
        line = source.line()
        if line is None:
            if not title.strip():
                return  # a blank line at the end
            line = ""
        n_atoms = _count(source, line)
        first_line = source.line_number + 1
        body = source.block(n_atoms)
        yield partial(_parse_gro, title, n_atoms, body, source.line(), first_line, source.label, reading)


def _parse_gro(
    title: str, n_atoms: int, body: bytes, box: str | None, first_line: int, label: str, reading: Reading
) -> Frame:
    if n_atoms == 0:
        raise no_atoms(label)
    if reading.type_names:
        raise reading.without_type_column(label, "a GRO file has atom names")
    lines = body.decode("utf-8", "replace").splitlines()
    if len(lines) < n_atoms or box is None:
        raise InputError(
            f"{label}: ends after {len(lines)} of {n_atoms} atom lines and its box line. The frames before "
            "it are intact; write or copy the file again, or stop before this frame."
        )
    # Columns of fixed width; the distance of the decimal points tells how many digits there are.
    points = [k for k, letter in enumerate(lines[0]) if letter == "." and k >= 20]
    width = points[1] - points[0] if len(points) > 1 else 8
    positions = np.empty((n_atoms, 3))
    for axis in range(3):
        start = 20 + axis * width
        cut = slice(start, start + width)
        try:
            positions[:, axis] = [float(line[cut]) for line in lines]
        except ValueError:
            row, text = next((r, line[cut]) for r, line in enumerate(lines) if not is_number(line[cut]))
            raise InputError(
                f"{label}, line {first_line + row}: coordinate {'xyz'[axis]} (columns {start + 1} to "
                f"{start + width}) is {text.strip()!r}, not a number. Repair the line or leave this frame "
                "out."
            ) from None
    atom_names = [line[10:15].strip() for line in lines]
    distinct = list(dict.fromkeys(atom_names))
    code = {name: k for k, name in enumerate(distinct)}
    codes = np.array([code[name] for name in atom_names], dtype=np.int32)
    # The caller's names are for atom names, so they come before the guess of the element.
    elements = [name if name in reading.renames else _element(name, label) for name in distinct]
    numbers = _floats(box, (len(box.split()),), "the box", label) * _ANGSTROM_PER_NM
    if len(numbers) not in (3, 9):
        raise InputError(
            f"{label}: the box line must hold 3 or 9 numbers, found {box.strip()[:80]!r}. Repair it."
        )
    cell = np.diag(numbers[:3])
    if len(numbers) == 9:
        # v1(y) v1(z) v2(x) v2(z) v3(x) v3(y) follow the diagonal
        cell[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = numbers[3:]
    time = re.search(r"\bt\s*=\s*([-+.\deE]+)", title)
    step = re.search(r"\bstep\s*=\s*(\d+)", title)
    return reading.frame(
        label,
        positions=positions * _ANGSTROM_PER_NM,
        cell=cell,
        pbc=True,
        species=reading.codes_of_names(codes, elements),
        timestep=int(step[1]) if step else None,
        time=float(time[1]) if time and is_number(time[1]) else None,
    )


def _element(atom_name: str, label: str) -> str:
    """Longest element symbol that the atom name begins with (`SI1` is Si, `OW` is O)."""
    letters = re.match(r"\d*([A-Za-z]*)", atom_name)
    for length in (2, 1):
        symbol = letters[1][:length].capitalize() if letters else ""
        if len(symbol) == length and symbol in _symbols()[1:]:
            return symbol
    raise InputError(
        f"{label}: the atom name {atom_name!r} begins with no element symbol. Say what it is: "
        f"types={{{atom_name!r}: 'Fe'}}"
    )
