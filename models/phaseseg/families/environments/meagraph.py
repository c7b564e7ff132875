"""Clusters by MEAGraph: components of the edges that survive, for a network with its scale, and new atoms."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from phaseseg.families.environments.inference import MeagraphNetwork, random_weights
from phaseseg.families.environments.meagraph_graph import (
    Points,
    Scale,
    build_graph,
    component_labels,
    distinct_points,
)
from phaseseg.families.environments.projection import checked_rows
from phaseseg.families.environments.settings import RATE, MeagraphConfig, check_rate
from phaseseg.io import atomic_output
from phaseseg.nn.model import members_of

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Normalize = Literal["fitted", "batch"]

DEFAULT = "environments/meagraph-ta-v1"
FORMAT = 1


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
    def of(cls, source: Meagraph | Checkpoint | str | os.PathLike[str]) -> Meagraph:
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
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.name}: the settings in the checkpoint cannot be used: {error}"
            ) from None
        start = len("scale.")
        scale = {k[start:]: v.astype(float) for k, v in checkpoint.weights.items() if k.startswith("scale.")}
        return cls(network, scale, rate)

    @classmethod
    def untrained(cls, features: int, seed: int = 0, **settings: Any) -> Meagraph:
        """Return a network with random weights, a baseline; settings : of `MeagraphConfig`."""
        config = MeagraphConfig(features=features, **settings)
        return cls(MeagraphNetwork(config, random_weights(config, seed)))

    def measured(self, rows: ArrayLike, rate: float | None = None) -> Meagraph:
        """Return the network with the scale of these rows, at a rate."""
        rate = self.rate if rate is None else check_rate(rate)
        scale = Scale()
        graph = build_graph(distinct_points(rows, scale), self.network.config.low)
        encoded = self.network.encode(graph, [rate] * len(self.network.config.widths), scale)
        self.network.decode(encoded, graph.weights, scale)
        return Meagraph(self.network, scale.kept, rate)


def meagraph_clusters(
    rows: ArrayLike, network: Meagraph | Checkpoint | str | os.PathLike[str] = DEFAULT, *,
    rate: float | None = None, normalize: Normalize = "fitted", neighbors: int | None = None,
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
        For a rate or `neighbors` out of range, another number of features, too many pairs, and "fitted" for a
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
    return fit_meagraph_clusters(rows, network, rate=rate, normalize=normalize, neighbors=neighbors).labels


@dataclass(frozen=True, eq=False)
class MeagraphClusters:
    """Clusters of a set, to assign other atoms without running the network again.

    labels : (n_atoms,) of the set, from 0 by size, -1 for isolated atoms
    points : (n_distinct, n_features) its distinct atoms, divided by the norms of the columns
    point_labels : (n_distinct,) their labels
    norms : (n_features,); 0 for a column that is left out
    distance : atoms farther than this from every atom of the set belong to no cluster
    """

    labels: Integers
    points: Doubles
    point_labels: Integers
    norms: Doubles
    distance: float

    @property
    def n_clusters(self) -> int:
        return int(self.point_labels.max(initial=-1)) + 1

    def assign(self, rows: ArrayLike) -> Integers:
        """Return (n_atoms,) the label of the nearest atom of the set; -1 for isolated atoms.

        For the rows of the fit the labels are those of the fit. ValueError for another number of features.
        """
        values = checked_rows(rows)
        scaled = Scale({"features": self.norms, "distance": [0.0, 1.0]})
        if values.shape[1] != len(self.norms):
            distinct_points(values, scaled)  # says so
        if not len(values):
            return np.zeros(0, dtype=np.int64)
        far, near = cKDTree(self.points).query(scaled.columns("features", values, np.ones(len(values))))
        return np.where(far < self.distance, self.point_labels[near], -1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a NumPy archive of numbers; reading it runs no code."""
        about = json.dumps({"format": FORMAT, "kind": "meagraph clusters", "distance": self.distance})
        with atomic_output(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file, allow_pickle=False, labels=self.labels, points=self.points, norms=self.norms,
                point_labels=self.point_labels, json=np.frombuffer(about.encode(), dtype=np.uint8),
            )  # fmt: skip


def load_meagraph_clusters(path: str | os.PathLike[str]) -> MeagraphClusters:
    """Read what `MeagraphClusters.save` wrote. ValueError for another file or a newer format."""
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        about = json.loads(stored.pop("json").tobytes())
        if about["kind"] != "meagraph clusters" or about["format"] > FORMAT:
            raise ValueError(f"{about['kind']}, format {about['format']}")
        return MeagraphClusters(**stored, distance=float(about["distance"]))
    except (ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: this is no file of MEAGraph clusters ({error}).") from None


def fit_meagraph_clusters(
    rows: ArrayLike, network: Meagraph | Checkpoint | str | os.PathLike[str] = DEFAULT, *,
    rate: float | None = None, normalize: Normalize = "fitted", neighbors: int | None = None,
) -> MeagraphClusters:  # fmt: skip
    """Find the clusters of `meagraph_clusters` and keep what assigns other atoms; parameters as there."""
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
            "same descriptor with the same settings."
        )
    scale = Scale(model.scale if normalize == "fitted" else None)
    points = distinct_points(values, scale)
    low = model.network.config.low
    graph = build_graph(points, low, neighbors)
    first, second = model.network.survivors(graph, model.rate if rate is None else rate, scale)
    labels = component_labels(points.merged, graph.nodes[first], graph.nodes[second])
    return _kept(labels, points, low)


def _kept(labels: Integers, points: Points, low: float) -> MeagraphClusters:
    own = np.full(len(points.inputs), -1, dtype=np.int64)
    own[points.merged.members] = labels
    return MeagraphClusters(labels, points.inputs, own, points.scale.kept["features"], points.distance(low))
