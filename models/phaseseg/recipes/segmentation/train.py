"""Train the bundled segmentation checkpoints.

    python -m phaseseg.recipes.segmentation.train --data FOLDER --melt FOLDER --output FOLDER [--only X ...]

`--data` is the output folder of data.py; `--melt` contains small_{3000,4000}K[_s11 ... _s14].dump.gz, more
cells of 520 atoms. Existing checkpoints are skipped and interrupted runs are continued. On one core, gat-v1
and its ablation take about twenty minutes each, the others five.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from phaseseg.families.segmentation.fit import fit_segmentation
from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.settings import RECIPE, RECIPE_RULE
from phaseseg.io import read_frames

TEMPERATURES = (3000, 4000)
PAPER = {"features": "counts", "counter": ("Mg",), "layers": 2, "readout": 0, "hidden": 32}
SEEDS = (0, 1, 2)


def small(data: Path, melt: Path, temperature: int) -> list[Path]:
    """Return the 520-atom training cells; each file is a run with a different seed."""
    return [
        melt / f"small_{temperature}K.dump.gz",
        *(melt / f"small_{temperature}K_s{seed}.dump.gz" for seed in (11, 12, 13, 14)),
        *(data / f"small_{temperature}K_s{seed}.dump.gz" for seed in (101, 102, 103, 104)),
    ]


def recipes(data: Path, melt: Path) -> Mapping[str, dict[str, Any]]:
    """Return the arguments of `fit_segmentation` for every checkpoint, by name."""
    table: dict[str, dict[str, Any]] = {}
    # Epoch and calibration use cells of 4160 atoms with another seed, because cells of 520 atoms contain no
    # bulk phase and cannot reveal errors there.
    held = {t: [data / f"medium_{t}K_s151.dump.gz"] for t in TEMPERATURES}
    for temperature in TEMPERATURES:
        for architecture in ("gat", "gcn"):
            table[f"{architecture}-{temperature}K-v1"] = {
                "data": small(data, melt, temperature),
                "validation": held[temperature],
                "network": {**PAPER, "architecture": architecture, "heads": 4},
                "loss": "class",
                "epochs": 60,
            }
    cells = [path for t in TEMPERATURES for path in small(data, melt, t)]
    mixed = [data / "mixed_20000K_s101.dump.gz", data / "oxidized_4000K_s101.dump.gz"]
    larger = [data / f"medium_{t}K_s{seed}.dump.gz" for t in TEMPERATURES for seed in (101, 102)]
    bulk = [data / f"{liquid}_{t}K_s101.dump.gz" for liquid in ("metal", "silicate") for t in TEMPERATURES]
    both = [path for t in TEMPERATURES for path in held[t]]
    table["gat-small-v1"] = {"data": cells, "validation": both, "network": RECIPE, "epochs": 60}
    table["gat-v1"] = {
        "data": [*cells, *larger, *mixed, *bulk],
        "validation": both,
        "network": RECIPE,
        "epochs": 120,
        # Threshold from the larger cells: in 520 atoms, the density of curved domains reaches no plateau.
        "pool": larger,
    }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("segmentation-data"))
    parser.add_argument("--melt", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("segmentation-checkpoints"))
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    for name, arguments in recipes(options.data, options.melt).items():
        path = options.output / f"{name}.safetensors"
        if options.only and name not in options.only:
            continue
        if path.exists():
            console.print(f"{path.name}: there")
            continue
        rule = RECIPE_RULE
        if pool := arguments.pop("pool", None):
            frames = (frame for source in pool for frame in read_frames(source))
            rule = pooled_threshold(frames, rule)
        begin = time.perf_counter()
        with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), TextColumn("{task.fields[line]}"),
                      console=console) as bar:  # fmt: skip
            task = bar.add_task(name, total=1.0, line="")

            def report(done: float, line: str, task: Any = task, bar: Progress = bar) -> None:
                bar.update(task, completed=done, line=line)

            fit_segmentation(
                **arguments, rule=rule, seeds=SEEDS, output=path, resume=True, progress=report,
                name=f"segmentation/{name}",
            )  # fmt: skip
        console.print(f"{path.name}: {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
