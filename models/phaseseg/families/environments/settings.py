"""Settings of the network of this family, and of its training; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from phaseseg.nn.config import NetworkSettings
from phaseseg.training.settings import Settings, check_choices, setting

TRAINING: Mapping[str, Any] = {
    "epochs": 40, "learning_rate": 1e-3, "batch_configurations": 8, "validation_share": 0.1, "patience": 40,
}  # fmt: skip
"""Default training."""
CONTRAST: Mapping[str, Any] = {"epochs": 60, "learning_rate": 2e-3}
"""Default training of an embedding."""
RATE = 0.9
"""Edges survive above this normalized score, unless a user asks for another rate."""


@dataclass(frozen=True)
class MeagraphConfig(NetworkSettings):
    """The graph autoencoder of Sun, Vita, Samanta and Lordi (arXiv 2509.12358) and its graph.

    Parameters
    ----------
    features : numbers in a descriptor
    kernels : attention kernels in each layer of the encoder
    widths : of the layers of the encoder; the decoder has them in reverse order
    low : least normalized similarity of atoms that are joined

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    features: int
    kernels: int = 3
    widths: tuple[int, ...] = (128, 64, 32)
    low: float = 0.89999

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        self._check_counts("features", "kernels")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be one or more numbers from 1 on, found {self.widths}.")
        if not 0 <= self.low < 1:
            raise ValueError(f"low must be at least 0 and below 1, found {self.low}.")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each layer of the encoder."""
        return tuple(zip((self.features, *self.widths[:-1]), self.widths, strict=True))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Weights of encoder and decoder; the matrices of the kernels of a layer are stacked."""
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (inputs, outputs) in enumerate(self.layers):
            shapes[f"encoder.{number}.kernels"] = (self.kernels, outputs, inputs)
            shapes[f"encoder.{number}.beta"] = (self.kernels,)
            shapes[f"encoder.{number}.weight"] = (outputs, outputs)
            shapes[f"encoder.{number}.bias"] = (outputs,)
        for number, (outputs, inputs) in enumerate(self.layers):
            shapes[f"decoder.{number}.kernel"] = (outputs, inputs)
            shapes[f"decoder.{number}.beta"] = (1,)
            shapes[f"decoder.{number}.weight"] = (outputs, outputs)
        shapes["final.weight"] = (self.features, self.features)
        shapes["final.bias"] = (self.features,)
        return shapes

    def scale_shapes(self) -> dict[str, tuple[int, ...]]:
        """Norms of columns and ranges that a fitted network keeps."""
        shapes: dict[str, tuple[int, ...]] = {"atoms": (2,), "distance": (2,)}
        shapes |= {"features": (self.features,), "nodes": (self.features,)}
        for number, (inputs, outputs) in enumerate(self.layers):
            own = {f"encoder.{number}.{k}": (outputs,) for k in range(self.kernels)}
            shapes |= own | {f"encoder.{number}": (outputs,), f"scores.{number}": (2,)}
            shapes[f"decoder.{number}"] = (inputs,)
        return shapes


@dataclass(frozen=True)
class ContrastConfig(NetworkSettings):
    """The layers of an embedding that is trained by contrast.

    features : principal components that it reads
    hidden : units of the two hidden layers
    dimensions : numbers in a row of the embedding
    """

    features: int
    hidden: int = 64
    dimensions: int = 8

    def __post_init__(self) -> None:
        self._check_counts("features", "hidden", "dimensions")

    @property
    def layers(self) -> int:
        """Number of layers."""
        return 3

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Weights and biases of the layers."""
        widths = (self.features, self.hidden, self.hidden, self.dimensions)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = (outputs, inputs), (outputs,)
        return shapes


@dataclass(frozen=True, kw_only=True)
class MeagraphSettings:
    """Train a network on the environments of a data set: the graph autoencoder MEAGraph, or an embedding.

    Every frame of the files is a configuration. A tenth of the configurations is kept back for validation.
    Learning curves are written next to the checkpoint as .curves.csv and .curves.png.
    """

    objective: str = setting(
        "reconstruction",
        help="reconstruction: MEAGraph, which scores edges. contrast: an embedding, in which atoms of the "
        "same configuration are close; other methods find clusters in it.",
        choices=("reconstruction", "contrast"),
    )
    cutoff: float = setting(5.0, help="Cutoff of the descriptor, Å.")
    n_max: int = setting(4, help="Radial functions of the descriptor.")
    l_max: int = setting(4, help="Largest degree of the descriptor.")
    width: float = setting(0.5, help="Width of the Gaussians of the descriptor, Å.")
    types: tuple[str, ...] | None = setting(None, help="Species of the types 1, 2, ... of a dump: Ta,O.")
    kernels: int = setting(MeagraphConfig.kernels, help="Attention kernels in each layer.")
    widths: tuple[int, ...] = setting(
        MeagraphConfig.widths, help="Widths of the layers of the encoder.", example="128,64,32"
    )
    low: float = setting(
        MeagraphConfig.low, help="Atoms are joined above this normalized similarity, from 0 to 1."
    )
    rate: float = setting(RATE, help="Edges survive above this normalized score when clusters are made.")
    neighbors: int | None = setting(
        None, help="Keep only the edges of each atom to its nearest when norms of a large set are measured."
    )
    epochs: int | None = setting(
        None,
        help=f"Largest number of epochs; {TRAINING['epochs']} by default, {CONTRAST['epochs']} for contrast.",
    )
    batch_configurations: int = setting(TRAINING["batch_configurations"], help="Configurations in a batch.")
    learning_rate: float | None = setting(
        None,
        help=f"Highest learning rate; {TRAINING['learning_rate']:g} by default, "
        f"{CONTRAST['learning_rate']:g} for contrast.",
    )
    patience: int = setting(
        TRAINING["patience"], help="Stop after this many epochs without a lower validation loss."
    )
    seed: int = setting(0, help="Seed of the network, the batches and the random rates.")
    resume: bool = setting(False, help="Continue an interrupted training.")
    summary: str | None = setting(None, help="One line for the card.")

    def __post_init__(self) -> None:
        check_choices(self)
        MeagraphConfig(features=1, kernels=self.kernels, widths=self.widths, low=self.low)
        check_rate(self.rate)
        if self.batch_configurations < 1:
            raise ValueError(f"batch_configurations must be at least 1, found {self.batch_configurations}.")
        if self.neighbors is not None and self.neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, found {self.neighbors}.")
        self.training()

    def training(self) -> Settings:
        """The settings of the loop."""
        usual = TRAINING if self.objective == "reconstruction" else CONTRAST
        epochs = usual["epochs"] if self.epochs is None else self.epochs
        rate = usual["learning_rate"] if self.learning_rate is None else self.learning_rate
        if self.objective == "reconstruction":
            return Settings(epochs, 1, rate, (self.seed,), self.patience)
        # The last weights are kept, so nothing is chosen on the configurations that are kept back.
        return Settings(
            epochs, 1, rate, (self.seed,), epochs, optimizer="adamw", weight_decay=1e-4, keep="last"
        )

    def fit_options(self) -> dict[str, Any]:
        """The keywords of `fit.fit`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_rate(rate: float) -> float:
    """Return the rate; ValueError unless it is at least 0 and below 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, found {rate}.")
    return rate
