"""The systems of the mobility recipes: configurations with propensities, and their prepared structures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.mobility.scores import ceiling
from phaseseg.families.mobility.structure import Structure, structure_of
from phaseseg.frame import Frame
from phaseseg.io import InputError
from phaseseg.recipes.cards import say

SPECIES = ("A", "B")


@dataclass(frozen=True, eq=False)
class System:
    """One configuration with the propensity of its particles.

    propensity : (n,) float64, σ; halves : (2, n), over two halves of the runs
    ceiling : (2,) correlation that a perfect prediction would reach, for A and B
    """

    name: str
    frame: Frame
    propensity: NDArray[np.float64]
    halves: NDArray[np.float64]

    @property
    def codes(self) -> NDArray[np.int32]:
        return self.frame.species

    @property
    def ceiling(self) -> NDArray[np.float64]:
        return np.array([ceiling(*self.halves[:, self.codes == t]) for t in range(len(SPECIES))])


def read_system(path: Path, temperature: float, time: float) -> System:
    """Read a reduced system: positions, types (0 A, 1 B), box, propensity and propensity_half.

    Raises
    ------
    InputError
        If the file is missing or lacks one of these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = {
                name: file[name] for name in ("positions", "types", "box", "propensity", "propensity_half")
            }
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: this is not a system of the mobility recipes ({error}).") from None
    propensity = found["propensity"].astype(np.float64).reshape(len(found["types"]), -1)[:, 0]
    halves = found["propensity_half"].astype(np.float64).reshape(2, len(propensity), -1)[:, :, 0]
    frame = Frame(
        found["positions"], found["box"], np.ones(3, dtype=bool), found["types"].astype(np.int32),
        SPECIES, units="lj",
        info={"temperature": temperature, "propensity_time": time}, fields={"propensity": propensity},
        source=path.name,
    )  # fmt: skip
    return System(path.stem, frame, propensity, halves)


def read_systems(paths: Iterable[Path], temperature: float, time: float) -> list[System]:
    """Read systems; their numbers are sorted as numbers."""
    return [read_system(path, temperature, time) for path in sorted(paths, key=_number)]


def _number(path: Path) -> tuple[int, str]:
    digits = "".join(character for character in path.stem.rpartition("_")[2] if character.isdigit())
    return int(digits or 0), path.stem


def prepare(systems: Sequence[System], folder: Path, *, cage: bool = True) -> list[Structure]:
    """Minimize the systems and sample their cages; what is made is kept in the folder and not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for system in systems:
        begin = perf_counter()
        seed = 100 * _number(Path(system.name))[0]  # other noise for every system
        found.append(structure_of(system.frame, cage=cage, seed=seed, folder=folder))
        if perf_counter() - begin > 1:
            say(f"{system.name}: structure in {perf_counter() - begin:.0f} s")
    return found
