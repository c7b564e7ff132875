"""Weak phase labels: from the density of a species to the phase of every atom."""

from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.labels.weak_labels import (
    label_density,
    label_frame,
    label_phases,
    label_trajectory,
    labeler,
)

__all__ = [
    "label_density",
    "label_frame",
    "label_phases",
    "label_trajectory",
    "labeler",
    "pooled_threshold",
]
