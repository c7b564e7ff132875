"""Slabs as tasks: what a function gives for each, here or on machines that share a folder.

Other machines get the function with its arrays. Those of a `Disk` are files in the folder, so a machine reads
its slab from there by itself, and neither the command nor the scheduler passes on any atoms.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phaseseg.large.disk import Disk, Place
from phaseseg.large.kept import Kept
from phaseseg.specs import Progress

Arrays = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")
LARGE = 1 << 20
"""Bytes of an array in memory from which on it goes to other machines as a file."""


def meanwhile(disk: Disk, function: Callable[[], Result]) -> Callable[[], Result]:
    """Call a function while other machines work on slabs; returns what gives its result.

    Without other machines, it is called when its result is asked for.
    """
    if disk.kept.tasks is None:
        return function
    pool = ThreadPoolExecutor(1)
    found = pool.submit(copy_context().run, function)
    pool.shutdown(wait=False)
    return found.result


class _InFile:
    """Stands for arrays that a machine has left in the folder."""


def each(
    disk: Disk, name: str, function: Callable[[Any], Any], items: Iterable[Any], doing: str,
    progress: Progress | None = None, *, keep: bool = False, n: int | None = None,
) -> Iterator[Any]:  # fmt: skip
    """Yield what a function gives for small items, in order: a dict of arrays, or something small.

    name : of the results, in the folder
    progress : is called before each item with `doing`
    keep : whether an interrupted run continues with these results, which are dicts of arrays
    n : number of items; by default their length
    """
    kept, n = disk.kept, len(items) if isinstance(items, Sized) else n or 0
    names = [f"{name}-{k}" for k in range(n)]
    there = [keep and kept.has(one) for one in names]

    def report(k: int) -> None:
        if progress is not None:
            progress(k / n, f"{doing}, slab {k + 1} of {n}")

    if kept.tasks is None:
        for k, (one, item) in enumerate(zip(names, items, strict=True)):
            report(k)
            yield kept(one, partial(function, item)) if keep else function(item)
        return
    todo = ((one, item) for one, known, item in zip(names, there, items, strict=True) if not known)
    made = kept.tasks(_Elsewhere(disk, kept.for_others(), function), todo)
    for k, one in enumerate(names):
        report(k)
        found = _InFile() if there[k] else next(made)
        if isinstance(found, _InFile):
            found = kept.read(one)
            if not keep:
                kept.remove_one(one)
        yield found


class _Elsewhere:
    """A function that leaves the arrays that it gives in the folder; called with a name and an item."""

    def __init__(self, disk: Disk, kept: Kept, function: Callable[[Any], Any]) -> None:
        stream = io.BytesIO()
        pickler = _Pickler(stream, disk)
        pickler.dump(function)
        self._function, self._kept = stream.getvalue(), kept
        self._files = pickler.files  # which are there as long as this object

    def __getstate__(self) -> dict[str, Any]:
        return {"_function": self._function, "_kept": self._kept}

    def __call__(self, item: tuple[str, Any]) -> Any:
        name, given = item
        with Disk() as disk:
            found = _Unpickler(io.BytesIO(self._function), disk).load()(given)
        if not isinstance(found, dict):
            return found
        self._kept.write(name, found)
        return _InFile()


class _Pickler(pickle.Pickler):
    """Puts places for the arrays of a disk, and for large ones in memory, which it copies into files."""

    def __init__(self, stream: io.BytesIO, disk: Disk) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._disk, self.files = disk, dict[int, tuple[NDArray[Any], NDArray[Any]]]()

    def persistent_id(self, obj: Any) -> Place | str | None:
        if obj is self._disk:
            return "disk"
        if type(obj) is not np.ndarray or not obj.size or obj.dtype.hasobject:
            return None
        place = self._disk.place(obj)
        if place is None and obj.nbytes >= LARGE:
            if id(obj) not in self.files:
                copied = self._disk.array(obj.shape, obj.dtype)
                copied[...] = obj
                self.files[id(obj)] = obj, copied
            place = self._disk.place(self.files[id(obj)][1])
        return place


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, disk: Disk) -> None:
        super().__init__(stream)
        self._disk = disk

    def persistent_load(self, place: Any) -> Any:
        return self._disk if place == "disk" else self._disk.opened(place)
