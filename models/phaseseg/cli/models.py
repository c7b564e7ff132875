"""`phaseseg models list | show | verify | path`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from phaseseg.families import DEFAULT, FAMILIES
from phaseseg.terminal.errors import FAILURE, exit_codes
from phaseseg.terminal.options import AsJson
from phaseseg.terminal.show import results_console, show_json

if TYPE_CHECKING:
    from phaseseg.checkpoint import Checkpoint, CheckpointEntry

models_app = typer.Typer(
    no_args_is_help=True, help="Checkpoints of networks: which there are, what they are."
)

EXAMPLE = FAMILIES[DEFAULT].default
Name = Annotated[
    str,
    typer.Argument(help=f"Name, as in {EXAMPLE} or {EXAMPLE.partition('/')[2]}, or a .safetensors file."),
]


@models_app.command("list")
def list_command(
    family: Annotated[str | None, typer.Option(help="Only those of this family.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the checkpoints that come with phaseseg."""
    with exit_codes():
        from phaseseg.checkpoint import CheckpointError, bundled_checkpoints, read_entry

        entries: list[CheckpointEntry] = []
        damaged: list[tuple[str, CheckpointError]] = []
        for name, path in bundled_checkpoints(family).items():
            try:
                entries.append(read_entry(path))
            except CheckpointError as error:
                damaged.append((name, error))
        if as_json:
            show_json([_plain_entry(entry) for entry in entries])
        elif entries:
            _print_entries(entries, {one.default for one in FAMILIES.values()})
        elif not damaged:
            typer.echo(f"There are none yet{f' of the family {family}' if family else ''}.")
        if damaged:
            raise CheckpointError(" ".join(str(error) for _, error in damaged))


def _plain_entry(entry: CheckpointEntry) -> dict[str, Any]:
    return dataclasses.asdict(entry) | {"path": str(entry.path)}


def _print_entries(entries: list[CheckpointEntry], defaults: set[str]) -> None:
    table = Table(title="Checkpoints", title_justify="left", title_style="bold")
    for heading in ("name", "version", "family", "hash", "size", "summary"):
        right = heading in ("version", "size")
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=heading != "summary", overflow="fold"
        )
    for entry in entries:
        summary = entry.summary.splitlines()[0] if entry.summary else ""
        version = "" if entry.version is None else str(entry.version)
        name = f"{entry.name} (default)" if entry.name in defaults else entry.name
        cells = (name, version, entry.family, entry.hash[:12], _size(entry.size), summary)
        table.add_row(*map(Text, cells))
    results_console().print(table)


def _size(n_bytes: int) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


@models_app.command("show")
def show_command(name: Name, as_json: AsJson = False) -> None:
    """Show what a checkpoint was made from, how good it is and where it fails."""
    with exit_codes():
        from phaseseg.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(name)
        if as_json:
            show_json(_described(checkpoint))
        else:
            _print_card(checkpoint)


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    """All of a checkpoint but its weights."""
    return {
        "name": checkpoint.name,
        "family": checkpoint.family,
        "version": checkpoint.version,
        "format": checkpoint.format,
        "hash": checkpoint.hash,
        "path": str(checkpoint.path),
        "units": checkpoint.units,
        "n_weights": sum(values.size for values in checkpoint.weights.values()),
        "config": checkpoint.config,
        "ranges": checkpoint.ranges,
        "card": checkpoint.card,
    }


def _print_card(checkpoint: Checkpoint) -> None:
    described = _described(checkpoint)
    card, config, ranges = (described.pop(key) for key in ("card", "config", "ranges"))
    console = results_console()
    console.print(Text(described.pop("name"), style="bold"))
    if isinstance(card.get("summary"), str):
        console.print(Text(card["summary"]))
        card = {key: value for key, value in card.items() if key != "summary"}
    console.print()
    sections = {**described, **card, "network": config, "ranges of the training data": ranges}
    for key, value in sections.items():
        if key not in described:
            if value in (None, "", [], {}):
                continue
            if isinstance(value, Mapping | list):
                console.print()
        for depth, line in _lines(key, value):
            console.print(Padding(line, (0, 0, 0, 2 * depth), expand=False))


def _lines(key: str, value: Any, depth: int = 0) -> Iterator[tuple[int, Text | Table]]:
    """Depth and content of the lines that show an entry of a card, by the shape of its value alone."""
    title, style = str(key).replace("_", " "), "italic" if depth else "bold"
    table = _table_of(value)
    if table is not None:
        about = value if isinstance(value, Mapping) else {}
        # Above and below, not as title and caption of the table, which wrap at its width.
        yield depth, Text(str(about.get("title") or title), style=style)
        yield depth, table
        if about.get("note"):
            yield depth, Text(str(about["note"]), style="dim")
    elif isinstance(value, Mapping):
        yield depth, Text(title, style=style)
        for name, one in value.items():
            yield from _lines(name, one, depth + 1)
    elif isinstance(value, list) and (depth == 0 or not _is_short(value)):
        yield depth, Text(title, style=style)
        for k, one in enumerate(value, 1):
            if isinstance(one, Mapping):
                yield from _lines(str(k), one, depth + 1)
            else:
                yield depth + 1, Text(f"• {_text(one)}")
    else:
        yield depth, Text.assemble((f"{title}: ", style), _text(value))


def _is_short(values: list[Any]) -> bool:
    """Whether a list goes on one line."""
    return len(values) <= 12 and all(isinstance(one, str | int | float | None) for one in values)


def _table_of(value: Any) -> Table | None:
    """A mapping with columns and rows, or a matrix of numbers, as a table; None for anything else."""
    if isinstance(value, Mapping):
        columns, rows = value.get("columns"), value.get("rows")
    else:
        columns, rows = [], value
    if not isinstance(columns, list) or not isinstance(rows, list):
        return None
    if not all(isinstance(row, list) for row in rows):
        return None
    numeric = [[isinstance(one, int | float | None) for one in row] for row in rows]
    if rows is value and not (rows and len({*map(len, rows)}) == 1 and rows[0] and all(map(all, numeric))):
        return None
    table = Table(show_header=any(map(str, columns)))
    for k in range(max([len(columns), *map(len, rows)])):
        right = bool(rows) and all(row[k] for row in numeric if k < len(row))
        heading = Text(str(columns[k]) if k < len(columns) else "")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(one)) for one in row))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


@models_app.command("verify")
def verify_command(
    name: Annotated[
        str | None, typer.Argument(help="Name or .safetensors file; all bundled ones if left out.")
    ] = None,
) -> None:
    """Check every byte of a checkpoint, or of all that come with phaseseg."""
    failed = False
    with exit_codes():
        from phaseseg.checkpoint import CheckpointError, bundled_checkpoints, find_checkpoint, load_checkpoint

        bundled = bundled_checkpoints()
        if name is not None:
            chosen = find_checkpoint(name)
            # By its name where it has one: the file of a name must hold what the name says.
            bundled = {known: path for known, path in bundled.items() if path == chosen} or {name: chosen}
        if not bundled:
            typer.echo("There are none yet.")
        console = Console(highlight=False, soft_wrap=True)
        for shown, path in bundled.items():
            try:
                checkpoint = load_checkpoint(path)
            except CheckpointError as error:
                failed = True
                console.print(
                    Text.assemble(("failed  ", "red"), str(error) if shown == name else f"{shown}  {error}")
                )
            else:
                console.print(Text.assemble(("ok      ", "green"), f"{shown}  {checkpoint.hash[:12]}"))
    if failed:
        raise typer.Exit(FAILURE)


@models_app.command("path")
def path_command(name: Name) -> None:
    """Print where the file of a checkpoint lies, and nothing else."""
    with exit_codes():
        from phaseseg.checkpoint import find_checkpoint

        typer.echo(Path(find_checkpoint(name)).absolute())
