"""Volumes by distance and the width of the interface, against shapes of known volume and width."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import cKDTree
from scipy.special import erf

import naive
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels.interface import Interface
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.labels.profile import Kernel, interface_width
from phaseseg.families.segmentation.labels.shells import shell_volumes

W = 2.563103
BIN, N = 0.5, 120
EDGES = (np.arange(N + 1) - N // 2) * BIN


def lattice_of(cell, pbc=True, voxel=0.75):
    cell = np.asarray(cell, float)
    shape = tuple(np.ceil(np.linalg.norm(cell, axis=1) / voxel).astype(int).tolist())
    wrap = np.broadcast_to(pbc, 3).copy()
    return Lattice(shape, cell, np.zeros(3), wrap, np.zeros(3, bool))


def volumes_of(lattice, signed):
    """Volumes for the surface on which a function of places (n, 3) is 0."""
    grid = np.stack(np.meshgrid(*map(np.arange, lattice.shape), indexing="ij"), -1).reshape(-1, 3)
    values = signed(grid @ lattice.steps).reshape(lattice.shape).astype(np.float32)
    interface = Interface(values, 0.0, lattice)
    return shell_volumes(interface, values, 0.0, lattice, bin_width=BIN, n_bins=N)


def wrapped(x, length):
    return x - length * np.rint(x / length)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flat_slab_has_area_times_bin_width(axis):
    lengths = np.roll([34.0, 20.0, 23.0], axis)
    lattice = lattice_of(np.diag(lengths))
    found = volumes_of(lattice, lambda x: 6.1 - np.abs(wrapped(x[:, axis] - 13.0, 34.0)))
    depth = np.clip(np.minimum(EDGES[1:], 6.1) - np.maximum(EDGES[:-1], 6.1 - 17), 0, None)
    # The bins at both ends, where the distance has its extremes, are smeared by the blocks.
    inner = (EDGES[1:] < 4.5) & (EDGES[:-1] > -8.5)
    assert_allclose(found[inner], 2 * 20 * 23 * depth[inner], rtol=0.15)
    two = found.reshape(-1, 4).sum(axis=1), 2 * 20 * 23 * depth.reshape(-1, 4).sum(axis=1)
    assert_allclose(two[0], two[1], rtol=0.08, atol=100)
    assert found.sum() == pytest.approx(34 * 20 * 23)


@pytest.mark.parametrize("radius", [6.0, 10.0])
def test_a_sphere_has_shells(radius):
    lattice = lattice_of(np.diag([32.0, 32.0, 32.0]))
    found = volumes_of(lattice, lambda x: radius - np.linalg.norm(wrapped(x - 15.3, 32.0), axis=1))
    r = np.clip(radius - EDGES, 0, None)
    shells = 4 / 3 * np.pi * (r[:-1] ** 3 - r[1:] ** 3)
    whole = (r[:-1] < 15.5) & (shells > 0)
    assert_allclose(found[whole & (r[1:] > 4)], shells[whole & (r[1:] > 4)], rtol=0.1)
    near = whole & (np.abs(EDGES[1:]) <= 3)
    assert found[near].sum() == pytest.approx(shells[near].sum(), rel=0.01)


@pytest.mark.parametrize("pbc", [True, (True, False, True)])
@pytest.mark.parametrize(
    "cell", [np.diag([18.0, 16.0, 17.0]), [[18.0, 0, 0], [6.0, 16.0, 0], [-4.0, 5.0, 17.0]]]
)
def test_volumes_of_two_waves_equal_those_of_points_in_a_loop(cell, pbc):
    """Thin, curved and confined: a surface of no simple shape, in right-angled and tilted cells."""
    lattice = lattice_of(cell, pbc, voxel=0.6)
    inverse = np.linalg.inv(lattice.cell)

    def field(x):
        s = 2 * np.pi * (x @ inverse)
        return np.sin(s[:, 0]) + np.cos(s[:, 1]) + np.sin(s[:, 2] + 1)

    grid = np.stack(np.meshgrid(*map(np.arange, lattice.shape), indexing="ij"), -1).reshape(-1, 3)
    values = field(grid @ lattice.steps).reshape(lattice.shape).astype(np.float32)
    interface = Interface(values, 0.0, lattice)
    surface = interface._surface.point.T.astype(float)
    images = np.array(np.meshgrid(*([-1, 0, 1] if w else [0] for w in lattice.wrap))).reshape(3, -1).T
    surface = cKDTree((surface + (images @ lattice.cell)[:, None]).reshape(-1, 3))

    def distance_to(points):
        gap = surface.query(points)[0]
        return np.where(field(points) >= 0, gap, -gap)

    want = naive.shell_volumes(distance_to, lattice.cell, BIN, N, n=24)
    found = shell_volumes(interface, values, 0.0, lattice, bin_width=BIN, n_bins=N)
    assert found.sum() == pytest.approx(lattice.voxel_volume * np.prod(lattice.shape))
    # 24^3 points: some 3 % in a bin. Facets are points here, so the innermost bins lose a little.
    pairs = found.reshape(-1, 2).sum(axis=1), want.reshape(-1, 2).sum(axis=1)
    large = pairs[1] > 0.06 * want.sum()
    assert large.sum() >= 4
    assert_allclose(pairs[0][large], pairs[1][large], rtol=0.1)


def test_a_disk_in_a_2d_box_has_rings():
    rng = np.random.default_rng(0)
    points = np.c_[rng.random((6000, 2)) * 60, np.full(6000, 0.5)]
    inside = np.linalg.norm(points[:, :2] - 30, axis=1) < 15
    frame = Frame(points[inside], [60.0, 60.0, 1.0], True, np.full(inside.sum(), "Ar"))
    table = label_phases(frame, "Ar", sigma=2.5)["proxigram"].columns
    volume, d = table["volume (Å^3)"], table["distance (Å)"]
    near = np.abs(d) < 8
    assert_allclose(volume[near], 2 * np.pi * (15 - d[near]) * BIN * 1.0, rtol=0.15)
    assert volume.sum() == pytest.approx(3600)


# The fit ------------------------------------------------------------------------------------------


def profile(s, center, upper=0.06, lower=0.003, area=2000.0):
    """Expected counts in bins of an error function, the integral taken on a fine grid."""
    volumes = np.full(N, area * BIN)
    fine = EDGES[:-1, None] + (np.arange(400) + 0.5) / 400 * BIN
    values = lower + (upper - lower) * (1 + erf((fine - center) / (np.sqrt(2) * s))) / 2
    return volumes * values.mean(axis=1), volumes


def fit(counts, volumes, reach=6.0, resolution=lambda low, high: 0.0):
    return interface_width(counts, volumes, BIN, reach=reach, resolution=resolution)


@pytest.mark.parametrize("center", [-0.7, 0.0, 0.31])
@pytest.mark.parametrize("s", [0.3, 0.6, 1.0, 2.0])
def test_the_fit_finds_the_width(s, center):
    counts, volumes = profile(s, center)
    assert fit(counts, volumes).width == pytest.approx(W * s, rel=0.02)
    assert fit(counts[::-1], volumes).width == pytest.approx(W * s, rel=0.02)  # a profile that falls


@pytest.mark.slow
@pytest.mark.parametrize("s", [0.8, 1.2])
def test_the_error_is_that_of_repeated_counts(s):
    rng = np.random.default_rng(0)
    counts, volumes = profile(s, 0.2, area=500.0)
    found = [fit(rng.poisson(counts), volumes) for _ in range(200)]
    pulls = np.array([(one.width - W * s) / one.error for one in found])
    assert np.isfinite(pulls).mean() > 0.9
    assert abs(np.nanmedian(pulls)) < 0.2 and 0.75 < np.nanstd(pulls) < 1.25


def test_volumes_and_counts_of_any_scale_give_the_same_width():
    """Confined phases: the volume falls to zero away from the surface."""
    counts, volumes = profile(1.0, 0.0)
    share = np.clip(1 - np.abs(EDGES[1:] - 0.25) / 5, 0, 1) ** 2
    assert fit(counts * share, volumes * share).width == pytest.approx(W, rel=0.03)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda n, v: (0 * n, v), "no atoms"),
        (lambda n, v: (n * (np.abs(EDGES[1:]) < 1), v * (np.abs(EDGES[1:]) < 1)), "thin"),
        (lambda n, v: (0.02 * v, v), "plateau"),
        (lambda n, v: (v * np.maximum(EDGES[1:] + 8, 0) / 100, v), "plateau"),
    ],
)
def test_why_there_is_no_width(change, why):
    found = fit(*change(*profile(1.0, 0.0)))
    assert np.isnan(found.width) and np.isnan(found.error)
    assert why in found.why
    assert found.message.code == "no-width"


def test_a_width_below_the_resolution_is_not_given():
    kernel = Kernel(2.0, (4 * np.pi) ** 1.5 * 8)
    counts, volumes = profile(0.3, 0.0)
    found = fit(counts, volumes, resolution=kernel.resolution)
    # sqrt(.0315 / 356) * sqrt(2 pi) * 2 / .057 * 2.563
    assert np.isnan(found.width) and found.resolution == pytest.approx(2.12, rel=0.02)
    assert fit(*profile(1.0, 0.0), resolution=kernel.resolution).width == pytest.approx(W, rel=0.02)


# Liquids made of atoms ----------------------------------------------------------------------------


def liquid(lengths, density, seed):
    """Points that keep a distance from each other, as atoms of a liquid do: (n, 3) in a periodic box."""
    rng, lengths = np.random.default_rng(seed), np.asarray(lengths)
    points = rng.random((int(density * lengths.prod()), 3)) * lengths
    least = 0.9 * density ** (-1 / 3)
    for _ in range(40):
        pairs = cKDTree(points % lengths, boxsize=lengths).query_pairs(least, output_type="ndarray")
        apart = points[pairs[:, 0]] - points[pairs[:, 1]]
        apart -= np.rint(apart / lengths) * lengths
        r = np.linalg.norm(apart, axis=1, keepdims=True)
        push = 0.35 * (least - r) * apart / np.maximum(r, 1e-9)
        np.add.at(points, pairs[:, 0], push)
        np.add.at(points, pairs[:, 1], -push)
    return points % lengths


def slab(s, seed=0, density=0.033, vapor=0.02):
    """A slab of a pure liquid, 30 Å thick, with its vapor and error functions of deviation s as edges."""
    lengths = (60.0, 40.0, 40.0)
    points, rng = liquid(lengths, density, seed), np.random.default_rng(seed + 100)
    x = points[:, 0]
    inside = (erf((x - 15) / (np.sqrt(2) * s)) - erf((x - 45) / (np.sqrt(2) * s))) / 2
    kept = rng.random(len(x)) < vapor + (1 - vapor) * inside
    return Frame(points[kept], lengths, True, np.full(kept.sum(), "Ar"))


@pytest.mark.slow
@pytest.mark.parametrize("s", [1.2, 1.6, 2.2, 3.0])
def test_slabs_of_a_pure_liquid_have_their_width(s):
    """The content is 100 at% everywhere; only the density has a width."""
    for seed in range(2):
        fields = label_phases(slab(s, seed), "Ar", sigma=4.0)
        assert abs(fields["interface_width"] - W * s) <= 2 * fields["interface_width_error"]
        assert fields["interface_width_error"] < 1.5
        table = fields["proxigram"].columns
        d, density, mass = (table[n] for n in ("distance (Å)", "Ar (Å^-3)", "mass density (g/cm^3)"))
        assert density[(d > 5) & (d < 11)].mean() == pytest.approx(0.033, rel=0.08)
        assert density[(d < -6) & (d > -14)].mean() == pytest.approx(0.00066, abs=0.0003)
        assert_allclose(mass, density * 39.948 * 1.66054, rtol=1e-4)


def test_a_sharp_surface_is_not_resolved():
    fields = label_phases(slab(1e-3), "Ar", sigma=4.0)
    assert np.isnan(fields["interface_width"]) and 1.5 < fields["interface_width_resolution"] < 3.5
    assert [m.code for m in fields.messages if m.code == "no-width"] == ["no-width"]


@pytest.mark.slow
def test_a_droplet_has_the_width_of_its_edge():
    points = liquid((50.0, 50.0, 50.0), 0.05, 1)
    r = np.linalg.norm(points - 25, axis=1)
    kept = np.random.default_rng(0).random(len(r)) < 0.5 * (1 - erf((r - 15) / (np.sqrt(2) * 1.5)))
    for pbc in (True, False):
        frame = Frame(points[kept], [50.0, 50.0, 50.0], pbc, np.full(kept.sum(), "Ar"))
        fields = label_phases(frame, "Ar", sigma=3.0)
        assert abs(fields["interface_width"] - W * 1.5) <= 2 * fields["interface_width_error"]


def test_one_phase_says_why_it_has_no_width():
    frame = Frame(liquid((24.0, 24.0, 24.0), 0.05, 1), [24.0] * 3, True, np.full(691, "Ar"))
    fields = label_phases(frame, "Ar", sigma=2.5)
    assert fields["n_phases"] == 1
    assert np.isnan([fields["interface_width"], fields["interface_width_error"]]).all()
    assert [m.code for m in fields.messages].count("no-width") == 1
