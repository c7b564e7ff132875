"""What all readers share: the options of the caller, and species codes that stay the same through a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.display import Message, option
from phaseseg.frame import Category, Names, Types, Units
from phaseseg.io.elements import species_of
from phaseseg.io.source import ByteSource, InputError, remedy_of_cut

Block = Callable[[], dict[str, Any]]
"""A frame that has been found in the file but not parsed: calling it gives arguments of `Frame`."""


class TimedBlock(partial[dict[str, Any]]):
    """A frame that has not been parsed, but whose time step is known."""

    timestep: int | None = None


@dataclass(frozen=True)
class Carried:
    """What a pass over a file keeps from one frame for the next ones, besides what is in the file.

    names : of the species codes so far
    type_names : names of types, which may have moved down to a type 0
    """

    names: tuple[str, ...]
    type_names: tuple[tuple[int, str], ...]


MOST_TYPES = 1_000_000
OPEN_MARGIN = 5.0
"""Distance of an open box from its atoms, Å. No result depends on it."""


@dataclass
class Reading:
    """One pass over one file.

    `names` grows as species are met, so that a code means the same species in every frame. `label` is the
    file and number of the frame that is parsed, `index` the number, `messages` what is to be said about it.
    `style` is the atom style of a LAMMPS data file, if the caller names it.
    """

    units: Units
    dt: float | None
    fields: bool
    type_names: dict[int, str]
    renames: dict[str, str]
    names: list[str] = field(default_factory=list)
    label: str = ""
    index: int = 0
    style: str = ""
    messages: list[Message] = field(default_factory=list)
    cell: NDArray[np.float64] | None = None  # of the caller, for files without one
    open_box: bool = False  # whether atoms without a cell get an open box
    said_units: str | None = None  # units of a LAMMPS dump, which only its first frame says
    counted: bool = False  # whether the type names were given in order, without numbers
    above: dict[str, Any] | None = None  # of a frame in pieces: its last residue so far, as in `topology`

    @property
    def carried(self) -> Carried:
        """What the frames so far have determined for those to come."""
        return Carried(tuple(self.names), tuple(self.type_names.items()))

    def resume(self, carried: Carried) -> None:
        """Go on behind frames that have determined this."""
        self.names, self.type_names = list(carried.names), dict(carried.type_names)

    def note(self, text: str, code: str) -> None:
        """Add a message to the frame that is parsed."""
        self.messages.append(Message(text, code))

    def error(self, text: str, line: int | None = None) -> InputError:
        return InputError(f"{self.label}{'' if line is None else f', line {line}'}: {text}")

    def cut(self, text: str) -> InputError:
        """An error about a frame whose end is missing."""
        return self.error(f"{text}. {remedy_of_cut(self.index)}")

    def with_cell(self, parts: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a frame with the caller's cell, where the file has none."""
        if not np.any(parts["cell"]):  # zeros, or None
            if self.open_box:
                return parts | open_box(parts["positions"])
            if self.cell is None:
                raise self.error(
                    "the file has no cell, and an analysis needs one. Give its edges in Å, as in "
                    f"{option('cell', '30,30,30')}, or open; in OVITO, Affine Transformation sets the cell."
                )
            return parts | {"cell": self.cell, "pbc": True}
        if self.cell is not None:
            self.note("The file has its own cell, so the given one was not used.", "cell-not-used")
        return parts

    def code(self, name: str) -> int:
        """Code of a species; a new name gets a new code."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def codes_of_names(
        self, codes: NDArray[np.int32], names: Sequence[str], order: NDArray[np.int64] | None = None
    ) -> NDArray[np.int32]:
        """Codes of this trajectory from codes into `names`, renamed as requested.

        New species are numbered by their lowest `order` (the type ids), else as they come in `names`.
        """
        present = list(range(len(names)))
        if order is not None:
            lowest = np.full(len(names), np.iinfo(np.int64).max)
            np.minimum.at(lowest, codes, order)
            present = np.argsort(lowest, kind="stable").tolist()
        lookup = np.zeros(len(names), dtype=np.int32)
        for place in present:
            lookup[place] = self.code(self.renames.get(names[place], names[place]))
        if np.array_equal(lookup, np.arange(len(names))):
            return codes
        return lookup[codes]

    def codes_of_atom_names(
        self, name: Category, residue: Category, element: Category | None = None
    ) -> NDArray[np.int32]:
        """Codes of this trajectory from names of atoms and residues, and the elements that the file has."""
        try:
            species, messages = species_of(name, residue, stated=element, names=self.renames)
        except ValueError as error:
            raise self.error(str(error)) from None
        self.messages += messages
        return np.array([self.code(one) for one in species.names], dtype=np.int32)[species.codes]

    def without_types(self, columns: str) -> InputError:
        return self.error(
            f"type names were given, but the file has no type column of numbers ({columns}). "
            f"Leave the types out, or name what the file has, as in {option('names', {'OW': 'O'})}."
        )

    def unnamed(self, types: NDArray[np.integer[Any]], where: str) -> InputError:
        """An error about types whose species are not known."""
        ids = np.unique(types).tolist()
        some = ", ".join(map(str, ids[:9])) + (", ..." if len(ids) > 9 else "")
        if ids == [*range(1, len(ids) + 1)]:
            how = f"Give their species in order: {option('types', some_species(len(ids)))}"
        else:
            first, *others = ids or [1]
            how = f"Name each: {option('types', {first: 'A', others[0] if others else first + 1: 'B'})}"
        return self.error(f"{where} has no element names, only the types {some}. {how}.")

    def codes_of_types(
        self, types: NDArray[np.integer[Any]], first_line: int | None = None
    ) -> NDArray[np.int32]:
        """Codes from LAMMPS types and the caller's `types`."""
        if self.counted and (shifted := from_zero(self.type_names, types)):
            self.type_names = shifted
        if self.counted and 0 in self.type_names:
            self.messages.append(types_from_zero(self.type_names))
        lookup = np.full(max(self.type_names) + 1, -1, dtype=np.int32)
        for type_id, name in self.type_names.items():
            lookup[type_id] = self.code(self.renames.get(name, name))
        outside = (types < 0) | (types >= len(lookup))
        codes = np.where(outside, np.int32(-1), lookup[np.where(outside, 0, types)])
        if (codes < 0).any():
            row = int(np.argmin(codes))
            given = ", ".join(f"{type_id} = {name}" for type_id, name in self.type_names.items())
            raise self.error(
                f"atom {row + 1} has type {types[row]}, which has no name among the given types ({given}). "
                "Name every type that the file uses.",
                None if first_line is None else first_line + row,
            )
        return codes


def new_reading(
    types: Types, names: Names, units: Units, dt: float | None, fields: bool, cell: ArrayLike | str | None
) -> Reading:
    """A `Reading` from the arguments of `read_frames`, checked."""
    if units not in ("metal", "lj"):
        raise ValueError(f"units must be 'metal' or 'lj', found {units!r}.")
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be a positive number of ps per MD step, found {dt!r}.")
    by_id, renames, counted = type_table(types)
    opened = isinstance(cell, str) and cell == "open"
    given = None if cell is None or opened else cell_of(cell)
    return Reading(
        units, dt, fields, by_id, renames | name_table(names), cell=given, open_box=opened, counted=counted
    )


def open_box(positions: ArrayLike) -> dict[str, Any]:
    """Cell, origin and `pbc` of a box around the atoms that is open along all its axes."""
    places = np.nan_to_num(np.reshape(np.asarray(positions, dtype=float), (-1, 3)), posinf=0.0, neginf=0.0)
    low, high = (places.min(axis=0), places.max(axis=0)) if len(places) else (np.zeros(3), np.zeros(3))
    return {"cell": np.diag(high - low + 2 * OPEN_MARGIN), "origin": low - OPEN_MARGIN, "pbc": False}


def cell_of(given: ArrayLike | str) -> NDArray[np.float64]:
    """The argument `cell`, checked, as rows: from 3 edges, 3 edges and 3 angles, or 9 numbers.

    >>> cell_of("10,10,20").diagonal().tolist(), cell_of((4, 4, 4, 90, 90, 60))[1].round(3).tolist()
    ([10.0, 10.0, 20.0], [2.0, 3.464, 0.0])
    """
    try:
        numbers = np.array(given.replace(",", " ").split() if isinstance(given, str) else given, dtype=float)
        lengths, angles = numbers.ravel()[:3], numbers.ravel()[3:]
        if not np.isfinite(numbers).all() or (
            numbers.size < 9 and not ((lengths > 0).all() and (angles < 180).all())
        ):
            raise ValueError
        if numbers.size == 6:
            from ase.cell import Cell

            cell = np.asarray(Cell.new(numbers.ravel()))
        else:
            cell = np.diag(numbers.ravel()) if numbers.size == 3 else numbers.reshape(3, 3)
        if not np.linalg.det(cell):
            raise ValueError
    except (ValueError, TypeError, AssertionError):
        raise ValueError(
            "cell must be 3 edges in Å, 3 edges and 3 angles in degrees, or the 9 numbers of vectors that "
            f"span a volume, found {given!r}."
        ) from None
    return cell


def name_table(names: Names) -> dict[str, str]:
    """The argument `names`, checked, as a mapping: `"MW=X, Me1=C"` gives `{"MW": "X", "Me1": "C"}`."""
    if names is None or isinstance(names, Mapping):
        pairs = [(str(key).strip(), str(name).strip()) for key, name in (names or {}).items()]
    else:
        parts = [part for part in (names.split(",") if isinstance(names, str) else names) if part.strip()]
        pairs = [(key.strip(), name.strip()) for key, _, name in (part.rpartition("=") for part in parts)]
    if not all(key and name for key, name in pairs):
        raise ValueError(f"names must be pairs like MW=X,Me1=C, found {names!r}.")
    return dict(pairs)


def type_table(types: Types) -> tuple[dict[int, str], dict[str, str], bool]:
    """The argument `types`, checked: names by number, names by name, whether numbers were left out."""
    if types is None:
        return {}, {}, False
    if isinstance(types, str):  # a sequence of letters otherwise
        types = types.split(",")
    if not isinstance(types, Mapping) and any("=" in name for name in types):
        types = {key.strip(): name for key, _, name in (str(one).partition("=") for one in types)}
    counted = not isinstance(types, Mapping)
    entries: dict[Any, Any] = dict(types) if isinstance(types, Mapping) else dict(enumerate(types, start=1))
    entries = {key: str(name).strip() for key, name in entries.items()}
    if not entries or not all(entries.values()):
        raise ValueError(f"types must give a name to every type, for example Fe,Mg,Si,O; found {types!r}.")
    entries = {int(key) if str(key).isdecimal() else key: name for key, name in entries.items()}
    named = [isinstance(key, str) for key in entries]
    if all(named):
        return {}, entries, False
    if any(named):
        raise ValueError(f"types must map either numbers or names to names, not both: {types!r}.")
    by_id = {int(key): name for key, name in sorted(entries.items())}
    if min(by_id) < 0 or max(by_id) > MOST_TYPES:
        raise ValueError(f"types must be numbers from 0 to {MOST_TYPES}, found {min(by_id)} to {max(by_id)}.")
    return by_id, {}, counted


def from_zero(counted: Mapping[int, str], types: NDArray[np.integer[Any]]) -> dict[int, str]:
    """Names given in order, for types that begin at 0 instead of 1; empty if these do not."""
    if 0 in counted or not types.size or types.min() != 0 or types.max() >= len(counted):
        return {}
    return {type_id - 1: name for type_id, name in counted.items()}


def types_from_zero(names: Mapping[int, str]) -> Message:
    """The sentence on names that were counted from 0."""
    listed = ", ".join(f"type {type_id} is {name}" for type_id, name in names.items())
    return Message(f"The types in the file begin at 0: {listed}.", "types-from-zero")


def time_parts(time: Any, timestep: Any) -> dict[str, Any]:
    """`time`, `timestep` and `messages` of a frame; what is no finite number is left out with a message."""
    messages, found = [], {"time": time, "timestep": timestep}
    for name, value in found.items():
        number = float(value) if value is not None and np.ndim(value) == 0 and is_number(value) else None
        if number is not None and np.isfinite(number) and (name == "time" or abs(number) < 2**63):
            whole = whole_number(str(value))
            found[name] = number if name == "time" else round(number) if whole is None else whole
        elif value is not None:
            found[name] = None
            text = f"The {name} in the file, {str(value)[:40]!r}, is not a number and was left out."
            messages.append(Message(text, f"{name}-left-out"))
    return found | {"messages": tuple(messages)}


def some_species(n: int) -> tuple[str, ...]:
    """Names for an example of `n` species."""
    names = ("Fe", "O", "Mg", "Si", "N", "C", "Al", "Ca", "Na")
    return names[:n] if n <= len(names) else (*names, "...")


def whole_number(text: str) -> int | None:
    """The integer of up to 18 digits that a text is, else None.

    >>> whole_number(" -12 "), whole_number("1.0"), whole_number("9" * 19)
    (-12, None, None)
    """
    return int(text) if re.fullmatch(r"[ \t]*[-+]?[0-9]{1,18}[ \t\r]*", text) else None


def count_of(source: ByteSource, line: str) -> int:
    """The number of atoms that a line announces."""
    number = whole_number(line)
    if number is None or number < 0:
        check = "Check that the previous frame has as many lines as its header says."
        if source.frame == 0:
            check = "Check the file, or name its format."
        raise source.error(f"expected the number of atoms, found {line[:40]!r}. {check}")
    return number


def next_text(source: ByteSource) -> str | None:
    """The next line that is not blank."""
    while (line := source.line()) is not None and not line.strip():
        pass
    return line


def plain_numbers(text: str) -> str:
    """The numbers of an array without brackets and commas, with the exponents that Python reads.

    >>> plain_numbers("[[1, 2.5D+00], [3, 4]]").split()
    ['1', '2.5e+00', '3', '4']
    """
    return re.sub(r"[\[\]{},]", " ", re.sub(r"(?<=[\d.])[dD](?=[-+\d])", "e", text))


def floats(text: str, shape: tuple[int, ...], what: str, error: Callable[[str], InputError]) -> Any:
    """The numbers in a text as an array; `error` makes the exception for other text."""
    try:
        return np.array(plain_numbers(text).split(), dtype=float).reshape(shape)
    except ValueError:
        size = int(np.prod(shape))
        raise error(f"{what} must be {size} numbers, found {text.strip()[:80]!r}. Repair it.") from None


def is_number(text: Any) -> bool:
    """Whether the text is a floating-point number."""
    try:
        float(text)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
