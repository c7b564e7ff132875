"""Single descriptors of the structure that correlate with mobility without any training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.mobility.descriptors import averaging
from phaseseg.families.mobility.structure import Structure

ROUNDS = 4
"""Averagings over neighbors; more do not help at T = 0.44."""


def descriptors_of(structure: Structure) -> dict[str, NDArray[np.float64]]:
    """Return single descriptors (n_atoms,), each as it is and averaged over the neighborhood.

    These are the potential energy of every particle at the thermal and the inherent positions, the local
    density, the way to the inherent position and, if the cages were sampled, the logarithm of the variance of
    the position in the cage. The local density is the sum of exp(-r / 2.1) over the neighbors with r < 2.1 at
    thermal positions. The average is taken four times over these neighbors and the particle itself, with
    the same weights, at the inherent positions.
    """
    frame, inherent = structure.frame, structure.inherent
    at_minimum = averaging(replace(frame, positions=inherent.positions))
    found = {
        "potential energy": inherent.thermal_energy,
        "inherent energy": inherent.energy,
        "local density": 1 / averaging(frame).scale - 1,
        "inherent displacement": inherent.displacement,
    }
    if structure.cage is not None:
        # A particle alone in space has no cage, so its variance may be zero.
        found["log cage variance"] = np.log(np.maximum(structure.cage.variance, 1e-12))
    result: dict[str, NDArray[np.float64]] = {}
    for name, values in found.items():
        result[name] = np.asarray(values, np.float64)
        averaged = result[name].astype(np.float32)[:, None]
        for _ in range(ROUNDS):
            averaged = at_minimum(averaged)
        result[f"{name}, averaged"] = averaged[:, 0].astype(np.float64)
    return result
