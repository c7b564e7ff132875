"""What was found in a data set, as tables and sentences."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import listed, plural
from phaseseg.families.environments.audit import SUSPICIOUS
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.mining import Mined
from phaseseg.families.environments.outliers import STRANGE
from phaseseg.fields import Column, Table

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_LISTED = 50
"""Outliers and suspicious labels in a table."""


def mined_tables(mined: Mined) -> dict[str, Table]:
    """Return all tables by name; parts that were not asked for have none."""
    made = {
        "groups": groups_table(mined),
        "duplicates": duplicates_table(mined),
        "clusters": None if mined.labels is None else clusters_table(mined),
        "outliers": None if mined.scores is None else outliers_table(mined),
        "labels": None if mined.audit is None else labels_table(mined),
        "coverage": None if mined.pruned is None else coverage_table(mined),
        "subset": None if mined.pruned is None else subset_table(mined),
        "new_groups": None if mined.comparison is None else new_groups_table(mined),
        "new": None if mined.comparison is None else new_table(mined),
        "suggestions": None if mined.suggestion is None else suggestions_table(mined),
    }
    return {name: table for name, table in made.items() if table is not None}


def groups_table(mined: Mined) -> Table:
    """Configurations and atoms of each group, and how much of it is in the subset."""
    data = mined.data
    names = np.array(["all"] * len(data)) if data.groups is None else data.groups
    rows = []
    for name in np.unique(names).tolist():
        own = names == name
        atoms = own[data.configurations]
        row: dict[Any, Any] = {"group": name, "configurations": int(own.sum()), "atoms": int(atoms.sum())}
        if data.energies is not None:
            energies = data.energies[own] / data.sizes[own]
            row[Column("mean energy", "eV/atom")] = float(energies.mean())
        if data.forces is not None:
            row[Column("RMS force", "eV/Å")] = float(np.sqrt((data.forces[atoms] ** 2).mean()))
        if mined.pruned is not None:
            row["in the subset"] = int(mined.pruned.mask[atoms].sum())
        rows.append(row)
    return Table.of_rows("Groups", rows)


def duplicates_table(mined: Mined) -> Table:
    """Configurations that repeat an earlier one."""
    found, data = mined.duplicates, mined.data
    energy, force = Column("energies differ by", "eV/atom"), Column("forces differ by", "eV/Å")
    spreads = zip(found.groups, found.energy_spread.tolist(), found.force_spread.tolist(), strict=True)
    rows = [
        {"configuration": data.names[k], "repeats": data.names[group[0]], energy: spread, force: other}
        for group, spread, other in spreads
        for k in group[1:]
    ]
    return Table.of_rows(
        "Configurations that repeat others", rows, ["configuration", "repeats", energy, force]
    )


def clusters_table(mined: Mined) -> Table:
    """Every cluster with its size, its main groups and species, and the most typical environment."""
    data, labels = mined.data, mined.labels
    assert labels is not None
    of, species, starts = data.configurations, species_of(data), data.starts
    typical = typical_atoms(mined)
    rows = []
    for k in np.unique(labels).tolist():
        own = np.flatnonzero(labels == k)
        row: dict[Any, Any] = {
            "cluster": k, "atoms": len(own), Column("share", "%"): 100 * len(own) / len(labels),
            "configurations": len(np.unique(of[own])), "species": _shares(species[own]),
        }  # fmt: skip
        if data.groups is not None:
            row["groups"] = _shares(data.groups[of[own]])
        if data.forces is not None:
            row[Column("RMS force", "eV/Å")] = float(np.sqrt((data.forces[own] ** 2).mean()))
        if mined.scores is not None:
            row["median score"] = float(np.median(mined.scores[own]))
        atom = typical[k]
        row["typical"] = data.names[of[atom]]
        row["atom"] = int(atom - starts[of[atom]]) + 1
        rows.append(row)
    return Table.of_rows("Clusters of environments", rows)


def typical_atoms(mined: Mined) -> dict[int, int]:
    """The atom of each cluster that is nearest to its center, by the label of the cluster."""
    assert mined.labels is not None and mined.clusters is not None
    far = mined.clusters.distances(mined.rows, mined.labels)
    found = {}
    for k in np.unique(mined.labels).tolist():
        own = np.flatnonzero(mined.labels == k)
        # Methods without centers have distances of zero: the middle of the cluster on the map counts then.
        off = np.linalg.norm(mined.points[own] - np.median(mined.points[own], axis=0), axis=1)
        found[k] = int(own[np.lexsort((off, np.round(far[own], 9)))[0]])
    return found


def outliers_table(mined: Mined) -> Table:
    """The strangest atom of each configuration, that first which exceeds the limit of its group most."""
    assert mined.scores is not None
    data, scores = mined.data, mined.scores
    starts = data.starts
    best = np.array([first + int(scores[first:end].argmax()) for first, end in pairwise(starts.tolist())])
    limits = mined.outlier_limits
    order = best[np.argsort(-scores[best] / limits, kind="stable")][:MOST_LISTED]
    limit = limits[data.configurations]
    counts = np.add.reduceat((scores >= limit).astype(np.int64), starts[:-1])[data.configurations]
    columns = {"score": scores, "limit of the group": limit, "atoms that stand out": counts}
    return _atoms_table("Structural outliers", data, order, columns)


def strange_atoms(mined: Mined) -> Integers:
    """Numbers of the atoms whose score is at least the limit of their group, the strangest first."""
    assert mined.scores is not None
    order = np.argsort(-mined.scores, kind="stable")
    return order[(mined.scores >= mined.outlier_limits[mined.data.configurations])[order]]


def _atoms_table(title: str, data: DataSet, atoms: Integers, columns: dict[Any, NDArray[Any]]) -> Table:
    of, species = data.configurations, species_of(data)
    made: dict[Any, Any] = {
        "configuration": [data.names[k] for k in of[atoms]],
        "atom": atoms - data.starts[of[atoms]] + 1,
        "species": species[atoms],
    }
    if data.groups is not None:
        made["group"] = data.groups[of[atoms]]
    return Table(title, made | {name: values[atoms] for name, values in columns.items()})


def label_scores(mined: Mined) -> dict[str, Doubles]:
    """(n_configurations,) scores of the energies and, where there are any, of the forces, by name."""
    assert mined.audit is not None
    found = {"energy": mined.audit.energy_scores, "forces": mined.audit.force_scores}
    return {what: scores for what, scores in found.items() if len(scores)}


def suspicious(mined: Mined) -> list[tuple[int, str, float]]:
    """Configurations with a suspicious label: number, "energy" or "forces", score; the worst first."""
    found = [
        (int(k), what, float(scores[k]))
        for what, scores in label_scores(mined).items()
        for k in np.flatnonzero(scores > SUSPICIOUS)
    ]
    return sorted(found, key=lambda one: -one[2])


def labels_table(mined: Mined) -> Table:
    """Labels that differ most from a robust fit to the other configurations."""
    assert mined.audit is not None
    data, audit, rows = mined.data, mined.audit, []
    energy, force = Column("energy off by", "eV/atom"), Column("largest force off by", "eV/Å")
    for k, what, score in suspicious(mined)[:MOST_LISTED]:
        row: dict[Any, Any] = {"configuration": data.names[k]}
        if data.groups is not None:
            row["group"] = data.groups[k]
        row |= {"label": what, "score": score}
        if what == "energy":
            row[energy] = float(audit.energy_residuals[k])
        else:
            row[force] = float(audit.force_residuals[data.starts[k] : data.starts[k + 1]].max())
            row["times the fit"] = float(audit.factors[k])
        rows.append(row)
    names = ["configuration", *(["group"] if data.groups is not None else []), "label", "score", energy]
    forces = [force, "times the fit"] if len(audit.force_scores) else []
    return Table.of_rows("Suspicious labels", rows, [*names, *forces])


def coverage_table(mined: Mined) -> Table:
    """Mean distance of all atoms to the subset, for every budget, and for random subsets."""
    found = mined.pruned
    assert found is not None
    random = Column("random subsets")
    return Table(
        "Coverage against budget",
        {
            Column("budget", "% of the atoms"): 100 * found.budgets, found.ranking.by: _counts(mined),
            "mean distance": found.distances, random: found.random.mean(axis=0),
            random.error: found.random.std(axis=0, ddof=1),
        },
    )  # fmt: skip


def _counts(mined: Mined) -> Integers:
    assert mined.pruned is not None
    return np.array([len(mined.pruned.ranking.chosen(share)) for share in mined.pruned.budgets.tolist()])


def subset_table(mined: Mined) -> Table:
    """Configurations of the subset, the most useful first."""
    found, data = mined.pruned, mined.data
    assert found is not None
    chosen = found.ranking.chosen(found.budget)
    if found.ranking.by == "atoms":
        weights = {"weight": found.weights}
        return _atoms_table("Atoms of the subset", data, chosen, weights)
    columns: dict[Any, Any] = {"configuration": [data.names[k] for k in chosen], "atoms": data.sizes[chosen]}
    if data.groups is not None:
        columns["group"] = data.groups[chosen]
    return Table("Configurations of the subset", columns | {"weight": found.weights[data.starts[chosen]]})


def new_table(mined: Mined) -> Table:
    """Configurations of the other set whose environments this set lacks, that which adds most first."""
    found, other = mined.comparison, mined.other
    assert found is not None and other is not None
    rows = []
    for k in found.configurations[:MOST_LISTED].tolist():
        own = found.coverage.distances[other.starts[k] : other.starts[k + 1]]
        row: dict[Any, Any] = {"configuration": other.names[k], "atoms": len(own)}
        if other.groups is not None:
            row["group"] = other.groups[k]
        row[Column("new environments", "%")] = 100 * float(found.shares[k])
        rows.append(row | {"largest distance": float(own.max()), "of atom": int(own.argmax()) + 1})
    return Table.of_rows("Configurations with new environments", rows)


def new_groups_table(mined: Mined) -> Table:
    """How much of each group of the other set this set lacks."""
    found, other = mined.comparison, mined.other
    assert found is not None and other is not None
    names = np.array(["all"] * len(other)) if other.groups is None else other.groups
    of_atoms = names[other.configurations]
    rows = [
        {
            "group": name, "configurations": int((names == name).sum()),
            "atoms": int((of_atoms == name).sum()),
            Column("new environments", "%"): 100 * float(found.coverage.beyond[of_atoms == name].mean()),
        }
        for name in np.unique(names).tolist()
    ]  # fmt: skip
    return Table.of_rows("Groups of the other set", rows)


def suggestions_table(mined: Mined) -> Table:
    """Configurations of the other set that close most of the gap, the most useful first."""
    found, other = mined.suggestion, mined.other
    assert found is not None and other is not None
    chosen = found.configurations
    columns: dict[Any, Any] = {
        "configuration": [other.names[k] for k in chosen],
        "atoms": other.sizes[chosen],
    }
    if other.groups is not None:
        columns["group"] = other.groups[chosen]
    columns[Column("closes", "% of the gap")] = 100 * found.gains
    columns[Column("all so far", "% of the gap")] = 100 * np.cumsum(found.gains)
    return Table("Suggestions", columns)


def species_of(data: DataSet) -> NDArray[np.str_]:
    """(n_atoms,) names of the species."""
    return np.concatenate([np.array(frame.species_names)[frame.species] for frame in data.frames])


def _shares(names: NDArray[Any], most: int = 3) -> str:
    """The most frequent names with their shares: "liquid 62 %, bulk 30 %"."""
    counts = Counter(names.tolist()).most_common()
    if len(counts) == 1:
        return str(counts[0][0])
    texts = [f"{name} {_percent(n / len(names))}" for name, n in counts[:most]]
    return ", ".join(texts) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _percent(share: float) -> str:
    """Whole percents; a small rest is not rounded away."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "<1 %" if share < 0.5 else ">99 %"
    return f"{100 * share:.0f} %"


# Sentences -----------------------------------------------------------------------------------------


def mined_sentences(mined: Mined) -> list[str]:
    """Return what was found, one thought a sentence."""
    data = mined.data
    groups = "" if data.groups is None else f" in {plural(len(np.unique(data.groups)), 'group')}"
    first = (
        f"{plural(len(data), 'configuration')} with {plural(data.n_atoms, 'atom')} of "
        f"{listed(list(data.species))}{groups}."
    )
    found = [first, *_of_duplicates(mined)]
    if mined.clusters is not None:
        found.append(_of_clusters(mined))
    if mined.scores is not None:
        found.append(_of_outliers(mined))
    if mined.audit is not None:
        found.append(_of_labels(mined))
    if mined.pruned is not None:
        found += _of_subset(mined)
    if mined.comparison is not None:
        found += _of_comparison(mined)
    return found


def keys_sentence(data: DataSet) -> str:
    """Which keys gave energies, forces and groups."""
    said = ", ".join(f"{what} from {key}" for what, key in data.keys.items())
    missing = [what for what in ("energy", "forces", "group") if what not in data.keys]
    lacks = " or ".join(filter(None, [", ".join(missing[:-1]), *missing[-1:]]))
    return f"Read {said or 'positions only'}{f'; found no {lacks}' if lacks else ''}."


def _of_duplicates(mined: Mined) -> list[str]:
    same, data = mined.duplicates, mined.data
    found = [f"{same.n_distinct:,} of the {data.n_atoms:,} environments are distinct."]
    if same.groups:
        first = same.groups[0]
        found.append(
            f"{plural(same.n_repeated, 'configuration')} {'repeats' if same.n_repeated == 1 else 'repeat'} "
            f"another one, such as {data.names[first[1]]}, which repeats {data.names[first[0]]}."
        )
    if wrong := same.contradictions:
        group = same.groups[wrong[0]]
        found.append(
            f"The labels of {plural(len(wrong), 'group')} of equal configurations contradict each other, "
            f"such as those of {listed([data.names[k] for k in group], 2)}."
        )
    return found


def _of_clusters(mined: Mined) -> str:
    assert mined.labels is not None and mined.clusters is not None
    counts = np.bincount(mined.labels[mined.labels >= 0], minlength=1)
    alone = int((mined.labels < 0).sum())
    return (
        f"{plural(mined.clusters.n_clusters, 'cluster')} of environments by {mined.clusters.method}: the "
        f"largest has {plural(int(counts.max()), 'atom')}, the smallest {counts[counts > 0].min():,}"
        + (f"; {plural(alone, 'atom')} {'is' if alone == 1 else 'are'} in none" if alone else "")
        + "."
    )


def _of_outliers(mined: Mined) -> str:
    atoms, data = strange_atoms(mined), mined.data
    where = "the set" if data.groups is None else "its group"
    if not len(atoms):
        return f"No environment has an outlier score of {STRANGE:g} or more that is unusual in {where}."
    assert mined.scores is not None
    of = data.configurations[atoms]
    first = atoms[0] - data.starts[of[0]] + 1
    return (
        f"{plural(len(atoms), 'atom')} in {plural(len(np.unique(of)), 'configuration')} "
        f"{'has' if len(atoms) == 1 else 'have'} an outlier score of {STRANGE:g} or more that is unusual in "
        f"{where}; the highest is {mined.scores[atoms[0]]:.1f}, that of atom {first} in {data.names[of[0]]}."
    )


def _of_labels(mined: Mined) -> str:
    found, data = suspicious(mined), mined.data
    if not found:
        return "No energy or force is suspicious."
    k, what, score = found[0]
    n = len({one[0] for one in found})
    return (
        f"{plural(n, 'configuration')} {'has' if n == 1 else 'have'} suspicious labels; the worst is "
        f"the {what} of {data.names[k]} with a score of {score:.0f}."
    )


def _of_subset(mined: Mined) -> list[str]:
    found, data = mined.pruned, mined.data
    assert found is not None
    n_atoms, chosen = int(found.mask.sum()), found.configurations
    by = "" if found.ranking.by == "configurations" else "atoms of "
    sentences = [
        f"The subset has {by}{len(chosen):,} of {plural(len(data), 'configuration')} with "
        f"{plural(n_atoms, 'atom')} "
        f"({n_atoms / data.n_atoms:.1%}). {found.covered:.1%} of all environments are within the usual "
        f"distance of one in it; with random subsets of this size it is {found.covered_random:.1%}.".replace(
            "%", " %"
        )
    ]
    if data.groups is not None:
        lost = sorted({*data.groups.tolist()} - {*data.groups[chosen].tolist()})
        if lost:
            sentences.append(f"The subset has no configuration of {listed(lost)}.")
    return sentences


def _of_comparison(mined: Mined) -> list[str]:
    found, other = mined.comparison, mined.other
    assert found is not None and other is not None
    said = (
        f"The other set has {plural(len(other), 'configuration')}; {found.coverage.share:.1%} of its "
        f"{plural(other.n_atoms, 'atom')} have environments that this set lacks".replace("%", " %")
    )
    if len(found.configurations):
        said += f", most of all {other.names[found.configurations[0]]}"
    sentences = [f"{said}."]
    if (chosen := mined.suggestion) is not None:
        if not (n := len(chosen.configurations)):
            return [*sentences, "No configuration of the other set closes any of the gap."]
        sentences.append(
            f"{plural(n, 'suggested configuration')} {'closes' if n == 1 else 'close'} {chosen.closed:.0%} "
            "of the gap between the sets.".replace("%", " %")
        )
    return sentences
