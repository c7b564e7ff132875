"""The command line: `phaseseg predict`, `train`, `evaluate` and the other commands in `phaseseg --help`.

The options of `predict` and `evaluate`, the subcommands of `train` and the commands of a single family come
from the declarations of the families. `phaseseg.terminal` has shared code and explains the exit codes.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from phaseseg.cli.demo import demo_command
from phaseseg.cli.evaluate import evaluate_word
from phaseseg.cli.models import models_app
from phaseseg.cli.predict import predict_word
from phaseseg.cli.simulate import simulate_app
from phaseseg.cli.train import train_app
from phaseseg.families import FAMILIES, load
from phaseseg.version import __version__


def make_app() -> typer.Typer:
    """Build the command line for the families registered so far."""
    made = typer.Typer(
        add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
        help="Machine-learned analysis of atomistic simulations: networks, labels and metrics.",
    )  # fmt: skip
    made.callback()(_root)
    made.command("predict")(predict_word())
    made.command("evaluate")(evaluate_word())
    for family in FAMILIES.values():
        for command in family.commands:
            word, _, reference = command.partition("=")
            made.command(word)(load(reference))
    made.command("demo")(demo_command)
    made.add_typer(train_app(), name="train")
    made.add_typer(models_app, name="models")
    made.add_typer(simulate_app, name="simulate")
    return made


def _version(show: bool) -> None:
    if show:
        typer.echo(f"phaseseg {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app = make_app()


def main() -> None:
    """Entry point of the `phaseseg` command."""
    # Modules and compiled code are no garbage. To look for some among them, while they are loaded (until the
    # first frame, see `FrameBar`) and at exit, takes 0.2 s.
    gc.set_threshold(200_000)
    try:
        app()
    finally:
        gc.freeze()
