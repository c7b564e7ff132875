"""Descriptors that come with the data: arrays of the frames, files with one row per atom, other packages.

An array has one row per atom in the order of the frames. Rows are checked: how many there are, whether they
are finite, and which atoms they are for.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.display import plural
from phaseseg.families.environments.parts import parts_of_rows
from phaseseg.frame import Frame
from phaseseg.io.packing import WRITTEN, Damaged, bare_name, unpacked

Doubles = NDArray[np.float64]

ADDRESSES = (
    "atom", "atoms", "center", "config", "configuration", "configurations", "element", "frame", "group",
    "groups", "id", "index", "species", "structure", "type",
)  # fmt: skip
"""Columns of a table that say which atom a row is for and are no features, in any case of letters."""
ROW_TYPE = "Row_Type"
"""Column of FitSNAP with Energy, Force or Stress."""
_NUMBERED = re.compile(r"(.+)\[(\d+)\]")


# ------------------------------------------------------------------------------- arrays of the frames


@dataclass(frozen=True)
class ArrayRows:
    """Descriptors in an array of the frames, or in columns `NAME[1]`, `NAME[2]`, ... such as LAMMPS writes.

    name : of the array in `Frame.fields`; `c_sna` for the columns of a compute `sna/atom` named `sna`

    Raises
    ------
    ValueError
        When called, for a frame without the array, without one of its columns, or with a number that is not
        finite.

    >>> frame = Frame(np.zeros((1, 3)), [9.0] * 3, True, ["W"], fields={"c_sna[1]": [4.0], "c_sna[2]": [5.0]})
    >>> ArrayRows("c_sna")(frame)
    array([[4., 5.]])
    """

    name: str

    def __call__(self, frame: Frame) -> Doubles:
        """Return (n_atoms, n_features) float64."""
        where = frame.error_prefix
        rows = columns_named(frame.fields, self.name, f"{where}the frame has")
        if len(rows) != frame.n_atoms:
            raise ValueError(
                f"{where}the array {self.name} has {len(rows):,} rows for {frame.n_atoms:,} atoms."
            )
        return _finite(rows, where, f"the descriptor {self.name}")


def columns_named(columns: Mapping[str, Any], name: str, there: str) -> Doubles:
    """Return (n, n_features) of an array, or of the columns `name[1]`, `name[2]`, ... by number.

    there : begins the sentence that says which columns exist

    Raises
    ------
    ValueError
        If there is neither, or if a number is missing.
    """
    if name in columns:
        values = np.asarray(columns[name], dtype=np.float64)
        if values.ndim not in (1, 2):
            raise ValueError(f"{there} an array {name} of shape {values.shape}; one row per atom is needed.")
        return values.reshape(len(values), -1)
    found = {int(m[2]): key for key in columns if (m := _NUMBERED.fullmatch(key)) and m[1] == name}
    if not found:
        known = ", ".join(families_of(columns))
        choice = (
            f"the numeric arrays are {known}. Choose one as array:NAME, or use"
            if known
            else "there are none. Use"
        )
        raise ValueError(f"{there} no array {name!r}; {choice} the descriptor power-spectrum.")
    numbers = sorted(found)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] not in (0, 1):
        missing = next(n for n in range(1, numbers[-1]) if n not in found) if numbers[0] in (0, 1) else 1
        raise ValueError(f"{there} {len(numbers)} columns {name}[...], but {name}[{missing}] is missing.")
    return np.stack([np.asarray(columns[found[n]], dtype=np.float64) for n in numbers], axis=1)


def families_of(columns: Iterable[str]) -> list[str]:
    """Names of arrays, with `NAME[1]`, `NAME[2]`, ... as one."""
    return list(dict.fromkeys(m[1] if (m := _NUMBERED.fullmatch(key)) else key for key in columns))


def _finite(rows: Doubles, where: str, what: str) -> Doubles:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{where}{what} of atom {bad[0] + 1} is not finite; compute it again or remove the atom."
        )
    if not rows.shape[1]:
        raise ValueError(f"{where}{what} has no features.")
    return rows


def attach(frames: Sequence[Frame], rows: ArrayLike, name: str = "descriptor") -> list[Frame]:
    """Return the frames with descriptors as an array, for the option `descriptor="array:NAME"`.

    frames : in the order of the rows
    rows : (n_atoms, n_features), n_atoms of all frames together; or (n_frames, n_atoms, n_features)

    Raises
    ------
    ValueError
        If there are more or fewer rows than atoms.

    >>> frame = Frame(np.zeros((2, 3)), [9.0] * 3, True, ["W", "W"])
    >>> [found.fields["descriptor"].tolist() for found in attach([frame, frame], [[1], [2], [3], [4]])]
    [[[1.0], [2.0]], [[3.0], [4.0]]]
    """
    values = _flat(np.asarray(rows, dtype=np.float64))
    n_atoms = sum(len(frame) for frame in frames)
    if len(values) != n_atoms:
        raise ValueError(f"there are {len(values):,} descriptors for the {n_atoms:,} atoms of the frames.")
    ends = np.cumsum([0, *(len(frame) for frame in frames)])
    return [
        frame.replace(fields={**frame.fields, name: values[first:end]})
        for frame, first, end in zip(frames, ends[:-1], ends[1:], strict=True)
    ]


def _flat(values: Doubles) -> Doubles:
    """(n_atoms, n_features) of all frames, from that or (n_frames, n_atoms, n_features)."""
    if values.ndim not in (2, 3):
        raise ValueError(f"descriptors must have one row per atom, found an array of shape {values.shape}.")
    return values.reshape(-1, values.shape[-1])


def dscribe_rows(descriptor: Any, frames: Iterable[Frame]) -> Doubles:
    """Return (n_atoms, n_features) of a descriptor of the package dscribe, for all frames in order.

    descriptor : such as `dscribe.descriptors.SOAP(...)`: an object whose `create(atoms)` returns one row per
        atom of an `ase.Atoms`

    Raises
    ------
    ValueError
        If the descriptor gives another number of rows than there are atoms.
    """
    from ase import Atoms

    found = []
    for frame in frames:
        names = np.array(frame.species_names)[frame.species]
        atoms = Atoms(names.tolist(), frame.positions - frame.origin, cell=frame.cell, pbc=frame.pbc)
        rows = np.asarray(descriptor.create(atoms), dtype=np.float64)
        if rows.ndim != 2 or len(rows) != len(frame):
            raise ValueError(
                f"{frame.error_prefix}the descriptor has the shape {rows.shape} for {len(frame):,} atoms; "
                "one row per atom is needed."
            )
        found.append(rows)
    return np.concatenate(found)


# --------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class FileRows:
    """Descriptors in a file, with one row per atom of all frames in their order.

    path : `.npy` with (n_atoms, n_features) or (n_frames, n_atoms, n_features); `.csv` with a line of names,
        also the data frame of FitSNAP with one row per atom (`bikflag = 1`), whose columns 0, 1, ... are
        the features; `.json` of chemiscope. `PATH#NAME` chooses a property of a chemiscope file
    starts : first row of each frame, by source and number, where `begin` has found them

    Raises
    ------
    ValueError
        When used, for a file that cannot be read, or whose rows cannot be matched to the atoms.
    """

    path: str
    starts: Mapping[tuple[str, int | None], int] = field(default_factory=dict)

    @cached_property
    def values(self) -> Doubles:
        """The array of the file, with two or three axes."""
        return read_rows(self.path)

    def begin(self, frames: Sequence[Frame]) -> FileRows:
        """Return the same file with its rows matched to the frames, which must be all of its frames."""
        rows, n_atoms = _flat(self.values), sum(len(frame) for frame in frames)
        if len(rows) != n_atoms:
            raise ValueError(
                f"{self.path}: the file has {len(rows):,} rows, but there are {plural(n_atoms, 'atom')} in "
                f"{plural(len(frames), 'frame')}; one row per atom is needed, in the order of the frames."
            )
        starts, first = {}, 0
        for frame in frames:
            key = _key(frame)
            if key in starts:
                raise ValueError(
                    f"{self.path}: several frames have the name {key[0]!r} and number {key[1]}, so it is "
                    "not known which rows are theirs; attach the rows to the frames as an array."
                )
            starts[key] = first
            first += len(frame)
        return FileRows(self.path, starts)

    def __call__(self, frame: Frame) -> Doubles:
        """Return (n_atoms, n_features) float64."""
        where, values = frame.error_prefix, self.values
        start = self.starts.get(_key(frame))
        if start is None and values.ndim == 3 and frame.index is not None and frame.index < len(values):
            start = frame.index * values.shape[1]
        if start is None and len(_flat(values)) == len(frame):
            start = 0
        rows = _flat(values)
        if start is None or start + len(frame) > len(rows):
            raise ValueError(
                f"{where}{self.path} has {len(rows):,} rows, and it is not known which are those of the "
                f"{len(frame):,} atoms of this frame; give a file for this frame alone, or an array of the "
                "frames."
            )
        if values.ndim == 3 and values.shape[1] != len(frame):
            raise ValueError(
                f"{where}{self.path} has {values.shape[1]:,} rows per frame for {len(frame):,} atoms."
            )
        return _finite(rows[start : start + len(frame)], where, f"the descriptor in {self.path}")


def _key(frame: Frame) -> tuple[str, int | None]:
    return frame.source, frame.index


def read_rows(path: str | os.PathLike[str]) -> Doubles:
    """Read descriptors from a file; see `FileRows`.

    Returns
    -------
    (n_atoms, n_features) or (n_frames, n_atoms, n_features) float64

    Raises
    ------
    ValueError
        For a missing file, another format, numbers that cannot be read, and a chemiscope file whose
        environments have several cutoffs or are not all atoms in order.
    """
    text, _, chosen = os.fspath(path).partition("#")
    file = Path(text).expanduser()
    kind = bare_name(file.name, WRITTEN).rpartition(".")[2].lower()
    if kind not in _READERS:
        raise ValueError(f"{file}: descriptors are read from {', '.join(f'.{k}' for k in _READERS)}.")
    try:
        return _READERS[kind](file, chosen)
    except OSError as error:
        raise ValueError(f"{file}: the file cannot be read ({error.strerror or error}).") from None


def _read_npy(path: Path, chosen: str) -> Doubles:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: this is no array of numbers in NumPy's format ({error}).") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        found = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{path}: one row of numbers per atom is needed, found {found} {np.shape(values)}.")
    return values.astype(np.float64)


def _open(path: Path) -> Any:
    """The text of a file, plain or compressed; ValueError if it is damaged."""
    try:
        return StringIO(b"".join(unpacked(path)).decode("utf-8"))
    except Damaged as error:
        raise ValueError(f"{path}: the compressed file is damaged or cut off ({error}).") from None


def _read_csv(path: Path, chosen: str) -> Doubles:
    with _open(path) as file:
        lines = list(csv.reader(file))
    if len(lines) < 2:
        raise ValueError(
            f"{path}: a line of names and one line per atom are needed, found {len(lines)} lines."
        )
    names = [name.strip() for name in lines[0]]
    # FitSNAP numbers its features. Its rows of forces and stress are derivatives.
    numbered = [k for k, name in enumerate(names) if name.isdecimal()]
    wanted = numbered or [k for k, name in enumerate(names) if name and name.lower() not in ADDRESSES]
    kind = names.index(ROW_TYPE) if ROW_TYPE in names else None
    rows, n = np.empty((len(lines) - 1, len(wanted))), 0
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(names):
            raise ValueError(f"{path}, line {number}: there are {len(line)} values for {len(names)} names.")
        if kind is not None and line[kind] != "Energy":
            continue
        try:
            rows[n] = [float(line[k]) for k in wanted]
        except ValueError:
            bad = next(k for k in wanted if not _is_number(line[k]))
            raise ValueError(
                f"{path}, line {number}: {names[bad]} is {line[bad]!r:.40}, which is no number."
            ) from None
        n += 1
    if not n:
        raise ValueError(f"{path}: no row has the {ROW_TYPE} Energy, which holds the features of an atom.")
    return rows[:n]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_chemiscope(path: Path, chosen: str) -> Doubles:
    try:
        with _open(path) as file:
            content = json.load(file)
        properties = {
            name: entry["values"]
            for name, entry in content["properties"].items()
            if entry["target"] == "atom"
        }
    except (ValueError, KeyError, TypeError, AttributeError, EOFError):
        raise ValueError(f"{path}: this is no chemiscope file with properties of atoms.") from None
    columns: dict[str, Doubles] = {}
    for name, values in properties.items():
        try:
            columns[name] = np.asarray(values, dtype=np.float64)
        except (ValueError, TypeError):
            continue  # words, or rows of different lengths
    wide = [name for name in families_of(columns) if name not in columns or columns[name].ndim == 2]
    if not chosen and len(wide) != 1:
        raise ValueError(
            f"{path}: {'none' if not wide else len(wide)} of the properties of atoms "
            f"({', '.join(families_of(columns)) or 'there are none'}) is the descriptor by itself; choose "
            f"one as file:{path.name}#NAME."
        )
    rows = columns_named(columns, chosen or wide[0], f"{path}: the file has")
    _check_environments(content, len(rows), path)
    return rows


def _check_environments(content: Mapping[str, Any], n_rows: int, path: Path) -> None:
    """Raise ValueError unless the rows are for all atoms in order, with one cutoff."""
    try:
        sizes = [int(structure["size"]) for structure in content["structures"]]
        given = content.get("environments") or []
        found = [(int(one["structure"]), int(one["center"])) for one in given]
        cutoffs = sorted({float(one["cutoff"]) for one in given})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{path}: structures or environments of the chemiscope file are damaged.") from None
    if len(cutoffs) > 1:
        raise ValueError(
            f"{path}: the environments have the cutoffs {', '.join(f'{c:g}' for c in cutoffs)} Å; "
            "descriptors can be compared only at one cutoff."
        )
    every = [(number, atom) for number, size in enumerate(sizes) for atom in range(size)]
    if len(every) != n_rows or (found and found != every):
        raise ValueError(
            f"{path}: the file has {n_rows:,} environments of {sum(sizes):,} atoms; one per atom is needed, "
            "in the order of the structures."
        )


_READERS: Mapping[str, Callable[[Path, str], Doubles]] = {
    "npy": _read_npy, "csv": _read_csv, "json": _read_chemiscope,
}  # fmt: skip


def all_rows(
    descriptor: Callable[[Frame], Doubles], frames: Iterable[Frame]
) -> Iterator[tuple[int, NDArray[np.int64], Doubles]]:
    """Yield the number of the frame, numbers of atoms and their descriptors; see `parts_of_rows`.

    Raises
    ------
    ValueError
        If the number of features changes from frame to frame.
    """
    n_features = None
    for number, frame in enumerate(frames):
        for atoms, rows in parts_of_rows(descriptor, frame):
            if n_features is not None and rows.shape[1] != n_features:
                raise ValueError(
                    f"{frame.error_prefix}the descriptor has {rows.shape[1]} features here and {n_features} "
                    "in the frames before; use one descriptor with the same settings and cutoff for all "
                    "frames."
                )
            n_features = rows.shape[1]
            yield number, atoms, rows
