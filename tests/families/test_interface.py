"""Domains against a flood fill; distances and areas against planes, spheres and a dense sampling."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from scipy.special import erf, erfinv

import naive
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.domains import find_domains
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms, plan_lattice
from phaseseg.families.segmentation.labels.threshold import measure_cuts
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.testing import SKEWED, TRICLINIC

CELLS = {
    "orthogonal": np.diag([30.0, 29.0, 31.0]),
    "triclinic": np.array([[30.0, 0, 0], [9.0, 29.0, 0], [-7.0, 8.0, 30.0]]),
    "skewed": np.array([[36.0, 0, 0], [24.0, 28.8, 0], [18.0, -12.0, 33.6]]),
}
ALL, NONE = (True, True, True), (False, False, False)
VOXEL = 0.75
# Farther than 3 voxels or so distances are approximate: rms and largest error in Å, measured.
FAR = {"orthogonal": (0.06, 0.6), "triclinic": (0.12, 0.8), "skewed": (0.4, 2.0)}


def make_lattice(cell, pbc=ALL, voxel=VOXEL, origin=(0.0, 0.0, 0.0), shape=None, flat=NONE):
    cell = np.asarray(cell, dtype=float)
    if shape is None:  # the cell and as many points as a periodic frame would have
        rule = LabelRule("Fe", sigma=1.5, voxel=voxel).fixed()
        plan = plan_lattice(Frame(np.zeros((1, 3)), cell, True, ["Fe"]), rule)
        shape, cell = plan.shape, plan.cell
    shape = tuple(int(n) for n in shape)
    return Lattice(shape, cell, np.asarray(origin, dtype=float), np.array(pbc), np.array(flat))


def grid_places(lattice):
    axes = (np.arange(n) / n for n in lattice.shape)
    return lattice.origin + np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ lattice.cell


def field_with_level_at_zero(signed_distance, level, s=1.5):
    """Error function of standard deviation s across an interface, shifted so that `level` is at 0."""
    shift = np.sqrt(2) * s * erfinv(2 * level - 1)
    return (0.5 * (1 + erf((signed_distance + shift) / (np.sqrt(2) * s)))).astype(np.float32)


def distances(interface, places, lattice):
    atoms = PackedAtoms.of(
        Frame(places, lattice.cell, lattice.wrap, np.zeros(len(places), int), ("Fe",)), lattice
    )
    return atoms.unsort(interface.distance(atoms))


def from_sphere(places, lattice, center, radius=8.0):
    """Signed distance to a sphere, positive inside."""
    apart = (places - center) @ np.linalg.inv(lattice.cell)
    apart -= np.rint(apart) * lattice.wrap
    return radius - np.linalg.norm(apart @ lattice.cell, axis=-1)


def around_sphere(rng, center, n=4000, reach=2.0, radius=8.0):
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return center + directions * rng.uniform(radius - reach, radius + reach, n)[:, None]


# Interface ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [ALL, NONE, (True, False, True)])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("level", [0.25, 0.4, 0.5, 0.6, 0.75])
def test_distance_to_a_sphere(cell, level, pbc):
    lattice = make_lattice(CELLS[cell], pbc)
    rng = np.random.default_rng(0)
    center = np.array([0.487, 0.513, 0.4921]) @ lattice.cell
    values = field_with_level_at_zero(from_sphere(grid_places(lattice), lattice, center), level)
    interface = Interface(values, level, lattice)
    places = around_sphere(rng, center)
    error = np.abs(distances(interface, places, lattice) - np.abs(from_sphere(places, lattice, center)))
    # 0.05 Å; where the profile bends most, or across a strong skew, single points are a little worse.
    easy = level in (0.4, 0.5, 0.6) and cell != "skewed"
    assert np.quantile(error, 0.99) <= 0.05
    assert error.max() <= (0.05 if easy else 0.07)
    assert interface.area == pytest.approx(4 * np.pi * 64, rel=0.01)


@pytest.mark.parametrize("place", [0.0, 0.11, 0.25, 0.5])
def test_distance_does_not_depend_on_where_the_sphere_lies_in_the_voxel(place):
    lattice = make_lattice(CELLS["triclinic"])
    center = np.array([0.0, 0.5, 1.0]) @ lattice.cell + place * lattice.steps.sum(axis=0)
    values = field_with_level_at_zero(from_sphere(grid_places(lattice), lattice, center), 0.5)
    places = around_sphere(np.random.default_rng(1), center)
    found = distances(Interface(values, 0.5, lattice), places, lattice)
    assert np.abs(found - np.abs(from_sphere(places, lattice, center))).max() <= 0.05


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_distance_to_periodic_planes(cell, axis, level):
    """A slab between two planes; every atom of the cell, however far."""
    lattice = make_lattice(CELLS[cell])
    normal = np.linalg.inv(lattice.cell)[:, axis]
    height = 1 / np.linalg.norm(normal)
    low, high = 7.37, 18.1

    def signed(places):
        x = places @ normal * height
        return np.maximum.reduce(
            [np.minimum(x - low + k * height, high - x - k * height) for k in (-1, 0, 1)]
        )

    interface = Interface(field_with_level_at_zero(signed(grid_places(lattice)), level), level, lattice)
    places = np.random.default_rng(2).random((6000, 3)) @ lattice.cell
    want = np.abs(signed(places))
    error = np.abs(distances(interface, places, lattice) - want)
    assert error[want < 2].max() <= 0.05
    rms, largest = FAR[cell]
    assert np.sqrt((error**2).mean()) <= rms and error.max() <= largest
    assert interface.area == pytest.approx(2 * abs(np.linalg.det(lattice.cell)) / height, rel=1e-4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("normal", [(0.3, 0.5, 0.81), (1.0, -1.0, 0.2), (0.0, 0.0, 1.0)])
def test_distance_to_a_tilted_plane_in_an_open_cell(cell, normal):
    lattice = make_lattice(CELLS[cell], NONE, origin=(-3.0, 500.0, 2.0))
    normal = np.array(normal) / np.linalg.norm(normal)
    middle = lattice.origin + np.array([0.51, 0.49, 0.5]) @ lattice.cell

    def signed(places):
        return (places - middle) @ normal

    values = field_with_level_at_zero(signed(grid_places(lattice)), 0.4)
    fractions = np.random.default_rng(3).uniform(0.3, 0.7, (20000, 3))
    places = lattice.origin + fractions @ lattice.cell
    places = places[np.abs(signed(places)) < 2]
    found = distances(Interface(values, 0.4, lattice), places, lattice)
    assert np.abs(found - np.abs(signed(places))).max() <= 0.05


def test_distances_far_from_a_sphere():
    lattice = make_lattice(CELLS["triclinic"])
    center = np.array([0.9, 0.1, 0.5]) @ lattice.cell  # across the boundary
    values = field_with_level_at_zero(from_sphere(grid_places(lattice), lattice, center), 0.5)
    places = np.random.default_rng(4).random((5000, 3)) @ lattice.cell
    want = np.min(
        [np.abs(from_sphere(places + shift, make_lattice(lattice.cell, NONE), center))
         for shift in naive.image_shifts(lattice.cell, ALL, 30.0)], axis=0,
    )  # fmt: skip
    found = distances(Interface(values, 0.5, lattice), places, lattice)
    error = np.abs(found - want)
    rms, largest = FAR["triclinic"]
    assert np.sqrt((error**2).mean()) <= rms and error.max() <= largest


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_distance_in_a_real_melt_against_a_dense_sampling(small, temperature):
    frame = small[temperature][30]
    density = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    cut, lattice = measure_cuts(density).steepest, density.lattice
    surface = naive.surface_points(density.grid.values, cut, lattice.cell, lattice.origin, frame.pbc, fine=6)
    want = naive.distance_to_points(frame.positions, surface, lattice.cell, lattice.origin, frame.pbc, 4.0)
    found = density.atoms.unsort(Interface(density.grid.values, cut, lattice).distance(density.atoms))
    near = want < 2
    error = np.abs(found - want)[near]
    # Necks and saddles are sharper than a sphere of 8 Å.
    assert near.sum() > 150 and np.quantile(error, 0.95) <= 0.05 and error.max() <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("cell", [TRICLINIC, SKEWED])
def test_distance_on_a_rough_field_against_a_dense_sampling(cell):
    """A sum of waves with many domains in a small cell, to catch wrong images and missed facets."""
    lattice = make_lattice(cell, shape=(18, 16, 17))
    rng = np.random.default_rng(5)
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in lattice.shape), indexing="ij"), axis=-1)
    waves = rng.integers(-1, 2, (6, 3))
    values = sum(np.cos(2 * np.pi * (fractions @ wave) + 6 * rng.random()) for wave in waves)
    values = values.astype(np.float32)
    places = rng.random((600, 3)) @ lattice.cell
    surface = naive.surface_points(values, 0.3, lattice.cell, lattice.origin, ALL, fine=6)
    want = naive.distance_to_points(places, surface, lattice.cell, lattice.origin, ALL, 4.0)
    error = np.abs(distances(Interface(values, 0.3, lattice), places, lattice) - want)[want < 2]
    assert np.quantile(error, 0.95) <= 0.07 and error.max() <= 0.35


def test_flat_axes_do_not_count_for_distances():
    lattice = make_lattice(np.diag([30.0, 30.0, 1.0]), shape=(40, 40, 1), flat=(False, False, True))
    places = np.random.default_rng(6).random((500, 3)) * [30, 30, 1]

    def signed(places):
        return 8.0 - np.linalg.norm((places - [15, 14.6, 0])[..., :2], axis=-1)

    interface = Interface(field_with_level_at_zero(signed(grid_places(lattice)), 0.5), 0.5, lattice)
    error = np.abs(distances(interface, places, lattice) - np.abs(signed(places)))
    assert error[np.abs(signed(places)) < 2].max() <= 0.05
    assert interface.area == pytest.approx(2 * np.pi * 8 * 1.0, rel=0.01)  # times the height of the box


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_an_interface_distances_are_nan(value):
    lattice = make_lattice(np.diag([9.0, 9.0, 9.0]))
    interface = Interface(np.full(lattice.shape, value, np.float32), 0.5, lattice)
    assert interface.n_facets == 0 and interface.area == 0
    assert np.isnan(distances(interface, np.ones((3, 3)), lattice)).all()


def test_a_field_that_equals_the_cut_at_grid_points_is_no_trouble():
    lattice = make_lattice(np.diag([9.0, 9.0, 9.0]))
    values = np.zeros(lattice.shape, np.float32)
    values[3:7, 3:7, 3:7] = 1
    for cut in (1.0, 0.5, 1e-30):
        found = distances(
            Interface(values, cut, lattice), np.random.default_rng(0).random((200, 3)) * 9, lattice
        )
        assert np.isfinite(found).all() and (found >= 0).all()


def test_the_sign_is_positive_in_the_rich_phase(slab_frame):
    fields = label_phases(slab_frame, "Fe", sigma=1.5)
    x = slab_frame.positions[:, 0]
    signed = np.minimum(x - 10.3, 27.8 - x)
    clear = np.abs(signed) > 0.3  # the noise of a slab made of atoms
    assert (np.sign(fields["interface_distance"][clear]) == np.sign(signed[clear])).all()
    near = np.abs(signed) < 2
    assert np.abs(fields["interface_distance"] - signed)[near].max() < 0.3


# Slab and sphere made of atoms --------------------------------------------------------------------


def smoothed_ball(radius, r, s, rich, poor):
    """Density share at distance r from the center of a ball with an error-function edge, by quadrature.

    `s` is the edge's own width, smeared by a kernel of 1.5 Å in three dimensions.
    """
    u = np.linspace(0, radius + 8 * (s + 1.5), 6000)
    profile = poor + (rich - poor) * 0.5 * (1 + erf((radius - u) / (np.sqrt(2) * s)))
    kernel = np.exp(-0.5 * ((r - u) / 1.5) ** 2) - np.exp(-0.5 * ((r + u) / 1.5) ** 2)
    return np.trapezoid(profile * u * kernel, u) / (r * np.sqrt(2 * np.pi) * 1.5)


def test_slab_of_known_area_and_width(slab_frame):
    fields = label_phases(slab_frame, "Fe", sigma=1.5)
    assert fields["n_phases"] == 2 and fields["n_domains"] == 1
    assert fields["interface_area"] == pytest.approx(2 * 18 * 18, rel=0.01)
    assert fields["interface_width"] == pytest.approx(2.563103 * 1.0, rel=0.03)
    assert fields["rich_volume_fraction"] == pytest.approx(17.5 / 40, rel=0.02)
    [domain] = fields["domains"].rows()
    percolates = [domain[f"percolates along {axis}"] for axis in "abc"]
    assert percolates == [False, True, True]


def test_sphere_of_known_area_and_width(sphere_frame):
    """The area is that of the sphere on which the smoothed droplet has the value of the cut.

    Smoothing moves the half-way density of a droplet inwards, so this is not quite 8 Å.
    """
    fields = label_phases(sphere_frame, "Fe", sigma=1.5)
    number = len(sphere_frame) / sphere_frame.volume
    share = partial(smoothed_ball, 8.0, s=1.0, rich=0.95, poor=0.05)
    radii = np.linspace(6.5, 9, 501)
    radius = np.interp(-fields["threshold"] / number, [-share(r) for r in radii], radii)
    assert abs(radius - 8) < 0.2
    assert fields["interface_area"] == pytest.approx(4 * np.pi * radius**2, rel=0.01)
    assert fields["interface_width"] == pytest.approx(2.563103 * 1.0, rel=0.03)
    # Cut where the density has the value that it takes at 8 Å, the sphere is that of 8 Å.
    fields = label_phases(sphere_frame, "Fe", sigma=1.5, threshold=float(share(8.0) * number))
    assert fields["interface_area"] == pytest.approx(4 * np.pi * 64, rel=0.01)
    assert fields["rich_volume_fraction"] == pytest.approx(4 / 3 * np.pi * 512 / 30**3, rel=0.01)
    r = np.linalg.norm(sphere_frame.positions - [15.2, 14.7, 15.4], axis=1)
    near = np.abs(r - 8) < 2
    error = np.abs(fields["interface_distance"] - (8 - r))[near]
    assert np.quantile(error, 0.95) < 0.15  # the droplet is made of atoms


# Domains ------------------------------------------------------------------------------------------


def check_against_flood_fill(values, pbc, keep="all", min_volume=0.0):
    lattice = make_lattice(np.diag(values.shape) * 1.0, pbc, shape=values.shape)
    domains = find_domains(values, 0.5, lattice, keep=keep, min_volume=min_volume)
    number, percolates = naive.flood_fill(values >= 0.5, pbc)
    sizes = np.bincount(number.ravel(), minlength=len(percolates) + 1)[1:]
    kept = np.flatnonzero(sizes >= min_volume)
    if keep == "largest":
        kept = [np.argmax(sizes)] if len(sizes) else []
        assert domains.n_kept == len(kept)
        assert list(domains.voxels) == [sizes[n] for n in kept]
        return
    assert domains.n_kept == len(kept) and domains.n_dropped == len(sizes) - len(kept)
    assert list(domains.voxels) == sorted((sizes[n] for n in kept), reverse=True)
    ours = sorted((int(n), *map(bool, p)) for n, p in zip(domains.voxels, domains.percolates, strict=True))
    assert ours == sorted((int(sizes[n]), *map(bool, percolates[n])) for n in kept)
    assert (domains.mask() == np.isin(number, kept + 1)).all()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    st.tuples(*[st.booleans()] * 3),
    st.floats(0.05, 0.9),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["all", "largest"]),
    st.sampled_from([0.0, 3.0]),
)
def test_domains_equal_a_flood_fill(shape, pbc, share, seed, keep, min_volume):
    values = (np.random.default_rng(seed).random(shape) < share).astype(np.float32)
    check_against_flood_fill(values, pbc, keep, min_volume)


@pytest.mark.parametrize("share", [0.25, 0.31, 0.4, 0.6])
def test_domains_near_the_percolation_threshold(share):
    for seed in range(4):
        values = (np.random.default_rng(seed).random((13, 11, 12)) < share).astype(np.float32)
        check_against_flood_fill(values, (True, seed % 2 == 0, True))


def rods(shape, *places):
    values = np.zeros(shape, np.float32)
    for place in places:
        values[place] = 1
    return values


@pytest.mark.parametrize(
    ("values", "pbc", "percolates"),
    [
        (rods((4, 5, 6), np.s_[:, 2, 3]), ALL, (True, False, False)),
        (rods((4, 5, 6), np.s_[:, 2, 3]), (False, True, True), (False, False, False)),
        (rods((4, 5, 6), np.s_[1, :, 3], np.s_[1, 2, :]), ALL, (False, True, True)),
        (rods((4, 5, 6), np.s_[1:, 2, 3]), ALL, (False, False, False)),
        (np.ones((2, 3, 4), np.float32), ALL, (True, True, True)),
        (np.ones((1, 1, 1), np.float32), ALL, (True, True, True)),
    ],
)
def test_percolation(values, pbc, percolates):
    lattice = make_lattice(np.diag(values.shape) * 1.0, pbc, shape=values.shape)
    domains = find_domains(values, 0.5, lattice)
    assert domains.percolates.tolist() == [list(percolates)]
    check_against_flood_fill(values, pbc)


def staircase(n):
    """A diagonal rod that closes on itself only after going around the cell along a and b at once."""
    values = np.zeros((n, n, 4), np.float32)
    for i in range(n):
        values[i, i, 1] = values[(i + 1) % n, i, 1] = 1
    return values


def test_a_diagonal_rod_percolates_along_both_axes():
    lattice = make_lattice(np.diag([5.0, 5.0, 4.0]), shape=(5, 5, 4))
    domains = find_domains(staircase(5), 0.5, lattice)
    assert domains.n_kept == 1 and domains.percolates.tolist() == [[True, True, False]]
    half_open = make_lattice(np.diag([5.0, 5.0, 4.0]), (True, False, True), shape=(5, 5, 4))
    assert not find_domains(staircase(5), 0.5, half_open).percolates.any()


def test_domains_below_the_minimum_volume_are_dropped_with_their_interface():
    lattice = make_lattice(np.diag([40.0, 24.0, 24.0]))
    places = grid_places(lattice)
    big = from_sphere(places, lattice, np.array([12.0, 12, 12]), 8.0)
    drop = from_sphere(places, lattice, np.array([31.0, 12, 12]), 3.0)
    values = field_with_level_at_zero(np.maximum(big, drop), 0.5, s=1.0)
    both = find_domains(values, 0.5, lattice, min_volume=0.0)
    assert both.n_kept == 2 and both.n_dropped == 0
    assert both.voxels[0] * lattice.voxel_volume == pytest.approx(4 / 3 * np.pi * 512, rel=0.02)
    for options in ({"min_volume": 200.0}, {"keep": "largest"}):
        one = find_domains(values, 0.5, lattice, **options)
        assert one.n_kept == 1 and one.n_dropped == 1 and one.voxels[0] == both.voxels[0]
        interface = Interface(one.without_dropped(values, 0.5), 0.5, lattice)
        assert interface.area == pytest.approx(4 * np.pi * 64, rel=0.01)
        inside_drop = distances(interface, np.array([[31.0, 12, 12]]), lattice)
        assert inside_drop == pytest.approx(11.0, abs=0.3)
    largest_of_none = find_domains(values, 2.0, lattice, keep="largest")
    assert largest_of_none.n_kept == 0


def test_the_labels_of_a_dropped_domain_are_poor(make_two_drops):
    frame, in_big, in_small = make_two_drops
    everything = label_phases(frame, "Fe", min_volume=0.0)
    assert everything["n_domains"] == 2
    assert set(everything["domain"][in_big]) == {1} and set(everything["domain"][in_small]) == {2}
    for options in ({"min_volume": 400.0}, {"keep": "largest"}):
        fields = label_phases(frame, "Fe", **options)
        assert fields["n_domains"] == 1 and len(fields["domains"]) == 1
        assert set(fields["domain"][in_small]) == {0} and set(fields["phase"][in_small]) == {0}
        assert (fields["interface_distance"][in_small] < -4).all()
        assert any("1 rich domain was dropped" in message for message in fields.messages)


@pytest.fixture(scope="module")
def make_two_drops():
    rng = np.random.default_rng(7)
    sites = np.stack(np.meshgrid(np.arange(36), np.arange(20), np.arange(20), indexing="ij"), -1).reshape(
        -1, 3
    )
    places = (sites + rng.uniform(0, 1, sites.shape)) * 1.2
    to_big = np.linalg.norm(places - [12.0, 12, 12], axis=1)
    to_small = np.linalg.norm(places - [32.0, 12, 12], axis=1)
    iron = rng.random(len(places)) < np.where((to_big < 8) | (to_small < 4.2), 0.97, 0.02)
    frame = Frame(places, np.diag([43.2, 24.0, 24.0]), True, np.where(iron, "Fe", "O"))
    return frame, to_big < 5, to_small < 2


def test_atoms_belong_to_the_domain_of_the_nearest_rich_voxel(make_two_drops):
    frame, _, _ = make_two_drops
    density = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    cut, lattice = measure_cuts(density).steepest, density.lattice
    domains = find_domains(density.grid.values, cut, lattice)
    rich = density.atoms.unsort(density.interpolated()) >= np.float32(cut)
    found = density.atoms.unsort(domains.of_atoms(density.atoms, rich[density.atoms.order]))
    number, _ = naive.flood_fill(density.grid.values >= np.float32(cut), ALL)
    sizes = np.bincount(number.ravel())[1:]
    rank = np.concatenate([[0], 1 + np.argsort(np.argsort(-sizes, kind="stable"))])
    voxels = np.argwhere(number > 0)
    for atom in np.flatnonzero(rich)[::7]:
        apart = voxels - frame.positions[atom] @ lattice.to_grid
        apart -= np.rint(apart / lattice.shape) * lattice.shape
        nearest = np.argmin((apart**2).sum(axis=1))
        assert found[atom] == rank[number[tuple(voxels[nearest])]]
    assert (found[~rich] == 0).all()
    assert_allclose(np.sort(domains.voxels)[::-1], domains.voxels)
