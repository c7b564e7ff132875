"""Naive twins of the fast code: slow, and obviously right. Also the baselines of the benchmarks."""

from __future__ import annotations

from collections import deque
from itertools import product

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import gaussian_kde

VOID_DENSITY = 0.02  # share of the mean density of atoms below which a mole fraction is zero


# Density ------------------------------------------------------------------------------------------


def image_shifts(cell, pbc, reach):
    """(n, 3) lattice vectors of all images that may lie within `reach` of the home cell."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = [
        int(np.ceil(reach / height)) + 1 if wrap else 0 for height, wrap in zip(heights, pbc, strict=True)
    ]
    return np.array(list(product(*(range(-n, n + 1) for n in counts)))) @ cell


def sum_of_gaussians(points, atoms, cell, pbc, sigma, flat=(False, False, False), weights=1.0):
    """sum over atoms and images of exp(-r^2 / 2 sigma^2), times a weight of each, at every point.

    Along a flat axis positions do not count.
    """
    cell, flat = np.asarray(cell, dtype=float), np.asarray(flat)
    wrap = np.asarray(pbc) & ~flat
    inverse = np.linalg.inv(cell)
    total = np.zeros(len(points))
    if not len(atoms):
        return total
    shifts = image_shifts(cell, wrap, 7 * sigma)
    apart = (points[:, None] - atoms[None]) @ inverse
    apart -= np.rint(apart) * wrap
    apart[..., flat] = 0
    apart = apart @ cell
    for shift in shifts:
        r2 = ((apart + shift) ** 2).sum(axis=-1)
        total += (weights * np.exp(-0.5 * r2 / sigma**2)).sum(axis=1)
    return total


def extent_density(frame, sigma, flat=(False, False, False)):
    """Atoms per Å^3, along open axes of the reduced cell of the extent of the atoms (at least sigma)."""
    frame = frame.reduced
    inverse = np.linalg.inv(frame.cell)
    fractions = (frame.positions - frame.origin) @ inverse
    heights = 1 / np.linalg.norm(inverse, axis=0)
    density = frame.n_atoms / frame.volume
    for axis in range(3):
        if not frame.pbc[axis] and not flat[axis]:
            density *= heights[axis] / max(np.ptp(fractions[:, axis]) * heights[axis], sigma)
    return density


def density(points, frame, species, sigma, field="number", flat=(False, False, False)):
    """Exact number density (Å^-3) or mole fraction of the species, by direct sums over images."""
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    norm = 1.0
    for axis in range(3):
        norm *= heights[axis] if flat[axis] else np.sqrt(2 * np.pi) * sigma
    chosen = np.isin(np.array(frame.species_names)[frame.species], species)
    ours = sum_of_gaussians(points, frame.positions[chosen], frame.cell, frame.pbc, sigma, flat) / norm
    if field == "number":
        return ours
    every = sum_of_gaussians(points, frame.positions, frame.cell, frame.pbc, sigma, flat) / norm
    return ours / np.maximum(every, VOID_DENSITY * extent_density(frame, sigma, flat))


def grid_points(grid):
    """(n_x, n_y, n_z, 3) places of the points of a `Grid`."""
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid.shape), indexing="ij"), axis=-1)
    return grid.origin + fractions @ grid.cell


def score_field(
    points, frame, score, sigma, bound, flat=(False, False, False), steps=None, curvature=False
):  # fmt: skip
    """Scores of the atoms as a field at the points of a grid: their mean, freed of the atoms' density.

    Returns the field, and the density of the atoms over its mean.

    points : (n_x, n_y, n_z, 3), closed along the periodic axes; steps : (3, 3), from point to point
    """
    at = points.reshape(-1, 3)
    closes = frame.pbc | np.asarray(flat)
    den, num = (
        sum_of_gaussians(at, frame.positions, frame.cell, frame.pbc, sigma, flat, weights).reshape(
            points.shape[:3]
        )
        for weights in (1.0, score)
    )
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    norm = 1.0
    for axis in range(3):
        norm *= heights[axis] if flat[axis] else np.sqrt(2 * np.pi) * sigma
    usual = extent_density(frame, sigma, flat) * norm
    void = 1e-3 * usual
    mean, log = num / np.maximum(den, 0.1 * void), np.log(np.maximum(den, 0.1 * void))

    def slope(values):
        found = []  # per step
        for axis in range(3):
            padded = np.pad(
                values,
                [(2, 2) if a == axis else (0, 0) for a in range(3)],
                "wrap" if closes[axis] else "edge",
            )
            n = values.shape[axis]
            f = [np.take(padded, range(2 + k, 2 + k + n), axis) for k in (-2, -1, 1, 2)]
            found.append((8 * (f[2] - f[1]) - (f[3] - f[0])) / 12)
        return np.stack(found, axis=-1) @ np.linalg.inv(steps).T

    def laplacian(values):
        padded = np.pad(values, 2, "edge")
        for axis in range(3):  # the edges again, where the grid closes
            if closes[axis]:
                padded = np.take(padded, (np.arange(padded.shape[axis]) - 2) % values.shape[axis] + 2, axis)

        def at(*shift):
            n = values.shape
            return padded[tuple(slice(2 + s, 2 + s + m) for s, m in zip(shift, n, strict=True))]

        metric, unit, total = np.linalg.inv(steps @ steps.T), np.eye(3, dtype=int), 0.0
        for a in range(3):
            e = unit[a]
            second = (16 * (at(*e) + at(*-e)) - at(*(2 * e)) - at(*(-2 * e)) - 30 * values) / 12
            total = total + metric[a, a] * second
            for b in range(a):
                plus, minus = e + unit[b], e - unit[b]
                mixed = (at(*plus) + at(*-plus) - at(*minus) - at(*-minus)) / 4
                total = total + 2 * metric[a, b] * mixed
        return total

    field = mean
    for _ in range(2):
        field = mean - sigma**2 * (slope(field) * slope(log)).sum(axis=-1)
    if curvature:
        field = field - sigma**2 / 2 * laplacian(field)
    return np.where(den < void, -bound, np.clip(field, -bound, bound)), den / usual


def voxel_boundary(frame, rich, n=50):
    """The boundary of the paper: voxels as the last atom in them, both phases dilated by one, overlap."""
    frame = frame.reduced
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    places, kind = [], {}
    for atom, f in enumerate(fractions):
        place = tuple(
            int((f[axis] % 1.0) * n) % n
            if frame.pbc[axis]
            else min(int((f[axis] - fractions[:, axis].min()) / np.ptp(fractions[:, axis]) * n), n - 1)
            for axis in range(3)
        )
        places.append(place)
        kind[place] = bool(rich[atom])
    result = []
    for place in places:
        seen = {kind[place]}
        for axis, step in product(range(3), (-1, 1)):
            other = list(place)
            other[axis] += step
            if frame.pbc[axis]:
                other[axis] %= n
            if tuple(other) in kind:
                seen.add(kind[tuple(other)])
        result.append(len(seen) == 2)
    return np.array(result)


def gemm_density(positions, lengths, shape, sigma, dtype=np.float32):
    """Exact periodic density on the grid of an orthogonal cell: three one-dimensional wrapped Gaussians
    an atom, put together by one matrix product. The baseline of the benchmark.
    """
    factors = []
    for axis in range(3):
        x = np.arange(shape[axis])[:, None] * (lengths[axis] / shape[axis]) - positions[None, :, axis]
        x -= np.rint(x / lengths[axis]) * lengths[axis]
        n = int(np.ceil(6 * sigma / lengths[axis]))
        wrapped = sum(np.exp(-0.5 * ((x + m * lengths[axis]) / sigma) ** 2) for m in range(-n, n + 1))
        factors.append((wrapped / (np.sqrt(2 * np.pi) * sigma)).astype(dtype))
    a, b, c = factors
    out = np.zeros((shape[0], shape[1] * shape[2]), dtype=dtype)
    for first in range(0, len(positions), 1024):
        part = slice(first, first + 1024)
        pair = (b[:, None, part] * c[None, :, part]).reshape(shape[1] * shape[2], -1)
        out += a[:, part] @ pair.T
    return out.reshape(shape)


def kde_over_images(positions, lengths, sigma):
    """`scipy.stats.gaussian_kde` of the atoms and their 26 images; times len(positions) * 27 a density."""
    images = np.concatenate([positions + np.array(m) * lengths for m in product((-1, 0, 1), repeat=3)])
    return gaussian_kde(images.T, bw_method=sigma / images.std(ddof=1, axis=0).mean())


# Cuts ---------------------------------------------------------------------------------------------


def two_means(values):
    """Cut of two-means: every split of the sorted values is tried."""
    values = np.sort(np.asarray(values, dtype=float).ravel())
    n = np.arange(1, len(values))  # number of values in the lower class
    low, low2 = np.cumsum(values)[:-1], np.cumsum(values**2)[:-1]
    high, high2 = values.sum() - low, (values**2).sum() - low2
    within = (low2 - low**2 / n) + (high2 - high**2 / (len(values) - n))
    best = int(np.argmin(within))
    return float((low[best] / n[best] + high[best] / (len(values) - n[best])) / 2)


def gradient(values, cell, pbc):
    """(..., 3) Cartesian gradient by central differences; one-sided at open ends."""
    values = np.asarray(values, dtype=float)
    slopes = []  # per unit of the fractional coordinate
    for axis in range(3):
        n = values.shape[axis]
        if n == 1:
            slopes.append(np.zeros_like(values))
        elif pbc[axis]:
            slopes.append((np.roll(values, -1, axis) - np.roll(values, 1, axis)) * n / 2)
        else:
            slopes.append(np.gradient(values, axis=axis) * n)
    # f(s(x)) with s = x inv(cell): df/dx_k = sum_a df/ds_a inv(cell)[k, a].
    return np.stack(slopes, axis=-1) @ np.linalg.inv(cell).T


def fourth_powers_of_slopes(values, cell, pbc):
    """|grad|^4 by central differences."""
    return np.linalg.norm(gradient(values, cell, pbc), axis=-1) ** 4


def steepest(values, weights):
    """Mean of all values, weighted by the fourth power of the slope and by their distance from both bulks.

    It counts as far as it keeps the two sides apart; otherwise the mean is weighted by the slope alone.
    """
    values, weights = np.ravel(values).astype(float), np.ravel(weights)
    cut = plain = (weights * values).sum() / weights.sum()
    for _ in range(6):
        poor, rich = values[values < cut], values[values >= cut]
        if len(poor) == 0 or len(rich) == 0:
            break
        poor = np.quantile(poor, 0.3, method="inverted_cdf")
        rich = np.quantile(rich, 0.7, method="inverted_cdf")
        noise = 2 * (weights[values > rich].sum() + weights[values < poor].sum()) / weights.sum()
        place = (values - poor) / (rich - poor)
        inside = np.clip(np.minimum(place, 1 - place) / max(min(noise, 0.5), 1e-9) - 0.5, 0, 1) * weights
        if not inside.sum() > 0:
            break
        cut = (inside * values).sum() / inside.sum()
    before, after = (values[values >= at].mean() - values[values < at].mean() for at in (plain, cut))
    return float(plain + (cut - plain) * np.clip((after / before - 0.92) / 0.05, 0, 1))


# Domains ------------------------------------------------------------------------------------------


def flood_fill(rich, pbc):
    """Face-connected domains by breadth-first search: numbers (0 = poor, 1 ...), percolation (n, 3).

    Every voxel is reached in some image of the cell. A domain that meets one of its own voxels in
    another image goes around the cell along the axes in which the images differ.
    """
    shape = rich.shape
    number = np.zeros(shape, dtype=int)
    image = np.zeros((*shape, 3), dtype=int)
    percolates = []
    for seed in zip(*np.nonzero(rich), strict=True):
        if number[seed]:
            continue
        percolates.append([False, False, False])
        number[seed] = len(percolates)
        queue = deque([seed])
        while queue:
            here = queue.popleft()
            for axis, step in product(range(3), (-1, 1)):
                place, there = list(here), image[here].copy()
                place[axis] += step
                if not 0 <= place[axis] < shape[axis]:
                    if not pbc[axis]:
                        continue
                    there[axis] += step
                    place[axis] %= shape[axis]
                other = tuple(place)
                if not rich[other]:
                    continue
                if not number[other]:
                    number[other], image[other] = len(percolates), there
                    queue.append(other)
                else:
                    for k in np.flatnonzero(image[other] != there):
                        percolates[-1][k] = True
    return number, np.array(percolates, dtype=bool).reshape(-1, 3)


# Interface ----------------------------------------------------------------------------------------


def surface_points(values, cut, cell, origin, pbc, fine=10):
    """Points on the level set of the trilinear interpolation, `fine` to a voxel edge.

    Roots along lines parallel to the three axes through every cell of eight grid points.
    """
    values = np.asarray(values, dtype=float)
    shape = values.shape
    corners = {}
    for corner in product((0, 1), repeat=3):
        shifted = values
        for axis in range(3):
            if corner[axis]:
                shifted = np.roll(shifted, -1, axis)
        corners[corner] = shifted
    stack = np.stack(list(corners.values()))
    mixed = (stack.min(axis=0) < cut) & (stack.max(axis=0) >= cut)
    for axis in range(3):
        if not pbc[axis]:  # no cell reaches across the end
            last = [slice(None)] * 3
            last[axis] = shape[axis] - 1
            mixed[tuple(last)] = False
    places = np.argwhere(mixed)
    at = {corner: field[mixed] for corner, field in corners.items()}
    t = (np.arange(fine) + 0.5) / fine
    found = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for p, q in product(t, t):
            ends = []
            for end in (0, 1):
                line = 0.0
                for u, v in product((0, 1), repeat=2):
                    corner = [0, 0, 0]
                    corner[axis], corner[first], corner[second] = end, u, v
                    line = line + (p if u else 1 - p) * (q if v else 1 - q) * at[tuple(corner)]
                ends.append(line - cut)
            crossed = (ends[0] < 0) != (ends[1] < 0)
            point = places[crossed].astype(float)
            point[:, axis] += ends[0][crossed] / (ends[0] - ends[1])[crossed]
            point[:, first] += p
            point[:, second] += q
            found.append(point)
    return origin + np.concatenate(found) / np.array(shape) @ cell


def distance_to_points(points, surface, cell, origin, pbc, reach):
    """Distance of every point to the nearest surface point or image; right where it is below `reach`."""
    inverse = np.linalg.inv(cell)
    margin = reach * np.linalg.norm(inverse, axis=0)

    def home(places):
        fractions = (places - origin) @ inverse
        return fractions - np.floor(fractions) * np.asarray(pbc)

    images = home(surface)[None] + (image_shifts(cell, pbc, reach) @ inverse)[:, None]
    images = images.reshape(-1, 3)
    near = ((images >= -margin) & (images <= 1 + margin)) | ~np.asarray(pbc)
    return cKDTree(images[near.all(axis=1)] @ cell).query(home(points) @ cell)[0]


# Composition --------------------------------------------------------------------------------------


def composition(frame, phase, distance, masses, bulk_distance):
    """{row: {element: (wt%, at%)}} and the number of atoms of each row, by loops."""
    sides = ("rich side", "poor side", "rich bulk", "poor bulk")
    rows = {name: [] for name in ("rich", "poor", "boundary", *sides, "all")}
    for atom in range(frame.n_atoms):
        name = frame.species_names[frame.species[atom]]
        rows[("poor", "rich", "boundary")[phase[atom]]].append(name)
        rows["all"].append(name)
        d = distance[atom]
        side = ("poor", "rich")[int(phase[atom] == 1 if np.isnan(d) else d > 0)]
        rows[f"{side} side"].append(name)
        if np.isnan(d) or abs(d) > bulk_distance:
            rows[f"{side} bulk"].append(name)
    result, atoms = {}, {}
    for row, names in rows.items():
        atoms[row] = len(names)
        mass = sum(masses[name] for name in names)
        result[row] = {
            name: (
                100 * masses[name] * names.count(name) / mass if names else np.nan,
                100 * names.count(name) / len(names) if names else np.nan,
            )
            for name in frame.species_names
        }
    return result, atoms


def proxigram(frame, distance, masses, volumes, bin_width=0.5, limit=30.0):
    """[(distance, atoms, {element: at%}, {element: Å^-3}, g/cm^3)] of bins with atoms or space, by loops."""
    rows = []
    for number, index in enumerate(range(-round(limit / bin_width), round(limit / bin_width))):
        inside = [
            frame.species_names[frame.species[atom]]
            for atom in range(frame.n_atoms)
            if index * bin_width <= distance[atom] < (index + 1) * bin_width
        ]
        if inside or volumes[number]:
            n, v = len(inside) or np.nan, volumes[number] or np.nan
            shares = {name: 100 * inside.count(name) / n for name in frame.species_names}
            densities = {name: inside.count(name) / v for name in frame.species_names}
            mass = 1.6605 * sum(masses[name] for name in inside) / v
            rows.append(((index + 0.5) * bin_width, len(inside), shares, densities, mass))
    return rows


def shell_volumes(distance_to, cell, bin_width, n_bins, n=60):
    """Volume of a cell in bins of a signed distance, from a random point in each of n^3 equal parts."""
    rng, counts = np.random.default_rng(0), np.zeros(n_bins)
    for i in range(n):
        for j in range(n):
            points = (np.stack([np.full(n, i), np.full(n, j), np.arange(n)], 1) + rng.random((n, 3))) / n
            for d in distance_to(points @ cell):
                place = int(np.floor(d / bin_width)) + n_bins // 2
                if 0 <= place < n_bins:
                    counts[place] += 1
    return counts * abs(np.linalg.det(cell)) / n**3


# Molecules ----------------------------------------------------------------------------------------


def centers_of_mass(frame, masses, largest=30):
    """{atoms of a molecule: its center of mass}, atoms of none or of large molecules for themselves.

    Each atom is placed by the minimum image next to the nearest atom that has its place, the first as it is.
    """
    groups = {}
    for atom, number in enumerate(frame.molecules.tolist()):
        groups.setdefault(number if number > 0 else ("alone", atom), []).append(atom)
    result = {}
    for group in groups.values():
        for members in [group] if len(group) <= largest else [[atom] for atom in group]:
            place = {members[0]: frame.positions[members[0]]}
            while len(place) < len(members):
                options = []
                for atom in members:
                    for where in place.values():
                        if atom not in place:
                            turns = np.linalg.solve(frame.cell.T, frame.positions[atom] - where)
                            image = frame.positions[atom] - (np.rint(turns) * frame.pbc) @ frame.cell
                            options.append((np.linalg.norm(image - where), atom, image))
                _, atom, image = min(options, key=lambda option: option[0])
                place[atom] = image
            weights = [masses[frame.species_names[frame.species[atom]]] for atom in members]
            if not sum(weights) > 0:
                weights = [1.0] * len(members)
            total = sum(w * place[atom] for w, atom in zip(weights, members, strict=True))
            result[tuple(sorted(members))] = total / sum(weights)
    return result


# Series -------------------------------------------------------------------------------------------


def block_errors(values):
    """{block length: standard error of the mean from blocks of that length}, lengths 1, 2, 4 ..."""
    errors, length = {}, 1
    while len(values) // length >= 4:
        means = [
            sum(values[first : first + length]) / length
            for first in range(0, len(values) - length + 1, length)
        ]
        mean = sum(means) / len(means)
        variance = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
        errors[length] = (variance / len(means)) ** 0.5
        length *= 2
    return errors


# Networks -----------------------------------------------------------------------------------------


def neighbor_pairs(frame, cutoff):
    """(n, 5) i, j, shift of all pairs with |x_j - x_i + shift @ cell| <= cutoff, over all images.

    Positions are taken as they are, in whatever image; a pair of an atom with itself needs a shift.
    """
    inverse = np.linalg.inv(frame.cell)
    home = np.floor((frame.positions - frame.origin) @ inverse).astype(int) * frame.pbc
    pairs = []
    for near in np.rint(image_shifts(frame.cell, frame.pbc, cutoff) @ inverse).astype(int):
        shifts = near + home[:, None] - home[None]
        vectors = frame.positions[None] - frame.positions[:, None] + shifts @ frame.cell
        i, j = np.nonzero(np.linalg.norm(vectors, axis=-1) <= cutoff)
        pairs.append(np.column_stack([i, j, shifts[i, j]]))
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


# The k nearest ------------------------------------------------------------------------------------


def nearest_neighbors(frame, k, dimensions=None, tie=1e-9):
    """Neighbors, lengths and shifts as in phaseseg.neighbors: all pairs over all images, all sorted."""
    pbc = frame.pbc.copy()
    pbc[2] &= (dimensions or frame.n_dimensions) == 3
    frame = frame.replace(pbc=pbc)
    reach = 0.7 * (k * frame.volume / frame.n_atoms) ** (1 / 3)
    while True:  # far enough for everyone
        pairs = neighbor_pairs(frame, reach)
        if (np.bincount(pairs[:, 0], minlength=frame.n_atoms) >= k).all():
            break
        reach *= 1.3
    lengths = pair_lengths(frame, pairs)
    found = []
    for atom in range(frame.n_atoms):
        own = np.flatnonzero(pairs[:, 0] == atom)
        own = own[np.argsort(lengths[own])]
        # Lengths that differ by less than `tie` from one to the next are one.
        shell = np.concatenate([[0], np.cumsum(np.diff(lengths[own]) > tie)])
        order = np.lexsort((*pairs[own][:, :0:-1].T, shell))
        found.append(own[order][:k])
    chosen = np.array(found).reshape(-1, k)
    return pairs[chosen, 1], lengths[chosen], pairs[chosen][..., 2:]


def symmetrized(neighbors, shifts):
    """Sorted (i, j, shift) of the graph of the k nearest: each edge both ways, once."""
    edges = set()
    for i, row in enumerate(neighbors):
        for m, j in enumerate(row):
            shift = shifts[i, m]
            edges |= {(i, int(j), *map(int, shift)), (int(j), i, *map(int, -shift))}
    return sorted(edges)


# Liquid or glass ----------------------------------------------------------------------------------


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


# Pictures -----------------------------------------------------------------------------------------


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


# Structural metrics of glass formers --------------------------------------------------------------


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


# Baselines for glasses ----------------------------------------------------------------------------


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


# Lennard-Jones mixtures ---------------------------------------------------------------------------


def lennard_jones(frame, potential):
    """Energies (n,) and forces (n, 3) of a `LennardJonesMixture`: every pair and every image of it."""
    codes = potential.codes(frame)
    shifts = image_shifts(frame.cell, frame.pbc, np.max(potential.cutoff))
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    positions = frame.positions - np.where(frame.pbc, np.floor(fractions), 0.0) @ frame.cell
    energies, forces = np.zeros(len(frame)), np.zeros((len(frame), 3))
    for i in range(len(frame)):
        for j in range(len(frame)):
            epsilon, sigma = potential.epsilon[codes[i], codes[j]], potential.sigma[codes[i], codes[j]]
            cutoff = potential.cutoff[codes[i], codes[j]]
            x = (sigma / cutoff) ** 6
            offset = 4 * epsilon * (x * x - x) if potential.shift == "energy" else 0.0
            apart = positions[j] - positions[i] + shifts
            r = np.linalg.norm(apart, axis=1)
            for d, length in zip(apart, r, strict=True):
                if length < cutoff and (i != j or length > 1e-9):
                    x = (sigma / length) ** 6
                    energies[i] += 0.5 * (4 * epsilon * (x * x - x) - offset)
                    forces[i] -= 24 * epsilon * (2 * x * x - x) / length**2 * d
    return energies, forces
