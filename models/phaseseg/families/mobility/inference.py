"""The message-passing network in float32, without torch: see `message_kernels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.dense import TILE_ROWS, padded_columns, padded_row, whole_tiles
from phaseseg.compiled.threads import for_each, in_parts, parts_of
from phaseseg.families.mobility.message_graph import MessageGraph
from phaseseg.families.mobility.message_kernels import (
    add_rows,
    divided,
    encode_edges,
    known_of_edges,
    renew_edges,
    sum_edges,
)
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.nn.model import check_weights
from phaseseg.specs import Progress

Floats = NDArray[np.float32]
_NOTHING = np.zeros((0, 0), dtype=np.float32)
# Tiles of rows in a part, at least.
TILES = 64


class _Dense(NamedTuple):
    """A layer: (inputs, columns) weights, and the bias, columns padded to whole registers."""

    weight: Floats
    bias: Floats


def _layer(weights: Mapping[str, NDArray[Any]], name: str) -> _Dense:
    return _Dense(padded_columns(weights[f"{name}.weight"]), padded_row(weights[f"{name}.bias"]))


class _Round:
    """The weights of a round, apart for each of the inputs."""

    def __init__(self, config: BapstConfig, weights: Mapping[str, NDArray[Any]], number: int) -> None:
        def parts(name: str) -> list[Floats]:
            matrix = weights[f"{name}.weight"]
            return [
                padded_columns(matrix[:, k : k + config.width])
                for k in range(0, matrix.shape[1], config.width)
            ]

        first = f"edge_rounds.{number}.0"
        self.edge, self.edge0, self.receiver, self.receiver0, self.sender, self.sender0 = parts(first)
        self.edge_bias = padded_row(weights[f"{first}.bias"])
        self.edge_last = _layer(weights, f"edge_rounds.{number}.1")
        first = f"node_rounds.{number}.0"
        self.sums, *self.sums0, self.node, self.node0 = parts(first)
        self.node_bias = padded_row(weights[f"{first}.bias"])
        self.node_last = _layer(weights, f"node_rounds.{number}.1")


class _Member:
    def __init__(self, config: BapstConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self.edge_encoder = [_layer(weights, f"edge_encoder.{k}") for k in range(2)]
        self.node_encoder = [_layer(weights, f"node_encoder.{k}") for k in range(2)]
        self.rounds = [_Round(config, weights, k) for k in dict.fromkeys(config.weights_of_round)]
        self.decoder = [_layer(weights, f"decoder.{k}") for k in range(config.decoder_layers + 1)]

    def __call__(self, graph: _Padded, progress: Progress) -> Floats:
        """(n_atoms, outputs)"""
        config, n, m = self.config, graph.n_atoms, graph.n_edges
        rows = whole_tiles(n)
        one = self.rounds[0]
        wide, tall = len(self.edge_encoder[1].bias), len(one.edge_bias)
        edges = borrow((len(graph.sender), wide), np.float32)
        known = borrow((len(graph.sender), tall), np.float32)
        n_tiles = len(edges) // TILE_ROWS
        parts = parts_of(n_tiles, TILES)
        in_parts(
            encode_edges, n_tiles, graph.vector, *self.edge_encoder[0], *self.edge_encoder[1], edges,
            least=TILES,
        )  # fmt: skip
        encoded = edges.copy() if config.own_weights else edges
        nodes = encoded_nodes = _applied(self.node_encoder, graph.types)
        last_first = config.update == "edges-first"
        sums0, sums = np.zeros((rows, wide), dtype=np.float32), np.zeros((rows, wide), dtype=np.float32)
        if not last_first:
            in_parts(sum_edges, n, graph.indptr, edges, sums0)
        for number, of_round in enumerate(config.weights_of_round):
            progress(number / config.rounds, f"round {number + 1} of {config.rounds}")
            w, last = self.rounds[of_round], number == config.rounds - 1
            if number == 0 or config.own_weights:
                if last_first or not last:
                    in_parts(known_of_edges, n_tiles, encoded, w.edge0, w.edge_bias, known, least=TILES)
                to0, own0 = _added(encoded_nodes, w.receiver0), _added(encoded_nodes, w.sender0)
                constant = _added(encoded_nodes, w.node0, w.node_bias)
                for matrix in w.sums0:
                    constant = _added(sums0, matrix, constant)

            def renewed_edges(
                nodes: Floats, into: Floats, w: _Round = w, to0: Floats = to0, own0: Floats = own0
            ) -> None:
                of_receiver, of_sender = _added(nodes, w.receiver, to0), _added(nodes, w.sender, own0)
                ends = graph.receiver, graph.sender, m
                weights = w.edge, *w.edge_last
                for_each(
                    lambda part: renew_edges(
                        *part, *ends, known, of_receiver, of_sender, *weights, edges, edges, into
                    ),
                    parts,
                )
                for i in divided(graph.receiver, parts) if len(into) else ():
                    sum_edges(i, i + 1, graph.indptr, edges, into)

            before = nodes
            if last_first:
                sums[:] = 0
                renewed_edges(before, sums)
            else:
                in_parts(sum_edges, n, graph.indptr, edges, sums)
            inside = _added(before, w.node, _added(sums, w.sums, constant), rectify=True)
            nodes = _added(inside, *w.node_last, rectify=True)
            if not last_first and not last:
                renewed_edges(nodes if config.update == "nodes-first" else before, _NOTHING)
        out = _applied(self.decoder, nodes, last_linear=True)
        return np.ascontiguousarray(out[:n, : config.outputs], dtype=np.float32)


def _added(x: Floats, weight: Floats, base: Floats | None = None, *, rectify: bool = False) -> Floats:
    """base + x @ weight, then max(0, .) if `rectify`; the base is 0, one row, or a row for each of x."""
    columns = weight.shape[1]
    if base is None:
        base = np.zeros(columns, dtype=np.float32)
    out = np.empty((len(x), columns), dtype=np.float32)
    stride = columns if base.ndim == 2 else 0
    in_parts(add_rows, len(x) // TILE_ROWS, x, weight, base.ravel(), stride, out, rectify, least=TILES)
    return out


def _applied(layers: Sequence[_Dense], x: Floats, *, last_linear: bool = False) -> Floats:
    for number, layer in enumerate(layers, start=1):
        x = _added(x, *layer, rectify=not (last_linear and number == len(layers)))
    return x


class _Padded:
    """A graph with its arrays padded to whole tiles, and the inputs of the particles."""

    def __init__(self, graph: MessageGraph, codes: NDArray[np.integer[Any]], config: BapstConfig) -> None:
        self.indptr, self.n_atoms, self.n_edges = graph.indptr, graph.n_atoms, graph.n_edges
        rows = whole_tiles(graph.n_edges)
        self.receiver, self.sender = np.zeros((2, rows), dtype=np.int32)
        self.vector = np.zeros((rows, 3), dtype=np.float32)
        self.receiver[: graph.n_edges], self.sender[: graph.n_edges] = graph.receiver, graph.sender
        self.vector[: graph.n_edges] = graph.vector
        self.types = np.zeros((whole_tiles(graph.n_atoms), config.n_type_inputs), dtype=np.float32)
        self.types[: graph.n_atoms] = type_inputs(codes, config)


def type_inputs(codes: NDArray[np.integer[Any]], config: BapstConfig) -> Floats:
    """(n_atoms, 1 or 2) float32, the inputs of particles of the types 0 and 1."""
    if config.type_input == "number":
        return codes.astype(np.float32)[:, None]
    one_hot: Floats = np.eye(2, dtype=np.float32)[codes]
    return one_hot


class MessageNetwork:
    """An ensemble of message-passing networks with the same settings.

    members : weights of each by name; a ValueError unless they match `config.weight_shapes()`

    Work and memory are linear in the number of edges. For each edge, two rows are kept (512 bytes at a width
    of 64; a third with `own_weights`).
    """

    def __init__(self, config: BapstConfig, members: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        check_weights(config.weight_shapes(), members)
        self.config = config
        self._members = [_Member(config, weights) for weights in members]

    def __call__(
        self, graph: MessageGraph, codes: NDArray[np.integer[Any]], progress: Progress | None = None
    ) -> Floats:
        """(n_members, n_atoms, outputs) for a graph; codes : (n_atoms,) 0 for A, 1 for B."""
        padded = _Padded(graph, codes, self.config)
        found = []
        for number, member in enumerate(self._members):

            def note(done: float, text: str, number: int = number) -> None:
                if progress is not None:
                    progress((number + done) / len(self._members), text)

            found.append(member(padded, note))
        return np.stack(found)
