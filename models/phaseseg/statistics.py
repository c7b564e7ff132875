"""Errors of correlated means, intervals over resampled runs, and lines against temperature.

Frames of one run are correlated. Either the errors of their means come from blocks (`block_error`), or a
*run* is the independent unit and runs are resampled (`Bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEW_RUNS = 3
"""With fewer runs than this nothing is resampled."""

Floats = NDArray[np.float64]

# -------------------------------------------------------------------------------- block errors

_MIN_BLOCKS = 4


class BlockError(NamedTuple):
    """Mean of a correlated series, its standard error and the statistical inefficiency."""

    mean: float
    standard_error: float
    inefficiency: float


def block_error(values: ArrayLike) -> BlockError:
    """Mean of a correlated series and its standard error by block averaging.

    The series is cut into blocks of B = 1, 2, 4 ... values; the spread of the block means gives the
    standard error s(B), which grows with B until blocks are independent. The block is the shortest with
    B^3 > 2 n [s(B) / s(1)]^4, where what is still missing of the error equals the noise of s(B); where
    the series is too short for that, the largest s(B) of at least four blocks, which is a lower bound.
    An error below s(1) is noise of few blocks and not believed. The statistical inefficiency
    g = [s(B) / s(1)]^2 says how many values count as one: n / g are independent.

    Parameters
    ----------
    values : (n,) float64
        At even intervals of time. Values that are not finite are dropped.

    Returns
    -------
    BlockError
        Mean and error in the unit of the values. No value: three NaN; one value: error and inefficiency
        NaN; a constant: error 0, inefficiency 1.

    References
    ----------
    H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989), DOI 10.1063/1.457480; choice of the
    block: R. M. Lee et al., Phys. Rev. E 83, 066706 (2011), DOI 10.1103/PhysRevE.83.066706.

    Examples
    --------
    >>> block_error([1.0, 3.0, 1.0, 3.0]).mean
    2.0
    """
    series = np.asarray(values, dtype=np.float64).ravel()
    series = series[np.isfinite(series)]
    n = len(series)
    if n == 0:
        return BlockError(np.nan, np.nan, np.nan)
    mean = float(series.mean())
    if n == 1:
        return BlockError(mean, np.nan, np.nan)
    plain = float(series.std(ddof=1) / np.sqrt(n))
    if plain <= 1e-14 * abs(mean):  # rounding of a constant
        return BlockError(mean, 0.0, 1.0)
    largest, length = plain, 1
    while n // length >= _MIN_BLOCKS:
        n_blocks = n // length
        blocks = series[: n_blocks * length].reshape(n_blocks, length).mean(axis=1)
        error = max(plain, float(blocks.std(ddof=1) / np.sqrt(n_blocks)))
        if length**3 > 2 * n * (error / plain) ** 4:
            return BlockError(mean, error, (error / plain) ** 2)
        largest = max(largest, error)
        length *= 2
    return BlockError(mean, largest, (largest / plain) ** 2)


class WeightedMean(NamedTuple):
    """A weighted mean, and the contribution of each value to its deviation; see `weighted_mean`.

    mean : of the values that count
    pulls : (n,) float64; their mean is 0, and its standard error is that of the weighted mean
    """

    mean: float
    pulls: NDArray[np.float64]

    @property
    def error(self) -> float:
        return block_error(self.pulls).standard_error if len(self.pulls) > 1 else nan


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> WeightedMean:
    """Mean of `values` by `weights`; values that are not finite or have no weight are left out."""
    counted = np.isfinite(values) & (weights > 0)
    weights = np.where(counted, weights, 0.0)
    if not counted.any():
        return WeightedMean(np.nan, np.full(len(values), np.nan))
    mean = float(weights @ np.where(counted, values, 0.0) / weights.sum())
    return WeightedMean(mean, weights * (np.where(counted, values, mean) - mean) / weights.mean())


# ---------------------------------------------------------------------------------- bootstrap


class Interval(NamedTuple):
    """Spread of an estimate over resampled runs; see `Bootstrap.interval`.

    error : standard deviation over the resamples
    low, high : confidence interval
    p : two-sided, of the estimate being 0
    """

    error: float
    low: float
    high: float
    p: float


NO_INTERVAL = Interval(nan, nan, nan, nan)


class Bootstrap:
    """Runs drawn with replacement, the same draws for everything that is compared.

    Parameters
    ----------
    n_runs : how many there are; below `FEW_RUNS` nothing is drawn
    n_resamples : how many sets of `n_runs` runs are drawn
    seed : the same seed gives the same draws
    confidence : of the intervals

    Attributes
    ----------
    counts : (n_resamples, n_runs) float64
        How often each run is in each resample; no rows below `FEW_RUNS` runs.
    """

    def __init__(
        self, n_runs: int, n_resamples: int = 5000, *, seed: int = 0, confidence: float = 0.95
    ) -> None:
        if n_resamples < 0:
            raise ValueError(f"The number of resamples must not be below 0, found {n_resamples}.")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, found {confidence}.")
        self.n_runs, self.confidence = n_runs, confidence
        drawn = n_resamples if n_runs >= FEW_RUNS else 0
        rng = np.random.default_rng(seed)
        self.counts = rng.multinomial(n_runs, np.full(n_runs, 1 / max(n_runs, 1)), drawn).astype(np.float64)

    def interval(self, samples: Floats) -> Interval:
        """Percentile interval of an estimate, widened for few runs, and the p that belongs to it.

        Percentiles of resampled means are too narrow for n runs, as normal quantiles with a standard
        deviation over n would be. The expanded interval takes instead of the share α/2 at each end
        Φ(-t sqrt(n / (n - 1))), with t the quantile of Student's distribution of n - 1 degrees of freedom.
        p is the α at which the interval ends at 0. It cannot fall below what the number of resamples and of
        runs allow: about 0.01 for 8 runs and 5000 resamples.

        Parameters
        ----------
        samples : (n_resamples,) estimate of every resample; NaN where it had none is left out

        Returns
        -------
        Interval
            NaN where fewer than nine of ten resamples have an estimate.

        References
        ----------
        T. C. Hesterberg, Am. Stat. 69, 371 (2015), DOI 10.1080/00031305.2015.1089789.
        """
        from scipy.special import ndtr, stdtrit

        found = samples[np.isfinite(samples)]
        if len(found) < max(0.9 * len(samples), 10):
            return NO_INTERVAL
        widening = sqrt(self.n_runs / (self.n_runs - 1))
        tail = float(ndtr(stdtrit(self.n_runs - 1, (1 - self.confidence) / 2) * widening))
        low, high = np.quantile(found, (tail, 1 - tail))
        beyond = int(min(np.count_nonzero(found <= 0), np.count_nonzero(found >= 0)))
        return Interval(float(found.std(ddof=1)), float(low), float(high), self._p(beyond, len(found)))

    @property
    def least_p(self) -> float:
        """The smallest possible p for this number of runs and resamples; NaN without resamples."""
        return self._p(0, len(self.counts)) if len(self.counts) else nan

    def _p(self, beyond: int, n: int) -> float:
        """Two-sided p of an estimate of which `beyond` of `n` resamples lie on the other side of 0."""
        from scipy.special import ndtri, stdtr

        share = min((beyond + 1) / (n + 1), 0.5)
        return 2 * float(stdtr(self.n_runs - 1, ndtri(share) / sqrt(self.n_runs / (self.n_runs - 1))))


# --------------------------------------------------------------------------------- regression


@dataclass(frozen=True)
class Regression:
    """Least squares of a metric against temperature with a change of line at T_g; see `slope_change`.

    glass_temperature : T_g of the step H
    coefficients, errors, p : (4,) a0 to a3, or (5,) with the coefficient of T^2 as the last
        Standard errors and two-sided p of the t-test.
    bootstrap : of a3, over runs
    n_rows, freedom : rows, and rows less coefficients
    residual : standard deviation of the residuals
    r_squared : share of the variance that the model takes up
    """

    glass_temperature: float
    coefficients: tuple[float, ...]
    errors: tuple[float, ...]
    p: tuple[float, ...]
    bootstrap: Interval
    n_rows: int
    freedom: int
    residual: float
    r_squared: float

    @property
    def change(self) -> float:
        """a3: slope above T_g less that below."""
        return self.coefficients[3]

    def values(self, temperature: ArrayLike, *, above: bool) -> Floats:
        """The line of one side, evaluated at any temperature."""
        t = np.asarray(temperature, dtype=np.float64)
        a = (*self.coefficients, 0.0)[:5]
        return np.asarray(a[0] + a[2] * above + (a[1] + a[3] * above) * t + a[4] * t**2)


def slope_change(
    temperature: ArrayLike,
    values: ArrayLike,
    glass_temperature: float,
    *,
    run: ArrayLike | None = None,
    square: bool = False,
    bootstrap: Bootstrap | None = None,
) -> Regression | None:
    """Test whether the slope of a metric against temperature changes at T_g, by Eq. 12 of the paper.

    Ordinary least squares over all rows of

        metric = a0 + a1 T + a2 H + a3 T H (+ a4 T^2),    H = 1 for T > T_g, else 0

    with T as it is, not centered: a0 and a1 are intercept (at T = 0) and slope of the glass, a0 + a2 and
    a1 + a3 those of the liquid. The interaction term a3 is the slope above T_g less the slope below. A metric
    that falls on cooling and levels off in the glass has a3 > 0. The two lines need not meet at T_g, and T_g
    enters through H alone: every value between two neighboring temperatures gives the same fit.

    The t-test takes rows as independent and equally scattered. Those of one run are not independent, and the
    hot liquid scatters more, so a3 is also estimated from runs drawn with replacement (all rows of a run
    together), which needs neither.

    A nonzero a3 shows that one line does not fit all temperatures. A smooth curve also has different slopes
    on the two sides of any temperature, so a small p shows neither that the slope changes at T_g rather than
    elsewhere (see `break_scan`) nor that it changes abruptly. With `square`, the model allows a uniform
    curvature, and a3 is the change of slope beyond it.

    Parameters
    ----------
    temperature, values : (n_rows,) float64, finite
    glass_temperature : T_g
    run : (n_rows,) integers from 0, which run a row is of; needed for `bootstrap`
    square : add the term a4 T^2
    bootstrap : draws of runs

    Returns
    -------
    Regression or None
        None if fewer than two temperatures lie on a side of T_g, no degree of freedom is left for the error,
        or (with `square`) temperatures are too few for five coefficients. p is NaN for a constant metric.

    References
    ----------
    K. Swanson, S. Trivedi, J. Lequieu, K. Swanson and R. Kondor, Soft Matter 16, 435 (2020),
    DOI 10.1039/C9SM01903K.

    Examples
    --------
    >>> T = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    >>> fit = slope_change(T, [1.0, 1.0, 1.1, 2.0, 3.1, 4.0], 0.35)
    >>> round(fit.change, 2), fit.p[3] < 0.01
    (9.5, True)
    """
    t, y = np.asarray(temperature, dtype=np.float64), np.asarray(values, dtype=np.float64)
    above = t > glass_temperature
    if len(np.unique(t[above])) < 2 or len(np.unique(t[~above])) < 2:
        return None
    # In units of the hottest, so that kelvin are as good as reduced units.
    scale = float(np.abs(t).max())
    x = t / scale
    columns = [np.ones_like(x), x, above.astype(np.float64), x * above]
    scales = np.array([1.0, scale, 1.0, scale])
    if square:
        columns.append(x**2)
        scales = np.append(scales, scale**2)
    design = np.column_stack(columns)
    freedom = len(y) - design.shape[1]
    basis, upper = np.linalg.qr(design)
    if freedom < 1 or np.abs(np.diag(upper)).min() < 1e-9 * np.abs(np.diag(upper)).max():
        return None
    back = np.linalg.inv(upper)
    projected = basis.T @ y
    coefficients = back @ projected / scales
    residuals = y - basis @ projected
    squares, total = float(residuals @ residuals), float(((y - y.mean()) ** 2).sum())
    if np.ptp(y) == 0:
        coefficients = np.zeros_like(coefficients)
        coefficients[0] = y[0]
        squares = 0.0
    variance = squares / freedom
    errors = np.sqrt(variance * (back**2).sum(axis=1)) / scales
    sampled = NO_INTERVAL
    if bootstrap is not None and run is not None:
        sampled = bootstrap.interval(_resampled_change(basis, back[3] / scales[3], y, run, bootstrap))
    return Regression(
        glass_temperature, tuple(coefficients.tolist()), tuple(errors.tolist()),
        tuple(_t_test(coefficients, errors, freedom, constant=np.ptp(y) == 0).tolist()),
        sampled, len(y), freedom, sqrt(variance), 1 - squares / total if total > 0 else nan,
    )  # fmt: skip


def _t_test(coefficients: Floats, errors: Floats, freedom: int, *, constant: bool) -> Floats:
    from scipy.special import stdtr

    if constant:
        return np.full(len(coefficients), nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * stdtr(freedom, -np.abs(coefficients / errors)))


def _resampled_change(basis: Floats, row: Floats, y: Floats, run: ArrayLike, bootstrap: Bootstrap) -> Floats:
    """a3 of every resample.

    Normal equations add up over runs; in the orthonormal basis of all rows they are well conditioned.
    """
    runs = np.asarray(run)
    n_runs, n_columns = bootstrap.n_runs, basis.shape[1]
    squares = np.zeros((n_runs, n_columns, n_columns))
    np.add.at(squares, runs, basis[:, :, None] * basis[:, None, :])
    products = np.zeros((n_runs, n_columns))
    np.add.at(products, runs, basis * y[:, None])
    left = np.tensordot(bootstrap.counts, squares, axes=1)
    right = bootstrap.counts @ products
    # Runs of few temperatures alone may leave a coefficient open.
    solvable = np.abs(np.linalg.det(left)) > 1e-9
    changes = np.full(len(left), nan)
    changes[solvable] = np.linalg.solve(left[solvable], right[solvable][..., None])[..., 0] @ row
    return changes


def break_scan(
    temperature: ArrayLike, values: ArrayLike, *, run: ArrayLike | None = None,
    bootstrap: Bootstrap | None = None, square: bool = False,
) -> list[Regression]:  # fmt: skip
    """`slope_change` with every possible T_g: midway between neighboring temperatures, two or more a side."""
    distinct = np.unique(np.asarray(temperature, dtype=np.float64))
    fits = (
        slope_change(temperature, values, float(middle), run=run, square=square, bootstrap=bootstrap)
        for middle in (distinct[1:] + distinct[:-1]) / 2
    )
    return [fit for fit in fits if fit is not None]


# ---------------------------------------------------------------------------------- two lines


class TwoLines(NamedTuple):
    """Two lines that meet; see `two_lines`. Each is a number, or (n,) for n sets of weights.

    temperature : where they meet
    level : value there
    below, above : slopes
    squares : weighted sum of squared residuals
    """

    temperature: Any
    level: Any
    below: Any
    above: Any
    squares: Any


def two_lines(temperature: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> TwoLines:
    """Find the best fit of two connected lines, exactly, without starting values or a grid.

    For every split of the temperatures both sides are fitted alone. Where the lines cross between the two
    temperatures at the split, this is the best break in that gap; otherwise the best one is at an end of the
    gap. So the minimum over all gaps and all inner temperatures is the least-squares solution.

    Parameters
    ----------
    temperature : (n_temperatures,) float64, rising; at least four
    values, weights : (n_temperatures,) or (n, n_temperatures) float64
        n problems at once. A weight of 0 leaves a temperature out, its value may be anything finite.

    Returns
    -------
    TwoLines
        NaN where fewer than four temperatures have weight.

    References
    ----------
    D. J. Hudson, J. Am. Stat. Assoc. 61, 1097 (1966), DOI 10.1080/01621459.1966.10482198.

    Examples
    --------
    >>> fit = two_lines([0.1, 0.2, 0.3, 0.4, 0.5], [1.0, 1.0, 1.0, 2.0, 4.0])
    >>> round(fit.temperature, 3), round(fit.above, 3)
    (0.35, 20.0)
    """
    t, y = np.asarray(temperature, dtype=np.float64), np.asarray(values, dtype=np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(t) < 4:
        raise ValueError(f"Two lines need at least four temperatures, found {len(t)}.")
    single = y.ndim == 1
    y, w = np.atleast_2d(y), np.atleast_2d(w)
    if not len(y):
        return TwoLines(*(np.zeros((5, 0))))
    middle, scale, origin = t.mean(), float(np.ptp(t)), float(y.mean())
    found = _two_lines((t - middle) / scale, y - origin, w)
    open_ = (w > 0).sum(axis=1) < 4
    columns = (
        middle + scale * found.temperature, origin + found.level, found.below / scale, found.above / scale,
        found.squares,
    )  # fmt: skip
    closed = [np.where(open_, nan, column) for column in columns]
    return TwoLines(*((float(column[0]) for column in closed) if single else closed))


def _two_lines(x: Floats, y: Floats, w: Floats) -> TwoLines:
    """As `two_lines`, of (n, n_temperatures) values; x of the order of 1."""
    terms = np.stack([w, w * x, w * x * x, w * y, w * x * y, w * y * y], axis=-1)
    left = np.cumsum(terms, axis=1)
    right = left[:, -1:] - left
    splits = slice(1, len(x) - 2)  # two or more temperatures a side
    with np.errstate(divide="ignore", invalid="ignore"):
        level_l, slope_l, squares_l = _line(left[:, splits])
        level_r, slope_r, squares_r = _line(right[:, splits])
        crossing = (level_r - level_l) / (slope_l - slope_r)
        inside = (crossing >= x[1:-2]) & (crossing <= x[2:-1])
        squares = np.where(inside, squares_l + squares_r, np.inf)
    # Lines that meet at an inner temperature z: level there, slope below, slope above.
    z = x[1:-1]
    count, sum_x, sum_xx, sum_y, sum_xy, sum_yy = np.moveaxis(
        np.stack([left[:, 1:-1], right[:, 1:-1]]), -1, 0
    )
    first = sum_x - z * count
    second = sum_xx - 2 * z * sum_x + z * z * count
    product = sum_xy - z * sum_y
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(second > 1e-12, first / second, 0.0)
        level = (sum_y - share * product).sum(axis=0) / (count - share * first).sum(axis=0)
        slopes = np.where(second > 1e-12, (product - level * first) / second, nan)
        at_nodes = (
            sum_yy - 2 * level * sum_y + level**2 * count - np.where(second > 1e-12, slopes**2 * second, 0)
        ).sum(axis=0)
    at_nodes = np.where(np.isfinite(slopes).all(axis=0) & np.isfinite(level), at_nodes, np.inf)
    everything = np.concatenate([squares, at_nodes], axis=1)
    best = np.argmin(everything, axis=1)
    rows = np.arange(len(best))

    def chosen(split: Floats, node: Floats) -> Floats:
        return np.asarray(np.concatenate([split, node], axis=1)[rows, best])

    with np.errstate(invalid="ignore"):
        met = level_l + slope_l * crossing
    return TwoLines(
        chosen(crossing, np.broadcast_to(z, at_nodes.shape)), chosen(met, level),
        chosen(slope_l, slopes[0]), chosen(slope_r, slopes[1]), np.maximum(everything[rows, best], 0.0),
    )  # fmt: skip


def _line(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Intercept, slope and sum of squares of a weighted line; NaN of fewer than two temperatures."""
    count, sum_x, sum_xx, sum_y, sum_xy, sum_yy = np.moveaxis(sums, -1, 0)
    spread = sum_xx - sum_x**2 / count
    product = sum_xy - sum_x * sum_y / count
    slope = np.where(spread > 1e-12, product / spread, nan)
    level = (sum_y - slope * sum_x) / count
    squares = np.maximum(sum_yy - sum_y**2 / count - slope * product, 0.0)
    return level, slope, squares


# ------------------------------------------------------------------------------------- nonlinear


def least_squares(
    residual: Callable[[Floats], Floats],
    jacobian: Callable[[Floats], Floats],
    start: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
) -> Floats:
    """Minimize the sum of squares of a few smooth functions of a few bounded parameters.

    The method is that of Levenberg and Marquardt with the damping of Nielsen (IMM-REP-1999-05); a step goes
    at most halfway to a bound. The minima are those of `scipy.optimize.least_squares`, whose import alone
    takes as long as labeling a frame of 33,000 atoms.

    residual, jacobian : of the parameters (n,), give (m,) and (m, n)
    start, low, high : (n,)
    Returns the parameters (n,); NaN if there is no minimum after 200 steps.
    """
    floor, ceiling = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    x, damping, growth = np.asarray(start, dtype=float), 1e-2, 2.0
    r, j = residual(x), jacobian(x)
    nothing = 1e-16 * (r @ r)
    for _ in range(200):
        least, most = (floor - x) / 2, (ceiling - x) / 2
        step, free = np.zeros(len(x)), np.ones(len(x), dtype=bool)
        while free.any():
            # The damped normal equations of the free parameters, as a least-squares problem with more rows.
            lengths = np.sqrt((j[:, free] ** 2).sum(axis=0))
            lengths[lengths == 0] = 1.0
            rows = np.vstack([j[:, free] / lengths, np.sqrt(damping) * np.eye(len(lengths))])
            goal = np.append(-r - j @ np.where(free, 0, step), np.zeros(len(lengths)))
            step[free] = np.linalg.lstsq(rows, goal)[0] / lengths
            beyond = free & ((step < least) | (step > most))
            if not beyond.any():
                break
            step, free = np.clip(step, least, most), free & ~beyond
        tried = residual(x + step)
        gain, expected = r @ r - tried @ tried, r @ r - ((r + j @ step) ** 2).sum()
        small = np.abs(step).max() < 1e-8 or abs(gain) <= 1e-10 * (r @ r) + nothing
        if gain > 0:
            x, r = x + step, tried
            j = jacobian(x)
            damping *= max(1 / 3, 1 - (2 * gain / expected - 1) ** 3) if expected > 0 else 1.0
            growth = 2.0
        else:
            damping, growth = damping * growth, 2 * growth
        if small:
            return x
    return np.full(len(x), nan)


# ---------------------------------------------------------------------------------- percentiles


def percentiles(values: ArrayLike, codes: ArrayLike) -> Floats:
    """Percentile, 0 to 100, of every atom among those of its own species.

    Equal values have the same percentile; a single atom, or one of many equal ones, has 50. NaN stays NaN
    and counts for no other atom.

    values : (n,); codes : (n,) integers, species of each atom

    >>> percentiles([0.1, 0.3, 0.2, 0.7], [0, 0, 0, 1]).round().tolist()
    [17.0, 83.0, 50.0, 50.0]
    """
    x, of = np.asarray(values, np.float64), np.asarray(codes)
    result = np.full(len(x), nan)
    known = np.isfinite(x)
    for code in np.unique(of):
        own = known & (of == code)
        ordered = np.sort(x[own])
        below = np.searchsorted(ordered, x[own], side="left")
        up_to = np.searchsorted(ordered, x[own], side="right")
        result[own] = 50 * (below + up_to) / max(len(ordered), 1)
    return result
