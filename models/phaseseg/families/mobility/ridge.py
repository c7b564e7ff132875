"""Ridge regression of per-particle targets, one for each type: without PyTorch, in seconds.

Features are standardized over all systems, targets for each system and type, so that every system counts by
its number of particles and differences between systems are not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Values = NDArray[np.float64]

PENALTY = 0.1
LEAST_SPREAD = 1e-4
"""Columns with a smaller standard deviation count as constant: tails of Gaussians of rare distances."""
FARTHEST = 10.0
"""Standardized features are clipped to ± this in a prediction, so that one rare distance cannot decide it."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear function for each type.

    center, scale : (n_types, columns); coefficients : (n_types, columns, n_targets)
    """

    center: Rows
    scale: Rows
    coefficients: Rows

    def __call__(self, rows: Rows, codes: NDArray[np.integer[Any]]) -> Values:
        """(n, n_targets): standardized targets of particles with features (n, columns)."""
        out = np.zeros((len(rows), self.coefficients.shape[2]))
        for t in range(len(self.center)):
            own = np.flatnonzero(codes == t)
            standard = np.clip((rows[own] - self.center[t]) / self.scale[t], -FARTHEST, FARTHEST)
            # In float64: hundreds of columns, many nearly collinear.
            out[own] = standard.astype(np.float64) @ self.coefficients[t].astype(np.float64)
        return out

    def weights(self) -> dict[str, Rows]:
        """Arrays by name, for a checkpoint."""
        return {"center": self.center, "scale": self.scale, "coefficients": self.coefficients}


class RidgeSums:
    """Sums over systems from which ridges for any choice of systems follow quickly.

    Parameters
    ----------
    rows : features of each system, (n, columns)
    targets : (n, n_targets) of each system, standardized for each type
    codes : (n,) types of each system
    n_types : number of types
    """

    def __init__(
        self, rows: Sequence[Rows], targets: Sequence[Values], codes: Sequence[NDArray[Any]], n_types: int = 2
    ) -> None:
        columns, n_targets = rows[0].shape[1], targets[0].shape[1]
        shape = (len(rows), n_types, columns)
        self.counts = np.zeros((len(rows), n_types))
        self.first, self.second = np.zeros(shape), np.zeros((*shape, columns))
        self.cross, self.targets = np.zeros((*shape, n_targets)), np.zeros((len(rows), n_types, n_targets))
        # Shifted by a typical row, so that the sums of squares keep their digits.
        self.shift = np.zeros((n_types, columns))
        for t in range(n_types):
            first = next((r[c == t] for r, c in zip(rows, codes, strict=True) if (c == t).any()), None)
            if first is not None:
                self.shift[t] = first.mean(axis=0)
        for k, (own, y, c) in enumerate(zip(rows, targets, codes, strict=True)):
            for t in range(n_types):
                x, z = own[c == t].astype(np.float64) - self.shift[t], y[c == t]
                self.counts[k, t] = len(x)
                self.first[k, t], self.second[k, t] = x.sum(axis=0), x.T @ x
                self.cross[k, t], self.targets[k, t] = x.T @ z, z.sum(axis=0)

    def solve(self, systems: Sequence[int], penalty: float = PENALTY) -> Ridge:
        """Return the ridge of some systems; the penalty is `penalty` times the number of particles.

        Raises
        ------
        ValueError
            If one of the types does not occur.
        """
        chosen = list(systems)
        center, scale, coefficients = [], [], []
        for t in range(self.counts.shape[1]):
            n = self.counts[chosen, t].sum()
            if n < 2:
                raise ValueError(f"type {t} has {n:.0f} particles; a regression needs at least 2.")
            mean = self.first[chosen, t].sum(axis=0) / n
            squares = self.second[chosen, t].sum(axis=0) - n * np.outer(mean, mean)
            spread = np.sqrt(np.maximum(np.diag(squares) / n, 0))
            # A constant column gets no weight, whatever its rounding.
            constant = spread <= np.maximum(1e-6 * np.abs(mean + self.shift[t]), LEAST_SPREAD)
            spread[constant] = 1
            sums = self.cross[chosen, t].sum(axis=0) - np.outer(mean, self.targets[chosen, t].sum(axis=0))
            sums[constant] = 0
            matrix = squares / np.outer(spread, spread)
            matrix[constant], matrix[:, constant] = 0, 0
            matrix[np.diag_indices_from(matrix)] += penalty * n
            center.append(mean + self.shift[t])
            scale.append(spread)
            coefficients.append(np.linalg.solve(matrix, sums / spread[:, None]))
        return Ridge(*(np.stack(values).astype(np.float32) for values in (center, scale, coefficients)))


def standardized(
    values: Values, codes: NDArray[np.integer[Any]], n_types: int = 2
) -> tuple[Values, Values, Values]:
    """Standardize (n, n_targets) values for each type; also return means, deviations (n_types, n_targets)."""
    out = np.zeros_like(values, dtype=np.float64)
    means = np.zeros((n_types, values.shape[1]))
    spreads = np.ones((n_types, values.shape[1]))
    for t in range(n_types):
        own = np.asarray(values[codes == t], dtype=np.float64)
        if len(own):
            means[t], spreads[t] = own.mean(axis=0), own.std(axis=0)
            spreads[t][spreads[t] == 0] = 1
            out[codes == t] = (own - means[t]) / spreads[t]
    return out, means, spreads


def ridge_of(weights: Mapping[str, Rows]) -> Ridge:
    """The inverse of `Ridge.weights`."""
    return Ridge(weights["center"], weights["scale"], weights["coefficients"])
