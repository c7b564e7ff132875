"""`phaseseg predict`: what it writes and prints, and one sentence with an exit code for bad input."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import (
    done,
    interrupted_at_the_end,
    interrupted_by_control_c,
    melt,
    needs_torch,
    refused,
    same_bytes_with_workers,
)
from phaseseg import load_model, predict
from phaseseg.api import default_checkpoint
from phaseseg.checkpoint import save_checkpoint
from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames
from phaseseg.terminal.errors import INPUT, USAGE

run = partial(command_line.run, "predict")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, make_checkpoint) -> Path:
    """An ensemble for Fe and O."""
    path = tmp_path_factory.mktemp("checkpoints") / "pair-v1.safetensors"
    save_checkpoint(make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O")), path)
    return path


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("melt") / "melt.dump.gz"
    write_frames(path, [(melt(seed), {}) for seed in range(4)])
    return path


def test_predictions_are_those_of_the_library(trajectory: Path, pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.xyz"
    result = run(trajectory, "-m", pair, "-o", output, "--threshold", 0.4, "--boundary-width", 1.2)
    assert result.exit_code == 0, result.stderr
    for frame, written in zip(read_frames(trajectory), read_frames(output, fields=True), strict=True):
        fields = predict(frame, pair, threshold=0.4, boundary_width=1.2)
        assert fields["n_phases"] == 2
        for name in ("phase", "domain", "phase_probability", "phase_uncertainty", "interface_distance"):
            assert np.array_equal(written.fields[name].astype(fields[name].dtype), fields[name]), name
    assert "rich" in result.stdout and "4 frames" in result.stdout
    assert "Two phases" in result.stderr and "4 frames predicted in" in result.stderr


@pytest.mark.slow
def test_workers_write_the_same_bytes(trajectory: Path, pair: Path, tmp_path: Path) -> None:
    same_bytes_with_workers(tmp_path, {"-o": "out.dump"}, "predict", trajectory, "-m", pair)
    assert "phase_probability[2]" in (tmp_path / "1_out.dump").read_text()[:1000]


@pytest.mark.slow
def test_json_report_and_tables(trajectory: Path, pair: Path, tmp_path: Path) -> None:
    options = (
        "--threshold 0.6 --boundary voxels --by atom --keep largest --min-volume 50 --bulk-distance 4 "
        "--device cpu"
    )
    result = run(trajectory, "-m", pair, "--json", "--report", tmp_path / "report", *options.split())
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found["rule"] == {
        "model": "segmentation/pair-v1", "species": ["Fe"], "threshold": 0.6, "boundary_width": 0.68,
        "boundary": "voxels", "by": "atom", "keep": "largest", "min_volume": 50.0, "bulk_distance": 4.0,
        "device": "cpu", "sha256": load_model(pair).checkpoint.hash,
    }  # fmt: skip
    scalars = {row["name"]: row for row in found["tables"]["scalars"]}
    assert scalars["probability_threshold"]["mean"] == 0.6 and scalars["score_threshold"]["unit"] == "Å"
    assert 0 < scalars["mean_uncertainty"]["mean"] < 0.1
    page = (tmp_path / "report" / "report.html").read_text()
    assert "segmentation/pair-v1" in page and "threshold of the score" in page and "mean uncertainty" in page
    for name in ("slices", "histogram", "composition", "proxigram", "time_series"):
        assert (tmp_path / "report" / f"{name}.png").is_file()
    assert run(trajectory, "-m", pair, "-o", tmp_path / "out.json", "--frames", "0").exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["frames"] == 1


@pytest.mark.slow
def test_a_report_of_one_phase(pair: Path, tmp_path: Path) -> None:
    frame = melt()
    write_frames(tmp_path / "in.xyz", [(frame.replace(species=np.ones(len(frame), int)), {})])
    said = done("predict", tmp_path / "in.xyz", "-m", pair, "--report", tmp_path / "report")
    assert "One phase by segmentation/pair-v1" in said


def test_the_default_model_is_that_of_the_library(small: dict[int, list[Frame]], tmp_path: Path) -> None:
    write_frames(tmp_path / "in.xyz", [(small[3000][0], {})])
    result = run(tmp_path / "in.xyz", "--json")
    assert json.loads(result.stdout)["rule"]["model"] == load_model().name == default_checkpoint()


def test_quiet_prints_nothing(trajectory: Path, pair: Path, tmp_path: Path) -> None:
    result = run(trajectory, "-m", pair, "-o", tmp_path / "a.xyz", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold", "1"], "threshold must be a probability between 0 and 1"),
        (["--boundary-width", "-1"], "boundary_width must be finite and at least 0"),
        (["--boundary", "wide"], "boundary must be one of interface, voxels, learned"),
        (["--boundary", "learned"], "segmentation/pair-v1 does not predict a boundary class"),
        (["--keep", "some"], "keep must be one of all, largest"),
        (["--device", "tpu"], "device must be auto, cpu, torch or cuda"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--frames", "a:b"], "--frames must be start:stop:step"),
        (["-o", "out.pdf"], "the format cannot be inferred from the name"),
    ],
)
def test_bad_usage(trajectory: Path, pair: Path, options: list[str], sentence: str) -> None:
    refused(USAGE, sentence, "predict", trajectory, "-m", pair, *options)


def test_bad_input(trajectory: Path, pair: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "bad.safetensors"
    damaged.write_bytes(pair.read_bytes()[:-4] + b"abcd")
    for options, words in (
        (["-m", tmp_path / "none.safetensors"], "there is no such file"),
        (["-m", "no-such-name"], "there is no checkpoint with this name"),
        (["-m", damaged], "has changed"),
        (["-m", pair, "--types", "Fe,Xe"], "does not know the species Xe"),
    ):
        refused(INPUT, words, "predict", trajectory, *options, "-o", tmp_path / "out.xyz")
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_device_that_is_not_there(
    trajectory: Path, make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(make_checkpoint(species=("Fe", "O"), cut=0.41), path)
    needs_torch(monkeypatch, "predict", trajectory, "-m", path)


def test_an_interruption_discards_the_partial_output(
    trajectory: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_at_the_end(monkeypatch, tmp_path, "predict", trajectory, "-m", pair)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_control_c_ends_cleanly(tmp_path: Path, pair: Path, workers: int) -> None:
    interrupted_by_control_c(tmp_path, 0.5, "predict", "-m", pair, "--workers", workers)
