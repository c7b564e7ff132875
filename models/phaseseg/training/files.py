"""Paths of what a training writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from phaseseg.checkpoint import SUFFIX, CheckpointError


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
    """The file in the folder of a checkpoint that has its name and another ending."""
    return path.with_name(path.name.removesuffix(SUFFIX) + ending)


def cache_folder() -> Path:
    """Where this package keeps what it can make again: safe to delete at any time."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        default = Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base, default = None, Path.home() / "Library" / "Caches"
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache"
    return (Path(base) if base else default) / "phaseseg"
