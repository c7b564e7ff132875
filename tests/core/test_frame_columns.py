"""Columns of many frames give the arrays that NumPy makes of lists."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

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


def test_memory_per_number_is_that_of_the_number() -> None:
    import tracemalloc

    def fill(n: int) -> tuple[FrameColumns, int]:
        tracemalloc.start()
        columns = FrameColumns()
        for k in range(n):
            columns.add({"frame": k, "time": 0.1 * k, "state": ("glass", "liquid")[k % 2]})
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return columns, size

    columns, size = fill(20_000)
    assert size < 20_000 * (8 + 8 + 4) * 1.3
    assert columns["state"][:3].tolist() == ["glass", "liquid", "glass"]


def test_a_column_of_numbers_that_does_not_exist_is_nan() -> None:
    columns = FrameColumns()
    columns.add({"frame": 0})
    assert np.isnan(columns.floats("time")).tolist() == [True] and columns.floats("frame").tolist() == [0.0]
    with pytest.raises(KeyError):
        columns["time"]
