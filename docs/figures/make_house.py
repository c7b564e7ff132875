"""Draw the house from its own imports: `python docs/figures/make_house.py`; writes docs/figures/house.png.

Rooms are the folders and modules of the package, in the layers that `pyproject.toml` declares. An arrow means
that one room imports another. An arrow is omitted if a chain of other arrows leads to the same room, and so
are the arrows to the data types that every room uses. An arrow that points upward would be red.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from phaseseg.recipes.cards import put_figure

ROOT = Path(__file__).parents[2]
SHADES = ("#e8eef5", "#f5efe3", "#e9f2ea", "#f2eaf0")
GROUND = {"fields", "frame", "cell", "specs", "version", "moved", "display"}


def layers() -> list[list[str]]:
    """The layers of the import contract, from the top down; `phaseseg.` is left out of the names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    rows = [layer.replace(":", "|").split("|") for layer in contract["layers"]]
    return [[name.strip().strip("()").removeprefix("phaseseg.") for name in row] for row in rows]


def room_of(module: str, rooms: set[str]) -> str | None:
    parts = module.removeprefix("phaseseg.").split(".")
    return parts[0] if parts[0] in rooms else None


def imports(rooms: set[str]) -> dict[str, set[str]]:
    """Which rooms each room imports, also inside functions."""
    found: dict[str, set[str]] = defaultdict(set)
    for base in (ROOT / "models" / "phaseseg", ROOT / "ase_bridge", ROOT / "ovito_phaseseg"):
        for path in base.rglob("*.py"):
            name = ".".join(path.relative_to(base.parent).with_suffix("").parts)
            here = room_of(name, rooms)
            if here is None:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                for imported in names:
                    if imported.startswith(("phaseseg.", "ase_bridge", "ovito_phaseseg")):
                        there = room_of(imported, rooms)
                        if there is not None and there != here:
                            found[here].add(there)
    return found


def reduced(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Only the arrows that no longer chain of arrows replaces."""

    def reach(room: str) -> set[str]:
        return {far for near in arrows.get(room, ()) for far in {near} | reach(near)}

    return {
        room: {one for one in own if not any(one in reach(other) for other in own - {one})}
        for room, own in arrows.items()
    }


def n_lines(room: str) -> int:
    for base in (ROOT / "models" / "phaseseg", ROOT):
        if (base / room).is_dir():
            return sum(len(p.read_text("utf-8").splitlines()) for p in (base / room).rglob("*.py"))
        if (base / f"{room}.py").is_file():
            return len((base / f"{room}.py").read_text("utf-8").splitlines())
    return 0


def box(axes: Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    style = {"boxstyle": "round,pad=0.02", "facecolor": color, "edgecolor": "#666666"}
    axes.add_patch(FancyBboxPatch((x, y), width, 0.5, **style))
    axes.text(x + width / 2, y + 0.25, text, ha="center", va="center", fontsize=7)


def draw() -> Figure:
    rows = [[name for name in row if n_lines(name)] for row in layers()]
    rows = [row for row in rows if row]
    rooms = {name for row in rows for name in row}
    arrows = reduced({room: own - GROUND for room, own in imports(rooms).items()})
    figure = Figure(figsize=(8.2, 0.62 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots()
    place: dict[str, tuple[float, float, float]] = {}
    for n, row in enumerate(rows):
        width = min(2.3, 9.0 / len(row))
        start = 5 - (width + 0.15) * len(row) / 2
        for k, name in enumerate(row):
            place[name] = start + k * (width + 0.15), -float(n), width
    for name, targets in arrows.items():
        for target in targets:
            (x0, y0, w0), (x1, y1, w1) = place[name], place[target]
            color = "#c0392b" if y1 > y0 else "#9a9a9a"
            arrow = FancyArrowPatch(
                (x0 + w0 / 2, y0), (x1 + w1 / 2, y1 + 0.5), arrowstyle="-|>", mutation_scale=7, color=color,
                linewidth=0.9, alpha=0.9, connectionstyle="arc3,rad=0.06", zorder=0,
            )  # fmt: skip
            axes.add_patch(arrow)
    for n, row in enumerate(rows):
        for name in row:
            x, y, width = place[name]
            box(axes, x, y, width, f"{name}\n{n_lines(name):,} lines", SHADES[n % len(SHADES)])
    axes.set_xlim(-0.2, 10.2)
    axes.set_ylim(-len(rows) + 0.8, 0.7)
    axes.set_axis_off()
    return figure


if __name__ == "__main__":
    put_figure(Path(__file__).with_name("house.png"), draw(), dpi=160)
    print("Written: docs/figures/house.png")
