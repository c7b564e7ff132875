"""The study of subsets and labels on a small set whose potential is known."""

from __future__ import annotations

import numpy as np
import pytest

from phaseseg import Frame
from phaseseg.families.environments.dataset import DataSet
from phaseseg.neighbors import neighbor_graph
from phaseseg.recipes.environments import study_fits


def small_set(n=60):
    """Cells of one and two atoms in two groups, with the forces of a pair potential."""
    rng = np.random.default_rng(0)
    frames, energies, forces = [], [], []
    for k in range(n):
        size, count = rng.uniform(2.7, 3.1), 2 if k % 3 else 4
        sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [1.0, 0, 0], [1.5, 0.5, 0.5]])[:count] * size
        cell = np.array([size * count / 2, size, size])
        frame = Frame(sites + rng.normal(0, 0.1, (count, 3)), cell, True, ["Ta"] * count)
        graph = neighbor_graph(frame, cutoff=4.5)
        vectors, i = graph.edge_vector, np.repeat(np.arange(count), np.diff(graph.indptr))
        r = np.linalg.norm(vectors, axis=1)
        energies.append(0.5 * (np.exp(-r) * (4.5 - r) ** 3).sum())
        own = np.zeros((count, 3))
        np.add.at(own, i, (-np.exp(-r) * (4.5 - r) ** 2 * (7.5 - r) / r)[:, None] * vectors)
        frames.append(frame)
        forces.append(own)
    groups = np.array(["small" if k % 3 else "large" for k in range(n)])
    return DataSet(frames, np.array(energies), np.concatenate(forces), groups)


@pytest.fixture
def bench(monkeypatch):
    data = small_set()
    monkeypatch.setattr(study_fits, "read_set", lambda name: data)
    monkeypatch.setattr(study_fits, "WRONG", 4)
    return data


def test_split_is_within_groups_and_repeats():
    groups = np.array(["a"] * 8 + ["b"] * 2 + ["c"])
    train, test = study_fits.split(groups, 0.25, 3)
    assert sorted([*train, *test]) == list(range(11))
    assert [np.count_nonzero(groups[test] == g) for g in "abc"] == [2, 1, 1]
    assert np.array_equal(study_fits.split(groups, 0.25, 3)[1], test)


def test_errors_by_their_definition(bench):
    table = study_fits.table_of(bench, 0)
    solution = table.fit(np.arange(30), penalty=1e-2)
    test = np.arange(30, 60)
    energies, forces = table.residuals(solution)
    of = np.repeat(np.arange(60), table.sizes)
    inside = [c for c in test if table.above[c] < 2]
    squares = {
        g: [(forces[of == c] ** 2).ravel() for c in inside if bench.groups[c] == g]
        for g in ("small", "large")
    }
    roots = [max(np.sqrt(np.concatenate(s).mean()), 0.01) for s in squares.values()]
    every = np.concatenate([one for several in squares.values() for one in several])
    expected = [
        np.sqrt(np.prod(roots)),
        np.sqrt(every.mean()),
        1000 * np.sqrt((energies[inside] ** 2).mean()),
    ]
    found = study_fits.errors(table, bench.groups, solution, test, 20)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # A group below the smallest size is only in the pooled error.
    assert study_fits.errors(table, bench.groups, solution, test, 30)[0] == pytest.approx(roots[0])


def test_clusters_take_turns():
    labels, of = np.array([0, 0, 0, 0, 1, -1, -1]), np.array([0, 1, 2, 3, 4, 5, 5])
    order = study_fits.by_clusters(labels, of, 0)
    assert sorted(order.tolist()) == list(range(6))
    assert {4, 5} <= set(order[:3].tolist())


@pytest.mark.slow
def test_subsets_are_compared(bench):
    scores = study_fits.prune("ta", 1, 0)
    assert {method for method, _ in scores} >= {
        "all",
        "coverage",
        "random",
        "kmeans",
        "meagraph",
        "atoms, strata",
    }
    assert all(np.isfinite(values).all() for values in scores.values())
    assert scores["all", 1.0][0][1] < scores["random", 0.05][0][1]


@pytest.mark.slow
def test_planted_errors_are_found(bench):
    found = study_fits.audit("ta", 1)
    assert found["sign of the forces"][0][1] > 0.9
    assert found["energy + 0.1 eV/atom"][0][0] > 0.9
