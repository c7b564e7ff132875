"""Numbers as text: byte for byte what Python's % operator writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from naive.rows import text_rows as naive_rows
from phaseseg.frame import Category
from phaseseg.io.rows import text_rows

quick = settings(max_examples=60, deadline=None)

FORMATS = ("%.8f", "%.9g", "%.15g")
AWKWARD = (
    0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324, -2.5e-310, 2.2250738585072014e-308, 1e-290, 1e-300,
    1e300, -1.7976931348623157e308, 1e15, 1e16, 999999999.5, 9999999995.0, 1234567895.0, 0.5e-8, 1.5e-8,
    2.5e-8, -1e-9, 0.0001, 0.00001, 0.000099999999995, 9.9999999995, 0.9999999999999995, 99999999.5, 4.5e7,
    45e6 - 1e-8, 4.4999999999e7, 1 / 3, 0.1, 123456.0, 1e22, 1e23, 2.0**-960, 2.0**961, 1234567890123456.5,
    1000000000000005.0,
)  # fmt: skip


def written(columns):
    return b"".join(bytes(piece) for piece in text_rows(columns))


def assert_same(columns):
    one, other = written(columns), naive_rows(columns)
    if one != other:
        rows = zip(one.split(b"\n"), other.split(b"\n"), strict=False)
        raise AssertionError([pair for pair in rows if pair[0] != pair[1]][:3])


@pytest.mark.parametrize("form", FORMATS)
def test_awkward_numbers(form):
    values = np.array([AWKWARD, np.negative(AWKWARD)])
    assert_same([(values.T, form)])
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    assert_same([(single.T, form)])


@pytest.mark.parametrize("form", FORMATS)
def test_ties_and_their_neighbors(form):
    """Halfway between two printed numbers, and one step of a double to either side."""
    rng = np.random.default_rng(0)
    halves = rng.integers(-(10**8), 10**8, (12, 1500)) + 0.5
    exact = halves / 2.0 ** np.arange(12)[:, None]
    near = halves * 10 / 10.0 ** np.arange(1, 13)[:, None]
    for values in (exact, near):
        for direction in (-np.inf, np.inf):
            assert_same([(np.nextafter(values, direction).ravel(), form)])
        assert_same([(values.ravel(), form)])
    powers = 10.0 ** rng.integers(-20, 25, 3000)
    assert_same([(np.concatenate([np.nextafter(powers, 0), powers, np.nextafter(powers, np.inf)]), form)])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint64, np.uint32])
def test_any_bits(form, dtype):
    bits = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, 20_000, dtype, endpoint=True)
    assert_same([(bits.view(f"f{bits.itemsize}"), form)])


@quick
@given(st.lists(st.floats(), min_size=1, max_size=20), st.sampled_from(FORMATS))
def test_floats(values, form):
    assert_same([(np.array(values), form)])


@quick
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_integers(values):
    array = np.array(values, np.int64)
    assert_same(
        [(array, "%d"), (array.view(np.uint64), "%d"), (array.astype(np.int8), "%d"), (array > 0, "%d")]
    )


@quick
@given(st.data(), st.integers(1, 5), st.integers(0, 30))
def test_columns_of_all_kinds(data, n_columns, n_rows):
    columns = []
    for _ in range(n_columns):
        rng = np.random.default_rng(data.draw(st.integers(0, 9)))
        columns.append(
            data.draw(
                st.sampled_from(
                    [
                        (Category(rng.integers(0, 3, n_rows), ("Fe", "Å" * 70, "x")), "%s"),
                        (rng.integers(-999, 9999, (n_rows, 2)), "%d"),
                        (rng.normal(size=(n_rows, 3)), "%.8f"),
                        (rng.choice([1e300, 1.5, np.nan], n_rows), "%.8f"),
                        (rng.normal(size=n_rows).astype(np.float32), "%.9g"),
                        (rng.normal(size=(n_rows, 1)).astype(np.float16), "%.9g"),
                        (rng.choice([1e-300, 2.25, -1e-7], n_rows), "%.15g"),
                    ]
                )
            )
        )
    assert_same(columns)


def test_many_rows_and_rows_left_to_python():
    rng = np.random.default_rng(2)
    n = 20_000
    values = rng.normal(size=n)
    values[[0, 1, 4000, 8191, 8192, n - 1]] = 1e200
    codes = rng.integers(0, 2, n)
    assert_same([(Category(codes, ("A", "Bb")), "%s"), (values, "%.8f"), (np.arange(n), "%d")])
    assert_same([(np.full(3, 1e300), "%.8f")])
