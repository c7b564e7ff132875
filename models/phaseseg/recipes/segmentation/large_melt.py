"""Write a frame of any size: the bundled melt, repeated along the axes of its cell.

    python -m phaseseg.recipes.segmentation.large_melt 15x15x14 large.dump

A frame of 15 x 15 x 14 copies has 104,832,000 atoms and takes 5.5 GB as a dump. Atoms come copy by copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.resources import as_file, files
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames
from phaseseg.io.write import Pieces

PER_PIECE = 64
"""Copies that are in memory at a time."""


def repeated_pieces(frame: Frame, times: tuple[int, int, int]) -> Pieces:
    """A frame repeated along its axes, in pieces of some copies."""

    def pieces() -> Iterator[tuple[Frame, dict[str, Any]]]:
        copies, first = product(*map(range, times)), 1
        while some := np.array([*islice(copies, PER_PIECE)], dtype=float).reshape(-1, 3).tolist():
            shifts = np.repeat(some, frame.n_atoms, axis=0) @ frame.cell
            n = len(shifts)
            rows = np.tile(np.arange(frame.n_atoms), len(some))
            ids = np.arange(first, first + n)
            first += n
            positions = frame.positions[rows] + shifts
            cell = frame.cell * np.array(times)[:, None]
            yield frame.take(rows, positions=positions, cell=cell, ids=ids), {}

    return Pieces(frame.n_atoms * prod(times), pieces())


def main() -> None:
    """Write the frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", help="copies along the axes, as in 15x15x14")
    parser.add_argument("output", type=Path, help=".dump or .xyz, also .gz")
    given = parser.parse_args()
    a, b, c = map(int, given.times.split("x"))
    with as_file(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz") as path:
        frame = next(read_frames(path))
    pieces = repeated_pieces(frame, (a, b, c))
    write_frames(given.output, [pieces])
    print(f"{given.output}: {pieces.n_atoms:,} atoms")


if __name__ == "__main__":
    main()
