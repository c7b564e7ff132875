"""Minimized positions and cages that were computed before.

They are kept in memory, for the last few frames, and on disk if a folder is given or the environment variable
PHASESEG_STRUCTURES names one. The key is a digest of all that the result depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from phaseseg.families.mobility.potentials import LennardJonesMixture
from phaseseg.frame import Frame
from phaseseg.io import atomic_output

FOLDER = "PHASESEG_STRUCTURES"
"""Environment variable with the folder of structures on disk."""

# Raised whenever the numbers of minimization or cage runs change.
_VERSION = 2
_MOST = 16
_kept: OrderedDict[str, Any] = OrderedDict()
_lock = Lock()
T = TypeVar("T")


def kept_or_made(
    kind: type[T], frame: Frame, potential: LennardJonesMixture, options: dict[str, float],
    folder: str | os.PathLike[str] | None, make: Callable[[], T],
) -> T:  # fmt: skip
    """What was made of a frame before, or what `make` gives, which is kept.

    kind : dataclass of the result, with arrays and numbers
    options : all others that the result depends on
    folder : of results on disk; by default that in PHASESEG_STRUCTURES, if it is set
    """
    on_disk = folder if folder is not None else os.environ.get(FOLDER)
    digest = _digest(frame, potential) + json.dumps(options, sort_keys=True)
    key = f"{kind.__name__.lower()}-{hashlib.sha256(digest.encode()).hexdigest()[:32]}"
    path = None if on_disk in (None, "") else Path(on_disk) / f"{key}.npz"
    with _lock:
        found = _kept.get(key)
    if found is None and path is not None:
        found = _read(path, kind)
    if not isinstance(found, kind):
        found = make()
        if path is not None:
            _write(path, found)
    with _lock:
        _kept[key] = found
        _kept.move_to_end(key)
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    return found


def forget_structures() -> None:
    """Empty the cache in memory; files on disk stay."""
    with _lock:
        _kept.clear()


def _digest(frame: Frame, potential: LennardJonesMixture) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, potential.to_dict()]).encode())
    for array in (frame.positions, frame.cell, frame.pbc, frame.origin, potential.codes(frame)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path, kind: type[T]) -> T | None:
    """Return the result in a file; None if the file is missing or damaged, so that the caller computes it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {one.name: file[one.name] for one in fields(kind)}  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def _write(path: Path, result: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as fresh, fresh.open("wb") as file:
        np.savez(file, **{one.name: getattr(result, one.name) for one in fields(result)})
