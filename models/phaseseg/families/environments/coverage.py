"""Subsets of a data set at any budget: near to all of it and good to fit on (coverage), and baselines."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from phaseseg.families.environments.coverage_kernels import farthest_first, lazy_greedy, most_surprising_first
from phaseseg.families.environments.gaussians import kmeans
from phaseseg.families.environments.projection import checked_rows, fit_projection

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
By = Literal["configurations", "atoms"]

COMPONENTS = 8
"""Principal components of the standardized descriptors in which distances are measured."""
REFERENCES = 1500
"""References drawn uniformly from all atoms, and again as many from uniformly drawn configurations."""
FITTED = 24
"""Principal components that "coverage" fits, with a constant, to see what an item teaches."""
PRIOR = 1e-3
"""Inverse variance of the coefficients of this fit before the first item; an atom has an error of 1."""
SHARE = 0.3
"""Exponent of what an item teaches; the fall of the distances has the rest up to 1."""
MOST_CELLS = 50_000
"""Cells of "strata"; further items are in random order."""

MOST_STORED = 500_000_000
"""Bytes of distances between items and references that are stored; more are computed when needed."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """All items of a set (configurations or atoms), the most useful first. Every budget is a prefix.

    by : "configurations" or "atoms"
    order : (n_items,) numbers of the items; starts : (n_items + 1,) CSR of the atoms of each item
    atoms : (n_atoms,) the atoms item by item; points : (n_atoms, d) descriptors on principal components
    n_ranked : how many items at the front were ranked; those behind are in random order
    """

    by: By
    order: Integers
    starts: Integers
    atoms: Integers
    points: Doubles
    n_ranked: int

    def chosen(self, budget: float) -> Integers:
        """Return the numbers of the items within a share of the atoms, in their order; at least one.

        Items are taken until the next one does not fit. If the first does not fit, it is taken all the same.
        """
        most = checked_budget(budget) * len(self.atoms) * (1 + 1e-12)
        n = int(np.searchsorted(np.cumsum(np.diff(self.starts)[self.order]), most, "right"))
        return self.order[: max(n, 1)]

    def mask(self, budget: float) -> NDArray[np.bool_]:
        """Return (n_atoms,) whether each atom is in the subset."""
        found = np.zeros(len(self.atoms), dtype=bool)
        for item in self.chosen(budget).tolist():
            found[self.atoms[self.starts[item] : self.starts[item + 1]]] = True
        return found

    def weights(self, budget: float) -> Doubles:
        """Return (n_atoms,) weights, zero outside the subset, of mean 1 inside.

        The weight of an atom grows with the number of atoms of the whole set to which it is the nearest of
        the subset. In a subset of configurations, the atoms of one share their weight.
        """
        mask = self.mask(budget)
        inside = np.flatnonzero(mask)
        near = cKDTree(self.points[inside]).query(self.points)[1]
        found = np.zeros(len(mask))
        found[inside] = np.bincount(near, minlength=len(inside))
        if self.by == "configurations":
            for item in self.chosen(budget).tolist():
                own = self.atoms[self.starts[item] : self.starts[item + 1]]
                found[own] = found[own].mean()
        return np.asarray(found / found[inside].mean())


def rank(
    rows: ArrayLike, configurations: ArrayLike, *, by: By = "configurations", method: str | None = None,
    groups: ArrayLike | None = None, n_components: int = COMPONENTS, references: int = REFERENCES,
    seed: int = 0,
) -> Ranking:  # fmt: skip
    """Order the configurations or the atoms of a set so that every prefix is a good subset.

    Parameters
    ----------
    rows : (n_atoms, n_features) descriptors
    configurations : (n_atoms,) integers, the configuration of each atom, 0 ... n_configurations - 1
    by : what is chosen; "atoms" chooses rows of forces
    method :
        None: "coverage" for configurations, "strata" for atoms;
        "coverage": next comes the item with the largest D^0.7 L^0.3 / sqrt(n), where n is its number of
        atoms, D the fall of the sum over references of the distance to the nearest chosen atom (facility
        location), and L what it teaches a linear fit: the increase of log det (0.001 + X^T X), where X has
        a row for each chosen atom, 1 and the first 24 principal components times their standard deviations
        (a D-optimal design; components with little variance count less). D and L fall as items are
        chosen, so the greedy choice is lazy and exact;
        "strata": one random item of each of as many cells as there are items to choose. The cell with the
        largest spread is halved again and again;
        "random": at random; "group": at random within `groups`, so that every prefix has their shares;
        "kmeans": for 1, 2, 4 ... centers, the items nearest to the centers; "farthest": next comes the item
        with the atom farthest from all before; "entropy": next comes the item with the largest mean of
        -log p, where p is a Gaussian density of the atoms before (plus 1e-300); "leverage": by the largest
        leverage of an atom. "farthest" and "entropy" take a time that grows as the square of the number of
        atoms
    groups : (n_configurations,) names or numbers, for "group"
    n_components : principal components of the standardized descriptors in which distances are measured
    references : drawn uniformly from the atoms, and as many from uniformly drawn configurations; all
        atoms where there are no more
    seed : of what is drawn

    Raises
    ------
    ValueError
        For arrays that do not fit each other, an unknown method, or "group" without groups.

    References
    ----------
    Minoux, Optimization Techniques (1978) 234, doi:10.1007/BFb0006528 (lazy greedy); Cornuéjols, Fisher,
    Nemhauser, Manag. Sci. 23, 789 (1977), doi:10.1287/mnsc.23.8.789 (facility location); Chaloner,
    Verdinelli, Stat. Sci. 10, 273 (1995), doi:10.1214/ss/1177009939 (Bayesian D-optimal designs).

    >>> rows = np.repeat([[0.0], [1.0], [9.0]], [6, 3, 1], axis=0)
    >>> rank(rows, np.arange(10), references=10).chosen(0.3).tolist()
    [0, 9, 6]
    """
    values, of = checked_rows(rows), np.asarray(configurations)
    if of.shape != (len(values),) or of.dtype.kind not in "iu" or (of.size and of.min() < 0):
        raise ValueError(
            f"configurations must be one number from 0 on for each of the {len(values)} atoms, found "
            f"{of.dtype} {of.shape}."
        )
    if by not in ("configurations", "atoms"):
        raise ValueError(f"by must be configurations or atoms, found {by!r}.")
    if method is None:
        method = default_method(by)
    if method not in _METHODS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(_METHODS)}.")
    if isinstance(references, bool) or references < 1:
        raise ValueError(f"references must be 1 or more, found {references!r}.")
    item = of if by == "configurations" else np.arange(len(of))
    n_items = int(item.max(initial=-1)) + 1
    sizes = np.bincount(item, minlength=n_items)
    if len(values) < 2 or (empty := np.flatnonzero(sizes == 0)).size:
        what = (
            "a set needs at least two atoms" if len(values) < 2 else f"configuration {empty[0]} has no atoms"
        )
        raise ValueError(f"{what}; number the configurations 0, 1, ... without gaps.")
    n_fitted = max(n_components, FITTED) if method == "coverage" else n_components
    projection = fit_projection(values, n_fitted, compress=False)
    every = projection(values)
    points = every[:, :n_components].copy()
    atoms = np.argsort(item, kind="stable").astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rng = np.random.default_rng(seed)
    scaled = every[:, :FITTED]
    scaled *= projection.spread[:FITTED]  # in place: a set may have millions of atoms
    task = _Task(points[atoms], scaled, atoms, starts, of[atoms], rng, references, _numbers(groups, of))
    front = _METHODS[method](task)
    rest = np.setdiff1d(np.arange(n_items), front)
    order = np.concatenate([front, rng.permutation(rest)]).astype(np.int64)
    return Ranking(by, order, starts, atoms, points, len(front))


def prune(
    rows: ArrayLike, configurations: ArrayLike, budget: float, *, by: By = "configurations", **options: Any
) -> tuple[NDArray[np.bool_], Doubles]:
    """Return the mask and the weights of a subset: `rank` with its options, then one budget.

    budget : share of the atoms, above 0 and up to 1

    Returns
    -------
    mask : (n_atoms,) bool; weights : (n_atoms,), zero outside the subset, of mean 1 inside

    Raises
    ------
    ValueError
        For a budget out of range, and for what `rank` refuses.
    """
    checked_budget(budget)
    found = rank(rows, configurations, by=by, **options)
    return found.mask(budget), found.weights(budget)


def default_method(by: str) -> str:
    """The method of `rank` that is used if none is named."""
    return "coverage" if by == "configurations" else "strata"


def checked_budget(budget: float) -> float:
    """Return the budget; ValueError unless it is a share of the atoms above 0 and up to 1."""
    if isinstance(budget, bool) or not 0 < budget <= 1:
        raise ValueError(f"the budget is a share of the atoms above 0 and up to 1, found {budget!r}.")
    return float(budget)


@dataclass(frozen=True, eq=False)
class _Task:
    """What the methods work on: points item by item, their configurations, and groups of configurations.

    scaled : (n_atoms, at most `FITTED`) principal components times their standard deviations, in the order
        of the set; atoms : (n_atoms,) the atoms item by item
    """

    points: Doubles
    scaled: Doubles
    atoms: Integers
    starts: Integers
    configurations: Integers
    rng: np.random.Generator
    references: int
    groups: Integers | None

    @property
    def sizes(self) -> Integers:
        return np.diff(self.starts)

    @property
    def n_items(self) -> int:
        return len(self.starts) - 1

    def means(self) -> Doubles:
        """(n_items, d) mean point of each item."""
        return np.asarray(np.add.reduceat(self.points, self.starts[:-1]) / self.sizes[:, None])


def _numbers(groups: ArrayLike | None, configurations: NDArray[Any]) -> Integers | None:
    if groups is None:
        return None
    names, n = np.asarray(groups), int(configurations.max(initial=-1)) + 1
    if names.shape != (n,):
        raise ValueError(f"groups must name a group for each of the {n} configurations, found {names.shape}.")
    return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


# Methods: the items that are ranked, the best first -------------------------------------------------


def draw_references(task: _Task) -> Doubles:
    """(n, d): atoms drawn uniformly, then atoms of uniformly drawn configurations."""
    n = len(task.points)
    if n <= 2 * task.references:
        return task.points
    order = np.argsort(task.configurations, kind="stable")
    counts = np.bincount(task.configurations)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    some = task.rng.choice(n, task.references, replace=False)
    drawn = task.rng.integers(0, len(counts), task.references)
    place = first[drawn] + (task.rng.random(task.references) * counts[drawn]).astype(np.int64)
    return np.asarray(task.points[np.concatenate([some, order[place]])])


def room_for_distances(n_items: int, n_references: int) -> Doubles:
    """(n_items, n_references) for `lazy_greedy` to store distances in, or no rows if that is too much."""
    return np.empty((n_items if n_items * n_references * 8 <= MOST_STORED else 0, n_references))


def rows_of_fit(scaled: Doubles, atoms: Integers, starts: Integers) -> tuple[Doubles, Integers]:
    """Return (n_rows, d) rows (1, x) of the atoms of each item, and (n_items + 1,) their CSR.

    Of an item with more than d atoms, these are the d rows of a triangle with the same X^T X.
    """
    d, parts = scaled.shape[1] + 1, []
    for a, b in pairwise(starts.tolist()):
        own = np.ones((b - a, d))
        own[:, 1:] = scaled[atoms[a:b]]
        parts.append(own if b - a <= d else np.linalg.qr(own, mode="r"))
    ends = np.cumsum(np.minimum(np.diff(starts), d))
    return np.concatenate(parts), np.concatenate([[0], ends]).astype(np.int64)


def _coverage(task: _Task) -> Integers:
    references = np.ascontiguousarray(draw_references(task).T)
    # At first every reference is as far from what is chosen as the points are wide.
    width = float(np.linalg.norm(np.ptp(task.points, axis=0)))
    current = np.full(references.shape[1], width)
    order, gains = np.empty(task.n_items, dtype=np.int64), np.empty(task.n_items)
    stored = room_for_distances(task.n_items, references.shape[1])
    rows, row_starts = rows_of_fit(task.scaled, task.atoms, task.starts)
    found = lazy_greedy(
        references, task.points, task.starts, np.sqrt(task.sizes), current, 1e-9 * width, order, gains,
        stored, rows, row_starts, np.eye(rows.shape[1]) / PRIOR, SHARE,
    )  # fmt: skip
    return order[:found]


def _random(task: _Task) -> Integers:
    return np.asarray(task.rng.permutation(task.n_items), dtype=np.int64)


def _group(task: _Task) -> Integers:
    if task.groups is None:
        raise ValueError("the method group needs groups, one for each configuration.")
    own = task.groups[task.configurations[task.starts[:-1]]]
    key = np.empty(task.n_items)
    for group in np.unique(own):
        members = np.flatnonzero(own == group)
        # Evenly spaced places in the order, so that every prefix has the share of the group.
        key[task.rng.permutation(members)] = (np.arange(len(members)) + task.rng.random()) / len(members)
    return np.argsort(key, kind="stable").astype(np.int64)


def _kmeans(task: _Task) -> Integers:
    means, found, n = task.means(), np.zeros(0, dtype=np.int64), 1
    tree = cKDTree(means)
    while n <= min(task.n_items, 2048):
        near = tree.query(kmeans(means, n, task.rng, runs=1)[0])[1]
        fresh = np.setdiff1d(near, found)
        found = np.concatenate([found, task.rng.permutation(fresh)])
        n *= 2
    return found


def _strata(task: _Task) -> Integers:
    """One random item of each cell; the cells come from bisection of the one with the largest spread.

    Cells are nested, so an item of the larger set of cells never replaces one of the smaller set.
    """
    points, rng = task.means(), task.rng
    order = [int(rng.integers(len(points)))]
    cells = [(-_spread(points), 0, np.arange(len(points)), order[0])]
    while cells and len(order) < MOST_CELLS:
        spread, _, inside, chosen = heapq.heappop(cells)
        if spread >= 0:
            break  # all cells hold equal points only
        own = points[inside]
        axis = int(np.where(np.ptp(own, axis=0) > 0, own.var(axis=0), -1.0).argmax())
        values = own[:, axis]
        # Rounding can put the mean of nearly equal values beyond all of them.
        below = values < min(max(values.mean(), np.nextafter(values.min(), np.inf)), values.max())
        for half in (inside[below], inside[~below]):
            taken = chosen
            if not (half == chosen).any():
                taken = int(half[rng.integers(len(half))])
                order.append(taken)
            heapq.heappush(cells, (-_spread(points[half]), int(half[0]), half, taken))
    return np.array(order, dtype=np.int64)


def _spread(points: Doubles) -> float:
    """Sum of squared distances from the mean; 0 for points that are equal."""
    if (points == points[0]).all():
        return 0.0
    return float(((points - points.mean(axis=0)) ** 2).sum())


def _central(task: _Task) -> int:
    """The item whose mean is nearest to the mean of all atoms."""
    return int(np.argmin(((task.means() - task.points.mean(axis=0)) ** 2).sum(axis=1)))


def _farthest(task: _Task) -> Integers:
    order = np.empty(task.n_items, dtype=np.int64)
    farthest_first(task.points, task.starts, _central(task), order)
    return order


def _entropy(task: _Task) -> Integers:
    order = np.empty(task.n_items, dtype=np.int64)
    most_surprising_first(task.points, task.starts, _central(task), kernel_width(task.points), order)
    return order


def kernel_width(points: Doubles) -> float:
    """Width of the Gaussians of "entropy": the median distance to the tenth neighbor, at least 1e-6."""
    k = min(11, len(points))
    far = cKDTree(points).query(points[:: max(len(points) // 1000, 1)], k=[k])[0]
    return max(float(np.median(far)), 1e-6)


def _leverage(task: _Task) -> Integers:
    centered = task.points - task.points.mean(axis=0)
    white = np.linalg.pinv(centered.T @ centered)
    leverages = np.einsum("ij,jk,ik->i", centered, white, centered)
    best = np.maximum.reduceat(leverages, task.starts[:-1])
    return np.argsort(-best, kind="stable").astype(np.int64)


_METHODS: Mapping[str, Callable[[_Task], Integers]] = {
    "coverage": _coverage,
    "random": _random,
    "group": _group,
    "kmeans": _kmeans,
    "strata": _strata,
    "farthest": _farthest,
    "entropy": _entropy,
    "leverage": _leverage,
}
