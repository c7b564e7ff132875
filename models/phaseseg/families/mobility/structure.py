"""Structure of a frame: what networks and regressions of this family see."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phaseseg.families import Progress
from phaseseg.families.mobility.cage import N_STEPS, Cage, cage_positions, temperature_of
from phaseseg.families.mobility.inherent import TOLERANCE, Inherent, inherent_positions
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.frame import Frame


@dataclass(frozen=True, eq=False)
class Structure:
    """A frame with its inherent structure and, if asked for, its cages.

    frame : n_atoms particles at thermal positions
    codes : (n_atoms,) int32; 0 for A, the first species of the potential, 1 for B
    potential : of the mixture
    inherent : positions (n_atoms, 3), displacement, energies
    cage : means (n_atoms, 3) and covariances (n_atoms, 3, 3), or None
    temperature : of the cage runs, ε/k, or None

    All positions are in the images that the frame has, so that their differences are displacements.
    """

    frame: Frame
    codes: NDArray[np.int32]
    potential: LennardJonesMixture
    inherent: Inherent
    cage: Cage | None = None
    temperature: float | None = None

    @property
    def thermal_positions(self) -> NDArray[np.float64]:
        return self.frame.positions

    @property
    def inherent_positions(self) -> NDArray[np.float64]:
        return self.inherent.positions

    @property
    def cage_positions(self) -> NDArray[np.float64]:
        """ValueError if the cages were not sampled."""
        if self.cage is None:
            raise ValueError("the cages of this structure were not sampled: ask for them with cage=True.")
        return self.cage.positions


def structure_of(
    frame: Frame, *, temperature: float | None = None, potential: LennardJonesMixture | None = None,
    cage: bool = True, runs: int = 2, steps: int = N_STEPS, seed: int = 0, tolerance: float = TOLERANCE,
    folder: str | os.PathLike[str] | None = None, progress: Progress | None = None,
) -> Structure:  # fmt: skip
    """Minimize a frame and sample its cages; both are kept, see `inherent_positions` and `cage_positions`.

    Parameters
    ----------
    frame : in Lennard-Jones units
    temperature : of the cage runs, ε/k; when left out, `temperature` in the info of the frame
    potential : the Kob–Andersen mixture when left out
    cage : whether to sample the cages
    runs, steps, seed : of the cage runs, see `cage_positions`
    tolerance : of the minimization, ε/σ
    folder : of structures on disk; by default that in PHASESEG_STRUCTURES, if it is set
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    MinimizationError, CageError
        If the frame cannot be minimized, or its cages cannot be sampled.
    ValueError
        If the temperature is needed and not known, or a species is not in the potential.
    """
    potential = potential or KOB_ANDERSEN
    codes = potential.codes(frame)
    at = temperature_of(frame, temperature) if cage else None
    middle = 0.12 if cage else 1.0

    def part(low: float, high: float) -> Progress | None:
        if progress is None:
            return None
        return lambda done, text: progress(low + done * (high - low), text)

    inherent = inherent_positions(
        frame, potential, tolerance=tolerance, folder=folder, progress=part(0.0, middle)
    )
    if at is None:
        return Structure(frame, codes, potential, inherent)
    cages = cage_positions(
        frame, at, potential, runs=runs, steps=steps, seed=seed, folder=folder, progress=part(middle, 1.0)
    )
    return Structure(frame, codes, potential, inherent, cages, at)
