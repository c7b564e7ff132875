"""What subsets of a data set are worth, and whether wrong labels are found: measured by fits of a potential.

    python -m phaseseg.recipes.environments.study prune --set fe [--splits 5] [--products 24]
    python -m phaseseg.recipes.environments.study audit --set ta [--seeds 5]

`prune` divides a set by configuration, within groups. Of the larger part it selects subsets with every
method, fits a linear potential on each, and tests it on the smaller part. Scores are root mean square errors
over test configurations with energies up to 2 eV/atom above the lowest: of forces over all rows (pooled), as
the geometric mean over groups (geo, at least 0.01 eV/Å each, only of the larger groups), and of energies.
The ridge penalty is chosen by cross-validation within each subset. Ratios compare mean errors over the
splits with those of random subsets of the same splits. "meagraph" takes configurations from
each cluster of the bundled network in turn, whatever the set it was trained on. "atoms" chooses rows of
forces and keeps all energies.

`audit` plants wrong labels in 20 configurations, drawn at random: another sign of the forces, forces times
1.15, cells scaled by 1.15 whose labels stay, energies 0.1 eV/atom too high, and one atom displaced by 0.6 Å.
It prints how well the scores rank them (area under the ROC curve). Configurations whose forces are below
0.1 eV/Å are left out where forces are changed.

The basis functions, their means and spreads are those of the whole set: they use no energy or force.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from phaseseg.families.environments.audit import audit_table
from phaseseg.families.environments.coverage import rank
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.meagraph import meagraph_clusters
from phaseseg.families.environments.potential import usual_descriptor
from phaseseg.families.environments.potential_basis import fit_basis
from phaseseg.families.environments.potential_table import FitTable, Solution, make_table
from phaseseg.frame import Frame
from phaseseg.recipes.cards import say
from phaseseg.recipes.environments.sets import read_set

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

HIGHEST = 2.0
"""eV/atom above the lowest; configurations beyond are no part of the scores."""
LEAST_ERROR = 0.01
"""eV/Å; smaller errors of a group count as this."""
PRODUCTS = 24
"""Principal components whose products are basis functions of the potential that subsets are compared with."""
WRONG = 20
"""Configurations with planted errors."""


@dataclass(frozen=True)
class Plan:
    """share : of the test; smallest : configurations of a group in "geo"; budgets : shares of the atoms."""

    share: float
    smallest: int
    budgets: tuple[float, ...]
    force_budget: float


PLANS = {"fe": Plan(0.25, 20, (0.2, 0.05, 0.02, 0.01), 0.02), "ta": Plan(0.2, 1, (0.2, 0.1, 0.05), 0.05)}
METHODS = ("coverage", "random", "group", "kmeans", "farthest", "meagraph", "entropy", "leverage")
QUICK = ("coverage", "random", "group", "kmeans", "farthest", "meagraph")
RANDOM_SEEDS = 3


def table_of(data: DataSet, n_products: int) -> FitTable:
    """Rows of the potential that subsets of a set are compared with."""
    basis = fit_basis(data.frames, usual_descriptor(data.species), n_products, None)
    assert data.energies is not None
    return make_table(data.frames, data.energies, data.forces, basis)


def split(groups: NDArray[np.str_], share: float, seed: int) -> tuple[Integers, Integers]:
    """Numbers of the configurations to choose from and to test on, divided within each group."""
    rng = np.random.default_rng(seed)
    test = []
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        test.append(members[: max(1, round(len(members) * share))])
    held = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(groups)), held), held


def errors(
    table: FitTable, groups: NDArray[np.str_], solution: Solution, test: Integers, smallest: int
) -> Doubles:
    """Force geo and pooled, eV/Å, and energy, meV/atom."""
    energies, forces = table.residuals(solution)
    assert forces is not None
    counted = np.zeros(table.n_configurations, dtype=bool)
    counted[test] = True
    counted &= table.above < HIGHEST
    atoms = np.repeat(counted, table.sizes)
    of = groups[np.repeat(np.arange(len(groups)), table.sizes)]
    own = []
    for group in np.unique(groups):
        inside = atoms & (of == group)
        if inside.any() and np.count_nonzero(groups == group) >= smallest:
            own.append(max(float(np.sqrt((forces[inside] ** 2).mean())), LEAST_ERROR))
    geo = float(np.exp(np.mean(np.log(own))))
    pooled = float(np.sqrt((forces[atoms] ** 2).mean()))
    return np.array([geo, pooled, 1000 * float(np.sqrt((energies[counted] ** 2).mean()))])


def within(sizes: Integers, order: Integers, atoms: float) -> Integers:
    """The first configurations of an order that together have at most `atoms` atoms; at least one."""
    n = int(np.searchsorted(np.cumsum(sizes[order]), atoms * (1 + 1e-12), "right"))
    return order[: max(n, 1)]


@dataclass(frozen=True, eq=False)
class Bench:
    """A set with its rows, descriptors and plan; what every measurement starts from."""

    data: DataSet
    table: FitTable
    rows: Doubles
    plan: Plan

    @property
    def groups(self) -> NDArray[np.str_]:
        assert self.data.groups is not None
        return self.data.groups

    def part(self, chosen: Integers) -> tuple[Doubles, Integers]:
        """Descriptors of the atoms of some configurations, and the places of these among the chosen."""
        places = np.full(len(self.data), -1)
        places[chosen] = np.arange(len(chosen))
        of = places[self.data.configurations]
        return self.rows[of >= 0], of[of >= 0]


def bench_of(name: str, n_products: int) -> Bench:
    """Read a set and compute its rows and default descriptors."""
    data = read_set(name)
    say(f"{name}: {len(data):,} configurations, {data.n_atoms:,} atoms")
    table = table_of(data, n_products)
    say(f"rows of {table.basis.n_functions} basis functions")
    return Bench(data, table, data.features(PowerSpectrum(data.species)), PLANS[name])


def _orders(bench: Bench, train: Integers, methods: tuple[str, ...], seed: int) -> dict[str, list[Integers]]:
    """Orders of the configurations by every method; several of "random"."""
    rows, of = bench.part(train)
    found = {}
    for method in methods:
        seeds = range(RANDOM_SEEDS) if method in ("random", "group") else range(1)
        found[method] = [
            train[
                by_clusters(meagraph_clusters(rows), of, seed)
                if method == "meagraph"
                else rank(rows, of, method=method, groups=bench.groups[train], seed=100 * seed + k).order
            ]
            for k in seeds
        ]
    return found


def by_clusters(labels: Integers, of: Integers, seed: int) -> Integers:
    """An order of configurations that takes one with an atom of each cluster in turn, at random.

    An isolated atom (-1) counts as a cluster. labels, of : (n_atoms,) clusters and configurations
    """
    rng = np.random.default_rng(seed)
    alone = np.flatnonzero(labels < 0)
    own = labels.copy()
    own[alone] = labels.max(initial=-1) + 1 + np.arange(len(alone))
    waiting = [rng.permutation(np.unique(of[own == label])).tolist() for label in np.unique(own)]
    order: dict[int, None] = {}
    while waiting:
        for several in waiting:
            while several and several[-1] in order:
                several.pop()
            if several:
                order[several.pop()] = None
        waiting = [several for several in waiting if several]
        rng.shuffle(waiting)
    return np.array(list(order), dtype=np.int64)


Scores = Mapping[tuple[str, float], list[Doubles]]


def prune(
    name: str, splits: int, n_products: int, *, slow: bool = False,
    others: Mapping[str, Callable[[Doubles, Integers], Integers]] | None = None,
) -> Scores:  # fmt: skip
    """Print errors of potentials fitted on subsets, by method and budget; return them split by split.

    others : further methods by name, functions of descriptors and configurations that return an order
    """
    bench = bench_of(name, n_products)
    table, plan, sizes = bench.table, bench.plan, bench.table.sizes
    scores: dict[tuple[str, float], list[Doubles]] = defaultdict(list)
    for s in range(splits):
        train, test = split(bench.groups, plan.share, s)
        scores["all", 1.0].append(errors(table, bench.groups, table.fit(train), test, plan.smallest))
        orders = _orders(bench, train, METHODS if slow else QUICK, s)
        for other, order in (others or {}).items():
            orders[other] = [train[order(*bench.part(train))]]
        for method, several in orders.items():
            for budget in plan.budgets:
                own = [
                    errors(table, bench.groups, table.fit(chosen), test, plan.smallest)
                    for chosen in (within(sizes, order, budget * sizes[train].sum()) for order in several)
                ]
                scores[method, budget].append(np.mean(own, axis=0))
        _rows_of_forces(bench, train, test, s, scores)
        say(f"split {s + 1} of {splits}")
    _print(scores)
    return scores


def _rows_of_forces(
    bench: Bench, train: Integers, test: Integers, seed: int, scores: dict[tuple[str, float], list[Doubles]]
) -> None:
    """Subsets of the rows of forces; all energies are kept."""
    rows, of = bench.part(train)
    places = np.flatnonzero(np.isin(bench.data.configurations, train))
    budget, kept = bench.plan.force_budget, np.ones(len(bench.data))
    for method in ("strata", "coverage", "kmeans", "random", "leverage"):
        own = []
        for k in range(RANDOM_SEEDS if method == "random" else 1):
            found = rank(rows, of, by="atoms", method=method, seed=100 * seed + k)
            weights = np.zeros(bench.data.n_atoms)
            weights[places[found.mask(budget)]] = 1.0
            solution = bench.table.fit(train, atom_weights=weights, energy_weights=kept)
            own.append(errors(bench.table, bench.groups, solution, test, bench.plan.smallest))
        scores[f"atoms, {method}", budget].append(np.mean(own, axis=0))


def _print(scores: Scores) -> None:
    say("mean over splits (standard deviation): F geo, F pooled (eV/Å), E (meV/atom); ratios to random")
    for budget in sorted({b for _, b in scores}, reverse=True):
        for (method, own), values in scores.items():
            if own != budget:
                continue
            mean, spread = np.mean(values, axis=0), np.std(values, axis=0)
            basis = scores.get(("atoms, random" if method.startswith("atoms") else "random", budget))
            ratio = ""
            if basis is not None and "random" not in method:
                ratio = "   " + " ".join(f"{r:.2f}" for r in mean / np.mean(basis, axis=0))
            texts = [f"{m:.3f} ({d:.3f})" for m, d in zip(mean[:2], spread[:2], strict=True)]
            say(f"{budget:6.1%} {method:17s} {'  '.join(texts)}  {mean[2]:5.1f} ({spread[2]:4.1f}){ratio}")


# Audit ---------------------------------------------------------------------------------------------


def audit(name: str, seeds: int) -> dict[str, list[tuple[float, float]]]:
    """Print the area under the ROC curve of the scores of energies and forces for every planted error."""
    data = read_set(name)
    table = table_of(data, 0)
    say(f"{name}: rows of {table.basis.n_functions} basis functions")
    found: dict[str, list[tuple[float, float]]] = {}
    for error in PLANTED:
        found[error] = []
        for seed in range(seeds):
            wrong, chosen = planted(data, table, error, np.random.default_rng(seed))
            truth = np.zeros(len(data), dtype=bool)
            truth[chosen] = True
            result = audit_table(wrong, data.names)
            found[error].append(
                (
                    float(roc_auc_score(truth, result.energy_scores)),
                    float(roc_auc_score(truth, result.force_scores)),
                )
            )
        low, mean = np.min(found[error], axis=0), np.mean(found[error], axis=0)
        say(
            f"{error:24s} energy score {mean[0]:.3f} (lowest {low[0]:.3f})  "
            f"force score {mean[1]:.3f} (lowest {low[1]:.3f})"
        )
    return found


PLANTED = (
    "sign of the forces",
    "forces times 1.15",
    "cell times 1.15",
    "energy + 0.1 eV/atom",
    "atom 0.6 Å off",
)


def planted(
    data: DataSet, table: FitTable, error: str, rng: np.random.Generator
) -> tuple[FitTable, Integers]:
    """The rows of the set with an error in 20 configurations, and their numbers."""
    assert table.forces is not None and table.force_rows is not None
    lengths = np.linalg.norm(table.forces.reshape(-1, 3), axis=1)
    strong = np.maximum.reduceat(lengths, table.starts[:-1]) > 0.1
    of_forces = "forces" in error
    chosen = rng.choice(np.flatnonzero(strong) if of_forces else len(data), WRONG, replace=False)
    changed: dict[str, Any] = {}
    if of_forces:
        changed["forces"] = table.forces.copy()
        for c in chosen:
            changed["forces"][3 * table.starts[c] : 3 * table.starts[c + 1]] *= (
                -1 if "sign" in error else 1.15
            )
    elif "energy" in error:
        changed["energies"], above = table.energies.copy(), table.above.copy()
        changed["energies"][chosen] += 0.1 * table.sizes[chosen]
        above[chosen] += 0.1
        changed["above"] = above - above.min()
    else:
        energy_rows, force_rows, n = (
            table.energy_rows.copy(),
            table.force_rows.copy(),
            table.basis.n_functions,
        )
        for c in chosen:
            frame = _moved(data.frames[c], error, rng)
            energy_rows[c, :n], energy_rows[c, n:] = table.basis.energy_rows(frame)
            rows = table.basis.force_rows(frame).reshape(-1, n)
            force_rows[3 * table.starts[c] : 3 * table.starts[c + 1]] = rows
        changed = {"energy_rows": energy_rows, "force_rows": force_rows}
    return replace(table, **changed), chosen


def _moved(frame: Frame, error: str, rng: np.random.Generator) -> Frame:
    if error.startswith("cell"):
        return frame.replace(positions=1.15 * frame.positions, cell=1.15 * frame.cell)
    positions, step = frame.positions.copy(), rng.normal(size=3)
    positions[rng.integers(frame.n_atoms)] += 0.6 * step / np.linalg.norm(step)
    return frame.replace(positions=positions)
