"""Windows cut out of configurations, and the graphs of nearest neighbors that the network passes messages on.

A window has open edges, whatever the cell it comes from. Many windows of mixed sizes make one batch: their
particles and edges follow each other, and nothing is padded. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.families.liquid_glass.settings import LENGTH_CENTERS, GlassConfig
from phaseseg.frame import Frame
from phaseseg.neighbors import NearestNeighbors, nearest_neighbors

_CENTERS = np.array(LENGTH_CENTERS)


class Edges(NamedTuple):
    """Directed edges between nearest neighbors, each with its reverse, sorted by the particle they lead to.

    Those that lead to particle v are `indptr[v]` to `indptr[v + 1]`; edge e comes from `source[e]`.

    indptr : (n + 1,) int64; source : (n_edges,) int32
    reverse : (n_edges,) int32, the edge the other way round
    length : (n_edges,) float32, σ
    mutual : (n_edges,) bool, whether each end is among the nearest of the other
    entry : (n_edges,) int64, where the edge was found, flat in the (n, k) nearest: it leads from the
        neighbor at `entry` to the particle of that row; at -entry - 1 it stands the other way round
    """

    indptr: NDArray[np.int64]
    source: NDArray[np.int32]
    reverse: NDArray[np.int32]
    length: NDArray[np.float32]
    mutual: NDArray[np.bool_]
    entry: NDArray[np.int64]


class Graphs(NamedTuple):
    """What the network reads: one graph, or several one after the other.

    edges : of all graphs
    starts : (n_graphs + 1,) int64, the first particle of each graph, and the number of particles
    nodes : (n, n_node_features) float32: is A, is B, coordinates where they are used
    inputs : (n_edges, n_node_features + n_edge_features) float32, what is known of each edge: the features of
        the particle it comes from, Gaussians of its length where they are used, whether it is mutual
    """

    edges: Edges
    starts: NDArray[np.int64]
    nodes: NDArray[np.float32]
    inputs: NDArray[np.float32]

    @property
    def n_graphs(self) -> int:
        return len(self.starts) - 1

    @property
    def edge_starts(self) -> NDArray[np.int64]:
        """(n_graphs + 1,) the first edge of each graph, and the number of edges."""
        return np.asarray(self.edges.indptr[self.starts])


class Cells(NamedTuple):
    """Configurations one after the other, ready to be cut.

    fractions : (n, 3) float64, coordinates over the cell vectors, from 0 to 1; along open axes, and across
        the plane in two dimensions, over the extent of the particles
    codes : (n,) int32, 0 for A and 1 for B
    starts : (n_cells + 1,) int64; vectors : (n_cells, 3, 3) float64, σ, of the cell or the extent as rows
    wrap : (n_cells, 3) bool; dimensions : 2 or 3
    """

    fractions: NDArray[np.float64]
    codes: NDArray[np.int32]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float64]
    wrap: NDArray[np.bool_]
    dimensions: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.float64]:
        """(n_cells, dimensions) σ, of the vectors."""
        return np.asarray(np.linalg.norm(self.vectors[:, : self.dimensions], axis=2))


class Picks(NamedTuple):
    """Which windows to cut: from which cell, with which lower corner and which edges.

    cell : (n,) int64; corner, share : (n, dimensions) float64, over the cell's vectors
    """

    cell: NDArray[np.int64]
    corner: NDArray[np.float64]
    share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cell)

    def take(self, which: Sequence[int] | NDArray[np.int64] | slice) -> Picks:
        """Some of the windows."""
        return Picks(self.cell[which], self.corner[which], self.share[which])


class Windows(NamedTuple):
    """Windows that were cut, one after the other.

    positions : (n, 3) float64, σ, from the lower corner of the window
    codes : (n,) int32, 0 for A and 1 for B; rows : (n,) int64, of the particles among those of all cells
    starts : (n_windows + 1,) int64; vectors : (n_windows, 3, 3) float64, σ, edges of the windows as rows
    """

    positions: NDArray[np.float64]
    codes: NDArray[np.int32]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float64]


# Kernels ------------------------------------------------------------------------------------------


@jit
def _cut(counting, fractions, begin, vectors, wrap, cell, corner, share, starts, rows, positions):
    """Count the particles of each window into starts[window + 1], or write them down."""
    dimensions = corner.shape[1]
    f = np.zeros(3)
    for window in range(cell.size):
        c = cell[window]
        at = starts[window]
        n = 0
        for row in range(begin[c], begin[c + 1]):
            inside = True
            for axis in range(dimensions):
                value = fractions[row, axis] - corner[window, axis]
                if wrap[c, axis]:
                    value -= np.floor(value)
                    if value >= 1:  # of a tiny negative number
                        value = 0.0
                # The end of a window that takes in the whole of an open axis belongs to it.
                if value < 0 or value > share[window, axis]:
                    inside = False
                    break
                if value == share[window, axis] and (wrap[c, axis] or value < 1):
                    inside = False
                    break
                f[axis] = value
            if not inside:
                continue
            if not counting:
                rows[at + n] = row
                for k in range(3):
                    x = 0.0
                    for axis in range(dimensions):
                        x += f[axis] * vectors[c, axis, k]
                    positions[at + n, k] = x
            n += 1
        if counting:
            starts[window + 1] = n


@jit
def _nearest(positions, starts, k, neighbors, lengths):
    """The k nearest others of each particle of its graph, by length, then by number; open boundaries.

    A sweep along the first axis: others are looked at outwards from the own place until none can be nearer.
    """
    best = np.empty(k)
    who = np.empty(k, dtype=np.int64)
    for graph in range(starts.size - 1):
        first = starts[graph]
        n = starts[graph + 1] - first
        x = np.empty(n)
        for i in range(n):
            x[i] = positions[first + i, 0]
        order = np.argsort(x, kind="mergesort")
        for place in range(n):
            i = first + order[place]
            best[:] = np.inf
            who[:] = n + first
            for direction in (-1, 1):
                other = place + direction
                while 0 <= other < n:
                    j = first + order[other]
                    dx = positions[j, 0] - positions[i, 0]
                    if dx * dx > best[k - 1]:
                        break
                    dy = positions[j, 1] - positions[i, 1]
                    dz = positions[j, 2] - positions[i, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    if r2 < best[k - 1] or (r2 == best[k - 1] and j < who[k - 1]):
                        at = k - 1
                        while at > 0 and (r2 < best[at - 1] or (r2 == best[at - 1] and j < who[at - 1])):
                            best[at], who[at] = best[at - 1], who[at - 1]
                            at -= 1
                        best[at], who[at] = r2, j
                    other += direction
            for a in range(k):
                neighbors[i, a], lengths[i, a] = who[a], np.sqrt(best[a])


@jit
def _is_back(neighbors, shifts, i, a, b):
    """Whether entry b of the neighbor that is entry a of i leads back to i."""
    j = neighbors[i, a]
    if neighbors[j, b] != i:
        return False
    same = True
    for axis in range(shifts.shape[2]):
        same &= shifts[j, b, axis] == -shifts[i, a, axis]
    return same


@jit
def _link(neighbors, shifts, back, indptr):
    """Fill `back`, the entry of the neighbor that leads back or -1, and `indptr`."""
    n, k = neighbors.shape
    for i in range(n):
        indptr[i + 1] += k
        for a in range(k):
            back[i, a] = -1
            for b in range(k):
                if _is_back(neighbors, shifts, i, a, b):
                    back[i, a] = b
            if back[i, a] < 0:
                indptr[neighbors[i, a] + 1] += 1
    for i in range(n):
        indptr[i + 1] += indptr[i]


@jit
def _fill(neighbors, lengths, back, indptr, source, reverse, length, mutual, entry):
    """Edges that lead to i: first from its own nearest, then from those that have i among theirs."""
    n, k = neighbors.shape
    fill = indptr[:-1] + k
    for i in range(n):
        for a in range(k):
            e, j = indptr[i] + a, neighbors[i, a]
            source[e], length[e], entry[e] = j, lengths[i, a], i * k + a
            if back[i, a] >= 0:
                reverse[e], mutual[e] = indptr[j] + back[i, a], True
                continue
            other = fill[j]
            fill[j] += 1
            source[other], length[other], entry[other] = i, lengths[i, a], -(i * k + a) - 1
            mutual[e] = mutual[other] = False
            reverse[e], reverse[other] = other, e


@jit
def _write_inputs(nodes, source, length, mutual, centers, inputs):
    """Fill the rows of `inputs`; no centers, no Gaussians."""
    width = nodes.shape[1]
    n = centers.size
    spacing = centers[1] - centers[0] if n else 1.0
    for e in range(source.size):
        for c in range(width):
            inputs[e, c] = nodes[source[e], c]
        r = length[e]
        if n:
            r = min(max(r, centers[0]), centers[n - 1])
        for c in range(n):
            z = (r - centers[c]) / spacing
            inputs[e, width + c] = np.exp(-0.5 * z * z)
        inputs[e, width + n] = 1.0 if mutual[e] else 0.0


# Graphs -------------------------------------------------------------------------------------------


def directed_edges(
    neighbors: NDArray[np.int32],
    lengths: NDArray[np.float32],
    shifts: NDArray[np.int32] | None = None,
) -> Edges:
    """The symmetrized graph of nearest neighbors: two are joined if one is among the nearest of the other.

    Parameters
    ----------
    neighbors : (n, k) int32; lengths : (n, k) float32, σ
    shifts : (n, k, 3) int32, images of the neighbors, as `nearest_neighbors` gives them; left out
        where there is one image of each
    """
    n, k = neighbors.shape
    images = np.zeros((n, k, 0), dtype=np.int32) if shifts is None else shifts
    back = np.empty((n, k), dtype=np.int32)
    indptr = np.zeros(n + 1, dtype=np.int64)
    _link(neighbors, images, back, indptr)
    n_edges = int(indptr[-1])
    source, reverse = np.empty(n_edges, dtype=np.int32), np.empty(n_edges, dtype=np.int32)
    length, mutual = np.empty(n_edges, dtype=np.float32), np.empty(n_edges, dtype=np.bool_)
    entry = np.empty(n_edges, dtype=np.int64)
    _fill(neighbors, lengths, back, indptr, source, reverse, length, mutual, entry)
    return Edges(indptr, source, reverse, length, mutual, entry)


def node_features(
    codes: NDArray[np.int32], config: GlassConfig, coordinates: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """(n, n_node_features) of particles of kinds 0 and 1.

    coordinates : (n, dimensions), in the window or cell over its edges, where the network uses them
    """
    nodes = np.zeros((len(codes), config.n_node_features), dtype=np.float32)
    nodes[np.arange(len(codes)), codes] = 1
    if config.features == "coordinates":
        nodes[:, 2:] = coordinates
    return nodes


def edge_inputs(nodes: NDArray[np.float32], edges: Edges, config: GlassConfig) -> NDArray[np.float32]:
    """(n_edges, n_node_features + n_edge_features): what the network knows of each edge at the start.

    The Gaussians are exp(-(r - c)^2 / 2 w^2), c from `LENGTH_CENTERS` and w their spacing; lengths beyond the
    first and the last center are taken for these.
    """
    centers = _CENTERS if config.features == "distances" else _CENTERS[:0]
    inputs = np.empty((len(edges.source), nodes.shape[1] + len(centers) + 1), dtype=np.float32)
    _write_inputs(nodes, edges.source, edges.length, edges.mutual, centers, inputs)
    return inputs


def graph_of(
    frame: Frame,
    config: GlassConfig,
    codes: NDArray[np.int32] | None = None,
    near: NearestNeighbors | None = None,
) -> Graphs:
    """The graph of a whole configuration, periodic where the frame is.

    codes : (n_atoms,) 0 for A and 1 for B; by the names of the species if left out
    near : the k nearest neighbors of the frame in its dimensions, where they are at hand

    Raises
    ------
    ValueError
        For species that the network does not know, and for too few particles.
    """
    codes = config.codes_of(frame) if codes is None else codes
    if near is None:
        near = nearest_neighbors(frame, config.k, dimensions=config.dimensions)
    edges = directed_edges(near.neighbors, near.lengths, near.shifts)
    cells = cells_of([frame], [codes], config.dimensions)
    nodes = node_features(codes, config, cells.fractions[:, : config.dimensions])
    return Graphs(edges, np.array([0, frame.n_atoms]), nodes, edge_inputs(nodes, edges, config))


def window_graphs(windows: Windows, config: GlassConfig) -> Graphs:
    """The graphs of windows, each with open boundaries.

    Raises
    ------
    ValueError
        If a window holds no more than k particles.
    """
    least = int(np.diff(windows.starts).min(initial=config.k + 1))
    if least <= config.k:
        raise ValueError(
            f"a window holds {least} particles, so there are no {config.k} neighbors for each; choose larger "
            "windows or a smaller k."
        )
    n = len(windows.positions)
    neighbors = np.empty((n, config.k), dtype=np.int32)
    lengths = np.empty((n, config.k), dtype=np.float32)
    _nearest(windows.positions, windows.starts, config.k, neighbors, lengths)
    edges = directed_edges(neighbors, lengths)
    coordinates = None
    if config.features == "coordinates":
        inverse = np.repeat(np.linalg.inv(windows.vectors), np.diff(windows.starts), axis=0)
        coordinates = np.einsum("nk,nkc->nc", windows.positions, inverse)[:, : config.dimensions]
    nodes = node_features(windows.codes, config, coordinates)
    return Graphs(edges, windows.starts, nodes, edge_inputs(nodes, edges, config))


# Windows ------------------------------------------------------------------------------------------


def cells_of(frames: Sequence[Frame], codes: Sequence[NDArray[np.int32]], dimensions: int) -> Cells:
    """Configurations with their kinds of particles (0 and 1), to be cut.

    Raises
    ------
    ValueError
        If a frame has another number of dimensions.
    """
    fractions, vectors, wrap = [], [], []
    for frame in frames:
        if frame.n_dimensions != dimensions:
            raise ValueError(
                f"{frame.source or 'a frame'} has {frame.n_dimensions} dimensions where {dimensions} were "
                "expected; keep configurations in a plane and in space apart."
            )
        f = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
        periodic = frame.pbc & (np.arange(3) < dimensions)
        low, span = f.min(axis=0), np.ptp(f, axis=0)
        low, span = np.where(periodic, 0.0, low), np.where(periodic | (span == 0), 1.0, span)
        fractions.append((f - low) / span)
        vectors.append(frame.cell * span[:, None])
        wrap.append(periodic)
    return Cells(
        np.concatenate(fractions), np.concatenate(codes),
        np.cumsum([0, *(len(f) for f in fractions)], dtype=np.int64), np.array(vectors), np.array(wrap),
        dimensions,
    )  # fmt: skip


def draw_windows(
    cells: Cells,
    which: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    share: tuple[float, float] | None = None,
    edge: float | tuple[float, float] | None = None,
) -> Picks:
    """One window at random from each of the cells `which`, one after the other.

    Corners are drawn independently along each axis: anywhere where the cell is periodic, and such that the
    window lies inside where it is open.

    share : edges over the cell's, drawn uniformly from so much to so much; the same along all axes
    edge : σ; of two lengths, each edge is drawn uniformly between them and no longer than the cell's

    Raises
    ------
    ValueError
        If one length is asked for that is longer than a cell.
    """
    n, dimensions = len(which), cells.dimensions
    if isinstance(edge, tuple):
        shares = np.minimum(rng.uniform(*edge, n)[:, None] / cells.lengths[which], 1.0)
    elif edge is not None:
        shares = edge / cells.lengths[which]
        if len(shares) and shares.max() > 1:
            raise ValueError(
                f"windows of {edge:g} σ do not fit into a cell of {cells.lengths[which].min():g} σ; choose "
                "smaller ones."
            )
    else:
        low, high = share or (1.0, 1.0)
        shares = np.repeat(rng.uniform(low, high, n)[:, None], dimensions, axis=1)
    corner = rng.random((n, dimensions))
    corner = np.where(cells.wrap[which][:, :dimensions], corner, corner * (1 - shares))
    return Picks(np.asarray(which, dtype=np.int64), corner, shares)


def count_particles(cells: Cells, picks: Picks) -> NDArray[np.int64]:
    """(n_windows,) how many particles each window holds."""
    starts = np.zeros(len(picks) + 1, dtype=np.int64)
    _cut(True, *_arguments(cells, picks), starts, np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    return starts[1:]


def _arguments(cells: Cells, picks: Picks) -> tuple[NDArray[Any], ...]:
    return (
        cells.fractions, cells.starts, cells.vectors, cells.wrap, picks.cell, picks.corner, picks.share,
    )  # fmt: skip


def cut_windows(cells: Cells, picks: Picks) -> Windows:
    """The particles of each window, in the order in which they stand in their cell."""
    starts = np.concatenate([[0], np.cumsum(count_particles(cells, picks))])
    rows, positions = np.empty(starts[-1], dtype=np.int64), np.empty((starts[-1], 3))
    _cut(False, *_arguments(cells, picks), starts, rows, positions)
    shares = np.ones((len(picks), 3))
    shares[:, : cells.dimensions] = picks.share
    return Windows(positions, cells.codes[rows], rows, starts, cells.vectors[picks.cell] * shares[:, :, None])
