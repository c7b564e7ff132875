"""The interface of a thresholded grid: facets, area, and distances that resolve a fraction of a voxel.

Every cube of eight grid points that the cut passes through gets one small facet. Distances are measured to
the facets, not to voxels; time and memory grow with the voxels and the area, not with their product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import jit
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms

# Atoms that seem to be closer to the interface, in voxels, are compared with every facet around them.
NEAR = 5.0


def _contour_cases() -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """How the cut passes through a cube, for each of the 256 combinations of rich corners.

    Corner c lies at (c >> 1 & 1, c & 1, c >> 2 & 1). Returns the corners (12, 2) of the edges; for every
    case its crossed edges, and the pieces of the contour on the faces as pairs of places among them
    (both ended by -1). Seen from outside, a piece runs with the rich part of the face on its left, so
    the pieces close to loops whose area vector points to the rich side.
    """
    place = [np.array([c >> 1 & 1, c & 1, c >> 2 & 1]) for c in range(8)]
    edges = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(place[a] - place[b]).sum() == 1]
    faces = []
    for axis in range(3):
        for side in (0, 1):
            first, second = (axis + 1) % 3, (axis + 2) % 3
            cycle = []
            for p, q in ((0, 0), (1, 0), (1, 1), (0, 1)):
                at = np.zeros(3, dtype=int)
                at[axis], at[first], at[second] = side, p, q
                cycle.append(next(c for c in range(8) if (place[c] == at).all()))
            faces.append(cycle if side else cycle[::-1])  # counterclockwise seen from outside
    crossed = np.full((256, 13), -1, dtype=np.int8)
    pieces = np.full((256, 13, 2), -1, dtype=np.int8)
    for case in range(256):
        rich = [case >> c & 1 for c in range(8)]
        cut = [n for n, (a, b) in enumerate(edges) if rich[a] != rich[b]]
        crossed[case, : len(cut)] = cut
        n = 0
        for cycle in faces:
            steps = [(cycle[t], cycle[(t + 1) % 4]) for t in range(4)]
            found = [(edges.index((min(q, r), max(q, r))), rich[r]) for q, r in steps if rich[q] != rich[r]]
            for t, (edge, up) in enumerate(found):
                if up:  # the rich part lies between a crossing up and the next one, which goes down
                    pieces[case, n] = cut.index(found[(t + 1) % len(found)][0]), cut.index(edge)
                    n += 1
    return np.array(edges, dtype=np.int8), crossed, pieces


_EDGES, _CROSSED, _PIECES = _contour_cases()


@jit
def _mixed_cubes(values, cut, wrap, cells, cubes, cases, cell_of, start):
    """The cubes that the cut passes through; returns their number, even if the arrays are too short.

    Fills their first corners (n, 3), which corners are rich (n,), the coarse cell that holds the first
    corner (n,), and how many there are in every cell, as the start of a CSR (zeros at first).
    """
    n0, n1, n2 = values.shape
    along = np.empty(n2, dtype=np.int32)
    for k in range(n2):
        along[k] = k * cells[2] // n2
    codes = np.empty(n2 + 1, dtype=np.uint8)
    found = 0
    last = n2 if wrap[2] else n2 - 1
    for i in range(n0 if wrap[0] else n0 - 1):
        u = i + 1 if i + 1 < n0 else 0
        for j in range(n1 if wrap[1] else n1 - 1):
            v = j + 1 if j + 1 < n1 else 0
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
            row = (i * cells[0] // n0 * cells[1] + j * cells[1] // n1) * cells[2]
            for k in range(last):
                if (codes[k] | codes[k + 1]) and (codes[k] & codes[k + 1]) != 15:
                    if found < cases.size:
                        cubes[found, 0], cubes[found, 1], cubes[found, 2] = i, j, k
                        cases[found] = codes[k] | codes[k + 1] << 4
                        cell_of[found] = row + along[k]
                        start[row + along[k] + 1] += 1
                    found += 1
    for cell in range(start.size - 1):
        start[cell + 1] += start[cell]
    return found


@jit
def _facets(
    values, cut, steps, to_grid, volume, cubes, cases, edges, crossed, pieces, cell_of, start, point, normal
):
    """One facet a cube: `point` (3, n), Å from the origin, and `normal` (n, 3), unit, to the rich side.

    On every face of the cube the cut runs from edge crossing to edge crossing (linear interpolation).
    The closed loop of these pieces has the area vector 1/2 sum a x b, which gives area and normal;
    the point is the mean of the crossings. `volume` is that of a voxel. The facets come sorted by coarse
    cells, as `start` says; returns the whole area.
    """
    n0, n1, n2 = values.shape
    fill = start[:-1].copy()
    f = np.empty(8)
    cross = np.empty((12, 3))
    total = 0.0
    for e in range(cubes.shape[0]):
        i, j, k = cubes[e, 0], cubes[e, 1], cubes[e, 2]
        u, v, w = i + 1 if i + 1 < n0 else 0, j + 1 if j + 1 < n1 else 0, k + 1 if k + 1 < n2 else 0
        f[0], f[1], f[2], f[3] = values[i, j, k], values[i, v, k], values[u, j, k], values[u, v, k]
        f[4], f[5], f[6], f[7] = values[i, j, w], values[i, v, w], values[u, j, w], values[u, v, w]
        case = cases[e]
        n = 0
        p0, p1, p2 = 0.0, 0.0, 0.0
        while crossed[case, n] >= 0:
            a, b = edges[crossed[case, n], 0], edges[crossed[case, n], 1]
            s = (f[a] - cut) / (f[a] - f[b])
            cross[n, 0] = (a >> 1 & 1) + s * ((b >> 1 & 1) - (a >> 1 & 1))
            cross[n, 1] = (a & 1) + s * ((b & 1) - (a & 1))
            cross[n, 2] = (a >> 2 & 1) + s * ((b >> 2 & 1) - (a >> 2 & 1))
            p0 += cross[n, 0]
            p1 += cross[n, 1]
            p2 += cross[n, 2]
            n += 1
        slot = fill[cell_of[e]]
        fill[cell_of[e]] += 1
        p0, p1, p2 = i + p0 / n, j + p1 / n, k + p2 / n
        for x in range(3):
            point[x, slot] = p0 * steps[0, x] + p1 * steps[1, x] + p2 * steps[2, x]
        a0, a1, a2 = 0.0, 0.0, 0.0
        t = 0
        while pieces[case, t, 0] >= 0:
            a, b = pieces[case, t, 0], pieces[case, t, 1]
            a0 += cross[a, 1] * cross[b, 2] - cross[a, 2] * cross[b, 1]
            a1 += cross[a, 2] * cross[b, 0] - cross[a, 0] * cross[b, 2]
            a2 += cross[a, 0] * cross[b, 1] - cross[a, 1] * cross[b, 0]
            t += 1
        # From grid units to Å: an area vector transforms with the cofactors of the steps.
        b0 = to_grid[0, 0] * a0 + to_grid[0, 1] * a1 + to_grid[0, 2] * a2
        b1 = to_grid[1, 0] * a0 + to_grid[1, 1] * a1 + to_grid[1, 2] * a2
        b2 = to_grid[2, 0] * a0 + to_grid[2, 1] * a1 + to_grid[2, 2] * a2
        size = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
        total += 0.5 * volume * size
        if a0 * a0 + a1 * a1 + a2 * a2 < 1e-12:
            # The cut only touches a corner or an edge: no area, but the slope has the direction.
            a0 = f[2] + f[3] + f[6] + f[7] - f[0] - f[1] - f[4] - f[5]
            a1 = f[1] + f[3] + f[5] + f[7] - f[0] - f[2] - f[4] - f[6]
            a2 = f[4] + f[5] + f[6] + f[7] - f[0] - f[1] - f[2] - f[3]
            b0 = to_grid[0, 0] * a0 + to_grid[0, 1] * a1 + to_grid[0, 2] * a2
            b1 = to_grid[1, 0] * a0 + to_grid[1, 1] * a1 + to_grid[1, 2] * a2
            b2 = to_grid[2, 0] * a0 + to_grid[2, 1] * a1 + to_grid[2, 2] * a2
            size = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
        norm = 1 / size if size > 0 else 0.0
        normal[slot, 0], normal[slot, 1], normal[slot, 2] = norm * b0, norm * b1, norm * b2
    return total


@jit
def _offer(vector, facet, node, v0, v1, v2, e):
    """Give a coarse node facet e, at (v0, v1, v2) from it, if that is nearer; returns whether it was."""
    w0, w1, w2 = vector[node, 0], vector[node, 1], vector[node, 2]
    # By more than rounding, or two nodes would pass a tie to each other forever.
    if v0 * v0 + v1 * v1 + v2 * v2 >= np.float32(0.9999) * (w0 * w0 + w1 * w1 + w2 * w2):
        return False
    vector[node, 0], vector[node, 1], vector[node, 2] = v0, v1, v2
    facet[node] = e
    return True


@jit
def _spread(shape, wrap, steps, start, point, cells, nodes, vector, facet):
    """Nearest facet of every node of a coarse grid and the `vector` to it, by sweeping.

    A vector distance transform: each node offers its facet to its neighbors. It passes on the vector to the
    facet, not the position, so periodic images need no bookkeeping in any cell.
    """
    m0, m1, m2 = nodes
    vector[:] = np.float32(1e15)
    facet[:] = -1
    edge = np.array([shape[0] / cells[0], shape[1] / cells[1], shape[2] / cells[2]])
    big = np.empty((3, 3), dtype=np.float32)
    for a in range(3):
        for x in range(3):
            big[a, x] = steps[a, x] * edge[a]
    for cell in range(start.size - 1):
        if start[cell] == start[cell + 1]:
            continue
        i, j, k = cell // (cells[1] * cells[2]), cell // cells[2] % cells[1], cell % cells[2]
        for c in range(8):  # every corner of the cell gets the facet of the cell nearest to it
            u, v, w = i + (c >> 2 & 1), j + (c >> 1 & 1), k + (c & 1)
            g0 = np.float32(u * big[0, 0] + v * big[1, 0] + w * big[2, 0])
            g1 = np.float32(u * big[0, 1] + v * big[1, 1] + w * big[2, 1])
            g2 = np.float32(u * big[0, 2] + v * big[1, 2] + w * big[2, 2])
            best, nearest = np.float32(1e30), 0
            for e in range(start[cell], start[cell + 1]):
                x0, x1, x2 = point[0, e] - g0, point[1, e] - g1, point[2, e] - g2
                far2 = x0 * x0 + x1 * x1 + x2 * x2
                if far2 < best:
                    best, nearest = far2, e
            x0, x1, x2 = point[0, nearest] - g0, point[1, nearest] - g1, point[2, nearest] - g2
            u, v, w = u if u < m0 else 0, v if v < m1 else 0, w if w < m2 else 0
            _offer(vector, facet, (u * m1 + v) * m2 + w, x0, x1, x2, nearest)
    for _ in range(64):  # two or three rounds in practice; 64 only bounds a pathological field
        changed = 0
        for direction in (-1, 1):
            for step0 in range(m0):
                u = step0 if direction < 0 else m0 - 1 - step0
                a = u + direction
                a = a + m0 if a < 0 else (a - m0 if a >= m0 else a)
                open0 = wrap[0] or a == u + direction
                for step1 in range(m1):
                    v = step1 if direction < 0 else m1 - 1 - step1
                    b = v + direction
                    b = b + m1 if b < 0 else (b - m1 if b >= m1 else b)
                    open1 = wrap[1] or b == v + direction
                    for step2 in range(m2):
                        w = step2 if direction < 0 else m2 - 1 - step2
                        c = w + direction
                        c = c + m2 if c < 0 else (c - m2 if c >= m2 else c)
                        node = (u * m1 + v) * m2 + w
                        # The three neighbors (of six) that this sweep has visited before.
                        for axis in range(3):
                            if axis == 0:
                                passes, other = open0, (a * m1 + v) * m2 + w
                            elif axis == 1:
                                passes, other = open1, (u * m1 + b) * m2 + w
                            else:
                                passes, other = wrap[2] or c == w + direction, (u * m1 + v) * m2 + c
                            if passes:
                                changed += _offer(
                                    vector, facet, node,
                                    vector[other, 0] + np.float32(direction) * big[axis, 0],
                                    vector[other, 1] + np.float32(direction) * big[axis, 1],
                                    vector[other, 2] + np.float32(direction) * big[axis, 2],
                                    facet[other],
                                )  # fmt: skip
        # The last one in a thousand nodes may still gain a little, but no further round would pay.
        if changed * 1000 <= facet.size:
            break


@jit
def _longer(array, room):
    longer = np.empty(room, array.dtype)
    longer[: array.size] = array
    return longer


@jit
def _neighborhood(i, j, k, wrap, shape, steps, facets, points, cells, n, c0, c1, c2, which):
    """Append the facets of a coarse cell and its 26 neighbors to the candidates.

    Returns their number, or the room that is needed where the arrays are too short.
    """
    inner = 0 < k < cells[2] - 1
    for u in range(i - 1, i + 2):
        if not wrap[0] and (u < 0 or u >= cells[0]):
            continue
        t0 = 0 if 0 <= u < cells[0] else (-1 if u < 0 else 1)
        for v in range(j - 1, j + 2):
            if not wrap[1] and (v < 0 or v >= cells[1]):
                continue
            t1 = 0 if 0 <= v < cells[1] else (-1 if v < 0 else 1)
            row = ((u - t0 * cells[0]) * cells[1] + v - t1 * cells[1]) * cells[2]
            # Three cells in a row are one stretch of facets, but for the seam.
            for w in range(k - 1, k if inner else k + 2):
                if not wrap[2] and (w < 0 or w >= cells[2]):
                    continue
                t2 = 0 if 0 <= w < cells[2] else (-1 if w < 0 else 1)
                at = row + w - t2 * cells[2]
                first, stop = facets[at], facets[at + (3 if inner else 1)]
                if first == stop:
                    continue
                if n + stop - first <= which.size:
                    m0, m1, m2 = t0 * shape[0], t1 * shape[1], t2 * shape[2]
                    s0 = np.float32(m0 * steps[0, 0] + m1 * steps[1, 0] + m2 * steps[2, 0])
                    s1 = np.float32(m0 * steps[0, 1] + m1 * steps[1, 1] + m2 * steps[2, 1])
                    s2 = np.float32(m0 * steps[0, 2] + m1 * steps[1, 2] + m2 * steps[2, 2])
                    # Unsigned indices: for others a test for negative ones keeps the loop from vectorizing.
                    to, source = np.uint64(n), np.uint64(first)
                    for e in range(np.uint64(stop - first)):
                        c0[to + e] = points[0, source + e] + s0
                        c1[to + e] = points[1, source + e] + s1
                        c2[to + e] = points[2, source + e] + s2
                        which[to + e] = source + e
                n += stop - first
    return n


@jit
def _nearest(c0, c1, c2, n, x0, x1, x2):
    """Number of the candidate nearest to (x0, x1, x2), to a relative 2^-12 of the square.

    The bits of floats that are not negative sort as integers do. With the candidate's number in the
    lowest of them, one minimum of integers finds it, many at a time and without a branch.
    """
    mask = np.int32(1)
    while mask < n:
        mask = np.int32(mask << 1 | 1)
    above = np.int32(~mask)
    least = np.int32(0x7FFFFFFF)
    for e in range(np.uint32(n)):
        y0, y1, y2 = c0[e] - x0, c1[e] - x1, c2[e] - x2
        bits = np.float32(y0 * y0 + y1 * y1 + y2 * y2).view(np.int32)
        least = min(least, np.int32(np.int32(bits & above) | np.int32(e)))
    return least & mask


@jit
def _measure(
    start, coords, steps, wrap, shape, facets, points, normal, cells, nodes, vector, facet, lateral, out
):
    """Unsigned distance of every packed atom to the plane of its nearest facet, coarse cell by coarse cell.

    The facets known to the corners of the cell say how far the interface is. Where it is near, all
    facets of the cell and its 26 neighbors are tried: a plain loop over a few contiguous numbers is
    quicker than any search.
    """
    edge = np.array([shape[0] / cells[0], shape[1] / cells[1], shape[2] / cells[2]])
    room = 1024
    c0, c1, c2 = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    which = np.empty(room, np.int32)
    small = steps.astype(np.float32)
    near2 = np.float32(NEAR * NEAR) * lateral * lateral
    for i in range(cells[0]):
        for j in range(cells[1]):
            for k in range(cells[2]):
                cell = (i * cells[1] + j) * cells[2] + k
                if start[cell] == start[cell + 1]:
                    continue
                for c in range(8):
                    u, v, w = i + (c >> 2 & 1), j + (c >> 1 & 1), k + (c & 1)
                    d0, d1, d2 = u * edge[0], v * edge[1], w * edge[2]
                    u, v, w = u if u < nodes[0] else 0, v if v < nodes[1] else 0, w if w < nodes[2] else 0
                    node = (u * nodes[1] + v) * nodes[2] + w
                    c0[c] = vector[node, 0] + d0 * steps[0, 0] + d1 * steps[1, 0] + d2 * steps[2, 0]
                    c1[c] = vector[node, 1] + d0 * steps[0, 1] + d1 * steps[1, 1] + d2 * steps[2, 1]
                    c2[c] = vector[node, 2] + d0 * steps[0, 2] + d1 * steps[1, 2] + d2 * steps[2, 2]
                    which[c] = facet[node]
                n = 8
                for atom in range(start[cell], start[cell + 1]):
                    d0, d1, d2 = coords[atom, 0], coords[atom, 1], coords[atom, 2]
                    x0 = d0 * small[0, 0] + d1 * small[1, 0] + d2 * small[2, 0]
                    x1 = d0 * small[0, 1] + d1 * small[1, 1] + d2 * small[2, 1]
                    x2 = d0 * small[0, 2] + d1 * small[1, 2] + d2 * small[2, 2]
                    found = _nearest(c0, c1, c2, 8, x0, x1, x2)
                    y0, y1, y2 = c0[found] - x0, c1[found] - x1, c2[found] - x2
                    best = y0 * y0 + y1 * y1 + y2 * y2
                    if best < near2:
                        if n == 8:
                            n = _neighborhood(
                                i, j, k, wrap, shape, steps, facets, points, cells, 8, c0, c1, c2, which
                            )
                            if n > room:
                                room = 2 * n
                                c0, c1, c2 = _longer(c0, room), _longer(c1, room), _longer(c2, room)
                                which = _longer(which, room)
                                n = _neighborhood(
                                    i, j, k, wrap, shape, steps, facets, points, cells, 8, c0, c1, c2, which
                                )  # fmt: skip
                        found = _nearest(c0, c1, c2, n, x0, x1, x2)
                        y0, y1, y2 = c0[found] - x0, c1[found] - x1, c2[found] - x2
                        best = y0 * y0 + y1 * y1 + y2 * y2
                    e = which[found]
                    a = y0 * normal[e, 0] + y1 * normal[e, 1] + y2 * normal[e, 2]
                    # The plane ends somewhere: beyond `lateral` sideways the rest of the way counts.
                    beyond = max(np.sqrt(max(best - a * a, np.float32(0))) - lateral, np.float32(0))
                    out[atom] = np.sqrt(a * a + beyond * beyond)


class Interface:
    """The surface on which a field equals a cut: one facet for each cube that it passes through.

    Attributes
    ----------
    area : float, Å^2
    n_facets : int
    """

    def __init__(self, values: NDArray[np.float32], cut: float, lattice: Lattice) -> None:
        self._lattice = lattice
        # In the precision of the field, so that domains and interface agree on every voxel.
        level = np.float32(cut)
        shape, cells = np.array(lattice.shape), lattice.cells
        room = 1024 + values.size // 14  # a guess that rarely needs to grow
        while True:
            cubes, cases = borrow((room, 3), np.int32), borrow(room, np.uint8)
            cell_of = borrow(room, np.int32)
            self._start = np.zeros(cells.prod() + 1, dtype=np.int64)
            self.n_facets = int(
                _mixed_cubes(values, level, lattice.wrap, cells, cubes, cases, cell_of, self._start)
            )
            if self.n_facets <= room:
                break
            room = self.n_facets
        cubes, cases, cell_of = cubes[: self.n_facets], cases[: self.n_facets], cell_of[: self.n_facets]
        point, normal = borrow((3, self.n_facets), np.float32), borrow((self.n_facets, 3), np.float32)
        # Flat axes count for the area, but not for distances.
        self._steps = lattice.metric_steps
        area = _facets(
            values, level, self._steps, lattice.to_grid, lattice.voxel_volume, cubes, cases, _EDGES, _CROSSED,
            _PIECES, cell_of, self._start, point, normal,
        )  # fmt: skip
        self.area = float(area)
        self._point, self._normal = point, normal
        # An open axis has a node at its far end as well.
        self._nodes = np.where(lattice.wrap, cells, cells + 1)
        if self.n_facets:
            n_nodes = int(self._nodes.prod())
            self._vector, self._facet = borrow((n_nodes, 3), np.float32), borrow(n_nodes, np.int32)
            _spread(
                shape, lattice.wrap, self._steps, self._start, point, cells, self._nodes, self._vector,
                self._facet,
            )  # fmt: skip

    def distance(self, atoms: PackedAtoms) -> NDArray[np.float32]:
        """(n,) float32, Å: unsigned distance of every packed atom; NaN where there is no interface.

        Within 3 voxels, the nearest of all facets is found; the error is below 0.05 Å on planes and on
        spheres of 8 Å at 0.75 Å voxels. Beyond 5 voxels, only the facets of the eight surrounding nodes of
        the coarse grid are compared; distances are then too long by 0.02 Å on average and by up to 0.5 Å,
        or more in strongly skewed cells.
        """
        out = borrow(len(atoms.order), np.float32)
        if not self.n_facets:
            out[:] = np.nan
        else:
            lattice = self._lattice
            lateral = np.float32(np.linalg.norm(self._steps, axis=1).max())
            _measure(
                atoms.start, atoms.coords, self._steps, lattice.wrap, np.array(lattice.shape), self._start,
                self._point, self._normal, lattice.cells, self._nodes, self._vector, self._facet, lateral,
                out,
            )  # fmt: skip
        return out
