"""`phaseseg metrics`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.cli.console import (
    AsJson,
    Format,
    Frames,
    Quiet,
    ReportFolder,
    Types,
    exit_codes,
    frame_progress,
    frame_reader,
    note,
    output_kind,
    results_console,
    split_names,
    usage_errors,
)
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.liquid_glass.transition.result import Transition
    from phaseseg.fields import Table
    from phaseseg.frame import Frame

COUNTS = (
    "n_disjoint_graphs", "n_bb_edges", "n_isolated_a",
    "disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle",
)  # fmt: skip
FROM_FILE = ("inherent_energy", "potential_energy", "seed", "cooling_steps")
RULES = ("all", "b-only")


def metrics_command(
    input: Annotated[
        list[Path], typer.Argument(help="Trajectories of a glass former: every file is one independent run.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Table to write, a row a frame: .csv (and the analysis beside it) or .json (both in one).",
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(help="Key of the frames that holds their temperature; `temperature` if left out."),
    ] = None,
    temperatures: Annotated[
        str | None,
        typer.Option(help="Temperatures of the frames of each file, in their order, with commas."),
    ] = None,
    b: Annotated[str, typer.Option("--b", help="The species called B; several with commas.")] = "B",
    k: Annotated[int, typer.Option("--k", help="Nearest neighbors of a particle.")] = 2,
    rule: Annotated[str, typer.Option(help="Who chooses neighbors: all | b-only (B alone).")] = "all",
    tg: Annotated[
        float | None, typer.Option("--tg", help="T_g of the test; that of the inherent energy if left out.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the runs; 0 for none.")] = 5000,
    types: Types = None,
    frames: Frames = None,
    workers: Annotated[int, typer.Option(help="Processes that count.")] = 1,
    format: Format = None,
    report: ReportFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Count disjoint graphs, B–B edges and isolated A; test them for a change of slope at T_g."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.families.liquid_glass.transition.analysis import analyze_transition
        from phaseseg.report import duration

        with usage_errors():
            _check(k, rule, tg, bootstrap, workers)
            if temperature is not None and temperatures is not None:
                raise ValueError("--temperature and --temperatures exclude each other; give one of them.")
            listed = _list_of(temperatures)
            key = temperature or "temperature"
            for path in input:
                if output_kind(output, path) == "frames":
                    raise ValueError(f"{output}: the table is written as .csv or .json.")
            if report is not None and report.exists() and not report.is_dir():
                raise ValueError(f"{report}: this is a file. Give the name of a folder.")
            readers = _readers(input, types, frames, format)
        species = split_names(b)
        start = perf_counter()
        name = input[0].name if len(input) == 1 else f"{len(input)} files"
        with frame_progress(name, shown=not quiet and not as_json) as counted:
            count = partial(_count, b=species, k=k, rule=rule)
            rows = _rows(readers, count, workers, lambda found: counted(found, "counting"))
        _put_temperatures(rows, key, listed, required=temperature is not None)
        table = _table(rows)
        seconds = perf_counter() - start
        result, sentence = None, ""
        if any(isfinite(value) for value in table.columns["temperature"]):
            result = analyze_transition(table, glass_temperature=tg, n_bootstrap=bootstrap)
        else:
            sentence = (
                f"No frame has a {key!r}, so metrics are counted but not analyzed; name another key with "
                "--temperature, or give --temperatures."
            )
            if report is not None or tg is not None:
                raise ValueError(sentence)
        settings = {
            "b": list(species), "k": k, "rule": rule, "temperature": key if listed is None else listed,
            "tg": tg, "bootstrap": bootstrap, "version": __version__,
        }  # fmt: skip
        messages = list(result.messages) if result is not None else [sentence]
        content = _content(input, settings, messages, table, result, seconds)
        if output is not None:
            _write(output, table, result, content)
        if report is not None and result is not None:
            from phaseseg.families.liquid_glass.transition.report import write_transition

            page = write_transition(report, result, table, source=name, settings=settings)
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            typer.echo(json.dumps(content, ensure_ascii=False, allow_nan=False))
        if not quiet:
            if not as_json:
                _print(table, result, name)
            for line in messages:
                note(line)
            note(f"{len(table):,} frame{'s' * (len(table) > 1)} counted in {duration(seconds)}.")
            if output is not None:
                note(f"Written: {output}")


def _check(k: int, rule: str, tg: float | None, bootstrap: int, workers: int) -> None:
    if k < 1:
        raise ValueError(f"--k must be at least 1, found {k}.")
    if rule not in RULES:
        raise ValueError(f"--rule must be one of {', '.join(RULES)}, found {rule!r}.")
    if tg is not None and not (isfinite(tg) and tg > 0):
        raise ValueError(f"--tg must be a temperature above 0, found {tg}.")
    if bootstrap < 0:
        raise ValueError(f"--bootstrap must not be below 0, found {bootstrap}.")
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, found {workers}.")


def _list_of(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--temperatures must be numbers with commas, as 1.99,0.44,0.05, found {text!r}."
        ) from None
    if not all(isfinite(value) and value > 0 for value in found):
        raise ValueError(f"--temperatures must be above 0, found {text!r}.")
    return found


def _readers(
    paths: Sequence[Path], types: str | None, frames: str | None, file_format: str | None
) -> dict[str, Callable[[], Iterator[Frame]]]:
    """What reads each run, by the name of its file, or the path where two have one name."""
    names = Counter(path.name for path in paths)
    readers: dict[str, Callable[[], Iterator[Frame]]] = {}
    for path in paths:
        run = path.name if names[path.name] == 1 else str(path)
        if run in readers:
            raise ValueError(f"{path} is given twice; every file is a run of its own.")
        readers[run] = frame_reader(path, types, frames, None, file_format, fields=False)
        readers[run]()  # a file that is not there is told before the work starts
    return readers


def _count(frame: Frame, b: tuple[str, ...], k: int, rule: Any) -> dict[str, Any]:
    """The row of a frame; also called in other processes."""
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics

    fields = glass_metrics(frame, b=b, k=k, rule=rule)
    return {
        "source": frame.source, "n_atoms": frame.n_atoms, "n_dimensions": frame.n_dimensions,
        "info": dict(frame.info), **{name: fields[name] for name in COUNTS},
    }  # fmt: skip


def _rows(
    readers: Mapping[str, Callable[[], Iterator[Frame]]],
    count: Callable[[Frame], dict[str, Any]],
    workers: int,
    counted: Callable[[Iterator[Any]], Iterator[Any]],
) -> list[dict[str, Any]]:
    from phaseseg.trajectory import map_frames

    numbers: list[tuple[str, int]] = []

    def read() -> Iterator[Frame]:
        for run, reader in readers.items():
            for order, frame in enumerate(reader()):
                numbers.append((run, order))
                yield frame

    found = list(counted(map_frames(count, read(), workers=workers)))
    if not found:
        raise ValueError(f"{next(iter(readers))}: there are no frames to count in.")
    rows = [
        {"run": run, "order": order, "frame": _number(row["source"], order), **row}
        for (run, order), row in zip(numbers, found, strict=True)
    ]
    flat = {row["n_dimensions"]: row["source"] for row in reversed(rows)}
    if len(flat) > 1:
        raise ValueError(
            f"{flat[2]} has two dimensions and {flat[3]} three; metrics of the two do not belong into one "
            "analysis. Give them one after the other."
        )
    return rows


def _number(source: str, order: int) -> int:
    """Number of a frame in its file, of which it was read as number `order`."""
    found = re.search(r"frame (\d+)$", source)
    return int(found[1]) if found else order


def _put_temperatures(
    rows: list[dict[str, Any]], key: str, listed: list[float] | None, *, required: bool
) -> None:
    """Give every row its temperature: of the list, of the file, or NaN."""
    if listed is not None:
        for run, n_frames in Counter(row["run"] for row in rows).items():
            if n_frames != len(listed):
                raise ValueError(
                    f"{run}: {n_frames} frames were read, but --temperatures names {len(listed)}; give one "
                    "for each frame."
                )
    for row in rows:
        value = listed[row["order"]] if listed is not None else row["info"].get(key, nan)
        if required and not isfinite(value):
            keys = ", ".join(row["info"]) or "no numbers"
            raise ValueError(
                f"{row['source']}: there is no temperature {key!r}; the frame has {keys}. Name one of these "
                "with --temperature, or give --temperatures."
            )
        if isfinite(value) and value <= 0:
            raise ValueError(
                f"{row['source']}: the temperature is {value:g}; it must be above 0. Give --temperatures."
            )
        row["temperature"] = float(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    import numpy as np

    from phaseseg.fields import Table

    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows])
        for name in ("run", "frame", "temperature", "n_atoms", *COUNTS)
    }
    for name in FROM_FILE:
        values = np.array([float(row["info"].get(name, nan)) for row in rows])
        if np.isfinite(values).any():
            whole = np.isfinite(values).all() and (values == np.round(values)).all()
            columns[name] = values.astype(np.int64) if whole and "energy" not in name else values
    return Table("Structural metrics", columns)


def _content(
    inputs: Sequence[Path],
    settings: Mapping[str, Any],
    messages: Sequence[str],
    table: Table,
    result: Transition | None,
    seconds: float,
) -> dict[str, Any]:
    """What `--json` prints: plain values, and null for what is not a finite number."""
    from phaseseg.fields import plain

    tables = {"frames": table, **(result.tables() if result is not None else {})}
    tg = result.glass_temperature if result is not None else nan
    return {
        "inputs": [path.name for path in inputs],
        "seconds": seconds,
        "settings": dict(settings),
        "glass_temperature": plain(tg),
        "messages": list(messages),
        "tables": plain(tables),
    }


def _write(output: Path, table: Table, result: Transition | None, content: Mapping[str, Any]) -> None:
    from phaseseg.io import write_json, write_table

    if output.suffix.lower() == ".json":
        write_json(output, content)
        return
    write_table(output, table)
    tables = result.tables() if result is not None else {}
    if tables:
        write_table(output, tables)


def _print(table: Table, result: Transition | None, name: str) -> None:
    from rich.table import Table as RichTable

    from phaseseg.display import value_and_error

    console = results_console()
    if result is None:
        shown = RichTable(title=name, title_justify="left", title_style="bold")
        for heading in ("run", "frame", "disjoint graphs", "B–B edges", "isolated A"):
            shown.add_column(heading, justify="left" if heading == "run" else "right", overflow="fold")
        for row in table.rows():
            shown.add_row(*(str(row[column]) for column in ("run", "frame", *COUNTS[:3])))
        console.print(shown)
        return
    n_runs = len(result.runs)
    what = f"mean ± standard error of {n_runs} runs" if n_runs > 1 else "1 run"
    shown = RichTable(title=f"{name} ({what})", title_justify="left", title_style="bold")
    shown.add_column("T", justify="right")
    for metric in result.metrics.values():
        shown.add_column(metric.title, justify="right", no_wrap=True)
    energies = result.energies.get("inherent_energy")
    if energies is not None:
        shown.add_column("inherent energy", justify="right", no_wrap=True)
    for n in reversed(range(len(result.temperature))):
        t = result.temperature[n]
        cells = [value_and_error(metric.mean[n], metric.error[n]) for metric in result.metrics.values()]
        if energies is not None:
            cells.append(f"{energies[0][n]:.4f}" if isfinite(energies[0][n]) else "–")
        below = n > 0 and result.temperature[n - 1] <= result.glass_temperature < t
        shown.add_row(f"{t:g}", *cells, end_section=below)
    console.print(shown)
