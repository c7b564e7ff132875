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
"""The numbers of a graph of edges that are compared; see `metrics.GraphCounts`."""

# Points of the density, and the width of the Gaussian that smooths it, in shares of the range.
_POINTS = 256
_SMOOTHING = 1 / 30
# This fraction of the values is cut off at either end of the range.
_TAIL = 0.002
# A trough is one if the density in it is so much lower than at the lower of its two maxima.
LEAST_DEPTH = 0.25
# And if so large a share of the values lies on either side of it: the last few of a long tail are no mode.
LEAST_SHARE = 0.02
# Where there is no trough, the edges from this quantile on are kept.
FALLBACK_QUANTILE = 0.8
# Values that differ by less do not differ, in logarithms: float32 has no more digits.
_SAME = 1e-5


# The cut ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trough:
    """The cut of a distribution of attention; see `trough`.

    threshold : values at or above it are kept; infinity where all values are the same and none stands out
    bimodal : whether it is a trough between two maxima; else it is the quantile `FALLBACK_QUANTILE`
    depth : 1 minus the density in the trough over that at the lower of the two maxima; 0 with one maximum
    low, high : the two maxima that were looked between; the only one twice
    """

    threshold: float
    bimodal: bool
    depth: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """How the cut was found."""
        if self.bimodal:
            return (
                f"Attention is cut at {self.threshold:.3g}, the trough between its maxima at {self.low:.3g} "
                f"and {self.high:.3g}."
            )
        if not np.isfinite(self.threshold):
            return "Attention is the same on all edges, so none of them stands out."
        return (
            "Attention has one maximum and no trough to be cut at; the "
            f"{1 - FALLBACK_QUANTILE:.0%} of the edges with the highest are kept."
        )


def trough(values: ArrayLike) -> Trough:
    """The cut between low and high attention: the trough of the distribution of its logarithm.

    The density of ln a is taken on 256 points between its quantiles 0.002 and 0.998 and smoothed with a
    Gaussian of 1/30 of that range. Maxima are ranked by how far one has to go down from them to come to a
    higher one. Between the highest maximum and the one of the greatest such descent lies the trough: the
    lowest point, or the middle of what is empty. The descent over the height of the lower maximum is its
    depth. Below a depth of `LEAST_DEPTH`, or with less than `LEAST_SHARE` of the values on one side, the
    distribution counts as one of a single maximum and is cut at its quantile `FALLBACK_QUANTILE`.

    The cut is that of the distribution alone: values repeated, in another order or times a factor have the
    same (times the factor). Of fewer than some thousand values noise can look like a trough: put together
    those of several windows.

    Parameters
    ----------
    values : attention of edges, not negative; zeros count as the least that is positive

    Raises
    ------
    ValueError
        No values, negative ones, or ones that are not finite.

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
        # The vertex of the parabola through the lowest point and its neighbors, which may lie between points.
        before, here, after = density[lowest - 1 : lowest + 2]
        bend = before - 2 * here + after
        offset = 0.5 * (before - after) / bend if bend > 0 else 0.0
        cut = low + step * (lowest + offset - _MARGIN)
        if LEAST_SHARE <= np.mean(x < cut) <= 1 - LEAST_SHARE:
            return Trough(float(np.exp(cut)), True, depth, ends[0], ends[1])
    return Trough(float(np.quantile(a, FALLBACK_QUANTILE)), False, depth, ends[0], ends[1])


# Points beyond either end, where smoothing brings some of the density.
_MARGIN = round(5 * _SMOOTHING * _POINTS)


def _density(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """(256 + two margins,) smoothed; each value is distributed over its two nearest points."""
    place = (x - low) / (high - low) * (_POINTS - 1)
    # Rounding must not throw out the values at the ends.
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

    Places are taken by falling density. One without a neighbor starts a maximum. Where two maxima meet, the
    prominence of the lower one is known.
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
    # Where nothing is between the maxima, the middle of the widest gap.
    between = density[first : last + 1]
    empty = np.flatnonzero(between <= between.min() + 1e-9 * density[other])
    gaps = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)
    widest = max(gaps, key=len)
    return (first, last), first + int(widest[len(widest) // 2]), descent / float(density[other])


# Edges and their graphs ---------------------------------------------------------------------------


def attention_bonds(graphs: Graphs, attention: NDArray[np.float32], is_b: NDArray[np.bool_]) -> Bonds:
    """The edges of one graph, each once, with the mean attention of their two directions.

    graphs : of one configuration; attention : (n_edges,) of the directed edges; is_b : (n,) bool

    Bonds are sorted by the first particle, with `attention` (float32), `bb` (int8, both ends are B) and
    `length` (float32, σ).
    """
    edges = graphs.edges
    # Edges are sorted by where they lead: of two directions the first leads to the lower particle.
    one = np.flatnonzero(np.arange(len(edges.neighbors)) < edges.reverse)
    to = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    atoms = np.stack([to[one], edges.neighbors[one].astype(np.int64)], axis=1)
    mean = np.float32(0.5) * (attention[one] + attention[edges.reverse[one]])
    shifts = edges.shifts[one]
    # Of an edge to an own image both directions are as good: the one whose first step is forward.
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
    """One-sided Wilcoxon tests of whether counts are lower in the glass than in the liquid.

    Without runs the configurations count as independent, and the test is that of rank sums (Wilcoxon, Mann
    and Whitney). With runs the mean of a run's liquid is paired with that of its glass, and the test is that
    of signed ranks; runs of which one of the two is missing are left out. The alternative is always that the
    glass has less. In Swanson et al. (DOI 10.48550/arXiv.1909.04648) attention graphs of liquid and glass are
    compared by a one-sided Wilcoxon test.

    liquid, glass : the numbers of configurations by name, for example those of `METRICS`; the same names
    runs : the run of each configuration, of the liquid and of the glass

    Gives a row for each name: means, numbers of configurations (of pairs, with runs), the test, its statistic
    and p. Where no number differs from its partner p = 1.

    Raises
    ------
    ValueError
        No configurations, or no pairs.

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
