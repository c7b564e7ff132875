"""The few hot loops on grids and atoms. Each has a naive twin in tests/naive.py.

All of them are single-threaded, linear in atoms and voxels, and take grid coordinates from
`(position - origin) @ to_grid`, so that any triclinic cell is served. An axis that is not `wrap` is
open: the grid is expected to reach so far beyond the atoms that nothing touches its ends.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit


@jit
def grid_point(position, origin, to_grid, axis):
    """Grid coordinate of a position along one axis."""
    return (
        (position[0] - origin[0]) * to_grid[0, axis]
        + (position[1] - origin[1]) * to_grid[1, axis]
        + (position[2] - origin[2]) * to_grid[2, axis]
    )


# Atoms in the order of the grid -------------------------------------------------------------------


@jit
def pack(positions, origin, to_grid, wrap, shape, cells, start, order, place, coords):
    """Sort the atoms by coarse cells of the grid.

    Fills `start` (CSR over the cells, zeros at first), `order` (atom numbers), `place` (its inverse) and
    `coords`, wrapped grid coordinates in that order. Everything that walks over atoms and grid together
    then finds both in the cache: with atoms in random order ten million take several times as long.
    """
    n_atoms = positions.shape[0]
    scale = np.array([cells[0] / shape[0], cells[1] / shape[1], cells[2] / shape[2]])
    for atom in range(n_atoms):
        flat = 0
        for axis in range(3):
            g = grid_point(positions[atom], origin, to_grid, axis)
            if wrap[axis] and (g < 0 or g >= shape[axis]):
                g -= floor(g / shape[axis]) * shape[axis]
            flat = flat * cells[axis] + min(max(int(g * scale[axis]), 0), cells[axis] - 1)
        place[atom] = flat  # the cell for now
        start[flat + 1] += 1
    for cell in range(start.size - 1):
        start[cell + 1] += start[cell]
    fill = start[:-1].copy()
    for atom in range(n_atoms):
        slot = fill[place[atom]]
        fill[place[atom]] += 1
        order[slot] = atom
        place[atom] = slot
        for axis in range(3):
            g = grid_point(positions[atom], origin, to_grid, axis)
            if wrap[axis] and (g < 0 or g >= shape[axis]):
                g -= floor(g / shape[axis]) * shape[axis]
            coords[slot, axis] = g


# Density on the grid ------------------------------------------------------------------------------


@jit
def deposit(coords, mask, wrap, values):
    """Add the atoms of `mask` to `values` with triangular-shaped-cloud (quadratic spline) weights."""
    w = np.empty((3, 3), dtype=np.float32)
    at = np.empty((3, 3), dtype=np.int64)
    half = np.float32(0.5)
    for slot in range(coords.shape[0]):
        if not mask[slot]:
            continue
        for axis in range(3):
            n = values.shape[axis]
            g = coords[slot, axis]
            nearest = floor(g + half)
            d = g - np.float32(nearest)
            w[axis, 0] = half * (half - d) * (half - d)
            w[axis, 1] = np.float32(0.75) - d * d
            w[axis, 2] = half * (half + d) * (half + d)
            first = int(nearest) - 1
            for t in range(3):
                index = first + t
                if index < 0 or index >= n:
                    index = index % n if wrap[axis] else min(max(index, 0), n - 1)
                at[axis, t] = index
        for i in range(3):
            for j in range(3):
                wij = w[0, i] * w[1, j]
                for k in range(3):
                    values[at[0, i], at[1, j], at[2, k]] += wij * w[2, k]


@jit
def deposit_weighted(coords, weights, wrap, num, den):
    """As `deposit`, of all atoms: add their weights to `num` and one for each to `den`."""
    n0, n1, n2 = den.shape
    w = np.empty((3, 3), dtype=np.float32)
    at = np.empty((3, 3), dtype=np.int64)
    first = np.empty(3, dtype=np.int64)
    half = np.float32(0.5)
    for slot in range(coords.shape[0]):
        for axis in range(3):
            g = coords[slot, axis]
            nearest = floor(g + half)
            d = g - np.float32(nearest)
            w[axis, 0] = half * (half - d) * (half - d)
            w[axis, 1] = np.float32(0.75) - d * d
            w[axis, 2] = half * (half + d) * (half + d)
            first[axis] = int(nearest) - 1
        weight = weights[slot]
        i, j, k = first[0], first[1], first[2]
        w0, w1, w2 = w[2, 0], w[2, 1], w[2, 2]
        if i >= 0 and j >= 0 and k >= 0 and i + 3 <= n0 and j + 3 <= n1 and k + 3 <= n2:
            for a in range(3):
                for b in range(3):
                    wab = w[0, a] * w[1, b]
                    p, q = i + a, j + b
                    den[p, q, k] += wab * w0
                    den[p, q, k + 1] += wab * w1
                    den[p, q, k + 2] += wab * w2
                    wab *= weight
                    num[p, q, k] += wab * w0
                    num[p, q, k + 1] += wab * w1
                    num[p, q, k + 2] += wab * w2
            continue
        for axis in range(3):
            n = den.shape[axis]
            for t in range(3):
                index = first[axis] + t
                if index < 0 or index >= n:
                    index = index % n if wrap[axis] else min(max(index, 0), n - 1)
                at[axis, t] = index
        for a in range(3):
            for b in range(3):
                wab = w[0, a] * w[1, b]
                for c in range(3):
                    p, q, r = at[0, a], at[1, b], at[2, c]
                    den[p, q, r] += wab * w[2, c]
                    num[p, q, r] += wab * w[2, c] * weight


@jit
def _convolve_rows(source, taps, wrap, total, out, first, stop):
    """out[i, first:stop] = sum over t of taps[|t|] * source[i + t]; the last row of `source` is zeros.

    Two taps at a time, half as many passes over `total`; `source` and `total` are as wide as whole
    vector registers, so that no loop has a scalar tail.
    """
    n_rows, width = out.shape[0], total.size
    m = taps.size - 1
    for i in range(n_rows):
        w = taps[0]
        for k in range(width):
            total[k] = w * source[i, k]
        for t in range(1, m + 1, 2):
            w = taps[t]
            v = taps[t + 1] if t < m else np.float32(0)
            a, b, c, d = i - t, i + t, i - t - 1, i + t + 1
            if wrap:
                a, b, c, d = a % n_rows, b % n_rows, c % n_rows, d % n_rows
            else:
                a = a if a >= 0 else n_rows
                c = c if c >= 0 else n_rows
                b = min(b, n_rows)
                d = min(d, n_rows)
            for k in range(width):
                total[k] += w * (source[a, k] + source[b, k]) + v * (source[c, k] + source[d, k])
        for k in range(stop - first):
            out[i, first + k] = total[k]


@jit
def _convolve_line(line, m, taps, total):
    """total[k] = sum over t of taps[|t|] * line[m + k + t]."""
    width = total.size
    center = line[m : m + width]
    w = taps[0]
    for k in range(width):
        total[k] = w * center[k]
    for t in range(1, m + 1, 2):
        w = taps[t]
        v = taps[t + 1] if t < m else np.float32(0)
        # Slices instead of offsets: an index that might be negative keeps the loop from vectorizing.
        a, b = line[m - t : m - t + width], line[m + t : m + t + width]
        c, d = line[max(m - t - 1, 0) :], line[m + t + 1 : m + t + 1 + width]
        for k in range(width):
            total[k] += w * (a[k] + b[k]) + v * (c[k] + d[k])


@jit
def convolve(values, taps0, taps1, taps2, wrap):
    """Convolve in place with the product of three symmetric kernels; `taps[t]` is the weight at ±t."""
    n0, n1, n2 = values.shape
    m = taps2.size - 1
    width = (n2 + 15) // 16 * 16
    line = np.zeros(width + 2 * m + 2, dtype=np.float32)
    slab = np.zeros((n1 + 1, width), dtype=np.float32)
    total = np.empty(width, dtype=np.float32)
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                line[m + k] = values[i, j, k]
            if wrap[2]:
                for t in range(1, m + 1):
                    line[m - t] = values[i, j, (-t) % n2]
                    line[m + n2 - 1 + t] = values[i, j, (t - 1) % n2]
            _convolve_line(line, m, taps2, total)
            for k in range(n2):
                slab[j, k] = total[k]
        _convolve_rows(slab, taps1, wrap[1], total, values[i], 0, n2)
    # Along the first axis a sheet of neighboring columns at a time, small enough for the cache.
    plane = values.reshape(n0, n1 * n2)
    width = min((n1 * n2 + 15) // 16 * 16, 512)
    sheet = np.zeros((n0 + 1, width), dtype=np.float32)
    total = np.empty(width, dtype=np.float32)
    for first in range(0, n1 * n2, width):
        stop = min(first + width, n1 * n2)
        for i in range(n0):
            for k in range(stop - first):
                sheet[i, k] = plane[i, first + k]
        _convolve_rows(sheet, taps0, wrap[0], total, plane, first, stop)


@jit
def smooth_spectrum(spectrum, gram, shape, sigma):
    """Multiply a half spectrum in place by the Gaussian over the transform of the deposit's cloud.

    `gram[a, b]` is the dot product of the reciprocal vectors (2 pi included) of the grid's domain.
    """
    m0, m1, m2 = spectrum.shape
    cloud = np.ones((3, max(m0, m1, m2)))
    for axis in range(3):
        for q in range(1, spectrum.shape[axis]):
            p = q if q <= shape[axis] // 2 else q - shape[axis]
            u = np.pi * p / shape[axis]
            cloud[axis, q] = (np.sin(u) / u) ** 3
    half = -0.5 * sigma * sigma
    for i in range(m0):
        p0 = float(i if i <= shape[0] // 2 else i - shape[0])
        for j in range(m1):
            p1 = float(j if j <= shape[1] // 2 else j - shape[1])
            k00 = gram[0, 0] * p0 * p0 + gram[1, 1] * p1 * p1 + 2 * gram[0, 1] * p0 * p1
            k01 = 2 * (gram[0, 2] * p0 + gram[1, 2] * p1)
            for k in range(m2):
                k2 = k00 + k01 * k + gram[2, 2] * k * k
                factor = np.exp(half * k2) / (cloud[0, i] * cloud[1, j] * cloud[2, k])
                spectrum[i, j, k] *= np.float32(factor)


@jit
def gradient_moments(values, metric, wrap):
    """Sum of |grad|^4 and of |grad|^4 * value over the grid (central differences).

    `metric` is the inverse of the Gram matrix of the steps: |grad|^2 = d metric d with d the
    differences over one step.
    """
    n0, n1, n2 = values.shape
    m00, m11, m22 = np.float32(metric[0, 0]), np.float32(metric[1, 1]), np.float32(metric[2, 2])
    m01, m02, m12 = np.float32(2 * metric[0, 1]), np.float32(2 * metric[0, 2]), np.float32(2 * metric[1, 2])
    half = np.float32(0.5)
    weight, weighted = np.float64(0), np.float64(0)
    line = np.empty(n2 + 2, dtype=np.float32)
    for i in range(n0):
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
            sum_w, sum_wv = np.float32(0), np.float32(0)
            for k in range(n2):
                d0 = half * (x_high[k] - x_low[k])
                d1 = half * (y_high[k] - y_low[k])
                d2 = half * (line[k + 2] - line[k])
                g2 = (
                    m00 * d0 * d0 + m11 * d1 * d1 + m22 * d2 * d2 + d0 * (m01 * d1 + m02 * d2) + m12 * d1 * d2
                )
                w = g2 * g2
                sum_w += w
                sum_wv += w * row[k]
            weight += sum_w
            weighted += sum_wv
    return weight, weighted


@jit
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
def mean_and_log(num, den, least):
    """In place, flat arrays: `num` becomes num / den and `den` its logarithm, of at least `least`."""
    for v in range(num.size):
        d = max(den[v], least)
        num[v] /= d
        den[v] = _log(d)


@jit
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


@jit
def _around(index, n, wrap):
    """The two points before and the two after one of n."""
    if wrap:
        return (index - 2) % n, (index - 1) % n, (index + 1) % n, (index + 2) % n
    return max(index - 2, 0), max(index - 1, 0), min(index + 1, n - 1), min(index + 2, n - 1)


@jit
def subtract_slopes(mean, field, logarithm, metric, wrap, out):
    """out = mean - grad(field) . grad(logarithm), with central differences of fourth order.

    `metric` is the inverse of the Gram matrix of the steps, times whatever the product is to be taken
    times. `out` may be the same array as `mean`, not as the others.
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
    for i in range(n0):
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
def subtract_curvature(field, metric, wrap, out):
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
    for i in range(n0):
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
def bound_field(values, logarithm, least, bound):
    """Clip a flat array in place to ±bound; -bound where the logarithm is below `least`: a void."""
    for v in range(values.size):
        clipped = min(max(values[v], -bound), bound)
        values[v] = clipped if logarithm[v] >= least else -bound


@jit
def histogram(values, low, width, counts, sums):
    """Add a flat array to `counts` and the sums of the values to `sums`; the end bins take the rest."""
    scale = np.float32(1.0 / width)
    base = np.float32(low)
    last = counts.size - 1
    for v in values:
        index = min(max(int((v - base) * scale), 0), last)
        counts[index] += 1
        sums[index] += v


@jit
def values_in_bins(values, low, width, n_bins, first, stop, out):
    """Copy the entries that `histogram` puts into the bins first ... stop - 1 to `out`."""
    scale = np.float32(1.0 / width)
    base = np.float32(low)
    # Few blocks hold any; whether one does is found many values at a time, with a bin to spare for
    # rounding, and the end bins take all that lies beyond them.
    least = np.float32(low + (first - 1) * width) if first > 0 else np.float32(-np.inf)
    most = np.float32(low + (stop + 1) * width) if stop < n_bins else np.float32(np.inf)
    n = 0
    for begin in range(0, values.size, 256):
        block = values[begin : begin + 256]
        candidates = 0
        for v in block:
            candidates += (v >= least) & (v <= most)
        if candidates:
            for v in block:
                if first <= min(max(int((v - base) * scale), 0), n_bins - 1) < stop:
                    out[n] = v
                    n += 1


# Density at the atoms -----------------------------------------------------------------------------


@jit
def interpolate(coords, wrap, values, out):
    """Cubic (four-point Lagrange) interpolation of the grid at every point of `coords`."""
    n0, n1, n2 = values.shape
    w = np.empty((3, 4), dtype=np.float32)
    first = np.empty(3, dtype=np.int64)
    at = np.empty((3, 4), dtype=np.int64)
    one, two, half, sixth = np.float32(1), np.float32(2), np.float32(0.5), np.float32(1 / 6)
    for atom in range(coords.shape[0]):
        for axis in range(3):
            g = coords[atom, axis]
            base = floor(g)
            t = g - np.float32(base)
            w[axis, 0] = -t * (t - one) * (t - two) * sixth
            w[axis, 1] = (t + one) * (t - one) * (t - two) * half
            w[axis, 2] = -(t + one) * t * (t - two) * half
            w[axis, 3] = (t + one) * t * (t - one) * sixth
            first[axis] = int(base) - 1
        i, j, k = first[0], first[1], first[2]
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
                n = values.shape[axis]
                for t in range(4):
                    index = first[axis] + t
                    at[axis, t] = index % n if wrap[axis] else min(max(index, 0), n - 1)
            for a in range(4):
                for b in range(4):
                    p, q, wab = at[0, a], at[1, b], w[0, a] * w[1, b]
                    s0 += wab * values[p, q, at[2, 0]]
                    s1 += wab * values[p, q, at[2, 1]]
                    s2 += wab * values[p, q, at[2, 2]]
                    s3 += wab * values[p, q, at[2, 3]]
        out[atom] = w[2, 0] * s0 + w[2, 1] * s1 + w[2, 2] * s2 + w[2, 3] * s3


@jit
def interpolate_slope(points, wrap, values, out):
    """As `interpolate`, with the derivatives along the grid's axes in columns 1 to 3 of `out`."""
    w = np.empty((3, 4))
    dw = np.empty((3, 4))
    at = np.empty((3, 4), dtype=np.int64)
    for p in range(points.shape[0]):
        for axis in range(3):
            n = values.shape[axis]
            base = floor(points[p, axis])
            t = points[p, axis] - base
            w[axis, 0], dw[axis, 0] = -t * (t - 1) * (t - 2) / 6, -(3 * t * t - 6 * t + 2) / 6
            w[axis, 1], dw[axis, 1] = (t + 1) * (t - 1) * (t - 2) / 2, (3 * t * t - 4 * t - 1) / 2
            w[axis, 2], dw[axis, 2] = -(t + 1) * t * (t - 2) / 2, -(3 * t * t - 2 * t - 2) / 2
            w[axis, 3], dw[axis, 3] = (t + 1) * t * (t - 1) / 6, (3 * t * t - 1) / 6
            for s in range(4):
                index = int(base) - 1 + s
                if index < 0 or index >= n:
                    index = index % n if wrap[axis] else min(max(index, 0), n - 1)
                at[axis, s] = index
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
def at_nearest(coords, wrap, values, out):
    """The value of the nearest grid point at every point (an atom's voxel, as in the paper)."""
    at = np.empty(3, dtype=np.int64)
    for atom in range(coords.shape[0]):
        for axis in range(3):
            n = values.shape[axis]
            index = floor(coords[atom, axis] + np.float32(0.5))
            at[axis] = index % n if wrap[axis] else min(max(index, 0), n - 1)
        out[atom] = values[at[0], at[1], at[2]]


@jit
def _vectors(coords, first, stop, c0, c1, c2, steps, r):
    """Vectors (coords + c) @ steps of the packed atoms first ... stop - 1, and their squares in row 3."""
    x = coords[first:stop]
    for p in range(stop - first):
        d0, d1, d2 = x[p, 0] + c0, x[p, 1] + c1, x[p, 2] + c2
        y0 = d0 * steps[0, 0] + d1 * steps[1, 0] + d2 * steps[2, 0]
        y1 = d0 * steps[0, 1] + d1 * steps[1, 1] + d2 * steps[2, 1]
        y2 = d0 * steps[0, 2] + d1 * steps[1, 2] + d2 * steps[2, 2]
        r[0, p], r[1, p], r[2, p] = y0, y1, y2
        r[3, p] = y0 * y0 + y1 * y1 + y2 * y2


@jit
def direct_sums(
    points, mask, to_grid, steps, wrap, shape, start, coords, cells, orthogonal, only_mask, sigma,
    cutoff,
):  # fmt: skip
    """Sum of exp(-r^2 / 2 sigma^2) over all periodic images within `cutoff`, and its slope, at grid points.

    Column 0 sums the atoms of `mask`, 1 to 3 the Cartesian slope; 4 to 7 the same of all atoms (zero with
    `only_mask`). An axis whose row of `steps` is zero does not count for r. `points` are wrapped, float32.
    """
    sums = np.zeros((points.shape[0], 8))
    edge = np.array([shape[0] / cells[0], shape[1] / cells[1], shape[2] / cells[2]])
    reach = np.zeros(3, dtype=np.int64)
    # Distance between the grid planes along an axis = 1 / |column of to_grid|.
    for axis in range(3):
        if steps[axis, 0] != 0 or steps[axis, 1] != 0 or steps[axis, 2] != 0:
            g = np.sqrt(to_grid[0, axis] ** 2 + to_grid[1, axis] ** 2 + to_grid[2, axis] ** 2)
            reach[axis] = ceil(cutoff * g / edge[axis])
    height = np.array(
        [np.sqrt((steps[0] ** 2).sum()), np.sqrt((steps[1] ** 2).sum()), np.sqrt((steps[2] ** 2).sum())]
    )
    small = steps.astype(np.float32)
    within = np.float32(cutoff * cutoff)
    scale = np.float32(-0.5 / (sigma * sigma))
    r = np.empty((4, 256), dtype=np.float32)
    low = np.empty(3, dtype=np.int64)
    high = np.empty(3, dtype=np.int64)
    for a in range(points.shape[0]):
        x0, x1, x2 = points[a, 0], points[a, 1], points[a, 2]
        for axis in range(3):
            home = min(max(int(points[a, axis] / edge[axis]), 0), cells[axis] - 1)
            low[axis], high[axis] = home - reach[axis], home + reach[axis]
            if not wrap[axis]:
                low[axis], high[axis] = max(low[axis], 0), min(high[axis], cells[axis] - 1)
        n0, n1, n2, n3 = 0.0, 0.0, 0.0, 0.0
        m0, m1, m2, m3 = 0.0, 0.0, 0.0, 0.0
        bottom, top = low[2], high[2]
        for i in range(low[0], high[0] + 1):
            si = i // cells[0]
            c0 = np.float32(si * shape[0]) - x0
            for j in range(low[1], high[1] + 1):
                sj = j // cells[1]
                c1 = np.float32(sj * shape[1]) - x1
                if orthogonal:  # how much of the sphere is left in this row of cells
                    d0 = max(i * edge[0] - x0, x0 - (i + 1) * edge[0], 0.0) * height[0]
                    d1 = max(j * edge[1] - x1, x1 - (j + 1) * edge[1], 0.0) * height[1]
                    rest2 = cutoff * cutoff - d0 * d0 - d1 * d1
                    if rest2 < 0:
                        continue
                    if height[2] > 0:
                        rest = np.sqrt(rest2) / height[2]
                        bottom = max(floor((x2 - rest) / edge[2]), low[2])
                        top = min(floor((x2 + rest) / edge[2]), high[2])
                row = ((i - si * cells[0]) * cells[1] + j - sj * cells[1]) * cells[2]
                k = bottom
                while k <= top:  # cells in a row are one stretch of atoms, image by image
                    sk = k // cells[2]
                    c2 = np.float32(sk * shape[2]) - x2
                    last = min(top, (sk + 1) * cells[2] - 1)
                    first, stop = start[row + k - sk * cells[2]], start[row + last - sk * cells[2] + 1]
                    k = last + 1
                    if stop - first > r.shape[1]:
                        r = np.empty((4, 2 * (stop - first)), dtype=np.float32)
                    _vectors(coords, first, stop, c0, c1, c2, small, r)
                    for p in range(stop - first):
                        if r[3, p] > within:
                            continue
                        picked = mask[first + p]
                        if only_mask and not picked:
                            continue
                        term = np.exp(scale * r[3, p])
                        if picked:
                            n0 += term
                            n1 += term * r[0, p]
                            n2 += term * r[1, p]
                            n3 += term * r[2, p]
                        if not only_mask:
                            m0 += term
                            m1 += term * r[0, p]
                            m2 += term * r[1, p]
                            m3 += term * r[2, p]
        per = 1 / (sigma * sigma)
        sums[a, 0], sums[a, 1], sums[a, 2], sums[a, 3] = n0, per * n1, per * n2, per * n3
        sums[a, 4], sums[a, 5], sums[a, 6], sums[a, 7] = m0, per * m1, per * m2, per * m3
    return sums


def gaussian_taps(sigma: float, step: float) -> NDArray[np.float32]:
    """Weights of a sampled Gaussian that undoes the cloud of `deposit`: `taps[t]` at ±t steps.

    The inverse transform, over one Brillouin zone, of exp(-sigma^2 k^2 / 2) / sinc(k step / 2)^3, cut
    at 4.5 sigma and normalized. Deposit and taps together are the Gaussian itself but for aliasing.
    """
    n = 4096
    k = 2 * np.pi * np.fft.rfftfreq(n)  # in units of 1 / step
    spectrum = np.exp(-0.5 * (k * sigma / step) ** 2) / np.sinc(k / (2 * np.pi)) ** 3
    taps = np.fft.irfft(spectrum, n)[: ceil(4.5 * sigma / step) + 1]
    taps /= taps[0] + 2 * taps[1:].sum()
    return taps.astype(np.float32)
