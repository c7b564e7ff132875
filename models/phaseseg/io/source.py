"""Bytes of an input file, plain or compressed, and the error that all readers raise."""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator
from itertools import chain
from pathlib import Path

import numpy as np

from phaseseg.compiled.threads import for_each
from phaseseg.display import option
from phaseseg.io.large_text import LARGE, LargeText, Text, letters_of
from phaseseg.io.packing import Damaged, unpacked

# Four bytes before the two that they begin with.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_N_LETTERS = 64
_CHUNK = 1 << 18
_SHORT = 1 << 14
_MOST_ROOM = 1 << 30


class InputError(ValueError):
    """A file that cannot be read: one sentence names the file, the place, what was found, what to do.

    Words of the file that are longer than 300 letters are shortened.
    """

    def __init__(self, text: str) -> None:
        super().__init__(re.sub(r"\S{301,}", lambda word: f"{word[0][:40]}…", text))


def remedy_of_cut(frame: int) -> str:
    """What to do about a frame that is cut off."""
    if frame == 0:
        return "Write or copy the file again."
    return (
        "The frames before it are intact: read them alone with "
        f"{option('frames', f':{frame}', python=f'slice(0, {frame})')}, or write or copy the file again."
    )


class ByteSource:
    """A file read once from front to back, by lines, blocks of lines or up to a marker.

    `frame` is the index of the frame being read, kept by the caller for messages; `line_number` counts the
    lines handed out so far, `offset` their bytes. `stateful` is the last frame whose header a reader must see
    before it reads the frames behind it. A compressed file that is damaged ends where the damage begins, so
    that the frames before it are read; asking for more than is there is an error then.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.frame = 0
        self.line_number = 0
        self.offset = 0
        self.stateful = -1
        self.members: list[tuple[int, int]] = []
        self.encoding = "utf-8"
        self._chunks = self._utf8(unpacked(path, members=self.members))
        self._buffer: bytearray | LargeText = bytearray()
        self._n_bytes = path.stat().st_size if path.is_file() else 0
        """Bytes that a large text probably has: at first those of the file, then those of the last one."""
        self._damage: Exception | None = None

    def error(self, text: str, line: int | None = None) -> InputError:
        """An error at a line, by default the last one that was returned."""
        return InputError(f"{self.name}, frame {self.frame}, line {line or self.line_number}: {text}")

    def close(self) -> None:
        self._chunks.close()

    def jump(self, offset: int, line_number: int, chunks: Generator[bytes, None, None] | None) -> None:
        """Go on at another byte, after a number of lines.

        chunks : the content from there on; None to pass over what is in between
        """
        if chunks is None:
            behind = offset - self.offset
            while behind > len(self._buffer):
                behind -= len(self._buffer)
                self._buffer.clear()
                if not self._fill():
                    break
            del self._buffer[:behind]
        else:
            self._chunks.close()
            self._chunks = chunks
            self._buffer.clear()
        self.offset, self.line_number = offset, line_number

    def head(self, n_bytes: int) -> bytes:
        """The next bytes, as `peek`, but also those before a damage."""
        while len(self._buffer) < n_bytes and self._fill():
            pass
        return bytes(self._buffer[:n_bytes])

    def peek(self, n_bytes: int) -> bytes:
        """The next bytes, without taking them."""
        head = self.head(n_bytes)
        if not head:
            self.check()
        return head

    def line(self) -> str | None:
        """The next line without its end; None at the end of the file."""
        searched = 0
        while (at := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if not self._fill():
                break
        if at < 0:
            self.check()
        taken = self._take(at + 1 if at >= 0 else len(self._buffer))
        return taken.decode("utf-8", "replace").rstrip("\r\n") if taken else None

    def block(self, n_lines: int) -> Text:
        """The next `n_lines` lines; fewer at the end of the file."""
        found = searched = 0
        while found < n_lines:
            if searched == len(self._buffer):
                if not self._fill():
                    self.check()
                    break
                self._enlarge(len(self._buffer) * n_lines // max(found, 1))
            fresh = letters_of(self._buffer)[searched : searched + _CHUNK]
            ends = fresh == ord("\n")
            n_fresh = int(np.count_nonzero(ends))
            if found + n_fresh >= n_lines:
                searched += int(np.flatnonzero(ends)[n_lines - found - 1]) + 1
                found = n_lines
            else:
                found += n_fresh
                searched += len(fresh)
            del fresh  # it holds the buffer
        return self._take(searched, found)

    def until(self, marker: bytes) -> Text:
        """Everything before the next `marker`, or up to the end of the file."""
        searched = 0
        while (at := self._find(marker, searched)) < 0:
            # The marker may lie across two chunks.
            searched = max(0, len(self._buffer) - len(marker))
            if not self._fill():
                return self._take(len(self._buffer))
            self._enlarge(self._n_bytes)
        return self._take(at, whole_lines=False)

    def _find(self, marker: bytes, start: int) -> int:
        """As `bytes.find`; ten times as fast where the last letter of the marker is rare."""
        if marker[-1:].isalnum():
            return self._buffer.find(marker, start)
        start += len(marker) - 1
        while (at := self._buffer.find(marker[-1:], start)) >= 0:
            if self._buffer.startswith(marker, at + 1 - len(marker)):
                return at + 1 - len(marker)
            start = at + 1
        return -1

    def take(self, n_bytes: int) -> Text:
        """The next bytes, for formats that are not text; fewer at the end of the file."""
        while len(self._buffer) < n_bytes and self._fill():
            pass
        if len(self._buffer) < n_bytes:
            self.check()
        return self._take(min(n_bytes, len(self._buffer)), 0, whole_lines=False)

    def rest(self) -> bytes:
        """Everything that is left, for formats that are not text."""
        while self._fill():
            pass
        self.check()
        return bytes(self._buffer)

    def _take(self, n_bytes: int, n_ends: int | None = None, *, whole_lines: bool = True) -> Text:
        """The first bytes of the buffer. A large part of it is handed over as it is, without a copy."""
        taken: Text
        if 2 * n_bytes > len(self._buffer) and n_bytes > _CHUNK:
            taken, self._buffer = self._buffer, bytearray(self._buffer[n_bytes:])
            if isinstance(taken, LargeText):
                taken.cut(n_bytes)
                self._n_bytes = n_bytes
            else:
                del taken[n_bytes:]
        else:
            whole = self._buffer
            taken = whole[:n_bytes] if isinstance(whole, LargeText) else bytes(memoryview(whole)[:n_bytes])
            del self._buffer[:n_bytes]
        self.offset += len(taken)
        self.line_number += number_of_ends(taken) if n_ends is None else n_ends
        if whole_lines and taken and not taken.endswith(b"\n"):  # the last line of the file
            self.line_number += 1
        return taken

    def _utf8(self, chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        """The content in UTF-8 without a byte-order mark."""
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= _N_LETTERS:
                break
        self.encoding = encoding_of(head)
        if self.encoding == "utf-8":
            if head:
                yield head
            yield from chunks
            return
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        for chunk in chain([head], chunks):
            if text := decoder.decode(chunk):
                yield text.encode("utf-8", "replace")

    def _fill(self) -> bool:
        try:
            chunk = next(self._chunks, b"")
        except (Damaged, OSError) as error:
            self._damage, chunk = error, b""
        except ImportError as error:
            raise InputError(f"{self.name}: {error}") from error
        self._buffer.extend(chunk)
        return bool(chunk)

    def _enlarge(self, n_bytes: int) -> None:
        """Move a text that has become large to memory of the pool; n_bytes : that it will probably have."""
        if isinstance(self._buffer, bytearray) and len(self._buffer) > LARGE:
            self._buffer = LargeText(self._buffer, min(n_bytes, _MOST_ROOM) + _CHUNK)

    def check(self) -> None:
        """Raise an error if the file ends here because it is damaged."""
        if self._damage is not None:
            at = self.line_number + self._buffer.count(b"\n")
            raise InputError(
                f"{self.name}, frame {self.frame}: the compressed file is damaged or cut off after line {at} "
                f"({self._damage}). {remedy_of_cut(self.frame)}"
            ) from self._damage


def number_of_ends(text: Text) -> int:
    """Number of line ends; in a long text four times as fast as `bytes.count`."""
    if len(text) < _SHORT:
        return text.count(b"\n")
    letters = letters_of(text)
    parts = range(0, len(letters), _CHUNK)
    counts = for_each(lambda part: int(np.count_nonzero(letters[part : part + _CHUNK] == ord("\n"))), parts)
    return sum(counts)


def encoding_of(head: bytes) -> str:
    """Encoding of a text from its byte-order mark, or from the zeros of UTF-16 without one; else UTF-8."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    zeros = [head[start:_N_LETTERS:2] for start in (1, 0)]  # text that is mostly ASCII
    for places, encoding in zip(zeros, ("utf-16-le", "utf-16-be"), strict=True):
        if len(places) > 1 and not any(places):
            return encoding
    return "utf-8"
