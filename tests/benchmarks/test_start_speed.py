"""CPU time of whole processes, user and system, once the kernels are compiled: what a short command costs.

    PHASESEG_BENCHMARK=full pytest tests/benchmarks/test_start_speed.py -s

Nothing is asserted about time: the table is printed.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import as_file, files

import pytest

from benchmarks.measure import MACHINE, SCALE, scaled

resource = pytest.importorskip("resource")

REPEATS = scaled(1, 10)
FIRST = int(SCALE != "tiny")
"""Runs that compile and do not count."""
COMMAND = "from phaseseg.cli import main; main()"
BARE = ("pass", "import numpy", "import numba", "import typer, rich.progress, pydantic")


def spent(code, *words):
    """CPU time of a process of its own, s: the least of some."""
    times = []
    for _ in range(REPEATS + FIRST):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times[FIRST:])


def test_whole_processes(tmp_path):
    with (
        as_file(
            files("phaseseg") / "demo" / f"{scaled('melt_small_3000K', 'melt_large_3000K')}.dump.gz"
        ) as melt,
        as_file(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz") as glass,
    ):
        one = ["--frames", ":1", "-o", str(tmp_path / "out.xyz")]
        commands = {
            "phaseseg label": ["label", str(melt), *one],
            "phaseseg predict": ["predict", str(melt), *one],
            "phaseseg metrics": ["metrics", str(glass), "--frames", ":1"],
            "phaseseg --help": ["--help"],
        }
        rows = [
            (f'python -c "{code}"', spent(code)) for code in (*BARE, "import phaseseg", "import ase_bridge")
        ]
        rows += [(name, spent(COMMAND, *words)) for name, words in commands.items()]
    print(f"\n{MACHINE}, least of {REPEATS}")
    for name, seconds in rows:
        print(f"{name:60} {seconds:6.3f} s")
    assert all(seconds > 0 for _, seconds in rows)
