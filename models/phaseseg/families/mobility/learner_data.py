"""Training of ridges and graph filter networks from files: structures, features, checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.learner import LearnerConfig, features_of
from phaseseg.families.mobility.learner_checkpoint import fit_learner
from phaseseg.families.mobility.learner_fit import LearnerTraining, Sample
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.families.mobility.scalars import CAGE_SCALARS, INHERENT_SCALARS
from phaseseg.families.mobility.settings import MobilitySettings, Place, places_of
from phaseseg.families.mobility.structure import structure_of
from phaseseg.families.mobility.systems import read_training_systems
from phaseseg.specs import Progress
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import RunData, joint_digest

SCALARS: Mapping[Place, tuple[str, ...]] = {
    "samples": CAGE_SCALARS, "cage": CAGE_SCALARS, "inherent": INHERENT_SCALARS, "thermal": (),
}  # fmt: skip
"""What a learner knows of a particle besides the descriptors, by the places where these are computed."""
# Share of the work until all structures are known.
_STRUCTURES = 0.7


def fit_from_files(
    data: RunData | Iterable[RunData], settings: MobilitySettings, *,
    output: str | os.PathLike[str] | None = None, name: str | None = None, progress: Progress | None = None,
) -> Checkpoint:  # fmt: skip
    """Train a ridge or graph filter networks on configurations with measured propensities.

    Each configuration is minimized and, if `settings.positions` needs it, its cages are sampled. Both are
    kept in the folder `settings.structures`, if one is given. An interrupted training goes on with the
    networks that were finished.

    Raises
    ------
    ValueError
        For data that `read_systems` refuses, fewer than two independent systems, a configuration without
        temperature where cages need it, or one that cannot be minimized.
    """
    note = progress or (lambda done, line: None)
    files = TrainingOutput("mobility", output, name, resume=settings.resume)
    species = (settings.species[0], settings.species[1])
    systems, quantities, runs = read_training_systems(data, settings, note)
    scalars = dict.fromkeys(name for place in places_of(settings.positions) for name in SCALARS[place])
    config = LearnerConfig(
        method=settings.method, positions=settings.positions, scalars=tuple(scalars),
        targets=tuple(quantity.label for quantity in quantities),
    )  # fmt: skip
    given = LearnerTraining()
    training = LearnerTraining(
        folds=settings.folds, repeats=settings.repeats, seed=settings.seed,
        epochs=given.epochs if settings.epochs is None else settings.epochs,
        learning_rate=given.learning_rate if settings.learning_rate is None else settings.learning_rate,
        weight_decay=given.weight_decay if settings.weight_decay is None else settings.weight_decay,
    )  # fmt: skip
    potential = KOB_ANDERSEN
    if settings.potential is not None:
        potential = LennardJonesMixture.read(settings.potential)
    folder = None if settings.structures is None else Path(settings.structures)
    samples = []
    for number, system in enumerate(systems):

        def part(done: float, text: str, number: int = number) -> None:
            note(_STRUCTURES * (number + done) / len(systems), f"system {number + 1}: {text}")

        structure = None
        if config.needs:
            named = potential.named(system.frame, system.codes)
            structure = structure_of(
                named, temperature=settings.temperature, potential=potential, cage="cage" in config.needs,
                seed=settings.seed + number, folder=folder, progress=part,
            )  # fmt: skip
        features = features_of(system.frame, system.codes, structure, config)
        samples.append(Sample(system.name, features, system.values.T, system.group))
    checkpoint, _ = fit_learner(
        samples, [system.frame for system in systems], quantities, config, training, files=files,
        data_digest=joint_digest(run.digest for run in runs), species=species,
        potential=potential.for_a_and_b(species), summary=settings.summary,
        progress=lambda done, text: note(_STRUCTURES + (1 - _STRUCTURES) * done, text),
    )  # fmt: skip
    return checkpoint
