"""The glass transition in the structural metrics: regression, tests, findings and a report."""

from phaseseg.families.liquid_glass.transition.analysis import (
    Break,
    EnergyCrossing,
    MetricTransition,
    Transition,
    analyze_transition,
    energy_crossing,
)

__all__ = [
    "Break",
    "EnergyCrossing",
    "MetricTransition",
    "Transition",
    "analyze_transition",
    "energy_crossing",
]
