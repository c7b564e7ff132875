"""K-means and mixtures agree with scikit-learn from the same start, and take degenerate points."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from phaseseg.families.environments.gaussians import Mixture, _lloyd, fit_mixture, kmeans


def blobs(n=600, d=4, k=5, seed=0, spread=4.0):
    rng = np.random.default_rng(seed)
    centers = spread * rng.normal(size=(k, d))
    labels = rng.integers(0, k, n)
    scales = rng.uniform(0.3, 1.5, (k, d))
    return centers[labels] + scales[labels] * rng.normal(size=(n, d)), labels


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_expectation_maximization_is_that_of_scikit_learn(k):
    points, _ = blobs()
    labels = kmeans(points, k, np.random.default_rng(1))[1]
    regular, d = 1e-2, points.shape[1]
    start = fit_mixture(points, labels, k, regular=regular, rounds=0)
    precisions = np.stack([np.linalg.inv(lower @ lower.T) for lower in start.cholesky])
    theirs = GaussianMixture(
        k, reg_covar=regular, max_iter=200, weights_init=start.weights, means_init=start.means,
        precisions_init=precisions,
    ).fit(points)  # fmt: skip
    ours = fit_mixture(points, labels, k, regular=regular)
    assert theirs.converged_
    # Theirs takes a last step after the likelihood was found to have converged.
    for mixture in (ours, fit_mixture(points, labels, k, regular=regular, rounds=theirs.n_iter_)):
        assert_allclose(mixture.criterion(points), theirs.bic(points), rtol=1e-4)
    exact = fit_mixture(points, labels, k, regular=regular, rounds=theirs.n_iter_, tolerance=0)
    assert_allclose(exact.weights, theirs.weights_, rtol=1e-8)
    assert_allclose(exact.means, theirs.means_, atol=1e-8)
    assert_allclose(exact.cholesky @ exact.cholesky.transpose(0, 2, 1), theirs.covariances_, atol=1e-8)
    assert_allclose(exact.criterion(points), theirs.bic(points), rtol=1e-10)
    logs = exact.log_shares(points) - 0.5 * d * np.log(2 * np.pi)
    assert_allclose(logs, theirs._estimate_weighted_log_prob(points), atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_as_good_as_that_of_scikit_learn(seed):
    points, _ = blobs(seed=seed, spread=2.0)
    for k in (1, 4, 12):
        centers, labels = kmeans(points, k, np.random.default_rng(seed))
        theirs = KMeans(k, n_init=5, random_state=seed).fit(points)
        squares = ((points[:, None] - centers) ** 2).sum(axis=2)
        assert_array_equal(labels, squares.argmin(axis=1))
        assert squares.min(axis=1).sum() < 1.03 * theirs.inertia_


def test_lloyd_from_the_same_start():
    points, _ = blobs(seed=3)
    start = points[:6].copy()
    theirs = KMeans(6, init=start, n_init=1, tol=1e-4, algorithm="lloyd").fit(points)
    centers, labels, squares = _lloyd(points, start)
    assert_array_equal(labels, theirs.labels_)
    assert_allclose(centers, theirs.cluster_centers_, atol=0.02)
    assert squares == pytest.approx(theirs.inertia_, rel=1e-3)


def test_separated_groups_are_found_wherever_they_are():
    points, truth = blobs(spread=40.0, seed=2)
    for shift, scale in ((0.0, 1.0), (1e6, 1.0), (0.0, 1e-6)):
        moved = shift + scale * points
        labels = kmeans(moved, 5, np.random.default_rng(0))[1]
        assert len(np.unique(labels[np.argsort(truth)].reshape(-1, 1), axis=0)) == 5
        assert all(len(set(labels[truth == k].tolist())) == 1 for k in range(5))


def test_the_likelihood_never_falls():
    points, _ = blobs(spread=1.0)
    labels = kmeans(points, 6, np.random.default_rng(0))[1]
    values = [
        fit_mixture(points, labels, 6, regular=0.0, rounds=n, tolerance=0).criterion(points) for n in range(8)
    ]
    assert (np.diff(values) <= 1e-9 * abs(values[0])).all()


def test_equal_points_and_empty_clusters():
    points = np.repeat([[0.0, 0.0], [5.0, 0.0]], [30, 3], axis=0)
    centers, labels = kmeans(points, 5, np.random.default_rng(0))
    assert len(np.unique(labels)) == 2 and np.isfinite(centers).all()
    mixture = fit_mixture(points, labels, 5, regular=1e-2)
    assert isinstance(mixture, Mixture) and np.isfinite(mixture.log_shares(points)).all()
    assert mixture.weights.sum() == pytest.approx(1) and np.isfinite(mixture.criterion(points))
    one = fit_mixture(np.zeros((3, 2)), np.zeros(3, dtype=int), 1, regular=1e-2)
    assert_allclose(one.cholesky[0], 0.1 * np.eye(2))


def test_the_same_seed_gives_the_same():
    points, _ = blobs(spread=1.0)
    first, second = (kmeans(points, 7, np.random.default_rng(3))[1] for _ in range(2))
    assert_array_equal(first, second)
