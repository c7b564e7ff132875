"""Measure the segmentation checkpoints: scores on large cells, stress cases, baselines, time.

    python -m phaseseg.recipes.segmentation.study --data FOLDER --melt FOLDER [--checkpoint NAME ...]
        [--ablation FILE] [--quick]

`--data` is the output folder of the step `data`; `--melt` contains large_{3000,4000}K, large_dense_4000K,
coarsening_4000K and the controls of `docs/examples/validate_weak_labels.py`. Missing files are listed and
skipped. Prints the card tables of each checkpoint; the step `cards` writes them into the checkpoints. Takes
about four minutes per checkpoint on one core.
"""

from __future__ import annotations

import argparse
import re
import timeit
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg import read_frames
from phaseseg.checkpoint import Checkpoint, load_checkpoint
from phaseseg.families.segmentation.baselines import ConstantCut, FrameCut, baselines
from phaseseg.families.segmentation.comparison import F1_KINDS, Case, Comparisons, compare
from phaseseg.families.segmentation.evaluation import evaluate
from phaseseg.families.segmentation.methods import WIDTHS, Method, Prediction, WeakLabels
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Frame
from phaseseg.metrics import spread
from phaseseg.recipes.cards import markdown, of_table, refuse_training_data, table
from phaseseg.recipes.segmentation.stress_cases import (
    averaged_case,
    coarsening_cases,
    one_phase_cases,
    open_pieces,
    stamped_cases,
)
from phaseseg.recipes.segmentation.voids import by_shape

TEMPERATURES = (3000, 4000)
DT_DENSE = 0.002  # ps per MD step of large_dense_4000K
LABEL_SIGMAS = (1.5, 2.0, 2.5)
ONE_PHASE = (
    "control_20000K", "control_oxidized_4000K", "mixed_20000K_s151", "oxidized_4000K_s151",
    *(f"{liquid}_{t}K_s201" for liquid in ("metal", "silicate") for t in TEMPERATURES), "control_8000K",
)  # fmt: skip
# Table 1 of the paper, for its own trajectories: (macro F1, boundary F1, AUC) of GAT and GCN.
PAPER_TABLE_1 = {
    3000: {"GAT": (0.819, 0.506, 0.999), "GCN": (0.873, 0.678, 0.999)},
    4000: {"GAT": (0.810, 0.515, 0.998), "GCN": (0.618, 0.061, 0.967)},
}


@dataclass(frozen=True)
class Data:
    """Folders of the trajectories, and their frames by name."""

    data: Path
    melt: Path

    def path(self, name: str) -> Path | None:
        for folder in (self.melt, self.data):
            if (path := folder / f"{name}.dump.gz").is_file():
                return path
        return None

    def missing(self) -> list[str]:
        """Names of the trajectories that are missing."""
        names = [f"large_{t}K{end}" for t in TEMPERATURES for end in ("", "_s201")]
        names += ["large_dense_4000K", "coarsening_4000K", *ONE_PHASE]
        return [name for name in names if self.path(name) is None]

    def frames(self, name: str, **options: Any) -> list[Frame]:
        path = self.path(name)
        return [] if path is None else list(read_frames(path, **options))

    def tests(self, temperature: int) -> list[str]:
        """Names of the large cells at a temperature, which no checkpoint is trained on."""
        names = (f"large_{temperature}K", f"large_{temperature}K_s201")
        return [name for name in names if self.path(name)]


# ------------------------------------------------------------------------------------- tables


TWO = {"two-class error": "error", "two-class accuracy": "accuracy", "AUC": "auc",
       "calibration error": "calibration", "shift (Å)": "shift", "rms (Å)": "rms"}  # fmt: skip


def member_numbers(result: Comparisons, group: str | None = None) -> list[dict[str, float]]:
    members = (name for name in result.methods if name.startswith("member "))
    return [result.pooled(name, group).numbers() for name in members]


def score_rows(
    result: Comparisons, group: str, columns: Mapping[str, str], what: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for the ensemble, with the spread over frames, and one for members, over seeds."""
    each = member_numbers(result, group)
    n, several = len(each), len(each) > 1
    whole, over = result.pooled(None, group).numbers(), result.over_frames(None, group)
    together = {**what, "networks": f"all {n} together" if several else "one"}
    alone = {**what, "networks": f"each of {n} alone, mean"}
    for heading, key in columns.items():
        together |= {heading: whole[key], f"± {heading}": over[key].deviation}
        found = spread([numbers[key] for numbers in each])
        alone |= {heading: found.mean, f"± {heading}": found.deviation}
    yield together
    if several:
        yield alone


def score_tables(result: Comparisons, trained_on: str = "") -> tuple[list[dict[str, Any]], ...]:
    """Return rows for three classes and for two classes."""
    three: list[dict[str, Any]] = []
    two: list[dict[str, Any]] = []
    for group in result.groups():
        first = {"test": group} | ({"trained on": trained_on} if trained_on else {})
        for width in result.widths:
            columns = {f"{kind} F1": f"{kind} {width:g}" for kind in F1_KINDS}
            three += score_rows(result, group, columns, {**first, "boundary (Å)": width})
        two += score_rows(result, group, TWO, first)
    return three, two


def method_rows(result: Comparisons) -> list[dict[str, Any]]:
    """Return one row per group and method, without members."""
    rows = []
    for group in result.groups():
        for method in result.methods:
            if method.startswith("member "):
                continue
            pooled = result.pooled(method, group)
            numbers = pooled.numbers()
            row = {"test": group, "method": method, "frames": pooled.n_frames, "atoms": pooled.n_atoms}
            rows.append(row | {"phases as there are": numbers["verdicts"]} | short(numbers, result.widths))
    return rows


def short(numbers: Mapping[str, float], widths: Iterable[float]) -> dict[str, float]:
    """Select the scores used to compare methods."""
    row = {"two-class error": numbers["error"], "AUC": numbers["auc"], "shift (Å)": numbers["shift"]}
    for width in widths:
        row |= {f"{kind} F1, {width:g} Å": numbers[f"{kind} {width:g}"] for kind in ("macro", "boundary")}
    return row


# ---------------------------------------------------------------------------------- measuring


def trained_at(checkpoint: Checkpoint) -> list[int]:
    """The temperatures of the training, from the name of the checkpoint."""
    own = re.search(r"-(\d+)K-", checkpoint.name)
    return [int(own[1])] if own else list(TEMPERATURES)


def cells_of_tests(checkpoint: Checkpoint, data: Data) -> dict[int, list[str]]:
    """The names of the large cells by temperature, first of those of the training."""
    first = trained_at(checkpoint)
    tests = {t: data.tests(t) for t in (*first, *(t for t in TEMPERATURES if t not in first))}
    refuse_training_data(checkpoint, [name for names in tests.values() for name in names])
    return tests


def runs_of_tests(tests: Mapping[int, Sequence[str]], data: Data, chosen: slice) -> dict[str, list[Frame]]:
    """Some frames of the large cells, by temperature."""
    found = {
        f"{t} K": [frame for name in names for frame in data.frames(name)[chosen]]
        for t, names in tests.items()
    }
    return {group: frames for group, frames in found.items() if frames}


def measure(checkpoint: Checkpoint, data: Data, ablation: Checkpoint | None, quick: bool) -> Measured:
    """Measure all results for the card of a checkpoint."""
    model, tests = SegmentationModel(checkpoint), cells_of_tests(checkpoint, data)
    training = [frame for t in trained_at(checkpoint) for frame in training_frames(data, t)]
    chosen = slice(-1, None) if quick else slice(None)
    runs = runs_of_tests(tests, data, chosen)
    result = evaluate(runs, model, baseline_data=training, members=True)
    metrics: dict[str, Any] = {}
    three, two = score_tables(result)
    if ablation is not None:
        other = evaluate(runs, SegmentationModel(ablation), members=True)
        for row in (*three, *two):
            row["trained on"] = "all"
        for rows, more in zip((three, two), score_tables(other, "520-atom cells only"), strict=True):
            rows += more
    compared = "Compared with weak labels made by the rule of the checkpoint."
    paper = "; ".join(
        f"{t} K {kind}: macro F1 {m}, boundary F1 {b}, AUC {a}"
        for t, kinds in PAPER_TABLE_1.items()
        for kind, (m, b, a) in kinds.items()
    )
    metrics["three_classes"] = table(
        "Three classes", three,
        f"{compared} ± is the standard deviation over frames for all networks together, and over seeds "
        "for individual networks. 2.7 Å is the boundary width that the paper's evaluation of large cells "
        f"actually used; 0.68 Å is the width it states. The paper's results on its own data: {paper}.",
    )  # fmt: skip
    metrics["two_classes"] = table(
        "Two classes and the interface", two,
        f"{compared} Shift and rms refer to the signed distance of atoms within 1.5 Å of the interface. "
        "The probability of an individual network uses the calibration of all networks together.",
    )  # fmt: skip
    metrics["baselines"] = table(
        "Comparison with methods without a network", method_rows(result),
        "Thresholds were fitted to the 520-atom training cells. Weak labels are themselves a constant "
        "threshold: at the "
        f"sigma of the rule ({model.label_rule.sigma:g} Å) one would agree with them by construction.",
    )  # fmt: skip
    for group in result.groups():
        key = group.replace(" ", "")
        pooled = result.pooled(None, group)
        for width in result.widths:
            title = {"title": f"Confusion, {group}, boundary {width:g} Å"}
            metrics[f"confusion_{key}_{width:g}"] = of_table(pooled.confusion_table(width)) | title
        metrics[f"composition_{key}"] = of_table(
            result.content_table(None, group),
            f"Without the boundary of {min(result.widths):g} Å; ± over the frames. Relative differences "
            "of very small contents (Mg in the metal) are not meaningful.",
        ) | {"title": f"Composition of the phases, {group}"}
        title = {"title": f"Partition coefficients by weight, rich / poor, {group}"}
        metrics[f"partition_{key}"] = of_table(pooled.partition()) | title
        metrics[f"reliability_{key}"] = of_table(pooled.reliability()) | {"title": f"Reliability, {group}"}
    metrics["time"] = timing(checkpoint, model, result)
    metrics |= stress(model, data, result.thresholds, quick)
    rows = [
        {"file": name, "temperature (K)": t, "frames": len(frames), "atoms": frames[0].n_atoms}
        for t, names in tests.items()
        for name in names
        if (frames := data.frames(name)[chosen])
    ]
    return Measured(result, metrics, dict(result.thresholds), table("Test data", rows))


@dataclass(frozen=True, eq=False)
class Measured:
    """Evaluation on the large cells, and the tables of a card.

    thresholds : thresholds of the baselines
    tests : table of the test files
    """

    result: Comparisons
    metrics: dict[str, Any]
    thresholds: dict[str, float]
    tests: dict[str, Any]


def training_frames(data: Data, temperature: int) -> list[Frame]:
    names = [f"small_{temperature}K_s{seed}" for seed in (101, 102, 103, 104, 11, 12)]
    frames = [frame for name in names for frame in data.frames(name)[::2]]
    if not frames:
        raise SystemExit(f"there are no small_{temperature}K cells to fit the baselines to.")
    return frames


def timing(checkpoint: Checkpoint, model: SegmentationModel, result: Comparisons) -> dict[str, Any]:
    """Measure seconds per frame of the large cells on this machine."""
    assert result.example is not None
    frame = result.example.frame

    def seconds(which: SegmentationModel) -> float:
        which.score(frame)
        return min(timeit.repeat(lambda: which.score(frame), number=1, repeat=3))

    stages = {stage: float(np.median(values)) for stage, values in result.pooled().seconds.items()}
    times = {
        "one network": seconds(SegmentationModel(only_first(checkpoint))),
        **({f"{model.n_members} networks": seconds(model)} if model.n_members > 1 else {}),
        "from scores to phases, areas and tables": stages["decoding"],
        "weak labels, for comparison": stages["weak labels"],
    }
    n = frame.n_atoms
    return table(
        f"Time for a frame of {n:,} atoms",
        [{"what": what, "s": s, "s for a million atoms": 1e6 * s / n} for what, s in times.items()],
        "One core of the machine on which the card was made; minimum of three measurements, median for "
        "the last two rows.",
    )  # fmt: skip


def only_first(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with only the first network."""
    config, weights = checkpoint.config, checkpoint.weights
    score = {key: v[:1] if isinstance(v, list) else v for key, v in config["score"].items()}
    own = {key: weights[key] for key in weights if not key.startswith("member") or key.startswith("member0.")}
    name = f"{checkpoint.name}-one"
    return replace(checkpoint, name=name, config={**config, "score": score}, weights=own, card={})


# ------------------------------------------------------------------------------- stress cases


def stress(
    model: SegmentationModel, data: Data, thresholds: Mapping[str, float], quick: bool
) -> dict[str, Any]:
    rule = model.label_rule
    metrics: dict[str, Any] = {}
    if dense := data.frames("large_dense_4000K", dt=DT_DENSE):
        whole = Prediction(model)
        labels: list[Method] = [
            WeakLabels(
                LabelRule(species=rule.species, sigma=s, phases=2).fixed(), f"weak labels, sigma {s:g} Å"
            )
            for s in LABEL_SIGMAS
        ]
        own = ConstantCut(rule, f"threshold of the checkpoint's rule, sigma {rule.sigma:g} Å")
        result = compare(
            [averaged_case(dense, species=rule.species, group="4000 K")],
            [whole, *whole.members(), *labels, own, *baselines(rule, thresholds)[:1]], target=rule.species,
        )  # fmt: skip
        rows = method_rows(result)
        each = member_numbers(result)
        mean = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
        name = f"each of {model.n_members} networks alone, mean"
        rows[1:1] = [{"test": "4000 K", "method": name} | short(mean, result.widths)]
        metrics["time_average"] = table(
            "Comparison with the time-averaged density", rows,
            f"One frame of large_dense_4000K ({len(dense)} frames, 0.1 ps apart). The reference is the label "
            "of the density averaged over ±1 ps (sigma 1.5 Å, steepest threshold).",
        )  # fmt: skip
    larges = [frame for t in TEMPERATURES for name in data.tests(t) for frame in data.frames(name)[-1:]]
    if larges:
        metrics |= pieces(model, larges[:1] if quick else larges, 5 if quick else 20)
    stamped: list[Case] = []
    for t in TEMPERATURES:
        metal, silicate = (data.frames(f"{liquid}_{t}K_s201")[-1:] for liquid in ("metal", "silicate"))
        if metal and silicate:
            stamped += stamped_cases(metal[0], silicate[0], copies=1 if quick else 3)
    if stamped:
        cut = rule.replace(phases=2)
        result = compare(
            stamped,
            [Prediction(model), ConstantCut(cut, "constant cut"), FrameCut(cut, "steepest"),
             FrameCut(cut, "two-means")],
            target=rule.species,
        )  # fmt: skip
        metrics["droplets_films"] = table(
            "Droplets and films of one liquid inserted into the other", method_rows(result),
            f"Single-liquid cells at {', '.join(str(t) for t in TEMPERATURES)} K, seed 201. The reference is "
            "the geometry: the liquids had no time to mix or relax. Their interface is sharper than a real "
            "one and shifts every threshold, so the shifts only compare the methods. All methods drop "
            f"domains below {rule.min_volume:g} Å^3.",
        )  # fmt: skip
    metrics["free_surfaces"] = free_surfaces(model)
    if coarsening := data.frames("coarsening_4000K")[:: 4 if quick else 1]:
        cut = rule.replace(phases=2)
        result = compare(
            coarsening_cases(coarsening, rule), [Prediction(model), ConstantCut(cut, "constant cut")],
            target=rule.species,
        )  # fmt: skip
        rows, name = [], model.name
        for row in result.rows:
            numbers = row.comparisons[name].numbers()
            rows.append(
                {"frame": row.name, "timestep": row.timestep,
                 "differ from the constant cut": numbers["error"], "domains": row.n_domains[name],
                 "domains of the constant cut": row.n_domains["constant cut"]}
                | {f"macro F1, {w:g} Å": numbers[f"macro {w:g}"] for w in WIDTHS}
            )  # fmt: skip
        metrics["coarsening"] = table(
            "Frames during coarsening", rows,
            "The true answer is unknown. The numbers show the agreement with the constant threshold of "
            "the rule, whatever its verdict.",
        )  # fmt: skip
    if rows := one_phase_rows(model, data):
        metrics["one_phase"] = table(
            "Liquids of one phase", rows,
            "Frames classified as one phase, out of all frames. The melt at 8000 K is not homogeneous "
            "and is not a negative control; it is a hard case.",
        )  # fmt: skip
    return metrics


def free_surfaces(model: SegmentationModel) -> dict[str, Any]:
    """Compare the areas of pieces with voids with those of the labels."""
    return table(
        "Pieces with free surfaces", by_shape(model),
        "Cut from the melts that come with phaseseg. The reference is the weak label of the piece by the "
        "rule of the checkpoint. Two of the droplets of 20 Å hold less than 100 atoms of metal.",
    )  # fmt: skip


def pieces(model: SegmentationModel, larges: Sequence[Frame], per_bin: int) -> dict[str, Any]:
    """Compare results for open pieces with the labels of the whole cell, and each method with itself."""
    rule = model.label_rule
    free = rule.replace(min_volume=0.0, phases=2)
    methods: list[Method] = [
        Prediction(model, min_volume=0.0), ConstantCut(free, "constant cut"),
        FrameCut(free, "steepest"), FrameCut(free, "two-means"),
    ]  # fmt: skip
    result = compare(open_pieces(larges, WeakLabels(rule), per_bin=per_bin), methods, target=rule.species)
    how = "Cubes of 12 to 30 Å with open boundaries; atoms within 3 Å of a cut face are excluded."
    against_labels = table(
        "Open pieces of large cells, by fraction of rich atoms", method_rows(result),
        f"{how} The reference is the weak label of the whole cell. The constant threshold is that of the "
        "reference, so it can hardly be wrong here. The other two methods use only the piece.",
    )  # fmt: skip
    rows = []
    for method in methods:
        own = compare(open_pieces(larges, method, per_bin=per_bin), [method], target=rule.species)
        for group in own.groups():
            numbers = own.pooled(None, group).numbers()
            row = {"share of rich atoms": group.removesuffix(" rich"), "method": method.name}
            rows.append(row | {"differ": numbers["error"], "shift (Å)": numbers["shift"]})
    rows.sort(key=lambda row: str(row["share of rich atoms"]))
    against_itself = table(
        "Open pieces of large cells, each method compared with itself on the whole cell", rows,
        f"{how} The numbers are the fractions of atoms that a method places on the other side when it "
        "sees only the piece.",
    )  # fmt: skip
    return {"open_pieces": against_labels, "open_pieces_itself": against_itself}


def one_phase_rows(model: SegmentationModel, data: Data) -> list[dict[str, Any]]:
    own = model.label_rule.replace(phases="auto")
    found = WeakLabels(own.replace(threshold="steepest"), "weak labels, steepest")
    methods: list[Method] = [Prediction(model), WeakLabels(own, "weak labels, constant cut"), found]
    rows = []
    for name in ONE_PHASE:
        if frames := data.frames(name):
            cases = one_phase_cases(frames, rich=name.startswith("metal"), group=name)
            result = compare(cases, methods, target=own.species)
            one = {method: int(result.pooled(method).verdicts[:, 0].sum()) for method in result.methods}
            rows.append({"melt": name, "frames": len(frames), **one})
    return rows


# ----------------------------------------------------------------------------------------- run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("segmentation-data"))
    parser.add_argument(
        "--melt", type=Path, required=True, help="folder with the large cells and the controls"
    )
    parser.add_argument("--checkpoint", nargs="+", metavar="NAME", default=["gat-v1"])
    parser.add_argument("--ablation", type=Path, help="gat-v1's network trained on 520-atom cells only")
    parser.add_argument("--quick", action="store_true", help="use fewer frames, to test the command")
    options = parser.parse_args()
    data = Data(options.data, options.melt)
    if missing := data.missing():
        print(f"Missing files, skipped: {', '.join(missing)}.\n")
    ablation = None if options.ablation is None else load_checkpoint(options.ablation)
    for name in options.checkpoint:
        measured = measure(load_checkpoint(name), data, ablation, options.quick)
        print("\n".join(markdown(measured.metrics, name, 1)), flush=True)


if __name__ == "__main__":
    main()
