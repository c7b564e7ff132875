"""FieldSpec: what one name in the result of an analysis means, and the registry of these names.

A face (OVITO, ASE, command line) needs nothing else: the level of a field says where it goes (particle
property or array, bond, grid, attribute, table), its kind and classes say how it is shown. This module
imports neither NumPy nor anything of the package, so that a family can declare its fields at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["atom", "bond", "frame", "grid", "table"]
Kind = Literal["class", "probability", "scalar", "count", "flag"]

Progress = Callable[[float, str], None]
"""Called with the fraction that is done, 0 to 1, and one line of text. It may raise to end the work."""


@dataclass(frozen=True)
class ClassName:
    """One class of a field of kind "class"."""

    id: int
    name: str
    color: tuple[float, float, float]


@dataclass(frozen=True)
class FieldSpec:
    """What one name in a `Fields` means.

    `name` is the snake_case name of arrays, info entries and table columns, `title` the OVITO title. The
    columns of a kind "probability" belong to the first of its classes.
    """

    name: str
    title: str
    unit: str
    level: Level
    kind: Kind
    description: str
    classes: tuple[ClassName, ...] = ()


FIELD_SPECS: dict[str, FieldSpec] = {}
"""Every registered field by its name. Families register theirs when they are imported."""

CHECKPOINT_FOLDERS: dict[str, Path] = {}
"""Folders with checkpoints of families that are not in this package, by the name of the family."""


def register_fields(*specs: FieldSpec) -> None:
    """Add fields to the registry.

    Raises
    ------
    ValueError
        If a name is there already with another meaning.
    """
    for spec in specs:
        if FIELD_SPECS.get(spec.name, spec) != spec:
            raise ValueError(
                f"the field {spec.name!r} is registered already with another meaning "
                f"({FIELD_SPECS[spec.name].description}); give yours another name."
            )
    FIELD_SPECS.update({spec.name: spec for spec in specs})
