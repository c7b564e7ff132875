"""Pictures of configurations in two dimensions: disks with exact edges, windows, rotations. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import asin, ceil, floor, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.frame import Frame

Floats = NDArray[np.float32]

AT_A_TIME = 16
"""Number of images drawn and evaluated at a time."""
N_SYMMETRIES = 8
"""Number of symmetries of a square: four rotations, each with and without a reflection."""


# Configurations -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Plane:
    """A configuration in two dimensions, in the coordinates of its plane.

    positions : (n, 2) float64, σ, relative to the corner of the cell; codes : (n,) int64, type of each
    cell : (2, 2) float64, σ, vectors as rows; pbc : (2,) bool
    source : origin of the configuration, for messages

    The first coordinate is along the first vector of the reduced cell (x of an upright cell), the second
    perpendicular to it (y).
    """

    positions: NDArray[np.float64]
    codes: NDArray[np.int64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    source: str = ""

    @classmethod
    def of(cls, frame: Frame, codes: ArrayLike) -> Plane:
        """Return the plane of a two-dimensional frame; codes : (n,) integer type of each particle, from 0."""
        frame = frame.reduced
        first = frame.cell[0] / np.linalg.norm(frame.cell[0])
        second = frame.cell[1] - (frame.cell[1] @ first) * first
        axes = np.stack([first, second / np.linalg.norm(second)], axis=1)
        return cls(
            np.ascontiguousarray((frame.positions - frame.origin) @ axes),
            np.ascontiguousarray(codes, dtype=np.int64),
            np.ascontiguousarray(frame.cell[:2] @ axes),
            frame.pbc[:2].copy(),
            frame.source,
        )

    @cached_property
    def extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(2,) start and (2,) span as cell fractions: of the particles along open axes, else 0 and 1."""
        fractions = self.positions @ np.linalg.inv(self.cell)
        low, span = fractions.min(axis=0), np.ptp(fractions, axis=0)
        return np.where(self.pbc, 0.0, low), np.where(self.pbc, 1.0, span)

    def place(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert positions (..., 2) from fractions of the extent to σ."""
        low, span = self.extent
        return np.asarray((low + fractions * span) @ self.cell)


# Pictures -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Style:
    """How disks are drawn.

    scale : pixels per σ; radii : (types,) float64, pixels
    shades : (types, channels) float64, color minus background; background : (channels,) float32
    """

    scale: float
    radii: NDArray[np.float64]
    shades: NDArray[np.float64]
    background: Floats

    @classmethod
    def of(cls, config: GlassConfig) -> Style:
        """The style in which a network was trained."""
        scale, ground = config.pixels_per_sigma, np.array(config.background, dtype=np.float64)
        radii, colors = np.array(config.radii, dtype=np.float64), np.array(config.colors, dtype=np.float64)
        return cls(float(scale), radii * scale, colors - ground, ground.astype(np.float32))


def draw(plane: Plane, corners: NDArray[np.float64], size: int, style: Style) -> Floats:
    """Draw squares of a configuration as images: (n, channels, size, size) float32 from 0 to 1.

    The color of a pixel is background + Σ (color - background) · coverage, clipped to 0 ... 1. The sum runs
    over all particles and their periodic images; the coverage is the fraction of the pixel's area inside the
    disk, computed exactly. Colors of overlapping disks mix, so the order of the particles does not matter;
    without overlap, the mean color of an image follows from the areas of the disks. Pixel [i, j] shows the
    square whose lower left corner is corner + (j, i) / scale: rows go up along y, columns along x
    (matplotlib's `origin="lower"`). A square larger than a periodic cell shows periodic images; the area
    beyond an open boundary is background.

    corners : (n, 2) σ, lower left corners, relative to the origin of the cell
    """
    images = np.empty((len(corners), len(style.background), size, size), dtype=np.float32)
    images[:] = style.background[:, None, None]
    places, cell = plane.positions * style.scale, plane.cell * style.scale
    starts = np.asarray(corners, dtype=np.float64) * style.scale
    disks = places, plane.codes, cell, np.linalg.inv(cell), plane.pbc
    in_parts(_draw, len(images), *disks, starts, style.radii, style.shades, images, least=1)
    return np.clip(images, 0, 1, out=images)


@inner
def _corner_areas(center, first, n, radius, lengths, areas):
    """For the lines first ... first + n along one axis, fill the signed distance to the center, at most the
    radius, and the area of the quarter disk up to the line."""
    r2 = radius * radius
    for k in range(n + 1):
        a = min(max(first + k - center, -radius), radius)
        lengths[k] = a
        areas[k] = 0.5 * (abs(a) * sqrt(max(r2 - a * a, 0.0)) + r2 * asin(min(abs(a) / radius, 1.0)))


@jit
def _draw(first_image, stop_image, positions, codes, cell, inverse, pbc, corners, radii, shades, images):
    """Add the disks to the images; all lengths are in pixels.

    The area of a disk between its center and a point (a, b), as an integral from 0 to a and 0 to b, is a b if
    the point is inside, and otherwise the overlap of the quarter disks up to a and up to b. Differences of
    this area between the corners of a pixel give the area inside the pixel.
    """
    n_channels, size = images.shape[1], images.shape[2]
    most = 0.0
    for r in radii:
        most = max(most, r)
    room = int(2 * most) + 4
    x, y, s, t = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    below = np.empty(room)
    # The square with its margin, in fractions of the cell, relative to its corner.
    low, high = np.empty(2), np.empty(2)
    for axis in range(2):
        u, v = inverse[0, axis], inverse[1, axis]
        low[axis] = min(u, 0.0) * size + min(v, 0.0) * size - (abs(u) + abs(v)) * most
        high[axis] = max(u, 0.0) * size + max(v, 0.0) * size + (abs(u) + abs(v)) * most
    for w in range(first_image, stop_image):
        for p in range(positions.shape[0]):
            d0, d1 = positions[p, 0] - corners[w, 0], positions[p, 1] - corners[w, 1]
            f0 = d0 * inverse[0, 0] + d1 * inverse[1, 0]
            f1 = d0 * inverse[0, 1] + d1 * inverse[1, 1]
            i0, i1, j0, j1 = 0, 0, 0, 0
            if pbc[0]:
                i0, i1 = ceil(low[0] - f0), floor(high[0] - f0)
            if pbc[1]:
                j0, j1 = ceil(low[1] - f1), floor(high[1] - f1)
            radius, code = radii[codes[p]], codes[p]
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    c0 = d0 + i * cell[0, 0] + j * cell[1, 0]
                    c1 = d1 + i * cell[0, 1] + j * cell[1, 1]
                    left, right = max(floor(c0 - radius), 0), min(ceil(c0 + radius), size)
                    bottom, top = max(floor(c1 - radius), 0), min(ceil(c1 + radius), size)
                    if left >= right or bottom >= top:
                        continue
                    nx, ny = right - left, top - bottom
                    _corner_areas(c0, left, nx, radius, x, s)
                    _corner_areas(c1, bottom, ny, radius, y, t)
                    quarter = 0.25 * np.pi * radius * radius
                    for m in range(ny + 1):
                        before, under = 0.0, 0.0
                        for k in range(nx + 1):
                            if x[k] * x[k] + y[m] * y[m] <= radius * radius:
                                area = x[k] * y[m]
                            else:
                                area = s[k] + t[m] - quarter
                                if (x[k] < 0) != (y[m] < 0):
                                    area = -area
                            if m > 0 and k > 0:
                                share = (area - before) - (below[k] - under)
                                for c in range(n_channels):
                                    if shades[code, c] != 0:
                                        images[w, c, bottom + m - 1, left + k - 1] += shades[code, c] * share
                            before, under = area, below[k]
                            below[k] = area


# Images of a network ------------------------------------------------------------------------------


def turned(images: Floats, symmetries: NDArray[np.integer[Any]]) -> Floats:
    """Rotate or reflect square images (n, channels, size, size), each by its own symmetry.

    symmetries : (n,) from 0 to 7, number of rotations by 90 degrees; from 4 on, of the mirror image
    """
    out = np.empty_like(images)
    for image, symmetry, to in zip(images, symmetries, out, strict=True):
        to[:] = np.rot90(image[..., ::-1] if symmetry >= 4 else image, symmetry % 4, axes=(1, 2))
    return out


def _groups(fractions: NDArray[np.float64], apart: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and lengths of the groups of particles along an axis that gaps wider than `apart` divide."""
    along = np.sort(fractions)
    last = np.append(np.diff(along) > apart, True)
    first = np.concatenate([[True], last[:-1]])
    return along[first], along[last] - along[first]


def _starts(low: float, span: float, size: float, edge: float) -> NDArray[np.float64]:
    """Starts of as few squares as cover a group, evenly spaced, in fractions of the cell of this size, σ."""
    n = ceil(span * size / edge * (1 - 1e-9))
    last = span * (1 - edge / (span * size))
    return low + (np.linspace(0, last, n) if n > 1 else np.array([last / 2]))


def _occupied(plane: Plane, starts: NDArray[np.float64], edge: float) -> NDArray[np.bool_]:
    """(n,) whether squares at the corners (n, 2) contain particles, in any image."""
    inverse, found = np.linalg.inv(plane.cell), np.zeros(len(starts), dtype=bool)
    middle = starts + edge / 2
    for k, center in enumerate(middle):
        apart = plane.positions - center
        apart -= (np.rint(apart @ inverse) * plane.pbc) @ plane.cell
        found[k] = (np.abs(apart) <= edge / 2).all(axis=1).any()
    return found


def covering_images(frame: Frame, codes: NDArray[np.int32], config: GlassConfig) -> Iterator[Floats]:
    """Yield batches of images that cover a configuration with as few squares of the trained size as possible.

    The squares are evenly spaced in rows along the cell vectors, and overlap if they do not divide the cell.
    Along open axes, groups of particles more than a square apart are covered by themselves. Groups that do
    not fill a square are left out: the networks know nothing like it.
    """
    plane, edge = Plane.of(frame, codes), config.image_edge
    inverse = np.linalg.inv(plane.cell)
    fractions = plane.positions @ inverse
    sizes = np.linalg.norm(plane.cell, axis=1)
    groups = [
        (np.zeros(1), np.ones(1)) if periodic else _groups(along, edge / size)
        for along, periodic, size in zip(fractions.T, plane.pbc, sizes, strict=True)
    ]
    filled = sizes * [span.max() for _, span in groups]
    too_small = ValueError(
        f"{frame.error_prefix}the network needs squares of {edge:.3g} σ, but the particles fill only "
        f"{filled[0]:.3g} x {filled[1]:.3g} σ; repeat the cell or choose a network on graphs."
    )
    if filled.min() < edge * (1 - 1e-9):
        raise too_small
    places, any_drawn = [], False
    for (low, span), periodic, size in zip(groups, plane.pbc, sizes, strict=True):
        if periodic:
            n = ceil(size / edge * (1 - 1e-9))
            places.append(np.arange(n) / n)
            continue
        whole = np.flatnonzero(span * size >= edge * (1 - 1e-9))
        places.append(np.concatenate([_starts(low[g], span[g], size, edge) for g in whole]))
    style = Style.of(config)
    # Draw only particles near the row of images: within the squares and one disk radius around, in fractions.
    reach = np.abs(inverse).sum(axis=0) * max(config.radii)
    corners = np.array([(0, 0), (edge, 0), (0, edge), (edge, edge)]) @ inverse
    below, wide = corners[:, 0].min() - reach[0], np.ptp(corners[:, 0]) + 2 * reach[0]
    for first in places[0]:
        apart = fractions[:, 0] - (first + below)
        apart = apart - np.floor(apart) if plane.pbc[0] else apart
        near = (apart >= 0) & (apart <= wide)
        row = Plane(plane.positions[near], plane.codes[near], plane.cell, plane.pbc, plane.source)
        starts = np.stack([np.full(len(places[1]), first), places[1]], axis=1) @ plane.cell
        if not plane.pbc.all():
            starts = starts[_occupied(row, starts, edge)]
        for at in range(0, len(starts), AT_A_TIME):
            any_drawn = True
            yield draw(row, starts[at : at + AT_A_TIME], config.image_size, style)
    if not any_drawn:
        raise too_small
