"""Training of the message-passing network: gradients, options, resumption, and what is calibrated."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mobility_samples import liquid, random_checkpoint
from naive.messages import message_network
from phaseseg import load_model, predict, write_frames
from phaseseg.api import fit
from phaseseg.families.mobility.inference import MessageNetwork
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.settings import TER, BapstConfig, MobilitySettings

torch = pytest.importorskip("torch")

from phaseseg.families.mobility import message_fit as training, network as networks  # noqa: E402
from phaseseg.families.mobility.systems import read_systems  # noqa: E402

VARIANTS = [{}, TER, {"update": "nodes-first"}, {"own_weights": True, "self_edges": False}]


def system(seed=0, n=80, **columns):
    """A liquid whose particles move the farther, the fewer neighbors they have; B farther than A."""
    frame = liquid(n, seed=seed)
    graph = message_graph(frame, 1.4)
    crowd = np.diff(graph.indptr)
    rng = np.random.default_rng(seed)
    move = 0.5 - 0.02 * crowd + 0.1 * frame.species + 0.005 * rng.normal(size=n)
    halves = move[:, None] + 0.002 * rng.normal(size=(n, 2))
    info = {"propensity_time": 10.0, "propensity_1_time": 20.0, "temperature": 0.5}
    fields = {"propensity": move, "propensity_half": halves, "propensity_1": 2 * move, "size": crowd**0.5}
    return frame.replace(fields=fields | columns, info=info, source=f"system {seed}")


def small(**more):
    quick = {"width": 16, "hidden": 16, "rounds": 2, "cutoff": 1.5, "epochs": 3, "folds": 2}
    return {"method": "bapst"} | quick | more


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_are_those_of_plain_torch(variant, monkeypatch):
    torch.manual_seed(0)
    config, frame = BapstConfig(width=32, hidden=16, rounds=3, cutoff=1.5, **variant), liquid(90)
    network = networks.BapstNetwork(config)
    torch.nn.init.normal_(network.decoder[-1].weight)
    graph = networks.GraphTensors.of(message_graph(frame, 1.5), frame.species, config)
    goal = torch.randn(90, 1)

    def gradients():
        network.zero_grad()
        loss = ((network(graph) - goal) ** 2).mean()
        loss.backward()
        return loss.item(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    loss, found = gradients()
    monkeypatch.setattr(networks, "whole_registers", lambda n: -1)  # plain torch
    plain_loss, expected = gradients()
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert_allclose(found[name], values, atol=1e-4 * values.abs().max(), err_msg=name)
    # Of the last round of edges, nothing is read in these updates.
    last = [name for name in dict(network.named_parameters()) if name not in found]
    dead = config.own_weights and config.update != "edges-first"
    assert bool(last) == dead and all(name.startswith("edge_rounds.2.") for name in last)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_normalization_folds_into_the_weights(variant):
    torch.manual_seed(0)
    config = BapstConfig(width=16, hidden=16, rounds=2, cutoff=1.5, **{**variant, "own_weights": True})
    network, frame = networks.BapstNetwork(config, normalize=True), liquid(90)
    graph = message_graph(frame, 1.5, self_edges=config.self_edges)
    tensors = networks.GraphTensors.of(graph, frame.species, config)
    networks.normalize_layers(network, tensors)
    torch.nn.init.normal_(network.decoder[-1].weight)
    networks.measure_units(network, [tensors])
    network.eval()
    with torch.no_grad():
        expected = network(tensors).numpy()
    folded = network.folded_weights()
    assert {name: values.shape for name, values in folded.items()} == config.weight_shapes()
    found = MessageNetwork(config, [folded])(graph, frame.species)[0]
    assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_initial_layers_are_normal():
    torch.manual_seed(0)
    config, frame = BapstConfig(width=16, hidden=16, rounds=3, cutoff=1.5), liquid(200)
    network = networks.BapstNetwork(config)
    graph = message_graph(frame, 1.5)
    networks.normalize_layers(network, networks.GraphTensors.of(graph, frame.species, config))
    weights = {name: values.detach().numpy() for name, values in network.state_dict().items()}
    assert not message_network(
        config, weights, frame.species, graph.receiver, graph.sender, graph.vector
    ).any()
    layer = {
        name: values.astype(float) for name, values in weights.items() if name.startswith("edge_encoder.0")
    }
    x = graph.vector @ layer["edge_encoder.0.weight"].T + layer["edge_encoder.0.bias"]
    assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    assert_allclose(x.std(axis=0), 1, rtol=1e-2)


@pytest.mark.parametrize("turns", ["rotations", "axes"])
def test_turns_are_orthogonal(turns):
    rng = np.random.default_rng(0)
    drawn = [training.random_turn(rng, turns) for _ in range(200)]
    for matrix in drawn:
        assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    determinants = np.array([np.linalg.det(matrix) for matrix in drawn])
    assert 60 < (determinants > 0).sum() < 140
    whole = [np.isin(matrix, (-1, 0, 1)).all() for matrix in drawn]
    assert all(whole) if turns == "axes" else not any(whole)
    assert turns != "axes" or len({matrix.tobytes() for matrix in map(np.rint, drawn)}) > 40
    assert training.random_turn(rng, "none") is None


def test_targets_of_several_columns_and_times():
    frames = [[system(seed)] for seed in range(3)]
    systems, quantities, _ = read_systems(frames, ("propensity", "size"))
    assert [(q.name, q.time) for q in quantities] == [
        ("propensity", 10.0),
        ("propensity", 20.0),
        ("size", None),
    ]
    assert_allclose(systems[0].values[1], 2 * systems[0].values[0])
    assert systems[0].halves[0].shape == (80, 2) and systems[0].halves[2] is None
    assert systems[0].ceiling(0, 0) > 0.9 and np.isnan(systems[0].ceiling(2, 0))
    (one,) = read_systems(frames, times=(20.0,))[1]
    assert one.time == 20.0
    with pytest.raises(ValueError, match="have no propensity at the times 7 in common"):
        read_systems(frames, times=(7.0,))
    with pytest.raises(ValueError, match="no column 'mobility'"):
        read_systems(frames, ("mobility",))


def test_targets_are_standardized_for_each_type():
    systems, _, _ = read_systems([[system(seed)] for seed in range(3)])
    standard = training.Standard.of(systems)
    joined = np.concatenate([standard.applied(s) for s in systems])
    codes = np.concatenate([s.codes for s in systems])
    for code in (0, 1):
        assert_allclose(joined[codes == code].mean(axis=0), 0, atol=1e-5)
        assert_allclose(joined[codes == code].std(axis=0), 1, atol=1e-5)
    assert_allclose(standard.undone(systems[0], standard.applied(systems[0])), systems[0].values, atol=1e-6)


def test_only_the_trained_types_count():
    frames = [[system(seed)] for seed in range(2)]
    systems, _, _ = read_systems(frames, times=(10.0,))
    config = BapstConfig(width=16, hidden=16, rounds=2, cutoff=1.5)
    standard = training.Standard.of(systems)
    masked = training._Data(config, systems, standard, ("A",))
    network = networks.BapstNetwork(config)
    loss, outputs = masked.loss(network, 0)
    own = systems[0].codes == 0
    expected = ((outputs.detach().numpy() - standard.applied(systems[0])) ** 2)[own].mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_it_learns_what_the_structure_says(tmp_path):
    frames = [[system(seed, 150)] for seed in range(6)]
    checkpoint = fit(
        frames, "mobility", method="bapst", output=tmp_path / "mine.safetensors", epochs=25, folds=2,
        width=16, hidden=16, rounds=2, cutoff=1.5, learning_rate=5e-3, times=(10.0,),
    )  # fmt: skip
    held = [system(seed, 150) for seed in (20, 21)]
    for frame in held:
        found = predict(frame, checkpoint)["propensity"]
        for code in (0, 1):
            own = frame.species == code
            assert np.corrcoef(found[own], frame.fields["propensity"][own])[0, 1] > 0.6
    validation = checkpoint.card["training"]["validation"]
    assert validation["correlation, A, propensity at t = 10"] > 0.6
    assert 0.88 < validation["inside 90 % intervals, A, propensity at t = 10"] < 0.92
    assert checkpoint.ranges["temperature"] == [0.5, 0.5]
    model = load_model(tmp_path / "mine.safetensors")
    assert model.n_members == 2 and model.targets[0].types == ("A", "B") and model.targets[0].time == 10.0
    assert (tmp_path / "mine.curves.csv").exists() and not (tmp_path / "mine.state.safetensors").exists()


@pytest.mark.slow
def test_interrupted_and_resumed_training_gives_the_same_weights(tmp_path):
    frames = [[system(seed)] for seed in range(4)]
    whole = fit(frames, "mobility", **small())

    def stop(done, line):
        if done > 0.5:
            raise KeyboardInterrupt

    path = tmp_path / "mine.safetensors"
    with pytest.raises(KeyboardInterrupt, match="continue with resume=True"):
        fit(frames, "mobility", output=path, progress=stop, **small())
    resumed = fit(frames, "mobility", output=path, resume=True, **small())
    for name, values in whole.weights.items():
        assert_array_equal(resumed.weights[name], values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        {"update": "parallel"}, {"update": "nodes-first"}, {"type_input": "one-hot"}, {"own_weights": False},
        {"decoder_layers": 1}, {"self_edges": False}, {"turns": "axes"}, {"turns": "none"},
        {"optimizer": "adam"}, {"weight_decay": 0.5}, {"warmup": 0.5}, {"clip": 0.01}, {"batch_systems": 2},
        {"trained_types": ("A",)}, {"seed": 5}, {"learning_rate": 1e-4}, {"times": (10.0,)},
        {"target": ("size",)},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_changes_the_training(option):
    frames = [[system(seed)] for seed in range(4)]
    plain, other = (fit(frames, "mobility", **small(**more)) for more in ({}, option))
    assert plain.hash != other.hash
    name = "member0.node_encoder.0.bias"
    assert not np.array_equal(plain.weights[name], other.weights[name])
    network = other.config["network"]
    for key, value in option.items():
        if key in network:
            assert network[key] == value
    assert len(other.config["targets"]) == (1 if "times" in option or "target" in option else 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 5}, "2 independent systems cannot be divided into 5 folds"),
        ({"species": ("Ni", "P")}, "the species are A, B, but Ni .A. and P .B. were expected"),
        ({"optimizer": "sgd"}, "optimizer must be adamw or adam, found 'sgd'"),
        ({"update": "edges"}, "update must be edges-first, parallel or nodes-first"),
        ({"trained_types": ("C",)}, "trained_types must be A, B or A,B, found C"),
        ({"cutoff": -1.0}, "cutoff must be a length between 0 and 20"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "weight_decay must be at least 0, and 0 with"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1"),
    ],
)
def test_bad_options_and_data_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit([[system(0)], [system(1)]], "mobility", **small(**options))
    if "folds" in options:
        return
    with pytest.raises(ValueError, match="there are no configurations"):
        fit([], "mobility", **small())
    with pytest.raises(ValueError, match="these networks need reduced units"):
        fit([[system(0).replace(units="metal")], [system(1)]], "mobility", **small())
    with pytest.raises(ValueError, match="the same for all particles of a type"):
        flat = [[system(seed, propensity=np.ones(80))] for seed in range(2)]
        fit(flat, "mobility", **small(times=(10.0,)))


@pytest.mark.slow
def test_command_line(tmp_path):
    from typer.testing import CliRunner

    from phaseseg.cli import make_app

    paths = []
    for seed in range(3):
        paths.append(str(tmp_path / f"{seed}.xyz"))
        frame = system(seed)
        write_frames(paths[-1], [(frame, {"propensity": frame.fields["propensity"]})])
    out = tmp_path / "mine.safetensors"
    words = ["train", "mobility", *paths, "-o", str(out), "--method", "bapst",
             "--folds", "3", "--epochs", "2", "--width", "16",
             "--hidden", "16", "--rounds", "2", "--update", "parallel", "--no-own-weights"]  # fmt: skip
    result = CliRunner().invoke(make_app(), words)
    assert result.exit_code == 0, result.stderr
    config = load_model(out).predictor.config
    assert config.update == "parallel" and not config.own_weights and load_model(out).n_members == 3


def test_flags_are_the_settings_of_the_network():
    settings = MobilitySettings()
    assert BapstConfig(**settings.network).own_weights
    assert json.dumps(settings.to_dict())


def test_pytorch_geometric():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch

    from phaseseg.pyg import network, to_data

    model = load_model(random_checkpoint(2))
    frames = [liquid(60), liquid(80, seed=3)]
    module = network(model)
    found = module(Batch.from_data_list([to_data(frame, model) for frame in frames])).detach().numpy()
    expected = [
        MessageNetwork(model.predictor.config, model.members)(message_graph(f, 1.6), f.species).mean(axis=0)
        for f in frames
    ]
    assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_the_learning_rate_rises_and_falls():
    """Linear over the warm-up, then a cosine to 1 % of the highest."""
    from phaseseg.training.loop import Task, train_members
    from phaseseg.training.settings import Settings

    steps = []

    def loss(network, batch):
        steps.append(batch)
        return (network(torch.ones(1, 1)) ** 2).mean()

    validations = iter([0.5, 0.1, 0.7, 0.9] * 2)
    task = Task(
        lambda: torch.nn.Linear(1, 1), lambda rng: [0, 1], loss, lambda network: (next(validations), 0.0)
    )
    common = {"epochs": 4, "batch_atoms": 1, "learning_rate": 0.1, "seeds": (0,), "patience": 1}
    (member,) = train_members(task, Settings(**common, warmup=0.5, keep="last", optimizer="adamw"))
    # The last step of each epoch: a quarter of the epochs is half of the warm-up.
    rates = [epoch.learning_rate for epoch in member.epochs]
    assert_allclose(rates[:2], [0.05, 0.1])
    expected = [0.1 * (0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2) for share in (0.25, 0.75)]
    assert_allclose(rates[2:], expected)
    assert member.best_epoch == 4 and len(steps) == 8  # neither the least loss nor the patience counts
    (other,) = train_members(task, Settings(**common))
    assert other.best_epoch == 2 and len(other.epochs) == 3
