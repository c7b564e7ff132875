"""Density on a grid and at points, and the methods that it replaced."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.stats import gaussian_kde

VOID_DENSITY = 0.02  # share of the mean density of atoms below which a mole fraction is zero


def image_shifts(cell, pbc, reach):
    """(n, 3) lattice vectors of all images that may lie within `reach` of the home cell."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = [
        int(np.ceil(reach / height)) + 1 if wrap else 0 for height, wrap in zip(heights, pbc, strict=True)
    ]
    return np.array(list(product(*(range(-n, n + 1) for n in counts)))) @ cell


def sum_of_gaussians(points, atoms, cell, pbc, sigma, flat=(False, False, False), weights=1.0):
    """sum over atoms and images of exp(-r^2 / 2 sigma^2), times a weight of each, at every point.

    Along a flat axis positions do not count.
    """
    cell, flat = np.asarray(cell, dtype=float), np.asarray(flat)
    wrap = np.asarray(pbc) & ~flat
    inverse = np.linalg.inv(cell)
    total = np.zeros(len(points))
    if not len(atoms):
        return total
    shifts = image_shifts(cell, wrap, 7 * sigma)
    apart = (points[:, None] - atoms[None]) @ inverse
    apart -= np.rint(apart) * wrap
    apart[..., flat] = 0
    x, y, z = np.moveaxis(apart @ cell, -1, 0)
    for a, b, c in shifts:
        r2 = (x + a) ** 2 + (y + b) ** 2 + (z + c) ** 2
        found = np.zeros(r2.shape)
        np.exp(-0.5 * r2 / sigma**2, out=found, where=r2 < (12 * sigma) ** 2)  # beyond it is 1e-32
        total += (weights * found).sum(axis=1)
    return total


def extent_density(frame, sigma, flat=(False, False, False)):
    """Atoms per Å^3, along open axes of the reduced cell of the extent of the atoms (at least sigma)."""
    frame = frame.reduced
    inverse = np.linalg.inv(frame.cell)
    fractions = (frame.positions - frame.origin) @ inverse
    heights = 1 / np.linalg.norm(inverse, axis=0)
    density = frame.n_atoms / frame.volume
    for axis in range(3):
        if not frame.pbc[axis] and not flat[axis]:
            density *= heights[axis] / max(np.ptp(fractions[:, axis]) * heights[axis], sigma)
    return density


def density(points, frame, species, sigma, field="number", flat=(False, False, False)):
    """Exact number density (Å^-3) or mole fraction of the species, by direct sums over images."""
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    norm = 1.0
    for axis in range(3):
        norm *= heights[axis] if flat[axis] else np.sqrt(2 * np.pi) * sigma
    chosen = np.isin(np.array(frame.species_names)[frame.species], species)
    ours = sum_of_gaussians(points, frame.positions[chosen], frame.cell, frame.pbc, sigma, flat) / norm
    if field == "number":
        return ours
    every = sum_of_gaussians(points, frame.positions, frame.cell, frame.pbc, sigma, flat) / norm
    return ours / np.maximum(every, VOID_DENSITY * extent_density(frame, sigma, flat))


def grid_points(grid):
    """(n_x, n_y, n_z, 3) places of the points of a `Grid`."""
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid.shape), indexing="ij"), axis=-1)
    return grid.origin + fractions @ grid.cell


def score_field(
    points, frame, score, sigma, bound, flat=(False, False, False), steps=None, curvature=False
):  # fmt: skip
    """Scores of the atoms as a field at the points of a grid: their mean, freed of the atoms' density.

    Returns the field, and the density of the atoms over its mean.

    points : (n_x, n_y, n_z, 3), closed along the periodic axes; steps : (3, 3), from point to point
    """
    at = points.reshape(-1, 3)
    closes = frame.pbc | np.asarray(flat)
    den, num = (
        sum_of_gaussians(at, frame.positions, frame.cell, frame.pbc, sigma, flat, weights).reshape(
            points.shape[:3]
        )
        for weights in (1.0, score)
    )
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    norm = 1.0
    for axis in range(3):
        norm *= heights[axis] if flat[axis] else np.sqrt(2 * np.pi) * sigma
    usual = extent_density(frame, sigma, flat) * norm
    void = 1e-3 * usual
    mean, log = num / np.maximum(den, 0.1 * void), np.log(np.maximum(den, 0.1 * void))

    def slope(values):
        found = []  # per step
        for axis in range(3):
            padded = np.pad(
                values,
                [(2, 2) if a == axis else (0, 0) for a in range(3)],
                "wrap" if closes[axis] else "edge",
            )
            n = values.shape[axis]
            f = [np.take(padded, range(2 + k, 2 + k + n), axis) for k in (-2, -1, 1, 2)]
            found.append((8 * (f[2] - f[1]) - (f[3] - f[0])) / 12)
        return np.stack(found, axis=-1) @ np.linalg.inv(steps).T

    def laplacian(values):
        padded = np.pad(values, 2, "edge")
        for axis in range(3):  # the edges again, where the grid closes
            if closes[axis]:
                padded = np.take(padded, (np.arange(padded.shape[axis]) - 2) % values.shape[axis] + 2, axis)

        def at(*shift):
            n = values.shape
            return padded[tuple(slice(2 + s, 2 + s + m) for s, m in zip(shift, n, strict=True))]

        metric, unit, total = np.linalg.inv(steps @ steps.T), np.eye(3, dtype=int), 0.0
        for a in range(3):
            e = unit[a]
            second = (16 * (at(*e) + at(*-e)) - at(*(2 * e)) - at(*(-2 * e)) - 30 * values) / 12
            total = total + metric[a, a] * second
            for b in range(a):
                plus, minus = e + unit[b], e - unit[b]
                mixed = (at(*plus) + at(*-plus) - at(*minus) - at(*-minus)) / 4
                total = total + 2 * metric[a, b] * mixed
        return total

    field = mean
    for _ in range(2):
        field = mean - sigma**2 * (slope(field) * slope(log)).sum(axis=-1)
    if curvature:
        field = field - sigma**2 / 2 * laplacian(field)
    return np.where(den < void, -bound, np.clip(field, -bound, bound)), den / usual


def voxel_boundary(frame, rich, n=50):
    """The boundary of the paper: voxels as the last atom in them, both phases dilated by one, overlap."""
    frame = frame.reduced
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    places, kind = [], {}
    for atom, f in enumerate(fractions):
        place = tuple(
            int((f[axis] % 1.0) * n) % n
            if frame.pbc[axis]
            else min(int((f[axis] - fractions[:, axis].min()) / np.ptp(fractions[:, axis]) * n), n - 1)
            for axis in range(3)
        )
        places.append(place)
        kind[place] = bool(rich[atom])
    result = []
    for place in places:
        seen = {kind[place]}
        for axis, step in product(range(3), (-1, 1)):
            other = list(place)
            other[axis] += step
            if frame.pbc[axis]:
                other[axis] %= n
            if tuple(other) in kind:
                seen.add(kind[tuple(other)])
        result.append(len(seen) == 2)
    return np.array(result)


def gemm_density(positions, lengths, shape, sigma, dtype=np.float32):
    """Exact periodic density on the grid of an orthogonal cell: three one-dimensional wrapped Gaussians
    an atom, put together by one matrix product. The baseline of the benchmark.
    """
    factors = []
    for axis in range(3):
        x = np.arange(shape[axis])[:, None] * (lengths[axis] / shape[axis]) - positions[None, :, axis]
        x -= np.rint(x / lengths[axis]) * lengths[axis]
        n = int(np.ceil(6 * sigma / lengths[axis]))
        wrapped = sum(np.exp(-0.5 * ((x + m * lengths[axis]) / sigma) ** 2) for m in range(-n, n + 1))
        factors.append((wrapped / (np.sqrt(2 * np.pi) * sigma)).astype(dtype))
    a, b, c = factors
    out = np.zeros((shape[0], shape[1] * shape[2]), dtype=dtype)
    for first in range(0, len(positions), 1024):
        part = slice(first, first + 1024)
        pair = (b[:, None, part] * c[None, :, part]).reshape(shape[1] * shape[2], -1)
        out += a[:, part] @ pair.T
    return out.reshape(shape)


def kde_over_images(positions, lengths, sigma):
    """`scipy.stats.gaussian_kde` of the atoms and their 26 images; times len(positions) * 27 a density."""
    images = np.concatenate([positions + np.array(m) * lengths for m in product((-1, 0, 1), repeat=3)])
    return gaussian_kde(images.T, bw_method=sigma / images.std(ddof=1, axis=0).mean())
