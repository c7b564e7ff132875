"""The options of a prediction, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from phaseseg.families import species_named


@dataclass(frozen=True)
class GlassRule:
    """How to interpret the outputs of a network.

    model : name of the checkpoint
    b : names of the species B, all others are A; None: the names of A and B in training
    threshold : lowest probability at which a configuration or a particle is glass
    attention : whether to output the attention; None: if the network has it
    attention_threshold : lowest attention of an edge that is kept; None: that of the checkpoint if it has
        one, otherwise the trough of the frame's own distribution

    Raises
    ------
    ValueError
        For a value out of range.
    """

    model: str = ""
    b: str | tuple[str, ...] | None = None
    threshold: float = 0.5
    attention: bool | None = None
    attention_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.b is not None:
            object.__setattr__(self, "b", species_named("b", self.b))
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be a probability between 0 and 1, found {self.threshold}.")
        if self.attention_threshold is not None and not 0 < self.attention_threshold < inf:
            raise ValueError(
                f"attention_threshold must be positive (1 is the mean), found {self.attention_threshold}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"b": None if self.b is None else list(self.b)}
