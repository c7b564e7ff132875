"""A large text in memory that is used again."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow

LARGE = 16 << 20
"""Bytes from which on a text of a file is kept as a `LargeText`."""
_GROWTH = 8


class LargeText:
    """A text that grows at its end, with the methods of `bytes` that readers use.

    Its memory comes from the pool and returns to it, so the arrays of the analysis take it over: to touch
    half a gigabyte for the first time can take as long as to parse it.

    room : bytes that it will probably need
    """

    def __init__(self, text: bytes | bytearray, room: int) -> None:
        self._memory: NDArray[np.uint8] = borrow(max(room, len(text)), np.uint8)
        self._length = 0
        self.extend(text)

    def extend(self, text: bytes | bytearray) -> None:
        end = self._length + len(text)
        if end > len(self._memory):
            larger = borrow(_GROWTH * end, np.uint8)
            larger[: self._length] = self.letters
            self._memory = larger
        self._memory[self._length : end] = np.frombuffer(text, np.uint8)
        self._length = end

    @property
    def letters(self) -> NDArray[np.uint8]:
        return self._memory[: self._length]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        return self.letters[part].tobytes()

    def __bytes__(self) -> bytes:
        return self.letters.tobytes()

    def find(self, word: bytes, start: int = 0) -> int:
        found = re.compile(re.escape(word)).search(self.letters.data, start)
        return -1 if found is None else found.start()

    def startswith(self, word: bytes, start: int = 0) -> bool:
        return self[start : start + len(word)] == word

    def endswith(self, word: bytes) -> bool:
        return self.startswith(word, max(len(self) - len(word), 0))

    def count(self, word: bytes) -> int:
        return bytes(self).count(word)

    def clear(self) -> None:
        self._length = 0

    def decode(self, *args: str) -> str:
        return bytes(self).decode(*args)

    def __delitem__(self, first: slice) -> None:
        """Drop the first bytes."""
        rest = self[first.stop :]
        self.clear()
        self.extend(rest)

    def cut(self, n_bytes: int) -> None:
        """Keep the first bytes only."""
        self._length = n_bytes


Text = bytes | bytearray | LargeText
"""What readers get of a file."""


def letters_of(text: Text) -> NDArray[np.uint8]:
    """The bytes of a text as numbers, without a copy."""
    return text.letters if isinstance(text, LargeText) else np.frombuffer(text, np.uint8)
