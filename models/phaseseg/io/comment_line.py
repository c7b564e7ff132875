"""Comment lines of extended XYZ: keys and values, by the grammar of the format."""

from __future__ import annotations

import re

# A word in quotes ends at the same quote without a backslash before it, else with the line.
_QUOTED = {quote: re.compile(rf"(?:\\.|[^{quote}\\])*") for quote in "\"'"}
_CLOSING = {"[": "]", "{": "}"}
# A bare word goes on over a part in double quotes: the blanks there do not end it.
_BARE = r'(?:\\.|"(?:\\.|[^"\\])*"|[^\s{}])+'
_BARE_KEY, _BARE_VALUE = re.compile(_BARE.format("=")), re.compile(_BARE.format(""))
_EQUALS = re.compile(r"\s*=\s*")
_BLANKS = re.compile(r"\s*")


def parse_comment(line: str) -> dict[str, str]:
    r"""The entries of a comment line, as text.

    Keys and values are bare words, text in quotes (where a backslash protects quotes) or arrays in brackets,
    which may be nested. A word without a value is a flag, or free text, and left out. The last of equal keys
    counts. See the specification at https://github.com/libAtoms/extxyz.

    >>> parse_comment(r'a=1 "b c" = "x \"y\" a=2" flag d=[[1, 2], [3, 4]]')
    {'a': '1', 'b c': 'x "y" a=2', 'd': '[[1, 2], [3, 4]]'}
    """
    entries: dict[str, str] = {}
    place = _BLANKS.match(line).end()  # type: ignore[union-attr]
    while place < len(line):
        key, place = _word(line, place, _BARE_KEY)
        if equals := _EQUALS.match(line, place):
            entries[key], place = _word(line, equals.end(), _BARE_VALUE)
        place = _BLANKS.match(line, place).end()  # type: ignore[union-attr]
    return entries


def _word(line: str, place: int, bare: re.Pattern[str]) -> tuple[str, int]:
    """The key or value that begins at a place, and where it ends."""
    first = line[place : place + 1]
    if first in _QUOTED and first:
        inside = _QUOTED[first].match(line, place + 1)
        assert inside is not None
        text = re.sub(r"\\(.)", lambda pair: "\n" if pair[1] == "n" else pair[1], inside[0])
        return text, inside.end() + 1
    if first in _CLOSING:
        end = _array_end(line, place)
        return line[place:end], end
    word = bare.match(line, place)
    # A lone "=" or backslash is a word of one letter.
    return (word[0], word.end()) if word else (first, place + 1)


def _array_end(line: str, place: int) -> int:
    open_brackets: list[str] = []
    while place < len(line):
        letter = line[place]
        if letter in _QUOTED:
            place = _QUOTED[letter].match(line, place + 1).end()  # type: ignore[union-attr]
        elif letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        place += 1
        if not open_brackets:
            break
    return place
