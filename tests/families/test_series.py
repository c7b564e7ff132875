"""Errors of correlated means, the summary of a trajectory, the scan of boundary widths."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from phaseseg.families.segmentation.trajectory_statistics import (
    BoundaryScan,
    Summary,
    best_boundary_width,
    block_error,
    boundary_sentence,
)
from phaseseg.fields import Fields, Table
from phaseseg.frame import Frame

ROUNDING = 1e-10

# --------------------------------------------------------------------------------- block errors


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


# -------------------------------------------------------------------------------------- summary


def labeled(k: int, *, n_phases: int = 2, messages: tuple[str, ...] = (), **more: Any) -> Fields:
    """Fields of frame k with numbers that are easy to average."""
    rich, poor = 90.0 + k, 8.0 - k
    composition = Table(
        "Composition",
        {
            "phase": np.array(["rich", "poor", "boundary", "all"]),
            "atoms": np.array([30, 60, 0, 90]),
            "mass fraction": np.array([0.5, 0.5, 0.0, 1.0]),
            "Fe (wt%)": np.array([rich, poor, np.nan, 50.0]),
            "O (wt%)": np.array([10.0 - k, 92.0 + k, np.nan, 50.0]),
        },
    )
    partition = Table(
        "Partition",
        {
            "element": np.array(["Fe", "O"]),
            "D (wt)": np.array([rich / poor, (10.0 - k) / (92.0 + k)]),
        },
    )
    proxigram = Table(
        "Proxigram",
        {
            "distance (Å)": np.array([-1.0, 0.0, 1.0][: 3 - k % 2]),
            "atoms": np.array([10, 20, 0 if k == 0 else 30][: 3 - k % 2]),
            "Fe (at%)": np.array([5.0 + k, 50.0, 95.0][: 3 - k % 2]),
        },
    )
    return Fields(
        {"n_phases": n_phases, "phase_contrast": 5.0 + k, "composition": composition,
         "partition": partition, "proxigram": proxigram, **more},
        messages,
    )  # fmt: skip


def frame(k: int) -> Frame:
    return Frame(np.zeros((2, 3)), np.eye(3) * 9, True, ["Fe", "O"], timestep=10 * k, time=0.01 * k)


def summary_of(*results: Fields) -> Summary:
    summary = Summary()
    for k, fields in enumerate(results):
        summary.add(frame(k), fields)
    return summary


def row(table: Table, key: str, name: str) -> dict[str, Any]:
    return next(row for row in table.rows() if row[key] == name)


def test_composition_is_the_mean_over_frames_with_its_error() -> None:
    table = summary_of(labeled(0), labeled(2)).tables()["composition"]
    rich = row(table, "phase", "rich")
    assert rich["Fe (wt%)"] == 91 and rich["Fe (wt%) ±"] == pytest.approx(1.0)
    assert rich["frames"] == 2 and rich["atoms"] == 30
    assert [r["phase"] for r in table.rows()] == ["rich", "poor", "all"]  # no atom in the boundary


def test_phases_are_averaged_over_frames_of_two_phases_and_all_over_every_frame() -> None:
    table = summary_of(labeled(0), labeled(1, n_phases=1), labeled(2)).tables()["composition"]
    assert row(table, "phase", "rich")["frames"] == 2
    assert row(table, "phase", "rich")["Fe (wt%)"] == 91
    assert row(table, "phase", "all")["frames"] == 3


def test_one_phase_throughout_leaves_the_composition_of_all() -> None:
    tables = summary_of(labeled(0, n_phases=1), labeled(1, n_phases=1)).tables()
    assert list(tables["composition"].columns["phase"]) == ["all"]
    assert "partition" not in tables
    share = row(tables["scalars"], "name", "two_phase_share")
    assert share["mean"] == 0 and share["mean ±"] == 0


def test_partition_has_the_mean_of_ratios_and_the_ratio_of_means() -> None:
    fe = row(summary_of(labeled(0), labeled(2)).tables()["partition"], "element", "Fe")
    assert fe["D (wt)"] == pytest.approx((90 / 8 + 92 / 6) / 2)
    assert fe["D (wt) of means"] == pytest.approx(91 / 7)
    # Linear propagation for two frames: half the difference of the residuals over the mean of b.
    residuals = (np.array([90, 92]) - 13 * np.array([8, 6])) / 7
    assert fe["D (wt) of means ±"] == pytest.approx(abs(np.diff(residuals)[0]) / 2)


def test_contents_are_weighted_by_the_mass_in_the_phase() -> None:
    results = [labeled(0), labeled(2)]
    results[1]["composition"].columns["mass fraction"][0] = 0.25
    tables = summary_of(*results).tables()
    rich = row(tables["composition"], "phase", "rich")
    mean = (0.5 * 90 + 0.25 * 92) / 0.75
    assert rich["Fe (wt%)"] == pytest.approx(mean)
    pulls = np.array([0.5 * (90 - mean), 0.25 * (92 - mean)]) / 0.375
    assert rich["Fe (wt%) ±"] == pytest.approx(abs(np.diff(pulls)[0]) / 2)
    assert row(tables["partition"], "element", "Fe")["D (wt) of means"] == pytest.approx(mean / 7)


def test_an_element_that_the_poor_phase_of_one_frame_lacks_makes_the_mean_coefficient_infinite() -> None:
    results = [labeled(0), labeled(2)]
    results[0]["partition"].columns["D (wt)"][0] = np.inf
    fe = row(summary_of(*results).tables()["partition"], "element", "Fe")
    assert fe["D (wt)"] == np.inf and np.isnan(fe["D (wt) ±"])
    assert fe["D (wt) of means"] == pytest.approx(13)


def test_a_single_frame_has_values_without_errors() -> None:
    tables = summary_of(labeled(0)).tables()
    rich = row(tables["composition"], "phase", "rich")
    assert rich["Fe (wt%)"] == 90 and np.isnan(rich["Fe (wt%) ±"])
    assert row(tables["scalars"], "name", "phase_contrast")["mean"] == 5
    assert len(tables["time_series"]) == 1


def test_time_series_has_a_row_a_frame() -> None:
    columns = summary_of(labeled(0), labeled(1)).tables()["time_series"].columns
    assert columns["timestep"].tolist() == [0, 10] and columns["timestep"].dtype.kind == "i"
    assert columns["time (ps)"].tolist() == [0, 0.01]
    assert columns["n_phases"].tolist() == [2, 2]
    assert columns["rich Fe (wt%)"].tolist() == [90, 91]


def test_proxigram_weights_frames_by_their_atoms_and_joins_their_ranges() -> None:
    columns = summary_of(labeled(0), labeled(1), labeled(2)).tables()["proxigram"].columns
    assert columns["distance (Å)"].tolist() == [-1, 0, 1]
    assert columns["Fe (at%)"].tolist() == pytest.approx([6, 50, 95])  # frame 0 has no atom at 1 Å
    assert columns["atoms"].tolist() == pytest.approx([10, 20, 10])
    assert columns["Fe (at%) ±"][0] == pytest.approx(1 / np.sqrt(3))


def test_nothing_added_gives_no_tables() -> None:
    assert Summary().tables() == {}
    assert Summary().messages == ()


def test_sentences_that_differ_in_numbers_are_told_once() -> None:
    one = summary_of(labeled(0, messages=("The cuts differ by 12.5 %.",)))
    assert one.messages == ("The cuts differ by 12.5 %.",)
    two = summary_of(*(labeled(k, messages=(f"The cuts differ by {k}.5 %.", "Other.")) for k in range(2)))
    assert two.messages == (
        "2 of 2 frames, the first: The cuts differ by 0.5 %.",
        "2 of 2 frames, the first: Other.",
    )


def test_few_independent_frames_are_told() -> None:
    drifting = summary_of(*(labeled(k % 3, rich_mass_fraction=0.01 * k) for k in range(40)))
    assert "independent" in drifting.messages[-1]
    rng = np.random.default_rng(0)
    white = summary_of(*(labeled(k % 3, rich_mass_fraction=rng.random()) for k in range(200)))
    assert white.messages == ()


# ------------------------------------------------------------------------------- boundary width


def test_boundary_scan_counts_what_lies_deeper_than_half_the_width() -> None:
    rng = np.random.default_rng(3)
    widths = np.array([0.0, 1.0, 2.5, 30.0])
    scan = BoundaryScan(("Fe",), widths)
    contents = []
    for _ in range(3):
        n = 400
        atoms = Frame(rng.random((n, 3)) * 9, np.eye(3) * 9, True, rng.choice(["Fe", "O"], n))
        distance = rng.normal(0, 2, n)
        distance[:5] = np.nan
        scan.add(atoms, Fields({"interface_distance": distance.astype(np.float32)}))
        mass = np.where(atoms.species_mask("Fe"), 55.845, 15.999)
        found = []
        for width in widths:
            rich = distance.astype(np.float32) > width / 2
            fe = rich & atoms.species_mask("Fe")
            found.append(100 * mass[fe].sum() / mass[rich].sum() if rich.any() else np.nan)
        contents.append(found)
    columns = scan.table().columns
    assert_allclose(columns["Fe (wt%)"], np.mean(contents, axis=0), rtol=1e-10)
    assert_allclose(columns["variance of Fe (wt%^2)"], np.var(contents, axis=0, ddof=1), rtol=1e-8)
    assert columns["frames"].tolist() == [3, 3, 3, 0]
    best = best_boundary_width(scan.table())
    assert best == widths[np.argmin(np.var(contents, axis=0, ddof=1)[:3])]


def test_boundary_sentence_names_the_widths_that_are_not_told_apart() -> None:
    scan = BoundaryScan(("Fe",), [0.0, 1.0, 2.0])
    for iron in (0.2, 0.4, 0.3):  # 0 and 1 Å are alike, 2 Å varies more
        scan._contents.append(np.array([iron, iron + 0.01, 3 * iron]))
    assert boundary_sentence(scan.table()) == (
        "The content of the rich phase varies least at a boundary width of 0.00 Å; "
        "3 frames do not tell it from 1.00 Å."
    )
    assert "Too few frames" in boundary_sentence(BoundaryScan(("Fe",)).table())


def test_boundary_scan_without_enough_frames_chooses_nothing() -> None:
    scan = BoundaryScan(("Fe",))
    scan.add(frame(0), Fields({"interface_distance": np.full(2, np.nan)}))  # one phase
    assert best_boundary_width(scan.table()) is None
    scan.add(frame(0), Fields({"interface_distance": np.array([1.0, -1.0])}))
    assert best_boundary_width(scan.table()) is None
    assert scan.table().columns["frames"].tolist() == [1] * 6 + [0] * 7


@pytest.mark.parametrize("widths", [[], [-1.0], [[1.0, 2.0]], [np.nan]])
def test_boundary_scan_refuses_bad_widths(widths: list[float]) -> None:
    with pytest.raises(ValueError, match="widths must be lengths"):
        BoundaryScan(("Fe",), widths)


def test_boundary_scan_needs_elements() -> None:
    atoms = Frame(np.zeros((1, 3)), np.eye(3), True, ["Xx1"])
    with pytest.raises(ValueError, match="Xx1 are not all elements of known mass"):
        BoundaryScan(("Xx1",)).add(atoms, Fields({"interface_distance": np.array([1.0])}))
