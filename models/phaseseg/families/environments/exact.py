"""Arrays of doubles and integers as float32 arrays of a checkpoint, without loss; checkpoints of a part."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.checkpoint import Checkpoint, save_checkpoint, verify_checkpoint

T = TypeVar("T")
FAMILY = "environments"

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


def save_part(
    path: str | os.PathLike[str], part: str, settings: Mapping[str, Any], weights: Mapping[str, Floats]
) -> None:
    """Write a checkpoint of this family that holds one part, such as "clusters"."""
    save_checkpoint(Checkpoint(FAMILY, f"{FAMILY}/{part}", {part: settings}, weights), path)


def load_part(
    path: str | os.PathLike[str], part: str, what: str, missing: str,
    make: Callable[[Mapping[str, Any], Mapping[str, Floats]], T],
) -> T:  # fmt: skip
    """Return `make(settings, weights)` for a part of a checkpoint of this family.

    what : the part in words; missing : words before the name of an array or setting that is missing

    Raises
    ------
    ValueError
        If the checkpoint lacks the part, or is damaged.
    """
    checkpoint = verify_checkpoint(path)
    settings = checkpoint.config.get(part)
    if checkpoint.family != FAMILY or not isinstance(settings, dict):
        raise ValueError(f"{path}: this is no checkpoint of {what}.")
    try:
        return make(settings, checkpoint.weights)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        found = f"{missing}{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: the checkpoint is damaged: {found}.") from None
