"""Compiled search in a k-d tree of leaves of `WIDTH` points, whose coordinates lie axis by axis."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.simd import WIDTH as LANES, bits_at_most, greater, list_bits, load, splat, total

WIDTH = 32
"""Points of a leaf."""
GROUP = 32
"""Queries that go down a tree together; a multiple of the lanes of a register."""


@inner
def _swap(order, i, j):
    order[i], order[j] = order[j], order[i]


@inner
def select(points, axis, order, first, last, place):
    """Permute order[first:last] so that no coordinate before `place` is larger than one from there on."""
    low, high = first, last - 1
    while low < high:
        middle = (low + high) // 2
        # The median of three as the pivot; equal values stop both scans, so they are shared out.
        for a, b in ((low, middle), (low, high), (middle, high)):
            if points[order[b], axis] < points[order[a], axis]:
                _swap(order, a, b)
        pivot = points[order[middle], axis]
        i, j = low, high
        while i <= j:
            while points[order[i], axis] < pivot:
                i += 1
            while points[order[j], axis] > pivot:
                j -= 1
            if i <= j:
                _swap(order, i, j)
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            return


@inner
def box_of(points, rows, box):
    """Write the lowest and highest coordinates of some points."""
    box[0], box[1] = np.inf, -np.inf
    for i in rows:
        for axis in range(points.shape[1]):
            box[0, axis] = min(box[0, axis], points[i, axis])
            box[1, axis] = max(box[1, axis], points[i, axis])


@jit
def build(points, order, children, boxes):
    """Sort `order` into leaves and write children (-1 - leaf for a leaf) and boxes (low, high) of all nodes.

    Nodes are split across their widest axis. Children have higher numbers than their parents.
    """
    n, d = points.shape
    n_leaves = (n + WIDTH - 1) // WIDTH
    stack = np.empty((64, 3), dtype=np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, 0, n_leaves
    top, n_nodes = 1, 1
    while top:
        top -= 1
        node, begin, end = stack[top, 0], stack[top, 1], stack[top, 2]
        first, last = begin * WIDTH, min(end * WIDTH, n)
        box_of(points, order[first:last], boxes[node])
        if end - begin == 1:
            children[node, 0] = children[node, 1] = -1 - begin
            continue
        widest = 0
        for axis in range(1, d):
            if boxes[node, 1, axis] - boxes[node, 0, axis] > boxes[node, 1, widest] - boxes[node, 0, widest]:
                widest = axis
        middle = (begin + end) // 2
        select(points, widest, order, first, last, middle * WIDTH)
        for side in range(2):
            children[node, side] = n_nodes
            stack[top, 0] = n_nodes
            stack[top, 1], stack[top, 2] = (begin, middle) if side == 0 else (middle, end)
            top += 1
            n_nodes += 1


@jit
def fill_leaves(points, order, leaves):
    """leaves[leaf, axis, place] = coordinate in float32; places behind the last point are infinitely far."""
    n, d = points.shape
    leaves[:] = np.inf
    for i in range(n):
        for axis in range(d):
            leaves[i // WIDTH, axis, i % WIDTH] = points[order[i], axis]


@jit
def uniform_labels(labels, order, children, out):
    """out[node] = the label of all points under it, or -1 if they differ."""
    n = order.size
    for node in range(len(children) - 1, -1, -1):
        a, b = children[node, 0], children[node, 1]
        if a < 0:
            first = (-1 - a) * WIDTH
            out[node] = labels[order[first]]
            for i in range(first + 1, min(first + WIDTH, n)):
                if labels[order[i]] != out[node]:
                    out[node] = -1
                    break
        else:
            out[node] = out[a] if out[a] == out[b] else -1


@inner
def box_distance(query, boxes, node):
    """Squared distance of a point to the box of a node."""
    total = 0.0
    for axis in range(query.size):
        below, above = boxes[node, 0, axis] - query[axis], query[axis] - boxes[node, 1, axis]
        off = below if below > above else above
        off = off if off > 0.0 else 0.0
        total += off * off
    return total


@inner
def outer_distance(single, outer, node):
    """The same in float32, of boxes that hold those of float64."""
    width = single.size
    at, far = 2 * node * width, splat(np.float32(0))
    for first in range(0, width, LANES):
        x = load(single, first)
        off = greater(load(outer, at + first) - x, x - load(outer, at + width + first))
        off = greater(off, splat(np.float32(0)))
        far = far + off * off
    return total(far)


@inner
def insert(labels, squares, points, square, label, point):
    """Put a point into the sorted list of the nearest of each label; its square is below the last."""
    k = squares.size
    place = k - 1
    for q in range(k):
        if labels[q] == label:
            if squares[q] <= square:
                return
            place = q
            break
    while place > 0 and squares[place - 1] > square:
        labels[place], squares[place], points[place] = (
            labels[place - 1], squares[place - 1], points[place - 1]
        )  # fmt: skip
        place -= 1
    labels[place], squares[place], points[place] = label, square, point


@inner
def insert_hits(query, own, hits, n, first, values, order, labels, found, squares, points):
    """Insert the hits behind a place of `order` that are near enough in float64 and have another label."""
    for h in range(n):
        point = order[first + hits[h]]
        label = labels[point]
        if label != own:
            square = 0.0
            for axis in range(query.size):
                square += (values[point, axis] - query[axis]) ** 2
            if square < squares[-1]:
                insert(found, squares, points, square, label, point)


@inner
def hits_of_leaf(leaves, leaf, x, row, limit, hits):
    """List the places of a leaf whose float32 squares from x[:, row] are up to a limit; return how many."""
    d = leaves.shape[1]
    at, most, n = leaf * d * WIDTH, splat(limit), 0
    for first in range(0, WIDTH, 2 * LANES):
        far = other = splat(np.float32(0))
        for axis in range(d):
            own, place = splat(x[axis, row]), at + axis * WIDTH + first
            step, next_step = load(leaves, place) - own, load(leaves, place + LANES) - own
            far, other = far + step * step, other + next_step * next_step
        n = list_bits(bits_at_most(far, most), first, hits, n)
        n = list_bits(bits_at_most(other, most), first + LANES, hits, n)
    return n


@inner
def single_limit(square, slack):
    """Squares in float32 up to this may belong to points below a square in float64."""
    return np.float32(min((np.sqrt(square) + slack) ** 2 * (1 + 1e-6), 3e38))


@inner
def descend(query, single, own, tree, labels, uniform, slack, found, squares, points, stack, bounds, hits):
    """Fill the sorted lists `found`, `squares`, `points` with the nearest points of k labels other than own.

    single : the query in float32, padded with zeros
    squares : holds the bounds to start from; only what is below the last is found
    """
    values, order, children, boxes, outer, leaves = tree
    k = squares.size
    # Float32 does not tell apart what is this close.
    close = (100 * slack) ** 2
    limit = single_limit(squares[k - 1], slack)
    stack[0], bounds[0] = 0, np.float32(0)
    top = 1
    while top:
        top -= 1
        node = stack[top]
        if bounds[top] > limit or (own >= 0 and uniform[node] == own):
            continue
        if squares[k - 1] < close and box_distance(query, boxes, node) >= squares[k - 1]:
            continue
        a, b = children[node, 0], children[node, 1]
        if a >= 0:
            near, other = outer_distance(single, outer, a), outer_distance(single, outer, b)
            if other < near:
                a, b, near, other = b, a, other, near
            if other <= limit:
                stack[top], bounds[top] = b, other
                top += 1
            stack[top], bounds[top] = a, near
            top += 1
            continue
        first = (-1 - a) * WIDTH
        n = hits_of_leaf(leaves, -1 - a, single, 0, limit, hits)
        insert_hits(query, own, hits, n, first, values, order, labels, found, squares, points)
        limit = single_limit(squares[k - 1], slack)


@inner
def work_arrays(outer, k):
    """Stack, bounds, hits, labels and the query in float32 of `descend`."""
    return (
        np.empty(128, dtype=np.int64), np.empty(128, dtype=np.float32),
        np.empty(WIDTH + LANES, dtype=np.int32), np.empty(k, dtype=np.int64),
        np.zeros((outer.shape[2], 1), dtype=np.float32),
    )  # fmt: skip


@inner
def near_box(x, limits, outer, node, asked):
    """List the places of a group whose squared distance in float32 to a box is up to their limits."""
    n = 0
    for first in range(0, GROUP, LANES):
        far = splat(np.float32(0))
        for axis in range(len(x)):
            here = load(x, axis * GROUP + first)
            off = greater(splat(outer[node, 0, axis]) - here, here - splat(outer[node, 1, axis]))
            off = greater(off, splat(np.float32(0)))
            far = far + off * off
        n = list_bits(bits_at_most(far, load(limits, first)), np.int32(first), asked, n)
    return n


@inner
def _still_asked(queries, group, own, squares, boxes, uniform, node, close, asked, n):
    """Keep what may find something under a node: another label, and nearer points, in float64 if `close`."""
    k, kept = squares.shape[1], 0
    for h in range(n):
        q = group[asked[h]]
        if own[q] >= 0 and uniform[node] == own[q]:
            continue
        if squares[q, k - 1] < close and box_distance(queries[q], boxes, node) >= squares[q, k - 1]:
            continue
        asked[kept] = asked[h]
        kept += 1
    return kept


@jit
def search(queries, own, sequence, tree, labels, uniform, slack, points, squares):
    """For every query the nearest points of k labels other than its own, sorted: points (n, k), squares.

    Groups of queries go down the tree together, each to the boxes near enough for it. A leaf is read once for
    a group, and a box is compared with all of its queries in one vector.

    sequence : the order in which queries are answered; near ones after each other
    squares : what is found is below the last of a row
    """
    values, order, children, boxes, outer, leaves = tree
    d, k = queries.shape[1], squares.shape[1]
    # Float32 does not tell apart what is this close.
    close = (100 * slack) ** 2
    x, limits = np.zeros((d, GROUP), dtype=np.float32), np.empty(GROUP, dtype=np.float32)
    asked, hits = np.empty(GROUP + LANES, dtype=np.int32), np.empty(WIDTH + LANES, dtype=np.int32)
    box, center = np.empty((2, d)), np.zeros(outer.shape[2], dtype=np.float32)
    stack, found = np.empty(128, dtype=np.int64), np.empty((GROUP, k), dtype=np.int64)
    for first in range(0, len(sequence), GROUP):
        group = sequence[first : first + GROUP]
        box_of(queries, group, box)
        center[:d] = 0.5 * (box[0] + box[1])
        limits[:] = np.float32(-1)
        for row in range(len(group)):
            limits[row] = single_limit(squares[group[row], k - 1], slack)
            for axis in range(d):
                x[axis, row] = queries[group[row], axis]
        found[:] = -2
        nearest = squares[group, k - 1].min()
        stack[0], top = 0, 1
        while top:
            top -= 1
            node = stack[top]
            n = near_box(x, limits, outer, node, asked)
            if n and (uniform[node] >= 0 or nearest < close):
                n = _still_asked(queries, group, own, squares, boxes, uniform, node, close, asked, n)
            if n == 0:
                continue
            a, b = children[node, 0], children[node, 1]
            if a >= 0:
                if outer_distance(center, outer, b) < outer_distance(center, outer, a):
                    a, b = b, a
                stack[top], stack[top + 1] = b, a
                top += 2
                continue
            leaf = -1 - a
            for h in range(n):
                row = asked[h]
                q = group[row]
                n_hits = hits_of_leaf(leaves, leaf, x, row, limits[row], hits)
                if n_hits == 0:
                    continue
                insert_hits(
                    queries[q], own[q], hits, n_hits, leaf * WIDTH, values, order, labels, found[row],
                    squares[q], points[q],
                )  # fmt: skip
                limits[row] = single_limit(squares[q, k - 1], slack)
                nearest = min(nearest, squares[q, k - 1])
