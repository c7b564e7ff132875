"""ASE Atoms to Frame, and every file format that only ASE reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.frame import Frame
from phaseseg.io.reading import Block, Reading, no_atoms
from phaseseg.io.source import InputError

# Arrays of Atoms that the Frame holds elsewhere.
_OWN_ARRAYS = ("numbers", "positions", "id", "type")
_OWN_INFO = ("timestep", "time", "units", "Origin")


def frame_from_atoms(
    atoms: Any, *, source: str = "", species_names: Sequence[str] | None = None, fields: bool = False
) -> Frame:
    """The Frame of an `ase.Atoms`.

    Parameters
    ----------
    atoms : ase.Atoms
        Row order is kept. `atoms.arrays["id"]` becomes `Frame.ids`; `atoms.info` may hold `timestep`,
        `time` (ps), `units` ("lj") and `Origin` (Å), which the displacement of the cell overrides; its
        other finite numbers become `Frame.info`.
    source : said in messages
    species_names : names of the codes, for example one tuple for a whole trajectory; without it the
        sorted distinct symbols
    fields : whether further numeric arrays go into `Frame.fields`

    Raises
    ------
    ValueError
        For a structure without atoms or cell, a coordinate that is not finite, or a symbol that is
        not among `species_names`.

    Examples
    --------
    >>> from ase.build import bulk
    >>> frame_from_atoms(bulk("NaCl", "rocksalt", a=5.64)).species_names
    ('Cl', 'Na')
    """
    from ase.data import chemical_symbols

    if len(atoms) == 0:
        raise no_atoms(source or "atoms")
    distinct, inverse = np.unique(atoms.numbers, return_inverse=True)
    symbols = np.array([chemical_symbols[number] for number in distinct])
    origin = np.asarray(atoms.get_celldisp(), dtype=float).ravel()
    if not origin.any():
        origin = np.asarray(atoms.info.get("Origin", np.zeros(3)), dtype=float)
    ids = atoms.arrays.get("id")
    timestep, time = atoms.info.get("timestep"), atoms.info.get("time")
    return Frame(
        positions=atoms.positions.copy(),
        cell=np.array(atoms.cell),
        pbc=atoms.pbc,
        species=symbols[inverse],
        species_names=tuple(species_names or ()),
        origin=origin,
        ids=ids if ids is not None and ids.dtype.kind in "iu" else None,
        timestep=None if timestep is None else int(timestep),
        time=None if time is None else float(time),
        units="lj" if atoms.info.get("units") == "lj" else "metal",
        fields={
            name: values.copy()
            for name, values in atoms.arrays.items()
            if fields and name not in _OWN_ARRAYS and values.dtype.kind in "biuf"
        },
        info={
            name: float(value)
            for name, value in atoms.info.items()
            if name not in _OWN_INFO
            and isinstance(value, (int, float, np.integer, np.floating))
            and not isinstance(value, bool)
            and np.isfinite(value)
        },
        source=source,
    )


def read_with_ase(path: Path, ase_format: str | None, reading: Reading) -> Iterator[Block]:
    """The frames of a file that ASE reads; they are parsed as they come."""
    import ase.io

    frames = ase.io.iread(str(path), index=":", format=ase_format)
    index = 0
    while True:
        label = f"{path.name}, frame {index}"
        try:
            atoms = next(frames, None)
        except Exception as error:  # the parsers of ASE raise whatever their own code runs into
            raise InputError(
                f"{label}: ASE cannot read it as {ase_format or 'the format of its name'} "
                f"({type(error).__name__}: {error}). Check the file, or name its format."
            ) from error
        if atoms is None:
            return
        yield partial(_convert, atoms, label, reading)
        index += 1


def _convert(atoms: Any, label: str, reading: Reading) -> Frame:
    try:
        raw = frame_from_atoms(atoms, source=label, fields=reading.fields)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    if reading.type_names:
        if "type" not in atoms.arrays:
            raise reading.without_type_column(label, ", ".join(atoms.arrays))
        species = reading.codes_of_types(atoms.arrays["type"], label)
    else:
        # Numbered as they come, like the other readers.
        _, first = np.unique(raw.species, return_index=True)
        order = np.argsort(first)
        rank = np.argsort(order).astype(np.int32)
        species = reading.codes_of_names(rank[raw.species], [raw.species_names[code] for code in order])
    return reading.frame(
        label,
        positions=raw.positions,
        cell=raw.cell,
        pbc=raw.pbc,
        species=species,
        origin=raw.origin,
        ids=raw.ids,
        timestep=raw.timestep,
        time=raw.time,
        units="lj" if raw.units == "lj" else reading.units,
        fields=raw.fields,
        info=raw.info,
    )
