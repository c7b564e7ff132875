"""GSD files of HOOMD-blue, through the package `gsd` (an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.io.reading import Block, Reading
from phaseseg.io.source import InputError

_FIELDS = ("mass", "charge", "diameter", "velocity")


def gsd_package() -> Any:
    """The module that reads GSD files.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to install it.
    """
    try:
        import gsd.fl
    except ImportError:
        raise ImportError(
            "GSD files are read with the package gsd, which is not installed: "
            "pip install 'ovito-phaseseg[gsd]'."
        ) from None
    return gsd.fl


def read_gsd(path: Path, reading: Reading) -> Iterator[Block]:
    """The frames of a GSD file, unread."""
    with path.open("rb") as raw:
        if raw.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7"):
            raise InputError(f"{path.name}: a GSD file is read where it lies. Decompress it first.")
    try:
        file = gsd_package().open(str(path), "r")
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"{path.name}: the file cannot be read as GSD ({error}). Write or copy it again."
        ) from error
    with file:
        if file.schema != "hoomd":
            raise InputError(f"{path.name}: the file holds {file.schema!r}, not particles of HOOMD-blue.")
        for index in range(file.nframes):
            yield partial(_convert, file, index, path.stat().st_size, reading)


def _convert(file: Any, index: int, size: int, reading: Reading) -> dict[str, Any]:
    # Not with `gsd.hoomd`: it makes room for any number of particles that a damaged file announces.

    def chunk(name: str, default: Any = None) -> Any:
        """What stands in this frame, else in the first one, else the default."""
        found = next((k for k in (index, 0) if file.chunk_exists(k, name)), None)
        return default if found is None else file.read_chunk(found, name)

    def of_particles(name: str, width: int, default: Any) -> Any:
        values = chunk(f"particles/{name}")
        if values is None or len(values) != n_atoms:  # of a first frame with other particles
            values = np.full((n_atoms, width), default)
        return np.asarray(values).reshape(n_atoms, width)

    try:
        n_atoms = int(chunk("particles/N", [0])[0])
        if 4 * n_atoms > size:
            raise ValueError(f"{n_atoms} particles are announced, more than the file can hold")
        lx, ly, lz, xy, xz, yz = np.asarray(chunk("configuration/box", [1, 1, 1, 0, 0, 0]), float).tolist()
        words = chunk("particles/types", np.array([[ord("A")]], np.uint8))
        types = [
            bytes(np.asarray(row, np.uint8)).partition(b"\0")[0].decode("utf-8", "replace") for row in words
        ]
        positions = of_particles("position", 3, 0.0).astype(np.float64)
        type_ids = of_particles("typeid", 1, 0)[:, 0].astype(np.int64)
        step, dimensions = (
            int(chunk("configuration/step", [0])[0]),
            int(chunk("configuration/dimensions", [3])[0]),
        )
        fields = {
            name: of_particles(name, 3, 0.0)
            if name == "velocity"
            else of_particles(name, 1, name != "charge")[:, 0]
            for name in _FIELDS
            if reading.fields
        }
        numbers = {name[4:]: np.asarray(chunk(name)) for name in file.find_matching_chunk_names("log/")}
    except Exception as error:  # whatever the package says about a damaged file
        raise reading.error(
            f"GSD cannot read the frame ({type(error).__name__}: {error}). Write or copy the file again."
        ) from error
    lz = 1.0 if dimensions == 2 and lz == 0 else lz
    cell = np.array([[lx, 0, 0], [xy * ly, ly, 0], [xz * lz, yz * lz, lz]])
    if reading.type_names:
        species = reading.codes_of_types(type_ids)
    elif n_atoms and not 0 <= type_ids.min() <= type_ids.max() < len(types):
        raise reading.unnamed(type_ids, "the frame")
    else:
        species = reading.codes_of_names(type_ids.astype(np.int32), types)
    return {
        "positions": positions, "cell": cell, "origin": -cell.sum(axis=0) / 2, "pbc": True,
        "species": species, "timestep": step, "units": "lj",
        "fields": {name: values.astype(np.float64) for name, values in fields.items()},
        "info": {
            name: float(value.ravel()[0])
            for name, value in numbers.items()
            if value.size == 1 and value.dtype.kind in "iuf" and np.isfinite(value).all()
        },
    }  # fmt: skip
