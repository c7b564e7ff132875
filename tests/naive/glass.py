"""Networks, pictures, structural metrics and baselines of glasses."""

from __future__ import annotations

from collections import deque
from itertools import product

import numpy as np

from naive.fields import image_shifts
from naive.neighbors import nearest_neighbors


def glass_edges(positions, cell, pbc, k):
    """{(v, w, shift): (length, mutual)} of all directed edges: w, `shift` on, is near v, or v near w.

    Near is among the k nearest. Images within two cells are looked at; positions must lie in the cell along
    periodic axes.
    """
    steps = [range(-2, 3) if wrap else (0,) for wrap in pbc]
    nearest = {}
    for v in range(len(positions)):
        found = []
        for w in range(len(positions)):
            for shift in product(*steps):
                if v == w and not any(shift):
                    continue
                apart = positions[w] - positions[v] + np.array(shift) @ cell
                found.append((float(np.linalg.norm(apart)), w, shift))
        nearest[v] = sorted(found)[:k]
    own = {(v, w, shift): length for v, entries in nearest.items() for length, w, shift in entries}
    edges = {}
    for (v, w, shift), length in own.items():
        back = (w, v, tuple(-s for s in shift))
        edges[v, w, shift] = edges[back] = (length, back in own)
    return edges


def glass_network(config, weights, codes, edges, coordinates=None):
    """(logit of the graph, (n,) logits of the particles, {edge: attention}), edge by edge in float64.

    edges : as `glass_edges` gives them; coordinates : (n, dimensions), where the network uses them
    """
    from phaseseg.families.liquid_glass.settings import LENGTH_CENTERS

    w = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    centers = np.array(LENGTH_CENTERS)
    x = [np.eye(2)[code] for code in codes]
    if config.features == "coordinates":
        x = [np.concatenate([one, own]) for one, own in zip(x, coordinates, strict=True)]

    def features(key):
        length, mutual = edges[key]
        r = np.clip(length, centers[0], centers[-1])
        terms = np.exp(-0.5 * ((r - centers) / (centers[1] - centers[0])) ** 2)
        return np.append(terms if config.features == "distances" else [], float(mutual))

    def attend(h):
        if not config.attention:
            return dict.fromkeys(h, 1.0)
        score = {key: 3.0 * float(np.tanh(w["attention.weight"][0] @ h[key] / 3.0)) for key in h}
        top = max(score.values())
        total = sum(np.exp(value - top) for value in score.values())
        return {key: len(h) * np.exp(value - top) / total for key, value in score.items()}

    def head(name, layers, values):
        for i in range(layers):
            values = w[f"{name}.{i}.weight"] @ values + w[f"{name}.{i}.bias"]
            values = values if i == layers - 1 else np.maximum(values, 0)
        return float(values[0])

    start = {
        key: w["input.weight"] @ np.concatenate([x[key[0]], features(key)]) + w["input.bias"] for key in edges
    }
    h = {key: np.maximum(values, 0) for key, values in start.items()}
    for _ in range(config.steps - 1):
        a = attend(h)
        new = {}
        for key in edges:
            v, to, shift = key
            back = (to, v, tuple(-s for s in shift))
            message = np.zeros(config.hidden)
            for other in edges:
                if other[1] == v and other != back:
                    message += a[other] * h[other]
            new[key] = np.maximum(start[key] + w["message.weight"] @ message, 0)
        h = new
    a = attend(h)
    own = []
    for v in range(len(codes)):
        total = sum((a[key] * h[key] for key in edges if key[1] == v), np.zeros(config.hidden))
        own.append(np.maximum(w["output.weight"] @ np.concatenate([x[v], total]) + w["output.bias"], 0))
    graph = head("readout", config.ffn_layers, np.mean(own, axis=0))
    return graph, np.array([head("node", 2, one) for one in own]), a


def picture(frame, size, edge, corner, codes, radii, colors, background, samples=8):
    """(size, size, 3) colors of disks as `draw` draws them: every particle at points in every pixel."""
    steps = (np.arange(size * samples) + 0.5) * edge / (size * samples)
    at = frame.origin[:2] + np.asarray(corner) + np.stack(np.meshgrid(steps, steps), axis=-1)
    inverse = np.linalg.inv(frame.cell)
    fractions = (frame.positions - frame.origin) @ inverse
    fractions[:, :2] -= np.floor(fractions[:, :2]) * frame.pbc[:2]
    home = frame.origin + fractions @ frame.cell
    reach = max(radii) + np.abs(corner).sum() + 2 * edge + np.abs(frame.cell[:2]).sum()
    total, middle = np.zeros((*at.shape[:2], 3)), at.mean(axis=(0, 1))
    for shift in image_shifts(frame.cell, frame.pbc & [True, True, False], reach):
        for position, code in zip(home + shift, codes, strict=True):
            if (np.abs(position[:2] - middle) > edge / 2 + radii[code]).any():
                continue
            inside = ((at - position[:2]) ** 2).sum(axis=-1) <= radii[code] ** 2
            total[inside] += np.subtract(colors[code], background)
    shares = total.reshape(size, samples, size, samples, 3).mean(axis=(1, 3))
    return np.clip(shares + background, 0, 1)


def graphs(n_atoms, is_b, edges):
    """`GraphCounts` as a tuple, of a list of undirected edges: walks from particle to particle."""
    linked = [[] for _ in range(n_atoms)]
    degree, n_bb = np.zeros(n_atoms, dtype=int), 0
    for i, j in edges:
        linked[i].append(j)
        linked[j].append(i)
        if is_b[i] and is_b[j]:
            n_bb += 1
            degree[i] += 1
            degree[j] += 1
    found, seen = [], set()
    for first in range(n_atoms):
        if first in seen or not linked[first]:
            continue
        graph, queue = {first}, deque([first])
        while queue:
            new = set(linked[queue.popleft()]) - graph
            graph |= new
            queue.extend(new)
        seen |= graph
        found.append(sorted(graph))
    graph_id = np.zeros(n_atoms, dtype=int)
    for number, graph in enumerate(sorted(found, key=lambda graph: (-len(graph), graph[0]))):
        graph_id[graph] = number + 1
    isolated = np.array([not is_b[i] and not linked[i] for i in range(n_atoms)])
    return graph_id, isolated, degree, len(found), n_bb, int(isolated.sum())


def glass_metrics(frame, b, k, rule):
    """Edges (i, j, shift, length), each once, and what `graphs` says of them."""
    is_b = np.isin(np.array(frame.species_names)[frame.species], b)
    neighbors, lengths, shifts = nearest_neighbors(frame, k)
    edges = {}
    for i in range(frame.n_atoms):
        if rule == "b-only" and not is_b[i]:
            continue
        for m in range(k):
            j, shift = int(neighbors[i, m]), shifts[i, m]
            if is_b[i] or is_b[j]:
                one, other = (i, j, *map(int, shift)), (j, i, *map(int, -shift))
                edges[min(one, other)] = lengths[i, m]
    return edges, graphs(frame.n_atoms, is_b, [edge[:2] for edge in edges])


def all_distances(frame, reach):
    """{(i, j): distances of the images of j from i} up to `reach`, an own image at 0 left out."""
    flat = frame.n_dimensions == 2
    pbc = frame.pbc & [True, True, not flat]
    shifts = image_shifts(frame.cell, pbc, reach)
    found = {}
    for i in range(len(frame)):
        apart = frame.positions - frame.positions[i]
        fractions = apart @ np.linalg.inv(frame.cell)
        apart = apart - (np.rint(fractions) * pbc) @ frame.cell
        for j in range(len(frame)):
            r = np.linalg.norm(apart[j] + shifts, axis=1)
            found[i, j] = r[(r <= reach) & ((r > 0) | (i != j))]
    return found


def radial_distribution(frame, width, n_bins):
    """Middles of the bins and g(r); open boundaries by the share of displaced boxes that overlap."""
    dimensions = frame.n_dimensions
    edges = width * np.arange(n_bins + 1)
    r = 0.5 * (edges[1:] + edges[:-1])
    distances = np.concatenate(list(all_distances(frame, edges[-1]).values()))
    counts = np.histogram(distances, edges)[0]
    lengths = np.linalg.norm(frame.cell, axis=1)[:dimensions]
    angles = np.linspace(0, 2 * np.pi, 20_001)[:-1]
    if dimensions == 2:
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        volume, shells = np.linalg.norm(np.cross(*frame.cell[:2])), np.pi * np.diff(edges**2)
    else:
        # Equal areas: the heights are even.
        height = np.linspace(-1, 1, 20_001)[:-1] + 1 / 20_000
        turn = np.arange(20_000) * np.pi * (3 - 5**0.5)
        flat = np.sqrt(1 - height**2)
        directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
        volume, shells = frame.volume, 4 / 3 * np.pi * np.diff(edges**3)
    inside = []
    for x in r:
        overlap = np.where(frame.pbc[:dimensions], 1.0, 1 - x * np.abs(directions) / lengths)
        inside.append(overlap.prod(axis=1).mean())
    return r, counts / (len(frame) * len(frame) / volume * shells * inside)


def kob_andersen_energies(frame, b):
    """Half of the energy of all pairs of each particle, pair by pair."""
    epsilon, sigma = {0: 1.0, 1: 1.5, 2: 0.5}, {0: 1.0, 1: 0.8, 2: 0.88}
    is_b = np.array(frame.species_names)[frame.species] == b
    energies = np.zeros(len(frame))
    for (i, j), distances in all_distances(frame, 2.5).items():
        kind = int(is_b[i]) + int(is_b[j])
        for r in distances:
            if r <= 2.5 * sigma[kind]:
                x = (sigma[kind] / r) ** 6
                energies[i] += 0.5 * 4 * epsilon[kind] * (x * x - x)
    return energies
