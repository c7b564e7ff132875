"""Training of segmentation networks on weak labels.

The network learns the signed distance to the interface, or the two classes, from unlabeled trajectories.
Labels, features, split, calibration and card are derived from the frames and a few settings.
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
from phaseseg.families.segmentation.labels.automatic import rule_of
from phaseseg.families.segmentation.labels.threshold import pooled_threshold
from phaseseg.families.segmentation.network import SegmentationNetwork
from phaseseg.families.segmentation.rules import FixedRule, LabelRule
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
from phaseseg.frame import Frame, Names, Types, Units
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
"""Å: distances and scores are limited to ± this value."""
INTERFACE: Mapping[Loss, Mapping[str, Any]] = {
    "distance": {"sigma": 1.5, "voxel": 1.0, "curvature": True},
    "class": {"sigma": 1.75, "voxel": 1.0, "curvature": True},
}
"""Smoothing of scores (lengths in Å) into a field whose level set is the interface.

Networks trained on classes have steeper scores, so a narrow Gaussian would leave single atoms visible in the
field. With these widths the interface agrees best with the labels of the larger validation cells; smaller
voxels do not improve it.
"""

_LINE_WITHIN = 1.5  # Å: atoms within this distance of the interface relate logits to distances


# ------------------------------------------------------------------------------------------- loss


class _Batch(NamedTuple):
    """Scaled features, distances and neighbors of one frame, or of several frames concatenated."""

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
    """Training loss and validation measures."""

    def __init__(self, kind: Loss, config: NetworkConfig, rule: FixedRule, samples: Sequence[Sample]) -> None:
        self.kind, self.config = kind, config
        self.half_width = rule.boundary_width / 2
        distance = np.concatenate([sample.distance for sample in samples])
        self.weights = self.boundary_weights = None
        if kind == "class":
            self.weights = _inverse_frequency(distance >= 0)
            self.boundary_weights = _inverse_frequency(np.abs(distance) <= self.half_width)

    def loss(self, z: Tensor, batch: _Batch) -> Tensor:
        """Return the loss of network outputs z, (n_atoms, outputs)."""
        u = z[:, 1] - z[:, 0]
        if self.kind == "distance":
            score = BOUND * torch.tanh(u / BOUND)
            # No cross entropy of the two sides: it would push scores away from zero, and thereby the
            # interface away from the atoms it should pass through.
            loss = functional.smooth_l1_loss(score, batch.distance.clamp(-BOUND, BOUND), beta=0.5)
        else:
            loss = _cross_entropy(u, batch.distance >= 0, self.weights)
        if self.config.outputs == 3:
            # Boundary against either side. Added to the cross entropy of the two sides it gives that of
            # three classes. It does not constrain their difference, which is a distance in Å here.
            logit = z[:, 2] - torch.logsumexp(z[:, :2], dim=1)
            loss = loss + _cross_entropy(
                logit, batch.distance.abs() <= self.half_width, self.boundary_weights
            )
        return loss

    def validate(self, network: nn.Module, batches: Sequence[_Batch]) -> tuple[float, float]:
        """Return the mean loss and the fraction of atoms on the wrong side."""

        def scores() -> Iterator[tuple[float, int, int]]:
            for batch in batches:
                z = network(batch.x, batch.neighbors)
                wrong = ((z[:, 1] >= z[:, 0]) != (batch.distance >= 0)).sum()
                yield self.loss(z, batch).item(), int(wrong), len(z)

        return mean_scores(scores())


def _cross_entropy(logit: Tensor, positive: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over atoms; `weights` (2,) optionally weights negative and positive ones."""
    each = functional.binary_cross_entropy_with_logits(logit, positive.to(logit.dtype), reduction="none")
    if weights is None:
        return each.mean()
    weight = weights[positive.long()]
    return (weight * each).sum() / weight.sum()


def _inverse_frequency(positive: NDArray[np.bool_]) -> Tensor:
    """Return (2,) weights that balance both classes; 1 if one of them is empty."""
    share = float(positive.mean())
    return torch.tensor([0.5 / (1 - share), 0.5 / share] if 0 < share < 1 else [1.0, 1.0])


# ------------------------------------------------------------------------------------ calibration


def _logits(network: nn.Module, member: Member, batches: Sequence[_Batch]) -> NDArray[np.float64]:
    """Return u = z1 - z0 of one member for all batches, (n_atoms,)."""
    loaded(network, member.weights)
    with torch.no_grad():
        outputs = [network(batch.x, batch.neighbors) for batch in batches]
    return np.concatenate([(z[:, 1] - z[:, 0]).numpy().astype(np.float64) for z in outputs])


def _line(u: NDArray[np.float64], distance: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope (Å per unit) and offset (Å) of the line from logit to distance near the interface.

    The logit is fitted as a function of the argument of the tanh in the score, and the line is inverted. A
    direct fit would be flattened by the noise of the logit and give distances that are too short.
    """
    near = np.abs(distance) < _LINE_WITHIN
    inside = BOUND * np.arctanh(distance[near] / BOUND)
    slope, start = np.polyfit(inside, u[near], 1) if near.sum() > 2 else (0.0, 0.0)
    if not slope > 1e-3:
        raise ValueError(
            "the network did not learn to distinguish the two sides of the interface (its output does not "
            "increase across it); train longer, on more frames, or with another learning rate."
        )
    return 1 / float(slope), -float(start) / float(slope)


def centered(checkpoint: Checkpoint, frames: Iterable[tuple[Frame, NDArray[np.float32]]]) -> Checkpoint:
    """Return the checkpoint with offsets that remove the mean shift of its interface against the labels.

    Scores that are unbiased at the atoms still give a slightly shifted interface, because the field is curved
    between atoms and one side has more of them. The shift is visible in the contents of scarce elements.

    frames : frames with the signed distances of their atoms, Å; if no atom is near an interface, the
        checkpoint is returned unchanged
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
    types: Types = None,
    names: Names = None,
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
    """Train a network that assigns the atoms of trajectories to two liquids.

    Frames are first labeled: weak labels give the signed distance of every atom to the interface. In
    single-phase frames all atoms are on one side. A checkpoint contains several members with different seeds,
    which are trained one after the other on one core.

    Parameters
    ----------
    data : one or several trajectories, as files or iterables of `Frame`
    output : .safetensors file to write
        `.curves.csv`, `.curves.png` and, during training, `.state.safetensors` are written next to it.
    rule : LabelRule, default for Fe with sigma 2 Å; the first frame determines what it leaves open
        Its species are the target of the network. A threshold given by name is determined from all two-phase
        training frames together and stored as a number in the checkpoint.
    network : settings of `NetworkConfig` that differ from the recipe
        By default the species are those that occur, in the order of the first file.
    loss : "distance" (default) or "class"
        Distance: smooth L1 of 3 tanh(u / 3) against the signed distance within ±3 Å, where u is the
        difference of the two outputs. Class: cross entropy of the two classes, weighted by inverse frequency.
        With three outputs, the cross entropy of boundary (of the rule's width) against the rest is added,
        also weighted for "class".
    validation : trajectories used to choose the epoch and for calibration
        By default every fifth file with two phases (at least one) if there are three or more, or else the
        last fifth of the frames of each file. Frames are never shuffled between training and validation.
    types, names, units : as in `read_frames`
    every : use every n-th frame of each file, also of `validation`
    epochs, batch_atoms, learning_rate, seeds, patience : see `phaseseg.training.settings.Settings`
    name : name of the checkpoint; default "segmentation/" and the stem of the output file
    summary : one-line summary for the card
    resume : continue from the state file next to `output`, if it exists
    cache : folder for labels, default in the user's cache folder; safe to delete
    progress : called with the completed fraction and a line of text

    Returns
    -------
    Checkpoint
        Includes the temperature and the line from logits to Å, fitted to two-phase validation frames; the
        ranges of the training data; and a card on data, split and training.

    Raises
    ------
    ValueError
        For settings out of range and unsuitable data: no two-phase frames, a file without the target
        species, mixed units, a single frame, or an existing state file.
    KeyboardInterrupt
        With a message that names the state file.
    """
    if loss not in get_args(Loss):
        raise ValueError(f"loss must be distance or class, found {loss!r}.")
    if every < 1:
        raise ValueError(f"every must be at least 1, found {every}.")
    settings = Settings(epochs, batch_atoms, learning_rate, tuple(seeds), patience)
    files = TrainingOutput("segmentation", output, name, resume=resume)
    note = progress or (lambda done, line: None)

    how: dict[str, Any] = {"types": types, "names": names, "units": units, "every": every, "note": note}
    runs = learnable_runs(data, **how)
    given = [] if validation is None else learnable_runs(validation, **how)
    if not runs or (validation is not None and not given):
        raise ValueError("there are no files to learn from.")
    fixed = rule_of(runs[0].frames[0], rule)
    check_species([*runs, *given], fixed.species)
    note(0.0, "looking for two phases")
    if validation is None:
        trained, held, split = split_runs(runs, fixed)
    else:
        number = "1 file" if len(given) == 1 else f"{len(given)} files"
        trained, held, split = runs, given, f"{number} given for validation ({listed(given)})"
    config = _configuration(network, fixed, trained)
    if isinstance(fixed.threshold, str):
        two = [frame for run in trained for frame in run.frames if is_two_phases(frame, fixed)]
        fixed = pooled_threshold(two or trained[0].frames, fixed)
    labels = ArrayCache(cache_folder() / "labels" if cache is None else Path(cache))
    by_run, held_by_run = (
        samples_of(part, fixed, config, labels, note, what)
        for part, what in ((trained, "training"), (held, "validation"))
    )
    samples, held_samples = ([sample for run in part for sample in run] for part in (by_run, held_by_run))
    for part, where, what in ((samples, trained, "learn"), (held_samples, held, "check against")):
        if not any(sample.two_phases for sample in part):
            raise ValueError(
                f"{listed(where)}: no frame contains two phases at the threshold of "
                f"{float(fixed.threshold):.4g} {fixed.unit}, so there is no interface to {what}. Add "
                "frames of two separated liquids."
            )

    scaling = Scaling.of(np.concatenate([sample.features for sample in samples], dtype=np.float64))
    frames, held_frames = (
        [_Batch.of(sample, scaling) for sample in part] for part in (samples, held_samples)
    )
    objective = _Objective(loss, config, fixed, samples)
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
        "label rule": fixed.to_dict(),
    }  # fmt: skip
    members = train_members(task, settings, state=files.state(described), progress=note)

    distance = np.concatenate([sample.distance for sample in held_samples]).astype(np.float64)
    with deterministic():
        net = SegmentationNetwork(config)
        logits = [_logits(net, member, held_batches) for member in members]
    lines = [_line(u, distance) for u in logits]
    scores = np.array([BOUND * np.tanh((a * u + b) / BOUND) for (a, b), u in zip(lines, logits, strict=True)])
    score = scores.mean(axis=0)
    # Single-phase frames are excluded: their labels do not tell where the score should be near zero.
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
            "interface": dict(INTERFACE[loss]), "label_rule": fixed.to_dict(), "ranges": ranges,
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
            "split": split, "label_rule": fixed.to_dict(), "training": training,
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
    network: NetworkConfig | Mapping[str, Any], rule: FixedRule, trained: Sequence[Run]
) -> NetworkConfig:
    species = species_of(trained)
    if isinstance(network, NetworkConfig):
        if network.target != rule.species:
            raise ValueError(
                f"the target of the network is {', '.join(network.target)}, but the labels are for "
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
    """Validation scores of the ensemble; lengths in Å."""
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
