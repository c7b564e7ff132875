"""What is recorded of the bundled networks of liquid and glass."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg import Frame, predict, read_frames
from phaseseg.checkpoint import Checkpoint

SHIPPED = {"dmpnn-v1", "dmpnn-attention-v1", "dmpnn-3d-v1", "cnn-v1"}
CARD = {"test_data"}
# A network needs both species, and the dimensions that it was trained in; one atom has three.
ALONE = {"one atom", "one atom, open", "one species"}
PLANES = {"2D", "2D, open out of the plane", "2D, open in the plane"}
FRAMES = {"hot": 0, "cold": -1}
NAMES = ("frame_glass_probability", "frame_glass_uncertainty", "glass_probability", "attention")


def frames(checkpoint: Checkpoint) -> dict[str, Frame]:
    """Two configurations of a bundled run of 1080 particles or, in space, of 500 at random."""
    if checkpoint.config["network"]["dimensions"] == 3:
        return {name: _at_random(number + 1) for name, number in FRAMES.items()}
    with as_file(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz") as path:
        run = list(read_frames(path))
    return {name: run[number] for name, number in FRAMES.items()}


def _at_random(seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    edge = (500 / 1.2) ** (1 / 3)
    positions = rng.permutation(np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3))[:500] + 0.5
    positions = (positions + rng.uniform(-0.1, 0.1, positions.shape)) * edge / 8
    species = (np.arange(500) < 100).astype(int)
    return Frame(positions, np.full(3, edge), True, species, ("A", "B"), units="lj")


def outputs(model: Any, frame: Frame) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    fields = predict(frame, model)
    return {name: np.asarray(fields[name], dtype=np.float32) for name in NAMES if name in fields}


def refused(checkpoint: Checkpoint) -> set[str]:
    """Awkward frames that these networks cannot take."""
    network = checkpoint.config["network"]
    if network["architecture"] == "cnn":
        return ALONE | {"tiny"}
    return ALONE | (PLANES if network["dimensions"] == 3 else set())
