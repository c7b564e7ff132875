"""Awkward frames, frames of known shape, and changes of a frame that must not change an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from phaseseg.frame import Frame, Units

# ---------------------------------------------------------------------------------- awkward frames

SPACING = 2.3
"""Å; distance of the sites of the awkward frames, unless another is asked for."""

ORTHOGONAL = (13.0, 10.0, 11.5)
TRICLINIC = ((13.0, 0.0, 0.0), (2.5, 11.0, 0.0), (-1.8, 2.2, 12.0))
SKEWED = ((12.0, 0.0, 0.0), (9.0, 9.0, 0.0), (8.0, -6.0, 9.0))
ROTATED = ((7.0, 8.0, 4.0), (-8.0, 7.0, 1.0), (-1.5, -3.0, 10.0))
BOX = (11.0, 10.0, 12.0)


def _sites(counts: Any) -> NDArray[np.int64]:
    """(n, 3) indices of the cells of a grid."""
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)


def awkward_frames(
    names: Sequence[str] = ("Fe", "O"),
    units: Units = "metal",
    spacing: float = SPACING,
    dimensions: int = 3,
    size: float = 1.0,
) -> Mapping[str, Callable[[], Frame]]:
    """Makers of unusual frames by name, for code that assumes too much; about 100 atoms each.

    Parameters
    ----------
    names : of the species; half of the cell is nearly all of the first
    units : "metal" or "lj"
    spacing : distance of neighboring sites, Å (or σ)
    dimensions : 2 for frames in a plane
    size : factor on the lengths of the cells, for analyses that need more atoms
    """
    names, unit, flat = tuple(names), spacing / SPACING, dimensions == 2

    def melt(
        cell: ArrayLike, pbc: Any = True, seed: int = 0, *, apart: float = SPACING,
        origin: ArrayLike = (0.0, 0.0, 0.0),
    ) -> Frame:  # fmt: skip
        """Jittered sites; the half of the cell at small fractions of a is nearly all of the first species.

        Lengths are given for sites that are 2.3 apart.
        """
        rng = np.random.default_rng(seed)
        vectors = np.asarray(cell, dtype=float)
        vectors = np.diag(vectors) if vectors.ndim == 1 else vectors
        if flat:
            # Twice as large in the plane, to have about as many atoms as in space.
            vectors = np.diag([2.0, 2.0, 0.0]) @ vectors @ np.diag([1.0, 1.0, 0.0])
        vectors = vectors * (unit * size)
        if flat:
            vectors[2, 2] = spacing
        counts = np.rint(np.linalg.norm(vectors, axis=1) / (apart * unit)).astype(int).clip(1)
        counts[dimensions:] = 1
        sites = _sites(counts)
        fractions = (sites + 0.5 + rng.uniform(-0.4, 0.4, sites.shape)) / counts
        fractions[:, dimensions:] = 0.25
        first = rng.random(len(fractions)) < np.where(fractions[:, 0] < 0.5, 0.95, 0.08)
        first[0] = True  # whatever the seed, there is something to look for
        others = rng.integers(1, len(names), len(fractions)) if len(names) > 2 else len(names) - 1
        start = np.asarray(origin, dtype=float) * unit
        species = np.where(first, 0, others)
        return Frame(fractions @ vectors + start, vectors, pbc, species, names, origin=start, units=units)

    def layer(pbc: bool | Sequence[bool] = True) -> Frame:
        if flat:
            return melt((12.0, 10.5, 1.0), pbc, 9)
        frame = melt((24.0, 21.0, 1.0), pbc, 9)
        frame.positions[:, 2] = 0.25 * unit
        return frame

    def one(pbc: Any) -> Frame:
        lengths, place = np.array([6.0, 7.0, 8.0]) * unit, np.array([[1.0, 2.0, 3.0]]) * unit
        species: Any = [names[0]]
        return Frame(place, lengths, pbc, species, units=units)

    def unwrapped() -> Frame:
        frame = melt(TRICLINIC, seed=5)
        images = np.random.default_rng(6).integers(-1000, 1001, (len(frame), 3))
        images[:, dimensions:] = 0
        return translated(frame, images @ frame.cell)

    def upper_bound() -> Frame:
        frame = melt(BOX, seed=7)
        positions, lengths = frame.positions[:, :dimensions], np.diag(frame.cell)[:dimensions]
        for axis, some in enumerate((slice(30), slice(20, 50), slice(40, 60))[:dimensions]):
            positions[some, axis] = lengths[axis]
        positions[60], positions[61] = lengths, 0.0
        return frame

    def float_noise() -> Frame:
        frame = melt(BOX, seed=8)
        positions, lengths = frame.positions, np.diag(frame.cell)
        positions[:20, 0] = -1e-17
        positions[20:40, 1] = np.nextafter(lengths[1], 0.0)
        if not flat:
            positions[40:60, 2] = np.nextafter(lengths[2], lengths[2] + 1)
        positions[60:80, 0] = -np.finfo(float).tiny
        return frame

    def coincident() -> Frame:
        frame = melt(BOX, seed=10)
        frame.positions[1:40] = frame.positions[0]
        return frame

    def one_species() -> Frame:
        frame = melt(BOX, seed=13)
        return frame.replace(species=np.zeros_like(frame.species))

    a, b, c = TRICLINIC
    far = (-37.3, 1000.0, 5.5)
    return {
        "orthogonal": lambda: melt(ORTHOGONAL),
        "triclinic": lambda: melt(TRICLINIC, seed=1),
        "strongly skewed": lambda: melt(SKEWED, seed=2),
        "rotated": lambda: melt(ROTATED, seed=3),
        "left-handed": lambda: melt((b, a, c), seed=12),
        "open along c": lambda: melt(ORTHOGONAL, (True, True, False), 4),
        "open along a and b": lambda: melt(ORTHOGONAL, (False, False, True), 4),
        "open": lambda: melt(ORTHOGONAL, False, 4),
        "triclinic, open along b": lambda: melt(TRICLINIC, (True, False, True), 5),
        "triclinic, open": lambda: melt(TRICLINIC, False, 5),
        "tiny": lambda: melt((3.2, 3.4, 3.1), seed=11, apart=1.5),
        "unwrapped far away": unwrapped,
        "on the upper bound": upper_bound,
        "float noise": float_noise,
        "one atom": lambda: one(True),
        "one atom, open": lambda: one(False),
        "2D": layer,
        "2D, open out of the plane": lambda: layer((True, True, False)),
        "2D, open in the plane": lambda: layer((False, True, True)),
        "shifted origin": lambda: melt(TRICLINIC, seed=1, origin=far),
        "shifted origin, open": lambda: melt(TRICLINIC, (True, True, False), 1, origin=far),
        "coincident atoms": coincident,
        "one species": one_species,
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
    sites = _sites(counts)
    positions = (sites + np.random.default_rng(0).random(sites.shape)) / counts * np.asarray(cell)
    # 1/g, 1/g^2, 1/g^3 with g the root of g^4 = g + 1: as evenly spread in three dimensions as it gets.
    dice = (sites @ np.array([0.8191725134, 0.6710436067, 0.5497004779])) % 1.0
    return Frame(positions, cell, True, np.where(dice < share(positions), 0, 1), ("Fe", "O"))  # type: ignore[arg-type]


def _step(x: NDArray[np.float64], s: float) -> NDArray[np.float64]:
    return ndtr(x / s) if s else np.heaviside(x, 1.0)


def slab(
    *, cell: Sequence[float] = (40.0, 18.0, 18.0), low: float = 10.3, high: float = 27.8,
    s: float = 1.0, rich: float = 0.95, poor: float = 0.05, spacing: float = 0.8,
) -> Frame:  # fmt: skip
    """A layer of Fe between the planes x = low and x = high in a periodic box, with little noise.

    The share of Fe follows an error function of standard deviation s (Å) at either plane: 10-90 width
    2.563 s. There is one atom to a cube of the given spacing (Å): denser than any melt.
    """
    return _dithered(
        cell,
        spacing,
        lambda p: poor + (rich - poor) * (_step(p[:, 0] - low, s) + _step(high - p[:, 0], s) - 1),
    )


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
    molecules = frame.molecules
    if molecules is not None:
        step = np.repeat(np.arange(len(shifts)), len(frame)) * (int(molecules.max(initial=0)) + 1)
        tiled = np.tile(molecules, len(shifts))
        molecules = np.where(tiled > 0, tiled + step, tiled)
    return frame.take(
        np.tile(np.arange(len(frame)), len(shifts)),
        positions=positions,
        cell=frame.cell * np.array(times)[:, None],
        ids=None,
        molecules=molecules,
    )


def permuted(frame: Frame, order: NDArray[np.integer[Any]]) -> Frame:
    """The atoms in another order: atom i of the result is atom `order[i]`."""
    return frame.take(order)


def rolled_axes(frame: Frame, axes: Sequence[int]) -> Frame:
    """The cell vectors in another order, the atoms where they are."""
    return frame.replace(cell=frame.cell[list(axes)], pbc=frame.pbc[list(axes)])


def tilted(frame: Frame, seed: int = 0) -> Frame:
    """The same images in other cell vectors.

    Periodic vectors are added to each other, and fractions of them to open ones. A frame in two
    dimensions stays across its third vector.
    """
    rng = np.random.default_rng(seed)
    cell, periodic = frame.cell.copy(), np.flatnonzero(frame.pbc)
    flat = frame.n_dimensions == 2
    for _ in range(4):
        for i in range(2 if flat else 3):
            others = periodic[(periodic != i) & ~(flat & (periodic == 2))]
            times = rng.integers(-2, 3, len(others)) if frame.pbc[i] else rng.uniform(-2, 2, len(others))
            if len(others):
                k = rng.integers(len(others))
                cell[i] += times[k] * cell[others[k]]
    return frame.replace(cell=cell)


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
