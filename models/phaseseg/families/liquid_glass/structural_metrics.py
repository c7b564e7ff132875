"""Structural metrics of a glass former: graphs around the minority species B, its pairs, and isolated A.

Nothing is learned here. Edges join nearest neighbors; the same counts apply to other edges, for example
those selected by the attention of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.threads import for_each, in_parts, parts_of
from phaseseg.fields import Bonds, Fields
from phaseseg.frame import Frame
from phaseseg.neighbors import NearestNeighbors, nearest_neighbors, place_among

Rule = Literal["all", "b-only"]


# Counts on edges ----------------------------------------------------------------------------------


class GraphCounts(NamedTuple):
    """Counts from a set of edges, per particle and in total.

    graph_id : (n_atoms,) int32; 0 without an edge, otherwise the number of the graph by falling size; among
        graphs of equal size, the one with the lowest row comes first
    isolated : (n_atoms,) int8; 1 for an A without an edge
    bb_degree : (n_atoms,) int32; B-B edges at a B, with edges to its own images counted twice; 0 for A
    n_disjoint_graphs : connected graphs with at least one edge
    n_bb_edges : B-B edges; n_isolated_a : A without an edge
    """

    graph_id: NDArray[np.int32]
    isolated: NDArray[np.int8]
    bb_degree: NDArray[np.int32]
    n_disjoint_graphs: int
    n_bb_edges: int
    n_isolated_a: int


def graph_counts(
    n_atoms: int, is_b: ArrayLike, atoms: ArrayLike, keep: ArrayLike | None = None
) -> GraphCounts:
    """Count connected graphs, B-B edges and isolated A for undirected edges, in linear time.

    Parameters
    ----------
    n_atoms : number of particles
    is_b : (n_atoms,) bool
    atoms : (n_edges, 2) integers, both ends of every edge; edges between different images of the same two
        particles count separately, and so does an edge from a particle to its own image
    keep : (n_edges,) bool, the edges that count; None: all

    Raises
    ------
    ValueError
        If the lengths of the arrays do not match, or an edge names a particle that does not exist.

    >>> counts = graph_counts(5, [False, True, True, False, False], [[0, 1], [1, 2]])
    >>> counts.graph_id.tolist(), counts.n_disjoint_graphs, counts.n_bb_edges, counts.n_isolated_a
    ([1, 1, 1, 0, 0], 1, 1, 2)
    """
    b = np.ascontiguousarray(is_b, dtype=bool)
    ends = np.ascontiguousarray(atoms, dtype=np.int64).reshape(-1, 2)
    kept = np.ones(len(ends), dtype=bool) if keep is None else np.ascontiguousarray(keep, dtype=bool)
    if b.shape != (n_atoms,) or kept.shape != (len(ends),):
        raise ValueError(
            f"{n_atoms} particles and {len(ends)} edges need one flag each, found {b.size} and {kept.size}."
        )
    if len(ends) and not 0 <= ends.min() <= ends.max() < n_atoms:
        raise ValueError(f"edges name particles {ends.min()} to {ends.max()}, but there are only {n_atoms}.")
    root, bb_degree = np.empty(n_atoms, dtype=np.int32), np.zeros(n_atoms, dtype=np.int32)
    sizes = np.zeros(n_atoms, dtype=np.int32)
    n_bb = _connect(b, ends, kept, root, bb_degree, sizes)
    roots = np.flatnonzero(sizes)
    # A stable sort keeps graphs of equal size in the order of their lowest rows.
    number = np.empty(len(roots), dtype=np.int32)
    number[np.argsort(-sizes[roots], kind="stable")] = np.arange(1, len(roots) + 1)
    sizes[roots] = number
    graph_id, isolated = np.empty(n_atoms, dtype=np.int32), np.empty(n_atoms, dtype=np.int8)
    n_isolated = sum(in_parts(_number, n_atoms, b, root, sizes, graph_id, isolated))
    return GraphCounts(graph_id, isolated, bb_degree, len(roots), int(n_bb), int(n_isolated))


@inner
def root_of(parent, atom):
    """The lowest row of a graph; the way to it is shortened."""
    while parent[atom] != atom:
        parent[atom] = parent[parent[atom]]
        atom = parent[atom]
    return atom


@jit
def _connect(is_b, atoms, keep, parent, bb_degree, sizes):
    """Find the root (lowest row) of each particle's graph, -1 without an edge, and graph sizes at roots."""
    n_bb = 0
    for atom in range(parent.size):
        parent[atom] = atom
    for e in range(keep.size):
        if not keep[e]:
            continue
        i, j = atoms[e, 0], atoms[e, 1]
        if is_b[i] and is_b[j]:
            n_bb += 1
            bb_degree[i] += 1
            bb_degree[j] += 1
        sizes[i] = sizes[j] = 1
        a, b = root_of(parent, i), root_of(parent, j)
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for atom in range(parent.size):
        if sizes[atom] == 0:
            parent[atom] = -1
            continue
        # A parent has a lower row than its child, so all earlier rows already point to their roots.
        root = parent[parent[atom]]
        parent[atom] = root
        if root != atom:
            sizes[atom] = 0
            sizes[root] += 1
    return n_bb


@jit
def _number(first, stop, is_b, root, number, graph_id, isolated):
    n_isolated = 0
    for atom in range(first, stop):
        graph_id[atom] = number[root[atom]] if root[atom] >= 0 else 0
        isolated[atom] = root[atom] < 0 and not is_b[atom]
        n_isolated += isolated[atom]
    return n_isolated


# Edges between nearest neighbors ------------------------------------------------------------------


@jit
def _kept(first, stop, nearest, shifts, of, rows, is_b, keep):
    """Mark the pairs that include a B, each once, and return their number."""
    n = 0
    for row in range(first, stop):
        i = of[row]
        for m in range(nearest.shape[1]):
            j = nearest[row, m]
            keep[row, m] = False
            if not (is_b[i] or is_b[j]):
                continue
            # A mutual pair is kept at its lower row, a pair with the own image at its first occurrence.
            if rows[j] >= 0 and (j < i or j == i):
                place = place_among(nearest, shifts, i, row, m, rows[j])
                if place >= 0 and (j < i or place < m):
                    continue
            keep[row, m] = True
            n += 1
    return n


@jit
def _write_pairs(first, stop, e, nearest, lengths, shifts, of, is_b, keep, atoms, images, bb, length):
    """Write the pairs that are kept in some rows, from the place `e` on."""
    for row in range(first, stop):
        i = of[row]
        for m in range(nearest.shape[1]):
            if not keep[row, m]:
                continue
            j = nearest[row, m]
            sign = 1 if i <= j else -1
            atoms[e, 0], atoms[e, 1] = min(i, j), max(i, j)
            for axis in range(3):
                images[e, axis] = sign * shifts[row, m, axis]
            bb[e] = is_b[i] and is_b[j]
            length[e] = lengths[row, m]
            e += 1


def bonds_of(nearest: NearestNeighbors, of: NDArray[np.int32], is_b: NDArray[np.bool_]) -> Bonds:
    """Nearest-neighbor pairs that include a B, each once; row r of `nearest` belongs to atom of[r]."""
    rows = np.full(len(is_b), -1, dtype=np.int32)
    rows[of] = np.arange(len(of), dtype=np.int32)
    keep = np.empty(nearest.neighbors.shape, dtype=bool)
    parts = parts_of(len(of))
    known = nearest.neighbors, nearest.shifts, of, rows, is_b
    numbers = for_each(lambda part: _kept(*part, *known, keep), parts)
    begin, n = np.cumsum([0, *numbers]), sum(numbers)
    atoms, shifts = np.empty((n, 2), dtype=np.int64), np.empty((n, 3), dtype=np.int32)
    bb, length = np.empty(n, dtype=np.int8), np.empty(n, dtype=np.float32)
    for_each(
        lambda at: _write_pairs(*parts[at], begin[at], *nearest, of, is_b, keep, atoms, shifts, bb, length),
        range(len(parts)),
    )
    return Bonds(atoms, shifts, {"bb": bb, "length": length})


def measurer(options: Mapping[str, Any]) -> Callable[[Frame], Fields]:
    """Return a function that measures frames with these options of `glass_metrics`."""
    names = [name for name in signature(glass_metrics).parameters if name != "frame"]
    if not isinstance(options, Mapping):
        raise TypeError(f"metrics must be a dictionary of options ({', '.join(names)}), found {options!r}.")
    unknown = [str(name) for name in options if name not in names]
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)} of metrics; the options are {', '.join(names)}."
        )
    return partial(glass_metrics, **options)


def glass_metrics(frame: Frame, b: str | Sequence[str] = "B", k: int = 2, rule: Rule = "all") -> Fields:
    """Count disjoint graphs, B-B edges and isolated A in the nearest-neighbor graph around species B.

    The three metrics of Swanson et al. (DOI 10.48550/arXiv.1909.04648) for a mixture of particles A and B.
    Edges join a particle to its k nearest neighbors of any species. Only edges that include a B are kept.

    - *Disjoint graphs*: connected graphs with at least one edge.
    - *B-B edges*: undirected edges with a B at both ends. Two images of one pair are two edges.
    - *Isolated A*: particles A without any edge. Every B has at least k edges.

    The definition can be read in two ways, which give very different counts:

    - "all", as in the published program: neighbors of all particles are linked, so an edge exists if either
      end is among the k nearest of the other. Nearly all B are connected to each other. In the
      two-dimensional Kob-Andersen mixture all three counts fall on cooling.
    - "b-only", as in the text of the paper: only neighbors of B are linked. There are far more graphs and
      isolated A, and the number of isolated A has a minimum in the supercooled liquid.

    Both readings have the same B-B edges. Those that remain in a glass come from thermal vibration: they
    vanish when the energy is minimized.

    Periodic images are searched as far as needed; two-dimensional frames are searched in their plane. In a
    repeated cell the numbers of B-B edges, isolated A and finite graphs are multiplied. A percolating graph,
    which is connected to its own images, counts once in any cell, so there are fewer graphs per particle.
    Among equally distant neighbors the lower row is taken as nearer, so in a perfect crystal the counts
    depend on the order of particles. Time is linear in the number of particles.

    Parameters
    ----------
    frame : Frame
    b : name or names of the species that are B; all others are A
    k : nearest neighbors of a particle
    rule : "all" (default) or "b-only"

    Returns
    -------
    Fields
        Per atom `graph_id` (0 without an edge, else 1, 2, ... by falling size), `isolated` (1 for an
        isolated A), `bb_degree` (B-B edges at a B, one to its own image counted at both ends); bonds
        `glass_bonds` with `bb` and `length`; per frame `n_disjoint_graphs`, `n_bb_edges`, `n_isolated_a`
        and each over the number of all particles.

    Raises
    ------
    ValueError
        If no particle is B or none is A, the rule is unknown, k is below 1, or k exceeds the number of
        other particles in a frame without periodic boundaries.

    Examples
    --------
    >>> from phaseseg import Frame, glass_metrics
    >>> x = [0.0, 1.0, 1.9, 4.0, 4.8, 6.0, 6.9]
    >>> frame = Frame([[v, 0, 0] for v in x], [9.0, 9.0, 9.0], False, list("ABBAAAA"), units="lj")
    >>> fields = glass_metrics(frame, k=1)
    >>> fields["graph_id"].tolist(), fields["n_disjoint_graphs"], fields["n_bb_edges"], fields["n_isolated_a"]
    ([1, 1, 1, 0, 0, 0, 0], 1, 1, 4)
    """
    is_b = frame.species_mask(named_b(frame, b, rule))
    if is_b.all():
        raise only_b(frame)
    of = np.ones_like(is_b) if rule == "all" else is_b
    nearest = nearest_neighbors(frame, k, of=None if rule == "all" else is_b)
    bonds = bonds_of(nearest, np.flatnonzero(of).astype(np.int32), is_b)
    counts = graph_counts(frame.n_atoms, is_b, bonds.atoms)
    numbers = frame_numbers(counts.n_disjoint_graphs, counts.n_bb_edges, counts.n_isolated_a, frame.n_atoms)
    return Fields(
        {
            "graph_id": counts.graph_id, "isolated": counts.isolated, "bb_degree": counts.bb_degree,
            "glass_bonds": bonds, **numbers,
        },
        frame.messages,
    )  # fmt: skip


def named_b(frame: Frame, b: str | Sequence[str], rule: str) -> tuple[str, ...]:
    """Return the names of the species B; ValueError for none, or an unknown rule."""
    where = frame.error_prefix
    if rule not in get_args(Rule):
        raise ValueError(f"{where}rule must be one of {', '.join(get_args(Rule))}, found {rule!r}.")
    names = (b,) if isinstance(b, str) else tuple(b)
    if not names:
        raise ValueError(f"{where}b names no species; the species of the frame are {_present(frame)}.")
    return names


def only_b(frame: Frame) -> ValueError:
    """The error for a frame without A."""
    return ValueError(
        f"{frame.error_prefix}metrics need both A and B, but all particles are of species {_present(frame)} "
        "(B)."
    )


def frame_numbers(n_disjoint_graphs: int, n_bb_edges: int, n_isolated_a: int, n_atoms: int) -> dict[str, Any]:
    """The fields of a frame from its counts."""
    return {
        "n_disjoint_graphs": n_disjoint_graphs, "n_bb_edges": n_bb_edges, "n_isolated_a": n_isolated_a,
        "disjoint_graphs_per_particle": n_disjoint_graphs / n_atoms,
        "bb_edges_per_particle": n_bb_edges / n_atoms, "isolated_a_per_particle": n_isolated_a / n_atoms,
    }  # fmt: skip


def _present(frame: Frame) -> str:
    return ", ".join(frame.species_names[code] for code in np.flatnonzero(frame.species_counts)) or "none"
