"""The modifier that finds the clusters of atomic environments."""

from __future__ import annotations

import numpy as np
from ovito.data import ElementType

from ovito_phaseseg import convert
from ovito_phaseseg.base import Evaluation, NetworkModifier, Steps
from phaseseg.families import Option
from phaseseg.families.environments.fields import color_of
from phaseseg.specs import FIELD_SPECS

MOST_TYPES = 200
"""Numbers below this have a type each; of larger ones only those in the frame."""
COLOR_BY = Option(
    "color_by", str, "environment",
    "Cluster, with a color for each number; or distance from the cluster, from dark blue to yellow at the "
    "largest.",
    choices=("nothing", "environment", "distance"), label="Color particles by", group="Output",
)  # fmt: skip


class EnvironmentClusters(NetworkModifier, family="environments", options=(COLOR_BY,)):
    """Find the clusters of the environments of all particles.

    A checkpoint without clusters, such as `environments/mixture-v1`, learns from all frames of the trajectory
    first. A file with fitted clusters gives their numbers to the particles of any trajectory. Frames without
    a cell, such as clusters of atoms, get an open box. Outputs are the particle properties `Environment`
    (typed and colored; 0 is the largest cluster, -1 is none) and `Environment Distance`, the table
    `environment-clusters` and the attributes `EnvironmentClusters.*`.
    """

    prefix = "EnvironmentClusters."
    tables = ""  # the names of the fields begin with "environment"
    boxed = True

    def put(self, now: Evaluation) -> Steps[None]:
        """Give every cluster a type with its number and color."""
        title = convert.numbered_title(FIELD_SPECS["environment"].title, now.turn)
        target = now.data.particles_[f"{title}_"]
        present = np.unique(now.fields["environment"]).tolist()
        known = {entry.id for entry in target.types}
        # Without gaps, so that the list of types does not change from frame to frame.
        for label in sorted({*present, *range(min(present[-1] + 1, MOST_TYPES))} - known):
            name = f"{label}" if label >= 0 else "none"
            target.types.append(ElementType(id=label, name=name, color=color_of(label)))
        yield 0.9

    def color(self, now: Evaluation) -> None:
        """Color the particles by cluster or distance."""
        if self.color_by == "environment":
            labels = now.fields["environment"]
            values, places = np.unique(labels, return_inverse=True)
            convert.put_colors(now.data, places.ravel(), [color_of(label) for label in values.tolist()])
        elif self.color_by == "distance":
            distances = now.fields["environment_distance"].astype(np.float64)
            convert.put_shades(now.data, distances / max(distances.max(), 1e-30))
