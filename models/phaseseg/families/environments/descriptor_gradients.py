"""Compiled derivatives of the power spectrum with respect to the positions of the atoms."""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import inner, jit
from phaseseg.families.environments.descriptor_kernels import coefficients


@jit
def force_rows(graph, codes, spectrum, axes, points, rows):
    """rows[k, x, :] = minus the derivatives over coordinate x of atom k of the sums of basis functions.

    The basis functions of an atom of kind z are its features p and the products y_a y_b with a <= b of
    y = axes[z]^T p + constant. They fill the columns z * width ... (z + 1) * width - 1.

    graph : indptr, neighbors and vectors of the neighbors of every atom; codes : (n_atoms,) kinds
    spectrum : see `power_spectra`: table, per_step, cutoff, taper, n_max, l_max, norms, factors
    axes : (kinds, n_features, d); points : (n_atoms, d), the values y
    rows : (n_atoms, 3, kinds * width), zeros that are added to
    """
    indptr, neighbors, edge_vectors = graph
    table, _, _, _, n_max, l_max, norms, factors = spectrum
    kinds, n_features, d = axes.shape
    n_l, n_lm, channels = l_max + 1, (l_max + 1) ** 2, kinds * n_max
    width = n_features + d * (d + 1) // 2
    room = max(np.diff(indptr).max(), 1) if indptr.size > 1 else 1
    members, ends, vectors, radial, radial_slopes, harmonics, slopes, scratch = _room(
        room, kinds, n_max, l_max
    )
    sums, turned = np.empty((channels, n_lm)), np.empty((n_lm, channels))
    parts, gradient, step = np.empty((4, channels, n_l)), np.empty(n_features), np.empty(d)
    row, mine = np.empty(width), np.empty((3, width))
    for i in range(indptr.size - 1):
        found = _neighbors_by_kind(indptr, neighbors, edge_vectors, codes, i, members, ends, vectors)
        _radial_slopes(vectors, found, spectrum, radial, radial_slopes)
        _harmonic_slopes(vectors, found, l_max, scratch, harmonics, slopes)
        coefficients(ends, n_max, l_max, radial, harmonics, norms, sums)
        for n in range(n_max):
            sums[codes[i] * n_max + n, 0] += norms[0] * table[0, 0, n * n_l]
        turned[:] = sums.T
        mine[:] = 0.0
        first = codes[i] * width
        for h in range(found):
            j = members[h]
            if j == i:
                continue  # an image of the atom itself moves along
            kind = codes[j]
            _contract(h, l_max, norms, turned, harmonics, slopes, parts)
            for x in range(3):
                _pair_gradient(
                    h, kind, 2 * vectors[x, h], n_max, n_l, factors, radial, radial_slopes, parts[0],
                    parts[1 + x], gradient,
                )  # fmt: skip
                row[:n_features] = gradient
                step[:] = 0.0
                for f in range(n_features):
                    for a in range(d):
                        step[a] += gradient[f] * axes[codes[i], f, a]
                at = n_features
                for a in range(d):
                    for b in range(a, d):
                        row[at + b - a] = points[i, a] * step[b] + points[i, b] * step[a]
                    at += d - a
                target, own = rows[j, x], mine[x]
                for f in range(width):
                    target[first + f] -= row[f]
                    own[f] += row[f]
        for x in range(3):
            for f in range(width):
                rows[i, x, first + f] += mine[x, f]


@jit
def contracted_forces(graph, codes, spectrum, slopes_of, out):
    """out[k] = minus the derivatives of a sum over atoms whose slopes over the features are known.

    slopes_of : (n_atoms, n_features), the derivative of the term of each atom with respect to its features
    out : (n_atoms, 3), zeros that are added to; the other arguments as for `force_rows`
    """
    indptr, neighbors, edge_vectors = graph
    table, _, _, _, n_max, l_max, norms, factors = spectrum
    n_l, n_lm = l_max + 1, (l_max + 1) ** 2
    # Species that the frame lacks have channels, too.
    channels = _channels(slopes_of.shape[1] // n_l)
    kinds = channels // n_max
    room = max(np.diff(indptr).max(), 1) if indptr.size > 1 else 1
    members, ends, vectors, radial, radial_slopes, harmonics, slopes, scratch = _room(
        room, kinds, n_max, l_max
    )
    sums, weights = np.empty((channels, n_lm)), np.empty((channels, n_lm))
    for i in range(indptr.size - 1):
        found = _neighbors_by_kind(indptr, neighbors, edge_vectors, codes, i, members, ends, vectors)
        _radial_slopes(vectors, found, spectrum, radial, radial_slopes)
        _harmonic_slopes(vectors, found, l_max, scratch, harmonics, slopes)
        coefficients(ends, n_max, l_max, radial, harmonics, norms, sums)
        for n in range(n_max):
            sums[codes[i] * n_max + n, 0] += norms[0] * table[0, 0, n * n_l]
        weights[:] = 0.0
        column = 0
        for a in range(channels):
            for b in range(a, channels):
                for l in range(n_l):  # noqa: E741 - the degree of a spherical harmonic
                    slope = factors[l] * slopes_of[i, column]
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        weights[a, lm] += slope * sums[b, lm]
                        weights[b, lm] += slope * sums[a, lm]
                    column += 1
        for h in range(found):
            kind = codes[members[h]]
            f0, f1, f2, along = 0.0, 0.0, 0.0, 0.0
            for n in range(n_max):
                own = weights[kind * n_max + n]
                for l in range(n_l):  # noqa: E741
                    value, slope = radial[n * n_l + l, h], radial_slopes[n * n_l + l, h]
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        weight = own[lm] * norms[lm]
                        along += weight * slope * harmonics[lm, h]
                        f0 += weight * value * slopes[0, lm, h]
                        f1 += weight * value * slopes[1, lm, h]
                        f2 += weight * value * slopes[2, lm, h]
            j = members[h]
            for x, f in enumerate((f0, f1, f2)):
                total = f + 2 * along * vectors[x, h]
                out[j, x] -= total
                out[i, x] += total


@inner
def _channels(pairs):
    """The number n with n (n + 1) / 2 pairs."""
    return int(np.sqrt(8.0 * pairs + 1.0) - 1 + 0.5) // 2


@inner
def _room(room, kinds, n_max, l_max):
    n_lm, columns = (l_max + 1) ** 2, n_max * (l_max + 1)
    return (
        np.empty(room, dtype=np.int64), np.empty(kinds + 1, dtype=np.int64), np.empty((4, room)),
        np.empty((columns, room)), np.empty((columns, room)), np.empty((n_lm, room)),
        np.empty((3, n_lm, room)), np.empty((12, room)),
    )  # fmt: skip


@inner
def _neighbors_by_kind(indptr, neighbors, edge_vectors, codes, i, members, ends, vectors):
    """List the neighbors of an atom kind by kind; return how many there are."""
    found = 0
    for kind in range(ends.size - 1):
        ends[kind] = found
        for e in range(indptr[i], indptr[i + 1]):
            if codes[neighbors[e]] == kind:
                members[found] = neighbors[e]
                vectors[3, found] = 0.0
                for x in range(3):
                    vectors[x, found] = edge_vectors[e, x]
                    vectors[3, found] += edge_vectors[e, x] ** 2
                found += 1
    ends[ends.size - 1] = found
    return found


@inner
def _radial_slopes(vectors, found, spectrum, radial, slopes):
    """radial[nl, h] = f(r) g_nl(r^2), as for the features, and its derivative with respect to r^2."""
    table, per_step, cutoff, taper, _, _, _, _ = spectrum
    last_step, columns = table.shape[0] - 2, table.shape[2]
    for h in range(found):
        u = vectors[3, h]
        r = np.sqrt(u)
        at = min(int(u * per_step), last_step)
        t = min(u * per_step - at, 1.0)
        w1, d0, d1 = t * t * (3 - 2 * t), t * (1 - t) * (1 - t), t * t * (t - 1)
        w0 = 1 - w1
        s1, e0, e1 = 6 * t * (1 - t) * per_step, (1 - t) * (1 - 3 * t) * per_step, t * (3 * t - 2) * per_step
        v = min(max((r - cutoff + taper) / taper, 0.0), 1.0)
        fall = 1 - v * v * v * (10 - v * (15 - 6 * v))
        falling = -15 * v * v * (1 - v) * (1 - v) / (taper * r) if v > 0 else 0.0
        low, high = table[at], table[at + 1]
        for e in range(columns):
            value = w0 * low[0, e] + d0 * low[1, e] + w1 * high[0, e] + d1 * high[1, e]
            slope = s1 * (high[0, e] - low[0, e]) + e0 * low[1, e] + e1 * high[1, e]
            radial[e, h] = fall * value
            slopes[e, h] = fall * slope + falling * value


@inner
def _harmonic_slopes(vectors, n, l_max, scratch, out, slopes):
    """The solid harmonics of `_solid_harmonics` and their gradients (3, (l_max + 1)^2, n).

    Each is Q(z, r^2) times the real or imaginary part of (x + i y)^m, and so are the derivatives.
    """
    x, y, z, u = vectors
    real, imaginary, real_before, imaginary_before = scratch[0], scratch[1], scratch[2], scratch[3]
    last, before, last_z, before_z = scratch[4], scratch[5], scratch[6], scratch[7]
    last_u, before_u = scratch[8], scratch[9]
    real[:n], imaginary[:n], real_before[:n], imaginary_before[:n] = 1, 0, 0, 0
    for m in range(l_max + 1):
        last[:n], before[:n], last_z[:n], before_z[:n], last_u[:n], before_u[:n] = 1, 0, 0, 0, 0, 0
        for l in range(m, l_max + 1):  # noqa: E741
            if l > m:
                a, b = (2 * l - 1) / (l - m), (l + m - 1) / (l - m)
                for j in range(n):
                    new = a * z[j] * last[j] - b * u[j] * before[j]
                    new_z = a * last[j] + a * z[j] * last_z[j] - b * u[j] * before_z[j]
                    new_u = a * z[j] * last_u[j] - b * before[j] - b * u[j] * before_u[j]
                    before[j], last[j] = last[j], new
                    before_z[j], last_z[j] = last_z[j], new_z
                    before_u[j], last_u[j] = last_u[j], new_u
            lm = l * l + l
            for j in range(n):
                q, around, up = last[j], 2 * last_u[j], last_z[j] + 2 * z[j] * last_u[j]
                if m:
                    out[lm - m, j] = q * imaginary[j]
                    slopes[0, lm - m, j] = around * x[j] * imaginary[j] + q * m * imaginary_before[j]
                    slopes[1, lm - m, j] = around * y[j] * imaginary[j] + q * m * real_before[j]
                    slopes[2, lm - m, j] = up * imaginary[j]
                out[lm + m, j] = q * real[j]
                slopes[0, lm + m, j] = around * x[j] * real[j] + q * m * real_before[j]
                slopes[1, lm + m, j] = around * y[j] * real[j] - q * m * imaginary_before[j]
                slopes[2, lm + m, j] = up * real[j]
        for j in range(n):
            new = real[j] * x[j] - imaginary[j] * y[j]
            real_before[j], imaginary_before[j] = real[j], imaginary[j]
            imaginary[j], real[j] = real[j] * y[j] + imaginary[j] * x[j], new


@inner
def _contract(h, l_max, norms, turned, harmonics, slopes, parts):
    """parts[0, b, l] = sum over m of S_lm c_b,lm, and parts[1 + x] the same with the gradients of S."""
    parts[:] = 0.0
    for l in range(l_max + 1):  # noqa: E741
        for lm in range(l * l, (l + 1) * (l + 1)):
            s, s0 = norms[lm] * harmonics[lm, h], norms[lm] * slopes[0, lm, h]
            s1, s2 = norms[lm] * slopes[1, lm, h], norms[lm] * slopes[2, lm, h]
            for b in range(turned.shape[1]):
                c = turned[lm, b]
                parts[0, b, l] += s * c
                parts[1, b, l] += s0 * c
                parts[2, b, l] += s1 * c
                parts[3, b, l] += s2 * c


@inner
def _pair_gradient(h, kind, twice, n_max, n_l, factors, radial, radial_slopes, along, across, gradient):
    """The derivatives of the features of an atom over one coordinate of its neighbor h."""
    channels = along.shape[0]
    gradient[:] = 0.0
    for n in range(n_max):
        a = kind * n_max + n
        for b in range(channels):
            low, high = min(a, b), max(a, b)
            pair = low * channels - low * (low - 1) // 2 + high - low
            double = 2.0 if a == b else 1.0
            for l in range(n_l):  # noqa: E741
                value = (
                    radial[n * n_l + l, h] * across[b, l]
                    + twice * radial_slopes[n * n_l + l, h] * along[b, l]
                )
                gradient[pair * n_l + l] += double * factors[l] * value
