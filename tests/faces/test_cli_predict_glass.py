"""`phaseseg predict` with networks that tell liquid from glass: files, tables, edges, bad usage and input."""

import gzip
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import (
    done,
    flat,
    interrupted_at_the_end,
    needs_torch,
    refused,
    same_bytes_with_workers,
)
from phaseseg import load_model, predict
from phaseseg.checkpoint import save_checkpoint
from phaseseg.io import read_frames, write_frames
from phaseseg.summary import MOST_ROWS
from phaseseg.terminal.bonds import COLUMNS
from phaseseg.terminal.errors import INPUT, USAGE

run = partial(command_line.run, "predict")
TEMPERATURES = (1.5, 0.9, 0.4, 0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_glass_checkpoint) -> Path:
    """Two networks with attention."""
    path = tmp_path_factory.mktemp("checkpoints") / "eyes-v1.safetensors"
    save_checkpoint(make_glass_checkpoint("liquid_glass/eyes-v1", attention=True, n_members=2), path)
    return path


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory, make_glass_checkpoint) -> Path:
    """One network without attention."""
    path = tmp_path_factory.mktemp("checkpoints") / "blind-v1.safetensors"
    save_checkpoint(make_glass_checkpoint("liquid_glass/blind-v1", n_members=1), path)
    return path


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory, make_disorder) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run.xyz.gz"
    frames = (
        make_disorder(225, seed=seed).replace(info={"temperature": t, "inherent_energy": -3.5 - 0.01 * seed})
        for seed, t in enumerate(TEMPERATURES)
    )
    write_frames(path, [(frame, {}) for frame in frames])
    return path


def test_frames_are_those_of_the_library(run_file: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.xyz"
    result = run(run_file, "-m", model, "-o", output, "--threshold", 0.4, "--b", "B")
    assert result.exit_code == 0, result.stderr
    pairs = zip(read_frames(run_file), read_frames(output, fields=True), TEMPERATURES, strict=True)
    for frame, written, temperature in pairs:
        fields = predict(frame, model, threshold=0.4, b="B")
        for name in ("glass_probability", "glass_uncertainty", "attention"):
            assert np.array_equal(written.fields[name].astype("f4"), fields[name]), name
        assert written.info["temperature"] == temperature and written.units == "lj"
    header = output.read_text().splitlines()[1]
    assert "frame_glass_probability=" in header and "attention_n_bb_edges=" in header
    assert "run.xyz.gz: Liquid or glass by liquid_glass/eyes-v1" in flat(result.stdout)
    assert "p(glass)" in result.stdout and "B–B edges" in result.stdout
    assert "4 frames predicted in" in flat(result.stderr) and "Written:" in result.stderr


def test_a_table_has_a_row_for_every_frame(run_file: Path, model: Path, tmp_path: Path) -> None:
    assert run(run_file, "-m", model, "-o", tmp_path / "t.csv", "--quiet").exit_code == 0
    lines = [line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines()]
    assert lines[0] == [
        "frame", "temperature", "inherent_energy", "state", "frame_glass_probability",
        "frame_glass_uncertainty", "glass_fraction", "attention_threshold", "attention_n_disjoint_graphs",
        "attention_n_bb_edges", "attention_n_isolated_a",
    ]  # fmt: skip
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    for number, (row, frame) in enumerate(zip(rows, read_frames(run_file), strict=True)):
        fields = predict(frame, model)
        assert int(row["frame"]) == number and float(row["temperature"]) == TEMPERATURES[number]
        for name in lines[0][4:]:
            assert float(row[name]) == fields[name]
        assert row["state"] == ("glass" if fields["frame_glass_probability"] >= 0.5 else "liquid")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_edges(run_file: Path, model: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"edges{suffix}"
    result = run(run_file, "-m", model, "--attention", path, "--frames", "1:3", "--attention-threshold", 1.05)
    assert result.exit_code == 0, result.stderr
    text = gzip.decompress(path.read_bytes()).decode() if suffix.endswith("gz") else path.read_text()
    lines = text.splitlines()
    assert tuple(lines[0].split(",")) == (*COLUMNS, "attention", "bb", "kept")
    values = np.array([line.split(",") for line in lines[1:]], dtype=float)
    for number, frame in enumerate(read_frames(run_file, frames=slice(1, 3))):
        bonds = predict(frame, model, attention_threshold=1.05)["attention_bonds"]
        rows = values[values[:, 0] == number]
        ids = np.arange(1, 226) if frame.ids is None else frame.ids
        assert np.array_equal(rows[:, 1:3], ids[bonds.atoms]) and np.array_equal(rows[:, 3:6], bonds.shifts)
        assert np.allclose(rows[:, 6], bonds.columns["attention"], rtol=1e-6)
        assert np.array_equal(rows[:, 7], bonds.columns["bb"])
        assert np.array_equal(rows[:, 8], bonds.columns["kept"])
    assert "The attention threshold is 1.05, as requested." in flat(result.stderr)


@pytest.mark.slow
def test_workers_write_the_same_bytes(run_file: Path, model: Path, tmp_path: Path) -> None:
    files = {"-o": "out.xyz", "--attention": "edges.csv"}
    same_bytes_with_workers(tmp_path, files, "predict", run_file, "-m", model)


def test_json(run_file: Path, blind: Path, tmp_path: Path) -> None:
    options = ("--device", "cpu", "--b", "B,C")
    result = run(run_file, "-m", blind, "--json", "-o", tmp_path / "out.json", *options)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found["rule"] == {
        "model": "liquid_glass/blind-v1", "b": ["B", "C"], "threshold": 0.5, "attention": None,
        "attention_threshold": None, "device": "cpu", "sha256": load_model(blind).checkpoint.hash,
    }  # fmt: skip
    assert found["frames"] == 4 and len(found["tables"]["frames"]) == 4
    assert found["messages"] == [
        "liquid_glass/blind-v1 holds one network, so the glass uncertainty is 0 everywhere."
    ]
    row = found["tables"]["frames"][2]
    assert row["temperature"] == 0.4 and row["state"] in ("glass", "liquid")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["tables"] == found["tables"]


def test_sentences_of_several_frames_come_once(blind: Path, make_disorder, tmp_path: Path) -> None:
    frames = [make_disorder(100, density=density) for density in (1.2, 0.9, 0.8, 1.2)]
    write_frames(tmp_path / "in.xyz", [(frame, {}) for frame in frames])
    printed = done("predict", tmp_path / "in.xyz", "-m", blind)
    assert printed.count("Outside of the range") == 1 and "there are 0.9 particles per σ^2" in printed
    assert "(2 of 4 frames, with other numbers in other frames)" in printed


def test_many_frames_are_printed_in_part(blind: Path, make_disorder, tmp_path: Path) -> None:
    frame = make_disorder(25)
    write_frames(tmp_path / "in.xyz", [(frame.replace(timestep=10 * n), {}) for n in range(MOST_ROWS + 5)])
    result = run(tmp_path / "in.xyz", "-m", blind, "-o", tmp_path / "t.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("…") >= 1 and len(result.stdout.splitlines()) < MOST_ROWS + 8
    assert (tmp_path / "t.csv").read_text().startswith("frame,timestep,state")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == MOST_ROWS + 6


def test_units_that_the_file_does_not_tell(run_file: Path, blind: Path, tmp_path: Path) -> None:
    """LAMMPS dumps say nothing of units unless they are asked to."""
    write_frames(tmp_path / "run.dump", [(frame, {}) for frame in read_frames(run_file)])
    text = (tmp_path / "run.dump").read_text().replace("ITEM: UNITS\nlj\n", "")
    (tmp_path / "run.dump").write_text(text)
    arguments = ("predict", tmp_path / "run.dump", "-m", blind)
    refused(INPUT, "read it with --units lj", *arguments)
    done(*arguments, "--units", "lj", "--types", "A,B")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold", "1"], "threshold must be a probability between 0 and 1"),
        (["--boundary", "voxels"], "--boundary is an option for networks of the family segmentation, and"),
        (["--min-volume", "3"], "--min-volume is an option for networks of the family segmentation"),
        (["--b", ","], "b must name one species or several"),
        (["--attention", "a.csv"], "liquid_glass/blind-v1 has no attention; choose a checkpoint that has it"),
        (["--attention-threshold", "1.5"], "liquid_glass/blind-v1 has no attention"),
        (["--device", "tpu"], "device must be auto, cpu, torch or cuda"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--units", "si"], "units must be 'metal' or 'lj'"),
        (["-o", "out.pdf"], "the format cannot be inferred from the name"),
    ],
)
def test_bad_usage(run_file: Path, blind: Path, options: list[str], sentence: str) -> None:
    refused(USAGE, sentence, "predict", run_file, "-m", blind, *options)


def test_edges_that_cannot_be_written(run_file: Path, model: Path, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "a.txt", "a.txt: bonds are written as .csv, .csv.gz or .csv.zst"),
        (tmp_path / "no" / "a.csv", "its folder does not exist"),
        (tmp_path / "t.csv", "is the output; choose another name"),
    ):
        refused(USAGE, said, "predict", run_file, "-m", model, "--attention", path, "-o", tmp_path / "t.csv")
    assert list(tmp_path.iterdir()) == []


def test_options_of_glass_are_refused_for_melts(run_file: Path, make_checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "pair-v1.safetensors"
    save_checkpoint(make_checkpoint("segmentation/pair-v1", species=("Fe", "O")), path)
    for options in (["--b", "B"], ["--attention", "a.csv"], ["--attention-threshold", "1"]):
        words = f"{options[0]} is an option for networks of the family liquid_glass"
        refused(USAGE, words, "predict", run_file, "-m", path, *options)


def test_bad_input_leaves_nothing(run_file: Path, model: Path, make_disorder, tmp_path: Path) -> None:
    source = tmp_path / "in.xyz"
    flatland, space = make_disorder(125), make_disorder(125, 3)
    write_frames(source, [(flatland, {}), (space, {})])
    files = ("-o", tmp_path / "out.xyz", "--attention", tmp_path / "edges.csv")
    words = "in.xyz, frame 1: the particles are in three dimensions, but liquid_glass/eyes-v1"
    refused(INPUT, words, "predict", source, "-m", model, *files)
    refused(INPUT, "no particle is Xe", "predict", run_file, "-m", model, "--b", "Xe", *files)
    assert list(tmp_path.iterdir()) == [source]


def test_an_interruption_discards_the_partial_output(
    run_file: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = ("--attention", tmp_path / "e.csv")
    interrupted_at_the_end(monkeypatch, tmp_path, "predict", run_file, "-m", model, *edges)


def test_a_device_that_is_not_there(
    run_file: Path, make_glass_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(make_glass_checkpoint("liquid_glass/own-v1", hidden=7), path)
    needs_torch(monkeypatch, "predict", run_file, "-m", path)
