"""Message-passing layers for training, on CSR neighbor lists: PyG's results and gradients, much faster.

Sums over neighbors run in numba, forward and backward, and store nothing per edge; the rest is torch.
What makes them fast is exact: attention sums the layer's *inputs* where those are narrower than its
outputs, since sum_j a_ij W x_j = W sum_j a_ij x_j; exp(leaky(s_j + d_i)) is the greater of two products
of numbers known per atom, so that no edge needs an exponential; and since a list of neighbors within a
cutoff is symmetric, the backward pass is the same kind of sum as the forward pass.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, branched_rows, load, splat, store

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
def _neighbor_sum_in_registers(indptr, neighbors, rows, stride, out):
    """`_neighbor_sum` in float32: flat arrays of rows of `stride` numbers, a multiple of sixteen."""
    for i in range(indptr.size - 1):
        for start in range(0, stride, WIDTH):
            total = splat(np.float32(0))
            for e in range(indptr[i], indptr[i + 1]):
                total = total + load(rows, neighbors[e] * stride + start)
            store(out, i * stride + start, total)


@jit
def _attention_sums(indptr, neighbors, rows, table, out):
    """Weighted sums over j in N(i) + i: out[i, 0, h] of all, out[i, 1, h] of those above the kink.

    table : (n, 4, heads), [e, t, f, u]; the weight of j for i is max(e_j t_i, f_j u_i), and above the kink
    is where the first is the greater. rows : (n, heads, width)
    """
    heads, width = out.shape[2], out.shape[3]
    for i in range(out.shape[0]):
        sums = out[i]
        sums[:] = 0
        begin = indptr[i] - 1
        for e in range(begin, indptr[i + 1]):
            j = i if e == begin else neighbors[e]
            for h in range(heads):
                a, b = table[j, 0, h] * table[i, 1, h], table[j, 2, h] * table[i, 3, h]
                row = rows[j, h]
                weight = max(a, b)
                for c in range(width):
                    sums[0, h, c] += weight * row[c]
                if a > b:
                    for c in range(width):
                        sums[1, h, c] += weight * row[c]


@jit
def _attention_sums_in_registers(indptr, neighbors, rows, table, out, heads, channels, blocks):
    """`_attention_sums` in float32: flat arrays, whose rows are those of `branched_rows`."""
    n_atoms = indptr.size - 1
    degree = 0
    for i in range(n_atoms):
        degree = max(degree, indptr[i + 1] - indptr[i])
    hits = np.empty(degree + 1, dtype=np.int32)
    stride, step = rows.size // max(n_atoms, 1), out.size // max(n_atoms, 1)
    for i in range(n_atoms):
        n = indptr[i + 1] - indptr[i]
        hits[0] = i
        for k in range(n):
            hits[k + 1] = neighbors[indptr[i] + k]
        branched_rows(hits, n + 1, rows, stride, table, i, out, i * step, heads, channels, blocks)


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
    n, width = rows.shape
    if rows.dtype != np.float32:
        out = np.empty_like(rows)
        _neighbor_sum(neighbors.indptr, neighbors.neighbors, rows, out)
        return torch.from_numpy(out)
    stride = -(-width // WIDTH) * WIDTH
    packed = np.zeros((n, stride), dtype=np.float32)
    packed[:, :width] = rows
    sums = np.empty_like(packed)
    _neighbor_sum_in_registers(neighbors.indptr, neighbors.neighbors, packed.ravel(), stride, sums.ravel())
    return torch.from_numpy(np.ascontiguousarray(sums[:, :width]))


class _Attention(torch.autograd.Function):
    """out[i, h] = sum over j in N(i) + i of alpha_ij values[j, h], alpha = softmax of leaky(s_j + d_i).

    The rectifier's derivative is 1 above its kink and `slope` below. Gradients follow from sums over the
    neighbors, of all and of those above the kink, of the values and of the gradients: no edge needs one.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, s: Tensor, d: Tensor, neighbors: Neighbors, slope: float) -> Tensor:
        rows = values.detach().contiguous().numpy()
        table = _factors(s.detach().numpy(), d.detach().numpy(), slope)
        ones = np.ones(s.shape, dtype=rows.dtype)
        sums, norm, sloped_sums, sloped_norm = _sums(neighbors, rows, ones, table, slope)
        out = sums / norm[:, :, None]
        rest = (sloped_sums - sloped_norm[:, :, None] * out) / norm[:, :, None]
        ctx.state = (rows, table, norm, out, rest, neighbors, slope)
        return torch.from_numpy(out.astype(rows.dtype, copy=False))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, table, norm, out, rest, neighbors, slope = ctx.state
        gradient = gradients[0].contiguous().numpy()
        d_d = np.einsum("nhc,nhc->nh", gradient, rest)
        projection = np.einsum("nhc,nhc->nh", gradient, out)
        # Neighbors and center change places: the list is symmetric.
        swapped = table[:, [1, 0, 3, 2]]
        swapped[:, 0::2] /= norm[:, None, :]
        d_values, _, sloped, sloped_projection = _sums(neighbors, gradient, projection, swapped, slope)
        d_s = np.einsum("nhc,nhc->nh", sloped, np.broadcast_to(rows, sloped.shape)) - sloped_projection
        if rows.shape[1] < d_values.shape[1]:
            d_values = d_values.sum(axis=1, keepdims=True)
        values, s, d = (torch.from_numpy(g.astype(rows.dtype, copy=False)) for g in (d_values, d_s, d_d))
        return values, s, d, None, None


def _sums(
    neighbors: Neighbors, rows: NDArray[Any], factor: NDArray[Any], table: NDArray[Any], slope: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weighted sums over N(i) + i of rows (n, heads, width) and of factor (n, heads); both with slope.

    rows : (n, heads or 1, width); where one serves all heads, the factors of all heads must be the same.
    The sums are of the type of the table.
    """
    n, heads, width, shared = len(rows), table.shape[2], rows.shape[2], rows.shape[1] < table.shape[2]
    kind = table.dtype
    if kind == rows.dtype == np.float32:
        n_numbers = width + 1 if shared else heads * (width + 1)
        n_blocks = -(-n_numbers // WIDTH)
        packed = np.zeros((n, n_blocks * WIDTH), dtype=kind)
        n_values = rows.shape[1] * width
        packed[:, :n_values] = rows.reshape(n, n_values)
        packed[:, n_values:n_numbers] = factor[:, :1] if shared else factor
        padded = np.zeros((n, 4, 1 << (heads - 1).bit_length()), dtype=kind)
        padded[:, :, :heads] = table
        out = np.empty((n, 2, (heads if shared else 1) * n_blocks * WIDTH), dtype=kind)
        _attention_sums_in_registers(
            neighbors.indptr, neighbors.neighbors, packed.ravel(), padded.ravel(), out.ravel(), (0,) * heads,
            () if shared else (0,) * width, (0,) * n_blocks,
        )  # fmt: skip
        if shared:
            out = out.reshape(n, 2, heads, -1)
            sums, totals = out[..., :width], out[..., width]
        else:
            sums = out[..., : heads * width].reshape(n, 2, heads, width)
            totals = out[..., heads * width : n_numbers]
    else:
        every = np.broadcast_to(rows, (n, heads, width))
        own = np.concatenate([every, factor[:, :, None]], axis=2).astype(kind)
        out = np.empty((n, 2, heads, width + 1), dtype=kind)
        _attention_sums(neighbors.indptr, neighbors.neighbors, own, table, out)
        sums, totals = out[..., :width], out[..., width]
    down, up = kind.type(slope), kind.type(1 - slope)
    sloped, sloped_totals = (down * part[:, 0] + up * part[:, 1] for part in (sums, totals))
    return sums[:, 0], totals[:, 0], sloped, sloped_totals


def _factors(s: NDArray[Any], d: NDArray[Any], slope: float) -> NDArray[Any]:
    """(n, 4, heads), [e, t, f, u]: e_j t_i is exp(s_j + d_i) and f_j u_i its power `slope`.

    The greater of the two is the weight of j for i, up to a factor that depends on i alone and by which
    every weight is at most 1. e_j = exp(s_j - max s), t_i goes with it; f and u are those of the other.
    """
    top = s.max(axis=0, initial=-np.inf)
    spread = float((top - s.min(axis=0, initial=np.inf)).max(initial=0.0))
    kind = np.float64 if spread > SINGLE_SPREAD else s.dtype
    below, above = (s - top).astype(kind), (top + d).astype(kind)
    most = np.maximum(above, slope * above)
    return np.stack(
        [np.exp(below), np.exp(above - most), np.exp(slope * below), np.exp(slope * above - most)], axis=1
    )


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
        scale = torch.from_numpy(neighbors.degrees() + 1).to(x.dtype)[:, None] ** -0.5
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
