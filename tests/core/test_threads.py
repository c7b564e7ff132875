"""Threads: loops in fixed parts, results in order, the number of threads and who sets it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from phaseseg import label_phases, map_frames, threads
from phaseseg.compiled.threads import (
    for_each,
    in_parts,
    number_of_parts,
    parts_by_size,
    parts_of,
    thread_count,
    usual_threads,
)
from phaseseg.testing import AWKWARD, assert_same
from phaseseg.testing.conformance import parts_of_at_most

COUNTS = (1, 2, 3, 8)


def n_threads(frame):
    return thread_count()


# Parts --------------------------------------------------------------------------------------------


@given(st.integers(0, 100_000), st.integers(1, 5000), st.integers(1, 200))
def test_parts_cover_a_loop_once(n, least, most):
    parts = parts_of(n, least, most)
    assert parts[0][0] == 0 and parts[-1][1] == n and 1 <= len(parts) <= most
    assert all(one[1] == other[0] for one, other in pairwise(parts))
    assert len(parts) == 1 or min(stop - first for first, stop in parts) >= least


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 30))
def test_parts_by_size_cover_all_entries_once(sizes, least):
    start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    rows = [row for first, stop in parts_by_size(start, least) for row in range(first, stop)]
    assert rows == sorted(set(rows))
    assert sum(sizes[row] for row in rows) == sum(sizes)
    for first, stop in parts_by_size(start, least):
        assert start[stop] - start[first] < least + max(sizes) + least


def test_parts_do_not_depend_on_the_number_of_threads():
    found = []
    for n in COUNTS:
        with threads(n):
            found.append(parts_of(50_000))
    assert all(parts == found[0] for parts in found)


def test_short_loops_are_cut_on_request():
    assert number_of_parts(1000, 2048) == 1
    with parts_of_at_most(10):
        assert number_of_parts(1000, 2048) == 100
    assert number_of_parts(1000, 2048) == 1


# Calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", COUNTS)
def test_results_are_in_order(n):
    def square(k):
        time.sleep(1e-3 * (k % 3))
        return k * k

    with threads(n):
        assert for_each(square, range(20)) == [k * k for k in range(20)]
        assert in_parts(lambda first, stop, add: stop - first + add, 10, 1, least=5) == [6, 6]
        assert for_each(square, []) == []


def test_calls_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    with threads(3):
        for_each(lambda _: meeting.wait(), range(3))


def test_loops_inside_of_a_call_run_on_one_thread():
    with threads(4):
        assert for_each(lambda _: thread_count(), range(8)) == [1] * 8
        assert thread_count() == 4


@pytest.mark.parametrize("n", COUNTS)
def test_the_first_failure_is_raised_and_ends_the_work(n):
    begun = []

    def fail(k):
        begun.append(k)
        time.sleep(2e-3)
        if k >= 3:
            raise ValueError(f"part {k}")

    with threads(n):
        with pytest.raises(ValueError, match="part 3"):
            for_each(fail, range(100))
        assert len(begun) < 20
        assert for_each(abs, [-1, -2]) == [1, 2]


def test_an_interrupt_ends_the_work():
    begun = []

    def stop(k):
        begun.append(k)
        if k == 2:
            raise KeyboardInterrupt
        time.sleep(2e-3)

    with threads(2), pytest.raises(KeyboardInterrupt):
        for_each(stop, range(1000))
    assert len(begun) < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os
from phaseseg.compiled.threads import for_each, threads
with threads(3):
    for_each(abs, range(9))
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
    else:
        import threading
        meeting = threading.Barrier(3, timeout=10)
        for_each(lambda _: meeting.wait(), range(3))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


# The number of threads ------------------------------------------------------------------------------


def test_the_number_holds_inside_of_the_block():
    usual = thread_count()
    with threads(5):
        with threads(2):
            assert thread_count() == 2
        with threads(None):
            assert thread_count() == 5
        assert thread_count() == 5
    assert thread_count() == usual == usual_threads()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_is_refused(n):
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, found"), threads(n):
        pass


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "two"}, None),
        ({}, None),
    ],
)
def test_the_environment_sets_the_number(variables, expected, monkeypatch):
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = usual_threads.__wrapped__()
    assert found == expected if expected else 1 <= found <= os.cpu_count()


@pytest.mark.slow
def test_workers_use_one_thread_each():
    frames = [AWKWARD["orthogonal"]() for _ in range(3)]
    with threads(3):
        assert list(map_frames(n_threads, frames)) == [3, 3, 3]
        assert list(map_frames(n_threads, frames, workers=2)) == [1, 1, 1]


# Several callers --------------------------------------------------------------------------------------


def test_the_library_may_be_called_from_several_threads_at_once():
    """Each caller gets what it gets alone, whatever the others do."""
    frames = [AWKWARD[kind]() for kind in ("orthogonal", "triclinic", "open along c", "one atom")]

    def label(k):
        with threads(k % 3 + 1):
            return label_phases(frames[k % len(frames)], "Fe", sigma=1.5, phases=2)

    with parts_of_at_most(16):
        expected = [label_phases(frame, "Fe", sigma=1.5, phases=2) for frame in frames]
        with ThreadPoolExecutor(6) as pool:
            for k, found in enumerate(pool.map(label, range(36))):
                assert_same(found, expected[k % len(frames)])
