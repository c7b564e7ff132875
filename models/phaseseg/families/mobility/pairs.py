"""Pairs of particles that interact, and their forces: what minimization and cage runs share.

Particles are sorted by place, and each pair is listed once. A coarse list, with a generous skin, is made from
bins; a fine list is filtered from it whenever a particle has moved half of the fine skin. Images are numbers
in a table of lattice vectors, so that the loop over pairs works in any cell without rounding to images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import (
    FAR,
    hits_within,
    pack_all_around,
    room_around,
    settle,
    shift_between,
    sort_into_bins,
    squares,
)

Vectors = NDArray[np.float64]
FINE_SKIN = 0.3
"""σ; a larger one means fewer filterings and more pairs beyond the cutoff."""


class Tables(NamedTuple):
    """Coefficients of all pairs, flat: that of species a and b is at a * n_species + b.

    u = (strong r^-6 - weak) r^-6 - offset, force / distance = (12 strong r^-6 - 6 weak) r^-8

    cutoff, cutoff2 : σ, σ^2; all float64
    """

    n_species: int
    strong: NDArray[np.float64]
    weak: NDArray[np.float64]
    offset: NDArray[np.float64]
    cutoff: NDArray[np.float64]
    cutoff2: NDArray[np.float64]


class PairList(NamedTuple):
    """Pairs in rows, by their first particle i and the species s of the second one.

    start, stop : (n_atoms * n_species,) int64; row i * n_species + s
    other : uint32 second particle; image : uint32 row of the table of lattice vectors to add to its position
    longest : room for the pairs of a row
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    other: NDArray[np.uint32]
    image: NDArray[np.uint32]
    longest: int


class System:
    """The particles of a frame, sorted by place, with their pairs.

    frame : n_atoms particles; codes : (n_atoms,) int32, their species in the tables

    positions : (n_atoms, 3) float64, σ, sorted; may be changed in place
    codes : (n_atoms,) int32, sorted; tables : of the potential
    coarse, fine : lists of pairs; images : (n_images, 3) float64, σ
    """

    def __init__(self, frame: Frame, codes: NDArray[np.int32], tables: Tables) -> None:
        self.frame, self.tables = frame, tables
        self.order = np.arange(frame.n_atoms)
        if frame.n_atoms:
            self.order = sort_into_bins(frame, float(self.tables.cutoff.max())).order.astype(np.int64)
        self.positions = np.ascontiguousarray(frame.positions[self.order])
        self.codes = codes[self.order]
        self._offset = np.zeros_like(self.positions)  # what wrapping has subtracted
        self._wrap()

    def _wrap(self) -> None:
        """Bring the particles back into the cell."""
        cell = self.frame.reduced.cell
        images = np.floor((self.positions - self.frame.origin) @ np.linalg.inv(cell)) * self.frame.pbc
        if images.any():
            self.positions -= images @ cell
            self._offset += images @ cell

    def in_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the sorted particles in the order of the frame."""
        found = np.empty_like(values)
        found[self.order] = values
        return found

    def unwrapped(self, positions: Vectors) -> Vectors:
        """Positions of the sorted particles in the order of the frame, in the images that the frame has."""
        return self.in_order(positions + self._offset)

    def list_pairs(self, skin: float) -> None:
        """List the pairs closer than their cutoff + skin (σ), after wrapping the positions."""
        self._wrap()
        cutoff = float(self.tables.cutoff.max()) + skin
        here = self.frame.replace(
            positions=self.positions, ids=None, molecules=None, categories={}, fields={}
        )
        n = len(self.positions)
        self.skin, self.listed_at = skin, self.positions.copy()
        n_species = self.tables.n_species
        start = np.zeros(n * n_species + 1, dtype=np.int64)
        if n:
            bins = sort_into_bins(here, cutoff)
            cell = here.reduced.cell
            heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
            # Particles are in the cell: a pair is at most one image more apart than the cutoff is long.
            reach = np.where(here.pbc, np.ceil(cutoff / heights) + 1, 0).astype(np.int64)
            counts = 2 * reach + 1
            grid = np.indices(counts.tolist()).reshape(3, -1).T - reach
            self.images = np.ascontiguousarray(grid @ cell)
            limits = (self.tables.cutoff + skin) ** 2
            nothing = np.empty(0, dtype=np.uint32)
            _fill(bins, True, self.codes, n_species, limits, reach, start, nothing, nothing)
        else:
            self.images = np.zeros((1, 3))
        np.cumsum(start, out=start)
        other, image = np.empty(start[-1], dtype=np.uint32), np.empty(start[-1], dtype=np.uint32)
        if n:
            _fill(bins, False, self.codes, n_species, limits, reach, start, other, image)
        longest = int(np.diff(start).max(initial=0))
        self.coarse = PairList(start[:-1], start[1:], other, image, longest)
        rows = np.zeros(len(start) - 1, dtype=np.int64)
        self.fine = PairList(rows, rows.copy(), np.empty_like(other), np.empty_like(image), longest)

    def energies_and_forces(self) -> tuple[NDArray[np.float64], Vectors]:
        """Energies (n_atoms,) and forces (n_atoms, 3) of the sorted particles, from the coarse list.

        Raises
        ------
        ValueError
            For two particles at the same place.
        """
        energies, forces = np.zeros(len(self.positions)), np.zeros((len(self.positions), 3))
        first, second = add_energies_and_forces(
            self.positions, self.codes, self.coarse, self.images, self.tables, energies, forces
        )
        if first >= 0:
            one, two = sorted((int(self.order[first]), int(self.order[second])))
            raise ValueError(
                f"{self.frame.error_prefix}atoms {one + 1} and {two + 1} are at the same place, where the "
                "potential is infinite. Remove one of them."
            )
        return energies, forces


@jit
def _fill(bins, counting, codes, n_species, limits, reach, start, other, image):
    """Count the pairs of each row of a `PairList` into start[row + 1], or store them.

    limits : squares of the largest distances by pair of species; reach : of the table of images
    """
    near, found = room_around(bins), np.empty(n_species, dtype=np.int64)
    within, doubt = np.float32(bins.within), np.float32(bins.doubt)
    n1, n2 = 2 * reach[1] + 1, 2 * reach[2] + 1
    for flat in range(bins.start.size - 1):
        first, last = bins.start[flat], bins.start[flat + 1]
        if first == last:
            continue
        n, own = pack_all_around(bins, bins.reach, flat, near)
        for slot in range(first, last):
            c = own + slot - first
            if squares(near, n, c, within, doubt):
                settle(bins, near, n, slot, c)
            near.r2[c] = FAR  # no pair with itself
            i = bins.order[slot]
            m = hits_within(near, n, within)
            found[:] = 0
            for h in range(m):
                k = near.hits[h]
                j = bins.order[near.slots[k]]
                kind = codes[j]
                # A margin for the rounding of the square: the list may only be too long.
                if j < i or near.r2[k] > limits[codes[i] * n_species + kind] * (1 + 1e-5) + 4 * doubt:
                    continue
                if j > i and counting:
                    found[kind] += 1
                    continue
                s0, s1, s2 = shift_between(bins, near, slot, c, k)
                # Of a particle with its own images, one of two opposite ones.
                if j == i and not (s0 > 0 or (s0 == 0 and (s1 > 0 or (s1 == 0 and s2 > 0)))):
                    continue
                if not counting:
                    e = start[i * n_species + kind] + found[kind]
                    other[e] = j
                    flat_image = (np.int64(s0) + reach[0]) * n1 + np.int64(s1) + reach[1]
                    image[e] = flat_image * n2 + np.int64(s2) + reach[2]
                found[kind] += 1
            if counting:
                for kind in range(n_species):
                    start[i * n_species + kind + 1] = found[kind]


@jit
def add_energies_and_forces(positions, codes, pairs, images, tables, energies, forces):
    """Add energies and forces of all pairs; return the first pair at the same place, or (-1, -1)."""
    for i in range(len(positions)):
        first = i * tables.n_species
        for p in range(pairs.start[first], pairs.stop[first + tables.n_species - 1]):
            j, s = pairs.other[p], pairs.image[p]
            dx = positions[j, 0] + images[s, 0] - positions[i, 0]
            dy = positions[j, 1] + images[s, 1] - positions[i, 1]
            dz = positions[j, 2] + images[s, 2] - positions[i, 2]
            r2 = dx * dx + dy * dy + dz * dz
            k = codes[i] * tables.n_species + codes[j]
            if r2 >= tables.cutoff2[k]:
                continue
            if r2 == 0.0:
                return i, np.int64(j)
            inverse = 1.0 / r2
            r6 = inverse * inverse * inverse
            energy = 0.5 * ((tables.strong[k] * r6 - tables.weak[k]) * r6 - tables.offset[k])
            energies[i] += energy
            energies[j] += energy
            push = (12.0 * tables.strong[k] * r6 - 6.0 * tables.weak[k]) * r6 * inverse
            forces[i, 0] -= push * dx
            forces[i, 1] -= push * dy
            forces[i, 2] -= push * dz
            forces[j, 0] += push * dx
            forces[j, 1] += push * dy
            forces[j, 2] += push * dz
    return -1, -1


@jit
def filter_pairs(positions, codes, coarse, images, tables, skin, fine):
    """Fill the fine list with the pairs of the coarse one closer than their cutoff + skin."""
    n, n_species = 0, tables.n_species
    squares = np.empty(coarse.longest)
    for i in range(len(positions)):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        for kind in range(n_species):
            row = i * n_species + kind
            limit = (tables.cutoff[codes[i] * n_species + kind] + skin) ** 2
            first, length = coarse.start[row], coarse.stop[row] - coarse.start[row]
            for p in range(length):
                j, s = coarse.other[first + p], coarse.image[first + p]
                dx = positions[j, 0] + images[s, 0] - x
                dy = positions[j, 1] + images[s, 1] - y
                dz = positions[j, 2] + images[s, 2] - z
                squares[p] = dx * dx + dy * dy + dz * dz
            fine.start[row] = n
            for p in range(length):
                # Written in any case, kept or overwritten: no branch to mispredict.
                fine.other[n], fine.image[n] = coarse.other[first + p], coarse.image[first + p]
                n += squares[p] < limit
            fine.stop[row] = n


@jit
def compute_forces(positions, codes, pairs, images, tables, forces):
    """Forces of all pairs into `forces`.

    The pairs of a row are gathered, computed in vector instructions without a branch, and scattered.
    """
    n_species, longest = tables.n_species, pairs.longest
    x, y, z = np.empty(longest), np.empty(longest), np.empty(longest)
    forces[:] = 0.0
    for i in range(len(positions)):
        x0, y0, z0 = positions[i, 0], positions[i, 1], positions[i, 2]
        fx, fy, fz = 0.0, 0.0, 0.0
        for kind in range(n_species):
            row, k = i * n_species + kind, codes[i] * n_species + kind
            cutoff2, strong, weak = tables.cutoff2[k], 12.0 * tables.strong[k], 6.0 * tables.weak[k]
            first, length = pairs.start[row], pairs.stop[row] - pairs.start[row]
            for p in range(length):
                j, s = pairs.other[first + p], pairs.image[first + p]
                x[p] = positions[j, 0] + images[s, 0] - x0
                y[p] = positions[j, 1] + images[s, 1] - y0
                z[p] = positions[j, 2] + images[s, 2] - z0
            for p in range(length):
                r2 = x[p] * x[p] + y[p] * y[p] + z[p] * z[p]
                inverse = 1.0 / r2
                r6 = inverse * inverse * inverse
                push = (strong * r6 - weak) * r6 * inverse
                push = push if r2 < cutoff2 else 0.0
                x[p], y[p], z[p] = push * x[p], push * y[p], push * z[p]
                fx -= x[p]
                fy -= y[p]
                fz -= z[p]
            for p in range(length):
                j = pairs.other[first + p]
                forces[j, 0] += x[p]
                forces[j, 1] += y[p]
                forces[j, 2] += z[p]
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz


@inner
def farthest(positions, before):
    """Square of the largest displacement."""
    most = 0.0
    for i in range(len(positions)):
        dx, dy, dz = (
            positions[i, 0] - before[i, 0],
            positions[i, 1] - before[i, 1],
            positions[i, 2] - before[i, 2],
        )
        most = max(most, dx * dx + dy * dy + dz * dz)
    return most
