"""Trajectories in several files: their order, steps that are repeated, messages, and what is not read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from io_samples import NAMES, assert_same, dump_binary, dump_text, make_frame
from phaseseg.io import InputError, read_frames, write_frames
from phaseseg.io.series import files_of

COLUMNS = ("id", "element", "x", "y", "z")


def at(step, seed=None):
    return make_frame(step if seed is None else seed).replace(timestep=step)


def text(*steps, seed=None, **kwargs):
    return "".join(dump_text(at(step, seed), COLUMNS, "pp pp ff", **kwargs) for step in steps)


def codes(frame):
    return [message.code for message in frame.messages]


def steps_of(given, **options):
    return [frame.timestep for frame in read_frames(given, **options)]


def test_one_file_per_frame_in_the_order_of_the_numbers(tmp_path):
    steps = [0, 5, 50, 100, 1000]
    for step in steps:
        (tmp_path / f"run.{step}.dump.gz").write_bytes(gzip.compress(text(step).encode()))
    pattern = tmp_path / "run.*.dump.gz"
    for given in (pattern, str(pattern)):
        frames = list(read_frames(given))
        for k, (step, frame) in enumerate(zip(steps, frames, strict=True)):
            assert_same(frame, at(step))
            assert (frame.index, frame.source) == (k, f"run.{step}.dump.gz, frame {k}")
            assert not frame.messages
    assert steps_of(pattern, frames=slice(1, 4, 2)) == [5, 100]
    assert steps_of(pattern, frames=slice(-2, None)) == [100, 1000]


@pytest.mark.parametrize("suffix", ["dump", "xyz", "bin"])
def test_what_a_continued_run_repeats_is_left_out(tmp_path, suffix):
    parts = [(0, 100, 200, 300), (200, 300, 400), (300, 400), (400, 500), (500,)]
    files = []
    for k, steps in enumerate(parts):
        files.append(tmp_path / f"part{k}.{suffix}")
        frames = [at(step, seed=step + k) for step in steps]
        if suffix == "bin":
            files[-1].write_bytes(b"".join(dump_binary(f, ["id", "type", "x", "y", "z"]) for f in frames))
        else:
            write_frames(files[-1], frames)
    frames = list(read_frames(files, types=NAMES if suffix == "bin" else None))
    assert [frame.timestep for frame in frames] == [0, 100, 200, 300, 400, 500]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5]
    for frame, seed in zip(frames, (0, 100, 200, 300, 401, 503), strict=True):
        assert_same(frame, make_frame(seed), atol=1e-8)
    assert [codes(frame) for frame in frames] == [[], [], [], [], ["repeated-steps"], 2 * ["repeated-steps"]]
    assert "The first 2 frames of part1" in str(frames[4].messages[0])
    assert "The first frame of part3" in str(frames[5].messages[1])
    # The message reaches the next frame that is read.
    [last] = read_frames(files, types=NAMES if suffix == "bin" else None, frames=slice(5, None))
    assert codes(last) == 3 * ["repeated-steps"]


def test_steps_that_begin_anew_are_kept(tmp_path):
    for k in range(3):
        (tmp_path / f"run{k}.dump").write_text(text(0, 10, 20, seed=k))
    frames = list(read_frames(tmp_path / "run?.dump"))
    assert [frame.timestep for frame in frames] == [0, 10, 20] * 3
    for k in range(3):
        assert_same(frames[3 * k], make_frame(k))
    (tmp_path / "run3.dump").write_text(text(10, 20, 30))
    assert steps_of(tmp_path / "run?.dump") == [0, 10, 20] * 3 + [30]


def test_frames_without_steps_are_kept(tmp_path):
    for k in range(2):
        write_frames(tmp_path / f"run{k}.xyz", [make_frame(s).replace(timestep=None) for s in range(2)])
    assert steps_of(tmp_path / "run*.xyz") == [None] * 4


def test_units_and_species_carry_over(tmp_path):
    """LAMMPS says the units in its first frame alone, and a species may come late."""
    (tmp_path / "run.0.dump").write_text(text(0, units="lj"))
    (tmp_path / "run.1.dump").write_text(text(1).replace(" Fe ", " Ar "))
    one, other = read_frames(tmp_path / "run.*.dump")
    assert (one.units, other.units) == ("lj", "lj")
    assert (one.species_names, other.species_names) == (("Fe", "Mg", "O"), ("Fe", "Mg", "O", "Ar"))
    assert other.species_names[other.species[0]] == "Ar"


def test_damaged_frames_and_files(tmp_path):
    for step in (0, 1, 2):
        (tmp_path / f"run.{step}.dump").write_text(text(step))
    pattern = tmp_path / "run.*.dump"
    (tmp_path / "run.1.dump").write_text(text(1)[:-200])
    frames = read_frames(pattern)
    assert next(frames).timestep == 0
    with pytest.raises(InputError, match=r"run\.1\.dump, frame 1: ends after .*--frames :1"):
        next(frames)
    assert steps_of(pattern, frames=slice(2, None)) == [2]
    (tmp_path / "run.1.dump").write_text("")
    with pytest.raises(InputError, match=r"run\.1\.dump: the file is empty"):
        steps_of(pattern)
    (tmp_path / "run.1.dump").write_text("hello\n")
    with pytest.raises(InputError, match=r"run\.1\.dump: does not begin like a LAMMPS text dump"):
        steps_of(pattern)


def test_which_files_are_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run10", "run9", "run[1]", "b/run2", "a/run10", "a/run3"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text(0))
    assert files_of("run[1]") == [Path("run[1]")]  # it has this name
    assert files_of("run[0-9]*") == [Path("run9"), Path("run10")]
    assert [one.as_posix() for one in files_of("*/run*")] == ["a/run3", "a/run10", "b/run2"]
    assert files_of(["b/run2", Path("run9")]) == [Path("b/run2"), Path("run9")]
    with pytest.raises(InputError, match=r"foo\*: no file has a name like this"):
        read_frames("foo*")
    with pytest.raises(InputError, match="there is no file to read"):
        read_frames([])


def test_no_frame_is_read_twice(tmp_path, monkeypatch):
    from phaseseg.io import lammps

    parsed = []
    usual = lammps.parse_frame
    monkeypatch.setattr(lammps, "parse_frame", lambda *given: parsed.append(1) or usual(*given))
    for step in range(5):
        (tmp_path / f"run.{step}.dump").write_text(text(step))
    assert steps_of(tmp_path / "run.*.dump") == [0, 1, 2, 3, 4]
    assert len(parsed) == 5
    parsed.clear()
    assert steps_of(tmp_path / "run.*.dump", frames=slice(3, None)) == [3, 4]
    assert len(parsed) == 3  # and the first frame, which fixes the codes of the species


def test_same_atoms_over_all_files(tmp_path):
    for k, n_atoms in enumerate((30, 31)):
        write_frames(tmp_path / f"run{k}.dump", [make_frame(k, n_atoms).replace(timestep=k)])
    assert [len(frame) for frame in read_frames(tmp_path / "run*.dump")] == [30, 31]
    with pytest.raises(InputError, match=r"run1\.dump, frame 1: has 31 atoms"):
        list(read_frames(tmp_path / "run*.dump", same_atoms=True))


def test_positions_of_every_kind_of_part(tmp_path):
    """A run whose parts are in several formats."""
    write_frames(tmp_path / "a.xyz", [at(0), at(1)])
    write_frames(tmp_path / "b.dump.zst", [at(1), at(2)])
    frames = list(read_frames([tmp_path / "a.xyz", tmp_path / "b.dump.zst"]))
    for step, frame in enumerate(frames):
        np.testing.assert_allclose(frame.positions, at(step).positions, rtol=0, atol=1e-8)
    assert len(frames) == 3
