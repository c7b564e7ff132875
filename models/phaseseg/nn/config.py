"""Base of the settings of all networks. No NumPy here, because `--help` reads settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite, prod
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

LARGEST_COUNT = 10_000
"""Limit of all counts in a file (layers, channels, neighbors); larger ones cannot be meant."""


@dataclass(frozen=True)
class NetworkSettings(ABC):
    """Base of the settings of a network: shapes of the weights by name, conversion to and from JSON."""

    @abstractmethod
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of one member; linear layers are (out, in) as in PyTorch."""

    @property
    def n_parameters(self) -> int:
        """Number of weights of one member."""
        return sum(map(prod, self.weight_shapes().values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            For an unknown setting, as from a newer version, and for a value of another type.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"the settings of the network cannot be {values!r:.60}.")
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings of the network: {', '.join(unknown)}; update ovito-phaseseg.")
        types = get_type_hints(cls)
        for name, value in values.items():
            if not _fits(value, types[name]):
                raise ValueError(f"the setting {name} of the network cannot be {value!r:.60}.")
        return cls(**{k: float(v) if types[k] is float else v for k, v in values.items()})

    def _check_counts(self, *names: str) -> None:
        """Raise ValueError unless these settings are at least 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from a file has the type of a setting; numbers are finite and within the limit."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return isinstance(value, str)  # the class names the choices
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return False
        parts = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if kind in (int, float):
        right = isinstance(value, (int, kind)) and not isinstance(value, bool) and isfinite(value)
        return right and abs(value) <= LARGEST_COUNT
    return isinstance(value, kind)
