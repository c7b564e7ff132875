"""Compiled loops over the edges of spanning trees."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.families.environments.nearest_kernels import descend, work_arrays


@inner
def root_of(parents, i):
    """The root of a point; the path to it is halved."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@jit
def find_roots(parents):
    """(n,) the root of every point."""
    out = np.empty_like(parents)
    for i in range(parents.size):
        out[i] = root_of(parents, i)
    return out


@jit
def join(parents, candidates, edges, found):
    """Add the candidates, in their order, that join two components to `edges`; return the new number."""
    for e in range(len(candidates)):
        a, b = root_of(parents, candidates[e, 0]), root_of(parents, candidates[e, 1])
        if a != b:
            parents[max(a, b)] = min(a, b)
            edges[found, 0], edges[found, 1] = candidates[e, 0], candidates[e, 1]
            found += 1
    return found


@inner
def first_foreign(i, of, near):
    """Place of the first neighbor of a point in another component; the number of places if there is none."""
    for place in range(near.shape[1]):
        if near[i, place] < 0:
            break
        if of[near[i, place]] != of[i]:
            return place
    return near.shape[1]


@jit
def shortest_edges(tree, of, uniform, largest, near, squares, slack, best, ends):
    """Write the shortest edge from each component but the largest to another: its square and its ends.

    of : (n,) component of each point; near, squares : (n, k) its neighbors, the nearest first
    """
    values, order, k = tree[0], tree[1], near.shape[1]
    for i in order:
        if of[i] != largest:
            place = first_foreign(i, of, near)
            if place < k and squares[i, place] < best[of[i]]:
                best[of[i]], ends[of[i], 0], ends[of[i], 1] = squares[i, place], i, near[i, place]
    stack, bounds, hits, found, single = work_arrays(tree[4], 1)
    square, point = np.empty(1), np.empty(1, dtype=np.int64)
    for i in order:
        own = of[i]
        # What is not among the neighbors is at least as far as the last of them.
        if own == largest or squares[i, k - 1] >= best[own] or first_foreign(i, of, near) < k:
            continue
        found[0], square[0] = -2, best[own]
        single[: values.shape[1], 0] = values[i]
        descend(
            values[i], single, own, tree, of, uniform, slack, found, square, point, stack, bounds, hits
        )  # fmt: skip
        if found[0] >= 0:
            best[own], ends[own, 0], ends[own, 1] = square[0], i, point[0]


@jit
def cut_labels(n, edges, n_edges):
    """(n,) the first point of the component of each point under the first n_edges edges."""
    parents = np.arange(n)
    for e in range(n_edges):
        a, b = root_of(parents, edges[e, 0]), root_of(parents, edges[e, 1])
        parents[max(a, b)] = min(a, b)
    return find_roots(parents)


@inner
def _merge_tree(n, edges, weights):
    """Children of each merge (n - 1, 2), numbered from n on, and the weight of every node."""
    parents, node = np.arange(n), np.arange(n)
    children, size = np.empty((n - 1, 2), dtype=np.int64), np.empty(2 * n - 1)
    size[:n] = weights
    for e in range(n - 1):
        a, b = root_of(parents, edges[e, 0]), root_of(parents, edges[e, 1])
        children[e, 0], children[e, 1] = node[a], node[b]
        size[n + e] = size[node[a]] + size[node[b]]
        parents[max(a, b)] = min(a, b)
        node[min(a, b)] = n + e
    return children, size


@jit
def condense(n, edges, lengths, weights, smallest):
    """The arrays of `CondensedTree` from edges that are sorted by length.

    Merges at the same distance count as one after the other. Lengths of zero count as the least positive.
    """
    children, size = _merge_tree(n, edges, weights)
    least = 1.0
    for e in range(n - 1):
        if lengths[e] > 0:
            least = lengths[e]
            break
    most = 2 * n
    parents, born = np.full(most, -1), np.empty(most)
    died, sizes = np.zeros(most), np.empty(most)
    stability, homes = np.zeros(most), np.empty(n, dtype=np.int64)
    born[0], sizes[0] = np.inf, size[2 * n - 2]
    n_clusters = 1
    nodes, owners = np.empty(2 * n, dtype=np.int64), np.empty(2 * n, dtype=np.int64)
    dropped = np.empty(2 * n)  # distance at which a node has left its cluster, 0 while it belongs to it
    top = 1
    nodes[0], owners[0], dropped[0] = 2 * n - 2, 0, 0.0
    while top:
        top -= 1
        node, owner, left = nodes[top], owners[top], dropped[top]
        if node < n:
            homes[node] = owner
            at = left if left > 0 else least  # a heavy point alone stays to the end
            stability[owner] += weights[node] * (1 / at - 1 / born[owner])
            if left == 0:
                died[owner] = 0.0
            continue
        e = node - n
        a, b = children[e, 0], children[e, 1]
        at = max(lengths[e], least)
        big_a, big_b = size[a] >= smallest, size[b] >= smallest
        if left == 0 and big_a and big_b:
            died[owner] = at
            stability[owner] += size[node] * (1 / at - 1 / born[owner])
            for child in (a, b):
                parents[n_clusters], born[n_clusters], sizes[n_clusters] = owner, at, size[child]
                nodes[top], owners[top], dropped[top] = child, n_clusters, 0.0
                n_clusters += 1
                top += 1
            continue
        if left == 0 and not big_a and not big_b:
            died[owner] = at
        for child, big in ((a, big_a), (b, big_b)):
            gone = left
            if left == 0 and not big:
                gone = at
            nodes[top], owners[top], dropped[top] = child, owner, gone
            top += 1
    m = n_clusters
    return parents[:m], born[:m], died[:m], sizes[:m], stability[:m], homes
