"""What subsets of the bundled set of two metals are worth, and how many of its planted faults are found.

    python -m phaseseg.recipes.environments.metals subsets|outliers

`subsets` fits linear potentials on power spectra to subsets of the configurations without faults, and prints
the errors of forces and energies of the configurations left out: a fifth, drawn three times. Subsets are
chosen by coverage and, three times each, at random and at random within the groups. Medians and ranges.
`outliers` ranks the configurations by their largest outlier score, for several cutoffs: area under the
curve (AUC) and average precision for those with a displaced atom.
"""

from __future__ import annotations

import argparse
import csv
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.coverage import rank
from phaseseg.families.environments.dataset import DataSet, read_data_set
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.mining import mine
from phaseseg.families.environments.potential import usual_descriptor
from phaseseg.families.environments.potential_basis import fit_basis
from phaseseg.families.environments.potential_table import FitTable, make_table
from phaseseg.recipes.cards import say

BUDGETS = (0.02, 0.05, 0.1, 0.2)
CUTOFF = 4.0
"""Å; of the descriptors that coverage and outliers are measured with."""
SPLITS = 3
DRAWN = 3


def metals() -> tuple[DataSet, dict[int, str]]:
    """Return the bundled set, and the kind of fault of the spoiled configurations by number."""
    with as_file(files("phaseseg") / "demo") as demo:
        with (demo / "metals_truth.csv").open(encoding="utf-8", newline="") as file:
            faults = {int(row["configuration"]): row["fault"] for row in csv.DictReader(file)}
        return read_data_set(demo / "metals.xyz.gz"), faults


def subsets() -> None:
    """Print the errors of potentials fitted to subsets."""
    data, faults = metals()
    good = data.subset([k for k in range(len(data)) if k not in faults])
    assert good.energies is not None and good.forces is not None
    rows = good.features(PowerSpectrum(good.species, cutoff=CUTOFF))
    basis = fit_basis(good.frames, usual_descriptor(good.species), 0, None)
    table = make_table(good.frames, good.energies, good.forces, basis)
    say(f"{len(good)} configurations, {good.n_atoms:,} atoms, {basis.n_functions} functions")
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(good))
        test, train = np.sort(order[: len(good) // 5]), np.sort(order[len(good) // 5 :])
        found.setdefault(("all", 1.0), []).append(_errors(table, good, train, test))
        for budget in BUDGETS:
            for method, seeds in (("coverage", 1), ("random", DRAWN), ("group", DRAWN)):
                for seed in range(seeds):
                    chosen = _chosen(good, rows, train, budget, method, seed + 10 * split)
                    found.setdefault((method, budget), []).append(_errors(table, good, chosen, test))
        say(f"split {split + 1} of {SPLITS}")
    for (method, budget), errors in sorted(found.items(), key=lambda one: (one[0][1], one[0][0])):
        low, middle, high = (f(errors, axis=0) for f in (np.min, np.median, np.max))
        forces = f"{middle[0]:.3f} ({low[0]:.3f} to {high[0]:.3f}) eV/Å"
        energies = f"{middle[1]:.1f} ({low[1]:.1f} to {high[1]:.1f}) meV/atom"
        say(f"  {budget:5.0%} {method:9s} forces {forces}, energies {energies}")


def _chosen(
    data: DataSet, rows: NDArray[np.float64], train: NDArray[np.int64], budget: float, method: str, seed: int
) -> NDArray[np.int64]:
    inside = np.isin(data.configurations, train)
    of = np.searchsorted(train, data.configurations[inside])
    groups = None if data.groups is None else data.groups[train]
    return train[rank(rows[inside], of, method=method, groups=groups, seed=seed).chosen(budget)]


def _errors(
    table: FitTable, data: DataSet, chosen: NDArray[np.int64], test: NDArray[np.int64]
) -> tuple[float, float]:
    """Root mean squares over the test configurations: forces in eV/Å, energies in meV/atom."""
    energies, forces = table.residuals(table.fit(chosen))
    assert forces is not None
    own = np.isin(data.configurations, test)
    return float(np.sqrt((forces[own] ** 2).mean())), float(1000 * np.sqrt((energies[test] ** 2).mean()))


def outliers() -> None:
    """Print how well displaced atoms are found."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    data, faults = metals()
    wrong = np.array([faults.get(k) == "displaced" for k in range(len(data))])
    for cutoff in (3.5, 4.0, 4.5, 5.0, 6.0):
        descriptor = PowerSpectrum(data.species, cutoff=cutoff)
        scores = mine(data, descriptor=descriptor, method="none", outliers=True).scores
        assert scores is not None
        best = np.maximum.reduceat(scores, data.starts[:-1])
        say(
            f"  cutoff {cutoff:.1f} Å: AUC {roc_auc_score(wrong, best):.3f}, average precision "
            f"{average_precision_score(wrong, best):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["subsets", "outliers"])
    {"subsets": subsets, "outliers": outliers}[parser.parse_args().part]()


if __name__ == "__main__":
    main()
