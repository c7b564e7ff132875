"""FieldSpec: the meaning of one name in the result of an analysis, and the registry of these names.

A face (OVITO, ASE, command line) needs nothing else: the level of a field determines where it is stored
(particle property or array, bond, grid, attribute, table), its kind and classes how it is displayed. This
module imports neither NumPy nor the rest of the package, so that declaring fields is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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


PALE = (0.87, 0.87, 0.85)
"""Color of what belongs to no part."""
PART_COLORS = (
    (0.12, 0.47, 0.71), (0.85, 0.47, 0.16), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.40, 0.74),
    (0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81),
)  # fmt: skip
"""Colors of parts numbered from 1; they repeat."""
FLAG_COLORS = (PALE, (0.80, 0.15, 0.15))
"""Colors of no and yes."""
SCALAR_MAP = "cividis"
"""Matplotlib's color map for scalars, everywhere. It goes from dark to light, so it can be read in black and
white and by color-blind readers."""
UNKNOWN = (0.6, 0.6, 0.6)
"""Color of what has no value or no name."""


def part_class(noun: str, none: str, number: int) -> ClassName:
    """Name and color of a part numbered from 1: "domain 3"; `none` for 0.

    >>> part_class("domain", "outside", 0).name, part_class("domain", "outside", 3).name
    ('outside', 'domain 3')
    """
    if number < 1:
        return ClassName(number, none, PALE)
    return ClassName(number, f"{noun} {number}", PART_COLORS[(number - 1) % len(PART_COLORS)])


@dataclass(frozen=True)
class FieldSpec:
    """Meaning of one name in a `Fields`.

    `name` is the snake_case name of arrays, info entries and table columns, `title` the OVITO title. A field
    of kind "probability" has one column per class, in the order of `classes`; the last ones may be missing.
    `class_of` gives the name and color of a number, for fields that number parts without an end, such as
    clusters; a module-level function, so that the specification can be sent to other processes. `shown` names
    a column of flags of bonds: viewers draw those with 1, and all on request. `by_species` marks
    scalars that are compared within a species: maps show percentiles. `surface` is the "module:name" of a
    function of frame and fields that returns the surface to draw in a grid, as a `Grid` and the value on the
    surface, or None.
    """

    name: str
    title: str
    unit: str
    level: Level
    kind: Kind
    description: str
    classes: tuple[ClassName, ...] = ()
    class_of: Callable[[int], ClassName] | None = field(default=None, compare=False)
    shown: str = ""
    by_species: bool = False
    surface: str = ""


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
