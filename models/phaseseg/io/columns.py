"""Columns of text to arrays: one compiled pass over the bytes, for every column format.

Threads parse parts of the text, each of whole lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import for_each, parts_of, thread_count
from phaseseg.frame import Category
from phaseseg.io.large_text import Text, letters_of
from phaseseg.io.names import topology
from phaseseg.io.reading import Reading

_SKIP, _TEXT, _REAL, _INTEGER = range(4)  # words first
_OK, _COUNT, _NOT_A_NUMBER, _LONG_NAME, _TOO_MANY_NAMES, _ENDS, _GOES_ON = range(7)
MOST_NAMES, _MAX_NAME_LENGTH = 256, 64
SHORTEST = 1 << 16
"""Bytes that a thread parses at once, at least."""
POWERS = 10.0 ** np.arange(23)  # every one of them is exact


class Columns(NamedTuple):
    """The result: `positions` (n_rows, 3), `codes` (n_rows,) into `names`, the other columns by name."""

    positions: NDArray[np.float64]
    integers: dict[str, NDArray[np.int64]]
    codes: NDArray[np.int32]
    names: list[str]
    fields: dict[str, NDArray[np.float64]]
    words: dict[str, Category]

    def others(self, reading: Reading) -> dict[str, Any]:
        """Molecules, categories and, if wanted, fields, as arguments of `Frame`."""
        found = topology(self.fields | self.words, reading.above)
        return found | {"fields": self.fields if reading.fields else {}}


def parse_columns(
    reading: Reading,
    body: Text,
    n_rows: int,
    titles: Sequence[str],
    first_line: int,
    *,
    positions: Sequence[int],
    integers: Mapping[str, int] | None = None,
    text: int | None = None,
    fields: Mapping[str, Sequence[int]] | None = None,
    words: Mapping[str, int] | None = None,
    exact: bool = True,
) -> Columns:
    """Parse `n_rows` lines of columns separated by blanks.

    Parameters
    ----------
    titles : name of every column in the file
    first_line : number of the first line, for messages
    positions, integers, text, fields, words : numbers of the columns that are wanted; a column of words with
        more than 256 different ones is left out, and one of molecules that are no numbers
    exact : whether a line with more columns than `titles` is an error

    Raises
    ------
    InputError
        For a missing or surplus line or column and for text where a number belongs. Numbers with
        up to 15 digits are read exactly, longer ones to within 1e-15 of their value.
    """
    integers, fields, words = integers or {}, fields or {}, dict(words or {})
    texts = [*([] if text is None else [text]), *words.values()]
    # No more memory than the lines need, whatever number of them is announced.
    n_lines = min(n_rows, len(body) // (2 * len(titles)) + 1)
    # What is done with a column, where its numbers begin in a flat array, and in which steps they go on: the
    # parts of that array are the arrays of the result.
    layout = [(_SKIP, 0, 0)] * len(titles)
    parts: list[tuple[int, int]] = []  # begin and width of positions and fields
    end = 0
    for columns in (positions, *fields.values()):
        parts.append((end, len(columns)))
        for k, column in enumerate(columns):
            layout[column] = _REAL, end + k, len(columns)
        end += n_lines * len(columns)
    for k, column in enumerate(integers.values()):
        layout[column] = _INTEGER, k * n_lines, 1
    for k, column in enumerate(texts):
        layout[column] = _TEXT, k, 0
    action, start, step = np.ascontiguousarray(np.array(layout, np.int64).T)
    reals, whole = borrow(end, np.float64), borrow(n_lines * len(integers), np.int64)
    codes = np.zeros((len(texts), n_lines), np.int32)
    text_of_lines = body if body.endswith(b"\n") else bytes(body) + b"\n"
    letters = letters_of(text_of_lines)

    def parse(piece: _Piece, known: _Names) -> _Parsed:
        names = _Names(known.table.copy(), known.n.copy())
        status, row, column = _kernel()(
            letters, *piece, action, start, step, exact, POWERS, reals, whole, codes, names.table, names.n
        )
        return _Parsed(status, row, column, names)

    # Every name is followed by a zero, which no text holds.
    no_names = _Names(
        np.zeros((len(texts), MOST_NAMES, _MAX_NAME_LENGTH + 1), dtype=np.uint8),
        np.zeros(len(texts), np.int64),
    )
    pieces = _pieces(text_of_lines, n_lines)
    first = parse(pieces[0], no_names)
    others = for_each(lambda piece: parse(piece, first.names), pieces[1:])
    fine = all(one.status == _OK for one in (first, *others))
    if others and not (fine and _join_names(first.names, others, pieces[1:], codes)):
        # What is wrong, and where, is found in the order of the lines.
        first = parse(_Piece(0, len(letters), 0, n_lines), no_names)
    status, row, column, (table, n_names) = first
    # A column that only tells of molecules does not make a frame unreadable.
    spare = {place for places in fields.values() for place in places if not reading.fields} | {
        *words.values()
    }
    if status in (_LONG_NAME, _TOO_MANY_NAMES, _NOT_A_NUMBER) and column in spare:
        words = {name: place for name, place in words.items() if place != column}
        fields = {name: places for name, places in fields.items() if column not in places}
        return parse_columns(
            reading, body, n_rows, titles, first_line, positions=positions, integers=integers, text=text,
            fields=fields, words=words, exact=exact,
        )  # fmt: skip
    if status == _OK and n_lines < n_rows:
        status, row = _ENDS, n_lines
    if status == _OK:
        if n_rows and not body.endswith(b"\n"):
            word = bytes(body).rsplit(maxsplit=1)[-1].decode("utf-8", "replace")
            said = (
                f"The last line of the frame has no line end: {word!r} may be cut off. Check atom {n_rows}."
            )
            reading.note(said, "no-line-end")
        arrays = [reals[begin : begin + n_rows * width].reshape(n_rows, width) for begin, width in parts]
        of_fields = [array[:, 0] if array.shape[1] == 1 else array for array in arrays[1:]]
        named = [
            Category(row, tuple(bytes(name).rstrip(b"\0").decode("utf-8", "replace") for name in some[:n]))
            for row, some, n in zip(codes, table, n_names, strict=True)
        ]
        species = Category(np.zeros(n_rows, np.int32), ()) if text is None else named.pop(0)
        return Columns(
            arrays[0],
            dict(zip(integers, whole.reshape(len(integers), n_rows), strict=True)),
            species.codes,
            list(species.names),
            dict(zip(fields, of_fields, strict=True)),
            dict(zip(words, named, strict=True)),
        )
    if status == _ENDS:
        raise reading.cut(f"ends after {row} of {n_rows} atom lines (line {first_line + row - 1})")
    if status == _GOES_ON:
        raise reading.error(
            f"has more atom lines than the {n_rows} of its header. Write or copy the file again."
        )
    # Separated as the parser does it: by blanks and control characters.
    line = bytes(body).split(b"\n")[row]
    cells = [word.decode("utf-8", "replace") for word in re.findall(rb"[^\x00-\x20]+", line)]
    if status == _COUNT:
        found = f"has {len(cells)} columns, but {len(titles)} are announced ({' '.join(titles)})."
    elif status == _LONG_NAME:
        found = f"the name {cells[column]!r} is longer than {_MAX_NAME_LENGTH} bytes. Shorten it."
    elif status == _TOO_MANY_NAMES:
        found = (
            f"column {titles[column]} holds more than {MOST_NAMES} different names ({cells[column]!r} "
            "is one too many). Is it a column of species?"
        )
    else:
        wanted_kind = "an integer" if titles[column] in ("id", "type") else "a number"
        found = f"column {titles[column]} is {cells[column]!r}, not {wanted_kind}."
    repair = " Repair the line or leave this frame out." if status in (_COUNT, _NOT_A_NUMBER) else ""
    raise reading.error(found + repair, first_line + row)


class _Piece(NamedTuple):
    """Bytes begin ... end - 1 of a text, which hold the lines first ... stop - 1."""

    begin: int
    end: int
    first: int
    stop: int


class _Names(NamedTuple):
    """The names in columns of text: (n_columns, most, letters) and their numbers (n_columns,)."""

    table: NDArray[np.uint8]
    n: NDArray[np.int64]


class _Parsed(NamedTuple):
    status: int
    row: int
    column: int
    names: _Names


def _pieces(text: Text, n_lines: int) -> list[_Piece]:
    """Pieces of a text for the threads; a single one if they do not hold the lines that they should."""
    whole = [_Piece(0, len(text), 0, n_lines)]
    cuts = parts_of(len(text), SHORTEST)
    if len(cuts) == 1 or thread_count() == 1:
        return whole
    ends = [0, *(text.find(b"\n", stop - 1) + 1 for _, stop in cuts)]
    letters = letters_of(text)
    places = [(begin, end) for begin, end in pairwise(ends) if begin < end]
    counts = for_each(lambda place: int(np.count_nonzero(letters[slice(*place)] == ord("\n"))), places)
    rows = np.cumsum([0, *counts]).tolist()
    if rows[-1] != n_lines:
        return whole
    return [_Piece(*place, *lines) for place, lines in zip(places, pairwise(rows), strict=True)]


def _join_names(
    names: _Names, parsed: Sequence[_Parsed], pieces: Sequence[_Piece], codes: NDArray[np.int32]
) -> bool:
    """Add the names that only later parts know, and renumber these there; False if there is no room."""
    for (_, _, _, other), piece in zip(parsed, pieces, strict=True):
        for which, n in enumerate(other.n.tolist()):
            known = [bytes(name) for name in names.table[which, : names.n[which]]]
            own = [bytes(name) for name in other.table[which, :n]]
            if own == known[:n]:
                continue
            known += [name for name in own if name not in known]
            if len(known) > MOST_NAMES:
                return False
            names.n[which] = len(known)
            names.table[which, : len(known)] = np.frombuffer(b"".join(known), np.uint8).reshape(
                len(known), -1
            )
            numbers = np.array([known.index(name) for name in own], np.int32)
            rows = slice(piece.first, piece.stop)
            codes[which, rows] = numbers[codes[which, rows]]
    return True


@cache
def _kernel() -> Callable[..., Any]:
    # Here, and not at the top: numba takes longer to import than most files take to read.
    from phaseseg.compiled.jit import cached

    return cached(_parse, nogil=True)


def _parse(
    text: Any, begin_text: Any, end_text: Any, first_row: Any, n_rows: Any, action: Any, start: Any,
    step: Any, exact: Any, powers: Any, reals: Any, integers: Any, codes: Any, table: Any, n_names: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Parse some rows of a text, and return status, row, column. Written for numba: plain loops over bytes.

    The text ends with a line end, which ends every loop over the letters of a word or a number. Places in the
    text are unsigned, because numba counts negative ones from the end.
    """
    one, ten, zero = np.uint64(1), np.uint64(10), np.uint64(48)
    n_columns, end = action.shape[0], np.uint64(end_text)
    p = np.uint64(begin_text)
    for row in range(first_row, n_rows):
        if p >= end:
            return _ENDS, row, 0
        for column in range(n_columns):
            letter = text[p]
            while letter <= 32 and letter != 10:
                p += one
                letter = text[p]
            if letter == 10:
                if column == 0:  # blank lines at the end are not a bad line but a missing one
                    while p < end and text[p] <= 32:
                        p += one
                    if p >= end:
                        return _ENDS, row, 0
                return _COUNT, row, column
            kind = action[column]
            if kind <= _TEXT:
                first = p
                while text[p] > 32:
                    p += one
                if kind == _SKIP:
                    continue
                length, which = np.int64(p - first), start[column]
                if length >= table.shape[2]:
                    return _LONG_NAME, row, column
                code = 0
                while code < n_names[which]:
                    i = 0
                    while i < length and table[which, code, i] == text[first + np.uint64(i)]:
                        i += 1
                    if i == length and table[which, code, i] == 0:
                        break
                    code += 1
                if code == n_names[which]:
                    if code == table.shape[1]:
                        return _TOO_MANY_NAMES, row, column
                    for i in range(length):
                        table[which, code, i] = text[first + np.uint64(i)]
                    n_names[which] += 1
                codes[which, row] = code
                continue
            place = start[column] + row * step[column]
            negative = letter == 45
            if negative or letter == 43:
                p += one
            begin, mantissa = p, np.uint64(0)
            exponent: Any = 0
            digit = text[p] - zero  # a large number for anything else
            while digit < ten:
                mantissa = mantissa * ten + digit
                p += one
                digit = text[p] - zero
            point = p
            if kind == _REAL and text[p] == 46:
                p += one
                digit = text[p] - zero
                while digit < ten:
                    mantissa = mantissa * ten + digit
                    p += one
                    digit = text[p] - zero
                exponent = np.int64(point + one - p)
            n_digits = np.int64(p - begin) - np.int64(p != point)
            if n_digits > 18:  # again, without the digits that do not fit
                mantissa, exponent = np.uint64(0), 0
                for q in range(begin, p):
                    if q != point and mantissa < np.uint64(1000000000000000000):
                        mantissa = mantissa * ten + (text[q] - zero)
                        exponent -= np.int64(q > point)
                    elif q < point:
                        exponent += 1
            if kind == _INTEGER:
                if n_digits == 0 or exponent > 0 or text[p] > 32:
                    return _NOT_A_NUMBER, row, column
                integers[place] = -np.int64(mantissa) if negative else np.int64(mantissa)
                continue
            if n_digits == 0:
                # nan, inf and infinity in any case; whoever uses the column judges them
                letter = text[p] | 32
                value = 0.0
                if letter == 110 and text[p + one] | 32 == 97 and text[p + one + one] | 32 == 110:
                    value = np.nan
                elif letter == 105 and text[p + one] | 32 == 110 and text[p + one + one] | 32 == 102:
                    value = np.inf
                else:
                    return _NOT_A_NUMBER, row, column
                while text[p] > 32:
                    p += one
                reals[place] = -value if negative else value
                continue
            if text[p] > 32:
                letter = text[p] | 32
                if letter != 101 and letter != 100:  # e, and the d of Fortran
                    return _NOT_A_NUMBER, row, column
                p += one
                down = text[p] == 45
                if down or text[p] == 43:
                    p += one
                digit, power = text[p] - zero, np.uint64(0)
                if digit >= ten:
                    return _NOT_A_NUMBER, row, column
                while digit < ten:
                    if power < 1000:
                        power = power * ten + digit
                    p += one
                    digit = text[p] - zero
                exponent += -np.int64(power) if down else np.int64(power)
                if text[p] > 32:
                    return _NOT_A_NUMBER, row, column
            value = np.float64(mantissa)
            # One rounding only (so an exact result) as long as mantissa and power are exact.
            if abs(exponent) > 22:
                value *= 10.0**exponent
            elif exponent < 0:
                value /= powers[-exponent]
            else:
                value *= powers[exponent]
            reals[place] = -value if negative else value
        while text[p] != 10:
            if exact and text[p] > 32:
                return _COUNT, row, n_columns
            p += one
        p += one
    while p < end:
        if text[p] > 32:
            return _GOES_ON, n_rows, 0
        p += one
    return _OK, n_rows, 0
