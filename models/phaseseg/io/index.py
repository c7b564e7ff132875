"""Where the frames of a file begin, so that one of them is found without reading those before it.

The byte offsets are recorded while a large file is read. They are stored in the cache folder, never next to
the file. A file is identified by its path, size and modification time. Before a frame is read at its offset,
its first bytes are compared with those that were recorded. An index that does not agree or is damaged is
ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from array import array
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.packing import is_packed
from phaseseg.io.seeking import Entrances, gzip_points
from phaseseg.io.source import ByteSource

FORMATS = ("lammps-dump", "lammps-dump-binary", "extxyz", "xdatcar", "gro")
"""Formats whose reader goes on at the beginning of any frame."""
SMALLEST = 1 << 24
"""Bytes that must lie before the last frame for an index to be kept; less is read in a few milliseconds."""
_LARGE_PACKED = 1 << 24
_N_HEAD = 64
_MOST_FILES, _MOST_BYTES = 500, 1 << 28
_VERSION = 1


def cache_folder() -> Path:
    """The cache folder of this package; it may be deleted at any time."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        default = Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base, default = None, Path.home() / "Library" / "Caches"
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache"
    return (Path(base) if base else default) / "phaseseg"


class Stale(Exception):
    """A file is not what its index says."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The beginnings of frames in the unpacked content of a file.

    offsets : (n_frames,) int64, bytes before each frame
    lines : (n_frames,) int64, lines before each frame
    heads : (n_frames,) uint32, checksums of the first 64 bytes
    states : (n_frames,) int64, the last frame up to this one that says something about those behind it, such
        as the header of an XDATCAR; -1 for none
    stamp : size and time of change (ns) of the file
    complete : whether the last frame is that of the file
    members, points : see `Entrances`
    """

    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]
    heads: NDArray[np.uint32]
    states: NDArray[np.int64]
    stamp: tuple[int, int]
    complete: bool
    members: tuple[tuple[int, int], ...] = ()
    points: bytes = b""

    def __len__(self) -> int:
        return len(self.offsets)

    def go(self, source: ByteSource, entrances: Entrances, number: int) -> None:
        """Let a source go on at a frame.

        Raises
        ------
        Stale
            If the file is not the one that was indexed.
        """
        offset = int(self.offsets[number])
        if offset != source.offset:
            end = self.offsets[number + 1] if number + 1 < len(self) else offset
            chunks = entrances.way(source.offset, offset, int(end) - offset + _N_HEAD)
            source.jump(offset, int(self.lines[number]), chunks)
        if zlib.crc32(source.head(_N_HEAD)) != self.heads[number]:
            raise Stale

    def frames_before(self, number: int) -> list[int]:
        """The frames whose headers must be read before that of a frame: the first one and the last state."""
        return sorted({0, int(self.states[number])} - {-1, number})


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change (ns) of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class Recorder:
    """Notes the beginnings of frames while a file is read; `store` keeps them if they are worth it."""

    def __init__(self, path: Path, form: str, source: ByteSource) -> None:
        self._path, self._form, self._source = path, form, source
        self._stamp: tuple[int, int] | None = None
        with suppress(OSError):
            self._stamp = stamp_of(path)
        self._rows = array("q"), array("q"), array("L"), array("q")
        self._next: tuple[int, int, int] = 0, 0, 0
        self._first = source.frame

    def before(self) -> None:
        """Note where the next frame begins, if there is one."""
        source = self._source
        self._next = source.offset, source.line_number, zlib.crc32(source.head(_N_HEAD))

    def found(self) -> None:
        """A frame was there."""
        state = self._source.stateful
        values = (*self._next, -1 if state < 0 else state - self._first)
        for row, value in zip(self._rows, values, strict=True):
            row.append(value)

    def index(self, *, complete: bool) -> FrameIndex | None:
        """What was noted; None for a text that was converted, or a file that has changed."""
        if not len(self._rows[0]) or self._source.encoding != "utf-8" or self._stamp is None:
            return None
        with suppress(OSError):
            if stamp_of(self._path) == self._stamp:
                kinds = np.int64, np.int64, np.uint32, np.int64
                pairs = zip(self._rows, kinds, strict=True)
                offsets, lines, heads, states = (np.array(row, kind) for row, kind in pairs)
                members = tuple(self._source.members)
                return FrameIndex(offsets, lines, heads, states, self._stamp, complete, members)
        return None

    def store(self, *, complete: bool) -> None:
        """Keep the index of a large file."""
        if not len(self._rows[0]) or self._rows[0][-1] < SMALLEST:
            return
        known = load_index(self._path, self._form)
        if known is not None and (known.complete or len(known) >= len(self._rows[0])):
            return
        if (made := self.index(complete=complete)) is not None:
            save_index(self._path, self._form, made)


# ------------------------------------------------------------------------------------ the cache


def _place(path: Path, form: str) -> Path:
    key = f"{os.path.realpath(path)}\n{form}".encode("utf-8", "surrogateescape")
    return cache_folder() / "frames" / f"{hashlib.sha256(key).hexdigest()}.index"


def load_index(path: Path, form: str) -> FrameIndex | None:
    """Return the index of the current version of a file; None if there is no valid one."""
    try:
        place = _place(path, form)
        stored = place.read_bytes()
        digest, content = stored[:32], stored[32:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with np.load(BytesIO(content), allow_pickle=False) as parts:
            about = json.loads(str(parts["about"]))
            stamp = stamp_of(path)
            if about["version"] != _VERSION or about["form"] != form or tuple(about["stamp"]) != stamp:
                return None
            offsets, lines, heads, states = (parts[name] for name in ("offsets", "lines", "heads", "states"))
            members = tuple((packed, before) for packed, before in parts["members"].tolist())
            found = FrameIndex(
                offsets, lines, heads, states, stamp, about["complete"], members, parts["points"].tobytes()
            )
        os.utime(place)
        return found
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zlib.error):
        return None


def save_index(path: Path, form: str, index: FrameIndex) -> None:
    """Keep an index; nothing happens where the cache folder cannot be written."""
    from phaseseg.io.write import atomic_output

    about = {"version": _VERSION, "form": form, "stamp": index.stamp, "complete": index.complete}
    content = BytesIO()
    np.savez(
        content, about=np.array(json.dumps(about)), offsets=index.offsets, lines=index.lines,
        heads=index.heads, states=index.states, points=np.frombuffer(index.points, np.uint8),
        members=np.array(index.members, np.int64).reshape(-1, 2),
    )  # fmt: skip
    place, data = _place(path, form), content.getvalue()
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(place) as temporary:
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
        _prune(place.parent)


def drop_index(path: Path, form: str) -> None:
    """Remove an index that does not agree with its file."""
    with suppress(OSError):
        _place(path, form).unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove the indices that were not used for the longest time, beyond a number and a size."""
    kept = sorted(((one.stat(), one) for one in folder.glob("*.index")), key=lambda one: -one[0].st_mtime_ns)
    total = 0
    for number, (found, one) in enumerate(kept):
        total += found.st_size
        if number >= _MOST_FILES or total > _MOST_BYTES:
            one.unlink(missing_ok=True)


def index_for_jumps(path: Path, form: str) -> FrameIndex | None:
    """The stored index of a file, for reading one frame here and one there.

    A large gzip file gets the points from which it can be read, at the first time.
    """
    index = load_index(path, form)
    if index is None or index.points or index.stamp[0] < _LARGE_PACKED or not is_packed(path):
        return index
    far = max(np.diff([0, *(before for _, before in index.members), int(index.offsets[-1])]))
    if far >= SMALLEST and (points := gzip_points(path)):
        index = replace(index, points=points)
        save_index(path, form, index)
    return index
