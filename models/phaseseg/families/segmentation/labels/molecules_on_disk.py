"""Molecules of a frame that is larger than memory; their centers of mass are points of a frame on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.families.segmentation.labels.molecules import (
    Grouping,
    MoleculeNames,
    centers_of_mass,
    grouping,
)
from phaseseg.families.segmentation.labels.slabs import SlabWork
from phaseseg.families.segmentation.rules import By
from phaseseg.frame import Category, Frame
from phaseseg.io.pieces import PiecedFrame
from phaseseg.large.store import FrameStore


@dataclass(frozen=True, eq=False)
class MoleculesOnDisk(Grouping):
    """The molecules of a frame on disk.

    centers : their centers of mass; row m is that of molecule m
    named : codes, (n,) int32, and names
    """

    centers: FrameStore
    named: tuple[NDArray[np.int32], tuple[str, ...]]

    def names(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        return self.named

    def mean(self, work: SlabWork, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(n,) float64, the mean of the values of the atoms, (n_atoms,), of each molecule."""
        sums = work.disk.array(len(self), np.float64)
        for rows in work.store.rows:
            _add(self.of_atom[rows], values[rows], sums)
        for block in self.blocks():
            sums[block] /= np.diff(self.start[block.start : block.stop + 1])
        return sums


def find_molecules_on_disk(work: SlabWork, by: By) -> MoleculesOnDisk | None:
    """As `find_molecules`."""
    store, new = work.store, work.disk.array
    found = grouping(work.small_molecules, by, work.outline.error_prefix)
    if found is None:
        return None
    frame = work.outline.reduced
    members = _Members(new((len(found.of_atom), 3), np.float64), new(len(found.of_atom), np.int8))
    free = new(len(found), np.int64)
    for block in found.blocks():
        free[block] = found.start[block]
    for number, rows in enumerate(store.rows):
        work.report(number / len(store.rows), "finding molecules")
        _bring_together(found.of_atom[rows], store.positions_of(rows), store.species_of(rows), free, *members)
    residues = store.others.get(("categories", "residue"))
    codes, names = new(len(found), np.int32), MoleculeNames(frame.species_names)

    def centers() -> Iterator[Frame]:
        for block in found.blocks():
            start = found.start[block.start : block.stop + 1]
            inside = slice(int(start[0]), int(start[-1]))
            start = start - start[0]
            positions, species = members.positions[inside], members.species[inside]
            named = (
                residues
                if residues is None
                else Category(residues[found.first[block]], store.words["residue"])
            )
            codes[block] = names.add(start, species, named)
            places = centers_of_mass(frame, start, positions, species)
            yield Frame(places, frame.cell, frame.pbc, np.zeros(len(places), np.int32), ("X",), frame.origin)

    def lookup() -> tuple[NDArray[np.int32], tuple[str, ...]]:
        return np.zeros(1, dtype=np.int32), ("X",)

    points = FrameStore.read(PiecedFrame(len(found), 0, centers(), lookup), work.disk)
    return MoleculesOnDisk(**vars(found), centers=points, named=(codes, names.names))


class _Members(NamedTuple):
    """The atoms of one molecule after the other: positions (n_atoms, 3), Å, and species (n_atoms,)."""

    positions: NDArray[np.float64]
    species: NDArray[np.int8]


@jit
def _bring_together(of_atom, positions, species, free, to_positions, to_species):
    """Put atoms with those of their molecule; free : where the next atom of each molecule goes."""
    for atom in range(of_atom.size):
        slot = free[of_atom[atom]]
        free[of_atom[atom]] += 1
        to_species[slot] = species[atom]
        for axis in range(3):
            to_positions[slot, axis] = positions[atom, axis]


@jit
def _add(of_atom, values, sums):
    """Add values in the order of the atoms."""
    for atom in range(of_atom.size):
        sums[of_atom[atom]] += values[atom]
