"""Atoms far away along open axes: work follows the atoms, and results are those of one grid over all."""

import numpy as np
import pytest

from phaseseg import Frame, label_phases, load_model
from phaseseg.families.segmentation.labels import lattice as lattices
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.neighbors import islands
from phaseseg.testing import AWKWARD, translated

TILTED = np.array([[22.0, 0, 0], [8.0, 20.0, 0], [0, 0, 20.0]])


def droplet(seed=0, n=1500, radius=9.0, pbc=False, cell=TILTED):
    """A ball of Fe in a shell of O."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n, 3))
    r = radius * rng.random(n) ** (1 / 3)
    positions = directions / np.linalg.norm(directions, axis=1)[:, None] * r[:, None]
    return Frame(positions, cell, pbc, np.where(r < 0.7 * radius, "Fe", "O"))


def film(seed=0, pbc=(True, True, False)):
    """A film of O on Fe, periodic along two vectors that are not perpendicular."""
    rng = np.random.default_rng(seed)
    fractions = rng.random((1200, 3))
    species = np.where(fractions[:, 2] < 0.5, "Fe", "O")
    return Frame(fractions @ TILTED, TILTED, pbc, species)


def together(*frames):
    parts = [np.array(frame.species_names)[frame.species] for frame in frames]
    positions = np.concatenate([frame.positions for frame in frames])
    return frames[0].replace(positions=positions, species=np.concatenate(parts), species_names=("Fe", "O"))


def lone(frame, places, name="O"):
    return frame.replace(
        positions=np.asarray(places, float), species=[name] * len(places), species_names=("Fe", "O")
    )


def labeled(frame, **options):
    return label_phases(frame, "Fe", phases=2, **{"sigma": 1.5, **options})


@pytest.mark.slow
@pytest.mark.parametrize("make, axes", [(droplet, (1, 1, 1)), (film, (0, 0, 1))])
@pytest.mark.parametrize("what", ["label", "gat-v1"])
def test_an_atom_may_be_anywhere(make, axes, what):
    frame = make()
    analyze = labeled if what == "label" else load_model(what).predict
    shapes, distances, others = set(), [], []
    for far in (1e4, 1e6, 1e8):
        whole = together(
            frame, lone(frame, [np.array([0.0, 0.0, far]), np.array([-0.6, 0.3, -1.0]) * axes * far])
        )
        fields = analyze(whole)
        shapes.add(whole_shape(whole))
        distances.append(fields["interface_distance"][-2] / far)
        others.append((fields["phase"], fields["interface_area"], fields["rich_volume_fraction"]))
        assert fields["phase"][-1] == fields["phase"][-2] == 0
    assert len(shapes) == 1
    if what == "label":
        np.testing.assert_allclose(distances, -1, rtol=5e-3)
    for phase, area, fraction in others[1:]:
        np.testing.assert_array_equal(phase, others[0][0])
        # The free surface of a network lies where the occupancy, in float32, is small.
        assert (area, fraction) == pytest.approx(others[0][1:], rel=1e-6 if what == "label" else 4e-6)


def whole_shape(frame):
    return lattices.plan_lattice(frame, LabelRule("Fe", sigma=1.5).fixed()).shape


@pytest.mark.slow
@pytest.mark.parametrize("make, apart", [
    (droplet, (45.0, 38.0, -51.0)), (droplet, (0.0, 60.0, 0.0)), (film, (3.0, 2.0, 261.0)),
    (lambda seed=0: film(seed, (False, True, False)), (50.0, 0.0, -70.0)),
])  # fmt: skip
def test_islands_give_what_one_grid_gives(make, apart, monkeypatch):
    """Two groups and a few single atoms, close enough for one grid: the same fields, and right distances."""
    vapor = [(70.0, 0, 15), (4.0, 3.0, -40.0), (4.5, 3.2, -41.0), (-60.0, 55.0, 90.0)]
    frame = together(
        make(0), translated(make(1), apart), lone(make(0), vapor), lone(make(0), [(5, 5, 120)], "Fe")
    )
    frame = frame.replace(pbc=make().pbc)
    monkeypatch.setattr(lattices, "SPARSE", 0)
    split = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    assert split.lattice.islands is not None
    found = labeled(frame)
    monkeypatch.setattr(lattices, "SPARSE", 1e9)
    whole = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
    assert whole.lattice.islands is None
    assert split.grid.values.size < 0.5 * whole.grid.values.size
    expected = labeled(frame, threshold=found["threshold"])
    same = found["phase"] == expected["phase"]
    assert same.mean() > 0.998
    np.testing.assert_allclose(found["phase_density"], expected["phase_density"], atol=1e-3)
    # The grids lie differently; of these rough surfaces every facet moves a little.
    error = (found["interface_distance"] - expected["interface_distance"])[same]
    assert np.sqrt((error**2).mean()) < 0.08 and (np.abs(error) > 0.5).mean() < 0.005
    np.testing.assert_allclose(
        found["interface_distance"][-5:], expected["interface_distance"][-5:], atol=0.5
    )
    assert found["interface_area"] == pytest.approx(expected["interface_area"], rel=5e-3)
    assert found["n_domains"] == expected["n_domains"] == 2
    np.testing.assert_allclose(
        found["domains"].columns["volume (Å^3)"], expected["domains"].columns["volume (Å^3)"], rtol=2e-2
    )


def test_the_grid_that_is_shown_lies_around_the_island_with_most_atoms():
    frame = together(droplet(0, 600, 7.0), translated(droplet(1), (1e5, 3e4, -2e6)))
    grid = labeled(frame)["density_grid"]
    inside = np.linalg.solve(grid.cell.T, (frame.positions - grid.origin).T).T
    assert ((inside > 0) & (inside < 1)).all(axis=1).sum() == 1500
    # A grid point has the density of its place.
    point = np.unravel_index(np.argmax(grid.values), grid.values.shape)
    place = grid.origin + np.array(point) @ grid.steps
    iron = frame.positions[frame.species_mask("Fe")]
    density = np.exp(-((iron - place) ** 2).sum(axis=1) / (2 * 1.5**2)).sum() / (2 * np.pi * 1.5**2) ** 1.5
    assert grid.values[point] == pytest.approx(density, rel=0.02)


def test_memory_grows_with_the_atoms_not_with_their_distances():
    """Hundreds of evaporated atoms in all directions cost little more than their own boxes."""
    rng = np.random.default_rng(3)
    frame, alone = droplet(), np.prod(whole_shape(droplet()))
    for n, most in ((10, 3), (300, 40)):
        gas = lone(frame, rng.normal(size=(n, 3)) * 1e6)
        assert np.prod(whole_shape(together(frame, gas))) < most * alone


def test_groups_are_joined_only_by_atoms_that_are_close():
    rng = np.random.default_rng(0)
    places = np.concatenate(
        [rng.random((50, 2)) * 3, rng.random((50, 2)) * 3 + [1e9, 0], [[7.5, 3]], [[-4e9, 2]]]
    )
    of = islands.group(places, 2.0)
    assert len(set(of.tolist())) == 4 and len(set(of[:50].tolist())) == len(set(of[50:100].tolist())) == 1


def test_boxes_do_not_overlap():
    size = np.random.default_rng(0).integers(1, 9, (60, 3))
    corner = islands.packed(size, np.arange(3))
    grid = np.zeros((corner + size).max(axis=0), dtype=int)
    for c, s in zip(corner, size, strict=True):
        grid[tuple(slice(a, a + b) for a, b in zip(c, s, strict=True))] += 1
    assert grid.max() == 1 and grid.mean() > 0.4


@pytest.mark.parametrize("name", [name for name, make in AWKWARD.items() if not make().pbc.all()])
def test_awkward_frames_with_an_atom_far_away(name):
    frame = AWKWARD[name]()
    if len(frame) < 3:
        pytest.skip("one atom has no others to be far from")
    axis = int(np.flatnonzero(~frame.pbc)[-1])
    positions = frame.positions.copy()
    positions[0] += 1e7 * frame.cell[axis] / np.linalg.norm(frame.cell[axis])
    fields = labeled(frame.replace(positions=positions), min_volume=5.0)
    assert np.isfinite(fields["interface_distance"]).all() or not fields["n_domains"]
    assert np.isfinite(fields["phase_density"]).all()
    assert fields["density_grid"].values.size < 2e5


def plane(n=900, edge=28.0, seed=2):
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(np.arange(30), np.arange(30), [0], indexing="ij"), -1).reshape(-1, 3)[:n]
    positions = (sites + rng.uniform(0.1, 0.9, sites.shape) * [1, 1, 0]) * [edge / 30, edge / 30, 0]
    return Frame(positions, [edge, edge, 1.0], False, rng.random(n) < 0.35, ("A", "B"), units="lj")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn-v1", "dmpnn-v1"])
def test_networks_of_glasses_with_particles_far_away(name):
    """A particle that is alone fills no image; two configurations far apart give the mean of both."""
    model, one, other = load_model(name), plane(), plane(seed=7)
    alone = model.predict(one)["frame_glass_probability"]
    drawn = set()
    for far in (1e2, 1e4, 1e6, 1e8):
        stray = np.append(one.positions, [[14.0, -far, 0.0], [far, -far / 3, 0.0]], axis=0)
        whole = one.replace(positions=stray, species=np.append(one.species, [0, 0]))
        found = model.predict(whole)["frame_glass_probability"]
        assert found == pytest.approx(alone, abs=1e-6 if name == "cnn-v1" else 0.1)
        both = one.replace(
            positions=np.append(one.positions, other.positions + far * np.array([1, -1, 0]), axis=0),
            species=np.append(one.species, other.species),
        )
        drawn.add(round(float(model.predict(both)["frame_glass_probability"]), 5))
    assert len(drawn) == 1


def test_particles_that_fill_no_image_are_refused():
    model, frame = load_model("cnn-v1"), plane()
    scattered = frame.replace(positions=frame.positions * [1e6, 1e6, 1])
    with pytest.raises(ValueError, match="needs squares of"):
        model.predict(scattered)
