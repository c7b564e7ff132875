"""Record what the bundled checkpoints say of some frames: `make record NAMES="gat-v1 ..."`.

A recording belongs to one file, by its hash, and is made once, when the checkpoint arrives. A test compares
every later version of the code with it. The module of a family next to this one gives the frames and the
outputs of its networks.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg import list_checkpoints, load_checkpoint, load_model

FOLDER = Path(__file__).parent / "recorded"


def module_of(family: str) -> ModuleType:
    """The module that gives frames and outputs of a family."""
    return import_module(f"checkpoints.{family}")


def outputs(name: str) -> dict[str, NDArray[Any]]:
    """What is compared of a checkpoint, by the names of frames and outputs."""
    model = load_model(name)
    module = module_of(model.checkpoint.family)
    return {
        f"{frame_name} {key}": value
        for frame_name, frame in module.frames(model.checkpoint).items()
        for key, value in module.outputs(model, frame).items()
    }


def digest(name: str) -> NDArray[np.float64]:
    """Sums that tell one network from another."""
    return np.array([float(np.abs(values).sum()) for values in load_checkpoint(name).weights.values()])


def path_of(name: str) -> Path:
    return FOLDER / f"{name.split('/')[1]}.npz"


def main() -> None:
    for entry in list_checkpoints():
        if not sys.argv[1:] or {entry.name, entry.name.split("/")[1]} & set(sys.argv[1:]):
            np.savez_compressed(path_of(entry.name), weights=digest(entry.name), **outputs(entry.name))
            print(path_of(entry.name).name)


if __name__ == "__main__":
    main()
