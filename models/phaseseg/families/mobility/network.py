"""The message-passing network in PyTorch, for training and GPUs; `inference` gives the same numbers.

On the processor, the rounds of messages run in compiled loops, forward and backward; elsewhere in plain
PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.dense import TILE_ROWS, whole_registers, whole_tiles
from phaseseg.families.mobility.inference import type_inputs
from phaseseg.families.mobility.message_graph import MessageGraph, message_graph
from phaseseg.families.mobility.message_kernels import BLOCK, renew_edges, renew_edges_back
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.frame import Frame
from phaseseg.nn.ensemble import Ensemble
from phaseseg.nn.ops import tensor_of
from phaseseg.specs import Progress

_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class GraphTensors:
    """A graph as tensors on a device, or several graphs numbered through.

    types : (n_atoms, 1 or 2)
    vector : (n_rows, 3), σ, from sender to receiver; receiver, sender : (n_rows,) integers
    n_edges : rows behind these only fill up the tiles of the compiled loops
    """

    types: Tensor
    vector: Tensor
    receiver: Tensor
    sender: Tensor
    n_edges: int

    @classmethod
    def of(
        cls, graph: MessageGraph, codes: NDArray[np.integer[Any]], config: BapstConfig,
        device: torch.device | str = "cpu",
    ) -> GraphTensors:  # fmt: skip
        parts = (graph.vector, graph.receiver, graph.sender)
        vector, receiver, sender = (tensor_of(np.ascontiguousarray(part), device) for part in parts)
        types = tensor_of(type_inputs(codes, config), device)
        return cls(types, vector, receiver, sender, graph.n_edges).padded()

    def padded(self) -> GraphTensors:
        """The same graph with whole tiles of edges, if it is on the processor."""
        spare = whole_tiles(len(self.vector)) - len(self.vector)
        if self.vector.device.type != "cpu" or not spare:
            return self
        receiver, sender = (functional.pad(part, (0, spare)) for part in (self.receiver, self.sender))
        vector = functional.pad(self.vector, (0, 0, 0, spare))
        return GraphTensors(self.types, vector, receiver, sender, self.n_edges)


class BapstNetwork(nn.Module):
    """Encode, exchange messages, decode; see `BapstConfig`, whose `weight_shapes()` name its state.

    The first layer of an edge is W [edge, encoded edge, receiver, sender]. The products with the particles
    are formed once for each of them and not for each edge, those with the encoded edges once for all rounds
    that share the weights.

    Initial weights are normal; see `normalize_layers` for their size. Those of the output are zero.

    normalize : whether the units that read the sums of edges are normalized in training; see `Normalization`.
        `folded_weights` are those of the same network without normalization.
    """

    def __init__(self, config: BapstConfig, *, normalize: bool = False) -> None:
        super().__init__()
        self.config = config
        self.norms = nn.ModuleList(
            Normalization(config.hidden) for _ in range(config.rounds if normalize else 0)
        )
        s, h = config.width, config.hidden
        self.edge_encoder = _layers(3, h, s)
        self.node_encoder = _layers(config.n_type_inputs, h, s)
        n = len(set(config.weights_of_round))
        reads = 3 if config.update == "edges-first" else 4
        self.edge_rounds = nn.ModuleList(_layers(6 * s, h, s) for _ in range(n))
        self.node_rounds = nn.ModuleList(_layers(reads * s, h, s) for _ in range(n))
        self.decoder = _layers(*[s] * (config.decoder_layers + 1), config.outputs)
        nn.init.zeros_(cast(Any, self.decoder)[-1].weight)

    def forward(self, graph: GraphTensors) -> Tensor:
        """(n_atoms, outputs)"""
        config = self.config
        edge0, node0 = _rectified(self.edge_encoder, graph.vector), _rectified(self.node_encoder, graph.types)
        edge, node, known = edge0, node0, None
        edges_first = config.update == "edges-first"
        sums0 = sums = None if edges_first else _sums(edge0, graph)
        for number, weights in enumerate(config.weights_of_round):
            first, second = cast(Any, self.edge_rounds[weights])
            parts = first.weight.split(config.width, dim=1)
            if known is None or config.own_weights:
                known = torch.addmm(first.bias, edge0, parts[1].T)
            before = node
            for step in ("edges", "nodes") if edges_first else ("nodes", "edges"):
                if step == "edges":
                    if not edges_first and number == config.rounds - 1:
                        continue  # nothing reads these edges
                    read = node if config.update == "nodes-first" else before
                    to = read @ parts[2].T + node0 @ parts[3].T
                    own = read @ parts[4].T + node0 @ parts[5].T
                    edge, sums = renewed(edge, known, to, own, parts[0], second.weight, second.bias, graph)
                else:
                    rows = [cast(Tensor, sums), *([] if sums0 is None else [sums0]), before, node0]
                    node = self._renewed_nodes(number, weights, torch.cat(rows, dim=1))
        for layer in self.decoder[:-1]:
            node = torch.relu(layer(node))
        return cast(Tensor, self.decoder[-1](node))

    def _renewed_nodes(self, number: int, weights: int, rows: Tensor) -> Tensor:
        if not self.norms:
            return _rectified(self.node_rounds[weights], rows)
        first, second = cast(Any, self.node_rounds[weights])
        x = self.norms[number](rows @ first.weight.T) + first.bias
        return torch.relu(second(torch.relu(x)))

    def folded_weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights of the network without normalization that gives the same outputs."""
        state = {name: values.detach().clone() for name, values in self.state_dict().items()}
        for number in range(len(self.norms)):
            name = f"node_rounds.{self.config.weights_of_round[number]}.0"
            mean, scale = (state.pop(f"norms.{number}.{part}") for part in ("mean", "scale"))
            state[f"{name}.weight"] *= scale[:, None]
            state[f"{name}.bias"] -= mean * scale
        return {name: values.numpy() for name, values in state.items()}


class Normalization(nn.Module):
    """Every unit has mean 0 and variance 1 over the particles of a graph; later, over those of some graphs.

    A change of the edges common to all particles then changes nothing. Without it, the sums over some forty
    edges enlarge it in every round, and only small learning rates are stable. DOI 10.48550/arXiv.1502.03167.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, units: int) -> None:
        super().__init__()
        self.n_seen = 0
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("scale", torch.ones(units))

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (n_atoms, units)."""
        if not self.training:
            return (x - self.mean) * self.scale
        if not torch.is_grad_enabled():  # see `measure_units`
            variance, mean = torch.var_mean(x, dim=0, correction=0)
            self.n_seen += 1
            self.mean.lerp_(mean, 1 / self.n_seen)
            self.scale.lerp_((variance + _LEAST_VARIANCE).rsqrt(), 1 / self.n_seen)
        return functional.batch_norm(x, None, None, training=True, eps=_LEAST_VARIANCE)


def measure_units(network: BapstNetwork, graphs: Iterable[GraphTensors]) -> None:
    """Set the means and variances of the normalized units to those over some graphs."""
    if not network.norms:
        return
    for norm in network.norms:
        norm.n_seen = 0  # type: ignore[assignment]
    training = network.training
    network.train()
    with torch.no_grad():
        for graph in graphs:
            network(graph)
    network.train(training)


def _layers(*widths: int) -> nn.ModuleList:
    made = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
    for layer in made:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return made


def normalize_layers(network: BapstNetwork, graph: GraphTensors) -> None:
    """Scale and shift the units of every layer but the last to mean 0 and variance 1 over a graph.

    Without it, sums over some forty edges grow from round to round, and what differs between particles is
    small next to what is the same for all. Weights that rounds share are normalized in the first of them.
    Initialization from data: DOI 10.48550/arXiv.1511.06856.
    """
    config, n = network.config, graph.n_edges
    receiver, sender = graph.receiver[:n], graph.sender[:n]

    def normal(layer: Any, rows: list[Tensor], gathered: tuple[Tensor, ...] = ()) -> Tensor:
        """The rectified outputs of a layer of [rows, particles at the receiver, and at the sender]."""
        parts = list(layer.weight.split([part.shape[1] for part in (*rows, *gathered, *gathered)], dim=1))
        x = sum((part @ parts.pop(0).T for part in rows), layer.bias)
        for ends in (receiver, sender) if gathered else ():
            x = x + sum(part @ parts.pop(0).T for part in gathered).index_select(0, ends)
        mean, spread = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
        layer.weight /= spread[:, None]
        layer.bias.copy_((layer.bias - mean) / spread)
        return torch.relu((x - mean) / spread)

    with torch.no_grad():
        edge, node = graph.vector[:n], graph.types
        for layer in network.edge_encoder:
            edge = normal(layer, [edge])
        for layer in network.node_encoder:
            node = normal(layer, [node])
        edge0, node0 = edge, node
        for number in dict.fromkeys(config.weights_of_round):
            first, second = cast(Any, network.edge_rounds[number])
            new = normal(second, [normal(first, [edge, edge0], (node, node0))])
            read = [new] if config.update == "edges-first" else [edge, edge0]
            sums = [torch.zeros(len(node), config.width).index_add(0, receiver, part) for part in read]
            first, second = cast(Any, network.node_rounds[number])
            edge, node = new, normal(second, [normal(first, [*sums, node, node0])])
        for layer in network.decoder[:-1]:
            node = normal(layer, [node])


def _rectified(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        x = torch.relu(layer(x))
    return x


# Edges --------------------------------------------------------------------------------------------


def _sums(edge: Tensor, graph: GraphTensors) -> Tensor:
    out = torch.zeros(len(graph.types), edge.shape[1], dtype=edge.dtype, device=edge.device)
    return out.index_add(0, graph.receiver[: graph.n_edges], edge[: graph.n_edges])


def renewed(
    edge: Tensor, known: Tensor, to: Tensor, own: Tensor, first: Tensor, second: Tensor, bias: Tensor,
    graph: GraphTensors,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The new edges, and their sums over receivers.

    new = max(0, max(0, known + edge @ first.T + to[receiver] + own[sender]) @ second.T + bias)

    On the processor, in float32 and with whole tiles of edges and registers, in compiled loops.
    """
    widths = (edge.shape[1], known.shape[1])
    whole = all(whole_registers(n) == n for n in widths) and len(edge) % TILE_ROWS == 0
    if edge.device.type == "cpu" and edge.dtype == torch.float32 and whole:
        return cast(tuple[Tensor, Tensor], _Renewed.apply(edge, known, to, own, first, second, bias, graph))
    x = torch.addmm(known, edge, first.T)
    x = x + to.index_select(0, graph.receiver) + own.index_select(0, graph.sender)
    edge = torch.relu(functional.linear(torch.relu(x), second, bias))
    return edge, _sums(edge, graph)


class _Renewed(torch.autograd.Function):
    """`renewed` in compiled loops; its gradients form again what they need."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, graph = inputs
        edge, known, to, own, first, second, bias = (_array(tensor) for tensor in tensors)
        after = borrow(edge.shape, np.float32)
        sums = np.zeros((len(to), edge.shape[1]), dtype=np.float32)
        renew_edges(
            0, len(edge) // TILE_ROWS, graph.receiver.numpy(), graph.sender.numpy(), graph.n_edges, known, to,
            own, np.ascontiguousarray(first.T), np.ascontiguousarray(second.T), bias, edge, after, sums,
        )  # fmt: skip
        made = torch.from_numpy(after), torch.from_numpy(sums)
        ctx.graph = graph
        ctx.save_for_backward(*tensors, made[0])
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        graph = ctx.graph
        edge, known, to, own, first, second, bias, after = (_array(part) for part in ctx.saved_tensors)
        from_edges, from_sums = (None if part is None else _array(part) for part in gradients)
        if from_edges is None:
            from_edges = np.zeros((0, edge.shape[1]), dtype=np.float32)
        if from_sums is None:
            from_sums = np.zeros((len(to), edge.shape[1]), dtype=np.float32)
        hidden = np.empty((BLOCK, known.shape[1]), dtype=np.float32)
        grown = np.empty((BLOCK, edge.shape[1]), dtype=np.float32)
        large = (borrow(array.shape, np.float32) for array in (edge, known))
        found = [*large, np.zeros_like(to), np.zeros_like(own)]
        to_first, to_second = np.zeros(first.shape[::-1], "f4"), np.zeros(second.shape[::-1], "f4")
        to_bias = np.zeros_like(bias)
        renew_edges_back(
            graph.receiver.numpy(), graph.sender.numpy(), graph.n_edges, known, to, own,
            np.ascontiguousarray(first.T), np.ascontiguousarray(second.T), edge, after, from_edges, from_sums,
            first, second, hidden, grown, *found, to_first, to_second, to_bias,
        )  # fmt: skip
        arrays = [*found, to_first.T, to_second.T, to_bias]
        return *map(torch.from_numpy, arrays), None


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().contiguous().numpy(), dtype=np.float32)


# Inference ----------------------------------------------------------------------------------------


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


# PyTorch Geometric --------------------------------------------------------------------------------


class GraphForm:
    """How the networks of a model read a graph, for `phaseseg.pyg`."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.predictor.config

    def build(self) -> BapstNetwork:
        return BapstNetwork(self.config)

    def arrays(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """Return types of particles `x`, the vectors of edges `edge_attr`, and the edges."""
        codes = self.model.codes(frame)
        graph = message_graph(frame, self.config.cutoff, self_edges=self.config.self_edges)
        return {
            "x": type_inputs(codes, self.config), "edge_attr": graph.vector, "indptr": graph.indptr,
            "source": graph.sender,
        }  # fmt: skip

    def forward(self, network: BapstNetwork, data: Any, edges: Any, sizes: Tensor) -> Tensor:
        """(n_atoms, n_targets) outputs, standardized as in training."""
        sender, receiver = (part.int() for part in data.edge_index)
        graph = GraphTensors(data.x, data.edge_attr, receiver, sender, len(sender))
        return cast(Tensor, network(graph.padded()))


def graph_form(model: Any) -> GraphForm | None:
    """How message-passing networks read their input; None for the other methods."""
    return GraphForm(model) if model.method == "bapst" else None
