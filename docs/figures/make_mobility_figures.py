"""Make the figure of docs/mobility.md with the command that stands there.

    python docs/figures/make_mobility_figures.py

Takes half a minute on one core.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

HERE = Path(__file__).parent
CHECKPOINT = "mobility/net-ka3d-t064-minimized-v1"


def main() -> None:
    with (
        TemporaryDirectory() as folder,
        as_file(files("phaseseg") / "demo" / "liquid_ka3d_t064.xyz.gz") as path,
    ):
        command = [sys.executable, "-m", "phaseseg.cli", "evaluate", str(path), "-m", CHECKPOINT]
        subprocess.run([*command, "--report", folder, "--quiet"], check=True)
        with Image.open(Path(folder) / "map.png") as picture:
            small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
            small.save(HERE / "mobility-map.png", format="PNG", optimize=True)


if __name__ == "__main__":
    main()
