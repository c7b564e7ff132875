"""Species and sigma of the weak labels where they are left to the frame.

Sigma is a length of the liquid: so wide that the Gaussian counts about 34 atoms (or molecules) of the rich
phase. Narrower, the noise of single atoms roughens the interface; wider, the interface loses its shape. The
density of the rich phase is needed for that and is found self-consistently, starting wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import floor, log10, pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import Message
from phaseseg.families.segmentation.labels.density import (
    LIGHT,
    DensityField,
    count_units,
    density_field,
    smooth_grid,
)
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice, plan_lattice
from phaseseg.families.segmentation.labels.threshold import measure_cuts
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.frame import Frame

COUNTED = 34.0
"""Atoms or molecules of the rich phase within the volume (4 pi)^(3/2) sigma^3 of the Gaussian.

This is sigma = 0.915 density^(-1/3), calibrated on melts, water and argon (docs/weak-labels.md).
"""
# Sigma is found once it falls by less than this in a round, which takes three or four rounds.
TOLERANCE = 0.01
# Sigma falls no further where the rich phase holds less than the Gaussian counts (a few atoms in one place),
# or where the grid would have more voxels than this, per atom and in any case. A box around a single atom
# far away has 20,000 of them at any sigma.
FINEST_PER_ATOM, FINEST_PER_BOX, FINEST = 1000, 40_000, 100_000
# No liquid has more atoms per Å^3; it has 30 to 100 of them per nm^3.
DENSEST = 2.0
# Voxels of the grid for the estimate, in sigma.
VOXEL = 1.0
# The density of the bulk is the mean over the grid with the 24th power, 3 * 2^3, of a much smoother density
# as its weight, which leaves what is farthest from the surface. It hardly depends on how the grid lies.
BULK_DOUBLINGS, BULK_SMOOTHER = 3, 2.5
# A species that separates this much worse than the best still counts as equally good.
TIE = 0.9
# Of these, one whose interface is larger by more than this factor is rough.
ROUGH = 1.05


class Width(NamedTuple):
    """The automatic width for some species.

    sigma : Å, rounded to two digits, so that frames of one trajectory agree
    density : atoms or molecules per Å^3 (Å^2 in two dimensions) in the rich phase
    contrast : between the two phases at that width; limited : whether the cell is too small for the width
    counted : what the density counts, if not all atoms
    """

    species: tuple[str, ...]
    sigma: float
    density: float
    contrast: float
    limited: bool
    dimensions: int
    counted: str


class Measured:
    """Widths of species in a frame, and areas of their interfaces."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @property
    def residues(self) -> list[str]:
        """Names of the residues, if there are several."""
        found = self.frame.categories.get("residue")
        if found is None or len(found.names) < 2:
            return []
        return [found.names[code] for code in np.unique(found.codes)]

    def width(self, species: Sequence[str]) -> Width:
        """The automatic width for some species."""
        return width_of(self.frame, species)

    def area(self, width: Width) -> float:
        """Area of the interface for a species at its width, Å^2, on a coarse grid."""
        field = density_field(self.frame, coarse_rule(width.species, width.sigma))
        return Interface(field.grid.values, measure_cuts(field).steepest, field.lattice).area


def rule_of(frame: Frame, rule: LabelRule, measured: Measured | None = None) -> FixedRule:
    """Return the rule with the species and sigma of a frame where it leaves them open.

    measured : measures the frame

    Raises
    ------
    ValueError
        For a frame without atoms, and for a species that the frame does not have.
    """
    if _is_given(rule):
        return rule.fixed()
    if frame.n_atoms == 0:
        raise ValueError(f"{frame.error_prefix}the frame has no atoms, so there is nothing to label.")
    measured = measured or Measured(frame)
    messages, species = [], rule.species
    found: Width | None = None
    if not species:
        species, found, text = _choose_species(frame, measured)
        if text:
            messages.append(Message(text, "automatic-species"))
    if rule.sigma != "auto":
        return rule.fixed(species, messages=messages)
    found = found or measured.width(species)
    messages.append(Message(_sentence(frame, found), "automatic-sigma"))
    if frame.units == "metal" and found.dimensions == 3 and found.density > DENSEST:
        many = f"{found.density:.3g} {found.counted or 'atoms '}per Å^3"
        text = (
            f"No liquid has {many}: lengths in the file are not in Å, and those given here are in its unit."
        )
        messages.append(Message(text, "no-angstrom"))
    return rule.fixed(species, found.sigma, messages)


def _is_given(rule: LabelRule) -> bool:
    """Whether the rule leaves nothing to a frame."""
    return bool(rule.species) and rule.sigma != "auto"


def rule_for(frames: Iterable[Frame], rule: LabelRule) -> tuple[FixedRule, Iterator[Frame]]:
    """Return the rule for a trajectory, as its first frame with atoms determines it, and all frames."""
    every = iter(frames)
    if _is_given(rule):
        return rule.fixed(), every
    seen: list[Frame] = []
    for frame in every:
        seen.append(frame)
        if frame.n_atoms:
            return rule_of(frame, rule), chain(seen, every)
    return rule.fixed(rule.species or ("Fe",), FixedRule.sigma), iter(seen)


def width_of(frame: Frame, species: Sequence[str]) -> Width:
    """Find the width at which the Gaussian counts `COUNTED` atoms or molecules of the rich phase.

    ValueError for a periodic cell so thin that no liquid fits into it.
    """
    chosen = frame.species_mask(species)
    per_atom = count_units(frame, chosen) / int(chosen.sum())
    frame, has_molecules = frame.reduced, frame.molecules is not None
    atoms = frame.replace(fields={}, categories={}, molecules=None).take(chosen)

    def density(rule: FixedRule, lattice: Lattice) -> tuple[DensityField, NDArray[np.float32]]:
        counts = np.empty(lattice.shape, dtype=np.float32)
        return density_field(atoms, rule, lattice, counts), counts

    return find_width(frame, species, atoms, per_atom, density, has_molecules=has_molecules)


def coarse_rule(species: Sequence[str], sigma: float) -> FixedRule:
    """The rule of the density from which a width is estimated."""
    return LabelRule(tuple(species), sigma, VOXEL * sigma).fixed()


def find_width(
    frame: Frame, species: Sequence[str], atoms: Frame, per_atom: float,
    density: Callable[[FixedRule, Lattice], tuple[DensityField, NDArray[np.float32]]], *,
    has_molecules: bool = False, free: float | None = None,
) -> Width:  # fmt: skip
    """`width_of` from the density of the atoms.

    atoms : those of the species; per_atom : units that move independently, for each
    density : of the atoms on a grid, and the grid before it is smoothed
    free : as for `plan_lattice`
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    flat = np.array([frame.is_flat(axis) for axis in range(3)])
    flat &= flat.sum() == 1
    limit = float(np.where(frame.pbc & ~flat, heights / 2, np.inf).min())
    wanted = _start(atoms, heights, per_atom, flat)
    # Only narrower from round to round: at a surface, a wider Gaussian sees a lower density without end.
    while True:
        sigma = min(wanted, limit)
        rule = coarse_rule(atoms.species_names, sigma)
        lattice = plan_lattice(atoms, rule, choose="sigma", free=free)
        field, counts = density(rule, lattice)
        cuts = measure_cuts(replace(field, units_per_atom=per_atom))
        thin = lattice.flat
        found = _bulk(field, counts) * per_atom * float(np.prod(heights[thin]))
        dimensions = 3 - int(thin.sum())
        wanted = _sigma(found, dimensions)
        rich = field.grid.values[field.grid.values >= cuts.steepest]
        small = float(rich.sum(dtype=float)) * lattice.voxel_volume * per_atom < COUNTED
        islands = lattice.islands
        boxes = 0 if islands is None else FINEST_PER_BOX * len(islands.size)
        fine = field.grid.values.size > max(FINEST, FINEST_PER_ATOM * len(atoms)) + boxes
        if fine and wanted > limit:
            raise ValueError(
                f"{frame.error_prefix}the cell is only {2 * limit:.3g} {frame.length_unit} thick, and half "
                "of that is the largest sigma. Repeat the cell along its shortest axis."
            )
        if wanted > (1 - TOLERANCE) * sigma or small or fine:
            contrast = cuts.contrast(cuts.steepest)
            rounded = _rounded(sigma, limit)
            counted = "" if per_atom == 1 else "molecules " if has_molecules else "atoms without hydrogen "
            return Width(tuple(species), rounded, found, contrast, wanted > limit, dimensions, counted)


def _start(atoms: Frame, heights: NDArray[np.float64], per_atom: float, flat: NDArray[np.bool_]) -> float:
    """Sigma for the mean density, with the extent of the atoms along open axes."""
    size = heights
    if not atoms.pbc.all():
        fractions = (atoms.positions - atoms.origin) @ np.linalg.inv(atoms.cell)
        size = np.where(atoms.pbc, heights, np.ptp(fractions, axis=0) * heights)
    size = size[~flat]
    # A single atom, or atoms on a line or in a plane, have no extent along some axes.
    size = np.maximum(size, 0.1 * size.max()) if size.max() > 0 else heights[~flat]
    return _sigma(per_atom * atoms.n_atoms / float(size.prod()), len(size))


def _sigma(density: float, dimensions: int) -> float:
    return float((COUNTED / max(density, 1e-30)) ** (1 / dimensions) / np.sqrt(4 * pi))


def _bulk(field: DensityField, counts: NDArray[np.float32]) -> float:
    """Density in the bulk of the rich phase from the atoms that were added to the grid of a field."""
    lattice = field.lattice
    wide = smooth_grid(counts.copy(), lattice, BULK_SMOOTHER * field.rule.sigma)
    highest, weighted, total = max(float(wide.max()), 1e-30), 0.0, 0.0
    for plane, weight in zip(counts, wide, strict=True):  # which stay in the cache
        weight /= highest
        np.maximum(weight, 0, out=weight)
        weight *= weight * weight
        for _ in range(BULK_DOUBLINGS):  # much faster than a power
            weight *= weight
        weighted += float((plane * weight).sum(dtype=float))
        total += float(weight.sum(dtype=float))
    return weighted / total / lattice.voxel_volume


def _choose_species(frame: Frame, measured: Measured) -> tuple[tuple[str, ...], Width | None, str]:
    """Return the species whose density separates best, its width if it was measured, and a sentence."""
    counts = frame.species_counts.tolist()
    present = [name for name, n in zip(frame.species_names, counts, strict=True) if n]
    if "Fe" in present:
        return ("Fe",), None, ""
    candidates = [name for name in present if name not in LIGHT] or present
    candidates += [f"residue:{name}" for name in measured.residues]
    if len(candidates) == 1:
        return (candidates[0],), None, f"The labels follow the density of {candidates[0]}."
    widths = sorted((measured.width((name,)) for name in candidates), key=lambda w: -w.contrast)
    good = [width for width in widths if width.contrast >= TIE * widths[0].contrast]
    if len(good) > 1:
        # Atoms of one molecule are no independent atoms, which shows in a rougher interface.
        areas = [measured.area(width) for width in good]
        good = [w for w, area in zip(good, areas, strict=True) if area <= ROUGH * min(areas)]
    best = min(good, key=lambda width: width.sigma)
    other = next(width for width in widths if width is not best)
    text = (
        f"The labels follow the density of {best.species[0]}, which separates best (contrast "
        f"{best.contrast:.1f}; next is {other.species[0]} with {other.contrast:.1f})."
    )
    return best.species, best, text


def _rounded(sigma: float, limit: float) -> float:
    """Two digits, but not above the limit."""
    step = 10.0 ** (floor(log10(sigma)) - 1)
    number = round(sigma / step)
    return float(f"{(number if number * step <= limit else floor(limit / step)) * step:.6g}")


def _sentence(frame: Frame, found: Width) -> str:
    length = frame.length_unit
    what = "+".join(found.species)
    if found.limited:
        return (
            f"Sigma is {found.sigma:g} {length}, the largest that the cell permits; the density of {what} "
            "asks for a wider one. Repeat the cell, or use a larger one."
        )
    return (
        f"Sigma is {found.sigma:g} {length}, which follows from the density of {what} in the rich phase "
        f"({found.density:.3g} {found.counted}per {length}^{found.dimensions})."
    )
