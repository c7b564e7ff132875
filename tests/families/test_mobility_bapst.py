"""The message-passing network without torch: the formulas, torch, TensorFlow's own numbers, the contract."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mobility_samples import (
    CHECKPOINT,
    DEEPMIND,
    liquid,
    needs,
    random_checkpoint,
    random_weights,
)
from naive.messages import message_edges, message_network
from phaseseg import Frame, load_model, predict
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families.mobility.inference import MessageNetwork
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.settings import TER, BapstConfig
from phaseseg.testing import AWKWARD, check_conformance

VARIANTS = [
    {"update": update, "own_weights": own, "type_input": kind}
    for update, own, kind in itertools.product(
        ("edges-first", "parallel", "nodes-first"), (False, True), ("number", "one-hot")
    )
]


def sorted_edges(receiver, sender, vector):
    order = np.lexsort((*vector.T.round(3), sender, receiver))
    return receiver[order], sender[order], vector[order]


@pytest.mark.parametrize("kind", ["orthogonal", "triclinic", "open along c", "tiny", "unwrapped far away"])
@pytest.mark.parametrize("self_edges", [True, False])
def test_edges_are_all_pairs_below_the_cutoff(kind, self_edges):
    frame = AWKWARD[kind]()
    frame = frame.take(np.arange(min(60, len(frame))))
    found = message_graph(frame, 2.6, self_edges=self_edges)
    ours = sorted_edges(found.receiver, found.sender, found.vector)
    expected = sorted_edges(*message_edges(frame, 2.6, self_edges))
    for one, other in zip(ours[:2], expected[:2], strict=True):
        assert_array_equal(one, other)
    scale = np.abs(frame.positions).max() if kind == "unwrapped far away" else 1
    assert_allclose(ours[2], expected[2], atol=1e-5 * max(1, scale * 1e-4))
    assert_array_equal(found.receiver, np.repeat(np.arange(len(frame)), np.diff(found.indptr)))


def test_a_pair_at_the_cutoff_is_no_edge():
    frame = Frame([[1.0, 1, 1], [3.0, 1, 1], [1.0, 2.9999, 1]], [9.0] * 3, True, ["A", "A", "B"], units="lj")
    graph = message_graph(frame, 2.0, self_edges=False)
    assert list(zip(graph.receiver.tolist(), graph.sender.tolist(), strict=True)) == [(0, 2), (2, 0)]
    assert_array_equal(graph.vector[0], -graph.vector[1])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("widths", [(8, 12), (70, 40)])
def test_the_network_is_its_formula(variant, widths):
    config = BapstConfig(width=widths[0], hidden=widths[1], rounds=3, outputs=2, cutoff=1.5, **variant)
    frame, weights = liquid(60), random_weights(config)
    graph = message_graph(frame, config.cutoff)
    found = MessageNetwork(config, [weights])(graph, frame.species)
    expected = message_network(
        config, weights, frame.species, graph.receiver, graph.sender, graph.vector.astype(float)
    )
    assert found.shape == (1, 60, 2)
    assert_allclose(found[0], expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS[::3], ids=str)
def test_torch_gives_the_same(variant):
    pytest.importorskip("torch")
    from phaseseg.families.mobility.network import TorchMessageNetwork

    config = BapstConfig(width=16, hidden=24, rounds=3, cutoff=1.5, **variant)
    frame, members = liquid(60), [random_weights(config, seed) for seed in range(2)]
    graph = message_graph(frame, config.cutoff)
    one = MessageNetwork(config, members)(graph, frame.species)
    other = TorchMessageNetwork(config, members)(graph, frame.species)
    assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_numbers_of_parameters():
    """Of the published network without its decoder of edges, and of the network of the report."""
    assert BapstConfig().n_parameters == 62_401
    unused = 2 * (64 * 64 + 64)
    assert BapstConfig().n_parameters + unused == 70_721
    assert BapstConfig(**TER).n_parameters == 358_849


@pytest.mark.slow
@needs(DEEPMIND)
def test_the_published_checkpoint_gives_the_numbers_of_tensorflow():
    expected = np.load(DEEPMIND / "predictions_0_2047.npy")
    system = np.load(DEEPMIND / "system_T0.44.npz")
    frame = Frame(
        system["positions"], system["box"], True, system["types"].astype(int), ("A", "B"), units="lj"
    )
    fields = predict(frame, CHECKPOINT)
    found = fields["propensity"][: len(expected)]
    assert np.abs(found - expected).max() < 2e-6
    of_a = system["types"] == 0
    rho = np.corrcoef(fields["propensity"][of_a], system["targets"][0][of_a])[0, 1]
    assert rho == pytest.approx(0.9346, abs=5e-5)
    assert {"untrained-type", "one-network"} < {message.code for message in fields.messages}
    assert not fields["mobile"][~of_a].any() and fields["mobile"].sum() == round(0.1 * of_a.sum())


@pytest.mark.slow
def test_conformance(tmp_path):
    path = tmp_path / "random-v1.safetensors"
    save_checkpoint(random_checkpoint(2), path)
    skipped = check_conformance(path, liquid(150))
    assert set(skipped) <= {"devices"}


def test_several_times_and_one_type(tmp_path):
    targets = [
        {"name": "propensity", "time": 10.0, "types": ["A", "B"]},
        {"name": "propensity", "time": 500.0, "types": ["A"], "calibration": [[2.0, 0.01]]},
    ]
    model = load_model(random_checkpoint(3, targets=targets))
    frame = liquid(150)
    output = model.run(frame)
    first, second = (model.fields(frame, output, time=time) for time in (None, 500.0))
    assert_array_equal(first["propensity"], output.mean[0])
    assert_array_equal(second["propensity"], output.mean[1])
    of_a = frame.species == 0
    assert_allclose(
        second["propensity_uncertainty"][of_a], np.hypot(2 * output.spread[1][of_a], 0.01), rtol=1e-6
    )
    assert "mean_propensity_b" in first and "mean_propensity_b" not in second
    assert not second["mobile"][~of_a].any() and second["n_mobile"] == 12
    columns = first["propensity_by_time"].columns
    assert columns["time"].tolist() == [10.0, 500.0] and np.isnan(columns["mean B"][1])
    with pytest.raises(ValueError, match="no prediction for time 11; its times are 10, 500"):
        model.rule(time=11.0)
