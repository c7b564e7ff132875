"""The phase labels, and what networks and metrics say of atoms, as an ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from ase_bridge.convert import analysis, frame_from_atoms, write_fields
from phaseseg.fields import Fields
from phaseseg.frame import Units


class PhaseCalculator(Calculator):  # type: ignore[misc]
    """Phases by `calculator.get_property("phase", atoms)`.

    Parameters
    ----------
    species : name or names of the species whose density tells the phases apart, default "Fe"
    model : in place of a species: name of a checkpoint of a trained network, file, or Checkpoint
    metrics : in place of a species, or in addition to a model: options of `phaseseg.glass_metrics`
    device : for a model: "auto", "cpu", "torch" or "cuda"
    species_array : array of `atoms.arrays` that holds the species, in place of the symbols
    units : "metal" or "lj", in place of `atoms.info["units"]`
    **options : as for `annotate`

    Attributes
    ----------
    fields : Fields of the last labeling

    Properties are `phase`, `interface_distance`, `domain` and `phase_density`, or with a model
    `phase_probability` and `phase_uncertainty`; of a model of liquid_glass `glass_probability`,
    `glass_uncertainty` and `attention`, and of metrics `graph_id`, `isolated` and `bb_degree`. As with
    any ASE calculator, atoms that have not changed are not labeled again. No writer of ASE keeps the custom
    results of a calculator, so the labels are also written into the atoms, as `annotate` does.
    Energies and forces do not exist here; asking for them raises `PropertyNotImplementedError`.

    >>> from ase_bridge import PhaseCalculator
    >>> calculator = PhaseCalculator(species="Fe", sigma=1.5)
    >>> phase = calculator.get_property("phase", atoms)  # doctest: +SKIP
    """

    implemented_properties: ClassVar[list[str]] = [
        "phase", "interface_distance", "domain", "phase_density", "phase_probability", "phase_uncertainty",
        "glass_probability", "glass_uncertainty", "attention", "graph_id", "isolated", "bb_degree",
    ]  # fmt: skip

    def __init__(
        self,
        species: str | Sequence[str] | None = None,
        *,
        model: Any = None,
        metrics: Mapping[str, Any] | None = None,
        device: str = "auto",
        species_array: str | None = None,
        units: Units | None = None,
        **options: Any,
    ) -> None:
        chosen = {"species": species, "model": model, "metrics": metrics, "device": device}
        self._analyze = analysis(**chosen, **options)
        super().__init__(species_array=species_array, units=units, **chosen, **options)
        self.fields: Fields | None = None
        self._labels: Any = None

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change options; the next question labels anew.

        Raises
        ------
        TypeError, ValueError
            For an unknown option or a value out of its range.
        """
        merged = {**self.parameters, **parameters}
        for name in ("species_array", "units"):
            merged.pop(name, None)
        self._analyze = analysis(**merged)
        changed: dict[str, Any] = super().set(**parameters)
        if changed:
            self.reset()
        return changed

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What has changed since the last labeling; the array of species counts as numbers do."""
        changes: list[str] = super().check_state(atoms, tol)
        name = self.parameters.get("species_array")
        if name is not None and self.fields is not None and "numbers" not in changes:
            labels = atoms.arrays.get(name)
            if labels is None or self._labels is None or not np.array_equal(labels, self._labels):
                changes.append("numbers")
        return changes

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("phase",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Label the phases of `atoms`; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        name = self.parameters.get("species_array")
        frame = frame_from_atoms(self.atoms, species_array=name, units=self.parameters.get("units"))
        self.fields = self._analyze(frame)
        self._labels = None if name is None else self.atoms.arrays[name].copy()
        self.results = {
            key: values.astype(np.int32) if values.dtype.kind in "iu" else values
            for key, values in self.fields.level("atom").items()
        }

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        """The value of a property, which is also written into `atoms`."""
        value = super().get_property(name, atoms, allow_calculation)
        if atoms is not None and value is not None and self.fields is not None:
            write_fields(atoms, self.fields)
        return value
