"""OVITO, ASE, the command line and the library give identical arrays for one file."""

from __future__ import annotations

import json
import subprocess
import sys

import ase
import ase.io
import numpy as np
import pytest

from ase_bridge import annotate
from phaseseg import glass_metrics, label_phases, list_checkpoints, predict
from phaseseg.io import read_frames
from phaseseg.specs import FIELD_SPECS

ARRAYS = ("phase", "phase_density", "interface_distance", "domain")
FILES = [("melt_small_3000K", 3), ("melt_large_3000K", 0)]
OPTIONS = {"sigma": 1.4, "boundary_width": 1.0}


@pytest.fixture(scope="module", params=FILES, ids=lambda item: item[0])
def case(request, demo):
    """Path, frame number and the labels of the library."""
    name, number = request.param
    path = demo(name)
    frame = next(read_frames(path, frames=slice(number, number + 1)))
    return path, number, frame, label_phases(frame, "Fe", **OPTIONS)


def assert_identical(found, expected, names=ARRAYS):
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_there_is_something_to_agree_about(case):
    *_, fields = case
    assert fields["n_phases"] == 2
    assert set(np.unique(fields["phase"])) == {0, 1, 2}


def test_ovito(case):
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import WeakPhaseLabels

    path, number, _, expected = case
    pipeline = io.import_file(path)
    pipeline.modifiers.append(WeakPhaseLabels(species="Fe", **OPTIONS))
    data = pipeline.compute(number)
    found = {name: data.particles[FIELD_SPECS[name].title][...] for name in ARRAYS}
    assert_identical({name: found[name].astype(expected[name].dtype) for name in ARRAYS}, expected)
    for name, value in expected.level("frame").items():
        np.testing.assert_equal(data.attributes["PhaseSegmentation." + name], value, err_msg=name)


def test_ase(case):
    path, number, frame, expected = case
    import gzip

    with gzip.open(path, "rt") as file:
        atoms = ase.io.read(file, index=number, format="lammps-dump-text", order=False)
    # Both readers must have seen the same atoms for the labels to be the same.
    np.testing.assert_array_equal(atoms.positions, frame.positions)
    annotate(atoms, "Fe", **OPTIONS)
    assert_identical(atoms.arrays, expected)


@pytest.mark.parametrize("suffix", [".xyz", ".dump"])
def test_command_line(case, tmp_path, suffix):
    path, number, _, expected = case
    output = tmp_path / f"labeled{suffix}"
    command = [sys.executable, "-m", "phaseseg.cli", "label", path, "-o", str(output)]
    command += ["--species", "Fe", "--sigma", "1.4", "--boundary-width", "1.0"]
    command += ["--frames", f"{number}:{number + 1}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = next(read_frames(output, fields=True)).fields
    assert_identical({name: found[name].astype(expected[name].dtype) for name in ARRAYS}, expected)


# Predictions --------------------------------------------------------------------------------------

PREDICTED = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")
PREDICT_OPTIONS = {"threshold": 0.45, "boundary_width": 1.0}


BUNDLED = [entry.name for entry in list_checkpoints("segmentation")]


CASES = [*((*file, "file") for file in FILES), *((*FILES[0], name) for name in BUNDLED)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def predicted(request, demo, checkpoint_file):
    """Path, frame number, model, and the prediction of the library."""
    name, number, model = request.param
    path = demo(name)
    frame = next(read_frames(path, frames=slice(number, number + 1)))
    model = checkpoint_file if model == "file" else model
    return path, number, model, predict(frame, model, **PREDICT_OPTIONS)


def test_there_is_something_to_agree_about_in_predictions(predicted):
    *_, fields = predicted
    assert fields["n_phases"] == 2 and fields["mean_uncertainty"] > 0
    assert set(np.unique(fields["phase"])) == {0, 1, 2}


def test_predictions_in_ovito(predicted):
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import PhaseSegmentation

    path, number, model, expected = predicted
    pipeline = io.import_file(path)
    which = {"model": model} if model in BUNDLED else {"model_file": str(model)}
    pipeline.modifiers.append(PhaseSegmentation(**which, **PREDICT_OPTIONS))
    data = pipeline.compute(number)
    found = {name: data.particles[FIELD_SPECS[name].title][...] for name in PREDICTED}
    found = {name: found[name].astype(expected[name].dtype) for name in PREDICTED}
    assert_identical(found, expected, PREDICTED)
    for name, value in expected.level("frame").items():
        np.testing.assert_equal(data.attributes["PhaseSegmentation." + name], value, err_msg=name)


def test_predictions_in_ase(predicted):
    import gzip

    path, number, model, expected = predicted
    with gzip.open(path, "rt") as file:
        atoms = ase.io.read(file, index=number, format="lammps-dump-text", order=False)
    annotate(atoms, model=model, **PREDICT_OPTIONS)
    assert_identical(atoms.arrays, expected, PREDICTED)


@pytest.mark.parametrize("suffix", [".xyz", ".dump"])
def test_predictions_of_the_command_line(predicted, tmp_path, suffix):
    path, number, model, expected = predicted
    output = tmp_path / f"predicted{suffix}"
    command = [sys.executable, "-m", "phaseseg.cli", "predict", path, "-m", str(model)]
    command += ["-o", str(output), "--threshold", "0.45", "--boundary-width", "1.0"]
    command += ["--frames", f"{number}:{number + 1}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = next(read_frames(output, fields=True)).fields
    if suffix == ".dump":
        found = {
            **found,
            "phase_probability": np.stack([found[f"phase_probability[{k}]"] for k in (1, 2)], axis=1),
        }
    assert_identical(
        {name: found[name].astype(expected[name].dtype) for name in PREDICTED}, expected, PREDICTED
    )


# Liquid or glass ----------------------------------------------------------------------------------

METRICS = ("graph_id", "isolated", "bb_degree")
GLASS = ("glass_probability", "glass_uncertainty", "attention")
METRICS_OPTIONS = {"b": "B", "k": 3, "rule": "all"}


@pytest.fixture(scope="module", params=[0, 4])
def glass(request, run_file, glass_file):
    """Path and number of a frame of a 2D mixture, the model, and what the library says of it."""
    frame = next(read_frames(run_file, frames=slice(request.param, request.param + 1)))
    assert frame.n_dimensions == 2 and frame.units == "lj"
    model, metrics = predict(frame, glass_file), glass_metrics(frame, **METRICS_OPTIONS)
    return run_file, request.param, glass_file, metrics, model


def test_there_is_something_to_agree_about_in_glasses(glass):
    *_, metrics, model = glass
    assert metrics["n_bb_edges"] > 0 and metrics["n_disjoint_graphs"] > 0
    assert np.ptp(model["glass_probability"]) > 0.1 and model["glass_uncertainty"].max() > 0
    assert 0 < np.mean(model["attention_bonds"].columns["kept"]) < 1


@pytest.mark.parametrize("flat", [False, True], ids=["3D", "2D"])
def test_glasses_in_ovito(glass, flat):
    """Whether OVITO takes the cell for one of two dimensions or not."""
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import GlassClassifier, GlassMetrics

    path, number, model, metrics, predicted = glass
    pipeline = io.import_file(path)
    pipeline.modifiers.append(lambda frame, data: setattr(data.cell_, "is2D", flat))
    pipeline.modifiers.append(GlassMetrics(**METRICS_OPTIONS))
    pipeline.modifiers.append(GlassClassifier(model_file=model, kept_bonds_only=False))
    data = pipeline.compute(number)
    found = {name: data.particles[FIELD_SPECS[name].title][...] for name in (*METRICS, *GLASS)}
    assert_identical(found, metrics, METRICS)
    assert_identical(found, predicted, GLASS)
    for prefix, fields in (("GlassMetrics.", metrics), ("GlassClassifier.", predicted)):
        for name, value in fields.level("frame").items():
            np.testing.assert_equal(data.attributes[prefix + name], value, err_msg=name)
    bonds = data.particles.bonds
    each = metrics["glass_bonds"], predicted["attention_bonds"]
    np.testing.assert_array_equal(bonds.topology, np.concatenate([one.atoms for one in each]))
    np.testing.assert_array_equal(bonds["Periodic Image"], np.concatenate([one.shifts for one in each]))
    np.testing.assert_array_equal(bonds["Attention"][len(each[0]) :], each[1].columns["attention"])


def test_glasses_in_ase(glass):
    path, number, model, metrics, predicted = glass
    # ASE knows no element A: the species go into an array, as from any file with such names.
    frame = next(read_frames(path, frames=slice(number, number + 1)))
    atoms = ase.Atoms("X" * len(frame), positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.set_array("kind", np.array(frame.species_names)[frame.species])
    annotate(atoms, model=model, metrics=METRICS_OPTIONS, species_array="kind", units="lj", bonds=True)
    assert_identical(atoms.arrays, metrics, METRICS)
    assert_identical(atoms.arrays, predicted, GLASS)
    for fields in (metrics, predicted):
        assert {name: atoms.info[name] for name in fields.level("frame")} == fields.level("frame")
    bonds = atoms.info["attention_bonds"]
    np.testing.assert_array_equal(
        np.stack([bonds["i"], bonds["j"]], axis=1), predicted["attention_bonds"].atoms
    )


def on_the_command_line(glass, *words):
    path, number, *_ = glass
    command = [sys.executable, "-m", "phaseseg.cli", words[0], path, *words[1:]]
    command += ["--frames", f"{number}:{number + 1}", "--quiet"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_metrics_of_glasses_on_the_command_line(glass, tmp_path):
    *_, metrics, _ = glass
    on_the_command_line(glass, "metrics", "--k", "3", "-o", str(tmp_path / "metrics.json"))
    row = json.loads((tmp_path / "metrics.json").read_text())["tables"]["frames"][0]
    for name, value in metrics.level("frame").items():
        assert row[name] == value, name


def test_predictions_of_glasses_on_the_command_line(glass, tmp_path):
    _, _, model, _, predicted = glass
    on_the_command_line(glass, "predict", "-m", model, "-o", str(tmp_path / "predicted.xyz"))
    frame = next(read_frames(tmp_path / "predicted.xyz", fields=True))
    assert_identical({name: frame.fields[name].astype(np.float32) for name in GLASS}, predicted, GLASS)
    for name, value in predicted.level("frame").items():
        assert frame.info[name] == pytest.approx(value, rel=1e-9), name  # ten digits in comment lines
