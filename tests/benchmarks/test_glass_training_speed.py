"""One epoch of training on windows against a plain one, in the same run, in CPU time on one thread.

    pytest tests/benchmarks/test_glass_training_speed.py -s

2000 windows of 6 to 18 σ out of 4320 particles in two dimensions: cut, neighbors, forward, backward
and Adam. The plain epoch takes one window after the other with NumPy, a k-d tree and torch's own gathers and
scatters, as PyTorch Geometric has them, and steps as often; some windows are timed and scaled up. Nothing is
asserted about time, but that both networks say the same.
"""

from __future__ import annotations

import platform
import time

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch.nn import functional

from benchmarks.measure import scaled
from phaseseg import Frame
from phaseseg.families.liquid_glass.crops import cells_of, crop_graphs, cut_crops, draw_crops
from phaseseg.families.liquid_glass.network import NODE_SHARE, GlassNetwork, glass_loss
from phaseseg.families.liquid_glass.settings import LENGTH_CENTERS, SCORE_BOUND, WINDOWS, GlassConfig

EDGE, N_ATOMS, BATCH, PLAIN, ROUNDS = 60.0, 4320, 16, scaled(16, 64), scaled(1, 3)
MANY = scaled(32, WINDOWS)
CENTERS = torch.tensor(LENGTH_CENTERS)


def plain_graph(frame, corner, share, k):
    """What the network takes of one window: x, edge index (from, to), reverse, edge features."""
    apart = (frame.positions[:, :2] / EDGE - corner) % 1.0
    inside = (apart < share).all(axis=1)
    positions, codes = apart[inside] * EDGE, frame.species[inside]
    near = cKDTree(positions).query(positions, k + 1)[1]
    n = len(positions)
    pairs = np.column_stack([np.repeat(np.arange(n), k), near[:, 1:].ravel()])
    keys = np.unique(np.concatenate([pairs[:, 0] * n + pairs[:, 1], pairs[:, 1] * n + pairs[:, 0]]))
    source, target = keys // n, keys % n
    reverse = np.searchsorted(keys, target * n + source)
    own = np.isin(keys, pairs[:, 0] * n + pairs[:, 1])
    length = np.linalg.norm(positions[source] - positions[target], axis=1)
    r = torch.from_numpy(length).float().clamp(CENTERS[0], CENTERS[-1])
    gaussians = torch.exp(-0.5 * ((r[:, None] - CENTERS) / (CENTERS[1] - CENTERS[0])) ** 2)
    mutual = torch.from_numpy(own & own[reverse]).float()
    x = torch.from_numpy(np.eye(2, dtype=np.float32)[codes])
    return x, *map(torch.from_numpy, (source, target, reverse)), torch.cat([gaussians, mutual[:, None]], 1)


def plain_logits(network, x, source, target, reverse, features):
    """The same layers, with torch's own gathers and scatters."""

    def attend(h):
        if not network.config.attention:
            return h
        score = SCORE_BOUND * torch.tanh(network.attention(h) / SCORE_BOUND)
        return h * len(h) * torch.softmax(score, dim=0)

    def head(layers, values):
        for layer in layers[:-1]:
            values = torch.relu(layer(values))
        return layers[-1](values)[..., 0]

    start = network.input(torch.cat([x[source], features], dim=1))
    h = torch.relu(start)
    for _ in range(network.config.steps - 1):
        weighted = attend(h)
        sums = torch.zeros(len(x), h.shape[1]).index_add(0, target, weighted)
        h = torch.relu(start + network.message(sums[source] - weighted[reverse]))
    sums = torch.zeros(len(x), h.shape[1]).index_add(0, target, attend(h))
    own = torch.relu(network.output(torch.cat([x, sums], dim=1)))
    return head(network.readout, own.mean(dim=0)), head(network.node, own)


@pytest.mark.parametrize("hidden", scaled([16], [32, 64]))
@pytest.mark.parametrize("attention", [False, True])
def test_an_epoch(hidden, attention):
    rng = np.random.default_rng(0)
    config = GlassConfig(hidden=hidden, attention=attention)
    frames = []
    for _ in range(8):
        positions = rng.random((N_ATOMS, 3)) * [EDGE, EDGE, 0]
        species = (rng.random(N_ATOMS) < 0.35).astype(int)
        frames.append(Frame(positions, [EDGE, EDGE, 1], [True, True, False], species, ("A", "B"), units="lj"))
    cells = cells_of(frames, [config.codes_of(frame) for frame in frames], 2)
    picks = draw_crops(cells, rng.integers(0, 8, MANY), rng, edge=config.window)
    glass = picks.cell % 2 == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        network = GlassNetwork(config)
        adam = torch.optim.Adam(network.parameters(), lr=0.0)  # weights stay for the comparison
        edges = 0

        def epoch(last=MANY):
            nonlocal edges
            edges = 0
            for first in range(0, last, BATCH):
                own = slice(first, first + BATCH)
                graphs = crop_graphs(cut_crops(cells, picks.take(own)), config)
                edges += len(graphs.edges.neighbors)
                adam.zero_grad()
                glass_loss(network(graphs), glass[own], graphs.starts).backward()
                adam.step()

        def plain_epoch():
            for first in range(0, PLAIN, BATCH):
                adam.zero_grad()
                for w in range(first, first + BATCH):
                    parts = plain_graph(frames[picks.cell[w]], picks.corner[w], picks.share[w], config.k)
                    logit, nodes = plain_logits(network, *parts)
                    label = torch.tensor(float(glass[w]))
                    each = functional.binary_cross_entropy_with_logits
                    loss = each(logit, label) + NODE_SHARE * each(nodes, label.expand(len(nodes)))
                    (loss / BATCH).backward()
                adam.step()

        epoch(BATCH)  # compiles
        with torch.no_grad():
            found = network(crop_graphs(cut_crops(cells, picks.take(slice(BATCH))), config)).graphs
            for w in range(BATCH):
                parts = plain_graph(frames[picks.cell[w]], picks.corner[w], picks.share[w], config.k)
                assert torch.allclose(found[w], plain_logits(network, *parts)[0], atol=1e-4)
        ours, plain = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            epoch()
            ours.append(time.process_time() - start)
            start = time.process_time()
            plain_epoch()
            plain.append((time.process_time() - start) * MANY / PLAIN)
    finally:
        torch.set_num_threads(threads)
    print(
        f"\nhidden {hidden}{', attention' * attention}: {config.n_parameters:,} weights; "
        f"{platform.machine()}, torch {torch.__version__}, CPU time\n"
        f"epoch of {MANY:,} windows, {edges:,} directed edges: "
        f"{min(ours):.2f} s; one window after the other {min(plain):.1f} s (scaled up from {PLAIN}), "
        f"{min(plain) / min(ours):.1f} times as long"
    )
