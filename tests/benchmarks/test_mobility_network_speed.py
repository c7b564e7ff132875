"""The message-passing network of the family mobility against the plain port, in the same run, in CPU time.

    PHASESEG_BENCHMARK=full pytest tests/benchmarks/test_mobility_network_speed.py -s

The plain port writes out the rows that each edge reads and multiplies them with NumPy, in float32; the plain
training is the same in PyTorch. Nothing is asserted about time: the tables are printed.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.measure import MACHINE, cpu_times, peak_memory, run_apart, scaled
from mobility_samples import liquid, random_checkpoint, random_weights
from naive.messages import message_network
from phaseseg import load_model
from phaseseg.families.mobility.inference import MessageNetwork
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.settings import TER, BapstConfig

SIZES = sorted(scaled({400}, {4096, 32_768}, {100_000}))
PLAIN = scaled(400, 4096)
NETWORKS = {"published": {}, "of the report": TER}


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_against_the_plain_port(name):
    config = BapstConfig(**NETWORKS[name])
    weights = random_weights(config, scale=0.5)
    network = MessageNetwork(config, [weights])
    small = liquid(200)
    network(message_graph(small, 2.0), small.species)  # compiles
    frame = liquid(PLAIN)
    made = min(cpu_times(lambda: message_graph(frame, config.cutoff), 5))
    graph = message_graph(frame, config.cutoff)
    ends = graph.receiver.astype(int), graph.sender.astype(int)
    ours = min(cpu_times(lambda: network(graph, frame.species), 7))

    def plain():
        return message_network(config, weights, frame.species, *ends, graph.vector, "float32")

    theirs = min(cpu_times(plain, 2))
    found, expected = network(graph, frame.species)[0], plain()
    error = np.abs(found - expected).max() / expected.std()
    print(
        f"\n{MACHINE}; {name}, {PLAIN:,} particles, {graph.n_edges:,} edges: ours {ours:.3f} s (graph "
        f"{made:.4f} s), plain port {theirs:.2f} s, {theirs / ours:.1f} times; largest difference "
        f"{error:.0e} of the spread of the output"
    )
    assert error < 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_training_against_plain_torch(name):
    torch = pytest.importorskip("torch")
    from phaseseg.families.mobility.network import BapstNetwork, GraphTensors

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BapstConfig(**NETWORKS[name])
    network, frame = BapstNetwork(config), liquid(PLAIN)
    graph = GraphTensors.of(message_graph(frame, config.cutoff), frame.species, config)
    with torch.no_grad():  # of an output that starts at zero, most gradients are zero
        network.decoder[-1].weight.normal_()
    target = torch.randn(len(frame), config.outputs)
    n, (receiver, sender) = graph.n_edges, (graph.receiver.long(), graph.sender.long())
    receiver, sender = receiver[:n], sender[:n]

    def rectified(layers, x):
        for layer in layers:
            x = torch.relu(layer(x))
        return x

    def plain():
        node = node0 = rectified(network.node_encoder, graph.types)
        edge = edge0 = rectified(network.edge_encoder, graph.vector[:n])
        for k in config.weights_of_round:
            nodes, edges = torch.cat([node, node0], 1), torch.cat([edge, edge0], 1)
            new = rectified(network.edge_rounds[k], torch.cat([edges, nodes[receiver], nodes[sender]], 1))
            read = new if config.update == "edges-first" else edges
            sums = torch.zeros(len(frame), read.shape[1]).index_add(0, receiver, read)
            edge, node = new, rectified(network.node_rounds[k], torch.cat([sums, nodes], 1))
        return network.decoder[-1](rectified(network.decoder[:-1], node))

    def step(function):
        network.zero_grad()
        loss = ((function() - target) ** 2).mean()
        loss.backward()
        return loss.item(), torch.cat([p.grad.ravel() for p in network.parameters() if p.grad is not None])

    (loss, gradient), (their_loss, their_gradient) = step(lambda: network(graph)), step(plain)
    ours = min(cpu_times(lambda: step(lambda: network(graph)), 4))
    theirs = min(cpu_times(lambda: step(plain), 2))
    print(
        f"\n{MACHINE}; {name}, {PLAIN:,} particles: a training step (forward and backward) {ours:.2f} s, or "
        f"{1 / ours:.2f} steps/s; plain PyTorch {theirs:.2f} s, {theirs / ours:.1f} times"
    )
    assert loss == pytest.approx(their_loss, rel=1e-4)
    assert (gradient - their_gradient).norm() < 1e-3 * their_gradient.norm()


def measure(n):
    """In a process of its own: CPU time from a frame to its fields, and memory."""
    model = load_model(random_checkpoint(rounds=7, width=64, hidden=64, cutoff=2.0, scale=0.3))
    model.predict(liquid(200))  # compiles
    frame, before = liquid(n), peak_memory()
    times = cpu_times(lambda: model.predict(frame), 2)
    return {"least": min(times), "before": before, "peak": peak_memory()}


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
def test_cost_per_particle():
    """From a frame to all fields; the published sizes."""
    for n in SIZES:
        found = run_apart(measure, n)
        print(
            f"\n{n:9,} particles: {found['least']:.2f} s, {found['least'] / n * 1e6:.0f} µs a particle; "
            f"{found['peak'] / 1e9:.2f} GB at most, {(found['peak'] - found['before']) / n / 1e3:.1f} kB each"
        )
