"""Tools for tests of this package and others: tolerances, awkward frames, and checks of the contract.

A model keeps the contract if `check_conformance("mine-v1.safetensors", *frames)` raises nothing.

The result of any analysis is checked by `check_fields`:

>>> from phaseseg import label_phases
>>> from phaseseg.testing import AWKWARD, check_fields
>>> frame = AWKWARD["triclinic"]()
>>> check_fields(frame, label_phases(frame, "Fe"))
"""

from __future__ import annotations

from phaseseg.large.cut import Slab, slabs
from phaseseg.testing.conformance import (
    CONFORMANCE,
    assert_same,
    check_conformance,
    check_family,
    check_fields,
    refused_frames,
)
from phaseseg.testing.frames import (
    AWKWARD,
    SKEWED,
    TRICLINIC,
    awkward_frames,
    awkward_like,
    permuted,
    repeated,
    rolled_axes,
    rotated,
    slab,
    sphere,
    tilted,
    translated,
    wrapped_elsewhere,
)
from phaseseg.testing.tolerances import EXACT, LITERATURE, ROUNDING

__all__ = [
    "AWKWARD",
    "CONFORMANCE",
    "EXACT",
    "LITERATURE",
    "ROUNDING",
    "SKEWED",
    "TRICLINIC",
    "Slab",
    "assert_same",
    "awkward_frames",
    "awkward_like",
    "check_conformance",
    "check_family",
    "check_fields",
    "permuted",
    "refused_frames",
    "repeated",
    "rolled_axes",
    "rotated",
    "slab",
    "slabs",
    "sphere",
    "tilted",
    "translated",
    "wrapped_elsewhere",
]
