"""The neighbor graph of a frame: every pair in both directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import sort_into_bins
from phaseseg.neighbors.nearest import NearestNeighbors, nearest_neighbors
from phaseseg.neighbors.pairs import list_pairs


@dataclass(frozen=True, eq=False)
class Graph:
    """Neighbors of every atom: each pair in both directions, self-images included.

    The neighbors of atom i are `neighbors[indptr[i]:indptr[i + 1]]`; an atom appears once for each of its
    images within the cutoff. In a graph of the k nearest, the first k of a row are those of atom i, sorted
    by length; the others have i among their own k nearest, although i does not have them.

    frame : of n_atoms atoms
    cutoff : Å; infinite in a graph of the k nearest
    indptr : (n_atoms + 1,) int64; neighbors : (n_edges,) int32
    edge_length : (n_edges,) float32, Å
    n_neighbors : k, or None in a graph with a cutoff

    >>> from phaseseg import Frame
    >>> graph = neighbor_graph(Frame([[0.0, 0, 0]], [3.0, 9.0, 9.0], True, ["Fe"]), cutoff=3.5)
    >>> graph.neighbors, graph.edge_length, graph.edge_shift.tolist()
    (array([0, 0], dtype=int32), array([3., 3.], dtype=float32), [[-1, 0, 0], [1, 0, 0]])
    """

    frame: Frame
    cutoff: float
    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    edge_length: NDArray[np.float32]
    n_neighbors: int | None = None
    _shift: NDArray[np.int32] | None = field(default=None, repr=False)
    _reverse: NDArray[np.int32] | None = field(default=None, repr=False)
    _mutual: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def n_edges(self) -> int:
        return len(self.neighbors)

    @cached_property
    def edge_index(self) -> NDArray[np.int64]:
        """(2, n_edges): atom i, neighbor j; networks send j -> i."""
        centers = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        return np.stack([centers, self.neighbors.astype(np.int64)])

    @cached_property
    def edge_shift(self) -> NDArray[np.int32]:
        """(n_edges, 3): the neighbor is at positions[j] + edge_shift @ cell.

        A graph with a cutoff does not store the shifts; the first use repeats the search.
        """
        if self._shift is not None:
            return self._shift
        return list_pairs(sort_into_bins(self.frame, self.cutoff), self.indptr, shifts=True)[3]

    @property
    def reverse(self) -> NDArray[np.int32]:
        """(n_edges,): for each edge from i to j the number of the edge from j to i.

        Raises
        ------
        ValueError
            The graph was made with a cutoff.
        """
        if self._reverse is None:
            raise ValueError("only graphs of the k nearest neighbors know the reverse of each edge.")
        return self._reverse

    @property
    def mutual(self) -> NDArray[np.bool_]:
        """(n_edges,): whether each atom of an edge is among the k nearest of the other.

        Raises
        ------
        ValueError
            The graph was made with a cutoff.
        """
        if self._mutual is None:
            raise ValueError("only graphs of the k nearest neighbors know which edges are mutual.")
        return self._mutual

    @cached_property
    def edge_vector(self) -> NDArray[np.float64]:
        """(n_edges, 3), Å: positions[j] - positions[i] + edge_shift @ cell."""
        i, j = self.edge_index
        positions = self.frame.positions
        return np.asarray(positions[j] - positions[i] + self.edge_shift @ self.frame.cell)


def neighbor_graph(frame: Frame, *, cutoff: float | None = None, n_neighbors: int | None = None) -> Graph:
    """The graph of all neighbors with r <= cutoff (Å), as float64 decides it, or of the k nearest.

    Any cell: triclinic, open along some axes, smaller than the cutoff; atoms anywhere. Linear in the
    number of atoms. An atom without neighbors has an empty row.

    With `n_neighbors=k` an image of j is a neighbor of i if it is among the k nearest of i, or i among
    the k nearest of j (see `nearest_neighbors`; the frame decides the number of dimensions).

    Raises
    ------
    ValueError
        Neither or both of the two are given; the cutoff is not a positive number; or what
        `nearest_neighbors` refuses.
    """
    if (cutoff is None) == (n_neighbors is None):
        raise ValueError("neighbor_graph needs either a cutoff or n_neighbors.")
    if n_neighbors is not None:
        edges = symmetric_edges(nearest_neighbors(frame, n_neighbors))
        return Graph(frame, inf, *edges[:3], n_neighbors, *edges[3:])
    cutoff = float(cutoff or 0.0)
    indptr, neighbors, lengths, _ = list_pairs(sort_into_bins(frame, cutoff))
    return Graph(frame, cutoff, indptr, neighbors, lengths)


class DirectedEdges(NamedTuple):
    """The symmetric graph of nearest neighbors: it joins two atoms if one is among the nearest of the other.

    Edges are sorted by atom: those of atom i are `indptr[i]` to `indptr[i + 1]`, first its own nearest.

    indptr : (n_atoms + 1,) int64; neighbors : (n_edges,) int32; lengths : (n_edges,) float32
    shifts : (n_edges, 3) int32, images of the neighbors
    reverse : (n_edges,) int32, the same edge from the other end
    mutual : (n_edges,) bool, whether each end is among the nearest of the other
    """

    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    lengths: NDArray[np.float32]
    shifts: NDArray[np.int32]
    reverse: NDArray[np.int32]
    mutual: NDArray[np.bool_]


def symmetric_edges(nearest: NearestNeighbors) -> DirectedEdges:
    """The edges of the nearest neighbors of all atoms, in both directions."""

    def room(n: int) -> tuple[NDArray[Any], ...]:
        neighbors, reverse = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
        shifts, mutual = np.empty((n, 3), dtype=np.int32), np.empty(n, dtype=np.bool_)
        return neighbors, np.empty(n, dtype=np.float32), shifts, reverse, mutual

    indptr = np.zeros(len(nearest.neighbors) + 1, dtype=np.int64)
    _symmetrize(True, *nearest, indptr, *room(0))
    np.cumsum(indptr, out=indptr)
    edges = room(int(indptr[-1]))
    _symmetrize(False, *nearest, indptr, *edges)
    return DirectedEdges(indptr, *edges)


@jit
def place_among(neighbors, shifts, i, row, m, other):
    """Position of atom i, with the right image, in the row of its m-th neighbor; -1 if it is not there.

    row, other : rows of i and of that neighbor
    """
    for t in range(neighbors.shape[1]):
        if (
            neighbors[other, t] == i
            and shifts[other, t, 0] == -shifts[row, m, 0]
            and shifts[other, t, 1] == -shifts[row, m, 1]
            and shifts[other, t, 2] == -shifts[row, m, 2]
        ):
            return t
    return -1


@jit
def _symmetrize(
    counting, nearest, lengths, shifts, indptr, neighbors, edge_length, edge_shift, reverse, mutual
):
    """Count the edges of each atom into indptr[atom + 1], or write them down."""
    n_atoms, k = nearest.shape
    if counting:
        for i in range(n_atoms):
            indptr[i + 1] += k
            for m in range(k):
                if place_among(nearest, shifts, i, i, m, nearest[i, m]) < 0:
                    indptr[nearest[i, m] + 1] += 1
        return
    fill = indptr[:-1] + k
    for i in range(n_atoms):
        for m in range(k):
            e, j = indptr[i] + m, nearest[i, m]
            neighbors[e], edge_length[e] = j, lengths[i, m]
            for axis in range(3):
                edge_shift[e, axis] = shifts[i, m, axis]
            t = place_among(nearest, shifts, i, i, m, nearest[i, m])
            mutual[e] = t >= 0
            if t >= 0:
                reverse[e] = indptr[j] + t
                continue
            back = fill[j]
            fill[j] += 1
            neighbors[back], edge_length[back] = i, lengths[i, m]
            for axis in range(3):
                edge_shift[back, axis] = -shifts[i, m, axis]
            reverse[e], reverse[back], mutual[back] = back, e, False
