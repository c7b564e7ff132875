"""Figures of an evaluation: ROC, confusion, reliability, F1, composition, and slices side by side.

They follow Figs. 5 to 10 of S. Shakya and B. B. Karki, KDIR 2025 (DOI 10.5220/0013709400004000).
Every function returns a `Figure`; `phaseseg.report.png` renders it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phaseseg.families.segmentation.comparison import CLASSES, CONTENTS, DIFFERENCE, Comparisons, Example
from phaseseg.families.segmentation.fields import BOUNDARY
from phaseseg.families.segmentation.figures import COLOR, ELEMENT_COLORS
from phaseseg.families.segmentation.slices import (
    REACH,
    Panels,
    _Plane,
    dot,
    draw_atoms,
    draw_slab,
    phase_marks,
)
from phaseseg.fields import Grid, Table
from phaseseg.report import GRAY, INK, as_label, styled

LINES = ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""Of the methods after the first, so that they can be told apart without color."""
_BLUES = LinearSegmentedColormap.from_list("share", ["#ffffff", COLOR["poor"]])
_DIFFERENCES = (
    ("#e4e4e4", "the same"),
    (ELEMENT_COLORS[2], "differs by the boundary"),
    ("#c2185b", "on the other side"),
)


def short_name(method: str) -> str:
    """Return the name of a method for a legend; for checkpoints, the part after the family."""
    return as_label(method.rpartition("/")[2] if " " not in method else method)


@styled
def figure_roc(result: Comparisons) -> Figure:
    """ROC curves of all methods with a score; the false positive rate is on a logarithmic scale."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    ax = figure.subplots()
    for k, method in enumerate(m for m in result.methods if not m.startswith("member ")):
        pooled = result.pooled(method)
        table = pooled.roc()
        if not len(table):
            continue
        x, y = table.columns["false positive rate"], table.columns["true positive rate"]
        auc = pooled.numbers()["auc"]
        # A logarithmic axis has no zero: the curve starts at half an atom.
        least = 0.5 / max(int(pooled.sides[0].sum()), 1)
        look: dict[str, Any] = {
            "color": ELEMENT_COLORS[(k - 1) % len(ELEMENT_COLORS)],
            "linestyle": LINES[(k - 1) % len(LINES)],
            "linewidth": 1.2,
            "zorder": 2,
        }
        if k == 0:
            look = {"color": INK, "linewidth": 2.0, "zorder": 3}
        ax.plot(np.maximum(x, least), y, label=f"{short_name(method)}: {auc:.4f}", **look)
    ax.set_xscale("log")
    ax.set(xlim=(1e-5, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="area under the curve", alignment="left")
    return figure


@styled
def figure_confusion(result: Comparisons) -> Figure:
    """Confusion matrix for every boundary width: fraction of each reference class, and number of atoms."""
    pooled = result.pooled()
    widths = pooled.widths
    figure = Figure(figsize=(0.5 + 3.0 * len(widths), 3.2), layout="constrained")
    for ax, width in zip(figure.subplots(1, len(widths), squeeze=False)[0], widths, strict=True):
        counts = pooled.confusion[width]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(shares, cmap=_BLUES, vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            text = f"{100 * share:.1f} %\n{counts[row, column]:,}"
            color = "white" if share > 0.6 else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
        ax.set_xticks(range(3), CLASSES)
        ax.set_yticks(range(3), CLASSES, rotation=90, va="center")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(f"boundary {width:g} Å")
        ax.set_xlabel("prediction")
        if ax is figure.axes[0]:
            ax.set_ylabel("reference")
    return figure


@styled
def figure_reliability(result: Comparisons) -> Figure:
    """Observed fraction of rich atoms against predicted probability, and the number of atoms per bin."""
    pooled = result.pooled()
    table = pooled.reliability()
    figure = Figure(figsize=(3.9, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", label="ideal")
    if len(table):
        columns = table.columns
        atoms = np.asarray(columns["atoms"])
        share, mean = np.asarray(columns["share that is rich"]), np.asarray(columns["mean probability"])
        filled = atoms > 0
        # Binomial error for independent atoms. Neighbors are correlated, so true errors are larger.
        error = np.sqrt(np.maximum(share * (1 - share), 0)[filled] / atoms[filled])
        upper.errorbar(mean[filled], share[filled], error, color=COLOR["poor"], marker="o", markersize=4,
                       capsize=2, linewidth=1.3, label="found")  # fmt: skip
        edges = np.append(columns["from"], columns["to"][-1])
        lower.stairs(np.maximum(atoms, 0.5), edges, baseline=0.5, fill=True, color=COLOR["poor"], alpha=0.6)
        lower.set_yscale("log")
        lower.set_ylim(0.5, None)
        upper.set_title(f"expected calibration error {pooled.numbers()['calibration']:.4f}")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is rich")
    upper.legend(loc="upper left")
    lower.set(xlabel="predicted probability of rich", ylabel="atoms")
    return figure


@styled
def figure_scores(result: Comparisons, methods: Sequence[str] | None = None) -> Figure:
    """F1 of each class and their mean, for every method and boundary width."""
    widths, methods = result.widths, result.methods if methods is None else methods
    kinds = [("macro", "mean of three", INK), *((name, name, COLOR[name]) for name in reversed(CLASSES))]
    figure = Figure(figsize=(2.0 + 3.1 * len(widths), 0.9 + 0.58 * len(methods)), layout="constrained")
    numbers = [result.pooled(method).numbers() for method in methods]
    places = np.arange(len(methods))[::-1]
    step = 0.8 / len(kinds)
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for ax, width in zip(axes, widths, strict=True):
        for k, (key, label, color) in enumerate(kinds):
            values = [one[f"{key} {width:g}"] for one in numbers]
            at = places + (1.5 - k) * step
            ax.barh(at, values, step * 0.92, color=color, label=label)
            for y, value in zip(at, values, strict=True):
                if np.isfinite(value):
                    ax.annotate(f"{value:.3f}", (value, y), (2, 0), textcoords="offset points", va="center",
                                fontsize=6)  # fmt: skip
        ax.set(xlim=(0, 1.12), xlabel=f"F1, boundary {width:g} Å")
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(places, [short_name(method) for method in methods])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


@styled
def figure_contents(table: Table) -> Figure:
    """Contents of both phases in reference and prediction; scarce elements have their own scale.

    table : result of `Comparisons.content_table`
    """
    reference = CONTENTS[0]
    rows = [row for row in table.rows() if np.isfinite(row[reference])]
    panels: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["phase"] == "poor", row["minority"])):
        panels.setdefault((row["phase"], row["minority"]), []).append(row)
    figure = Figure(figsize=(1.2 + 0.72 * max(len(rows), 4), 3.1), layout="constrained")
    if not panels:
        return figure
    ratios = [0.6 + len(shown) for shown in panels.values()]
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=ratios)[0]
    for ax, ((phase, scarce), shown) in zip(axes, panels.items(), strict=True):
        places = np.arange(len(shown))
        before, after = (np.array([row[source] for row in shown]) for source in CONTENTS)
        ax.bar(places - 0.2, before, 0.38, color="white", edgecolor=COLOR[phase], linewidth=1.2, hatch="////",
               label="reference")  # fmt: skip
        ax.bar(places + 0.2, after, 0.38, color=COLOR[phase], label="prediction")
        top = float(np.nanmax([before, after], initial=0)) or 1.0
        for place, row, height in zip(places, shown, np.fmax(before, after), strict=True):
            # Relative differences of tiny contents are not meaningful.
            if row[reference] >= 0.1:
                ax.annotate(f"{row[DIFFERENCE]:+.1f} %", (place, height), (0, 3), ha="center",
                            textcoords="offset points", fontsize=7)  # fmt: skip
        ax.set_xticks(places, [as_label(str(row["element"])) for row in shown])
        ax.set_xlim(-0.6, len(shown) - 0.4)
        ax.tick_params(axis="x", length=0)
        ax.set_ylim(0, 1.14 * top)
        ax.set_title(f"{phase}{', scarce' if scarce else ''}", color=COLOR[phase], fontweight="bold")
    axes[0].set_ylabel("content (wt%)")
    hatched = [
        Line2D([], [], marker="s", linestyle="", markersize=8, markerfacecolor=face, markeredgecolor=INK,
               label=label)
        for face, label in (("white", "reference"), (GRAY, "prediction"))
    ]  # fmt: skip
    figure.legend(handles=hatched, loc="outside lower center", ncols=2)
    return figure


@styled
def figure_side_by_side(
    example: Example, width: float, *, n_slices: int = 3, reference: str = "reference"
) -> Figure:
    """Thin slabs of a frame: classes in the reference, in the prediction, and their differences.

    width : boundary width, Å
    n_slices : number of slices along the third cell vector
    """
    frame, grid = example.frame, np.zeros((2, 2, 2), dtype=np.float32)
    plane = _Plane(Grid(grid, frame.cell, frame.origin, frame.pbc), 2)
    below = 0.72 if n_slices > 2 else 0.95
    panels = Panels(plane, 3, n_slices, left=0.95, below=below, above=0.28, gap=0.12)
    truth, found = example.reference.phase[width], example.prediction.phase[width]
    kind = np.where(truth == found, 0, np.where((truth == BOUNDARY) | (found == BOUNDARY), 1, 2))
    for fraction, *axes in zip((np.arange(n_slices) + 0.5) / n_slices, *panels.axes, strict=True):
        for ax, phase in zip(axes, (truth, found), strict=False):
            draw_slab(ax, plane, frame, phase, fraction)
        atoms, places = plane.near(frame.positions, fraction, REACH)
        order = np.argsort(kind[atoms], kind="stable")
        own = kind[atoms][order]
        colors = np.array([color for color, _ in _DIFFERENCES])[own]
        draw_atoms(axes[2], places[order], colors, np.where(own == 0, "#bbbbbb", INK))
        axes[0].set_title(plane.title(fraction))
    panels.finish((as_label(reference), "prediction", "differences"))
    marks = [*phase_marks(truth, found), *(dot(color, label) for color, label in _DIFFERENCES)]
    panels.figure.legend(
        handles=marks, loc="lower center", ncols=len(marks) if n_slices > 2 else 3, handletextpad=0.2,
        columnspacing=1.0,
    )  # fmt: skip
    return panels.figure


def evaluation_figures(result: Comparisons) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure in the order of the report."""
    pooled = result.pooled()
    against = f"against {result.reference}"
    if not pooled.sides.sum(axis=1).all():
        yield "scores", f"F1 {against}.", figure_scores(result)
        return
    if len(pooled.roc()):
        yield "roc", f"ROC curves {against}, all frames.", figure_roc(result)
    yield "confusion", f"Confusion matrix {against}: fractions of each row.", figure_confusion(result)
    if len(pooled.reliability()):
        yield "reliability", f"Reliability of the probability {against}.", figure_reliability(result)
    yield "scores", f"F1 of every method {against}.", figure_scores(result)
    narrow = min(result.widths)
    caption = f"Composition of the phases excluding the boundary of {narrow:g} Å; relative differences."
    yield "composition", caption, figure_contents(result.content_table())
    if result.example is not None:
        where = f"2 Å slabs through {result.example.frame.source}: {result.reference}, prediction"
        for width in result.widths:
            caption = f"{where} and differences; boundary of {width:g} Å."
            figure = figure_side_by_side(result.example, width, reference=result.reference)
            yield f"slices_{width:g}", caption, figure
