"""Summaries of many frames: the protocol, and a table with one row per frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Protocol

from phaseseg.fields import Fields, Message, MessageCounter, Table, size_messages
from phaseseg.frame import Frame
from phaseseg.report import TextTable
from phaseseg.specs import FIELD_SPECS


class Summary(Protocol):
    """Collects the results of many frames. Created with the rule and the name of the source."""

    def __init__(self, rule: Any, source: str = "") -> None: ...

    @property
    def messages(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def add(self, frame: Frame, fields: Fields) -> None: ...

    def tables(self) -> Mapping[str, Table]:
        """Return all tables by name, the most important first."""

    def shown(self) -> Iterable[TextTable]:
        """Return the tables to print on a terminal."""

    def write_report(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figures and tables into a folder; return the path of the page. Optional.

        about : `seconds`, the time taken
        """


MOST_ROWS = 40
"""Maximum number of printed rows; longer tables show the first and last frames."""


class FrameSummary:
    """One row per frame with the numbers of the file and of the model; default `Summary` of a family.

    A subclass may add columns in `row`, choose which are printed, and drop messages that repeat the row.

    Parameters
    ----------
    rule : of the prediction
    source : name of the file
    """

    headings: ClassVar[Mapping[str, str]] = {}
    """Columns to print and their headings; all columns if empty."""
    in_row: ClassVar[frozenset[str]] = frozenset()
    """Codes of messages that repeat what the row shows."""
    title: str = "Predictions"

    def __init__(self, rule: Any, source: str = "") -> None:
        self.rule, self.source = rule, source
        self._rows: list[dict[str, Any]] = []
        self._of_file: dict[str, None] = {"frame": None, "atoms": None}
        self._counter = MessageCounter()

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, fields: Fields) -> dict[str, Any]:
        """Return extra columns, placed between those of the file and those of the model."""
        return {}

    def style(self, row: Mapping[str, Any]) -> str | None:
        """Return the rich style of a printed row."""
        return None

    def add(self, frame: Frame, fields: Fields) -> None:
        """Add the result of one frame."""
        known = fields.level("frame")
        of_file = {"frame": len(self), "atoms": len(frame), "timestep": frame.timestep, "time": frame.time}
        of_file |= {name: value for name, value in frame.info.items() if name not in known}
        of_file = {name: value for name, value in of_file.items() if value is not None}
        self._of_file |= dict.fromkeys(of_file)
        self._rows.append({**of_file, **(self.row(fields) if known else {}), **known})
        self._counter.add(message for message in fields.messages if message.code not in self.in_row)

    @property
    def messages(self) -> tuple[Message, ...]:
        """One message of each kind, with the number of frames it applies to."""
        return (*self._counter.messages(), *size_messages([row["atoms"] for row in self._rows]))

    def tables(self) -> dict[str, Table]:
        """Return `frames`: one row per frame, columns of the file first; NaN where a value is missing."""
        columns = dict.fromkeys([*self._of_file, *(name for row in self._rows for name in row)])
        if not size_messages([row["atoms"] for row in self._rows]):
            del columns["atoms"]
        return {"frames": Table.of_rows(self.title, self._rows, columns)}

    def shown(self) -> Iterator[TextTable]:
        """Yield the table with the columns of `headings`, shortened in the middle."""
        rows: list[Any] = list(self.tables()["frames"].rows())
        headings = self.headings or {
            name: FIELD_SPECS[name].title if name in FIELD_SPECS else name for name in rows[0]
        }
        headings = {**headings, "atoms": "atoms"}  # where their number changes
        columns = [name for name in headings if name in rows[0]]
        if len(rows) > MOST_ROWS:
            rows[MOST_ROWS // 2 : -(MOST_ROWS // 2)] = [None]
        yield TextTable(
            f"{self.source}: {self.title}", [headings[name] for name in columns],
            [[_cell(name, row[name]) if row else "…" for name in columns] for row in rows],
            [self.style(row) if row else None for row in rows], n_labels=0,
        )  # fmt: skip


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if not isfinite(value):
        return "–"
    fraction = name in FIELD_SPECS and not FIELD_SPECS[name].unit and 0 <= value <= 1
    return f"{value:.3f}" if fraction else f"{value:g}"
