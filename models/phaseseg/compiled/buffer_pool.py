"""A pool of large arrays that are reused.

The first access to fresh memory can cost as much as the work of a kernel: at ten million atoms a quarter of
the labeling. Arrays from `borrow` return to the pool by themselves when their last view is gone.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Smaller arrays, in bytes, come from NumPy; the pool keeps at most the second number of unused bytes.
SMALLEST = 4 * 2**20
LARGEST_SHELF = 2**30
# Buffers are longer than asked for by at most this part, so arrays of about the same size share one.
SLACK = 16
# Bytes of a cache line.
LINE = 64


def _aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Fresh memory that begins with a cache line: a register is then loaded from one line, not from two."""
    buffer = np.empty(n_bytes + LINE, dtype=np.uint8)
    first = -buffer.ctypes.data % LINE
    return buffer[first : first + n_bytes]


class _Shelf:
    """Unused buffers. `give` takes no lock, because it may run anywhere, even inside a garbage collection."""

    def __init__(self) -> None:
        self.most = LARGEST_SHELF
        self._returned: deque[NDArray[np.uint8]] = deque()
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def give(self, buffer: NDArray[np.uint8]) -> None:
        self._returned.append(buffer)
        while sum(held.nbytes for held in list(self._returned)) > self.most:
            try:
                self._returned.popleft()
            except IndexError:
                return

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        with self._lock:
            with suppress(IndexError):  # `give` in another thread may take one as well
                while True:
                    self._free.append(self._returned.popleft())
            self._shorten()
            # The smallest that fits; a much larger one is left for larger arrays.
            fitting = [n for n, buffer in enumerate(self._free) if n_bytes <= buffer.nbytes <= 1.5 * n_bytes]
            if fitting:
                return self._free.pop(min(fitting, key=lambda n: self._free[n].nbytes))
        step = max(2 ** (n_bytes.bit_length() - 1) // SLACK, 1)
        return _aligned(-(-n_bytes // step) * step)

    def keep(self, most: int) -> None:
        with self._lock:
            self.most = most
            self._shorten()

    def _shorten(self) -> None:
        while self._free and sum(buffer.nbytes for buffer in self._free) > self.most:
            self._free.pop(0)


_shelf = _Shelf()


@contextmanager
def keeping(n_bytes: int) -> Iterator[None]:
    """Keep more unused bytes, for loops whose large arrays have about the same size in every turn."""
    before = _shelf.most
    _shelf.keep(n_bytes)
    try:
        yield
    finally:
        _shelf.keep(before)


def borrow(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `numpy.empty`, from reused memory if a buffer of about that size is unused."""
    kind = np.dtype(dtype)
    size = shape if isinstance(shape, int) else prod(shape)
    n_bytes = int(size) * kind.itemsize
    if n_bytes < SMALLEST:
        return _aligned(n_bytes).view(kind).reshape(shape)
    buffer = _shelf.take(n_bytes)
    # An array over a memoryview, not over the buffer, becomes the base of all its views: it lives as long as
    # the last of them.
    root = np.frombuffer(buffer.data, dtype=np.uint8, count=n_bytes)
    weakref.finalize(root, _shelf.give, buffer).atexit = False
    return root.view(kind).reshape(shape)
