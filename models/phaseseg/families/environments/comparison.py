"""What one set of environments has that another lacks, and which configurations of a pool close the gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.coverage import room_for_distances
from phaseseg.families.environments.coverage_kernels import lazy_greedy
from phaseseg.families.environments.nearest import Index, checked_labels
from phaseseg.families.environments.projection import Projection, checked_rows, fit_projection
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

COMPONENTS = 8
"""Principal components of the standardized descriptors in which distances are measured."""
REFERENCES = 1500
"""Atoms of the pool, drawn uniformly and again from uniformly drawn configurations, for the gap."""
OWN = 0.99
"""Quantile of the distances within a set that is its spacing."""
LEAST = 1e-6
"""Smallest spacing, in standard deviations of a feature: a set of copies covers only copies."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """How far the environments of a set B are from the nearest of a set A.

    distances : (n_b,) in units of `spacing`; beyond 1, A lacks the environment
    nearest : (n_b,) the atom of A that is nearest
    spacing : 99 % of the atoms of A have another of A, in another configuration if these are known, within
        this distance, in standard deviations of the features
    projection : of descriptors to the points between which distances are measured
    """

    distances: Doubles
    nearest: Integers
    spacing: float
    projection: Projection

    @property
    def beyond(self) -> NDArray[np.bool_]:
        """(n_b,) whether A lacks the environment: whether it is farther than its spacing."""
        return np.asarray(self.distances > 1)

    @property
    def share(self) -> float:
        """Share of the atoms of B whose environments A lacks."""
        return float(self.beyond.mean()) if len(self.distances) else 0.0

    @property
    def score(self) -> float:
        """Root mean square distance of B from A in standard deviations: the lower, the better A covers B.

        It compares sets A of any spacing, if they share a projection and B.
        """
        return float(np.sqrt((self.distances**2).mean()) * self.spacing) if len(self.distances) else 0.0


def coverage(
    rows: ArrayLike, others: ArrayLike, configurations: ArrayLike | None = None, *,
    projection: Projection | None = None, progress: Progress | None = None,
) -> Coverage:  # fmt: skip
    """Return how well the environments of a set A cover those of a set B.

    Parameters
    ----------
    rows : (n_a, n_features) descriptors of A; others : (n_b, n_features) of B
    configurations : (n_a,) the configuration of each atom of A, so that its spacing is not that of atoms of
        one configuration; None for atoms of any configuration
    projection : None for eight principal components of the standardized descriptors of both
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    ValueError
        For an empty A, descriptors that are not finite, or arrays that do not fit each other.

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(200, 3)), rng.normal(size=(50, 3))
    >>> coverage(a, b).share < 0.1, coverage(a, b + [9, 0, 0]).share
    (True, 1.0)
    """
    own, foreign = _both(rows, others)
    if projection is None:
        projection = usual_projection(own, foreign)
    return _covered(projection(own), projection(foreign), configurations, projection, progress)


def usual_projection(rows: Doubles, others: Doubles) -> Projection:
    """Eight principal components of the standardized descriptors of two sets, at least two atoms in all."""
    return fit_projection(np.concatenate([rows, others]), COMPONENTS, compress=False)


def _both(rows: ArrayLike, others: ArrayLike) -> tuple[Doubles, Doubles]:
    own, foreign = checked_rows(rows), checked_rows(others)
    if not len(own):
        raise ValueError("a set without atoms covers nothing; give at least one atom.")
    if own.shape[1] != foreign.shape[1]:
        raise ValueError(
            f"the sets have {own.shape[1]} and {foreign.shape[1]} features. Use the same descriptor with the "
            "same settings for both."
        )
    return own, foreign


def _covered(
    own: Doubles, foreign: Doubles, configurations: ArrayLike | None, projection: Projection,
    progress: Progress | None,
) -> Coverage:  # fmt: skip
    index = Index(own)
    of = None if configurations is None else checked_labels(configurations, len(own), "atom")
    if of is not None and (of == of[0]).all():
        of = None
    inside = index.search(1, of, progress=progress)[1].ravel()
    inside = inside[np.isfinite(inside)]
    spacing = max(float(np.quantile(inside, OWN)), LEAST) if len(inside) else LEAST
    near, apart = index.search(1, queries=foreign, progress=progress)
    return Coverage(apart.ravel() / spacing, near.ravel(), spacing, projection)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is in B that A lacks.

    coverage : of B by A
    atoms : atoms of B whose environments A lacks, the farthest first
    configurations : numbers of the configurations of B with such atoms, that with the largest sum of
        distances beyond the spacing first
    shares : (n_configurations,) share of the atoms of each configuration of B that A lacks
    """

    coverage: Coverage
    atoms: Integers
    configurations: Integers
    shares: Doubles


def compare(
    rows: ArrayLike, others: ArrayLike, configurations: ArrayLike | None = None,
    other_configurations: ArrayLike | None = None, *, projection: Projection | None = None,
    progress: Progress | None = None,
) -> Comparison:  # fmt: skip
    """Return what is in B (`others`) that A (`rows`) lacks: atoms and configurations, the newest first.

    other_configurations : (n_b,) integers from 0 on, the configuration of each atom of B; None for one. For
        the other arguments and errors see `coverage`.

    >>> a = np.random.default_rng(0).normal(size=(200, 2))
    >>> b = np.concatenate([a[:3], [[7.0, 0], [9, 9]]])
    >>> found = compare(a, b, other_configurations=[0, 0, 1, 1, 2])
    >>> found.atoms.tolist(), found.configurations.tolist(), found.shares.tolist()
    ([4, 3], [2, 1], [0.0, 0.5, 1.0])
    """
    found = coverage(rows, others, configurations, projection=projection, progress=progress)
    n = len(found.distances)
    of = (
        np.zeros(n, dtype=np.int64)
        if other_configurations is None
        else checked_labels(other_configurations, n, "atom")
    )
    beyond = np.flatnonzero(found.beyond)
    atoms = beyond[np.argsort(-found.distances[beyond], kind="stable")]
    counts = np.bincount(of)
    excess = np.bincount(of, weights=np.maximum(found.distances - 1, 0))
    order = np.argsort(-excess, kind="stable")
    shares = np.bincount(of, weights=found.beyond) / np.maximum(counts, 1)
    return Comparison(found, atoms, order[excess[order] > 0], shares)


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Configurations of a pool that close most of the gap between the pool and a set.

    configurations : (n,) their numbers, the most useful first; fewer than asked for if more close nothing
    gains : (n,) share of the gap that each closes, after those before; the gap is the mean distance of
        references in the pool to the nearest atom of the set and of the configurations chosen so far
    gap : the mean distance before, in standard deviations of the features
    """

    configurations: Integers
    gains: Doubles
    gap: float

    @property
    def closed(self) -> float:
        """Share of the gap that all of them close."""
        return float(self.gains.sum())


def suggest(
    rows: ArrayLike, pool: ArrayLike, pool_configurations: ArrayLike, n: int, *,
    projection: Projection | None = None, references: int = REFERENCES, seed: int = 0,
    progress: Progress | None = None,
) -> Suggestion:  # fmt: skip
    """Return the n configurations of a pool that should be added to a set next.

    Greedy facility location: each choice lowers most the sum, over references in the pool, of the distance
    to the nearest atom that is known. Outliers of the pool that are like nothing else close little, while
    a group of new configurations closes much. The greedy sum is at least 1 - 1/e of the best one.

    Parameters
    ----------
    rows : (n_atoms, n_features) descriptors of the set; it may be empty
    pool : (n_pool, n_features) descriptors of the pool
    pool_configurations : (n_pool,) integers, the configuration of each atom, 0 ... n_configurations - 1
    n : number of configurations
    projection : None for eight principal components of the standardized descriptors of both
    references : atoms drawn uniformly from the pool, and as many from uniformly drawn configurations; all
        atoms where there are no more
    seed : of what is drawn
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    ValueError
        For an empty pool, n below 1 or above the number of configurations, or arrays that do not fit.

    References
    ----------
    Nemhauser, Wolsey, Fisher, Math. Program. 14, 265 (1978), doi:10.1007/BF01588971.

    >>> pool = np.array([[0.1], [5.0], [5.1], [9.0]])
    >>> suggest([[0.0], [0.2]], pool, [0, 1, 2, 3], 2).configurations.tolist()
    [2, 3]
    """
    candidates = checked_rows(pool)
    own = checked_rows(rows) if len(np.asarray(rows)) else candidates[:0]
    of = checked_labels(pool_configurations, len(candidates), "atom of the pool")
    sizes = np.bincount(of)
    if not len(candidates) or not sizes.all():
        what = "the pool has no atoms" if not len(candidates) else "a configuration of the pool has no atoms"
        raise ValueError(f"{what}; number its configurations 0, 1, ... without gaps.")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= len(sizes):
        raise ValueError(f"n must be from 1 to the {len(sizes)} configurations of the pool, found {n!r}.")
    if isinstance(references, bool) or references < 1:
        raise ValueError(f"references must be 1 or more, found {references!r}.")
    if projection is None:
        projection = usual_projection(own, candidates) if len(own) + len(candidates) > 1 else None
    points = projection(candidates) if projection else np.zeros((1, 1))
    order = np.argsort(of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    items = np.ascontiguousarray(points[order])
    asked = items[_references(starts, references, np.random.default_rng(seed))]
    width = float(np.linalg.norm(np.ptp(items, axis=0))) + 1.0
    current = np.full(len(asked), width)  # of an empty set, everything is as far as the pool is wide
    if len(own) and projection:
        current = Index(projection(own)).search(1, queries=asked, progress=progress)[1].ravel()
    gap = float(current.mean())
    chosen, gains = np.empty(len(sizes), dtype=np.int64), np.empty(len(sizes))
    costs = np.ones(len(sizes))
    stored = room_for_distances(len(sizes), len(asked))
    none = np.zeros((0, 0))  # no fit: distances alone
    found = lazy_greedy(
        np.ascontiguousarray(asked.T), items, starts, costs, current, 1e-9 * width, chosen, gains, stored,
        none, starts, none, 0.0,
    )  # fmt: skip
    found = min(found, int(n))
    return Suggestion(chosen[:found], gains[:found] / max(gap * len(asked), 1e-300), gap)


def _references(starts: Integers, references: int, rng: np.random.Generator) -> Integers:
    """Atoms, configuration by configuration: uniformly drawn ones, then those of drawn configurations."""
    n, sizes = int(starts[-1]), np.diff(starts)
    if n <= 2 * references:
        return np.arange(n)
    some = rng.choice(n, references, replace=False)
    drawn = rng.integers(0, len(sizes), references)
    return np.concatenate([some, starts[drawn] + (rng.random(references) * sizes[drawn]).astype(np.int64)])
