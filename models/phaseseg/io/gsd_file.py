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
        import gsd.hoomd
    except ImportError:
        raise ImportError(
            "GSD files are read with the package gsd, which is not installed: "
            "pip install 'ovito-phaseseg[gsd]'."
        ) from None
    return gsd.hoomd


def read_gsd(path: Path, reading: Reading) -> Iterator[Block]:
    """The frames of a GSD file, unread."""
    with path.open("rb") as raw:
        if raw.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7"):
            raise InputError(f"{path.name}: a GSD file is read where it lies. Decompress it first.")
    try:
        file = gsd_package().open(str(path), mode="r")
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"{path.name}: the file cannot be read as GSD ({error}). Write or copy it again."
        ) from error
    with file:
        for index in range(len(file)):
            yield partial(_convert, file, index, reading)


def _convert(file: Any, index: int, reading: Reading) -> dict[str, Any]:
    try:
        frame = file[index]
        particles, box = frame.particles, np.asarray(frame.configuration.box, dtype=np.float64)
        n_atoms, types = int(particles.N), list(particles.types or ())
        positions = np.asarray(particles.position, dtype=np.float64).reshape(n_atoms, 3)
        type_ids = np.asarray(particles.typeid, dtype=np.int64).reshape(n_atoms)
        step = int(frame.configuration.step or 0)
        logged = dict(frame.log or {})
    except Exception as error:  # whatever the package says about a damaged file
        raise reading.error(
            f"GSD cannot read the frame ({type(error).__name__}: {error}). Write or copy the file again."
        ) from error
    lx, ly, lz, xy, xz, yz = box.tolist()
    if frame.configuration.dimensions == 2 and lz == 0:
        lz = 1.0
    cell = np.array([[lx, 0, 0], [xy * ly, ly, 0], [xz * lz, yz * lz, lz]])
    if reading.type_names:
        species = reading.codes_of_types(type_ids)
    elif n_atoms and not 0 <= type_ids.min() <= type_ids.max() < len(types):
        raise reading.unnamed(type_ids, "the frame")
    else:
        species = reading.codes_of_names(type_ids.astype(np.int32), types)
    fields = {
        name: np.asarray(getattr(particles, name), dtype=np.float64) for name in _FIELDS if reading.fields
    }
    numbers = {name: np.asarray(value) for name, value in logged.items()}
    return {
        "positions": positions, "cell": cell, "origin": -cell.sum(axis=0) / 2, "pbc": True,
        "species": species, "timestep": step, "units": "lj", "fields": fields,
        "info": {
            name: float(value.ravel()[0])
            for name, value in numbers.items()
            if value.size == 1 and value.dtype.kind in "iuf" and np.isfinite(value).all()
        },
    }  # fmt: skip
