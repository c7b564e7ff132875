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

from phaseseg.checkpoint import SUFFIX, Checkpoint, load_checkpoint
from phaseseg.families.mobility.fit import fit
from phaseseg.recipes.cards import say, table, write_card
from phaseseg.recipes.mobility.cards import published_table
from phaseseg.recipes.mobility.systems import STATES, systems_at
from phaseseg.version import __version__

NAME = "bapst-ka3d-v1"
AT = STATES[0.44]
PLAN: dict[str, Any] = {
    "rounds": 4, "width": 32, "hidden": 32, "own_weights": True, "folds": 5, "epochs": 20,
    "learning_rate": 2e-3, "weight_decay": 1e-3, "warmup": 0.1,
}  # fmt: skip
SUMMARY = (
    f"{AT.title} by message passing on thermal positions alone. A baseline: quick, and without minimization "
    "or cage runs."
)


STATE = (
    "Trained at one state of one mixture (Kob–Andersen 80:20, density 1.2, T = 0.44, Lennard-Jones units). "
    f"The propensity is that at t = {AT.time:g}, the structural relaxation time. Elsewhere a prediction "
    "carries a message that it is outside of the training data."
)
BASELINE = (
    "A baseline from thermal positions. Networks that see inherent structures or cages are far more accurate."
)
TURNS = (
    "Predictions change when the system is turned: the network sees vectors. It was trained on random "
    "rotations."
)
UNCERTAINTY = (
    "The uncertainty is the same for all particles of a type. Of the particles of the ten systems, each "
    "predicted by a member not trained on it, 90 % lie within ± 1.645 of it."
)
METHOD = "V. Bapst et al., Nature Physics 16, 448 (2020), DOI 10.1038/s41567-020-0842-8"


def card_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The card of the trained checkpoint, completed."""
    card = checkpoint.card
    validation = card["training"]["validation"]
    row: dict[str, Any] = {"method": checkpoint.name}
    inside: dict[str, Any] = {"method": checkpoint.name}
    for name in ("A", "B"):
        end = f", {name}, propensity at t = {AT.time:g}"
        rho, ceiling = validation[f"correlation{end}"], validation[f"ceiling{end}"]
        row |= {
            name: rho,
            f"± {name}": validation[f"spread over systems{end}"],
            f"{name} / ceiling": rho / ceiling,
        }
        inside[name] = validation[f"inside 90 % intervals{end}"]
    n = card["data"]["configurations"]
    note = (
        f"Pearson correlation in each of {n} systems with the member that was not trained on it: mean over "
        "systems, ± their deviation. The weights are those of the last epoch. Rounds and widths were set "
        "after a few short trials that were scored on two of the ten systems."
    )
    calibrated = "The intervals were calibrated on the same systems."
    return {
        **{key: card[key] for key in ("summary", "split", "training")},
        "data": {**card["data"], "source": AT.source, "time": AT.time},
        "metrics": {
            "ceiling": table("Correlation and ceiling", [row], note),
            "coverage": table("Fraction inside of 90 % intervals", [inside], calibrated),
            "published": published_table(AT.temperature),
        },
        "limits": [STATE, BASELINE, TURNS, UNCERTAINTY], "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": METHOD},
        "made_with": f"phaseseg {__version__}, python -m phaseseg.recipes.mobility.train_messages",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("mobility-checkpoints"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    systems, _ = systems_at(AT, options.data)
    frames = [
        [s.frame.replace(fields={**s.frame.fields, "propensity_half": s.halves.T.copy()})] for s in systems
    ]
    path = options.output / f"{NAME}{SUFFIX}"
    if path.is_file():
        checkpoint = load_checkpoint(path)
    else:
        checkpoint = fit(
            frames, output=path, method="bapst", resume=True, summary=SUMMARY,
            progress=lambda done, text: say(f"{done:.0%}: {text}"), **PLAN,
        )  # fmt: skip
    write_card(checkpoint, card_of(checkpoint), path)
    for name, value in checkpoint.card["training"]["validation"].items():
        say(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
