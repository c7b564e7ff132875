"""Weak phase labels: density, cut, domains, interface, phase of every atom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.fields import POOR, RICH
from phaseseg.families.segmentation.labels.assignment import (
    PhaseAssignment,
    assign_phases,
    dropped_sentence,
    frame_numbers,
    has_interface,
    one_phase,
    places_within,
)
from phaseseg.families.segmentation.labels.automatic import rule_for, rule_of
from phaseseg.families.segmentation.labels.density import DensityField, Field, density_field, exact_density
from phaseseg.families.segmentation.labels.lattice import plan_lattice
from phaseseg.families.segmentation.labels.molecules import find_molecules
from phaseseg.families.segmentation.labels.threshold import Cuts, measure_cuts, verdict_sentence
from phaseseg.families.segmentation.labels.voids import find_matter
from phaseseg.families.segmentation.rules import MIN_CONTRAST, FixedRule, LabelRule
from phaseseg.fields import Fields, Grid, Message, fields_or_none
from phaseseg.frame import Frame

# Atoms nearest to the cut whose exact density shows how far off interpolation is.
PROBES = 512
# Atoms whose density differs from the cut by less than this part of it may need the exact density: those that
# are nearer than the largest error of interpolation among the probes, times the second number.
NEAR_CUT, SAFE = 0.2, 1.5


def label_phases(frame: Frame, species: str | Sequence[str] | None = None, **options: Any) -> Fields:
    """Label every atom as rich or poor in a species, or as boundary between the two liquids.

    The density of the species is smoothed with a Gaussian, cut at a threshold, and the domains above it
    are the rich phase. Weak labels in the sense of Shakya & Karki (DOI 10.5220/0013709400004000), with
    lengths in Å instead of fractions of the box, and decided at each atom instead of at its voxel.

    Parameters
    ----------
    frame : Frame
    species : name or names of the species that the rich phase is rich in, optional
        Also `name:OW` or `residue:SOL`. By default Fe if there is any, otherwise the species (or residue)
        whose density separates best; a message names it.
    sigma : float, Å, or "auto" (default)
        Standard deviation of the Gaussian. "auto" lets it count about 34 atoms or molecules of the rich
        phase, 2.1 Å in liquid iron and 3.2 Å in water; a message gives the value.
    voxel : float, Å, default sigma / 2
        Longest edge of a voxel.
    field : "number" (Å^-3, default) or "mole-fraction" (of the species among all atoms)
    threshold : "steepest" (default), "two-means", "midpoint" or a number in the field's unit
        Steepest: where the field is steepest; it does not depend on the amounts of the phases.
        Two-means: exact, as in the paper (= Otsu). Midpoint: between the extremes of the field.
    at : "atom" (default) or "voxel"
        Decide by the density at the atom itself, or at its nearest grid point as the paper does.
    by : "auto" (default), "atom" or "molecule"
        By molecule, all atoms of a molecule of up to 30 atoms go where its center of mass is. "auto" is by
        molecule if more than half of the atoms are in molecules of 2 to 30 atoms.
    keep : "all" (default) or "largest"
        Rich domains to keep: all of at least `min_volume`, or only the largest (paper).
    min_volume : float, Å^3, default 25 sigma^3
    boundary_width : float, Å, default 0.68 for Fe (paper), otherwise 0.34 sigma
        Atoms within half of it from the interface are boundary; 0 for none.
    phases : "auto" (default) or 2
        "auto" cuts only where the verdict is two phases; 2 cuts in any case.
    bulk_distance : float, Å, default 2.5 sigma
        Atoms farther than this from the interface are the bulk of their phase in the tables.

    Returns
    -------
    Fields
        `phase`, `phase_density`, `interface_distance`, `domain` per atom; the verdict `n_phases`, cuts,
        fractions, area and width per frame; the density on its grid; tables `composition`, `partition`,
        `domains`, `proxigram`; sentences in `.messages`. A one-phase frame has all atoms in one class
        (rich where the mean of the field reaches a cut given as a number; else where at least half of
        the atoms are of the species), `interface_distance` NaN and no domains.

    Raises
    ------
    ValueError
        No atoms; no atom of the species; sigma beyond half of the cell; a grid larger than memory.
    TypeError
        Unknown option.

    Examples
    --------
    >>> import numpy as np
    >>> from phaseseg import Frame, label_phases
    >>> rng = np.random.default_rng(0)
    >>> positions = rng.random((8000, 3)) * [40, 20, 20]
    >>> rich = rng.random(8000) < np.where(positions[:, 0] < 20, 0.9, 0.05)
    >>> frame = Frame(positions, [40, 20, 20], True, np.where(rich, "Fe", "O"))
    >>> fields = label_phases(frame, "Fe")
    >>> fields["n_phases"], fields["n_domains"]
    (2, 1)
    """
    return label_frame(frame, LabelRule.from_options(species, **options))


def labeler(species: str | Sequence[str] | None = None, **options: Any) -> Callable[[Frame], Fields]:
    """Return a function that labels frames with these options, which are checked immediately."""
    return partial(label_frame, rule=LabelRule.from_options(species, **options))


def label_frame(frame: Frame, rule: LabelRule) -> Fields:
    """`label_phases` with the options in a `LabelRule`."""
    rule = rule_of(frame, rule)
    return label_density(frame, density_field(frame, rule), rule)


def label_density(frame: Frame, density: DensityField, rule: LabelRule) -> Fields:
    """Label a frame from its density; cheap to repeat with another cut, boundary or choice of domains.

    `density` must be that of the same frame and of a rule with the same species, sigma, voxel and field;
    what `rule` leaves open is as for the density.
    """
    rule = rule.fixed(density.rule.species, density.rule.sigma, density.rule.messages)
    found = verdict_of(measure_cuts(density), rule, frame.length_unit)
    cut, n_phases, messages = found.cut, found.n_phases, found.messages
    # Here atoms stand in the order of the grid.
    at_atoms = density.at_voxels() if rule.at == "voxel" else density.interpolated()
    points: Field = density
    at_points, molecules = at_atoms, find_molecules(frame, rule.by)
    if molecules is not None:
        points = Field(density.grid, density.lattice, molecules.packed(density.lattice))
        at_points = points.at_voxels() if rule.at == "voxel" else points.interpolated()
    assigned: PhaseAssignment | None = None
    if n_phases == 2 or rule.phases == 2:
        domains = density.domains(cut, keep=rule.keep, min_volume=rule.min_volume)
        if domains.n_dropped:
            messages.append(dropped_sentence(domains, rule.keep, rule.min_volume, frame.length_unit))
        if has_interface(domains, density.grid):
            rich = _is_rich(density, rule, cut, at_points, points.atoms.coords)
            of_atoms = rich if molecules is None else molecules.of_packed(rich, points.atoms, density.atoms)
            assigned = assign_phases(
                frame, points, cut, domains, rich, matter=find_matter(density, rule.sigma, of_atoms),
                molecules=molecules,
                sigma=rule.sigma, boundary_width=rule.boundary_width, sharpen=rule.at == "atom",
                exact=None if density.averaged else partial(exact_density, density),
            )  # fmt: skip
        else:
            n_phases = found.no_domain_left()
    if assigned is None:
        dominant = found.dominant(rule, float(density.chosen.mean()))
        matter = find_matter(density, rule.sigma, np.full(frame.n_atoms, dominant))
        assigned = one_phase(frame.n_atoms, RICH if dominant else POOR, matter)
    at_frame = density.atoms.unsort(at_atoms)
    if assigned.kernel is not None and rule.field == "number":
        assigned = replace(assigned, kernel=assigned.kernel.measured(at_frame, assigned.distance))
    numbers, more = frame_numbers(frame, assigned, rule.species, rule.bulk_distance, molecules)
    return Fields(
        {
            "phase": assigned.phase,
            "phase_density": at_frame,
            "interface_distance": assigned.distance,
            "domain": assigned.domain,
            **found.numbers(density.output, n_phases, rule),
            **numbers,
        },
        (*frame.messages, *messages, *more),
    )


class Verdict(NamedTuple):
    """The cut of a frame, the contrast of its two sides, and the sentences on them."""

    cuts: Cuts
    cut: float
    contrast: float
    n_phases: int
    messages: list[Message]

    def no_domain_left(self) -> int:
        """Say that no rich domain with an interface is left; returns the number of phases."""
        self.messages[0] = Message(
            f"One phase: no rich domain with an interface is left, although the two sides of the cut "
            f"differ by {self.contrast:.2f} times the counting noise.",
            "no-domain-left",
        )
        return 1

    def dominant(self, rule: FixedRule, share: float) -> bool:
        """Whether all atoms count as rich where no cut is made; share : of the atoms of the species."""
        if rule.phases == "auto" and self.contrast < MIN_CONTRAST:
            self.messages.append(Message("No cut was made: all atoms belong to one class.", "nothing-cut"))
        return self.cuts.mean >= self.cut if not isinstance(rule.threshold, str) else share >= 0.5

    def numbers(self, grid: Grid, n_phases: int, rule: FixedRule) -> dict[str, Any]:
        """Fields of the frame."""
        return {
            "density_grid": grid,
            "n_phases": n_phases,
            "sigma": rule.sigma,
            "phase_contrast": self.contrast,
            "threshold": self.cut,
            "threshold_steepest": self.cuts.steepest,
            "threshold_two_means": self.cuts.two_means,
        }


def verdict_of(cuts: Cuts, rule: FixedRule, unit: str) -> Verdict:
    """The verdict on one or two phases from the cuts of a density; `unit` of lengths, for messages."""
    cut = cuts.choose(rule)
    contrast = cuts.contrast(cut)
    n_phases = 2 if contrast >= MIN_CONTRAST else 1
    messages = [verdict_sentence(contrast, n_phases), *rule.messages]
    if abs(cuts.two_means - cuts.steepest) > 0.1 * abs(cuts.steepest) and n_phases == 2:
        text = (
            f"Two-means would cut at {cuts.two_means:.4g} {rule.unit}, steepest at {cuts.steepest:.4g}: "
            f"they differ by {abs(cuts.two_means / cuts.steepest - 1):.0%}, which happens if one phase is "
            f"scarce or the cell is small. The cut used is {cut:.4g}."
        )
        messages.append(Message(text, "cuts-differ"))
    if rule.voxel_size > rule.sigma:
        text = (
            f"Voxels of {rule.voxel_size:g} {unit} do not resolve a sigma of {rule.sigma:g} {unit}; "
            f"use at most {rule.sigma / 2:g} {unit}."
        )
        messages.append(Message(text, "coarse-voxels"))
    return Verdict(cuts, cut, contrast, n_phases, messages)


def _is_rich(
    density: DensityField, rule: FixedRule, cut: float, at_atoms: NDArray[np.float32],
    coords: NDArray[np.float32],
) -> NDArray[np.bool_]:  # fmt: skip
    """Which atoms lie at or above the cut; where interpolation might err, `at_atoms` is made exact.

    at_atoms, coords : density and grid coordinates of the packed atoms, or of other points
    """
    level = np.float32(cut)
    rich = at_atoms >= level
    if rule.at == "voxel" or density.averaged:
        return rich
    # The interpolation error is measured where it matters: at the atoms nearest to the cut.
    near = places_within(at_atoms, level, np.float32(NEAR_CUT * abs(cut)))
    if not near.size:
        return rich
    gap = np.abs(at_atoms[near] - level)

    def settle(which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Decide these atoms by the exact density; how much larger it is than the interpolated one."""
        values, _ = exact_density(density, coords[which])
        more = values - at_atoms[which]
        rich[which], at_atoms[which] = values >= cut, values
        return more

    probes = near[smallest(gap, PROBES)]
    rest = near[gap <= SAFE * np.abs(settle(probes)).max()]
    rest = rest[~np.isin(rest, probes, assume_unique=True)]
    if rest.size:
        settle(rest)
    return rich


def smallest(values: NDArray[np.floating[Any]], n: int) -> NDArray[np.int64]:
    """Places of the n smallest values, in their order in the array; of equal ones the first."""
    if len(values) <= n:
        return np.arange(len(values))
    least = np.partition(values, n - 1)[n - 1]
    below, equal = np.flatnonzero(values < least), np.flatnonzero(values == least)
    return np.sort(np.concatenate([below, equal[: n - len(below)]]))


def label_trajectory(
    frames: Iterable[Frame], rule: LabelRule | None = None, *, average: float | None = None, **options: Any
) -> Iterator[tuple[Frame, Fields]]:
    """Label the frames one by one; each is deposited on the grid once.

    Parameters
    ----------
    frames : any iterable; taken one by one, and with `average` as many ahead as the window needs
    rule : how to label; or the options of `label_phases` as keywords. The first frame determines what it
        leaves open, so that all frames have the same sigma.
    average : float, ps, optional
        Cut the mean density of all frames within ±average of a frame instead of that frame's alone:
        the better label where frames lie close (docs/weak-labels.md). Needs `Frame.time` and a cell
        that is periodic along all axes.

    Yields
    ------
    (Frame, Fields) in the order of the frames; no fields but a message for a frame without atoms

    Raises
    ------
    ValueError
        At the call: for a bad option, and for a window of ±0 or less. Then as `label_phases`; with `average`
        also for a frame without a time, for times that do not grow, for another number of atoms, and for
        open axes.
    TypeError
        For an unknown option, and for a rule together with options.
    """
    rule = rule_or_options(rule, options)
    if average is not None and not average > 0:
        raise ValueError(f"average must be a positive time in ps, found {average}.")
    return _label_in_order(frames, rule, average)


def _label_in_order(
    frames: Iterable[Frame], rule: LabelRule, average: float | None
) -> Iterator[tuple[Frame, Fields]]:
    fixed, frames = rule_for(frames, rule)
    if average is None:
        label = partial(fields_or_none, partial(label_frame, rule=fixed))
        yield from ((frame, label(frame)) for frame in frames)
    else:
        yield from _label_averaged(frames, fixed, average)


def rule_or_options(rule: LabelRule | None, options: Mapping[str, Any]) -> LabelRule:
    """Return the rule, or make one from the options; TypeError if both are given."""
    if rule is not None and options:
        raise TypeError(f"give a rule or options ({', '.join(options)}), not both.")
    return LabelRule.from_options(**options) if rule is None else rule


def _label_averaged(
    frames: Iterable[Frame], rule: FixedRule, average: float
) -> Iterator[tuple[Frame, Fields]]:
    window: deque[tuple[Frame, DensityField]] = deque()
    waiting: deque[Frame] = deque()
    shape: tuple[int, int, int] | None = None
    axes = np.eye(3, dtype=np.int64)
    total: NDArray[np.float64] | None = None
    slack = 1e-9 * average

    def label_next() -> tuple[Frame, Fields]:
        nonlocal total
        frame = waiting.popleft()
        assert frame.time is not None and total is not None
        while window[0][0].time < frame.time - average - slack:  # type: ignore[operator]
            total -= window.popleft()[1].grid.values
        own = next(density for other, density in window if other is frame)
        mean = (total / len(window)).astype(np.float32)
        grid = replace(own.grid, values=mean)
        return frame, label_density(frame, replace(own, grid=grid, averaged=len(window) > 1), rule)

    for frame in frames:
        where = frame.error_prefix
        if frame.time is None:
            raise ValueError(
                f"{where}averaging needs the time of every frame; give the time of an MD step in ps (dt)."
            )
        if window and frame.time <= window[-1][0].time:  # type: ignore[operator]
            raise ValueError(
                f"{where}the time {frame.time:g} ps is not later than that of the frame before it."
            )
        if window and len(frame) != len(window[-1][0]):
            raise ValueError(
                f"{where}averaging needs the same atoms in every frame; there are {len(frame):,} here and "
                f"{len(window[-1][0]):,} in the frame before. Average the parts one by one."
            )
        if not frame.pbc.all():
            raise ValueError(f"{where}averaging needs a cell that is periodic along all three axes.")
        while waiting and frame.time > waiting[0].time + average + slack:  # type: ignore[operator]
            yield label_next()
        lattice = plan_lattice(frame, rule)
        if shape is not None:
            # One grid in fractional coordinates for all frames, so that a breathing cell does not matter.
            lattice = replace(lattice, shape=shape, axes=axes, cell=axes @ frame.cell)
        density = density_field(frame, rule, lattice)
        if total is None:
            shape, axes, total = lattice.shape, lattice.axes, np.zeros(lattice.shape)
        total += density.grid.values
        window.append((frame, density))
        waiting.append(frame)
    while waiting:
        yield label_next()
