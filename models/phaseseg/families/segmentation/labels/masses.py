"""Masses of species."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import SITE


def element_masses(names: tuple[str, ...]) -> NDArray[np.float64]:
    """(n_species,) standard atomic masses, 0 for sites X; NaN for a name that is not an element."""
    from ase.data import atomic_masses, atomic_numbers

    masses = {SITE: 0.0} | {name: atomic_masses[number] for name, number in atomic_numbers.items() if number}
    return np.array([masses.get(name, np.nan) for name in names])
