"""Awkward frames, frames of known shape, and changes of a frame that must not change an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, erf, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.frame import Frame, Units

# ---------------------------------------------------------------------------------- awkward frames

SPACING = 2.3
"""Å; distance of the sites of the awkward frames, unless another is asked for."""

ORTHOGONAL = (13.0, 10.0, 11.5)
TRICLINIC = ((13.0, 0.0, 0.0), (2.5, 11.0, 0.0), (-1.8, 2.2, 12.0))
SKEWED = ((12.0, 0.0, 0.0), (9.0, 9.0, 0.0), (8.0, -6.0, 9.0))
ROTATED = ((7.0, 8.0, 4.0), (-8.0, 7.0, 1.0), (-1.5, -3.0, 10.0))
BOX = (11.0, 10.0, 12.0)


def _frame(positions: ArrayLike, cell: ArrayLike, pbc: Any, species: Any, **more: Any) -> Frame:
    return Frame(np.asarray(positions), np.asarray(cell), pbc, species, **more)


@dataclass(frozen=True)
class _Maker:
    """Makes the awkward frames of some species; lengths are given for sites that are 2.3 apart."""

    names: tuple[str, ...]
    units: Units
    spacing: float
    dimensions: int
    size: float

    def melt(
        self,
        cell: ArrayLike,
        pbc: bool | Sequence[bool] = True,
        *,
        spacing: float = SPACING,
        seed: int = 0,
        origin: ArrayLike = (0.0, 0.0, 0.0),
    ) -> Frame:
        """Jittered sites; the half of the cell at small fractions of a is nearly all of the first species."""
        rng = np.random.default_rng(seed)
        unit = self.spacing / SPACING
        vectors = np.asarray(cell, dtype=float)
        if vectors.ndim == 1:
            vectors = np.diag(vectors)
        flat = self.dimensions == 2
        if flat:
            # Twice as large in the plane, to have about as many atoms as in space.
            vectors = np.diag([2.0, 2.0, 0.0]) @ vectors @ np.diag([1.0, 1.0, 0.0])
        vectors = vectors * (unit * self.size)
        if flat:
            vectors[2, 2] = self.spacing
        counts = np.rint(np.linalg.norm(vectors, axis=1) / (spacing * unit)).astype(int)
        counts = np.maximum(counts, 1)
        if flat:
            counts[2] = 1
        sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
        fractions = (sites + 0.5 + rng.uniform(-0.4, 0.4, sites.shape)) / counts
        if flat:
            fractions[:, 2] = 0.25
        first = rng.random(len(fractions)) < np.where(fractions[:, 0] < 0.5, 0.95, 0.08)
        first[0] = True  # whatever the seed, there is something to look for
        others = rng.integers(1, len(self.names), len(fractions)) if len(self.names) > 2 else 1
        start = np.asarray(origin, dtype=float) * unit
        positions = fractions @ vectors + start
        species = np.where(first, 0, others if len(self.names) > 1 else 0)
        more: Any = {"species_names": self.names, "origin": start, "units": self.units}
        return _frame(positions, vectors, pbc, species, **more)

    def flat(self, pbc: bool | Sequence[bool] = True) -> Frame:
        if self.dimensions == 2:
            return self.melt((12.0, 10.5, 1.0), pbc, seed=9)
        frame = self.melt((24.0, 21.0, 1.0), pbc, seed=9)
        positions = frame.positions.copy()
        positions[:, 2] = 0.25 * self.spacing / SPACING
        return frame.replace(positions=positions)

    def one(self, pbc: bool) -> Frame:
        unit = self.spacing / SPACING
        lengths, place = np.array([6.0, 7.0, 8.0]) * unit, np.array([[1.0, 2.0, 3.0]]) * unit
        return _frame(place, lengths, pbc, [self.names[0]], units=self.units)

    def unwrapped(self) -> Frame:
        frame = self.melt(TRICLINIC, seed=5)
        images = np.random.default_rng(6).integers(-1000, 1001, (len(frame), 3))
        images[:, self.dimensions :] = 0
        return frame.replace(positions=frame.positions + images @ frame.cell)

    def upper_bound(self) -> Frame:
        frame = self.melt(BOX, seed=7)
        positions, lengths = frame.positions.copy(), np.diag(frame.cell)[: self.dimensions]
        for axis, some in enumerate((slice(30), slice(20, 50), slice(40, 60))[: self.dimensions]):
            positions[some, axis] = lengths[axis]
        positions[60, : self.dimensions] = lengths
        positions[61, : self.dimensions] = 0.0
        return frame.replace(positions=positions)

    def float_noise(self) -> Frame:
        frame = self.melt(BOX, seed=8)
        positions, lengths = frame.positions.copy(), np.diag(frame.cell)
        positions[:20, 0] = -1e-17
        positions[20:40, 1] = np.nextafter(lengths[1], 0.0)
        if self.dimensions == 3:
            positions[40:60, 2] = np.nextafter(lengths[2], lengths[2] + 1)
        positions[60:80, 0] = -np.finfo(float).tiny
        return frame.replace(positions=positions)

    def coincident(self) -> Frame:
        frame = self.melt(BOX, seed=10)
        positions = frame.positions.copy()
        positions[1:40] = positions[0]
        return frame.replace(positions=positions)

    def one_species(self) -> Frame:
        frame = self.melt(BOX, seed=13)
        return frame.replace(species=np.zeros(len(frame), dtype=np.int32))


def awkward_frames(
    names: Sequence[str] = ("Fe", "O"),
    units: Units = "metal",
    spacing: float = SPACING,
    dimensions: int = 3,
    size: float = 1.0,
) -> Mapping[str, Callable[[], Frame]]:
    """Makers of frames, by name, that trip up code which assumes too much; about 100 atoms each.

    Parameters
    ----------
    names : of the species; half of the cell is nearly all of the first
    units : "metal" or "lj"
    spacing : distance of neighboring sites, Å (or σ)
    dimensions : 2 for frames in a plane
    size : factor on the lengths of the cells, for analyses that need more atoms
    """
    make = _Maker(tuple(names), units, spacing, dimensions, size)
    a, b, c = TRICLINIC
    far = (-37.3, 1000.0, 5.5)
    return {
        "orthogonal": lambda: make.melt(ORTHOGONAL),
        "triclinic": lambda: make.melt(TRICLINIC, seed=1),
        "strongly skewed": lambda: make.melt(SKEWED, seed=2),
        "rotated": lambda: make.melt(ROTATED, seed=3),
        "left-handed": lambda: make.melt((b, a, c), seed=12),
        "open along c": lambda: make.melt(ORTHOGONAL, (True, True, False), seed=4),
        "open along a and b": lambda: make.melt(ORTHOGONAL, (False, False, True), seed=4),
        "open": lambda: make.melt(ORTHOGONAL, False, seed=4),
        "triclinic, open along b": lambda: make.melt(TRICLINIC, (True, False, True), seed=5),
        "triclinic, open": lambda: make.melt(TRICLINIC, False, seed=5),
        "tiny": lambda: make.melt((3.2, 3.4, 3.1), spacing=1.5, seed=11),
        "unwrapped far away": make.unwrapped,
        "on the upper bound": make.upper_bound,
        "float noise": make.float_noise,
        "one atom": lambda: make.one(True),
        "one atom, open": lambda: make.one(False),
        "2D": make.flat,
        "2D, open out of the plane": lambda: make.flat((True, True, False)),
        "2D, open in the plane": lambda: make.flat((False, True, True)),
        "shifted origin": lambda: make.melt(TRICLINIC, seed=1, origin=far),
        "shifted origin, open": lambda: make.melt(TRICLINIC, (True, True, False), seed=1, origin=far),
        "coincident atoms": make.coincident,
        "one species": make.one_species,
    }


def awkward_like(frame: Frame, size: float = 1.0) -> Mapping[str, Callable[[], Frame]]:
    """Awkward frames with the species, units, dimensions and density of an ordinary frame."""
    d = frame.n_dimensions
    volume = frame.volume
    if d == 2:
        volume /= float(np.linalg.norm(frame.cell[2]))
    spacing = (volume / max(frame.n_atoms, 1)) ** (1 / d)
    return awkward_frames(frame.species_names, frame.units, spacing, d, size)


AWKWARD: Mapping[str, Callable[[], Frame]] = awkward_frames()
"""The awkward frames of Fe and O; small enough for direct sums."""


# ------------------------------------------------------------------------ two phases of known shape


def _dithered(
    cell: Sequence[float], spacing: float, share: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Frame:
    """One atom somewhere in every cube of the spacing, Fe with the given local share.

    Which ones are Fe is decided by an additive recurrence in the indices of the cube instead of dice,
    so that every neighborhood holds its share of Fe almost exactly.
    """
    counts = np.rint(np.asarray(cell) / spacing).astype(int)
    sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (sites + np.random.default_rng(0).random(sites.shape)) / counts * np.asarray(cell)
    # 1/g, 1/g^2, 1/g^3 with g the root of g^4 = g + 1: as evenly spread in three dimensions as it gets.
    dice = (sites @ np.array([0.8191725134, 0.6710436067, 0.5497004779])) % 1.0
    species = np.where(dice < share(positions), 0, 1)
    return _frame(positions, cell, True, species, species_names=("Fe", "O"))


def _step(x: NDArray[np.float64], s: float) -> NDArray[np.float64]:
    if s == 0:
        return np.asarray(x >= 0, dtype=float)
    return np.asarray(np.vectorize(erf, otypes=[float])(x / (sqrt(2) * s)) + 1) / 2


def slab(
    *, cell: Sequence[float] = (40.0, 18.0, 18.0), low: float = 10.3, high: float = 27.8,
    s: float = 1.0, rich: float = 0.95, poor: float = 0.05, spacing: float = 0.8,
) -> Frame:  # fmt: skip
    """A layer of Fe between the planes x = low and x = high in a periodic box, with little noise.

    The share of Fe follows an error function of standard deviation s (Å) at either plane: 10-90 width
    2.563 s. There is one atom to a cube of the given spacing (Å): denser than any melt.
    """

    def share(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        x = positions[:, 0]
        return poor + (rich - poor) * (_step(x - low, s) + _step(high - x, s) - 1)

    return _dithered(cell, spacing, share)


def sphere(
    *, cell: Sequence[float] = (30.0, 30.0, 30.0), center: Sequence[float] = (15.2, 14.7, 15.4),
    radius: float = 8.0, s: float = 1.0, rich: float = 0.95, poor: float = 0.05, spacing: float = 0.8,
) -> Frame:  # fmt: skip
    """A droplet of Fe: the share falls off as an error function of the distance to a sphere; see `slab`."""

    def share(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        apart = positions - np.asarray(center)
        apart -= np.rint(apart / np.asarray(cell)) * np.asarray(cell)
        return poor + (rich - poor) * _step(radius - np.linalg.norm(apart, axis=1), s)

    return _dithered(cell, spacing, share)


# ------------------------------------------------------------- changes that must not change a result


def repeated(frame: Frame, times: tuple[int, int, int] = (2, 2, 2)) -> Frame:
    """Supercell; copy m of atom i is atom `m * n_atoms + i`."""
    shifts = np.array([(i, j, k) for i in range(times[0]) for j in range(times[1]) for k in range(times[2])])
    positions = (frame.positions[None] + (shifts @ frame.cell)[:, None]).reshape(-1, 3)
    return frame.replace(
        positions=positions,
        cell=frame.cell * np.array(times)[:, None],
        species=np.tile(frame.species, len(shifts)),
        ids=None,
        fields={name: np.concatenate([values] * len(shifts)) for name, values in frame.fields.items()},
    )


def permuted(frame: Frame, order: NDArray[np.integer[Any]]) -> Frame:
    """The atoms in another order: atom i of the result is atom `order[i]`."""
    return frame.replace(
        positions=frame.positions[order],
        species=frame.species[order],
        ids=None if frame.ids is None else frame.ids[order],
        fields={name: values[order] for name, values in frame.fields.items()},
    )


def rolled_axes(frame: Frame, axes: Sequence[int]) -> Frame:
    """The cell vectors in another order, the atoms where they are."""
    return frame.replace(cell=frame.cell[list(axes)], pbc=frame.pbc[list(axes)])


def wrapped_elsewhere(frame: Frame, seed: int = 0, reach: int = 3) -> Frame:
    """Every atom moved by whole cells along the periodic axes."""
    images = np.random.default_rng(seed).integers(-reach, reach + 1, (len(frame), 3)) * frame.pbc
    return frame.replace(positions=frame.positions + images @ frame.cell)


def translated(frame: Frame, shift: ArrayLike) -> Frame:
    """All atoms moved by one vector (Å), the cell left where it is."""
    return frame.replace(positions=frame.positions + np.asarray(shift, dtype=float))


def rotated(frame: Frame, seed: int = 0) -> Frame:
    """Atoms, cell and origin turned about zero; a frame in two dimensions is turned in its plane."""
    rng = np.random.default_rng(seed)
    if frame.n_dimensions == 2:
        x, y, z = frame.cell[2] / np.linalg.norm(frame.cell[2])
        angle = rng.uniform(0.2, 1.3)
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    else:
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
    return frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn, origin=frame.origin @ turn)


# -------------------------------------------------------------------------------------------- slabs


@dataclass(frozen=True, eq=False)
class Slab:
    """A layer of a frame with what lies within a halo of it.

    frame : the layer, open along the axis in which it was cut
    own : (n_slab,) bool; atoms of the layer, without those of the halo
    atoms : (n_slab,) int64; their rows in the whole frame; an image of an atom has the row of the atom
    """

    frame: Frame
    own: NDArray[np.bool_]
    atoms: NDArray[np.int64]


def slabs(frame: Frame, halo: float, n: int = 2, axis: int = 0) -> list[Slab]:
    """A frame cut into n layers of equal thickness across a cell vector, each with its halo.

    halo : Å (or σ); thickness of what is kept on either side of a layer
    """
    inverse = np.linalg.inv(frame.cell)
    margin = halo * float(np.linalg.norm(inverse[:, axis]))
    place = (frame.positions - frame.origin) @ inverse[:, axis]
    home, low, high = np.zeros(len(place)), 0.0, 1.0
    if frame.pbc[axis]:
        home = -np.floor(place)
    elif len(place):
        low, high = float(place.min()), float(np.nextafter(place.max(), np.inf))
    place = place + home
    images = range(-ceil(margin), ceil(margin) + 1) if frame.pbc[axis] else range(1)
    pbc = frame.pbc.copy()
    pbc[axis] = False
    edges = np.linspace(low, high, n + 1)
    found = []
    for begin, end in pairwise(edges):
        rows, shifts, own = [], [], []
        for image in images:
            there = place + image
            near = np.flatnonzero((there >= begin - margin) & (there < end + margin))
            rows.append(near)
            shifts.append(home[near] + image)
            own.append((there[near] >= begin) & (there[near] < end) & (image == 0))
        atoms, shift = np.concatenate(rows), np.concatenate(shifts)
        cell = frame.cell.copy()
        cell[axis] *= end - begin + 2 * margin
        part = frame.replace(
            positions=frame.positions[atoms] + shift[:, None] * frame.cell[axis],
            cell=cell,
            origin=frame.origin + (begin - margin) * frame.cell[axis],
            pbc=pbc,
            species=frame.species[atoms],
            ids=None,
            fields={name: values[atoms] for name, values in frame.fields.items()},
        )
        found.append(Slab(part, np.concatenate(own), atoms))
    return found
