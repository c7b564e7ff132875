"""Weak labels against the naive ways to get them, in the same run, in CPU time.

    pytest tests/benchmarks/test_weak_label_speed.py -s
    PHASESEG_BENCHMARK=large pytest tests/benchmarks/test_weak_label_speed.py -s     (1 M and 10 M atoms)

Nothing is asserted about time: the table is printed.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import naive
from benchmarks.measure import MACHINE, cpu_time, melt, peak_memory, run_apart, scaled
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.testing import permuted, repeated

# Replicas of the 33,280 atoms; 30 make 1 M, 300 make 10 M.
REPLICAS = scaled(
    {"1 k": (2, 1, 1)},
    {"33 k": (1, 1, 1), "266 k": (2, 2, 2)},
    {"1 M": (2, 3, 5), "10 M": (5, 6, 10)},
)
KDE_SAMPLE = scaled(20, 200)


def test_against_the_naive_ways():
    """33,280 atoms, sigma 1.5 Å, voxel 0.75 Å: 91^3 voxels."""
    frame, rule = melt(), LabelRule("Fe", sigma=1.5, voxel=0.75).fixed()
    lengths = np.diag(frame.cell)
    iron = frame.positions[frame.species_mask("Fe")]
    label_phases(frame, "Fe", sigma=1.5, voxel=0.75)  # compiles
    labels = cpu_time(lambda: label_phases(frame, "Fe", sigma=1.5, voxel=0.75), 15)
    grid = density_field(frame, rule).grid
    density = cpu_time(lambda: density_field(frame, rule), 15)
    exact = naive.gemm_density(iron, lengths, grid.shape, 1.5)
    gemm = cpu_time(lambda: naive.gemm_density(iron, lengths, grid.shape, 1.5), 1)
    rms = np.sqrt(((grid.values - exact) ** 2).mean()) / exact.mean()
    kde = naive.kde_over_images(iron, lengths, 1.5)
    voxels = naive.grid_points(grid).reshape(-1, 3)
    some = voxels[np.random.default_rng(0).choice(len(voxels), KDE_SAMPLE, replace=False)]
    sample = cpu_time(lambda: kde(some.T), 1)
    whole = sample * len(voxels) / KDE_SAMPLE
    print(f"\n{MACHINE}; {len(frame):,} atoms, "
          f"{len(voxels):,} voxels")  # fmt: skip
    print(f"labels, all of them              {labels * 1e3:10.1f} ms")
    print(f"gaussian_kde over 27 images      {whole:10.0f} s    {whole / labels:,.0f} times the labels; "
          f"scaled up from {KDE_SAMPLE} voxels, which took {sample:.2f} s")  # fmt: skip
    print(f"density alone                    {density * 1e3:10.1f} ms   rms error {rms:.1e} of the mean")
    print(f"exact density by matrix product  {gemm * 1e3:10.0f} ms   {gemm / density:,.0f} times the density")


def measure(replicas, shuffled):
    """Run in a process of its own: CPU times of density and labels, peak memory."""
    frame = melt()
    label_phases(frame, "Fe", voxel=1.0)  # compiles
    frame = repeated(frame, replicas)
    if shuffled:
        frame = permuted(frame, np.random.default_rng(0).permutation(len(frame)))
    repeats = 5 if len(frame) < 500_000 else 2
    rule = LabelRule("Fe", sigma=1.5, voxel=1.0).fixed()
    density = cpu_time(lambda: density_field(frame, rule), repeats)
    labels = cpu_time(lambda: label_phases(frame, "Fe", voxel=1.0), repeats)
    return {"atoms": len(frame), "density": density, "labels": labels, "peak": peak_memory()}


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module")
def test_cost_per_atom():
    """From 33 thousand to ten million atoms at 1 Å voxels, in the order of the file and shuffled."""
    pytest.importorskip("resource")
    print("\natoms        order       density      labels   per atom   peak memory")
    for name, replicas in REPLICAS.items():
        for shuffled in (False, True):
            found = run_apart(measure, replicas, shuffled)
            print(
                f"{name:6} {'shuffled' if shuffled else 'file':>11} {found['density'] * 1e3:10.1f} ms "
                f"{found['labels'] * 1e3:8.1f} ms {found['labels'] / found['atoms'] * 1e9:7.0f} ns "
                f"{found['peak'] / 1e9:9.2f} GB"
            )
            assert found["atoms"] == np.prod(replicas) * len(melt())


def test_a_frame_made_of_replicas_is_the_same_melt():
    """What the table measures is no other melt: the same phases, eight times."""
    frame = melt()
    one, eight = (label_phases(f, "Fe", voxel=1.0) for f in (frame, repeated(frame)))
    assert isinstance(frame, Frame) and one["n_phases"] == eight["n_phases"] == 2
    assert (np.tile(one["phase"], 8) == eight["phase"]).all()
