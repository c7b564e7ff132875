"""Make the data of the liquid_glass checkpoints: cooled Kob–Andersen mixtures, one file per run.

python data.py FOLDER [--part slow|fast|ka3d] [--runs 1:61]

slow/ka2d_sNNN.xyz.gz   two dimensions, cooled in 2e5 steps, at the temperatures of the sets and some more
fast/ka2d_sNNN.xyz.gz   the same mixture cooled in 2e4 steps, independent seeds
ka3d/ka3d_sNNN.xyz.gz   1000 particles in three dimensions cooled in 5e4 steps
and the minimized states of each as NAME.inherent.xyz.gz. Runs 1-15 of slow and fast are for tests: 4320
particles, as in the paper. The others, 1080 particles, are for training. The first eight slow runs are
written at all the temperatures of the transition analysis. Runs that are there are not made again, an
interrupted one goes on. About an hour on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from phaseseg.simulate import simulate_kob_andersen
from phaseseg.simulate.kob_andersen import TEMPERATURES

RUNS = {"slow": 60, "fast": 60, "ka3d": 30}
N_TEST = {"slow": 15, "fast": 15, "ka3d": 10}
N_TRANSITION = 8
SETS = (1.99, 1.76, 0.96, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.44, 0.05)


def arguments_of(part: str, run: int) -> dict[str, Any]:
    """What `simulate_kob_andersen` is called with."""
    if part == "ka3d":
        return {
            "dimensions": 3, "n_particles": 1000, "cooling_steps": 50_000, "seed": 2000 + run,
            "temperatures": (1.99, 0.96, 0.7, 0.55, 0.05),
        }  # fmt: skip
    n = 4320 if run <= N_TEST[part] else 1080
    if part == "fast":
        settings = {"cooling_steps": 20_000, "temperatures": (1.99, 0.55, 0.44, 0.05), "seed": 1000 + run}
    else:
        temperatures = TEMPERATURES if run <= N_TRANSITION else SETS
        settings = {"cooling_steps": 200_000, "temperatures": temperatures, "seed": run}
    return {"dimensions": 2, "n_particles": n, **settings}


def file_of(folder: Path, part: str, run: int) -> Path:
    """Where a run is, or belongs."""
    return folder / part / f"{'ka3d' if part == 'ka3d' else 'ka2d'}_s{run:03d}.xyz.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=tuple(RUNS), action="append", help="default: all three")
    parser.add_argument("--runs", default=None, help="first:stop, counted from 1")
    options = parser.parse_args()
    for part in options.part or RUNS:
        first, stop = (int(x) for x in options.runs.split(":")) if options.runs else (1, RUNS[part] + 1)
        (options.folder / part).mkdir(parents=True, exist_ok=True)
        for run in range(first, stop):
            path = file_of(options.folder, part, run)
            if path.exists():
                continue
            begin = time.process_time()
            result = simulate_kob_andersen(path, inherent=True, resume=True, **arguments_of(part, run))
            seconds = time.process_time() - begin
            print(f"{path.name}: e_IS {result.inherent_energy:.5f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
