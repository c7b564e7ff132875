"""Learners: ridge regression and graph filter networks on descriptors and scalars, ready for prediction.

Neither needs PyTorch. What a learner needs of a structure (thermal, inherent or cage positions) is in its
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.descriptors import averages, averaging, structure_descriptors
from phaseseg.families.mobility.filters import (
    N_OPERATORS,
    Filters,
    filter_outputs,
    filters_of,
    network_inputs,
)
from phaseseg.families.mobility.predictors import Apply, Prediction, Seen
from phaseseg.families.mobility.ridge import PENALTY, Ridge
from phaseseg.families.mobility.scalars import CAGE_SCALARS, needs_cage, scalar_values
from phaseseg.families.mobility.settings import Place, places_of
from phaseseg.frame import Frame
from phaseseg.nn.config import NetworkSettings
from phaseseg.nn.model import check_weights, member_weights, members_of
from phaseseg.specs import Progress

if TYPE_CHECKING:
    from phaseseg.families.mobility.structure import Structure

Floats = NDArray[np.float32]
Values = NDArray[np.float64]

N_TYPES = 2
N_DESCRIPTORS = 174
COVERAGE_FACTOR = 1.6448536
"""Half the width of a central 90 % interval of a normal distribution, in standard deviations."""
SHARED = "shared."
"""Prefix of the weights that the members of a network share; a ridge has them in its only member."""
SYMMETRIES = frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"})


@dataclass(frozen=True)
class LearnerConfig(NetworkSettings):
    """What a learner sees, and its size.

    Parameters
    ----------
    method : "ridge", or "net" for graph filter networks blended with a ridge
    positions : where descriptors are computed: "thermal", "inherent", "cage" for the mean positions in the
        cage, "samples" for the mean of the descriptors over the kept configurations of the cage runs; several
        are joined by +, as in "samples+thermal", and their descriptors follow one another
    scalars : names, see `scalar_values`
    targets : names of the per-particle quantities that are predicted
    descriptor_rounds, scalar_rounds : neighbor averagings of the features of the ridge, all of which it sees
    penalty : of the ridge, times the number of particles
    hidden, rounds, dropout : of the network
    ridge_share : weight of the ridge relative to the network, both standardized
    """

    method: str = "net"
    positions: str = "samples"
    scalars: tuple[str, ...] = CAGE_SCALARS
    targets: tuple[str, ...] = ("propensity",)
    descriptor_rounds: int = 2
    scalar_rounds: int = 8
    penalty: float = PENALTY
    hidden: int = 32
    rounds: int = 7
    dropout: float = 0.25
    ridge_share: float = 1.5

    def __post_init__(self) -> None:
        for name in ("scalars", "targets"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.method not in ("net", "ridge"):
            raise ValueError(f"method must be 'net' or 'ridge', found {self.method!r}.")
        places_of(self.positions)
        self._check_counts("hidden", "rounds")
        if min(self.descriptor_rounds, self.scalar_rounds) < 0:
            raise ValueError("the rounds of averaging cannot be negative.")
        if not self.penalty > 0:
            raise ValueError(f"penalty must be positive, found {self.penalty}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, found {self.dropout}.")
        if not self.ridge_share >= 0:
            raise ValueError(f"ridge_share must not be negative, found {self.ridge_share}.")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets must be distinct names, found {self.targets}.")

    @property
    def places(self) -> tuple[Place, ...]:
        """Where descriptors are computed."""
        return places_of(self.positions)

    @property
    def needs(self) -> frozenset[str]:
        """What must be known of a frame besides its positions: "inherent" and "cage", as far as needed."""
        cage = bool({"cage", "samples"} & {*self.places}) or needs_cage(self.scalars)
        inherent = cage or "inherent" in self.places or bool(self.scalars)
        return frozenset(["inherent"] * inherent + ["cage"] * cage)

    @property
    def n_descriptors(self) -> int:
        """Number of descriptors at all places."""
        return N_DESCRIPTORS * len(self.places)

    @property
    def columns(self) -> int:
        """Number of descriptors and scalars."""
        return self.n_descriptors + len(self.scalars)

    @property
    def ridge_columns(self) -> int:
        return self.n_descriptors * (self.descriptor_rounds + 1) + len(self.scalars) * (
            self.scalar_rounds + 1
        )

    @property
    def n_outputs(self) -> int:
        return N_TYPES * len(self.targets)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one network; of a ridge all of its weights."""
        if self.method == "ridge":
            return self.shared_shapes()
        h = self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "input.weight": (h, self.columns + 1), "input.bias": (h,),
            "output.weight": (self.n_outputs, (self.rounds + 1) * h), "output.bias": (self.n_outputs,),
        }  # fmt: skip
        for k in range(self.rounds):
            shapes |= {
                f"norm.{k}.weight": (h,), f"norm.{k}.bias": (h,), f"own.{k}.weight": (h, h),
                f"own.{k}.bias": (h,), f"sums.{k}.weight": (h, N_OPERATORS * h),
            }  # fmt: skip
        return shapes

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what the members share."""
        n, columns = len(self.targets), self.ridge_columns
        shapes: dict[str, tuple[int, ...]] = {
            "ridge.center": (N_TYPES, columns), "ridge.scale": (N_TYPES, columns),
            "ridge.coefficients": (N_TYPES, columns, n), "targets.mean": (N_TYPES, n),
            "targets.scale": (N_TYPES, n), "blend": (N_TYPES, n, 2), "spread": (N_TYPES, n, 2),
        }  # fmt: skip
        if self.method == "net":
            shapes |= {"inputs.center": (N_TYPES, self.columns), "inputs.scale": (N_TYPES, self.columns)}
        return shapes


@dataclass(frozen=True, eq=False)
class Features:
    """What a learner sees of a structure of n particles.

    rows : (n, n_descriptors + n_scalars) float32, descriptors, then scalars
    ridge : (n, columns) float32, with their averages over neighbors
    filters : operators of the network, or None for a ridge
    codes : (n,) int32
    """

    rows: Floats
    ridge: Floats
    filters: Filters | None
    codes: NDArray[np.int32]


def features_of(
    frame: Frame, codes: NDArray[np.int32], structure: Structure | None, config: LearnerConfig, *,
    progress: Progress | None = None,
) -> Features:  # fmt: skip
    """Compute the features of a frame; ValueError if its structure lacks what is needed.

    codes : (n,) 0 for A, 1 for B
    structure : with the inherent structure and the cages, as far as `config.needs` them

    Averages and operators are those of inherent positions (of thermal ones if nothing else is needed), where
    neighbors are better defined.
    """
    calm, scalars = frame, np.zeros((frame.n_atoms, 0), dtype=np.float32)
    if config.needs:
        if structure is None or ("cage" in config.needs and structure.cage is None):
            raise ValueError(f"the structure lacks {' or '.join(sorted(config.needs))}, which is needed.")
        calm = frame.replace(positions=structure.inherent.positions)
        scalars = scalar_values(structure, config.scalars)
    descriptors = np.concatenate(
        [_descriptors(frame, codes, structure, place, progress) for place in config.places], axis=1
    )
    operator = averaging(calm)
    ridge = np.concatenate(
        [averages(descriptors, operator, config.descriptor_rounds),
         averages(scalars, operator, config.scalar_rounds)], axis=1,
    )  # fmt: skip
    filters = filters_of(calm, codes) if config.method == "net" else None
    return Features(np.concatenate([descriptors, scalars], axis=1), ridge, filters, codes)


def _descriptors(
    frame: Frame, codes: NDArray[np.int32], structure: Structure | None, place: Place,
    progress: Progress | None,
) -> Floats:  # fmt: skip
    if structure is None or place == "thermal":
        return structure_descriptors(frame, codes)
    if place == "inherent" or structure.cage is None:
        return structure_descriptors(frame.replace(positions=structure.inherent.positions), codes)
    if place == "cage":
        return structure_descriptors(frame.replace(positions=structure.cage.positions), codes)
    samples = structure.cage.samples
    total = np.zeros((frame.n_atoms, N_DESCRIPTORS))
    for k, sample in enumerate(samples):
        if progress is not None:
            progress(k / len(samples), f"descriptors of configuration {k + 1} of {len(samples)}")
        total += structure_descriptors(frame.replace(positions=frame.positions + sample), codes)
    return np.asarray(total / len(samples), dtype=np.float32)


class Estimate(NamedTuple):
    """Targets of n particles with their uncertainty.

    mean : (n, n_targets) float64, in the units of the target
    spread : (n, n_targets) float64; mean ± 1.645 spread holds 90 % of the particles of systems that were not
        trained on, by cross-validation
    """

    mean: Values
    spread: Values


class Learner:
    """A trained learner.

    Parameters
    ----------
    config : LearnerConfig
    weights : arrays by name, as in a checkpoint: `shared.NAME` for those of `config.shared_shapes()`, and
        `memberK.NAME` for those of `config.weight_shapes()` of each member

    Raises
    ------
    ValueError
        If a weight is missing, unknown, of another shape or not finite.
    """

    def __init__(self, config: LearnerConfig, weights: Mapping[str, Floats]) -> None:
        self.config = config
        members = members_of(weights, (SHARED,))
        check_weights(config.weight_shapes(), members)
        shared: Mapping[str, Floats] = {
            k.removeprefix(SHARED): v for k, v in weights.items() if k.startswith(SHARED)
        }
        if config.method == "ridge":
            if shared or len(members) > 1:
                raise ValueError("a ridge has one member and no other weights.")
            shared, members = members[0], []
        else:
            check_weights(config.shared_shapes(), [shared], what="shared")
        self.members: Sequence[Mapping[str, Floats]] = members
        self._shared = shared
        self._ridge = Ridge(*(shared[f"ridge.{name}"] for name in ("center", "scale", "coefficients")))

    @property
    def needs(self) -> frozenset[str]:
        return self.config.needs

    def predict(
        self, frame: Frame, codes: NDArray[np.int32], structure: Structure | None = None, *,
        progress: Progress | None = None,
    ) -> Estimate:  # fmt: skip
        """Predict the targets of every particle of a frame; see `features_of`."""
        part = _part(progress, 0.0, 0.9)
        features = features_of(frame, codes, structure, self.config, progress=part)
        return self.of_features(features, progress=_part(progress, 0.9, 1.0))

    def of_features(self, features: Features, *, progress: Progress | None = None) -> Estimate:
        """The same for features that are known already."""
        shared, codes = self._shared, features.codes
        standard = self._ridge(features.ridge, codes) * shared["blend"][codes][:, :, 1]
        if self.members:
            network = self.network_outputs(features, progress=progress).mean(axis=0)
            standard += network * shared["blend"][codes][:, :, 0]
        scale = shared["targets.scale"][codes].astype(np.float64)
        constant, slope = np.moveaxis(shared["spread"][codes].astype(np.float64), 2, 0)
        # The fit of the spread is not carried beyond what training has seen.
        spread = np.exp(constant + slope * np.clip(standard, -3, 3))
        return Estimate(shared["targets.mean"][codes] + scale * standard, scale * spread)

    def network_outputs(self, features: Features, *, progress: Progress | None = None) -> Values:
        """(n_members, n, n_targets): standardized targets from each network, for each particle's type."""
        assert features.filters is not None
        codes, shared = features.codes, self._shared
        inputs = network_inputs(features.rows, codes, shared["inputs.center"], shared["inputs.scale"])
        found = np.empty((len(self.members), len(codes), len(self.config.targets)))
        for k, weights in enumerate(self.members):
            if progress is not None:
                progress(k / len(self.members), f"network {k + 1} of {len(self.members)}")
            outputs = filter_outputs(weights, inputs, features.filters, self.config.rounds)
            found[k] = of_own_type(outputs, codes)
        return found


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    """The part of a longer work from `begin` to `end`."""
    if progress is None:
        return None
    return lambda done, text: progress(begin + done * (end - begin), text)


def of_own_type(outputs: Floats, codes: NDArray[np.int32]) -> Floats:
    """(n, n_targets) from (n, 2 n_targets) outputs for A and then for B: those of each particle's type."""
    split = outputs.reshape(len(codes), N_TYPES, -1)
    return np.asarray(split[np.arange(len(codes)), codes])


def joint_weights(
    shared: Mapping[str, Floats], members: Sequence[Mapping[str, Floats]] = ()
) -> dict[str, Floats]:
    """Arrays of a checkpoint from the shared ones and those of each member; of a ridge without members."""
    if not members:
        return member_weights([shared])
    return {**{f"{SHARED}{name}": values for name, values in shared.items()}, **member_weights(members)}


class LearnerPredictor:
    """A learner as a method of the family; see `predictors.Predictor`."""

    symmetries = SYMMETRIES
    halo = inf

    def __init__(self, checkpoint: Checkpoint, members: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self.config = LearnerConfig.from_dict(checkpoint.config["network"])
        self.learner = Learner(self.config, checkpoint.weights)
        if len(checkpoint.config["targets"]) != len(self.config.targets):
            raise ValueError(f"{len(self.config.targets)} targets do not fit those of the settings")

    @property
    def needs(self) -> frozenset[str]:
        return self.config.needs

    def make(self, kind: str) -> Apply:
        """The same compiled loops on every device: there is nothing that a GPU would speed up."""

        def apply(seen: Seen, progress: Progress) -> Prediction:
            found = self.learner.predict(seen.frame, seen.codes, seen.structure, progress=progress)
            return Prediction(
                np.ascontiguousarray(found.mean.T, dtype=np.float32),
                np.ascontiguousarray(found.spread.T, dtype=np.float32),
            )

        return apply
