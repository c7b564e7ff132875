"""Structural metrics of a million particles against other ways to get them, in the same run, in CPU time.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_glass_metrics_speed.py -s

The limit is 2 s of CPU time for a million particles on one core, after compilation. Nothing is asserted about
time: the table is printed. Particles are in random order, the worst there is for the caches.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

import naive
from benchmarks.measure import MACHINE, cpu_time, run_apart, scaled
from phaseseg import Frame, glass_metrics
from phaseseg.neighbors import nearest_neighbors, neighbor_graph

LIMIT = 2.0
SIZES = scaled((1000,), (10_000, 100_000, 1_000_000))
MANY = scaled(2000, 200_000)
# The naive twin compares all pairs over all images.
NAIVE = scaled(100, 500)


def mixture(n_atoms, n_dimensions, *, shuffled=True, seed=0):
    """Sites with thermal jitter at the density and composition of a Kob-Andersen mixture; no gas."""
    rng = np.random.default_rng(seed)
    per_edge = int(np.ceil(n_atoms ** (1 / n_dimensions) - 1e-9))
    edge = (n_atoms / 1.2) ** (1 / n_dimensions)
    axes = [np.arange(per_edge)] * n_dimensions + [np.arange(1)] * (3 - n_dimensions)
    sites = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = np.zeros((n_atoms, 3))
    positions[:, :n_dimensions] = sites[:, :n_dimensions] * (edge / per_edge)
    positions[:, :n_dimensions] += rng.normal(0, 0.12, (n_atoms, n_dimensions))
    if shuffled:
        positions = rng.permutation(positions)
    species = (rng.random(n_atoms) < (0.35 if n_dimensions == 2 else 0.2)).astype(int)
    cell = [edge, edge, edge if n_dimensions == 3 else 1.0]
    return Frame(positions, cell, (True, True, n_dimensions == 3), species, ("A", "B"), units="lj")


def tree_neighbors(frame, k):
    """The same neighbors from scipy's tree, without the images that they are."""
    from scipy.spatial import cKDTree

    n = frame.n_dimensions
    box = np.diag(frame.cell)[:n]
    wrapped = np.mod(frame.positions[:, :n], box)
    lengths, neighbors = cKDTree(wrapped, boxsize=box).query(wrapped, k + 1)
    return lengths[:, 1:], neighbors[:, 1:]


def tree_metrics(frame, k=2):
    """The three numbers from that and scipy's connected components."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = frame.n_atoms
    _, neighbors = tree_neighbors(frame, k)
    is_b = frame.species == 1
    i, j = np.repeat(np.arange(n), k), neighbors.ravel()
    touching = is_b[i] | is_b[j]
    i, j = i[touching], j[touching]
    pairs = np.unique(np.minimum(i, j) * n + np.maximum(i, j))
    i, j = pairs // n, pairs % n
    joined = np.bincount(i, minlength=n) + np.bincount(j, minlength=n) > 0
    _, label = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    return len(np.unique(label[joined])), int((is_b[i] & is_b[j]).sum()), int((~joined & ~is_b).sum())


def ovito_neighbors(frame, k):
    """The same neighbors from OVITO's finder."""
    from ovito.data import DataCollection, NearestNeighborFinder, SimulationCell

    data = DataCollection()
    data.objects.append(SimulationCell(pbc=frame.pbc.tolist(), is2D=frame.n_dimensions == 2))
    data.cell_[:, :3], data.cell_[:, 3] = frame.cell.T, frame.origin
    data.create_particles(count=frame.n_atoms).create_property("Position", data=frame.positions)
    return NearestNeighborFinder(k, data).find_all()[0]


def three_numbers(fields):
    return [fields[name] for name in ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a")]


def measure(n_atoms, n_dimensions, shuffled):
    """Run in a process of its own: CPU times and peak memory."""
    small = mixture(1000, n_dimensions)
    start = time.process_time()
    for rule in ("all", "b-only"):
        glass_metrics(small, rule=rule)
    neighbor_graph(small, n_neighbors=2)
    compilation = time.process_time() - start
    frame = mixture(n_atoms, n_dimensions, shuffled=shuffled)
    found = {"all": cpu_time(lambda: glass_metrics(frame))}
    tracemalloc.start()
    glass_metrics(frame)
    found["peak"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found["b-only"] = cpu_time(lambda: glass_metrics(frame, rule="b-only"))
    for k in (2, 5):
        found[f"nearest {k}"] = cpu_time(lambda k=k: nearest_neighbors(frame, k))
        found[f"graph {k}"] = cpu_time(lambda k=k: neighbor_graph(frame, n_neighbors=k))
    return {**found, "compilation": compilation}


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_cost_per_particle(n_dimensions):
    print(f"\n{MACHINE}, {n_dimensions}D, "
          f"density 1.2; limit {LIMIT} s for a million")  # fmt: skip
    print("particles   order          all    b-only   k=2    graph    k=5    graph   all, each   memory")
    for n_atoms in SIZES:
        for shuffled in (False, True):
            t = run_apart(measure, n_atoms, n_dimensions, shuffled)
            print(
                f"{n_atoms:9,} {'shuffled' if shuffled else 'sites':>9} {t['all'] * 1e3:9.0f} ms "
                f"{t['b-only'] * 1e3:7.0f} {t['nearest 2'] * 1e3:7.0f} {t['graph 2'] * 1e3:7.0f} "
                f"{t['nearest 5'] * 1e3:7.0f} {t['graph 5'] * 1e3:7.0f} {t['all'] / n_atoms * 1e9:8.0f} ns "
                f"{t['peak'] / 1e6:7.0f} MB"
            )
    print(f"first call: {t['compilation']:.1f} s, compilation or reading what was compiled")


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_against_the_naive_way(n_dimensions):
    frame = mixture(NAIVE, n_dimensions)
    fields = glass_metrics(frame)  # compiles
    fast = cpu_time(lambda: glass_metrics(frame), 20)
    edges, (*_, graphs, bb, isolated) = naive.glass_metrics(frame, "B", 2, "all")
    slow = cpu_time(lambda: naive.glass_metrics(frame, "B", 2, "all"), 1)
    assert three_numbers(fields) == [graphs, bb, isolated] and len(fields["glass_bonds"]) == len(edges)
    print(f"\n{n_dimensions}D, {NAIVE:,} particles: {fast * 1e3:.2f} ms; all pairs over all images "
          f"{slow:.1f} s, {slow / fast:,.0f} times as much")  # fmt: skip


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_against_a_tree(n_dimensions):
    pytest.importorskip("scipy")
    frame = mixture(MANY, n_dimensions)
    found, fields = nearest_neighbors(frame, 2), glass_metrics(frame)
    own, metrics = cpu_time(lambda: nearest_neighbors(frame, 2)), cpu_time(lambda: glass_metrics(frame))
    lengths, _ = tree_neighbors(frame, 2)
    tree = cpu_time(lambda: tree_neighbors(frame, 2), 1)
    numbers = tree_metrics(frame)
    both = cpu_time(lambda: tree_metrics(frame), 1)
    np.testing.assert_allclose(found.lengths, lengths, rtol=1e-6)
    assert three_numbers(fields) == list(numbers)
    print(f"\n{n_dimensions}D, {frame.n_atoms:,} particles: neighbors {own * 1e3:.0f} ms, cKDTree "
          f"{tree * 1e3:.0f} ms ({tree / own:.1f} times); metrics {metrics * 1e3:.0f} ms, cKDTree and "
          f"connected_components {both * 1e3:.0f} ms ({both / metrics:.1f} times)")  # fmt: skip


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_against_ovito(n_dimensions):
    pytest.importorskip("ovito")
    frame = mixture(MANY, n_dimensions)
    found = nearest_neighbors(frame, 2)
    own = cpu_time(lambda: nearest_neighbors(frame, 2))
    same = (np.sort(ovito_neighbors(frame, 2)) == np.sort(found.neighbors)).all(axis=1).mean()
    finder = cpu_time(lambda: ovito_neighbors(frame, 2), 1)
    assert same > 0.999
    print(f"\n{n_dimensions}D, {frame.n_atoms:,} particles: neighbors {own * 1e3:.0f} ms, OVITO's finder "
          f"{finder * 1e3:.0f} ms ({finder / own:.1f} times)")  # fmt: skip
