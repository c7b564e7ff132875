"""The options of a prediction, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

METHODS = ("mixture", "communities", "kmeans", "tree", "threshold", "meagraph")
POWER_SPECTRUM = "power-spectrum"
KINDS = ("array", "file")
"""What may stand before the colon of a descriptor that comes with the data."""

LARGEST_CUTOFF = 20
"""Å; the number of neighbors grows as the cube of the cutoff, thousands in a metal at this length."""

_BOUNDS: dict[str, tuple[type, float, float, bool]] = {
    "n_clusters": (int, 1, 100_000, False),
    "smallest": (int, 2, 10_000_000, False),
    "distance": (float, 0, 1e6, False),
    "resolution": (float, 1e-6, 1e6, False),
    "rate": (float, 0, 0.999999, False),
    "cutoff": (float, 1, LARGEST_CUTOFF, True),
    "n_max": (int, 1, 12, False),
    "l_max": (int, 0, 12, False),
    "n_components": (int, 1, 1000, False),
    "seed": (int, 0, 2**31 - 1, False),
}


@dataclass(frozen=True)
class EnvironmentsRule:
    """How environments are described and clustered; None: the default of the method or of the checkpoint.

    model : name of the checkpoint
    method : see `phaseseg.families.environments.clusters.cluster`
    n_clusters, smallest, distance, resolution, rate : options of the methods
    descriptor : "power-spectrum"; "array:NAME" for a per-atom array of the frames; "file:PATH" for a file
        with one row per atom
    cutoff : Å; n_max, l_max : settings of the power spectrum
    n_components : principal components in which the environments are clustered
    seed : of what is drawn at random

    Raises
    ------
    ValueError
        For a value out of range.
    """

    model: str = ""
    method: str = "mixture"
    n_clusters: int | None = None
    smallest: int | None = None
    distance: float | None = None
    resolution: float | None = None
    rate: float | None = None
    descriptor: str = POWER_SPECTRUM
    cutoff: float = 5.0
    n_max: int = 4
    l_max: int = 4
    n_components: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, found {self.method!r:.60}.")
        for name, (kind, low, high, is_open) in _BOUNDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            right = isinstance(value, int) or (kind is float and isinstance(value, float) and isfinite(value))
            if not right or isinstance(value, bool) or not low <= value <= high or (is_open and value == low):
                what = "a whole number" if kind is int else "a number"
                span = f"from {low:,} to {high:,}" if not is_open else f"above {low:,} and up to {high:,}"
                raise ValueError(f"{name} must be {what} {span}, found {value!r:.60}.")
        kind_of_rows(self.descriptor)

    @property
    def reads_fields(self) -> bool:
        """Whether the descriptors are a further column of the frames (`Frame.fields`)."""
        return kind_of_rows(self.descriptor)[0] == "array"

    def method_options(self) -> dict[str, Any]:
        """Return the options of the method that were given."""
        names = ("n_clusters", "smallest", "distance", "resolution", "rate")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def kind_of_rows(descriptor: Any) -> tuple[str, str]:
    """Split the name of a descriptor: ("array", NAME), ("file", PATH) or ("power-spectrum", "").

    Raises
    ------
    ValueError

    >>> kind_of_rows("array:soap")
    ('array', 'soap')
    """
    if descriptor == POWER_SPECTRUM:
        return POWER_SPECTRUM, ""
    kind, _, name = descriptor.partition(":") if isinstance(descriptor, str) else ("", "", "")
    if kind not in KINDS or not name.strip():
        raise ValueError(
            f"descriptor must be {POWER_SPECTRUM}, array:NAME or file:PATH, found {descriptor!r:.60}."
        )
    return kind, name.strip()


def check_units(units: str, where: str) -> None:
    """Raise ValueError for reduced units, and say what to multiply by; where : begins the sentence."""
    if units != "metal":
        raise ValueError(
            f"{where}lengths are in reduced units ({units}), and environments are described in Å. Multiply "
            "positions and cell by the σ of the potential in Å, such as 3.4 for argon, and set the units to "
            "metal; for an audit, multiply energies by its ε in eV and forces by ε/σ."
        )
