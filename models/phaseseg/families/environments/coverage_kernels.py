"""Compiled loops of the selection by coverage."""

from __future__ import annotations

import heapq

import numpy as np

from phaseseg.compiled.jit import inner, jit


@inner
def squares_to(references, points, first, last, out):
    """out[r] = least squared distance from reference r to the points first ... last - 1.

    references : (d, n_references); points : (n_points, d)
    """
    d, n = references.shape
    out[:] = np.inf
    own = np.empty(n)
    for p in range(first, last):
        own[:] = 0
        for axis in range(d):
            x, row = points[p, axis], references[axis]
            for r in range(n):
                step = row[r] - x
                own[r] += step * step
        for r in range(n):
            out[r] = min(out[r], own[r])


@inner
def distances_to(references, points, first, last, out):
    """The roots of these squares."""
    squares_to(references, points, first, last, out)
    for r in range(out.size):
        out[r] = np.sqrt(out[r])


@inner
def gain_of(distances, current):
    """By how much the sum over references of the least distance falls with an item at these distances."""
    total = 0.0
    for r in range(current.size):
        off = current[r] - distances[r]
        total += off if off > 0.0 else 0.0
    return total


@inner
def learned(rows, first, last, covariance):
    """Add rows first ... last - 1 to a linear fit; return by how much log det (X^T X + prior) grows.

    covariance : (d, d) of the coefficients, the inverse of this matrix, updated
    """
    d = covariance.shape[0]
    total, v = 0.0, np.empty(d)
    for k in range(first, last):
        variance = 0.0
        for i in range(d):
            v[i] = 0.0
            for j in range(d):
                v[i] += covariance[i, j] * rows[k, j]
            variance += rows[k, i] * v[i]
        variance = max(variance, 0.0)
        total += np.log1p(variance)
        factor = 1 / (1 + variance)
        for i in range(d):
            for j in range(d):
                covariance[i, j] -= factor * v[i] * v[j]
    return total


@inner
def gain_of_item(c, distances, current, cost, least, rows, row_starts, covariance, scratch, share):
    """Gain per cost of item c: the fall of the distances and what its rows teach, to the powers of shares."""
    gain = gain_of(distances, current)
    if gain <= least * cost:
        return 0.0
    if share > 0:
        scratch[:] = covariance
        taught = learned(rows, row_starts[c], row_starts[c + 1], scratch)
        gain = gain ** (1 - share) * taught**share
    return gain / cost


@jit
def lazy_greedy(
    references, points, starts, costs, current, least, order, gains, stored, rows, row_starts, covariance,
    share,
):  # fmt: skip
    """Order the items by falling gain per cost, each given those before; return how many have any gain.

    Item c holds the points starts[c] ... starts[c + 1] - 1. A gain never grows as more items are chosen, so
    an old gain is a bound: only items whose bound is the largest are computed again.

    current : (n_references,) distance of each reference to what is chosen, updated
    least : items whose distances fall by no more than this per cost have no gain
    stored : (n_items, n_references) for the distances, or (0, n_references) to compute them again each time
    rows, row_starts : (n_rows, d), item c has the rows row_starts[c] ... row_starts[c + 1] - 1 of a fit;
        covariance : (d, d) of its coefficients, updated; share : exponent of what the rows teach, see
        `gain_of_item`. Zero for distances alone; then the three arrays are not read
    """
    scratch, keeps = np.empty(current.size), len(stored) > 0
    square = np.empty_like(covariance)
    heap = [(0.0, -1) for _ in range(0)]
    for c in range(costs.size):
        row = stored[c] if keeps else scratch
        distances_to(references, points, starts[c], starts[c + 1], row)
        gain = gain_of_item(c, row, current, costs[c], least, rows, row_starts, covariance, square, share)
        heap.append((-gain, c))
    heapq.heapify(heap)
    fresh = np.zeros(costs.size, dtype=np.int64)  # number of chosen items when the gain was computed
    found = 0
    while len(heap) > 0:
        bound, c = heapq.heappop(heap)
        if -bound <= 0:
            break
        row = stored[c] if keeps else scratch
        if not keeps:
            distances_to(references, points, starts[c], starts[c + 1], row)
        if fresh[c] < found:
            fresh[c] = found
            gain = gain_of_item(c, row, current, costs[c], least, rows, row_starts, covariance, square, share)
            heapq.heappush(heap, (-gain, c))
            continue
        order[found], gains[found] = c, -bound
        found += 1
        for r in range(current.size):
            current[r] = min(current[r], row[r])
        if share > 0:
            learned(rows, row_starts[c], row_starts[c + 1], covariance)
    return found


@jit
def farthest_first(points, starts, first_item, order):
    """Order the items: next comes that with the point farthest from all points of those before."""
    n, d = points.shape
    far = np.full(n, np.inf)
    taken = np.zeros(order.size, dtype=np.bool_)
    c = first_item
    for step in range(order.size):
        order[step], taken[c] = c, True
        for p in range(starts[c], starts[c + 1]):
            for q in range(n):
                total = 0.0
                for axis in range(d):
                    total += (points[p, axis] - points[q, axis]) ** 2
                far[q] = min(far[q], total)
        best = -1.0
        for item in range(order.size):
            if not taken[item]:
                for q in range(starts[item], starts[item + 1]):
                    if far[q] > best:
                        best, c = far[q], item


@jit
def most_surprising_first(points, starts, first_item, width, order):
    """Order the items: next comes that with the largest mean of -log of the density of the points before.

    The density is a sum of exp(-d^2 / 2 width^2); 1e-300 is added to it.
    """
    n, d = points.shape
    density = np.full(n, 1e-300)
    taken = np.zeros(order.size, dtype=np.bool_)
    c, factor = first_item, -0.5 / width**2
    for step in range(order.size):
        order[step], taken[c] = c, True
        for p in range(starts[c], starts[c + 1]):
            for q in range(n):
                total = 0.0
                for axis in range(d):
                    total += (points[p, axis] - points[q, axis]) ** 2
                density[q] += np.exp(factor * total)
        best = -np.inf
        for item in range(order.size):
            if not taken[item]:
                surprise = 0.0
                for q in range(starts[item], starts[item + 1]):
                    surprise -= np.log(density[q])
                surprise /= starts[item + 1] - starts[item]
                if surprise > best:
                    best, c = surprise, item
