"""Minimization and cages of Kob-Andersen mixtures: time per particle and step against their number.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_mobility_structure_speed.py -s

Limits: 10 s for the minimization of 4096 particles, 3.5 ms for a step of their cages, both on one core.
Nothing is asserted about time: the table is printed. The forces are compared with the naive twin.
"""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

import naive
from benchmarks.measure import MACHINE, cpu_time, scaled
from phaseseg import Frame
from phaseseg.families.mobility.cage import cage_positions
from phaseseg.families.mobility.inherent import inherent_positions
from phaseseg.families.mobility.potentials import KOB_ANDERSEN
from phaseseg.families.mobility.structure_cache import forget_structures

SIZES = scaled((200,), (1000, 4096, 16_000), (100_000,))
NAIVE = scaled(60, 300)
STEPS = scaled(600, 1000)


def mixture(n, seed=0):
    """A mixture at density 1.2 that vibrates around a minimum: random sites, relaxed and shaken."""
    rng = np.random.default_rng(seed)
    edge = (n / 1.2) ** (1 / 3)
    species = (np.arange(n) % 5 == 0).astype(int)
    frame = Frame(rng.uniform(0, edge, (n, 3)), [edge] * 3, True, species, ("A", "B"), units="lj")
    relaxed = inherent_positions(frame, tolerance=0.1).positions
    return frame.replace(positions=relaxed + rng.normal(0, 0.04, (n, 3)))


def test_time_of_minimization_and_cages():
    mixture(SIZES[0])  # compiles
    cage_positions(mixture(200), 0.5, runs=1, steps=STEPS)
    print(f"\n{MACHINE}")
    print(f"{'particles':>9} {'minimization':>13} {'steps':>6} {'ns a particle step':>19} {'cages':>19}")
    for n in SIZES:
        frame = mixture(n)
        found = inherent_positions(frame)
        forget_structures()
        minimizing = cpu_time(lambda frame=frame: inherent_positions(frame), 1)
        sampling = cpu_time(lambda frame=frame: cage_positions(frame, 0.5, runs=1, steps=STEPS), 1)
        assert found.residual <= 1e-3
        print(
            f"{n:9,} {minimizing:11.2f} s {found.n_steps:6,} {1e9 * minimizing / n / found.n_steps:19.0f} "
            f"{1e9 * sampling / n / STEPS:19.0f}"
        )


def test_forces_against_the_naive_twin():
    frame = mixture(NAIVE)
    energies, forces = KOB_ANDERSEN.energies_and_forces(frame)
    wanted = naive.lennard_jones(frame, KOB_ANDERSEN)
    assert_allclose(energies, wanted[0], atol=1e-8)
    assert_allclose(forces, wanted[1], atol=1e-7)
    fast = cpu_time(lambda: KOB_ANDERSEN.energies_and_forces(frame))
    slow = cpu_time(lambda: naive.lennard_jones(frame, KOB_ANDERSEN), 1)
    print(f"\n{MACHINE}: {NAIVE} particles")
    print(f"{1e3 * fast:.2f} ms; naive {1e3 * slow:.0f} ms, {slow / fast:.0f} times")
