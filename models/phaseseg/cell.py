"""Equivalent cells: the same periodic images, described by short vectors."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

# Relative to the lengths of two vectors: smaller dot products and gains of length are rounding.
ROUNDING = 1e-9


def reduced_cell(
    cell: NDArray[np.float64], pbc: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The Minkowski-reduced cell, whose periodic vectors are as short as possible, and how it is made.

    Vectors along open axes do not describe images, only the direction in which extents are measured. They
    become perpendicular to all others. A vector that is perpendicular to all others stays as it is, and
    so does a cell that is reduced already.

    Returns
    -------
    cell : (3, 3) float64, Å
    axes : (3, 3) int64; along periodic axes, vector i is `axes[i] @ cell` in the given cell

    >>> tilted = np.array([[17.0, 0, 0], [85, 17, 0], [0, 0, 17]])
    >>> reduced_cell(tilted, np.ones(3, bool))[0].tolist()
    [[17.0, 0.0, 0.0], [0.0, 17.0, 0.0], [0.0, 0.0, 17.0]]
    """
    axes = np.eye(3, dtype=np.int64)
    lengths = np.linalg.norm(cell, axis=1)
    leaning = np.abs(cell @ cell.T - np.diag(lengths**2)) > ROUNDING * np.outer(lengths, lengths)
    if not leaning.any():
        return cell, axes
    slots = np.flatnonzero((leaning & pbc).any(axis=1) & pbc)
    axes[slots] = _shortened(cell[slots], axes[slots])
    reduced = axes @ cell if (axes != np.eye(3)).any() else cell.copy()
    done = [*np.flatnonzero(pbc)]
    for axis in np.flatnonzero(~pbc):
        basis = np.linalg.qr(reduced[done].T)[0] if done else np.zeros((3, 0))
        if leaning[axis].any():
            reduced[axis] -= basis @ (basis.T @ reduced[axis])
        done.append(axis)
    return reduced, axes


def _shortened(vectors: NDArray[np.float64], axes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of `axes` for the reduced vectors, each in the place of the Cartesian axis closest to it."""
    before, vectors = axes, vectors.copy()
    n, i = len(vectors), 0
    steps = np.array(list(product((-1, 0, 1), repeat=max(n - 1, 0))))
    unchanged = 0
    while unchanged < n > 1:
        others = [j for j in range(n) if j != i]
        nearest = np.rint(np.linalg.lstsq(vectors[others].T, vectors[i])[0])
        offered = vectors[i] - (steps + nearest) @ vectors[others]
        squares = (offered**2).sum(axis=1)
        best = int(np.argmin(squares))
        unchanged += 1
        if squares[best] < (vectors[i] @ vectors[i]) * (1 - ROUNDING):
            axes = axes.copy()
            axes[i] -= (steps[best] + nearest).astype(np.int64) @ axes[others]
            vectors[i], unchanged = offered[best], 0
        i = (i + 1) % n
    if axes is before:
        return axes
    slots = np.flatnonzero(before.any(axis=0))
    order = max(permutations(range(n)), key=lambda p: np.abs(vectors[list(p), slots]).sum())
    signs = np.where(vectors[list(order), slots] < 0, -1, 1)
    return axes[list(order)] * signs[:, None]
