"""From systems to the checkpoint of a learner: training, settings, ranges, and what every card says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.learner import N_TYPES, LearnerConfig
from phaseseg.families.mobility.learner_fit import (
    LearnerTraining,
    Sample,
    Trained,
    restored_members,
    save_members,
    train_learner,
)
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.families.mobility.settings import SPECIES
from phaseseg.families.mobility.systems import Quantity
from phaseseg.frame import Frame
from phaseseg.specs import Progress
from phaseseg.training.card import value_range
from phaseseg.training.curves import Member
from phaseseg.training.output import TrainingOutput
from phaseseg.version import __version__


def fit_learner(
    samples: Sequence[Sample], frames: Sequence[Frame], quantities: Sequence[Quantity], config: LearnerConfig,
    training: LearnerTraining | None = None, *, files: TrainingOutput, data_digest: str,
    species: tuple[str, str] = SPECIES, potential: LennardJonesMixture | None = None,
    summary: str | None = None, card: Mapping[str, Any] | None = None, progress: Progress | None = None,
) -> tuple[Checkpoint, Trained]:  # fmt: skip
    """Train a learner and write its checkpoint; an interrupted training goes on where a member was finished.

    Parameters
    ----------
    samples : systems with the features of this configuration
    frames : of these systems
    quantities : one for each target
    files : where the checkpoint goes
    data_digest : sha256 of the systems, which the state of an interrupted training is compared with
    species : names of A and B
    potential : of the mixture
    card : further entries of the card

    Raises
    ------
    ValueError
        As `train_learner`, and for a state file of another training.
    """
    training, potential = training or LearnerTraining(), potential or KOB_ANDERSEN
    # More repeats only add members.
    described = {"network": config.to_dict(), "data": data_digest, **asdict(training), "repeats": None}
    state = files.state(described)
    finished = [] if state is None or state.found is None else restored_members(*state.found)

    def save(members: list[Member]) -> None:
        if state is not None:
            save_members(state, members)

    trained = train_learner(samples, config, training, finished=finished, save=save, progress=progress)
    targets = [
        {"name": one.name, "time": one.time, "types": list(SPECIES)} for one in quantities
    ]  # fmt: skip
    codes = [sample.features.codes for sample in samples]
    ranges: dict[str, Any] = {
        "number_density": value_range([frame.n_atoms / frame.volume for frame in frames]),
        "b_fraction": value_range([float(np.mean(own == 1)) for own in codes]),
    }
    temperatures = [frame.info["temperature"] for frame in frames if "temperature" in frame.info]
    if temperatures:
        ranges["temperature"] = value_range(temperatures)
    written = {
        "summary": summary or _summary(config, quantities, len(samples)),
        "data": {
            "systems": len(samples), "particles": sum(frame.n_atoms for frame in frames),
            "species": list(species), "units": "lj",
            **{name: ranges[name] for name in ranges},
            "files": {"columns": ["system", "particles", "fold"], "rows": [
                [sample.name, len(own), int(fold) + 1]
                for sample, own, fold in zip(samples, codes, trained.folds, strict=True)
            ]},
        },
        "split": split_sentence(config, trained),
        "training": training_entry(config, training, trained),
        "metrics": {"validation": validation_table(samples, trained, quantities)},
        **(card or {}),
    }  # fmt: skip
    checkpoint = Checkpoint(
        "mobility", files.name,
        {
            "method": config.method, "network": config.to_dict(), "species": list(species),
            "targets": targets, "potential": potential.to_dict(),
        },
        trained.weights, card=written, units="lj", ranges=ranges,
    )  # fmt: skip
    if trained.members:
        return files.finish(checkpoint, trained.members, "1 - correlation (%)"), trained
    if files.path is not None:
        from phaseseg.checkpoint import save_checkpoint

        save_checkpoint(checkpoint, files.path)
    return checkpoint, trained


def split_sentence(config: LearnerConfig, trained: Trained) -> str:
    """How the systems were divided."""
    n = int(trained.folds.max()) + 1
    if config.method == "ridge":
        return f"by system, {n} folds for the scores; the regression that is stored was fitted to all systems"
    return f"by system, {n} folds; the members that were not trained on a fold are scored on it"


def training_entry(config: LearnerConfig, training: LearnerTraining, trained: Trained) -> dict[str, Any]:
    """Settings and members; of a ridge only its settings."""
    entry: dict[str, Any] = {**asdict(training), "versions": {"phaseseg": __version__}}
    if config.method == "ridge":
        return {"folds": training.folds, "penalty": config.penalty, "versions": {"phaseseg": __version__}}
    rows = [
        [m.seed, len(m.epochs), m.epochs[-1].loss, m.epochs[-1].validation_loss,
         1 - m.epochs[-1].validation_error, round(m.seconds, 1)]
        for m in trained.members
    ]  # fmt: skip
    columns = ["seed", "epochs", "loss", "validation loss", "validation correlation of A", "s"]
    return {
        **entry, "n_parameters": config.n_parameters, "best_epochs": [m.best_epoch for m in trained.members],
        "seconds": round(sum(m.seconds for m in trained.members), 1),
        "members": {"columns": columns, "rows": rows},
    }  # fmt: skip


def validation_table(
    samples: Sequence[Sample], trained: Trained, quantities: Sequence[Quantity]
) -> dict[str, Any]:
    """Correlations with systems that were not trained on, for each part, target and type."""
    rows = []
    for m, quantity in enumerate(quantities):
        for part, scores in trained.scores.items():
            for t in range(N_TYPES):
                own = scores[:, t, m]
                own = own[np.isfinite(own)]
                spread = float(own.std(ddof=1)) if len(own) > 1 else None
                coverage = trained.blend.coverage[:, t, m] if part == "blend" else None
                inside: list[float | None] = [None] * 3
                if coverage is not None and np.isfinite(coverage).any():
                    inside = [float(f(coverage)) for f in (np.nanmean, np.nanmin, np.nanmax)]
                rows.append(
                    [part, quantity.label, SPECIES[t], float(own.mean()) if len(own) else None, spread,
                     *inside]
                )  # fmt: skip
    return {
        "title": "Systems that were not trained on",
        "columns": [
            "part", "target", "type", "correlation", "± correlation", "inside 90 % intervals",
            "least of a system", "most of a system",
        ],
        "rows": rows,
        "note": f"Pearson correlation within each of {len(samples)} systems; mean and deviation. The "
        "blend is what the checkpoint predicts.",
    }  # fmt: skip


def _summary(config: LearnerConfig, quantities: Sequence[Quantity], n_systems: int) -> str:
    what = " and ".join(one.label for one in quantities)
    how = "Ridge regression" if config.method == "ridge" else "Graph filter networks blended with a ridge"
    names = {
        "samples": "short cage runs", "cage": "short cage runs", "inherent": "the inherent structure",
        "thermal": "thermal positions",
    }  # fmt: skip
    places = " and ".join(dict.fromkeys(names[place] for place in config.places))
    return f"{how}: the {what} of particles from {places}; trained on {n_systems} systems."
