"""MobilityModel: from a frame to the mobility of its particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, isclose
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.display import listed
from phaseseg.families import Part, Progress
from phaseseg.families.mobility.mobility_tables import correlation_table, histogram_table
from phaseseg.families.mobility.predictors import Prediction, Seen, predictor_of
from phaseseg.families.mobility.rules import MobilityRule
from phaseseg.families.mobility.settings import SPECIES
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame
from phaseseg.nn.device import Device
from phaseseg.nn.mixtures import codes_of_mixture, fraction_outside
from phaseseg.nn.model import NetworkModel, density_outside, number_of, span_text

if TYPE_CHECKING:
    from phaseseg.families.mobility.structure import Structure

Floats = NDArray[np.float32]

TEMPERATURE_SLACK = 0.01
# Share of the work that is done when the structure is known.
_STRUCTURE_SHARE = 0.95


@dataclass(frozen=True)
class Target:
    """What a checkpoint predicts.

    name : of the quantity, "propensity" unless another scalar was trained
    time : at which it was measured, in the time unit of the frames, or None
    types : those that it was trained on, among A and B
    calibration : (factor, floor) for each of them: uncertainty^2 = (factor * spread)^2 + floor^2
    """

    name: str
    time: float | None
    types: tuple[str, ...]
    calibration: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        return self.name if self.time is None else f"{self.name} at t = {self.time:g}"


@dataclass(frozen=True, eq=False)
class MobilityOutput:
    """What the networks give for a frame.

    mean, spread : (n_targets, n_atoms) float32
    codes : (n_atoms,) int32; 0 for A, 1 for B
    inherent_displacement, cage_variance : (n_atoms,) float64, or None where the networks do without
    messages : about the range of validity
    """

    mean: Floats
    spread: Floats
    codes: NDArray[np.int32]
    inherent_displacement: NDArray[np.float64] | None = None
    cage_variance: NDArray[np.float64] | None = None
    messages: tuple[Message, ...] = ()


class MobilityModel(NetworkModel):
    """The networks or regressions of a checkpoint that predict the mobility of particles.

    targets : what they predict; the other attributes are those of `NetworkModel`
    """

    family = "mobility"
    rule_type = MobilityRule
    shared = ("shared.",)

    def _read(self, checkpoint: Checkpoint) -> None:
        settings = checkpoint.config
        species = settings.get("species", list(SPECIES))
        if not isinstance(species, list) or len(set(map(str, species))) != 2:
            raise ValueError(f"species must be two names, found {species!r:.60}")
        self.species = (str(species[0]), str(species[1]))
        self.targets = [_target(entry) for entry in settings["targets"]]
        if not self.targets:
            raise ValueError("it has no target")
        self._densities, self._fractions = self.ranges("number_density"), self.ranges("b_fraction")
        known = checkpoint.ranges.get("temperature")
        self._temperatures = None if known is None else (float(known[0]), float(known[1]))
        self.method = settings["method"]
        self.predictor = predictor_of(self.method, checkpoint, self.members)
        self.potential = settings.get("potential")
        if self.potential is not None:
            from phaseseg.families.mobility.potentials import LennardJonesMixture

            self.potential = LennardJonesMixture.from_dict(self.potential)

    @property
    def symmetries(self) -> frozenset[str]:
        """Those of the predictions from thermal positions; none to the last digits with a structure.

        At a given structure predictions are invariant, but minimization ends within a tolerance, and cage
        runs are chaotic.
        """
        return frozenset() if self.predictor.needs else self.predictor.symmetries

    @property
    def halo(self) -> float:
        return self.predictor.halo if not self.predictor.needs else inf

    def _check_rule(self, rule: MobilityRule) -> None:
        self._target_of(rule)

    def target_of(self, rule: MobilityRule) -> Target:
        """The target that a rule asks for; ValueError for one that the checkpoint does not know."""
        return self.targets[self._target_of(rule)]

    def _target_of(self, rule: MobilityRule) -> int:
        """The number of the target that a rule asks for."""
        own = [k for k, target in enumerate(self.targets) if rule.target in (None, target.name)]
        if not own:
            names = list(dict.fromkeys(target.name for target in self.targets))
            raise ValueError(
                f"{self.name} does not predict {rule.target!r}, but {listed(names)}. Leave the "
                "option target out, or choose one of them."
            )
        if rule.time is None:
            return own[0]
        times = [self.targets[k].time for k in own]
        for number, time in zip(own, times, strict=True):
            if time is not None and isclose(time, rule.time, rel_tol=1e-6):
                return number
        known = ", ".join(f"{time:g}" for time in times if time is not None)
        raise ValueError(
            f"{self.name} has no prediction for time {rule.time:g}; its times are {known or 'not stated'}. "
            "Leave the option time out, or choose one of them."
        )

    def _make(self, kind: str) -> Callable[..., Prediction]:
        return self.predictor.make(kind)

    # The expensive half ---------------------------------------------------------------------------

    def run(
        self,
        frame: Frame,
        rule: MobilityRule | None = None,
        *,
        device: Device = "auto",
        progress: Progress | None = None,
    ) -> MobilityOutput:
        """Find the structure that the networks need, and run them.

        Parameters
        ----------
        rule : of its options `b`, `temperature`, `potential` and `seed` are used
        device : "auto" or "cpu" for the compiled loops, "torch" for torch on the processor, "cuda" for torch
            on a GPU
        progress : called with the completed fraction and a line; it may raise to stop

        Raises
        ------
        ValueError
            If there are no particles or only one type, species are unknown, units differ, the particles lie
            in a plane, the device is unknown, the temperature is needed and not known, the frame cannot be
            minimized or its cages cannot be sampled.
        ImportError
            If the device needs torch and torch is not installed.
        """
        rule = self.rule() if rule is None else rule
        note = progress or (lambda done, text: None)
        network, codes = self.network(device), self.codes(frame, rule.b)
        needs, begin, structure = self.predictor.needs, 0.0, None
        if needs:
            begin = _STRUCTURE_SHARE
            structure = self.structure(
                frame, rule, cage="cage" in needs, progress=lambda done, text: note(done * begin, text)
            )
        found = network(
            Seen(frame, codes, structure), lambda done, text: note(begin + (1 - begin) * done, text)
        )
        self.check_finite(frame, found.mean, found.spread)
        displacement = variance = None
        if structure is not None:
            displacement = np.array(structure.inherent.displacement, dtype=np.float64)
            if structure.cage is not None:
                variance = np.array(structure.cage.variance, dtype=np.float64)
        messages = self.validity(frame, codes, rule)
        note(1.0, "mobility")
        return MobilityOutput(found.mean, found.spread, codes, displacement, variance, messages)

    def structure(
        self, frame: Frame, rule: MobilityRule, *, cage: bool, progress: Progress | None = None
    ) -> Structure:
        """Minimize a frame and sample its cages, as the networks see it, or take both from the cache.

        cage : whether to sample the cages, which needs the temperature

        Raises
        ------
        ValueError
            As `run`.
        """
        from phaseseg.families.mobility.potentials import KOB_ANDERSEN
        from phaseseg.families.mobility.structure import structure_of

        potential = rule.mixture or self.potential or KOB_ANDERSEN
        frame = potential.named(frame, self.codes(frame, rule.b))
        return structure_of(
            frame, temperature=rule.temperature, potential=potential, cage=cage, seed=rule.seed,
            progress=progress,
        )  # fmt: skip

    def codes(self, frame: Frame, b: str | tuple[str, ...] | None = None) -> NDArray[np.int32]:
        """Return 0 for A and 1 for B.

        b : names of the species B, all others are A; by default those of the training

        Raises
        ------
        ValueError
            For a frame that `check_frame` refuses or whose particles lie in a plane, if `b` is left out and a
            particle is neither A nor B, or if one of the two types is missing.
        """
        self.check_frame(frame)
        codes = codes_of_mixture(frame, self.species, b, self.name)
        if frame.n_dimensions != 3:
            raise ValueError(
                f"{frame.error_prefix}the particles lie in a plane, but {self.name} was trained in three "
                "dimensions."
            )
        return codes

    def validity(self, frame: Frame, codes: NDArray[np.int32], rule: MobilityRule) -> tuple[Message, ...]:
        """The message that density, composition or temperature are not those of the training.

        If only the temperature is not, another message names the bundled checkpoint of the same kind that was
        trained there.
        """
        parts = []
        if frame.pbc.all():
            parts += density_outside(frame.n_atoms / frame.volume, self._densities, "particles per σ^3")
        else:
            parts.append("the cell is not periodic along all axes")
        parts += fraction_outside(float(codes.mean()), self._fractions)
        temperature = rule.temperature
        if temperature is None:
            temperature = frame.info.get("temperature")
        better: tuple[Message, ...] = ()
        if temperature is not None and self.is_trained_at(temperature) is False:
            assert self._temperatures is not None
            low, high = self._temperatures
            parts.append(
                f"the temperature is {temperature:.4g}, but {span_text(low, high)} in the training data"
            )
            if len(parts) == 1:  # nothing else is outside
                better = self._trained_there(temperature)
        return self.outside(parts) + better

    def is_trained_at(self, temperature: float) -> bool | None:
        """Whether a temperature is in the training data; None if that is not stated."""
        if self._temperatures is None:
            return None
        low, high = self._temperatures
        return low * (1 - TEMPERATURE_SLACK) <= temperature <= high * (1 + TEMPERATURE_SLACK)

    def _trained_there(self, temperature: float) -> tuple[Message, ...]:
        """The message that another checkpoint was trained at a temperature, or none."""
        kind = (self.method, self.predictor.needs)
        for other in _bundled_models():
            if other.is_trained_at(temperature) and (other.method, other.predictor.needs) == kind:
                text = f"{other.name} was trained at the temperature {temperature:.4g}."
                return (Message(text, "other-checkpoint"),)
        return ()

    def merge(self, frame: Frame, parts: Sequence[Part]) -> MobilityOutput:
        """The output of a frame from those of slabs; see `Model.merge`."""
        n = frame.n_atoms
        mean, spread = np.empty((2, len(self.targets), n), dtype=np.float32)
        codes = np.empty(n, dtype=np.int32)
        for part in parts:
            rows = part.atoms[part.own]
            mean[:, rows], spread[:, rows] = part.output.mean[:, part.own], part.output.spread[:, part.own]
            codes[rows] = part.output.codes[part.own]
        return MobilityOutput(mean, spread, codes, messages=self.validity(frame, codes, self.rule()))

    # The cheap half -------------------------------------------------------------------------------

    def fields(
        self, frame: Frame, output: MobilityOutput, rule: MobilityRule | None = None, **options: Any
    ) -> Fields:
        """Compute the fields from an output; cheap to repeat with another target, time or share.

        Parameters
        ----------
        output : result of `run` for this frame
        rule : of a prediction; or its options as keywords

        Returns
        -------
        Fields
            Per atom `propensity` and `propensity_uncertainty` of the target that was asked for; `mobile`, the
            top `mobile_share` among the particles of each trained type; where the networks use them
            `inherent_displacement` (σ) and `cage_variance` (σ^2). Per frame `n_mobile` and the means
            `mean_propensity_a` and `mean_propensity_b`. The tables `mobility_histogram` and
            `mobility_correlation` of the trained types, and `propensity_by_time` for several times.
        """
        rule = self.rule(**options) if rule is None else rule
        number = self._target_of(rule)
        target = self.targets[number]
        mean, codes = output.mean[number].copy(), output.codes
        mobile = np.zeros(len(codes), dtype=np.int8)
        uncertainty = np.zeros(len(codes), dtype=np.float32)
        numbers: dict[str, Any] = {}
        said = []
        for code, name in enumerate(SPECIES):
            own = codes == code
            if name not in target.types:
                uncertainty[own] = output.spread[number][own]
                continue
            factor, floor = target.calibration[target.types.index(name)]
            uncertainty[own] = np.hypot(np.float32(factor) * output.spread[number][own], np.float32(floor))
            mobile[own] = top_share(mean[own], rule.mobile_share)
            average = float(mean[own].mean(dtype=np.float64))
            numbers[f"mean_propensity_{name.lower()}"] = average
            said.append(f"{average:.4g} for {name}")
        n_mobile = int(mobile.sum())
        messages = [
            Message(f"Mean {target.label} by {self.name}: {', '.join(said)}.", "mean-propensity"),
            *self._untrained(target),
        ]
        if not (output.spread.any() or any(floor for _, floor in target.calibration)):
            messages += self.one_network("propensity")
        values: dict[str, Any] = {
            "propensity": mean, "propensity_uncertainty": uncertainty, "mobile": mobile,
        }  # fmt: skip
        for name in ("inherent_displacement", "cage_variance"):
            if (known := getattr(output, name)) is not None:
                values[name] = known.copy()
        times = [k for k, other in enumerate(self.targets) if other.name == target.name]
        if len(times) > 1:
            values["propensity_by_time"] = self._by_time(output, times)
        trained = np.flatnonzero(np.array([name in target.types for name in SPECIES])[codes])
        part = frame if len(trained) == len(codes) else frame.take(trained)
        values["mobility_histogram"] = histogram_table(mean[trained], codes[trained], SPECIES)
        values["mobility_correlation"] = correlation_table(part, mean[trained], codes[trained], SPECIES)
        messages = [*frame.messages, *messages, *output.messages]
        return Fields(values | {"n_mobile": n_mobile} | numbers, messages)

    def _untrained(self, target: Target) -> list[Message]:
        untrained = [name for name in SPECIES if name not in target.types]
        if not untrained:
            return []
        name = untrained[0]
        return [
            Message(
                f"{self.name} was not trained on particles {name}: their propensities mean nothing, and none "
                "of them is mobile.",
                "untrained-type",
            )
        ]

    def _by_time(self, output: MobilityOutput, numbers: Sequence[int]) -> Table:
        """Means of the targets with these numbers."""
        targets = [self.targets[number] for number in numbers]
        columns: dict[str, Any] = {"time": np.array([np.nan if t.time is None else t.time for t in targets])}
        for code, name in enumerate(SPECIES):
            own = output.mean[numbers][:, output.codes == code].astype(np.float64)
            trained = np.array([name in target.types for target in targets])
            columns[f"mean {name}"] = np.where(trained, own.mean(axis=1), np.nan)
            columns[f"deviation {name}"] = np.where(trained, own.std(axis=1), np.nan)
        return Table("Propensity by time", columns)


def top_share(values: NDArray[np.floating[Any]], share: float) -> NDArray[np.int8]:
    """(n,) 1 for the share of the largest values, rounded to whole particles and at least one; ties by place.

    Examples
    --------
    >>> top_share(np.array([0.3, 0.9, 0.1, 0.9, 0.2]), 0.4)
    array([0, 1, 0, 1, 0], dtype=int8)
    """
    n = max(1, round(share * len(values)))
    chosen = np.zeros(len(values), dtype=np.int8)
    chosen[np.argsort(-values, kind="stable")[:n]] = 1
    return chosen


@cache
def _bundled_models() -> tuple[MobilityModel, ...]:
    return tuple(MobilityModel(load_checkpoint(path)) for path in bundled_checkpoints("mobility").values())


def _target(entry: Any) -> Target:
    """A target from the settings of a checkpoint; KeyError, TypeError and ValueError for damaged ones."""
    time = entry.get("time")
    types = tuple(entry["types"])
    if not types or not set(types) <= set(SPECIES) or len(set(types)) != len(types):
        raise ValueError(f"the types of a target cannot be {list(types)!r:.60}")
    pairs = entry.get("calibration") or [(1.0, 0.0)] * len(types)
    calibration = [tuple(number_of(value, "calibration") for value in pair) for pair in pairs]
    if len(calibration) != len(types) or any(len(pair) != 2 or min(pair) < 0 for pair in calibration):
        raise ValueError("the calibration must be a factor and a floor for each type")
    if not isinstance(entry["name"], str):
        raise TypeError("a target needs a name")
    return Target(
        entry["name"], None if time is None else number_of(time, "time", positive=True), types,
        tuple((pair[0], pair[1]) for pair in calibration),
    )  # fmt: skip
