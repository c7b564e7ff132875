"""Conversion of ASE's Atoms to a Frame, and of Fields to `atoms.arrays` and `atoms.info`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from phaseseg.families import FAMILIES, load
from phaseseg.fields import Bonds, Fields, Table, snake
from phaseseg.frame import Frame, Names, Units
from phaseseg.nn.device import Device, check_device


def frame_from_atoms(
    atoms: Any, *, species_array: str | None = None, names: Names = None, units: Units | None = None,
    fields: bool = False,
) -> Frame:  # fmt: skip
    """Convert an `ase.Atoms` to a Frame.

    Parameters
    ----------
    atoms : ase.Atoms
        With three linearly independent cell vectors. The order of the atoms is kept.
    species_array : name of an array in `atoms.arrays` with species (strings or integers) to use instead of
        the chemical symbols, for coarse-grained or labeled atoms
    names : what symbols, atom names of GRO and PDB files (`atomtypes`) or labels stand for: `"MW=X,Me1=C"`
    units : "metal" or "lj"; if left out, `atoms.info["units"]`, otherwise "metal"
    fields : whether further numeric arrays go into `Frame.fields`

    Raises
    ------
    ValueError
        No atoms; a missing or flat cell; a coordinate that is not finite; an unknown array or unit system.
    """
    import phaseseg.io

    if units not in (None, "metal", "lj"):
        raise ValueError(f"units must be 'metal' or 'lj', found {units!r}.")
    frame = phaseseg.io.frame_from_atoms(atoms, species_array=species_array, names=names, fields=fields)
    return frame if units is None else frame.replace(units=units)


def annotate(
    atoms: Any,
    species: str | Sequence[str] | None = None,
    *,
    model: Any = None,
    device: Device = "auto",
    species_array: str | None = None,
    names: Names = None,
    units: Units | None = None,
    bonds: bool = False,
    **options: Any,
) -> Fields:
    """Analyze `atoms` and write the results into them.

    Without a model, phases are labeled from the density of a species (weak labels).

    Parameters
    ----------
    atoms : ase.Atoms, changed in place
    species : name or names of the species whose density distinguishes the phases; "Fe" by default
    model : name of a checkpoint ("gat-v1"), file, or Checkpoint of a trained network, instead of a species
    metrics : options of the structural metrics, such as `dict(b="B", k=2, rule="all")`, instead of a species
        or in addition to a model
    device : device of the model: "auto", "cpu", "torch" or "cuda"
    species_array, names, units : as for `frame_from_atoms`
    bonds : also write the bonds, into `atoms.info`
    **options : as for `phaseseg.predict` with a model, otherwise as for `phaseseg.label_phases`

    Returns
    -------
    Fields
        The same as from the library; with both a model and metrics, the fields of both.

    `atoms.arrays` receives the per-atom fields under their names, such as `phase` (int32: 0 poor, 1 rich,
    2 boundary) and `interface_distance` (Å). `atoms.info` receives the finite numbers of the frame, the
    tables as nested dictionaries and, on request, the bonds. Extended XYZ files preserve all of them. Fields
    of an earlier call are removed.

    Raises
    ------
    ValueError
        For invalid atoms or option values; the message says why.
    TypeError
        For an unknown option.
    """
    analyze = analysis(species=species, model=model, device=device, **options)
    how: dict[str, Any] = {"species_array": species_array, "names": names, "units": units}
    fields = analyze(frame_from_atoms(atoms, fields=analyze.reads_fields, **how))
    write_fields(atoms, fields, bonds=bonds)
    return fields


@dataclass(frozen=True)
class Analyzer:
    """The function of a frame that `annotate` applies.

    parts : analyses whose fields are combined
    reads_fields : whether the frame needs the further arrays of the atoms
    """

    parts: Sequence[Callable[[Frame], Fields]]
    reads_fields: bool = False

    def __call__(self, frame: Frame) -> Fields:
        return self.parts[0](frame) if len(self.parts) == 1 else _together(self.parts, frame)


def analysis(*, model: Any = None, device: Device = "auto", **options: Any) -> Analyzer:
    """Return the function of a frame that `annotate` applies; checks the options immediately."""
    declared = {one.keyword: one for family in FAMILIES.values() for one in family.analyses}
    asked = {name: value for name in declared if (value := options.pop(name, None)) is not None}
    chosen = [*asked, *(["model"] if model is not None else [])]
    for name in asked:
        if declared[name].takes_options and len(chosen) > 1:
            other = next(one for one in chosen if one != name)
            raise TypeError(f"give either {name} or {other}, not both.")
        if not declared[name].takes_options and model is None and options:
            raise TypeError(f"pass {', '.join(options)} inside {name}=dict(...), not as keywords.")
    parts: list[Callable[[Frame], Fields]] = []
    reads_fields = False
    if model is not None:
        from phaseseg.api import load_model  # 50 ms that an analysis without a network does not need

        check_device(device)
        network = load_model(model)
        rule = network.rule(**options)
        reads_fields = getattr(rule, "reads_fields", False)
        parts.append(partial(_predict, network, rule, device))
    if not chosen:
        asked[next(name for name, one in declared.items() if one.default)] = None
    for name, value in asked.items():
        own = options if declared[name].takes_options else {}
        parts.append(load(declared[name].make)(value, **own))
    return Analyzer(parts, reads_fields)


def _predict(network: Any, rule: Any, device: Device, frame: Frame) -> Fields:
    from phaseseg.api import predictor, prepare

    return predictor(prepare(network, [frame], rule), rule, device=device)(frame)


def _together(parts: Sequence[Callable[[Frame], Fields]], frame: Frame) -> Fields:
    found = [part(frame) for part in parts]
    values = {name: value for fields in found for name, value in fields.items()}
    return Fields(values, [text for fields in found for text in fields.messages])


def write_fields(atoms: Any, fields: Fields, *, bonds: bool = False) -> None:
    """Write fields into `atoms.arrays` and `atoms.info`; fields of an earlier call are removed."""
    for spec in [spec for family in FAMILIES.values() for spec in family.fields]:
        atoms.arrays.pop(spec.name, None)
        atoms.info.pop(spec.name, None)
    for name, values in fields.level("atom").items():
        atoms.set_array(name, as_int32(values))
    for name, value in fields.level("frame").items():
        if value is not None and isfinite(value):
            atoms.info[name] = value.item() if isinstance(value, np.generic) else value
    for name, table in fields.level("table").items():
        atoms.info[name] = nested(table)
    for name, value in fields.level("bond").items() if bonds else ():
        atoms.info[name] = lists(value)


def as_int32(values: Any) -> Any:
    """Convert integers to int32, which all writers of ASE support."""
    return values.astype(np.int32) if values.dtype.kind in "iu" else values


def lists(bonds: Bonds) -> dict[str, Any]:
    """Convert bonds to a dictionary for JSON, with one list per column.

    `{"i": [0], "j": [3], "shift": [[0, -1, 0]], "bb": [1], "length": [0.93]}`: a bond from atom i to the
    image of atom j displaced by `shift` cell vectors.
    """
    i, j = bonds.atoms.T
    columns = {name: values.tolist() for name, values in bonds.columns.items()}
    return {"i": i.tolist(), "j": j.tolist(), "shift": bonds.shifts.tolist(), **columns}


def nested(table: Table) -> dict[str, Any]:
    """Convert a table to a dictionary for JSON.

    A table whose first column is text becomes one dictionary per row (`{"rich": {"atoms": 9411,
    "Fe_wt_percent": 93.1}}`), any other table one list per column (`{"distance_A": [...]}`). Numbers
    that are not finite are omitted from rows and kept in lists.
    """
    first = next(iter(table.columns), None)
    if first is None or table.columns[first].dtype.kind not in "USO":
        return {snake(name): values.tolist() for name, values in table.columns.items()}
    return {
        snake(row.pop(first)): {
            snake(name): value for name, value in row.items() if isinstance(value, str) or isfinite(value)
        }
        for row in table.rows()
    }
