"""How well predicted propensities agree with simulated ones: correlation, its ceiling, and coverage.

All scores are for particles of one type in one configuration ("system"). Mobility differs between the types,
so a correlation over both would mostly measure the difference of their means.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.statistics import percentiles as percentiles

Floats = NDArray[np.float64]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Nominal coverage of central intervals of a normal distribution."""


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of two arrays (n,); NaN for fewer than two values or a constant array.

    >>> round(pearson([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), 3)
    0.5
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(a) < 2:
        return nan
    a, b = a - a.mean(), b - b.mean()
    scale = sqrt(float(a @ a)) * sqrt(float(b @ b))
    return float(np.clip((a @ b) / scale, -1, 1)) if scale > 0 else nan


def reliability(first: ArrayLike, second: ArrayLike) -> float:
    """Reliability of the mean of two half sets (n,) by the formula of Spearman and Brown, 2 r / (1 + r).

    It is the squared correlation of the mean with what infinitely many runs would give. NaN if the halves are
    not positively correlated.
    """
    r = pearson(first, second)
    return 2 * r / (1 + r) if r > 0 else nan


def ceiling(first: ArrayLike, second: ArrayLike) -> float:
    """Correlation that a perfect prediction reaches with a mean over finitely many runs.

    The propensity of a particle is a mean over runs and still contains noise, which no structure predicts.
    The ceiling is the square root of the `reliability` of that mean.

    first, second : (n,) means over each half of the runs

    >>> round(ceiling([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]), 3)
    0.943
    """
    return sqrt(reliability(first, second))


def mean_and_deviation(values: ArrayLike) -> tuple[float, float]:
    """Mean and sample standard deviation of the finite values; NaN where there are too few."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    return (float(x.mean()) if len(x) else nan), (float(x.std(ddof=1)) if len(x) > 1 else nan)


def coverage(
    target: ArrayLike, mean: ArrayLike, uncertainty: ArrayLike, levels: Sequence[float] = LEVELS
) -> Floats:
    """Fraction of targets inside central intervals of a normal distribution, mean ± z(level) * uncertainty.

    target, mean, uncertainty : (n,); levels : between 0 and 1. Returns (n_levels,); NaN without targets.
    """
    from scipy.special import ndtri

    error = np.abs(np.asarray(target, np.float64) - np.asarray(mean, np.float64))
    width = np.asarray(uncertainty, np.float64)
    half = ndtri(0.5 + 0.5 * np.asarray(levels, np.float64))
    if not len(error):
        return np.full(len(half), nan)
    return np.array([np.mean(error <= z * width) for z in half])


def errors_by_uncertainty(
    target: ArrayLike, mean: ArrayLike, uncertainty: ArrayLike, n_bins: int = 10
) -> tuple[Floats, Floats]:
    """Root mean square of uncertainty and of error, in bins of equally many particles by uncertainty.

    Particles with the same uncertainty stay in one bin, so there may be fewer bins than asked for.
    """
    width = np.asarray(uncertainty, np.float64)
    error = np.asarray(target, np.float64) - np.asarray(mean, np.float64)
    if not len(width):
        return np.zeros(0), np.zeros(0)
    edges = np.unique(np.quantile(width, np.linspace(0, 1, n_bins + 1)[1:-1]))
    which = np.searchsorted(edges, width, side="right")
    used = np.unique(which)
    pairs = [
        (sqrt(np.mean(width[which == k] ** 2)), sqrt(np.mean(error[which == k] ** 2))) for k in used.tolist()
    ]
    stated, found = np.array(pairs).T
    return stated, found
