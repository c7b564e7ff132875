"""Communities: the optimum of a published network, planted groups, copies, and moves that gain nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import naive.environments as naive
from phaseseg.families.environments.clusters import cluster
from phaseseg.families.environments.communities import communities, neighbor_matrix
from phaseseg.recipes.environments.sets import data_file
from phaseseg.recipes.environments.study import rows_and_tags

KARATE = (
    "0-1 0-2 0-3 0-4 0-5 0-6 0-7 0-8 0-10 0-11 0-12 0-13 0-17 0-19 0-21 0-31 1-2 1-3 1-7 1-13 1-17 1-19 1-21 "
    "1-30 2-3 2-7 2-8 2-9 2-13 2-27 2-28 2-32 3-7 3-12 3-13 4-6 4-10 5-6 5-10 5-16 6-16 8-30 8-32 8-33 9-33 "
    "13-33 14-32 14-33 15-32 15-33 18-32 18-33 19-33 20-32 20-33 22-32 22-33 23-25 23-27 23-29 23-32 23-33 "
    "24-25 24-27 24-31 25-31 26-29 26-33 27-33 28-31 28-33 29-32 29-33 30-32 30-33 31-32 31-33 32-33"
)
"""Zachary, J. Anthropol. Res. 33, 452 (1977), doi:10.1086/jar.33.4.3629752: 34 members of a club, 78 ties."""


def karate():
    pairs = np.array([[int(i) for i in pair.split("-")] for pair in KARATE.split()])
    half = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(34, 34))
    return (half + half.T).tocsr()


def drawn(n, seed, density=0.2):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1) * rng.integers(1, 4, (n, n))
    return csr_matrix((upper + upper.T).astype(float))


def test_optimum_of_the_karate_club():
    """The largest modularity is 0.41979 (Brandes et al. 2008, doi:10.1109/TKDE.2007.190689)."""
    graph = karate()
    assert graph.sum() == 156
    found = [communities(graph, 1.0, np.random.default_rng(seed)) for seed in range(10)]
    values = [naive.modularity(graph.toarray(), labels, 1.0) for labels in found]
    assert max(values) == pytest.approx(0.41979, abs=1e-5) and min(values) > 0.41
    assert len(np.unique(found[int(np.argmax(values))])) == 4


@given(seed=st.integers(0, 10_000), n=st.integers(1, 25), resolution=st.sampled_from([0.2, 0.5, 1.0, 2.0]))
@settings(max_examples=30, deadline=None)
def test_no_move_of_one_node_gains(seed, n, resolution):
    graph = drawn(n, seed)
    labels = communities(graph, resolution, np.random.default_rng(seed))
    dense = graph.toarray()
    value = naive.modularity(dense, labels, resolution)
    for v in range(n):
        for c in [*np.unique(labels), labels.max() + 1]:
            other = labels.copy()
            other[v] = c
            assert naive.modularity(dense, other, resolution) <= value + 1e-9
    for c in np.unique(labels):  # connected
        inside = np.flatnonzero(labels == c)
        assert connected_components(graph[inside][:, inside])[0] == 1
    assert np.array_equal(labels, communities(graph, resolution, np.random.default_rng(seed)))


def test_matrix_of_neighbors():
    points = np.random.default_rng(0).normal(size=(60, 3))
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(apart, np.inf)
    one = np.zeros((60, 60))
    np.put_along_axis(one, np.argsort(apart, axis=1)[:, :5], 1, axis=1)
    assert np.array_equal(neighbor_matrix(points, 5).toarray(), one + one.T)
    assert neighbor_matrix(points[:1], 5).shape == (1, 1)
    assert (neighbor_matrix(points[:3], 5).toarray() == 2 * (1 - np.eye(3))).all()


def test_copies_do_not_change_communities():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(4) * 8, 50, axis=0) + rng.normal(size=(200, 4))
    found = cluster(rows, "communities", compress=False)
    copied = np.concatenate([rows, np.repeat(rows[:1], 30, axis=0)])
    again = cluster(copied, "communities", compress=False)
    assert adjusted_rand_score(np.repeat(np.arange(4), 50), found.assign(rows)) == 1
    assert adjusted_rand_score(found.assign(rows), again.assign(rows)) == 1
    assert again.assign(copied)[0] == 0  # the largest now


def test_bad_options():
    rows = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="n_neighbors must be a whole number from 1 on, found 0"):
        cluster(rows, "communities", n_neighbors=0)
    with pytest.raises(ValueError, match="resolution must be a positive number, found -1"):
        cluster(rows, "communities", resolution=-1)


@pytest.mark.slow
@pytest.mark.parametrize("name, ari, nmi", [("ta", 0.50, 0.65), ("fe", 0.40, 0.53)])
def test_groups_of_public_sets(name, ari, nmi):
    if not data_file(name).is_file():
        pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with mlff/{name}.xyz.gz")
    rows, tags = rows_and_tags(name)
    labels = cluster(rows, "communities").assign(rows)
    assert adjusted_rand_score(tags, labels) >= ari
    assert normalized_mutual_info_score(tags, labels) >= nmi
