"""Energies and forces of Lennard-Jones mixtures."""

from __future__ import annotations

import numpy as np

from naive.fields import image_shifts


def lennard_jones(frame, potential):
    """Energies (n,) and forces (n, 3) of a `LennardJonesMixture`: every pair and every image of it."""
    codes = potential.codes(frame)
    shifts = image_shifts(frame.cell, frame.pbc, np.max(potential.cutoff))
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    positions = frame.positions - np.where(frame.pbc, np.floor(fractions), 0.0) @ frame.cell
    energies, forces = np.zeros(len(frame)), np.zeros((len(frame), 3))
    for i in range(len(frame)):
        for j in range(len(frame)):
            epsilon, sigma = potential.epsilon[codes[i], codes[j]], potential.sigma[codes[i], codes[j]]
            cutoff = potential.cutoff[codes[i], codes[j]]
            x = (sigma / cutoff) ** 6
            offset = 4 * epsilon * (x * x - x) if potential.shift == "energy" else 0.0
            apart = positions[j] - positions[i] + shifts
            r = np.linalg.norm(apart, axis=1)
            for d, length in zip(apart, r, strict=True):
                if length < cutoff and (i != j or length > 1e-9):
                    x = (sigma / length) ** 6
                    energies[i] += 0.5 * (4 * epsilon * (x * x - x) - offset)
                    forces[i] -= 24 * epsilon * (2 * x * x - x) / length**2 * d
    return energies, forces
