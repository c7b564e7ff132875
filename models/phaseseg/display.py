"""Short summaries of objects for terminals and notebooks, messages, and number formatting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from math import inf, isfinite, isnan, nan
from typing import Any

Summary = tuple[str, Sequence[Sequence[str]], Sequence[str]]
"""Title, rows of cells, and closing sentences."""


class Summarized:
    """Base of classes that display a summary instead of their arrays.

    A subclass implements `_summary`. `print` shows all of it, a notebook shows it as a table, and `repr`
    only the title.
    """

    def _summary(self) -> Summary:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self._summary()[0]}>"

    def __str__(self) -> str:
        title, rows, sentences = self._summary()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([title, *(f"  {line}" for line in (*lines, *sentences))])

    def _repr_html_(self) -> str:
        title, rows, sentences = self._summary()
        grid = html_grid([], rows) if rows else ""
        return f"<b>{as_html(title)}</b>{grid}" + "".join(f"<div>{as_html(text)}</div>" for text in sentences)


NOTE = "note"
"""Code of a message that was given none."""


class Message(str):
    """A sentence for the user, with a code that names its kind.

    It behaves as a `str`. Programs and tests compare the `code`, which never contains a number, so the
    wording can change.

    >>> message = Message("Two phases: contrast 9.3.", "two-phases")
    >>> message.code, message.startswith("Two")
    ('two-phases', True)
    """

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str = NOTE) -> Message:
        message = super().__new__(cls, text)
        message.code = code
        return message


# Control characters, separators of lines, and changes of the direction of writing.
_CONTROL = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x2028, 0x202F)], "\N{REPLACEMENT CHARACTER}"
)


def printable(text: str) -> str:
    """Replace what no terminal and no page should receive: control characters, and bytes that are no text.

    >>> printable("a\\x1b[31mb"), printable(b"\\xff".decode("utf-8", "surrogateescape"))
    ('a�[31mb', '?')
    >>> printable("one\\u2028line")
    'one�line'
    """
    return text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")


class Html(str):
    """Text that is HTML already; all other text is escaped where it enters a page."""

    __slots__ = ()


def as_html(text: str) -> Html:
    """Escape a text, unless it is HTML.

    >>> as_html("a < b"), as_html(Html("<b>a</b>"))
    ('a &lt; b', '<b>a</b>')
    """
    return text if isinstance(text, Html) else Html(escape(printable(text)))


_FACE = ContextVar("face", default="Python")


@contextmanager
def face(name: str) -> Iterator[None]:
    """Messages are for users of "Python", the "command line" or "OVITO" in this block."""
    token = _FACE.set(name)
    try:
        yield
    finally:
        _FACE.reset(token)


def option(name: str, value: Any = None, *, keyword: str = "", python: str = "") -> str:
    """An option as it is written where the user is.

    value : None for the name alone; True for a flag that has no value on the command line
    keyword, python : name and value in Python, where they are written differently there

    >>> option("names", {"MW": "X"})
    "names={'MW': 'X'}, on the command line --names MW=X"
    >>> with face("command line"):
    ...     option("names", {"MW": "X", "Me1": "C"}), option("types", ("Fe", "O"))
    ('--names MW=X,Me1=C', '--types Fe,O')
    >>> option("target"), option("resume", True)
    ('target=', 'resume=True, on the command line --resume')
    """
    if value is None and _FACE.get() == "Python":
        return keyword or f"{name}="
    if value is None or value is True:
        text = ""
    elif isinstance(value, Mapping):
        text = ",".join(f"{key}={one}" for key, one in value.items())
    else:
        text = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
    if _FACE.get() == "OVITO":
        return f"{text} in the parameter {name!r}" if text else f"the parameter {name!r}"
    flag = f"--{name} {text}".rstrip()
    return (
        flag
        if _FACE.get() == "command line"
        else f"{keyword or name}={python or repr(value)}, on the command line {flag}"
    )


def html_grid(header: Sequence[str], cells: Sequence[Sequence[str]]) -> Html:
    """Return an HTML table."""
    heads = "".join(f"<th>{as_html(name)}</th>" for name in header)
    head = f"<thead><tr>{heads}</tr></thead>\n" if header else ""
    body = "\n".join("<tr>" + "".join(f"<td>{as_html(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return Html(f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>')


def value_and_error(value: float, error: float = nan) -> str:
    """Format as `91.63 ± 0.12`: the error with two digits, the value to the same decimal place.

    `91.6` without an error or for a constant; `–` for NaN.
    """
    return " ± ".join(_figures(value, error))


def _figures(value: float, error: float) -> tuple[str, ...]:
    """Format the value, and the error if there is one."""
    if not isfinite(value):
        return ("–" if isnan(value) else "∞" if value == inf else "−∞",)
    if not isfinite(error) or error <= 1e-12 * abs(value):  # no error, or a constant
        if abs(value - round(value)) <= 1e-12 * abs(value) and abs(value) < 1e6:  # 100 is not 100.0
            return (f"{value:.0f}",)
        return (f"{value:.1f}" if abs(value) >= 10 else f"{value:#.3g}",)
    if abs(value) >= 1e5 or max(abs(value), error) < 1e-3:
        return f"{value:.3g}", f"{error:.1g}"
    digits = 0
    while digits < 6 and round(error, digits) < 9.5 * 10.0**-digits:
        digits += 1
    return f"{value:.{digits}f}", f"{error:.{digits}f}"


def html_number(value: float, error: float) -> Html:
    """Format a value as HTML with its error in small print."""
    text, *spread = _figures(value, error)
    return Html(f"{text} <small>± {spread[0]}</small>" if spread else text)


def number(value: float) -> str:
    """Format with four significant digits, integers in full: `0.05234`, `33,280`."""
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def plural(n: int, noun: str) -> str:
    """Format a count with its noun: `1 frame`, `33,280 frames`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Join names with commas; a long list is cut and ends with the number left out."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
