"""Networks against the naive way to apply them, in the same run, in CPU time.

    pytest tests/benchmarks/test_network_speed.py -s
    PHASESEG_BENCHMARK=large pytest tests/benchmarks/test_network_speed.py -s     (1 M and 10 M atoms)

The naive way: pairs from scipy's k-d tree, features by bincount over them, layers of PyTorch Geometric in
float32. Nothing is asserted about time: the table is printed.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.spatial import cKDTree

import naive
from benchmarks.measure import MACHINE, TYPES, cpu_times, melt, peak_memory, run_apart, scaled
from phaseseg.api import load_model
from phaseseg.checkpoint import Checkpoint, load_checkpoint
from phaseseg.families.segmentation.inference import Network
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.settings import NetworkConfig, Scaling
from phaseseg.neighbors import neighbor_graph
from phaseseg.testing import repeated

REPLICAS = scaled({"1 k": (2, 1, 1)}, {"33 k": (1, 1, 1)}, {"1 M": (2, 3, 5), "10 M": (5, 6, 10)})
NETWORKS = {
    "GAT 10 -> 4x32 -> 2": {},
    "GCN 10 -> 32 -> 2": {"architecture": "gcn"},
    "GraphConv 10 -> 32 -> 2": {"architecture": "graphconv"},
    "GAT 20 -> 4x8 -> 4x8 -> 64": {"features": "densities", "hidden": 8, "readout": 64},
}  # fmt: skip


def network_of(frame, name):
    config = NetworkConfig(TYPES, ("Fe",), ("Mg",), **NETWORKS[name])
    rng = np.random.default_rng(0)
    weights = {
        key: (rng.normal(size=shape) / np.sqrt(shape[-1]) / (100 if "neighbors" in key else 1)).astype("f4")
        for key, shape in config.weight_shapes().items()
    }
    scaling = Scaling.of(node_features(frame, frame.species, config))
    return Network(config, scaling, [weights]), weights


def naive_pairs(frame, cutoff):
    """Both directions of all pairs, (n, 5); of a large orthogonal cell only."""
    lengths = np.diag(frame.cell)
    half = cKDTree(frame.positions % lengths, boxsize=lengths).query_pairs(cutoff, output_type="ndarray")
    pairs = np.concatenate([half, half[:, ::-1]])
    apart = frame.positions[pairs[:, 1]] - frame.positions[pairs[:, 0]]
    return np.column_stack([pairs, -np.rint(apart / lengths).astype(int)])


def naive_features(frame, codes, config, pairs):
    n, n_species = frame.n_atoms, len(config.species)
    r = naive.pair_lengths(frame, pairs)
    i, species = pairs[:, 0], codes[pairs[:, 1]]
    features = np.zeros((n, config.n_features))
    features[np.arange(n), codes] = 1
    if config.features == "densities":
        for w, width in enumerate(config.widths):
            terms = np.exp(-0.5 * (r / width) ** 2) / ((2 * np.pi) ** 1.5 * width**3)
            sums = np.bincount(i * n_species + species, terms, n * n_species)
            features[:, n_species * (1 + w) : n_species * (2 + w)] = sums.reshape(n, n_species)
        return features
    chosen = np.isin(species, [config.species.index(name) for name in config.target])
    counter = np.isin(species, [config.species.index(name) for name in config.counter])
    count = np.bincount(i[chosen], minlength=n)
    some = np.maximum(count, 1)
    mean = np.bincount(i[chosen], r[chosen], n) / some
    variance = np.bincount(i[chosen], (r[chosen] - mean[i[chosen]]) ** 2, n) / some
    share = count / np.maximum(np.bincount(i, minlength=n), 1)
    columns = (count, np.where(count, mean, config.cutoff), variance, share)
    features[:, n_species:] = np.column_stack([*columns, np.bincount(i[counter], minlength=n)])
    return features


def test_against_the_naive_way():
    """33,280 atoms, 94 neighbors each within 6 Å."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    torch.set_num_threads(1)
    frame = melt()
    codes = frame.species
    print(f"\n{MACHINE}; {len(frame):,} atoms")
    neighbor_graph(frame, cutoff=6.0)  # compiles
    graph = np.median(cpu_times(lambda: neighbor_graph(frame, cutoff=6.0), 7))
    pairs = naive_pairs(frame, 6.0)
    tree = min(cpu_times(lambda: naive_pairs(frame, 6.0), 2))
    assert neighbor_graph(frame, cutoff=6.0).n_edges == len(pairs)
    print(f"graph {graph * 1e3:6.1f} ms   k-d tree {tree * 1e3:6.0f} ms   {tree / graph:4.0f} times")
    for name in NETWORKS:
        network, weights = network_of(frame, name)
        config = network.config
        found = network(frame, codes).logits[0]
        ours = np.median(cpu_times(lambda net=network: net(frame, codes), 9))
        features = naive_features(frame, codes, config, pairs)
        made = min(cpu_times(lambda c=config: naive_features(frame, codes, c, pairs), 2))

        def forward(dtype, config=config, network=network, weights=weights, features=features):
            return naive.network_logits(config, network.scaling, weights, features, pairs, dtype)

        applied = min(cpu_times(lambda f=forward: f("float32"), 2))
        exact = forward("float64")
        error = np.abs(found - exact).max() / np.abs(exact).max()
        theirs = tree + made + applied
        print(
            f"{name:27} {ours * 1e3:6.1f} ms   naive {theirs * 1e3:6.0f} ms = {tree * 1e3:.0f} pairs + "
            f"{made * 1e3:.0f} features + {applied * 1e3:.0f} PyG   {theirs / ours:4.0f} times   "
            f"error {error:.0e}"
        )
        assert error < 5e-6


# From a frame to labels, with the checkpoints that ship -------------------------------------------

SHIPPED = scaled(
    ("segmentation/gat-v1",),
    ("segmentation/gat-3000K-v1", "segmentation/gcn-3000K-v1", "segmentation/gat-v1"),
)


def single(name):
    """The model of a checkpoint with its first network alone."""
    checkpoint = load_checkpoint(name)
    score = checkpoint.config["score"]
    fewer = {key: score[key][:1] for key in ("scale", "offset")}
    weights = {k: v for k, v in checkpoint.weights.items() if k.startswith(("feature.", "member0."))}
    config = {**checkpoint.config, "score": {**score, **fewer}}
    return SegmentationModel(Checkpoint("segmentation", name, config, weights, ranges=checkpoint.ranges))


def paper_features(frame, codes, config):
    """Pairs and features as the released code makes them: a loop over the atoms."""
    lengths, n_species = np.diag(frame.cell), len(config.species)
    positions = frame.positions % lengths
    tree = cKDTree(positions, boxsize=lengths)
    near = tree.query_ball_point(positions, config.cutoff)
    chosen = np.isin(codes, [config.species.index(name) for name in config.target])
    counter = np.isin(codes, [config.species.index(name) for name in config.counter])
    features = np.zeros((frame.n_atoms, config.n_features))
    features[np.arange(frame.n_atoms), codes] = 1
    i, j = [], []
    for atom, found in enumerate(near):
        others = np.array([k for k in found if k != atom])
        apart = positions[others] - positions[atom]
        distances = np.linalg.norm(apart - np.rint(apart / lengths) * lengths, axis=1)
        if config.features == "densities":
            for w, width in enumerate(config.widths):
                terms = np.exp(-0.5 * (distances / width) ** 2) / ((2 * np.pi) ** 1.5 * width**3)
                sums = np.bincount(codes[others], terms, n_species)
                features[atom, n_species * (1 + w) : n_species * (2 + w)] = sums
        else:
            r = distances[chosen[others]]
            values = (r.mean(), r.var()) if len(r) else (config.cutoff, 0.0)
            features[atom, -5:] = (len(r), *values, len(r) / max(len(others), 1), counter[others].sum())
        i.append(np.full(len(others), atom))
        j.append(others)
    pairs = np.column_stack([np.concatenate(i), np.concatenate(j)])
    return features, np.column_stack([pairs, np.zeros((len(pairs), 3), dtype=int)])


@pytest.mark.parametrize("name", SHIPPED)
def test_frame_to_labels(name):
    """One network of a checkpoint and all of them, with interface, distances and tables."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    torch.set_num_threads(1)
    frame, codes = melt(), melt().species
    one, whole = single(name), load_model(name)
    config = one.config
    weights = {
        k.removeprefix("member0."): v.copy() for k, v in one.checkpoint.weights.items() if "member0" in k
    }

    def labels(model):
        return model.fields(frame, model.score(frame))

    def theirs():
        features, pairs = paper_features(frame, codes, config)
        return naive.network_logits(config, one.scaling, weights, features, pairs, "float32").argmax(axis=1)

    labels(one), labels(whole)  # compiles
    ours = np.median(cpu_times(lambda: labels(one), 9))
    network = np.median(cpu_times(lambda: one.score(frame), 9))
    all_members = np.median(cpu_times(lambda: labels(whole), 5))
    naive_way = min(cpu_times(theirs, 1))
    print(
        f"\n{name:26} one network {ours * 1e3:5.1f} ms ({network * 1e3:.1f} without the interface), "
        f"{whole.n_members} networks {all_members * 1e3:5.1f} ms; naive {naive_way:.2f} s, "
        f"{naive_way / ours:.0f} times ({naive_way / network:.0f} without the interface)"
    )


def measure(replicas, name):
    """In a process of its own: CPU time from a frame to labels and tables, peak memory."""
    frame, model = melt(), single(name)
    model.fields(frame, model.score(frame))  # compiles
    frame = repeated(frame, replicas)
    times = cpu_times(lambda: model.fields(frame, model.score(frame)), 5 if len(frame) < 500_000 else 2)
    return {"atoms": len(frame), "first": times[0], "least": min(times), "peak": peak_memory()}


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
@pytest.mark.parametrize("name", SHIPPED)
def test_cost_per_atom(name):
    """One network of a checkpoint, from a frame to labels, at the sizes of REPLICAS."""
    for size, replicas in REPLICAS.items():
        found = run_apart(measure, replicas, name)
        print(
            f"\n{name:26} {size:5} first {found['first']:.2f} s, then {found['least']:.3f} s, "
            f"{found['least'] / found['atoms'] * 1e9:.0f} ns an atom, {found['peak'] / 1e9:.2f} GB"
        )
        assert found["atoms"] == np.prod(replicas) * len(melt())
