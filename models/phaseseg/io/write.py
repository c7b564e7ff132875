"""Output files: written completely or not at all, streamed, and fast for a million atoms."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import platform
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Fields, Table, plain
from phaseseg.frame import Category, Frame
from phaseseg.io.columns_file import FORMATS, columns_file
from phaseseg.io.formats import format_of_name
from phaseseg.io.lammps import overhang
from phaseseg.io.names import kind_of
from phaseseg.io.packing import WRITTEN, Piece, bare_name, joined_file, packed_file, packed_piece
from phaseseg.specs import FIELD_SPECS

if TYPE_CHECKING:
    from phaseseg.io.rows import Columns

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class OutputError(OSError):
    """An output that cannot be written; the message says which, why and what to do."""


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary name in the folder of `path`, and rename it when the block succeeds.

    When the block fails, whatever the reason, the temporary file is removed and a file that was at
    `path` is untouched. The temporary name ends like `path`, so writers that look at suffixes work.
    A `path` that is a device or pipe is written directly.

    Raises
    ------
    OutputError
        If the folder is missing or not writable or the disk is full.

    Examples
    --------
    >>> with atomic_output("phases.csv") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("a,b")
    """
    path = Path(path)
    target = Path(os.path.realpath(path))  # a link keeps pointing where it did
    if target.is_dir():
        raise OutputError(f"{path}: this is a folder. Give the name of a file.")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}. Make it, or write somewhere else.")
    direct = target.exists() and not target.is_file()
    temporary = target if direct else target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        if not direct:
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OutputError(
                f"{path}: the disk is full (or a quota is used up), so the file was not written. Free some "
                "space or write somewhere else."
            ) from error
        if error.filename is not None and str(temporary) == str(error.filename):
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}). Write somewhere else."
            ) from error
        raise
    finally:
        if not direct:
            temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------ frames


class Pieces(NamedTuple):
    """One frame in pieces, with the results of each; all have the same columns.

    n_atoms : number of atoms of the frame
    """

    n_atoms: int
    pieces: Iterable[tuple[Frame, Mapping[str, Any]]]


def write_frames(
    path: str | os.PathLike[str],
    results: Iterable[Frame | tuple[Frame, Fields | Mapping[str, Any] | None] | Pieces],
    *,
    file_format: str | None = None,
) -> int:
    """Write frames, alone or with their results, one at a time, as extended XYZ or LAMMPS dump.

    Every atom gets its id, species (and 1-based type in a dump), position (8 decimals, Å), molecule (`mol`),
    in extended XYZ its `name` and `residue`, the columns of `Frame.fields` and those of the result. Finite
    numbers of level "frame" and those of `Frame.info` go into the comment line of extended XYZ; bonds, grids
    and tables are left out.

    Parameters
    ----------
    path : `.xyz`, `.extxyz`, `.dump` or `.lammpstrj`, with `.gz` or `.zst` to compress; `.npz` or `.parquet`
        for the columns alone
    results : frames, or pairs of a frame and its result, also mixed; a result is `Fields`, or a mapping from
        names to numbers and arrays of shape (n_atoms,) or (n_atoms, k), or None; a large frame may come in
        `Pieces`
    file_format : "extxyz", "lammps-dump", "npz" or "parquet", needed if the suffix does not determine it

    `.npz` and `.parquet` (package `pyarrow`, an extra) hold the columns of the results, or those of
    `Frame.fields` where there are no results, joined over the frames, after the columns `frame` and `id`.
    In an archive a column of vectors is an (n, k) array; in Parquet its parts are `name[1]`, `name[2]`, ...

    Returns
    -------
    int
        Number of frames written.

    Raises
    ------
    ValueError
        For an unknown format, a name or an array that the format cannot hold, or no frames at all.
    OutputError
        If the file cannot be written. A file that was there before stays as it was.
    """
    path = Path(path)
    if file_format is None:
        file_format = FORMATS.get(path.suffix.lower()) or format_of_name(bare_name(path.name, WRITTEN))
    if file_format in FORMATS.values():
        return _write_columns(path, results, file_format)
    if file_format not in _LINES:
        raise ValueError(
            f"{path.name}: the output format is unknown. Use the suffix .xyz, .extxyz, .dump or .lammpstrj "
            "(and .gz or .zst), .npz or .parquet, or file_format 'extxyz', 'lammps-dump', 'npz' or 'parquet'."
        )
    n_frames = 0
    with atomic_output(path) as temporary, packed_file(temporary) as file:
        for item in results:
            n_atoms, pieces = _pieces(item)
            for number, (frame, result) in enumerate(pieces):
                for some in _text(frame, result, file_format, n_frames, None if number else n_atoms):
                    file.write(some)
            n_frames += 1
        if n_frames == 0:
            raise ValueError(f"{path.name}: there are no frames to write.")
    return n_frames


def _text(
    frame: Frame, result: Mapping[str, Any] | None, file_format: str, number: int, n_atoms: int | None
) -> Iterator[bytes | memoryview]:
    """The text of a frame of n atoms, of which this may be the first piece; of further pieces for None."""
    columns, scalars = _sorted_out(frame, result or {})
    header, body = _LINES[file_format](frame, n_atoms or 0, columns, scalars, number)
    if n_atoms is not None:
        yield f"{header}\n".encode()
    yield from _rows(body)


@contextmanager
def parts_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder next to a file, in which other processes write parts of it; remove it at the end.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    path = Path(os.path.realpath(path))
    folder = path.with_name(f".{secrets.token_hex(4)}-{path.name}.parts")
    try:
        folder.mkdir()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Write somewhere else.") from None
    try:
        yield folder
    finally:
        for _ in range(5):  # a process that was told to stop may still write
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            sleep(0.1)


def write_part(
    folder: Path, name: str, frame: Frame, result: Mapping[str, Any] | None, number: int,
    n_atoms: int | None = -1,
) -> tuple[str, Piece]:  # fmt: skip
    """Write a frame with its result as a part of a file of frames; return the name of the part.

    name : of the file, which decides on format and compression
    number : of the frame in the file
    n_atoms : of the frame, if only its first piece is given; None for a further piece

    Raises
    ------
    OutputError
        If the folder is not there: it is on a disk that this process does not see, or the work was ended.
    """
    part = folder / f"{number}-{secrets.token_hex(4)}"  # two processes may write the same frame
    try:
        with packed_piece(part, name) as (file, piece):
            kind = format_of_name(bare_name(name, WRITTEN))
            for text in _text(frame, result, kind, number, len(frame) if n_atoms == -1 else n_atoms):
                file.write(text)
    except FileNotFoundError:
        raise OutputError(
            f"{folder}: there is no such folder on {platform.node()}. Write to a disk that every worker "
            "sees under the same path."
        ) from None
    return part.name, piece


def join_parts(path: str | os.PathLike[str], parts: Iterable[tuple[Path, Piece]]) -> int:
    """Write a file of the parts of its frames, one after the other; the parts are removed.

    The text is that of `write_frames`. Returns the number of parts.

    Raises
    ------
    ValueError
        If there are none.
    OutputError
        If the file cannot be written. A file that was there before stays as it was.
    """
    n_frames = 0
    with atomic_output(path) as temporary, joined_file(temporary, Path(path).name) as append:
        for part, piece in parts:
            append(part, piece)
            part.unlink()
            n_frames += 1
        if n_frames == 0:
            raise ValueError(f"{Path(path).name}: there are no frames to write.")
    return n_frames


def _write_columns(path: Path, results: Iterable[Any], kind: str) -> int:
    n_frames = 0
    with atomic_output(path) as temporary, columns_file(temporary, kind, path.name) as file:
        for item in results:
            for frame, result in _pieces(item)[1]:
                columns, _ = _sorted_out(frame, result, own=not result)
                file.append(frame, columns, n_frames)
            n_frames += 1
        if n_frames == 0:
            raise ValueError(f"{path.name}: there are no frames to write.")
    return n_frames


def _pieces(item: Any) -> Pieces:
    """A frame, or a frame with its result, as one piece."""
    if isinstance(item, Pieces):
        return item
    frame, result = (item, {}) if isinstance(item, Frame) else item
    return Pieces(len(frame), [(frame, result or {})])


def _sorted_out(
    frame: Frame, result: Mapping[str, Any], *, own: bool = True
) -> tuple[dict[str, NDArray[Any]], dict[str, int | float | bool]]:
    """Columns of the atoms and finite numbers of the frame; `own` adds the columns that the frame has."""
    columns: dict[str, NDArray[Any]] = dict(frame.fields) if own else {}
    if own and frame.molecules is not None and not any(kind_of(name) == "molecule" for name in columns):
        columns["mol"] = frame.molecules
    # Skip results of an earlier analysis that were read with the frame.
    scalars: dict[str, int | float | bool] = {k: v for k, v in frame.info.items() if k not in FIELD_SPECS}
    for name, value in result.items():
        level = FIELD_SPECS[name].level if name in FIELD_SPECS else None
        if level in ("bond", "grid", "table"):
            continue
        if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            number = value.item() if isinstance(value, np.generic) else value
            if math.isfinite(number):
                scalars[name] = number
        elif isinstance(value, np.ndarray) and value.ndim:
            columns[name] = value
    for name, values in columns.items():
        shape = (len(frame), *values.shape[1:2])
        if values.shape != shape or values.dtype.kind not in "biuf":
            raise ValueError(
                f"{frame.source or 'frame'}: {name} has shape {values.shape} and type {values.dtype}; a "
                f"column of {len(frame)} atoms must be numbers of shape ({len(frame)},) or ({len(frame)}, k)."
            )
    for name in frame.species_names:
        if not name or re.search(r"\s", name):
            raise ValueError(
                f"{name!r} cannot be written as the name of a species: it is empty or contains a blank."
            )
    return _with_plain_names(columns), scalars


def _with_plain_names(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns under names that both formats hold; a warning tells which were changed."""
    plain_names: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        new = re.sub(r'[\s:="]', "_", name) or "_"
        while new != name and (new in columns or new in plain_names):
            new += "_"
        if new != name:
            warnings.warn(
                f'{name!r} is written as {new}: it is empty or contains a blank or one of : = ".',
                stacklevel=4,
            )
        plain_names[new] = values
    return plain_names


def extxyz_lines(frame: Frame, result: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield a frame with its result as extended XYZ, in pieces without a line end; see `write_frames`."""
    header, body = _extxyz(frame, len(frame), *_sorted_out(frame, result or {}), 0)
    yield header
    for piece in _rows(body):
        yield str(piece, "utf-8").removesuffix("\n")


def entry(name: str, value: float | bool | str) -> str:
    """An entry of the comment line of extended XYZ: a number, or a word."""
    if isinstance(value, (bool, np.bool_)):
        return f"{_key(name)}={'FT'[value]}"
    return f"{_key(name)}={_key(value) if isinstance(value, str) else f'{value:.10g}'}"


def _key(name: str) -> str:
    """A key of the comment line, in quotes where it needs them."""
    if name and not re.search(r"""[\s"'=,\[\]{}\\]""", name):
        return name
    escaped = re.sub(r'(["\\])', r"\\\1", name).replace("\n", r"\n")
    return f'"{escaped}"'


def _rows(columns: Columns) -> Iterator[bytes | memoryview]:
    # Here, and not at the top: numba takes longer to import than most tables take to write.
    from phaseseg.io.rows import text_rows

    return text_rows(columns)


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(value) for value in values.ravel().tolist())


def _formatted(columns: Mapping[str, NDArray[Any]]) -> Columns:
    """Columns with % formats: integers whole, floats with as many digits as it takes to read them back."""
    return [
        (values, "%d" if values.dtype.kind != "f" else "%.9g" if values.dtype.itemsize <= 4 else "%.15g")
        for values in columns.values()
    ]


def _names(frame: Frame) -> Category:
    return Category(frame.species, frame.species_names)


def _extxyz(
    frame: Frame,
    n_atoms: int,
    columns: Mapping[str, NDArray[Any]],
    scalars: Mapping[str, int | float | bool],
    _: int,
) -> tuple[str, Columns]:
    body: Columns = [(_names(frame), "%s"), (frame.positions, "%.8f")]
    properties = "species:S:1:pos:R:3"
    if frame.ids is not None:
        body.append((frame.ids, "%d"))
        properties += ":id:I:1"
    for kind, (codes, words) in frame.categories.items():
        if all(re.fullmatch(r"\S+", word) for word in words):
            body.append((Category(codes, words), "%s"))
            properties += f":{kind}:S:1"
    for name, values in columns.items():
        properties += (
            f":{name}:{'R' if values.dtype.kind == 'f' else 'I'}:{1 if values.ndim == 1 else values.shape[1]}"
        )
    entries = {
        "Lattice": f'"{_numbers(frame.cell)}"',
        "Properties": properties,
        "pbc": '"{} {} {}"'.format(*("FT"[periodic] for periodic in frame.pbc.tolist())),
        "Origin": f'"{_numbers(frame.origin)}"' if frame.origin.any() else None,
        "timestep": frame.timestep,
        "time": frame.time,
        "units": "lj" if frame.units == "lj" else None,
    }
    comment = [f"{name}={value}" for name, value in entries.items() if value is not None]
    comment += [entry(name, value) for name, value in scalars.items()]
    return f"{n_atoms}\n{' '.join(comment)}", body + _formatted(columns)


def _dump(
    frame: Frame,
    n_atoms: int,
    columns: Mapping[str, NDArray[Any]],
    scalars: Mapping[str, int | float | bool],
    index: int,
) -> tuple[str, Columns]:
    header = ["ITEM: UNITS", "lj"] if frame.units == "lj" and index == 0 else []
    if frame.time is not None:
        header += ["ITEM: TIME", repr(frame.time)]
    header += ["ITEM: TIMESTEP", str(index if frame.timestep is None else frame.timestep)]
    header += ["ITEM: NUMBER OF ATOMS", str(n_atoms), *_box_lines(frame)]
    titles = ["ITEM: ATOMS id type element x y z"]
    for name, values in columns.items():
        titles += [name] if values.ndim == 1 else [f"{name}[{k + 1}]" for k in range(values.shape[1])]
    ids = np.arange(1, len(frame) + 1) if frame.ids is None else frame.ids
    body: Columns = [
        (ids, "%d"),
        (frame.species + 1, "%d"),
        (_names(frame), "%s"),
        (frame.positions, "%.8f"),
    ]
    return "\n".join([*header, " ".join(titles)]), body + _formatted(columns)


def _box_lines(frame: Frame) -> list[str]:
    cell, low = frame.cell, frame.origin
    flags = " ".join("pp" if periodic else "ff" for periodic in frame.pbc)
    if cell[0, 1] or cell[0, 2] or cell[1, 2] or (np.diag(cell) <= 0).any():
        kind, rows = "abc origin ", np.column_stack([cell, low])
    else:
        kind, rows = "", np.column_stack([low, low + np.diag(cell)])
        tilts = cell[[1, 2, 2], [0, 0, 1]]
        if tilts.any():
            kind, rows = "xy xz yz ", np.column_stack([rows + overhang(*tilts).T, tilts])
    return [f"ITEM: BOX BOUNDS {kind}{flags}", *map(_numbers, rows)]


_LINES: Mapping[str, Callable[..., tuple[str, Columns]]] = {"extxyz": _extxyz, "lammps-dump": _dump}


# ------------------------------------------------------------------------------------------ tables


def write_table(path: str | os.PathLike[str], table: Table | Mapping[str, Table]) -> tuple[Path, ...]:
    """Write a table, or several, as CSV or JSON.

    Several tables become one JSON file, or one CSV file each, with the name of the table added to
    the name of the file (`run.csv`, "domains" -> `run_domains.csv`). A number that is not finite
    is an empty cell in CSV and null in JSON.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    ValueError
        For another suffix than `.csv` or `.json`, or no table.
    OutputError
        If a file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise ValueError(
            f"{path.name}: a table is written as .csv or .json, not {suffix or 'without a suffix'}."
        )
    named = table if isinstance(table, Mapping) else {"": table}
    if not named:
        raise ValueError(f"{path.name}: there is no table to write.")
    if suffix == ".json":
        content = {name: {"title": one.title, "columns": one.columns} for name, one in named.items()}
        write_json(path, content if isinstance(table, Mapping) else content[""])
        return (path,)
    tables = {path.with_stem(f"{path.stem}_{name}") if name else path: one for name, one in named.items()}
    with ExitStack() as stack:  # all tables are written before the first takes its name
        for target, one in tables.items():
            temporary = stack.enter_context(atomic_output(target))
            with temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(one.columns)
                rows = (plain(list(row.values())) for row in one.rows())
                writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return tuple(tables)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain values, arrays and tables as JSON; numbers that are not finite become null.

    A table is a list of its rows, each a dictionary.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = json.dumps(plain(content), ensure_ascii=False, indent=1, allow_nan=False)
    with atomic_output(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")
