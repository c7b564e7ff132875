"""Neighbors within a cutoff against all pairs over all images in float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

import naive
from phaseseg import Frame
from phaseseg.compiled.jit import jit
from phaseseg.neighbors import neighbor_graph, sort_into_bins
from phaseseg.neighbors.bins import count_around, pack_all_around, room_around
from phaseseg.testing import AWKWARD, EXACT, permuted, repeated, translated, wrapped_elsewhere

# Of positions from the center of a bin in float32, twice: ulps of 20 Å.
LENGTH = 1e-5


def edges(graph):
    """The edges as a sorted array (n, 5): i, j, shift."""
    found = np.column_stack([graph.edge_index.T, graph.edge_shift])
    return found[np.lexsort(found.T)]


def of_naive(frame, cutoff):
    pairs = naive.neighbor_pairs(frame, cutoff)
    return pairs[np.lexsort(pairs.T)]


def gas(n_atoms, cell, pbc=True, seed=0, at=0.0):
    rng = np.random.default_rng(seed)
    vectors = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell, dtype=float)
    positions = rng.random((n_atoms, 3)) @ vectors + at
    return Frame(positions, vectors, pbc, rng.integers(0, 2, n_atoms), ("Fe", "O"), origin=np.full(3, at))


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("cutoff", [2.5, 6.0])
def test_equals_all_pairs_over_all_images(name, cutoff):
    frame = AWKWARD[name]()
    graph = neighbor_graph(frame, cutoff=cutoff)
    assert_array_equal(edges(graph), of_naive(frame, cutoff))
    assert_allclose(np.linalg.norm(graph.edge_vector, axis=1), graph.edge_length, rtol=0, atol=LENGTH)
    assert graph.indptr[0] == 0 and graph.indptr[-1] == graph.n_edges == len(graph.edge_length)
    assert graph.indptr.dtype == np.int64 and graph.neighbors.dtype == np.int32
    assert graph.edge_length.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "pbc", "n_atoms"),
    [
        ((7.0, 7.0, 7.0), True, 40),
        ((17.0, 17.0, 17.0), True, 300),
        ((26.0, 19.0, 30.0), True, 400),
        ((26.0, 19.0, 30.0), (True, False, True), 400),
        (((20.0, 0, 0), (17.0, 9.0, 0), (-14.0, 6.0, 8.0)), True, 300),
        (((20.0, 0, 0), (17.0, 9.0, 0), (-14.0, 6.0, 8.0)), (False, True, True), 300),
        ((200.0, 200.0, 200.0), True, 50),
        ((1e5, 1e5, 1e5), False, 30),
    ],
)  # fmt: skip
def test_cells_of_any_size_and_shape(cell, pbc, n_atoms):
    frame = gas(n_atoms, cell, pbc)
    assert_array_equal(edges(neighbor_graph(frame, cutoff=6.0)), of_naive(frame, 6.0))


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("kinds", [1, 3])
def test_the_largest_number_of_candidates_is_that_of_any_bin(name, kinds):
    """Kernels make room for so many, and write without asking."""
    frame = AWKWARD[name]()
    codes = np.arange(frame.n_atoms, dtype=np.int32) % kinds
    for cutoff in (2.5, 6.0):
        bins = sort_into_bins(frame, cutoff, codes, kinds)
        assert bins.most == max(count_around(bins, bins.reach, flat) for flat in range(bins.n_bins))


@pytest.mark.slow
@pytest.mark.parametrize("pbc", [True, (True, False, False), False])
def test_ten_thousand_angstrom_from_the_origin_no_edge_flips(pbc):
    """A float32 coordinate there is good to 1e-3 Å: one edge in a thousand would flip."""
    frame = gas(400, (25.0, 26.0, 24.0), pbc, at=1e4)
    assert_array_equal(edges(neighbor_graph(frame, cutoff=6.0)), of_naive(frame, 6.0))


@pytest.mark.slow
def test_in_a_box_of_a_micrometer_no_edge_flips():
    cell = np.array([10000.0, 10.0, 10.0])
    frame = gas(60_000, cell)
    graph = neighbor_graph(frame, cutoff=4.5)
    pairs = cKDTree(frame.positions, boxsize=cell).query_pairs(4.5, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    found = graph.edge_index.T
    assert_array_equal(found[np.lexsort(found.T)], both[np.lexsort(both.T)])


@pytest.mark.parametrize("spacing", [1.5, 2.0, 3.0])
def test_neighbors_exactly_at_the_cutoff_count(spacing):
    n = round(12 / spacing)
    sites = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * spacing
    frame = Frame(sites, [12.0, 12.0, 12.0], True, np.zeros(len(sites), dtype=int), ("Fe",))
    graph = neighbor_graph(frame, cutoff=6.0)
    k = np.arange(-n, n + 1)
    inside = ((k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) * spacing**2 <= 36).sum() - 1
    assert_array_equal(np.diff(graph.indptr), inside)


@pytest.mark.slow
def test_pairs_within_rounding_of_the_cutoff_are_decided_as_in_float64_and_alike_from_both_sides():
    rng = np.random.default_rng(3)
    frame = gas(100, ((21.0, 0, 0), (6.0, 18.0, 0), (-5.0, 3.0, 19.0)))
    i, j, *shift = of_naive(frame, 5.0)[rng.integers(0, 300)]
    exact = frame.positions[j] - frame.positions[i] + np.array(shift) @ frame.cell
    for cutoff in np.linalg.norm(exact) * (1 + 1e-12 * np.arange(-3, 4, 2)):
        graph = neighbor_graph(frame, cutoff=float(cutoff))
        found = edges(graph)
        assert_array_equal(found, of_naive(frame, cutoff))
        other = np.column_stack([found[:, 1], found[:, 0], -found[:, 2:]])
        assert_array_equal(other[np.lexsort(other.T)], found)


def test_no_atoms_one_atom_and_atoms_alone():
    empty = Frame(np.empty((0, 3)), [9.0, 9.0, 9.0], True, np.empty(0, int), ("Fe",))
    graph = neighbor_graph(empty, cutoff=6.0)
    assert graph.n_edges == 0 and graph.indptr.tolist() == [0]
    assert graph.edge_index.shape == (2, 0) and graph.edge_shift.shape == (0, 3)
    one = Frame([[1.0, 2.0, 3.0]], [3.0, 30.0, 30.0], True, ["Fe"])
    graph = neighbor_graph(one, cutoff=6.0)
    assert sorted(graph.edge_shift[:, 0]) == [-2, -1, 1, 2] and (graph.neighbors == 0).all()
    far = Frame([[0.0, 0, 0], [50.0, 0, 0], [51.0, 0, 0]], [100.0] * 3, True, ["Fe"] * 3)
    assert np.diff(neighbor_graph(far, cutoff=6.0).indptr).tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["triclinic", "tiny", "open along c"])
def test_what_must_not_change_the_lengths(name):
    frame = AWKWARD[name]()
    graph = neighbor_graph(frame, cutoff=4.1)
    lengths = [np.sort(part) for part in np.split(graph.edge_length, graph.indptr[1:-1])]

    def same(other, atoms):
        graph = neighbor_graph(other, cutoff=4.1)
        assert len(graph.indptr) - 1 == len(atoms)
        for row, atom in enumerate(atoms):
            part = np.sort(graph.edge_length[graph.indptr[row] : graph.indptr[row + 1]])
            assert_allclose(part, lengths[atom], rtol=0, atol=2 * LENGTH)

    atoms = np.arange(frame.n_atoms)
    same(translated(frame, (3.3, -217.1, 0.7)), atoms)
    same(wrapped_elsewhere(frame, reach=50), atoms)
    order = np.random.default_rng(0).permutation(frame.n_atoms)
    same(permuted(frame, order), order)
    times = tuple(2 if wrap else 1 for wrap in frame.pbc)
    same(repeated(frame, times), np.tile(atoms, int(np.prod(times))))


def test_the_frame_is_left_as_it_is_and_twice_is_the_same():
    frame = AWKWARD["unwrapped far away"]()
    before = frame.positions.copy()
    one, two = neighbor_graph(frame, cutoff=5.0), neighbor_graph(frame, cutoff=5.0)
    assert_allclose(frame.positions, before, rtol=0, atol=EXACT)
    assert_array_equal(one.neighbors, two.neighbors)
    assert_array_equal(one.edge_length, two.edge_length)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.inf, np.nan])
def test_a_cutoff_that_is_none_is_refused(cutoff):
    with pytest.raises(ValueError, match="cutoff must be a positive length in Å"):
        neighbor_graph(AWKWARD["triclinic"](), cutoff=cutoff)


@jit
def _candidates(bins, flat):
    near = room_around(bins)
    n, own = pack_all_around(bins, bins.reach, flat, near)
    return near.slots[:n], np.stack((near.x[:n], near.y[:n], near.z[:n]), axis=1), own


@pytest.mark.parametrize("name", ["triclinic", "strongly skewed", "open along c"])
def test_candidates_are_near_the_atoms_of_the_bin(name):
    frame, cutoff = AWKWARD[name](), 3.0
    bins = sort_into_bins(frame, cutoff)
    pairs, n_near = of_naive(frame, cutoff), 0
    for flat in range(bins.n_bins):
        first, stop = bins.start[flat], bins.start[flat + 1]
        if first == stop:
            continue
        slots, places, own = _candidates(bins, flat)
        there = np.abs(places).max(axis=1) < 1e6  # the rest is padding
        slots, places = slots[there], places[there]
        assert_array_equal(slots[own : own + stop - first], np.arange(first, stop))
        atoms = places[own : own + stop - first]
        low, high = atoms.min(axis=0), atoms.max(axis=0)
        beyond = np.linalg.norm(np.maximum(np.maximum(low - places, places - high), 0), axis=1)
        assert (beyond <= cutoff + 1e-3).all()
        distances = np.linalg.norm(places[:, None] - atoms, axis=2)
        n_near += np.count_nonzero(distances <= cutoff) - len(atoms)
    assert n_near == len(pairs)


def test_bins_sort_the_atoms():
    frame = AWKWARD["triclinic"]()
    bins = sort_into_bins(frame, 3.0, frame.species, 2)
    assert sorted(bins.order) == list(range(frame.n_atoms))
    assert bins.start[-1] == frame.n_atoms and len(bins.start) == 2 * bins.shape.prod() + 1
    kinds = np.repeat(np.arange(len(bins.start) - 1) % 2, np.diff(bins.start))
    assert_array_equal(frame.species[bins.order], kinds)
