"""Systems to learn from: configurations with what was measured of their particles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.families.mobility.comparison import targets_of
from phaseseg.families.mobility.scores import ceiling, pearson
from phaseseg.families.mobility.settings import SPECIES, MobilitySettings
from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.specs import Progress
from phaseseg.training.card import value_range
from phaseseg.training.runs import Run, RunData, read_runs, refuse_copies

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class System:
    """One configuration.

    name : of its file, with the number of the frame if there are several
    group : systems of one group are never divided between training and validation
    codes : (n_atoms,) int32; 0 for A, 1 for B
    values : (n_targets, n_atoms), what was measured
    halves : for each target (n_atoms, 2) means over each half of the runs, or None
    """

    name: str
    group: str
    frame: Frame
    codes: NDArray[np.int32]
    values: Values
    halves: tuple[Values | None, ...]

    def ceiling(self, target: int, code: int) -> float:
        """Correlation that a perfect predictor would reach for particles of a type; NaN without halves."""
        halves = self.halves[target]
        return float("nan") if halves is None else ceiling(*halves[self.codes == code].T)

    def correlation(self, target: int, code: int, predicted: NDArray[Any]) -> float:
        """Pearson correlation of (n_atoms,) predictions with a target, over the particles of a type."""
        own = self.codes == code
        return pearson(self.values[target, own], np.asarray(predicted, dtype=np.float64)[own])


@dataclass(frozen=True)
class Quantity:
    """What is learned: the name of its column, and the time at which it was measured, or None."""

    name: str
    time: float | None

    @property
    def label(self) -> str:
        return self.name if self.time is None else f"{self.name} at t = {self.time:g}"


def read_systems(
    data: RunData | Iterable[RunData],
    targets: Sequence[str] = ("propensity",),
    *,
    times: Sequence[float] = (),
    species: tuple[str, str] = SPECIES,
    types: Types = None,
    names: Names = None,
    units: Units = "metal",
    what: str = "run",
    note: Progress = lambda done, line: None,
) -> tuple[list[System], list[Quantity], list[Run]]:
    """Read the configurations of files or iterables of frames, and what was measured of their particles.

    Parameters
    ----------
    targets : names of columns; see `comparison.targets_of` for their times
    times : those to learn; all that every configuration has if left out
    species : names of A and B
    types, names, units : as in `read_frames`

    Returns
    -------
    systems, quantities, runs
        The quantities are those that all systems have, in the order of the targets.

    Raises
    ------
    ValueError
        For frames of other units, without one of the columns or with another species; if the configurations
        have no time in common, or one of them is there twice.
    """
    runs = read_runs(data, types=types, names=names, units=units, columns=True, what=what, note=note)
    refuse_copies(runs)
    found: list[tuple[str, str, Frame, Mapping[Quantity, Any]]] = []
    for run in runs:
        for number, frame in enumerate(run.frames):
            if frame.units != "lj":
                raise ValueError(
                    f"{frame.source or run.name}: lengths are in Å, but these networks need reduced units. "
                    "If the file is in reduced units but does not say so, read it with "
                    f"{option('units', 'lj')}."
                )
            measured = {}
            for name in targets:
                for one in targets_of(frame, name):
                    measured[Quantity(name, None if isnan(one.time) else one.time)] = one
            name = run.name if len(run.frames) == 1 else f"{run.name}, frame {number}"
            found.append((name, run.group, frame, measured))
    if not found:
        raise ValueError("there are no configurations to learn from.")
    quantities = [one for one in found[0][3] if all(one in measured for *_, measured in found)]
    if times:
        quantities = [one for one in quantities if one.time is not None and _among(one.time, times)]
    if not quantities:
        asked = f" at the times {', '.join(f'{time:g}' for time in times)}" if times else ""
        raise ValueError(
            f"the configurations have no {' or '.join(targets)}{asked} in common; check the columns and "
            "their times."
        )
    systems = [
        System(
            name, group, frame, codes_of(frame, species),
            np.stack([measured[one].values for one in quantities]),
            tuple(measured[one].halves for one in quantities),
        )
        for name, group, frame, measured in found
    ]  # fmt: skip
    return systems, quantities, runs


def read_training_systems(
    data: RunData | Iterable[RunData], settings: MobilitySettings, note: Progress
) -> tuple[list[System], list[Quantity], list[Run]]:
    """Read the systems that the settings of a training name; see `read_systems`."""
    return read_systems(
        data, settings.target, times=settings.times, species=(settings.species[0], settings.species[1]),
        types=settings.types, names=settings.names,
        units=settings.units or "metal", note=note,  # type: ignore[arg-type]
    )  # fmt: skip


def _among(time: float, times: Sequence[float]) -> bool:
    return any(abs(time - one) <= 1e-6 * one for one in times)


def codes_of(frame: Frame, species: tuple[str, str]) -> NDArray[np.int32]:
    """(n_atoms,) 0 for A and 1 for B; ValueError for another species, and if one of the two is missing."""
    present = [frame.species_names[code] for code in np.unique(frame.species)]
    if sorted(present) != sorted(species):
        raise ValueError(
            f"{frame.error_prefix}the species are {', '.join(present) or 'none'}, but {species[0]} (A) and "
            f"{species[1]} (B) were expected; name them with species, or rename the types."
        )
    is_b = np.array([name == species[1] for name in frame.species_names], dtype=np.int32)
    return np.asarray(is_b[frame.species], dtype=np.int32)


def ranges_of(systems: Sequence[System]) -> dict[str, list[float]]:
    """Density, share of B and temperature of the systems, as `Checkpoint.ranges` has them."""
    ranges = {
        "number_density": value_range([s.frame.n_atoms / s.frame.volume for s in systems]),
        "b_fraction": value_range([float(s.codes.mean()) for s in systems]),
    }
    temperatures = [s.frame.info["temperature"] for s in systems if "temperature" in s.frame.info]
    if len(temperatures) == len(systems):
        ranges["temperature"] = value_range(temperatures)
    return ranges


def folds_of(systems: Sequence[System], folds: int) -> NDArray[np.int64]:
    """(n_systems,) the fold of each; groups stay together, and are dealt out in turn.

    Raises
    ------
    ValueError
        For fewer groups than folds.
    """
    groups = list(dict.fromkeys(system.group for system in systems))
    if len(groups) < folds:
        raise ValueError(
            f"{len(groups)} independent system{'s' * (len(groups) != 1)} cannot be divided into {folds} "
            "folds; give more runs (one file each) or fewer folds."
        )
    place = {group: number % folds for number, group in enumerate(groups)}
    return np.array([place[system.group] for system in systems])
