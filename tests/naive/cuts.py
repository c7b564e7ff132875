"""Thresholds of a field."""

from __future__ import annotations

import numpy as np


def two_means(values):
    """Cut of two-means: every split of the sorted values is tried."""
    values = np.sort(np.asarray(values, dtype=float).ravel())
    n = np.arange(1, len(values))  # number of values in the lower class
    low, low2 = np.cumsum(values)[:-1], np.cumsum(values**2)[:-1]
    high, high2 = values.sum() - low, (values**2).sum() - low2
    within = (low2 - low**2 / n) + (high2 - high**2 / (len(values) - n))
    best = int(np.argmin(within))
    return float((low[best] / n[best] + high[best] / (len(values) - n[best])) / 2)


def gradient(values, cell, pbc):
    """(..., 3) Cartesian gradient by central differences; one-sided at open ends."""
    values = np.asarray(values, dtype=float)
    slopes = []  # per unit of the fractional coordinate
    for axis in range(3):
        n = values.shape[axis]
        if n == 1:
            slopes.append(np.zeros_like(values))
        elif pbc[axis]:
            slopes.append((np.roll(values, -1, axis) - np.roll(values, 1, axis)) * n / 2)
        else:
            slopes.append(np.gradient(values, axis=axis) * n)
    # f(s(x)) with s = x inv(cell): df/dx_k = sum_a df/ds_a inv(cell)[k, a].
    return np.stack(slopes, axis=-1) @ np.linalg.inv(cell).T


def fourth_powers_of_slopes(values, cell, pbc):
    """|grad|^4 by central differences."""
    return np.linalg.norm(gradient(values, cell, pbc), axis=-1) ** 4


def steepest(values, weights):
    """Mean of all values, weighted by the fourth power of the slope and by their distance from both bulks.

    It counts as far as it keeps the two sides apart; otherwise the mean is weighted by the slope alone.
    """
    values, weights = np.ravel(values).astype(float), np.ravel(weights)
    cut = plain = (weights * values).sum() / weights.sum()
    for _ in range(6):
        poor, rich = values[values < cut], values[values >= cut]
        if len(poor) == 0 or len(rich) == 0:
            break
        poor = np.quantile(poor, 0.3, method="inverted_cdf")
        rich = np.quantile(rich, 0.7, method="inverted_cdf")
        noise = 2 * (weights[values > rich].sum() + weights[values < poor].sum()) / weights.sum()
        place = (values - poor) / (rich - poor)
        inside = np.clip(np.minimum(place, 1 - place) / max(min(noise, 0.5), 1e-9) - 0.5, 0, 1) * weights
        if not inside.sum() > 0:
            break
        cut = (inside * values).sum() / inside.sum()
    before, after = (values[values >= at].mean() - values[values < at].mean() for at in (plain, cut))
    return float(plain + (cut - plain) * np.clip((after / before - 0.92) / 0.05, 0, 1))
