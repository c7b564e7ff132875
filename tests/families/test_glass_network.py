"""The message-passing network of liquid and glass: its twin, its windows, its symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import naive
from phaseseg import Frame
from phaseseg.families.liquid_glass.crops import (
    CropSpec,
    Graphs,
    cells_of,
    crop_graphs,
    cut_crops,
    draw_crops,
    graph_of,
)
from phaseseg.families.liquid_glass.network import GlassNetwork, GraphTensors, glass_loss
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.nn import ops
from samples import scattered_mixture

ROUNDING = {"rtol": 1e-9, "atol": 1e-10}
SINGLE = {"rtol": 1e-4, "atol": 1e-5}
CONFIGS = [
    GlassConfig(hidden=5, steps=3, attention=True),
    GlassConfig(hidden=4, steps=1, ffn_layers=1, features="types", k=3),
    GlassConfig(hidden=4, steps=4, ffn_layers=3, attention=True, features="coordinates", k=1),
    GlassConfig(hidden=6, steps=2, dimensions=3, k=5, features="coordinates"),
    GlassConfig(hidden=6, steps=2, dimensions=3, k=4, attention=True),
]
IDS = [f"{c.features}-{c.dimensions}D-k{c.k}-T{c.steps}{'-attention' * c.attention}" for c in CONFIGS]


def mixture(rng, n=60, dimensions=2, edge=7.0, pbc=True):
    """Particles at random in a square or cube."""
    flat = dimensions == 2
    return scattered_mixture(
        n, [edge, edge, 1.0 if flat else edge], (pbc, pbc, pbc and not flat), rng.integers(2**32),
        dimensions=dimensions, source="made",
    )  # fmt: skip


def network(config, dtype=torch.float64, seed=3):
    torch.manual_seed(seed)
    return GlassNetwork(config).to(dtype).eval()


def arrays(net):
    return {name: values.numpy() for name, values in net.state_dict().items()}


def twin_of(graphs: Graphs, g=0):
    """Edges of one graph of a batch as the twin has them: no images, so the shift tells nothing."""
    edges, (first, last) = graphs.edges, graphs.starts[g : g + 2]
    found = {}
    for w in range(first, last):
        for e in range(edges.indptr[w], edges.indptr[w + 1]):
            key = (int(edges.neighbors[e] - first), int(w - first), (0, 0, 0))
            found[key] = (float(edges.lengths[e]), bool(edges.mutual[e]))
    return found


def windows_of(config, rng, n_windows=3, low=0.5):
    frames = [mixture(rng, 70, config.dimensions) for _ in range(2)]
    cells = cells_of(frames, [config.codes_of(frame) for frame in frames], config.dimensions)
    picks = draw_crops(cells, np.arange(n_windows) % 2, rng, edge=(7.0 * low, 7.0))
    return cut_crops(cells, picks)


# ------------------------------------------------------------------------------------------ twin


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_windows_and_logits_are_those_of_the_twin(config):
    windows = windows_of(config, np.random.default_rng(1))
    graphs = crop_graphs(windows, config)
    net = network(config)
    assert {name: value.shape for name, value in arrays(net).items()} == config.weight_shapes()
    answer = net(graphs)
    for g in range(graphs.n_graphs):
        own = slice(*windows.starts[g : g + 2])
        positions = windows.positions[own]
        edges = naive.glass_edges(positions, np.eye(3), (False, False, False), config.k)
        assert twin_of(graphs, g).keys() == edges.keys()
        for key, (length, mutual) in twin_of(graphs, g).items():
            assert mutual == edges[key][1] and length == pytest.approx(edges[key][0], rel=1e-6)
        coordinates = (positions @ np.linalg.inv(windows.vectors[g]))[:, : config.dimensions]
        assert coordinates.min() >= 0 and coordinates.max() <= 1
        logit, nodes, attention = naive.glass_network(
            config, arrays(net), windows.codes[own], twin_of(graphs, g), np.float32(coordinates)
        )
        # Features are float32 in the network's input: the rest is float64.
        assert answer.graphs[g].item() == pytest.approx(logit, abs=2e-6)
        assert np.allclose(answer.nodes.detach()[own], nodes, atol=2e-6)
        if config.attention:
            order = twin_of(graphs, g)
            found = answer.attention.detach()[graphs.edge_starts[g] : graphs.edge_starts[g + 1]]
            assert np.allclose(found, [attention[key] for key in order], atol=2e-6)
            assert found.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("config", CONFIGS[:3], ids=IDS[:3])
def test_gradients_are_those_of_the_twin(config):
    """Along a random direction of each weight, against differences of the twin's loss."""
    rng = np.random.default_rng(2)
    windows = windows_of(config, rng, 2, 0.4)
    graphs = crop_graphs(windows, config)
    glass = np.array([True, False])
    net = network(config)
    # Off the kinks of the rectifiers, on which a network with biases of zero may begin.
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.from_numpy(rng.standard_normal(len(parameter)))
    glass_loss(net(graphs), glass, graphs.starts).backward()
    weights = {name: values.copy() for name, values in arrays(net).items()}
    parts = [(twin_of(graphs, g), slice(*graphs.starts[g : g + 2]), label) for g, label in enumerate(glass)]

    def loss(changed):
        graph_terms, node_terms = [], []
        for edges, own, label in parts:
            logit, nodes, _ = naive.glass_network(
                config, changed, windows.codes[own], edges, graphs.nodes[own, 2:].astype(float)
            )
            graph_terms.append(np.logaddexp(0, -logit if label else logit))
            node_terms += list(np.logaddexp(0, -nodes if label else nodes))
        return np.mean(graph_terms) + 0.5 * np.mean(node_terms)

    for name, parameter in net.named_parameters():
        direction = rng.standard_normal(parameter.shape)
        ends = [loss(weights | {name: weights[name] + s * 1e-6 * direction}) for s in (1, -1)]
        expected = (ends[0] - ends[1]) / 2e-6
        found = float((parameter.grad.numpy() * direction).sum())
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("chunk", [1 << 26, 300])
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_plain_torch_has_the_values_and_gradients_of_the_compiled_loops(config, chunk, monkeypatch):
    """What runs on a GPU, on the processor; all edges at once, and some at a time."""
    monkeypatch.setattr(ops, "CHUNK", chunk)
    graphs = crop_graphs(windows_of(config, np.random.default_rng(1)), config)
    glass = np.array([True, False, True])
    found = []
    for given in (graphs, GraphTensors.of(graphs, torch.device("cpu"))):
        net = network(config)
        answer = net(given)
        glass_loss(answer, glass, graphs.starts).backward()
        values = [part for part in answer if part is not None]
        found.append([part.detach() for part in values] + [weight.grad for weight in net.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, **ROUNDING)


@pytest.mark.parametrize(("edge", "k"), [(7.0, 2), (2.1, 3), (1.5, 5)])
def test_whole_cells_are_periodic_and_images_count(edge, k):
    """Also where a particle is joined to images of itself, each with an edge of its own."""
    rng = np.random.default_rng(4)
    config = GlassConfig(hidden=5, k=k, attention=True)
    frame = mixture(rng, 30 if edge > 5 else 4, edge=edge)
    graphs = graph_of(frame, config)
    net = network(config)
    edges = naive.glass_edges(frame.positions, frame.cell, frame.pbc, k)
    logit, nodes, attention = naive.glass_network(config, arrays(net), config.codes_of(frame), edges)
    answer = net(graphs)
    assert len(graphs.edges.neighbors) == len(edges)
    assert answer.graphs[0].item() == pytest.approx(logit, abs=2e-6)
    assert np.allclose(answer.nodes.detach(), nodes, atol=2e-6)
    assert np.allclose(np.sort(answer.attention.detach()), np.sort(list(attention.values())), atol=2e-6)
    back = graphs.edges.reverse
    assert np.array_equal(back[back], np.arange(len(back))) and (back != np.arange(len(back))).all()


# ------------------------------------------------------------------------------------ symmetries


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_batch_is_its_windows_one_by_one(config):
    """Attention too: the softmax does not know what else is in the batch."""
    rng = np.random.default_rng(5)
    frames = [mixture(rng, 200, config.dimensions) for _ in range(2)]
    cells = cells_of(frames, [config.codes_of(frame) for frame in frames], config.dimensions)
    picks = draw_crops(cells, np.array([0, 1, 1, 0, 1]), rng, edge=(3.2, 6.3))
    net = network(config)
    together = net(crop_graphs(cut_crops(cells, picks), config))
    singles = [net(crop_graphs(cut_crops(cells, picks.take([k])), config)) for k in range(len(picks))]
    assert torch.allclose(together.graphs, torch.cat([one.graphs for one in singles]), **ROUNDING)
    assert torch.allclose(together.nodes, torch.cat([one.nodes for one in singles]), **ROUNDING)
    if config.attention:
        assert torch.allclose(together.attention, torch.cat([one.attention for one in singles]), **ROUNDING)


@pytest.mark.parametrize("config", [*CONFIGS[:2], CONFIGS[4]], ids=[*IDS[:2], IDS[4]])
def test_invariant_features_know_nothing_of_place_and_direction(config):
    rng = np.random.default_rng(6)
    frame = mixture(rng, 80, config.dimensions)
    net = network(config, torch.float32)
    expected = net(graph_of(frame, config))
    order = rng.permutation(frame.n_atoms)
    moved = frame.positions + np.array([3.3, -8.1, 0 if config.dimensions == 2 else 1.7])
    turned = frame.replace(positions=frame.positions @ TURN.T, cell=frame.cell @ TURN.T)
    wrapped = frame.positions + frame.cell[0] * rng.integers(-2, 3, frame.n_atoms)[:, None]
    for name, other in {
        "translation": frame.replace(positions=moved),
        "wrapping": frame.replace(positions=wrapped),
        "rotation": turned,
        "reflection": frame.replace(positions=frame.positions * [-1, 1, 1]),
        "permutation": frame.replace(positions=frame.positions[order], species=frame.species[order]),
    }.items():
        found = net(graph_of(other, config))
        nodes = expected.nodes[torch.from_numpy(order)] if name == "permutation" else expected.nodes
        assert torch.allclose(found.graphs, expected.graphs, **SINGLE), name
        assert torch.allclose(found.nodes, nodes, **SINGLE), name


TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def test_coordinates_are_not_invariant():
    """As declared; this is the paper's choice, an option here."""
    config = GlassConfig(hidden=6, features="coordinates")
    frame = mixture(np.random.default_rng(7), 80)
    net = network(config)
    expected = net(graph_of(frame, config)).graphs.item()
    shifted = frame.replace(positions=frame.positions + np.array([2.0, 0, 0]))
    moved = net(graph_of(shifted, config)).graphs.item()
    assert abs(moved - expected) > 1e-4


def test_a_repeated_cell_has_the_same_answer():
    config = GlassConfig(hidden=6, attention=True)
    frame = mixture(np.random.default_rng(8), 60)
    twice = frame.replace(
        positions=np.concatenate([frame.positions, frame.positions + frame.cell[0]]),
        cell=frame.cell * [[2], [1], [1]], species=np.tile(frame.species, 2),
    )  # fmt: skip
    net = network(config)
    one, two = net(graph_of(frame, config)), net(graph_of(twice, config))
    assert one.graphs.item() == pytest.approx(two.graphs.item(), abs=2e-6)
    assert torch.allclose(torch.cat([one.nodes, one.nodes]), two.nodes, atol=2e-6)


# --------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("pbc", [True, False])
def test_windows_hold_what_lies_in_them(pbc):
    """A skewed cell: every particle in exactly the places where a window of its fractions has it."""
    rng = np.random.default_rng(9)
    frame = mixture(rng, 300, edge=12.0, pbc=pbc)
    # Windows lie along the vectors of the reduced cell.
    frame = frame.replace(cell=[[12, 0, 0], [3, 11, 0], [0, 0, 1]], origin=[1.0, 2.0, 0]).reduced
    cells = cells_of([frame], [frame.species], 2)
    picks = draw_crops(cells, np.zeros(40, dtype=np.int64), rng, edge=(2.5, 7.0))
    windows = cut_crops(cells, picks)
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    if not pbc:
        fractions = (fractions - fractions.min(axis=0)) / np.maximum(np.ptp(fractions, axis=0), 1e-300)
        assert (picks.corner + picks.share <= 1).all()
    for k in range(len(picks)):
        apart = fractions[:, :2] - picks.corner[k]
        apart -= np.floor(apart) * pbc
        inside = np.flatnonzero(((apart >= 0) & (apart < picks.share[k])).all(axis=1))
        own = slice(*windows.starts[k : k + 2])
        assert np.array_equal(windows.rows[own], inside)
        assert np.array_equal(windows.codes[own], frame.species[inside])
        assert np.allclose(windows.positions[own], apart[inside] @ cells.vectors[0][:2])
        assert np.allclose(windows.vectors[k][:2], cells.vectors[0][:2] * picks.share[k][:, None])


def test_both_corners_are_drawn():
    """Not along the diagonal alone, as in the released code."""
    frame = mixture(np.random.default_rng(10), 50)
    cells = cells_of([frame], [frame.species], 2)
    picks = draw_crops(cells, np.zeros(4000, dtype=np.int64), np.random.default_rng(0), edge=(0.7, 2.1))
    assert abs(np.corrcoef(picks.corner.T)[0, 1]) < 0.05
    assert picks.share.min() >= 0.1 and picks.share.max() <= 0.3
    assert abs(picks.share.mean() - 0.2) < 0.01 and (picks.share[:, 0] == picks.share[:, 1]).all()
    assert np.histogram(picks.corner[:, 0], 4, (0, 1))[0].min() > 850


def test_the_whole_of_an_open_cell_is_a_window():
    frame = mixture(np.random.default_rng(11), 50, pbc=False)
    cells = cells_of([frame], [frame.species], 2)
    picks = draw_crops(cells, np.zeros(3, dtype=np.int64), np.random.default_rng(0), edge=(99.0, 99.0))
    assert np.diff(cut_crops(cells, picks).starts).tolist() == [50, 50, 50]
    config = GlassConfig(hidden=4)
    whole = graph_of(frame, config)
    cut = crop_graphs(cut_crops(cells, picks.take([0])), config)
    assert np.array_equal(whole.edges.neighbors, cut.edges.neighbors)
    assert np.allclose(whole.inputs, cut.inputs, atol=1e-5)


def test_windows_of_so_many_sigma():
    frame = mixture(np.random.default_rng(12), 50, edge=8.0)
    cells = cells_of([frame], [frame.species], 2)
    picks = draw_crops(cells, np.zeros(2, dtype=np.int64), np.random.default_rng(0), edge=4.0)
    assert np.allclose(picks.share, 0.5)
    with pytest.raises(ValueError, match="windows of 9 σ do not fit into a cell of 8 σ"):
        draw_crops(cells, np.zeros(2, dtype=np.int64), np.random.default_rng(0), edge=9.0)


def test_ties_go_to_the_lower_number():
    """A square lattice, where every particle has four nearest."""
    x, y = np.meshgrid(np.arange(5.0), np.arange(5.0), indexing="ij")
    positions = np.column_stack([x.ravel(), y.ravel(), np.zeros(25)])
    frame = Frame(positions, [9.0, 9.0, 1.0], False, np.arange(25) % 2, ("A", "B"), units="lj")
    config = GlassConfig(hidden=4, k=2)
    cells = cells_of([frame], [frame.species], 2)
    cut = cut_crops(cells, CropSpec(np.array([0]), np.zeros((1, 2)), np.ones((1, 2))))
    graphs = crop_graphs(cut._replace(positions=np.rint(cut.positions)), config)
    nearest = naive.glass_edges(positions, np.eye(3), (False,) * 3, 2)
    assert twin_of(graphs).keys() == nearest.keys()


# ------------------------------------------------------------------------------------- bad input


def test_what_cannot_be_is_said():
    rng = np.random.default_rng(13)
    flat, config = mixture(rng, 40), GlassConfig(hidden=4)
    cells = cells_of([flat], [flat.species], 2)
    few = cut_crops(cells, CropSpec(np.array([0]), np.zeros((1, 2)), np.full((1, 2), 0.01)))
    with pytest.raises(ValueError, match="too few for 2 neighbors each; choose larger windows"):
        crop_graphs(few, config)
    with pytest.raises(ValueError, match=r"made: no particle is C; the species are A, B"):
        config.codes_of(flat, "C")
    with pytest.raises(ValueError, match="made: every particle is B"):
        config.codes_of(flat, ("A", "B"))
    with pytest.raises(ValueError, match="made: no particle is B; the species are A"):
        config.codes_of(flat.replace(species=np.zeros(40, dtype=int)))
    with pytest.raises(ValueError, match="made: the network does not know P, only A and B"):
        config.codes_of(flat.replace(species_names=("A", "P")))
    assert config.codes_of(flat.replace(species_names=("Ni", "P")), "P").sum() == (flat.species == 1).sum()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"architecture": "gcn"}, "architecture must be dmpnn or cnn"),
        ({"features": "angles"}, "features must be distances, types or coordinates"),
        ({"dimensions": 4}, "dimensions must be 2 or 3, found 4"),
        ({"architecture": "cnn", "dimensions": 3}, "images need two dimensions"),
        ({"architecture": "cnn", "attention": True}, "attention needs the edges of a graph"),
        ({"species": ("A", "A")}, "species must be two names"),
        ({"window": (0.0, 0.3)}, "0 < low <= high"),
        ({"window": (0.4, 0.3)}, "0 < low <= high"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"k": 0}, "k must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"architecture": "cnn", "image_size": 20}, "images of 20 pixels are too small"),
        ({"radii": (0.5, 0.0)}, "radii must be positive"),
        ({"colors": ((0, 0, 2), (0, 0, 0))}, "from 0 to 1"),
        ({"kernels": (6,)}, "kernels must be two numbers"),
    ],
)
def test_settings_out_of_range(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        GlassConfig(**settings)


@pytest.mark.parametrize("config", [*CONFIGS, GlassConfig(architecture="cnn", pool=2)])
def test_settings_survive_json(config):
    assert GlassConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown settings of the network: depth; update"):
        GlassConfig.from_dict(config.to_dict() | {"depth": 3})
    assert replace(config, dropout=0.5).n_parameters == config.n_parameters
