"""Structural outliers: atoms whose environment has no like in other configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.components import batch_of, principal_axes
from phaseseg.families.environments.nearest import Index, checked_labels
from phaseseg.families.environments.projection import checked_rows
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

NEIGHBORS = 8
"""An environment is typical if this many other configurations have one like it."""
COMPONENTS = 16
"""Principal components of the descriptors in which distances are measured."""
LOCAL = 1 / 3
"""Exponent of the distances among the neighbors in the score."""
MOST_COMPARED = 50_000
"""Atoms that all atoms are compared with; of more, a random sample. In 16 dimensions the exact search among
all atoms grows nearly as their square."""
STRANGE = 3.0
"""Scores from here on may be outliers; 1 is typical."""
FENCE, LEAST = 1.5, 10
"""Interquartile ranges above the third quartile that are usual in a group; and the fewest configurations of
a group that has a limit of its own."""
TOLERANCE = 1e-9
"""Coordinates along principal components are rounded to multiples of this, so that copies are equal."""


@dataclass(frozen=True, eq=False)
class RobustScale:
    """x -> (arcsinh((x - center) / spread) - mean) @ axes.

    center, spread : (n_features,) median and normal-consistent median deviation, 0 for a constant feature
    mean : (n_features,); axes : (n_features, n_components), divided by the standard deviations
    """

    center: Doubles
    spread: Doubles
    mean: Doubles
    axes: Doubles

    def __call__(self, rows: ArrayLike) -> Doubles:
        """Return (n, n_components) of (n, n_features); ValueError if the number of features differs."""
        values = checked_rows(rows, len(self.center))
        points = np.empty((len(values), self.axes.shape[1]))
        batch = batch_of(values.shape[1])
        for k in range(0, len(values), batch):  # copies of the rows stay small
            part = _squeezed(values[k : k + batch], self.center, self.spread)
            points[k : k + batch] = (part - self.mean) @ self.axes
        return np.rint(points / TOLERANCE) * TOLERANCE


def fit_scale(rows: Doubles, n_components: int) -> RobustScale:
    """Fit the scale to rows (n, n_features), at least two: principal components of unit variance."""
    if isinstance(n_components, bool) or not isinstance(n_components, (int, np.integer)) or n_components < 1:
        raise ValueError(f"n_components must be a whole number from 1 on, found {n_components!r}.")
    center, spread = np.empty(rows.shape[1]), np.empty(rows.shape[1])
    for column in range(len(center)):  # by columns and batches, to save memory
        center[column] = np.median(rows[:, column])
        off = np.abs(rows[:, column] - center[column])
        middle, widest = 1.4826 * float(np.median(off)), float(off.max())
        # A feature that is equal for most atoms has no median deviation, but it may distinguish the others.
        spread[column] = middle if middle > 1e-6 * widest else off.mean()
        if widest <= 1e-9 * max(abs(center[column]), 1e-3):
            spread[column] = 0.0
    batch = batch_of(rows.shape[1])
    parts = [rows[k : k + batch] for k in range(0, len(rows), batch)]
    mean = np.sum([_squeezed(part, center, spread).sum(axis=0) for part in parts], axis=0) / len(rows)

    def centered(part: Any) -> Doubles:
        return np.asarray(_squeezed(rows[part], center, spread) - mean)

    variances, axes, _ = principal_axes(centered, len(rows), len(center), n_components)
    order = np.flatnonzero(variances > 1e-9 * max(float(variances.max()), 1e-300))
    axes = axes[:, order] / np.sqrt(variances[order])
    return RobustScale(center, spread, mean, axes if len(order) else np.zeros((rows.shape[1], 1)))


def _squeezed(values: Doubles, center: Doubles, spread: Doubles) -> Doubles:
    inverse = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
    return np.asarray(np.arcsinh((values - center) * inverse))


@dataclass(frozen=True, eq=False)
class OutlierModel:
    """What outlier scores of new atoms need: the distinct environments of a set, and their distances.

    Let d be the distance of an atom to the k-th of the nearest other configurations, each at its nearest
    atom, l the mean of d over these nearest atoms, and t the median of the positive d of the set. Then

        s = (d / t) / max(l / t, 1)^(1/3)

    So an atom with s = 5 is at least five times as far from others as is typical. Where the others are far
    from each other, too, as in a liquid, the same distance is less strange. Atoms with copies in k other
    configurations have s = 0.

    scale : of descriptors to points; points : (n_distinct, d); labels : (n_distinct,) their configurations;
    reach : (n_distinct,) d; typical : t; k : number of neighbors
    by_atom : whether neighbors are single atoms, because there are not more than k configurations
    """

    scale: RobustScale
    points: Doubles
    labels: Integers
    reach: Doubles
    typical: float
    k: int
    by_atom: bool

    def scores(
        self, rows: ArrayLike, configurations: ArrayLike | None = None, *, progress: Progress | None = None
    ) -> Doubles:
        """Return (n_atoms,) scores of descriptors (n_atoms, n_features).

        configurations : (n_atoms,) configurations of the set that the atoms belong to, so that they are not
            compared with themselves; None for new atoms. A new atom may be the copy of one that itself
            has few others like it, and is then still an outlier.
        progress : called with the completed fraction and a line; may raise to stop

        Raises
        ------
        ValueError
            For descriptors with another number of features, or arrays that do not fit each other.
        """
        points = self.scale(rows)
        if not len(points):
            return np.zeros(0)
        own = np.full(len(points), -1)
        if configurations is not None:
            own = checked_labels(configurations, len(points), "atom")
        near, apart = _others(
            self.points, self.labels, points, own, self.k, self.by_atom, progress, index=self.index
        )
        return _scores(near, apart, self.reach, self.typical)

    @cached_property
    def index(self) -> Index:
        """Search among the points; made once, however many frames are asked for."""
        return Index(self.points)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all numbers of the model by name, to be stored."""
        found: dict[str, NDArray[Any]] = {
            f"scale.{f.name}": getattr(self.scale, f.name) for f in fields(RobustScale)
        }
        for f in fields(self):
            if f.name != "scale":
                found[f.name] = np.asarray(getattr(self, f.name))
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> OutlierModel:
        """Return the model that `arrays` gave; ValueError where an array is missing."""
        try:
            scale = RobustScale(*(np.asarray(arrays[f"scale.{f.name}"]) for f in fields(RobustScale)))
            points, labels, reach = (np.asarray(arrays[name]) for name in ("points", "labels", "reach"))
            typical, k, by_atom = float(arrays["typical"]), int(arrays["k"]), bool(arrays["by_atom"])
        except KeyError as error:
            raise ValueError(
                f"the array {error} of the outlier model is missing; the file is damaged."
            ) from None
        return cls(scale, points, labels, reach, typical, k, by_atom)


def outlier_scores(
    rows: ArrayLike, configurations: ArrayLike, *, k: int = NEIGHBORS, n_components: int = COMPONENTS,
    most: int = MOST_COMPARED, seed: int = 0, progress: Progress | None = None,
) -> Doubles:  # fmt: skip
    """Return how unlike the environments of other configurations that of each atom is (see `OutlierModel`).

    Distances are measured in principal components of unit variance, after a robust scaling of each feature
    by arcsinh. A configuration is as strange as its strangest atom. With no more than k other
    configurations, neighbors are the nearest k atoms of others; with one configuration, of its other atoms.

    Parameters
    ----------
    rows : (n_atoms, n_features) descriptors
    configurations : (n_atoms,) integers, the configuration of each atom
    k : number of neighbors, at most the number of other configurations. More than k strange configurations
        that resemble each other hide each other and get low scores
    n_components : principal components; fewer where the rows span fewer dimensions
    most : atoms to compare with. Of more atoms, a random sample is used, as in Sugiyama and Borgwardt,
        Advances in Neural Information Processing Systems 26 (2013). A kind of environment that occurs in
        fewer than about k n_atoms / most configurations then looks strange
    seed : of the sample
    progress : called with the completed fraction and a line; may raise to stop

    Returns
    -------
    (n_atoms,) float64, larger is stranger and 1 is typical; all zeros if all environments are equal

    Raises
    ------
    ValueError
        For fewer than two atoms, descriptors that are not finite, or arrays that do not fit each other.

    >>> rows = np.concatenate([np.random.default_rng(0).normal(size=(99, 3)), [[9.0, 0, 0]]])
    >>> int(outlier_scores(rows, np.arange(100)).argmax())
    99
    """
    values = checked_rows(rows)
    if len(values) <= most:
        return fit_outliers(values, configurations, k=k, n_components=n_components, progress=progress)[1]
    of = checked_labels(configurations, len(values), "atom")
    model = sampled_outliers(values, of, most, seed, k=k, n_components=n_components)
    return model.scores(values, of, progress=progress)


def sampled_outliers(rows: Doubles, of: Integers, most: int, seed: Any, **options: Any) -> OutlierModel:
    """Return the model of a random sample of at most `most` atoms; options as of `fit_outliers`."""
    if len(rows) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        rows, of = rows[chosen], of[chosen]
    return fit_outliers(rows, of, **options)[0]


def fit_outliers(
    rows: ArrayLike, configurations: ArrayLike, *, k: int = NEIGHBORS, n_components: int = COMPONENTS,
    progress: Progress | None = None,
) -> tuple[OutlierModel, Doubles]:  # fmt: skip
    """Return the model for new atoms and the (n_atoms,) scores of these; arguments as of `outlier_scores`."""
    values = checked_rows(rows)
    of = checked_labels(configurations, len(values), "atom")
    if len(values) < 2:
        raise ValueError(f"outlier scores compare atoms, so they need at least two, found {len(values)}.")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be a whole number from 1 on, found {k!r}.")
    scale = fit_scale(values, n_components)
    points = scale(values)
    kinds, of = np.unique(of, return_inverse=True)
    by_atom = len(kinds) <= k
    if by_atom:
        own, members = of.reshape(-1).astype(np.int64), np.arange(len(values))
    else:  # copies within a configuration count once
        points, own, members = _distinct(points, of.reshape(-1).astype(np.int64))
    n_others = len(values) - 1 if len(kinds) == 1 else len(values) - int(np.bincount(of).max())
    k = min(int(k), n_others)
    near, apart = _others(points, own, points, own, k, by_atom, progress, itself=True)
    reach = apart[np.arange(len(apart)), np.isfinite(apart).sum(axis=1) - 1]
    far = reach[members]
    typical = float(np.median(far[far > 0])) if (far > 0).any() else 1.0
    labels = kinds[own].astype(np.int64)
    model = OutlierModel(scale, points, labels, reach, typical, k, by_atom)
    return model, _scores(near, apart, reach, typical)[members]


def outlier_limits(highest: ArrayLike, groups: ArrayLike | None = None) -> Doubles:
    """Return the scores from which on a configuration stands out in its group, (n_configurations,).

    It is Tukey's upper fence of the group, Q3 + 1.5 (Q3 - Q1) of the highest scores of its configurations,
    and at least 3. So where all configurations are strange, as in a liquid, only the strangest stand out.
    Groups of fewer than ten configurations have the limit of the whole set.

    highest : (n_configurations,) their highest scores; groups : (n_configurations,) names, or None

    >>> outlier_limits([1, 2, 1, 2, 8]).tolist(), outlier_limits([4, 6, 4, 6, 9]).tolist()
    ([3.5, 3.5, 3.5, 3.5, 3.5], [9.0, 9.0, 9.0, 9.0, 9.0])
    """
    values = np.asarray(highest, dtype=np.float64)

    def fence(own: Doubles) -> float:
        low, high = np.quantile(own, [0.25, 0.75])
        return max(STRANGE, float(high + FENCE * (high - low)))

    found = np.full(len(values), fence(values))
    if groups is not None:
        _, of = np.unique(np.asarray(groups), return_inverse=True)
        for group in np.flatnonzero(np.bincount(of) >= LEAST):
            found[of == group] = fence(values[of == group])
    return found


def _distinct(points: Doubles, of: Integers) -> tuple[Doubles, Integers, Integers]:
    """Points and configurations without copies within one, and the row of each atom among them."""
    keys = np.concatenate([of[:, None], points + 0.0], axis=1)
    kept, members = np.unique(keys, axis=0, return_inverse=True)
    return np.ascontiguousarray(kept[:, 1:]), kept[:, 0].astype(np.int64), members.reshape(-1)


def _others(
    points: Doubles, labels: Integers, queries: Doubles, own: Integers, k: int, by_atom: bool,
    progress: Progress | None, *, itself: bool = False, index: Index | None = None,
) -> tuple[Integers, Doubles]:  # fmt: skip
    """(n, k) nearest points outside the own configuration and their distances; `by_atom` as in the model."""
    if not by_atom:
        index = Index(points) if index is None else index
        if itself:
            return index.search(k, labels, progress=progress)
        return index.search(k, labels, queries=queries, own=own, progress=progress)
    if itself and len(np.unique(labels)) == 1:
        return Index(points).search(k, progress=progress)
    near, apart = np.full((len(queries), k), -1, dtype=np.int64), np.full((len(queries), k), np.inf)
    for label in np.unique(own).tolist():
        asked, others = np.flatnonzero(own == label), np.flatnonzero(labels != label)
        if not len(
            others
        ):  # a set of one configuration, asked for its own atoms: they are among their others
            others = np.arange(len(points))
        everything = index is not None and len(others) == len(points)
        searched = index if everything and index is not None else Index(points[others])
        found, apart[asked] = searched.search(k, queries=queries[asked], progress=progress)
        near[asked] = np.where(found >= 0, others[found], -1)
    return near, apart


def _scores(near: Integers, apart: Doubles, reach: Doubles, typical: float) -> Doubles:
    """(n,) scores of points whose neighbors have the distances `reach`."""
    known = near >= 0
    last = apart[np.arange(len(apart)), known.sum(axis=1) - 1]
    local = np.where(known, reach[near], 0.0).sum(axis=1) / known.sum(axis=1)
    return np.asarray(last / typical / np.maximum(local / typical, 1.0) ** LOCAL)
