"""Threads: compiled loops on several cores, with the same bits for any number of threads.

A loop is cut into parts, and the cuts depend on its length alone. Threads take one part after the other. Each
part writes results of its own, and what is summed over parts is added in the order of the parts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")
Range = tuple[int, int]

MOST_THREADS = 256
"""Threads beyond this number are not started."""
MOST_PARTS = 128
LONGEST_PART: int | None = None
"""A limit on what loops declare as the shortest part. Tests set it, so that short loops are cut as well."""
VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables of the environment that set the number of threads; the first that holds a number counts."""

_chosen: ContextVar[int | None] = ContextVar("threads", default=None)
_pool: ThreadPoolExecutor | None = None


@cache
def usual_threads() -> int:
    """The number of threads unless it is set: that of the environment, or the physical cores we may use."""
    for name in VARIABLES:
        with suppress(ValueError):
            if (n := int(os.environ.get(name, ""))) > 0:
                return n
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(min(psutil.cpu_count(logical=False) or 1, allowed or 1), 1)


def thread_count() -> int:
    """The number of threads on which compiled loops run here."""
    return _chosen.get() or usual_threads()


def check_threads(n: int) -> int:
    """The number itself; ValueError unless it is a whole number of at least 1."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"threads must be a whole number of at least 1, found {n!r}.")
    return n


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Run compiled loops on `n` threads inside a `with` block; None changes nothing.

    The default is the number of physical cores, or that of the variables NUMBA_NUM_THREADS or OMP_NUM_THREADS
    in the environment. The block concerns the Python thread that enters it. Results do not depend on the
    number, not even in the last bit.

    >>> from phaseseg import Frame, neighbor_graph, threads
    >>> frame = Frame([[0.0, 0, 0], [1.0, 0, 0]], [9.0, 9.0, 9.0], True, ["Fe", "O"])
    >>> with threads(2):
    ...     neighbor_graph(frame, cutoff=3.0).n_edges
    2
    """
    if n is None:
        yield
        return
    token = _chosen.set(check_threads(n))
    try:
        yield
    finally:
        _chosen.reset(token)


def number_of_parts(n: int, least: int, most: int = MOST_PARTS) -> int:
    """Into how many parts of at least `least` a loop over n is cut; at least 1."""
    return max(min(n // min(least, LONGEST_PART or least), most), 1)


def parts_of(n: int, least: int = 2048, most: int = MOST_PARTS) -> list[Range]:
    """Ranges (first, stop) of about equal length that cover 0 ... n - 1, each of at least `least`."""
    count = number_of_parts(n, least, most)
    return list(pairwise(n * k // count for k in range(count + 1)))


def parts_by_size(start: NDArray[np.integer[Any]], least: int = 2048) -> list[Range]:
    """Ranges (first, stop) of the rows of a CSR that hold about `least` entries each, empty ends left out.

    start : (n_rows + 1,) sorted integers
    """
    low, high = int(start[0]), int(start[-1])
    targets = np.arange(low, high, min(least, LONGEST_PART or least))
    edges = np.unique(np.append(np.searchsorted(start, targets, side="right") - 1, len(start) - 1))
    return list(pairwise(edges.tolist())) if high > low else []


def in_parts(
    kernel: Callable[..., Result], n: int, *args: Any, least: int = 2048, most: int = MOST_PARTS
) -> list[Result]:
    """Call `kernel(first, stop, *args)` for all `parts_of` a loop over n; results in their order."""
    return for_each(lambda part: kernel(*part, *args), parts_of(n, least, most))


def for_each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function for all items on the threads; results in their order.

    Within the function, further loops run on one thread. If calls fail, the exception of the first item that
    failed is raised, as in a plain loop, and no further ones are begun.
    """
    todo = list(enumerate(items))
    n_threads = min(thread_count(), len(todo), MOST_THREADS)
    if n_threads < 2:
        return [function(item) for _, item in todo]
    waiting, failures = deque(todo), {}
    results: list[Any] = [None] * len(todo)

    def work() -> None:
        _chosen.set(1)
        while True:
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = function(item)
            except BaseException as error:
                waiting.clear()
                failures[number] = error

    helpers: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # an interpreter that is about to exit starts no threads
            helpers.extend(_executor().submit(copy_context().run, work) for _ in range(n_threads - 1))
        copy_context().run(work)
    finally:
        waiting.clear()
        for helper in helpers:
            if not helper.cancel():  # it has begun
                helper.exception()
    if failures:
        raise failures[min(failures)]
    return results


def _executor() -> ThreadPoolExecutor:
    """The threads of this process, started when they are needed."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # not needed on one thread

        _pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="phaseseg")
    return _pool


def _forget() -> None:
    """A forked process has none of the threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
