"""Predicted against simulated propensities: targets in the columns of frames, scores, and tables of them.

The unit is the system, one configuration: the correlation is computed for every system and type, and then
averaged. The correlation over the particles of all systems together is also given, because some papers use
it; it is usually higher, since it includes differences between systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.families.mobility.scores import LEVELS, coverage, mean_and_deviation, pearson
from phaseseg.fields import Column, Message, Table, plain
from phaseseg.frame import Frame

Floats = NDArray[np.float64]

HALVES = "_half"
"""End of the name of the column (n_atoms, 2) with the means over each half of the runs."""
STATED = 0.9
"""Level of the intervals whose coverage is printed."""


# ----------------------------------------------------------------------------------------- targets


class Target(NamedTuple):
    """A simulated propensity of one frame.

    time : at which it was measured, in the time unit of the frame; NaN if unknown
    values : (n_atoms,) float64
    halves : (n_atoms, 2) float64 or None, means over each half of the runs
    main : whether it is in the column of the plain name
    """

    time: float
    values: Floats
    halves: Floats | None
    main: bool


def targets_of(frame: Frame, name: str) -> list[Target]:
    """Return the propensities in the columns of a frame, the one of the plain name first, then by time.

    These are the column NAME and the columns NAME_..., such as `propensity_1`, whose time is known. The time
    of a column is `Frame.info["COLUMN_time"]`. `COLUMN_half` (n_atoms, 2) has the means over each half of the
    runs.

    Raises
    ------
    ValueError
        If there is no such column, one has a value that is not finite, or it was predicted.
    """
    if (stated := f"{name}_uncertainty") in frame.fields:
        raise ValueError(
            f"{frame.error_prefix}the column {name!r} was predicted, because the frame also has {stated!r}. "
            "Give the file with the simulated values, or name their column with "
            f"{option('target')}."
        )
    found = []
    for column, values in frame.fields.items():
        time = float(frame.info.get(f"{column}_time", nan))
        main = column == name
        if not main and not (column.startswith(f"{name}_") and isfinite(time)):
            continue
        halves = frame.fields.get(column + HALVES)
        for what, wanted, array in (("", 1, values), (HALVES, 2, halves)):
            if array is None:
                continue
            if np.ndim(array) != wanted or (wanted == 2 and np.shape(array)[1] != 2):
                shape = "one number" if wanted == 1 else "two numbers"
                raise ValueError(
                    f"{frame.error_prefix}the column {column + what} must have {shape} per particle."
                )
            if not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
                raise ValueError(
                    f"{frame.error_prefix}{column + what} of particle {row + 1} is not a finite number; "
                    "remove the frame or repair the column."
                )
        halves = None if halves is None else np.asarray(halves, np.float64)
        found.append(Target(time, np.asarray(values, np.float64), halves, main))
    if not found:
        there = ", ".join(frame.fields) or "no further columns"
        raise ValueError(
            f"{frame.error_prefix}there is no column {name!r} to compare with; the frame has {there}. Name "
            f"another one with {option('target')}."
        )
    at = {one.time for one in found if one.main}
    return sorted(
        (one for one in found if one.main or one.time not in at), key=lambda one: (not one.main, one.time)
    )


# ----------------------------------------------------------------------------------------- scores


class Compared(NamedTuple):
    """One method compared with one target, for the particles of one type in one system.

    target, mean : (n,) float64; uncertainty : (n,) float64, NaN if the method has none
    main : whether the target is in the column of the plain name
    meant : whether the prediction is for this time, so that errors mean something
    """

    system: int
    method: str
    type: str
    time: float
    main: bool
    meant: bool
    target: Floats
    mean: Floats
    uncertainty: Floats
    ceiling: float

    @property
    def rho(self) -> float:
        return pearson(self.target, self.mean)

    @property
    def rmse(self) -> float:
        return sqrt(float(np.mean((self.target - self.mean) ** 2)))


class Group(NamedTuple):
    """All comparisons of one method, type and time."""

    method: str
    type: str
    time: float
    systems: Sequence[Compared]

    def together(self) -> tuple[Floats, Floats, Floats]:
        """Targets, means and uncertainties of the particles of all systems."""
        first, second, third = (
            np.concatenate([getattr(one, name) for one in self.systems])
            for name in ("target", "mean", "uncertainty")
        )
        return first, second, third

    @property
    def has_intervals(self) -> bool:
        """Whether there are intervals that are meant for this target."""
        return all(
            one.meant and bool(np.isfinite(one.uncertainty).all() and one.uncertainty.any())
            for one in self.systems
        )


RHO, OF_CEILING = Column("rho"), Column("rho / ceiling")


@dataclass
class Comparison:
    """Predicted against simulated propensities.

    name : name of the checkpoint
    target : name of the column compared with
    systems : run, frame and number of particles of every system
    compared : every comparison; the first method is the checkpoint, the others are single descriptors
    example : the first frame, its target and the prediction, for the map
    """

    name: str
    target: str
    systems: list[dict[str, Any]] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    example: tuple[Frame, Floats, Floats] | None = None

    def __len__(self) -> int:
        """Number of systems."""
        return len(self.systems)

    def groups(self, method: str | None = None) -> list[Group]:
        """Return the comparisons of all methods or of one, by type, time and method.

        The main time comes first, the others in their order.
        """
        found: dict[tuple[str, bool, float, str], list[Compared]] = {}
        for one in self.compared:
            if method in (None, one.method):
                key = one.type, not one.main, one.time if isfinite(one.time) else -1.0, one.method
                found.setdefault(key, []).append(one)
        types = list(dict.fromkeys(one.type for one in self.compared))
        methods = list(dict.fromkeys(one.method for one in self.compared))
        order = sorted(found, key=lambda key: (types.index(key[0]), *key[1:3], methods.index(key[3])))
        return [Group(key[3], key[0], found[key][0].time, found[key]) for key in order]

    def score_table(self) -> Table:
        """One row per method, type and time. ± is the standard deviation over the systems."""
        rows = []
        for group in self.groups():
            target, mean, uncertainty = group.together()
            rho = mean_and_deviation([one.rho for one in group.systems])
            part = mean_and_deviation([one.rho / one.ceiling for one in group.systems])
            rms = mean_and_deviation([one.rmse for one in group.systems])[0]
            errors = group.method == self.name and group.systems[0].meant
            inside = coverage(target, mean, uncertainty, [STATED])[0] if group.has_intervals else nan
            rows.append(
                {
                    "method": group.method, "type": group.type, "time": group.time,
                    "systems": len(group.systems), RHO: rho[0], RHO.error: rho[1],
                    OF_CEILING: part[0], OF_CEILING.error: part[1],
                    "ceiling": mean_and_deviation([one.ceiling for one in group.systems])[0],
                    "rho, all particles pooled": pearson(target, mean),
                    "rms error": rms if errors else nan,
                    f"inside {STATED:.0%} intervals": inside,
                }
            )  # fmt: skip
        return Table.of_rows("Correlation with the simulated propensity", rows)

    def system_table(self) -> Table:
        """One row per system, type and time, for the checkpoint."""
        rows = [
            {**self.systems[one.system], "type": one.type, "time": one.time, "particles": len(one.target),
             "rho": one.rho, "ceiling": one.ceiling, "rho / ceiling": one.rho / one.ceiling,
             "rms error": one.rmse if one.meant else nan}
            for one in self.compared if one.method == self.name
        ]  # fmt: skip
        return Table.of_rows("Systems", rows)

    def calibration_table(self) -> Table:
        """Nominal and actual coverage of central intervals, by type and time."""
        rows = []
        for group in self.groups(self.name):
            if group.has_intervals:
                target, mean, uncertainty = group.together()
                rows += [
                    {"type": group.type, "time": group.time, "nominal": level, "actual": found}
                    for level, found in zip(LEVELS, coverage(target, mean, uncertainty), strict=True)
                ]
        return Table.of_rows("Coverage of intervals", rows, ("type", "time", "nominal", "actual"))

    def tables(self) -> dict[str, Table]:
        tables = {"scores": self.score_table(), "systems": self.system_table()}
        calibration = self.calibration_table()
        return tables | ({"calibration": calibration} if len(calibration) else {})

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain values; None if undefined."""
        return {
            "method": self.name, "target": self.target, "systems": len(self),
            "tables": plain(self.tables()), "messages": plain(self.messages),
        }  # fmt: skip
