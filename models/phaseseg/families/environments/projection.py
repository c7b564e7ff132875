"""Descriptors on a common scale, reduced to principal components: fitted once and kept with the result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]


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

    def __call__(self, rows: ArrayLike) -> Doubles:
        """Return (n, n_components) of (n, n_features); ValueError if the number of features differs."""
        values = checked_rows(rows)
        if values.shape[1] != len(self.unit):
            raise ValueError(
                f"this model was fitted on {len(self.unit)} features, and the rows have {values.shape[1]}. "
                "Use the same descriptor with the same settings."
            )
        return np.asarray((_compressed(values, self.unit) - self.center) @ self.axes)


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
    unit = np.median(np.abs(values), axis=0) if compress else np.zeros(values.shape[1])
    # Rounding noise around zero is no unit.
    unit[unit < 1e-12 * np.abs(values).max(axis=0, initial=0.0)] = 0.0
    flat = _compressed(values, unit)
    center, spread = flat.mean(axis=0), flat.std(axis=0)
    constant = spread <= 1e-9 * np.maximum(np.abs(center), 1e-3)
    inverse = np.where(constant, 0.0, 1 / np.where(constant, 1.0, spread))
    standard = (flat - center) * inverse
    variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    order = np.argsort(variances)[::-1]
    variances, axes = variances[order], axes[:, order]
    n = min(int(n_components), max(int(np.count_nonzero(variances > 1e-12 * max(variances[0], 1e-300))), 1))
    axes = axes[:, :n]
    # The sign of an eigenvector is arbitrary: its largest entry is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n)])
    total = max(float(variances.sum()), 1e-300)
    return Projection(unit, center, inverse[:, None] * axes, variances[:n] / total)


def checked_rows(rows: ArrayLike) -> Doubles:
    """Return rows as (n, n_features) float64; ValueError if they are none, or not finite."""
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"descriptors must be an array (n_atoms, n_features), found {values.shape}.")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(
            f"the descriptor of atom {row} is not finite; remove the atom or check its descriptor."
        )
    return values


def _compressed(values: Doubles, unit: Doubles) -> Doubles:
    logs = np.sign(values) * np.log1p(np.abs(values) / np.where(unit > 0, unit, 1.0))
    return np.where(unit > 0, logs, values)
