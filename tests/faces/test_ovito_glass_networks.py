"""The OVITO face of networks that tell liquid from glass: outputs, bonds, tables, bad input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.data import BondType
from traits.api import TraitError

from faces.ovito_data import collection_of, evaluate, imported, pipeline_of, symbols
from ovito_phaseseg import GlassClassifier, GlassMetrics
from phaseseg import Frame, load_model, predict
from phaseseg.checkpoint import save_checkpoint
from phaseseg.io import read_frames
from phaseseg.specs import FIELD_SPECS

ATOM = ("glass_probability", "glass_uncertainty", "attention")
NUMBERS = ("attention_n_disjoint_graphs", "attention_n_bb_edges", "attention_n_isolated_a")


@pytest.fixture
def layer(make_disorder):
    return collection_of(make_disorder(289))


def apply(data, **parameters):
    return evaluate(data, GlassClassifier(**parameters))


# Outputs


@pytest.mark.parametrize("kept_bonds_only", [True, False])
def test_outputs_are_those_of_the_library(layer, make_disorder, glass_file, kept_bonds_only):
    data = apply(layer, model_file=glass_file, kept_bonds_only=kept_bonds_only)
    frame = make_disorder(289)
    expected = predict(frame, glass_file)
    for name in ATOM:
        np.testing.assert_array_equal(data.particles[FIELD_SPECS[name].title], expected[name], name)
    for name, value in expected.level("frame").items():
        assert data.attributes["GlassClassifier." + name] == value, name
    assert data.attributes["GlassClassifier.messages"] == " ".join(expected.messages)
    assert data.attributes["GlassClassifier.model"] == "liquid_glass/random-v1"
    assert data.attributes["GlassClassifier.model_sha256"] == load_model(glass_file).checkpoint.hash
    bonds, there = expected["attention_bonds"], data.particles.bonds
    rows = np.flatnonzero(bonds.columns["kept"] | (not kept_bonds_only))
    assert len(rows) > 0 and (len(rows) < len(bonds)) == kept_bonds_only
    np.testing.assert_array_equal(there.topology, bonds.atoms[rows])
    np.testing.assert_array_equal(there["Periodic Image"], bonds.shifts[rows])
    for title, name in {"Attention": "attention", "B-B": "bb", "Kept": "kept", "Length": "length"}.items():
        np.testing.assert_array_equal(there[title], bonds.columns[name][rows], title)
    kinds = ["-".join(sorted(symbols(frame)[[i, j]])) for i, j in bonds.atoms[rows]]
    names = {entry.id: entry.name for entry in there.bond_types.types}
    assert [names[number] for number in there.bond_types] == kinds
    assert "Color" not in data.particles and not data.tables


def test_bonds_are_added_to_others(layer, glass_file):
    """Those of the file, of the metrics and of the network, each with what is known of it."""
    own = layer.particles_.create_bonds(count=1)
    own.create_property("Topology", data=[[0, 1]])
    own.create_property("Bond Type", data=np.array([1], dtype=np.int32)).types.append(
        BondType(id=1, name="mine")
    )
    pipeline = pipeline_of(layer, GlassMetrics())
    n_before = pipeline.compute().particles.bonds.count
    pipeline.modifiers.append(GlassClassifier(model_file=glass_file, kept_bonds_only=False))
    data = pipeline.compute()
    there = data.particles.bonds
    n_edges = len(predict(next(frame_of(layer)), glass_file)["attention_bonds"])
    assert n_before > 1 and there.count == n_before + n_edges
    assert (there["Attention"][:n_before] == 0).all() and (there["Attention"][n_before:] > 0).all()
    assert there["Length"][0] == 0 and (there["Length"][1:] > 0).all()
    i, j = there.topology[1:].T
    apart = data.particles.positions[j] - data.particles.positions[i]
    apart = apart + there["Periodic Image"][1:] @ np.array(data.cell[:3, :3]).T
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), there["Length"][1:], rtol=1e-5)
    assert [entry.name for entry in there.bond_types.types] == ["mine", "A-B", "B-B", "A-A"]
    assert there.bond_types[0] == 1


def frame_of(data):
    from ovito_phaseseg.convert import frame_from_data

    yield frame_from_data(data, units="lj")


def test_no_attention_no_bonds(layer, make_glass_checkpoint, tmp_path):
    path = tmp_path / "plain-v1.safetensors"
    save_checkpoint(make_glass_checkpoint(n_members=1), path)
    data = apply(layer, model_file=str(path), color_by="attention", trajectory_table=True)
    assert data.particles.bonds is None and "Attention" not in data.particles
    assert "Glass Probability" in data.particles and "Color" not in data.particles
    assert "GlassClassifier.attention_threshold" not in data.attributes
    assert set(data.tables) == {"glass-probability-frames"}
    assert apply(layer, model_file=str(path), bonds=False).particles.bonds is None


def test_a_network_of_images_speaks_of_the_whole(layer, make_glass_checkpoint, tmp_path):
    path = tmp_path / "images-v1.safetensors"
    small = {"image_size": 60, "pixels_per_sigma": 12, "pool": 2, "kernels": (2, 3), "kernel_sizes": (5, 3)}
    save_checkpoint(make_glass_checkpoint(architecture="cnn", dense=8, **small), path)
    data = apply(layer, model_file=str(path), color_by="probability")
    assert 0 < data.attributes["GlassClassifier.frame_glass_probability"] < 1
    assert set(data.particles) == {"Position", "Particle Type"} and data.particles.bonds is None


def test_three_dimensions(make_disorder, make_glass_checkpoint, tmp_path, layer):
    path = tmp_path / "space-v1.safetensors"
    save_checkpoint(make_glass_checkpoint(dimensions=3, attention=True), path)
    frame = make_disorder(343, 3)
    data = apply(collection_of(frame), model_file=str(path))
    np.testing.assert_array_equal(
        data.particles["Glass Probability"], predict(frame, str(path))["glass_probability"]
    )
    with pytest.raises(ValueError, match=r"^Liquid or glass: the particles are in two dimensions"):
        apply(layer, model_file=str(path))
    # The same layer, said to be a 2D cell, is one of two dimensions whatever its third vector.
    layer.cell_.is2D = True
    with pytest.raises(ValueError, match=r"^Liquid or glass: the particles are in two dimensions"):
        apply(layer, model_file=str(path))


def test_colors(layer, glass_file):
    fields = predict(next(frame_of(layer)), glass_file)
    for color_by, name in {
        "probability": "glass_probability", "attention": "attention", "uncertainty": "glass_uncertainty"
    }.items():  # fmt: skip
        colors = apply(layer, model_file=glass_file, color_by=color_by).particles.colors[...]
        lightness = (colors @ (0.2126, 0.7152, 0.0722))[np.argsort(fields[name])]
        assert (np.diff(lightness) > -1e-6).all(), color_by
        assert len(np.unique(colors, axis=0)) > 10, color_by


def test_thresholds(layer, glass_file):
    frame = next(frame_of(layer))
    expected = predict(frame, glass_file, threshold=0.45, attention_threshold=1.01)
    data = apply(layer, model_file=glass_file, threshold=0.45, attention_threshold=1.01)
    assert data.attributes["GlassClassifier.attention_threshold"] == 1.01
    assert data.attributes["GlassClassifier.glass_fraction"] == expected["glass_fraction"]
    assert data.particles.bonds["Attention"][...].min() >= np.float32(1.01)


# Tables over the trajectory


def test_tables_over_the_trajectory(run_file, glass_file, runs):
    frames = list(read_frames(run_file))
    fields = [predict(frame, glass_file) for frame in frames]
    temperatures = np.array([frame.info["temperature"] for frame in frames])
    runs.clear()
    pipeline = imported(run_file)
    modifier = GlassClassifier(model_file=glass_file, trajectory_table=True)
    pipeline.modifiers.append(modifier)
    data = pipeline.compute(1)
    assert len(runs) == len(frames)
    stems = ("glass-probability", "glass-attention")
    assert set(data.tables) == {f"{stem}-{end}" for stem in stems for end in ("frames", "temperature")}
    probability = [[one["frame_glass_probability"]] for one in fields]
    np.testing.assert_array_equal(data.tables["glass-probability-frames"].y[...].reshape(-1, 1), probability)
    counts = np.array([[one[name] for name in NUMBERS] for one in fields])
    np.testing.assert_array_equal(data.tables["glass-attention-frames"].y, counts)
    order = np.argsort(temperatures)
    np.testing.assert_array_equal(data.tables["glass-attention-temperature"].x, temperatures[order])
    np.testing.assert_array_equal(data.tables["glass-attention-temperature"].y, counts[order])
    modifier.color_by = "probability"
    pipeline.compute(1)
    assert len(runs) == len(frames)
    modifier.attention_threshold = 1.2
    changed = pipeline.compute(1).tables["glass-attention-frames"].y[...]
    assert (changed != counts).any()


# Bad input


def test_bad_input(layer, glass_file, checkpoint_file, make_glass_checkpoint, tmp_path):
    bad = {"threshold": 1.0, "device": "tpu", "units": "real", "color_by": "x", "attention_threshold": "x"}
    for name, value in bad.items():
        with pytest.raises(TraitError, match=name):
            GlassClassifier(**{name: value})
    with pytest.raises(TypeError, match="GlassClassifier has no parameter treshold"):
        GlassClassifier(treshold=0.4)
    start = "^Liquid or glass: "
    with pytest.raises(ValueError, match=start + ".*there is no such file"):
        apply(layer, model_file=str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=start + ".*of the family segmentation, not liquid_glass"):
        apply(layer, model_file=str(checkpoint_file))
    with pytest.raises(ValueError, match=start + ".*units 'metal'"):
        apply(layer, model_file=glass_file, units="metal")
    with pytest.raises(ValueError, match=start + "attention_threshold must be positive"):
        apply(layer, model_file=glass_file, attention_threshold=-1.0)
    with pytest.raises(ValueError, match=start + "no particle is Xx"):
        apply(layer, model_file=glass_file, b="Xx")
    with pytest.raises(ValueError, match=start + "every particle is B"):
        apply(layer, model_file=glass_file, b="A,B")
    with pytest.raises(ValueError, match=start + ".*the network does not know Ni, P"):
        apply(layer, model_file=glass_file, types="Ni,P")
    named = apply(layer, model_file=glass_file, types="Ni,P", b="P")
    np.testing.assert_array_equal(
        named.particles["Glass Probability"],
        apply(layer, model_file=glass_file).particles["Glass Probability"],
    )
    few = Frame([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [9.0, 9, 1], False, ["A", "B", "A"])
    path = tmp_path / "three-v1.safetensors"
    save_checkpoint(make_glass_checkpoint(k=3), path)
    with pytest.raises(ValueError, match=start + ".*neighbors"):
        apply(collection_of(few), model_file=str(path))
    empty = layer.clone()
    empty.objects.remove(empty.cell)
    with pytest.raises(ValueError, match=start + "the input has no simulation cell"):
        apply(empty, model_file=glass_file)


def test_networks_of_glasses_are_refused_by_the_modifier_for_liquids(layer, glass_file):
    from ovito_phaseseg import PhaseSegmentation

    pipeline = pipeline_of(layer, PhaseSegmentation(model_file=glass_file))
    with pytest.raises(ValueError, match=r"^Phase segmentation: .*of the family liquid_glass, not"):
        pipeline.compute()
