"""Sums over the edges of graphs, with gradients: compiled loops on the processor, chunks of edges in torch.

`Neighbors` holds NumPy arrays, and its sums run in numba, forward and backward, storing nothing per edge that
is not asked for. `Neighbors.to` gives `EdgeTensors`, whose sums are plain torch on any device. Networks call
the same methods of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, load, splat, store
from phaseseg.nn.attention import Attention, attention_in_torch

CHUNK = 1 << 26
"""Numbers that `EdgeTensors` hold for the edges of a chunk."""

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
def _others(indptr, reverse, values, out, transposed):
    """out[reverse of e] = sum of values over the other edges that lead to where e leads.

    transposed : the gradient, out[e] = sum of values[reverse of f] over the other f that lead there
    """
    width = np.uint64(values.shape[1])
    total = np.empty(width, dtype=values.dtype)
    for v in range(indptr.size - 1):
        for c in range(width):
            total[c] = 0
        for e in range(indptr[v], indptr[v + 1]):
            source = reverse[e] if transposed else e
            for c in range(width):
                total[c] += values[source, c]
        for e in range(indptr[v], indptr[v + 1]):
            source, target = (reverse[e], e) if transposed else (e, reverse[e])
            for c in range(width):
                out[target, c] = total[c] - values[source, c]


# Functions ----------------------------------------------------------------------------------------


Rows = NDArray[Any]


class _Linear(torch.autograd.Function):
    """A linear function of the rows of an array, and its transpose for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, there: Callable[[Rows], Rows], back: Callable[[Rows], Rows]
    ) -> Tensor:
        ctx.back = back
        return torch.from_numpy(there(values.detach().contiguous().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(ctx.back(gradients[0].contiguous().numpy())), None, None


# Edges --------------------------------------------------------------------------------------------


class Neighbors:
    """Lists of neighbors in CSR form, of one graph or of several one after the other; sums in numba.

    An edge e of atom i, `indptr[i]` to `indptr[i + 1]`, comes from `neighbors[e]` and leads to i.

    indptr : (n_atoms + 1,) int64; neighbors : (n_edges,) int32
    reverse : (n_edges,) int32, the same edge the other way round; only `others` needs it
    """

    wide = None
    """Type in which sums over a whole graph are taken; None is that of the values."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        neighbors: NDArray[np.int32],
        reverse: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self.indptr, self.neighbors, self.reverse = indptr, neighbors, reverse

    @property
    def n_atoms(self) -> int:
        return len(self.indptr) - 1

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

    def to(self, device: torch.device | str) -> EdgeTensors:
        """The same edges for plain torch on a device."""
        reverse = None if self.reverse is None else tensor_of(self.reverse, device)
        return EdgeTensors(self.indptr, tensor_of(self.neighbors, device), reverse)

    def degrees(self) -> Tensor:
        """(n_atoms,) float32 number of neighbors."""
        return torch.from_numpy(np.diff(self.indptr).astype(np.float32))

    def sum(self, values: Tensor) -> Tensor:
        """(n_atoms, width): sums of values of the same shape over the neighbors; symmetric lists only."""
        return cast(Tensor, _Linear.apply(values, self._sum, self._sum))

    def _sum(self, rows: Rows) -> Rows:
        n, width = rows.shape
        if rows.dtype != np.float32:
            out = np.empty_like(rows)
            _neighbor_sum(self.indptr, self.neighbors, rows, out)
            return out
        stride = -(-width // WIDTH) * WIDTH
        packed = np.zeros((n, stride), dtype=np.float32)
        packed[:, :width] = rows
        sums = np.empty_like(packed)
        _neighbor_sum_in_registers(self.indptr, self.neighbors, packed.ravel(), stride, sums.ravel())
        return np.ascontiguousarray(sums[:, :width])

    def attention(self, values: Tensor, s: Tensor, d: Tensor, slope: float) -> Tensor:
        """(n_atoms, heads, width): see `Attention`; symmetric lists only."""
        return cast(Tensor, Attention.apply(values, s, d, (self.indptr, self.neighbors), slope))

    def sum_edges(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """(n_atoms, width): sums over the edges of each atom.

        values : (n_edges, width); weights : (n_edges,), 1 if left out
        """

        def sums(rows: Rows) -> Rows:
            out = np.empty((self.n_atoms, rows.shape[1]), dtype=rows.dtype)
            _row_sums(self.indptr, rows, out)
            return out

        def spread(rows: Rows) -> Rows:
            return np.repeat(rows, np.diff(self.indptr), axis=0)

        return cast(Tensor, _Linear.apply(_weighted(values, weights), sums, spread))

    def others(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """(n_edges, width): for an edge from v to w the sum over the edges to v, except the one from w.

        values, weights : as in `sum_edges`
        """

        def others(rows: Rows, transposed: bool = False) -> Rows:
            out = np.empty_like(rows)
            _others(self.indptr, self.reverse, rows, out, transposed)
            return out

        return cast(
            Tensor, _Linear.apply(_weighted(values, weights), others, partial(others, transposed=True))
        )

    def each(self, function: Callable[[slice], Tensor], width: int) -> Tensor:
        """(n_edges, width): a function of a slice of the edges, called with all of them."""
        return function(slice(None))


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else weights[:, None] * values


def tensor_of(values: NDArray[Any], device: torch.device | str = "cpu") -> Tensor:
    """A tensor on a device; arrays that must not be written to, as those of a checkpoint, are copied."""
    return torch.from_numpy(values if values.flags.writeable else values.copy()).to(device)


class EdgeTensors:
    """The edges of `Neighbors` for plain torch on any device, some million at a time; see there.

    indptr : (n_atoms + 1,) int64, NumPy; source, reverse : (n_edges,) tensors
    """

    wide = torch.float64

    def __init__(self, indptr: NDArray[np.int64], source: Tensor, reverse: Tensor | None = None) -> None:
        self.indptr, self.source, self.reverse = indptr, source, reverse

    @property
    def n_atoms(self) -> int:
        return len(self.indptr) - 1

    def chunks(self, width: int) -> Iterator[tuple[slice, Tensor, Tensor, slice]]:
        """Atoms and their edges: the atoms, the atom of each edge within them, its source, and the edges.

        width : numbers that are needed for an edge
        """
        first, room, device = 0, max(CHUNK // max(width, 1), 1), self.source.device
        while first < self.n_atoms:
            stop = int(np.searchsorted(self.indptr, self.indptr[first] + room, side="right")) - 1
            stop = min(max(stop, first + 1), self.n_atoms)
            edges = slice(int(self.indptr[first]), int(self.indptr[stop]))
            counts = torch.from_numpy(np.diff(self.indptr[first : stop + 1])).to(device)
            center = torch.repeat_interleave(counts, output_size=edges.stop - edges.start)
            yield slice(first, stop), center, self.source[edges], edges
            first = stop

    def degrees(self) -> Tensor:
        return torch.from_numpy(np.diff(self.indptr).astype(np.float32)).to(self.source.device)

    def sum(self, values: Tensor) -> Tensor:
        out = torch.empty_like(values)
        for atoms, center, source, _ in self.chunks(values.shape[1]):
            out[atoms] = torch.zeros_like(values[atoms]).index_add(0, center, values.index_select(0, source))
        return out

    def attention(self, values: Tensor, s: Tensor, d: Tensor, slope: float) -> Tensor:
        return attention_in_torch(values, s, d, self.chunks, slope)

    def sum_edges(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        out = torch.empty((self.n_atoms, values.shape[1]), dtype=values.dtype, device=values.device)
        for atoms, center, _, edges in self.chunks(values.shape[1]):
            part = _weighted(values[edges], None if weights is None else weights[edges])
            out[atoms] = torch.zeros_like(out[atoms]).index_add(0, center, part)
        return out

    def others(self, values: Tensor, weights: Tensor | None = None) -> _OthersBySlice:
        return _OthersBySlice(self, values, weights)

    def each(self, function: Callable[[slice], Tensor], width: int) -> Tensor:
        out: Tensor | None = None
        for _, _, _, edges in self.chunks(width):
            part = function(edges)
            if len(part) == len(self.source):
                return part
            out = part.new_empty((len(self.source), width)) if out is None else out
            out[edges] = part
        return function(slice(0, 0)) if out is None else out


class _OthersBySlice:
    """`Neighbors.others`, found for a slice of the edges when it is asked for."""

    def __init__(self, edges: EdgeTensors, values: Tensor, weights: Tensor | None) -> None:
        self.edges, self.values, self.weights = edges, values, weights
        self.sums = edges.sum_edges(values, weights)

    def __getitem__(self, rows: slice) -> Tensor:
        assert self.edges.reverse is not None
        back = self.edges.reverse[rows]
        weights = None if self.weights is None else self.weights.index_select(0, back)
        own = _weighted(self.values.index_select(0, back), weights)
        return self.sums.index_select(0, self.edges.source[rows]) - own
