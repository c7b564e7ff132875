"""What must not change a label: the order of atoms and axes, whole cells, supercells, translations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg import label_phases
from phaseseg.testing import (
    AWKWARD,
    permuted,
    repeated,
    rolled_axes,
    translated,
    wrapped_elsewhere,
)

PER_ATOM = ("phase", "phase_density", "interface_distance", "domain")
# Share of the atoms whose label, boundary included, a moved grid may change.
MOVED = 2e-4
ANY = {"phases": 2, "min_volume": 0.0}
# Of these frames, those whose labels are not all alike.
TWO = ["orthogonal", "triclinic", "rotated", "left-handed", "open along c", "open", "2D"]


def assert_same_labels(a, b, order=slice(None), *, domains=True):
    """Equal labels; densities and distances near the interface equal but for rounding."""
    assert a["n_phases"] == b["n_phases"]
    assert_array_equal(a["phase"][order], b["phase"])
    if domains:
        assert_array_equal(a["domain"][order], b["domain"])
    assert b["threshold"] == pytest.approx(a["threshold"], rel=1e-5)
    assert b["interface_area"] == pytest.approx(a["interface_area"], rel=1e-3)
    scale = a["phase_density"].max()
    assert_allclose(b["phase_density"], a["phase_density"][order], rtol=0, atol=2e-3 * scale)
    one, other = a["interface_distance"][order], b["interface_distance"]
    assert_array_equal(np.isnan(one), np.isnan(other))
    near = np.abs(one) < 2
    # The last bits of the cut decide whether a tiny facet is there, which may be the nearest to an atom.
    # Distances promise 0.05 Å.
    gap = np.abs(other[near] - one[near])
    assert (gap > 2e-3).mean() < 0.03 and gap.max(initial=0.0) < 0.05


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_a_supercell_has_the_labels_of_its_cell(small, temperature):
    for frame in small[temperature][::11]:
        one, eight = (label_phases(f, "Fe", sigma=1.5) for f in (frame, repeated(frame)))
        assert one["n_phases"] == eight["n_phases"] == 2
        assert_array_equal(np.tile(one["phase"], 8), eight["phase"])
        assert_array_equal(np.tile(one["domain"] > 0, 8), eight["domain"] > 0)
        assert eight["threshold"] == pytest.approx(one["threshold"], rel=1e-6)
        assert eight["phase_contrast"] == pytest.approx(one["phase_contrast"], rel=1e-3)
        assert eight["interface_area"] == pytest.approx(8 * one["interface_area"], rel=1e-5)
        for name in ("rich_atom_fraction", "rich_mass_fraction", "rich_volume_fraction"):
            assert eight[name] == pytest.approx(one[name], rel=1e-9)
        distance = np.tile(one["interface_distance"], 8)
        near = np.abs(distance) < 2
        gap = np.abs(eight["interface_distance"][near] - distance[near])  # see `assert_same_labels`
        assert (gap > 1e-3).mean() < 0.01 and gap.max() < 0.05


def test_a_supercell_whose_grid_does_not_fit_differs_in_few_atoms(small):
    """Voxels of .7 Å make 25 points of 17 Å and 49, not 50, of 34 Å."""
    frame = small[3000][0]
    one, eight = (label_phases(f, "Fe", voxel=0.7) for f in (frame, repeated(frame)))
    assert 2 * one["density_grid"].shape[0] != eight["density_grid"].shape[0]
    assert (np.tile(one["domain"] > 0, 8) != (eight["domain"] > 0)).mean() <= 2e-3  # one atom of 520
    assert eight["threshold"] == pytest.approx(one["threshold"], rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(TWO))
def test_the_order_of_atoms_does_not_matter(seed, name):
    frame = AWKWARD[name]()
    order = np.random.default_rng(seed).permutation(len(frame))
    assert_same_labels(
        label_phases(frame, "Fe", **ANY), label_phases(permuted(frame, order), "Fe", **ANY), order
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(TWO))
def test_whole_cells_do_not_matter(seed, name):
    frame = AWKWARD[name]()
    moved = wrapped_elsewhere(frame, seed)
    assert_same_labels(label_phases(frame, "Fe", **ANY), label_phases(moved, "Fe", **ANY))


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("name", TWO)
def test_the_order_of_axes_does_not_matter(name, axes):
    """Domains of equal size may trade numbers."""
    frame = AWKWARD[name]()
    turned = rolled_axes(frame, axes)
    a, b = label_phases(frame, "Fe", **ANY), label_phases(turned, "Fe", **ANY)
    assert_same_labels(a, b, domains=False)
    assert_array_equal(a["domain"] > 0, b["domain"] > 0)
    for one, other in zip(a["domains"].rows(), b["domains"].rows(), strict=True):
        flags = [one[f"percolates along {axis}"] for axis in "abc"]
        assert [other[f"percolates along {axis}"] for axis in "abc"] == [flags[n] for n in axes]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_order_axes_and_whole_cells_do_not_matter_to_a_large_melt(large, temperature):
    frame = large[temperature]
    fields = label_phases(frame, "Fe")
    order = np.random.default_rng(0).permutation(len(frame))
    assert_same_labels(fields, label_phases(permuted(frame, order), "Fe"), order)
    assert_same_labels(fields, label_phases(wrapped_elsewhere(frame), "Fe"))
    assert_same_labels(fields, label_phases(rolled_axes(frame, (2, 0, 1)), "Fe"))
    mirrored = frame.replace(positions=frame.positions[:, [1, 0, 2]])  # of a cube
    assert_same_labels(fields, label_phases(mirrored, "Fe"))


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_translation_changes_at_most_two_atoms_in_ten_thousand(large, temperature):
    frame = large[temperature]
    fields = label_phases(frame, "Fe")
    rng = np.random.default_rng(1)
    for _ in range(3):
        moved = label_phases(translated(frame, rng.uniform(-40, 40, 3)), "Fe")
        sides = ((fields["domain"] > 0) != (moved["domain"] > 0)).mean()
        phases = (fields["phase"] != moved["phase"]).mean()
        print(f"{temperature} K: {sides:.1e} of the atoms change sides, {phases:.1e} any label")
        assert sides <= MOVED and phases <= MOVED
        assert moved["threshold"] == pytest.approx(fields["threshold"], rel=1e-3)
        assert moved["interface_area"] == pytest.approx(fields["interface_area"], rel=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(-30, 30)] * 3), st.sampled_from(TWO))
def test_a_translation_by_whole_voxels_changes_nothing(steps, name):
    frame = AWKWARD[name]()
    one = label_phases(frame, "Fe", **ANY)
    shift = np.array(steps) * frame.pbc @ one["density_grid"].steps
    assert_same_labels(one, label_phases(translated(frame, shift), "Fe", **ANY))


@pytest.mark.parametrize("name", [name for name in TWO if name != "2D"])
def test_origin_and_atoms_may_move_together(name):
    frame = AWKWARD[name]()
    shift = np.array([-37.25, 1000.5, 5.125])
    moved = frame.replace(positions=frame.positions + shift, origin=frame.origin + shift)
    assert_same_labels(label_phases(frame, "Fe", **ANY), label_phases(moved, "Fe", **ANY))


@pytest.mark.parametrize("name", ["open", "triclinic, open"])
def test_the_cell_of_an_open_frame_may_lie_anywhere(name):
    frame = AWKWARD[name]()
    moved = frame.replace(origin=frame.origin + np.array([50.0, -3.0, 1.0]))
    assert_same_labels(label_phases(frame, "Fe", **ANY), label_phases(moved, "Fe", **ANY))


@pytest.mark.parametrize("name", ["triclinic", "rotated", "open along c"])
def test_rotation_of_cell_and_atoms_changes_nothing(name):
    """The rule knows lengths only; the grid turns with the cell."""
    frame = AWKWARD[name]()
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn)
    assert_same_labels(label_phases(frame, "Fe", **ANY), label_phases(turned, "Fe", **ANY))


def test_another_choice_of_cell_vectors_is_the_same_crystal(small):
    """a, b + a, c spans the same lattice; grid and path (Fourier space) differ."""
    frame = small[3000][10]
    cell = frame.cell.copy()
    cell[1] += cell[0]
    one, other = label_phases(frame, "Fe"), label_phases(frame.replace(cell=cell), "Fe")
    assert (one["domain"] > 0).tolist() == (other["domain"] > 0).tolist()
    assert other["threshold"] == pytest.approx(one["threshold"], rel=2e-3)
    near = np.abs(one["interface_distance"]) < 2
    gap = np.abs(one["interface_distance"] - other["interface_distance"])[near]
    assert np.quantile(gap, 0.95) < 0.05 and gap.max() < 0.3
