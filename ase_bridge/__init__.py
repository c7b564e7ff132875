"""Analyses for ASE: the function `annotate`, and `PhaseCalculator` for use as a calculator.

>>> from ase.io import read, write
>>> from ase_bridge import annotate
>>> atoms = read("melt.xyz")                      # doctest: +SKIP
>>> fields = annotate(atoms, species="Fe")        # doctest: +SKIP
>>> atoms.info["composition"]["rich"]["Fe_wt_percent"]   # doctest: +SKIP
93.1
>>> write("labeled.xyz", atoms)                   # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase_bridge.convert import annotate, frame_from_atoms

if TYPE_CHECKING:
    from ase_bridge.calculator import PhaseCalculator

__all__ = ["PhaseCalculator", "annotate", "frame_from_atoms"]


def __getattr__(name: str) -> Any:
    if name == "PhaseCalculator":
        from ase_bridge.calculator import PhaseCalculator

        return PhaseCalculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
