"""Predictions of liquid and glass: fields, ensembles, symmetries, range of validity, refusals, images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg import Frame, load_model, map_frames, predict
from phaseseg.checkpoint import CheckpointError, save_checkpoint
from phaseseg.families.liquid_glass.attention import trough
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.images import Plane, Style, draw
from phaseseg.families.liquid_glass.inference import Network, image_logits
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.families.liquid_glass.structural_metrics import graph_counts
from phaseseg.fields import Bonds
from phaseseg.neighbors import nearest_neighbors
from phaseseg.testing import (
    check_fields,
    permuted,
    repeated,
    rolled_axes,
    translated,
    wrapped_elsewhere,
)

TOLERANCE = 1e-5


def said(fields):
    """The messages by their codes."""
    return {text.code: text for text in fields.messages}


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, dtype=float)))


@pytest.fixture(scope="module")
def model(make_glass_checkpoint):
    """Two networks with attention."""
    return GlassModel(make_glass_checkpoint(attention=True, n_members=2, temperature=1.4))


@pytest.fixture(scope="module")
def plain(make_glass_checkpoint):
    """One network without attention, in three dimensions."""
    return GlassModel(make_glass_checkpoint(dimensions=3, k=4))


@pytest.fixture(scope="module")
def images(make_glass_checkpoint):
    """Two networks on images of 6 x 6 σ."""
    checkpoint = make_glass_checkpoint(
        architecture="cnn", image_size=48, pixels_per_sigma=8.0, kernels=(3, 4), kernel_sizes=(5, 3),
        dense=10, n_members=2,
    )  # fmt: skip
    return GlassModel(checkpoint)


@pytest.fixture(scope="module")
def frame(make_disorder):
    return make_disorder(400)


# What the fields are ------------------------------------------------------------------------------


def test_fields_of_an_ensemble(model, frame):
    fields = predict(frame, model)
    check_fields(frame, fields)
    found = Network(model.config, model.members)(graph_of(frame, model.config))
    each = sigmoid(found.nodes / 1.4)
    assert_allclose(fields["glass_probability"], each.mean(axis=0), atol=1e-6)
    assert_allclose(fields["glass_uncertainty"], each.std(axis=0), atol=1e-6)
    whole = sigmoid(found.graphs[:, 0] / 1.4)
    assert fields["frame_glass_probability"] == pytest.approx(whole.mean(), abs=1e-6)
    assert fields["frame_glass_uncertainty"] == pytest.approx(whole.std(), abs=1e-6)
    assert fields["glass_fraction"] == np.mean(fields["glass_probability"] >= 0.5)
    assert set(said(fields)) == {"verdict", "attention-threshold"}
    verdict = "Glass" if whole.mean() >= 0.5 else "Liquid"
    for words in (verdict, "liquid_glass/random-v1", f"{whole.mean():.3f} ± {whole.std():.3f}"):
        assert words in said(fields)["verdict"]


def test_a_threshold_moves_the_verdict(model, frame):
    answer = model.run(frame)
    p = answer.probability
    low, high = (model.fields(frame, answer, threshold=p + step) for step in (-0.01, 0.01))
    assert "Glass" in said(low)["verdict"] and "Liquid" in said(high)["verdict"]
    assert low["glass_fraction"] == np.mean(answer.of_particles >= np.float32(p - 0.01))
    assert_array_equal(low["glass_probability"], high["glass_probability"])


def test_one_network_has_no_uncertainty(plain, make_disorder):
    frame = make_disorder(343, 3)
    fields = predict(frame, plain)
    check_fields(frame, fields)
    assert set(fields) == {
        "glass_probability", "glass_uncertainty", "frame_glass_probability", "frame_glass_uncertainty",
        "glass_fraction",
    }  # fmt: skip
    assert not fields["glass_uncertainty"].any() and fields["frame_glass_uncertainty"] == 0
    assert set(said(fields)) == {"verdict", "one-network"}


@pytest.mark.parametrize("cell", ["square", "tilted", "tiny", "open"])
def test_bonds_are_the_edges_of_the_graph(model, make_disorder, cell):
    frame = make_disorder(225)
    if cell == "tilted":
        shear = np.array([[1, 0, 0], [0.4, 1, 0], [0, 0, 1]])
        frame = frame.replace(positions=frame.positions @ shear, cell=frame.cell @ shear)
        frame = wrapped_elsewhere(frame)
    elif cell == "tiny":  # neighbors are images, of a particle itself, too
        frame = Frame(
            [[0.1, 0.2, 0], [0.6, 0.9, 0], [0.7, 0.3, 0]], [1.0, 1.4, 1], True, list("ABA"), units="lj"
        )
    elif cell == "open":
        frame = frame.replace(pbc=False)
    fields = predict(frame, model)
    check_fields(frame, fields)
    bonds = fields["attention_bonds"]
    near = nearest_neighbors(frame, 2)
    wanted = set()
    for i in range(len(frame)):
        for j, shift in zip(near.neighbors[i].tolist(), near.shifts[i].tolist(), strict=True):
            ends = [(i, j, *shift), (j, i, *(-s for s in shift))]
            first = ends[0] if i < j else ends[1]
            if i == j:
                first = max(ends)
            wanted.add(first)
    found = {
        (*atoms, *shift) for atoms, shift in zip(bonds.atoms.tolist(), bonds.shifts.tolist(), strict=True)
    }
    assert wanted == found
    assert_array_equal(bonds.atoms[:, 0], np.sort(bonds.atoms[:, 0]))
    b = frame.species[bonds.atoms] == 1
    assert_array_equal(bonds.columns["bb"], b.all(axis=1))
    # The attention of an edge is the mean over both directions and members, that of a particle the mean
    # over its edges; an edge to an own image counts at both of its ends.
    graphs = graph_of(frame, model.config)
    directed = Network(model.config, model.members)(graphs).attention.mean(axis=0)
    to = np.repeat(np.arange(len(frame)), np.diff(graphs.edges.indptr))
    mean = 0.5 * (directed + directed[graphs.edges.reverse])
    pairs = np.sort(np.stack([to, graphs.edges.neighbors]), axis=0)
    for i, j in np.unique(bonds.atoms, axis=0):
        ours = np.sort(bonds.columns["attention"][(bonds.atoms == (i, j)).all(axis=1)])
        assert_allclose(np.repeat(ours, 2), np.sort(mean[((i, j) == pairs.T).all(axis=1)]), atol=TOLERANCE)
    ends = np.concatenate([bonds.atoms[:, 0], bonds.atoms[:, 1]])
    sums = np.bincount(ends, np.tile(bonds.columns["attention"], 2), len(frame))
    assert_allclose(fields["attention"], sums / np.bincount(ends, minlength=len(frame)), atol=TOLERANCE)


def test_the_cut_of_the_attention(model, make_glass_checkpoint, frame):
    fields = predict(frame, model)
    attention = fields["attention_bonds"].columns["attention"]
    found = trough(attention)
    assert fields["attention_threshold"] == found.threshold and found.sentence in fields.messages
    chosen = predict(frame, model, attention_threshold=0.7)
    check_fields(frame, chosen)
    assert chosen["attention_threshold"] == 0.7
    assert "0.7" in said(chosen)["attention-threshold"]
    counts = graph_counts(
        400, frame.species == 1, fields["attention_bonds"].atoms, attention >= np.float32(0.7)
    )
    for name in ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a"):
        assert chosen[f"attention_{name}"] == getattr(counts, name)
    own = GlassModel(make_glass_checkpoint(attention=True, attention_threshold=1.1))
    fields = predict(frame, own)
    assert fields["attention_threshold"] == 1.1
    assert "1.1" in said(fields)["attention-threshold"]


def test_attention_can_be_left_out(model, frame):
    fields = predict(frame, model, attention=False)
    check_fields(frame, fields)
    assert "attention" not in fields and not fields.level("bond")
    assert_array_equal(fields["glass_probability"], predict(frame, model)["glass_probability"])
    assert predict(frame, model, attention=True)["attention_bonds"]


def test_equal_attention_keeps_nothing(make_glass_checkpoint):
    checkpoint = make_glass_checkpoint(attention=True)
    weights = dict(checkpoint.weights)
    weights["member0.attention.weight"] = np.zeros((1, 12), dtype=np.float32)
    rng = np.random.default_rng(0)
    frame = Frame(
        np.column_stack([rng.random((50, 2)) * 6, np.zeros(50)]),
        [6.0, 6, 1],
        True,
        list("AB" * 25),
        units="lj",
    )
    fields = predict(frame, replace(checkpoint, weights=weights))
    assert fields["attention_threshold"] == np.inf and not fields["attention_bonds"].columns["kept"].any()
    assert fields["attention_n_isolated_a"] == 25 and fields["attention_n_disjoint_graphs"] == 0
    assert said(fields)["attention-threshold"] == trough(np.ones(3)).sentence


# What must not change an answer -------------------------------------------------------------------


def close(a, b, order=None):
    """The numbers of two predictions agree; particle i of the first is `order[i]` of the second."""
    for name, value in b.items():
        if isinstance(value, Bonds):
            assert len(a[name]) == len(value)
            ours, theirs = (np.sort(x[name].columns["attention"]) for x in (a, b))
            assert_allclose(ours, theirs, rtol=1e-4, atol=TOLERANCE)
        elif np.ndim(value):
            assert_allclose(
                a[name], value if order is None else value[order], atol=2 * TOLERANCE, err_msg=name
            )
        else:
            assert a[name] == pytest.approx(value, abs=TOLERANCE, rel=1e-4), name


@pytest.mark.parametrize("which", ["2D", "3D"])
def test_symmetries(model, plain, make_disorder, which):
    network, frame = (model, make_disorder(400)) if which == "2D" else (plain, make_disorder(343, 3))
    wanted = predict(frame, network)
    turn = np.array([[np.cos(0.7), np.sin(0.7), 0], [-np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    if which == "3D":
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn)
    for other in (
        translated(frame, (13.1, -4.2, 0.3)), wrapped_elsewhere(frame), turned, rolled_axes(frame, (1, 0, 2)),
        frame.replace(origin=(5.0, -3.0, 0.1)), frame.replace(species_names=("A", "B", "C")),
    ):  # fmt: skip
        close(predict(other, network), wanted)
    order = np.random.default_rng(1).permutation(len(frame))
    close(predict(permuted(frame, order), network), wanted, order)


def test_a_repeated_cell_has_the_same_particles(model, frame):
    wanted, large = predict(frame, model), predict(repeated(frame, (2, 3, 1)), model)
    for name in ("glass_probability", "glass_uncertainty", "attention"):
        assert_allclose(large[name], np.tile(wanted[name], 6), atol=2 * TOLERANCE)
    for name in ("frame_glass_probability", "attention_threshold", "glass_fraction"):
        assert large[name] == pytest.approx(wanted[name], rel=1e-3, abs=TOLERANCE)
    assert len(large["attention_bonds"]) == 6 * len(wanted["attention_bonds"])
    for name in ("attention_n_bb_edges", "attention_n_isolated_a"):
        assert large[name] == 6 * wanted[name]


def test_names_of_the_species(model, make_disorder, frame):
    wanted = predict(frame, model)
    named = frame.replace(species_names=("Ni", "P"))
    close(predict(named, model, b="P"), wanted)
    close(predict(frame, model, b="B"), wanted)
    three = frame.replace(
        species=np.where(np.arange(400) % 7 == 0, 2, frame.species), species_names=("X", "Y", "Z")
    )
    pooled = frame.replace(species=(three.species != 0).astype(int))
    close(predict(three, model, b=("Y", "Z")), predict(pooled, model))
    swapped = frame.replace(species=1 - frame.species)
    close(predict(named, model, b="Ni"), predict(swapped, model))


def test_frames_do_not_touch_each_other(model, make_disorder):
    frames = [make_disorder(n, seed=n) for n in (100, 400, 256)]
    copies = [frame.positions.copy() for frame in frames]
    alone = [predict(frame, GlassModel(model.checkpoint)) for frame in frames]
    for frame, copy, wanted in zip(
        [*frames, frames[0]], [*copies, copies[0]], [*alone, alone[0]], strict=True
    ):
        fields = predict(frame, model)
        assert_array_equal(frame.positions, copy)
        for name, value in wanted.items():
            if not isinstance(value, Bonds):
                assert_array_equal(fields[name], value, err_msg=name)


@pytest.mark.slow
def test_workers_give_the_same_bits(make_glass_checkpoint, make_disorder, tmp_path):
    path = tmp_path / "pair.safetensors"
    save_checkpoint(make_glass_checkpoint(attention=True, n_members=2), path)
    frames = [make_disorder(225, seed=seed) for seed in range(4)]
    function = partial(predict, model=str(path))
    for one, two in zip(map_frames(function, frames), map_frames(function, frames, workers=2), strict=True):
        assert set(one) == set(two) and one.messages == two.messages
        for name, value in one.items():
            if isinstance(value, Bonds):
                for column, values in value.columns.items():
                    assert_array_equal(two[name].columns[column], values)
            else:
                assert_array_equal(two[name], value, err_msg=name)


def test_torch_gives_the_same_numbers(model, plain, images, make_disorder, frame):
    torch = pytest.importorskip("torch")
    for network, one in ((model, frame), (plain, make_disorder(343, 3)), (images, frame)):
        close(predict(one, network, device="torch"), predict(one, network))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="device cuda: torch finds no GPU on this machine"):
            predict(frame, model, device="cuda")


@pytest.mark.slow
def test_torch_is_not_imported():
    code = """
import sys
sys.path.insert(0, "tests")
import numpy as np
from samples import disordered_mixture, random_glass_checkpoint
from phaseseg import predict
frame = disordered_mixture(100)
assert "attention" in predict(frame, random_glass_checkpoint(attention=True))
predict(frame, random_glass_checkpoint(architecture="cnn", image_size=64, pixels_per_sigma=8.0, dense=4))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Images -------------------------------------------------------------------------------------------


def by_hand(images, frame, corners):
    plane = Plane.of(frame, frame.species)
    pictures = draw(plane, np.asarray(corners), images.config.image_size, Style.of(images.config))
    each = np.array([sigmoid(image_logits(w, pictures, images.config)).mean() for w in images.members])
    return each.mean(), each.std()


def test_images_cover_the_cell(images, make_disorder):
    """A cell of 14 x 9 σ and squares of 6: three along x, two along y, evenly."""
    frame = make_disorder(150, edges=(14.0, 9.0))
    fields = predict(frame, images)
    check_fields(frame, fields)
    assert set(fields) == {"frame_glass_probability", "frame_glass_uncertainty"}
    mean, spread = by_hand(images, frame, [(14 / 3 * i, 4.5 * j) for i in range(3) for j in range(2)])
    assert fields["frame_glass_probability"] == pytest.approx(mean, abs=1e-6)
    assert fields["frame_glass_uncertainty"] == pytest.approx(spread, abs=1e-6)
    for other in (wrapped_elsewhere(frame), permuted(frame, np.arange(150)[::-1])):
        assert predict(other, images)["frame_glass_probability"] == pytest.approx(mean, abs=1e-5)
    moved = translated(frame, (14 / 3, 4.5, 0))
    assert predict(moved, images)["frame_glass_probability"] == pytest.approx(mean, abs=1e-5)


def test_images_of_an_open_plane_stay_inside(images, make_disorder):
    frame = make_disorder(150, edges=(14.0, 9.0), pbc=False)
    low, high = frame.positions.min(axis=0), frame.positions.max(axis=0)
    x = np.linspace(low[0], high[0] - 6, 3)
    y = np.linspace(low[1], high[1] - 6, 2)
    mean, _ = by_hand(images, frame, [(a, b) for a in x for b in y])
    assert predict(frame, images)["frame_glass_probability"] == pytest.approx(mean, abs=1e-6)


def test_images_of_a_tilted_cell(images, make_disorder):
    """The same plane in another cell: squares lie elsewhere, but all of it is drawn."""
    frame = make_disorder(144, edges=(12.0, 12.0))
    cell = np.array([[12.0, 0, 0], [4.0, 12, 0], [0, 0, 1]])
    fractions = frame.positions / 12
    tilted = frame.replace(positions=fractions @ cell * [1, 1, 12], cell=cell)
    mean, _ = by_hand(images, tilted, [(0, 0), (6, 0), (2, 6), (8, 6)][:1])
    assert 0 < mean < 1
    corners = [f @ cell[:2, :2] for f in np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * [0.5, 1 / 3]]
    corners += [f @ cell[:2, :2] for f in ([0, 2 / 3], [0.5, 2 / 3])]
    mean, _ = by_hand(images, tilted, corners)
    assert predict(tilted, images)["frame_glass_probability"] == pytest.approx(mean, abs=1e-6)


def test_what_images_cannot_show(images, make_disorder):
    with pytest.raises(
        ValueError, match=r"needs squares of 6 σ, but the particles fill only 5\.27 x 5\.27 σ"
    ):
        predict(make_disorder(25, density=0.9), images)
    with pytest.raises(ValueError, match=r"in three dimensions, but .* was trained in two dimensions"):
        predict(make_disorder(343, 3), images)
    with pytest.raises(ValueError, match="has no attention; choose a checkpoint that has"):
        predict(make_disorder(400), images, attention=True)


# Range of validity and refusals -------------------------------------------------------------------


def test_input_outside_of_the_training_data_is_reported(model, plain, frame, make_disorder):
    thin = frame.replace(positions=frame.positions * 1.2, cell=frame.cell * [[1.2], [1.2], [1]])
    for network, other, numbers in (
        (model, thin, ("0.8333", "1.1 to 1.3")),
        (model, make_disorder(400, share=0.6), ("0.6", "0.3 to 0.4")),
        (plain, make_disorder(343, 3, density=0.9, share=0.8), ("0.9", "0.802")),
    ):
        sentence = said(predict(other, network))["outside-training"]
        assert all(number in sentence for number in numbers), sentence
    # No density where there is no volume.
    assert "outside-training" not in said(predict(thin.replace(pbc=(True, False, False)), model))


def test_what_the_networks_do_not_know_is_refused(model, plain, frame, make_disorder):
    for other, options, said in (
        (
            frame.replace(units="metal"),
            {},
            r"a.xyz: the frame has the units 'metal', .* read it with units='lj'",
        ),
        (make_disorder(343, 3), {}, "in three dimensions, but liquid_glass/random-v1 was trained in two"),
        (frame.replace(species_names=("A", "C")), {}, "the network does not know C"),
        (frame, {"b": "C"}, "no particle is C"),
        (frame.replace(species=np.zeros(400, int)), {}, "no particle is B"),
        (frame, {"b": ("A", "B")}, "every particle is B"),
        (Frame(np.zeros((0, 3)), np.eye(3), True, [], ("A",), units="lj"), {}, "the frame has no atoms"),
    ):
        with pytest.raises(ValueError, match=said):
            predict(other.replace(source="a.xyz"), model, **options)
    with pytest.raises(
        ValueError, match="in two dimensions, but liquid_glass/random-v1 was trained in three"
    ):
        predict(frame, plain)
    few = Frame(np.eye(3) + 1, np.eye(3) * 5, False, list("ABA"), units="lj")
    with pytest.raises(ValueError, match="4 nearest neighbors were requested, but nothing is periodic"):
        predict(few, plain)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.0}, "threshold must be a probability between 0 and 1"),
        ({"threshold": float("nan")}, "threshold must be a probability"),
        ({"b": ()}, "b must name one species or several"),
        ({"b": ("A", "")}, "b must name one species or several"),
        ({"attention_threshold": -1.0}, r"attention_threshold must be positive \(1 is the mean\)"),
        ({"device": "tpu"}, "device must be auto, cpu, torch or cuda, found 'tpu'"),
    ],
)
def test_options_out_of_range(model, frame, options, said):
    with pytest.raises(ValueError, match=said):
        predict(frame, model, **options)


def test_options_that_are_not_those_of_the_family(model, plain, frame):
    with pytest.raises(
        TypeError, match="unknown option boundary; the options of liquid_glass/random-v1 are b, th"
    ):
        predict(frame, model, boundary="voxels")
    with pytest.raises(ValueError, match="has no attention; choose a checkpoint that has it, such as"):
        plain.rule(attention=True)
    assert plain.rule(attention=False).attention is False and plain.rule(b="X").b == ("X",)


# The door -----------------------------------------------------------------------------------------


def test_models_come_through_one_door(make_glass_checkpoint, make_checkpoint, tmp_path, frame):
    checkpoint = make_glass_checkpoint()
    path = tmp_path / "a.safetensors"
    save_checkpoint(checkpoint, path)
    model = load_model(path)
    assert isinstance(model, GlassModel) and load_model(checkpoint) is model and load_model(model) is model
    assert load_model(path, "liquid_glass") is model
    with pytest.raises(CheckpointError, match=r"of the family liquid_glass, (and )?not (of )?segmentation"):
        load_model(path, "segmentation")
    with pytest.raises(CheckpointError, match=r"of the family segmentation, (and )?not (of )?liquid_glass"):
        load_model(make_checkpoint(), "liquid_glass")
    with pytest.raises(CheckpointError, match=r"of the family segmentation, (and )?not (of )?liquid_glass"):
        GlassModel(make_checkpoint())
    assert_array_equal(predict(frame, path)["glass_probability"], predict(frame, model)["glass_probability"])


def test_checkpoints_that_are_no_models(make_glass_checkpoint):
    good = make_glass_checkpoint(n_members=2)
    for changed, said in (
        ({"config": {}}, "'network' is missing"),
        ({"config": good.config | {"network": {"architecture": "gat"}}}, "architecture must be dmpnn or cnn"),
        ({"config": good.config | {"temperature_scaling": 0}}, "temperature_scaling must be positive"),
        ({"ranges": {}}, "'number_density' is missing"),
        (
            {"weights": {k: w for k, w in good.weights.items() if "member0" not in k}},
            "of 2 networks 1 are there",
        ),
        ({"weights": {**good.weights, "other": np.zeros(1, "f4")}}, "other is not a weight of any member"),
        (
            {"weights": {k: w for k, w in good.weights.items() if k != "member1.node.0.bias"}},
            r"member1\.node\.0\.bias is missing",
        ),
    ):
        with pytest.raises(CheckpointError, match=rf"settings in the checkpoint cannot be used: {said}"):
            load_model(replace(good, **changed))
