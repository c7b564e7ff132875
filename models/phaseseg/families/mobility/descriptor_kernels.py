"""Compiled loops of the structural descriptors, bin by bin as in `phaseseg.neighbors`."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.simd import WIDTH, load, splat, store
from phaseseg.neighbors.bins import (
    FAR,
    hits_within,
    pack_all_around,
    pack_by_kind,
    room_around,
    settle,
    squares,
)

TAPS = 16
"""Number of centers that one pair adds to; the weight of all others is below exp(-28)."""
ROOM = 16
"""Places before the first and behind the last center of a grid, for additions that belong to no center."""
PARTS = 64
"""Parts of a step in which the Gaussians are tabulated."""


@jit
def radial_sums(first_bin, stop_bin, bins, first, width, n_centers, gaussians, out):
    """Sum the Gaussians of all pairs: out[i, kind * n + k] = sum over j of exp(-(r - c_k)^2 / 2 width^2).

    first, width, n_centers : (n_grids,) of the grids of centers, whose step is also the width
    gaussians : (PARTS, TAPS) float32, exp(-(d - m)^2 / 2) for d in the middle of a part, m = -8 ... 7
    """
    near = room_around(bins)
    edges, owns = np.zeros(bins.kinds + 1, dtype=np.int64), np.zeros(bins.kinds, dtype=np.int64)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    n_grids, columns = first.size, n_centers.sum()
    place = np.zeros(n_grids + 1, dtype=np.int64)
    for g in range(n_grids):
        place[g + 1] = place[g] + n_centers[g] + 2 * ROOM
    sums = np.zeros(place[n_grids] + WIDTH, dtype=np.float32)
    ramp = np.arange(-8, TAPS - 8).astype(np.float32)
    for flat in range(first_bin, stop_bin):
        if bins.start[flat * bins.kinds] == bins.start[(flat + 1) * bins.kinds]:
            continue
        pack_by_kind(bins, flat, near, edges, owns)
        n = edges[bins.kinds]
        for own in range(bins.kinds):
            begin = bins.start[flat * bins.kinds + own]
            for slot in range(begin, bins.start[flat * bins.kinds + own + 1]):
                c = owns[own] + slot - begin
                if squares(near, n, c, within, doubt):
                    settle(bins, near, n, slot, c)
                near.r2[c] = FAR  # not a neighbor of itself
                n_hits, h = hits_within(near, n, within), 0
                row = out[bins.order[slot]]
                for kind in range(bins.kinds):
                    sums[:] = 0
                    while h < n_hits and near.hits[h] < edges[kind + 1]:
                        r = np.sqrt(near.r2[near.hits[h]])
                        h += 1
                        for g in range(n_grids):
                            u = (r - first[g]) / width[g]
                            if u < -7 or u > n_centers[g] + 7:
                                continue
                            center = int(np.floor(u + np.float32(0.5)))
                            part = min(int((u - center + np.float32(0.5)) * PARTS), PARTS - 1)
                            middle = np.float32((part + 0.5) / PARTS - 0.5)
                            off = u - center - middle
                            # exp(-(d - m)^2/2) with d = middle + off, to second order in off.
                            factor = splat(1 - np.float32(0.5) * off * off)
                            at = place[g] + ROOM + center - 8
                            for lane in range(0, TAPS, WIDTH):
                                x = (load(ramp, lane) - splat(middle)) * splat(off)
                                e = splat(np.float32(1)) + x + x * x * splat(np.float32(0.5))
                                e = e * load(gaussians, part * TAPS + lane) * factor
                                store(sums, at + lane, load(sums, at + lane) + e)
                    column = kind * columns
                    for g in range(n_grids):
                        for k in range(n_centers[g]):
                            row[column] = sums[place[g] + ROOM + k]
                            column += 1


@jit
def bond_order_sums(first_bin, stop_bin, bins, centers, width, wanted, norms, out):
    """out[i, s * n_l + l] = sqrt(4 pi / (2l + 1) sum over m of |sum over j of w_j Y_lm(j)|^2) / sum of w_j.

    w_j = exp(-(r_j - centers[s])^2 / 2 width^2); 0 where all weights vanish
    wanted : (highest l + 1,) bool; norms : (highest l + 1, highest l + 1) for l, m >= 0
    """
    near = room_around(bins)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    highest, n_shells = wanted.size - 1, centers.size
    unit = np.empty((3, near.r2.size), dtype=np.float32)
    weights = np.empty((n_shells, near.r2.size), dtype=np.float32)
    powers, values = np.empty_like(unit), np.empty_like(unit)
    squared = np.empty((n_shells, highest + 1))
    for flat in range(first_bin, stop_bin):
        begin, end = bins.start[flat], bins.start[flat + 1]
        if begin == end:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(begin, end):
            c = own + slot - begin
            if squares(near, n, c, within, doubt):
                settle(bins, near, n, slot, c)
            near.r2[c] = FAR
            m = hits_within(near, n, within)
            for h in range(m):
                k = near.hits[h]
                r = np.sqrt(near.r2[k])
                inverse = 1 / r if r > 0 else np.float32(0)
                unit[0, h] = (near.x[k] - near.x[c]) * inverse
                unit[1, h] = (near.y[k] - near.y[c]) * inverse
                unit[2, h] = (near.z[k] - near.z[c]) * inverse
                for s in range(n_shells):
                    d = (r - centers[s]) / width
                    weights[s, h] = np.exp(np.float32(-0.5) * d * d) if r > 0 else np.float32(0)
            _squared_moments(unit, weights, m, wanted, norms, powers, values, squared)
            row, column = out[bins.order[slot]], 0
            for s in range(n_shells):
                total = 0.0
                for h in range(m):
                    total += weights[s, h]
                for l in range(highest + 1):  # noqa: E741 - the degree of a spherical harmonic
                    if wanted[l]:
                        row[column] = np.sqrt(squared[s, l]) / total if total > 0 else 0.0
                        column += 1


@inner
def _squared_moments(unit, weights, n, wanted, norms, powers, values, squared):
    """squared[s, l] = 4 pi / (2l + 1) sum over m of |sum over j of w_sj Y_lm(unit_j)|^2.

    powers : scratch, real and imaginary part of (x + i y)^m; values : scratch, Legendre functions / sin^m
    """
    squared[:] = 0
    x, y, z = unit[0], unit[1], unit[2]
    real, imaginary = powers[0], powers[1]
    last, before = values[0], values[1]
    real[:n], imaginary[:n] = 1, 0
    for m in range(wanted.size):
        last[:n], before[:n] = 1, 0
        for l in range(m, wanted.size):  # noqa: E741
            if l > m:
                a, b = np.float32((2 * l - 1) / (l - m)), np.float32((l + m - 1) / (l - m))
                for j in range(n):
                    new = a * z[j] * last[j] - b * before[j]
                    before[j], last[j] = last[j], new
            if not wanted[l]:
                continue
            for s in range(squared.shape[0]):
                a, b, w = np.float32(0), np.float32(0), weights[s]
                for j in range(n):
                    p = w[j] * last[j]
                    a += p * real[j]
                    b += p * imaginary[j]
                squared[s, l] += norms[l, m] * (np.float64(a) * a + np.float64(b) * b)
        for j in range(n):
            new = real[j] * x[j] - imaginary[j] * y[j]
            imaginary[j], real[j] = real[j] * y[j] + imaginary[j] * x[j], new


@jit
def sum_rows(first, stop, indptr, neighbors, weights, own, scale, rows, out):
    """out[i] = scale[i] * (own * rows[i] + sum over the neighbors j of i of weight_ij rows[j])."""
    for i in range(first, stop):
        into = out[i]
        for c in range(into.size):
            into[c] = own * rows[i, c]
        for e in range(indptr[i], indptr[i + 1]):
            w, row = weights[e], rows[neighbors[e]]
            for c in range(into.size):
                into[c] += w * row[c]
        for c in range(into.size):
            into[c] *= scale[i]


@inner
def _add_row(rows, begin, w, out, at, width):
    """Add w times a part of a row to a part of another; flat indices, contiguous arrays."""
    whole = width // WIDTH * WIDTH
    for c in range(0, whole, WIDTH):
        store(out, at + c, load(out, at + c) + splat(w) * load(rows, begin + c))
    for c in range(whole, width):
        out.flat[at + c] += w * rows.flat[begin + c]


@jit
def filter_rows(first_row, stop_row, indptr, neighbors, weights, shells, codes, scales, rows, out):
    """out[i, block] += weight_ij scale_t rows[j]; a block for each shell and type t of neighbor."""
    width, n_types = rows.shape[1], scales.size
    for i in range(first_row, stop_row):
        for e in range(indptr[i], indptr[i + 1]):
            j = neighbors[e]
            t = codes[j]
            w = weights[e] * scales[t]
            first = (shells[e] * n_types + t) * width
            _add_row(rows, j * width, w, out, i * out.shape[1] + first, width)


@jit
def filter_columns(first_row, stop_row, indptr, neighbors, weights, shells, codes, scales, rows, out):
    """out[j] += weight_ij scale_t rows[i, block], the block of the shell and the type t of j: transposed."""
    width, n_types = out.shape[1], scales.size
    for j in range(first_row, stop_row):
        t = codes[j]
        for e in range(indptr[j], indptr[j + 1]):
            w, first = weights[e] * scales[t], (shells[e] * n_types + t) * width
            _add_row(rows, neighbors[e] * rows.shape[1] + first, w, out, j * width, width)
