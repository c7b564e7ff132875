"""Environments against naive ways, and whole data sets, in CPU time.

    pytest tests/benchmarks/test_environment_speed.py -s

Nothing is asserted about time: the numbers are printed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

import naive.environments as naive
from benchmarks.measure import MACHINE, cpu_time, peak_memory, run_apart, scaled
from phaseseg import Frame
from phaseseg.families.environments.communities import communities, neighbor_matrix
from phaseseg.families.environments.coverage import rank
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.mining import mine
from phaseseg.families.environments.nearest import Index
from phaseseg.families.environments.outliers import outlier_scores
from phaseseg.families.environments.projection import fit_projection
from phaseseg.families.environments.spanning import merge_duplicates, spanning_tree
from phaseseg.families.environments.streaming import stream_clusters

CELLS = scaled((4, 6), (12, 24, 37))
SIZES = scaled((4,), (37,), (80,))
"""Cells of 128, 101,306 and 1,024,000 environments; every distance differs, and none is a duplicate."""
FEW = scaled(100, 2000)
SETTINGS = {24: {"n_max": 3, "l_max": 3}, 50: {}, 105: {"n_max": 5, "l_max": 6}}


def tantalum(cells):
    """Bcc, every atom moved by 0.05 Å along each axis on average."""
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 3.3 * np.concatenate([corners, corners + 0.5])
    positions = positions + np.random.default_rng(0).normal(0, 0.05, positions.shape)
    return Frame(positions, [3.3 * cells] * 3, True, np.zeros(len(positions), dtype=int), ("Ta",))


@pytest.mark.parametrize("cells", CELLS)
def test_power_spectrum(benchmark, cells):
    frame = tantalum(cells)
    benchmark(lambda: PowerSpectrum(("Ta",))(frame))  # also compiles
    print(f"\n{MACHINE}")
    for features, options in SETTINGS.items():
        spectrum = PowerSpectrum(("Ta",), **options)
        assert spectrum.n_features == features
        spectrum(frame)
        print(f"{frame.n_atoms:,} atoms, {features} features: {cpu_time(lambda: spectrum(frame)):.3f} s")  # noqa: B023
    if cells == CELLS[0]:
        few = range(5)
        slow = cpu_time(lambda: naive.power_spectrum(frame, ("Ta",), atoms=few)) / len(few)
        print(f"naive, 50 features: {slow * 1000:.1f} ms an atom")


def described(cells):
    """(n_atoms, 50) descriptors, and the configuration of each atom: 54 consecutive ones each."""
    rows = PowerSpectrum(("Ta",))(tantalum(cells))
    return rows, np.arange(len(rows)) // 54


def tree_of(cells):
    """CPU time from descriptors to clusters of the tree, number of environments, and peak memory, bytes."""
    rows, _ = described(cells)
    spanning_tree(rows[:64, :10]).condensed(5)  # compiles

    def whole():
        merged = merge_duplicates(fit_projection(rows, 10)(rows), 1e-9)
        tree = spanning_tree(merged.points).condensed(20, merged.counts)
        tree.labels(tree.stable())

    return cpu_time(whole, 1), len(rows), peak_memory()


@pytest.mark.parametrize("cells", SIZES)
def test_tree(cells):
    seconds, n, memory = run_apart(tree_of, cells)
    print(f"\n{MACHINE}\ntree of {n:,} environments: {seconds:.1f} s, {memory / 1e9:.2f} GB")
    if cells == SIZES[0]:
        points = fit_projection(described(cells)[0], 10)(described(cells)[0])[:FEW]
        np.testing.assert_allclose(spanning_tree(points).lengths, naive.spanning_lengths(points), rtol=1e-10)
        ours, plain = (
            cpu_time(lambda f=f: f(points), 1) for f in (spanning_tree, naive.spanning_lengths)
        )  # fmt: skip
        print(f"tree of {len(points):,} environments: {ours:.3f} s, over all pairs {plain:.3f} s")


@pytest.mark.parametrize("cells", SIZES[:1])
def test_neighbors(cells):
    rows, _ = described(cells)
    for d in (4, 8, 10, 12):
        points = fit_projection(rows, d)(rows)
        index, tree = Index(points), cKDTree(points)
        asked = points[:FEW]
        _, apart = index.search(16, queries=asked)
        np.testing.assert_allclose(apart, tree.query(asked, 16)[0], rtol=1e-9, atol=1e-12)
        ours = cpu_time(lambda: index.search(16, queries=asked), 1) / len(asked)  # noqa: B023
        other = cpu_time(lambda: tree.query(asked, 16), 1) / len(asked)  # noqa: B023
        every = cpu_time(lambda: Index(points).search(15), 1)  # noqa: B023
        print(
            f"{len(points):,} points, {d} dimensions: 15 neighbors of all {every:.2f} s; of one "
            f"{ours * 1e6:.0f} µs, SciPy {other * 1e6:.0f} µs"
        )


@pytest.mark.parametrize("cells", SIZES[:1])
def test_subsets_outliers_and_communities(cells):
    rows, of = described(cells)
    order = cpu_time(lambda: rank(rows, of), 1)
    scores = cpu_time(lambda: outlier_scores(rows, of), 1)
    points = fit_projection(rows, 10)(rows)
    graph = neighbor_matrix(points, 15)
    parts = cpu_time(lambda: communities(graph, 0.5, np.random.default_rng(0)), 1)
    print(
        f"\n{MACHINE}\n{len(rows):,} environments: ranking by coverage {order:.1f} s, outlier scores "
        f"{scores:.1f} s, communities of a graph {parts:.1f} s"
    )
    few, own = rows[:FEW], of[:FEW]
    naive_order = cpu_time(
        lambda: naive.coverage(
            fit_projection(few, 8, compress=False)(few), naive.scaled_components(few), own
        ),
        1,
    )
    ours = cpu_time(lambda: rank(few, own), 1)
    print(f"{len(few):,} environments: ranking by coverage {ours:.3f} s, plain greedy {naive_order:.3f} s")
    naive_scores = cpu_time(lambda: naive.outlier_scores(points[:FEW], own, 8, False), 1)
    ours = cpu_time(lambda: outlier_scores(few, own), 1)
    print(f"{len(few):,} environments: outlier scores {ours:.3f} s, over all pairs {naive_scores:.3f} s")


def streamed(cells, repeats, method, n_clusters):
    """CPU time of clusters over batches, without making them; number of environments, peak memory."""
    rows, _ = described(cells)
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 1e-3, (repeats, rows.shape[1]))

    def batches():
        return (rows * (1 + change) for change in shift)

    making = cpu_time(lambda: [None for _ in batches()], 1)
    found = []
    seconds = cpu_time(
        lambda: found.append(stream_clusters(batches, method, n_clusters=n_clusters, passes=2)), 1
    )
    return seconds - 4 * making, found[0].n_atoms, peak_memory()


@pytest.mark.parametrize("method, n_clusters", [("mixture", 10), ("kmeans", 20)])
@pytest.mark.parametrize("repeats", scaled((3,), (10,), (100,)))
def test_stream(repeats, method, n_clusters):
    seconds, n, memory = run_apart(streamed, SIZES[0], repeats, method, n_clusters)
    print(f"\n{MACHINE}\n{method} of {n:,} streamed environments: {seconds:.1f} s, {memory / 1e9:.2f} GB")


SPECIES = ("Al", "Co", "Cr", "Cu", "Fe", "Mn", "Mo", "Nb", "Ni", "Ta", "Ti", "W")


def crystals(n, cells, n_species, lattice):
    """Configurations of a strained lattice with corners in `cells`^3, rattled, with random species."""
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = np.concatenate([corners + np.array(site) for site in lattice])
    frames = []
    for _ in range(n):
        length = 3.4 * rng.uniform(0.95, 1.05)
        positions = length * sites + rng.normal(0, rng.uniform(0.02, 0.2), sites.shape)
        species = rng.permutation(np.arange(len(sites)) % n_species)
        frames.append(Frame(positions, [cells * length] * 3, True, species, SPECIES[:n_species]))
    return DataSet(frames)


def mined(n, cells, n_species, lattice, outliers):
    """CPU time of clusters, duplicates, a subset of 5 % and outlier scores; numbers of atoms; peak memory."""
    mine(crystals(12, 2, n_species, lattice), budget=0.25, outliers=True)  # compiles
    data = crystals(n, cells, n_species, lattice)
    return cpu_time(lambda: mine(data, budget=0.05, outliers=outliers), 1), data.n_atoms, peak_memory()


@pytest.mark.parametrize("n_species", scaled((2, 6), (1, 2, 4, 5, 8, 12)))
def test_species(n_species):
    bcc = [[0, 0, 0], [0.5, 0.5, 0.5]]
    seconds, n, memory = run_apart(mined, scaled(12, 100), 3, n_species, bcc, True)
    features = PowerSpectrum(SPECIES[:n_species]).n_features
    print(
        f"\n{MACHINE}\n{n:,} atoms of {n_species} species, {features:,} features: {seconds:.1f} s, "
        f"{memory / 1e9:.2f} GB"
    )


@pytest.mark.parametrize("n, n_species", scaled(((12, 1),), ((200, 1), (200, 2)), ((2000, 1),)))
def test_data_set(n, n_species):
    fcc = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    for outliers in (False, True):
        seconds, n_atoms, memory = run_apart(mined, n, scaled(2, 5), n_species, fcc, outliers)
        what = "with" if outliers else "without"
        print(
            f"\n{MACHINE}\n{n_atoms:,} atoms of {n_species} species {what} outlier scores: {seconds:.1f} s, "
            f"{memory / 1e9:.2f} GB"
        )
