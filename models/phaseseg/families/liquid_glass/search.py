"""The search for settings of a network of liquid and glass; see `phaseseg.training.search`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.fit import (
    STATES,
    Problem,
    configuration,
    fit_liquid_glass,
    glass_runs,
)
from phaseseg.families.liquid_glass.settings import (
    FOLDS,
    HELD_WINDOWS,
    SEARCH_EPOCHS,
    SEARCH_SPACE,
    TRAINING,
    WINDOWS,
    GlassConfig,
)
from phaseseg.families.liquid_glass.states import Label, label_of
from phaseseg.frame import Units
from phaseseg.metrics import roc_curve
from phaseseg.specs import Progress
from phaseseg.training import search as searching
from phaseseg.training.curves import Member
from phaseseg.training.loop import Task, deterministic
from phaseseg.training.runs import RunData, fold_of_runs, joint_digest, refuse_copies
from phaseseg.training.search import NestedSearch, SearchResult
from phaseseg.training.settings import Settings


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
    types: Sequence[str] | None = None,
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
    data, glass_below, liquid_above, label, temperature, types, units : as in `fit_liquid_glass`
    trials, folds, record, resume, progress : see `phaseseg.training.search.NestedSearch`
    network : settings that are given; the others of `SEARCH_SPACE` are searched
    windows, held_windows, epochs, batch_atoms : of each training
    learning_rate : if given, it is not searched
    seed : of the estimator and of the networks

    Raises
    ------
    ImportError
        If Optuna is not installed; the sentence says how to get it.
    ValueError
        For settings out of range, data that cannot be learned from, and another search in the way.
    """
    search: NestedSearch[Problem] = NestedSearch(
        trials, folds, record=record, resume=resume, progress=progress
    )
    for name in network:
        if name not in GlassConfig.__dataclass_fields__:
            raise ValueError(f"there is no setting {name!r} of the network.")
    label = label_of(label, glass_below, liquid_above, temperature)
    fixed = dict(network) | ({} if learning_rate is None else {"learning_rate": learning_rate})
    settings = Settings(epochs, batch_atoms, learning_rate or TRAINING["learning_rate"], (seed,), epochs)
    space = {
        name: limits
        for name, limits in SEARCH_SPACE[network.get("architecture", "dmpnn")].items()
        if name not in fixed
    }
    runs = glass_runs(data, label, types=types, units=units, note=search.note)
    refuse_copies(runs)
    fold = fold_of_runs(runs, folds, STATES)
    if "k" in space:  # is the largest one possible?
        configuration({**network, "k": space["k"][1]}, runs)

    def prepare(
        parameters: Mapping[str, Any], outer: int, inner: list[int]
    ) -> tuple[Problem, list[Task[Any]], Settings]:
        options = {**fixed, **parameters}
        rate = float(options.pop("learning_rate", settings.learning_rate))
        problem = Problem(configuration(options, runs), runs)
        tasks = []
        for k in inner:
            held = problem.held(fold == k, held_windows, batch_atoms, (seed, 1 << 20, k))
            tasks.append(problem.task((fold != outer) & (fold != k), held, windows, batch_atoms))
        seeds = tuple(seed + k for k in range(len(inner)))
        return problem, tasks, replace(settings, learning_rate=rate, seeds=seeds)

    def test(problem: Problem, members: Sequence[Member], outer: int) -> dict[str, Any]:
        """AUC and accuracy of the mean logit."""
        held = problem.held(fold == outer, held_windows, batch_atoms, (seed, 1 << 21, outer))
        with deterministic():
            answers = [problem.logits(member.weights, held) for member in members]
        logit, glass = np.mean([logit for logit, _ in answers], axis=0), answers[0][1]
        accuracy = float(np.mean((logit > 0) == glass))
        return {"windows": len(glass), "auc": roc_curve(glass, logit).auc, "accuracy": accuracy}

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
    """`search_liquid_glass`, then `fit_liquid_glass` with its result; the card tells of both.

    Next to the checkpoint `.search.csv` has every trial; `.search.json` keeps them until all is finished.

    Parameters
    ----------
    data, trials, network, learning_rate : as in `search_liquid_glass`
    output : .safetensors file to write
    search_epochs : of a network of the search
    options : of `fit_liquid_glass`; those that the search has as well serve both
    """
    common = (
        "glass_below", "liquid_above", "label", "folds", "temperature", "types", "units", "windows",
        "held_windows", "batch_atoms", "seed", "resume",
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
    data: RunData | Iterable[RunData],
    *,
    search: int = 0,
    search_epochs: int = SEARCH_EPOCHS,
    **options: Any,
) -> Checkpoint:
    """`fit_liquid_glass`, or `fit_with_search` with this many trials."""
    if search:
        return fit_with_search(data, search, search_epochs=search_epochs, **options)
    return fit_liquid_glass(data, **options)
