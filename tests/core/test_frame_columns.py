"""Columns of many frames give the arrays that NumPy makes of lists."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from phaseseg import summary
from phaseseg.summary import FrameColumns

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.none(), st.booleans().map(np.bool_),
    st.integers(0, 9).map(np.int64), st.floats().map(np.float64),
)  # fmt: skip
TEXTS = st.sampled_from(["glass", "liquid", ""])
# Numbers and texts do not mix: a count that became a float, for a frame without one, is not a count again.
KINDS = [
    st.booleans(), st.integers(-9, 9), st.integers(-9, 9) | st.floats(), st.booleans() | st.integers(-9, 9),
    TEXTS, TEXTS | st.none(), NUMBERS,
]  # fmt: skip


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_columns_equal_arrays_of_lists(data: st.DataObject, kind: st.SearchStrategy[Any]) -> None:
    rows = data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), kind), max_size=12))
    columns = FrameColumns()
    for row in rows:
        columns.add(row)
    assert len(columns) == len(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    assert list(columns) == names
    for name in names:
        expected = np.array([row.get(name, np.nan) for row in rows])
        found = columns[name]
        assert found.dtype == expected.dtype
        pairs = zip(found.tolist(), expected.tolist(), strict=True)
        assert all(one == other or (one != one and other != other) for one, other in pairs)  # NaN is no NaN
        assert columns.first(name) == next(k for k, row in enumerate(rows) if name in row)


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_blocks_on_disk_change_nothing(data: st.DataObject, kind: st.SearchStrategy[Any]) -> None:
    rows = data.draw(st.lists(st.dictionaries(st.sampled_from("ab"), kind), max_size=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "BLOCK", 3)
        columns = FrameColumns()
        for row in rows:
            columns.add(row)
        for name in columns:
            expected = np.array([row.get(name, np.nan) for row in rows])
            found = columns[name]
            assert found.dtype == expected.dtype
            pairs = zip(found.tolist(), expected.tolist(), strict=True)
            assert all(one == other or (one != one and other != other) for one, other in pairs)


def filled(n: int) -> tuple[FrameColumns, int]:
    import tracemalloc

    tracemalloc.start()
    columns = FrameColumns()
    for k in range(n):
        columns.add({"frame": k, "time": 0.1 * k, "state": ("glass", "liquid")[k % 2]})
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return columns, size


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    columns, size = filled(40_000)
    assert size < 1.5 * summary.BLOCK * (8 + 8 + 4)
    assert columns["state"][:3].tolist() == ["glass", "liquid", "glass"]
    assert np.array_equal(columns["frame"], np.arange(40_000))


def test_without_a_place_for_temporary_files_rows_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(**options: Any) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setattr(summary.tempfile, "TemporaryFile", no_file)
    columns, _ = filled(20_000)
    assert np.array_equal(columns["frame"], np.arange(20_000))


def test_a_column_of_numbers_that_does_not_exist_is_nan() -> None:
    columns = FrameColumns()
    columns.add({"frame": 0})
    assert np.isnan(columns.floats("time")).tolist() == [True] and columns.floats("frame").tolist() == [0.0]
    with pytest.raises(KeyError):
        columns["time"]
