"""jit: how every compiled loop of the package is compiled.

`PHASESEG_SIMD=0` in the environment, read once, replaces the vector instructions (`compiled.simd`) by loops
over single numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.registry import CPUDispatcher

from phaseseg.compiled.cache import Cache
from phaseseg.compiled.compiler import Compiler, PartCompiler

SIMD = os.environ.get("PHASESEG_SIMD", "1") != "0"
_EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Sums may be reordered, which lets them vectorize; NaN and infinity keep their meaning.
_OPTIONS = {**_EXACT, "fastmath": {"contract", "reassoc", "nsz"}}


def cached(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba; the code is cached on disk where a folder is writable, and in memory otherwise."""
    # Without a second entry for code in C, which nothing calls, a tenth less is compiled.
    made = numba.njit(no_cfunc_wrapper=True, pipeline_class=Compiler, **options)(function)
    with suppress(RuntimeError):  # no folder for the cache: a read-only install with a read-only home
        made._cache = Cache(function)
    return made  # type: ignore[no-any-return]


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `cached` does, for kernels of numbers."""
    if not SIMD:
        # The cache knows a function by its name and line: without vectors it needs a name of its own.
        function.__qualname__ += "_scalar"
    return cached(function, **_OPTIONS)


def exact_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `cached` does, for kernels that need the rounding of every operation as it is written."""
    return cached(function, **_EXACT)


class _Part(CPUDispatcher):  # type: ignore[misc]
    """A function that compiled functions call; called from Python, it runs as Python."""

    def __call__(self, *args: Any) -> Any:
        return self.py_func(*args)


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `jit` does what only compiled functions call: no entry for Python, a third faster."""
    return _inner(function, _OPTIONS)


def exact_inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `exact_jit` does what only compiled functions call."""
    return _inner(function, _EXACT)


def _inner(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    options = {"nopython": True, "no_cfunc_wrapper": True, **options}
    return _Part(function, targetoptions=options, pipeline_class=PartCompiler)


def code_folder() -> Path | None:
    """The folder in which the compiled code of this module is kept; None where no folder can be written.

    The code of other modules is in folders next to it, or in the same one if NUMBA_CACHE_DIR names it.
    """
    try:
        return Path(Cache(code_folder).cache_path)
    except RuntimeError:
        return None
