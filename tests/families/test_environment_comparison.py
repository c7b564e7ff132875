"""Comparisons of sets against all pairs, their properties, and liquids that were taken out of iron."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score

import naive.environments as naive
from phaseseg.families.environments.comparison import compare, coverage, suggest
from phaseseg.families.environments.projection import fit_projection
from phaseseg.recipes.environments.sets import data_file


def drawn(n_configurations, seed, d=4):
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(n_configurations), rng.integers(1, 5, n_configurations))
    return rng.normal(size=(len(of), d)) + 4 * rng.integers(0, 2, len(of))[:, None], of


@given(seed=st.integers(0, 10_000), n=st.integers(1, 15))
@settings(max_examples=40, deadline=None)
def test_equal_to_all_pairs(seed, n):
    (rows, of), (others, other_of) = drawn(n, seed), drawn(8, seed + 1)
    found = coverage(rows, others, of)
    if len(rows) > 1:
        spacing, far = naive.covered(found.projection(rows), of, found.projection(others))
        assert found.spacing == pytest.approx(spacing, rel=1e-9)
        np.testing.assert_allclose(found.distances, far, rtol=1e-9)
        assert found.score == pytest.approx(np.sqrt((far**2).mean()) * spacing)
    points = fit_projection(np.concatenate([rows, others]), 8, compress=False)
    chosen = suggest(rows, others, other_of, 4)
    order, gains = naive.suggested(points(rows), points(others), other_of, 4)
    np.testing.assert_allclose(chosen.gains, gains[: len(chosen.gains)], rtol=1e-6, atol=1e-9)
    assert chosen.configurations[0] == order[0]


def test_more_atoms_never_cover_less():
    rows, of = drawn(30, 0)
    others, _ = drawn(30, 1)
    projection = fit_projection(others, 4, compress=False)
    few = coverage(rows[:20], others, of[:20], projection=projection)
    many = coverage(rows, others, of, projection=projection)
    assert (many.distances * many.spacing <= few.distances * few.spacing + 1e-12).all()
    assert many.score < few.score
    every = coverage(others, others, projection=projection)
    assert (every.distances == 0).all() and every.share == every.score == 0
    assert np.array_equal(every.nearest, np.arange(len(others)))


def test_order_and_units_do_not_matter():
    (rows, of), (others, _) = drawn(30, 0), drawn(20, 1)
    found = coverage(rows, others, of)
    order = np.random.default_rng(0).permutation(len(rows))
    again = coverage(7 * rows[order] + 3, 7 * others + 3, of[order])
    np.testing.assert_allclose(again.distances, found.distances, rtol=1e-9)
    assert np.array_equal(order[again.nearest], found.nearest)


def test_spacing_is_not_that_of_one_configuration():
    """Atoms of a configuration resemble each other; new atoms are compared with other configurations."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(40, 3)), 5, axis=0) + 1e-3 * rng.normal(size=(200, 3))
    new = rng.normal(size=(60, 3))
    assert coverage(rows, new, np.repeat(np.arange(40), 5)).share < 0.2
    assert coverage(rows, new).share > 0.9


def test_a_new_group_is_found():
    (rows, of), (others, other_of) = drawn(60, 0), drawn(60, 1)
    new = np.isin(other_of, [7, 30, 31])
    others[new] += 30
    found = compare(rows, others, of, other_of)
    assert set(found.atoms[: new.sum()]) == set(np.flatnonzero(new)) and len(found.atoms) < new.sum() + 5
    assert set(found.configurations[:3]) == {7, 30, 31}
    assert (np.diff(found.coverage.distances[found.atoms]) <= 0).all()
    assert (found.shares[[7, 30, 31]] == 1).all() and found.shares.sum() < 6
    same = compare(rows, rows, of, of)
    assert not len(same.atoms) and not len(same.configurations) and not same.shares.any()


def test_a_group_comes_before_an_outlier():
    rows, _ = drawn(40, 0)
    pool, pool_of = drawn(40, 1)
    pool[np.isin(pool_of, range(10))] += [20, 0, 0, 0]
    pool[pool_of == 35] -= [0, 30, 0, 0]
    found = suggest(rows, pool, pool_of, 3)
    assert found.configurations[0] < 10 and 0.3 < found.closed < 1
    assert (np.diff(found.gains) <= 1e-12).all()


def test_few_atoms():
    one = coverage([[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]])
    assert one.distances[0] == 0 and one.beyond.tolist() == [False, True]
    assert coverage(np.ones((5, 2)), np.ones((4, 2))).share == 0
    assert coverage(np.ones((5, 2)), np.ones((0, 2))).share == 0
    everything = suggest([], np.eye(3), [0, 1, 2], 3)  # an empty set: the pool is covered from nothing
    assert sorted(everything.configurations.tolist()) == [0, 1, 2] and everything.closed == pytest.approx(1)
    known = suggest(np.eye(3), np.eye(3), [0, 1, 2], 2)  # nothing is missing
    assert len(known.configurations) == 0 and known.closed == 0


def test_references_are_drawn_from_a_large_pool():
    rows, _ = drawn(50, 0)
    pool, of = drawn(200, 1)
    one, two = (suggest(rows, pool, of, 5, references=60, seed=s) for s in (1, 1))
    assert np.array_equal(one.configurations, two.configurations)
    assert 0 < suggest(rows, pool, of, 5, references=60).closed < 1


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda a, b: coverage(a[:0], b), "at least one atom"),
        (lambda a, b: coverage(a, b[:, :2]), "4 and 2 features. Use the same descriptor"),
        (lambda a, b: coverage(a, b, [0]), "for each atom"),
        (lambda a, b: compare(a, b, None, [0]), "for each atom"),
        (lambda a, b: suggest(a, b, np.zeros(len(b), int), 2), "from 1 to the 1 configurations"),
        (lambda a, b: suggest(a, b, np.ones(len(b), int), 1), "without gaps"),
        (lambda a, b: suggest(a, b[:0], [], 1), "the pool has no atoms"),
        (lambda a, b: suggest(a, b, np.zeros(len(b), int), 1, references=0), "references must be 1 or more"),
        (lambda a, b: coverage(a, np.full_like(b, np.inf)), "of atom 0 is not finite"),
    ],
)
def test_bad_input(action, message):
    with pytest.raises(ValueError, match=message):
        action(drawn(5, 0)[0], drawn(5, 1)[0])


@pytest.mark.slow
def test_liquids_that_were_taken_out_of_iron():
    if not data_file("fe").is_file():
        pytest.skip("fe is not bundled; let PHASESEG_DATA name the folder with mlff/fe.xyz.gz")
    from phaseseg.recipes.environments.study_sets import FIRST_SEED, Iron

    iron = Iron(FIRST_SEED)
    rows, of = iron.part(iron.training[~iron.liquid[iron.training]])
    others, other_of = iron.part(iron.test)
    truth = iron.liquid[iron.test][other_of]
    assert roc_auc_score(truth, coverage(rows, others, of).distances) >= 0.98
    chosen = suggest(rows, others, other_of, 10)
    assert iron.liquid[iron.test][chosen.configurations[0]]
    assert chosen.closed > 0.3
