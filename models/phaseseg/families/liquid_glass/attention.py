"""Attention of a network: the cut that separates edges with high attention from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.liquid_glass.crops import Graphs
from phaseseg.fields import Bonds, Table

METRICS = ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a")
"""The counts that are compared between graphs; see `structural_metrics.GraphCounts`."""

# Points of the density, and the width of the Gaussian that smooths it, as a fraction of the range.
_POINTS = 256
_SMOOTHING = 1 / 30
# This fraction of the values is cut off at either end of the range.
_TAIL = 0.002
# Least relative drop of the density from the lower maximum to the trough.
LEAST_DEPTH = 0.25
# Least fraction of the values on each side of the trough: the end of a long tail is not a mode.
LEAST_SHARE = 0.02
# Without a trough, edges at or above this quantile are kept.
FALLBACK_QUANTILE = 0.8
# Logarithms that differ by less count as equal, because float32 has no more digits.
_SAME = 1e-5


# The cut ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trough:
    """Threshold from a distribution of attention; see `trough`.

    threshold : values at or above it are kept; infinity if all values are equal
    bimodal : whether it is a trough between two maxima; otherwise it is the quantile `FALLBACK_QUANTILE`
    depth : 1 minus the ratio of the densities in the trough and at the lower maximum; 0 with one maximum
    low, high : positions of the two maxima; equal if there is only one
    """

    threshold: float
    bimodal: bool
    depth: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """How the threshold was found."""
        if self.bimodal:
            return (
                f"The attention threshold is {self.threshold:.3g}, the trough between its maxima "
                f"at {self.low:.3g} and {self.high:.3g}."
            )
        if not np.isfinite(self.threshold):
            return "All edges have the same attention, so none is kept."
        return (
            "The distribution of attention has no trough, so the "
            f"{1 - FALLBACK_QUANTILE:.0%} of the edges with the highest attention are kept."
        )


def trough(values: ArrayLike) -> Trough:
    """Find the threshold between low and high attention: the trough in the distribution of its logarithm.

    The density of ln a is evaluated on a grid between quantiles near 0 and 1 and smoothed with a Gaussian.
    The trough lies between the highest maximum and the most prominent other one: it is the lowest point, or
    the middle of an empty range. The prominence of a maximum is its descent to the saddle before a higher
    one; relative to the height of the lower maximum it is the depth of the trough. If the depth is below
    `LEAST_DEPTH`, or less than `LEAST_SHARE` of the values lie on one side, the distribution counts as
    unimodal and the threshold is its quantile `FALLBACK_QUANTILE`.

    Repeating or permuting the values does not change the threshold, and scaling them scales it. With fewer
    than a few thousand values noise can look like a trough: combine the values of several windows.

    Parameters
    ----------
    values : attention of edges, not negative; zeros count as the smallest positive value

    Raises
    ------
    ValueError
        If there are no values, or if any is negative or not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = trough(np.exp(np.concatenate([rng.normal(-2, 0.4, 7000), rng.normal(1, 0.4, 3000)])))
    >>> found.bimodal, bool(-0.9 < np.log(found.threshold) < -0.1)
    (True, True)
    """
    a = np.asarray(values, dtype=np.float64).ravel()
    if not len(a):
        raise ValueError("there are no edges, so attention has no distribution.")
    if not np.isfinite(a).all() or a.min() < 0:
        raise ValueError("attention must be finite and not negative.")
    positive = a[a > 0]
    if not len(positive):
        return Trough(np.inf, False, 0.0, 0.0, 0.0)
    x = np.log(np.maximum(a, positive.min()))
    low, high = np.quantile(x, (_TAIL, 1 - _TAIL))
    if high - low < _SAME:
        low, high = x.min(), x.max()
    if high - low < _SAME:
        return Trough(np.inf, False, 0.0, float(np.exp(low)), float(np.exp(high)))
    density = _density(x, low, high)
    step = (high - low) / (_POINTS - 1)
    maxima, lowest, depth = _two_maxima(density)
    ends = [float(np.exp(low + step * (place - _MARGIN))) for place in maxima]
    if depth >= LEAST_DEPTH:
        # The vertex of the parabola through the lowest point and its neighbors may lie off the grid.
        before, here, after = density[lowest - 1 : lowest + 2]
        bend = before - 2 * here + after
        offset = 0.5 * (before - after) / bend if bend > 0 else 0.0
        cut = low + step * (lowest + offset - _MARGIN)
        if LEAST_SHARE <= np.mean(x < cut) <= 1 - LEAST_SHARE:
            return Trough(float(np.exp(cut)), True, depth, ends[0], ends[1])
    return Trough(float(np.quantile(a, FALLBACK_QUANTILE)), False, depth, ends[0], ends[1])


# Extra points beyond both ends, into which smoothing moves some of the density.
_MARGIN = round(5 * _SMOOTHING * _POINTS)


def _density(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """(256 + two margins,) smoothed; each value is distributed over its two nearest points."""
    place = (x - low) / (high - low) * (_POINTS - 1)
    # Rounding must not exclude the values at the ends.
    place = np.clip(place[(place > -_SAME) & (place < _POINTS - 1 + _SAME)], 0, _POINTS - 1)
    left = np.minimum(place.astype(np.int64), _POINTS - 2)
    right = place - left
    counts = np.bincount(left, 1 - right, _POINTS) + np.bincount(left + 1, right, _POINTS)
    sigma = _SMOOTHING * (_POINTS - 1)
    kernel = np.exp(-0.5 * (np.arange(-_MARGIN, _MARGIN + 1) / sigma) ** 2)
    density: NDArray[np.float64] = np.convolve(counts, kernel / (kernel.sum() * len(x)))
    return density


def _two_maxima(density: NDArray[np.float64]) -> tuple[tuple[int, int], int, float]:
    """Places of the highest maximum and of the most prominent other one, in order; the lowest place
    between them; the depth there.

    Places are visited by falling density. A place without visited neighbors starts a maximum. Where two
    maxima meet, the prominence of the lower one is known.
    """
    owner: dict[int, int] = {}
    descent, other = 0.0, -1

    def maximum(place: int) -> int:
        while owner[place] != place:
            place = owner[place]
        return place

    for place in np.argsort(-density, kind="stable").tolist():
        owner[place] = place
        for near in (place - 1, place + 1):
            if near not in owner:
                continue
            ends = maximum(place), maximum(near)
            higher, lower = sorted(ends, key=lambda end: -density[end])
            if lower != place and density[lower] - density[place] > descent:
                descent, other = float(density[lower] - density[place]), lower
            owner[lower] = higher
    highest = int(np.argmax(density))
    if other < 0:
        return (highest, highest), highest, 0.0
    first, last = sorted((highest, other))
    # If the density vanishes between the maxima, take the middle of the widest gap.
    between = density[first : last + 1]
    empty = np.flatnonzero(between <= between.min() + 1e-9 * density[other])
    gaps = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)
    widest = max(gaps, key=len)
    return (first, last), first + int(widest[len(widest) // 2]), descent / float(density[other])


# Edges and their graphs ---------------------------------------------------------------------------


def attention_bonds(graphs: Graphs, attention: NDArray[np.float32], is_b: NDArray[np.bool_]) -> Bonds:
    """Return the edges of one graph, each once, with the mean attention of both directions.

    graphs : of one configuration; attention : (n_edges,) of the directed edges; is_b : (n,) bool

    Bonds are sorted by the first particle, with `attention` (float32), `bb` (int8, both ends are B) and
    `length` (float32, σ).
    """
    edges = graphs.edges
    # Edges are sorted by their target, so the first of two directions leads to the lower particle.
    one = np.flatnonzero(np.arange(len(edges.neighbors)) < edges.reverse)
    to = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    atoms = np.stack([to[one], edges.neighbors[one].astype(np.int64)], axis=1)
    mean = np.float32(0.5) * (attention[one] + attention[edges.reverse[one]])
    shifts = edges.shifts[one]
    # For an edge to the particle's own image, keep the direction whose first nonzero shift is positive.
    own = np.flatnonzero(atoms[:, 0] == atoms[:, 1])
    if len(own):
        signs = np.sign(shifts[own])
        first = np.take_along_axis(signs, np.argmax(signs != 0, axis=1)[:, None], axis=1)
        shifts[own] *= np.where(first < 0, -1, 1).astype(np.int32)
    bb = (is_b[atoms[:, 0]] & is_b[atoms[:, 1]]).astype(np.int8)
    return Bonds(atoms, shifts, {"attention": mean, "bb": bb, "length": edges.lengths[one]})


def particle_attention(graphs: Graphs, attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) float32: mean attention of the edges at each particle, both directions counted; 0 without edges.

    attention : (n_edges,) of the directed edges
    """
    edges = graphs.edges
    both = 0.5 * (attention + attention[edges.reverse])
    counts = np.diff(edges.indptr)
    to = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(to, both, len(counts))
    return np.asarray(sums / np.maximum(counts, 1), dtype=np.float32)


# Liquid against glass -----------------------------------------------------------------------------


def compare(
    liquid: Mapping[str, ArrayLike],
    glass: Mapping[str, ArrayLike],
    runs: tuple[ArrayLike, ArrayLike] | None = None,
) -> Table:
    """Test with one-sided Wilcoxon tests whether counts are lower in the glass than in the liquid.

    Without runs, configurations count as independent and the rank-sum test (Wilcoxon, Mann and Whitney) is
    used. With runs, the liquid mean of each run is paired with its glass mean and the signed-rank test is
    used; runs with only one of the states are left out. Swanson et al. (DOI 10.48550/arXiv.1909.04648)
    compare attention graphs of liquid and glass with a one-sided Wilcoxon test.

    liquid, glass : counts of configurations by name, for example those of `METRICS`; the same names in both
    runs : the run of each configuration, for the liquid and for the glass

    Returns one row per name: means, numbers of configurations (of pairs, with runs), the test, its statistic
    and p. p = 1 if no pair differs.

    Raises
    ------
    ValueError
        If there are no configurations or no pairs.

    Examples
    --------
    >>> table = compare({"n_bb_edges": [30, 28, 35, 31, 33]}, {"n_bb_edges": [3, 5, 2, 4, 6]})
    >>> row = next(table.rows())
    >>> row["test"], round(row["p"], 4)
    ('rank sum', 0.004)
    """
    from scipy.stats import mannwhitneyu, wilcoxon

    rows: list[dict[str, Any]] = []
    for name in liquid:
        both = [np.asarray(numbers[name], float) for numbers in (liquid, glass)]
        for state, numbers in zip(("liquid", "glass"), both, strict=True):
            if not len(numbers):
                raise ValueError(f"{name}: there are no configurations of the {state}.")
        n_liquid, n_glass = map(len, both)
        if runs is None:
            test = "rank sum"
            statistic, p = mannwhitneyu(*both, alternative="greater")
        else:
            test = "signed rank"
            means = [
                {run: numbers[np.asarray(of) == run].mean() for run in np.unique(of).tolist()}
                for numbers, of in zip(both, runs, strict=True)
            ]
            paired = sorted(set(means[0]) & set(means[1]))
            if not paired:
                raise ValueError(f"{name}: no run has both liquid and glass, so nothing can be paired.")
            n_liquid = n_glass = len(paired)
            difference = np.array([means[0][run] - means[1][run] for run in paired])
            statistic, p = wilcoxon(difference, alternative="greater") if difference.any() else (0.0, 1.0)
        rows.append(
            {
                "metric": name, "liquid": both[0].mean(), "glass": both[1].mean(), "n_liquid": n_liquid,
                "n_glass": n_glass, "test": test, "statistic": float(statistic), "p": float(p),
            }
        )  # fmt: skip
    return Table.of_rows("Liquid against glass", rows)
