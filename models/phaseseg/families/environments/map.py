"""The map of environments as a file for chemiscope, which shows every point with its configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.mining import Mined
from phaseseg.families.environments.mining_tables import strange_atoms, suspicious
from phaseseg.frame import Frame
from phaseseg.io import atomic_output

MOST_ATOMS = 50_000
"""Atoms in the file; of larger sets, whole configurations are drawn at random, after those that stand out."""
CUTOFF = 5.0
"""Radius of the environments that chemiscope draws, Å."""


def write_map(path: str | os.PathLike[str], mined: Mined, *, most: int = MOST_ATOMS, seed: int = 0) -> int:
    """Write the map with all that was found of atoms and configurations, for chemiscope 1.1 or later.

    Open the file at https://chemiscope.org or, without a network, with `chemiscope.show_input`. The axes are
    the two leading principal components.

    Parameters
    ----------
    path : .json or .json.gz
    most : atoms at most; outliers, suspicious labels and the subset come first, then a random choice

    Returns
    -------
    int
        Number of configurations in the file.

    Raises
    ------
    ValueError
        For another suffix.
    ImportError
        Without the package chemiscope.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    check_map_name(path)
    chemiscope = chemiscope_package()
    chosen = chosen_configurations(mined, most, seed)
    data = mined.data.subset(chosen)
    starts = mined.data.starts
    atoms = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in chosen.tolist()])
    structures = [structure_of(frame) for frame in data.frames]
    with atomic_output(path) as temporary:
        chemiscope.write_input(
            str(temporary),
            structures=structures,
            properties=properties_of(mined, data, chosen, atoms),
            environments=chemiscope.all_atomic_environments(structures, CUTOFF),
            metadata={"name": _title(mined), "description": f"Environments by {mined.descriptor}."},
            settings=chemiscope.quick_settings(
                x="PC 1", y="PC 2", map_color="group number" if mined.labels is None else "cluster",
                periodic=False, target="atom", structure_settings={"unitCell": True},
            ),
        )  # fmt: skip
    return len(chosen)


def check_map_name(path: Path) -> None:
    """Raise ValueError for a name that chemiscope does not know."""
    if not path.name.lower().endswith((".json", ".json.gz")):
        raise ValueError(f"{path.name}: the map is written as .json or .json.gz.")


def chemiscope_package() -> Any:
    """It takes seconds to import, and only maps need it."""
    try:
        import chemiscope
    except ImportError:
        raise ImportError(
            "a map needs the package chemiscope, which is not installed: pip install 'ovito-phaseseg[map]'."
        ) from None
    return chemiscope


def chosen_configurations(mined: Mined, most: int, seed: int) -> NDArray[np.int64]:
    """Sorted numbers of the configurations in the map."""
    data = mined.data
    if data.n_atoms <= most:
        return np.arange(len(data))
    first: list[int] = []
    if mined.scores is not None:
        first += data.configurations[strange_atoms(mined)].tolist()
    if mined.audit is not None:
        first += [k for k, _, _ in suspicious(mined)]
    if mined.pruned is not None:
        first += mined.pruned.configurations.tolist()
    rest = np.random.default_rng(seed).permutation(len(data)).tolist()
    order = np.array(list(dict.fromkeys([*first, *rest])), dtype=np.int64)
    fits = np.cumsum(data.sizes[order]) <= most
    fits[0] = True
    return np.sort(order[fits])


def structure_of(frame: Frame) -> Any:
    """The configuration as `ase.Atoms`; an open box is left out."""
    from ase import Atoms
    from ase.data import chemical_symbols

    names = [name if name in chemical_symbols else "X" for name in frame.species_names]
    periodic = bool(frame.pbc.any())
    return Atoms(
        [names[code] for code in frame.species], positions=frame.positions - frame.origin * periodic,
        cell=frame.cell if periodic else None, pbc=frame.pbc,
    )  # fmt: skip


def properties_of(
    mined: Mined, data: DataSet, chosen: NDArray[np.int64], atoms: NDArray[np.int64]
) -> dict[str, Any]:
    """Properties of the atoms and of the configurations, as chemiscope takes them."""
    made: dict[str, Any] = {}

    def add(name: str, values: Any, target: str, units: str = "", description: str = "") -> None:
        array = np.asarray(values)
        listed = array.tolist() if array.dtype.kind in "US" else array.astype(float)
        about = {"units": units, "description": description}
        made[name] = {
            "target": target,
            "values": listed,
            **{key: text for key, text in about.items() if text},
        }

    for k in range(2):
        share = f"principal component {k + 1}, {mined.explained[k]:.0%} of the variance"
        add(f"PC {k + 1}", mined.points[atoms, k], "atom", description=share)
    if mined.labels is not None:
        add("cluster", mined.labels[atoms], "atom", description="-1 for none")
    if mined.scores is not None:
        add("outlier score", mined.scores[atoms], "atom", description="1 is typical")
    if data.forces is not None:
        add("force", np.linalg.norm(data.forces, axis=1), "atom", "eV/Å")
    if mined.audit is not None and data.forces is not None:
        add("force residual", np.asarray(mined.audit.force_residuals)[atoms], "atom", "eV/Å")
    if mined.pruned is not None:
        add("in the subset", mined.pruned.mask[atoms], "atom")
    groups = np.array(["all"] * len(data)) if data.groups is None else data.groups
    numbers = np.unique(groups, return_inverse=True)[1]
    add("group number", numbers[data.configurations], "atom")
    add("group", groups[data.configurations], "atom")
    add("name", np.array(data.names), "structure")
    add("group of the configuration", groups, "structure")
    if data.energies is not None:
        add("energy", data.energies / data.sizes, "structure", "eV/atom")
        if mined.audit is not None:
            add("energy residual", np.asarray(mined.audit.energy_residuals)[chosen], "structure", "eV/atom")
    return made


def _title(mined: Mined) -> str:
    files = list(dict.fromkeys(place.path.name for place in mined.data.places))
    return ", ".join(files[:3]) or "data set"
