"""One epoch of training against plain PyG, in the same run, in CPU time on one thread.

    pytest tests/benchmarks/test_training_speed.py -s

200 frames of 520 atoms in batches of ten, forward, backward and Adam. Of PyG a few steps are timed and
scaled up. Nothing is asserted about time: the ratio is printed.
"""

from __future__ import annotations

import platform
import time
import warnings
from importlib.resources import as_file, files

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.measure import scaled
from phaseseg.families.segmentation.network import SegmentationNetwork
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.settings import RECIPE, NetworkConfig, Scaling
from phaseseg.io import read_frames
from phaseseg.neighbors import neighbor_graph
from phaseseg.nn.ops import Neighbors

SPECIES = ("Fe", "Mg", "Si", "O", "N")
N_FRAMES, BATCH, PYG_STEPS, ROUNDS = scaled((4, 2, 1, 1), (200, 10, 1, 3))
PAPER = {"features": "counts", "counter": ("Mg",), "hidden": 32, "heads": 4, "layers": 2, "readout": 0}
NETWORKS = {
    "paper's GAT, 10 -> 4 x 32 -> 2": {**PAPER, "architecture": "gat"},
    "paper's GCN, 10 -> 32 -> 2": {**PAPER, "architecture": "gcn"},
    "GraphConv, 10 -> 32 -> 2": {**PAPER, "architecture": "graphconv"},
    "recipe": dict(RECIPE),
}


class Plain(nn.Module):
    """The same network from PyG's layers."""

    def __init__(self, config, pyg):
        super().__init__()
        made = {
            "gat": lambda i, h, c: pyg.GATConv(i, c, h),
            "gcn": lambda i, h, c: pyg.GCNConv(i, c),
            "graphconv": lambda i, h, c: pyg.GraphConv(i, c),
        }[config.architecture]
        self.layers = nn.ModuleList(made(*shape) for shape in config.layer_shapes)
        self.readout = config.readout
        if config.readout:
            width = config.n_features + sum(h * c for _, h, c in config.layer_shapes)
            self.head = nn.Sequential(
                nn.Linear(width, config.readout), nn.ReLU(), nn.Linear(config.readout, config.outputs)
            )

    def forward(self, x, edges):
        seen = [x]
        for k, layer in enumerate(self.layers):
            x = layer(x, edges)
            x = torch.relu(x) if self.readout or k < len(self.layers) - 1 else x
            seen.append(x)
        return self.head(torch.cat(seen, dim=1)) if self.readout else x


@pytest.fixture(scope="module")
def pyg():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch_geometric.nn")


@pytest.fixture(scope="module")
def frames():
    with as_file(files("phaseseg") / "demo" / "melt_small_3000K.dump.gz") as path:
        found = list(read_frames(path, types=SPECIES))
    return [found[k % len(found)] for k in range(N_FRAMES)]


def step(network, optimizer, x, edges, labels):
    optimizer.zero_grad()
    z = network(x, edges)
    nn.functional.binary_cross_entropy_with_logits(z[:, 1] - z[:, 0], labels).backward()
    optimizer.step()


@pytest.mark.parametrize("name", NETWORKS)
def test_an_epoch(name, frames, pyg):
    config = NetworkConfig(SPECIES, ("Fe",), **NETWORKS[name])
    graphs = {id(frame): neighbor_graph(frame, cutoff=6.0) for frame in frames}
    features = {id(frame): node_features(frame, frame.species, config) for frame in frames}
    scaling = Scaling.of(np.concatenate(list(features.values())))
    prepared = {
        key: (
            Neighbors(graph.indptr, graph.neighbors),
            torch.from_numpy(scaling.apply(features[key])),
            torch.from_numpy((graph.frame.species == 0).astype(np.float32)),
        )
        for key, graph in graphs.items()
    }
    parts = [prepared[id(frame)] for frame in frames]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        ours, theirs = SegmentationNetwork(config), Plain(config, pyg)
        adam, their_adam = (torch.optim.Adam(network.parameters()) for network in (ours, theirs))

        def joined(first):
            chosen = parts[first : first + BATCH]
            return (Neighbors.join([n for n, _, _ in chosen]), torch.cat([x for _, x, _ in chosen]),
                    torch.cat([labels for _, _, labels in chosen]))  # fmt: skip

        def epoch():
            for first in range(0, N_FRAMES, BATCH):
                neighbors, x, labels = joined(first)
                step(ours, adam, x, neighbors, labels)

        # Their batch is made before: joining is not counted.
        neighbors, x, labels = joined(0)
        centers = np.repeat(np.arange(neighbors.n_atoms), np.diff(neighbors.indptr))
        edges = torch.from_numpy(np.stack([neighbors.neighbors.astype(np.int64), centers]))

        def plain_steps():
            for _ in range(PYG_STEPS):
                step(theirs, their_adam, x, edges, labels)

        step(ours, adam, x, neighbors, labels)  # compiles
        step(theirs, their_adam, x, edges, labels)
        own, plain = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            epoch()
            own.append(time.process_time() - start)
            start = time.process_time()
            plain_steps()
            plain.append((time.process_time() - start) * N_FRAMES / BATCH / PYG_STEPS)
    finally:
        torch.set_num_threads(threads)
    machine = f"{platform.machine()}, torch {torch.__version__}, CPU time"
    print(f"\n{name}: {config.n_parameters:,} weights; {machine}")
    print(
        f"epoch of {N_FRAMES} x {len(frames[0])} atoms, {len(edges[0]) / len(x):.0f} neighbors each: "
        f"{min(own):.2f} s; plain PyG {min(plain):.1f} s (scaled up from {PYG_STEPS} of {N_FRAMES // BATCH} "
        f"steps), {min(plain) / min(own):.0f} times as long"
    )
