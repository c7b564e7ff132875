"""Descriptors of the family mobility: against their naive twins, in every cell, and their symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from naive import descriptors as naive
from phaseseg import Frame
from phaseseg.families.mobility.descriptors import (
    averages,
    averaging,
    bond_order_descriptors,
    radial_descriptors,
    structure_descriptors,
)
from phaseseg.testing.frames import (
    awkward_frames,
    permuted,
    repeated,
    rotated,
    tilted,
    translated,
    wrapped_elsewhere,
)

# Pairs are measured in float32: at 5 sigma a distance is known to 5e-7, and a Gaussian of width 0.025 changes
# by 1e-6 of its height for every 5e-8. Values go up to 80.
RADIAL = {"atol": 3e-4, "rtol": 1e-5}
# The square root of a small sum of squares that cancel in float32.
ORDER = {"atol": 2e-3, "rtol": 1e-3}

FRAMES = awkward_frames(("A", "B"), "lj", 1.0)


def liquid(n=400, seed=0, density=1.2):
    """Particles at random, no two nearer than about 0.7, in a cube."""
    rng = np.random.default_rng(seed)
    edge = (n / density) ** (1 / 3)
    side = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    positions = (grid + 0.5 + rng.uniform(-0.18, 0.18, (n, 3))) * edge / side
    return Frame(positions, [edge] * 3, True, rng.random(n) < 0.2, ("A", "B"), units="lj")


def everything(frame):
    return structure_descriptors(frame, frame.species)


def close(found, expected):
    np.testing.assert_allclose(found[:, :156], expected[:, :156], **RADIAL)
    np.testing.assert_allclose(found[:, 156:174], expected[:, 156:174], **ORDER)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_equal_to_the_naive_sums(name):
    frame = FRAMES[name]()
    codes = np.minimum(frame.species, 1)
    np.testing.assert_allclose(radial_descriptors(frame, codes), naive.radial(frame, codes), **RADIAL)
    np.testing.assert_allclose(bond_order_descriptors(frame), naive.bond_order(frame), **ORDER)
    values = np.random.default_rng(0).normal(size=(frame.n_atoms, 3))
    np.testing.assert_allclose(averaging(frame)(values), naive.averaged(frame, values), atol=1e-5)


@pytest.mark.slow
def test_equal_to_the_naive_sums_in_a_disordered_sample():
    frame = liquid()
    np.testing.assert_allclose(
        radial_descriptors(frame, frame.species), naive.radial(frame, frame.species), **RADIAL
    )
    # All but 1e-4 of the distance is shared with the naive twin: here nothing cancels.
    np.testing.assert_allclose(bond_order_descriptors(frame), naive.bond_order(frame), atol=1e-5)


def test_known_values():
    """Two particles: each has one Gaussian per center, and a single bond has q_l = 1 for every l."""
    frame = Frame([[0, 0, 0], [1.1, 0, 0]], [20, 20, 20], False, ["A", "B"], units="lj")
    found = radial_descriptors(frame, [0, 1])
    centers = 0.75 + 0.025 * np.arange(50)
    gaussians = np.exp(-((1.1 - centers) ** 2) / (2 * 0.025**2))
    np.testing.assert_allclose(found[0, 78:128], gaussians, atol=1e-4)
    assert found[0, :78].max() == 0
    np.testing.assert_allclose(bond_order_descriptors(frame), 1, rtol=1e-5)


def test_perfect_crystal():
    """In fcc the twelve nearest neighbors have q_4 = 0.1909 and q_6 = 0.5745 (Steinhardt et al.)."""
    a = 1.35 * 2**0.5
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]) * a
    frame = repeated(Frame(base, [a] * 3, True, ["A"] * 4, units="lj"), (3, 3, 3))
    found = bond_order_descriptors(frame).reshape(-1, 3, 6)[:, 0]
    # The six neighbors of the second shell, at 1.91, have 3e-4 of the weight of the first.
    np.testing.assert_allclose(found[:, 2], 0.1909, atol=5e-4)
    np.testing.assert_allclose(found[:, 4], 0.5745, atol=5e-4)
    np.testing.assert_allclose(found[:, [1, 3]], 0, atol=1e-3)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_symmetries(seed):
    frame = liquid(250, seed)
    before = everything(frame)
    rng = np.random.default_rng(seed)
    order = rng.permutation(frame.n_atoms)
    close(everything(permuted(frame, order)), before[order])
    close(everything(translated(frame, rng.normal(size=3) * 10)), before)
    close(everything(wrapped_elsewhere(frame, seed)), before)
    close(everything(rotated(frame, seed)), before)
    close(everything(tilted(frame, seed)), before)
    close(everything(repeated(frame, (2, 1, 1))), np.tile(before, (2, 1)))


def test_averages_keep_every_round_and_constants():
    frame = liquid()
    operator = averaging(frame)
    values = np.random.default_rng(1).normal(size=(frame.n_atoms, 2)).astype(np.float32)
    found = averages(values, operator, 3)
    assert found.shape == (frame.n_atoms, 8)
    np.testing.assert_array_equal(found[:, :2], values)
    np.testing.assert_allclose(found[:, 6:], operator(operator(operator(values))), rtol=1e-5)
    np.testing.assert_allclose(operator(np.ones((frame.n_atoms, 1))), 1, rtol=1e-5)
    # An average is less spread than what it averages.
    assert (found[:, 6:].std(axis=0) < 0.5 * values.std(axis=0)).all()


def test_input_is_not_changed_and_empty_frames_work():
    frame = liquid()
    positions, codes = frame.positions.copy(), frame.species.copy()
    everything(frame)
    np.testing.assert_array_equal(frame.positions, positions)
    np.testing.assert_array_equal(frame.species, codes)
    empty = Frame(np.zeros((0, 3)), [5, 5, 5], True, np.zeros(0, int), ("A", "B"), units="lj")
    assert everything(empty).shape == (0, 174)


@pytest.mark.parametrize("codes", [[0], [0.5] * 400, [2] * 400, [-1] * 400])
def test_codes_that_do_not_fit(codes):
    with pytest.raises(ValueError, match="type code"):
        radial_descriptors(liquid(), codes)
    with pytest.raises(ValueError, match="needs rows for 400"):
        averaging(liquid())(np.zeros((3, 2)))


@pytest.mark.parametrize("name", FRAMES)
def test_one_type_is_the_sum_over_types(name):
    frame = FRAMES[name]()
    one = radial_descriptors(frame, np.zeros(frame.n_atoms, dtype=int), 1)
    both = radial_descriptors(frame, np.minimum(frame.species, 1))
    np.testing.assert_allclose(one, both[:, :78] + both[:, 78:], atol=3e-4, rtol=1e-5)
