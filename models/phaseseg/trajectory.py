"""Apply a function to many frames in order: in this process, several processes or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import platform
import secrets
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count, islice, tee
from math import inf
from multiprocessing import resource_tracker
from time import monotonic
from typing import Any, Literal, Protocol, TypeVar
from warnings import catch_warnings, filterwarnings

from phaseseg.compiled.threads import threads
from phaseseg.frame import Frame
from phaseseg.version import __version__

Backend = Literal["auto", "serial", "processes", "dask"]
Result = TypeVar("Result")
WAIT, WAIT_FOR_WORKERS = 10, 60
"""Seconds to wait for a scheduler, and for its first worker."""
MOST_PER_CORE = 4
"""Processes for each core of the processor; more only take memory."""
IN_FLIGHT = 3
"""Tasks on a cluster for each thread of its workers."""
TRIM, TRIM_OF_DASK = "MALLOC_TRIM_THRESHOLD_", 65536
"""Variable of the environment, and its value in bytes, with which Dask starts workers."""
KEPT = 1 << 26
"""Bytes of freed memory that a worker may keep while it computes."""


class _Future(Protocol):
    def result(self) -> Any: ...


def map_frames(
    function: Callable[[Frame], Result],
    frames: Iterable[Frame],
    *,
    workers: int = 1,
    backend: Backend = "auto",
) -> Iterator[Result]:
    """Apply `function` to every frame and yield the results lazily, in the order of the frames.

    At most `2 * workers` frames are in flight at a time, so trajectories can have any length. The results
    do not depend on the number of workers or the backend. If a frame fails, its exception is raised after
    the results of the preceding frames.

    Parameters
    ----------
    function : called with one frame
        Unless the backend is "serial", it is sent to other processes and must be importable there: a
        function of a module or a `functools.partial` of one, not a lambda. A script must guard its calls
        with `if __name__ == "__main__":`, because new processes import it.
    frames : any iterable of frames, for example `read_frames(path)`
    workers : number of processes, at least 1; at most four for each processor core are started
        Each runs its compiled loops on one thread, and this process, with one worker, on `threads`.
    backend : "auto" is "serial" for one worker and "processes" for more
        "processes" starts new interpreters (spawn; fork would copy the locks of running threads). "dask"
        uses the active `distributed.Client`, or else starts a local cluster of `workers` processes for
        this call.

    Raises
    ------
    ValueError
        If `workers`, `backend` or `function` cannot be used.
    ImportError
        If the backend is "dask" and Dask is not installed.
    RuntimeError
        If a worker process dies.

    Examples
    --------
    >>> import numpy as np
    >>> frames = [Frame(np.zeros((n, 3)), np.eye(3), True, ["Fe"] * n) for n in (1, 2, 3)]
    >>> list(map_frames(len, frames))
    [1, 2, 3]
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be a whole number of at least 1, found {workers!r}.")
    if backend == "auto":
        backend = "serial" if workers == 1 else "processes"
    if backend == "serial":
        return map(function, frames)
    if backend == "processes":
        return _processes(_importable(function), frames, workers)
    if backend == "dask":
        return _dask(_importable(function), frames, workers, _distributed())
    raise ValueError(f"backend must be auto, serial, processes or dask, found {backend!r}.")


def over_runs(
    function: Callable[[Frame], Result],
    runs: Mapping[str, Iterable[Frame]],
    *,
    workers: int = 1,
    backend: Backend = "auto",
) -> Iterator[tuple[str, Frame, Result]]:
    """Apply `function` to the frames of all runs; yield the run, the frame and its result, in order.

    function, workers, backend : as for `map_frames`
    runs : frames by the name of their run
    """
    ours, theirs = tee((run, frame) for run, frames in runs.items() for frame in frames)
    # This order lets `map_frames` report a reading error after the results of the earlier frames.
    results = map_frames(function, (frame for _, frame in theirs), workers=workers, backend=backend)
    for result, (run, frame) in zip(results, ours, strict=False):
        yield run, frame, result


def numbered(
    mapped: Iterable[tuple[str, Any, Result]],
) -> Iterator[tuple[str, int, Any, Result]]:
    """What `over_runs` yields, with the number of the frame in its run."""
    places = Counter[str]()
    for run, frame, result in mapped:
        yield run, places[run], frame, result
        places[run] += 1


def whole_frame(frame: Any) -> Frame:
    """Return a frame of `over_runs`; it is read again if a worker of a cluster has kept its atoms."""
    read = getattr(frame, "read", None)
    whole: Frame = frame if read is None else read()
    return whole


def _importable(function: Callable[[Frame], Result]) -> Callable[[Frame], Result]:
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{function!r} cannot be sent to other processes ({error}); "
            "define it at the top of a module or use one worker."
        ) from None
    return function


def _processes(
    function: Callable[[Frame], Result], frames: Iterable[Frame], workers: int
) -> Iterator[Result]:
    workers = min(workers, MOST_PER_CORE * (os.cpu_count() or 1))
    context = multiprocessing.get_context("spawn")
    if os.name == "posix":
        # It would otherwise start with the first worker and unblock interrupts while they are held.
        resource_tracker.ensure_running()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(function,))

    def submit(frame: Frame) -> _Future:
        with _interrupts_held():
            return pool.submit(_call_given, frame)

    try:
        yield from _in_order(submit, frames, 2 * workers)
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process died, most often because memory ran out; use fewer workers."
        ) from None
    finally:  # stop the workers also when the caller stops early or is interrupted
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a worker starts, and deliver it afterwards.

    Workers inherit the mask, so their own start is not interrupted. The mask is not enough for this process:
    another thread may receive the signal, and Python still runs the handler in the main thread. A worker
    whose start is cut short in that way ends with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    seen: list[Any] = []
    handler = signal.getsignal(signal.SIGINT)
    held = callable(handler) and threading.current_thread() is threading.main_thread()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if held:
        signal.signal(signal.SIGINT, lambda number, frame: seen.append((number, frame)))
    try:
        yield
    finally:
        if held:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if seen and callable(handler):
            handler(*seen[0])


_given: Callable[[Frame], Any]
"""The function of a worker process, which gets it once."""


def _start_worker(function: Callable[[Frame], Any]) -> None:
    """Keep the function, and leave interrupts to the parent."""
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _given = function


def _call_given(frame: Frame) -> Any:
    return _call(_given, frame)


def _call(function: Callable[[Frame], Result], frame: Frame) -> Result:
    """Call in a worker, on one thread; an exception that cannot be pickled is replaced by its text."""
    try:
        with threads(1), _memory_kept():
            return function(frame)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


@contextmanager
def _memory_kept() -> Iterator[None]:
    """Let a worker of Dask keep freed memory while it computes, as any other process does.

    Dask starts workers such that malloc returns freed memory to the system at once. Then every large array
    gets new pages, which took a fifth of the time of labels.
    """
    set_to = _mallopt() if os.environ.get(TRIM) == str(TRIM_OF_DASK) else None
    if set_to is None:
        yield
        return
    trim, mapped = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    set_to(mapped, KEPT // 2)
    set_to(trim, KEPT)
    try:
        yield
    finally:
        set_to(trim, TRIM_OF_DASK)
        set_to(mapped, 1 << 17)


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """The function of the GNU C library that sets how malloc behaves; None without it."""
    if sys.platform != "linux":
        return None
    import ctypes

    found: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    return found


def _in_order(submit: Callable[[Frame], _Future], frames: Iterable[Frame], in_flight: int) -> Iterator[Any]:
    source = iter(frames)
    pending: deque[_Future] = deque()
    exhausted, failure = False, None
    while pending or not exhausted:
        while not exhausted and len(pending) < in_flight:
            try:
                frame = next(source)
            except StopIteration:
                exhausted = True
            except Exception as error:  # reading a frame failed; yield the earlier results first
                exhausted, failure = True, error
            else:
                pending.append(submit(frame))
        if pending:
            yield pending.popleft().result()
    if failure is not None:
        raise failure


# ------------------------------------------------------------------------------------------ clusters


class Cluster:
    """The workers of a Dask scheduler, to be used with `with`.

    Parameters
    ----------
    address : of the scheduler, such as "tcp://node1:8786", or the path of its scheduler file (.json)

    Raises
    ------
    ImportError
        If Dask is not installed.
    RuntimeError
        If no scheduler answers, or it has no workers after a minute.
    """

    def __init__(self, address: str) -> None:
        self._distributed = _distributed()
        self._address = address
        self._known, self._asked = 0, -inf
        where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
        try:
            self._client = self._distributed.Client(**where, set_as_default=False, timeout=WAIT)
        except (OSError, TimeoutError, ValueError) as error:
            raise RuntimeError(
                f"no Dask scheduler answers at {address} ({error or type(error).__name__}). Start one with "
                "`dask scheduler`, or correct the address."
            ) from None

    def __enter__(self) -> Cluster:
        try:
            self._client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
        except TimeoutError:
            self._client.close()
            raise RuntimeError(
                f"the scheduler at {self._address} has no workers. Start some with `dask worker "
                f"{self._address}`."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(timeout=WAIT)

    def map(
        self,
        function: Callable[[Any], Result],
        items: Iterable[Any],
        again: Callable[[Any, Result], Any] | None = None,
    ) -> Iterator[Result]:
        """Apply a function to small items on the workers, and yield the results in the order of the items.

        The function is sent once. A task whose worker is lost is done again by another one. If an item
        fails, its exception is raised after the results of the items before it.

        again : called with an item and its result; what it returns instead of None is the item to be done
            in place of this one

        Raises
        ------
        RuntimeError
            If workers keep dying over an item, or the scheduler is lost.
        """
        pending: deque[tuple[Any, Any]] = deque()
        source, token, number = iter(items), secrets.token_hex(8), count()
        new = list(islice(source, IN_FLIGHT * self.n_threads))
        call: Callable[..., Any] = _call_received
        given: tuple[Any, ...] = function, __version__
        if len(new) > 2 * self.n_threads:
            # A task, not data that is placed on one worker: it is made anew where it was lost.
            key = (f"function-{token}", 0)
            call, given = _call, (self._client.submit(_received, *given, key=key, pure=False),)

        def sent(some: list[Any]) -> Any:
            """The futures of items, which are tasks of one group.

            Dask gives each task of a group that is larger than the cluster, and each that needs no other, to
            the worker that has the least to do. Another one would go where the function is.
            """
            keys = [(f"item-{token}", next(number)) for _ in some]
            with catch_warnings():  # of frames, if another package reads them here
                filterwarnings("ignore", "Sending large graph", UserWarning)
                every = ([one] * len(some) for one in given)
                return self._client.map(call, *every, some, key=keys, pure=False)

        try:
            while new or pending:
                if new:
                    pending.extend(zip(new, sent(new), strict=True))
                item, future = pending.popleft()
                result = self._result(future)
                if again is not None and (other := again(item, result)) is not None:
                    result = self._result(*sent([other]))
                yield result
                new = list(islice(source, max(IN_FLIGHT * self.n_threads - len(pending), 0)))
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel([future for _, future in pending], force=True)

    @property
    def n_threads(self) -> int:
        """Threads of all workers, which come and go; at least 1."""
        return max(self._n_threads(), 1)

    def _n_threads(self) -> int:
        if monotonic() - self._asked > 1:
            self._known, self._asked = sum(self._client.nthreads().values()), monotonic()
        return self._known

    def _result(self, future: Any) -> Any:
        lost = self._distributed.client.FutureCancelledError, self._distributed.comm.CommClosedError
        try:
            last = monotonic()
            while True:
                try:
                    return future.result(timeout=5)
                except TimeoutError:
                    if future.done():  # in between, or the error is that of the task itself
                        return future.result()
                if self._n_threads():
                    last = monotonic()
                elif monotonic() - last > WAIT_FOR_WORKERS:
                    raise RuntimeError(
                        f"the scheduler at {self._address} has lost all its workers. Start some, and then "
                        "this command again."
                    )
        except self._distributed.KilledWorker as error:
            raise RuntimeError(
                f"{error.allowed_failures + 1} workers died over the same frame, most often because memory "
                "ran out. Give each worker more memory, or start fewer on a machine."
            ) from None
        except lost:
            raise RuntimeError(
                f"the connection to the scheduler at {self._address} was lost. Start it again, and then "
                "this command."
            ) from None
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"a worker cannot import {error.name}. Install the same packages for the workers as here."
            ) from None


def _received(function: Result, version: str) -> Result:
    """The function, on a worker; RuntimeError if it is of another version than the worker."""
    if version != __version__:
        raise RuntimeError(
            f"a worker on {platform.node()} has phaseseg {__version__}, and here it is {version}. Install "
            "the same version for the workers."
        )
    return function


def _call_received(function: Callable[[Any], Result], version: str, item: Any) -> Result:
    return _call(_received(function, version), item)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "the dask backend needs Dask, which is not installed: pip install 'ovito-phaseseg[dask]'."
        ) from None
    return distributed


def _dask(
    function: Callable[[Frame], Result], frames: Iterable[Frame], workers: int, distributed: Any
) -> Iterator[Result]:
    try:
        client, own = distributed.default_client(), False
    except ValueError:
        client = distributed.Client(
            n_workers=workers, threads_per_worker=1, set_as_default=False, dashboard_address=None,
            # Without a dashboard, too, the scheduler listens, and warns if another one has its port.
            scheduler_kwargs={"dashboard_address": ":0"},
        )  # fmt: skip
        own = True

    def submit(frame: Frame) -> _Future:
        # Scatter the frame; in the task graph it would pass through the scheduler.
        future: _Future = client.submit(_call, function, client.scatter(frame, hash=False), pure=False)
        return future

    try:
        in_flight = 2 * (workers if own else max(workers, sum(client.nthreads().values())))
        yield from _in_order(submit, frames, in_flight)
    finally:
        if own:
            client.close()
