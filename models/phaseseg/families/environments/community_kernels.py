"""Compiled steps of the Leiden algorithm on a graph in CSR form: modularity with a resolution."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit


@inner
def _weights_to(v, indptr, neighbors, weights, labels, to, seen):
    """Add the weights of the edges from v to each community into `to`; list the communities in `seen`."""
    n = 0
    for e in range(indptr[v], indptr[v + 1]):
        u = neighbors[e]
        if u != v:
            c = labels[u]
            if to[c] == 0:
                seen[n] = c
                n += 1
            to[c] += weights[e]
    return n


@jit
def move_nodes(indptr, neighbors, weights, degrees, order, scale, labels):
    """Move nodes to the community of the largest gain until no move gains anything; return their number.

    A node gains Σ w to the community minus scale times its degree times the degree of the community, where
    `scale` is the resolution over the sum of all degrees. Nodes are visited in `order`, and again when a
    neighbor has left. labels : (n,) communities 0 ... n - 1, changed in place
    """
    n = order.size
    total, members = np.zeros(n), np.zeros(n, dtype=np.int64)
    for v in range(n):
        total[labels[v]] += degrees[v]
        members[labels[v]] += 1
    free, n_free = np.empty(n, dtype=np.int64), 0
    for c in range(n - 1, -1, -1):
        if members[c] == 0:
            free[n_free] = c
            n_free += 1
    queue, waits = order.copy(), np.ones(n, dtype=np.bool_)
    to, seen = np.zeros(n), np.empty(n, dtype=np.int64)
    head, length, moves = 0, n, 0
    while length > 0:
        v = queue[head]
        head, length, waits[v] = (head + 1) % n, length - 1, False
        own = labels[v]
        found = _weights_to(v, indptr, neighbors, weights, labels, to, seen)
        total[own] -= degrees[v]
        members[own] -= 1
        best, most = own, to[own] - scale * degrees[v] * total[own]
        for s in range(found):
            c = seen[s]
            gain = to[c] - scale * degrees[v] * total[c]
            if gain > most + 1e-10:
                best, most = c, gain
        for s in range(found):
            to[seen[s]] = 0
        if most < -1e-10 and members[own] > 0:  # better alone
            n_free -= 1
            best = free[n_free]
        if members[own] == 0 and best != own:
            free[n_free] = own
            n_free += 1
        total[best] += degrees[v]
        members[best] += 1
        if best == own:
            continue
        labels[v] = best
        moves += 1
        for e in range(indptr[v], indptr[v + 1]):
            u = neighbors[e]
            if not waits[u] and labels[u] != best:
                queue[(head + length) % n] = u
                waits[u] = True
                length += 1
    return moves


@jit
def refine(indptr, neighbors, weights, degrees, order, scale, labels, parts):
    """Divide every community into parts that are connected within it: `parts` (n,), from single nodes.

    A node that is still alone joins the part of its community with the largest gain, if both hang together
    well enough with the rest of the community.
    """
    n = order.size
    whole, own = np.zeros(n), degrees.copy()
    border = np.zeros(n)  # weight between a part and the rest of its community
    for v in range(n):
        parts[v] = v
        whole[labels[v]] += degrees[v]
        for e in range(indptr[v], indptr[v + 1]):
            if neighbors[e] != v and labels[neighbors[e]] == labels[v]:
                border[v] += weights[e]
    alone = np.ones(n, dtype=np.bool_)
    to, seen = np.zeros(n), np.empty(n, dtype=np.int64)
    for v in order:
        rest = whole[labels[v]] - degrees[v]
        if not alone[v] or border[v] < scale * degrees[v] * rest:
            continue
        found = _weights_to(v, indptr, neighbors, weights, parts, to, seen)
        best, most = v, 0.0
        for s in range(found):
            c = seen[s]
            gain = to[c] - scale * degrees[v] * own[c]
            if (
                labels[c] == labels[v]
                and border[c] >= scale * own[c] * (whole[labels[v]] - own[c])
                and gain > most
            ):
                best, most = c, gain
        joined = to[best] if best != v else 0.0
        for s in range(found):
            to[seen[s]] = 0
        if best != v:
            parts[v] = best
            own[best] += degrees[v]
            border[best] += border[v] - 2 * joined
            alone[v] = alone[best] = False
