"""Errors of correlated means: known errors of autoregressive series, and degenerate series."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose

from phaseseg.statistics import block_error, least_squares

ROUNDING = 1e-10


def autoregressive(n: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """x_t = memory x_{t-1} + noise, of unit variance from the first value on."""
    noise = rng.standard_normal(n) * np.sqrt(1 - memory**2)
    values = np.empty(n)
    values[0] = rng.standard_normal()
    for t in range(1, n):
        values[t] = memory * values[t - 1] + noise[t]
    return values


@pytest.mark.parametrize("n", [1000, 20000])
def test_white_noise_has_the_error_of_independent_values(n: int) -> None:
    results = [block_error(np.random.default_rng(seed).normal(5, 2, n)) for seed in range(20)]
    assert_allclose(np.mean([r.standard_error for r in results]), 2 / np.sqrt(n), rtol=0.06)
    assert 1 <= np.mean([r.inefficiency for r in results]) < 1.15
    assert_allclose([r.mean for r in results], 5, atol=5 * 2 / np.sqrt(n))


@pytest.mark.parametrize("memory", [0.5, 0.9])
def test_autoregressive_series_has_its_known_error(memory: float) -> None:
    # Variance of the mean of AR(1): (1 + memory) / (1 - memory) / n for n much above the correlation time.
    n, known = 20000, (1 + memory) / (1 - memory)
    results = [block_error(autoregressive(n, memory, np.random.default_rng(seed))) for seed in range(12)]
    assert_allclose(np.mean([r.standard_error for r in results]), np.sqrt(known / n), rtol=0.06)
    assert_allclose(np.mean([r.inefficiency for r in results]), known, rtol=0.12)


def test_the_error_is_the_spread_of_the_means_of_many_series() -> None:
    series = [autoregressive(2000, 0.8, np.random.default_rng(seed)) for seed in range(300)]
    spread = np.std([values.mean() for values in series], ddof=1)
    claimed = np.mean([block_error(values).standard_error for values in series[:60]])
    assert_allclose(claimed, spread, rtol=0.15)


def test_a_series_shorter_than_its_memory_gives_the_largest_block_error() -> None:
    values = np.linspace(0, 1, 64)  # a drift: never independent
    result = block_error(values)
    blocks = values.reshape(4, 16).mean(axis=1)
    assert_allclose(result.standard_error, blocks.std(ddof=1) / 2, rtol=ROUNDING)
    assert result.inefficiency > 10


def test_degenerate_series() -> None:
    assert np.isnan(block_error([])).all()
    assert np.isnan(block_error([np.nan, np.inf])).all()
    mean, error, inefficiency = block_error([3.0])
    assert mean == 3 and np.isnan(error) and np.isnan(inefficiency)
    assert block_error([0.1] * 7) == (pytest.approx(0.1), 0.0, 1.0)
    assert block_error([0.0, 0.0]) == (0.0, 0.0, 1.0)
    assert block_error([1.0, np.nan, 3.0]) == block_error([1.0, 3.0])
    assert block_error([1.0, 3.0]) == (2.0, pytest.approx(1.0), 1.0)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60),
    st.floats(-10, 10),
    st.floats(0.1, 10),
)
def test_error_follows_shift_and_scale_and_is_never_below_that_of_independent_values(
    values: list[float], shift: float, scale: float
) -> None:
    result = block_error(values)
    assert result.standard_error >= np.std(values, ddof=1) / np.sqrt(len(values)) * (1 - 1e-9) - 1e-10
    moved = block_error(np.array(values) * scale + shift)
    assert_allclose(moved.mean, result.mean * scale + shift, atol=1e-8)
    if result.standard_error > 1e-6:
        assert_allclose(moved.standard_error, result.standard_error * scale, rtol=1e-6)


# -------------------------------------------------------------------------------------- nonlinear


@pytest.mark.parametrize("seed", range(20))
def test_the_minimum_is_that_of_scipy(seed):
    """A line with a peak of Gaussian form; the width of every fifth peak is held by its bound."""
    rng = np.random.default_rng(seed)
    x, center, width = np.linspace(-5, 5, 60), rng.uniform(-2, 2), rng.uniform(0.5, 1.5)
    y = 0.3 * x + 2 * np.exp(-(((x - center) / width) ** 2)) + rng.normal(0, 0.1, 60)

    def residual(p):
        return p[0] * x + p[1] * np.exp(-(((x - p[2]) / p[3]) ** 2)) - y

    def jacobian(p):
        u = (x - p[2]) / p[3]
        bell = np.exp(-(u**2))
        return np.stack([x, bell, 2 * p[1] * bell * u / p[3], 2 * p[1] * bell * u**2 / p[3]], axis=1)

    start = [0.0, 1.0, center + 0.5, 0.4]
    low, high = [-9.0, -9.0, -4.0, 0.1], [9.0, 9.0, 4.0, 0.45 if seed % 5 == 0 else 9.0]
    theirs = scipy.optimize.least_squares(residual, start, jacobian, (low, high), xtol=1e-12, ftol=1e-12)
    assert_allclose(least_squares(residual, jacobian, start, low, high), theirs.x, atol=1e-4)


def test_a_fit_without_residue_ends_at_once():
    calls = []

    def line(p):
        calls.append(p)
        return p - 1

    assert_allclose(least_squares(line, lambda p: np.eye(1), [1.0], [0.0], [2.0]), [1.0])
    assert len(calls) <= 3
