"""Tables whose columns know their units, messages of many frames, values for JSON, and what is printed."""

import json
import pickle
from typing import Any

import numpy as np
import pytest

from phaseseg import Fields
from phaseseg.fields import Bonds, Column, Grid, Message, MessageCounter, Table, plain, snake

IRON = Column("Fe", "wt%")


def table() -> Table:
    rows = [{"phase": "rich", IRON: 91.6, IRON.error: 0.3}, {"phase": "poor <b>", IRON: 4.8, "n": 3}]
    return Table.of_rows("Composition", rows)


def test_a_heading_is_text_with_data() -> None:
    assert IRON == "Fe (wt%)" and {IRON: 1}["Fe (wt%)"] == 1
    assert (IRON.quantity, IRON.unit, IRON.part, IRON.of) == ("Fe", "wt%", "", None)
    assert IRON.error == "Fe (wt%) ±" and IRON.error.of == IRON and IRON.error.unit == "wt%"
    share = Column("macro F1", part="2.7 Å", heading="macro F1, 2.7 Å")
    assert share == "macro F1, 2.7 Å" and share.quantity == "macro F1"


@pytest.mark.parametrize("column", [IRON, IRON.error, Column("D", part="bulk", heading="D bulk (wt)")])
def test_headings_travel_between_processes(column: Column) -> None:
    again = pickle.loads(pickle.dumps(column))
    assert again == column and type(again) is Column
    assert [getattr(again, name) for name in Column.__slots__] == [
        getattr(column, name) for name in Column.__slots__
    ]


def test_columns_are_found_by_unit_and_part() -> None:
    rich = Column("Fe", "wt%", part="rich")
    one = Table("t", {"time": [0.0, 1.0], IRON: [1.0, 2.0], IRON.error: [0.1, 0.1], rich: [3.0, 4.0]})
    assert one.values() == ["time", "Fe (wt%)", "rich Fe (wt%)"]
    assert one.values("wt%") == [IRON, rich] and one.values("wt%", part="rich") == [rich]
    assert one.units == {"Fe (wt%)": "wt%", "rich Fe (wt%)": "wt%"}
    assert one.errors("Fe (wt%)").tolist() == [0.1, 0.1] and one.errors(rich) is None
    assert list(one.without(IRON).columns) == ["time", "rich Fe (wt%)"]


def test_rows_that_lack_a_column_have_nan_there() -> None:
    found = table()
    assert len(found) == 2 and list(found.columns) == ["phase", "Fe (wt%)", "Fe (wt%) ±", "n"]
    assert np.isnan(found.columns["n"][0]) and np.isnan(found.errors(IRON)[1])
    assert list(Table.of_rows("t", [{"a": 1, "b": 2}], ["b"]).columns) == ["b"]
    assert len(Table.of_rows("none", [])) == 0


def test_plain_values_are_json() -> None:
    given = {
        "t": table(), "array": np.array([[1, 2]]), "scalar": np.float32(0.5), "flag": np.bool_(True),
        "inf": [np.inf, -np.inf, float("nan")], "text": Message("m", "c"), "none": None,
    }  # fmt: skip
    found = json.loads(json.dumps(plain(given), allow_nan=False))
    assert found["t"][0] == {"phase": "rich", "Fe (wt%)": 91.6, "Fe (wt%) ±": 0.3, "n": None}
    assert found["array"] == [[1, 2]] and found["scalar"] == 0.5 and found["flag"] is True
    assert found["inf"] == [None] * 3 and found["text"] == "m" and found["none"] is None


def test_snake_names() -> None:
    assert [snake(text) for text in ("Fe (wt%)", "rich bulk", "distance (Å)", "volume (Å^3)")] == [
        "Fe_wt_percent", "rich_bulk", "distance_A", "volume_A3",
    ]  # fmt: skip


def counted(*frames: list[Message]) -> tuple[Message, ...]:
    counter = MessageCounter()
    for messages in frames:
        counter.add(messages)
    return counter.messages()


def test_messages_of_frames_are_collapsed_by_code() -> None:
    first, second, other = (
        Message("1 atom.", "atoms"),
        Message("2 atoms.", "atoms"),
        Message("Other.", "other"),
    )
    assert counted([first, other]) == (first, other)
    assert counted([first], [first]) == (first,)
    differ, some = counted([first, other], [second])
    assert differ.code == "atoms" and differ == "1 atom. (with other numbers in other frames)"
    assert some.code == "other" and some == "Other. (1 of 2 frames)"
    (both,) = counted([first], [], [second])
    assert both == "1 atom. (2 of 3 frames, with other numbers in other frames)"


def test_sentences_without_a_code_are_collapsed_only_where_they_are_alike() -> None:
    a, b = Fields({}, ["One."]).messages + Fields({}, ["Two."]).messages
    assert a.code == b.code and counted([a], [b]) == ("One. (1 of 2 frames)", "Two. (1 of 2 frames)")


# ------------------------------------------------------------------------------- what is printed


def fields(n: int = 1000) -> Fields:
    rng = np.random.default_rng(0)
    return Fields(
        {
            "phase": rng.integers(0, 2, n).astype(np.int8),
            "phase_probability": rng.random((n, 2)).astype(np.float32),
            "interface_distance": np.full(n, np.nan, dtype=np.float32),
            "n_phases": 2,
            "interface_area": 136.5,
            "density_grid": Grid(np.zeros((2, 3, 4), np.float32), np.eye(3), np.zeros(3), np.ones(3, bool)),
            "composition": table(),
        },
        ["Less than <1>."],
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (fields(), ["1,000 atoms", "float32 x 2", "Å^2", "136.5", "2 x 3 x 4", "2 rows", "Less than <1>."]),
        (table(), ["Composition", "4.8 to 91.6 (± 0.3)", "rich"]),
        (Bonds(np.zeros((3, 2), int), np.zeros((3, 3), int), {"bb": np.arange(3)}), ["3 bonds", "0 to 2"]),
        (Table("Nothing", {}), ["Nothing, 0 rows"]),
        (Fields({}), ["Fields"]),
    ],
)  # fmt: skip
def test_print_shows_a_summary_and_no_arrays(made: Any, expected: list[str]) -> None:
    for text in (str(made), made._repr_html_()):
        assert "array(" not in text and len(text) < 2500
    assert all(part in str(made) for part in expected)
    assert len(repr(made)) < 100 and "\n" not in repr(made)


def test_notebooks_get_escaped_html() -> None:
    assert "Less than &lt;1&gt;." in fields()._repr_html_()
    assert (
        "poor &lt;b&gt;" in table()._repr_html_() and "91.60 <small>± 0.30</small>" in table()._repr_html_()
    )
    long = Table("Long", {"n": np.arange(1000)})
    assert "… 990 more" in long._repr_html_() and long.html().count("<tr>") == 1001
