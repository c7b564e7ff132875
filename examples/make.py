"""Make the examples for OVITO: `python examples/make.py [NAME ...]`; `--numbers NAME` only loads one.

Every example is a session file (`.ovito`), the data that it shows in `data`, a picture, and the numbers of
the picture in `numbers.json`. OVITO Pro opens the session; with the free module, `ovito.scene.load` does.
Needs the extra `ovito` and, for the pictures, a Vulkan driver (on Debian without a graphics card the packages
libvulkan1 and mesa-vulkan-drivers). Takes two minutes on one core.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
# Session files hold the absolute path of the data, too; all are made in this folder, which says nothing.
WORK = Path(tempfile.gettempdir()) / "ovito-phaseseg-examples"
SIZE = (900, 640)
TITLES = {
    "two-liquids": ("melt_large_3000K.dump.gz", 0),
    "liquid-or-glass": ("glass_ka2d_s901.xyz.gz", 20),
    "mobility": ("liquid_ka3d_t064.xyz.gz", 0),
    "environments": ("melt_small_3000K.dump.gz", 0),
}
"""Data and frame of each example."""
RADII = {
    ("liquid-or-glass", "A"): 0.26, ("liquid-or-glass", "B"): 0.23,
    ("mobility", "A"): 0.5, ("mobility", "B"): 0.44,
}  # fmt: skip
"""In units of σ; in two dimensions small, so that the edges show."""
LEGEND = """import ovito_phaseseg

class PhaseLegend(ovito_phaseseg.PhaseLegend):
    corner = "top left"
    font_size = 0.026
"""
"""The free module saves a viewport layer only as the text of a script."""


def build(name: str, pipeline: Any) -> None:
    """Add the modifiers of an example."""
    from ovito.modifiers import ComputePropertyModifier

    import ovito_phaseseg as own

    if name == "two-liquids":
        labels = own.WeakPhaseLabels(species="Fe", color_by_phase=True)
        pipeline.modifiers.append(labels)
        # The poor phase is made transparent and not deleted, so that the legend counts it.
        clear = ComputePropertyModifier(output_property="Transparency", expressions=["Phase==0 ? 0.93 : 0"])
        pipeline.modifiers.append(clear)
    elif name == "liquid-or-glass":
        pipeline.modifiers.append(own.GlassMetrics(color_by="isolated"))
    elif name == "mobility":
        options = {"model": "mobility/net-ka3d-t064-minimized-v1", "color_by": "propensity"}
        pipeline.modifiers.append(own.Mobility(**options))
    else:
        options = {"n_max": 2, "l_max": 2, "method": "kmeans", "n_clusters": 6}
        pipeline.modifiers.append(own.EnvironmentClusters(types="Fe,Mg,Si,O,N", **options))


def make(name: str) -> None:
    """Write session and picture of one example into `WORK`."""
    import ovito
    from ovito.io import import_file
    from ovito.vis import PythonViewportOverlay, StandardRenderer, Viewport

    file, number = TITLES[name]
    pipeline = import_file(str(WORK / "data" / file))
    ovito.scene.anim.current_frame = number
    for kind in pipeline.source.data.particles_.particle_types_.types_:
        kind.radius = RADII.get((name, kind.name), kind.radius)
    build(name, pipeline)
    data = pipeline.compute(number)
    data.cell.vis.line_width = 0.004 * float(max(abs(data.cell[:, :3]).ravel()))
    pipeline.add_to_scene()
    view = ovito.scene.viewports.active_vp
    flat = name == "liquid-or-glass"
    view.type = Viewport.Type.Top if flat else Viewport.Type.Perspective
    if not flat:
        view.camera_dir = (-1, 1.35, -0.75)
    view.zoom_all(size=SIZE)
    view.overlays.append(PythonViewportOverlay(script=LEGEND))
    ovito.scene.save(str(WORK / f"{name}.ovito"))
    view.render_image(
        filename=str(WORK / f"{name}.png"), size=SIZE, frame=number, background=(1, 1, 1),
        renderer=StandardRenderer(),
    )  # fmt: skip


def numbers(session: Path, frame: int) -> dict[str, Any]:
    """Load a session and return what its picture shows: the lines of the legend, and numbers of the frame."""
    import ovito

    ovito.scene.load(str(session))
    (pipeline,) = ovito.scene.pipelines
    data = pipeline.compute(frame)
    (layer,) = ovito.scene.viewports.active_vp.overlays
    lines = [re.sub("<[^>]+>", "", line) for line in layer.delegate.lines(data)]
    steps = [type(one.delegate).__name__ for one in pipeline.modifiers if hasattr(one, "delegate")]
    kept = {
        key: round(float(value), 6)
        for key, value in data.attributes.items()
        if any(key.startswith(f"{prefix}.") for prefix in (*steps, "PhaseSegmentation"))
        and isinstance(value, int | float)
    }
    return {"particles": data.particles.count, "legend": lines, "attributes": kept}


def main() -> None:
    chosen = sys.argv[1:] or list(TITLES)
    if len(chosen) == 2 and chosen[0] in ("--one", "--numbers"):
        how, name = chosen
        if how == "--one":
            make(name)
        folder = WORK if how == "--one" else HERE
        print(json.dumps(numbers(folder / f"{name}.ovito", TITLES[name][1])))
        return
    (WORK / "data").mkdir(parents=True, exist_ok=True)
    (HERE / "data").mkdir(exist_ok=True)
    target = HERE / "numbers.json"
    found = json.loads(target.read_text("utf-8")) if target.exists() else {}
    for name in chosen:
        for folder in (WORK, HERE):
            shutil.copy(str(files("phaseseg") / "demo" / TITLES[name][0]), folder / "data")
        # A process of its own: OVITO has one scene.
        command = [sys.executable, __file__, "--one", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        shutil.copy(WORK / f"{name}.ovito", HERE)
        with Image.open(WORK / f"{name}.png") as picture:  # with few colors, a third of the bytes
            few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT)
            few.save(HERE / f"{name}.png", optimize=True)
        print(f"Written: {HERE / name}.ovito, .png", flush=True)
    target.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
