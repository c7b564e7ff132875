"""What every reader shares: the caller's wishes, and species codes that stay the same through a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.frame import Frame, Units
from phaseseg.io.source import InputError

Block = Callable[[], Frame]
"""A frame that has been found in the file but not parsed: calling it parses."""


@dataclass
class Reading:
    """One pass over one file.

    `names` grows as species are met, so that a code means the same species in every frame. `index` is the
    number in the file of the frame that is parsed.
    """

    units: Units
    dt: float | None
    fields: bool
    type_names: dict[int, str] | None
    renames: dict[str, str]
    names: list[str] = field(default_factory=list)
    index: int = 0

    def code(self, name: str) -> int:
        """Code of a species, a new one where the name is new."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def codes_of_names(
        self, codes: NDArray[np.int32], names: Sequence[str], order: NDArray[np.int64] | None = None
    ) -> NDArray[np.int32]:
        """Codes of this trajectory from codes into `names`, renamed as the caller wished.

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

    def codes_of_types(
        self, types: NDArray[np.integer[Any]], label: str, first_line: int | None = None
    ) -> NDArray[np.int32]:
        """Codes from LAMMPS types and the caller's `types`."""
        assert self.type_names is not None
        lookup = np.full(max(self.type_names) + 1, -1, dtype=np.int32)
        for type_id, name in self.type_names.items():
            lookup[type_id] = self.code(name)
        outside = (types < 0) | (types >= len(lookup))
        codes = lookup[np.where(outside, 0, types)]
        codes[outside] = -1
        if len(codes) and codes.min() < 0:
            row = int(np.argmin(codes))
            line = "" if first_line is None else f", line {first_line + row}"
            given = ", ".join(f"{type_id} = {name}" for type_id, name in self.type_names.items())
            raise InputError(
                f"{label}{line}: atom {row + 1} has type {types[row]}, which has no name among the given "
                f"types ({given}). Name every type that the file uses."
            )
        return codes

    def without_type_column(self, label: str, columns: str) -> InputError:
        return InputError(
            f"{label}: names of types were given, but there is no column of types ({columns}). "
            "Leave the types out, or map names to names: types={'OW': 'O'}."
        )

    def frame(
        self, label: str, *, cell: ArrayLike, timestep: int | None, time: float | None, **parts: Any
    ) -> Frame:
        """The Frame, with its errors turned into input errors."""
        if time is None and timestep is not None and self.dt is not None:
            time = timestep * self.dt
        parts.setdefault("units", self.units)
        try:
            return Frame(
                cell=np.asarray(cell),
                timestep=timestep,
                time=time,
                species_names=tuple(self.names),
                source=label,
                index=self.index,
                **parts,
            )
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from error


def new_reading(
    types: Sequence[str] | Mapping[int, str] | Mapping[str, str] | None,
    units: Units,
    dt: float | None,
    fields: bool,
) -> Reading:
    """A `Reading` from the arguments of `read_frames`, checked."""
    if units not in ("metal", "lj"):
        raise ValueError(f"units must be 'metal' or 'lj', found {units!r}.")
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be a positive number of ps per MD step, found {dt!r}.")
    if types is None:
        return Reading(units, dt, fields, None, {})
    if isinstance(types, str):  # a sequence of letters otherwise
        types = types.split(",")
    entries: dict[Any, Any] = dict(types) if isinstance(types, Mapping) else dict(enumerate(types, start=1))
    entries = {key: str(name).strip() for key, name in entries.items()}
    if not entries or not all(entries.values()):
        raise ValueError(f"types must give a name to every type, for example Fe,Mg,Si,O; found {types!r}.")
    by_name = {key: name for key, name in entries.items() if isinstance(key, str)}
    by_id = (
        {int(key): name for key, name in sorted(entries.items()) if key not in by_name} if not by_name else {}
    )
    if by_name and len(by_name) < len(entries):
        raise ValueError(f"types must map either numbers or names to names, not both: {types!r}.")
    if by_id and min(by_id) < 0:
        raise ValueError(f"types must have numbers from 1 on, found {min(by_id)}.")
    return Reading(units, dt, fields, by_id or None, by_name)


def no_atoms(label: str) -> InputError:
    return InputError(f"{label}: the frame has no atoms. Leave it out or write the file again.")


def is_number(text: str | bytes) -> bool:
    """Whether it can be read as a floating-point number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
