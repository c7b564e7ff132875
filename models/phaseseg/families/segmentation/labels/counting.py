"""Atoms and molecules counted by phase and by distance to the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.labels.composition import (
    BIN_WIDTH,
    N_BINS,
    ROWS,
    Composition,
    composition_of,
)
from phaseseg.frame import Frame

if TYPE_CHECKING:
    from phaseseg.families.segmentation.labels.molecules import Grouping


@jit
def _count(
    first, stop, phase, distance, species, bulk_distance, bin_width, by_phase, by_side, by_bulk, by_bin
):
    """Counts by phase, by side of the interface, by side in the bulk, and by bin of the distance."""
    half = by_bin.shape[0] // 2
    for atom in range(first, stop):
        s, p, d = species[atom], phase[atom], distance[atom]
        by_phase[p, s] += 1
        if d != d:
            by_side[p, s] += 1
            by_bulk[p, s] += 1
            continue
        side = 1 if d > 0 else 0
        by_side[side, s] += 1
        if abs(d) > bulk_distance:
            by_bulk[side, s] += 1
        index = int(np.floor(d / bin_width)) + half
        if 0 <= index < 2 * half:
            by_bin[index, s] += 1


def count_atoms(
    frame: Frame, phase: NDArray[np.int8], distance: NDArray[np.float32], bulk_distance: float,
    volumes: NDArray[np.float64] | None = None,
) -> Composition:  # fmt: skip
    """Count the atoms of a labeled frame.

    phase : (n_atoms,) labels; distance : (n_atoms,) Å, signed, NaN where there is no interface
    bulk_distance : atoms farther than this from the interface, Å, are the bulk of their phase
    volumes : (n_bins,) Å^3, of the space in the bins of the distance; 0 if not known
    """
    found = count_phases(phase, distance, frame.species, len(frame.species_names), bulk_distance)
    return composition_of(frame.species_names, *found, volumes)


def count_molecules(
    molecules: Grouping, phase: NDArray[np.int8], distance: NDArray[np.float32], bulk_distance: float
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the molecules, and their numbers in the rows of a composition, (8, n_names).

    Atoms of no molecule count as molecules, those of molecules of more than 30 atoms do not.

    phase, distance, bulk_distance : as for `count_atoms`
    """
    codes, names = molecules.names()
    counts = np.zeros((len(ROWS), len(names)), dtype=np.int64)
    for block in molecules.blocks():
        small = ~molecules.large[block]
        first, kind = molecules.first[block][small], codes[block][small]
        counts += count_phases(phase[first], distance[first], kind, len(names), bulk_distance)[0]
    there = counts[-1] > 0
    return tuple(name for name, some in zip(names, there, strict=True) if some), counts[:, there]


def count_phases(
    phase: NDArray[np.int8], distance: NDArray[np.float32], kind: NDArray[np.integer[Any]], n_kinds: int,
    bulk_distance: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Numbers of each kind in the rows of a composition, (8, n_kinds), and in the bins, (n_bins, n_kinds)."""
    codes, sides = kind.astype(np.int32, copy=False), [RICH, POOR]

    def count(first: int, stop: int) -> list[NDArray[np.int64]]:
        found = [np.zeros((rows, n_kinds), dtype=np.int64) for rows in (3, 2, 2, N_BINS)]
        _count(first, stop, phase, distance, codes, bulk_distance, BIN_WIDTH, *found)
        return found

    found = in_parts(count, len(phase), least=8192, most=32)
    by_phase, by_side, by_bulk, by_bin = (np.sum(counts, axis=0) for counts in zip(*found, strict=True))
    rows = [by_phase[[*sides, BOUNDARY]], by_side[sides], by_bulk[sides], by_phase.sum(axis=0)]
    return np.vstack(rows), by_bin
