"""Make the picture of the README: `python docs/figures/make_figures.py`.

Needs the `ovito` extra; OVITO's renderer needs a Vulkan driver (without a graphics card on Debian and
Ubuntu: `apt install libvulkan1 mesa-vulkan-drivers`). Takes ten seconds on one core.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ovito.io import import_file
from ovito.modifiers import DeleteSelectedModifier, ExpressionSelectionModifier
from ovito.pipeline import Pipeline
from ovito.vis import StandardRenderer, Viewport
from PIL import Image, ImageChops, ImageDraw, ImageFont

from ovito_phaseseg import WeakPhaseLabels
from phaseseg.families.segmentation.fields import PHASE_CLASSES

PICTURE = Path(__file__).with_name("segmented_melt.png")
# Radius (Å) and color of every element; they differ in lightness, too.
ELEMENTS = {
    "Fe": (1.05, (0.80, 0.52, 0.30)),
    "Mg": (0.95, (0.58, 0.83, 0.52)),
    "Si": (0.75, (0.90, 0.88, 0.99)),
    "O": (0.80, (0.74, 0.20, 0.19)),
    "N": (0.75, (0.13, 0.17, 0.55)),
}
RENDERED = 2200  # pixels, before the margins are cut off
HEIGHT = 720  # pixels of the picture without legend
INK = (60, 60, 60)


def show_elements(frame: int, data: Any) -> None:
    """Give the types of the file modest radii and quiet colors."""
    for kind in data.particles_.particle_types_.types_:
        kind.radius, kind.color = ELEMENTS[kind.name]


def render(pipeline: Pipeline) -> Image.Image:
    """The scene from the same place every time, without margins."""
    pipeline.compute().cell.vis.line_width = 0.3
    pipeline.compute().cell.vis.rendering_color = (0.3, 0.3, 0.3)
    pipeline.add_to_scene()
    view = Viewport(type=Viewport.Type.Perspective, camera_dir=(-1, 1.35, -0.75))
    view.zoom_all(size=(RENDERED, RENDERED))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        view.render_image(
            filename=str(path), size=(RENDERED, RENDERED), background=(1, 1, 1), renderer=StandardRenderer()
        )
        image = Image.open(path).convert("RGB")
    pipeline.remove_from_scene()
    return image.crop(ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox())


def legend(entries: list[tuple[str, tuple[float, float, float]]], width: int, font: Any) -> Image.Image:
    """Dots and names in one centered row."""
    strip = Image.new("RGB", (2 * width, 128), "white")
    draw = ImageDraw.Draw(strip)
    lengths = [60 + draw.textlength(name, font=font) for name, _ in entries]
    x = width - (sum(lengths) + 60 * (len(entries) - 1)) / 2
    for (name, color), length in zip(entries, lengths, strict=True):
        fill = tuple(round(255 * c) for c in color)
        draw.ellipse((x, 42, x + 44, 86), fill=fill, outline=INK, width=2)
        draw.text((x + 60, 64), name, font=font, fill=INK, anchor="lm")
        x += length + 60
    return strip.resize((width, 64), Image.Resampling.LANCZOS)


def main() -> None:
    with as_file(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz") as path:
        pipeline = import_file(str(path))
        pipeline.modifiers.append(show_elements)
        before = render(pipeline)

        labels = WeakPhaseLabels(species="Fe", color_by_phase=True)
        labels.interface_vis.surface_transparency = 0.2
        pipeline.modifiers.append(labels)
        # In one corner the silicate is taken away, so that the interface shows.
        half = np.diag(pipeline.compute().cell[:, :3]) / 2
        corner = f"Position.X > {half[0]} && Position.Y < {half[1]} && Position.Z > {half[2]}"
        pipeline.modifiers.append(ExpressionSelectionModifier(expression=f"Phase != 1 && {corner}"))
        pipeline.modifiers.append(DeleteSelectedModifier())
        after = render(pipeline)

    panels = [
        image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
        for image in (before, after)
    ]
    font = ImageFont.load_default(size=44)
    names = {"poor": "silicate (poor in Fe)", "rich": "metal (rich in Fe)", "boundary": "boundary, interface"}
    legends = [
        legend([(name, color) for name, (_, color) in ELEMENTS.items()], panels[0].width, font),
        legend([(names[entry.name], entry.color) for entry in PHASE_CLASSES], panels[1].width, font),
    ]
    gap, margin = 60, 20
    width = sum(panel.width for panel in panels) + gap + 2 * margin
    picture = Image.new("RGB", (width, HEIGHT + 64 + 2 * margin), "white")
    x = margin
    for panel, strip in zip(panels, legends, strict=True):
        picture.paste(panel, (x, margin))
        picture.paste(strip, (x, margin + HEIGHT))
        x += panel.width + gap
    picture.quantize(256, Image.Quantize.MEDIANCUT).save(PICTURE, optimize=True)  # a third of the bytes
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
