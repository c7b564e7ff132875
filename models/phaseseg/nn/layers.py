"""Message-passing layers with PyG's results and gradients, for every kind of edges of `nn.ops`.

A layer sums its inputs where these are narrower than its outputs, since sum_j a_ij W x_j = W sum_j a_ij x_j.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.nn.ops import EdgeTensors, Neighbors

Edges = Neighbors | EdgeTensors


def _glorot(*shape: int) -> nn.Parameter:
    weight = torch.empty(*shape)
    nn.init.xavier_uniform_(weight)
    return nn.Parameter(weight)


class GraphAttention(nn.Module):
    """Graph attention (DOI 10.48550/arXiv.1710.10903) with self-loops, heads concatenated.

    As PyG's `GATConv`: (n, inputs) to (n, heads * channels).
    """

    def __init__(self, inputs: int, heads: int, channels: int, slope: float = 0.2) -> None:
        super().__init__()
        self.weight = _glorot(heads * channels, inputs)
        self.attention_source = _glorot(heads, channels)
        self.attention_target = _glorot(heads, channels)
        self.bias = nn.Parameter(torch.zeros(heads * channels))
        self.slope = slope

    def forward(self, x: Tensor, neighbors: Edges) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        heads, channels = self.attention_source.shape
        weight = self.weight.view(heads, channels, -1)
        s = x @ torch.einsum("hcf,hc->fh", weight, self.attention_source)
        d = x @ torch.einsum("hcf,hc->fh", weight, self.attention_target)
        if x.shape[1] <= channels:
            sums = neighbors.attention(x[:, None, :], s, d, self.slope)
            out = torch.einsum("nhf,hcf->nhc", sums, weight).reshape(len(x), -1)
        else:
            values = (x @ self.weight.T).view(-1, heads, channels)
            out = neighbors.attention(values, s, d, self.slope).reshape(len(x), -1)
        return out + self.bias


class GraphConvolution(nn.Module):
    """Symmetrically normalized convolution with self-loops (DOI 10.48550/arXiv.1609.02907).

    As PyG's `GCNConv`: (n, inputs) to (n, channels).
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weight = _glorot(channels, inputs)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, neighbors: Edges) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        scale = (neighbors.degrees() + 1).to(x.dtype)[:, None] ** -0.5
        narrow = x if x.shape[1] <= len(self.weight) else x @ self.weight.T
        narrow = narrow * scale
        sums = (neighbors.sum(narrow) + narrow) * scale
        return (sums @ self.weight.T if x.shape[1] <= len(self.weight) else sums) + self.bias


class GraphConv(nn.Module):
    """Sum over the neighbors and a weight for the atom itself (DOI 10.1609/aaai.v33i01.33014602).

    As PyG's `GraphConv`: (n, inputs) to (n, channels).
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        # PyG starts from linear layers, uniform within 1/sqrt(inputs).
        bound = inputs**-0.5
        self.weight_neighbors = nn.Parameter(torch.empty(channels, inputs).uniform_(-bound, bound))
        self.weight_self = nn.Parameter(torch.empty(channels, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor, neighbors: Edges) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        own = functional.linear(x, self.weight_self, self.bias)
        if x.shape[1] <= len(self.weight_self):
            return own + neighbors.sum(x) @ self.weight_neighbors.T
        return own + neighbors.sum(x @ self.weight_neighbors.T)
