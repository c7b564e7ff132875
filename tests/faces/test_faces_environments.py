"""Environments in all interfaces: identical arrays for one file, fits over a trajectory, bad input."""

from __future__ import annotations

import json

import ase
import ase.io
import numpy as np
import pytest

from ase_bridge import PhaseCalculator, annotate
from environment_samples import crystal, fitted_checkpoint, run_of_crystals
from faces.command_line import flat, refused, run
from phaseseg import load_model, predict, predict_frames, read_frames
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.fields import color_of
from phaseseg.families.environments.learn import fit_environments
from phaseseg.io import write_frames
from phaseseg.specs import FIELD_SPECS
from phaseseg.terminal.errors import INPUT, USAGE

NAMES = ("environment", "environment_distance")
LEARNS = "environments/mixture-v1"
OPTIONS = {"method": "kmeans", "n_clusters": 3}
FLAGS = ("--method", "kmeans", "--n-clusters", 3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Seven crystals of three kinds, with power spectra as an array."""
    frames, _ = run_of_crystals()
    name = tmp_path_factory.mktemp("crystals") / "run.xyz"
    rows = [PowerSpectrum(("W",))(frame) for frame in frames]
    write_frames(name, [(f.replace(fields={"soap": r}), {}) for f, r in zip(frames, rows, strict=True)])
    return name


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    name = tmp_path_factory.mktemp("fits") / "grains-v1.safetensors"
    save_checkpoint(fitted_checkpoint(), name)
    return str(name)


@pytest.fixture(scope="module")
def array_file(tmp_path_factory, path):
    """A fit on the array of the frames."""
    name = tmp_path_factory.mktemp("fits") / "array-v1.safetensors"
    frames = list(read_frames(path, fields=True))
    save_checkpoint(fit_environments(frames, descriptor="array:soap", **OPTIONS), name)
    return str(name)


@pytest.fixture(scope="module")
def learned(path):
    """What `predict_frames` gives after a fit to all frames."""
    return list(predict_frames(read_frames(path), LEARNS, **OPTIONS))


def assert_identical(found, expected):
    for name in NAMES:
        np.testing.assert_array_equal(found[name].astype(expected[name].dtype), expected[name], err_msg=name)


# Command line -------------------------------------------------------------------------------------


def test_command_line(path, file, learned, tmp_path):
    run("predict", path, "-m", LEARNS, *FLAGS, "-o", tmp_path / "out.xyz", "--quiet")
    for frame, expected in zip(read_frames(tmp_path / "out.xyz", fields=True), learned, strict=True):
        assert_identical(frame.fields, expected)
        assert frame.info["n_environments"] == 1
    result = run("predict", path, "-m", file, "--json")
    rows = json.loads(result.stdout)["tables"]["frames"]
    expected = [predict(frame, file) for frame in read_frames(path)]
    assert [row["n_unfamiliar"] for row in rows] == [fields["n_unfamiliar"] for fields in expected]


@pytest.mark.slow
def test_command_line_with_workers(path, learned, tmp_path):
    run("predict", path, "-m", LEARNS, *FLAGS, "-o", tmp_path / "out.xyz", "--quiet", "--workers", 2)
    for frame, expected in zip(read_frames(tmp_path / "out.xyz", fields=True), learned, strict=True):
        assert_identical(frame.fields, expected)


def test_the_clusters_of_mine_are_a_checkpoint_for_all_interfaces(path, tmp_path):
    """`mine --model` writes a file that gives the labels that `mine` wrote."""
    model = tmp_path / "my fit.safetensors"
    result = run(
        "mine", path, "--cluster", "tree", "--model", model, "-o", tmp_path / "out.xyz", "--outliers"
    )
    assert result.exit_code == 0 and "my fit.safetensors (3 clusters" in flat(result.stderr), result.stderr
    frames = list(read_frames(path))
    for frame, written in zip(frames, read_frames(tmp_path / "out.xyz", fields=True), strict=True):
        fields = predict(frame, model)
        np.testing.assert_array_equal(written.fields["environment"], fields["environment"])
        np.testing.assert_allclose(written.fields["outlier_score"], fields["outlier_score"], rtol=1e-5)
    assert load_model(model).name == "environments/my-fit"
    words = ("mine", path, "--model")
    refused(USAGE, "must end in .safetensors", *words, tmp_path / "c.npz")
    refused(USAGE, "which --cluster none does not find", *words, model, "--cluster", "none")


def test_an_array_reaches_the_model_even_if_only_tables_are_written(path, array_file, learned, tmp_path):
    for words in (("-m", LEARNS, *FLAGS, "--descriptor", "array:soap"), ("-m", array_file)):
        run("predict", path, *words, "-o", tmp_path / "t.json", "--quiet")
        rows = json.loads((tmp_path / "t.json").read_text("utf-8"))["tables"]["frames"]
        assert [row["n_unfamiliar"] for row in rows] == [fields["n_unfamiliar"] for fields in learned]


def test_bad_input_on_the_command_line(path, file, array_file, tmp_path):
    refused(USAGE, "method must be one of mixture", "predict", path, "-m", LEARNS, "--method", "dbscan")
    refused(USAGE, "n_clusters must be a whole number", "predict", path, "-m", LEARNS, "--n-clusters", 0)
    refused(USAGE, "descriptor must be", "predict", path, "-m", LEARNS, "--descriptor", "soap")
    refused(USAGE, "fitted with cutoff 5.0, found 4.0", "predict", path, "-m", file, "--cutoff", 4)
    words = ("predict", path, "-m", LEARNS, "--descriptor")
    refused(INPUT, "no array 'bop'; the numeric arrays are soap", *words, "array:bop")
    refused(INPUT, "none.npy: the file cannot be read", *words, f"file:{tmp_path / 'none.npy'}")
    np.save(tmp_path / "short.npy", np.zeros((5, 3)))
    refused(
        INPUT, "has 5 rows, but there are 428 atoms in 7 frames", *words, f"file:{tmp_path / 'short.npy'}"
    )
    refused(USAGE, "option for networks of the family environments", "predict", path, *FLAGS)


# ASE ----------------------------------------------------------------------------------------------


def test_ase(path, file, array_file, learned):
    atoms = ase.io.read(path, index=0)
    expected = predict(next(read_frames(path)), file)
    fields = annotate(atoms, model=file)
    assert_identical(atoms.arrays, expected)
    assert atoms.arrays["environment"].dtype == np.int32
    assert atoms.info["n_environments"] == fields["n_environments"] == 1
    assert atoms.info["environment_clusters"]["atoms"] == [64]
    atoms = ase.io.read(path, index=0)
    annotate(atoms, model=array_file)
    np.testing.assert_array_equal(atoms.arrays["environment"], learned[0]["environment"])
    annotate(atoms, model=LEARNS, method="kmeans", n_clusters=2)  # learns from these atoms alone
    assert sorted(set(atoms.arrays["environment"].tolist())) == [0, 1]


def test_calculator(path, file, array_file):
    atoms = ase.io.read(path, index=1)
    expected = predict(next(read_frames(path, frames=slice(1, 2))), file)
    atoms.calc = PhaseCalculator(model=file)
    for name in NAMES:
        np.testing.assert_array_equal(atoms.calc.get_property(name, atoms), expected[name])
    # A changed array of descriptors is noticed, although ASE does not compare it.
    atoms.calc = calculator = PhaseCalculator(model=array_file)
    first = calculator.get_property("environment", atoms).copy()
    atoms.arrays["soap"][:] = ase.io.read(path, index=0).arrays["soap"][: len(atoms)]
    second = calculator.get_property("environment", atoms)
    assert set(first.tolist()) != set(second.tolist())


def test_bad_input_in_ase(path, file, array_file):
    atoms = ase.io.read(path, index=0)
    del atoms.arrays["soap"]
    with pytest.raises(ValueError, match="the frame has no array 'soap'"):
        annotate(atoms, model=array_file)
    atoms.symbols[0] = "Fe"
    with pytest.raises(ValueError, match="the frame has Fe, but the descriptor knows only W"):
        annotate(atoms, model=file)
    with pytest.raises(ValueError, match="at least two atoms"):
        annotate(atoms[:1], model=LEARNS)


# OVITO --------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(path):
    """`pipeline(**parameters)`: the file in OVITO with the modifier."""
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import EnvironmentClusters

    def make(**parameters):
        made = io.import_file(str(path))
        made.modifiers.append(EnvironmentClusters(**parameters))
        return made

    return make


def in_ovito(data):
    return {name: data.particles[FIELD_SPECS[name].title][...] for name in NAMES}


def test_ovito_learns_from_the_whole_trajectory(pipeline, learned, monkeypatch):
    fits = []
    model = type(load_model(LEARNS))
    real = model.fit_frames
    monkeypatch.setattr(
        model, "fit_frames", lambda *args, **options: fits.append(len(args[1])) or real(*args, **options)
    )
    shown = pipeline(**OPTIONS)
    for number in (4, 0, 1):
        assert_identical(in_ovito(shown.compute(number)), learned[number])
    assert fits == [7]
    data = shown.compute(1)
    environment = data.particles["Environment"]
    assert environment.dtype == np.int32
    (label,) = set(environment[...].tolist())
    assert [entry.id for entry in environment.types] == list(range(label + 1))
    assert tuple(environment.type_by_id(label).color) == pytest.approx(color_of(label))
    np.testing.assert_allclose(data.particles.colors[...], [color_of(label)] * 54, atol=1e-6)
    assert data.attributes["EnvironmentClusters.n_environments"] == 1
    assert data.attributes["EnvironmentClusters.messages"].startswith("1 of 3 clusters of")
    table = data.tables["environment-clusters"]
    assert table.x[...].tolist() == [label] and table.y[...].tolist() == [54]


def test_ovito_with_a_file(pipeline, path, file, array_file):
    shown = pipeline(model_file=file, color_by="distance")
    expected = predict(next(read_frames(path, frames=slice(2, 3))), file)
    data = shown.compute(2)
    assert_identical(in_ovito(data), expected)
    order = np.argsort(expected["environment_distance"])
    assert (np.diff(data.particles.colors[...][order, 0]) >= -1e-6).all()
    assert "Color" not in pipeline(model_file=file, color_by="nothing").compute(0).particles
    # Descriptors may be particle properties.
    frame = next(read_frames(path, fields=True))
    assert_identical(in_ovito(pipeline(model_file=array_file).compute(0)), predict(frame, array_file))


def test_ovito_shows_atoms_in_no_cluster(tmp_path):
    pytest.importorskip("ovito")
    from faces.ovito_data import collection_of, evaluate
    from ovito_phaseseg import EnvironmentClusters

    save_checkpoint(fitted_checkpoint("threshold"), tmp_path / "c.safetensors")
    frame = crystal("bcc")
    small = frame.replace(positions=frame.positions * 0.6, cell=frame.cell * 0.6)
    data = evaluate(collection_of(small), EnvironmentClusters(model_file=str(tmp_path / "c.safetensors")))
    assert (data.particles["Environment"][...] == -1).all()
    assert [(entry.id, entry.name) for entry in data.particles["Environment"].types] == [(-1, "none")]
    np.testing.assert_allclose(data.particles.colors[...], 0.6, atol=1e-6)


def test_clusters_without_a_cell_in_ovito(tmp_path, file):
    """As in a data set: an open box, and the numbers of the library for the same atoms."""
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg import EnvironmentClusters

    (tmp_path / "cluster.xyz").write_text("3\nthree atoms\nW 0 0 0\nW 2.7 0 0\nW 0 2.7 0\n")
    pipeline = io.import_file(str(tmp_path / "cluster.xyz"))
    pipeline.modifiers.append(EnvironmentClusters(model_file=file))
    data = pipeline.compute()
    assert data.cell is None
    assert_identical(in_ovito(data), predict(next(read_frames(tmp_path / "cluster.xyz", cell="open")), file))


def test_bad_input_in_ovito(pipeline, array_file):
    from traits.api import TraitError

    from ovito_phaseseg import EnvironmentClusters

    for name, value in {"method": "dbscan", "color_by": "phase", "model": "gat-v1"}.items():
        with pytest.raises(TraitError, match=name):
            EnvironmentClusters(**{name: value})
    start = "^Atomic environments: "
    with pytest.raises(ValueError, match=start + "method must be|n_clusters must be"):
        pipeline(n_clusters=0).compute(0)
    with pytest.raises(ValueError, match=start + r".*no array 'bop'; the numeric arrays are soap"):
        pipeline(descriptor="array:bop").compute(0)
    with pytest.raises(ValueError, match=start + "threshold needs|" + start + ".*needs a distance"):
        pipeline(method="threshold").compute(0)
