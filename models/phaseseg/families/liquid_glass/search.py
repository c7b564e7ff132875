"""Search for the settings of a network by nested cross-validation over runs.

Each fold of the runs is put aside in turn. On the others a tree-structured Parzen estimator (TPE, of Optuna)
proposes settings, each of which is trained once for every other fold, which validates it; the networks of
the best settings are then tested on the fold put aside. So the test says what the search is worth, and no
run that is tested on had a say in the settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.defaults import (
    FOLDS,
    HELD_WINDOWS,
    SEARCH_EPOCHS,
    SEARCH_SPACE,
    TRAINING,
    WINDOWS,
)
from phaseseg.families.liquid_glass.fit import (
    GlassRun,
    Label,
    Problem,
    Run,
    configuration,
    fit_liquid_glass,
    fold_of_runs,
    label_of,
    read_runs,
    refuse_copies,
)
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.fields import Table
from phaseseg.frame import Units
from phaseseg.metrics import roc_curve
from phaseseg.training import (
    Member,
    Progress,
    Settings,
    beside,
    deterministic,
    output_file,
    train_members,
)

_STARTUP = 5
"""Trials at random, before the estimator has something to go by; also before trials are given up early."""


@dataclass
class Trial:
    """One proposal and what became of it.

    parameters : as the estimator knows them; loss : mean validation loss of the inner folds, None where the
        trial was given up early
    losses : validation loss after each epoch of the first inner fold
    """

    parameters: dict[str, Any]
    loss: float | None
    losses: list[float]
    seconds: float


@dataclass
class OuterFold:
    """One fold put aside: the trials on the others, and the test of the best on it."""

    trials: list[Trial] = field(default_factory=list)
    test: dict[str, Any] | None = None

    @property
    def best(self) -> Trial:
        finished = [trial for trial in self.trials if trial.loss is not None]
        return min(finished, key=lambda trial: trial.loss or 0.0)


class _Record:
    """The search as far as it got, in one JSON file beside the output; finished trials are never repeated."""

    def __init__(self, path: Path | None, settings: Mapping[str, Any], folds: int, *, resume: bool) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.folds = [OuterFold() for _ in range(folds)]
        if path is None or not path.exists():
            return
        if not resume:
            raise ValueError(
                f"{path}: the trials of an unfinished search are in the way. Continue it (--resume), or "
                "delete the file."
            )
        try:
            content = json.loads(path.read_text("utf-8"))
            before = content["settings"]
            self.folds = [
                OuterFold([Trial(**trial) for trial in fold["trials"]], fold["test"])
                for fold in content["folds"]
            ]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path}: this is no search that can be continued. Delete the file and start again."
            ) from None
        for name in {**before, **self.settings}:
            if before.get(name) != self.settings.get(name):
                raise ValueError(
                    f"{path}: the unfinished search had another {name}. Give the same data and options, or "
                    "delete the file to start again."
                )

    def save(self) -> None:
        from phaseseg.io import atomic_output

        if self.path is None:
            return
        content = {"settings": self.settings, "folds": [asdict(fold) for fold in self.folds]}
        with atomic_output(self.path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


@dataclass(frozen=True)
class SearchResult:
    """What came out of a search.

    folds : each with its trials and the test on the fold put aside
    chosen : settings of the fold whose best trial has the least validation loss; `network` settings of
        `GlassConfig`, and `learning_rate`
    """

    folds: tuple[OuterFold, ...]
    chosen: dict[str, Any]

    @property
    def network(self) -> dict[str, Any]:
        return {name: value for name, value in self.chosen.items() if name != "learning_rate"}

    def table(self) -> Table:
        """Every trial of every fold."""
        rows = [(k, n, trial) for k, fold in enumerate(self.folds) for n, trial in enumerate(fold.trials)]
        names = list(dict.fromkeys(name for _, _, trial in rows for name in trial.parameters))
        columns: dict[str, list[Any]] = {
            "fold": [k + 1 for k, _, _ in rows],
            "trial": [n + 1 for _, n, _ in rows],
            **{name: [trial.parameters[name] for _, _, trial in rows] for name in names},
            "validation loss": [np.nan if t.loss is None else t.loss for _, _, t in rows],
            "epochs of the first network": [len(trial.losses) for _, _, trial in rows],
            "seconds": [round(trial.seconds, 1) for _, _, trial in rows],
        }
        return Table("Search", {name: np.asarray(values) for name, values in columns.items()})

    def card(self) -> dict[str, Any]:
        """For the card of a checkpoint: the test of each fold, and what was chosen."""
        rows = [
            [k + 1, fold.best.parameters, fold.best.loss, fold.test["auc"], fold.test["accuracy"]]
            for k, fold in enumerate(self.folds)
            if fold.test is not None
        ]
        auc, accuracy = (np.array([row[c] for row in rows]) for c in (3, 4))
        return {
            "method": "TPE in nested cross-validation over runs",
            "trials": [len(fold.trials) for fold in self.folds],
            "given_up_early": [sum(t.loss is None for t in fold.trials) for fold in self.folds],
            "chosen": self.chosen,
            "test_auc": [float(auc.mean()), float(auc.std())],
            "test_accuracy": [float(accuracy.mean()), float(accuracy.std())],
            "folds": {
                "columns": ["fold put aside", "settings", "validation loss", "test auc", "test accuracy"],
                "rows": rows,
            },
        }


class _Search:
    """Trials on one training problem after the other."""

    def __init__(
        self,
        runs: Sequence[GlassRun],
        fold: NDArray[np.int64],
        fixed: Mapping[str, Any],
        settings: Settings,
        windows: tuple[int, int],
        record: _Record,
        note: Progress,
    ) -> None:
        self.runs, self.fold, self.fixed, self.settings = runs, fold, fixed, settings
        self.windows, self.record, self.note = windows, record, note
        self.space = _space(fixed)
        self.trained: dict[int, tuple[Problem, list[Member]]] = {}

    def run(self, outer: int, trials: int) -> None:
        """What is left of the trials of a fold, and its test."""
        fold = self.record.folds[outer]
        while len(fold.trials) < trials:
            number = len(fold.trials)
            fold.trials.append(self._trial(outer, number, trials))
            self.record.save()
        if fold.test is None:
            fold.test = self._test(outer)
            self.record.save()

    def _trial(self, outer: int, number: int, trials: int) -> Trial:
        """Propose settings, train them once for each inner fold, and say how they did."""
        import optuna

        done = self.record.folds[outer].trials
        seed = int(np.random.default_rng((self.settings.seeds[0], outer, number)).integers(2**31))
        # All anew for each trial, so that the same is proposed whether the search was interrupted or not.
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=2),
        )
        space = {name: _distribution(*limits) for name, limits in self.space.items()}
        for before in done:
            pruned = before.loss is None
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState[("PRUNED" if pruned else "COMPLETE")],
                    value=before.loss, params=before.parameters, distributions=space,
                    intermediate_values=dict(enumerate(before.losses)),
                )
            )  # fmt: skip
        asked = study.ask(space)
        parameters = {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in asked.params.items()
        }
        begin = perf_counter()
        losses: list[float] = []

        def judge(loss: float) -> None:
            losses.append(loss)
            asked.report(loss, len(losses) - 1)
            if asked.should_prune() or not isfinite(loss):
                raise optuna.TrialPruned

        def note(done: float, line: str) -> None:
            folds = len(self.record.folds)
            share = (outer + (number + done) / trials) / folds
            self.note(share, f"fold {outer + 1}/{folds}, trial {number + 1}/{trials}, {line}")

        try:
            problem, members = self._train(outer, parameters, note, judge)
        except optuna.TrialPruned:
            return Trial(parameters, None, [x for x in losses if isfinite(x)], perf_counter() - begin)
        loss = float(np.mean([member.best.validation_loss for member in members]))
        if all(before.loss is None or loss < before.loss for before in done):
            self.trained[outer] = problem, members
        return Trial(parameters, loss, losses, perf_counter() - begin)

    def _test(self, outer: int) -> dict[str, Any]:
        """AUC and accuracy on the fold put aside, of the mean logit of the networks of the best trial."""
        fold = self.record.folds[outer]
        if outer not in self.trained:  # before an interruption
            problem, members = self._train(outer, fold.best.parameters, lambda *_: None, lambda _: None)
        else:
            problem, members = self.trained.pop(outer)
        held = problem.held(
            self.fold == outer, self.windows[1], self.settings.batch_atoms,
            (self.settings.seeds[0], 1 << 21, outer),
        )  # fmt: skip
        with deterministic():
            answers = [problem.logits(member.weights, held) for member in members]
        logit, glass = np.mean([logit for logit, _ in answers], axis=0), answers[0][1]
        return {
            "windows": len(glass),
            "auc": roc_curve(glass, logit).auc,
            "accuracy": float(np.mean((logit > 0) == glass)),
        }

    def _inner(self, outer: int) -> list[int]:
        return [int(k) for k in np.unique(self.fold) if k != outer]

    def _train(
        self, outer: int, parameters: Mapping[str, Any], note: Progress, judge: Callable[[float], None]
    ) -> tuple[Problem, list[Member]]:
        """Networks of some settings, one for each inner fold, which validates it.

        judge : called with the validation loss of the first network after each epoch
        """
        options = {**self.fixed, **parameters}
        learning_rate = float(options.pop("learning_rate", self.settings.learning_rate))
        problem = Problem(configuration(options, self.runs), self.runs)
        inner = self._inner(outer)
        seed, batch_atoms = self.settings.seeds[0], self.settings.batch_atoms
        settings = replace(
            self.settings, learning_rate=learning_rate, seeds=tuple(seed + k for k in range(len(inner)))
        )
        tasks = []
        for k in inner:
            held = problem.held(self.fold == k, self.windows[1], batch_atoms, (seed, 1 << 20, k))
            learned = (self.fold != outer) & (self.fold != k)
            tasks.append(problem.task(learned, held, self.windows[0], batch_atoms))
        validate = tasks[0].validate

        def judged(network: Any) -> tuple[float, float]:
            found = validate(network)
            judge(found[0])
            return found

        tasks[0].validate = judged
        return problem, train_members(tasks, settings, progress=note)


def _distribution(low: float, high: float, step: float | str) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if step == "log":
        return FloatDistribution(low, high, log=True)
    if isinstance(low, int):
        return IntDistribution(low, int(high), step=step)
    return FloatDistribution(low, high, step=step)


# ------------------------------------------------------------------------------------------ search


def search_liquid_glass(
    data: Run | Iterable[Run],
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
    trials : proposals for each fold put aside; each is trained folds - 1 times
        The first five are drawn at random; later ones are given up early where their validation loss is above
        the median of those before.
    record : .json file that keeps finished trials, so that the search can be continued
    network : settings that are given and not searched, which are those of `SEARCH_SPACE` else
    folds : of the runs, at least 3
    windows, held_windows, epochs, batch_atoms : of each training
    learning_rate : if given, it is not searched
    seed : of estimator and networks
    resume : go on from the record, if there is one
    progress : called with the share that is done and a line of text

    Raises
    ------
    ImportError
        If Optuna is not installed; the sentence says how to get it.
    ValueError
        For settings out of range, data that cannot be learned from, and another search in the way.
    """
    require_optuna()
    import optuna

    if trials < 1:
        raise ValueError(f"a search needs at least 1 trial, found {trials}.")
    if folds < 3:
        raise ValueError(
            f"a search needs at least 3 folds (to learn from, to choose by and to test on), found {folds}."
        )
    for name in network:
        if name not in GlassConfig.__dataclass_fields__:
            raise ValueError(f"there is no setting {name!r} of the network.")
    note = progress or (lambda done, line: None)
    label = label_of(label, glass_below, liquid_above, temperature)
    fixed = dict(network) | ({} if learning_rate is None else {"learning_rate": learning_rate})
    settings = Settings(epochs, batch_atoms, learning_rate or TRAINING["learning_rate"], (seed,), epochs)
    path = None if record is None else Path(record)
    if path is not None and path.exists() and not resume:
        _Record(path, {}, folds, resume=False)  # before the work begins
    runs = read_runs(data, label, types=types, units=units, note=note)
    refuse_copies(runs)
    fold = fold_of_runs(runs, folds)
    for name, (_, high, _) in _space(fixed).items():  # is the largest k possible?
        if name == "k":
            configuration({**network, "k": high}, runs)
    described = {
        **asdict(settings), "network": configuration(network, runs).to_dict(),
        "searched": list(_space(fixed)), "windows": windows, "held_windows": held_windows,
        "folds": fold.tolist(),
        "data": hashlib.sha256(json.dumps([run.digest for run in runs]).encode()).hexdigest(),
    }  # fmt: skip
    kept = _Record(path, described, folds, resume=resume)
    search = _Search(runs, fold, fixed, settings, (windows, held_windows), kept, note)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for outer in range(folds):
            search.run(outer, trials)
    except KeyboardInterrupt:
        done = sum(len(one.trials) for one in kept.folds)
        raise KeyboardInterrupt(
            f"{done} finished trial{'s' * (done != 1)} lie in {path}; continue with --resume."
            if path is not None and path.exists()
            else "The search had just begun, so there is nothing to continue."
        ) from None
    finally:
        optuna.logging.set_verbosity(verbosity)
    best = min(kept.folds, key=lambda one: one.best.loss or 0.0).best
    return SearchResult(tuple(kept.folds), {**fixed, **best.parameters})


def fit_with_search(
    data: Run | Iterable[Run],
    trials: int,
    *,
    output: str | os.PathLike[str],
    search_epochs: int = SEARCH_EPOCHS,
    learning_rate: float | None = None,
    network: Mapping[str, Any] = MappingProxyType({}),
    windows: int = WINDOWS,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Checkpoint:
    """`search_liquid_glass`, then `fit_liquid_glass` with what it found; the card tells of both.

    Beside the checkpoint `.search.csv` with every trial and, until all is finished, `.search.json`.

    Parameters
    ----------
    data, trials, network, learning_rate : as in `search_liquid_glass`
    output : .safetensors file to write
    search_epochs : of a network of the search
    options : of `fit_liquid_glass`; those that both have serve both
    """
    from phaseseg.io import write_table

    path = output_file(output)
    record = beside(path, ".search.json")
    note = progress or (lambda done, line: None)
    common = (
        "glass_below", "liquid_above", "label", "folds", "temperature", "types", "units", "held_windows",
        "batch_atoms", "seed",
    )  # fmt: skip
    found = search_liquid_glass(
        data, trials, record=record, network=network, learning_rate=learning_rate, epochs=search_epochs,
        windows=windows, resume=resume, progress=lambda done, line: note(0.9 * done, line),
        **{name: options[name] for name in common if name in options},
    )  # fmt: skip
    checkpoint = fit_liquid_glass(
        data, output=path, network=found.network, windows=windows,
        learning_rate=found.chosen.get("learning_rate", TRAINING["learning_rate"]), search=found.card(),
        resume=resume, progress=lambda done, line: note(0.9 + 0.1 * done, line), **options,
    )  # fmt: skip
    write_table(beside(path, ".search.csv"), found.table())
    record.unlink()
    return checkpoint


def require_optuna() -> None:
    """Raise an ImportError of one sentence if Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'the search needs Optuna ({error}); install it with: pip install "ovito-phaseseg[train]"'
        ) from None


def _space(fixed: Mapping[str, Any]) -> dict[str, tuple[float, float, float | str]]:
    """What is searched where some settings are given."""
    space = SEARCH_SPACE[fixed.get("architecture", "dmpnn")]
    return {name: limits for name, limits in space.items() if name not in fixed}
