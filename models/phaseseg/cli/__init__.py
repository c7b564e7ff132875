"""The command line: `phaseseg label`, `predict`, `train` and what else stands in `phaseseg --help`.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a failure (disk
full, missing package), 2 bad usage, 3 bad input, 130 interrupted. One module a word; the words know
`console`, not each other, except for `demo`, which shows others. Heavy imports happen inside the commands,
so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from phaseseg.cli.demo import demo_command
from phaseseg.cli.evaluate import evaluate_command, select_command
from phaseseg.cli.label import label_command
from phaseseg.cli.metrics import metrics_command
from phaseseg.cli.models import models_app
from phaseseg.cli.predict import predict_command
from phaseseg.cli.simulate import simulate_app
from phaseseg.cli.train import train_app
from phaseseg.version import __version__

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Phases of melts, atom by atom; liquid or glass: labels, metrics and networks.",
)  # fmt: skip
app.command("label")(label_command)
app.command("predict")(predict_command)
app.command("evaluate")(evaluate_command)
app.command("select")(select_command)
app.command("metrics")(metrics_command)
app.command("demo")(demo_command)
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")
app.add_typer(simulate_app, name="simulate")


def main() -> None:
    """Entry point of the `phaseseg` command."""
    app()


def _version(show: bool) -> None:
    if show:
        typer.echo(f"phaseseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
