"""The interface of a thresholded grid: facets, area, and distances that resolve a fraction of a voxel.

Every cube of eight grid points that the cut passes through gets one small facet. Distances are measured to
the facets, not to voxels; time and memory grow with the voxels and the area, not with their product.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.products import product
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.labels.islands import Islands
from phaseseg.families.segmentation.labels.lattice import COARSE, Lattice, PackedAtoms
from phaseseg.neighbors.bins import sort_by_place

# Atoms estimated to be closer to the interface than this, in voxels, are compared with all facets nearby.
NEAR = 5.0
# Up to this many atoms are compared with the facets of another island one by one.
FEW = 8
NewArray = Callable[[Any, Any], NDArray[Any]]
# Coordinate of facets that are not known, Å; its square fits float32.
FAR_AWAY = np.float32(1e15)


def _contour_cases() -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """Geometry of the cut in a cube, for each of the 256 combinations of rich corners.

    Corner c lies at (c >> 1 & 1, c & 1, c >> 2 & 1). Returns the corners (12, 2) of the edges; for every
    case its crossed edges, and the pieces of the contour on the faces as pairs of places among them
    (both ended by -1). Seen from outside, a piece runs with the rich part of the face on its left, so
    the pieces close to loops whose area vector points to the rich side.
    """
    edges = [(a, b) for a in range(8) for b in range(a + 1, 8) if a ^ b in (1, 2, 4)]
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        across, first, second = (2, 1, 4)[axis:] + (2, 1, 4)[:axis]
        cycle = [side * across + p * first + q * second for p, q in ((0, 0), (1, 0), (1, 1), (0, 1))]
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


class _Surface(NamedTuple):
    """The facets of an interface, sorted by coarse cells, and the nearest of them at the nodes in between.

    shape, cells, nodes : (3,) numbers of voxels, cells and nodes; wrap : (3,) bool; steps : (3, 3), Å
    part : (n_nodes,) int32, island of each node, -1 between them; empty without islands
    start : CSR of the facets over the cells
    point : (3, n) float32, Å, from the origin; normal : (n, 3) float32, unit, to the rich side
    vector : (n_nodes, 3) float32, Å, to the nearest facet; facet : (n_nodes,) int32, its number
    """

    shape: NDArray[np.int64]
    cells: NDArray[np.int64]
    nodes: NDArray[np.int64]
    wrap: NDArray[np.bool_]
    steps: NDArray[np.float64]
    part: NDArray[np.int32]
    start: NDArray[np.int64]
    point: NDArray[np.float32]
    normal: NDArray[np.float32]
    vector: NDArray[np.float32]
    facet: NDArray[np.int32]


@jit
def _mixed_cubes(first, stop, values, cut, wrap, cells, cubes, cases, cell_of):
    """The cubes that the cut passes through, whose first corners are in planes first ... stop - 1.

    Fills their first corners, which corners are rich, and the coarse cell that holds the first corner.
    Returns their number, even if the arrays are too short.
    """
    n0, n1, n2 = values.shape
    along = np.empty(n2, dtype=np.int32)
    for k in range(n2):
        along[k] = k * cells[2] // n2
    codes = np.empty(n2 + 1, dtype=np.uint8)
    found = 0
    last = n2 if wrap[2] else n2 - 1
    for i in range(first, stop if wrap[0] else min(stop, n0 - 1)):
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
                    found += 1
    return found


@jit
def _facets(first, stop, values, cut, steps, back, volume, cubes, cases, slots, point, normal, area):
    """One facet per cube: fill `point`, `normal`, `area` at its slot; returns the area of these.

    On every face of the cube the cut runs from edge crossing to edge crossing (linear interpolation).
    The closed loop of these pieces has the area vector 1/2 sum a x b, which gives area and normal;
    the point is the mean of the crossings. `volume` is that of a voxel, and
    half of it the unit of `area`; `back` transforms slopes in grid units.
    """
    n0, n1, n2 = values.shape
    f, cross = np.empty(8), np.empty((12, 3))
    total = 0.0
    for e in range(first, stop):
        i, j, k, case = cubes[e, 0], cubes[e, 1], cubes[e, 2], cases[e]
        u, v, w = i + 1 if i + 1 < n0 else 0, j + 1 if j + 1 < n1 else 0, k + 1 if k + 1 < n2 else 0
        f[0], f[1], f[2], f[3] = values[i, j, k], values[i, v, k], values[u, j, k], values[u, v, k]
        f[4], f[5], f[6], f[7] = values[i, j, w], values[i, v, w], values[u, j, w], values[u, v, w]
        n = 0
        p0, p1, p2 = 0.0, 0.0, 0.0
        while _CROSSED[case, n] >= 0:
            a, b = _EDGES[_CROSSED[case, n], 0], _EDGES[_CROSSED[case, n], 1]
            s = (f[a] - cut) / (f[a] - f[b])
            cross[n, 0] = (a >> 1 & 1) + s * ((b >> 1 & 1) - (a >> 1 & 1))
            cross[n, 1] = (a & 1) + s * ((b & 1) - (a & 1))
            cross[n, 2] = (a >> 2 & 1) + s * ((b >> 2 & 1) - (a >> 2 & 1))
            p0, p1, p2, n = p0 + cross[n, 0], p1 + cross[n, 1], p2 + cross[n, 2], n + 1
        slot = slots[e]
        point[0, slot], point[1, slot], point[2, slot] = product(i + p0 / n, j + p1 / n, k + p2 / n, steps)
        a0, a1, a2 = 0.0, 0.0, 0.0
        t = 0
        while _PIECES[case, t, 0] >= 0:
            a, b = cross[_PIECES[case, t, 0]], cross[_PIECES[case, t, 1]]
            a0 += a[1] * b[2] - a[2] * b[1]
            a1 += a[2] * b[0] - a[0] * b[2]
            a2 += a[0] * b[1] - a[1] * b[0]
            t += 1
        # From grid units to Å: an area vector transforms with the cofactors of the steps.
        b0, b1, b2 = product(a0, a1, a2, back)
        size = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
        total += 0.5 * volume * size
        area[slot] = size
        if a0 * a0 + a1 * a1 + a2 * a2 < 1e-12:
            # The cut only touches a corner or an edge: no area, but the slope has the direction.
            a0 = f[2] + f[3] + f[6] + f[7] - f[0] - f[1] - f[4] - f[5]
            a1 = f[1] + f[3] + f[5] + f[7] - f[0] - f[2] - f[4] - f[6]
            a2 = f[4] + f[5] + f[6] + f[7] - f[0] - f[1] - f[2] - f[3]
            b0, b1, b2 = product(a0, a1, a2, back)
            size = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
        norm = 1 / size if size > 0 else 0.0
        normal[slot, 0], normal[slot, 1], normal[slot, 2] = norm * b0, norm * b1, norm * b2
    return total


@inner
def _offer(vector, facet, node, v0, v1, v2, e):
    """Give a coarse node facet e, at (v0, v1, v2) from it, if that is nearer; returns whether it was."""
    w0, w1, w2 = vector[node, 0], vector[node, 1], vector[node, 2]
    # By more than rounding, or two nodes would pass a tie to each other forever.
    if v0 * v0 + v1 * v1 + v2 * v2 >= np.float32(0.9999) * (w0 * w0 + w1 * w1 + w2 * w2):
        return False
    vector[node, 0], vector[node, 1], vector[node, 2] = v0, v1, v2
    facet[node] = e
    return True


@inner
def _pass_on(vector, facet, node, other, direction, edge):
    """Offer a node the facet of its neighbor, `edge` away; returns whether it was nearer."""
    sign = np.float32(direction)
    v0 = vector[other, 0] + sign * edge[0]
    v1 = vector[other, 1] + sign * edge[1]
    v2 = vector[other, 2] + sign * edge[2]
    return _offer(vector, facet, node, v0, v1, v2, np.int64(facet[other]))


@inner
def _before(step, n, direction, wrap):
    """For a sweep: index of a node, that of the neighbor visited before, and whether the two are joined."""
    index = step if direction < 0 else n - 1 - step
    there = index + direction
    if 0 <= there < n:
        return index, there, True
    return index, there - direction * n, wrap


@inner
def _corner(nodes, i, j, k, c):
    """Corner c of a coarse cell: its indices, also beyond the last, and the number of the node."""
    u, v, w = i + (c >> 2 & 1), j + (c >> 1 & 1), k + (c & 1)
    p, q, r = u if u < nodes[0] else 0, v if v < nodes[1] else 0, w if w < nodes[2] else 0
    return u, v, w, (p * nodes[1] + q) * nodes[2] + r


@jit
def _spread(surface, big):
    """Find the nearest facet of every node by sweeping; at first none is known, `FAR_AWAY`, with number -1.

    big : (3, 3) float32, Å, edges of a coarse cell

    A vector distance transform: each node offers its facet to its neighbors. It passes on the vector to the
    facet, not the position, so periodic images need no bookkeeping in any cell.
    """
    nodes, cells, start, point = surface.nodes, surface.cells, surface.start, surface.point
    vector, facet, wrap, part = surface.vector, surface.facet, surface.wrap, surface.part
    m0, m1, m2 = nodes
    one = part.size == 0
    for cell in range(start.size - 1):
        if start[cell] == start[cell + 1]:
            continue
        i, j, k = cell // (cells[1] * cells[2]), cell // cells[2] % cells[1], cell % cells[2]
        for c in range(8):  # every corner of the cell gets the facet of the cell nearest to it
            u, v, w, node = _corner(nodes, i, j, k, c)
            h0, h1, h2 = product(u, v, w, big)
            g0, g1, g2 = np.float32(h0), np.float32(h1), np.float32(h2)
            best, nearest = np.float32(1e30), start[cell]
            for e in range(start[cell], start[cell + 1]):
                x0, x1, x2 = point[0, e] - g0, point[1, e] - g1, point[2, e] - g2
                far2 = x0 * x0 + x1 * x1 + x2 * x2
                if far2 < best:
                    best, nearest = far2, e
            x0, x1, x2 = point[0, nearest] - g0, point[1, nearest] - g1, point[2, nearest] - g2
            _offer(vector, facet, node, x0, x1, x2, nearest)
    for _ in range(64):  # two or three rounds in practice; 64 only bounds a pathological field
        changed = 0
        for direction in (-1, 1):
            for step0 in range(m0):
                u, a, open0 = _before(step0, m0, direction, wrap[0])
                for step1 in range(m1):
                    v, b, open1 = _before(step1, m1, direction, wrap[1])
                    for step2 in range(m2):
                        w, c, open2 = _before(step2, m2, direction, wrap[2])
                        node = (u * m1 + v) * m2 + w
                        # The three neighbors (of six) that this sweep has visited before.
                        n0, n1, n2 = (a * m1 + v) * m2 + w, (u * m1 + b) * m2 + w, (u * m1 + v) * m2 + c
                        if open0 and (one or part[node] == part[n0]):
                            changed += _pass_on(vector, facet, node, n0, direction, big[0])
                        if open1 and (one or part[node] == part[n1]):
                            changed += _pass_on(vector, facet, node, n1, direction, big[1])
                        if open2 and (one or part[node] == part[n2]):
                            changed += _pass_on(vector, facet, node, n2, direction, big[2])
        # The last one in a thousand nodes may still gain a little, but no further round would pay.
        if changed * 1000 <= facet.size:
            break


@inner
def _neighborhood(surface, i, j, k, n, c0, c1, c2, which):
    """Append the facets of a coarse cell and its 26 neighbors to the candidates.

    Returns their number, or the room that is needed where the arrays are too short.
    """
    cells, wrap, shape, points = surface.cells, surface.wrap, surface.shape, surface.point
    inner = 0 < k < cells[2] - 1
    for u in range(i - 1, i + 2):
        t0 = int(u >= cells[0]) - int(u < 0)
        if t0 and not wrap[0]:
            continue
        for v in range(j - 1, j + 2):
            t1 = int(v >= cells[1]) - int(v < 0)
            if t1 and not wrap[1]:
                continue
            row = ((u - t0 * cells[0]) * cells[1] + v - t1 * cells[1]) * cells[2]
            # Three cells in a row are one stretch of facets, except at the seam.
            for w in range(k - 1, k if inner else k + 2):
                t2 = int(w >= cells[2]) - int(w < 0)
                if t2 and not wrap[2]:
                    continue
                at = row + w - t2 * cells[2]
                first, stop = surface.start[at], surface.start[at + (3 if inner else 1)]
                if first == stop:
                    continue
                if n + stop - first <= which.size:
                    m0, m1, m2 = product(t0 * shape[0], t1 * shape[1], t2 * shape[2], surface.steps)
                    s0, s1, s2 = np.float32(m0), np.float32(m1), np.float32(m2)
                    # Unsigned indices: for others a test for negative ones keeps the loop from vectorizing.
                    to, source = np.uint64(n), np.uint64(first)
                    for e in range(np.uint64(stop - first)):
                        c0[to + e] = points[0, source + e] + s0
                        c1[to + e] = points[1, source + e] + s1
                        c2[to + e] = points[2, source + e] + s2
                        which[to + e] = source + e
                n += stop - first
    return n


@inner
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
def _measure(first, stop, surface, start, coords, small, lateral, out, nearest):
    """Unsigned distance of every packed atom to the plane of its nearest facet, and the facet's number.

    small : (3, 3) float32, Å, steps of the grid

    The facets known to the corners of the cell estimate the distance. Near the interface, all
    facets of the cell and its 26 neighbors are tried, which is faster than a search.
    """
    cells, shape, steps = surface.cells, surface.shape, surface.steps
    nodes, vector, facet, normal = surface.nodes, surface.vector, surface.facet, surface.normal
    e0, e1, e2 = shape[0] / cells[0], shape[1] / cells[1], shape[2] / cells[2]
    room = 1024
    c0, c1, c2 = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    which = np.empty(room, np.int32)
    near2 = np.float32(NEAR * NEAR) * lateral * lateral
    for cell in range(first, stop):
        if start[cell] == start[cell + 1]:
            continue
        i, j, k = cell // (cells[1] * cells[2]), cell // cells[2] % cells[1], cell % cells[2]
        for c in range(8):
            u, v, w, node = _corner(nodes, i, j, k, c)
            d0, d1, d2 = u * e0, v * e1, w * e2
            c0[c] = vector[node, 0] + d0 * steps[0, 0] + d1 * steps[1, 0] + d2 * steps[2, 0]
            c1[c] = vector[node, 1] + d0 * steps[0, 1] + d1 * steps[1, 1] + d2 * steps[2, 1]
            c2[c] = vector[node, 2] + d0 * steps[0, 2] + d1 * steps[1, 2] + d2 * steps[2, 2]
            which[c] = facet[node]
        n = 8
        for atom in range(start[cell], start[cell + 1]):
            x0, x1, x2 = product(coords[atom, 0], coords[atom, 1], coords[atom, 2], small)
            found = _nearest(c0, c1, c2, np.int64(8), x0, x1, x2)
            y0, y1, y2 = c0[found] - x0, c1[found] - x1, c2[found] - x2
            best = y0 * y0 + y1 * y1 + y2 * y2
            if best < near2:
                if n == 8:
                    n = _neighborhood(surface, i, j, k, 8, c0, c1, c2, which)
                    if n > room:
                        room = 2 * n
                        b0, b1, b2, before = c0, c1, c2, which
                        c0, c1, c2 = (
                            np.empty(room, np.float32),
                            np.empty(room, np.float32),
                            np.empty(room, np.float32),
                        )
                        which = np.empty(room, np.int32)
                        for c in range(8):
                            c0[c], c1[c], c2[c], which[c] = b0[c], b1[c], b2[c], before[c]
                        n = _neighborhood(surface, i, j, k, 8, c0, c1, c2, which)
                found = _nearest(c0, c1, c2, n, x0, x1, x2)
                y0, y1, y2 = c0[found] - x0, c1[found] - x1, c2[found] - x2
                best = y0 * y0 + y1 * y1 + y2 * y2
            e = which[found]
            a = y0 * normal[e, 0] + y1 * normal[e, 1] + y2 * normal[e, 2]
            # The plane ends somewhere: beyond `lateral` sideways the rest of the way counts.
            beyond = max(np.sqrt(max(best - a * a, np.float32(0))) - lateral, np.float32(0))
            out[atom] = np.sqrt(a * a + beyond * beyond)
            if nearest.size:
                nearest[atom] = e


def _nearest_of(
    points: NDArray[np.float64], places: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance from each place to the nearest point, and its number."""
    squares = [((points - place) ** 2).sum(axis=1) for place in places]
    e = np.array([int(np.argmin(square)) for square in squares])
    return np.linalg.norm(points[e] - places, axis=1), e


def _joined(parts: Sequence[NDArray[Any]], new: NewArray) -> NDArray[Any]:
    """The parts as one array."""
    out: NDArray[Any] = new((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    return np.concatenate(parts, out=out)


class Interface:
    """The surface on which a field equals a cut: `n_facets`, one in each cube that it passes through.

    new : makes an array of a shape and a type

    area : float, Å^2
    areas : (n_facets,) float32, Å^2; of the facets
    """

    def __init__(
        self, values: NDArray[np.float32], cut: float, lattice: Lattice, new: NewArray = borrow
    ) -> None:
        # In the precision of the field, so that domains and interface agree on every voxel.
        level, wrap, cells = np.float32(cut), lattice.wrap, lattice.cells

        def mixed_cubes(first: int, stop: int) -> tuple[NDArray[Any], ...]:
            n = 256 + values[first:stop].size // 14  # a guess that rarely needs to grow
            while True:
                arrays = np.empty((n, 3), np.int32), np.empty(n, np.uint8), np.empty(n, np.int32)
                room, n = n, int(_mixed_cubes(first, stop, values, level, wrap, cells, *arrays))
                if n <= room:
                    return arrays[0][:n], arrays[1][:n], arrays[2][:n]

        found = in_parts(mixed_cubes, len(values), least=4)
        cubes, cases, cell_of = (_joined(parts, new) for parts in zip(*found, strict=True))
        del found
        n = self.n_facets = len(cases)
        start, order = np.zeros(cells.prod() + 1, dtype=np.int64), new(n, np.int32)
        sort_by_place(start, order, cell_of)
        # An open axis has a node at its far end as well. Flat axes count for the area, but not for distances.
        nodes, steps = np.where(wrap, cells, cells + 1), lattice.metric_steps
        n_nodes = int(nodes.prod()) if n else 0
        self._lattice, part = lattice, np.zeros(0, dtype=np.int32)
        if (islands := lattice.islands) is not None:
            parts = np.full(nodes, -1, dtype=np.int32)
            for island in range(len(islands.size)):
                box = islands.box(island, COARSE)
                parts[tuple(slice(None) if w else b for w, b in zip(wrap, box, strict=True))] = island
            part = parts.reshape(-1)
        self._surface = _Surface(
            np.array(lattice.shape), cells, nodes, wrap, steps, part, start, new((3, n), np.float32),
            new((n, 3), np.float32), borrow((n_nodes, 3), np.float32), borrow(n_nodes, np.int32),
        )  # fmt: skip
        self.areas, self._to_grid = new(n, np.float32), lattice.to_grid
        back = np.ascontiguousarray(lattice.to_grid.T)
        areas = in_parts(
            _facets, n, values, level, steps, back, lattice.voxel_volume, cubes, cases, cell_of,
            self._surface.point, self._surface.normal, self.areas,
        )  # fmt: skip
        self.area = float(sum(areas))
        self.areas *= np.float32(0.5 * lattice.voxel_volume)
        self._is_spread = False

    def points_off(self, shift: float) -> NDArray[np.float64]:
        """(n_facets, 3) float64: grid coordinates of points `shift` Å from the facets, on the rich side."""
        points = self._surface.point.T + np.float32(shift) * self._surface.normal
        return points.astype(np.float64) @ self._to_grid

    def spread(self) -> None:
        """Find the nearest facet of every node, for distances."""
        if self.n_facets and not self._is_spread:
            surface = self._surface
            edges = (surface.shape / surface.cells)[:, None]
            surface.vector.fill(FAR_AWAY)
            surface.facet.fill(-1)
            _spread(surface, (surface.steps * edges).astype(np.float32))
            self._is_spread = True

    def distance(
        self, atoms: PackedAtoms, nearest: NDArray[np.int32] | None = None, *, within: float = np.inf
    ) -> NDArray[np.float32]:
        """(n,) float32, Å: unsigned distance of every packed atom; NaN where there is no interface.

        nearest : (n,) int32, filled with the number of the nearest facet if there is an interface
        within : Å; where the interface is farther, the distance may be any that is larger

        Within 3 voxels, the nearest of all facets is found; the error is below 0.05 Å on planes and on
        spheres of 8 Å at 0.75 Å voxels. Beyond 5 voxels, only the facets of the eight surrounding nodes of
        the coarse grid are compared; distances are then too long by 0.02 Å on average and by up to 0.5 Å,
        or more in strongly skewed cells.
        """
        out = borrow(len(atoms.coords), np.float32)
        if not self.n_facets:
            out[:] = np.nan
        else:
            surface = self._surface
            self.spread()
            lateral = np.float32(np.linalg.norm(surface.steps, axis=1).max())
            nearest = np.empty(0, np.int32) if nearest is None else nearest
            n_cells = len(atoms.start) - 1
            points = atoms.start, atoms.coords, surface.steps.astype(np.float32)
            in_parts(_measure, n_cells, surface, *points, lateral, out, nearest, least=128)
            if self._lattice.islands is not None:
                self._compare_islands(self._lattice.islands, atoms, lateral, out, nearest, within)
        return out

    def _compare_islands(
        self, islands: Islands, atoms: PackedAtoms, lateral: np.float32, out: NDArray[np.float32],
        nearest: NDArray[np.int32], within: float,
    ) -> None:  # fmt: skip
        """Replace the distances of atoms whose nearest facet is in another island."""
        from scipy.spatial import KDTree

        surface, lattice = self._surface, self._lattice
        n0, n1, n2 = surface.cells.tolist()
        corners = surface.part.reshape(surface.nodes)[:n0, :n1, :n2].reshape(-1)
        of, facet_of = (np.repeat(corners, np.diff(start)) for start in (atoms.start, surface.start))
        out[of < 0] = FAR_AWAY
        periodic = lattice.wrap & ~lattice.flat
        inverse, cell = np.linalg.inv(lattice.cell), lattice.cell * periodic[:, None]

        def in_place(points: NDArray[np.float64], of: NDArray[np.int32]) -> NDArray[np.float64]:
            points = points - islands.shift[of]
            return np.asarray(points - np.floor(points @ inverse) @ cell)

        places = in_place(atoms.coords @ surface.steps, of)
        points = in_place(surface.point.T.astype(np.float64), facet_of)
        images = np.array(list(itertools.product(*[(-1, 0, 1) if p else (0,) for p in periodic]))) @ cell
        across = lattice.cell[~lattice.wrap] / np.linalg.norm(lattice.cell[~lattice.wrap], axis=1)[:, None]
        for island in np.unique(facet_of):
            own = np.flatnonzero(facet_of == island)
            low, high = (end(points[own] @ across.T, axis=0) for end in (np.min, np.max))
            along = places @ across.T
            least = np.linalg.norm(np.maximum(np.maximum(low - along, along - high), 0), axis=1)
            ask = np.flatnonzero((of != island) & (of >= 0) & (least < np.minimum(out, within)))
            if ask.size:
                there = (points[own] + images[:, None]).reshape(-1, 3)
                # A tree pays for many atoms only.
                far, e = (
                    KDTree(there).query(places[ask]) if len(ask) > FEW else _nearest_of(there, places[ask])
                )
                facet = own[e % len(own)]
                facing = np.abs(((there[e] - places[ask]) * surface.normal[facet]).sum(axis=1))
                beyond = np.maximum(np.sqrt(np.maximum(far**2 - facing**2, 0)) - lateral, 0)
                found = np.hypot(facing, beyond)
                nearer = found < out[ask]
                out[ask[nearer]] = found[nearer]
                if nearest.size:
                    nearest[ask[nearer]] = facet[nearer]
