"""Environments of atoms: power spectra by direct integration and sums over pairs of neighbors."""

from __future__ import annotations

import numpy as np
from scipy.special import eval_legendre, spherical_in

from naive.descriptors import vectors_within


def radial_integrals(r, cutoff, n_max, degree, width):
    """(n_max, len(r)): projections of a Gaussian at distance r on orthonormalized r^l exp(-α r²).

    A quadrature over the distance from the center; the integral over the angles of a Gaussian is a
    modified spherical Bessel function. The overlap of the functions is integrated, too.
    """
    x, dx = np.linspace(0, 4 * cutoff, 401, retstep=True)  # even and smooth: exact to rounding
    radii = np.linspace(1.0, cutoff, n_max)
    alpha = np.log(radii**degree / 1e-3) / radii**2
    primitive = x**degree * np.exp(-alpha[:, None] * x**2)
    overlap = (primitive * x**2) @ primitive.T * dx
    values, vectors = np.linalg.eigh(overlap)
    g = vectors @ np.diag(values**-0.5) @ vectors.T @ primitive
    a = 1 / (2 * width**2)
    r = np.atleast_1d(r)[:, None]
    # exp(-a (x² + r²)) i_l(2 a x r), without overflow.
    angular = 4 * np.pi * np.exp(-a * (x - r) ** 2) * scaled_bessel(degree, 2 * a * x * r)
    return (g * x**2) @ angular.T * dx


def scaled_bessel(degree, z):
    """exp(-z) i_l(z); beyond 300 by the asymptotic series, which ends for a spherical function."""
    small = np.minimum(z, 300.0)
    out = np.exp(-small) * spherical_in(degree, small)
    large = np.maximum(z, 300.0)
    series, term = np.ones_like(z), np.ones_like(z)
    for k in range(1, degree + 1):
        term = term * -(degree + k) * (degree - k + 1) / (2 * k * large)
        series = series + term
    return np.where(z > 300, series / (2 * large), out)


def power_spectrum(frame, species, cutoff=5.0, n_max=4, l_max=4, width=0.5, taper=1.0, atoms=None):
    """By the addition theorem: Σ_m c_lm c'_lm is a sum over pairs of neighbors of Legendre polynomials.

    atoms : those that get a row that is not zero; None for all
    """
    codes = np.array([species.index(frame.species_names[code]) for code in frame.species], dtype=int)
    pairs = [(a, b) for a in range(len(species) * n_max) for b in range(a, len(species) * n_max)]
    out = np.zeros((frame.n_atoms, len(pairs), l_max + 1))
    for i, j, vectors in vectors_within(frame, cutoff):
        if atoms is not None and i not in atoms:
            continue
        vectors = np.concatenate([vectors, np.zeros((1, 3))])  # the atom itself
        kinds = codes[np.append(j, i)]
        r = np.linalg.norm(vectors, axis=1)
        unit = vectors / np.where(r > 0, r, 1.0)[:, None]
        cosines = np.clip(unit @ unit.T, -1, 1)
        t = np.clip((r - cutoff + taper) / taper, 0, 1)
        fall = 1 - t**3 * (10 - 15 * t + 6 * t**2)
        for degree in range(l_max + 1):
            functions = radial_integrals(r, cutoff, n_max, degree, width) * fall
            legendre = (2 * degree + 1) / (4 * np.pi) * eval_legendre(degree, cosines)
            channels = np.concatenate([functions * (kinds == kind) for kind in range(len(species))])
            products = channels @ legendre @ channels.T
            factor = np.pi * np.sqrt(8 / (2 * degree + 1))
            out[i, :, degree] = [factor * products[pair] for pair in pairs]
    return out.reshape(frame.n_atoms, -1)


# Trees ---------------------------------------------------------------------------------------------


def spanning_lengths(points):
    """Sorted lengths of a minimum spanning tree by Prim's algorithm over all pairs."""
    far = np.full(len(points), np.inf)
    outside = np.ones(len(points), dtype=bool)
    lengths, last = [], 0
    for _ in range(len(points) - 1):
        outside[last] = False
        far = np.minimum(far, np.sqrt(((points - points[last]) ** 2).sum(axis=1)))
        last = int(np.argmin(np.where(outside, far, np.inf)))
        lengths.append(far[last])
    return np.sort(lengths)


def components_within(points, distance):
    """Components of the graph of all pairs within a distance, by flooding."""
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
    labels = np.full(len(points), -1)
    for start in range(len(points)):
        if labels[start] < 0:
            labels[start], todo = start, [start]
            while todo:
                near = np.flatnonzero((apart[todo.pop()] <= distance) & (labels < 0))
                labels[near] = start
                todo += near.tolist()
    return labels


def condensed(points, smallest):
    """{(born, died, stability): points} of the clusters that a falling threshold splits off.

    By the components at every distance of the tree: for distances that all differ.
    """
    lengths = spanning_lengths(points)[::-1]
    alive, found = [(frozenset(range(len(points))), np.inf, np.full(len(points), np.nan))], {}
    for length, below in zip(lengths, [*lengths[1:], 0.0], strict=True):
        labels = components_within(points, (length + below) / 2)
        following = []
        for members, born, left in alive:
            inside = [i for i in members if np.isnan(left[i])]
            parts = [[i for i in inside if labels[i] == label] for label in set(labels[inside].tolist())]
            large = [part for part in parts if len(part) >= smallest]
            stays = large[0] if len(large) == 1 else []
            for i in inside:
                if i not in stays:
                    left[i] = length
            if stays:
                following.append((members, born, left))
                continue
            stability = sum(1 / left[i] - 1 / born for i in members)
            found[round(born, 9), round(length, 9), round(stability, 6)] = members
            following += [(frozenset(part), length, np.full(len(points), np.nan)) for part in large]
        alive = following
    return found


# Subsets -------------------------------------------------------------------------------------------


def scaled_components(rows):
    """All principal components of standardized rows times their standard deviations."""
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    return rows @ axes * np.sqrt(np.maximum(variances, 0))


def coverage(points, scaled, items):
    """Items in the greedy order of `_gain`, until no distance gets smaller; all atoms are references."""
    known, order = _distances(points, items), []
    while len(order) <= items.max():
        gains = [0 if c in order else _gain(known, scaled, items, order, c) for c in range(items.max() + 1)]
        if not max(gains) > 0:
            break
        order.append(int(np.argmax(gains)))
    return np.array(order, dtype=int)


def gains_in_order(points, scaled, items, order):
    """Gains of items that are chosen in that order."""
    known = _distances(points, items)
    return np.array([_gain(known, scaled, items, order[:k], item) for k, item in enumerate(order)])


def _gain(known, scaled, items, order, item):
    """D^0.7 L^0.3 per root of the size of an item after some: of distances and of a determinant."""
    far, costs, width = known
    current = np.minimum(far[:, order].min(axis=1, initial=np.inf), width)
    nearer = np.maximum(current - far[:, item], 0).sum()
    if nearer <= 1e-9 * width * costs[item]:
        return 0.0

    def log_determinant(chosen):
        own = np.insert(scaled[np.isin(items, chosen)], 0, 1, axis=1)
        return np.linalg.slogdet(1e-3 * np.eye(own.shape[1]) + own.T @ own)[1]

    taught = log_determinant([*order, item]) - log_determinant(order)
    return nearer**0.7 * max(taught, 0) ** 0.3 / costs[item]


def _distances(points, items):
    """(n_points, n_items) least distances, roots of the sizes, and the diagonal of the box of all points."""
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
    far = np.stack([apart[:, items == item].min(axis=1) for item in range(items.max() + 1)], axis=1)
    return far, np.sqrt(np.bincount(items)), np.linalg.norm(np.ptp(points, axis=0))


def farthest_first(points, items, first):
    order = [first]
    while len(order) <= items.max():
        inside = np.isin(items, order)
        far = ((points[:, None] - points[inside]) ** 2).sum(axis=-1).min(axis=1)
        far[inside] = -1
        order.append(int(items[np.argmax(far)]))
    return np.array(order)


def most_surprising_first(points, items, first, width):
    order = [first]
    while len(order) <= items.max():
        squares = ((points[:, None] - points[np.isin(items, order)]) ** 2).sum(axis=-1)
        surprise = -np.log(1e-300 + np.exp(-squares / (2 * width**2)).sum(axis=1))
        means = np.array([surprise[items == item].mean() for item in range(items.max() + 1)])
        means[order] = -np.inf
        order.append(int(np.argmax(means)))
    return np.array(order)


# Neighbors -----------------------------------------------------------------------------------------


def nearest_of_other_labels(points, labels, queries, own, k):
    """(n_queries, k) distances to the nearest points of k labels other than their own, or infinity."""
    apart = np.sqrt(((queries[:, None] - points) ** 2).sum(axis=-1))
    out = np.full((len(queries), k), np.inf)
    for row, distances in enumerate(apart):
        least = sorted(
            distances[labels == label].min() for label in np.unique(labels) if label != own[row]
        )[:k]  # fmt: skip
        out[row, : len(least)] = least
    return out


def outlier_scores(points, of, k, by_atom):
    """Scores by all pairs, as `OutlierModel` defines them; neighbors are atoms or configurations."""
    nearest = _neighbors(points, of, points, of, k, by_atom)
    reach = np.array([far[-1] for _, far in nearest])
    return _strange(nearest, reach)


def sampled_scores(points, of, references, labels, k):
    """The same of points that are compared with references in configurations `labels`."""
    known = _neighbors(references, labels, references, labels, k, by_atom=False)
    reach = np.array([far[-1] for _, far in known])
    return _strange(_neighbors(references, labels, points, of, k, by_atom=False), reach)


def _neighbors(points, of, queries, own, k, by_atom):
    """For each query its nearest points in other configurations and their distances, in order."""
    apart, found = np.sqrt(((queries[:, None] - points) ** 2).sum(axis=-1)), []
    for i in range(len(queries)):
        others = np.flatnonzero(of != own[i])
        if len(np.unique(of)) == 1:
            others = np.delete(np.arange(len(points)), i)
        order = others[np.argsort(apart[i, others], kind="stable")]
        if not by_atom:  # the nearest atom of each configuration
            order = order[np.sort(np.unique(of[order], return_index=True)[1])]
        found.append((order[:k], apart[i, order[:k]]))
    return found


def _strange(nearest, reach):
    typical = np.median(reach[reach > 0])
    far = np.array([distances[-1] for _, distances in nearest])
    local = np.array([reach[near].mean() for near, _ in nearest])
    return far / typical / np.maximum(local / typical, 1) ** (1 / 3)


def modularity(matrix, labels, resolution):
    """Σ_c [w_c - resolution K_c² / K] / K of a dense symmetric matrix."""
    total, value = max(matrix.sum(), 1e-300), 0.0
    for c in np.unique(labels):
        inside = labels == c
        value += matrix[inside][:, inside].sum() - resolution * matrix[inside].sum() ** 2 / total
    return value / total


# Comparisons of sets -------------------------------------------------------------------------------


def covered(points, of, others):
    """Spacing of points in configurations, and distances of others to the nearest in units of it."""
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
    foreign = of[:, None] != of if len(np.unique(of)) > 1 else ~np.eye(len(points), dtype=bool)
    spacing = np.quantile(np.where(foreign, apart, np.inf).min(axis=1), 0.99)
    far = np.sqrt(((others[:, None] - points) ** 2).sum(axis=-1)).min(axis=1)
    return spacing, far / spacing


def suggested(points, pool, of, n):
    """Configurations of the pool in greedy order, and the share of the gap that each closes."""
    far = np.sqrt(((pool[:, None] - points) ** 2).sum(axis=-1)).min(axis=1)
    between = np.sqrt(((pool[:, None] - pool) ** 2).sum(axis=-1))
    gap, order, gains = far.sum(), [], []
    for _ in range(n):
        best = max(
            (np.maximum(far - between[:, of == c].min(axis=1), 0).sum(), -c) for c in range(of.max() + 1)
        )  # fmt: skip
        order.append(-best[1])
        gains.append(best[0] / gap)
        far = np.minimum(far, between[:, of == -best[1]].min(axis=1))
    return order, gains


# Streams -------------------------------------------------------------------------------------------


def em_step(points, weights, means, covariances, regular):
    """One step of expectation maximization over all points at once; also the mean log density before."""
    d = points.shape[1]
    density = np.empty((len(points), len(weights)))
    for k in range(len(weights)):
        off = points - means[k]
        squares = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariances[k]), off)
        density[:, k] = weights[k] * np.exp(-squares / 2) / np.sqrt(np.linalg.det(covariances[k]))
    value = np.log(density.sum(axis=1)).mean()
    shares = density / density.sum(axis=1, keepdims=True)
    total = shares.sum(axis=0)
    means = shares.T @ points / total[:, None]
    covariances = np.stack([
        (shares[:, k, None] * (points - means[k])).T @ (points - means[k]) / total[k] + regular * np.eye(d)
        for k in range(len(total))
    ])  # fmt: skip
    return value, total / total.sum(), means, covariances


def lloyd_step(points, centers):
    """Mean squared distance to the nearest center, and the means of the points of each."""
    squares = ((points[:, None] - centers) ** 2).sum(axis=-1)
    near = squares.argmin(axis=1)
    moved = [points[near == k].mean(axis=0) if (near == k).any() else c for k, c in enumerate(centers)]
    return squares.min(axis=1).mean(), np.stack(moved)


def bisected(points, k):
    """k cells: the one with the largest sum of squares is halved at the mean of its widest coordinate."""
    cells = [np.arange(len(points))]
    while len(cells) < k:
        sums = [
            ((points[c] - points[c].mean(axis=0)) ** 2).sum() if np.ptp(points[c], axis=0).any() else -1
            for c in cells
        ]
        cell = cells.pop(int(np.argmax(sums)))
        own = points[cell][:, points[cell].var(axis=0).argmax()]
        cells += [cell[own < own.mean()], cell[own >= own.mean()]]
    return cells
