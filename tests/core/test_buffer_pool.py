"""Arrays from used memory: as good as new, never in two hands."""

import gc
import threading

import numpy as np
import pytest

from phaseseg.compiled import buffer_pool
from phaseseg.compiled.buffer_pool import LARGEST_SHELF, SMALLEST, borrow

BIG = 2 * SMALLEST


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(BIG, np.int8), ((BIG // 4, 3), np.float32), ((64, 128, 512), "i4"), (7, "f8"), (0, "f4")],
)
def test_like_numpy_empty(shape, dtype):
    array = borrow(shape, dtype)
    fresh = np.empty(shape, dtype)
    assert array.shape == fresh.shape and array.dtype == fresh.dtype
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array[...] = 3
    assert (array == 3).all()


@pytest.mark.slow
def test_memory_comes_back_when_the_last_view_is_gone():
    array = borrow((BIG, 3), np.float32)
    place = address(array)
    view = array[5:100].T.reshape(3, -1)[1:]
    view[:] = 7.0
    del array
    gc.collect()
    others = [borrow((BIG, 3), np.float32) for _ in range(3)]
    assert all(address(other) != place for other in others)
    for other in others:
        other[...] = 0
    assert (view == 7).all()
    del view, other
    gc.collect()
    assert address(borrow((BIG, 3), np.float32)) == place


@pytest.mark.slow
def test_no_two_arrays_share_memory():
    rng = np.random.default_rng(0)
    held = []
    for n in range(200):
        array = borrow(int(rng.integers(SMALLEST, 3 * SMALLEST)), np.uint8)
        array[:] = n % 251
        held.append((n % 251, array))
        if rng.random() < 0.5:
            held.pop(int(rng.integers(len(held))))
        if len(held) > 12:
            held = held[6:]
        assert all((array[:: len(array) // 50] == value).all() for value, array in held)


def test_threads_do_not_share_memory():
    wrong = []

    def work(value):
        for _ in range(60):
            array = borrow(BIG, np.uint8)
            array[:] = value
            if not (array == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
def test_the_shelf_stays_small():
    arrays = [borrow(LARGEST_SHELF // 8, np.uint8) for _ in range(20)]
    del arrays
    gc.collect()
    borrow(BIG, np.uint8)
    shelf = buffer_pool._shelf
    assert sum(b.nbytes for b in shelf._free) + sum(b.nbytes for b in shelf._returned) <= LARGEST_SHELF + BIG


def test_an_array_a_little_longer_finds_the_buffer_of_the_shorter():
    n = 3 * BIG + 1
    place = address(borrow(n, np.uint8))
    assert address(borrow(n + n // 50, np.uint8)) == place


@pytest.mark.slow
def test_a_loop_may_keep_more_and_leaves_no_more_behind():
    shelf = buffer_pool._shelf

    def unused():
        borrow(BIG, np.uint8)
        return sum(b.nbytes for b in shelf._free) + sum(b.nbytes for b in shelf._returned)

    with buffer_pool.keeping(2 * LARGEST_SHELF):
        arrays = [borrow(LARGEST_SHELF // 4, np.uint8) for _ in range(6)]
        del arrays
        assert unused() >= 1.4 * LARGEST_SHELF
    assert unused() <= LARGEST_SHELF + BIG
