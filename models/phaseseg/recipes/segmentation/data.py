"""Simulate the melts for training, validation and tests of the segmentation checkpoints.

    python models/phaseseg/recipes/segmentation/data.py --output FOLDER [--only PATTERN ...] [--list]

Existing files are skipped and interrupted runs are continued, so the command can be repeated, or run in
parallel with different patterns (shell wildcards for the names). On one core, a cell takes about one minute
(520 atoms), two minutes (a single liquid), four minutes (4160 atoms) or half an hour (33,280 atoms).
"""

from __future__ import annotations

import argparse
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from phaseseg.simulate import simulate_melt

TEMPERATURES = (3000, 4000)
# Seeds from 101 are for training, from 151 for the choice of the epoch and calibration, from 201 for tests.
SMALL_SEEDS = (101, 102, 103, 104, 151, 152)


def cells() -> dict[str, dict[str, Any]]:
    """Return the arguments of `simulate_melt` for every trajectory, by name."""
    table: dict[str, dict[str, Any]] = {}

    def add(kind: str, temperature: int, seed: int, **arguments: Any) -> None:
        table[f"{kind}_{temperature}K_s{seed}"] = {"temperature": temperature, "seed": seed, **arguments}

    for seed in SMALL_SEEDS:
        for temperature in TEMPERATURES:
            add("small", temperature, seed, steps=18000, every=2000)
    for seed in (101, 102, 151):
        for temperature in TEMPERATURES:
            add("medium", temperature, seed, replicate=2, steps=8000, every=2000)
    for seed in (101, 151):
        add("mixed", 20000, seed, steps=8000, every=2000)
        add("oxidized", 4000, seed, composition="oxidized", steps=8000, every=2000)
    for liquid in ("metal", "silicate"):
        for seed in (101, 201):
            for temperature in TEMPERATURES:
                add(liquid, temperature, seed, composition=liquid, replicate=2, steps=3000, every=1500,
                    equilibration=0.6)  # fmt: skip
    for temperature in TEMPERATURES:
        add("large", temperature, 201, replicate=4, steps=5000, every=5000)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("segmentation-data"))
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, arguments in cells().items():
        if not any(fnmatch(name, pattern) for pattern in options.only):
            continue
        path = options.output / f"{name}.dump.gz"
        if options.list or path.exists():
            print(f"{path.name:36s} {'there' if path.exists() else arguments}")
            continue
        begin = time.perf_counter()
        run = simulate_melt(path, resume=True, **arguments)
        print(
            f"{path.name:36s} {run.n_atoms} atoms, {run.n_frames} frames, {run.temperature:.0f} K, "
            f"{run.pressure:.1f} GPa, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
