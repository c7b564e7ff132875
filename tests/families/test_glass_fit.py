"""Training of networks for liquid and glass: what comes out, that it comes out again, and what is refused."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from phaseseg.api import fit
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.liquid_glass import fit as fitting
from phaseseg.families.liquid_glass.crops import (
    CropDataset,
    cells_of,
    count_particles,
    crop_graphs,
    cut_crops,
    draw_crops,
)
from phaseseg.families.liquid_glass.fit import (
    STATES,
    configuration,
    crop_logits,
    crop_task,
    fit_liquid_glass,
    fit_with_search,
    glass_runs,
    search_liquid_glass,
    validate,
)
from phaseseg.families.liquid_glass.network import GlassNetwork
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.liquid_glass.states import temperature_label
from phaseseg.io import read_frames, write_frames
from phaseseg.training import search as searching
from phaseseg.training.runs import Run, fold_of_runs
from phaseseg.training.search import NestedSearch
from samples import cooled

LABELS = {"glass_below": 0.1, "liquid_above": 1.0}
SMALL = {"hidden": 8, "steps": 2, "window": (7.5, 12.0)}
QUICK = {
    **LABELS, "network": SMALL, "epochs": 3, "windows": 120, "held_windows": 40, "batch_atoms": 600,
    "learning_rate": 2e-2,
}  # fmt: skip
IMAGES = {
    "architecture": "cnn", "image_size": 40, "pixels_per_sigma": 8, "kernels": (3, 4), "kernel_sizes": (5, 3),
    "pool": 2, "dense": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs():
    return [cooled(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """A checkpoint of two members with attention and dropout, written, with the folder it lies in."""
    folder = tmp_path_factory.mktemp("trained")
    network = {**SMALL, "attention": True, "dropout": 0.1}
    options = QUICK | {"network": network, "epochs": 5, "folds": 2, "seed": 3}
    return fit_liquid_glass(runs, output=folder / "mine.safetensors", **options), folder


def same_weights(one, other):
    assert one.weights.keys() == other.weights.keys()
    return all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


# -------------------------------------------------------------------------------- what comes out


@pytest.mark.slow
def test_a_few_epochs_tell_glass_from_liquid(trained):
    scores = trained[0].card["training"]["validation"]
    assert scores["auc"] > 0.98 and scores["accuracy"] > 0.9 and scores["whole_cell_accuracy"] > 0.7
    assert scores["windows"] == 80


def test_the_file_is_the_checkpoint(trained):
    made, folder = trained
    read = load_checkpoint(folder / "mine.safetensors")
    assert read.hash == made.hash and read.name == "liquid_glass/mine" and read.units == "lj"
    assert {path.name for path in folder.iterdir()} == {
        "mine.safetensors", "mine.curves.csv", "mine.curves.png",
    }  # fmt: skip


def test_configuration_and_weights(trained, runs):
    checkpoint, _ = trained
    config = GlassConfig.from_dict(checkpoint.config["network"])
    assert config == GlassConfig(**SMALL, attention=True, dropout=0.1, dimensions=2)
    expected = {
        f"member{member}.{name}": shape for member in (0, 1) for name, shape in config.weight_shapes().items()
    }
    assert {name: values.shape for name, values in checkpoint.weights.items()} == expected
    assert checkpoint.ranges == {"number_density": [1.0, 1.0], "b_fraction": [1 / 3, 1 / 3]}
    assert checkpoint.config["temperature_scaling"] > 0


def test_the_card_says_what_was_done(trained):
    card = trained[0].card
    assert {name: card["data"][name] for name in ("configurations", "glass", "liquid", "runs")} == {
        "configurations": 8, "glass": 4, "liquid": 4, "runs": 4,
    }  # fmt: skip
    assert [row[:4] for row in card["data"]["files"]["rows"]] == [
        ["run 1", "fold 1", 1, 1], ["run 2", "fold 2", 1, 1],
        ["run 3", "fold 1", 1, 1], ["run 4", "fold 2", 1, 1],
    ]  # fmt: skip
    assert card["labels"] == LABELS and "by run, 2 folds" in card["split"]
    members = card["training"]["members"]
    assert [row[0] for row in members["rows"]] == [3, 4]
    assert all(len(row) == len(members["columns"]) for row in members["rows"])
    json.dumps(card, allow_nan=False)


def test_the_kept_weights_are_those_of_the_best_epoch(trained, runs):
    """The validation loss of a member, computed from the file and its own fold, is the least of its curve."""
    made, _ = trained
    config = GlassConfig.from_dict(made.config["network"])
    labeled = glass_runs(runs, temperature_label(0.1, 1.0))
    crops = CropDataset(config, labeled)
    for member in (0, 1):
        weights = {
            name.removeprefix(f"member{member}."): values
            for name, values in made.weights.items()
            if name.startswith(f"member{member}.")
        }
        held = crops.held(np.arange(4) % 2 == member, 40, 600, (3, 1 << 20, member))
        network = GlassNetwork(config).eval()
        network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in weights.items()})
        loss, error = validate(network, crops, held)
        row = made.card["training"]["members"]["rows"][member]
        assert [loss, error] == pytest.approx(row[4:6], rel=1e-5)
        logit, glass = crop_logits(weights, crops, held)
        assert np.mean((logit > 0) != glass) == pytest.approx(error)


def test_what_is_learned_from_is_never_checked_on(runs):
    """No window of a run's fold among those of its member, half of all glass, sizes mixed."""
    labeled = glass_runs(runs, temperature_label(0.1, 1.0))
    config = configuration(SMALL, labeled)
    crops = CropDataset(config, labeled)
    mine = np.array([True, False, False, True])
    held = crops.held(mine, 30, 400, (0,))
    task = crop_task(crops, ~mine, held, 50, 400)
    learned = task.batches(np.random.default_rng(0))
    for part, allowed in ((learned, {1, 2}), (held, {0, 3})):
        assert {int(crops.run[k]) for batch in part for k in batch.spec.cell} == allowed
        glass = np.concatenate([batch.glass for batch in part])
        assert glass.mean() == 0.5
        for batch in part:
            assert np.array_equal(crops.glass[batch.spec.cell], batch.glass)
    assert sum(len(batch.glass) for batch in learned) == 50
    shares = np.concatenate([batch.spec.share[:, 0] for batch in learned])
    assert shares.min() < 0.55 and shares.max() > 0.75
    sizes = [count_particles(crops.cells, batch.spec) for batch in learned]
    assert all(own.sum() >= 400 and own[:-1].sum() < 400 for own in sizes[:-1])
    # Other windows in every epoch, the same in the same.
    again, other = (task.batches(np.random.default_rng(k)) for k in (0, 1))
    assert np.array_equal(again[0].spec.corner, learned[0].spec.corner)
    assert not np.array_equal(other[0].spec.corner[:3], learned[0].spec.corner[:3])


def test_curves(trained):
    made, folder = trained
    lines = (folder / "mine.curves.csv").read_text("utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:]]
    assert len(rows) == 10
    for member, best in zip(("1", "2"), made.card["training"]["best_epochs"], strict=True):
        assert [row[2] for row in rows if row[0] == member and row[-1] == "1"] == [str(best)]
    assert (folder / "mine.curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_images_are_learned_too(runs):
    options = QUICK | {"network": IMAGES, "folds": 1, "seed": 1, "learning_rate": 1e-2, "epochs": 5}
    made = fit_liquid_glass(runs[:3], validation=runs[3:], **options)
    assert made.card["training"]["validation"]["auc"] > 0.9
    config = GlassConfig.from_dict(made.config["network"])
    assert config.image_edge == 5 and "whole_cell_auc" not in made.card["training"]["validation"]
    assert {name.removeprefix("member0.") for name in made.weights if name.startswith("member0.")} == set(
        config.weight_shapes()
    )


@pytest.mark.slow
def test_cubes_in_three_dimensions():
    runs = [cooled(seed, n=343, dimensions=3) for seed in range(2)]
    made = fit_liquid_glass(runs, **QUICK | {"folds": 2, "epochs": 5})
    assert made.config["network"]["dimensions"] == 3
    assert made.card["training"]["validation"]["auc"] > 0.95
    assert made.ranges["number_density"] == pytest.approx([1.0, 1.0])


def test_images_have_two_dimensions():
    runs = [cooled(seed, n=64, dimensions=3) for seed in range(2)]
    with pytest.raises(ValueError, match="images need two dimensions"):
        fit_liquid_glass(runs, **QUICK | {"network": IMAGES, "folds": 2})


@pytest.mark.slow
@pytest.mark.parametrize("features", ["types", "coordinates"])
def test_the_other_features(runs, features):
    network = {**SMALL, "features": features, "k": 3}
    made = fit_liquid_glass(runs, **QUICK | {"folds": 2, "epochs": 1, "network": network})
    assert made.config["network"]["features"] == features


def test_a_function_may_say_what_is_glass(runs):
    """As where glass and liquid are of different runs."""
    named = [[f.replace(info={**f.info, "rate": float(k)}) for f in run] for k, run in enumerate(runs)]

    def label(frame):
        glass, liquid = frame.info["rate"] < 2, frame.info["rate"] >= 2
        return True if glass and frame.info["temperature"] < 0.1 else False if liquid else None

    options = {key: value for key, value in QUICK.items() if key not in LABELS}
    made = fit_liquid_glass(named, label=label, **options | {"folds": 2, "epochs": 1})
    assert [row[1:4] for row in made.card["data"]["files"]["rows"]] == [
        ["fold 1", 1, 0], ["fold 2", 1, 0], ["fold 1", 0, 3], ["fold 2", 0, 3],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="a label, not both"):
        fit_liquid_glass(named, label=label, **LABELS)
    with pytest.raises(ValueError, match="glass_below"):
        fit_liquid_glass(named, glass_below=0.1)


@pytest.mark.slow
def test_runs_given_for_validation(runs):
    made = fit_liquid_glass(runs[:2], validation=runs[2:], **QUICK | {"folds": 1})
    assert made.card["split"] == "by run: 2 of 4 runs given for validation"
    assert [row[1] for row in made.card["data"]["files"]["rows"]] == [
        "training", "training", "validation", "validation",
    ]  # fmt: skip
    assert made.card["data"]["configurations"] == 4
    seeded = [[frame.replace(info={**frame.info, "seed": 7.0}) for frame in run] for run in runs[1:3]]
    with pytest.raises(ValueError, match="seed 7: used for both training and validation"):
        fit_liquid_glass([runs[0], seeded[0]], validation=[seeded[1]], **QUICK | {"folds": 1})


# ----------------------------------------------------------------------------------------- folds


def run_of(name, glass, liquid, group=""):
    labels = (True,) * glass + (False,) * liquid
    return Run(name, [None] * len(labels), group or name, labels)


def test_runs_of_one_seed_stay_together():
    runs = [run_of(f"run {k}", 1, 2, f"seed {k % 5}") for k in range(10)]
    fold = fold_of_runs(runs, 3, STATES)
    assert np.array_equal(fold[:5], fold[5:])
    assert sorted(np.bincount(fold)) == [2, 4, 4]


@pytest.mark.parametrize("kinds", ["gggglllll", "gglb", "bgglllb", "lbbg", "bbbbbbb"])
def test_every_fold_has_glass_and_liquid(kinds):
    runs = [run_of(f"{k}", int(kind in "gb"), int(kind in "lb")) for k, kind in enumerate(kinds)]
    folds = min(sum(run.count(state) for run in runs) for state in STATES)
    fold = fold_of_runs(runs, folds, STATES)
    for k in range(folds):
        own = [run for run, where in zip(runs, fold, strict=True) if where == k]
        assert all(any(run.count(state) for run in own) for state in STATES)


# ------------------------------------------------------------------------------------ comes again


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [{**SMALL, "dropout": 0.4, "attention": True}, {**IMAGES, "dropout": 0.3}]
)
def test_interrupted_and_resumed_is_the_same(runs, tmp_path, network):
    """Bit for bit, dropout and rotations of images included."""
    options = QUICK | {
        "network": network, "folds": 2, "windows": 30, "held_windows": 10, "learning_rate": 3e-3,
    }  # fmt: skip
    whole = fit_liquid_glass(runs, **options)
    torch.manual_seed(123)  # what was drawn before is of no account
    assert same_weights(whole, fit_liquid_glass(runs, **options))

    def stop(share, line):
        if line.startswith("member 2/2, epoch 2/3"):
            raise KeyboardInterrupt

    output = tmp_path / "part.safetensors"
    with pytest.raises(KeyboardInterrupt, match=r"after epoch 2 of member 2 lies in .*part\.state"):
        fit_liquid_glass(runs, output=output, progress=stop, **options)
    with pytest.raises(ValueError, match="the state of an unfinished training is in the way"):
        fit_liquid_glass(runs, output=output, **options)
    with pytest.raises(ValueError, match="the unfinished training had another windows"):
        fit_liquid_glass(runs, output=output, resume=True, **options | {"windows": 31})
    with pytest.raises(ValueError, match="the unfinished training had another data"):
        fit_liquid_glass(runs[::-1], output=output, resume=True, **options)
    done = fit_liquid_glass(runs, output=output, resume=True, **options)
    assert same_weights(whole, done) and not (tmp_path / "part.state.safetensors").exists()


def test_another_seed_is_another_network(runs):
    options = QUICK | {"folds": 2, "epochs": 1, "windows": 20}
    made = [fit_liquid_glass(runs, **options, seed=seed) for seed in (0, 5)]
    assert not same_weights(*made)


def test_members_see_their_own_folds(runs, monkeypatch):
    tasks = []
    real = fitting.train_members

    def watched(given, *arguments, **options):
        tasks.extend(given)
        return real(given, *arguments, **options)

    monkeypatch.setattr(fitting, "train_members", watched)
    fit_liquid_glass(runs, **QUICK | {"folds": 4, "epochs": 1, "windows": 20, "held_windows": 4})
    seen = [
        {int(k) // 2 for batch in task.batches(np.random.default_rng(0)) for k in batch.spec.cell}
        for task in tasks
    ]
    assert seen == [{0, 1, 2, 3} - {k} for k in range(4)]


def test_the_data_are_as_before(runs):
    before = [frame.positions.copy() for run in runs for frame in run]
    fit_liquid_glass(runs, **QUICK | {"folds": 2, "epochs": 1, "windows": 20})
    after = [frame.positions for run in runs for frame in run]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


# ---------------------------------------------------------------------------------------- search

SEARCH = {
    "network": {**SMALL, "features": "types"}, "folds": 3, "windows": 16, "held_windows": 12, "epochs": 2,
    "batch_atoms": 600, **LABELS,
}  # fmt: skip


def plain(result):
    """What does not depend on the clock."""
    return [
        ([(t.parameters, t.loss, t.losses) for t in fold.trials], fold.test) for fold in result.folds
    ], result.chosen


@pytest.mark.slow
def test_a_search_is_nested_and_goes_on_where_it_was(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "_STARTUP", 2)
    whole = search_liquid_glass(runs, 4, **SEARCH)
    assert [len(fold.trials) for fold in whole.folds] == [4, 4, 4]
    for fold in whole.folds:
        for trial in fold.trials:
            assert set(trial.parameters) == {"k", "dropout", "ffn_layers", "learning_rate"}
            assert 1 <= trial.parameters["k"] <= 5 and 3e-4 <= trial.parameters["learning_rate"] <= 1e-2
        assert fold.best.loss == min(t.loss for t in fold.trials if t.loss is not None)
        assert fold.test["windows"] == 12 and 0 <= fold.test["auc"] <= 1
    best = min((fold.best for fold in whole.folds), key=lambda trial: trial.loss)
    assert whole.chosen == {**SEARCH["network"], **best.parameters}
    assert len(whole.table()) == 12
    card = whole.card()
    json.dumps(card, allow_nan=False)
    assert card["trials"] == [4, 4, 4] and len(card["folds"]["rows"]) == 3

    record, calls = tmp_path / "search.json", []
    real = NestedSearch._trial

    def stop(self, *arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(NestedSearch, "_trial", stop)
    with pytest.raises(KeyboardInterrupt, match=r"5 finished trials lie in .*search\.json"):
        search_liquid_glass(runs, 4, record=record, **SEARCH)
    with pytest.raises(ValueError, match="trials of an unfinished search are in the way"):
        search_liquid_glass(runs, 4, record=record, **SEARCH)
    with pytest.raises(ValueError, match="the unfinished search had another windows"):
        search_liquid_glass(runs, 4, record=record, resume=True, **SEARCH | {"windows": 18})
    done = search_liquid_glass(runs, 4, record=record, resume=True, **SEARCH)
    assert len(calls) == 6 + 7 and plain(done) == plain(whole)
    record.write_text("{}")
    with pytest.raises(ValueError, match="this is not a search that can be continued"):
        search_liquid_glass(runs, 4, record=record, resume=True, **SEARCH)


def test_the_fold_put_aside_has_no_say(runs, monkeypatch):
    seen = []
    real = searching.train_members

    def watched(tasks, *arguments, **options):
        seen.append(
            {int(k) // 2 for t in tasks for d in t.batches(np.random.default_rng(0)) for k in d.spec.cell}
        )
        return real(tasks, *arguments, **options)

    monkeypatch.setattr(searching, "train_members", watched)
    search_liquid_glass(runs[:3], 1, **SEARCH | {"epochs": 1})
    assert seen == [{1, 2}, {0, 2}, {0, 1}]


@pytest.mark.slow
def test_a_search_and_then_a_training(runs, tmp_path):
    options = {key: SEARCH[key] for key in ("windows", "held_windows", "batch_atoms", *LABELS)}
    made = fit_with_search(
        runs, 1, output=tmp_path / "found.safetensors", search_epochs=1, epochs=1, network=SEARCH["network"],
        **options,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        "found.safetensors", "found.search.csv", "found.curves.csv", "found.curves.png",
    }  # fmt: skip
    found = made.card["search"]
    assert all(made.config["network"][name] == found["chosen"][name] for name in ("k", "dropout", "steps"))
    assert (tmp_path / "found.search.csv").read_text("utf-8").startswith("fold,trial,k,dropout,ffn_layers")


# ------------------------------------------------------------------------------------- bad input


def changed(runs, **changes):
    return [[frame.replace(**changes) for frame in run] for run in runs]


def test_data_that_cannot_be_learned_from(runs, tmp_path):
    def refuses(sentence, data, **options):
        with pytest.raises(ValueError, match=sentence):
            fit_liquid_glass(data, **QUICK | options)

    refuses("seed 0 at 2.0: there is no 'temperature'", changed(runs, info={}))
    refuses("there is no 'T'", runs, temperature="T")
    refuses("4 configurations are glass and 0 are liquid", runs, liquid_above=5.0)
    refuses("0 configurations are glass and 4 are liquid", runs, glass_below=0.01)
    refuses("the glass must be colder than the liquid", runs, glass_below=2.0)
    refuses("lengths are in Å, but these networks need reduced units", changed(runs, units="metal"))
    flat = [*runs[:2], *[cooled(k, n=64, dimensions=3) for k in (7, 8)]]
    refuses("has 3 dimensions, but 2 were expected", flat)
    refuses("no particle is B; the species are A", changed(runs, species=np.zeros(225, dtype=int)))
    refuses("the network does not know P, only A and B", changed(runs, species_names=("A", "P")))
    refuses("the smallest windows, of 1.5 σ, have about 2 particles", runs, network={"window": (1.5, 4.5)})
    refuses(r"have about 56 particles, too few to find 40 neighbors", runs, network={**SMALL, "k": 40})
    refuses("4 independent runs hold glass, and 5 folds need one each", runs, folds=5)
    refuses("1 independent run holds glass, and 2 folds", runs[0], folds=2)
    refuses("run 5 and run 1 hold the same configuration", [*runs, runs[0]])
    refuses("folds must be at least 2", runs, folds=1)
    refuses("windows must be at least 2", runs, windows=1)
    refuses("architecture must be dmpnn or cnn", runs, network={"architecture": "gat"})
    refuses("windows of 20 σ do not fit", runs, network={**IMAGES, "pixels_per_sigma": 2})
    refuses("a checkpoint file must end in", runs, output=tmp_path / "mine.pt")
    refuses("there is no folder", runs, output=tmp_path / "no" / "mine.safetensors")


def test_searches_that_cannot_be(runs):
    for sentence, trials, options in (
        ("a search needs at least 1 trial", 0, {}),
        ("a search needs at least 3 folds", 2, {"folds": 2}),
        ("the network has no setting 'depth'", 2, {"network": {"depth": 3}}),
        ("4 independent runs hold glass, and 5 folds", 2, {"folds": 5}),
        ("too few to find 5 neighbors", 2, {"network": {"window": (3.3, 7.5)}}),
    ):
        with pytest.raises(ValueError, match=sentence):
            search_liquid_glass(runs, trials, **SEARCH | options)


def test_without_optuna(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "ovito-phaseseg\[train\]"'):
        search_liquid_glass(runs, 2, **SEARCH)


def test_files_are_runs(runs, tmp_path):
    """The door for all families; what a file says of its units and temperatures is believed."""
    paths = [tmp_path / f"run{k}.xyz.gz" for k in range(2)]
    for path, run in zip(paths, runs, strict=False):
        write_frames(path, [(frame, {}) for frame in run])
    options = QUICK | {"folds": 2, "epochs": 1, "windows": 20}
    made = fit(paths, "liquid_glass", **options)
    assert [row[0] for row in made.card["data"]["files"]["rows"]] == ["run0.xyz.gz", "run1.xyz.gz"]
    read = [list(read_frames(path)) for path in paths]  # as they are after rounding
    assert same_weights(made, fit_liquid_glass(read, **options))


def test_windows_too_small_by_chance_are_drawn_again():
    """A cell with a hole: what is drawn there is drawn again elsewhere."""
    frame = cooled(0)[-1]
    keep = np.linalg.norm(frame.positions[:, :2] - 7.5, axis=1) > 5
    holed = frame.replace(positions=frame.positions[keep], species=frame.species[keep])
    cells, which = cells_of([holed], [holed.species], 2), np.zeros(200, dtype=np.int64)
    spec = draw_crops(cells, which, np.random.default_rng(0), edge=(4.2, 4.2), least=3)
    assert count_particles(cells, spec).min() == 3
    graphs = crop_graphs(cut_crops(cells, spec), GlassConfig(k=2))
    assert all(b - a > 2 for a, b in pairwise(graphs.starts))
    with pytest.raises(ValueError, match=r"windows of 0\.3 to 0\.3 σ rarely contain 3 particles"):
        draw_crops(cells, which, np.random.default_rng(0), edge=(0.3, 0.3), least=3)
