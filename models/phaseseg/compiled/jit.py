"""jit: how every compiled loop of the package is compiled.

`PHASESEG_SIMD=0` in the environment, read once, replaces the vector instructions (`compiled.simd`) by loops
over single numbers.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.registry import CPUDispatcher

from phaseseg.compiled.cache import Cache

SIMD = os.environ.get("PHASESEG_SIMD", "1") != "0"
_EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Sums may be reordered, which lets them vectorize; NaN and infinity keep their meaning.
_OPTIONS = {**_EXACT, "fastmath": {"contract", "reassoc", "nsz"}}


class _WithoutCollection(event.Listener):  # type: ignore[misc]
    """Python does not look for garbage while numba compiles, which would take a tenth of the time.

    Compilations may be nested, but only one thread compiles at a time, since numba holds a lock.
    """

    _depth = 0
    _enabled = True

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._enabled = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0 and self._enabled:
            gc.enable()


event.register("numba:compile", _WithoutCollection())


def cached(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba; the code is cached on disk where a folder is writable, and in memory otherwise."""
    # Without a second entry for code in C, which nothing calls, a tenth less is compiled.
    made = numba.njit(no_cfunc_wrapper=True, **options)(function)
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


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """LLVM code that goes into that of the callers, where it becomes machine code."""

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _PartCompiler(CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        # Not among the options: numba compiles its own functions again for callers with other options.
        state.flags.no_cpython_wrapper = True
        # Numba knows a compiled function by what Python would call: any builtin that is not another's.
        state.targetctx.get_executable = lambda *_: [].append
        return [DefaultPassBuilder.define_nopython_pipeline(state)]


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `jit` does what only compiled functions call: no entry for Python, a third faster."""
    return _inner(function, _OPTIONS)


def exact_inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `exact_jit` does what only compiled functions call."""
    return _inner(function, _EXACT)


def _inner(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    options = {"nopython": True, "no_cfunc_wrapper": True, **options}
    return _Part(function, targetoptions=options, pipeline_class=_PartCompiler)


def code_folder() -> Path | None:
    """The folder in which the compiled code of this module is kept; None where no folder can be written.

    The code of other modules is in folders next to it, or in the same one if NUMBA_CACHE_DIR names it.
    """
    try:
        return Path(Cache(code_folder).cache_path)
    except RuntimeError:
        return None
