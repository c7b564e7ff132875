"""TensorFlow's checkpoints: read without TensorFlow, through every interface, and refused when damaged."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from mobility_samples import CHECKPOINT, DEEPMIND, deepmind_system, liquid, needs, random_weights
from naive.messages import message_network
from phaseseg import load_model, predict, read_frames, write_frames
from phaseseg.checkpoint import CheckpointError
from phaseseg.families.mobility import tensorflow_checkpoint
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.tensorflow_checkpoint import load_tensorflow_checkpoint
from tensorflow_files import SCOPES, crc32c, small_config, write_tensorflow

INDEX, DATA = "own.ckpt.index", "own.ckpt.data-00000-of-00001"


@pytest.fixture
def weights():
    return random_weights(small_config(), scale=0.5)


@pytest.fixture
def prefix(tmp_path, weights):
    """A checkpoint with slots of an optimizer and an unused decoder of edges, as the published ones."""
    extra = {
        "Graph/graph_independent_1/edge_model/mlp/linear_0/w": np.ones((6, 6)),
        "Graph/graph_network/edge_block/mlp/linear_0/w/Adam": np.ones((36, 6)),
        "beta1_power": np.float32(0.9),
    }
    write_tensorflow(tmp_path / "own.ckpt", weights, extra=extra.items())
    return tmp_path / "own.ckpt"


def test_checksums_are_those_of_the_definition():
    data = bytes(range(256)) * 3
    assert tensorflow_checkpoint.crc32c(data) == crc32c(data)
    assert crc32c(b"123456789") == 0xE3069283


def test_every_name_of_a_checkpoint_gives_its_weights(prefix, weights):
    frame = liquid(60)
    graph = message_graph(frame, 2.0)
    expected = message_network(
        small_config(), weights, frame.species, graph.receiver, graph.sender, graph.vector.astype(float)
    )
    for name in (prefix, str(prefix), prefix.with_name(INDEX), prefix.with_name(DATA)):
        model = load_model(name)
        assert model.name == "mobility/own" and model.checkpoint.units == "lj"
        assert_allclose(predict(frame, name)["propensity"], expected[:, 0], rtol=1e-5)
    assert_array_equal(
        load_model(prefix).members[0]["edge_rounds.0.0.weight"], weights["edge_rounds.0.0.weight"]
    )


def test_missing_files(prefix):
    prefix.with_name(DATA).unlink()
    with pytest.raises(CheckpointError, match=r"data-00000-of-00001: there is no such file"):
        load_model(prefix)
    prefix.with_name(INDEX).unlink()
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_model(prefix)
    with pytest.raises(CheckpointError, match=r"index: there is no such file"):
        load_tensorflow_checkpoint(prefix)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("decoder.0.bias"), "the variable .*linear_0/b is missing"),
        (lambda w: w.update({"node_rounds.0.1.bias": np.ones(5, "f4")}), "does not fit the others"),
        (lambda w: w.update({"edge_encoder.0.bias": np.full(6, np.nan, "f4")}), "not finite"),
        (lambda w: w.update({"edge_encoder.1.bias": np.ones((2, 3), "f4")}), "sizes of its layers"),
        (lambda w: w.update({"decoder.2.weight": np.ones((2, 6), "f4"), "decoder.2.bias": np.ones(2, "f4")}),
         "2 outputs"),
    ],
)  # fmt: skip
def test_other_networks_are_refused(tmp_path, weights, change, words):
    change(weights)
    write_tensorflow(tmp_path / "own.ckpt", weights)
    with pytest.raises(CheckpointError, match=words) as found:
        load_model(tmp_path / "own.ckpt")
    assert "\n" not in str(found.value)


def test_checkpoints_of_other_code_are_refused(tmp_path, weights):
    write_tensorflow(tmp_path / "own.ckpt", weights, {name: f"mine/{name}" for name in SCOPES})
    with pytest.raises(CheckpointError, match="not a checkpoint of the published network"):
        load_model(tmp_path / "own.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [INDEX, DATA])
def test_damaged_files_are_refused_in_one_sentence(prefix, name, weights):
    """Every kind of damage, at many places; a change is found, or is in what is not used."""
    path = prefix.with_name(name)
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    expected = load_tensorflow_checkpoint(prefix).hash
    places = rng.integers(0, len(raw), 120)
    for kind, place in itertools.product(("flip", "cut", "insert", "zero"), places):
        changed = bytearray(raw)
        if kind == "flip":
            changed[place] ^= 1 << rng.integers(8)
        elif kind == "cut":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = rng.bytes(3)
        else:
            changed[place : place + 8] = bytes(len(changed[place : place + 8]))
        path.write_bytes(bytes(changed))
        try:
            found = load_tensorflow_checkpoint(prefix)
        except CheckpointError as error:
            text = str(error)
            assert (
                text.startswith(str(prefix)) and text.endswith(".") and "\n" not in text and len(text) < 500
            )
        else:
            assert found.hash == expected


def test_crafted_indexes_with_right_checksums_are_refused(tmp_path):
    """Mutations below the checksums: blocks and entries whose numbers make no sense."""
    from tensorflow_files import block, entry, table

    rng = np.random.default_rng(1)
    weights = random_weights(small_config())
    write_tensorflow(tmp_path / "own.ckpt", weights)
    good = (tmp_path / INDEX).read_bytes()
    key, shape = b"Graph/graph_independent/edge_model/mlp/linear_0/w", (3, 6)
    assert block([]) in good
    for _ in range(200):
        value = bytearray(entry(shape, 0, bytes(72)))
        for _ in range(rng.integers(1, 4)):
            value[rng.integers(len(value))] = rng.integers(256)
        (tmp_path / INDEX).write_bytes(table([(b"", b"\x08\x01"), (key, bytes(value))]))
        with pytest.raises(CheckpointError) as found:
            load_tensorflow_checkpoint(tmp_path / "own.ckpt")
        assert "\n" not in str(found.value) and len(str(found.value)) < 500


def test_other_files_are_left_to_others(tmp_path):
    assert tensorflow_checkpoint.read_tensorflow(tmp_path / "none.safetensors") is None
    assert tensorflow_checkpoint.read_tensorflow(tmp_path / ("x" * 300)) is None
    assert tensorflow_checkpoint.read_tensorflow(tmp_path) is None
    (tmp_path / "book.index").write_text("a, 1", "utf-8")
    with pytest.raises(CheckpointError, match="not the index of a TensorFlow checkpoint"):
        load_model(tmp_path / "book.index")


# Interfaces ---------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path):
    """A file with the system that accompanies the public checkpoint, and TensorFlow's output for it."""
    path = tmp_path / "system.xyz"
    write_frames(path, [(deepmind_system(), {})])
    return path, np.load(DEEPMIND / "predictions_0_2047.npy")


@pytest.mark.slow
@needs(DEEPMIND)
def test_command_line(published, tmp_path):
    from phaseseg.cli import make_app

    path, expected = published
    out = tmp_path / "out.xyz"
    result = CliRunner().invoke(make_app(), ["predict", str(path), "-m", str(CHECKPOINT), "-o", str(out)])
    assert result.exit_code == 0, result.stderr
    found = next(read_frames(out, fields=True)).fields["propensity"]
    assert np.abs(found[: len(expected)] - expected).max() < 2e-6


@pytest.mark.slow
@needs(DEEPMIND)
def test_ase(published):
    from ase import Atoms

    from ase_bridge import annotate

    frame, expected = deepmind_system(), published[1]
    symbols = np.array(["Ni", "P"])[frame.species].tolist()
    atoms = Atoms(symbols, frame.positions, cell=frame.cell, pbc=True)
    annotate(atoms, model=CHECKPOINT, units="lj", b="P")
    assert np.abs(atoms.arrays["propensity"][: len(expected)] - expected).max() < 2e-6


@pytest.mark.slow
@needs(DEEPMIND)
def test_ovito(published):
    pytest.importorskip("ovito")
    from ovito.io import import_file

    from ovito_phaseseg import network_modifier

    path, expected = published
    for name in (CHECKPOINT, f"{CHECKPOINT}.index"):
        pipeline = import_file(str(path))
        pipeline.modifiers.append(network_modifier("mobility")(model_file=str(name), units="lj"))
        found = np.array(pipeline.compute().particles["Propensity"])
        assert np.abs(found[: len(expected)] - expected).max() < 2e-6
