"""K-means and Gaussian mixtures, fitted to points in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

ROUNDS = 300
"""Rounds of k-means, at most."""
MOVED = 1e-4
"""K-means ends when the centers move by less than this share of the mean variance, squared."""
PART = 4096
"""Points whose distances to all centers are computed at once."""


# K-means ------------------------------------------------------------------------------------------


def kmeans(points: Doubles, n: int, rng: np.random.Generator, *, runs: int = 5) -> tuple[Doubles, Integers]:
    """Return (n, d) centers and (n_points,) labels: the best of several runs of Lloyd's algorithm.

    Each run starts from k-means++: centers are drawn with probabilities in proportion to the squared distance
    to the nearest one so far, the best of a few draws each time. A center without points moves to the
    farthest point. Fewer distinct points than centers leave centers that are equal.

    points : (n_points, d), at least n

    References
    ----------
    Lloyd, IEEE Trans. Inf. Theory 28, 129 (1982), doi:10.1109/TIT.1982.1056489; Arthur, Vassilvitskii, Proc.
    SODA 1027 (2007).

    >>> centers, labels = kmeans(np.array([[0.0], [1], [8], [9]]), 2, np.random.default_rng(0))
    >>> sorted(centers.ravel().tolist()), bool(labels[0] == labels[1] != labels[2])
    ([0.5, 8.5], True)
    """
    shifted = points - points.mean(axis=0)  # smaller numbers round less
    best = None
    for _ in range(runs):
        centers, labels, spread = _lloyd(shifted, _spread_out(shifted, n, rng))
        if best is None or spread < best[2]:
            best = centers, labels, spread
    assert best is not None
    return best[0] + points.mean(axis=0), best[1]


def _spread_out(points: Doubles, n: int, rng: np.random.Generator) -> Doubles:
    """(n, d) centers to start from, by k-means++ with 2 + log(n) draws for each."""
    centers = np.empty((n, points.shape[1]))
    centers[0] = points[rng.integers(len(points))]
    square = ((points - centers[0]) ** 2).sum(axis=1)
    for k in range(1, n):
        cumulated = np.cumsum(square)
        drawn = rng.random(2 + int(log(n))) * cumulated[-1]
        chosen = np.minimum(np.searchsorted(cumulated, drawn), len(points) - 1)
        trials = [np.minimum(square, ((points - points[one]) ** 2).sum(axis=1)) for one in chosen.tolist()]
        place = int(np.argmin([trial.sum() for trial in trials]))
        centers[k], square = points[chosen[place]], trials[place]
    return centers


def _lloyd(points: Doubles, centers: Doubles) -> tuple[Doubles, Integers, float]:
    """Centers, labels and sum of squared distances after the last round."""
    limit = MOVED * float(points.var(axis=0).mean())
    labels, squares = _nearest(points, centers)
    for _ in range(ROUNDS):
        counts = np.bincount(labels, minlength=len(centers))
        sums = np.stack([np.bincount(labels, column, minlength=len(centers)) for column in points.T], axis=1)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            moved[empty] = points[np.argsort(-squares, kind="stable")[: len(empty)]]
        shift = float(((moved - centers) ** 2).sum())
        before, centers = labels, moved
        labels, squares = _nearest(points, centers)
        if shift <= limit or np.array_equal(labels, before):
            break
    return centers, labels, float(squares.sum())


def _nearest(points: Doubles, centers: Doubles) -> tuple[Integers, Doubles]:
    """Number of the nearest center of each point, and the squared distance."""
    labels, squares = np.empty(len(points), dtype=np.int64), np.empty(len(points))
    norms = (centers**2).sum(axis=1)
    for first in range(0, len(points), PART):
        part = slice(first, first + PART)
        labels[part] = (norms - 2 * points[part] @ centers.T).argmin(axis=1)
        squares[part] = ((points[part] - centers[labels[part]]) ** 2).sum(axis=1)
    return labels, squares


# Mixtures -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians.

    weights : (n,); means : (n, d)
    cholesky : (n, d, d) lower triangles L of the covariances L Lᵀ
    """

    weights: Doubles
    means: Doubles
    cholesky: Doubles

    def log_shares(self, points: Doubles) -> Doubles:
        """Return (n_points, n): log of weight times density of each Gaussian, without -d/2 log(2 π)."""
        out = np.empty((len(points), len(self.weights)))
        for k, lower in enumerate(self.cholesky):
            white = solve_triangular(lower, (points - self.means[k]).T, lower=True, check_finite=False)
            constant = np.log(self.weights[k]) - np.log(np.diag(lower)).sum()
            out[:, k] = constant - 0.5 * np.einsum("ij,ij->j", white, white)
        return out

    def criterion(self, points: Doubles) -> float:
        """Return the Bayesian information criterion, -2 log L + (number of parameters) log n_points."""
        (n, d), n_points = self.means.shape, len(points)
        parameters = n * d + n * d * (d + 1) // 2 + n - 1
        likelihood = float(_log_sum(self.log_shares(points)).sum()) - 0.5 * n_points * d * log(2 * np.pi)
        return float(parameters * log(n_points) - 2 * likelihood)


def fit_mixture(
    points: Doubles, labels: Integers, n: int, *, regular: float, rounds: int = 200, tolerance: float = 1e-3
) -> Mixture:
    """Fit a mixture by expectation maximization.

    points : (n_points, d)
    labels : (n_points,) clusters 0 ... n - 1 to start from; one without points starts as wide as the set
    regular : added to the variances
    tolerance : the fit ends when the mean log density grows by less

    References
    ----------
    Dempster, Laird, Rubin, J. R. Stat. Soc. B 39, 1 (1977), doi:10.1111/j.2517-6161.1977.tb01600.x.
    """
    shares = np.zeros((len(points), n))
    shares[np.arange(len(points)), labels] = 1.0
    shares[:, shares.sum(axis=0) == 0] = 1 / len(points)
    mixture, before = _maximized(points, shares, regular), -np.inf
    for _ in range(rounds):
        logs = mixture.log_shares(points)
        total = _log_sum(logs)
        mean = float(total.mean())
        if abs(mean - before) < tolerance:
            break
        with np.errstate(under="ignore"):
            mixture, before = _maximized(points, np.exp(logs - total[:, None]), regular), mean
    return mixture


def _maximized(points: Doubles, shares: Doubles, regular: float) -> Mixture:
    """The mixture of the largest likelihood for given shares of the points, (n_points, n)."""
    n, d = shares.shape[1], points.shape[1]
    counts = shares.sum(axis=0) + 10 * np.finfo(float).eps
    means = shares.T @ points / counts[:, None]
    cholesky = np.empty((n, d, d))
    for k in range(n):
        off = points - means[k]
        covariance = (shares[:, k, None] * off).T @ off / counts[k]
        cholesky[k] = np.linalg.cholesky(covariance + regular * np.eye(d))
    return Mixture(counts / counts.sum(), means, cholesky)


def _log_sum(logs: Doubles) -> Doubles:
    """(n_points,) log of the sum of exponentials over the second axis."""
    most = logs.max(axis=1)
    with np.errstate(under="ignore"):
        return np.asarray(most + np.log(np.exp(logs - most[:, None]).sum(axis=1)))
