"""The content of a file from a byte on, plain or compressed.

A compressed file can be entered where one of its members begins. A gzip file of one member, as LAMMPS writes
it, has points in it from which unpacking goes on with the 32 kB before them; `indexed_gzip` finds them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from phaseseg.io.packing import Chunks, Damaged, is_packed, unpacked

SPACING = 1 << 24
"""Bytes of content between two points of a gzip file; a point takes 32 kB."""
_CHUNK = 1 << 18
_FAILURES = (OSError, ValueError, EOFError)
"""What reading by points raises; errors of `indexed_gzip` are of the first kind."""


@cache
def _library() -> Any:
    """The package `indexed_gzip`; None where it has no wheel."""
    try:
        import indexed_gzip
    except ImportError:
        return None
    return indexed_gzip


def gzip_points(path: Path) -> bytes:
    """The points of a gzip file in the form of `indexed_gzip`; empty without this package or for other files.

    It takes two to three times as long as unpacking.
    """
    if (library := _library()) is None:
        return b""
    with path.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            return b""
    found = BytesIO()
    try:
        with library.IndexedGzipFile(str(path), spacing=SPACING) as file:
            file.build_full_index()
            file.export_index(fileobj=found)
    except _FAILURES:
        return b""
    return found.getvalue()


class Entrances:
    """The places at which a file can be entered.

    Parameters
    ----------
    path : the file
    members : byte of the file and number of unpacked bytes before it, for every member but the first
    points : of `gzip_points`
    """

    def __init__(self, path: Path, members: Sequence[tuple[int, int]] = (), points: bytes = b"") -> None:
        self.path = path
        self.members = [(0, 0), *members]
        self._packed = is_packed(path)
        self._points: Any = None
        if points and (library := _library()) is not None:
            self._points = library.IndexedGzipFile(str(path), spacing=SPACING, auto_build=True)
            try:
                self._points.import_index(fileobj=BytesIO(points))
            except _FAILURES:
                self.close()

    def close(self) -> None:
        if self._points is not None:
            self._points.close()
        self._points = None

    def way(self, here: int, offset: int, n_bytes: int) -> Chunks | None:
        """The content from `offset` on; None if passing over what is between `here` and there is shorter.

        n_bytes : about what is needed
        """
        if not self._packed:
            return None if 0 <= offset - here <= _CHUNK else _plain(self.path, offset)
        if self._points is not None and not 0 <= offset - here < SPACING // 2:
            return self._pointed(offset, n_bytes)
        packed, before = self.members[bisect_right(self.members, offset, key=lambda one: one[1]) - 1]
        if before <= here <= offset:
            return None
        return _without(unpacked(self.path, packed), offset - before)

    def _pointed(self, offset: int, n_bytes: int) -> Chunks:
        # Every call begins at a point, so the pieces are large.
        size = max(n_bytes, _CHUNK)
        try:
            while True:
                self._points.seek(offset)
                if not (data := self._points.read(size)):
                    return
                yield data
                offset, size = offset + len(data), max(size, SPACING)
        except _FAILURES as error:
            raise Damaged(str(error) or type(error).__name__) from error


def _plain(path: Path, offset: int) -> Chunks:
    with path.open("rb") as file:
        file.seek(offset)
        while data := file.read(_CHUNK):
            yield data


def _without(chunks: Chunks, n_bytes: int) -> Chunks:
    """The content without its first bytes."""
    for data in chunks:
        if n_bytes < len(data):
            yield data[n_bytes:] if n_bytes else data
            n_bytes = 0
        else:
            n_bytes -= len(data)
