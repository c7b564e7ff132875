"""The graph of the message-passing network: particles, the edges that lead to each, and their vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph

# Neighbors are searched this much farther; the vectors in float32 decide.
_SLACK = 1e-5


@dataclass(frozen=True, eq=False)
class MessageGraph:
    """Edges sorted by the particle to which they lead; the edge of a particle to itself comes first.

    n_atoms : number of particles
    receiver, sender : (n_edges,) int32
    vector : (n_edges, 3) float32, σ, from the sender to the receiver
    indptr : (n_atoms + 1,) int64, first edge of each particle
    """

    indptr: NDArray[np.int64]
    receiver: NDArray[np.int32]
    sender: NDArray[np.int32]
    vector: NDArray[np.float32]

    @property
    def n_atoms(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_edges(self) -> int:
        return len(self.sender)


def message_graph(frame: Frame, cutoff: float, *, self_edges: bool = True) -> MessageGraph:
    """The graph of all pairs closer than the cutoff, both directions, as the published network sees them.

    In an upright cell longer than two cutoffs, vectors are differences of float32 positions, moved by one
    period where a component is longer than half of it, as in the published code; an edge has a length below
    the cutoff in float32. In all other cells they are float64 vectors to every image, rounded.

    Linear in the number of particles.
    """
    found = neighbor_graph(frame, cutoff=cutoff * (1 + _SLACK))
    n, lengths = frame.n_atoms, np.diag(frame.cell)
    upright = (frame.cell == np.diag(lengths)).all() and (lengths > 0).all()
    if upright and ((lengths > 2 * cutoff * (1 + _SLACK)) | ~frame.pbc).all():
        positions = _within_one_period(frame).astype(np.float32)
        periods = np.where(frame.pbc, lengths, np.inf).astype(np.float32)
        vectors = np.empty((found.n_edges, 3), dtype=np.float32)
        in_parts(_short_vectors, n, found.indptr, found.neighbors, positions, periods, vectors)
    else:
        vectors = (-found.edge_vector).astype(np.float32)
    indptr = np.zeros(n + 1, dtype=np.int64)
    of_all = (
        np.empty((2, found.n_edges + n), dtype=np.int32),
        np.empty((found.n_edges + n, 3), dtype=np.float32),
    )
    _select(found.indptr, found.neighbors, vectors, np.float32(cutoff), self_edges, indptr, *of_all)
    (receiver, sender), kept = of_all[0][:, : indptr[-1]], of_all[1][: indptr[-1]]
    return MessageGraph(indptr, receiver, sender, kept)


def _within_one_period(frame: Frame) -> NDArray[np.float64]:
    """Positions of which any two differ by less than one and a half periods of an upright cell.

    Those of a file that is wrapped already stay as they are, to the last bit.
    """
    lengths, positions = np.diag(frame.cell), frame.positions
    if not frame.n_atoms:
        return positions
    spans = positions.max(axis=0) - positions.min(axis=0)
    far = np.abs(positions).max(axis=0) > 2 * lengths
    if not ((spans > lengths) & frame.pbc).any() and not far.any():
        return positions
    start = np.where(frame.pbc, 0.0, positions.min(axis=0))
    return np.where(frame.pbc, positions - np.floor(positions / lengths) * lengths, positions - start)


@jit
def _short_vectors(first, stop, indptr, neighbors, positions, periods, vectors):
    """vectors[e] = positions[receiver] - positions[sender], moved by one period at most."""
    for i in range(first, stop):
        for e in range(indptr[i], indptr[i + 1]):
            j = neighbors[e]
            for axis in range(3):
                x, period = positions[i, axis] - positions[j, axis], periods[axis]
                half = period * np.float32(0.5)
                if x < -half:
                    x += period
                if x > half:
                    x -= period
                vectors[e, axis] = x


@jit
def _select(indptr, neighbors, vectors, cutoff, self_edges, starts, ends, kept):
    """List the edges below the cutoff; the edge of a particle to itself comes first."""
    m = 0
    for i in range(indptr.size - 1):
        if self_edges:
            ends[0, m] = ends[1, m] = i
            kept[m, 0] = kept[m, 1] = kept[m, 2] = 0
            m += 1
        for e in range(indptr[i], indptr[i + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            if np.sqrt(x * x + y * y + z * z) < cutoff:
                ends[0, m], ends[1, m] = i, neighbors[e]
                kept[m, 0], kept[m, 1], kept[m, 2] = x, y, z
                m += 1
        starts[i + 1] = m
