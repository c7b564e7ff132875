"""Measure the liquid_glass checkpoints, write their cards into them, and make the pages.

    python -m phaseseg.recipes.liquid_glass.cards --data FOLDER --nets FOLDER [--checkpoint NAME ...]
        [--output FOLDER] [--quick] [--render-only]

The folders are those of the step `study`. `dmpnn-v1`, `dmpnn-attention-v1`, `cnn-v1` and `dmpnn-3d-v1` of
`--nets` get their cards and are put into `--output`, by default the folder of those that come with phaseseg;
the other networks are for comparison. Pages: docs/checkpoints/ and the table of models/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from phaseseg.checkpoint import SUFFIX, Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.families.liquid_glass.evaluation_figures import figure_temperature
from phaseseg.recipes.cards import (
    ROOT,
    Pages,
    arguments,
    cell,
    last,
    put_figure,
    rows_of,
    say,
    table,
    write_card,
)
from phaseseg.recipes.liquid_glass.datasets import GLASS, liquid_temperature
from phaseseg.recipes.liquid_glass.figures import figure_against_edge
from phaseseg.recipes.liquid_glass.study import SHIPPED, Data, Measured, measure, parts
from phaseseg.recipes.liquid_glass.train import TEST
from phaseseg.version import __version__

BUNDLED = ROOT / "models" / "phaseseg" / "families" / "liquid_glass" / "checkpoints"
PAPER = (
    "K. Swanson, S. Trivedi, J. Lequieu, K. Swanson, R. Kondor, Deep learning for automated classification "
    "and characterization of amorphous materials, Soft Matter 2020, DOI 10.48550/arXiv.1909.04648"
)


def card_of(checkpoint: Checkpoint, measured: Measured, data: Data) -> dict[str, Any]:
    """The new card: what training wrote, and what was measured."""
    old = checkpoint.card
    space = checkpoint.config["network"]["dimensions"] == 3
    kept: dict[str, Any] = {
        key: old[key] for key in ("summary", "labels", "split", "training") if old.get(key)
    }
    kept["data"] = old.get("data", {})
    tests = data.configurations(space)
    rows = [
        {"files": part, "runs": len(found), "particles": tests.frames[0].n_atoms,
         "first": found[0].name, "last": found[-1].name}
        for part in parts(space) if (found := data.files(part, TEST[part]))
    ]  # fmt: skip
    ranges = checkpoint.ranges or checkpoint.config.get("ranges") or {}
    limits = [
        "Trained only on the Kob–Andersen mixture (phaseseg simulate ka2d, ka3d) at one density and "
        "composition: "
        + ", ".join(f"{k.replace('_', ' ')} {low:.3g} to {high:.3g}" for k, (low, high) in ranges.items())
        + ". Other mixtures have other distances; predictions for them have not been tested.",
        *measured.limits,
    ]
    if checkpoint.config["network"]["architecture"] == "cnn":
        limits.append(
            "The resolution and edge of the images (8 pixels per σ, 20 σ) were chosen by comparing "
            "settings on the slow test runs of set 5, so the numbers for this set are slightly too good. "
            "Weights and epochs were not chosen on these runs."
        )
    return {
        **kept,
        "test_data": table("Test data", rows, "Runs that were not used to train any network or baseline."),
        "metrics": measured.metrics,
        "limits": limits,
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": PAPER},
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def figures_of_tables(checkpoint: Checkpoint) -> dict[str, Figure]:
    """Return the figures that show tables of a card, by the suffix of the file name."""
    tables = {name: rows_of(found) for name, found in checkpoint.card["metrics"].items()
              if name in ("sets", "edge", "temperature")}  # fmt: skip
    figures = {}
    if rows := tables.get("edge"):
        low, high = checkpoint.config["network"]["window"]
        figures["edge"] = figure_against_edge(rows, trained=(low, high))
    if rows := tables.get("temperature"):
        labels = {"cell": "configuration", "mean of particles": "mean of\nparticles"}
        curves = {
            label: [{**row, "probability": row[key], "spread": row[f"± {key}"]} for row in rows]
            for key, label in labels.items() if key in rows[0]
        }  # fmt: skip
        liquids = sorted({liquid_temperature(row["set"]) for row in tables["sets"]})
        figures["temperature"] = figure_temperature(
            curves, trained=(GLASS, liquids), spans={"T_g": (0.36, 0.38)}
        )
    return figures


# ------------------------------------------------------------------------------------------ pages


def about(checkpoint: Checkpoint) -> str:
    network = checkpoint.config["network"]
    members = len({key.partition(".")[0] for key in checkpoint.weights})
    n_weights = sum(values.size for values in checkpoint.weights.values())
    kind = network["architecture"] + (" with attention" if network.get("attention") else "")
    return (
        f"Species {' and '.join(network['species'])} in {network['dimensions']} dimensions. "
        f"{members} networks ({kind}), {n_weights:,} numbers in all."
    )


def shelf(checkpoint: Checkpoint) -> dict[str, Any]:
    """The lowest AUC and accuracy over all sets."""
    rows = rows_of(checkpoint.card.get("metrics", {}).get("sets", {"columns": (), "rows": ()}))
    found = [row for row in rows if row["trained on"] == "all sets"]
    return {
        f"{key}, {what}": cell(min(row[f"{key}, {what}"] for row in found)) if found else None
        for what in ("windows", "whole")
        for key in ("AUC", "accuracy")
    }


PAGES = Pages(
    recipe="phaseseg.recipes.liquid_glass.cards",
    about=about,
    captions={
        "transfer": "Networks trained on one set and tested on windows of another: AUC, and accuracy at 0.5.",
        "edge": "AUC against window size with the error from a bootstrap over runs; shaded: window sizes in "
        "training.",
        "temperature": "Probability of a glass while runs are cooled, mean and standard deviation over runs; "
        "triangles mark the temperatures in training (full: glass, open: liquid).",
        "attention": "Edges with high attention in a liquid and in a glass.",
        "attention-metrics": "Metrics of attention graphs: one dot per test configuration, and medians.",
    },
    order=("limits", "split", "test_data", "metrics", "data", "training"),
    mark="glass checkpoints",
    shelf=shelf,
    note="Each number is the lowest of all test sets, averaged over the members, on runs that were not "
    "used for training. The potential energy and the first peak of g(r) also have an AUC of 1; see "
    "the cards.",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=Path("liquid-glass-data"))
    parser.add_argument("--nets", type=Path, default=Path("liquid-glass-checkpoints"))
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder for the files with cards")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.render_only:
        data = Data(options.data, options.nets, 4 if options.quick else 10)
        for name in SHIPPED if options.checkpoint is None else map(last, options.checkpoint):
            network = data.network(name)
            if network is None:
                say(f"{name} is not in {options.nets} and is left out.")
                continue
            measured = measure(network, data)
            for figure, make in measured.figures.items():
                put_figure(options.docs / "figures" / f"{name}-{figure}.png", make(), dpi=90)
            card = card_of(network.model.checkpoint, measured, data)
            write_card(network.model.checkpoint, card, options.output / f"{name}{SUFFIX}")
            say(f"{name}: card of {len(json.dumps(card)) / 1000:.0f} kB")
    if options.output == BUNDLED:
        paths = list(bundled_checkpoints("liquid_glass").values())
    else:
        paths = sorted(options.output.glob(f"*{SUFFIX}"))
    checkpoints = [load_checkpoint(path) for path in paths]
    for checkpoint in checkpoints:
        for figure, drawn in figures_of_tables(checkpoint).items():
            put_figure(options.docs / "figures" / f"{last(checkpoint.name)}-{figure}.png", drawn, dpi=90)
    PAGES.render(checkpoints, options.docs, options.readme)


if __name__ == "__main__":
    main()
