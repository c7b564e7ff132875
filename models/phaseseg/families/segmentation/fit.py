"""Training of a segmentation network on weak labels that are made on the way.

The network learns the signed distance to the interface, or the two classes, from trajectories alone:
labels, features, split, calibration and card follow from the frames and a few settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.network import SegmentationNetwork
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.samples import (
    Sample,
    check_species,
    is_two_phases,
    learnable_runs,
    samples_of,
    species_of,
    split_runs,
)
from phaseseg.families.segmentation.settings import (
    RECIPE,
    RECIPE_RULE,
    TRAINING,
    Loss,
    NetworkConfig,
    Scaling,
)
from phaseseg.frame import Frame, Units
from phaseseg.metrics import fit_temperature, reliability, roc_curve
from phaseseg.nn.ensemble import loaded
from phaseseg.nn.model import member_weights
from phaseseg.nn.ops import Neighbors
from phaseseg.specs import Progress
from phaseseg.training.card import training_card, value_range
from phaseseg.training.curves import Member
from phaseseg.training.files import ArrayCache, cache_folder
from phaseseg.training.loop import Task, batches_by_atoms, deterministic, mean_scores, train_members
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import Run, RunData, joint_digest, listed
from phaseseg.training.settings import Settings

BOUND = 3.0
"""Å: distances are learned, and scores given, up to here."""
INTERFACE: Mapping[Loss, Mapping[str, Any]] = {
    "distance": {"sigma": 1.5, "voxel": 1.0, "curvature": True},
    "class": {"sigma": 1.75, "voxel": 1.0, "curvature": True},
}
"""Å: how scores are smoothed into a field whose level set is the interface.

Scores of networks that learned classes rise more steeply, so that a narrow Gaussian leaves single atoms
visible in the field. With these widths the interface agrees best with the labels of validation cells of
4160 atoms; smaller voxels do not improve it.
"""

_LINE_WITHIN = 1.5  # Å: where the logit is compared with the distance


# ------------------------------------------------------------------------------------------- loss


class _Batch(NamedTuple):
    """Scaled features, distances and neighbors of one frame, or of several one after the other."""

    x: Tensor
    distance: Tensor
    neighbors: Neighbors

    @classmethod
    def of(cls, sample: Sample, scaling: Scaling) -> _Batch:
        return cls(
            torch.from_numpy(scaling.apply(sample.features)), torch.from_numpy(sample.distance),
            Neighbors(sample.indptr, sample.neighbors),
        )  # fmt: skip

    @classmethod
    def join(cls, frames: Sequence[_Batch]) -> _Batch:
        if len(frames) == 1:
            return frames[0]
        x, distance, neighbors = zip(*frames, strict=True)
        return cls(torch.cat(x), torch.cat(distance), Neighbors.join(list(neighbors)))


class _Objective:
    """Loss of a batch, and what validation measures."""

    def __init__(self, kind: Loss, config: NetworkConfig, rule: LabelRule, samples: Sequence[Sample]) -> None:
        self.kind, self.config = kind, config
        self.half_width = rule.boundary_width / 2
        distance = np.concatenate([sample.distance for sample in samples])
        self.weights = self.boundary_weights = None
        if kind == "class":
            self.weights = _inverse_frequency(distance >= 0)
            self.boundary_weights = _inverse_frequency(np.abs(distance) <= self.half_width)

    def loss(self, z: Tensor, batch: _Batch) -> Tensor:
        """Loss of the outputs (n_atoms, outputs) of a network."""
        u = z[:, 1] - z[:, 0]
        if self.kind == "distance":
            score = BOUND * torch.tanh(u / BOUND)
            # The distance alone: a cross entropy of the side would push scores away from zero, and with
            # them the interface away from the atoms that it should run through.
            loss = functional.smooth_l1_loss(score, batch.distance.clamp(-BOUND, BOUND), beta=0.5)
        else:
            loss = _cross_entropy(u, batch.distance >= 0, self.weights)
        if self.config.outputs == 3:
            # "Boundary" against "one of the sides". Added to the cross entropy of the sides it would be that
            # of three classes; it does not depend on their difference, which is a distance in Å here.
            logit = z[:, 2] - torch.logsumexp(z[:, :2], dim=1)
            loss = loss + _cross_entropy(
                logit, batch.distance.abs() <= self.half_width, self.boundary_weights
            )
        return loss

    def validate(self, network: nn.Module, batches: Sequence[_Batch]) -> tuple[float, float]:
        """Mean loss, and the fraction of atoms on the wrong side."""

        def scores() -> Iterator[tuple[float, int, int]]:
            for batch in batches:
                z = network(batch.x, batch.neighbors)
                wrong = ((z[:, 1] >= z[:, 0]) != (batch.distance >= 0)).sum()
                yield self.loss(z, batch).item(), int(wrong), len(z)

        return mean_scores(scores())


def _cross_entropy(logit: Tensor, positive: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the atoms, with the (2,) weights of negative and positive ones where there are any."""
    each = functional.binary_cross_entropy_with_logits(logit, positive.to(logit.dtype), reduction="none")
    if weights is None:
        return each.mean()
    weight = weights[positive.long()]
    return (weight * each).sum() / weight.sum()


def _inverse_frequency(positive: NDArray[np.bool_]) -> Tensor:
    """(2,) weights with which both classes count the same; 1 where one of them is empty."""
    share = float(positive.mean())
    return torch.tensor([0.5 / (1 - share), 0.5 / share] if 0 < share < 1 else [1.0, 1.0])


# ------------------------------------------------------------------------------------ calibration


def _logits(network: nn.Module, member: Member, batches: Sequence[_Batch]) -> NDArray[np.float64]:
    """(n_atoms,) u = z1 - z0 of one member over all batches."""
    loaded(network, member.weights)
    with torch.no_grad():
        outputs = [network(batch.x, batch.neighbors) for batch in batches]
    return np.concatenate([(z[:, 1] - z[:, 0]).numpy().astype(np.float64) for z in outputs])


def _line(u: NDArray[np.float64], distance: NDArray[np.float64]) -> tuple[float, float]:
    """(Å per unit, Å) of the line that gives the distance near the interface from the logit.

    The logit is fitted against what stands inside the tanh of the score, and the line turned round: the
    other way it would be flattened by the noise of the logit, and distances come out too short.
    """
    near = np.abs(distance) < _LINE_WITHIN
    inside = BOUND * np.arctanh(distance[near] / BOUND)
    slope, start = np.polyfit(inside, u[near], 1) if near.sum() > 2 else (0.0, 0.0)
    if not slope > 1e-3:
        raise ValueError(
            "the network did not learn to tell the sides of the interface apart (its output does not rise "
            "across it); train longer, on more frames, or with another learning rate."
        )
    return 1 / float(slope), -float(start) / float(slope)


def centered(checkpoint: Checkpoint, frames: Iterable[tuple[Frame, NDArray[np.float32]]]) -> Checkpoint:
    """The checkpoint with offsets for which its interface lies, in the mean, where the labels' does.

    Scores without bias at the atoms still give an interface that is off by a hundredth of an Å: the field is
    curved between them, and more atoms lie on one side. Compositions of a scarce element show that.

    frames : each with the signed distances of its atoms, Å; where no atom is near an interface the
        checkpoint stays as it is
    """
    from phaseseg.families.segmentation.model import SegmentationModel

    model = SegmentationModel(checkpoint)
    errors = []
    for frame, distance in frames:
        found = model.fields(frame, model.score(frame))["interface_distance"]
        near = (np.abs(distance) < _LINE_WITHIN) & np.isfinite(found)
        if near.any():
            errors.append(float(np.mean(found[near] - distance[near])))
    if not errors:
        return checkpoint
    score = checkpoint.config["score"]
    moved = [offset - float(np.mean(errors)) for offset in score["offset"]]
    return replace(checkpoint, config={**checkpoint.config, "score": {**score, "offset": moved}})


# -------------------------------------------------------------------------------------------- fit


def fit_segmentation(
    data: RunData | Iterable[RunData],
    *,
    output: str | os.PathLike[str] | None = None,
    rule: LabelRule = RECIPE_RULE,
    network: NetworkConfig | Mapping[str, Any] = RECIPE,
    loss: Loss = "distance",
    validation: RunData | Iterable[RunData] | None = None,
    types: Sequence[str] | None = None,
    units: Units = "metal",
    every: int = 1,
    epochs: int = TRAINING["epochs"],
    batch_atoms: int = TRAINING["batch_atoms"],
    learning_rate: float = TRAINING["learning_rate"],
    seeds: Sequence[int] = TRAINING["seeds"],
    patience: int = TRAINING["patience"],
    name: str | None = None,
    summary: str | None = None,
    resume: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train a network that distinguishes two liquids, atom by atom, on trajectories of them.

    Weak labels are made on the way and say for every atom how far it is from the interface, and on which
    side. Frames of one liquid are on one side throughout. Several members, each from its own seed, make up
    one checkpoint; they are trained one after the other on one core.

    Parameters
    ----------
    data : trajectories, as files or iterables of `Frame`; one or several
    output : .safetensors file to write
        Next to it go `.curves.csv`, `.curves.png` and, until training is finished, `.state.safetensors`.
    rule : LabelRule, default sigma 2 Å
        Its species are the target of the network. A threshold by name is taken from all training frames
        of two phases together, and the checkpoint holds the number.
    network : settings of `NetworkConfig`, as far as they differ from the recipe
        The species are those that occur, in the order in which the first file names them.
    loss : "distance" (default) or "class"
        Distance: smooth L1 of 3 tanh(u / 3) against the signed distance within ±3 Å, u the difference of
        the two outputs. Class: cross entropy of the two classes, weighted with their inverse frequency.
        With three outputs the cross entropy of boundary (of the rule's width) against the rest is added,
        weighted likewise for "class".
    validation : trajectories to choose the epoch and calibrate with
        If left out: of three or more files with two phases every fifth, at least one; else the last fifth
        of the frames of each file. Frames are never shuffled between the two.
    types, units : as in `read_frames`
    every : take every n-th frame of each file, and of `validation`
    epochs, batch_atoms, learning_rate, seeds, patience : see `phaseseg.training.settings.Settings`
    name : of the checkpoint; "segmentation/" and the file's name without its suffix if left out
    summary : line of the card
    resume : continue from the state file next to `output`, if there is one
    cache : folder for labels, in the user's cache folder if left out; safe to delete
    progress : called with the fraction that is done and a line of text

    Returns
    -------
    Checkpoint
        Temperature, and the line from logits to Å, fitted to the validation frames of two phases; ranges of
        the training data; a card with data, split and training.

    Raises
    ------
    ValueError
        For settings out of range, and for data that cannot be learned from: no frame of two phases, a
        target species that a file lacks, mixed units, a single frame, a state in the way.
    KeyboardInterrupt
        With a sentence that says where the state lies.
    """
    if loss not in get_args(Loss):
        raise ValueError(f"loss must be distance or class, found {loss!r}.")
    if every < 1:
        raise ValueError(f"every must be at least 1, found {every}.")
    settings = Settings(epochs, batch_atoms, learning_rate, tuple(seeds), patience)
    files = TrainingOutput("segmentation", output, name, resume=resume)
    note = progress or (lambda done, line: None)

    runs = learnable_runs(data, types, units, every, note)
    given = [] if validation is None else learnable_runs(validation, types, units, every, note)
    if not runs or (validation is not None and not given):
        raise ValueError("there are no files to learn from.")
    check_species([*runs, *given], rule.species)
    note(0.0, "looking for two phases")
    if validation is None:
        trained, held, split = split_runs(runs, rule)
    else:
        number = "1 file" if len(given) == 1 else f"{len(given)} files"
        trained, held, split = runs, given, f"{number} given for validation ({listed(given)})"
    config = _configuration(network, rule, trained)
    if isinstance(rule.threshold, str):
        two = [frame for run in trained for frame in run.frames if is_two_phases(frame, rule)]
        rule = pooled_threshold(two or trained[0].frames, rule)
    labels = ArrayCache(cache_folder() / "labels" if cache is None else Path(cache))
    by_run, held_by_run = (
        samples_of(part, rule, config, labels, note, what)
        for part, what in ((trained, "training"), (held, "validation"))
    )
    samples, held_samples = ([sample for run in part for sample in run] for part in (by_run, held_by_run))
    for part, where, what in ((samples, trained, "learn"), (held_samples, held, "check against")):
        if not any(sample.two_phases for sample in part):
            raise ValueError(
                f"{listed(where)}: no frame holds two phases at the threshold of "
                f"{float(rule.threshold):.4g} {rule.unit}, so there is no interface to {what}. Add frames of "
                "two separated liquids."
            )

    scaling = Scaling.of(np.concatenate([sample.features for sample in samples], dtype=np.float64))
    frames, held_frames = (
        [_Batch.of(sample, scaling) for sample in part] for part in (samples, held_samples)
    )
    objective = _Objective(loss, config, rule, samples)
    sizes, held_sizes = ([len(sample.distance) for sample in part] for part in (samples, held_samples))
    held_batches = [
        _Batch.join([held_frames[k] for k in group])
        for group in batches_by_atoms(held_sizes, batch_atoms, range(len(held_sizes)))
    ]

    def loss_of(net: nn.Module, group: Sequence[int]) -> Tensor:
        batch = _Batch.join([frames[k] for k in group])
        return objective.loss(net(batch.x, batch.neighbors), batch)

    task = Task(
        build=lambda: SegmentationNetwork(config),
        batches=lambda rng: batches_by_atoms(sizes, batch_atoms, rng.permutation(len(sizes))),
        loss=loss_of,
        validate=lambda net: objective.validate(net, held_batches),
    )
    described = {
        **asdict(settings), "loss": loss, "network": config.to_dict(),
        "training data": joint_digest(s.digest for s in samples),
        "validation data": joint_digest(s.digest for s in held_samples),
        "label rule": rule.to_dict(),
    }  # fmt: skip
    members = train_members(task, settings, state=files.state(described), progress=note)

    distance = np.concatenate([sample.distance for sample in held_samples]).astype(np.float64)
    with deterministic():
        net = SegmentationNetwork(config)
        logits = [_logits(net, member, held_batches) for member in members]
    lines = [_line(u, distance) for u in logits]
    scores = np.array([BOUND * np.tanh((a * u + b) / BOUND) for (a, b), u in zip(lines, logits, strict=True)])
    score = scores.mean(axis=0)
    # Frames of one liquid would blur it: their label says nothing of where in them the score is near zero.
    two_phases = np.isfinite(distance)
    temperature = fit_temperature(score[two_phases], distance[two_phases] >= 0)
    ranges = {"number_density": value_range([sample.number_density for sample in samples])}
    training = training_card(settings, members, _validation_numbers(score, distance, temperature), loss=loss)
    n_frames, n_atoms = len(samples), sum(sizes)
    scale, offset = ([float(number) for number in numbers] for numbers in zip(*lines, strict=True))
    checkpoint = Checkpoint(
        "segmentation",
        files.name,
        {
            "network": config.to_dict(),
            "score": {"bound": BOUND, "scale": scale, "offset": offset, "temperature": temperature},
            "interface": dict(INTERFACE[loss]), "label_rule": rule.to_dict(), "ranges": ranges,
        },
        {f"feature.{key}": values for key, values in vars(scaling).items()}
        | member_weights(m.weights for m in members),
        card={
            "summary": summary or _summary(config, n_frames, n_atoms),
            "data": {
                "frames": n_frames, "atoms": n_atoms, "species": list(config.species),
                "frames_of_two_phases": sum(sample.two_phases for sample in samples),
                "files": _file_table([("training", trained, by_run), ("validation", held, held_by_run)]),
            },
            "split": split, "label_rule": rule.to_dict(), "training": training,
        },
        units=trained[0].frames[0].units,
        ranges=ranges,
    )  # fmt: skip
    if loss == "distance":
        note(1.0, "interfaces of the validation frames")
        shown = [frame for run in held for frame in run.frames]
        known = [sample.distance for sample in held_samples]
        checkpoint = centered(checkpoint, zip(shown, known, strict=True))
    return files.finish(checkpoint, members, "atoms on the wrong side (%)")


def _configuration(
    network: NetworkConfig | Mapping[str, Any], rule: LabelRule, trained: Sequence[Run]
) -> NetworkConfig:
    species = species_of(trained)
    if isinstance(network, NetworkConfig):
        if network.target != rule.species:
            raise ValueError(
                f"the network's target is {', '.join(network.target)}, but the labels are of "
                f"{', '.join(rule.species)}."
            )
        return network
    return NetworkConfig(**({"species": species, "target": rule.species} | dict(RECIPE) | dict(network)))


def _summary(config: NetworkConfig, n_frames: int, n_atoms: int) -> str:
    kinds = {"gat": "Graph attention", "gcn": "Graph convolution", "graphconv": "GraphConv"}
    target = "+".join(config.target)
    return (
        f"{kinds[config.architecture]} network for {target}-rich and {target}-poor liquids of "
        f"{'-'.join(config.species)}, trained on {n_frames:,} frames ({n_atoms:,} atoms)."
    )


def _file_table(parts: Iterable[tuple[str, Sequence[Run], Sequence[list[Sample]]]]) -> dict[str, Any]:
    rows = [
        [run.name, use, len(samples), sum(len(s.distance) for s in samples),
         sum(s.two_phases for s in samples), run.digest[:16]]
        for use, runs, by_run in parts
        for run, samples in zip(runs, by_run, strict=True)
        if samples
    ]  # fmt: skip
    return {"columns": ["file", "use", "frames", "atoms", "of two phases", "content"], "rows": rows}


def _validation_numbers(
    score: NDArray[np.float64], distance: NDArray[np.float64], temperature: float
) -> dict[str, Any]:
    """What the members together reach on the validation data; lengths in Å."""
    rich = distance >= 0
    near = np.abs(distance) < BOUND / 2
    error = score[near] - distance[near]
    probability = expit(score / temperature)
    numbers = {
        "atoms": len(score),
        "error": float(np.mean((score >= 0) != rich)),
        "auc": roc_curve(rich, score).auc,
        "temperature": temperature,
        "expected_calibration_error": reliability(rich, probability).expected_calibration_error,
        "distance_bias_near_interface": float(error.mean()),
        "distance_rms_near_interface": float(error.std()),
    }
    return {key: value if np.isfinite(value) else None for key, value in numbers.items()}
