"""Neighbors where atoms are far away along open axes: the same as in naive searches, in few bins."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import naive
from phaseseg import Frame, glass_metrics
from phaseseg.neighbors import nearest_neighbors, neighbor_graph, sort_into_bins
from phaseseg.testing import AWKWARD

OPEN = [name for name, make in AWKWARD.items() if not make().pbc.all()]


def scattered(name, seed, far, n=3):
    """The frame with some atoms moved away along open axes, and a pair that stays together."""
    frame, rng = AWKWARD[name](), np.random.default_rng(seed)
    positions = frame.positions.copy()
    some = rng.choice(len(frame), min(n, len(frame)), replace=False)
    away = rng.uniform(1, 3, (len(some), 3)) * rng.choice((-1, 1), (len(some), 3)) * far
    positions[some] += away * ~frame.pbc @ (frame.cell / np.linalg.norm(frame.cell, axis=1)[:, None])
    if len(some) > 2:
        positions[some[1]] = positions[some[0]] + 0.5
    return frame.replace(positions=positions)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.sampled_from(OPEN), st.integers(0, 1000), st.sampled_from([30.0, 1e3, 1e5, 1e8]))
def test_the_nearest_are_those_of_a_naive_search(name, seed, far):
    frame = scattered(name, seed, far)
    k = min(4, max(len(frame) - 1, 1)) if not frame.pbc.any() else 4
    if k < len(frame) or frame.pbc.any():
        if frame.pbc.any() and far > 1e3:  # the naive search would need too many images
            frame = scattered(name, seed, 1e3)
        found, expected = nearest_neighbors(frame, k), naive.nearest_neighbors(frame, k)
        np.testing.assert_allclose(found.lengths, expected[1], rtol=2e-6)
        if far < 1e8:  # there, float64 itself does not tell which of two atoms is nearer
            np.testing.assert_array_equal(found.neighbors, expected[0])
            np.testing.assert_array_equal(found.shifts, expected[2])


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(OPEN), st.integers(0, 1000), st.sampled_from([30.0, 1e3, 1e5, 1e8]))
def test_pairs_within_a_cutoff_are_those_among_the_atoms_that_are_near(name, seed, far):
    frame = scattered(name, seed, far)
    graph = neighbor_graph(frame, cutoff=4.2)
    parts = neighbor_graph(scattered(name, seed, 1e3), cutoff=4.2) if far > 1e3 else graph
    np.testing.assert_array_equal(np.diff(graph.indptr), np.diff(parts.indptr))
    vectors = graph.edge_vector
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), graph.edge_length, rtol=1e-5)


@pytest.mark.parametrize("name", ["open", "open along c", "2D, open in the plane"])
def test_bins_follow_the_atoms(name):
    sizes = set()
    for far in (1e4, 1e6, 1e8):
        bins = sort_into_bins(scattered(name, 1, far), 4.0)
        sizes.add((len(bins.start), bins.most))
        assert np.abs(bins.steps).max() < 100
    assert len(sizes) == 1


def test_metrics_of_droplets_at_any_distance_are_the_sums_of_their_own():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 600, 3)) * 9
    species = np.where(rng.random(1200) < 0.3, "B", "A")

    def counts(positions, species):
        fields = glass_metrics(Frame(positions, [9.0, 9, 9], False, species))
        return np.array([fields["n_disjoint_graphs"], fields["n_bb_edges"], fields["n_isolated_a"]])

    expected = counts(first, species[:600]) + counts(second, species[600:])
    for apart in (50.0, 1e3, 1e6, 1e9):
        both = np.concatenate([first, second + np.array([1, -1 / 3, 1 / 7]) * apart])
        np.testing.assert_array_equal(counts(both, species), expected)


def test_an_empty_corner_of_the_cell_may_hold_an_atom_of_a_layer():
    """In a layer, atoms may be in any image across it: z = -1e-9 is written as the upper end."""
    rng = np.random.default_rng(5)
    positions = np.column_stack([rng.random((300, 2)) * 18, np.zeros(300)])
    frame = Frame(positions, [18.0, 18.0, 1.0], True, np.where(rng.random(300) < 0.3, "B", "A"))
    moved = frame.replace(positions=positions + rng.integers(0, 2, (300, 1)) * [0, 0, 1.0])
    expected, found = nearest_neighbors(frame, 4), nearest_neighbors(moved, 4)
    np.testing.assert_array_equal(found.neighbors, expected.neighbors)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
