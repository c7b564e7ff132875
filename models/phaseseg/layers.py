"""Message-passing layers for training, on CSR neighbor lists: PyG's results and gradients, much faster.

Sums over neighbors run in numba, forward and backward, and store nothing per edge; the rest is torch.
What makes them fast is exact: attention sums the layer's *inputs* where those are narrower than its
outputs, since sum_j a_ij W x_j = W sum_j a_ij x_j; and exp(leaky(s_j + d_i)) is one of two products of
numbers known per atom, so that no edge needs an exponential. The backward pass uses that a list of
neighbors within a cutoff is symmetric.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.kernels import jit

# Beyond this spread of the attention's source terms float32 exponentials underflow, and the tables of the
# per-atom factors are kept in float64.
SINGLE_SPREAD = 80.0


class Neighbors:
    """A symmetric neighbor list in CSR form, of one frame or of several one after the other.

    indptr : (n_atoms + 1,) int64; neighbors : (n_edges,) int32
    """

    def __init__(self, indptr: NDArray[np.int64], neighbors: NDArray[np.int32]) -> None:
        self.indptr, self.neighbors = indptr, neighbors

    @property
    def n_atoms(self) -> int:
        return len(self.indptr) - 1

    def degrees(self) -> NDArray[np.float32]:
        """(n_atoms,) float32 number of neighbors."""
        return np.diff(self.indptr).astype(np.float32)

    @classmethod
    def join(cls, lists: list[Neighbors]) -> Neighbors:
        """The lists of a batch of frames as one; atoms are numbered through."""
        starts = np.cumsum([0, *(part.n_atoms for part in lists)])
        edges = np.cumsum([0, *(part.indptr[-1] for part in lists)])
        indptr = np.concatenate(
            [part.indptr[:-1] + edge for part, edge in zip(lists, edges[:-1], strict=True)] + [edges[-1:]]
        )
        neighbors = np.concatenate(
            [part.neighbors + np.int32(start) for part, start in zip(lists, starts[:-1], strict=True)]
        )
        return cls(indptr, neighbors)


# Kernels ------------------------------------------------------------------------------------------


@jit
def _neighbor_sum(indptr, neighbors, values, out):
    """out[i] = sum over the neighbors j of values[j]."""
    width = values.shape[1]
    for i in range(out.shape[0]):
        total = out[i]
        total[:] = 0
        for e in range(indptr[i], indptr[i + 1]):
            row = values[neighbors[e]]
            for c in range(width):
                total[c] += row[c]


@jit
def _attention(indptr, neighbors, values, source, target, shared, out, norm):
    """out[i, h] = sum over j in N(i) + i of alpha_ij values[j, h], and the denominators.

    source[j] = exp(s_j - s_max), exp(slope (s_j - s_max)) and s_j for every head, target[i] the factors
    that go with either and -d_i: the first product counts where s_j > -d_i. `values` have one row per
    atom for all heads where `shared`.
    """
    n_heads, width = norm.shape[1], out.shape[2]
    weight = np.empty(n_heads, dtype=values.dtype)
    for i in range(out.shape[0]):
        total = out[i]
        total[:] = 0
        norm[i] = 0
        begin = indptr[i] - 1
        for e in range(begin, indptr[i + 1]):
            j = i if e == begin else neighbors[e]
            for h in range(n_heads):
                positive = source[j, 2, h] > target[i, 2, h]
                w = source[j, 0, h] * target[i, 0, h] if positive else source[j, 1, h] * target[i, 1, h]
                weight[h] = w
                norm[i, h] += w
            for h in range(n_heads):
                w = weight[h]
                row = values[j, 0 if shared else h]
                sums = total[h]
                for c in range(width):
                    sums[c] += w * row[c]
        for h in range(n_heads):
            scale = 1 / norm[i, h]
            for c in range(width):
                total[h, c] *= scale


@jit
def _attention_backward(
    indptr, neighbors, values, source, target, shared, slope, norm, gradient, projection, d_values, d_s, d_d
):
    """Gradients of `_attention`; `projection[i, h]` is the product of gradient[i, h] and out[i, h].

    d_values, d_s and d_d are zeros on entry.
    """
    n_heads, width = norm.shape[1], gradient.shape[2]
    for j in range(d_values.shape[0]):
        begin = indptr[j] - 1
        for e in range(begin, indptr[j + 1]):
            i = j if e == begin else neighbors[e]
            for h in range(n_heads):
                positive = source[j, 2, h] > target[i, 2, h]
                w = source[j, 0, h] * target[i, 0, h] if positive else source[j, 1, h] * target[i, 1, h]
                alpha = values.dtype.type(w / norm[i, h])
                row = values[j, 0 if shared else h]
                into = d_values[j, 0 if shared else h]
                grad = gradient[i, h]
                dot = values.dtype.type(0)
                for c in range(width):
                    dot += grad[c] * row[c]
                    into[c] += alpha * grad[c]
                change = alpha * (dot - projection[i, h])
                if not positive:
                    change *= slope
                d_s[j, h] += change
                d_d[i, h] += change


class _NeighborSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, neighbors: Neighbors) -> Tensor:
        ctx.neighbors = neighbors
        return _summed(values, neighbors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _summed(gradients[0], ctx.neighbors), None


def _summed(values: Tensor, neighbors: Neighbors) -> Tensor:
    rows = values.detach().contiguous().numpy()
    out = np.empty_like(rows)
    _neighbor_sum(neighbors.indptr, neighbors.neighbors, rows, out)
    return torch.from_numpy(out)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, s: Tensor, d: Tensor, neighbors: Neighbors, slope: float) -> Tensor:
        rows = values.detach().contiguous().numpy()
        source, target = _factors(s.detach().numpy(), d.detach().numpy(), slope)
        shared = rows.shape[1] == 1 and s.shape[1] > 1
        out = np.empty((len(rows), s.shape[1], rows.shape[2]), dtype=rows.dtype)
        norm = np.empty(s.shape, dtype=source.dtype)
        _attention(neighbors.indptr, neighbors.neighbors, rows, source, target, shared, out, norm)
        ctx.state = (rows, source, target, shared, norm, out, neighbors, slope)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, source, target, shared, norm, out, neighbors, slope = ctx.state
        gradient = gradients[0].contiguous().numpy()
        projection = np.einsum("nhc,nhc->nh", gradient, out)
        d_values = np.zeros_like(rows)
        d_s, d_d = np.zeros_like(projection), np.zeros_like(projection)
        _attention_backward(
            neighbors.indptr, neighbors.neighbors, rows, source, target, shared, rows.dtype.type(slope), norm,
            gradient, projection, d_values, d_s, d_d,
        )  # fmt: skip
        return torch.from_numpy(d_values), torch.from_numpy(d_s), torch.from_numpy(d_d), None, None


def _factors(s: NDArray[Any], d: NDArray[Any], slope: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, 3, heads) of sources and targets: see `_attention`. Every weight is at most 1."""
    top = s.max(axis=0, initial=-np.inf)
    spread = float((top - s.min(axis=0, initial=np.inf)).max(initial=0.0))
    kind = np.float64 if spread > SINGLE_SPREAD else s.dtype
    below = (s - top).astype(kind)
    source = np.stack([np.exp(below), np.exp(slope * below), s], axis=1)
    above = (top + d).astype(kind)
    most = np.where(above > 0, above, slope * above)
    target = np.stack([np.exp(above - most), np.exp(slope * above - most), -d], axis=1)
    return source, target


# Layers -------------------------------------------------------------------------------------------


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

    def forward(self, x: Tensor, neighbors: Neighbors) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        heads, channels = self.attention_source.shape
        weight = self.weight.view(heads, channels, -1)
        s = x @ torch.einsum("hcf,hc->fh", weight, self.attention_source)
        d = x @ torch.einsum("hcf,hc->fh", weight, self.attention_target)
        if x.shape[1] <= channels:
            sums = cast(Tensor, _Attention.apply(x[:, None, :], s, d, neighbors, self.slope))
            out = torch.einsum("nhf,hcf->nhc", sums, weight).reshape(len(x), -1)
        else:
            values = (x @ self.weight.T).view(-1, heads, channels)
            out = cast(Tensor, _Attention.apply(values, s, d, neighbors, self.slope)).reshape(len(x), -1)
        return out + self.bias


class GraphConvolution(nn.Module):
    """Symmetrically normalized convolution with self-loops (DOI 10.48550/arXiv.1609.02907).

    As PyG's `GCNConv`: (n, inputs) to (n, channels).
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weight = _glorot(channels, inputs)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, neighbors: Neighbors) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        scale = torch.from_numpy((neighbors.degrees() + 1) ** -0.5).to(x.dtype)[:, None]
        narrow = x if x.shape[1] <= len(self.weight) else x @ self.weight.T
        narrow = narrow * scale
        sums = (cast(Tensor, _NeighborSum.apply(narrow, neighbors)) + narrow) * scale
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

    def forward(self, x: Tensor, neighbors: Neighbors) -> Tensor:
        """One layer; `x` is (n_atoms, inputs)."""
        own = functional.linear(x, self.weight_self, self.bias)
        if x.shape[1] <= len(self.weight_self):
            return own + cast(Tensor, _NeighborSum.apply(x, neighbors)) @ self.weight_neighbors.T
        return own + cast(Tensor, _NeighborSum.apply(x @ self.weight_neighbors.T, neighbors))
