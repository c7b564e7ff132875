"""LAMMPS text dumps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame
from phaseseg.io.columns import parse_columns
from phaseseg.io.reading import Block, Reading, is_number, no_atoms
from phaseseg.io.source import ByteSource, InputError

_ITEM = b"ITEM:"
# Coordinates: as they are, scaled by the cell, unwrapped, both. The first triple that is there counts.
_TRIPLES = (("x", "y", "z"), ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu"))
_NAME_COLUMNS = ("element", "typelabel")
_TIME_IN_PS = {"metal": 1.0, "lj": 1.0, "real": 1e-3}


@dataclass
class _Section:
    title: str
    body: bytes
    first_line: int  # number of the first line of the body


def read_dump(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a LAMMPS dump, unparsed."""
    units: str | None = None
    if leading := source.until(_ITEM).strip():
        raise InputError(
            f"{source.name}: does not begin like a LAMMPS text dump (ITEM: ...) but with "
            f"{leading[:40].decode('utf-8', 'replace')!r}. Give the right format or file."
        )
    while True:
        sections: dict[str, _Section] = {}
        while "ATOMS" not in sections:
            title = source.line()
            if title is None:
                if sections:
                    yield partial(_cut_header, source.label, source.line_number)
                return
            words = title.removeprefix("ITEM:").split()
            # ATOMS and BOX BOUNDS go on with columns and flags on the same line.
            key = next(
                (name for name in ("ATOMS", "BOX BOUNDS") if words[: name.count(" ") + 1] == name.split()), ""
            )
            first_line = source.line_number + 1
            sections[key or " ".join(words)] = _Section(title, source.until(_ITEM), first_line)
        if "UNITS" in sections:  # only the first frame says it
            units = _word(sections["UNITS"])
        yield partial(_parse, sections, units, source.label, reading)


def _cut_header(label: str, line: int) -> Frame:
    raise InputError(
        f"{label}: the file ends inside the header of the frame (line {line}). The frames before it are "
        "intact; write or copy the file again, or stop before this frame."
    )


def _word(section: _Section) -> str:
    return section.body.decode("utf-8", "replace").strip()


def _number(sections: dict[str, _Section], key: str, label: str) -> float:
    if key not in sections:
        raise InputError(
            f"{label}: the header has no section 'ITEM: {key}' (found: {', '.join(sections)}). Is it a dump "
            "of atoms (dump atom, dump custom)?"
        )
    section = sections[key]
    try:
        return float(section.body) if key == "TIME" else int(section.body)
    except ValueError:
        raise InputError(
            f"{label}, line {section.first_line}: 'ITEM: {key}' is followed by {_word(section)[:40]!r}, not "
            "by a number. Repair the line or leave this frame out."
        ) from None


def _parse(sections: dict[str, _Section], units: str | None, label: str, reading: Reading) -> Frame:
    if units is not None and units not in _TIME_IN_PS:
        raise InputError(
            f"{label}: the dump is in LAMMPS units {units!r}; read are metal, real and lj. Convert it to Å "
            "first."
        )
    timestep = int(_number(sections, "TIMESTEP", label))
    n_atoms = int(_number(sections, "NUMBER OF ATOMS", label))
    if n_atoms < 1:
        raise no_atoms(label)
    time = None
    if "TIME" in sections:
        time = _number(sections, "TIME", label) * _TIME_IN_PS[units or "metal"]
    cell, origin, pbc = _box(sections, label)

    atoms = sections["ATOMS"]
    titles = atoms.title.split()[2:]
    triple = next((t for t in _TRIPLES if set(t) <= set(titles)), None)
    if triple is None:
        raise InputError(
            f"{label}, line {atoms.first_line - 1}: no complete coordinates among the columns "
            f"({' '.join(titles) or 'none'}). Dump x y z, xs ys zs, xu yu zu or xsu ysu zsu."
        )
    name_column = next((name for name in _NAME_COLUMNS if name in titles), None)
    if reading.type_names and "type" not in titles:
        raise reading.without_type_column(label, " ".join(titles))
    if reading.type_names:
        name_column = None
    elif name_column is None:
        raise InputError(
            f"{label}: the dump holds no names of elements (columns {' '.join(titles)}). Give the species of "
            "types 1, 2, ... in order: types=('Fe', 'Mg', ...), on the command line --types Fe,Mg,..."
        )
    integers = [name for name in ("id", "type") if name in titles]
    extra: list[str] = []
    if reading.fields:
        taken = {*triple, *integers, *_NAME_COLUMNS}
        sample = dict(zip(titles, atoms.body[: atoms.body.find(b"\n")].split(), strict=False))
        extra = [name for name in titles if name not in taken and is_number(sample.get(name, b""))]
    parsed = parse_columns(
        atoms.body, n_atoms, titles,
        reals=[titles.index(name) for name in (*triple, *extra)],
        integers=[titles.index(name) for name in integers],
        text=None if name_column is None else titles.index(name_column),
        label=label, first_line=atoms.first_line,
    )  # fmt: skip
    positions = np.ascontiguousarray(parsed.reals[:, :3])
    if "s" in triple[0]:
        positions = origin + positions @ cell
    types = parsed.integers[:, integers.index("type")] if "type" in integers else None
    if name_column is None:
        assert types is not None
        species = reading.codes_of_types(types, label, atoms.first_line)
    else:
        species = reading.codes_of_names(parsed.codes, parsed.names, types)
    return reading.frame(
        label,
        positions=positions,
        cell=cell,
        origin=origin,
        pbc=pbc,
        species=species,
        ids=parsed.integers[:, integers.index("id")] if "id" in integers else None,
        timestep=timestep,
        time=time,
        units="lj" if units == "lj" else reading.units if units is None else "metal",
        fields={name: np.ascontiguousarray(parsed.reals[:, 3 + k]) for k, name in enumerate(extra)},
    )


def _box(
    sections: dict[str, _Section], label: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Cell (rows), origin and periodicity."""
    if "BOX BOUNDS" not in sections:
        raise InputError(f"{label}: the header has no section 'ITEM: BOX BOUNDS'. Write the dump again.")
    section = sections["BOX BOUNDS"]
    words = section.title.split()[3:]
    flags = [word for word in words if len(word) == 2 and set(word) <= set("pfsm")]
    kind = [word for word in words if word not in flags and word not in ("xy", "xz", "yz")]
    rows = [line.split() for line in section.body.strip().splitlines()]
    general = kind == ["abc", "origin"]
    width = 4 if general else 3 if "xy" in words else 2
    try:
        numbers = np.array(rows, dtype=float)
        if numbers.shape != (3, width):
            raise ValueError
    except ValueError:
        found = section.body.decode("utf-8", "replace").strip().replace("\n", " / ")
        raise InputError(
            f"{label}, line {section.first_line}: the box must be three lines of {width} numbers, found "
            f"{found!r}. Repair the header or leave this frame out."
        ) from None
    # Dumps of before 2010 have no flags; those of melts were periodic.
    pbc = np.array([flag.startswith("p") for flag in flags] if len(flags) == 3 else [True] * 3)
    if general:
        return numbers[:, :3], numbers[:, 3], pbc
    low, high = numbers[:, 0].copy(), numbers[:, 1].copy()
    xy, xz, yz = numbers[:, 2] if width == 3 else (0.0, 0.0, 0.0)
    # The bounds of a tilted cell are those of the box around it.
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    cell = np.diag(high - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell, low, pbc
