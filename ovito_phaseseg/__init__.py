"""Phases, glasses, mobility and environments in OVITO: modifiers for OVITO Pro and for scripts.

>>> from ovito.io import import_file
>>> from ovito_phaseseg import WeakPhaseLabels
>>> pipeline = import_file("melt.dump.gz")                      # doctest: +SKIP
>>> pipeline.modifiers.append(WeakPhaseLabels(species="Fe"))    # doctest: +SKIP
>>> pipeline.compute().attributes["PhaseSegmentation.n_phases"]   # doctest: +SKIP
2

`network_modifier("FAMILY")` creates a modifier for any other family of models.

OVITO may import this package at startup, so it imports nothing else. A modifier is loaded on first access,
the numerical libraries when a modifier first runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovito_phaseseg.base import NetworkModifier, network_modifier
    from ovito_phaseseg.environments import EnvironmentClusters
    from ovito_phaseseg.glass import GlassClassifier, GlassMetrics
    from ovito_phaseseg.legend import PhaseLegend
    from ovito_phaseseg.mobility import Mobility
    from ovito_phaseseg.modifiers import PhaseSegmentation, RestorePhaseTypes, WeakPhaseLabels
    from ovito_phaseseg.readers import GlassArchiveReader

__all__ = [
    "EnvironmentClusters",
    "GlassArchiveReader",
    "GlassClassifier",
    "GlassMetrics",
    "Mobility",
    "NetworkModifier",
    "PhaseLegend",
    "PhaseSegmentation",
    "RestorePhaseTypes",
    "WeakPhaseLabels",
    "network_modifier",
]

_MODULES = dict.fromkeys(__all__, "modifiers") | {
    "EnvironmentClusters": "environments", "GlassClassifier": "glass", "GlassMetrics": "glass",
    "Mobility": "mobility", "GlassArchiveReader": "readers", "PhaseLegend": "legend",
    "NetworkModifier": "base", "network_modifier": "base",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
