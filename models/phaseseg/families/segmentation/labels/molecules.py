"""Molecules: which atoms move together, where their centers of mass are, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.display import option, plural
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms
from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.families.segmentation.rules import By
from phaseseg.fields import Message
from phaseseg.frame import SITE, Frame

LARGEST_MOLECULE = 30
"""Atoms of larger molecules, such as polymers, are assigned one by one."""
MOST_ATOMS = 0.5
"""By default phases are assigned by molecule if more than this fraction of the atoms is in molecules."""


@dataclass(frozen=True, eq=False)
class Molecules:
    """The molecules of up to 30 atoms of a frame; every other atom is one of its own.

    start : (n + 1,) int64, CSR over the molecules; atoms : (n_atoms,) int64, the atoms of each in their order
    large : (n_atoms,) bool, atoms of molecules of more than 30 atoms
    automatic : whether the frame decided that phases are assigned by molecule
    """

    frame: Frame
    start: NDArray[np.int64]
    atoms: NDArray[np.int64]
    large: NDArray[np.bool_]
    automatic: bool

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def first(self) -> NDArray[np.int64]:
        """(n,) int64, the first atom of each."""
        return self.atoms[self.start[:-1]]

    @cached_property
    def of_atom(self) -> NDArray[np.int64]:
        """(n_atoms,) int64, the molecule of each atom."""
        found = np.empty(len(self.atoms), dtype=np.int64)
        found[self.atoms] = np.repeat(np.arange(len(self)), np.diff(self.start))
        return found

    def mean(self, values: NDArray[np.floating[Any]] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n_atoms,) float64, at each atom the mean of the values, (n_atoms,), over its molecule."""
        return np.asarray((np.bincount(self.of_atom, values) / np.diff(self.start))[self.of_atom])

    def of_packed(self, values: NDArray[Any], packed: PackedAtoms, atoms: PackedAtoms) -> NDArray[Any]:
        """Values of the packed centers at the packed atoms."""
        return np.asarray(packed.unsort(values)[self.of_atom][atoms.order])

    def packed(self, lattice: Lattice) -> PackedAtoms:
        """The centers of mass, sorted as the atoms of a field."""
        return PackedAtoms.at(self.centers(), lattice, self.first)

    def centers(self) -> NDArray[np.float64]:
        """(n, 3) float64, Å: centers of mass, in the image of the first atom.

        Each atom is placed next to the nearest one that has its place already, by the minimum image. Sites
        X have no mass. In a molecule with an unknown mass, or without any mass, all atoms count equally.
        """
        frame = self.frame.reduced
        masses = element_masses(frame.species_names)[frame.species]
        inverse = np.linalg.inv(frame.cell) * frame.pbc
        centers = np.empty((len(self), 3))
        _centers(self.start, self.atoms, frame.positions, masses, inverse, frame.cell, centers)
        return centers

    def names(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """(n,) int64 codes, and names: of the residue, or the formula in Hill's order without sites X."""
        frame = self.frame
        rows = np.zeros((len(self), len(frame.species_names)), dtype=np.int64)
        np.add.at(rows, (self.of_atom, frame.species), 1)
        # One number for each formula; two formulas get the same one with a probability of 1e-19.
        keys = rows @ np.random.default_rng(0).integers(1, 2**62, len(frame.species_names))
        _, some, codes = np.unique(keys, return_index=True, return_inverse=True)
        words = [_formula(frame.species_names, counts) for counts in rows[some].tolist()]
        if (residues := frame.categories.get("residue")) is not None:
            named = residues.codes[self.first]
            has = np.array([bool(word.strip()) for word in residues.names])[named]
            codes = np.where(has, len(words) + named, codes)
            words += [word.strip() for word in residues.names]
        used, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        table: dict[str, int] = {}
        for code in used[np.argsort(first)].tolist():
            table.setdefault(words[code], len(table))
        return np.array([table[words[code]] for code in used.tolist()], dtype=np.int64)[codes], tuple(table)


def _formula(species: tuple[str, ...], counts: list[int]) -> str:
    """Hill's order: C, H, and the others by the alphabet; without C all by the alphabet.

    >>> _formula(("O", "H", "X"), [1, 2, 1]), _formula(("Cl", "C", "H"), [3, 1, 1])
    ('H2O', 'CHCl3')
    """
    there = {name: n for name, n in zip(species, counts, strict=True) if n}
    if len(there) > 1:
        there.pop(SITE, None)
    lead = [name for name in ("C", "H") if name in there] if "C" in there else []
    order = lead + sorted(name for name in there if name not in lead)
    return "".join(f"{name}{there[name] if there[name] > 1 else ''}" for name in order)


@jit
def _centers(start, atoms, positions, masses, inverse, cell, centers):
    place = np.empty((LARGEST_MOLECULE, 3))
    # Of every atom: whether it has its place, and the square distance to and number of the nearest that has.
    done, near = np.empty(LARGEST_MOLECULE, np.bool_), np.empty(LARGEST_MOLECULE)
    nearest = np.empty(LARGEST_MOLECULE, np.int64)
    move = np.empty(3)
    for m in range(start.size - 1):
        first, n = start[m], start[m + 1] - start[m]
        place[0] = positions[atoms[first]]
        if n > 1:
            done[:n], near[:n] = False, 1e300
            last = 0
            done[0] = True
            for _ in range(n - 1):
                best = -1
                for a in range(n):
                    if done[a]:
                        continue
                    far2 = 0.0
                    _apart(positions[atoms[first + a]], place[last], inverse, cell, move)
                    for axis in range(3):
                        far2 += move[axis] * move[axis]
                    if far2 < near[a]:
                        near[a], nearest[a] = far2, last
                    if best < 0 or near[a] < near[best]:
                        best = a
                _apart(positions[atoms[first + best]], place[nearest[best]], inverse, cell, move)
                for axis in range(3):
                    place[best, axis] = place[nearest[best], axis] + move[axis]
                done[best], last = True, best
        total = 0.0
        for a in range(n):
            total += masses[atoms[first + a]]
        equal = not total > 0  # also for NaN
        # Relative to the first atom, so that one atom stays exactly where it is.
        weight_sum = float(n) if equal else total
        for axis in range(3):
            mean = 0.0
            for a in range(1, n):
                mean += (1.0 if equal else masses[atoms[first + a]]) * (place[a, axis] - place[0, axis])
            centers[m, axis] = place[0, axis] + mean / weight_sum


@jit
def _apart(position, other, inverse, cell, move):
    """Vector from a place to the nearest image of a position."""
    for axis in range(3):
        move[axis] = position[axis] - other[axis]
    d0, d1, d2 = move[0], move[1], move[2]
    for axis in range(3):
        turns = np.rint(d0 * inverse[0, axis] + d1 * inverse[1, axis] + d2 * inverse[2, axis])
        if turns != 0:
            for along in range(3):
                move[along] -= turns * cell[axis, along]


def find_molecules(frame: Frame, by: By = "auto") -> Molecules | None:
    """Return the molecules by which phases are assigned, or None if they are assigned by atom.

    by : "auto" is "molecule" if more than half of the atoms are in molecules of 2 to 30 atoms

    Raises
    ------
    ValueError
        For "molecule" if the frame has no molecules.
    """
    if by == "atom" or (by == "auto" and frame.molecules is None):
        return None
    found = small_molecules(frame)
    if found is None:
        if by == "auto":
            return None
        raise ValueError(
            f"{frame.error_prefix}by='molecule' needs the molecule of every atom, and the frame has none; "
            "choose 'atom', or give the file a column mol."
        )
    numbers, large = found
    together = numbers > 0
    if by == "auto":
        several = together & (np.bincount(numbers)[numbers] > 1)
        if several.sum() <= MOST_ATOMS * frame.n_atoms:
            return None
    # Molecules in the order of their first atoms; atoms of none, or of large ones, are alone.
    rows = np.arange(frame.n_atoms)
    first = np.full(int(numbers.max()) + 1, frame.n_atoms)
    np.minimum.at(first, numbers[together], rows[together])
    key = np.where(together, first[numbers], rows)
    atoms = np.argsort(key, kind="stable")
    start = np.append(np.flatnonzero(np.diff(key[atoms], prepend=-1)), frame.n_atoms)
    return Molecules(frame, start, atoms, large, by == "auto")


def small_molecules(frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """`SmallMolecules.of` all atoms of a frame; None for a frame without molecules."""
    if frame.molecules is None:
        return None
    everything = slice(None)
    found = SmallMolecules.among(frame.molecules, [everything])
    return None if found is None else found.of(everything)


@dataclass(frozen=True, eq=False)
class SmallMolecules:
    """Which atoms are in molecules of up to 30 atoms, from molecule numbers that may be in a file.

    found : (n_atoms,), what the frame says of the molecule of each atom, 0 or less for none
    known : the numbers in use, in order, where they are sparse; otherwise numbers are kept
    sizes : atoms of each molecule
    """

    found: NDArray[np.integer[Any]]
    known: NDArray[np.int64] | None
    sizes: NDArray[np.int64]

    @classmethod
    def among(cls, found: NDArray[np.integer[Any]], pieces: Sequence[slice]) -> SmallMolecules | None:
        """The molecules of rows that are read piece by piece; None if there are none."""
        known, highest = None, max((int(found[rows].max(initial=0)) for rows in pieces), default=0)
        if highest <= 0:
            return None
        if highest > 4 * len(found) + 1000:  # sparse numbers
            known = np.empty(0, dtype=np.int64)
            for rows in pieces:
                known = np.union1d(known, found[rows])
            known = known[known > 0]
            highest = len(known)
        made = cls(found, known, np.zeros(highest + 1, dtype=np.int64))
        for rows in pieces:
            made.sizes[:] += np.bincount(made._numbers(rows), minlength=highest + 1)
        made.sizes[0] = 0
        return made

    def _numbers(self, rows: slice) -> NDArray[np.int64]:
        numbers = np.maximum(self.found[rows], 0).astype(np.int64, copy=False)
        return numbers if self.known is None else np.asarray(np.searchsorted(self.known, numbers, "right"))

    def of(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The molecule of each atom, from 1, or 0 for atoms of none or of more than 30 atoms.

        Returns the numbers, (n_rows,), and (n_rows,) bool, whether the atom is of a larger molecule.
        """
        numbers = self._numbers(rows)
        large = self.sizes[numbers] > LARGEST_MOLECULE
        return np.where(large, 0, numbers), large


def by_molecule_sentence(molecules: Molecules) -> Message:
    """Say that phases are assigned by molecule, and why."""
    n = int((np.diff(molecules.start) > 1).sum())
    text = f"Phases are assigned by molecule ({plural(n, 'molecule')}), at the center of mass"
    if molecules.automatic:
        text += ", because most atoms are in molecules of up to 30 atoms; every atom is assigned with "
        text += option("by", "atom")
    return Message(f"{text}.", "by-molecule")
