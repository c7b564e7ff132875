"""Voids: scores in them, and the areas between rich, poor and void, by construction and on melts."""

from __future__ import annotations

import numpy as np
import pytest

from phaseseg import Frame, label_phases, load_model
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.voids import find_matter
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.testing import check_fields, permuted, repeated, rolled_axes, translated, wrapped_elsewhere

AREAS = ("interface_area", "area_rich_poor", "area_rich_void", "area_poor_void")
SPACING = 2.2


def areas(fields):
    """The four areas, after checks that hold for any frame."""
    whole, rich_poor, rich_void, poor_void = (fields[name] for name in AREAS)
    assert min(rich_poor, rich_void, poor_void) >= 0
    if fields["n_domains"]:
        assert rich_poor + rich_void == pytest.approx(whole, rel=1e-6)
    else:
        assert whole == rich_poor == 0 and min(rich_void, poor_void) == 0
    return np.array([whole, rich_poor, rich_void, poor_void])


def sites(lengths, seed=0, spacing=SPACING):
    """Jittered sites that fill a box from 0 on."""
    counts = np.rint(np.asarray(lengths) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    jitter = np.random.default_rng(seed).uniform(-0.25, 0.25, grid.shape)
    return (grid + 0.5 + jitter) / counts * lengths


def ball(radius, gap=15.0, pbc=True, inside=0.0):
    """A ball of iron, with a cavity of another radius in its middle; with a void around it."""
    edge = 2 * (radius + gap)
    x = sites([edge] * 3)
    r = np.linalg.norm(x - edge / 2, axis=1)
    x = x[(r < radius) & (r >= inside)]
    return Frame(x, [edge] * 3, pbc, ["Fe"] * len(x))


LX, LY, THICK, GAP = 52.8, 22.0, 39.6, 20.0


def janus(pbc=True, gap=GAP, seed=0, spacing=SPACING):
    """A slab, half iron and half oxygen along x, between voids along z.

    Smoothing rounds its edges, which takes about one sigma from each end of a face.


    spacing : of the oxygen
    """
    rich = sites([LX / 2, LY, THICK], seed)
    poor = sites([LX / 2, LY, THICK], seed + 1, spacing)
    names = ["Fe"] * len(rich) + ["O"] * len(poor)
    positions = np.vstack([rich, np.add(poor, [LX / 2, 0, 0])])
    return Frame(np.add(positions, [0, 0, gap / 2]), [LX, LY, THICK + gap], pbc, names)


FACE, SIDE = LX / 2 * LY, LY * THICK
JANUS = np.array([2 * SIDE + 2 * FACE, 2 * SIDE, 2 * FACE, 2 * FACE])


def cut(frame, radius):
    """The atoms around the middle of a frame, in a void, all axes open."""
    center = frame.origin + frame.cell.sum(axis=0) / 2
    apart = frame.positions - center
    apart -= np.rint(apart @ np.linalg.inv(frame.cell)) @ frame.cell
    rows = np.flatnonzero(np.linalg.norm(apart, axis=1) < radius)
    return frame.take(rows).replace(positions=apart[rows] + center, pbc=(False,) * 3)


def padded(frame, gap):
    """The frame with a void along c, under periodic boundaries."""
    z = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    inside = (z - np.floor(z)) @ frame.cell + frame.origin
    cell = frame.cell.copy()
    cell[2] *= 1 + gap / np.linalg.norm(cell[2])
    return frame.replace(positions=inside, cell=cell)


# Areas by construction ----------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [True, False, (True, False, True)], ids=str)
@pytest.mark.parametrize("radius", [9.0, 14.0])
def test_a_ball_in_a_void(radius, pbc):
    fields = label_phases(ball(radius, pbc=pbc), "Fe", sigma=1.5)
    check_fields(ball(radius, pbc=pbc), fields)
    whole, rich_poor, rich_void, poor_void = areas(fields)
    assert whole == pytest.approx(4 * np.pi * radius**2, rel=0.06)
    assert rich_void == pytest.approx(whole) and rich_poor == poor_void == 0


def test_a_bubble():
    fields = label_phases(ball(18.0, inside=8.0), "Fe", sigma=1.5)
    assert areas(fields)[2] == pytest.approx(4 * np.pi * (18**2 + 8**2), rel=0.06)
    # In a cell that is full otherwise.
    x = sites([33.0] * 3)
    frame = Frame(x, [33.0] * 3, True, ["Fe"] * len(x))
    frame = frame.take(np.flatnonzero(np.linalg.norm(x - 16.5, axis=1) > 8))
    assert areas(label_phases(frame, "Fe", sigma=1.5))[[1, 2, 3]] == pytest.approx(
        [0, 4 * np.pi * 64, 0], rel=0.08
    )


@pytest.mark.parametrize("sigma", [1.5, 2.0])
@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=str)
def test_a_slab_of_two_liquids(pbc, sigma):
    frame = janus(pbc)
    fields = label_phases(frame, "Fe", sigma=sigma)
    check_fields(frame, fields)
    assert areas(fields) == pytest.approx(JANUS, rel=0.08)
    # From the other side.
    other = areas(label_phases(frame, "O", sigma=sigma))
    assert other == pytest.approx(JANUS, rel=0.08)


def test_liquids_of_unlike_density():
    """Water has three times as many atoms in a volume as carbon tetrachloride, which is no void."""
    frame = janus(spacing=SPACING * 3 ** (1 / 3))
    assert areas(label_phases(frame, "Fe", sigma=2.5)) == pytest.approx(JANUS, rel=0.1)
    full = janus(spacing=SPACING * 3 ** (1 / 3), gap=0.0)
    whole, *others = areas(label_phases(full, "Fe", sigma=2.5))
    assert others == [whole, 0, 0]


def test_a_vapor_is_a_void():
    rng = np.random.default_rng(0)
    slab = np.add(sites([30.0, 30.0, 22.0]), [0, 0, 20])
    vapor = rng.random((60, 3)) * [30, 30, 38] + [0, 0, 42.5]
    frame = Frame(np.vstack([slab, vapor]), [30, 30, 64], True, ["Fe"] * (len(slab) + 60))
    for sigma in (1.5, 2.0):
        whole, rich_poor, rich_void, poor_void = areas(label_phases(frame, "Fe", sigma=sigma))
        assert whole == rich_void == pytest.approx(2 * 900, rel=0.03) and rich_poor == poor_void == 0


def test_one_phase_in_a_void():
    frame = ball(10.0)
    frame = frame.replace(species=np.arange(frame.n_atoms) % 2, species_names=("O", "Fe"))
    fields = label_phases(frame, "Fe", sigma=1.5, threshold=10.0, phases=2)
    assert fields["n_phases"] == 1
    assert areas(fields)[3] == pytest.approx(4 * np.pi * 100, rel=0.06)


# No voids -----------------------------------------------------------------------------------------


def test_melts_have_no_voids(large, small, monkeypatch):
    """Counts of atoms exclude voids; the smoothed density does so, too."""
    for frame in (large[3000], large[4000], small[3000][0], small[4000][-1]):
        whole, *others = areas(label_phases(frame, "Fe", sigma=1.5))
        assert others == [whole, 0, 0]
        for sigma in (1.5, 2.0):
            density = density_field(frame, LabelRule(("Fe",), sigma=sigma).fixed())
            with monkeypatch.context() as patch:
                patch.setattr("phaseseg.families.segmentation.labels.voids._is_filled", lambda *_: False)
                assert find_matter(density, sigma, density.chosen) is None
    # A frame of this size does not pay for a second density.
    with monkeypatch.context() as patch:
        patch.setattr("phaseseg.families.segmentation.labels.voids.smoothed_density", None)
        label_phases(large[4000], "Fe", sigma=1.5)


@pytest.mark.parametrize("sigma", [1.5, 2.0])
def test_fluctuations_of_a_gas_are_no_voids(sigma):
    positions = np.random.default_rng(0).random((2700, 3)) * 30
    fields = label_phases(Frame(positions, [30.0] * 3, True, ["Fe"] * 2700), "Fe", sigma=sigma)
    assert fields["n_phases"] == 1 and not areas(fields).any()


def test_voxels_that_no_atom_fills():
    frame = ball(9.0, pbc=False)
    assert np.isfinite(areas(label_phases(frame, "Fe", sigma=0.4, voxel=2.0, phases=2))).all()


# What must not change an area ---------------------------------------------------------------------


def test_areas_do_not_depend_on_the_choice_of_cell_and_order():
    frame = janus((True, True, False))
    expected = areas(label_phases(frame, "Fe", sigma=1.5))
    order = np.random.default_rng(1).permutation(frame.n_atoms)
    for changed in (permuted(frame, order), wrapped_elsewhere(frame), rolled_axes(frame, (1, 2, 0))):
        assert areas(label_phases(changed, "Fe", sigma=1.5)) == pytest.approx(expected, rel=1e-3)
    moved = areas(label_phases(translated(frame, [3.1, 1.7, 0.4]), "Fe", sigma=1.5))
    assert moved == pytest.approx(expected, rel=0.01)
    double = areas(label_phases(repeated(frame, (1, 2, 1)), "Fe", sigma=1.5))
    assert double == pytest.approx(2 * expected, rel=0.005)
    sheared = frame.cell.copy()
    sheared[1] += sheared[0]
    assert areas(label_phases(frame.replace(cell=sheared), "Fe", sigma=1.5)) == pytest.approx(
        expected, rel=0.01
    )


# Predictions --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return load_model("segmentation/gat-v1")


def compare(network, frame, rel=0.05):
    """Check the areas of a prediction and of the label at the width and cut of the network's own labels."""
    fields = network.predict(frame)
    check_fields(frame, fields)
    rule = network.label_rule
    found, expected = areas(fields), areas(label_phases(frame, sigma=rule.sigma, threshold=rule.threshold))
    # The line where all three meet moves by a fraction of an Å, which matters to a small droplet.
    assert found == pytest.approx(expected, abs=rel * expected[0], rel=rel if frame.n_atoms > 1000 else 0.15)
    assert found[0] == pytest.approx(expected[0], rel=rel)
    assert {"free-surface"} <= {message.code for message in fields.messages}
    return fields


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (False,) * 3], ids=str)
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_open_melts(network, large, temperature, pbc):
    frame = large[temperature].replace(pbc=pbc)
    fields = compare(network, frame)
    labels = label_phases(frame, sigma=2.0)
    assert fields["interface_area"] == pytest.approx(labels["interface_area"], rel=0.05)


@pytest.mark.parametrize("radius", [10.0, 15.0, 25.0])
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_droplets_cut_from_melts(network, large, temperature, radius):
    droplet = cut(large[temperature], radius)
    compare(network, droplet)
    box = np.eye(3) * (2 * radius + 30)
    compare(network, droplet.replace(cell=box, pbc=(True,) * 3))


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_a_void_of_a_periodic_cell(network, large, temperature):
    compare(network, padded(large[temperature], 30.0))


def test_scores_in_a_void_are_at_their_bound(network, large):
    droplet = cut(large[3000], 15.0).replace(cell=np.eye(3) * 60, pbc=(True,) * 3)
    fields = network.predict(droplet)
    grid = fields["score_grid"]
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid.shape), indexing="ij"), -1) @ grid.cell
    center = droplet.positions.mean(axis=0)
    apart = points + grid.origin - center
    apart -= np.rint(apart / 60) * 60
    r = np.linalg.norm(apart, axis=-1)
    bound = network.checkpoint.config["score"]["bound"]
    assert (grid.values[r > 20] == -bound).all() and (grid.values[r > 16.5] < 0).all()
    # An atom that has evaporated is poor.
    far = Frame(
        np.vstack([droplet.positions, center + 26.0]), droplet.cell, True,
        [*np.array(droplet.species_names)[droplet.species], "Fe"],
    )  # fmt: skip
    fields = network.predict(far)
    assert fields["domain"][-1] == 0 and fields["interface_distance"][-1] < -15
