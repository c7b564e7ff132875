"""Training of MEAGraph on the configurations of a data set: `phaseseg train environments`.

The network reconstructs the descriptors of a few configurations at a time, while its edges are dropped at
random rates. A tenth of the configurations is kept back for validation, and the weights of the epoch with the
lowest loss on them are kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.environments.contrast import Contrast
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.inference import MeagraphNetwork
from phaseseg.families.environments.meagraph import Meagraph
from phaseseg.families.environments.meagraph_graph import Graph, build_graph, distinct_points
from phaseseg.families.environments.network import (
    ContrastModule,
    MeagraphModule,
    contrast_loss,
    contrast_weights,
    named_weights,
    reconstruction_loss,
)
from phaseseg.families.environments.projection import checked_rows, fit_projection
from phaseseg.families.environments.rules import check_units
from phaseseg.families.environments.settings import (
    RATE,
    TRAINING,
    ContrastConfig,
    MeagraphConfig,
    MeagraphSettings,
)
from phaseseg.frame import Frame, Types, Units
from phaseseg.specs import Progress
from phaseseg.training.card import training_card
from phaseseg.training.loop import Task, train_members
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import Run, RunData, joint_digest, read_runs

Doubles = NDArray[np.float64]

FEWEST = 4
"""Configurations that are needed: some to train on, and one to validate."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A graph of a few configurations, and the rate of each layer of the encoder."""

    graph: Graph
    rates: list[float]


class Batches:
    """Graphs of random configurations, and those of the configurations that are kept back.

    rows : descriptors of each configuration
    """

    def __init__(self, rows: Sequence[Doubles], config: MeagraphConfig, size: int, seed: int) -> None:
        self.rows, self.config, self.size = rows, config, size
        order = np.random.default_rng((seed, 1)).permutation(len(rows))
        n = max(1, round(TRAINING["validation_share"] * len(rows)))
        self.held, self.trained = np.sort(order[:n]), np.sort(order[n:])
        # Always the same rates, so that the losses of epochs can be compared.
        self.validation = self._graphs(self.held, np.random.default_rng((seed, 2)))

    def epoch(self, rng: np.random.Generator) -> list[Batch]:
        """All configurations of the training, in random order, with fresh rates."""
        return self._graphs(rng.permutation(self.trained), rng)

    def _graphs(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> list[Batch]:
        found = []
        for first in range(0, len(chosen), self.size):
            rows = np.concatenate([self.rows[k] for k in chosen[first : first + self.size]])
            rates = rng.uniform(size=len(self.config.widths)).tolist()
            if len(rows) < 2:
                continue
            graph = build_graph(distinct_points(rows), self.config.low)
            if len(graph.nodes):
                found.append(Batch(graph, rates))
        return found

    def task(self, seed: int) -> Task[Batch]:
        """What the loop needs."""

        def build() -> nn.Module:
            return MeagraphModule(self.config, seed)

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            return reconstruction_loss(network(batch.graph, batch.rates), batch.graph)

        def validate(network: nn.Module) -> tuple[float, float]:
            with torch.no_grad():
                losses = [loss(network, batch).item() for batch in self.validation]
            mean = float(np.mean(losses)) if losses else 0.0
            return mean, mean**0.5

        return Task(build, self.epoch, loss, validate, error="relative error")


def train_meagraph(
    data: RunData | Iterable[RunData],
    *,
    output: str | os.PathLike[str] | None = None,
    name: str | None = None,
    cutoff: float = 5.0,
    n_max: int = 4,
    l_max: int = 4,
    width: float = 0.5,
    types: Types = None,
    units: Units = "metal",
    kernels: int = MeagraphConfig.kernels,
    widths: Sequence[int] = MeagraphConfig.widths,
    low: float = MeagraphConfig.low,
    rate: float = RATE,
    neighbors: int | None = None,
    epochs: int = TRAINING["epochs"],
    batch_configurations: int = TRAINING["batch_configurations"],
    learning_rate: float = TRAINING["learning_rate"],
    patience: int = TRAINING["patience"],
    seed: int = 0,
    resume: bool = False,
    summary: str | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train MEAGraph on the environments of all configurations.

    Parameters
    ----------
    data : files or iterables of frames; every frame is a configuration, in Å
    output : .safetensors file to write
        `.curves.csv`, `.curves.png` and, during training, `.state.safetensors` are written next to it.
    name : of the checkpoint; "environments/" and the file's name without its suffix by default
    cutoff, n_max, l_max, width : of `PowerSpectrum`
    types, units : as in `read_frames`
    kernels, widths, low : see `MeagraphConfig`
    rate : edges survive above this normalized score when clusters are made
    neighbors : for the scale of large sets, see `build_graph`
    epochs, learning_rate, patience : see `phaseseg.training.settings.Settings`
    batch_configurations : in each step
    seed : of the weights, the split, the batches and the random rates
    resume : continue from the state file next to `output`, if it exists
    summary : one line for the card
    progress : called with the completed fraction and a line of text

    Returns
    -------
    Checkpoint
        With the weights, the descriptor, and norms and ranges of the whole set, so that a rate means the same
        in every set that the network is used on.

    Raises
    ------
    ValueError
        For settings out of range, fewer than four configurations, configurations without similar atoms, other
        units, and if a state file is in the way.
    KeyboardInterrupt
        The message says where the state was saved.

    References
    ----------
    Sun, Vita, Samanta, Lordi, arXiv 2509.12358 (2025).
    """
    note = progress or (lambda done, text: None)
    chosen = MeagraphSettings(
        cutoff=cutoff, n_max=n_max, l_max=l_max, width=width, kernels=kernels, widths=tuple(widths), low=low,
        rate=rate, epochs=epochs, batch_configurations=batch_configurations, learning_rate=learning_rate,
        patience=patience, seed=seed, neighbors=neighbors,
    )  # fmt: skip
    files = TrainingOutput("environments", output, name, resume=resume)
    runs = read_runs(data, types=types, units=units, note=note)
    frames, descriptor, rows = _described(runs, chosen, note)
    config = MeagraphConfig(descriptor.n_features, kernels, tuple(widths), low)
    batches = Batches(rows, config, batch_configurations, seed)
    if not batches.validation or not batches.epoch(np.random.default_rng(0)):
        raise ValueError(
            "no two environments of a batch are similar; give more configurations, or lower low."
        )
    settings = chosen.training()
    described = {
        **asdict(settings), "network": config.to_dict(), "descriptor": asdict(descriptor),
        "batch_configurations": batch_configurations, "data": joint_digest(run.digest for run in runs),
    }  # fmt: skip
    members = train_members(batches.task(seed), settings, state=files.state(described), progress=note)
    note(1.0, "measuring norms and ranges of the set")
    network = MeagraphNetwork(config, named_weights(config, members[0].weights))
    model = Meagraph(network).measured(np.concatenate(rows), rate, neighbors=neighbors)
    parts, weights = model.to_parts()
    card = {
        "summary": summary or _summary(frames, descriptor),
        "data": {
            "configurations": len(frames), "atoms": sum(frame.n_atoms for frame in frames),
            "species": list(descriptor.species), "files": _file_table(runs),
        },
        "split": f"by configuration: {len(batches.held)} of {len(frames)} kept back for validation",
        "training": training_card(
            settings, members, {"loss": members[0].best.validation_loss},
            batch_configurations=batch_configurations,
        ),
    }  # fmt: skip
    options = {"method": "meagraph", "cutoff": cutoff, "n_max": n_max, "l_max": l_max}
    kind = {"kind": "power-spectrum", **asdict(descriptor)}
    checkpoint = Checkpoint(
        "environments", files.name, {**parts, "options": options, "descriptor": kind}, weights, card, units
    )
    return files.finish(checkpoint, members, "relative error (%)")


def fit(
    data: RunData | Iterable[RunData], *, objective: str = "reconstruction", **options: Any
) -> Checkpoint:
    """Train by one of the objectives of `MeagraphSettings`, which has the options."""
    given = {name: value for name, value in options.items() if value is not None}
    if objective == "contrast":
        return train_embedding(data, **{k: v for k, v in given.items() if k not in _OF_MEAGRAPH})
    return train_meagraph(data, **given)


_OF_MEAGRAPH = {"kernels", "widths", "low", "rate", "neighbors", "batch_configurations", "patience"}


def _described(
    runs: Sequence[Run], chosen: MeagraphSettings, note: Progress
) -> tuple[list[Frame], PowerSpectrum, list[Doubles]]:
    """The configurations with atoms, the descriptor for their species, and its rows."""
    frames = [frame for run in runs for frame in run.frames if frame.n_atoms]
    descriptor = _descriptor(frames, chosen)
    rows = []
    for number, frame in enumerate(frames):
        if number % 100 == 0:
            note(0.0, f"describing environments, configuration {number + 1:,} of {len(frames):,}")
        rows.append(descriptor(frame))
    return frames, descriptor, rows


def _descriptor(frames: Sequence[Frame], chosen: MeagraphSettings) -> PowerSpectrum:
    if len(frames) < FEWEST:
        raise ValueError(f"training needs at least {FEWEST} configurations with atoms, found {len(frames)}.")
    for frame in frames:
        check_units(frame.units, frame.error_prefix)
    species = sorted({frame.species_names[code] for frame in frames for code in np.unique(frame.species)})
    return PowerSpectrum(tuple(species), chosen.cutoff, chosen.n_max, chosen.l_max, chosen.width)


def _file_table(runs: Sequence[Run]) -> dict[str, Any]:
    rows = [[run.name, len(run.frames), run.digest[:16]] for run in runs]
    return {"columns": ["file", "configurations", "content"], "rows": rows}


def _summary(frames: Sequence[Frame], descriptor: PowerSpectrum) -> str:
    return (
        f"Graph autoencoder MEAGraph that clusters atomic environments of {', '.join(descriptor.species)}, "
        f"trained on {len(frames):,} configurations."
    )


# Contrast -----------------------------------------------------------------------------------------

COMPONENTS = 10
"""Principal components that an embedding reads, unless others are given."""
BATCH = 128
"""Configurations of a batch, each with two of its atoms."""
STEPS = 10
"""Batches of an epoch."""
TEMPERATURE, NOISE = 0.1, 0.2
"""Of the softmax over partners; and of the components in a step, in standard deviations of a feature."""


class Pairs:
    """Batches of pairs of atoms of the same configurations.

    points : (n_atoms, n_components) float32, configuration by configuration; sizes : (n_configurations,)
    """

    def __init__(self, points: NDArray[np.float32], sizes: NDArray[np.int64], seed: int) -> None:
        self.points, self.sizes, self.starts = points, sizes, np.cumsum(sizes) - sizes
        order = np.random.default_rng((seed, 1)).permutation(len(sizes))
        n = max(2, round(TRAINING["validation_share"] * len(sizes)))
        self.held, self.trained = np.sort(order[:n]), np.sort(order[n:])
        self.validation = self._batch(np.random.default_rng((seed, 2)), self.held, 0.0)

    def epoch(self, rng: np.random.Generator) -> list[tuple[Tensor, Tensor]]:
        """Some batches of random configurations, two atoms of each, with noise."""
        return [self._batch(rng, rng.permutation(self.trained)[:BATCH], NOISE) for _ in range(STEPS)]

    def _batch(
        self, rng: np.random.Generator, chosen: NDArray[np.int64], noise: float
    ) -> tuple[Tensor, Tensor]:
        first, second = (
            self.points[self.starts[chosen] + rng.integers(0, self.sizes[chosen])] for _ in range(2)
        )
        noisy = (x + noise * rng.normal(size=x.shape).astype(np.float32) for x in (first, second))
        a, b = map(torch.from_numpy, noisy)
        return a, b

    def task(self, config: ContrastConfig) -> Task[tuple[Tensor, Tensor]]:
        """What the loop needs; the error is the share of atoms whose nearest partner is another one's."""

        def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return contrast_loss(network(batch[0]), network(batch[1]), TEMPERATURE)

        def validate(network: nn.Module) -> tuple[float, float]:
            with torch.no_grad():
                first, second = (nn.functional.normalize(network(x), dim=1) for x in self.validation)
                nearest = (first @ second.T).argmax(dim=1)
                wrong = (nearest != torch.arange(len(first))).double().mean().item()
                return loss(network, self.validation).item(), wrong

        return Task(lambda: ContrastModule(config), self.epoch, loss, validate, error="other partner")


def train_contrast(
    rows: ArrayLike,
    configurations: ArrayLike,
    *,
    output: str | os.PathLike[str] | None = None,
    name: str | None = None,
    n_components: int = COMPONENTS,
    hidden: int = ContrastConfig.hidden,
    dimensions: int = ContrastConfig.dimensions,
    epochs: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    resume: bool = False,
    descriptor: PowerSpectrum | None = None,
    summary: str | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train an embedding in which atoms of the same configuration are close, by contrast with other ones.

    A step draws two atoms of each of 128 configurations, adds noise to their principal components, and lets
    the network find the partner of each atom among all others. No groups and no labels are used.

    Parameters
    ----------
    rows : (n_atoms, n_features) descriptors
    configurations : (n_atoms,) number of the configuration of each atom, in rising order
    output, name, resume, progress : as in `train_meagraph`
    n_components : see `fit_projection`; hidden, dimensions : see `ContrastConfig`
    epochs : of ten steps; learning_rate, seed : see `phaseseg.training.settings.Settings`
    descriptor : that made the rows; with it, the checkpoint can be used on frames
    summary : one line for the card

    Returns
    -------
    Checkpoint
        For `phaseseg.families.environments.contrast.Contrast.of`.

    Raises
    ------
    ValueError
        For settings out of range, fewer than four configurations, configurations that are not in order, and
        if a state file is in the way.
    KeyboardInterrupt
        The message says where the state was saved.

    References
    ----------
    van den Oord, Li, Vinyals, arXiv 1807.03748 (2018) (loss).
    """
    values, of = checked_rows(rows), np.asarray(configurations)
    if of.shape != (len(values),) or (np.diff(of) < 0).any():
        raise ValueError(
            f"configurations must be {len(values)} numbers in rising order, one for each row, found an "
            f"array of shape {of.shape}."
        )
    sizes = np.unique(of, return_counts=True)[1]
    if len(sizes) < FEWEST:
        raise ValueError(f"training needs at least {FEWEST} configurations with atoms, found {len(sizes)}.")
    files = TrainingOutput("environments", output, name, resume=resume)
    projection = fit_projection(values, n_components)
    points = projection(values).astype(np.float32)
    config = ContrastConfig(points.shape[1], hidden, dimensions)
    settings = MeagraphSettings(
        objective="contrast", epochs=epochs, learning_rate=learning_rate, seed=seed
    ).training()
    pairs = Pairs(points, sizes, seed)
    data = hashlib.sha256(points.tobytes() + sizes.tobytes()).hexdigest()
    described = {**asdict(settings), "network": config.to_dict(), "data": data}
    members = train_members(pairs.task(config), settings, state=files.state(described), progress=progress)
    parts, weights = Contrast(projection, config, contrast_weights(members[0].weights)).to_parts()
    card = {
        "summary": summary
        or f"Embedding of environments, trained by contrast between {len(sizes):,} configurations.",
        "data": {"configurations": len(sizes), "atoms": len(values)},
        "split": f"by configuration: {len(pairs.held)} of {len(sizes)} kept back for validation",
        "training": training_card(settings, members, {"loss": members[0].best.validation_loss}),
    }
    if descriptor is not None:
        parts["descriptor"] = {"kind": "power-spectrum", **asdict(descriptor)}
    checkpoint = Checkpoint("environments", files.name, parts, weights, card)
    return files.finish(checkpoint, members, "atoms with another partner (%)")


def train_embedding(
    data: RunData | Iterable[RunData],
    *,
    cutoff: float = 5.0,
    n_max: int = 4,
    l_max: int = 4,
    width: float = 0.5,
    types: Types = None,
    units: Units = "metal",
    progress: Progress | None = None,
    **options: Any,
) -> Checkpoint:
    """Train an embedding on the environments of all configurations of files.

    data : files or iterables of frames; every frame is a configuration, in Å
    cutoff, n_max, l_max, width : of `PowerSpectrum`; types, units : as in `read_frames`
    options : of `train_contrast`, which says the rest
    """
    note = progress or (lambda done, text: None)
    chosen = MeagraphSettings(cutoff=cutoff, n_max=n_max, l_max=l_max, width=width)
    runs = read_runs(data, types=types, units=units, note=note)
    _, descriptor, rows = _described(runs, chosen, note)
    of = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    return train_contrast(np.concatenate(rows), of, descriptor=descriptor, progress=progress, **options)
