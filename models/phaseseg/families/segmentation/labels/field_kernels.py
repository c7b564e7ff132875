"""Compiled loops on a field on a grid: its slopes and curvature, its histogram, its values at points.

As `density_kernels`.
"""

from __future__ import annotations

from math import floor

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.families.segmentation.labels.density_kernels import grid_index


@inner
def _log(x):
    """Natural logarithm of a positive normal float32, to 1e-7; unlike numpy.log it vectorizes."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    # The mantissa, between sqrt(1/2) and sqrt(2).
    m = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
    t = (m - np.float32(1)) / (m + np.float32(1))
    t2 = t * t
    series = np.float32(2 / 7) * t2 + np.float32(2 / 5)
    series = (series * t2 + np.float32(2 / 3)) * t2 + np.float32(2)
    return np.float32(exponent) * np.float32(0.6931471805599453) + series * t


@jit
def mean_and_log(first, stop, num, den, least):
    """In place, flat arrays: `num` becomes num / den and `den` its logarithm, of at least `least`."""
    for v in range(first, stop):
        d = max(den[v], least)
        num[v] /= d
        den[v] = _log(d)


@jit
def slope_histogram(first, stop, values, scale, metric, wrap, low, width, counts, sums, weights):
    """Histograms of planes of voxels, added to the last three arrays: their number, the sum of their values,
    and that of |grad|^4 times `scale`^4.

    Bins are `width` wide, from `low` on; the end bins take the rest. Differences are central. `metric` is
    the inverse of the Gram matrix of the steps: |grad|^2 = d metric d with d the differences over one step.
    """
    n0, n1, n2 = values.shape
    m00, m11, m22 = np.float32(metric[0, 0]), np.float32(metric[1, 1]), np.float32(metric[2, 2])
    m01, m02, m12 = np.float32(2 * metric[0, 1]), np.float32(2 * metric[0, 2]), np.float32(2 * metric[1, 2])
    half = np.float32(0.5 * scale)
    per_bin, base, last = np.float32(1.0 / width), np.float32(low), counts.size - 1
    line = np.empty(n2 + 2, dtype=np.float32)
    weight = np.empty(n2, dtype=np.float32)
    for i in range(first, stop):
        i_low, i_high = (i - 1, (i + 1) % n0) if i else (n0 - 1, 1 % n0)
        if not wrap[0]:
            i_low, i_high = max(i - 1, 0), min(i + 1, n0 - 1)
        for j in range(n1):
            j_low, j_high = (j - 1, (j + 1) % n1) if j else (n1 - 1, 1 % n1)
            if not wrap[1]:
                j_low, j_high = max(j - 1, 0), min(j + 1, n1 - 1)
            row = values[i, j]
            for k in range(n2):
                line[k + 1] = row[k]
            line[0] = row[n2 - 1] if wrap[2] else row[0]
            line[n2 + 1] = row[0] if wrap[2] else row[n2 - 1]
            x_low, x_high = values[i_low, j], values[i_high, j]
            y_low, y_high = values[i, j_low], values[i, j_high]
            for k in range(n2):
                d0 = half * (x_high[k] - x_low[k])
                d1 = half * (y_high[k] - y_low[k])
                d2 = half * (line[k + 2] - line[k])
                g2 = (
                    m00 * d0 * d0 + m11 * d1 * d1 + m22 * d2 * d2 + d0 * (m01 * d1 + m02 * d2) + m12 * d1 * d2
                )
                weight[k] = g2 * g2
            # A loop of its own, because this one does not vectorize.
            for k in range(n2):
                index = min(max(int((row[k] - base) * per_bin), 0), last)
                counts[index] += 1
                sums[index] += row[k]
                weights[index] += weight[k]


@inner
def _fill_line(row, wrap, line):
    """A row with two points beyond either end."""
    n = row.size
    for k in range(n):
        line[k + 2] = row[k]
    if wrap:
        line[0], line[1] = row[(n - 2) % n], row[n - 1]
        line[n + 2], line[n + 3] = row[0], row[1 % n]
    else:
        line[0] = line[1] = row[0]
        line[n + 2] = line[n + 3] = row[n - 1]


@inner
def _around(index, n, wrap):
    """The two points before and the two after one of n."""
    if wrap:
        return (index - 2) % n, (index - 1) % n, (index + 1) % n, (index + 2) % n
    return max(index - 2, 0), max(index - 1, 0), min(index + 1, n - 1), min(index + 2, n - 1)


@jit
def subtract_slopes(first, stop, mean, field, logarithm, metric, wrap, out):
    """out = mean - grad(field) . grad(logarithm), with central differences of fourth order.

    `metric` is the inverse of the Gram matrix of the steps, times the factor that
    scales the product. `out` may be the same array as `mean`, not as the others.
    """
    n0, n1, n2 = field.shape
    # (8 (f1 - f-1) - (f2 - f-2)) / 12, of both factors.
    near, far = np.float32(8 / 12), np.float32(1 / 12)
    m00, m11, m22 = np.float32(metric[0, 0]), np.float32(metric[1, 1]), np.float32(metric[2, 2])
    m01, m02, m12 = np.float32(metric[0, 1]), np.float32(metric[0, 2]), np.float32(metric[1, 2])
    f_line = np.empty(n2 + 4, dtype=np.float32)
    g_line = np.empty(n2 + 4, dtype=np.float32)
    # Written before `out`, which might be `mean`: else the loop would not vectorize.
    line = np.empty(n2, dtype=np.float32)
    for i in range(first, stop):
        a, b, c, d = _around(i, n0, wrap[0])
        for j in range(n1):
            p, q, r, s = _around(j, n1, wrap[1])
            fa, fb, fc, fd = field[a, j], field[b, j], field[c, j], field[d, j]
            fp, fq, fr, fs = field[i, p], field[i, q], field[i, r], field[i, s]
            ga, gb, gc, gd = logarithm[a, j], logarithm[b, j], logarithm[c, j], logarithm[d, j]
            gp, gq, gr, gs = logarithm[i, p], logarithm[i, q], logarithm[i, r], logarithm[i, s]
            _fill_line(field[i, j], wrap[2], f_line)
            _fill_line(logarithm[i, j], wrap[2], g_line)
            own = mean[i, j]
            for k in range(np.uint64(n2)):
                x0 = near * (fc[k] - fb[k]) - far * (fd[k] - fa[k])
                x1 = near * (fr[k] - fq[k]) - far * (fs[k] - fp[k])
                x2 = near * (f_line[k + 3] - f_line[k + 1]) - far * (f_line[k + 4] - f_line[k])
                y0 = near * (gc[k] - gb[k]) - far * (gd[k] - ga[k])
                y1 = near * (gr[k] - gq[k]) - far * (gs[k] - gp[k])
                y2 = near * (g_line[k + 3] - g_line[k + 1]) - far * (g_line[k + 4] - g_line[k])
                line[k] = own[k] - (
                    x0 * (m00 * y0 + m01 * y1 + m02 * y2)
                    + x1 * (m01 * y0 + m11 * y1 + m12 * y2)
                    + x2 * (m02 * y0 + m12 * y1 + m22 * y2)
                )
            for k in range(n2):
                out[i, j, k] = line[k]


@jit
def subtract_curvature(first, stop, field, metric, wrap, out):
    """out = field - div grad field, with central differences (fourth order along the axes, second across).

    `metric` as for `subtract_slopes`; `out` is another array.
    """
    n0, n1, n2 = field.shape
    # (16 (f1 + f-1) - (f2 + f-2) - 30 f) / 12 along an axis; (f11 - f1-1 - f-11 + f-1-1) / 4 across.
    near, far, here, across = np.float32(16 / 12), np.float32(1 / 12), np.float32(30 / 12), np.float32(2 / 4)
    m0, m1, m2 = np.float32(metric[0, 0]), np.float32(metric[1, 1]), np.float32(metric[2, 2])
    m01, m02, m12 = across * metric[0, 1], across * metric[0, 2], across * metric[1, 2]
    skewed = abs(m01) + abs(m02) + abs(m12) > 1e-9 * (m0 + m1 + m2)
    center = np.float32(1) + here * (m0 + m1 + m2)
    line = np.empty(n2 + 4, dtype=np.float32)
    for i in range(first, stop):
        a, b, c, d = _around(i, n0, wrap[0])
        for j in range(n1):
            p, q, r, s = _around(j, n1, wrap[1])
            fa, fb, fc, fd = field[a, j], field[b, j], field[c, j], field[d, j]
            fp, fq, fr, fs = field[i, p], field[i, q], field[i, r], field[i, s]
            _fill_line(field[i, j], wrap[2], line)
            to = out[i, j]
            for k in range(np.uint64(n2)):
                to[k] = (
                    center * line[k + 2]
                    - m0 * (near * (fb[k] + fc[k]) - far * (fa[k] + fd[k]))
                    - m1 * (near * (fq[k] + fr[k]) - far * (fp[k] + fs[k]))
                    - m2 * (near * (line[k + 1] + line[k + 3]) - far * (line[k] + line[k + 4]))
                )
            if skewed:
                for k in range(n2):
                    _, u, v, _ = _around(k, n2, wrap[2])
                    mixed = m01 * (field[c, r, k] - field[c, q, k] - field[b, r, k] + field[b, q, k])
                    mixed += m02 * (field[c, j, v] - field[c, j, u] - field[b, j, v] + field[b, j, u])
                    mixed += m12 * (field[i, r, v] - field[i, r, u] - field[i, q, v] + field[i, q, u])
                    to[k] -= np.float32(mixed)


@jit
def values_in_bins(first, stop, values, low, width, n_bins, lowest, end, out):
    """List the values that `slope_histogram` puts into the bins lowest ... end - 1; returns their number.

    Those for which `out` is too short are only counted.
    """
    scale = np.float32(1.0 / width)
    base = np.float32(low)
    # Few blocks hold any; whether one does is found many values at a time, with a bin to spare for
    # rounding, and the end bins take all that lies beyond them.
    least = np.float32(low + (lowest - 1) * width) if lowest > 0 else np.float32(-np.inf)
    most = np.float32(low + (end + 1) * width) if end < n_bins else np.float32(np.inf)
    n = 0
    for begin in range(np.uint64(first), np.uint64(stop), np.uint64(256)):
        last, candidates = min(begin + np.uint64(256), np.uint64(stop)), 0
        for k in range(begin, last):
            candidates += (values[k] >= least) & (values[k] <= most)
        if candidates:
            for k in range(begin, last):
                v = values[k]
                if lowest <= min(max(int((v - base) * scale), 0), n_bins - 1) < end:
                    if n < out.size:
                        out[n] = v
                    n += 1
    return n


@jit
def interpolate(first, stop, coords, wrap, values, out):
    """Cubic (four-point Lagrange) interpolation of the grid at every point of `coords`."""
    n0, n1, n2 = values.shape
    w = np.empty((3, 4), dtype=np.float32)
    lowest = np.empty(3, dtype=np.int64)
    at = np.empty((3, 4), dtype=np.int64)
    one, two, half, sixth = np.float32(1), np.float32(2), np.float32(0.5), np.float32(1 / 6)
    for atom in range(first, stop):
        for axis in range(3):
            g = coords[atom, axis]
            base = floor(g)
            t = g - np.float32(base)
            w[axis, 0] = -t * (t - one) * (t - two) * sixth
            w[axis, 1] = (t + one) * (t - one) * (t - two) * half
            w[axis, 2] = -(t + one) * t * (t - two) * half
            w[axis, 3] = (t + one) * t * (t - one) * sixth
            lowest[axis] = int(base) - 1
        i, j, k = lowest[0], lowest[1], lowest[2]
        # Four sums side by side: they and the four neighbors in a row fit a vector register.
        s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        if i >= 0 and j >= 0 and k >= 0 and i + 4 <= n0 and j + 4 <= n1 and k + 4 <= n2:
            for a in range(4):
                for b in range(4):
                    p, q, wab = i + a, j + b, w[0, a] * w[1, b]
                    s0 += wab * values[p, q, k]
                    s1 += wab * values[p, q, k + 1]
                    s2 += wab * values[p, q, k + 2]
                    s3 += wab * values[p, q, k + 3]
        else:
            for axis in range(3):
                for t in range(4):
                    at[axis, t] = grid_index(lowest[axis] + t, values.shape[axis], wrap[axis])
            for a in range(4):
                for b in range(4):
                    p, q, wab = at[0, a], at[1, b], w[0, a] * w[1, b]
                    s0 += wab * values[p, q, at[2, 0]]
                    s1 += wab * values[p, q, at[2, 1]]
                    s2 += wab * values[p, q, at[2, 2]]
                    s3 += wab * values[p, q, at[2, 3]]
        out[atom] = w[2, 0] * s0 + w[2, 1] * s1 + w[2, 2] * s2 + w[2, 3] * s3


@jit
def interpolate_slope(first, stop, points, wrap, values, out):
    """As `interpolate`, with the derivatives along the grid's axes in columns 1 to 3 of `out`."""
    w = np.empty((3, 4))
    dw = np.empty((3, 4))
    at = np.empty((3, 4), dtype=np.int64)
    for p in range(first, stop):
        for axis in range(3):
            base = floor(points[p, axis])
            t = points[p, axis] - base
            w[axis, 0], dw[axis, 0] = -t * (t - 1) * (t - 2) / 6, -(3 * t * t - 6 * t + 2) / 6
            w[axis, 1], dw[axis, 1] = (t + 1) * (t - 1) * (t - 2) / 2, (3 * t * t - 4 * t - 1) / 2
            w[axis, 2], dw[axis, 2] = -(t + 1) * t * (t - 2) / 2, -(3 * t * t - 2 * t - 2) / 2
            w[axis, 3], dw[axis, 3] = (t + 1) * t * (t - 1) / 6, (3 * t * t - 1) / 6
            for s in range(4):
                at[axis, s] = grid_index(int(base) - 1 + s, values.shape[axis], wrap[axis])
        k0, k1, k2, k3 = at[2, 0], at[2, 1], at[2, 2], at[2, 3]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for i in range(4):
            p0, p1, p2 = 0.0, 0.0, 0.0
            for j in range(4):
                u, v = at[0, i], at[1, j]
                v0, v1, v2, v3 = values[u, v, k0], values[u, v, k1], values[u, v, k2], values[u, v, k3]
                line = w[2, 0] * v0 + w[2, 1] * v1 + w[2, 2] * v2 + w[2, 3] * v3
                p0 += w[1, j] * line
                p1 += dw[1, j] * line
                p2 += w[1, j] * (dw[2, 0] * v0 + dw[2, 1] * v1 + dw[2, 2] * v2 + dw[2, 3] * v3)
            s0 += w[0, i] * p0
            s1 += dw[0, i] * p0
            s2 += w[0, i] * p1
            s3 += w[0, i] * p2
        out[p, 0], out[p, 1], out[p, 2], out[p, 3] = s0, s1, s2, s3


@jit
def at_nearest(first, stop, coords, wrap, values, out):
    """The value of the nearest grid point at every point (an atom's voxel, as in the paper)."""
    at = np.empty(3, dtype=np.int64)
    for atom in range(first, stop):
        for axis in range(3):
            nearest = floor(coords[atom, axis] + np.float32(0.5))
            at[axis] = grid_index(nearest, values.shape[axis], wrap[axis])
        out[atom] = values[at[0], at[1], at[2]]
