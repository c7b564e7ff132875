"""Domains of a thresholded grid, and the interface between them.

Domains are found on runs of voxels, the interface as one small facet in every cube of eight grid
points that the cut passes through. Distances are taken from the facets, not from voxels, so they
resolve a fraction of a voxel; work and memory grow with the voxels and the area, not their product.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.density import Lattice
from phaseseg.kernels import grid_point, jit

# Edge, in voxels, of the coarse cells that remember their nearest facet.
COARSE = 4
# Beyond so many voxels the facet found through the coarse cells is near enough (0.05 Å of 8 Å).
REFINE_WITHIN = 8.0

# The six tetrahedra of a cube as paths from corner 0 to corner 7; bit 2, 1, 0 of a corner = axis 0, 1, 2.
_TETRAHEDRA = np.array([[0, 4, 6, 7], [0, 4, 5, 7], [0, 2, 6, 7], [0, 2, 3, 7], [0, 1, 5, 7], [0, 1, 3, 7]])


# Domains ------------------------------------------------------------------------------------------


@jit
def _find_runs(values, cut):
    """Runs of voxels >= cut along the last axis: `start` per row (CSR), first and one-past-last voxel."""
    n0, n1, n2 = values.shape
    start = np.zeros(n0 * n1 + 1, dtype=np.int64)
    for i in range(n0):
        for j in range(n1):
            count, inside = 0, False
            for k in range(n2):
                rich = values[i, j, k] >= cut
                count += rich and not inside
                inside = rich
            start[i * n1 + j + 1] = start[i * n1 + j] + count
    low = np.empty(start[-1], dtype=np.int32)
    high = np.empty(start[-1], dtype=np.int32)
    run = 0
    for i in range(n0):
        for j in range(n1):
            if start[i * n1 + j] == start[i * n1 + j + 1]:
                continue
            inside = False
            for k in range(n2):
                rich = values[i, j, k] >= cut
                if rich and not inside:
                    low[run] = k
                elif inside and not rich:
                    high[run] = k
                    run += 1
                inside = rich
            if inside:
                high[run] = n2
                run += 1
    return start, low, high


@jit
def _root(parent, image, run):
    """Root of a run; afterwards `parent[run]` is the root and `image[run]` the cell image that meets it."""
    top = run
    x, y, z = 0, 0, 0
    while parent[top] != top:
        x += image[top, 0]
        y += image[top, 1]
        z += image[top, 2]
        top = parent[top]
    while parent[run] != run:
        above = parent[run]
        ax, ay, az = image[run, 0], image[run, 1], image[run, 2]
        parent[run] = top
        image[run, 0], image[run, 1], image[run, 2] = x, y, z
        x -= ax
        y -= ay
        z -= az
        run = above
    return top


@jit
def _join(parent, image, winds, a, b, s0, s1, s2):
    """Run a touches the image (s0, s1, s2) of run b.

    Every run knows the image of itself that is connected to image 0 of its root. Where two runs of one
    domain meet in images that disagree, the domain closes on itself around the cell: it percolates.
    """
    ra, rb = _root(parent, image, a), _root(parent, image, b)
    d0 = (image[a, 0] if a != ra else 0) + s0 - (image[b, 0] if b != rb else 0)
    d1 = (image[a, 1] if a != ra else 0) + s1 - (image[b, 1] if b != rb else 0)
    d2 = (image[a, 2] if a != ra else 0) + s2 - (image[b, 2] if b != rb else 0)
    if ra == rb:
        winds[ra, 0] |= d0 != 0
        winds[ra, 1] |= d1 != 0
        winds[ra, 2] |= d2 != 0
        return
    parent[rb] = ra
    image[rb, 0], image[rb, 1], image[rb, 2] = d0, d1, d2
    for axis in range(3):
        winds[ra, axis] |= winds[rb, axis]


@jit
def _join_rows(parent, image, winds, start, low, high, row_a, row_b, s0, s1):
    a, b = start[row_a], start[row_b]
    while a < start[row_a + 1] and b < start[row_b + 1]:
        if low[a] < high[b] and low[b] < high[a]:
            _join(parent, image, winds, a, b, s0, s1, 0)
        if high[a] <= high[b]:
            a += 1
        else:
            b += 1


@jit
def _connect(start, low, high, shape, wrap):
    """Face-connected domains: number of every run, voxels and percolation (3 axes) of every domain."""
    n0, n1, n2 = shape
    n_runs = low.size
    parent = np.arange(n_runs)
    image = np.zeros((n_runs, 3), dtype=np.int32)
    winds = np.zeros((n_runs, 3), dtype=np.bool_)
    for i in range(n0):
        for j in range(n1):
            row = i * n1 + j
            first, last = start[row], start[row + 1] - 1
            if last < first:
                continue
            if wrap[2] and low[first] == 0 and high[last] == n2:
                _join(parent, image, winds, last, first, 0, 0, 1)
            if j + 1 < n1:
                _join_rows(parent, image, winds, start, low, high, row, row + 1, 0, 0)
            elif wrap[1]:
                _join_rows(parent, image, winds, start, low, high, row, i * n1, 0, 1)
            if i + 1 < n0:
                _join_rows(parent, image, winds, start, low, high, row, row + n1, 0, 0)
            elif wrap[0]:
                _join_rows(parent, image, winds, start, low, high, row, j, 1, 0)
    number = np.full(n_runs, -1, dtype=np.int32)
    domain = np.empty(n_runs, dtype=np.int32)
    n = 0
    for run in range(n_runs):
        root = _root(parent, image, run)
        if number[root] < 0:
            number[root] = n
            n += 1
        domain[run] = number[root]
    voxels = np.zeros(n, dtype=np.int64)
    percolates = np.zeros((n, 3), dtype=np.bool_)
    for run in range(n_runs):
        voxels[domain[run]] += high[run] - low[run]
        if parent[run] == run:
            percolates[domain[run]] = winds[run]
    return domain, voxels, percolates


@jit
def _domain_at(start, low, high, domain, i, j, k, n1):
    """Domain of a voxel, -1 where it is poor."""
    row = i * n1 + j
    for run in range(start[row], start[row + 1]):
        if k < low[run]:
            return -1
        if k < high[run]:
            return domain[run]
    return -1


@jit
def _domains_of(positions, rich, origin, to_grid, wrap, start, low, high, domain, shape, out):
    """Domain of every rich atom: that of the nearest rich voxel among the 4^3 around it, else -1."""
    n = shape
    cell = np.empty(3, dtype=np.int64)
    at = np.empty(3, dtype=np.int64)
    part = np.empty(3)
    for atom in range(positions.shape[0]):
        out[atom] = -1
        if not rich[atom]:
            continue
        for axis in range(3):
            g = grid_point(positions[atom], origin, to_grid, axis)
            cell[axis] = int(floor(g))
            part[axis] = g - floor(g)
            nearest = int(floor(g + 0.5))
            at[axis] = nearest % n[axis] if wrap[axis] else min(max(nearest, 0), n[axis] - 1)
        out[atom] = _domain_at(start, low, high, domain, at[0], at[1], at[2], n[1])
        if out[atom] >= 0:
            continue
        best = 1e30
        for di in range(-1, 3):
            i = (cell[0] + di) % n[0] if wrap[0] else min(max(cell[0] + di, 0), n[0] - 1)
            for dj in range(-1, 3):
                j = (cell[1] + dj) % n[1] if wrap[1] else min(max(cell[1] + dj, 0), n[1] - 1)
                for dk in range(-1, 3):
                    far = (di - part[0]) ** 2 + (dj - part[1]) ** 2 + (dk - part[2]) ** 2
                    if far >= best:
                        continue
                    k = (cell[2] + dk) % n[2] if wrap[2] else min(max(cell[2] + dk, 0), n[2] - 1)
                    found = _domain_at(start, low, high, domain, i, j, k, n[1])
                    if found >= 0:
                        best = far
                        out[atom] = found


@dataclass(frozen=True, eq=False)
class Domains:
    """Face-connected domains of voxels at or above a cut, periodic along the axes that wrap.

    numbers : (n_kept,) 1-based numbers are places in these arrays, the largest domain first
    voxels : (n_kept,) int64; percolates : (n_kept, 3) bool
    n_dropped : domains that were found and not kept
    """

    voxels: NDArray[np.int64]
    percolates: NDArray[np.bool_]
    n_dropped: int
    _start: NDArray[np.int64]
    _low: NDArray[np.int32]
    _high: NDArray[np.int32]
    _number: NDArray[np.int32]  # of each run: 1-based, 0 where its domain was dropped
    _lattice: Lattice

    @property
    def n_kept(self) -> int:
        """Number of domains kept."""
        return len(self.voxels)

    def of_atoms(self, positions: NDArray[np.float64], rich: NDArray[np.bool_]) -> NDArray[np.int32]:
        """(n_atoms,) int32: number of the domain of each rich atom; 0 outside the kept domains."""
        out = np.empty(len(positions), dtype=np.int32)
        lattice = self._lattice
        _domains_of(
            positions, rich, lattice.origin, lattice.to_grid, lattice.wrap, self._start, self._low,
            self._high, self._number, np.array(lattice.shape), out,
        )  # fmt: skip
        return np.maximum(out, 0)

    def mask(self) -> NDArray[np.bool_]:
        """(n_x, n_y, n_z) bool: the voxels of the kept domains."""
        mask = np.zeros(self._lattice.shape, dtype=bool)
        _paint(self._start, self._low, self._high, self._number, mask)
        return mask

    def without_dropped(self, values: NDArray[np.float32], cut: float) -> NDArray[np.float32]:
        """The field with the dropped domains mirrored below the cut, so that they leave no interface."""
        if not self.n_dropped:
            return values
        mirrored = values.copy()
        _mirror(self._start, self._low, self._high, self._number, np.float32(cut), mirrored)
        return mirrored


@jit
def _paint(start, low, high, number, mask):
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            row = i * mask.shape[1] + j
            for run in range(start[row], start[row + 1]):
                if number[run] > 0:
                    mask[i, j, low[run] : high[run]] = True


@jit
def _mirror(start, low, high, number, cut, values):
    # Strictly below the cut, also where the value equals it.
    tiny = np.float32(1e-6) * abs(cut)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            row = i * values.shape[1] + j
            for run in range(start[row], start[row + 1]):
                if number[run] == 0:
                    for k in range(low[run], high[run]):
                        values[i, j, k] = 2 * cut - values[i, j, k] - tiny


def find_domains(
    values: NDArray[np.float32], cut: float, lattice: Lattice, *, keep: str = "all", min_volume: float = 0.0
) -> Domains:
    """Domains of the voxels with `values >= cut`.

    keep : "all" of at least `min_volume` Å^3, or the "largest" alone (the paper)
    """
    start, low, high = _find_runs(values, np.float32(cut))
    run_domain, voxels, percolates = _connect(start, low, high, lattice.shape, lattice.wrap)
    # A stable sort: domains of equal volume keep the order of the grid.
    order = np.argsort(-voxels, kind="stable")
    kept = order[:1] if keep == "largest" else order[voxels[order] * lattice.voxel_volume >= min_volume]
    number = np.zeros(len(voxels) + 1, dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return Domains(
        voxels[kept], percolates[kept], len(voxels) - len(kept),
        start, low, high, number[run_domain], lattice,
    )  # fmt: skip


# Interface ----------------------------------------------------------------------------------------


@jit
def _mixed_cubes(values, cut, wrap):
    """Rows (CSR over the first two axes) and last coordinate of the cubes that the cut passes through."""
    n0, n1, n2 = values.shape
    start = np.zeros(n0 * n1 + 1, dtype=np.int64)
    codes = np.empty(n2 + 1, dtype=np.uint8)
    cubes = np.empty(1024, dtype=np.int32)
    found = 0
    last = n2 if wrap[2] else n2 - 1
    for i in range(n0):
        for j in range(n1):
            row = i * n1 + j
            start[row + 1] = found
            if (i + 1 == n0 and not wrap[0]) or (j + 1 == n1 and not wrap[1]):
                continue
            u, v = (i + 1) % n0, (j + 1) % n1
            some, every = np.uint8(0), np.uint8(15)
            for k in range(n2):
                code = (
                    np.uint8(values[i, j, k] >= cut)
                    | np.uint8(values[i, v, k] >= cut) << 1
                    | np.uint8(values[u, j, k] >= cut) << 2
                    | np.uint8(values[u, v, k] >= cut) << 3
                )
                codes[k] = code
                some |= code
                every &= code
            if some == 0 or every == 15:
                continue
            codes[n2] = codes[0]
            if found + n2 > cubes.size:
                larger = np.empty(2 * cubes.size + n2, dtype=np.int32)
                larger[:found] = cubes[:found]
                cubes = larger
            for k in range(last):
                if (codes[k] | codes[k + 1]) and (codes[k] & codes[k + 1]) != 15:
                    cubes[found] = k
                    found += 1
            start[row + 1] = found
    return start, cubes[:found].copy()


@jit
def _wrapped(index, n):
    """index modulo n for an index near the range: a division would cost more than all the rest."""
    while index < 0:
        index += n
    while index >= n:
        index -= n
    return index


@jit
def _difference(values, i, j, k, axis, wrap):
    """Central difference over one step along an axis (one-sided at open ends)."""
    n = values.shape[axis]
    index = (i, j, k)[axis]
    low, high = index - 1, index + 1
    if wrap[axis]:
        low, high = _wrapped(low, n), _wrapped(high, n)
        scale = 0.5
    else:
        low, high = max(low, 0), min(high, n - 1)
        scale = 1.0 / (high - low) if high > low else 0.0
    if axis == 0:
        return scale * (values[high, j, k] - values[low, j, k])
    if axis == 1:
        return scale * (values[i, high, k] - values[i, low, k])
    return scale * (values[i, j, high] - values[i, j, low])


@jit
def _facets(values, cut, wrap, steps, to_grid, start, cubes, tetrahedra, point, normal):
    """One facet a cube: `point` (Å from the cube's first corner) and `normal` towards the rich side.

    The surface inside a cube is that of its six tetrahedra with linear interpolation; the facet's point
    is its centroid. Returns the whole area.
    """
    n0, n1, n2 = values.shape
    f = np.empty(8)
    corner = np.empty((8, 3))
    for c in range(8):
        for x in range(3):
            corner[c, x] = (c >> 2 & 1) * steps[0, x] + (c >> 1 & 1) * steps[1, x] + (c & 1) * steps[2, x]
    cross = np.empty((4, 3))
    total = 0.0
    for i in range(n0):
        for j in range(n1):
            for e in range(start[i * n1 + j], start[i * n1 + j + 1]):
                k = cubes[e]
                for c in range(8):
                    u, v, w = (
                        _wrapped(i + (c >> 2 & 1), n0),
                        _wrapped(j + (c >> 1 & 1), n1),
                        _wrapped(k + (c & 1), n2),
                    )
                    f[c] = values[u, v, w] - cut
                area = 0.0
                p0, p1, p2 = 0.0, 0.0, 0.0
                for t in range(6):
                    n_rich = 0
                    for v in range(4):
                        n_rich += f[tetrahedra[t, v]] >= 0
                    if n_rich in (0, 4):
                        continue
                    # Crossings of the edges, in an order that goes around the polygon.
                    n_cross = 0
                    for a in range(4):
                        for b in range(a + 1, 4):
                            q, r = tetrahedra[t, a], tetrahedra[t, b]
                            if (f[q] >= 0) == (f[r] >= 0):
                                continue
                            s = f[q] / (f[q] - f[r])
                            for x in range(3):
                                cross[n_cross, x] = corner[q, x] + s * (corner[r, x] - corner[q, x])
                            n_cross += 1
                    if n_cross == 4:
                        # Edges come as (a,c) (a,d) (b,c) (b,d) of the pairs {a,b} and {c,d}, whichever
                        # they are, so that the polygon is 0 1 3 2.
                        for x in range(3):
                            cross[2, x], cross[3, x] = cross[3, x], cross[2, x]
                    for tri in range(n_cross - 2):
                        u0, u1, u2 = (
                            cross[tri + 1, 0] - cross[0, 0],
                            cross[tri + 1, 1] - cross[0, 1],
                            cross[tri + 1, 2] - cross[0, 2],
                        )
                        v0, v1, v2 = (
                            cross[tri + 2, 0] - cross[0, 0],
                            cross[tri + 2, 1] - cross[0, 1],
                            cross[tri + 2, 2] - cross[0, 2],
                        )
                        c0, c1, c2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
                        piece = 0.5 * np.sqrt(c0 * c0 + c1 * c1 + c2 * c2)
                        area += piece
                        p0 += piece * (cross[0, 0] + cross[tri + 1, 0] + cross[tri + 2, 0]) / 3
                        p1 += piece * (cross[0, 1] + cross[tri + 1, 1] + cross[tri + 2, 1]) / 3
                        p2 += piece * (cross[0, 2] + cross[tri + 1, 2] + cross[tri + 2, 2]) / 3
                total += area
                if area > 0:
                    p0, p1, p2 = p0 / area, p1 / area, p2 / area
                else:  # the cut runs through grid points only
                    for x in range(3):
                        p0, p1, p2 = corner[7, 0] / 2, corner[7, 1] / 2, corner[7, 2] / 2
                point[e, 0], point[e, 1], point[e, 2] = p0, p1, p2
                # Normal: central differences at the corners, interpolated to the point.
                s0 = p0 * to_grid[0, 0] + p1 * to_grid[1, 0] + p2 * to_grid[2, 0]
                s1 = p0 * to_grid[0, 1] + p1 * to_grid[1, 1] + p2 * to_grid[2, 1]
                s2 = p0 * to_grid[0, 2] + p1 * to_grid[1, 2] + p2 * to_grid[2, 2]
                g0, g1, g2 = 0.0, 0.0, 0.0
                for c in range(8):
                    w = (
                        (s0 if c >> 2 & 1 else 1 - s0)
                        * (s1 if c >> 1 & 1 else 1 - s1)
                        * (s2 if c & 1 else 1 - s2)
                    )
                    a, b, d = (
                        _wrapped(i + (c >> 2 & 1), n0),
                        _wrapped(j + (c >> 1 & 1), n1),
                        _wrapped(k + (c & 1), n2),
                    )
                    d0 = _difference(values, a, b, d, 0, wrap)
                    d1 = _difference(values, a, b, d, 1, wrap)
                    d2 = _difference(values, a, b, d, 2, wrap)
                    g0 += w * (to_grid[0, 0] * d0 + to_grid[0, 1] * d1 + to_grid[0, 2] * d2)
                    g1 += w * (to_grid[1, 0] * d0 + to_grid[1, 1] * d1 + to_grid[1, 2] * d2)
                    g2 += w * (to_grid[2, 0] * d0 + to_grid[2, 1] * d1 + to_grid[2, 2] * d2)
                norm = np.sqrt(g0 * g0 + g1 * g1 + g2 * g2)
                if norm > 0:
                    normal[e, 0], normal[e, 1], normal[e, 2] = g0 / norm, g1 / norm, g2 / norm
                else:
                    normal[e, 0], normal[e, 1], normal[e, 2] = 0, 0, 0
    return total


@jit
def _offer(vector, facet, node, v0, v1, v2, e):
    """Let a coarse node take facet e, at (v0, v1, v2) from it, if that is nearer; True if it did."""
    if facet[node] >= 0:
        w0, w1, w2 = vector[node, 0], vector[node, 1], vector[node, 2]
        # By more than rounding: else two nodes would hand a tie to each other for ever.
        if v0 * v0 + v1 * v1 + v2 * v2 >= 0.9999 * (w0 * w0 + w1 * w1 + w2 * w2):
            return False
    vector[node, 0], vector[node, 1], vector[node, 2] = v0, v1, v2
    facet[node] = e
    return True


@jit
def _spread(shape, wrap, steps, start, cubes, point, coarse, nodes):
    """Nearest facet (and the vector to it) of every node of a coarse grid, by sweeping.

    A vector distance transform: a node offers its neighbors the facet that it knows. The vector, not
    the facet's place, is handed on, so periodic images need no bookkeeping in any cell.
    """
    n0, n1, n2 = shape
    m0, m1, m2 = nodes
    vector = np.zeros((m0 * m1 * m2, 3), dtype=np.float32)
    facet = np.full(m0 * m1 * m2, -1, dtype=np.int32)
    scale = np.array([coarse[0] / n0, coarse[1] / n1, coarse[2] / n2])
    big = np.empty((3, 3))
    for a in range(3):
        for x in range(3):
            big[a, x] = steps[a, x] / scale[a]
    g = np.empty(3)
    base = np.empty(3, dtype=np.int64)
    for i in range(n0):
        for j in range(n1):
            for e in range(start[i * n1 + j], start[i * n1 + j + 1]):
                g[0], g[1], g[2] = i * scale[0], j * scale[1], cubes[e] * scale[2]
                for axis in range(3):
                    base[axis] = int(floor(g[axis]))
                for c in range(8):
                    u, v, w = base[0] + (c >> 2 & 1), base[1] + (c >> 1 & 1), base[2] + (c & 1)
                    x0 = (
                        point[e, 0] + (g[0] - u) * big[0, 0] + (g[1] - v) * big[1, 0] + (g[2] - w) * big[2, 0]
                    )
                    x1 = (
                        point[e, 1] + (g[0] - u) * big[0, 1] + (g[1] - v) * big[1, 1] + (g[2] - w) * big[2, 1]
                    )
                    x2 = (
                        point[e, 2] + (g[0] - u) * big[0, 2] + (g[1] - v) * big[1, 2] + (g[2] - w) * big[2, 2]
                    )
                    node = (_wrapped(u, m0) * m1 + _wrapped(v, m1)) * m2 + _wrapped(w, m2)
                    _offer(vector, facet, node, x0, x1, x2, e)
    for _ in range(64):  # two or three rounds in practice; 64 only bounds a pathological field
        changed = 0
        for direction in (-1, 1):
            for step0 in range(m0):
                u = step0 if direction < 0 else m0 - 1 - step0
                for step1 in range(m1):
                    v = step1 if direction < 0 else m1 - 1 - step1
                    for step2 in range(m2):
                        w = step2 if direction < 0 else m2 - 1 - step2
                        node = (u * m1 + v) * m2 + w
                        for axis in range(3):  # half of the six neighbors: those already visited
                            du = direction if axis == 0 else 0
                            dv = direction if axis == 1 else 0
                            dw = direction if axis == 2 else 0
                            a, b, c = u + du, v + dv, w + dw
                            if (a < 0 or a >= m0) and not wrap[0]:
                                continue
                            if (b < 0 or b >= m1) and not wrap[1]:
                                continue
                            if (c < 0 or c >= m2) and not wrap[2]:
                                continue
                            a = a + m0 if a < 0 else (a - m0 if a >= m0 else a)
                            b = b + m1 if b < 0 else (b - m1 if b >= m1 else b)
                            c = c + m2 if c < 0 else (c - m2 if c >= m2 else c)
                            other = (a * m1 + b) * m2 + c
                            if facet[other] < 0:
                                continue
                            x0 = vector[other, 0] + du * big[0, 0] + dv * big[1, 0] + dw * big[2, 0]
                            x1 = vector[other, 1] + du * big[0, 1] + dv * big[1, 1] + dw * big[2, 1]
                            x2 = vector[other, 2] + du * big[0, 2] + dv * big[1, 2] + dw * big[2, 2]
                            changed += _offer(vector, facet, node, x0, x1, x2, facet[other])
        if not changed:
            break
    return vector, facet


@jit
def _measure(
    positions, origin, to_grid, steps, wrap, shape, start, cubes, point, normal, coarse, nodes, vector,
    facet, lateral, refine, out,
):  # fmt: skip
    """Unsigned distance of every position to the nearest facet's plane."""
    n = shape
    m0, m1, m2 = nodes[0], nodes[1], nodes[2]
    edge = np.array([n[0] / coarse[0], n[1] / coarse[1], n[2] / coarse[2]])  # of a coarse cell, in voxels
    g = np.empty(3)
    base = np.empty(3, dtype=np.int64)
    best = np.empty(3)
    q = np.empty(3)
    home = np.empty(3, dtype=np.int64)
    for atom in range(positions.shape[0]):
        for axis in range(3):
            x = grid_point(positions[atom], origin, to_grid, axis)
            g[axis] = x - floor(x / n[axis]) * n[axis] if wrap[axis] else x
            base[axis] = int(floor(g[axis] / edge[axis]))
            if not wrap[axis]:
                base[axis] = min(max(base[axis], 0), nodes[axis] - 2) if nodes[axis] > 1 else 0
        nearest, best2 = -1, 1e300
        for c in range(8):
            u, v, w = base[0] + (c >> 2 & 1), base[1] + (c >> 1 & 1), base[2] + (c & 1)
            node = (_wrapped(u, m0) * m1 + _wrapped(v, m1)) * m2 + _wrapped(w, m2)
            if facet[node] < 0:
                continue
            d0 = u * edge[0] - g[0]
            d1 = v * edge[1] - g[1]
            d2 = w * edge[2] - g[2]
            r0 = vector[node, 0] + d0 * steps[0, 0] + d1 * steps[1, 0] + d2 * steps[2, 0]
            r1 = vector[node, 1] + d0 * steps[0, 1] + d1 * steps[1, 1] + d2 * steps[2, 1]
            r2 = vector[node, 2] + d0 * steps[0, 2] + d1 * steps[1, 2] + d2 * steps[2, 2]
            far2 = r0 * r0 + r1 * r1 + r2 * r2
            if far2 < best2:
                nearest, best2 = facet[node], far2
                best[0], best[1], best[2] = r0, r1, r2
        if nearest < 0:
            out[atom] = np.nan
            continue
        home[0] = -(2**40)  # nowhere looked at yet
        for _ in range(8):
            if best2 > refine * refine:
                break
            # Look around the foot of the perpendicular on the facet's plane, not too far along it.
            a = best[0] * normal[nearest, 0] + best[1] * normal[nearest, 1] + best[2] * normal[nearest, 2]
            side = np.sqrt(max(best2 - a * a, 0.0))
            share = min(1.0, 2 * lateral / side) if side > 0 else 0.0
            for x in range(3):
                q[x] = best[x] + share * (a * normal[nearest, x] - best[x])
            moved = False
            for axis in range(3):
                at = int(
                    floor(
                        g[axis] + q[0] * to_grid[0, axis] + q[1] * to_grid[1, axis] + q[2] * to_grid[2, axis]
                    )
                )
                moved |= at != home[axis]
                home[axis] = at
            if not moved:
                break
            for di in range(-1, 2):
                i = home[0] + di
                if not wrap[0] and (i < 0 or i >= n[0]):
                    continue
                for dj in range(-1, 2):
                    j = home[1] + dj
                    if not wrap[1] and (j < 0 or j >= n[1]):
                        continue
                    row = _wrapped(i, n[0]) * n[1] + _wrapped(j, n[1])
                    low, high = start[row], start[row + 1]
                    if low == high:
                        continue
                    # First facet of the row at or after home - 1; around the seam, every facet.
                    seam = wrap[2] and (home[2] < 1 or home[2] > n[2] - 2)
                    if not seam:
                        while low < high:
                            middle = (low + high) // 2
                            if cubes[middle] < home[2] - 1:
                                low = middle + 1
                            else:
                                high = middle
                    for e in range(low, start[row + 1]):
                        k = cubes[e] - home[2]
                        if seam:
                            k -= int(floor(k / n[2] + 0.5)) * n[2]
                            if k < -1 or k > 1:
                                continue
                        elif k > 1:
                            break
                        d0, d1, d2 = i - g[0], j - g[1], k + home[2] - g[2]
                        r0 = point[e, 0] + d0 * steps[0, 0] + d1 * steps[1, 0] + d2 * steps[2, 0]
                        r1 = point[e, 1] + d0 * steps[0, 1] + d1 * steps[1, 1] + d2 * steps[2, 1]
                        r2 = point[e, 2] + d0 * steps[0, 2] + d1 * steps[1, 2] + d2 * steps[2, 2]
                        far2 = r0 * r0 + r1 * r1 + r2 * r2
                        if far2 < best2:
                            nearest, best2 = e, far2
                            best[0], best[1], best[2] = r0, r1, r2
        a = best[0] * normal[nearest, 0] + best[1] * normal[nearest, 1] + best[2] * normal[nearest, 2]
        beyond = max(np.sqrt(max(best2 - a * a, 0.0)) - lateral, 0.0)
        out[atom] = np.sqrt(a * a + beyond * beyond)


class Interface:
    """The surface on which a field equals a cut, made of one facet a mixed cube.

    Attributes
    ----------
    area : float, Å^2
    n_facets : int
    """

    def __init__(self, values: NDArray[np.float32], cut: float, lattice: Lattice) -> None:
        self._lattice = lattice
        # Compared in the field's own precision, so that domains and interface agree on every voxel.
        level = np.float32(cut)
        self._start, self._cubes = _mixed_cubes(values, level, lattice.wrap)
        self.n_facets = len(self._cubes)
        self._point = np.empty((self.n_facets, 3), dtype=np.float32)
        self._normal = np.empty((self.n_facets, 3), dtype=np.float32)
        self.area = float(
            _facets(
                values, level, lattice.wrap, lattice.steps, lattice.to_grid, self._start, self._cubes,
                _TETRAHEDRA, self._point, self._normal,
            )
        )  # fmt: skip
        shape = np.array(lattice.shape)
        self._coarse = np.maximum(shape // COARSE, 1)
        # An open axis has a node at its far end as well.
        self._nodes = np.where(lattice.wrap, self._coarse, self._coarse + 1)
        if self.n_facets:
            self._vector, self._facet = _spread(
                shape, lattice.wrap, lattice.steps, self._start, self._cubes, self._point, self._coarse,
                self._nodes,
            )  # fmt: skip

    def distance(self, positions: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n,) float32, Å: unsigned distance of every position; NaN where there is no interface.

        Within 8 voxels the nearest facet is looked for around the foot of the perpendicular; farther
        away the best of the facets known to the eight surrounding coarse nodes is taken.
        """
        out = np.full(len(positions), np.nan, dtype=np.float32)
        if self.n_facets:
            lattice = self._lattice
            edge = float(np.linalg.norm(lattice.steps, axis=1)[~lattice.flat].max())
            _measure(
                positions, lattice.origin, lattice.to_grid, lattice.steps, lattice.wrap,
                np.array(lattice.shape), self._start, self._cubes, self._point, self._normal, self._coarse,
                self._nodes, self._vector, self._facet, edge, REFINE_WITHIN * edge, out,
            )  # fmt: skip
        return out
