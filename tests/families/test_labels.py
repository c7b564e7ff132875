"""Labels of a frame and of a trajectory: what every frame must satisfy, averages, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.fields import BOUNDARY
from phaseseg.families.segmentation.labels.assignment import SHARPEN_WITHIN
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.weak_labels import label_density, label_frame, label_trajectory
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.testing import AWKWARD, check_fields

PER_ATOM = ("phase", "phase_density", "interface_distance", "domain")


def assert_same_fields(a, b):
    assert set(a) == set(b) and a.messages == b.messages
    for name in a:
        if name == "density_grid":
            assert_array_equal(a[name].values, b[name].values)
        elif name in a.level("table"):
            assert set(a[name].columns) == set(b[name].columns)
            for column, values in a[name].columns.items():
                assert_array_equal(values, b[name].columns[column])
        else:
            assert_array_equal(a[name], b[name])


# One frame ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"phases": 2, "min_volume": 0.0},
        {"field": "mole-fraction", "threshold": "two-means"},
        {"field": "mole-fraction", "threshold": 0.5, "phases": 2, "min_volume": 0.0},
        {"at": "voxel", "keep": "largest", "phases": 2},
        {"boundary_width": 0.0, "phases": 2, "min_volume": 0.0},
        {"boundary_width": 4.0, "threshold": "midpoint", "phases": 2, "min_volume": 0.0},
        {"threshold": 1e9, "phases": 2},
        {"threshold": -1.0, "phases": 2},
        {"sigma": 1.0, "voxel": 1.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", AWKWARD)
def test_any_frame_gets_consistent_labels(name, options):
    frame = AWKWARD[name]()
    check_fields(frame, label_phases(frame, "Fe", **options))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_the_bundled_melts_get_consistent_labels(large, small, temperature):
    for frame in (large[temperature], *small[temperature][::20]):
        fields = label_phases(frame, "Fe")
        check_fields(frame, fields)
        width = label_phases(frame, "Fe", boundary_width=2.7)
        boundary = np.abs(fields["interface_distance"]) <= np.float32(1.35)
        # At the edge of the boundary, and only there, distances are sharpened.
        clear = np.abs(np.abs(fields["interface_distance"]) - 1.35) > max(SHARPEN_WITHIN)
        assert clear.mean() > 0.9
        assert_array_equal((width["phase"] == BOUNDARY)[clear], boundary[clear])
        none = label_phases(frame, "Fe", boundary_width=0)
        assert_array_equal(none["phase"], (none["domain"] > 0).astype(np.int8))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AWKWARD, "melt"])
def test_a_frame_is_not_changed_and_the_same_twice(name, small):
    frame = small[3000][3] if name == "melt" else AWKWARD[name]()
    before = {key: np.copy(getattr(frame, key)) for key in ("positions", "cell", "pbc", "species", "origin")}
    for key in before:
        getattr(frame, key).flags.writeable = False
    first, second = (label_phases(frame, "Fe", phases=2, min_volume=0.0) for _ in range(2))
    for key, values in before.items():
        assert_array_equal(getattr(frame, key), values)
    assert_same_fields(first, second)


def test_results_do_not_share_memory(small):
    frame = small[3000][0]
    density = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    first = label_density(frame, density, LabelRule("Fe", sigma=1.5).fixed())
    kept = {name: first[name].copy() for name in PER_ATOM}
    label_density(
        frame, density, LabelRule("Fe", sigma=1.5, threshold=0.03, keep="largest", boundary_width=3).fixed()
    )
    for name, values in kept.items():
        assert_array_equal(first[name], values)


def test_a_cut_can_be_repeated_on_one_density(small):
    """What a slider does: the same as labeling afresh."""
    frame = small[4000][5]
    density = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    rules = [
        LabelRule("Fe", sigma=1.5, threshold=threshold, boundary_width=width, keep=keep, at=at).fixed()
        for threshold, width, keep, at in (
            ("steepest", 0.68, "all", "atom"),
            ("two-means", 2.0, "largest", "voxel"),
            (0.03, 0, "all", "atom"),
        )
    ]
    for rule in rules:
        assert_same_fields(label_density(frame, density, rule), label_frame(frame, rule))


def test_several_species_are_one(small):
    frame = small[3000][0]
    merged = frame.replace(species=np.where(np.isin(frame.species, [0, 4]), 0, 1), species_names=("Fe", "O"))
    both, one = label_phases(frame, ["Fe", "N"]), label_phases(merged, "Fe")
    for name in PER_ATOM:
        assert_array_equal(both[name], one[name])


def test_reduced_units_and_times_do_not_matter(small):
    frame = small[3000][0]
    other = frame.replace(units="lj", time=3.0, timestep=7, ids=np.arange(len(frame)) + 5)
    for name in PER_ATOM:
        assert_array_equal(label_phases(frame, "Fe")[name], label_phases(other, "Fe")[name])


def test_the_phases_of_the_melt_are_metal_and_silicate(large):
    """Nearly all magnesium lies in the poor phase, and most of the iron in the rich one."""
    frame = large[3000]
    fields = label_phases(frame, "Fe")
    rich = fields["domain"] > 0
    code = {name: n for n, name in enumerate(frame.species_names)}
    assert rich[frame.species == code["Mg"]].mean() < 0.001
    assert rich[frame.species == code["Fe"]].mean() > 0.9
    # MELT's own rule gives 33 % of the atoms on the metal's side.
    assert fields["rich_atom_fraction"] == pytest.approx(0.33, abs=0.01)


def test_a_sentence_warns_of_voxels_that_do_not_resolve_sigma(small):
    fields = label_phases(small[3000][0], "Fe", sigma=1.5, voxel=1.6)
    assert any("do not resolve a sigma of 1.5 Å" in message for message in fields.messages)


# A trajectory -------------------------------------------------------------------------------------


def timed(frames, step=0.1):
    return [frame.replace(time=n * step) for n, frame in enumerate(frames)]


def test_a_trajectory_is_its_frames(small):
    frames = small[3000][:6] + small[4000][:2]
    rule = LabelRule("Fe", sigma=1.5).fixed()
    results = list(label_trajectory(iter(frames), rule))
    assert [frame for frame, _ in results] == frames
    for frame, fields in results:
        assert_same_fields(fields, label_frame(frame, rule))


def test_a_trajectory_is_labeled_as_it_comes(small):
    taken = []

    def frames():
        for n, frame in enumerate(timed(small[3000][:8])):
            taken.append(n)
            yield frame

    labeled = label_trajectory(frames(), LabelRule("Fe", sigma=1.5).fixed())
    next(labeled)
    assert taken == [0]
    taken.clear()
    averaged = label_trajectory(frames(), LabelRule("Fe", sigma=1.5).fixed(), average=0.2)
    next(averaged)
    assert taken == [0, 1, 2, 3]  # the first frame after the window says that it is complete


@pytest.mark.slow
@pytest.mark.parametrize("average", [0.05, 0.1, 0.25, 10.0])
def test_averages_equal_those_of_all_densities_in_the_window(small, average):
    frames = timed(small[3000][:9])
    frames[5:] = [frame.replace(time=frame.time + 0.03) for frame in frames[5:]]  # uneven steps
    rule = LabelRule("Fe", sigma=1.5).fixed()
    densities = [density_field(frame, rule) for frame in frames]
    results = list(label_trajectory(iter(frames), rule, average=average))
    assert len(results) == len(frames)
    for (frame, fields), same, own in zip(results, frames, densities, strict=True):
        assert frame is same
        inside = [
            density.grid.values.astype(float)
            for other, density in zip(frames, densities, strict=True)
            if abs(other.time - frame.time) <= average + 1e-9
        ]
        mean = np.mean(inside, axis=0).astype(np.float32)
        assert_allclose(fields["density_grid"].values, mean, rtol=0, atol=1e-6 * mean.max())
        grid = replace(own.grid, values=fields["density_grid"].values)
        want = label_density(frame, replace(own, grid=grid, averaged=len(inside) > 1), rule)
        assert_same_fields(fields, want)


def test_an_average_over_a_breathing_cell_follows_the_fractions(small):
    frames = []
    for n, frame in enumerate(small[3000][:3]):
        scale = 1 + 0.04 * n  # a grid of its own would have more points
        frames.append(frame.replace(positions=frame.positions * scale, cell=frame.cell * scale, time=0.1 * n))
    results = list(label_trajectory(frames, LabelRule("Fe", sigma=1.5).fixed(), average=0.5))
    assert len({fields["density_grid"].shape for _, fields in results}) == 1
    for frame, fields in results:
        check_fields(frame, fields)
        assert_allclose(fields["density_grid"].cell, frame.cell)


@pytest.mark.slow
def test_averages_are_nearer_to_the_mean_over_two_picoseconds(melt_data):
    """One frame differs in 1.4 % of the atoms at 4000 K; the more frames, the fewer."""
    frames = timed(melt_data("large_dense_4000K"))
    middle, rule = frames[10], LabelRule("Fe", sigma=1.5).fixed()

    def sides(average):
        near = [frame for frame in frames if abs(frame.time - middle.time) <= (average or 0) + 1e-9]
        labeled = label_trajectory(near, rule, average=average)
        return next(fields["domain"] > 0 for frame, fields in labeled if frame is middle)

    reference = sides(1.0)
    errors = [float((sides(average) != reference).mean()) for average in (None, 0.3, 0.6)]
    print("sides that differ from the mean of 21 frames:", *(f"{error:.2%}" for error in errors))
    assert errors[0] == pytest.approx(0.014, abs=0.0015)
    assert errors[2] < errors[1] < 0.8 * errors[0]


# Bad input ----------------------------------------------------------------------------------------


def message(error, *args, **kwargs):
    with pytest.raises(error) as caught:
        result = args[0](*args[1:], **kwargs)
        if hasattr(result, "__next__"):
            list(result)
    return str(caught.value)


def test_averages_need_times_that_grow_and_a_periodic_cell(small):
    rule, frames = LabelRule("Fe", sigma=1.5).fixed(), timed(small[3000][:3])
    said = message(ValueError, label_trajectory, small[3000][:2], rule, average=1.0)
    assert "averaging needs the time of every frame" in said and "frame 0" in said
    backward = [frames[1], frames[0]]
    assert "is not later than that of the frame before it" in message(
        ValueError, label_trajectory, backward, rule, average=1.0
    )
    half_open = [frame.replace(pbc=(True, True, False)) for frame in frames]
    assert "averaging needs a cell that is periodic along all three axes" in message(
        ValueError, label_trajectory, half_open, rule, average=1.0
    )
    for average in (0.0, -1.0, np.nan):
        assert "average must be a positive time in ps" in message(
            ValueError, label_trajectory, frames, rule, average=average
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_not_finite_is_refused_with_its_atom(bad):
    positions = np.ones((4, 3))
    positions[2, 1] = bad
    said = message(
        ValueError,
        Frame,
        positions,
        np.eye(3) * 9,
        True,
        ["Fe"] * 4,
        ids=[5, 6, 70, 8],
        source="a.xyz, frame 2",
    )
    assert said.startswith("a.xyz, frame 2: atom 3 (id 70) has the coordinates [1.0, ")
    assert "every coordinate must be a finite number" in said


@pytest.mark.parametrize(
    "cell",
    [
        np.zeros((3, 3)),
        [[9, 0, 0], [0, 9, 0], [9, 9, 0]],
        [[9, 0, 0], [0, 9, 0], [0, 0, 0]],
        [[1, 2, 3], [2, 4, 6], [0, 0, 1]],
    ],
)
def test_a_cell_without_volume_is_refused(cell):
    said = message(ValueError, Frame, np.ones((1, 3)), np.array(cell, float), True, ["Fe"], source="x.gro")
    assert said.startswith("x.gro: the cell is missing or has no volume")


def test_other_bad_frames_are_refused():
    one, cell = np.ones((1, 3)), np.eye(3) * 9
    assert "three finite vectors" in message(ValueError, Frame, one, np.full((3, 3), np.nan), True, ["Fe"])
    assert "three finite vectors" in message(ValueError, Frame, one, np.eye(2), True, ["Fe"])
    assert "must have shape (n_atoms, 3), found (1, 2)" in message(
        ValueError, Frame, one[:, :2], cell, True, ["Fe"]
    )
    assert "1 atoms have 2 species codes" in message(ValueError, Frame, one, cell, True, ["Fe", "O"])
    assert "integer species need species_names" in message(ValueError, Frame, one, cell, True, [0])
    assert "has the species code 3, but only 0 to 1 have names (Fe, O)" in message(
        ValueError, Frame, one, cell, True, [3], ("Fe", "O")
    )
    assert "species_names must be distinct" in message(ValueError, Frame, one, cell, True, [0], ("Fe", "Fe"))
    assert "1 atoms have 2 ids" in message(ValueError, Frame, one, cell, True, ["Fe"], ids=[1, 2])
