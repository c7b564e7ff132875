"""Proof of the contract: a family that lives in one test file is served by every face."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import dummy_family
from phaseseg import load_model, map_frames, predict, read_frames, write_frames
from phaseseg.api import default_checkpoint, evaluate, fit, predict_frames, predictor
from phaseseg.checkpoint import CheckpointError, save_checkpoint
from phaseseg.families import FAMILIES, register
from phaseseg.neighbors import neighbor_graph
from phaseseg.specs import FieldSpec, register_fields
from phaseseg.testing import AWKWARD, check_conformance
from samples import unregister


@pytest.fixture(autouse=True)
def families():
    dummy_family.register_all()
    yield
    for name in ("crowding", "centered"):
        unregister(name)


@pytest.fixture
def crowding():
    return dummy_family.checkpoint_of("crowding/two-v1")


@pytest.fixture
def frames():
    return [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]


def naive(frame, cutoff=3.0, slope=1.0):
    """Two networks whose offsets cancel: the number of neighbors times the slope."""
    return slope * np.diff(neighbor_graph(frame, cutoff=cutoff).indptr)


def test_it_is_found_and_its_fields_are_known(crowding):
    assert {"crowding", "centered"} < set(FAMILIES) and next(iter(FAMILIES)) == "segmentation"
    with pytest.raises(ValueError, match="'n_crowded' is already registered"):
        register_fields(FieldSpec("n_crowded", "Other", "", "frame", "count", "something else"))
    with pytest.raises(ValueError, match="a family 'crowding' is already registered"):
        register(dummy_family.Family(**{**vars(dummy_family.CROWDING), "title": "Other"}))
    with pytest.raises(CheckpointError, match="no default checkpoint"):
        default_checkpoint("crowding")


def test_predict(crowding, frames):
    for frame in frames:
        fields = predict(frame, crowding, weight=2.0, limit=3.0)
        assert_array_equal(fields["crowding"], (2 * naive(frame)).astype(np.float32))
        assert fields["n_crowded"] == (2 * naive(frame) > 3).sum()
        assert [message.code for message in fields.messages] == ["crowded"]
    with pytest.raises(TypeError, match=r"unknown option limits; the options of .* are weight, limit"):
        predict(frames[0], crowding, limits=3)
    with pytest.raises(ValueError, match="weight must be positive"):
        predict(frames[0], crowding, weight=-1)
    with pytest.raises(ValueError, match="trained with 'metal'"):
        predict(frames[0].replace(units="lj"), crowding)


def test_a_rule_is_parsed_once_and_travels_to_processes(crowding, frames, monkeypatch):
    model = load_model(crowding)
    rule = model.rule(weight=2.0)
    monkeypatch.setattr(type(model), "rule", None)
    ready = pickle.loads(pickle.dumps(predictor(crowding, rule)))
    for frame, fields in zip(frames, map_frames(ready, frames), strict=True):
        assert_array_equal(fields["crowding"], 2 * naive(frame))


def test_progress_and_interruption(crowding, frames):
    seen = []
    predict(frames[0], crowding, progress=lambda done, line: seen.append((done, line)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and seen[-1][0] == 1

    def stop(done, line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(frames[0], crowding, progress=stop)


def test_a_foreign_checkpoint(tmp_path, frames):
    path = tmp_path / "theirs.crowd"
    path.write_text(json.dumps({"slope": 3.0, "cutoff": 2.5}), "utf-8")
    assert load_model(path).name == "crowding/theirs" and load_model(str(path)) is load_model(path)
    assert_array_equal(predict(frames[0], path)["crowding"], naive(frames[0], 2.5, 3.0))
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_model(tmp_path / "nothing.safetensors")


@pytest.mark.slow
def test_conformance(tmp_path, crowding, frames):
    save_checkpoint(crowding, tmp_path / "two-v1.safetensors")
    skipped = check_conformance(tmp_path / "two-v1.safetensors", *frames)
    assert "slabs" not in skipped and "progress" not in skipped
    check_conformance(dummy_family.checkpoint_of("centered/mean-v1"), *frames)


def test_a_fit_over_all_frames(frames):
    checkpoint = dummy_family.checkpoint_of("centered/mean-v1")
    mean = np.mean([naive(frame).mean() for frame in frames])
    for frame, fields in zip(frames, predict_frames(frames, checkpoint), strict=True):
        assert_allclose(fields["crowding"], naive(frame) - mean, atol=1e-5)
    assert abs(predict(frames[0], checkpoint)["mean_crowding"]) < 1e-5  # a single frame is its own data set


def test_fit_and_evaluate(tmp_path, frames):
    made = fit(frames, "crowding", output=tmp_path / "mine.safetensors", cutoff=2.5)
    assert load_model(tmp_path / "mine.safetensors").checkpoint.hash == made.hash
    result = evaluate({"a": frames[:1], "b": frames[1:]}, made, expected=1.0)
    assert [row["run"] for row in result.rows] == ["a", "b"]
    assert result.rows[0]["error"] == pytest.approx(abs(naive(frames[0], 2.5).mean() - 1))
    with pytest.raises(TypeError, match=r"unknown option limit; the evaluation options of .* expected"):
        evaluate(frames, made, limit=1.0)


def test_files(tmp_path, crowding, frames):
    path = tmp_path / "out.xyz"
    write_frames(path, [(frame, predict(frame, crowding)) for frame in frames[:1]])
    assert_array_equal(next(read_frames(path, fields=True)).fields["crowding"], naive(frames[0]))
    save_checkpoint(crowding, tmp_path / "c.safetensors")


def test_ase(crowding, frames):
    from ase import Atoms

    from ase_bridge import PhaseCalculator, annotate

    frame = frames[0]
    atoms = Atoms(frame.species.size * ["Fe"], frame.positions, cell=frame.cell, pbc=frame.pbc)
    fields = annotate(atoms, model=crowding, limit=2.0)
    assert_array_equal(atoms.arrays["crowding"], naive(frame))
    assert atoms.info["n_crowded"] == fields["n_crowded"] == (naive(frame) > 2).sum()
    found = PhaseCalculator(model=crowding).get_property("crowding", atoms)
    assert_array_equal(found, naive(frame))


def test_ovito(tmp_path, crowding, frames):
    pytest.importorskip("ovito")
    from faces.ovito_data import collection_of, evaluate
    from ovito_phaseseg import network_modifier

    save_checkpoint(crowding, tmp_path / "c.safetensors")
    modifier = network_modifier("crowding")(model_file=str(tmp_path / "c.safetensors"), limit=2.0)
    data = evaluate(collection_of(frames[0]), modifier)
    assert_array_equal(data.particles["Crowding"], naive(frames[0]))
    assert data.attributes["Crowding.n_crowded"] == (naive(frames[0]) > 2).sum()


@pytest.fixture
def command(tmp_path, frames, crowding):
    """`command(*words)` runs the command line in a folder with two files of frames and two checkpoints."""
    from typer.testing import CliRunner

    from phaseseg.cli import make_app

    write_frames(tmp_path / "a.xyz", [(frame, {}) for frame in frames[:1] * 2])
    write_frames(tmp_path / "b.xyz", [(frames[1], {})])
    save_checkpoint(crowding, tmp_path / "two.safetensors")
    save_checkpoint(dummy_family.checkpoint_of("centered/mean-v1"), tmp_path / "mean.safetensors")
    app = make_app()

    def call(*words):
        words = [str(tmp_path / word) if "." in str(word) else str(word) for word in words]
        return CliRunner().invoke(app, words)

    return call


def test_words_of_the_command_line(command, tmp_path, frames):
    made = command("train", "crowding", "a.xyz", "-o", "mine.safetensors", "--slope", 2)
    assert made.exit_code == 0 and "mine.safetensors" in made.stderr, made.stderr
    assert command("train", "crowding", "a.xyz", "-o", "no.safetensors", "--cutoff", -1).exit_code == 2
    result = command("predict", "b.xyz", "-m", "mine.safetensors", "--weight", 3, "-o", "out.xyz", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["tables"]["frames"]
    assert row["mean_crowding"] == pytest.approx((6 * naive(frames[1])).mean())
    written = next(read_frames(tmp_path / "out.xyz", fields=True))
    assert_array_equal(written.fields["crowding"], 6 * naive(frames[1]))
    assert "Mean crowding" in command("predict", "b.xyz", "-m", "mine.safetensors").stdout
    result = command(
        "evaluate", "a.xyz", "b.xyz", "-m", "two.safetensors", "--expected", 1, "--report", "r.d"
    )
    assert result.exit_code == 0 and "error" in result.stdout, result.stderr
    assert len(json.loads((tmp_path / "r.d" / "metrics.json").read_text())["rows"]) == 3
    assert command("crowd", "two.safetensors").stdout == "cutoff 3\n"
    assert [command(*words, "--help").exit_code for words in (["predict"], ["train", "crowding"])] == [0, 0]


def test_options_of_others_are_refused(command):
    for options, words in (
        (["--boundary", "voxels"], "--boundary is an option for networks of the family segmentation"),
        (["--weight", "-1"], "weight must be positive"),
    ):
        result = command("predict", "a.xyz", "-m", "two.safetensors", *options)
        assert result.exit_code == 2 and words in " ".join(result.stderr.split())


def test_a_report_with_the_atoms(command, tmp_path):
    """A family without a summary of its own has the table of its frames, and the viewer."""
    arguments = ("predict", "a.xyz", "-m", "two.safetensors", "--report", "page.d")
    assert command(*arguments).exit_code == 0
    page = (tmp_path / "page.d" / "report.html").read_text("utf-8")
    assert "Mean crowding" in page and "<iframe" not in page
    assert command(*arguments, "--view").exit_code == 0
    page = (tmp_path / "page.d" / "report.html").read_text("utf-8")
    assert "<h2>Atoms</h2>" in page and "&quot;crowding&quot;" in page


def test_the_command_line_fits_over_all_frames(command, tmp_path):
    assert command("predict", "a.xyz", "-m", "mean.safetensors", "-o", "t.json").exit_code == 0
    rows = json.loads((tmp_path / "t.json").read_text())["tables"]["frames"]
    assert len(rows) == 2 and abs(rows[0]["mean_crowding"] + rows[1]["mean_crowding"]) < 1e-5


def test_long_work_on_a_frame_can_be_interrupted(command, tmp_path, monkeypatch):
    from phaseseg.terminal.show import FrameBar

    seen = []

    def stop(self, done, line):
        seen.append(line)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(FrameBar, "inside", stop)
    before = sorted(tmp_path.iterdir())
    result = command("predict", "a.xyz", "-m", "two.safetensors", "-o", "out.xyz")
    assert result.exit_code == 130 and "was not written" in result.stderr and len(seen) == 3
    assert sorted(tmp_path.iterdir()) == before
