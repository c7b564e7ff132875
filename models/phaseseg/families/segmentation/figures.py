"""Matplotlib figures of labeled melts, independent of windows and global state.

Every function returns a `Figure`; `phaseseg.report.png` renders it. Slices through the cell are in
`slices.py`. Phases have the colors of `PHASE_CLASSES`, elements those of Okabe and Ito; both palettes are
safe for color-blind readers. Every element also has a marker of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.families.segmentation.labels.composition import MASS_DENSITY, enough_atoms
from phaseseg.families.segmentation.rules import CLEAR_CONTRAST, MIN_CONTRAST, MOLE_FRACTION, Rule
from phaseseg.fields import Fields, Table
from phaseseg.report import GRAY, INK, as_label, styled

COLOR: dict[str, Any] = {phase.name: phase.color for phase in PHASE_CLASSES}
ELEMENT_COLORS = ("#D55E00", "#009E73", "#E69F00", "#0072B2", "#CC79A7", "#56B4E9", "#000000", "#999933")
MARKERS = "os^Dv<>P"
"""Of elements, in the same order, so that curves can be told apart without color."""
_MINOR = 8.0  # at%: elements that never exceed it get a separate panel


def unit_text(rule: Rule) -> str:
    return "Å$^{-3}$" if rule.unit == "Å^-3" else rule.unit


def was_cut(fields: Fields) -> bool:
    """Whether the frame has an interface; users can also request one for single-phase frames."""
    return bool(fields.get("n_domains", fields["n_phases"] - 1) > 0)


def quantity_label(rule: Rule) -> str:
    """Return the thresholded quantity with its unit, for axes and color bars."""
    quantity = as_label(rule.quantity)
    return quantity if rule.unit == MOLE_FRACTION else f"{quantity} ({unit_text(rule)})"


@styled
def figure_histogram(fields: Fields, rule: Rule) -> Figure:
    """Distribution of the field over the voxels, with the threshold used and those of the other rules."""
    values = fields[rule.grid_name].values
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-4 * max(abs(low), abs(high), 1e-12):  # a constant needs some width
        low, high = low - 0.5 * abs(low) - 1e-12, high + 0.5 * abs(high) + 1e-12
    counts, edges = np.histogram(values, bins=90, range=(low, high))
    shares = 100 * counts / values.size
    centers, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    cut, two = float(fields[rule.level_name]), was_cut(fields)
    colors = [COLOR["rich"] if two and center > cut else COLOR["poor"] if two else GRAY for center in centers]
    figure = Figure(figsize=(5.2, 3.1), layout="constrained")
    ax = figure.subplots()
    ax.bar(centers, shares, width=width, color=colors, alpha=0.85, linewidth=0)
    # Nearly empty voxels would dwarf all other bars, so a clipped bar is labeled with its height.
    highest = float(shares.max())
    sides = [float(shares[side].max(initial=0)) for side in (centers <= cut, centers > cut)]
    second = min(sides) if two and min(sides) else float(np.sort(shares)[-2])
    limit = 1.1 * min(highest, 2 * second or highest)
    if highest > limit:
        place = centers[np.flatnonzero(shares > 0.8 * limit).max()]
        ax.annotate(f"↑ {highest:.0f} %", (place, limit), (6, -3), va="top", textcoords="offset points",
                    fontsize=8)  # fmt: skip
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, limit))
    if two:
        ax.axvline(cut, color=INK, linewidth=1.5, label=f"cut used, {cut:.4g}")
    for label, style in (("steepest", "--"), ("two-means", ":")):
        name = f"threshold_{label.replace('-', '_')}"
        if name in fields and np.isfinite(fields[name]):
            ax.axvline(fields[name], color=INK, linewidth=1.4, linestyle=style,
                       label=f"{label}, {fields[name]:.4g}")  # fmt: skip
    ax.set_xlabel(quantity_label(rule))
    ax.set_ylabel("fraction of the volume (%)")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper right")
    return figure


def element_looks(elements: Sequence[str]) -> dict[str, dict[str, str]]:
    """Assign a color and a marker to each element, in order."""
    return {
        name: {
            "color": ELEMENT_COLORS[k % len(ELEMENT_COLORS)],
            "marker": MARKERS[k % len(MARKERS)],
            "markeredgecolor": "white",
        }
        for k, name in enumerate(elements)
    }


@styled
def figure_proxigram(table: Table, band: tuple[float, float] = (np.nan, np.nan)) -> Figure:
    """Densities and contents of every element against the distance to the interface.

    Top: number densities and, dashed on the right axis, the mass density. Below: contents, if there are
    several elements; those that stay below 8 at% have a separate panel. Bins with very little space or few
    atoms are omitted. Error bars are shown if available.

    table : proxigram of one frame, or the averaged one of a `TrajectorySummary`
    band : fitted 10–90 width, Å, and its error
    """
    columns = table.columns
    elements = {name.quantity: name for name in table.values("at%")}
    densities = {name.quantity: name for name in table.values("Å^-3")}
    averaged = any(name.of is not None for name in table.headings)
    least = 0.03 * float(columns["atoms"].max(initial=0))
    enough = columns["atoms"] >= (least if averaged else max(20.0, least))
    room = columns["volume (Å^3)"] >= 0.1 * columns["volume (Å^3)"].max(initial=0)
    minor = [name for name, at in elements.items() if np.nanmax(columns[at][enough], initial=0) < _MINOR]
    major = [name for name in elements if name not in minor] or minor
    shown = [major, *([minor] if minor and minor is not major else [])] if len(elements) > 1 else []
    heights = [2.4, *(3.0 if part == major else 1.25 for part in shown)]
    figure = Figure(figsize=(6.2, 0.8 + 0.85 * sum(heights)), layout="constrained")
    top, *lower = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    looks = element_looks(list(densities))
    style: dict[str, Any] = {
        "markersize": 4.2, "markeredgewidth": 0.4, "linewidth": 1.2, "elinewidth": 0.9, "capsize": 1.6
    }  # fmt: skip

    def draw(ax: Any, column: str, where: Any, **more: Any) -> None:
        errors = table.errors(column)
        if errors is not None and not np.isfinite(errors[where]).any():
            errors = None
        bars = None if errors is None else errors[where]
        ax.errorbar(columns["distance (Å)"][where], columns[column][where], bars, **style | more)

    for name, column in densities.items():
        draw(top, column, room, label=as_label(name), **looks[name])
    top.set_ylabel("density (Å$^{-3}$)")
    if np.isfinite(columns[MASS_DENSITY][room]).any():
        right = top.twinx()
        draw(right, MASS_DENSITY, room, color=GRAY, marker=None, linestyle="--")
        right.set_ylim(0, None)
        right.set_ylabel("mass (g/cm$^3$, dashed)")
    for ax, part in zip(lower, shown, strict=True):
        for name in part:
            draw(ax, elements[name], enough, label=as_label(name), **looks[name])
        ax.set_ylabel("content (at%)")
    width, error = band
    for ax in (top, *lower):
        ax.set_ylim(0, None)
        ax.axvline(0, color=INK, linewidth=0.8)
        if np.isfinite(width):
            ax.axvspan(-width / 2, width / 2, color=GRAY, alpha=0.16, linewidth=0)
        ax.legend(loc="center left", bbox_to_anchor=(1.01 if ax is not top else 1.13, 0.5))
    figure.axes[len(heights) - 1].set_xlabel("distance to the interface (Å)")
    if np.isfinite(width):
        text = f"{width:.2f} ± {error:.2f}" if np.isfinite(error) else f"{width:.2f}"
        top.set_title(f"10–90 width {text} Å", fontsize=8.5)
    for name, text, place, side in (("poor", "← poor", 0.0, "left"), ("rich", "rich →", 1.0, "right")):
        top.text(place, 1.015, text, ha=side, va="bottom", transform=top.transAxes,
                 color=COLOR[name], fontweight="bold")  # fmt: skip
    return figure


@styled
def figure_composition(table: Table) -> Figure:
    """Composition of the two phases by weight and by atoms, with error bars; diamonds mark the bulk.

    table : composition of one frame, or the averaged one of a `TrajectorySummary`
    """
    rows = {str(row["phase"]): row for row in table.rows() if enough_atoms(row)}
    bars: list[str] = [name for name in ("rich", "poor") if name in rows] or ["all"]
    elements = [name.quantity for name in table.values("at%")]
    units = [
        unit
        for unit in ("wt%", "at%")  # no weights without masses
        if any(np.isfinite(table.columns[name]).any() for name in table.values(unit))
    ]
    figure = Figure(figsize=(1.2 + (0.55 + 0.24 * len(elements)) * 2 * len(units), 3.2), layout="constrained")
    for ax, unit in zip(figure.subplots(1, len(units), squeeze=False)[0], units, strict=True):
        step = 0.8 / len(bars)
        top = 0.0
        for k, phase in enumerate(bars):
            names, row, bulk = table.values(unit), rows[phase], rows.get(f"{phase} bulk", {})
            values = np.array([float(row[name]) for name in names])
            errors = np.array([float(row.get(name.error, np.nan)) for name in names])
            inner = np.array([float(bulk.get(name, np.nan)) for name in names])
            places = np.arange(len(elements)) + (k - (len(bars) - 1) / 2) * step
            ax.bar(places, values, step * 0.94, color=COLOR.get(phase, GRAY), label=phase)
            shown = np.isfinite(errors)
            ax.errorbar(places[shown], values[shown], errors[shown], fmt="none", ecolor=INK, elinewidth=1,
                        capsize=2)  # fmt: skip
            ax.plot(places, inner, "D", color="white", markeredgecolor=INK, markersize=4.2,
                    markeredgewidth=0.9, label="bulk" if k == len(bars) - 1 else None)  # fmt: skip
            highest = np.fmax(np.fmax(values, values + np.nan_to_num(errors)), np.nan_to_num(inner))
            top = max(top, float(np.nanmax(highest, initial=0)))
            for place, value, height in zip(places, values, highest, strict=True):
                if np.isfinite(value):
                    ax.annotate(_short(value), (place, height), (0, 4.5), textcoords="offset points",
                                ha="center", va="bottom", fontsize=7)  # fmt: skip
        ax.set_xticks(np.arange(len(elements)), list(map(as_label, elements)))
        ax.tick_params(axis="x", length=0)
        ax.set_ylim(0, 1.12 * top if top else 1)
        ax.set_ylabel(f"content ({unit})")
        entries = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        if not any(f"{phase} bulk" in rows for phase in bars):
            entries.pop("bulk")
        names = sorted(entries, key=lambda name: name == "bulk")
        ax.legend([entries[name] for name in names], names, loc="upper right")
    return figure


def _short(value: float) -> str:
    """Format a content with about three significant digits."""
    return "0" if abs(value) < 0.005 else f"{value:.2f}" if value < 1 else f"{value:.1f}"


@styled
def figure_time_series(table: Table) -> Figure:
    """Time series: contrast, rich fraction, width and area of the interface, and contents.

    table : `time_series` of a `TrajectorySummary`
    """
    columns = table.columns
    x_name = next((name for name in ("time (ps)", "timestep") if name in columns), "frame")
    x = columns[x_name].astype(float)
    panels = list(_time_panels(table))
    figure = Figure(figsize=(6.4, 0.55 + 1.1 * len(panels)), layout="constrained")
    style: dict[str, Any] = {"marker": "o", "markersize": 3.2, "markeredgewidth": 0.3, "linewidth": 1.1}
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (label, lines) in zip(axes, panels, strict=True):
        for name, legend, look in lines:
            ax.plot(x, columns[name].astype(float), label=legend, **style | look)
        ax.set_ylabel(label, fontsize=8.5)
        if lines[0][0] == "phase_contrast":
            ax.axhspan(*CLEAR_CONTRAST, color=GRAY, alpha=0.16, linewidth=0, label="uncertain")
            ax.axhline(MIN_CONTRAST, color=INK, linewidth=0.9, linestyle="--", label="two phases above")
            ax.set_ylim(0, None)
        if len(ax.get_legend_handles_labels()[1]):
            ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        ax.margins(x=0.01)
    figure.axes[-1].set_xlabel({"timestep": "MD step"}.get(x_name, x_name))
    figure.align_ylabels()
    return figure


def _time_panels(table: Table) -> Iterator[tuple[str, list[tuple[str, str | None, dict[str, Any]]]]]:
    """Yield the label of each panel and its lines (column, legend, look)."""
    plain = {"color": INK}
    column = {name.quantity: name for name in table.values(part="")}
    if name := column.get("phase_contrast"):
        yield "contrast", [(name, None, plain)]
    shares: list[tuple[str, str | None, dict[str, Any]]] = [
        (column[f"rich_{kind}_fraction"], "atoms" if kind == "atom" else kind, {"color": c, "marker": marker})
        for kind, c, marker in (("mass", COLOR["rich"], "o"), ("volume", INK, "s"), ("atom", GRAY, "^"))
        if f"rich_{kind}_fraction" in column
    ]
    if shares:
        yield "rich fraction", shares
    for quantity, label in (("area", "area (Å$^2$)"), ("width", "width (Å)")):
        if name := column.get(f"interface_{quantity}"):
            yield f"interface\n{label}", [(name, None, plain)]
    for phase in ("rich", "poor"):
        names = table.values("wt%", part=phase)
        looks = element_looks([name.quantity for name in names])
        # The main element of a metal would flatten all other curves, so it gets its own panel.
        alone = [float(np.nanmax(table.columns[name])) > 60 for name in names]
        for apart in (True, False):
            lines: list[tuple[str, str | None, dict[str, Any]]] = [
                (name, as_label(name.quantity), looks[name.quantity])
                for name, main in zip(names, alone, strict=True)
                if main is apart
            ]
            if lines:
                yield f"{phase} phase\n(wt%)", lines


@styled
def figure_boundary_scan(table: Table) -> Figure:
    """Variance and mean of the content of the rich phase against the boundary width (the paper's Fig. 2)."""
    widths = table.columns["boundary width (Å)"]
    (mean_name,), (variance_name,) = table.values("wt%"), table.values("wt%^2")
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(widths, table.columns[variance_name], "o-", color=COLOR["poor"], markersize=4)
    upper.set_ylim(0, None)
    species = as_label(mean_name.quantity)
    upper.set_ylabel(f"variance of {species}\nin the rich phase (wt%$^2$)")
    best = np.flatnonzero(table.columns["least variance"])
    if len(best):
        for ax in (upper, lower):
            ax.axvline(widths[best[0]], color=INK, linewidth=1, linestyle="--")
        upper.set_title(f"least variance at {widths[best[0]]:.2f} Å")
    errors = np.nan_to_num(table.columns[mean_name.error])
    lower.errorbar(widths, table.columns[mean_name], errors, color=COLOR["rich"], marker="o", markersize=4,
                   capsize=2)  # fmt: skip
    lower.set_ylabel(f"{species} in the rich\nphase (wt%)")
    lower.set_xlabel("boundary width (Å)")
    figure.align_ylabels()
    return figure
