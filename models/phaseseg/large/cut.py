"""Layers of a frame with what lies within a halo of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame


@dataclass(frozen=True, eq=False)
class Slab:
    """A layer of a frame with what lies within a halo of it.

    frame : the layer, open along the axis in which it was cut
    own : (n_slab,) bool; atoms of the layer, without those of the halo
    atoms : (n_slab,) int64; their rows in the whole frame; an image of an atom has the row of the atom
    """

    frame: Frame
    own: NDArray[np.bool_]
    atoms: NDArray[np.int64]


def slabs(frame: Frame, halo: float, n: int = 2, axis: int = 0) -> list[Slab]:
    """A frame cut into n layers of equal thickness across a cell vector, each with its halo.

    halo : Å (or σ); thickness of what is kept on either side of a layer
    """
    return [slab_of(frame, halo, k, n, axis) for k in range(n)]


def slab_of(frame: Frame, halo: float, k: int, n: int, axis: int = 0) -> Slab:
    """Slab k of n; see `slabs`."""
    place = places(frame, axis)
    low, high = 0.0, 1.0
    if not frame.pbc[axis] and len(place):
        low, high = float(place.min()), float(np.nextafter(place.max(), np.inf))
    begin, end = np.linspace(low, high, n + 1)[k : k + 2].tolist()
    return cut(frame, halo, begin, end, axis=axis)


def places(frame: Frame, axis: int) -> NDArray[np.float64]:
    """(n_atoms,) fractions along a cell vector, in the cell along a periodic one."""
    place = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)[:, axis]
    return place - np.floor(place) if frame.pbc[axis] else np.asarray(place)


def cut(frame: Frame, halo: float, begin: float, end: float, *, axis: int = 0) -> Slab:
    """The layer between two fractions along a cell vector, with its halo.

    The halo may be thicker than the cell: an atom is there as often as its images.
    """
    inverse = np.linalg.inv(frame.cell)
    margin = halo * float(np.linalg.norm(inverse[:, axis]))
    place = places(frame, axis)
    home = np.rint(place - (frame.positions - frame.origin) @ inverse[:, axis])
    images = range(-ceil(margin), ceil(margin) + 1) if frame.pbc[axis] else range(1)
    rows, shifts, own = [], [], []
    for image in images:
        there = place + image
        near = np.flatnonzero((there >= begin - margin) & (there < end + margin))
        rows.append(near)
        shifts.append(home[near] + image)
        own.append((there[near] >= begin) & (there[near] < end) & (image == 0))
    atoms, shift = np.concatenate(rows), np.concatenate(shifts)
    cell, pbc = frame.cell.copy(), frame.pbc.copy()
    cell[axis] *= end - begin + 2 * margin
    pbc[axis] = False
    part = frame.take(
        atoms,
        positions=frame.positions[atoms] + shift[:, None] * frame.cell[axis],
        cell=cell,
        origin=frame.origin + (begin - margin) * frame.cell[axis],
        pbc=pbc,
        ids=None,
    )
    return Slab(part, np.concatenate(own), atoms)
