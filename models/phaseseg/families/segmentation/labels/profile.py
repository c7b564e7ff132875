"""Width of the interface: an error function fitted to a number density across it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import erf, nan, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Message
from phaseseg.statistics import least_squares

# The profile is fitted where the interface is, within this many Å or sigma, whichever is farther: beyond
# that, other surfaces come into play.
FIT_WITHIN, FIT_WITHIN_SIGMA = 6.0, 2.5
# Of the error function, between 10 % and 90 %, in units of its standard deviation.
WIDTH_10_90 = 2 * 1.2815515655446004
FEWEST_BINS = 6
# Where the bulk begins, in sigma, and the fewest atoms in it from which the noise is measured. Otherwise it
# is taken as this fraction of the noise of atoms that do not see each other; in liquids it is 0.05 to 0.45.
BULK_SIGMA, FEWEST_ATOMS, DENSE = 2.0, 200, 0.25


@dataclass(frozen=True)
class InterfaceWidth:
    """10-90 width of the interface, its standard error and the least that is resolved, all in Å.

    A width that cannot be given is NaN, and `why` gives the reason.
    """

    width: float = nan
    error: float = nan
    resolution: float = nan
    why: str = ""

    @property
    def message(self) -> Message | None:
        """A sentence if there is no width."""
        return Message(f"No interface width: {self.why}.", "no-width") if self.why else None


@dataclass(frozen=True)
class Kernel:
    """The Gaussian that smoothed a field: sigma, Å, and the volume over which it counts atoms, Å^3.

    rich, poor : variance of the smoothed density in the bulk of the two phases, in units of that of atoms
        which do not see each other
    """

    sigma: float
    volume: float
    rich: float = DENSE
    poor: float = DENSE

    @property
    def reach(self) -> float:
        """Distance from the interface within which a profile is fitted, Å."""
        return max(FIT_WITHIN, FIT_WITHIN_SIGMA * self.sigma)

    def measured(self, density: NDArray[np.floating[Any]], distance: NDArray[np.floating[Any]]) -> Kernel:
        """The kernel with variances from the density at atoms that are far enough from the interface."""
        spread = Spread(self.sigma)
        spread.add(density, distance)
        return spread.measured(self)

    def resolution(self, low: float, high: float) -> float:
        """Twice the apparent width of a sharp step between two number densities.

        The density at the interface has the mean of the variances of both phases, which moves the
        surface by the standard deviation over the slope (high - low) / sqrt(2 pi) sigma.
        """
        noise = sqrt(max(low * self.poor + high * self.rich, 0.0) / 2 / self.volume)
        return 2 * WIDTH_10_90 * noise * sqrt(2 * pi) * self.sigma / abs(high - low)


class Spread:
    """Mean and variance of the smoothed density in the bulk of both phases, from all or parts of the atoms.

    sigma : Å, of the smoothing
    """

    def __init__(self, sigma: float) -> None:
        self._far = BULK_SIGMA * sigma
        self._sums = np.zeros((2, 3))  # of the rich and the poor bulk: number, mean, sum of squares about it

    def add(self, density: NDArray[np.floating[Any]], distance: NDArray[np.floating[Any]]) -> None:
        """Add atoms with this density, at this signed distance from the interface, Å."""
        for sums, inside in zip(self._sums, (distance > self._far, distance < -self._far), strict=True):
            values = density[inside].astype(np.float64)
            if values.size:
                # Chan, Golub & LeVeque (DOI 10.1080/00031305.1983.10483115).
                n, mean, squares = sums
                step, whole = values.mean() - mean, n + values.size
                squares += values.var() * values.size + step * step * n * values.size / whole
                sums[:] = whole, mean + step * values.size / whole, squares

    def measured(self, kernel: Kernel) -> Kernel:
        """The kernel with these variances."""

        def relative(n: float, mean: float, squares: float) -> float:
            return DENSE if n < FEWEST_ATOMS else squares / n / max(mean, 1e-30) * kernel.volume

        rich, poor = (relative(*sums) for sums in self._sums.tolist())
        return replace(kernel, rich=rich, poor=poor)


def interface_width(
    counts: NDArray[np.number[Any]], volumes: NDArray[np.float64], bin_width: float, *, reach: float,
    resolution: Callable[[float, float], float], unit: str = "Å",
) -> InterfaceWidth:  # fmt: skip
    """Fit an error function to the counts of atoms in bins of the distance to the interface.

    The density is lower + (upper - lower) (1 + erf((d - center) / (sqrt(2) s))) / 2, averaged over each bin;
    counts are weighted by Poisson noise. The width is 2.563 s. Its error is that of the fit, increased
    by the square root of chi^2 per degree of freedom if that exceeds 1.

    counts, volumes : (n_bins,) number of atoms and Å^3 in each bin; the middle edge is the interface
    reach : Å from the interface within which the profile is fitted
    resolution : of two densities, Å; a smaller width is not given
    unit : of lengths, for the reason
    """
    half = min(int(np.ceil(reach / bin_width)), len(counts) // 2)
    near = slice(len(counts) // 2 - half, len(counts) // 2 + half)
    n, v = counts[near].astype(np.float64), volumes[near]
    edges = np.arange(-half, half + 1).astype(np.float64) * bin_width
    there = v > 0
    if not n.any():
        return InterfaceWidth(why="no atoms of the species are near the interface")
    if there.sum() < FEWEST_BINS or there[:half].sum() < 2 or there[half:].sum() < 2:
        return InterfaceWidth(why="the phases are too thin for a profile")
    found = _fit(n, v, edges, reach)
    no_step = "the density does not go from one plateau to another across the interface"
    if found is None:
        return InterfaceWidth(why=no_step)
    (low, high, center, s), error, step_error = found
    if s >= reach or abs(center) >= 0.99 * reach or abs(high - low) < 3 * step_error:
        return InterfaceWidth(why=no_step)
    width, least = float(WIDTH_10_90 * s), float(max(resolution(low, high), bin_width))
    if width < least:
        why = f"it is below {least:.2g} {unit}, the least that is resolved"
        return InterfaceWidth(resolution=least, why=why)
    return InterfaceWidth(width, float(WIDTH_10_90 * error), least)


def _fit(
    n: NDArray[np.float64], v: NDArray[np.float64], edges: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], float, float] | None:
    """Parameters (low, high, center, s), standard errors of s and of the step; None without convergence."""
    bin_width = edges[1] - edges[0]

    def expected(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        u, s = edges - p[2], p[3]
        step = np.array([erf(x) for x in (u / (sqrt(2) * s)).tolist()])
        bell = sqrt(2 / pi) * np.exp(-((u / s) ** 2) / 2)
        # Integrals of the error function from end to end of the bins, and their derivatives.
        rise, by_center, by_s = (np.diff(f) / (2 * bin_width) for f in (u * step + s * bell, -step, bell))
        rise += 0.5
        slopes = np.stack([1 - rise, rise, (p[1] - p[0]) * by_center, (p[1] - p[0]) * by_s], axis=1)
        # Rounding could make a large density of one side negative on the other.
        return v * np.maximum(p[0] + (p[1] - p[0]) * rise, 0.0), v[:, None] * slopes

    # Twice the square root of a Poisson number plus 3/8 has a variance of 1 (DOI 10.1093/biomet/35.3-4.246).
    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(2 * np.sqrt(expected(p)[0] + 0.375) - 2 * np.sqrt(n + 0.375))

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        count, slopes = expected(p)
        return np.asarray(slopes / np.sqrt(count + 0.375)[:, None])

    low, high = (n[side].sum() / v[side].sum() for side in (edges[1:] <= 0, edges[1:] > 0))
    if low == high:
        return None
    p = least_squares(
        residual, jacobian, [low, high, 0.0, 2 * bin_width], [0, 0, -reach, 1e-3 * bin_width],
        [np.inf, np.inf, reach, 4 * reach],
    )  # fmt: skip
    if np.isnan(p).any():
        return None
    slopes, degrees = jacobian(p), max(int((v > 0).sum()) - len(p), 1)
    excess = max(1.0, float((residual(p) ** 2).sum()) / degrees)
    covariance = np.linalg.pinv(slopes.T @ slopes) * excess
    step = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return p, sqrt(max(covariance[3, 3], 0.0)), sqrt(max(step, 0.0))
