"""Layers of a frame with what lies within a halo of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import inner, jit
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
    found, column = np.empty(frame.n_atoms), np.ascontiguousarray(np.linalg.inv(frame.cell)[:, axis])
    _places(frame.positions, frame.origin, column, bool(frame.pbc[axis]), found)
    return found


def cut(frame: Frame, halo: float, begin: float, end: float, *, axis: int = 0) -> Slab:
    """The layer between two fractions along a cell vector, with its halo.

    The halo may be thicker than the cell: an atom is there as often as its images.
    """
    column = np.ascontiguousarray(np.linalg.inv(frame.cell)[:, axis])
    margin = halo * float(np.linalg.norm(column))
    last = ceil(margin) if frame.pbc[axis] else 0
    which = (
        frame.positions, frame.origin, column, frame.cell[axis], bool(frame.pbc[axis]), last,
        np.array([begin - margin, begin, end, end + margin]),
    )  # fmt: skip
    n = _images(*which, borrow(0, np.int64), borrow((0, 3), np.float64), borrow(0, np.bool_))
    atoms, positions, own = borrow(n, np.int64), borrow((n, 3), np.float64), borrow(n, np.bool_)
    _images(*which, atoms, positions, own)
    cell, pbc = frame.cell.copy(), frame.pbc.copy()
    cell[axis] *= end - begin + 2 * margin
    pbc[axis] = False
    origin = frame.origin + (begin - margin) * frame.cell[axis]
    part = frame.take(atoms, positions=positions, cell=cell, origin=origin, pbc=pbc, ids=None)
    return Slab(part, own, atoms)


@inner
def _place(position, origin, column, wrap):
    """The fraction along a cell vector, in the cell along a periodic one, and what has been added to it."""
    f = 0.0
    for k in range(3):
        f += (position[k] - origin[k]) * column[k]
    shift = -np.floor(f) if wrap else 0.0
    return f + shift, shift


@jit
def _places(positions, origin, column, wrap, found):
    for atom in range(found.size):
        found[atom] = _place(positions[atom], origin, column, wrap)[0]


@jit
def _images(positions, origin, column, vector, wrap, last, ends, atoms, moved, own):
    """The images between the outer of four fractions along a cell vector, as far as there is room for them.

    Returns their number.
    """
    n = 0
    for image in range(-last, last + 1):
        for atom in range(positions.shape[0]):
            there, shift = _place(positions[atom], origin, column, wrap)
            there, shift = there + image, shift + image
            if ends[0] <= there < ends[3]:
                if n < atoms.size:
                    atoms[n] = atom
                    own[n] = image == 0 and ends[1] <= there < ends[2]
                    for k in range(3):
                        moved[n, k] = positions[atom, k] + shift * vector[k]
                n += 1
    return n
