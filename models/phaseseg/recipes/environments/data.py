"""Make the bundled data set of two metals, and the list of what is wrong with it.

    python -m phaseseg.recipes.environments.data [--seed 12] [--output FOLDER]

`metals.xyz.gz` has small configurations of copper, aluminum and their alloys with energies and forces of
ASE's effective medium theory (EMT): crystals, strained cells, other lattices, vacancies, surfaces, liquids,
clusters, ordered alloys and a few solid solutions. Some of them are spoiled on purpose, as
`metals_truth.csv` lists:

- copy: a configuration of the set again, under another name, with axes and atoms in another order
- displaced: one atom was moved by 0.7 Å after energy and forces had been computed
- sign, scale: all forces have the wrong sign, or are 15 % too large
- energy: the energy is 0.1 eV per atom too high

The potential is that of Jacobsen, Stoltze, Nørskov, Surf. Sci. 366, 394 (1996),
doi:10.1016/0039-6028(96)00816-3, with one cutoff for all elements.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.io import atomic_output
from phaseseg.recipes.cards import say

LATTICE = {"Cu": 3.60, "Al": 3.99}
"""Lattice constants of the fcc crystals, Å, near those of the potential."""
MELT = {"Cu": 2200.0, "Al": 1500.0}
"""Temperatures of the liquids, K, far above melting, so that a short run is enough."""
DISPLACEMENT = 0.7
FORCE_FACTOR = 1.15
ENERGY_OFFSET = 0.1
SPOILED = {"copy": 12, "displaced": 10, "sign": 6, "scale": 6, "energy": 6}
"""How many configurations of each kind are planted."""
CALM = ("bulk", "vacancy", "surface", "alloy")
"""Groups whose atoms are displaced or whose labels are spoiled."""


@dataclass(frozen=True)
class Made:
    """A configuration as it is written: everything rounded to the digits of the file.

    fault : "" or one of `SPOILED`; detail : name of the original, or number of the displaced atom from 1
    """

    name: str
    group: str
    atoms: Any
    energy: float
    forces: Any
    fault: str = ""
    detail: str = ""


# Structures ----------------------------------------------------------------------------------------


def bulk(metal: str, rng: np.random.Generator) -> Any:
    atoms = _crystal(metal, 2, 1 + rng.uniform(-0.02, 0.02))
    return _rattled(atoms, rng.uniform(0.01, 0.08), rng)


def strained(metal: str, rng: np.random.Generator) -> Any:
    atoms = _crystal(metal, 1)
    strain = rng.uniform(-0.08, 0.08, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    return _rattled(atoms, rng.uniform(0, 0.03), rng)


def lattice(metal: str, rng: np.random.Generator) -> Any:
    from ase.build import bulk as build

    kind = ("fcc", "bcc", "sc", "hcp")[int(rng.integers(4))]
    volume = LATTICE[metal] ** 3 / 4 * rng.uniform(0.8, 1.3)
    per_cell = {"fcc": 4, "bcc": 2, "sc": 1}
    if kind == "hcp":
        a = (volume * np.sqrt(2)) ** (1 / 3)
        return build(metal, "hcp", a=a, c=a * np.sqrt(8 / 3))
    return build(metal, kind, a=(volume * per_cell[kind]) ** (1 / 3))


def vacancy(metal: str, rng: np.random.Generator) -> Any:
    atoms = _crystal(metal, 2)
    del atoms[int(rng.integers(len(atoms)))]
    return _rattled(atoms, rng.uniform(0.02, 0.08), rng)


def surface(metal: str, rng: np.random.Generator) -> Any:
    from ase.build import fcc100, fcc110, fcc111

    build = (fcc100, fcc110, fcc111)[int(rng.integers(3))]
    atoms = build(metal, (2, 2, 4), a=LATTICE[metal], vacuum=5.0, periodic=True)
    return _rattled(atoms, rng.uniform(0.02, 0.08), rng)


def liquid(metal: str, rng: np.random.Generator, steps: int = 350) -> Any:
    """The end of a short Langevin run from a disordered start: 0.7 ps, so that rounding hardly grows."""
    from ase import units
    from ase.md.langevin import Langevin

    kelvin = MELT[metal]
    atoms = _rattled(_crystal(metal, 2, 1.05), 0.35, rng)
    atoms.calc = calculator()
    thermal = np.sqrt(atoms.get_masses() * units.kB * kelvin)
    atoms.set_momenta(thermal[:, None] * rng.normal(size=(len(atoms), 3)))
    run = Langevin(
        atoms,
        2 * units.fs,
        temperature_K=kelvin,
        friction=0.05 / units.fs,
        rng=rng,
        fixcm=False,
        logfile=None,
    )
    run.run(steps)
    atoms.wrap()
    atoms.calc = None
    return atoms


def cluster(metal: str, rng: np.random.Generator) -> Any:
    """A piece of the crystal around a random point, without a cell."""
    from ase import Atoms

    atoms = _crystal(metal, 4)
    center = atoms.cell.array.sum(axis=0) / 2 + rng.uniform(-1, 1, 3)
    near = np.argsort(np.linalg.norm(atoms.positions - center, axis=1))[: int(rng.integers(8, 24))]
    piece = Atoms([metal] * len(near), positions=atoms.positions[near] - center)
    return _rattled(piece, 0.08, rng)


def alloy(_: str, rng: np.random.Generator) -> Any:
    """Ordered compounds: CuAl, Cu3Al and CuAl3."""
    from ase.build import bulk as build

    kind, scale = int(rng.integers(3)), rng.uniform(0.97, 1.04)
    if kind == 0:
        atoms = build("CuAl", "cesiumchloride", a=2.95 * scale).repeat(2)
    else:
        few, many, edge = (("Al", "Cu", 3.68), ("Cu", "Al", 3.85))[kind - 1]
        atoms = build(many, "fcc", a=edge * scale, cubic=True).repeat(2)
        atoms.symbols[0::4] = few
    return _rattled(atoms, rng.uniform(0.02, 0.08), rng)


def solution(_: str, rng: np.random.Generator) -> Any:
    """A solid solution of random composition: no two atoms have the same neighbors."""
    from ase.build import bulk as build

    aluminum = rng.uniform(0.2, 0.8)
    edge = LATTICE["Cu"] + (LATTICE["Al"] - LATTICE["Cu"]) * aluminum
    atoms = build("Cu", "fcc", a=edge * rng.uniform(0.97, 1.03), cubic=True).repeat(2)
    atoms.symbols[rng.permutation(32)[: round(32 * aluminum)]] = "Al"
    return _rattled(atoms, rng.uniform(0.02, 0.08), rng)


GROUPS: dict[str, tuple[Callable[[str, np.random.Generator], Any], int]] = {
    "bulk": (bulk, 26), "strained": (strained, 26), "lattice": (lattice, 26), "vacancy": (vacancy, 14),
    "surface": (surface, 18), "liquid": (liquid, 22), "cluster": (cluster, 10),
}  # fmt: skip
"""Structures of each metal: the function that makes one, and how many."""
MIXED: dict[str, tuple[Callable[[str, np.random.Generator], Any], int]] = {
    "alloy": (alloy, 48), "solution": (solution, 6),
}  # fmt: skip
"""Structures of both metals."""


def calculator() -> Any:
    """The potential, with one cutoff for all elements, so that all energies fit together."""
    from ase.calculators.emt import EMT

    return EMT(fixed_cutoff=True)


def _crystal(metal: str, n: int, scale: float = 1.0) -> Any:
    from ase.build import bulk as build

    return build(metal, "fcc", a=LATTICE[metal] * scale, cubic=True).repeat(n)


def _rattled(atoms: Any, width: float, rng: np.random.Generator) -> Any:
    atoms.positions += rng.normal(0, width, atoms.positions.shape)
    return atoms


# The set -------------------------------------------------------------------------------------------


def make(seed: int, progress: Callable[[str], None] = lambda line: None) -> list[Made]:
    """Return all configurations, the planted ones among them, in random order."""
    found: list[Made] = []
    jobs = [(metal, group, *GROUPS[group]) for metal in LATTICE for group in GROUPS]
    jobs += [("", group, *MIXED[group]) for group in MIXED]
    for number, (metal, group, build, n) in enumerate(jobs):
        kind = f"{metal}_{group}".strip("_")
        for k in range(n):
            rng = np.random.default_rng([seed, number, k])
            found.append(_labeled(f"{kind}_{k + 1:02d}", kind, build(metal, rng)))
        progress(f"{kind}: {n} configurations")
    rng = np.random.default_rng([seed, len(jobs) + 1])
    found = _spoiled(found, rng)
    return [found[k] for k in rng.permutation(len(found))]


def _labeled(name: str, group: str, atoms: Any) -> Made:
    """Energy and forces of the coordinates as they are written."""
    atoms.positions[:] = np.round(atoms.positions, 6)
    atoms.set_cell(np.round(atoms.cell.array, 6))
    atoms.calc = calculator()
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
    atoms.calc = None
    return Made(name, group, atoms, round(energy, 6), np.round(forces, 6))


def _spoiled(found: list[Made], rng: np.random.Generator) -> list[Made]:
    calm = [k for k, one in enumerate(found) if one.group.rpartition("_")[2] in CALM]
    # A crystal without forces would hide a wrong sign.
    calm = [k for k in calm if np.sqrt(np.mean(found[k].forces ** 2)) > 0.15]
    chosen = iter(rng.permutation(calm).tolist())
    out = list(found)
    for fault, n in SPOILED.items():
        for _ in range(n):
            k = next(chosen)
            if fault == "copy":
                out.append(_copy(found[k], rng))
            else:
                out[k] = _spoil(found[k], fault, rng)
    return out


def _copy(one: Made, rng: np.random.Generator) -> Made:
    """The same configuration with cyclically exchanged axes and atoms in another order."""
    atoms = one.atoms.copy()
    axes, order = [1, 2, 0], rng.permutation(len(atoms))
    atoms.positions[:] = atoms.positions[:, axes]
    atoms.set_cell(atoms.cell.array[:, axes])
    return replace(
        one, name=f"{one.group}_again_{one.name[-2:]}", atoms=atoms[order], forces=one.forces[order][:, axes],
        fault="copy", detail=one.name,
    )  # fmt: skip


def _spoil(one: Made, fault: str, rng: np.random.Generator) -> Made:
    if fault == "sign":
        return replace(one, fault=fault, forces=-one.forces)
    if fault == "scale":
        return replace(one, fault=fault, forces=np.round(FORCE_FACTOR * one.forces, 6))
    if fault == "energy":
        return replace(one, fault=fault, energy=round(one.energy + ENERGY_OFFSET * len(one.atoms), 6))
    atoms, atom = one.atoms.copy(), int(rng.integers(len(one.atoms)))
    step = rng.normal(size=3)
    atoms.positions[atom] = np.round(atoms.positions[atom] + DISPLACEMENT * step / np.linalg.norm(step), 6)
    return replace(one, fault=fault, atoms=atoms, detail=str(atom + 1))


# Files ---------------------------------------------------------------------------------------------


def lines(made: list[Made]) -> Iterator[str]:
    """Yield the lines of the file, as extended XYZ."""
    for one in made:
        yield str(len(one.atoms))
        cell = " ".join(f"{value:.6f}" for value in one.atoms.cell.array.ravel())
        box = f'Lattice="{cell}" ' if one.atoms.cell.rank == 3 else ""
        pbc = " ".join("FT"[flag] for flag in one.atoms.pbc.tolist())
        yield (
            f"{box}Properties=species:S:1:pos:R:3:forces:R:3 energy={one.energy:.6f} group={one.group} "
            f'name={one.name} pbc="{pbc}"'
        )
        rows = np.concatenate([one.atoms.positions, one.forces], axis=1) + 0.0
        for symbol, row in zip(one.atoms.symbols, rows.tolist(), strict=True):
            yield " ".join([symbol, *(f"{value:.6f}" for value in row)])


def write(made: list[Made], folder: Path) -> None:
    """Write `metals.xyz.gz` and `metals_truth.csv`."""
    text = "\n".join([*lines(made), ""])
    with atomic_output(folder / "metals.xyz.gz") as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    with (
        atomic_output(folder / "metals_truth.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["configuration", "name", "fault", "detail"])
        table.writerows([k, one.name, one.fault, one.detail] for k, one in enumerate(made) if one.fault)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "demo")
    chosen = parser.parse_args()
    made = make(chosen.seed, say)
    write(made, chosen.output)
    size = (chosen.output / "metals.xyz.gz").stat().st_size
    say(f"{len(made)} configurations, {sum(len(one.atoms) for one in made):,} atoms, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
