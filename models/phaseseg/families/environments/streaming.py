"""Clusters of more atoms than fit in memory: fitted over batches that are read several times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.clusters import (
    COMPONENTS,
    MOST_FITTED,
    REGULAR,
    Clusters,
    cluster,
    log_shares,
)  # fmt: skip
from phaseseg.families.environments.nearest import Index
from phaseseg.families.environments.projection import checked_rows
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Batches = Callable[[], Iterable[ArrayLike]] | Sequence[ArrayLike]

PART = 20_000
"""Rows of a batch that are worked on at a time."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """Clusters that were fitted over batches, and what they were fitted on.

    clusters : labels are ordered by size among all atoms; they assign new atoms as those of `cluster` do
    counts : (n_clusters,) atoms of each cluster
    n_atoms : atoms of one reading; n_sampled : atoms of the sample that scale, components, number of clusters
        and start come from
    objective : for each reading with an improvement, before it: mean log density of the atoms under the
        mixture, up to a constant, or mean squared distance to the nearest center
    """

    clusters: Clusters
    counts: Integers
    n_atoms: int
    n_sampled: int
    objective: tuple[float, ...]


def stream_clusters(
    batches: Batches, method: Literal["mixture", "kmeans"] = "mixture", *, passes: int = 2,
    sample: int = MOST_FITTED, n_components: int = COMPONENTS, compress: bool = True, seed: int = 0,
    progress: Progress | None = None, **options: Any,
) -> Streamed:  # fmt: skip
    """Fit a Gaussian mixture or k-means to any number of atoms in constant memory.

    The first reading draws a uniform sample, on which `cluster` fits the scale, the principal components, the
    number of clusters and a start. Each of the following `passes` readings is one exact step over all
    atoms: of expectation maximization, or of Lloyd's algorithm. The last reading counts. The result
    does not depend on how the atoms are divided into batches, up to rounding.

    Parameters
    ----------
    batches : arrays (n, n_features), or a function that returns them anew at each call, such as
        `lambda: map_frames(descriptor, read_frames(path), workers=8)`
    method : "mixture" or "kmeans", with its options of `cluster`
    passes : readings with an improvement; 0 for the fit to the sample
    sample : atoms of the sample
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    ValueError
        For another method, passes below 0, fewer than two atoms, batches with different numbers of features,
        or another number of atoms at a later reading.

    References
    ----------
    Vitter, ACM Trans. Math. Softw. 11, 37 (1985), doi:10.1145/3147.3165 (sampling without the number of
    rows); Dempster, Laird, Rubin, J. R. Stat. Soc. B 39, 1 (1977), doi:10.1111/j.2517-6161.1977.tb01600.x.

    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(0, 1, (600, 3)), rng.normal(9, 1, (400, 3))])
    >>> stream_clusters(lambda: np.split(rows, 10), n_clusters=2, compress=False).counts.tolist()
    [600, 400]
    """
    if method not in _STEPS:
        raise ValueError(f"only {' and '.join(_STEPS)} are fitted over batches, found {method!r}.")
    if isinstance(passes, bool) or not isinstance(passes, (int, np.integer)) or passes < 0:
        raise ValueError(f"passes must be a whole number from 0 on, found {passes!r}.")
    if isinstance(sample, bool) or not isinstance(sample, (int, np.integer)) or sample < 2:
        raise ValueError(f"a sample has at least two atoms, found {sample!r}.")
    rng = np.random.default_rng(seed)
    drawn, n_atoms = _sampled(batches, int(sample), rng, progress)
    found = cluster(drawn, method, n_components=n_components, compress=compress, seed=seed, **options)
    objective: list[float] = []
    for reading in range(int(passes)):
        step = _STEPS[method](found)
        for part in _read(batches, n_atoms, reading + 1, passes + 2, progress):
            step.add(found.project(part))
        value, arrays = step.updated(n_atoms)
        objective.append(value)
        found = replace(found, arrays=arrays)
    counts = np.zeros(found.n_clusters, dtype=np.int64)
    for part in _read(batches, n_atoms, passes + 1, passes + 2, progress):
        counts += np.bincount(found.assign(part), minlength=len(counts))
    order = np.argsort(-counts, kind="stable")
    arrays = {
        name: values[order] if name in ("means", "cholesky", "weights", "points") else values
        for name, values in found.arrays.items()
    }
    return Streamed(replace(found, arrays=arrays), counts[order], n_atoms, len(drawn), tuple(objective))


def _sampled(
    batches: Batches, most: int, rng: np.random.Generator, progress: Progress | None
) -> tuple[Doubles, int]:
    """A uniform sample, in the order of the atoms, and the number of all: those with the smallest keys."""
    rows, keys, places = np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64)
    n = 0
    for part in _parts(batches):
        fresh = rng.random(len(part))
        rows = rows.reshape(-1, part.shape[1]) if not len(rows) else rows
        if rows.shape[1] != part.shape[1]:
            raise ValueError(
                f"a batch has {part.shape[1]} features, and those before have {rows.shape[1]}. Use one "
                "descriptor with the same settings."
            )
        some = fresh < keys.max() if len(keys) == most else np.ones(len(part), dtype=bool)
        rows = np.concatenate([rows, part[some]])
        keys = np.concatenate([keys, fresh[some]])
        places = np.concatenate([places, n + np.flatnonzero(some)])
        if len(keys) > most:
            kept = np.sort(np.argpartition(keys, most)[:most])
            rows, keys, places = rows[kept], keys[kept], places[kept]
        n += len(part)
        if progress is not None:
            progress(0.0, f"sampling: {n:,} atoms")
    return rows[np.argsort(places)], n


def _read(
    batches: Batches, n_atoms: int, reading: int, readings: int, progress: Progress | None
) -> Iterator[Doubles]:
    n = 0
    for part in _parts(batches):
        yield part
        n += len(part)
        if progress is not None:
            progress((reading + min(n / n_atoms, 1.0)) / readings, f"reading {reading + 1} of {readings}")
    if n != n_atoms:
        raise ValueError(
            f"a later reading of the batches gave {n:,} atoms, and the first {n_atoms:,}; `batches` must "
            "return the same at each call."
        )


def _parts(batches: Batches) -> Iterator[Doubles]:
    for batch in batches() if callable(batches) else batches:
        rows = checked_rows(batch)
        for first in range(0, len(rows), PART):
            yield rows[first : first + PART]


class _MixtureStep:
    """Sums of one step of expectation maximization."""

    def __init__(self, clusters: Clusters) -> None:
        self._old = clusters.arrays
        k, d = self._old["means"].shape
        self._total, self._first, self._second = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
        self._value = 0.0

    def add(self, points: Doubles) -> None:
        logs = log_shares(points, self._old)
        most = logs.max(axis=1, keepdims=True)
        shares = np.exp(np.maximum(logs - most, -700))
        total = shares.sum(axis=1, keepdims=True)
        self._value += float((np.log(total) + most).sum())
        shares /= total
        self._total += shares.sum(axis=0)
        for k, mean in enumerate(self._old["means"]):
            inside = shares[:, k] > 1e-12
            off, share = points[inside] - mean, shares[inside, k]
            self._first[k] += share @ off
            self._second[k] += (off * share[:, None]).T @ off

    def updated(self, n_atoms: int) -> tuple[float, dict[str, NDArray[Any]]]:
        found = {name: values.copy() for name, values in self._old.items()}
        for k in np.flatnonzero(self._total > 1e-6).tolist():  # what has lost all its atoms stays
            shift = self._first[k] / self._total[k]
            covariance = self._second[k] / self._total[k] - np.outer(shift, shift)
            found["means"][k] += shift
            found["cholesky"][k] = np.linalg.cholesky(covariance + REGULAR * np.eye(len(shift)))
        weights = np.maximum(self._total, 1e-6)
        found["weights"] = weights / weights.sum()
        return self._value / n_atoms, found


class _CenterStep:
    """Sums of one step of Lloyd's algorithm."""

    def __init__(self, clusters: Clusters) -> None:
        self._old = clusters.arrays
        self._index = Index(self._old["points"])
        self._total = np.zeros(len(self._old["points"]))
        self._sum, self._value = np.zeros_like(self._old["points"]), 0.0

    def add(self, points: Doubles) -> None:
        near, far = (values.ravel() for values in self._index.search(1, queries=points))
        self._value += float((far**2).sum())
        self._total += np.bincount(near, minlength=len(self._total))
        for axis in range(points.shape[1]):
            self._sum[:, axis] += np.bincount(near, weights=points[:, axis], minlength=len(self._total))

    def updated(self, n_atoms: int) -> tuple[float, dict[str, NDArray[Any]]]:
        some = self._total > 0
        centers = np.where(
            some[:, None], self._sum / np.maximum(self._total, 1)[:, None], self._old["points"]
        )
        return self._value / n_atoms, {**self._old, "points": centers}


_STEPS: dict[str, Any] = {"mixture": _MixtureStep, "kmeans": _CenterStep}
