"""Pictures of labeled melts: matplotlib figures that know nothing of windows or global state.

Every function returns a `Figure`; `png` draws one. Colors are those of `PHASE_CLASSES`, and of Okabe
and Ito for elements: both are told apart by the color-blind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from phaseseg.families.segmentation.config import CLEAR_CONTRAST, MIN_CONTRAST, LabelRule
from phaseseg.fields import PHASE_CLASSES, Fields, Grid, Table
from phaseseg.frame import Frame

P = ParamSpec("P")

COLOR: dict[str, Any] = {phase.name: phase.color for phase in PHASE_CLASSES}
INK, GRAY = "#222222", "#8a8a8a"
ELEMENT_COLORS = ("#D55E00", "#009E73", "#E69F00", "#0072B2", "#CC79A7", "#56B4E9", "#000000", "#999933")
_STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 9.5, "axes.labelsize": 9.5,
    "axes.linewidth": 0.8, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "legend.fontsize": 8.5, "figure.facecolor": "white", "savefig.facecolor": "white",
    "lines.linewidth": 1.4,
}  # fmt: skip
_DIVERGING = LinearSegmentedColormap.from_list("phases", [COLOR["poor"], "#f7f5ee", COLOR["rich"]])
_SEQUENTIAL = LinearSegmentedColormap.from_list("density", ["#f7f5ee", COLOR["rich"]])
_MINOR = 8.0  # at%: elements that never exceed it get a panel of their own


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def styled(*args: P.args, **options: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            figure = draw(*args, **options)
            FigureCanvasAgg(figure)
            return figure

    return styled


def png(figure: Figure, dpi: float = 170) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    stream = BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _unit(rule: LabelRule) -> str:
    return "Å$^{-3}$" if rule.unit == "Å^-3" else rule.unit


def _density_label(rule: LabelRule) -> str:
    kind = "number density" if rule.field == "number" else "mole fraction"
    unit = f" ({_unit(rule)})" if rule.field == "number" else ""
    return f"{'+'.join(rule.species)} {kind}{unit}"


# --------------------------------------------------------------------------------------- slices


@_styled
def figure_slices(
    frame: Frame,
    fields: Fields,
    rule: LabelRule,
    *,
    axis: int | None = None,
    n_slices: int = 3,
    thickness: float = 2.0,
) -> Figure:
    """Parallel slices through the cell: the density with its cut, and the atoms of a thin slab by phase.

    Slices lie in the plane of two cell vectors and are drawn undistorted for any cell.

    Parameters
    ----------
    frame, fields : an annotated frame, with `density_grid`, `phase` and `threshold`
    rule : how it was labeled, for the names on the axes
    axis : cell vector along which the slices follow each other; the third, or the flat axis of a 2D box
    n_slices : how many, at even distances
    thickness : of the slab of atoms, Å
    """
    grid: Grid = fields["density_grid"]
    if axis is None:
        axis = int(np.argmin(grid.shape)) if min(grid.shape) == 1 else 2
    n_slices = min(n_slices, grid.shape[axis])
    cut = float(fields["threshold"]) if fields["n_phases"] == 2 else np.nan
    low, high = float(grid.values.min()), float(grid.values.max())
    shading: dict[str, Any] = {"cmap": _SEQUENTIAL, "norm": Normalize(low, high)}
    if low < cut < high:
        shading = {"cmap": _DIVERGING, "norm": TwoSlopeNorm(cut, low, high)}

    plane = _Plane(grid, axis)
    (left, right), (bottom, top) = plane.extent()
    # Placed by hand: the panels keep the aspect of the cell, and bar and legend stay beside them.
    width = 2.35
    height = width * (top - bottom) / (right - left)
    margin, gap, title, side = 0.62, 0.14, 0.3, 1.45
    size = (margin + n_slices * (width + gap) + side, 0.5 + 2 * height + gap + title)
    figure = Figure(figsize=size)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / size[0], y / size[1], w / size[0], h / size[1]))

    image = None
    for column, fraction in enumerate((np.arange(n_slices) + 0.5) / n_slices):
        start = margin + column * (width + gap)
        lower, upper = place(start, 0.5, width, height), place(start, 0.5 + height + gap, width, height)
        x, y, values, fraction = plane.cut(fraction)
        image = upper.pcolormesh(x, y, values, shading="gouraud", rasterized=True, **shading)
        if low < cut < high and values.min() < cut < values.max():
            for ax in (upper, lower):
                ax.contour(x, y, values, levels=[cut], colors=INK, linewidths=1.0)
        _slab(lower, plane, frame, fields["phase"], fraction, thickness)
        upper.set_title(plane.title(fraction))
        for ax in (upper, lower):
            ax.plot(*plane.outline().T, color=INK, linewidth=0.8)
            ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
            ax.spines[:].set_visible(False)
            locator = MaxNLocator(4, steps=[1, 2, 5, 10])
            ax.set_xticks(locator.tick_values(left, right), minor=False)
            ax.set_yticks(locator.tick_values(bottom, top), minor=False)
            ax.set(xlim=(left, right), ylim=(bottom, top))
            ax.tick_params(labelbottom=ax is lower, labelleft=column == 0)
        if column == 0:
            upper.set_ylabel(plane.labels[1])
            lower.set_ylabel(plane.labels[1])
        lower.set_xlabel(plane.labels[0])
    beside = margin + n_slices * (width + gap) + 0.06
    if image is not None:
        bar_axes = place(beside, 0.5 + height + gap, 0.13, height)
        bar = figure.colorbar(image, cax=bar_axes)
        bar.set_label(_density_label(rule))
        bar.outline.set_visible(False)
        bar_axes.set_yscale("linear")  # also where the two halves of the colors differ in span
        bar_axes.yaxis.set_major_locator(MaxNLocator(5))
        if low < cut < high:
            bar_axes.axhline(cut, color=INK, linewidth=1.2)
    present = [phase for phase in PHASE_CLASSES if (fields["phase"] == phase.id).any()]
    marks: list[Any] = [
        Line2D([], [], marker="o", linestyle="", markersize=7, markeredgecolor=INK, markeredgewidth=0.4,
               color=phase.color, label=phase.name)
        for phase in present
    ]  # fmt: skip
    if low < cut < high:
        marks.append(Line2D([], [], color=INK, linewidth=1.0, label=f"cut, {cut:.3g} {_unit(rule)}"))
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(beside / size[0], (0.5 + height) / size[1]),
        borderaxespad=0, handlelength=1.2, borderpad=0, title=f"atoms within\n{thickness / 2:g} Å of the slice",
        title_fontsize=8.5, alignment="left",
    )  # fmt: skip
    return figure


class _Plane:
    """Planes of two cell vectors, seen in their own Cartesian coordinates (Å)."""

    def __init__(self, grid: Grid, axis: int) -> None:
        self.grid, self.axis = grid, axis
        # Cyclic order, so that the third vector points to the viewer; x then y for axis z.
        self.u, self.v = [(1, 2), (0, 2), (0, 1)][axis]
        u, v = grid.cell[self.u], grid.cell[self.v]
        first = u / np.linalg.norm(u)
        second = v - (v @ first) * first
        second /= np.linalg.norm(second)
        self.basis = np.stack([first, second], axis=1)
        self.height = abs(float(np.linalg.det(grid.cell))) / float(np.linalg.norm(np.cross(u, v)))
        diagonal = np.diag(np.diag(grid.cell))
        self.aligned = bool(np.allclose(grid.cell, diagonal, atol=1e-9) and (np.diag(grid.cell) > 0).all())
        self.shift = grid.origin[[self.u, self.v]] if self.aligned else np.zeros(2)
        names = "xyz" if self.aligned else "abc"
        self.labels = (
            (f"{names[self.u]} (Å)", f"{names[self.v]} (Å)")
            if self.aligned
            else (f"along {names[self.u]} (Å)", f"across {names[self.u]} (Å)")
        )

    def _project(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2), Å, from fractional coordinates relative to the plane."""
        return np.asarray(fractions @ self.grid.cell @ self.basis + self.shift)

    def outline(self) -> NDArray[np.float64]:
        corners = np.zeros((5, 3))
        corners[1:3, self.u] = corners[2:4, self.v] = 1
        return self._project(corners)

    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        low, high = self.outline().min(axis=0), self.outline().max(axis=0)
        margin = 0.01 * (high - low).max()
        return (low[0] - margin, high[0] + margin), (low[1] - margin, high[1] + margin)

    def title(self, fraction: float) -> str:
        name = ("xyz" if self.aligned else "abc")[self.axis]
        if self.aligned:
            return f"{name} = {self.grid.origin[self.axis] + fraction * self.height:.1f} Å"
        return f"{fraction:.2f} {name}"

    def cut(
        self, fraction: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], float]:
        """Coordinates and values of the grid plane nearest to a fraction of the cell, and its fraction."""
        n = self.grid.shape[self.axis]
        index = min(round(fraction * n), n - 1)
        values = np.take(self.grid.values, index, axis=self.axis)
        counts = values.shape
        ends = [count + int(self.grid.pbc[k]) for count, k in zip(counts, (self.u, self.v), strict=True)]
        # More points than pixels help nobody; the last one closes the periodic picture.
        rows, columns = (
            np.unique(np.append(np.arange(0, end, max(1, count // 400)), end - 1))
            for end, count in zip(ends, counts, strict=True)
        )
        fractions = np.zeros((len(rows), len(columns), 3))
        fractions[..., self.u] = (rows / counts[0])[:, None]
        fractions[..., self.v] = (columns / counts[1])[None, :]
        x, y = np.moveaxis(self._project(fractions), -1, 0)
        return x, y, values[np.ix_(rows % counts[0], columns % counts[1])], index / n

    def near(
        self, positions: NDArray[np.float64], fraction: float, reach: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which atoms lie within `reach` (Å) of the plane, and where they appear on it."""
        fractions = (positions - self.grid.origin) @ np.linalg.inv(self.grid.cell)
        fractions -= np.floor(fractions) * self.grid.pbc
        depth = fractions[:, self.axis] - fraction
        if self.grid.pbc[self.axis]:
            depth -= np.round(depth)
        chosen = np.flatnonzero(np.abs(depth) * self.height <= reach)
        relative = fractions[chosen]
        relative[:, self.axis] = depth[chosen]
        return chosen, self._project(relative)


def _slab(
    ax: Axes, plane: _Plane, frame: Frame, phase: NDArray[np.int8], fraction: float, thickness: float
) -> None:
    if plane.grid.shape[plane.axis] == 1:
        thickness = 2 * plane.height  # a 2D box shows all of its atoms
    atoms, places = plane.near(frame.positions, fraction, thickness / 2)
    colors = np.array([entry.color for entry in PHASE_CLASSES])
    diameter = np.full(len(atoms), 1.5)
    ax.add_collection(
        EllipseCollection(
            diameter, diameter, np.zeros(len(atoms)), units="xy", offsets=places,
            offset_transform=ax.transData, facecolors=colors[phase[atoms]], edgecolors=INK,
            linewidths=0.25, rasterized=True,
        )
    )  # fmt: skip


# -------------------------------------------------------------------------------------- density


@_styled
def figure_histogram(fields: Fields, rule: LabelRule) -> Figure:
    """Distribution of the density over the voxels, with the cut that was used and the other rules' cuts."""
    values = fields["density_grid"].values
    counts, edges = np.histogram(values, bins=90)
    shares = 100 * counts / values.size
    centers, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    cut, two = float(fields["threshold"]), fields["n_phases"] == 2
    colors = [COLOR["rich"] if two and center > cut else COLOR["poor"] if two else GRAY for center in centers]
    figure = Figure(figsize=(5.2, 3.1), layout="constrained")
    ax = figure.subplots()
    ax.bar(centers, shares, width=width, color=colors, alpha=0.85, linewidth=0)
    # Almost empty voxels would flatten everything else: a bar that goes on says how far.
    second, highest = np.sort(shares)[-2:]
    limit = 1.1 * min(highest, 1.6 * second)
    if highest > limit:
        ax.annotate(f"↑ {highest:.0f} %", (centers[shares.argmax()], limit), (4, -4), va="top",
                    textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, limit))
    lines = [("threshold_steepest", "steepest", "--"), ("threshold_two_means", "two-means", ":")]
    if two:
        ax.axvline(cut, color=INK, linewidth=1.5, label=f"cut used, {cut:.4g}")
    for name, label, style in lines:
        if name in fields and np.isfinite(fields[name]):
            ax.axvline(fields[name], color=INK, linewidth=1.4, linestyle=style,
                       label=f"{label}, {fields[name]:.4g}")  # fmt: skip
    ax.set_xlabel(_density_label(rule))
    ax.set_ylabel("share of the volume (%)")
    ax.legend(loc="upper right")
    return figure


# ----------------------------------------------------------------------------------- composition


def _elements(names: Sequence[str], unit: str) -> dict[str, str]:
    """Element -> column, for the columns `Fe (at%)`."""
    return {name.split(" ")[0]: name for name in names if name.endswith(f" ({unit})")}


def element_colors(elements: Sequence[str]) -> dict[str, str]:
    """One color for each element, in their order."""
    return {name: ELEMENT_COLORS[k % len(ELEMENT_COLORS)] for k, name in enumerate(elements)}


@_styled
def figure_proxigram(
    table: Table, *, interface_width: float | None = None, interface_width_error: float | None = None
) -> Figure:
    """Content of every element against the distance to the interface, with error bars where there are any.

    Elements that stay below 8 at% have a panel of their own. Bins of very few atoms are left out.

    Parameters
    ----------
    table : proxigram of one frame, or the averaged one of a `Summary`
    interface_width, interface_width_error : fitted 10–90 width, Å, shown as a band
    """
    columns = {name: np.asarray(values) for name, values in table.columns.items()}
    distance = columns[next(name for name in columns if name.startswith("distance"))]
    elements = _elements(list(columns), "at%")
    enough = columns["atoms"] >= max(3.0, 0.002 * float(columns["atoms"].max(initial=0)))
    highest = {
        name: float(np.nanmax(columns[column][enough], initial=0)) for name, column in elements.items()
    }
    minor = [name for name, value in highest.items() if value < _MINOR]
    split = 0 < len(minor) < len(elements)
    figure = Figure(figsize=(6.2, 4.4 if split else 3.4), layout="constrained")
    panels = figure.subplots(
        2 if split else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1.25] if split else [1]
    )[:, 0]
    colors = element_colors(list(elements))
    for name, column in elements.items():
        ax = panels[-1] if split and name in minor else panels[0]
        errors = columns.get(f"{column} ±")
        if errors is not None and not np.isfinite(errors[enough]).any():
            errors = None
        ax.errorbar(
            distance[enough], columns[column][enough], None if errors is None else errors[enough],
            color=colors[name], label=name, marker="o", markersize=2.6, linewidth=1.3, elinewidth=0.9,
            capsize=1.6,
        )  # fmt: skip
    for ax in panels:
        ax.set_ylim(0, None)
        ax.set_ylabel("content (at%)")
        ax.axvline(0, color=INK, linewidth=0.8)
        if interface_width is not None and np.isfinite(interface_width):
            ax.axvspan(-interface_width / 2, interface_width / 2, color=GRAY, alpha=0.16, linewidth=0)
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    panels[-1].set_xlabel("distance to the interface (Å)")
    if interface_width is not None and np.isfinite(interface_width):
        error = (
            f" ± {interface_width_error:.2f}"
            if interface_width_error is not None and np.isfinite(interface_width_error)
            else ""
        )
        title = f"10–90 width {interface_width:.2f}{error} Å"
        panels[0].set_title(title, fontsize=8.5)
    for name, place, side in (("poor", 0.0, "left"), ("rich", 1.0, "right")):
        panels[0].text(place, 1.015, f"← {name}" if side == "left" else f"{name} →", ha=side, va="bottom",
                       transform=panels[0].transAxes, color=COLOR[name], fontweight="bold")  # fmt: skip
    return figure


@_styled
def figure_composition(table: Table) -> Figure:
    """Composition of the two phases by weight and by atoms, with error bars; diamonds are the bulk.

    table : the composition of one frame, or the averaged one of a `Summary`
    """
    rows = {str(row["phase"]): row for row in table.rows()}
    bars: list[str] = [name for name in ("rich", "poor") if name in rows] or ["all"]
    elements = _elements(list(table.columns), "at%")
    units = [unit for unit in ("wt%", "at%") if _elements(list(table.columns), unit)]
    figure = Figure(figsize=(1.2 + (0.55 + 0.24 * len(elements)) * 2 * len(units), 3.2), layout="constrained")
    for ax, unit in zip(figure.subplots(1, len(units), squeeze=False)[0], units, strict=True):
        step = 0.8 / len(bars)
        top = 0.0
        for k, phase in enumerate(bars):
            values = np.array([float(rows[phase][f"{name} ({unit})"]) for name in elements])
            errors = np.array([float(rows[phase].get(f"{name} ({unit}) ±", np.nan)) for name in elements])
            places = np.arange(len(elements)) + (k - (len(bars) - 1) / 2) * step
            ax.bar(places, values, step * 0.94, color=COLOR.get(phase, GRAY), label=phase)
            shown = np.isfinite(errors)
            ax.errorbar(places[shown], values[shown], errors[shown], fmt="none", ecolor=INK, elinewidth=1,
                        capsize=2)  # fmt: skip
            bulk = rows.get(f"{phase} bulk", {})
            inner = np.array([float(bulk.get(f"{name} ({unit})", np.nan)) for name in elements])
            named = "bulk" if k == len(bars) - 1 and np.isfinite(inner).any() else None
            ax.plot(places, inner, "D", color="white", markeredgecolor=INK, markersize=4.2,
                    markeredgewidth=0.9, label=named)  # fmt: skip
            highest = np.fmax(np.fmax(values, values + np.nan_to_num(errors)), np.nan_to_num(inner))
            top = max(top, float(np.nanmax(highest, initial=0)))
            for place, value, height in zip(places, values, highest, strict=True):
                if np.isfinite(value):
                    ax.annotate(_short(value), (place, height), (0, 4.5), textcoords="offset points",
                                ha="center", va="bottom", fontsize=7)  # fmt: skip
        ax.set_xticks(np.arange(len(elements)), list(elements))
        ax.tick_params(axis="x", length=0)
        ax.set_ylim(0, 1.12 * top if top else 1)
        ax.set_ylabel(f"content ({unit})")
        ax.legend(loc="upper right")
    return figure


def _short(value: float) -> str:
    """Three figures, or 0."""
    return "0" if abs(value) < 0.005 else f"{value:.2f}" if value < 1 else f"{value:.1f}"


# ------------------------------------------------------------------------------------ trajectory


@_styled
def figure_time_series(table: Table) -> Figure:
    """What changes along a trajectory: contrast, rich fraction, width and area of the interface, content.

    table : `time_series` of a `Summary`
    """
    columns = table.columns
    x_name = next((name for name in ("time (ps)", "timestep") if name in columns), "frame")
    x = np.asarray(columns[x_name], dtype=float)
    panels = list(_time_panels(table))
    figure = Figure(figsize=(6.4, 0.55 + 1.25 * len(panels)), layout="constrained")
    style: dict[str, Any] = {"marker": "o", "markersize": 2.4, "linewidth": 1.1}
    for ax, (label, lines) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True
    ):
        for name, legend, color in lines:
            ax.plot(x, np.asarray(columns[name], dtype=float), color=color, label=legend, **style)
        ax.set_ylabel(label, fontsize=8.5)
        if label.startswith("contrast"):
            ax.axhspan(*CLEAR_CONTRAST, color=GRAY, alpha=0.16, linewidth=0, label="uncertain")
            ax.axhline(MIN_CONTRAST, color=INK, linewidth=0.9, linestyle="--", label="two phases from here")
            ax.set_ylim(0, None)
        if len(ax.get_legend_handles_labels()[1]):
            ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        ax.margins(x=0.01)
    figure.axes[-1].set_xlabel({"timestep": "MD step"}.get(x_name, x_name))
    figure.align_ylabels()
    return figure


def _time_panels(table: Table) -> Iterator[tuple[str, list[tuple[str, str | None, Any]]]]:
    """Label of each panel, and its lines: column, legend, color."""

    def column(start: str) -> str:
        return next((name for name in table.columns if name.split(" (")[0] == start), "")

    if name := column("phase_contrast"):
        yield "contrast", [(name, None, INK)]
    shares: list[tuple[str, str | None, Any]] = [
        (column(f"rich_{kind}_fraction"), kind, color)
        for kind, color in (("mass", COLOR["rich"]), ("volume", INK), ("atom", GRAY))
        if column(f"rich_{kind}_fraction")
    ]
    if shares:
        yield "rich fraction", shares
    if name := column("interface_area"):
        yield "interface\narea (Å$^2$)", [(name, None, INK)]
    if name := column("interface_width"):
        yield "interface\nwidth (Å)", [(name, None, INK)]
    for phase in ("rich", "poor"):
        names = [name for name in table.columns if name.startswith(f"{phase} ") and name.endswith("(wt%)")]
        colors = element_colors([name.split(" ")[1] for name in names])
        if names:
            yield (
                f"{phase} phase\n(wt%)",
                [(name, name.split(" ")[1], colors[name.split(" ")[1]]) for name in names],
            )


@_styled
def figure_boundary_scan(table: Table) -> Figure:
    """Variance and mean of the rich phase's content against the boundary width (the paper's Fig. 2)."""
    widths = np.asarray(table.columns["boundary width (Å)"])
    variance_name = next(name for name in table.columns if name.startswith("variance"))
    mean_name = variance_name.removeprefix("variance of ").replace("%^2", "%")
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(widths, table.columns[variance_name], "o-", color=COLOR["poor"], markersize=4)
    upper.set_ylim(0, None)
    species = mean_name.split(" ")[0]
    upper.set_ylabel(f"variance of {species}\nin the rich phase (wt%$^2$)")
    best = np.flatnonzero(table.columns["least variance"])
    if len(best):
        for ax in (upper, lower):
            ax.axvline(widths[best[0]], color=INK, linewidth=1, linestyle="--")
        upper.set_title(f"least variance at {widths[best[0]]:.2f} Å")
    errors = np.nan_to_num(np.asarray(table.columns[f"{mean_name} ±"]))
    lower.errorbar(widths, table.columns[mean_name], errors, color=COLOR["rich"], marker="o", markersize=4,
                   capsize=2)  # fmt: skip
    lower.set_ylabel(f"{species} in the rich\nphase (wt%)")
    lower.set_xlabel("boundary width (Å)")
    figure.align_ylabels()
    return figure
