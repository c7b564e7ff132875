"""The message-passing network of the family mobility, as written: every edge reads six rows."""

from __future__ import annotations

import itertools

import numpy as np


def message_edges(frame, cutoff, self_edges=True):
    """Receiver, sender and vectors in float64, by looking at all images of all pairs, sorted by receiver."""
    reach = [3 if periodic else 0 for periodic in frame.pbc]
    shifts = np.array(list(itertools.product(*(range(-r, r + 1) for r in reach))), dtype=float) @ frame.cell
    inverse = np.linalg.inv(frame.cell)
    home = frame.positions - np.where(frame.pbc, np.floor(frame.positions @ inverse), 0.0) @ frame.cell
    found = []
    for i, j in itertools.product(range(len(frame)), repeat=2):
        vectors = home[i] - home[j] + shifts
        near = np.linalg.norm(vectors, axis=1) < cutoff
        if i == j:
            near &= np.abs(shifts).sum(axis=1) > 0
            if self_edges:
                found.append((i, j, np.zeros(3)))
        found += [(i, j, vector) for vector in vectors[near]]
    receiver, sender, vector = zip(*found, strict=True)
    return np.array(receiver), np.array(sender), np.array(vector)


def message_network(config, weights, codes, receiver, sender, vector, kind="float64"):
    """(n_atoms, outputs): the formulas with all rows written out; see `BapstConfig`."""
    w = {name: values.astype(kind) for name, values in weights.items()}

    def layers(name, x, last_linear=False):
        number = 0
        while f"{name}.{number}.weight" in w:
            x = x @ w[f"{name}.{number}.weight"].T + w[f"{name}.{number}.bias"]
            number += 1
            if not last_linear or f"{name}.{number}.weight" in w:
                x = np.maximum(x, 0)
        return x

    def sums(x):
        out = np.zeros((len(codes), x.shape[1]), dtype=kind)
        np.add.at(out, receiver, x)
        return out

    types = codes[:, None] if config.type_input == "number" else np.eye(2)[codes]
    node = node0 = layers("node_encoder", types.astype(kind))
    edge = edge0 = layers("edge_encoder", vector.astype(kind))
    for number in range(config.rounds):
        k = number if config.own_weights else 0
        nodes, edges = np.concatenate([node, node0], axis=1), np.concatenate([edge, edge0], axis=1)

        def renewed(nodes, edges=edges, k=k):
            return layers(f"edge_rounds.{k}", np.concatenate([edges, nodes[receiver], nodes[sender]], axis=1))

        if config.update == "edges-first":
            edge = renewed(nodes)
            node = layers(f"node_rounds.{k}", np.concatenate([sums(edge), nodes], axis=1))
        else:
            node = layers(f"node_rounds.{k}", np.concatenate([sums(edges), nodes], axis=1))
            if config.update == "nodes-first":
                nodes = np.concatenate([node, node0], axis=1)
            edge = renewed(nodes)
    return layers("decoder", node, last_linear=True)
