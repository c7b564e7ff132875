"""ASE's Atoms to a Frame, and Fields to `atoms.arrays` and `atoms.info`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from phaseseg.fields import Bonds, Fields, Table, snake
from phaseseg.frame import Frame, Units
from phaseseg.specs import FIELD_SPECS


def frame_from_atoms(atoms: Any, *, species_array: str | None = None, units: Units | None = None) -> Frame:
    """The Frame of an `ase.Atoms`.

    Parameters
    ----------
    atoms : ase.Atoms
        With a cell that spans a volume. Row order is kept.
    species_array : name of an array of `atoms.arrays` whose entries (strings or integers) are the
        species, in place of the chemical symbols: for coarse-grained or labeled atoms
    units : "metal" or "lj", which ASE does not know; without it `atoms.info["units"]`, else "metal"

    Raises
    ------
    ValueError
        No atoms; a missing or flat cell; a coordinate that is not finite; no such array or units.
    """
    import phaseseg.io

    if units not in (None, "metal", "lj"):
        raise ValueError(f"units must be 'metal' or 'lj', found {units!r}.")
    frame = phaseseg.io.frame_from_atoms(atoms)
    if units is not None:
        frame = frame.replace(units=units)
    if species_array is None:
        return frame
    if species_array not in atoms.arrays:
        raise ValueError(
            f"the atoms have no array {species_array!r}; their arrays are {', '.join(sorted(atoms.arrays))}."
        )
    labels = atoms.arrays[species_array]
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)  # as ASE reads strings from extended XYZ
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
    metrics: Mapping[str, Any] | None = None,
    device: Any = "auto",
    species_array: str | None = None,
    units: Units | None = None,
    bonds: bool = False,
    **options: Any,
) -> Fields:
    """Analyze `atoms` by a density, with a trained network or by structural metrics, and write it into them.

    Parameters
    ----------
    atoms : ase.Atoms, changed in place
    species : name or names of the species whose density tells the phases apart, default "Fe"
    model : in place of a species: name of a checkpoint ("segmentation/gat-v1"), file, or Checkpoint
    metrics : in place of a species, or in addition to a model: options of `phaseseg.glass_metrics`,
        such as `dict(b="B", k=2, rule="all")`
    device : for a model: "auto", "cpu", "torch" or "cuda"
    species_array, units : as for `frame_from_atoms`
    bonds : write the bonds into `atoms.info`, too
    **options : with a model those of its family, see `phaseseg.api`: of segmentation `threshold`
        (0.5), `boundary` ("interface"), `boundary_width` and `min_volume` (as the network was trained),
        `keep` ("all"), `bulk_distance` (5 Å); of liquid_glass `b` ("B") and what else stands there.
        Without a model `sigma` (1.5 Å), `voxel` (None: half of sigma, Å), `field` ("number"),
        `threshold` ("steepest"), `at` ("atom"), `keep` ("all"), `min_volume` (200 Å^3),
        `boundary_width` (0.68 Å), `phases` ("auto"), `bulk_distance` (5 Å); see `phaseseg.label_phases`

    Returns
    -------
    Fields
        Exactly those of `phaseseg.label_phases`, `phaseseg.api` or `phaseseg.glass_metrics` for the
        same atoms; of a model with metrics those of both.

    `atoms.arrays` receives the fields of the atoms: `phase` (int32: 0 poor, 1 rich, 2 boundary),
    `interface_distance` (Å), `domain` and `phase_density`; with a model of segmentation
    `phase_probability` (columns poor, rich) and `phase_uncertainty` in place of the density; with one of
    liquid_glass `glass_probability`, `glass_uncertainty` and `attention`; with metrics `graph_id`, `isolated`
    and `bb_degree`. `atoms.info` receives the finite numbers of the frame (`n_phases`, `threshold`,
    `interface_area`, `n_bb_edges` ...), the tables as nested dictionaries and on request the bonds as
    `glass_bonds` and `attention_bonds`. All of it survives `ase.io.write` to extended XYZ. What an earlier
    call wrote is replaced.

    Raises
    ------
    ValueError
        For atoms or values of options that cannot be used; one sentence says why.
    TypeError
        For an unknown option.
    """
    analyze = analysis(species, model=model, metrics=metrics, device=device, **options)
    fields = analyze(frame_from_atoms(atoms, species_array=species_array, units=units))
    write_fields(atoms, fields, bonds=bonds)
    return fields


def analysis(
    species: str | Sequence[str] | None = None,
    *,
    model: Any = None,
    metrics: Mapping[str, Any] | None = None,
    device: Any = "auto",
    **options: Any,
) -> Callable[[Frame], Fields]:
    """What gives the fields of a frame, with the options of `annotate`; wrong ones are refused at once."""
    if (model is not None or metrics is not None) and species is not None:
        raise TypeError(
            "a model knows its species; give a species or a model, not both."
            if model is not None
            else "metrics take the species from b in metrics=dict(b=...); give no other."
        )
    parts: list[Callable[[Frame], Fields]] = []
    if model is not None:
        from phaseseg.api import load_model, predict

        network = load_model(model)
        network.check_device(device)
        network.rule(**options)
        parts.append(partial(predict, model=network, device=device, **options))
    if metrics is not None:
        from phaseseg.families.liquid_glass.structural_metrics import measurer

        parts.append(measurer(metrics))
        if model is None and options:
            raise TypeError(
                f"the options of the metrics belong into metrics=dict(...), not {', '.join(options)}."
            )
    if not parts:
        from phaseseg.families.segmentation.labels.weak_labels import labeler

        return labeler(species, **options)
    return partial(_together, parts=parts)


def _together(frame: Frame, parts: Sequence[Callable[[Frame], Fields]]) -> Fields:
    found = [part(frame) for part in parts]
    values = {name: value for fields in found for name, value in fields.items()}
    return Fields(values, tuple(text for fields in found for text in fields.messages))


def write_fields(atoms: Any, fields: Fields, *, bonds: bool = False) -> None:
    """Write fields into `atoms.arrays` and `atoms.info`, in the place of earlier ones; bonds on request."""
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
    for name, value in fields.level("bond").items() if bonds else ():
        atoms.info[name] = lists(value)


def lists(bonds: Bonds) -> dict[str, Any]:
    """Bonds as a dictionary that JSON can hold, of one list a column.

    `{"i": [0], "j": [3], "shift": [[0, -1, 0]], "bb": [1], "length": [0.93]}`: a bond from atom i to atom j,
    so many cell vectors away.
    """
    i, j = bonds.atoms.T
    columns = {name: np.asarray(values).tolist() for name, values in bonds.columns.items()}
    return {"i": i.tolist(), "j": j.tolist(), "shift": bonds.shifts.tolist(), **columns}


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
