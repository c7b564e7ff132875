"""Complete the cards of the mobility checkpoints with what the step `study` measured, and make the pages.

    python -m phaseseg.recipes.mobility.cards --nets FOLDER [--checkpoint NAME ...] [--output FOLDER]
        [--render-only]

`--nets` is the folder of the steps `train` and `study`, with the checkpoints and `study-0.44.json`. They get
their cards and are put into `--output`, by default the folder of those that come with phaseseg. Pages:
docs/checkpoints/ and the table of models/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phaseseg.checkpoint import SUFFIX, Checkpoint, bundled_checkpoints, load_checkpoint
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
from phaseseg.recipes.mobility.train import PLANS, TEMPERATURE, TIME
from phaseseg.version import __version__

BUNDLED = ROOT / "models" / "phaseseg" / "families" / "mobility" / "checkpoints"
SOURCE = (
    "ten systems of the data of H. Shiba, M. Hanai, T. Suzumura, T. Shimokawabe, BOTAN, J. Chem. Phys. 158, "
    "084503 (2023): h3-Open-BDEC/pyg_botan, small_data (Apache-2.0); 4096 particles, 32 isoconfigurational "
    "runs each"
)
METHODS = (
    "averaged descriptors: E. Boattini, F. Smallenburg, L. Filion, Phys. Rev. Lett. 127, 088007 (2021); cage "
    "states: R. Alkemade, F. Smallenburg, L. Filion, J. Chem. Phys. 158, 134512 (2023)"
)
PUBLISHED = (
    ("BOTAN", "400", 0.752), ("GlassMLP", "400", 0.756), ("CAGE", "100 to 400", 0.782),
    ("SE3-GNN", "400", 0.791), ("EIGNN", "100", 0.817),
)  # fmt: skip
"""Name, training systems and correlation for A at T = 0.44, t = 4120, as published with EIGNN."""


def published_table() -> dict[str, Any]:
    rows = [{"method": name, "training systems": n, "A": rho} for name, n, rho in PUBLISHED]
    return table(
        "Published, for comparison", rows,
        "Correlations per configuration, averaged over 100 other test systems of GlassBench (DOI "
        "10.5281/zenodo.10118191), as tabulated with EIGNN (J. Phys. Chem. B 129, 3053, 2025). Systems "
        "differ by 0.04 to 0.06, so differences of 0.01 to the numbers above mean little.",
    )  # fmt: skip


def card_of(checkpoint: Checkpoint, study: Mapping[str, Any]) -> dict[str, Any]:
    """The new card: what training wrote, and what was measured."""
    old = checkpoint.card
    kept = {key: old[key] for key in ("summary", "split", "training") if old.get(key)}
    n = study["systems"]
    note = f"Means over {n} systems, each by learners that were not trained on it; ± deviation over systems."
    own = [row for row in study["checkpoints"] if row["method"] == checkpoint.name]
    metrics: dict[str, Any] = {**old.get("metrics", {})}
    if own:
        metrics["ceiling"] = table(
            "Correlation and ceiling", own,
            f"{note} The ceiling, {study['ceiling']['A']:.3f} for A and {study['ceiling']['B']:.3f} for B, "
            "is the correlation of a perfect prediction of the expectation with the mean over 32 runs.",
        )  # fmt: skip
    others = [row for row in study["checkpoints"] if row["method"] != checkpoint.name]
    kinds = {"checkpoint": others, "ridge": study["ridges"], "single descriptor": study["single descriptors"]}
    rows = [{"kind": kind, **row} for kind, found in kinds.items() for row in found]
    metrics["others"] = table("Other ways", rows, note)
    metrics["learning_curve"] = table(
        "Ridge trained on fewer systems", study["learning curve"],
        f"{note} The other systems are drawn at random.",
    )  # fmt: skip
    metrics["published"] = published_table()
    return {
        **kept,
        "data": {**old.get("data", {}), "source": SOURCE, "time": TIME},
        "metrics": metrics,
        "limits": limits(checkpoint),
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": METHODS},
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def limits(checkpoint: Checkpoint) -> list[str]:
    """What the checkpoint was not tested for."""
    spans = ", ".join(
        f"{name.replace('_', ' ')} {cell(low)}" + ("" if cell(low) == cell(high) else f" to {cell(high)}")
        for name, (low, high) in checkpoint.ranges.items()
    )
    state = (
        f"Trained at one state of one mixture (Kob–Andersen 80:20): {spans}, in Lennard-Jones units. The "
        f"propensity is that at t = {TIME:g}, the structural relaxation time at T = {TEMPERATURE:g}. "
        "Elsewhere a prediction carries a message that it is outside of the training data."
    )
    choice = (
        "The model was chosen among a few by the same cross-validation, which makes its numbers slightly too "
        "good."
    )
    intervals = (
        "Uncertainties were calibrated on all systems together: 90 % of the particles lie within ± 1.645 of "
        "them. For a single system the fraction varies as the table shows, because its mean propensity is "
        "not known."
    )
    found = [state, choice, intervals]
    network = checkpoint.config.get("network", {})
    if network.get("positions") in ("cage", "samples"):
        found.append(
            "A prediction samples the cages of the frame for 140 time units, 1/30 of the relaxation time of "
            "a single run and about 1/900 of the 32 runs that measure the propensity. It depends on the seed "
            "of that sampling within a small statistical error."
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
        study = json.loads((options.nets / f"study-{TEMPERATURE:g}.json").read_text("utf-8"))
        for name in PLANS if options.checkpoint is None else map(last, options.checkpoint):
            path = options.nets / f"{name}{SUFFIX}"
            if not path.is_file():
                say(f"{name} is not in {options.nets} and is left out.")
                continue
            checkpoint = load_checkpoint(path)
            card = card_of(checkpoint, study)
            write_card(checkpoint, card, options.output / f"{name}{SUFFIX}")
            say(f"{name}: card of {len(json.dumps(card)) / 1000:.0f} kB")
    if options.output == BUNDLED:
        paths = list(bundled_checkpoints("mobility").values())
    else:
        paths = sorted(options.output.glob(f"*{SUFFIX}"))
    PAGES.render([load_checkpoint(path) for path in paths], options.docs, options.readme)


if __name__ == "__main__":
    main()
