"""Compute the logits of a network from graphs or images: float32, without torch.

The message-passing network keeps one row for each directed edge. The message of an edge needs the row of its
reverse and sums over the edges at particles. Both directions of a pair are therefore updated together and in
place, and every step repeats the product of edge inputs and weights, together with that of the message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.dense import dense, padded_columns, padded_row, whole_registers
from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, load, splat, spread, store, total
from phaseseg.compiled.threads import for_each, in_parts, parts_by_size
from phaseseg.families.liquid_glass.crops import Graphs
from phaseseg.families.liquid_glass.settings import SCORE_BOUND, GlassConfig
from phaseseg.nn.model import check_weights

_BOUND = np.float32(SCORE_BOUND)

Floats = NDArray[np.float32]

# Rows multiplied at a time, so that inputs and outputs stay in the cache. A multiple of 8.
CHUNK = 512
# Rows are multiplied in blocks of eight, which may extend beyond the last row.
_SPARE = 8
_NOTHING = np.zeros(0, dtype=np.float32)
# A convolution may read up to this many numbers beyond the end of an image.
_SPARE_PIXELS = 3 * WIDTH


@dataclass(frozen=True, eq=False)
class GlassOutput:
    """Outputs of the members of an ensemble for a batch of graphs.

    graphs : (n_members, n_graphs) float32, logits of glass
    nodes : (n_members, n) float32, logits of glass of the particles; None for images
    attention : (n_members, n_edges) float32, weights of the directed edges in the last sum at each particle,
        with mean 1 in each graph; None without attention
    """

    graphs: Floats
    nodes: Floats | None = None
    attention: Floats | None = None


# Kernels ------------------------------------------------------------------------------------------


@jit
def _start(first, stop, inputs, weight, bias, h):
    """h = max(0, inputs @ weight + bias) for some chunks of rows."""
    n, width = inputs.shape
    rows = np.zeros((CHUNK, width), dtype=np.float32)
    for begin in range(first * CHUNK, stop * CHUNK, CHUNK):
        m = min(CHUNK, n - begin)
        for i in range(m):
            for c in range(width):
                rows[i, c] = inputs[begin + i, c]
        dense(rows, 0, width, weight, bias, h, begin * h.shape[1], m, False, True)


@jit
def _scores(first, stop, h, weight, scores):
    """scores[e] = c tanh(weight . h[e] / c)."""
    wide = h.shape[1]
    for e in range(first, stop):
        s = load(h, e * wide) * load(weight, 0)
        for c in range(WIDTH, wide, WIDTH):
            s = s + load(h, e * wide + c) * load(weight, c)
        scores[e] = _BOUND * np.float32(np.tanh(total(s) / _BOUND))


@jit
def _softmax(first_graph, stop_graph, starts, scores):
    """Replace the scores of the edges of each graph by their softmax times the number of edges."""
    for graph in range(first_graph, stop_graph):
        first, stop = starts[graph], starts[graph + 1]
        top = np.float32(-np.inf)
        for e in range(first, stop):
            top = max(top, scores[e])
        mass = 0.0
        for e in range(first, stop):
            weight = np.exp(scores[e] - top)
            scores[e] = weight
            mass += weight
        for e in range(first, stop):
            scores[e] *= np.float32((stop - first) / mass)


@jit
def _sum(first, stop, indptr, h, weights, sums):
    """sums[v] = sum of weights times h over the edges that lead to v; empty weights count as ones."""
    wide, weighted = h.shape[1], weights.size > 0
    one = splat(np.float32(1))
    for v in range(first, stop):
        for c in range(0, wide, WIDTH):
            s = splat(np.float32(0))
            for e in range(indptr[v], indptr[v + 1]):
                s = s + load(h, e * wide + c) * (splat(weights[e]) if weighted else one)
            store(sums, v * wide + c, s)


@jit
def _step(first_chunk, stop_chunk, pairs, source, reverse, inputs, weights, sums, weight, bias, h):
    """Update h of both directions of every pair in some chunks of pairs.

    pairs : (n_pairs,) one direction of each; weights : attention, or empty
    weight : (inputs + hidden, columns), for the inputs of an edge and the messages to its source
    """
    width, wide, length = inputs.shape[1], h.shape[1], inputs.shape[1] + h.shape[1]
    rows, after = np.zeros((CHUNK, length), dtype=np.float32), np.empty((CHUNK, wide), dtype=np.float32)
    hidden = weight.shape[0] - width
    weighted = weights.size > 0
    one = splat(np.float32(1))
    n = pairs.size
    for first in range(first_chunk * (CHUNK // 2), stop_chunk * (CHUNK // 2), CHUNK // 2):
        stop = min(first + CHUNK // 2, n)
        row = 0
        for p in range(first, stop):
            e = pairs[p]
            for _ in range(2):
                back = reverse[e]
                for c in range(width):
                    rows[row, c] = inputs[e, c]
                a = splat(weights[back]) if weighted else one
                at, to, own = np.int64(source[e]) * wide, row * length + width, np.int64(back) * wide
                for c in range(0, wide, WIDTH):
                    store(rows, to + c, load(sums, at + c) - a * load(h, own + c))
                row += 1
                e = back
        dense(rows, 0, width + hidden, weight, bias, after, 0, row, False, True)
        row = 0
        for p in range(first, stop):
            e = pairs[p]
            for _ in range(2):
                for c in range(0, wide, WIDTH):
                    store(h, np.int64(e) * wide + c, load(after, row * wide + c))
                row += 1
                e = reverse[e]


@jit
def _finish(first_chunk, stop_chunk, nodes, sums, output, first, second, logits):
    """Replace the sums of particles by their states, and compute their logits, for some chunks of particles.

    output : weight and bias from the features and sum of a particle to its state; first, second : layers of
        the head of the particles
    """
    weight, bias = output
    last, last_bias = second
    n, width, wide, length = nodes.shape[0], nodes.shape[1], sums.shape[1], nodes.shape[1] + sums.shape[1]
    hidden = weight.shape[0] - width
    rows, own = np.zeros((CHUNK, length), dtype=np.float32), np.empty((CHUNK, wide), dtype=np.float32)
    middle = np.empty_like(own)
    for begin in range(first_chunk * CHUNK, stop_chunk * CHUNK, CHUNK):
        m = min(CHUNK, n - begin)
        for i in range(m):
            for c in range(width):
                rows[i, c] = nodes[begin + i, c]
            for c in range(0, wide, WIDTH):
                store(rows, i * length + width + c, load(sums, (begin + i) * wide + c))
        dense(rows, 0, width + hidden, weight, bias, own, 0, m, False, True)
        dense(own, 0, hidden, first[0], first[1], middle, 0, m, False, True)
        for i in range(m):
            for c in range(0, wide, WIDTH):
                store(sums, (begin + i) * wide + c, load(own, i * wide + c))
            s = load(middle, i * wide) * load(last, 0)
            for c in range(WIDTH, wide, WIDTH):
                s = s + load(middle, i * wide + c) * load(last, c)
            logits[begin + i] = total(s) + last_bias


@jit
def _means(first, stop, starts, states, means):
    """The mean of the states of the particles in each graph, float64."""
    for graph in range(first, stop):
        for i in range(starts[graph], starts[graph + 1]):
            for c in range(states.shape[1]):
                means[graph, c] += states[i, c]
        for c in range(states.shape[1]):
            means[graph, c] /= starts[graph + 1] - starts[graph]


def _in_chunks(kernel: Callable[..., None], n: int, chunk: int, *args: Any) -> None:
    """Call `kernel(first, stop, *args)` for all chunks of n rows."""
    in_parts(kernel, -(-n // chunk), *args, least=2)


# Weights ------------------------------------------------------------------------------------------


def _dense_layer(weights: Mapping[str, NDArray[Any]], name: str) -> tuple[Floats, Floats]:
    return padded_columns(weights[f"{name}.weight"]), padded_row(weights[f"{name}.bias"])


class _Member:
    def __init__(self, config: GlassConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self.start = padded_columns(weights["input.weight"])
        # A network of one step has no messages.
        keys = [key for key in ("input.weight", "message.weight") if key in weights]
        self.step = padded_columns(np.concatenate([weights[key] for key in keys], axis=1))
        self.bias = padded_row(weights["input.bias"])
        self.attention = padded_row(weights["attention.weight"][0]) if config.attention else _NOTHING
        self.output, self.node = _dense_layer(weights, "output"), _dense_layer(weights, "node.0")
        self.last = padded_row(weights["node.1.weight"][0]), np.float32(weights["node.1.bias"][0])
        self.readout = [_dense_layer(weights, f"readout.{i}") for i in range(config.ffn_layers)]

    def __call__(
        self, graphs: Graphs, pairs: NDArray[np.int32], of_graphs: Floats, of_nodes: Floats, attention: Floats
    ) -> None:
        """Fill the last three arrays; the last is empty without attention."""
        config, edges = self.config, graphs.edges
        n, n_edges, wide = len(graphs.nodes), len(edges.neighbors), whole_registers(config.hidden)
        h = borrow((n_edges + _SPARE, wide), np.float32)
        sums = borrow((n, wide), np.float32)
        starts = graphs.edge_starts
        _in_chunks(_start, n_edges, CHUNK, graphs.inputs, self.start, self.bias, h)
        for step in range(1, config.steps + 1):
            if config.attention:
                in_parts(_scores, n_edges, h, self.attention, attention)
                for_each(lambda part: _softmax(*part, starts, attention), parts_by_size(starts))
            in_parts(_sum, n, edges.indptr, h, attention, sums)
            if step < config.steps:
                of_pairs = edges.neighbors, edges.reverse, graphs.inputs, attention, sums
                weights = self.step, self.bias
                _in_chunks(_step, len(pairs), CHUNK // 2, pairs, *of_pairs, *weights, h)
        layers = self.output, self.node, self.last
        _in_chunks(_finish, n, CHUNK, graphs.nodes, sums, *layers, of_nodes)
        means = np.zeros((graphs.n_graphs, wide))
        in_parts(_means, graphs.n_graphs, graphs.starts, sums, means, least=1)
        of_graphs[:] = self._head(means.astype(np.float32))

    def _head(self, x: Floats) -> Floats:
        """(n_graphs,) logits from the means."""
        n = len(x)
        x = np.concatenate([x, np.zeros((_SPARE, x.shape[1]), dtype=np.float32)])
        for number, (weight, bias) in enumerate(self.readout, start=1):
            out = np.empty((len(x), weight.shape[1]), dtype=np.float32)
            dense(x, 0, weight.shape[0], weight, bias, out, 0, n, False, number < len(self.readout))
            x = out
        return x[:n, 0]


# Network ------------------------------------------------------------------------------------------


class Network:
    """An ensemble of message-passing networks with the same settings.

    members : weights of each by name; a ValueError unless they match `config.weight_shapes()`
    """

    def __init__(self, config: GlassConfig, members: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        check_weights(config.weight_shapes(), members)
        self.config = config
        self._members = [_Member(config, weights) for weights in members]

    def __call__(self, graphs: Graphs) -> GlassOutput:
        """Return logits of graphs and of their particles, and the attention of the edges.

        A particle without edges gets its logit from its kind alone.
        """
        edges = graphs.edges
        n_members, n_edges = len(self._members), len(edges.neighbors)
        pairs = np.flatnonzero(np.arange(n_edges) < edges.reverse).astype(np.int32)
        of_graphs = np.empty((n_members, graphs.n_graphs), dtype=np.float32)
        of_nodes = borrow((n_members, len(graphs.nodes)), np.float32)
        attention = borrow((n_members, n_edges if self.config.attention else 0), np.float32)
        for m, member in enumerate(self._members):
            member(graphs, pairs, of_graphs[m], of_nodes[m], attention[m])
        return GlassOutput(of_graphs, of_nodes, attention if self.config.attention else None)


# Images -------------------------------------------------------------------------------------------


def image_logits(weights: Mapping[str, Floats], images: Floats, config: GlassConfig) -> Floats:
    """Logits of glass (n,) float32 for images (n, 3, size, size) float32, equal to those of `ImageNetwork`.

    weights : of one member, with the names of `config.weight_shapes()`
    """
    n, size = len(images), images.shape[-1]
    if images.shape[1:] != (3, size, size) or (size != config.image_size and not config.global_average):
        raise ValueError(
            f"the network takes images of {config.image_size} x {config.image_size} pixels in three colors, "
            f"found an array of shape {images.shape}."
        )
    sizes = [size]
    for kernel in config.kernel_sizes:
        sizes.append((sizes[-1] - kernel + 1) // config.pool)
    edge = sizes[-1]
    if edge < 1:
        raise ValueError(f"images of {size} x {size} pixels are too small for the kernels of the network.")
    layers = [_layer(weights, name, i) for i, name in enumerate(("convolution1", "convolution2", "dense"), 1)]
    (first, first_bias), (second, second_bias), (matrix, bias) = layers
    outputs = len(second)
    taps = [_taps(first), _taps(second)]
    found = np.empty((n, outputs * edge * edge), dtype=np.float32)
    one, two = config.kernel_sizes

    def convolve(k: int) -> None:
        image = np.zeros(images[k].size + _SPARE_PIXELS, dtype=np.float32)
        hidden = np.zeros(len(first) * sizes[1] ** 2 + _SPARE_PIXELS, dtype=np.float32)
        line = np.empty(2 * (size + 2 * WIDTH), dtype=np.float32)
        image[: images[k].size] = images[k].ravel()
        _convolve(image, size, taps[0], first_bias, one, config.pool, line, hidden)
        _convolve(hidden, sizes[1], taps[1], second_bias, two, config.pool, line, found[k])

    for_each(convolve, range(n))
    if config.global_average:
        found = found.reshape(n, outputs, edge * edge).mean(axis=2)
    dense = np.maximum(found @ matrix.T + bias, 0)
    logits: Floats = (dense @ weights["output.weight"].T + weights["output.bias"])[:, 0]
    return logits


def _layer(weights: Mapping[str, Floats], name: str, number: int) -> tuple[Floats, Floats]:
    """Weight and bias of a layer, with its normalization folded in."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if f"normalization{number}.mean" not in weights:
        return weight, bias
    mean, scale = (weights[f"normalization{number}.{part}"] for part in ("mean", "scale"))
    if name == "dense":  # here the inputs are normalized, not the outputs
        return weight * scale, bias - weight @ (mean * scale)
    return weight * scale[:, None, None, None], (bias - mean) * scale


def _taps(weight: Floats) -> Floats:
    """Flat (pairs of outputs, inputs, rows, columns, 2); an odd number of outputs is padded with zeros."""
    outputs = len(weight)
    paired = np.zeros((outputs + outputs % 2, *weight.shape[1:]), dtype=np.float32)
    paired[:outputs] = weight
    pairs = paired.reshape(-1, 2, *weight.shape[1:])
    return np.ascontiguousarray(np.moveaxis(pairs, 1, -1)).ravel()


@jit
def _convolve(image, size, taps, bias, kernel, pool, line, out):
    """Convolve without padding, rectify, and average each `pool` x `pool` outputs.

    image : flat (inputs, size, size), with some extra numbers at the end; taps : from `_taps`
    line : buffer for two lines of outputs, each with `2 * WIDTH` to spare; out : flat (outputs, edge, edge)
    """
    outputs, edge = bias.size, (size - kernel + 1) // pool
    inputs = taps.size // ((outputs + 1) // 2 * 2 * kernel * kernel)
    stride = line.size // 2
    zero, share = np.float32(0), np.float32(1 / (pool * pool))
    for pair in range((outputs + 1) // 2):
        for row in range(edge):
            for part in range(pool):
                # Two outputs at 2 * WIDTH places stay in registers during the sum over inputs.
                for x in range(0, edge * pool, 2 * WIDTH):
                    a, b, c, d = splat(zero), splat(zero), splat(zero), splat(zero)
                    tap = pair * inputs * kernel * kernel * 2
                    for i in range(inputs):
                        for ky in range(kernel):
                            at = (i * size + row * pool + part + ky) * size + x
                            for kx in range(kernel):
                                left, right = load(image, at + kx), load(image, at + kx + WIDTH)
                                first, second = spread(taps, tap), spread(taps, tap + 1)
                                a = a + first * left
                                b = b + first * right
                                c = c + second * left
                                d = d + second * right
                                tap += 2
                    store(line, x, a)
                    store(line, x + WIDTH, b)
                    store(line, stride + x, c)
                    store(line, stride + x + WIDTH, d)
                for second in range(2):
                    o = 2 * pair + second
                    if o == outputs:
                        continue
                    for column in range(edge):
                        mean = zero
                        for k in range(pool):
                            mean += max(line[second * stride + column * pool + k] + bias[o], zero)
                        to = (o * edge + row) * edge + column
                        out[to] = mean * share + (out[to] if part > 0 else zero)
