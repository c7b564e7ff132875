"""What tests of the command line share: calling it, refusals, interruptions, workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from phaseseg import cli
from phaseseg.frame import Frame
from phaseseg.io import write_frames
from phaseseg.terminal.errors import FAILURE, INTERRUPTED
from phaseseg.terminal.run import FrameRun

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(*arguments: object) -> Result:
    """The result of `phaseseg ARGUMENTS`, in this process."""
    return CliRunner().invoke(cli.app, [str(one) for one in arguments])


def flat(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())


def done(*arguments: object) -> str:
    """What a successful call says on standard error, on one line."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return flat(result.stderr)


def refused(code: int, words: str, *arguments: object) -> None:
    """The call ends with this code and one sentence that contains the words, and prints nothing else."""
    result = run(*arguments)
    said = flat(result.stderr)
    assert result.exit_code == code and words in said, said
    assert said.startswith("phaseseg: ") and result.stderr.count("\n") == 1 and "Traceback" not in said
    assert result.stdout == ""


def same_bytes_with_workers(folder: Path, names: dict[str, str], *arguments: object) -> None:
    """One worker and two write the same files; `names` are the files by flag."""
    for n in (1, 2):
        files = [one for flag, name in names.items() for one in (flag, folder / f"{n}_{name}")]
        assert run(*arguments, *files, "--workers", n, "-q").exit_code == 0
    for name in names.values():
        assert (folder / f"1_{name}").read_bytes() == (folder / f"2_{name}").read_bytes(), name


def interrupted_at_the_end(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> None:
    """An interruption before the output gets its name leaves nothing in the folder."""

    def results(self: FrameRun, pairs: object):  # type: ignore[no-untyped-def]
        yield from real(self, pairs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    real = FrameRun.results
    monkeypatch.setattr(FrameRun, "results", results)
    result = run(*arguments, "-o", folder / "out.xyz")
    assert result.exit_code == INTERRUPTED and flat(result.stderr).endswith("out.xyz was not written.")
    assert list(folder.iterdir()) == []


def interrupted_by_control_c(folder: Path, wait: float, word: str, *arguments: object) -> None:
    """Ctrl-C while a long file is worked on ends all processes and leaves nothing behind."""
    source = folder / "long.xyz"
    write_frames(source, [(melt(0), {})])
    run(word, source, *arguments[: len(arguments) - 2], "--quiet")  # compiles; llvmlite swallows interrupts
    write_frames(source, [(melt(seed), {}) for seed in range(7)])
    source.write_bytes(source.read_bytes() * 200)
    process = subprocess.Popen(
        [sys.executable, "-m", "phaseseg.cli", word, source, "-o", folder / "out.xyz", *map(str, arguments)],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob(".*out.xyz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)
    # `python -m` ends by the signal itself, which a shell shows as 130 too, where the interrupt struck inside
    # an exec() of text (a dataclass being made, say); CPython remembers that although it was caught.
    assert process.returncode in (INTERRUPTED, -signal.SIGINT), errors
    assert "interrupted" in errors and "was not written" in errors and "Traceback" not in errors
    assert [path.name for path in folder.iterdir()] == ["long.xyz"]


def needs_torch(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Without PyTorch, `--device torch` is a failure; the network must not have been used before."""
    from phaseseg.nn import device

    monkeypatch.setattr(device, "find_spec", lambda name: None)
    refused(FAILURE, "needs torch, which is not installed", *arguments, "--device", "torch")


def melt(seed: int = 0, n_atoms: int = 1500) -> Frame:
    """Iron in the left half of a cell at melt density."""
    rng = np.random.default_rng(seed)
    cell = np.diag([24.0, 24.0, 24.0]) * (n_atoms / 1500) ** (1 / 3)
    fractions = rng.random((n_atoms, 3))
    iron = rng.random(n_atoms) < np.where(fractions[:, 0] < 0.5, 0.9, 0.03)
    return Frame(fractions @ cell, cell, True, np.where(iron, "Fe", "O"), timestep=100 * seed)
