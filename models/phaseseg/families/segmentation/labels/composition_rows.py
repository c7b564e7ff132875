"""Phases as people read of them: the order of rows, the rows of a composition."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan
from typing import Any

from phaseseg.fields import Table

PHASE_ORDER = ("rich", "poor", "boundary", "rich bulk", "poor bulk", "rich side", "poor side", "all")
"""The order of rows in tables that people read."""


def enough_atoms(row: Mapping[str, Any]) -> bool:
    """Whether a row of a composition is worth showing: the bulk of a small cell may be a few atoms."""
    return " " not in row["phase"] or row["atoms"] * row.get("frames", 1) >= 50


def composition_rows(table: Table, unit: str) -> list[dict[str, Any]]:
    """Rows for readers: phase, share of the mass or atoms, and (value, error) of every element.

    unit : "wt%" or "at%"
    """
    share = "mass fraction" if unit == "wt%" else "atom fraction"
    rows = []
    for row in sorted(filter(enough_atoms, table.rows()), key=lambda row: PHASE_ORDER.index(row["phase"])):
        cells = {
            name.split(" ")[0]: (row[name], row.get(f"{name} ±", nan))
            for name in row
            if name.endswith(f"({unit})")
        }
        if any(isfinite(value) for value, _ in cells.values()):
            fraction = (row.get(share, nan), row.get(f"{share} ±", nan))
            rows.append({"phase": row["phase"], "share": fraction, **cells})
    return rows
