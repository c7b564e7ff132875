"""Columns of text to arrays: one compiled pass over the bytes, for every column format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.reading import Reading

_SKIP, _REAL, _INTEGER, _TEXT = range(4)
_OK, _COUNT, _NOT_A_NUMBER, _LONG_NAME, _TOO_MANY_NAMES, _ENDS, _GOES_ON = range(7)
_MAX_NAMES, _MAX_NAME_LENGTH = 256, 64
_POWERS = 10.0 ** np.arange(23)  # every one of them is exact


class Columns(NamedTuple):
    """The result: `positions` (n_rows, 3), integers by name, `codes` (n_rows,) into `names`, fields."""

    positions: NDArray[np.float64]
    integers: dict[str, NDArray[np.int64]]
    codes: NDArray[np.int32]
    names: list[str]
    fields: dict[str, NDArray[np.float64]]


def parse_columns(
    reading: Reading,
    body: bytes,
    n_rows: int,
    titles: Sequence[str],
    first_line: int,
    *,
    positions: Sequence[int],
    integers: Mapping[str, int] | None = None,
    text: int | None = None,
    fields: Mapping[str, Sequence[int]] | None = None,
    exact: bool = True,
) -> Columns:
    """Parse `n_rows` lines of columns separated by blanks.

    Parameters
    ----------
    titles : name of every column in the file
    first_line : number of the first line, for messages
    positions, integers, text, fields : numbers of the columns that are wanted
    exact : whether a line with more columns than `titles` is an error

    Raises
    ------
    InputError
        For a missing or surplus line or column and for text where a number belongs. Numbers with
        up to 15 digits are read exactly, longer ones to within 1e-15 of their value.
    """
    integers, fields = integers or {}, fields or {}
    wanted = {
        _REAL: [*positions, *chain.from_iterable(fields.values())],
        _INTEGER: list(integers.values()),
        _TEXT: [] if text is None else [text],
    }
    action = np.full(len(titles), _SKIP)
    slot = np.zeros(len(titles), dtype=np.int64)
    for kind, columns in wanted.items():
        action[columns], slot[columns] = kind, np.arange(len(columns))
    # Every name is followed by a zero, which no text holds.
    table = np.zeros((_MAX_NAMES, _MAX_NAME_LENGTH + 1), dtype=np.uint8)
    reals = np.empty((n_rows, len(wanted[_REAL])))
    whole = np.empty((n_rows, len(integers)), np.int64)
    codes = np.zeros(n_rows, np.int32)
    status, row, column, n_names = _kernel()(
        np.frombuffer(body, np.uint8), action, slot, exact, _POWERS, reals, whole, codes, table
    )
    if status == _OK:
        ends = np.cumsum([3, *map(len, fields.values())])
        parts = [np.ascontiguousarray(part) for part in np.split(reals, ends, axis=1)]
        names = [bytes(name).rstrip(b"\0").decode("utf-8", "replace") for name in table[:n_names]]
        of_fields = [part[:, 0] if part.shape[1] == 1 else part for part in parts[1:-1]]
        return Columns(
            parts[0],
            dict(zip(integers, whole.T, strict=True)),
            codes,
            names,
            dict(zip(fields, of_fields, strict=True)),
        )
    if status == _ENDS:
        raise reading.error(
            f"ends after {row} of {n_rows} atom lines (line {first_line + row - 1}). The frames "
            "before it are intact; write or copy the file again, or stop before this frame."
        )
    if status == _GOES_ON:
        raise reading.error(
            f"has more atom lines than the {n_rows} of its header. Write or copy the file again."
        )
    # Separated as the parser does it: by blanks and control characters.
    words = [
        word.decode("utf-8", "replace") for word in re.findall(rb"[^\x00-\x20]+", body.split(b"\n")[row])
    ]
    if status == _COUNT:
        found = f"has {len(words)} columns, but {len(titles)} are announced ({' '.join(titles)})."
    elif status == _LONG_NAME:
        found = f"the name {words[column]!r} is longer than {_MAX_NAME_LENGTH} bytes. Shorten it."
    elif status == _TOO_MANY_NAMES:
        found = (
            f"column {titles[column]} holds more than {_MAX_NAMES} different names ({words[column]!r} "
            "is one too many). Is it a column of species?"
        )
    else:
        wanted_kind = "an integer" if titles[column] in ("id", "type") else "a number"
        found = f"column {titles[column]} is {words[column]!r}, not {wanted_kind}."
    repair = " Repair the line or leave this frame out." if status in (_COUNT, _NOT_A_NUMBER) else ""
    raise reading.error(found + repair, first_line + row)


@cache
def _kernel() -> Callable[..., Any]:
    # Here, and not at the top: numba takes longer to import than most files take to read.
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(_parse)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package folder nor a user cache can be written
        return numba.njit(nogil=True)(_parse)  # type: ignore[no-any-return]


def _parse(
    text: Any, action: Any, slot: Any, exact: Any, powers: Any, reals: Any, integers: Any, codes: Any,
    table: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Returns status, row, column, number of names. Written for numba: plain loops over bytes."""
    n_rows, n_columns, end = codes.shape[0], action.shape[0], text.shape[0]
    p = n_names = 0
    for row in range(n_rows):
        if p >= end:
            return _ENDS, row, 0, n_names
        for column in range(n_columns):
            while p < end and text[p] <= 32 and text[p] != 10:
                p += 1
            if p >= end or text[p] == 10:
                if column == 0:  # blank lines at the end are not a bad line but a missing one
                    q = p
                    while q < end and (text[q] <= 32):
                        q += 1
                    if q >= end:
                        return _ENDS, row, 0, n_names
                return _COUNT, row, column, n_names
            start = p
            kind = action[column]
            if kind in (_SKIP, _TEXT):
                while p < end and text[p] > 32:
                    p += 1
                if kind == _SKIP:
                    continue
                length = p - start
                if length >= table.shape[1]:
                    return _LONG_NAME, row, column, n_names
                code = 0
                while code < n_names:
                    i = 0
                    while i < length and table[code, i] == text[start + i]:
                        i += 1
                    if i == length and table[code, i] == 0:
                        break
                    code += 1
                if code == n_names:
                    if n_names == table.shape[0]:
                        return _TOO_MANY_NAMES, row, column, n_names
                    table[code, :length] = text[start:p]
                    n_names += 1
                codes[row] = code
                continue
            negative = text[p] == 45
            if negative or text[p] == 43:
                p += 1
            mantissa = np.uint64(0)
            n_digits = 0
            exponent = 0
            while p < end and 48 <= text[p] <= 57:
                if mantissa < np.uint64(1000000000000000000):
                    mantissa = mantissa * np.uint64(10) + np.uint64(text[p] - 48)
                else:
                    exponent += 1
                n_digits += 1
                p += 1
            if kind == _INTEGER:
                if n_digits == 0 or exponent > 0 or (p < end and text[p] > 32):
                    return _NOT_A_NUMBER, row, column, n_names
                integers[row, slot[column]] = -np.int64(mantissa) if negative else np.int64(mantissa)
                continue
            if p < end and text[p] == 46:
                p += 1
                while p < end and 48 <= text[p] <= 57:
                    if mantissa < np.uint64(1000000000000000000):
                        mantissa = mantissa * np.uint64(10) + np.uint64(text[p] - 48)
                        exponent -= 1
                    n_digits += 1
                    p += 1
            if n_digits == 0:
                # nan, inf and infinity in any case; whoever uses the column judges them
                letter = text[p] | 32 if p < end else 0
                value = 0.0
                if letter == 110 and p + 3 <= end and text[p + 1] | 32 == 97 and text[p + 2] | 32 == 110:
                    value = np.nan
                elif letter == 105 and p + 3 <= end and text[p + 1] | 32 == 110 and text[p + 2] | 32 == 102:
                    value = np.inf
                else:
                    return _NOT_A_NUMBER, row, column, n_names
                while p < end and text[p] > 32:
                    p += 1
                reals[row, slot[column]] = -value if negative else value
                continue
            if p < end and (text[p] | 32 == 101 or text[p] | 32 == 100):  # e, and the d of Fortran
                p += 1
                down = p < end and text[p] == 45
                if p < end and (text[p] == 45 or text[p] == 43):
                    p += 1
                power = 0
                if p >= end or text[p] < 48 or text[p] > 57:
                    return _NOT_A_NUMBER, row, column, n_names
                while p < end and 48 <= text[p] <= 57:
                    power = power * 10 + int(text[p] - 48) if power < 1000 else power
                    p += 1
                exponent += -power if down else power
            if p < end and text[p] > 32:
                return _NOT_A_NUMBER, row, column, n_names
            value = np.float64(mantissa)
            # One rounding only (so an exact result) as long as mantissa and power are exact.
            if exponent < 0:
                value = value / powers[-exponent] if exponent >= -22 else value * 10.0**exponent
            elif exponent > 0:
                value = value * powers[exponent] if exponent <= 22 else value * 10.0**exponent
            reals[row, slot[column]] = -value if negative else value
        while p < end and text[p] != 10:
            if exact and text[p] > 32:
                return _COUNT, row, n_columns, n_names
            p += 1
        p += 1
    while p < end:
        if text[p] > 32:
            return _GOES_ON, n_rows, 0, n_names
        p += 1
    return _OK, n_rows, 0, n_names
