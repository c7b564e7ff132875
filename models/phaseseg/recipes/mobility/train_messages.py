"""Train the checkpoint bapst-ka3d-v1: message passing on thermal positions alone.

    python -m phaseseg.recipes.mobility.train_messages [--temperature 0.64] [--data FOLDER] [--output FOLDER]

`--data` as in the step `train`. Five members, each trained on four fifths of the systems and validated on the
others. What was interrupted is continued. On one free core, the ten systems at T = 0.44 take about ten
minutes, and the forty at T = 0.64 half an hour. The network at T = 0.64 gives a row in the cards of the
others and is not bundled: a ridge on the same positions is more accurate.

The network is smaller than the published one (4 rounds, 32 numbers for each edge and particle), because these
systems and minutes are less than four hundred systems and days. Its rounds have weights of their own, so that
its units can be normalized in training; with the published, shared weights it learned little in the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phaseseg.checkpoint import SUFFIX, Checkpoint, load_checkpoint
from phaseseg.families.mobility.fit import fit
from phaseseg.recipes.cards import say, table, write_card
from phaseseg.recipes.mobility.systems import STATES, State, systems_at
from phaseseg.recipes.mobility.train import arguments
from phaseseg.version import __version__

NAMES: Mapping[float, str] = {0.44: "bapst-ka3d-v1", 0.64: "bapst-ka3d-t064-v1"}
"""Checkpoints by temperature."""
EPOCHS: Mapping[float, int] = {0.44: 20, 0.64: 10}
"""With four times as many systems, an epoch has four times as many steps."""
PLAN: dict[str, Any] = {
    "rounds": 4, "width": 32, "hidden": 32, "own_weights": True, "folds": 5, "learning_rate": 2e-3,
    "weight_decay": 1e-3, "warmup": 0.1,
}  # fmt: skip
ABOUT = (
    "by message passing on thermal positions alone. A baseline: quick, and without minimization or cage runs."
)
BASELINE = (
    "A baseline from thermal positions. Networks that see inherent structures or cages are far more accurate."
)
TURNS = (
    "Predictions change when the system is turned: the network sees vectors. It was trained on random "
    "rotations."
)
UNCERTAINTY = (
    "The uncertainty is the same for all particles of a type. Of the particles of all systems, each "
    "predicted by a member not trained on it, 90 % lie within ± 1.645 of it."
)
CHOICE = (
    "The weights are those of the last epoch. Rounds and widths were set after a few short trials that were "
    "scored on two of the ten systems at T = 0.44."
)
METHOD = "V. Bapst et al., Nature Physics 16, 448 (2020), DOI 10.1038/s41567-020-0842-8"


def where(state: State) -> str:
    """For which state the checkpoint holds."""
    return (
        "Trained at one state of one mixture (Kob–Andersen 80:20, density 1.2, T = "
        f"{state.temperature:g}, Lennard-Jones units). The propensity is that at t = {state.time:g}, the "
        "structural relaxation time. Elsewhere a prediction carries a message that it is outside of the "
        "training data."
    )


def card_of(checkpoint: Checkpoint, state: State) -> dict[str, Any]:
    """The card of the trained checkpoint, completed."""
    card = checkpoint.card
    validation = card["training"]["validation"]
    row: dict[str, Any] = {"method": checkpoint.name}
    inside: dict[str, Any] = {"method": checkpoint.name}
    for name in ("A", "B"):
        end = f", {name}, propensity at t = {state.time:g}"
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
        f"systems, ± their deviation. {CHOICE}"
    )
    calibrated = "The intervals were calibrated on the same systems."
    return {
        **{key: card[key] for key in ("summary", "split", "training")},
        "data": {**card["data"], "source": state.source, "time": state.time},
        "metrics": {
            "ceiling": table("Correlation and ceiling", [row], note),
            "coverage": table("Fraction inside of 90 % intervals", [inside], calibrated),
        },
        "limits": [where(state), BASELINE, TURNS, UNCERTAINTY], "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": METHOD},
        "made_with": f"phaseseg {__version__}, python -m phaseseg.recipes.mobility.train_messages",
    }  # fmt: skip


def main() -> None:
    options = arguments(__doc__).parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    state = STATES[options.temperature]
    systems, _ = systems_at(state, options.data)
    frames = [
        [s.frame.replace(fields={**s.frame.fields, "propensity_half": s.halves.T.copy()})] for s in systems
    ]
    path = options.output / f"{NAMES[state.temperature]}{SUFFIX}"
    if path.is_file():
        checkpoint = load_checkpoint(path)
    else:
        checkpoint = fit(
            frames, output=path, method="bapst", resume=True, summary=f"{state.title} {ABOUT}",
            epochs=EPOCHS[state.temperature], progress=lambda done, text: say(f"{done:.0%}: {text}"), **PLAN,
        )  # fmt: skip
    write_card(checkpoint, card_of(checkpoint, state), path)
    for name, value in checkpoint.card["training"]["validation"].items():
        say(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
