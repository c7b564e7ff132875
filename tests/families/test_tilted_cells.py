"""The choice of the cell vectors changes nothing: labels, predictions, metrics, neighbors, percolation."""

import numpy as np
import pytest

from phaseseg import Frame, glass_metrics, label_phases, load_model
from phaseseg.neighbors import nearest_neighbors, neighbor_graph
from phaseseg.testing import AWKWARD, awkward_frames, slab, tilted

CUBIC = [[17.0, 0, 0], [0, 17, 0], [0, 0, 17]]
FRAMES = {
    "melt": lambda: AWKWARD["triclinic"](),
    "slab": lambda: slab(spacing=1.6),
    "open along c": lambda: AWKWARD["shifted origin, open"](),
    "open along a and b": lambda: AWKWARD["open along a and b"](),
    "2D": lambda: AWKWARD["2D"](),
}
NUMBERS = ("interface_area", "rich_volume_fraction", "threshold", "phase_contrast", "n_domains")


def tilts(frame):
    return [tilted(frame, seed) for seed in range(3)]


@pytest.mark.parametrize("name", FRAMES)
def test_labels(name):
    frame = FRAMES[name]()
    own = label_phases(frame, "Fe", phases=2)
    for other in tilts(frame):
        fields = label_phases(other, "Fe", phases=2)
        np.testing.assert_array_equal(fields["phase"], own["phase"])
        np.testing.assert_allclose(fields["interface_distance"], own["interface_distance"], atol=1e-3)
        np.testing.assert_allclose(fields["phase_density"], own["phase_density"], atol=1e-5)
        for number in NUMBERS:
            assert fields[number] == pytest.approx(own[number], rel=1e-4), number


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, True)])
@pytest.mark.parametrize("name", ["gat-v1", "gat-3000K-v1", "gat-4000K-v1", "gcn-3000K-v1", "gcn-4000K-v1"])
def test_predictions(name, pbc):
    model, frame = load_model(name), slab(spacing=2.3).replace(pbc=pbc)
    own = model.predict(frame)
    assert own["n_phases"] == 2
    for other in tilts(frame):
        fields = model.predict(other)
        np.testing.assert_allclose(fields["phase_probability"], own["phase_probability"], atol=1e-4)
        np.testing.assert_array_equal(fields["phase"], own["phase"])
        assert fields["interface_area"] == pytest.approx(own["interface_area"], rel=1e-4)


def flat_mixture(cell=(30.0, 28.0, 1.0), n=900):
    rng = np.random.default_rng(2)
    sites = np.stack(np.meshgrid(np.arange(30), np.arange(30), [0], indexing="ij"), -1).reshape(-1, 3)[:n]
    positions = (sites + rng.uniform(0.1, 0.9, sites.shape) * [1, 1, 0]) / [30, 30, 1] * cell
    return Frame(positions, cell, True, rng.random(n) < 0.35, ("A", "B"), units="lj")


def space_mixture():
    frame = awkward_frames(("A", "B"), "lj", 0.94, size=1.6)["triclinic"]()
    return frame.replace(species=np.random.default_rng(1).random(len(frame)) < 0.2)


@pytest.mark.parametrize("make", [flat_mixture, space_mixture])
def test_glass_metrics(make):
    frame = make()
    own = glass_metrics(frame)
    for other in tilts(frame):
        fields = glass_metrics(other)
        for name in ("graph_id", "bb_degree", "isolated"):
            np.testing.assert_array_equal(fields[name], own[name])
        bonds = fields["glass_bonds"]
        i, j = bonds.atoms.T
        apart = other.positions[j] - other.positions[i] + bonds.shifts @ other.cell
        np.testing.assert_allclose(np.linalg.norm(apart, axis=1), bonds.columns["length"], rtol=1e-5)


@pytest.mark.parametrize("name, make", [
    ("dmpnn-v1", flat_mixture), ("dmpnn-attention-v1", flat_mixture), ("cnn-v1", flat_mixture),
    ("dmpnn-3d-v1", space_mixture),
])  # fmt: skip
def test_glass_networks(name, make):
    model, frame = load_model(name), make()
    own = model.predict(frame)
    for other in tilts(frame):
        fields = model.predict(other)
        for key in own:
            if isinstance(own[key], float):
                assert fields[key] == pytest.approx(own[key], abs=1e-4), key


@pytest.mark.parametrize("name", FRAMES)
def test_neighbors_and_their_images(name):
    frame = FRAMES[name]()
    own, nearest = neighbor_graph(frame, cutoff=4.0), nearest_neighbors(frame, 4)
    for other in tilts(frame):
        graph = neighbor_graph(other, cutoff=4.0)
        np.testing.assert_array_equal(graph.indptr, own.indptr)
        np.testing.assert_allclose(np.linalg.norm(graph.edge_vector, axis=1), graph.edge_length, rtol=1e-5)
        found = nearest_neighbors(other, 4)
        np.testing.assert_array_equal(found.neighbors, nearest.neighbors)
        i = np.arange(len(frame))[:, None]
        apart = other.positions[found.neighbors] - other.positions[i] + found.shifts @ other.cell
        np.testing.assert_allclose(np.linalg.norm(apart, axis=2), nearest.lengths, rtol=1e-5)


def test_percolation_is_along_the_axes_of_the_file():
    """A cylinder along z, in cells with other axes: it percolates along those that its direction needs."""
    rng = np.random.default_rng(0)
    positions = rng.random((4000, 3)) * 17
    rich = np.hypot(*(positions[:, :2] - 8.5).T) < 4.5
    frame = Frame(positions, CUBIC, True, np.where(rich, "Fe", "O"))
    for cell, expected in (
        (CUBIC, (False, False, True)),
        ([[17, 0, 0], [85, 17, 0], [0, 0, 17]], (False, False, True)),
        ([[17, 0, 0], [0, 17, 0], [34, 0, 17]], (True, False, True)),  # z = c - 2 a
        ([[17, 0, 0], [0, 17, 17], [0, 0, 17]], (False, False, True)),
        ([[0, 0, 17], [17, 0, 0], [0, 17, 17]], (True, False, False)),
    ):
        table = label_phases(frame.replace(cell=cell), "Fe", voxel=1.0)["domains"]
        assert tuple(bool(table.columns[f"percolates along {axis}"][0]) for axis in "abc") == expected, cell
