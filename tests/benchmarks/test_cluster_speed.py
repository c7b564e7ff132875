"""Two workers of a Dask scheduler: CPU time per frame and of the command, against two independent processes;
and of the slabs of one frame, against one process.

    PHASESEG_BENCHMARK=full pytest tests/benchmarks/test_cluster_speed.py -s

Nothing is asserted about time: the table is printed. The files must have the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.measure import MACHINE, SCALE, scaled
from phaseseg.io import write_frames
from phaseseg.recipes.segmentation.large_melt import repeated_pieces
from samples import bundled

psutil = pytest.importorskip("psutil")
distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

FEW = 4
REST = scaled(1, 10)
"""Seconds in which the idle processes are watched."""
SETTINGS = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""Those that the page on clusters recommends."""
COMMAND = (sys.executable, "-c", "from phaseseg.cli import main; main()")
ENVIRONMENT = dict(os.environ)
"""That of a shell. To start workers in this process changes the variables of malloc in its environment."""


def spent(*commands):
    """CPU and wall time of processes at the same time, s."""
    start, cpu = time.perf_counter(), 0.0
    running = [subprocess.Popen([*COMMAND, *map(str, words), "-q"], env=ENVIRONMENT) for words in commands]
    for process in running:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        cpu += used.ru_utime + used.ru_stime
    return cpu, time.perf_counter() - start


def busy(processes):
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def two_workers():
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the CPU time of a child")
@pytest.mark.parametrize(
    "words, n_frames", [(("label",), scaled(8, 200)), (("predict", "-m", "gat-v1"), scaled(4, 200))], ids=str
)
def test_two_workers(tmp_path, words, n_frames):
    frame = bundled(scaled("melt_small_3000K", "melt_large_3000K"))[-1]
    write_frames(tmp_path / "in.dump", (frame.replace(timestep=k) for k in range(n_frames)))
    half, out = n_frames // 2, [tmp_path / f"{k}.dump" for k in range(3)]

    def fresh():
        """To replace a large file would wait for the disk."""
        for file in out:
            file.unlink(missing_ok=True)

    def alone(n):
        """Two processes, each with n frames."""
        fresh()
        return [
            (*words, tmp_path / "in.dump", "--frames", f"{a}:{a + n}", "-o", file, "--threads", 1)
            for a, file in zip((0, half), out[:2], strict=True)
        ]

    with dask.config.set(SETTINGS), two_workers() as cluster:
        workers = [psutil.Process(worker.pid) for worker in cluster.workers.values()]

        def shared(n):
            fresh()
            return (*words, tmp_path / "in.dump", "--frames", f":{n}", "-o", out[2], "--scheduler",
                    cluster.scheduler_address)  # fmt: skip

        if SCALE != "tiny":
            spent(*alone(2)), spent(shared(FEW))  # compiled and loaded
        here = [psutil.Process()]  # with the scheduler
        before, scheduler = busy(workers), busy(here)
        time.sleep(REST)
        idle = (busy(workers) - before) / REST, (busy(here) - scheduler) / REST
        (few, _), (two, wall_two) = spent(*alone(2)), spent(*alone(half))
        content = out[0].read_bytes() + out[1].read_bytes()
        little, _ = spent(shared(FEW))
        before, scheduler = busy(workers), busy(here)
        command, wall = spent(shared(n_frames))
        of_workers, of_scheduler = busy(workers) - before, busy(here) - scheduler
    assert out[2].read_bytes() == content
    print(f"\n{MACHINE}, {' '.join(words)}, {n_frames} frames of {len(frame):,} atoms, CPU time per frame")
    rows = {
        "two processes": (two - few) / max(n_frames - 4, 1),
        "two workers": of_workers / n_frames,
        "two workers, less what they take when idle": (of_workers - idle[0] * wall) / n_frames,
        "the command": (command - little) / max(n_frames - FEW, 1),
        "scheduler, less what it takes when idle": (of_scheduler - idle[1] * wall) / n_frames,
    }
    for name, seconds in rows.items():
        print(f"{name:45} {1e3 * seconds:7.1f} ms")
    print(f"the command, start and end {little:.2f} s")
    print(f"wall time {wall_two:.2f} s and {wall:.2f} s: {wall_two / wall:.0%} of the throughput")
    print(f"idle, each second: workers {1e3 * idle[0]:.0f} ms, scheduler {1e3 * idle[1]:.0f} ms")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the CPU time of a child")
def test_slabs_of_a_frame(tmp_path):
    times, n_slabs = scaled((2, 1, 1), (7, 7, 6)), scaled(3, 8)
    pieces = repeated_pieces(bundled("melt_large_3000K")[0], times)
    write_frames(tmp_path / "in.dump", [pieces])
    small = tmp_path / "small.dump"
    write_frames(small, [bundled("melt_small_3000K")[0]])
    out = tmp_path / "one.dump", tmp_path / "two.dump"
    with dask.config.set(SETTINGS), two_workers() as cluster:
        workers = [psutil.Process(worker.pid) for worker in cluster.workers.values()]

        def words(file, to, shared=True):
            more = ("--scheduler", cluster.scheduler_address, "--resume", tmp_path / "shared")
            return ("label", file, "-o", to, "--slabs", n_slabs, "--threads", 1, *(more if shared else ()))

        if SCALE != "tiny":
            spent(words(small, out[0], False)), spent(words(small, out[1]))  # compiled and loaded
        little = spent(words(small, out[1])) if SCALE != "tiny" else (0.0, 0.0)
        one = spent(words(tmp_path / "in.dump", out[0], False))
        before = busy(workers)
        command, wall = spent(words(tmp_path / "in.dump", out[1]))
        of_workers = busy(workers) - before
    assert out[0].read_bytes() == out[1].read_bytes()
    own = (command - little[0]) / n_slabs
    print(f"\n{MACHINE}, labels of {pieces.n_atoms:,} atoms in {n_slabs} slabs")
    print(f"one process {one[0]:.1f} s, wall time {one[1]:.1f} s")
    print(f"two workers {of_workers:.1f} s, the command {command:.1f} s, wall time {wall:.1f} s")
    print(f"the command without its start, for each slab {own:.2f} s")
