"""jit: how every compiled loop of the package is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba, kept on disk where a folder can be written and in memory otherwise."""
    # Sums may be reordered, which lets them vectorize; NaN and infinity keep their meaning.
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder for the cache: a read-only install with a read-only home
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
