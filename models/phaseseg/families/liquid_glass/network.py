"""The message-passing network in PyTorch: numbers on directed edges, heads for graph and particles.

Sums over the edges of a particle run in numba, forward and backward; nothing is as large as particles times
particles.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.compiled.jit import jit
from phaseseg.families.liquid_glass.crops import Edges, Graphs
from phaseseg.families.liquid_glass.settings import SCORE_BOUND, GlassConfig

NODE_SHARE = 0.5
"""Weight of the particles' loss beside that of the graphs."""

# Kernels ------------------------------------------------------------------------------------------


@jit
def _row_sums(indptr, values, out):
    """out[v] = sum of values over the edges that lead to v."""
    width = np.uint64(values.shape[1])
    for v in range(indptr.size - 1):
        for c in range(width):
            out[v, c] = 0
        for e in range(indptr[v], indptr[v + 1]):
            for c in range(width):
                out[v, c] += values[e, c]


@jit
def _spread(indptr, values, out):
    """out[e] = values[v] for the edges e that lead to v."""
    width = np.uint64(values.shape[1])
    for v in range(indptr.size - 1):
        for e in range(indptr[v], indptr[v + 1]):
            for c in range(width):
                out[e, c] = values[v, c]


@jit
def _others(indptr, reverse, values, out):
    """out[reverse of e] = sum of values over the other edges that lead to where e leads."""
    width = np.uint64(values.shape[1])
    total = np.empty(width, dtype=values.dtype)
    for v in range(indptr.size - 1):
        for c in range(width):
            total[c] = 0
        for e in range(indptr[v], indptr[v + 1]):
            for c in range(width):
                total[c] += values[e, c]
        for e in range(indptr[v], indptr[v + 1]):
            back = reverse[e]
            for c in range(width):
                out[back, c] = total[c] - values[e, c]


@jit
def _others_gradient(indptr, reverse, gradient, out):
    """The transpose of `_others`: out[e] = sum of gradient[reverse of f] over the other f that lead there."""
    width = np.uint64(gradient.shape[1])
    total = np.empty(width, dtype=gradient.dtype)
    for v in range(indptr.size - 1):
        for c in range(width):
            total[c] = 0
        for e in range(indptr[v], indptr[v + 1]):
            back = reverse[e]
            for c in range(width):
                total[c] += gradient[back, c]
        for e in range(indptr[v], indptr[v + 1]):
            back = reverse[e]
            for c in range(width):
                out[e, c] = total[c] - gradient[back, c]


class _RowSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        rows = values.detach().contiguous().numpy()
        out = np.empty((len(edges.indptr) - 1, rows.shape[1]), dtype=rows.dtype)
        _row_sums(edges.indptr, rows, out)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous().numpy()
        out = np.empty((len(ctx.edges.source), gradient.shape[1]), dtype=gradient.dtype)
        _spread(ctx.edges.indptr, gradient, out)
        return torch.from_numpy(out), None


class _Others(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        rows = values.detach().contiguous().numpy()
        out = np.empty_like(rows)
        _others(edges.indptr, edges.reverse, rows, out)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous().numpy()
        out = np.empty_like(gradient)
        _others_gradient(ctx.edges.indptr, ctx.edges.reverse, gradient, out)
        return torch.from_numpy(out), None


# Network ------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """Logits of glass, and what the last step paid attention to.

    graphs : (n_graphs,); nodes : (n,)
    attention : (n_edges,) weights of the edges in the sum over each particle, of mean 1 in each graph; None
        without attention
    """

    graphs: Tensor
    nodes: Tensor
    attention: Tensor | None


class GlassNetwork(nn.Module):
    """Directed message passing (D-MPNN) with an optional attention of edges.

    With x_v the features of particle v, e_vw those of the edge from v to w, N(v) the particles joined to v
    and τ the rectifier:

        h_vw = τ(W_i [x_v, e_vw] + b_i)                                                the first step
        h_vw ← τ(W_i [x_v, e_vw] + b_i + W_m Σ a_kv h_kv over k in N(v) but w)         T - 1 times
        h_v  = τ(W_a [x_v, Σ a_kv h_kv over k in N(v)] + b_a)

    A message never returns along the edge on which it came. The head of the graph takes the mean of h_v, that
    of the particles each h_v. Without attention a = 1; with it a = n_edges softmax(c tanh(w_att · h / c)),
    c = `SCORE_BOUND`, over the directed edges of the graph and of no other in the batch, so that its mean is
    1 in a graph of any size.

    State: names of `config.weight_shapes()`. DOI 10.48550/arXiv.1909.04648, in whose released code the
    softmax is over a whole batch; DOI 10.1021/acs.jcim.9b00237.
    """

    def __init__(self, config: GlassConfig) -> None:
        super().__init__()
        self.config = config
        h = config.hidden
        self.input = nn.Linear(config.n_node_features + config.n_edge_features, h)
        if config.steps > 1:
            self.message = nn.Linear(h, h, bias=False)
        self.output = nn.Linear(config.n_node_features + h, h)
        if config.attention:
            self.attention = nn.Linear(h, 1, bias=False)
        widths = [h] * config.ffn_layers + [1]
        self.readout = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.node = nn.ModuleList([nn.Linear(h, h), nn.Linear(h, 1)])
        # PyTorch's own start shrinks what differs from state to state with every layer. That of the messages
        # is kept, which are sums and come on top of the first step.
        for layer in (self.input, self.output, *self.readout, *self.node):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, graphs: Graphs) -> Answer:
        """Logits of the graphs and of their particles; float32, or what the weights are."""
        edges = graphs.edges
        kind = self.input.weight.dtype
        start = self.input(torch.from_numpy(graphs.inputs).to(kind))
        h = self._rectified(start)
        for _ in range(self.config.steps - 1):
            weighted, _ = self._weighted(h, graphs)
            others = cast(Tensor, _Others.apply(weighted, edges))
            h = self._rectified(torch.addmm(start, others, self.message.weight.T))
        weighted, attention = self._weighted(h, graphs)
        sums = cast(Tensor, _RowSums.apply(weighted, edges))
        nodes = torch.from_numpy(graphs.nodes).to(kind)
        own = self._rectified(self.output(torch.cat([nodes, sums], dim=1)))
        return Answer(
            self._head(self.readout, _means(own, graphs.starts)), self._head(self.node, own), attention
        )

    def _rectified(self, x: Tensor) -> Tensor:
        return functional.dropout(torch.relu(x), self.config.dropout, self.training)

    def _weighted(self, h: Tensor, graphs: Graphs) -> tuple[Tensor, Tensor | None]:
        if not self.config.attention:
            return h, None
        starts = graphs.edge_starts
        counts = np.diff(starts)
        graph = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        score = SCORE_BOUND * torch.tanh(self.attention(h)[:, 0] / SCORE_BOUND)
        top = torch.from_numpy(np.maximum.reduceat(score.detach().numpy(), starts[:-1]))
        weight = torch.exp(score - top[graph])
        total = torch.zeros(len(counts), dtype=h.dtype).index_add(0, graph, weight)
        attention = weight * (torch.from_numpy(counts).to(h.dtype) / total)[graph]
        return attention[:, None] * h, attention

    def _head(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        for layer in layers[:-1]:
            x = self._rectified(layer(x))
        return cast(Tensor, layers[-1](x)[:, 0])


def _means(values: Tensor, starts: NDArray[np.int64]) -> Tensor:
    """(n_graphs, width) mean over the particles of each graph."""
    counts = torch.from_numpy(np.diff(starts))
    graph = torch.repeat_interleave(counts)
    sums = torch.zeros(len(counts), values.shape[1], dtype=values.dtype).index_add(0, graph, values)
    return sums / counts[:, None].to(values.dtype)


def glass_loss(answer: Answer, glass: NDArray[np.bool_], starts: NDArray[np.int64]) -> Tensor:
    """Cross entropy of the graphs, and half of that of their particles, which have the label of the graph.

    glass : (n_graphs,) bool; starts : (n_graphs + 1,) first particle of each
    """
    label = torch.from_numpy(glass).to(answer.graphs.dtype)
    each = torch.repeat_interleave(label, torch.from_numpy(np.diff(starts)))
    return functional.binary_cross_entropy_with_logits(
        answer.graphs, label
    ) + NODE_SHARE * functional.binary_cross_entropy_with_logits(answer.nodes, each)
