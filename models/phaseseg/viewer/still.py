"""A still picture of a frame, drawn without a graphics card, for browsers without WebGL."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

LIGHT = np.array([-0.35, 0.55, 0.76])
MOST = 150_000
"""Spheres drawn; of more, those in front are seen anyway."""


def spheres(
    positions: NDArray[np.float64],
    radii: NDArray[np.float64],
    colors: NDArray[np.float64],
    turn: NDArray[np.float64],
    size: tuple[int, int] = (640, 480),
    scale: float | None = None,
) -> NDArray[np.uint8]:
    """Draw shaded spheres in parallel projection on white; return (height, width, 3) uint8.

    positions, radii : (n, 3), (n,) Å; relative to the center of the picture
    colors : (n, 3), 0 to 1
    turn : (3, 3); rows are the directions to the right, up and toward the viewer
    scale : pixels per Å; by default everything fits
    """
    width, height = size
    seen = positions @ turn.T
    if scale is None:
        extent = np.abs(seen[:, :2]).max(axis=0) + radii.max() if len(seen) else np.ones(2)
        scale = float(min(width / extent[0], height / extent[1]) / 2 * 0.95)
    if len(seen) > MOST:
        # What lies deep inside is hidden; a random part of it is enough to close gaps.
        foremost = np.argpartition(-seen[:, 2], MOST // 2)[: MOST // 2]
        rest = np.random.default_rng(0).choice(len(seen), MOST // 2, replace=False)
        kept = np.union1d(foremost, rest)
        seen, radii, colors = seen[kept], radii[kept], colors[kept]
    x, y = width / 2 + scale * seen[:, 0], height / 2 - scale * seen[:, 1]
    pixel_radii = np.maximum(scale * radii, 0.5)
    depth = np.full(height * width, -np.inf, np.float32)
    owner = np.full(height * width, -1, np.int64)
    fronts = _by_atom if len(seen) < pixel_radii.max(initial=0) ** 2 else _by_pixel
    for store in (False, True):
        for hit, place, front in fronts(x, y, scale * seen[:, 2], pixel_radii, width, height):
            if store:
                nearest = depth[place] == front
                owner[place[nearest]] = hit[nearest]
            else:
                np.maximum.at(depth, place, front)
    picture = np.ones((height * width, 3))
    drawn = np.flatnonzero(owner >= 0)
    of = owner[drawn]
    normals = np.stack([drawn % width + 0.5 - x[of], y[of] - drawn // width - 0.5], axis=1)
    normals /= pixel_radii[of, None]
    z = np.sqrt(np.maximum(1 - (normals**2).sum(axis=1), 0))
    shade = 0.45 + 0.6 * np.maximum(normals @ LIGHT[:2] + z * LIGHT[2], 0) * (0.4 + 0.6 * z)
    far = np.ptp(depth[drawn]) if len(drawn) else 1.0
    shade *= 1 - 0.25 * (depth[drawn].max(initial=0) - depth[drawn]) / max(far, 1e-9)
    picture[drawn] = np.clip(colors[of] * shade[:, None], 0, 1)
    return np.rint(picture * 255).astype(np.uint8).reshape(height, width, 3)


Hits = Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]


def _by_pixel(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    radii: NDArray[np.float64],
    width: int,
    height: int,
) -> Hits:
    """Yield spheres, pixels and heights of the surface there, of all spheres for one shift of the pixel."""
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    reach = int(np.ceil(radii.max(initial=0)))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            square = radii**2 - (column + dx + 0.5 - x) ** 2 - (row + dy + 0.5 - y) ** 2
            in_picture = (column + dx >= 0) & (column + dx < width) & (row + dy >= 0) & (row + dy < height)
            hit = np.flatnonzero((square > 0) & in_picture)
            place = (row[hit] + dy) * width + column[hit] + dx
            yield hit, place, (z[hit] + np.sqrt(square[hit])).astype(np.float32)


def _by_atom(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    radii: NDArray[np.float64],
    width: int,
    height: int,
) -> Hits:
    """As `_by_pixel`, one large sphere after the other."""
    for k in range(len(x)):
        columns = np.arange(max(int(x[k] - radii[k]), 0), min(int(x[k] + radii[k]) + 2, width))
        rows = np.arange(max(int(y[k] - radii[k]), 0), min(int(y[k] + radii[k]) + 2, height))
        square = radii[k] ** 2 - (columns + 0.5 - x[k]) ** 2 - ((rows + 0.5 - y[k]) ** 2)[:, None]
        inside = np.nonzero(square > 0)
        place = rows[inside[0]] * width + columns[inside[1]]
        yield np.full(len(place), k), place, (z[k] + np.sqrt(square[inside])).astype(np.float32)


def data_url(picture: NDArray[np.uint8]) -> str:
    """Return a picture as the address of an image that contains it."""
    from PIL import Image  # comes with matplotlib

    stream = BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
