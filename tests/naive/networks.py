"""Features and layers of the networks for two liquids."""

from __future__ import annotations

import numpy as np

from naive.fields import image_shifts


def neighbor_pairs(frame, cutoff):
    """(n, 5) i, j, shift of all pairs with |x_j - x_i + shift @ cell| <= cutoff, over all images.

    Positions are taken as they are, in whatever image; a pair of an atom with itself needs a shift.
    """
    inverse = np.linalg.inv(frame.cell)
    home = np.floor((frame.positions - frame.origin) @ inverse).astype(int) * frame.pbc
    between = home[:, None] - home[None]
    apart = np.moveaxis(frame.positions[None] - frame.positions[:, None] + between @ frame.cell, -1, 0)
    pairs = []
    for near in np.rint(image_shifts(frame.cell, frame.pbc, cutoff) @ inverse).astype(int):
        x, y, z = apart + (near @ frame.cell)[:, None, None]
        i, j = np.nonzero(np.sqrt(x * x + y * y + z * z) <= cutoff)
        pairs.append(np.column_stack([i, j, near + between[i, j]]))
    pairs = np.concatenate(pairs)
    return pairs[(pairs[:, 0] != pairs[:, 1]) | pairs[:, 2:].any(axis=1)]


def pair_lengths(frame, pairs):
    i, j = pairs[:, 0], pairs[:, 1]
    return np.linalg.norm(frame.positions[j] - frame.positions[i] + pairs[:, 2:] @ frame.cell, axis=1)


def node_features(frame, codes, config, pairs):
    """(n_atoms, F) raw features, atom by atom."""
    n_species = len(config.species)
    target = [config.species.index(name) for name in config.target]
    counter = [config.species.index(name) for name in config.counter]
    lengths = pair_lengths(frame, pairs)
    features = np.zeros((frame.n_atoms, config.n_features))
    for atom in range(frame.n_atoms):
        features[atom, codes[atom]] = 1
        mine = pairs[:, 0] == atom
        species, r = codes[pairs[mine, 1]], lengths[mine]
        if config.features == "densities":
            for w, width in enumerate(config.widths):
                for s in range(n_species):
                    terms = np.exp(-0.5 * (r[species == s] / width) ** 2)
                    norm = (2 * np.pi) ** 1.5 * width**3
                    features[atom, n_species * (1 + w) + s] = terms.sum() / norm
            continue
        chosen = r[np.isin(species, target)]
        features[atom, n_species:] = (
            len(chosen),
            chosen.mean() if len(chosen) else config.cutoff,
            chosen.var() if len(chosen) else 0.0,
            len(chosen) / len(r) if len(r) else 0.0,
            np.isin(species, counter).sum(),
        )
    return features


def network_logits(config, scaling, weights, features, pairs, dtype="float64"):
    """(n_atoms, outputs) by PyTorch Geometric, self-loops among the edges where the layer has them."""
    import torch
    from torch_geometric.nn import GATConv, GCNConv, GraphConv

    number = getattr(torch, dtype)

    def put(parameter, name):
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.asarray(weights[name]).reshape(parameter.shape)))

    n_atoms = len(features)
    loops = np.repeat(np.arange(n_atoms)[None], 2, axis=0)
    edges = pairs[:, [1, 0]].T  # from j to i
    if config.architecture != "graphconv":
        edges = np.concatenate([edges, loops], axis=1)
    edges = torch.from_numpy(np.ascontiguousarray(edges))
    x = (np.clip(features, scaling.low, scaling.high) - scaling.center.astype(float)) / scaling.scale
    x = torch.from_numpy(x).to(number)
    kept = [x]
    for layer, (inputs, heads, channels) in enumerate(config.layer_shapes, start=1):
        name = f"layer{layer}"
        if config.architecture == "gat":
            conv = GATConv(inputs, channels, heads=heads, add_self_loops=False)
            put(conv.lin.weight, f"{name}.weight")
            put(conv.att_src, f"{name}.attention_source")
            put(conv.att_dst, f"{name}.attention_target")
            put(conv.bias, f"{name}.bias")
        elif config.architecture == "gcn":
            conv = GCNConv(inputs, channels, add_self_loops=False)
            put(conv.lin.weight, f"{name}.weight")
            put(conv.bias, f"{name}.bias")
        else:
            conv = GraphConv(inputs, channels)
            put(conv.lin_rel.weight, f"{name}.weight_neighbors")
            put(conv.lin_rel.bias, f"{name}.bias")
            put(conv.lin_root.weight, f"{name}.weight_self")
        with torch.no_grad():
            x = conv.to(number)(x, edges)
        if layer < config.layers or config.readout:
            x = torch.relu(x)
        kept.append(x)
    if not config.readout:
        return x.numpy()
    w1, b1, w2, b2 = (
        torch.from_numpy(np.asarray(weights[f"readout{k}.{part}"])).to(number)
        for k in (1, 2)
        for part in ("weight", "bias")
    )
    return (torch.relu(torch.cat(kept, dim=1) @ w1.T + b1) @ w2.T + b2).numpy()
