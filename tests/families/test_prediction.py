"""Predictions: field of the scores, interface, probabilities, range of validity, models kept ready."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

import naive
from phaseseg import Frame, label_phases, load_model, predict
from phaseseg.checkpoint import CheckpointError, save_checkpoint
from phaseseg.families.segmentation import inference
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.model import SegmentationModel, voxel_boundary
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.score_field import score_field
from phaseseg.testing import (
    AWKWARD,
    check_fields,
    permuted,
    repeated,
    rolled_axes,
    slab,
    sphere,
    translated,
    wrapped_elsewhere,
)

BOUND = 3.0
PER_ATOM = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")


@pytest.fixture(scope="module")
def model(make_checkpoint):
    return SegmentationModel(make_checkpoint())


def planted(model, frame, *scores):
    """Scores of a frame as if the networks had given them."""
    logits = np.zeros((len(scores), frame.n_atoms, model.config.outputs), dtype=np.float32)
    for z, score in zip(logits, scores, strict=True):
        z[:, 1] = BOUND * np.arctanh(np.clip(np.asarray(score) / BOUND, -0.999999, 0.999999))
    n = model.config.n_features
    nothing = SimpleNamespace(
        logits=logits, n_outside=np.zeros(n, int), lowest=np.zeros(n), highest=np.zeros(n)
    )
    return model.scores_of(frame, nothing)


def said(fields):
    """The messages by their codes."""
    return {text.code: text for text in fields.messages}


def squeezed(distance):
    """What a perfect network would say of a distance."""
    return BOUND * np.tanh(distance / BOUND)


def slab_distance(frame, low=10.3, high=27.8):
    x = frame.positions[:, 0] % frame.cell[0, 0]
    return np.minimum(x - low, high - x)


def assert_same(a, b, names=PER_ATOM):
    for name in names:
        assert_array_equal(a[name], b[name], err_msg=name)


# The field ----------------------------------------------------------------------------------------


SKEW = [[8.0, 0, 0], [2.0, 7.5, 0], [-1.5, 2.5, 8.5]]
SMALL = {
    "orthogonal": ([8.0, 7.5, 8.5], True), "triclinic": (SKEW, True), "open": ([8.0, 7.5, 8.5], False),
    "open along b": ([8.0, 7.5, 8.5], (True, False, True)), "triclinic, open": (SKEW, (True, True, False)),
    "left-handed": (np.array(SKEW)[[1, 0, 2]], True),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, "2D"])
@pytest.mark.parametrize("curvature", [False, True])
def test_the_field_is_that_of_direct_sums(name, curvature):
    rng = np.random.default_rng(3)
    if name == "2D":
        frame = AWKWARD["2D"]()
    else:
        cell, pbc = SMALL[name]
        cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
        frame = Frame(rng.random((50, 3)) @ cell, cell, pbc, ["Fe"] * 50)
    score = squeezed(rng.normal(0, 2, frame.n_atoms)).astype(np.float32)
    field = score_field(frame, score, sigma=1.2, voxel=0.6, bound=BOUND, curvature=curvature)
    points = naive.grid_points(field.grid)
    want, share = naive.score_field(
        points, frame, score, 1.2, BOUND, field.lattice.flat, field.grid.steps, curvature
    )
    # Toward a void the density becomes one of rounding errors.
    error = np.abs(field.grid.values - want)[share > 0.2]
    # A second derivative has more of what the grid leaves out.
    assert error.mean() < (0.02 if curvature else 3e-3)
    assert np.quantile(error, 0.99) < (0.1 if curvature else 0.02)
    assert (field.grid.values[share < 5e-4] == -BOUND).all()
    assert_array_equal(field.scores, score[field.atoms.order])


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_scores_that_are_linear_give_their_plane(large, temperature):
    """However the atoms of a melt lie: to 0.03 Å at any point, where the plain mean is off by 0.13 Å."""
    frame = large[temperature]
    length = frame.cell[0, 0]
    x = (frame.positions[:, 0] - frame.origin[0]) % length
    distance = np.minimum(x - 0.25 * length, 0.75 * length - x)
    field = score_field(frame, squeezed(distance).astype(np.float32), sigma=1.0, voxel=0.75, bound=BOUND)
    shape = np.array(field.grid.shape)
    points = np.random.default_rng(0).random((20000, 3)) * shape
    points[:10000, 0], points[10000:, 0] = 0.25 * shape[0], 0.75 * shape[0]
    off = map_coordinates(field.grid.values, points.T, order=3, mode="grid-wrap")
    for side in (off[:10000], off[10000:]):
        assert abs(side.mean()) < 0.005 and side.std() < 0.03


def test_a_planted_slab_and_its_threshold(model):
    frame = slab()
    distance = slab_distance(frame)
    scores = planted(model, frame, squeezed(distance))
    fields = model.fields(frame, scores)
    check_fields(frame, fields)
    near = np.abs(distance) < 2.5
    error = fields["interface_distance"] - distance
    assert abs(error[near].mean()) < 0.01 and error[near].std() < 0.02
    assert fields["interface_area"] == pytest.approx(2 * 18 * 18, rel=0.005)
    assert fields["n_domains"] == 1 and fields["rich_volume_fraction"] == pytest.approx(17.5 / 40, abs=0.01)
    assert_array_equal(fields["phase"] == RICH, (distance > 0) & (fields["phase"] != BOUNDARY))
    # A threshold moves the interface to where the score has the probability of the threshold.
    scores = planted(model, frame, np.clip(distance, -2.9, 2.9))
    for threshold in (0.1, 0.9):
        shift = 0.4 * np.log(threshold / (1 - threshold))
        moved = model.fields(frame, scores, threshold=threshold)
        error = moved["interface_distance"] - (distance - shift)
        assert abs(error[near].mean()) < 0.02 and error[near].std() < 0.03
        rich = moved["phase_probability"][:, 1] >= threshold
        assert (rich == (moved["domain"] > 0)).mean() > 0.9999
        assert moved["score_threshold"] == pytest.approx(shift)
    assert model.level(1 - 1e-12) == pytest.approx(0.99 * BOUND)


def test_a_planted_sphere(model):
    frame = sphere()
    apart = frame.positions - [15.2, 14.7, 15.4]
    apart -= np.rint(apart / 30) * 30
    distance = 8.0 - np.linalg.norm(apart, axis=1)
    fields = model.fields(frame, planted(model, frame, squeezed(distance)), boundary_width=2.0)
    error = fields["interface_distance"] - distance
    near = np.abs(distance) < 2
    # The mean over a Gaussian of sigma 1 Å of a curved score: sigma^2 / radius = 0.125 Å inward.
    assert error[near].mean() == pytest.approx(-0.125, abs=0.03) and error[near].std() < 0.04
    assert ((fields["phase"] == BOUNDARY) == (np.abs(fields["interface_distance"]) <= 1)).mean() > 0.999
    # With the curvature taken out a wider Gaussian does not move the surface.
    settings = {"sigma": 1.5, "voxel": 0.75, "curvature": True}
    sharp = SegmentationModel(
        replace(model.checkpoint, config=model.checkpoint.config | {"interface": settings})
    )
    fields = sharp.fields(frame, planted(sharp, frame, squeezed(distance)))
    error = (fields["interface_distance"] - distance)[near]
    assert abs(error.mean()) < 0.06 and error.std() < 0.05  # of 0.28 Å


def tilted(cell, pbc=True, seed=0):
    """Atoms in any cell, rich in the half around the middle of the first axis; distance to the planes, Å."""
    rng = np.random.default_rng(seed)
    cell = np.asarray(cell, dtype=float)
    counts = np.rint(np.linalg.norm(cell, axis=1) / 1.2).astype(int)
    sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = (sites + rng.random(sites.shape)) / counts
    height = 1 / np.linalg.norm(np.linalg.inv(cell)[:, 0])
    distance = np.minimum(fractions[:, 0] - 0.25, 0.75 - fractions[:, 0]) * height
    species = np.where(distance > 0, "Fe", "O")
    return Frame(fractions @ cell + [3.0, -9.0, 1.0], cell, pbc, species, origin=[3.0, -9.0, 1.0]), distance


TILTED = [[26.0, 0, 0], [6.0, 13.0, 0], [-4.0, 5.0, 14.0]]


@pytest.mark.parametrize("pbc", [True, (True, False, False), (True, True, False)])
@pytest.mark.parametrize("cell", [TILTED, np.diag([26.0, 13.0, 14.0])], ids=["triclinic", "orthogonal"])
def test_planes_in_any_cell(model, cell, pbc):
    frame, distance = tilted(cell, pbc)
    fields = model.fields(frame, planted(model, frame, squeezed(distance)))
    check_fields(frame, fields)
    inner = np.abs(distance) < 2
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    for axis in np.flatnonzero(~frame.pbc):  # within two sigma of an open end the rich phase is rounded
        inner &= np.abs(fractions[:, axis] - 0.5) < 0.15
    error = (fields["interface_distance"] - distance)[inner]
    assert abs(error.mean()) < (0.03 if frame.pbc.all() else 0.05) and error.std() < 0.06


def test_a_line_in_two_dimensions(model):
    rng = np.random.default_rng(1)
    positions = np.column_stack([rng.random((3000, 2)) * [40, 30], np.full(3000, 0.3)])
    distance = np.minimum(positions[:, 0] - 10, 30 - positions[:, 0])
    frame = Frame(positions, [40, 30, 1.0], True, np.where(distance > 0, "Fe", "O"))
    fields = model.fields(frame, planted(model, frame, squeezed(distance)), min_volume=20)
    check_fields(frame, fields)
    error = (fields["interface_distance"] - distance)[np.abs(distance) < 2]
    assert abs(error.mean()) < 0.02 and error.std() < 0.08


def test_a_free_surface_is_not_where_the_atoms_are(model):
    """The void is poor, but begins so far from the atoms that none of them becomes boundary by it."""
    frame, distance = tilted(np.diag([26.0, 13.0, 14.0]), (True, True, False))
    scores = planted(model, frame, np.full(frame.n_atoms, 2.9))
    fields = model.fields(frame, scores)
    assert (fields["phase"] == RICH).all() and "two-phases" in said(fields)
    assert fields["area_rich_void"] == fields["interface_area"] == pytest.approx(2 * 26 * 13, rel=0.03)
    mixed = model.fields(frame, planted(model, frame, squeezed(distance)), boundary_width=2.7)
    rich = (mixed["phase"] == BOUNDARY) & (distance > 2)
    assert not rich.any()


# What must not change a label ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def melt(large, make_checkpoint):
    """A frame, the model of three networks and its prediction."""
    trio = SegmentationModel(make_checkpoint(n_members=3))
    return large[4000], trio, trio.fields(large[4000], trio.score(large[4000]))


def test_order_of_the_atoms(melt):
    frame, model, fields = melt
    order = np.random.default_rng(2).permutation(frame.n_atoms)
    other = predict(permuted(frame, order), model)
    assert (other["phase"] == fields["phase"][order]).mean() > 0.9999
    near = np.abs(fields["interface_distance"][order]) < 5
    difference = np.abs(other["interface_distance"] - fields["interface_distance"][order])[near]
    assert difference.max() < 1e-3
    assert_allclose(other["phase_probability"], fields["phase_probability"][order], atol=1e-4)


def test_images_of_the_atoms_and_order_of_the_axes(melt):
    frame, model, fields = melt
    for changed in (wrapped_elsewhere(frame), rolled_axes(frame, (2, 0, 1))):
        other = predict(changed, model)
        assert (other["phase"] == fields["phase"]).mean() > 0.9999
        assert_allclose(other["phase_probability"], fields["phase_probability"], atol=1e-4)


def test_a_shift_changes_one_label_in_a_thousand(melt):
    """The field knows the grid: its interface moves by 0.02 Å with it."""
    frame, model, fields = melt
    other = predict(translated(frame, [0.31, 0.17, 0.52]), model)
    assert (other["phase"] != fields["phase"]).mean() < 2e-3
    near = np.abs(fields["interface_distance"]) < 2
    assert np.std((other["interface_distance"] - fields["interface_distance"])[near]) < 0.02


def test_a_supercell_is_its_cell(small, melt):
    _, model, _ = melt
    frame = small[3000][5]
    one, eight = predict(frame, model), predict(repeated(frame), model)
    assert eight["n_phases"] == one["n_phases"] == 2
    for name in ("phase", "phase_uncertainty", "phase_probability"):
        tiled = np.tile(one[name], (8, *(1,) * (one[name].ndim - 1)))
        if name == "phase":
            assert (eight[name] == tiled).mean() > 0.995
        else:
            assert_allclose(eight[name], tiled, atol=1e-4)
    assert eight["interface_area"] == pytest.approx(8 * one["interface_area"], rel=0.01)


@pytest.mark.slow
def test_a_frame_is_not_changed_and_the_same_twice(small, melt):
    frame = small[3000][3]
    before = {key: np.copy(getattr(frame, key)) for key in ("positions", "cell", "pbc", "species", "origin")}
    first, second = predict(frame, melt[1]), predict(frame, melt[1])
    assert_same(first, second)
    assert first.messages == second.messages
    for key, values in before.items():
        assert_array_equal(getattr(frame, key), values)


# Any frame ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.05, "min_volume": 0.0},
        {"threshold": 0.9, "keep": "largest", "min_volume": 0.0, "boundary_width": 3.0},
        {"boundary": "voxels", "min_volume": 0.0},
        {"boundary": "learned", "min_volume": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", AWKWARD)
def test_any_frame_gets_a_consistent_prediction(make_checkpoint, name, options):
    frame = AWKWARD[name]()
    model = SegmentationModel(make_checkpoint(n_members=2, species=("O", "Fe"), outputs=3))
    fields = predict(frame, model, **options)
    check_fields(frame, fields)
    assert fields["phase_probability"].shape[1] == (3 if options.get("boundary") == "learned" else 2)


def test_the_melts_are_metal_and_silicate(large, model):
    """Even a threshold on the share of iron tells most of it; the labels say how good that is."""
    frame = large[3000]
    fields = predict(frame, model)
    check_fields(frame, fields)
    labels = label_phases(frame, "Fe", sigma=2.0)
    assert ((fields["domain"] > 0) == (labels["domain"] > 0)).mean() > 0.95
    assert set(fields) - {"score_grid"} >= {"composition", "partition", "domains", "proxigram", "n_domains"}


# One phase ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "phase"), [(2.0, RICH), (-2.0, POOR)])
def test_one_phase(model, small, score, phase):
    frame = small[3000][0]
    fields = model.fields(frame, planted(model, frame, np.full(frame.n_atoms, score)))
    check_fields(frame, fields)
    assert fields["n_phases"] == 1 and (fields["phase"] == phase).all()
    assert fields["rich_volume_fraction"] == float(phase == RICH)
    assert "segmentation/share-v1" in said(fields)["one-phase"]


def test_small_domains_are_dropped(model):
    frame = sphere()
    apart = frame.positions - [15.2, 14.7, 15.4]
    distance = 8.0 - np.linalg.norm(apart - np.rint(apart / 30) * 30, axis=1)
    scores = planted(model, frame, squeezed(distance))
    fields = model.fields(frame, scores, min_volume=1e4)
    assert fields["n_phases"] == 1 and not fields["domain"].any()
    assert any("rich domain was dropped: smaller than 10000 Å^3" in text for text in fields.messages)


# Members ------------------------------------------------------------------------------------------


def test_probability_and_spread_of_an_ensemble(make_checkpoint, small):
    frame = small[3000][0]
    model = SegmentationModel(make_checkpoint(n_members=3))
    rng = np.random.default_rng(0)
    members = squeezed(rng.normal(0, 3, (3, frame.n_atoms)))
    scores = planted(model, frame, *members)
    assert_allclose(scores.members, members, atol=1e-4)
    assert_allclose(scores.score, members.mean(axis=0), atol=1e-4)
    each = 1 / (1 + np.exp(-members / 0.4))
    assert_allclose(scores.uncertainty, each.std(axis=0), atol=1e-4)
    fields = model.fields(frame, scores)
    rich = 1 / (1 + np.exp(-members.mean(axis=0) / 0.4))
    assert_allclose(fields["phase_probability"], np.stack([1 - rich, rich], axis=1), atol=1e-4)
    assert fields["mean_uncertainty"] == pytest.approx(each.std(axis=0).mean(), abs=1e-4)
    assert not any("holds one network" in text for text in fields.messages)


def test_one_network_has_no_uncertainty(model, small):
    fields = predict(small[3000][0], model)
    assert not fields["phase_uncertainty"].any()
    assert any("holds one network, so the phase uncertainty is 0" in text for text in fields.messages)


# Boundaries of other kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["triclinic", "2D", "open"])
def test_voxels_of_the_paper(name, small):
    frames = {"open": small[3000][0].replace(pbc=(False, True, False)), "2D": small[4000][0]}
    frame = frames.get(name) or tilted(TILTED)[0]
    rich = np.random.default_rng(0).random(frame.n_atoms) < 0.5
    assert_array_equal(voxel_boundary(frame, rich), naive.voxel_boundary(frame, rich))


def test_the_boundary_of_voxels_is_wide_in_a_large_cell_and_nothing_in_a_small_one(model, large, small):
    few = predict(small[3000][0], model, boundary="voxels")
    assert (few["phase"] == BOUNDARY).mean() < 0.01
    fields = predict(large[3000], model, boundary="voxels")
    assert 0.03 < (fields["phase"] == BOUNDARY).mean() < 0.2
    assert_array_equal(fields["phase"] == BOUNDARY, voxel_boundary(large[3000], fields["domain"] > 0))


def test_a_learned_boundary(make_checkpoint, large):
    model = SegmentationModel(make_checkpoint(outputs=3))
    frame = large[3000]
    scores = model.score(frame)
    fields = model.fields(frame, scores, boundary="learned")
    z = inference.Network(model.config, model.scaling, model.members)(frame, model.codes(frame)).logits[0]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert_allclose(fields["phase_probability"][:, 2], p[:, 2], atol=1e-4)
    third = fields["phase_probability"]
    assert_array_equal(fields["phase"] == BOUNDARY, third[:, 2] > third[:, :2].max(axis=1))
    assert model.fields(frame, scores)["phase_probability"].shape[1] == 2


# Range of validity --------------------------------------------------------------------------------


@pytest.mark.slow
def test_input_outside_of_the_training_data_is_reported(model, small):
    frame = small[3000][0]
    inside = predict(frame, model)
    assert inside["outside_training"] == 0 and len(inside.messages) == 2
    narrow = SegmentationModel(model.checkpoint)
    narrow.scaling = replace(model.scaling, high=np.minimum(model.scaling.high, 30))
    fields = predict(frame, narrow)
    share = fields["outside_training"]
    features = node_features(frame, narrow.codes(frame), narrow.config)
    assert share == pytest.approx((features[:, 5] > 30).mean()) and share > 0.01
    warning = said(fields)["outside-training"]
    assert f"{share:.1%}" in warning and "0 to 30" in warning
    squeezed_cell = frame.replace(positions=frame.positions * 0.93, cell=frame.cell * 0.93)
    assert "0.09 to 0.12" in said(predict(squeezed_cell, model))["outside-training"]
    open_frame = squeezed_cell.replace(pbc=(True, True, False))
    assert "outside-training" not in said(predict(open_frame, model))


# Refusals -----------------------------------------------------------------------------------------


def test_what_the_network_does_not_know_is_refused(model, small):
    frame = small[3000][0]
    names = ("Fe", "Mg", "Ti", "O", "Xe")
    with pytest.raises(ValueError, match=r"does not know the species Ti, Xe; it knows Fe, Mg, Si, O, N\.$"):
        predict(frame.replace(species_names=names, source="a.xyz"), model)
    unused = frame.replace(species_names=(*frame.species_names, "Xe"))
    assert_same(predict(unused, model), predict(frame, model))
    with pytest.raises(
        ValueError, match=r"has the units 'lj', but segmentation/share-v1 was trained with 'me"
    ):
        predict(frame.replace(units="lj"), model)
    with pytest.raises(ValueError, match="the frame has no atoms"):
        predict(Frame(np.zeros((0, 3)), np.eye(3) * 9, True, [], ("Fe",)), model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.0}, "threshold must be a probability between 0 and 1"),
        ({"threshold": 1.0}, "threshold must be a probability"),
        ({"threshold": float("nan")}, "threshold must be a probability"),
        ({"boundary_width": -1}, "boundary_width must be finite and at least 0"),
        ({"boundary": "thick"}, "boundary must be one of interface, voxels, learned; found 'thick'"),
        ({"boundary": "learned"}, "segmentation/share-v1 does not predict a boundary class"),
        ({"keep": "some"}, "keep must be one of all, largest"),
        ({"device": "tpu"}, "device must be auto, cpu, torch or cuda, found 'tpu'"),
    ],
)
def test_options_out_of_range(model, small, options, said):
    with pytest.raises(ValueError, match=said):
        predict(small[3000][0], model, **options)


def test_unknown_options(model, small):
    with pytest.raises(
        TypeError,
        match=r"unknown option treshold; the options of .* are threshold, boundary_width",
    ):
        predict(small[3000][0], model, treshold=0.4)


# Models -------------------------------------------------------------------------------------------


def test_models_are_kept_by_their_content(tmp_path, make_checkpoint):
    checkpoint = make_checkpoint()
    path, copy = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for file in (path, copy):
        save_checkpoint(checkpoint, file)
    one = load_model(path)
    assert load_model(path) is one and load_model(copy) is one and load_model(checkpoint) is one
    assert load_model(one) is one and load_model(str(path)) is one
    save_checkpoint(make_checkpoint(cut=0.3), path)
    other = load_model(path)
    assert other is not one and load_model(copy) is one
    assert other.checkpoint.hash != one.checkpoint.hash


def test_only_so_many_models_are_kept(tmp_path, make_checkpoint):
    door = sys.modules["phaseseg.api"]
    path = tmp_path / "first.safetensors"
    save_checkpoint(make_checkpoint(cut=0.123), path)
    first = load_model(path)
    for n in range(door.KEPT):
        load_model(make_checkpoint(cut=0.2 + 0.01 * n))
    assert len(door._models) == door.KEPT and first.checkpoint.hash not in door._models
    again = load_model(path)
    assert again is not first and again.checkpoint.hash == first.checkpoint.hash


def test_checkpoints_that_are_no_models(make_checkpoint):
    good = make_checkpoint()
    with pytest.raises(CheckpointError, match=r"unknown/x-v1: this is a checkpoint of the family unknown"):
        load_model(replace(good, family="unknown", name="unknown/x-v1"))
    without = {name: values for name, values in good.config.items() if name != "score"}
    with pytest.raises(
        CheckpointError, match="settings in the checkpoint cannot be used: 'score' is missing"
    ):
        load_model(replace(good, config=without))
    two = good.config | {"score": good.config["score"] | {"scale": [1.0, 1.0]}}
    with pytest.raises(CheckpointError, match="there are 1 networks but 2 score scales"):
        load_model(replace(good, config=two))


def test_predict_is_a_function_though_a_module_had_its_name():
    import phaseseg

    sys.modules.pop("phaseseg.predict", None)
    with pytest.warns(FutureWarning, match="phaseseg.predict has moved to phaseseg.api"):
        import phaseseg.predict

    assert phaseseg.predict is predict and callable(predict)
    assert sys.modules["phaseseg.predict"].predict is predict


def test_a_name_that_left_its_module_is_found():
    with pytest.warns(FutureWarning, match="has moved to phaseseg.families.segmentation.node_features"):
        assert inference.node_features is node_features
    with pytest.raises(AttributeError, match="has no attribute 'node_feature'"):
        inference.node_feature  # noqa: B018


# Torch --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gat", "gcn", "graphconv"])
def test_torch_gives_the_same_numbers(make_checkpoint, small, architecture):
    pytest.importorskip("torch")
    model = SegmentationModel(make_checkpoint(n_members=2, architecture=architecture))
    for frame in (small[4000][0], tilted(TILTED, (True, False, True))[0]):
        loops, torch = model.score(frame), model.score(frame, device="torch")
        assert_allclose(torch.members, loops.members, atol=1e-5 * BOUND)
        assert_allclose(torch.uncertainty, loops.uncertainty, atol=1e-5)
        assert torch.outside == loops.outside and torch.messages == loops.messages


def test_a_gpu_that_is_not_there_is_told(model, small):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="device cuda: torch finds no GPU on this machine"):
        predict(small[3000][0], model, device="cuda")


def test_torch_that_is_not_there_is_told(make_checkpoint, small, monkeypatch):
    from phaseseg.nn import device as devices

    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    model = SegmentationModel(make_checkpoint())
    with pytest.raises(
        ImportError, match=r"device torch needs torch, .*pip install 'ovito-phaseseg\[train\]'"
    ):
        model.score(small[3000][0], device="torch")
