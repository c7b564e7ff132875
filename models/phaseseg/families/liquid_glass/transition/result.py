"""Result of an analysis of the glass transition: lines, metrics against temperature, tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Column, Message, Table
from phaseseg.statistics import Bootstrap, Floats, Interval, Regression, TwoLines

METRICS = {"n_disjoint_graphs": "disjoint graphs", "n_bb_edges": "B–B edges", "n_isolated_a": "isolated A"}
"""The three counts, with their names in sentences and figures."""

PER_PARTICLE = {
    "n_disjoint_graphs": "disjoint_graphs_per_particle",
    "n_bb_edges": "bb_edges_per_particle",
    "n_isolated_a": "isolated_a_per_particle",
}
ENERGIES = ("inherent_energy", "potential_energy")


COEFFICIENTS = tuple(Column(f"a{k}") for k in range(5))
"""Columns of the coefficients of the regression; a3 is the change of slope at T_g."""
CHANGE, TG, BREAK = COEFFICIENTS[3], Column("T_g"), Column("break")


@dataclass(frozen=True)
class Break:
    """Break between two connected lines, with its spread over resampled runs.

    interval : of the temperature of the break; its p has no meaning
    residual, line_residual, parabola_residual : weighted sums of squared residuals of two connected lines
        (four coefficients), one line (two) and a parabola (three)
    """

    lines: TwoLines
    interval: Interval
    residual: float
    line_residual: float
    parabola_residual: float


@dataclass(frozen=True)
class EnergyCrossing:
    """T_g of the inherent-structure energy; see `energy_crossing`.

    temperature : T_g
    interval : over resampled runs
    lines : glass below, liquid above
    lowest, highest : range of the fit, temperatures
    others : T_g for other values of `reach`
    """

    temperature: float
    interval: Interval
    lines: TwoLines
    lowest: float
    highest: float
    others: Mapping[float, float]


@dataclass(frozen=True, eq=False)
class MetricTransition:
    """One metric against temperature.

    name : name of its column
    mean, error : (n_temperatures,) float64, over runs
    n_runs : (n_temperatures,) int64
    fit, square : Eq. 12 at T_g, without and with T^2; None without T_g or with too little data
    scan : Eq. 12 at every possible T_g
    break_ : the best fit of two connected lines
    rise : the largest rise on cooling: start and end temperature, size, standard error
    """

    name: str
    temperature: Floats
    mean: Floats
    error: Floats
    n_runs: NDArray[np.int64]
    fit: Regression | None
    square: Regression | None
    scan: list[Regression]
    square_scan: list[Regression]
    break_: Break | None
    rise: tuple[float, float, float, float]

    @property
    def title(self) -> str:
        return METRICS[self.name]

    @property
    def falls(self) -> bool:
        """Whether it is lower at the lowest temperature than at the highest, and `rises` is false."""
        return bool(self.mean[0] < self.mean[-1]) and not self.rises

    @property
    def rises(self) -> bool:
        """Whether it rises anywhere on cooling, by more than three standard errors if these are known."""
        _, _, by, error = self.rise
        return by > 0 and (by > 3 * error if isfinite(error) else by > 0.1 * float(np.ptp(self.mean)))


@dataclass(frozen=True, eq=False)
class Transition:
    """Analysis of the glass transition from a table of metrics; see `analyze_transition`.

    runs : names of the runs
    n_rows : number of rows used
    n_atoms : number of atoms in every row, or None if it varies
    glass_temperature : T_g of the regression, or NaN
    origin : "given", "inherent energy" or "" for none
    energy : crossing of the inherent-structure energy
    metrics : by name
    energies : (mean, error) of each energy, by name
    points : `temperature`, `n_atoms` and each metric of the rows
    messages : what can and what cannot be concluded
    """

    runs: tuple[str, ...]
    n_rows: int
    n_atoms: int | None
    temperature: Floats
    glass_temperature: float
    origin: str
    energy: EnergyCrossing | None
    metrics: Mapping[str, MetricTransition]
    energies: Mapping[str, tuple[Floats, Floats]]
    bootstrap: Bootstrap
    points: Mapping[str, Floats]
    messages: tuple[Message, ...] = ()

    def tables(self) -> dict[str, Table]:
        """Tables of means, fits and breaks; a column `X ±` is the standard error of the column `X`.

        `means` has one row per temperature, averaged over runs. `regression` has one row per metric and
        model: a0 to a3 (and a4), p of the t-test, and for a3 the interval and p of the bootstrap over runs.
        `scan` has a3 for every possible T_g. `breaks` has the best fit of two connected lines, compared with
        one line and a parabola. `energy` has T_g of the inherent-structure energy. Empty tables are left out.
        """
        tables = {
            "means": self._means(),
            "regression": Table.of_rows("Change of slope at T_g", [*self._regression_rows()]),
            "scan": Table.of_rows("Change of slope at other temperatures", [*self._scan_rows()]),
            "breaks": Table.of_rows("Best break of each metric", [*self._break_rows()]),
            "energy": Table.of_rows("T_g of the inherent-structure energy", [*self._energy_rows()]),
        }
        return {name: table for name, table in tables.items() if len(table)}

    def _means(self) -> Table:
        series = {name: (metric.mean, metric.error) for name, metric in self.metrics.items()}
        if self.n_atoms is not None:
            n = self.n_atoms
            series |= {PER_PARTICLE[name]: (mean / n, error / n) for name, (mean, error) in series.items()}
        n_runs = next(iter(self.metrics.values())).n_runs
        columns: dict[str, NDArray[Any]] = {"temperature": self.temperature, "runs": n_runs}
        for name, (mean, error) in (series | dict(self.energies)).items():
            columns[Column(name)], columns[Column(name).error] = mean, error
        return Table("Means over runs", columns)

    def _regression_rows(self) -> Iterator[dict[str, Any]]:
        for metric in self.metrics.values():
            for model, fit in (("Eq. 12", metric.fit), ("Eq. 12 and T^2", metric.square)):
                if fit is None:
                    continue
                row: dict[str, Any] = {"metric": metric.title, "model": model, TG: fit.glass_temperature}
                values, errors = ((*numbers, nan)[:5] for numbers in (fit.coefficients, fit.errors))
                for column, value, error in zip(COEFFICIENTS, values, errors, strict=True):
                    row |= {column: value, column.error: error}
                interval = fit.bootstrap
                yield row | {
                    "p of a3": fit.p[3], "a3 low": interval.low, "a3 high": interval.high,
                    "bootstrap error of a3": interval.error, "bootstrap p of a3": interval.p,
                    "rows": fit.n_rows, "residual": fit.residual, "R^2": fit.r_squared,
                }  # fmt: skip

    def _scan_rows(self) -> Iterator[dict[str, Any]]:
        for metric in self.metrics.values():
            squares = {fit.glass_temperature: fit for fit in metric.square_scan}
            for fit in metric.scan:
                square = squares.get(fit.glass_temperature)
                yield {
                    "metric": metric.title, TG: fit.glass_temperature, CHANGE: fit.change,
                    CHANGE.error: fit.errors[3], "p of a3": fit.p[3], "a3 low": fit.bootstrap.low,
                    "a3 high": fit.bootstrap.high, "bootstrap p of a3": fit.bootstrap.p,
                    "R^2": fit.r_squared, "a3 with T^2": square.change if square else nan,
                    "p of a3 with T^2": square.p[3] if square else nan,
                }  # fmt: skip

    def _break_rows(self) -> Iterator[dict[str, Any]]:
        for metric in self.metrics.values():
            if metric.break_ is not None:
                found, lines = metric.break_, metric.break_.lines
                yield {
                    "metric": metric.title, BREAK: lines.temperature, BREAK.error: found.interval.error,
                    "low": found.interval.low, "high": found.interval.high, "slope below": lines.below,
                    "slope above": lines.above, "squares, two lines": found.residual,
                    "squares, one line": found.line_residual, "squares, parabola": found.parabola_residual,
                }  # fmt: skip

    def _energy_rows(self) -> Iterator[dict[str, Any]]:
        found = self.energy
        if found is not None:
            yield {
                TG: found.temperature, TG.error: found.interval.error, "low": found.interval.low,
                "high": found.interval.high, "slope of the glass": found.lines.below,
                "slope of the liquid": found.lines.above, "fitted from": found.lowest,
                "fitted to": found.highest,
                **{f"T_g, liquid up to {reach:g} T_g": value for reach, value in found.others.items()},
            }  # fmt: skip
