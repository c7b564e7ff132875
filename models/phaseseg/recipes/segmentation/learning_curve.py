"""Learning curves for frames selected by `phaseseg select` and for randomly drawn frames.

    python -m phaseseg.recipes.segmentation.learning_curve --data FOLDER --melt FOLDER [--output FOLDER]

The pool is typical of simulation archives: one long run with similar frames, and a few frames from other
seeds, another temperature, single-phase liquids and a melt close to mixing. Small networks start from three
frames of the long run and are trained on sets that grow by `--add` frames, selected by
`phaseseg.families.segmentation.selection` or drawn at random, with several seeds. They are tested on runs
with other seeds. Writes learning_curve.csv and learning_curve.png; takes about seven minutes on one core.
`--table learning_curve.csv` only draws the figure of a table that was written before.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from phaseseg import read_frames
from phaseseg.families.segmentation.comparison import cases_of, compare
from phaseseg.families.segmentation.figures import COLOR
from phaseseg.families.segmentation.fit import fit_segmentation
from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.methods import Prediction, WeakLabels
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.selection import describe, select_frames
from phaseseg.fields import Table
from phaseseg.frame import Frame
from phaseseg.io import atomic_output, write_table
from phaseseg.metrics import spread
from phaseseg.report import GRAY, png, styled

# File and its frames in the pool: one long run, and a few frames of everything else.
POOL = (
    ("small_3000K", slice(0, 40)), ("small_3000K_s12", slice(0, None, 5)),
    ("small_4000K_s11", slice(0, None, 4)), ("small_4000K_s13", slice(0, None, 5)),
    ("control_8000K", slice(0, 8, 3)), ("mixed_20000K_s101", slice(0, 2)),
    ("oxidized_4000K_s101", slice(0, 2)),
)  # fmt: skip
TESTS = {
    "3000 K": (("small_3000K_s151", slice(0, None, 3)), ("medium_3000K_s151", slice(-1, None))),
    "4000 K": (("small_4000K_s151", slice(0, None, 3)), ("medium_4000K_s151", slice(-1, None))),
    "8000 K": (("control_8000K", slice(14, None)),),
    "one phase": (("mixed_20000K_s151", slice(None)), ("oxidized_4000K_s151", slice(None))),
}
VALIDATION = (("small_3000K_s152", slice(0, None, 4)), ("small_4000K_s152", slice(0, None, 4)))
NETWORK = {
    "architecture": "gat", "features": "densities", "layers": 1, "heads": 2, "hidden": 4, "readout": 16,
}  # fmt: skip
PASSES = 1200  # number of frames processed in a training; smaller sets are trained for more epochs
LOOKS: dict[str, dict[str, Any]] = {
    "selected": {"color": COLOR["rich"], "marker": "o"},
    "random": {"color": GRAY, "marker": "s", "linestyle": "--"},
}


def frames_of(parts: Any, folders: list[Path]) -> list[Frame]:
    frames = []
    for name, which in parts:
        path = next((p for folder in folders if (p := folder / f"{name}.dump.gz").is_file()), None)
        if path is None:
            raise SystemExit(f"{name}.dump.gz was not found in {', '.join(map(str, folders))}.")
        frames += list(read_frames(path))[which]
    return frames


def learning_curve(
    pool: Sequence[Frame],
    test: Mapping[str, Sequence[Frame]],
    fit: Callable[[list[Frame], int], SegmentationModel],
    *,
    begin: Sequence[int],
    add: int,
    rounds: int,
    seeds: Sequence[int] = (0, 1, 2),
    width: float = 2.7,
    progress: Callable[[str], None] = lambda line: None,
) -> Table:
    """Train networks on growing sets of selected frames and of randomly drawn frames.

    pool : frames to select from; they are labeled when a network is trained on them
    test : test frames by kind; the reference labels are made by the rule of the networks
    fit : trains a model on frames with a seed
    begin : pool indices of the initial frames
    add, rounds : number of frames added per round, and number of rounds
    width : boundary width of the F1, Å

    Each row contains `choice` ("selected" or "random"), `seed`, number of `frames`, `test` (kind, or "all"
    for the mean over kinds), `two-class error` and `macro F1`.
    """
    if len(begin) + add * rounds > len(pool):
        raise ValueError(f"{len(begin) + add * rounds} frames are needed, but the pool has only {len(pool)}.")
    rows: list[dict[str, Any]] = []

    def evaluate(model: SegmentationModel, how: str, seed: int, n: int) -> None:
        labels, found = WeakLabels(model.label_rule), []
        for kind, frames in test.items():
            cases = cases_of(frames, labels, group=kind, widths=(width,))
            numbers = compare(cases, [Prediction(model)], widths=(width,)).pooled().numbers()
            found.append((numbers["error"], numbers[f"macro {width:g}"]))
        for kind, (error, macro) in zip([*test, "all"], [*found, np.mean(found, axis=0)], strict=True):
            row = {"choice": how, "seed": seed, "frames": n, "test": kind}
            rows.append(row | {"two-class error": float(error), "macro F1": float(macro)})

    for seed in seeds:
        progress(f"seed {seed}: {len(begin)} frames")
        first = fit([pool[k] for k in begin], seed)
        for how in ("selected", "random"):
            rng = np.random.default_rng(seed)
            model, chosen = first, list(begin)
            evaluate(model, how, seed, len(chosen))
            for _ in range(rounds):
                rest = [k for k in range(len(pool)) if k not in chosen]
                if how == "random":
                    chosen += sorted(rng.choice(rest, add, replace=False).tolist())
                else:
                    candidates, known = (
                        [describe(pool[k], model, number=k) for k in places] for places in (rest, chosen)
                    )
                    chosen += [one.candidate.number for one in select_frames(candidates, add, labeled=known)]
                progress(f"seed {seed}, {how}: {len(chosen)} frames")
                model = fit([pool[k] for k in chosen], seed)
                evaluate(model, how, seed, len(chosen))
    return Table.of_rows("Learning curve", rows)


def summary(table: Table) -> list[str]:
    """Return mean and standard deviation over seeds, and the differences at equal seed."""
    lines = ["| test | frames | selected | random | selected - random |", "| --- | --- | --- | --- | --- |"]
    errors = errors_of(table)
    for test in dict.fromkeys(table.columns["test"].tolist()):
        for n in dict.fromkeys(table.columns["frames"].tolist()):
            selected, random = errors["selected", test, n], errors["random", test, n]
            each = map(spread, (selected, random, np.subtract(selected, random)))
            cells = [f"{one.mean:.2f} ± {one.deviation:.2f} %" for one in each]
            lines.append(f"| {test} | {n} | " + " | ".join(cells) + " |")
    return lines


def errors_of(table: Table) -> dict[tuple[str, str, int], list[float]]:
    """Return the two-class errors of all seeds in percent, by choice, test and number of frames."""
    errors: dict[tuple[str, str, int], list[float]] = {}
    for row in table.rows():
        key = row["choice"], row["test"], row["frames"]
        errors.setdefault(key, []).append(100 * row["two-class error"])
    return errors


@styled
def figure(table: Table) -> Figure:
    """Plot the two-class error against the number of labeled frames for every test."""
    errors, tests = errors_of(table), list(dict.fromkeys(table.columns["test"].tolist()))
    sizes = sorted(set(table.columns["frames"].tolist()))
    columns = min(len(tests), 3)
    n_rows = -(-len(tests) // columns)
    made = Figure(figsize=(2.6 * columns, 2.5 * n_rows), layout="constrained")
    places = made.subplots(n_rows, columns, squeeze=False).ravel()
    for ax in places[len(tests) :]:
        ax.remove()
    for ax, test in zip(places, tests, strict=False):
        for how, look in LOOKS.items():
            values = [errors[how, test, n] for n in sizes]
            mean = [np.mean(v) for v in values]
            error = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
            ax.errorbar(sizes, mean, error, markersize=4, capsize=2, label=how, **look)
        ax.set_title("mean of all" if test == "all" else test)
        ax.set_xlabel("labeled frames")
        ax.set_ylim(0, None)
    for ax in places[: len(tests) : columns]:
        ax.set_ylabel("atoms on the wrong side (%)")
    made.axes[-1].legend()
    return made


def read_table(path: Path) -> Table:
    """Read a table that this command has written."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, type] = {"seed": int, "frames": int, "two-class error": float, "macro F1": float}
    columns = {name: np.array([kinds.get(name, str)(row[name]) for row in rows]) for name in rows[0]}
    return Table("Learning curves", columns)


def write_figure(folder: Path, table: Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / "learning_curve.png") as temporary:
        temporary.write_bytes(png(figure(table)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("segmentation-data"))
    parser.add_argument("--melt", type=Path)
    parser.add_argument("--table", type=Path, help="only draw the figure of this table")
    parser.add_argument("--output", type=Path, default=Path("learning-curve"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--add", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    if options.table is not None:
        write_figure(options.output, read_table(options.table))
        return
    if options.melt is None:
        parser.error("--melt or --table is needed")
    folders = [options.data, options.melt]
    pool, validation = frames_of(POOL, folders), frames_of(VALIDATION, folders)
    tests = {name: frames_of(parts, folders) for name, parts in TESTS.items()}
    rule = pooled_threshold(frames_of(POOL[1:4], folders), LabelRule(("Fe",), sigma=2.0).fixed())
    options.output.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as cache:

        def fit(frames: list[Frame], seed: int) -> SegmentationModel:
            checkpoint = fit_segmentation(
                frames, validation=validation, rule=rule, network=NETWORK, batch_atoms=1040,
                epochs=-(-PASSES // len(frames)), seeds=(2 * seed, 2 * seed + 1), cache=cache,
            )  # fmt: skip
            return SegmentationModel(checkpoint)

        table = learning_curve(
            pool, tests, fit, begin=(0, 1, 2), add=options.add, rounds=options.rounds,
            seeds=range(options.seeds), progress=lambda line: print(line, flush=True),
        )  # fmt: skip
    write_table(options.output / "learning_curve.csv", table)
    write_figure(options.output, table)
    print("\n".join(summary(table)))


if __name__ == "__main__":
    main()
