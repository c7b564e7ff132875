"""phaseseg.io: what is written, read back by this package and by ASE; failures while writing; tables."""

from __future__ import annotations

import csv
import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase.io
import numpy as np
import pytest

from io_samples import assert_same, make_frame
from phaseseg.fields import Fields, Grid, Table
from phaseseg.io import OutputError, atomic_output, read_frames, write_frames, write_table


def results(n_frames=2, **kwargs):
    for k in range(n_frames):
        frame = make_frame(k, n_frames_in=k, **kwargs)
        rng = np.random.default_rng(k)
        distance = rng.normal(size=len(frame)).astype(np.float32)
        distance[0] = np.nan
        grid = Grid(np.zeros((2, 2, 2), np.float32), frame.cell, frame.origin, frame.pbc)
        yield frame, Fields({
            "phase": rng.integers(0, 3, len(frame)).astype(np.int8), "interface_distance": distance,
            "n_phases": 2, "phase_contrast": np.float64(3.25), "interface_width": float("nan"),
            "density_grid": grid, "domains": Table("Domains", {"n": np.arange(3)}),
        })  # fmt: skip


@pytest.mark.parametrize("triclinic", [False, True])
@pytest.mark.parametrize(
    "name", ["out.dump", "out.lammpstrj.gz", "out.xyz", "out.extxyz.gz", "out.xyz.zst", "out.DUMP.ZST"]
)
def test_round_trip(tmp_path, name, triclinic):
    path = tmp_path / name
    pairs = list(results(triclinic=triclinic))
    assert write_frames(path, pairs) == 2
    again = list(read_frames(path, fields=True))
    for (frame, fields), read in zip(pairs, again, strict=True):
        assert_same(read, frame, atol=1e-8)
        assert read.timestep == frame.timestep
        assert list(read.fields) == ["phase", "interface_distance"]
        for column in read.fields:
            np.testing.assert_allclose(read.fields[column], fields[column], rtol=1e-7, atol=0)
    # What has been read is written and read back unchanged to the last bit.
    write_frames(tmp_path / f"second-{name}", ((frame, {}) for frame in again))
    for one, other in zip(again, read_frames(tmp_path / f"second-{name}", fields=True), strict=True):
        assert_same(one, other, atol=1e-12)
        np.testing.assert_array_equal(one.positions, other.positions)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"second-{name}"])


@pytest.mark.parametrize("name", ["out.xyz", "out.dump"])
def test_frames_are_written_alone_and_with_results(tmp_path, name):
    frames = [make_frame(k, 20 + k) for k in range(3)]
    marked = (frames[1], {"mark": np.arange(len(frames[1]))})
    assert write_frames(tmp_path / name, frames) == 3
    assert write_frames(tmp_path / f"mixed-{name}", [frames[0], marked, (frames[2], None)]) == 3
    again = list(read_frames(tmp_path / f"mixed-{name}", fields=True))
    for one, other in zip(read_frames(tmp_path / name), again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    assert [list(frame.fields) for frame in again] == [[], ["mark"], []]


def test_ase_reads_what_is_written(tmp_path):
    pairs = list(results())
    write_frames(tmp_path / "out.xyz", pairs)
    for (frame, fields), atoms in zip(pairs, ase.io.read(tmp_path / "out.xyz", ":"), strict=True):
        np.testing.assert_allclose(atoms.positions, frame.positions, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(atoms.cell, frame.cell)
        np.testing.assert_array_equal(atoms.pbc, frame.pbc)
        np.testing.assert_array_equal(atoms.arrays["phase"], fields["phase"])
        np.testing.assert_array_equal(atoms.arrays["id"], frame.ids)
        np.testing.assert_allclose(
            atoms.arrays["interface_distance"], fields["interface_distance"], rtol=1e-7
        )
        np.testing.assert_array_equal(atoms.info["Origin"], frame.origin)
        assert atoms.arrays["phase"].dtype.kind == "i"
        expected = {"Origin", "timestep", "n_phases", "phase_contrast"}
        assert set(atoms.info) == expected
        assert (atoms.info["n_phases"], atoms.info["phase_contrast"]) == (2, 3.25)
    write_frames(tmp_path / "out.dump", pairs)
    for (frame, _), atoms in zip(
        pairs, ase.io.read(tmp_path / "out.dump", ":", format="lammps-dump-text", order=False), strict=True
    ):
        np.testing.assert_allclose(atoms.positions, frame.positions, rtol=0, atol=1e-8)
        np.testing.assert_allclose(atoms.cell, frame.cell, rtol=0, atol=1e-12)


def test_vectors_flags_time_and_reduced_units(tmp_path):
    frame = make_frame().replace(time=0.1, units="lj", fields={"v": np.arange(90.0).reshape(30, 3)})
    result = {"flag": np.arange(30) % 2 == 0, "done": True, "n": np.int64(3)}
    for name in ("a.xyz", "a.dump"):
        write_frames(tmp_path / name, [(frame, result)])
        [read] = read_frames(tmp_path / name, fields=True)
        assert (read.time, read.units) == (0.1, "lj")
        np.testing.assert_array_equal(read.fields["flag"], result["flag"])
    assert list(read.fields) == ["v[1]", "v[2]", "v[3]", "flag"]
    atoms = ase.io.read(tmp_path / "a.xyz")
    np.testing.assert_array_equal(atoms.arrays["v"], frame.fields["v"])
    assert atoms.info["done"] is True or atoms.info["done"] == np.True_
    assert atoms.info["n"] == 3


def test_same_frames_give_the_same_bytes(tmp_path):
    for suffix in (".gz", ".zst"):
        for name in ("a.dump", "b.dump"):
            write_frames(tmp_path / f"{name}{suffix}", results())
        assert (tmp_path / f"a.dump{suffix}").read_bytes() == (tmp_path / f"b.dump{suffix}").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["out.xyz", "out.dump.gz"])
def test_failure_leaves_the_old_file(tmp_path, name, error):
    def failing():
        yield from results(1)
        raise error

    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(type(error)):
        write_frames(path, failing())
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "out.xyz"
    path.write_text("precious")
    real = Path.open

    def full(self, mode="r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        if "w" in mode:
            file.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match=r"out.xyz: the disk is full"):
        write_frames(path, results())
    with pytest.raises(OutputError, match="disk is full"):
        write_table(tmp_path / "t.csv", Table("t", {"a": np.arange(3)}))
    monkeypatch.undo()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("file_format", ["extxyz", "lammps-dump"])
def test_device_that_is_full(file_format):
    with pytest.raises(OutputError, match="disk is full"):
        write_frames("/dev/full", results(20), file_format=file_format)
    assert Path("/dev/full").is_char_device()


def test_links_and_permissions_survive(tmp_path):
    target = tmp_path / "real.xyz"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.xyz"
    link.symlink_to(target)
    write_frames(link, results(1))
    assert link.is_symlink()
    assert target.read_text().startswith("30\n")
    assert target.stat().st_mode & 0o777 == 0o640


def test_output_that_cannot_be(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        write_frames(tmp_path / "missing" / "a.xyz", results())
    with pytest.raises(OutputError, match="this is a folder"):
        write_frames(tmp_path, results(), file_format="extxyz")
    with pytest.raises(ValueError, match="output format"):
        write_frames(tmp_path / "a.png", results())
    with pytest.raises(ValueError, match="no frames"):
        write_frames(tmp_path / "a.xyz", [])
    frame = make_frame()
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        write_frames(tmp_path / "a.xyz", [(frame, {"a": np.zeros(3)})])
    nameless = frame.replace(species_names=("Fe", "Mg", "a b"))
    with pytest.raises(ValueError, match="cannot be written as the name of a species"):
        write_frames(tmp_path / "a.xyz", [nameless])
    assert not list(tmp_path.iterdir())


def test_atomic_output_keeps_the_suffix(tmp_path):
    with atomic_output(tmp_path / "a.tar.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("a.tar.gz")
        temporary.write_text("new")
    assert (tmp_path / "a.tar.gz").read_text() == "new"


def test_tables(tmp_path):
    table = Table(
        "Composition", {"element": np.array(["Fe", "O"]), "wt%": np.array([1.5, np.nan]), "n": np.arange(2)}
    )
    assert write_table(tmp_path / "t.csv", table) == (tmp_path / "t.csv",)
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "element,wt%,n\nFe,1.5,0\nO,,1\n"
    write_table(tmp_path / "t.json", table)
    read = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert read == {
        "title": "Composition",
        "columns": {"element": ["Fe", "O"], "wt%": [1.5, None], "n": [0, 1]},
    }
    paths = write_table(
        tmp_path / "m.csv", {"one": table, "width (Å)": Table("w", {"σ": np.array([np.inf])})}
    )
    assert [path.name for path in paths] == ["m_one.csv", "m_width (Å).csv"]
    with paths[1].open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["σ"], [""]]
    write_table(tmp_path / "m.json", {"one": table, "two": table})
    assert list(json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))) == ["one", "two"]
    with pytest.raises(ValueError, match=r"\.csv or \.json"):
        write_table(tmp_path / "t.xlsx", table)
    with pytest.raises(ValueError, match="no table"):
        write_table(tmp_path / "t.csv", {})


@pytest.mark.parametrize("name", ["a.xyz", "a.dump"])
def test_names_that_the_format_cannot_hold_are_changed(tmp_path, name):
    fields = {"mtt::v": np.arange(30.0), 'a "b"': np.ones((30, 3)), "mtt__v": np.zeros(30), "": np.zeros(30)}
    frame = make_frame().replace(fields=fields)
    with pytest.warns(UserWarning, match="is written as") as caught:
        write_frames(tmp_path / name, [frame, frame])
    assert "'mtt::v' is written as mtt__v_: " in str(caught[0].message)
    again = list(read_frames(tmp_path / name, fields=True))
    assert_same(again[1], frame, atol=1e-8)
    np.testing.assert_array_equal(again[0].fields["mtt__v"], fields["mtt__v"])
    np.testing.assert_array_equal(again[0].fields["mtt__v_"], fields["mtt::v"])
    assert "a__b_" in again[0].fields or "a__b_[1]" in again[0].fields


def test_numbers_of_a_frame_keep_any_name(tmp_path):
    info = {"mtt::U0": -3.25, 'a "b" = [c]': 1.0, "": 3.0, "two\nlines": 4.0, "back\\slash": 5.0, "it's": 6.0}
    write_frames(tmp_path / "a.xyz", [make_frame().replace(info=info)])
    assert next(read_frames(tmp_path / "a.xyz")).info == info
    info = {"mtt::U0": -3.25, "Li[x]": 1.0, "a b": 2.0}
    write_frames(tmp_path / "a.xyz", [make_frame().replace(info=info)])
    oracle = ase.io.read(tmp_path / "a.xyz").info
    assert {name: oracle[name] for name in info} == info


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["xyz", "dump.gz", "dump.zst", "npz"])
def test_several_threads_read_and_write_at_once(tmp_path, suffix):
    frames = [make_frame(k, 3000) for k in range(8)]
    write_frames(tmp_path / "in.dump", frames)

    def copy(k):
        path = tmp_path / f"out{k}.{suffix}"
        read = read_frames(tmp_path / "in.dump")
        write_frames(path, ((frame, {"n": np.arange(3000), "x": frame.positions}) for frame in read))
        return path.read_bytes()

    expected = copy(-1)
    with ThreadPoolExecutor(4) as threads:
        assert all(found == expected for found in threads.map(copy, range(8)))
