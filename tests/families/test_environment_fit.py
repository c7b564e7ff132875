"""Training MEAGraph: deterministic, resumable, and without the defects of the published code."""

from __future__ import annotations

import numpy as np
import pytest

from phaseseg import Frame
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.fit import Batches, train_meagraph
from phaseseg.families.environments.inference import MeagraphNetwork
from phaseseg.families.environments.meagraph import Meagraph, meagraph_clusters
from phaseseg.families.environments.meagraph_graph import Scale, build_graph, distinct_points
from phaseseg.families.environments.network import reconstruction_loss
from phaseseg.families.environments.settings import MeagraphConfig
from phaseseg.training.loop import deterministic

SMALL = {"n_max": 2, "l_max": 2, "widths": (8, 6, 4), "epochs": 3, "learning_rate": 1e-2}


def configurations(n=16, seed=0):
    """Small cells of bcc and fcc with thermal displacements."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        if number % 2:
            cell, sites = 3.3, np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
        else:
            cell, sites = 4.2, np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
        positions = sites * cell + rng.normal(0, 0.05, sites.shape)
        found.append(Frame(positions, [cell] * 3, True, ["Ta"] * len(sites)))
    return found


def rows_of(frames):
    descriptor = PowerSpectrum(("Ta",), n_max=2, l_max=2)
    return [descriptor(frame) for frame in frames]


def test_training_uses_the_trained_weights_and_improves():
    frames = configurations()
    start, found = (train_meagraph(frames, **{**SMALL, "epochs": n}) for n in (1, 12))
    rows = np.concatenate(rows_of(frames))
    model = Meagraph.of(found)
    assert model.network.config.features == rows.shape[1]
    untrained = Meagraph.untrained(rows.shape[1], widths=(8, 6, 4))
    assert any(
        not np.array_equal(w, model.network.weights[name]) for name, w in untrained.network.weights.items()
    )
    # Clusters are made with the weights of the checkpoint, at any rate.
    own = MeagraphNetwork(
        model.network.config, {k[8:]: w for k, w in found.weights.items() if k.startswith("member0.")}
    )
    for rate in (0.2, 0.9):
        scale = Scale(model.scale)
        graph = build_graph(distinct_points(rows, scale))
        n_survivors = len(own.survivors(graph, rate, scale)[0])
        assert n_survivors == len(model.network.survivors(graph, rate, scale)[0])
        meagraph_clusters(rows, found, rate=rate)
    first, last = (one.card["training"]["validation"]["loss"] for one in (start, found))
    assert last < 0.8 * first


def test_the_same_seed_gives_the_same_network_and_an_interruption_changes_nothing(tmp_path):
    frames, path = configurations(), tmp_path / "net.safetensors"
    whole = train_meagraph(frames, **SMALL)
    calls = []

    def stop(done, text):
        calls.append(text)
        if "epoch 2/" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="resume"):
        train_meagraph(frames, output=path, progress=stop, **SMALL)
    found = train_meagraph(frames, output=path, resume=True, **SMALL)
    again = load_checkpoint(path)
    for one in (found, again):
        assert one.config == whole.config
        assert all(np.array_equal(one.weights[name], whole.weights[name]) for name in whole.weights)
    other = train_meagraph(frames, seed=1, **SMALL)
    assert not np.array_equal(other.weights["member0.final.weight"], whole.weights["member0.final.weight"])
    assert (tmp_path / "net.curves.csv").is_file() and any("describing" in text for text in calls)


@pytest.mark.parametrize("kernels", [1, 2])
def test_every_parameter_learns(kernels):
    """No unused matrices; each kernel has a β of its own; one kernel works."""
    config = MeagraphConfig(9, kernels, (8, 6, 4), low=0.3)
    task = Batches(rows_of(configurations()), config, 8, 0).task(0)
    with deterministic():
        network = task.build()
        batch = task.batches(np.random.default_rng(0))[0]
        total = reconstruction_loss(network(batch.graph, [0.0] * 3), batch.graph)
        total.backward()
    for name, parameter in network.named_parameters():
        moved = parameter.grad.abs().reshape(len(parameter), -1).sum(dim=1)
        assert (moved > 0).all() if "beta" in name else (moved > 0).any(), name


def test_configurations_are_kept_back_and_rates_are_fresh_in_each_batch():
    batches = Batches(rows_of(configurations(40)), MeagraphConfig(9), 8, 0)
    assert len(batches.held) == 4 and not set(batches.held) & set(batches.trained)
    first, second = (batches.epoch(np.random.default_rng(seed)) for seed in (0, 1))
    rates = [rate for batch in first + second for rate in batch.rates]
    assert len({*rates}) == len(rates) and min(rates) >= 0 and max(rates) < 1
    assert [b.rates for b in batches.validation] == [
        b.rates for b in Batches(batches.rows, batches.config, 8, 0).validation
    ]


def test_bad_data_are_refused():
    for data, options, match in (
        (configurations(2), {}, "at least 4 configurations"),
        (configurations(), {"low": 1.0}, "low must be"),
        (configurations(), {"batch_configurations": 0}, "batch_configurations must be"),
        (configurations(), {"rate": 1.5}, "rate must be"),
        (configurations(), {"neighbors": 0}, "neighbors must be"),
        ([Frame([[0.0, 0, 0]], [9.0] * 3, True, ["A"], units="lj")] * 4, {}, "units"),
    ):
        with pytest.raises(ValueError, match=match):
            train_meagraph(data, **{**SMALL, **options})
