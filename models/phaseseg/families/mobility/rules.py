"""The options of a prediction, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from math import inf
from typing import TYPE_CHECKING, Any

from phaseseg.families import species_named

if TYPE_CHECKING:
    from phaseseg.families.mobility.potentials import LennardJonesMixture


@dataclass(frozen=True)
class MobilityRule:
    """How the mobility of particles is predicted and read.

    model : name of the checkpoint
    b : names of the species B, all others are A; None: the names of A and B in training
    temperature : ε/k, for cage runs; None: `temperature` in the info of the frame
    potential : pair potential for minimization and cage runs, or the file of its table; None: that of the
        checkpoint
    seed : of the cage runs
    target : quantity, of those of the checkpoint; None: the first
    time : of the propensity, of those of the checkpoint; None: the first
    mobile_share : share of the particles of each type that are mobile

    Raises
    ------
    ValueError
        For a value out of range, and for a table of a potential that cannot be read.
    """

    model: str = ""
    b: str | tuple[str, ...] | None = None
    temperature: float | None = None
    potential: LennardJonesMixture | str | os.PathLike[str] | None = None
    seed: int = 0
    target: str | None = None
    time: float | None = None
    mobile_share: float = 0.1

    def __post_init__(self) -> None:
        if self.b is not None:
            object.__setattr__(self, "b", species_named("b", self.b))
        if self.temperature is not None and not 0 < self.temperature < inf:
            raise ValueError(f"temperature must be positive, in units of ε/k, found {self.temperature}.")
        if isinstance(self.potential, str | os.PathLike):
            from phaseseg.families.mobility.potentials import LennardJonesMixture

            object.__setattr__(self, "potential", LennardJonesMixture.read(self.potential))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 on, found {self.seed!r}.")
        if self.time is not None and not 0 < self.time < inf:
            raise ValueError(f"time must be positive, found {self.time}.")
        if not 0 < self.mobile_share < 1:
            raise ValueError(f"mobile_share must be a share between 0 and 1, found {self.mobile_share}.")

    @property
    def mixture(self) -> LennardJonesMixture | None:
        """The potential, read."""
        assert not isinstance(self.potential, str | os.PathLike)
        return self.potential

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        potential = None if self.mixture is None else self.mixture.to_dict()
        return plain | {"b": None if self.b is None else list(self.b), "potential": potential}
