"""What a mutated input may do, and what is a fault."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()


class Fault(Exception):
    """An input that ended neither in a sound result nor in one clear sentence."""


def signature(error: BaseException) -> str:
    """Return the kind of an error and the innermost line of this project, to group equal faults."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if "phaseseg" in one.filename or "ase_bridge" in one.filename]
    at = (ours or frames)[-1] if frames else None
    where = f" at {Path(at.filename).name}:{at.lineno}" if at else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{where}: {text[:200]}"


def sentence(error: BaseException, *names: str) -> None:
    """Raise `Fault` unless the error is one sentence that contains the names."""
    text = str(error)
    if "\n" in text.strip() or not text.strip() or len(text) > 1500:
        raise Fault(f"not one sentence: {text[:300]!r}") from error
    for name in names:
        if name not in text:
            raise Fault(f"{name!r} is not named: {text[:300]!r}") from error


def sound(name: str, values: Any, length: int | None = None, *, nan: bool = False) -> None:
    """Raise `Fault` unless the array is finite (or NaN where allowed) and has the length."""
    array = np.asarray(values)
    if length is not None and len(array) != length:
        raise Fault(f"{name} has {len(array)} rows instead of {length}")
    if array.dtype.kind == "f":
        bad = np.isinf(array) if nan else ~np.isfinite(array)
        if bad.any():
            raise Fault(f"{name} is not finite: {array[bad][:3]}")
