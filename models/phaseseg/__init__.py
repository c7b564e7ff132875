"""phaseseg: labels, structural metrics and networks for the phases of melts and for liquid and glass.

Public names are loaded on first use, so that `import phaseseg` stays fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from phaseseg import moved
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.api import default_checkpoint, evaluate, fit, load_model, predict, predict_frames
    from phaseseg.checkpoint import (
        Checkpoint,
        CheckpointError,
        list_checkpoints,
        load_checkpoint,
        save_checkpoint,
        verify_checkpoint,
    )
    from phaseseg.citation import cite
    from phaseseg.compiled.threads import threads
    from phaseseg.families import FAMILIES, Analysis, BondFile, Family, Option, Part, register
    from phaseseg.families.environments.dataset import read_data_set, write_data_set
    from phaseseg.families.environments.descriptors import PowerSpectrum
    from phaseseg.families.environments.mining import mine
    from phaseseg.families.environments.mining_tables import mined_sentences, mined_tables
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
    from phaseseg.families.liquid_glass.transition.analysis import analyze_transition
    from phaseseg.families.segmentation.labels.threshold import pooled_threshold
    from phaseseg.families.segmentation.labels.weak_labels import label_phases, label_trajectory
    from phaseseg.families.segmentation.rules import LabelRule
    from phaseseg.families.segmentation.selection import select_frames
    from phaseseg.families.segmentation.trajectory_statistics import (
        TrajectorySummary,
        boundary_width_scan,
        summarize,
    )
    from phaseseg.fields import Bonds, Column, Fields, Grid, Message, Table
    from phaseseg.frame import Frame
    from phaseseg.io import (
        InputError,
        OutputError,
        atomic_output,
        frame_from_atoms,
        read_frames,
        write_frames,
        write_json,
        write_table,
    )
    from phaseseg.neighbors import nearest_neighbors, neighbor_graph
    from phaseseg.simulate import simulate_kob_andersen, simulate_melt
    from phaseseg.specs import ClassName, FieldSpec
    from phaseseg.statistics import block_error
    from phaseseg.trajectory import map_frames
    from phaseseg.viewer import View, view

__all__ = [
    "FAMILIES", "Analysis", "BondFile", "Bonds", "Checkpoint", "CheckpointError", "ClassName", "Column",
    "Family", "FieldSpec", "Fields", "Frame", "Grid", "InputError", "LabelRule", "Message", "Option",
    "OutputError", "Part", "PowerSpectrum", "Table", "TrajectorySummary", "View", "__version__",
    "analyze_transition", "atomic_output", "block_error", "boundary_width_scan", "cite", "default_checkpoint",
    "evaluate", "fit", "frame_from_atoms", "glass_metrics", "label_phases", "label_trajectory",
    "list_checkpoints", "load_checkpoint", "load_model", "map_frames", "mine", "mined_sentences",
    "mined_tables", "nearest_neighbors", "neighbor_graph", "pooled_threshold", "predict", "predict_frames",
    "read_data_set", "read_frames", "register", "save_checkpoint", "select_frames", "simulate_kob_andersen",
    "simulate_melt", "summarize", "threads", "verify_checkpoint", "view", "write_data_set", "write_frames",
    "write_json", "write_table",
]  # fmt: skip

_NAMES = {
    "phaseseg.api": "default_checkpoint evaluate fit load_model predict predict_frames",
    "phaseseg.checkpoint": "Checkpoint CheckpointError list_checkpoints "
    "load_checkpoint save_checkpoint verify_checkpoint",
    "phaseseg.citation": "cite",
    "phaseseg.compiled.threads": "threads",
    "phaseseg.families": "FAMILIES Analysis BondFile Family Option Part register",
    "phaseseg.families.environments.dataset": "read_data_set write_data_set",
    "phaseseg.families.environments.descriptors": "PowerSpectrum",
    "phaseseg.families.environments.mining": "mine",
    "phaseseg.families.environments.mining_tables": "mined_sentences mined_tables",
    "phaseseg.families.liquid_glass.structural_metrics": "glass_metrics",
    "phaseseg.families.liquid_glass.transition.analysis": "analyze_transition",
    "phaseseg.families.segmentation.labels.threshold": "pooled_threshold",
    "phaseseg.families.segmentation.labels.weak_labels": "label_phases label_trajectory",
    "phaseseg.families.segmentation.rules": "LabelRule",
    "phaseseg.families.segmentation.selection": "select_frames",
    "phaseseg.families.segmentation.trajectory_statistics": "TrajectorySummary boundary_width_scan summarize",
    "phaseseg.fields": "Bonds Column Fields Grid Message Table",
    "phaseseg.frame": "Frame",
    "phaseseg.io": "InputError OutputError atomic_output frame_from_atoms "
    "read_frames write_frames write_json write_table",
    "phaseseg.neighbors": "nearest_neighbors neighbor_graph",
    "phaseseg.simulate": "simulate_kob_andersen simulate_melt",
    "phaseseg.specs": "ClassName FieldSpec",
    "phaseseg.statistics": "block_error",
    "phaseseg.trajectory": "map_frames",
    "phaseseg.viewer": "View view",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


class _Package(ModuleType):
    """The package, which passes each of its modules through `moved.bound` when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, moved.bound(name, value) if isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'phaseseg' has no attribute {name!r}")
    if name == "Fields":  # it accepts the names that families have registered, so load the families
        list(import_module("phaseseg.families").FAMILIES)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
