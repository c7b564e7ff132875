"""Rules of weak labels and predictions: frozen parameter sets shared by all interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field as field_of, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from phaseseg.display import Message

Field = Literal["number", "mole-fraction"]
Threshold = Literal["steepest", "two-means", "midpoint"]
Boundary = Literal["interface", "voxels", "learned"]
By = Literal["auto", "atom", "molecule"]
BY: tuple[By, ...] = ("auto", "atom", "molecule")

# Calibrated on melts of known state (docs/weak-labels.md; docs/examples/validate_weak_labels.py).
MOLE_FRACTION = "mole fraction"
"""Used in place of a unit for mole fractions."""
MIN_CONTRAST = 1.6
"""Contrast at or above which a frame is classified as two phases."""
CLEAR_CONTRAST = (1.35, 2.95)
"""Below the first contrast one phase is clear, above the second two; in between the verdict is uncertain."""


@dataclass(frozen=True)
class _Rule:
    def replace(self, **changes: Any) -> Self:
        """Return a copy with some parameters changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; used as keywords, they give the same rule."""
        return asdict(self)

    def _check(self, **choices: tuple[object, ...]) -> None:
        """Raise ValueError for a volume or length below 0, and for a value not among the choices."""
        for name in ("min_volume", "boundary_width", "bulk_distance"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and at least 0, found {value}.")
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(str, allowed))}; found {getattr(self, name)!r}."
                )


# Lengths that follow from sigma unless they are given. They give 200 Å^3, 0.68 Å and 5 Å at 2 Å.
VOLUME_BY_SIGMA = 25.0
WIDTH_BY_SIGMA = 0.34
BULK_BY_SIGMA = 2.5
LARGEST = 1e300  # also the volume for a sigma whose third power overflows
PAPER_BOUNDARY = 0.68
"""Boundary width of the paper, Å, for iron."""


@dataclass(frozen=True)
class LabelRule(_Rule):
    """Parameters of weak labels; see `label_phases`. ValueError for a value out of range.

    What is left to each frame has a default that stands for "automatic": no `species`, `sigma` "auto", and
    None for lengths that follow from sigma. `fixed` and `labels.automatic.rule_of` replace these by values.
    """

    species: tuple[str, ...] = ()
    sigma: float | Literal["auto"] = "auto"
    voxel: float | None = None
    field: Field = "number"
    threshold: Threshold | float = "steepest"
    at: Literal["atom", "voxel"] = "atom"
    by: By = "auto"
    keep: Literal["all", "largest"] = "all"
    min_volume: float | None = None
    boundary_width: float | None = None
    phases: Literal["auto", 2] = "auto"
    bulk_distance: float | None = None

    def __post_init__(self) -> None:
        names: Any = self.species
        object.__setattr__(self, "species", (names,) if isinstance(names, str) else tuple(names or ()))
        if not all(isinstance(name, str) and name for name in self.species):
            raise ValueError(f"species must be names, or none to choose one, found {self.species!r}.")
        if isinstance(self.sigma, str) and self.sigma != "auto":
            raise ValueError(f"sigma must be a positive length in Å or 'auto', found {self.sigma!r}.")
        for name, value in (("sigma", self.sigma), ("voxel", self.voxel)):
            if not (value is None or isinstance(value, str)) and not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive length in Å, found {value}.")
        self._check(
            field=("number", "mole-fraction"),
            at=("atom", "voxel"),
            by=BY,
            keep=("all", "largest"),
            phases=("auto", 2),
        )
        if isinstance(self.threshold, str):
            if self.threshold not in ("steepest", "two-means", "midpoint"):
                raise ValueError(
                    f"threshold must be steepest, two-means, midpoint or a number, found {self.threshold!r}."
                )
        elif not isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number, found {self.threshold}.")

    @classmethod
    def from_options(cls, species: str | Sequence[str] | None = None, **options: Any) -> LabelRule:
        """Create a rule from keywords; TypeError with a list of the options for an unknown keyword."""
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in options if name not in known]:
            raise TypeError(f"unknown option {', '.join(unknown)}; the options are {', '.join(known)}.")
        names = (species,) if isinstance(species, str) else tuple(species or ())
        return cls(species=names, **options)

    def fixed(
        self, species: Sequence[str] = (), sigma: float | None = None, messages: Sequence[Message] = ()
    ) -> FixedRule:
        """Return the rule with a value for every parameter.

        species, sigma : in place of those that this rule leaves open
        messages : about these choices

        ValueError if the rule leaves species or sigma open and they are not given.
        """
        species = self.species or tuple(species)
        width = self.sigma if sigma is None or self.sigma != "auto" else sigma
        if not species or isinstance(width, str):
            raise ValueError("the rule leaves the species or sigma to the frame; give both.")
        paper = "Fe" in species
        lengths = {
            "min_volume": min(VOLUME_BY_SIGMA * width * width * width, LARGEST),
            "boundary_width": PAPER_BOUNDARY if paper else WIDTH_BY_SIGMA * width,
            "bulk_distance": BULK_BY_SIGMA * width,
        }
        given = {name: value for name, value in self.to_dict().items() if value is not None}
        values = lengths | given | {"species": species, "sigma": width}
        return FixedRule(**values, messages=tuple(messages))

    @property
    def unit(self) -> str:
        """Unit of the field and the threshold."""
        return "Å^-3" if self.field == "number" else MOLE_FRACTION

    @property
    def quantity(self) -> str:
        """Name of the thresholded field."""
        return f"{'+'.join(self.species)} {'number density' if self.field == 'number' else 'mole fraction'}"

    grid_name: ClassVar[str] = "density_grid"
    level_name: ClassVar[str] = "threshold"


@dataclass(frozen=True)
class FixedRule(LabelRule):
    """A label rule that leaves nothing to the frame.

    messages : about the species and sigma that were chosen for a frame
    """

    sigma: float = 2.0
    min_volume: float = VOLUME_BY_SIGMA * 2.0**3
    boundary_width: float = PAPER_BOUNDARY
    bulk_distance: float = BULK_BY_SIGMA * 2.0
    messages: tuple[Message, ...] = field_of(default=(), compare=False, repr=False)

    def fixed(self, *_: Any, **__: Any) -> FixedRule:
        """Return the rule itself."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the messages; used as keywords, they give the same rule."""
        return {name: value for name, value in super().to_dict().items() if name != "messages"}

    @property
    def voxel_size(self) -> float:
        """Voxel edge in Å: as given, or half of sigma."""
        return self.sigma / 2 if self.voxel is None else self.voxel


@dataclass(frozen=True)
class PredictionRule(_Rule):
    """Parameters that convert network scores to phases; `phaseseg predict --help` explains the options.

    model : name of the checkpoint
    species : species enriched in the rich phase

    ValueError for a value out of range.
    """

    model: str
    species: tuple[str, ...]
    threshold: float = 0.5
    boundary_width: float = 0.68
    boundary: Boundary = "interface"
    by: By = "auto"
    keep: Literal["all", "largest"] = "all"
    min_volume: float = 200.0
    bulk_distance: float = 5.0

    def __post_init__(self) -> None:
        number: Any = self.threshold
        if isinstance(number, str) or not 0 < number < 1:
            raise ValueError(
                f"threshold must be a probability between 0 and 1 (exclusive), found {self.threshold}."
            )
        self._check(boundary=("interface", "voxels", "learned"), keep=("all", "largest"), by=BY)

    unit: ClassVar[str] = "Å"
    quantity: ClassVar[str] = "score"
    grid_name: ClassVar[str] = "score_grid"
    level_name: ClassVar[str] = "score_threshold"


Rule = FixedRule | PredictionRule
"""Either kind of rule; `grid_name` and `level_name` name the output fields of the grid and its threshold."""
