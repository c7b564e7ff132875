"""The melt as a model: its recipe, its pair potentials and the composition of a cell."""

from __future__ import annotations

import importlib.resources
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc


@cache
def melt_recipe() -> dict[str, Any]:
    """The melt model: composition, masses (g/mol), potentials (eV, Å), protocol (ps, K).

    Raises
    ------
    FileNotFoundError
        If the recipe is missing from the installation.
    """
    path = importlib.resources.files("phaseseg") / "recipes" / "melt" / "melt.json"
    if not path.is_file():
        raise FileNotFoundError(
            "The recipe melt/melt.json is missing from this installation; install it again."
        )
    recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recipe


def _of_pair(table: dict[str, Any], first: str, second: str) -> Any:
    return table.get(f"{first}-{second}", table.get(f"{second}-{first}"))


def melt_pair(first: str, second: str, r: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy and force of one pair of simulated species at the distances `r`.

    Ions: S [k q_i q_j erfc(α r)/r + B exp(−r/ρ) − C/r^6], below r_in a parabola with the same value
    and slope; otherwise Morse, or its repulsive branch alone. Shifted so that energy and force vanish
    at the cut-off.

    Parameters
    ----------
    first, second : simulated species, one of Fe, Mg, Si, O, N, Fe2, Si0, O0, Ns
    r : distances, Å

    Returns
    -------
    energy : float64, eV
    force : float64, eV/Å
        −dE/dr, positive when the pair repels.

    Raises
    ------
    ValueError
        For a species the model does not have.
    """
    recipe = melt_recipe()
    for name in (first, second):
        if name not in recipe["species"]:
            raise ValueError(
                f"The melt model has no species {name!r}; it has {', '.join(recipe['species'])}."
            )
    potential = recipe["potential"]
    cutoff: float = potential["cutoff"]
    distance = np.asarray(r, dtype=np.float64)
    ions, morse, repulsive = potential["ions"], potential["morse"], potential["repulsive"]
    if first in ions["charges"] and second in ions["charges"]:
        inner = _of_pair(ions["inner"], first, second) or ions["inner_default"]

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return _ion_pair(ions, first, second, x)

        energy, force = bare(np.maximum(distance, inner))
        depth = np.minimum(distance - inner, 0.0)
        energy = energy - force * depth + 0.5 * ions["inner_curvature"] * depth**2
        force = force - ions["inner_curvature"] * depth
    elif _of_pair(morse["pairs"], first, second) is not None:
        well, a, center = _of_pair(morse["pairs"], first, second)

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            energy, force = _morse(well, a, center, x)
            return energy + morse["core"] / x**12, force + 12.0 * morse["core"] / x**13

        energy, force = bare(distance)
    else:
        r0: float = _of_pair(repulsive["r0"], first, second)
        strength: float = repulsive["depth"]

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            energy, force = _morse(strength, repulsive["a"], r0, np.minimum(x, r0))
            return energy + strength, np.where(x < r0, force, 0.0)

        energy, force = bare(distance)
    end_energy, end_force = bare(np.array(cutoff))
    energy = energy - end_energy + end_force * (distance - cutoff)
    force = force - end_force
    inside = distance < cutoff
    return np.where(inside, energy, 0.0), np.where(inside, force, 0.0)


def _ion_pair(
    ions: dict[str, Any], first: str, second: str, r: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale, alpha = ions["scale"], ions["alpha"]
    strength = scale * ions["coulomb"] * ions["charges"][first] * ions["charges"][second]
    screened = erfc(alpha * r)
    energy = strength * screened / r
    force = strength * (screened / r**2 + 2.0 * alpha / math.sqrt(math.pi) * np.exp(-((alpha * r) ** 2)) / r)
    buckingham = _of_pair(ions["buckingham"], first, second)
    if buckingham is not None:
        b, rho, c = buckingham
        wall = scale * b * np.exp(-r / rho)
        energy = energy + wall - scale * c / r**6
        force = force + wall / rho - 6.0 * scale * c / r**7
    return energy, force


def _morse(
    depth: float, a: float, r0: float, r: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    e = np.exp(-a * (r - r0))
    return depth * (e * e - 2.0 * e), 2.0 * a * depth * (e * e - e)


def melt_species(
    *, temperature: float = 3000.0, composition: str = "metal-silicate", dissolved: bool = True
) -> dict[str, int]:
    """Numbers of atoms of each simulated species in a cell of 17 Å.

    An atom carries a hidden oxidation label, never written to a trajectory: the ions Mg, Si, O, Fe2
    (oxidized iron) and Ns (nitride) belong in the silicate, the neutral Fe, N, Si0 and O0 in the metal.

    Parameters
    ----------
    temperature : K
        Decides how much is dissolved in the other liquid.
    composition : "metal-silicate", "oxidized", "metal" or "silicate"
    dissolved : bool
        False: nothing dissolved, as while a large cell coarsens.

    Raises
    ------
    ValueError
        For an unknown composition.
    """
    recipe = melt_recipe()
    if composition not in recipe["compositions"]:
        raise ValueError(
            f"There is no composition {composition!r}; there are {', '.join(recipe['compositions'])}."
        )
    counts: dict[str, int] = recipe["compositions"][composition]
    if composition in recipe["one_phase"] or not dissolved:
        species = dict(counts)
    else:
        m, ns = dissolved_counts(temperature)
        changes = {"Fe": -m, "Si": -m, "O": -m - ns, "N": -ns, "Fe2": m, "Si0": m, "O0": m + ns, "Ns": ns}
        species = counts | {name: counts.get(name, 0) + more for name, more in changes.items()}
    return {name: species.get(name, 0) for name in recipe["species"]}


def dissolved_counts(temperature: float) -> tuple[int, int]:
    """Numbers of Fe (as many of Si) and of N that are dissolved in the other liquid in a cell of 17 Å."""
    rows = [row for row in melt_recipe()["dissolved"]["table"] if row["from_temperature"] <= temperature]
    return int(rows[-1]["m"]), int(rows[-1]["ns"])


def write_table(path: Path, first: str, second: str) -> None:
    """Write the potential of a pair as a table for LAMMPS."""
    potential = melt_recipe()["potential"]
    inner, cutoff, n = potential["table_inner"], potential["cutoff"], potential["table_points"]
    r = np.sqrt(np.linspace(inner**2, cutoff**2, n))
    rows = np.column_stack([np.arange(1, n + 1), r, *melt_pair(first, second, r)])
    head = f"PAIR\nN {n} RSQ {inner} {cutoff}\n"
    np.savetxt(path, rows, "%d %.15g %.15g %.15g", header=head, comments="", encoding="ascii")
