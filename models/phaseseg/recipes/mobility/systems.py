"""The systems of the mobility recipes: configurations with propensities, and their prepared structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
OWN_DATA = Path(__file__).with_name("data")
"""Folder of the own systems, which come with the sources."""


@dataclass(frozen=True)
class State:
    """A temperature at which there are labeled systems.

    temperature : in ε/k; time : of the propensity, the structural relaxation time
    pattern : of the names of the files of systems
    source : where they come from, for cards
    held : names of systems that no checkpoint is trained on
    """

    temperature: float
    time: float
    pattern: str
    source: str
    held: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"Kob–Andersen liquid at T = {self.temperature:g}: propensity at the relaxation time"


STATES: Mapping[float, State] = {
    one.temperature: one
    for one in (
        State(
            0.44, 4120.0, "config_*.npz",
            "ten systems of the data of H. Shiba, M. Hanai, T. Suzumura, T. Shimokawabe, BOTAN, J. Chem. "
            "Phys. 158, 084503 (2023): h3-Open-BDEC/pyg_botan, small_data (Apache-2.0); 4096 particles, 32 "
            "isoconfigurational runs each",
        ),
        State(
            0.64, 16.5, "ka3d_t064_s*.npz",
            "own systems, made by python -m phaseseg.recipes.mobility.data; 4096 particles, equilibrated for "
            "ten relaxation times, 32 isoconfigurational runs each",
            ("ka3d_t064_s001",),
        ),
    )
}  # fmt: skip
"""By temperature. The first own system is the liquid of the demonstration and of the pages."""


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


def systems_at(state: State, folder: Path) -> tuple[list[System], list[System]]:
    """Read the systems of a state: those for training and cross-validation, and those that are held back.

    Raises
    ------
    SystemExit
        If the folder has fewer than two systems for training.
    """
    found = read_systems(folder.glob(state.pattern), state.temperature, state.time)
    used = [system for system in found if system.name not in state.held]
    if len(used) < 2:
        raise SystemExit(
            f"{folder} has {len(used)} of the systems {state.pattern} for training at T = "
            f"{state.temperature:g}; at least 2 are needed. Give their folder with --data."
        )
    return used, [system for system in found if system.name in state.held]


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
