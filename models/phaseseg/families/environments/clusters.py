"""Clusters of atomic environments: fitted once, saved as numbers, used on new atoms without another fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from scipy.spatial import cKDTree

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.environments.communities import communities, neighbor_matrix
from phaseseg.families.environments.contrast import Contrast
from phaseseg.families.environments.exact import from_parts, load_part, save_part, to_parts, whole
from phaseseg.families.environments.gaussians import Mixture, fit_mixture, kmeans
from phaseseg.families.environments.meagraph import fit_meagraph
from phaseseg.families.environments.nearest import Index
from phaseseg.families.environments.projection import Projection, checked_rows, fit_projection
from phaseseg.families.environments.spanning import by_size, merge_duplicates, spanning_tree

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

COMPONENTS = 10
"""Principal components that the methods work on, unless others are given."""
MIXTURE_RANGE = (4, 20)
"""Numbers of Gaussians among which the Bayesian information criterion chooses."""
CENTERS = 20
"""Centers of k-means, unless there are fewer distinct environments or another number is given."""
MOST_FITTED = 20_000
"""Atoms that a mixture and k-means are fitted on; of more, a random sample."""
MOST_OUTSIDE = 0.01
"""A larger share of atoms outside of the training of a network is reported."""
LARGEST = 1e13
"""Numbers of fitted clusters are smaller than this."""
TOLERANCE = 1e-9
"""Coordinates along principal components that round to the same multiple of this are equal."""
GRAPH_NEIGHBORS, RESOLUTION = 15, 0.5
"""Neighbors of an environment in the graph of communities, and resolution of the modularity."""
REGULAR = 1e-2
"""Added to the variances of a Gaussian, in standard deviations of a feature squared."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Fitted clusters. Labels run from 0, the largest, in the order of size in the set they were fitted on.

    method : its name; projection : of descriptors to principal components
    arrays : what the method keeps, by name; scores : criterion by number of clusters, if there was a choice
    embedding : of descriptors before the projection, or None
    """

    method: str
    projection: Projection
    arrays: Mapping[str, NDArray[Any]]
    scores: Mapping[int, float]
    embedding: Contrast | None = None

    @property
    def n_features(self) -> int:
        """Number of features of the descriptors."""
        return len(self.projection.unit) if self.embedding is None else self.embedding.n_features

    def project(self, rows: ArrayLike) -> Doubles:
        """Return the coordinates (n_atoms, n_components) in which the clusters lie."""
        return self.projection(rows if self.embedding is None else self.embedding(rows))

    @property
    def n_clusters(self) -> int:
        return int(self.arrays["n_clusters"])

    def assign(self, rows: ArrayLike) -> Integers:
        """Return (n_atoms,) labels of descriptors (n_atoms, n_features); -1 for none of the clusters.

        Only `tree`, `threshold` and `meagraph` give -1. The rows of the fit get the labels of the fit.

        Raises
        ------
        ValueError
            For descriptors with another number of features, or not finite.
        """
        points = self.project(rows)
        if not len(points):
            return np.zeros(0, dtype=np.int64)
        if self.method == "mixture":
            return np.asarray(log_shares(points, self.arrays).argmax(axis=1), dtype=np.int64)
        near, far = (values.ravel() for values in self.index.search(1, queries=points))
        found = np.asarray(self.arrays["labels"][near], dtype=np.int64)
        if self.method in ("threshold", "meagraph"):
            found[far > float(self.arrays["distance"]) + 2 * TOLERANCE] = -1
        return found

    def distances(self, rows: ArrayLike, labels: Integers) -> Doubles:
        """Return (n_atoms,) distances of descriptors to the clusters of their labels, without unit.

        With "mixture" it is the Mahalanobis distance to the Gaussian, in its standard deviations; otherwise
        the distance in principal components to the nearest center or fitted environment.
        """
        points = self.project(rows)
        if not len(points):
            return np.zeros(0)
        if self.method == "mixture":
            found = np.empty(len(points))
            for k in np.unique(labels).tolist():
                own = np.flatnonzero(labels == k)
                off = (points[own] - self.arrays["means"][k]).T
                white = solve_triangular(self.arrays["cholesky"][k], off, lower=True)
                found[own] = np.sqrt((white**2).sum(axis=0))
            return found
        return self.index.search(1, queries=points)[1].ravel()

    def outside(self, rows: ArrayLike) -> NDArray[np.bool_]:
        """Return (n_atoms,) whether descriptors are outside of the training of the network, if there is one.

        A network tells clusters apart only where it was trained: see `Contrast.outside` and `fit_meagraph`.
        Compressed environments are recognized, thin ones are not.
        """
        if self.embedding is not None:
            return self.embedding.outside(rows)
        largest = float(self.arrays.get("largest", LARGEST))
        if self.method != "meagraph" or largest >= LARGEST:
            return np.zeros(len(np.asarray(rows)), dtype=bool)
        return np.asarray((np.abs(self.project(rows)) > largest).any(axis=1))

    @cached_property
    def index(self) -> Index:
        """Search of the nearest center or fitted environment, for all methods but "mixture"."""
        return Index(self.arrays["points"])

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return settings for JSON and float32 arrays from which `clusters_from` makes the same clusters."""
        settings = {"method": self.method, "scores": {str(n): score for n, score in self.scores.items()}}
        weights = {f"clusters.{name}": to_parts(values, name) for name, values in self.arrays.items()}
        for one in fields(Projection):
            weights[f"projection.{one.name}"] = to_parts(getattr(self.projection, one.name), one.name)
        if self.embedding is not None:
            settings["embedding"], own = self.embedding.to_parts()
            weights |= {f"embedding.{name}": w if name.startswith("projection.") else w[None]
                        for name, w in own.items()}  # fmt: skip
        return settings, weights

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (.safetensors) for descriptors that come as arrays; reading it runs no code.

        A checkpoint for frames knows its descriptor, too; `phaseseg.families.environments.learn` makes one.
        """
        settings, weights = self.to_parts()
        save_part(path, "clusters", settings, weights)


def load_clusters(path: str | os.PathLike[str]) -> Clusters:
    """Read the clusters of any checkpoint of environments. ValueError for another file."""
    return load_part(path, "clusters", "fitted environments", "the array ", clusters_from)


def clusters_from(settings: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]) -> Clusters:
    """The inverse of `Clusters.to_parts`; KeyError, TypeError or ValueError for what cannot be used."""
    method = settings["method"]
    if method not in _METHODS:
        raise ValueError(f"there is no method {method!r:.60}")
    values = {name: from_parts(parts) for name, parts in weights.items()}
    if not all((np.abs(array) < LARGEST).all() for array in values.values()):
        raise ValueError(f"it holds numbers larger than {LARGEST:g}")
    projection = Projection(*(values[f"projection.{one.name}"] for one in fields(Projection)))
    n_features, n = projection.unit.size, projection.axes.shape[-1]
    _check_shape(projection.unit, (n_features,), "projection.unit")
    _check_shape(projection.center, (n_features,), "projection.center")
    _check_shape(projection.axes, (n_features, n), "projection.axes")
    head = "clusters."
    arrays: dict[str, NDArray[Any]] = {
        name.removeprefix(head): array for name, array in values.items() if name.startswith(head)
    }
    arrays["n_clusters"] = n_clusters = whole(arrays["n_clusters"], "n_clusters")
    _check_shape(n_clusters, (), "n_clusters")
    if method == "mixture":
        k = arrays["weights"].size
        _check_shape(arrays["weights"], (k,), "weights")
        _check_shape(arrays["means"], (k, n), "means")
        _check_shape(arrays["cholesky"], (k, n, n), "cholesky")
        if not (arrays["weights"] > 0).all() or not (np.diagonal(arrays["cholesky"], 0, 1, 2) > 1e-6).all():
            raise ValueError("weights and diagonals of a mixture must be positive")
    else:
        labels = arrays["labels"] = whole(arrays["labels"], "labels")
        k = int(labels.max()) + 1
        _check_shape(labels, (labels.size,), "labels")
        _check_shape(arrays["points"], (labels.size, n), "points")
        if method in ("threshold", "meagraph"):
            _check_shape(arrays["distance"], (), "distance")
            _check_shape(arrays.get("largest", np.zeros(())), (), "largest")
    if n_clusters != k:
        raise ValueError(f"there are {k} clusters, but {n_clusters} are stated")
    scores = {int(number): float(score) for number, score in settings.get("scores", {}).items()}
    embedding = None
    if "embedding" in settings:
        head = "embedding."
        own = {k.removeprefix(head): w for k, w in weights.items() if k.startswith(head)}
        own = {k: w if k.startswith("projection.") else w[0] for k, w in own.items()}
        embedding = Contrast.from_parts(settings["embedding"], own)
        if embedding.config.dimensions != n_features:
            raise ValueError("the embedding does not fit the projection")
    return Clusters(str(method), projection, arrays, scores, embedding)


def _check_shape(values: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, found {values.shape}")


def cluster(
    rows: ArrayLike, method: str = "mixture", *, n_components: int = COMPONENTS, compress: bool = True,
    embedding: Contrast | Checkpoint | str | os.PathLike[str] | None = None,
    projection: Projection | None = None, seed: int = 0, **options: Any,
) -> Clusters:  # fmt: skip
    """Find clusters among the descriptors of atoms.

    Parameters
    ----------
    rows : (n_atoms, n_features)
    method : "mixture": Gaussians on principal components, as many of `n_clusters=(4, 20)` as the Bayesian
        information criterion chooses, or a fixed number; "communities": of the graph of distinct
        environments and their `n_neighbors=15`, by modularity at `resolution=0.5`; "kmeans":
        `n_clusters=20` centers; "tree": the most stable clusters of the spanning tree with at least
        `smallest=20` atoms, or a level of it with up to `n_clusters`; "threshold": components of all pairs
        within a `distance`, single atoms included; "meagraph": components of the edges that survive in a
        `network`, by default that trained on tantalum, at a `rate`, with `normalize` and `neighbors` as in
        `meagraph_clusters`
    n_components : principal components; compress : see `fit_projection`; not for "meagraph"
    embedding : a network by `train_contrast`, or its checkpoint, whose rows take the place of compressed
        descriptors; not for "meagraph"
    projection : of `fit_projection`, where it is known; it takes the place of n_components and compress, and
        is not used with an embedding or "meagraph"
    seed : of what is drawn at random

    Raises
    ------
    ValueError
        For an unknown method or option, fewer than two atoms, or a value out of range.

    References
    ----------
    Schwarz, Ann. Stat. 6, 461 (1978), doi:10.1214/aos/1176344136 (criterion);
    Traag, Waltman, van Eck, Sci. Rep. 9, 5233 (2019), doi:10.1038/s41598-019-41695-z (communities).

    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(9, 1, (40, 3))])
    >>> np.bincount(cluster(rows, n_clusters=(1, 3), compress=False).assign(rows)).tolist()
    [60, 40]
    """
    if method not in _METHODS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(_METHODS)}.")
    make, known = _METHODS[method]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{method} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    if method == "meagraph":
        if embedding is not None:
            raise ValueError("meagraph reads descriptors; leave the embedding out, or choose another method.")
        return _meagraph(rows, **options)
    network = None if embedding is None else Contrast.of(embedding)
    values = checked_rows(rows) if network is None else network(rows)
    if projection is None or network is not None:
        projection = fit_projection(values, n_components, compress=compress and network is None)
    arrays, scores = make(projection(values), np.random.default_rng(seed), **options)
    return Clusters(method, projection, arrays, scores, network)


def outside_words(share: float) -> list[str]:
    """What a message says of the share of atoms outside of the training; nothing of a small one."""
    if share <= MOST_OUTSIDE:
        return []
    return [f"{share:.1%} of the atoms have environments far from those of the training, such as denser ones"]


# Methods -------------------------------------------------------------------------------------------


def _mixture(
    points: Doubles, rng: np.random.Generator, n_clusters: int | tuple[int, int] = MIXTURE_RANGE
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:
    fitted = _sample(points, rng)
    low, high = (n_clusters, n_clusters) if isinstance(n_clusters, (int, np.integer)) else n_clusters
    if not 1 <= low <= high:
        raise ValueError(f"n_clusters must be a number from 1 on or a range of them, found {n_clusters!r}.")
    if low == high and low > len(fitted):
        raise ValueError(f"{low} clusters need at least as many atoms, found {len(fitted)}.")
    most = high if low == high else _n_distinct(fitted)
    numbers = [n for n in _numbers(low, high) if n <= most] or [most]
    best, scores = None, {}
    for n in numbers:
        labels = kmeans(fitted, n, rng)[1]
        mixture = fit_mixture(fitted, labels, n, regular=REGULAR)
        scores[n] = mixture.criterion(fitted)
        if best is None or scores[n] < scores[len(best.weights)]:
            best = mixture
    assert best is not None
    found = {
        "means": best.means, "cholesky": best.cholesky, "weights": best.weights,
        "n_clusters": np.array(len(best.weights)),
    }  # fmt: skip
    counts = np.bincount(log_shares(points, found).argmax(axis=1), minlength=len(best.weights))
    order = np.argsort(-counts, kind="stable")
    found |= {name: found[name][order] for name in ("means", "cholesky", "weights")}
    return found, scores


def _n_distinct(points: Doubles) -> int:
    """Number of distinct environments, which is the most that clusters can be."""
    return len(merge_duplicates(points, TOLERANCE).points)


def _numbers(low: int, high: int) -> list[int]:
    """Numbers from low to high, in steps of about a fifth."""
    found = [low]
    while found[-1] < high:
        found.append(min(max(found[-1] + 1, round(found[-1] * 1.2)), high))
    return found


def log_shares(points: Doubles, arrays: Mapping[str, NDArray[Any]]) -> Doubles:
    """(n, n_clusters): log of the weight times the density of each Gaussian, up to a constant."""
    return Mixture(arrays["weights"], arrays["means"], arrays["cholesky"]).log_shares(points)


def _kmeans(
    points: Doubles, rng: np.random.Generator, n_clusters: int | None = None
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:
    fitted = _sample(points, rng)
    if n_clusters is None:
        n_clusters = min(CENTERS, _n_distinct(fitted))
    if not 1 <= n_clusters <= len(fitted):
        raise ValueError(f"n_clusters must be between 1 and the {len(fitted)} atoms, found {n_clusters}.")
    centers = np.unique(kmeans(fitted, n_clusters, rng)[0], axis=0)
    counts = np.bincount(cKDTree(centers).query(points)[1], minlength=len(centers))
    centers = centers[np.argsort(-counts, kind="stable")]
    return _kept(centers, np.arange(len(centers))), {}


def _communities(
    points: Doubles, rng: np.random.Generator, n_neighbors: int = GRAPH_NEIGHBORS,
    resolution: float = RESOLUTION,
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:  # fmt: skip
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, (int, np.integer)) or n_neighbors < 1:
        raise ValueError(f"n_neighbors must be a whole number from 1 on, found {n_neighbors!r}.")
    if not 0 < resolution < np.inf:
        raise ValueError(f"the resolution must be a positive number, found {resolution!r}.")
    merged = merge_duplicates(points, TOLERANCE)
    labels = communities(neighbor_matrix(merged.points, int(n_neighbors)), float(resolution), rng)
    return _kept(merged.points, _ordered(labels, merged.members)), {}


def _tree(
    points: Doubles, rng: np.random.Generator, smallest: int = 20, n_clusters: int | None = None
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:
    merged = merge_duplicates(points, TOLERANCE)
    tree = spanning_tree(merged.points).condensed(smallest, merged.counts)
    chosen = tree.stable() if n_clusters is None else tree.level(n_clusters)
    labels = tree.labels(chosen)
    return _kept(merged.points, _ordered(labels, merged.members)), {}


def _threshold(
    points: Doubles, rng: np.random.Generator, distance: float | None = None
) -> tuple[dict[str, NDArray[Any]], dict[int, float]]:
    if distance is None or not 0 <= distance < np.inf:
        raise ValueError(f"the method threshold needs a distance, zero or positive, found {distance}.")
    merged = merge_duplicates(points, TOLERANCE)
    labels = spanning_tree(merged.points).cut(float(distance))
    kept = _kept(merged.points, _ordered(labels, merged.members))
    return kept | {"distance": np.array(float(distance))}, {}


def _meagraph(rows: ArrayLike, **options: Any) -> Clusters:
    """The network sees the descriptors themselves, divided by the norms of their columns."""
    found = fit_meagraph(rows, **options)
    arrays = _kept(found.points, found.point_labels) | {"distance": np.array(found.distance)}
    if found.largest is not None:
        arrays["largest"] = np.array(found.largest)
    return Clusters("meagraph", found.projection, arrays, {})


_METHODS: Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "mixture": (_mixture, ("n_clusters",)),
    "communities": (_communities, ("n_neighbors", "resolution")),
    "kmeans": (_kmeans, ("n_clusters",)),
    "tree": (_tree, ("smallest", "n_clusters")),
    "threshold": (_threshold, ("distance",)),
    "meagraph": (_meagraph, ("network", "rate", "normalize", "neighbors")),
}


def _ordered(labels: Integers, members: Integers) -> Integers:
    """Labels of distinct points, ordered by the number of original points."""
    atoms = by_size(labels[members])
    found = np.empty(len(labels), dtype=np.int64)
    found[members] = atoms
    return found


def _kept(points: Doubles, labels: Integers) -> dict[str, NDArray[Any]]:
    return {"points": points, "labels": labels, "n_clusters": np.array(int(labels.max(initial=-1)) + 1)}


def _sample(points: Doubles, rng: np.random.Generator) -> Doubles:
    if len(points) <= MOST_FITTED:
        return points
    return points[np.sort(rng.choice(len(points), MOST_FITTED, replace=False))]
