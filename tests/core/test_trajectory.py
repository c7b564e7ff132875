"""map_frames: order, laziness, and the same answers from one process, several and Dask."""

import builtins
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np
import pytest

from phaseseg.frame import Frame
from phaseseg.trajectory import Cluster, _call, map_frames


def frame(n_atoms: int) -> Frame:
    rng = np.random.default_rng(n_atoms)
    return Frame(rng.random((n_atoms, 3)), np.eye(3), True, ["Fe"] * n_atoms, source=f"frame {n_atoms}")


def counted(n_frames: int, read: list[int]):
    for n in range(1, n_frames + 1):
        read.append(n)
        yield frame(n)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_give_the_serial_results_in_order(workers: int) -> None:
    frames = [frame(n) for n in (5, 1, 4, 2, 3, 9, 8)]
    found = list(map_frames(attrgetter("positions"), frames, workers=workers))
    assert len(found) == len(frames)
    for positions, source in zip(found, frames, strict=True):
        assert np.array_equal(positions, source.positions)


def test_one_worker_may_still_be_a_process() -> None:
    assert list(map_frames(len, [frame(2)], backend="processes")) == [2]
    assert list(map_frames(len, [], workers=2)) == []


def test_serial_reads_one_frame_a_result() -> None:
    read: list[int] = []
    results = map_frames(len, counted(100, read))
    assert read == []
    assert next(results) == 1
    assert read == [1]


def test_processes_read_a_bounded_number_ahead_and_stop_when_the_caller_stops() -> None:
    read: list[int] = []
    results = map_frames(len, counted(100, read), workers=2)
    assert read == []
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    assert len(read) <= 3 + 2 * 2
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_an_interrupt_of_the_caller_leaves_no_process_behind() -> None:
    def interrupted():
        yield frame(1)
        yield frame(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(map_frames(len, interrupted(), workers=2))
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_that_another_thread_receives_waits_for_the_start_of_a_worker() -> None:
    """The mask of the main thread does not keep Python from running the handler in it.

    In a process of its own: here an interrupt may strike in whatever other tests have loaded.
    """
    code = textwrap.dedent("""
        import signal, threading, time
        from phaseseg.trajectory import _interrupts_held

        signal.signal(signal.SIGINT, signal.default_int_handler)
        end = threading.Event()
        other = threading.Thread(target=end.wait)
        other.start()  # before the mask, so it takes signals
        steps = []
        try:
            with _interrupts_held():
                signal.pthread_kill(other.ident, signal.SIGINT)
                time.sleep(0.05)
                steps.append("started")
        except KeyboardInterrupt:
            steps.append("interrupted")
        finally:
            end.set()
            other.join()
        print(*steps, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.split() == ["started", "interrupted", "True"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_exception_of_a_frame_arrives_with_its_text(workers: int) -> None:
    with pytest.raises(ValueError, match="frame 3: no species named 'Xx'; the species here are Fe"):
        list(map_frames(methodcaller("species_mask", "Xx"), [frame(3)], workers=workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_before_a_frame_that_cannot_be_read_are_given_first(workers: int) -> None:
    def broken():
        yield frame(1)
        yield frame(2)
        raise OSError("the file ends inside frame 3")

    found: list[int] = []
    with pytest.raises(OSError, match="inside frame 3"):
        for result in map_frames(len, broken(), workers=workers):
            found.append(result)  # noqa: PERF402 (extend keeps nothing on failure)
    assert found == [1, 2]


class _TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")

    def __reduce__(self) -> tuple[Any, ...]:  # as any exception has it, until `distributed` is imported
        return type(self), self.args


def test_an_exception_that_cannot_be_sent_is_described() -> None:
    def fail(_: Frame) -> None:
        raise _TwoArguments(1, 2)

    with pytest.raises(RuntimeError, match="_TwoArguments: 1 and 2"):
        _call(fail, frame(1))


def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(RuntimeError, match="a worker process died"):
        list(map_frames(_die, [frame(1)], workers=2))


def _die(_: Frame) -> None:
    import os

    os._exit(9)


def test_functions_that_no_other_process_can_import_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="cannot be sent to other processes"):
        map_frames(lambda frame: frame, [frame(1)], workers=2)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_bad_workers(workers: int) -> None:
    with pytest.raises(ValueError, match="workers must be a whole number of at least 1"):
        map_frames(len, [], workers=workers)


def test_bad_backend() -> None:
    with pytest.raises(ValueError, match="backend must be auto, serial, processes or dask"):
        map_frames(len, [], backend="threads")  # type: ignore[arg-type]


def test_dask_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name == "distributed":
            raise ImportError(name)
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'ovito-phaseseg\[dask\]'"):
        map_frames(len, [], backend="dask")


@pytest.mark.slow
def test_dask_gives_the_serial_results() -> None:
    distributed = pytest.importorskip("distributed")
    frames = [frame(n) for n in (5, 1, 4, 2, 3, 9)]
    with socket.socket() as other:
        with suppress(OSError):
            other.bind(("", 8787))  # where another scheduler shows what it does
            other.listen()
        assert list(map_frames(len, frames, workers=2, backend="dask")) == [5, 1, 4, 2, 3, 9]
        with pytest.raises(ValueError, match="no species named 'Xx'"):
            list(map_frames(methodcaller("species_mask", "Xx"), frames, backend="dask"))
    any_port = {"dashboard_address": ":0"}
    with distributed.Client(processes=False, n_workers=1, dashboard_address=None, scheduler_kwargs=any_port):
        assert list(map_frames(len, frames, backend="dask")) == [5, 1, 4, 2, 3, 9]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [2, 4, 5, 16])
def test_tasks_are_spread(n: int) -> None:
    """Few and many tasks begin on all workers, and not on the one that has the function."""

    def process_of(item: int) -> tuple[int, int]:
        time.sleep(0.05)
        return item, os.getpid()

    local = pytest.importorskip("distributed").LocalCluster
    with (
        local(n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0) as cluster,
        Cluster(cluster.scheduler_address) as workers,
    ):
        for _ in range(3):  # what went before does not count
            items, processes = zip(*workers.map(process_of, range(n)), strict=True)
            assert items == tuple(range(n))
            assert abs(2 * processes.count(processes[0]) - n) <= n // 2


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of the GNU C library")
def test_workers_of_dask_keep_freed_memory_while_they_compute() -> None:
    code = """if True:
        import ctypes, os, resource
        import numpy as np
        from phaseseg.trajectory import _call, _mallopt

        def arrays(_=None):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                np.ones(1 << 20, np.int8)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        if _mallopt() is None:
            print(0, 9999, 9999)
        else:
            print(_call(arrays, None), arrays(), arrays())
    """
    # As Dask starts a worker.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    kept, *not_kept = map(int, found.stdout.split())
    pages = (1 << 20) // os.sysconf("SC_PAGESIZE")
    assert kept < 3 * pages and min(not_kept) > 15 * pages, "the setting of Dask is back in between"
