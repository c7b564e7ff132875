"""Molecular dynamics in LAMMPS: trajectories for trials, training and tests."""

from __future__ import annotations

from phaseseg.simulate.kob_andersen import KobAndersenRun, simulate_kob_andersen
from phaseseg.simulate.kob_andersen_3d import PropensityRun, simulate_propensities
from phaseseg.simulate.melt import MeltRun, simulate_melt
from phaseseg.simulate.melt_model import melt_pair, melt_recipe, melt_species

__all__ = [
    "KobAndersenRun",
    "MeltRun",
    "PropensityRun",
    "melt_pair",
    "melt_recipe",
    "melt_species",
    "simulate_kob_andersen",
    "simulate_melt",
    "simulate_propensities",
]
