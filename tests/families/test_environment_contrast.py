"""Embeddings by contrast: atoms of like configurations come close, and inference needs no torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from environment_samples import crystal, run_of_crystals
from phaseseg import fit, load_model, predict, predict_frames
from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from phaseseg.families.environments.clusters import cluster, load_clusters
from phaseseg.families.environments.contrast import Contrast
from phaseseg.families.environments.fit import Pairs, train_contrast
from phaseseg.families.environments.network import ContrastModule, contrast_loss
from phaseseg.families.environments.projection import fit_projection
from phaseseg.families.environments.settings import ContrastConfig
from phaseseg.recipes.environments.study_contrast import best_of, halves
from phaseseg.recipes.environments.study_meagraph import filled


def two_kinds(n=40, seed=0):
    """Configurations of two kinds, each with two kinds of atoms; rows, configurations and kinds."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(1, 3, (2, 2, 6))
    kind = np.arange(n) % 2
    rows = np.concatenate([centers[k][rng.integers(2, size=6)] for k in kind])
    return rows * rng.normal(1, 0.02, rows.shape), np.repeat(np.arange(n), 6), np.repeat(kind, 6)


def ratio(x, kinds):
    """Mean distance within the kinds over that between them."""
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    same = kinds[:, None] == kinds[None]
    return d[same].mean() / d[~same].mean()


@pytest.mark.slow
def test_atoms_of_like_configurations_come_close():
    rows, of, _ = two_kinds()
    new, _, new_kinds = two_kinds()
    new = new * np.random.default_rng(5).normal(1, 0.01, new.shape)
    found = Contrast.of(train_contrast(rows, of, epochs=8))
    embedded = found(new)
    assert np.allclose((embedded**2).sum(axis=1), 1)
    assert ratio(embedded, new_kinds) < 0.5 * ratio(fit_projection(rows, 10)(new), new_kinds)


def test_inference_gives_the_numbers_of_torch():
    rows = two_kinds()[0]
    projection, config = fit_projection(rows, 4), ContrastConfig(4, 7, 3)
    torch.manual_seed(0)
    network = ContrastModule(config).double()
    embedding = Contrast(projection, config, {k: w.astype(float) for k, w in network.weights().items()})
    network.load_state_dict({k: w.float().double() for k, w in network.state_dict().items()})
    with torch.no_grad():
        truth = torch.nn.functional.normalize(network(torch.from_numpy(projection(rows))), dim=1).numpy()
    assert np.allclose(embedding(rows), truth, atol=1e-12)


def test_the_loss_is_that_of_its_formula():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    s = np.exp(x @ y.T / 0.3)
    truth = -np.log(np.diag(s) / s.sum(1)).mean() - np.log(np.diag(s) / s.sum(0)).mean()
    assert np.isclose(contrast_loss(*map(torch.from_numpy, (a, b)), 0.3).item(), truth)


def test_partners_are_of_one_configuration():
    sizes = np.array([1, 4, 2, 7, 3] * 4)
    points = np.repeat(np.arange(20), sizes).astype(np.float32)[:, None]
    pairs = Pairs(points, sizes, 0)
    assert (pairs.validation[0] == pairs.validation[1]).all()
    assert not set(pairs.validation[0].ravel().tolist()) & set(pairs.trained.tolist())
    for first, second in pairs.epoch(np.random.default_rng(0)):
        assert (first != second).all() and (first - second).abs().max() < 2
        assert set(first.round().ravel().tolist()) <= set(map(float, range(-1, 21)))


def test_files_interruption_and_seeds(tmp_path):
    rows, of, _ = two_kinds()
    whole = train_contrast(rows, of, epochs=3)

    def stop(done, text):
        if "epoch 2/" in text:
            raise KeyboardInterrupt

    path = tmp_path / "net.safetensors"
    with pytest.raises(KeyboardInterrupt, match="resume"):
        train_contrast(rows, of, epochs=3, output=path, progress=stop)
    train_contrast(rows, of, epochs=3, output=path, resume=True)
    again = load_checkpoint(path)
    assert all(np.array_equal(again.weights[name], whole.weights[name]) for name in whole.weights)
    assert np.array_equal(Contrast.of(path)(rows), Contrast.of(whole)(rows))
    other = train_contrast(rows, of, epochs=3, seed=1)
    assert not np.array_equal(other.weights["member0.0.weight"], whole.weights["member0.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixture", "tree", "communities"])
def test_clusters_in_an_embedding_are_saved_with_it(tmp_path, method):
    rows, of, _ = two_kinds()
    found = train_contrast(rows, of, epochs=15)
    clusters = cluster(rows, method, embedding=found)
    assert clusters.n_features == rows.shape[1]
    plain = cluster(Contrast.of(found)(rows), method, compress=False)
    assert np.array_equal(clusters.assign(rows), plain.assign(Contrast.of(found)(rows)))
    clusters.save(tmp_path / "clusters.safetensors")
    again = load_clusters(tmp_path / "clusters.safetensors")
    assert np.array_equal(again.assign(rows), clusters.assign(rows))
    assert np.array_equal(
        again.distances(rows, again.assign(rows)), clusters.distances(rows, clusters.assign(rows))
    )


@pytest.mark.slow
def test_an_embedding_of_frames_finds_clusters_in_all_of_them(tmp_path):
    frames, kinds = run_of_crystals()
    path = tmp_path / "net.safetensors"
    fit(frames, "environments", objective="contrast", output=path, epochs=15, kernels=3)
    options = {"method": "kmeans", "n_clusters": 3}
    fields = list(predict_frames(frames, path, **options))
    labels = [np.bincount(one["environment"]).argmax() for one in fields]
    assert [labels[kinds.index(kind)] for kind in kinds] == labels and len({*labels}) == 3
    model = load_model(path)
    assert not model.fitted
    fitted = model.fit_frames(frames, model.rule(**options)).checkpoint
    save_checkpoint(fitted, tmp_path / "fit.safetensors")
    again = predict(frames[0], tmp_path / "fit.safetensors")
    assert np.array_equal(again["environment"], fields[0]["environment"])
    with pytest.raises(ValueError, match="the descriptor knows only W"):
        predict(crystal("bcc", name="Mo"), path)


def test_bad_input_is_refused():
    rows, of, _ = two_kinds()
    for wrong, match in ((of[:-1], "rising order"), (of[::-1], "rising order"), (of * 0, "at least 4")):
        with pytest.raises(ValueError, match=match):
            train_contrast(rows, wrong, epochs=1)
    found = train_contrast(rows, of, epochs=1)
    with pytest.raises(ValueError, match="6 features"):
        Contrast.of(found)(rows[:, :3])
    with pytest.raises(CheckpointError, match="no checkpoint of an embedding"):
        Contrast.of(Checkpoint("environments", "environments/x", {}, found.weights))
    damaged = Checkpoint(
        "environments", "environments/x", {**found.config, "network": {"features": 2}}, found.weights
    )
    with pytest.raises(CheckpointError, match="cannot be used"):
        Contrast.of(damaged)
    with pytest.raises(CheckpointError, match="'descriptor' is missing"):
        load_model(found)  # it was trained on rows, not on frames
    with pytest.raises(ValueError, match="meagraph reads descriptors"):
        cluster(rows, "meagraph", embedding=found)


def test_the_study_compares_on_configurations_that_were_not_trained_on():
    groups = np.array(["a"] * 5 + ["b"] * 4)
    of = np.repeat(np.arange(9), 3)
    own = halves(groups, of, 0)
    assert all(len({*own[of == k]}) == 1 for k in range(9))
    assert own[::3][:5].sum() == 2 and own[::3][5:].sum() == 2
    curve = np.zeros(60)
    curve[20], curve[38:43] = 1.0, 0.5  # a single peak is noise
    assert best_of(curve) == 40
    assert filled(np.array([0, -1, 1, -1])).tolist() == [0, 2, 1, 3]
