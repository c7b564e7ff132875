"""The interface of two liquids, as viewers draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from phaseseg.families.segmentation.labels.domains import find_domains
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.rules import LabelRule, PredictionRule
from phaseseg.fields import Grid
from phaseseg.frame import Frame


def interface_grid(frame: Frame, fields: Mapping[str, Any]) -> tuple[Grid, float] | None:
    """The grid of the score or density, and its value on the interface.

    Domains that the analysis dropped have no surface: the grid is mirrored inside them. None for a frame
    without rich domains, and for a layer of atoms, whose interface is a line.
    """
    for rule in (PredictionRule, LabelRule):
        grid = fields.get(rule.grid_name)
        if grid is None or not fields.get("n_domains") or min(grid.shape) < 2 or frame.n_dimensions == 2:
            continue
        level = float(fields[rule.level_name])
        lattice = Lattice(grid.shape, grid.cell, grid.origin, grid.pbc, grid.pbc & False)
        smallest = fields["domains"].columns["volume (Å^3)"].min() - 0.5 * grid.voxel_volume
        domains = find_domains(grid.values, level, lattice, min_volume=float(smallest))
        return replace(grid, values=domains.without_dropped(grid.values, level)), level
    return None
