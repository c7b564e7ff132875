"""The segmentation network in PyTorch, for training and for inference on GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phaseseg.families.segmentation.inference import NetworkOutput
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.settings import NetworkConfig, Scaling
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph
from phaseseg.nn.ensemble import Ensemble
from phaseseg.nn.layers import Edges, GraphAttention, GraphConv, GraphConvolution
from phaseseg.nn.ops import Neighbors, tensor_of


class SegmentationNetwork(nn.Module):
    """PyTorch network of a configuration; its state uses the names of `config.weight_shapes()`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        for number, (inputs, heads, channels) in enumerate(config.layer_shapes, start=1):
            layer: nn.Module
            if config.architecture == "gat":
                layer = GraphAttention(inputs, heads, channels)
            elif config.architecture == "gcn":
                layer = GraphConvolution(inputs, channels)
            else:
                layer = GraphConv(inputs, channels)
            self.add_module(f"layer{number}", layer)
        if config.readout:
            width = config.n_features + sum(heads * channels for _, heads, channels in config.layer_shapes)
            self.readout1 = nn.Linear(width, config.readout)
            self.readout2 = nn.Linear(config.readout, config.outputs)

    def forward(self, x: Tensor, neighbors: Edges) -> Tensor:
        """Return logits (n_atoms, outputs) for scaled features (n_atoms, F)."""
        seen = [x]
        for number in range(1, self.config.layers + 1):
            x = self.get_submodule(f"layer{number}")(x, neighbors)
            if self.config.readout or number < self.config.layers:
                x = torch.relu(x)
            seen.append(x)
        if self.config.readout:
            x = self.readout2(torch.relu(self.readout1(torch.cat(seen, dim=1))))
        return x


class TorchNetwork(Ensemble):
    """Ensemble of networks in torch, with the interface of `inference.Network`.

    Neighbors and features are computed on the CPU by the compiled loops. The layers run on the device and
    process the edges of the neighbor list in blocks of about a million.
    """

    build = SegmentationNetwork

    def __init__(
        self,
        config: NetworkConfig,
        scaling: Scaling,
        members: Sequence[Mapping[str, NDArray[Any]]],
        *,
        device: str = "cpu",
    ) -> None:
        super().__init__(config, members, device=device)
        self.config, self.scaling = config, scaling

    def __call__(
        self, frame: Frame, codes: NDArray[np.integer[Any]], own: NDArray[np.bool_] | None = None
    ) -> NetworkOutput:
        """Return the logits of all members, and a comparison of the features with the training data."""
        raw = node_features(frame, codes, self.config)
        graph = neighbor_graph(frame, cutoff=self.config.cutoff)
        edges = Neighbors(graph.indptr, graph.neighbors).to(self.device)
        x = tensor_of(self.scaling.apply(raw), self.device)
        logits = torch.stack(self.outputs(x, edges)).cpu().numpy()
        raw = raw if own is None or not own.any() else raw[own]
        outside = ((raw < self.scaling.low) | (raw > self.scaling.high)).sum(axis=0)
        return NetworkOutput(logits, outside, raw.min(axis=0), raw.max(axis=0))


class GraphForm:
    """Graph representation of the networks of a model, for `phaseseg.pyg`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def build(self) -> SegmentationNetwork:
        return SegmentationNetwork(self.model.config)

    def arrays(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """Return scaled features `x` and the neighbor lists."""
        model = self.model
        graph = neighbor_graph(frame, cutoff=model.config.cutoff)
        x = model.scaling.apply(node_features(frame, model.codes(frame), model.config))
        return {"x": x, "indptr": graph.indptr, "source": graph.neighbors}

    def forward(self, network: SegmentationNetwork, data: Any, edges: Edges, sizes: Tensor) -> Tensor:
        """Logits (n_atoms, outputs)."""
        out: Tensor = network(data.x, edges)
        return out
