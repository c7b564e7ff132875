"""Columns of the atoms without their frames: NumPy archives and Parquet files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame

FORMATS = {".npz": "npz", ".parquet": "parquet"}
_ROWS_PER_GROUP = 1 << 20

Columns = Mapping[str, NDArray[Any]]


class _Sink(Protocol):
    def __call__(self, columns: Columns, /) -> None: ...


class ColumnsFile:
    """A file that grows by the columns of a frame at a time; all frames have the same columns.

    The first columns are `frame` (number of the frame) and `id` of the atom.
    """

    def __init__(self, name: str, sink: _Sink) -> None:
        self._name, self._sink = name, sink
        self._first: dict[str, NDArray[Any]] = {}

    def append(self, frame: Frame, columns: Columns, number: int) -> None:
        """Add a frame; one without atoms adds nothing.

        Raises
        ------
        ValueError
            For other columns than those of the first frame.
        """
        if not len(frame):
            return
        ids = np.arange(1, len(frame) + 1) if frame.ids is None else frame.ids
        number = number if frame.index is None else frame.index
        given = {"frame": np.full(len(frame), number), "id": ids} | dict(columns)
        first = self._first = self._first or {name: values[:0] for name, values in given.items()}
        for name, values in given.items():
            if (
                given.keys() != first.keys()
                or values.shape[1:] != first[name].shape[1:]
                or not np.can_cast(values.dtype, first[name].dtype)
            ):
                raise ValueError(
                    f"{self._name}: frame {number} has the columns {_listed(given)}, but the first frame has "
                    f"{_listed(first)}, and one file holds the same for all. Write the frames one by one, or "
                    "as .xyz or .dump."
                )
        self._sink({name: values.astype(first[name].dtype, copy=False) for name, values in given.items()})

    def finish(self) -> None:
        """Without any atoms, leave the first columns."""
        if not self._first:
            self._sink({"frame": np.empty(0, np.int64), "id": np.empty(0, np.int64)})


def _listed(columns: Columns) -> str:
    return ", ".join(
        f"{name} ({values.dtype}{list(values.shape[1:]) or ''})" for name, values in columns.items()
    )


@contextmanager
def columns_file(path: Path, kind: str, name: str) -> Iterator[ColumnsFile]:
    """Open a file of the kind "npz" or "parquet".

    name : of the file, for messages

    Raises
    ------
    ImportError
        For Parquet, if the package `pyarrow` is not installed.
    """
    with _npz(path) if kind == "npz" else _parquet(path) as sink:
        file = ColumnsFile(name, sink)
        yield file
        file.finish()


@contextmanager
def _npz(path: Path) -> Iterator[_Sink]:
    """An array per column, joined over the frames. Until the end, every column has a temporary file."""
    columns: dict[str, tuple[Any, NDArray[Any]]] = {}
    n_rows = 0

    def append(given: Columns) -> None:
        nonlocal n_rows
        for name, values in given.items():
            if name not in columns:
                file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115
                columns[name] = file, values[:0]
            columns[name][0].write(np.ascontiguousarray(values))
        n_rows += len(given["id"])

    with ExitStack() as stack:
        yield append
        archive = stack.enter_context(ZipFile(path, "w"))
        for name, (file, empty) in columns.items():
            # No date inside, so the same columns give the same bytes.
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                described = np.lib.format.dtype_to_descr(empty.dtype)
                header = {"descr": described, "fortran_order": False, "shape": (n_rows, *empty.shape[1:])}
                np.lib.format.write_array_header_2_0(member, header)
                file.seek(0)
                shutil.copyfileobj(file, member, 1 << 20)


@contextmanager
def _parquet(path: Path) -> Iterator[_Sink]:
    """A column per component, `name[1]` and so on as in a dump; many small frames share a group of rows."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "Parquet needs the package pyarrow, which is not installed: pip install "
            "'ovito-phaseseg[parquet]'."
        ) from None
    waiting: list[Any] = []
    writer: Any = None

    def append(given: Columns) -> None:
        singles: dict[str, NDArray[Any]] = {}
        for name, values in given.items():
            parts = (
                {name: values}
                if values.ndim == 1
                else {f"{name}[{k + 1}]": v for k, v in enumerate(values.T)}
            )
            singles |= {part: np.ascontiguousarray(one) for part, one in parts.items()}
        waiting.append(pyarrow.table(singles))
        if sum(len(table) for table in waiting) >= _ROWS_PER_GROUP:
            write()

    def write() -> None:
        nonlocal writer
        if waiting:
            table = pyarrow.concat_tables(waiting)
            waiting.clear()
            if writer is None:
                writer = stack.enter_context(
                    pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
                )
            writer.write_table(table, row_group_size=_ROWS_PER_GROUP)

    with ExitStack() as stack:
        yield append
        write()
