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
    from phaseseg.api import fit, load_model, predict
    from phaseseg.checkpoint import list_checkpoints, load_checkpoint
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
    from phaseseg.families.segmentation.labels.weak_labels import label_phases
    from phaseseg.fields import Fields
    from phaseseg.frame import Frame
    from phaseseg.io import read_frames, write_frames, write_table
    from phaseseg.neighbors import neighbor_graph
    from phaseseg.trajectory import map_frames

_HOMES = {
    "Frame": "phaseseg.frame",
    "Fields": "phaseseg.fields",
    "read_frames": "phaseseg.io",
    "write_frames": "phaseseg.io",
    "write_table": "phaseseg.io",
    "fit": "phaseseg.api",
    "glass_metrics": "phaseseg.families.liquid_glass.structural_metrics",
    "label_phases": "phaseseg.families.segmentation.labels.weak_labels",
    "list_checkpoints": "phaseseg.checkpoint",
    "load_checkpoint": "phaseseg.checkpoint",
    "load_model": "phaseseg.api",
    "map_frames": "phaseseg.trajectory",
    "neighbor_graph": "phaseseg.neighbors",
    "predict": "phaseseg.api",
}

__all__ = [
    "Fields",
    "Frame",
    "__version__",
    "fit",
    "glass_metrics",
    "label_phases",
    "list_checkpoints",
    "load_checkpoint",
    "load_model",
    "map_frames",
    "neighbor_graph",
    "predict",
    "read_frames",
    "write_frames",
    "write_table",
]


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
