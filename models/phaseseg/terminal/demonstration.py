"""What a family shows of itself in `phaseseg demo`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phaseseg.display import plural


@dataclass(frozen=True)
class Demonstration:
    """What was done with the bundled files of a family.

    done : one sentence
    numbers : the most telling values, each with its meaning
    pages : reports with the tables and pictures
    command : the same for one's own file
    """

    done: str
    numbers: Sequence[tuple[str, str]]
    pages: Sequence[Path]
    command: str


def one_screen(found: Iterable[Demonstration], seconds: float) -> list[str]:
    """Return the lines that `phaseseg demo` prints."""
    found = list(found)
    lines = []
    for one in found:
        lines.append(one.done)
        width = max((len(value) for value, _ in one.numbers), default=0)
        lines += [f"  {value:>{width}}  {meaning}" for value, meaning in one.numbers]
        lines += [f"  see {page}" for page in one.pages]
    lines += ["", f"{plural(len(found), 'demonstration')} in {seconds:.0f} s. With your own files:"]
    return [*lines, *(f"  {one.command}" for one in found)]
