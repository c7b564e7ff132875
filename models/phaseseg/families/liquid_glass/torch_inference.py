"""The networks in torch, on the processor or a GPU: the numbers of `inference`, where a GPU is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phaseseg.families.liquid_glass.crops import Graphs
from phaseseg.families.liquid_glass.image_network import ImageNetwork
from phaseseg.families.liquid_glass.inference import GlassOutput
from phaseseg.families.liquid_glass.settings import SCORE_BOUND, GlassConfig
from phaseseg.nn.model import check_weights

# So many numbers are held for the rows of a chunk.
CHUNK = 1 << 26


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device cuda: torch finds no GPU on this machine; choose the device cpu.")
    return torch.device(name)


class TorchNetwork:
    """An ensemble of message-passing networks in torch; called as `inference.Network`.

    device : "cpu" or "cuda"

    Raises
    ------
    ValueError
        As `inference.Network`.
    RuntimeError
        If there is no GPU that torch can use.
    """

    def __init__(
        self, config: GlassConfig, members: Sequence[Mapping[str, NDArray[Any]]], *, device: str = "cpu"
    ) -> None:
        check_weights(config.weight_shapes(), members)
        self._config, self._device = config, _device(device)
        self._members = [
            {name: self._tensor(values) for name, values in member.items()} for member in members
        ]

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        # A copy: arrays of a checkpoint cannot be written to, which torch warns of.
        return torch.from_numpy(np.array(values)).to(self._device)

    @torch.inference_mode()
    def __call__(self, graphs: Graphs) -> GlassOutput:
        """Logits of graphs and of their particles, and the attention of the edges."""
        found = [self._member(graphs, weights) for weights in self._members]
        of_graphs, of_nodes, attention = (
            [part.cpu().numpy() for part in parts] for parts in zip(*found, strict=True)
        )
        return GlassOutput(
            np.stack(of_graphs), np.stack(of_nodes), np.stack(attention) if self._config.attention else None
        )

    def _member(self, graphs: Graphs, w: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        config, edges = self._config, graphs.edges
        n, n_edges = len(graphs.nodes), len(edges.source)
        source, reverse, inputs, nodes = (
            self._tensor(values) for values in (edges.source, edges.reverse, graphs.inputs, graphs.nodes)
        )
        to = torch.repeat_interleave(
            torch.arange(n, device=self._device), self._tensor(np.diff(edges.indptr)), output_size=n_edges
        )
        counts = self._tensor(np.diff(graphs.edge_starts))
        graph = torch.repeat_interleave(counts, output_size=n_edges)
        h = torch.empty((n_edges, config.hidden), device=self._device)
        for rows in self._chunks(n_edges):
            h[rows] = torch.relu(functional.linear(inputs[rows], w["input.weight"], w["input.bias"]))
        weights = torch.empty(0, device=self._device)
        for step in range(1, config.steps + 1):
            if config.attention:
                score = SCORE_BOUND * torch.tanh((h @ w["attention.weight"][0]).double() / SCORE_BOUND)
                weights = self._softmax(score, graph, counts)
            sums = torch.zeros((n, config.hidden), device=self._device)
            for rows in self._chunks(n_edges):
                part = h[rows] * weights[rows, None] if config.attention else h[rows]
                sums.index_add_(0, to[rows], part)
            if step == config.steps:
                break
            new = torch.empty_like(h)
            for rows in self._chunks(n_edges):
                back = reverse[rows]
                own = h[back] * weights[back, None] if config.attention else h[back]
                start = functional.linear(inputs[rows], w["input.weight"], w["input.bias"])
                new[rows] = torch.relu(torch.addmm(start, sums[source[rows]] - own, w["message.weight"].T))
            h = new
        del h
        own = torch.cat([nodes, sums], dim=1)
        own = torch.relu(functional.linear(own, w["output.weight"], w["output.bias"]))
        sizes = self._tensor(np.diff(graphs.starts))
        of_graph = torch.repeat_interleave(sizes, output_size=n)
        means = torch.zeros((graphs.n_graphs, config.hidden), device=self._device, dtype=torch.float64)
        means.index_add_(0, of_graph, own.double())
        means /= sizes[:, None]
        return (
            self._head("readout", config.ffn_layers, means.float(), w),
            self._head("node", 2, own, w),
            weights,
        )

    def _chunks(self, n: int) -> Iterator[slice]:
        step = max(CHUNK // self._config.hidden, 1)
        for first in range(0, n, step):
            yield slice(first, min(first + step, n))

    @staticmethod
    def _softmax(scores: Tensor, graph: Tensor, counts: Tensor) -> Tensor:
        """Softmax over the edges of each graph, times their number; in float64, as there may be millions."""
        top = torch.full((len(counts),), -torch.inf, dtype=scores.dtype, device=scores.device)
        top = top.scatter_reduce(0, graph, scores, "amax")
        weights = torch.exp(scores - top[graph])
        total = torch.zeros_like(top).index_add_(0, graph, weights)
        return (weights * (counts / total)[graph]).float()

    @staticmethod
    def _head(name: str, layers: int, x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
        for i in range(layers):
            x = functional.linear(x, w[f"{name}.{i}.weight"], w[f"{name}.{i}.bias"])
            x = torch.relu(x) if i < layers - 1 else x
        return x[:, 0]


class TorchImages:
    """An ensemble of convolutional networks in torch.

    device : "cpu" or "cuda"

    Raises
    ------
    ValueError
        As `inference.Network`.
    RuntimeError
        If there is no GPU that torch can use.
    """

    def __init__(
        self, config: GlassConfig, members: Sequence[Mapping[str, NDArray[Any]]], *, device: str = "cpu"
    ) -> None:
        check_weights(config.weight_shapes(), members)
        self._device = _device(device)
        self._networks = []
        for member in members:
            network = ImageNetwork(config).eval()
            network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in member.items()})
            self._networks.append(network.to(self._device))

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_members, n) logits of images (n, 3, size, size)."""
        there = torch.from_numpy(images).to(self._device)
        return np.stack([network(there).cpu().numpy() for network in self._networks])
