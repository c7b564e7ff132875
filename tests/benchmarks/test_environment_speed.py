"""Descriptors of environments against the naive sums, in the same run, in CPU time.

    pytest tests/benchmarks/test_environment_speed.py -s

Nothing is asserted about time: the numbers are printed.
"""

from __future__ import annotations

import numpy as np
import pytest

import naive.environments as naive
from benchmarks.measure import MACHINE, cpu_time, scaled
from phaseseg import Frame
from phaseseg.families.environments.descriptors import PowerSpectrum

CELLS = scaled((4, 6), (12, 24, 37))
SETTINGS = {24: {"n_max": 3, "l_max": 3}, 50: {}, 105: {"n_max": 5, "l_max": 6}}


def tantalum(cells):
    """Bcc, every atom moved by 0.05 Å along each axis on average."""
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 3.3 * np.concatenate([corners, corners + 0.5])
    positions = positions + np.random.default_rng(0).normal(0, 0.05, positions.shape)
    return Frame(positions, [3.3 * cells] * 3, True, np.zeros(len(positions), dtype=int), ("Ta",))


@pytest.mark.parametrize("cells", CELLS)
def test_power_spectrum(benchmark, cells):
    frame = tantalum(cells)
    benchmark(lambda: PowerSpectrum(("Ta",))(frame))  # also compiles
    print(f"\n{MACHINE}")
    for features, options in SETTINGS.items():
        spectrum = PowerSpectrum(("Ta",), **options)
        assert spectrum.n_features == features
        spectrum(frame)
        print(f"{frame.n_atoms:,} atoms, {features} features: {cpu_time(lambda: spectrum(frame)):.3f} s")  # noqa: B023
    if cells == CELLS[0]:
        few = range(5)
        slow = cpu_time(lambda: naive.power_spectrum(frame, ("Ta",), atoms=few)) / len(few)
        print(f"naive, 50 features: {slow * 1000:.1f} ms an atom")
