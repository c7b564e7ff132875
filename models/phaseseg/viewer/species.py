"""Radii and colors of species."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from phaseseg.frame import Frame
from phaseseg.specs import PART_COLORS


class Ball(NamedTuple):
    """How a species is drawn: radius in the length unit of the frame, and color."""

    radius: float
    color: tuple[float, float, float]


LENNARD_JONES = {"A": Ball(0.5, (0.36, 0.54, 0.66)), "B": Ball(0.44, (0.90, 0.62, 0.0))}
"""Half of σ of the Kob–Andersen mixture."""


def ball_of(name: str, frame: Frame) -> Ball:
    """Radius and color of a species.

    Elements have 0.9 covalent radii and the colors of Jmol, as in ASE. In reduced units, radii are half of σ.
    Other names have half of the mean distance between atoms and a color by their place in the frame.
    """
    place = frame.species_names.index(name) if name in frame.species_names else 0
    color = PART_COLORS[place % len(PART_COLORS)]
    if frame.units == "lj":
        return LENNARD_JONES.get(name, Ball(0.5, color))
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors

    number = atomic_numbers.get(name, 0)
    if number and number < len(jmol_colors):
        return Ball(0.9 * float(covalent_radii[number]), tuple(jmol_colors[number].tolist()))
    return Ball(spacing(frame) / 2, LENNARD_JONES.get(name, Ball(0, color)).color)


def spacing(frame: Frame) -> float:
    """Mean distance between atoms: that of as many cubes, or squares, in the space that they fill."""
    if not len(frame):
        return 1.0
    flat = frame.n_dimensions == 2
    edges = np.linalg.norm(frame.cell, axis=1)
    filled = np.where(frame.pbc, edges, np.minimum(edges, np.ptp(frame.positions, axis=0).max() + 1))
    size = filled[:2] if flat else filled
    return float((size.prod() / len(frame)) ** (1 / len(size)))
