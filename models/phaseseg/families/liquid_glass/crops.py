"""Crops of configurations, and their graphs of nearest neighbors.

A crop, called a window in the documentation, always has open boundaries. Crops of different sizes form one
batch: their particles and edges are concatenated without padding. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.liquid_glass.images import N_SYMMETRIES, Plane, Style, draw, turned
from phaseseg.families.liquid_glass.settings import IMAGES, LENGTH_CENTERS, GlassConfig
from phaseseg.frame import Frame
from phaseseg.neighbors import DirectedEdges, NearestNeighbors, nearest_neighbors, symmetric_edges
from phaseseg.training.loop import batches_by_atoms
from phaseseg.training.runs import Run

_CENTERS = np.array(LENGTH_CENTERS)
_TRIES = 200  # attempts to draw crops with enough particles


class Graphs(NamedTuple):
    """Input of the network: one graph, or several concatenated.

    edges : of all graphs; edge e leads from `edges.neighbors[e]` to the particle of its row
    starts : (n_graphs + 1,) int64, the first particle of each graph, and the number of particles
    nodes : (n, n_node_features) float32: is A, is B, coordinates if used
    inputs : (n_edges, n_node_features + n_edge_features) float32, inputs of each edge: features of its
        source, Gaussians of its length if used, whether it is mutual
    """

    edges: DirectedEdges
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
    """Concatenated configurations from which crops are cut.

    fractions : (n, 3) float64, from 0 to 1, coordinates in units of the cell vectors; along open axes, and
        across the plane in two dimensions, in units of the extent of the particles
    codes : (n,) int32, 0 for A and 1 for B
    starts : (n_cells + 1,) int64; vectors : (n_cells, 3, 3) float64, σ, cell or extent vectors as rows
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
        """(n_cells, dimensions) lengths of the vectors, σ."""
        return np.asarray(np.linalg.norm(self.vectors[:, : self.dimensions], axis=2))


class CropSpec(NamedTuple):
    """Crops to cut: the cell, lower corner and edges of each.

    cell : (n,) int64; corner, share : (n, dimensions) float64, in units of the cell vectors
    """

    cell: NDArray[np.int64]
    corner: NDArray[np.float64]
    share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cell)

    def take(self, which: Sequence[int] | NDArray[np.int64] | slice) -> CropSpec:
        """Some of the crops."""
        return CropSpec(self.cell[which], self.corner[which], self.share[which])


class Crops(NamedTuple):
    """Concatenated crops.

    positions : (n, 3) float64, σ, from the lower corner of the crop
    codes : (n,) int32, 0 for A and 1 for B; rows : (n,) int64, indices of the particles in all cells
    starts : (n_crops + 1,) int64; vectors : (n_crops, 3, 3) float64, σ, edges of the crops as rows
    """

    positions: NDArray[np.float64]
    codes: NDArray[np.int32]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float64]


class CropBatch(NamedTuple):
    """Crops of a batch with their labels.

    glass : (n,) bool; seed : for dropout and symmetries in this batch
    """

    spec: CropSpec
    glass: NDArray[np.bool_]
    seed: int


# Kernels ------------------------------------------------------------------------------------------


@jit
def _cut(
    counting, fractions, codes, begin, vectors, wrap, dimensions, cell, corner, share, starts, rows, positions
):
    """Count the particles of each crop into starts[crop + 1], or write their rows and positions."""
    f = np.zeros(3)
    for crop in range(cell.size):
        c = cell[crop]
        at = starts[crop]
        n = 0
        for row in range(begin[c], begin[c + 1]):
            inside = True
            for axis in range(dimensions):
                value = fractions[row, axis] - corner[crop, axis]
                if wrap[c, axis]:
                    value -= np.floor(value)
                    if value >= 1:  # of a tiny negative number
                        value = 0.0
                # A crop that spans a whole open axis includes its upper end.
                if value < 0 or value > share[crop, axis]:
                    inside = False
                    break
                if value == share[crop, axis] and (wrap[c, axis] or value < 1):
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
            starts[crop + 1] = n


@jit
def _nearest(positions, starts, k, neighbors, lengths):
    """Find the k nearest neighbors of each particle in its graph, by length, then by index; open boundaries.

    Particles are sorted along the first axis and searched outwards until no nearer one is possible.
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
def _write_inputs(first, stop, nodes, source, length, mutual, centers, inputs):
    """Fill the rows of `inputs`; without centers there are no Gaussians."""
    width = nodes.shape[1]
    n = centers.size
    spacing = centers[1] - centers[0] if n else 1.0
    for e in range(first, stop):
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


def _graphs(
    edges: DirectedEdges,
    starts: NDArray[np.int64],
    codes: NDArray[np.int32],
    coordinates: NDArray[np.float64] | None,
    config: GlassConfig,
) -> Graphs:
    """Add the features of particles and edges.

    The Gaussians are exp(-(r - c)^2 / 2 w^2), with c from `LENGTH_CENTERS` and w their spacing; lengths are
    clipped to the range of the centers.

    coordinates : (n, 3), in units of the crop or cell edges; needed if the network uses them
    """
    nodes = np.zeros((len(codes), config.n_node_features), dtype=np.float32)
    nodes[np.arange(len(codes)), codes] = 1
    if coordinates is not None and config.features == "coordinates":
        nodes[:, 2:] = coordinates[:, : config.dimensions]
    centers = _CENTERS if config.features == "distances" else _CENTERS[:0]
    inputs = np.empty((len(edges.neighbors), nodes.shape[1] + len(centers) + 1), dtype=np.float32)
    of_edges = edges.neighbors, edges.lengths, edges.mutual
    in_parts(_write_inputs, len(inputs), nodes, *of_edges, centers, inputs)
    return Graphs(edges, starts, nodes, inputs)


def graph_of(frame: Frame, config: GlassConfig, codes: NDArray[np.int32] | None = None) -> Graphs:
    """Return the graph of a whole configuration, with the periodicity of the frame.

    codes : (n_atoms,) 0 for A and 1 for B; by default from the names of the species
    """
    codes = config.codes_of(frame) if codes is None else codes
    edges = symmetric_edges(nearest_neighbors(frame, config.k, dimensions=config.dimensions))
    cell = cells_of([frame], [codes], config.dimensions)
    return _graphs(edges, cell.starts, codes, cell.fractions, config)


def crop_graphs(crops: Crops, config: GlassConfig) -> Graphs:
    """Return the graphs of crops, with open boundaries; a ValueError for a crop of at most k particles."""
    least = int(np.diff(crops.starts).min(initial=config.k + 1))
    if least <= config.k:
        raise ValueError(
            f"a window has only {least} particles, too few for {config.k} neighbors each; choose larger "
            "windows or a smaller k."
        )
    n = len(crops.positions)
    neighbors = np.empty((n, config.k), dtype=np.int32)
    lengths = np.empty((n, config.k), dtype=np.float32)
    _nearest(crops.positions, crops.starts, config.k, neighbors, lengths)
    shifts = np.zeros((n, config.k, 3), dtype=np.int32)
    edges = symmetric_edges(NearestNeighbors(neighbors, lengths, shifts))
    coordinates = None
    if config.features == "coordinates":
        inverse = np.repeat(np.linalg.inv(crops.vectors), np.diff(crops.starts), axis=0)
        coordinates = np.einsum("nk,nkc->nc", crops.positions, inverse)
    return _graphs(edges, crops.starts, crops.codes, coordinates, config)


# Crops --------------------------------------------------------------------------------------------


def cells_of(frames: Sequence[Frame], codes: Sequence[NDArray[np.int32]], dimensions: int) -> Cells:
    """Prepare configurations of these dimensions, with their kinds of particles (0 and 1), for cutting."""
    fractions, vectors, wrap = [], [], []
    for frame in (frame.reduced for frame in frames):
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


def draw_crops(
    cells: Cells,
    which: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    edge: float | tuple[float, float],
    least: int = 0,
) -> CropSpec:
    """Draw one random crop from each of the cells `which`, in order.

    Corners are drawn independently along each axis: anywhere along periodic axes, and such that the crop lies
    inside along open axes.

    edge : σ; for two lengths, each edge is drawn uniformly between them, up to the length of the cell
    least : smallest number of particles in a crop; crops with fewer are drawn again

    Raises
    ------
    ValueError
        If a single length is longer than a cell, or if crops rarely have enough particles.
    """
    spec = _drawn(cells, np.asarray(which, dtype=np.int64), rng, edge)
    few = np.flatnonzero(count_particles(cells, spec) < least) if least else np.zeros(0, dtype=np.int64)
    for _ in range(_TRIES):
        if not len(few):
            return spec
        again = _drawn(cells, spec.cell[few], rng, edge)
        for values, new in zip(spec, again, strict=True):
            values[few] = new
        few = few[count_particles(cells, again) < least]
    size = " to ".join(f"{length:g}" for length in np.ravel(edge))
    raise ValueError(
        f"windows of {size} σ rarely contain {least} particles; choose larger windows or fewer neighbors."
    )


def _drawn(
    cells: Cells, which: NDArray[np.int64], rng: np.random.Generator, edge: float | tuple[float, float]
) -> CropSpec:
    n, lengths = len(which), cells.lengths[which]
    if isinstance(edge, tuple):
        shares = np.minimum(rng.uniform(*edge, n)[:, None] / lengths, 1.0)
    else:
        shares = edge / lengths
        if n and shares.max() > 1:
            raise ValueError(
                f"windows of {edge:g} σ do not fit into a cell of {lengths.min():g} σ; choose smaller ones."
            )
    corner = rng.random((n, cells.dimensions))
    corner = np.where(cells.wrap[which][:, : cells.dimensions], corner, corner * (1 - shares))
    return CropSpec(which.copy(), corner, shares)


def count_particles(cells: Cells, spec: CropSpec) -> NDArray[np.int64]:
    """(n_crops,) number of particles in each crop."""
    starts = np.zeros(len(spec) + 1, dtype=np.int64)
    _cut(True, *cells, *spec, starts, np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    return starts[1:]


def cut_crops(cells: Cells, spec: CropSpec) -> Crops:
    """Return the particles of each crop, in the order of their cell."""
    starts = np.concatenate([[0], np.cumsum(count_particles(cells, spec))])
    rows, positions = np.empty(starts[-1], dtype=np.int64), np.empty((starts[-1], 3))
    _cut(False, *cells, *spec, starts, rows, positions)
    shares = np.ones((len(spec), 3))
    shares[:, : cells.dimensions] = spec.share
    return Crops(positions, cells.codes[rows], rows, starts, cells.vectors[spec.cell] * shares[:, :, None])


# Data ---------------------------------------------------------------------------------------------


def number_density(frame: Frame, dimensions: int) -> float:
    """Particles per σ^2 or σ^3."""
    area = float(np.linalg.norm(np.cross(frame.cell[0], frame.cell[1])))
    return frame.n_atoms / (area if dimensions == 2 else frame.volume)


class CropDataset:
    """Labeled configurations from which crops are drawn for training and validation.

    config : of the networks; runs : all runs; the label of a frame is whether it is glass
    frames : of all runs; glass : (n_frames,) bool; run : (n_frames,) the run of each frame
    """

    def __init__(self, config: GlassConfig, runs: Sequence[Run]) -> None:
        self.config, self.runs = config, list(runs)
        self.frames = [frame for run in runs for frame in run.frames]
        self.glass = np.array([label for run in runs for label in run.labels], dtype=bool)
        self.run = np.repeat(np.arange(len(self.runs)), [len(run.frames) for run in runs])
        codes = [config.codes_of(frame) for frame in self.frames]
        self.cells = cells_of(self.frames, codes, config.dimensions)
        self.planes: list[Plane] = []
        if config.architecture == "cnn":
            self.planes = [Plane.of(frame, code) for frame, code in zip(self.frames, codes, strict=True)]

    def of(self, runs: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the glass and of the liquid configurations of selected runs, (n_runs,) bool."""
        chosen = runs[self.run]
        return np.flatnonzero(chosen & self.glass), np.flatnonzero(chosen & ~self.glass)

    def draw(self, which: NDArray[np.int64], rng: np.random.Generator, batch_atoms: int) -> list[CropBatch]:
        """Draw a crop from each of the configurations `which`, in batches."""
        if self.planes:
            spec = draw_crops(self.cells, which, rng, edge=self.config.image_edge)
        else:
            spec = draw_crops(self.cells, which, rng, edge=self.config.window, least=self.config.k + 1)
        sizes = count_particles(self.cells, spec)
        seeds = rng.integers(0, 2**31, len(which))
        if self.planes and len(sizes):
            batch_atoms = max(batch_atoms, IMAGES * int(sizes.mean()))
        return [
            CropBatch(spec.take(group), self.glass[which[group]], int(seeds[group[0]]))
            for group in batches_by_atoms(sizes.tolist(), batch_atoms, range(len(which)))
        ]

    def epoch(
        self, runs: NDArray[np.bool_], crops: int, batch_atoms: int, rng: np.random.Generator
    ) -> list[CropBatch]:
        """Draw training crops from selected runs, half of them glass, in random order."""
        glass, liquid = self.of(runs)
        parts = rng.choice(glass, crops // 2), rng.choice(liquid, crops - crops // 2)
        return self.draw(rng.permutation(np.concatenate(parts)), rng, batch_atoms)

    def held(
        self, runs: NDArray[np.bool_], crops: int, batch_atoms: int, seed: tuple[int, ...]
    ) -> list[CropBatch]:
        """Draw validation crops from selected runs, half of them glass, equally many per configuration."""
        glass, liquid = self.of(runs)
        which = np.concatenate([np.resize(glass, crops // 2), np.resize(liquid, crops - crops // 2)])
        return self.draw(which, np.random.default_rng(seed), batch_atoms)

    def graphs(self, batch: CropBatch) -> Graphs:
        """The graphs of a batch."""
        return crop_graphs(cut_crops(self.cells, batch.spec), self.config)

    def images(self, batch: CropBatch, *, turn: bool) -> NDArray[np.float32]:
        """(n, 3, size, size) images of a batch; with `turn` randomly rotated or reflected."""
        style = Style.of(self.config)
        drawn = [
            draw(self.planes[cell], self.planes[cell].place(corner)[None], self.config.image_size, style)
            for cell, corner in zip(batch.spec.cell, batch.spec.corner, strict=True)
        ]
        images = np.concatenate(drawn)
        if not turn:
            return images
        rng = np.random.default_rng(batch.seed)
        return turned(images, rng.integers(0, N_SYMMETRIES, len(images)))
