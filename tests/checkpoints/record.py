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

from phaseseg import Frame, predict, read_frames
from phaseseg.api import load_model
from phaseseg.checkpoint import load_checkpoint

FOLDER = Path(__file__).parent / "recorded"
FRAMES = {"small_3000K": 0, "small_4000K": 40}
GLASS_FRAMES = {"hot": 0, "cold": -1}
FAMILIES = ("segmentation", "liquid_glass")


def frame(name: str) -> Frame:
    """A frame of a bundled trajectory of 520 atoms."""
    with as_file(files("phaseseg") / "demo" / f"melt_{name}.dump.gz") as path:
        return next(read_frames(path, frames=slice(FRAMES[name], FRAMES[name] + 1)))


def glass_frame(name: str, dimensions: int = 2) -> Frame:
    """A configuration of a bundled run of 1080 particles or, in three dimensions, 500 at random."""
    if dimensions == 2:
        with as_file(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz") as path:
            return list(read_frames(path))[GLASS_FRAMES[name]]
    rng = np.random.default_rng(GLASS_FRAMES[name] + 1)
    edge = (500 / 1.2) ** (1 / 3)
    positions = rng.permutation(np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3))[:500] + 0.5
    positions = (positions + rng.uniform(-0.1, 0.1, positions.shape)) * edge / 8
    species = (np.arange(500) < 100).astype(int)
    return Frame(positions, np.full(3, edge), True, species, ("A", "B"), units="lj")


def glass_outputs(checkpoint: str) -> dict[str, NDArray[Any]]:
    """The same of a network that tells liquid from glass."""
    found: dict[str, NDArray[Any]] = {}
    dimensions = load_checkpoint(checkpoint).config["network"]["dimensions"]
    for name in GLASS_FRAMES:
        fields = predict(glass_frame(name, dimensions), checkpoint)
        for key in ("frame_glass_probability", "frame_glass_uncertainty", "glass_probability", "attention"):
            if key in fields:
                found[f"{name} {key}"] = np.asarray(fields[key], dtype=np.float32)
    return found


def outputs(checkpoint: str) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    if checkpoint.startswith("liquid_glass/"):
        return glass_outputs(checkpoint)
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
    for entry in [entry for family in FAMILIES for entry in list_checkpoints(family)]:
        if len(sys.argv) > 1 and entry.name not in sys.argv[1:]:
            continue
        weights = load_checkpoint(entry.name).weights
        digest = np.array([float(np.abs(values).sum()) for values in weights.values()])
        path = FOLDER / f"{entry.name.split('/')[1]}.npz"
        np.savez_compressed(path, weights=digest, allow_pickle=False, **outputs(entry.name))
        print(path.name)


if __name__ == "__main__":
    main()
