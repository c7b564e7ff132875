"""Training of learners by cross-validation: the members that are checked on a fold are part of the ensemble.

Every member is trained on all systems but those of one fold. The ensemble of all folds has seen every system;
its scores are those of the members of each fold on the systems of that fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.mobility.crossvalidation import (
    Blend,
    Codes,
    Values,
    blend_of,
    target_scales,
    type_scores,
)
from phaseseg.families.mobility.filters import Floats, filter_outputs, network_inputs
from phaseseg.families.mobility.learner import (
    N_TYPES,
    Features,
    LearnerConfig,
    joint_weights,
    of_own_type,
)
from phaseseg.families.mobility.ridge import RidgeSums, standardized
from phaseseg.specs import Progress
from phaseseg.training.curves import Epoch, Member
from phaseseg.training.state import TrainingState


@dataclass(frozen=True, eq=False)
class Sample:
    """One system: its features, the targets (n, n_targets), and the group of systems that are not divided."""

    name: str
    features: Features
    targets: Values
    group: str = ""


@dataclass(frozen=True)
class LearnerTraining:
    """How networks are trained.

    folds : of the systems; repeats : members for each fold, which differ by their seed
    epochs : each shows every system once, one system a step
    learning_rate : highest of the one-cycle schedule; weight_decay, clip : of AdamW and of gradients
    seed : of the first member
    """

    folds: int = 5
    repeats: int = 2
    epochs: int = 30
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("epochs", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, found {getattr(self, name)}.")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a positive number, found {getattr(self, name)}.")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or a positive whole number, found {self.seed}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay must not be negative, found {self.weight_decay}.")


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights of a learner, and what it reaches on systems that it was not trained on.

    predictions : of each system, (n, n_targets) standardized, from the members of its fold
    scores : name of the part ("blend", "net", "ridge") to (n_systems, n_types, n_targets) correlations
    folds : (n_systems,) of each system
    """

    weights: dict[str, Floats]
    members: list[Member]
    predictions: list[Values]
    scores: Mapping[str, Values]
    blend: Blend
    folds: NDArray[np.int64]


def folds_of(groups: Sequence[str], folds: int) -> NDArray[np.int64]:
    """(n_systems,) the fold of each system; systems of one group stay together.

    Raises
    ------
    ValueError
        For fewer than two groups.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        raise ValueError(
            f"{len(names)} independent system{'s' * (len(names) != 1)} cannot be divided into training and "
            "validation; give at least two runs."
        )
    place = {name: number % min(folds, len(names)) for number, name in enumerate(names)}
    return np.array([place[name] for name in groups])


def train_learner(
    samples: Sequence[Sample], config: LearnerConfig, training: LearnerTraining | None = None, *,
    finished: Sequence[Member] = (), save: Callable[[list[Member]], None] | None = None,
    progress: Progress | None = None,
) -> Trained:  # fmt: skip
    """Train ridge and networks by cross-validation, and calibrate their blend on the systems left out.

    Parameters
    ----------
    samples : systems with features of this configuration
    finished : members that an interrupted training had finished
    save : called with all finished members after each
    progress : called with the completed fraction and a line; may raise to stop

    Raises
    ------
    ValueError
        For fewer than two groups, a type that does not occur, or a loss that is not finite.
    """
    training = training or LearnerTraining()
    folds = folds_of([sample.group or sample.name for sample in samples], training.folds)
    codes = [sample.features.codes for sample in samples]
    standard = [standardized(sample.targets, c)[0] for sample, c in zip(samples, codes, strict=True)]
    sums = RidgeSums([sample.features.ridge for sample in samples], standard, codes, N_TYPES)
    ridges: list[Values] = [np.zeros(0)] * len(samples)
    for fold in np.unique(folds):
        ridge = sums.solve(np.flatnonzero(folds != fold).tolist(), config.penalty)
        for k in np.flatnonzero(folds == fold).tolist():
            ridges[k] = ridge(samples[k].features.ridge, codes[k])
    shared = {f"ridge.{k}": v for k, v in sums.solve(range(len(samples)), config.penalty).weights().items()}
    members: list[Member] = []
    networks: list[Values] | None = None
    if config.method == "net":
        center, scale = input_scales(samples, codes)
        shared |= {"inputs.center": center, "inputs.scale": scale}
        inputs = [
            network_inputs(s.features.rows, c, center, scale) for s, c in zip(samples, codes, strict=True)
        ]
        members = _members(samples, inputs, standard, folds, config, training, finished, save, progress)
        networks, n_folds = [], int(folds.max()) + 1
        for sample, x, fold in zip(samples, inputs, folds, strict=True):
            assert sample.features.filters is not None
            own = members[int(fold) :: n_folds]
            outputs = [
                filter_outputs(m.weights, x, sample.features.filters, config.rounds) for m in own
            ]  # fmt: skip
            networks.append(np.mean([of_own_type(o, sample.features.codes) for o in outputs], axis=0))
    targets = [sample.targets for sample in samples]
    blend, predictions = blend_of(networks, ridges, targets, codes, config.ridge_share)
    mean, spread = target_scales(targets, codes)
    shared |= {
        "targets.mean": mean.astype(np.float32), "targets.scale": spread.astype(np.float32),
        "blend": blend.factors.astype(np.float32), "spread": blend.spread.astype(np.float32),
    }  # fmt: skip
    parts = {"blend": predictions, "ridge": ridges} | ({} if networks is None else {"net": networks})
    scores = {
        name: np.stack([type_scores(p, y, c) for p, y, c in zip(found, targets, codes, strict=True)])
        for name, found in parts.items()
    }
    weights = joint_weights(shared, [member.weights for member in members])
    return Trained(weights, members, predictions, scores, blend, folds)


def input_scales(samples: Sequence[Sample], codes: Sequence[Codes]) -> tuple[Floats, Floats]:
    """(n_types, columns) mean and deviation of the inputs of the network for each type."""
    center, scale = [], []
    for t in range(N_TYPES):
        rows = np.concatenate([s.features.rows[c == t] for s, c in zip(samples, codes, strict=True)])
        if len(rows) < 2:
            raise ValueError(f"type {t} has {len(rows)} particles; training needs both types.")
        center.append(rows.mean(axis=0, dtype=np.float64))
        spread = rows.std(axis=0, dtype=np.float64)
        scale.append(np.where(spread > 1e-6 * np.maximum(np.abs(center[-1]), 1e-6), spread, 1.0))
    return np.stack(center).astype(np.float32), np.stack(scale).astype(np.float32)


# ------------------------------------------------------------------------------------------ network


def _members(
    samples: Sequence[Sample], inputs: Sequence[Floats], standard: Sequence[Values], folds: NDArray[np.int64],
    config: LearnerConfig, training: LearnerTraining, finished: Sequence[Member],
    save: Callable[[list[Member]], None] | None, progress: Progress | None,
) -> list[Member]:  # fmt: skip
    from phaseseg.training.loop import deterministic

    members = list(finished)
    n_folds = int(folds.max()) + 1
    total = n_folds * training.repeats
    with deterministic():
        for number in range(len(members), total):
            held = np.flatnonzero(folds == number % n_folds)
            trained = np.flatnonzero(folds != number % n_folds)
            epochs = _epochs(samples, inputs, standard, trained, held, config, training, number)
            kept: list[Epoch] = []
            weights: dict[str, Any] = {}
            for epoch, state in epochs:
                kept.append(epoch)
                weights = state
                if progress is not None:
                    done = (number + epoch.epoch / training.epochs) / total
                    of = f"network {number + 1}/{total}, epoch {epoch.epoch}"
                    score = 1 - epoch.validation_error
                    progress(done, f"{of}: loss {epoch.loss:.3f}, correlation {score:.3f}")
            # The rate falls to zero, so the last weights are the ones to keep: nothing is chosen on the fold.
            members.append(Member(training.seed + number, weights, len(kept), kept))
            if save is not None:
                save(members)
    return members


def _epochs(
    samples: Sequence[Sample], inputs: Sequence[Floats], standard: Sequence[Values],
    trained: NDArray[np.int64], held: NDArray[np.int64], config: LearnerConfig, training: LearnerTraining,
    number: int,
) -> Iterator[tuple[Epoch, dict[str, Any]]]:  # fmt: skip
    """Train one network; yield each epoch, with the weights after the last."""
    import torch

    from phaseseg.families.mobility.filter_network import FilterNetwork

    seed = training.seed + number
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FilterNetwork(
        config.columns + 1, config.n_outputs, config.hidden, config.rounds, config.dropout
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.epochs * len(trained)
    )
    tensors = {k: torch.from_numpy(inputs[k]) for k in (*trained, *held)}
    aims = {k: torch.from_numpy(standard[k].astype(np.float32)) for k in (*trained, *held)}
    own = {k: _indices(samples[k].features.codes, len(config.targets)) for k in (*trained, *held)}

    def loss_of(k: int) -> Any:
        squares = (network(tensors[k], samples[k].features.filters).gather(1, own[k]) - aims[k]) ** 2
        codes = torch.from_numpy(samples[k].features.codes)
        parts = [squares[codes == t].mean() for t in range(N_TYPES) if bool((codes == t).any())]
        return sum(parts) / len(parts)

    for number_of_epoch in range(1, training.epochs + 1):
        begin, total = perf_counter(), 0.0
        network.train()
        for k in rng.permutation(trained):
            optimizer.zero_grad()
            loss = loss_of(k)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip)
            optimizer.step()
            schedule.step()
            total += float(loss.item())
        network.eval()
        with torch.no_grad():
            validation = [float(loss_of(k)) for k in held]
            scores = [
                type_scores(
                    network(tensors[k], samples[k].features.filters).gather(1, own[k]).numpy(),
                    samples[k].targets, samples[k].features.codes,
                )[0, 0]
                for k in held
            ]  # fmt: skip
        if not np.isfinite(total):
            raise ValueError(
                f"the loss of epoch {number_of_epoch} is not a finite number; try a lower learning rate than "
                f"{training.learning_rate:g}."
            )
        epoch = Epoch(
            number, seed, number_of_epoch, float(schedule.get_last_lr()[0]), total / len(trained),
            float(np.mean(validation)), 1 - float(np.mean(scores)), perf_counter() - begin,
        )  # fmt: skip
        last = number_of_epoch == training.epochs
        state = {name: v.numpy().copy() for name, v in network.state_dict().items()} if last else {}
        yield epoch, state


def _indices(codes: Codes, n_targets: int) -> Any:
    """(n, n_targets) columns of the outputs that belong to the type of each particle."""
    import torch

    return torch.from_numpy(codes.astype(np.int64)[:, None] * n_targets + np.arange(n_targets))


# -------------------------------------------------------------------------------------------- state


def save_members(state: TrainingState, members: Sequence[Member]) -> None:
    """Save the finished members of a training."""
    import torch

    tensors = {
        f"member{k}.{name}": torch.from_numpy(values)
        for k, member in enumerate(members)
        for name, values in member.weights.items()
    }
    plain = [
        {"seed": m.seed, "best_epoch": m.best_epoch, "epochs": [asdict(epoch) for epoch in m.epochs]}
        for m in members
    ]  # fmt: skip
    state.save({"members": plain}, tensors, f"after member {len(members)}")


def restored_members(content: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[Member]:
    """The inverse of `save_members`, for what `TrainingState.found` holds."""
    members = []
    for k, entry in enumerate(content["members"]):
        start = f"member{k}."
        own = {name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)}
        weights = {name: tensor.numpy().copy() for name, tensor in own.items()}
        epochs = [Epoch(**epoch) for epoch in entry["epochs"]]
        members.append(Member(entry["seed"], weights, entry["best_epoch"], epochs))
    return members
