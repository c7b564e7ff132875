"""Make the figures of docs/graph-networks.md with the commands that stand there.

    python docs/figures/make_network_figures.py

Needs the extra `train`. Takes a minute on one core.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

HERE = Path(__file__).parent
COMMANDS = (
    "train segmentation small.dump.gz -o mine.safetensors --every 2 --epochs 10 --members 1",
    "evaluate large.dump.gz -m gat-v1 --report evaluation",
)
FIGURES = {"mine.curves.png": "network-curves.png", "evaluation/slices_0.68.png": "network-slices.png"}


def main() -> None:
    with TemporaryDirectory() as folder:
        for size in ("small", "large"):
            with as_file(files("phaseseg") / "demo" / f"melt_{size}_3000K.dump.gz") as path:
                shutil.copy(path, Path(folder) / f"{size}.dump.gz")
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "phaseseg.cli", *command.split()], cwd=folder, check=True)
        for source, target in FIGURES.items():
            with Image.open(Path(folder) / source) as picture:
                small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
                small.save(HERE / target, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
