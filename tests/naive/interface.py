"""Domains and the interface between them."""

from __future__ import annotations

from collections import deque
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from naive.fields import image_shifts


def flood_fill(rich, pbc):
    """Face-connected domains by breadth-first search: numbers (0 = poor, 1 ...), percolation (n, 3).

    Every voxel is reached in some image of the cell. A domain that meets one of its own voxels in
    another image goes around the cell along the axes in which the images differ.
    """
    shape = rich.shape
    number = np.zeros(shape, dtype=int)
    image = np.zeros((*shape, 3), dtype=int)
    percolates = []
    for seed in zip(*np.nonzero(rich), strict=True):
        if number[seed]:
            continue
        percolates.append([False, False, False])
        number[seed] = len(percolates)
        queue = deque([seed])
        while queue:
            here = queue.popleft()
            for axis, step in product(range(3), (-1, 1)):
                place, there = list(here), image[here].copy()
                place[axis] += step
                if not 0 <= place[axis] < shape[axis]:
                    if not pbc[axis]:
                        continue
                    there[axis] += step
                    place[axis] %= shape[axis]
                other = tuple(place)
                if not rich[other]:
                    continue
                if not number[other]:
                    number[other], image[other] = len(percolates), there
                    queue.append(other)
                else:
                    for k in np.flatnonzero(image[other] != there):
                        percolates[-1][k] = True
    return number, np.array(percolates, dtype=bool).reshape(-1, 3)


def surface_points(values, cut, cell, origin, pbc, fine=10):
    """Points on the level set of the trilinear interpolation, `fine` to a voxel edge.

    Roots along lines parallel to the three axes through every cell of eight grid points.
    """
    values = np.asarray(values, dtype=float)
    shape = values.shape
    corners = {}
    for corner in product((0, 1), repeat=3):
        shifted = values
        for axis in range(3):
            if corner[axis]:
                shifted = np.roll(shifted, -1, axis)
        corners[corner] = shifted
    stack = np.stack(list(corners.values()))
    mixed = (stack.min(axis=0) < cut) & (stack.max(axis=0) >= cut)
    for axis in range(3):
        if not pbc[axis]:  # no cell reaches across the end
            last = [slice(None)] * 3
            last[axis] = shape[axis] - 1
            mixed[tuple(last)] = False
    places = np.argwhere(mixed)
    at = {corner: field[mixed] for corner, field in corners.items()}
    t = (np.arange(fine) + 0.5) / fine
    found = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for p, q in product(t, t):
            ends = []
            for end in (0, 1):
                line = 0.0
                for u, v in product((0, 1), repeat=2):
                    corner = [0, 0, 0]
                    corner[axis], corner[first], corner[second] = end, u, v
                    line = line + (p if u else 1 - p) * (q if v else 1 - q) * at[tuple(corner)]
                ends.append(line - cut)
            crossed = (ends[0] < 0) != (ends[1] < 0)
            point = places[crossed].astype(float)
            point[:, axis] += ends[0][crossed] / (ends[0] - ends[1])[crossed]
            point[:, first] += p
            point[:, second] += q
            found.append(point)
    return origin + np.concatenate(found) / np.array(shape) @ cell


def distance_to_points(points, surface, cell, origin, pbc, reach):
    """Distance of every point to the nearest surface point or image; right where it is below `reach`."""
    inverse = np.linalg.inv(cell)
    margin = reach * np.linalg.norm(inverse, axis=0)

    def home(places):
        fractions = (places - origin) @ inverse
        return fractions - np.floor(fractions) * np.asarray(pbc)

    images = home(surface)[None] + (image_shifts(cell, pbc, reach) @ inverse)[:, None]
    images = images.reshape(-1, 3)
    near = ((images >= -margin) & (images <= 1 + margin)) | ~np.asarray(pbc)
    return cKDTree(images[near.all(axis=1)] @ cell).query(home(points) @ cell)[0]
