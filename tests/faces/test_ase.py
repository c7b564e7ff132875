"""The ASE face: labels in arrays and info, the calculator, and what survives a file."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

from ase_bridge import PhaseCalculator, annotate, frame_from_atoms
from phaseseg import label_phases, predict

ARRAYS = ("phase", "phase_density", "interface_distance", "domain")


@pytest.fixture
def atoms(make_drops):
    positions, symbols, cell = make_drops()
    return ase.Atoms(symbols, positions=positions, cell=cell, pbc=True)


def assert_same_tables(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, dict):
            assert_same_tables(value, right[key])
        elif isinstance(value, str):
            assert value == right[key]
        else:
            np.testing.assert_allclose(value, right[key], rtol=1e-12)


def test_annotate_is_label_phases(atoms):
    untouched = atoms.copy()
    fields = annotate(atoms, species="Fe", sigma=1.4)
    expected = label_phases(frame_from_atoms(untouched), species="Fe", sigma=1.4)
    assert expected["n_phases"] == 2
    for name in ARRAYS:
        np.testing.assert_array_equal(fields[name], expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    assert atoms.arrays["phase"].dtype == np.int32
    assert atoms.info["n_phases"] == 2
    assert atoms.info["threshold"] == expected["threshold"]
    row = next(expected["composition"].rows())
    assert atoms.info["composition"]["rich"]["atoms"] == row["atoms"]
    assert atoms.info["composition"]["rich"]["Fe_wt_percent"] == row["Fe (wt%)"]
    np.testing.assert_array_equal(atoms.positions, untouched.positions)


@pytest.mark.parametrize("through", ["annotate", "calculator"])
def test_labels_survive_extended_xyz(atoms, tmp_path, through):
    if through == "annotate":
        annotate(atoms)
    else:
        atoms.calc = PhaseCalculator()
        atoms.calc.get_property("phase", atoms)
    ase.io.write(tmp_path / "labeled.xyz", atoms)
    back = ase.io.read(tmp_path / "labeled.xyz")
    np.testing.assert_array_equal(back.arrays["phase"], atoms.arrays["phase"])
    np.testing.assert_array_equal(back.arrays["domain"], atoms.arrays["domain"])
    for name in ("phase_density", "interface_distance"):  # ASE writes eight decimals
        np.testing.assert_allclose(back.arrays[name], atoms.arrays[name], atol=1e-8)
    assert back.info.keys() == atoms.info.keys()
    for name, value in atoms.info.items():
        if isinstance(value, dict):
            assert_same_tables(value, back.info[name])
        else:
            assert value == pytest.approx(back.info[name], rel=1e-12)


def test_one_phase_leaves_nothing_of_an_earlier_call(atoms):
    annotate(atoms)
    rng = np.random.default_rng(1)
    atoms.numbers = rng.permutation(atoms.numbers)
    fields = annotate(atoms)
    assert fields["n_phases"] == atoms.info["n_phases"] == 1
    assert set(np.unique(atoms.arrays["phase"])) <= {0, 1}
    assert np.isnan(atoms.arrays["interface_distance"]).all()
    for name, value in atoms.info.items():
        assert value is not None, name
        assert isinstance(value, dict) or np.isfinite(value), name


def test_calculator_is_annotate_and_remembers(atoms, runs):
    calculator = PhaseCalculator(species="Fe", sigma=1.4)
    phase = calculator.get_property("phase", atoms)
    expected = annotate(atoms.copy(), species="Fe", sigma=1.4)
    n_runs = len(runs)
    for name in ARRAYS:
        np.testing.assert_array_equal(calculator.get_property(name, atoms), expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    np.testing.assert_array_equal(phase, expected["phase"])
    copy = atoms.copy()
    del copy.arrays["phase"]
    calculator.get_property("phase", copy)
    np.testing.assert_array_equal(copy.arrays["phase"], expected["phase"])
    assert len(runs) == n_runs

    atoms.positions[0] += 0.3
    calculator.get_property("phase", atoms)
    assert len(runs) == n_runs + 1
    calculator.set(boundary_width=2.0)
    wide = calculator.get_property("phase", atoms)
    assert len(runs) == n_runs + 2
    np.testing.assert_array_equal(wide, annotate(atoms.copy(), sigma=1.4, boundary_width=2.0)["phase"])
    assert np.count_nonzero(wide == 2) > np.count_nonzero(phase == 2)


def test_calculator_refuses_energies(atoms):
    atoms.calc = PhaseCalculator()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()


@pytest.mark.parametrize("use", [PhaseCalculator, lambda **options: PhaseCalculator().set(**options)])
def test_calculator_checks_options_at_once(use):
    with pytest.raises(TypeError, match="simga"):
        use(simga=1.0)
    with pytest.raises(ValueError, match="sigma must be"):
        use(sigma=-1.0)


def test_species_from_an_array(atoms, runs):
    expected = annotate(atoms.copy())["phase"]
    atoms.set_array("kind", np.where(atoms.symbols == "Fe", "metal", "rest"))
    atoms.symbols = "H" * len(atoms)
    np.testing.assert_array_equal(annotate(atoms, "metal", species_array="kind")["phase"], expected)

    calculator = PhaseCalculator("metal", species_array="kind")
    np.testing.assert_array_equal(calculator.get_property("phase", atoms), expected)
    before = len(runs)
    atoms.arrays["kind"][:10] = "metal"
    calculator.get_property("phase", atoms)
    assert len(runs) == before + 1


def test_bad_atoms(atoms):
    with pytest.raises(ValueError, match="'Xx'"):
        annotate(atoms, "Xx")
    with pytest.raises(ValueError, match="no array 'kind'; their arrays are"):
        annotate(atoms, species_array="kind")
    with pytest.raises(ValueError, match="one string or integer per atom"):
        annotate(atoms, species_array="positions")
    with pytest.raises(TypeError, match="simga"):
        annotate(atoms, simga=1.0)
    with pytest.raises(ValueError, match="the cell is missing"):
        annotate(ase.Atoms(atoms.symbols, positions=atoms.positions))
    with pytest.raises(ValueError, match="no atoms"):
        annotate(ase.Atoms(cell=[3, 3, 3], pbc=True))
    atoms.positions[4, 1] = np.nan
    with pytest.raises(ValueError, match="atom 5 has the coordinates"):
        annotate(atoms)
    assert "phase" not in atoms.arrays


# Networks


PREDICTED = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")


@pytest.fixture(scope="module")
def pair(make_checkpoint):
    """An ensemble for Fe and O."""
    return make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"))


def test_annotate_with_a_model_is_predict(atoms, pair, tmp_path):
    annotate(atoms)
    untouched = atoms.copy()
    fields = annotate(atoms, model=pair, threshold=0.4)
    expected = predict(frame_from_atoms(untouched), pair, threshold=0.4)
    assert expected["n_phases"] == 2
    for name in PREDICTED:
        np.testing.assert_array_equal(fields[name], expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    # What the labeling before had written is gone.
    assert "phase_density" not in atoms.arrays and "threshold" not in atoms.info
    assert atoms.info["probability_threshold"] == 0.4
    ase.io.write(tmp_path / "predicted.xyz", atoms)
    back = ase.io.read(tmp_path / "predicted.xyz")
    np.testing.assert_allclose(back.arrays["phase_probability"], expected["phase_probability"], atol=1e-8)


def test_calculator_with_a_model(atoms, pair):
    calculator = PhaseCalculator(model=pair, boundary_width=1.0)
    expected = predict(frame_from_atoms(atoms), pair, boundary_width=1.0)
    for name in PREDICTED:
        np.testing.assert_array_equal(calculator.get_property(name, atoms), expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    first = calculator.fields
    calculator.get_property("phase", atoms)
    assert calculator.fields is first
    calculator.set(threshold=0.2)
    wider = calculator.get_property("phase", atoms)
    assert calculator.fields is not first and (wider != expected["phase"]).any()
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("phase_density", atoms)
    with pytest.raises(PropertyNotImplementedError):
        PhaseCalculator().get_property("phase_probability", atoms)


def test_options_of_a_model_are_checked_at_once(atoms, pair):
    for use in (lambda **options: annotate(atoms, **options), PhaseCalculator):
        with pytest.raises(TypeError, match=r"unknown option sigma; the options of .* are threshold"):
            use(model=pair, sigma=1.0)
        with pytest.raises(TypeError, match="give either species or model, not both"):
            use(species="Fe", model=pair)
        with pytest.raises(ValueError, match="threshold must be a probability"):
            use(model=pair, threshold=2.0)
        with pytest.raises(ValueError, match="there is no checkpoint of this name"):
            use(model="no-such-name")
    assert "phase" not in atoms.arrays
    atoms.symbols[:3] = "Xe"
    with pytest.raises(ValueError, match="does not know the species Xe; it knows Fe, O"):
        annotate(atoms, model=pair)
