"""The structural metrics of a frame that is larger than memory, slab by slab; see `glass_metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import ceil, inf, pi
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.families.liquid_glass.structural_metrics import (
    Rule,
    bonds_of,
    frame_numbers,
    named_b,
    only_b,
    root_of,
)
from phaseseg.fields import Bonds, Fields
from phaseseg.frame import Frame
from phaseseg.large.disk import Disk
from phaseseg.large.store import Chosen, FrameStore, InSlabs
from phaseseg.large.tasks import each
from phaseseg.neighbors import NearestNeighbors, nearest_neighbors
from phaseseg.neighbors.nearest import TIE
from phaseseg.specs import Progress

MORE = 30
"""Neighbors beyond the k nearest that a halo has room for; then very few particles are searched twice."""


def metrics_in_slabs(
    store: FrameStore, disk: Disk, n_slabs: int, *, b: str | Sequence[str] = "B", k: int = 2,
    rule: Rule = "all", progress: Progress | None = None,
) -> InSlabs:  # fmt: skip
    """Count the graphs, B-B edges and isolated A of a frame on disk: the numbers of `glass_metrics`.

    Every particle gets its neighbors in the slab in which it lies. An edge joins the graphs of its two ends
    in a list on disk with one number for each particle, so graphs go on through the faces of slabs. An edge
    to a particle of another slab may be found there again. Such B-B edges are kept until the end, and each
    counts once.

    Raises
    ------
    ValueError
        As `glass_metrics`.
    """
    outline = store.outline
    chosen = store.choose(named_b(outline, b, rule))
    if chosen.outline.n_atoms == outline.n_atoms:
        raise only_b(outline)
    parent, n_bb = disk.array(outline.n_atoms, np.int32), 0
    parent.fill(-1)
    joined = np.zeros(3, dtype=np.int64)
    found_once: list[NDArray[np.int64]] = []
    of_slab = partial(_of_slab, store, chosen, k, rule)
    slabs = list(pairwise(store.edges(n_slabs)))
    for found in each(disk, "edges", of_slab, slabs, "counting", progress, keep=True):
        joined += np.array(_join(found["rows"], found["is_b"], parent))
        n_bb += int(found["n_bb"])
        found_once.append(found["once"])
        del found  # before the next slab is read
    n_linked, n_linked_a, n_joined = joined.tolist()
    n_bb += len(np.unique(np.concatenate(found_once), axis=0))
    n_a = outline.n_atoms - chosen.outline.n_atoms
    numbers = frame_numbers(n_linked - n_joined, n_bb, n_a - n_linked_a, outline.n_atoms)
    return InSlabs(store, Fields(numbers, outline.messages), {}, rule)


def _of_slab(
    store: FrameStore, chosen: Chosen, k: int, rule: Rule, slab: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Edges from the particles of a slab: its first layer, and one past its last.

    rows : (n, 2) int32, rows of both ends in the frame; is_b : (n, 2) bool
    n_bb : () int64, number of B-B edges without those in `once`
    once : (n, 5) int64, as `_found_once`
    """
    rows, is_b = [np.empty((0, 2), np.int32)], [np.empty((0, 2), np.bool_)]
    once, n_bb = [np.empty((0, 5), np.int64)], 0
    for window, bonds, searched in _edges_of(store, *slab, chosen, k, rule):
        rows.append(window.rows[bonds.atoms].astype(np.int32))
        is_b.append(window.is_b[bonds.atoms])
        once.append(_found_once(window, bonds, searched))
        n_bb += int(bonds.columns["bb"].sum()) - len(once[-1])
        del window, bonds, searched  # before the wider one is read
    return {
        "rows": np.concatenate(rows), "is_b": np.concatenate(is_b), "n_bb": np.array(n_bb),
        "once": np.concatenate(once),
    }  # fmt: skip


@jit
def _join(rows, is_b, parent):
    """Join the graphs of both ends of edges; see `_of_slab`.

    parent : row of a particle of the same graph, -1 without an edge

    Returns how many particles had no edge before, how many of these are A, and how many graphs were joined.
    """
    n_linked, n_linked_a, n_joined = 0, 0, 0
    for e in range(rows.shape[0]):
        for end in range(2):
            row = rows[e, end]
            if parent[row] < 0:
                parent[row] = row
                n_linked += 1
                n_linked_a += not is_b[e, end]
        one, other = root_of(parent, rows[e, 0]), root_of(parent, rows[e, 1])
        if one != other:
            parent[max(one, other)] = min(one, other)
            n_joined += 1
    return n_linked, n_linked_a, n_joined


# Windows ------------------------------------------------------------------------------------------


class _Window(NamedTuple):
    """The particles of some layers next to each other, or of the whole frame, in the order of the frame.

    frame : with the reduced cell, open along its first vector unless all particles are there
    rows : (n,) int64 rows in the frame; is_b, own : (n,) bool, own for those of the slab
    images : (n,) int64, first vectors by which the particles were moved
    room : (n,) float64, Å or σ; distance to what is not there
    """

    frame: Frame
    rows: NDArray[np.int64]
    is_b: NDArray[np.bool_]
    own: NDArray[np.bool_]
    images: NDArray[np.int64]
    room: NDArray[np.float64]


def _found_once(window: _Window, bonds: Bonds, searched: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, 5) B-B edges of which only one end was searched: lower and higher row, and image of the latter."""
    one_end = bonds.columns["bb"].astype(bool) & ~searched[bonds.atoms].all(axis=1)
    atoms, shifts = bonds.atoms[one_end], bonds.shifts[one_end].astype(np.int64)
    shifts[:, 0] += np.diff(window.images[atoms], axis=1)[:, 0]
    return np.hstack([window.rows[atoms], shifts])


def _edges_of(
    store: FrameStore, first: int, stop: int, chosen: Chosen, k: int, rule: Rule
) -> Iterator[tuple[_Window, Bonds, NDArray[np.bool_]]]:
    """Yield edges from the particles of layers first ... stop - 1 to their nearest neighbors.

    Particles whose neighbors may lie beyond a window are searched again in a wider one.

    Yields the window, edges, and which particles were searched, (n,) bool
    """
    if not store.filled[first:stop].any():
        return
    frame, waiting = store.outline.reduced, None
    thickness = 1 / float(np.linalg.norm(np.linalg.inv(frame.cell)[:, 0])) / store.n_layers
    dimensions = frame.n_dimensions
    space = frame.volume / (np.linalg.norm(frame.cell[2]) if dimensions == 2 else 1.0)
    expected = (k + MORE) / (pi if dimensions == 2 else 4 / 3 * pi)
    around = ceil((expected * space / frame.n_atoms) ** (1 / dimensions) / thickness)
    while True:
        window = _window(store, first, stop, around, chosen, flat=dimensions == 2)
        of = window.own if waiting is None else np.isin(window.rows, waiting)
        if rule == "b-only":
            of &= window.is_b
        if not of.any():
            return
        if len(of) <= k and np.isfinite(window.room).all():
            around *= 2
            continue
        nearest = nearest_neighbors(window.frame, k, dimensions=dimensions, of=of)
        # Lengths are float32.
        lacking = nearest.lengths[:, -1].astype(np.float64) * (1 + 1e-6) + 2 * TIE - window.room[of]
        there = lacking < 0
        if not there.all():
            neighbors, lengths, shifts = nearest
            nearest = NearestNeighbors(neighbors[there], lengths[there], shifts[there])
        searched = of.copy()
        searched[of] = there
        yield window, bonds_of(nearest, np.flatnonzero(searched).astype(np.int32), window.is_b), searched
        waiting = window.rows[of & ~searched]
        if not len(waiting):
            return
        around += ceil(float(lacking.max()) / thickness) + 1
        del window, nearest, of, searched  # before the wider one is read


def _window(store: FrameStore, first: int, stop: int, around: int, chosen: Chosen, *, flat: bool) -> _Window:
    """The particles of layers first ... stop - 1, and of some layers around them.

    flat : whether the frame is two-dimensional; its particles come into one plane
    """
    frame, n = store.outline.reduced, store.n_layers
    low, high = first - around, stop + around
    pbc, wrap = frame.pbc.copy(), bool(frame.pbc[0])
    if not wrap:
        low, high = max(low, 0), min(high, n)
    whole = high - low >= n
    if whole:
        low, high = 0, n
    layers = store.load(np.unique(np.arange(low, high) % n))
    part = Frame(
        layers.positions, store.outline.cell, pbc, layers.species, frame.species_names, frame.origin,
        units=frame.units, source=frame.source,
    )  # fmt: skip
    layer, positions, inverse = store.layer_of(part), layers.positions, np.linalg.inv(frame.cell)
    images, room = np.zeros(len(layer), dtype=np.int64), np.full(len(layer), inf)
    if not whole:
        place = (positions - frame.origin) @ inverse[:, 0]
        if wrap:
            pbc[0] = False
            # From the layer: rounding may put a particle at a face of the cell on either side.
            home = np.rint(place - (layer + 0.5) / n).astype(np.int64)
            images = (low + (layer - low) % n - layer) // n - home
            moved = np.flatnonzero(images)
            positions[moved] += images[moved, None] * frame.cell[0]
            place += images
        below = place - low / n if wrap or low > 0 else inf
        above = high / n - place if wrap or high < n else inf
        room = np.minimum(below, above) / np.linalg.norm(inverse[:, 0])
    if flat and pbc[2]:
        pbc[2] = False
        up = np.rint((positions - store.outline.positions[0]) @ inverse[:, 2])
        positions = positions - up[:, None] * frame.cell[2] if up.any() else positions
    part = part.replace(positions=positions, cell=frame.cell, pbc=pbc)
    own = (layer >= first) & (layer < stop)
    return _Window(part, layers.rows, chosen.among(layers.rows, layers.species), own, images, room)
