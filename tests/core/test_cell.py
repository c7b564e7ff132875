"""Reduced cells against ASE, and what they must not change."""

import numpy as np
import pytest
from ase.geometry import minkowski_reduce
from hypothesis import given, settings, strategies as st

from phaseseg import Frame
from phaseseg.cell import reduced_cell
from phaseseg.testing import AWKWARD, tilted


def some_cell(seed):
    rng = np.random.default_rng(seed)
    return np.tril(rng.normal(size=(3, 3))) + np.diag([3.0, 3.5, 4.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0), (0, 0, 0)]))
def test_cells_of_the_same_images_have_one_reduced_cell(seed, pbc):
    periodic = np.array(pbc, dtype=bool)
    frame = Frame(np.zeros((1, 3)), some_cell(seed), periodic, ["Fe"])
    for other in (frame, tilted(frame, seed), tilted(frame, seed + 1)):
        cell, axes = reduced_cell(other.cell, periodic)
        # Up to order and sign: what is reduced already stays in its order.
        matches = np.abs(np.abs(cell @ np.linalg.inv(frame.reduced.cell)) - 1) < 1e-9
        assert (matches.sum(axis=0) == 1).all() and (matches.sum(axis=1) == 1).all()
        np.testing.assert_allclose((axes @ other.cell)[periodic], cell[periodic], atol=1e-9)
        again, same = reduced_cell(cell, periodic)
        np.testing.assert_allclose(again, cell, atol=1e-12)
        assert (same == np.eye(3)).all()
        if periodic.all():
            lengths = np.linalg.norm(minkowski_reduce(other.cell)[0], axis=1)
            np.testing.assert_allclose(np.sort(np.linalg.norm(cell, axis=1)), np.sort(lengths))
        across = cell[~periodic] @ cell.T
        np.testing.assert_allclose(across[:, periodic], 0, atol=1e-9)
        assert abs(np.linalg.det(cell)) == pytest.approx(abs(np.linalg.det(frame.cell)))


@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "open", "open along c", "rotated", "2D"])
def test_a_reduced_cell_keeps_its_bits(name):
    frame = AWKWARD[name]()
    np.testing.assert_array_equal(frame.reduced.cell, frame.cell)
    assert frame.reduced.positions is frame.positions
