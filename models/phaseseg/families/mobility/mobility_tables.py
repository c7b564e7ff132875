"""Tables of a predicted mobility: its distribution, and how far it is correlated in space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import for_each
from phaseseg.fields import Column, Table
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import (
    FAR,
    hits_within,
    pack_all_around,
    room_around,
    settle,
    sort_into_bins,
    squares,
)

Floats = NDArray[np.float64]

RANGE, WIDTH = 5.0, 0.1
"""Largest distance of the correlation and width of its bins, σ."""
N_BINS = 40
"""Bins of the histogram."""


def histogram_table(values: ArrayLike, codes: ArrayLike, names: Sequence[str], n_bins: int = N_BINS) -> Table:
    """Distribution of the mobility of each type: the density integrates to 1 for every type.

    Parameters
    ----------
    values : (n_atoms,) mobility, σ
    codes : (n_atoms,) type of each particle, from 0
    names : of the types; those without particles are left out
    n_bins : of equal width from the least to the greatest value; one if all values are equal
    """
    x, of = np.asarray(values, np.float64), np.asarray(codes)
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)
    # Without a range, one bin of any width holds everything.
    edges = np.linspace(low, high, n_bins + 1) if high > low else np.array([low - 0.5, low + 0.5])
    columns: dict[Column, Floats] = {Column("mobility", "σ"): 0.5 * (edges[1:] + edges[:-1])}
    for code, name in enumerate(names):
        own = x[of == code]
        if len(own):
            density = np.histogram(own, edges)[0] / (len(own) * np.diff(edges))
            columns[Column("density", "σ^-1", part=name)] = density
    return Table("Distribution of mobility", columns)


def standardized(values: ArrayLike, codes: ArrayLike) -> Floats:
    """Mobility minus the mean of its type, over the standard deviation of the type; 0 without spread."""
    x, of = np.array(values, np.float64), np.asarray(codes)
    for code in np.unique(of):
        own = of == code
        x[own] -= x[own].mean()
        spread = x[own].std()
        x[own] = x[own] / spread if spread > 1e-12 else 0.0
    return x


def correlation_table(frame: Frame, values: ArrayLike, codes: ArrayLike, names: Sequence[str]) -> Table:
    """Correlation of the mobility of two particles against their distance.

    C(r) is the mean of z_i z_j over the pairs at the distance r, where z is the mobility of a particle minus
    the mean of its type, over the standard deviation of the type. It is 0 where mobilities are independent.
    Columns are for all pairs and for pairs of each type; NaN in bins without pairs. Bins are 0.1 σ wide up
    to 5 σ. Time is linear in the number of particles.

    Parameters
    ----------
    frame : with n_atoms particles, lengths in σ
    values : (n_atoms,) mobility
    codes : (n_atoms,) type of each particle, from 0
    names : of the types; those with fewer than two particles are left out
    """
    of = np.asarray(codes, np.int32)
    n_kinds, n = len(names), round(RANGE / WIDTH)
    sums, pairs = np.zeros((n_kinds, n_kinds, n)), np.zeros((n_kinds, n_kinds, n), np.int64)
    if frame.n_atoms:
        bins = sort_into_bins(frame, RANGE)
        known = bins, of, standardized(values, of), 1 / WIDTH, n_kinds, n
        for products, numbers in for_each(lambda part: _correlate(*part, *known), bins.parts()):
            sums += products
            pairs += numbers
    columns: dict[Column, NDArray[Any]] = {Column("distance", "σ"): (np.arange(n) + 0.5) * WIDTH}
    chosen = {"all": (slice(None), slice(None))} | {
        name: (slice(k, k + 1), slice(k, k + 1)) for k, name in enumerate(names) if (of == k).sum() > 1
    }
    for name, pair in chosen.items():
        with np.errstate(invalid="ignore"):
            columns[Column("correlation", part=name)] = sums[pair].sum(axis=(0, 1)) / pairs[pair].sum(
                axis=(0, 1)
            )
    return Table("Correlation of mobility in space", columns)


@jit
def _correlate(first, stop, bins, codes, values, per, n_kinds, n_distances):
    """Sum the products of the values of all pairs within the cutoff, by types and by distance.

    per : bins of the distance per length

    Returns (n_kinds, n_kinds, n_distances) sums of the products, and numbers of the pairs.
    """
    sums = np.zeros((n_kinds, n_kinds, n_distances))
    pairs = np.zeros((n_kinds, n_kinds, n_distances), dtype=np.int64)
    near = room_around(bins)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    last = n_distances - 1
    for flat in range(first, stop):
        begin, end = bins.start[flat], bins.start[flat + 1]
        if begin == end:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(begin, end):
            c = own + slot - begin
            if squares(near, n, c, within, doubt):
                settle(bins, near, n, slot, c)
            near.r2[c] = FAR  # not a neighbor of itself
            i = bins.order[slot]
            for h in range(hits_within(near, n, within)):
                k = near.hits[h]
                j = bins.order[near.slots[k]]
                at = min(int(np.sqrt(near.r2[k]) * per), last)
                sums[codes[i], codes[j], at] += values[i] * values[j]
                pairs[codes[i], codes[j], at] += 1
    return sums, pairs
