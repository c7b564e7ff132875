"""Cages: mean positions and their fluctuations while no particle may leave the place where it is.

Alkemade, Smallenburg and Filion (DOI 10.1063/5.0144822) sample such cages with Monte Carlo. Here it is
Langevin dynamics with the splitting BAOAB (DOI 10.1093/amrx/abs010).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.families import Progress
from phaseseg.families.mobility.pairs import (
    FINE_SKIN,
    System,
    add_energies_and_forces,
    compute_forces,
    farthest,
    filter_pairs,
)
from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.families.mobility.structure_cache import kept_or_made
from phaseseg.frame import Frame

TIMESTEP, FRICTION = 0.01, 0.5
RADIUS = 0.5
N_STEPS, N_DROPPED, EVERY = 7000, 500, 5
ENERGY_EVERY, N_CONFIGURATIONS = 20, 26
"""Steps between the energies that are averaged, and configurations that are kept of each run."""
# Steps in a part of a run, of which random numbers are drawn at once.
_PART = 10
# Particles times steps between two calls of `progress`.
_REPORTED = 400_000


class CageError(ValueError):
    """A frame whose cages could not be sampled; the sentence says why and what to do."""


@dataclass(frozen=True, eq=False)
class Cage:
    """Where the particles of a frame stay while none may leave its cage.

    positions : (n_atoms, 3) float64, σ, means, unwrapped: in the images that the frame has
    covariance : (n_atoms, 3, 3) float64, σ^2, of the position; that of the means of several runs is added
    displacement : (n_atoms,) float64, σ, length of the way from the frame to the mean
    n_samples : kept configurations of all runs
    energy : (n_atoms,) float64, ε, mean potential energy of each particle
    samples : (n_configurations, n_atoms, 3) float32, σ, displacements from the frame at equal intervals
    """

    positions: NDArray[np.float64]
    covariance: NDArray[np.float64]
    displacement: NDArray[np.float64]
    n_samples: int
    energy: NDArray[np.float64]
    samples: NDArray[np.float32]

    @property
    def variance(self) -> NDArray[np.float64]:
        """Trace of the covariance of each particle, (n_atoms,) float64, σ^2."""
        return np.asarray(np.trace(self.covariance, axis1=1, axis2=2))


def cage_positions(
    frame: Frame, temperature: float | None = None, potential: LennardJonesMixture | None = None, *,
    runs: int = 2, steps: int = N_STEPS, seed: int = 0, folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Cage:  # fmt: skip
    """Mean position and covariance of each particle in its cage.

    Langevin dynamics (BAOAB, time step 0.01, friction 0.5) in which each particle stays within 0.5 σ of its
    position in the frame: on leaving, its distance is mirrored at the sphere and the outward velocity is
    reversed. 500 steps of each run are dropped, then every fifth counts, and 26 configurations are kept.
    The same arguments give the same result on one machine. The trajectories are chaotic: on another machine,
    or for a frame that was moved, the means differ by their statistical error. Time is linear in the number
    of particles. The result is kept in memory for the last few frames.

    Parameters
    ----------
    frame : in Lennard-Jones units; any cell
    temperature : ε/k; when left out, `temperature` in the info of the frame
    potential : the Kob–Andersen mixture when left out
    runs : independent runs, whose means are averaged
    steps : of each run
    seed : of velocities and noise
    folder : of results that are kept on disk; by default that in PHASESEG_STRUCTURES, if it is set
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    CageError
        For two particles at the same place, or if forces are not finite: at the start of a run, particles
        overlap.
    ValueError
        For a temperature that is not known or not positive, counts out of range, or a species that the
        potential does not know.
    """
    at = temperature_of(frame, temperature)
    if runs < 1 or steps < N_DROPPED + ENERGY_EVERY:
        raise ValueError(
            f"at least 1 run of {N_DROPPED + ENERGY_EVERY} steps is needed, found {runs} of {steps}."
        )
    if seed < 0:
        raise ValueError(f"seed must be 0 or a positive whole number, found {seed}.")
    mixture = potential or KOB_ANDERSEN
    return kept_or_made(
        Cage, frame, mixture, {"temperature": at, "runs": runs, "steps": steps, "seed": seed}, folder,
        lambda: _sampled(frame, at, mixture, runs, steps, seed, progress),
    )  # fmt: skip


def temperature_of(frame: Frame, temperature: float | None) -> float:
    """The temperature of cage runs; ValueError if it is not known or not positive."""
    if temperature is None:
        temperature = frame.info.get("temperature")
    if temperature is None:
        raise ValueError(
            f"{frame.error_prefix}the temperature is not in the frame, and cages need it. Give the option "
            "temperature, in units of ε/k."
        )
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a positive number in units of ε/k, found {temperature}.")
    return float(temperature)


def _sampled(
    frame: Frame, temperature: float, potential: LennardJonesMixture, runs: int, steps: int, seed: int,
    progress: Progress | None,
) -> Cage:  # fmt: skip
    system = System(frame, potential.codes(frame), potential.tables)
    # Two particles that are both at most `RADIUS` away from their places meet only if they are in this list.
    system.list_pairs(2 * RADIUS)
    start = system.positions.copy()
    try:
        system.energies_and_forces()
    except ValueError as error:
        raise CageError(str(error)) from None
    n = len(start)
    means, within, n_samples = np.zeros((runs, n, 3)), np.zeros((n, 3, 3)), 0
    energy, by_product, n_energies = np.zeros(n), np.zeros((n, 3)), 0
    samples: list[NDArray[np.float32]] = []
    reported = _PART * min(max(_REPORTED // (_PART * max(n, 1)), 1), 10)
    spacing = max((steps - N_DROPPED) // N_CONFIGURATIONS // _PART * _PART, _PART)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        system.positions[:] = start
        velocities = rng.standard_normal((n, 3)) * np.sqrt(temperature)
        velocities -= velocities.mean(axis=0) if n else 0.0
        forces, filtered_at = np.zeros((n, 3)), np.full((n, 3), np.inf)
        total, squares = np.zeros((n, 3)), np.zeros((n, 6))
        kept = done = 0
        while done < steps:
            part = min(_PART, steps - done)
            noise = rng.standard_normal((part, n, 3), dtype=np.float32)
            counts, finite = _sample(
                system.positions, velocities, forces, start, filtered_at, system.codes, system.coarse,
                system.fine, system.images, system.tables, noise, temperature, done, total, squares,
            )  # fmt: skip
            if not finite:
                raise CageError(
                    f"{frame.error_prefix}the forces are not finite in step {done + part} of a cage run at "
                    f"the temperature {temperature:g}. Check positions, potential and temperature."
                )
            kept, done = kept + counts, done + part
            if done >= N_DROPPED and done % ENERGY_EVERY == 0:
                add_energies_and_forces(
                    system.positions,
                    system.codes,
                    system.fine,
                    system.images,
                    system.tables,
                    energy,
                    by_product,
                )
                n_energies += 1
            if done > N_DROPPED and (done - N_DROPPED) % spacing == 0:
                samples.append(system.in_order(system.positions - start).astype(np.float32))
            if progress is not None and done % reported < part:
                progress((run + done / steps) / runs, f"cage run {run + 1} of {runs}")
        means[run] = total / kept
        within += _covariance(squares / kept, means[run])
        n_samples += kept
    mean = means.mean(axis=0)
    apart = means - mean
    covariance = within / runs + np.einsum("rna,rnb->nab", apart, apart) / runs
    if progress is not None:
        progress(1.0, "cages sampled")
    return Cage(
        system.unwrapped(start + mean), system.in_order(covariance),
        system.in_order(np.linalg.norm(mean, axis=1)), n_samples,
        system.in_order(energy / max(n_energies, 1)), np.stack(samples),
    )  # fmt: skip


def _covariance(squares: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) from the means of xx, yy, zz, xy, xz, yz and of x, y, z."""
    second = squares[:, [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(-1, 3, 3)
    return np.asarray(second - mean[:, :, None] * mean[:, None, :])


@jit
def _sample(
    positions, velocities, forces, start, filtered_at, codes, coarse, fine, images, tables, noise,
    temperature, done, total, squares,
):  # fmt: skip
    """Take as many steps as there is noise; return the number of kept ones and whether forces are finite.

    done : steps before; total, squares : sums of the displacements of kept steps and of their products
    """
    n, kept = len(positions), 0
    half = 0.5 * TIMESTEP
    damping = np.exp(-FRICTION * TIMESTEP)
    kick = np.sqrt(temperature * (1.0 - damping * damping))
    for part in range(len(noise)):
        if done + part == 0:
            filter_pairs(positions, codes, coarse, images, tables, FINE_SKIN, fine)
            filtered_at[:] = positions
            compute_forces(positions, codes, fine, images, tables, forces)
        for i in range(n):
            x, y, z = (
                positions[i, 0] - start[i, 0],
                positions[i, 1] - start[i, 1],
                positions[i, 2] - start[i, 2],
            )
            u = velocities[i, 0] + half * forces[i, 0]
            v = velocities[i, 1] + half * forces[i, 1]
            w = velocities[i, 2] + half * forces[i, 2]
            x, y, z, u, v, w = _inside(x + half * u, y + half * v, z + half * w, u, v, w)
            u = damping * u + kick * noise[part, i, 0]
            v = damping * v + kick * noise[part, i, 1]
            w = damping * w + kick * noise[part, i, 2]
            x, y, z, u, v, w = _inside(x + half * u, y + half * v, z + half * w, u, v, w)
            positions[i, 0], positions[i, 1], positions[i, 2] = (
                start[i, 0] + x,
                start[i, 1] + y,
                start[i, 2] + z,
            )
            velocities[i, 0], velocities[i, 1], velocities[i, 2] = u, v, w
        if farthest(positions, filtered_at) > (0.5 * FINE_SKIN) ** 2:
            filter_pairs(positions, codes, coarse, images, tables, FINE_SKIN, fine)
            filtered_at[:] = positions
        compute_forces(positions, codes, fine, images, tables, forces)
        keep = done + part >= N_DROPPED and (done + part) % EVERY == 0
        kept += keep
        for i in range(n):
            for a in range(3):
                velocities[i, a] += half * forces[i, a]
        if keep:
            for i in range(n):
                x, y, z = (
                    positions[i, 0] - start[i, 0],
                    positions[i, 1] - start[i, 1],
                    positions[i, 2] - start[i, 2],
                )
                total[i, 0] += x
                total[i, 1] += y
                total[i, 2] += z
                squares[i, 0] += x * x
                squares[i, 1] += y * y
                squares[i, 2] += z * z
                squares[i, 3] += x * y
                squares[i, 4] += x * z
                squares[i, 5] += y * z
    energy = 0.0
    for i in range(n):
        for a in range(3):
            energy += velocities[i, a] * velocities[i, a]
    return kept, energy < np.inf


@inner
def _inside(x, y, z, u, v, w):
    """A displacement and a velocity after the reflection at the sphere."""
    r2 = x * x + y * y + z * z
    if r2 > RADIUS * RADIUS:
        r = np.sqrt(r2)
        x, y, z = x / r, y / r, z / r
        outward = x * u + y * v + z * w
        if outward > 0:
            u, v, w = u - 2 * outward * x, v - 2 * outward * y, w - 2 * outward * z
        # A particle that would fly through the whole sphere ends in its middle.
        mirrored = max(2 * RADIUS - r, 0.0)
        x, y, z = mirrored * x, mirrored * y, mirrored * z
    return x, y, z, u, v, w
