"""Search for the settings of a network by nested cross-validation over runs, for every family.

Each fold of the runs is put aside in turn. On the others a tree-structured Parzen estimator (TPE, of Optuna)
proposes settings. A proposal is trained once for every other fold, which validates it; the networks of the
best proposal are then tested on the fold put aside. The test therefore measures the search itself: the runs
of a test have not influenced the settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np

from phaseseg.checkpoint import Checkpoint
from phaseseg.display import option
from phaseseg.fields import Table
from phaseseg.specs import Progress
from phaseseg.training.curves import Member
from phaseseg.training.files import output_file, sibling_path
from phaseseg.training.loop import Task, train_members
from phaseseg.training.settings import Settings

Limits = tuple[float, float, float | str]
"""Least and largest value of a setting, and the step, or "log" for a number drawn on a logarithmic scale."""
Data = TypeVar("Data")
Prepare = Callable[[Mapping[str, Any], int, list[int]], tuple[Data, Sequence[Task[Any]], Settings]]
"""Gives the tasks of a proposal: called with its settings, the fold put aside and the inner folds.

It returns whatever the test needs, a task for each inner fold, and the settings of the training.
"""
Test = Callable[[Data, Sequence[Member], int], dict[str, Any]]
"""Scores of the members on the fold put aside, as floats; an int is a number of items."""

_STARTUP = 5
"""Trials drawn at random before the estimator proposes any, and before trials are given up early."""


@dataclass
class Trial:
    """One proposal and its result.

    parameters : as the estimator knows them
    loss : mean validation loss of the inner folds; None if the trial was given up early
    losses : validation loss after each epoch of the first inner fold
    """

    parameters: dict[str, Any]
    loss: float | None
    losses: list[float]
    seconds: float


@dataclass
class OuterFold:
    """One outer fold: the trials on the other folds, and the test of the best trial on this fold."""

    trials: list[Trial] = field(default_factory=list)
    test: dict[str, Any] | None = None

    @property
    def best(self) -> Trial:
        finished = [trial for trial in self.trials if trial.loss is not None]
        return min(finished, key=lambda trial: trial.loss or 0.0)


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    folds : each with its trials and its test
    chosen : settings of the fold whose best trial has the lowest validation loss, with those that were given
    """

    folds: tuple[OuterFold, ...]
    chosen: dict[str, Any]

    @property
    def network(self) -> dict[str, Any]:
        """The chosen settings, without the learning rate."""
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
        return Table("Search", columns)

    def card(self) -> dict[str, Any]:
        """For the card of a checkpoint: the test of each fold, and what was chosen."""
        tests = [fold.test or {} for fold in self.folds]
        scores = [name for name, value in tests[0].items() if isinstance(value, float)]
        values = {name: np.array([test[name] for test in tests]) for name in scores}
        return {
            "method": "TPE in nested cross-validation over runs",
            "trials": [len(fold.trials) for fold in self.folds],
            "given_up_early": [sum(t.loss is None for t in fold.trials) for fold in self.folds],
            "chosen": self.chosen,
            **{f"test_{name}": [float(each.mean()), float(each.std())] for name, each in values.items()},
            "folds": {
                "columns": [
                    "fold put aside", "settings", "validation loss", *(f"test {name}" for name in scores),
                ],
                "rows": [
                    [k + 1, fold.best.parameters, fold.best.loss, *(test[name] for name in scores)]
                    for k, (fold, test) in enumerate(zip(self.folds, tests, strict=True))
                ],
            },
        }  # fmt: skip


class _Record:
    """The search so far, in one JSON file; finished trials are never repeated."""

    def __init__(self, path: Path | None, settings: Mapping[str, Any], folds: int, *, resume: bool) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.folds = [OuterFold() for _ in range(folds)]
        if path is None or not path.exists():
            return
        if not resume:
            raise ValueError(
                f"{path}: the trials of an unfinished search are in the way. Continue it with "
                f"{option('resume', True)}, or delete the file."
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
                f"{path}: this is not a search that can be continued. Delete the file and start again."
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


class NestedSearch(Generic[Data]):
    """A search; made before the data are read, so that errors appear early.

    Parameters
    ----------
    trials : proposals for each fold put aside; each is trained folds - 1 times
        The first five are drawn at random. Later ones are given up early where their validation loss is above
        the median of those before.
    folds : of the runs, at least 3
    record : .json file that keeps finished trials, so that the search can be continued
    resume : go on from the record, if there is one
    progress : called with the fraction that is done and a line of text

    Raises
    ------
    ImportError
        If Optuna is not installed; the sentence says how to get it.
    ValueError
        For numbers out of range, and another search in the way.
    """

    def __init__(
        self,
        trials: int,
        folds: int,
        *,
        record: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> None:
        require_optuna()
        if trials < 1:
            raise ValueError(f"a search needs at least 1 trial, found {trials}.")
        if folds < 3:
            raise ValueError(
                f"a search needs at least 3 folds (to learn from, to choose by and to test on), found "
                f"{folds}."
            )
        self.trials, self.n_folds, self.resume = trials, folds, resume
        self.path = None if record is None else Path(record)
        self.note = progress or (lambda done, line: None)
        if not resume:
            _Record(self.path, {}, folds, resume=False)

    def run(
        self,
        space: Mapping[str, Limits],
        prepare: Prepare[Data],
        test: Test[Data],
        *,
        seed: int,
        fixed: Mapping[str, Any],
        described: Mapping[str, Any],
    ) -> SearchResult:
        """All trials and tests; the same seed gives the same result, interrupted and continued or not.

        Parameters
        ----------
        space : what is searched
        prepare, test : of the family; see `Prepare` and `Test`
        seed : of the estimator
        fixed : settings that are given, as they enter `SearchResult.chosen`
        described : everything that the result depends on, plain values

        Raises
        ------
        KeyboardInterrupt
            With a sentence that says where the finished trials lie.
        ValueError
            If the record is that of another search.
        """
        import optuna

        self.space, self.prepare, self.test, self.seed = dict(space), prepare, test, seed
        self.record = record = _Record(self.path, described, self.n_folds, resume=self.resume)
        self.trained: dict[int, tuple[Data, list[Member]]] = {}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            for outer in range(self.n_folds):
                self._run_fold(outer)
        except KeyboardInterrupt:
            done = sum(len(one.trials) for one in record.folds)
            raise KeyboardInterrupt(
                f"{done} finished trial{'s' * (done != 1)} lie in {self.path}; continue with "
                f"{option('resume', True)}."
                if self.path is not None and self.path.exists()
                else "The search had just begun; there is nothing to resume."
            ) from None
        finally:
            optuna.logging.set_verbosity(verbosity)
        best = min(record.folds, key=lambda one: one.best.loss or 0.0).best
        return SearchResult(tuple(record.folds), {**fixed, **best.parameters})

    def _run_fold(self, outer: int) -> None:
        """What is left of the trials of a fold, and its test."""
        fold = self.record.folds[outer]
        while len(fold.trials) < self.trials:
            fold.trials.append(self._trial(outer, len(fold.trials)))
            self.record.save()
        if fold.test is None:
            if outer not in self.trained:  # the best trial was before an interruption
                self.trained[outer] = self._train(outer, fold.best.parameters)
            fold.test = self.test(*self.trained.pop(outer), outer)
            self.record.save()

    def _trial(self, outer: int, number: int) -> Trial:
        """Propose settings and train them once for each inner fold."""
        import optuna

        done = self.record.folds[outer].trials
        seed = int(np.random.default_rng((self.seed, outer, number)).integers(2**31))
        # A new study for each trial proposes the same settings whether the search was interrupted or not.
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=2),
        )
        space = {name: _distribution(*limits) for name, limits in self.space.items()}
        for before in done:
            state = optuna.trial.TrialState[("PRUNED" if before.loss is None else "COMPLETE")]
            study.add_trial(
                optuna.trial.create_trial(
                    state=state, value=before.loss, params=before.parameters, distributions=space,
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
            share = (outer + (number + done) / self.trials) / self.n_folds
            self.note(share, f"fold {outer + 1}/{self.n_folds}, trial {number + 1}/{self.trials}, {line}")

        try:
            data, members = self._train(outer, parameters, note, judge)
        except optuna.TrialPruned:
            return Trial(parameters, None, [x for x in losses if isfinite(x)], perf_counter() - begin)
        loss = float(np.mean([member.best.validation_loss for member in members]))
        if all(before.loss is None or loss < before.loss for before in done):
            self.trained[outer] = data, members
        return Trial(parameters, loss, losses, perf_counter() - begin)

    def _train(
        self,
        outer: int,
        parameters: Mapping[str, Any],
        note: Progress | None = None,
        judge: Callable[[float], None] = lambda loss: None,
    ) -> tuple[Data, list[Member]]:
        """Networks of some settings, one for each inner fold, which validates it.

        judge : called with the validation loss of the first network after each epoch
        """
        inner = [fold for fold in range(self.n_folds) if fold != outer]
        data, tasks, settings = self.prepare(parameters, outer, inner)
        validate = tasks[0].validate

        def judged(network: Any) -> tuple[float, float]:
            found = validate(network)
            judge(found[0])
            return found

        tasks[0].validate = judged
        return data, train_members(tasks, settings, progress=note)


def fit_with_search(
    search: Callable[[Path, Progress], SearchResult],
    fit: Callable[[SearchResult, Path, Progress], Checkpoint],
    output: str | os.PathLike[str],
    progress: Progress | None = None,
) -> Checkpoint:
    """Search, then train with the result; the card describes both.

    The file `.search.csv` next to the checkpoint has every trial; `.search.json` keeps finished trials until
    the training has finished as well.

    Parameters
    ----------
    search : called with the file of the record and its progress
    fit : called with the result, the file to write and its progress
    """
    from phaseseg.io import write_table

    path, note = output_file(output), progress or (lambda done, line: None)
    record = sibling_path(path, ".search.json")
    found = search(record, lambda done, line: note(0.9 * done, line))
    checkpoint = fit(found, path, lambda done, line: note(0.9 + 0.1 * done, line))
    write_table(sibling_path(path, ".search.csv"), found.table())
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


def _distribution(low: float, high: float, step: float | str) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if step == "log":
        return FloatDistribution(low, high, log=True)
    if isinstance(low, int):
        return IntDistribution(low, int(high), step=step)
    return FloatDistribution(low, high, step=step)
