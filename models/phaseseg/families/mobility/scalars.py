"""Scalars: how firmly its surroundings hold a particle, by displacements, energies and fluctuations.

Each has a name; a learner lists those that it uses. Lengths in σ, energies in ε.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.mobility.stiffness import local_stiffness

if TYPE_CHECKING:
    from phaseseg.families.mobility.cage import Cage
    from phaseseg.families.mobility.structure import Structure

Values = NDArray[np.float64]

LEAST = 1e-12
"""Variances and stiffnesses are not taken below this before the logarithm, σ² and ε/σ²."""
SOFTEST = 1.0
"""Eigenvalues of a local stiffness are not taken below this, ε/σ²: typical are several hundred."""

CAGE_SCALARS = (
    "inherent_displacement", "cage_displacement", "cage_inherent_distance", "log_cage_variance",
    "log_cage_largest", "log_cage_least", "inherent_energy", "cage_energy",
)  # fmt: skip
"""Default of learners that sample cages."""
INHERENT_SCALARS = (
    "inherent_displacement", "inherent_energy", "thermal_energy", "thermal_stiffness",
    "log_local_softness", "log_local_least_stiffness", "log_local_stiffness",
)  # fmt: skip
"""Default of learners that only minimize."""


def scalar_values(structure: Structure, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the scalars of these names, (n, len(names)) float32, in this order.

    Displacements are lengths between thermal, inherent and mean cage positions; `log_cage_variance` is the
    logarithm of the trace of the covariance in the cage, `log_cage_largest` and `log_cage_least` those of its
    extreme eigenvalues. Energies are those of a particle, half of that of its pairs. With the local block D
    of the Hessian at inherent positions, `log_local_softness` is log tr D⁻¹, `log_local_least_stiffness` the
    logarithm of its least eigenvalue, `log_local_stiffness` log tr D; `thermal_stiffness` is tr D at thermal
    positions.

    Raises
    ------
    ValueError
        For an unknown name, or a scalar of the cage if the structure has none.
    """
    unknown = [name for name in names if name not in _GROUPS]
    if unknown:
        raise ValueError(f"unknown scalar {', '.join(unknown)}; the scalars are {', '.join(_GROUPS)}.")
    found: dict[str, Values] = {}
    for name in names:
        if name not in found:
            found |= _GROUPS[name](structure)
    columns = [found[name] for name in names]
    empty = np.zeros((structure.frame.n_atoms, 0))
    return np.stack(columns, axis=1).astype(np.float32) if columns else empty.astype(np.float32)


def needs_cage(names: Sequence[str]) -> bool:
    """Whether a scalar among these needs cage runs."""
    return any("cage" in name for name in names)


def _displacements(structure: Structure) -> dict[str, Values]:
    return {"inherent_displacement": structure.inherent.displacement}


def _cage_displacements(structure: Structure) -> dict[str, Values]:
    cage = _cage(structure)
    apart = cage.positions - structure.inherent.positions
    return {
        "cage_displacement": cage.displacement,
        "cage_inherent_distance": np.linalg.norm(apart, axis=1),
    }


def _fluctuations(structure: Structure) -> dict[str, Values]:
    eigenvalues = np.linalg.eigvalsh(_cage(structure).covariance)
    logs = np.log(np.maximum(np.c_[eigenvalues.sum(axis=1), eigenvalues[:, ::2]], LEAST))
    return {"log_cage_variance": logs[:, 0], "log_cage_least": logs[:, 1], "log_cage_largest": logs[:, 2]}


def _cage_energies(structure: Structure) -> dict[str, Values]:
    return {"cage_energy": _cage(structure).energy}


def _energies(structure: Structure) -> dict[str, Values]:
    inherent = structure.inherent
    return {"inherent_energy": inherent.energy, "thermal_energy": inherent.thermal_energy}


def _thermal_stiffness(structure: Structure) -> dict[str, Values]:
    blocks = local_stiffness(structure.frame, structure.potential)
    return {"thermal_stiffness": np.trace(blocks, axis1=1, axis2=2)}


def _local_stiffness(structure: Structure) -> dict[str, Values]:
    frame = structure.frame.replace(positions=structure.inherent.positions)
    eigenvalues = np.maximum(np.linalg.eigvalsh(local_stiffness(frame, structure.potential)), SOFTEST)
    return {
        "log_local_softness": np.log((1 / eigenvalues).sum(axis=1)),
        "log_local_least_stiffness": np.log(eigenvalues[:, 0]),
        "log_local_stiffness": np.log(eigenvalues.sum(axis=1)),
    }


def _cage(structure: Structure) -> Cage:
    if structure.cage is None:
        raise ValueError("these scalars need cage runs, but the structure has none: ask for cage=True.")
    return structure.cage


_GROUPS: Mapping[str, Callable[[Structure], dict[str, Values]]] = {
    "inherent_displacement": _displacements,
    "cage_displacement": _cage_displacements,
    "cage_inherent_distance": _cage_displacements,
    "log_cage_variance": _fluctuations,
    "log_cage_largest": _fluctuations,
    "log_cage_least": _fluctuations,
    "inherent_energy": _energies,
    "thermal_energy": _energies,
    "cage_energy": _cage_energies,
    "thermal_stiffness": _thermal_stiffness,
    "log_local_softness": _local_stiffness,
    "log_local_least_stiffness": _local_stiffness,
    "log_local_stiffness": _local_stiffness,
}
