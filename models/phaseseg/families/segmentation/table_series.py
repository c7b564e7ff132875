"""Tables of many frames in bounded memory, for means and their errors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.fields import Column
from phaseseg.statistics import BlockError, WeightedMean, block_error, weighted_mean

MOST_ENTRIES = 2048
"""With more frames, neighboring ones are merged in pairs, again and again."""

Floats = NDArray[np.float64]


class _Source(NamedTuple):
    """Places of columns in a series, and the numbers of the columns of a frame from which they are filled.

    factors : 1 for a column that the frame has, 0 for an absent element
    weights : numbers of the columns of the weights
    """

    plain_places: NDArray[np.intp]
    plain: NDArray[np.intp]
    weighted_places: NDArray[np.intp]
    weighted: NDArray[np.intp]
    factors: NDArray[np.intp]
    weights: NDArray[np.intp]


class TableSeries:
    """The numbers of a table over many frames, each with its weight.

    Every frame is an entry until there are `most`. Then neighboring entries are merged in pairs: their
    weights add up, and their values are averaged by weight. Means stay the same, and errors are computed
    from blocks of frames in any case (`block_error`). The memory does not grow with the number of frames.

    If a row lacks a column with a weight but has another one of the same unit, the number is 0: the content
    of an element that is absent. Other missing numbers are NaN with weight 0.

    Parameters
    ----------
    weight : gives the column by which a column is weighted, or None if every frame counts alike
    most : largest number of entries, even

    Attributes
    ----------
    rows, columns : labels of the rows and headings, in order of appearance, with their places
    n_frames : number of frames added
    """

    def __init__(self, weight: Callable[[Column], Column | None], most: int = MOST_ENTRIES) -> None:
        if most < 2 or most % 2:
            raise ValueError(f"most must be an even number of at least 2, found {most}.")
        self._weight, self._most = weight, most
        self.rows: dict[Hashable, int] = {}
        self.columns: dict[Column, int] = {}
        self.n_frames = 0
        self._frames_per_entry = 1
        self._last: tuple[tuple[tuple[Column, ...], int], _Source] | None = None
        # (capacity, n_rows, n_columns); without weight a value is NaN.
        self._values, self._weights = np.full((1, 0, 0), np.nan), np.zeros((1, 0, 0))

    def __len__(self) -> int:
        """Number of entries."""
        return -(-self.n_frames // self._frames_per_entry)

    def add(self, labels: Sequence[Hashable], columns: Mapping[Column, Any]) -> None:
        """Add a frame: numbers of its rows by heading. Columns that are not numeric are ignored."""
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        numbers = {name: values for name, values in arrays.items() if values.dtype.kind in "biuf"}
        self._make_room(labels, numbers)
        values, weights = self._cells(labels, numbers)
        entry = self.n_frames // self._frames_per_entry
        if self.n_frames % self._frames_per_entry:
            values, weights = _merged(self._values[entry], self._weights[entry], values, weights)
        self._values[entry], self._weights[entry] = values, weights
        self.n_frames += 1

    def _cells(
        self, labels: Sequence[Hashable], numbers: Mapping[Column, NDArray[Any]]
    ) -> tuple[Floats, Floats]:
        """Return values and weights of all rows and columns for one frame."""
        shape = len(self.rows), len(self.columns)
        values, weights = np.full(shape, np.nan), np.zeros(shape)
        if not labels or not numbers:
            return values, weights
        rows = np.array([self.rows[label] for label in labels])[:, None]
        given = np.array([*numbers.values()], dtype=np.float64).T
        source = self._source_of(tuple(numbers))
        found = given[:, source.plain]
        values[rows, source.plain_places] = found
        weights[rows, source.plain_places] = ~np.isnan(found)
        found, weight = given[:, source.weighted] * source.factors, given[:, source.weights]
        counted = np.isfinite(found) & (weight > 0)
        values[rows, source.weighted_places] = np.where(counted, found, np.nan)
        weights[rows, source.weighted_places] = np.where(counted, weight, 0.0)
        return values, weights

    def _source_of(self, names: tuple[Column, ...]) -> _Source:
        """Where the cells of a frame with these columns come from; most frames have those of the last one."""
        known = names, len(self.columns)
        if self._last is None or self._last[0] != known:
            given = {name: k for k, name in enumerate(names)}
            of_unit: dict[str, int] = {}
            for name, k in given.items():
                of_unit.setdefault(name.unit, k)
            plain: list[tuple[int, ...]] = []
            weighted: list[tuple[int, ...]] = []
            for name, place in self.columns.items():
                by = self._weight(name)
                if by is None:
                    if name in given:
                        plain.append((place, given[name]))
                elif name.unit in of_unit and by in given:
                    k = given.get(name, of_unit[name.unit])
                    weighted.append((place, k, int(name in given), given[by]))
            self._last = known, _Source(*_turned(plain, 2), *_turned(weighted, 4))
        return self._last[1]

    def _make_room(self, labels: Sequence[Hashable], names: Mapping[Column, Any]) -> None:
        """Make room for one more frame, and for rows and columns that were not met before."""
        known = list(self.columns)
        for label in labels:
            self.rows.setdefault(label, len(self.rows))
        for name in names:
            self.columns.setdefault(name, len(self.columns))
        if self.n_frames == self._most * self._frames_per_entry:
            both = self._values, self._weights
            halves = _merged(*(one[::2] for one in both), *(one[1::2] for one in both))
            for one, half in zip(both, halves, strict=True):
                one[: self._most // 2] = half
            self._frames_per_entry *= 2
        shape = self._values.shape
        capacity = shape[0]
        if self.n_frames // self._frames_per_entry == capacity:
            capacity = min(2 * capacity, self._most)
        needed = capacity, len(self.rows), len(self.columns)
        if shape == needed:
            return
        old = tuple(map(slice, shape))
        for attribute, filled in (("_values", np.nan), ("_weights", 0.0)):
            grown = np.full(needed, filled)
            grown[old] = getattr(self, attribute)
            setattr(self, attribute, grown)
        for name in list(self.columns)[len(known) :]:
            # An element that appears later was absent from the earlier frames.
            like = next((one for one in known if one.unit == name.unit and self._weight(one)), None)
            if like is not None and self._weight(name) is not None:
                place, other = self.columns[name], self.columns[like]
                self._values[..., place] = 0.0 * self._values[..., other]
                self._weights[..., place] = self._weights[..., other]

    def values(self, column: Column) -> Floats:
        """The numbers of a column, (n_entries, n_rows); NaN where they have no weight."""
        return self._of(self._values, column, np.nan)

    def weights(self, column: Column) -> Floats:
        """The weights of a column, (n_entries, n_rows)."""
        return self._of(self._weights, column, 0.0)

    def _of(self, stored: Floats, column: Column, missing: float) -> Floats:
        if column not in self.columns:
            return np.full((len(self), len(self.rows)), missing)
        return stored[: len(self), :, self.columns[column]]

    def mean(self, row: Hashable, column: Column) -> BlockError:
        """The mean over frames and its error, for a column without weight; NaN if the row is unknown."""
        if row not in self.rows:
            return block_error(())
        values, weights = (one[:, self.rows[row]] for one in (self.values(column), self.weights(column)))
        known = weights[weights > 0]
        if not len(known) or np.ptp(known) == 0:
            return block_error(values)
        merged = weighted_mean(values, weights)
        return block_error(merged.pulls)._replace(mean=merged.mean)

    def content(self, row: Hashable, column: Column) -> WeightedMean:
        """The mean of a column with a weight."""
        if row not in self.rows:
            return weighted_mean(np.full(len(self), np.nan), np.zeros(len(self)))
        place = self.rows[row]
        return weighted_mean(self.values(column)[:, place], self.weights(column)[:, place])


def _turned(rows: list[tuple[int, ...]], n_columns: int) -> NDArray[np.intp]:
    return np.array(rows, dtype=np.intp).reshape(-1, n_columns).T


def _merged(
    values: Floats, weights: Floats, more_values: Floats, more_weights: Floats
) -> tuple[Floats, Floats]:
    """Return the mean of two arrays of values by their weights, and the sum of the weights."""
    total = weights + more_weights
    first, second = (
        np.where(weight > 0, value, 0.0) * weight
        for value, weight in ((values, weights), (more_values, more_weights))
    )
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, (first + second) / total, np.nan), total
