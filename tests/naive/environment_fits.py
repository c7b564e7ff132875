"""Fits of linear potentials: derivatives by finite differences, ridge regression as one large system."""

from __future__ import annotations

import numpy as np


def force_by_differences(energy, frame, atom, axis, step=1e-4):
    """Minus the central difference of energy(frame), a number or an array, over one coordinate."""
    values = []
    for sign in (1, -1):
        positions = frame.positions.copy()
        positions[atom, axis] += sign * step
        values.append(energy(frame.replace(positions=positions)))
    return -(values[0] - values[1]) / (2 * step)


def ridge(table, configurations, penalty, atom_weights=None, energy_weights=None):
    """Coefficients and constants from all weighted rows and the rows of the penalty, by a singular value
    decomposition."""
    n, of = table.basis.n_functions, np.repeat(np.arange(len(table.energies)), table.sizes)
    atoms = np.ones(len(of)) if atom_weights is None else atom_weights
    rows, right = [], []
    for c in configurations:
        weight = 1 / (1 + (table.above[c] / 0.5) ** 2)
        own = atoms[of == c].mean() if energy_weights is None else energy_weights[c]
        rows.append(100 / table.sizes[c] * weight * np.sqrt(own) * table.energy_rows[c])
        right.append(100 / table.sizes[c] * weight * np.sqrt(own) * table.energies[c])
        for atom in np.flatnonzero(of == c):
            for x in range(3):
                row = np.concatenate([table.force_rows[3 * atom + x], np.zeros(len(table.basis.species))])
                rows.append(weight * np.sqrt(atoms[atom]) * row)
                right.append(weight * np.sqrt(atoms[atom]) * table.forces[3 * atom + x])
    rows, right = np.array(rows), np.array(right)
    unit = (rows[:, :n] ** 2).sum(axis=0).mean()
    ridges = np.sqrt(penalty * unit) * np.eye(rows.shape[1])[:n]
    found = np.linalg.lstsq(np.vstack([rows, ridges]), np.append(right, np.zeros(n)), rcond=1e-12)[0]
    return found, rows, right
