"""MEAGraph in float64 without torch: the layers of the encoder and decoder, and the edges that survive.

One layer of the encoder, of K kernels with matrices W_k and numbers β_k, acts on rows x of the nodes:

    h = W_k x,  ĥ = h / norms of its columns,  α_ij = exp(-β_k |ĥ_i - ĥ_j|)
    o_j = Σ_i α_ij h_i / Σ_i α_ij + h_j,  over the neighbors i of j and j itself
    x' = leaky(W mean_k leaky(o) + b) / norms of its columns,  score_ij = mean_k α_ij

Edges whose score, divided by its range, is not above the rate are then dropped. The decoder goes back
through the layers on the edges that each layer of the encoder has seen. A node that stands for several atoms
counts as often in all sums, which gives the same numbers as the graph of all atoms.

Sun, Vita, Samanta, Lordi, arXiv 2509.12358 (2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.meagraph_graph import Graph, Scale, normalized_scores
from phaseseg.families.environments.meagraph_kernels import pair_distances, pair_sums
from phaseseg.families.environments.settings import MeagraphConfig, check_rate
from phaseseg.nn.model import check_weights

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Pairs = tuple[Integers, Integers]

SLOPE = 0.01
"""Slope of the rectifiers below zero."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The output of the encoder.

    latent : (n_nodes, last width), divided by the norms of the columns
    pairs : for each layer those that it has seen, and at last those that survive
    scores : for each layer the scores of the pairs it has seen
    """

    latent: Doubles
    pairs: list[Pairs]
    scores: list[Doubles]


class MeagraphNetwork:
    """A graph autoencoder with its weights; see the text of this module.

    config : of the network; weights : by name, a ValueError unless they match `config.weight_shapes()`
    """

    def __init__(self, config: MeagraphConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        check_weights(config.weight_shapes(), [weights])
        self.config = config
        self.weights = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}

    def encode(
        self, graph: Graph, rates: Sequence[float], scale: Scale, begun: tuple[Doubles, Doubles] | None = None
    ) -> Encoded:
        """Return what the encoder makes of a graph.

        rates : of each layer; begun : of `first_layer` with the same scale, to try several rates
        """
        if len(rates) != len(self.config.widths):
            raise ValueError(f"{len(self.config.widths)} layers need as many rates, found {len(rates)}.")
        x, pairs, found = graph.inputs, [(graph.first, graph.second)], []
        for layer, rate in enumerate(rates):
            check_rate(rate)
            if begun is not None and layer == 0:
                x, scores = begun
            else:
                x, scores = self._layer(layer, x, graph.weights, pairs[-1], scale)
            kept = normalized_scores(scores, scale, f"scores.{layer}", graph.weights) > rate
            first, second = pairs[-1]
            pairs.append((first[kept], second[kept]))
            found.append(scores)
        return Encoded(x, pairs, found)

    def first_layer(self, graph: Graph, scale: Scale) -> tuple[Doubles, Doubles]:
        """Return rows and scores after the first layer, which no rate changes."""
        return self._layer(0, graph.inputs, graph.weights, (graph.first, graph.second), scale)

    def _layer(
        self, layer: int, x: Doubles, weights: Doubles, pairs: Pairs, scale: Scale
    ) -> tuple[Doubles, Doubles]:
        name, w = f"encoder.{layer}", self.weights
        mean: Any = 0.0
        scores = np.zeros(len(pairs[0]))
        for k, beta in enumerate(w[f"{name}.beta"]):
            h = x @ w[f"{name}.kernels"][k].T
            alpha = _alpha(scale.columns(f"{name}.{k}", h, weights), pairs, beta)
            mean = mean + leaky(attention(h, weights, pairs, alpha) + h) / self.config.kernels
            scores += alpha / self.config.kernels
        out = leaky(mean @ w[f"{name}.weight"].T + w[f"{name}.bias"])
        return scale.columns(name, out, weights), scores

    def decode(self, encoded: Encoded, weights: Doubles, scale: Scale) -> Doubles:
        """Return the reconstruction of the inputs of the nodes, (n_nodes, n_features)."""
        z, w = encoded.latent, self.weights
        for layer in reversed(range(len(self.config.widths))):
            name, pairs = f"decoder.{layer}", encoded.pairs[layer]
            h = z @ w[f"{name}.kernel"].T
            alpha = _alpha(scale.columns(name, h, weights), pairs, w[f"{name}.beta"][0])
            z = attention(h, weights, pairs, alpha) @ w[f"{name}.weight"].T + h
            z = leaky(z) if layer else z
        return np.asarray(z @ w["final.weight"].T + w["final.bias"])

    def survivors(self, graph: Graph, rate: float, scale: Scale) -> Pairs:
        """Return the pairs of nodes that survive all layers at one rate."""
        return self.encode(graph, [rate] * len(self.config.widths), scale).pairs[-1]


def leaky(x: Doubles) -> Doubles:
    """Rectifier with a small slope below zero."""
    return np.where(x > 0, x, SLOPE * x)


def attention(h: Doubles, weights: Doubles, pairs: Pairs, alpha: Doubles) -> Doubles:
    """Return the mean of h over each node and its neighbors, by weight times score; its own score is 1."""
    own = np.concatenate([h * weights[:, None], weights[:, None]], axis=1)
    sums = own.copy()
    pair_sums(own, *pairs, alpha, sums)
    return np.asarray(sums[:, :-1] / sums[:, -1:])


def _alpha(hat: Doubles, pairs: Pairs, beta: float) -> Doubles:
    lengths = np.empty(len(pairs[0]))
    pair_distances(np.ascontiguousarray(hat), *pairs, lengths)
    return np.asarray(np.exp(-beta * lengths))


def random_weights(config: MeagraphConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the weights that training starts from: uniform within 1 / sqrt(inputs), and β = 1."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in config.weight_shapes().items():
        inputs = config.weight_shapes()[f"{name.rpartition('.')[0]}.weight"][1]
        bound = (shape[-1] if len(shape) > 1 else inputs) ** -0.5
        values = np.ones(shape) if name.endswith("beta") else rng.uniform(-bound, bound, shape)
        found[name] = values.astype(np.float32)
    return found
