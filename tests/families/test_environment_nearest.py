"""The exact search for nearest points of other labels against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial import cKDTree

import naive.environments as naive
from phaseseg.families.environments.nearest import Index


def drawn(n, d, kind, rng):
    points = rng.normal(0, 1, (n, d)) * rng.random(d)
    if kind == "grid":
        return np.rint(3 * points)
    if kind == "far":  # float32 does not resolve the distances
        return 1e4 + 1e-6 * points
    return points


@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 200), d=st.integers(1, 20), k=st.integers(1, 8),
    n_labels=st.integers(1, 40), kind=st.sampled_from(["plain", "grid", "far"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equal_to_all_pairs(seed, n, d, k, n_labels, kind):
    rng = np.random.default_rng(seed)
    points, labels = drawn(n, d, kind, rng), rng.integers(0, n_labels, n)
    index = Index(points)
    found, apart = index.search(k, labels)
    expected = naive.nearest_of_other_labels(points, labels, points, labels, k)
    np.testing.assert_allclose(apart, expected, rtol=1e-12)
    inside = found >= 0
    assert np.array_equal(inside, np.isfinite(apart))
    rows = np.nonzero(inside)[0]
    np.testing.assert_allclose(np.linalg.norm(points[found[inside]] - points[rows], axis=1), apart[inside])
    for row, near in enumerate(found):
        kinds = labels[near[near >= 0]]
        assert labels[row] not in kinds and len(set(kinds)) == len(kinds)
    queries, own = drawn(9, d, kind, rng), rng.integers(0, n_labels, 9)
    np.testing.assert_allclose(
        index.search(k, labels, queries=queries, own=own)[1],
        naive.nearest_of_other_labels(points, labels, queries, own, k), rtol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(
        index.search(k, labels, queries=queries)[1],
        naive.nearest_of_other_labels(points, labels, queries, np.full(9, -1), k), rtol=1e-12,
    )  # fmt: skip


def test_neighbors_of_many_points():
    points = np.random.default_rng(0).normal(size=(3000, 6))
    apart = Index(points).search(10)[1]
    np.testing.assert_allclose(apart, cKDTree(points).query(points, 11)[0][:, 1:], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1e-7, 1e-3, 0.5])
def test_many_dimensions_at_any_scale(width):
    """Groups as narrow as float32 does not resolve, more queries than a batch of products, and few labels."""
    rng = np.random.default_rng(1)
    centers = 30 * rng.normal(size=(7, 16))
    points = centers[rng.integers(0, 7, 700)] + width * rng.normal(size=(700, 16))
    points[::50] = points[0]
    queries, index = points[:130] + width, Index(points)
    for labels in (rng.integers(0, 90, 700), rng.integers(0, 6, 700)):
        for asked, own in ((None, labels), (queries, np.full(130, -1)), (queries, labels[:130])):
            given = {} if asked is None else {"queries": asked, "own": own}
            apart = index.search(6, labels, **given)[1]
            asked = points if asked is None else asked
            expected = naive.nearest_of_other_labels(points, labels, asked, own, 6)
            np.testing.assert_allclose(apart, expected, rtol=1e-12)
    assert np.isinf(apart).any()


@pytest.mark.parametrize("largest", [1e12, 1e17, 9e17])
def test_large_coordinates(largest):
    points = np.random.default_rng(0).normal(size=(100, 40))
    points *= largest / np.abs(points).max()
    apart = Index(points).search(3)[1]
    np.testing.assert_allclose(apart, cKDTree(points).query(points, 4)[0][:, 1:], rtol=1e-12)


def test_equal_points_are_neighbors():
    found, apart = Index(np.ones((100, 3))).search(4)
    assert (apart == 0).all() and all(len(set(row)) == 4 and i not in row for i, row in enumerate(found))


def test_progress_may_stop_the_search():
    def stop(done, line):
        raise InterruptedError(line)

    with pytest.raises(InterruptedError, match="searching"):
        Index([[0.0], [1.0]]).search(1, progress=stop)


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda: Index(np.zeros((0, 2))), "at least one point"),
        (lambda: Index([1.0, 2.0]), "rows of the same length"),
        (lambda: Index([[1.0], [np.nan]]), "point 1 is not finite"),
        (lambda: Index([[1.0], [1e30]]), r"below 1e\+18, found 1e\+30"),
        (lambda: Index([[1.0], [2.0]]).search(0), "must be a whole number from 1 on, found 0"),
        (lambda: Index([[1.0], [2.0]]).search(1, [0]), r"for each point \(2\)"),
        (lambda: Index([[1.0], [2.0]]).search(1, [0, -1]), r"for each point \(2\)"),
        (lambda: Index([[1.0], [2.0]]).search(1, queries=[[1.0, 2.0]]), "1 dimensions, the queries 2"),
        (lambda: Index([[1.0]]).search(1, queries=[[1.0]], own=[0.5]), r"for each query \(1\)"),
    ],
)
def test_bad_input(action, message):
    with pytest.raises(ValueError, match=message):
        action()
