"""MEAGraph on dense arrays of all atoms: self loops and duplicates are ordinary edges."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def column_normalized(x):
    norms = np.sqrt((x**2).sum(axis=0))
    return np.where(norms > 1e-12 * norms.max(), x / np.where(norms > 0, norms, 1), 0.0)


def distances(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=-1))


def graph(rows, low=0.9 - 1e-5):
    """(n, n) adjacency without the diagonal."""
    d = distances(column_normalized(rows))
    off = ~np.eye(len(d), dtype=bool)
    d[d < 1e-9] = 0.0
    s = np.exp(-d)
    normalized = (s - s[off].min() + 1e-5) / (s[off].max() - s[off].min() + 1e-5)
    return (normalized > low) & off


def components(adjacency):
    """Labels; -1 for atoms without an edge."""
    labels = connected_components(coo_array(adjacency), directed=False)[1]
    return np.where(adjacency.any(axis=1), labels, -1)


def leaky(x):
    return np.maximum(x, 0) + 0.01 * np.minimum(x, 0)


def attend(h, adjacency, beta):
    """Scores of all pairs, and the mean over neighbors and self by score."""
    alpha = np.exp(-beta * distances(column_normalized(h)))
    a = np.where(adjacency | np.eye(len(h), dtype=bool), alpha, 0.0)
    return alpha, (a / a.sum(axis=0)).T @ h


def pooled(adjacency, scores, rate):
    if not adjacency.any():
        return adjacency
    found = scores[adjacency]
    r = (scores - found.min() + 1e-5) / (found.max() - found.min() + 1e-5)
    return adjacency & (r > rate)


def forward(weights, n_layers, rows, rates, low=0.9 - 1e-5):
    """Inputs and reconstruction of the nodes, which atoms are nodes, and the edges that survive."""
    adjacency = graph(rows, low)
    nodes = adjacency.any(axis=1)
    x = column_normalized(column_normalized(rows)[nodes])
    inputs, a = x, adjacency[np.ix_(nodes, nodes)]
    lists = []
    for layer in range(n_layers):
        name = f"encoder.{layer}"
        scores, mean = 0, 0
        kernels, beta = weights[f"{name}.kernels"], weights[f"{name}.beta"]
        for matrix, b in zip(kernels, beta, strict=True):
            h = x @ matrix.T
            alpha, out = attend(h, a, b)
            scores = scores + alpha / len(beta)
            mean = mean + leaky(out + h) / len(beta)
        x = column_normalized(leaky(mean @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]))
        lists.append(a)
        a = pooled(a, scores, rates[layer])
    z = x
    for layer in range(n_layers - 1, -1, -1):
        name = f"decoder.{layer}"
        h = z @ weights[f"{name}.kernel"].T
        _, out = attend(h, lists[layer], weights[f"{name}.beta"][0])
        z = out @ weights[f"{name}.weight"].T + h
        z = leaky(z) if layer else z
    found = z @ weights["final.weight"].T + weights["final.bias"]
    whole = np.zeros_like(adjacency)
    whole[np.ix_(nodes, nodes)] = a
    return inputs, found, nodes, whole
