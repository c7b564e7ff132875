"""Slices through a labeled cell, drawn without distortion for any cell."""

from __future__ import annotations

from collections.abc import Sequence
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
from phaseseg.families.segmentation.figures import quantity_label, unit_text, was_cut
from phaseseg.families.segmentation.rules import Rule
from phaseseg.fields import Fields, Grid
from phaseseg.frame import Frame
from phaseseg.report import INK, styled
from phaseseg.specs import SCALAR_MAP

REACH = 1.0
"""Å: atoms within this distance of a slice are drawn."""


@styled
def figure_slices(frame: Frame, fields: Fields, rule: Rule, *, axis: int | None = None) -> Figure:
    """Parallel slices through the cell: the field with its threshold, and atoms of thin slabs by phase.

    frame, fields : a frame and its fields, with `phase` and the grid and level named by the rule
    rule : rule of the labels or predictions, for the names on the axes
    axis : cell vector along which slices are stacked; default: the third, or the flat axis of a 2D box
    """
    grid: Grid = fields[rule.grid_name]
    if axis is None:
        axis = int(np.argmin(grid.shape)) if min(grid.shape) == 1 else 2
    n_slices = min(3, grid.shape[axis])
    cut = float(fields[rule.level_name]) if was_cut(fields) else np.nan
    low, high = float(grid.values.min()), float(grid.values.max())
    norm = TwoSlopeNorm(cut, low, high) if low < cut < high else Normalize(low, high)
    shading: dict[str, Any] = {"cmap": SCALAR_MAP, "norm": norm}

    plane = _Plane(grid, axis)
    panels = Panels(plane, 2, n_slices, left=0.62, right=1.45, below=0.5, above=0.3, gap=0.14)
    figure, place, height = panels.figure, panels.place, panels.height
    for fraction, upper, lower in zip((np.arange(n_slices) + 0.5) / n_slices, *panels.axes, strict=True):
        x, y, values, fraction = plane.cut(fraction)
        image = upper.pcolormesh(x, y, values, shading="gouraud", rasterized=True, **shading)
        if low < cut < high and values.min() < cut < values.max():
            for ax in (upper, lower):
                ax.contour(x, y, values, levels=[cut], colors=INK, linewidths=1.0)
        draw_slab(lower, plane, frame, fields["phase"], fraction)
        upper.set_title(plane.title(fraction))
    panels.finish()
    right = panels.size[0] - 1.45 + 0.06
    # The label is above the bar, so it stays readable for flat cells.
    text = quantity_label(rule).replace(" density", "\ndensity").replace(" fraction", "\nfraction")
    figure.text(right / panels.size[0], (panels.size[1] - 0.3) / panels.size[1], text, va="top", fontsize=8.5)
    bar_axes = place(right, 0.5 + height + 0.14, 0.13, max(height - 0.42, 0.3 * height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.outline.set_visible(False)
    bar_axes.set_yscale("linear")  # even if the two halves of the color map differ in range
    bar_axes.yaxis.set_major_locator(MaxNLocator(5 if height > 1.4 else 2))
    marks = phase_marks(fields["phase"])
    if low < cut < high:
        bar_axes.axhline(cut, color=INK, linewidth=1.2)
        marks.append(Line2D([], [], color=INK, linewidth=1.0, label=f"cut, {cut:.3g} {unit_text(rule)}"))
    figure.legend(
        handles=marks, loc="upper left",
        bbox_to_anchor=(right / panels.size[0], (0.5 + height) / panels.size[1]),
        borderaxespad=0, handlelength=1.2, borderpad=0,
        title=f"atoms within\n{REACH:g} Å of the slice",
        title_fontsize=8.5, alignment="left",
    )  # fmt: skip
    return figure


class _Plane:
    """Planes spanned by two cell vectors, in Cartesian coordinates of the plane (Å)."""

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
        if self.aligned:
            self.labels = f"{'xyz'[self.u]} (Å)", f"{'xyz'[self.v]} (Å)"
        else:
            self.labels = f"along {'abc'[self.u]} (Å)", f"across {'abc'[self.u]} (Å)"

    def _project(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert fractional coordinates to coordinates in the plane, (..., 2), Å."""
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
        if self.aligned:
            return f"{'xyz'[self.axis]} = {self.grid.origin[self.axis] + fraction * self.height:.1f} Å"
        return f"{fraction:.2f} {'abc'[self.axis]}"

    def cut(
        self, fraction: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], float]:
        """Return coordinates, values and fraction of the grid plane closest to a fraction of the cell."""
        n = self.grid.shape[self.axis]
        index = min(round(fraction * n), n - 1)
        values = np.take(self.grid.values, index, axis=self.axis)
        counts = values.shape
        # More points than pixels are not needed; the last point closes the picture.
        rows, columns = (np.append(np.arange(0, count, max(1, count // 400)), count) for count in counts)
        fractions = np.zeros((len(rows), len(columns), 3))
        fractions[..., self.u] = (rows / counts[0])[:, None]
        fractions[..., self.v] = (columns / counts[1])[None, :]
        x, y = np.moveaxis(self._project(fractions), -1, 0)
        # The last point is followed by the first along a periodic axis, and repeated along an open one.
        places = [
            line % count if self.grid.pbc[k] else np.minimum(line, count - 1)
            for line, count, k in zip((rows, columns), counts, (self.u, self.v), strict=True)
        ]
        return x, y, values[np.ix_(*places)], index / n

    def near(
        self, positions: NDArray[np.float64], fraction: float, reach: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the indices of atoms within `reach` (Å) of the plane, and their positions on it."""
        fractions = (positions - self.grid.origin) @ np.linalg.inv(self.grid.cell)
        fractions -= np.floor(fractions) * self.grid.pbc
        depth = fractions[:, self.axis] - fraction
        if self.grid.pbc[self.axis]:
            depth -= np.round(depth)
        chosen = np.flatnonzero(np.abs(depth) * self.height <= reach)
        relative = fractions[chosen]
        relative[:, self.axis] = depth[chosen]
        return chosen, self._project(relative)


class Panels:
    """Panels for slices through a cell, with the aspect ratio of the plane and one column per slice.

    They have explicit positions in inches, so that color bars and legends stay next to them.
    """

    def __init__(
        self, plane: _Plane, n_rows: int, n_columns: int, *, left: float, right: float = 0.0, below: float,
        above: float, gap: float,
    ) -> None:  # fmt: skip
        self.plane, width = plane, 2.35
        self.limits = (x_low, x_high), (y_low, y_high) = plane.extent()
        self.height = width * (y_high - y_low) / (x_high - x_low)
        high = below + n_rows * self.height + (n_rows - 1) * gap + above
        self.size = left + n_columns * (width + gap) + right, high
        self.figure = Figure(figsize=self.size)
        self.axes = [
            [
                self.place(left + k * (width + gap), below + row * (self.height + gap), width, self.height)
                for k in range(n_columns)
            ]
            for row in reversed(range(n_rows))
        ]

    def place(self, x: float, y: float, width: float, height: float) -> Axes:
        w, h = self.size
        return self.figure.add_axes((x / w, y / h, width / w, height / h))

    def finish(self, labels: Sequence[str] = ()) -> None:
        """Add outlines, limits and labels after everything is drawn; `labels` name the rows."""
        for row, line in enumerate(self.axes):
            lowest = line is self.axes[-1]
            for ax in line:
                ax.plot(*self.plane.outline().T, color=INK, linewidth=0.8)
                ax.set(xlim=self.limits[0], ylim=self.limits[1], aspect="equal")
                ax.spines[:].set_visible(False)
                for axes in (ax.xaxis, ax.yaxis):
                    axes.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                ax.tick_params(labelbottom=lowest, labelleft=ax is line[0])
                ax.set_xlabel(self.plane.labels[0] if lowest else "")
            line[0].set_ylabel("\n".join([*labels[row : row + 1], self.plane.labels[1]]))


def phase_marks(*phases: NDArray[np.int8]) -> list[Line2D]:
    """Return legend entries for the phases that occur."""
    present = [entry for entry in PHASE_CLASSES if any((phase == entry.id).any() for phase in phases)]
    return [dot(entry.color, entry.name) for entry in present]


def dot(color: Any, label: str) -> Line2D:
    """Return the legend entry of an atom."""
    return Line2D([], [], marker="o", linestyle="", markersize=7, markeredgecolor=INK, markeredgewidth=0.4,
                  color=color, label=label)  # fmt: skip


def draw_atoms(ax: Axes, places: NDArray[np.float64], colors: Any, edges: Any = INK) -> None:
    diameter = np.full(len(places), 1.5)
    ax.add_collection(
        EllipseCollection(
            diameter, diameter, np.zeros(len(places)), units="xy", offsets=places,
            offset_transform=ax.transData, facecolors=colors, edgecolors=edges, linewidths=0.25,
            rasterized=True,
        )
    )  # fmt: skip


def draw_slab(ax: Axes, plane: _Plane, frame: Frame, phase: NDArray[np.int8], fraction: float) -> None:
    """Draw the atoms of a slab, colored by phase."""
    # For a 2D box all atoms are shown.
    reach = plane.height if plane.grid.shape[plane.axis] == 1 else REACH
    atoms, places = plane.near(frame.positions, fraction, reach)
    draw_atoms(ax, places, np.array([entry.color for entry in PHASE_CLASSES])[phase[atoms]])
