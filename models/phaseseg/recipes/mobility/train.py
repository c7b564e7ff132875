"""Train the mobility checkpoints of ridges and graph filter networks by cross-validation.

    python -m phaseseg.recipes.mobility.train [--temperature 0.64] [--data FOLDER] [--work FOLDER]
        [--output FOLDER] [--only NAME ...]

At T = 0.44 `--data` holds the ten systems `config_1.npz` ... (positions, types, box, propensity,
propensity_half). At T = 0.64 it may be left out: the own systems come with the sources. The first of them,
which the demonstration shows, is held back. Minimizing a system and sampling its cages takes about a minute;
structures and features are kept in `--work`, and what was interrupted is continued. Next to each checkpoint
goes `NAME.validation.npz` with the predictions for every system from the members that were not trained on it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.checkpoint import SUFFIX, Checkpoint, load_checkpoint
from phaseseg.families.mobility.learner import LearnerConfig
from phaseseg.families.mobility.learner_checkpoint import fit_learner
from phaseseg.families.mobility.learner_fit import LearnerTraining, Trained
from phaseseg.families.mobility.systems import Quantity
from phaseseg.io import atomic_output
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.samples import CONFIGS, samples_of
from phaseseg.recipes.mobility.systems import OWN_DATA, STATES, State, System, systems_at
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import frame_digest


@dataclass(frozen=True)
class Plan:
    """A checkpoint: its data, the settings of the learner and of training, and the end of its summary."""

    state: State
    config: LearnerConfig
    training: LearnerTraining
    about: str

    @property
    def summary(self) -> str:
        return f"{self.state.title} {self.about}"


_RIDGE = "by ridge regression, after a short cage run; no PyTorch in training."
_NET = "by graph filter networks and a ridge, after a short cage run. The most accurate."
_MINIMIZED = "by graph filter networks and a ridge, after minimization alone."


def _plans(temperature: float, infix: str, networks: LearnerTraining) -> dict[str, Plan]:
    state, configs, ridge = STATES[temperature], CONFIGS[temperature], LearnerTraining(folds=10)
    return {
        f"ridge-{infix}-v1": Plan(state, configs["ridge"], ridge, _RIDGE),
        f"net-{infix}-v1": Plan(state, configs["net"], networks, _NET),
        f"net-{infix}-minimized-v1": Plan(state, configs["net-minimized"], networks, _MINIMIZED),
    }


PLANS: Mapping[str, Plan] = {
    **_plans(0.44, "ka3d", LearnerTraining(folds=5, repeats=1, epochs=30)),
    # With four times as many systems, an epoch has four times as many steps.
    **_plans(0.64, "ka3d-t064", LearnerTraining(folds=5, repeats=1, epochs=15)),
}


def train(
    name: str, plan: Plan, systems: Sequence[System], work: Path, output: Path
) -> tuple[Checkpoint, Trained | None]:
    """Train a checkpoint into a folder, or read it if it is there."""
    path = output / f"{name}{SUFFIX}"
    if path.is_file():
        return load_checkpoint(path), None
    samples = samples_of(systems, plan.config, work)
    digest = hashlib.sha256("".join(frame_digest(system.frame) for system in systems).encode()).hexdigest()
    files = TrainingOutput("mobility", path, f"mobility/{name}", resume=True)
    checkpoint, trained = fit_learner(
        samples, [system.frame for system in systems], [Quantity("propensity", plan.state.time)],
        plan.config, plan.training, files=files, data_digest=digest, summary=plan.summary,
        progress=lambda done, text: say(f"{name}, {done:.0%}: {text}") if "epoch" not in text or
        text.partition("epoch ")[2].partition(":")[0] in ("20", "40") else None,
    )  # fmt: skip
    arrays: dict[str, Any] = {
        f"blend-{system.name}": values for system, values in zip(systems, trained.predictions, strict=True)
    }
    with atomic_output(output / f"{name}.validation.npz") as fresh, fresh.open("wb") as file:
        np.savez(file, **arrays)
    return checkpoint, trained


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of the steps `train` and `study`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--temperature", type=float, default=0.44, choices=list(STATES))
    parser.add_argument("--data", type=Path, default=OWN_DATA, help="folder of the systems")
    parser.add_argument("--work", type=Path, default=Path("build/mobility"))
    parser.add_argument("--output", type=Path, default=Path("mobility-checkpoints"))
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PLANS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    state = STATES[options.temperature]
    systems, _ = systems_at(state, options.data)
    for name, plan in PLANS.items():
        if plan.state != state or (options.only and name not in options.only):
            continue
        _, trained = train(name, plan, systems, options.work, options.output)
        if trained is None:
            say(f"{name} is there already.")
            continue
        for part, scores in trained.scores.items():
            mean, spread = scores[:, :, 0].mean(axis=0), scores[:, :, 0].std(axis=0, ddof=1)
            say(f"{name}, {part}: A {mean[0]:.4f} ± {spread[0]:.3f}, B {mean[1]:.4f} ± {spread[1]:.3f}")


if __name__ == "__main__":
    main()
