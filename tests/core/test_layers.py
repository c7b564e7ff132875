"""Message-passing layers against PyG's on the same edges: values, gradients, and the paths inside."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from phaseseg.families.segmentation.network import SegmentationNetwork
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.neighbors import neighbor_graph
from phaseseg.nn import attention, ops
from phaseseg.nn.layers import GraphAttention, GraphConv, GraphConvolution
from phaseseg.nn.ops import Neighbors

RELATIVE = 1e-5  # of the largest number, as float32 allows; PyG itself is no closer to float64


@cache
def pyg():
    """PyG's layers."""
    return pytest.importorskip("torch_geometric.nn")


@pytest.fixture(scope="module")
def graphs(small):
    """Two frames of 520 atoms, one with half of its atoms, so that the sizes differ."""
    one, other = small[3000][0], small[4000][3]
    other = other.replace(positions=other.positions[::2], species=other.species[::2], ids=None, fields={})
    return [neighbor_graph(frame, cutoff=cutoff) for frame, cutoff in ((one, 6.0), (other, 5.0))]


@pytest.fixture(scope="module")
def neighbors(graphs):
    return Neighbors.join([Neighbors(graph.indptr, graph.neighbors) for graph in graphs])


@pytest.fixture(params=["compiled", "torch", "torch in chunks"])
def edges(request, neighbors, monkeypatch):
    """The neighbors as compiled loops take them, and as plain torch does, of some hundred edges at a time."""
    if request.param == "torch in chunks":
        monkeypatch.setattr(ops, "CHUNK", 20000)
    return neighbors if request.param == "compiled" else neighbors.to("cpu")


@pytest.fixture(scope="module")
def edge_index(graphs):
    """PyG's (source, target): messages go from the neighbor to the atom."""
    edges, start = [], 0
    for graph in graphs:
        edges.append(graph.edge_index[::-1] + start)
        start += graph.frame.n_atoms
    return torch.from_numpy(np.concatenate(edges, axis=1).copy())


def pairs(kind, inputs, heads, channels):
    """A layer of ours and PyG's with the same weights."""
    if kind == "gat":
        ours, theirs = GraphAttention(inputs, heads, channels), pyg().GATConv(inputs, channels, heads)
        same = {"lin.weight": ours.weight, "att_src": ours.attention_source,
                "att_dst": ours.attention_target, "bias": ours.bias}  # fmt: skip
    elif kind == "gcn":
        ours, theirs = GraphConvolution(inputs, channels), pyg().GCNConv(inputs, channels)
        same = {"lin.weight": ours.weight, "bias": ours.bias}
    else:
        ours, theirs = GraphConv(inputs, channels), pyg().GraphConv(inputs, channels)
        same = {"lin_rel.weight": ours.weight_neighbors, "lin_rel.bias": ours.bias,
                "lin_root.weight": ours.weight_self}  # fmt: skip
    with torch.no_grad():
        ours.bias.normal_()
        state = theirs.state_dict()
        theirs.load_state_dict(
            {name: own.detach().view_as(state[name]).clone() for name, own in same.items()}
        )
    return ours, theirs, same


def gradients(layer, x, edges):
    """Outputs, and the gradient of the inputs; those of the weights are left at the layer."""
    x = x.clone().requires_grad_()
    out = layer(x, edges)
    # A loss with another slope at every output.
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).cos()).sum().backward()
    return out.detach(), x.grad


def close(found, expected, tolerance=RELATIVE):
    size = expected.abs().max()
    assert (found - expected).abs().max() <= tolerance * size, ((found - expected).abs().max() / size).item()


# Fewer inputs than channels (sums of inputs), more (sums of projections), one number, an output layer.
SHAPES = [("gat", 10, 4, 32), ("gat", 20, 4, 8), ("gat", 3, 1, 5), ("gat", 7, 3, 2), ("gat", 33, 1, 2),
          ("gcn", 10, 1, 32), ("gcn", 20, 1, 8), ("graphconv", 10, 1, 32),
          ("graphconv", 20, 1, 8)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "inputs", "heads", "channels"), SHAPES)
def test_values_and_gradients_are_those_of_pyg(edges, edge_index, kind, inputs, heads, channels):
    torch.manual_seed(3)
    ours, theirs, same = pairs(kind, inputs, heads, channels)
    x = torch.randn(edges.n_atoms, inputs)
    found, found_x = gradients(ours, x, edges)
    # In float64: PyG's float32 is off by as much as ours.
    theirs = theirs.double()
    expected, expected_x = gradients(theirs, x.double(), edge_index)
    close(found, expected)
    close(found_x, expected_x)
    weights = dict(theirs.named_parameters())
    for name, own in same.items():
        close(own.grad.view(-1), weights[name].grad.view(-1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gat", "gcn", "graphconv"])
@pytest.mark.parametrize("inputs", [3, 9])
def test_double_precision(edges, edge_index, kind, inputs):
    torch.manual_seed(4)
    ours, theirs, _ = pairs(kind, inputs, 2 if kind == "gat" else 1, 4)
    x = torch.randn(edges.n_atoms, inputs, dtype=torch.float64)
    found = gradients(ours.double(), x, edges)
    expected = gradients(theirs.double(), x, edge_index)
    close(found[0], expected[0], 1e-11)
    close(found[1], expected[1], 1e-11)


@pytest.mark.parametrize("kind", ["gat", "gcn", "graphconv"])
def test_gradients_are_differences(kind):
    """Without PyG: a ring of seven atoms, some of them neighbors twice, in float64."""
    torch.manual_seed(5)
    indptr = np.arange(0, 7 * 4 + 1, 4)
    around = (np.arange(7)[:, None] + [1, -1, 2, -2]) % 7
    ring = Neighbors(indptr, around.astype(np.int32).ravel())
    ours = pairs(kind, 3, 2 if kind == "gat" else 1, 2)[0].double()
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ours(x, ring), (x,), atol=1e-7)


@pytest.mark.parametrize("inputs", [4, 40])
@pytest.mark.parametrize("size", [30.0, 300.0])
def test_attention_over_a_large_range(edges, edge_index, inputs, size):
    """Scores so far apart that their exponentials leave float32."""
    torch.manual_seed(6)
    ours, theirs, _ = pairs("gat", inputs, 2, 8)
    with torch.no_grad():
        x = torch.randn(edges.n_atoms, inputs)
        x *= size / (x @ ours.weight[:8].T @ ours.attention_source[0]).abs().max()
        spread = np.ptp((x @ ours.weight[:8].T @ ours.attention_source[0]).numpy())
    assert (spread > attention.SINGLE_SPREAD) == (size > 100)
    found = gradients(ours, x, edges)
    expected = gradients(theirs.double(), x.double(), edge_index)
    assert torch.isfinite(found[0]).all() and torch.isfinite(found[1]).all()
    # The scores themselves are float32 numbers of this size.
    close(found[0], expected[0], 1e-5 + 2e-7 * size)


@pytest.mark.slow
def test_registers_and_plain_loops_agree(neighbors):
    rng = np.random.default_rng(7)
    n = neighbors.n_atoms
    table = attention._factors(*(rng.normal(size=(n, 3)).astype(np.float32) for _ in range(2)), 0.2)
    lists = neighbors.indptr, neighbors.neighbors
    for rows in (rng.normal(size=(n, 3, 11)), rng.normal(size=(n, 1, 11))):
        factor = np.ones((n, 3)) if rows.shape[1] == 1 else rng.normal(size=(n, 3))
        single = attention._sums(lists, rows.astype(np.float32), factor.astype(np.float32), table, 0.2)
        double = attention._sums(lists, rows, factor, table.astype(np.float64), 0.2)
        for found, expected in zip(single, double, strict=True):
            assert found.dtype == np.float32
            assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_a_batch_is_its_frames(graphs, neighbors):
    torch.manual_seed(8)
    x = torch.randn(neighbors.n_atoms, 6)
    for layer in (GraphAttention(6, 2, 4), GraphConvolution(6, 4), GraphConv(6, 4)):
        with torch.no_grad():
            joint = layer(x, neighbors)
            start = 0
            for graph in graphs:
                own = slice(start, start + graph.frame.n_atoms)
                close(layer(x[own], Neighbors(graph.indptr, graph.neighbors)), joint[own], 1e-6)
                start = own.stop


def test_an_atom_without_neighbors():
    alone = Neighbors(np.array([0, 0]), np.zeros(0, dtype=np.int32))
    x = torch.randn(1, 3)
    attended, convolution, conv = GraphAttention(3, 2, 4), GraphConvolution(3, 4), GraphConv(3, 4)
    for edges in (alone, alone.to("cpu")):
        assert torch.allclose(attended(x, edges), x @ attended.weight.T, atol=1e-6)
        assert torch.allclose(convolution(x, edges), x @ convolution.weight.T, atol=1e-6)
        assert torch.allclose(conv(x, edges), x @ conv.weight_self.T + conv.bias, atol=1e-6)


@pytest.mark.parametrize("architecture", ["gat", "gcn", "graphconv"])
@pytest.mark.parametrize(("readout", "outputs"), [(0, 2), (16, 3)])
def test_the_state_of_a_network_has_the_names_of_its_configuration(architecture, readout, outputs):
    config = NetworkConfig(("Fe", "O"), ("Fe",), architecture=architecture, layers=3, hidden=4, heads=2,
                           readout=readout, outputs=outputs)  # fmt: skip
    state = SegmentationNetwork(config).state_dict()
    assert {name: tuple(values.shape) for name, values in state.items()} == config.weight_shapes()
