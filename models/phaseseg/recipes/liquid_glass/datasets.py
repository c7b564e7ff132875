"""Configurations of many runs, and the sets of liquid and glass that networks are trained and tested on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import nan, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.liquid_glass.baselines import kob_andersen_energies
from phaseseg.families.liquid_glass.crops import Cells, cells_of
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.liquid_glass.states import number_of
from phaseseg.frame import Frame
from phaseseg.io import read_frames
from phaseseg.simulate.kob_andersen import inherent_path

Floats = NDArray[np.float64]

LIQUIDS = (1.99, 1.76, 0.96, 0.55, 0.44)
"""Temperatures of the liquids of the first five sets; the sixth has one of the energy of its glass."""
GLASS = 0.05

# Configurations -----------------------------------------------------------------------------------


class State(NamedTuple):
    """Configurations that were cooled in this number of steps, to this temperature."""

    cooling_steps: int
    temperature: float

    def holds(self, frame: Frame) -> bool:
        return (
            cooling_of(frame) == self.cooling_steps and abs(temperature_of(frame) - self.temperature) < 1e-6
        )


@dataclass(frozen=True)
class GlassSet:
    """Glass of one state against liquid of another.

    name : for headings
    """

    name: str
    glass: State
    liquid: State

    def label(self, frame: Frame) -> bool | None:
        """Whether a frame is glass; None where it is of neither state. What `fit_liquid_glass` takes."""
        return True if self.glass.holds(frame) else False if self.liquid.holds(frame) else None


def six_sets(slow: int, fast: int, matched: float) -> list[GlassSet]:
    """The sets of Swanson et al. (DOI 10.48550/arXiv.1909.04648).

    In five the glass was cooled slowly, and the liquids have the temperatures `LIQUIDS`; in the sixth the
    glass was cooled fast and the liquid has `matched`, where its minima are as deep as those of the glass.

    slow, fast : cooling steps
    """
    sets = [
        GlassSet(f"{number} (T = {t:g})", State(slow, GLASS), State(slow, t))
        for number, t in enumerate(LIQUIDS, start=1)
    ]
    return [*sets, GlassSet(f"6 (T = {matched:g}, fast)", State(fast, GLASS), State(slow, matched))]


def liquid_temperature(name: str) -> float:
    """Return the temperature of the liquid in the set of this name."""
    (found,) = re.findall(r"T = ([\d.]+)", name)
    return float(found)


def label_of_all(sets: Sequence[GlassSet]) -> Callable[[Frame], bool | None]:
    """Whether a frame is glass, or liquid, in any of the sets."""

    def label(frame: Frame) -> bool | None:
        return next((found for one in sets if (found := one.label(frame)) is not None), None)

    return label


def temperature_of(frame: Frame) -> float:
    return number_of(frame, "temperature")


def cooling_of(frame: Frame) -> int:
    return round(number_of(frame, "cooling_steps"))


@dataclass(frozen=True, eq=False)
class Configurations:
    """Configurations of several runs.

    frames : each with `temperature`, `cooling_steps` and `seed` in `Frame.info`
    inherent : (n_atoms,) energies of the particles in the minimum of each, where known
    """

    frames: Sequence[Frame]
    inherent: Sequence[Floats] = ()
    _cells: dict[Any, Cells] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    def number(self, key: str) -> Floats:
        """(n,) of each in `Frame.info`."""
        return np.array([number_of(frame, key) for frame in self.frames])

    @property
    def run(self) -> NDArray[np.int64]:
        """(n,) seeds: of one run are those that share it."""
        return np.rint(self.number("seed")).astype(np.int64)

    def states(self, one: GlassSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) whether each is in a set, and whether it is a glass there."""
        labels = [one.label(frame) for frame in self.frames]
        return np.array([label is not None for label in labels]), np.array(
            [label is True for label in labels]
        )

    def take(self, which: Sequence[int] | NDArray[np.int64]) -> Configurations:
        """Some of them."""
        inherent = [self.inherent[k] for k in which] if len(self.inherent) else ()
        return Configurations([self.frames[k] for k in which], inherent)

    def of(self, *states: State) -> Configurations:
        """Those of some states."""
        return self.take([k for k, f in enumerate(self.frames) if any(state.holds(f) for state in states)])

    def cells(self, config: GlassConfig) -> Cells:
        """As windows are cut from them."""
        key = config.species, config.dimensions
        if key not in self._cells:
            codes = [config.codes_of(frame) for frame in self.frames]
            self._cells[key] = cells_of(self.frames, codes, config.dimensions)
        return self._cells[key]

    @cached_property
    def energies(self) -> Floats:
        """Potential energies of all particles of all configurations, one after the other."""
        return np.concatenate([kob_andersen_energies(frame) for frame in self.frames])

    @property
    def inherent_energies(self) -> Floats | None:
        """The same in the minima, where they are known."""
        return np.concatenate(list(self.inherent)) if len(self.inherent) else None


def read_configurations(
    runs: Iterable[str | os.PathLike[str]],
    *,
    states: Sequence[State] | None = None,
    minimized: bool = False,
    energies: bool = False,
) -> Configurations:
    """The configurations of files, one run each.

    Parameters
    ----------
    runs : files of thermal configurations, `NAME.xyz.gz`; their minima are in the same folder, in
        `NAME.inherent.xyz.gz`
    states : only these
    minimized : the minima instead
    energies : also the energies of all particles in the minima, by which windows can be judged

    Raises
    ------
    ValueError
        If nothing is found.
    """

    def read(path: Path) -> list[Frame]:
        frames = read_frames(path, units="lj")
        return [f for f in frames if states is None or any(state.holds(f) for state in states)]

    frames: list[Frame] = []
    inherent: list[Floats] = []
    for run in map(Path, runs):
        minima = read(inherent_path(run)) if minimized or energies else []
        frames += minima if minimized else read(run)
        if energies:
            inherent += [kob_andersen_energies(frame) for frame in minima]
    if not frames:
        raise ValueError("none of the files holds a configuration of the states that are asked for.")
    if energies and len(inherent) != len(frames):
        raise ValueError(f"{len(frames)} configurations have {len(inherent)} minima; make the data again.")
    return Configurations(frames, inherent)


# Matched energies ---------------------------------------------------------------------------------


def _error(values: Floats) -> float:
    return float(values.std(ddof=1) / sqrt(len(values))) if len(values) > 1 else nan


def matched_temperature(
    development: Configurations, slow: int, fast: int
) -> tuple[float, list[dict[str, float]], tuple[float, float]]:
    """The temperature of the slowly cooled liquid whose minima are as deep as those of the fast glass.

    Returns
    -------
    It; a row for each temperature, the nearest first: mean energy per particle and its error over n runs,
    difference to the glass, also over the error of both (sigmas); mean and standard error of the glass.
    """
    energy, t = development.number("inherent_energy"), development.number("temperature")
    steps = np.rint(development.number("cooling_steps"))
    glass = energy[(steps == fast) & (np.abs(t - GLASS) < 1e-6)]
    warmer = [x for x in np.unique(t[steps == slow]).tolist() if x > GLASS]
    if not len(glass) or not warmer:
        raise ValueError(
            f"energies are matched between glasses cooled in {fast:,} steps and liquids cooled in {slow:,}, "
            "and one of the two is missing."
        )
    matches = []
    for temperature in warmer:
        liquid = energy[(steps == slow) & (t == temperature)]
        both = sqrt(_error(liquid) ** 2 + _error(glass) ** 2)
        difference = float(liquid.mean() - glass.mean())
        matches.append({
            "temperature": temperature, "mean": float(liquid.mean()), "error": _error(liquid),
            "difference": difference, "sigmas": difference / both if both else nan, "n": len(liquid),
        })  # fmt: skip
    matches.sort(key=lambda one: abs(one["difference"]))
    return matches[0]["temperature"], matches, (float(glass.mean()), _error(glass))
