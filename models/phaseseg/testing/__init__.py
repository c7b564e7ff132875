"""For tests, ours and those of others: awkward frames, two-phase frames of known shape, checks, tolerances.

from phaseseg.testing import AWKWARD, check_fields
for name, make in AWKWARD.items():
    frame = make()
    check_fields(frame, label_phases(frame, "Fe"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.fields import Bonds, Fields, Grid, Table
from phaseseg.frame import Frame
from phaseseg.specs import FIELD_SPECS

__all__ = [
    "AWKWARD",
    "EXACT",
    "LITERATURE",
    "ROUNDING",
    "check_fields",
    "check_glass_fields",
    "permuted",
    "repeated",
    "rolled_axes",
    "slab",
    "sphere",
    "translated",
    "wrapped_elsewhere",
]

# Tolerances ---------------------------------------------------------------------------------------

EXACT = 0.0
"""Indices, labels, counts, round trips: equality."""

ROUNDING: Mapping[str, float] = {"float64": 1e-10, "float32": 1e-5}
"""Relative, by the precision in which a number was computed: the same formula summed in another order."""


def LITERATURE(printed: str) -> float:
    """Absolute: half a unit of the last digit that the source prints.

    >>> LITERATURE("91.6"), LITERATURE("0.26")
    (0.05, 0.005)
    """
    digits = len(printed.partition(".")[2])
    return float(f"{0.5 * 10.0**-digits:.{digits + 1}f}")


# Awkward frames -----------------------------------------------------------------------------------

NAMES = ("Fe", "O")


def _frame(
    positions: Any,
    cell: Any,
    pbc: Any,
    species: Any,
    names: tuple[str, ...] = (),
    origin: Any = (0.0, 0.0, 0.0),
) -> Frame:
    return Frame(positions, cell, pbc, species, names, origin=origin)


def _melt(
    cell: ArrayLike,
    pbc: bool | Sequence[bool] = True,
    *,
    spacing: float = 2.3,
    seed: int = 0,
    origin: ArrayLike = (0.0, 0.0, 0.0),
) -> Frame:
    """Jittered sites `spacing` Å apart; the half of the cell at small fractions of a is nearly all Fe."""
    rng = np.random.default_rng(seed)
    vectors = np.asarray(cell, dtype=float)
    if vectors.ndim == 1:
        vectors = np.diag(vectors)
    counts = np.maximum(np.rint(np.linalg.norm(vectors, axis=1) / spacing).astype(int), 1)
    sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = (sites + 0.5 + rng.uniform(-0.4, 0.4, sites.shape)) / counts
    iron = rng.random(len(fractions)) < np.where(fractions[:, 0] < 0.5, 0.95, 0.08)
    iron[0] = True  # whatever the seed, there is something to look for
    codes = np.where(iron, 0, 1)
    start = np.asarray(origin, dtype=float)
    return _frame(fractions @ vectors + start, vectors, pbc, codes, NAMES, start)


TRICLINIC = ((13.0, 0.0, 0.0), (2.5, 11.0, 0.0), (-1.8, 2.2, 12.0))
SKEWED = ((12.0, 0.0, 0.0), (9.0, 9.0, 0.0), (8.0, -6.0, 9.0))
ROTATED = ((7.0, 8.0, 4.0), (-8.0, 7.0, 1.0), (-1.5, -3.0, 10.0))


def _unwrapped() -> Frame:
    frame = _melt(TRICLINIC, seed=5)
    images = np.random.default_rng(6).integers(-1000, 1001, (len(frame), 3))
    return frame.replace(positions=frame.positions + images @ frame.cell)


def _upper_bound() -> Frame:
    frame = _melt((11.0, 10.0, 12.0), seed=7)
    positions = frame.positions.copy()
    positions[:30, 0] = 11.0
    positions[20:50, 1] = 10.0
    positions[40:60, 2] = 12.0
    positions[60] = (11.0, 10.0, 12.0)
    positions[61] = 0.0
    return frame.replace(positions=positions)


def _float_noise() -> Frame:
    frame = _melt((11.0, 10.0, 12.0), seed=8)
    positions = frame.positions.copy()
    positions[:20, 0] = -1e-17
    positions[20:40, 1] = np.nextafter(10.0, 0.0)
    positions[40:60, 2] = np.nextafter(12.0, 13.0)
    positions[60:80, 0] = -np.finfo(float).tiny
    return frame.replace(positions=positions)


def _flat(pbc: bool | Sequence[bool] = True) -> Frame:
    frame = _melt((24.0, 21.0, 1.0), pbc, seed=9)
    positions = frame.positions.copy()
    positions[:, 2] = 0.25
    return frame.replace(positions=positions)


def _coincident() -> Frame:
    frame = _melt((11.0, 10.0, 12.0), seed=10)
    positions = frame.positions.copy()
    positions[1:40] = positions[0]
    return frame.replace(positions=positions)


def _left_handed() -> Frame:
    a, b, c = TRICLINIC
    return _melt((b, a, c), seed=12)


def _one_species() -> Frame:
    frame = _melt((11.0, 10.0, 12.0), seed=13)
    return frame.replace(species=np.zeros(len(frame), dtype=np.int32))


AWKWARD: Mapping[str, Callable[[], Frame]] = {
    "orthogonal": lambda: _melt((13.0, 10.0, 11.5)),
    "triclinic": lambda: _melt(TRICLINIC, seed=1),
    "strongly skewed": lambda: _melt(SKEWED, seed=2),
    "rotated": lambda: _melt(ROTATED, seed=3),
    "left-handed": _left_handed,
    "open along c": lambda: _melt((13.0, 10.0, 11.5), (True, True, False), seed=4),
    "open along a and b": lambda: _melt((13.0, 10.0, 11.5), (False, False, True), seed=4),
    "open": lambda: _melt((13.0, 10.0, 11.5), False, seed=4),
    "triclinic, open along b": lambda: _melt(TRICLINIC, (True, False, True), seed=5),
    "triclinic, open": lambda: _melt(TRICLINIC, False, seed=5),
    "tiny": lambda: _melt((3.2, 3.4, 3.1), spacing=1.5, seed=11),
    "unwrapped far away": _unwrapped,
    "on the upper bound": _upper_bound,
    "float noise": _float_noise,
    "one atom": lambda: _frame([[1.0, 2.0, 3.0]], [6.0, 7.0, 8.0], True, ["Fe"]),
    "one atom, open": lambda: _frame([[1.0, 2.0, 3.0]], [6.0, 7.0, 8.0], False, ["Fe"]),
    "2D": _flat,
    "2D, open out of the plane": lambda: _flat((True, True, False)),
    "2D, open in the plane": lambda: _flat((False, True, True)),
    "shifted origin": lambda: _melt(TRICLINIC, seed=1, origin=(-37.3, 1000.0, 5.5)),
    "shifted origin, open": lambda: _melt(TRICLINIC, (True, True, False), seed=1, origin=(-37.3, 1e3, 5.5)),
    "coincident atoms": _coincident,
    "one species": _one_species,
}  # fmt: skip
"""Named frames of Fe and O that trip up code which assumes too much; small enough for direct sums."""


# Two phases of known shape ------------------------------------------------------------------------


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
    return _frame(positions, cell, True, np.where(dice < share(positions), 0, 1), NAMES)


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


# What must not change a label ---------------------------------------------------------------------


def repeated(frame: Frame, times: tuple[int, int, int] = (2, 2, 2)) -> Frame:
    """Supercell; copy m of atom i is atom `m * n_atoms + i`."""
    shifts = np.array([(i, j, k) for i in range(times[0]) for j in range(times[1]) for k in range(times[2])])
    positions = (frame.positions[None] + (shifts @ frame.cell)[:, None]).reshape(-1, 3)
    return frame.replace(
        positions=positions,
        cell=frame.cell * np.array(times)[:, None],
        species=np.tile(frame.species, len(shifts)),
        ids=None,
        fields={},
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


# Checks -------------------------------------------------------------------------------------------


def check_fields(frame: Frame, fields: Fields) -> None:
    """Assert what holds for the labels or the prediction of any frame: names, shapes, types, agreement.

    Raises
    ------
    AssertionError
    """
    assert set(fields) <= set(FIELD_SPECS)
    n = frame.n_atoms
    dtypes = {"phase": "int8", "interface_distance": "float32", "domain": "int32"}
    predicted = "phase_probability" in fields
    dtypes["phase_uncertainty" if predicted else "phase_density"] = "float32"
    for name, dtype in dtypes.items():
        values = fields[name]
        assert values.shape == (n,), f"{name} has the shape {values.shape}"
        assert values.dtype == dtype, f"{name} is {values.dtype}"
        assert values.flags.c_contiguous and values.flags.writeable
    for name in fields.level("frame"):
        assert type(fields[name]) in (int, float), f"{name} is {type(fields[name])}"
    phase, distance, domain = fields["phase"], fields["interface_distance"], fields["domain"]
    assert np.isin(phase, (POOR, RICH, BOUNDARY)).all()
    if predicted:
        probability = fields["phase_probability"]
        assert probability.dtype == np.float32 and probability.shape in ((n, 2), (n, 3))
        assert (probability >= 0).all() and np.allclose(probability.sum(axis=1), 1, atol=1e-6)
        assert ((fields["phase_uncertainty"] >= 0) & (fields["phase_uncertainty"] <= 0.5)).all()
        assert 0 <= fields["outside_training"] <= 1
    else:
        assert np.isfinite(fields["phase_density"]).all()
    grid = fields["score_grid" if predicted else "density_grid"]
    assert isinstance(grid, Grid) and grid.values.dtype == np.float32 and np.isfinite(grid.values).all()
    assert fields["n_phases"] in (1, 2)
    if predicted:
        # Both sides hold atoms, or there is one phase.
        assert (fields["n_phases"] == 1) == np.isnan(distance).all() == (len(np.unique(domain > 0)) == 1)
    if np.isnan(distance).any():
        assert np.isnan(distance).all(), "some atoms have no distance to the interface"
        assert len(np.unique(phase)) == 1 and phase[0] != BOUNDARY, "atoms of a frame that was not cut differ"
        assert not domain.any() and fields["n_domains"] == 0 and fields["interface_area"] == 0
    else:
        assert ((distance > 0) <= (domain > 0)).all() and ((distance < 0) <= (domain == 0)).all()
        assert (phase[domain > 0] != POOR).all() and (phase[domain == 0] != RICH).all()
        assert domain.min() >= 0 and domain.max() <= fields["n_domains"]
        assert fields["n_domains"] >= 1 and fields["interface_area"] > 0
    table = {row["phase"]: row for row in fields["composition"].rows()}
    assert table["all"]["atoms"] == n
    assert sum(table[name]["atoms"] for name in ("rich", "poor", "boundary")) == n
    assert table["rich side"]["atoms"] + table["poor side"]["atoms"] == n
    assert fields["mass_balance_residual"] <= 1e-12
    for name in ("rich_atom_fraction", "rich_volume_fraction"):
        assert 0 <= fields[name] <= 1
    assert isinstance(fields["domains"], Table) and len(fields["domains"]) == fields["n_domains"]
    assert len(fields.messages) >= 1


def check_glass_fields(frame: Frame, fields: Fields) -> None:
    """Assert what holds for a prediction of liquid or glass of any frame: names, shapes, types, agreement.

    Raises
    ------
    AssertionError
    """
    assert set(fields) <= set(FIELD_SPECS)
    n = frame.n_atoms
    for name in fields.level("frame"):
        assert type(fields[name]) in (int, float), f"{name} is {type(fields[name])}"
    for name, values in fields.level("atom").items():
        assert values.shape == (n,), f"{name} has the shape {values.shape}"
        assert values.dtype == np.float32, f"{name} is {values.dtype}"
        assert values.flags.c_contiguous and values.flags.writeable
    assert 0 <= fields["frame_glass_probability"] <= 1 and 0 <= fields["frame_glass_uncertainty"] <= 0.5
    assert ("glass_probability" in fields) == ("glass_uncertainty" in fields) == ("glass_fraction" in fields)
    if "glass_probability" in fields:
        p, spread = fields["glass_probability"], fields["glass_uncertainty"]
        assert ((p >= 0) & (p <= 1)).all() and ((spread >= 0) & (spread <= 0.5)).all()
        assert 0 <= fields["glass_fraction"] <= 1
    together = ("attention", "attention_bonds", "attention_threshold", "attention_n_disjoint_graphs",
                "attention_n_bb_edges", "attention_n_isolated_a")  # fmt: skip
    assert len({name in fields for name in together}) == 1
    if "attention" in fields:
        bonds = fields["attention_bonds"]
        assert isinstance(bonds, Bonds) and set(bonds.columns) == {
            "attention", "bb", "length", "kept"
        }  # fmt: skip
        assert (bonds.atoms[:, 0] <= bonds.atoms[:, 1]).all() and bonds.atoms.min() >= 0
        assert bonds.atoms.max() < n
        # Each pair of images once.
        rows = np.concatenate([bonds.atoms, bonds.shifts], axis=1)
        assert len(np.unique(rows, axis=0)) == len(bonds)
        i, j = bonds.atoms.T
        apart = frame.positions[j] - frame.positions[i] + bonds.shifts @ frame.cell
        assert np.allclose(np.linalg.norm(apart, axis=1), bonds.columns["length"], rtol=1e-5, atol=1e-6)
        attention, kept = bonds.columns["attention"], bonds.columns["kept"]
        assert attention.dtype == np.float32 and (attention >= 0).all()
        assert abs(attention.mean(dtype=float) - 1) < 1e-3
        assert kept.dtype == np.int8 and bonds.columns["bb"].dtype == np.int8
        assert ((attention >= np.float32(fields["attention_threshold"])) == kept).all()
        assert fields["attention_n_bb_edges"] == np.count_nonzero(kept & bonds.columns["bb"])
    assert len(fields.messages) >= 1
