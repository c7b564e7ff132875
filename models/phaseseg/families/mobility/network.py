"""The message-passing network in PyTorch, for training and GPUs; `inference` gives the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phaseseg.families.mobility.inference import type_inputs
from phaseseg.families.mobility.message_graph import MessageGraph
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.nn.ensemble import Ensemble
from phaseseg.nn.ops import tensor_of
from phaseseg.specs import Progress


@dataclass(frozen=True, eq=False)
class GraphTensors:
    """A graph as tensors on a device, or several graphs numbered through.

    types : (n_atoms, 1 or 2); vector : (n_edges, 3), σ, from sender to receiver; receiver, sender :
    (n_edges,) int64
    """

    types: Tensor
    vector: Tensor
    receiver: Tensor
    sender: Tensor

    @classmethod
    def of(
        cls, graph: MessageGraph, codes: NDArray[np.integer[Any]], config: BapstConfig,
        device: torch.device | str = "cpu",
    ) -> GraphTensors:  # fmt: skip
        ends = (tensor_of(part.astype(np.int64), device) for part in (graph.receiver, graph.sender))
        return cls(tensor_of(type_inputs(codes, config), device), tensor_of(graph.vector, device), *ends)


class BapstNetwork(nn.Module):
    """Encode, exchange messages, decode; see `BapstConfig`, whose `weight_shapes()` name its state.

    The first layer of an edge is W [edge, encoded edge, receiver, sender]. The products with the particles
    are formed once for each of them and not for each edge, those with the encoded edges once for all rounds
    that share the weights.

    Initial weights are normal with the variance 1 / inputs, as in the published code.
    """

    def __init__(self, config: BapstConfig) -> None:
        super().__init__()
        self.config = config
        s, h = config.width, config.hidden
        self.edge_encoder = _layers(3, h, s)
        self.node_encoder = _layers(config.n_type_inputs, h, s)
        n = len(set(config.weights_of_round))
        reads = 3 if config.update == "edges-first" else 4
        self.edge_rounds = nn.ModuleList(_layers(6 * s, h, s) for _ in range(n))
        self.node_rounds = nn.ModuleList(_layers(reads * s, h, s) for _ in range(n))
        self.decoder = _layers(*[s] * (config.decoder_layers + 1), config.outputs)

    def forward(self, graph: GraphTensors) -> Tensor:
        """(n_atoms, outputs)"""
        config = self.config
        edge0, node0 = _rectified(self.edge_encoder, graph.vector), _rectified(self.node_encoder, graph.types)
        edge, node, known = edge0, node0, None
        sums0 = None if config.update == "edges-first" else _sums(edge0, graph)
        for number, weights in enumerate(config.weights_of_round):
            first, last = self.edge_rounds[weights], number == config.rounds - 1
            parts = first[0].weight.split(config.width, dim=1)  # type: ignore[index]
            if known is None or config.own_weights:
                known = torch.addmm(first[0].bias, edge0, parts[1].T)  # type: ignore[index]

            def renewed(node: Tensor, edge: Tensor = edge, known: Tensor = known, parts: Any = parts,
                        second: Any = first[1]) -> Tensor:  # type: ignore[index]  # fmt: skip
                to = node @ parts[2].T + node0 @ parts[3].T
                own = node @ parts[4].T + node0 @ parts[5].T
                x = torch.addmm(known, edge, parts[0].T)
                x = x + to.index_select(0, graph.receiver) + own.index_select(0, graph.sender)
                return torch.relu(second(torch.relu(x)))

            before = node
            if config.update == "edges-first":
                edge = renewed(before)
            read = [_sums(edge, graph), *([] if sums0 is None else [sums0]), before, node0]
            node = _rectified(self.node_rounds[weights], torch.cat(read, dim=1))
            if config.update != "edges-first" and not last:
                edge = renewed(node if config.update == "nodes-first" else before)
        for layer in self.decoder[:-1]:
            node = torch.relu(layer(node))
        return cast(Tensor, self.decoder[-1](node))


def _layers(*widths: int) -> nn.ModuleList:
    made = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
    for layer in made:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)  # type: ignore[arg-type,operator]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return made


def _rectified(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        x = torch.relu(layer(x))
    return x


def _sums(edge: Tensor, graph: GraphTensors) -> Tensor:
    out = torch.zeros(len(graph.types), edge.shape[1], dtype=edge.dtype, device=edge.device)
    return out.index_add(0, graph.receiver, edge)


class TorchMessageNetwork(Ensemble):
    """An ensemble of networks in torch, with the call of `inference.MessageNetwork`."""

    build = BapstNetwork

    def __init__(self, config: BapstConfig, members: Any, *, device: str = "cpu") -> None:
        super().__init__(config, members, device=device)
        self.config = config

    def __call__(
        self, graph: MessageGraph, codes: NDArray[np.integer[Any]], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """(n_members, n_atoms, outputs)"""
        found = torch.stack(self.outputs(GraphTensors.of(graph, codes, self.config, self.device)))
        return np.asarray(found.cpu().numpy(), dtype=np.float32)
