"""The neighbor graph of a frame: every pair in both directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.threads import for_each, in_parts
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import (
    FAR,
    Bins,
    hits_within,
    images_of,
    pack_all_around,
    room_around,
    settle,
    shift_between,
    sort_into_bins,
    squares,
)
from phaseseg.neighbors.nearest import NearestNeighbors, nearest_neighbors


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
    _directed: DirectedEdges | None = field(default=None, repr=False)

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
        if self._directed is not None:
            return self._directed.shifts
        shifts: NDArray[np.int32]
        *_, shifts = _list_pairs(sort_into_bins(self.frame, self.cutoff), self.indptr, shifts=True)
        return images_of(self.frame, shifts)

    def _of_nearest(self, what: str) -> DirectedEdges:
        if self._directed is None:
            raise ValueError(f"only graphs of the k nearest neighbors {what}.")
        return self._directed

    @property
    def reverse(self) -> NDArray[np.int32]:
        """(n_edges,): for each edge from i to j the number of that from j to i. ValueError with a cutoff."""
        return self._of_nearest("know the reverse of each edge").reverse

    @property
    def mutual(self) -> NDArray[np.bool_]:
        """(n_edges,): whether both atoms are among the k nearest of each other. ValueError with a cutoff."""
        return self._of_nearest("know which edges are mutual").mutual

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
        return Graph(frame, inf, *edges[:3], n_neighbors, edges)
    cutoff = float(cutoff or 0.0)
    indptr, neighbors, lengths, _ = _list_pairs(sort_into_bins(frame, cutoff))
    return Graph(frame, cutoff, indptr, neighbors, lengths)


def _list_pairs(
    bins: Bins, indptr: NDArray[np.int64] | None = None, *, shifts: bool = False
) -> tuple[NDArray[Any], ...]:
    """CSR lists of the neighbors within the cutoff of the bins: indptr, neighbors, lengths, images.

    indptr : if the pairs were counted before; shifts : whether the images are wanted
    """

    def room(n: int) -> tuple[NDArray[Any], ...]:
        images = np.empty((n if shifts else 0, 3), dtype=np.int32)
        return np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32), images

    def fill(counting: bool, *arrays: NDArray[Any]) -> None:
        for_each(lambda part: _fill_pairs(*part, bins, counting, *arrays), bins.parts())

    if indptr is None:
        indptr = np.zeros(len(bins.order) + 1, dtype=np.int64)
        fill(True, indptr, *room(0))
        np.cumsum(indptr, out=indptr)
    lists = room(int(indptr[-1]))
    fill(False, indptr, *lists)
    return indptr, *lists


@jit
def _fill_pairs(first_bin, stop_bin, bins, counting, indptr, neighbors, lengths, shifts):
    """Count the neighbors of each atom into indptr[atom + 1], or store them."""
    near = room_around(bins)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    for flat in range(first_bin, stop_bin):
        first, last = bins.start[flat], bins.start[flat + 1]
        if first == last:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(first, last):
            c = own + slot - first
            if squares(near, n, c, within, doubt):
                settle(bins, near, n, slot, c)
            near.r2[c] = FAR  # not a neighbor of itself
            atom = bins.order[slot]
            m = hits_within(near, n, within)
            if counting:
                indptr[atom + 1] = m
                continue
            e = indptr[atom]
            for h in range(m):
                k = near.hits[h]
                neighbors[e + h] = bins.order[near.slots[k]]
                lengths[e + h] = np.sqrt(near.r2[k])
            if shifts.shape[0]:
                for h in range(m):
                    s0, s1, s2 = shift_between(bins, near, slot, c, near.hits[h])
                    shifts[e + h, 0], shifts[e + h, 1], shifts[e + h, 2] = s0, s1, s2


class DirectedEdges(NamedTuple):
    """The symmetric graph of nearest neighbors: it joins two atoms if one is among the nearest of the other.

    Edges are sorted by atom: those of atom i are `indptr[i]` to `indptr[i + 1]`, first its own nearest.
    Arrays as in `Graph`; shifts are the images of the neighbors.
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

    n, k = nearest.neighbors.shape
    there = np.empty((n, k), dtype=np.int32)
    in_parts(_places_there, n, nearest.neighbors, nearest.shifts, there)
    indptr = np.zeros(n + 1, dtype=np.int64)
    _count_edges(nearest.neighbors, there, indptr)
    np.cumsum(indptr, out=indptr)
    edges = room(int(indptr[-1]))
    in_parts(_write_own, n, *nearest, there, indptr, *edges)
    _write_back(*nearest, there, indptr, *edges)
    return DirectedEdges(indptr, *edges)


@inner
def place_among(neighbors, shifts, i, row, m, other):
    """Place of atom i (in `row`), with the right image, in the row `other` of its m-th neighbor; or -1."""
    s0, s1, s2 = shifts[row, m, 0], shifts[row, m, 1], shifts[row, m, 2]
    for t in range(neighbors.shape[1]):
        there = shifts[other, t]
        if neighbors[other, t] == i and there[0] == -s0 and there[1] == -s1 and there[2] == -s2:
            return t
    return -1


@jit
def _places_there(first, stop, neighbors, shifts, there):
    """The place of each atom among the nearest of each of its nearest; -1 if it is not among them."""
    for i in range(first, stop):
        for m in range(neighbors.shape[1]):
            there[i, m] = place_among(neighbors, shifts, i, i, m, neighbors[i, m])


@jit
def _count_edges(nearest, there, indptr):
    """Count the edges of each atom into indptr[atom + 1]."""
    indptr[1:] += nearest.shape[1]
    for i in range(nearest.shape[0]):
        for m in range(nearest.shape[1]):
            indptr[nearest[i, m] + 1] += there[i, m] < 0


@jit
def _write_own(
    first, stop, nearest, lengths, shifts, there, indptr, neighbors, edge_length, edge_shift, reverse, mutual
):  # fmt: skip
    """The edges from some atoms to their nearest, without the reverse of those that are not mutual."""
    for i in range(first, stop):
        for m in range(nearest.shape[1]):
            e, j, t = indptr[i] + m, nearest[i, m], there[i, m]
            neighbors[e], edge_length[e], mutual[e] = j, lengths[i, m], t >= 0
            for axis in range(3):
                edge_shift[e, axis] = shifts[i, m, axis]
            if t >= 0:
                reverse[e] = indptr[j] + t


@jit
def _write_back(
    nearest, lengths, shifts, there, indptr, neighbors, edge_length, edge_shift, reverse, mutual
):  # fmt: skip
    """The reverse edges of those that are not mutual, in the order of the atoms from which those come."""
    n_atoms, k = nearest.shape
    fill = indptr[:-1] + k
    for i in range(n_atoms):
        for m in range(k):
            if there[i, m] >= 0:
                continue
            e, j = indptr[i] + m, nearest[i, m]
            back = fill[j]
            fill[j] += 1
            neighbors[back], edge_length[back], mutual[back] = i, lengths[i, m], False
            for axis in range(3):
                edge_shift[back, axis] = -shifts[i, m, axis]
            reverse[e], reverse[back] = back, e
