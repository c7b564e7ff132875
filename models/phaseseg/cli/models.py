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
from phaseseg.terminal.text import as_text

if TYPE_CHECKING:
    from phaseseg.checkpoint import Checkpoint, CheckpointEntry

models_app = typer.Typer(no_args_is_help=True, help="List, show and verify the checkpoints of networks.")

EXAMPLE = FAMILIES[DEFAULT].default
Name = Annotated[
    str,
    typer.Argument(help=f"Name such as {EXAMPLE} or {EXAMPLE.partition('/')[2]}, or a .safetensors file."),
]


@models_app.command("list")
def list_command(
    family: Annotated[str | None, typer.Option(help="List only this family.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the checkpoints that come with phaseseg."""
    with exit_codes():
        from phaseseg.checkpoint import CheckpointError, bundled_checkpoints, read_entry

        entries, damaged = [], []
        for path in bundled_checkpoints(family).values():
            try:
                entries.append(read_entry(path))
            except CheckpointError as error:
                damaged.append(str(error))
        if as_json:
            show_json([dataclasses.asdict(entry) | {"path": str(entry.path)} for entry in entries])
        elif entries:
            _print_entries(entries)
        elif not damaged:
            typer.echo(f"No checkpoints found{f' for the family {family}' if family else ''}.")
        if damaged:
            raise CheckpointError(" ".join(damaged))


def _print_entries(entries: list[CheckpointEntry]) -> None:
    table = Table(title="Checkpoints", title_justify="left", title_style="bold")
    for heading in ("name", "version", "family", "hash", "size", "summary"):
        right = heading in ("version", "size")
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=heading != "summary", overflow="fold"
        )
    defaults = {family.default for family in FAMILIES.values()}
    for entry in entries:
        name = f"{entry.name} (default)" if entry.name in defaults else entry.name
        version = "" if entry.version is None else str(entry.version)
        summary = next(iter(entry.summary.splitlines()), "")
        cells = (name, version, entry.family, entry.hash[:12], _size(entry.size), summary)
        table.add_row(*map(as_text, cells))
    results_console().print(table)


def _size(n_bytes: int) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


@models_app.command("show")
def show_command(name: Name, as_json: AsJson = False) -> None:
    """Show the training data, the accuracy and the limits of a checkpoint."""
    with exit_codes():
        from phaseseg.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(name)
        if as_json:
            show_json(_described(checkpoint))
        else:
            _print_card(checkpoint)


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return everything in a checkpoint except its weights."""
    names = ("name", "family", "version", "format", "hash", "path", "units")
    shown = {name: getattr(checkpoint, name) for name in names} | {"path": str(checkpoint.path)}
    shown["n_weights"] = sum(values.size for values in checkpoint.weights.values())
    return shown | {name: getattr(checkpoint, name) for name in ("config", "ranges", "card")}


def _print_card(checkpoint: Checkpoint) -> None:
    described = _described(checkpoint)
    config, ranges, card = (described.pop(key) for key in ("config", "ranges", "card"))
    console = results_console()
    console.print(as_text(described.pop("name"), "bold"))
    if isinstance(card.get("summary"), str):
        console.print(as_text(card["summary"]))
        card = {key: value for key, value in card.items() if key != "summary"}
    console.print()
    for key, value in {**described, **card, "network": config, "ranges of the training data": ranges}.items():
        if key not in described and value in (None, "", [], {}):
            continue
        if key not in described and isinstance(value, Mapping | list):
            console.print()
        for depth, line in _lines(key, value):
            console.print(Padding(line, (0, 0, 0, 2 * depth), expand=False))


def _lines(key: str, value: Any, depth: int = 0) -> Iterator[tuple[int, Text | Table]]:
    """Yield depth and content of the lines that show an entry of a card; the type of the value decides."""
    title, style = str(key).replace("_", " "), "italic" if depth else "bold"
    table = _table_of(value)
    if table is not None:
        about = value if isinstance(value, Mapping) else {}
        # Printed separately, because title and caption of a table wrap at its width.
        yield depth, as_text(str(about.get("title") or title), style)
        yield depth, table
        if about.get("note"):
            yield depth, as_text(str(about["note"]), "dim")
    elif isinstance(value, Mapping):
        yield depth, as_text(title, style)
        for name, one in value.items():
            yield from _lines(name, one, depth + 1)
    elif isinstance(value, list) and not (depth and _fits(value)):
        yield depth, as_text(title, style)
        for k, one in enumerate(value, 1):
            if isinstance(one, Mapping):
                yield from _lines(str(k), one, depth + 1)
            else:
                yield depth + 1, as_text(f"• {_text(one)}")
    else:
        yield depth, Text.assemble(as_text(f"{title}: ", style), as_text(_text(value)))


def _fits(values: list[Any]) -> bool:
    """Whether a list fits on one line."""
    return len(values) <= 12 and all(isinstance(one, str | int | float | None) for one in values)


def _table_of(value: Any) -> Table | None:
    """Return a mapping with columns and rows, or a numeric matrix, as a table; None for anything else."""
    matrix = not isinstance(value, Mapping)
    columns, rows = ([], value) if matrix else (value.get("columns"), value.get("rows"))
    if not isinstance(columns, list) or not isinstance(rows, list):
        return None
    if not all(isinstance(row, list) for row in rows):
        return None
    numeric = [[isinstance(one, int | float | None) for one in row] for row in rows]
    if matrix and not (rows and rows[0] and len({*map(len, rows)}) == 1 and all(map(all, numeric))):
        return None
    table = Table(show_header=any(map(str, columns)))
    for k in range(max([len(columns), *map(len, rows)])):
        right = bool(rows) and all(row[k] for row in numeric if k < len(row))
        heading = as_text(str(columns[k]) if k < len(columns) else "")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(as_text(_text(one)) for one in row))
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
        str | None, typer.Argument(help="Name or .safetensors file; all bundled checkpoints if omitted.")
    ] = None,
) -> None:
    """Verify the sha256 of a checkpoint, or of all checkpoints that come with phaseseg."""
    failed = False
    with exit_codes():
        from phaseseg.checkpoint import CheckpointError, bundled_checkpoints, find_checkpoint, load_checkpoint

        bundled = bundled_checkpoints()
        if name is not None:
            chosen = find_checkpoint(name)
            # By bundled name if it has one, to check also that the file contains the checkpoint of that name.
            bundled = {known: path for known, path in bundled.items() if path == chosen} or {name: chosen}
        if not bundled:
            typer.echo("No checkpoints found.")
        console = Console(highlight=False, soft_wrap=True)
        for shown, path in bundled.items():
            try:
                mark, text = as_text("ok      ", "green"), f"{shown}  {load_checkpoint(path).hash[:12]}"
            except CheckpointError as error:
                failed = True
                mark, text = as_text("failed  ", "red"), str(error) if shown == name else f"{shown}  {error}"
            console.print(Text.assemble(mark, as_text(text)))
    if failed:
        raise typer.Exit(FAILURE)


@models_app.command("path")
def path_command(name: Name) -> None:
    """Print the path of a checkpoint file, and nothing else."""
    with exit_codes():
        from phaseseg.checkpoint import find_checkpoint

        typer.echo(Path(find_checkpoint(name)).absolute())
