"""Descriptors of the family mobility against the naive sums, in the same run, in CPU time.

    pytest tests/benchmarks/test_mobility_descriptor_speed.py -s

Nothing is asserted about time: the numbers are printed.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measure import MACHINE, cpu_time, scaled
from naive import descriptors as naive
from phaseseg import Frame
from phaseseg.families.mobility.descriptors import (
    averages,
    averaging,
    bond_order_descriptors,
    radial_descriptors,
)

SIZES = scaled((200, 400), (4096, 32_768, 100_000))
NAIVE = scaled(50, 500)


def mixture(n, density=1.2):
    """A liquid-like mixture at random: jittered sites of a simple cubic lattice."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(n ** (1 / 3)))
    edge = (n / density) ** (1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    positions = (sites + rng.uniform(-0.2, 0.2, (n, 3))) * edge / side
    return Frame(positions, [edge] * 3, True, rng.random(n) < 0.2, ("A", "B"), units="lj")


@pytest.mark.parametrize("n", SIZES)
def test_descriptors(benchmark, n):
    frame = mixture(n)
    rows = benchmark(lambda: radial_descriptors(frame, frame.species))  # also compiles
    bond_order_descriptors(frame)
    averaging(frame)(rows)
    radial = cpu_time(lambda: radial_descriptors(frame, frame.species))
    order = cpu_time(lambda: bond_order_descriptors(frame))
    both = np.concatenate([rows, bond_order_descriptors(frame)], axis=1)
    mean = cpu_time(lambda: averages(both, averaging(frame), 3))
    print(f"\n{MACHINE}\n{n:,} particles: radial {radial:.3f} s, bond order {order:.3f} s, "
          f"three averagings {mean:.3f} s, together {radial + order + mean:.3f} s")  # fmt: skip
    if n == SIZES[0]:
        small = mixture(NAIVE)
        slow = cpu_time(lambda: (naive.radial(small, small.species), naive.bond_order(small)))
        print(f"naive, {NAIVE:,} particles: {slow:.2f} s")
