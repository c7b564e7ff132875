"""Training of message-passing networks: `phaseseg train mobility --method bapst`.

The systems are divided into folds. Each member is trained on all folds but one and validated on that one; all
members together are the checkpoint. The learning rate falls to zero and the last weights are kept, so nothing
is chosen on the systems with which a member is validated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.network import BapstNetwork, GraphTensors, measure_units, normalize_layers
from phaseseg.families.mobility.settings import SPECIES, BapstConfig, MobilitySettings
from phaseseg.families.mobility.systems import Quantity, System, folds_of, ranges_of, read_training_systems
from phaseseg.nn.ensemble import loaded
from phaseseg.nn.model import member_weights
from phaseseg.specs import Progress
from phaseseg.training.card import training_card
from phaseseg.training.curves import Member
from phaseseg.training.loop import Task, deterministic, train_members
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import Run, RunData, joint_digest

INSIDE = 1.6448536
"""Standard deviations within which 90 % of a normal distribution lie."""

MEASURED = 3
"""Systems over which normalized units are measured at the end of an epoch."""

Values = NDArray[np.float64]


# ------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and deviation of each target for each type, over the training data.

    shift, scale : (n_targets, 2)
    """

    shift: Values
    scale: Values

    @classmethod
    def of(cls, systems: Sequence[System]) -> Standard:
        """ValueError for a target that is the same for all particles of a type."""
        found = np.empty((2, len(systems[0].values), 2))
        for code in range(2):
            values = np.concatenate([s.values[:, s.codes == code] for s in systems], axis=1)
            found[:, :, code] = values.mean(axis=1), values.std(axis=1)
        if not (found[1] > 1e-12 * np.abs(found[0])).all():
            raise ValueError("a target is the same for all particles of a type, so nothing can be learned.")
        return cls(*found)

    def applied(self, system: System) -> NDArray[np.float32]:
        """(n_atoms, n_targets) standardized targets."""
        moved = (system.values - self.shift[:, system.codes]) / self.scale[:, system.codes]
        return np.ascontiguousarray(moved.T, dtype=np.float32)

    def undone(self, system: System, outputs: NDArray[np.float32]) -> Values:
        """(n_targets, n_atoms) predictions from (n_atoms, n_targets) outputs."""
        return outputs.T * self.scale[:, system.codes] + self.shift[:, system.codes]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Systems of a step, and for each the matrix that turns its vectors."""

    systems: list[int]
    turns: list[Tensor]


class _Data:
    """Graphs and targets of all systems as tensors; graphs of systems are kept."""

    def __init__(
        self, config: BapstConfig, systems: Sequence[System], standard: Standard, types: Sequence[str]
    ) -> None:
        self.config, self.systems, self.standard = config, systems, standard
        self.graphs = [
            GraphTensors.of(
                message_graph(s.frame, config.cutoff, self_edges=config.self_edges), s.codes, config
            )
            for s in systems
        ]  # fmt: skip
        self.targets = [torch.from_numpy(standard.applied(s)) for s in systems]
        counted = [SPECIES.index(name) for name in types]
        self.rows = [torch.from_numpy(np.flatnonzero(np.isin(s.codes, counted))) for s in systems]

    def turned(self, k: int, turn: NDArray[np.float32] | Tensor | None) -> GraphTensors:
        """The graph of a system whose vectors are multiplied by a matrix."""
        graph = self.graphs[k]
        if turn is None:
            return graph
        vector = graph.vector @ torch.as_tensor(turn)
        return GraphTensors(graph.types, vector, graph.receiver, graph.sender, graph.n_edges)

    def loss(self, network: nn.Module, k: int, turn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean squared error over the particles that count, and the outputs."""
        outputs: Tensor = network(self.turned(k, turn))
        own = self.rows[k]
        return ((outputs[own] - self.targets[k][own]) ** 2).mean(), outputs

    def outputs(self, weights: Mapping[str, NDArray[np.float32]], k: int) -> NDArray[np.float32]:
        """(n_atoms, n_targets) outputs of a network for a system."""
        network = loaded(BapstNetwork(self.config), weights)
        with torch.inference_mode():
            return np.asarray(network(self.graphs[k]).numpy(), dtype=np.float32)


def random_turn(rng: np.random.Generator, turns: str) -> NDArray[np.float32] | None:
    """A (3, 3) orthogonal matrix, or None: any rotation, "axes" exchanged, both with reflections."""
    if turns == "none":
        return None
    if turns == "axes":
        matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], size=3)
    else:
        # Orthogonal matrices of Gaussian ones are uniform if the diagonal of the other factor is positive.
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        matrix = q * np.sign(np.diag(r))
    return np.asarray(matrix, dtype=np.float32)


def _task(
    data: _Data,
    trained: Sequence[int],
    held: Sequence[int],
    turns: str,
    batch_systems: int,
    types: Sequence[str],
) -> Task[_Batch]:
    def batches(rng: np.random.Generator) -> list[_Batch]:
        order = rng.permutation(np.asarray(trained)).tolist()
        made = []
        for first in range(0, len(order), batch_systems):
            own = order[first : first + batch_systems]
            drawn = [random_turn(rng, turns) for _ in own]
            made.append(_Batch(own, [torch.from_numpy(m) for m in drawn if m is not None]))
        return made

    def loss(network: nn.Module, batch: _Batch) -> Tensor:
        turned: Sequence[Tensor | None] = batch.turns or [None] * len(batch.systems)
        losses = [data.loss(network, k, turn)[0] for k, turn in zip(batch.systems, turned, strict=True)]
        return torch.stack(losses).mean()

    def validate(network: nn.Module) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        seen = [data.turned(k, random_turn(rng, turns)) for k in trained[:MEASURED]]
        measure_units(cast(BapstNetwork, network), seen)
        losses, scores = [], []
        with torch.no_grad():
            for k in held:
                found, outputs = data.loss(network, k)
                losses.append(found.item())
                scores.append(_correlations(data.systems[k], outputs.numpy().T, types).mean())
        return float(np.mean(losses)), 1 - float(np.nan_to_num(np.mean(scores)))

    def build() -> BapstNetwork:
        # Normalization is different in each round, so it can be folded into weights that only one round has.
        network = BapstNetwork(data.config, normalize=data.config.own_weights)
        normalize_layers(network, data.graphs[trained[0]])
        return network

    return Task(build, batches, loss, validate, error="1 - correlation")


def folded(config: BapstConfig, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The weights of a trained member, with its normalization folded in."""
    return loaded(BapstNetwork(config, normalize=config.own_weights), weights).folded_weights()


def _correlations(system: System, predicted: NDArray[Any], types: Sequence[str]) -> Values:
    """(n_targets, n_types) Pearson correlations."""
    return np.array(
        [
            [system.correlation(m, SPECIES.index(name), row) for name in types]
            for m, row in enumerate(predicted)
        ]
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- fit


def fit_messages(
    data: RunData | Iterable[RunData],
    settings: MobilitySettings,
    *,
    output: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train message-passing networks; arguments and errors are those of `fit.fit`."""
    note = progress or (lambda done, line: None)
    files = TrainingOutput("mobility", output, name, resume=settings.resume)
    species = (settings.species[0], settings.species[1])
    systems, quantities, runs = read_training_systems(data, settings, note)
    fold = folds_of(systems, settings.folds)
    config = BapstConfig(**settings.network, outputs=len(quantities))
    standard = Standard.of(systems)
    learning, types = settings.training(settings.folds), settings.trained_types
    tensors = _Data(config, systems, standard, types)
    tasks = [
        _task(
            tensors, np.flatnonzero(fold != k).tolist(), np.flatnonzero(fold == k).tolist(), settings.turns,
            settings.batch_systems, types,
        )
        for k in range(settings.folds)
    ]  # fmt: skip
    described = {
        **asdict(learning), "network": config.to_dict(), "turns": settings.turns, "types": list(types),
        "batch_systems": settings.batch_systems, "data": joint_digest(run.digest for run in runs),
        "targets": [asdict(one) for one in quantities], "folds": fold.tolist(),
    }  # fmt: skip
    members = [
        Member(m.seed, folded(config, m.weights), m.best_epoch, m.epochs)
        for m in train_members(tasks, learning, state=files.state(described), progress=note)
    ]
    with deterministic():
        found = [
            standard.undone(system, tensors.outputs(members[k].weights, number))
            for number, (system, k) in enumerate(zip(systems, fold, strict=True))
        ]
    floors = _floors(systems, found, types)
    validation, columns = _validation(systems, found, quantities, types, fold, floors)
    targets = [
        {"name": one.name, "time": one.time, "types": list(types),
         "calibration": [[0.0, float(floor)] for floor in floors[m]]}
        for m, one in enumerate(quantities)
    ]  # fmt: skip
    ranges = ranges_of(systems)
    card = {
        "summary": settings.summary or _summary(config, systems, quantities),
        "data": {
            "configurations": len(systems), "particles": sum(s.frame.n_atoms for s in systems),
            "species": list(species), "files": _file_table(runs),
        },
        "split": f"by system, {settings.folds} folds; each fold validates the member not trained on it",
        "training": training_card(
            learning, members, validation, columns=columns, turns=settings.turns,
            batch_systems=settings.batch_systems, trained_types=list(types),
        ),
        "limits": "Thermal positions alone; predictions change when the whole system is turned.",
    }  # fmt: skip
    checkpoint = Checkpoint(
        "mobility", files.name,
        {
            "method": "bapst", "network": config.to_dict(), "species": list(species), "targets": targets,
            "standard": {"shift": standard.shift.tolist(), "scale": standard.scale.tolist()},
        },
        member_weights(m.weights for m in members), card=card, units="lj", ranges=ranges,
    )  # fmt: skip
    return files.finish(checkpoint, members, "1 - correlation (%)")


def _floors(systems: Sequence[System], found: Sequence[Values], types: Sequence[str]) -> Values:
    """(n_targets, n_types) standard deviation within 1.645 of which 90 % of the errors lie."""
    floors = []
    for m in range(len(found[0])):
        errors = [
            np.concatenate([np.abs(p - s.values)[m, s.codes == SPECIES.index(name)]
                            for s, p in zip(systems, found, strict=True)])
            for name in types
        ]  # fmt: skip
        floors.append([np.quantile(error, 0.9) / INSIDE for error in errors])
    return np.array(floors)


def _validation(
    systems: Sequence[System], found: Sequence[Values], quantities: Sequence[Quantity], types: Sequence[str],
    fold: NDArray[np.int64], floors: Values,
) -> tuple[dict[str, Any], dict[str, list[float]]]:  # fmt: skip
    """Correlations on systems that the members were not trained on, and columns of the table of members."""
    rho = np.stack([_correlations(s, p, types) for s, p in zip(systems, found, strict=True)])
    numbers: dict[str, Any] = {}
    for m, quantity in enumerate(quantities):
        for t, name in enumerate(types):
            code, end = SPECIES.index(name), f", {name}, {quantity.label}"
            values = rho[:, m, t]
            numbers[f"correlation{end}"] = float(values.mean())
            numbers[f"spread over systems{end}"] = float(values.std(ddof=1))
            ceilings = np.array([s.ceiling(m, code) for s in systems])
            if np.isfinite(ceilings).all():
                numbers[f"ceiling{end}"] = float(ceilings.mean())
            inside = [
                np.abs(p - s.values)[m, s.codes == code] <= INSIDE * floors[m, t]
                for s, p in zip(systems, found, strict=True)
            ]
            numbers[f"inside 90 % intervals{end}"] = float(np.concatenate(inside).mean())
    columns = {
        f"correlation {name}": [float(rho[fold == k, 0, t].mean()) for k in range(int(fold.max()) + 1)]
        for t, name in enumerate(types)
    }
    return numbers, columns


def _file_table(runs: Sequence[Run]) -> dict[str, Any]:
    rows = [[run.name, len(run.frames), run.digest[:16]] for run in runs]
    return {"columns": ["file", "configurations", "content"], "rows": rows}


def _summary(config: BapstConfig, systems: Sequence[System], quantities: Sequence[Quantity]) -> str:
    what = quantities[0].label if len(quantities) == 1 else f"{len(quantities)} quantities"
    return (
        f"Message-passing network of {config.rounds} rounds that predicts the {what} from thermal positions, "
        f"trained on {len(systems)} systems."
    )
