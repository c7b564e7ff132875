"""`phaseseg cite`: how to cite phaseseg and the publications behind a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from phaseseg.terminal.errors import exit_codes


def cite_command(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint: a name from `phaseseg models list` or a file.")
    ] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print entries for BibTeX.")] = False,
) -> None:
    """Print how to cite phaseseg and the publications behind a checkpoint."""
    with exit_codes():
        from phaseseg.citation import cite

        typer.echo(cite(model, bibtex=bibtex))
