"""Domains of a thresholded grid: connected regions of voxels, periodic where the grid is.

The search works on runs of voxels along the last axis. Beyond one pass over the grid, time and memory grow
with the surface of the domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.families.segmentation.labels.density_kernels import grid_index
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms


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
    """Root of a run; afterwards `parent[run]` is the root, `image[run]` the cell image connected to it."""
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

    Each run stores which of its images is connected to image 0 of its root. If two runs of one domain meet in
    images that disagree, the domain closes on itself around the cell: it percolates.
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
def _domains_of(coords, rich, wrap, start, low, high, domain, shape, out):
    """Domain of every rich atom: that of the nearest rich voxel among the 4^3 around it, else -1."""
    n = shape
    cell = np.empty(3, dtype=np.int64)
    at = np.empty(3, dtype=np.int64)
    part = np.empty(3)
    for atom in range(coords.shape[0]):
        out[atom] = -1
        if not rich[atom]:
            continue
        for axis in range(3):
            g = coords[atom, axis]
            cell[axis] = floor(g)
            part[axis] = g - cell[axis]
            at[axis] = grid_index(cell[axis] + (part[axis] >= 0.5), n[axis], wrap[axis])
        out[atom] = _domain_at(start, low, high, domain, at[0], at[1], at[2], n[1])
        if out[atom] >= 0:
            continue
        best = 1e30
        for di in range(-1, 3):
            i = grid_index(cell[0] + di, n[0], wrap[0])
            for dj in range(-1, 3):
                j = grid_index(cell[1] + dj, n[1], wrap[1])
                for dk in range(-1, 3):
                    far = (di - part[0]) ** 2 + (dj - part[1]) ** 2 + (dk - part[2]) ** 2
                    if far >= best:
                        continue
                    k = grid_index(cell[2] + dk, n[2], wrap[2])
                    found = _domain_at(start, low, high, domain, i, j, k, n[1])
                    if found >= 0:
                        best = far
                        out[atom] = found


@dataclass(frozen=True, eq=False)
class Domains:
    """Face-connected domains of voxels at or above a cut, periodic along the axes that wrap.

    Domains are numbered from 1, the largest first.

    voxels : (n_kept,) int64; percolates : (n_kept, 3) bool
    n_dropped : number of domains that were not kept
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

    def of_atoms(self, atoms: PackedAtoms, rich: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
        """(n_atoms,) integers: the domain of each rich packed atom; 0 outside kept domains."""
        if self.n_kept == 1 and not self.n_dropped:
            return rich.view(np.int8)
        out = np.empty(len(rich), dtype=np.int32)
        _domains_of(
            atoms.coords, rich, self._lattice.wrap, self._start, self._low, self._high, self._number,
            np.array(self._lattice.shape), out,
        )  # fmt: skip
        return np.maximum(out, 0)

    def mask(self) -> NDArray[np.bool_]:
        """(n_x, n_y, n_z) bool: the voxels of the kept domains."""
        mask = np.zeros(self._lattice.shape, dtype=bool)
        _paint(self._start, self._low, self._high, self._number, mask)
        return mask

    def without_dropped(self, values: NDArray[np.float32], cut: float) -> NDArray[np.float32]:
        """The field, mirrored at the cut inside the dropped domains so that they have no interface."""
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
    tiny = np.float32(1e-6) * (abs(cut) if cut != 0 else np.float32(1))
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
    # Domains of equal volume keep the order of the grid.
    order = np.argsort(-voxels, kind="stable")
    kept = order[:1] if keep == "largest" else order[voxels[order] * lattice.voxel_volume >= min_volume]
    number = np.zeros(len(voxels) + 1, dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return Domains(
        voxels[kept], percolates[kept], len(voxels) - len(kept),
        start, low, high, number[run_domain], lattice,
    )  # fmt: skip
