"""Methods without a network, and the cases of known answer, against direct counts and geometry."""

import numpy as np
import pytest

from phaseseg.families.segmentation.baselines import (
    CompositionBins,
    ConstantCut,
    FrameCut,
    NeighborFraction,
    baselines,
    best_threshold,
    fit_thresholds,
)
from phaseseg.families.segmentation.comparison import compare
from phaseseg.families.segmentation.fields import BOUNDARY, RICH
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.methods import WIDTHS, Segmentation, WeakLabels, decode
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

RULE = LabelRule(sigma=2.0, threshold=0.04)


def naive_fraction(frame, cutoff=6.0):
    """Share of iron among the neighbors by all pairs and images."""
    out = np.zeros(len(frame))
    spans = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(frame.cell), axis=0)).astype(int) * frame.pbc
    images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in spans + 1 * frame.pbc), indexing="ij"), -1)
    shifts = images.reshape(-1, 3) @ frame.cell
    iron = np.array(frame.species_names)[frame.species] == "Fe"
    for i in range(len(frame)):
        apart = np.linalg.norm(frame.positions[None] + shifts[:, None] - frame.positions[i], axis=-1)
        near = (apart <= cutoff).sum(axis=0)
        near[i] -= 1
        out[i] = near[iron].sum() / max(near.sum(), 1)
    return out


@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "open along c", "one atom", "tiny"])
def test_fraction_of_the_neighbors_by_all_pairs(name):
    frame = AWKWARD[name]()
    assert NeighborFraction(("Fe",), 0.5).values(frame) == pytest.approx(naive_fraction(frame), abs=1e-6)


def test_bins_are_counted_in_the_cells_of_the_frame(large):
    frame = large[3000]
    values = CompositionBins(("Fe",), 0.5).values(frame)
    assert len(np.unique(np.round(values, 6))) <= 512  # 8 x 8 x 8 in a cell of 68 Å
    edge = frame.cell[0, 0] / 8
    place = np.floor(((frame.positions - frame.origin) % frame.cell[0, 0]) / edge).astype(int)
    iron = np.array(frame.species_names)[frame.species] == "Fe"
    one = (place == place[0]).all(axis=1)
    assert values[0] == pytest.approx(iron[one].mean())


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_bins_take_any_frame(name):
    frame = AWKWARD[name]()
    values = CompositionBins(("Fe",), 0.5).values(frame)
    assert values.shape == (len(frame),) and ((values >= 0) & (values <= 1)).all()


def test_best_threshold_tries_them_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, rich = rng.integers(0, 12, 60) / 10, rng.random(60) < 0.4
        cut = best_threshold(values, rich)
        wrong = [((values >= at) != rich).sum() for at in np.arange(-0.05, 1.3, 0.1)]
        assert ((values >= cut) != rich).sum() == min(wrong)
    assert best_threshold(np.ones(3), np.zeros(3, bool)) > 1
    with pytest.raises(ValueError, match="no atoms"):
        best_threshold(np.empty(0), np.empty(0, bool))


def test_decoding_a_distance_gives_it_back(slab_frame):
    x = slab_frame.positions[:, 0]
    exact = np.minimum(x - 10.3, 27.8 - x)
    found = decode(slab_frame, np.clip(exact, -3, 3), WIDTHS)
    near = np.abs(exact) < 1.5
    assert np.abs(found.distance[near] - exact[near]).max() < 0.05
    assert np.array_equal(found.rich, exact >= 0) and found.n_domains == 1
    assert (found.phase[0.68] == BOUNDARY).mean() == pytest.approx((np.abs(exact) < 0.34).mean(), abs=0.005)
    for score in (-1.0, 1.0):
        whole = decode(slab_frame, np.full(len(slab_frame), score), WIDTHS)
        assert whole.n_phases == 1 and (whole.rich == (score > 0)).all() and whole.n_domains == 0
        assert np.isnan(whole.distance).all() and (whole.phase[0.68] == (RICH if score > 0 else 0)).all()


def test_all_baselines_on_a_melt(small, large):
    thresholds = fit_thresholds(small[3000][:6], RULE)
    assert 0.2 < thresholds["fraction"] < 0.6 and 0.2 < thresholds["bins"] < 0.6
    assert 0.03 < thresholds["density"] < 0.05 and thresholds["sigma"] == 1.5
    methods = baselines(RULE, thresholds)
    frame = large[3000]
    answer = WeakLabels(RULE)(frame, WIDTHS)
    most = {
        "Fe fraction within 6 Å": 0.03,
        "constant cut, sigma 1.5 Å": 0.02,
        "steepest cut of the frame": 0.02,
        "two-means cut of the frame": 0.02,
        "bins of 8.5 Å": 0.15,
    }
    assert [method.name for method in methods] == list(most)
    for method in methods:
        found = method(frame, WIDTHS)
        assert found.n_phases == 2 and (found.rich != answer.rich).mean() < most[method.name]
        assert sum(found.seconds.values()) < 20
        assert (found.phase[2.7] == BOUNDARY).sum() > (found.phase[0.68] == BOUNDARY).sum() > 0


def test_thresholds_need_two_phases(melt_data):
    frame = Frame(np.random.default_rng(0).random((500, 3)) * 17, np.eye(3) * 17, True, ["Fe", "O"] * 250)
    with pytest.raises(ValueError, match="two phases"):
        fit_thresholds([frame], RULE)


def test_cuts_of_density(small):
    frame = small[4000][0]
    rule = LabelRule(sigma=1.5, threshold="steepest")
    same = FrameCut(rule, "steepest")(frame, (0.68,))
    assert np.array_equal(same.phase[0.68], label_frame(frame, rule)["phase"])
    with pytest.raises(ValueError, match="needs a number"):
        ConstantCut(rule)


def test_the_cut_of_an_open_frame_ignores_what_is_outside():
    # A cube of iron and oxygen; its faces are open, where the density falls to nothing.
    rng = np.random.default_rng(0)
    positions = rng.random((6000, 3)) * [30, 20, 20]
    iron = rng.random(6000) < np.where(positions[:, 0] < 15, 0.9, 0.3)
    periodic = Frame(positions, [30.0, 20.0, 20.0], True, np.where(iron, "Fe", "O"))
    rule = LabelRule(sigma=1.5, phases=2, min_volume=0.0)
    inside = (np.abs(positions[:, 1:] - 10) < 6).all(axis=1) & (np.abs(positions[:, 0] - 15) < 11)
    for threshold in ("steepest", "two-means"):
        found = FrameCut(rule, threshold)(periodic.replace(pbc=[False] * 3), (0.68,))
        assert (found.rich[inside] != (positions[inside, 0] < 15)).mean() < 0.03


# ----------------------------------------------------------------------------------- known answers


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
    with pytest.raises(ValueError, match="one size"):
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
    rule = LabelRule(sigma=1.5, threshold=0.05, phases=2)
    error = compare(cases, [ConstantCut(rule)]).pooled().numbers()["error"]
    assert error < 0.1


def test_the_average_over_time_of_the_same_frame_is_its_label(small):
    frame = small[3000][0]
    run = [frame.replace(time=0.1 * k, timestep=k) for k in range(5)]
    case = averaged_case(run, sigma=1.5, average=0.15)
    assert case.frame is run[2]
    labels = WeakLabels(LabelRule(sigma=1.5))(frame, WIDTHS)
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
