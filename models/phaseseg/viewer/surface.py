"""The surface on which a grid has a value, as a mesh of quadrilaterals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Grid


class Mesh(NamedTuple):
    """A surface made of quadrilaterals.

    vertices : (n_vertices, 3) float64, Å
    quads : (n_quads, 4) int32; counterclockwise as seen from below the level
    """

    vertices: NDArray[np.float64]
    quads: NDArray[np.int32]


def surface_mesh(grid: Grid, level: float) -> Mesh:
    """Return the surface `values = level` by surface nets (Gibson 1998, DOI 10.1007/BFb0056277).

    Every cube of eight grid points that the surface passes through has one vertex, the mean of the crossings
    on its edges. Along periodic axes the mesh overlaps the ends of the cell by up to one step, so that
    nothing is missing when it is cut there. Without a crossing the mesh is empty.
    """
    padded = np.pad(grid.values.astype(np.float32), [(1, 1) if p else (0, 0) for p in grid.pbc], mode="wrap")
    shape = np.array(padded.shape)
    if shape.min() < 2:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 4), np.int32))
    above = padded >= np.float32(level)
    cubes = shape - 1
    total, count = np.zeros((*cubes, 3), np.float32), np.zeros(cubes, np.int16)
    crossed = []
    for axis in range(3):
        start, end = _sliced(padded, axis, 0), _sliced(padded, axis, 1)
        mixed = _sliced(above, axis, 0) != _sliced(above, axis, 1)
        places = np.argwhere(mixed)
        a, b = start[mixed].astype(np.float64), end[mixed].astype(np.float64)
        step = b - a
        part = np.clip(np.divide(level - a, step, out=np.full(len(step), 0.5), where=step != 0), 0.02, 0.98)
        points = places.astype(np.float64)
        points[:, axis] += part
        crossed.append((places, _sliced(above, axis, 0)[mixed]))
        # An edge belongs to the four cubes around it.
        for shift in _around(axis):
            cube = places - shift
            inside = ((cube >= 0) & (cube < cubes)).all(axis=1)
            where = tuple(cube[inside].T)
            np.add.at(total, where, points[inside].astype(np.float32))
            np.add.at(count, where, 1)
    number = np.full(cubes, -1, np.int32)
    found = np.nonzero(count)
    number[found] = np.arange(len(found[0]))
    vertices = (total[found] / count[found][:, None]).astype(np.float64) - grid.pbc
    quads = []
    for axis, (places, from_above) in enumerate(crossed):
        corners = np.stack([places - shift for shift in _around(axis)])
        whole = ((corners >= 0) & (corners < cubes)).all(axis=(0, 2))
        four = number[tuple(np.moveaxis(corners[:, whole], 2, 0))].T
        quads.append(np.where(from_above[whole, None], four, four[:, ::-1]))
    return Mesh(grid.origin + vertices @ grid.steps, np.concatenate(quads).astype(np.int32))


def _sliced(values: NDArray[np.generic], axis: int, end: int) -> NDArray[np.generic]:
    return np.take(values, range(end, values.shape[axis] - 1 + end), axis=axis)


def _around(axis: int) -> list[NDArray[np.int64]]:
    """Offsets of the four cubes around an edge along an axis, in turn."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    made = []
    for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)):
        shift = np.zeros(3, np.int64)
        shift[one], shift[other] = i, j
        made.append(shift)
    return made
