"""Metrics against temperature: fits beside plain least squares, breaks beside a search, errors that cover."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from phaseseg.families.liquid_glass.transition.analysis import analyze_transition, energy_crossing
from phaseseg.families.liquid_glass.transition.report import transition_figures, write_transition
from phaseseg.families.liquid_glass.transition.result import METRICS
from phaseseg.fields import Table
from phaseseg.report import png
from phaseseg.statistics import (
    Bootstrap,
    break_scan,
    slope_change,
    two_lines,
)

TEMPERATURES = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.45, 0.5, 0.6, 0.7, 0.8])
ROUNDING = 1e-10


def analyze(columns, **options):
    """With fewer resamples than by default, for speed."""
    return analyze_transition(columns, **{"n_bootstrap": 300, **options})


def table(n_runs=8, noise=1.0, seed=0, temperatures=TEMPERATURES, energy=False):
    """Three metrics of runs that differ from each other: a kink at 0.4, a parabola and a straight line."""
    rng = np.random.default_rng(seed)
    t = np.tile(temperatures, n_runs)
    run = np.repeat(np.arange(n_runs), len(temperatures))
    offset = noise * rng.normal(size=n_runs)[run]
    columns = {
        "run": np.array([f"run {k}" for k in run]),
        "temperature": t,
        "n_atoms": np.full(len(t), 1000),
        "n_disjoint_graphs": 20 + 10 * t + 90 * np.maximum(t - 0.4, 0) + offset,
        "n_bb_edges": 100 * t**2 + offset,
        "n_isolated_a": 50 + 40 * t + offset,
    }
    for name in METRICS:
        columns[name] = columns[name] + noise * rng.normal(size=len(t))
    if energy:
        kink = 0.01 * t + 0.1 * np.maximum(t - 0.37, 0)
        columns["inherent_energy"] = -4 + kink + 0.0005 * noise * rng.normal(size=len(t))
    return columns


# ------------------------------------------------------------------------------------ regression


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("unit", [1.0, 3000.0])
def test_regression_is_least_squares_with_its_t_test(square: bool, unit: float) -> None:
    rng = np.random.default_rng(1)
    t = unit * rng.uniform(0.1, 2, 60)
    y = rng.normal(size=60) + 3 * t / unit
    tg = 0.7 * unit
    fit = slope_change(t, y, tg, square=square)
    h = (t > tg).astype(float)
    design = np.column_stack([np.ones(60), t, h, t * h, *([t**2] if square else [])])
    expected, squares, _, _ = np.linalg.lstsq(design, y, rcond=None)
    errors = np.sqrt(squares[0] / (60 - len(expected)) * np.diag(np.linalg.inv(design.T @ design)))
    assert fit.coefficients == pytest.approx(expected, rel=1e-7)
    assert fit.errors == pytest.approx(errors, rel=1e-7)
    assert fit.p == pytest.approx(2 * stats.t.sf(np.abs(expected / errors), 60 - len(expected)), rel=1e-6)
    assert fit.r_squared == pytest.approx(1 - squares[0] / ((y - y.mean()) ** 2).sum())
    assert fit.freedom == 60 - len(expected)
    for above in (False, True):
        x = np.array([0.2, 1.4]) * unit
        side = np.column_stack([np.ones(2), x, np.full(2, above), x * above, *([x**2] if square else [])])
        assert fit.values(x, above=above) == pytest.approx(side @ expected, rel=1e-7)


def test_change_is_the_difference_of_the_slopes_of_the_two_sides() -> None:
    columns = table()
    t, y = columns["temperature"], columns["n_disjoint_graphs"]
    cold = t <= 0.4
    below, above = stats.linregress(t[cold], y[cold]), stats.linregress(t[~cold], y[~cold])
    fit = slope_change(t, y, 0.4)
    assert fit.change == pytest.approx(above.slope - below.slope, rel=1e-9)
    assert fit.coefficients[0] == pytest.approx(below.intercept, rel=1e-9)
    assert fit.coefficients[0] + fit.coefficients[2] == pytest.approx(above.intercept, rel=1e-9)


def test_a_temperature_equal_to_t_g_belongs_to_the_glass() -> None:
    t = np.repeat([0.1, 0.2, 0.3, 0.4], 2)
    y = np.arange(8.0)
    assert slope_change(t, y, 0.2).coefficients == slope_change(t, y, 0.29).coefficients
    assert slope_change(t, y, 0.3) is None  # one temperature above


def test_every_t_g_between_two_temperatures_gives_one_fit() -> None:
    columns = table()
    fits = [slope_change(columns["temperature"], columns["n_bb_edges"], tg) for tg in (0.351, 0.4, 0.449)]
    assert len({fit.coefficients for fit in fits}) == 1


@pytest.mark.parametrize("temperatures", [[0.1], [0.1, 0.2], [0.1, 0.2, 0.3], [0.1, 0.5, 0.6, 0.7]])
def test_two_temperatures_a_side_are_needed(temperatures: list[float]) -> None:
    t = np.repeat(temperatures, 5)
    assert slope_change(t, np.random.default_rng(0).normal(size=len(t)), 0.15) is None


def test_four_points_leave_nothing_for_an_error() -> None:
    assert slope_change([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 4.0, 3.0], 0.25) is None


def test_three_temperatures_do_not_bear_a_square() -> None:
    t = np.repeat([0.1, 0.2, 0.5, 0.6], 4)
    y = np.random.default_rng(0).normal(size=16)
    assert slope_change(t, y, 0.3) is not None
    assert slope_change(t, y, 0.3, square=True) is None


def test_a_constant_has_no_p() -> None:
    fit = slope_change(TEMPERATURES, np.full(12, 5.0), 0.4)
    assert fit.change == 0 and np.isnan(fit.p[3]) and np.isnan(fit.r_squared)


# ------------------------------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("square", [False, True])
def test_resampled_changes_are_those_of_a_fit_to_the_resampled_rows(square: bool) -> None:
    columns = table(n_runs=5)
    t, y = columns["temperature"], columns["n_bb_edges"]
    run = np.unique(columns["run"], return_inverse=True)[1]
    draws = Bootstrap(5, 40, seed=3)
    kept: list[np.ndarray] = []
    draws.interval = lambda samples: kept.append(samples)  # type: ignore[assignment,func-returns-value]
    slope_change(t, y, 0.4, run=run, square=square, bootstrap=draws)
    for counts, found in zip(draws.counts, kept[0], strict=True):
        rows = np.concatenate([np.flatnonzero(run == k) for k in range(5) for _ in range(int(counts[k]))])
        expected = slope_change(t[rows], y[rows], 0.4, square=square).change
        assert found == pytest.approx(expected, rel=1e-7)


def test_draws_are_reproducible_and_balanced() -> None:
    one, same, other = Bootstrap(7, 500, seed=1), Bootstrap(7, 500, seed=1), Bootstrap(7, 500, seed=2)
    assert np.array_equal(one.counts, same.counts) and not np.array_equal(one.counts, other.counts)
    assert (one.counts.sum(axis=1) == 7).all()
    columns = table()
    first, again = analyze(columns, seed=4), analyze(columns, seed=4)
    assert first.messages == again.messages
    for name, rows in first.tables().items():
        assert json.dumps(list(rows.rows())) == json.dumps(list(again.tables()[name].rows()))


def test_intervals_cover_what_they_say_with_few_runs() -> None:
    """Runs whose slopes differ: rows are not independent, and 95 % intervals over 8 runs hold the truth."""
    rng = np.random.default_rng(0)
    n_runs, n_times = 8, 400
    run = np.repeat(np.arange(n_runs), len(TEMPERATURES))
    t = np.tile(TEMPERATURES, n_runs)
    hot = np.maximum(t - 0.4, 0)
    covered = rows_covered = 0
    for k in range(n_times):
        y = 30 * hot + (20 * rng.normal(size=n_runs))[run] * hot + rng.normal(size=len(t))
        fit = slope_change(t, y, 0.4, run=run, bootstrap=Bootstrap(n_runs, 400, seed=k))
        covered += fit.bootstrap.low <= 30 <= fit.bootstrap.high
        rows_covered += abs(fit.change - 30) < stats.t.ppf(0.975, fit.freedom) * fit.errors[3]
    # Three standard deviations of 400 draws of 0.95 are 0.033.
    assert 0.917 <= covered / n_times <= 0.983
    assert rows_covered / n_times < 0.9  # what the t-test takes for granted


def test_p_and_interval_agree() -> None:
    rng = np.random.default_rng(0)
    draws = Bootstrap(10, 3000)
    for shift in (-2.5, -1.0, 0.0, 0.5, 1.9, 2.2, 2.5, 4.0):
        interval = draws.interval(shift + rng.normal(size=3000))
        assert (interval.low > 0 or interval.high < 0) == (interval.p < 0.05)
    assert draws.interval(np.full(3000, 50.0)).p < 0.02


def test_few_runs_are_not_resampled() -> None:
    for n_runs in (1, 2):
        assert Bootstrap(n_runs).counts.shape == (0, n_runs)
    result = analyze(table(n_runs=2), glass_temperature=0.4)
    assert np.isnan(result.metrics["n_bb_edges"].fit.bootstrap.low)
    assert any(message.code == "few-runs" for message in result.messages)


# ------------------------------------------------------------------------------------- two lines


def searched(t: np.ndarray, y: np.ndarray, w: np.ndarray, n: int = 1001) -> tuple[float, float]:
    """Break and sum of squares by trying many breaks."""
    best = (np.nan, np.inf)
    for z in np.linspace(t[1], t[-2], n):
        design = np.column_stack([np.ones_like(t), t, np.maximum(t - z, 0)]) * np.sqrt(w)[:, None]
        left = np.sqrt(w) * y
        squares = ((left - design @ np.linalg.lstsq(design, left, rcond=None)[0]) ** 2).sum()
        if squares < best[1]:
            best = (float(z), float(squares))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_two_lines_are_the_best_of_all_breaks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 2, 7 + seed % 5))
    y = rng.normal(size=len(t)) + seed * np.maximum(t - 1, 0)
    w = rng.uniform(0.5, 3, len(t))
    found = two_lines(t, y, w)
    place, squares = searched(t, y, w)
    assert found.squares <= squares + ROUNDING
    line = found.level + np.where(t < found.temperature, found.below, found.above) * (t - found.temperature)
    assert (w * (y - line) ** 2).sum() == pytest.approx(found.squares, rel=1e-6)  # it is the fit it says
    assert t[1] <= found.temperature <= t[-2]
    assert found.squares == pytest.approx(squares, rel=1e-2) and abs(found.temperature - place) < 0.02


@given(
    place=st.floats(0.12, 0.68), below=st.floats(-50, 50), change=st.floats(1, 100) | st.floats(-100, -1),
    unit=st.sampled_from([1e-3, 1.0, 3000.0]),
)  # fmt: skip
def test_a_break_without_noise_is_found(place: float, below: float, change: float, unit: float) -> None:
    t = TEMPERATURES * unit
    found = two_lines(t, 7 + below * TEMPERATURES + change * np.maximum(TEMPERATURES - place, 0))
    assert found.temperature / unit == pytest.approx(place, rel=1e-6)
    assert found.below * unit == pytest.approx(below, abs=1e-6 * abs(change) + 1e-9)
    assert (found.above - found.below) * unit == pytest.approx(change, rel=1e-6)


def test_many_problems_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=(2, 20, len(TEMPERATURES)))
    w = np.abs(w)
    w[3, [0, 5]] = 0
    w[4, 3:] = 0  # three temperatures
    together = two_lines(TEMPERATURES, y, w)
    for k in range(20):
        kept = w[k] > 0
        if kept.sum() < 4:
            assert np.isnan(together.temperature[k])
            continue
        alone = two_lines(TEMPERATURES[kept], y[k, kept], w[k, kept])
        # Temperatures without weight divide gaps, and breaks may lie in either part.
        assert together.squares[k] == pytest.approx(alone.squares, abs=1e-9)
        assert together.temperature[k] == pytest.approx(alone.temperature, abs=1e-7)


# -------------------------------------------------------------------------------- T_g of the energy


def energies(t: np.ndarray, glass: float = 0.37) -> np.ndarray:
    """A glass, a liquid, and a plateau from T = 1."""
    return -4 + 0.01 * np.minimum(t, glass) + 0.1 * np.clip(t - glass, 0, 1 - glass)


def test_t_g_of_the_energy_whatever_lies_above() -> None:
    t = np.array([*TEMPERATURES, 0.96, 1.25, 1.5, 1.76, 1.99])
    for top in (0.7, 0.8, 0.96, 2.0):
        chosen = t[t <= top]
        found = energy_crossing(chosen, energies(chosen), np.zeros(len(chosen), dtype=int))
        assert found.temperature == pytest.approx(0.37, rel=1e-6)
        assert found.highest == min(top, 0.7) and found.lowest == 0.05
        assert found.lines.below == pytest.approx(0.01) and found.lines.above == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(10))
def test_t_g_of_a_curved_energy_with_noise(seed: int) -> None:
    """As of a real mixture: curved, with a plateau; no wiggle of the glass is taken for T_g."""
    t = np.array([*np.arange(0.05, 0.72, 0.05), 0.8, 0.96, 1.25, 1.5, 1.76, 1.99])
    e = -3.867 + 0.012 * t + 0.09 * (1 - np.exp(-np.maximum(t - 0.35, 0)))
    noise = 0.0012 / np.sqrt(8) * np.random.default_rng(seed).normal(size=len(t))
    found = energy_crossing(t, e + noise, np.zeros(len(t), dtype=int))
    assert found.temperature == pytest.approx(0.35, abs=0.06) and 0.55 < found.highest < 0.85


@pytest.mark.slow
def test_error_of_t_g_is_that_of_repeated_experiments() -> None:
    rng = np.random.default_rng(0)
    t = np.tile(TEMPERATURES, 10)
    run = np.repeat(np.arange(10), len(TEMPERATURES))
    found, errors, covered = [], [], 0
    for k in range(60):
        own = (0.02 * rng.normal(size=10))[run]
        e = energies(t) + 0.001 * rng.normal(size=len(t)) + own * np.minimum(t, 0.37)
        one = energy_crossing(t, e, run, bootstrap=Bootstrap(10, 300, seed=k))
        found.append(one.temperature)
        errors.append(one.interval.error)
        covered += one.interval.low <= 0.37 <= one.interval.high
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.35)
    assert covered >= 52  # 0.95 of 60 less three standard deviations


@pytest.mark.parametrize("values", [TEMPERATURES * 0.1, -(TEMPERATURES**2), np.zeros(12)])
def test_no_t_g_where_the_energy_has_no_such_break(values: np.ndarray) -> None:
    found = energy_crossing(TEMPERATURES, values, np.zeros(12, dtype=int))
    assert found is None or found.lines.above - found.lines.below < 1e-6


# -------------------------------------------------------------------------------------- analysis


def said(result, code: str) -> str:
    """The one message of this code."""
    (found,) = [message for message in result.messages if message.code == code]
    return found


def codes(result) -> set[str]:
    return {message.code for message in result.messages}


def test_means_and_errors_are_over_runs() -> None:
    columns = table(n_runs=4)
    twice = {name: np.concatenate([values, values[:12]]) for name, values in columns.items()}
    twice["n_bb_edges"][-12:] += 3  # run 0 has two rows at every temperature
    rows = list(analyze(twice).tables()["means"].rows())
    own = columns["n_bb_edges"].reshape(4, 12).copy()
    own[0] += 1.5
    for k, row in enumerate(rows):
        assert row["temperature"] == TEMPERATURES[k] and row["runs"] == 4
        assert row["n_bb_edges"] == pytest.approx(own[:, k].mean())
        assert row["n_bb_edges ±"] == pytest.approx(own[:, k].std(ddof=1) / 2)
        assert row["bb_edges_per_particle"] == pytest.approx(own[:, k].mean() / 1000)


def test_sentences_follow_the_numbers() -> None:
    result = analyze(table(energy=True))
    assert result.origin == "inherent energy" and result.glass_temperature == pytest.approx(0.37, abs=0.02)
    assert "0.37" in said(result, "glass-temperature")
    assert all(metric.title in said(result, "falls-on-cooling") for metric in result.metrics.values())
    steeper = said(result, "steeper-above")
    assert "isolated A" not in steeper and "disjoint graphs" in steeper and "B–B edges" in steeper
    assert "isolated A" in said(result, "no-change-of-slope")
    # A parabola passes everywhere, and a T^2 term takes all of it; a kink stays.
    assert "B–B edges" in said(result, "passed-elsewhere")
    assert "B–B edges" in said(result, "curvature-explains")
    assert "disjoint graphs" in said(result, "kink-beyond-curvature")
    assert "B–B edges" in said(result, "parabola-fits-better")
    kink = result.metrics["n_disjoint_graphs"].break_
    assert kink.interval.low < 0.4 < kink.interval.high
    assert kink.lines.temperature == pytest.approx(0.4, abs=0.05)


def test_the_other_way_and_rising_are_said() -> None:
    columns = table(noise=0.1)
    columns["n_disjoint_graphs"] = -columns["n_disjoint_graphs"] + 200
    result = analyze(columns, glass_temperature=0.4)
    assert "disjoint graphs" in said(result, "flatter-above")
    assert re.search(r"\S+ ± \S+ from T = 0.8 to 0.05", said(result, "rises-on-cooling"))


def test_rows_and_runs_may_disagree() -> None:
    columns = table(n_runs=6, noise=0.01)
    hot = np.maximum(columns["temperature"] - 0.4, 0)
    own = np.repeat([60.0, -40, 55, -35, 50, 30], 12)  # mean 20 ± 19 over runs
    columns["n_isolated_a"] = columns["n_isolated_a"] + own * hot
    often = {name: np.tile(values, 5) for name, values in columns.items()}  # five frames of each
    result = analyze(often, glass_temperature=0.4)
    fit = result.metrics["n_isolated_a"].fit
    assert fit.p[3] < 0.01 and fit.bootstrap.p > 0.1
    assert "isolated A" in said(result, "rows-and-runs-disagree")


def test_without_t_g_there_is_the_scan() -> None:
    result = analyze(table())
    assert result.origin == "" and np.isnan(result.glass_temperature)
    assert "regression" not in result.tables() and len(result.tables()["scan"]) == 3 * 9
    assert "no-regression" in codes(result)
    somewhere = [message for message in result.messages if message.code == "steeper-somewhere"]
    assert any(message.startswith("Disjoint graphs") for message in somewhere)


def test_a_given_t_g_beside_that_of_the_energy() -> None:
    far = analyze(table(energy=True), glass_temperature=0.55)
    assert far.origin == "given"
    assert "0.55" in said(far, "glass-temperatures-differ")
    near = analyze(table(energy=True), glass_temperature=0.4)
    assert "glass-temperatures-differ" not in codes(near)


def test_one_temperature() -> None:
    result = analyze(table(temperatures=np.array([0.5])), glass_temperature=0.4)
    assert set(result.tables()) == {"means"}
    assert codes(result) == {"one-temperature"} and "0.5" in result.messages[0]


def test_two_temperatures_give_means_but_no_test() -> None:
    result = analyze(table(temperatures=np.array([0.1, 0.7])), glass_temperature=0.4)
    assert set(result.tables()) == {"means"}
    assert said(result, "few-temperatures").startswith("There is 1 temperature")
    assert "falls-on-cooling" in codes(result)


def test_t_g_outside_of_the_temperatures() -> None:
    result = analyze(table(), glass_temperature=3.0)
    assert said(result, "few-temperatures").startswith("There are no temperatures above T_g = 3")


def test_one_run() -> None:
    result = analyze(table(n_runs=1), glass_temperature=0.4)
    assert "one-run" in codes(result)
    assert np.isnan(result.metrics["n_bb_edges"].error).all()
    assert result.metrics["n_disjoint_graphs"].fit.p[3] < 0.05


def test_rows_without_temperature_or_numbers_are_left_out() -> None:
    columns = table()
    columns["temperature"][[0, 5]] = np.nan
    columns["n_bb_edges"][30] = np.nan
    result = analyze(columns, glass_temperature=0.4)
    assert said(result, "rows-without-temperature").startswith("2 of 96 rows")
    missing = said(result, "rows-without-metric")
    assert missing.startswith("1 of 94 rows") and "B–B edges" in missing
    kept = np.isfinite(columns["temperature"]) & np.isfinite(columns["n_bb_edges"])
    expected = slope_change(columns["temperature"][kept], columns["n_bb_edges"][kept], 0.4)
    assert result.metrics["n_bb_edges"].fit.coefficients == pytest.approx(expected.coefficients)
    assert result.metrics["n_bb_edges"].fit.n_rows == 93


def test_runs_that_are_not_independent_or_not_alike() -> None:
    seeds, steps = np.repeat([1, 2, 3, 4, 5, 6, 7, 3], 12), np.repeat([20000] * 4 + [200000] * 4, 12)
    result = analyze(table(seed=0) | {"seed": seeds, "cooling_steps": steps})
    assert said(result, "same-seed").startswith("run 2 and run 7")
    assert "20000 to 200000 steps" in said(result, "cooling-rates-differ")


def test_temperatures_that_no_two_runs_share() -> None:
    columns = table(n_runs=5)
    columns["temperature"] = columns["temperature"] + np.random.default_rng(0).normal(size=60) * 1e-3
    result = analyze(columns, glass_temperature=0.4)
    assert "no-shared-temperature" in codes(result)
    assert result.metrics["n_disjoint_graphs"].fit.bootstrap.low > 0


@pytest.mark.slow
def test_very_many_temperatures_are_put_into_groups() -> None:
    t = np.linspace(0.05, 0.8, 500)
    result = analyze(table(temperatures=t), glass_temperature=0.4)
    assert "500 different temperatures" in said(result, "temperatures-grouped")
    assert len(result.temperature) == 60 and result.metrics["n_bb_edges"].n_runs.tolist() == [8] * 60
    assert result.metrics["n_disjoint_graphs"].fit.change == pytest.approx(90, rel=0.05)


def test_different_numbers_of_particles() -> None:
    columns = table(noise=0)
    columns["n_atoms"] = np.repeat([500, 1500], 48)
    for name in METRICS:
        columns[name] = columns[name] * columns["n_atoms"] / 1000
    result, same = analyze(columns), analyze(table(noise=0))
    assert "500 to 1500 particles" in said(result, "sizes-differ")
    for name in METRICS:
        assert result.metrics[name].mean == pytest.approx(same.metrics[name].mean)
        assert np.allclose(result.metrics[name].error, 0, atol=1e-9)


def test_minimized_frames_without_bb_edges() -> None:
    columns = table()
    columns["n_bb_edges"] = np.zeros(96)
    result = analyze(columns, glass_temperature=0.4)
    assert said(result, "no-bb-edges").startswith("100%")
    assert "B–B edges" in said(result, "constant-metric")
    assert "B–B edges" in said(result, "constant-on-cooling")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_bb_edges": None}, "no column 'n_bb_edges'"),
        ({"temperature": np.full(96, np.nan)}, "No row .* has a temperature"),
        ({"temperature": np.tile([0.0, *TEMPERATURES[1:]], 8)}, "above 0, found 0"),
        ({"n_isolated_a": np.full(96, np.nan)}, "number in the column 'n_isolated_a'"),
        ({"n_isolated_a": np.zeros(5)}, "equal lengths, but run has 96 rows"),
        ({"n_atoms": np.zeros(96)}, "number of atoms above 0"),
    ],
)
def test_bad_tables(change: dict[str, object], words: str) -> None:
    columns = {name: values for name, values in (table() | change).items() if values is not None}
    with pytest.raises(ValueError, match=words):
        analyze(columns)


@pytest.mark.parametrize("tg", [0.0, -1.0, np.nan, np.inf])
def test_bad_t_g(tg: float) -> None:
    with pytest.raises(ValueError, match="positive temperature"):
        analyze(table(), glass_temperature=tg)


def test_the_order_of_rows_and_the_names_of_runs_do_not_matter() -> None:
    columns = table()
    order = np.random.default_rng(0).permutation(96)
    one = analyze(columns, glass_temperature=0.4)
    other = analyze({name: v[order] for name, v in columns.items()}, glass_temperature=0.4)
    assert one.metrics["n_bb_edges"].fit.bootstrap == pytest.approx(other.metrics["n_bb_edges"].fit.bootstrap)
    assert one.messages == other.messages


def test_scan_is_the_test_at_every_temperature() -> None:
    columns = table()
    fits = break_scan(columns["temperature"], columns["n_bb_edges"])
    assert [round(fit.glass_temperature, 4) for fit in fits] == pytest.approx(
        (TEMPERATURES[1:-2] + TEMPERATURES[2:-1]) / 2
    )
    for fit in fits:
        alone = slope_change(columns["temperature"], columns["n_bb_edges"], fit.glass_temperature)
        assert fit.coefficients == alone.coefficients


# ---------------------------------------------------------------------------------------- report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "tg", "n_figures"),
    [
        (table(n_runs=1), 0.4, 2),
        (table(n_runs=2, noise=0.0), None, 2),
        (table(temperatures=np.array([0.5])), 0.4, 1),
        (table(temperatures=np.array([0.1, 0.7]), energy=True), 0.4, 2),
        (table() | {"n_bb_edges": np.zeros(96)}, 3.0, 2),
        (
            table() | {"temperature": np.where(np.arange(96) % 12 == 3, np.nan, table()["temperature"])},
            0.4,
            2,
        ),
    ],
)
def test_figures_are_drawn_of_any_table(columns: dict[str, np.ndarray], tg: float, n_figures: int) -> None:
    drawn = [
        png(figure, dpi=30) for _, _, figure in transition_figures(analyze(columns, glass_temperature=tg))
    ]
    assert len(drawn) == n_figures and all(picture.startswith(b"\x89PNG") for picture in drawn)


@pytest.mark.slow
def test_report_of_an_energy_without_t_g(tmp_path: Path) -> None:
    columns = table()
    columns["inherent_energy"] = -4 - columns["temperature"] ** 2
    result = analyze(columns)
    assert "no-glass-temperature" in codes(result) and "energy" not in result.tables()
    page = write_transition(tmp_path, result, Table("Rows", columns), source="files", settings={})
    assert 'id="energy"' in page.read_text("utf-8")


@pytest.mark.slow
def test_report_is_one_page_with_its_files(tmp_path: Path) -> None:
    columns = table(energy=True)
    result = analyze(columns)
    page = write_transition(
        tmp_path / "r", result, Table("Rows", columns), source="<8 files>", settings={"k": 2}
    )
    text = page.read_text("utf-8")
    assert "&lt;8 files&gt;" in text and text.count("<img") == 3 and "http" not in text
    for sentence in result.messages:
        assert sentence.replace("'", "&#x27;").replace(">", "&gt;") in text
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert {"metrics.png", "energy.png", "scan.png", "frames.csv", "means.csv", "tables.json"} <= names
