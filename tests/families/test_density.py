"""Density on the grid and at the atoms against direct sums over all atoms and images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import naive
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels import lattice as lattice_module
from phaseseg.families.segmentation.labels.density import density_field, exact_density
from phaseseg.families.segmentation.labels.lattice import Lattice, plan_lattice
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.testing import AWKWARD, ROUNDING

# Aliasing at voxel = sigma / 2, as a fraction of the largest density: measured 5e-4 and 3e-3 at most.
ALIASING_RMS, ALIASING_MAX = 1e-3, 4e-3
# Cubic interpolation adds to it: measured 6e-3, and 1.6e-2 with forty atoms in one point.
AT_ATOMS_MAX = {"coincident atoms": 2e-2}
# In thin air a mole fraction is a quotient of two small numbers, each with its own aliasing.
MOLE_FRACTION_MAX = 1e-2
# Direct sums reach 5.5 sigma: 1e-6 of a uniform density is left out.
DIRECT = 5e-6


def exact_at_atoms(frame, density, rule):
    """The direct sums of the package at every atom, in the order of the frame."""
    return density.atoms.unsort(exact_density(density, density.atoms.coords)[0])


@pytest.mark.slow
@pytest.mark.parametrize("field", ["number", "mole-fraction"])
@pytest.mark.parametrize("name", AWKWARD)
def test_density_equals_direct_sums(name, field):
    frame = AWKWARD[name]()
    rule = LabelRule("Fe", sigma=1.5, field=field).fixed()
    density = density_field(frame, rule)
    points = naive.grid_points(density.grid).reshape(-1, 3)
    some = np.random.default_rng(0).choice(len(points), min(300, len(points)), replace=False)
    flat = density.lattice.flat
    exact = naive.density(points[some], frame, "Fe", rule.sigma, field, flat)
    at_atoms = naive.density(frame.positions, frame, "Fe", rule.sigma, field, flat)
    scale = max(exact.max(), at_atoms.max())
    error = (density.grid.values.ravel()[some] - exact) / scale
    assert np.sqrt((error**2).mean()) < ALIASING_RMS
    assert np.abs(error).max() < (ALIASING_MAX if field == "number" else MOLE_FRACTION_MAX)
    interpolated = density.atoms.unsort(density.interpolated())
    assert_allclose(interpolated, at_atoms, rtol=0, atol=AT_ATOMS_MAX.get(name, 8e-3) * scale)
    assert_allclose(exact_at_atoms(frame, density, rule), at_atoms, rtol=0, atol=DIRECT * scale)


@pytest.mark.parametrize("name", ["orthogonal", "open along c", "open", "tiny", "2D"])
def test_real_space_and_fourier_space_give_the_same_density(name, monkeypatch):
    frame = AWKWARD[name]()
    rule = LabelRule("Fe", sigma=1.5).fixed()
    lattice = plan_lattice(frame, rule)
    assert lattice.orthogonal
    real = density_field(frame, rule, lattice).grid.values
    monkeypatch.setattr(Lattice, "orthogonal", property(lambda self: False))
    fourier = density_field(frame, rule, lattice).grid.values
    # The taps are cut at 4.5 sigma, where the Gaussian is 4e-5.
    assert_allclose(fourier, real, rtol=0, atol=2e-4 * real.max())


@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "strongly skewed", "open"])
def test_the_error_falls_with_the_voxel(name):
    frame = AWKWARD[name]()
    errors = []
    for voxel in (0.75, 0.6, 0.5):
        density = density_field(frame, LabelRule("Fe", sigma=1.5, voxel=voxel).fixed())
        points = naive.grid_points(density.grid).reshape(-1, 3)
        some = np.random.default_rng(1).choice(len(points), 100, replace=False)
        exact = naive.density(points[some], frame, "Fe", 1.5)
        error = density.grid.values.ravel()[some] - exact
        errors.append(np.sqrt((error**2).mean()) / exact.max())
    assert errors[2] < errors[1] < errors[0] and errors[2] < errors[0] / 2


@pytest.mark.parametrize("name", AWKWARD)
def test_the_density_counts_the_atoms(name):
    frame = AWKWARD[name]()
    grid = density_field(frame, LabelRule("Fe", sigma=1.5).fixed()).grid
    counted = grid.values.sum(dtype=float) * grid.voxel_volume
    assert_allclose(counted, (frame.species == 0).sum(), rtol=10 * ROUNDING["float32"])


def test_two_species_are_the_sum_of_each():
    frame = AWKWARD["triclinic"]()
    both, iron, oxygen = (
        density_field(frame, LabelRule(names, sigma=1.5).fixed()).grid.values
        for names in (("Fe", "O"), "Fe", "O")
    )
    assert_allclose(both, iron + oxygen, rtol=0, atol=ROUNDING["float32"] * both.max())


@pytest.mark.parametrize("height", [0.3, 0.5, 1.0, 2.4])
@pytest.mark.parametrize("field", ["number", "mole-fraction"])
def test_the_height_of_a_2d_box_does_not_matter(height, field):
    frame = AWKWARD["2D, open in the plane"]()
    low = frame.replace(cell=np.diag([24.0, 21.0, height]))
    rule = LabelRule("Fe", sigma=1.5, field=field).fixed()
    one, other = density_field(frame, rule), density_field(low, rule)
    factor = 1.0 if field == "mole-fraction" else height
    assert_allclose(other.grid.values * factor, one.grid.values, rtol=0, atol=1e-6)
    options = {"field": field, "min_volume": 0.0}
    a, b = label_phases(frame, "Fe", **options), label_phases(low, "Fe", **options)
    assert (a["phase"] == b["phase"]).all()
    assert a["phase_contrast"] == pytest.approx(b["phase_contrast"], rel=1e-3)


def test_voxels_are_no_longer_than_asked_and_the_cell_is_the_files_reduced():
    for make in AWKWARD.values():
        frame = make().reduced
        density = density_field(frame, LabelRule("Fe", sigma=1.5, voxel=0.6).fixed())
        thick = ~density.lattice.flat
        assert (np.linalg.norm(density.grid.steps, axis=1)[thick] <= 0.6 + 1e-6).all()
        whole = frame.pbc | density.lattice.flat
        assert_allclose(density.grid.cell[whole], frame.cell[whole], rtol=0, atol=0)
        inside = (frame.positions - density.grid.origin) @ np.linalg.inv(density.grid.cell)
        assert (inside[:, ~whole] > 0).all() and (inside[:, ~whole] < 1).all()
        assert (density.grid.pbc == frame.pbc).all()


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_cut_and_labels_equal_those_of_the_exact_density(large, temperature):
    """33,280 atoms: the cut within 0.1 %, at most 2 in 10,000 atoms on the other side of it."""
    frame, rule = large[temperature], LabelRule("Fe", sigma=1.5, min_volume=0.0).fixed()
    density = density_field(frame, rule)
    lengths = np.diag(frame.cell)
    iron = frame.positions[frame.species_mask("Fe")] % lengths
    exact_grid = naive.gemm_density(iron, lengths, density.grid.shape, rule.sigma)
    error = density.grid.values - exact_grid
    assert np.sqrt((error**2).mean()) < 3e-3 * exact_grid.mean()
    fields = label_phases(frame, "Fe", sigma=1.5, min_volume=0.0)
    weights = naive.fourth_powers_of_slopes(exact_grid, frame.cell, frame.pbc)
    steepest = naive.steepest(exact_grid, weights)
    assert fields["threshold"] == fields["threshold_steepest"] == pytest.approx(steepest, rel=1e-3)
    assert fields["threshold_two_means"] == pytest.approx(naive.two_means(exact_grid), rel=1e-3)
    exact = exact_at_atoms(frame, density, rule)
    some = np.random.default_rng(0).choice(len(frame), 20, replace=False)
    direct = naive.density(frame.positions[some], frame, "Fe", rule.sigma)
    assert_allclose(exact[some], direct, rtol=0, atol=DIRECT * exact.max())
    rich = fields["domain"] > 0
    different = (rich != (exact >= fields["threshold"])).sum()
    print(f"{temperature} K: {different} of {len(frame)} atoms differ from the exact density at the atom")
    assert different <= 2e-4 * len(frame)


def test_the_voxel_of_an_atom_is_the_worse_place_to_decide(large):
    frame = large[3000]
    atom, voxel = (label_phases(frame, "Fe", at=at, min_volume=0.0) for at in ("atom", "voxel"))
    share = ((atom["domain"] > 0) != (voxel["domain"] > 0)).mean()
    assert 0.004 < share < 0.02  # measured .92 %


# Bad input ----------------------------------------------------------------------------------------


def test_sigma_beyond_half_the_cell_is_refused():
    frame = AWKWARD["tiny"]()
    with pytest.raises(ValueError, match=r"sigma is 2 Å, more than half of the cell's 3\.\d+ Å along axis "):
        label_phases(frame, "Fe", sigma=2.0)
    with pytest.raises(ValueError, match=r"choose a sigma of at most 1\.\d+ Å or repeat the cell"):
        label_phases(frame.replace(source="a.dump, frame 3"), "Fe", sigma=2.0)
    # A network has a sigma of its own, which nobody can choose.
    with pytest.raises(ValueError, match="repeat the cell, and check"):
        plan_lattice(frame, LabelRule(("Fe",), sigma=2.0).fixed(), choose="cell")
    # Half of what counts is between planes, not along the edge of a skewed cell.
    skewed = Frame([[0.0, 0, 0]], [[20.0, 0, 0], [19.9, 2.0, 0], [0, 0, 20]], True, ["Fe"])
    with pytest.raises(ValueError, match=r"sigma is 1\.5 Å, more than half of the cell's"):
        label_phases(skewed, "Fe", sigma=1.5)
    # Along an open axis the cell means nothing.
    label_phases(frame.replace(pbc=False), "Fe", sigma=2.0)


def test_a_grid_beyond_memory_is_refused_with_its_size(large):
    with pytest.raises(ValueError) as caught:
        label_phases(large[3000].replace(source="melt.dump, frame 0"), "Fe", voxel=0.001)
    sentence = str(caught.value)
    assert sentence.startswith("melt.dump, frame 0: voxels of 0.001 Å make a grid of 68000 x 68000 x 68000")
    assert "GB of memory where" in sentence and "choose a voxel of at least" in sentence


def test_the_least_voxel_named_fits_into_memory(large, monkeypatch):
    class Memory:
        available = 100e6

    monkeypatch.setattr(lattice_module.psutil, "virtual_memory", lambda: Memory)
    frame = large[3000]
    with pytest.raises(ValueError) as caught:
        plan_lattice(frame, LabelRule("Fe", sigma=1.5, voxel=0.1).fixed())
    least = float(str(caught.value).split("at least ")[1].split(" ")[0])
    plan_lattice(frame, LabelRule("Fe", sigma=1.5, voxel=least * 1.05).fixed())


def test_zero_atoms_are_refused():
    frame = Frame(
        np.empty((0, 3)), np.eye(3) * 20, True, np.empty(0, int), ("Fe",), source="empty.xyz, frame 0"
    )
    with pytest.raises(ValueError, match=r"empty\.xyz, frame 0: .*no atom"):
        label_phases(frame, "Fe")


def test_a_species_that_is_not_there_is_refused_with_those_that_are():
    frame = AWKWARD["triclinic"]()
    with pytest.raises(ValueError, match=r"no species named 'Ni'; the species here are Fe, O\."):
        label_phases(frame, "Ni")
    with pytest.raises(ValueError, match="no species named 'Ni'"):
        label_phases(frame, ["Fe", "Ni"])
    named = frame.replace(species_names=("Fe", "O", "Ni"))
    with pytest.raises(ValueError, match=r"no atom is of species Ni; the species here are Fe, O\."):
        label_phases(named, "Ni")
