"""The loop over epochs: Adam on the batches of a family, one network for each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from phaseseg.display import option
from phaseseg.specs import Progress
from phaseseg.training.curves import Epoch, Member
from phaseseg.training.settings import Settings
from phaseseg.training.state import TrainingState

if TYPE_CHECKING:
    from torch import Tensor, nn

_LEAST_RATE = 0.01  # the cosine ends at this fraction of the learning rate

Batch = TypeVar("Batch")


def require_torch() -> None:
    """Raise an ImportError of one sentence if PyTorch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'training needs PyTorch ({error}); install it with: pip install "ovito-phaseseg[train]"'
        ) from None


def batches_by_atoms(sizes: Sequence[int], batch_atoms: int, order: Iterable[int]) -> list[list[int]]:
    """Indices of the frames of each batch; a batch is closed as soon as it holds `batch_atoms`.

    Examples
    --------
    >>> batches_by_atoms([520, 520, 520], 1000, [2, 0, 1])
    [[2, 0], [1]]
    """
    batches: list[list[int]] = []
    current: list[int] = []
    atoms = 0
    for k in order:
        current.append(int(k))
        atoms += sizes[k]
        if atoms >= batch_atoms:
            batches.append(current)
            current, atoms = [], 0
    return [*batches, current] if current else batches


def mean_scores(scores: Iterable[tuple[float, int, int]]) -> tuple[float, float]:
    """Mean loss and fraction of errors over batches, each given by its mean loss, its errors and its items.

    Without gradients, where the scores are computed one after the other.
    """
    import torch

    total, wrong, items = 0.0, 0, 0
    with torch.no_grad():
        for loss, errors, n in scores:
            total, wrong, items = total + n * loss, wrong + errors, items + n
    return total / items, wrong / items


@contextmanager
def deterministic() -> Iterator[None]:
    """Use one thread, and restore PyTorch's generator afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


@dataclass
class Task(Generic[Batch]):
    """What a family provides for the loop.

    build : a fresh network; it may draw from PyTorch's generator
    batches : of one epoch, given the generator of that epoch
    loss : mean loss of a batch, with gradient
    validate : validation loss and error of a network
    error : what the error is, for the line of an epoch
    """

    build: Callable[[], nn.Module]
    batches: Callable[[np.random.Generator], Sequence[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    validate: Callable[[nn.Module], tuple[float, float]]
    error: str = "wrong"


def train_members(
    task: Task[Batch] | Sequence[Task[Batch]],
    settings: Settings,
    *,
    state: TrainingState | None = None,
    progress: Progress | None = None,
) -> list[Member]:
    """Train one network per seed; keep the weights of the epoch with the least validation loss, or the last.

    task : of all members, or one for each, as when each is validated on another part of the data

    On one machine the same seed gives the same bits, interrupted and resumed or not: every epoch has a
    generator of its own, and weights and moments are stored exactly.

    Raises
    ------
    KeyboardInterrupt
        With a sentence that says where the state lies.
    ValueError
        If the loss is not a finite number.
    """
    members: list[Member] = []
    tasks = [task] * len(settings.seeds) if isinstance(task, Task) else task
    with deterministic():
        try:
            for number, own in enumerate(tasks):
                member = _Training(own, settings, members, number, state).run(progress)
                members.append(member)
        except KeyboardInterrupt:
            if state is None:
                raise
            sentence = (
                f"The state {state.written} lies in {state.path}; continue with {option('resume', True)}."
                if state.written
                else "Training had just begun; there is nothing to resume."
            )
            raise KeyboardInterrupt(sentence) from None
    return members


class _Training(Generic[Batch]):
    """One member: network, optimizer, and the best so far."""

    def __init__(
        self,
        task: Task[Batch],
        settings: Settings,
        before: Sequence[Member],
        number: int,
        state: TrainingState | None,
    ) -> None:
        import torch

        self.task, self.settings, self.before, self.number, self.state = task, settings, before, number, state
        self.seed = settings.seeds[number]
        torch.manual_seed(self.seed)
        self.network = task.build()
        parameters, rate = self.network.parameters(), settings.learning_rate
        self.optimizer: torch.optim.Optimizer
        if settings.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=settings.weight_decay)
        else:
            self.optimizer = torch.optim.Adam(parameters, lr=rate)
        self.epochs: list[Epoch] = []
        self.best_epoch, self.best = 0, {}  # type: int, dict[str, Tensor]
        if state is not None and state.found is not None:
            content, tensors = state.found
            if number < len(content["members"]):
                self._restore(content["members"][number], tensors)

    def run(self, progress: Progress | None) -> Member:
        settings = self.settings
        while not self._finished:
            self._epoch()
            last = self.epochs[-1]
            if self.state is not None:
                self._save(self.state)
            if progress is not None:
                done = (self.number + last.epoch / settings.epochs) / len(settings.seeds)
                progress(done, self._line(last))
        weights = {name: values.numpy().copy() for name, values in self.best.items()}
        return Member(self.seed, weights, self.best_epoch, self.epochs)

    @property
    def _finished(self) -> bool:
        done = len(self.epochs)
        if self.settings.keep == "last":
            return done >= self.settings.epochs
        return done >= self.settings.epochs or done - self.best_epoch >= self.settings.patience

    def _rate_factor(self, share: float, step: float) -> float:
        """The learning rate after a share of the epochs, relative to the highest; step : of an epoch."""
        warmup = self.settings.warmup
        if share < warmup:
            return min((share + step / self.settings.epochs) / warmup, 1.0)
        if warmup:
            share = (share - warmup) / (1 - warmup)
        return _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))

    def _line(self, epoch: Epoch) -> str:
        """The part of a text that fits on a line of 80 characters, next to the remaining time."""
        of = f"member {self.number + 1}/{len(self.settings.seeds)}, " * (len(self.settings.seeds) > 1)
        return (
            f"{of}epoch {epoch.epoch}/{self.settings.epochs}: loss {epoch.loss:.3f}, validation "
            f"{epoch.validation_loss:.3f}, {self.task.error} {epoch.validation_error:.2%}"
        )

    def _epoch(self) -> None:
        import torch

        begin = perf_counter()
        number = len(self.epochs)
        batches = self.task.batches(np.random.default_rng((self.seed, number)))
        self.network.train()
        total, rate = 0.0, 0.0
        for k, batch in enumerate(batches):
            share = (number + k / len(batches)) / self.settings.epochs
            rate = self.settings.learning_rate * self._rate_factor(share, 1 / len(batches))
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad()
            loss = self.task.loss(self.network, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
            self.optimizer.step()
            total += loss.item()
        self.network.eval()
        validation_loss, error = self.task.validate(self.network)
        mean = total / max(len(batches), 1)
        if not (math.isfinite(mean) and math.isfinite(validation_loss)):
            raise ValueError(
                f"the loss of epoch {number + 1} is not a finite number; try a lower learning rate than "
                f"{self.settings.learning_rate:g}."
            )
        self.epochs.append(
            Epoch(
                self.number, self.seed, number + 1, rate, mean, validation_loss, error, perf_counter() - begin
            )
        )
        last = self.settings.keep == "last"
        if last or not self.best_epoch or validation_loss < self.epochs[self.best_epoch - 1].validation_loss:
            self.best_epoch = number + 1
            self.best = {name: values.clone() for name, values in self.network.state_dict().items()}

    def _save(self, state: TrainingState) -> None:
        tensors: dict[str, Tensor] = {}
        members = []
        finished = [(m.epochs, m.best_epoch) for m in self.before]
        for epochs, best_epoch in [*finished, (self.epochs, self.best_epoch)]:
            members.append({"epochs": [asdict(epoch) for epoch in epochs], "best_epoch": best_epoch})
        import torch

        for number, member in enumerate(self.before):
            tensors |= {
                f"member{number}.best.{name}": torch.from_numpy(w) for name, w in member.weights.items()
            }
        own = f"member{self.number}"
        tensors |= {f"{own}.best.{name}": values for name, values in self.best.items()}
        tensors |= {f"{own}.now.{name}": values for name, values in self.network.state_dict().items()}
        for k, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{own}.adam.{k}.{name}": values for name, values in moments.items()}
        of = f" of member {self.number + 1}" * (len(self.settings.seeds) > 1)
        state.save({"members": members}, tensors, f"after epoch {len(self.epochs)}{of}")

    def _restore(self, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        own = f"member{self.number}"

        def part(kind: str) -> dict[str, Tensor]:
            start = f"{own}.{kind}."
            return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}

        self.epochs = [Epoch(**epoch) for epoch in content["epochs"]]
        self.best_epoch, self.best = content["best_epoch"], part("best")
        now = part("now")
        if not now:  # a finished member
            return
        self.network.load_state_dict(now)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, values in part("adam").items():
            k, kind = name.split(".")
            moments.setdefault(int(k), {})[kind] = values
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
