"""Methods without a network, to compare one with: local composition, cuts of the density, bins.

Their thresholds are fitted to the frames that a network is trained on. A method that has a density takes
the boundary from its own cut; one that only has a number per atom smooths it as the scores of networks are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.inference import node_features
from phaseseg.families.segmentation.labels.density import DensityField
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.labels.threshold import measure_cuts, pooled_threshold
from phaseseg.families.segmentation.methods import BOUND, Method, Segmentation, WeakLabels, decode
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame

CUTOFF = 6.0
"""Å: of the neighbors whose composition is judged, as in the paper's features."""
BIN = 8.5
"""Å: of the space decomposition by the authors of the paper."""


def best_threshold(values: NDArray[np.floating[Any]], rich: NDArray[np.bool_]) -> float:
    """The threshold that puts the fewest atoms on the wrong side if `values >= threshold` means rich.

    It lies half way between two neighboring values. Of several equally good thresholds it is the middle one.

    Examples
    --------
    >>> best_threshold(np.array([0.1, 0.2, 0.6, 0.8]), np.array([False, False, True, True]))
    0.4
    """
    if not len(values):
        raise ValueError("there are no atoms to fit a threshold to.")
    distinct, place = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
    n_rich = np.bincount(place, weights=rich, minlength=len(distinct))
    n_poor = np.bincount(place, minlength=len(distinct)) - n_rich
    # With the cut below the value k: all rich ones below it and all poor ones from it on are wrong.
    wrong = np.concatenate([[0], np.cumsum(n_rich)]) + np.concatenate([np.cumsum(n_poor[::-1])[::-1], [0]])
    best = np.flatnonzero(wrong == wrong.min())
    k = int(best[len(best) // 2])
    if 0 < k < len(distinct):
        return float((distinct[k - 1] + distinct[k]) / 2)
    return float(distinct[0] if k == 0 else np.nextafter(distinct[-1], np.inf))


class _FractionCut:
    """Threshold on a fraction of the target species around each atom.

    target : names of the species
    threshold : fraction from which on an atom is rich
    min_volume : Å^3, of the smallest rich domain
    """

    def __init__(self, target: Sequence[str], threshold: float, *, min_volume: float = 200.0) -> None:
        self.target, self.threshold, self.min_volume = tuple(target), threshold, min_volume

    def values(self, frame: Frame) -> NDArray[np.floating[Any]]:
        """(n_atoms,) fraction of the target."""
        raise NotImplementedError

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        start = perf_counter()
        values = self.values(frame)
        score = BOUND * (values - values.dtype.type(self.threshold))
        return decode(frame, score, widths, min_volume=self.min_volume, start=start)


class NeighborFraction(_FractionCut):
    """Threshold on the fraction of the target species among the neighbors within 6 Å.

    The simplest use of a feature that the paper gives its networks (S. Shakya and B. B. Karki, KDIR 2025,
    DOI 10.5220/0013709400004000). The atom itself does not count; without neighbors the fraction is 0.
    """

    @property
    def name(self) -> str:
        return f"{'+'.join(self.target)} fraction within {CUTOFF:g} Å"

    def values(self, frame: Frame) -> NDArray[np.float32]:
        """(n_atoms,) fraction of the target among the neighbors."""
        names = frame.species_names
        config = NetworkConfig(
            names, tuple(name for name in self.target if name in names), features="counts", cutoff=CUTOFF
        )
        return np.ascontiguousarray(node_features(frame, frame.species, config)[:, len(names) + 3])


class CompositionBins(_FractionCut):
    """Threshold on the fraction of the target species in cubes of 8.5 Å; an atom has the phase of its cube.

    The authors of the paper used this decomposition of space before (S. Shakya et al., Sci. Rep. 14, 18739
    (2024), DOI 10.1038/s41598-024-69873-8, and their released scripts: 8 x 8 x 8 cubes in a cell of 68 Å,
    metal from a certain number of iron atoms). They leave intermediate cubes out; here every cube is
    decided. The edges are those nearest to 8.5 Å that divide the cell, or the extent of the atoms along open
    axes.
    """

    name = f"bins of {BIN:g} Å"

    def values(self, frame: Frame) -> NDArray[np.float64]:
        """(n_atoms,) fraction of the target in the cube of each atom."""
        inverse = np.linalg.inv(frame.cell)
        fractions = (frame.positions - frame.origin) @ inverse
        heights = 1 / np.linalg.norm(inverse, axis=0)
        low, span = fractions.min(axis=0), np.maximum(np.ptp(fractions, axis=0), 1e-9)
        fractions = np.where(frame.pbc, fractions - np.floor(fractions), (fractions - low) / span)
        lengths = heights * np.where(frame.pbc, 1.0, span)
        counts = np.maximum(np.rint(lengths / BIN).astype(np.int64), 1)
        cubes = np.minimum((fractions * counts).astype(np.int64), counts - 1)
        flat = np.ravel_multi_index(tuple(cubes.T), tuple(counts))
        is_target = np.isin(frame.species_names, self.target)[frame.species]
        return np.asarray((np.bincount(flat, weights=is_target) / np.maximum(np.bincount(flat), 1))[flat])


class ConstantCut(WeakLabels):
    """Cut of the smoothed density at a number: a label rule that knows its threshold beforehand."""

    def __init__(self, rule: LabelRule, name: str = "") -> None:
        if isinstance(rule.threshold, str):
            raise ValueError(f"a constant cut needs a number as threshold, found {rule.threshold!r}.")
        super().__init__(rule, name or f"constant cut, sigma {rule.sigma:g} Å")


class FrameCut(WeakLabels):
    """Cut of the smoothed density that is found in the frame itself: steepest, two-means or midpoint.

    In an open frame it is found from the voxels inside the cell alone, because the density falls to zero
    beyond the open faces, where there is no interface.
    """

    def __init__(self, rule: LabelRule, threshold: str, name: str = "") -> None:
        super().__init__(rule.replace(threshold=threshold), name or f"{threshold} cut of the frame")

    def of_density(
        self, frame: Frame, density: DensityField, widths: Sequence[float], start: float | None = None
    ) -> Segmentation:
        if frame.pbc.all():
            return super().of_density(frame, density, widths, start)
        cut = measure_cuts(_inside_cell(frame, density)).choose(self.rule)
        return WeakLabels(self.rule.replace(threshold=cut)).of_density(frame, density, widths, start)


def _inside_cell(frame: Frame, density: DensityField) -> DensityField:
    """The part of a density inside the cell of a frame with open axes; only used to find a cut."""
    lattice, shape = density.lattice, np.array(density.lattice.shape)
    start = (frame.origin - lattice.origin) @ np.linalg.inv(lattice.cell) * shape
    lengths = shape * np.linalg.norm(frame.cell, axis=1) / np.linalg.norm(lattice.cell, axis=1)
    first = np.where(lattice.wrap, 0, np.clip(np.ceil(start), 0, shape - 1)).astype(np.int64)
    end = np.where(lattice.wrap, shape, np.clip(np.floor(start + lengths) + 1, first + 1, shape))
    values = np.ascontiguousarray(density.grid.values[tuple(map(slice, first, end.astype(np.int64)))])
    n0, n1, n2 = values.shape
    steps, wrap = lattice.steps * np.array(values.shape)[:, None], lattice.wrap & (values.shape == shape)
    part = Lattice((n0, n1, n2), steps, lattice.origin, wrap, lattice.flat)
    return replace(density, grid=replace(density.grid, values=values), lattice=part)


# ------------------------------------------------------------------------------------ the usual set


def fit_thresholds(frames: Iterable[Frame], rule: LabelRule, *, sigma: float = 1.5) -> dict[str, float]:
    """Thresholds of the baselines, from the frames that a network is trained on.

    Parameters
    ----------
    frames : frames of one phase are skipped
    rule : of the labels that the thresholds are fitted to, with a number as threshold
    sigma : Å, of the constant cut of the density

    Returns
    -------
    dict
        `fraction` and `bins`: the fractions of the target species that put the fewest atoms on the wrong
        side; `density`: the steepest cut of all frames at `sigma`; `sigma`.

    Raises
    ------
    ValueError
        If no frame holds two phases.
    """
    labels = WeakLabels(rule)
    fraction, bins = NeighborFraction(rule.species, 0.5), CompositionBins(rule.species, 0.5)
    two, found = [], []
    for frame in frames:
        segmentation = labels(frame, (rule.boundary_width,))
        if segmentation.n_phases == 2:
            two.append(frame)
            found.append((segmentation.rich, fraction.values(frame), bins.values(frame)))
    if not two:
        raise ValueError("no frame holds two phases, so the baselines cannot be fitted.")
    rich, fractions, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    density = pooled_threshold(two, LabelRule(species=rule.species, sigma=sigma, field=rule.field))
    return {
        "fraction": best_threshold(fractions, rich),
        "bins": best_threshold(shares, rich),
        "density": float(density.threshold),
        "sigma": sigma,
    }


def baselines(rule: LabelRule, thresholds: Mapping[str, float]) -> list[Method]:
    """The methods that networks are compared with: local composition, cuts of the density, bins.

    rule : of the labels; the cuts that are found in a frame use its sigma, all methods its `min_volume`
    thresholds : of `fit_thresholds`
    """
    constant = LabelRule(
        species=rule.species, sigma=thresholds["sigma"], field=rule.field, threshold=thresholds["density"],
        min_volume=rule.min_volume, keep=rule.keep, bulk_distance=rule.bulk_distance,
    )  # fmt: skip
    return [
        NeighborFraction(rule.species, thresholds["fraction"], min_volume=rule.min_volume),
        ConstantCut(constant),
        FrameCut(rule, "steepest"),
        FrameCut(rule, "two-means"),
        CompositionBins(rule.species, thresholds["bins"], min_volume=rule.min_volume),
    ]
