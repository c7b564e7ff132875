"""ASE's Atoms to a Frame, and Fields to `atoms.arrays` and `atoms.info`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from phaseseg.fields import FIELD_SPECS, Fields, Table
from phaseseg.frame import Frame


def frame_from_atoms(atoms: Any, *, species_array: str | None = None) -> Frame:
    """The Frame of an `ase.Atoms`.

    Parameters
    ----------
    atoms : ase.Atoms
        With a cell that spans a volume. Row order is kept.
    species_array : name of an array of `atoms.arrays` whose entries (strings or integers) are the
        species, in place of the chemical symbols: for coarse-grained or labeled atoms

    Raises
    ------
    ValueError
        No atoms; a missing or flat cell; a coordinate that is not finite; no such array.
    """
    import phaseseg.io

    frame = phaseseg.io.frame_from_atoms(atoms)
    if species_array is None:
        return frame
    if species_array not in atoms.arrays:
        raise ValueError(
            f"the atoms have no array {species_array!r}; their arrays are {', '.join(sorted(atoms.arrays))}."
        )
    labels = atoms.arrays[species_array]
    if labels.ndim != 1 or labels.dtype.kind not in "USiu":
        raise ValueError(
            f"the array {species_array!r} has shape {labels.shape} and type {labels.dtype}; species must be "
            "one string or integer per atom."
        )
    return frame.replace(species=labels.astype(str), species_names=())


def annotate(
    atoms: Any,
    species: str | Sequence[str] | None = None,
    *,
    model: Any = None,
    device: Any = "auto",
    species_array: str | None = None,
    **options: Any,
) -> Fields:
    """Tell the phases of `atoms` apart, by a density or with a trained network, and write them into it.

    Parameters
    ----------
    atoms : ase.Atoms, changed in place
    species : name or names of the species whose density tells the phases apart, default "Fe"
    model : in place of a species: name of a checkpoint ("segmentation/gat-v1"), file, or Checkpoint
    device : for a model: "auto", "cpu", "torch" or "cuda"
    species_array : as for `frame_from_atoms`
    **options : with a model `threshold` (0.5), `boundary` ("interface"), `boundary_width` and
        `min_volume` (as the network was trained), `keep` ("all"), `bulk_distance` (5 Å); see
        `phaseseg.predict`. Without a model `sigma` (1.5 Å), `voxel` (None: half of sigma, Å), `field`
        ("number"), `threshold` ("steepest"), `at` ("atom"), `keep` ("all"), `min_volume` (200 Å^3),
        `boundary_width` (0.68 Å), `phases` ("auto"), `bulk_distance` (5 Å); see `phaseseg.label_phases`

    Returns
    -------
    Fields
        Exactly those of `phaseseg.label_phases` or `phaseseg.predict` for the same atoms.

    `atoms.arrays` receives `phase` (int32: 0 poor, 1 rich, 2 boundary), `interface_distance` (Å), `domain`
    and `phase_density`, or with a model `phase_probability` (columns poor, rich) and `phase_uncertainty`;
    `atoms.info` receives the finite numbers of the frame
    (`n_phases`, `threshold`, `interface_area` ...) and the tables as nested dictionaries. All of it
    survives `ase.io.write` to extended XYZ. What an earlier call wrote is replaced.

    Raises
    ------
    ValueError
        For atoms or values of options that cannot be labeled; one sentence says why.
    TypeError
        For an unknown option.
    """
    frame = frame_from_atoms(atoms, species_array=species_array)
    fields: Fields
    if model is not None:
        from phaseseg import predict

        refuse_both(species)
        fields = predict(frame, model, device=device, **options)
    else:
        from phaseseg import label_phases

        fields = label_phases(frame, species="Fe" if species is None else species, **options)
    write_fields(atoms, fields)
    return fields


def refuse_both(species: object) -> None:
    """Raise TypeError where a species is given beside a model."""
    if species is not None:
        raise TypeError("a model knows its species; give a species or a model, not both.")


def write_fields(atoms: Any, fields: Fields) -> None:
    """Write fields into `atoms.arrays` and `atoms.info`, in the place of earlier ones."""
    for name in FIELD_SPECS:
        atoms.arrays.pop(name, None)
        atoms.info.pop(name, None)
    for name, values in fields.level("atom").items():
        atoms.set_array(name, values.astype(np.int32) if values.dtype.kind in "iu" else values)
    for name, value in fields.level("frame").items():
        if value is not None and isfinite(value):
            atoms.info[name] = value.item() if isinstance(value, np.generic) else value
    for name, table in fields.level("table").items():
        atoms.info[name] = nested(table)


def nested(table: Table) -> dict[str, Any]:
    """A table as a dictionary that JSON can hold.

    A table whose first column is text becomes one dictionary per row (`{"rich": {"atoms": 9411,
    "Fe_wt_percent": 93.1}}`), any other one list per column (`{"distance_A": [...]}`). Numbers that
    are not finite are left out of rows; in lists they stay NaN.
    """
    columns = {name: np.asarray(values) for name, values in table.columns.items()}
    first = next(iter(columns), None)
    if first is None or columns[first].dtype.kind not in "USO":
        return {snake(name): values.tolist() for name, values in columns.items()}
    return {
        snake(str(row[first])): {
            snake(name): value
            for name, value in row.items()
            if name != first and value is not None and (isinstance(value, str) or isfinite(value))
        }
        for row in table.rows()
    }


def snake(text: str) -> str:
    """`"Fe (wt%)"` gives `"Fe_wt_percent"`, `"rich bulk"` gives `"rich_bulk"`."""
    text = text.replace("%", "_percent").replace("Å", "A").replace("^", "")
    return "_".join("".join(c if c.isalnum() else " " for c in text).split())
