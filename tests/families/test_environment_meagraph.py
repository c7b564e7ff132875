"""MEAGraph: the sparse graph of distinct atoms gives the numbers of the dense graph of all atoms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import adjusted_rand_score

import naive.meagraph as naive
from phaseseg.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from phaseseg.families.environments import meagraph_graph
from phaseseg.families.environments.clusters import cluster, load_clusters
from phaseseg.families.environments.inference import MeagraphNetwork, random_weights
from phaseseg.families.environments.meagraph import (
    Meagraph,
    meagraph_clusters,
)
from phaseseg.families.environments.meagraph_graph import (
    LOW,
    Scale,
    build_graph,
    component_labels,
    distinct_points,
    threshold_labels,
)
from phaseseg.families.environments.network import MeagraphModule, distances, sums
from phaseseg.families.environments.settings import MeagraphConfig, MeagraphSettings

ROUNDING = 1e-10


def environments(n=60, features=6, seed=0, duplicates=True):
    """Rows around a few centers, positive and of different scales, with duplicates and a lonely one."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(1, 3, (5, features)) * 10.0 ** np.arange(features)
    rows = centers[rng.integers(5, size=n)] * rng.normal(1, 0.02, (n, features))
    if duplicates:
        rows[n // 2 : n // 2 + n // 4] = rows[: n // 4]
        rows[n // 4] = rows[0]
    rows[-1] = 9 * centers[0]
    return rows


def same_partition(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a < 0, b < 0) and len({*zip(a.tolist(), b.tolist(), strict=True)}) == len(
        {*a}
    ) == len({*b})


# Graph --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, LOW, 0.97]), st.booleans())
def test_pairs_are_those_of_the_dense_graph(seed, low, duplicates):
    rows = environments(seed=seed, duplicates=duplicates)
    points = distinct_points(rows)
    graph = build_graph(points, low)
    dense = naive.graph(rows, low)
    found = np.zeros_like(dense)
    place = np.full(len(points.merged.points), -1)
    place[graph.nodes] = np.arange(len(graph.nodes))
    node = place[points.merged.members]
    joined = np.zeros((len(graph.nodes), len(graph.nodes)), dtype=bool)
    joined[graph.first, graph.second] = joined[graph.second, graph.first] = True
    inside = node >= 0
    found[np.ix_(inside, inside)] = joined[np.ix_(node[inside], node[inside])]
    found |= points.merged.members[:, None] == points.merged.members[None]
    np.fill_diagonal(found, False)
    assert np.array_equal(found, dense)


@pytest.mark.parametrize("low", [0.5, LOW, 0.99])
def test_the_tree_gives_the_components_of_the_dense_graph(low):
    rows = environments(400, seed=3)
    points = distinct_points(rows)
    truth = naive.components(naive.graph(rows, low))
    assert same_partition(threshold_labels(points, low), truth)
    graph = build_graph(points, low, neighbors=3)
    pairs = graph.nodes[graph.first], graph.nodes[graph.second]
    assert same_partition(component_labels(points.merged, *pairs), truth)


@pytest.mark.slow
def test_the_tree_gives_every_cut_of_5000_atoms():
    rng = np.random.default_rng(5)
    rows = np.concatenate([environments(4000, seed=7), rng.uniform(1, 2, (1000, 6)) * 10.0 ** np.arange(6)])
    points = distinct_points(rows)
    tree = points.tree()
    x = naive.column_normalized(rows)
    d = np.sqrt(np.maximum(sum((x[:, c, None] - x[None, :, c]) ** 2 for c in range(6)), 0))
    for low in (0.8, LOW, 0.95, 0.99):
        truth = naive.components((d < points.distance(low)) & ~np.eye(len(d), dtype=bool))
        assert same_partition(threshold_labels(points, low, tree), truth)


def test_the_largest_distance_is_exact():
    rows = environments(200, seed=1)
    kept = distinct_points(rows).scale.kept["distance"]
    d = naive.distances(naive.column_normalized(rows))
    assert kept[0] == 0 and np.isclose(kept[1], d.max(), rtol=1e-12)
    few = distinct_points(environments(50, seed=1, duplicates=False)).scale.kept["distance"]
    d = naive.distances(naive.column_normalized(environments(50, seed=1, duplicates=False)))
    assert np.isclose(few[0], d[~np.eye(50, dtype=bool)].min(), rtol=1e-9)


def test_columns_of_rounding_noise_count_as_zero():
    rows = environments()
    noisy = np.concatenate(
        [rows, 1e-16 * rows[:, :1] * np.random.default_rng(0).normal(size=(60, 1))], axis=1
    )
    noisy[:, 5] *= 1e5
    rows[:, 5] *= 1e5
    assert np.array_equal(threshold_labels(distinct_points(noisy)), threshold_labels(distinct_points(rows)))


def test_of_too_many_pairs_the_nearest_are_kept(monkeypatch):
    points = distinct_points(environments(200, seed=4))
    whole = build_graph(points)
    monkeypatch.setattr(meagraph_graph, "MOST_PAIRS", len(whole.first) - 1)
    monkeypatch.setattr(meagraph_graph, "NEIGHBORS", 4)
    few, same = build_graph(points), build_graph(points, neighbors=4)
    assert np.array_equal(few.first, same.first) and len(few.first) < len(whole.first) / 2
    pairs = set(zip(few.first.tolist(), few.second.tolist(), strict=True))
    assert pairs <= set(zip(*np.sort([whole.first, whole.second], axis=0).tolist(), strict=True))
    labels = [component_labels(g.merged, g.nodes[g.first], g.nodes[g.second]) for g in (few, whole)]
    assert np.array_equal(*labels)


def test_wrong_values_are_refused():
    points = distinct_points(environments())
    for wrong in ({"low": 1.0}, {"low": -0.1}, {"neighbors": 0}):
        with pytest.raises(ValueError, match="must be"):
            build_graph(points, **wrong)
    with pytest.raises(ValueError, match="at least two atoms"):
        distinct_points([[1.0, 2.0]])


# Network ------------------------------------------------------------------------------------------


def networks(kernels=3, features=6, seed=0, **options):
    config = MeagraphConfig(features=features, kernels=kernels, widths=(9, 7, 5), **options)
    weights = random_weights(config, seed)
    rng = np.random.default_rng(seed)
    for name in weights:  # every kernel has its own β
        if name.endswith("beta"):
            weights[name] = rng.uniform(0.5, 2, weights[name].shape).astype(np.float32)
    return config, weights


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.lists(st.floats(0, 0.99), min_size=3, max_size=3))
def test_merged_nodes_give_what_all_atoms_give(seed, kernels, rates):
    rows = environments(seed=seed)
    config, weights = networks(kernels, seed=seed % 7)
    inputs, truth, nodes, edges = naive.forward(weights, 3, rows, rates)
    network, scale = MeagraphNetwork(config, weights), Scale()
    points = distinct_points(rows, scale)
    graph = build_graph(points)
    encoded = network.encode(graph, rates, scale)
    place = np.full(len(points.merged.points), -1)
    place[graph.nodes] = np.arange(len(graph.nodes))
    node = place[points.merged.members]
    assert np.array_equal(node >= 0, nodes)
    assert np.allclose(graph.inputs[node[nodes]], inputs, atol=ROUNDING)
    found = network.decode(encoded, graph.weights, scale)[node[nodes]]
    assert np.allclose(found, truth, atol=ROUNDING, rtol=1e-8)
    first, second = encoded.pairs[-1]
    labels = component_labels(points.merged, graph.nodes[first], graph.nodes[second])
    assert same_partition(labels, naive.components(edges))


@pytest.mark.parametrize("kernels", [1, 3])
def test_torch_and_inference_give_the_same_numbers(kernels):
    config, weights = networks(kernels)
    module = MeagraphModule(config)
    module.load_state_dict(
        {name.replace(".", "_"): torch.from_numpy(w.astype(float)) for name, w in weights.items()}
    )
    assert all(np.array_equal(module.weights()[name], weights[name]) for name in weights)
    scale, rates = Scale(), [0.3, 0.5, 0.2]
    graph = build_graph(distinct_points(environments(), scale))
    network = MeagraphNetwork(config, weights)
    encoded = network.encode(graph, rates, scale)
    found = network.decode(encoded, graph.weights, scale)
    for kept in (None, scale):
        with torch.no_grad():
            assert np.allclose(module(graph, rates, kept).numpy(), found, atol=ROUNDING)
            latent, pairs = module.encode(graph, rates, kept)
        assert np.allclose(latent.numpy(), encoded.latent, atol=ROUNDING)
        assert all(np.array_equal(a, b) for own, other in zip(pairs, encoded.pairs, strict=True)
                   for a, b in zip(own, other, strict=True))  # fmt: skip


def test_gradients_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(0)
    values = torch.rand(6, 3, dtype=torch.float64, generator=rng, requires_grad=True)
    scores = torch.rand(5, dtype=torch.float64, generator=rng, requires_grad=True)
    pairs = np.array([0, 0, 1, 2, 4]), np.array([1, 2, 3, 5, 5])
    assert torch.autograd.gradcheck(lambda v: distances(v, pairs), (values,))
    assert torch.autograd.gradcheck(lambda v, s: sums(v, s, pairs), (values, scores))


def test_equal_rows_of_a_pair_have_no_gradient():
    values = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    distances(values, (np.array([0]), np.array([1]))).sum().backward()
    assert (values.grad == 0).all()


def test_order_of_the_atoms_does_not_matter():
    rows, model = environments(), Meagraph.untrained(6)
    order = np.random.default_rng(1).permutation(len(rows))
    labels = meagraph_clusters(rows, model, rate=0.3, normalize="batch")
    assert same_partition(meagraph_clusters(rows[order], model, rate=0.3, normalize="batch"), labels[order])


def test_duplicates_share_a_cluster_and_are_not_isolated():
    rows = environments()
    for rate in (0.0, 0.5, 0.99):
        labels = meagraph_clusters(rows, Meagraph.untrained(6), rate=rate, normalize="batch")
        assert np.array_equal(labels[30:45], labels[:15]) and (labels[:15] >= 0).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_a_higher_rate_keeps_fewer_edges_in_one_layer(layer):
    config, weights = networks()
    network, kept = MeagraphNetwork(config, weights), None
    for rate in (0.0, 0.3, 0.6, 0.9):
        rates = [0.0] * layer + [rate] + [0.0] * (2 - layer)
        scale = Scale()
        encoded = network.encode(build_graph(distinct_points(environments(), scale)), rates, scale)
        own = set(zip(*(part.tolist() for part in encoded.pairs[layer + 1]), strict=True))
        assert kept is None or own <= kept
        kept = own


def test_two_groups_are_two_clusters_and_a_stranger_is_isolated():
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.normal(0, 0.01, (40, 4)) + 1, rng.normal(0, 0.01, (30, 4)) + 2, [[1, 9, 1, 9]]]
    )
    labels = meagraph_clusters(rows, Meagraph.untrained(4), rate=0.0, normalize="batch")
    assert np.array_equal(labels, np.repeat([0, 1, -1], [40, 30, 1]))


# Defects of the published code ----------------------------------------------------------------------
# Others: trained weights, unused matrices and the validation are tested in `test_environment_fit`; one kernel
# in `test_torch_and_inference_give_the_same_numbers`; normalization by batch under "Fitted normalization".
# There is no schedule of the learning rate that could be missing.


def test_defect_clusters_without_any_edge():
    rows = environments()
    model = Meagraph.untrained(6).measured(rows)
    apart = np.exp(2.0 * np.arange(5))[:, None] * rows[:1]
    assert (meagraph_clusters(apart, model) == -1).all()
    assert (meagraph_clusters(rows[:1], model) == -1).all()


def test_defect_memory_of_all_pairs():
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 2, (200, 6))[rng.integers(200, size=4000)] * rng.normal(1, 1e-4, (4000, 1))
    tracemalloc.start()
    labels = meagraph_clusters(rows, Meagraph.untrained(6, low=0.999), normalize="batch", rate=0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.max() > 50 and peak < 4000**2 * 8 / 4


def test_defect_random_rates_in_evaluation():
    rows, model = environments(), Meagraph.untrained(6)
    with pytest.raises(ValueError, match="rate must be"):
        meagraph_clusters(rows, model, normalize="batch", rate=-1.0)
    labels = [meagraph_clusters(rows, model, normalize="batch", rate=0.3) for _ in range(2)]
    assert np.array_equal(*labels)


def test_defect_bridges_merge_clusters_as_documented():
    """Components of a graph chain: one row between two groups joins them, as in single linkage."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal([1.0, 1], 0.01, (40, 2)), rng.normal([1.4, 1], 0.01, (40, 2))])
    bridge = np.stack([np.linspace(1.05, 1.35, 6), np.ones(6)], axis=1)
    far = [[3.0, 3.0]]
    apart, joined = (
        threshold_labels(distinct_points(np.concatenate([*parts, far])), 0.93)
        for parts in ([rows], [rows, bridge])
    )
    assert apart.max() == 1 and joined.max() == 0


def test_defect_attention_is_flat_in_large_batches_as_documented():
    """Columns of norm 1 have small entries in a large batch, so scores tend to 1 in about the same order."""
    config, weights = networks()
    network, rows = MeagraphNetwork(config, weights), environments(duplicates=False)

    def scores(copies, scale):
        points = distinct_points(np.repeat(rows, copies, axis=0), scale)
        return network.first_layer(build_graph(points), scale)[1]

    fitted = Scale()
    few = scores(1, fitted)
    of_graph = {name: kept for name, kept in fitted.kept.items() if not name.startswith("encoder")}
    many = scores(100, Scale(of_graph))
    assert np.ptp(few) > 5 * np.ptp(many)
    order, order_of_many = (np.argsort(np.argsort(found)) for found in (few, many))
    assert np.corrcoef(order, order_of_many)[0, 1] > 0.98
    assert np.allclose(scores(100, fitted), few, atol=ROUNDING)


# Fitted normalization -----------------------------------------------------------------------------


def test_fitted_on_its_own_rows_is_batch():
    rows, model = environments(), Meagraph.untrained(6).measured(environments(), 0.4)
    fitted = meagraph_clusters(rows, model)
    assert np.array_equal(fitted, meagraph_clusters(rows, model, normalize="batch")) and fitted.max() > 0


def test_raw_clusters_do_not_change_without_a_group_if_the_scale_is_kept():
    rows = environments(200, seed=2)
    rows[150:] *= np.random.default_rng(0).uniform(2, 4, (50, 1))  # a group that is far away
    whole = distinct_points(rows)
    labels = threshold_labels(whole)
    kept = threshold_labels(distinct_points(rows[:150], Scale(whole.scale.kept)))
    assert adjusted_rand_score(labels[:150], kept) == 1.0
    assert adjusted_rand_score(labels[:150], threshold_labels(distinct_points(rows[:150]))) < 1.0


def test_a_checkpoint_keeps_weights_and_scale(tmp_path):
    rows = environments()
    model = Meagraph.untrained(6, seed=3).measured(rows, 0.3)
    settings, weights = model.to_parts()
    path = tmp_path / "net.safetensors"
    save_checkpoint(Checkpoint("environments", "environments/net", settings, weights), path)
    again = Meagraph.of(path)
    assert all(np.array_equal(again.scale[name], model.scale[name]) for name in model.scale)
    assert np.array_equal(meagraph_clusters(rows, again), meagraph_clusters(rows, model))
    other = Meagraph.untrained(6, seed=4).network.weights  # the weights of the file are those that are used
    assert all(np.array_equal(again.network.weights[n], model.network.weights[n]) for n in other)
    save_checkpoint(Checkpoint("environments", "environments/net", {}, weights), path)
    with pytest.raises(CheckpointError, match="no checkpoint of the network MEAGraph"):
        Meagraph.of(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"scale.features": None}, {"scale.other": [[1.0]]}, {"scale.nodes": [[1.0, 2.0]]},
        {"scale.encoder.0": [[-1.0] * 128]}, {"scale.scores.0": [[1.0, 0.0]]}, {"scale.atoms": [[0.0, 0.0]]},
        {"scale.distance": [[np.float32(1e30), 1e30]]}, {"member0.final.bias": None}, {"member0.x": [1.0]},
    ],
    ids=lambda damage: next(iter(damage)),
)  # fmt: skip
def test_damaged_checkpoints_are_refused(damage):
    settings, weights = Meagraph.untrained(6).measured(environments(), 0.3).to_parts()
    for name, values in damage.items():
        if values is None:
            del weights[name]
        else:
            weights[name] = np.array(values, dtype=np.float32)
    with pytest.raises(CheckpointError, match="cannot be used"):
        Meagraph.of(Checkpoint("environments", "environments/net", settings, weights))


def test_clusters_assign_new_atoms_and_are_saved(tmp_path):
    rows = environments()
    model = Meagraph.untrained(6).measured(rows, 0.3)
    found = cluster(rows, "meagraph", network=model)
    labels = meagraph_clusters(rows, model)
    found.save(tmp_path / "clusters.safetensors")
    for clusters in (found, load_clusters(tmp_path / "clusters.safetensors")):
        assert np.array_equal(clusters.assign(rows), labels) and clusters.n_clusters == labels.max() + 1 > 1
        assert np.array_equal(clusters.assign(rows[:5] * (1 + 1e-7)), labels[:5])
        assert clusters.assign(rows[:1] * 50).tolist() == [-1] and clusters.assign(rows[:0]).shape == (0,)
        assert (clusters.distances(rows, labels) < 1e-9).all()
    with pytest.raises(ValueError, match="meagraph has no option n_clusters"):
        cluster(rows, "meagraph", n_clusters=3)


def test_wrong_use_is_refused():
    rows, model = environments(), Meagraph.untrained(6)
    for options, match in (
        ({}, "keeps no norms"), ({"normalize": "other"}, "normalize must be"),
        ({"normalize": "batch", "rate": -1}, "rate must be"),
        ({"normalize": "batch", "rate": 1.0}, "rate must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            meagraph_clusters(rows, model, **options)
    with pytest.raises(ValueError, match="made for 6 features"):
        meagraph_clusters(rows[:, :3], model, normalize="batch")
    with pytest.raises(ValueError, match="at least 1"):
        MeagraphConfig(features=6, kernels=0)
    with pytest.raises(ValueError, match="widths"):
        MeagraphSettings(widths=())
    with pytest.raises(ValueError, match="need as many rates"):
        MeagraphNetwork(*networks()).encode(build_graph(distinct_points(rows)), [0.1], Scale())
