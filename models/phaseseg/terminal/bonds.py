"""Bonds of all frames as one table, with one row per bond."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.terminal.run import Also, check_place

if TYPE_CHECKING:
    from phaseseg.fields import Fields
    from phaseseg.frame import Frame

COLUMNS = ("frame", "i", "j", "shift_a", "shift_b", "shift_c")
"""Leading columns: frame number, ids of the atoms, periodic image of the second atom."""
CHUNK = 1 << 16  # rows written at a time


def bonds_path(path: Path, source: Path, output: Path | None) -> Path:
    """Return the path of a bond table; ValueError if it cannot be written."""
    from phaseseg.io.packing import WRITTEN, bare_name

    if not bare_name(path.name.lower(), WRITTEN).endswith(".csv"):
        raise ValueError(f"{path.name}: bonds are written as .csv, .csv.gz or .csv.zst.")
    check_place(path, input=source, output=output)
    return path


@contextmanager
def bonds_file(path: Path, bonds: Any) -> Iterator[Also]:
    """Yield a function that appends the bonds of a frame; the file appears only on success.

    bonds : the `BondFile` to write
    """
    import numpy as np

    from phaseseg.io import atomic_output
    from phaseseg.io.packing import packed_file

    def append(number: int, frame: Frame, fields: Fields) -> None:
        found = fields[bonds.field]
        ids = np.arange(1, frame.n_atoms + 1) if frame.ids is None else frame.ids
        columns = [*ids[found.atoms].T, *found.shifts.T, *(found.columns[name] for name in bonds.columns)]
        cells = ",".join("{:.7g}" if column.dtype.kind == "f" else "{}" for column in columns)
        line = f"{number},{cells}\n".format
        for first in range(0, len(found), CHUNK):
            part = [column[first : first + CHUNK].tolist() for column in columns]
            file.write("".join(map(line, *part)).encode())

    with atomic_output(path) as temporary, packed_file(temporary) as file:
        file.write((",".join((*COLUMNS, *bonds.columns)) + "\n").encode())
        yield append


def rule_with_bonds(network: Any, family: Any, options: Mapping[str, Any]) -> Any:
    """Return the rule with the bonds that viewers draw, if this network has them.

    network, family : a `Model` and its `Family`
    """
    bonds = {one.option: True for one in family.bond_files}
    try:
        return network.rule(**{**options, **bonds})
    except ValueError:  # a network of the family without these bonds, or a bad option
        return network.rule(**options)
