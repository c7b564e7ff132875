"""`phaseseg demo`: the demonstration of each family on bundled files."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from phaseseg.display import printable
from phaseseg.families import FAMILIES, load
from phaseseg.terminal.demonstration import Demonstration, one_screen
from phaseseg.terminal.errors import exit_codes
from phaseseg.terminal.show import frame_bar


def shown_by(name: str, output: Path) -> Demonstration:
    """Run the demonstration of a family without its progress bars; also called in worker processes."""
    if multiprocessing.parent_process() is not None:  # Ctrl-C ends the work, which may take a minute
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        found: Demonstration = load(FAMILIES[name].demo)(output)
    return found


def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo-output"),
) -> None:
    """Analyze the bundled files of every family; tables and pictures are in the reports."""
    with exit_codes(f"Results finished so far are in {output}."):
        from phaseseg.io import OutputError

        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: the folder cannot be created ({error.strerror}).") from None
        from phaseseg.trajectory import map_frames

        begin, names = perf_counter(), [name for name, family in FAMILIES.items() if family.demo]
        # Most of the first run is compilation, which uses one core; two processes use two.
        work = partial(shown_by, output=output)
        workers = min(2, os.cpu_count() or 1)
        with frame_bar("demo", shown=True) as bar:
            found = list(bar.frames(map_frames(work, names, workers=workers), "families shown"))  # type: ignore[arg-type]
        for line in one_screen(found, perf_counter() - begin):
            typer.echo(printable(line))
