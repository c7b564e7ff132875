"""The message-passing network without torch: the formulas in loops, torch's own, symmetries, batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg import Frame
from phaseseg.families.liquid_glass.crops import (
    cells_of,
    crop_graphs,
    cut_crops,
    draw_crops,
    graph_of,
)
from phaseseg.families.liquid_glass.inference import Network
from phaseseg.families.liquid_glass.settings import LENGTH_CENTERS, GlassConfig
from phaseseg.testing import permuted, repeated, rolled_axes, translated, wrapped_elsewhere
from samples import SKEW, scattered_mixture


def weights_of(config, seed=0, scale=1.2):
    """Random ones; those of attention smaller, as its weights are an exponential."""
    rng = np.random.default_rng(seed)
    weights = {
        name: (rng.normal(size=shape) * (scale / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1)).astype("f4")
        for name, shape in config.weight_shapes().items()
    }
    if config.attention:
        weights["attention.weight"] *= np.float32(0.3)
    return weights


def naive_edges(frame, k, dimensions):
    """Directed edges (v, w, shift from v to w) of the graph of nearest neighbors, by sorting all images."""
    periodic = frame.pbc & (np.arange(3) < dimensions)
    images = list(itertools.product(*(range(-2, 3) if p else (0,) for p in periodic)))
    near = []
    for i in range(len(frame)):
        others = [
            (np.linalg.norm(frame.positions[j] - frame.positions[i] + np.array(s) @ frame.cell), j, s)
            for j in range(len(frame)) for s in images if j != i or any(s)
        ]  # fmt: skip
        near.append({(j, s): r for r, j, s in sorted(others)[:k]})
    edges = {}
    for i, found in enumerate(near):
        for (j, s), r in found.items():
            back = tuple(-x for x in s)
            mutual = (i, back) in near[j]
            edges[i, j, s] = edges[j, i, back] = (r, mutual)
    return edges


def naive_network(config, weights, frame, codes):
    """The formulas of `GlassNetwork` with dictionaries, in float64: logits, and attention by edge."""
    w = {name: values.astype(float) for name, values in weights.items()}
    edges = naive_edges(frame, config.k, config.dimensions)
    x = np.eye(2)[codes]
    if config.features == "coordinates":
        fractions = frame.positions @ np.linalg.inv(frame.cell)
        x = np.concatenate([x, (fractions % 1)[:, : config.dimensions]], axis=1)
    centers = np.array(LENGTH_CENTERS)

    def features(r, mutual):
        if config.features != "distances":
            return [float(mutual)]
        z = (np.clip(r, centers[0], centers[-1]) - centers) / (centers[1] - centers[0])
        return [*np.exp(-(z**2) / 2), float(mutual)]

    def rectified(values):
        return np.maximum(values, 0)

    def weights_in_sum(h):
        if not config.attention:
            return dict.fromkeys(h, 1.0)
        scores = 3 * np.tanh([w["attention.weight"][0] @ value / 3 for value in h.values()])
        share = np.exp(scores - scores.max())
        return dict(zip(h, len(h) * share / share.sum(), strict=True))

    known = {
        edge: w["input.weight"] @ [*x[edge[0]], *features(*values)] + w["input.bias"]
        for edge, values in edges.items()
    }
    h = {edge: rectified(values) for edge, values in known.items()}
    for _ in range(config.steps - 1):
        a = weights_in_sum(h)
        new = {}
        for v, to, shift in h:
            back = (to, v, tuple(-s for s in shift))
            coming = [a[edge] * h[edge] for edge in h if edge[1] == v and edge != back]
            message = np.sum(coming, axis=0) if coming else np.zeros(config.hidden)
            new[v, to, shift] = rectified(known[v, to, shift] + w["message.weight"] @ message)
        h = new
    a = weights_in_sum(h)
    nodes = []
    for v in range(len(frame)):
        coming = [a[edge] * h[edge] for edge in h if edge[1] == v]
        total = np.sum(coming, axis=0) if coming else np.zeros(config.hidden)
        nodes.append(rectified(w["output.weight"] @ [*x[v], *total] + w["output.bias"]))

    def head(name, layers, values):
        for i in range(layers):
            values = w[f"{name}.{i}.weight"] @ values + w[f"{name}.{i}.bias"]
            values = rectified(values) if i < layers - 1 else values
        return float(values[0])

    of_graph = head("readout", config.ffn_layers, np.mean(nodes, axis=0))
    return of_graph, np.array([head("node", 2, node) for node in nodes]), a


def close(found, wanted, tolerance=1e-5):
    """Equal to float32, beside the greatest of the numbers."""
    assert_allclose(found, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1))


CASES = {
    "plain": {},
    "attention": {"attention": True},
    "one step": {"attention": True, "steps": 1, "hidden": 5},
    "long": {"attention": True, "steps": 5, "hidden": 17, "ffn_layers": 1, "k": 3},
    "types": {"features": "types", "ffn_layers": 3},
    "coordinates": {"features": "coordinates", "attention": True},
    "3D": {"dimensions": 3, "k": 4, "attention": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_network_is_that_of_the_formulas(case):
    config = GlassConfig(**{"hidden": 12, **CASES[case]})
    frame = scattered_mixture(40, pbc=(True, case != "long", True), dimensions=config.dimensions)
    weights = weights_of(config)
    graphs = graph_of(frame, config)
    found = Network(config, [weights])(graphs)
    of_graph, of_nodes, attention = naive_network(config, weights, frame, frame.species)
    close(found.graphs[0], [of_graph])
    close(found.nodes[0], of_nodes)
    assert len(attention) == len(graphs.edges.neighbors)
    if config.attention:
        close(np.sort(found.attention[0]), np.sort(list(attention.values())))
        assert found.attention[0].mean() == pytest.approx(1, abs=1e-5)
    else:
        assert found.attention is None


@pytest.mark.parametrize("case", CASES)
def test_the_network_is_that_of_torch(case):
    torch = pytest.importorskip("torch")
    from phaseseg.families.liquid_glass.network import GlassNetwork

    config = GlassConfig(**{"hidden": 64, **CASES[case]})
    graphs = graph_of(
        scattered_mixture(600, 2 * np.array(SKEW[config.dimensions]), dimensions=config.dimensions), config
    )
    members = [weights_of(config, seed) for seed in range(2)]
    found = Network(config, members)(graphs)
    assert found.graphs.shape == (2, 1) and found.nodes.shape == (2, 600)
    for m, weights in enumerate(members):
        network = GlassNetwork(config)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
        # In float64: the sum of a softmax over many edges is worse in torch's float32 than here.
        with torch.no_grad():
            wanted = network.double().eval()(graphs)
        close(found.graphs[m], wanted.graphs.numpy())
        close(found.nodes[m], wanted.nodes.numpy())
        if config.attention:
            close(found.attention[m], wanted.attention.numpy())


@pytest.mark.parametrize("attention", [False, True])
def test_a_batch_of_windows_gives_what_each_gives_alone(attention):
    config = GlassConfig(attention=attention, hidden=24)
    network = Network(config, [weights_of(config)])
    frames = [scattered_mixture(400, 2 * np.array(SKEW[2]), seed=seed) for seed in range(3)]
    cells = cells_of(frames, [frame.species for frame in frames], 2)
    picks = draw_crops(cells, np.array([0, 2, 1, 1, 0]), np.random.default_rng(0), edge=(8.0, 18.0))
    together = network(crop_graphs(cut_crops(cells, picks), config))
    alone = [network(crop_graphs(cut_crops(cells, picks.take([n])), config)) for n in range(5)]
    assert_array_equal(together.graphs, np.concatenate([one.graphs for one in alone], axis=1))
    assert_array_equal(together.nodes, np.concatenate([one.nodes for one in alone], axis=1))
    if attention:
        assert_array_equal(together.attention, np.concatenate([one.attention for one in alone], axis=1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_does_not_change_the_answer(dimensions):
    config = GlassConfig(attention=True, dimensions=dimensions, hidden=20, k=3)
    network = Network(config, [weights_of(config)])
    frame = scattered_mixture(150, pbc=(True, True, dimensions == 3), dimensions=dimensions)
    before = network(graph_of(frame, config))
    order = np.random.default_rng(1).permutation(len(frame))
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    if dimensions == 2:
        turn = np.array([[np.cos(1.1), np.sin(1.1), 0], [-np.sin(1.1), np.cos(1.1), 0], [0, 0, 1]])
    rotated = frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn)
    others = [
        translated(frame, (3.3, -7.7, 0.1)), wrapped_elsewhere(frame), rotated,
        rolled_axes(frame, (1, 0, 2)), frame.replace(origin=(-3.0, 2.0, 0.5)),
    ]  # fmt: skip
    for other in others:
        after = network(graph_of(other, config))
        close(after.graphs, before.graphs)
        close(after.nodes, before.nodes)
    after = network(graph_of(permuted(frame, order), config))
    close(after.graphs, before.graphs)
    close(after.nodes, before.nodes[:, order])
    large = network(graph_of(repeated(frame, (2, 3, 1)), config))
    close(large.graphs, before.graphs)
    close(large.nodes, np.tile(before.nodes, 6))


def test_a_plane_in_space_is_a_plane_whatever_its_third_axis_says():
    config = GlassConfig(hidden=8)
    network = Network(config, [weights_of(config)])
    frame = scattered_mixture(60)
    flat = network(graph_of(frame, config))
    for other in (frame.replace(pbc=(True, True, False)), frame.replace(cell=frame.cell * [1, 1, 40])):
        assert_array_equal(network(graph_of(other, config)).nodes, flat.nodes)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_cell_of_three_particles_sees_its_images(k):
    """Every edge leads to an image, of the particle itself, too."""
    config = GlassConfig(hidden=8, k=k, attention=True)
    weights = weights_of(config)
    positions = [[0.1, 0.2, 0.3], [0.6, 0.9, 0.3], [1.1, 1.3, 0.3]]
    frame = Frame(positions, [1.3, 1.7, 1.0], True, ["A", "B", "A"], units="lj")
    network = Network(config, [weights])
    small, large = (network(graph_of(f, config)) for f in (frame, repeated(frame, (3, 4, 1))))
    close(large.nodes, np.tile(small.nodes, 12))
    close(large.graphs, small.graphs)
    of_graph, of_nodes, _ = naive_network(config, weights, frame, frame.species)
    close(small.graphs[0], [of_graph])
    close(small.nodes[0], of_nodes)


def test_great_scores_do_not_overflow():
    config = GlassConfig(hidden=8, attention=True)
    weights = weights_of(config)
    weights["attention.weight"] *= 1000
    found = Network(config, [weights])(graph_of(scattered_mixture(80), config))
    assert np.isfinite(found.nodes).all() and found.attention.mean() == pytest.approx(1, abs=1e-4)


def test_nothing_that_is_read_is_written():
    config = GlassConfig(hidden=8, attention=True)
    weights = weights_of(config)
    for values in weights.values():
        values.flags.writeable = False
    graphs = graph_of(scattered_mixture(80), config)
    arrays = [*graphs.edges, graphs.starts, graphs.nodes, graphs.inputs]
    copies = [np.copy(values) for values in arrays]
    network = Network(config, [weights, weights])
    one, two = network(graphs), network(graphs)
    for values, copy in zip(arrays, copies, strict=True):
        assert_array_equal(values, copy)
    assert_array_equal(one.nodes, two.nodes)
    assert_array_equal(one.nodes[0], one.nodes[1])


def test_weights_that_are_not_those_of_such_a_network():
    config = GlassConfig(hidden=8)
    weights = weights_of(config)
    with pytest.raises(ValueError, match="needs the weights of at least one member"):
        Network(config, [])
    with pytest.raises(ValueError, match=r"member1\.message\.weight is missing"):
        Network(config, [weights, {k: v for k, v in weights.items() if k != "message.weight"}])
    with pytest.raises(ValueError, match=r"member0\.attention\.weight is not a weight of this network"):
        Network(config, [weights | {"attention.weight": np.zeros((1, 8), "f4")}])
    with pytest.raises(ValueError, match=r"member0\.input\.bias must have the shape \(8,\), found \(7,\)"):
        Network(config, [weights | {"input.bias": np.zeros(7, "f4")}])
    with pytest.raises(ValueError, match=r"member0\.input\.bias holds numbers that are not finite"):
        Network(config, [weights | {"input.bias": np.full(8, np.nan, "f4")}])
