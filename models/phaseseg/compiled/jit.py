"""jit: how every compiled loop of the package is compiled.

`PHASESEG_SIMD=0` in the environment, read once, replaces the vector instructions (`compiled.simd`) by loops
over single numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from llvmlite import binding as llvm
from numba.core.caching import FunctionCache
from numba.core.runtime import _nrt_python

SIMD = os.environ.get("PHASESEG_SIMD", "1") != "0"


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, read without its compiler.

    Numba itself imports all that it can compile, SciPy's linear algebra included, before it reads: 0.25 s.
    Compiled code needs only the addresses of numba's functions that manage memory.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        for name, address in _nrt_python.c_helpers.items():
            llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def cached(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba; the code is cached on disk where a folder is writable, and in memory otherwise."""
    made = numba.njit(**options)(function)
    with suppress(RuntimeError):  # no folder for the cache: a read-only install with a read-only home
        made._cache = _Cache(function)
    return made  # type: ignore[no-any-return]


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `cached` does, for kernels of numbers."""
    # Sums may be reordered, which lets them vectorize; NaN and infinity keep their meaning.
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
    if not SIMD:
        # The cache knows a function by its name and line: without vectors it needs a name of its own.
        function.__qualname__ += "_scalar"
    return cached(function, **options)
