"""Training: the one door for every family, and what the families share.

Shared are the split, the loop over epochs with its state on disk, and the learning curves. PyTorch is
imported inside the functions that need it, so that settings and sentences do not wait for it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import SUFFIX, CheckpointError
from phaseseg.fields import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from torch import Tensor, nn


VALIDATION_SHARE = 0.2
_LEAST_RATE = 0.01  # the cosine ends at this share of the learning rate
_STATE_FORMAT = "1"

Batch = TypeVar("Batch")
Progress = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and one line of text."""


def require_torch() -> None:
    """Raise an ImportError of one sentence if PyTorch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'training needs PyTorch ({error}); install it with: pip install "ovito-phaseseg[train]"'
        ) from None


# --------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the recipe of a family says what it takes where nothing is asked for.

    epochs : at most; the learning rate falls along a cosine over all of them
    batch_atoms : a batch is closed as soon as it holds so many
    learning_rate : of Adam, at the start
    seeds : one member each, trained one after the other
    patience : epochs without a better validation loss after which a member is finished
    clip : largest norm of a gradient
    """

    epochs: int
    batch_atoms: int
    learning_rate: float
    seeds: tuple[int, ...]
    patience: int
    clip: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        for name in ("epochs", "batch_atoms", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, found {getattr(self, name)}.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be distinct numbers from 0 on, found {self.seeds}.")


# ------------------------------------------------------------------------------------------ split


def validation_runs(n_runs: int) -> list[int]:
    """Which of some runs validate: a fifth, evenly spread, at least one.

    Examples
    --------
    >>> validation_runs(3), validation_runs(10)
    ([2], [4, 9])
    """
    n = max(1, round(VALIDATION_SHARE * n_runs))
    return [math.ceil((k + 1) * n_runs / n) - 1 for k in range(n)]


def validation_block(n_frames: int) -> slice:
    """The frames of a run that validate: its last fifth, at least one; of a single frame none."""
    return slice(n_frames - (max(1, round(VALIDATION_SHARE * n_frames)) if n_frames > 1 else 0), None)


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


# ------------------------------------------------------------------------------------------- loop


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curves; `validation_error` is what the family calls its error."""

    member: int
    seed: int
    epoch: int
    learning_rate: float
    loss: float
    validation_loss: float
    validation_error: float
    seconds: float


@dataclass
class Member:
    """One trained network: its weights at the epoch of least validation loss."""

    seed: int
    weights: dict[str, NDArray[np.float32]]
    best_epoch: int
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        return self.epochs[self.best_epoch - 1]

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)


class TrainingState:
    """What an unfinished training leaves on disk after every epoch: one safetensors file, JSON inside.

    Parameters
    ----------
    path : the file
    settings : everything that the result depends on, plain values; a run goes on only with the same
    resume : whether to go on where the file says; without a file training starts from the beginning

    Raises
    ------
    ValueError
        If there is a state that must not be overwritten, or that of another training.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.found: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self.written = ""
        if not path.exists():
            return
        if not resume:
            raise ValueError(
                f"{path}: the state of an unfinished training is in the way. Continue it (--resume), or "
                "delete the file."
            )
        self.found = self._read()
        self.written = self.found[0]["sentence"]

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = json.loads(metadata["training"])
            if metadata["format"] != _STATE_FORMAT:
                raise ValueError
        except (SafetensorError, KeyError, ValueError):
            raise ValueError(
                f"{self.path}: this is no state of a training that can be continued. Delete the file and "
                "start again."
            ) from None
        before = content["settings"]
        for name in {**before, **self.settings}:
            if before.get(name) != self.settings.get(name):
                raise ValueError(
                    f"{self.path}: the unfinished training had another {name} "
                    f"({_short(before.get(name))}, now {_short(self.settings.get(name))}). Give the same "
                    "data and options, or delete the file to start again."
                )
        return content, tensors

    def save(self, content: Mapping[str, Any], tensors: Mapping[str, Tensor], sentence: str) -> None:
        """Write the file anew; it is whole or as before."""
        from safetensors.torch import save

        from phaseseg.io import atomic_output

        text = json.dumps({**content, "settings": self.settings, "sentence": sentence})
        raw = save(dict(tensors), metadata={"format": _STATE_FORMAT, "training": text})
        with atomic_output(self.path) as temporary:
            temporary.write_bytes(raw)
        self.written = sentence

    def delete(self) -> None:
        """The training is finished."""
        self.path.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def deterministic() -> Iterator[None]:
    """One thread, and PyTorch's generator as it was afterwards."""
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
    """What a family gives to the loop.

    build : a fresh network; it may draw from PyTorch's generator
    batches : of one epoch, given the generator of that epoch
    loss : mean loss of a batch, with gradient
    validate : validation loss and error of a network
    """

    build: Callable[[], nn.Module]
    batches: Callable[[np.random.Generator], Sequence[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    validate: Callable[[nn.Module], tuple[float, float]]


def train_members(
    task: Task[Batch] | Sequence[Task[Batch]],
    settings: Settings,
    *,
    state: TrainingState | None = None,
    progress: Progress | None = None,
) -> list[Member]:
    """Train one network per seed with Adam; of each the epoch of least validation loss is kept.

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
                f"The state {state.written} lies in {state.path}; continue with --resume."
                if state.written
                else "Training had just begun, so there is nothing to continue."
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
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
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
        return done >= self.settings.epochs or done - self.best_epoch >= self.settings.patience

    def _line(self, epoch: Epoch) -> str:
        """What fits beside the time that is left on a line of 80."""
        of = f"member {self.number + 1}/{len(self.settings.seeds)}, " * (len(self.settings.seeds) > 1)
        return (
            f"{of}epoch {epoch.epoch}/{self.settings.epochs}: loss {epoch.loss:.3f}, validation "
            f"{epoch.validation_loss:.3f}, wrong {epoch.validation_error:.2%}"
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
            falling = _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))
            rate = self.settings.learning_rate * falling
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad()
            loss = self.task.loss(self.network, batch)
            loss.backward()  # type: ignore[no-untyped-call]
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
        if not self.best_epoch or validation_loss < self.epochs[self.best_epoch - 1].validation_loss:
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


# ----------------------------------------------------------------------------------------- curves


def curves_table(members: Sequence[Member]) -> Table:
    """Every epoch of every member; the epoch whose weights were kept is marked."""
    epochs = [(epoch, member.best_epoch) for member in members for epoch in member.epochs]
    columns: dict[str, list[Any]] = {
        "member": [epoch.member + 1 for epoch, _ in epochs],
        "seed": [epoch.seed for epoch, _ in epochs],
        "epoch": [epoch.epoch for epoch, _ in epochs],
        "learning rate": [epoch.learning_rate for epoch, _ in epochs],
        "loss": [epoch.loss for epoch, _ in epochs],
        "validation loss": [epoch.validation_loss for epoch, _ in epochs],
        "validation error": [epoch.validation_error for epoch, _ in epochs],
        "seconds": [round(epoch.seconds, 4) for epoch, _ in epochs],
        "kept": [int(epoch.epoch == best) for epoch, best in epochs],
    }
    return Table("Learning curves", {name: np.asarray(values) for name, values in columns.items()})


def curves_figure(members: Sequence[Member], error: str = "validation error (%)") -> Figure:
    """Losses and validation error over the epochs; a dot marks the epoch that was kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
    for member, color in zip(members, (color for _ in members for color in colors), strict=False):
        x = [epoch.epoch for epoch in member.epochs]
        label = f"seed {member.seed}"
        left.plot(x, [e.loss for e in member.epochs], color=color, linewidth=0.9, linestyle=(0, (3, 2)))
        left.plot(x, [e.validation_loss for e in member.epochs], color=color, label=label)
        right.plot(x, [100 * e.validation_error for e in member.epochs], color=color, label=label)
        left.plot(member.best_epoch, member.best.validation_loss, "o", color=color, markersize=5)
        right.plot(member.best_epoch, 100 * member.best.validation_error, "o", color=color, markersize=5)
    # Dots and dashes are explained once, in gray.
    left.plot([], [], color="#8a8a8a", linewidth=0.9, linestyle=(0, (3, 2)), label="training")
    left.plot([], [], color="#8a8a8a", label="validation")
    left.plot([], [], "o", color="#8a8a8a", markersize=5, label="kept")
    for axes, text in ((left, "loss"), (right, error)):
        axes.set_xlabel("epoch")
        axes.set_ylabel(text)
        axes.set_xlim(left=0)
    left.set_yscale("log")
    top = max(100 * e.validation_error for m in members for e in m.epochs)
    right.set_ylim(0, top * 1.05 if top > 0 else 1)
    left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    left.yaxis.set_major_formatter("{x:.3g}")
    left.yaxis.set_minor_formatter("")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 7))
    return figure


def write_curves(output: Path, members: Sequence[Member], error: str) -> None:
    """The table and the figure beside a checkpoint, `.curves.csv` and `.curves.png`.

    error : what the axis of the validation error is called
    """
    from phaseseg.io import atomic_output, write_table
    from phaseseg.report import png, styled

    write_table(beside(output, ".curves.csv"), curves_table(members))
    figure = styled(curves_figure)(members, error)
    with atomic_output(beside(output, ".curves.png")) as temporary:
        temporary.write_bytes(png(figure))


# ------------------------------------------------------------------------------------------ files


def output_file(path: str | os.PathLike[str]) -> Path:
    """The path of a checkpoint that is to be written.

    Raises
    ------
    ValueError
        For another ending than .safetensors, a folder, and a folder that does not exist.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint file must end in {SUFFIX}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}. Make it, or write somewhere else.")
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder. Give the name of a file.")
    return path


def beside(path: Path, ending: str) -> Path:
    """The file beside a checkpoint that has its name and another ending."""
    return path.with_name(path.name.removesuffix(SUFFIX) + ending)


def cache_folder() -> Path:
    """Where this package keeps what it can make again: safe to delete at any time."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        default = Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base, default = None, Path.home() / "Library" / "Caches"
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache"
    return (Path(base) if base else default) / "phaseseg"
