"""Fields: what an analysis gives back for one frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.specs import FIELD_SPECS, ClassName, FieldSpec, Kind, Level

__all__ = [
    "FIELD_SPECS",
    "Bonds",
    "ClassName",
    "FieldSpec",
    "Fields",
    "Grid",
    "Kind",
    "Level",
    "Message",
    "Table",
]


@dataclass(frozen=True, eq=False)
class Grid:
    """A field on a regular grid of points.

    Point `(i, j, k)` lies at `origin + i/n_x a + j/n_y b + k/n_z c` with `a, b, c` the rows of
    `cell`: endpoint-exclusive, so that a periodic grid holds no plane twice.

    values : (n_x, n_y, n_z) float32
    cell : (3, 3) float64, Å; the domain that the grid spans (the frame's own cell along periodic
        axes; along open axes the atoms with a margin)
    origin : (3,) float64, Å
    pbc : (3,) bool
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


@dataclass(frozen=True, eq=False)
class Bonds:
    """Pairs of atoms, each pair once, and what is known of each.

    A bond goes from atom i to the image of atom j that is `shifts @ cell` away from j.

    atoms : (n_bonds, 2) int64; i <= j
    shifts : (n_bonds, 3) int32
    columns : arrays of length n_bonds by name
    """

    atoms: NDArray[np.int64]
    shifts: NDArray[np.int32]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.atoms)


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length; units stand in the column names, as `width (Å)`."""

    title: str
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries of plain Python values."""
        columns = {name: np.asarray(values).tolist() for name, values in self.columns.items()}
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))


class Message(str):
    """A sentence that a user should see, with a code that says what kind of sentence it is.

    It is a `str` everywhere; programs and tests compare the `code`, which never holds a number, and leave
    the words free to be improved.

    >>> message = Message("Two phases: contrast 9.3.", "two-phases")
    >>> message.code, message.startswith("Two")
    ('two-phases', True)
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str) -> Message:
        message = super().__new__(cls, text)
        message.code = code
        return message

    def __reduce__(self) -> tuple[type[Message], tuple[str, str]]:
        return Message, (str(self), self.code)


class Fields(Mapping[str, Any]):
    """Result of an analysis of one frame: a mapping from registered names to values.

    Values are arrays of length `n_atoms` (level "atom"), `Bonds` (level "bond"), plain numbers (level
    "frame"), `Grid` (level "grid") or `Table` (level "table"). `messages` holds the sentences that a user
    should see, each a `Message` with its code.
    """

    def __init__(self, values: Mapping[str, Any], messages: Sequence[str] = ()) -> None:
        unknown = [name for name in values if name not in FIELD_SPECS]
        if unknown:
            raise KeyError(f"not in the field registry: {', '.join(unknown)}")
        self._values = dict(values)
        self.messages: tuple[Message, ...] = tuple(
            text if isinstance(text, Message) else Message(text, "note") for text in messages
        )

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Fields({', '.join(self._values)})"

    def level(self, level: Level) -> dict[str, Any]:
        """The entries of one level, in the order in which they were made."""
        return {name: value for name, value in self._values.items() if FIELD_SPECS[name].level == level}
