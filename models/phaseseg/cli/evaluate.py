"""`phaseseg evaluate` and `phaseseg select`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.cli.console import (
    AsJson,
    Device,
    Format,
    Frames,
    Model,
    Quiet,
    Trajectories,
    Types,
    exit_codes,
    frame_progress,
    frame_reader,
    note,
    output_kind,
    print_table,
    results_console,
    usage_errors,
)
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.fields import Table
    from phaseseg.frame import Frame


def evaluate_command(
    input: Trajectories,
    model: Model,
    reference: Annotated[
        str,
        typer.Option(
            help="weak: labels by the rule of the checkpoint; or a column of the files with 0 poor, 1 rich "
            "and, if there are any, 2 boundary."
        ),
    ] = "weak",
    boundary_width: Annotated[
        list[float] | None,
        typer.Option(help="Thickness of the boundary, Å; may be repeated. 2.7 and 0.68 if left out."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also methods without a network, for comparison.")
    ] = False,
    baseline_data: Annotated[
        list[Path] | None,
        typer.Option(help="Trajectory that the baselines are fitted to; may be repeated."),
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="Also every network of the checkpoint alone.")
    ] = False,
    types: Types = None,
    frames: Frames = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page, figures, tables and metrics.json.")
    ] = None,
    device: Device = "auto",
    format: Format = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare predictions of a network with weak labels, or with labels of your own."""
    with exit_codes(f"The report in {report} was not written." if report else ""):
        from phaseseg.api import evaluate, load_model
        from phaseseg.report import duration

        with usage_errors():
            for width in boundary_width or ():
                if not (isfinite(width) and width >= 0):
                    raise ValueError(f"--boundary-width must be a length in Å not below 0, found {width}.")
            _writable_folder(report)
            readers = _readers(input, types, frames, format, fields=reference != "weak")
            fitting = _readers(baseline_data or [], types, None, format, fields=False)
        network = load_model(model, "segmentation")
        start = perf_counter()
        name = input[0].name if len(input) == 1 else f"{len(input)} files"
        with frame_progress(name, shown=not quiet and not as_json) as counted:
            runs = {run: counted(reader(), f"evaluating {run}") for run, reader in readers.items()}
            result = evaluate(
                runs, network, reference=reference, boundary_width=boundary_width or None,
                baselines=baselines, members=members, device=device,  # type: ignore[arg-type]
                baseline_data={run: reader() for run, reader in fitting.items()},
            )  # fmt: skip
        seconds = perf_counter() - start
        about = _about(network, input, seconds)
        if report is not None:
            page = result.write(report, about)
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            typer.echo(json.dumps({**about, **result.to_dict()}, ensure_ascii=False, allow_nan=False))
        if not quiet:
            for sentence in result.messages:
                note(sentence)
            if not as_json:
                for one in result.shown(name):
                    if isinstance(one, str):
                        results_console().print(one)
                    else:
                        print_table(one)
            n = len(result)
            note(f"{n:,} frame{'s' * (n > 1)} evaluated in {duration(seconds)}.")


def _writable_folder(folder: Path | None) -> None:
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: this is a file. Give the name of a folder.")


def _readers(
    paths: Sequence[Path], types: str | None, frames: str | None, file_format: str | None, fields: bool
) -> dict[str, Callable[[], Iterator[Frame]]]:
    """What reads each file, by the name of the file, or its path where two have one name."""
    names = [path.name for path in paths]
    readers = {}
    for path, name in zip(paths, names, strict=True):
        shown = name if names.count(name) == 1 else str(path)
        readers[shown] = frame_reader(path, types, frames, None, file_format, fields=fields)
        readers[shown]()  # a file that is not there is told before the work starts
    return readers


def _about(network: Any, inputs: Sequence[Path], seconds: float) -> dict[str, Any]:
    return {
        "version": __version__,
        "checkpoint": {"name": network.name, "hash": network.checkpoint.hash},
        "inputs": [path.name for path in inputs],
        "seconds": seconds,
    }


# -------------------------------------------------------------------------------------- select


def select_command(
    input: Annotated[list[Path], typer.Argument(help="Trajectories to choose from.")],
    model: Model,
    n: Annotated[int, typer.Option("-n", "--number", help="How many frames.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="List to write: .csv or .json.")
    ] = None,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(help="Trajectory that is labeled already: others are wanted; may be repeated."),
    ] = None,
    types: Types = None,
    frames: Frames = None,
    device: Device = "auto",
    format: Format = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose the frames most worth labeling next: uncertain ones that differ from each other."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.api import load_model
        from phaseseg.families.segmentation.selection import choice_table, describe, select_frames
        from phaseseg.fields import plain
        from phaseseg.io import write_table

        with usage_errors():
            if n < 1:
                raise ValueError(f"-n must be at least 1, found {n}.")
            if output is not None and output_kind(output, input[0]) != "tables":
                raise ValueError(f"{output.name}: the list is written as .csv or .json.")
            readers = _readers(input, types, frames, format, fields=False)
            known = _readers(labeled or [], types, None, format, fields=False)
        network = load_model(model, "segmentation")
        name = input[0].name if len(input) == 1 else f"{len(input)} files"
        look = partial(describe, model=network, device=device)
        with frame_progress(name, shown=not quiet and not as_json) as counted:
            candidates, others = (
                [
                    look(frame, run=run, number=_number(frame, k))
                    for run, reader in some.items()
                    for k, frame in enumerate(counted(reader(), f"looking at {run}"))
                ]
                for some in (readers, known)
            )
        table = choice_table(select_frames(candidates, n, labeled=others))
        if output is not None:
            write_table(output, table)
        if as_json:
            content = {"model": network.name, "chosen": plain(table)}
            typer.echo(json.dumps(content, ensure_ascii=False, allow_nan=False))
        elif not quiet:
            _print_choice(table, len(candidates))
        if output and not quiet:
            note(f"Written: {output}")


def _number(frame: Frame, k: int) -> int:
    """Number of a frame in its file, of which it is the k-th that was read."""
    found = re.search(r"frame (\d+)$", frame.source)
    return int(found[1]) if found else k


def _print_choice(table: Table, n_candidates: int) -> None:
    from rich.table import Table as RichTable

    shown = RichTable(title=f"{table.title}, of {n_candidates}", title_justify="left", title_style="bold")
    for heading in table.columns:
        shown.add_column(heading, justify="left" if heading == "file" else "right", overflow="fold")
    for row in table.rows():
        cells = []
        for heading, value in row.items():
            if isinstance(value, str):
                cells.append(value)
            elif heading in ("frame", "timestep"):
                cells.append(f"{value:.0f}" if isfinite(value) else "–")
            else:
                cells.append(f"{value:.4g}" if isfinite(value) else "–")
        shown.add_row(*cells)
    results_console().print(shown)
