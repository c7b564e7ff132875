"""The analyses as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from ase_bridge.convert import analysis, as_int32, frame_from_atoms, write_fields
from phaseseg.families import FAMILIES
from phaseseg.fields import Fields
from phaseseg.frame import Names, Units
from phaseseg.nn.device import Device


class _AtomFields:
    """Names of all per-atom fields of the families registered at the time of access."""

    def __get__(self, instance: Any, owner: Any = None) -> list[str]:
        specs = [spec for family in FAMILIES.values() for spec in family.fields]
        return list(dict.fromkeys(spec.name for spec in specs if spec.level == "atom"))


class PhaseCalculator(Calculator):  # type: ignore[misc]
    """The analyses of `annotate` as a calculator: `calculator.get_property("phase", atoms)`.

    Parameters
    ----------
    species, model, device, species_array, names, units, **options : as for `annotate`

    Attributes
    ----------
    fields : Fields of the last analysis

    Its properties are the per-atom fields of the analysis, such as `phase`. As with any ASE calculator,
    unchanged atoms are not analyzed again. ASE's writers drop custom results of calculators, so the results
    are also written into the atoms, as by `annotate`. Requests for energies or forces raise
    `PropertyNotImplementedError`.

    >>> from ase_bridge import PhaseCalculator
    >>> calculator = PhaseCalculator(species="Fe", sigma=1.5)
    >>> phase = calculator.get_property("phase", atoms)  # doctest: +SKIP
    """

    implemented_properties = _AtomFields()

    def __init__(
        self,
        species: str | Sequence[str] | None = None,
        *,
        model: Any = None,
        device: Device = "auto",
        species_array: str | None = None,
        names: Names = None,
        units: Units | None = None,
        **options: Any,
    ) -> None:
        # Every analysis has a parameter, None if it is not requested.
        known = {one.keyword: None for family in FAMILIES.values() for one in family.analyses}
        chosen = {**known, "species": species, "model": model, "device": device, **options}
        self._analyze = analysis(**chosen)
        super().__init__(species_array=species_array, names=names, units=units, **chosen)
        self.fields: Fields | None = None
        self._labels: Any = None

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change options; a change discards the previous results.

        Raises
        ------
        TypeError, ValueError
            For an unknown option or a value out of range.
        """
        merged = {**self.parameters, **parameters}
        own = ("species_array", "names", "units")
        self._analyze = analysis(**{name: value for name, value in merged.items() if name not in own})
        changed: dict[str, Any] = super().set(**parameters)
        if changed:
            self.reset()
        return changed

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """List what has changed since the last analysis; a change of `species_array` counts as "numbers"."""
        changes: list[str] = super().check_state(atoms, tol)
        if self._analyze.reads_fields and "numbers" not in changes:
            changes.append("numbers")  # ASE does not notice changes of other arrays
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
        """Analyze `atoms`; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        name = self.parameters.get("species_array")
        how: dict[str, Any] = {key: self.parameters.get(key) for key in ("species_array", "names", "units")}
        frame = frame_from_atoms(self.atoms, fields=self._analyze.reads_fields, **how)
        self.fields = self._analyze(frame)
        self._labels = None if name is None else self.atoms.arrays[name].copy()
        self.results = {name: as_int32(values) for name, values in self.fields.level("atom").items()}

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        """Return the value of a property, and write all fields into `atoms`."""
        value = super().get_property(name, atoms, allow_calculation)
        if atoms is not None and value is not None and self.fields is not None:
            write_fields(atoms, self.fields)
        return value
