"""Paths of the files of a training, and a cache of arrays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import SUFFIX, CheckpointError
from phaseseg.io.index import cache_folder as cache_folder


def output_file(path: str | os.PathLike[str]) -> Path:
    """The path of a checkpoint that is to be written.

    Raises
    ------
    ValueError
        For another ending than .safetensors, a folder, and a folder that does not exist.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint file must end in {SUFFIX}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}. Make it, or write somewhere else.")
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder. Give the name of a file.")
    return path


def sibling_path(path: Path, ending: str) -> Path:
    """The file next to a checkpoint with the same name and another suffix."""
    return path.with_name(path.name.removesuffix(SUFFIX) + ending)


class ArrayCache:
    """A cache of float32 arrays by the values that they depend on, one .npy file each; it may be deleted.

    A file that cannot be read is replaced. Where nothing can be written, arrays are made every time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            self.folder = None

    def array(
        self, key: Any, make: Callable[[], NDArray[np.float32]], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return the array of a key (plain values); compute it if no array of this shape is stored."""
        from phaseseg.io import atomic_output

        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self.folder and self.folder / f"{name}.npy"
        if path is None:
            return make()
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
            if found.shape == shape and found.dtype == np.float32:
                return found
        except (OSError, ValueError, EOFError):
            pass
        made = make()
        try:
            with atomic_output(path) as temporary, temporary.open("wb") as file:
                np.save(file, made, allow_pickle=False)
        except OSError:
            self.folder = None
        return made
