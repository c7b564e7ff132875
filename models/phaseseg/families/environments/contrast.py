"""An embedding of environments in which atoms of one configuration lie close: see `fit.train_contrast`.

Descriptors are projected on principal components (`Projection`); two layers with rectifiers and a linear one
follow, and rows are divided by their lengths. Environments that occur in the same configurations get rows
that are close. Every method of clusters but MEAGraph can work on them: `cluster(rows, embedding=...)`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from phaseseg.families.environments.exact import from_parts, to_parts
from phaseseg.families.environments.inference import leaky
from phaseseg.families.environments.projection import FAR, Projection
from phaseseg.families.environments.settings import ContrastConfig
from phaseseg.nn.model import check_weights, members_of

Doubles = NDArray[np.float64]

METHOD = "contrast"
LARGEST = 1e12
"""Numbers of a projection in a checkpoint are not larger than this."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """A trained embedding: call it with descriptors.

    projection : of descriptors to principal components
    config, weights : of the layers; a ValueError unless they match
    """

    projection: Projection
    config: ContrastConfig
    weights: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        check_weights(self.config.weight_shapes(), [self.weights])
        if self.projection.axes.shape[1] != self.config.features:
            raise ValueError(
                f"the projection gives {self.projection.axes.shape[1]} components, and the first layer needs "
                f"{self.config.features}."
            )

    def __call__(self, rows: ArrayLike) -> Doubles:
        """Return (n_atoms, dimensions) rows of length 1 of descriptors (n_atoms, n_features).

        ValueError for descriptors with another number of features, or not finite.
        """
        x = self.projection(rows)
        for layer in range(self.config.layers):
            w, b = (np.asarray(self.weights[f"{layer}.{name}"], dtype=float) for name in ("weight", "bias"))
            x = x @ w.T + b
            x = leaky(x) if layer < self.config.layers - 1 else x
        lengths = np.sqrt((x**2).sum(axis=1, keepdims=True))
        return np.asarray(x / np.where(lengths > 0, lengths, 1.0))

    def outside(self, rows: ArrayLike) -> NDArray[np.bool_]:
        """Return (n_atoms,) whether a component is more than `FAR` from the mean of the training."""
        return np.asarray((np.abs(self.projection(rows)) > FAR * self.projection.spread).any(axis=1))

    @property
    def n_features(self) -> int:
        """Number of features of the descriptors."""
        return len(self.projection.unit)

    @classmethod
    def of(cls, source: Contrast | Checkpoint | str | os.PathLike[str]) -> Contrast:
        """Read an embedding from a checkpoint or its file; CheckpointError for another one."""
        if isinstance(source, Contrast):
            return source
        checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
        if checkpoint.family != "environments" or checkpoint.config.get("method") != METHOD:
            raise CheckpointError(f"{checkpoint.name}: this is no checkpoint of an embedding.")
        try:
            return cls.from_parts(checkpoint.config, checkpoint.weights)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.name}: the settings in the checkpoint cannot be used: {error}"
            ) from None

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]) -> Contrast:
        """The inverse of `to_parts`; KeyError, TypeError or ValueError for what cannot be used."""
        config = ContrastConfig.from_dict(settings["network"])
        parts = {one.name: from_parts(weights[f"projection.{one.name}"]) for one in fields(Projection)}
        n = parts["unit"].size
        shapes = {"unit": (n,), "center": (n,), "axes": (n, config.features), "explained": (config.features,)}
        for name, shape in shapes.items():
            if parts[name].shape != shape or not (np.abs(parts[name]) <= LARGEST).all():
                raise ValueError(f"projection.{name} must be numbers up to {LARGEST:g} of shape {shape}")
        return cls(Projection(**parts), config, members_of(weights, ("projection.",))[0])

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return settings for JSON and float32 arrays from which `of` makes the same embedding."""
        weights = {f"member0.{name}": np.asarray(w, dtype=np.float32) for name, w in self.weights.items()}
        for one in fields(Projection):
            weights[f"projection.{one.name}"] = to_parts(getattr(self.projection, one.name), one.name)
        return {"method": METHOD, "network": self.config.to_dict()}, weights
