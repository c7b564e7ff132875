"""Compression: gzip, Zstandard, bzip2 and xz are read; gzip and Zstandard are written.

ISA-L (package isal) unpacks gzip twice as fast as zlib, and packs it six times as fast to the same size.
Where it has no wheel, zlib does the same.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

gzip_library: Any = zlib
with suppress(ImportError):  # no wheel for this platform
    from isal import isal_zlib as gzip_library

WRITTEN = (".gz", ".zst")
"""Suffixes of compressed files that can be written."""
_READ = (*WRITTEN, ".bz2", ".xz")
_CHUNK = 1 << 18
# As small as level 4 of zlib makes a labeled frame. Level 3 of Zstandard is larger than level 1 for numbers.
_GZIP_LEVEL, _ZSTD_LEVEL = 2 if gzip_library is not zlib else 4, 1


class Damaged(Exception):
    """Compressed data that is damaged or cut off."""


class Sink(Protocol):
    """What a packed file is written to."""

    def write(self, data: Any, /) -> Any: ...


def bare_name(name: str, suffixes: tuple[str, ...] = _READ) -> str:
    """The name of a file without the suffix of a compression.

    >>> bare_name("run.XYZ.GZ"), bare_name("run.dump.zst"), bare_name("gz")
    ('run.XYZ', 'run.dump', 'gz')
    """
    packed = name.lower().endswith(suffixes)
    return name.rpartition(".")[0] if packed else name


@contextmanager
def packed_file(path: Path) -> Iterator[Sink]:
    """Open a file for bytes that are compressed as its suffix says.

    There is no name and no date inside, so the same content gives the same bytes.

    Raises
    ------
    ImportError
        For `.zst` without a library that writes it.
    """
    packer = _packer(path.name)
    with path.open("wb") as file:
        if packer is None:
            yield file
            return
        yield _Packed(file, packer)
        file.write(packer.flush())


class _Packed:
    def __init__(self, file: Sink, packer: Any) -> None:
        self._file, self._packer = file, packer

    def write(self, data: Any) -> None:
        self._file.write(self._packer.compress(data))


@dataclass
class Piece:
    """Part of a packed file, written by itself: the checksum and number of its unpacked bytes."""

    checksum: int = 0
    n_bytes: int = 0


@contextmanager
def packed_piece(path: Path, name: str) -> Iterator[tuple[Sink, Piece]]:
    """Open a part of a packed file; `name` says how it is compressed. `joined_file` makes the file of them.

    The parts of a gzip file become one member, because some readers (OVITO) stop after the first.
    """
    gzip = name.lower().endswith(".gz")
    packer = gzip_library.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -15) if gzip else _packer(name)
    piece = Piece()
    with path.open("wb") as file:
        yield _Counted(file, packer, piece if gzip else None), piece
        if packer is not None:
            file.write(packer.flush(gzip_library.Z_SYNC_FLUSH) if gzip else packer.flush())


class _Counted:
    def __init__(self, file: Sink, packer: Any, piece: Piece | None) -> None:
        self._file, self._packer, self._piece = file, packer, piece

    def write(self, data: Any) -> None:
        if self._piece is not None:
            self._piece.checksum = gzip_library.crc32(data, self._piece.checksum)
            self._piece.n_bytes += memoryview(data).nbytes
        self._file.write(data if self._packer is None else self._packer.compress(data))


@contextmanager
def joined_file(path: Path, name: str) -> Iterator[Callable[[Path, Piece], None]]:
    """Open a file for parts of `packed_piece`, and yield the function that appends one."""
    gzip = name.lower().endswith(".gz")
    whole = Piece()
    # New memory for every part takes as long as the copying.
    buffer = memoryview(bytearray(1 << 20))
    with path.open("wb") as file:

        def append(part: Path, piece: Piece) -> None:
            _copy(part, file, buffer)
            if gzip:
                whole.checksum = combined_checksum(whole.checksum, piece.checksum, piece.n_bytes)
                whole.n_bytes += piece.n_bytes

        if gzip:
            file.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")  # no name, no date
        yield append
        if gzip:  # an empty block that is the last
            file.write(b"\x03\x00" + struct.pack("<II", whole.checksum, whole.n_bytes & 0xFFFFFFFF))


def _copy(part: Path, file: Sink, buffer: memoryview) -> None:
    with part.open("rb", buffering=0) as source:
        while n_bytes := source.readinto(buffer):
            file.write(buffer[:n_bytes])


def combined_checksum(first: int, second: int, n_bytes: int) -> int:
    """The CRC-32 of two texts one after the other, from that of each and the length of the second.

    Zeros behind a text multiply its checksum, a polynomial over {0, 1}, by a power of x.

    >>> combined_checksum(zlib.crc32(b"two "), zlib.crc32(b"parts"), 5) == zlib.crc32(b"two parts")
    True
    """
    power, factor, left = 1 << 31, 1 << 23, n_bytes  # 1, and x^8, in the order of bits of CRC-32
    while left:
        if left & 1:
            power = _product(power, factor)
        factor, left = _product(factor, factor), left >> 1
    return _product(power, first) ^ second


def _product(a: int, b: int) -> int:
    """Product of two polynomials modulo that of CRC-32; the highest bit is the constant term."""
    found = 0
    while a:
        if a & 0x80000000:
            found ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (0xEDB88320 if b & 1 else 0)
    return found


def pack(data: bytes, name: str) -> bytes:
    """Compress as the suffix of a name says; compressed pieces may be joined."""
    packer = _packer(name)
    packed: bytes = data if packer is None else packer.compress(data) + packer.flush()
    return packed


def _packer(name: str) -> Any:
    if name.lower().endswith(".gz"):
        return gzip_library.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    if name.lower().endswith(".zst"):
        zstd = _zstd()
        parameter = zstd.CompressionParameter
        return zstd.ZstdCompressor(
            options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1}
        )
    return None


@cache
def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise ImportError(
            "Zstandard (.zst) needs the package backports.zstd, or the module compression.zstd of Python "
            "3.14. Neither is installed: pip install backports.zstd, or use .gz."
        ) from None
    return zstd


def _gzip_unpacker() -> tuple[Callable[[], Any], type[Exception]]:
    return lambda: gzip_library.decompressobj(31), gzip_library.error


def _zstd_unpacker() -> tuple[Callable[[], Any], type[Exception]]:
    return _zstd().ZstdDecompressor, _zstd().ZstdError


# First bytes of a file -> factory of its decompressor, and the error of that. All have `decompress()`, `eof`
# and `unused_data`.
_UNPACKERS: dict[bytes, Callable[[], tuple[Callable[[], Any], type[Exception]]]] = {
    rb"\x1f\x8b": _gzip_unpacker,
    rb"BZh": lambda: (bz2.BZ2Decompressor, OSError),
    rb"\xfd7zXZ\x00": lambda: (lzma.LZMADecompressor, lzma.LZMAError),
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": _zstd_unpacker,  # the second begins what is to be skipped
}


Chunks = Generator[bytes, None, None]


def _unpacker(head: bytes) -> Callable[[], tuple[Callable[[], Any], type[Exception]]] | None:
    return next((unpacker for magic, unpacker in _UNPACKERS.items() if re.match(magic, head)), None)


def is_packed(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes."""
    with path.open("rb") as file:
        return _unpacker(file.read(16)) is not None


def unpacked(path: Path, first: int = 0, members: list[tuple[int, int]] | None = None) -> Chunks:
    """The content of a file, plain or compressed, in pieces that are never empty.

    first : byte of the file to begin with, where a member begins; 0 for a plain file
    members : a list that receives, for every further member of a compressed file, the byte of the file where
        it begins and the number of unpacked bytes before it

    The decompressors are driven here because `gzip.open` loses what it had already decompressed
    when the file turns out to be cut off, and with it the last whole frames.

    Raises
    ------
    Damaged
        Where the compressed data ends too early or makes no sense.
    ImportError
        For Zstandard without a library that reads it.
    """
    with path.open("rb") as file:
        file.seek(first)
        raw = file.read(_CHUNK)
        found = _unpacker(raw)
        if found is None:
            while raw:
                yield raw
                raw = file.read(_CHUNK)
            return
        new, failure = found()
        decompressor, n_bytes = new(), 0
        while raw:
            try:
                data = decompressor.decompress(raw)
            except failure as error:
                raise Damaged(str(error)) from error
            if data:
                n_bytes += len(data)
                yield data
            raw = b""
            if decompressor.eof:
                # Another member may follow (concatenated files), or zeros that pad a tape block.
                raw = decompressor.unused_data.lstrip(b"\0")
                if raw or file.peek(1):
                    decompressor = new()
                    if members is not None:
                        members.append((file.tell() - len(raw), n_bytes))
            raw = raw or file.read(_CHUNK)
        if not decompressor.eof:
            raise Damaged("the end of the compressed data is missing")
