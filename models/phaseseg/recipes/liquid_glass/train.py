"""Train the liquid_glass checkpoints: those that ship, and those that the cards compare.

    python -m phaseseg.recipes.liquid_glass.train --data FOLDER --output FOLDER [--part 1/2] [--only NAME ...]

`--data` is what data.py made. Runs 1 to 15 (1 to 10 in three dimensions) are for tests alone and are
not read. One network of three members, a member a fold of runs, for each of the six sets and architectures
(`set1-dmpnn` ... `set6-cnn`), for each set on minimized configurations (`minimum1-dmpnn` ...), and on all
sets together (`dmpnn-v1`, `dmpnn-attention-v1`, `cnn-v1`, `dmpnn-3d-v1`). What is there already is skipped
and what was interrupted is continued. With `--part 1/2` and `--part 2/2` two processes share the work. On
one core about fifty minutes in all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phaseseg import Frame
from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families.liquid_glass.fit import fit_liquid_glass
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.recipes.liquid_glass.data import file_of
from phaseseg.recipes.liquid_glass.datasets import (
    GLASS,
    Configurations,
    GlassSet,
    State,
    label_of_all,
    matched_temperature,
    read_configurations,
    six_sets,
)
from phaseseg.recipes.liquid_glass.evaluation import Evaluator, attention_cut

SLOW, FAST, SPACE = 200_000, 20_000, 50_000
"""Cooling steps of the three parts of the data."""
DEVELOPMENT = {"slow": range(16, 61), "fast": range(16, 61), "ka3d": range(11, 31)}
TEST = {"slow": range(1, 16), "fast": range(1, 16), "ka3d": range(1, 11)}
SPACE_SETS = [GlassSet(f"T = {t:g}", State(SPACE, GLASS), State(SPACE, t)) for t in (1.99, 0.96, 0.7, 0.55)]
FOLDS = 3

ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "dmpnn": {"architecture": "dmpnn"},
    "attention": {"architecture": "dmpnn", "attention": True},
    "cnn": {"architecture": "cnn"},
}
# Small batches: the states are so different that what counts is the number of steps.
BRIEF: Mapping[str, Any] = {
    "epochs": 6,
    "patience": 6,
    "windows": 1000,
    "held_windows": 200,
    "batch_atoms": 1000,
}
# An image costs ten times what a graph does.
IMAGES_BRIEF: Mapping[str, Any] = {**BRIEF, "windows": 600, "held_windows": 100}
IMAGES_LONG: Mapping[str, Any] = {**BRIEF, "epochs": 10, "windows": 1500, "held_windows": 300}
# Minima of the energy differ little, and learning takes longer.
MINIMA: Mapping[str, Any] = {**BRIEF, "epochs": 30, "patience": 30}
LONG: Mapping[str, Any] = {
    "epochs": 20,
    "patience": 10,
    "windows": 2000,
    "held_windows": 600,
    "batch_atoms": 1000,
}


@dataclass(frozen=True)
class Job:
    """One checkpoint to train.

    name : of the file; parts : of the data; label : whether a frame is glass
    """

    name: str
    parts: tuple[str, ...]
    label: Callable[[Frame], bool | None]
    network: Mapping[str, Any]
    training: Mapping[str, Any]
    minimized: bool = False


@dataclass
class Data:
    """Development runs, read when they are first asked for."""

    folder: Path
    runs: Mapping[str, Sequence[int]]
    _kept: dict[tuple[str, int, bool], list[Frame]] = field(default_factory=dict)

    def names(self, part: str) -> list[int]:
        return [run for run in self.runs[part] if file_of(self.folder, part, run).is_file()]

    def frames(self, part: str, run: int, minimized: bool) -> list[Frame]:
        key = part, run, minimized
        if key not in self._kept:
            path = file_of(self.folder, part, run)
            self._kept[key] = list(read_configurations([path], minimized=minimized).frames)
        return self._kept[key]


def sets_of(data: Data, output: Path) -> list[GlassSet]:
    """The six sets; the temperature of the last is found from the energies of the development runs."""
    path = output / "matched.json"
    frames = [f for p in ("slow", "fast") for run in data.names(p) for f in data.frames(p, run, False)]
    matched, matches, (mean, error) = matched_temperature(Configurations(frames), SLOW, FAST)
    path.write_text(
        json.dumps(
            {"temperature": matched, "glass": {"mean": mean, "error": error},
             "liquids": matches}, indent=1,
        )
    )  # fmt: skip
    return six_sets(SLOW, FAST, matched)


def jobs(sets: Sequence[GlassSet]) -> list[Job]:
    """All checkpoints, the quick ones first."""
    found = []
    for number, one in enumerate(sets, start=1):
        parts = ("slow", "fast") if number == 6 else ("slow",)
        found += [
            Job(f"set{number}-{name}", parts, one.label, network, IMAGES_BRIEF if name == "cnn" else BRIEF)
            for name, network in ARCHITECTURES.items()
        ]
        found.append(
            Job(f"minimum{number}-dmpnn", parts, one.label, ARCHITECTURES["dmpnn"], MINIMA, minimized=True)
        )
    every = label_of_all(sets)
    for name, architecture in (("dmpnn-v1", "dmpnn"), ("dmpnn-attention-v1", "attention"), ("cnn-v1", "cnn")):
        training = IMAGES_LONG if architecture == "cnn" else LONG
        found.append(Job(name, ("slow", "fast"), every, ARCHITECTURES[architecture], training))
    wide = {**ARCHITECTURES["dmpnn"], "dimensions": 3, "window": (4.0, 8.0), "k": 4}
    found.append(Job("dmpnn-3d-v1", ("ka3d",), label_of_all(SPACE_SETS), wide, LONG))
    return found


def train(job: Job, data: Data, path: Path, note: Callable[[float, str], None]) -> Checkpoint:
    """Train one checkpoint; its card names the files, and one with attention knows where to cut it."""
    runs = [(part, run) for part in job.parts for run in data.names(part)]
    frames = [data.frames(part, run, job.minimized) for part, run in runs]
    checkpoint = fit_liquid_glass(
        frames, label=job.label, network=job.network, folds=FOLDS, output=path, resume=True, progress=note,
        name=f"liquid_glass/{job.name}", **job.training,
    )  # fmt: skip
    files = checkpoint.card["data"]["files"]
    ending = ".inherent.xyz.gz" if job.minimized else ".xyz.gz"
    for row in files["rows"]:
        part, run = runs[int(str(row[0]).split()[1]) - 1]
        row[0] = f"{part}/{file_of(Path(), part, run).name.removesuffix('.xyz.gz')}{ending}"
    config = dict(checkpoint.config)
    if job.network.get("attention"):
        known = Configurations([f for own in frames for f in own if job.label(f) is not None][::3])
        cut, bimodal = attention_cut(Evaluator(GlassModel(checkpoint)), known)
        config["attention_threshold"] = cut
        checkpoint.card["training"]["attention_threshold"] = {"threshold": cut, "bimodal": bimodal}
    checkpoint = replace(checkpoint, config=config)
    save_checkpoint(checkpoint, path)
    return checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("liquid-glass-data"))
    parser.add_argument("--output", type=Path, default=Path("liquid-glass-checkpoints"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names, or how they begin")
    parser.add_argument("--part", default="1/1", help="share of the work: 1/2 and 2/2 for two processes")
    parser.add_argument("--stop", type=int, help="use only runs below this number: to try the command")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    part, of = map(int, options.part.split("/"))
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {time.perf_counter() - begin:6.0f} s  {text}", flush=True)

    runs = {
        name: [run for run in own if options.stop is None or run < options.stop]
        for name, own in DEVELOPMENT.items()
    }
    data = Data(options.data, runs)
    say(", ".join(f"{len(data.names(name))} runs in {name}" for name in runs))
    sets = sets_of(data, options.output)
    say(f"matched temperature {sets[-1].liquid.temperature:g}")
    chosen = [
        job for job in jobs(sets)
        if options.only is None or any(job.name.startswith(name) for name in options.only)
    ]  # fmt: skip
    for job in chosen[part - 1 :: of]:
        path = options.output / f"{job.name}.safetensors"
        if path.exists():
            say(f"{job.name}: there")
            continue
        if not all(data.names(name) for name in job.parts):
            say(f"{job.name}: no data yet")
            continue
        start = time.process_time()
        last = ""

        def note(done: float, line: str, job: Job = job) -> None:
            nonlocal last
            if "epoch" in line and line != last:
                say(f"{job.name}: {line}")
                last = line

        card = train(job, data, path, note).card["training"]
        numbers = {key: round(value, 4) for key, value in card["validation"].items()}
        say(f"{job.name}: {time.process_time() - start:.0f} s of processor, {numbers}")


if __name__ == "__main__":
    main()
