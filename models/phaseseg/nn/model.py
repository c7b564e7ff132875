"""NetworkModel: what the models of all families share.

Members and their weights, spread over the members, devices, the range in which a network is known to hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from math import inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint, CheckpointError
from phaseseg.display import option
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame
from phaseseg.nn.device import Device, check_device, device_kind

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]

LARGEST_SETTING = 1e6
"""Limit of the numbers in the settings of a checkpoint; what is larger cannot be meant."""
LARGEST_WEIGHT = 1e10
"""Sums of products of larger weights would overflow."""
DENSITY_SLACK = 0.05
"""A frame is outside of the range of validity this far beyond the number densities of the training."""


class NetworkModel(ABC):
    """The networks of a checkpoint, ready to be used on frames.

    A subclass names its `family` and the dataclass of its rule, reads the settings of a checkpoint in
    `_read`, makes its networks in `_make`, and has the two halves of a prediction, `run` and `fields`.

    Attributes
    ----------
    checkpoint : Checkpoint
    name : of the checkpoint
    n_members : number of networks
    halo : range of the environment that the output for an atom depends on, in the length unit of the
        frame; infinity if only whole frames can be evaluated
    """

    family: ClassVar[str]
    rule_type: ClassVar[type]
    """Dataclass of the rule; its first field is the name of the checkpoint."""
    not_options: ClassVar[tuple[str, ...]] = ("model",)
    """Fields of the rule that are no options."""
    shared: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names of weights that the members share."""
    members_needed: ClassVar[bool] = True
    """False for a family whose checkpoints hold no networks; its weights may have any names."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.family != self.family:
            raise CheckpointError(
                f"{checkpoint.name}: this is a checkpoint of the family {checkpoint.family}, and not of "
                f"{self.family}."
            )
        self.checkpoint, self.name = checkpoint, checkpoint.name
        try:
            self.members = members_of(checkpoint.weights, self.shared) if self.members_needed else []
            self._read(checkpoint)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            # An AttributeError comes from text or a number where there should be a mapping.
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise CheckpointError(
                f"{checkpoint.name}: the settings in the checkpoint cannot be used: {what}."
            ) from None
        self._networks: dict[str, Callable[..., Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_networks": {}}  # made again where the model is sent

    @abstractmethod
    def _read(self, checkpoint: Checkpoint) -> None:
        """Read and check the settings; KeyError, TypeError and ValueError become one sentence."""

    @abstractmethod
    def _make(self, kind: str) -> Callable[..., Any]:
        """The networks on "cpu" (compiled loops), "torch" (PyTorch on the processor) or "cuda"."""

    @abstractmethod
    def run(self, frame: Frame, rule: Any = None, *, device: Device = "auto", progress: Any = None) -> Any:
        """The expensive half: run the networks on a frame."""

    @abstractmethod
    def fields(self, frame: Frame, output: Any, rule: Any = None, **options: Any) -> Fields:
        """The cheap half: the fields that follow from an output of this frame."""

    @property
    def n_members(self) -> int:
        return len(self.members)

    @property
    def halo(self) -> float:
        return inf

    def merge(self, frame: Frame, parts: Sequence[Any]) -> Any:
        """The output of a frame from those of slabs that cover it."""
        raise ValueError(f"{self.name} needs whole frames: the answer for an atom may depend on any other.")

    check_device = staticmethod(check_device)

    def _defaults(self) -> dict[str, Any]:
        """Defaults of the rule that come from the checkpoint."""
        return {}

    def rule(self, **options: Any) -> Any:
        """The rule of a prediction with options in place of the defaults; None is the default.

        Raises
        ------
        TypeError
            For an unknown option.
        ValueError
            For a value out of range, or one that these networks cannot serve.
        """
        known = [field.name for field in fields(self.rule_type) if field.name not in self.not_options]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(unknown)}; the options of {self.name} are {', '.join(known)}."
            )
        given = {name: value for name, value in options.items() if value is not None}
        rule = self.rule_type(**{"model": self.name, **self._defaults(), **given})
        self._check_rule(rule)
        return rule

    def _check_rule(self, rule: Any) -> None:  # noqa: B027  (most families have nothing to refuse)
        """Raise ValueError for what these networks cannot do."""

    def predict(
        self, frame: Frame, rule: Any = None, *, device: Device = "auto", progress: Any = None, **options: Any
    ) -> Fields:
        """Both halves at once; see `phaseseg.predict`.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `rule` and `run`.
        """
        rule = self.rule(**options) if rule is None else rule
        return self.fields(frame, self.run(frame, rule, device=device, progress=progress), rule)

    def network(self, device: str) -> Callable[..., Any]:
        """The networks on a device; made once."""
        kind = device_kind(device)
        if kind not in self._networks:
            try:
                self._networks[kind] = self._make(kind)
            except ValueError as error:
                raise CheckpointError(
                    f"{self.name}: the weights in the checkpoint cannot be used: {error}"
                ) from error
        return self._networks[kind]

    def check_frame(self, frame: Frame) -> None:
        """Refuse a frame without atoms, or with other units than those of the training.

        Raises
        ------
        ValueError
        """
        if frame.n_atoms == 0:
            raise ValueError(f"{frame.error_prefix}the frame has no atoms, so there is nothing to predict.")
        if frame.units != self.checkpoint.units:
            remedy = "convert the frame or choose another checkpoint"
            if self.checkpoint.units == "lj":
                how = option("units", "lj")
                remedy = f"if the file is in reduced units and does not say so, read it with {how}"
            raise ValueError(
                f"{frame.error_prefix}the frame has the units {frame.units!r}, but {self.name} was trained "
                f"with {self.checkpoint.units!r}; {remedy}."
            )

    def ranges(self, name: str) -> tuple[float, float]:
        """Lowest and highest of a quantity in the training data."""
        ranges = self.checkpoint.config.get("ranges") or self.checkpoint.ranges
        low, high = ranges[name]
        return float(low), float(high)

    def outside(self, parts: Sequence[str], code: str = "outside-training") -> tuple[Message, ...]:
        """The message that a frame is outside of the range of validity, and why; none where nothing is."""
        if not parts:
            return ()
        return (
            Message(
                f"Outside of the range in which {self.name} is known to hold: {', and '.join(parts)}.",
                code,
            ),
        )

    def check_finite(self, frame: Frame, *outputs: Floats) -> None:
        """Raise ValueError unless all numbers that the networks gave for a frame are finite."""
        if not all(np.isfinite(values).all() for values in outputs):
            raise ValueError(
                f"{frame.error_prefix}the networks of {self.name} give numbers that are not finite; their "
                "weights are too large, so the checkpoint cannot be used."
            )

    def one_network(self, what: str) -> list[Message]:
        """Return a message that a single member has no spread over members."""
        if self.n_members > 1:
            return []
        return [
            Message(
                f"{self.name} holds one network, so the {what} uncertainty is 0 everywhere.", "one-network"
            )
        ]


# ---------------------------------------------------------------------------------------- members


def number_of(value: Any, name: str, *, positive: bool = False) -> float:
    """Return a setting that is a number; ValueError if it is none, or too large or small for float32."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_SETTING:
        raise ValueError(f"{name} cannot be {value!r:.60}")
    if positive and not value >= 1 / LARGEST_SETTING:
        raise ValueError(f"{name} must be positive, found {value}")
    return float(value)


def members_of(weights: Weights, shared: tuple[str, ...] = ()) -> list[dict[str, Floats]]:
    """The weights of each network; a weight of the member k is named `memberK.NAME`.

    shared : prefixes of the names of weights that the members share, which are left out

    Raises
    ------
    ValueError
        If there are no members, a member is missing, or a weight belongs to no member.
    """
    members: dict[int, dict[str, Floats]] = {}
    for name, values in weights.items():
        head, _, rest = name.partition(".")
        if head.startswith("member") and head[6:].isdigit():
            members.setdefault(int(head[6:]), {})[rest] = values
        elif not (shared and name.startswith(shared)):
            raise ValueError(f"{name} is not a weight of any member")
    if not members:
        raise ValueError("it holds no network")
    if sorted(members) != list(range(len(members))):
        raise ValueError(f"of {max(members) + 1} networks {len(members)} are there")
    return [members[number] for number in range(len(members))]


def member_weights(members: Iterable[Weights]) -> dict[str, Floats]:
    """The inverse of `members_of`."""
    return {f"member{k}.{key}": values for k, own in enumerate(members) for key, values in own.items()}


def check_weights(
    shapes: Mapping[str, tuple[int, ...]], members: Sequence[Mapping[str, NDArray[Any]]], what: str = ""
) -> None:
    """Raise ValueError unless every member has just these weights, all finite, and there is a member.

    what : begins the names in sentences; the number of the member if left out
    """
    if not members:
        raise ValueError("a network needs the weights of at least one member.")
    for number, weights in enumerate(members):
        prefix = what or f"member{number}"
        for name in sorted(set(shapes) - set(weights)):
            raise ValueError(f"{prefix}.{name} is missing.")
        for name in sorted(set(weights) - set(shapes)):
            raise ValueError(f"{prefix}.{name} is not a weight of this network.")
        for name, shape in shapes.items():
            if np.shape(weights[name]) != shape:
                raise ValueError(
                    f"{prefix}.{name} must have the shape {shape}, found {np.shape(weights[name])}."
                )
            if not (np.abs(weights[name]) <= LARGEST_WEIGHT).all():
                raise ValueError(f"{prefix}.{name} holds numbers that are not finite or larger than 1e10.")


def mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the members, (n_members, n); of one member exactly 0."""
    mean = values.mean(axis=0, dtype=np.float32)
    square = np.zeros_like(mean)
    if len(values) > 1:
        for one in values:
            square += (one - mean) ** 2
    return mean, np.sqrt(square / np.float32(len(values)))


# ------------------------------------------------------------------------------- range of validity


def density_outside(density: float, span: tuple[float, float], what: str) -> list[str]:
    """A sentence part on a number density outside the training data; empty if it is inside."""
    low, high = span
    if low * (1 - DENSITY_SLACK) <= density <= high * (1 + DENSITY_SLACK):
        return []
    return [f"there are {density:.4g} {what} where the training data have {span_text(low, high)}"]


def span_text(low: float, high: float) -> str:
    """`0.09 to 0.12`, or one number where both read the same."""
    return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
