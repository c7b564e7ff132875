"""Structural metrics against temperature: means over runs, and how far the slope changes at T_g.

Works on a table with one row per frame, as `phaseseg metrics` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.liquid_glass.transition.findings import findings
from phaseseg.families.liquid_glass.transition.result import (
    ENERGIES,
    METRICS,
    Break,
    EnergyCrossing,
    MetricTransition,
    Transition,
)
from phaseseg.fields import Message, Table
from phaseseg.statistics import NO_INTERVAL, Bootstrap, Floats, TwoLines, break_scan, slope_change, two_lines

MOST_TEMPERATURES = 60
REACH = 2.0
"""The line of the liquid is fitted up to this multiple of T_g: above it the energy bends to a plateau."""
OTHER_REACHES = (1.5, 3.0)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Means of the runs at each temperature.

    temperature : (n_temperatures,) rising; means : (n_runs, n_temperatures), NaN where a run has no rows
    rows : (n_runs, n_temperatures) number of rows in each mean
    """

    temperature: Floats
    means: Floats
    rows: Floats

    @classmethod
    def of(cls, temperature: Floats, values: Floats, run: NDArray[np.int64], n_runs: int) -> _Grid:
        distinct, column = np.unique(temperature, return_inverse=True)
        sums, rows = np.zeros((2, n_runs, len(distinct)))
        np.add.at(sums, (run, column), values)
        np.add.at(rows, (run, column), 1.0)
        with np.errstate(invalid="ignore"):
            return cls(distinct, sums / rows, rows)

    def mean_and_error(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Mean over runs, its standard error (NaN for one run) and the number of runs, per temperature."""
        n = (self.rows > 0).sum(axis=0)
        filled = np.where(self.rows > 0, self.means, 0.0)
        mean = filled.sum(axis=0) / n
        squares = (np.where(self.rows > 0, self.means - mean, 0.0) ** 2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return mean, np.where(n > 1, np.sqrt(squares / (n - 1) / n), nan), n

    def over(self, temperature: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """As `mean_and_error`, on a larger set of temperatures; NaN and 0 runs where there are no values."""
        place = np.searchsorted(temperature, self.temperature)
        mean, error = np.full((2, len(temperature)), nan)
        n = np.zeros(len(temperature), dtype=np.int64)
        mean[place], error[place], n[place] = self.mean_and_error()
        return mean, error, n

    def pooled(self, counts: Floats) -> tuple[Floats, Floats]:
        """(n, n_temperatures) means and numbers of rows, with each run counted `counts` (n, n_runs) times."""
        weights = counts @ self.rows
        sums = counts @ np.where(self.rows > 0, self.means * self.rows, 0.0)
        return np.where(weights > 0, sums / np.where(weights > 0, weights, 1), 0.0), weights


def _break(grid: _Grid, bootstrap: Bootstrap) -> Break | None:
    """Least-squares break of a metric; None below five temperatures, where two lines always fit."""
    if len(grid.temperature) < 5:
        return None
    everyone = np.ones((1, bootstrap.n_runs))
    (values,), (weights,) = grid.pooled(everyone)
    lines = two_lines(grid.temperature, values, weights)
    interval = bootstrap.interval(two_lines(grid.temperature, *grid.pooled(bootstrap.counts)).temperature)
    x = (grid.temperature - grid.temperature.mean()) / np.ptp(grid.temperature)
    smooth = []
    for degree in (1, 2):
        design = np.vander(x, degree + 1) * np.sqrt(weights)[:, None]
        left = np.sqrt(weights) * values
        smooth.append(float(((left - design @ np.linalg.lstsq(design, left, rcond=None)[0]) ** 2).sum()))
    return Break(lines, interval, lines.squares, *smooth)


def energy_crossing(
    temperature: ArrayLike, energy: ArrayLike, run: ArrayLike, *, bootstrap: Bootstrap | None = None,
    reach: float = REACH,
) -> EnergyCrossing | None:  # fmt: skip
    """Find T_g where the lines of glass and liquid cross in the inherent-structure energy.

    On cooling, the inherent-structure energy of the liquid falls until the liquid drops out of equilibrium;
    then it stays almost constant. `two_lines` finds both lines and their crossing together. Far above T_g
    the energy bends to a plateau, so the fit is limited to `reach` times T_g: it uses the largest range of
    temperatures that ends below `reach` times the resulting T_g and in which the energy rises faster above
    the break. T_g depends on `reach` (`others` shows how much) and on the cooling rate.

    Parameters
    ----------
    temperature, energy : (n_rows,) float64, finite
    run : (n_rows,) integers from 0
    bootstrap : resamples of runs; the range is chosen anew in each
    reach : more than 1

    Returns None for fewer than five temperatures, or if no range has such a break.
    """
    if reach <= 1:
        raise ValueError(f"reach must be more than 1, found {reach}.")
    t, e = np.asarray(temperature, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    runs = np.asarray(run)
    n_runs = bootstrap.n_runs if bootstrap is not None else int(runs.max(initial=0)) + 1
    grid = _Grid.of(t, e, runs, n_runs)
    if len(grid.temperature) < 5:
        return None
    everyone = grid.pooled(np.ones((1, n_runs)))
    lines, last = _crossing(grid.temperature, *everyone, reach)
    if not isfinite(lines.temperature[0]):
        return None
    interval = NO_INTERVAL
    if bootstrap is not None:
        drawn, _ = _crossing(grid.temperature, *grid.pooled(bootstrap.counts), reach)
        interval = bootstrap.interval(drawn.temperature)
    others = {
        other: float(_crossing(grid.temperature, *everyone, other)[0].temperature[0])
        for other in OTHER_REACHES
        if other != reach
    }
    chosen = TwoLines(*(float(column[0]) for column in lines))
    ends = float(grid.temperature[0]), float(grid.temperature[last[0]])
    return EnergyCrossing(chosen.temperature, interval, chosen, *ends, others)


def _crossing(
    temperature: Floats, values: Floats, weights: Floats, reach: float
) -> tuple[TwoLines, NDArray[np.int64]]:
    """Fitted lines for each row of `values`, and the index of the last temperature in each fit."""
    found = [np.full(len(values), nan) for _ in TwoLines._fields]
    last = np.zeros(len(values), dtype=np.int64)
    for end in range(4, len(temperature)):
        lines = two_lines(temperature[: end + 1], values[:, : end + 1], weights[:, : end + 1])
        with np.errstate(invalid="ignore"):
            own = (temperature[end] <= reach * lines.temperature) & (lines.above > lines.below)
        for column, new in zip(found, lines, strict=True):
            column[own] = new[own]
        last[own] = end
    return TwoLines(*found), last


# ----------------------------------------------------------------------------------- analysis


def analyze_transition(
    table: Table | Mapping[str, ArrayLike],
    *,
    glass_temperature: float | None = None,
    n_bootstrap: int = 5000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Transition:
    """Analyze metrics against temperature: means, change of slope at T_g, and T_g from the inherent energy.

    Parameters
    ----------
    table : columns with one row per frame
        `run` (names or numbers), `temperature`, `n_atoms` and the counts `n_disjoint_graphs`, `n_bb_edges`,
        `n_isolated_a`; optional `inherent_energy` and `potential_energy` (per particle), `seed` and
        `cooling_steps`. Rows without a finite temperature, and values of a metric or energy that are not
        finite, are left out, and a message gives their number. More than 60 different temperatures (for
        example kinetic ones) are merged into 60 groups of neighboring values, each with its mean temperature.
    glass_temperature : T_g of the regression; by default that of the inherent-structure energy. If neither
        is available, only the scan shows how slopes change
    n_bootstrap : resamples of runs; 0 for none
    seed, confidence : of the bootstrap

    Returns
    -------
    Transition
        If the number of atoms varies, counts are rescaled to the mean number of atoms, and a message says so.

    Raises
    ------
    ValueError
        If a column is missing, columns differ in length, nothing finite is left, or T_g is not positive.

    Examples
    --------
    >>> T = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] * 4
    >>> kink = [max(0.0, t - 0.35) * 100 + 5 for t in T]
    >>> table = {"run": [k // 6 for k in range(24)], "temperature": T, "n_atoms": [100] * 24,
    ...          "n_disjoint_graphs": kink, "n_bb_edges": kink, "n_isolated_a": kink}
    >>> found = analyze_transition(table, glass_temperature=0.35)
    >>> round(found.metrics["n_bb_edges"].fit.change, 1)
    100.0
    """
    columns, messages = _checked(table)
    if glass_temperature is not None and not (isfinite(glass_temperature) and glass_temperature > 0):
        raise ValueError(f"T_g must be a positive temperature, found {glass_temperature}.")
    names, run = np.unique(np.asarray(columns["run"]).astype(str), return_inverse=True)
    temperature, grouped = _grouped(columns["temperature"])
    messages += grouped
    bootstrap = Bootstrap(len(names), n_bootstrap, seed=seed, confidence=confidence)
    n_atoms = columns["n_atoms"]
    same = bool(np.ptp(n_atoms) == 0)
    if not same:
        text = (
            f"Frames have {n_atoms.min():.0f} to {n_atoms.max():.0f} particles, so all counts were rescaled "
            f"to the mean of {n_atoms.mean():.0f} particles."
        )
        messages.append(Message(text, "sizes-differ"))
    energies: dict[str, tuple[Floats, Floats]] = {}
    distinct = np.unique(temperature)
    for name in ENERGIES:
        values = columns.get(name)
        if values is not None and np.isfinite(values).any():
            grid = _Grid.of(*_finite(temperature, values, run), len(names))
            energies[name] = grid.over(distinct)[:2]
    crossing = None
    if "inherent_energy" in energies:
        known = _finite(temperature, columns["inherent_energy"], run)
        crossing = energy_crossing(*known, bootstrap=bootstrap)
    tg, origin = (nan, "") if crossing is None else (crossing.temperature, "inherent energy")
    if glass_temperature is not None:
        tg, origin = float(glass_temperature), "given"
    metrics = {}
    points = {"temperature": temperature, "n_atoms": n_atoms}
    for name in METRICS:
        values = columns[name] if same else columns[name] / n_atoms * n_atoms.mean()
        points[name] = values
        missing = np.count_nonzero(~np.isfinite(values))
        if missing:
            text = f"{missing} of {len(values)} rows have no number of {METRICS[name]} and are left out."
            messages.append(Message(text, "rows-without-metric"))
        metrics[name] = _metric(name, *_finite(temperature, values, run), distinct, tg, bootstrap)
    result = Transition(
        tuple(names.tolist()), len(temperature), int(n_atoms[0]) if same else None, distinct, tg, origin,
        crossing, metrics, energies, bootstrap, points,
    )  # fmt: skip
    return replace(result, messages=(*messages, *findings(result, columns)))


def _checked(table: Table | Mapping[str, ArrayLike]) -> tuple[dict[str, Any], list[Message]]:
    """Columns of the rows that have a temperature, and messages about the other rows."""
    given: Mapping[str, ArrayLike] = table.columns if isinstance(table, Table) else table
    missing = [name for name in ("run", "temperature", "n_atoms", *METRICS) if name not in given]
    if missing:
        raise ValueError(f"The table of metrics has no column {missing[0]!r}; it has {', '.join(given)}.")
    columns: dict[str, Any] = {"run": np.asarray(given["run"])}
    for name in ("temperature", "n_atoms", *METRICS, *ENERGIES, "seed", "cooling_steps"):
        if name in given:
            columns[name] = np.asarray(given[name], dtype=np.float64)
    n_rows = len(columns["run"])
    for name, values in columns.items():
        if values.shape != (n_rows,):
            raise ValueError(
                f"The columns of the table of metrics must have equal lengths, but run has {n_rows} rows and "
                f"{name} has the shape {values.shape}."
            )
    if not n_rows:
        raise ValueError("The table of metrics has no rows.")
    known = np.isfinite(columns["temperature"])
    if not known.any():
        raise ValueError("No row of the table of metrics has a temperature.")
    if (columns["temperature"][known] <= 0).any():
        worst = float(columns["temperature"][known].min())
        raise ValueError(f"Temperatures must be above 0, found {worst:g} in the table of metrics.")
    kept = {name: values[known] for name, values in columns.items()}
    if not (np.isfinite(kept["n_atoms"]) & (kept["n_atoms"] > 0)).all():
        raise ValueError("Every row of the table of metrics must have a number of atoms above 0.")
    for name in METRICS:
        if not np.isfinite(kept[name]).any():
            raise ValueError(f"No row of the table of metrics has a number in the column {name!r}.")
    text = f"{np.count_nonzero(~known)} of {n_rows} rows have no temperature and are left out."
    return kept, [] if known.all() else [Message(text, "rows-without-temperature")]


def _grouped(temperature: Floats) -> tuple[Floats, list[Message]]:
    """Temperatures merged into at most `MOST_TEMPERATURES` values, and a message if any were merged."""
    distinct, place = np.unique(temperature, return_inverse=True)
    if len(distinct) <= MOST_TEMPERATURES:
        return temperature, []
    groups = np.array_split(distinct, MOST_TEMPERATURES)
    means = np.concatenate([np.full(len(group), group.mean()) for group in groups])
    text = (
        f"Frames have {len(distinct):,} different temperatures, which were merged into {MOST_TEMPERATURES} "
        "groups. Use the temperatures of the thermostat, which are the same in all runs."
    )
    return means[place], [Message(text, "temperatures-grouped")]


def _finite(
    temperature: Floats, values: Floats, run: NDArray[np.int64]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    kept = np.isfinite(values)
    return temperature[kept], values[kept], run[kept]


def _metric(
    name: str, temperature: Floats, values: Floats, run: NDArray[np.int64], distinct: Floats, tg: float,
    bootstrap: Bootstrap,
) -> MetricTransition:  # fmt: skip
    grid = _Grid.of(temperature, values, run, bootstrap.n_runs)
    fit = square = None
    if isfinite(tg):
        fit = slope_change(temperature, values, tg, run=run, bootstrap=bootstrap)
        square = slope_change(temperature, values, tg, run=run, bootstrap=bootstrap, square=True)
    return MetricTransition(
        name, distinct, *grid.over(distinct), fit, square,
        break_scan(temperature, values, run=run, bootstrap=bootstrap),
        break_scan(temperature, values, run=run, bootstrap=bootstrap, square=True),
        _break(grid, bootstrap), _largest_rise(grid),
    )  # fmt: skip


def _largest_rise(grid: _Grid) -> tuple[float, float, float, float]:
    """Largest rise of the mean on cooling: start and end temperature, size and its standard error."""
    mean, error, _ = grid.mean_and_error()
    if len(mean) < 2:
        return nan, nan, 0.0, nan
    rise = np.where(np.tri(len(mean), k=-1, dtype=bool).T, mean[:, None] - mean, -np.inf)  # cold - hot
    cold, hot = np.unravel_index(int(np.argmax(rise)), rise.shape)
    # Errors add in quadrature, as if the two temperatures had independent runs.
    both = sqrt(error[cold] ** 2 + error[hot] ** 2)
    return float(grid.temperature[hot]), float(grid.temperature[cold]), float(rise[cold, hot]), both
