"""Training of a network that tells liquid from glass, on windows of configurations whose state is known.

Runs, not configurations, are parted: what a run was at one temperature it is not quite rid of at another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.checkpoint import SUFFIX, Checkpoint, save_checkpoint
from phaseseg.families.liquid_glass.crops import (
    Picks,
    cells_of,
    count_particles,
    cut_windows,
    draw_windows,
    graph_of,
    window_graphs,
)
from phaseseg.families.liquid_glass.defaults import (
    FOLDS,
    HELD_WINDOWS,
    IMAGE_RECIPE,
    IMAGES,
    RECIPE,
    TRAINING,
    WINDOWS,
)
from phaseseg.families.liquid_glass.image_network import ImageNetwork
from phaseseg.families.liquid_glass.images import N_SYMMETRIES, Plane, Style, draw, turned
from phaseseg.families.liquid_glass.network import GlassNetwork, glass_loss
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.frame import Frame, Units
from phaseseg.metrics import fit_temperature, reliability, roc_curve
from phaseseg.training import (
    Member,
    Progress,
    Settings,
    Task,
    TrainingState,
    batches_by_atoms,
    beside,
    deterministic,
    output_file,
    train_members,
    write_curves,
)
from phaseseg.version import __version__

Run = str | os.PathLike[str] | Iterable[Frame]
Label = Callable[[Frame], bool | None]
"""Whether a configuration is glass; None leaves it out."""

_TRIES = 100  # to find windows that hold enough particles


# ------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, eq=False)
class GlassRun:
    """The configurations of one run whose state is known.

    glass : (n_frames,) bool; group : runs of the same group are never parted
    digests : of each frame, sha256 of positions, cell and species
    """

    name: str
    frames: list[Frame]
    glass: NDArray[np.bool_]
    group: str
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of frames and labels."""
        return hashlib.sha256(json.dumps([self.digests, self.glass.tolist()]).encode()).hexdigest()

    @property
    def n_glass(self) -> int:
        return int(self.glass.sum())

    @property
    def n_liquid(self) -> int:
        return len(self.frames) - self.n_glass


def temperature_label(glass_below: float, liquid_above: float, key: str = "temperature") -> Label:
    """Glass up to one temperature, liquid from another on, what is between left out.

    key : of the temperature in `Frame.info`

    Raises
    ------
    ValueError
        Unless glass_below < liquid_above; when called, for a frame without a temperature.
    """
    if not glass_below < liquid_above:
        raise ValueError(
            f"the glass must be colder than the liquid, found glass at T <= {glass_below:g} and liquid at "
            f"T >= {liquid_above:g}."
        )

    def label(frame: Frame) -> bool | None:
        temperature = frame.info.get(key)
        if temperature is None or not np.isfinite(temperature):
            known = ", ".join(frame.info) or "nothing"
            raise ValueError(
                f"{frame.source or 'a frame'}: there is no {key!r} in what the file says of the frame "
                f"({known}); write {key}=... into the comment line of extended XYZ, or name another key."
            )
        return True if temperature <= glass_below else False if temperature >= liquid_above else None

    return label


def read_runs(
    data: Run | Iterable[Run],
    label: Label,
    *,
    types: Sequence[str] | None = None,
    units: Units = "metal",
    what: str = "run",
    note: Progress = lambda done, line: None,
) -> list[GlassRun]:
    """The runs of files or iterables of frames, without those that hold nothing of known state.

    Runs with the same `seed` in `Frame.info` make one group.

    what : name of the runs that are no files, before their number

    Raises
    ------
    ValueError
        For units that are not reduced.
    """
    from phaseseg.io import read_frames

    if isinstance(data, str | os.PathLike):
        data = [data]
    sources = list(cast(Iterable[Any], data))
    if sources and all(isinstance(run, Frame) for run in sources):
        sources = [sources]
    runs = []
    for number, source in enumerate(sources, start=1):
        if isinstance(source, str | os.PathLike):
            name, group = Path(source).name, os.fspath(source)
            note(0.0, f"reading {name}")
            frames: Iterable[Frame] = read_frames(Path(source), types=types, units=units)
        else:
            name = group = f"{what} {number}"
            frames = source
        runs.append(_run(name, group, frames, label))
    return [run for run in runs if run.frames]


def _run(name: str, group: str, frames: Iterable[Frame], label: Label) -> GlassRun:
    kept, glass = [], []
    for frame in frames:
        if frame.units != "lj":
            raise ValueError(
                f"{frame.source or name}: lengths are in Å, and these networks take reduced units; if the "
                "file is in reduced units but does not say so, tell it with units='lj' (--units lj)."
            )
        state = label(frame)
        if state is not None:
            kept.append(frame)
            glass.append(bool(state))
    seeds = {frame.info["seed"] for frame in kept if "seed" in frame.info}
    if len(seeds) == 1:
        group = f"seed {seeds.pop():g}"
    return GlassRun(name, kept, np.array(glass, dtype=bool), group, tuple(map(_digest, kept)))


def _digest(frame: Frame) -> str:
    content = hashlib.sha256(json.dumps([list(frame.species_names), frame.pbc.tolist()]).encode())
    for values in (frame.positions, frame.cell, frame.origin, frame.species):
        content.update(np.ascontiguousarray(values).tobytes())
    return content.hexdigest()


def fold_of_runs(runs: Sequence[GlassRun], folds: int) -> NDArray[np.int64]:
    """(n_runs,) the fold of each run; groups stay together, and each fold has its part of either state.

    Raises
    ------
    ValueError
        If there are fewer groups with glass, or with liquid, than folds.
    """
    groups: dict[str, list[GlassRun]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    kinds = {
        name: (any(run.n_glass for run in own), any(run.n_liquid for run in own))
        for name, own in groups.items()
    }
    for state, number in (("glass", 0), ("liquid", 1)):
        found = sum(kind[number] for kind in kinds.values())
        if found < folds:
            raise ValueError(
                f"{found} independent run{'s' * (found != 1)} hold{'s' * (found == 1)} {state}, and {folds} "
                "folds need one each; give more runs (one file each) or fewer folds."
            )
    # Groups of one state alone first: those of both states then fill up what is missing.
    counts = np.zeros((folds, 2), dtype=np.int64)
    fold: dict[str, int] = {}
    for name in sorted(groups, key=lambda name: sum(kinds[name])):
        fold[name] = int(np.argmin(counts @ kinds[name]))
        counts[fold[name]] += kinds[name]
    return np.array([fold[run.group] for run in runs])


def refuse_copies(runs: Iterable[GlassRun]) -> None:
    """Raise a ValueError if two groups of runs hold the same configuration."""
    holders: dict[str, GlassRun] = {}
    for run in runs:
        for digest in run.digests:
            other = holders.setdefault(digest, run)
            if other.group != run.group:
                raise ValueError(
                    f"{run.name} and {other.name} hold the same configuration, so neither can be checked "
                    "against the other; leave one of them out."
                )


def configuration(network: GlassConfig | Mapping[str, Any], runs: Sequence[GlassRun]) -> GlassConfig:
    """The settings of the network, those of the recipe where they are left out, checked against the runs.

    Raises
    ------
    ValueError
        For runs of one state alone, mixed dimensions, unknown species, and windows that hold too few
        particles for k neighbors.
    """
    frames = [frame for run in runs for frame in run.frames]
    glass, liquid = sum(run.n_glass for run in runs), sum(run.n_liquid for run in runs)
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

    def __init__(self, config: GlassConfig, runs: Sequence[GlassRun]) -> None:
        self.config, self.runs = config, list(runs)
        self.frames = [frame for run in runs for frame in run.frames]
        self.glass = np.concatenate([run.glass for run in runs])
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
        """To learn from some runs: so many windows an epoch, half of them of glass."""
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
        """Mean loss, and the share of windows on the wrong side."""
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
        network = self.views.build().eval()
        network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in weights.items()})
        return network


# -------------------------------------------------------------------------------------------- fit


def fit_liquid_glass(
    data: Run | Iterable[Run],
    *,
    glass_below: float | None = None,
    liquid_above: float | None = None,
    label: Label | None = None,
    output: str | os.PathLike[str] | None = None,
    network: GlassConfig | Mapping[str, Any] = RECIPE,
    folds: int = FOLDS,
    validation: Run | Iterable[Run] | None = None,
    temperature: str = "temperature",
    types: Sequence[str] | None = None,
    units: Units = "metal",
    windows: int = WINDOWS,
    held_windows: int = HELD_WINDOWS,
    epochs: int = TRAINING["epochs"],
    batch_atoms: int = TRAINING["batch_atoms"],
    learning_rate: float = TRAINING["learning_rate"],
    patience: int = TRAINING["patience"],
    seed: int = 0,
    name: str | None = None,
    summary: str | None = None,
    search: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train networks that tell liquid from glass, on windows cut at random out of configurations.

    Each member of the checkpoint learns from all folds of the runs but one, which it is validated on; their
    predictions together are those of networks that saw every run. Runs are never parted, nor are runs of the
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
    resume : go on from the state beside `output`, if there is one
    progress : called with the share that is done and a line of text

    Returns
    -------
    Checkpoint
        With ranges of number density and share of B of the training data, and a card with data, split and
        training. Logits are divided by a temperature fitted to the validation windows of all members; 1
        where these have no error.

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
    settings = Settings(epochs, batch_atoms, learning_rate, tuple(range(seed, seed + folds)), patience)
    for what, value in (("windows", windows), ("held_windows", held_windows)):
        if value < 2:
            raise ValueError(f"{what} must be at least 2, one of each state, found {value}.")
    path = None if output is None else output_file(output)
    name = name or f"liquid_glass/{'unnamed' if path is None else path.name.removesuffix(SUFFIX)}"
    Checkpoint("liquid_glass", name, {}, {"any": np.zeros(1, dtype=np.float32)})  # is the name allowed?
    state_path = None if path is None else beside(path, f".state{SUFFIX}")
    if state_path is not None and not resume:
        TrainingState(state_path, {}, resume=False)  # before the work begins

    runs = read_runs(data, label, types=types, units=units, note=note)
    given = []
    if validation is not None:
        given = read_runs(validation, label, types=types, units=units, what="validation run", note=note)
    refuse_copies([*runs, *given])
    config = configuration(network, runs)
    if validation is None:
        fold = fold_of_runs(runs, folds)
        split = f"by run, {folds} folds: each validates the member that has not learned from it"
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
        "data": hashlib.sha256(json.dumps([run.digest for run in problem.runs]).encode()).hexdigest(),
        "folds": fold.tolist(),
    }  # fmt: skip
    state = None if state_path is None else TrainingState(state_path, described, resume=resume)
    members = train_members(tasks, settings, state=state, progress=note)

    with deterministic():
        scores = [problem.logits(m.weights, own) for m, own in zip(members, held, strict=True)]
        whole = []
        if config.architecture == "dmpnn":
            whole = [problem.cell_logits(m.weights, own) for m, own in zip(members, held_runs, strict=True)]
    scaling = _temperature_scaling(scores)
    frames = [frame for k, frame in enumerate(problem.frames) if fold[problem.run[k]] != 0 or not given]
    ranges = {
        "number_density": _range(_number_density(frame, config.dimensions) for frame in frames),
        "b_fraction": _range(config.codes_of(frame).mean() for frame in frames),
    }
    n_particles = sum(frame.n_atoms for frame in frames)
    card: dict[str, Any] = {
        "summary": summary or _summary(config, runs),
        "data": {
            "configurations": len(frames),
            "glass": sum(run.n_glass for run in runs),
            "liquid": sum(run.n_liquid for run in runs),
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
        "training": {
            **{key: value for key, value in asdict(settings).items() if key != "seeds"},
            "windows": windows,
            "held_windows": held_windows,
            "best_epochs": [member.best_epoch for member in members],
            "seconds": round(sum(member.seconds for member in members), 1),
            "versions": {"phaseseg": __version__, "torch": torch.__version__},
            "members": _member_table(members, scores, whole),
            "validation": _validation_numbers(scores, whole, scaling),
        },
    }
    if search is not None:
        card["search"] = dict(search)
    checkpoint = Checkpoint(
        "liquid_glass",
        name,
        {"network": config.to_dict(), "temperature_scaling": scaling, "ranges": ranges},
        {f"member{k}.{key}": values for k, m in enumerate(members) for key, values in m.weights.items()},
        card=card,
        units="lj",
        ranges=ranges,
    )
    if path is not None:
        save_checkpoint(checkpoint, path)
        write_curves(path, members, "windows on the wrong side (%)")
    if state is not None:
        state.delete()
    return checkpoint


def label_of(
    label: Label | None, glass_below: float | None, liquid_above: float | None, temperature: str
) -> Label:
    """The label by temperatures, or the one that is given.

    Raises
    ------
    ValueError
        If both or neither are given.
    """
    if label is not None:
        if glass_below is not None or liquid_above is not None:
            raise ValueError("give either temperatures of glass and liquid or a label, not both.")
        return label
    if glass_below is None or liquid_above is None:
        raise ValueError("say up to which temperature configurations are glass, and from which on liquid.")
    return temperature_label(glass_below, liquid_above, temperature)


def _temperature_scaling(scores: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> float:
    """Of the validation windows of all members; 1 where the sign is always right, and any sharpening fits."""
    logit, glass = (np.concatenate(part) for part in zip(*scores, strict=True))
    return 1.0 if ((logit > 0) == glass).all() else fit_temperature(logit, glass)


def _numbers(logit: NDArray[np.float64], glass: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC, and the share on the right side."""
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


def _member_table(
    members: Sequence[Member],
    scores: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    whole: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
) -> dict[str, Any]:
    columns = ["seed", "epochs", "best epoch", "loss", "validation loss", "validation error", "auc", "s"]
    rows: list[list[Any]] = [
        [m.seed, len(m.epochs), m.best_epoch, m.best.loss, m.best.validation_loss, m.best.validation_error,
         _numbers(*score)[0], round(m.seconds, 1)]
        for m, score in zip(members, scores, strict=True)
    ]  # fmt: skip
    if whole:
        columns.append("whole-cell accuracy")
        for row, one in zip(rows, whole, strict=True):
            row.append(_numbers(*one)[1])
    return {"columns": columns, "rows": rows}


def _file_table(runs: Sequence[GlassRun], fold: NDArray[np.int64], given: bool) -> dict[str, Any]:
    def use(k: int) -> str:
        if given:
            return "training" if k < 0 else "validation"
        return f"fold {k + 1}"

    rows = [
        [run.name, use(int(k)), run.n_glass, run.n_liquid, run.digest[:16]]
        for run, k in zip(runs, fold, strict=True)
    ]
    return {"columns": ["file", "use", "glass", "liquid", "content"], "rows": rows}


def _number_density(frame: Frame, dimensions: int) -> float:
    """Particles per σ^2 or σ^3."""
    area = float(np.linalg.norm(np.cross(frame.cell[0], frame.cell[1])))
    return frame.n_atoms / (area if dimensions == 2 else frame.volume)


def _range(values: Iterable[float]) -> list[float]:
    numbers = [float(value) for value in values]
    return [min(numbers), max(numbers)]


def _summary(config: GlassConfig, runs: Sequence[GlassRun]) -> str:
    kind = {
        "cnn": "Convolutional network on images",
        "dmpnn": f"Message passing along edges{', with attention,' * config.attention}",
    }[config.architecture]
    frames = sum(len(run.frames) for run in runs)
    return (
        f"{kind} that tells liquid from glass in {config.dimensions} dimensions, trained on windows of "
        f"{frames:,} configurations of {len(runs):,} runs."
    )
