"""Choice of the cut through the density, and the verdict on one or two phases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.labels import field_kernels
from phaseseg.families.segmentation.labels.density import DensityField, density_field
from phaseseg.families.segmentation.rules import CLEAR_CONTRAST, MIN_CONTRAST, FixedRule, LabelRule
from phaseseg.fields import Message
from phaseseg.frame import Frame

BINS = 4096


BULK = 0.7
"""The bulk of a phase has the density that this fraction of its voxels does not reach, seen from the cut."""
MARGIN = 0.5
"""Largest part of the difference between the bulks over which the weight rises at either end."""
LOST = (0.92, 0.97)
"""Where leaving out the bulks lowers the difference of the two sides to this, one phase has no bulk."""
# The steepest cut is found in three or four rounds.
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of the voxels, sums of their values and of |grad|^4, in equal bins from `low` on."""

    low: float
    width: float
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def empty(cls, low: float, high: float, bins: int) -> Histogram:
        """A histogram without voxels that reaches from `low` to `high`."""
        return cls(low, (high - low) / bins, np.zeros(bins, dtype=np.int64), np.zeros(bins), np.zeros(bins))

    def sides(self, cut: float) -> tuple[float, float, float]:
        """Fraction of voxels above the cut, and the means below and above it (to within one bin)."""
        place = int(np.clip(round((cut - self.low) / self.width), 0, len(self.counts))) if self.width else 0
        below, above = self.counts[:place].sum(), self.counts[place:].sum()
        low = high = self.sums.sum() / self.counts.sum()
        if below and above:
            low, high = self.sums[:place].sum() / below, self.sums[place:].sum() / above
        return float(above / (below + above)), float(low), float(high)

    def add(self, density: DensityField) -> None:
        """Add the voxels of a density; values out of range go into the end bins."""
        values, lattice = density.grid.values, density.lattice
        if not self.width:
            self.counts[0] += values.size
            self.sums[0] += values.sum(dtype=np.float64)
            return
        metric = np.linalg.inv(lattice.steps @ lattice.steps.T)
        # Fourth powers would leave the range of float32 in some units. Powers of two change no bit of the
        # result.
        scale, per = (
            2.0 ** -np.frexp(max(float(array.max()), -float(array.min())))[1] for array in (values, metric)
        )

        def of_planes(first: int, stop: int) -> Histogram:
            part = Histogram.empty(self.low, self.low + self.width * len(self.counts), len(self.counts))
            field_kernels.slope_histogram(
                first, stop, values, scale, metric * per, lattice.wrap, self.low, self.width, part.counts,
                part.sums, part.weights,
            )  # fmt: skip
            return part

        for part in in_parts(of_planes, len(values), least=4, most=16):
            self.counts[:] += part.counts
            self.sums[:] += part.sums
            self.weights[:] += part.weights * (lattice.voxel_volume / (scale**4 * per**2))

    def steepest(self) -> float:
        """The density at which the field is steepest: its mean with the weight |grad|^4, without the bulks.

        The bulks have no part in it if they are smooth. The noise of atoms inside them has: its part m of the
        weight, which lies above the density of the rich bulk as well as below it, is twice what lies above
        (likewise for the poor bulk). With u the density on a scale from 0 in the poor bulk to 1 in the rich
        bulk, the weight is therefore multiplied by min(u, 1 - u) / m - 1/2, within 0 and 1. The bulks follow
        from the cut, and the cut from the bulks.

        A scarce phase without a bulk has slopes everywhere. Taken for noise, they would drive the cut into
        the other phase, with less difference between the two sides: all voxels count then.

        A field without slopes has its lowest value.
        """
        edges = self.low + self.width * np.arange(len(self.counts) + 1)
        means = self.sums / np.maximum(self.counts, 1)
        counts, weights = (np.concatenate([[0.0], np.cumsum(each)]) for each in (self.counts, self.weights))
        voxels, whole = counts[-1], weights[-1]
        if not whole > 0:
            return self.low
        cut = plain = float(self.weights @ means / whole)
        for _ in range(ROUNDS):
            below = np.interp(cut, edges, counts)
            poor, rich = np.interp([(1 - BULK) * below, below + BULK * (voxels - below)], counts, edges)
            under_poor, under_rich = np.interp([poor, rich], edges, weights)
            noise = min(2 * float(under_poor + whole - under_rich) / float(whole), MARGIN)
            to_bulk = np.minimum(means - poor, rich - means)
            part = np.clip(to_bulk / max(noise * float(rich - poor), 1e-30) - 0.5, 0.0, 1.0) * self.weights
            weight = float(part.sum())
            if not weight > 0:
                break
            cut, last = float(part @ means) / weight, cut
            if abs(cut - last) < 1e-3 * self.width:
                break
        (_, low, high), (_, poor, rich) = self.sides(plain), self.sides(cut)
        trust = np.interp((rich - poor) / max(high - low, 1e-30), LOST, (0.0, 1.0))
        return plain + float(trust) * (cut - plain)

    def best_split(self) -> int:
        """The bin edge of largest between-class variance (Otsu, DOI 10.1109/TSMC.1979.4310076)."""
        n, s = np.cumsum(self.counts)[:-1].astype(float), np.cumsum(self.sums)[:-1]
        return int(np.argmax(_between(n, s, float(self.counts.sum()), float(self.sums.sum())))) + 1


def _between(
    n: NDArray[np.float64], s: NDArray[np.float64], n_all: float, s_all: float
) -> NDArray[np.float64]:
    """Between-class variance (times a constant) when the n smallest values, of sum s, are one class."""
    rest = n_all - n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = n * rest * (s / n - (s_all - s) / rest) ** 2
    return np.where((n > 0) & (rest > 0), variance, -1.0)


def two_means(values: NDArray[np.float32], histogram: Histogram) -> float:
    """Cut of exact two-means: half way between the two class means of least within-class variance.

    The histogram's best edge locates the bins that contain the best split; every voxel in them is then
    tried, so the cut is exact. A constant field returns its value.
    """
    if histogram.width == 0:
        return histogram.low
    split, n_bins = histogram.best_split(), len(histogram.counts)
    first, last = max(split - 2, 0), min(split + 2, n_bins)
    flat = values.ravel()

    def in_bins(begin: int, end: int) -> NDArray[np.float32]:
        bins, room = (histogram.low, histogram.width, n_bins, first, last), 1024 + (end - begin) // 64
        while True:
            found = np.empty(room, dtype=np.float32)
            n = field_kernels.values_in_bins(begin, end, flat, *bins, found)
            if n <= room:
                return found[:n]
            room = n

    window = np.concatenate(in_parts(in_bins, flat.size, least=1 << 16))
    window.sort()
    counts = histogram.counts[:first].sum() + np.arange(len(window) + 1, dtype=float)
    sums = histogram.sums[:first].sum() + np.concatenate([[0.0], np.cumsum(window, dtype=float)])
    total, sum_total = float(histogram.counts.sum()), float(histogram.sums.sum())
    best = int(np.argmax(_between(counts, sums, total, sum_total)))
    mean_low = sums[best] / counts[best]
    mean_high = (sum_total - sums[best]) / (total - counts[best])
    return float((mean_low + mean_high) / 2)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Cuts that follow from the density of the frame itself.

    steepest : the density at which the field is steepest, which hardly depends on how much there is of
        each phase (`Histogram.steepest`)
    low, high : extremes of the field
    """

    steepest: float
    two_means: float
    low: float
    high: float
    histogram: Histogram
    counts_per_value: float  # atoms that a value of 1 means inside the kernel's volume

    @property
    def midpoint(self) -> float:
        """Midpoint between the extremes."""
        return (self.low + self.high) / 2

    @cached_property
    def mean(self) -> float:
        """Mean of the field over the voxels."""
        return float(self.histogram.sums.sum() / self.histogram.counts.sum())

    def choose(self, rule: LabelRule) -> float:
        """The cut that the rule asks for."""
        if not isinstance(rule.threshold, str):
            return float(rule.threshold)
        return float(getattr(self, rule.threshold.replace("-", "_")))

    def contrast(self, cut: float) -> float:
        """Difference of the two sides of a cut over their counting noise.

        With N the mean number of chosen atoms (or molecules) that the kernel counts on either side,
        (N_rich - N_poor) / sqrt(N_rich + N_poor + 1). A homogeneous liquid, cut anywhere, has its
        fluctuations as its two sides: below 1.2 even for random points. The 1 stands for the last atom:
        without it the empty space between the atoms of a dilute species would look like a phase. At a cut
        far from the steepest one, the rarest fluctuations are one side, so the steepest one counts, too.
        """
        found = []
        for level in (cut, self.steepest):
            _, poor, rich = self.histogram.sides(level) * np.array([1.0, *[self.counts_per_value] * 2])
            found.append(float((rich - poor) / np.sqrt(max(rich, 0.0) + max(poor, 0.0) + 1.0)))
        return min(found)


def measure_cuts(density: DensityField) -> Cuts:
    """Histogram, steepest and two-means cut of a density: three passes over the voxels."""
    values = density.grid.values
    low, high = float(values.min()), float(values.max())
    histogram = Histogram.empty(low, high, BINS)
    histogram.add(density)
    # Chosen atoms (or molecules) inside the kernel's volume where the field is 1.
    per_value = density.units_per_atom * density.kernel_volume
    if density.rule.field == "mole-fraction":
        per_value *= density.atom_density
    return Cuts(histogram.steepest(), two_means(values, histogram), low, high, histogram, per_value)


def pooled_threshold(frames: Iterable[Frame], rule: FixedRule) -> FixedRule:
    """The rule with one number as threshold: the cut of all frames taken together.

    This takes one extra pass over the frames. Steepest and two-means follow from a histogram of all voxels.

    Raises
    ------
    ValueError
        If there are no frames, or the rule already holds a number.
    """
    if not isinstance(rule.threshold, str):
        raise ValueError(
            f"a pooled threshold is found from the frames, but the threshold is {rule.threshold}."
        )
    low, high = np.inf, -np.inf
    histogram: Histogram | None = None
    for frame in filter(len, frames):
        density = density_field(frame, rule)
        values = density.grid.values
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        if histogram is None:
            # Twice the first frame's range; values out of range go into the end bins.
            middle, reach = (low + high) / 2, (high - low) or abs(high) or 1.0
            histogram = Histogram.empty(middle - reach, middle + reach, 16 * BINS)
        histogram.add(density)
    if histogram is None:
        raise ValueError("there are no frames to take a pooled threshold from.")
    _, *means = histogram.sides(histogram.low + histogram.best_split() * histogram.width)
    cut = Cuts(histogram.steepest(), sum(means) / 2, low, high, histogram, 1.0).choose(rule)
    return rule.replace(threshold=cut)


def verdict_sentence(contrast: float, n_phases: int) -> Message:
    """One sentence on the one-phase verdict: criterion, value and certainty."""
    low, high = CLEAR_CONTRAST
    number, code = ("One phase", "one-phase") if n_phases == 1 else ("Two phases", "two-phases")
    if contrast < low or contrast > high:
        sure = f"a clear case; two phases from {MIN_CONTRAST:g} on"
    else:
        sure = f"uncertain: from {low:g} to {high:g} the verdict can be wrong"
        code += "-uncertain"
    text = f"{number}: the two sides of the cut differ by {contrast:.2f} times the counting noise ({sure})."
    return Message(text, code)
