"""Structural metrics of a glass former: graphs around the minority species B, its pairs, and isolated A.

Nothing is learned here. Edges join nearest neighbors; what is counted on them is the same for edges that
come from elsewhere, for example from the attention of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.jit import jit
from phaseseg.fields import Bonds, Fields
from phaseseg.frame import Frame
from phaseseg.neighbors import NearestNeighbors, nearest_neighbors, place_among

Rule = Literal["all", "b-only"]


# Counts on edges ----------------------------------------------------------------------------------


class GraphCounts(NamedTuple):
    """Counts from a set of edges, per particle and in total.

    graph_id : (n_atoms,) int32; 0 without an edge, else the number of the graph: 1 has the most
        particles, and of graphs of one size the lower number has the particle of the lowest row
    isolated : (n_atoms,) int8; 1 for an A without an edge
    bb_degree : (n_atoms,) int32; B-B edges at a B, those to its own images twice; 0 for A
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
    """Connected graphs, B-B edges and isolated A of undirected edges. Linear in particles and edges.

    Parameters
    ----------
    n_atoms : number of particles
    is_b : (n_atoms,) bool
    atoms : (n_edges, 2) integers, both ends of every edge; edges between the same two particles (in
        different images) count each for itself, and so does an edge from a particle to its own image
    keep : (n_edges,) bool, the edges that count; None: all

    Raises
    ------
    ValueError
        Arrays whose lengths do not go together, or an edge to a particle that is not there.

    >>> counts = graph_counts(5, [False, True, True, False, False], [[0, 1], [1, 2]])
    >>> counts.graph_id.tolist(), counts.n_disjoint_graphs, counts.n_bb_edges, counts.n_isolated_a
    ([1, 1, 1, 0, 0], 1, 1, 2)
    """
    b = np.ascontiguousarray(is_b, dtype=bool)
    ends = np.ascontiguousarray(atoms, dtype=np.int64).reshape(-1, 2)
    kept = np.ones(len(ends), dtype=bool) if keep is None else np.ascontiguousarray(keep, dtype=bool)
    if b.shape != (n_atoms,) or kept.shape != (len(ends),):
        raise ValueError(
            f"{n_atoms} particles and {len(ends)} edges need as many flags, found {b.size} and {kept.size}."
        )
    if len(ends) and not 0 <= ends.min() <= ends.max() < n_atoms:
        raise ValueError(f"edges name particles {ends.min()} to {ends.max()}, but there are {n_atoms}.")
    root, bb_degree = np.empty(n_atoms, dtype=np.int32), np.zeros(n_atoms, dtype=np.int32)
    sizes = np.zeros(n_atoms, dtype=np.int32)
    n_bb = _connect(b, ends, kept, root, bb_degree, sizes)
    roots = np.flatnonzero(sizes)
    # Stable: graphs of one size keep the order of their lowest rows.
    number = np.empty(len(roots), dtype=np.int32)
    number[np.argsort(-sizes[roots], kind="stable")] = np.arange(1, len(roots) + 1)
    sizes[roots] = number
    graph_id, isolated = np.empty(n_atoms, dtype=np.int32), np.empty(n_atoms, dtype=np.int8)
    n_isolated = _number(b, root, sizes, graph_id, isolated)
    return GraphCounts(graph_id, isolated, bb_degree, len(roots), int(n_bb), int(n_isolated))


@jit
def _root(parent, atom):
    while parent[atom] != atom:
        parent[atom] = parent[parent[atom]]
        atom = parent[atom]
    return atom


@jit
def _connect(is_b, atoms, keep, parent, bb_degree, sizes):
    """Fill the root of every particle, its lowest row, -1 without an edge; sizes of graphs at their roots."""
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
        a, b = _root(parent, i), _root(parent, j)
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for atom in range(parent.size):
        if sizes[atom] == 0:
            parent[atom] = -1
            continue
        # A parent has a lower row than its child: those before this one are roots already.
        root = parent[parent[atom]]
        parent[atom] = root
        if root != atom:
            sizes[atom] = 0
            sizes[root] += 1
    return n_bb


@jit
def _number(is_b, root, number, graph_id, isolated):
    n_isolated = 0
    for atom in range(root.size):
        graph_id[atom] = number[root[atom]] if root[atom] >= 0 else 0
        isolated[atom] = root[atom] < 0 and not is_b[atom]
        n_isolated += isolated[atom]
    return n_isolated


# Edges between nearest neighbors ------------------------------------------------------------------


@jit
def _kept(nearest, shifts, of, rows, is_b, keep):
    """Mark the pairs that touch a B, each once; how many there are."""
    n = 0
    for row in range(of.size):
        i = of[row]
        for m in range(nearest.shape[1]):
            j = nearest[row, m]
            keep[row, m] = False
            if not (is_b[i] or is_b[j]):
                continue
            # A pair that both know is written down at its lower row, one with an own image at its first.
            if rows[j] >= 0 and (j < i or j == i):
                place = place_among(nearest, shifts, i, row, m, rows[j])
                if place >= 0 and (j < i or place < m):
                    continue
            keep[row, m] = True
            n += 1
    return n


@jit
def _write_pairs(nearest, lengths, shifts, of, is_b, keep, atoms, images, bb, length):
    e = 0
    for row in range(of.size):
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


def _bonds(nearest: NearestNeighbors, of: NDArray[np.int32], is_b: NDArray[np.bool_]) -> Bonds:
    """The pairs of nearest neighbors that touch a B, each once; row r of `nearest` belongs to atom of[r]."""
    rows = np.full(len(is_b), -1, dtype=np.int32)
    rows[of] = np.arange(len(of), dtype=np.int32)
    keep = np.empty(nearest.neighbors.shape, dtype=bool)
    n = _kept(nearest.neighbors, nearest.shifts, of, rows, is_b, keep)
    atoms, shifts = np.empty((n, 2), dtype=np.int64), np.empty((n, 3), dtype=np.int32)
    bb, length = np.empty(n, dtype=np.int8), np.empty(n, dtype=np.float32)
    _write_pairs(*nearest, of, is_b, keep, atoms, shifts, bb, length)
    return Bonds(atoms, shifts, {"bb": bb, "length": length})


def measurer(options: Mapping[str, Any]) -> Callable[[Frame], Fields]:
    """A function that measures frames with these options of `glass_metrics`."""
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
    Edges join a particle to its k nearest neighbors, of whatever species, and only those that touch a B are
    kept.

    - *Disjoint graphs*: connected graphs that hold at least one edge.
    - *B-B edges*: undirected edges with a B at both ends. Two images of one pair are two edges.
    - *Isolated A*: particles A without any edge. Every B has at least k.

    Which particles choose their k nearest can be read in two ways, and the counts differ much. Numbers are
    of the two-dimensional Kob-Andersen mixture (65:35, 4320 particles) at T = 1.99 and, cooled, at 0.05.

    - "all", as in the published program: every particle, A and B, chooses, and an edge is there if either
      end has chosen the other. An A is isolated if it has no B among its k nearest and no B has it.
      Nearly all B hang together: 39 graphs become 2, 186 isolated A 42. All three counts fall on cooling.
    - "b-only", the literal text: only B choose. 554 graphs become 467, and 868 isolated A 859, after a
      minimum of 790 in the supercooled liquid: they do not fall.

    The B-B edges are the same, 152 and 3. What is left of them in a glass is thermal vibration: they vanish
    when the energy is minimized.

    Neighbors are looked for through periodic boundaries, over as many images as the cell asks for, and in
    the plane alone where the frame has two dimensions. When a cell is repeated, B-B edges and isolated A
    are repeated with it, and so are graphs of finite extent; a graph that percolates, that is connected to
    its own images, counts once in any cell, so that graphs per particle become fewer. Of neighbors that
    are equally far the one of the lower row is the nearer: in a perfect crystal the counts depend on the
    order of particles. Linear in particles, about one second for a million.

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
        No particle is B, or none is A; an unknown rule; k below 1, or larger than the number of other
        particles where nothing is periodic.

    Examples
    --------
    >>> from phaseseg import Frame, glass_metrics
    >>> x = [0.0, 1.0, 1.9, 4.0, 4.8, 6.0, 6.9]
    >>> frame = Frame([[v, 0, 0] for v in x], [9.0, 9.0, 9.0], False, list("ABBAAAA"), units="lj")
    >>> fields = glass_metrics(frame, k=1)
    >>> fields["graph_id"].tolist(), fields["n_disjoint_graphs"], fields["n_bb_edges"], fields["n_isolated_a"]
    ([1, 1, 1, 0, 0, 0, 0], 1, 1, 4)
    """
    where = frame.error_prefix
    if rule not in get_args(Rule):
        raise ValueError(f"{where}rule must be one of {', '.join(get_args(Rule))}, found {rule!r}.")
    names = (b,) if isinstance(b, str) else tuple(b)
    if not names:
        raise ValueError(f"{where}no species is named as B; the species here are {_present(frame)}.")
    is_b = frame.species_mask(names)
    if is_b.all():
        raise ValueError(
            f"{where}metrics need both A and B, but all particles are of species {_present(frame)} (B)."
        )
    of = np.ones_like(is_b) if rule == "all" else is_b
    nearest = nearest_neighbors(frame, k, of=None if rule == "all" else is_b)
    bonds = _bonds(nearest, np.flatnonzero(of).astype(np.int32), is_b)
    counts, n = graph_counts(frame.n_atoms, is_b, bonds.atoms), frame.n_atoms
    return Fields(
        {
            "graph_id": counts.graph_id, "isolated": counts.isolated, "bb_degree": counts.bb_degree,
            "glass_bonds": bonds, "n_disjoint_graphs": counts.n_disjoint_graphs,
            "n_bb_edges": counts.n_bb_edges, "n_isolated_a": counts.n_isolated_a,
            "disjoint_graphs_per_particle": counts.n_disjoint_graphs / n,
            "bb_edges_per_particle": counts.n_bb_edges / n,
            "isolated_a_per_particle": counts.n_isolated_a / n,
        }
    )  # fmt: skip


def _present(frame: Frame) -> str:
    return ", ".join(frame.species_names[code] for code in np.unique(frame.species)) or "none"
