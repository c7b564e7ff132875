"""Molecules: which atoms move together, where their centers of mass are, and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import inner, jit
from phaseseg.display import option, plural
from phaseseg.families.segmentation.labels.lattice import Lattice, PackedAtoms
from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.families.segmentation.rules import By
from phaseseg.fields import Message
from phaseseg.frame import SITE, Category, Frame
from phaseseg.neighbors.bins import sort_by_place

LARGEST_MOLECULE = 30
"""Atoms of larger molecules, such as polymers, are assigned one by one."""
MOST_ATOMS = 0.5
"""By default phases are assigned by molecule if more than this fraction of the atoms is in molecules."""


New = Callable[[int, Any], NDArray[Any]]
"""Makes an array of zeros from its length and dtype: in memory (`numpy.zeros`) or in a file."""
BLOCK = 1 << 17
"""Molecules that are worked on at once."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which atoms move together: molecules of up to 30 atoms, in the order of their first atoms.

    Every other atom is a molecule of its own.

    start : (n + 1,) int64, number of atoms in all molecules before each
    first : (n,) int32, the first atom of each
    large : (n,) bool, atoms of molecules of more than 30 atoms
    of_atom : (n_atoms,) int32, the molecule of each atom
    n_several : number of molecules of more than one atom
    automatic : whether the frame decided that phases are assigned by molecule
    """

    start: NDArray[np.int64]
    first: NDArray[np.int32]
    large: NDArray[np.bool_]
    of_atom: NDArray[np.int32]
    n_several: int
    automatic: bool

    def __len__(self) -> int:
        return len(self.first)

    def blocks(self) -> Iterator[slice]:
        """The molecules in blocks."""
        return (slice(at, min(at + BLOCK, len(self))) for at in range(0, len(self), BLOCK))

    def names(self) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
        """(n,) codes, and names: of the residue, or the formula in Hill's order without sites X."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Molecules(Grouping):
    """The molecules of a frame in memory."""

    frame: Frame

    @cached_property
    def atoms(self) -> NDArray[np.int32]:
        """(n_atoms,) int32, the atoms of each molecule in their order, one molecule after the other."""
        atoms = np.empty(len(self.of_atom), dtype=np.int32)
        sort_by_place(np.zeros_like(self.start), atoms, self.of_atom.copy())
        return atoms

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
        """(n, 3) float64, Å: `centers_of_mass`."""
        frame = self.frame
        return centers_of_mass(frame, self.start, frame.positions[self.atoms], frame.species[self.atoms])

    def names(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        found = MoleculeNames(self.frame.species_names)
        codes = np.empty(len(self), dtype=np.int64)
        species, residues = self.frame.species[self.atoms], self.frame.categories.get("residue")
        for block in self.blocks():
            start = self.start[block.start : block.stop + 1]
            named = None if residues is None else residues.take(self.first[block])
            codes[block] = found.add(start - start[0], species[start[0] : start[-1]], named)
        return codes, found.names


def centers_of_mass(
    frame: Frame, start: NDArray[np.int64], positions: NDArray[np.float64], species: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """(n, 3) float64, Å: centers of mass of molecules of a frame, in the image of the first atom.

    Each atom is placed next to the nearest one that has its place already, by the minimum image. Sites
    X have no mass. In a molecule with an unknown mass, or without any mass, all atoms count equally.

    start : (n + 1,), where the atoms of each molecule begin in positions, (m, 3) Å, and species, (m,)
    """
    frame = frame.reduced
    inverse = np.linalg.inv(frame.cell) * frame.pbc
    centers = np.empty((len(start) - 1, 3))
    _centers(start, positions, element_masses(frame.species_names)[species], inverse, frame.cell, centers)
    return centers


class MoleculeNames:
    """Names of molecules, in the order in which they are met.

    species : names of the species codes
    """

    def __init__(self, species: tuple[str, ...]) -> None:
        self._species = species
        self._table: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names so far."""
        return tuple(self._table)

    def add(
        self, start: NDArray[np.int64], species: NDArray[np.integer[Any]], residues: Category | None
    ) -> NDArray[np.int64]:
        """(n,) int64, codes of further molecules.

        start : (n + 1,), where the atoms of each molecule begin in species, (m,)
        residues : (n,) of the first atom of each, if they are known
        """
        n_species = len(self._species)
        kind = np.repeat(np.arange(len(start) - 1) * n_species, np.diff(start)) + species
        rows = np.bincount(kind, minlength=(len(start) - 1) * n_species).reshape(-1, n_species)
        # One number for each formula; two formulas get the same one with a probability of 1e-19.
        keys = rows @ np.random.default_rng(0).integers(1, 2**62, n_species)
        _, some, codes = np.unique(keys, return_index=True, return_inverse=True)
        words = [_formula(self._species, counts) for counts in rows[some].tolist()]
        if residues is not None:
            has = np.array([bool(word.strip()) for word in residues.names])[residues.codes]
            codes = np.where(has, len(words) + residues.codes, codes)
            words += [word.strip() for word in residues.names]
        used, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        for code in used[np.argsort(first)].tolist():
            self._table.setdefault(words[code], len(self._table))
        return np.array([self._table[words[code]] for code in used.tolist()], dtype=np.int64)[codes]


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
def _centers(start, positions, masses, inverse, cell, centers):
    place = np.empty((LARGEST_MOLECULE, 3))
    # Of every atom: whether it has its place, and the square distance to and number of the nearest that has.
    done, near = np.empty(LARGEST_MOLECULE, np.bool_), np.empty(LARGEST_MOLECULE)
    nearest = np.empty(LARGEST_MOLECULE, np.int64)
    move = np.empty(3)
    for m in range(start.size - 1):
        first, n = start[m], start[m + 1] - start[m]
        place[0] = positions[first]
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
                    _apart(positions[first + a], place[last], inverse, cell, move)
                    for axis in range(3):
                        far2 += move[axis] * move[axis]
                    if far2 < near[a]:
                        near[a], nearest[a] = far2, last
                    if best < 0 or near[a] < near[best]:
                        best = a
                _apart(positions[first + best], place[nearest[best]], inverse, cell, move)
                for axis in range(3):
                    place[best, axis] = place[nearest[best], axis] + move[axis]
                done[best], last = True, best
        total = 0.0
        for a in range(n):
            total += masses[first + a]
        equal = not total > 0  # also for NaN
        # Relative to the first atom, so that one atom stays exactly where it is.
        weight_sum = float(n) if equal else total
        for axis in range(3):
            mean = 0.0
            for a in range(1, n):
                mean += (1.0 if equal else masses[first + a]) * (place[a, axis] - place[0, axis])
            centers[m, axis] = place[0, axis] + mean / weight_sum


@inner
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
    small = None if by == "atom" else SmallMolecules.of_frame(frame)
    found = grouping(small, by, frame.error_prefix)
    return None if found is None else Molecules(**vars(found), frame=frame)


def grouping(small: SmallMolecules | None, by: By, prefix: str) -> Grouping | None:
    """`find_molecules` from what the frame says of the molecules of its atoms; prefix : of an error."""
    if small is None or by == "atom":
        if by == "molecule":
            raise ValueError(
                f"{prefix}by='molecule' needs the molecule of every atom, and the frame has none; choose "
                "'atom', or give the file a column mol."
            )
        return None
    n_atoms, new = len(small.found), small.new
    n_several, n_together = _tally(small.sizes)
    if by == "auto" and n_together <= MOST_ATOMS * n_atoms:
        return None
    n = n_several + n_atoms - n_together
    start, first, large = new(n + 1, np.int64), new(n, np.int32), new(n, np.bool_)
    of_atom, known, found = new(n_atoms, np.int32), new(len(small.sizes), np.int32), 0
    for rows in small.pieces:
        numbers, of_large = small.of(rows)
        found = _group(numbers, of_large, rows.start, known, found, of_atom[rows], start, first, large)
    np.cumsum(start, out=start)
    return Grouping(start, first, large, of_atom, n_several, by == "auto")


@jit
def _tally(sizes):
    """Number of molecules of 2 to 30 atoms, and of their atoms."""
    n_several, n_together = 0, 0
    for size in sizes:
        if 1 < size <= LARGEST_MOLECULE:
            n_several += 1
            n_together += size
    return n_several, n_together


@jit
def _group(numbers, of_large, row, known, n, of_atom, start, first, large):
    """Put atoms into the molecules; returns how many molecules there are then.

    numbers : of the molecules in which the atoms are, or 0; row : of the first of the atoms
    known : one more than the molecule of each number, or 0; n : molecules so far
    start : filled with the number of atoms of the molecule before
    """
    for atom in range(numbers.size):
        number = numbers[atom]
        m = known[number] - 1 if number > 0 else -1
        if m < 0:
            m = n
            n += 1
            if number > 0:
                known[number] = n
            first[m], large[m] = row + atom, of_large[atom]
        of_atom[atom] = m
        start[m + 1] += 1
    return n


@dataclass(frozen=True, eq=False)
class SmallMolecules:
    """Which atoms are in molecules of up to 30 atoms, from molecule numbers that may be in a file.

    found : (n_atoms,), what the frame says of the molecule of each atom, 0 or less for none
    pieces : in which its rows are read
    new : makes arrays that may be as long as the frame
    known : the numbers in use, in order, where they are sparse; otherwise numbers are kept
    sizes : atoms of each molecule
    """

    found: NDArray[np.integer[Any]]
    pieces: Sequence[slice]
    new: New
    known: NDArray[np.int64] | None
    sizes: NDArray[np.int64]

    @classmethod
    def of_frame(cls, frame: Frame) -> SmallMolecules | None:
        """The molecules of a frame; None if there are none."""
        if frame.molecules is None:
            return None
        return cls.among(frame.molecules, [slice(0, frame.n_atoms)], np.zeros)

    @classmethod
    def among(
        cls, found: NDArray[np.integer[Any]], pieces: Sequence[slice], new: New
    ) -> SmallMolecules | None:
        """The molecules of rows that are read piece by piece; None if there are none."""
        known, highest = None, max((int(found[rows].max(initial=0)) for rows in pieces), default=0)
        if highest <= 0:
            return None
        if highest > 4 * len(found) + 1000:  # sparse numbers
            known = new(len(found), np.int64)
            for rows in pieces:
                known[rows] = found[rows]
            known.sort()
            known = known[: _distinct(known)]
            highest = len(known)
        made = cls(found, pieces, new, known, new(highest + 1, np.int64))
        for rows in pieces:
            _count(made._numbers(rows), made.sizes)
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


@jit
def _count(numbers, sizes):
    for number in numbers:
        sizes[number] += 1


@jit
def _distinct(numbers):
    """Bring the distinct positive ones of sorted numbers to the front; returns how many they are."""
    n = 0
    for number in numbers:
        if number > 0 and (n == 0 or number != numbers[n - 1]):
            numbers[n] = number
            n += 1
    return n


def by_molecule_sentence(molecules: Grouping) -> Message:
    """Say that phases are assigned by molecule, and why."""
    number = plural(molecules.n_several, "molecule")
    text = f"Phases are assigned by molecule ({number}), at the center of mass"
    if molecules.automatic:
        text += ", because most atoms are in molecules of up to 30 atoms; every atom is assigned with "
        text += option("by", "atom")
    return Message(f"{text}.", "by-molecule")
