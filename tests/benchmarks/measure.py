"""What the benchmarks share: their sizes, CPU time, peak memory, and processes of their own.

`make test` runs them at tiny sizes: they run, and what they compare is equal. `make benchmark` runs the full
sizes, and with PHASESEG_BENCHMARK=large a million atoms and more. Nothing is asserted about time.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path

from phaseseg.io import read_frames

SCALE = os.environ.get("PHASESEG_BENCHMARK", "tiny")
TYPES = ("Fe", "Mg", "Si", "O", "N")
MACHINE = f"{platform.machine()}, Python {platform.python_version()}; CPU time"


def scaled(tiny, full, large=None):
    """What belongs to the size that was asked for: `large` is added to `full`."""
    if SCALE not in ("tiny", "full", "large"):
        raise ValueError(f"PHASESEG_BENCHMARK must be tiny, full or large, found {SCALE!r}.")
    if SCALE == "tiny":
        return tiny
    if SCALE == "full" or not large:
        return full
    return full + large if isinstance(full, tuple) else full | large


def cpu_times(function, repeats):
    """CPU times of some calls, seconds; all threads count."""
    times = []
    for _ in range(repeats if SCALE != "tiny" else 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return times


def cpu_time(function, repeats=3):
    """The least of these."""
    return min(cpu_times(function, repeats))


def melt():
    """The bundled melt of 33,280 atoms; of 520 at tiny size."""
    name = scaled("melt_small_3000K", "melt_large_3000K")
    with as_file(files("phaseseg") / "demo" / f"{name}.dump.gz") as path:
        return list(read_frames(path, types=TYPES))[-1]


def peak_memory():
    """Bytes that this process has held at most."""
    import resource

    # On Linux the usage of the parent counts, too, but not in the status.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_apart(function, *arguments):
    """What a function of a benchmark gives in a process of its own; at tiny size, in this one."""
    if SCALE == "tiny":
        return function(*arguments)
    file = Path(function.__code__.co_filename)
    code = (
        f"import json, benchmarks.{file.stem} as t; print(json.dumps(t.{function.__name__}(*{arguments!r})))"
    )
    paths = os.pathsep.join([str(file.parents[1]), *filter(None, sys.path)])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    return json.loads(result.stdout)
