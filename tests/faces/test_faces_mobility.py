"""Mobility in all interfaces: identical arrays for one file, `evaluate`, and messages for bad input."""

from __future__ import annotations

import csv
import json

import ase
import numpy as np
import pytest

from ase_bridge import PhaseCalculator, annotate
from faces.command_line import refused, run
from mobility_samples import CHECKPOINT, DEEPMIND, deepmind_system, liquid, needs
from phaseseg import predict, read_frames
from phaseseg.io import write_frames
from phaseseg.specs import FIELD_SPECS
from phaseseg.terminal.errors import INPUT, USAGE

NAMES = ("propensity", "propensity_uncertainty", "mobile")
OPTIONS = {"mobile_share": 0.2}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two frames with propensities, those of the halves, and a further time."""
    rng, frames = np.random.default_rng(0), []
    for seed in (1, 2):
        frame = liquid(216, seed=seed)
        y = rng.gamma(4, 0.1, len(frame))
        halves = y[:, None] + rng.normal(0, 0.05, (len(frame), 2))
        fields = {"propensity": y, "propensity_half": halves, "propensity_1": rng.gamma(4, 0.1, len(frame))}
        info = {"temperature": 0.44, "propensity_time": 10.0, "propensity_1_time": 1.0}
        frames.append((frame.replace(fields=fields, info=info), {}))
    name = tmp_path_factory.mktemp("liquid") / "liquid.xyz.gz"
    write_frames(name, frames)
    return name


@pytest.fixture(scope="module")
def expected(path, mobility_file):
    return predict(next(read_frames(path)), mobility_file, **OPTIONS)


def assert_identical(found, expected):
    for name in NAMES:
        np.testing.assert_array_equal(found[name].astype(expected[name].dtype), expected[name], err_msg=name)


def test_there_is_something_to_agree_about(expected):
    assert np.ptp(expected["propensity"]) > 0 and expected["propensity_uncertainty"].min() > 0
    assert 0 < expected["mobile"].sum() < len(expected["mobile"])


def test_ovito(path, mobility_file, expected):
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import Mobility

    pipeline = io.import_file(str(path))
    pipeline.modifiers.append(Mobility(model_file=mobility_file, **OPTIONS))
    data = pipeline.compute(0)
    assert_identical({name: data.particles[FIELD_SPECS[name].title][...] for name in NAMES}, expected)
    for name, value in expected.level("frame").items():
        assert data.attributes[f"Mobility.{name}"] == value, name
    # The simulated propensity is in the input; the message says that it was replaced.
    assert "temperature" not in data.attributes["Mobility.messages"]


def atoms_of(frame):
    """ASE knows no element A: the species are in an array."""
    atoms = ase.Atoms("X" * len(frame), positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.set_array("kind", np.array(frame.species_names)[frame.species])
    atoms.info["temperature"] = 0.44
    return atoms


def test_ase(path, mobility_file, expected):
    atoms = atoms_of(next(read_frames(path)))
    annotate(atoms, model=mobility_file, species_array="kind", units="lj", **OPTIONS)
    assert_identical(atoms.arrays, expected)
    assert {name: atoms.info[name] for name in expected.level("frame")} == expected.level("frame")
    other = atoms_of(next(read_frames(path)))
    other.calc = PhaseCalculator(model=mobility_file, species_array="kind", units="lj", **OPTIONS)
    for name in NAMES:
        np.testing.assert_array_equal(other.calc.get_property(name, other), expected[name])


def test_command_line(path, mobility_file, expected, tmp_path):
    words = ("-m", mobility_file, "--mobile-share", 0.2, "--frames", "0:1", "--quiet")
    run("predict", path, *words, "-o", tmp_path / "out.xyz")
    frame = next(read_frames(tmp_path / "out.xyz", fields=True))
    assert_identical(frame.fields, expected)
    assert frame.info["n_mobile"] == expected["n_mobile"]
    run("predict", path, *words, "-o", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text("utf-8"))["tables"]["frames"]
    assert rows[0]["mean_propensity_a"] == pytest.approx(expected["mean_propensity_a"])


@pytest.mark.slow
def test_evaluate_writes_a_report(path, mobility_file, tmp_path):
    result = run("evaluate", path, "-m", mobility_file, "--report", tmp_path / "report")
    assert "mean of 2 systems" in result.output and "2 frames evaluated" in result.output
    with (tmp_path / "report" / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["type"], row["time"]) for row in rows] == [
        (name, time) for name in "AB" for time in ("10.0", "1.0")
    ]
    assert {path.name for path in (tmp_path / "report").glob("*.png")} == {
        "map.png", "scatter.png", "times.png", "calibration.png"
    }  # fmt: skip
    numbers = json.loads(run("evaluate", path, "-m", mobility_file, "--json").stdout)
    assert numbers["systems"] == 2 and numbers["checkpoint"]["name"] == "mobility/random-v1"


def test_evaluate_repeats_what_the_reader_said_once(mobility_file, tmp_path):
    frame, rng = liquid(216), np.random.default_rng(0)
    for k in (1, 2):
        np.savez(
            tmp_path / f"N216T0.44_{k}.npz", positions=frame.positions, types=frame.species,
            box=np.diag(frame.cell), propensity=rng.random(216),
        )  # fmt: skip
    names = [tmp_path / f"N216T0.44_{k}.npz" for k in (1, 2)]
    lines = run("evaluate", *names, "-m", mobility_file).stderr.splitlines()
    assert [line for line in lines if "taken from the name" in line] == [
        "The temperature, 0.44, was taken from the name of the file."
    ]


def test_evaluate_says_what_is_missing(path, mobility_file, tmp_path):
    words = ("evaluate", path, "-m", mobility_file)
    refused(INPUT, "there is no column 'displacement' to compare with", *words, "--target", "displacement")
    refused(USAGE, "--cage-temperature", *words, "--cage-temperature", -1)
    refused(INPUT, "none.json", *words, "--potential", tmp_path / "none.json")


@pytest.mark.slow
@needs(DEEPMIND)
def test_the_public_checkpoint_is_a_model_like_any_other(tmp_path):
    """All interfaces open it by its path and give TensorFlow's numbers."""
    theirs = np.load(DEEPMIND / "predictions_0_2047.npy").ravel()
    system = deepmind_system()
    write_frames(tmp_path / "system.xyz", [(system, {})])
    run("predict", tmp_path / "system.xyz", "-m", CHECKPOINT, "-o", tmp_path / "out.xyz", "--quiet")
    found = next(read_frames(tmp_path / "out.xyz", fields=True)).fields["propensity"]
    np.testing.assert_allclose(found[:2048], theirs, atol=1e-5)
    atoms = annotate(atoms_of(system), model=str(CHECKPOINT), species_array="kind", units="lj")
    np.testing.assert_allclose(atoms["propensity"][:2048], theirs, atol=1e-5)
