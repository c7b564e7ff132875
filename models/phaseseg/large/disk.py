"""Arrays in temporary files, which the system removes with the process, and the memory that they may take."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from phaseseg.large.kept import NAMED, Kept, not_seen

RESIDENT = 1.5e9
"""Bytes of the files that may be in the memory of the process before it gives them back."""
EVERY = 0.2
"""Seconds between two looks at the memory."""


class DiskError(OSError):
    """A temporary file that cannot be written; the message says where, why and what to do."""


def usual_folder() -> Path:
    """The folder of temporary files: TMPDIR if it is set, else one on a disk, which /tmp need not be."""
    chosen = os.environ.get("TMPDIR")
    return Path(chosen or ("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()))


class Place(NamedTuple):
    """Where an array is: a file, and what `numpy.ndarray` needs to find the array in it."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    strides: tuple[int, ...]


class Disk:
    """Arrays in files without a name: nothing is left of them when the process ends, even if it is killed.

    If other machines help (`Kept.tasks`), they read the files, which have names then. They are in a hidden
    folder next to the results, which is removed at the end, and after a kill by the next run.

    The system keeps what it can of them in memory and writes the rest to disk. `array` maps a file into the
    memory of the process. A thread gives the memory back whenever more than `RESIDENT` bytes are mapped; the
    content stays in the file.

    folder : of files without a name; by default `usual_folder`
    kept : results that survive an interruption, in another folder
    """

    def __init__(self, folder: Path | None = None, kept: Kept | None = None) -> None:
        self.kept = Kept() if kept is None else kept
        self._shared = self.kept.tasks is not None
        self.folder = self.kept.new_folder() if self._shared else folder or usual_folder()
        self._remove: Callable[[], Any] | None = None
        if self._shared:  # also if the process ends without leaving the `with` block
            self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._opened: dict[str, mmap.mmap] = {}
        self._paths: weakref.WeakKeyDictionary[mmap.mmap, str] = weakref.WeakKeyDictionary()
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._keeper: threading.Thread | None = None

    def __enter__(self) -> Self:
        if hasattr(mmap, "MADV_DONTNEED"):
            self._keeper = threading.Thread(target=self._keep, name="phaseseg-disk", daemon=True)
            self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._keeper is not None:
            self._keeper.join()
        if self._remove is not None:
            self._remove()

    def check(self, n_bytes: float) -> None:
        """Raise DiskError if fewer bytes than needed are free."""
        free = n_bytes
        with suppress(OSError):  # a folder that does not exist is an error of the first file
            free = psutil.disk_usage(str(self.folder)).free
        if free < n_bytes:
            raise DiskError(
                f"{self.folder}: temporary files need about {n_bytes / 1e9:.3g} GB, and {free / 1e9:.3g} "
                f"GB are free. Free some space, or name another folder {self._remedy}."
            )

    def file(self) -> IO[bytes]:
        """A new file for reading and writing."""
        try:
            if self._shared:
                return tempfile.NamedTemporaryFile(dir=self.folder, delete=False)
            return tempfile.TemporaryFile(prefix="phaseseg-", dir=self.folder)
        except OSError as error:
            raise _error(error, self.folder, self._remedy) from error

    def array(self, shape: tuple[int, ...] | int, dtype: DTypeLike) -> NDArray[Any]:
        """A new array of zeros in a file."""
        kind = np.dtype(dtype)
        n_bytes = (shape if isinstance(shape, int) else prod(shape)) * kind.itemsize
        if not n_bytes:
            return np.zeros(shape, dtype=kind)
        with self.file() as file:
            try:
                file.truncate(n_bytes)
                _reserve(file.fileno(), n_bytes)
                mapped = mmap.mmap(file.fileno(), n_bytes)
                if hasattr(mmap, "MADV_HUGEPAGE"):
                    with suppress(OSError):  # not every system has large pages of files
                        mapped.madvise(mmap.MADV_HUGEPAGE)
            except OSError as error:
                raise _error(error, self.folder, self._remedy) from error
            if self._shared:
                self._paths[mapped] = file.name
                weakref.finalize(mapped, _unlink, Path(file.name))
        with self._lock:
            self._maps.add(mapped)
        return np.frombuffer(mapped, dtype=kind).reshape(shape)

    # Other machines -------------------------------------------------------------------------------

    def place(self, array: NDArray[Any]) -> Place | None:
        """Where other machines find an array, with its content; None for an array in memory."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        base = getattr(base, "obj", base)  # of a memoryview
        if not isinstance(base, mmap.mmap) or base not in self._paths:
            return None
        if base not in self._opened.values():
            base.flush()
        offset = array.ctypes.data - np.frombuffer(base, dtype=np.uint8).ctypes.data
        return Place(self._paths[base], array.shape, array.dtype.str, offset, array.strides)

    def opened(self, place: Place) -> NDArray[Any]:
        """An array of another process, to be read."""
        if place.path not in self._opened:
            try:
                with Path(place.path).open("rb") as file:
                    # Compiled loops know arrays that can be written; what is written stays in this process.
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except FileNotFoundError:
                raise not_seen(place.path) from None
            self._opened[place.path] = mapped
            self._paths[mapped] = place.path
            with self._lock:
                self._maps.add(mapped)
        return np.ndarray(place.shape, place.dtype, self._opened[place.path], place.offset, place.strides)

    def put(self, array: NDArray[Any], first: int, values: NDArray[Any]) -> None:
        """Write rows from `first` on into an array, also into one of another process."""
        place = self.place(array) if self._opened else None
        if place is None:
            array[first : first + len(values)] = values
            return
        # Not through the mapped file: two machines that write to one page would undo what the other wrote.
        try:
            with Path(place.path).open("r+b") as file:
                file.seek(place.offset + first * place.strides[0])
                file.write(np.ascontiguousarray(values, dtype=array.dtype).data)
        except FileNotFoundError:
            raise not_seen(place.path) from None
        except OSError as error:
            raise _error(error, Path(place.path).parent, NAMED) from error

    def give_back(self) -> None:
        """Take all arrays out of the memory of the process; they are read again when they are used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            with self._lock:
                maps = list(self._maps)
            for one in maps:
                with suppress(ValueError, OSError):  # closed in between
                    one.madvise(mmap.MADV_DONTNEED)

    def _keep(self) -> None:
        process = psutil.Process()
        while not self._done.wait(EVERY):
            if getattr(process.memory_info(), "shared", 0) > RESIDENT:
                self.give_back()

    @property
    def _remedy(self) -> str:
        return NAMED if self._shared else "in the variable TMPDIR"


def _error(error: OSError, folder: Path, remedy: str) -> DiskError:
    why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
    return DiskError(
        f"{folder}: a temporary file cannot be written ({why}). Free some space, or name another folder "
        f"{remedy}."
    )


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _reserve(number: int, n_bytes: int) -> None:
    """Reserve the space of a file: a full disk would otherwise end the process later, without a word."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(number, 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some file systems cannot reserve space
                raise
