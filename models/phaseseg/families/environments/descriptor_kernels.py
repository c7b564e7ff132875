"""Compiled loops of the power spectrum, bin by bin as in `phaseseg.neighbors`; all sums are in float64."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.neighbors.bins import (
    FAR,
    hits_within,
    pack_by_kind,
    room_around,
    settle,
    shift_between,
    squares,
)


@jit
def power_spectra(first_bin, stop_bin, bins, table, per_step, taper, n_max, l_max, norms, factors, out):
    """out[i, pair * (l_max + 1) + l] = factors[l] sum over m of c[a, l, m] c[b, l, m], for channels a <= b.

    A channel is a species and a radial function; c[a, l, m] = sum over the neighbors j of that species of
    f(r_j) table_nl(r_j^2) S_lm(r_j), where S are real solid harmonics and f falls to zero over the last
    `taper` of the cutoff. The atom itself is its own neighbor.

    table : (n_steps + 1, 2, n_max (l_max + 1)), functions of r^2 and their slopes times a step, l fastest
    per_step : 1 / step, 1/Å^2; taper : Å; norms : ((l_max + 1)^2,), of the solid harmonics
    """
    near = room_around(bins)
    room = near.r2.size
    edges, owns = np.zeros(bins.kinds + 1, dtype=np.int64), np.zeros(bins.kinds, dtype=np.int64)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    inner = np.sqrt(bins.within) - taper
    n_l, columns = l_max + 1, n_max * (l_max + 1)
    vectors, scratch = np.empty((4, room)), np.empty((4, room))
    radial, harmonics = np.empty((columns, room)), np.empty((n_l * n_l, room))
    sums = np.empty((bins.kinds * n_max, n_l * n_l))
    ends, members = np.zeros(bins.kinds + 1, dtype=np.int64), np.empty(room, dtype=np.int64)
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
                near.r2[c] = FAR  # the atom itself is added below
                found = gather(bins, near, n, edges, slot, c, vectors, ends, members)
                _radial_functions(vectors, found, table, per_step, inner, taper, radial)
                _solid_harmonics(vectors, found, l_max, scratch, harmonics)
                coefficients(ends, n_max, l_max, radial, harmonics, norms, sums)
                for i in range(n_max):
                    sums[own * n_max + i, 0] += norms[0] * table[0, 0, i * n_l]
                row, column = out[bins.order[slot]], 0
                for a in range(bins.kinds * n_max):
                    for b in range(a, bins.kinds * n_max):
                        for l in range(n_l):  # noqa: E741
                            total = 0.0
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                total += sums[a, lm] * sums[b, lm]
                            row[column] = factors[l] * total
                            column += 1


@inner
def gather(bins, near, n, edges, slot, c, vectors, ends, members):
    """List the neighbors of the atom in `slot`, kind by kind, and return how many there are.

    vectors : (4, room), to them, Å, and their squares; members : (room,) their atoms
    ends : (kinds + 1,) where each kind begins among them
    """
    found, kind, p = hits_within(near, n, np.float32(bins.within)), 0, bins.positions[bins.order[slot]]
    for h in range(found):
        k = near.hits[h]
        while k >= edges[kind + 1]:
            kind += 1
            ends[kind] = h
        # Float32 finds the neighbors; their vectors are those of the positions in float64.
        s0, s1, s2 = shift_between(bins, near, slot, c, k)
        members[h] = bins.order[near.slots[k]]
        q = bins.positions[members[h]]
        for axis in range(3):
            moved = s0 * bins.cell[0, axis] + s1 * bins.cell[1, axis] + s2 * bins.cell[2, axis]
            vectors[axis, h] = q[axis] - p[axis] + moved
        vectors[3, h] = vectors[0, h] ** 2 + vectors[1, h] ** 2 + vectors[2, h] ** 2
    ends[kind + 1 :] = found
    return found


@inner
def _radial_functions(vectors, found, table, per_step, inner, taper, radial):
    """radial[nl, h] = f(r) g_nl(r^2) by cubic Hermite interpolation."""
    last_step, columns = table.shape[0] - 2, table.shape[2]
    for h in range(found):
        u = vectors[3, h]
        at = min(int(u * per_step), last_step)
        t = min(u * per_step - at, 1.0)
        w1 = t * t * (3 - 2 * t)
        w0, d0, d1 = 1 - w1, t * (1 - t) * (1 - t), t * t * (t - 1)
        v = min(max((np.sqrt(u) - inner) / taper, 0.0), 1.0)
        fall = 1 - v * v * v * (10 - v * (15 - 6 * v))
        w0, w1, d0, d1 = w0 * fall, w1 * fall, d0 * fall, d1 * fall
        low, high = table[at], table[at + 1]
        for e in range(columns):
            radial[e, h] = w0 * low[0, e] + d0 * low[1, e] + w1 * high[0, e] + d1 * high[1, e]


@inner
def coefficients(ends, n_max, l_max, radial, harmonics, norms, sums):
    """sums[a, lm] = norms[lm] times the sum over the neighbors of radial[nl, h] harmonics[lm, h].

    Channel a = kind * n_max + n; the neighbors of a kind are ends[kind] ... ends[kind + 1] - 1.
    """
    n_l = l_max + 1
    for a in range(sums.shape[0]):
        kind = a // n_max
        for l in range(n_l):  # noqa: E741 - the degree of a spherical harmonic
            weight = radial[(a - kind * n_max) * n_l + l]
            for lm in range(l * l, (l + 1) * (l + 1)):
                total, values = 0.0, harmonics[lm]
                for h in range(ends[kind], ends[kind + 1]):
                    total += weight[h] * values[h]
                sums[a, lm] = norms[lm] * total


@inner
def _solid_harmonics(vectors, n, l_max, scratch, out):
    """out[l^2 + l + m] = r^l P_l^|m|(z / r) cos or sin(m φ), without norms; m < 0 are the sines.

    P starts from 1 instead of (2m - 1)!!; the values are polynomials, so r = 0 is no exception.
    """
    x, y, z, u = vectors
    real, imaginary, last, before = scratch  # the first two: (x + i y)^m
    real[:n], imaginary[:n] = 1, 0
    for m in range(l_max + 1):
        last[:n], before[:n] = 1, 0
        for l in range(m, l_max + 1):  # noqa: E741
            if l > m:
                a, b = (2 * l - 1) / (l - m), (l + m - 1) / (l - m)
                for j in range(n):
                    new = a * z[j] * last[j] - b * u[j] * before[j]
                    before[j], last[j] = last[j], new
            cosines, sines = out[l * l + l + m], out[l * l + l - m]
            if m:
                for j in range(n):
                    sines[j] = last[j] * imaginary[j]
            for j in range(n):
                cosines[j] = last[j] * real[j]
        for j in range(n):
            new = real[j] * x[j] - imaginary[j] * y[j]
            imaginary[j], real[j] = real[j] * y[j] + imaginary[j] * x[j], new
