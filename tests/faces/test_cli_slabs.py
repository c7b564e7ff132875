"""`--slabs`: the same files as without, and one sentence for what is not cut into slabs."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dummy_family
from faces.command_line import done, flat, melt, refused, run
from phaseseg.checkpoint import save_checkpoint
from phaseseg.io import read_frames, write_frames
from phaseseg.large import disk
from phaseseg.large.kept import Kept
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE
from samples import cooled, unregister


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("melt") / "melt.dump"
    write_frames(path, [melt(seed) for seed in range(2)])
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels.xyz", "labels.dump.gz", "labels.npz"])
def test_labels_in_slabs_are_the_same_file(
    trajectory: Path, tmp_path: Path, temporary: Path, name: str
) -> None:
    for n in (1, 3):
        done("label", trajectory, "-o", tmp_path / f"{n}_{name}", "--slabs", n, "--species", "Fe")
    assert (tmp_path / f"1_{name}").read_bytes() == (tmp_path / f"3_{name}").read_bytes()
    assert not [*temporary.iterdir()]


def test_tables_of_slabs(trajectory: Path, tmp_path: Path) -> None:
    found = []
    for n in (1, 2):
        result = run("label", trajectory, "--slabs", n, "--json", "--types", "Fe,O", "--frames", "1:")
        assert result.exit_code == 0, result.stderr
        found.append(json.loads(result.stdout))
    assert found[0]["rule"] == found[1]["rule"] and found[1]["frames"] == 1
    for name, rows in found[0]["tables"].items():
        for row, other in zip(rows, found[1]["tables"][name], strict=True):
            for key, value in row.items():
                assert other[key] == value or np.isclose(other[key], value, rtol=1e-12), (name, key)


def test_predictions_in_slabs(trajectory: Path, tmp_path: Path, temporary: Path, make_checkpoint) -> None:
    pair = tmp_path / "pair-v1.safetensors"
    save_checkpoint(make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O")), pair)
    for n in (1, 2):
        done("predict", trajectory, "-m", pair, "-o", tmp_path / f"{n}.xyz", "--slabs", n)
    one, two = ([*read_frames(tmp_path / f"{n}.xyz", fields=True)] for n in (1, 2))
    for frame, other in zip(one, two, strict=True):
        assert frame.fields.keys() == other.fields.keys()
        np.testing.assert_array_equal(frame.fields["phase"], other.fields["phase"])
        for name in ("phase_probability", "phase_uncertainty"):
            np.testing.assert_allclose(frame.fields[name], other.fields[name], atol=1e-4)
    assert not [*temporary.iterdir()]


def test_slabs_of_a_family_without_files(trajectory: Path, tmp_path: Path) -> None:
    """A model with a halo runs on slabs of frames in memory; one without needs whole frames."""
    dummy_family.register_all()
    try:
        models = {name: tmp_path / f"{name}.safetensors" for name in ("crowding", "centered")}
        for name, path in models.items():
            save_checkpoint(dummy_family.checkpoint_of(f"{name}/two-v1"), path)
        for n in (1, 3):
            done("predict", trajectory, "-m", models["crowding"], "-o", tmp_path / f"{n}.xyz", "--slabs", n)
        assert (tmp_path / "1.xyz").read_bytes() == (tmp_path / "3.xyz").read_bytes()
        dummy_family.CrowdingModel.halo = property(lambda self: np.inf)
        words = "needs whole frames"
        refused(INPUT, words, "predict", trajectory, "-m", models["crowding"], "--slabs", 3, "-q")
    finally:
        dummy_family.CrowdingModel.halo = property(lambda self: self.cutoff)
        for name in models:
            unregister(name)


def test_slabs_are_chosen_where_memory_is_short(trajectory: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("phaseseg.terminal.slabs.FREE_SHARE", 1e-9)
    monkeypatch.setattr("phaseseg.large.store.PER_SLAB", 300)
    said = done("label", trajectory, "-o", tmp_path / "labels.xyz", "--species", "Fe")
    assert "atoms would take about" in said and "Each frame is labeled in" in said
    done("label", trajectory, "-o", tmp_path / "whole.xyz", "--species", "Fe", "--slabs", 1)
    assert (tmp_path / "labels.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--slabs must be auto or a number of at least 1, found '0'", ["--slabs", "0"]),
        ("found 'many'", ["--slabs", "many"]),
        ("--report needs whole frames in memory", ["--slabs", "2", "--report", "page"]),
        ("--average, --pooled needs whole frames", ["--slabs", "2", "--average", "1", "--pooled"]),
    ],
)
def test_bad_slabs(trajectory: Path, words: str, arguments: list[str]) -> None:
    refused(USAGE, words, "label", trajectory, *arguments)


def test_formats_that_are_not_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "POSCAR"
    path.write_text("two\n1.0\n9 0 0\n0 9 0\n0 0 9\nFe\n2\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    refused(USAGE, "slabs are read from one file", "label", path, "--slabs", "2")


@pytest.fixture
def mixtures(tmp_path: Path) -> list[Path]:
    """Two runs of a mixture in two dimensions, as extended XYZ and as a dump."""
    paths = [tmp_path / "a.xyz", tmp_path / "b.dump"]
    for k, path in enumerate(paths):
        write_frames(path, cooled(temperatures=(1.0, 0.5, 0.2), n=400, seed=k))
    return paths


@pytest.mark.slow
def test_metrics_in_slabs_are_the_same_table(mixtures, tmp_path: Path, temporary: Path, monkeypatch) -> None:
    monkeypatch.setattr("phaseseg.large.store.ATOMS_PER_LAYER", 20)
    for n in (1, 4):
        words = ("--temperatures", "1,0.5,0.2", "--bootstrap", 0, "--slabs", n)
        done("metrics", *mixtures, *words, "-o", tmp_path / f"{n}.csv", "--report", tmp_path / f"{n}.report")
    names = sorted(one.name[1:] for one in tmp_path.glob("1*.csv"))
    assert ".csv" in names and len(names) > 1
    for name in names:
        assert (tmp_path / f"1{name}").read_bytes() == (tmp_path / f"4{name}").read_bytes(), name
    assert not [*temporary.iterdir()]


def test_metrics_in_slabs_are_chosen_file_by_file(mixtures, tmp_path: Path, monkeypatch) -> None:
    """A file with one small frame stays in memory, and so do frames of many files."""
    monkeypatch.setattr("phaseseg.terminal.slabs.FREE_SHARE", 1e-6)
    monkeypatch.setattr("phaseseg.large.store.PER_SLAB", 100)
    write_frames(mixtures[1], cooled(temperatures=(0.3,), n=16, seed=3))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=5e10))
    for k in range(2):
        frame = cooled(temperatures=(0.4,), n=400, seed=k)[0]
        write_frames(tmp_path / f"run.{k}.dump", [frame.replace(timestep=k)])
    words = ("metrics", tmp_path / "run.*.dump", *mixtures)
    said = done(*words, "-o", tmp_path / "slabs.csv")
    assert "a.xyz: 400 atoms would take about" in said and "Each frame is counted in 4 slabs" in said
    assert "b.dump" not in said and "run." not in said
    done(*words, "-o", tmp_path / "whole.csv", "--slabs", 1)
    assert (tmp_path / "slabs.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("flags", [["--view", "--report", "page"], ["--workers", "2"]])
def test_metrics_that_need_whole_frames(mixtures, flags: list[str]) -> None:
    refused(USAGE, f"{flags[0]} needs whole frames in memory", "metrics", *mixtures, "--slabs", 2, *flags)


@pytest.mark.parametrize("where", ["reading", "counting"])
def test_metrics_on_a_full_disk(mixtures, tmp_path: Path, temporary: Path, monkeypatch, where: str) -> None:
    """One sentence, and neither a table nor a temporary file."""
    real, n = disk._reserve, []

    def full(number, n_bytes):
        n.append(n_bytes)
        if len(n) > (1 if where == "reading" else 3):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number, n_bytes)

    monkeypatch.setattr(disk, "_reserve", full)
    words = "a temporary file cannot be written (the disk is full)"
    refused(FAILURE, words, "metrics", *mixtures, "--slabs", 2, "-o", tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists() and not [*temporary.iterdir()]


def test_metrics_that_are_interrupted(mixtures, tmp_path: Path, temporary: Path, monkeypatch) -> None:
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("phaseseg.families.liquid_glass.metrics_in_slabs.nearest_neighbors", stop)
    result = run("metrics", *mixtures, "--slabs", 2, "-o", tmp_path / "t.csv")
    assert result.exit_code == INTERRUPTED and "t.csv was not written" in flat(result.stderr)
    assert not (tmp_path / "t.csv").exists() and not [*temporary.iterdir()]


def test_an_interrupted_run_leaves_nothing(
    trajectory: Path, tmp_path: Path, temporary: Path, monkeypatch
) -> None:
    def stop(self, lattice, *args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("phaseseg.families.segmentation.labels.slabs.SlabWork.each", stop)
    result = run("label", trajectory, "-o", tmp_path / "labels.xyz", "--slabs", 2, "--species", "Fe")
    assert result.exit_code == INTERRUPTED and "was not written" in flat(result.stderr)
    assert {one.name for one in tmp_path.iterdir()} == {"temporary"} and not [*temporary.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["label", "predict"])
@pytest.mark.parametrize(("frame", "molecules"), [(0, False), (1, False), (1, True)])
def test_an_interrupted_run_continues(
    trajectory: Path, tmp_path: Path, temporary: Path, make_checkpoint, monkeypatch, word: str, frame: int,
    molecules: bool,
) -> None:  # fmt: skip
    """Finished slabs are read, not made again, and the output is that of a run without an interruption."""
    if molecules:
        frames, trajectory = [*read_frames(trajectory)], tmp_path / "molecules.dump"
        write_frames(trajectory, [one.replace(molecules=np.arange(len(one)) // 3 + 1) for one in frames])
    pair, folder = tmp_path / "pair-v1.safetensors", tmp_path / "kept"
    save_checkpoint(make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O")), pair)
    monkeypatch.setattr("phaseseg.large.store.ATOMS_PER_LAYER", 50)
    place = {
        "label": "phaseseg.families.segmentation.labels.in_slabs.assign_atoms",
        "predict": "phaseseg.families.segmentation.prediction_in_slabs._Prediction._scores_of",
    }[word]
    options = ["--species", "Fe"] if word == "label" else ["-m", pair]
    usual, calls, stop_at = pkgutil.resolve_name(place), 0, 3 * frame + 2

    def counted(*args, **more):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return usual(*args, **more)

    monkeypatch.setattr(place, counted)
    arguments = [word, trajectory, "-o", tmp_path / "found.xyz", *options, "--slabs", 3, "--resume", folder]
    result = run(*arguments)
    assert result.exit_code == INTERRUPTED and f"Finished slabs are in {folder}" in flat(result.stderr)
    assert len([*folder.glob("frame-*.npz")]) == stop_at - 1 and not [*temporary.iterdir()]
    refused(INPUT, "is of a run that differs in: slabs", *arguments[:-3], 2, "--resume", folder)
    (folder / ".0123abcd-frame-0-scores-1.npz").write_bytes(b"of a process that was killed")
    calls, stop_at = 0, -1
    done(*arguments)
    assert calls == 6 - (3 * frame + 1) and not folder.exists()
    monkeypatch.setattr(place, usual)
    done(*arguments[:3], tmp_path / "expected.xyz", *options, "--slabs", 3)
    assert (tmp_path / "found.xyz").read_bytes() == (tmp_path / "expected.xyz").read_bytes()


@pytest.mark.parametrize("stop_at", [1, 4, 8, 13])
def test_interrupted_metrics_continue(
    mixtures, tmp_path: Path, temporary: Path, monkeypatch, stop_at: int
) -> None:
    """Two runs of three frames in three slabs each; the tables are those of a run in memory."""
    folder, place = tmp_path / "kept", "phaseseg.families.liquid_glass.metrics_in_slabs._of_slab"
    monkeypatch.setattr("phaseseg.large.store.ATOMS_PER_LAYER", 20)
    usual, calls = pkgutil.resolve_name(place), 0

    def counted(*args):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(place, counted)
    words = ("--temperatures", "1,0.5,0.2", "--bootstrap", 0)
    arguments = ["metrics", *mixtures, *words, "-o", tmp_path / "found.csv", "--slabs", 3, "--resume", folder]
    result = run(*arguments)
    assert result.exit_code == INTERRUPTED and f"Finished slabs are in {folder}" in flat(result.stderr)
    assert len([*folder.glob("frame-*.npz")]) == stop_at - 1 and not [*temporary.iterdir()]
    refused(INPUT, "is of a run that differs in: k", *arguments, "--k", 3)
    refused(INPUT, "differs in: file, size, changed, slabs", "metrics", mixtures[0], *arguments[3:])
    calls, stop_at, n = 0, -1, 18 - (stop_at - 1)
    done(*arguments)
    assert calls == n and not folder.exists()
    done("metrics", *mixtures, *words, "-o", tmp_path / "expected.csv")
    for path in tmp_path.glob("expected*.csv"):
        assert path.read_bytes() == path.with_name(path.name.replace("expected", "found")).read_bytes()


def test_slabs_are_kept_until_the_tables_are_written(trajectory: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "kept"
    arguments = ["label", trajectory, "--species", "Fe", "--slabs", 2, "--resume", folder, "-q"]

    def full(*_):
        raise OSError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("phaseseg.terminal.run.write_results", full)
        refused(FAILURE, "the disk is full", *arguments, "-o", tmp_path / "tables.csv")
    assert [*folder.glob("frame-*")]
    done(*arguments[:-1], "-o", tmp_path / "tables.csv")
    assert (tmp_path / "tables.csv").exists() and not folder.exists()


def test_folders_to_resume_from(trajectory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    arguments = ["label", trajectory, "--species", "Fe", "--resume", folder, "-q"]
    refused(USAGE, "omit --slabs 1, or omit --resume", *arguments, "--slabs", 1)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    refused(INPUT, "holds other files", *arguments)
    (folder / "notes.txt").unlink()
    Kept.of_run(folder, {"file": "another"})
    refused(INPUT, "differs in: file, ", *arguments)
    (folder / "run.json").unlink()
    refused(FAILURE, "the folder cannot be made", *arguments[:-2], trajectory / "kept")
    # A damaged result is named. Slabs are chosen without a number.
    Kept.of_run(folder, {"file": "another"}).of_frame(0)("scores-0", lambda: {"x": np.ones(3)})
    (damaged,) = folder.glob("frame-*")
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"frame-0-scores-0\.npz cannot be read .* remove this file"):
        Kept.of_run(folder, {"file": "another"}).of_frame(0)("scores-0", dict)
    damaged.unlink()
    (folder / "run.json").unlink()
    done(*arguments[:-1])
    assert not folder.exists()
