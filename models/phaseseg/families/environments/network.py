"""MEAGraph in PyTorch, for training: the same layers as `inference`, in float64 on the processor.

Distances and sums over pairs are the compiled loops of `meagraph_kernels`, with their gradients, so memory
grows with the number of pairs and not with pairs times widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.environments.inference import SLOPE, random_weights
from phaseseg.families.environments.meagraph_graph import NOISE, Graph, Scale, normalized_scores
from phaseseg.families.environments.meagraph_kernels import (
    pair_distances,
    pair_distances_back,
    pair_products,
    pair_sums,
)
from phaseseg.families.environments.settings import ContrastConfig, MeagraphConfig

Doubles = NDArray[np.float64]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


class _Distances(torch.autograd.Function):
    """(n_pairs,) distances of the rows of pairs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pairs: Pairs) -> Tensor:
        rows, out = _array(values), np.empty(len(pairs[0]))
        pair_distances(rows, *pairs, out)
        ctx.kept = rows, pairs, out
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, pairs, lengths = ctx.kept
        out = np.zeros_like(rows)
        pair_distances_back(rows, *pairs, lengths, _array(gradient), out)
        return torch.from_numpy(out), None


class _Sums(torch.autograd.Function):
    """values + sums of scores times values over the neighbors of each node."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scores: Tensor, pairs: Pairs) -> Tensor:
        rows, alpha = _array(values), _array(scores)
        ctx.kept = rows, alpha, pairs
        out = rows.copy()
        pair_sums(rows, *pairs, alpha, out)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, alpha, pairs = ctx.kept
        given = _array(gradient)
        to_rows, to_scores = given.copy(), np.empty_like(alpha)
        pair_sums(given, *pairs, alpha, to_rows)
        pair_products(rows, given, *pairs, to_scores)
        return torch.from_numpy(to_rows), torch.from_numpy(to_scores), None


def _array(values: Tensor) -> Doubles:
    return np.ascontiguousarray(values.detach().numpy(), dtype=np.float64)


def distances(values: Tensor, pairs: Pairs) -> Tensor:
    """(n_pairs,) distances of the rows of pairs of nodes."""
    return cast(Tensor, _Distances.apply(values, pairs))


def sums(values: Tensor, scores: Tensor, pairs: Pairs) -> Tensor:
    """(n_nodes, n_columns) rows, plus scores times the rows of the neighbors."""
    return cast(Tensor, _Sums.apply(values, scores, pairs))


class MeagraphModule(nn.Module):
    """The autoencoder; parameters have the names and shapes of `config.weight_shapes()`.

    Without a scale the norms of columns are those of the graph, with gradients; those of a given scale are
    constants.

    config : MeagraphConfig; seed : of the weights that it starts from
    """

    def __init__(self, config: MeagraphConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._names = {name.replace(".", "_"): name for name in config.weight_shapes()}
        weights = random_weights(config, seed)
        for own, name in self._names.items():
            self.register_parameter(own, nn.Parameter(torch.from_numpy(weights[name]).double()))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights by the names of the configuration."""
        return named_weights(self.config, {k: v.detach().numpy() for k, v in self.state_dict().items()})

    def forward(self, graph: Graph, rates: Sequence[float], scale: Scale | None = None) -> Tensor:
        """Return the reconstruction of the inputs, (n_nodes, n_features), at one rate for each layer."""
        latent, pairs = self.encode(graph, rates, scale)
        w, weights = self._weight, torch.from_numpy(graph.weights)
        z = latent
        for layer in reversed(range(len(self.config.widths))):
            name = f"decoder.{layer}"
            h = functional.linear(z, w(f"{name}.kernel"))
            alpha = self._alpha(h, weights, pairs[layer], w(f"{name}.beta")[0], scale, name)
            z = functional.linear(_attention(h, weights, pairs[layer], alpha), w(f"{name}.weight")) + h
            z = functional.leaky_relu(z, SLOPE) if layer else z
        return functional.linear(z, w("final.weight"), w("final.bias"))

    def encode(
        self, graph: Graph, rates: Sequence[float], scale: Scale | None = None
    ) -> tuple[Tensor, list[Pairs]]:
        """Return latent rows and, for each layer, the pairs it has seen; at last those that survive."""
        w, weights = self._weight, torch.from_numpy(graph.weights)
        x, pairs = torch.from_numpy(graph.inputs), [(graph.first, graph.second)]
        for layer, rate in enumerate(rates):
            name, mean, scores = f"encoder.{layer}", [], []
            for k in range(self.config.kernels):
                h = functional.linear(x, w(f"{name}.kernels")[k])
                alpha = self._alpha(h, weights, pairs[-1], w(f"{name}.beta")[k], scale, f"{name}.{k}")
                mean.append(functional.leaky_relu(_attention(h, weights, pairs[-1], alpha) + h, SLOPE))
                scores.append(alpha)
            out = functional.linear(torch.stack(mean).mean(0), w(f"{name}.weight"), w(f"{name}.bias"))
            x = _columns(functional.leaky_relu(out, SLOPE), weights, scale, name)
            # The threshold is hard: no gradient flows through the choice of the edges.
            found = torch.stack(scores).mean(0).detach().numpy()
            own = Scale() if scale is None else scale
            kept = normalized_scores(found, own, f"scores.{layer}", graph.weights) > rate
            pairs.append((pairs[-1][0][kept], pairs[-1][1][kept]))
        return x, pairs

    def _weight(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name.replace(".", "_")))

    def _alpha(
        self, h: Tensor, weights: Tensor, pairs: Pairs, beta: Tensor, scale: Scale | None, name: str
    ) -> Tensor:
        return torch.exp(-beta * distances(_columns(h, weights, scale, name), pairs))


class ContrastModule(nn.Sequential):
    """The layers of `contrast.Contrast`, without the lengths of the rows."""

    def __init__(self, config: ContrastConfig) -> None:
        parts: list[nn.Module] = []
        for layer in range(config.layers):
            outputs, inputs = config.weight_shapes()[f"{layer}.weight"]
            parts += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        super().__init__(*parts[:-1])

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights by the names of the configuration."""
        return contrast_weights({name: w.detach().numpy() for name, w in self.state_dict().items()})


def contrast_weights(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a state of the module by the names of the configuration."""
    named = {name: name.split(".") for name in state}
    return {f"{int(k) // 2}.{kind}": np.asarray(state[name], np.float32) for name, (k, kind) in named.items()}


def contrast_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding the partner of each row among all rows of the other side, both ways.

    first, second : (n, dimensions); rows of the same number are partners
    """
    first, second = functional.normalize(first, dim=1), functional.normalize(second, dim=1)
    logits, own = first @ second.T / temperature, torch.arange(len(first))
    return functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)


def named_weights(
    config: MeagraphConfig, state: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a state of the module by the names of the configuration, in float32."""
    return {
        name: np.asarray(state[name.replace(".", "_")], dtype=np.float32) for name in config.weight_shapes()
    }


def _attention(h: Tensor, weights: Tensor, pairs: Pairs, alpha: Tensor) -> Tensor:
    own = torch.cat([h * weights[:, None], weights[:, None]], dim=1)
    found = sums(own, alpha, pairs)
    return found[:, :-1] / found[:, -1:]


def _columns(values: Tensor, weights: Tensor, scale: Scale | None, name: str) -> Tensor:
    if scale is None:
        squares = weights @ values**2
        noise = (NOISE * squares.detach().sqrt().max()) ** 2
        dead = squares <= noise
        norms = torch.where(dead, torch.ones_like(squares), squares).sqrt()
        return torch.where(dead, torch.zeros_like(values), values / norms)
    scale.columns(name, _array(values), _array(weights))  # measures what is not kept yet
    norms = torch.from_numpy(scale.kept[name])
    return torch.where(norms > 0, values / torch.where(norms > 0, norms, torch.ones_like(norms)), 0.0)


def reconstruction_loss(found: Tensor, graph: Graph) -> Tensor:
    """Mean squared error of the reconstruction over atoms and features, relative to the mean square."""
    weights, inputs = torch.from_numpy(graph.weights), torch.from_numpy(graph.inputs)
    error = (weights @ (found - inputs) ** 2).sum()
    return error / (weights @ inputs**2).sum()
