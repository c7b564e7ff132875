"""The k nearest neighbors, and their graph, against all pairs over all images in float64."""

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

import naive
from phaseseg import Frame
from phaseseg.neighbors import nearest_neighbors, neighbor_graph
from phaseseg.testing import AWKWARD, permuted, repeated, translated, wrapped_elsewhere

SKEWED = ((20.0, 0, 0), (17.0, 9.0, 0), (-14.0, 6.0, 8.0))
# Frames in which no two neighbors are equally far, so that nothing but the geometry decides.
GENERIC = ["orthogonal", "triclinic", "strongly skewed", "rotated", "open along c", "open", "tiny"]


def gas(n_atoms, cell, pbc=True, seed=0, at=0.0):
    rng = np.random.default_rng(seed)
    vectors = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell, dtype=float)
    positions = rng.random((n_atoms, 3)) @ vectors + at
    return Frame(positions, vectors, pbc, rng.integers(0, 2, n_atoms), ("A", "B"), origin=np.full(3, at))


def lattice(shape, spacing, pbc=True, basis=((0, 0, 0),), shift=0.0):
    sites = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = (sites + np.array(basis)).reshape(-1, 3) * spacing + shift
    return Frame(positions, np.array(shape) * spacing, pbc, np.zeros(len(positions), int), ("A",))


def assert_equals_naive(frame, k, **options):
    found = nearest_neighbors(frame, k, **options)
    # The reduced cell decides which of equally far images comes first.
    neighbors, lengths, shifts = naive.nearest_neighbors(frame.reduced, k, **options)
    assert_array_equal(found.neighbors, neighbors)
    assert_array_equal(found.shifts, shifts @ frame.axes)
    assert_allclose(found.lengths, lengths, rtol=1e-7, atol=1e-9)


# Neighbors ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AWKWARD if name != "one atom, open"])
@pytest.mark.parametrize("k", [2, 12])
def test_equals_all_pairs_over_all_images(name, k):
    frame = AWKWARD[name]()
    assert_equals_naive(frame, k)
    found = nearest_neighbors(frame, k)
    assert (found.neighbors.dtype, found.lengths.dtype, found.shifts.dtype) == ("int32", "float32", "int32")
    assert found.neighbors.shape == found.lengths.shape == found.shifts.shape[:2] == (frame.n_atoms, k)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize(
    ("cell", "pbc", "n_atoms"),
    [
        ((7.0, 7.0, 7.0), True, 40),
        ((17.0, 17.0, 17.0), True, 150),
        ((26.0, 19.0, 30.0), (True, False, True), 150),
        (SKEWED, True, 100),
        (SKEWED, (False, True, True), 100),
        ((2.0, 30.0, 30.0), True, 60),
        ((0.5, 40.0, 0.7), True, 5),
        ((0.5, 40.0, 0.7), (True, False, True), 5),
        ((1e3, 1.0, 1.0), (True, False, False), 50),
        ((1e5, 1e5, 1e5), False, 30),
    ],
)  # fmt: skip
def test_cells_of_any_size_and_shape(cell, pbc, n_atoms, k):
    assert_equals_naive(gas(n_atoms, cell, pbc), k)


@pytest.mark.slow
@pytest.mark.parametrize("pbc", [True, (True, False, False), False])
def test_ten_thousand_sigma_from_the_origin_nothing_flips(pbc):
    assert_equals_naive(gas(150, (25.0, 26.0, 24.0), pbc, at=1e4), 4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(0.8, 12.0)] * 3), st.floats(-0.9, 0.9),
)  # fmt: skip
def test_any_gas(seed, n_atoms, k, pbc, edges, tilt):
    cell = np.diag(edges)
    cell[1, 0], cell[2, 1] = tilt * edges[0], -tilt * edges[1]
    if not any(pbc):
        k = min(k, n_atoms - 1)
    if k:
        assert_equals_naive(gas(n_atoms, cell, pbc, seed), k)


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_as_a_tree_in_a_large_box(n_dimensions):
    rng = np.random.default_rng(1)
    edges = np.array([90.0, 70.0, 3.0 if n_dimensions == 2 else 12.0])
    positions = rng.random((20_000, 3)) * edges
    if n_dimensions == 2:
        positions[:, 2] = 1.5
    frame = Frame(positions, edges, True, np.zeros(len(positions), int), ("A",))
    found = nearest_neighbors(frame, 6)
    tree = cKDTree(positions[:, :n_dimensions], boxsize=edges[:n_dimensions])
    lengths, neighbors = tree.query(positions[:, :n_dimensions], 7)
    assert_array_equal(found.neighbors, neighbors[:, 1:])
    assert_allclose(found.lengths, lengths[:, 1:], rtol=1e-6)


def test_clusters_far_apart_and_loners():
    """Bins are as large as atoms are apart on average; here they are nowhere."""
    rng = np.random.default_rng(2)
    droplet = rng.normal(0, 1.0, (400, 3))
    loners = rng.uniform(-500, 500, (12, 3))
    positions = np.concatenate([droplet, np.add(droplet, [300.0, -200.0, 100.0]), loners])
    for pbc in (False, True, (True, True, False)):
        frame = Frame(positions, [1200.0, 1100.0, 1000.0], pbc, np.zeros(len(positions), int), ("A",))
        assert_equals_naive_in_a_tree(frame, 5)


@pytest.mark.parametrize("k", range(1, 7))
def test_islands_of_as_many_atoms_as_neighbors_are_asked_for(k):
    """What lies around such an atom at first are k - 1 others and itself, which is no neighbor."""
    rng = np.random.default_rng(k)
    centers = np.stack(np.meshgrid(*[np.arange(3) * 50.0] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[1:]
    islands = np.repeat(centers, 1 + np.arange(26) % 8, axis=0)
    # Most atoms are in a droplet, so that a bin is much smaller than the distance between islands.
    positions = np.concatenate([islands, np.zeros((2000, 3))])
    positions += rng.normal(0, 0.3, positions.shape)
    for pbc in (True, (True, False, True), False):
        frame = Frame(positions, [150.0, 151.0, 149.0], pbc, np.zeros(len(positions), int), ("A",))
        assert_equals_naive_in_a_tree(frame, k)


def assert_equals_naive_in_a_tree(frame, k):
    shifts = np.array(list(product((0, -1, 1), repeat=3)))
    shifts = shifts[(shifts == 0)[:, ~frame.pbc].all(axis=1)]
    images = (frame.positions[None] + (shifts @ frame.cell)[:, None]).reshape(-1, 3)
    lengths, places = cKDTree(images).query(frame.positions, k + 1)
    found = nearest_neighbors(frame, k)
    assert_array_equal(found.neighbors, places[:, 1:] % frame.n_atoms)
    assert_array_equal(found.shifts, shifts[places[:, 1:] // frame.n_atoms])
    assert_allclose(found.lengths, lengths[:, 1:], rtol=1e-6, atol=1e-9)


# Ties ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("basis", "k"),
    [
        (((0, 0, 0),), 6),
        (((0, 0, 0),), 4),
        (((0, 0, 0), (0.5, 0.5, 0.5)), 8),
        (((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)), 12),
        (((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)), 5),
    ],
    ids=["sc", "sc, part of a shell", "bcc", "fcc", "fcc, part of a shell"],
)
@pytest.mark.parametrize("spacing", [1.0, 1.7, 0.1 + 0.2, np.pi])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_lattices(basis, k, spacing, n):
    """Neighbors that are equally far but for rounding: the lower row, then the lower shift, comes first."""
    frame = lattice((n, n, n), spacing, basis=basis)
    nearest = {1: 1.0, 2: np.sqrt(3) / 2, 4: np.sqrt(0.5)}[len(basis)] * spacing
    found = nearest_neighbors(frame, k)
    assert_allclose(found.lengths, nearest, rtol=1e-6)
    assert_equals_naive(frame, k)
    for row, shift in zip(found.neighbors, found.shifts, strict=True):
        keys = np.column_stack([row, shift])
        assert_array_equal(keys[np.lexsort(keys[:, ::-1].T)], keys)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-50, 50)] * 3), st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans()
)  # fmt: skip
def test_what_rounding_does_to_a_lattice_decides_nothing(shift, seed, k, flat):
    frame = lattice((7, 6, 1), 1.1) if flat else lattice((5, 5, 6), 1.1)
    found = nearest_neighbors(frame, k)
    moved = nearest_neighbors(translated(frame, shift), k)
    assert_array_equal(moved.neighbors, found.neighbors)
    assert_array_equal(moved.shifts, found.shifts)
    images = np.random.default_rng(seed).integers(-9, 10, (frame.n_atoms, 3)) * [1, 1, not flat]
    other = nearest_neighbors(frame.replace(positions=frame.positions + images @ frame.cell), k)
    assert_array_equal(other.neighbors, found.neighbors)
    assert_array_equal(other.shifts, found.shifts + images[:, None] - images[found.neighbors])


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
@pytest.mark.parametrize("k", [2, 5, 11])
@pytest.mark.parametrize("seed", range(4))
def test_lengths_that_are_equal_one_by_one(pbc, k, seed):
    """Many lengths of a lattice that was written with nine digits differ by a few 1e-10.

    Those that differ by less than 1e-9 from one to the next are one, whatever the order of the search.
    """
    frame = lattice((5, 4, 6), 1.0, pbc, basis=((0, 0, 0), (0.5, 0.5, 0.5)))
    noise = np.random.default_rng(seed).normal(0, 1e-9, frame.positions.shape)
    frame = frame.replace(positions=frame.positions + noise)
    assert_equals_naive(frame, k)
    moved = wrapped_elsewhere(frame, seed)
    assert_array_equal(nearest_neighbors(moved, k).neighbors, nearest_neighbors(frame, k).neighbors)


def test_atoms_on_top_of_each_other():
    positions = np.concatenate([np.zeros((4, 3)), [[1.0, 0, 0], [0, 1.5, 0]], np.full((3, 3), 2.0)])
    for pbc in (False, True):
        frame = Frame(positions, [30.0, 30.0, 30.0], pbc, np.zeros(9, int), ("A",))
        assert_equals_naive(frame, 5)
        found = nearest_neighbors(frame, 3)
        assert found.neighbors[:4].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
        assert (found.lengths[:4] == 0).all() and (found.shifts[:4] == 0).all()
        assert found.neighbors[6:, :2].tolist() == [[7, 8], [6, 8], [6, 7]]
    stacked = Frame(np.full((5, 3), 7.0), [1e3, 1e3, 1e3], False, np.zeros(5, int), ("A",))
    assert (nearest_neighbors(stacked, 4).lengths == 0).all()
    # Also where they were written down in different images.
    images = np.random.default_rng(0).integers(-5, 6, (9, 3))
    spread = frame.replace(positions=frame.positions + images @ frame.cell)
    found = nearest_neighbors(spread, 3)
    assert found.neighbors[:4].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


# Images, dimensions, a part of the atoms ----------------------------------------------------------


def test_a_single_atom_has_its_images():
    frame = Frame([[0.3, 0.2, 0.1]], [1.0, 1.5, 2.5], True, ["A"])
    found = nearest_neighbors(frame, 5)
    assert found.neighbors.tolist() == [[0] * 5]
    assert found.shifts[0].tolist() == [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [-1, -1, 0]]
    assert_allclose(found.lengths[0], [1, 1, 1.5, 1.5, np.hypot(1, 1.5)], rtol=1e-6)
    chain = nearest_neighbors(frame.replace(pbc=(False, False, True)), 4)
    assert chain.shifts[0].tolist() == [[0, 0, -1], [0, 0, 1], [0, 0, -2], [0, 0, 2]]


def test_two_dimensions_are_searched_in_the_plane_whatever_the_file_says():
    frame = AWKWARD["2D"]()
    assert frame.pbc[2] and frame.cell[2, 2] == 1.0
    flat = nearest_neighbors(frame, 4)
    assert not flat.shifts[..., 2].any()
    for same in (
        nearest_neighbors(frame.replace(pbc=(True, True, False)), 4),
        nearest_neighbors(frame.replace(cell=frame.cell * [[1], [1], [50.0]]), 4, dimensions=3),
        nearest_neighbors(frame, 4, dimensions=2),
    ):
        assert_array_equal(same.neighbors, flat.neighbors)
        assert_array_equal(same.shifts, flat.shifts)
        assert_array_equal(same.lengths, flat.lengths)
    deep = nearest_neighbors(frame, 2, dimensions=3)
    assert (deep.neighbors[:, 0] == np.arange(len(frame))).any() and (deep.lengths <= 1).all()
    assert_equals_naive(frame, 4, dimensions=3)
    # Two atoms alone are no plane of their own, but may be said to lie in one.
    pair = Frame([[0, 0, 0], [3.0, 0, 0]], [10.0, 10.0, 1.0], True, ["A", "B"])
    assert nearest_neighbors(pair, 1).neighbors.tolist() == [[0], [1]]
    assert nearest_neighbors(pair, 1, dimensions=2).neighbors.tolist() == [[1], [0]]


@pytest.mark.parametrize("name", ["triclinic", "2D", "tiny", "open"])
def test_a_part_of_the_atoms_may_ask(name):
    frame = AWKWARD[name]()
    every = nearest_neighbors(frame, 3)
    for of in (frame.species == 1, frame.species < 2, frame.species > 1):
        part = nearest_neighbors(frame, 3, of=of)
        assert_array_equal(part.neighbors, every.neighbors[of])
        assert_array_equal(part.lengths, every.lengths[of])
        assert_array_equal(part.shifts, every.shifts[of])


def test_no_atoms_have_no_neighbors():
    frame = Frame(np.empty((0, 3)), [9.0, 9.0, 9.0], False, np.empty(0, int), ("A",))
    found = nearest_neighbors(frame, 3)
    assert (found.neighbors.shape, found.lengths.shape, found.shifts.shape) == ((0, 3), (0, 3), (0, 3, 3))
    graph = neighbor_graph(frame, n_neighbors=3)
    assert graph.n_edges == 0 and graph.edge_index.shape == (2, 0) and graph.edge_vector.shape == (0, 3)


@pytest.mark.parametrize("name", GENERIC)
def test_what_must_not_change_the_neighbors(name):
    frame, k = AWKWARD[name](), 6
    atoms, found = np.arange(frame.n_atoms), nearest_neighbors(frame, k)

    def same(other, atoms, number=None):
        again = nearest_neighbors(other, k)
        assert_allclose(again.lengths, found.lengths[atoms], rtol=0, atol=1e-6)
        if number is not None and name != "tiny":
            assert_array_equal(number[again.neighbors], found.neighbors[atoms])

    same(translated(frame, (3.3, -217.1, 0.7)), atoms, atoms)
    same(wrapped_elsewhere(frame, reach=50), atoms, atoms)
    order = np.random.default_rng(0).permutation(frame.n_atoms)
    same(permuted(frame, order), order, order)
    times = tuple(2 if wrap else 1 for wrap in frame.pbc)
    copies = np.tile(atoms, int(np.prod(times)))
    same(repeated(frame, times), copies, copies)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    same(frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn), atoms, atoms)


def test_the_frame_is_left_as_it_is_and_twice_is_the_same():
    frame = AWKWARD["unwrapped far away"]()
    before = frame.positions.copy()
    one, two = nearest_neighbors(frame, 5), nearest_neighbors(frame, 5)
    assert_array_equal(frame.positions, before)
    for first, second in zip(one, two, strict=True):
        assert_array_equal(first, second)


# The graph ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AWKWARD if name != "one atom, open"])
@pytest.mark.parametrize("k", [1, 3])
def test_the_graph_has_an_edge_where_either_end_is_among_the_nearest_of_the_other(name, k):
    frame = AWKWARD[name]()
    graph = neighbor_graph(frame, n_neighbors=k)
    neighbors, _, shifts = naive.nearest_neighbors(frame, k)
    found = np.column_stack([graph.edge_index.T, graph.edge_shift])
    assert sorted(map(tuple, found.tolist())) == naive.symmetrized(neighbors, shifts)
    assert_allclose(np.linalg.norm(graph.edge_vector, axis=1), graph.edge_length, rtol=1e-6, atol=1e-9)
    assert (graph.n_neighbors, graph.cutoff) == (k, np.inf)
    assert graph.indptr.dtype == np.int64 and graph.neighbors.dtype == np.int32
    assert graph.edge_length.dtype == np.float32 and graph.edge_shift.dtype == np.int32
    # The first k of a row are the atom's own, the nearest first.
    for row, start in enumerate(graph.indptr[:-1]):
        assert_array_equal(graph.neighbors[start : start + k], neighbors[row])
        assert_array_equal(graph.edge_shift[start : start + k], shifts[row])


@pytest.mark.parametrize("name", ["triclinic", "tiny", "2D", "coincident atoms", "open", "one atom"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_every_edge_knows_its_reverse_and_whether_both_ends_agree(name, k):
    graph = neighbor_graph(AWKWARD[name](), n_neighbors=k)
    i, j = graph.edge_index
    back = graph.reverse
    assert_array_equal(back[back], np.arange(graph.n_edges))
    assert_array_equal(np.column_stack([i[back], j[back]]), np.column_stack([j, i]))
    assert_array_equal(graph.edge_shift[back], -graph.edge_shift)
    assert_array_equal(graph.edge_length[back], graph.edge_length)
    assert_array_equal(graph.mutual[back], graph.mutual)
    own = np.arange(graph.n_edges) - np.repeat(graph.indptr[:-1], np.diff(graph.indptr)) < k
    assert_array_equal(graph.mutual, own & own[back])
    assert own.sum() == k * (len(graph.indptr) - 1)


def test_a_graph_within_a_cutoff_knows_no_reverse():
    graph = neighbor_graph(AWKWARD["triclinic"](), cutoff=3.0)
    assert graph.n_neighbors is None
    with pytest.raises(ValueError, match="graphs of the k nearest"):
        _ = graph.reverse


# What is refused ----------------------------------------------------------------------------------


def test_more_neighbors_than_atoms_are_refused_where_nothing_is_periodic():
    frame = gas(5, (9.0, 9.0, 9.0), False).replace(source="run.xyz, frame 3")
    assert nearest_neighbors(frame, 4).neighbors.shape == (5, 4)
    with pytest.raises(ValueError, match=r"run.xyz, frame 3: the 5 nearest .* only 4 others; ask for fewer"):
        nearest_neighbors(frame, 5)
    with pytest.raises(ValueError, match="only 4 others"):
        neighbor_graph(frame, n_neighbors=5)
    assert nearest_neighbors(frame.replace(pbc=(False, True, False)), 9).neighbors.shape == (5, 9)
    # Of a layer the third axis is open whatever the file says.
    layer = frame.replace(positions=frame.positions * [1, 1, 0], pbc=(False, False, True))
    with pytest.raises(ValueError, match="only 4 others"):
        nearest_neighbors(layer, 5)
    assert nearest_neighbors(layer, 5, dimensions=3).neighbors.shape == (5, 5)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2", None, np.nan])
def test_a_number_of_neighbors_that_is_none_is_refused(k):
    with pytest.raises(ValueError, match="must be a whole number from 1 on"):
        nearest_neighbors(AWKWARD["triclinic"](), k)


@pytest.mark.parametrize("dimensions", [1, 4, "2D"])
def test_other_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError, match="dimensions must be 2 or 3"):
        nearest_neighbors(AWKWARD["triclinic"](), 2, dimensions=dimensions)


@pytest.mark.parametrize("of", [[0, 1], [True, False], np.ones((2, 2), bool)])
def test_what_is_no_flag_for_each_atom_is_refused(of):
    with pytest.raises(ValueError, match="of must be 5 booleans"):
        nearest_neighbors(gas(5, (9.0, 9.0, 9.0)), 2, of=of)


@pytest.mark.parametrize("options", [{}, {"cutoff": 3.0, "n_neighbors": 2}])
def test_a_graph_needs_a_cutoff_or_a_number(options):
    with pytest.raises(ValueError, match="either a cutoff or n_neighbors"):
        neighbor_graph(AWKWARD["triclinic"](), **options)


THIN = """
import resource
import numpy as np
from phaseseg import Frame
from phaseseg.neighbors import nearest_neighbors

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def thin(length):
    return Frame([[0.0, 0, 0], [1.0, length / 2, 3]], [2.0, length, 7.8], True, ["A", "B"])

nearest_neighbors(thin(10.0), 4)  # compiled before
before = megabytes()
print(nearest_neighbors(thin(2740.0), 4).lengths.tolist())
print(megabytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss")
def test_two_atoms_in_a_long_thin_cell_take_no_gigabytes():
    """The first search once went as far as the two would fill the cell: over 460,000 images of each."""
    done = subprocess.run([sys.executable, "-c", THIN], capture_output=True, text=True, check=True)
    lengths, more = done.stdout.splitlines()
    assert json.loads(lengths) == [[2.0, 2.0, 4.0, 4.0]] * 2
    assert float(more) < 50
