"""Spanning trees against dense ones, and their clusters against components of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import adjusted_rand_score

import naive.environments as naive
from phaseseg.families.environments.spanning import by_size, merge_duplicates, spanning_tree


def blobs(n, d=3, seed=0, spread=0.05, n_blobs=4):
    rng = np.random.default_rng(seed)
    return rng.random((n_blobs, d))[rng.integers(0, n_blobs, n)] * 10 + rng.normal(0, spread, (n, d))


def lattice(n, d=2):
    """Points with many equal distances."""
    return np.stack(np.meshgrid(*[np.arange(n)] * d, indexing="ij"), -1).reshape(-1, d).astype(float)


@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 120), d=st.integers(1, 6), k=st.integers(1, 20),
    spread=st.sampled_from([1e-6, 0.05, 3.0]), grid=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_equal_to_the_dense_tree(seed, n, d, k, spread, grid):
    points = blobs(n, d, seed, spread)
    points = np.rint(points) if grid else points
    points = merge_duplicates(points).points
    tree = spanning_tree(points, k)
    np.testing.assert_allclose(tree.lengths, naive.spanning_lengths(points), rtol=1e-12, atol=1e-15)
    for distance in (
        (0.0, *np.quantile(tree.lengths, [0.2, 0.5, 0.9, 1.0]) * 1.0000001) if len(points) > 1 else (1.0,)
    ):
        assert np.array_equal(tree.cut(distance), by_size(naive.components_within(points, distance)))


def test_two_dense_blobs_need_more_than_their_neighbors():
    """No point has a foreign one among its neighbors, and both components are large."""
    points = np.concatenate(
        [blobs(700, 4, 0, n_blobs=1), blobs(900, 4, 1, n_blobs=1) + 50, blobs(30, 4, 2) - 90]
    )
    np.testing.assert_allclose(spanning_tree(points, 5).lengths, naive.spanning_lengths(points), rtol=1e-12)


def test_lattice():
    assert np.allclose(spanning_tree(lattice(20)).lengths, 1)


@pytest.mark.slow
@pytest.mark.parametrize("n, d", [(5000, 3), (5000, 8)])
def test_equal_to_the_dense_tree_of_5000_points(n, d):
    points = blobs(n, d, n_blobs=9)
    np.testing.assert_allclose(spanning_tree(points).lengths, naive.spanning_lengths(points), rtol=1e-10)


def test_merged_points():
    rng = np.random.default_rng(0)
    distinct = rng.random((20, 3))
    rows = rng.integers(0, 20, 200)
    merged = merge_duplicates(distinct[rows] + 1e-13 * rng.random((200, 3)), 1e-9)
    assert np.array_equal(merged.counts.sum(), 200)
    assert len(merged.points) == len(np.unique(rows))
    assert adjusted_rand_score(merged.members, rows) == 1
    assert len(merge_duplicates(distinct[rows]).points) == len(np.unique(rows))
    assert len(merge_duplicates([[0.0, 1], [-0.0, 1]]).points) == 1


@pytest.mark.slow
@given(seed=st.integers(0, 1000), n=st.integers(2, 60), smallest=st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_condensed_tree_equals_the_definition(seed, n, smallest):
    points = blobs(n, 2, seed, 1.0)
    tree = spanning_tree(points).condensed(smallest)
    expected = naive.condensed(points, smallest)
    found = {
        (round(float(tree.born[c]), 9), round(float(tree.died[c]), 9), round(float(tree.stability[c]), 6)):
            frozenset(np.flatnonzero(holds(tree, c)).tolist())
        for c in range(tree.n_clusters)
    }  # fmt: skip
    assert found == expected


def holds(tree, cluster):
    inside = np.zeros(tree.n_clusters, dtype=bool)
    inside[cluster] = True
    for c in range(cluster + 1, tree.n_clusters):
        inside[c] = inside[tree.parents[c]]
    return inside[tree.homes]


def test_weights_count_as_repeated_points():
    """A heavy point is as good as a crowd of points that are very near to each other."""
    points, weights = blobs(40, 2, 3, 0.5), np.ones(40)
    weights[:5] = 6
    heavy = spanning_tree(points).condensed(4, weights)
    crowd = np.repeat(points, weights.astype(int), axis=0)
    crowd = crowd + np.random.default_rng(0).normal(0, 1e-9, crowd.shape)
    light = spanning_tree(crowd).condensed(4)
    large = light.born > 1e-6
    np.testing.assert_allclose(np.sort(heavy.born), np.sort(light.born[large]), rtol=1e-5)


def test_clusters_of_blobs():
    points = blobs(400, 3, 5)
    truth = naive.components_within(points, 1.0)
    tree = spanning_tree(points).condensed(10)
    for clusters in (tree.stable(), tree.level(4)):
        labels = tree.labels(clusters)
        inside = labels >= 0
        assert inside.mean() > 0.9
        assert adjusted_rand_score(truth[inside], labels[inside]) == 1
    assert tree.level(1).tolist() == [0]
    assert (tree.labels([0]) == 0).all()
    assert len(tree.leaves()) >= 4


def test_labels_are_ordered_by_size():
    assert by_size(np.array([7, 3, 3, 9, 9, -1])).tolist() == [2, 0, 0, 1, 1, -1]


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda: spanning_tree(np.zeros((0, 2))), "at least one point"),
        (lambda: spanning_tree([1.0, 2.0]), "rows of the same length"),
        (lambda: spanning_tree([[1.0], [np.nan]]), "point 1 is not finite"),
        (lambda: spanning_tree([[1.0], [2.0]], 0), "n_neighbors must be 1 or more"),
        (lambda: spanning_tree([[1.0], [2.0]]).condensed(1), "at least 2 points"),
        (lambda: spanning_tree([[1.0], [2.0]]).condensed(2, [1.0]), "weights must be 2 positive numbers"),
        (lambda: merge_duplicates([[1.0]], -1), "tolerance must be zero"),
    ],
)
def test_bad_input(action, message):
    with pytest.raises(ValueError, match=message):
        action()
