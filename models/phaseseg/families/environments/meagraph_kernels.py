"""Compiled loops over the pairs of a graph in descriptor space. A pair stands for both of its directions."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit


@inner
def _close(points, i, j, square):
    """Whether two points are within a distance; the sum ends early."""
    total = 0.0
    for c in range(points.shape[1]):
        step = points[i, c] - points[j, c]
        total += step * step
        if total > square:
            return False
    return True


@jit
def count_pairs(points, square, most):
    """Number of pairs within a distance, up to about `most`; points rise along their first coordinate."""
    n, found = len(points), 0
    for i in range(n):
        if found > most:
            break
        for j in range(i + 1, n):
            if (points[j, 0] - points[i, 0]) ** 2 > square:
                break
            if _close(points, i, j, square):
                found += 1
    return found


@jit
def fill_pairs(points, square, first, second):
    """The pairs that `count_pairs` counts."""
    n, found = len(points), 0
    for i in range(n):
        for j in range(i + 1, n):
            if (points[j, 0] - points[i, 0]) ** 2 > square:
                break
            if _close(points, i, j, square):
                first[found], second[found] = i, j
                found += 1


@jit
def largest_distance(points, radii):
    """Largest distance of two points; radii from any common center, in falling order, bound the search."""
    best, n = 0.0, len(points)
    for i in range(n):
        if 2 * radii[i] <= best:
            break
        for j in range(i + 1, n):
            if radii[i] + radii[j] <= best:
                break
            total = 0.0
            for c in range(points.shape[1]):
                total += (points[i, c] - points[j, c]) ** 2
            best = max(best, np.sqrt(total))
    return best


@jit
def pair_distances(values, first, second, out):
    """out : (n_pairs,) Euclidean distance of the two rows of each pair."""
    for e in range(len(first)):
        i, j = first[e], second[e]
        total = 0.0
        for c in range(values.shape[1]):
            total += (values[i, c] - values[j, c]) ** 2
        out[e] = np.sqrt(total)


@jit
def pair_distances_back(values, first, second, distances, gradient, out):
    """Add the gradient of `pair_distances` to `out`; that of a distance of zero is zero."""
    for e in range(len(first)):
        if distances[e] == 0.0:
            continue
        i, j, factor = first[e], second[e], gradient[e] / distances[e]
        for c in range(values.shape[1]):
            step = factor * (values[i, c] - values[j, c])
            out[i, c] += step
            out[j, c] -= step


@jit
def pair_sums(values, first, second, scores, out):
    """Add scores * values of the other node of each pair to both of its nodes."""
    for e in range(len(first)):
        i, j, score = first[e], second[e], scores[e]
        for c in range(values.shape[1]):
            out[i, c] += score * values[j, c]
            out[j, c] += score * values[i, c]


@jit
def pair_products(values, gradient, first, second, out):
    """out : (n_pairs,) gradient of `pair_sums` with respect to the scores."""
    for e in range(len(first)):
        i, j = first[e], second[e]
        total = 0.0
        for c in range(values.shape[1]):
            total += gradient[i, c] * values[j, c] + gradient[j, c] * values[i, c]
        out[e] = total
