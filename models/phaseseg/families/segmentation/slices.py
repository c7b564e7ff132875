"""Slices through a labeled cell, drawn undistorted for any cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.families.segmentation.figures import (
    DIVERGING,
    SEQUENTIAL,
    quantity_label,
    unit_text,
    was_cut,
)
from phaseseg.families.segmentation.rules import Rule
from phaseseg.fields import Fields, Grid
from phaseseg.frame import Frame
from phaseseg.report import INK, styled


@styled
def figure_slices(
    frame: Frame,
    fields: Fields,
    rule: Rule,
    *,
    axis: int | None = None,
    n_slices: int = 3,
    thickness: float = 2.0,
) -> Figure:
    """Parallel slices through the cell: the field with its cut, and the atoms of a thin slab by phase.

    Slices lie in the plane of two cell vectors and are drawn undistorted for any cell.

    Parameters
    ----------
    frame, fields : an annotated frame, with `phase` and the grid and level that the rule names
    rule : how it was labeled, for the names on the axes
    axis : cell vector along which the slices follow each other; the third, or the flat axis of a 2D box
    n_slices : how many, at even distances
    thickness : of the slab of atoms, Å
    """
    grid: Grid = fields[rule.grid_name]
    if axis is None:
        axis = int(np.argmin(grid.shape)) if min(grid.shape) == 1 else 2
    n_slices = min(n_slices, grid.shape[axis])
    cut = float(fields[rule.level_name]) if was_cut(fields) else np.nan
    low, high = float(grid.values.min()), float(grid.values.max())
    shading: dict[str, Any] = {"cmap": SEQUENTIAL, "norm": Normalize(low, high)}
    if low < cut < high:
        shading = {"cmap": DIVERGING, "norm": TwoSlopeNorm(cut, low, high)}

    plane = _Plane(grid, axis)
    (left, right), (bottom, top) = plane.extent()
    # Placed by hand: the panels keep the aspect of the cell, and bar and legend stay next to them.
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
            locator = MaxNLocator(5, steps=[1, 2, 5, 10])
            ax.set_xticks(locator.tick_values(left, right), minor=False)
            ax.set_yticks(locator.tick_values(bottom, top), minor=False)
            ax.set(xlim=(left, right), ylim=(bottom, top))
            ax.tick_params(labelbottom=ax is lower, labelleft=column == 0)
        if column == 0:
            upper.set_ylabel(plane.labels[1])
            lower.set_ylabel(plane.labels[1])
        lower.set_xlabel(plane.labels[0])
    right = margin + n_slices * (width + gap) + 0.06
    if image is not None:
        # Its label stands above it, readable however low the cell is.
        top_of_bar = 0.5 + 2 * height + gap
        text = quantity_label(rule).replace(" density", "\ndensity").replace(" fraction", "\nfraction")
        figure.text(right / size[0], top_of_bar / size[1], text, va="top", fontsize=8.5)
        bar_axes = place(right, 0.5 + height + gap, 0.13, max(height - 0.42, 0.3 * height))
        bar = figure.colorbar(image, cax=bar_axes)
        bar.outline.set_visible(False)
        bar_axes.set_yscale("linear")  # also where the two halves of the colors differ in span
        bar_axes.yaxis.set_major_locator(MaxNLocator(5 if height > 1.4 else 2))
        if low < cut < high:
            bar_axes.axhline(cut, color=INK, linewidth=1.2)
    present = [phase for phase in PHASE_CLASSES if (fields["phase"] == phase.id).any()]
    marks: list[Any] = [
        Line2D([], [], marker="o", linestyle="", markersize=7, markeredgecolor=INK, markeredgewidth=0.4,
               color=phase.color, label=phase.name)
        for phase in present
    ]  # fmt: skip
    if low < cut < high:
        marks.append(Line2D([], [], color=INK, linewidth=1.0, label=f"cut, {cut:.3g} {unit_text(rule)}"))
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(right / size[0], (0.5 + height) / size[1]),
        borderaxespad=0, handlelength=1.2, borderpad=0,
        title=f"atoms within\n{thickness / 2:g} Å of the slice",
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
        # More points than pixels help nobody; the last one closes the picture.
        rows, columns = (np.append(np.arange(0, count, max(1, count // 400)), count) for count in counts)
        fractions = np.zeros((len(rows), len(columns), 3))
        fractions[..., self.u] = (rows / counts[0])[:, None]
        fractions[..., self.v] = (columns / counts[1])[None, :]
        x, y = np.moveaxis(self._project(fractions), -1, 0)
        # What follows the last point is the first along a periodic axis, and the same along an open one.
        places = [
            line % count if self.grid.pbc[k] else np.minimum(line, count - 1)
            for line, count, k in zip((rows, columns), counts, (self.u, self.v), strict=True)
        ]
        return x, y, values[np.ix_(*places)], index / n

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
