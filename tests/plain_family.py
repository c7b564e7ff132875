"""A family of an installed package without base classes: the least that the contract asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families import Family, Option
from phaseseg.fields import Fields, Message
from phaseseg.nn.device import check_device
from phaseseg.specs import FieldSpec


@dataclass(frozen=True)
class HeightSettings:
    scale: float = 1.0
    axis: Literal["x", "y", "z"] = "z"
    names: list[str] = field(default_factory=lambda: ["a", "b"])
    limit: float | None = None
    notes: dict[str, str] = field(default_factory=dict)  # Python only


@dataclass(frozen=True)
class HeightRule:
    gain: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class HeightModel:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def rule(self, **options: Any) -> HeightRule:
        if unknown := set(options) - {"gain"}:
            raise TypeError(f"unknown option {', '.join(unknown)}; the only option is gain.")
        return HeightRule(**{name: value for name, value in options.items() if value is not None})

    def run(self, frame: Any, rule: HeightRule, *, device: str = "auto", progress: Any = None) -> Any:
        check_device(device)
        if not len(frame) or frame.units != self.checkpoint.units:
            raise ValueError(f"{frame.error_prefix}atoms in the units {self.checkpoint.units} are needed.")
        axis = "xyz".index(self.checkpoint.config["axis"])
        return (rule.gain * self.checkpoint.weights["scale"][0] * frame.positions[:, axis]).astype(np.float32)

    def fields(self, frame: Any, output: Any, rule: HeightRule) -> Fields:
        return Fields({"height": output}, [Message("Heights count from the origin.", "heights")])


def fit(data: Any, *, output: Any = None, progress: Any = None, **options: Any) -> Checkpoint:
    settings = HeightSettings(**options)
    weights = {"scale": np.float32([settings.scale])}
    found = Checkpoint("heights", "heights/mine-v1", {"axis": settings.axis}, weights)
    if output is not None:
        save_checkpoint(found, output)
    return found


FAMILY = Family(
    name="heights", title="Heights", status="experimental", units=("metal",),
    model="plain_family:HeightModel",
    fields=(FieldSpec("height", "Height", "Å", "atom", "scalar", "a coordinate"),),
    options=(Option("gain", float, 1.0, "Factor.", part="run", label="Gain", group="Heights"),),
    settings=HeightSettings, fit="plain_family:fit", symmetries=frozenset({"permutation"}),
)  # fmt: skip
