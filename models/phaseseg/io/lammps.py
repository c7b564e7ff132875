"""LAMMPS text dumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.frame import Units
from phaseseg.io.columns import parse_columns
from phaseseg.io.large_text import Text
from phaseseg.io.names import kind_of
from phaseseg.io.reading import Block, Reading, TimedBlock, is_number, plain_numbers, time_parts, whole_number
from phaseseg.io.source import ByteSource, InputError, number_of_ends

_ITEM = b"ITEM:"
# Coordinates: as they are, scaled by the cell, unwrapped, both. The first triple that is there counts.
TRIPLES = (("x", "y", "z"), ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu"))
# What dumps other than those of atoms end their frames with.
_NO_ATOMS = {"ENTRIES": "local data (dump local)", "GRID CELLS": "a grid (dump grid)"}
_NAME_COLUMNS = ("element", "typelabel")
TIME_IN_PS = {"metal": 1.0, "lj": 1.0, "real": 1e-3}


class Section(NamedTuple):
    """What stands under one `ITEM:` line."""

    title: str
    body: Text
    first_line: int  # number of the first line of the body


def read_dump(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of a LAMMPS dump, unparsed."""
    if leading := bytes(source.until(_ITEM)).strip():
        raise InputError(
            f"{source.name}: does not begin like a LAMMPS text dump (ITEM: ...) but with "
            f"{leading[:40].decode('utf-8', 'replace')!r}. Give the right format or file; LAMMPS writes "
            "text dumps with the styles atom and custom."
        )
    while True:
        sections: dict[str, Section] = {}
        fragment = False
        while not sections.keys() & {"ATOMS", *_NO_ATOMS}:
            title = source.line()
            if title is None:
                if sections:
                    yield partial(_cut_header, source.line_number, reading)
                return
            glued, _, title = title.rpartition("ITEM:")
            key, _ = section_of(title)
            if glued or key in sections:  # a run that was killed here, and started again
                sections, fragment = {}, True
            first_line = source.line_number + 1
            # A run that is killed leaves a line without end, to which the next run appends its first frame.
            sections[key] = Section(title, source.until(_ITEM), first_line)
        if "UNITS" in sections:  # only the first frame says it, perhaps in another file of the run
            reading.said_units, source.stateful = _word(sections["UNITS"]), source.frame
        block = TimedBlock(parse_frame, sections, reading.said_units, fragment, source, reading)
        block.timestep = whole_number(_word(sections["TIMESTEP"])) if "TIMESTEP" in sections else None
        yield block


def section_of(title: str) -> tuple[str, str]:
    """The name of a section, and its `ITEM:` line without the mark."""
    title = title.rpartition("ITEM:")[2]
    words = title.split()
    # These go on with columns and flags on the same line.
    return " ".join(words[: {"ATOMS": 1, "BOX": 2, "ENTRIES": 1, "GRID": 2}.get("".join(words[:1]))]), title


def merged(blocks: Sequence[TimedBlock]) -> TimedBlock:
    """The pieces of a frame, each from one processor, as one block."""
    sections, units, fragment, source, reading = blocks[0].args
    if all({"ATOMS", "NUMBER OF ATOMS"} <= block.args[0].keys() for block in blocks):
        bodies = [bytes(block.args[0]["ATOMS"].body) for block in blocks]
        numbers = [whole_number(_word(block.args[0]["NUMBER OF ATOMS"])) for block in blocks]
        complete = all(body.count(b"\n") == n for body, n in zip(bodies, numbers, strict=True))
        titles = {block.args[0]["ATOMS"].title.strip() for block in blocks}
        if complete and len(titles) == 1:
            count = str(sum(number or 0 for number in numbers)).encode()
            sections = sections | {
                "ATOMS": sections["ATOMS"]._replace(body=b"".join(bodies)),
                "NUMBER OF ATOMS": sections["NUMBER OF ATOMS"]._replace(body=count),
            }
            fragment = any(block.args[2] for block in blocks)
            return TimedBlock(parse_frame, sections, units, fragment, source, reading)

    def unequal() -> dict[str, Any]:
        raise reading.error(
            "the pieces of the frame have different columns, or one is cut off. Write the dump again."
        )

    return TimedBlock(unequal)


def check_units(units: str, reading: Reading) -> Units:
    """Units of a frame from a style of LAMMPS units."""
    if units not in TIME_IN_PS:
        raise reading.error(
            f"the file is in LAMMPS units {units[:40]!r}; read are metal, real and lj. Convert it to Å first."
        )
    return "lj" if units == "lj" else "metal"


def _cut_header(line: int, reading: Reading) -> dict[str, Any]:
    raise reading.cut(f"the file ends inside the header of the frame (line {line})")


def _word(section: Section) -> str:
    return section.body.decode("utf-8", "replace").strip()


def _is_label(word: str) -> bool:
    """Whether a word can be the label of a type: these begin neither like a number nor with # or *."""
    return bool(word) and word[0] not in "0123456789+-.#*" and not is_number(word)


def _number(sections: dict[str, Section], key: str, reading: Reading) -> int:
    if key not in sections:
        raise reading.error(
            f"the header has no section 'ITEM: {key}' (found: {', '.join(sections)}). Is it a dump "
            "of atoms (dump atom, dump custom)?"
        )
    section = sections[key]
    number = whole_number(_word(section))
    if number is None or (key == "NUMBER OF ATOMS" and number < 0):
        raise reading.error(
            f"'ITEM: {key}' is followed by {_word(section)[:40]!r}, not by a number. Repair the line or "
            "leave this frame out.",
            section.first_line,
        )
    return number


def parse_frame(
    sections: dict[str, Section], units: str | None, fragment: bool, source: ByteSource, reading: Reading
) -> dict[str, Any]:
    """The arguments of a frame from its sections."""
    if other := sections.keys() & _NO_ATOMS:
        raise reading.error(
            f"this is a dump of {_NO_ATOMS[other.pop()]}, which holds no atoms. Give a dump of atoms (dump "
            "atom, dump custom)."
        )
    of_frame = reading.units if units is None else check_units(units, reading)
    timestep, n_atoms = (_number(sections, key, reading) for key in ("TIMESTEP", "NUMBER OF ATOMS"))
    times = time_parts(_word(sections["TIME"]) if "TIME" in sections else None, timestep)
    if times["time"] is not None:
        times["time"] *= TIME_IN_PS[units or "metal"]
    cell, origin, pbc = _box(sections, reading)

    atoms = sections["ATOMS"]
    if fragment:
        text = "The file holds the beginning of a frame before this one, which was left out."
        reading.note(text, "fragment-left-out")
    n_lines = number_of_ends(atoms.body)
    if n_lines < n_atoms:
        source.check()
        if n_lines + 1 < n_atoms and source.peek(1):  # not the end of the file
            after = reading.index + 1
            raise reading.error(
                f"ends after {n_lines} of {n_atoms} atom lines (line {atoms.first_line + n_lines}), where "
                "another frame begins. Leave it out and read on with "
                f"{option('frames', f'{after}:', python=f'slice({after}, None)')} (or write the file again)."
            )
    titles = atoms.title.split()[1:]
    place = {title: titles.index(title) for title in titles}
    triple = next((t for t in TRIPLES if set(t) <= set(titles)), None)
    if triple is None:
        raise reading.error(
            f"no complete coordinates among the columns ({' '.join(titles) or 'none'}). Dump x y z, xs ys "
            "zs, xu yu zu or xsu ysu zsu.",
            atoms.first_line - 1,
        )
    first_row = plain_numbers(atoms.body[: atoms.body.find(b"\n")].decode("utf-8", "replace"))
    sample = dict(zip(titles, first_row.split(), strict=False))
    integers: dict[str, int] = {name: place[name] for name in ("id", "type") if name in place}
    name_column = next((place[name] for name in _NAME_COLUMNS if name in place), None)
    if _is_label(sample.get("type", "")):  # with dump_modify types labels
        type_column = integers.pop("type")
        name_column = type_column if name_column is None else name_column
    if reading.type_names:
        name_column = None
        if "type" not in integers:
            raise reading.without_types(" ".join(titles))
    elif name_column is None:
        if "type" not in place:
            raise reading.error(
                f"the dump has neither element names nor types (columns {' '.join(titles)}). Dump element or "
                "type, too."
            )
        places = [place[name] for name in triple]
        bare = parse_columns(
            reading, atoms.body, n_atoms, titles, atoms.first_line, positions=places, integers=integers
        )
        raise reading.unnamed(bare.integers["type"], "the dump")
    taken = {*triple, "id", "type", *_NAME_COLUMNS}
    others = [name for name in titles if name not in taken and (reading.fields or kind_of(name))]
    extra = [name for name in others if is_number(sample.get(name, ""))]
    parsed = parse_columns(
        reading, atoms.body, n_atoms, titles, atoms.first_line,
        positions=[place[name] for name in triple],
        integers=integers,
        text=name_column,
        fields={name: [place[name]] for name in extra},
        words={name: place[name] for name in others if kind_of(name) and name not in extra},
    )  # fmt: skip
    if name_column is None:
        species = reading.codes_of_types(parsed.integers["type"], atoms.first_line)
    else:
        species = reading.codes_of_names(parsed.codes, parsed.names, parsed.integers.get("type"))
    return {
        "positions": origin + parsed.positions @ cell if "s" in triple[0] else parsed.positions,
        "cell": cell, "origin": origin, "pbc": pbc, "species": species, "ids": parsed.integers.get("id"),
        **times, **parsed.others(reading),
        "units": of_frame,
    }  # fmt: skip


def _box(
    sections: dict[str, Section], reading: Reading
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Cell (rows), origin and periodicity."""
    if "BOX BOUNDS" not in sections:
        raise reading.error("the header has no section 'ITEM: BOX BOUNDS'. Write the dump again.")
    section = sections["BOX BOUNDS"]
    words = section.title.split()[2:]
    flags = [word for word in words if len(word) == 2 and set(word) <= set("pfsm")]
    general = [word for word in words if word not in (*flags, "xy", "xz", "yz")] == ["abc", "origin"]
    width = 4 if general else 3 if "xy" in words else 2
    try:
        lines = plain_numbers(section.body.decode("utf-8", "replace")).strip().splitlines()
        numbers = np.array([line.split() for line in lines], dtype=float)
        if numbers.shape != (3, width):
            raise ValueError
    except ValueError:
        found = _word(section).replace("\n", " / ")
        raise reading.error(
            f"the box must be three lines of {width} numbers, found {found!r}. Repair the header or leave "
            "this frame out.",
            section.first_line,
        ) from None
    # Dumps written before 2010 have no flags; we assume periodic boundaries, as in melts.
    pbc = np.array([flag.startswith("p") for flag in flags] if len(flags) == 3 else [True] * 3)
    if general:
        return numbers[:, :3], numbers[:, 3], pbc
    return *box_of_bounds(numbers if width == 3 else np.column_stack([numbers, np.zeros(3)])), pbc


def box_of_bounds(bounds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell (rows) and origin from (3, 3): the bounds along each axis and, one a row, the tilts xy, xz, yz."""
    xy, xz, yz = bounds[:, 2]
    below, above = overhang(xy, xz, yz)
    low = bounds[:, 0] - below
    cell = np.diag(bounds[:, 1] - above - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell, low


def overhang(xy: float, xz: float, yz: float) -> NDArray[np.float64]:
    """(2, 3): how far the bounds of a tilted cell, those of the box around it, extend beyond its edges."""
    corners = (0.0, xy, xz, xy + xz), (0.0, yz), (0.0,)
    return np.array([[min(one) for one in corners], [max(one) for one in corners]])
