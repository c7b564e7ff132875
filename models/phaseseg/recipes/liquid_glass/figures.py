"""Figures of the study: transfer between sets, windows of all sizes, attention.

In the spirit of Figs. 6 to 9 of Swanson et al. (DOI 10.48550/arXiv.1909.04648). Every function returns a
`Figure`; `phaseseg.report.png` draws one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.liquid_glass.evaluation_figures import GLASSY, LIQUID
from phaseseg.families.liquid_glass.fields import PAIRS, PARTICLES
from phaseseg.fields import Bonds
from phaseseg.frame import Frame
from phaseseg.report import GRAY, INK, styled

MARKERS = "os^vD*"
SHADES = ("#b2182b", "#d6604d", "#e8a06a", "#67a9cf", "#2166ac", "#222222")
"""Of the six sets: five liquids from hot to cold, and the one of matched energy."""
_BLUES = LinearSegmentedColormap.from_list("area", ["#fbe9e3", "#ffffff", "#9cc3de", GLASSY])

_A, _ALONE, _B = (one.color for one in PARTICLES)
_EDGE, _PAIR, _LEFT_OUT = PAIRS[1].color, PAIRS[2].color, "#e3e3e1"
_DIAMETERS = {False: 0.62, True: 0.5}  # σ, of A and B: smaller than particles, so that edges show


# Tables of numbers --------------------------------------------------------------------------------


@styled
def figure_transfer(
    matrices: Mapping[str, ArrayLike], names: Sequence[str], *, label: str = "area under the curve"
) -> Figure:
    """Networks trained on one set (rows) and tested on another (columns).

    Parameters
    ----------
    matrices : heading and (n, n) numbers of each panel, from 0.5 (a coin) to 1
    names : of the sets, short ones
    """
    n = len(matrices)
    figure = Figure(figsize=(0.9 + 3.1 * n, 3.3), layout="constrained")
    image = None
    axes = figure.subplots(1, n, squeeze=False)[0]
    for ax, (title, values) in zip(axes, matrices.items(), strict=True):
        table = np.asarray(values, dtype=float)
        image = ax.imshow(table, cmap=_BLUES, vmin=0.4, vmax=1.0)
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                ax.text(column, row, _short(value), ha="center", va="center", fontsize=7.5,
                        color="white" if value > 0.93 else INK)  # fmt: skip
        ax.set_xticks(range(len(names)), names)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
        ax.set_xlabel("tested on set")
    axes[0].set_ylabel("trained on set")
    if image is not None:
        bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.86, pad=0.02, label=label)
        bar.outline.set_visible(False)
    return figure


def _short(value: float) -> str:
    """`1` for what has no error at all, else three or, close to 1, four digits."""
    if value == 1:
        return "1"
    text = f"{value:.4f}" if 0.9995 <= value < 1 else f"{value:.3f}"
    return text if text not in ("1.0000", "1.000") else ">.9999"


@styled
def figure_against_edge(rows: Sequence[Mapping[str, Any]], *, trained: tuple[float, float]) -> Figure:
    """Areas under the curve against the edge of windows, a curve for each set; bands are their errors.

    Parameters
    ----------
    rows : of the table of a card: `edge (σ)`, and for each set its name and `± name`
    trained : edges, σ, of the windows that the networks were trained on, shaded
    """
    names = [name for name in rows[0] if f"± {name}" in rows[0]]
    ends = [float(row["edge (σ)"]) for row in rows if row["edge (σ)"] != "whole"]
    whole = 1.6 * max(ends)
    x = [*ends, whole]
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axvspan(*trained, color="#efefec", zorder=0, linewidth=0)
    for name, color, marker in zip(names, SHADES, MARKERS, strict=True):
        auc, error = (np.array([row[key] for row in rows]) for key in (name, f"± {name}"))
        ax.fill_between(x, auc - error, np.minimum(auc + error, 1), color=color, alpha=0.15, linewidth=0)
        ax.plot(x, auc, color=color, marker=marker, markersize=5.5, linewidth=1, label=name)
    ax.axhline(1, color=GRAY, linewidth=0.6, zorder=0)
    ax.set_xscale("log")
    ticks = [*ends[::2], whole]
    ax.set_xticks(ticks, [*(f"{edge:g}" for edge in ends[::2]), "whole"])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="edge of the window (σ)", ylabel="area under the curve")
    figure.legend(loc="outside right center", title="set", alignment="left")
    return figure


# Attention ----------------------------------------------------------------------------------------


class AttentionPicture(NamedTuple):
    """One configuration with its edges.

    title : above it; is_b : (n_atoms,) bool; cut : attention from which on an edge is kept
    """

    title: str
    frame: Frame
    is_b: NDArray[np.bool_]
    bonds: Bonds
    cut: float


@styled
def figure_attention(pictures: Sequence[AttentionPicture], *, edge: float = 22.0) -> Figure:
    """Attention graphs of configurations in a plane: kept edges, those between two B, and isolated A.

    Edges that are kept are drawn the darker the more attention they have, the others faintly. Isolated A
    are those without a kept edge.

    edge : σ, of the square in the middle of the cell that is shown
    """
    n = len(pictures)
    figure = Figure(figsize=(3.55 * n, 4.05))
    width = 0.98 / n
    for k, one in enumerate(pictures):
        ax = figure.add_axes((0.01 + k * width, 0.115, width - 0.01, 0.80))
        _draw_attention(ax, one, edge)
        ax.set_title(one.title, fontsize=9)
    dots = ((_A, "A in a graph"), (_ALONE, "isolated A"), (_B, "B"))
    lines = ((_EDGE, 2.4, "kept edge"), (_PAIR, 2.4, "kept B–B edge"), (_LEFT_OUT, 1.6, "edge left out"))
    marks = [
        Line2D([], [], color=color, label=label, marker="o", linestyle="", markersize=7, markeredgecolor=GRAY,
               markeredgewidth=0.4)
        for color, label in dots
    ]  # fmt: skip
    marks += [Line2D([], [], color=color, linewidth=width, label=label) for color, width, label in lines]
    figure.legend(
        handles=marks, loc="lower center", ncols=6, handletextpad=0.3, columnspacing=1.2, handlelength=1.4
    )
    return figure


def _draw_attention(ax: Any, one: AttentionPicture, edge: float) -> None:
    frame, bonds = one.frame, one.bonds
    weight = np.asarray(bonds.columns["attention"], dtype=float)
    keep = weight >= np.float32(one.cut)
    touched = np.zeros(frame.n_atoms, dtype=bool)
    touched[bonds.atoms[keep].ravel()] = True
    cell = frame.cell[:2, :2]
    # All images that may show, of a cell whose corner is at 0.
    places = (frame.positions - frame.origin)[:, :2]
    low = 0.5 * cell.sum(axis=0) - 0.5 * edge
    images = [np.array((a, b)) @ cell for a in (-1, 0, 1) for b in (-1, 0, 1)]
    start = places[bonds.atoms[:, 0]]
    stop = places[bonds.atoms[:, 1]] + bonds.shifts[:, :2] @ cell
    bb = np.asarray(bonds.columns["bb"], dtype=bool)
    strength = np.clip(np.log(np.maximum(weight, 1e-9) / max(one.cut, 1e-9)), 0, 2) / 2
    for chosen, color, base, more, order in (
        (~keep, _LEFT_OUT, 0.8, 0.0, 1), (keep & ~bb, _EDGE, 1.0, 1.2, 2), (keep & bb, _PAIR, 1.8, 1.0, 3),
    ):  # fmt: skip
        segments, widths = [], []
        for move in images:
            a, b = start[chosen] + move - low, stop[chosen] + move - low
            near = ((np.minimum(a, b) < edge) & (np.maximum(a, b) > 0)).all(axis=1)
            segments.append(np.stack([a[near], b[near]], axis=1))
            widths.append(base + more * strength[chosen][near])
        lines, thick = list(np.concatenate(segments)), np.concatenate(widths)
        ax.add_collection(
            LineCollection(lines, colors=color, linewidths=thick, zorder=order, capstyle="round")
        )
    for is_b, marked, color, order in ((False, True, _A, 4), (True, None, _B, 5), (False, False, _ALONE, 6)):
        chosen = one.is_b if is_b else ~one.is_b & (touched == marked)
        at = np.concatenate([places[chosen] + move - low for move in images])
        at = at[((at > -1) & (at < edge + 1)).all(axis=1)]
        size = np.full(len(at), _DIAMETERS[is_b])
        ax.add_collection(
            EllipseCollection(
                size, size, np.zeros(len(at)), units="xy", offsets=at, offset_transform=ax.transData,
                facecolors=color, edgecolors="#8f8f8d", linewidths=0.3, zorder=order,
            )
        )  # fmt: skip
    ax.set(xlim=(0, edge), ylim=(0, edge), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)


@styled
def figure_attention_metrics(
    numbers: Mapping[str, Mapping[str, ArrayLike]], *, titles: Mapping[str, str]
) -> Figure:
    """The numbers of attention graphs, a dot for each configuration, and their medians.

    Parameters
    ----------
    numbers : label of a state, in the order of the picture, the glass last; and its numbers by name
    titles : of each number
    """
    figure = Figure(figsize=(2.45 * len(titles), 2.9), layout="constrained")
    rng = np.random.default_rng(0)
    for ax, (name, title) in zip(
        figure.subplots(1, len(titles), squeeze=False)[0], titles.items(), strict=True
    ):
        for k, own in enumerate(numbers.values()):
            values = np.asarray(own[name], dtype=float)
            color = GLASSY if k == len(numbers) - 1 else LIQUID
            at = k + rng.uniform(-0.22, 0.22, len(values))
            ax.plot(at, values, "o", color=color, markersize=2.6, alpha=0.6, markeredgewidth=0)
            ax.plot([k - 0.32, k + 0.32], [np.median(values)] * 2, color=INK, linewidth=1.3)
        ax.set_xticks(range(len(numbers)), list(numbers), rotation=45, ha="right")
        ax.set_title(title)
        ax.set_ylim(0, None)
    return figure
