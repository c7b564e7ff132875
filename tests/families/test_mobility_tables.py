"""Distribution and correlation of mobility: against all pairs, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.families.mobility.mobility_tables import (
    RANGE,
    WIDTH,
    correlation_table,
    histogram_table,
    standardized,
)
from phaseseg.frame import Frame


def liquid(n=300, seed=0, pbc=True, cell=None):
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * (n / 1.2) ** (1 / 3) if cell is None else np.asarray(cell)
    codes = (rng.random(n) < 0.2).astype(np.int32)
    return Frame(rng.random((n, 3)) @ cell, cell, pbc, codes, ("A", "B"), units="lj"), rng.gamma(3, 0.2, n)


def naive_correlation(frame, values, pair):
    """Mean product over the ordered pairs of all images, in bins."""
    z = standardized(values, frame.species)
    shifts = [
        np.array(s) @ frame.cell
        for s in np.ndindex(5, 5, 5)
        if frame.pbc.all() or tuple(s) == (2, 2, 2)
    ]  # fmt: skip
    sums, pairs = np.zeros(50), np.zeros(50)
    home = 2 * frame.cell.sum(axis=0) if frame.pbc.all() else shifts[0]
    for shift in shifts:
        r = np.linalg.norm(frame.positions[:, None] - frame.positions[None] + shift - home, axis=2)
        near = (r <= RANGE) & (r > 1e-9) & pair(frame.species[:, None], frame.species[None])
        at = np.minimum((r[near] / WIDTH).astype(int), 49)
        sums += np.bincount(at, (z[:, None] * z[None])[near], 50)
        pairs += np.bincount(at, minlength=50)
    with np.errstate(invalid="ignore"):
        return sums / pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pbc", "cell"),
    [(True, None), (False, None), (True, [[7.0, 0, 0], [2.5, 6, 0], [-1, 2, 6]]), (True, np.eye(3) * 3)],
)
def test_the_correlation_is_that_of_all_pairs(pbc, cell):
    n = 40 if cell is not None and np.abs(cell).max() < 4 else 300
    frame, values = liquid(n, 1, pbc, cell)
    columns = correlation_table(frame, values, frame.species, ("A", "B")).columns
    assert [str(name) for name in columns] == [
        "distance (σ)",
        "all correlation",
        "A correlation",
        "B correlation",
    ]
    for name, pair in {
        "all": lambda a, b: (a >= 0) & (b >= 0),
        "A": lambda a, b: (a == 0) & (b == 0),
        "B": lambda a, b: (a == 1) & (b == 1),
    }.items():
        # Distances in float32 may fall into the neighboring bin.
        expected, found = naive_correlation(frame, values, pair), columns[f"{name} correlation"]
        close = np.isclose(found, expected, atol=1e-6, equal_nan=True)
        assert close.mean() > 0.93, name
        assert_allclose(found[~close], expected[~close], atol=0.2)


def test_domains_are_seen_in_the_correlation():
    """Two halves of the cell with different mobility: near pairs are alike, far ones are not."""
    frame, _ = liquid(2000)
    half = frame.positions[:, 0] < 0.5 * frame.cell[0, 0]
    columns = correlation_table(frame, half + 0.0, frame.species, ("A", "B")).columns
    c = columns["all correlation"]
    assert c[5] > 0.8 and c[5] > c[20] > c[45] and c[-1] > -0.2


def test_values_without_spread_and_single_particles():
    frame, values = liquid(50)
    flat = correlation_table(frame, np.full(50, 3.0), frame.species, ("A", "B")).columns["all correlation"]
    assert (flat[np.isfinite(flat)] == 0).all()
    one = Frame([[0.0, 0, 0]], np.eye(3) * 20, True, [0], ("A",), units="lj")
    table = correlation_table(one, [1.0], [0], ("A", "B"))
    assert list(map(str, table.columns)) == ["distance (σ)", "all correlation"]
    assert np.isnan(table.columns["all correlation"]).all()
    nothing = Frame(np.zeros((0, 3)), np.eye(3) * 20, True, np.zeros(0, int), ("A",), units="lj")
    assert np.isnan(correlation_table(nothing, [], [], ("A",)).columns["all correlation"]).all()
    assert len(histogram_table([], [], ("A",)).columns) == 1
    shifted = standardized(5 * values + 3, frame.species)
    assert_allclose(shifted, standardized(values, frame.species), atol=1e-10)


def test_densities_of_each_type_integrate_to_one():
    frame, values = liquid(500)
    table = histogram_table(values, frame.species, ("A", "B"))
    width = np.diff(table.columns["mobility (σ)"])[0]
    for name, code in (("A", 0), ("B", 1)):
        density = table.columns[f"{name} density (σ^-1)"]
        assert density.sum() * width == pytest.approx(1)
        center = (density * table.columns["mobility (σ)"]).sum() * width
        assert center == pytest.approx(values[frame.species == code].mean(), abs=width)
    same = histogram_table([2.0, 2.0], [0, 0], ("A", "B"))
    assert same.columns["mobility (σ)"].tolist() == [2.0] and same.columns["A density (σ^-1)"].tolist() == [
        1.0
    ]
