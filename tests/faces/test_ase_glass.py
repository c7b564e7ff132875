"""The ASE face of glass formers: metrics and networks in arrays and info, units, bonds, what files keep."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

from ase_bridge import PhaseCalculator, annotate, frame_from_atoms
from phaseseg import glass_metrics, label_phases, predict
from phaseseg.specs import FIELD_SPECS

ATOM = ("graph_id", "isolated", "bb_degree")
OPTIONS = ({}, {"k": 3}, {"b": "A", "rule": "b-only"})


@pytest.fixture
def atoms(make_mixture):
    """A 2D mixture whose species stand in an array: A is the symbol of no element."""
    frame = make_mixture()
    atoms = ase.Atoms("X" * len(frame), positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.set_array("kind", np.array(frame.species_names)[frame.species])
    return atoms


@pytest.mark.parametrize("options", OPTIONS)
def test_annotate_is_glass_metrics(atoms, make_mixture, options):
    fields = annotate(atoms, metrics=options, species_array="kind")
    expected = glass_metrics(make_mixture(), **options)
    assert expected["n_bb_edges"] > 0
    for name in ATOM:
        np.testing.assert_array_equal(fields[name], expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
        assert atoms.arrays[name].dtype == np.int32
    for name, value in expected.level("frame").items():
        assert atoms.info[name] == value and type(atoms.info[name]) in (int, float)
    assert set(atoms.arrays) == {"numbers", "positions", "kind", *ATOM}
    assert "glass_bonds" not in atoms.info


def test_elements_as_a_and_b(atoms):
    expected = annotate(atoms, metrics={}, species_array="kind")
    atoms.symbols = np.where(atoms.arrays["kind"] == "B", "P", "Ni")
    fields = annotate(atoms, metrics={"b": "P"})
    np.testing.assert_array_equal(fields["graph_id"], expected["graph_id"])
    atoms.symbols = np.where(
        np.arange(len(atoms)) % 2, atoms.symbols, np.where(atoms.symbols == "P", "B", "Ni")
    )
    fields = annotate(atoms, metrics={"b": ("P", "B")})
    np.testing.assert_array_equal(fields["graph_id"], expected["graph_id"])


def test_bonds_on_request(atoms, tmp_path):
    fields = annotate(atoms, metrics={}, species_array="kind", bonds=True)
    bonds, found = fields["glass_bonds"], atoms.info["glass_bonds"]
    assert set(found) == {"i", "j", "shift", "bb", "length"}
    ase.io.write(tmp_path / "glass.xyz", atoms)
    back = ase.io.read(tmp_path / "glass.xyz").info["glass_bonds"]
    for stored in (found, back):
        np.testing.assert_array_equal(np.stack([stored["i"], stored["j"]], axis=1), bonds.atoms)
        np.testing.assert_array_equal(stored["shift"], bonds.shifts)
        np.testing.assert_array_equal(stored["bb"], bonds.columns["bb"])
        np.testing.assert_allclose(stored["length"], bonds.columns["length"], rtol=1e-6)
    # i to the image of j: ASE's own vectors have these lengths.
    apart = atoms.positions[found["j"]] - atoms.positions[found["i"]] + found["shift"] @ np.array(atoms.cell)
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), found["length"], rtol=1e-5)
    annotate(atoms, metrics={}, species_array="kind")
    assert "glass_bonds" not in atoms.info


def test_metrics_survive_extended_xyz(atoms, tmp_path):
    annotate(atoms, metrics={}, species_array="kind")
    ase.io.write(tmp_path / "glass.xyz", atoms)
    back = ase.io.read(tmp_path / "glass.xyz")
    for name in (*ATOM, "kind"):
        np.testing.assert_array_equal(back.arrays[name], atoms.arrays[name])
    assert back.info == pytest.approx(atoms.info)
    again = annotate(back, metrics={}, species_array="kind")
    np.testing.assert_array_equal(again["graph_id"], atoms.arrays["graph_id"])


def test_what_an_earlier_call_wrote_is_replaced(atoms):
    annotate(atoms, metrics={}, species_array="kind", bonds=True)
    annotate(atoms, "B", species_array="kind", phases=2, sigma=1.0, min_volume=0.0)
    assert "phase" in atoms.arrays and not {*ATOM} & set(atoms.arrays)
    assert not {"n_bb_edges", "glass_bonds"} & set(atoms.info)
    annotate(atoms, metrics={}, species_array="kind")
    assert not {"phase", "domain"} & set(atoms.arrays) and "threshold" not in atoms.info


def test_units(atoms):
    assert frame_from_atoms(atoms).units == "metal"
    assert frame_from_atoms(atoms, units="lj").units == "lj"
    atoms.info["units"] = "lj"
    assert frame_from_atoms(atoms).units == "lj"
    assert frame_from_atoms(atoms, units="metal").units == "metal"
    with pytest.raises(ValueError, match="units must be 'metal' or 'lj', found 'real'"):
        annotate(atoms, metrics={}, units="real")


def test_calculator_of_metrics(atoms, runs):
    expected = glass_metrics(frame_from_atoms(atoms, species_array="kind"), k=3)
    calculator = PhaseCalculator(metrics={"k": 3}, species_array="kind")
    for name in ATOM:
        np.testing.assert_array_equal(calculator.get_property(name, atoms), expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    assert len(runs) == 1 and calculator.fields["n_bb_edges"] == expected["n_bb_edges"]
    calculator.set(metrics={"k": 2})
    assert (calculator.get_property("graph_id", atoms) != expected["graph_id"]).any()
    assert len(runs) == 2
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("phase", atoms)
    labels = PhaseCalculator("B", species_array="kind", phases=2, sigma=1.0).get_property("phase", atoms)
    frame = frame_from_atoms(atoms, species_array="kind")
    np.testing.assert_array_equal(labels, label_phases(frame, "B", phases=2, sigma=1.0)["phase"])


def test_all_names_of_atoms_are_properties():
    known = [name for name, spec in FIELD_SPECS.items() if spec.level == "atom"]
    assert set(PhaseCalculator.implemented_properties) == set(known)


def test_bad_input(atoms):
    before = set(atoms.arrays)
    for use in (lambda **options: annotate(atoms, **options), PhaseCalculator):
        with pytest.raises(TypeError, match="unknown option kk of metrics; the options are b, k, rule"):
            use(metrics={"kk": 3})
        with pytest.raises(TypeError, match="metrics must be a dictionary of options"):
            use(metrics=True)
        with pytest.raises(TypeError, match="give either species or metrics, not both"):
            use(species="B", metrics={})
        with pytest.raises(TypeError, match=r"the options of metrics belong into metrics=dict\(...\), not k"):
            use(metrics={}, k=3)
    with pytest.raises(ValueError, match="no species named 'B'; the species here are X"):
        annotate(atoms, metrics={})
    with pytest.raises(ValueError, match="rule must be one of all, b-only"):
        annotate(atoms, metrics={"rule": "both"}, species_array="kind")
    atoms.pbc = False
    with pytest.raises(ValueError, match="neighbors"):
        annotate(atoms, metrics={"k": len(atoms)}, species_array="kind")
    assert set(atoms.arrays) == before


# Networks

PREDICTED = ("glass_probability", "glass_uncertainty", "attention")


def test_annotate_with_a_model_is_predict(atoms, make_mixture, glass_file, tmp_path):
    fields = annotate(atoms, model=glass_file, species_array="kind", units="lj", threshold=0.4, bonds=True)
    expected = predict(make_mixture(), glass_file, threshold=0.4)
    for name in PREDICTED:
        np.testing.assert_array_equal(fields[name], expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    for name, value in expected.level("frame").items():
        assert atoms.info[name] == value
    bonds, found = expected["attention_bonds"], atoms.info["attention_bonds"]
    assert set(found) == {"i", "j", "shift", *bonds.columns}
    np.testing.assert_array_equal(found["kept"], bonds.columns["kept"])
    np.testing.assert_allclose(found["attention"], bonds.columns["attention"])
    ase.io.write(tmp_path / "predicted.xyz", atoms)
    back = ase.io.read(tmp_path / "predicted.xyz")
    np.testing.assert_allclose(back.arrays["glass_probability"], expected["glass_probability"], atol=1e-8)
    np.testing.assert_array_equal(back.info["attention_bonds"]["i"], bonds.atoms[:, 0])


def test_a_model_and_metrics_in_one_call(atoms, make_mixture, glass_file):
    options = {"species_array": "kind", "units": "lj"}
    fields = annotate(atoms, model=glass_file, metrics={"k": 3}, b="B", **options)
    frame = make_mixture()
    for expected in (predict(frame, glass_file, b="B"), glass_metrics(frame, k=3)):
        for name, values in expected.level("atom").items():
            np.testing.assert_array_equal(fields[name], values)
            np.testing.assert_array_equal(atoms.arrays[name], values)
        assert {name: atoms.info[name] for name in expected.level("frame")} == expected.level("frame")
    assert fields.messages == (*predict(frame, glass_file, b="B").messages,)


def test_calculator_with_a_model(atoms, make_mixture, glass_file):
    expected = predict(make_mixture(), glass_file)
    atoms.info["units"] = "lj"
    calculator = PhaseCalculator(model=glass_file, species_array="kind")
    for name in PREDICTED:
        np.testing.assert_array_equal(calculator.get_property(name, atoms), expected[name])
        np.testing.assert_array_equal(atoms.arrays[name], expected[name])
    assert calculator.fields["frame_glass_probability"] == expected["frame_glass_probability"]
    before = calculator.fields
    calculator.get_property("attention", atoms)
    assert calculator.fields is before
    calculator.set(attention=False)
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("attention", atoms)
    calculator.get_property("glass_probability", atoms)
    assert "attention" not in atoms.arrays


def test_bad_input_of_a_model(atoms, glass_file):
    for use in (lambda **options: annotate(atoms, **options), PhaseCalculator):
        with pytest.raises(
            TypeError, match="unknown option sigma; the options of liquid_glass/random-v1 are b"
        ):
            use(model=glass_file, sigma=1.0)
        with pytest.raises(TypeError, match="give either species or model, not both"):
            use(species="B", model=glass_file)
    with pytest.raises(ValueError, match="units 'metal', but liquid_glass/random-v1 was trained with 'lj'"):
        annotate(atoms, model=glass_file, species_array="kind")
    with pytest.raises(ValueError, match="unknown to the network"):
        annotate(atoms, model=glass_file, units="lj")
    assert "glass_probability" not in atoms.arrays
