"""Communities of a graph of nearest neighbors: the Leiden algorithm for modularity with a resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from phaseseg.families.environments.community_kernels import move_nodes, refine
from phaseseg.families.environments.nearest import Index

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_ROUNDS = 10
"""Rounds of the algorithm, each of which starts from the communities of the last."""


def neighbor_matrix(points: Doubles, n_neighbors: int) -> Any:
    """(n, n) sparse: 1 where one of two points is among the nearest neighbors of the other, 2 if both are."""
    n = len(points)
    k = min(n_neighbors, n - 1)
    if k < 1:
        return csr_matrix((n, n))
    near = Index(points).search(k)[0]
    one = coo_matrix((np.ones(n * k), (np.repeat(np.arange(n), k), near.ravel())), shape=(n, n)).tocsr()
    return (one + one.T).tocsr()


def communities(graph: Any, resolution: float, rng: np.random.Generator) -> Integers:
    """Return (n,) communities of a symmetric weighted graph, numbered from 0 on in any order.

    They approach a maximum of the modularity

        Σ_c [w_c - resolution K_c^2 / K] / K,

    where w_c is the sum of the matrix within the community, K_c the sum of the degrees and K that of all.
    Every community is connected. A node without edges is a community.

    graph : (n, n) sparse matrix of positive weights; resolution : the larger, the more communities

    References
    ----------
    Traag, Waltman, van Eck, Sci. Rep. 9, 5233 (2019), doi:10.1038/s41598-019-41695-z;
    Reichardt, Bornholdt, Phys. Rev. E 74, 016110 (2006), doi:10.1103/PhysRevE.74.016110.
    """
    labels = np.arange(graph.shape[0])
    degrees = np.asarray(graph.sum(axis=1)).ravel().astype(np.float64)
    scale = resolution / max(float(degrees.sum()), 1e-300)
    for _ in range(MOST_ROUNDS):
        found = _round(graph, degrees, scale, labels, rng)
        if len(np.unique(found)) == len(np.unique(labels)) and _same(found, labels):
            break
        labels = found
    return labels


def _round(
    graph: Any, degrees: Doubles, scale: float, labels: Integers, rng: np.random.Generator
) -> Integers:
    """Move nodes, refine, and go on with the parts as nodes, until every community is one node."""
    members = np.arange(len(labels))
    labels = _numbered(labels)
    while True:
        n = len(labels)
        indptr, neighbors = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
        weights = graph.data.astype(np.float64)
        moves = move_nodes(indptr, neighbors, weights, degrees, rng.permutation(n), scale, labels)
        parts = np.empty(n, dtype=np.int64)
        refine(indptr, neighbors, weights, degrees, rng.permutation(n), scale, labels, parts)
        kept, parts = np.unique(parts, return_inverse=True)
        if len(kept) == n or (not moves and len(np.unique(labels)) == n):
            return _numbered(labels)[members]
        parts = parts.reshape(-1)
        to_part = csr_matrix((np.ones(n), (np.arange(n), parts)), shape=(n, len(kept)))
        graph = (to_part.T @ graph @ to_part).tocsr()
        degrees = np.bincount(parts, weights=degrees).astype(np.float64)
        members, labels = parts[members], _numbered(labels[kept])


def _numbered(labels: Integers) -> Integers:
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _same(one: Integers, two: Integers) -> bool:
    """Whether two partitions with equally many parts are the same."""
    pairs = np.unique(np.stack([one, two]), axis=1)
    return int(pairs.shape[1]) == len(np.unique(one))
