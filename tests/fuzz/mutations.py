"""Mutations of bytes, tokens, lines and whole files, decided by a random generator with a seed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from contextlib import suppress
from random import Random

from phaseseg.io.packing import pack

NUMBERS = (
    "nan", "-nan", "inf", "-inf", "1e20", "-1e17", "1e200", "1e308", "1e309", "1e-320", "1e-30", "0", "-0",
    "-1", "0.5", "1e9", "99999999999999999999", "1e19", "2147483648", "-2147483649", "9223372036854775808",
    "4294967297", "0x10", "1_000", "1,5", "1d5", "1.0.0", "+5", ".", "-", "e", "1e", "5.", "\u0663",
    "1000000", "3000000000",
)  # fmt: skip
WORDS = (
    "", "T", "F", "Fe", "X", "xx", "[b]", "<b>", "$x$", "'", '"', "=", ":", ",", "#", "!", "\\", "{}", "[]",
    "ITEM:", "id", "element", "type", "x", "xs", "xu", "mol", "q", "pos:R:3", "species:S:1", "Lattice=",
    "pbc=", "time=", "Direct", "ATOMS", "TIMESTEP", "Atoms", "Masses", "\0", "\ufeff", "\u2028", "\x1b[31m",
    "\xe9", "a" * 300,
)  # fmt: skip
SUFFIXES = (
    "",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
    ".dump",
    ".xyz",
    ".data",
    ".gro",
    ".txt",
    ".lammpstrj",
    ".DUMP",
    ".vasp",
)


def _bytes(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(data) + 1)
        kind = random.randrange(4)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] = random.randrange(256)
        elif kind == 1:
            data[place:place] = bytes(random.randrange(256) for _ in range(random.choice((1, 1, 3))))
        elif kind == 2:
            del data[place : place + random.choice((1, 1, 2, 10))]
        elif data:
            data[min(place, len(data) - 1)] ^= 1 << random.randrange(8)
    return data


def _token(data: bytearray, random: Random) -> bytearray:
    tokens = list(re.finditer(rb"\S+", data))
    if not tokens:
        return data
    # Half of the mutations are in the first part, where headers are.
    chosen = random.choice(tokens[: max(1, len(tokens) // 8)] if random.random() < 0.5 else tokens)
    kind = random.randrange(6)
    if kind <= 1:
        new = random.choice(NUMBERS).encode()
    elif kind == 2:
        new = random.choice(WORDS).encode("utf-8", "replace")
    elif kind == 3:
        new = random.choice(tokens).group()
    elif kind == 4:
        new = chosen.group() + b" " + random.choice(tokens).group()
    else:
        new = b""
        with suppress(ValueError):
            new = repr(float(chosen.group()) * random.choice((-1, 10, 1e3, 1e-3, 1e10, 2))).encode()
    data[chosen.start() : chosen.end()] = new
    return data


def _lines(data: bytearray, random: Random) -> bytearray:
    lines = bytes(data).split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(7)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines.insert(at, random.choice((b"", b" ", b"\t", b"# x", b"\0")))
    elif kind == 4:
        lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
    elif kind == 5:
        lines[at : at + 2] = [b" ".join(lines[at : at + 2])]
    else:
        lines[at] += b" " + lines[other]
    return bytearray(b"\n".join(lines))


def _truncate(data: bytearray, random: Random) -> bytearray:
    return data[: random.randrange(len(data) + 1)]


def _double(data: bytearray, random: Random) -> bytearray:
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    kind = random.randrange(3)
    if kind == 0:
        return data + data
    if kind == 1:
        return data + data[start:]
    return data[:stop] + data[start:]


def _ends(data: bytearray, random: Random) -> bytearray:
    kind = random.randrange(6)
    if kind == 0:
        return bytearray(bytes(data).replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n"))))
    if kind == 1:
        return bytearray(bytes(data).rstrip())
    if kind == 2:
        return data + random.choice((b"\n\n\n", b"garbage", b"\0" * 50, b" ", b"3\n"))
    if kind == 3:
        return bytearray(b"\xef\xbb\xbf") + data
    if kind == 4:
        return bytearray(
            bytes(data).decode("latin1").encode(random.choice(("utf-16", "utf-16-le", "utf-32")))
        )
    return bytearray(
        bytes(data).replace(b" ", random.choice((b"\t", b"  ", b"\xa0")), random.choice((1, 99)))
    )


TEXT = (_bytes, _token, _token, _token, _lines, _lines, _truncate, _double, _ends)
BINARY = (_bytes, _bytes, _bytes, _truncate, _double)
_PACKERS = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": lambda data: pack(data, ".zst")
}  # fmt: skip


def mutated(data: bytes, random: Random, *, text: bool = True) -> bytes:
    """Return the data after one to four mutations."""
    mixed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        mixed = random.choice(TEXT if text else BINARY)(mixed, random)
    return bytes(mixed)


def packed(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return compressed data and the suffix; some are damaged after that."""
    suffix, pack = random.choice(list(_PACKERS.items()))
    data = pack(data) if suffix != ".gz" else gzip.compress(data, 1)
    if random.random() < 0.5:
        data = mutated(data, random, text=False)
    return data, suffix
