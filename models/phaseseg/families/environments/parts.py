"""Descriptors of large frames, part by part: the rows of a million atoms need not be in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_NUMBERS = 16_000_000
"""Features times atoms that are computed at once, 128 MB."""


def parts_of_rows(
    descriptor: Callable[[Frame], Doubles], frame: Frame, most: int | None = None
) -> Iterator[tuple[Integers, Doubles]]:
    """Yield numbers of atoms and their descriptors (n, n_features), until all atoms have had their turn.

    A frame is cut into layers if the descriptor has a `cutoff` and an `n_features`, and all rows would hold
    more than `most` numbers (16 million). A layer is at least two cutoffs thick.
    """
    most = MOST_NUMBERS if most is None else most
    cutoff, n_features = getattr(descriptor, "cutoff", None), getattr(descriptor, "n_features", 0)
    n = ceil(len(frame) * n_features / most)
    if cutoff is None or n < 2:
        yield np.arange(len(frame)), descriptor(frame)
        return
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    inside = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    heights = np.where(frame.pbc, heights, heights * np.ptp(inside, axis=0))
    axis = int(np.argmax(heights))
    for part, own, atoms in layers(frame, cutoff, max(min(n, int(heights[axis] / (2 * cutoff))), 1), axis):
        yield atoms[own], descriptor(part)[own]


def layers(
    frame: Frame, halo: float, n: int, axis: int
) -> Iterator[tuple[Frame, NDArray[np.bool_], Integers]]:
    """Yield n layers of equal thickness across a cell vector, with what lies within a halo of each.

    Each comes as the frame of the layer, open along the axis; which of its atoms are in the layer itself; and
    their numbers in the whole frame. With one layer the frame comes as it is.
    """
    if n < 2:
        yield frame, np.ones(len(frame), dtype=bool), np.arange(len(frame))
        return
    inverse = np.linalg.inv(frame.cell)
    margin = halo * (1 + 1e-9) * float(np.linalg.norm(inverse[:, axis]))
    place = (frame.positions - frame.origin) @ inverse[:, axis]
    home, low, high = np.zeros(len(place)), float(place.min()), float(place.max())
    if frame.pbc[axis]:
        home, low, high = -np.floor(place), 0.0, 1.0
    place = place + home
    images = range(-ceil(margin), ceil(margin) + 1) if frame.pbc[axis] else range(1)
    edges = np.linspace(low, high, n + 1)
    layer = np.clip(np.searchsorted(edges, place, "right") - 1, 0, n - 1)
    pbc = frame.pbc.copy()
    pbc[axis] = False
    for number, (begin, end) in enumerate(pairwise(edges)):
        rows, shifts, own = [], [], []
        for image in images:
            near = (place + image >= begin - margin) & (place + image <= end + margin)
            if image == 0:
                near |= layer == number
            found = np.flatnonzero(near)
            rows.append(found)
            shifts.append(home[found] + image)
            own.append((layer[found] == number) & (image == 0))
        atoms, shift = np.concatenate(rows), np.concatenate(shifts)
        positions = frame.positions[atoms] + shift[:, None] * frame.cell[axis]
        yield frame.take(atoms, positions=positions, pbc=pbc, ids=None), np.concatenate(own), atoms
