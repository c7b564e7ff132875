"""Inherent structures: the nearest minimum of the potential energy, found by FIRE.

The method is that of DOI 10.1103/PhysRevLett.97.170201 in the form of DOI 10.1016/j.commatsci.2020.109584.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.families import Progress
from phaseseg.families.mobility.pairs import FINE_SKIN, System, compute_forces, farthest, filter_pairs
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.families.mobility.structure_cache import kept_or_made
from phaseseg.frame import Frame

TOLERANCE = 1e-3
MOST_STEPS = 50_000
# Of the coarse list of pairs, σ: particles rarely move half of it on the way to the minimum.
SKIN = 1.0
# Time steps, in units of the mixture, and the longest step of a particle, σ. Vibrations of the stiffest pairs
# take 0.16, and the integration is stable up to a third of that.
STEP, LONGEST_STEP, SHORTEST_STEP, FARTHEST_STEP = 0.01, 0.05, 1e-4, 0.1
# Of the method: steps before the time step grows, its growth and shrinkage, and the mixing of velocities.
DELAY, GROW, SHRINK, MIXING, MIXING_FALLS = 20, 1.1, 0.5, 0.1, 0.99
# Particles times steps between two calls of `progress`.
_PART = 1_000_000


class MinimizationError(ValueError):
    """A frame whose energy could not be minimized; the sentence says why and what to do."""


@dataclass(frozen=True, eq=False)
class Inherent:
    """The minimum of the potential energy near a frame of n_atoms particles.

    positions : (n_atoms, 3) float64, σ, unwrapped: in the images that the frame has
    displacement : (n_atoms,) float64, σ, length of the way from the frame
    energy : (n_atoms,) float64, ε, at the minimum
    thermal_energy : (n_atoms,) float64, ε, in the frame
    n_steps : of the minimization; residual : ε/σ, largest component of a force at the end
    """

    positions: NDArray[np.float64]
    displacement: NDArray[np.float64]
    energy: NDArray[np.float64]
    thermal_energy: NDArray[np.float64]
    n_steps: int
    residual: float


def inherent_positions(
    frame: Frame, potential: LennardJonesMixture | None = None, *, tolerance: float = TOLERANCE,
    max_steps: int = MOST_STEPS, folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Inherent:  # fmt: skip
    """Minimize the potential energy of a frame: each particle's position in the inherent structure.

    The cell stays as it is. Any cell; time linear in the number of particles. The result is the same on
    every call. It is kept in memory for the last few frames. Without neighbors, as for a single particle,
    the frame is a minimum already.

    Parameters
    ----------
    frame : in Lennard-Jones units
    potential : the Kob–Andersen mixture when left out
    tolerance : ε/σ; ends when no component of a force is larger
    max_steps : after which the minimization has failed
    folder : of results that are kept on disk; by default that in PHASESEG_STRUCTURES, if it is set
    progress : called with the completed fraction (an estimate) and a line; may raise to stop

    Raises
    ------
    MinimizationError
        If the forces are not below the tolerance after `max_steps` steps, two particles are at the same
        place, or forces are not finite.
    ValueError
        For a species that the potential does not know, or a tolerance that is not positive.
    """
    if not 0 < tolerance < float("inf"):
        raise ValueError(f"tolerance must be a positive force in ε/σ, found {tolerance}.")
    mixture = potential or KOB_ANDERSEN
    return kept_or_made(
        Inherent, frame, mixture, {"tolerance": tolerance}, folder,
        lambda: _minimized(frame, mixture, tolerance, max_steps, progress),
    )  # fmt: skip


def _minimized(
    frame: Frame, potential: LennardJonesMixture, tolerance: float, max_steps: int, progress: Progress | None
) -> Inherent:
    system = System(frame, potential.codes(frame), potential.tables)
    system.list_pairs(SKIN)
    try:
        thermal, _ = system.energies_and_forces()
    except ValueError as error:
        raise MinimizationError(str(error)) from None
    n = frame.n_atoms
    velocities, forces, filtered_at = np.zeros((n, 3)), np.zeros((n, 3)), np.full((n, 3), np.inf)
    state = np.array([STEP, MIXING, 0.0, 0.0])
    part = max(_PART // max(n, 1), 1)
    n_steps, residual, first, done = 0, 0.0, 0.0, 0.0
    while n:
        taken, residual, outgrown = _minimize(
            system.positions, velocities, forces, filtered_at, state, system.codes, system.coarse,
            system.fine, system.listed_at, system.images, system.tables, tolerance,
            min(part, max_steps - n_steps), (SKIN / 2) ** 2,
        )  # fmt: skip
        n_steps += taken
        first = first or residual
        if not np.isfinite(residual):
            raise MinimizationError(
                f"{frame.error_prefix}the forces are not finite after {n_steps} steps of the minimization. "
                "Check the positions and the potential: some particles may overlap."
            )
        if residual <= tolerance:
            break
        if n_steps >= max_steps:
            raise MinimizationError(
                f"{frame.error_prefix}the minimization did not converge: the largest force is "
                f"{residual:.2g} ε/σ after {n_steps:,} steps, not {tolerance:g}. Check that positions, "
                "density and potential belong together."
            )
        if outgrown:
            system.list_pairs(SKIN)
            filtered_at[:] = np.inf
        if progress is not None:
            # Forces fall about exponentially.
            if residual < first:
                done = max(done, 0.99 * float(np.log(first / residual) / np.log(first / tolerance)))
            progress(done, f"minimizing, largest force {residual:.2g}")
    if progress is not None:
        progress(1.0, "minimized")
    energies, _ = system.energies_and_forces()
    positions = system.unwrapped(system.positions)
    return Inherent(
        positions,
        np.linalg.norm(positions - frame.positions, axis=1),
        system.in_order(energies), system.in_order(thermal), n_steps, float(residual),
    )  # fmt: skip


@jit
def _minimize(
    positions, velocities, forces, filtered_at, state, codes, coarse, fine, listed_at, images, tables,
    tolerance, n_steps, reach2,
):  # fmt: skip
    """Take up to `n_steps` steps; return their number, the largest force and whether the list is outgrown.

    state : time step, mixing, steps since the power was last negative, time of the last step
    filtered_at : where the particles were when the fine list was made; infinite before
    reach2 : square of the displacement up to which the coarse list holds
    """
    n = len(positions)
    step, mixing, since, now = state[0], state[1], state[2], state[3]
    if not filtered_at[0, 0] < np.inf:  # the first call, or one with a new coarse list
        filter_pairs(positions, codes, coarse, images, tables, FINE_SKIN, fine)
        _copy(positions, filtered_at)
        compute_forces(positions, codes, fine, images, tables, forces)
    residual, outgrown, taken = _largest(forces), False, 0
    while taken < n_steps and residual > tolerance and not outgrown and residual < np.inf:
        power, vv, ff = 0.0, 0.0, 0.0
        for i in range(n):
            for a in range(3):
                power += forces[i, a] * velocities[i, a]
        if power > 0:
            since += 1
            if since > DELAY:
                step, mixing = min(step * GROW, LONGEST_STEP), mixing * MIXING_FALLS
        elif now > 0:
            # Uphill: half a step back, and from rest again.
            since, mixing = 0.0, MIXING
            step = max(step * SHRINK, SHORTEST_STEP)
            for i in range(n):
                for a in range(3):
                    positions[i, a] -= 0.5 * now * velocities[i, a]
                    velocities[i, a] = 0.0
        most = 0.0
        for i in range(n):
            speed2 = 0.0
            for a in range(3):
                velocities[i, a] += step * forces[i, a]
                speed2 += velocities[i, a] ** 2
                ff += forces[i, a] ** 2
            vv += speed2
            most = max(most, speed2)
        mix = mixing * np.sqrt(vv / ff)
        # Far from the minimum, forces may be huge: no particle moves farther than that in one step.
        now = min(step, FARTHEST_STEP / np.sqrt(most)) if most > 0 else step
        for i in range(n):
            for a in range(3):
                velocities[i, a] = (1.0 - mixing) * velocities[i, a] + mix * forces[i, a]
                positions[i, a] += now * velocities[i, a]
        if farthest(positions, filtered_at) > (0.5 * FINE_SKIN) ** 2:
            outgrown = farthest(positions, listed_at) > reach2
            if not outgrown:
                filter_pairs(positions, codes, coarse, images, tables, FINE_SKIN, fine)
                _copy(positions, filtered_at)
        if not outgrown:
            compute_forces(positions, codes, fine, images, tables, forces)
            residual = _largest(forces)
        taken += 1
    state[0], state[1], state[2], state[3] = step, mixing, since, now
    return taken, residual, outgrown


@inner
def _copy(positions, filtered_at):
    """As an assignment of slices, without numba's code for a message of different shapes."""
    for i in range(len(positions)):
        for a in range(3):
            filtered_at[i, a] = positions[i, a]


@inner
def _largest(forces):
    """The largest component; not a number if one is."""
    most, total = 0.0, 0.0
    for i in range(len(forces)):
        for a in range(3):
            most = max(most, abs(forces[i, a]))
            total += forces[i, a]
    return most if abs(total) < np.inf else np.inf
