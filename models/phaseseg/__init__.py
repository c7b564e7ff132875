"""phaseseg: phases of melts atom by atom, and liquid or glass: labels, structural metrics and networks.

The public names load on first use, so that `import phaseseg` stays quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from phaseseg import moved
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.api import (
        default_checkpoint as default_checkpoint,
        evaluate as evaluate,
        fit as fit,
        load_model as load_model,
        predict as predict,
        predict_frames as predict_frames,
    )
    from phaseseg.checkpoint import (
        Checkpoint as Checkpoint,
        CheckpointError as CheckpointError,
        list_checkpoints as list_checkpoints,
        load_checkpoint as load_checkpoint,
        save_checkpoint as save_checkpoint,
        verify_checkpoint as verify_checkpoint,
    )
    from phaseseg.families import (
        FAMILIES as FAMILIES,
        Analysis as Analysis,
        BondFile as BondFile,
        Family as Family,
        Option as Option,
        Part as Part,
        register as register,
    )
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics as glass_metrics
    from phaseseg.families.liquid_glass.transition.analysis import analyze_transition as analyze_transition
    from phaseseg.families.segmentation.labels.threshold import pooled_threshold as pooled_threshold
    from phaseseg.families.segmentation.labels.weak_labels import (
        label_phases as label_phases,
        label_trajectory as label_trajectory,
    )
    from phaseseg.families.segmentation.rules import LabelRule as LabelRule
    from phaseseg.families.segmentation.selection import select_frames as select_frames
    from phaseseg.families.segmentation.trajectory_statistics import (
        TrajectorySummary as TrajectorySummary,
        boundary_width_scan as boundary_width_scan,
        summarize as summarize,
    )
    from phaseseg.fields import (
        Bonds as Bonds,
        Column as Column,
        Fields as Fields,
        Grid as Grid,
        Message as Message,
        Table as Table,
    )
    from phaseseg.frame import Frame as Frame
    from phaseseg.io import (
        InputError as InputError,
        OutputError as OutputError,
        atomic_output as atomic_output,
        frame_from_atoms as frame_from_atoms,
        read_frames as read_frames,
        write_frames as write_frames,
        write_json as write_json,
        write_table as write_table,
    )
    from phaseseg.neighbors import (
        nearest_neighbors as nearest_neighbors,
        neighbor_graph as neighbor_graph,
    )
    from phaseseg.simulate import (
        simulate_kob_andersen as simulate_kob_andersen,
        simulate_melt as simulate_melt,
    )
    from phaseseg.specs import ClassName as ClassName, FieldSpec as FieldSpec
    from phaseseg.statistics import block_error as block_error
    from phaseseg.trajectory import map_frames as map_frames

_NAMES = {
    "phaseseg.api": "default_checkpoint evaluate fit load_model predict predict_frames",
    "phaseseg.checkpoint": "Checkpoint CheckpointError list_checkpoints "
    "load_checkpoint save_checkpoint verify_checkpoint",
    "phaseseg.families": "FAMILIES Analysis BondFile Family Option Part register",
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
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_HOMES]


class _Package(ModuleType):
    """The package: modules that are bound to it pass through `moved.bound`."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, moved.bound(name, value) if isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'phaseseg' has no attribute {name!r}")
    if name == "Fields":  # which holds what families have registered
        list(import_module("phaseseg.families").FAMILIES)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
