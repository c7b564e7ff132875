"""Principal axes of rows with few or very many features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

MOST_DENSE = 1000
"""Of more features and more rows than this, only the axes that are asked for are computed."""
BATCH, MOST_COPIED = 20_000, 2_000_000
"""Rows that are copied at a time; and numbers, where there are more features than `MOST_DENSE`."""
MOST_BYTES = 200_000_000
"""Rows of many features that the axes are fitted to; of more, a random sample."""
SPARE, ROUNDS, CHANGE = 20, 5, 1e-3
"""Further axes of the iteration, its rounds at most, and the relative change of variances that ends it."""


class Axes(NamedTuple):
    """variances : along the axes, the largest first; axes : (n_features, n), orthonormal; total : variance"""

    variances: Doubles
    axes: Doubles
    total: float


def batch_of(n_features: int) -> int:
    """Return how many rows are copied at a time."""
    return BATCH if n_features <= MOST_DENSE else max(MOST_COPIED // n_features, 1)


def principal_axes(centered: Callable[[Any], Doubles], n_rows: int, n_features: int, n: int) -> Axes:
    """Return the first n axes, or all where there are fewer.

    Twelve species have 5,880 features, and all their axes would take a minute. Of many features and rows,
    the axes come from a few rounds of subspace iteration: they are orthonormal, the rows are uncorrelated
    along them, and their variances are at most a few percent below the largest possible ones.

    centered : function of a slice or of numbers of rows that returns them minus their means

    References
    ----------
    Halko, Martinsson, Tropp, SIAM Rev. 53, 217 (2011), doi:10.1137/090771806.
    """
    batch = batch_of(n_features)
    if n_features <= MOST_DENSE:
        products = np.zeros((n_features, n_features))
        for first in range(0, n_rows, batch):
            part = centered(slice(first, first + batch))
            products += part.T @ part
        variances, axes = _sorted(products / n_rows, n)
        return Axes(variances[:n], axes, float(variances.sum()))
    if n_rows <= MOST_DENSE:
        rows = centered(slice(0, n_rows))
        variances, coefficients = _sorted(rows @ rows.T / n_rows, n)
        axes = rows.T @ coefficients
        lengths = np.linalg.norm(axes, axis=0)
        axes = axes / np.where(lengths > 0, lengths, 1.0)
        return Axes(variances[:n], axes, float(variances.sum()))
    return _iterated(_copied(centered, n_rows, n_features, batch), n)


def _sorted(products: Doubles, n: int) -> tuple[Doubles, Doubles]:
    """All eigenvalues, the largest first, and the first n eigenvectors."""
    values, vectors = np.linalg.eigh(products)
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order[:n]]


def _copied(centered: Callable[[Any], Doubles], n_rows: int, n_features: int, batch: int) -> Doubles:
    """The rows, or a random sample of as many as `MOST_BYTES` hold."""
    most = max(MOST_BYTES // (8 * n_features), MOST_DENSE)
    chosen = np.arange(n_rows)
    if n_rows > most:
        chosen = np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))
    rows = np.empty((len(chosen), n_features))
    for first in range(0, len(chosen), batch):
        rows[first : first + batch] = centered(chosen[first : first + batch])
    return rows


def _iterated(rows: Doubles, n: int) -> Axes:
    """The first axes by products with the rows and their transpose, until their variances hardly change."""
    total = float(np.einsum("ij,ij->", rows, rows)) / len(rows)
    n = min(n, *rows.shape)
    start = np.random.default_rng(0).normal(size=(rows.shape[1], min(n + SPARE, *rows.shape)))
    before = np.zeros(n)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(start)[0]
        points = rows @ basis
        variances, turn = _sorted(points.T @ points / len(rows), n)
        axes, variances = basis @ turn, variances[:n]
        if (np.abs(variances - before) <= CHANGE * variances).all():
            break
        start, before = rows.T @ points, variances
    return Axes(variances, axes, total)
