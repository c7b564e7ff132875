"""Lennard-Jones mixtures: energies and forces of the particles of a frame in any cell.

Lennard-Jones units: ε and σ of the first species, the mass of every particle and Boltzmann's constant are 1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.display import listed
from phaseseg.families.mobility.pairs import System, Tables
from phaseseg.families.mobility.settings import SPECIES
from phaseseg.frame import Frame
from phaseseg.io import InputError

Shift = Literal["energy", "none"]
# As the table of a potential writes the columns of its pairs.
_COLUMNS = ("epsilon", "sigma", "cutoff")


@dataclass(frozen=True, eq=False)
class LennardJonesMixture:
    """Pairs with u(r) = 4 ε ((σ/r)^12 - (σ/r)^6) up to a cutoff.

    Parameters
    ----------
    species : K names
    epsilon, sigma : (K, K) symmetric
    cutoff : (K, K) symmetric, σ; pairs at the cutoff or beyond do not interact
    shift : "energy" subtracts u(cutoff), so that energies are continuous; "none" does not. Forces are
        the same.

    Raises
    ------
    ValueError
        For tables of another shape, that are not symmetric, or with entries that are not positive; an ε may
        be zero.

    >>> mixture = LennardJonesMixture.kob_andersen()
    >>> mixture.species, mixture.cutoff.tolist()
    (('A', 'B'), [[2.5, 2.0], [2.0, 2.2]])
    """

    species: tuple[str, ...]
    epsilon: NDArray[np.float64]
    sigma: NDArray[np.float64]
    cutoff: NDArray[np.float64]
    shift: Shift = "energy"

    def __post_init__(self) -> None:
        species = tuple(map(str, self.species))
        n = len(species)
        if not n or len(set(species)) < n:
            raise ValueError(f"a potential needs distinct species, found {', '.join(species) or 'none'}.")
        if self.shift not in get_args(Shift):
            raise ValueError(f"shift must be 'energy' or 'none', found {self.shift!r}.")
        object.__setattr__(self, "species", species)
        for name in _COLUMNS:
            table = _numbers(getattr(self, name), name)
            if table.shape != (n, n) or not np.array_equal(table, table.T):
                raise ValueError(
                    f"{name} must be a symmetric table of {n} x {n} numbers, one for each pair of "
                    f"{', '.join(species)}; found {table.tolist()}."
                )
            if not (np.isfinite(table).all() and (table >= 0).all() and (name == "epsilon" or table.all())):
                raise ValueError(
                    f"{name} must hold positive numbers, found {table.tolist()}: correct the table."
                )
            object.__setattr__(self, name, table)

    @classmethod
    def kob_andersen(cls) -> LennardJonesMixture:
        """The mixture of Kob and Andersen (DOI 10.1103/PhysRevE.51.4626), cut off at 2.5 σ of each pair."""
        sigma = np.array([[1.0, 0.8], [0.8, 0.88]])
        return cls(("A", "B"), np.array([[1.0, 1.5], [1.5, 0.5]]), sigma, 2.5 * sigma)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON file of `read`."""
        tables = {name: getattr(self, name).tolist() for name in _COLUMNS}
        return {"species": list(self.species), **tables, "shift": self.shift}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LennardJonesMixture:
        """Make one from `species`, `epsilon`, `sigma`, `cutoff` and `shift`.

        `cutoff` may also be one number, in units of the σ of each pair; 2.5 and "energy" are the defaults.

        Raises
        ------
        ValueError
            For a missing or unknown name, or what the class refuses.
        """
        known = {"species", *_COLUMNS, "shift"}
        if (
            not isinstance(values, Mapping)
            or set(values) - known
            or not {"species", "epsilon", "sigma"} <= {*values}
        ):
            found = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(
                "a potential has the entries species, epsilon, sigma and, if wanted, cutoff and shift; found "
                f"{found or 'none'}."
            )
        if not isinstance(values["species"], list | tuple):
            raise ValueError(f"species must be a list of names, found {values['species']!r}.")
        cutoff = _numbers(values.get("cutoff", 2.5), "cutoff")
        if not cutoff.ndim:
            cutoff = cutoff * _numbers(values["sigma"], "sigma")
        shift = values.get("shift", "energy")
        return cls(tuple(values["species"]), values["epsilon"], values["sigma"], cutoff, shift)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LennardJonesMixture:
        """Read a table: a JSON file as `to_dict` gives, or lines `A B epsilon sigma [cutoff]`, one per pair.

        A cutoff is in σ of the first species; without one it is 2.5 σ of the pair. `#` starts a comment.

        Raises
        ------
        InputError
            For a file that is missing or not such a table; the sentence names the line.
        """
        path = Path(path)
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such file. Check the name and the folder.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error}). Give a table of pairs.") from None
        try:
            return cls.from_dict(json.loads(text) if text.lstrip().startswith("{") else _pairs_of_text(text))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name}: {error}") from None

    @cached_property
    def tables(self) -> Tables:
        """The coefficients, for compiled loops."""
        epsilon, sigma, cutoff = (getattr(self, name).ravel() for name in _COLUMNS)
        strong, weak = 4 * epsilon * sigma**12, 4 * epsilon * sigma**6
        offset = (strong / cutoff**6 - weak) / cutoff**6 if self.shift == "energy" else np.zeros_like(cutoff)
        return Tables(len(self.species), strong, weak, offset, cutoff.copy(), cutoff**2)

    def codes(self, frame: Frame) -> NDArray[np.int32]:
        """(n_atoms,) numbers of the species of the particles in this potential.

        Raises
        ------
        ValueError
            For a species of the frame without an entry.
        """
        here = np.unique(frame.species).tolist()
        missing = [name for name in (frame.species_names[code] for code in here) if name not in self.species]
        if missing:
            raise ValueError(
                f"{frame.error_prefix}the potential has no entry for {listed(missing)}; its species are "
                f"{', '.join(self.species)}. Rename the species of the frame, or give a potential for them."
            )
        place = {name: number for number, name in enumerate(self.species)}
        lookup = np.array([place.get(name, -1) for name in frame.species_names] or [0], dtype=np.int32)
        return lookup[frame.species]

    def named(self, frame: Frame, codes: NDArray[np.int32]) -> Frame:
        """The frame with names that a potential for A and B knows; any other one has the names of the frame.

        codes : (n_atoms,) 0 for A, 1 for B
        """
        if not set(SPECIES) <= set(self.species):
            return frame
        return frame.replace(species=codes, species_names=SPECIES)

    def for_a_and_b(self, names: tuple[str, str]) -> LennardJonesMixture:
        """The same potential for A and B, if it was for species with these names."""
        if set(SPECIES) <= set(self.species):
            return self
        other = dict(zip(names, SPECIES, strict=True))
        return replace(self, species=tuple(other.get(name, name) for name in self.species))

    def energies(self, frame: Frame) -> NDArray[np.float64]:
        """(n_atoms,) potential energy of each particle, ε: half of that of its pairs. The sum is the total.

        A particle without neighbors has the energy 0.

        Raises
        ------
        ValueError
            For a species without an entry, or two particles at the same place.
        """
        return self.energies_and_forces(frame)[0]

    def forces(self, frame: Frame) -> NDArray[np.float64]:
        """(n_atoms, 3) force on each particle, ε/σ; raises as `energies` does."""
        return self.energies_and_forces(frame)[1]

    def energies_and_forces(self, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both at once."""
        system = System(frame, self.codes(frame), self.tables)
        system.list_pairs(0.0)
        energies, forces = system.energies_and_forces()
        return system.in_order(energies), system.in_order(forces)


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"{name} must be numbers, found {values!r}.") from None


def _pairs_of_text(text: str) -> dict[str, Any]:
    """The dictionary of a table with one pair per line."""
    pairs: dict[tuple[str, str], list[float]] = {}
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            first, second, *numbers = words
            values = [float(word) for word in numbers]
            epsilon, sigma, cutoff = values if len(values) == 3 else (*values, 2.5 * values[1])
        except (ValueError, IndexError):
            raise ValueError(
                f"line {number} must read like 'A B 1.5 0.8' (species, epsilon, sigma and, if wanted, the "
                f"cutoff), found {line.strip()[:60]!r}."
            ) from None
        if (first, second) in pairs:
            raise ValueError(f"line {number} repeats the pair {first} {second}: keep one of the two lines.")
        names += [name for name in dict.fromkeys((first, second)) if name not in names]
        pairs[first, second] = pairs[second, first] = [epsilon, sigma, cutoff]
    if absent := [f"{a} {b}" for i, a in enumerate(names) for b in names[i:] if (a, b) not in pairs]:
        raise ValueError(f"the table has no line for the pair {absent[0]}: add one.")
    if not names:
        raise ValueError("the table has no pairs: write one line per pair, like 'A A 1 1'.")
    table = np.array([[pairs[a, b] for b in names] for a in names])
    return {"species": names, **{name: table[..., k] for k, name in enumerate(_COLUMNS)}}


KOB_ANDERSEN = LennardJonesMixture.kob_andersen()
