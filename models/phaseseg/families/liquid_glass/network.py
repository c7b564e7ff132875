"""The networks of liquid and glass in PyTorch, on graphs and on images, for training and for GPUs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.liquid_glass.crops import Graphs, graph_of
from phaseseg.families.liquid_glass.inference import GlassOutput
from phaseseg.families.liquid_glass.settings import SCORE_BOUND, GlassConfig
from phaseseg.frame import Frame
from phaseseg.nn.attention import softmax_over_graphs
from phaseseg.nn.ensemble import Ensemble
from phaseseg.nn.ops import EdgeTensors, Neighbors, tensor_of

NODE_SHARE = 0.5
"""Weight of the loss of the particles; that of the graphs has 1."""
_MOMENTUM = 0.1  # weight of a batch in the running statistics
_LEAST_VARIANCE = 1e-5


# Graphs -------------------------------------------------------------------------------------------


class GraphTensors(NamedTuple):
    """`crops.Graphs` as tensors for the network.

    sizes, edge_sizes : (n_graphs,) int64, particles and edges of each graph
    """

    edges: Neighbors | EdgeTensors
    sizes: Tensor
    edge_sizes: Tensor
    nodes: Tensor
    inputs: Tensor

    @classmethod
    def of(cls, graphs: Graphs, device: torch.device | None = None) -> GraphTensors:
        """Convert graphs, for the compiled loops on the CPU or, with a device, for plain torch on it."""
        found = graphs.edges
        lists = Neighbors(found.indptr, found.neighbors, found.reverse)
        edges = lists if device is None else lists.to(device)
        arrays = np.diff(graphs.starts), np.diff(graphs.edge_starts), graphs.nodes, graphs.inputs
        return cls(edges, *(tensor_of(values, device or "cpu") for values in arrays))


class Answer(NamedTuple):
    """Logits of glass and the attention of the last step, of one network; see `inference.GlassOutput`."""

    graphs: Tensor
    nodes: Tensor
    attention: Tensor | None


class GlassNetwork(nn.Module):
    """Directed message passing (D-MPNN) with optional attention on edges.

    x_v are the features of particle v, e_vw those of the edge from v to w, N(v) the neighbors of v in the
    graph, and τ the rectifier:

        h_vw = τ(W_i [x_v, e_vw] + b_i)                                                the first step
        h_vw ← τ(W_i [x_v, e_vw] + b_i + W_m Σ a_kv h_kv over k in N(v) except w)      T - 1 times
        h_v  = τ(W_a [x_v, Σ a_kv h_kv over k in N(v)] + b_a)

    A message never returns along the edge on which it came. The readout of the graph takes the mean of h_v,
    that of the particles takes each h_v. Without attention a = 1. With attention a = n_edges softmax(s) over
    the directed edges of one graph, where s = c tanh(w_att · h / c) with c = `SCORE_BOUND`; its mean is 1 for
    any graph size. The published code takes the softmax over a whole batch instead.

    Its state has the names of `config.weight_shapes()`. DOI 10.48550/arXiv.1909.04648,
    10.1021/acs.jcim.9b00237.
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
        # With PyTorch's own initial weights, differences between states shrink from layer to layer. Only the
        # messages keep them: they are sums and are added to the first step.
        for layer in (self.input, self.output, *self.readout, *self.node):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, graphs: Graphs | GraphTensors) -> Answer:
        """Return logits of the graphs and of their particles, in the type of the weights."""
        if isinstance(graphs, Graphs):
            graphs = GraphTensors.of(graphs)
        kind, edges, width = self.input.weight.dtype, graphs.edges, self.config.hidden
        nodes, inputs = graphs.nodes.to(kind), graphs.inputs.to(kind)
        # In chunks of edges, repeating the first step costs less than storing it.
        kept = self.input(inputs) if isinstance(edges, Neighbors) else None

        def start(rows: slice) -> Tensor:
            return cast(Tensor, self.input(inputs[rows])) if kept is None else kept

        h = edges.each(lambda rows: self._rectified(start(rows)), width)
        for _ in range(self.config.steps - 1):
            others = edges.others(h, self._attention_of(h, graphs))

            def renewed(rows: slice, others: Any = others) -> Tensor:
                return self._rectified(torch.addmm(start(rows), others[rows], self.message.weight.T))

            h = edges.each(renewed, width)
        attention = self._attention_of(h, graphs)
        sums = edges.sum_edges(h, attention)
        own = self._rectified(self.output(torch.cat([nodes, sums], dim=1)))
        graph = torch.repeat_interleave(graphs.sizes, output_size=len(own))
        wide = edges.wide or kind
        sums = torch.zeros(len(graphs.sizes), width, dtype=wide, device=own.device)
        sums = sums.index_add(0, graph, own.to(wide))
        means = (sums / graphs.sizes[:, None].to(wide)).to(kind)
        return Answer(self._head(self.readout, means), self._head(self.node, own), attention)

    def _rectified(self, x: Tensor) -> Tensor:
        return functional.dropout(torch.relu(x), self.config.dropout, self.training)

    def _attention_of(self, h: Tensor, graphs: GraphTensors) -> Tensor | None:
        if not self.config.attention:
            return None
        score = self.attention(h)[:, 0].to(graphs.edges.wide or h.dtype)
        score = SCORE_BOUND * torch.tanh(score / SCORE_BOUND)
        graph = torch.repeat_interleave(graphs.edge_sizes, output_size=len(h))
        return softmax_over_graphs(score, graph, graphs.edge_sizes).to(h.dtype)

    def _head(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        for layer in layers[:-1]:
            x = self._rectified(layer(x))
        return cast(Tensor, layers[-1](x)[:, 0])


def glass_loss(answer: Answer, glass: NDArray[np.bool_], starts: NDArray[np.int64]) -> Tensor:
    """Cross entropy of the graphs, plus half that of their particles, which have the label of the graph.

    glass : (n_graphs,) bool; starts : (n_graphs + 1,) first particle of each
    """
    label = torch.from_numpy(glass).to(answer.graphs.dtype)
    each = torch.repeat_interleave(label, torch.from_numpy(np.diff(starts)))
    loss = functional.binary_cross_entropy_with_logits
    return loss(answer.graphs, label) + NODE_SHARE * loss(answer.nodes, each)


# Images -------------------------------------------------------------------------------------------


class ImageNetwork(nn.Module):
    """Two convolutions without padding, each with a rectifier and average pooling, then dense layers.

    With `pool=1`, `normalize=False` and images of 250 pixels it is the network of
    DOI 10.48550/arXiv.1909.04648, except that it has one output, the logit of glass, instead of two whose
    difference enters a softmax. Its state has the names of `config.weight_shapes()`.

    Average pooling and normalization make it possible to train on a few thousand images. With max pooling or
    without normalization, the network hardly distinguished a cold liquid from the glass.
    """

    def __init__(self, config: GlassConfig) -> None:
        super().__init__()
        self.config = config
        one, two = config.kernels
        first, second = config.kernel_sizes
        flat = config.weight_shapes()["dense.weight"][1]
        self.convolution1 = nn.Conv2d(3, one, first)
        self.convolution2 = nn.Conv2d(one, two, second)
        self.dense = nn.Linear(flat, config.dense)
        self.output = nn.Linear(config.dense, 1)
        for layer in (self.convolution1, self.convolution2, self.dense):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for i, channels in enumerate((one, two, flat), start=1):
            made: nn.Module = Normalization(channels) if config.normalize else nn.Identity()
            self.add_module(f"normalization{i}", made)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n,) of images (n, 3, size, size)."""
        config, x = self.config, images
        for i in (1, 2):
            x = self.get_submodule(f"convolution{i}")(x)
            x = functional.relu(self.get_submodule(f"normalization{i}")(x))
            x = functional.avg_pool2d(x, config.pool)
        x = x.mean(dim=(2, 3)) if config.global_average else x.flatten(1)
        x = functional.relu(self.dense(self.get_submodule("normalization3")(x)))
        x = functional.dropout(x, config.dropout, self.training)
        logits: Tensor = self.output(x)[:, 0]
        return logits


class Normalization(nn.Module):
    """Normalize every channel to mean 0 and variance 1, with statistics of the batch or, later, of training.

    DOI 10.48550/arXiv.1502.03167, without scale and shift, which the next layer provides. Running averages of
    the mean and of the inverse deviation are kept. A batch with only one number per channel is normalized
    with the running averages.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (n, channels) or (n, channels, rows, columns)."""
        if self.training and x.numel() > x.shape[1]:
            with torch.no_grad():
                variance, mean = torch.var_mean(x, dim=[k for k in range(x.ndim) if k != 1], correction=0)
                self.mean.lerp_(mean, _MOMENTUM)
                self.scale.lerp_((variance + _LEAST_VARIANCE).rsqrt(), _MOMENTUM)
            return functional.batch_norm(x, None, None, training=True, eps=_LEAST_VARIANCE)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) * self.scale.view(shape)


# Inference ----------------------------------------------------------------------------------------


class TorchNetwork(Ensemble):
    """An ensemble of networks on graphs in torch, with the call of `inference.Network`."""

    build = GlassNetwork

    def __call__(self, graphs: Graphs) -> GlassOutput:
        """Logits of graphs and of their particles, and the attention of the edges."""
        answers = self.outputs(GraphTensors.of(graphs, self.device))
        of_graphs, nodes, attention = (
            None if part[0] is None else torch.stack(part).cpu().numpy()
            for part in zip(*answers, strict=True)
        )
        assert of_graphs is not None
        return GlassOutput(of_graphs, nodes, attention)


class TorchImages(Ensemble):
    """An ensemble of networks on images in torch."""

    build = ImageNetwork

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_members, n) logits of images (n, 3, size, size)."""
        logits: NDArray[np.float32] = torch.stack(self.outputs(tensor_of(images, self.device))).cpu().numpy()
        return logits


class GraphForm:
    """How the networks of a model read a graph, for `phaseseg.pyg`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def build(self) -> GlassNetwork:
        return GlassNetwork(self.model.config)

    def arrays(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """Return features of particles `x` and edges `edge_attr`, the edges, and the reverse of each edge."""
        graphs = graph_of(frame, self.model.config, self.model.codes(frame))
        edges, inputs = graphs.edges, graphs.inputs[:, graphs.nodes.shape[1] :]
        return {
            "x": graphs.nodes, "edge_attr": inputs, "indptr": edges.indptr, "source": edges.neighbors,
            "reverse": edges.reverse.astype(np.int64),
        }  # fmt: skip

    def forward(
        self, network: GlassNetwork, data: Any, edges: Neighbors | EdgeTensors, sizes: Tensor
    ) -> Answer:
        """Logits of graphs and particles, and the attention."""
        source, target = data.edge_index
        graph = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        edge_sizes = torch.bincount(graph[target], minlength=len(sizes))
        inputs = torch.cat([data.x[source], data.edge_attr], dim=1)
        answer: Answer = network(GraphTensors(edges, sizes, edge_sizes, data.x, inputs))
        return answer


def graph_form(model: Any) -> GraphForm | None:
    """How networks on graphs read their input; None for networks on images."""
    return GraphForm(model) if model.config.architecture == "dmpnn" else None
