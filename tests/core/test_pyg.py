"""Networks over PyTorch Geometric data give what our own inference gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg import load_model
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.inference import Network as GlassInference
from phaseseg.families.segmentation.inference import Network as SegmentationInference
from phaseseg.testing import AWKWARD

torch = pytest.importorskip("torch")
Batch = pytest.importorskip("torch_geometric.data").Batch
pyg = pytest.importorskip("phaseseg.pyg")

SEGMENTATION = ("orthogonal", "triclinic, open along b", "tiny", "one atom")


@pytest.fixture(params=["gat", "gcn", "graphconv"])
def segmentation(request, make_checkpoint):
    return load_model(make_checkpoint(architecture=request.param, species=("Fe", "O"), n_members=2))


@pytest.fixture(params=[False, True], ids=["plain", "attention"])
def glass(request, make_glass_checkpoint):
    return load_model(make_glass_checkpoint(attention=request.param, n_members=2))


def own_logits(model, frame):
    return SegmentationInference(model.config, model.scaling, model.members)(frame, model.codes(frame)).logits


def arrays(found):
    return [part.detach().numpy() for part in found]


@pytest.mark.parametrize("kind", SEGMENTATION)
def test_atoms_have_the_logits_of_our_inference(segmentation, kind):
    frame = AWKWARD[kind]()
    data = pyg.to_data(frame, segmentation)
    assert data.num_nodes == frame.n_atoms and data.pos.shape == (frame.n_atoms, 3)
    expected = own_logits(segmentation, frame)
    assert_allclose(arrays(pyg.network(segmentation)(data)), expected, rtol=0, atol=1e-4)
    assert_allclose(pyg.network(segmentation, 1)(data).detach(), expected[1], rtol=0, atol=1e-4)


def test_a_batch_is_its_frames(segmentation, glass, make_disorder):
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    batch = Batch.from_data_list([pyg.to_data(frame, segmentation) for frame in frames])
    together = pyg.network(segmentation, 0)(batch).detach().numpy()
    expected = np.concatenate([own_logits(segmentation, frame)[0] for frame in frames])
    assert_allclose(together, expected, rtol=0, atol=1e-4)
    mixtures = [make_disorder(60), make_disorder(90, seed=1)]
    batch = Batch.from_data_list([pyg.to_data(frame, glass) for frame in mixtures])
    found = pyg.network(glass, 0)(batch)
    singles = [GlassInference(glass.config, glass.members)(graph_of(f, glass.config)) for f in mixtures]
    assert_allclose(found.graphs.detach(), [one.graphs[0, 0] for one in singles], rtol=0, atol=1e-4)
    assert_allclose(found.nodes.detach(), np.concatenate([o.nodes[0] for o in singles]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pbc", [True, False])
def test_glasses_have_the_logits_of_our_inference(glass, make_disorder, pbc):
    frame = make_disorder(80, pbc=(pbc, pbc, False))
    expected = GlassInference(glass.config, glass.members)(graph_of(frame, glass.config))
    for member, found in enumerate(pyg.network(glass)(pyg.to_data(frame, glass))):
        assert_allclose(found.graphs.detach(), expected.graphs[member], rtol=0, atol=1e-4)
        assert_allclose(found.nodes.detach(), expected.nodes[member], rtol=0, atol=1e-4)
        if glass.config.attention:
            assert_allclose(found.attention.detach(), expected.attention[member], rtol=1e-4, atol=1e-5)


def test_gradients_reach_weights_and_features(segmentation):
    data = pyg.to_data(AWKWARD["orthogonal"](), segmentation)
    data.x.requires_grad_()
    network = pyg.network(segmentation, 0)
    network(data).square().sum().backward()
    assert data.x.grad.abs().max() > 0 and torch.isfinite(data.x.grad).all()
    assert all(torch.isfinite(one.grad).all() for one in network.parameters())


def test_what_cannot_be_done_is_said(segmentation, make_glass_checkpoint, make_disorder):
    images = load_model(make_glass_checkpoint(architecture="cnn"))
    with pytest.raises(ValueError, match="does not work on a graph"):
        pyg.to_data(make_disorder(60), images)
    data = pyg.to_data(AWKWARD["orthogonal"](), segmentation)
    data.edge_index = data.edge_index.flip(1)
    with pytest.raises(ValueError, match="sorted by their target"):
        pyg.network(segmentation, 0)(data)
