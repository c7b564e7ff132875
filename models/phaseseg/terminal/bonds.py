"""Bonds of all frames as one table, a row a bond."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.terminal.run import Also, check_place

if TYPE_CHECKING:
    from phaseseg.fields import Fields
    from phaseseg.frame import Frame

COLUMNS = ("frame", "i", "j", "shift_a", "shift_b", "shift_c")
"""Columns before those of the bonds: number of the frame, ids of the atoms, image of the second."""
CHUNK = 1 << 16  # rows that are written at a time


def bonds_path(path: Path, source: Path, output: Path | None) -> Path:
    """The path of a file of bonds; ValueError for one that cannot be written."""
    if not path.name.lower().removesuffix(".gz").endswith(".csv"):
        raise ValueError(f"{path.name}: bonds are written as .csv or .csv.gz.")
    check_place(path, input=source, output=output)
    return path


@contextmanager
def bonds_file(path: Path, bonds: Any) -> Iterator[Also]:
    """A function that appends the bonds of a frame; the file appears when all has gone well.

    bonds : what is written, a `BondFile`
    """
    import numpy as np

    from phaseseg.io import atomic_output

    def append(number: int, frame: Frame, fields: Fields) -> None:
        found = fields[bonds.field]
        ids = np.arange(1, frame.n_atoms + 1) if frame.ids is None else frame.ids
        columns = [*ids[found.atoms].T, *found.shifts.T, *(found.columns[name] for name in bonds.columns)]
        cells = ",".join("{:.7g}" if column.dtype.kind == "f" else "{}" for column in columns)
        line = f"{number},{cells}\n".format
        for first in range(0, len(found), CHUNK):
            part = [column[first : first + CHUNK].tolist() for column in columns]
            file.write("".join(map(line, *part)).encode())

    with atomic_output(path) as temporary, temporary.open("wb") as plain:
        file: Any = plain
        if path.name.lower().endswith(".gz"):
            # Without name and date inside, the same bonds give the same bytes.
            file = gzip.GzipFile("", "wb", compresslevel=4, fileobj=plain, mtime=0)
        with file:
            file.write((",".join((*COLUMNS, *bonds.columns)) + "\n").encode())
            yield append
