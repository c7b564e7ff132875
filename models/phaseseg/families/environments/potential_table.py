"""Rows of a linear potential, computed once for a data set, so that many subsets of it can be fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from phaseseg.families.environments.potential_basis import Basis
from phaseseg.frame import Frame
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

ENERGY_WEIGHT = 100.0
"""Factor of the row of an energy per atom, in eV; rows of forces, in eV/Å, have 1."""
ENERGY_SCALE = 0.5
"""eV/atom: all rows of a configuration this far above the lowest are weighted by one half."""
PENALTIES = tuple(float(10.0**k) for k in range(-11, 1))
"""Ridge penalties that are tried, in units of the mean diagonal of the normal equations."""
FOLDS = 5
"""Parts of the cross-validation."""
GROSS = 30.0
"""Labels this many times as far from the others as nine tenths of these are errors of another kind."""
MOST_MEMORY = 8e9
"""Bytes of the rows of forces that are kept at most."""
BLOCK = 4096
"""Rows that are converted to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Solution:
    """coefficients : (n_functions,) of scaled functions; constants : (n_species,) eV

    penalty : in units of the mean diagonal; losses : by penalty, on configurations left out, or empty
    """

    coefficients: Doubles
    constants: Doubles
    penalty: float
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class FitTable:
    """The rows of a set under one basis: what a fit of any subset, and its test, is computed from.

    energy_rows : (n_configurations, n_functions + n_species) float64
    force_rows : (3 n_atoms, n_functions) float32, or None without forces
    energies : (n_configurations,) eV; forces : (3 n_atoms,) eV/Å or None; both without the baseline
    starts : (n_configurations + 1,) CSR of the atoms; above : (n_configurations,) eV/atom above the lowest
    """

    basis: Basis
    energy_rows: Doubles
    force_rows: NDArray[np.float32] | None
    energies: Doubles
    forces: Doubles | None
    starts: Integers
    above: Doubles

    @property
    def n_configurations(self) -> int:
        return len(self.energies)

    @cached_property
    def sizes(self) -> Integers:
        """(n_configurations,) numbers of atoms."""
        return np.diff(self.starts)

    @cached_property
    def usual_weights(self) -> Doubles:
        """(n_configurations,) 1 / (1 + (above / 0.5 eV)^2), the factor of all rows of a configuration."""
        return np.asarray(1 / (1 + (self.above / ENERGY_SCALE) ** 2))

    def fit(
        self, configurations: ArrayLike | None = None, *, atom_weights: ArrayLike | None = None,
        energy_weights: ArrayLike | None = None, penalty: float | None = None, seed: int = 0,
    ) -> Solution:  # fmt: skip
        """Fit a subset by ridge regression.

        Parameters
        ----------
        configurations : numbers of the configurations; None for all
        atom_weights : (n_atoms,) of the whole set, factors of the squared residuals of the forces on an atom;
            zeros leave rows out
        energy_weights : (n_configurations,) of the whole set, the same for the energies; by default the
            means of the weights of the atoms
        penalty : in units of the mean diagonal; None for the best of `PENALTIES` in cross-validation over
            the configurations of the subset

        Raises
        ------
        ValueError
            For an empty subset, or weights of the wrong length or below zero.
        """
        chosen = np.arange(self.n_configurations) if configurations is None else np.unique(configurations)
        if not len(chosen):
            raise ValueError("a fit needs at least one configuration.")
        atoms, configs = self._weights(atom_weights, energy_weights)
        order = np.random.default_rng(seed).permutation(len(chosen))
        folds = [chosen[order[k::FOLDS]] for k in range(min(FOLDS, len(chosen)))]
        if penalty is not None:
            folds = [chosen]
        parts = [self._normal(fold, atoms, configs) for fold in folds]
        matrix = np.sum([part[0] for part in parts], axis=0)
        right = np.sum([part[1] for part in parts], axis=0)
        losses: tuple[float, ...] = ()
        if penalty is None:
            penalty = PENALTIES[len(PENALTIES) // 2]
            if len(folds) > 1:
                losses = self._losses(parts, matrix, right)
                penalty = PENALTIES[int(np.argmin(losses))]
        found = self._solve(matrix, right, penalty)
        n = self.basis.n_functions
        return Solution(found[:n], found[n:], penalty, losses)

    def left_out(
        self, *, atom_weights: ArrayLike | None = None, energy_weights: ArrayLike | None = None,
        penalty: float | None = None, seed: int = 0,
    ) -> tuple[Doubles, Doubles | None, float]:  # fmt: skip
        """Return residuals of every configuration under a fit of the other folds, and the penalty.

        The arguments are those of `fit`, the residuals those of `residuals`.
        """
        order = np.random.default_rng(seed).permutation(self.n_configurations)
        folds = [np.sort(order[k::FOLDS]) for k in range(min(FOLDS, len(order)))]
        weights = self._weights(atom_weights, energy_weights)
        parts = [self._normal(fold, *weights) for fold in folds]
        matrix = np.sum([part[0] for part in parts], axis=0)
        right = np.sum([part[1] for part in parts], axis=0)
        if penalty is None:
            penalty = PENALTIES[int(np.argmin(self._losses(parts, matrix, right)))]
        energies = np.zeros(self.n_configurations)
        forces = None if self.forces is None else np.zeros((int(self.starts[-1]), 3))
        n = self.basis.n_functions
        of = np.repeat(np.arange(self.n_configurations), self.sizes)
        for fold, part in zip(folds, parts, strict=True):
            own = (
                self._solve(matrix - part[0], right - part[1], penalty)
                if len(folds) > 1
                else np.zeros(len(right))
            )
            found = self.residuals(Solution(own[:n], own[n:], penalty))
            energies[fold] = found[0][fold]
            if forces is not None and found[1] is not None:
                inside = np.isin(of, fold)
                forces[inside] = found[1][inside]
        return energies, forces, penalty

    def residuals(self, solution: Solution) -> tuple[Doubles, Doubles | None]:
        """Return reference minus fit: (n_configurations,) eV/atom and (n_atoms, 3) eV/Å, or None."""
        every = np.concatenate([solution.coefficients, solution.constants])
        energies = (self.energies - self.energy_rows @ every) / self.sizes
        if self.force_rows is None or self.forces is None:
            return energies, None
        fitted = self.force_rows @ solution.coefficients.astype(np.float32)
        return energies, (self.forces - fitted).reshape(-1, 3)

    def _weights(self, atoms: ArrayLike | None, configs: ArrayLike | None) -> tuple[Doubles, Doubles]:
        n_atoms = int(self.starts[-1])
        found = np.ones(n_atoms) if atoms is None else np.asarray(atoms, dtype=np.float64)
        own = np.add.reduceat(found, self.starts[:-1]) / self.sizes if len(found) == n_atoms else found
        energies = own if configs is None else np.asarray(configs, dtype=np.float64)
        for name, values, n in (("atom", found, n_atoms), ("energy", energies, self.n_configurations)):
            if values.shape != (n,) or not (values >= 0).all():
                raise ValueError(f"{name}_weights must be {n} numbers from zero on, found {values.shape}.")
        return found, energies

    def _normal(self, chosen: Integers, atoms: Doubles, configs: Doubles) -> tuple[Doubles, Doubles, float]:
        """Matrix, right-hand side and sum of squares of the weighted rows of some configurations."""
        factor = self.usual_weights[chosen] * np.sqrt(configs[chosen]) * ENERGY_WEIGHT / self.sizes[chosen]
        rows, y = self.energy_rows[chosen] * factor[:, None], self.energies[chosen] * factor
        matrix, right, squares = rows.T @ rows, rows.T @ y, float(y @ y)
        if self.force_rows is None or self.forces is None:
            return matrix, right, squares
        inside = np.concatenate([np.arange(self.starts[c], self.starts[c + 1]) for c in chosen.tolist()])
        factors = np.sqrt(atoms[inside]) * np.repeat(self.usual_weights[chosen], self.sizes[chosen])
        inside, factors = inside[factors > 0], factors[factors > 0]
        n = self.basis.n_functions
        for k in range(0, len(inside), BLOCK // 3):
            own, by = inside[k : k + BLOCK // 3], np.repeat(factors[k : k + BLOCK // 3], 3)
            places = (3 * own[:, None] + np.arange(3)).ravel()
            block = self.force_rows[places] * by[:, None]
            y = self.forces[places] * by
            matrix[:n, :n] += block.T @ block
            right[:n] += block.T @ y
            squares += float(y @ y)
        return matrix, right, squares

    def _solve(self, matrix: Doubles, right: Doubles, penalty: float) -> Doubles:
        n = self.basis.n_functions
        unit = max(float(np.diag(matrix)[:n].mean()), 1e-300)
        ridge = np.full(len(right), penalty * unit)
        ridge[n:] = 1e-12 * np.maximum(
            np.diag(matrix)[n:], 1e-6
        )  # a species that is absent has a constant, too
        try:
            return np.asarray(cho_solve(cho_factor(matrix + np.diag(ridge)), right))
        except LinAlgError:
            return np.asarray(np.linalg.lstsq(matrix + np.diag(ridge), right, rcond=1e-14)[0])

    def _losses(
        self, parts: Sequence[tuple[Doubles, Doubles, float]], matrix: Doubles, right: Doubles
    ) -> tuple[float, ...]:
        """Weighted squares of the residuals of every fold under the fit of the others, by penalty."""
        losses = np.zeros(len(PENALTIES))
        for own, side, squares in parts:
            for k, penalty in enumerate(PENALTIES):
                w = self._solve(matrix - own, right - side, penalty)
                losses[k] += squares - 2 * float(side @ w) + float(w @ own @ w)
        return tuple(losses.tolist())


def make_table(
    frames: Sequence[Frame], energies: ArrayLike, forces: ArrayLike | None, basis: Basis,
    progress: Progress | None = None,
) -> FitTable:  # fmt: skip
    """Compute the rows of all configurations.

    frames : configurations; energies : (n_configurations,) eV, total
    forces : (n_atoms, 3) eV/Å, configuration by configuration, or None

    Raises
    ------
    ValueError
        For numbers of energies or forces that do not fit the frames, or that are not finite, and for rows
        that need more than 8 GB.
    """
    sizes = np.array([frame.n_atoms for frame in frames], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    total, pull = checked_targets(frames, energies, forces)
    n, n_species = basis.n_functions, len(basis.species)
    if pull is not None and (need := 12.0 * float(starts[-1]) * n) > MOST_MEMORY:
        raise ValueError(
            f"the rows of {starts[-1]:,} atoms and {n:,} functions need {need / 1e9:.0f} GB, and "
            f"{MOST_MEMORY / 1e9:.0f} GB are the limit; choose fewer configurations or a smaller descriptor."
        )
    rows = np.empty((len(frames), n + n_species))
    pushes = None if pull is None else np.empty((3 * starts[-1], n), dtype=np.float32)
    above = np.asarray(total, dtype=np.float64) / sizes
    for c, frame in enumerate(frames):
        rows[c, :n], rows[c, n:] = basis.energy_rows(frame)
        energy, push = basis.baseline(frame)
        total[c] -= energy
        if pushes is not None and pull is not None:
            here = slice(starts[c], starts[c + 1])
            pushes[3 * starts[c] : 3 * starts[c + 1]] = basis.force_rows(frame).reshape(-1, n)
            pull[here] -= push
        if progress is not None:
            progress((c + 1) / len(frames), "rows of the fit")
    # Energies of the species are no measure of how far a configuration is from rest.
    shares = rows[:, n:] / sizes[:, None]
    gross = gross_energies(above, shares)
    if n_species > 1:
        above = above - shares @ np.linalg.lstsq(shares[~gross], above[~gross], rcond=None)[0]
    above = above - above[~gross].min()
    return FitTable(basis, rows, pushes, total, None if pull is None else pull.ravel(), starts, above)


def gross_energies(energies: Doubles, shares: Doubles) -> NDArray[np.bool_]:
    """Return (n_configurations,) whether an energy is off by orders of magnitude, as in another unit.

    energies : (n_configurations,) eV/atom; shares : (n_configurations, n_species) of the atoms

    The energies of the species are those of the least sum of absolute residuals. Residuals are gross if they
    are `GROSS` times those of nine tenths of the set, at least 0.01 eV/atom.
    """
    weights = np.ones(len(energies))
    for _ in range(30):  # iteratively reweighted least squares
        root = np.sqrt(weights)
        constants = np.linalg.lstsq(shares * root[:, None], energies * root, rcond=None)[0]
        size = np.abs(energies - shares @ constants)
        weights = 1 / np.maximum(size, 1e-6)
    return np.asarray(size > GROSS * max(float(np.quantile(size, 0.9)), 0.01))


def gross_forces(forces: Doubles) -> NDArray[np.bool_]:
    """Return (n_atoms,) whether a force (n_atoms, 3) is `GROSS` times that of nine tenths of the atoms."""
    size = np.linalg.norm(forces, axis=1)
    return np.asarray(size > GROSS * max(float(np.quantile(size, 0.9)), 0.01))


def checked_targets(
    frames: Sequence[Frame], energies: ArrayLike, forces: ArrayLike | None
) -> tuple[Doubles, Doubles | None]:
    """Return copies of energies and forces as float64; ValueError where they do not fit the frames."""
    if not len(frames):
        raise ValueError("a potential needs at least one configuration.")
    if empty := [k for k, frame in enumerate(frames) if not frame.n_atoms]:
        raise ValueError(f"configuration {empty[0]} has no atoms; leave it out.")
    total = np.array(energies, dtype=np.float64)
    if total.shape != (len(frames),):
        raise ValueError(
            f"energies must be one number for each of the {len(frames)} configurations, found {total.shape}."
        )
    if (bad := np.flatnonzero(~np.isfinite(total))).size:
        raise ValueError(
            f"the energy of configuration {bad[0]} is {total[bad[0]]}; leave the configuration out."
        )
    if forces is None:
        return total, None
    pull = np.array(forces, dtype=np.float64)
    n_atoms = sum(frame.n_atoms for frame in frames)
    if pull.shape != (n_atoms, 3):
        raise ValueError(f"forces must have shape {(n_atoms, 3)}, found {pull.shape}.")
    if (bad := np.flatnonzero(~np.isfinite(pull).all(axis=1))).size:
        raise ValueError(f"the force on atom {bad[0]} of the set is not finite; leave its configuration out.")
    return total, pull
