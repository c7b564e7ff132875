"""Structure of a frame: what networks and regressions of this family see, computed once and kept.

A structure is kept in memory, for the last few frames, and on disk if a folder is given or the environment
variable PHASESEG_STRUCTURES names one. The key is a digest of all that the result depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from phaseseg.families import Progress
from phaseseg.families.mobility.cage import N_STEPS, Cage, cage_positions
from phaseseg.families.mobility.inherent import TOLERANCE, Inherent, inherent_positions
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.frame import Frame
from phaseseg.io import atomic_output

FOLDER = "PHASESEG_STRUCTURES"
"""Environment variable with the folder of structures on disk."""

# Raised whenever the numbers of minimization or cage runs change.
_VERSION = 2
_MOST = 8
_kept: OrderedDict[str, Inherent | Cage] = OrderedDict()
_lock = Lock()
T = TypeVar("T", Inherent, Cage)


@dataclass(frozen=True, eq=False)
class Structure:
    """A frame with its inherent structure and, if asked for, its cages.

    frame : n_atoms particles at thermal positions
    codes : (n_atoms,) int32; 0 for A, the first species of the potential, 1 for B
    potential : of the mixture
    inherent : positions (n_atoms, 3), displacement, energies
    cage : means (n_atoms, 3) and covariances (n_atoms, 3, 3), or None
    temperature : of the cage runs, ε/k, or None

    All positions are in the images that the frame has, so that their differences are displacements.
    """

    frame: Frame
    codes: NDArray[np.int32]
    potential: LennardJonesMixture
    inherent: Inherent
    cage: Cage | None = None
    temperature: float | None = None

    @property
    def thermal_positions(self) -> NDArray[np.float64]:
        return self.frame.positions

    @property
    def inherent_positions(self) -> NDArray[np.float64]:
        return self.inherent.positions

    @property
    def cage_positions(self) -> NDArray[np.float64]:
        """ValueError if the cages were not sampled."""
        if self.cage is None:
            raise ValueError("the cages of this structure were not sampled: ask for them with cage=True.")
        return self.cage.positions


def structure_of(
    frame: Frame, *, temperature: float | None = None, potential: LennardJonesMixture | None = None,
    cage: bool = True, runs: int = 2, steps: int = N_STEPS, seed: int = 0, tolerance: float = TOLERANCE,
    folder: str | os.PathLike[str] | None = None, progress: Progress | None = None,
) -> Structure:  # fmt: skip
    """Minimize a frame and sample its cages, or take both from the cache.

    Parameters
    ----------
    frame : in Lennard-Jones units
    temperature : of the cage runs, ε/k; when left out, `temperature` in the info of the frame
    potential : the Kob–Andersen mixture when left out
    cage : whether to sample the cages
    runs, steps, seed : of the cage runs, see `cage_positions`
    tolerance : of the minimization, ε/σ
    folder : of structures on disk; by default that in PHASESEG_STRUCTURES, if it is set
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    MinimizationError, CageError
        If the frame cannot be minimized, or its cages cannot be sampled.
    ValueError
        If the temperature is needed and not known, or a species is not in the potential.
    """
    potential = potential or KOB_ANDERSEN
    codes = potential.codes(frame)
    if cage and temperature is None:
        temperature = frame.info.get("temperature")
        if temperature is None:
            raise ValueError(
                f"{frame.error_prefix}the temperature is not in the frame, and cages need it. Give the "
                "option temperature, in units of ε/k."
            )
    parts = [0.0, 0.12 if cage else 1.0, 1.0]

    def share(k: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, text: progress(parts[k] + done * (parts[k + 1] - parts[k]), text)

    on_disk = folder if folder is not None else os.environ.get(FOLDER)
    home = None if on_disk in (None, "") else Path(on_disk)
    digest = _digest(frame, codes, potential)
    inherent = _kept_or_made(
        f"inherent-{_key(digest, tolerance=tolerance)}", Inherent, home,
        lambda: inherent_positions(frame, potential, tolerance=tolerance, progress=share(0)),
    )  # fmt: skip
    if not cage:
        return Structure(frame, codes, potential, inherent)
    assert temperature is not None
    at = float(temperature)
    cages = _kept_or_made(
        f"cage-{_key(digest, temperature=at, runs=runs, steps=steps, seed=seed)}", Cage, home,
        lambda: cage_positions(frame, at, potential, runs=runs, steps=steps, seed=seed, progress=share(1)),
    )  # fmt: skip
    return Structure(frame, codes, potential, inherent, cages, at)


def forget_structures() -> None:
    """Empty the cache in memory; files on disk stay."""
    with _lock:
        _kept.clear()


def _digest(frame: Frame, codes: NDArray[np.int32], potential: LennardJonesMixture) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, potential.to_dict()]).encode())
    for array in (frame.positions, frame.cell, frame.pbc, frame.origin, codes):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _key(digest: str, **options: float) -> str:
    return hashlib.sha256((digest + json.dumps(options, sort_keys=True)).encode()).hexdigest()[:32]


def _kept_or_made(key: str, kind: type[T], home: Path | None, make: Callable[[], T]) -> T:
    with _lock:
        found = _kept.get(key)
    path = None if home is None else home / f"{key}.npz"
    if found is None and path is not None:
        found = _read(path, kind)
    if not isinstance(found, kind):
        found = make()
        if path is not None:
            _write(path, found)
    with _lock:
        _kept[key] = found
        _kept.move_to_end(key)
        while len(_kept) > 2 * _MOST:
            _kept.popitem(last=False)
    return found


def _read(path: Path, kind: type[T]) -> T | None:
    """Return the result in a file; None if the file is missing or damaged, so that the caller computes it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {one.name: file[one.name] for one in fields(kind)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def _write(path: Path, result: Inherent | Cage) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as fresh, fresh.open("wb") as file:
        np.savez(file, **{one.name: getattr(result, one.name) for one in fields(result)})
