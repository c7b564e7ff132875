"""Training of networks that distinguish liquid from glass, on windows of configurations of known state.

We split by run, because configurations of one run stay correlated across temperatures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.liquid_glass.crops import (
    Picks,
    cells_of,
    count_particles,
    cut_windows,
    draw_windows,
    graph_of,
    window_graphs,
)
from phaseseg.families.liquid_glass.images import N_SYMMETRIES, Plane, Style, draw, turned
from phaseseg.families.liquid_glass.network import GlassNetwork, ImageNetwork, glass_loss
from phaseseg.families.liquid_glass.settings import (
    FOLDS,
    HELD_WINDOWS,
    IMAGE_RECIPE,
    IMAGES,
    RECIPE,
    TRAINING,
    WINDOWS,
    GlassConfig,
)
from phaseseg.families.liquid_glass.states import Label, label_of
from phaseseg.frame import Frame, Units
from phaseseg.metrics import fit_temperature, reliability, roc_curve
from phaseseg.nn.ensemble import loaded
from phaseseg.nn.model import member_weights
from phaseseg.specs import Progress
from phaseseg.training.card import training_card, value_range
from phaseseg.training.loop import Task, batches_by_atoms, deterministic, train_members
from phaseseg.training.output import TrainingOutput
from phaseseg.training.runs import (
    Run,
    RunData,
    fold_of_runs,
    joint_digest,
    read_runs,
    refuse_copies,
)
from phaseseg.training.settings import Settings

STATES = {True: "glass", False: "liquid"}

_TRIES = 100  # to find windows that hold enough particles


# ------------------------------------------------------------------------------------------- data


def glass_runs(
    data: RunData | Iterable[RunData], label: Label, what: str = "run", **options: Any
) -> list[Run]:
    """The runs that hold frames of known state, with whether each is glass as its label."""

    def state(frame: Frame) -> bool | None:
        if frame.units != "lj":
            raise ValueError(
                f"{frame.source or 'a frame'}: lengths are in Å, and these networks take reduced units; if "
                "the file is in reduced units but does not say so, read it with units='lj' (--units lj)."
            )
        found = label(frame)
        return None if found is None else bool(found)

    return [run for run in read_runs(data, state, what=what, **options) if run.frames]


def configuration(network: GlassConfig | Mapping[str, Any], runs: Sequence[Run]) -> GlassConfig:
    """The settings of the network, those of the recipe where they are left out, checked against the runs.

    Raises
    ------
    ValueError
        For runs of one state alone, mixed dimensions, unknown species, and windows that hold too few
        particles for k neighbors.
    """
    frames = [frame for run in runs for frame in run.frames]
    glass, liquid = (sum(run.count(state) for run in runs) for state in STATES)
    if not glass or not liquid:
        raise ValueError(
            f"of the configurations {glass:,} are glass and {liquid:,} liquid; both are needed to learn the "
            "difference. Look at the temperatures in the files, and choose up to which it is glass and from "
            "which on liquid."
        )
    if not isinstance(network, GlassConfig):
        recipe = IMAGE_RECIPE if network.get("architecture") == "cnn" else RECIPE
        network = GlassConfig(**{"dimensions": frames[0].n_dimensions, **recipe, **network})
    for frame in frames:
        if frame.n_dimensions != network.dimensions:
            raise ValueError(
                f"{frame.source or 'a frame'} has {frame.n_dimensions} dimensions where {network.dimensions} "
                "were expected; train on configurations of one kind."
            )
        network.codes_of(frame)
    if network.architecture == "dmpnn":
        low = network.window[0]
        cells = cells_of(frames, [network.codes_of(frame) for frame in frames], network.dimensions)
        shares = np.minimum(low / cells.lengths, 1.0).prod(axis=1)
        least = float((np.diff(cells.starts) * shares).min())
        if least - 3 * least**0.5 <= network.k:
            raise ValueError(
                f"the smallest windows, of {low:g} σ, hold some {least:.0f} particles, too few to find "
                f"{network.k} neighbors of each at every place; choose larger windows or a smaller k."
            )
    return network


# ------------------------------------------------------------------------------------------ views


class Drawn(NamedTuple):
    """Windows of a batch.

    glass : (n,) bool; seed : of what is drawn within the batch, which is dropout and symmetries
    """

    picks: Picks
    glass: NDArray[np.bool_]
    seed: int


class _Graphs:
    """Configurations seen by the network on graphs."""

    def __init__(self, config: GlassConfig, frames: Sequence[Frame]) -> None:
        self.config = config
        self.cells = cells_of(frames, [config.codes_of(frame) for frame in frames], config.dimensions)

    def build(self) -> nn.Module:
        return GlassNetwork(self.config)

    def draw(self, which: NDArray[np.int64], rng: np.random.Generator) -> tuple[Picks, NDArray[np.int64]]:
        """Windows of the configurations `which`, and how many particles each holds, always more than k."""
        picks = draw_windows(self.cells, which, rng, edge=self.config.window)
        sizes = count_particles(self.cells, picks)
        for _ in range(_TRIES):
            few = np.flatnonzero(sizes <= self.config.k)
            if not len(few):
                return picks, sizes
            again = draw_windows(self.cells, which[few], rng, edge=self.config.window)
            for values, new in zip(picks, again, strict=True):
                values[few] = new
            sizes[few] = count_particles(self.cells, again)
        raise ValueError(
            f"windows of {self.config.window[0]:g} to {self.config.window[1]:g} σ hold too few particles to "
            f"find {self.config.k} neighbors of each; choose larger windows or a smaller k."
        )

    def loss(self, network: nn.Module, drawn: Drawn) -> tuple[Tensor, Tensor]:
        graphs = window_graphs(cut_windows(self.cells, drawn.picks), self.config)
        answer = network(graphs)
        return glass_loss(answer, drawn.glass, graphs.starts), answer.graphs


class _Images:
    """Configurations seen by the network on images."""

    def __init__(self, config: GlassConfig, frames: Sequence[Frame]) -> None:
        self.config = config
        codes = [config.codes_of(frame) for frame in frames]
        self.cells = cells_of(frames, codes, config.dimensions)
        self.planes = [Plane.of(frame, code) for frame, code in zip(frames, codes, strict=True)]
        self.style = Style.of_config(config)

    def build(self) -> nn.Module:
        return ImageNetwork(self.config)

    def draw(self, which: NDArray[np.int64], rng: np.random.Generator) -> tuple[Picks, NDArray[np.int64]]:
        """Windows of the configurations `which`, and how many particles each holds."""
        picks = draw_windows(self.cells, which, rng, edge=self.config.image_edge)
        return picks, count_particles(self.cells, picks)

    def loss(self, network: nn.Module, drawn: Drawn) -> tuple[Tensor, Tensor]:
        images = np.concatenate(
            [
                draw(self.planes[cell], self._corner(cell, corner)[None], self.config.image_size, self.style)
                for cell, corner in zip(drawn.picks.cell, drawn.picks.corner, strict=True)
            ]
        )
        if network.training:
            rng = np.random.default_rng(drawn.seed)
            images = turned(images, rng.integers(0, N_SYMMETRIES, len(images)))
        logits = network(torch.from_numpy(images))
        label = torch.from_numpy(drawn.glass).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, label), logits

    def _corner(self, cell: int, corner: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2,) σ, in the plane: corners are counted from where the particles begin along an open axis."""
        plane = self.planes[cell]
        fractions = plane.positions @ np.linalg.inv(plane.cell)
        low, span = fractions.min(axis=0), np.ptp(fractions, axis=0)
        start = np.where(plane.pbc, corner, low + corner * span)
        return np.asarray(start @ plane.cell)


class Problem:
    """Labeled configurations as one network sees them: what to learn from, and what to check against.

    runs : all of them; config : of the network
    """

    def __init__(self, config: GlassConfig, runs: Sequence[Run]) -> None:
        self.config, self.runs = config, list(runs)
        self.frames = [frame for run in runs for frame in run.frames]
        self.glass = np.array([label for run in runs for label in run.labels], dtype=bool)
        self.run = np.repeat(np.arange(len(self.runs)), [len(run.frames) for run in runs])
        self.views = (_Images if config.architecture == "cnn" else _Graphs)(config, self.frames)

    def drawn(self, which: NDArray[np.int64], rng: np.random.Generator, batch_atoms: int) -> list[Drawn]:
        """A window of each of the configurations `which`, in batches."""
        picks, sizes = self.views.draw(which, rng)
        seeds = rng.integers(0, 2**31, len(which))
        if self.config.architecture == "cnn" and len(sizes):
            batch_atoms = max(batch_atoms, IMAGES * int(sizes.mean()))
        return [
            Drawn(picks.take(group), self.glass[which[group]], int(seeds[group[0]]))
            for group in batches_by_atoms(sizes.tolist(), batch_atoms, range(len(which)))
        ]

    def held(
        self, runs: NDArray[np.bool_], windows: int, batch_atoms: int, seed: tuple[int, ...]
    ) -> list[Drawn]:
        """Windows to check against, of some runs: half of glass, and equally many of each configuration."""
        glass, liquid = self._of(runs)
        which = np.concatenate([np.resize(glass, windows // 2), np.resize(liquid, windows - windows // 2)])
        return self.drawn(which, np.random.default_rng(seed), batch_atoms)

    def task(
        self, runs: NDArray[np.bool_], held: Sequence[Drawn], windows: int, batch_atoms: int
    ) -> Task[Drawn]:
        """The training task for some runs; half of the windows of an epoch are from glasses."""
        glass, liquid = self._of(runs)

        def batches(rng: np.random.Generator) -> list[Drawn]:
            parts = rng.choice(glass, windows // 2), rng.choice(liquid, windows - windows // 2)
            return self.drawn(rng.permutation(np.concatenate(parts)), rng, batch_atoms)

        def loss(network: nn.Module, drawn: Drawn) -> Tensor:
            torch.manual_seed(drawn.seed)  # what dropout leaves out, also after an interruption
            return self.views.loss(network, drawn)[0]

        return Task(self.views.build, batches, loss, lambda network: self._validate(network, held))

    def _of(self, runs: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Configurations of some runs, of glass and of liquid."""
        chosen = runs[self.run]
        return np.flatnonzero(chosen & self.glass), np.flatnonzero(chosen & ~self.glass)

    def _validate(self, network: nn.Module, held: Sequence[Drawn]) -> tuple[float, float]:
        """Mean loss, and the fraction of misclassified windows."""
        total = wrong = 0.0
        with torch.no_grad():
            for drawn in held:
                loss, logits = self.views.loss(network, drawn)
                total += len(drawn.glass) * loss.item()
                wrong += int(((logits > 0).numpy() != drawn.glass).sum())
        windows = sum(len(drawn.glass) for drawn in held)
        return total / windows, wrong / windows

    def logits(
        self, weights: Mapping[str, NDArray[np.float32]], held: Sequence[Drawn]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Logits of glass of some windows, and whether they are glass."""
        network = self._network(weights)
        with torch.no_grad():
            found = [self.views.loss(network, drawn)[1].numpy() for drawn in held]
        return np.concatenate(found).astype(np.float64), np.concatenate([drawn.glass for drawn in held])

    def cell_logits(
        self, weights: Mapping[str, NDArray[np.float32]], runs: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Logits of glass of whole configurations of some runs, by a network on graphs, and what they are."""
        network = self._network(weights)
        chosen = np.flatnonzero(runs[self.run])
        with torch.no_grad():
            found = [network(graph_of(self.frames[k], self.config)).graphs.item() for k in chosen]
        return np.array(found), self.glass[chosen]

    def _network(self, weights: Mapping[str, NDArray[np.float32]]) -> nn.Module:
        return loaded(self.views.build(), weights)


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
    types: Sequence[str] | None = None,
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

    Each member of the checkpoint learns from all folds of the runs but one, which it is validated on; their
    predictions together are those of networks that saw every run. Runs are never split, nor are runs with the
    same `seed` in `Frame.info`.

    Parameters
    ----------
    data : runs, one each, as files or iterables of `Frame`, in reduced units
    glass_below, liquid_above : temperatures; colder or equal is glass, hotter or equal liquid, and what is
        between is left out
    label : or a function that says of a frame whether it is glass; None leaves it out
    output : .safetensors file to write
        Beside it `.curves.csv` and `.curves.png` and, until training is finished, `.state.safetensors`.
    network : settings of `GlassConfig`, as far as they differ from the recipe
    folds : parts of the runs, and members; with `validation` members that differ by their seed alone
    validation : runs to choose the epoch and calibrate with, instead of folds
    temperature : key of the temperature in `Frame.info`
    types, units : as in `read_frames`
    windows : of an epoch, half of them of glass; held_windows : to validate a member on
    epochs, batch_atoms, learning_rate, patience : see `phaseseg.training.Settings`
    seed : of the first member; the next follow
    name : of the checkpoint; "liquid_glass/" and the file's name without its suffix if left out
    summary : line of the card
    search : what the card is to say of the search for the settings
    resume : continue from the state file next to `output`, if there is one
    progress : called with the fraction that is done and a line of text

    Returns
    -------
    Checkpoint
        With the ranges of the number density and of the fraction of B in the training data, and a card with
        data, split and training. Logits are divided by a temperature fitted to the validation windows of all
        members; 1 where these have no error.

    Raises
    ------
    ValueError
        For settings out of range, and for data that cannot be learned from: one state alone, fewer runs than
        folds, no temperatures, one species, other units, mixed dimensions, a state in the way.
    KeyboardInterrupt
        With a sentence that says where the state lies.
    """
    note = progress or (lambda done, line: None)
    label = label_of(label, glass_below, liquid_above, temperature)
    if folds < 1 or (validation is None and folds < 2):
        raise ValueError(f"folds must be at least 2 (1 with runs given for validation), found {folds}.")
    rate = TRAINING["learning_rate"] if learning_rate is None else learning_rate
    settings = Settings(epochs, batch_atoms, rate, tuple(range(seed, seed + folds)), patience)
    for what, value in (("windows", windows), ("held_windows", held_windows)):
        if value < 2:
            raise ValueError(f"{what} must be at least 2, one of each state, found {value}.")
    files = TrainingOutput("liquid_glass", output, name, resume=resume)
    reading: dict[str, Any] = {"types": types, "units": units, "note": note}
    runs = glass_runs(data, label, **reading)
    given = [] if validation is None else glass_runs(validation, label, "validation run", **reading)
    refuse_copies([*runs, *given])
    config = configuration(network, runs)
    if validation is None:
        fold = fold_of_runs(runs, folds, STATES)
        split = f"by run, {folds} folds; each fold validates the member that was not trained on it"
    else:
        configuration(config, given)
        shared = {run.group for run in runs} & {run.group for run in given}
        if shared:
            raise ValueError(
                f"{', '.join(sorted(shared))}: to be learned from and validated on; leave it out of one."
            )
        fold = np.array([-1] * len(runs) + [0] * len(given))
        split = f"by run: {len(given)} of {len(runs) + len(given)} runs given for validation"
    problem = Problem(config, [*runs, *given])
    held_runs = [fold == (0 if given else member) for member in range(folds)]
    held = [
        problem.held(which, held_windows, batch_atoms, (seed, 1 << 20, 0 if given else member))
        for member, which in enumerate(held_runs)
    ]
    tasks = [
        problem.task(~which, own, windows, batch_atoms) for which, own in zip(held_runs, held, strict=True)
    ]
    described = {
        **asdict(settings), "network": config.to_dict(), "windows": windows, "held_windows": held_windows,
        "data": joint_digest(run.digest for run in problem.runs),
        "folds": fold.tolist(),
    }  # fmt: skip
    members = train_members(tasks, settings, state=files.state(described), progress=note)

    with deterministic():
        scores = [problem.logits(m.weights, own) for m, own in zip(members, held, strict=True)]
        whole = []
        if config.architecture == "dmpnn":
            whole = [problem.cell_logits(m.weights, own) for m, own in zip(members, held_runs, strict=True)]
    scaling = _temperature_scaling(scores)
    frames = [frame for k, frame in enumerate(problem.frames) if fold[problem.run[k]] != 0 or not given]
    ranges = {
        "number_density": value_range([_number_density(frame, config.dimensions) for frame in frames]),
        "b_fraction": value_range([config.codes_of(frame).mean() for frame in frames]),
    }
    n_particles = sum(frame.n_atoms for frame in frames)
    card: dict[str, Any] = {
        "summary": summary or _summary(config, runs),
        "data": {
            "configurations": len(frames),
            **{name: sum(run.count(state) for run in runs) for state, name in STATES.items()},
            "runs": len(runs),
            "particles": n_particles,
            "species": list(config.species),
            "dimensions": config.dimensions,
            "files": _file_table(problem.runs, fold, bool(given)),
        },
        "labels": (
            {"glass_below": glass_below, "liquid_above": liquid_above} if glass_below is not None else {}
        ),
        "split": split,
        "training": training_card(
            settings, members, _validation_numbers(scores, whole, scaling), columns=_columns(scores, whole),
            windows=windows, held_windows=held_windows,
        ),
    }  # fmt: skip
    if search is not None:
        card["search"] = dict(search)
    checkpoint = Checkpoint(
        "liquid_glass",
        files.name,
        {"network": config.to_dict(), "temperature_scaling": scaling, "ranges": ranges},
        member_weights(m.weights for m in members),
        card=card,
        units="lj",
        ranges=ranges,
    )
    return files.finish(checkpoint, members, "windows on the wrong side (%)")


def _temperature_scaling(scores: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> float:
    """Of the validation windows of all members; 1 where the sign is always right, and any sharpening fits."""
    logit, glass = (np.concatenate(part) for part in zip(*scores, strict=True))
    return 1.0 if ((logit > 0) == glass).all() else fit_temperature(logit, glass)


def _numbers(logit: NDArray[np.float64], glass: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC and accuracy."""
    return roc_curve(glass, logit).auc, float(np.mean((logit > 0) == glass))


def _validation_numbers(
    scores: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    whole: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    scaling: float,
) -> dict[str, Any]:
    """Over the members: means and standard deviations of what each reaches on its validation runs."""
    each = np.array([_numbers(*one) for one in scores])
    logit, glass = (np.concatenate(part) for part in zip(*scores, strict=True))
    probability = 1 / (1 + np.exp(-np.clip(logit / scaling, -500, 500)))
    numbers: dict[str, Any] = {
        "windows": len(logit),
        "auc": each[:, 0].mean(),
        "auc_spread": each[:, 0].std(),
        "accuracy": each[:, 1].mean(),
        "accuracy_spread": each[:, 1].std(),
        "temperature_scaling": scaling,
        "expected_calibration_error": reliability(glass, probability).expected_calibration_error,
    }
    if whole:
        cells = np.array([_numbers(*one) for one in whole])
        numbers |= {"whole_cell_auc": cells[:, 0].mean(), "whole_cell_accuracy": cells[:, 1].mean()}
    return {key: float(value) if key != "windows" else value for key, value in numbers.items()}


def _columns(
    scores: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    whole: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
) -> dict[str, list[float]]:
    """More columns of the table of members."""
    more = {"auc": [_numbers(*one)[0] for one in scores]}
    return more | ({"whole-cell accuracy": [_numbers(*one)[1] for one in whole]} if whole else {})


def _file_table(runs: Sequence[Run], fold: NDArray[np.int64], given: bool) -> dict[str, Any]:
    def use(k: int) -> str:
        if given:
            return "training" if k < 0 else "validation"
        return f"fold {k + 1}"

    rows = [
        [run.name, use(int(k)), *map(run.count, STATES), run.digest[:16]]
        for run, k in zip(runs, fold, strict=True)
    ]
    return {"columns": ["file", "use", *STATES.values(), "content"], "rows": rows}


def _number_density(frame: Frame, dimensions: int) -> float:
    """Particles per σ^2 or σ^3."""
    area = float(np.linalg.norm(np.cross(frame.cell[0], frame.cell[1])))
    return frame.n_atoms / (area if dimensions == 2 else frame.volume)


def _summary(config: GlassConfig, runs: Sequence[Run]) -> str:
    kind = {
        "cnn": "Convolutional network on images",
        "dmpnn": f"Message-passing network on directed edges{', with attention,' * config.attention}",
    }[config.architecture]
    frames = sum(len(run.frames) for run in runs)
    return (
        f"{kind} that distinguishes liquid from glass in {config.dimensions} dimensions, trained on windows "
        f"from {frames:,} configurations of {len(runs):,} runs."
    )
