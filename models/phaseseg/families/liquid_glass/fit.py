"""Training of networks that distinguish liquid from glass, on windows of configurations of known state.

We split by run, because configurations of one run stay correlated across temperatures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.checkpoint import Checkpoint
from phaseseg.display import option
from phaseseg.families.liquid_glass.crops import CropBatch, CropDataset, cells_of, graph_of, number_density
from phaseseg.families.liquid_glass.network import GlassNetwork, ImageNetwork, glass_loss
from phaseseg.families.liquid_glass.settings import (
    FOLDS,
    HELD_WINDOWS,
    IMAGE_RECIPE,
    RECIPE,
    SEARCH_EPOCHS,
    SEARCH_SPACE,
    TRAINING,
    WINDOWS,
    GlassConfig,
)
from phaseseg.families.liquid_glass.states import Label, label_of
from phaseseg.frame import Frame, Names, Types, Units
from phaseseg.metrics import fit_temperature, reliability, roc_curve
from phaseseg.nn.ensemble import loaded
from phaseseg.nn.model import member_weights
from phaseseg.specs import Progress
from phaseseg.training import search as searching
from phaseseg.training.card import training_card, value_range
from phaseseg.training.curves import Member
from phaseseg.training.loop import Task, deterministic, mean_scores, train_members
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import Run, RunData, fold_of_runs, joint_digest, read_runs, refuse_copies
from phaseseg.training.search import NestedSearch, SearchResult
from phaseseg.training.settings import Settings

STATES = {True: "glass", False: "liquid"}


# ------------------------------------------------------------------------------------------- data


def glass_runs(
    data: RunData | Iterable[RunData], label: Label, what: str = "run", **options: Any
) -> list[Run]:
    """Read the runs that contain frames of known state; the label of a frame is whether it is glass."""

    def state(frame: Frame) -> bool | None:
        if frame.units != "lj":
            raise ValueError(
                f"{frame.source or 'a frame'}: lengths are in Å, but these networks need reduced units. If "
                "the file is in reduced units but does not say so, read it with "
                f"{option('units', 'lj')}."
            )
        found = label(frame)
        return None if found is None else bool(found)

    return [run for run in read_runs(data, state, what=what, **options) if run.frames]


def configuration(network: GlassConfig | Mapping[str, Any], runs: Sequence[Run]) -> GlassConfig:
    """Return the network settings, completed from the recipe and checked against the runs."""
    frames = [frame for run in runs for frame in run.frames]
    glass, liquid = (sum(run.count(state) for run in runs) for state in STATES)
    if not glass or not liquid:
        raise ValueError(
            f"{glass:,} configurations are glass and {liquid:,} are liquid, but training needs both. Check "
            "the temperatures in the files, and the limits given for glass and liquid."
        )
    if not isinstance(network, GlassConfig):
        recipe = IMAGE_RECIPE if network.get("architecture") == "cnn" else RECIPE
        network = GlassConfig(**{"dimensions": frames[0].n_dimensions, **recipe, **network})
    for frame in frames:
        if frame.n_dimensions != network.dimensions:
            raise ValueError(
                f"{frame.source or 'a frame'} has {frame.n_dimensions} dimensions, but {network.dimensions} "
                "were expected; train on configurations of equal dimension."
            )
        network.codes_of(frame)
    if network.architecture == "dmpnn":
        low = network.window[0]
        cells = cells_of(frames, [network.codes_of(frame) for frame in frames], network.dimensions)
        shares = np.minimum(low / cells.lengths, 1.0).prod(axis=1)
        least = float((np.diff(cells.starts) * shares).min())
        if least - 3 * least**0.5 <= network.k:
            raise ValueError(
                f"the smallest windows, of {low:g} σ, have about {least:.0f} particles, too few to find "
                f"{network.k} neighbors of each particle everywhere; choose larger windows or a smaller k."
            )
    return network


# ------------------------------------------------------------------------------------------ crops

Answers = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Logits of items, and whether they are glass."""


def _build(config: GlassConfig) -> nn.Module:
    return ImageNetwork(config) if config.architecture == "cnn" else GlassNetwork(config)


def _score(network: nn.Module, data: CropDataset, batch: CropBatch) -> tuple[Tensor, Tensor]:
    """Mean loss of a batch, and the logits of its crops."""
    if data.planes:
        logits = network(torch.from_numpy(data.images(batch, turn=network.training)))
        label = torch.from_numpy(batch.glass).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, label), logits
    graphs = data.graphs(batch)
    answer = network(graphs)
    return glass_loss(answer, batch.glass, graphs.starts), answer.graphs


def validate(network: nn.Module, data: CropDataset, held: Sequence[CropBatch]) -> tuple[float, float]:
    """Mean loss, and the fraction of crops that are classified wrongly."""

    def scores() -> Iterator[tuple[float, int, int]]:
        for batch in held:
            loss, logits = _score(network, data, batch)
            yield loss.item(), int(((logits > 0).numpy() != batch.glass).sum()), len(batch.glass)

    return mean_scores(scores())


def crop_task(
    data: CropDataset, runs: NDArray[np.bool_], held: Sequence[CropBatch], crops: int, batch_atoms: int
) -> Task[CropBatch]:
    """The training task for some runs; half of the crops of an epoch are from glasses."""

    def loss(network: nn.Module, batch: CropBatch) -> Tensor:
        torch.manual_seed(batch.seed)  # the same dropout after an interruption
        return _score(network, data, batch)[0]

    return Task(
        build=lambda: _build(data.config),
        batches=lambda rng: data.epoch(runs, crops, batch_atoms, rng),
        loss=loss,
        validate=lambda network: validate(network, data, held),
    )


def crop_logits(
    weights: Mapping[str, NDArray[np.float32]], data: CropDataset, held: Sequence[CropBatch]
) -> Answers:
    """Logits of a network for crops."""
    network = loaded(_build(data.config), weights)
    with torch.no_grad():
        found = [_score(network, data, batch)[1].numpy() for batch in held]
    return np.concatenate(found).astype(np.float64), np.concatenate([batch.glass for batch in held])


def cell_logits(
    weights: Mapping[str, NDArray[np.float32]], data: CropDataset, runs: NDArray[np.bool_]
) -> Answers:
    """Logits of a network on graphs for whole configurations of some runs."""
    network = loaded(_build(data.config), weights)
    chosen = np.flatnonzero(runs[data.run])
    with torch.no_grad():
        found = [network(graph_of(data.frames[k], data.config)).graphs.item() for k in chosen]
    return np.array(found), data.glass[chosen]


# -------------------------------------------------------------------------------------------- fit


def fit_liquid_glass(
    data: RunData | Iterable[RunData],
    *,
    glass_below: float | None = None,
    liquid_above: float | None = None,
    label: Label | None = None,
    output: str | os.PathLike[str] | None = None,
    network: GlassConfig | Mapping[str, Any] = RECIPE,
    folds: int = FOLDS,
    validation: RunData | Iterable[RunData] | None = None,
    temperature: str = "temperature",
    types: Types = None,
    names: Names = None,
    units: Units = "metal",
    windows: int = WINDOWS,
    held_windows: int = HELD_WINDOWS,
    epochs: int = TRAINING["epochs"],
    batch_atoms: int = TRAINING["batch_atoms"],
    learning_rate: float | None = None,
    patience: int = TRAINING["patience"],
    seed: int = 0,
    name: str | None = None,
    summary: str | None = None,
    search: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train networks that distinguish liquid from glass, on windows cut at random from configurations.

    Each member of the checkpoint is trained on all folds of the runs except one, on which it is validated, so
    the ensemble as a whole uses every run. A run is never split between folds, and runs with the same `seed`
    in `Frame.info` stay together.

    Parameters
    ----------
    data : runs as files or iterables of `Frame`, one run each, in reduced units
    glass_below, liquid_above : temperatures at or below which a configuration is a glass, and at or above
        which it is a liquid; those in between are left out
    label : instead of temperatures, a function of a frame: True for glass, False for liquid, None to skip it
    output : .safetensors file to write
        `.curves.csv`, `.curves.png` and, during training, `.state.safetensors` are written next to it.
    network : settings of `GlassConfig` that differ from the recipe
    folds : number of folds and members; with `validation` the members differ only by their seed
    validation : runs to choose the epoch and calibrate with, instead of folds
    temperature : key of the temperature in `Frame.info`
    types, names, units : as in `read_frames`
    windows : number per epoch, half of them glass; held_windows : number for validating a member
    epochs, batch_atoms, learning_rate, patience : see `phaseseg.training.settings.Settings`
    seed : of the first member; the next follow
    name : of the checkpoint; "liquid_glass/" and the file's name without its suffix by default
    summary : line of the card
    search : entry of the card about the search for the settings
    resume : continue from the state file next to `output`, if it exists
    progress : called with the completed fraction and a line of text

    Returns
    -------
    Checkpoint
        It contains the ranges of number density and fraction of B in the training data, and a card with
        data, split and training. Logits are divided by a temperature fitted to the validation windows of all
        members, or by 1 if all of these are classified correctly.

    Raises
    ------
    ValueError
        For settings out of range, for unsuitable data (only one state, fewer runs than folds, no
        temperatures, one species, other units, mixed dimensions), and if a state file is in the way.
    KeyboardInterrupt
        The message says where the state was saved.
    """
    note = progress or (lambda done, line: None)
    label = label_of(label, glass_below, liquid_above, temperature)
    if folds < 1 or (validation is None and folds < 2):
        raise ValueError(f"folds must be at least 2 (1 with runs given for validation), found {folds}.")
    rate = TRAINING["learning_rate"] if learning_rate is None else learning_rate
    settings = Settings(epochs, batch_atoms, rate, tuple(range(seed, seed + folds)), patience)
    for what, value in (("windows", windows), ("held_windows", held_windows)):
        if value < 2:
            raise ValueError(f"{what} must be at least 2, one for each state, found {value}.")
    files = TrainingOutput("liquid_glass", output, name, resume=resume)
    reading: dict[str, Any] = {"types": types, "names": names, "units": units, "note": note}
    runs = glass_runs(data, label, **reading)
    given = [] if validation is None else glass_runs(validation, label, "validation run", **reading)
    refuse_copies([*runs, *given])
    config = configuration(network, runs)
    if validation is None:
        fold = fold_of_runs(runs, folds, STATES)
        uses = [f"fold {k + 1}" for k in fold]
        split = f"by run, {folds} folds; each fold validates the member that was not trained on it"
    else:
        configuration(config, given)
        shared = {run.group for run in runs} & {run.group for run in given}
        if shared:
            raise ValueError(
                f"{', '.join(sorted(shared))}: used for both training and validation; leave it out of one."
            )
        fold = np.array([-1] * len(runs) + [0] * len(given))
        uses = ["training"] * len(runs) + ["validation"] * len(given)
        split = f"by run: {len(given)} of {len(runs) + len(given)} runs given for validation"
    crops = CropDataset(config, [*runs, *given])
    validating = [0 if given else member for member in range(folds)]
    held_runs = [fold == k for k in validating]
    held = [
        crops.held(which, held_windows, batch_atoms, (seed, 1 << 20, k))
        for k, which in zip(validating, held_runs, strict=True)
    ]
    tasks = [
        crop_task(crops, ~which, own, windows, batch_atoms)
        for which, own in zip(held_runs, held, strict=True)
    ]
    described = {
        **asdict(settings), "network": config.to_dict(), "windows": windows, "held_windows": held_windows,
        "data": joint_digest(run.digest for run in crops.runs), "folds": fold.tolist(),
    }  # fmt: skip
    members = train_members(tasks, settings, state=files.state(described), progress=note)

    with deterministic():
        scores = [crop_logits(m.weights, crops, own) for m, own in zip(members, held, strict=True)]
        whole = []
        if config.architecture == "dmpnn":
            whole = [cell_logits(m.weights, crops, own) for m, own in zip(members, held_runs, strict=True)]
    scaling, columns, numbers = _validation(scores, whole)
    frames = [frame for k, frame in enumerate(crops.frames) if fold[crops.run[k]] != 0 or not given]
    ranges = {
        "number_density": value_range([number_density(frame, config.dimensions) for frame in frames]),
        "b_fraction": value_range([config.codes_of(frame).mean() for frame in frames]),
    }
    card: dict[str, Any] = {
        "summary": summary or _summary(config, runs),
        "data": {
            "configurations": len(frames),
            **{name: sum(run.count(state) for run in runs) for state, name in STATES.items()},
            "runs": len(runs), "particles": sum(frame.n_atoms for frame in frames),
            "species": list(config.species), "dimensions": config.dimensions,
            "files": _file_table(crops.runs, uses),
        },
        "labels": (
            {"glass_below": glass_below, "liquid_above": liquid_above} if glass_below is not None else {}
        ),
        "split": split,
        "training": training_card(
            settings, members, numbers, columns=columns, windows=windows, held_windows=held_windows
        ),
    }  # fmt: skip
    if search is not None:
        card["search"] = dict(search)
    checkpoint = Checkpoint(
        "liquid_glass", files.name,
        {"network": config.to_dict(), "temperature_scaling": scaling, "ranges": ranges},
        member_weights(m.weights for m in members), card=card, units="lj", ranges=ranges,
    )  # fmt: skip
    return files.finish(checkpoint, members, "misclassified windows (%)")


def _numbers(answers: Sequence[Answers]) -> NDArray[np.float64]:
    """(2, n_members) AUC and accuracy."""
    each = [(roc_curve(glass, logit).auc, float(np.mean((logit > 0) == glass))) for logit, glass in answers]
    return np.array(each).T


def _validation(
    scores: Sequence[Answers], whole: Sequence[Answers]
) -> tuple[float, dict[str, list[float]], dict[str, Any]]:
    """Scores of the members, each on its own validation runs.

    Returns the temperature that calibrates the windows of all members (1 if all are classified correctly, so
    that none is determined), columns of the table of members, and means and deviations over members.
    """
    logit, glass = (np.concatenate(part) for part in zip(*scores, strict=True))
    scaling = 1.0 if ((logit > 0) == glass).all() else fit_temperature(logit, glass)
    auc, accuracy = _numbers(scores)
    probability = 1 / (1 + np.exp(-np.clip(logit / scaling, -500, 500)))
    columns = {"auc": auc.tolist()}
    numbers = {
        "windows": len(logit), "auc": auc.mean(), "auc_spread": auc.std(), "accuracy": accuracy.mean(),
        "accuracy_spread": accuracy.std(), "temperature_scaling": scaling,
        "expected_calibration_error": reliability(glass, probability).expected_calibration_error,
    }  # fmt: skip
    if whole:
        auc, accuracy = _numbers(whole)
        columns["whole-cell accuracy"] = accuracy.tolist()
        numbers |= {"whole_cell_auc": auc.mean(), "whole_cell_accuracy": accuracy.mean()}
    return scaling, columns, {key: float(n) if key != "windows" else n for key, n in numbers.items()}


def _file_table(runs: Sequence[Run], uses: Sequence[str]) -> dict[str, Any]:
    rows = [
        [run.name, use, *map(run.count, STATES), run.digest[:16]] for run, use in zip(runs, uses, strict=True)
    ]
    return {"columns": ["file", "use", *STATES.values(), "content"], "rows": rows}


def _summary(config: GlassConfig, runs: Sequence[Run]) -> str:
    kind = "Convolutional network on images"
    if config.architecture == "dmpnn":
        kind = f"Message-passing network on directed edges{', with attention,' * config.attention}"
    frames = sum(len(run.frames) for run in runs)
    return (
        f"{kind} that distinguishes liquid from glass in {config.dimensions} dimensions, trained on windows "
        f"from {frames:,} configurations of {len(runs):,} runs."
    )


# ----------------------------------------------------------------------------------------- search


def search_liquid_glass(
    data: RunData | Iterable[RunData],
    trials: int,
    *,
    glass_below: float | None = None,
    liquid_above: float | None = None,
    label: Label | None = None,
    record: str | os.PathLike[str] | None = None,
    network: Mapping[str, Any] = MappingProxyType({}),
    folds: int = FOLDS,
    temperature: str = "temperature",
    types: Types = None,
    names: Names = None,
    units: Units = "metal",
    windows: int = WINDOWS,
    held_windows: int = HELD_WINDOWS,
    epochs: int = SEARCH_EPOCHS,
    batch_atoms: int = TRAINING["batch_atoms"],
    learning_rate: float | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> SearchResult:
    """Search for settings of a network by TPE in nested cross-validation over runs.

    Parameters
    ----------
    data, glass_below, liquid_above, label, temperature, types, names, units : as in `fit_liquid_glass`
    trials, folds, record, resume, progress : see `phaseseg.training.search.NestedSearch`
    network : fixed settings; the others of `SEARCH_SPACE` are searched
    windows, held_windows, epochs, batch_atoms : for each training
    learning_rate : not searched if given
    seed : of the estimator and of the networks

    Raises
    ------
    ImportError
        If Optuna is not installed; the message says how to get it.
    ValueError
        For settings out of range, unsuitable data, or if the record of another search is in the way.
    """
    search: NestedSearch[CropDataset] = NestedSearch(
        trials, folds, record=record, resume=resume, progress=progress
    )
    for name in network:
        if name not in GlassConfig.__dataclass_fields__:
            raise ValueError(f"the network has no setting {name!r}.")
    label = label_of(label, glass_below, liquid_above, temperature)
    fixed = dict(network) | ({} if learning_rate is None else {"learning_rate": learning_rate})
    settings = Settings(epochs, batch_atoms, learning_rate or TRAINING["learning_rate"], (seed,), epochs)
    all_of = SEARCH_SPACE[network.get("architecture", "dmpnn")]
    space = {name: limits for name, limits in all_of.items() if name not in fixed}
    runs = glass_runs(data, label, types=types, names=names, units=units, note=search.note)
    refuse_copies(runs)
    fold = fold_of_runs(runs, folds, STATES)
    if "k" in space:  # check the largest k
        configuration({**network, "k": space["k"][1]}, runs)

    def prepare(
        parameters: Mapping[str, Any], outer: int, inner: list[int]
    ) -> tuple[CropDataset, list[Task[Any]], Settings]:
        options = {**fixed, **parameters}
        rate = float(options.pop("learning_rate", settings.learning_rate))
        crops = CropDataset(configuration(options, runs), runs)
        tasks = []
        for k in inner:
            held = crops.held(fold == k, held_windows, batch_atoms, (seed, 1 << 20, k))
            tasks.append(crop_task(crops, (fold != outer) & (fold != k), held, windows, batch_atoms))
        seeds = tuple(seed + k for k in range(len(inner)))
        return crops, tasks, replace(settings, learning_rate=rate, seeds=seeds)

    def test(crops: CropDataset, members: Sequence[Member], outer: int) -> dict[str, Any]:
        """AUC and accuracy of the mean logit."""
        held = crops.held(fold == outer, held_windows, batch_atoms, (seed, 1 << 21, outer))
        with deterministic():
            answers = [crop_logits(member.weights, crops, held) for member in members]
        logit, glass = np.mean([logit for logit, _ in answers], axis=0), answers[0][1]
        ((auc,), (accuracy,)) = _numbers([(logit, glass)]).tolist()
        return {"windows": len(glass), "auc": auc, "accuracy": accuracy}

    described = {
        **asdict(settings), "network": configuration(network, runs).to_dict(), "searched": list(space),
        "windows": windows, "held_windows": held_windows, "folds": fold.tolist(),
        "data": joint_digest(run.digest for run in runs),
    }  # fmt: skip
    return search.run(space, prepare, test, seed=seed, fixed=fixed, described=described)


def fit_with_search(
    data: RunData | Iterable[RunData],
    trials: int,
    *,
    output: str | os.PathLike[str],
    search_epochs: int = SEARCH_EPOCHS,
    learning_rate: float | None = None,
    network: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress | None = None,
    **options: Any,
) -> Checkpoint:
    """Run `search_liquid_glass`, then `fit_liquid_glass` with its result; the card describes both.

    `.search.csv` next to the checkpoint has every trial; `.search.json` keeps the trials until the end.

    output : .safetensors file to write; search_epochs : epochs of each network in the search
    options : options of `fit_liquid_glass`; those shared with the search apply to both
    """
    common = (
        "glass_below", "liquid_above", "label", "folds", "temperature", "types", "names", "units",
        "windows", "held_windows", "batch_atoms", "seed", "resume",
    )  # fmt: skip
    shared = {name: options[name] for name in common if name in options}

    def search(record: Path, note: Progress) -> SearchResult:
        return search_liquid_glass(
            data, trials, record=record, network=network, learning_rate=learning_rate, epochs=search_epochs,
            progress=note, **shared,
        )  # fmt: skip

    def fit(found: SearchResult, path: Path, note: Progress) -> Checkpoint:
        rate = found.chosen.get("learning_rate")
        return fit_liquid_glass(
            data, output=path, network=found.network, learning_rate=rate, search=found.card(), progress=note,
            **options,
        )  # fmt: skip

    return searching.fit_with_search(search, fit, output, progress)


def fit(
    data: RunData | Iterable[RunData], *, search: int = 0, search_epochs: int = SEARCH_EPOCHS, **options: Any
) -> Checkpoint:
    """Call `fit_liquid_glass`, or `fit_with_search` if `search` gives a number of trials."""
    if search:
        return fit_with_search(data, search, search_epochs=search_epochs, **options)
    return fit_liquid_glass(data, **options)
