"""Groups of atoms that are far apart, and boxes around them packed side by side.

Along open axes atoms may be anywhere. What is sorted into bins or onto a grid should follow the atoms, not
the empty space between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def group(places: NDArray[np.float64], apart: float) -> NDArray[np.int32]:
    """(n_atoms,) numbers of the groups; atoms of different groups are more than `apart` from each other.

    places : (n_atoms, n_axes), Å, along axes that are perpendicular to each other

    Cubes of that edge are joined to the occupied ones around them, so time and memory grow with the atoms.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_axes = places.shape[1]
    cubes = np.empty(places.shape, dtype=np.int64)
    for axis in range(n_axes):
        taken, cube = np.unique(np.floor(places[:, axis] / apart), return_inverse=True)
        # Empty layers between two taken ones count as one, so that the numbers stay small.
        cubes[:, axis] = np.concatenate([[0], np.cumsum(np.minimum(np.diff(taken), 2))])[cube]
    strides = np.cumprod([1, *(cubes.max(axis=0)[:-1] + 2)])
    keys, cube = np.unique(cubes @ strides, return_inverse=True)
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * n_axes), axis=-1).reshape(-1, n_axes) @ strides
    pairs = []
    for step in steps[steps > 0]:
        at = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        joined = np.flatnonzero(keys[at] == keys + step)
        pairs.append(np.stack([joined, at[joined]]))
    rows, columns = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(keys), len(keys)))
    return np.asarray(connected_components(links, directed=False)[1][cube], dtype=np.int32)


def ends_of(
    places: NDArray[np.float64], of: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest coordinates of each group, (n_groups, n_axes)."""
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(of.max() + 1))
    columns = np.ascontiguousarray(places[order].T)
    low, high = (ends.reduceat(columns, starts, axis=1).T for ends in (np.minimum, np.maximum))
    return low, high


def packed(size: NDArray[Any], order: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """(n, 3) corners of boxes placed in rows, rows in layers, layers on top of each other.

    size : (n, 3); order : (3,) axes of the rows, the layers and the stack
    """
    corner = np.zeros_like(size)
    widest = size.max(axis=0)
    x, y, z = order
    at = np.zeros(3, dtype=size.dtype)
    row = layer = 0
    for box in np.lexsort((size[:, x], size[:, y], size[:, z]))[::-1]:
        if at[x] + size[box, x] > widest[x]:
            at[x], at[y], row = 0, at[y] + row, 0
        if at[y] + size[box, y] > widest[y]:
            at[x], at[y], at[z], row, layer = 0, 0, at[z] + layer, 0, 0
        corner[box] = at
        at[x] += size[box, x]
        row, layer = max(row, size[box, y]), max(layer, size[box, z])
    return corner
