"""Environments as a family: a fit over all frames, checkpoints of fits, assignment, options, bad input."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from environment_samples import BASES, EDGES, crystal, fitted_checkpoint, network_checkpoint, run_of_crystals
from phaseseg import load_model, predict, predict_frames
from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from phaseseg.families.environments import learn as learning
from phaseseg.families.environments.clusters import cluster
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.fields import color_of
from phaseseg.families.environments.learn import fit_environments
from phaseseg.families.environments.meagraph import meagraph_clusters
from phaseseg.families.environments.mining import mine
from phaseseg.families.environments.outliers import outlier_scores
from phaseseg.families.environments.rules import EnvironmentsRule
from phaseseg.testing import AWKWARD, assert_same, check_conformance, check_fields, permuted, rotated

LEARNS = "environments/mixture-v1"
METHODS = ("mixture", "communities", "kmeans", "tree", "threshold")
OPTIONS = {"communities": {}, "tree": {"smallest": 10}, "threshold": {"distance": 6.5}}


@pytest.fixture(scope="module")
def run():
    return run_of_crystals()


@pytest.fixture(scope="module")
def grains():
    return fitted_checkpoint()


@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_crystals_are_found(run, method):
    """One label for each kind, the largest is 0, and new crystals get the label of their kind."""
    frames, kinds = run
    checkpoint = fitted_checkpoint(method)
    label = {}
    for frame, kind in zip(frames, kinds, strict=True):
        fields = predict(frame, checkpoint)
        check_fields(frame, fields)
        (found,) = np.unique(fields["environment"])
        assert label.setdefault(kind, found) == found and fields["n_environments"] == 1
        assert fields["n_unfamiliar"] <= 3
    assert label == {"sc": 0, "diamond": 1, "bcc": 2}
    assert checkpoint.config["shares"] == pytest.approx([192 / 428, 128 / 428, 108 / 428])
    for kind in BASES:
        fields = predict(crystal(kind, seed=99, noise=0.02), checkpoint)
        assert (fields["environment"] == label[kind]).mean() > 0.9, kind


def test_a_fit_over_all_frames(run):
    """`predict_frames` learns from all frames: the same labels as a clustering of all rows at once."""
    frames, _ = run
    rows = np.concatenate([PowerSpectrum(("W",))(frame) for frame in frames])
    found = cluster(rows, "kmeans", n_clusters=3)
    labels = found.assign(rows)
    options = {"method": "kmeans", "n_clusters": 3}
    fields = list(predict_frames(frames, LEARNS, **options))
    assert_array_equal(np.concatenate([f["environment"] for f in fields]), labels)
    assert_allclose(
        np.concatenate([f["environment_distance"] for f in fields]), found.distances(rows, labels), rtol=1e-6
    )
    model = load_model(LEARNS)
    fitted = model.fit_frames(frames, model.rule(**options))
    assert not model.fitted and fitted.fitted and fitted.halo == 5.0
    assert_same(fitted.predict(frames[2]), fields[2])
    with pytest.raises(ValueError, match="has no clusters yet"):
        model.run(frames[0])
    # The species of all frames are those of the descriptor.
    mixed = [frames[0], crystal("bcc", name="Ta")]
    assert fit_environments(mixed, method="kmeans").config["descriptor"]["species"] == ["Ta", "W"]


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_is_a_checkpoint_like_any_other(run, method, tmp_path):
    frames, _ = run
    model = load_model(LEARNS)
    options = OPTIONS.get(method, {"n_clusters": 3})
    fitted = model.fit_frames(frames, model.rule(method=method, cutoff=4.5, n_max=3, **options))
    path = tmp_path / "mine.safetensors"
    save_checkpoint(fitted.checkpoint, path)
    for frame in (frames[0], frames[1], crystal("sc", noise=0.3, seed=5)):
        assert_same(predict(frame, path), fitted.predict(frame))
    again = load_checkpoint(path)
    assert again.config["descriptor"] == {
        "kind": "power-spectrum", "species": ["W"], "cutoff": 4.5, "n_max": 3, "l_max": 4, "width": 0.5,
        "taper": 1.0,
    }  # fmt: skip
    assert again.config["options"]["method"] == method and again.config["n_atoms"] == 428
    assert set(again.card) >= {"summary", "data", "split", "training", "metrics", "limits"}
    assert "428 atoms of 7 frames (run.xyz)" in again.card["data"]
    # The options of the fit may be given again, as faces do.
    predict(frames[0], path, method=method, cutoff=4.5)
    assert_same(pickle.loads(pickle.dumps(fitted)).predict(frames[0]), fitted.predict(frames[0]))


# The method meagraph ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_network_finds_clusters_in_all_frames(run, tmp_path):
    """Labels are those of the network on all rows; a saved fit assigns the same without the network."""
    frames, _ = run
    checkpoint = network_checkpoint()
    rows = np.concatenate([PowerSpectrum(("W",))(frame) for frame in frames])
    labels = meagraph_clusters(rows, checkpoint)
    assert np.bincount(labels + 1).tolist() == [9, 190, 125, 104]
    fields = list(predict_frames(frames, checkpoint))
    assert_array_equal(np.concatenate([f["environment"] for f in fields]), labels)
    assert_allclose(np.concatenate([f["environment_distance"] for f in fields]), 0, atol=1e-6)
    model = load_model(checkpoint)
    assert not model.fitted and model.rule().method == "meagraph"
    fitted = model.fit_frames(frames, model.rule()).checkpoint
    save_checkpoint(fitted, tmp_path / "fit.safetensors")
    assert fitted.config["clusters"]["method"] == "meagraph"
    assert_same(predict(frames[3], tmp_path / "fit.safetensors"), fields[3])
    strange = frames[1].replace(positions=frames[1].positions * 0.6, cell=frames[1].cell * 0.6)
    assert (predict(strange, tmp_path / "fit.safetensors")["environment"] == -1).all()
    other = list(predict_frames(frames, checkpoint, rate=0.9))
    expected = meagraph_clusters(rows, checkpoint, rate=0.9)
    assert_array_equal(np.concatenate([f["environment"] for f in other]), expected)
    assert not np.array_equal(expected, labels)


def test_a_network_is_refused_for_what_it_was_not_trained_on(run):
    """The bundled network reads tantalum; one from these frames reads them, at its own cutoff only."""
    frames, _ = run
    with pytest.raises(ValueError, match=r"trained on the power spectrum of Ta .*described by .* of W"):
        predict(frames[0], "environments/mixture-v1", method="meagraph")
    tantalum = [frame.replace(species_names=("Ta",)) for frame in frames]
    assert "environment" in predict(tantalum[0], "environments/mixture-v1", method="meagraph")
    data = DataSet(frames)
    own = {"method": "meagraph", "options": {"network": network_checkpoint()}}
    rows = np.concatenate([PowerSpectrum(("W",))(frame) for frame in frames])
    mined = mine(data, **own)
    assert_array_equal(mined.labels, meagraph_clusters(rows, network_checkpoint()))
    assert mined.settings["network"] == "environments/random-v1"
    for options in ({"method": "meagraph"}, {**own, "descriptor": PowerSpectrum(("W",), cutoff=4.0)}):
        with pytest.raises(ValueError, match=r"Train a network on this set"):
            mine(data, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["environments/meagraph-ta-v1", "environments/contrast-ta-v1"])
def test_frames_outside_of_the_training_of_a_network(name, tmp_path):
    """Tantalum at 2 Å is four times as dense as the crystal; the training goes to 2.2 Å."""

    def tantalum(length, noise=0.02):
        frame, factor = crystal("bcc", noise=noise, name="Ta"), length / EDGES["bcc"]
        return frame.replace(positions=frame.positions * factor, cell=frame.cell * factor)

    def warned(fields):
        return [str(one) for one in fields.messages if one.code == "outside-training"]

    for length in (2.5, 3.3, 3.6):
        assert not warned(predict(tantalum(length), name)), length
    dense, model = tantalum(2.0), load_model(name)
    (sentence,) = warned(predict(dense, name))
    assert name in sentence and "100.0% of the atoms" in sentence
    # Saved clusters check further frames, and so do layers of a frame.
    fitted = model.fit_frames([tantalum(3.3)], model.rule()).checkpoint
    save_checkpoint(fitted, tmp_path / "fit.safetensors")
    assert warned(predict(dense, tmp_path / "fit.safetensors"))
    assert not warned(predict(tantalum(3.3), tmp_path / "fit.safetensors"))
    options = {"method": "meagraph"} if "meagraph" in name else {"options": {"embedding": name}}
    half = DataSet([dense, tantalum(3.3)])
    assert "50.0% of the atoms" in warned(mine(half, **options))[0]
    # A few atoms are no reason for a message, and rules without a network have none.
    assert not warned(mine(DataSet([tantalum(3.3)] * 2), **options)) and not warned(mine(half))


def test_a_network_keeps_its_descriptor(run):
    frames, _ = run
    checkpoint = network_checkpoint()
    with pytest.raises(ValueError, match=r"fitted with cutoff 5\.0, found 4\.0"):
        predict(frames[0], checkpoint, cutoff=4.0)
    with pytest.raises(ValueError, match="the frame has Mo, but the descriptor knows only W"):
        predict(crystal("bcc", name="Mo"), checkpoint)
    with pytest.raises(ValueError, match="meagraph has no option n_clusters; it has network, rate"):
        predict(frames[0], checkpoint, n_clusters=3)
    with pytest.raises(CheckpointError, match="settings in the checkpoint cannot be used"):
        load_model(broken(checkpoint, {"network": {"features": 3}}))
    # Other methods may use the descriptor of the network.
    fields = list(predict_frames(frames, checkpoint, method="kmeans", n_clusters=3))
    assert [np.unique(f["environment"]).tolist() for f in fields[:3]] == [[0], [2], [1]]


@pytest.mark.slow
def test_conformance_of_a_network():
    frames = [AWKWARD["one species"](), crystal("bcc", name="Fe", noise=0.2)]
    frames = [frame.replace(species_names=("W", "O")) for frame in frames]
    without = ("workers", "awkward frames")
    assert set(check_conformance(network_checkpoint(), *frames, without=without)) == {"devices"}


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_conformance(grains, tmp_path):
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    path = tmp_path / "mine.safetensors"
    save_checkpoint(fit_environments(frames, method="kmeans", n_clusters=5), path)
    assert set(check_conformance(path, *frames, without=("workers",))) == {"devices"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixture", "tree"])
def test_conformance_of_other_methods(method):
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    checkpoint = fit_environments(frames, method=method)
    without = ("workers", "awkward frames")
    assert set(check_conformance(checkpoint, *frames, without=without)) == {"devices"}


def test_the_fields_follow_from_labels(grains, run):
    frame = run[0][0].replace(messages=())
    fields = predict(frame, grains)
    labels, table = fields["environment"], fields["environment_clusters"]
    assert labels.dtype == np.int32 and fields["environment_distance"].dtype == np.float32
    assert table.columns["cluster"].tolist() == [0] and table.columns["atoms"].tolist() == [64]
    assert table.columns["share"].tolist() == [1.0]
    assert table.columns["share of the fit"] == pytest.approx([192 / 428])
    assert table.columns["mean distance"] == pytest.approx([fields["environment_distance"].mean()], rel=1e-5)
    assert [message.code for message in fields.messages] == ["environments"]


def test_strange_environments_are_told(grains):
    """A crystal that is compressed to 60 % of its lengths is no environment of the fit."""
    frame = crystal("bcc")
    small = frame.replace(positions=frame.positions * 0.6, cell=frame.cell * 0.6)
    fields = predict(small, grains)
    assert fields["n_unfamiliar"] == 54
    assert [message.code for message in fields.messages] == ["environments", "unfamiliar"]
    assert "100.0% of the atoms are farther" in fields.messages[-1]


def test_atoms_in_no_cluster(run):
    checkpoint = fitted_checkpoint("threshold", distance=6.5)
    frame = crystal("bcc")
    fields = predict(frame.replace(positions=frame.positions * 0.6, cell=frame.cell * 0.6), checkpoint)
    assert (fields["environment"] == -1).all() and fields["n_unassigned"] == 54
    assert fields["n_environments"] == 0 and len(fields["environment_clusters"]) == 0
    assert "unassigned" in [message.code for message in fields.messages]


def test_outlier_scores_of_the_fit_and_of_new_frames(run):
    """The atoms of the fit have the scores of the whole set; a new atom is compared with all of them."""
    frames, _ = run
    moved = np.where(np.arange(54)[:, None] == 7, 0.6, 0.0)
    strange = crystal("bcc", seed=50, source="strange", index=7)
    strange = strange.replace(positions=strange.positions + moved)
    rows = np.concatenate([PowerSpectrum(("W",))(frame) for frame in [*frames, strange]])
    of = np.repeat(np.arange(8), [len(frame) for frame in [*frames, strange]])
    expected = outlier_scores(rows, of)
    checkpoint = fit_environments([*frames, strange], method="kmeans", n_clusters=3)
    fields = [predict(frame, checkpoint) for frame in [*frames, strange]]
    assert_allclose(np.concatenate([f["outlier_score"] for f in fields]), expected, rtol=1e-5)
    assert fields[-1]["outlier_score"].argmax() == 7
    assert fields[-1]["largest_outlier_score"] > 2 * max(f["largest_outlier_score"] for f in fields[:-1])
    # Against the ordinary frames alone, the displaced atom is as strange, although it is in no fit.
    ordinary = fit_environments(frames, method="kmeans", n_clusters=3)
    new = predict(strange, ordinary)
    assert new["outlier_score"].argmax() == 7 and new["largest_outlier_score"] > 5
    # In another order, half of it, or turned: the same score for the same atom.
    model = load_model(ordinary)
    turned = rotated(permuted(frames[3], np.arange(64)[::-1]))
    assert_allclose(
        model.predict(turned)["outlier_score"][::-1], model.predict(frames[3])["outlier_score"], rtol=1e-4
    )


def test_references_of_outlier_scores_are_a_sample(run, monkeypatch):
    frames, _ = run
    monkeypatch.setattr(learning, "MOST_REFERENCES", 100)
    checkpoint = fit_environments(frames, method="kmeans", n_clusters=3)
    assert checkpoint.weights["outliers.points"].shape[1] == 100
    scores = predict(frames[0], checkpoint)["outlier_score"]
    assert (scores > 0).all() and 0.5 < np.median(scores) < 2


def test_a_sample_of_a_large_set(run, monkeypatch):
    """Of more atoms than fit in memory a random sample is described, the same one for the same seed."""
    frames, _ = run
    monkeypatch.setattr(learning, "MOST_ATOMS", 200)
    described = []
    real = learning.cluster
    monkeypatch.setattr(
        learning, "cluster", lambda rows, *a, **k: described.append(rows) or real(rows, *a, **k)
    )
    model = load_model(LEARNS)
    fits = [model.fit_frames(frames, model.rule(n_clusters=3, seed=seed)) for seed in (0, 0, 1)]
    assert [len(rows) for rows in described] == [200] * 3
    assert_array_equal(described[0], described[1])
    assert not np.array_equal(described[0], described[2])
    rows = np.concatenate([PowerSpectrum(("W",))(frame) for frame in frames])
    assert {row.tobytes() for row in described[0]} <= {row.tobytes() for row in rows}
    fields = fits[0].predict(frames[0])
    assert len(np.unique(fields["environment"])) == 1
    assert "sampled" in [message.code for message in fields.messages]
    assert any("a random sample of 200 of 428 atoms" in message for message in fields.messages)


def test_progress_and_interruption(run):
    frames, _ = run
    model, seen = load_model(LEARNS), []
    rule = model.rule(method="kmeans", n_clusters=3)
    model.fit_frames(frames, rule, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) >= 9

    def stop(done, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit_frames(frames, rule, progress=stop)


def test_one_atom_and_isolated_atoms(grains, run):
    one = run[0][0].take([0])
    far = one.replace(cell=np.eye(3) * 50)
    fields = predict(far, grains)
    assert fields["environment"].shape == (1,) and np.isfinite(fields["environment_distance"]).all()
    assert fields["n_unfamiliar"] == 1
    with pytest.raises(ValueError, match="need at least two atoms, found 1; give more frames"):
        predict(one, LEARNS)
    isolated = [far, far.replace(positions=far.positions + 1.0)]
    for fields in predict_frames(isolated, LEARNS, method="kmeans", n_clusters=1):
        assert fields["environment"].tolist() == [0]
        assert "1 atom has no neighbor within 5 Å" in " ".join(fields.messages)
    assert "no neighbor" not in " ".join(predict(run[0][0], grains).messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dbscan"}, "method must be one of mixture, communities, kmeans"),
        ({"n_clusters": 0}, "n_clusters must be a whole number from 1"),
        ({"n_clusters": 2.5}, "n_clusters must be a whole number"),
        ({"n_clusters": True}, "n_clusters must be a whole number"),
        ({"cutoff": 1.0}, r"cutoff must be a number above 1 and up to 20, found 1\.0"),
        ({"cutoff": float("nan")}, "cutoff must be a number"),
        ({"l_max": 13}, "l_max must be a whole number from 0 to 12"),
        ({"distance": -0.1}, "distance must be a number"),
        ({"descriptor": "soap"}, "descriptor must be power-spectrum, array:NAME or file:PATH, found 'soap'"),
        ({"descriptor": "array:"}, "descriptor must be"),
        ({"descriptor": 3}, "descriptor must be"),
        ({"method": "kmeans", "smallest": 3}, "kmeans has no option smallest"),
        ({"method": "threshold"}, "needs a distance"),
        ({"descriptor": "array:soap"}, r"run\.xyz, frame 0: the frame has no array 'soap'.*there are none"),
    ],
)
def test_bad_options(run, options, message):
    with pytest.raises(ValueError, match=message):
        list(predict_frames(run[0], LEARNS, **options))


def test_unlike_frames_and_options_are_refused(grains, run):
    frames, _ = run
    with pytest.raises(ValueError, match=r"^grains: the frame has Mo, but the descriptor knows only W\."):
        predict(crystal("bcc", name="Mo", source="grains"), grains)
    with pytest.raises(ValueError, match=r"fitted with cutoff 5\.0, found 4\.5; leave the option cutoff out"):
        predict(frames[0], grains, cutoff=4.5)
    with pytest.raises(ValueError, match="fitted with method kmeans, found mixture"):
        predict(frames[0], grains, method="mixture")
    with pytest.raises(ValueError, match="fitted with descriptor power-spectrum, found array:soap"):
        predict(frames[0], grains, descriptor="array:soap")
    with pytest.raises(ValueError, match=r"x\.xyz: lengths are in reduced units \(lj\).* by the σ"):
        fit_environments([frames[0].replace(units="lj", source="x.xyz")])
    with pytest.raises(ValueError, match="lengths are in reduced units"):
        predict(frames[0].replace(units="lj"), grains)
    with pytest.raises(ValueError, match="runs on the processor only"):
        predict(frames[0], grains, device="torch")
    with pytest.raises(TypeError, match="unknown option clusters"):
        predict(frames[0], grains, clusters=3)


@pytest.mark.slow
def test_outlier_scores_of_many_species():
    """A fitted checkpoint gives the scores of mining, which do not depend on which species is where."""
    rng, names = np.random.default_rng(0), ("Al", "Co", "Cr", "Cu", "Fe", "Ni")
    frames = [
        crystal("bcc", seed=k, noise=0.05).replace(species=rng.integers(0, 6, 54), species_names=names)
        for k in range(30)
    ]
    moved = frames[7].positions.copy()
    moved[5] += [0.5, 0.4, 0.0]
    frames[7] = frames[7].replace(positions=moved)
    checkpoint = fit_environments(frames, method="kmeans")
    fields = [predict(frame, checkpoint) for frame in frames]
    scores = np.concatenate([one["outlier_score"] for one in fields])
    assert scores.argmax() // 54 == 7
    assert all("outliers-all-species" in [said.code for said in one.messages] for one in fields)
    assert_allclose(scores, mine(DataSet(frames), method="none", outliers=True).scores, rtol=1e-5)
    with pytest.raises(CheckpointError, match="outlier scores compare 49 features"):
        load_model(broken(checkpoint, weights={"outliers.scale.center": np.zeros((1, 49), dtype=np.float32)}))


def broken(checkpoint, config=None, weights=None):
    return Checkpoint(
        "environments", "environments/broken", {**checkpoint.config, **(config or {})},
        {**checkpoint.weights, **(weights or {})},
    )  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        {"clusters": "many"}, {"clusters": {"method": "dice"}}, {"clusters": []}, {"shares": [1.0]},
        {"shares": [2.0, 0.0, 0.0]}, {"shares": "all"}, {"familiar": -1}, {"familiar": "far"},
        {"options": {"cutof": 3}}, {"options": {"cutoff": "wide"}}, {"options": [1]}, {"options": 3},
        {"descriptor": {"kind": "dice"}}, {"descriptor": {"kind": "power-spectrum"}}, {"descriptor": "soap"},
        {"descriptor": {"kind": "power-spectrum", "species": "W", "cutoff": 5.0, "n_max": 4, "l_max": 4,
                        "width": 0.5, "taper": 1.0}},
        {"descriptor": {"kind": "power-spectrum", "species": ["W"], "cutoff": 5.0, "n_max": 3, "l_max": 4,
                        "width": 0.5, "taper": 1.0}},
        {"descriptor": {"kind": "power-spectrum", "species": ["W"], "cutoff": "5", "n_max": 4, "l_max": 4,
                        "width": 0.5, "taper": 1.0}},
    ],
)  # fmt: skip
def test_damaged_settings_are_refused(grains, config):
    with pytest.raises(CheckpointError, match=r"^environments/broken: the settings .* cannot be used: .*\.$"):
        load_model(broken(grains, config))


def test_damaged_arrays_are_refused(grains):
    for name, values in grains.weights.items():
        if name.startswith("clusters."):
            with pytest.raises(CheckpointError, match="cannot be used"):
                load_model(broken(grains, weights={name: np.concatenate([values] * 4)}))
    with pytest.raises(CheckpointError, match="is missing"):
        load_model(Checkpoint("environments", "environments/x", grains.config, {"atoms": np.zeros(1, "f4")}))


def test_rules_are_plain():
    rule = load_model(LEARNS).rule(method="tree", smallest=5)
    assert json.loads(json.dumps(rule.to_dict()))["smallest"] == 5
    assert rule.method_options() == {"smallest": 5} and not rule.reads_fields
    assert EnvironmentsRule(descriptor="array:soap").reads_fields


def test_colors_are_stable_and_differ():
    colors = [color_of(label) for label in range(20)]
    assert colors == [color_of(label) for label in range(20)] and color_of(-1) == (0.6, 0.6, 0.6)
    apart = np.linalg.norm(np.array(colors)[:, None] - np.array(colors), axis=-1)
    assert apart[~np.eye(20, dtype=bool)].min() > 0.1
    assert all(0 <= part <= 1 for color in map(color_of, range(1000)) for part in color)
