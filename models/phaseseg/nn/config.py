"""Base of the settings of all networks. No NumPy here, because `--help` reads settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Self


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
            For an unknown setting: the file was written by a newer version.
        """
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings of the network: {', '.join(unknown)}; update ovito-phaseseg.")
        return cls(**values)

    def _check_counts(self, *names: str) -> None:
        """Raise ValueError unless these settings are at least 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
