"""Stress cases: pieces, droplets and films have the geometry that was asked for, and its answer."""

import numpy as np
import pytest

from phaseseg.families.segmentation.baselines import ConstantCut
from phaseseg.families.segmentation.comparison import compare
from phaseseg.families.segmentation.methods import WIDTHS, Segmentation, WeakLabels
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Frame
from phaseseg.recipes.segmentation.stress_cases import (
    MARGIN,
    averaged_case,
    coarsening_cases,
    droplet,
    film,
    one_phase_cases,
    open_piece,
    open_pieces,
    stamped_cases,
)
from phaseseg.testing import AWKWARD

RULE = LabelRule("Fe", sigma=2.0, threshold=0.04).fixed()


def test_a_piece_is_a_cube_around_the_edge_of_the_cell(large):
    frame = large[3000]
    low = frame.origin + np.array([60.0, 5.0, 64.0])
    piece, atoms, inside = open_piece(frame, low, 20.0)
    assert not piece.pbc.any() and np.allclose(piece.cell, np.eye(3) * 20)
    relative = piece.positions - piece.origin
    assert (relative >= 0).all() and (relative < 20).all()
    moved = (piece.positions - frame.positions[atoms]) / np.diag(frame.cell)
    assert np.allclose(moved, np.rint(moved))
    assert np.array_equal(piece.species, frame.species[atoms])
    assert np.array_equal(inside, (np.abs(relative - 10) <= 10 - MARGIN).all(axis=1))
    assert len(atoms) == pytest.approx(len(frame) * (20 / 68) ** 3, rel=0.1)


def test_pieces_are_sorted_by_what_is_rich(large):
    labels = WeakLabels(RULE)
    cases = list(open_pieces([large[3000]], labels, per_bin=2, widths=(2.7,)))
    assert len({case.group for case in cases}) >= 6
    for case in cases:
        low, high = (float(part) for part in case.group.removesuffix(" rich").split(" – "))
        assert low <= case.reference.rich.mean() <= high
        assert len(case.reference.rich) == len(case.frame) == len(case.inside)
    again = list(open_pieces([large[3000]], labels, per_bin=2, widths=(2.7,)))
    assert [case.name for case in again] == [case.name for case in cases]


def liquid(name, n, seed, edge=24.0):
    rng = np.random.default_rng(seed)
    return Frame(rng.random((n, 3)) * edge - 3, np.eye(3) * edge, True, [name] * n, origin=[-3.0] * 3)


@pytest.mark.parametrize("guest_is_rich", [True, False])
def test_a_droplet_has_the_geometry_that_is_asked_for(guest_is_rich):
    host, guest = liquid("O", 1500, 0), liquid("Fe", 1400, 1)
    center = np.array([20.0, 1.0, 8.0])
    frame, distance = droplet(host, guest, 6.0, center, guest_is_rich=guest_is_rich)
    is_guest = np.array(frame.species_names)[frame.species] == "Fe"
    apart = frame.positions - center
    apart -= np.rint(apart / 24) * 24
    depth = 6.0 - np.linalg.norm(apart, axis=1)
    assert distance == pytest.approx(depth if guest_is_rich else -depth)
    assert ((distance > 0) == (is_guest == guest_is_rich)).all()
    volume = 4 / 3 * np.pi * 6**3
    assert is_guest.sum() == pytest.approx(1400 * volume / 24**3, rel=0.25)
    ghosts = frame.positions[is_guest][:, None] - frame.positions[~is_guest][None]
    ghosts -= np.rint(ghosts / 24) * 24
    assert np.linalg.norm(ghosts, axis=-1).min() >= 1.5
    relative = frame.positions - frame.origin
    assert (relative >= 0).all() and (relative < 24).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_film_has_the_geometry_that_is_asked_for(axis):
    host, guest = liquid("O", 1500, 0), liquid("Fe", 1400, 1)
    frame, distance = film(host, guest, 7.0, 19.5, axis, guest_is_rich=True)
    apart = frame.positions[:, axis] - 19.5
    apart -= np.rint(apart / 24) * 24
    assert distance == pytest.approx(3.5 - np.abs(apart))
    is_guest = np.array(frame.species_names)[frame.species] == "Fe"
    assert np.array_equal(is_guest, distance > 0)
    assert is_guest.sum() == pytest.approx(1400 * 7 / 24, rel=0.15)


def test_what_does_not_fit_is_refused():
    host, guest = liquid("O", 50, 0), liquid("Fe", 50, 1)
    with pytest.raises(ValueError, match="does not fit"):
        droplet(host, guest, 12.0, [0, 0, 0], guest_is_rich=True)
    with pytest.raises(ValueError, match="does not fit"):
        film(host, guest, 25.0, 0.0, guest_is_rich=True)
    with pytest.raises(ValueError, match="same size"):
        film(host, liquid("Fe", 50, 1, edge=20.0), 5.0, 0.0, guest_is_rich=True)
    with pytest.raises(ValueError, match="orthogonal"):
        droplet(AWKWARD["triclinic"](), guest, 3.0, [0, 0, 0], guest_is_rich=True)
    with pytest.raises(ValueError, match="orthogonal"):
        open_piece(AWKWARD["triclinic"](), [0, 0, 0], 5.0)


def test_stamped_cases_cover_both_ways():
    cases = list(stamped_cases(liquid("Fe", 1300, 1), liquid("O", 1500, 0), sizes=(5.0, 8.0), copies=1))
    assert len(cases) == 8 and len({case.group for case in cases}) == 8
    for case in cases:
        iron = np.array(case.frame.species_names)[case.frame.species] == "Fe"
        assert np.array_equal(case.reference.rich, iron)
    rule = LabelRule("Fe", sigma=1.5, threshold=0.05, phases=2).fixed()
    error = compare(cases, [ConstantCut(rule)]).pooled().numbers()["error"]
    assert error < 0.1


def test_the_average_over_time_of_the_same_frame_is_its_label(small):
    frame = small[3000][0]
    run = [frame.replace(time=0.1 * k, timestep=k) for k in range(5)]
    case = averaged_case(run, sigma=1.5, average=0.15)
    assert case.frame is run[2]
    labels = WeakLabels(LabelRule("Fe", sigma=1.5).fixed())(frame, WIDTHS)
    assert (case.reference.rich != labels.rich).mean() < 0.01
    near = np.abs(labels.distance) < 1.5
    assert np.abs(case.reference.distance - labels.distance)[near].max() < 0.15
    with pytest.raises(ValueError, match="no frames"):
        averaged_case([])


def test_coarsening_and_one_phase(small):
    frames = small[3000][:2]
    cases = list(coarsening_cases(frames, RULE))
    assert [case.name for case in cases] == ["coarsening, frame 0", "coarsening, frame 1"]
    assert np.array_equal(cases[0].reference.rich, WeakLabels(RULE)(frames[0], WIDTHS).rich)
    for rich in (True, False):
        (case,) = one_phase_cases(frames[:1], rich=rich, group="control")
        assert case.reference.n_phases == 1 and (case.reference.rich == rich).all()
        assert isinstance(case.reference, Segmentation)
