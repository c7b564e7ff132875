"""Columns without their frames, as NumPy archives and Parquet files."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from io_samples import make_frame
from phaseseg.fields import Fields
from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames

KINDS = ["npz", "parquet"]


def pairs(n_frames=3):
    rng = np.random.default_rng(0)
    for k in range(n_frames):
        frame = make_frame(k, 30 + k).replace(fields={"charge": np.ones(30 + k)}, index=2 * k)
        yield frame, Fields({
            "phase": rng.integers(0, 3, len(frame)).astype(np.int8),
            "interface_distance": rng.choice([np.nan, 1.5, -0.25], len(frame)).astype(np.float32),
            "n_phases": 2,
        })  # fmt: skip


def columns_of(path):
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return dict(archive)
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_all_frames(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    assert write_frames(path, pairs()) == 3
    columns, expected = columns_of(path), list(pairs())
    assert list(columns) == ["frame", "id", "phase", "interface_distance"]
    np.testing.assert_array_equal(columns["frame"], np.repeat([0, 2, 4], [30, 31, 32]))
    np.testing.assert_array_equal(columns["id"], np.concatenate([frame.ids for frame, _ in expected]))
    for name in ("phase", "interface_distance"):
        assert columns[name].dtype == expected[0][1][name].dtype
        np.testing.assert_array_equal(columns[name], np.concatenate([fields[name] for _, fields in expected]))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_flags_frames_without_atoms_and_without_ids(tmp_path, kind):
    path = tmp_path / f"labels.{kind.upper()}"
    empty = Frame(np.zeros((0, 3)), np.eye(3), True, np.zeros(0, int), ())
    one = make_frame().replace(ids=None)
    result = {"v": np.arange(90.0).reshape(30, 3), "flag": np.arange(30) % 2 == 0}
    path = path.with_suffix(f".{kind}")
    assert write_frames(path, [(empty, None), (one, result), (empty, {}), (one, result)]) == 4
    columns = columns_of(path)
    np.testing.assert_array_equal(columns["id"], [*range(1, 31)] * 2)
    np.testing.assert_array_equal(columns["frame"], np.repeat([1, 3], 30))
    np.testing.assert_array_equal(columns["flag"], np.tile(result["flag"], 2))
    parts = [columns[f"v[{k}]"] for k in (1, 2, 3)] if kind == "parquet" else columns["v"].T
    np.testing.assert_array_equal(np.transpose(parts), np.tile(result["v"], (2, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_alone_give_the_columns_of_the_file(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    write_frames(path, [frame for frame, _ in pairs(1)])
    assert list(columns_of(path)) == ["frame", "id", "charge"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_frames_without_atoms(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    empty = Frame(np.zeros((0, 3)), np.eye(3), True, np.zeros(0, int), ())
    write_frames(path, [empty])
    assert {name: len(values) for name, values in columns_of(path).items()} == {"frame": 0, "id": 0}
    with pytest.raises(ValueError, match="there are no frames"):
        write_frames(path, [])


@pytest.mark.parametrize("kind", KINDS)
def test_other_columns_later_are_refused_and_nothing_is_left(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    frame = make_frame()
    ones = np.ones(30, np.float32)
    for other in (
        {"b": ones},
        {"a": ones.astype(float)},
        {"a": np.ones((30, 2), np.float32)},
        {"a": ones, "b": ones},
    ):
        with pytest.raises(
            ValueError, match=rf"labels\.{kind}: frame 1 has the columns frame \(int64\), .*one by one"
        ):
            write_frames(path, [(frame, {"a": ones}), (frame, other)])
        assert not list(tmp_path.iterdir())


def test_same_columns_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_frames(tmp_path / name, pairs())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    def frames():
        raise AssertionError("no frame is computed")
        yield

    with pytest.raises(ImportError, match=r"Parquet needs the package pyarrow.*ovito-phaseseg\[parquet\]"):
        write_frames(tmp_path / "labels.parquet", frames())
    assert not list(tmp_path.iterdir())


def test_many_small_frames_share_a_group_of_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "labels.parquet"
    frame = make_frame()
    write_frames(path, ((frame, {"a": np.full(30, k)}) for k in range(300)))
    assert parquet.ParquetFile(path).num_row_groups == 1
    np.testing.assert_array_equal(columns_of(path)["a"], np.repeat(np.arange(300), 30))


def test_labels_are_not_read_as_frames(tmp_path):
    write_frames(tmp_path / "labels.npz", pairs())
    with pytest.raises(ValueError, match=r"labels\.npz"):
        list(read_frames(tmp_path / "labels.npz"))
