"""Columns to rows of text with Python's % operator."""

from __future__ import annotations

import numpy as np

from phaseseg.frame import Category


def text_rows(columns) -> bytes:
    """As `phaseseg.io.rows.text_rows`, in one piece."""
    cells = []
    for values, form in columns:
        if isinstance(values, Category):
            values = np.array(values.names, dtype=object)[values.codes]
        cells += [[form % value for value in one.tolist()] for one in np.atleast_2d(values.T)]
    return "".join(" ".join(row) + "\n" for row in zip(*cells, strict=True)).encode()
