"""Voids: scores in them, and the areas between rich, poor and void, by construction and on melts."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from phaseseg import Frame, label_phases, load_model
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.voids import Matter, find_matter, in_windows, is_filled
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.score_field import lowered
from phaseseg.recipes.segmentation.voids import deviation, pieces
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
                patch.setattr("phaseseg.families.segmentation.labels.voids.is_filled", lambda *_: False)
                assert find_matter(density, sigma, density.chosen) is None
    # A frame of this size does not pay for a second density, even where coarse cells are wide.
    with monkeypatch.context() as patch:
        patch.setattr("phaseseg.families.segmentation.labels.voids.smoothed_density", None)
        for voxel in (0.75, 1.0):
            label_phases(large[4000], "Fe", sigma=1.5, voxel=voxel)


@pytest.mark.parametrize("voxel", [0.75, 1.0, 1.4])
def test_counts_in_windows_find_voids(large, voxel):
    """A hole of 7.5 sigma holds a window, of 5 sigma at most, wherever it is."""
    frame, sigma = large[4000], 1.5
    for center in np.random.default_rng(0).random((8, 3)) @ frame.cell:
        apart = frame.positions - frame.origin - center
        apart -= np.rint(apart @ np.linalg.inv(frame.cell)) @ frame.cell
        holed = frame.take(np.flatnonzero((np.abs(apart) > 3.75 * sigma).any(axis=1)))
        density = density_field(holed, LabelRule(("Fe",), sigma=sigma, voxel=voxel).fixed())
        counts = in_windows(density, sigma)
        assert counts.sum() == len(holed)
        assert not is_filled(counts, density.lattice, sigma)
    density = density_field(frame, LabelRule(("Fe",), sigma=sigma, voxel=voxel).fixed())
    assert is_filled(in_windows(density, sigma), density.lattice, sigma)


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


@pytest.mark.slow
@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (False,) * 3], ids=str)
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_open_melts(network, large, temperature, pbc):
    frame = large[temperature].replace(pbc=pbc)
    fields = compare(network, frame)
    labels = label_phases(frame, sigma=2.0)
    assert fields["interface_area"] == pytest.approx(labels["interface_area"], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("radius", [10.0, 15.0, 25.0])
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_droplets_cut_from_melts(network, large, temperature, radius):
    droplet = cut(large[temperature], radius)
    compare(network, droplet)
    box = np.eye(3) * (2 * radius + 30)
    compare(network, droplet.replace(cell=box, pbc=(True,) * 3))


@pytest.mark.slow
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


PAPER = ("gat-3000K-v1", "gat-4000K-v1", "gcn-3000K-v1", "gcn-4000K-v1")


def iron_slab(pbc):
    positions = np.add(sites([30.0, 30.0, 22.0]), [0, 0, 20])
    return Frame(positions, [30, 30, 64], pbc, ["Fe"] * len(positions))


IRON = {
    "ball of 9 Å": ball(9.0), "ball of 14 Å": ball(14.0, pbc=False), "shell": ball(18.0, inside=8.0),
    "slab": iron_slab((True, True, False)), "block": iron_slab(False),
}  # fmt: skip


@pytest.mark.parametrize("name", ["gat-v1", *PAPER])
@pytest.mark.parametrize("piece", IRON)
def test_the_surface_of_pure_iron_lies_where_labels_cut(name, piece):
    """It was at half of the density, wherever the labels cut, and had no area without a poor liquid."""
    model, frame = load_model(f"segmentation/{name}"), IRON[piece]
    found, rule = model.predict(frame), model.label_rule
    check_fields(frame, found)
    expected = label_phases(frame, sigma=rule.sigma, threshold=rule.threshold)
    assert areas(found) == pytest.approx(areas(expected), rel=0.003)
    assert found["n_phases"] == expected["n_phases"] == 2
    # All atoms are rich, and none is boundary, which lies between two liquids.
    assert (found["phase"] == 1).all() and (found["domain"] == 1).all()
    depth = expected["interface_distance"]
    near = (depth > 1) & (depth < 4)
    assert abs(found["interface_distance"] - depth)[near].mean() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat-v1", "gat-3000K-v1", "gat-4000K-v1"])
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_droplets_and_cylinders(name, large, temperature):
    """Networks with the paper's features had areas that were 4 % too small in the mean, and up to 10 %."""
    model, whole = load_model(f"segmentation/{name}"), large[temperature]
    deviations = [
        found
        for piece, frame in pieces(whole)
        if piece.startswith(("droplet of 1", "cylinder")) and (found := deviation(model, frame))
    ]
    areas = np.array([area for area, _ in deviations])
    assert len(areas) >= 12 and abs(areas.mean()) < 2 and np.sqrt((areas**2).mean()) < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_networks_that_count_neighbors(name, large, temperature):
    """They took thin silicate layers on a droplet for metal: 15-Å droplets had 20 % too much interface.

    Mirror images of deeper atoms brought metal next to such layers, with 5.5 % on droplets of 10 Å.
    """
    paper = load_model(f"segmentation/{name}")
    whole = large[temperature]
    for frame in (cut(whole, 10.0), cut(whole, 15.0), padded(whole, 30.0), whole.replace(pbc=(False,) * 3)):
        rule = paper.label_rule
        expected = label_phases(frame, sigma=rule.sigma, threshold=rule.threshold)
        found = paper.predict(frame)
        assert found["interface_area"] == pytest.approx(expected["interface_area"], rel=0.05)
        wrong = (found["interface_distance"] > 0) != (expected["interface_distance"] > 0)
        assert wrong.mean() < (0.18 if frame.n_atoms < 1000 else 0.1 if frame.n_atoms < 3000 else 0.05)


def test_frames_without_voids_are_predicted_once(network, large, monkeypatch):
    monkeypatch.setattr(Matter, "mirrored", None)
    assert network.run(large[3000]).plain is None


# Mirror images ------------------------------------------------------------------------------------


def matter_of(frame, sigma=2.0):
    density = density_field(frame, LabelRule(("Fe",), sigma=sigma, threshold=0.03).fixed())
    return find_matter(density, sigma, density.chosen)


@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=str)
def test_images_of_a_slab_lie_beyond_its_faces(pbc):
    frame = janus(pbc)
    atoms, shifts = matter_of(frame).mirrored(3.0, 3.0)
    z = frame.positions[:, 2]
    depth = np.minimum(z - GAP / 2, GAP / 2 + THICK - z)
    # Every atom near a face once; half a lattice plane of tolerance for where the face is.
    assert len(np.unique(atoms)) == len(atoms) and set(np.flatnonzero(depth < 2.5)) <= set(atoms.tolist())
    assert (depth[atoms] < 3.5).all()
    images = frame.positions[atoms] + shifts
    beyond = np.maximum(GAP / 2 - images[:, 2], images[:, 2] - GAP / 2 - THICK)
    assert beyond == pytest.approx(depth[atoms], abs=1.0) and abs(beyond - depth[atoms]).mean() < 0.3
    assert abs(shifts[:, :2]).mean() < 0.25  # upright


@pytest.mark.parametrize("pbc", [True, False])
def test_images_of_a_ball_lie_on_the_same_ray(pbc):
    frame = ball(14.0, pbc=pbc)
    atoms, shifts = matter_of(frame).mirrored(3.0, 3.0)
    center = np.full(3, 29.0)
    radius = np.linalg.norm(frame.positions - center, axis=1)
    beyond = np.linalg.norm(frame.positions[atoms] + shifts - center, axis=1)
    # Atoms above the smoothed surface have no image; the surface is rough.
    assert np.isin(np.flatnonzero((radius > 12.0) & (radius < 13.3)), atoms).mean() > 0.95
    surface = (beyond + radius[atoms]) / 2
    # Smoothing a sphere moves its surface inward by sigma^2 / R, here 0.3 Å.
    assert surface.mean() == pytest.approx(13.7, abs=0.2) and surface.std() < 0.3
    rays = np.einsum("ij,ij->i", shifts, frame.positions[atoms] - center) / radius[atoms]
    assert (rays / np.linalg.norm(shifts, axis=1)).mean() > 0.95


def test_no_image_lies_in_a_liquid():
    """Across a gap of 5 Å, images of one face may reach into the other liquid."""
    frame = janus(gap=5.0)
    matter = matter_of(frame)
    atoms, shifts = matter.mirrored(6.0, 6.0)
    z = (frame.positions[atoms] + shifts)[:, 2] % (THICK + 5.0)
    assert len(atoms) and (np.minimum(z, THICK + 5.0 - z) < 3.5).all()


def test_layers_of_images_continue_the_outermost_atoms():
    """The distance of 1 Å that an atom has from the surface comes back in every layer of 2 Å."""
    frame = janus((True, True, False))
    atoms, shifts = matter_of(frame).mirrored(2.0, 6.0)
    first, lifts = matter_of(frame).mirrored(2.0, 2.0)
    assert np.array_equal(atoms[: len(first)], first) and np.array_equal(shifts[: len(first)], lifts)
    depth = dict(zip(first.tolist(), np.linalg.norm(lifts, axis=1) / 2, strict=True))
    rises = np.linalg.norm(shifts, axis=1) - [depth[atom] for atom in atoms.tolist()]
    for atom, d in depth.items():
        assert rises[atoms == atom] == pytest.approx([d, 4 - d, 4 + d][: np.sum(atoms == atom)], abs=1e-4)
    assert (np.bincount(atoms)[first] == 3).mean() > 0.98 and rises.max() <= 6.0


@pytest.mark.parametrize("gap", [5.0, 8.0])
def test_no_image_lies_beyond_the_middle_of_a_gap(gap):
    frame = janus(gap=gap)
    atoms, shifts = matter_of(frame).mirrored(2.0, 6.0)
    z = (frame.positions[atoms] + shifts)[:, 2] % (THICK + gap)
    above = frame.positions[atoms][:, 2] > (THICK + gap) / 2
    height = np.where(above, z - THICK - gap / 2, gap / 2 - z) % (THICK + gap)
    assert len(atoms) and (np.minimum(height, THICK + gap - height) < gap / 2 + 0.7).all()


# Scores at a free surface -------------------------------------------------------------------------


def naive_lowered(score, occupancy, bulk, sigma, cut):
    """One score at a free surface, by the formula."""
    normal = NormalDist()
    inner = min(max(score / bulk, -0.995), 0.995)
    offset = sigma * normal.inv_cdf(cut)
    share = normal.cdf((bulk * np.arctanh(inner) + offset) / sigma) * occupancy
    if share <= 0:
        return -np.inf
    return score - (inner * bulk - bulk * np.tanh((sigma * normal.inv_cdf(share) - offset) / bulk))


@pytest.mark.parametrize("cut", [0.5, 0.4, 0.7])
def test_scores_fall_toward_a_void_by_the_formula(cut):
    rng = np.random.default_rng(0)
    score = rng.uniform(-3, 3, 400).astype(np.float32)
    occupancy = np.where(rng.random(400) < 0.3, 1, rng.random(400)).astype(np.float32)
    offset = 2.0 * NormalDist().inv_cdf(cut)
    found = lowered(score, occupancy, 2.2, 2.0, offset)
    pairs = zip(score.tolist(), occupancy.tolist(), strict=True)
    np.testing.assert_allclose(found, [naive_lowered(*pair, 2.2, 2.0, cut) for pair in pairs], atol=2e-4)
    # Off the surface nothing changes; the surface of the bulk is where the occupancy is that of the cut.
    inside = (occupancy == 1) & (abs(score) < 2)
    np.testing.assert_allclose(found[inside], score[inside], atol=1e-5)
    bulk = np.full(2, 2.2, np.float32)
    near = np.array([cut + 0.02, cut - 0.02], np.float32)
    above, below = lowered(bulk, near, 2.2, 2.0, offset)
    assert above > 0 > below


def test_atoms_in_one_place_have_scores():
    frame = Frame(np.zeros((700, 3)), [24.0, 24.0, 60.0], True, ["Fe"] * 700)
    fields = load_model("segmentation/gat-v1").predict(frame)
    check_fields(frame, fields)
    # No iron at all: nothing says where labels cut.
    check_fields(frame, load_model("segmentation/gat-v1").predict(frame.replace(species_names=("O",))))


def test_without_occupancy_a_score_is_that_of_a_poor_atom():
    found = lowered(np.array([2.5, 0.1, -2.0], np.float32), np.zeros(3, np.float32), 2.2, 2.0, 0.0)
    assert (found < -1.8).all() and np.isfinite(found).all()
