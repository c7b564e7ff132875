"""Complete the cards of the mobility checkpoints with what the step `study` measured, and make the pages.

python -m phaseseg.recipes.mobility.cards --nets FOLDER [--checkpoint NAME ...] [--output FOLDER]
    [--render-only]

`--nets` is the folder of the steps `train` and `study`, with `study-0.44.json` and `study-0.64.json`. Its
checkpoints get their cards and are put into `--output`, by default the folder of those that come with
phaseseg. A bundled checkpoint that is not in it keeps its card, but for the tables that were measured anew.
Pages: docs/checkpoints/ and the table of models/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phaseseg.checkpoint import SUFFIX, Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.families.mobility.settings import places_of
from phaseseg.recipes.cards import (
    ROOT,
    Pages,
    arguments,
    cell,
    last,
    rows_of,
    say,
    table,
    write_card,
)
from phaseseg.recipes.mobility.systems import STATES, State
from phaseseg.recipes.mobility.train import PLANS
from phaseseg.version import __version__

BUNDLED = ROOT / "models" / "phaseseg" / "families" / "mobility" / "checkpoints"
METHODS = (
    "averaged descriptors: E. Boattini, F. Smallenburg, L. Filion, Phys. Rev. Lett. 127, 088007 (2021); cage "
    "states: R. Alkemade, F. Smallenburg, L. Filion, J. Chem. Phys. 158, 134512 (2023)"
)
PUBLISHED = {
    0.44: (
        ("BOTAN", "400", 0.752), ("GlassMLP", "400", 0.756), ("CAGE", "100 to 400", 0.782),
        ("SE3-GNN", "400", 0.791), ("EIGNN", "100", 0.817),
    ),
    0.64: (
        ("GlassMLP", "400", 0.553), ("CAGE", "100 to 400", 0.627), ("BOTAN", "400", 0.661),
        ("SE3-GNN", "400", 0.663), ("EIGNN", "100", 0.678),
    ),
}  # fmt: skip
"""By temperature: name, training systems, correlation for A at the relaxation time; published with EIGNN."""
MESSAGES = "message passing"
SAMPLED = 140
"""Time of the two cage runs of a prediction."""
CHOICE = "The model was chosen among a few by this cross-validation, so its numbers are slightly too good."


def published_table(temperature: float) -> dict[str, Any]:
    rows = [{"method": name, "training systems": n, "A": rho} for name, n, rho in PUBLISHED[temperature]]
    return table(
        "Published, for comparison", rows,
        "Correlations per configuration, averaged over 100 other test systems of GlassBench (DOI "
        "10.5281/zenodo.10118191), as tabulated with EIGNN (J. Phys. Chem. B 129, 3053, 2025). Systems "
        "differ by 0.03 to 0.06, so differences of 0.01 to the numbers above mean little.",
    )  # fmt: skip


def card_of(
    checkpoint: Checkpoint, studies: Mapping[float, Mapping[str, Any]], messages: Sequence[Checkpoint] = ()
) -> dict[str, Any]:
    """The new card: what training wrote, and what was measured.

    studies : the results of the step `study`, by temperature; what they lack stays as it is in the card
    messages : checkpoints of message passing, whose cards have their scores from training
    """
    old, state = checkpoint.card, state_of(checkpoint)
    card = {
        **old,
        "data": {**old.get("data", {}), "source": state.source, "time": state.time},
        "metrics": {**old.get("metrics", {}), **measured(checkpoint.name, studies, state)},
    }
    with_messages(
        card["metrics"], [m for m in messages if m.name != checkpoint.name and state_of(m) == state]
    )
    if last(checkpoint.name) not in PLANS:  # another recipe writes the rest
        return card
    return {
        **card,
        "limits": limits(checkpoint),
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": METHODS},
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def state_of(checkpoint: Checkpoint) -> State:
    """Where the checkpoint was trained."""
    return STATES[round(float(checkpoint.ranges["temperature"][0]), 6)]


def with_messages(metrics: dict[str, Any], messages: Sequence[Checkpoint]) -> None:
    """Put the scores of networks of message passing into the table of other ways, after the checkpoints."""
    if "others" not in metrics or not messages:
        return
    old, bundled = metrics["others"], bundled_checkpoints("mobility")
    rows = [row for row in rows_of(old) if row["kind"] != MESSAGES]
    for one in messages:
        method = one.name if one.name in bundled else "thermal positions; not among the checkpoints"
        found = [
            {**row, "kind": MESSAGES, "method": method} for row in rows_of(one.card["metrics"]["ceiling"])
        ]
        first = sum(row["kind"] in ("checkpoint", MESSAGES) for row in rows)
        rows[first:first] = found
    metrics["others"] = table(old["title"], rows, old["note"])


def measured(name: str, studies: Mapping[float, Mapping[str, Any]], state: State) -> dict[str, Any]:
    """The tables of a card."""
    found: dict[str, Any] = {}
    if study := studies.get(state.temperature):
        n = study["systems"]
        note = (
            f"Means over {n} systems, each by learners that were not trained on it; ± deviation over systems."
        )
        own = [row for row in study.get("checkpoints", ()) if row["method"] == name]
        if own:
            found["ceiling"] = table(
                "Correlation and ceiling", own,
                f"{note} The ceiling, {study['ceiling']['A']:.3f} for A and {study['ceiling']['B']:.3f} for "
                "B, is the correlation of a perfect prediction of the expectation with the mean over runs.",
            )  # fmt: skip
        held = [row for row in study.get("held", ()) if row["method"] == name]
        if held:
            found["held"] = table(
                "The liquid of the demonstration", held,
                "One more system at this temperature, which no member was trained on.",
            )  # fmt: skip
        others = [row for row in study.get("checkpoints", ()) if row["method"] != name]
        kinds = {
            "checkpoint": others, "ridge": study.get("ridges"),
            "single descriptor": study.get("single descriptors"),
        }  # fmt: skip
        if all(kinds.values()):
            rows = [{"kind": kind, **row} for kind, rows in kinds.items() for row in rows or ()]
            found["others"] = table("Other ways", rows, note)
        if study.get("learning curve"):
            found["learning_curve"] = table(
                "Ridge trained on fewer systems", study["learning curve"],
                f"{note} The other systems are drawn at random.",
            )  # fmt: skip
    transfer = [
        {"temperature": temperature, "systems": study["systems"], **row}
        for temperature, study in studies.items()
        for row in study.get("transfer", ())
        if temperature != state.temperature and row["method"] == name
    ]
    if transfer:
        found["transfer"] = table(
            "Other temperatures", transfer,
            f"Correlations on systems at another temperature than that of training, {state.temperature:g}, "
            "with the propensity at their relaxation time.",
        )  # fmt: skip
    if studies:
        found["published"] = published_table(state.temperature)
    return found


def limits(checkpoint: Checkpoint) -> list[str]:
    """What the checkpoint was not tested for."""
    state = state_of(checkpoint)
    spans = ", ".join(
        f"{name.replace('_', ' ')} {cell(low)}" + ("" if cell(low) == cell(high) else f" to {cell(high)}")
        for name, (low, high) in checkpoint.ranges.items()
    )
    where = (
        f"Trained at one state of one mixture (Kob–Andersen 80:20): {spans}, in Lennard-Jones units. The "
        f"propensity is that at t = {state.time:g}, the structural relaxation time at T = "
        f"{state.temperature:g}. Elsewhere a prediction carries a message that it is outside of the training "
        "data."
    )
    intervals = (
        "Uncertainties were calibrated on all systems together: 90 % of the particles lie within ± 1.645 of "
        "them. For a single system the fraction varies as the table shows, because its mean propensity is "
        "not known."
    )
    found = [where, CHOICE, intervals]
    positions = checkpoint.config.get("network", {}).get("positions")
    if positions and {"cage", "samples"} & {*places_of(positions)}:
        found.append(
            f"A prediction samples the cages of the frame for {SAMPLED:g} time units. A single run to the "
            f"relaxation time takes {state.time:g}, and the 32 runs that measure the propensity take "
            f"{32 * state.time:g}. The prediction depends on the seed of that sampling "
            "within a small statistical error."
        )
    return found


# ------------------------------------------------------------------------------------------ pages


def about(checkpoint: Checkpoint) -> str:
    members = len({key.partition(".")[0] for key in checkpoint.weights if key.startswith("member")})
    n_weights = sum(values.size for values in checkpoint.weights.values())
    kinds = {"net": "graph filter networks and a ridge", "bapst": "message-passing networks"}
    if checkpoint.config["method"] == "ridge":
        return f"Ridge regression, {n_weights:,} numbers in all."
    method = kinds.get(checkpoint.config["method"], checkpoint.config["method"])
    return f"{members} {method}, {n_weights:,} numbers in all."


def shelf(checkpoint: Checkpoint) -> dict[str, Any]:
    """Correlations of A and B on systems that were not trained on."""
    metrics = checkpoint.card.get("metrics", {})
    rows = rows_of(metrics.get("ceiling", {"columns": (), "rows": ()}))
    return {f"correlation, {t}": cell(rows[0][t]) if rows else None for t in ("A", "B")} | {
        "A / ceiling": cell(rows[0]["A / ceiling"]) if rows else None
    }


PAGES = Pages(
    recipe="phaseseg.recipes.mobility.cards",
    about=about,
    captions={},
    order=("limits", "split", "metrics", "data", "training"),
    mark="mobility checkpoints",
    shelf=shelf,
    note="Pearson correlation of predicted and simulated propensity within a system, averaged over systems "
    "that were not trained on.",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", type=Path, default=Path("mobility-checkpoints"))
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder for the files with cards")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.render_only:
        studies: dict[float, Mapping[str, Any]] = {}
        for temperature in STATES:
            path = options.nets / f"study-{temperature:g}.json"
            if path.is_file():
                studies[temperature] = json.loads(path.read_text("utf-8"))
        if not studies:
            raise SystemExit(f"{options.nets} has no study-*.json; run the step study first.")
        bundled = {last(name): path for name, path in bundled_checkpoints("mobility").items()}
        paths = bundled | {last(path.name): path for path in options.nets.glob(f"*{SUFFIX}")}
        messages = [c for c in map(load_checkpoint, paths.values()) if c.config["method"] == "bapst"]
        names = [name for name in paths if name in PLANS or name in bundled]
        for name in names if options.checkpoint is None else map(last, options.checkpoint):
            checkpoint = load_checkpoint(paths[name])
            card = card_of(checkpoint, studies, messages)
            write_card(checkpoint, card, options.output / f"{name}{SUFFIX}")
            say(f"{name}: card of {len(json.dumps(card)) / 1000:.0f} kB")
    made = sorted(options.output.glob(f"*{SUFFIX}"))
    PAGES.render([load_checkpoint(path) for path in made], options.docs, options.readme)


if __name__ == "__main__":
    main()
