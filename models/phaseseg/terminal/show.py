"""What is printed: tables and JSON on standard output, notes and progress bars on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from phaseseg.terminal.errors import interrupt

if TYPE_CHECKING:
    from phaseseg.report import TextTable
    from phaseseg.specs import Progress as Report

COMPILES = "the first use compiles, up to 30 s"


def results_console() -> Console:
    """Standard output, for tables."""
    console = Console(highlight=False)
    # A file or pipe has no width to keep to.
    return console if console.is_terminal else Console(highlight=False, width=200)


def note(sentence: str) -> None:
    """One sentence on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)


def notes(sentences: Iterable[str]) -> None:
    """Several sentences on standard error."""
    for sentence in sentences:
        note(sentence)


def counted(n: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def show(shown: Iterable[TextTable | str]) -> None:
    """Tables and lines on standard output."""
    console = results_console()
    for one in shown:
        if isinstance(one, str):
            console.print(one, markup=False)
            continue
        table = Table(title=Text(one.title, style="bold"), title_justify="left")
        for k, heading in enumerate(one.headings):
            table.add_column(Text(heading), justify="left" if k < one.n_labels else "right", overflow="fold")
        for k, row in enumerate(one.rows):
            style = one.styles[k] if k < len(one.styles) else None
            table.add_row(*map(Text, row), style=style, end_section=k in one.ends)
        console.print(table)


def show_json(content: Any) -> None:
    """Values, arrays and tables as one line of JSON; null for what is not a finite number."""
    from phaseseg.fields import plain

    typer.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))


# ---------------------------------------------------------------------------------------- bars


class FrameBar:
    """Counts frames on a terminal; without a terminal it does nothing."""

    def __init__(self, name: str = "", bar: Progress | None = None) -> None:
        self._name, self._bar, self._doing = name, bar, ""
        self._task: TaskID | None = None

    def frames(self, items: Iterable[Any], doing: str) -> Iterator[Any]:
        """Pass the items on and count them."""
        if self._bar is None:
            for item in items:
                interrupt.check()
                yield item
            return
        self._doing = f"{self._name}: {doing}"
        self._task = task = self._bar.add_task(f"{self._doing}; {COMPILES}", total=None)
        for item in items:
            interrupt.check()
            self._bar.update(task, advance=1, description=self._doing)
            yield item
        self._bar.remove_task(task)

    def inside(self, done: float, line: str) -> None:
        """Progress of the work on one frame."""
        interrupt.check()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"{self._doing}: {line} ({done:.0%})")


@contextmanager
def frame_bar(name: str, shown: bool) -> Iterator[FrameBar]:
    """A bar that counts the frames of a file, on a terminal only."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield FrameBar()
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False),
        TextColumn("{task.completed:,} frames"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield FrameBar(name, progress)


@contextmanager
def work_bar(quiet: bool) -> Iterator[Report]:
    """A bar for work of known length, on a terminal only, and the function that moves it."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, line: interrupt.check()
        return
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), _Left(compact=True),
        console=console, transient=True,
    )  # fmt: skip
    with bar:
        job = bar.add_task(f"starting; {COMPILES}", total=1.0)

        def move(done: float, line: str) -> None:
            interrupt.check()
            bar.update(job, completed=done, description=line)

        yield move


class _Left(TimeRemainingColumn):
    """The time that is left, once it is known."""

    def render(self, task: Task) -> Text:
        left = super().render(task)
        return Text() if "-" in left.plain else left.append(" left")
