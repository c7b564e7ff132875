"""Stress cases for methods, with references from several frames or from the construction of the frame.

They include densities averaged over time, open pieces of large cells with little of one phase, droplets and
films inserted into the other liquid, frames during coarsening, and single-phase liquids. Each function
returns `Case`s for `compare`; frames can be from `phaseseg simulate melt` or any other source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.segmentation.comparison import Case
from phaseseg.families.segmentation.labels.weak_labels import label_trajectory
from phaseseg.families.segmentation.methods import WIDTHS, Method, Segmentation, WeakLabels
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.frame import Frame

RICH_FRACTIONS = (0.02, 0.05, 0.10, 0.20, 0.50, 0.80, 0.95, 0.98)
"""Bin edges for the fraction of rich atoms in open pieces."""
MARGIN = 3.0
"""Å: atoms closer than this to a cut face are excluded."""
CLOSEST = 1.5
"""Å: if two atoms are closer than this after insertion, the one of the poor liquid is removed."""


def averaged_case(
    frames: Iterable[Frame], *, sigma: float = 1.5, average: float = 1.0, species: Sequence[str] = ("Fe",),
    group: str = "density averaged over time",
) -> Case:  # fmt: skip
    """Return the middle frame of a run, with labels from the density averaged over ±`average` ps.

    frames : closely spaced frames with `Frame.time` in ps; those of large_dense_4000K are 0.1 ps apart
    sigma : Å, Gaussian width of the averaged density; the threshold is where it is steepest
    """
    run = list(frames)
    if not run:
        raise ValueError("there are no frames to average.")
    middle = run[len(run) // 2]
    rule = LabelRule(species=tuple(species), sigma=sigma, boundary_width=max(WIDTHS)).fixed()
    for frame, fields in label_trajectory(run, rule, average=average):
        if frame is middle:
            side = np.where(fields["domain"] > 0, np.inf, -np.inf)
            distance = fields["interface_distance"]
            known = np.where(np.isfinite(distance), distance, side)
            return Case(group, frame, Segmentation.of_distance(known, WIDTHS), name=frame.source)
    raise AssertionError("the middle frame is one of the frames")


def open_piece(
    frame: Frame, low: ArrayLike, edge: float
) -> tuple[Frame, NDArray[np.int64], NDArray[np.bool_]]:
    """Cut a cube with open boundaries from a periodic orthogonal cell.

    Returns the frame of the piece, the indices of its atoms in the full frame, and a mask of the atoms at
    least `MARGIN` inside.

    low : (3,) corner, Å; edge : Å, at most the shortest edge of the cell
    """
    lengths = np.diag(frame.cell)
    if not np.allclose(frame.cell, np.diag(lengths)) or not frame.pbc.all():
        raise ValueError("pieces can only be cut from periodic orthogonal cells.")
    corner = np.asarray(low, dtype=float)
    apart = (frame.positions - corner) % lengths
    atoms = np.flatnonzero((apart < edge).all(axis=1))
    inside = ((apart[atoms] >= MARGIN) & (apart[atoms] <= edge - MARGIN)).all(axis=1)
    piece = Frame(
        apart[atoms] + corner, np.eye(3) * edge, np.zeros(3, dtype=bool), frame.species[atoms],
        frame.species_names, origin=corner, timestep=frame.timestep, units=frame.units,
        source=f"piece of {frame.source}",
    )  # fmt: skip
    return piece, atoms, inside


def open_pieces(
    frames: Iterable[Frame], reference: Method, *, per_bin: int = 20, widths: Sequence[float] = WIDTHS
) -> Iterator[Case]:
    """Yield open cubes from large cells by their fraction of rich atoms; the reference is the whole cell.

    The group of a case is the range of the fraction of rich atoms, such as "0.02 – 0.05 rich". Only atoms at
    least `MARGIN` inside the cut faces are included; pieces with fewer than 20 such atoms are skipped.

    reference : method that labels the whole cells
    per_bin : pieces per frame and bin; there are fewer if 200 times as many random trials do not find them
    """
    rng = np.random.default_rng(0)
    limits = np.array(RICH_FRACTIONS)
    for frame in frames:
        whole = reference(frame, widths)
        found: list[list[Case]] = [[] for _ in limits[1:]]
        for _ in range(200 * per_bin):
            edge = float(rng.uniform(12.0, 30.0))
            low = frame.origin + rng.random(3) * np.diag(frame.cell)
            piece, atoms, inside = open_piece(frame, low, edge)
            if inside.sum() < 20:
                continue
            place = int(np.searchsorted(limits, whole.rich[atoms].mean(), side="right")) - 1
            if not 0 <= place < len(found) or len(found[place]) >= per_bin:
                continue
            group = f"{limits[place]:.2f} – {limits[place + 1]:.2f} rich"
            found[place].append(Case(group, piece, whole.part(atoms), inside, f"cube of {edge:.1f} Å"))
            if all(len(some) >= per_bin for some in found):
                break
        for some in found:
            yield from some


def _stamped(
    host: Frame, guest: Frame, depth: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    center: NDArray[np.float64], guest_is_rich: bool, along: Sequence[int] = (),
) -> tuple[Frame, NDArray[np.float64]]:  # fmt: skip
    """Combine host atoms outside a shape with guest atoms inside; depths, Å, are positive in the rich liquid.

    depth : returns the depth inside the shape, Å, for vectors (n, 3) from its center
    center : (3,), center of the shape in the host; in the guest it is the center of the cell
    along : axes along which the guest is stretched to the cell of the host
    """
    from scipy.spatial import cKDTree

    lengths, other = np.diag(host.cell), np.diag(guest.cell)

    def apart(frame: Frame, point: NDArray[np.float64]) -> NDArray[np.float64]:
        vectors = frame.positions - point
        return np.asarray(vectors - np.rint(vectors / np.diag(frame.cell)) * np.diag(frame.cell))

    inside_host = depth(apart(host, center))
    vectors = apart(guest, guest.origin + other / 2)
    guest_inside = depth(vectors)
    guest_atoms, kept = np.flatnonzero(guest_inside > 0), np.flatnonzero(inside_host <= 0)
    guest_positions = vectors + (center - host.origin)
    for axis in along:
        guest_positions[:, axis] = ((guest.positions - guest.origin) * (lengths / other))[:, axis]
    place, own = (host.positions[kept] - host.origin) % lengths, guest_positions[guest_atoms] % lengths
    # A coordinate that is rounded to the upper end of the cell belongs to the lower end.
    place, own = np.where(place >= lengths, 0.0, place), np.where(own >= lengths, 0.0, own)
    poor, rich = (place, own) if guest_is_rich else (own, place)
    if len(rich):
        room = cKDTree(rich, boxsize=lengths).query(poor)[0] >= CLOSEST
        if guest_is_rich:
            kept, place = kept[room], place[room]
        else:
            guest_atoms, own = guest_atoms[room], own[room]
    parts = ((host, kept), (guest, guest_atoms))
    species = np.concatenate([np.array(one.species_names)[one.species[atoms]] for one, atoms in parts])
    names = tuple(dict.fromkeys([*host.species_names, *guest.species_names]))
    frame = Frame(
        np.concatenate([place, own]) + host.origin, host.cell, host.pbc, species, names, origin=host.origin,
        units=host.units, source=f"{guest.source} in {host.source}",
    )  # fmt: skip
    depths = np.concatenate([inside_host[kept], guest_inside[guest_atoms]])
    return frame, depths if guest_is_rich else -depths


def droplet(
    host: Frame, guest: Frame, radius: float, center: ArrayLike, *, guest_is_rich: bool
) -> tuple[Frame, NDArray[np.float64]]:
    """Insert a sphere of one liquid into the other; return the frame and signed distances (n_atoms,), Å.

    The sphere is cut from the center of the guest's cell. Host atoms inside it are removed, as are atoms of
    the poor liquid closer than 1.5 Å to an atom of the rich liquid.

    center : (3,), Å, in the host's cell
    radius : Å, less than half of either cell
    guest_is_rich : if true, distances are positive in the sphere
    """
    _check_cells(host, guest)
    if not 0 < radius < 0.5 * min(np.diag(host.cell).min(), np.diag(guest.cell).min()):
        raise ValueError(f"a sphere of {radius:g} Å does not fit into the cells.")
    return _stamped(
        host, guest, lambda apart: radius - np.linalg.norm(apart, axis=1), np.asarray(center, dtype=float),
        guest_is_rich,
    )  # fmt: skip


def film(
    host: Frame, guest: Frame, thickness: float, position: float, axis: int = 2, *, guest_is_rich: bool
) -> tuple[Frame, NDArray[np.float64]]:
    """Insert a layer of one liquid into the other, as in `droplet`; both cells need equal lateral sizes.

    position : Å, center of the layer along the axis
    """
    _check_cells(host, guest)
    lengths, other = np.diag(host.cell), np.diag(guest.cell)
    along = [k for k in range(3) if k != axis]
    if not np.allclose(lengths[along], other[along], rtol=1e-3):
        raise ValueError("the cells of the two liquids must have the same size along the film.")
    if not 0 < thickness < min(lengths[axis], other[axis]):
        raise ValueError(f"a film of {thickness:g} Å does not fit into the cells.")
    return _stamped(
        host, guest, lambda apart: thickness / 2 - np.abs(apart[:, axis]), np.full(3, float(position)),
        guest_is_rich, along,
    )  # fmt: skip


def _check_cells(*frames: Frame) -> None:
    for frame in frames:
        if not np.allclose(frame.cell, np.diag(np.diag(frame.cell))) or not frame.pbc.all():
            raise ValueError(f"{frame.source}: insertion needs periodic orthogonal cells.")


def stamped_cases(
    metal: Frame, silicate: Frame, *, sizes: Sequence[float] = (5.0, 6.0, 8.0, 10.0), copies: int
) -> Iterator[Case]:
    """Yield droplets and films of each liquid in the other; the reference is the geometry.

    metal, silicate : a frame of each pure liquid; the metal is the rich phase
    sizes : Å, radii of droplets and thicknesses of films
    copies : number of copies of each, at different positions
    """
    rng = np.random.default_rng(0)
    for rich_guest, host, guest in ((True, silicate, metal), (False, metal, silicate)):
        name = "metal in silicate" if rich_guest else "silicate in metal"
        for size in sizes:
            for _ in range(copies):
                center = host.origin + rng.random(3) * np.diag(host.cell)
                axis = int(rng.integers(3))
                made = {
                    "droplet, radius": droplet(host, guest, size, center, guest_is_rich=rich_guest),
                    "film, thickness": film(
                        host, guest, size, float(center[axis]), axis, guest_is_rich=rich_guest
                    ),
                }
                for shape, (frame, distance) in made.items():
                    answer, what = Segmentation.of_distance(distance, WIDTHS), f"{shape} {size:g} Å"
                    yield Case(f"{name}: {what}", frame, answer, name=f"{name}, {what}")


def coarsening_cases(frames: Iterable[Frame], rule: FixedRule) -> Iterator[Case]:
    """Yield frames of a separating melt; the truth is unknown, so the reference is a constant threshold.

    rule : rule with a numerical threshold, applied regardless of the verdict
    """
    labels = WeakLabels(rule.replace(phases=2))
    for number, frame in enumerate(frames):
        yield Case("coarsening", frame, labels(frame, WIDTHS), name=f"coarsening, frame {number}")


def one_phase_cases(frames: Iterable[Frame], *, rich: bool, group: str) -> Iterator[Case]:
    """Yield frames of one liquid; the reference is a single phase.

    rich : whether it is the rich liquid; for a mixture, only the verdict is meaningful
    """
    for number, frame in enumerate(frames):
        distance = np.full(frame.n_atoms, np.inf if rich else -np.inf)
        answer = Segmentation.of_distance(distance, WIDTHS)
        yield Case(group, frame, answer, name=f"{group}, frame {number}")
