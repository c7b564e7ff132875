"""Arrays of doubles and integers as the float32 arrays of a checkpoint, without loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LARGEST = 1e30
"""Larger numbers are refused; parts below 1e-45 are lost."""


def to_parts(values: ArrayLike, name: str) -> Floats:
    """Return (n_parts, ...) float32 with n_parts from 1 to 3 whose sum, in float64, is the array.

    Raises
    ------
    ValueError
        For numbers that are not finite or too large.

    >>> parts = to_parts([0.1, 2.0], "example")
    >>> parts.shape, bool((from_parts(parts) == [0.1, 2.0]).all())
    ((3, 2), True)
    """
    rest = np.array(values, dtype=np.float64)
    if not (np.abs(rest) <= LARGEST).all():
        raise ValueError(f"{name} holds numbers that are not finite or larger than {LARGEST:g}.")
    parts = []
    for _ in range(3):
        part = rest.astype(np.float32)
        parts.append(part)
        rest = rest - part
        if not rest.any():
            break
    return np.stack(parts)


def whole(values: Doubles, name: str) -> NDArray[np.int64]:
    """Return integers that were stored; ValueError for numbers that are none."""
    found = np.rint(values)
    if not (np.abs(values) < 2**53).all() or (found != values).any():
        raise ValueError(f"{name} must hold whole numbers")
    return found.astype(np.int64)


def from_parts(parts: Floats) -> Doubles:
    """Return the sum over the first axis in float64, the inverse of `to_parts`."""
    if not np.ndim(parts) or not 1 <= len(parts) <= 3:
        raise ValueError(f"an array must have one to three parts, found the shape {np.shape(parts)}")
    # From the smallest part on: adding the smaller ones first rounds nowhere.
    return np.asarray(np.asarray(parts, dtype=np.float64)[::-1].sum(axis=0))
