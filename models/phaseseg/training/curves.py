"""Learning curves: every epoch of every member, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Table
from phaseseg.training.files import sibling_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curves; the family defines `validation_error`."""

    member: int
    seed: int
    epoch: int
    learning_rate: float
    loss: float
    validation_loss: float
    validation_error: float
    seconds: float


@dataclass
class Member:
    """One trained network, with its weights at the epoch of least validation loss."""

    seed: int
    weights: dict[str, NDArray[np.float32]]
    best_epoch: int
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        return self.epochs[self.best_epoch - 1]

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)


def curves_table(members: Sequence[Member]) -> Table:
    """Every epoch of every member; the epoch whose weights were kept is marked."""
    epochs = [(epoch, member.best_epoch) for member in members for epoch in member.epochs]
    columns: dict[str, list[Any]] = {
        "member": [epoch.member + 1 for epoch, _ in epochs],
        "seed": [epoch.seed for epoch, _ in epochs],
        "epoch": [epoch.epoch for epoch, _ in epochs],
        "learning rate": [epoch.learning_rate for epoch, _ in epochs],
        "loss": [epoch.loss for epoch, _ in epochs],
        "validation loss": [epoch.validation_loss for epoch, _ in epochs],
        "validation error": [epoch.validation_error for epoch, _ in epochs],
        "seconds": [round(epoch.seconds, 4) for epoch, _ in epochs],
        "kept": [int(epoch.epoch == best) for epoch, best in epochs],
    }
    return Table("Learning curves", columns)


def curves_figure(members: Sequence[Member], error: str = "validation error (%)") -> Figure:
    """Losses and validation error over the epochs; a dot marks the epoch that was kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
    for member, color in zip(members, (color for _ in members for color in colors), strict=False):
        x = [epoch.epoch for epoch in member.epochs]
        label = f"seed {member.seed}"
        left.plot(x, [e.loss for e in member.epochs], color=color, linewidth=0.9, linestyle=(0, (3, 2)))
        left.plot(x, [e.validation_loss for e in member.epochs], color=color, label=label)
        right.plot(x, [100 * e.validation_error for e in member.epochs], color=color, label=label)
        left.plot(member.best_epoch, member.best.validation_loss, "o", color=color, markersize=5)
        right.plot(member.best_epoch, 100 * member.best.validation_error, "o", color=color, markersize=5)
    # Dots and dashes are explained once, in gray.
    left.plot([], [], color="#8a8a8a", linewidth=0.9, linestyle=(0, (3, 2)), label="training")
    left.plot([], [], color="#8a8a8a", label="validation")
    left.plot([], [], "o", color="#8a8a8a", markersize=5, label="kept")
    for axes, text in ((left, "loss"), (right, error)):
        axes.set_xlabel("epoch")
        axes.set_ylabel(text)
        axes.set_xlim(left=0)
    left.set_yscale("log")
    top = max(100 * e.validation_error for m in members for e in m.epochs)
    right.set_ylim(0, top * 1.05 if top > 0 else 1)
    left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    left.yaxis.set_major_formatter("{x:.3g}")
    left.yaxis.set_minor_formatter("")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 7))
    return figure


def write_curves(output: Path, members: Sequence[Member], error: str) -> None:
    """Write the table and the figure next to a checkpoint, `.curves.csv` and `.curves.png`.

    error : what the axis of the validation error is called
    """
    from phaseseg.io import atomic_output, write_table
    from phaseseg.report import png, styled

    write_table(sibling_path(output, ".curves.csv"), curves_table(members))
    figure = styled(curves_figure)(members, error)
    with atomic_output(sibling_path(output, ".curves.png")) as temporary:
        temporary.write_bytes(png(figure))
