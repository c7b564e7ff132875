"""Numbers as people read them: values with errors, durations, the rows of a composition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import inf, isfinite, isnan, nan
from typing import Any

from phaseseg.fields import Table

PHASE_ORDER = ("rich", "poor", "boundary", "rich bulk", "poor bulk", "rich side", "poor side", "all")
"""The order of rows in tables that people read."""


def value_and_error(value: float, error: float = nan) -> str:
    """`91.63 ± 0.12`: the error with two figures and the value to the same digit; `91.6` without error
    or for a constant. Not a number is `–`.
    """
    if not isfinite(value):
        return "–" if isnan(value) else "∞" if value == inf else "−∞"
    if not isfinite(error) or error <= 1e-12 * abs(value):  # no error, or that of a constant
        if float(value).is_integer() and abs(value) < 1e6:
            return f"{value:.0f}"
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:#.3g}"
    if abs(value) >= 1e5 or max(abs(value), error) < 1e-3:
        return f"{value:.3g} ± {error:.1g}"
    digits = 0
    while digits < 6 and round(error, digits) < 9.5 * 10.0**-digits:
        digits += 1
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def duration(seconds: float) -> str:
    """`0.42 s`, `12 s` or `0:03:20`."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return str(timedelta(seconds=round(seconds)))


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
