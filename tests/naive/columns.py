"""Columns of text to arrays with Python's own split, float and int."""

from __future__ import annotations

import numpy as np


def parse(body: bytes, kinds: str):
    """Columns of n lines, one array each: kinds "r" float64, "i" int64, "s" strings, "-" left out."""
    rows = [line.split() for line in body.decode().split("\n") if line.strip()]
    columns = []
    for k, kind in enumerate(kinds):
        cells = [row[k] for row in rows]
        if kind == "r":
            columns.append(np.array([float(cell.lower().replace("d", "e")) for cell in cells]))
        elif kind != "-":
            columns.append(np.array([int(cell) if kind == "i" else cell for cell in cells]))
    return columns


def fixed(body: bytes, start: int, width: int, n: int):
    """(n_lines, n) cells of fixed width without blanks, as strings."""
    cells = [
        [line[start + k * width : start + (k + 1) * width].strip() for k in range(n)]
        for line in body.decode().split("\n")[:-1]
    ]
    return np.array(cells, dtype=object).reshape(len(cells), n)
