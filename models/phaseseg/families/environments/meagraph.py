"""Clusters by MEAGraph: components of the edges that survive, for a network with its scale, and new atoms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from phaseseg.families.environments.exact import from_parts, to_parts
from phaseseg.families.environments.inference import MeagraphNetwork, random_weights
from phaseseg.families.environments.meagraph_graph import (
    Scale,
    build_graph,
    component_labels,
    distinct_points,
)
from phaseseg.families.environments.projection import FAR, Projection, checked_rows
from phaseseg.families.environments.settings import RATE, MeagraphConfig, check_rate
from phaseseg.nn.model import members_of

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Normalize = Literal["fitted", "batch"]

DEFAULT = "environments/meagraph-ta-v1"
LARGEST = 1e12
"""Norms and ranges in a checkpoint are not larger than this."""


@dataclass(frozen=True, eq=False)
class Meagraph:
    """A network with the scale of the set that it was fitted on.

    network : config and weights
    scale : norms and ranges of that set at `rate`, by name; None if there is none, as for random weights
    rate : of the edges that survive, unless another is given
    """

    network: MeagraphNetwork
    scale: Mapping[str, Doubles] | None = None
    rate: float = RATE

    @classmethod
    def of(cls, source: Network) -> Meagraph:
        """Return a network from a checkpoint, its name or its file; CheckpointError for another one."""
        if isinstance(source, Meagraph):
            return source
        checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
        if checkpoint.family != "environments" or checkpoint.config.get("method") != "meagraph":
            raise CheckpointError(f"{checkpoint.name}: this is no checkpoint of the network MEAGraph.")
        try:
            config = MeagraphConfig.from_dict(checkpoint.config["network"])
            members = members_of(checkpoint.weights, ("scale.",))
            rate = check_rate(float(checkpoint.config["rate"]))
            network = MeagraphNetwork(config, members[0])
            start = len("scale.")
            kept = {k[start:]: v for k, v in checkpoint.weights.items() if k.startswith("scale.")}
            scale = {name: from_parts(values) for name, values in kept.items()} or None
            _check_scale(config, scale)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.name}: the settings in the checkpoint cannot be used: {error}"
            ) from None
        return cls(network, scale, rate)

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return settings for JSON and float32 arrays from which `of` makes the same network."""
        weights = {f"member0.{name}": w.astype(np.float32) for name, w in self.network.weights.items()}
        weights |= {f"scale.{name}": to_parts(v, name) for name, v in (self.scale or {}).items()}
        settings = {"method": "meagraph", "network": self.network.config.to_dict(), "rate": self.rate}
        return settings, weights

    @classmethod
    def untrained(cls, features: int, seed: int = 0, **settings: Any) -> Meagraph:
        """Return a network with random weights, a baseline; settings : of `MeagraphConfig`."""
        config = MeagraphConfig(features=features, **settings)
        return cls(MeagraphNetwork(config, random_weights(config, seed)))

    def measured(
        self, rows: ArrayLike, rate: float | None = None, *, neighbors: int | None = None
    ) -> Meagraph:
        """Return the network with the scale of these rows, at a rate; neighbors : see `build_graph`."""
        rate = self.rate if rate is None else check_rate(rate)
        scale = Scale()
        graph = build_graph(distinct_points(rows, scale), self.network.config.low, neighbors)
        encoded = self.network.encode(graph, [rate] * len(self.network.config.widths), scale)
        self.network.decode(encoded, graph.weights, scale)
        return Meagraph(self.network, scale.kept, rate)


def check_descriptor(source: Network, descriptor: Mapping[str, Any]) -> None:
    """Raise ValueError unless a network reads this descriptor; settings as in a checkpoint.

    Its norms are those of the set on which it was trained, so with another descriptor or other species the
    edges that survive mean nothing. A network that is no checkpoint states no descriptor and is not checked.
    """
    if isinstance(source, Meagraph):
        return
    checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
    known = checkpoint.config.get("descriptor")
    if known is not None and json.dumps(known, sort_keys=True) != json.dumps(descriptor, sort_keys=True):
        raise ValueError(
            f"the network {checkpoint.name} was trained on {_words(known)}, but the environments are "
            f"described by {_words(descriptor)}. Train a network on this set with phaseseg train "
            "environments, or choose another method."
        )


def _words(settings: Mapping[str, Any]) -> str:
    """A descriptor in words."""
    if settings.get("kind") != "power-spectrum":
        return "rows of numbers"
    species = ", ".join(settings["species"])
    numbers = ", ".join(f"{name} {settings[name]:g}" for name in ("n_max", "l_max"))
    return f"the power spectrum of {species} (cutoff {settings['cutoff']:g} Å, {numbers})"


def _check_scale(config: MeagraphConfig, scale: Mapping[str, Doubles] | None) -> None:
    """Raise ValueError for a scale that is incomplete, has other shapes or impossible values."""
    shapes = config.scale_shapes() if scale else {}
    if sorted(scale or {}) != sorted(shapes):
        raise ValueError("norms or ranges are missing or unknown")
    for name, shape in shapes.items():
        values = (scale or {})[name]
        is_range = name in ("atoms", "distance") or name.startswith("scores.")
        if values.shape != shape or not (values >= 0).all() or not (values <= LARGEST).all():
            raise ValueError(f"scale.{name} must be {shape[0]} numbers from 0 to {LARGEST:g}")
        if is_range and values[0] > values[1]:
            raise ValueError(f"scale.{name} is no range")
    if scale and not scale["atoms"][0] >= 1:
        raise ValueError("scale.atoms must be at least 1")


Network: TypeAlias = Meagraph | Checkpoint | str | os.PathLike[str]


def meagraph_clusters(
    rows: ArrayLike, network: Network = DEFAULT, *, rate: float | None = None,
    normalize: Normalize = "fitted", neighbors: int | None = None,
) -> Integers:  # fmt: skip
    """Return (n_atoms,) labels from 0, by size; -1 for isolated atoms, which are candidates for outliers.

    Atoms with similar descriptors are joined. The network scores the edges; clusters are the connected
    components of those that survive all layers. Equal atoms are always in the same cluster.

    Parameters
    ----------
    rows : (n_atoms, n_features) from the descriptor that the network was trained with
    network : a checkpoint, its name or file, or a `Meagraph`
    rate : edges survive above this normalized score in each layer; by default that of the network
    normalize : "fitted": norms and ranges of the set that the network was fitted on, so that a threshold
        means the same in every set; "batch": those of these rows, as in the published code
    neighbors : see `build_graph`

    Raises
    ------
    ValueError
        For a rate or `neighbors` out of range, another number of features, and "fitted" for a
        network without a scale.
    CheckpointError
        For another checkpoint.

    References
    ----------
    Sun, Vita, Samanta, Lordi, arXiv 2509.12358 (2025).

    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(0, 0.01, (30, 3)), rng.normal(0, 0.01, (20, 3)) + [1, 0, 0]])
    >>> labels = meagraph_clusters(rows + 1, Meagraph.untrained(3), normalize="batch", rate=0.05)
    >>> np.bincount(labels[labels >= 0]).tolist()
    [30, 20]
    """
    return fit_meagraph(rows, network, rate=rate, normalize=normalize, neighbors=neighbors).labels


class FittedClusters(NamedTuple):
    """Clusters of a set, with what assigns other atoms without running the network again.

    labels : (n_atoms,) of the set
    projection : divides descriptors by the norms of their columns
    points : (n_distinct, n_features) distinct atoms of the set, projected; point_labels : (n_distinct,)
    distance : atoms farther than this from every atom of the set belong to no cluster
    largest : a projected feature beyond this is outside of the training of the network; None if nothing is
        known of the training
    """

    labels: Integers
    projection: Projection
    points: Doubles
    point_labels: Integers
    distance: float
    largest: float | None


def fit_meagraph(
    rows: ArrayLike, network: Network = DEFAULT, *, rate: float | None = None,
    normalize: Normalize = "fitted", neighbors: int | None = None,
) -> FittedClusters:  # fmt: skip
    """Find the clusters of `meagraph_clusters` and return what assigns other atoms; parameters as there."""
    model = Meagraph.of(network)
    if normalize not in ("fitted", "batch"):
        raise ValueError(f"normalize must be fitted or batch, found {normalize!r}.")
    if normalize == "fitted" and model.scale is None:
        raise ValueError(
            "the network keeps no norms of a set; use normalize='batch', or fit it with `measured(rows)`."
        )
    features, values = model.network.config.features, checked_rows(rows)
    if values.shape[1] != features:
        raise ValueError(
            f"the network was made for {features} features, and the rows have {values.shape[1]}. Use the "
            "same descriptor with the same settings, or train a network on this set."
        )
    scale = Scale(model.scale if normalize == "fitted" else None)
    points = distinct_points(values, scale)
    low = model.network.config.low
    graph = build_graph(points, low, neighbors)
    first, second = model.network.survivors(graph, model.rate if rate is None else rate, scale)
    labels = component_labels(points.merged, graph.nodes[first], graph.nodes[second])
    own = np.full(len(points.inputs), -1, dtype=np.int64)
    own[points.merged.members] = labels
    norms, zeros = scale.kept["features"], np.zeros(features)
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 0.0)
    projection = Projection(zeros, zeros, np.diag(inverse), zeros)
    # The projected features of the training have a root mean square of one over the root of its atoms.
    largest = FAR / float(np.sqrt(scale.kept["atoms"][0])) if normalize == "fitted" else None
    return FittedClusters(labels, projection, points.inputs, own, points.distance(low), largest)
