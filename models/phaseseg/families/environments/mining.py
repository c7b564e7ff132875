"""Curate a data set: what is in it, what repeats, what is strange or wrong, and which part of it suffices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.display import Message, option, plural
from phaseseg.families.environments.audit import Audit, audit as audit_labels
from phaseseg.families.environments.clusters import (
    COMPONENTS,
    TOLERANCE,
    Clusters,
    cluster,
    outside_words,
)
from phaseseg.families.environments.comparison import Comparison, Suggestion, compare, suggest
from phaseseg.families.environments.coverage import By, Ranking, checked_budget, default_method, rank
from phaseseg.families.environments.dataset import DataSet, Descriptor, Mapped
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.learn import compared_rows, described, without_neighbors, without_species
from phaseseg.families.environments.meagraph import DEFAULT, check_descriptor
from phaseseg.families.environments.nearest import Index
from phaseseg.families.environments.outliers import (
    COMPONENTS as OUTLIER_COMPONENTS,
    MOST_COMPARED,
    NEIGHBORS,
    outlier_limits,
    outlier_scores,
)
from phaseseg.families.environments.projection import Projection, fit_projection
from phaseseg.families.environments.spanning import merge_duplicates
from phaseseg.neighbors.graph import neighbor_graph
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Budgets of the coverage curve."""
MOST_QUERIED = 20_000
"""Atoms whose distance to a subset is measured; of more, a random sample."""
RANDOM_SUBSETS = 5
"""Random subsets that a subset is compared with."""
TOO_CLOSE = 0.5
"""Å; atoms closer than this to each other are reported. Bonds of hydrogen have 0.74 Å."""
SAME_ENERGY, SAME_FORCE = 1e-3, 0.02
"""Equal configurations whose energies (eV/atom) or forces (eV/Å) differ by more contradict each other."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What repeats in a set.

    n_distinct : number of distinct environments
    members : (n_atoms,) number of the distinct environment of each atom
    groups : numbers of configurations that are equal but for rotation, translation, order and repetition
    energy_spread : for each group the largest difference of energies, eV/atom; NaN without energies
    force_spread : for each group the largest difference of the lengths of forces, eV/Å; NaN without forces
    """

    n_distinct: int
    members: Integers
    groups: tuple[tuple[int, ...], ...]
    energy_spread: Doubles
    force_spread: Doubles

    @property
    def n_repeated(self) -> int:
        """Number of configurations that repeat an earlier one."""
        return sum(len(group) - 1 for group in self.groups)

    @property
    def contradictions(self) -> list[int]:
        """Numbers of the groups whose labels differ by more than `SAME_ENERGY` or `SAME_FORCE`."""
        differ = (self.energy_spread > SAME_ENERGY) | (self.force_spread > SAME_FORCE)
        return np.flatnonzero(differ).tolist()


@dataclass(frozen=True, eq=False)
class Pruned:
    """A subset, and how it compares with random subsets of the same size.

    ranking : of all configurations or atoms; budget : share of the atoms
    mask : (n_atoms,) whether an atom is in the subset; weights : (n_atoms,), zero outside, of mean 1 inside
    spacing : distance to the nearest environment of another configuration, which 99 % of the atoms do not
        exceed
    budgets : of the curves; distances : (n_budgets,) mean distance of the atoms to the subset, in `spacing`
    random : (n_subsets, n_budgets) the same for random subsets; nan where there is none
    covered, covered_random : share of the atoms within `spacing` of the subset, and of random subsets
    of : (n_atoms,) configuration of each atom
    """

    ranking: Ranking
    budget: float
    mask: NDArray[np.bool_]
    weights: Doubles
    spacing: float
    budgets: Doubles
    distances: Doubles
    random: Doubles
    covered: float
    covered_random: float
    of: Integers

    @property
    def configurations(self) -> Integers:
        """Numbers of the configurations that have an atom in the subset, in the order of the set."""
        return np.unique(self.of[self.mask])


@dataclass(frozen=True, eq=False)
class Mined:
    """Everything that was found in a data set. Parts that were not asked for are None.

    data : the set; rows : (n_atoms, n_features) descriptors; descriptor : their description
    points : (n_atoms, 2) the two leading principal components of the standardized features, on a compressed
        scale; explained : (2,) shares of the variance
    clusters, labels : fitted clusters, and (n_atoms,) the cluster of each atom
    scores : (n_atoms,) structural outlier scores
    audit : residuals of the labels
    pruned : a subset
    other, comparison, suggestion : a second set, what it has that this one lacks, and what to add of it
    """

    data: DataSet
    descriptor: str
    rows: Doubles
    points: Doubles
    explained: Doubles
    duplicates: Duplicates
    settings: Mapping[str, Any]
    clusters: Clusters | None = None
    labels: Integers | None = None
    scores: Doubles | None = None
    audit: Audit | None = None
    pruned: Pruned | None = None
    other: DataSet | None = None
    other_rows: Doubles | None = None
    comparison: Comparison | None = None
    suggestion: Suggestion | None = None
    messages: tuple[str, ...] = ()

    @property
    def highest_scores(self) -> Doubles:
        """(n_configurations,) highest outlier score of each configuration."""
        assert self.scores is not None
        return np.maximum.reduceat(self.scores, self.data.starts[:-1])

    @property
    def outlier_limits(self) -> Doubles:
        """(n_configurations,) scores from which on an atom of a configuration is reported."""
        return outlier_limits(self.highest_scores, self.data.groups)


def mine(
    data: DataSet, *, descriptor: Descriptor | None = None, name: str = "", method: str = "mixture",
    options: Mapping[str, Any] | None = None, budget: float | None = None, by: By = "configurations",
    selection: str | None = None, outliers: bool = False, audit: bool = False, against: DataSet | None = None,
    n_suggested: int = 0, seed: int = 0, progress: Progress | None = None, mapped: Mapped | None = None,
) -> Mined:  # fmt: skip
    """Look for clusters, duplicates and, where asked, outliers, wrong labels, a subset and what is missing.

    Parameters
    ----------
    data : configurations, with energies or forces for an audit
    descriptor : function of a frame; the power spectrum of all species by default. name : its description
    method : of the clusters, as for `cluster`, or "none"; options : its options
    budget : share of the atoms of the subset; None for none
    by : whether the subset is made of "configurations" or "atoms"
    selection : method of the subset, as for `rank`
    outliers : whether every atom gets a structural score
    audit : whether energies and forces are compared with a robust fit, see `audit.audit`
    against : a second set, to find what it has that this one lacks
    n_suggested : configurations of the second set to suggest
    seed : of what is drawn at random
    progress : called with the fraction that is done and a line of text; it may raise to interrupt
    mapped : applies the descriptor to all configurations, as for `DataSet.features`

    Raises
    ------
    ValueError
        For a budget that is not a share of the atoms, a set of one atom, an audit without energies,
        a network that was trained on another descriptor, suggestions without a second set, and whatever the
        parts refuse.
    """
    selection = selection or default_method(by)
    if budget is not None:
        checked_budget(budget)
    if data.n_atoms < 2:
        raise ValueError(f"{data.names[0]}: the data set has one atom; clusters need at least two.")
    if audit and data.energies is None:
        there = ", ".join(data.frames[0].info)
        raise ValueError(
            f"{data.names[0]}: an audit needs energies, and none was found under the usual names. The "
            f"configuration has {there or 'no number of its own'}; name the energy with "
            f"{option('energy', keyword='energy= of read_data_set')}."
        )
    if n_suggested and (against is None or n_suggested > len(against)):
        there = "there is none" if against is None else f"it has {len(against)}"
        raise ValueError(f"{n_suggested} suggestions need as many configurations of a second set; {there}.")
    shown = progress or (lambda done, line: None)
    species = tuple(sorted({*data.species, *(against.species if against else ())}))
    describe = descriptor or PowerSpectrum(species)
    if method == "meagraph":
        check_descriptor((options or {}).get("network", DEFAULT), described(describe))
    rows = data.features(describe, _part(shown, 0.0, 0.3), mapped)
    projection = fit_projection(rows, COMPONENTS)
    shown(0.3, "merging equal environments")
    found: dict[str, Any] = {
        "data": data, "rows": rows, "descriptor": name or _described(describe),
        "points": _two(projection(rows)), "explained": _two(projection.explained[None])[0],
        "duplicates": find_duplicates(data, rows, projection),
    }  # fmt: skip
    messages = [*too_close(data), *lonely(data, rows, describe)]
    if method != "none":
        shown(0.35, f"clusters by {method}")
        known = None if {"n_components", "compress"} & {*(options or {})} else projection
        found["clusters"] = cluster(rows, method, projection=known, seed=seed, **(options or {}))
        found["labels"] = found["clusters"].assign(rows)
        for words in outside_words(float(found["clusters"].outside(rows).mean())):
            text = f"Outside of the range in which the network of the clusters is known to hold: {words}."
            messages.append(Message(text, "outside-training"))
    if outliers:
        shown(0.5, "structural outliers")
        # Each pair of species has its own features, which need components of their own.
        n_pairs = len(data.species) * (len(data.species) + 1) // 2
        compared, n_components = compared_rows(describe, rows, OUTLIER_COMPONENTS * n_pairs)
        found["scores"] = outlier_scores(
            compared, data.configurations, n_components=n_components, seed=seed,
            progress=_part(shown, 0.5, 0.55),
        )  # fmt: skip
        if compared is not rows:
            messages.append(without_species(describe))
        if len(rows) > MOST_COMPARED:
            messages.append(_sampled(len(rows)))
    if audit:
        found["audit"] = audit_labels(data, progress=_part(shown, 0.55, 0.75))
        # What is wrong with single labels stands in a table.
        told = [one for one in found["audit"].messages if not one.code.startswith("suspicious")]
        messages += told
    if budget is not None:
        found["pruned"] = find_subset(
            data, rows, budget, by=by, selection=selection, seed=seed, progress=_part(shown, 0.75, 0.9)
        )
    if against is not None:
        found |= _compared(data, rows, against, describe, n_suggested, seed, _part(shown, 0.9, 1.0), mapped)
    shown(1.0, "done")
    settings = {
        "descriptor": found["descriptor"], "clusters": method,
        **{k: v.name if isinstance(v, Checkpoint) else v for k, v in (options or {}).items()},
        "budget": budget, "by": by, "selection": selection, "seed": seed,
    }  # fmt: skip
    return Mined(settings=settings, messages=tuple(messages), **found)


def _part(shown: Progress, low: float, high: float) -> Progress:
    return lambda done, line: shown(low + (high - low) * done, line)


def _described(descriptor: Any) -> str:
    if isinstance(descriptor, PowerSpectrum):
        return (
            f"power spectrum of {', '.join(descriptor.species)}, cutoff {descriptor.cutoff:g} Å, "
            f"{descriptor.n_features} features"
        )
    return getattr(descriptor, "__name__", type(descriptor).__name__)


def _two(points: Doubles) -> Doubles:
    """Two columns, the second one zero where the features have one component only."""
    return np.concatenate([points, np.zeros((len(points), 1))], axis=1)[:, :2]


def _sampled(n_atoms: int) -> Message:
    rare = ceil(NEIGHBORS * n_atoms / MOST_COMPARED)
    return Message(
        f"Outlier scores compare all atoms with a random sample of {MOST_COMPARED:,}. Environments that "
        f"fewer than about {rare:,} configurations have may look strange.",
        "outliers-sampled",
    )


def _compared(
    data: DataSet,
    rows: Doubles,
    other: DataSet,
    descriptor: Descriptor,
    n: int,
    seed: int,
    progress: Progress,
    mapped: Mapped | None,
) -> dict[str, Any]:
    others = other.features(descriptor, _part(progress, 0.0, 0.5), mapped)
    progress(0.5, "comparing the sets")
    found: dict[str, Any] = {"other": other, "other_rows": others}
    found["comparison"] = compare(rows, others, data.configurations, other.configurations)
    if n:
        progress(0.8, "choosing configurations")
        found["suggestion"] = suggest(rows, others, other.configurations, n, seed=seed)
    return found


# Duplicates ----------------------------------------------------------------------------------------


def find_duplicates(data: DataSet, rows: Doubles, projection: Projection | None = None) -> Duplicates:
    """Return which environments and configurations of a set repeat.

    Environments are equal if their principal components round to the same multiple of 1e-9. Configurations
    are equal if they have the same environments in the same proportions: they may be rotated, shifted,
    repeated, or have their atoms in another order.

    rows : (n_atoms, n_features); projection : of `fit_projection`, where it is known
    """
    projection = projection or fit_projection(rows, COMPONENTS)
    merged = merge_duplicates(projection(rows), TOLERANCE)
    starts = data.starts
    same: dict[tuple[Any, ...], list[int]] = {}
    for k in range(len(data)):
        kinds, counts = np.unique(merged.members[starts[k] : starts[k + 1]], return_counts=True)
        divisor = gcd(*counts.tolist())
        same.setdefault((*kinds.tolist(), -1, *(counts // divisor).tolist()), []).append(k)
    groups = tuple(tuple(group) for group in same.values() if len(group) > 1)
    spreads = [(_energy_spread(data, group), _force_spread(data, merged.members, group)) for group in groups]
    energy, force = np.array(spreads, dtype=np.float64).reshape(-1, 2).T
    return Duplicates(len(merged.points), merged.members, groups, energy, force)


def _energy_spread(data: DataSet, group: Sequence[int]) -> float:
    if data.energies is None:
        return float("nan")
    chosen = list(group)
    return float(np.ptp(data.energies[chosen] / data.sizes[chosen]))


def _force_spread(data: DataSet, members: Integers, group: Sequence[int]) -> float:
    """The largest difference of the length of the force on equal environments."""
    if data.forces is None:
        return float("nan")
    starts = data.starts
    means = []
    for k in group:
        own = slice(starts[k], starts[k + 1])
        kinds, place = np.unique(members[own], return_inverse=True)
        lengths = np.linalg.norm(data.forces[own], axis=1)
        means.append(np.bincount(place, lengths) / np.bincount(place))
        assert len(kinds) == len(means[0])
    return float(np.ptp(means, axis=0).max())


def too_close(data: DataSet) -> list[str]:
    """Return a sentence about configurations with atoms closer than `TOO_CLOSE`, or none."""
    found = []
    for k, frame in enumerate(data.frames):
        graph = neighbor_graph(frame, cutoff=TOO_CLOSE)
        if graph.n_edges:
            nearest = int(graph.edge_length.argmin())
            found.append((float(graph.edge_length[nearest]), k, *graph.edge_index[:, nearest].tolist()))
    if not found:
        return []
    length, k, a, b = min(found)
    which = f"atoms {a + 1} and {b + 1} are" if a != b else f"atom {a + 1} and its image are"
    several = "configuration has" if len(found) == 1 else "configurations have"
    text = (
        f"{len(found):,} {several} atoms closer than {TOO_CLOSE:g} Å to each other, "
        f"such as {data.names[k]}, where {which} {length:.2f} Å apart."
    )
    return [text]


def lonely(data: DataSet, rows: Doubles, descriptor: Any) -> list[Message]:
    """Return a message about atoms without a neighbor within the cutoff of a power spectrum, or none."""
    if not isinstance(descriptor, PowerSpectrum):
        return []
    codes = np.concatenate([descriptor.codes(frame) for frame in data.frames])
    atoms = np.flatnonzero(descriptor.alone(rows, codes))
    if not len(atoms):
        return []
    of = data.configurations[atoms]
    where = f"{data.names[of[0]]}, atom {atoms[0] - data.starts[of[0]] + 1}"
    several = plural(len(np.unique(of)), "configuration")
    return [without_neighbors(len(atoms), descriptor, f" in {several} (such as {where})")]


# Subsets -------------------------------------------------------------------------------------------


def find_subset(
    data: DataSet, rows: Doubles, budget: float, *, by: By = "configurations", selection: str = "coverage",
    seed: int = 0, progress: Progress | None = None,
) -> Pruned:  # fmt: skip
    """Return a subset of a set and its coverage against the budget, with random subsets for comparison.

    Raises
    ------
    ValueError
        For a budget out of range and what `rank` refuses.
    """
    shown = progress or (lambda done, line: None)
    of = data.configurations
    shown(0.0, f"ranking by {selection}")
    ranking = rank(rows, of, by=by, method=selection, groups=data.groups, seed=seed)
    mask = ranking.mask(budget)
    rng = np.random.default_rng(seed)
    queried = np.arange(len(rows))
    if len(rows) > MOST_QUERIED:
        queried = np.sort(rng.choice(len(rows), MOST_QUERIED, replace=False))
    spacing = own_spacing(ranking.points, of, queried)
    budgets = np.unique([budget, *BUDGETS, 1.0])

    def reached(order: Ranking, share: float) -> Doubles:
        if share == 1:
            return np.zeros(len(queried))
        inside = Index(ranking.points[order.mask(share)])
        return np.asarray(inside.search(1, queries=ranking.points[queried])[1][:, 0] / spacing)

    shown(0.5, "coverage of the subset")
    at = int(np.flatnonzero(budgets == budget)[0])
    apart = [reached(ranking, share) for share in budgets]
    distances, covered = np.array([one.mean() for one in apart]), float((apart[at] <= 1).mean())
    random, within = np.empty((RANDOM_SUBSETS, len(budgets))), []
    for k in range(RANDOM_SUBSETS):
        shown(0.6 + 0.4 * k / RANDOM_SUBSETS, "coverage of random subsets")
        drawn = replace(ranking, order=rng.permutation(len(ranking.order)))
        apart = [reached(drawn, share) for share in budgets]
        random[k] = [one.mean() for one in apart]
        within.append(float((apart[at] <= 1).mean()))
    return Pruned(
        ranking, budget, mask, ranking.weights(budget), spacing, budgets, distances, random, covered,
        float(np.mean(within)), of,
    )  # fmt: skip


def own_spacing(points: Doubles, configurations: Integers, queried: Integers, k: int = 32) -> float:
    """Distance to the nearest point of another configuration that 99 % of the queried points do not exceed.

    Of a point whose `k` nearest are all of its own configuration, the farthest of these counts. It is at
    least 1e-12 of the width of the set, and 1 for a set without width.
    """
    near, far = Index(points).search(min(k, len(points)), queries=points[queried])
    other = configurations[near] != configurations[queried][:, None]
    first = np.where(other.any(axis=1), other.argmax(axis=1), far.shape[1] - 1)
    found = float(np.quantile(far[np.arange(len(far)), first], 0.99))
    return max(found, 1e-12 * float(np.linalg.norm(np.ptp(points, axis=0)))) or 1.0
