"""Compiled loops of the message-passing network.

The first layer of an edge is linear in [edge, encoded edge, receiver, sender]. Its products with the
particles are formed once for each particle, and that with the encoded edges once for all rounds with the same
weights. What remains for an edge and a round are two small products. Six edges go through both of them while
their numbers are in registers and in the first-level cache; nothing else is stored for an edge. Kernels work
on some tiles of rows, or on some particles, which their first arguments name (`compiled.threads`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.dense import TILE_ROWS, add_layer, add_transposed
from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, fetch, load, splat, store, where_at_most
from phaseseg.compiled.threads import Range

AHEAD = 16 * TILE_ROWS
"""Edges that are asked for before they are needed."""


@jit
def _fetch_rows(rows, first):
    """Ask for a tile of rows, while the products of another are formed."""
    length = rows.shape[1]
    for at in range(first * length, (first + TILE_ROWS) * length, WIDTH):
        fetch(rows, at)


@jit
def add_rows(first, stop, x, weight, base, base_stride, out, rectify):
    """out = base + x @ weight; then max(0, out) if `rectify`. Rows come in whole tiles."""
    for i in range(first * TILE_ROWS, stop * TILE_ROWS, TILE_ROWS):
        add_layer(
            x, i * x.shape[1], weight.shape[0], weight, base, i * base_stride, base_stride, out,
            i * out.shape[1], rectify,
        )  # fmt: skip


@jit
def encode_edges(first_tile, stop_tile, vectors, first, first_bias, second, second_bias, edges):
    """edges = max(0, max(0, vectors @ first + bias) @ second + bias)."""
    tall, wide, units = first_bias.size, edges.shape[1], second.shape[0]
    hidden = np.empty((TILE_ROWS, tall), dtype=np.float32)
    for k in range(first_tile * TILE_ROWS, stop_tile * TILE_ROWS, TILE_ROWS):
        _fetch_rows(edges, k + AHEAD)
        add_layer(vectors, 3 * k, 3, first, first_bias, 0, 0, hidden, 0, True)
        add_layer(hidden, 0, units, second, second_bias, 0, 0, edges, k * wide, True)


@jit
def known_of_edges(first, stop, encoded, weight, bias, known):
    """known = encoded @ weight + bias, the part of the first layer that stays the same."""
    for k in range(first * TILE_ROWS, stop * TILE_ROWS, TILE_ROWS):
        _fetch_rows(encoded, k + AHEAD)
        _fetch_rows(known, k + AHEAD)
        at = k * known.shape[1]
        add_layer(
            encoded, k * encoded.shape[1], weight.shape[0], weight, bias, 0, 0, known, at, False
        )  # fmt: skip


@jit
def _first_layer(k, receiver, sender, known, of_receiver, of_sender, edges, first, hidden, at):
    """hidden[at:] = max(0, known + edges @ first + of_receiver + of_sender) for the tile from edge k on."""
    tall = hidden.shape[1]
    _fetch_rows(known, k + AHEAD)
    _fetch_rows(edges, k + AHEAD)
    for r in range(TILE_ROWS):
        to, own = np.int64(receiver[k + r]) * tall, np.int64(sender[k + r]) * tall
        soon = np.int64(sender[min(k + r + TILE_ROWS, sender.size - 1)]) * tall
        for c in range(0, tall, WIDTH):
            fetch(of_sender, soon + c)
            x = load(known, (k + r) * tall + c) + load(of_receiver, to + c) + load(of_sender, own + c)
            store(hidden, at + r * tall + c, x)
    add_layer(edges, k * edges.shape[1], first.shape[0], first, hidden, at, tall, hidden, at, True)


@jit
def renew_edges(
    first_tile, stop_tile, receiver, sender, n_edges, known, of_receiver, of_sender, first, second, bias,
    edges, after, sums,
):  # fmt: skip
    """after = max(0, max(0, known + edges @ first + of_receiver + of_sender) @ second + bias).

    receiver, sender : padded to whole tiles; of_receiver, of_sender : (n_atoms, columns)
    after : may be the array of the edges
    sums : the new edges are added to the rows of their receivers, unless it is empty; a receiver that has
        edges in other tiles as well is left to `sum_edges` (`divided`)
    """
    wide, units, summed = edges.shape[1], second.shape[0], sums.shape[0] > 0
    begin, end = first_tile * TILE_ROWS, min(stop_tile * TILE_ROWS, n_edges)
    if begin >= end:
        return
    hidden = np.empty((TILE_ROWS, known.shape[1]), dtype=np.float32)
    low, high = receiver[begin], receiver[end - 1]
    low += begin > 0 and receiver[begin - 1] == low
    high -= end < n_edges and receiver[end] == high
    for k in range(begin, stop_tile * TILE_ROWS, TILE_ROWS):
        _first_layer(k, receiver, sender, known, of_receiver, of_sender, edges, first, hidden, 0)
        add_layer(hidden, 0, units, second, bias, 0, 0, after, k * wide, True)
        e, last = k, min(k + TILE_ROWS, n_edges)
        while summed and e < last:
            here, same = e, receiver[e]
            while e < last and receiver[e] == same:
                e += 1
            if low <= same <= high:
                for c in range(0, wide, WIDTH):
                    total = load(sums, np.int64(same) * wide + c)
                    for one in range(here, e):
                        total = total + load(after, one * wide + c)
                    store(sums, np.int64(same) * wide + c, total)


def divided(receiver: NDArray[np.int32], parts: Sequence[Range]) -> list[int]:
    """The receivers with edges in several of these ranges of tiles."""
    edges = [first * TILE_ROWS for first, _ in parts[1:]]
    return sorted({int(receiver[e]) for e in edges if receiver[e - 1] == receiver[e]})


BLOCK = 16 * TILE_ROWS
"""Edges of which the gradients of the weights are formed at once."""


@jit
def renew_edges_back(
    receiver, sender, n_edges, known, of_receiver, of_sender, first, second, edges, after, from_edges,
    from_sums, first_back, second_back, hidden, grown, to_edges, to_known, to_receiver, to_sender, to_first,
    to_second, to_bias,
):  # fmt: skip
    """The gradients of `renew_edges`; nothing that it formed is kept but its results.

    from_edges : gradient of the new edges, or empty; from_sums : that of their sums
    first_back, second_back : the weights, transposed
    hidden, grown : buffers of BLOCK rows
    to_edges, to_known : (n_edges, columns), set; all others start from zeros, and gradients are added
    """
    wide, tall = edges.shape[1], hidden.shape[1]
    zero, continued = splat(np.float32(0)), from_edges.shape[0] > 0
    for begin in range(0, edges.shape[0], BLOCK):
        n = min(BLOCK, edges.shape[0] - begin)
        for k in range(0, n, TILE_ROWS):
            _first_layer(
                begin + k, receiver, sender, known, of_receiver, of_sender, edges, first, hidden, k * tall
            )
        for r in range(n):
            e = begin + r
            to = np.int64(receiver[e]) * wide
            for c in range(0, wide, WIDTH):
                gradient = zero
                if e < n_edges:
                    gradient = load(from_sums, to + c)
                    if continued:
                        gradient = gradient + load(from_edges, e * wide + c)
                    gradient = gradient - where_at_most(load(after, e * wide + c), zero, gradient)
                    store(to_bias, c, load(to_bias, c) + gradient)
                store(grown, r * wide + c, gradient)
                store(to_edges, e * wide + c, zero)
            for c in range(0, tall, WIDTH):
                store(to_known, e * tall + c, zero)
        add_transposed(hidden, 0, grown, 0, n, to_second)
        for k in range(0, n, TILE_ROWS):
            at = (begin + k) * tall
            add_layer(grown, k * wide, wide, second_back, to_known, at, tall, to_known, at, False)
        for r in range(n):
            e = begin + r
            to, own = np.int64(receiver[e]) * tall, np.int64(sender[e]) * tall
            for c in range(0, tall, WIDTH):
                gradient = load(to_known, e * tall + c)
                gradient = gradient - where_at_most(load(hidden, r * tall + c), zero, gradient)
                store(to_known, e * tall + c, gradient)
                store(to_receiver, to + c, load(to_receiver, to + c) + gradient)
                store(to_sender, own + c, load(to_sender, own + c) + gradient)
        add_transposed(edges, begin * wide, to_known, begin * tall, n, to_first)
        for k in range(0, n, TILE_ROWS):
            at = (begin + k) * wide
            add_layer(to_known, (begin + k) * tall, tall, first_back, to_edges, at, wide, to_edges, at, False)


@jit
def sum_edges(first, stop, indptr, edges, sums):
    """sums[i] = sum of the edges that lead to i."""
    wide = edges.shape[1]
    for i in range(first, stop):
        for c in range(0, wide, WIDTH):
            total = (
                load(edges, indptr[i] * wide + c) if indptr[i + 1] > indptr[i] else load(sums, i * wide + c)
            )
            for e in range(indptr[i] + 1, indptr[i + 1]):
                total = total + load(edges, e * wide + c)
            store(sums, i * wide + c, total)
