"""Domains of a thresholded grid: connected regions of voxels, periodic where the grid is.

The search works on runs of voxels along the last axis. Beyond one pass over the grid, time and memory grow
with the surface of the domains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.labels.density_kernels import grid_index
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms


class _Runs(NamedTuple):
    """Runs of rich voxels along the last axis: CSR over the rows, first and one-past-last voxel of each."""

    start: NDArray[np.int64]
    low: NDArray[np.int32]
    high: NDArray[np.int32]


@jit
def _count_runs(first, stop, rows, cut, counts):
    for row in range(first, stop):
        count, inside = 0, False
        for k in range(rows.shape[1]):
            rich = rows[row, k] >= cut
            count += rich and not inside
            inside = rich
        counts[row] = count


@jit
def _fill_runs(first, stop, rows, cut, start, low, high):
    n, run = rows.shape[1], start[first]
    for row in range(first, stop):
        if start[row] == start[row + 1]:
            continue
        inside = False
        for k in range(n):
            rich = rows[row, k] >= cut
            if rich and not inside:
                low[run] = k
            elif inside and not rich:
                high[run] = k
                run += 1
            inside = rich
        if inside:
            high[run] = n
            run += 1


def _find_runs(values: NDArray[np.float32], cut: np.float32) -> _Runs:
    rows = values.reshape(-1, values.shape[2])
    start = np.zeros(len(rows) + 1, dtype=np.int64)
    in_parts(_count_runs, len(rows), rows, cut, start[1:])
    np.cumsum(start, out=start)
    low, high = np.empty(start[-1], dtype=np.int32), np.empty(start[-1], dtype=np.int32)
    in_parts(_fill_runs, len(rows), rows, cut, start, low, high)
    return _Runs(start, low, high)


@inner
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


@inner
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


@inner
def _join_rows(parent, image, winds, runs, row_a, row_b, s):
    a, b = runs.start[row_a], runs.start[row_b]
    while a < runs.start[row_a + 1] and b < runs.start[row_b + 1]:
        if runs.low[a] < runs.high[b] and runs.low[b] < runs.high[a]:
            _join(parent, image, winds, a, b, s[0], s[1], s[2])
        if runs.high[a] <= runs.high[b]:
            a += 1
        else:
            b += 1


@jit
def _connect(runs, shape, wrap, axes, nowhere, parent, image, winds, domain):
    """Face-connected domains: fills the number of every run, and returns how many there are.

    axes : (3, 3); image (s0, s1, s2) along the grid's axes is s @ axes along those of percolation
    nowhere : three zeros
    parent : (n_runs,) 0, 1, 2 ...; afterwards roots are their own parents
    image, winds : (n_runs, 3) zeros; afterwards `winds` of a root is the percolation of its domain
    """
    n0, n1, n2 = shape
    start, low, high = runs
    for row in range(n0 * n1):
        first, last = start[row], start[row + 1] - 1
        if last < first:
            continue
        i, j = row // n1, row % n1
        if wrap[2] and low[first] == 0 and high[last] == n2:
            _join(parent, image, winds, last, first, axes[2, 0], axes[2, 1], axes[2, 2])
        if j + 1 < n1:
            _join_rows(parent, image, winds, runs, row, row + 1, nowhere)
        elif wrap[1]:
            _join_rows(parent, image, winds, runs, row, i * n1, axes[1])
        if i + 1 < n0:
            _join_rows(parent, image, winds, runs, row, row + n1, nowhere)
        elif wrap[0]:
            _join_rows(parent, image, winds, runs, row, j, axes[0])
    n = 0
    for run in range(low.size):
        domain[run] = -1
    for run in range(low.size):
        root = _root(parent, image, run)
        if domain[root] < 0:
            domain[root] = n
            n += 1
        domain[run] = domain[root]
    return n


@inner
def _domain_at(runs, domain, row, k):
    """Domain of voxel k of a row, -1 where it is poor."""
    for run in range(runs.start[row], runs.start[row + 1]):
        if k < runs.low[run]:
            return -1
        if k < runs.high[run]:
            return domain[run]
    return -1


@jit
def _domains_of(first, stop, coords, rich, wrap, runs, domain, shape, out):
    """Domain of every rich atom: that of the nearest rich voxel among the 4^3 around it, else -1."""
    n0, n1, n2 = shape
    cell, at, part = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64), np.empty(3)
    for atom in range(first, stop):
        out[atom] = -1
        if not rich[atom]:
            continue
        for axis in range(3):
            g = coords[atom, axis]
            cell[axis] = floor(g)
            part[axis] = g - cell[axis]
            at[axis] = grid_index(cell[axis] + (part[axis] >= 0.5), shape[axis], wrap[axis])
        out[atom] = _domain_at(runs, domain, at[0] * n1 + at[1], at[2])
        if out[atom] >= 0:
            continue
        best = 1e30
        for di in range(-1, 3):
            i = grid_index(cell[0] + di, n0, wrap[0])
            for dj in range(-1, 3):
                j = grid_index(cell[1] + dj, n1, wrap[1])
                for dk in range(-1, 3):
                    far = (di - part[0]) ** 2 + (dj - part[1]) ** 2 + (dk - part[2]) ** 2
                    if far >= best:
                        continue
                    k = grid_index(cell[2] + dk, n2, wrap[2])
                    found = _domain_at(runs, domain, i * n1 + j, k)
                    if found >= 0:
                        best = far
                        out[atom] = found


@dataclass(frozen=True, eq=False)
class Domains:
    """Face-connected domains of voxels at or above a cut, periodic along the axes that wrap.

    Domains are numbered from 1, the largest first.

    voxels : (n_kept,) int64; percolates : (n_kept, 3) bool, along the vectors of the frame's cell
    n_dropped : number of domains that were not kept
    """

    voxels: NDArray[np.int64]
    percolates: NDArray[np.bool_]
    n_dropped: int
    _runs: _Runs
    _number: NDArray[np.int32]  # of each run: 1-based, 0 where its domain was dropped
    _lattice: Lattice

    @property
    def n_kept(self) -> int:
        """Number of domains kept."""
        return len(self.voxels)

    def of_atoms(
        self, atoms: PackedAtoms, rich: NDArray[np.bool_], *, near_voxels: bool = False
    ) -> NDArray[np.integer[Any]]:
        """(n_atoms,) integers: the domain of each rich packed atom; 0 outside kept domains.

        near_voxels : also for a single domain, require a rich voxel within two of the atom
        """
        if self.n_kept == 1 and not self.n_dropped and not near_voxels:
            return rich.view(np.int8)
        out = np.empty(len(rich), dtype=np.int32)
        lattice = self._lattice
        runs = self._runs, self._number
        in_parts(_domains_of, len(out), atoms.coords, rich, lattice.wrap, *runs, lattice.shape, out)
        return np.maximum(out, 0)

    def mask(self) -> NDArray[np.bool_]:
        """(n_x, n_y, n_z) bool: the voxels of the kept domains."""
        mask = np.zeros(self._lattice.shape, dtype=bool)
        _paint(self._runs, self._number, mask)
        return mask

    def without_dropped(
        self, values: NDArray[np.float32], cut: float,
        copy: Callable[[NDArray[np.float32]], NDArray[np.float32]] = np.copy,
    ) -> NDArray[np.float32]:  # fmt: skip
        """The field, mirrored at the cut inside the dropped domains so that they have no interface."""
        if not self.n_dropped:
            return values
        mirrored = copy(values)
        _mirror(self._runs, self._number, np.float32(cut), mirrored)
        return mirrored


@jit
def _paint(runs, number, mask):
    n0, n1, _ = mask.shape
    for row in range(n0 * n1):
        for run in range(runs.start[row], runs.start[row + 1]):
            if number[run] > 0:
                mask[row // n1, row % n1, runs.low[run] : runs.high[run]] = True


@jit
def _mirror(runs, number, cut, values):
    # Strictly below the cut, also where the value equals it.
    tiny = np.float32(1e-6) * (abs(cut) if cut != 0 else np.float32(1))
    n0, n1, _ = values.shape
    for row in range(n0 * n1):
        line = values[row // n1, row % n1]
        for run in range(runs.start[row], runs.start[row + 1]):
            if number[run] == 0:
                for k in range(runs.low[run], runs.high[run]):
                    line[k] = 2 * cut - line[k] - tiny


def find_domains(
    values: NDArray[np.float32], cut: float, lattice: Lattice, *, keep: str = "all", min_volume: float = 0.0
) -> Domains:
    """Domains of the voxels with `values >= cut`.

    keep : "all" domains of at least `min_volume` Å^3, or only the "largest" (as in the paper)
    """
    runs = _find_runs(values, np.float32(cut))
    n_runs, nowhere = len(runs.low), np.zeros(3, dtype=np.int64)
    parent, run_domain = np.arange(n_runs), np.empty(n_runs, dtype=np.int32)
    image, winds = np.zeros((n_runs, 3), dtype=np.int32), np.zeros((n_runs, 3), dtype=bool)
    axes = lattice.wrap & ~lattice.flat, lattice.axes, nowhere
    n = _connect(runs, lattice.shape, *axes, parent, image, winds, run_domain)
    voxels = np.bincount(run_domain, runs.high - runs.low, minlength=n).astype(np.int64)
    roots = np.flatnonzero(parent == np.arange(n_runs))
    percolates = np.empty((n, 3), dtype=bool)
    percolates[run_domain[roots]] = winds[roots]
    # Domains of equal volume keep the order of the grid.
    order = np.argsort(-voxels, kind="stable")
    kept = order[:1] if keep == "largest" else order[voxels[order] * lattice.voxel_volume >= min_volume]
    number = np.zeros(len(voxels) + 1, dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return Domains(voxels[kept], percolates[kept], len(voxels) - len(kept), runs, number[run_domain], lattice)
