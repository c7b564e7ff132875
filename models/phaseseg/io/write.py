"""Outputs: whole or not there, streamed, and quick enough for a million atoms."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Fields, Table, plain
from phaseseg.frame import Frame
from phaseseg.io.source import format_of_name
from phaseseg.specs import FIELD_SPECS

_ROWS_PER_CHUNK = 1 << 14
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class OutputError(OSError):
    """An output that cannot be written: one sentence says which, why and what to do."""


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


def write_frames(
    path: str | os.PathLike[str],
    results: Iterable[Frame | tuple[Frame, Fields | Mapping[str, Any] | None]],
    *,
    file_format: str | None = None,
) -> int:
    """Write frames, alone or with their results, one at a time, as extended XYZ or LAMMPS dump.

    Every atom gets its id, species (and 1-based type in a dump), position (8 decimals, Å), the
    columns of `Frame.fields` and those of the result. Finite numbers of level "frame" and
    those of `Frame.info` go into the comment line of extended XYZ; bonds, grids and tables are left out.

    Parameters
    ----------
    path : `.xyz`, `.extxyz`, `.dump` or `.lammpstrj`, with `.gz` to compress
    results : frames, or pairs of a frame and its result, also mixed; a result is `Fields`, or a mapping from
        names to numbers and arrays of shape (n_atoms,) or (n_atoms, k), or None
    file_format : "extxyz" or "lammps-dump", where the name does not tell

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
    compressed = path.name.lower().endswith(".gz")
    if file_format is None:
        file_format = format_of_name(path.stem if compressed else path.name)
    if file_format not in ("extxyz", "lammps-dump"):
        raise ValueError(
            f"{path.name}: the format of the output is not known. Use the suffix .xyz, .extxyz, .dump or "
            ".lammpstrj (and .gz), or file_format 'extxyz' or 'lammps-dump'."
        )
    pieces = _extxyz_pieces if file_format == "extxyz" else _dump_pieces
    n_frames = 0
    with atomic_output(path) as temporary, ExitStack() as stack:
        file: Any = stack.enter_context(temporary.open("wb"))
        if compressed:
            # No name and no date inside: the same frames give the same bytes.
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0))
        for item in results:
            frame, result = (item, None) if isinstance(item, Frame) else item
            columns, scalars = _sorted_out(frame, result or {})
            for piece in pieces(frame, columns, scalars, n_frames):
                file.write(piece)
            n_frames += 1
        if n_frames == 0:
            raise ValueError(f"{path.name}: there are no frames to write.")
    return n_frames


def _sorted_out(
    frame: Frame, result: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], dict[str, int | float | bool]]:
    """Columns of the atoms and finite numbers of the frame."""
    columns: dict[str, NDArray[Any]] = dict(frame.fields)
    # Results of an earlier analysis that were read with the frame are not those of this one.
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
    for name in (*columns, *scalars, *frame.species_names):
        if not name or re.search(r'[\s:="]', name):
            raise ValueError(
                f'{name!r} cannot be written as a name: it is empty or holds a blank or one of : = ".'
            )
    return columns, scalars


def _format(values: NDArray[Any]) -> str:
    """% format of a column: integers whole, floats with as many digits as it takes to read them back."""
    if values.dtype.kind != "f":
        return "%d"
    return "%.9g" if values.dtype.itemsize <= 4 else "%.15g"


def _body(columns: Sequence[tuple[str, NDArray[Any]]]) -> Iterator[bytes]:
    """Lines of text, from pairs of a % format and a column of shape (n,) or (n, k).

    One % for thousands of rows: ten times quicker than `numpy.savetxt`.
    """
    flat = [
        (form, column)
        for form, values in columns
        for column in (values[:, None] if values.ndim == 1 else values).T
    ]
    line = " ".join(form for form, _ in flat) + "\n"
    n_rows = len(flat[0][1])
    for start in range(0, n_rows, _ROWS_PER_CHUNK):
        cut = slice(start, min(start + _ROWS_PER_CHUNK, n_rows))
        values = chain.from_iterable(zip(*(column[cut].tolist() for _, column in flat), strict=True))
        yield (line * (cut.stop - cut.start) % tuple(values)).encode()


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(value) for value in values.ravel().tolist())


def _extxyz_pieces(
    frame: Frame, columns: Mapping[str, NDArray[Any]], scalars: Mapping[str, int | float | bool], _: int
) -> Iterator[bytes]:
    names = np.array(frame.species_names, dtype=object)
    body: list[tuple[str, NDArray[Any]]] = [("%s", names[frame.species]), ("%.8f", frame.positions)]
    properties = ["species:S:1", "pos:R:3"]
    if frame.ids is not None:
        properties.append("id:I:1")
        body.append(("%d", frame.ids))
    for name, values in columns.items():
        kind = "R" if values.dtype.kind == "f" else "I"
        properties.append(f"{name}:{kind}:{1 if values.ndim == 1 else values.shape[1]}")
        body.append((_format(values), values))
    comment = [f'Lattice="{_numbers(frame.cell)}"', f"Properties={':'.join(properties)}"]
    comment.append(f'pbc="{" ".join("T" if periodic else "F" for periodic in frame.pbc)}"')
    if frame.origin.any():
        comment.append(f'Origin="{_numbers(frame.origin)}"')
    if frame.timestep is not None:
        comment.append(f"timestep={frame.timestep}")
    if frame.time is not None:
        comment.append(f"time={frame.time!r}")
    if frame.units == "lj":
        comment.append("units=lj")
    for name, value in scalars.items():
        comment.append(f"{name}={'FT'[value]}" if isinstance(value, bool) else f"{name}={value:.10g}")
    yield f"{len(frame)}\n{' '.join(comment)}\n".encode()
    yield from _body(body)


def _dump_pieces(
    frame: Frame, columns: Mapping[str, NDArray[Any]], scalars: Mapping[str, int | float | bool], index: int
) -> Iterator[bytes]:
    header = ["ITEM: UNITS", "lj"] if frame.units == "lj" and index == 0 else []
    if frame.time is not None:
        header += ["ITEM: TIME", repr(frame.time)]
    header += ["ITEM: TIMESTEP", str(index if frame.timestep is None else frame.timestep)]
    header += ["ITEM: NUMBER OF ATOMS", str(len(frame)), *_box_lines(frame)]
    titles = ["id", "type", "element", "x", "y", "z"]
    names = np.array(frame.species_names, dtype=object)
    ids = np.arange(1, len(frame) + 1) if frame.ids is None else frame.ids
    body: list[tuple[str, NDArray[Any]]] = [
        ("%d", ids),
        ("%d", frame.species + 1),
        ("%s", names[frame.species]),
        ("%.8f", frame.positions),
    ]
    for name, values in columns.items():
        titles += [name] if values.ndim == 1 else [f"{name}[{k + 1}]" for k in range(values.shape[1])]
        body.append((_format(values), values))
    header.append(f"ITEM: ATOMS {' '.join(titles)}")
    yield ("\n".join(header) + "\n").encode()
    yield from _body(body)


def _box_lines(frame: Frame) -> list[str]:
    cell, low = frame.cell, frame.origin
    flags = " ".join("pp" if periodic else "ff" for periodic in frame.pbc)
    lower_triangular = cell[0, 1] == cell[0, 2] == cell[1, 2] == 0 and (np.diag(cell) > 0).all()
    if not lower_triangular:
        rows = np.column_stack([cell, low])
        return [f"ITEM: BOX BOUNDS abc origin {flags}", *(_numbers(row) for row in rows)]
    high = low + np.diag(cell)
    xy, xz, yz = cell[1, 0], cell[2, 0], cell[2, 1]
    if xy == xz == yz == 0:
        return [f"ITEM: BOX BOUNDS {flags}", *(_numbers(row) for row in np.column_stack([low, high]))]
    # The bounds of a tilted cell are those of the box around it.
    low = low + np.array([min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0])
    high = high + np.array([max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0])
    rows = np.column_stack([low, high, [xy, xz, yz]])
    return [f"ITEM: BOX BOUNDS xy xz yz {flags}", *(_numbers(row) for row in rows)]


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
            with temporary.open("w", encoding="utf-8", newline="") as file:
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
        temporary.write_text(text + "\n", encoding="utf-8")
