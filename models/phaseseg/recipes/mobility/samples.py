"""The learners of the recipes, and features of the systems for them, kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from phaseseg.families.mobility.filters import filters_of
from phaseseg.families.mobility.learner import Features, LearnerConfig, features_of
from phaseseg.families.mobility.learner_fit import Sample
from phaseseg.families.mobility.scalars import CAGE_SCALARS, INHERENT_SCALARS
from phaseseg.families.mobility.structure import Structure
from phaseseg.io import atomic_output
from phaseseg.recipes.mobility.systems import System, prepare
from phaseseg.training.runs import frame_digest

EVERY_SCALAR = tuple(dict.fromkeys(CAGE_SCALARS + INHERENT_SCALARS))

CONFIGS: Mapping[float, Mapping[str, LearnerConfig]] = {
    0.44: {
        "net": LearnerConfig(),
        "ridge": LearnerConfig(method="ridge"),
        "net-minimized": LearnerConfig(positions="inherent", scalars=INHERENT_SCALARS),
    },
    # With more systems, more inputs and a smaller penalty pay. The relaxation time is so short that thermal
    # positions help, too, where there are no cages.
    0.64: {
        "net": LearnerConfig(scalars=EVERY_SCALAR, penalty=0.03),
        "ridge": LearnerConfig(method="ridge", scalars=EVERY_SCALAR, penalty=0.03),
        "net-minimized": LearnerConfig(positions="inherent+thermal", scalars=INHERENT_SCALARS, penalty=0.03),
    },
}
"""By temperature the learners whose checkpoints are trained."""

_CAGES = LearnerConfig(method="ridge")
_AT_MINIMUM = replace(_CAGES, positions="inherent", scalars=INHERENT_SCALARS)
_WITHOUT_ENERGY = tuple(name for name in CAGE_SCALARS if name != "cage_energy")
VARIANTS: Mapping[str, LearnerConfig] = {
    "thermal positions": replace(_CAGES, positions="thermal", scalars=()),
    "inherent positions and the distance to them": replace(_AT_MINIMUM, scalars=("inherent_displacement",)),
    "inherent positions, all scalars without cage": _AT_MINIMUM,
    "inherent and thermal positions, all scalars without cage": replace(
        _AT_MINIMUM, positions="inherent+thermal"
    ),
    "mean cage positions, scalars of the cage without its energy": replace(
        _CAGES, positions="cage", scalars=_WITHOUT_ENERGY
    ),
    "mean cage positions, scalars of the cage": replace(_CAGES, positions="cage"),
    "descriptors averaged over cage runs, scalars of the cage": _CAGES,
    "the same, three and six averagings": replace(_CAGES, descriptor_rounds=3, scalar_rounds=6),
    "descriptors averaged over cage runs, all scalars": replace(_CAGES, scalars=EVERY_SCALAR),
    "the same and thermal positions": replace(_CAGES, positions="samples+thermal", scalars=EVERY_SCALAR),
}
"""Ridges that are compared."""


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
