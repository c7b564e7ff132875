"""Contents of the phases: composition, partition coefficients, mass balance, proxigram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.fields import Column, Table

BIN_WIDTH = 0.5
MAX_DISTANCE = 30.0
# Grams per mole and Å^3, in g/cm^3.
AMU_PER_A3 = 1.66053906892

WEIGHT, ATOMS, MOLECULES, NUMBER = "wt%", "at%", "mol%", "Å^-3"
DISTANCE, VOLUME = Column("distance", "Å"), Column("volume", "Å^3")
MASS_DENSITY = Column("mass density", "g/cm^3")
N_BINS = 2 * int(MAX_DISTANCE / BIN_WIDTH)

ROWS = ("rich", "poor", "boundary", "rich side", "poor side", "rich bulk", "poor bulk", "all")
SHOWN_ROWS = ("rich", "poor", "boundary", "rich bulk", "poor bulk", "rich side", "poor side", "all")
"""The rows in the order of tables that people read."""


class Coefficient(NamedTuple):
    """A partition coefficient: its column, the two rows of the composition, and the unit of the contents."""

    column: Column
    rich: str
    poor: str
    unit: str


COEFFICIENTS = tuple(
    Coefficient(Column(f"D{bulk} ({by})"), f"rich{bulk}", f"poor{bulk}", unit)
    for bulk in ("", " bulk")
    for by, unit in (("wt", WEIGHT), ("at", ATOMS))
)


@dataclass(frozen=True, eq=False)
class Composition:
    """Atoms counted by phase, side, bulk and distance, and the tables made from the counts.

    counts : (8, n_species) int64, rows as `ROWS`
    by_distance : (n_bins, n_species) int64; bins of 0.5 Å, the middle edge at the interface
    volumes : (n_bins,) float64, Å^3, volume of the space in each bin
    molecules : names, and (8, n_names) int64 numbers of molecules, where phases are assigned by molecule
    """

    names: tuple[str, ...]
    masses: NDArray[np.float64]
    counts: NDArray[np.int64]
    by_distance: NDArray[np.int64]
    volumes: NDArray[np.float64]
    molecules: tuple[tuple[str, ...], NDArray[np.int64]] | None = None

    @property
    def without_mass(self) -> list[str]:
        """Names of species present that are not elements, so that wt% is undefined."""
        unknown = np.isnan(self.masses) & (self.counts[-1] > 0)
        return [name for name, missing in zip(self.names, unknown, strict=True) if missing]

    def weight_percent(self) -> NDArray[np.float64]:
        """(8, n_species) wt%; NaN for an empty row or without masses."""
        return _percent(self.counts * self.masses)

    def atom_percent(self) -> NDArray[np.float64]:
        """(8, n_species) at%; NaN for an empty row."""
        return _percent(self.counts.astype(float))

    def atom_fractions(self) -> NDArray[np.float64]:
        """(8,) fraction of all atoms in each row."""
        return np.asarray(self.counts.sum(axis=1) / self.counts[-1].sum())

    def mass_fractions(self) -> NDArray[np.float64]:
        """(8,) fraction of all mass in each row; NaN without masses."""
        mass = self.counts @ self.masses
        return np.asarray(mass / mass[-1])

    def _contents(self, unit: str, percent: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
        return {Column(name, unit): percent[:, code] for code, name in enumerate(self.names)}

    def table(self) -> Table:
        """Return one row per phase, with atoms, atom and mass fraction, wt% and at% of every element.

        With molecules also their number and fraction, and mol% of each kind.
        """
        columns: dict[str, NDArray[np.generic]] = {
            "phase": np.array(ROWS),
            "atoms": self.counts.sum(axis=1),
            "atom fraction": self.atom_fractions(),
            "mass fraction": self.mass_fractions(),
        }
        columns |= self._contents(WEIGHT, self.weight_percent()) | self._contents(ATOMS, self.atom_percent())
        if self.molecules is not None:
            names, counts = self.molecules
            number = counts.sum(axis=1)
            with np.errstate(invalid="ignore"):
                columns |= {"molecules": number, "molecule fraction": number / number[-1]}
            percent = _percent(counts.astype(float))
            columns |= {Column(name, MOLECULES): percent[:, code] for code, name in enumerate(names)}
        return Table("Composition of the phases", columns)

    def partition(self) -> Table:
        """Ratio of rich to poor content for each element.

        NaN if one of the phases has no atoms; infinite for an element absent from the poor phase.
        """
        columns: dict[str, NDArray[np.generic]] = {"element": np.array(self.names)}
        percents = {WEIGHT: self.weight_percent(), ATOMS: self.atom_percent()}
        for column, rich, poor, unit in COEFFICIENTS:
            with np.errstate(divide="ignore", invalid="ignore"):
                columns[column] = percents[unit][ROWS.index(rich)] / percents[unit][ROWS.index(poor)]
        return Table("Partition coefficients, rich / poor", columns)

    def mass_balance_residual(self) -> float:
        """Largest |sum of the phases - bulk| over the elements, as a fraction of all mass.

        Computed from the table's own numbers (mass fraction times wt%), so it checks the table.
        """
        share, percent = self.mass_fractions(), self.weight_percent()
        if np.isnan(self.masses).any():
            share, percent = self.atom_fractions(), self.atom_percent()
        parts = share[:3, None] * np.nan_to_num(percent[:3])
        return float(np.abs(parts.sum(axis=0) - percent[-1]).max() / 100)

    def proxigram(self, more: Mapping[str, NDArray[np.int64]] | None = None) -> Table:
        """Contents and densities as functions of the distance to the interface (Å, + is rich).

        One row for each bin that holds atoms or space, with the concentration of every element (Hellman et
        al., DOI 10.1007/S100050010051), its number density and the mass density. Contents are NaN where
        there are no atoms.

        more : (n_bins,) counts of further names (atom names, residues), which get a number density
        """
        atoms = self.by_distance.sum(axis=1)
        kept = np.flatnonzero((atoms > 0) | (self.volumes > 0))
        centers = (np.arange(len(atoms)) - len(atoms) // 2 + 0.5) * BIN_WIDTH
        volumes, counts = np.where(self.volumes > 0, self.volumes, nan)[kept, None], self.by_distance[kept]
        columns: dict[str, NDArray[np.generic]] = {
            DISTANCE: centers[kept], "atoms": atoms[kept], VOLUME: self.volumes[kept],
        }  # fmt: skip
        columns |= self._contents(ATOMS, _percent(counts.astype(float)))
        columns |= self._contents(NUMBER, counts / volumes)
        for name, values in (more or {}).items():
            columns[Column(name, NUMBER)] = values[kept] / volumes[:, 0]
        columns[MASS_DENSITY] = (AMU_PER_A3 * counts / volumes) @ self.masses
        return Table("Proxigram", columns)


def _percent(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = amounts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * amounts / total)


def composition_of(
    names: tuple[str, ...], counts: NDArray[np.int64], by_distance: NDArray[np.int64],
    volumes: NDArray[np.float64] | None = None,
) -> Composition:  # fmt: skip
    """The composition from counts of atoms; arrays as in `Composition`."""
    masses = element_masses(names)
    masses[counts[-1] == 0] = 0.0  # a name without atoms contributes no mass
    return Composition(names, masses, counts, by_distance, np.zeros(N_BINS) if volumes is None else volumes)


# Display -----------------------------------------------------------------------------------------


def enough_atoms(row: Mapping[str, Any]) -> bool:
    """Whether a row of a composition is worth showing: the bulk of a small cell may be a few atoms."""
    return " " not in row["phase"] or row["atoms"] * row.get("frames", 1) >= 50


def composition_in(table: Table, unit: str) -> Table:
    """The composition in one unit and each phase's share of mass or atoms; rows without content are left out.

    unit : "wt%", "at%" or "mol%"
    """
    what = {WEIGHT: "mass", ATOMS: "atom", MOLECULES: "molecule"}[unit]
    fraction, share = f"{what} fraction", f"share of {what}{'s' * (unit != WEIGHT)}"
    of_all, shown, contents = Column(fraction), Column(share), table.values(unit)
    rows = []
    for row in sorted(filter(enough_atoms, table.rows()), key=lambda row: SHOWN_ROWS.index(row["phase"])):
        if any(isfinite(row[name]) for name in contents):
            line = {"phase": row["phase"]}
            for name, source in ((shown, of_all), *zip(contents, contents, strict=True)):
                line |= {name: row.get(source, nan), name.error: row.get(source.error, nan)}
            rows.append(line)
    return Table.of_rows(f"Composition, {unit}", rows)
