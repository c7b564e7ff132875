"""Networks of liquid and glass against the naive way to apply them, in the same run, in CPU time.

    pytest tests/benchmarks/test_glass_inference_speed.py -s
    PHASESEG_BENCHMARK=large pytest tests/benchmarks/test_glass_inference_speed.py -s     (1 M particles)

The naive way: neighbors from scipy's k-d tree, edges made symmetric by sorting, messages with index_add in
PyTorch in float32. Nothing is asserted about time: the table is printed.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks.measure import MACHINE, cpu_times, peak_memory, run_apart, scaled
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.inference import Network
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.families.liquid_glass.settings import LENGTH_CENTERS, SCORE_BOUND
from samples import disordered_mixture, random_glass_checkpoint

SIZES = sorted(scaled({400}, {4320, 100_000}, {1_000_000}))
NETWORKS = {
    "2D, k = 2": {"k": 2}, "2D, k = 2, attention": {"k": 2, "attention": True},
    "3D, k = 4, attention": {"k": 4, "dimensions": 3, "attention": True},
}  # fmt: skip


def model_of(name):
    """One network of the widths that are trained: 64 numbers on an edge, three steps."""
    return GlassModel(random_glass_checkpoint(hidden=64, steps=3, **NETWORKS[name]))


def frame_of(name, n):
    return disordered_mixture(n, NETWORKS[name].get("dimensions", 2))


# The naive way ------------------------------------------------------------------------------------


def naive_graph(frame, config):
    """Directed edges from a k-d tree, sorted: from, to, reverse, length, mutual. Large upright cells only."""
    d, lengths = config.dimensions, np.diag(frame.cell)[: config.dimensions]
    points = frame.positions[:, :d] % lengths
    r, j = cKDTree(points, boxsize=lengths).query(points, config.k + 1)
    n, i = len(points), np.repeat(np.arange(len(points)), config.k)
    chosen = i * n + j[:, 1:].ravel()
    both = np.concatenate([chosen, j[:, 1:].ravel() * n + i])
    key, first = np.unique(both, return_index=True)
    start, end = key // n, key % n
    reverse = np.searchsorted(key, end * n + start)
    one = np.isin(key, chosen)
    return start, end, reverse, np.tile(r[:, 1:].ravel(), 2)[first], one & one[reverse]


def naive_network(frame, config, weights, graph):
    """The formulas with whole arrays in torch."""
    import torch
    from torch.nn.functional import linear

    w = {name: torch.from_numpy(values) for name, values in weights.items()}
    start, end, reverse, length, mutual = graph
    n, n_edges = len(frame), len(start)
    x = torch.from_numpy(np.eye(2, dtype="f4")[frame.species])
    centers = np.array(LENGTH_CENTERS)
    z = (np.clip(length, centers[0], centers[-1])[:, None] - centers) / (centers[1] - centers[0])
    e = np.concatenate([np.exp(-0.5 * z**2), mutual[:, None]], axis=1).astype("f4")
    start, end, reverse = (torch.from_numpy(values) for values in (start, end, reverse))
    known = linear(torch.cat([x[start], torch.from_numpy(e)], dim=1), w["input.weight"], w["input.bias"])
    h = torch.relu(known)

    def weighted(h):
        if not config.attention:
            return h
        score = SCORE_BOUND * torch.tanh(h @ w["attention.weight"][0] / SCORE_BOUND)
        return n_edges * torch.softmax(score, 0)[:, None] * h

    for _ in range(config.steps - 1):
        ah = weighted(h)
        sums = torch.zeros(n, h.shape[1]).index_add(0, end, ah)
        h = torch.relu(known + linear(sums[start] - ah[reverse], w["message.weight"]))
    sums = torch.zeros(n, h.shape[1]).index_add(0, end, weighted(h))
    own = torch.relu(linear(torch.cat([x, sums], dim=1), w["output.weight"], w["output.bias"]))
    node = torch.relu(linear(own, w["node.0.weight"], w["node.0.bias"]))
    whole = own.mean(dim=0)
    for i in range(config.ffn_layers):
        whole = torch.relu(whole) if i else whole
        whole = linear(whole, w[f"readout.{i}.weight"], w[f"readout.{i}.bias"])
    return linear(node, w["node.1.weight"], w["node.1.bias"])[:, 0].numpy(), float(whole[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_against_the_naive_way(name):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = model_of(name)
    config, weights = model.config, {k: v.copy() for k, v in model.members[0].items()}
    network = Network(config, [weights])
    network(graph_of(frame_of(name, 1000), config))  # compiles
    print(f"\n{MACHINE}; {name}")
    for n in SIZES:
        frame = frame_of(name, n)
        repeats = 5 if n < 50_000 else 2
        made = min(cpu_times(lambda f=frame: graph_of(f, config), repeats))
        graphs = graph_of(frame, config)
        applied = min(cpu_times(lambda g=graphs: network(g), repeats))
        found = network(graphs)
        with torch.inference_mode():
            theirs_made = min(cpu_times(lambda f=frame: naive_graph(f, config), min(repeats, 2)))
            graph = naive_graph(frame, config)
            theirs = min(cpu_times(lambda f=frame, g=graph: naive_network(f, config, weights, g), repeats))
            nodes, _ = naive_network(frame, config, weights, graph)
        assert len(graph[0]) == len(graphs.edges.neighbors)
        error = np.abs(found.nodes[0] - nodes).max() / np.abs(nodes).max()
        print(
            f"{n:9,} particles  ours {made + applied:7.3f} s = {made:.3f} graph + {applied:.3f} network "
            f"({(made + applied) / n * 1e6:.1f} µs a particle)   naive {theirs_made + theirs:7.3f} s = "
            f"{theirs_made:.3f} + {theirs:.3f}   {(theirs_made + theirs) / (made + applied):4.1f} times   "
            f"error {error:.0e}"
        )
        assert error < 1e-3  # sums of torch's float32 softmax


# Memory -------------------------------------------------------------------------------------------


def measure(name, n):
    """In a process of its own: CPU time from a frame to its fields, peak memory."""
    model = model_of(name)
    model.predict(frame_of(name, 1000))  # compiles
    frame = frame_of(name, n)
    before = peak_memory()
    times = cpu_times(lambda: model.predict(frame), 2)
    return {"first": times[0], "least": min(times), "before": before, "peak": peak_memory()}


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
@pytest.mark.parametrize("name", NETWORKS)
def test_cost_per_particle(name):
    """From a frame to all fields, bonds and attention graphs included."""
    for n in SIZES[-2:] if len(SIZES) > 2 else SIZES[-1:]:
        found = run_apart(measure, name, n)
        print(
            f"\n{name:22} {n:9,} particles: first {found['first']:.2f} s, then {found['least']:.2f} s, "
            f"{found['least'] / n * 1e6:.1f} µs a particle; {found['before'] / 1e9:.2f} GB before, "
            f"{found['peak'] / 1e9:.2f} GB at most, {(found['peak'] - found['before']) / n:.0f} bytes each"
        )
