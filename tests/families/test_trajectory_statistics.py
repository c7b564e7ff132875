"""The summary of a trajectory, and the scan of boundary widths."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg import label_phases
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.trajectory_statistics import (
    BoundaryScan,
    TrajectorySummary,
    best_boundary_width,
    boundary_message,
    summarize,
)
from phaseseg.fields import Column, Fields, Message, Table, plain
from phaseseg.frame import Frame

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
            Column("Fe", "wt%"): np.array([rich, poor, np.nan, 50.0]),
            Column("O", "wt%"): np.array([10.0 - k, 92.0 + k, np.nan, 50.0]),
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
            "volume (Å^3)": np.array([100.0, 100.0 + 100 * k, 300.0][: 3 - k % 2]),
            Column("Fe", "at%"): np.array([5.0 + k, 50.0, 95.0][: 3 - k % 2]),
            Column("Fe", "Å^-3"): np.array([0.01, 0.02 + 0.01 * k, 0.05][: 3 - k % 2]),
        },
    )
    return Fields(
        {"n_phases": n_phases, "phase_contrast": 5.0 + k, "composition": composition,
         "partition": partition, "proxigram": proxigram, **more},
        messages,
    )  # fmt: skip


def frame(k: int) -> Frame:
    return Frame(np.zeros((2, 3)), np.eye(3) * 9, True, ["Fe", "O"], timestep=10 * k, time=0.01 * k)


def summary_of(*results: Fields) -> TrajectorySummary:
    summary = TrajectorySummary()
    for k, fields in enumerate(results):
        summary.add(frame(k), fields)
    return summary


def row(table: Table, key: str, name: str) -> dict[str, Any]:
    return next(row for row in table.rows() if row[key] == name)


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["Cr", "Xx"])
@pytest.mark.parametrize("in_frames", [(1,), (0,), (0, 2)])
def test_a_species_of_some_frames_counts_as_absent_in_the_others(
    sphere_frame: Frame, foreign: str, in_frames: tuple[int, ...]
) -> None:
    """It makes no difference whether a frame lists species that it does not contain."""
    listed, present = TrajectorySummary(), TrajectorySummary()
    names = [*sphere_frame.species_names, foreign]
    symbols = np.array(names)[sphere_frame.species]
    for k in range(3):
        here = np.where((np.arange(len(symbols)) % 9 == k) & (k in in_frames), foreign, symbols)
        for summary, known in ((listed, names), (present, [name for name in names if name in here])):
            one = sphere_frame.replace(species=here, species_names=tuple(known))
            summary.add(one, label_phases(one))
    expected, tables = listed.tables(), present.tables()
    assert f"{foreign} (at%)" in expected["composition"].columns and set(tables) == set(expected)
    for name, table in expected.items():
        found = tables[name]
        assert set(found.columns) == set(table.columns), name
        if name == "partition":
            table, found = (
                Table.of_rows("", sorted(one.rows(), key=lambda r: r["element"])) for one in (table, found)
            )
        for column, values in table.columns.items():
            np.testing.assert_array_equal(found.columns[column], values, err_msg=f"{name} {column}")
    shown = [text.headings for text in present.shown()]
    assert any(foreign in " ".join(headings) for headings in shown)


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
    # Densities are weighted by the volume.
    assert columns["volume (Å^3)"].tolist() == pytest.approx([100, 200, 200])
    assert columns["Fe (Å^-3)"][1] == pytest.approx((0.02 + 2 * 0.03 + 3 * 0.04) / 6)


def test_nothing_added_gives_no_tables() -> None:
    assert TrajectorySummary().tables() == {}
    assert TrajectorySummary().messages == ()


def test_messages_of_a_code_are_said_once() -> None:
    def messages(k: int) -> tuple[Message, ...]:
        return Message(f"The cuts differ by {k}.5 %.", "cuts-differ"), Message("Other.", "other")

    one = summary_of(labeled(0, messages=messages(0)))
    assert one.messages == messages(0)
    two = summary_of(*(labeled(k, messages=messages(k)) for k in range(2)))
    assert [message.code for message in two.messages] == ["cuts-differ", "other"]
    assert two.messages[0].startswith("The cuts differ by 0.5 %.") and two.messages[1] == "Other."


def test_few_independent_frames_are_reported() -> None:
    drifting = summary_of(*(labeled(k % 3, rich_mass_fraction=0.01 * k) for k in range(40)))
    assert [message.code for message in drifting.messages] == ["few-independent-frames"]
    rng = np.random.default_rng(0)
    white = summary_of(*(labeled(k % 3, rich_mass_fraction=rng.random()) for k in range(200)))
    assert white.messages == ()


def test_what_a_terminal_shows_is_the_composition_in_both_units() -> None:
    summary = TrajectorySummary(source="run.dump")
    for k in (0, 2):
        summary.add(frame(k), labeled(k))
    (shown,) = summary.shown()  # these tables have no at%
    assert "run.dump" in shown.title and list(shown.headings) == ["phase", "share of mass", "Fe", "O"]
    assert list(shown.rows[0]) == ["rich", "0.500", "91.0 ± 1.0", "9.0 ± 1.0"]
    assert len(shown.styles) == len(shown.rows)


def test_summarize_labels_by_a_rule_or_by_options(slab_frame: Frame) -> None:
    frames = [slab_frame, slab_frame.replace(positions=slab_frame.positions + 0.1)]
    summary = summarize(frames, species="Fe", sigma=2.0)
    assert len(summary) == 2 and summary.rule == LabelRule(species=("Fe",), sigma=2.0).fixed()
    same = summarize(frames, LabelRule(("Fe",), sigma=2.0))
    assert plain(same.tables()) == plain(summary.tables())
    with pytest.raises(TypeError, match="not both"):
        summarize(frames, LabelRule(), sigma=2.0)


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


def test_the_message_names_the_widths_that_cannot_be_distinguished() -> None:
    scan = BoundaryScan(("Fe",), [0.0, 1.0, 2.0])
    for iron in (0.2, 0.4, 0.3):  # 0 and 1 Å are alike, 2 Å varies more
        scan._contents.extend([iron, iron + 0.01, 3 * iron])
    message = boundary_message(scan.table())
    assert message.code == "boundary-width"
    assert " 0.00 Å" in message and "3 frames" in message and " 1.00 Å" in message and "2.00" not in message
    assert boundary_message(BoundaryScan(("Fe",)).table()).code == "no-boundary-width"


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
    with pytest.raises(ValueError, match="Xx1 are elements with a known mass"):
        BoundaryScan(("Xx1",)).add(atoms, Fields({"interface_distance": np.array([1.0])}))
