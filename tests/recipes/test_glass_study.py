"""The study of glasses: sets, matched energies, windows, networks as they predict, baselines, attention."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.families.liquid_glass.baselines import POTENTIAL_ENERGY, THREE_METRICS
from phaseseg.families.liquid_glass.crops import count_particles
from phaseseg.families.liquid_glass.evaluation import Logits
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.recipes.liquid_glass.datasets import (
    Configurations,
    GlassSet,
    State,
    label_of_all,
    matched_temperature,
    six_sets,
)
from phaseseg.recipes.liquid_glass.evaluation import (
    Evaluator,
    against_edge,
    against_temperature,
    attention_cut,
    attention_numbers,
    attention_tests,
    baseline_numbers,
    logits_of_windows,
    sample_windows,
    score_baseline,
    score_set,
    window_frames,
)
from phaseseg.recipes.liquid_glass.study import crossing_of

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
    assert found == 0.7 and [one["temperature"] for one in matches] == [0.7, 0.6, 0.8]
    assert_allclose(mean, -3.91, atol=0.01)
    assert 0 < error < 0.005 and matches[0]["n"] == 8
    with pytest.raises(ValueError, match="one of the two is missing"):
        matched_temperature(Configurations(frames), 2000, 55)


# Windows and networks -----------------------------------------------------------------------------


def test_windows_are_the_same_for_the_same_seed(configurations, make_glass_checkpoint):
    network = Evaluator(GlassModel(make_glass_checkpoint(n_members=2)))
    cells = configurations.cells(network.config)
    one, two = (sample_windows(cells, 4, edge=3.0, least=9, seed=5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert (count_particles(cells, one) >= 9).all()
    # What a configuration is asked does not depend on the others.
    few = configurations.take([0, 1])
    many = logits_of_windows(network, configurations, 3, edge=6.0)
    alone = logits_of_windows(network, few, 3, edge=6.0)
    assert_allclose(alone.members, many.members[:, :6], atol=1e-5)
    with pytest.raises(ValueError, match="rarely contain 20 particles"):
        sample_windows(cells, 1, edge=1.0, least=20)


def test_networks_as_they_predict(configurations, make_glass_checkpoint):
    """Whole cells, particles and members are what a prediction says."""
    checkpoint = make_glass_checkpoint(n_members=2, temperature=1.5)
    network = Evaluator(GlassModel(checkpoint))
    frame = configurations.frames[0]
    fields = network.model.predict(frame)
    few = configurations.take([0])
    assert_allclose(network.whole(few).probability, fields["frame_glass_probability"], atol=1e-5)
    assert_allclose(network.particles(few).probability, fields["glass_probability"], atol=1e-5)
    rows = against_temperature(network, configurations)
    assert [row["temperature"] for row in rows[:2]] == [1.0, 0.05] and rows[-1]["run"] == 6
    curve = against_edge(network, configurations, [SET], (4.0,), particles=400, most=5)[SET.name]
    assert [edge for edge, _ in curve] == [4.0, np.inf] and curve[1][1].n_glass == 6


def test_baselines_of_windows(configurations, make_glass_checkpoint):
    config = Evaluator(GlassModel(make_glass_checkpoint())).config
    first, rest = configurations.take(range(6)), configurations.take(range(6, 12))
    baselines = [POTENTIAL_ENERGY, THREE_METRICS]
    lots = [baseline_numbers(baselines, c) for c in (first, rest)]
    assert score_baseline(POTENTIAL_ENERGY, *lots, SET).auc.value == 1
    assert 0 <= score_baseline(THREE_METRICS, *lots, SET).auc.value <= 1
    picks = sample_windows(first.cells(config), 2, edge=6.0)
    frames = window_frames(first, picks, config)
    assert all(not frame.pbc.any() and frame.info["seed"] <= 3 for frame in frames)
    # The energies of windows are those of particles that have their neighbors beyond the edge.
    small = first.take([0])
    whole = window_frames(small, sample_windows(small.cells(config), 1, edge=15.0), config)[0]
    assert len(whole) < 300 and np.isfinite(whole.info["potential_energy"])
    with pytest.raises(ValueError, match="both liquid and glass"):
        score_set(Logits(np.arange(2), np.zeros((1, 2))), configurations.of(COLD).take([0, 1]), SET)


def test_attention_of_random_networks(configurations, make_glass_checkpoint):
    network = Evaluator(GlassModel(make_glass_checkpoint(attention=True, n_members=2)))
    cut, _ = attention_cut(network, configurations)
    found = attention_numbers(network, configurations, cut)
    assert 0 < found["kept"].mean() < 1
    rows = attention_tests(found, configurations, SET)
    assert len(rows) == 3 and all(0 < row["p"] <= 1 and 0 < row["p of pairs"] <= 1 for row in rows)


def test_where_a_probability_crosses_one_half():
    assert crossing_of([(1.0, 0.0), (0.4, 0.25), (0.1, 0.75)]) == pytest.approx(0.2)
    assert crossing_of([(1.0, 0.0), (0.4, 0.2)]) is None
    assert crossing_of([(1.0, 0.0), (0.4, 0.9), (0.2, 0.1)]) is None
