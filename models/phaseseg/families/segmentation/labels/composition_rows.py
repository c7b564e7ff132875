"""A composition as people read it: which rows, in which order, in one unit."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan
from typing import Any

from phaseseg.fields import Column, Table

PHASE_ORDER = ("rich", "poor", "boundary", "rich bulk", "poor bulk", "rich side", "poor side", "all")
"""The order of rows in tables that people read."""


def enough_atoms(row: Mapping[str, Any]) -> bool:
    """Whether a row of a composition is worth showing: the bulk of a small cell may be a few atoms."""
    return " " not in row["phase"] or row["atoms"] * row.get("frames", 1) >= 50


def composition_in(table: Table, unit: str) -> Table:
    """The composition in one unit and each phase's share of mass or atoms; rows without content are left out.

    unit : "wt%" or "at%"
    """
    fraction, share = (
        ("mass fraction", "share of mass") if unit == "wt%" else ("atom fraction", "share of atoms")
    )
    of_all, shown, contents = Column(fraction), Column(share), table.values(unit)
    rows = []
    for row in sorted(filter(enough_atoms, table.rows()), key=lambda row: PHASE_ORDER.index(row["phase"])):
        if any(isfinite(row[name]) for name in contents):
            line = {
                "phase": row["phase"],
                shown: row.get(of_all, nan),
                shown.error: row.get(of_all.error, nan),
            }
            for name in contents:
                line |= {name: row[name], name.error: row.get(name.error, nan)}
            rows.append(line)
    return Table.of_rows(f"Composition, {unit}", rows)
