"""Evaluation of liquid against glass: areas by counting, runs as units, sets, matched energies, test runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.families.liquid_glass.baselines import BASELINES, POTENTIAL_ENERGY, THREE_METRICS
from phaseseg.families.liquid_glass.crops import count_particles
from phaseseg.families.liquid_glass.evaluation import (
    BaselineNumbers,
    Judge,
    Scores,
    against_edge,
    against_temperature,
    attention_cut,
    attention_numbers,
    attention_tests,
    draws_of_runs,
    judge,
    judge_baseline,
    judge_set,
    only_member,
    run_pairs,
    sample_windows,
    scores_of_windows,
    window_frames,
)
from phaseseg.recipes.liquid_glass.datasets import (
    Configurations,
    GlassSet,
    State,
    label_of_all,
    matched_temperature,
    six_sets,
)

RECIPE = Path(__file__).resolve().parents[2] / "models" / "recipes" / "liquid_glass"
HOT, COLD = State(1000, 1.0), State(1000, 0.05)
SET = GlassSet("1 (T = 1)", COLD, HOT)


@pytest.fixture(scope="module")
def configurations(make_disorder):
    """Six runs, each hot and cold; energies lower when cold."""
    frames = []
    for run in range(1, 7):
        for k, state in enumerate((HOT, COLD)):
            frame = make_disorder(300, seed=10 * run + k)
            info = {"temperature": state.temperature, "cooling_steps": 1000, "seed": run,
                    "potential_energy": -2.0 - k, "inherent_energy": -3.9}  # fmt: skip
            frames.append(frame.replace(info=info))
    return Configurations(frames)


@pytest.fixture(scope="module")
def cards():
    sys.path.insert(0, str(RECIPE))
    try:
        spec = importlib.util.spec_from_file_location("make_glass_cards", RECIPE / "cards.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_glass_cards"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(RECIPE))
        sys.modules.pop("make_glass_cards", None)
        sys.modules.pop("train", None)


# Numbers ------------------------------------------------------------------------------------------


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
    once = judge(Scores(np.arange(24), logits), glass, run)
    often = judge(Scores(np.repeat(np.arange(24), 10), np.repeat(logits, 10, axis=1)), glass, run)
    assert often.n_glass == 10 * once.n_glass and often.n_runs == once.n_runs == 12
    for name in ("auc", "auc_error", "auc_low", "auc_high", "accuracy", "accuracy_error", "auc_spread"):
        assert_allclose(getattr(often, name), getattr(once, name), atol=1e-9, err_msg=name)
    assert once.auc_low < once.auc < once.auc_high and once.auc_error > 0.02


def test_no_draw_of_runs_lacks_a_state():
    """Set 6: liquids and glasses are of different runs."""
    run, glass = np.arange(10), np.arange(10) < 4
    counts = draws_of_runs(run_pairs(np.arange(10.0), glass, run), 200)
    assert counts.shape == (200, 10)
    assert (counts[:, :4].sum(axis=1) == 4).all() and (counts[:, 4:].sum(axis=1) == 6).all()
    assert len(draws_of_runs(run_pairs([1.0, 0.0, 2.0], [True, False, True], [0, 0, 1]))) == 0


def test_perfect_scores_and_members():
    glass, run = np.array([True, False] * 4), np.repeat(np.arange(4), 2)
    sure = judge(Scores(np.arange(8), np.where(glass, 90.0, -90.0)[None]), glass, run)
    assert (sure.auc, sure.auc_error, sure.accuracy, sure.auc_low) == (1, 0, 1, 1) and np.isnan(
        sure.auc_spread
    )
    two = Scores(np.arange(8), np.array([np.where(glass, 5.0, -5.0), np.where(glass, -1.0, 1.0)]))
    both = judge(two, glass, run)
    assert both.auc == 1 and both.auc_mean == 0.5 and both.accuracy_mean == 0.5
    assert_allclose(two.logit, np.log(two.probability / (1 - two.probability)), rtol=1e-9)
    with pytest.raises(ValueError, match="liquid and glass are both needed"):
        judge(two, np.ones(8, bool), run)


# Sets ---------------------------------------------------------------------------------------------


def test_sets_and_labels(configurations):
    sets = six_sets(200_000, 20_000, 0.7)
    assert [one.liquid.temperature for one in sets] == [1.99, 1.76, 0.96, 0.55, 0.44, 0.7]
    assert sets[5].glass == State(20_000, 0.05) and sets[5].liquid.cooling_steps == 200_000
    hot, cold = configurations.frames[:2]
    other = hot.replace(info={**hot.info, "temperature": 0.5})
    label = label_of_all([SET])
    assert (label(hot), label(cold), label(other)) == (False, True, None)
    assert len(configurations.of(COLD)) == 6 and set(configurations.run) == set(range(1, 7))
    with pytest.raises(ValueError, match="there is no 'cooling_steps'"):
        label(hot.replace(info={}))


def test_the_temperature_of_the_same_energy(make_disorder):
    rng = np.random.default_rng(0)
    frame, frames = make_disorder(20), []
    for run in range(8):
        for steps, t, energy in ((2000, 0.05, -4.3), (2000, 0.6, -4.0), (2000, 0.7, -3.9), (2000, 0.8, -3.8),
                                 (100, 0.05, -3.91), (100, 0.55, -3.5)):  # fmt: skip
            info = {"temperature": t, "cooling_steps": steps, "seed": run,
                    "inherent_energy": energy + rng.normal(0, 0.005)}  # fmt: skip
            frames.append(frame.replace(info=info))
    found, matches, (mean, error) = matched_temperature(Configurations(frames), 2000, 100)
    assert found == 0.7 and [one.temperature for one in matches] == [0.7, 0.6, 0.8]
    assert_allclose(mean, -3.91, atol=0.01)
    assert 0 < error < 0.005 and matches[0].n == 8
    with pytest.raises(ValueError, match="one of the two is missing"):
        matched_temperature(Configurations(frames), 2000, 55)


# Windows and networks -----------------------------------------------------------------------------


def test_windows_are_the_same_for_the_same_seed(configurations, make_glass_checkpoint):
    network = Judge(make_glass_checkpoint(n_members=2))
    cells = configurations.cells(network.config)
    one, two = (sample_windows(cells, 4, edge=3.0, least=9, seed=5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert (count_particles(cells, one) >= 9).all()
    # What a configuration is asked does not depend on the others.
    few = configurations.take([0, 1])
    many = scores_of_windows(network, configurations, 3, edge=6.0)
    alone = scores_of_windows(network, few, 3, edge=6.0)
    assert_allclose(alone.members, many.members[:, :6], atol=1e-5)
    with pytest.raises(ValueError, match="rarely hold 20 particles"):
        sample_windows(cells, 1, edge=1.0, least=20)


def test_networks_as_they_predict(configurations, make_glass_checkpoint):
    """Whole cells, particles and members are what a prediction says."""
    checkpoint = make_glass_checkpoint(n_members=2, temperature=1.5)
    network = Judge(checkpoint)
    frame = configurations.frames[0]
    fields = network.model.predict(frame)
    few = configurations.take([0])
    assert_allclose(network.whole(few).probability, fields["frame_glass_probability"], atol=1e-5)
    assert_allclose(network.particles(few).probability, fields["glass_probability"], atol=1e-5)
    second = Judge(only_member(checkpoint, 1)).whole(few)
    assert_allclose(second.members[0], network.whole(few).members[1], atol=1e-5)
    rows = against_temperature(network, configurations)
    assert [row["temperature"] for row in rows[:2]] == [1.0, 0.05] and rows[-1]["run"] == 6
    curve = against_edge(network, configurations, [SET], (4.0,), particles=400, most=5)[SET.name]
    assert [edge for edge, _ in curve] == [4.0, np.inf] and curve[1][1].n_glass == 6


def test_baselines_of_windows(configurations, make_glass_checkpoint):
    config = Judge(make_glass_checkpoint()).config
    first, rest = configurations.take(range(6)), configurations.take(range(6, 12))
    baselines = [POTENTIAL_ENERGY, THREE_METRICS]
    lots = [BaselineNumbers.of_whole(c, baselines) for c in (first, rest)]
    assert judge_baseline(POTENTIAL_ENERGY, *lots, SET).auc == 1
    assert 0 <= judge_baseline(THREE_METRICS, *lots, SET).auc <= 1
    picks = sample_windows(first.cells(config), 2, edge=6.0)
    frames = window_frames(first, picks, config)
    assert all(not frame.pbc.any() and frame.info["seed"] <= 3 for frame in frames)
    # The energies of windows are those of particles that have their neighbors beyond the edge.
    small = first.take([0])
    whole = window_frames(small, sample_windows(small.cells(config), 1, edge=15.0), config)[0]
    assert len(whole) < 300 and np.isfinite(whole.info["potential_energy"])
    assert len(BASELINES) == 4
    with pytest.raises(ValueError, match="liquid and glass"):
        judge_set(Scores(np.arange(2), np.zeros((1, 2))), configurations.of(COLD).take([0, 1]), SET)


def test_attention_of_random_networks(configurations, make_glass_checkpoint):
    network = Judge(make_glass_checkpoint(attention=True, n_members=2))
    cut, _ = attention_cut(network, configurations)
    found = attention_numbers(network, configurations, cut)
    assert (found.threshold == cut).all() and 0 < found.shares["kept"].mean() < 1
    rows = attention_tests(found, SET)
    assert len(rows) == 3 and all(0 < row["p"] <= 1 and 0 < row["p of pairs"] <= 1 for row in rows)


# Cards --------------------------------------------------------------------------------------------


def test_training_runs_are_no_test_runs(cards, make_glass_checkpoint):
    checkpoint = make_glass_checkpoint()
    files = {"columns": ["file"], "rows": [["slow/ka2d_s016.xyz.gz"], ["slow/ka2d_s003.inherent.xyz.gz"]]}
    checkpoint.card["data"] = {"files": files}
    cards.refuse_training_runs(checkpoint, [Path("x/slow/ka2d_s001.xyz.gz"), Path("x/fast/ka2d_s016.xyz.gz")])
    with pytest.raises(SystemExit, match="has learned from slow/ka2d_s003; test on other runs"):
        cards.refuse_training_runs(checkpoint, [Path("x/slow/ka2d_s003.xyz.gz")])


def test_where_a_probability_crosses_one_half(cards):
    assert cards.crossing_of([(1.0, 0.0), (0.4, 0.25), (0.1, 0.75)]) == pytest.approx(0.2)
    assert cards.crossing_of([(1.0, 0.0), (0.4, 0.2)]) is None
    assert cards.crossing_of([(1.0, 0.0), (0.4, 0.9), (0.2, 0.1)]) is None


def test_page_and_shelf(cards, make_glass_checkpoint, tmp_path):
    checkpoint = make_glass_checkpoint("liquid_glass/dmpnn-v9")
    rows = [{"set": "1", "trained on": "all sets", "AUC, windows": 1.0, "accuracy, windows": 0.98,
             "AUC, whole": 1.0, "accuracy, whole": 1.0}]  # fmt: skip
    card = {"summary": "A network.", "limits": ["Only discs."],
            "metrics": {"sets": cards.table("Sets", rows, "Note.")}}  # fmt: skip
    checkpoint.card.update(card)
    readme = tmp_path / "README.md"
    readme.write_text((RECIPE.parents[1] / "README.md").read_text("utf-8"), "utf-8")
    before = readme.read_text("utf-8")
    for _ in range(2):  # a second time changes nothing
        cards.render([checkpoint], tmp_path / "docs", readme)
    text = readme.read_text("utf-8")
    assert text.count("<!-- glass checkpoints:") == 1 and "| A network. | 1 | 0.98 |" in text
    end = "<!-- end of checkpoints -->"
    assert text[: text.index(end)] == before[: before.index(end)]
    page = (tmp_path / "docs" / "dmpnn-v9.md").read_text("utf-8")
    assert "# liquid_glass/dmpnn-v9" in page and "- Only discs." in page and "### Sets" in page
