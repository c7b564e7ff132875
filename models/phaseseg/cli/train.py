"""`phaseseg train`: one subcommand for each family that can be trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from phaseseg.families import FAMILIES, Family, load
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, keywords_of, setting_flags, with_flags
from phaseseg.terminal.options import Cell, Format, Quiet, Trajectories
from phaseseg.terminal.show import note, work_bar


def train_app() -> typer.Typer:
    """Build the command and its subcommands, with the settings of each family as flags."""
    app = typer.Typer(no_args_is_help=True, help="Train a network on your own trajectories.")
    app.callback()(lambda: None)
    for family in FAMILIES.values():
        if family.fit and family.settings is not None:
            app.command(family.name, help=_help(family))(_word(family, family.settings))
    return app


def _help(family: Family) -> str:
    """Return the docstring of the settings, unless it is the signature that dataclasses generate."""
    text = inspect.getdoc(family.settings) or ""
    described = not text.startswith(f"{family.settings.__name__}(")  # type: ignore[union-attr]
    return text if described else f"Train a network of the family {family.name}."


def _word(family: Family, settings_type: Any) -> Callable[..., None]:
    def train(
        context: typer.Context,
        given: Mapping[Flag, Any],
        data: Trajectories,
        output: Annotated[
            Path, typer.Option("--output", "-o", help="Checkpoint to write: NAME.safetensors.")
        ],
        cell: Cell = None,
        format: Format = None,
        quiet: Quiet = False,
    ) -> None:
        with exit_codes(f"{output} was not written."):
            from phaseseg.api import fit
            from phaseseg.training.runs import RunFile

            def files(paths: Iterable[Path]) -> list[RunFile | Path]:
                return [RunFile(path, cell, format) if cell or format else path for path in paths]

            with usage_errors():
                settings = settings_type(**{flag.name: flag.value(value) for flag, value in given.items()})
                for flag, value in given.items():
                    flag.check(value)
            before, keywords = _files(output), keywords_of(settings)
            for flag in given:
                if flag.kind is Path and flag.multiple and keywords.get(flag.name):
                    keywords[flag.name] = files(keywords[flag.name])  # further runs
            with work_bar(quiet) as progress:
                checkpoint = fit(files(data), family.name, output=output, progress=progress, **keywords)
            if not quiet:
                if family.report:
                    note(*load(family.report)(checkpoint.card))
                new = [path for path, time in _files(output).items() if time != before.get(path)]
                note(f"Written: {', '.join([str(output), *(path.name for path in new if path != output)])}")

    return with_flags(train, setting_flags(settings_type), after="output")


def _files(output: Path) -> dict[Path, int]:
    """Return the checkpoint and the files with its name, with their modification times."""
    stem = output.name.removesuffix(output.suffix)
    return {path: path.stat().st_mtime_ns for path in sorted(output.parent.glob(f"{stem}.*"))}
