"""Printing: tables and JSON on standard output, notes and progress bars on standard error."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from phaseseg.display import printable
from phaseseg.terminal.errors import interrupt
from phaseseg.terminal.text import as_text

if TYPE_CHECKING:
    from phaseseg.report import TextTable
    from phaseseg.specs import Progress as Report

_USUAL = gc.get_threshold()
COMPILES = "the first run compiles for up to 30 s"


def results_console() -> Console:
    """Return a console on standard output, for tables."""
    console = Console(highlight=False)
    # A file or pipe has no width limit.
    return console if console.is_terminal else Console(highlight=False, width=200)


def note(*sentences: str) -> None:
    """Print sentences on standard error."""
    for sentence in sentences:
        Console(stderr=True, highlight=False, soft_wrap=True).print(as_text(sentence))


def show(shown: Iterable[TextTable | str]) -> None:
    """Print tables and lines on standard output."""
    console = results_console()
    for one in shown:
        if isinstance(one, str):
            console.print(as_text(one))
            continue
        table = Table(title=as_text(one.title, "bold"), title_justify="left")
        for k, heading in enumerate(one.headings):
            table.add_column(
                as_text(heading), justify="left" if k < one.n_labels else "right", overflow="fold"
            )
        for k, row in enumerate(one.rows):
            style = one.styles[k] if k < len(one.styles) else None
            table.add_row(*map(as_text, row), style=style, end_section=k in one.ends)
        console.print(table)


def show_json(content: Any) -> None:
    """Print values, arrays and tables as one line of JSON; null for NaN and infinity."""
    from phaseseg.fields import plain

    typer.echo(printable(json.dumps(plain(content), ensure_ascii=False, allow_nan=False)))


# ---------------------------------------------------------------------------------------- bars


class FrameBar:
    """Counts frames; without a bar it only checks for interruptions.

    heard : messages of the readers of the frames
    """

    def __init__(self, name: str = "", bar: Progress | None = None) -> None:
        from phaseseg.fields import MessageCounter

        self.heard = MessageCounter()
        self._name, self._bar, self._doing = as_text(name).plain, bar or Progress(disable=True), ""
        self._first = f"; {COMPILES}"  # said once
        self._task: TaskID | None = None

    def frames(self, items: Iterable[Any], doing: str) -> Iterator[Any]:
        """Yield the items and count them."""
        self._doing = f"{self._name}: {doing}"
        self._end()
        self._task = task = self._bar.add_task(self._doing + self._first, total=None)
        self._first = ""
        for item in items:
            interrupt.check()
            _collect_garbage()
            self._bar.update(task, advance=1, description=self._doing)
            if (said := getattr(item, "messages", None)) is not None:
                self.heard.add(said)
            yield item
        self._end()

    def inside(self, done: float, line: str) -> None:
        """Show the progress within one frame, or of a fit when all frames have been read."""
        interrupt.check()
        _collect_garbage()
        if self._task is None:
            self._task = self._bar.add_task(self._doing, total=None)
        # What comes last is cut off in a narrow terminal.
        self._bar.update(self._task, description=f"{self._name}: {done:.0%}, {line}")

    def _end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = None


def _collect_garbage() -> None:
    """Collect garbage from now on, now that all is loaded."""
    if gc.get_threshold() != _USUAL:
        gc.freeze()
        gc.set_threshold(*_USUAL)


@contextmanager
def _bar(shown: bool, *columns: ProgressColumn) -> Iterator[Progress]:
    """Yield a bar with these columns, shown only on a terminal."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield Progress(disable=True)
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), *columns, console=console,
        transient=True,
    ) as bar:  # fmt: skip
        yield bar


@contextmanager
def frame_bar(name: str, shown: bool) -> Iterator[FrameBar]:
    """Yield a bar that counts the frames of a file, shown only on a terminal."""
    with _bar(shown, TextColumn("{task.completed:,} frames"), TimeElapsedColumn()) as bar:
        yield FrameBar(name, bar)


@contextmanager
def work_bar(quiet: bool, *, compiles: bool = True) -> Iterator[Report]:
    """Show a bar for work of known length, only on a terminal; yield the function that updates it.

    compiles : whether the work uses compiled loops, which the first run must compile
    """
    with _bar(not quiet, BarColumn(), _Left(compact=True)) as bar:
        job = bar.add_task(f"starting; {COMPILES}" if compiles else "starting", total=1.0)

        def move(done: float, line: str) -> None:
            interrupt.check()
            bar.update(job, completed=done, description=line)

        yield move


class _Left(TimeRemainingColumn):
    """The remaining time, once it is known."""

    def render(self, task: Task) -> Text:
        left = super().render(task)
        return Text() if "-" in left.plain else left.append(" left")
