"""The command line: `phaseseg predict`, `train`, `evaluate` and the other commands in `phaseseg --help`.

The options of `predict` and `evaluate`, the subcommands of `train` and the commands of a single family come
from the declarations of the families. `phaseseg.terminal` has shared code and explains the exit codes.
"""

from __future__ import annotations

import gc
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import typer

from phaseseg.families import FAMILIES, bundled_families, load
from phaseseg.terminal.flags import with_threads
from phaseseg.version import __version__

app: typer.Typer
"""The command line with all commands, made when it is asked for."""

# Functions that return a command or a group of commands. Those of families are listed in between.
_FIRST: Mapping[str, Callable[[], Any]] = {
    "predict": lambda: load("phaseseg.cli.predict:predict_word")(),
    "evaluate": lambda: load("phaseseg.cli.evaluate:evaluate_word")(),
    "view": lambda: load("phaseseg.cli.view:view_word")(),
}
_LAST: Mapping[str, Callable[[], Any]] = {
    "demo": lambda: load("phaseseg.cli.demo:demo_command"),
    "train": lambda: load("phaseseg.cli.train:train_app")(),
    "models": lambda: load("phaseseg.cli.models:models_app"),
    "cite": lambda: load("phaseseg.cli.cite:cite_command"),
    "doctor": lambda: load("phaseseg.cli.doctor:doctor_command"),
    "simulate": lambda: load("phaseseg.cli.simulate:simulate_app"),
}


def make_app(word: str = "") -> typer.Typer:
    """Build the command line for the families registered so far.

    word : the only command that is needed; all are built if it is none that comes with phaseseg
    """
    families = bundled_families() if word else FAMILIES
    of_families: Mapping[str, Callable[[], Any]] = {
        name: partial(load, reference)
        for family in families.values()
        for name, _, reference in (command.partition("=") for command in family.commands)
    }
    commands = {**_FIRST, **of_families, **_LAST}
    if word and word not in commands:
        return make_app()
    made = typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
        help="Machine-learned analysis of atomistic simulations: networks, labels and metrics.",
    )  # fmt: skip
    made.callback()(_root)
    for name in [word] if word else commands:
        found = commands[name]()
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name)
        else:
            made.command(name)(found if name in _LAST else with_threads(found))
    return made


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = made = make_app()
    return made


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import PackageNotFoundError, version

        typer.echo(f"phaseseg {__version__}")
        typer.echo(f"python {platform.python_version()}")
        for name in ("numpy", "numba", "ase", "ovito", "torch"):
            with suppress(PackageNotFoundError):
                typer.echo(f"{name} {version(name)}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of phaseseg and of what matters to it.",
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `phaseseg` command."""
    # Modules and compiled code are no garbage. To look for some among them, while they are loaded (until the
    # first frame, see `FrameBar`) and at exit, takes 0.2 s.
    gc.set_threshold(200_000)
    try:
        make_app(*sys.argv[1:2])()
    finally:
        gc.freeze()
