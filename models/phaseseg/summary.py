"""Summaries of many frames: the protocol, and a table with one row per frame."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from math import isfinite, nan
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import html_grid, plural
from phaseseg.fields import Fields, Message, MessageCounter, Table, size_messages
from phaseseg.frame import Frame
from phaseseg.report import TextTable, duration, write_report
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


# ------------------------------------------------------------------------------------- columns


BLOCK = 8192
"""Values of a column in memory; older blocks are in a temporary file."""
_STORED: Mapping[str, Any] = {"b": np.int8, "i": np.int32, "q": np.int64, "d": np.float64}


class _BlockFile:
    """Blocks of values in a temporary file without a name; in memory where none can be written."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def put(self, block: array[Any]) -> int | array[Any]:
        """Store a block; the result is what `get` needs to find it."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="phaseseg-")  # noqa: SIM115, as long as the table
                weakref.finalize(self, self._file.close)
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(block.tobytes())
            self._file.flush()
        except OSError:
            return block
        return place

    def get(self, place: int | array[Any], kind: str) -> NDArray[Any]:
        """The values of a block."""
        if not isinstance(place, int):
            return np.array(place, dtype=_STORED[kind])
        assert self._file is not None
        self._file.seek(place)
        size = BLOCK * array(kind).itemsize
        found = self._file.read(size)
        if len(found) < size:
            raise OSError("the temporary file with the rows of the frames was cut off by another program.")
        return np.frombuffer(found, dtype=_STORED[kind])


class _Stored:
    """A growing array of one type. All but its end are in the file of the columns."""

    def __init__(self, kind: str, file: _BlockFile, values: Iterable[Any] = ()) -> None:
        self.kind, self._file = kind, file
        self._blocks: list[int | array[Any]] = []
        self._end = array(kind)
        for value in values:
            self.append(value)

    def append(self, value: Any) -> None:
        self._end.append(value)
        if len(self._end) == BLOCK:
            self._blocks.append(self._file.put(self._end))
            self._end = array(self.kind)

    def array(self) -> NDArray[Any]:
        blocks = [self._file.get(place, self.kind) for place in self._blocks]
        return np.concatenate([*blocks, np.array(self._end, dtype=_STORED[self.kind])])


class _Values:
    """The values of one column: an array of whole numbers, numbers or booleans, or codes of other values."""

    _TYPES: ClassVar[Mapping[str, Any]] = {"b": np.bool_, "q": np.int64, "d": np.float64}

    def __init__(self, n_missing: int, file: _BlockFile) -> None:
        self._file = file
        self._stored = _Stored("d", file, repeat(nan, n_missing))
        self._kind = "d" if n_missing else ""
        self._others: list[Any] = []
        self._codes: dict[Any, int] = {}

    def append(self, value: Any) -> None:
        kind = _kind(value)
        if kind != self._kind:
            self._widen(kind)
        if self._kind == "code":
            value = self._code(value)
        elif kind == "b":
            value = bool(value)  # of NumPy
        self._stored.append(value)

    def _widen(self, kind: str) -> None:
        """Change the type of what is stored to one that also holds values of this kind."""
        if not self._kind:
            self._kind, self._stored = kind, _Stored("i" if kind == "code" else kind, self._file)
        elif "code" in (kind, self._kind):
            if self._kind != "code":
                known, self._kind = self.array().tolist(), "code"
                self._stored = _Stored("i", self._file, (self._code(value) for value in known))
        elif "bqd".index(kind) > "bqd".index(self._kind):
            known, self._kind = self.array().tolist(), kind
            self._stored = _Stored(kind, self._file, known)

    def _code(self, value: Any) -> int:
        key = (type(value), value) if isinstance(value, str) else id(value)
        if key not in self._codes:
            self._codes[key] = len(self._others)
            self._others.append(value)
        return self._codes[key]

    def array(self) -> NDArray[Any]:
        found = self._stored.array()
        if self._kind == "code":
            return np.array([self._others[code] for code in found.tolist()])
        return found.astype(self._TYPES.get(self._kind, np.float64), copy=False)


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "b"
    if isinstance(value, (int, np.integer)):
        return "q" if -(2**63) <= value < 2**63 else "code"
    return "d" if isinstance(value, (float, np.floating)) else "code"


class FrameColumns:
    """Values of many frames in typed columns, in constant memory.

    The last `BLOCK` values of a column are in memory, the others in a temporary file, which the operating
    system removes with the process. A value takes 8 bytes, a text that was met before 4.

    >>> columns = FrameColumns()
    >>> columns.add({"atoms": 520, "state": "glass"})
    >>> columns.add({"atoms": 520, "temperature": 0.4})
    >>> columns["atoms"], columns["temperature"]
    (array([520, 520]), array([nan, 0.4]))
    """

    def __init__(self) -> None:
        self._file = _BlockFile()
        self._columns: dict[str, _Values] = {}
        self._first: dict[str, int] = {}
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the values of one frame; what is missing is NaN."""
        for name in row:
            if name not in self._columns:
                self._columns[name] = _Values(self._n_rows, self._file)
                self._first[name] = self._n_rows
        for name, values in self._columns.items():
            values.append(row.get(name, nan))
        self._n_rows += 1

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The values of a column, (n_frames,), of the type that `numpy.array` gives a list of them."""
        return self._columns[name].array()

    def floats(self, name: str) -> NDArray[np.float64]:
        """The values of a column of numbers; NaN for a column that does not exist."""
        if name not in self._columns:
            return np.full(self._n_rows, nan)
        return self[name].astype(np.float64)

    def first(self, name: str) -> int:
        """The first frame that has a column."""
        return self._first[name]


# ------------------------------------------------------------------------------ one row per frame

MOST_ROWS = 40
MOST_ROWS_OF_PAGE = 1000
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
        self._rows = FrameColumns()
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
        self._rows.add({**of_file, **(self.row(fields) if known else {}), **known})
        self._counter.add(message for message in fields.messages if message.code not in self.in_row)

    @property
    def messages(self) -> tuple[Message, ...]:
        """One message of each kind, with the number of frames it applies to."""
        return (*self._counter.messages(), *self._sizes())

    def _sizes(self) -> tuple[Message, ...]:
        return size_messages(self._rows["atoms"].tolist() if len(self) else [])

    def tables(self) -> dict[str, Table]:
        """Return `frames`: one row per frame, columns of the file first; NaN where a value is missing."""
        names = dict.fromkeys([*self._of_file, *self._rows])
        if not self._sizes():
            del names["atoms"]  # the same in all frames
        return {"frames": Table(self.title, {name: self._rows[name] for name in names if len(self)})}

    def write_report(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write a page with the table of the frames and the meaning of its columns.

        A family with more to show has a summary of its own.
        """
        tables = self.tables()
        rows = tables["frames"]
        known = [FIELD_SPECS[name] for name in rows.columns if name in FIELD_SPECS]
        cells = [[spec.title, spec.description, spec.unit] for spec in known]
        sections = [("Frames", rows.html(MOST_ROWS_OF_PAGE))]
        if cells:
            sections.append(("Columns", html_grid(["name", "meaning", "unit"], cells)))
        seconds = about.get("seconds")
        return write_report(
            folder, title=f"{self.title} of {self.source}",
            lead=plural(len(self), "frame") + (f", {duration(seconds)}" if seconds else "") + ".",
            figures=(), tables=tables, sections=lambda _: sections, messages=self.messages,
        )  # fmt: skip

    def shown(self) -> Iterator[TextTable]:
        """Yield the table with the columns of `headings`, shortened in the middle."""
        table = self.tables()["frames"]
        if shortened := len(table) > MOST_ROWS:
            ends = np.r_[: MOST_ROWS // 2, len(table) - MOST_ROWS // 2 : len(table)]
            table = Table(table.title, {name: values[ends] for name, values in table.columns.items()})
        rows: list[Any] = list(table.rows())
        headings = self.headings or {
            name: FIELD_SPECS[name].title if name in FIELD_SPECS else name for name in rows[0]
        }
        headings = {**headings, "atoms": "atoms"}  # where their number changes
        columns = [name for name in headings if name in rows[0]]
        if shortened:
            rows.insert(MOST_ROWS // 2, None)
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
