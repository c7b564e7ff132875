"""Molecules, atom names and residues from the columns of any source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Category

# Titles in LAMMPS dumps, extended XYZ, ASE and OVITO, in small letters without blanks and dashes.
_TITLES = {
    "molecule": ("mol", "molecule", "molid", "moleculeid", "moleculeidentifier"),
    "number": ("resid", "resnum", "residueid", "residueidentifier", "residuenumber", "residuenumbers"),
    "name": ("name", "atomname", "atomnames", "atomtypes"),
    "residue": ("residue", "resname", "residuename", "residuenames", "residuetype", "moleculename",
                "moleculetype"),
}  # fmt: skip
_KINDS = {title: kind for kind, titles in _TITLES.items() for title in titles}


def kind_of(title: str) -> str:
    """What a column says of the atoms: "molecule" or "number" (of the residue), "name" or "residue"; or "".

    >>> [kind_of(title) for title in ("mol", "Molecule Identifier", "residue_name", "charge")]
    ['molecule', 'molecule', 'residue', '']
    """
    return _KINDS.get(title.lower().replace(" ", "").replace("_", "").replace("-", ""), "")


def runs(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Number, from 1, of the run of rows that each row is in; a new one begins where a key changes.

    Numbers of residues begin again in large files, so they do not tell residues apart but their changes do.

    keys : (n_atoms,) or (n_atoms, k) each
    """
    changes = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        columns = key if key.ndim == 2 else key[:, None]
        changes[1:] |= (columns[1:] != columns[:-1]).any(axis=1)
    changes[:1] = 1
    return np.cumsum(changes)


def topology(columns: Mapping[str, Any], above: dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments `molecules` and `categories` of `Frame` from the columns of a file, by title.

    columns : (n_atoms,) numbers; a Category or (n_atoms,) strings for names. Of two columns of one kind the
        first counts. Without a column of molecules every residue is one; without numbers of residues, a new
        one begins where the residue changes or its first atom name comes again. Numbers of molecules that
        are not integers are left out.
    above : what is known of the last residue of the piece before, in a frame that is read in pieces; becomes
        that of this piece
    """
    found: dict[str, Any] = {}
    for title, values in columns.items():
        kind, words = kind_of(title), values if isinstance(values, Category) else None
        array = np.zeros(0) if words else np.asarray(values)
        if not kind or array.ndim != 1:
            continue
        if words is None and (array.dtype.kind not in "biuf" or kind in ("name", "residue")):
            words = Category.of(_strings(array))
        if words is not None:
            # Numbers of residues may have letters (27A). A text is the name of a molecule, not its number.
            found.setdefault("residue" if kind == "molecule" else kind, words)
        elif (np.abs(array) < 2**53).all() and not (array % 1).any():
            found.setdefault(kind, array.astype(np.int64))
    categories = {kind: found[kind] for kind in ("name", "residue") if kind in found}
    molecules = found.get("molecule")
    if molecules is None and ("number" in found or len(categories) == 2):
        kinds = ("number", "residue") if "number" in found else ("residue", "name")
        molecules = _residues({kind: found[kind] for kind in kinds if kind in found}, above)
    return {"molecules": molecules, "categories": categories}


def _residues(
    found: Mapping[str, Category | NDArray[np.int64]], above: dict[str, Any] | None
) -> NDArray[np.int64]:
    """(n_rows,) int64, the residue of each atom, from 1; see `topology`."""
    above = {} if above is None else above
    goes_on = above.get("row", {}).keys() == found.keys()
    if goes_on:
        found = {kind: _below(above["row"][kind], values) for kind, values in found.items()}
    codes = {kind: v.codes if isinstance(v, Category) else v for kind, v in found.items()}
    names = codes.pop("name", None)
    numbers = runs(*codes.values())
    first = np.flatnonzero(np.diff(numbers, prepend=0))
    if names is not None:
        numbers = np.cumsum(names == names[first[numbers - 1]])
    if goes_on:
        numbers = numbers[1:] + (above["number"] - 1)
    for row in first[-1:].tolist():
        words = {k: v.names[v.codes[row]] if isinstance(v, Category) else v[row] for k, v in found.items()}
        above.update(number=numbers[-1], row=words)
    return numbers


def _below(value: Any, values: Category | NDArray[np.int64]) -> Any:
    """The values with one more on top."""
    if not isinstance(values, Category):
        return np.append(value, values)
    names = (*values.names, value)
    return Category(np.append(np.int32(names.index(value)), values.codes), names)


def _strings(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    return np.array(list(map(str, array.tolist()))) if array.dtype.kind == "O" else array
