"""Scores on a grid: smoothed between the atoms, and lowered toward the free surfaces of a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.labels import density_kernels, field_kernels
from phaseseg.families.segmentation.labels.density import Field, at_voxels, smooth_grid, smoothed_density
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms, plan_lattice
from phaseseg.families.segmentation.labels.voids import BULK_QUANTILE, Matter, find_matter, interpolated
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.fields import Grid
from phaseseg.frame import Frame

# Scores are not extrapolated to voxels whose density is below this fraction of the median at the atoms.
VOID_DENSITY = 1e-3
# Occupancy of an atom at least: the outermost atoms of a rich liquid stay rich although the smoothed surface
# lies below them. Of 0, 0.55, 0.6 and 0.7, this one puts the fewest atoms on another side than the labels do.
LEAST_OCCUPANCY = 0.55
# Scores closer than this to that of the bulk, as a fraction, mean any distance.
BULK_SHARE = 0.995
# Fractions of the density of the rich phase between which labels are expected to cut, and rounds to find the
# fraction, which changes the densities that belong to the scores.
CUT_FRACTIONS, CUT_ROUNDS = (0.2, 0.8), 10


@dataclass(frozen=True, eq=False)
class ScoreField(Field):
    """Scores smoothed into a field.

    scores : (n_atoms,) float32, Å; of the sorted atoms
    matter : where the voids are, if there are any
    near_surface : fraction of atoms within the cutoff of the free surface
    """

    scores: NDArray[np.float32]
    matter: Matter | None = None
    near_surface: float = 0.0


def score_field(
    frame: Frame, score: NDArray[np.float32], *, sigma: float, voxel: float, bound: float,
    curvature: bool = False,
) -> ScoreField:  # fmt: skip
    """Smooth atomic scores into a field: a local-linear average with a Gaussian of width sigma (Å).

    With the Gaussian G, den = sum G(r - r_i) and f0 = sum s_i G(r - r_i) / den, the field is the solution of
    f = f0 - sigma^2 grad f . grad ln den to second order. It reproduces scores that vary linearly in space
    for any arrangement of atoms, whereas f0 is biased toward denser regions (the sum of (r_i - r) G is
    sigma^2 grad den). It is clipped to ±bound, and is -bound where the density is below a thousandth of the
    median at the atoms; `with_voids` takes it to -bound beyond the free surface.

    Parameters
    ----------
    score : (n_atoms,) float32, Å
    voxel : Å; maximum edge of a voxel
    bound : Å; maximum score
    curvature : subtract sigma^2 / 2 times the Laplacian of the field
        Smoothing adds this term where scores are curved and would shift the surface of a sphere of radius R
        by sigma^2 / R. The correction permits a wider Gaussian, which suppresses noise of the scores.

    Raises
    ------
    ValueError
        As `plan_lattice`.
    """
    rule = LabelRule(("Fe",), sigma, voxel).fixed()
    lattice = plan_lattice(frame, rule, n_fields=3 if frame.pbc.all() else 4, choose="cell")
    atoms = PackedAtoms.of(frame, lattice)
    mean, density = borrow(lattice.shape, np.float32), borrow(lattice.shape, np.float32)
    mean.fill(0)
    density.fill(0)
    packed = score[atoms.order]
    atoms.add(density_kernels.deposit_weighted, lattice, packed, mean, density)
    mean, density = smooth_grid(mean, lattice, sigma), smooth_grid(density, lattice, sigma)
    # From here on, densities are in atoms per voxel.
    void = VOID_DENSITY * float(np.median(at_voxels(density, lattice, atoms.coords)))
    scratch = borrow(lattice.shape, np.float32)
    mean = corrected_scores(
        mean, density, scratch, lattice, sigma=sigma, bound=bound, curvature=curvature, void=void
    )
    grid = Grid(mean, lattice.cell, lattice.origin, lattice.wrap & frame.pbc)
    return ScoreField(grid, lattice, atoms, packed)


def corrected_scores(
    mean: NDArray[np.float32], density: NDArray[np.float32], scratch: NDArray[np.float32], lattice: Lattice,
    *, sigma: float, bound: float, curvature: bool, void: float,
) -> NDArray[np.float32]:  # fmt: skip
    """The field of `score_field` in the place of one of three grids, all of which are used up.

    mean, density : smoothed scores and densities; void : density, in atoms per voxel, of a void
    """
    flat, n = (mean.reshape(-1), density.reshape(-1), np.float32(0.1 * void)), len(mean)
    in_parts(field_kernels.mean_and_log, mean.size, *flat, least=1 << 15)
    steps = lattice.steps
    metric = sigma**2 * np.linalg.inv(steps @ steps.T)
    # For melts, a single pass leaves a fifth more error; a third pass gives no improvement.
    slopes = field_kernels.subtract_slopes
    in_parts(slopes, n, mean, mean, density, metric, lattice.wrap, scratch, least=4)
    in_parts(slopes, n, mean, scratch, density, metric, lattice.wrap, mean, least=4)
    if curvature:
        in_parts(field_kernels.subtract_curvature, n, mean, metric / 2, lattice.wrap, scratch, least=4)
        mean = scratch
    for plane, logarithm in zip(mean, density, strict=True):
        np.clip(plane, -bound, bound, out=plane)
        plane[logarithm < np.float32(log(void))] = -bound
    return mean


def with_voids(
    field: ScoreField, rule: FixedRule, chosen: NDArray[np.bool_], bound: float, cutoff: float
) -> ScoreField:
    """Add the free surface to smoothed scores, as the density of the rich phase falls there in the labels.

    The label of an atom follows from the density of a species, which falls toward the poor phase and toward a
    void. Its fraction of the value in the bulk of the rich phase is the product of Phi((d + e) / sigma), with
    the distance d to the poor phase, and the occupancy o. The labels cut at the fraction c = Phi(e / sigma).
    A score s stands for d = S artanh(s / S), with the score S of the bulk. The score of the product is

        s' = S tanh(d' / S),    Phi((d' + e) / sigma) = Phi((d + e) / sigma) o,

    which is s off the surface. It is no larger than the depth below the surface o = c, and -bound in a void.

    rule : of the labels
    chosen : (n_atoms,) bool; which packed atoms are of the species in which the rich phase is rich
    bound : Å; maximum score
    cutoff : Å; within this distance of the free surface, atoms count as near it
    """
    from scipy.special import ndtri

    sigma = rule.sigma
    matter = find_matter(field, sigma, field.scores >= 0)
    if matter is None:
        return field
    rich = field.scores[field.scores >= 0]
    bulk = float(np.quantile(rich, BULK_QUANTILE)) if len(rich) else bound
    bulk = min(max(bulk, 0.1 * bound), bound)
    at_atoms = np.clip(matter.field.interpolated() + np.float32(0.5), 0, 1)
    offset = sigma * float(ndtri(cut_fraction(field, rule, chosen, bulk, at_atoms)))
    # Plane by plane, because `lowered` needs several arrays as large as its scores.
    values, occupancy, depth = borrow(field.lattice.shape, np.float32), matter.occupancy(), matter.depth()
    for to, plane, share, below in zip(values, field.grid.values, occupancy, depth, strict=True):
        np.minimum(lowered(plane, share, bulk, sigma, offset), below - np.float32(offset), out=to)
    np.maximum(values, np.float32(-bound), out=values)
    at_atoms = np.maximum(at_atoms, np.float32(LEAST_OCCUPANCY))
    scores = np.maximum(lowered(field.scores, at_atoms, bulk, sigma, offset), np.float32(-bound))
    near = matter.surface.distance(field.atoms) <= cutoff
    return replace(
        field, grid=replace(field.grid, values=values), scores=scores, matter=matter,
        near_surface=float(near.mean()),
    )  # fmt: skip


def cut_fraction(
    field: ScoreField, rule: FixedRule, chosen: NDArray[np.bool_], bulk: float,
    occupancy: NDArray[np.float32],
) -> float:  # fmt: skip
    """Return c of `with_voids`; a half if the labels have no constant threshold of the number density.

    The density in the bulk follows from all rich atoms, because a small piece has no bulk.

    bulk : Å; S
    occupancy : (n_atoms,) float32, of packed atoms
    """
    from scipy.special import ndtr, ndtri

    rich = field.scores >= 0
    if isinstance(rule.threshold, str) or rule.field != "number":
        return 0.5
    density = smoothed_density(field.atoms, chosen, field.lattice, rule.sigma)
    total = float(interpolated(field, density)[rich].sum(dtype=np.float64))
    if not total > 0:
        return 0.5
    inner = np.clip(field.scores[rich] * np.float32(1 / bulk), -BULK_SHARE, BULK_SHARE)
    apart, occupancy = np.arctanh(inner) * np.float32(bulk / rule.sigma), occupancy[rich]
    found, (low, high) = 0.5, CUT_FRACTIONS
    for _ in range(CUT_ROUNDS):
        shares = ndtr(apart + np.float32(ndtri(found))) * occupancy
        found = min(max(rule.threshold * float(shares.sum(dtype=np.float64)) / total, low), high)
    return found


def lowered(
    score: NDArray[np.float32], occupancy: NDArray[np.float32], bulk: float, sigma: float, offset: float
) -> NDArray[np.float32]:
    """Return the scores s' of `with_voids`, which are lower where the occupancy is below 1.

    Scores above S, which differ from it by noise, are lowered by as much as S.

    score, occupancy : arrays of the same shape
    bulk : Å; S
    sigma : Å
    offset : Å; e
    """
    from scipy.special import ndtr, ndtri

    inner = np.clip(score * np.float32(1 / bulk), -BULK_SHARE, BULK_SHARE)
    share = ndtr(np.arctanh(inner) * np.float32(bulk / sigma) + np.float32(offset / sigma)) * occupancy
    lowered = np.tanh(ndtri(share) * np.float32(sigma / bulk) - np.float32(offset / bulk))
    return np.asarray(score - np.float32(bulk) * np.maximum(inner - lowered, 0), dtype=np.float32)
