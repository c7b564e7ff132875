"""Weak phase labels: density, cut, domains, interface, phase of every atom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.composition import ROWS, Composition, count_atoms, fit_interface
from phaseseg.families.segmentation.config import MIN_CONTRAST, LabelRule
from phaseseg.families.segmentation.density import (
    DensityField,
    Lattice,
    density_field,
    exact_density,
    plan_lattice,
)
from phaseseg.families.segmentation.domains import Domains, find_domains
from phaseseg.families.segmentation.interface import Interface
from phaseseg.families.segmentation.threshold import measure_cuts, pooled_threshold, verdict_sentence
from phaseseg.fields import BOUNDARY, POOR, RICH, Fields, Grid, Table
from phaseseg.frame import Frame
from phaseseg.kernels import jit
from phaseseg.memory import borrow

__all__ = [
    "interface_grid",
    "label_density",
    "label_frame",
    "label_phases",
    "label_trajectory",
    "pooled_threshold",
]

# Atoms nearest to the cut whose exact density shows how far off interpolation is.
PROBES = 512
# Atoms so near to the edge of the boundary, Å, have their distance sharpened with the interpolated density
# and, those that are still so near, with the exact one.
SHARPEN_WITHIN = (0.12, 0.01)


def label_phases(frame: Frame, species: str | Sequence[str] = "Fe", **options: Any) -> Fields:
    """Label every atom as rich or poor in a species, or as boundary between the two liquids.

    The density of the species is smoothed with a Gaussian, cut at a threshold, and the domains above it
    are the rich phase. Weak labels in the sense of Shakya & Karki (DOI 10.5220/0013709400004000), with
    lengths in Å instead of fractions of the box, and decided at each atom instead of at its voxel.

    Parameters
    ----------
    frame : Frame
    species : name or names of the species that the rich phase is rich in
    sigma : float, Å, default 1.5
        Standard deviation of the Gaussian; 1.5 to 2 suits one frame, 1.0 an average over frames.
    voxel : float, Å, default sigma / 2
        Longest edge of a voxel.
    field : "number" (Å^-3, default) or "mole-fraction" (of the species among all atoms)
    threshold : "steepest" (default), "two-means", "midpoint" or a number in the field's unit
        Steepest: where the field is steepest; it does not depend on the amounts of the phases.
        Two-means: exact, as in the paper (= Otsu). Midpoint: between the extremes of the field.
    at : "atom" (default) or "voxel"
        Decide by the density at the atom itself, or at its nearest grid point as the paper does.
    keep : "all" (default) or "largest"
        Rich domains that count: all of `min_volume`, or the largest alone (paper).
    min_volume : float, Å^3, default 200
    boundary_width : float, Å, default 0.68 (paper)
        Atoms within half of it from the interface are boundary; 0 for none.
    phases : "auto" (default) or 2
        "auto" cuts only where the verdict is two phases; 2 cuts in any case.
    bulk_distance : float, Å, default 5
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


def label_frame(frame: Frame, rule: LabelRule) -> Fields:
    """`label_phases` with the options in a `LabelRule`."""
    return label_density(frame, density_field(frame, rule), rule)


def label_density(frame: Frame, density: DensityField, rule: LabelRule) -> Fields:
    """Everything after the density: cheap to repeat with another cut, boundary or choice of domains.

    `density` must be that of the same frame and of a rule with the same species, sigma, voxel and field.
    """
    cuts = measure_cuts(density)
    cut = cuts.choose(rule)
    contrast = cuts.contrast(cut)
    messages = []
    n_phases = 2 if contrast >= MIN_CONTRAST else 1
    messages.append(verdict_sentence(contrast, n_phases))
    if abs(cuts.two_means - cuts.steepest) > 0.1 * abs(cuts.steepest) and n_phases == 2:
        messages.append(
            f"Two-means would cut at {cuts.two_means:.4g} {rule.unit}, steepest at {cuts.steepest:.4g}: "
            f"they differ by {abs(cuts.two_means / cuts.steepest - 1):.0%}, as they do where one phase is "
            f"scarce or the cell is small. The cut used is {cut:.4g}."
        )
    if rule.voxel_size > rule.sigma:
        messages.append(
            f"Voxels of {rule.voxel_size:g} Å do not resolve a sigma of {rule.sigma:g} Å; "
            f"use at most {rule.sigma / 2:g} Å."
        )
    # From here to `unsort`, atoms stand in the order of the grid.
    atoms = density.atoms
    at_atoms = density.at_voxels() if rule.at == "voxel" else density.interpolated()
    domains: Domains | None = None
    if n_phases == 2 or rule.phases == 2:
        domains = _rich_domains(density, rule, cut)
        if domains.n_dropped:
            messages.append(_dropped(domains, rule))
        if not domains.n_kept or domains.voxels.sum() == density.grid.values.size:
            domains, n_phases = None, 1
            messages.append("No rich domain is left that has an interface, so the frame counts as one phase.")
    if domains is None:
        if rule.phases == "auto" and len(messages) == 1:
            messages.append("Nothing was cut: all atoms are one class.")
        dominant = cuts.mean >= cut if not isinstance(rule.threshold, str) else density.chosen.mean() >= 0.5
        labels = _one_phase(RICH if dominant else POOR, atoms.unsort(at_atoms))
        interface = None
    else:
        rich = _is_rich(density, rule, cut, at_atoms)
        domain = domains.of_atoms(atoms, rich)
        interface = Interface(domains.without_dropped(density.grid.values, cut), cut, density.lattice)
        distance = interface.distance(atoms)
        if rule.at == "atom" and rule.boundary_width > 0:
            _sharpen(density, rule, cut, domain, distance)
        labels = {
            "phase": borrow(frame.n_atoms, np.int8),
            "phase_density": borrow(frame.n_atoms, np.float32),
            "interface_distance": borrow(frame.n_atoms, np.float32),
            "domain": borrow(frame.n_atoms, np.int32),
        }
        half_width = np.float32(rule.boundary_width / 2 if rule.boundary_width > 0 else -1)
        _assign(atoms.place, domain, distance, at_atoms, half_width, *labels.values())
    composition = count_atoms(frame, labels["phase"], labels["interface_distance"], rule.bulk_distance)
    if composition.without_mass:
        messages.append(f"No wt%: {', '.join(composition.without_mass)} is no element with a known mass.")
    return Fields(
        {
            **labels,
            "density_grid": density.grid,
            "n_phases": n_phases,
            "phase_contrast": contrast,
            "threshold": cut,
            "threshold_steepest": cuts.steepest,
            "threshold_two_means": cuts.two_means,
            **_frame_numbers(frame, density, rule, composition, labels, domains, interface),
        },
        tuple(messages),
    )


def interface_grid(density: DensityField, rule: LabelRule, cut: float) -> Grid:
    """The density with the dropped domains mirrored below the cut: its isosurface is the interface."""
    domains = _rich_domains(density, rule, cut)
    return replace(density.grid, values=domains.without_dropped(density.grid.values, cut))


def _rich_domains(density: DensityField, rule: LabelRule, cut: float) -> Domains:
    return find_domains(density.grid.values, cut, density.lattice, keep=rule.keep, min_volume=rule.min_volume)


@jit
def _assign(place, domain_in, distance_in, density_in, half_width, phase, density, distance, domain):
    """Sign the distances, give every atom its phase, and put all in the frame's own order."""
    for atom in range(place.size):
        slot = place[atom]
        inside = domain_in[slot] > 0
        density[atom] = density_in[slot]
        domain[atom] = domain_in[slot]
        distance[atom] = distance_in[slot] if inside else -distance_in[slot]
        phase[atom] = BOUNDARY if distance_in[slot] <= half_width else (RICH if inside else POOR)


@jit
def _count_domains(domain, n_domains):
    """Atoms in each of the domains 1 ... n_domains."""
    counts = np.zeros(n_domains + 1, dtype=np.int64)
    for d in domain:
        counts[d] += 1
    return counts[1:]


@jit
def _within(values, level, window):
    """Places of the values within `window` of `level`."""
    n = 0
    for v in values:
        n += abs(v - level) <= window
    places = np.empty(n, dtype=np.int64)
    n = 0
    for place in range(values.size):
        if abs(values[place] - level) <= window:
            places[n] = place
            n += 1
    return places


def _is_rich(
    density: DensityField, rule: LabelRule, cut: float, at_atoms: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which atoms lie at or above the cut; where interpolation might err, `at_atoms` is made exact."""
    level = np.float32(cut)
    rich = at_atoms >= level
    if rule.at == "voxel" or density.averaged:
        return rich
    # How far interpolation is off is measured where it matters: on the atoms nearest to the cut.
    near = _within(at_atoms, level, np.float32(0.2 * abs(cut)))
    if not near.size:
        return rich
    gap = np.abs(at_atoms[near] - level)
    probes = near if near.size <= PROBES else near[np.argpartition(gap, PROBES)[:PROBES]]
    values, _ = exact_density(density, rule, density.atoms.coords[probes])
    margin = 1.5 * np.abs(values - at_atoms[probes]).max()
    rich[probes], at_atoms[probes] = values >= cut, values
    rest = near[gap <= margin]
    rest = rest[~np.isin(rest, probes, assume_unique=True)]
    if rest.size:
        values, _ = exact_density(density, rule, density.atoms.coords[rest])
        rich[rest], at_atoms[rest] = values >= cut, values
    return rich


def _sharpen(
    density: DensityField, rule: LabelRule, cut: float, domain: NDArray[Any], distance: NDArray[np.float32]
) -> None:
    """Settle the distances, in place, on which it depends who is boundary.

    Facets are good to 0.01 Å and move by as much with the grid, which would change the label of one atom
    in a thousand. Along the slope at the foot of the perpendicular, the level set itself lies
    (value - cut) / |slope| away: first with the interpolated field, then, for the atoms that are still
    undecided, with the exact one, which knows nothing of the grid.
    """
    half = rule.boundary_width / 2
    places = _within(distance, np.float32(half), np.float32(SHARPEN_WITHIN[0]))
    if not places.size:
        return
    points = density.atoms.coords[places].astype(np.float64)
    side = np.where(domain[places] > 0, 1.0, -1.0)
    before = side * distance[places]
    found, direction = before.copy(), _unit(density.slopes(points)[1])[0]

    def step(which: NDArray[np.int64], field: Callable[..., Any]) -> None:
        s, along = found[which], direction[which]
        value, slope = field(points[which] - (s[:, None] * along) @ density.lattice.to_grid)
        direction[which], norm = _unit(slope)
        found[which] = s * (along * direction[which]).sum(axis=1) + (value - cut) / norm

    for _ in range(2):
        step(np.arange(len(places)), density.slopes)
    if not density.averaged:
        undecided = np.flatnonzero(np.abs(np.abs(found) - half) <= SHARPEN_WITHIN[1])
        step(undecided, lambda at: exact_density(density, rule, at))
    # Where two surfaces are close the perpendicular may lead to the other one: then the facets know better.
    good = (found * side > 0) & (np.abs(found - before) <= SHARPEN_WITHIN[0])
    distance[places[good]] = np.abs(found[good])


def _unit(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors and lengths; a length of zero counts as very small."""
    norm = np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    return vectors / norm[:, None], norm


def _one_phase(phase: int, phase_density: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    n_atoms = len(phase_density)
    return {
        "phase": np.full(n_atoms, phase, dtype=np.int8),
        "phase_density": phase_density,
        "interface_distance": np.full(n_atoms, np.nan, dtype=np.float32),
        "domain": np.zeros(n_atoms, dtype=np.int32),
    }


def _dropped(domains: Domains, rule: LabelRule) -> str:
    which = "other than the largest" if rule.keep == "largest" else f"smaller than {rule.min_volume:g} Å^3"
    plural = "domain was" if domains.n_dropped == 1 else "domains were"
    return f"{domains.n_dropped} rich {plural} dropped: {which}. Their atoms count as poor."


def _frame_numbers(
    frame: Frame,
    density: DensityField,
    rule: LabelRule,
    composition: Composition,
    labels: dict[str, NDArray[Any]],
    domains: Domains | None,
    interface: Interface | None,
) -> dict[str, Any]:
    """The frame-level numbers and tables that follow from the labels."""
    rich_side = ROWS.index("rich side")
    proxigram = composition.proxigram()
    width = float("nan")
    if domains is None or interface is None:
        whole = float(labels["phase"][0] == RICH)
        table = _domain_table(np.empty(0, np.int64), np.empty((0, 3), bool), np.empty(0, np.int64), 0.0)
        volume_fraction, area, n_domains = whole, 0.0, 0
    else:
        lattice = density.lattice
        volume_fraction = float(domains.voxels.sum() / density.grid.values.size)
        area, n_domains = interface.area, domains.n_kept
        target = np.isin(frame.species_names, rule.species)
        atoms = composition.by_distance.sum(axis=1)
        kept = atoms > 0
        share = composition.by_distance[kept][:, target].sum(axis=1) / atoms[kept]
        _, width = fit_interface(
            np.asarray(proxigram.columns["distance (Å)"]), share, atoms[kept].astype(float)
        )
        atoms_in = _count_domains(labels["domain"], n_domains)
        table = _domain_table(
            domains.voxels, domains.percolates & frame.pbc & ~lattice.flat, atoms_in, lattice.voxel_volume
        )
    return {
        "n_domains": n_domains,
        "rich_atom_fraction": float(composition.atom_fractions()[rich_side]),
        "rich_mass_fraction": float(composition.mass_fractions()[rich_side]),
        "rich_volume_fraction": volume_fraction,
        "interface_area": area,
        "interface_width": width,
        "mass_balance_residual": composition.mass_balance_residual(),
        "composition": composition.table(),
        "partition": composition.partition(),
        "domains": table,
        "proxigram": proxigram,
    }


def _domain_table(
    voxels: NDArray[np.int64], percolates: NDArray[np.bool_], atoms: NDArray[np.int64], voxel_volume: float
) -> Table:
    return Table(
        "Rich domains",
        {
            "domain": np.arange(1, len(voxels) + 1),
            "volume (Å^3)": voxels * voxel_volume,
            "atoms": atoms,
            **{f"percolates along {axis}": percolates[:, n] for n, axis in enumerate("abc")},
        },
    )


def label_trajectory(
    frames: Iterable[Frame], rule: LabelRule, *, average: float | None = None
) -> Iterator[tuple[Frame, Fields]]:
    """Label frame after frame; each is deposited once.

    Parameters
    ----------
    frames : any iterable; taken one by one, and with `average` so many ahead as the window needs
    average : float, ps, optional
        Cut the mean density of all frames within ±average of a frame instead of that frame's alone:
        the better label where frames lie close (docs/weak-labels.md). Needs `Frame.time` and a cell
        that is periodic along all axes.

    Yields
    ------
    (Frame, Fields) in the order of the frames

    Raises
    ------
    ValueError
        As `label_phases`; with `average` also for a frame without a time, for times that do not grow,
        for open axes, and for a window of ±0 or less.
    """
    if average is None:
        for frame in frames:
            yield frame, label_frame(frame, rule)
        return
    if not average > 0:
        raise ValueError(f"average must be a positive time in ps, found {average}.")
    yield from _label_averaged(frames, rule, average)


def _label_averaged(
    frames: Iterable[Frame], rule: LabelRule, average: float
) -> Iterator[tuple[Frame, Fields]]:
    window: deque[tuple[Frame, DensityField]] = deque()
    waiting: deque[Frame] = deque()
    shape: tuple[int, int, int] | None = None
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
        where = f"{frame.source}: " if frame.source else ""
        if frame.time is None:
            raise ValueError(
                f"{where}averaging needs the time of every frame; give the time of an MD step in ps (dt)."
            )
        if window and frame.time <= window[-1][0].time:  # type: ignore[operator]
            raise ValueError(
                f"{where}the time {frame.time:g} ps is not later than that of the frame before it."
            )
        if not frame.pbc.all():
            raise ValueError(f"{where}averaging needs a cell that is periodic along all three axes.")
        while waiting and frame.time > waiting[0].time + average + slack:  # type: ignore[operator]
            yield label_next()
        lattice = plan_lattice(frame, rule)
        if shape is not None:
            # One grid in fractional coordinates for all frames, so that a breathing cell does not matter.
            lattice = Lattice(shape, lattice.cell, lattice.origin, lattice.wrap, lattice.flat)
        density = density_field(frame, rule, lattice)
        if total is None:
            shape, total = lattice.shape, np.zeros(lattice.shape)
        total += density.grid.values
        window.append((frame, density))
        waiting.append(frame)
    while waiting:
        yield label_next()
