"""What training learns from systems that members were not trained on: scores, blend and uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.mobility.learner import COVERAGE_FACTOR, N_TYPES
from phaseseg.families.mobility.ridge import standardized
from phaseseg.families.mobility.scores import pearson

Values = NDArray[np.float64]
Codes = NDArray[np.int32]

COVERAGE = 0.9
STEEPEST = 3.0
"""Standardized predictions are clipped to ± this in the fit of the uncertainty."""


def type_scores(predicted: Values, target: Values, codes: Codes) -> Values:
    """(n_types, n_targets): Pearson correlation of (n, n_targets) values for each type and target."""
    return np.array(
        [[pearson(predicted[codes == t, m], target[codes == t, m]) for m in range(target.shape[1])]
         for t in range(N_TYPES)]
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Blend:
    """How outputs become standardized targets, and how far these are off, for each type and target.

    factors : (n_types, n_targets, 2) float64, of the network and of the ridge
    spread : (n_types, n_targets, 2) float64, log of the standard deviation: constant and slope with the
        prediction
    coverage : (n_systems, n_types, n_targets), fraction of particles within ± 1.645 standard deviations
    """

    factors: Values
    spread: Values
    coverage: Values


def blend_of(
    networks: Sequence[Values] | None, ridges: Sequence[Values], targets: Sequence[Values],
    codes: Sequence[Codes], share: float,
) -> tuple[Blend, list[Values]]:  # fmt: skip
    """Fit the blend to predictions for systems that were not trained on; return it and its predictions.

    The sum of both outputs, each divided by its spread over particles and the ridge multiplied by `share`, is
    scaled to fit the standardized targets best. The uncertainty is exp(a + b z) with the prediction z, fitted
    to the errors and scaled so that 90 % of them lie within ± 1.645.

    networks, ridges : (n, n_targets) outputs for each system; networks may be None
    targets : (n, n_targets) of each system, as they are
    """
    n_targets = targets[0].shape[1]
    mean, scale = target_scales(targets, codes)
    factors, spread = np.zeros((N_TYPES, n_targets, 2)), np.zeros((N_TYPES, n_targets, 2))
    standard = [standardized(y, c)[0] for y, c in zip(targets, codes, strict=True)]
    found = [np.zeros_like(y, dtype=np.float64) for y in targets]
    coverage = np.full((len(targets), N_TYPES, n_targets), np.nan)
    for t in range(N_TYPES):
        chosen = [c == t for c in codes]
        if not any(own.any() for own in chosen):
            continue
        for m in range(n_targets):
            z = np.concatenate([y[own, m] for y, own in zip(standard, chosen, strict=True)])
            parts = [np.zeros(len(z)) if networks is None else
                     np.concatenate([x[own, m] for x, own in zip(networks, chosen, strict=True)]),
                     np.concatenate([x[own, m] for x, own in zip(ridges, chosen, strict=True)])]  # fmt: skip
            weights = np.array([1.0, 1.0 if networks is None else share])
            spreads = np.array([part.std() for part in parts])
            weights = np.divide(weights, spreads, out=np.zeros(2), where=spreads > 0)
            both = weights @ np.stack(parts)
            slope = both @ z / (both @ both) if both.any() else 0.0
            factors[t, m] = slope * weights
            shift = np.concatenate(
                [(y[own, m] - mean[t, m]) / scale[t, m] for y, own in zip(targets, chosen, strict=True)]
            )
            predicted = slope * both
            spread[t, m] = _fitted_spread(predicted, np.abs(shift - predicted))
            width = COVERAGE_FACTOR * np.exp(
                spread[t, m, 0] + spread[t, m, 1] * np.clip(predicted, -STEEPEST, STEEPEST)
            )
            inside = np.abs(shift - predicted) <= width
            start = 0
            for k, own in enumerate(chosen):
                n = int(own.sum())
                found[k][own, m] = predicted[start : start + n]
                if n:
                    coverage[k, t, m] = inside[start : start + n].mean()
                start += n
    return Blend(factors, spread, coverage), found


def _fitted_spread(predicted: Values, errors: Values) -> Values:
    """Constant and slope of the log of the standard deviation, from absolute errors."""
    z = np.clip(predicted, -STEEPEST, STEEPEST)
    logs = np.log(np.maximum(errors, 1e-3 * max(float(errors.max()), 1e-12)))
    slope = 0.0
    if len(z) > 2 and z.std() > 0:
        slope = float(np.clip(((z - z.mean()) @ (logs - logs.mean())) / (len(z) * z.var()), -1, 1))
    # The 90 % quantile of |error| exp(-slope z), in units of that of a normal distribution.
    constant = np.log(max(float(np.quantile(errors * np.exp(-slope * z), COVERAGE)), 1e-12) / COVERAGE_FACTOR)
    return np.array([constant, slope])


def target_scales(targets: Sequence[Values], codes: Sequence[Codes]) -> tuple[Values, Values]:
    """(n_types, n_targets) means and deviations of the targets, averaged over systems."""
    means, scales = [], []
    for y, c in zip(targets, codes, strict=True):
        _, mean, scale = standardized(y, c)
        present = np.array([(c == t).any() for t in range(N_TYPES)])[:, None]
        means.append(np.where(present, mean, np.nan))
        scales.append(np.where(present, scale, np.nan))
    found = []
    for values, empty in ((means, 0.0), (scales, 1.0)):
        table = np.stack(values)
        counts = np.isfinite(table).sum(axis=0)
        total = np.nansum(table, axis=0)
        found.append(np.where(counts > 0, total / np.maximum(counts, 1), empty))
    return found[0], found[1]
