"""Walks over the neighbors of every atom, without a list of them.

Every walk goes bin by bin: what may be a neighbor of the atoms of a bin is packed once, then the
distances from each of its atoms are found many at a time. Arrays per atom are in the order of the bins.
"""

from __future__ import annotations

import numpy as np

from phaseseg.graph import FAR, pack_candidates, settle, squares
from phaseseg.kernels import jit


@jit
def _buffers(bins):
    size = bins.most + 16 * bins.kinds
    x, y = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    z, r2 = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    return x, y, z, r2, np.empty(size, dtype=np.int32)


# Features -----------------------------------------------------------------------------------------


@jit
def _exp_block(arguments, n):
    """exp in place for arguments at most 0, relative error 1e-7: a loop that vectorizes.

    2^f by a polynomial for |f| <= 1/2, times 2^k by adding k to the exponent's bits.
    """
    bits = arguments.view(np.int32)
    for k in range(n):
        t = max(arguments[k], np.float32(-87)) * np.float32(1.4426950408889634)
        whole = np.floor(t + np.float32(0.5))
        f = t - whole
        p = np.float32(1.535336188319500e-4)
        p = p * f + np.float32(1.339887440266574e-3)
        p = p * f + np.float32(9.618437357674640e-3)
        p = p * f + np.float32(5.550332471162809e-2)
        p = p * f + np.float32(2.402264791363012e-1)
        p = p * f + np.float32(6.931472028550421e-1)
        arguments[k] = p * f + np.float32(1)
        bits[k] += np.int32(whole) << np.int32(23)


@jit
def density_features(bins, widths, rows):
    """rows[i, S + w S + s] = density of kind s at slot i, smoothed with width w (Å), in Å^-3."""
    x, y, z, r2, slots = _buffers(bins)
    terms = np.empty(r2.size, dtype=np.float32)
    edges = np.zeros(bins.kinds + 1, dtype=np.int64)
    owns = np.zeros(bins.kinds, dtype=np.int64)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    n_kinds = bins.kinds
    flat = 0
    for b0 in range(bins.shape[0]):
        for b1 in range(bins.shape[1]):
            for b2 in range(bins.shape[2]):
                if bins.start[flat * n_kinds] == bins.start[(flat + 1) * n_kinds]:
                    flat += 1
                    continue
                for kind in range(n_kinds):
                    edges[kind + 1], owns[kind] = pack_candidates(
                        bins, b0, b1, b2, kind, kind + 1, edges[kind], x, y, z, slots
                    )
                n = edges[n_kinds]
                for kind in range(n_kinds):
                    first = bins.start[flat * n_kinds + kind]
                    for slot in range(first, bins.start[flat * n_kinds + kind + 1]):
                        c = owns[kind] + slot - first
                        if squares(x, y, z, n, x[c], y[c], z[c], within, doubt, r2):
                            settle(bins, slot, slots, x, y, z, n, c, r2)
                        r2[c] = FAR
                        for w in range(widths.size):
                            scale = np.float32(-0.5 / widths[w] ** 2)
                            norm = 1 / ((2 * np.pi) ** 1.5 * widths[w] ** 3)
                            for k in range(n):
                                terms[k] = scale * r2[k]
                            _exp_block(terms, n)
                            for s in range(n_kinds):
                                total = np.float32(0)
                                for k in range(edges[s], edges[s + 1]):
                                    total += terms[k] if r2[k] <= within else np.float32(0)
                                rows[slot, n_kinds * (1 + w) + s] = total * norm
                flat += 1


@jit
def count_features(bins, n_species, cutoff, rows):
    """The five features of the counts; kinds are 0: neither, 1: target, 2: counter, 3: both."""
    x, y, z, r2, slots = _buffers(bins)
    edges = np.zeros(5, dtype=np.int64)
    owns = np.zeros(4, dtype=np.int64)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    # Sums about a distance that is usual keep the variance from being lost in rounding.
    usual = np.float32(0.75 * cutoff)
    zero = np.float32(0)
    flat = 0
    for b0 in range(bins.shape[0]):
        for b1 in range(bins.shape[1]):
            for b2 in range(bins.shape[2]):
                if bins.start[flat * 4] == bins.start[flat * 4 + 4]:
                    flat += 1
                    continue
                for kind in range(4):
                    edges[kind + 1], owns[kind] = pack_candidates(
                        bins, b0, b1, b2, kind, kind + 1, edges[kind], x, y, z, slots
                    )
                n = edges[4]
                for kind in range(4):
                    first = bins.start[flat * 4 + kind]
                    for slot in range(first, bins.start[flat * 4 + kind + 1]):
                        c = owns[kind] + slot - first
                        if squares(x, y, z, n, x[c], y[c], z[c], within, doubt, r2):
                            settle(bins, slot, slots, x, y, z, n, c, r2)
                        r2[c] = FAR
                        every, targets, counters = np.int32(0), np.int32(0), np.int32(0)
                        for k in range(n):
                            every += r2[k] <= within
                        for k in range(edges[2], edges[4]):
                            counters += r2[k] <= within
                        s, s2 = zero, zero
                        for part in range(1, 4, 2):
                            for k in range(edges[part], edges[part + 1]):
                                inside = r2[k] <= within
                                targets += inside
                                d = np.sqrt(r2[k]) - usual if inside else zero
                                s += d
                                s2 += d * d
                        row = rows[slot]
                        row[n_species] = targets
                        row[n_species + 1] = cutoff
                        row[n_species + 2] = 0
                        row[n_species + 3] = targets / max(every, 1)
                        row[n_species + 4] = counters
                        if targets:
                            mean = s / targets
                            row[n_species + 1] = usual + mean
                            row[n_species + 2] = max(s2 / targets - mean * mean, zero)
                flat += 1
