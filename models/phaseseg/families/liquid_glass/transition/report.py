"""A transition analysis as files: a page, its figures and its tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from phaseseg.display import value_and_error
from phaseseg.families.liquid_glass.transition.findings import verdict
from phaseseg.families.liquid_glass.transition.result import (
    COEFFICIENTS,
    ENERGIES,
    METRICS,
    PER_PARTICLE,
    MetricTransition,
    Transition,
)
from phaseseg.fields import Column, Table
from phaseseg.report import GRAY, INK, html_settings, styled, write_report
from phaseseg.specs import FIELD_SPECS
from phaseseg.statistics import Floats, Regression

# Okabe and Ito's colors, which color-blind readers can distinguish.
FIT, BREAK, GLASS, LIQUID = "#D55E00", "#0072B2", "#0072B2", "#D55E00"
ENERGY_TITLES = {"inherent_energy": "inherent energy", "potential_energy": "potential energy"}
_BARS: dict[str, Any] = {"fmt": "o", "markersize": 3.2, "elinewidth": 1.0, "capsize": 1.8, "color": INK}


def write_transition(
    directory: str | os.PathLike[str],
    result: Transition,
    rows: Table,
    *,
    source: str,
    settings: Mapping[str, Any],
) -> Path:
    """Write `report.html`, figures (PNG) and tables (CSV, and all in `tables.json`); return the page's path.

    directory : created if missing; files of these names in it are replaced
    rows : the analyzed table, one row per frame
    source : name of the input on the page; settings : how the metrics were counted, by name
    """
    tables = {"frames": rows, **result.tables()}

    def sections(figures: dict[str, str]) -> Iterator[tuple[str, str]]:
        yield "Metrics against temperature", figures["metrics"]
        if "energy" in figures:
            found = tables["energy"].html() if "energy" in tables else ""
            yield "T_g of the inherent energy", figures["energy"] + found
        if "regression" in tables:
            # The page shows only the change of slope; the tables have all coefficients.
            shown = tables["regression"].without(*COEFFICIENTS[:3], COEFFICIENTS[4])
            yield "Change of slope at T_g", _model(result) + shown.html()
        if "scan" in figures:
            breaks = tables["breaks"].html() if "breaks" in tables else ""
            yield "Change of slope at other temperatures", figures["scan"] + breaks
        yield "Means over runs", _shown_means(tables["means"]).html()
        yield "How it was counted", html_settings(settings)

    return write_report(
        directory, title=f"Structural metrics of {source}", lead=_lead(result),
        figures=transition_figures(result), tables=tables, sections=sections,
        messages=result.messages, tiles=_tiles(result),
    )  # fmt: skip


def _model(result: Transition) -> str:
    p = result.bootstrap.least_p
    least = f" (with {len(result.runs)} runs, its p cannot be below {p:.2g})" if isfinite(p) else ""
    return (
        "<p>Least squares of metric = a0 + a1 T + a2 H + a3 T H (+ a4 T<sup>2</sup>) over all rows, with "
        "H = 1 above T_g: a3 is the slope above T_g minus the slope below. The t-test treats rows as "
        f"independent; the bootstrap treats runs as independent{least}.</p>"
    )


def _lead(result: Transition) -> str:
    n_runs, n = len(result.runs), len(result.temperature)
    size = f" of {result.n_atoms:,} particles" if result.n_atoms is not None else ""
    at = f"{n} temperatures from {result.temperature[0]:g} to {result.temperature[-1]:g}"
    return f"{n_runs} run{'s' * (n_runs > 1)}, {result.n_rows} frames{size}, " + (
        f"at {at}." if n > 1 else f"all at T = {result.temperature[0]:g}."
    )


def _tiles(result: Transition) -> Iterator[tuple[str, str]]:
    if isfinite(result.glass_temperature):
        error = result.energy.interval.error if result.energy and result.origin != "given" else np.nan
        what = "T_g, given" if result.origin == "given" else "T_g of the inherent energy"
        yield value_and_error(result.glass_temperature, error), what
    for metric in result.metrics.values():
        fit = metric.fit
        if fit is not None:
            interval = fit.bootstrap
            error = interval.error if isfinite(interval.error) else fit.errors[3]
            yield value_and_error(fit.change, error), f"a3 of {metric.title}"


def _shown_means(table: Table) -> Table:
    """The means with readable names of the counts, and temperatures as given."""
    found = {str(name): values for name, values in table.columns.items()}
    columns: dict[str, Any] = {"T": [f"{t:g}" for t in found["temperature"]], "runs": found["runs"]}
    for name, title in (METRICS | {name: ENERGY_TITLES[name] for name in ENERGIES}).items():
        if name in found:
            columns[Column(title)], columns[Column(title).error] = found[name], table.errors(name)
    return Table(table.title, columns)


# ------------------------------------------------------------------------------------- figures


def transition_figures(result: Transition) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, in the order of the page."""
    several = len(result.runs) > 1
    fitted = any(metric.fit is not None for metric in result.metrics.values())
    broken = any(metric.break_ is not None for metric in result.metrics.values())
    yield (
        "metrics",
        "The three metrics per particle."
        + (" Dots: runs; circles with bars: mean and standard error over runs." if several else "")
        + (" Orange: the regression with its change of slope at T_g (gray)." if fitted else "")
        + (" Blue: the best fit of two connected lines." if broken else ""),
        figure_metrics(result),
    )
    if "inherent_energy" in result.energies and len(result.temperature) > 1:
        found = result.energy
        yield (
            "energy",
            "Energy per particle of the minimized configurations."
            + (
                f" T_g is the crossing of the lines of glass and liquid, fitted from T = {found.lowest:g} to "
                f"{found.highest:g}, meet."
                if found is not None
                else ""
            ),
            figure_energy(result),
        )
    if any(metric.scan for metric in result.metrics.values()):
        bars = "intervals over runs" if several and result.bootstrap.counts.size else "two standard errors"
        yield (
            "scan",
            (
                f"Slope above minus slope below, for every possible T_g ({bars}). Filled: found by the "
                "t-test and over runs. Open squares: with a T^2 term."
            ),
            figure_scan(result),
        )


@styled
def figure_metrics(result: Transition) -> Figure:
    """The three metrics per particle against temperature, with fits and breaks."""
    figure = Figure(figsize=(8.8, 3.2), layout="constrained")
    size = float(result.n_atoms or result.points["n_atoms"].mean())
    for ax, (name, metric) in zip(figure.subplots(1, 3), result.metrics.items(), strict=True):
        _mark_glass(ax, result, label=True)
        if len(result.runs) > 1:
            ax.plot(
                result.points["temperature"], result.points[name] / size, ".", color=GRAY, markersize=3.4,
                alpha=0.8, markeredgewidth=0,
            )  # fmt: skip
        for x, y in _two_sides(metric):
            ax.plot(x, y / size, color=FIT, linewidth=1.7, zorder=3)
        if metric.break_ is not None and isfinite(metric.break_.lines.temperature):
            lines = metric.break_.lines
            x = np.array([metric.temperature[0], lines.temperature, metric.temperature[-1]])
            slopes = np.array([lines.below, 0.0, lines.above])
            y = lines.level + slopes * (x - lines.temperature)
            ax.plot(x, y / size, "--", color=BREAK, linewidth=1.2, zorder=4)
            ax.plot(x[1], y[1] / size, "v", color=BREAK, markersize=5, zorder=6, markeredgecolor="white")
        errors = _shown_errors(metric.error / size)
        ax.errorbar(metric.temperature, metric.mean / size, errors, zorder=5, **_BARS)
        if np.nanmin(metric.mean) < 0.35 * np.nanmax(metric.mean):
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.set_xlabel("T")
        ax.set_title(FIELD_SPECS[PER_PARTICLE[name]].title)
    return figure


def _shown_errors(errors: Floats) -> Floats | None:
    return np.nan_to_num(errors) if np.isfinite(errors).any() else None


def _two_sides(metric: MetricTransition) -> Iterator[tuple[Floats, Floats]]:
    """The two lines of the regression, below and above T_g."""
    fit = metric.fit
    if fit is not None:
        tg, t = fit.glass_temperature, metric.temperature
        for above, ends in ((False, (t[0], tg)), (True, (tg, t[-1]))):
            x = np.array(ends)
            yield x, fit.values(x, above=above)


def _mark_glass(ax: Any, result: Transition, *, label: bool = False) -> None:
    """Draw T_g as a line, and its interval as a band if T_g comes from the energy."""
    tg = result.glass_temperature
    if not isfinite(tg):
        return
    ax.axvline(tg, color=GRAY, linewidth=1.0, zorder=0)
    if result.origin != "given" and result.energy is not None and isfinite(result.energy.interval.low):
        ax.axvspan(*result.energy.interval[1:3], color=GRAY, alpha=0.16, linewidth=0, zorder=0)
    if label:
        ax.annotate(
            f"$T_g$ = {tg:.3g}", (tg, 1), (4, -2), xycoords=("data", "axes fraction"), va="top", fontsize=8.5,
            textcoords="offset points", color="#666666",
        )  # fmt: skip


@styled
def figure_energy(result: Transition) -> Figure:
    """Inherent-structure energy against temperature: the full range, and the crossing of the two lines."""
    mean, error = result.energies["inherent_energy"]
    found = result.energy
    figure = Figure(figsize=(8.8 if found else 4.8, 3.2), layout="constrained")
    panels = figure.subplots(1, 2 if found else 1, squeeze=False)[0]
    for ax in panels:
        ax.errorbar(result.temperature, mean, _shown_errors(error), zorder=5, **_BARS)
        ax.set_xlabel("T")
    panels[0].set_ylabel("inherent energy per particle")
    if found is None:
        return figure
    low, high = found.lowest, found.highest
    wide = result.temperature[result.temperature <= high].max() - low
    lines = found.lines
    for ax, reach in zip(panels, (0.12, 0.04), strict=True):
        for slope, ends, color, title in (
            (lines.below, (low, lines.temperature + 2 * reach * wide), GLASS, "glass"),
            (lines.above, (lines.temperature - reach * wide, high), LIQUID, "liquid"),
        ):
            x = np.array(ends)
            ax.plot(x, lines.level + slope * (x - lines.temperature), color=color, label=title, linewidth=1.6)
        if isfinite(found.interval.low):
            ax.axvspan(*found.interval[1:3], color=GRAY, alpha=0.16, linewidth=0)
        ax.axvline(found.temperature, color=GRAY, linewidth=1.0, zorder=0)
    inner = (result.temperature >= low) & (result.temperature <= high) & np.isfinite(mean)
    panels[1].set_xlim(low - 0.04 * wide, high + 0.04 * wide)
    bars = np.nan_to_num(error)
    bottom, top = float((mean - bars)[inner].min()), float((mean + bars)[inner].max())
    panels[1].set_ylim(bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom))
    panels[1].set_title(f"$T_g$ = {value_and_error(found.temperature, found.interval.error)}")
    panels[1].legend(loc="upper left")
    return figure


@styled
def figure_scan(result: Transition) -> Figure:
    """a3 for every possible T_g, with its interval."""
    figure = Figure(figsize=(8.8, 3.0), layout="constrained")
    for ax, metric in zip(figure.subplots(1, 3), result.metrics.values(), strict=True):
        _mark_glass(ax, result)
        ax.axhline(0, color=INK, linewidth=0.8)
        for fit in metric.scan:
            low, high = _ends(fit)
            ax.plot([fit.glass_temperature] * 2, [low, high], color=FIT, linewidth=1.1)
            ax.plot(
                fit.glass_temperature, fit.change, "o", color=FIT, markersize=4.2,
                markerfacecolor=FIT if verdict(fit) in ("steeper", "flatter") else "white",
            )  # fmt: skip
        ax.plot(
            [fit.glass_temperature for fit in metric.square_scan], [fit.change for fit in metric.square_scan],
            "s:", color=GRAY, markersize=3, markerfacecolor="white", linewidth=0.9, zorder=1,
        )  # fmt: skip
        ax.set_ylim(*_limits(metric))
        ax.set_xlabel("assumed $T_g$")
        ax.set_title(metric.title)
    figure.axes[0].set_ylabel("a3")
    return figure


def _ends(fit: Regression) -> tuple[float, float]:
    if isfinite(fit.bootstrap.low):
        return fit.bootstrap.low, fit.bootstrap.high
    return fit.change - 2 * fit.errors[3], fit.change + 2 * fit.errors[3]


def _limits(metric: MetricTransition) -> tuple[float, float]:
    """Axis limits for all values and intervals, without intervals from two or three temperatures a side."""
    values = [fit.change for fit in (*metric.scan, *metric.square_scan)]
    inner = metric.scan[2:-2] or metric.scan
    ends = [end for fit in inner for end in _ends(fit)]
    low, high = min(values + ends + [0.0]), max(values + ends + [0.0])
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin
