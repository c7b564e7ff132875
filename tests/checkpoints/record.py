"""Record what the bundled checkpoints say of two frames: `python tests/checkpoints/record.py [NAME ...]`.

A recording belongs to one file, by its hash, and is made once, when the checkpoint arrives. A test compares
every later version of the code with it.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg import Frame, read_frames
from phaseseg.checkpoint import load_checkpoint
from phaseseg.predict import load_model

FOLDER = Path(__file__).parent / "recorded"
FRAMES = {"small_3000K": 0, "small_4000K": 40}


def frame(name: str) -> Frame:
    """A frame of a bundled trajectory of 520 atoms."""
    with as_file(files("phaseseg") / "demo" / f"melt_{name}.dump.gz") as path:
        return next(read_frames(path, frames=slice(FRAMES[name], FRAMES[name] + 1)))


def outputs(checkpoint: str) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    found: dict[str, NDArray[Any]] = {}
    model = load_model(checkpoint)
    for name in FRAMES:
        scores = model.score(frame(name))
        fields = model.fields(frame(name), scores)
        found |= {
            f"{name} member scores": scores.members,
            f"{name} probability": scores.probability,
            f"{name} uncertainty": scores.uncertainty,
            f"{name} phase": fields["phase"],
            f"{name} distance": fields["interface_distance"],
        }
    return found


def main() -> None:
    from phaseseg.checkpoint import list_checkpoints

    FOLDER.mkdir(exist_ok=True)
    for entry in list_checkpoints("segmentation"):
        if len(sys.argv) > 1 and entry.name not in sys.argv[1:]:
            continue
        weights = load_checkpoint(entry.name).weights
        digest = np.array([float(np.abs(values).sum()) for values in weights.values()])
        path = FOLDER / f"{entry.name.split('/')[1]}.npz"
        np.savez_compressed(path, weights=digest, allow_pickle=False, **outputs(entry.name))
        print(path.name)


if __name__ == "__main__":
    main()
