"""OVITO, ASE, the command line and the library give identical arrays for one file."""

from __future__ import annotations

import gzip
import json

import ase
import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from ase_bridge import annotate
from io_samples import data_text, make_frame
from phaseseg import cli, glass_metrics, label_phases, list_checkpoints, predict
from phaseseg.io import read_frames
from phaseseg.specs import FIELD_SPECS

LABELS = ("phase", "phase_density", "interface_distance", "domain")
PREDICTED = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")
METRICS = ("graph_id", "isolated", "bb_degree")
GLASS = ("glass_probability", "glass_uncertainty", "attention")
FILES = [("melt_small_3000K", 3), ("melt_large_3000K", 0)]
LABEL_OPTIONS = {"sigma": 1.4, "boundary_width": 1.0}
PREDICT_OPTIONS = {"threshold": 0.45, "boundary_width": 1.0}
METRICS_OPTIONS = {"b": "B", "k": 3, "rule": "all"}
BUNDLED = [entry.name for entry in list_checkpoints("segmentation")]
# File, frame number and model: "" for weak labels, "file" for a checkpoint file.
CASES = [
    *((*file, model) for file in FILES for model in ("", "file")),
    *((*FILES[0], name) for name in BUNDLED),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[2] or 'labels'}")
def melt(request, demo, checkpoint_file):
    """Path, frame number, model, names of the arrays and the result of the library."""
    name, number, model = request.param
    path = demo(name)
    frame = next(read_frames(path, frames=slice(number, number + 1)))
    if not model:
        return path, number, "", LABELS, label_phases(frame, "Fe", **LABEL_OPTIONS)
    model = str(checkpoint_file) if model == "file" else model
    return path, number, model, PREDICTED, predict(frame, model, **PREDICT_OPTIONS)


def assert_identical(found, expected, names):
    for name in names:
        np.testing.assert_array_equal(found[name].astype(expected[name].dtype), expected[name], err_msg=name)


def assert_attributes(data, expected, prefix):
    for name, value in expected.level("frame").items():
        np.testing.assert_equal(data.attributes[prefix + name], value, err_msg=name)


def properties(data, names):
    return {name: data.particles[FIELD_SPECS[name].title][...] for name in names}


def on_the_command_line(word, path, number, *words):
    command = [word, path, *map(str, words), "--frames", f"{number}:{number + 1}", "--quiet"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output


def test_there_is_something_to_agree_about(melt):
    _, _, model, _, fields = melt
    assert fields["n_phases"] == 2 and set(np.unique(fields["phase"])) == {0, 1, 2}
    assert not model or fields["mean_uncertainty"] > 0


def test_ovito(melt):
    pytest.importorskip("ovito")
    from faces.ovito_data import imported
    from ovito_phaseseg import PhaseSegmentation, WeakPhaseLabels

    path, number, model, names, expected = melt
    which = {"model": model} if model in BUNDLED else {"model_file": model}
    pipeline = imported(path)
    pipeline.modifiers.append(
        PhaseSegmentation(**which, **PREDICT_OPTIONS) if model else WeakPhaseLabels(**LABEL_OPTIONS)
    )
    data = pipeline.compute(number)
    assert_identical(properties(data, names), expected, names)
    assert_attributes(data, expected, "PhaseSegmentation.")


@pytest.mark.slow
def test_ase(melt):
    path, number, model, names, expected = melt
    with gzip.open(path, "rt") as file:
        atoms = ase.io.read(file, index=number, format="lammps-dump-text", order=False)
    # Both readers must have seen the same atoms for the results to be the same.
    frame = next(read_frames(path, frames=slice(number, number + 1)))
    np.testing.assert_array_equal(atoms.positions, frame.positions)
    annotate(atoms, **({"model": model} | PREDICT_OPTIONS if model else {"species": "Fe"} | LABEL_OPTIONS))
    assert_identical(atoms.arrays, expected, names)


@pytest.mark.parametrize("suffix", [".xyz", ".dump"])
def test_command_line(melt, tmp_path, suffix):
    path, number, model, names, expected = melt
    output = tmp_path / f"out{suffix}"
    words = ["predict", path, number, "-m", model, "--threshold", 0.45]
    if not model:
        words = ["label", path, number, "--species", "Fe", "--sigma", 1.4]
    on_the_command_line(*words, "-o", output, "--boundary-width", 1.0)
    found = dict(next(read_frames(output, fields=True)).fields)
    if "phase_probability[1]" in found:
        found["phase_probability"] = np.stack([found[f"phase_probability[{k}]"] for k in (1, 2)], axis=1)
    assert_identical(found, expected, names)


# Liquid or glass ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 4])
def glass(request, run_file, glass_file):
    """Path and number of a frame of a 2D mixture, the model, its metrics and prediction by the library."""
    frame = next(read_frames(run_file, frames=slice(request.param, request.param + 1)))
    assert frame.n_dimensions == 2 and frame.units == "lj"
    model, metrics = predict(frame, glass_file), glass_metrics(frame, **METRICS_OPTIONS)
    return run_file, request.param, glass_file, metrics, model


def test_there_is_something_to_agree_about_in_glasses(glass):
    *_, metrics, predicted = glass
    assert metrics["n_bb_edges"] > 0 and metrics["n_disjoint_graphs"] > 0
    assert np.ptp(predicted["glass_probability"]) > 0.1 and predicted["glass_uncertainty"].max() > 0
    assert 0 < np.mean(predicted["attention_bonds"].columns["kept"]) < 1


@pytest.mark.parametrize("flat", [False, True], ids=["3D", "2D"])
def test_glasses_in_ovito(glass, flat):
    """Whether OVITO takes the cell for one of two dimensions or not."""
    pytest.importorskip("ovito")
    from faces.ovito_data import imported
    from ovito_phaseseg import GlassClassifier, GlassMetrics

    path, number, model, metrics, predicted = glass
    pipeline = imported(path)
    pipeline.modifiers.append(lambda frame, data: setattr(data.cell_, "is2D", flat))
    pipeline.modifiers.append(GlassMetrics(**METRICS_OPTIONS))
    pipeline.modifiers.append(GlassClassifier(model_file=model, kept_bonds_only=False))
    data = pipeline.compute(number)
    assert_identical(properties(data, METRICS), metrics, METRICS)
    assert_identical(properties(data, GLASS), predicted, GLASS)
    assert_attributes(data, metrics, "GlassMetrics.")
    assert_attributes(data, predicted, "GlassClassifier.")
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


def test_glasses_on_the_command_line(glass, tmp_path):
    path, number, model, metrics, predicted = glass
    on_the_command_line("metrics", path, number, "--k", 3, "-o", tmp_path / "metrics.json")
    row = json.loads((tmp_path / "metrics.json").read_text())["tables"]["frames"][0]
    assert {name: row[name] for name in metrics.level("frame")} == metrics.level("frame")
    on_the_command_line("predict", path, number, "-m", model, "-o", tmp_path / "predicted.xyz")
    frame = next(read_frames(tmp_path / "predicted.xyz", fields=True))
    assert_identical(frame.fields, predicted, GLASS)
    for name, value in predicted.level("frame").items():
        assert frame.info[name] == pytest.approx(value, rel=1e-9), name  # ten digits in comment lines


@pytest.mark.parametrize("style", ["atomic", "charge", "molecular", "full", "sphere", "dipole", "ellipsoid"])
@pytest.mark.parametrize("triclinic", [False, True])
def test_lammps_data_files_as_ovito_reads_them(tmp_path, style, triclinic):
    """OVITO leaves the atoms in the cell; the reader here makes molecules whole."""
    import_file = pytest.importorskip("ovito.io").import_file
    frame = make_frame(triclinic=triclinic, pbc=True)
    images = np.random.default_rng(0).integers(-2, 3, (len(frame), 3))
    text = data_text(frame, style, style, images=images)
    (tmp_path / "melt.data").write_text(text[: text.index("Velocities")])
    ours = next(read_frames(tmp_path / "melt.data"))
    theirs = import_file(str(tmp_path / "melt.data")).compute(0)
    wrapped = ours.positions - (0 if ours.molecules is None else images @ ours.cell)
    assert np.allclose(theirs.particles.positions, wrapped, rtol=0, atol=1e-12)
    assert np.allclose(theirs.cell[:, :3].T, ours.cell) and np.allclose(theirs.cell[:, 3], ours.origin)
    assert np.array_equal(theirs.particles["Particle Identifier"], ours.ids)
    names = {kind.id: kind.name for kind in theirs.particles.particle_types.types}
    assert [names[code] for code in np.array(theirs.particles.particle_types)] == [
        ours.species_names[code] for code in ours.species
    ]
    if ours.molecules is not None:
        assert np.array_equal(theirs.particles["Molecule Identifier"], ours.molecules)
