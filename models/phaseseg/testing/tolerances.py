"""The three tolerances of the tests. A looser one has its reason in a comment."""

from __future__ import annotations

from collections.abc import Mapping

EXACT = 0.0
"""Indices, labels, counts, round trips: equality."""

ROUNDING: Mapping[str, float] = {"float64": 1e-10, "float32": 1e-5}
"""Relative, by the precision in which a number was computed: the same formula summed in another order."""


def LITERATURE(printed: str) -> float:
    """Absolute: half a unit of the last digit that the source prints.

    >>> LITERATURE("91.6"), LITERATURE("0.26")
    (0.05, 0.005)
    """
    digits = len(printed.partition(".")[2])
    return float(f"{0.5 * 10.0**-digits:.{digits + 1}f}")
