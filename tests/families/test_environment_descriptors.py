"""The power spectrum: against direct integration, against dscribe if installed, and symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import naive.environments as naive
from phaseseg import Frame
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.testing.frames import (
    awkward_frames,
    permuted,
    repeated,
    rotated,
    tilted,
    translated,
    wrapped_elsewhere,
)

# Of the largest feature. Interpolated radial functions differ from exact ones by 1e-11 each.
INTEGRAL, SYMMETRY = 1e-10, 1e-10

FRAMES = awkward_frames(("Fe", "O"))
BOTH = PowerSpectrum(("Fe", "O"))


def close(found, expected, tolerance=SYMMETRY):
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_equal_to_direct_integration(name):
    frame = FRAMES[name]()
    atoms = [0, frame.n_atoms // 2, frame.n_atoms - 1]
    close(BOTH(frame)[atoms], naive.power_spectrum(frame, BOTH.species, atoms=atoms)[atoms], INTEGRAL)


@pytest.mark.parametrize(
    "options",
    [
        {"cutoff": 3.1, "n_max": 2, "l_max": 6, "width": 0.35, "taper": 3.1},
        {"n_max": 1, "l_max": 0},
        {"n_max": 5},
    ],
)
def test_other_settings(options):
    frame = FRAMES["triclinic"]().replace(species_names=("O", "Fe"))  # codes in another order
    spectrum = PowerSpectrum(("Fe", "O"), **options)
    found = spectrum(frame)
    assert found.shape[1] == spectrum.n_features == len(set(spectrum.feature_names))
    close(found[:2], naive.power_spectrum(frame, spectrum.species, atoms=(0, 1), **options)[:2], INTEGRAL)


def test_all_neighbors_are_those_of_one_species():
    rng = np.random.default_rng(0)
    names, positions = ("Al", "Cu", "Ni", "Ti"), rng.uniform(0, 7, (30, 3))
    species = rng.integers(0, 4, 30)
    spectrum = PowerSpectrum(names, cutoff=4.5, n_max=3, l_max=2)
    found = spectrum.of_all_neighbors(spectrum(Frame(positions, [7.0] * 3, True, species, names)))
    alike = PowerSpectrum(("X",), cutoff=4.5, n_max=3, l_max=2)(Frame(positions, [7.0] * 3, True, ["X"] * 30))
    np.testing.assert_allclose(found, alike, rtol=1e-10, atol=1e-10 * np.abs(alike).max())


def test_one_species_equals_the_same_with_an_absent_one():
    frame = FRAMES["orthogonal"]()
    iron = frame.replace(species=np.zeros_like(frame.species))
    columns = [i for i, name in enumerate(BOTH.feature_names) if "O" not in name]
    close(BOTH(iron)[:, columns], PowerSpectrum(("Fe",))(iron))
    assert PowerSpectrum(("Fe",)).n_features == len(columns) == 50


@pytest.mark.parametrize("name", FRAMES)
def test_symmetries(name):
    frame = FRAMES[name]()
    rows = BOTH(frame)
    order = np.random.default_rng(0).permutation(frame.n_atoms)
    close(BOTH(permuted(frame, order)), rows[order])
    close(BOTH(wrapped_elsewhere(frame)), rows)
    close(BOTH(tilted(frame)), rows)
    close(BOTH(rotated(frame)), rows)
    close(BOTH(translated(frame, (0.37, -1.2, 2.9))), rows)
    if frame.pbc.all():
        close(BOTH(repeated(frame, (2, 1, 2))), np.tile(rows, (4, 1)))


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), open_axes=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_small_cells_and_reflections(seed, n, open_axes):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2.5, 6, 3)) + rng.uniform(-2, 2, (3, 3)) * np.tri(3, k=-1)
    pbc = [not open_axes >> axis & 1 for axis in range(3)]
    frame = Frame(rng.random((n, 3)) @ cell, cell, pbc, rng.integers(0, 2, n), ("Fe", "O"))
    rows = BOTH(frame)
    close(BOTH(rotated(frame, seed)), rows)
    mirror = np.diag([1.0, 1.0, -1.0])
    close(BOTH(Frame(frame.positions @ mirror, cell @ mirror, pbc, frame.species, ("Fe", "O"))), rows)
    close(rows[:1], naive.power_spectrum(frame, ("Fe", "O"), atoms=(0,))[:1], INTEGRAL)


def test_smooth_at_the_cutoff():
    """A neighbor enters the cutoff without a step: the features grow as the cube of the way."""

    def pair(r):
        return PowerSpectrum(("Fe",))(Frame([[0.0, 0, 0], [r, 0, 0]], [40.0] * 3, False, ["Fe", "Fe"]))[0]

    alone = pair(6.0)
    steps = [np.abs(pair(5 - d) - alone).max() for d in (0.02, 0.01)]
    assert np.array_equal(pair(5.0), alone)
    assert steps[0] / steps[1] == pytest.approx(8, rel=0.1)


def test_an_isolated_atom_has_its_own_gaussian():
    alone = Frame([[1.0, 2, 3]], [50.0] * 3, True, ["O"], source="atom.xyz")
    row = BOTH(alone)[0]
    names = np.array(BOTH.feature_names)
    assert set(names[np.abs(row) > 0]) <= {
        name for name in names if "Fe" not in name and name.endswith("l=0")
    }
    assert row.max() > 1
    with pytest.raises(ValueError, match=r"atom\.xyz: the frame has O, but the descriptor knows only Ta"):
        PowerSpectrum(("Ta",))(alone)


def test_no_atoms():
    assert BOTH(Frame(np.zeros((0, 3)), [5.0] * 3, True, np.zeros(0, int), ("Fe", "O"))).shape == (0, 180)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"species": ()}, "one or more distinct names"),
        ({"species": ("Fe", "Fe")}, "distinct"),
        ({"cutoff": 0.5}, "above 1 Å"),
        ({"cutoff": float("nan")}, "above 1 Å"),
        ({"n_max": 0}, "n_max must be a whole number from 1 to 12"),
        ({"l_max": 2.0}, "l_max must be a whole number"),
        ({"width": 0.0}, "width must be a positive length"),
        ({"taper": 6.0}, "taper must be between 0 and the cutoff of 5 Å"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        PowerSpectrum(**{"species": ("Fe",)} | options)


def test_equal_to_dscribe():
    """In a cluster that fits into the cutoff; dscribe has no smooth end, and counts atoms beyond it."""
    dscribe = pytest.importorskip("dscribe.descriptors", reason="dscribe is not installed")
    from ase import Atoms

    rng = np.random.default_rng(0)
    names, positions = ["Na", "Cl", "Na", "Cl", "Cl", "Na", "Na"], rng.uniform(0, 2.2, (7, 3))
    theirs = dscribe.SOAP(
        species=["Cl", "Na"], r_cut=5.0, n_max=4, l_max=4, sigma=0.5, periodic=False, rbf="gto"
    )
    rows = theirs.create(Atoms(names, positions))
    ours = PowerSpectrum(("Na", "Cl"), taper=1e-9)(Frame(positions, [30.0] * 3, False, names))
    columns = []
    channels = [(name, n) for name in ("Na", "Cl") for n in range(4)]
    for i, (a, n) in enumerate(channels):
        for b, m in channels[i:]:
            block = [(p, q) for p in range(4) for q in range(p if a == b else 0, 4)]
            start = theirs.get_location((a, b)).start
            columns += [start + degree * len(block) + block.index((n, m)) for degree in range(5)]
    np.testing.assert_allclose(ours, rows[:, columns], rtol=0, atol=1e-9)
