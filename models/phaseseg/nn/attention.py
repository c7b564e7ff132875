"""Attention over the neighbors of an atom, and over the edges of a graph; values and gradients.

Compiled loops serve the processor. What makes them fast is exact: exp(leaky(s_j + d_i)) is the greater of two
products of numbers known per atom, so that no edge needs an exponential; and since a list of neighbors within
a cutoff is symmetric, the backward pass is the same kind of sum as the forward pass. Elsewhere plain torch
takes some million edges at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, branched_rows

Lists = tuple[NDArray[np.int64], NDArray[np.int32]]
"""Neighbors in CSR form: (n_atoms + 1,) starts and (n_edges,) neighbors."""
Chunks = Callable[[int], Iterator[tuple[slice, Tensor, Tensor, slice]]]
"""`EdgeTensors.chunks` of `nn.ops`."""

# Beyond this spread of the attention's source terms float32 exponentials underflow, and the tables of the
# per-atom factors are kept in float64.
SINGLE_SPREAD = 80.0

# Kernels ------------------------------------------------------------------------------------------


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


# Functions ----------------------------------------------------------------------------------------


class Attention(torch.autograd.Function):
    """out[i, h] = sum over j in N(i) + i of alpha_ij values[j, h], alpha = softmax of leaky(s_j + d_i).

    The rectifier's derivative is 1 above its kink and `slope` below. Gradients follow from sums over the
    neighbors, of all and of those above the kink, of the values and of the gradients: no edge needs one.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, s: Tensor, d: Tensor, neighbors: Lists, slope: float) -> Tensor:
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
    neighbors: Lists, rows: NDArray[Any], factor: NDArray[Any], table: NDArray[Any], slope: float
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
            *neighbors, packed.ravel(), padded.ravel(), out.ravel(), (0,) * heads,
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
        _attention_sums(*neighbors, own, table, out)
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


def attention_in_torch(values: Tensor, s: Tensor, d: Tensor, chunks: Chunks, slope: float) -> Tensor:
    """The sums of `Attention` in plain torch, (n, heads, width)."""
    heads, width = s.shape[1], values.shape[2]
    out = torch.empty((len(s), heads, width), dtype=values.dtype, device=values.device)
    for atoms, center, source, _ in chunks(2 * heads * width):
        own = functional.leaky_relu(s[atoms] + d[atoms], slope)  # of the loop that every atom has
        raw = functional.leaky_relu(s.index_select(0, source) + d[atoms][center], slope)
        index = center[:, None].expand(-1, heads)
        top = own.detach().scatter_reduce(0, index, raw.detach(), "amax", include_self=True)
        weight, loop = torch.exp(raw - top[center]), torch.exp(own - top)
        total = loop.index_add(0, center, weight)
        sums = loop[:, :, None] * values[atoms]
        sums = sums.index_add(0, center, weight[:, :, None] * values.index_select(0, source))
        out[atoms] = sums / total[:, :, None]
    return out


def softmax_over_graphs(scores: Tensor, graph: Tensor, sizes: Tensor) -> Tensor:
    """Softmax over the edges of each graph times their number, so that its mean is 1 in a graph of any size.

    scores : (n_edges,); graph : (n_edges,) the graph of each edge; sizes : (n_graphs,) edges of each graph
    """
    top = torch.full((len(sizes),), -torch.inf, dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(0, graph, scores.detach(), "amax")
    weight = torch.exp(scores - top[graph])
    total = torch.zeros_like(top).index_add(0, graph, weight)
    return weight * (sizes.to(scores.dtype) / total)[graph]
