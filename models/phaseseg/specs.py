"""FieldSpec: the meaning of one name in the result of an analysis, and the registry of these names.

A face (OVITO, ASE, command line) needs nothing else: the level of a field determines where it is stored
(particle property or array, bond, grid, attribute, table), its kind and classes how it is displayed. This
module imports neither NumPy nor the rest of the package, so that declaring fields is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["atom", "bond", "frame", "grid", "table"]
Kind = Literal["class", "probability", "scalar", "count", "flag"]

Progress = Callable[[float, str], None]
"""Called with the completed fraction, 0 to 1, and one line of text. It may raise to stop the work."""


@dataclass(frozen=True)
class ClassName:
    """One class of a field of kind "class"."""

    id: int
    name: str
    color: tuple[float, float, float]


@dataclass(frozen=True)
class FieldSpec:
    """Meaning of one name in a `Fields`.

    `name` is the snake_case name of arrays, info entries and table columns, `title` the OVITO title. A field
    of kind "probability" has one column per class, in the order of `classes`; the last ones may be missing.
    """

    name: str
    title: str
    unit: str
    level: Level
    kind: Kind
    description: str
    classes: tuple[ClassName, ...] = ()


FIELD_SPECS: dict[str, FieldSpec] = {}
"""All registered fields by name. Families register theirs when they are imported."""

CHECKPOINT_FOLDERS: dict[str, Path] = {}
"""Checkpoint folders of families from outside this package, by family name."""


def register_fields(*specs: FieldSpec) -> None:
    """Add fields to the registry.

    Raises
    ------
    ValueError
        If a name is already registered with another meaning.
    """
    for spec in specs:
        if FIELD_SPECS.get(spec.name, spec) != spec:
            raise ValueError(
                f"the field {spec.name!r} is already registered with another meaning "
                f"({FIELD_SPECS[spec.name].description}); give yours another name."
            )
    FIELD_SPECS.update({spec.name: spec for spec in specs})
