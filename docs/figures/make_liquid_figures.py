"""Make the figures of docs/your-own-liquid.md: `python docs/figures/make_liquid_figures.py`.

Needs no extras. Takes ten seconds on one core.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from phaseseg import Fields, Frame, label_phases, read_frames
from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.families.segmentation.figures import COLOR, element_looks
from phaseseg.report import GRAY, INK, png, styled

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
# Thickness of the slice and diameter of the drawn atoms, Å.
LIQUIDS = {"argon": (8.0, 3.4), "water": (6.0, 2.4), "melt": (5.0, 2.0)}
SIGMAS = (1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 5, 6, 7, 8)
SURFACE = {"argon": 2 * 52.2**2, "water": 2 * 24.8**2}


def frame_of(name: str) -> Frame:
    """The files of the page."""
    if name == "argon":
        return next(read_frames(DATA / "argon.dump.gz", types=["Ar"]))
    if name == "water":
        return next(read_frames(DATA / "water.gro.gz"))
    with as_file(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz") as path:
        return next(read_frames(path))


def draw_slice(ax: Axes, frame: Frame, fields: Fields, thickness: float, diameter: float) -> None:
    """Atoms of a slice, in the plane of the longest edge, by phase."""
    edges = np.diag(frame.cell)
    places = (frame.positions - frame.origin) % edges
    along, across = (2, 0) if edges[2] > 1.2 * edges[0] else (0, 1)
    depth = 3 - along - across
    near = np.abs(places[:, depth] - edges[depth] / 2) < thickness / 2
    order = np.flatnonzero(near)[np.argsort(places[near, depth])]
    ax.set(xlim=(0, edges[along]), ylim=(0, edges[across]), aspect="equal", xlabel=f"{'xyz'[along]} (Å)",
           ylabel=f"{'xyz'[across]} (Å)")  # fmt: skip
    ax.figure.canvas.draw()  # the constrained layout settles, and with it the length of an Å
    points = 72 / ax.figure.dpi * (ax.transData.transform((1, 0)) - ax.transData.transform((0, 0)))[0]
    sizes = np.full(len(frame), diameter)
    if "H" in frame.species_names:
        sizes[frame.species_mask("H")] *= 0.6
    colors = np.array([phase.color for phase in PHASE_CLASSES])
    ax.scatter(places[order, along], places[order, across], s=(sizes[order] * points) ** 2,
               c=colors[fields["phase"][order]], edgecolors=INK, linewidths=0.25)  # fmt: skip
    for phase in PHASE_CLASSES:
        ax.scatter([], [], s=30, color=phase.color, edgecolors=INK, linewidths=0.25, label=phase.name)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handletextpad=0.1)


def draw_profile(ax: Axes, fields: Fields) -> None:
    """Number densities against the distance to the interface."""
    columns = fields["proxigram"].columns
    room = columns["volume (Å^3)"] > 0.1 * columns["volume (Å^3)"].max()
    densities = {name.quantity: name for name in fields["proxigram"].values("Å^-3")}
    for name, look in element_looks(list(densities)).items():
        ax.plot(columns["distance (Å)"][room], columns[densities[name]][room], linewidth=1.2, markersize=4.5,
                markeredgewidth=0.4, label=name, **look)  # fmt: skip
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set(xlabel="distance to the interface (Å)", ylabel="number density (Å$^{-3}$)", ylim=(0, None))
    ax.text(0.0, 1.015, "← poor", color=COLOR["poor"], fontweight="bold", transform=ax.transAxes)
    ax.text(1.0, 1.015, "rich →", color=COLOR["rich"], fontweight="bold", ha="right", transform=ax.transAxes)
    ax.legend()


@styled
def figure_liquid(name: str) -> Figure:
    """The atoms by phase, and the profile next to them."""
    frame = frame_of(name)
    fields = label_phases(frame)
    print(name, *fields.messages, sep="\n  ")
    square = name == "melt"
    figure = Figure(figsize=(8.2, 3.7 if square else 2.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15) if square else (1.5, 1))
    draw_profile(right, fields)
    draw_slice(left, frame, fields, *LIQUIDS[name])
    return figure


@styled
def figure_scan() -> Figure:
    """Area over the flat area against sigma; a dot marks the automatic sigma."""
    figure = Figure(figsize=(5.4, 3.2), dpi=150, layout="constrained")
    ax = figure.subplots()
    looks = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"))
    for (name, flat), (color, marker, line) in zip(SURFACE.items(), looks, strict=True):
        frame = frame_of(name)
        scans = [label_phases(frame, sigma=sigma) for sigma in SIGMAS]
        ratios = [fields["interface_area"] / flat or np.nan for fields in scans]
        ax.plot(SIGMAS, ratios, color=color, marker=marker, linestyle=line, markersize=3.5, label=name)
        auto = label_phases(frame)
        ax.plot(auto["sigma"], auto["interface_area"] / flat, marker, markersize=9, color=color,
                label=f"sigma=\"auto\": {auto['sigma']:g} Å")  # fmt: skip
        print(name, *(f"{s:g}: {r:.2f}" for s, r in zip(SIGMAS, ratios, strict=True)))
    ax.axhline(1, color=GRAY, linewidth=0.8)
    ax.set(xlabel="sigma (Å)", ylabel="interface area / flat area", ylim=(0.95, 2.0))
    ax.legend()
    return figure


def save(figure: Figure, name: str) -> None:
    path = HERE / f"liquid-{name}.png"
    with Image.open(BytesIO(png(figure, figure.dpi))) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    small.save(path, format="PNG", optimize=True)
    print(f"Written: {path}")


def main() -> None:
    for name in LIQUIDS:
        save(figure_liquid(name), name)
    save(figure_scan(), "sigma")


if __name__ == "__main__":
    main()
