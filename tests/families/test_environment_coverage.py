"""Subsets by coverage against a plain greedy choice, their properties, and the baselines."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import naive.environments as naive
from phaseseg.compiled.jit import jit
from phaseseg.families.environments import coverage_kernels
from phaseseg.families.environments.coverage import PRIOR, kernel_width, prune, rank, rows_of_fit
from phaseseg.families.environments.projection import fit_projection

METHODS = ("coverage", "random", "group", "kmeans", "strata", "farthest", "entropy", "leverage")


def data(n_configurations=30, seed=0, d=4):
    """Configurations of 1 to 6 atoms; most are alike, and every tenth is of another kind."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, n_configurations)
    of = np.repeat(np.arange(n_configurations), sizes)
    kinds = (of % 10 == 0) * rng.integers(1, 3, n_configurations)[of]
    rows = rng.normal(0, 0.3, (len(of), d)) + 8 * kinds[:, None] * np.eye(d)[0]
    order = rng.permutation(len(of))
    return rows[order], of[order], np.where(np.arange(n_configurations) % 10 == 0, "other", "usual")


@given(seed=st.integers(0, 10_000), n=st.integers(2, 25), by=st.sampled_from(["configurations", "atoms"]))
@settings(max_examples=40, deadline=None)
def test_equal_to_the_plain_greedy_choice(seed, n, by):
    rows, of, _ = data(n, seed)
    found = rank(rows, of, by=by, method="coverage", n_components=3)
    points = fit_projection(rows, 3, compress=False)(rows)
    scaled = naive.scaled_components(rows)
    items = of if by == "configurations" else np.arange(len(of))
    expected = naive.coverage(points, scaled, items)
    front = found.order[: found.n_ranked]
    # Where two gains are equal but for rounding, the order may differ from there on.
    gains = naive.gains_in_order(points, scaled, items, front)
    np.testing.assert_allclose(
        gains, naive.gains_in_order(points, scaled, items, expected)[: len(gains)], rtol=1e-6, atol=1e-6
    )
    assert (np.diff(gains) <= 1e-9 * gains[0]).all()  # so that old gains are bounds


@given(seed=st.integers(0, 10_000), d=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_rows_of_an_item_teach_what_its_atoms_teach(seed, d):
    """Of items with more atoms than columns, too, and one after the other."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 3 * d, 8)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    scaled, atoms = rng.normal(size=(starts[-1], d)), rng.permutation(starts[-1])
    rows, row_starts = rows_of_fit(scaled, atoms, starts)
    every = np.insert(scaled[atoms], 0, 1, axis=1)
    assert np.diff(row_starts).max() <= d + 1
    covariance, precision = np.eye(d + 1) / PRIOR, PRIOR * np.eye(d + 1)
    for k in range(8):
        own, reduced = every[starts[k] : starts[k + 1]], rows[row_starts[k] : row_starts[k + 1]]
        np.testing.assert_allclose(reduced.T @ reduced, own.T @ own, atol=1e-10)
        more = precision + own.T @ own
        taught = _learned(rows, row_starts[k], row_starts[k + 1], covariance)
        expected = np.linalg.slogdet(more)[1] - np.linalg.slogdet(precision)[1]
        assert taught == pytest.approx(expected, rel=1e-6, abs=1e-8)
        precision = more
    np.testing.assert_allclose(covariance @ precision, np.eye(d + 1), atol=1e-6)


@pytest.mark.parametrize("by", ["configurations", "atoms"])
def test_stored_distances_do_not_change_the_order(by, monkeypatch):
    rows, of, _ = data(60, 4)
    stored = rank(rows, of, by=by)
    monkeypatch.setattr("phaseseg.families.environments.coverage.MOST_STORED", 0)
    computed = rank(rows, of, by=by)
    assert np.array_equal(stored.order, computed.order) and stored.n_ranked == computed.n_ranked


@pytest.mark.slow
@pytest.mark.parametrize("by", ["configurations", "atoms"])
@pytest.mark.parametrize("method", METHODS)
def test_every_budget_is_a_prefix(method, by):
    rows, of, names = data(40)
    found = rank(rows, of, by=by, method=method, groups=names)
    n_items = 40 if by == "configurations" else len(of)
    assert sorted(found.order.tolist()) == list(range(n_items))
    before = np.zeros(len(of), dtype=bool)
    for budget in (0.001, 0.1, 0.3, 0.7, 1.0):
        mask = found.mask(budget)
        assert (mask >= before).all()
        assert mask.sum() <= max(budget * len(of), np.bincount(of).max())
        if by == "configurations":  # whole configurations
            assert set(of[mask]) == set(found.chosen(budget)) and not set(of[mask]) & set(of[~mask])
        weights = found.weights(budget)
        assert ((weights > 0) <= mask).all() and weights[mask].mean() == pytest.approx(1)
        before = mask
    assert mask.all()
    again = rank(rows, of, by=by, method=method, groups=names)
    assert np.array_equal(again.order, found.order)


@pytest.mark.parametrize("method", METHODS)
def test_equal_atoms(method):
    """All baselines accept a set in which most atoms are equal, without a warning."""
    rows = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 8, axis=0)
    found = rank(rows, np.arange(40), by="atoms", method=method, groups=["a"] * 40)
    assert sorted(found.order.tolist()) == list(range(40))


@pytest.mark.parametrize("seed", range(2))
def test_coverage_prefers_atoms_that_teach_a_fit_more(seed, monkeypatch):
    """Points off a line come before a third point of the line, which distances alone would take."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-3, 3, 204), np.append(np.zeros(200), np.full(4, 0.3))
    rows = np.stack([x, y], axis=1)

    def place():
        order = rank(rows, np.arange(204), by="atoms", method="coverage").order
        return int(np.flatnonzero(order >= 200)[0])

    assert place() == 2
    monkeypatch.setattr("phaseseg.families.environments.coverage.SHARE", 0.0)
    assert place() > 2


@jit
def _learned(rows, first, last, covariance):
    return coverage_kernels.learned(rows, first, last, covariance)


def test_coverage_takes_the_rare_kind_early():
    rows, of, names = data(60)
    covered = rank(rows, of).chosen(0.1)
    assert (names[covered] == "other").any()
    far = np.concatenate([rows, [[900.0, 0, 0, 0]]])
    assert rank(far, np.append(of, 60), method="farthest").order[1] == 60
    assert rank(far, np.append(of, 60), method="leverage").order[0] == 60


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_strata_hold_one_chosen_atom_each(seed, n):
    """The cells of a plain bisection hold one of the first n atoms each, for every n."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)) * [3, 1]
    rows[::6] = rows[0]  # equal atoms share a cell; other ties would be up to rounding
    found = rank(rows, np.arange(n), by="atoms", seed=seed)
    assert found.n_ranked == len(np.unique(rows, axis=0))
    points = fit_projection(rows, 8, compress=False)(rows)
    for k in range(1, found.n_ranked + 1):
        cells = naive.bisected(points, k)
        assert sorted(np.count_nonzero(np.isin(found.order[:k], cell)) for cell in cells) == [1] * k


def test_group_keeps_the_shares_in_every_prefix():
    _, _, names = data(200)
    rows, of = np.random.default_rng(0).normal(size=(200, 3)), np.arange(200)
    found = rank(rows, of, method="group", groups=names)
    for n in (20, 50, 100):
        assert np.count_nonzero(names[found.order[:n]] == "other") == pytest.approx(n / 10, abs=1)


def test_farthest_first_equals_its_definition():
    rows, of, _ = data(25, 3)
    found = rank(rows, of, method="farthest", n_components=4)
    points = fit_projection(rows, 4, compress=False)(rows)
    assert np.array_equal(found.order, naive.farthest_first(points, of, int(found.order[0])))


def test_entropy_equals_its_definition():
    rows, of, _ = data(25, 3)
    found = rank(rows, of, method="entropy", n_components=4)
    points = fit_projection(rows, 4, compress=False)(rows)
    expected = naive.most_surprising_first(points, of, int(found.order[0]), kernel_width(points))
    assert np.array_equal(found.order, expected)


def test_prune_is_a_ranking_at_one_budget():
    rows, of, _ = data()
    mask, weights = prune(rows, of, 0.2, by="atoms", seed=1)
    found = rank(rows, of, by="atoms", seed=1)
    assert np.array_equal(mask, found.mask(0.2)) and np.array_equal(weights, found.weights(0.2))
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        prune(rows, of, 2.0)


def test_weights_count_the_atoms_that_an_atom_stands_for():
    rows = np.repeat([[0.0], [1.0], [9.0]], [6, 3, 1], axis=0)
    found = rank(rows, np.arange(10), by="atoms", method="coverage")
    weights = found.weights(0.3)
    assert sorted(weights[weights > 0].tolist()) == pytest.approx([0.3, 0.9, 1.8])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "groups"}, "by must be configurations or atoms"),
        ({"method": "best"}, "no method 'best'; choose one of coverage"),
        ({"method": "group"}, "needs groups"),
        ({"groups": ["a"]}, "a group for each of the 30 configurations"),
        ({"references": 0}, "references must be 1 or more"),
        ({"configurations": np.zeros(3, dtype=int)}, "for each of the"),
        ({"configurations": 2}, "configuration 0 has no atoms"),
    ],
)
def test_bad_input(options, message):
    rows, of, _ = data()
    of = options.pop("configurations", of) if not isinstance(options.get("configurations"), int) else of + 2
    options.pop("configurations", None)
    with pytest.raises(ValueError, match=message):
        rank(rows, of, **options)


@pytest.mark.parametrize("budget", [0, -0.1, 1.01, True, float("nan")])
def test_bad_budgets(budget):
    rows, of, _ = data()
    with pytest.raises(ValueError, match="a share of the atoms above 0 and up to 1"):
        rank(rows, of).chosen(budget)


def test_subsets_by_kmeans_need_no_other_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 0.1, (30, 2)), rng.normal(5, 0.1, (10, 2))])
    found = rank(rows, np.arange(40), method="kmeans")
    assert sorted(found.order.tolist()) == list(range(40)) and found.n_ranked >= 16
    assert {k < 30 for k in found.order[:3].tolist()} == {True, False}  # a center of each group
