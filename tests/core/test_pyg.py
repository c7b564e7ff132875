"""Networks over PyTorch Geometric data give what our own inference gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from conftest import disordered_mixture
from phaseseg import load_model
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.inference import Network as GlassInference
from phaseseg.families.segmentation.inference import Network as SegmentationInference
from phaseseg.testing import AWKWARD, awkward_frames

torch = pytest.importorskip("torch")
Batch = pytest.importorskip("torch_geometric.data").Batch
pyg = pytest.importorskip("phaseseg.pyg")

KINDS = ("orthogonal", "triclinic", "open", "triclinic, open along b", "tiny")
"""In "tiny" atoms are neighbors of their own images."""
FLAT = {
    **awkward_frames(("A", "B"), "lj", 0.9, dimensions=2),
    "tiny": lambda: disordered_mixture(6, edges=(0.8, 6.0)),
}


@pytest.fixture(params=["gat", "gcn", "graphconv"])
def segmentation(request, make_checkpoint):
    """Random weights, so that neighbors count; features from 0 to 1."""
    checkpoint = make_checkpoint(architecture=request.param, species=("Fe", "O"), n_members=2)
    rng, weights = np.random.default_rng(0), dict(checkpoint.weights)
    for name, values in weights.items():
        if name.startswith("member"):
            mean = 1.0 if name.endswith("bias") else 0.0  # keeps the rectifiers of the readout open
            weights[name] = rng.normal(mean, values.shape[-1] ** -0.5, values.shape).astype(np.float32)
    weights["feature.scale"] = weights["feature.high"]
    return load_model(replace(checkpoint, weights=weights))


@pytest.fixture(params=[False, True], ids=["plain", "attention"])
def glass(request, make_glass_checkpoint):
    return load_model(make_glass_checkpoint(attention=request.param, n_members=2))


def close(found, expected):
    """Equal but for rounding, as far as the largest of the numbers goes."""
    assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def of_atoms(model, frame):
    """(n_members, n_atoms, outputs) logits of our inference."""
    return SegmentationInference(model.config, model.scaling, model.members)(frame, model.codes(frame)).logits


def of_glass(model, frame):
    return GlassInference(model.config, model.members)(graph_of(frame, model.config))


def check_glass(found, graphs, nodes, attention):
    """What a module gives, with what the compiled loops give."""
    close(found.graphs.detach(), graphs)
    close(found.nodes.detach(), nodes)
    assert (found.attention is None) == (attention is None)
    if attention is not None:
        close(found.attention.detach(), attention)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "one atom"])
def test_atoms_have_the_logits_of_our_inference(segmentation, kind):
    frame = AWKWARD[kind]()
    data, expected = pyg.to_data(frame, segmentation), of_atoms(segmentation, frame)
    assert data.num_nodes == data.n_atoms == frame.n_atoms == len(data.pos) and data.cell.shape == (1, 3, 3)
    assert bool((data.edge_index[0] == data.edge_index[1]).any()) == (kind in ("tiny", "one atom"))
    for member in range(2):
        close(pyg.network(segmentation, member)(data).detach(), expected[member])
    close(pyg.network(segmentation)(data).detach(), expected.mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_glasses_have_the_logits_of_our_inference(glass, kind):
    frame = FLAT[kind]()
    data, whole = pyg.to_data(frame, glass), of_glass(glass, frame)
    assert bool((data.edge_index[0] == data.edge_index[1]).any()) == (kind == "tiny")
    expected = whole.graphs, whole.nodes, whole.attention
    for member in range(2):
        check_glass(pyg.network(glass, member)(data), *(x if x is None else x[member] for x in expected))
    check_glass(pyg.network(glass)(data), *(x if x is None else x.mean(axis=0) for x in expected))


def test_edges_lead_from_the_source_to_the_target(glass):
    """The features of an edge are those of its source, and `reverse` swaps the two ends."""
    data = pyg.to_data(FLAT["open"](), glass)
    source, target = data.edge_index
    assert torch.equal(data.edge_index[:, data.reverse], torch.stack([target, source]))
    inputs = graph_of(FLAT["open"](), glass.config).inputs
    assert torch.equal(torch.cat([data.x[source], data.edge_attr], dim=1), torch.from_numpy(inputs))


def test_a_batch_is_its_frames(segmentation, glass):
    frames = [AWKWARD["orthogonal"](), AWKWARD["tiny"]()]
    batch = Batch.from_data_list([pyg.to_data(frame, segmentation) for frame in frames])
    expected = [of_atoms(segmentation, frame).mean(axis=0) for frame in frames]
    close(pyg.network(segmentation)(batch).detach(), np.concatenate(expected))
    frames = [FLAT["triclinic"](), FLAT["open"]()]
    batch = Batch.from_data_list([pyg.to_data(frame, glass) for frame in frames])
    singles = [of_glass(glass, frame) for frame in frames]
    attention = np.concatenate([x.attention[1] for x in singles]) if glass.config.attention else None
    check_glass(
        pyg.network(glass, 1)(batch), [x.graphs[1, 0] for x in singles],
        np.concatenate([x.nodes[1] for x in singles]), attention,
    )  # fmt: skip


def check_gradients(model, frame, monkeypatch, loss):
    """They reach weights and features, and are the same by compiled loops and by plain torch."""
    found, compiled = [], pyg._edges
    for edges in (compiled, lambda data: compiled(data).to("cpu")):
        monkeypatch.setattr(pyg, "_edges", edges)
        data, network = pyg.to_data(frame, model), pyg.network(model)
        data.x.requires_grad_()
        loss(network(data)).backward()
        found.append([data.x.grad, *(one.grad for one in network.parameters())])
    for ours, expected in zip(*found, strict=True):
        assert torch.isfinite(ours).all() and ours.abs().max() > 0
        close(ours.numpy(), expected.numpy())


def test_gradients_of_the_logits_of_atoms(segmentation, monkeypatch):
    check_gradients(segmentation, AWKWARD["triclinic"](), monkeypatch, lambda out: out.square().sum())


def test_gradients_of_the_logits_of_glasses(glass, monkeypatch):
    def loss(out):
        return out.graphs.square().sum() + out.nodes.square().sum()

    check_gradients(glass, FLAT["triclinic"](), monkeypatch, loss)


def test_what_cannot_be_done_is_said(segmentation, make_glass_checkpoint, make_disorder):
    images = load_model(make_glass_checkpoint(architecture="cnn"))
    with pytest.raises(ValueError, match="does not work on a graph"):
        pyg.to_data(make_disorder(60), images)
    with pytest.raises(ValueError, match="does not work on a graph"):
        pyg.network(images)
    with pytest.raises(ValueError, match="no member 2"):
        pyg.network(segmentation, 2)
    network, data = pyg.network(segmentation, 0), pyg.to_data(AWKWARD["orthogonal"](), segmentation)
    edges = data.edge_index
    data.edge_index = edges.flip(1)
    with pytest.raises(ValueError, match="sorted by their target"):
        network(data)
    data.edge_index = edges[:, 1:]
    with pytest.raises(ValueError, match="its reverse"):
        network(data)
