"""How a network is trained, and how a family declares its settings. Neither NumPy nor PyTorch here."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """How a network is trained, whatever the family.

    epochs : at most; the learning rate falls along a cosine over all of them, after the warm-up
    batch_atoms : a batch is complete as soon as it holds this many atoms
    learning_rate : the highest
    seeds : one for each member; members are trained one after the other
    patience : a member is finished after this many epochs without a better validation loss
    clip : largest norm of a gradient
    optimizer : "adam", or "adamw", which shrinks weights by `weight_decay` times the learning rate each step
    warmup : fraction of the epochs over which the learning rate rises from zero
    keep : "best" keeps the weights of the epoch with the least validation loss, "last" those of the last
        epoch; with "last", nothing is chosen on the validation data, and `patience` has no effect

    Raises
    ------
    ValueError
        For a value out of range.
    """

    epochs: int
    batch_atoms: int
    learning_rate: float
    seeds: tuple[int, ...]
    patience: int
    clip: float = 10.0
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    warmup: float = 0.0
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        for name in ("epochs", "batch_atoms", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, found {getattr(self, name)}.")
        for name, choices in (("optimizer", ("adam", "adamw")), ("keep", ("best", "last"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, found {getattr(self, name)!r}.")
        if not 0 <= self.weight_decay < math.inf or (self.weight_decay and self.optimizer == "adam"):
            raise ValueError(
                f"weight_decay must be at least 0, and 0 with the optimizer adam, found {self.weight_decay}."
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, found {self.warmup}.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be distinct numbers from 0 on, found {self.seeds}.")


def setting(
    default: Any = MISSING,
    *,
    help: str,
    flag: str = "",
    choices: tuple[str, ...] = (),
    multiple: bool = False,
    example: str = "",
) -> Any:
    """A field of a settings dataclass: a flag of `phaseseg train` and a row of the documentation.

    The type of a flag is that of the field. A tuple is one text with commas, unless `multiple` is set; a bool
    is a flag without a value. The metadata of the field hold the parameters by their names.

    Parameters
    ----------
    default : left out for a flag that must be given
    help : one line
    flag : on the command line; `--name` if left out
    choices : the texts that are allowed, if not all are; see `check_choices`
    multiple : whether the flag may be repeated
    example : how several numbers are written as one text, for the message about a text that is not like that
    """
    return field(
        default=default,
        metadata={
            "help": help, "flag": flag, "choices": choices, "multiple": multiple, "example": example,
        },
    )  # fmt: skip


def check_choices(settings: Any) -> None:
    """Raise ValueError for a setting whose value is not among its choices; None is always allowed."""
    for entry in fields(settings):
        choices, value = entry.metadata.get("choices", ()), getattr(settings, entry.name)
        if choices and value is not None and value not in choices:
            listed = " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part)
            raise ValueError(f"{entry.name} must be {listed}, found {value!r}.")
