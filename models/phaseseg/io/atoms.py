"""Conversion of ASE Atoms, and the file formats that only ASE reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.display import Message
from phaseseg.frame import Category, Frame, Names, error_prefix
from phaseseg.io.elements import species_of
from phaseseg.io.names import topology
from phaseseg.io.reading import Block, Reading, name_table, time_parts
from phaseseg.io.source import ByteSource, InputError, encoding_of

# Arrays of Atoms that have their own attribute in Frame.
_OWN_ARRAYS = ("numbers", "positions", "id", "type")
_OWN_INFO = ("timestep", "time", "units", "Origin")
_DATABASES = ("db", "json")
# Formats of programs whose cells are always periodic; ASE returns them as open.
_PERIODIC = ("eon", "sys")


def frame_from_atoms(
    atoms: Any,
    *,
    source: str = "",
    species_names: Sequence[str] | None = None,
    species_array: str | None = None,
    names: Names = None,
    fields: bool = False,
) -> Frame:
    """Convert an `ase.Atoms` to a Frame.

    Parameters
    ----------
    atoms : ase.Atoms
        Row order is kept. `atoms.arrays["id"]` becomes `Frame.ids`; `atoms.info` may hold `timestep`,
        `time` (ps), `units` ("lj") and `Origin` (Å), which the displacement of the cell overrides; its
        other finite numbers become `Frame.info`.
    source : name of the structure in messages
    species_names : names of the codes, for example one tuple for a whole trajectory; without it the
        sorted distinct symbols
    species_array : name of an array in `atoms.arrays` with species (strings or integers) to use instead of
        the chemical symbols
    names : what atom names (`atoms.arrays["atomtypes"]`) or symbols stand for: `{"MW": "X"}` or `"MW=X"`
    fields : whether further numeric arrays go into `Frame.fields`

    ASE guesses the elements of GRO files, and of PDB files without elements, from two letters: `OS` becomes
    osmium. Where there are `atomtypes` and `residuenames`, they are read as in these files, with a message.

    Raises
    ------
    ValueError
        For a structure without atoms or cell, a coordinate that is not finite, an unknown array, an atom
        name without an element, or a symbol that is not among `species_names`.

    Examples
    --------
    >>> from ase.build import bulk
    >>> frame_from_atoms(bulk("NaCl", "rocksalt", a=5.64)).species_names
    ('Cl', 'Na')
    """
    if len(atoms) == 0:
        raise InputError(f"{source or 'atoms'}: the structure has no atoms. Leave it out.")
    parts = _parts(atoms, fields, source)
    try:
        found, messages = _species(atoms, parts["categories"], name_table(names), species_array)
    except ValueError as error:
        raise InputError(f"{error_prefix(source)}{error}") from None
    return Frame(
        species=np.array(found.names)[found.codes], species_names=tuple(species_names or ()), source=source,
        **parts | {"messages": (*parts["messages"], *messages)},
    )  # fmt: skip


def _species(
    atoms: Any, categories: Mapping[str, Category], names: Mapping[str, str], array: str | None = None
) -> tuple[Category, tuple[Message, ...]]:
    """Species in order of first appearance."""
    from ase.data import chemical_symbols

    if array is not None:
        codes, labels = Category.of(_labels(atoms, array))
        return Category.of([names.get(label, label) for label in labels]).take(codes), ()
    strange = np.flatnonzero((atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols)))
    if len(strange):
        found = atoms.numbers[strange[0]]
        raise ValueError(
            f"atom {strange[0] + 1} has the atomic number {found}, which is no element. Repair it."
        )
    symbols = Category.of(atoms.numbers)
    symbols = Category(symbols.codes, tuple(chemical_symbols[int(number)] for number in symbols.names))
    if {"atomtypes", "residuenames"} <= set(atoms.arrays) and {"name", "residue"} <= set(categories):
        return species_of(
            categories["name"], categories["residue"], stated=symbols, guessed=True, names=names
        )
    return symbols._replace(names=tuple(names.get(symbol, symbol) for symbol in symbols.names)), ()


def _labels(atoms: Any, array: str) -> Any:
    if array not in atoms.arrays:
        raise ValueError(
            f"the atoms have no array {array!r}; their arrays are {', '.join(sorted(atoms.arrays))}."
        )
    labels = atoms.arrays[array]
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)  # ASE reads strings from extended XYZ as objects
    if labels.ndim != 1 or labels.dtype.kind not in "USiu":
        raise ValueError(
            f"the array {array!r} has shape {labels.shape} and type {labels.dtype}; species must be "
            "one string or integer per atom."
        )
    return labels.astype(str)


def _parts(atoms: Any, fields: bool, source: str) -> dict[str, Any]:
    """Arguments of `Frame`, without species."""
    origin = np.asarray(atoms.get_celldisp(), dtype=float).ravel()
    if not origin.any() and "Origin" in atoms.info:
        given = np.asarray(atoms.info["Origin"])
        if given.shape != (3,) or given.dtype.kind not in "iuf":
            found = str(atoms.info["Origin"])[:80]
            raise InputError(f"{error_prefix(source)}Origin must be 3 numbers, found {found!r}. Repair it.")
        origin = given.astype(float)
    ids = atoms.arrays.get("id")
    return {
        "positions": atoms.positions.copy(),
        "cell": np.array(atoms.cell),
        "pbc": atoms.pbc,
        "origin": origin,
        "ids": ids if ids is not None and ids.dtype.kind in "iu" else None,
        **time_parts(atoms.info.get("time"), atoms.info.get("timestep")),
        "units": "lj" if str(atoms.info.get("units")) == "lj" else "metal",
        **topology(atoms.arrays),
        "fields": {
            name: values.copy()
            for name, values in atoms.arrays.items()
            if fields and name not in _OWN_ARRAYS and values.dtype.kind in "biuf"
        },
        "info": {
            name: float(value)
            for name, value in atoms.info.items()
            if name not in _OWN_INFO
            and isinstance(value, (int, float, np.integer, np.floating))
            and not isinstance(value, bool)
            and np.isfinite(value)
        },
        "words": {
            name: value
            for name, value in atoms.info.items()
            if isinstance(value, str) and name not in _OWN_INFO
        },
    }


def read_with_ase(path: Path, ase_format: str, reading: Reading) -> Iterator[Block]:
    """The frames of a file that ASE reads; they are parsed as they come."""
    return (partial(_convert, atoms, reading, ase_format) for atoms in atoms_of_file(path, ase_format))


def atoms_of_file(path: Path, ase_format: str) -> Iterator[Any]:
    """The `ase.Atoms` of a file that ASE reads. Of databases, the keys of a row go into `Atoms.info`."""
    frames = _database_rows(path) if ase_format in _DATABASES else _structures(path, ase_format)
    for index in count():
        try:
            with warnings.catch_warnings():
                # They tell authors of programs what ASE will change.
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                atoms = next(frames, None)
        except ImportError as error:
            raise InputError(
                f"{path.name}: ASE reads {ase_format} with a package that is not installed ({error}). "
                "Install it."
            ) from error
        except Exception as error:  # ASE's parsers raise exceptions of any type
            text = " ".join(str(error).split())
            raise InputError(
                f"{path.name}, frame {index}: ASE cannot read it as {ase_format} "
                f"({type(error).__name__}: {text[:300]}). Check the file, or name its format."
            ) from error
        if atoms is None and index == 0:
            raise InputError(
                f"{path.name}: ASE finds no structure in it as {ase_format}. Check the file, or name its "
                "format."
            )
        if atoms is None:
            return
        if ase_format in _PERIODIC:
            atoms.pbc = True
        yield atoms


def _structures(path: Path, ase_format: str) -> Iterator[Any]:
    import ase.io

    file: Any = str(path)
    with path.open("rb") as raw:
        encoding = encoding_of(raw.read(64))
    if path.name.lower().endswith(".zst"):  # ASE unpacks the other compressions
        with closing(ByteSource(path)) as source:
            file = StringIO(source.rest().decode("utf-8", "replace"))
    elif encoding != "utf-8":
        file = StringIO(path.read_text(encoding, "replace"))
    yield from ase.io.iread(file, index=":", format=ase_format)


def _database_rows(path: Path) -> Iterator[Any]:
    from ase.db import connect

    # ase.io.iread leaves the keys of the rows out.
    for row in connect(path).select():
        atoms = row.toatoms()
        atoms.info |= {**row.data, **row.key_value_pairs}
        yield atoms


def _convert(atoms: Any, reading: Reading, ase_format: str) -> dict[str, Any]:
    if not len(atoms) and not atoms.cell.any():
        raise reading.error(
            f"ASE reads it as {ase_format} and finds neither atoms nor a cell. Check the file, or name its "
            "format."
        )
    parts = _parts(atoms, reading.fields, reading.label)
    results = getattr(atoms.calc, "results", None) or {}  # of the calculation that the file holds
    if isinstance(energy := results.get("energy"), (int, float, np.number)) and np.isfinite(energy):
        parts["info"] = {"energy": float(energy), **parts["info"]}
    if reading.fields and np.shape(forces := results.get("forces", ())) == (len(atoms), 3):
        parts["fields"] = {"forces": np.array(forces, dtype=float), **parts["fields"]}
    if parts["units"] == "metal":
        parts["units"] = reading.units
    if reading.type_names:
        if "type" not in atoms.arrays:
            raise reading.without_types(", ".join(atoms.arrays))
        species = reading.codes_of_types(atoms.arrays["type"])
    else:
        try:
            found, messages = _species(atoms, parts["categories"], reading.renames)
        except ValueError as error:
            raise reading.error(str(error)) from None
        reading.messages += messages
        species = np.array([reading.code(name) for name in found.names], dtype=np.int32)[found.codes]
    return parts | {"species": species}
