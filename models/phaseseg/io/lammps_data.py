"""LAMMPS data files: one frame, with names of the types by labels, comments or masses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.frame import SITE, Category, Units
from phaseseg.io.columns import parse_columns
from phaseseg.io.lammps import check_units
from phaseseg.io.large_text import Text
from phaseseg.io.reading import MOST_TYPES, Block, Reading, count_of, floats, is_number, whole_number
from phaseseg.io.source import ByteSource

# Columns of the section Atoms by atom style; three image flags may follow.
STYLES = {
    "atomic": "id type x y z", "charge": "id type q x y z", "molecular": "id mol type x y z",
    "bond": "id mol type x y z", "angle": "id mol type x y z", "full": "id mol type q x y z",
    "sphere": "id type diameter density x y z", "dipole": "id type q x y z mux muy muz",
    "ellipsoid": "id type ellipsoid density x y z", "peri": "id type volume density x y z",
    "line": "id mol type line density x y z", "tri": "id mol type triangle density x y z",
    "body": "id type body mass x y z", "spin": "id type x y z spx spy spz sp", "dpd": "id type theta x y z",
    "mdpd": "id type rho x y z", "sph": "id type rho esph cv x y z", "amoeba": "id mol type q x y z",
    "electron": "id type q espin eradius x y z", "bpm/sphere": "id mol type diameter density x y z",
    "template": "id type mol template atom x y z",
}  # fmt: skip
_IMAGES = ("ix", "iy", "iz")
_OWN = {"id", "mol", "type", "x", "y", "z", *_IMAGES}
_SECTION = re.compile(r"[A-Z][A-Za-z]*( [A-Za-z]+)*")
_HEADER = re.compile(r"([-+.\deEdD\s]+?)\s+([a-z][a-z ]*)")
_UNITED = (13.019, 14.027, 15.035, 16.043)  # CH to CH4 as one particle
_SAMPLE = 2000  # lines by which a style is recognized
_LIGHTEST = 0.1  # u; LAMMPS wants a mass for virtual sites, too


class _Type(NamedTuple):
    """An atom type: its mass, and the word of its label or comment."""

    mass: float | None
    word: str


class _Data(NamedTuple):
    title: str
    header: dict[str, str]
    labels: dict[int, str]
    types: dict[int, _Type]
    style: str
    body: Text
    first_line: int


def read_data(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The only frame of a LAMMPS data file, unparsed."""
    title = source.line() or ""
    header: dict[str, str] = {}
    labels: dict[int, str] = {}
    masses: list[str] = []
    section = style = ""
    body: Text = b""
    first_line = n_atoms = 0
    while (line := source.line()) is not None:
        text, _, comment = (part.strip() for part in line.partition("#"))
        if _SECTION.fullmatch(text):
            section = text
            if section != "Atoms":
                continue
            style = comment
            first_line = source.line_number + 2
            if (source.line() or "").strip():
                raise source.error(
                    "expected a blank line after 'Atoms'. Check that it is a LAMMPS data file."
                )
            n_atoms = count_of(source, header.get("atoms", ""))
            body = source.block(n_atoms)
            if masses or labels or reading.type_names:
                break
        elif section == "Masses" and text:
            masses.append(line)
        elif section == "Atom Type Labels" and text:
            number_of, _, label = text.partition(" ")
            labels[whole_number(number_of) or 0] = label.strip()
        elif not section and (found := _HEADER.fullmatch(text)):
            header[found[2]] = found[1]
    types = {number: _Type(None, word) for number, word in labels.items()}
    numbers = {word: number for number, word in labels.items()}
    for line in masses:
        text, _, comment = line.partition("#")
        words = text.split()
        number = numbers.get(words[0]) or whole_number(words[0]) or 0
        if len(words) != 2 or not 0 < number <= MOST_TYPES or not is_number(words[1]):
            raise source.error(f"the section Masses holds {line.strip()[:40]!r}. Repair it.")
        word = labels.get(number) or next(iter(comment.split()), "")
        types[number] = _Type(float(words[1]), word)
    yield partial(_parse, _Data(title, header, labels, types, style, body, first_line), n_atoms, reading)


def _parse(data: _Data, n_atoms: int, reading: Reading) -> dict[str, Any]:
    if not data.first_line:
        raise reading.error("the file has no section 'Atoms'. Give a complete LAMMPS data file.")
    said = re.search(r"units *= *(\w+)", data.title)
    units = check_units(said[1], reading) if said else reading.units
    step = re.search(r"timestep *= *(\d+)", data.title)
    cell, origin = _box(data, reading)
    numbers = _numbers(data)
    titles = _columns(data, numbers, reading)
    place = {title: titles.index(title) for title in titles}
    parsed = parse_columns(
        reading, data.body, n_atoms, titles, data.first_line, positions=[place[axis] for axis in "xyz"],
        integers={title: place[title] for title in ("id", "mol", *_IMAGES) if title in place},
        text=place["type"], exact=False,
        fields={title: [place[title]] for title in titles if reading.fields and title not in _OWN},
    )  # fmt: skip
    of_names = np.array([numbers.get(name, 0) for name in parsed.names], dtype=np.int64)
    molecules, positions = parsed.integers.get("mol"), parsed.positions
    if molecules is not None and "ix" in place:  # molecules stay whole
        positions = positions + np.stack([parsed.integers[image] for image in _IMAGES], axis=1) @ cell
    return {
        "positions": positions, "cell": cell, "origin": origin, "pbc": True,
        **_species(data, of_names[parsed.codes], units, reading), "ids": parsed.integers["id"],
        "molecules": molecules, "fields": parsed.fields, "timestep": whole_number(step[1]) if step else None,
        "units": units,
    }  # fmt: skip


def _box(data: _Data, reading: Reading) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell (rows) and origin."""

    def of(key: str, n: int, default: str = "") -> NDArray[np.float64]:
        found: NDArray[np.float64] = floats(data.header.get(key, default), (n,), f"{key!r}", reading.error)
        return found

    if "avec" in data.header:
        return np.stack([of(f"{name}vec", 3) for name in "abc"]), of("abc origin", 3, "0 0 0")
    low, high = np.stack([of(f"{axis}lo {axis}hi", 2) for axis in "xyz"], axis=1)
    cell = np.diag(high - low)
    cell[[1, 2, 2], [0, 0, 1]] = of("xy xz yz", 3, "0 0 0")
    return cell, low


def _numbers(data: _Data) -> dict[str, int]:
    """Types by what may stand for them in the section Atoms: their number or their label."""
    n_types = whole_number(data.header.get("atom types", "")) or 0
    known = range(1, min(n_types, MOST_TYPES) + 1)
    labeled = {label: number for number, label in data.labels.items()}
    return {str(number): number for number in (*known, *data.types)} | labeled


# ----------------------------------------------------------------------------------------- styles


def _columns(data: _Data, types: Mapping[str, int], reading: Reading) -> list[str]:
    """Titles of the columns of the section Atoms, by the named atom style or by what fits."""
    lines = bytes(data.body).split(b"\n", _SAMPLE)[:_SAMPLE]
    sample = [line.partition(b"#")[0].decode("utf-8", "replace").split() for line in lines if line.strip()]
    n_columns = len(sample[0]) if sample else 5
    style = (reading.style or data.style).lower()
    titles = _titles(style)
    how = option("format", "lammps-data:full", keyword="file_format")
    if reading.style and not titles:
        raise reading.error(f"{reading.style!r} is not an atom style that is read ({', '.join(STYLES)}).")
    if titles:
        if set(style.split()[1:]) - set(STYLES):
            return titles  # an unknown style in a mixture: the first five columns are always the same
        if n_columns not in (len(titles), len(titles) + 3):
            raise reading.error(
                f"line {data.first_line} has {n_columns} columns, but the atom style {style} has "
                f"{len(titles)} ({' '.join(titles)}) and perhaps 3 images. Name the right style: {how}"
            )
        return titles + list(_IMAGES[: n_columns - len(titles)])
    for images in (_IMAGES, ()):
        fitting: dict[tuple[tuple[int, str], ...], tuple[str, list[str]]] = {}
        for style in STYLES:
            titles = [*_titles(style), *images]
            if len(titles) == n_columns and _fits(titles, sample, types):
                # Styles whose coordinates, types and molecules stand in the same columns are read alike.
                key = tuple((k, title) for k, title in enumerate(titles) if title in _OWN)
                fitting.setdefault(key, (style, titles))
        styles = dict(fitting.values())
        if "molecular" in styles:  # charges that are all numbers of types would not be neutral
            styles.pop("charge", None)
        if len(styles) == 1:
            return styles.popitem()[1]
        if styles:
            break
    fits = f"fit several atom styles ({', '.join(styles)})" if styles else "fit no atom style"
    raise reading.error(
        f"the section Atoms does not name its atom style, and its {n_columns} columns {fits}. Name it, "
        f"for example {how}"
    )


def _titles(style: str) -> list[str]:
    """Columns of an atom style; none if it is not known."""
    first, *mixed = style.split() or [""]
    if first != "hybrid":
        return STYLES.get(first, "").split()
    return list(dict.fromkeys(" ".join([STYLES["atomic"], *(STYLES.get(one, "") for one in mixed)]).split()))


def _fits(titles: Sequence[str], sample: Sequence[Sequence[str]], types: Mapping[str, int]) -> bool:
    """Whether columns of integers, of types and of what is never negative hold nothing else."""
    rows = [dict(zip(titles, words, strict=True)) for words in sample if len(words) == len(titles)]
    whole = [title for title in ("id", "mol", *_IMAGES) if title in titles]
    positive = [title for title in ("diameter", "density", "volume", "mass") if title in titles]
    return all(
        row["type"] in types
        and all(row[title].lstrip("+-").isdecimal() for title in whole)
        and not any(row[title].startswith("-") for title in positive)
        for row in rows
    )


# ------------------------------------------------------------------------------------------ names


def _species(data: _Data, types: NDArray[np.int64], units: Units, reading: Reading) -> dict[str, Any]:
    """Species by the caller's names, by labels and comments, or by mass; other words are names of atoms."""
    if reading.type_names:
        return {"species": reading.codes_of_types(types, data.first_line)}
    present = np.unique(types).tolist()
    masses = {number: data.types[number].mass for number in present if number in data.types}
    by_mass = {} if units == "lj" else _elements_by_mass(masses)
    names, guessed = {}, []
    for number in present:
        mass, word = data.types.get(number, _Type(None, ""))
        element = by_mass.get(number, "")
        if word in reading.renames or not element or word == element:
            names[number] = word
        else:
            names[number] = element
            guessed.append(f"{number} ({f'{word}, ' if word else ''}{mass:g}) {element}")
    words = [names[number] for number in present if number not in by_mass]
    if not all(names.values()) or len(set(words)) < len(words):
        raise reading.unnamed(types, "the data file")
    if guessed:
        text = f"Species by mass: type {', '.join(guessed)}. If one is wrong, name the types "
        text += f"with {option('types')}."
        reading.note(text, "species-by-mass")
    codes = np.searchsorted(present, types).astype(np.int32)
    species = reading.codes_of_names(codes, list(names.values()))
    words = [data.types[number].word if number in data.types else "" for number in present]
    named = all(words) and words != list(names.values())
    return {"species": species, "categories": {"name": Category.of(np.array(words)[codes])} if named else {}}


def _elements_by_mass(masses: Mapping[int, float | None]) -> dict[int, str]:
    """The elements nearest to the masses, where no other and no united atom is near; X for virtual sites."""
    from ase.data import atomic_masses, chemical_symbols

    found = {}
    for number, mass in masses.items():
        off = np.abs(atomic_masses[1:] - (mass or -1))
        nearest, second = np.argsort(off)[:2]
        united = any(abs(one - (mass or 0)) < 0.011 for one in _UNITED)
        if mass is not None and 0 <= mass < _LIGHTEST:
            found[number] = SITE
        elif off[nearest] <= 0.35 and off[second] > 3 * off[nearest] and not united:
            found[number] = chemical_symbols[nearest + 1]
    # Masses of 1 alone are those of reduced units.
    return found if set(found.values()) - {"H", SITE} else {}
