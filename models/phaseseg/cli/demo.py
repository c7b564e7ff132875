"""`phaseseg demo`: the demonstration of each family on bundled files."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from phaseseg.display import printable
from phaseseg.families import FAMILIES, load
from phaseseg.terminal.demonstration import one_screen
from phaseseg.terminal.errors import exit_codes


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
        begin = perf_counter()
        found = [load(family.demo)(output) for family in FAMILIES.values() if family.demo]
        for line in one_screen(found, perf_counter() - begin):
            typer.echo(printable(line))
