"""Fields: the result of an analysis of one frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite, nan
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import (
    NOTE,
    Html,
    Message as Message,
    Summarized,
    Summary,
    as_html,
    html_grid,
    html_number,
    listed,
    number,
    plural,
)
from phaseseg.specs import FIELD_SPECS, FieldSpec, Level

# ---------------------------------------------------------------------------- grids and bonds


@dataclass(frozen=True, eq=False, repr=False)
class Grid(Summarized):
    """A field on a regular grid of points.

    Point `(i, j, k)` lies at `origin + i/n_x a + j/n_y b + k/n_z c` with `a, b, c` the rows of
    `cell`. End points are excluded, so a periodic grid contains no plane twice.

    values : (n_x, n_y, n_z) float32
    cell : (3, 3) float64, Å; the domain that the grid spans (the frame's own cell along periodic
        axes; along open axes the atoms with a margin)
    origin : (3,) float64, Å
    pbc : (3,) bool

    >>> axes = np.diag([4.0, 4.0, 9.0])
    >>> print(Grid(np.ones((2, 2, 3), np.float32), axes, np.zeros(3), np.ones(3, bool)))
    Grid of 2 x 2 x 3 points
      voxels  2 x 2 x 3 Å
      values  1
    """

    values: NDArray[np.float32]
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    pbc: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int]:
        n_x, n_y, n_z = self.values.shape
        return n_x, n_y, n_z

    @property
    def steps(self) -> NDArray[np.float64]:
        """(3, 3) float64, Å: vector from a grid point to its next neighbor along each axis (rows)."""
        return np.asarray(self.cell / np.array(self.values.shape, dtype=float)[:, None])

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, Å^3."""
        return float(abs(np.linalg.det(self.steps)))

    def _summary(self) -> Summary:
        edges = " x ".join(map(number, np.linalg.norm(self.steps, axis=1)))
        rows = [("voxels", f"{edges} Å"), ("values", _range(self.values))]
        return f"Grid of {' x '.join(map(str, self.shape))} points", rows, ()


@dataclass(frozen=True, eq=False, repr=False)
class Bonds(Summarized):
    """Pairs of atoms, each pair once, with their properties.

    A bond goes from atom i to the image of atom j that is `shifts @ cell` away from j.

    atoms : (n_bonds, 2) int64; i <= j
    shifts : (n_bonds, 3) int32
    columns : arrays of length n_bonds by name

    >>> print(Bonds(np.array([[0, 1], [0, 2]]), np.zeros((2, 3), int), {"length": np.array([0.9, 1.2])}))
    2 bonds
      length  float64  0.9 to 1.2
    """

    atoms: NDArray[np.int64]
    shifts: NDArray[np.int32]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.atoms)

    def _summary(self) -> Summary:
        rows = [(name, str(values.dtype), _range(values)) for name, values in self.columns.items()]
        return plural(len(self), "bond"), rows, ()


# ------------------------------------------------------------------------------------- tables


class Column(str):
    """Heading of a table column, with its quantity and unit as data.

    It behaves as a `str`. Programs should read `quantity`, `unit`, `part` and `of`, not parse the text.

    Parameters
    ----------
    quantity : what the column holds: "Fe"
    unit : "" for none
    part : the phase or other part that the quantity describes: "rich"
    heading : the text, where it is not `PART QUANTITY (UNIT)`

    Attributes
    ----------
    of : heading of the values whose errors the column holds; None for columns of values

    Examples
    --------
    >>> column = Column("Fe", "wt%", part="rich")
    >>> column, column.quantity, column.unit
    ('rich Fe (wt%)', 'Fe', 'wt%')
    >>> column.error, column.error.of
    ('rich Fe (wt%) ±', 'rich Fe (wt%)')
    """

    __slots__ = ("of", "part", "quantity", "unit")
    quantity: str
    unit: str
    part: str
    of: Column | None

    def __new__(cls, quantity: str, unit: str = "", *, part: str = "", heading: str = "") -> Column:
        unit_text = f" ({unit})" if unit else ""
        column = super().__new__(cls, heading or f"{part} {quantity}".lstrip() + unit_text)
        column.quantity, column.unit, column.part, column.of = quantity, unit, part, None
        return column

    @property
    def error(self) -> Column:
        """Heading of the standard errors of this column."""
        column = Column(self.quantity, self.unit, part=self.part, heading=f"{self} ±")
        column.of = self
        return column


def snake(text: str) -> str:
    """Make a name of a heading: `"Fe (wt%)"` gives `"Fe_wt_percent"`, `"rich bulk"` gives `"rich_bulk"`."""
    text = text.replace("%", "_percent").replace("Å", "A").replace("^", "")
    return "_".join("".join(c if c.isalnum() else " " for c in text).split())


@dataclass(frozen=True, eq=False, repr=False)
class Table(Summarized):
    """Named columns of equal length.

    Parameters
    ----------
    title : a few words
    columns : arrays by their headings; a plain string becomes a `Column` without a unit

    Examples
    --------
    >>> iron = Column("Fe", "wt%")
    >>> rows = [{"phase": "rich", iron: 91.6, iron.error: 0.3}, {"phase": "poor", iron: 4.8}]
    >>> table = Table.of_rows("Composition", rows)
    >>> table.columns["Fe (wt%)"], table.errors(iron), table.units
    (array([91.6,  4.8]), array([0.3, nan]), {'Fe (wt%)': 'wt%'})
    >>> print(table)
    Composition, 2 rows
      phase     rich, poor
      Fe (wt%)  4.8 to 91.6 (± 0.3)
    """

    title: str
    columns: Mapping[str, NDArray[Any]]

    def __init__(self, title: str, columns: Mapping[Any, Any]) -> None:
        headed = {
            name if isinstance(name, Column) else Column(name): np.asarray(values)
            for name, values in columns.items()
        }
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "columns", headed)

    @classmethod
    def of_rows(
        cls, title: str, rows: Sequence[Mapping[Any, Any]], columns: Iterable[str] | None = None
    ) -> Table:
        """Make a table from rows; NaN where a row lacks a column.

        columns : by default all columns, in order of first appearance
        """
        names = list(dict.fromkeys(name for row in rows for name in row) if columns is None else columns)
        return cls(title, {name: np.array([row.get(name, nan) for row in rows]) for name in names})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries of plain Python values."""
        columns = {name: values.tolist() for name, values in self.columns.items()}
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))

    @property
    def headings(self) -> list[Column]:
        """Headings of all columns."""
        return list(cast(Mapping[Column, Any], self.columns))

    @property
    def units(self) -> dict[str, str]:
        """Units of the columns that have one, by heading."""
        return {name: name.unit for name in self.values() if name.unit}

    def values(self, unit: str | None = None, part: str | None = None) -> list[Column]:
        """Headings of the columns other than errors, optionally only those with a unit or of a part."""
        return [
            name
            for name in self.headings
            if name.of is None and unit in (None, name.unit) and part in (None, name.part)
        ]

    def errors(self, name: str) -> NDArray[Any] | None:
        """The standard errors of a column, or None."""
        return next((self.columns[column] for column in self.headings if column.of == name), None)

    def without(self, *names: str) -> Table:
        """Return a table without some columns and their errors."""
        kept = [column for column in self.headings if column not in names and column.of not in names]
        return Table(self.title, {column: self.columns[column] for column in kept})

    def _summary(self) -> Summary:
        lines = []
        for name in self.values():
            errors = self.errors(name)
            known = errors is not None and np.isfinite(errors).any()
            lines.append((name, _range(self.columns[name]) + (f" (± {_range(errors)})" if known else "")))
        return f"{self.title}, {plural(len(self), 'row')}", lines, ()

    def html(self, most: int | None = None) -> Html:
        """Return the first `most` rows as an HTML table, with errors next to their values."""
        names = self.values()
        cells = [
            [_cell(row[name], row.get(name.error, nan)) for name in names]
            for row in islice(self.rows(), most)
        ]
        if len(cells) < len(self):
            cells.append([f"… {len(self) - len(cells):,} more", *[""] * (len(names) - 1)])
        return html_grid(names, cells)

    def _repr_html_(self) -> str:
        return f"<b>{as_html(self.title)}</b>{self.html(most=10)}"


def _cell(value: Any, error: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else html_number(float(value), float(error))


def _range(values: Any) -> str:
    """Summarize an array: a single number, its range, or its first strings."""
    values = np.asarray(values)
    if values.dtype.kind in "USO":
        return listed([str(text) for text in dict.fromkeys(values.ravel()[:100].tolist())])
    if values.dtype.kind == "b":
        return f"{np.count_nonzero(values):,} of {values.size:,}"
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "–"
    low, high = float(finite.min()), float(finite.max())
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def plain(value: Any) -> Any:
    """Convert a value for JSON: plain numbers, null if not finite, a table as a list of dictionaries.

    >>> plain({"a": np.array([1.5, np.nan]), "t": Table("t", {"n": [1, 2]})})
    {'a': [1.5, None], 't': [{'n': 1}, {'n': 2}]}
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, Table):
        value = value.rows()
    if isinstance(value, (list, tuple, Iterator)):
        return [plain(one) for one in value]
    return value


# ----------------------------------------------------------------------------------- messages


class MessageCounter:
    """Collect the messages of many frames: one for each code, with the number of frames that have it.

    >>> counter = MessageCounter()
    >>> for number in (3, 5):
    ...     counter.add([Message(f"{number} domains were dropped.", "dropped")])
    >>> counter.add([])
    >>> counter.messages()
    ('3 domains were dropped. (2 of 3 frames, with other numbers in other frames)',)
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[Message, int, bool]] = {}
        self._frames = 0

    def add(self, messages: Iterable[Message]) -> None:
        """Add the messages of one frame."""
        self._frames += 1
        here: dict[str, Message] = {}
        for message in messages:
            # Messages without a code are grouped by their text.
            here.setdefault(message if message.code == NOTE else message.code, message)
        for code, message in here.items():
            first, n, alike = self._found.get(code, (message, 0, True))
            self._found[code] = first, n + 1, alike and message == first

    def messages(self) -> tuple[Message, ...]:
        """First message of each code; notes how many frames have it, if not all, and if numbers differ."""
        shown = []
        for message, n, alike in self._found.values():
            notes = [] if n == self._frames else [f"{n:,} of {self._frames:,} frames"]
            notes += [] if alike else ["with other numbers in other frames"]
            shown.append(Message(f"{message} ({', '.join(notes)})", message.code) if notes else message)
        return tuple(shown)


def size_messages(counts: Sequence[int]) -> tuple[Message, ...]:
    """A message if the number of atoms differs between frames, which have these."""
    if len(set(counts)) < 2:
        return ()
    text = f"The number of atoms changes from frame to frame, between {min(counts):,} and {max(counts):,}."
    return (Message(text, "atoms-change"),)


def fields_or_none(function: Callable[[Any], Fields], frame: Any) -> Fields:
    """What the function gives for a frame; for a frame without atoms no fields, and a message."""
    if len(frame):
        return function(frame)
    return Fields({}, (*frame.messages, Message("The frame has no atoms.", "no-atoms")))


# ------------------------------------------------------------------------------------- fields


class Fields(Summarized, Mapping[str, Any]):
    """Result of an analysis of one frame: a mapping from registered names to values.

    Values are arrays of length `n_atoms` (level "atom"), `Bonds` (level "bond"), plain numbers (level
    "frame"), `Grid` (level "grid") or `Table` (level "table"). `messages` holds the sentences that a user
    should see, each a `Message` with its code.

    >>> from phaseseg import Fields
    >>> phase = np.array([0, 1, 1, 2], dtype=np.int8)
    >>> print(Fields({"phase": phase, "interface_area": 136.5}, ["A note."]))
    Fields of 4 atoms
      phase           int8       1 poor, 2 rich, 1 boundary
      interface_area        Å^2  136.5
      A note.
    """

    def __init__(self, values: Mapping[str, Any], messages: Sequence[str] = ()) -> None:
        if unknown := [name for name in values if name not in FIELD_SPECS]:
            raise KeyError(f"not in the field registry: {', '.join(unknown)}")
        self._values = dict(values)
        self.messages: tuple[Message, ...] = tuple(
            text if isinstance(text, Message) else Message(text) for text in messages
        )

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _summary(self) -> Summary:
        n_atoms = next((len(values) for values in self.level("atom").values()), None)
        title = "Fields" if n_atoms is None else f"Fields of {plural(n_atoms, 'atom')}"
        rows = []
        for name, value in self.items():
            spec = FIELD_SPECS[name]
            kind, text = _shown(spec, value)
            rows.append((name, kind, "" if isinstance(value, Table) else spec.unit, text))
        return title, rows, self.messages

    def level(self, level: Level) -> dict[str, Any]:
        """Return the entries of one level, in order of insertion."""
        return {name: value for name, value in self._values.items() if FIELD_SPECS[name].level == level}

    def of_levels(self, levels: Sequence[Level]) -> Fields:
        """Return the fields of some levels, with all messages."""
        return Fields(
            {name: value for name, value in self.items() if FIELD_SPECS[name].level in levels}, self.messages
        )


def _shown(spec: FieldSpec, value: Any) -> tuple[str, str]:
    """Type and content of a field."""
    if isinstance(value, Grid):
        return str(value.values.dtype), f"{' x '.join(map(str, value.shape))} points, {_range(value.values)}"
    if isinstance(value, Bonds):
        return "", f"{plural(len(value), 'bond')} with {listed(list(value.columns))}"
    if isinstance(value, Table):
        return "", f"{plural(len(value), 'row')} of {listed(value.values(), 4)}"
    if not isinstance(value, np.ndarray):
        return "", str(value) if isinstance(value, str | None) else number(value)
    if spec.kind == "class":
        counts = [(entry.name, int(np.count_nonzero(value == entry.id))) for entry in spec.classes]
        text = ", ".join(f"{n:,} {name}" for name, n in counts if n)
    else:
        text = _range(value)
    shape = "".join(f" x {n}" for n in value.shape[1:])
    return f"{value.dtype}{shape}", text
