"""Principal axes of rows with few or very many features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

MOST_DENSE = 1000
"""Of more features than this, all products are computed only if there are even more rows."""
BATCH = 20_000
"""Rows that are copied at a time."""


def principal_axes(
    centered: Callable[[slice], Doubles], n_rows: int, n_features: int, n: int
) -> tuple[Doubles, Doubles]:
    """Return all variances, the largest first, and the axes (n_features, n) of the first n.

    Twelve species have 5,880 features. The products of all pairs of them take minutes, and those of a few
    hundred rows have the same leading axes.

    centered : function of a slice that returns rows (n_rows, n_features) minus their means
    """
    if n_features <= MOST_DENSE or n_rows >= n_features:
        products = np.zeros((n_features, n_features))
        for first in range(0, n_rows, BATCH):
            part = centered(slice(first, first + BATCH))
            products += part.T @ part
        variances, axes = np.linalg.eigh(products / n_rows)
        order = np.argsort(variances)[::-1]
        return variances[order], axes[:, order[:n]]
    rows = centered(slice(0, n_rows))
    variances, coefficients = np.linalg.eigh(rows @ rows.T / n_rows)
    order = np.argsort(variances)[::-1]
    variances, coefficients = variances[order], coefficients[:, order[:n]]
    axes = rows.T @ coefficients
    lengths = np.linalg.norm(axes, axis=0)
    return variances, axes / np.where(lengths > 0, lengths, 1.0)
