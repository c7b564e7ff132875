"""Training: what the families share, from reading runs to the card of a checkpoint.

settings : how a network is trained, and how a family declares its own settings; no NumPy, no PyTorch
runs : trajectories by name, and how they are divided into training and validation
loop, state, curves : epochs with Adam, the state on disk, learning curves
search : the search for settings by nested cross-validation
output, files, card : what a training writes, and what every card says

The public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phaseseg.training.curves import Epoch, Member, curves_figure, curves_table, write_curves
    from phaseseg.training.files import cache_folder, output_file
    from phaseseg.training.loop import Task, batches_by_atoms, deterministic, require_torch, train_members
    from phaseseg.training.runs import validation_block, validation_runs
    from phaseseg.training.settings import Settings
    from phaseseg.training.state import TrainingState

_HOMES = {
    "Epoch": "curves",
    "Member": "curves",
    "Settings": "settings",
    "Task": "loop",
    "TrainingState": "state",
    "batches_by_atoms": "loop",
    "cache_folder": "files",
    "curves_figure": "curves",
    "curves_table": "curves",
    "deterministic": "loop",
    "output_file": "files",
    "require_torch": "loop",
    "train_members": "loop",
    "validation_block": "runs",
    "validation_runs": "runs",
    "write_curves": "curves",
}

__all__ = [
    "Epoch",
    "Member",
    "Settings",
    "Task",
    "TrainingState",
    "batches_by_atoms",
    "cache_folder",
    "curves_figure",
    "curves_table",
    "deterministic",
    "output_file",
    "require_torch",
    "train_members",
    "validation_block",
    "validation_runs",
    "write_curves",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'phaseseg.training' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
