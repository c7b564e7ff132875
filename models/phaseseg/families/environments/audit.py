"""Suspicious energies and forces of a data set: large residuals of a robust linear potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from phaseseg.display import Message
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.potential import species_of, usual_descriptor
from phaseseg.families.environments.potential_basis import fit_basis
from phaseseg.families.environments.potential_table import FitTable, gross_energies, gross_forces, make_table
from phaseseg.frame import Frame
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

FEWEST = 10
"""Configurations that an audit needs."""
ROUNDS = 4
"""Fits in which large residuals lose weight, before the last one."""
BOUND = 3.0
"""Scores of this size halve the weight of a force, and leave a quarter to an energy."""
SUSPICIOUS = 6.0
"""Scores above this are reported."""
MEDIAN_LENGTH = 1.5382
"""Median length of a vector of three normal variables of variance 1."""
LEAST_SPREAD = 0.1
"""Of factors between reference and fit; a smaller spread counts as this."""
ENERGY_WINDOW, FORCE_WINDOW = 101, 1001
"""Configurations and atoms among which a residual is typical."""
LEAST_ENERGY, LEAST_FORCE = 2e-3, 1e-2
"""eV/atom and eV/Å; smaller residuals count as these."""
STRONG = 0.1
"""eV/Å, root mean square of the forces from which on a factor between reference and fit is given."""


class Labeled(Protocol):
    """What is audited, such as a `DataSet`."""

    @property
    def frames(self) -> Sequence[Frame]: ...
    @property
    def energies(self) -> Doubles | None: ...
    @property
    def forces(self) -> Doubles | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, eq=False)
class Audit:
    """Residuals of a robust fit, reference minus fit, and how unusual they are.

    energy_residuals : (n_configurations,) eV/atom
    force_residuals : (n_atoms,) eV/Å, lengths of the differences; empty without forces
    energy_scores : (n_configurations,) robust z: residuals in units of the standard deviation among
        configurations of similar energy, from the median
    force_scores : (n_configurations,) mean of the scores of the atoms, or how many robust standard deviations
        the factor is away from 1, whichever is larger; empty without forces
    atom_scores : (n_atoms,) force residuals in units of the standard deviation of one component among atoms
        with similar forces, from the median
    factors : (n_configurations,) best factor between the fitted and the reference forces: near 1 where labels
        are right, -1 for a wrong sign; NaN for forces below 0.1 eV/Å
    names : of the configurations; messages : what was found, with the names
    """

    energy_residuals: Doubles
    force_residuals: Doubles
    energy_scores: Doubles
    force_scores: Doubles
    atom_scores: Doubles
    factors: Doubles
    names: tuple[str, ...]
    messages: tuple[Message, ...]

    @property
    def scores(self) -> Doubles:
        """(n_configurations,) the larger of the two scores."""
        if not len(self.force_scores):
            return self.energy_scores
        return np.maximum(self.energy_scores, self.force_scores)

    @property
    def suspicious(self) -> Integers:
        """Numbers of the configurations with a score above 6, the most suspicious first."""
        order = np.argsort(-self.scores, kind="stable")
        return order[self.scores[order] > SUSPICIOUS].astype(np.int64)


def audit(
    data: Labeled, *, descriptor: PowerSpectrum | None = None, n_products: int = 0,
    progress: Progress | None = None,
) -> Audit:  # fmt: skip
    """Find labels that do not agree with those of similar environments.

    A linear potential is fitted several times. Labels with large residuals lose weight from fit to fit, so
    that wrong ones do not bend it (iteratively reweighted least squares with Cauchy weights). The residuals
    of each configuration come from a fit to the others. They are compared with residuals of configurations
    of similar energy, and of atoms with similar forces, because fits are worse far from equilibrium.

    Parameters
    ----------
    data : set with frames, energies and, if it has any, forces; without forces, the energies alone
    descriptor, n_products : of the potential, see `LinearPotential.fit`
    progress : called with the fraction that is done and a text

    Raises
    ------
    ValueError
        For a set without energies, with fewer than ten configurations, or with labels that are not finite.

    References
    ----------
    Holland, Welsch, Commun. Stat. A 6, 813 (1977), doi:10.1080/03610927708827533 (reweighting).

    >>> from phaseseg.families.environments.dataset import DataSet
    >>> rng = np.random.default_rng(0)
    >>> frames = [Frame([[0.0, 0, 0], [r, 0, 0]], [30.0] * 3, False, ["Fe", "Fe"])
    ...           for r in rng.uniform(2, 3, 40)]
    >>> energies = np.array([(np.linalg.norm(f.positions[1]) - 2.4) ** 2 for f in frames])
    >>> energies[7] += 1.0
    >>> int(audit(DataSet(frames, energies)).suspicious[0])
    7
    """
    frames, names = data.frames, data.names
    if data.energies is None:
        raise ValueError(
            "the set has no energies, so its labels cannot be audited; name the key of the energy."
        )
    if len(frames) < FEWEST:
        raise ValueError(f"an audit needs at least {FEWEST} configurations, found {len(frames)}.")
    if descriptor is None:
        descriptor = usual_descriptor(species_of(frames))

    def part(first: float, last: float) -> Progress | None:
        if progress is None:
            return None
        return lambda fraction, text: progress(first + fraction * (last - first), text)

    basis = fit_basis(frames, descriptor, n_products, None, part(0.0, 0.1))
    table = make_table(frames, data.energies, data.forces, basis, part(0.1, 0.7))
    return audit_table(table, names, progress=part(0.7, 1.0))


def audit_table(
    table: FitTable, names: Sequence[str], *, progress: Progress | None = None
) -> Audit:  # fmt: skip
    """Audit a set whose rows have been computed; see `audit`. names : of the configurations."""
    # Labels of high energies keep their weight: otherwise, wrong labels that are too low would win.
    usual = table.usual_weights**-2.0
    atoms = np.repeat(usual, table.sizes)
    # The first fit does without labels that are off by orders of magnitude: it would hardly see any others.
    gross = gross_energies(
        table.energies / table.sizes, table.energy_rows[:, table.basis.n_functions :] / table.sizes[:, None]
    )
    energy_weights, atom_weights, penalty = np.where(gross, 0.0, 1.0), np.ones(len(atoms)), None
    if table.forces is not None:
        atom_weights = np.where(gross_forces(table.forces.reshape(-1, 3)), 0.0, 1.0)
    for k in range(ROUNDS):
        solution = table.fit(
            atom_weights=atoms * atom_weights, energy_weights=usual * energy_weights, penalty=penalty
        )
        penalty = solution.penalty
        _, _, energy_weights, atom_weights = _scored(table, *table.residuals(solution))
        if progress is not None:
            progress((k + 1) / (ROUNDS + 1), f"robust fit {k + 1} of {ROUNDS}")
    energies, forces, _ = table.left_out(
        atom_weights=atoms * atom_weights, energy_weights=usual * energy_weights, penalty=penalty
    )
    energy_scores, atom_scores, _, _ = _scored(table, energies, forces)
    if progress is not None:
        progress(1.0, "residuals of configurations that were left out")
    empty = np.zeros(0)
    lengths, force_scores, factors = empty, empty, empty
    if forces is not None and table.forces is not None:
        lengths = np.linalg.norm(forces, axis=1)
        factors = _factors(table, forces)
        force_scores = np.add.reduceat(atom_scores, table.starts[:-1]) / table.sizes
        force_scores = np.maximum(force_scores, _unusual(factors))
    found = Audit(energies, lengths, energy_scores, force_scores, atom_scores, factors, tuple(names), ())
    return Audit(**{**vars(found), "messages": _messages(table, found)})


def _scored(
    table: FitTable, energies: Doubles, forces: Doubles | None
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Scores of energies and atoms, and the weights they leave."""
    size = np.abs(energies)
    typical = typical_values(size, table.above - energies, ENERGY_WINDOW)
    energy_scores = size / np.maximum(1.4826 * typical, LEAST_ENERGY)
    weights = 1 / (1 + (energy_scores / BOUND) ** 2) ** 2
    n_atoms = int(table.starts[-1])
    if forces is None or table.forces is None:
        return energy_scores, np.zeros(0), weights, np.ones(n_atoms)
    lengths = np.linalg.norm(forces, axis=1)
    fitted = np.linalg.norm(table.forces.reshape(-1, 3) - forces, axis=1)
    typical = typical_values(lengths, fitted, FORCE_WINDOW) / MEDIAN_LENGTH
    scores = lengths / np.maximum(typical, LEAST_FORCE)
    return energy_scores, scores, weights, 1 / (1 + (scores / BOUND) ** 2)


def typical_values(values: Doubles, keys: Doubles, window: int) -> Doubles:
    """Return the median of the values of the neighbors in the order of the keys, `window` in all."""
    order = np.argsort(keys, kind="stable")
    odd = min(window, max(len(values) - 1, 1)) // 2 * 2 + 1
    found = np.empty(len(values))
    found[order] = median_filter(values[order], size=odd, mode="nearest")
    return found


def _factors(table: FitTable, forces: Doubles) -> Doubles:
    """(n_configurations,) Σ F·f / Σ f·f of the reference F and the fit f; NaN for small forces."""
    assert table.forces is not None
    reference = table.forces.reshape(-1, 3)
    fitted = reference - forces
    above = np.add.reduceat((reference * fitted).sum(axis=1), table.starts[:-1])
    below = np.add.reduceat((fitted**2).sum(axis=1), table.starts[:-1])
    strong = below > STRONG**2 * table.sizes
    return np.where(strong, above / np.where(strong, below, 1.0), np.nan)


def _unusual(factors: Doubles) -> Doubles:
    """Distances of factors from 1 in robust standard deviations; 0 where there is no factor."""
    off = np.abs(np.nan_to_num(factors, nan=1.0) - 1)
    known = off[np.isfinite(factors)]
    spread = 1.4826 * float(np.median(known)) if len(known) else 0.0
    return np.asarray(off / max(spread, LEAST_SPREAD))


def _messages(table: FitTable, found: Audit) -> tuple[Message, ...]:
    messages = []
    if table.forces is None:
        messages.append(Message("The set has no forces, so only its energies were audited.", "no-forces"))
    labels = len(table.energies) + (0 if table.forces is None else len(table.forces))
    if labels < 2 * table.basis.n_functions:
        messages.append(Message(
            f"The set has {labels:,} labels for {table.basis.n_functions:,} coefficients, so the audit is "
            "weak. Choose a descriptor with fewer features.", "few-labels",
        ))  # fmt: skip
    for c in found.suspicious.tolist():
        name, residual = found.names[c], found.energy_residuals[c]
        if found.energy_scores[c] > SUSPICIOUS:
            messages.append(Message(
                f"{name}: the energy is {abs(residual):.3g} eV/atom "
                f"{'above' if residual > 0 else 'below'} the fit, {found.energy_scores[c]:.0f} times the "
                "usual difference.", "suspicious-energy",
            ))  # fmt: skip
        if len(found.force_scores) and found.force_scores[c] > SUSPICIOUS:
            own = slice(table.starts[c], table.starts[c + 1])
            worst = int(found.force_residuals[own].argmax())
            factor = found.factors[c]
            how = f" They are about {factor:.2f} times those of the fit." if np.isfinite(factor) else ""
            messages.append(Message(
                f"{name}: forces differ from the fit by up to {found.force_residuals[own][worst]:.3g} eV/Å "
                f"(atom {worst + 1}).{how}", "suspicious-forces",
            ))  # fmt: skip
    return tuple(messages)
