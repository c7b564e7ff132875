"""Train the checkpoint bapst-ka3d-v1: message passing on thermal positions alone.

    python -m phaseseg.recipes.mobility.train_messages --data FOLDER [--output FOLDER]

`--data` holds the ten systems `config_1.npz` ... at T = 0.44 (positions, types, box, propensity,
propensity_half). Five members, each trained on eight systems and validated on the two others. What was
interrupted is continued. About ten minutes on one free core.

The network is smaller than the published one (4 rounds, 32 numbers for each edge and particle), because ten
systems and ten minutes are less than four hundred systems and days. Its rounds have weights of their own, so
that its units can be normalized in training; with the published, shared weights it learned little in the same
time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phaseseg.checkpoint import SUFFIX
from phaseseg.families.mobility.fit import fit_mobility
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.systems import read_systems
from phaseseg.recipes.mobility.train import TEMPERATURE, TIME

NAME = "bapst-ka3d-v1"
PLAN: dict[str, Any] = {
    "rounds": 4, "width": 32, "hidden": 32, "own_weights": True, "folds": 5, "epochs": 20,
    "learning_rate": 2e-3, "weight_decay": 1e-3, "warmup": 0.1,
}  # fmt: skip
SUMMARY = (
    "Kob–Andersen liquid at T = 0.44: propensity at the relaxation time by message passing on thermal "
    "positions alone. A baseline: quick, and without minimization or cage runs."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("mobility-checkpoints"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    systems = read_systems(options.data.glob("config_*.npz"), TEMPERATURE, TIME)
    frames = [
        [s.frame.replace(fields={**s.frame.fields, "propensity_half": s.halves.T.copy()})] for s in systems
    ]
    checkpoint = fit_mobility(
        frames, output=options.output / f"{NAME}{SUFFIX}", resume=True, summary=SUMMARY,
        progress=lambda done, text: say(f"{done:.0%}: {text}"), **PLAN,
    )  # fmt: skip
    for name, value in checkpoint.card["training"]["validation"].items():
        say(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
