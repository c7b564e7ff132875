"""The phase labels as an ASE calculator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from ase_bridge.convert import frame_from_atoms, refuse_both, write_fields
from phaseseg.families.segmentation.config import LabelRule
from phaseseg.fields import Fields
from phaseseg.frame import Frame


def _fields_of(
    species: Any = None, *, model: Any = None, device: str = "auto", **options: Any
) -> Callable[[Frame], Fields]:
    """What gives the fields of a frame; options out of range are refused at once."""
    if model is None:
        return partial(_label, rule=LabelRule.from_options(species, **options))
    from phaseseg.predict import load_model, predict

    refuse_both(species)
    network = load_model(model)
    network.check_device(device)
    network.rule(**options)
    return partial(predict, model=network, device=device, **options)  # type: ignore[arg-type]


def _label(frame: Frame, rule: LabelRule) -> Fields:
    from phaseseg.families.segmentation.density import density_field
    from phaseseg.families.segmentation.labels import label_density

    return label_density(frame, density_field(frame, rule), rule)


class PhaseCalculator(Calculator):  # type: ignore[misc]
    """Phases by `calculator.get_property("phase", atoms)`.

    Parameters
    ----------
    species : name or names of the species whose density tells the phases apart, default "Fe"
    model : in place of a species: name of a checkpoint of a trained network, file, or Checkpoint
    device : for a model: "auto", "cpu", "torch" or "cuda"
    species_array : array of `atoms.arrays` that holds the species, in place of the symbols
    **options : as for `annotate`

    Attributes
    ----------
    fields : Fields of the last labeling

    Properties are `phase`, `interface_distance`, `domain` and `phase_density`, or with a model
    `phase_probability` and `phase_uncertainty`. As with any ASE
    calculator, atoms that have not changed are not labeled again. No writer of ASE keeps the custom
    results of a calculator, so the labels are also written into the atoms, as `annotate` does.
    Energies and forces do not exist here; asking for them raises `PropertyNotImplementedError`.

    >>> from ase_bridge import PhaseCalculator
    >>> calculator = PhaseCalculator(species="Fe", sigma=1.5)
    >>> phase = calculator.get_property("phase", atoms)  # doctest: +SKIP
    """

    implemented_properties: ClassVar[list[str]] = [
        "phase", "interface_distance", "domain", "phase_density", "phase_probability", "phase_uncertainty"
    ]  # fmt: skip

    def __init__(
        self,
        species: str | Sequence[str] | None = None,
        *,
        model: Any = None,
        device: str = "auto",
        species_array: str | None = None,
        **options: Any,
    ) -> None:
        chosen: dict[str, Any] = {"species": species}
        if model is not None:
            refuse_both(species)
            chosen = {"model": model, "device": device}
        elif species is None:
            chosen = {"species": "Fe"}
        self._fields_of = _fields_of(**chosen, **options)
        super().__init__(species_array=species_array, **chosen, **options)
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
        merged.pop("species_array", None)
        self._fields_of = _fields_of(**merged)
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
        frame = frame_from_atoms(self.atoms, species_array=name)
        self.fields = self._fields_of(frame)
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
