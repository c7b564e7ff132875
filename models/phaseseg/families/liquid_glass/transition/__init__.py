"""The glass transition in the structural metrics: regression, tests, findings and a report."""

from phaseseg.families.liquid_glass.transition.analysis import analyze_transition, energy_crossing
from phaseseg.families.liquid_glass.transition.result import (
    Break,
    EnergyCrossing,
    MetricTransition,
    Transition,
)

__all__ = [
    "Break",
    "EnergyCrossing",
    "MetricTransition",
    "Transition",
    "analyze_transition",
    "energy_crossing",
]
