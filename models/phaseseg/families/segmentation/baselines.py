"""Baselines without a network: local composition, density thresholds and spatial bins.

Their thresholds are fitted to the training frames of a network. Methods that use a density take the interface
from their own threshold; methods with one number per atom smooth it in the same way as network scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.labels.density import DensityField
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.labels.threshold import measure_cuts, pooled_threshold
from phaseseg.families.segmentation.methods import BOUND, Method, Segmentation, WeakLabels, decode
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame

CUTOFF = 6.0
"""Å: neighbors within this distance count for the local composition, as in the paper's features."""
BIN = 8.5
"""Å: edge of the cubes in the space decomposition by the authors of the paper."""


def best_threshold(values: NDArray[np.floating[Any]], rich: NDArray[np.bool_]) -> float:
    """Return the threshold that misclassifies the fewest atoms if `values >= threshold` means rich.

    It lies halfway between two adjacent values. Among equally good thresholds, the middle one is returned.

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
    # A cut just below value k misclassifies the rich atoms below it and the poor atoms at or above it.
    wrong = np.concatenate([[0], np.cumsum(n_rich)]) + np.concatenate([np.cumsum(n_poor[::-1])[::-1], [0]])
    best = np.flatnonzero(wrong == wrong.min())
    k = int(best[len(best) // 2])
    if 0 < k < len(distinct):
        return float((distinct[k - 1] + distinct[k]) / 2)
    return float(distinct[0] if k == 0 else np.nextafter(distinct[-1], np.inf))


class _FractionCut:
    """Threshold on a fraction of the target species around each atom.

    target : names of the species
    threshold : fraction at or above which an atom is rich
    min_volume : Å^3, smallest rich domain that is kept
    """

    def __init__(self, target: Sequence[str], threshold: float, *, min_volume: float = 200.0) -> None:
        self.target, self.threshold, self.min_volume = tuple(target), threshold, min_volume

    def values(self, frame: Frame) -> NDArray[np.floating[Any]]:
        """Return the fraction of the target species around each atom, (n_atoms,)."""
        raise NotImplementedError

    def __call__(self, frame: Frame, widths: Sequence[float]) -> Segmentation:
        start = perf_counter()
        values = self.values(frame)
        score = BOUND * (values - values.dtype.type(self.threshold))
        return decode(frame, score, widths, min_volume=self.min_volume, start=start)


class NeighborFraction(_FractionCut):
    """Threshold on the fraction of the target species among the neighbors within 6 Å.

    This feature is one of the inputs of the paper's networks (S. Shakya and B. B. Karki, KDIR 2025,
    DOI 10.5220/0013709400004000). The atom itself does not count; without neighbors the fraction is 0.
    """

    @property
    def name(self) -> str:
        return f"{'+'.join(self.target)} fraction within {CUTOFF:g} Å"

    def values(self, frame: Frame) -> NDArray[np.float32]:
        """Return the fraction of the target species among the neighbors, (n_atoms,)."""
        names = frame.species_names
        config = NetworkConfig(
            names, tuple(name for name in self.target if name in names), features="counts", cutoff=CUTOFF
        )
        return np.ascontiguousarray(node_features(frame, frame.species, config)[:, len(names) + 3])


class CompositionBins(_FractionCut):
    """Threshold on the fraction of the target species in cubes of 8.5 Å; an atom has the phase of its cube.

    The authors of the paper used this decomposition in earlier work (S. Shakya et al., Sci. Rep. 14, 18739
    (2024), DOI 10.1038/s41598-024-69873-8, and their released scripts): 8 x 8 x 8 cubes in a cell of 68 Å,
    which are metal above a certain number of iron atoms. They omit intermediate cubes; here every cube is
    assigned to a phase. The edges are the divisors of the cell (of the extent of the atoms along open axes)
    closest to 8.5 Å.
    """

    name = f"bins of {BIN:g} Å"

    def values(self, frame: Frame) -> NDArray[np.float64]:
        """Return the fraction of the target species in the cube of each atom, (n_atoms,)."""
        frame = frame.reduced
        inverse = np.linalg.inv(frame.cell)
        fractions = (frame.positions - frame.origin) @ inverse
        heights = 1 / np.linalg.norm(inverse, axis=0)
        low, span = fractions.min(axis=0), np.maximum(np.ptp(fractions, axis=0), 1e-9)
        fractions = np.where(frame.pbc, fractions - np.floor(fractions), (fractions - low) / span)
        lengths = heights * np.where(frame.pbc, 1.0, span)
        counts = np.maximum(np.rint(lengths / BIN).astype(np.int64), 1)
        cubes = np.minimum((fractions * counts).astype(np.int64), counts - 1)
        flat = np.unique(cubes, axis=0, return_inverse=True)[1].ravel()  # numbers of cubes that contain atoms
        is_target = np.isin(frame.species_names, self.target)[frame.species]
        return np.asarray((np.bincount(flat, weights=is_target) / np.maximum(np.bincount(flat), 1))[flat])


class ConstantCut(WeakLabels):
    """Label rule with a fixed threshold of the smoothed density."""

    def __init__(self, rule: FixedRule, name: str = "") -> None:
        if isinstance(rule.threshold, str):
            raise ValueError(f"a constant cut needs a numerical threshold, found {rule.threshold!r}.")
        super().__init__(rule, name or f"constant cut, sigma {rule.sigma:g} Å")


class FrameCut(WeakLabels):
    """Label rule that determines the density threshold in each frame: steepest, two-means or midpoint.

    In frames with open axes only voxels inside the cell are used, because the density falls to zero beyond
    the open faces without an interface.
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
    """Crop a density to the cell of a frame with open axes, to find a threshold; islands stay as they are."""
    if density.lattice.islands is not None:
        return density
    frame, lattice, shape = frame.reduced, density.lattice, np.array(density.lattice.shape)
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


def fit_thresholds(frames: Iterable[Frame], rule: FixedRule, *, sigma: float = 1.5) -> dict[str, float]:
    """Fit the thresholds of the baselines to the training frames of a network.

    Parameters
    ----------
    frames : training frames; single-phase frames are skipped
    rule : rule of the labels to fit to, with a numerical threshold
    sigma : Å, Gaussian width of the density for the constant cut

    Returns
    -------
    dict
        `fraction` and `bins`: fractions of the target species that misclassify the fewest atoms;
        `density`: steepest threshold of all frames together at `sigma`; `sigma`.

    Raises
    ------
    ValueError
        If no frame contains two phases.
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
        raise ValueError("no frame contains two phases, so the baselines cannot be fitted.")
    rich, fractions, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    density = pooled_threshold(two, LabelRule(species=rule.species, sigma=sigma, field=rule.field).fixed())
    return {
        "fraction": best_threshold(fractions, rich),
        "bins": best_threshold(shares, rich),
        "density": float(density.threshold),
        "sigma": sigma,
    }


def baselines(rule: FixedRule, thresholds: Mapping[str, float]) -> list[Method]:
    """Return the methods to compare networks with: local composition, density thresholds, bins.

    rule : label rule; thresholds determined in each frame use its sigma, all methods use its `min_volume`
    thresholds : result of `fit_thresholds`
    """
    constant = LabelRule(
        species=rule.species, sigma=thresholds["sigma"], field=rule.field, threshold=thresholds["density"],
        min_volume=rule.min_volume, keep=rule.keep, bulk_distance=rule.bulk_distance,
    ).fixed()  # fmt: skip
    return [
        NeighborFraction(rule.species, thresholds["fraction"], min_volume=rule.min_volume),
        ConstantCut(constant),
        FrameCut(rule, "steepest"),
        FrameCut(rule, "two-means"),
        CompositionBins(rule.species, thresholds["bins"], min_volume=rule.min_volume),
    ]
