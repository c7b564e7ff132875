"""Old module paths, which still work but warn and name the new path."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_SEGMENTATION, _GLASS = "families.segmentation", "families.liquid_glass"
_LABELS, _TRANSITION = f"{_SEGMENTATION}.labels", f"{_GLASS}.transition"

MOVED: dict[str, tuple[str, ...]] = {
    "cards": ("recipes.cards",),
    "devices": ("nn.device",),
    "graph": ("neighbors",),
    "kernels": ("compiled.jit", f"{_LABELS}.field_kernels", f"{_LABELS}.density_kernels"),
    "lanes": ("compiled.dense", "compiled.simd"),
    "layers": ("nn.ops", "nn.attention", "nn.layers"),
    "memory": ("compiled.buffer_pool",),
    "predict": ("api",),
    f"{_SEGMENTATION}.composition": (f"{_LABELS}.composition",),
    f"{_SEGMENTATION}.config": (f"{_SEGMENTATION}.rules",),
    f"{_SEGMENTATION}.decoding": (f"{_LABELS}.assignment",),
    f"{_SEGMENTATION}.density": (f"{_LABELS}.density", f"{_LABELS}.lattice"),
    f"{_SEGMENTATION}.domains": (f"{_LABELS}.domains",),
    f"{_SEGMENTATION}.hard_cases": ("recipes.segmentation.stress_cases",),
    f"{_SEGMENTATION}.interface": (f"{_LABELS}.interface",),
    f"{_SEGMENTATION}.prediction": (f"{_SEGMENTATION}.model",),
    f"{_SEGMENTATION}.defaults": (f"{_SEGMENTATION}.settings",),
    f"{_SEGMENTATION}.recipe": (f"{_SEGMENTATION}.settings",),
    f"{_SEGMENTATION}.series": ("statistics", f"{_SEGMENTATION}.trajectory_statistics"),
    f"{_SEGMENTATION}.threshold": (f"{_LABELS}.threshold",),
    f"{_SEGMENTATION}.torch_inference": (f"{_SEGMENTATION}.network",),
    f"{_GLASS}.conclusions": (f"{_TRANSITION}.findings",),
    f"{_GLASS}.config": (f"{_GLASS}.settings",),
    f"{_GLASS}.image_inference": (f"{_GLASS}.inference",),
    f"{_GLASS}.image_network": (f"{_GLASS}.network",),
    f"{_GLASS}.metrics": (f"{_GLASS}.structural_metrics",),
    f"{_GLASS}.prediction": (f"{_GLASS}.model",),
    f"{_GLASS}.defaults": (f"{_GLASS}.settings",),
    f"{_GLASS}.recipe": (f"{_GLASS}.settings",),
    f"{_GLASS}.search": (f"{_GLASS}.fit", "training.search"),
    f"{_GLASS}.sets": ("recipes.liquid_glass.datasets",),
    f"{_GLASS}.slopes": ("statistics",),
    f"{_GLASS}.torch_inference": (f"{_GLASS}.network",),
    f"{_GLASS}.windows": (f"{_GLASS}.crops",),
}
"""Old path to new paths, in search order; all below `phaseseg`."""

RENAMED = {f"{_SEGMENTATION}.series": {"Summary": "TrajectorySummary"}}
"""Old name to new name, for objects of moved modules that were also renamed."""

MOVED_NAMES: dict[str, dict[str, str]] = {
    "checkpoint": {"default_checkpoint": "api"},
    "fields": dict.fromkeys(("PHASE_CLASSES", "POOR", "RICH", "BOUNDARY"), f"{_SEGMENTATION}.fields"),
    "training": {"fit": "api"},
    f"{_SEGMENTATION}.inference": {"node_features": f"{_SEGMENTATION}.node_features"},
}
"""Names that have moved out of existing modules, and their new module.

Modules that are not at the top of the package have a `__getattr__` of their own for it.
"""


def _warn(old: str, new: str) -> None:
    # Reported at the importing line, because frames of the import system are not counted.
    warnings.warn(
        f"{old} has moved to {new}; the old path will be removed in 0.3.0.", FutureWarning, stacklevel=3
    )


class _MovedModule(ModuleType):
    """Replaces a module that no longer exists and looks its names up in the new ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        old = self.__name__.removeprefix("phaseseg.")
        new = RENAMED.get(old, {}).get(name, name)
        for path in MOVED[old]:
            module = import_module(f"phaseseg.{path}")
            if hasattr(module, new):
                return getattr(module, new)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder:  # without importlib.abc, which takes 10 ms to import
    """Comes last on `sys.meta_path`, so it is asked only for modules that no longer exist."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name.startswith("phaseseg.") and name.removeprefix("phaseseg.") in MOVED:
            return ModuleSpec(name, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, f"phaseseg.{MOVED[spec.name.removeprefix('phaseseg.')][-1]}")
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    """Make the old paths importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def bound(name: str, module: ModuleType) -> Any:
    """Return the attribute `name` that the package gets when its module `name` is imported.

    `phaseseg.predict` remains the function, even after the old module `predict` was imported. A module that
    names have moved out of gets a `__getattr__` that finds them.
    """
    if name == "predict":
        return module.predict
    if name in MOVED_NAMES:
        own = vars(module).get("__getattr__")
        module.__getattr__ = partial(moved_name, name, own)  # type: ignore[method-assign]
    return module


def moved_name(module: str, own: Callable[[str], Any] | None, name: str) -> Any:
    if name not in MOVED_NAMES[module]:
        if own is not None:
            return own(name)
        raise AttributeError(f"module 'phaseseg.{module}' has no attribute {name!r}")
    new = f"phaseseg.{MOVED_NAMES[module][name]}"
    _warn(f"phaseseg.{module}.{name}", new)
    return getattr(import_module(new), name)
