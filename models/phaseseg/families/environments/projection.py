"""Descriptors on a common scale, reduced to principal components: fitted once and kept with the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.components import MOST_COPIED, batch_of, principal_axes

Doubles = NDArray[np.float64]

FAR = 10
"""Root mean squares; at most 1 % of any data are farther away (Chebyshev)."""


@dataclass(frozen=True, eq=False)
class Projection:
    """x -> (compressed(x) - center) @ axes, with compressed(x) = sign(x) log(1 + |x| / unit), or x itself.

    unit : (n_features,), zeros for features that are not compressed
    center : (n_features,); axes : (n_features, n_components), divided by the standard deviations
    explained : (n_components,), share of the variance of the standardized features
    """

    unit: Doubles
    center: Doubles
    axes: Doubles
    explained: Doubles

    @property
    def spread(self) -> Doubles:
        """(n_components,) standard deviations of the rows of the fit along the axes."""
        # Every standardized feature has a variance of 1, unless it is constant and left out.
        return np.sqrt(self.explained * np.count_nonzero(self.axes.any(axis=1)))

    def __call__(self, rows: ArrayLike) -> Doubles:
        """Return (n, n_components) of (n, n_features); ValueError if the number of features differs."""
        values = checked_rows(rows, len(self.unit))
        points = np.empty((len(values), self.axes.shape[1]))
        batch = batch_of(values.shape[1])
        for k in range(0, len(values), batch):  # copies of the rows stay small
            points[k : k + batch] = (_compressed(values[k : k + batch], self.unit) - self.center) @ self.axes
        return points


def fit_projection(rows: ArrayLike, n_components: int, *, compress: bool = True) -> Projection:
    """Fit the projection: standardized features, their principal components. Constant features are left out.

    Power spectra are products of densities: a few strongly compressed cells stretch a linear scale, so that
    the rest of the set falls together. The logarithm beyond the median of |x| keeps them apart.

    rows : (n, n_features); n_components : at most; fewer where the rows span fewer dimensions
    compress : False for the features themselves

    Raises
    ------
    ValueError
        For fewer than two rows, rows that are not finite, or fewer than one component.
    """
    values = checked_rows(rows)
    if len(values) < 2:
        raise ValueError(f"principal components need at least two rows, found {len(values)}.")
    if isinstance(n_components, bool) or not isinstance(n_components, (int, np.integer)) or n_components < 1:
        raise ValueError(f"n_components must be a whole number from 1 on, found {n_components!r}.")
    unit = _units(values) if compress else np.zeros(values.shape[1])
    batch = batch_of(values.shape[1])
    parts = [values[k : k + batch] for k in range(0, len(values), batch)]
    center = np.sum([_compressed(part, unit).sum(axis=0) for part in parts], axis=0) / len(values)
    squares = np.sum([((_compressed(part, unit) - center) ** 2).sum(axis=0) for part in parts], axis=0)
    spread = np.sqrt(squares / len(values))
    constant = spread <= 1e-9 * np.maximum(np.abs(center), 1e-3)
    inverse = np.where(constant, 0.0, 1 / np.where(constant, 1.0, spread))

    def standardized(part: Any) -> Doubles:
        return np.asarray((_compressed(values[part], unit) - center) * inverse)

    variances, axes, total = principal_axes(standardized, len(values), len(unit), int(n_components))
    n = max(int(np.count_nonzero(variances > 1e-12 * max(variances[0], 1e-300))), 1)
    axes = axes[:, :n]
    # The sign of an eigenvector is arbitrary: its largest entry is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n)])
    return Projection(unit, center, inverse[:, None] * axes, variances[:n] / max(total, 1e-300))


def checked_rows(rows: ArrayLike, n_features: int | None = None) -> Doubles:
    """Return rows as (n, n_features) float64; ValueError if they are none, not finite, or of another width.

    n_features : of the rows that a model was fitted on; None for any
    """
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"descriptors must be an array (n_atoms, n_features), found {values.shape}.")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(
            f"the descriptor of atom {row} is not finite; remove the atom or check its descriptor."
        )
    if n_features not in (None, values.shape[1]):
        raise ValueError(
            f"this model was fitted on {n_features} features, and the rows have {values.shape[1]}. "
            "Use the same descriptor with the same settings."
        )
    return values


def _units(values: Doubles) -> Doubles:
    """Median of |x| of each feature, zero where that is noise; few columns at once, to save memory."""
    unit, step = np.zeros(values.shape[1]), max(MOST_COPIED // len(values), 1)
    for first in range(0, len(unit), step):
        size = np.abs(values[:, first : first + step])
        middle = np.median(size, axis=0)
        unit[first : first + step] = np.where(middle >= 1e-12 * size.max(axis=0, initial=0.0), middle, 0.0)
    return unit


def _compressed(values: Doubles, unit: Doubles) -> Doubles:
    if not unit.any():
        return values
    logs = np.sign(values) * np.log1p(np.abs(values) / np.where(unit > 0, unit, 1.0))
    return np.where(unit > 0, logs, values)
