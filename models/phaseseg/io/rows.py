"""Columns to rows of text: a compiled loop writes numbers byte for byte as Python's % operator does.

With n digits, a number x becomes the integer nearest to x 10^k. The product is computed together with its
rounding error, which tells on which side of a tie x lies. Python formats the few numbers for which that is
not enough: above 4.5e7 with 8 decimals, beyond 1e±290, and within 1e-9 of a tie where 10^k is not exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import exact_inner, exact_jit
from phaseseg.frame import Category

Columns = list[tuple[NDArray[Any] | Category, str]]
"""(n,) or (n, k) numbers with the format "%d", "%.8f", "%.9g" or "%.15g"; a Category with "%s"."""

_ROWS_PER_CHUNK = 1 << 13
_INTEGER, _UNSIGNED, _TEXT, _DECIMALS, _NINE, _FIFTEEN = range(6)
_KINDS = {"%d": _INTEGER, "%s": _TEXT, "%.8f": _DECIMALS, "%.9g": _NINE, "%.15g": _FIFTEEN}
_WIDTH = 28  # no number is longer, with the blank behind it and the zeros that are written and dropped
_ZERO = 310  # row of 10^0 in the table of powers
_TO_INTEGER = 4503599627370496.0  # 2^52: a number that is added and subtracted again is rounded
_SPLIT = 134217729.0  # 2^27 + 1: halves the digits of a number, so that products of halves are exact


def text_rows(columns: Columns) -> Iterator[bytes | memoryview]:
    """Yield lines of text, many in a piece; a piece is valid until the next one is asked for."""
    singles: list[tuple[NDArray[Any], str, tuple[str, ...]]] = []
    for values, form in columns:
        if isinstance(values, Category):
            singles.append((values.codes, form, values.names))
        else:
            singles += [(one, form, ()) for one in np.atleast_2d(values.T)]
    kinds = [
        _UNSIGNED if form == "%d" and one.dtype.kind == "u" else _KINDS[form] for one, form, _ in singles
    ]
    # Integers, codes of words and floats go into one array each, in the order of the columns.
    part_of = [2 if kind > _TEXT else 1 if kind == _TEXT else 0 for kind in kinds]
    slots = [part_of[:k].count(part) for k, part in enumerate(part_of)]
    n_rows = len(singles[0][0])
    n_chunk = min(n_rows, _ROWS_PER_CHUNK)
    parts = [np.empty((n_chunk, part_of.count(part)), dtype) for part, dtype in enumerate("qqd")]
    words, lengths = _table([names for _, form, names in singles if form == "%s"])
    out = np.empty(n_chunk * (len(kinds) * _WIDTH + len(words) * words.shape[2]) + _WIDTH, np.uint8)
    layout, line = np.array([kinds, slots]), " ".join(form for _, form, _ in singles) + "\n"
    for start in range(0, n_rows, _ROWS_PER_CHUNK):
        n = min(_ROWS_PER_CHUNK, n_rows - start)
        with np.errstate(all="ignore"):  # a NaN may be of the kind that a cast reports
            for (one, _, _), part, slot in zip(singles, part_of, slots, strict=True):
                some = one[start : start + n]
                parts[part][:n, slot] = some.view(np.int64) if some.dtype == np.uint64 else some
        row = 0
        while row < n:
            given = *(part[:n] for part in parts), parts[2][:n].view(np.int64)
            row, length = _write(*given, words, lengths, layout, *_tables(), out, row)
            yield out.data[:length]
            if row < n:  # a number that is left to Python
                cells = [(one[start + row].item(), names) for one, _, names in singles]
                yield (line % tuple(names[cell] if names else cell for cell, names in cells)).encode()
                row += 1


def _table(words: Sequence[Sequence[str]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(columns, words, letters) and the lengths of the words."""
    encoded = [[word.encode() for word in names] for names in words]
    shape = len(words), max(map(len, words), default=0)
    lengths = np.zeros(shape, np.int64)
    table = np.zeros((*shape, max((len(word) for names in encoded for word in names), default=0)), np.uint8)
    for k, names in enumerate(encoded):
        for code, word in enumerate(names):
            lengths[k, code] = len(word)
            table[k, code, : len(word)] = np.frombuffer(word, np.uint8)
    return table, lengths


@cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Row `_ZERO + k`: 10^k, its two halves, and what is missing from it; the digits of 0 to 9999."""
    powers = np.zeros((_ZERO + 309, 4))
    for k in range(-300, 309):
        exact = Fraction(10) ** k
        mantissa, exponent = math.frexp(float(exact))
        upper = math.ldexp(round(mantissa * 2**26), exponent - 26)
        nearest = float(exact)
        powers[_ZERO + k] = nearest, upper, nearest - upper, float(exact - Fraction(nearest))
    digits = "".join(f"{k:04d}" for k in range(10000)).encode()
    return powers, np.frombuffer(digits, np.uint8).reshape(-1, 4)


@exact_inner
def _put(out, p, value, n_digits, digits):
    """Put an unsigned number with leading zeros."""
    at = p + n_digits
    while at - p >= 4:
        rest = value // np.uint64(10000)
        last = value - rest * np.uint64(10000)
        at -= 4
        for k in range(4):
            out[at + k] = digits[last, k]
        value = rest
    while at > p:
        rest = value // np.uint64(10)
        at -= 1
        out[at] = np.uint8(48) + np.uint8(value - rest * np.uint64(10))
        value = rest


@exact_inner
def _nearest(value, power, exact):
    """The integer nearest to value * power, half to even; -1 if that is not certain."""
    product = value * power[0]
    large = _SPLIT * value
    large = large - (large - value)
    small = value - large
    error = ((large * power[1] - product) + large * power[2] + small * power[1]) + small * power[2]
    whole = (product + _TO_INTEGER) - _TO_INTEGER
    rest = product - whole
    if exact:  # then a rest of more than half is half and an error
        up, down = rest == 0.5 and error > 0.0, rest == -0.5 and error < 0.0
    else:
        rest += error + value * power[3]
        if abs(abs(rest) - 0.5) < 1e-9:
            return np.int64(-1)
        up, down = rest > 0.5, rest < -0.5
    return np.int64(whole) + np.int64(up) - np.int64(down)


@exact_jit
def _write(whole, codes, reals, bits, words, lengths, layout, powers, digits, out, row):
    """Write lines from a row on; returns the row where it stopped, which is Python's, and the length.

    bits : int64, those of `reals`

    A number is put as its digits, with a gap before them. The point goes where the digits before it, moved
    into the gap, leave room.
    """
    p = 0
    while row < whole.shape[0]:
        start = p
        for column in range(layout.shape[1]):
            kind, slot = layout[0, column], layout[1, column]
            if kind == _TEXT:
                code = codes[row, slot]
                for k in range(lengths[slot, code]):
                    out[p + k] = words[slot, code, k]
                p += lengths[slot, code]
            else:
                negative = whole[row, slot] < 0 if kind <= _UNSIGNED else bits[row, slot] < 0
                number = 1.0 if kind <= _UNSIGNED else abs(reals[row, slot])
                if negative and kind != _UNSIGNED and number == number:
                    out[p] = 45
                    p += 1
                if number == np.inf or number != number:
                    nan = number != number
                    out[p], out[p + 1], out[p + 2] = (
                        110 if nan else 105,
                        97 if nan else 110,
                        110 if nan else 102,
                    )
                    p += 3
                else:
                    n_digits, power = 9 if kind <= _NINE else 15, 0
                    if kind <= _UNSIGNED:
                        value = np.uint64(whole[row, slot])
                        if negative and kind == _INTEGER:
                            value = np.uint64(0) - value
                        n_digits = 1
                    else:
                        shift = 8
                        if kind >= _NINE and number > 0.0:
                            exponent = ((bits[row, slot] >> 52) & 2047) - 1023
                            if abs(exponent) > 960:
                                return row, start
                            power = (exponent * 1233) >> 12  # log10(2) is 1233 / 4096: at most one off
                            if number < powers[_ZERO + power, 0]:
                                power -= 1
                            elif number >= powers[_ZERO + power + 1, 0]:
                                power += 1
                            shift = n_digits - 1 - power
                        nearest = np.int64(-1)
                        if kind >= _NINE or number < 4.5e7:
                            nearest = _nearest(number, powers[_ZERO + shift], 0 <= shift <= 22)
                        if nearest < 0:
                            return row, start
                        value = np.uint64(nearest)
                    if kind <= _DECIMALS:
                        limit = np.uint64(10**9 if kind == _DECIMALS else 10)
                        while value >= limit and n_digits < 20:
                            n_digits += 1
                            limit *= np.uint64(10)
                        before = n_digits - 8
                    elif value == np.uint64(10**9 if kind == _NINE else 10**15):  # 9.9996 becomes 1.000e1
                        value //= np.uint64(10)
                        power += 1
                    if kind >= _NINE:
                        before = 1 if power < 0 or power >= n_digits else power + 1
                        if -4 <= power < 0:
                            for k in range(1 - power):
                                out[p + k] = 48
                            out[p + 1] = 46
                            p -= power
                    gap = 1 if kind >= _DECIMALS else 0
                    _put(out, p + gap, value, n_digits, digits)
                    if kind >= _DECIMALS and not -4 <= power < 0:
                        for k in range(before):
                            out[p + k] = out[p + k + 1]
                        out[p + before] = 46
                    p += n_digits + gap
                    if kind >= _NINE:
                        while out[p - 1] == 48:
                            p -= 1
                        if out[p - 1] == 46:
                            p -= 1
                        if power < -4 or power >= n_digits:
                            size = abs(power)
                            out[p], out[p + 1] = 101, 45 if power < 0 else 43
                            p += 2
                            if size > 99:
                                out[p] = 48 + size // 100
                                p += 1
                            out[p], out[p + 1] = 48 + size // 10 % 10, 48 + size % 10
                            p += 2
            out[p] = 32
            p += 1
        out[p - 1] = 10
        row += 1
    return row, p
