"""Phases and glasses in OVITO: the modifiers that OVITO Pro lists and that scripts put into a pipeline.

>>> from ovito.io import import_file
>>> from ovito_phaseseg import WeakPhaseLabels
>>> pipeline = import_file("melt.dump.gz")                      # doctest: +SKIP
>>> pipeline.modifiers.append(WeakPhaseLabels(species="Fe"))    # doctest: +SKIP
>>> pipeline.compute().attributes["PhaseSegmentation.n_phases"]   # doctest: +SKIP
2

Importing this package imports nothing else: OVITO may look at it when it starts. The modifiers load
when they are first named, the numerical libraries when a modifier first runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovito_phaseseg.glass import GlassClassifier, GlassMetrics
    from ovito_phaseseg.modifiers import PhaseSegmentation, RestorePhaseTypes, WeakPhaseLabels

__all__ = ["GlassClassifier", "GlassMetrics", "PhaseSegmentation", "RestorePhaseTypes", "WeakPhaseLabels"]


def __getattr__(name: str) -> Any:
    if name.startswith("Glass") and name in __all__:
        from ovito_phaseseg import glass

        return getattr(glass, name)
    if name in __all__:
        from ovito_phaseseg import modifiers

        return getattr(modifiers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
