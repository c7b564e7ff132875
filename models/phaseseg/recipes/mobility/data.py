"""Make the data of the mobility checkpoints: propensities of a supercooled Kob-Andersen liquid at T = 0.64.

python -m phaseseg.recipes.mobility.data [--first 1] [--systems 41] [--folder FOLDER] [--work FOLDER]

Each system of 4096 particles (80:20, density 1.2) is mixed at T = 2, held at T = 0.64 for ten relaxation
times and then run 32 times for one relaxation time, 16.5. The reduced result goes to FOLDER, by default the
folder `data` next to this file, as `ka3d_t064_sNNN.npz` (about 0.1 MB): positions, types, box, propensity,
that of both halves of the runs, and how it was made. Systems that are there are not made again; an
interrupted one continues from the folder `--work`. Some four minutes per system on one free core; with
`--first` two processes share the systems.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from phaseseg.io import atomic_output, read_frames, write_frames
from phaseseg.recipes.mobility.systems import OWN_DATA
from phaseseg.simulate import simulate_propensities
from phaseseg.simulate.kob_andersen_3d import TEMPERATURE, TIME

# The first is held back from training; forty remain.
SYSTEMS = 41
# Of the first system; no other data of this package has such seeds.
FIRST_SEED = 64_001


def file_of(folder: Path, system: int) -> Path:
    """Where the reduced result of a system is, or belongs; systems are counted from 1."""
    return folder / f"ka3d_t064_s{system:03d}.npz"


def reduce_result(source: Path, target: Path) -> None:
    """Keep what training needs, with positions as float32."""
    kept = ("types", "box", "propensity", "propensity_half", "propensity_time", "temperature", "runs", "seed",
            "equilibration", "units", "energies")  # fmt: skip
    with np.load(source, allow_pickle=False) as found:
        positions = found["positions"].astype(np.float32)
        edge = np.float32(found["box"][0])
        positions[positions >= edge] = 0.0  # rounded up to the upper face
        arrays = {"positions": positions, **{name: found[name] for name in kept}}
    arrays["energies"] = arrays["energies"].astype(np.float32)
    with atomic_output(target) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_demo(source: Path, target: Path) -> None:
    """Write a reduced system as the extended XYZ of the demonstration, with five decimals."""
    frame = next(read_frames(source, fields=True))
    fields = {name: np.round(values, 5) for name, values in frame.fields.items()}
    write_frames(target, [(frame.replace(positions=np.round(frame.positions, 5), fields=fields), {})])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--first", type=int, default=1, help="number of the first system to make")
    parser.add_argument("--systems", type=int, default=SYSTEMS, help="number of the last one")
    parser.add_argument("--folder", type=Path, default=OWN_DATA)
    parser.add_argument("--work", type=Path, default=Path("build/mobility"))
    parser.add_argument("--demo", type=Path, help="write the first system as extended XYZ, and end")
    options = parser.parse_args()
    if options.demo is not None:
        write_demo(file_of(options.folder, 1), options.demo)
        return
    for folder in (options.folder, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    for system in range(options.first, options.systems + 1):
        target = file_of(options.folder, system)
        if target.exists():
            continue
        begun = time.process_time()
        made = options.work / target.name
        run = simulate_propensities(
            made, temperature=TEMPERATURE, times=(TIME,), seed=FIRST_SEED + system - 1, resume=True
        )
        reduce_result(made, target)
        made.unlink()
        print(
            f"{target.name}: energy {run.energy:.5f} (drift {run.energy_drift:+.1f} standard errors), mean "
            f"propensity of A {run.propensity[0]:.4f}, ceiling {run.ceiling[0]:.3f}, "
            f"{time.process_time() - begun:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
