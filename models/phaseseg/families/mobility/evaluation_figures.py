"""Figures of an evaluation: maps, scatter, correlation against time, and calibration of the uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phaseseg.families.mobility.comparison import Comparison, Group
from phaseseg.families.mobility.scores import (
    LEVELS,
    coverage,
    errors_by_uncertainty,
    mean_and_deviation,
    percentiles,
)
from phaseseg.frame import Frame
from phaseseg.report import GRAY, INK, as_label, styled
from phaseseg.specs import SCALAR_MAP

Floats = NDArray[np.float64]

COLORS, MARKERS, LINES = ("#2f6f9f", "#d9781f"), ("o", "s"), ("-", "--")
"""Of the first and the second type; markers and lines distinguish them without color."""
DIAMETERS = (1.0, 0.8)
SLAB = 1.0
"""Thickness of the slab of the map, σ: about one layer of particles."""
DOTS = 4000
"""Particles drawn in a scatter plot, at most."""


def slab(frame: Frame, fraction: float = 0.5, thickness: float = SLAB) -> tuple[NDArray[np.int64], Floats]:
    """Return the particles of a slab parallel to the first two cell vectors, and their places (n, 2) in it.

    The slab is centered at a fraction of the third cell vector.
    """
    a, b, _ = frame.cell
    first = a / np.linalg.norm(a)
    second = b - (b @ first) * first
    second /= np.linalg.norm(second)
    height = frame.volume / float(np.linalg.norm(np.cross(a, b)))
    relative = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    relative -= np.floor(relative) * frame.pbc
    depth = relative[:, 2] - fraction
    depth -= np.round(depth) * frame.pbc[2]
    chosen = np.flatnonzero(np.abs(depth) * height <= 0.5 * thickness)
    relative = relative[chosen]
    relative[:, 2] = 0
    return chosen, relative @ frame.cell @ np.stack([first, second], axis=1)


@styled
def figure_map(frame: Frame, simulated: Floats, predicted: Floats) -> Figure:
    """Simulated and predicted mobility of a thin slab next to each other, as percentiles within each type."""
    chosen, places = slab(frame)
    types = frame.species[chosen]
    size = np.ptp(places, axis=0) if len(places) else np.ones(2)
    figure = Figure(figsize=(8.2, 1.0 + 3.5 * float(np.clip(size[1] / max(size[0], 1e-9), 0.3, 2))))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    drawn = None
    for ax, values, title in zip(axes, (simulated, predicted), ("simulated", "predicted"), strict=True):
        shade = percentiles(values, frame.species)[chosen]
        # The majority first, so that the small particles of the minority are not hidden.
        for rank, code in enumerate(np.argsort(-np.bincount(frame.species), kind="stable")):
            own = types == code
            width = np.full(int(own.sum()), DIAMETERS[min(rank, 1)])
            drawn = EllipseCollection(
                width, width, np.zeros(len(width)), units="xy", offsets=places[own],
                offset_transform=ax.transData, cmap=SCALAR_MAP, edgecolors=INK,
                linewidths=(0.3, 1.4)[min(rank, 1)],
            )  # fmt: skip
            drawn.set_array(shade[own])
            drawn.set_clim(0, 100)
            ax.add_collection(drawn)
        ax.set_title(title)
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.autoscale_view()
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(axes), shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("percentile of mobility within the type")
    return figure


def _types(result: Comparison) -> list[str]:
    return list(dict.fromkeys(one.type for one in result.compared))


def _main(result: Comparison) -> list[Group]:
    """The groups of the checkpoint for the main target, one per type."""
    found: dict[str, Group] = {}
    for group in result.groups(result.name):
        found.setdefault(group.type, group)
    return list(found.values())


@styled
def figure_scatter(result: Comparison) -> Figure:
    """Predicted against simulated propensity, for every type."""
    groups = _main(result)
    figure = Figure(figsize=(0.6 + 3.3 * len(groups), 3.4), layout="constrained")
    for ax, group, color, marker in zip(
        figure.subplots(1, len(groups), squeeze=False)[0], groups, COLORS * 3, MARKERS * 3, strict=False
    ):
        target, mean, _ = group.together()
        step = -(-len(target) // DOTS)
        ax.plot(target[::step], mean[::step], marker, color=color, markersize=2.2, alpha=0.35,
                markeredgewidth=0, rasterized=True)  # fmt: skip
        if group.systems[0].meant:
            low, high = np.quantile(np.concatenate([target, mean]), [0, 1])
            ax.plot([low, high], [low, high], color=INK, linewidth=0.8)
            ax.set_aspect("equal")
        # The mean of the simulated values at a given prediction: on the line if the prediction is unbiased.
        edges = np.quantile(mean, np.linspace(0, 1, 11))
        which = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, 9)
        used = np.unique(which)
        ax.plot([target[which == k].mean() for k in used], [mean[which == k].mean() for k in used], "D",
                color="white", markeredgecolor=INK, markersize=4.5)  # fmt: skip
        rho = np.mean([one.rho for one in group.systems])
        ax.set_title(as_label(f"type {group.type}: ρ = {rho:.3f}"))
        ax.set(xlabel="simulated propensity (σ)", ylabel="predicted propensity (σ)")
    return figure


@styled
def figure_times(result: Comparison) -> Figure:
    """Correlation against the time of the target: mean and deviation over the systems, and the ceiling."""
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    ax = figure.subplots()
    for name, color, marker, line in zip(_types(result), COLORS * 3, MARKERS * 3, LINES * 3, strict=False):
        groups = [one for one in result.groups(result.name) if one.type == name and np.isfinite(one.time)]
        groups.sort(key=lambda one: one.time)
        times = [one.time for one in groups]
        rho = [mean_and_deviation([one.rho for one in group.systems]) for group in groups]
        highest = [mean_and_deviation([one.ceiling for one in group.systems])[0] for group in groups]
        ax.errorbar(
            times, [mean for mean, _ in rho], np.nan_to_num([spread for _, spread in rho]), color=color,
            marker=marker, linestyle=line, capsize=2, markersize=4.5, label=as_label(f"type {name}"),
        )  # fmt: skip
        if np.isfinite(highest).any():
            label = as_label(f"ceiling, type {name}")
            ax.plot(times, highest, color=color, linestyle=":", linewidth=1.2, marker="_",
                    markersize=9, label=label)  # fmt: skip
    ax.axhline(0, color=GRAY, linewidth=0.6)
    ax.set_xscale("log")
    ax.set(xlabel="time of the simulated propensity", ylabel="correlation with the prediction")
    ax.set_ylim(None, 1.02)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def figure_calibration(result: Comparison) -> Figure:
    """Actual against nominal coverage of intervals, and error against stated uncertainty."""
    figure = Figure(figsize=(7.0, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8)
    largest = 0.0
    for group, color, marker, line in zip(_main(result), COLORS * 3, MARKERS * 3, LINES * 3, strict=False):
        look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": line, "markersize": 4.5}
        label = as_label(f"type {group.type}")
        left.plot(LEVELS, coverage(*group.together()), label=label, **look)
        stated, error = errors_by_uncertainty(*group.together())
        right.plot(stated, error, **look)
        largest = max(largest, float(np.max([stated, error], initial=0)))
    right.plot([0, largest], [0, largest], color=GRAY, linewidth=0.8)
    left.set(xlabel="nominal coverage", ylabel="particles inside the interval", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="stated uncertainty (σ)", ylabel="rms error (σ)", xlim=(0, None), ylim=(0, None))
    left.legend(loc="upper left")
    return figure


def evaluation_figures(result: Comparison) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure, in the order of the report."""
    if result.example is not None:
        frame, simulated, predicted = result.example
        caption = (
            f"A slab of {frame.source or 'the first frame'}, {SLAB:g} σ thick. The color is the percentile "
            "among the particles of the same type. Small particles with a thick outline are the minority."
        )
        yield "map", caption, figure_map(frame, simulated, predicted)
    caption = (
        "Predicted against simulated propensity of single particles. Diamonds are means over tenths of the "
        "particles, sorted by prediction; on the line, the prediction is unbiased. Without a line, the "
        "prediction is for another time."
    )
    yield "scatter", caption, figure_scatter(result)
    times = {one.time for one in result.compared if np.isfinite(one.time)}
    if len(times) > 1:
        caption = (
            "Correlation of one prediction with the propensity at several times; bars are standard "
            "deviations over systems, dotted lines the ceiling."
        )
        yield "times", caption, figure_times(result)
    if len(result.calibration_table()):
        caption = (
            "Left: share of particles inside central intervals. Right: error of particles with a similar "
            "stated uncertainty. On the gray line, the uncertainty is right."
        )
        yield "calibration", caption, figure_calibration(result)
