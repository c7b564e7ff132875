"""The configurations of a data set that its report shows to turn: those that it lists, and typical ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from phaseseg.display import plural
from phaseseg.families.environments.mining import Mined
from phaseseg.viewer import Scene

MOST_LISTED = 100
"""Configurations with outliers or suspicious labels that are shown, the worst first."""


def add_listed(scene: Scene, mined: Mined) -> None:
    """Add configurations with their clusters and scores to a scene, in an order that is worth looking at."""
    data = mined.data
    chosen = shown_configurations(mined)
    frames, starts = list(data.frames), data.starts
    for k in chosen:
        atoms = slice(starts[k], starts[k + 1])
        fields: dict[str, Any] = {}
        if mined.labels is not None:
            fields["environment"] = mined.labels[atoms]
        if mined.scores is not None:
            fields["outlier_score"] = mined.scores[atoms]
        if mined.pruned is not None:
            fields["selected"] = mined.pruned.mask[atoms].astype(np.int8)
        scene.add(frames[k], fields)
    if len(chosen) < len(data):
        scene.notes[
            f"Of {plural(len(data), 'configuration')}, {len(chosen)} are shown: those with outliers or "
            "suspicious labels, the worst first, and a typical one of each cluster."
        ] = None


def shown_configurations(mined: Mined) -> list[int]:
    """Numbers of the configurations to show; all of a set in which nothing was looked for."""
    data = mined.data
    worst: list[int] = []
    if mined.scores is not None:
        highest, limits = mined.highest_scores, mined.outlier_limits
        order = np.argsort(-highest, kind="stable")
        worst += order[(highest >= limits)[order]].tolist()
    if mined.audit is not None:
        worst += mined.audit.suspicious.tolist()
    typical: list[int] = []
    if mined.labels is not None and mined.clusters is not None:
        away = mined.clusters.distances(mined.rows, mined.labels)
        for label in np.unique(mined.labels[mined.labels >= 0]).tolist():
            atoms = np.flatnonzero(mined.labels == label)
            typical.append(int(data.configurations[atoms[np.argmin(away[atoms])]]))
    found = [*dict.fromkeys(worst)][:MOST_LISTED]
    return list(dict.fromkeys([*found, *typical])) or list(range(len(data)))
