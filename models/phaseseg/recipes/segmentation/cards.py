"""Measure the segmentation checkpoints, write their cards, and generate the pages.

    python -m phaseseg.recipes.segmentation.cards --data FOLDER --melt FOLDER [--checkpoint NAME ...]
        [--folder FOLDER] [--ablation FILE] [--quick] [--figures-only] [--render-only]

The data folders are those of the step `study`. The checkpoints are those bundled with phaseseg, or those in
`--folder`. Cards are replaced; weights and settings are unchanged. The pages are docs/checkpoints/ and the
table in models/README.md. With `--figures-only`, the figures of the pages are drawn anew from the large
cells, and cards stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phaseseg.checkpoint import SUFFIX, Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.families.segmentation.comparison import Comparisons
from phaseseg.families.segmentation.evaluation import evaluate
from phaseseg.families.segmentation.evaluation_figures import (
    figure_confusion,
    figure_reliability,
    figure_scores,
    figure_side_by_side,
)
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.recipes.cards import Pages, arguments, cell, last, put_figure, rows_of, say, write_card
from phaseseg.recipes.segmentation.study import Data, Measured, cells_of_tests, measure, runs_of_tests
from phaseseg.version import __version__

PAPER = (
    "S. Shakya, B. B. Karki, Weakly Supervised Graph Neural Networks for Scalable 3D Phase Segmentation in "
    "Molecular Dynamics Simulations, KDIR 2025, DOI 10.5220/0013709400004000"
)


def limits(checkpoint: Checkpoint, measured: Measured) -> list[str]:
    """Return the limitations of the checkpoint, with numbers if they were measured."""
    config = checkpoint.config
    species = ", ".join(config["network"]["species"])
    low, high = config["ranges"]["number_density"]
    model = (
        "Trained on melts of a classical pair model (phaseseg simulate melt), which is not fitted to ab "
        "initio data: its partition coefficients and thermodynamics are not realistic. For melts of "
        "other models, check the range of validity that every prediction reports, and compare with weak "
        "labels."
    )
    noise = (
        f"The reference is itself a label of a single frame (sigma {config['label_rule']['sigma']:g} Å). "
        "Agreement beyond that of such a label with the time-averaged density is agreement with its "
        "noise."
    )
    where = (
        f"Only the species {species} at {low:.3g} to {high:.3g} atoms per Å^3. Other species are refused; "
        "other densities are reported."
    )
    lines = [model, where, noise]
    tables, name = {key: rows_of(one) for key, one in measured.metrics.items()}, measured.result.methods[0]
    if "time_average" in tables:
        errors = {row["method"]: row["two-class error"] for row in tables["time_average"]}
        labels = {name: error for name, error in errors.items() if name.startswith("weak labels")}
        best = min(labels, key=lambda name: labels[name])
        network = next(iter(errors.values()))
        lines.append(
            f"Compared with the time-averaged density, {network:.2%} of the atoms are on the wrong side "
            f"({best}: {labels[best]:.2%})."
        )
    for key, what in (("open_pieces", "open pieces"), ("droplets_films", "droplets and films")):
        if key in tables:
            own = (row for row in tables[key] if row["method"] == name)
            worst = max(own, key=lambda row: row["two-class error"])
            lines.append(
                f"Worst {what}: {worst['test']}, {worst['two-class error']:.2%} of the atoms on the wrong "
                "side."
            )
    lines += [
        f"Classified as two phases although there is one: {row['frames'] - row[name]} of {row['frames']} "
        f"frames of {row['melt']}."
        for row in tables.get("one_phase", ())
        if row[name] < row["frames"] and row["melt"] != "control_8000K"
    ]
    return lines


def card_of(checkpoint: Checkpoint, measured: Measured) -> dict[str, Any]:
    """Return the new card: entries from training and measured results."""
    old = checkpoint.card
    return {
        **{key: old[key] for key in ("summary", "data", "split", "label_rule", "training") if key in old},
        "test_data": measured.tests,
        "baselines": {
            **measured.thresholds,
            "meaning": "thresholds on the target fraction within 6 Å (fraction), in bins of 8.5 Å (bins) and "
            "on the density smoothed with sigma (density), fitted to 520-atom training cells",
        },
        "metrics": measured.metrics,
        "limits": limits(checkpoint, measured),
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": PAPER},
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def draw(result: Comparisons, folder: Path, stem: str) -> None:
    """Write the figures of a page as small files, because they are stored with the sources."""
    assert result.example is not None
    narrow = min(result.widths)
    drawn = {
        "reliability": figure_reliability(result),
        "confusion": figure_confusion(result),
        "scores": figure_scores(result, [m for m in result.methods if not m.startswith("member ")]),
        "slices": figure_side_by_side(result.example, narrow, n_slices=2, reference="weak labels"),
    }
    for name, figure in drawn.items():
        put_figure(folder / f"{stem}-{name}.png", figure)


# --------------------------------------------------------------------------------------- pages


def about(checkpoint: Checkpoint) -> str:
    network = checkpoint.config["network"]
    n_weights = sum(values.size for values in checkpoint.weights.values())
    return (
        f"Species {', '.join(network['species'])}; rich in {', '.join(network['target'])}. "
        f"{len(checkpoint.config['score']['scale'])} networks ({network['architecture']}, features "
        f"{network['features']}), {n_weights:,} numbers in all."
    )


def shelf(checkpoint: Checkpoint) -> dict[str, str]:
    """Return macro and boundary F1 by temperature and boundary width."""
    three = checkpoint.card.get("metrics", {}).get("three_classes", {"columns": (), "rows": ()})
    found = {
        f"{row['test']}, {row['boundary (Å)']:g} Å": f"{cell(row['macro F1'])} / {cell(row['boundary F1'])}"
        for row in rows_of(three)
        if row["networks"].startswith(("all", "one")) and row.get("trained on") in (None, "all")
    }
    return dict(sorted(found.items()))


PAGES = Pages(
    recipe="phaseseg.recipes.segmentation.cards",
    about=about,
    captions={
        "scores": "F1 of the classes for the networks and for methods without a network.",
        "slices": "Slabs of 2 Å: weak labels, prediction, and where they differ.",
        "confusion": "Confusion matrices: fraction of each row, and number of atoms.",
        "reliability": "Predicted probability against how often it is right.",
    },
    order=("limits", "split", "test_data", "metrics", "data", "training", "label_rule", "baselines"),
    mark="checkpoints",
    shelf=shelf,
    note="Macro F1 / boundary F1 of three classes on held-out cells of 33,280 atoms, by temperature and "
    "boundary width. The cards have all other numbers.",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=Path("segmentation-data"))
    parser.add_argument("--melt", type=Path, help="folder with the large cells and the controls")
    parser.add_argument("--folder", type=Path, help="checkpoints to use instead of the bundled ones")
    parser.add_argument("--ablation", type=Path, help="gat-v1's network trained on 520-atom cells only")
    parser.add_argument("--figures-only", action="store_true", help="draw the figures, leave the cards")
    options = parser.parse_args()
    if options.folder is None:
        paths = list(bundled_checkpoints("segmentation").values())
    else:
        paths = sorted(options.folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise SystemExit("there are no checkpoints.")
    by_name = {last(path.name): path for path in paths}
    asked = by_name.keys() if options.checkpoint is None else {last(name) for name in options.checkpoint}
    if not asked <= by_name.keys():
        raise SystemExit(f"no such checkpoint; available: {', '.join(by_name)}.")
    if not options.render_only:
        if options.melt is None:
            parser.error("--melt is required unless --render-only is given")
        data = Data(options.data, options.melt)
        if missing := data.missing():
            say(f"Missing files, skipped: {', '.join(missing)}.")
        for name in (name for name in by_name if name in asked):
            path, checkpoint = by_name[name], load_checkpoint(by_name[name])
            if options.figures_only:
                runs = runs_of_tests(cells_of_tests(checkpoint, data), data, slice(None))
                result = evaluate(runs, SegmentationModel(checkpoint), baselines=True)
                draw(result, options.docs / "figures", name)
                say(checkpoint.name)
                continue
            own = name == "gat-v1" and options.ablation is not None
            ablation = load_checkpoint(options.ablation) if own else None
            measured = measure(checkpoint, data, ablation, options.quick)
            draw(measured.result, options.docs / "figures", name)
            write_card(checkpoint, card_of(checkpoint, measured), path)
            say(checkpoint.name)
    PAGES.render([load_checkpoint(path) for path in paths], options.docs, options.readme)


if __name__ == "__main__":
    main()
