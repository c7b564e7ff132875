"""What the atoms of a frame can be colored by: columns of the file and fields, as classes or as scalars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phaseseg.specs import FIELD_SPECS, FLAG_COLORS, PART_COLORS, UNKNOWN, ClassName, FieldSpec

MOST_CLASSES = 250
"""Numbers with more distinct values are shown as a scalar."""
LARGEST = 1e38
"""Of scalars, whose range graphics cards hold as float32."""


@dataclass(frozen=True)
class Column:
    """One column of one frame.

    kind : "class" for integers with a name and a color each, else "scalar"
    values : (n_atoms,) int32 for classes, else float64
    names : of the numbers of a column of words
    bounds : range of the color bar; None for that of the values
    """

    name: str
    title: str
    unit: str
    kind: Literal["class", "scalar"]
    values: NDArray[Any]
    spec: FieldSpec | None = None
    names: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None


def columns_of(columns: Mapping[str, Any], n_atoms: int) -> Iterator[Column]:
    """Yield the columns that a viewer can show, in order.

    Registered names keep their names, colors and units, in any spelling of the case. Arrays of three columns
    are shown by their length, probabilities one by one, and other arrays of several columns not at all.
    """
    for name, given in columns.items():
        values = np.asarray(given)
        if values.ndim not in (1, 2) or len(values) != n_atoms:
            continue
        spec = _spec(name)
        title = spec.title if spec else name
        if values.ndim == 1:
            if (made := _single(name, title, values, spec)) is not None:
                yield made
        elif spec is not None and spec.kind == "probability":
            for entry, part in zip(spec.classes, values.T, strict=False):
                yield Column(
                    f"{name}.{entry.name}", f"{title}: {entry.name}", spec.unit, "scalar",
                    part.astype(np.float64), spec, bounds=(0.0, 1.0),
                )  # fmt: skip
        elif values.shape[1] == 3 and values.dtype.kind in "iuf":
            length = np.sqrt((values.astype(np.float64) ** 2).sum(axis=1))
            yield Column(name, f"{title}, length", spec.unit if spec else "", "scalar", length, spec)


def _spec(name: str) -> FieldSpec | None:
    for one in (name, name.lower()):
        if (found := FIELD_SPECS.get(one)) is not None and found.level == "atom":
            return found
    return None


def _single(name: str, title: str, values: NDArray[Any], spec: FieldSpec | None) -> Column | None:
    unit = spec.unit if spec else ""
    if values.dtype.kind not in "biuf":
        if values.dtype.kind not in "USTO":
            return None
        return _words(name, title, values.astype(str), spec)
    if spec is not None and (spec.kind in ("class", "flag") or spec.class_of is not None):
        whole = values if values.dtype.kind in "biu" else np.where(np.isfinite(values), values, -1)
        if (whole == np.rint(whole)).all():
            return Column(name, title, unit, "class", whole.astype(np.int32), spec)
    if values.dtype.kind == "b":
        return Column(name, title, unit, "class", values.astype(np.int32), names=("no", "yes"))
    # A probability is shown from 0 to 1, whatever its range in this frame.
    likely = "probability" in name.lower()
    return Column(
        name, title, unit, "scalar", values.astype(np.float64), spec,
        bounds=(0.0, 1.0) if likely else None,
    )  # fmt: skip


def _words(name: str, title: str, words: NDArray[Any], spec: FieldSpec | None) -> Column | None:
    """A column of words: those of a registered class get its numbers."""
    distinct, codes = np.unique(words, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        return None
    known = {entry.name: entry.id for entry in spec.classes} if spec else {}
    if known and set(distinct.tolist()) <= set(known):
        ids = np.array([known[word] for word in distinct.tolist()], dtype=np.int32)
        return Column(name, title, "", "class", ids[codes], spec)
    return Column(name, title, "", "class", codes.astype(np.int32), names=tuple(map(str, distinct)))


# ------------------------------------------------------------------------------------ all frames


@dataclass
class Legend:
    """What the columns of one name have in common in all frames.

    words : number of each word, for columns of words
    """

    name: str
    title: str
    unit: str
    kind: Literal["class", "scalar"]
    spec: FieldSpec | None
    bounds: tuple[float, float] | None
    words: dict[str, int] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, column: Column) -> Legend:
        return cls(column.name, column.title, column.unit, column.kind, column.spec, column.bounds)

    def numbers(self, column: Column) -> NDArray[Any]:
        """The values to store, after taking note of them: int32 classes or float64.

        A column that has words in one frame and numbers in another has its numbers as NaN there.
        """
        if column.kind != self.kind:
            return np.full(len(column.values), -1 if self.kind == "class" else np.nan)
        if self.kind == "class":
            values = column.values
            if column.names:
                codes = [self.words.setdefault(word, len(self.words)) for word in column.names]
                values = np.array(codes, dtype=np.int32)[values]
            self.ids.update(np.unique(values).tolist())
            return values
        finite = np.clip(column.values[np.isfinite(column.values)], -LARGEST, LARGEST)
        if finite.size:
            # The ends of a heavy tail would leave one color to all others.
            low, high = np.quantile(finite, (0.01, 0.99)).tolist()
            self.low, self.high = min(self.low, low), max(self.high, high)
        return column.values

    @property
    def classes(self) -> list[ClassName]:
        """Names and colors of all numbers, in order."""
        known = {entry.id: entry for entry in self.spec.classes} if self.spec else {}
        names = dict(zip(self.words.values(), self.words, strict=True))
        made = []
        for number in sorted(self.ids | set(known)):
            if number in known:
                made.append(known[number])
            elif number in names:
                made.append(ClassName(number, names[number], PART_COLORS[number % len(PART_COLORS)]))
            elif self.spec and self.spec.class_of:
                made.append(self.spec.class_of(number))
            elif self.spec and self.spec.kind == "flag" and number in (0, 1):
                made.append(ClassName(number, ("no", "yes")[number], FLAG_COLORS[number]))
            else:
                made.append(ClassName(number, str(number), UNKNOWN))
        return made

    @property
    def limits(self) -> tuple[float, float]:
        """Range of the color bar."""
        if self.bounds:
            return self.bounds
        if not self.low <= self.high:
            return 0.0, 1.0
        room = max(0.5, 1e-3 * abs(self.low))
        return (self.low, self.high) if self.low < self.high else (self.low - room, self.high + room)
