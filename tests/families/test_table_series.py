"""Tables of many frames in bounded memory: the means of all frames, however many there are."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.families.segmentation.table_series import TableSeries
from phaseseg.fields import Column
from phaseseg.statistics import block_error, weighted_mean

ATOMS, SHARE = Column("atoms"), Column("share")


def weight(column: Column) -> Column | None:
    return ATOMS if column.unit == "at%" else None


Rows = dict[str, dict[Column, float]]


def tables(n: int, seed: int = 0) -> Iterator[Rows]:
    """Tables with rows and elements that come and go; a correlated content."""
    rng = np.random.default_rng(seed)
    drift = 0.0
    for k in range(n):
        drift = 0.9 * drift + rng.normal()
        labels = [
            one for one in ("rich", "poor", "late") if rng.random() < 0.9 and (one != "late" or k > n / 3)
        ]
        names = ["Fe", "O", *(["Cr"] if k > n / 2 else [])]
        yield {
            label: {ATOMS: float(rng.integers(0, 9)), SHARE: rng.random() if rng.random() < 0.8 else np.nan}
            | {Column(name, "at%"): 50 + drift + rng.normal() for name in names}
            for label in labels
        }


def series_of(frames: list[Rows], most: int) -> TableSeries:
    series = TableSeries(weight, most)
    for rows in frames:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        series.add(list(rows), {name: np.array([row[name] for row in rows.values()]) for name in names})
    return series


def naive(frames: list[Rows], row: str, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights from loops over dictionaries."""
    values, weights = [], []
    for rows in frames:
        cells = rows.get(row, {})
        absent = 0.0 if cells and weight(column) else np.nan
        values.append(cells.get(column, absent))
        weights.append(cells.get(ATOMS, 0.0) if weight(column) else float(column in cells))
    return np.array(values), np.array(weights)


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_unmerged_frames_give_the_same_numbers_as_loops(n: int) -> None:
    frames = list(tables(n))
    series = series_of(frames, 64)
    for row in series.rows:
        for column in series.columns:
            values, weights = naive(frames, str(row), column)
            if weight(column):
                expected, found = weighted_mean(values, weights), series.content(row, column)
                np.testing.assert_array_equal([found.mean, found.error], [expected.mean, expected.error])
                np.testing.assert_array_equal(found.pulls, expected.pulls)
            else:
                np.testing.assert_array_equal(series.mean(row, column), block_error(values))


@pytest.mark.parametrize("n", [9, 16, 17, 100, 1000])
@pytest.mark.parametrize("most", [2, 8])
def test_merging_leaves_the_means(n: int, most: int) -> None:
    frames = list(tables(n, seed=n))
    series = series_of(frames, most)
    assert most // 2 <= len(series) <= most and series.n_frames == n
    for row in series.rows:
        for column in series.columns:
            values, weights = naive(frames, str(row), column)
            if weight(column):
                assert_allclose(
                    series.content(row, column).mean, weighted_mean(values, weights).mean, rtol=1e-10
                )
            else:
                assert_allclose(series.mean(row, column).mean, block_error(values).mean, rtol=1e-10)


@pytest.mark.slow
def test_errors_of_merged_frames_are_those_of_blocks() -> None:
    frames = list(tables(4000, seed=3))
    whole, merged = series_of(frames, 4096), series_of(frames, 256)
    for column in (Column("Fe", "at%"), Column("O", "at%")):
        assert_allclose(merged.content("rich", column).error, whole.content("rich", column).error, rtol=0.15)
    assert_allclose(
        merged.mean("rich", SHARE).standard_error, whole.mean("rich", SHARE).standard_error, rtol=0.15
    )


def test_a_row_that_is_unknown_has_no_mean() -> None:
    series = series_of(list(tables(3)), 8)
    assert np.isnan(series.mean("none", ATOMS).mean) and np.isnan(
        series.content("none", Column("Fe", "at%")).mean
    )
    assert np.isnan(series.mean("rich", Column("nothing")).mean)


def test_infinite_values_stay_infinite() -> None:
    series = TableSeries(lambda column: None, 4)
    for k in range(40):
        series.add(["Fe"], {Column("D"): np.array([np.inf if k == 3 else 1.0])})
    assert np.isinf(series.values(Column("D"))).sum() == 1


@pytest.mark.parametrize("most", [0, 3])
def test_the_number_of_entries_is_even(most: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        TableSeries(weight, most)
