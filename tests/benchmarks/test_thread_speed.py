"""Threads against independent processes, in the same run, in wall time.

    PHASESEG_BENCHMARK=full pytest tests/benchmarks/test_thread_speed.py -s
    PHASESEG_BENCHMARK=large pytest tests/benchmarks/test_thread_speed.py -s     (1 M atoms)

The yardstick: n processes that each do the same work on one thread, at the same time. Cores share memory,
caches and heat, so n processes have less than n times the throughput of one; n threads cannot have more.
Measure on a quiet machine: other programs take cores from either. NUMBA_NUM_THREADS sets the largest n.
Nothing is asserted about time.
"""

from __future__ import annotations

import multiprocessing
import time
from queue import Empty

import numpy as np
import pytest

from benchmarks.measure import SCALE, melt, scaled
from phaseseg import label_phases, load_model, neighbor_graph, read_frames, threads, write_frames
from phaseseg.compiled.threads import usual_threads
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.fields import Fields
from phaseseg.io.columns import parse_columns
from phaseseg.io.reading import new_reading
from phaseseg.testing import repeated

SIZES = scaled({"2 k": (2, 2, 1)}, {"33 k": (1, 1, 1)}, {"1 M": (2, 3, 5)})
MOST = scaled(2, max(usual_threads(), 2))
ROUNDS = scaled(1, 5)
SECONDS = scaled(0.0, 0.3)


def jobs(frame, path):
    """What is measured, by name."""
    model, rule = load_model("segmentation/gat-v1"), LabelRule("Fe", sigma=1.5, voxel=0.75).fixed()
    return {
        "network": lambda: model.network("cpu")(frame, model.codes(frame)),
        "density": lambda: density_field(frame, rule),
        "neighbors": lambda: neighbor_graph(frame, cutoff=6.0),
        "parser": parser(path),
        "reading": lambda: list(read_frames(path)),
        "labels": lambda: label_phases(frame, "Fe"),
        "prediction": lambda: model.fields(frame, model.score(frame)),
    }


def parser(path):
    """Parse the atom lines of a dump that is in memory."""
    header, _, body = path.read_bytes().partition(b"element x y z\n")
    reading, n_atoms = new_reading(None, None, "metal", None, True, None), body.count(b"\n")
    titles = [*header.rsplit(b"ATOMS ", 1)[1].decode().split(), "element", "x", "y", "z"]
    places = {"positions": [3, 4, 5], "integers": {"id": 0, "type": 1}, "text": 2}
    return lambda: parse_columns(reading, body, n_atoms, titles, 10, **places)


def work(path, asked, done):
    """Run jobs on one thread in a separate process, each time the parent asks for it."""
    frame = next(read_frames(path))
    known = jobs(frame, path)
    with threads(1):
        for job in known.values():
            job()
        done.put(None)
        while multiprocessing.parent_process().is_alive():
            try:
                order = asked.get(timeout=5)
            except Empty:
                continue
            if order is None:
                break
            name, times = order
            for _ in range(times):
                known[name]()
            done.put(None)


def wall(job, times):
    start = time.perf_counter()
    for _ in range(times):
        job()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_threads_against_processes(size, tmp_path):
    frame, path = repeated(melt(), SIZES[size]), tmp_path / "melt.dump"
    write_frames(path, [(frame, Fields({}))])
    context = multiprocessing.get_context("spawn")
    asked, done = [context.Queue() for _ in range(MOST)], context.Queue()
    processes = [context.Process(target=work, args=(path, queue, done)) for queue in asked]
    try:
        for process in processes:
            process.start()
        known, counts = jobs(frame, path), [n for n in (1, 2, 4, 8, 16, 32, 64) if n < MOST] + [MOST]
        for _ in processes:
            done.get(timeout=300)

        def together(name, times):
            """Return the wall time in which all processes repeat a job."""
            start = time.perf_counter()
            for queue in asked:
                queue.put((name, times))
            for _ in processes:
                done.get(timeout=300)
            return time.perf_counter() - start

        print(f"\n{len(frame):,} atoms; wall time, ms; {MOST} processes as the yardstick")
        print(
            f"{'':11}" + "".join(f"{n:3} threads" for n in counts) + "   throughput of processes, of threads"
        )
        for name, job in known.items():
            job()
            times = max(int(SECONDS / max(wall(job, 1), 1e-9)), 1)
            best = dict.fromkeys(counts, np.inf)
            ratios, gains = [], []
            for _ in range(ROUNDS):
                for n in counts:
                    with threads(n):
                        each = wall(job, times) / times
                    best[n] = min(best[n], each)
                    if n == 1:
                        alone = each
                one = together(name, times) / times / MOST
                gains.append(alone / one)
                ratios.append(one / each)
            print(
                f"{name:11}"
                + "".join(f"{best[n] * 1e3:11.1f}" for n in counts)
                + f"   {np.median(gains):10.2f} times one; threads reach {np.median(ratios):.0%} of it"
            )
    finally:
        for queue in asked:
            queue.put(None)
        for process in processes:
            if process.pid is not None:
                process.join(timeout=20)
                process.kill()
    assert SCALE in ("tiny", "full", "large")
