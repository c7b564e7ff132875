"""Evaluation of liquid against glass: areas by counting, runs as the unit, and networks on cooled runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.api import evaluate
from phaseseg.families.liquid_glass.evaluation import (
    Logits,
    draws_of_runs,
    run_pairs,
    score_states,
)
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.families.liquid_glass.states import named_label, temperature_label
from phaseseg.metrics import reliability

BOUNDS = {"glass_below": 0.1, "liquid_above": 1.0}


def naive_auc(score, glass):
    """All pairs, one after the other."""
    wins = [0.5 * (float(a > b) + float(a >= b)) for a in score[glass] for b in score[~glass]]
    return float(np.mean(wins))


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_all_pairs(ties):
    rng = np.random.default_rng(3)
    glass, run = rng.random(150) < 0.4, rng.integers(0, 8, 150)
    score = rng.normal(0, 1, 150) + glass
    score = np.round(score, 0 if ties else 9)
    pairs = run_pairs(score, glass, run)
    assert_allclose(pairs.auc(), naive_auc(score, glass), rtol=1e-12)
    # A run that is drawn twice counts as if it were there twice.
    counts = np.array([2.0, 0, 1, 1, 3, 1, 0, 1])
    rows = np.repeat(np.arange(150), counts[run].astype(int))
    assert_allclose(pairs.auc(counts[None])[0], naive_auc(score[rows], glass[rows]), rtol=1e-12)


def test_runs_are_the_unit():
    """A run's windows are not independent: ten copies of each change no error."""
    rng = np.random.default_rng(0)
    run, glass = np.repeat(np.arange(12), 2), np.tile([True, False], 12)
    logits = rng.normal(0, 1, (3, 24)) + np.where(glass, 0.7, -0.7)
    once = score_states(Logits(np.arange(24), logits), glass, run)
    often = score_states(Logits(np.repeat(np.arange(24), 10), np.repeat(logits, 10, axis=1)), glass, run)
    assert often.n_glass == 10 * once.n_glass and often.n_runs == once.n_runs == 12
    for name in ("auc", "accuracy", "brier"):
        assert_allclose(getattr(often, name), getattr(once, name), atol=1e-9, err_msg=name)
    assert once.auc.low < once.auc.value < once.auc.high and once.auc.error > 0.02


def test_no_draw_of_runs_lacks_a_state():
    """Set 6: liquids and glasses are of different runs."""
    run, glass = np.arange(10), np.arange(10) < 4
    counts = draws_of_runs(run_pairs(np.arange(10.0), glass, run), 200)
    assert counts.shape == (200, 10)
    assert (counts[:, :4].sum(axis=1) == 4).all() and (counts[:, 4:].sum(axis=1) == 6).all()
    assert len(draws_of_runs(run_pairs([1.0, 0.0, 2.0], [True, False, True], [0, 0, 1]))) == 0


def test_perfect_scores_and_members():
    glass, run = np.array([True, False] * 4), np.repeat(np.arange(4), 2)
    sure = score_states(Logits(np.arange(8), np.where(glass, 90.0, -90.0)[None]), glass, run)
    assert (sure.auc.value, sure.auc.error, sure.accuracy.value, sure.auc.low) == (1, 0, 1, 1)
    assert np.isnan(sure.auc.spread) and sure.brier.value == pytest.approx(0)
    two = Logits(np.arange(8), np.array([np.where(glass, 5.0, -5.0), np.where(glass, -1.0, 1.0)]))
    both = score_states(two, glass, run)
    assert both.auc.value == 1 and both.auc.mean == 0.5 and both.accuracy.mean == 0.5
    assert_allclose(two.logit, np.log(two.probability / (1 - two.probability)), rtol=1e-9)
    one_state = score_states(two, np.ones(8, bool), run)
    assert np.isnan(one_state.auc.value) and one_state.accuracy.value == 0.5


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(1)
    glass, run = rng.random(200) < 0.4, rng.integers(0, 5, 200)
    logits = Logits(np.arange(200), rng.normal(0, 2, (2, 200)) + 2 * glass)
    found, p = score_states(logits, glass, run), logits.probability
    assert found.auc.value == pytest.approx(metrics.roc_auc_score(glass, p), rel=1e-12)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(glass, p > 0.5), rel=1e-12)
    assert found.brier.value == pytest.approx(metrics.brier_score_loss(glass, p), rel=1e-12)
    assert found.calibration == reliability(glass, p).expected_calibration_error


# ------------------------------------------------------------------------------------- evaluate


@pytest.fixture(scope="module")
def runs(make_disorder):
    """Four runs of a cold, an intermediate and a hot configuration; the energy rises with temperature."""
    return {
        f"run {run}": [
            make_disorder(60, seed=10 * run + k).replace(
                info={"temperature": t, "potential_energy": -3 + t + 0.01 * run, "state": ("glass", 1, 0)[k]},
                source=f"run {run}, frame {k}",
            )
            for k, t in enumerate((0.05, 0.5, 1.0))
        ]
        for run in range(4)
    }


@pytest.fixture(scope="module")
def model(make_glass_checkpoint):
    return GlassModel(make_glass_checkpoint(n_members=2))


def test_scores_follow_from_the_predictions(runs, model):
    """Counted one by one, from what `predict` says about whole configurations and particles."""
    result = evaluate(runs, model, **BOUNDS, members=True)
    predicted = [(frame, model.predict(frame)) for own in runs.values() for frame in own]
    assert [row["probability"] for row in result.frames] == pytest.approx(
        [fields["frame_glass_probability"] for _, fields in predicted], abs=1e-5
    )
    known = [(fields, frame.info["temperature"] < 0.5) for frame, fields in predicted
             if frame.info["temperature"] != 0.5]  # fmt: skip
    whole = np.array([fields["frame_glass_probability"] for fields, _ in known], dtype=float)
    particles = np.concatenate([fields["glass_probability"] for fields, _ in known]).astype(float)
    glass = np.array([state for _, state in known])
    for what, p, y in (("configurations", whole, glass), ("particles", particles, np.repeat(glass, 60))):
        scores = result.scores[model.name, what]
        assert (scores.n_runs, scores.n_glass, scores.n_liquid) == (4, y.sum(), (~y).sum())
        assert scores.auc.value == pytest.approx(naive_auc(p, y), abs=1e-4)
        assert scores.brier.value == pytest.approx(np.mean((p - y) ** 2), abs=1e-5)
        assert scores.accuracy.value == pytest.approx(np.mean((p > 0.5) == y), abs=1e-3)
        each = [result.scores[f"member {k}", what].auc.value for k in (1, 2)]
        assert (scores.auc.mean, scores.auc.spread) == pytest.approx((np.mean(each), np.std(each, ddof=1)))
    assert len(result) == 12 and [message.code for message in result.messages] == ["not-scored"]


def test_labels_in_the_file(runs, model):
    """The intermediate configurations are called glass."""
    result = evaluate(runs, model, reference="state")
    assert result.scores[model.name, "configurations"].n_glass == 8 and not result.messages
    assert [row["state"] for row in result.frames[:3]] == ["glass", "glass", "liquid"]


def test_baselines_are_fitted_to_the_other_runs(runs, model):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    result = evaluate(runs, model, **BOUNDS, baselines=True)
    methods = [method for method, what in result.scores if what == "configurations"]
    # The files have no inherent energies.
    assert methods == [model.name, "potential energy", "first peak of g(r)", "three metrics"]
    assert [message.code for message in result.messages] == ["not-scored", "baseline-left-out"]
    assert result.scores["potential energy", "configurations"].auc.value == 1
    frames = [frame for own in runs.values() for frame in own if frame.info["temperature"] != 0.5]
    x = [[frame.info["potential_energy"]] for frame in frames]
    glass = [frame.info["temperature"] < 0.5 for frame in frames]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (6 * 1e-3)))
    p = cross_val_predict(pipeline, x, glass, groups=np.repeat(np.arange(4), 2), cv=LeaveOneGroupOut(),
                          method="predict_proba")[:, 1]  # fmt: skip
    brier = result.scores["potential energy", "configurations"].brier.value
    assert brier == pytest.approx(np.mean((p - glass) ** 2), rel=1e-2)


def test_networks_on_images(make_glass_checkpoint, make_disorder):
    """They have no particles, and a configuration has the mean probability of its images."""
    config = {"architecture": "cnn", "image_size": 40, "kernels": (3, 4), "kernel_sizes": (5, 3), "dense": 8}
    model = GlassModel(make_glass_checkpoint(n_members=2, **config))
    frames = [make_disorder(400, seed=k).replace(info={"temperature": t}) for k, t in enumerate((0.05, 2.0))]
    result = evaluate(frames, model, **BOUNDS)
    assert [what for _, what in result.scores] == ["configurations"]
    for row, frame in zip(result.frames, frames, strict=True):
        assert row["probability"] == pytest.approx(model.predict(frame)["frame_glass_probability"], abs=1e-5)


@pytest.mark.parametrize("reference", [None, "state"])
def test_everything_is_shown_and_written(runs, model, reference, tmp_path):
    result = evaluate(runs, model, **({"reference": reference} if reference else BOUNDS))
    tables = list(result.shown("4 runs"))
    assert len(tables) == 2 and all(len(row) == len(one.headings) for one in tables for row in one.rows)
    page = result.write(tmp_path / "report", {"version": "x"})
    names = {path.name for path in page.parent.iterdir()}
    assert names == {"report.html", "metrics.json", "probability.png", "scores.csv", "frames.csv"}
    metrics = json.loads((page.parent / "metrics.json").read_text("utf-8"))
    assert metrics["version"] == "x" and len(metrics["tables"]["frames"]) == 12
    assert metrics == {"version": "x", **result.to_dict()}


def test_one_state_and_few_runs(runs, model):
    """The area has no value, and is said to have none; nothing else is lost."""
    cold = {name: own[:1] for name, own in runs.items() if name != "run 3"}
    result = evaluate(cold, model, **BOUNDS, baselines=True)
    scores = result.scores[model.name, "configurations"]
    assert np.isnan(scores.auc.value) and 0 <= scores.accuracy.value <= 1
    assert [message.code for message in result.messages] == ["one-state"] + 4 * ["baseline-left-out"]
    assert result.to_dict()["tables"]["scores"][0]["AUC"] is None
    alone = evaluate({"a": runs["run 0"]}, model, **BOUNDS)
    assert np.isnan(alone.scores[model.name, "configurations"].auc.error)
    assert "few-runs" in [message.code for message in alone.messages]


def test_frames_outside_the_training_range(runs, make_glass_checkpoint):
    model = GlassModel(make_glass_checkpoint(number_density=(3.0, 4.0)))
    result = evaluate(runs, model, **BOUNDS)
    assert [message.code for message in result.messages] == ["outside-training", "not-scored"]
    assert "12 of 12" in result.messages[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "glass_below"),
        ({"glass_below": 0.1}, "liquid_above"),
        ({"glass_below": 1.0, "liquid_above": 0.1}, "colder than the liquid"),
        ({**BOUNDS, "reference": "state"}, "not both"),
        ({**BOUNDS, "temperature": "pressure"}, "there is no 'pressure'"),
        ({"reference": "nothing"}, "there is no 'nothing'"),
        ({"reference": "temperature"}, "must be 1 or glass, 0 or liquid"),
        ({**BOUNDS, "temperature": "state"}, "must be a finite number"),
        ({"glass_below": 1e-3, "liquid_above": 9.0}, "known state"),
        ({**BOUNDS, "b": "X"}, "no particle is X"),
    ],
)
def test_what_cannot_be_evaluated(runs, model, options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(runs, model, **options)


def test_no_frames_and_unknown_options(model):
    with pytest.raises(ValueError, match="no frames"):
        evaluate({"a": []}, model, **BOUNDS)
    with pytest.raises(TypeError, match="unknown option widths"):
        evaluate({"a": []}, model, widths=3)


def test_without_scikit_learn(runs, model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    assert evaluate(runs, model, **BOUNDS).scores
    with pytest.raises(ImportError, match=r"ovito-phaseseg\[train\]"):
        evaluate(runs, model, **BOUNDS, baselines=True)


def test_the_bundled_network_on_bundled_runs(cooled_runs):
    """Hot liquids and deep glasses are ranked without an error."""
    ends = {name: [frames[0], frames[-1]] for name, frames in cooled_runs.items()}
    scores = evaluate(ends, "liquid_glass/dmpnn-v1", **BOUNDS).scores["liquid_glass/dmpnn-v1", "particles"]
    assert scores.auc.value > 0.99 and scores.accuracy.value > 0.9


def test_labels_by_temperature_and_by_name(make_disorder):
    frame = make_disorder(20)
    label = temperature_label(0.3, 0.5, "T")
    states = [label(frame.replace(info={"T": t})) for t in (0.1, 0.3, 0.4, 0.5, 2.0)]
    assert states == [True, True, None, False, False]
    named = named_label("state")
    for value, state in (("Glass", True), ("1", True), (1.0, True), (" liquid ", False), (0, False)):
        assert named(frame.replace(info={"state": value})) is state
