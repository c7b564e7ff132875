"""All pairs of atoms within a cutoff, as CSR lists of neighbors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.neighbors.bins import (
    FAR,
    SPARE,
    Bins,
    hits_within,
    measure,
    pack_around,
    room_for,
    shift_between,
)


def list_pairs(
    bins: Bins, indptr: NDArray[np.int64] | None = None, *, shifts: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """CSR lists of the neighbors of every atom within the cutoff of the bins, self-images included.

    indptr : (n_atoms + 1,) int64, if the pairs were counted before; shifts : whether the images are wanted

    Returns indptr, neighbors (n_edges,), lengths (n_edges,) in Å, and images (n_edges, 3), or (0, 3).
    """
    lists = _room(0, shifts)
    if indptr is None:
        indptr = np.zeros(len(bins.order) + 1, dtype=np.int64)
        if len(bins.order):
            _fill(bins, True, indptr, *lists)
            np.cumsum(indptr, out=indptr)
    lists = _room(int(indptr[-1]), shifts)
    _fill(bins, False, indptr, *lists)
    return indptr, *lists


def _room(n: int, shifts: bool) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    images = np.empty((n if shifts else 0, 3), dtype=np.int32)
    return np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32), images


@jit
def _fill(bins, counting, indptr, neighbors, lengths, shifts):
    """Count the neighbors of each atom into indptr[atom + 1], or write them down."""
    near, within = room_for(bins.most + SPARE), np.float32(bins.within)
    for flat in range(bins.start.size - 1):
        first, last = bins.start[flat], bins.start[flat + 1]
        if first == last:
            continue
        n, own = pack_around(bins, bins.reach, flat, 0, 1, 0, near)
        for slot in range(first, last):
            c = own + slot - first
            measure(bins, near, n, slot, c)
            near.r2[c] = FAR  # not a neighbor of itself
            atom = bins.order[slot]
            m = hits_within(near, n, within)
            if counting:
                indptr[atom + 1] = m
                continue
            e = indptr[atom]
            for h in range(m):
                k = near.hits[h]
                neighbors[e + h] = bins.order[near.slots[k]]
                lengths[e + h] = np.sqrt(near.r2[k])
            if shifts.shape[0]:
                for h in range(m):
                    s0, s1, s2 = shift_between(bins, near, slot, c, near.hits[h])
                    shifts[e + h, 0], shifts[e + h, 1], shifts[e + h, 2] = s0, s1, s2
