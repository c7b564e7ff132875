"""The figure of an evaluation: probability of a glass against temperature, or by state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from phaseseg.report import GRAY, INK, styled

LIQUID, GLASSY = "#c8502d", "#2f6f9f"
Rows = Sequence[Mapping[str, Any]]


@styled
def figure_temperature(
    curves: Mapping[str, Rows],
    *,
    trained: tuple[float, Sequence[float]] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Probability of a glass against the temperature: means over runs, and each run as a thin line.

    Parameters
    ----------
    curves : rows with `run`, `temperature` (above 0) and `probability`, by label. With `spread` (the
        standard deviation over runs) instead of `run`, the rows are means, and bands show the spread.
    trained : temperatures of the glass and of the liquids in the training data, drawn as full and
        open triangles
    spans : shaded ranges of temperature by label, for example T_g
    """
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    ax = figure.subplots()
    for (label, (low, high)), shade in zip((spans or {}).items(), ("#e9e6da", "#dfe7ea"), strict=False):
        ax.axvspan(low, high, color=shade, zorder=0, linewidth=0)
        ax.annotate(
            label, (np.sqrt(low * high), 1.0), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", fontsize=8, color=GRAY,
        )  # fmt: skip
    looks = zip((GLASSY, LIQUID, "#4d9a5b", "#8a5aa5"), "os^D", strict=True)
    for (label, rows), (color, marker) in zip(curves.items(), looks, strict=False):
        runs: dict[Any, list[tuple[float, float]]] = {}
        for row in rows:
            runs.setdefault(row.get("run"), []).append((row["temperature"], row["probability"]))
        together: dict[float, list[float]] = {}
        for points in runs.values():
            ax.plot(*zip(*sorted(points), strict=True), color=color, linewidth=0.5, alpha=0.35)
            for t, value in points:
                together.setdefault(t, []).append(value)
        x = np.array(sorted(together))
        means = np.array([np.mean(together[t]) for t in x])
        ax.plot(x, means, color=color, marker=marker, markersize=4.5, label=label)
        if "spread" in rows[0]:
            spread = {row["temperature"]: row["spread"] for row in rows}
            error = np.array([spread[t] for t in x])
            ax.fill_between(x, means - error, means + error, color=color, alpha=0.15, linewidth=0)
    if trained is not None:
        glass, liquids = trained
        for places, color, face in (([glass], GLASSY, GLASSY), (list(liquids), LIQUID, "white")):
            ax.plot(
                places, np.full(len(places), -0.045), marker="^", linestyle="", color=color, markersize=5,
                markerfacecolor=face, transform=ax.get_xaxis_transform(), clip_on=False,
            )  # fmt: skip
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [t for k in decades for t in np.array([1, 2, 3, 5]) * 10.0**k if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.tick_params(axis="x", pad=8 if trained is not None else 3)
    ax.set(xlabel="temperature", ylabel="probability of a glass", ylim=(-0.02, 1.03))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def figure_states(rows: Rows) -> Figure:
    """Glass probability of each configuration, by its known state."""
    figure = Figure(figsize=(3.4, 3.2), layout="constrained")
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for place, (state, color) in enumerate((("liquid", LIQUID), ("glass", GLASSY))):
        values = [row["probability"] for row in rows if row["state"] == state]
        at = place + rng.uniform(-0.2, 0.2, len(values))
        ax.plot(at, values, "o", color=color, markersize=3, alpha=0.6, markeredgewidth=0)
        if values:
            ax.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color=INK, linewidth=1.3)
    ax.set_xticks([0, 1], ["liquid", "glass"])
    ax.set(xlim=(-0.5, 1.5), ylim=(-0.02, 1.03), ylabel="probability of a glass")
    return figure


def evaluation_figure(rows: Rows, gap: tuple[float, float] | None) -> Figure:
    """Plot probabilities against temperature if all configurations have one, otherwise by state.

    rows : with `run`, `state`, `temperature`, `probability` and, for networks on graphs, `mean of particles`
    gap : temperatures between which a configuration is neither glass nor liquid
    """
    if not all(isfinite(row["temperature"]) and row["temperature"] > 0 for row in rows):
        return figure_states(rows)
    curves = {"configuration": rows}
    if "mean of particles" in rows[0]:
        curves["mean of\nparticles"] = [{**row, "probability": row["mean of particles"]} for row in rows]
    return figure_temperature(curves, spans=None if gap is None else {"not scored": gap})
