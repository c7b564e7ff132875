"""Features of the systems for each learner, kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from phaseseg.families.mobility.filters import filters_of
from phaseseg.families.mobility.learner import Features, LearnerConfig, features_of
from phaseseg.families.mobility.learner_fit import Sample
from phaseseg.families.mobility.scalars import INHERENT_SCALARS
from phaseseg.families.mobility.structure import Structure
from phaseseg.io import atomic_output
from phaseseg.recipes.mobility.systems import System, prepare
from phaseseg.training.runs import frame_digest

CONFIGS = {
    "net": LearnerConfig(),
    "ridge": LearnerConfig(method="ridge"),
    "net-minimized": LearnerConfig(positions="inherent", scalars=INHERENT_SCALARS),
    "ridge-minimized": LearnerConfig(method="ridge", positions="inherent", scalars=INHERENT_SCALARS),
    "ridge-thermal": LearnerConfig(method="ridge", positions="thermal", scalars=()),
}
"""The learners of the recipes by name."""


def samples_of(
    systems: Sequence[System],
    config: LearnerConfig,
    folder: Path,
    structures: Sequence[Structure] | None = None,
) -> list[Sample]:
    """Features and targets of the systems; structures are prepared, and both are kept in the folder."""
    if structures is None and config.needs:
        structures = prepare(systems, folder, cage="cage" in config.needs)
    found = []
    for k, system in enumerate(systems):
        own = structures[k] if structures is not None else None
        features = _kept(system, own, config, folder)
        found.append(Sample(system.name, features, system.propensity[:, None]))
    return found


def _kept(system: System, structure: Structure | None, config: LearnerConfig, folder: Path) -> Features:
    # Ridge and network see the same; what is kept does not depend on the sizes of the network.
    seen = replace(config, method="net", hidden=1, rounds=1, dropout=0.0, ridge_share=0.0, penalty=1.0)
    text = json.dumps([frame_digest(system.frame), seen.to_dict()], sort_keys=True)
    if structure is not None and structure.cage is not None and "cage" in config.needs:
        text += hashlib.sha256(structure.cage.positions.tobytes()).hexdigest()
    path = folder / f"features-{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    frame, codes = system.frame, system.codes
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            rows, ridge = file["rows"], file["ridge"]
    else:
        made = features_of(frame, codes, structure, config)
        rows, ridge = made.rows, made.ridge
        with atomic_output(path) as fresh, fresh.open("wb") as file:
            np.savez(file, rows=rows, ridge=ridge)
    calm = frame
    if structure is not None and config.needs:
        calm = frame.replace(positions=structure.inherent.positions)
    return Features(rows, ridge, filters_of(calm, codes) if config.method == "net" else None, codes)
