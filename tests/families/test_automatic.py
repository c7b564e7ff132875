"""Sigma and species that follow from the liquid, and the verdict at that width."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from phaseseg import Frame, label_phases, label_trajectory, read_frames
from phaseseg.families.segmentation.labels.automatic import COUNTED, rule_for, rule_of, width_of
from phaseseg.families.segmentation.labels.density import count_units
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.frame import Category
from phaseseg.testing import AWKWARD, permuted, repeated, rolled_axes, translated, wrapped_elsewhere

STRANGERS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "strangers"


def stranger(name):
    path = STRANGERS / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    return next(read_frames(path))


def random_points(n=1000, density=0.03, seed=0, names=("Ar",), shares=(1.0,)):
    rng = np.random.default_rng(seed)
    edge = (n / density) ** (1 / 3)
    return Frame(rng.random((n, 3)) * edge, [edge] * 3, True, rng.choice(len(names), n, p=shares), names)


@cache
def lj_liquid(side=22, seed=0):
    """Like a dense liquid in reduced units: points kept apart, 0.8 per σ^3."""
    edge = side * 0.8 ** (-1 / 3)
    sites = np.indices((side, side, side)).reshape(3, -1).T * (edge / side)
    positions = sites + np.random.default_rng(seed).normal(0, 0.25, sites.shape)
    return Frame(positions % edge, [edge] * 3, True, ["Ar"] * len(sites), units="lj")


def cut(frame, inside):
    return frame.take(np.flatnonzero(inside(frame.positions)))


# Sigma --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_melts_get_two_angstroms(large, small, temperature):
    assert rule_of(large[temperature], LabelRule()).sigma == 2.1
    for frame in small[temperature][::9]:
        assert 2.1 <= rule_of(frame, LabelRule("Fe")).sigma <= 2.3


def test_sigma_counts_a_given_number_of_atoms():
    """In a homogeneous liquid the width is known; half a phase in a void has the same."""
    for density in (0.01, 0.03, 0.8):
        frame = random_points(3000, density)
        width = width_of(frame, ("Ar",))
        counted = (4 * np.pi) ** 1.5 * width.sigma**3 * density
        assert counted == pytest.approx(COUNTED, rel=0.2)
        half = cut(frame, lambda x, edge=frame.cell[0, 0]: x[:, 0] < edge / 2)
        assert width_of(half, ("Ar",)).sigma == pytest.approx(width.sigma, rel=0.06)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_sigma_scales_with_the_unit_of_length(small, scale):
    frame = small[3000][0]
    sigma = width_of(frame, ("Fe",)).sigma
    scaled = frame.replace(
        positions=scale * frame.positions, cell=scale * frame.cell, origin=scale * frame.origin
    )
    assert width_of(scaled, ("Fe",)).sigma == pytest.approx(scale * sigma, rel=1e-9)


def test_a_file_in_nanometers_is_told_from_one_in_angstroms(small):
    frame = small[4000][0]
    for scale, units, said in ((1.0, "metal", False), (0.1, "metal", True), (0.1, "lj", False)):
        cell, positions = scale * frame.cell, scale * frame.positions
        fields = label_phases(frame.replace(cell=cell, positions=positions, units=units))
        assert ("no-angstrom" in {message.code for message in fields.messages}) == said


def test_nothing_that_does_not_matter_changes_sigma(small):
    for frame in (small[3000][4], small[4000][11]):
        expected = width_of(frame, ("Fe",))
        order = np.random.default_rng(0).permutation(len(frame))
        for changed in (
            translated(frame, [1.3, 0.2, 5.1]), permuted(frame, order), wrapped_elsewhere(frame),
            repeated(frame), repeated(frame, (3, 1, 2)), rolled_axes(frame, (1, 2, 0)),
        ):  # fmt: skip
            found = width_of(changed, ("Fe",))
            assert found.density == pytest.approx(expected.density, rel=0.02)
            assert found.sigma == pytest.approx(expected.sigma, rel=0.05)  # one step of rounding at most


def test_evaporated_atoms_do_not_widen_sigma(small):
    frame = small[3000][0].replace(pbc=False)
    expected = rule_of(frame, LabelRule("Fe")).sigma
    for far in (1e2, 1e6, 1e8):
        positions = frame.positions.copy()
        positions[int(np.flatnonzero(frame.species_mask("Fe"))[0])] += [far, -far, 0]
        assert rule_of(frame.replace(positions=positions), LabelRule("Fe")).sigma == pytest.approx(
            expected, rel=0.05
        )


@pytest.mark.slow
def test_a_gas_of_evaporated_atoms_does_not_widen_sigma(large):
    frame, rng = large[3000].replace(pbc=False), np.random.default_rng(0)
    gas = rng.choice(len(frame), 3000, replace=False)
    positions = frame.positions.copy()
    positions[gas] = rng.normal(size=(len(gas), 3)) * 1e6
    assert rule_of(frame.replace(positions=positions), LabelRule("Fe")).sigma == pytest.approx(2.1, abs=0.15)


def test_a_droplet_in_a_large_void_has_the_sigma_of_its_liquid():
    frame = lj_liquid()
    middle = frame.cell[0, 0] / 2
    ball = cut(frame, lambda x: np.linalg.norm(x - middle, axis=1) < 8)
    large = ball.replace(cell=np.diag([150.0] * 3))
    assert rule_of(large, LabelRule()).sigma == pytest.approx(rule_of(frame, LabelRule()).sigma, rel=0.15)


def test_the_sentence_gives_the_value_and_its_reason(small):
    fields = label_phases(small[3000][0])
    message = next(m for m in fields.messages if m.code == "automatic-sigma")
    assert f"Sigma is {fields['sigma']:g} Å" in message and "density of Fe in the rich phase" in message
    given = label_phases(small[3000][0], sigma=1.5)
    assert given["sigma"] == 1.5 and "automatic-sigma" not in {m.code for m in given.messages}
    in_lj = label_phases(lj_liquid())
    assert any("σ" in m and "σ^3" in m for m in in_lj.messages if m.code == "automatic-sigma")


def test_a_cell_too_small_for_the_width_limits_it():
    frame = random_points(4, 0.03)
    rule = rule_of(frame, LabelRule())
    assert rule.sigma <= frame.cell[0, 0] / 2
    assert "largest that the cell permits" in rule.messages[-1]
    label_phases(frame)


@pytest.mark.slow
def test_a_cell_too_thin_for_any_liquid_is_refused():
    frame = random_points(200)
    thin = frame.replace(cell=frame.cell * [[1], [1], [1e-3]])
    with pytest.raises(ValueError, match=r"the cell is only 0\.0188 Å thick"):
        label_phases(thin)


@pytest.mark.parametrize("name", AWKWARD)
def test_any_frame_gets_a_width(name):
    frame = AWKWARD[name]()
    rule = rule_of(frame, LabelRule())
    assert np.isfinite(rule.sigma) and rule.sigma > 0
    label_phases(frame)


# What follows from it -----------------------------------------------------------------------------


def test_lengths_follow_from_sigma_unless_they_are_given():
    iron, oxygen = LabelRule(("Fe",), 2.0).fixed(), LabelRule(("O",), 3.0).fixed()
    assert (iron.min_volume, iron.boundary_width, iron.bulk_distance, iron.voxel_size) == (
        200,
        0.68,
        5.0,
        1.0,
    )
    assert (oxygen.min_volume, oxygen.bulk_distance, oxygen.voxel_size) == (675.0, 7.5, 1.5)
    assert oxygen.boundary_width == pytest.approx(1.02)
    given = LabelRule(("O",), 3.0, 0.5, min_volume=7.0, boundary_width=0.0, bulk_distance=1.0).fixed()
    assert (given.min_volume, given.boundary_width, given.bulk_distance, given.voxel_size) == (
        7.0,
        0.0,
        1.0,
        0.5,
    )
    assert FixedRule(**iron.to_dict()) == iron and iron.fixed() is iron


def test_a_sigma_beyond_reason_is_refused_in_a_sentence(small):
    assert np.isfinite(LabelRule(("Fe",), 1e200).fixed().min_volume)
    with pytest.raises(ValueError, match="more than half of the cell"):
        label_phases(small[3000][0], sigma=1e200)


def test_a_rule_that_leaves_nothing_open_is_not_measured(small, monkeypatch):
    monkeypatch.setattr("phaseseg.families.segmentation.labels.automatic.width_of", None)
    assert rule_of(small[3000][0], LabelRule(("Fe",), 1.5)) == LabelRule(("Fe",), 1.5).fixed()


def test_the_first_frame_decides_for_a_trajectory(small):
    frames = [small[3000][0], repeated(small[4000][3], (2, 1, 1))]
    rule, again = rule_for(iter(frames), LabelRule())
    assert list(again) == frames and rule == rule_of(frames[0], LabelRule())
    sigmas = [fields["sigma"] for _, fields in label_trajectory(frames)]
    assert sigmas == [rule.sigma] * 2
    empty = small[3000][0].take([])
    assert rule_for([empty, *frames], LabelRule())[0] == rule
    assert list(label_trajectory([])) == []


# The verdict --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [50, 200, 1000, 20_000])
@pytest.mark.parametrize("seed", range(3))
def test_random_points_are_one_phase(n, seed):
    fields = label_phases(random_points(n, seed=seed))
    assert fields["n_phases"] == 1 and fields["phase_contrast"] < 1.4, fields.messages


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_a_random_mixture_is_one_phase(share):
    frame = random_points(8000, 0.08, names=("Fe", "O"), shares=(share, 1 - share))
    assert label_phases(frame)["n_phases"] == label_phases(frame, "O")["n_phases"] == 1


def test_a_lennard_jones_liquid_is_one_phase():
    fields = label_phases(lj_liquid())
    assert fields["n_phases"] == 1 and fields["phase_contrast"] < 1.0


@pytest.mark.parametrize(
    ("name", "phases"),
    [("control_20000K", 1), ("control_oxidized_4000K", 1), ("large_3000K", 2), ("large_4000K", 2),
     *[(f"small_{t}K_s{s}", 2) for t in (3000, 4000) for s in (11, 12, 13, 14)]],
)  # fmt: skip
def test_melts_and_controls_get_the_right_verdict_from_the_defaults(melt_data, name, phases):
    for frame in melt_data(name):
        fields = label_phases(frame)
        assert fields["n_phases"] == phases
        assert not fields.messages[0].code.endswith("uncertain")


@pytest.mark.slow
def test_labels_of_one_frame_from_the_defaults_come_close_to_the_average(melt_data):
    """Two-class error against the density averaged over ±1 ps, smoothed by 1.5 Å."""
    frames = list(melt_data("large_dense_4000K", dt=0.001))
    middle = len(frames) // 2
    averaged = list(label_trajectory(frames, species="Fe", sigma=1.5, average=1.0))[middle][1]
    error = {
        sigma: np.mean((label_phases(frames[middle], sigma=sigma)["domain"] > 0) != (averaged["domain"] > 0))
        for sigma in ("auto", 1.5)
    }
    print(f"two-class error: automatic {error['auto']:.2%}, 1.5 Å {error[1.5]:.2%}")
    assert error["auto"] <= 0.012 < error[1.5]


# Areas --------------------------------------------------------------------------------------------


def test_areas_of_slab_ball_and_cylinder_cut_from_a_liquid():
    frame = lj_liquid()
    edge = frame.cell[0, 0]
    x = frame.positions - edge / 2
    shapes = {
        2 * edge**2: np.abs(x[:, 2]) < edge / 4,
        4 * np.pi * 7.0**2: np.linalg.norm(x, axis=1) < 7.0,
        2 * np.pi * 7.0 * edge: np.linalg.norm(x[:, :2], axis=1) < 7.0,
    }
    for area, inside in shapes.items():
        fields = label_phases(frame.take(np.flatnonzero(inside)))
        assert fields["n_phases"] == 2
        assert fields["interface_area"] == pytest.approx(area, rel=0.1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("inside", "area", "least", "most"),
    [
        (lambda x: np.abs(x[:, 2]) < 0.25, 2.0, 1.0, 1.2),
        (lambda x: np.linalg.norm(x, axis=1) < 0.35, 4 * np.pi * 0.35**2, 0.9, 1.1),
        (lambda x: np.linalg.norm(x[:, :2], axis=1) < 0.3, 2 * np.pi * 0.3, 0.95, 1.1),
        (lambda x: np.linalg.norm(x, axis=1) > 0.35, 4 * np.pi * 0.35**2, 0.95, 1.35),
    ],
    ids=["slab", "ball", "cylinder", "bubble"],
)  # fmt: skip
@pytest.mark.parametrize("n", [3000, 20_000])
def test_areas_of_random_points(inside, area, least, most, n, seed):
    """The noise inside the rich bulk, far stronger than that of a liquid, must not pull the cut up."""
    frame = random_points(n, seed=seed)
    edge = frame.cell[0, 0]
    fields = label_phases(cut(frame, lambda x: inside(x / edge - 0.5)))
    assert fields["n_phases"] == 2
    assert least <= fields["interface_area"] / (area * edge**2) <= most


@pytest.mark.parametrize(
    ("name", "species", "sigma", "flat"),
    [("water-2-interfaces.gro.gz", "O", 3.2, 3600.0), ("LJ.gro.gz", "Ar", 3.4, 28_800.0)],
)
def test_flat_faces_of_public_files_from_the_defaults(name, species, sigma, flat):
    frame = stranger(name)
    rule = rule_of(frame, LabelRule())
    assert rule.species == (species,) and rule.sigma == sigma
    fields = label_phases(frame)
    assert fields["n_phases"] == 2
    assert 1.0 <= fields["interface_area"] / flat <= 1.25


# Species ------------------------------------------------------------------------------------------


def solution(salt=20, seed=0):
    """Water (here: single sites) next to oil, and a salt that is everywhere."""
    rng = np.random.default_rng(seed)
    edge = np.array([30.0, 30.0, 60.0])
    x = rng.random((3000, 3)) * edge
    names = np.where(x[:, 2] < 30, "O", "C")
    names[:salt] = "Na"
    return Frame(x, edge, True, names)


def test_iron_is_chosen_silently_where_there_is_iron(small):
    fields = label_phases(small[3000][0])
    assert "automatic-species" not in {m.code for m in fields.messages}
    np.testing.assert_array_equal(fields["phase"], label_phases(small[3000][0], "Fe")["phase"])


def test_without_iron_the_species_that_separates_best_is_chosen_and_named():
    fields = label_phases(solution())
    message = next(m for m in fields.messages if m.code == "automatic-species")
    assert fields["n_phases"] == 2 and ("of O" in message or "of C" in message) and "next is" in message
    assert "Na" not in message.split("which")[0]


def test_hydrogen_and_virtual_sites_are_not_chosen():
    frame = solution()
    names = np.where(frame.species_mask("O"), "H", np.where(frame.species_mask("C"), "X", "Na"))
    rule = rule_of(Frame(frame.positions, frame.cell, True, names), LabelRule())
    assert rule.species == ("Na",)
    alone = rule_of(Frame(frame.positions, frame.cell, True, ["H"] * len(frame)), LabelRule())
    assert alone.species == ("H",)


@pytest.mark.parametrize("seed", range(3))
def test_the_center_of_a_molecule_is_chosen_if_its_other_atoms_give_a_rough_interface(seed):
    """Tetrahedral molecules in a file that does not say which atoms are one."""
    rng = np.random.default_rng(seed)
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * 1.02
    spacing = 0.0062 ** (-1 / 3)
    centers = (np.indices((7, 7, 9)).reshape(3, -1).T + 0.5) * spacing
    centers += rng.normal(0, 0.35 * spacing, centers.shape)
    turns = np.linalg.qr(rng.normal(size=(len(centers), 3, 3)))[0]
    atoms = centers[:, None] + np.concatenate([np.zeros((len(centers), 1, 3)), corners @ turns], axis=1)
    edge = 7 * spacing
    frame = Frame(
        atoms.reshape(-1, 3), [edge, edge, 90.0], True, ["C", "Cl", "Cl", "Cl", "Cl"] * len(centers)
    )
    assert rule_of(frame, LabelRule()).species == ("C",)
    assert label_phases(frame)["interface_area"] == pytest.approx(2 * edge**2, rel=0.1)


def test_molecules_count_once():
    """Water by all of its atoms has the width of its oxygen atoms."""
    n = 400
    frame = random_points(n, 0.03, names=("O",))
    shifts = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    water = Frame(
        (frame.positions[:, None] + shifts).reshape(-1, 3), frame.cell, True, ["O", "H", "H"] * n,
        molecules=np.repeat(np.arange(1, n + 1), 3),
        categories={"residue": Category.of(["SOL"] * 3 * n)},
    )  # fmt: skip
    every = np.ones(3 * n, dtype=bool)
    assert count_units(water, every) == n == count_units(water, water.species_mask("H"))
    assert count_units(water.replace(molecules=None), every) == n
    assert count_units(water.replace(molecules=np.ones(3 * n)), every) == n  # one large molecule: atoms
    assert count_units(water.replace(molecules=1e12 * water.molecules), every) == n
    expected = width_of(water, ("O",)).sigma
    for species in (("residue:SOL",), ("O", "H"), ("H",)):
        assert width_of(water, species).sigma == pytest.approx(expected, rel=0.06)


def test_a_frame_without_atoms_or_the_species_is_refused(small):
    with pytest.raises(ValueError, match="no atoms"):
        rule_of(small[3000][0].take([]), LabelRule())
    with pytest.raises(ValueError, match="no species named 'Xx'"):
        rule_of(small[3000][0], LabelRule(("Xx",)))
