"""Evaluation of predicted mobilities: correlations by counting, ceilings, coverage, tables and figures."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose

from mobility_samples import liquid as sample, random_checkpoint
from phaseseg import load_model
from phaseseg.families.mobility.comparison import targets_of
from phaseseg.families.mobility.evaluation import evaluate
from phaseseg.families.mobility.evaluation_figures import evaluation_figures, slab
from phaseseg.families.mobility.model import Target
from phaseseg.families.mobility.rules import MobilityRule
from phaseseg.families.mobility.scores import (
    ceiling,
    coverage,
    errors_by_uncertainty,
    mean_and_deviation,
    pearson,
    percentiles,
    reliability,
)
from phaseseg.families.mobility.structure import structure_of
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame


def liquid(seed, n=200, runs=32, noise=0.3, times=()):
    """Particles whose propensity is known: a smooth truth, and means over `runs` noisy runs."""
    rng = np.random.default_rng(seed)
    box = (n / 1.2) ** (1 / 3)
    species = (np.arange(n) >= 0.8 * n).astype(np.int32)
    truth = rng.gamma(4, 0.1, n) * np.where(species, 2.0, 1.0) + 0.1 * seed
    each = truth + rng.normal(0, noise, (runs, n))
    halves = each.reshape(2, -1, n).mean(axis=1).T
    fields = {"propensity": each.mean(axis=0), "propensity_half": halves, "truth": truth}
    fields |= {f"propensity_{k}": time * truth + rng.normal(0, 0.3, n) for k, time in enumerate(times)}
    info = {"propensity_time": 16.5} | {f"propensity_{k}_time": time for k, time in enumerate(times)}
    return Frame(
        rng.uniform(0, box, (n, 3)), np.eye(3) * box, True, species, ("A", "B"), units="lj", fields=fields,
        info=info, source=f"config {seed}",
    )  # fmt: skip


class Stub:
    """A model that knows the truth up to noise and a factor.

    stated : its uncertainty; time : of its only target; types : that it was trained on
    """

    name = "mobility/stub"

    def __init__(self, noise=0.0, scale=1.0, stated=0.1, times=(16.5,), types=("A", "B")):
        self.noise, self.scale, self.stated = noise, scale, stated
        self.targets = [Target("propensity", time, types, ((1.0, 0.0),) * len(types)) for time in times]

    def rule(self, **options):
        return MobilityRule(**options)

    def target_of(self, rule):
        return next((one for one in self.targets if one.time == rule.time), self.targets[0])

    def structure(self, frame, rule, *, cage):
        return structure_of(frame, temperature=rule.temperature, cage=cage)

    def run(self, frame, rule, *, device="auto"):
        rng = np.random.default_rng(len(frame))
        mean = self.scale * frame.fields["truth"] + rng.normal(0, self.noise, len(frame))
        return SimpleNamespace(mean=mean, codes=frame.species)

    def fields(self, frame, output, rule):
        scale = 1.0 if rule.time is None else rule.time / 16.5
        values = {
            "propensity": scale * output.mean,
            "propensity_uncertainty": np.full(len(frame), self.stated),
        }
        return Fields(values, [Message("Outside of the temperatures of the training.", "outside")])


# ------------------------------------------------------------------------------------------ scores


def test_the_correlation_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    assert pearson(x, -3 * x + 2) == pytest.approx(-1)
    assert np.isnan([pearson([1.0], [2.0]), pearson(np.ones(5), x[:5]), pearson([], [])]).all()


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_correlation_ignores_scale_and_offset(seed, scale, offset):
    x, y = np.random.default_rng(seed).normal(size=(2, 30))
    assert_allclose(pearson(scale * x + offset, y), pearson(x, y), atol=1e-10)


def test_the_ceiling_is_what_a_perfect_prediction_reaches():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=20_000)
    each = truth + rng.normal(0, 2.0, (32, len(truth)))
    first, second = each[:16].mean(axis=0), each[16:].mean(axis=0)
    assert ceiling(first, second) == pytest.approx(pearson(truth, each.mean(axis=0)), abs=0.01)
    assert reliability(first, second) == pytest.approx(1 / (1 + 4 / 32), abs=0.01)
    # The published example of a split half: .738 for 16 against 16 runs.
    x, e = rng.normal(size=(2, 400_000))
    half = 0.738 * x + np.sqrt(1 - 0.738**2) * e
    assert reliability(x, half) == pytest.approx(0.849, abs=2e-3) and ceiling(x, half) == pytest.approx(
        0.92, abs=5e-3
    )
    assert np.isnan(ceiling([1.0, 2, 3], [3.0, 2, 1]))


def test_coverage_counts_targets_inside_of_intervals():
    rng = np.random.default_rng(2)
    mean, width = rng.normal(size=20_000), rng.uniform(0.5, 2, 20_000)
    target = mean + width * rng.normal(size=20_000)
    levels = [0.5, 0.9]
    assert_allclose(coverage(target, mean, width, levels), levels, atol=0.01)
    assert (coverage(target, mean, 0.5 * width, levels) < [0.3, 0.7]).all()
    assert coverage([1.6, 1.7], [0.0, 0.0], [1.0, 1.0], [0.9]).tolist() == [0.5]  # 1.645
    assert np.isnan(coverage([], [], [], levels)).all()


def test_errors_in_bins_follow_the_uncertainty():
    rng = np.random.default_rng(3)
    width = rng.uniform(0.5, 2, 40_000)
    stated, found = errors_by_uncertainty(width * rng.normal(size=40_000), np.zeros(40_000), width)
    assert len(stated) == 10 and (np.diff(stated) > 0).all()
    assert_allclose(found, stated, rtol=0.05)
    one = errors_by_uncertainty([3.0, 4.0], [0.0, 0.0], [2.0, 2.0])
    assert_allclose(one, [[2.0], [np.sqrt(12.5)]])
    assert errors_by_uncertainty([], [], [])[0].shape == (0,)


def test_means_leave_undefined_systems_out():
    assert mean_and_deviation([1.0, np.nan, 3.0]) == (2.0, pytest.approx(np.sqrt(2)))
    assert np.isnan(mean_and_deviation([np.nan])).all() and np.isnan(mean_and_deviation([1.0])[1])


# ------------------------------------------------------------------------------------- evaluation


def naive_rows(frames, model):
    """Mean over systems of the correlation of each type, and the correlation of all particles together."""
    for code, name in enumerate("AB"):
        rho, top, all_y, all_p = [], [], [], []
        for frame in frames:
            own = frame.species == code
            y, p = frame.fields["propensity"][own], model.run(frame, {}).mean[own]
            first, second = frame.fields["propensity_half"][own].T
            r = np.corrcoef(first, second)[0, 1]
            rho.append(np.corrcoef(y, p)[0, 1])
            top.append(np.sqrt(2 * r / (1 + r)))
            all_y, all_p = [*all_y, *y], [*all_p, *p]
        yield name, rho, np.array(rho) / top, np.corrcoef(all_y, all_p)[0, 1]


def test_scores_are_means_over_systems():
    frames, model = [liquid(seed) for seed in (1, 2, 3)], Stub(noise=0.2)
    result = evaluate({"a": frames[:2], "b": frames[2:]}, model)
    assert len(result) == 3 and [row["run"] for row in result.systems] == ["a", "a", "b"]
    rows = list(result.score_table().rows())
    assert [row["type"] for row in rows] == ["A", "B"] and {row["time"] for row in rows} == {16.5}
    for row, (name, rho, part, pooled) in zip(rows, naive_rows(frames, model), strict=True):
        assert row["type"] == name
        assert_allclose([row["rho"], row["rho ±"]], [np.mean(rho), np.std(rho, ddof=1)], rtol=1e-10)
        assert row["rho / ceiling"] == pytest.approx(np.mean(part))
        assert row["rho, all particles pooled"] == pytest.approx(pooled)
        # Systems differ in their means, so pooling looks better.
        assert row["rho, all particles pooled"] > row["rho"]
    assert {message.code for message in result.messages} == {"outside"}


def test_a_perfect_prediction_is_at_the_ceiling():
    frames = [liquid(seed, n=4000, noise=1.0) for seed in (1, 2)]
    result = evaluate({"run": frames}, Stub(stated=1 / np.sqrt(32)))
    for row in result.score_table().rows():
        assert row["rho / ceiling"] == pytest.approx(1, abs=0.02) and row["rho"] < 0.96
        assert row["inside 90% intervals"] == pytest.approx(0.9, abs=0.02)
        assert row["rms error"] == pytest.approx(1 / np.sqrt(32), rel=0.05)


def test_the_types_are_those_of_the_prediction():
    """Whatever the species are called in the file."""
    frame = liquid(1)
    named = Frame(frame.positions, frame.cell, True, frame.species, ("Ni", "P"), units="lj",
                  fields=frame.fields)  # fmt: skip
    rows = list(evaluate({"run": [named]}, Stub(noise=0.2)).score_table().rows())
    assert [row["type"] for row in rows] == ["A", "B"]
    assert np.isnan(rows[0]["rho ±"]) and np.isnan(rows[0]["time"])


def test_one_prediction_against_several_times():
    frames = [liquid(seed, times=(0.13, 1.3, 16.5)) for seed in (1, 2)]
    result = evaluate({"run": frames}, Stub(noise=0.1, stated=0.1))
    rows = [row for row in result.score_table().rows() if row["type"] == "A"]
    assert [row["time"] for row in rows] == [16.5, 0.13, 1.3]  # 16.5 once: the column of the plain name
    assert rows[1]["rho"] < rows[2]["rho"] < rows[0]["rho"]
    # Only errors at the time that the prediction is for mean anything.
    assert np.isfinite(rows[0]["rms error"]) and np.isnan(rows[1]["rms error"])
    assert np.isnan(rows[1]["inside 90% intervals"]) and np.isnan(rows[1]["ceiling"])
    assert {row["time"] for row in result.calibration_table().rows()} == {16.5}
    assert [name for name, _, _ in evaluation_figures(result)] == ["map", "scatter", "times", "calibration"]


def test_a_model_of_several_times_is_compared_at_each_of_them():
    frames = [liquid(seed, times=(0.13, 1.3)) for seed in (1, 2)]
    rows = list(evaluate({"run": frames}, Stub(times=(16.5, 1.3))).score_table().rows())
    rows = {row["time"]: row for row in rows if row["type"] == "A"}
    assert list(rows) == [16.5, 0.13, 1.3] and np.isnan(rows[0.13]["rms error"])
    target = np.concatenate([f.fields["propensity_1"][f.species == 0] for f in frames])
    found = np.concatenate([1.3 / 16.5 * f.fields["truth"][f.species == 0] for f in frames])
    assert rows[1.3]["rms error"] == pytest.approx(np.sqrt(np.mean((target - found) ** 2)), rel=0.05)


def test_a_model_of_another_time_is_correlated_only():
    """A network for T = 0.44 on a liquid at T = 0.64: its errors mean nothing."""
    (row, _) = evaluate({"run": [liquid(1)]}, Stub(times=(4120.0,))).score_table().rows()
    assert row["rho"] > 0.9 and np.isnan(row["rms error"]) and np.isnan(row["inside 90% intervals"])


def test_a_model_without_a_time_is_correlated_only_where_the_file_states_one():
    frame = liquid(1)
    (row, _) = evaluate({"run": [frame]}, Stub(times=(None,))).score_table().rows()
    assert row["rho"] > 0.9 and np.isnan(row["rms error"]) and np.isnan(row["inside 90% intervals"])
    (row, _) = evaluate({"run": [frame.replace(info={})]}, Stub(times=(None,))).score_table().rows()
    assert np.isfinite(row["rms error"]) and np.isfinite(row["inside 90% intervals"])


def test_one_network_without_uncertainty_has_no_intervals():
    result = evaluate({"run": [liquid(1)]}, Stub(noise=0.1, stated=0.0))
    assert all(np.isnan(row["inside 90% intervals"]) for row in result.score_table().rows())
    assert not len(result.calibration_table())
    assert [name for name, _, _ in evaluation_figures(result)] == ["map", "scatter"]


def test_the_quantity_of_the_column_is_compared():
    """Of a model of several; the first one by default."""
    targets = [{"name": name, "types": ["A", "B"]} for name in ("order", "energy")]
    model, frame = load_model(random_checkpoint(2, targets=targets, seed=3)), sample(125)
    order, energy = model.run(frame).mean.astype(np.float64)
    frame = frame.replace(fields={"order": order + 1.0, "energy": energy})
    for column, error in ((None, 1.0), ("order", 1.0), ("energy", 0.0)):
        (row, _) = evaluate({"run": [frame]}, model, target=column).score_table().rows()
        assert row["rho"] == pytest.approx(1) and row["rms error"] == pytest.approx(error, abs=1e-6)


def test_types_that_were_not_trained_are_left_out():
    result = evaluate({"run": [liquid(1)]}, Stub(noise=0.1, types=("A",)))
    assert [row["type"] for row in result.score_table().rows()] == ["A"]
    assert "was not trained on type B" in " ".join(result.messages)
    assert [name for name, _, _ in evaluation_figures(result)] == ["map", "scatter", "calibration"]


def test_what_cannot_be_compared_is_said():
    frame = liquid(1)

    def with_fields(**fields):
        return Frame(frame.positions, frame.cell, True, frame.species, ("A", "B"), units="lj",
                     fields=fields, source="run.xyz, frame 3")  # fmt: skip

    with pytest.raises(ValueError, match=r"run\.xyz, frame 3: there is no column 'propensity'.*target="):
        evaluate({"run": [with_fields(truth=frame.fields["truth"])]}, Stub())
    predicted = dict.fromkeys(("propensity", "propensity_uncertainty"), frame.fields["propensity"])
    with pytest.raises(ValueError, match=r"run\.xyz, frame 3: the column 'propensity' was predicted"):
        evaluate({"run": [with_fields(**predicted)]}, Stub())
    bad = frame.fields["propensity"].copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="propensity of particle 8 is not a finite number"):
        targets_of(with_fields(propensity=bad), "propensity")
    with pytest.raises(ValueError, match="propensity_half must have two numbers"):
        targets_of(with_fields(propensity=np.ones(200), propensity_half=np.ones(200)), "propensity")
    with pytest.raises(ValueError, match="there are no frames"):
        evaluate({"run": []}, Stub())
    with pytest.raises(ValueError, match="temperature must be positive"):
        evaluate({"run": [frame]}, Stub(), cage_temperature=-1)


def test_undefined_correlations_and_unknown_ceilings_are_said():
    frame = liquid(1)
    flat = Frame(frame.positions, frame.cell, True, frame.species, ("A", "B"), units="lj",
                 fields={"propensity": np.where(frame.species, 1.0, frame.fields["truth"]),
                         "truth": frame.fields["truth"]})  # fmt: skip
    result = evaluate({"run": [flat]}, Stub())
    assert {message.code for message in result.messages} == {"outside", "no-correlation", "no-ceiling"}
    rows = list(result.score_table().rows())
    assert rows[0]["rho"] == pytest.approx(1) and np.isnan(rows[1]["rho"])
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_the_report_has_figures_tables_and_numbers(tmp_path):
    frames = [liquid(seed, times=(1.3,)) for seed in (1, 2)]
    result = evaluate({"run": frames}, Stub(noise=0.1, stated=0.1))
    page = result.write(tmp_path / "report", {"version": "0"})
    written = {path.name for path in page.parent.iterdir()}
    assert written == {
        "report.html", "metrics.json", "scores.csv", "systems.csv", "calibration.csv", "map.png",
        "scatter.png", "times.png", "calibration.png",
    }  # fmt: skip
    numbers = json.loads((page.parent / "metrics.json").read_text("utf-8"))
    assert numbers["systems"] == 2 and numbers["method"] == "mobility/stub"
    (table,) = result.shown("two.xyz")
    assert "mean of 2 systems" in table.title and table.headings[2] == "time"
    assert len(table.rows) == 4 and all(len(row) == len(table.headings) for row in table.rows)


# ------------------------------------------------------------------------------------------ figures


def test_percentiles_are_within_the_type():
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    assert percentiles(values, np.array([0, 0, 0, 0, 1])).tolist() == [12.5, 37.5, 62.5, 87.5, 50]
    assert percentiles([3.0, 3.0, np.nan], [0, 0, 0])[:2].tolist() == [50, 50]
    assert np.isnan(percentiles([3.0, np.nan, np.nan], [0, 0, 1])[1:]).all()
    assert percentiles([], []).shape == (0,)


@pytest.mark.parametrize("pbc", [True, False])
def test_a_slab_is_a_layer_of_the_cell(pbc):
    rng = np.random.default_rng(0)
    cell = np.array([[8.0, 0, 0], [2.0, 7, 0], [1.0, 1, 9]])
    inside = rng.random((3000, 3))
    frame = Frame(inside @ cell + [0.5, 0, 0], cell, pbc, np.zeros(3000, int), ("A",), origin=[0.5, 0, 0])
    chosen, places = slab(frame, 0.5, 2.0)
    depth = np.abs(inside[:, 2] - 0.5) * 9  # the third vector is 9 high above the plane of the others
    assert sorted(chosen) == sorted(np.flatnonzero(depth <= 1.0))
    assert_allclose(places, (inside[chosen] @ cell - inside[chosen, 2:] @ cell[2:])[:, :2], atol=1e-10)
    if pbc:  # particles of other images are drawn inside of the cell
        moved = Frame(frame.positions + cell[0] - 2 * cell[2], cell, True, frame.species, ("A",),
                      origin=[0.5, 0, 0])  # fmt: skip
        assert_allclose(slab(moved, 0.5, 2.0)[1], places, atol=1e-9)
