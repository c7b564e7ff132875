"""OVITO, ASE, the command line and the library give identical arrays for one file."""

from __future__ import annotations

import subprocess
import sys

import ase.io
import numpy as np
import pytest

from ase_bridge import annotate
from phaseseg import label_phases, list_checkpoints, predict
from phaseseg.fields import FIELD_SPECS
from phaseseg.io import read_frames

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
