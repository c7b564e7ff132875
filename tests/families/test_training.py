"""Training of a segmentation network: what comes out, that it comes out again, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from phaseseg.api import fit
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.segmentation import fit as fitting, samples
from phaseseg.families.segmentation.fit import BOUND, fit_segmentation
from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.network import SegmentationNetwork
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import RECIPE_RULE, TRAINING, NetworkConfig, Scaling
from phaseseg.io import read_frames
from phaseseg.neighbors import neighbor_graph
from phaseseg.nn.ops import Neighbors
from phaseseg.training import curves, files
from phaseseg.training.files import ArrayCache
from phaseseg.training.loop import Task, train_members
from phaseseg.training.runs import Run, validation_block, validation_runs
from phaseseg.training.settings import Settings

NETWORK = {"hidden": 4, "heads": 2, "layers": 1, "readout": 8}
QUICK = {"network": NETWORK, "epochs": 3, "seeds": (0,), "learning_rate": 2e-2, "batch_atoms": 1500}


@pytest.fixture(scope="module")
def runs(small):
    """Three runs of three frames."""
    return [small[3000][:9:3], small[3000][15:24:3], small[4000][:9:3]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test writes to the user's cache, and labels are made once."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setattr(fitting, "cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """A checkpoint of two members, written, with the folder it lies in."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "cache_folder", lambda: folder / "cache")
        output = folder / "mine.safetensors"
        made = fit_segmentation(runs, output=output, **QUICK | {"seeds": (0, 5), "epochs": 6})
    return made, folder


def weights_of(checkpoint):
    return {name: values for name, values in checkpoint.weights.items() if name.startswith("member")}


def same_weights(one, other):
    one, other = weights_of(one), weights_of(other)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def first_member(checkpoint):
    """Its network and the scaling of the features."""
    network = SegmentationNetwork(NetworkConfig.from_dict(checkpoint.config["network"]))
    own = {name.removeprefix("member0."): values for name, values in weights_of(checkpoint).items()}
    network.load_state_dict({name: torch.from_numpy(own[name].copy()) for name in network.state_dict()})
    parts = ("center", "scale", "low", "high")
    return network, Scaling(*(checkpoint.weights[f"feature.{part}"] for part in parts))


# -------------------------------------------------------------------------------- what comes out


@pytest.mark.slow
def test_a_few_epochs_tell_the_liquids_apart(trained):
    scores = trained[0].card["training"]["validation"]
    assert scores["error"] < 0.06 and scores["auc"] > 0.98
    assert scores["expected_calibration_error"] < 0.05


def test_the_file_is_the_checkpoint(trained):
    made, folder = trained
    read = load_checkpoint(folder / "mine.safetensors")
    assert read.hash == made.hash and read.name == "segmentation/mine" and read.units == "metal"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "mine.safetensors", "mine.curves.csv", "mine.curves.png",
    }  # fmt: skip


def test_configuration_and_weights(trained, runs):
    checkpoint, _ = trained
    config = NetworkConfig.from_dict(checkpoint.config["network"])
    assert config.target == ("Fe",) and set(config.species) == {"Fe", "Mg", "Si", "O", "N"}
    expected = {f"feature.{key}": (config.n_features,) for key in ("center", "scale", "low", "high")}
    for member in (0, 1):
        expected |= {f"member{member}.{name}": shape for name, shape in config.weight_shapes().items()}
    assert {name: values.shape for name, values in checkpoint.weights.items()} == expected
    score = checkpoint.config["score"]
    assert score["bound"] == 3.0 and len(score["scale"]) == len(score["offset"]) == 2
    assert 0.01 <= score["temperature"] < 1
    # The threshold is a number: that of the frames that were trained on.
    learned = runs[0] + runs[1]
    assert checkpoint.config["label_rule"]["threshold"] == pooled_threshold(learned, RECIPE_RULE).threshold
    densities = [frame.n_atoms / frame.volume for frame in learned]
    assert checkpoint.config["ranges"]["number_density"] == [min(densities), max(densities)]


def test_the_card_says_what_was_done(trained, runs):
    card = trained[0].card
    assert card["data"]["frames"] == 6 and card["data"]["atoms"] == 6 * 520
    assert [row[:5] for row in card["data"]["files"]["rows"]] == [
        ["run 1", "training", 3, 1560, 3],
        ["run 2", "training", 3, 1560, 3],
        ["run 3", "validation", 3, 1560, 3],
    ]
    assert "by run: 1 of 3 files" in card["split"]
    assert [row[0] for row in card["training"]["members"]["rows"]] == [0, 5]


def test_curves(trained):
    made, folder = trained
    lines = (folder / "mine.curves.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("member,seed,epoch,learning rate,loss,validation loss,validation error")
    assert len(lines) == 1 + 2 * 6
    rows = [line.split(",") for line in lines[1:]]
    for member, best in zip(("1", "2"), made.card["training"]["best_epochs"], strict=True):
        own = [row for row in rows if row[0] == member]
        assert [row[2] for row in own if row[-1] == "1"] == [str(best)]
        assert min(float(row[5]) for row in own) == float(own[best - 1][5])
    assert (folder / "mine.curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_kept_weights_are_those_of_the_best_epoch(trained, runs):
    """The validation loss of the checkpoint, computed from its files, is the least of the curve."""
    checkpoint, _ = trained
    config = NetworkConfig.from_dict(checkpoint.config["network"])
    rule = LabelRule(**checkpoint.config["label_rule"])
    network, scaling = first_member(checkpoint)
    losses = []
    for frame in runs[2]:
        graph = neighbor_graph(frame, cutoff=config.cutoff)
        features = node_features(frame, config.codes_of(frame), config)
        d = torch.from_numpy(np.array(label_frame(frame, rule)["interface_distance"]))
        with torch.no_grad():
            z = network(torch.from_numpy(scaling.apply(features)), Neighbors(graph.indptr, graph.neighbors))
        score = BOUND * torch.tanh((z[:, 1] - z[:, 0]) / BOUND)
        miss = (score - d.clamp(-BOUND, BOUND)).abs()
        losses.append(float(torch.where(miss < 0.5, miss**2, miss - 0.25).mean()))
    assert np.mean(losses) == pytest.approx(checkpoint.card["training"]["members"]["rows"][0][4], rel=1e-4)


def test_classes_weigh_the_same(runs):
    made = fit_segmentation(runs, loss="class", **QUICK)
    assert made.card["training"]["validation"]["error"] < 0.12
    weights = fitting._inverse_frequency(np.array([True, False, False, False]))
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])
    assert fitting._inverse_frequency(np.zeros(3, dtype=bool)).tolist() == [1.0, 1.0]


def test_the_line_to_angstrom():
    rng = np.random.default_rng(0)
    distance = rng.uniform(-4, 4, 20000)
    inside = 3.0 * np.arctanh(np.clip(distance, -2.9, 2.9) / 3.0)
    u = 5.0 * (inside - 0.2) + rng.normal(scale=0.5, size=len(distance))
    scale, offset = fitting._line(u, distance)
    assert scale == pytest.approx(0.2, rel=0.01) and offset == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ValueError, match="did not learn"):
        fitting._line(-u, distance)


@pytest.mark.parametrize("loss", ["distance", "class"])
def test_a_boundary_head_finds_the_boundary(runs, loss):
    rule = RECIPE_RULE.replace(boundary_width=3.0)
    options = QUICK | {"network": {**NETWORK, "outputs": 3}, "epochs": 12}
    made = fit_segmentation(runs, rule=rule, loss=loss, **options)
    config = NetworkConfig.from_dict(made.config["network"])
    network, scaling = first_member(made)
    frame = runs[2][0]
    graph = neighbor_graph(frame, cutoff=6.0)
    features = node_features(frame, config.codes_of(frame), config)
    with torch.no_grad():
        z = network(torch.from_numpy(scaling.apply(features)), Neighbors(graph.indptr, graph.neighbors))
    boundary = torch.softmax(z, dim=1)[:, 2].numpy()
    distance = label_frame(frame, LabelRule(**made.config["label_rule"]))["interface_distance"]
    near = np.abs(distance) <= 1.5
    assert boundary[near].mean() > 2 * boundary[~near].mean()


def test_a_frame_of_one_liquid_lies_on_one_side(slab_frame):
    melt = slab_frame.replace(species=np.where(np.arange(len(slab_frame)) % 8, 1, 0))
    for threshold, side in ((0.5, -np.inf), (0.01, np.inf)):
        rule = RECIPE_RULE.replace(threshold=threshold)
        assert label_frame(melt, rule)["n_phases"] == 1
        assert np.all(samples.label_distance(melt, rule) == side)
    distance = samples.label_distance(slab_frame, RECIPE_RULE)
    assert np.array_equal(distance, label_frame(slab_frame, RECIPE_RULE)["interface_distance"])


@pytest.mark.parametrize("architecture", ["gcn", "graphconv"])
def test_the_other_architectures(runs, architecture):
    network = {"architecture": architecture, "features": "counts", "counter": ("Mg",), "hidden": 8,
               "readout": 0}  # fmt: skip
    made = fit_segmentation(runs, **QUICK | {"network": network})
    assert made.config["network"]["heads"] == 1
    assert made.card["training"]["validation"]["error"] < 0.3


# ------------------------------------------------------------------------------- the same again


def test_the_same_seed_gives_the_same_bits(runs):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    one, two = fit_segmentation(runs, **QUICK), fit_segmentation(runs, **QUICK)
    assert torch.get_num_threads() == threads and torch.equal(torch.random.get_rng_state(), state)
    assert same_weights(one, two) and one.config == two.config
    assert not same_weights(one, fit_segmentation(runs, **QUICK | {"seeds": (1,)}))


class Interrupt:
    """A progress that interrupts at some member and epoch."""

    def __init__(self, at):
        self.at = at

    def __call__(self, done, line):
        if self.at in line:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("at", ["member 1/2, epoch 2/3", "member 2/2, epoch 1/3"])
def test_interrupted_and_resumed_is_the_same(runs, tmp_path, at):
    options = QUICK | {"seeds": (3, 4)}
    whole = fit_segmentation(runs, **options, name="segmentation/part")
    output, state = tmp_path / "part.safetensors", tmp_path / "part.state.safetensors"
    member, epoch = (part.split("/")[0] for part in at.split()[1::2])
    with pytest.raises(KeyboardInterrupt, match=f"after epoch {epoch} of member {member} lies in .*--resume"):
        fit_segmentation(runs, output=output, progress=Interrupt(at), **options)
    assert state.exists() and not output.exists()
    resumed = fit_segmentation(runs, output=output, resume=True, **options)
    assert not state.exists() and same_weights(load_checkpoint(output), whole)
    assert resumed.config == whole.config
    before, after = (
        [row[:-1] for row in made.card["training"]["members"]["rows"]] for made in (whole, resumed)
    )
    assert before == after


def test_a_state_is_not_overwritten_nor_mixed_up(runs, tmp_path):
    output, state = tmp_path / "part.safetensors", tmp_path / "part.state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_segmentation(runs, output=output, progress=Interrupt("epoch 1/3"), **QUICK)
    with pytest.raises(ValueError, match=r"part\.state.*in the way.*--resume.*delete"):
        fit_segmentation(runs, output=output, **QUICK)
    with pytest.raises(ValueError, match=r"another learning_rate \(0\.02, now 0\.03\)"):
        fit_segmentation(runs, output=output, resume=True, **QUICK | {"learning_rate": 3e-2})
    with pytest.raises(ValueError, match="another training data"):
        fit_segmentation([runs[1], runs[0][:2], runs[2]], output=output, resume=True, **QUICK)
    state.write_bytes(state.read_bytes()[:-7])
    with pytest.raises(ValueError, match="not a training state that can be continued"):
        fit_segmentation(runs, output=output, resume=True, **QUICK)


def test_resume_without_a_state_starts(runs, tmp_path):
    output = tmp_path / "new.safetensors"
    resumed = fit_segmentation(runs, output=output, resume=True, **QUICK)
    assert same_weights(resumed, fit_segmentation(runs, **QUICK))


def test_labels_are_kept_and_made_anew(runs, tmp_path, monkeypatch):
    calls = []

    def counting(frame, rule):
        calls.append(frame)
        return label_frame(frame, rule)

    monkeypatch.setattr(samples, "label_frame", counting)
    first = fit_segmentation(runs, cache=tmp_path, **QUICK)
    assert len(calls) == 9 and len(list(tmp_path.iterdir())) == 9
    assert same_weights(fit_segmentation(runs, cache=tmp_path, **QUICK), first) and len(calls) == 9
    damaged = sorted(tmp_path.iterdir())[:3]
    damaged[0].write_bytes(b"")
    damaged[1].write_bytes(damaged[1].read_bytes()[:-4])
    np.save(damaged[2], np.zeros(7))
    assert same_weights(fit_segmentation(runs, cache=tmp_path, **QUICK), first) and len(calls) == 12
    # Another rule, another frame: other labels.
    rule = LabelRule(**first.config["label_rule"])
    frame, network, cache = runs[0][0], NetworkConfig(**first.config["network"]), ArrayCache(tmp_path)

    def again(frame, rule):
        samples.samples_of([Run("one", [frame])], rule, network, cache, lambda done, line: None, "training")
        return len(calls)

    assert again(frame, rule) == 12
    assert again(frame, rule.replace(sigma=1.9)) == 13
    assert again(frame.replace(positions=frame.positions + 1e-9), rule) == 14


def test_no_place_for_a_cache(runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fit_segmentation(runs, cache=tmp_path / "file", **QUICK | {"epochs": 1})


# ------------------------------------------------------------------------------------- the split


def test_which_runs_and_frames_validate():
    assert [validation_runs(n) for n in (3, 5, 10)] == [[2], [4], [4, 9]]
    assert [list(range(n))[validation_block(n)] for n in (1, 2, 10)] == [[], [1], [8, 9]]


def test_two_runs_are_split_by_time(runs):
    made = fit_segmentation(runs[:2], **QUICK)
    rows = [row[:3] for row in made.card["data"]["files"]["rows"]]
    assert rows == [["run 1", "training", 2], ["run 2", "training", 2],
                    ["run 1", "validation", 1], ["run 2", "validation", 1]]  # fmt: skip


def test_validation_may_be_given(runs):
    made = fit_segmentation(runs[0], validation=runs[2], **QUICK)
    assert [row[:3] for row in made.card["data"]["files"]["rows"]] == [
        ["run 1", "training", 3], ["run 1", "validation", 3],
    ]  # fmt: skip
    assert made.card["split"] == "1 file given for validation (run 1)"


def test_every_nth_frame(runs):
    made = fit_segmentation(runs[0], validation=runs[1], every=2, **QUICK | {"epochs": 1})
    assert made.card["data"]["frames"] == 2


# ------------------------------------------------------------------------------------ what is refused


def test_settings_out_of_range(runs):
    for options, sentence in [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seeds": ()}, "seeds must be distinct"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"loss": "hinge"}, "loss must be distance or class"),
        ({"every": 0}, "every must be at least 1"),
        ({"network": {"layers": 0}}, "layers must be at least 1"),
        ({"output": "model.pt"}, r"must end in \.safetensors"),
        ({"output": "nowhere/model.safetensors"}, "there is no folder nowhere"),
        ({"name": "gat/mine"}, "not a valid checkpoint name"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            fit_segmentation(runs, **QUICK | options)


@pytest.mark.slow
def test_data_that_cannot_be_learned_from(runs, tmp_path):
    mixed = [frame.replace(species=np.random.default_rng(0).permutation(frame.species)) for frame in runs[0]]
    reduced = [frame.replace(units="lj") for frame in runs[1]]
    no_iron = [frame.replace(species=np.where(frame.species == 0, 1, frame.species)) for frame in runs[1]]
    silver = [frame.replace(species_names=("Fe", "Mg", "Si", "O", "Ag")) for frame in runs[1]]
    for data, options, sentence in [
        (mixed, {}, "run 1: no frame contains two phases.*phaseseg label"),
        (
            [*runs[0][:1]],
            {},
            "one frame with two phases is not enough for both .*validation=",
        ),
        ([runs[0], reduced, runs[2]], {}, "run 2 has 'lj' units, but run 1 has 'metal' units"),
        ([runs[0], no_iron, runs[2]], {}, "run 2: there is no Fe.*the file has .*species="),
        (runs[0], {"validation": silver}, "does not know the species Ag; it knows Fe"),
        (
            runs[0],
            {"validation": mixed},
            "no frame contains two phases.*nothing to check against|check against",
        ),
        ([runs[0], []], {}, "run 2: there are no frames"),
        ([], {}, "there are no files"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            fit_segmentation(data, **QUICK | options)


def test_without_torch(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "ovito-phaseseg\[train\]"'):
        fit(runs)


def test_an_unknown_family(runs):
    with pytest.raises(ValueError, match="no model family 'glass'; the families are segmentation"):
        fit(runs, "glass")


# -------------------------------------------------------------------------------------- the loop


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(1.0))


def toy(validation):
    """A parabola; validation losses are given, by epoch."""
    losses = iter(validation)
    return Task(
        build=OneNumber,
        batches=lambda rng: [rng.random() for _ in range(2)],
        loss=lambda network, batch: (network.x - 3) ** 2,
        validate=lambda network: (next(losses), 0.0),
    )


def quick(**changes):
    """Settings of one member that learns fast."""
    return Settings(**{**TRAINING, "seeds": (0,), "learning_rate": 0.1, **changes})


def test_early_stop_and_the_best_epoch():
    settings = quick(epochs=10, patience=2)
    member = train_members(toy([5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 1.0]), settings)[0]
    # A loss that is equal is not better.
    assert member.best_epoch == 4 and len(member.epochs) == 6
    follow = train_members(toy([1.0] * 4), replace(settings, epochs=4, patience=9))[0]
    assert follow.best_epoch == 1 and 1.0 < float(follow.weights["x"]) < 1.21


def test_the_learning_rate_falls_along_a_cosine():
    member = train_members(toy([1.0] * 10), quick(epochs=10))[0]
    rates = [epoch.learning_rate for epoch in member.epochs]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.1, rel=0.02) and 0.001 < rates[-1] < 0.003


def test_a_loss_that_is_no_number():
    with pytest.raises(ValueError, match=r"loss of epoch 2 is not a finite .* learning rate than 0\.1"):
        train_members(toy([1.0, float("nan")]), quick(epochs=3))


def test_a_figure_of_many_members():
    epochs = [curves.Epoch(0, 0, k + 1, 0.1, 1 / (k + 1), 1.1 / (k + 1), 0.0, 0.1) for k in range(3)]
    members = [curves.Member(seed, {}, 3, epochs) for seed in range(11)]
    assert len(curves.curves_figure(members).axes) == 2


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "phaseseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder().parts[-2:] == (".cache", "phaseseg")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert files.cache_folder().parts[-3:] == ("Library", "Caches", "phaseseg")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert files.cache_folder() == tmp_path / "phaseseg"


def test_files_are_read_like_frames(runs, tmp_path):
    from phaseseg.io import write_frames

    paths = []
    for number, frames in enumerate(runs):
        paths.append(tmp_path / f"{number}.dump.gz")
        write_frames(paths[-1], [(frame, {}) for frame in frames])
    read = [list(read_frames(path)) for path in paths]
    options = QUICK | {"epochs": 1}
    made = fit_segmentation(paths, **options)
    assert same_weights(made, fit_segmentation(read, **options))
    assert [row[0] for row in made.card["data"]["files"]["rows"]] == ["0.dump.gz", "1.dump.gz", "2.dump.gz"]


def test_the_interface_is_centered_on_that_of_the_labels(runs):
    """An offset that is wrong by 0.3 Å is found by the interface it makes."""
    made = fit_segmentation(runs, **QUICK)
    frames = runs[2]
    rule = LabelRule(**made.config["label_rule"])
    known = [np.array(label_frame(frame, rule)["interface_distance"]) for frame in frames]
    right = fitting.centered(made, zip(frames, known, strict=True)).config["score"]["offset"]
    score = made.config["score"]
    off = {**made.config, "score": {**score, "offset": [b + 0.3 for b in score["offset"]]}}
    again = fitting.centered(replace(made, config=off), zip(frames, known, strict=True))
    assert again.config["score"]["offset"] == pytest.approx(right, abs=0.1)
    alone = [(frame, np.full(len(frame), np.inf, dtype=np.float32)) for frame in frames]
    assert fitting.centered(made, alone) is made
