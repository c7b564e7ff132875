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
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros
from numpy.typing import NDArray

from phaseseg.compiled.jit import exact_inner, exact_jit
from phaseseg.frame import Category

Columns = list[tuple[NDArray[Any] | Category, str]]
"""(n,) or (n, k) numbers with the format "%d", "%.8f", "%.9g" or "%.15g"; a Category with "%s"."""

_ROWS_PER_CHUNK = 1 << 13
_INTEGER, _UNSIGNED, _TEXT, _DECIMALS, _NINE, _FIFTEEN = range(6)
_KINDS = {"%d": _INTEGER, "%s": _TEXT, "%.8f": _DECIMALS, "%.9g": _NINE, "%.15g": _FIFTEEN}
_WIDTH = 28  # no number is longer, with the blank behind it; the surplus of the last eight letters fits, too
_ZERO = 310  # row of 10^0 in the table of powers
_TO_INTEGER = 4503599627370496.0  # 2^52: a number that is added and subtracted again is rounded
_SPLIT = 134217729.0  # 2^27 + 1: halves the digits of a number, so that products of halves are exact
_E8 = np.uint64(10**8)
_ASCII = np.uint64(0x3030303030303030)  # of eight digits 0
_LAST = np.uint64(1 << 56)  # of eight digits the last one
_INF, _NAN, _ZEROS, _UP, _DOWN, _MINUS, _POINT, _NOUGHT, _BLANK, _LINE_END = (
    np.uint64(int.from_bytes(word.encode(), "little"))
    for word in ("inf", "nan", "0.000", "e+", "e-", "-", ".", "0", " ", "\n")
)


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
    # Integers with codes of words, and floats go into one array each, in the order of the columns.
    part_of = [int(kind > _TEXT) for kind in kinds]
    slots = [part_of[:k].count(part) for k, part in enumerate(part_of)]
    n_rows = len(singles[0][0])
    n_chunk = min(n_rows, _ROWS_PER_CHUNK)
    parts = [np.empty((n_chunk, part_of.count(part)), dtype) for part, dtype in enumerate("qd")]
    words, lengths = _table([names for (_, _, names), part in zip(singles, part_of, strict=True) if not part])
    n_letters = n_chunk * (len(kinds) * _WIDTH + 8 * len(words) * words.shape[2]) + _WIDTH
    letters = np.empty(n_letters, np.uint8)
    # At every place the eight letters from there on, as one number. Fields of records need no alignment.
    eights = np.ndarray(n_letters - 7, [("eight", np.uint64)], letters, strides=(1,))
    layout = np.array([kinds, slots], np.uint64)
    line = " ".join(form for _, form, _ in singles) + "\n"
    for start in range(0, n_rows, _ROWS_PER_CHUNK):
        n = min(_ROWS_PER_CHUNK, n_rows - start)
        with np.errstate(all="ignore"):  # a NaN may be of the kind that a cast reports
            for (one, _, _), part, slot in zip(singles, part_of, slots, strict=True):
                some = one[start : start + n]
                parts[part][:n, slot] = some.view(np.int64) if some.dtype == np.uint64 else some
        row = 0
        while row < n:
            given = (part[:n] for part in parts)
            row, length = _write(*given, words, lengths, layout, _powers(), eights, row)
            yield letters.data[:length]
            if row < n:  # a number that is left to Python
                cells = [(one[start + row].item(), names) for one, _, names in singles]
                yield (line % tuple(names[cell] if names else cell for cell, names in cells)).encode()
                row += 1


def _table(words: Sequence[Sequence[str]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(columns, words, eights of letters) and the lengths of the words."""
    encoded = [[word.encode() for word in names] for names in words]
    shape = len(words), max(map(len, words), default=0)
    lengths = np.zeros(shape, np.uint64)
    longest = max((len(word) for names in encoded for word in names), default=0)
    table = np.zeros((*shape, -(-longest // 8) * 8), np.uint8)
    for k, names in enumerate(encoded):
        for code, word in enumerate(names):
            lengths[k, code] = len(word)
            table[k, code, : len(word)] = np.frombuffer(word, np.uint8)
    return table.view(np.uint64), lengths


@cache
def _powers() -> NDArray[np.float64]:
    """Row `_ZERO + k`: 10^k, its two halves, and what is missing from it."""
    powers = np.zeros((_ZERO + 309, 4))
    for k in range(-300, 309):
        exact = Fraction(10) ** k
        mantissa, exponent = math.frexp(float(exact))
        upper = math.ldexp(round(mantissa * 2**26), exponent - 26)
        nearest = float(exact)
        powers[_ZERO + k] = nearest, upper, nearest - upper, float(exact - Fraction(nearest))
    return powers


@exact_inner
def _digits(value):
    """The eight digits of a number below 10^8, a byte for each, the first one lowest.

    The number is split in halves, these again, and once more, all parts at once within one integer.
    """
    u = np.uint64
    upper = value // u(10000)
    value = upper | (value - u(10000) * upper) << u(32)
    upper = (value * u(10486)) >> u(20) & u(0x7F0000007F)  # a hundredth of parts below 10^4
    value = upper | (value - u(100) * upper) << u(16)
    upper = (value * u(103)) >> u(10) & u(0x000F000F000F000F)  # a tenth of parts below 100
    return upper | (value - u(10) * upper) << u(8)


@exact_inner
def _short(value):
    """The digits of a number below 10^8 as letters, without leading zeros, and their number."""
    digits = _digits(value)
    zeros = trailing_zeros(digits | _LAST) & np.uint64(56)
    return (digits | _ASCII) >> zeros, np.uint64(8) - (zeros >> np.uint64(3))


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
def _write(whole, reals, words, lengths, layout, powers, out, row):
    """Write lines from a row on; returns the row where it stopped, which is Python's, and the length.

    out : at each place the eight letters from there on, the first one lowest

    Letters are put eight at a time. Those that are too many are overwritten by what follows.
    """
    # Unsigned: numba counts negative places from the end.
    u = np.uint64
    zero, one, three, eight, ten = u(0), u(1), u(3), u(8), u(10)
    p, row = zero, u(row)
    while row < u(whole.shape[0]):
        start = p
        for column in range(u(layout.shape[1])):
            kind, slot = layout[0, column], layout[1, column]
            if kind == _TEXT:
                code = whole[row, slot]
                length = lengths[slot, code]
                for k in range(zero, length, eight):
                    out[p + k].eight = words[slot, code, k >> three]
                p += length
            elif kind <= _UNSIGNED:
                integer = whole[row, slot]
                negative = integer < 0 and kind == _INTEGER
                out[p].eight = _MINUS
                p += u(negative)
                value = u(-integer if negative else integer)
                upper = value // _E8
                if value < ten:
                    out[p].eight = _NOUGHT | value
                    p += one
                elif upper == zero:
                    out[p].eight, n = _short(value)
                    p += n
                else:
                    if upper < _E8:
                        out[p].eight, n = _short(upper)
                        p += n
                    else:
                        most = upper // _E8
                        out[p].eight, n = _short(most)
                        p += n
                        out[p].eight = _digits(upper - most * _E8) | _ASCII
                        p += eight
                    out[p].eight = _digits(value - upper * _E8) | _ASCII
                    p += eight
            else:
                number = reals[row, slot]
                bits = np.float64(number).view(np.int64)
                number = abs(number)
                out[p].eight = _MINUS
                p += u(bits < 0 and number == number)
                if number == np.inf or number != number:
                    out[p].eight = _INF if number == np.inf else _NAN
                    p += three
                elif kind == _DECIMALS:
                    nearest = np.int64(-1)
                    if number < 4.5e7:
                        # Not True, for which the function would be compiled once more.
                        nearest = _nearest(number, powers[_ZERO + 8], kind == _DECIMALS)
                    if nearest < 0:
                        return row, start
                    value = u(nearest)
                    upper = value // _E8
                    out[p].eight, n = _short(upper)
                    p += n
                    out[p].eight = _POINT
                    out[p + one].eight = _digits(value - upper * _E8) | _ASCII
                    p += u(9)
                else:
                    n_digits = 9 if kind == _NINE else 15
                    power: Any = 0
                    if number > 0.0:
                        exponent = ((bits >> 52) & 2047) - 1023
                        if abs(exponent) > 960:
                            return row, start
                        power = (exponent * 315653) >> 20  # log10 of 2^exponent, rounded down
                        power += number >= powers[_ZERO + power + 1, 0]
                    shift = n_digits - 1 - power
                    nearest = _nearest(number, powers[_ZERO + shift], 0 <= shift <= 22)
                    if nearest < 0:
                        return row, start
                    value = u(nearest)
                    if value == u(10**9 if kind == _NINE else 10**15):  # 9.9996 becomes 1.000e1
                        value //= ten
                        power += 1
                    # Sixteen digits, of which the last ones are 0.
                    if kind == _NINE:
                        upper = value // ten
                        second = value - upper * ten
                    else:
                        upper = value // u(10**7)
                        second = _digits((value - upper * u(10**7)) * ten)
                    first = _digits(upper)
                    # Up to the last digit that is not 0.
                    size = u(16) - (leading_zeros(second) >> three)
                    if second == zero:
                        size = eight - (leading_zeros(first) >> three)
                    first |= _ASCII
                    second |= _ASCII
                    if -4 <= power < 0:
                        out[p].eight = _ZEROS
                        p += u(1 - power)
                        out[p].eight = first
                        out[p + eight].eight = second
                        p += size
                    else:
                        large = power < 0 or power >= n_digits
                        before = u(1 if large else power + 1)
                        # What is behind the point is put again.
                        out[p].eight = first
                        if before <= eight:
                            out[p + before].eight = _POINT
                            half = u(4) * before  # a shift by 64 would be none
                            out[p + before + one].eight = first >> half >> half
                            out[p + u(9)].eight = second
                        else:
                            out[p + eight].eight = second
                            out[p + before].eight = _POINT
                            out[p + before + one].eight = second >> (eight * before - u(64))
                        p += before if size <= before else size + one
                        if large:
                            out[p].eight = _DOWN if power < 0 else _UP
                            p += u(2)
                            size = u(abs(power))
                            if size < ten:
                                out[p].eight = _NOUGHT
                                p += one
                            out[p].eight, n = _short(size)
                            p += n
            out[p].eight = _BLANK
            p += one
        out[p - one].eight = _LINE_END
        row += one
    return row, p
