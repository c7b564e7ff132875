"""POSCAR, CONTCAR and XDATCAR of VASP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.io.columns import parse_columns
from phaseseg.io.large_text import Text
from phaseseg.io.reading import (
    Block,
    Reading,
    count_of,
    floats,
    is_number,
    next_text,
    some_species,
    whole_number,
)
from phaseseg.io.source import ByteSource

_CONFIGURATION = re.compile(r"(direct|cartesian)\s+configuration\s*=\s*(\d*)", re.IGNORECASE)


class _Header(NamedTuple):
    """What stands before the coordinates: `scale` (3,) of cartesian coordinates, `cell` (3, 3) in Å."""

    title: str
    scale: NDArray[np.float64]
    cell: NDArray[np.float64]
    names: list[str]
    counts: list[int]


def read_xdatcar(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The frames of an XDATCAR, unparsed; the header may come once or, for variable cells, every time."""
    header: _Header | None = None
    blank = False
    while (line := source.line()) is not None:
        if not line.strip():
            blank = True
            continue
        configuration = _CONFIGURATION.match(line.strip())
        if configuration is None:
            # The title may be blank. The line after the scale, one number, is a vector of the cell.
            vector = source.peek(200).split(b"\n")[0].split()
            untitled = blank and len(line.split()) == 1 and is_number(line) and len(vector) == 3
            header = _header(source, *(("", line) if untitled else (line, source.line() or "")))
            configuration = _CONFIGURATION.match((next_text(source) or "").strip())
            source.stateful = source.frame
        if configuration is None or header is None:
            raise source.error(
                "expected a line 'Direct configuration= 1'. Check that the file is an XDATCAR."
            )
        first_line = source.line_number + 1
        step = whole_number(configuration[2])
        direct = configuration[1].lower() == "direct"
        body = source.block(sum(header.counts))
        yield partial(_parse, header, body, direct, step, first_line, reading)
        blank = False


def read_poscar(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The only frame of a POSCAR, unparsed; velocities and what else follows are ignored."""
    header = _header(source, source.line() or "", source.line() or "")
    mode = source.line() or ""
    if mode.strip()[:1] in ("s", "S"):  # selective dynamics
        mode = source.line() or ""
    first_line = source.line_number + 1
    direct = mode.strip()[:1] not in ("c", "C", "k", "K")
    yield partial(_parse, header, source.block(sum(header.counts)), direct, None, first_line, reading)


def _header(source: ByteSource, title: str, scale_line: str) -> _Header:
    """The header from its title and the line of the scale on."""
    scale = floats(scale_line, (-1,), "the scale", source.error)
    if len(scale) not in (1, 3):
        raise source.error(f"the scale must be 1 or 3 numbers, found {scale_line.strip()[:80]!r}. Repair it.")
    error = partial(source.error, line=source.line_number + 1)
    cell = floats(" ".join(source.line() or "" for _ in range(3)), (3, 3), "the cell", error)
    with np.errstate(all="ignore"):  # a cell that is not finite is refused later
        volume = abs(float(np.linalg.det(cell)))
        if len(scale) == 1 and scale[0] < 0 < volume:  # VASP: minus the volume
            scale = (-scale / volume) ** (1 / 3)
        scaled = cell * scale
    words = (source.line() or "").split()
    names: list[str] = []
    if words and not words[0].isdecimal():
        # VASP 6 adds a hash (Fe/1a2b3c), some add the potential (Fe_pv).
        names = [re.split("[_/]", word)[0] for word in words]
        words = (source.line() or "").split()
    words = words[: next((k for k, word in enumerate(words) if word[0] in "!#"), None)]
    counts = [count_of(source, word) for word in words]
    if not counts or (names and len(names) != len(counts)):
        raise source.error(f"{len(names)} species have {len(counts)} numbers of atoms. Repair the header.")
    return _Header(title, np.broadcast_to(scale, 3), scaled, names, counts)


def _parse(
    header: _Header,
    body: Text,
    direct: bool,
    step: int | None,
    first_line: int,
    reading: Reading,
) -> dict[str, Any]:
    names, n_atoms = header.names, sum(header.counts)
    if not names and not reading.type_names:
        names = _names_in_title(header, reading)
    parsed = parse_columns(
        reading, body, n_atoms, ("x", "y", "z"), first_line, positions=(0, 1, 2), exact=False
    )
    groups = np.repeat(np.arange(len(header.counts), dtype=np.int32), header.counts)
    if reading.type_names:
        species = reading.codes_of_types(groups + 1)
    else:
        species = reading.codes_of_names(groups, names)
    with np.errstate(over="ignore", invalid="ignore"):  # the frame refuses what is not finite
        positions = parsed.positions @ header.cell if direct else parsed.positions * header.scale
    return {"positions": positions, "cell": header.cell, "pbc": True, "timestep": step, "species": species}


def _names_in_title(header: _Header, reading: Reading) -> list[str]:
    """The species of a file before VASP 5, whose title often names them."""
    from ase.data import chemical_symbols

    names = header.title.split()
    if len(names) == len(header.counts) and set(names) <= set(chemical_symbols[1:]):
        text = f"The species {', '.join(names)} are those of the title; the file names none elsewhere."
        reading.note(text, "names-from-title")
        return names
    raise reading.error(
        f"the header names no species for its {len(header.counts)} groups of atoms. Give them in order: "
        f"{option('types', some_species(len(header.counts)))}."
    )
