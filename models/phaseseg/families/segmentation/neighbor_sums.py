"""Sums over the neighbors of every atom, without a neighbor list.

Sums are computed bin by bin: the candidates around a bin are packed once, then the distances from each of its
atoms are computed one register at a time. Arrays per atom are in bin order (by slot). Unless stated
otherwise, rows are whole registers of float32; spare rows at the end (`SPARE_ROWS`) absorb writes beyond the
last row. Kernels whose first arguments are `first, stop` work on these bins or rows (`compiled.threads`).
"""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.simd import (
    WIDTH,
    append_lanes,
    bits_at_most,
    count_bits,
    exponential,
    greater,
    list_bits,
    load,
    root,
    splat,
    store,
    total,
    weighted_rows,
    where_at_most,
)
from phaseseg.neighbors.bins import (
    FAR,
    hits_within,
    pack_all_around,
    pack_by_kind,
    room_around,
    settle,
    squares,
)

SPARE_ROWS = 16


# Features -----------------------------------------------------------------------------------------


@inner
def _count(r2, first, stop, within):
    n = 0
    for k in range(first, stop, WIDTH):
        n += count_bits(bits_at_most(load(r2, k), within))
    return n


@jit
def count_features(first_bin, stop_bin, bins, n_species, cutoff, rows, degrees, doubtful):
    """Compute the five "counts" features; kinds are 0: neither, 1: target, 2: both, 3: counter.

    Also sets the number of neighbors (`degrees`) and whether a pair is too close to the cutoff for float32
    (`doubtful`).
    """
    near = room_around(bins)
    edges, owns = np.zeros(5, dtype=np.int64), np.zeros(4, dtype=np.int64)
    r2, limit, doubt = near.r2, np.float32(bins.within), np.float32(bins.doubt)
    within, one = splat(limit), splat(np.float32(1))
    # Deviations from a typical distance reduce the rounding error of the variance.
    usual = np.float32(0.75 * cutoff)
    for flat in range(first_bin, stop_bin):
        if bins.start[flat * 4] == bins.start[flat * 4 + 4]:
            continue
        pack_by_kind(bins, flat, near, edges, owns)
        for kind in range(4):
            first = bins.start[flat * 4 + kind]
            for slot in range(first, bins.start[flat * 4 + kind + 1]):
                c = owns[kind] + slot - first
                doubtful[slot] = squares(near, edges[4], c, limit, doubt)
                if doubtful[slot]:
                    settle(bins, near, edges[4], slot, c)
                r2[c] = FAR  # not a neighbor of itself
                targets, s, s2 = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
                for k in range(edges[1], edges[3], WIDTH):
                    d2 = load(r2, k)
                    d = where_at_most(d2, within, root(d2) - splat(usual))
                    targets = targets + where_at_most(d2, within, one)
                    s = s + d
                    s2 = s2 + d * d
                n, counters = total(targets), _count(r2, edges[2], edges[4], within)
                every = _count(r2, edges[0], edges[1], within) + n + _count(r2, edges[3], edges[4], within)
                degrees[slot] = every
                mean, variance = np.float32(cutoff), np.float32(0)
                if n > 0:
                    mean = total(s) / n
                    variance = max(total(s2) / n - mean * mean, np.float32(0))
                    mean += usual
                rows[slot, n_species] = n
                rows[slot, n_species + 1] = mean
                rows[slot, n_species + 2] = variance
                rows[slot, n_species + 3] = n / max(every, 1)
                rows[slot, n_species + 4] = counters


@jit
def density_features(
    first_bin, stop_bin, bins, scales, squarings, columns, norms, rows, degrees, doubtful
):  # fmt: skip
    """Compute Gaussian-smoothed densities of every kind; `degrees` and `doubtful` as in `count_features`.

    norms[w] exp(scales[w] r^2) is summed into column columns[w] + kind. If squarings[w] >= 0, the
    exponential of w - 1 is squared squarings[w] times instead.
    """
    near = room_around(bins)
    n_kinds, n_widths = bins.kinds, scales.size
    edges, owns = np.zeros(n_kinds + 1, dtype=np.int64), np.zeros(n_kinds, dtype=np.int64)
    sums, hits = np.zeros(WIDTH * n_widths, dtype=np.float32), np.empty_like(near.r2)
    r2, limit, doubt = near.r2, np.float32(bins.within), np.float32(bins.doubt)
    within, zero = splat(limit), splat(np.float32(0))
    for flat in range(first_bin, stop_bin):
        if bins.start[flat * n_kinds] == bins.start[(flat + 1) * n_kinds]:
            continue
        pack_by_kind(bins, flat, near, edges, owns)
        n = edges[n_kinds]
        for kind in range(n_kinds):
            first = bins.start[flat * n_kinds + kind]
            for slot in range(first, bins.start[flat * n_kinds + kind + 1]):
                c = owns[kind] + slot - first
                doubtful[slot] = squares(near, n, c, limit, doubt)
                if doubtful[slot]:
                    settle(bins, near, n, slot, c)
                r2[c] = FAR  # not a neighbor of itself
                degree = 0
                for s in range(n_kinds):
                    m = 0
                    for k in range(edges[s], edges[s + 1], WIDTH):
                        d2 = load(r2, k)
                        bits = bits_at_most(d2, within)
                        append_lanes(bits, d2, hits, m)
                        m += count_bits(bits)
                    store(hits, m, splat(FAR))
                    degree += m
                    for w in range(n_widths):
                        store(sums, WIDTH * w, zero)
                    for k in range(0, m, WIDTH):
                        d2 = load(hits, k)
                        e = zero
                        for w in range(n_widths):
                            if squarings[w] < 0:
                                e = exponential(d2 * splat(scales[w]))
                            for _ in range(squarings[w]):
                                e = e * e
                            store(sums, WIDTH * w, load(sums, WIDTH * w) + where_at_most(d2, within, e))
                    for w in range(n_widths):
                        rows[slot, columns[w] + s] = total(load(sums, WIDTH * w)) * norms[w]
                degrees[slot] = degree


@jit
def scale_features(first, stop, rows, center, scale, low, high):
    """Clip to [low, high], then scale to (x - center) / scale, in place.

    Returns numbers of clipped values, and the lowest and highest ones before.
    """
    n = center.size
    outside = np.zeros(n, dtype=np.int64)
    lowest, highest = np.full(n, np.inf, dtype=np.float32), np.full(n, -np.inf, dtype=np.float32)
    for i in range(first, stop):
        row = rows[i]
        for c in range(n):
            v = row[c]
            lowest[c] = min(lowest[c], v)
            highest[c] = max(highest[c], v)
            outside[c] += (v < low[c]) | (v > high[c])
            row[c] = (min(max(v, low[c]), high[c]) - center[c]) / scale[c]
    return outside, lowest, highest


# Layers -------------------------------------------------------------------------------------------


@inner
def _measure(bins, near, n, slot, c):
    """Compute `squares` with doubtful pairs decided in float64; candidate c is the atom in `slot`."""
    squares(near, n, c, np.float32(bins.within), np.float32(bins.doubt))
    settle(bins, near, n, slot, c)


@inner
def _hits(near, n, c, within, measured, itself):
    """List which of n candidates are within the cutoff of candidate c; return their number.

    measured : whether the squared distances are already known; itself : whether to list c as well
    """
    x, y, z, hits, found = near.x, near.y, near.z, near.hits, 0
    if measured:
        found = hits_within(near, n, within)
    else:
        x0, y0, z0, limit = splat(x[c]), splat(y[c]), splat(z[c]), splat(within)
        for k in range(0, n, WIDTH):
            dx, dy, dz = load(x, k) - x0, load(y, k) - y0, load(z, k) - z0
            found = list_bits(bits_at_most(dx * dx + dy * dy + dz * dz, limit), k, hits, found)
    if itself:
        return found
    m = 0
    for k in range(found):
        hits[m] = hits[k]
        m += hits[k] != c
    return m


@jit
def layer_sums(first, stop, bins, doubtful, rows, factors, itself, normal, heads, channels, blocks, out):
    """Sum weighted rows over the neighbors of all atoms in bins first ... stop - 1; see `weighted_rows`."""
    near, within = room_around(bins), np.float32(bins.within)
    base = bins.start[first * bins.kinds]
    for flat in range(first, stop):
        begin, end = bins.start[flat * bins.kinds], bins.start[(flat + 1) * bins.kinds]
        if begin == end:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(begin, end):
            c = own + slot - begin
            if doubtful[slot]:
                _measure(bins, near, n, slot, c)
            m = _hits(near, n, c, within, doubtful[slot], itself)
            weighted_rows(
                near.slots, near.hits, m, rows, rows.shape[1], factors, slot, normal, out,
                (slot - base) * out.shape[1], heads, channels, blocks,
            )  # fmt: skip


@jit
def narrow_sums(first, stop, bins, doubtful, table, itself, normal, out):
    """Sum three values with the weights of one head into out[i, :3], (n_atoms, 4).

    table : (n_atoms, 8) [e, t, f, u, three values, -]: factors of `weighted_rows`, then the values

    For only three values, summing over all candidates is faster than finding the neighbors first.
    """
    near = room_around(bins)
    x, y, z, r2 = near.x, near.y, near.z, near.r2
    e, f, v0, v1, v2 = (
        np.empty_like(x), np.empty_like(x), np.empty_like(x), np.empty_like(x), np.empty_like(x)
    )  # fmt: skip
    numbers = table.reshape(-1)
    limit = splat(np.float32(bins.within))
    for flat in range(first, stop):
        begin, end = bins.start[flat * bins.kinds], bins.start[(flat + 1) * bins.kinds]
        if begin == end:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for k in range(n):
            at = np.uint64(near.slots[k]) * np.uint64(8)  # unsigned: a possibly negative index costs more
            e[k], f[k] = numbers[at], numbers[at + np.uint64(2)]
            v0[k], v1[k], v2[k] = (
                numbers[at + np.uint64(4)], numbers[at + np.uint64(5)], numbers[at + np.uint64(6)]
            )  # fmt: skip
        for slot in range(begin, end):
            c = own + slot - begin
            t, u = splat(table[slot, 1]), splat(table[slot, 3])
            x0, y0, z0 = splat(x[c]), splat(y[c]), splat(z[c])
            norm, s0, s1, s2 = (
                splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
            )  # fmt: skip
            home, doubt = x[c], doubtful[slot]
            if doubt:
                _measure(bins, near, n, slot, c)
            if not itself:
                x[c] = r2[c] = FAR
            for k in range(0, n, WIDTH):
                dx, dy, dz = load(x, k) - x0, load(y, k) - y0, load(z, k) - z0
                d2 = load(r2, k) if doubt else dx * dx + dy * dy + dz * dz
                w = where_at_most(d2, limit, greater(load(e, k) * t, load(f, k) * u))
                norm, s0 = norm + w, s0 + w * load(v0, k)
                s1, s2 = s1 + w * load(v1, k), s2 + w * load(v2, k)
            x[c] = home
            scale = 1 / total(norm) if normal else np.float32(1)
            out[slot, 0], out[slot, 1], out[slot, 2] = total(s0) * scale, total(s1) * scale, total(s2) * scale


@jit
def exact_sums(first, stop, bins, doubtful, rows, scores, padded, slope, heads, channels, out):
    """Compute `layer_sums` for attention weights of any range, with one exponential per pair.

    scores : s_j starting at column 0, d_i starting at column `padded`
    heads, channels : numbers; 0 channels if every head sums whole rows
    """
    near, within, width = room_around(bins), np.float32(bins.within), rows.shape[1]
    base = bins.start[first * bins.kinds]
    for flat in range(first, stop):
        begin, end = bins.start[flat * bins.kinds], bins.start[(flat + 1) * bins.kinds]
        if begin == end:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(begin, end):
            c = own + slot - begin
            if doubtful[slot]:
                _measure(bins, near, n, slot, c)
            m = _hits(near, n, c, within, doubtful[slot], True)
            into = out[slot - base]
            into[:] = 0
            for h in range(heads):
                # The largest rectified sum belongs to the largest s.
                top = np.float32(-np.inf)
                for k in range(m):
                    top = max(top, scores[near.slots[near.hits[k]], h])
                d = scores[slot, padded + h]
                most = max(top + d, slope * (top + d))
                norm = np.float32(0)
                low, high, shift = 0, width, h * width
                if channels:
                    low, high, shift = h * channels, (h + 1) * channels, 0
                for k in range(m):
                    sum_ = scores[near.slots[near.hits[k]], h] + d
                    w = np.exp(max(sum_, slope * sum_) - most)
                    norm += w
                    row = rows[near.slots[near.hits[k]]]
                    for v in range(low, high):
                        into[shift + v] += w * row[v]
                for v in range(low, high):
                    into[shift + v] /= norm


# Nodes --------------------------------------------------------------------------------------------


@jit
def rectify(x, bias, n_rows):
    """max(0, x + bias) in place; rows of x are as long as the bias."""
    width, zero = x.shape[1], splat(np.float32(0))
    for i in range(n_rows):
        for c in range(0, width, WIDTH):
            store(x, i * width + c, greater(load(x, i * width + c) + load(bias, c), zero))


@jit
def extremes(first, stop, table, n_columns):
    """(2, n_columns): minimum and maximum of the first columns in some rows."""
    ends = np.empty((2, n_columns), dtype=np.float32)
    for h in range(n_columns):
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for i in range(first, stop):
            low, high = min(low, table[i, h]), max(high, table[i, h])
        ends[0, h], ends[1, h] = low, high
    return ends


@jit
def attention_factors(first, stop, table, slope, shift, slopes, of_target, kept):
    """Replace scores [s, d, s, d] by the factors [e, t, f, u] of `weighted_rows`, all at most 1.

    exp(leaky(s + d)), relative to its maximum in the frame, is the larger of exp(s - top) exp(d + top - most)
    and exp(slope (s - top)) exp(slope (d + top) - most), with most = leaky(d + top).

    first, stop : groups of rows, each as long as `shift`
    shift, slopes, of_target, kept : for each column of one or more rows, whole registers: the added constant
        (±top), the slope, 1 for d, 1 for unchanged columns
    """
    numbers, period = table.reshape(-1), shift.size
    half, slope = splat(np.float32(0.5)), splat(slope)
    for i in range(first * period, stop * period, period):
        for k in range(0, period, WIDTH):
            x = load(numbers, i + k)
            a = x + load(shift, k)
            most = greater(a, a * slope) * load(of_target, k)
            e = exponential(a * load(slopes, k) - most)
            stays = load(kept, k)
            store(numbers, i + k, where_at_most(stays, half, e) + where_at_most(half, stays, x))


@jit
def unsort(first, stop, rows, bias, order, out):
    """out[order[i]] = rows[i] + bias, for as many columns as `out` has."""
    for i in range(first, stop):
        atom = order[i]
        for c in range(out.shape[1]):
            out[atom, c] = rows[i, c] + bias[c]
