"""The ASE face: every analysis in arrays and info, the calculator, what files keep, bad input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

from ase_bridge import PhaseCalculator, annotate, frame_from_atoms
from phaseseg import glass_metrics, label_phases, predict
from phaseseg.families import FAMILIES

PAIR, GLASS = "pair_file", "glass_file"


@dataclass(frozen=True)
class Case:
    """An analysis: its options in the face, what the library gives, and an option that changes the result."""

    options: dict[str, Any]
    library: Any
    changed: dict[str, Any]
    model: str = ""
    glass: bool = False
    foreign: str = "graph_id"


CASES = {
    "labels": Case(
        {"species": "Fe", "sigma": 1.4},
        lambda frame, model, **options: label_phases(frame, **options),
        {"boundary_width": 2.0},
        foreign="phase_probability",
    ),
    "network": Case({"threshold": 0.4}, predict, {"threshold": 0.2}, PAIR, foreign="phase_density"),
    "metrics": Case(
        {"metrics": {"k": 3}},
        lambda frame, model, metrics: glass_metrics(frame, **metrics),
        {"metrics": {"k": 2}},
        glass=True,
        foreign="phase",
    ),
    "glass network": Case({"threshold": 0.4}, predict, {"threshold": 0.6}, GLASS, glass=True),
}


@pytest.fixture
def melt(make_drops):
    positions, symbols, cell = make_drops()
    return ase.Atoms(symbols, positions=positions, cell=cell, pbc=True)


@pytest.fixture
def mixture(make_disorder):
    """A 2D mixture whose species stand in an array: A is the symbol of no element."""
    frame = make_disorder(289)
    atoms = ase.Atoms("X" * len(frame), positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.set_array("kind", np.array(frame.species_names)[frame.species])
    return atoms


@pytest.fixture(params=CASES)
def case(request, melt, mixture):
    """Atoms, what `annotate` and the calculator are given, a function for the result, and the case itself."""
    one = CASES[request.param]
    atoms, where = (mixture, {"species_array": "kind", "units": "lj"}) if one.glass else (melt, {})
    model = request.getfixturevalue(one.model) if one.model else None
    given = where | ({"model": model} if model else {})

    def expected(**options):
        return one.library(frame_from_atoms(atoms.copy(), **where), model, **(one.options | options))

    return atoms, given | one.options, expected, one


def assert_written(atoms, fields):
    for name, values in fields.level("atom").items():
        np.testing.assert_array_equal(atoms.arrays[name], values, err_msg=name)
        assert values.dtype.kind not in "iu" or atoms.arrays[name].dtype == np.int32
    for name, value in fields.level("frame").items():
        assert name not in atoms.info or atoms.info[name] == value, name
        assert (name in atoms.info) == bool(np.isfinite(value)), name
    assert set(fields.level("table")) <= set(atoms.info)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, dict):
            assert_same(value, right[key])
        elif isinstance(value, str):
            assert value == right[key]
        else:
            np.testing.assert_allclose(value, right[key], rtol=1e-12)


def test_annotate_gives_and_writes_what_the_library_gives(case):
    atoms, given, expected, _ = case
    before = atoms.copy()
    fields, wanted = annotate(atoms, **given), expected()
    assert set(fields) == set(wanted) and fields.messages == wanted.messages
    assert_written(atoms, wanted)
    assert set(atoms.arrays) == set(before.arrays) | set(wanted.level("atom"))
    np.testing.assert_array_equal(atoms.positions, before.positions)


def test_tables_are_nested_dictionaries(melt):
    fields = annotate(melt)
    row = next(fields["composition"].rows())
    assert melt.info["composition"]["rich"]["atoms"] == row["atoms"]
    assert melt.info["composition"]["rich"]["Fe_wt_percent"] == row["Fe (wt%)"]
    np.testing.assert_array_equal(
        melt.info["proxigram"]["distance_A"], fields["proxigram"].columns["distance (Å)"]
    )


@pytest.mark.parametrize("through", ["annotate", "calculator"])
def test_extended_xyz_keeps_everything(case, tmp_path, through):
    atoms, given, expected, _ = case
    first = next(iter(expected().level("atom")))
    if through == "annotate":
        annotate(atoms, **given)
    else:
        atoms.calc = PhaseCalculator(**given)
        atoms.calc.get_property(first, atoms)
    ase.io.write(tmp_path / "out.xyz", atoms)
    back = ase.io.read(tmp_path / "out.xyz")
    for name in set(expected().level("atom")) | ({"kind"} & set(atoms.arrays)):
        if atoms.arrays[name].dtype.kind == "f":  # ASE writes eight decimals
            np.testing.assert_allclose(back.arrays[name], atoms.arrays[name], atol=1e-8)
        else:
            np.testing.assert_array_equal(back.arrays[name], atoms.arrays[name])
    assert_same(back.info, atoms.info)


def test_the_calculator_is_annotate_and_remembers(case, runs):
    atoms, given, expected, one = case
    wanted = expected()
    names = list(wanted.level("atom"))
    runs.clear()
    calculator = PhaseCalculator(**given)
    copy = atoms.copy()
    for name in names:
        np.testing.assert_array_equal(calculator.get_property(name, atoms), wanted[name])
        calculator.get_property(name, copy)
    assert len(runs) == 1
    assert_written(atoms, wanted)
    assert_written(copy, wanted)
    atoms.positions[0, 0] += 0.05
    calculator.get_property(names[0], atoms)
    assert len(runs) == 2
    calculator.set(**one.changed)
    calculator.get_property(names[0], atoms)
    assert len(runs) == 3
    assert_written(atoms, expected(**one.changed))
    assert dict(calculator.fields.level("frame")) != dict(wanted.level("frame"))
    atoms.calc = calculator
    for ask in (atoms.get_potential_energy, lambda: calculator.get_property(one.foreign, atoms)):
        with pytest.raises(PropertyNotImplementedError):
            ask()


def test_an_earlier_analysis_leaves_nothing_behind(case, melt, mixture):
    atoms, given, expected, one = case
    where = {name: given[name] for name in ("species_array",) if name in given}
    other = (
        {"species": "B", "phases": 2, "sigma": 1.0, "min_volume": 0.0}
        if one.glass
        else {"metrics": {"b": "O"}}
    )
    fields = annotate(atoms, **where, **other, bonds=True)
    assert set(fields.level("atom")) <= set(atoms.arrays)
    annotate(atoms, **given)
    gone = set(fields) - set(expected())
    assert gone and not gone & (set(atoms.arrays) | set(atoms.info))


def test_one_phase_leaves_nothing_of_two(melt):
    annotate(melt)
    melt.numbers = np.random.default_rng(1).permutation(melt.numbers)
    fields = annotate(melt)
    assert fields["n_phases"] == melt.info["n_phases"] == 1 and set(melt.arrays["phase"]) <= {0, 1}
    assert np.isnan(melt.arrays["interface_distance"]).all()
    assert all(isinstance(value, dict) or np.isfinite(value) for value in melt.info.values())


def test_every_analysis_is_a_parameter_of_the_calculator():
    parameters = PhaseCalculator(sigma=2.0).parameters
    assert parameters == {
        "species": None, "model": None, "metrics": None, "device": "auto", "species_array": None,
        "names": None, "units": None, "sigma": 2.0,
    }  # fmt: skip
    assert PhaseCalculator(metrics={"k": 3}).parameters["metrics"] == {"k": 3}


def test_all_names_of_atoms_are_properties():
    known = [spec.name for family in FAMILIES.values() for spec in family.fields if spec.level == "atom"]
    assert (
        set(PhaseCalculator.implemented_properties)
        == set(known)
        == set(PhaseCalculator().implemented_properties)
    )


def test_species_from_an_array(melt, runs):
    expected = annotate(melt.copy(), boundary_width=1.0)["phase"]
    melt.set_array("kind", np.where(melt.symbols == "Fe", "metal", "rest"))
    melt.symbols = "H" * len(melt)
    np.testing.assert_array_equal(
        annotate(melt, "metal", species_array="kind", boundary_width=1.0)["phase"], expected
    )
    calculator = PhaseCalculator("metal", species_array="kind", boundary_width=1.0)
    np.testing.assert_array_equal(calculator.get_property("phase", melt), expected)
    before = len(runs)
    melt.arrays["kind"][:10] = "metal"
    calculator.get_property("phase", melt)
    assert len(runs) == before + 1


def test_elements_as_a_and_b(mixture):
    expected = annotate(mixture, metrics={}, species_array="kind")["graph_id"]
    mixture.symbols = np.where(mixture.arrays["kind"] == "B", "P", "Ni")
    np.testing.assert_array_equal(annotate(mixture, metrics={"b": "P"})["graph_id"], expected)
    odd = np.arange(len(mixture)) % 2 == 1
    mixture.symbols = np.where(odd, mixture.symbols, np.where(mixture.symbols == "P", "B", "Ni"))
    np.testing.assert_array_equal(annotate(mixture, metrics={"b": ("P", "B")})["graph_id"], expected)


def test_units(mixture):
    assert frame_from_atoms(mixture).units == "metal"
    assert frame_from_atoms(mixture, units="lj").units == "lj"
    mixture.info["units"] = "lj"
    assert frame_from_atoms(mixture).units == "lj"
    assert frame_from_atoms(mixture, units="metal").units == "metal"
    with pytest.raises(ValueError, match="units must be 'metal' or 'lj', found 'real'"):
        annotate(mixture, metrics={}, units="real")


def test_a_model_and_metrics_in_one_call(mixture, make_disorder, glass_file):
    options = {"species_array": "kind", "units": "lj"}
    fields = annotate(mixture, model=glass_file, metrics={"k": 3}, b="B", **options)
    frame = make_disorder(289)
    predicted, measured = predict(frame, glass_file, b="B"), glass_metrics(frame, k=3)
    assert set(fields) == {*predicted, *measured}
    assert fields.messages == (*predicted.messages, *measured.messages)
    for expected in (predicted, measured):
        assert_written(mixture, expected)


def test_an_option_can_leave_a_property_out(mixture, glass_file):
    calculator = PhaseCalculator(model=glass_file, species_array="kind", units="lj")
    calculator.get_property("attention", mixture)
    calculator.set(attention=False)
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("attention", mixture)
    calculator.get_property("glass_probability", mixture)
    assert "attention" not in mixture.arrays


@pytest.mark.parametrize("name", ["glass_bonds", "attention_bonds"])
def test_bonds_on_request(mixture, glass_file, tmp_path, name):
    analysis = {"metrics": {}} if name == "glass_bonds" else {"model": glass_file}
    given = {"species_array": "kind", "units": "lj"} | analysis
    bonds, found = annotate(mixture, **given, bonds=True)[name], mixture.info[name]
    assert set(found) == {"i", "j", "shift", *bonds.columns}
    ase.io.write(tmp_path / "out.xyz", mixture)
    for stored in (found, ase.io.read(tmp_path / "out.xyz").info[name]):
        np.testing.assert_array_equal(np.stack([stored["i"], stored["j"]], axis=1), bonds.atoms)
        np.testing.assert_array_equal(stored["shift"], bonds.shifts)
        for column, values in bonds.columns.items():
            np.testing.assert_allclose(stored[column], values, rtol=1e-6)
    # i to the image of j: ASE's own vectors have these lengths.
    i, j = found["i"], found["j"]
    apart = mixture.positions[j] - mixture.positions[i] + found["shift"] @ np.array(mixture.cell)
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), found["length"], rtol=1e-5)
    annotate(mixture, **given)
    assert name not in mixture.info


# Bad input


def setter(**options):
    return PhaseCalculator().set(**options)


@pytest.mark.parametrize("use", [lambda **options: annotate(None, **options), PhaseCalculator, setter])
def test_options_are_checked_at_once(use, pair_file, glass_file):
    """Before the atoms are looked at."""
    for options, message in [
        ({"simga": 1.0}, "unknown option simga"),
        (
            {"model": pair_file, "sigma": 1.0},
            "unknown option sigma; the options of segmentation/pair-v1 are thr",
        ),
        (
            {"model": glass_file, "sigma": 1.0},
            "unknown option sigma; the options of liquid_glass/random-v1 are b",
        ),
        ({"species": "Fe", "model": pair_file}, "give either species or model, not both"),
        ({"species": "B", "metrics": {}}, "give either species or metrics, not both"),
        ({"metrics": {"kk": 3}}, "unknown option kk of metrics; the options are b, k, rule"),
        ({"metrics": True}, "metrics must be a dictionary of options"),
        ({"metrics": {}, "k": 3}, r"pass k inside metrics=dict\(...\)"),
    ]:
        with pytest.raises(TypeError, match=message):
            use(**options)
    for options, message in [
        ({"sigma": -1.0}, "sigma must be"),
        ({"model": pair_file, "threshold": 2.0}, "threshold must be a probability"),
        ({"model": "no-such-name"}, "there is no checkpoint with this name"),
        ({"model": pair_file, "device": "tpu"}, "device must be auto, cpu, torch or cuda"),
    ]:
        with pytest.raises(ValueError, match=message):
            use(**options)


def test_bad_atoms(melt, mixture, pair_file, glass_file):
    def refused(atoms, message, *args, **options):
        before = set(atoms.arrays)
        with pytest.raises(ValueError, match=message):
            annotate(atoms, *args, **options)
        assert set(atoms.arrays) == before

    refused(melt, "'Xx'", "Xx")
    refused(melt, "no array 'kind'; their arrays are", species_array="kind")
    refused(melt, "one string or integer per atom", species_array="positions")
    refused(ase.Atoms(melt.symbols, positions=melt.positions), "the cell is missing")
    refused(ase.Atoms(cell=[3, 3, 3], pbc=True), "no atoms")
    melt.symbols[:3] = "Xe"
    refused(melt, "does not know the species Xe; it knows Fe, O", model=pair_file)
    melt.positions[4, 1] = np.nan
    refused(melt, "atom 5 has the coordinates")
    refused(mixture, "no species named 'B'; the species here are X", metrics={})
    refused(mixture, "rule must be one of all, b-only", metrics={"rule": "both"}, species_array="kind")
    refused(
        mixture, "units 'metal', but liquid_glass/random-v1 was trained with 'lj'", model=glass_file,
        species_array="kind",
    )  # fmt: skip
    refused(mixture, "the network does not know", model=glass_file, units="lj")
    mixture.pbc = False
    refused(mixture, "neighbors", metrics={"k": len(mixture)}, species_array="kind")
