"""Make the pictures of the page on liquids and glasses: `python docs/figures/make_glass_figures.py`.

Needs the `ovito` extra and, as `make_figures.py`, a Vulkan driver. Ten seconds on one core.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ovito.io import import_file
from ovito.pipeline import Pipeline
from ovito.vis import StandardRenderer, Viewport
from PIL import Image, ImageDraw, ImageFont

from ovito_phaseseg import GlassMetrics
from phaseseg.families.liquid_glass.fields import PAIRS, PARTICLES

HERE = Path(__file__).parent
RADII = {"A": 0.26, "B": 0.23}
SIZE = 700  # pixels of one configuration
LEGEND = (
    *((one.name, one.color) for one in PARTICLES),
    *((f"{one.name} edge", one.color) for one in PAIRS[1:]),
)
INK = (60, 60, 60)


def small_particles(frame: int, data: Any) -> None:
    """Disks that leave room for the bonds."""
    for kind in data.particles_.particle_types_.types_:
        kind.radius = RADII[kind.name]
    data.cell_.vis.line_width = 0.06


def render(pipeline: Pipeline, frame: int) -> Image.Image:
    """One frame from above."""
    view = Viewport(type=Viewport.Type.Top)
    view.zoom_all(size=(SIZE, SIZE))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        view.render_image(
            filename=str(path),
            size=(SIZE, SIZE),
            frame=frame,
            background=(1, 1, 1),
            renderer=StandardRenderer(),
        )
        return Image.open(path).convert("RGB")


def font(size: int) -> ImageFont.FreeTypeFont:
    """The letters of matplotlib, which are everywhere."""
    import matplotlib

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size
    )


def graphs() -> None:
    """A hot liquid beside the glass that became of it, with the graphs around B."""
    with as_file(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz") as path:
        pipeline = import_file(str(path))
        pipeline.modifiers.append(small_particles)
        pipeline.modifiers.append(GlassMetrics(color_by="isolated"))
        pipeline.add_to_scene()
        pictures, titles = [], []
        for frame in (0, pipeline.num_frames - 1):
            found = pipeline.compute(frame).attributes
            graphs, pairs, isolated = (
                found[f"GlassMetrics.{name}"] for name in ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a")
            )
            titles.append(
                f"T = {found['temperature']:g}: {graphs} graph{'s' * (graphs != 1)}, {pairs} B-B "
                f"edge{'s' * (pairs != 1)}, {isolated} isolated A"
            )
            pictures.append(render(pipeline, frame))
    whole = Image.new("RGB", (2 * SIZE, SIZE + 100), "white")
    draw = ImageDraw.Draw(whole)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        whole.paste(picture, (number * SIZE, 40))
        draw.text((number * SIZE + SIZE // 2, 22), title, INK, font(22), anchor="mm")
    at = 40
    for name, color in LEGEND:
        shade = tuple(round(255 * channel) for channel in color)
        draw.ellipse((at, SIZE + 60, at + 20, SIZE + 80), shade, (150, 150, 150))
        draw.text((at + 30, SIZE + 70), name, INK, font(20), anchor="lm")
        at += 60 + int(draw.textlength(name, font(20)))
    save(whole, HERE / "glass-graphs.png")


def metrics() -> None:
    """The numbers against temperature, as `phaseseg metrics` draws them."""
    with TemporaryDirectory() as folder, as_file(files("phaseseg") / "demo") as demo:
        runs = sorted(str(path) for path in demo.glob("glass_ka2d_*.xyz.gz"))
        command = [sys.executable, "-m", "phaseseg.cli", "metrics", *runs, "--report", folder, "--quiet"]
        subprocess.run(command, check=True)
        with Image.open(Path(folder) / "metrics.png") as picture:
            save(picture.convert("RGB"), HERE / "glass-metrics.png")


def save(picture: Image.Image, path: Path) -> None:
    """With few colors, a third of the bytes."""
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"Written: {path}")


if __name__ == "__main__":
    graphs()
    metrics()
