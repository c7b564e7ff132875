"""Scores of structural outliers: against all pairs, planted outliers, copies and few configurations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score

import naive.environments as naive
from phaseseg.families.environments import mining
from phaseseg.families.environments.outliers import (
    OutlierModel,
    fit_outliers,
    outlier_scores,
    sampled_outliers,
)
from phaseseg.recipes.environments.sets import data_file


def drawn(n_configurations=40, seed=0, d=5):
    """Rows of configurations of 1 to 5 atoms around three centers."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(n_configurations), rng.integers(1, 6, n_configurations))
    rows = 5 * np.eye(3, d)[rng.integers(0, 3, len(of))] + rng.normal(
        0, [0.3, 1, 2, 0.1, 1][:d], (len(of), d)
    )
    order = rng.permutation(len(of))
    return rows[order], of[order]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 20), k=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_equal_to_all_pairs(seed, n, k):
    rows, of = drawn(n, seed)
    if len(rows) < 2:
        return
    model, scores = fit_outliers(rows, of, k=k)
    n_others = len(rows) - (np.bincount(of).max() if n > 1 else 1)
    expected = naive.outlier_scores(model.scale(rows), of, min(k, n_others), by_atom=n <= k)
    np.testing.assert_allclose(scores, expected, rtol=1e-8)
    assert 0.7 < np.median(scores[scores > 0]) <= 1 + 1e-9


def test_a_sample_finds_the_same_outliers(monkeypatch):
    """All atoms get the scores of the model of the sample, without their own configurations."""
    rows, of = drawn(400)
    rows[[3, 500]] += 20 * np.array([[0, 0, 0, 1, 0], [1, 0, 0, 1, 0]])
    exact = outlier_scores(rows, of)
    assert np.array_equal(outlier_scores(rows, of, most=len(rows)), exact)
    scores = outlier_scores(rows, of, most=len(rows) // 2, seed=3)
    assert set(np.argsort(scores)[-2:]) == {3, 500}
    assert np.median(scores) == pytest.approx(np.median(exact), rel=0.1)
    model = sampled_outliers(rows, of, len(rows) // 2, 3)
    expected = naive.sampled_scores(model.scale(rows), of, model.points, model.labels, 8)
    np.testing.assert_allclose(scores, expected, rtol=1e-8)
    other = outlier_scores(rows, of, most=len(rows) // 2, seed=4)
    assert not np.array_equal(scores, other)
    # The message says how rare an environment may be.
    monkeypatch.setattr(mining, "MOST_COMPARED", 50)
    assert "fewer than about 16 configurations" in mining._sampled(100)


def test_planted_outliers_are_the_largest():
    rows, of = drawn(80)
    rows[[3, 50]] += 20 * np.array([[0, 0, 0, 1, 0], [1, 0, 0, 1, 0]])
    scores = outlier_scores(rows, of)
    assert set(np.argsort(scores)[-2:]) == {3, 50} and scores[[3, 50]].min() > 1.2 * np.sort(scores)[-3]


def test_outliers_in_one_configuration_do_not_hide_each_other():
    rows, of = drawn(80)
    strange = np.flatnonzero(of == 7)
    rows[strange] = 9 + np.random.default_rng(0).normal(0, 1e-3, (len(strange), 5))
    assert set(np.argsort(outlier_scores(rows, of))[-len(strange) :]) == set(strange)


def test_units_order_and_names_do_not_matter():
    rows, of = drawn()
    scores = outlier_scores(rows, of)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(outlier_scores(rows[order], of[order]), scores[order], rtol=1e-5)
    np.testing.assert_allclose(outlier_scores(7 * rows + [3, 0, -1, 2, 0], 5 * of + 2), scores, rtol=1e-5)


def test_copies():
    rows, of = drawn(60)
    # Copies in enough other configurations are no outliers; a copied configuration counts once only.
    rows[np.unique(of, return_index=True)[1][:20]] = rows[0]
    scores = outlier_scores(rows, of)
    assert (scores[np.unique(of, return_index=True)[1][:20]] == 0).all()
    assert 0.7 < np.median(scores[scores > 0]) <= 1 + 1e-9
    twice = outlier_scores(np.concatenate([rows, rows]), np.concatenate([of, of]))
    np.testing.assert_allclose(twice[: len(rows)], scores, rtol=1e-6)
    same = outlier_scores(np.ones((30, 4)), np.arange(30))
    assert (same == 0).all()


def test_mostly_equal_environments():
    """Strange atoms stand out although the median deviation of every feature is zero."""
    rng = np.random.default_rng(0)
    rows = np.ones((200, 4)) + 1e-14 * rng.normal(size=(200, 4))
    rows[:40] += rng.normal(0, 0.1, (40, 4))
    rows[5] += 3
    scores = outlier_scores(rows, np.arange(200))
    assert scores.argmax() == 5 and (scores[40:] == 0).all() and (scores[:40] > 0).all()


@pytest.mark.parametrize("n_configurations", [1, 3, 40])
def test_new_atoms(n_configurations):
    rows, of = drawn(40)
    of = of % n_configurations
    model, scores = fit_outliers(rows, of)
    again = OutlierModel.from_arrays(model.arrays())
    if n_configurations > 1:
        np.testing.assert_allclose(again.scores(rows, of), scores, rtol=1e-9)
    new = np.random.default_rng(5).normal(size=(7, 5))
    found = again.scores(new)
    assert np.array_equal(found, model.scores(new)) and found.shape == (7,)
    assert again.scores(new[2:3])[0] == pytest.approx(found[2], rel=1e-12)
    assert again.scores([[90.0] * 5])[0] > scores.max()
    assert again.scores(rows[:0]).shape == (0,)


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda rows, of: outlier_scores(rows[:1], of[:1]), "at least two, found 1"),
        (lambda rows, of: outlier_scores(rows, of[:-1]), "for each atom"),
        (lambda rows, of: outlier_scores(rows, of, k=0), "k must be a whole number from 1 on, found 0"),
        (lambda rows, of: outlier_scores(rows, of, n_components=0), "n_components must be"),
        (lambda rows, of: outlier_scores(np.full_like(rows, np.nan), of), "of atom 0 is not finite"),
        (lambda rows, of: fit_outliers(rows, of)[0].scores(rows[:, :3]), "5 features, and the rows have 3"),
        (lambda rows, of: OutlierModel.from_arrays({}), "the array 'scale.center' .* is missing"),
    ],
)
def test_bad_input(action, message):
    rows, of = drawn()
    with pytest.raises(ValueError, match=message):
        action(rows, of)


@pytest.mark.slow
@pytest.mark.parametrize("name, auc", [("ta", 0.94), ("fe", 0.90)])
def test_displaced_atoms_in_public_sets(name, auc):
    """The requirement on the default score, by the mean over three sets of corrupted configurations."""
    from phaseseg.recipes.environments.study_sets import FIRST_SEED, corrupted

    if not data_file(name).is_file():
        pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with mlff/{name}.xyz.gz")
    found = []
    for seed in range(FIRST_SEED, FIRST_SEED + 3):
        rows, of, truth = corrupted(name, seed)
        strangest = np.zeros(len(truth))
        np.maximum.at(strangest, of, outlier_scores(rows, of))
        found.append(roc_auc_score(truth, strangest))
    assert np.mean(found) >= auc
