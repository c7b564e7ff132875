"""Text on a terminal: names from files may contain anything."""

from __future__ import annotations

from rich.text import Text

from phaseseg.display import printable


def as_text(text: str, style: str = "") -> Text:
    """Return a text that is shown as it is, without markup or control characters."""
    return Text(printable(text), style)
