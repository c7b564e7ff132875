"""Train the mobility checkpoints of ridges and graph filter networks by cross-validation.

    python -m phaseseg.recipes.mobility.train --data FOLDER --work FOLDER --output FOLDER [--only NAME ...]

`--data` holds the ten systems `config_1.npz` ... at T = 0.44 (positions, types, box, propensity,
propensity_half). Minimizing them and sampling their cages takes about a minute per system; structures and
features are kept in `--work`, and what was interrupted is continued. A network takes about half a minute for
each of its members. Next to each checkpoint goes `NAME.validation.npz` with the predictions for every system
from the members that were not trained on it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.checkpoint import SUFFIX, Checkpoint, load_checkpoint
from phaseseg.families.mobility.learner_checkpoint import fit_learner
from phaseseg.families.mobility.learner_fit import LearnerTraining, Trained
from phaseseg.families.mobility.systems import Quantity
from phaseseg.io import atomic_output
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.samples import CONFIGS, samples_of
from phaseseg.recipes.mobility.systems import System, read_systems
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import frame_digest

TEMPERATURE, TIME = 0.44, 4120.0


@dataclass(frozen=True)
class Plan:
    """A checkpoint: the learner, how it is trained, and its line in lists."""

    learner: str
    training: LearnerTraining
    summary: str


PLANS = {
    "ridge-ka3d-v1": Plan(
        "ridge", LearnerTraining(folds=10),
        "Kob–Andersen liquid at T = 0.44: propensity at the relaxation time by ridge regression, after a "
        "short cage run; no PyTorch in training.",
    ),
    "net-ka3d-v1": Plan(
        "net", LearnerTraining(folds=5, repeats=1, epochs=30),
        "Kob–Andersen liquid at T = 0.44: propensity at the relaxation time by graph filter networks and a "
        "ridge, after a short cage run. The most accurate.",
    ),
    "net-ka3d-minimized-v1": Plan(
        "net-minimized", LearnerTraining(folds=5, repeats=1, epochs=30),
        "Kob–Andersen liquid at T = 0.44: propensity at the relaxation time by graph filter networks and a "
        "ridge, after minimization alone.",
    ),
}  # fmt: skip


def train(
    name: str, plan: Plan, systems: Sequence[System], work: Path, output: Path
) -> tuple[Checkpoint, Trained | None]:
    """Train a checkpoint into a folder, or read it if it is there."""
    path = output / f"{name}{SUFFIX}"
    if path.is_file():
        return load_checkpoint(path), None
    config = CONFIGS[plan.learner]
    samples = samples_of(systems, config, work)
    digest = hashlib.sha256("".join(frame_digest(system.frame) for system in systems).encode()).hexdigest()
    files = TrainingOutput("mobility", path, f"mobility/{name}", resume=True)
    checkpoint, trained = fit_learner(
        samples, [system.frame for system in systems], [Quantity("propensity", TIME)], config, plan.training,
        files=files, data_digest=digest, summary=plan.summary,
        progress=lambda done, text: say(f"{name}, {done:.0%}: {text}") if "epoch" not in text or
        text.partition("epoch ")[2].partition(":")[0] in ("20", "40") else None,
    )  # fmt: skip
    arrays: dict[str, Any] = {
        f"{part}-{system.name}": values
        for part, found in (("blend", trained.predictions),)
        for system, values in zip(systems, found, strict=True)
    }  # fmt: skip
    with atomic_output(output / f"{name}.validation.npz") as fresh, fresh.open("wb") as file:
        np.savez(file, **arrays)
    return checkpoint, trained


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/mobility"))
    parser.add_argument("--output", type=Path, default=Path("mobility-checkpoints"))
    parser.add_argument("--only", nargs="+", choices=list(PLANS), default=list(PLANS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    systems = read_systems(options.data.glob("config_*.npz"), TEMPERATURE, TIME)
    if len(systems) < 2:
        raise SystemExit(
            f"{options.data} holds {len(systems)} systems config_N.npz; training needs at least 2."
        )
    for name in options.only:
        _, trained = train(name, PLANS[name], systems, options.work, options.output)
        if trained is None:
            say(f"{name} is there already.")
            continue
        for part, scores in trained.scores.items():
            mean, spread = scores[:, :, 0].mean(axis=0), scores[:, :, 0].std(axis=0, ddof=1)
            say(f"{name}, {part}: A {mean[0]:.4f} ± {spread[0]:.3f}, B {mean[1]:.4f} ± {spread[1]:.3f}")


if __name__ == "__main__":
    main()
