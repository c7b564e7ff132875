"""Compiled loops from atoms to a density on a grid: packing, deposit, smoothing, direct sums.

Each has a naive twin in tests/naive. All are linear in atoms and voxels, and take grid coordinates from
`(position - origin) @ to_grid`, which serves any triclinic cell. An axis that does not `wrap` is open: the
grid must extend far enough beyond the atoms that nothing reaches its ends. Kernels whose first arguments are
`first, stop` do that part of their loop (`compiled.threads`).
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.products import product, product_from
from phaseseg.compiled.simd import fetch
from phaseseg.neighbors.bins import AHEAD

SHEET = 512
"""Columns of the grid that are convolved at once."""


@inner
def grid_index(index, n, wrap):
    """Index of a grid point along an axis of n, wrapped or moved to the nearer end."""
    if 0 <= index < n:
        return index
    return index % n if wrap else min(max(index, 0), n - 1)


@inner
def _grid_coordinates(position, origin, to_grid, shape, wrap, g):
    """Grid coordinates of a position into `g`, in [0, n) along axes that wrap."""
    g[0], g[1], g[2] = product_from(origin, position, to_grid)
    for axis in range(3):
        n = shape[axis]
        if wrap[axis] and (g[axis] < 0 or g[axis] >= n):
            g[axis] -= floor(g[axis] / n) * n


@jit
def cells_of(first, stop, positions, origin, to_grid, wrap, shape, cells, scale, home):
    """The coarse cell of the grid that holds each atom, into `home`; scale : (3,) cells / shape."""
    g = np.empty(3)
    for atom in range(first, stop):
        _grid_coordinates(positions[atom], origin, to_grid, shape, wrap, g)
        flat = 0
        for axis in range(3):
            flat = flat * cells[axis] + min(max(int(g[axis] * scale[axis]), 0), cells[axis] - 1)
        home[atom] = flat


@jit
def pack(first, stop, positions, origin, to_grid, wrap, shape, order, coords):
    """Grid coordinates of the sorted atoms, wrapped."""
    g, last = np.empty(3), stop - 1
    for slot in range(first, stop):
        fetch(positions, 3 * np.int64(order[min(slot + AHEAD, last)]))
        _grid_coordinates(positions[order[slot]], origin, to_grid, shape, wrap, g)
        coords[slot, 0], coords[slot, 1], coords[slot, 2] = g[0], g[1], g[2]


@inner
def _cloud(coords, slot, axis, w):
    """Weights of three grid points, a triangular-shaped cloud (quadratic spline); index of the first."""
    half = np.float32(0.5)
    g = coords[slot, axis]
    nearest = floor(g + half)
    d = g - np.float32(nearest)
    w[axis, 0] = half * (half - d) * (half - d)
    w[axis, 1] = np.float32(0.75) - d * d
    w[axis, 2] = half * (half + d) * (half + d)
    return int(nearest) - 1


@jit
def deposit(first, stop, coords, wrap, mask, values):
    """Add the clouds of the atoms of `mask` to `values`."""
    w = np.empty((3, 3), dtype=np.float32)
    at = np.empty((3, 3), dtype=np.int64)
    for slot in range(first, stop):
        if not mask[slot]:
            continue
        for axis in range(3):
            lowest = _cloud(coords, slot, axis, w)
            for t in range(3):
                at[axis, t] = grid_index(lowest + t, values.shape[axis], wrap[axis])
        for i in range(3):
            for j in range(3):
                wij = w[0, i] * w[1, j]
                for k in range(3):
                    values[at[0, i], at[1, j], at[2, k]] += wij * w[2, k]


@jit
def deposit_weighted(first, stop, coords, wrap, weights, num, den):
    """Like `deposit` for all atoms: add their weights to `num` and one per atom to `den`."""
    n0, n1, n2 = den.shape
    w = np.empty((3, 3), dtype=np.float32)
    at = np.empty((3, 3), dtype=np.int64)
    lowest = np.empty(3, dtype=np.int64)
    for slot in range(first, stop):
        for axis in range(3):
            lowest[axis] = _cloud(coords, slot, axis, w)
        weight = weights[slot]
        i, j, k = lowest[0], lowest[1], lowest[2]
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
            for t in range(3):
                at[axis, t] = grid_index(lowest[axis] + t, den.shape[axis], wrap[axis])
        for a in range(3):
            for b in range(3):
                wab = w[0, a] * w[1, b]
                for c in range(3):
                    p, q, r = at[0, a], at[1, b], at[2, c]
                    den[p, q, r] += wab * w[2, c]
                    num[p, q, r] += wab * w[2, c] * weight


@inner
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


@inner
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
def convolve_planes(first, stop, values, taps1, taps2, wrap):
    """Convolve planes of the grid in place with symmetric kernels along the second and third axis.

    `taps[t]` is the weight at ±t.
    """
    _, n1, n2 = values.shape
    m = taps2.size - 1
    width = (n2 + 15) // 16 * 16
    line = np.zeros(width + 2 * m + 2, dtype=np.float32)
    slab = np.zeros((n1 + 1, width), dtype=np.float32)
    total = np.empty(width, dtype=np.float32)
    for i in range(first, stop):
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
        _convolve_rows(slab, taps1, wrap[1], total, values[i], np.int64(0), n2)


@jit
def convolve_sheets(first, stop, plane, taps, wrap):
    """Convolve sheets of neighboring columns in place with a symmetric kernel along the first axis.

    plane : (n_x, n_y * n_z), the grid; a sheet has `SHEET` columns, few enough for the cache
    """
    n_rows, n_columns = plane.shape
    width = min((n_columns + 15) // 16 * 16, SHEET)
    sheet = np.zeros((n_rows + 1, width), dtype=np.float32)
    total = np.empty(width, dtype=np.float32)
    for begin in range(first * SHEET, stop * SHEET, SHEET):
        end = min(begin + SHEET, n_columns)
        for i in range(n_rows):
            for k in range(end - begin):
                sheet[i, k] = plane[i, begin + k]
        _convolve_rows(sheet, taps, wrap, total, plane, begin, end)


def gaussian_taps(sigma: float, step: float) -> NDArray[np.float32]:
    """Weights of a sampled Gaussian that undoes the cloud of `deposit`: `taps[t]` at ±t steps.

    The inverse transform, over one Brillouin zone, of exp(-sigma^2 k^2 / 2) / sinc(k step / 2)^3, cut
    at 4.5 sigma and normalized. Deposit and taps together give the exact Gaussian, apart from aliasing.
    """
    n = 4096
    k = 2 * np.pi * np.fft.rfftfreq(n)  # in units of 1 / step
    spectrum = np.exp(-0.5 * (k * sigma / step) ** 2) / np.sinc(k / (2 * np.pi)) ** 3
    taps = np.fft.irfft(spectrum, n)[: ceil(4.5 * sigma / step) + 1]
    taps /= taps[0] + 2 * taps[1:].sum()
    return taps.astype(np.float32)


def taps_of(
    steps: NDArray[np.float64], flat: NDArray[np.bool_], sigma: float, scale: float
) -> list[NDArray[np.float32]]:
    """`gaussian_taps` along the axes of an orthogonal grid; those of the first axis are scaled."""
    taps = [
        np.ones(1, dtype=np.float32) if one else gaussian_taps(sigma, step)
        for step, one in zip(np.linalg.norm(steps, axis=1), flat, strict=True)
    ]
    taps[0] = taps[0] * np.float32(scale)
    return taps


@jit
def smooth_spectrum(first, stop, spectrum, gram, shape, sigma):
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
    for i in range(first, stop):
        p0 = float(i if i <= shape[0] // 2 else i - shape[0])
        for j in range(m1):
            p1 = float(j if j <= shape[1] // 2 else j - shape[1])
            k00 = gram[0, 0] * p0 * p0 + gram[1, 1] * p1 * p1 + 2 * gram[0, 1] * p0 * p1
            k01 = 2 * (gram[0, 2] * p0 + gram[1, 2] * p1)
            for k in range(m2):
                k2 = k00 + k01 * k + gram[2, 2] * k * k
                factor = np.exp(half * k2) / (cloud[0, i] * cloud[1, j] * cloud[2, k])
                spectrum[i, j, k] *= np.float32(factor)


@inner
def _vectors(coords, first, stop, c0, c1, c2, steps, r):
    """Vectors (coords + c) @ steps of the packed atoms first ... stop - 1, and their squares in row 3."""
    x = coords[first:stop]
    for p in range(stop - first):
        y0, y1, y2 = product(x[p, 0] + c0, x[p, 1] + c1, x[p, 2] + c2, steps)
        r[0, p], r[1, p], r[2, p] = y0, y1, y2
        r[3, p] = y0 * y0 + y1 * y1 + y2 * y2


@jit
def direct_sums(
    first_point, stop_point, points, mask, edge, height, reach, steps, wrap, shape, start, coords, cells,
    orthogonal, only_mask, sigma, cutoff, sums,
):  # fmt: skip
    """Sums of exp(-r^2 / 2 sigma^2) over all periodic images within `cutoff`, and its slope, at grid points.

    Column 0 sums the atoms of `mask`, 1 to 3 the Cartesian slope; 4 to 7 the same of all atoms (zero with
    `only_mask`). An axis whose row of `steps` is zero does not count for r. `points` are wrapped, float32.

    edge : (3,) voxels in the edge of a coarse cell; height : (3,) Å, lengths of the steps
    reach : (3,) coarse cells within the cutoff; steps : (3, 3) float32, Å
    """
    within = np.float32(cutoff * cutoff)
    scale = np.float32(-0.5 / (sigma * sigma))
    r = np.empty((4, 256), dtype=np.float32)
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    for a in range(first_point, stop_point):
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
                    _vectors(coords, first, stop, c0, c1, c2, steps, r)
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
