"""`phaseseg evaluate` and `phaseseg select`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

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
    results_console,
    usage_errors,
)
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.segmentation.evaluation import Evaluation, Method
    from phaseseg.families.segmentation.model import SegmentationModel
    from phaseseg.fields import Table
    from phaseseg.frame import Frame

# Frames that baselines are fitted to where nothing else is at hand.
FITTED = 8


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
        from phaseseg.api import load_model
        from phaseseg.families.segmentation.evaluation import WIDTHS, evaluate
        from phaseseg.report import duration

        with usage_errors():
            widths = tuple(boundary_width or WIDTHS)
            for width in widths:
                if not (isfinite(width) and width >= 0):
                    raise ValueError(f"--boundary-width must be a length in Å not below 0, found {width}.")
            _writable_folder(report)
            readers = _readers(input, types, frames, format, fields=reference != "weak")
            fitting = _readers(baseline_data or [], types, None, format, fields=False)
        network = load_model(model, "segmentation")
        start = perf_counter()
        beside: list[Method] = []
        notes: list[str] = []
        if baselines or baseline_data:
            beside, sentence = _baselines(network, fitting or readers, given=bool(fitting))
            notes.append(sentence)
        name = input[0].name if len(input) == 1 else f"{len(input)} files"
        with frame_progress(name, shown=not quiet and not as_json) as counted:
            runs = {run: counted(reader(), f"evaluating {run}") for run, reader in readers.items()}
            result = evaluate(
                runs, network, reference=reference, widths=widths, baselines=beside, members=members,
                device=device,
            )  # fmt: skip
        result.messages.update(dict.fromkeys(notes))
        seconds = perf_counter() - start
        about = _about(network, input, seconds)
        if report is not None:
            from phaseseg.families.segmentation.evaluation_report import write_evaluation

            page = write_evaluation(report, result, about)
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            typer.echo(json.dumps({**about, **result.to_dict()}, ensure_ascii=False, allow_nan=False))
        if not quiet:
            for sentence in result.messages:
                note(sentence)
            if not as_json:
                _print_evaluation(result, name)
            n = len(result.rows)
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


def _baselines(
    network: SegmentationModel, readers: Mapping[str, Callable[[], Iterator[Frame]]], given: bool
) -> tuple[list[Method], str]:
    """The methods without a network, and a sentence on what they were fitted to."""
    from phaseseg.families.segmentation.baselines import baselines, fit_thresholds

    kept = network.checkpoint.card.get("baselines")
    if kept and not given:
        words = "the data of the checkpoint, as its card says"
        thresholds = {key: float(kept[key]) for key in ("fraction", "bins", "density", "sigma")}
    else:
        most = None if given else FITTED
        frames = islice((frame for reader in readers.values() for frame in reader()), most)
        thresholds = fit_thresholds(frames, network.label_rule)
        words = "--baseline-data" if given else "the first of the evaluated frames themselves, in their favor"
    return baselines(network.label_rule, thresholds), f"Thresholds of the baselines were fitted to {words}."


def _about(network: SegmentationModel, inputs: Sequence[Path], seconds: float) -> dict[str, Any]:
    return {
        "version": __version__,
        "checkpoint": {"name": network.name, "hash": network.checkpoint.hash},
        "label_rule": network.label_rule.to_dict(),
        "inputs": [path.name for path in inputs],
        "seconds": seconds,
    }


def _print_evaluation(result: Evaluation, name: str) -> None:
    from phaseseg.report import value_and_error

    pooled = result.pooled()
    n = pooled.n_frames
    agree = int(pooled.verdicts.trace())
    console = results_console()
    what = "1 frame" if n == 1 else f"{n} frames, ± standard deviation over them"
    scores = list(result.score_table().rows())
    several = len(result.methods) > 1

    def put(title: str, headings: Sequence[str]) -> None:
        from rich.table import Table as RichTable

        shown = RichTable(title=title, title_justify="left", title_style="bold")
        shown.add_column("method")
        for heading in headings:
            shown.add_column(heading.partition(",")[0], justify="right", no_wrap=True)
        for k, row in enumerate(scores):
            cells = [_score(row[h], row.get(f"{h} ±", float("nan"))) for h in headings]
            shown.add_row(row["method"], *cells, style="bold" if several and k == 0 else None)
        console.print(shown)

    put(
        f"{name} against {result.reference} ({what})",
        ("two-class error", "AUC", "calibration error", "shift (Å)", "rms (Å)"),
    )
    for width in result.widths:
        kinds = ("macro F1", "poor F1", "rich F1", "boundary F1", "micro F1")
        put(f"three classes, boundary {width:g} Å", [f"{kind}, {width:g} Å" for kind in kinds])
    _print_contents(console, result.content_table(), min(result.widths))
    times = [row for row in result.time_table().rows() if row["method"] == result.methods[0]]
    parts = ", ".join(f"{row['stage']} {value_and_error(row['seconds a frame'])} s" for row in times)
    console.print(f"Phases as in the reference: {agree} of {n} frames. A frame takes: {parts}.")


def _score(value: float, error: float) -> str:
    """Four digits behind the point, as scores are compared by; five of what is nearly 1."""
    if not isfinite(value):
        return "–"
    digits = 5 if 0.999 < value < 1 else 4
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if isfinite(error) else "")


def _print_contents(console: Console, table: Table, width: float) -> None:
    from rich.table import Table as RichTable

    rows = list(table.rows())
    if not any(isfinite(row["reference (wt%)"]) for row in rows):
        return
    shown = RichTable(
        title=f"composition without the boundary of {width:g} Å, wt%", title_justify="left",
        title_style="bold",
    )  # fmt: skip
    elements = list(dict.fromkeys(str(row["element"]) for row in rows))
    shown.add_column("phase")
    shown.add_column("")
    for element in elements:
        shown.add_column(element, justify="right", no_wrap=True)
    found = {(row["phase"], row["element"]): row for row in rows}
    for phase in ("rich", "poor"):
        for label, column in (("reference", "reference (wt%)"), ("prediction", "prediction (wt%)")):
            values = [found[phase, e][column] for e in elements]
            shown.add_row(phase, label, *(f"{v:.3f}" if isfinite(v) else "–" for v in values))
        changes = [found[phase, e]["relative difference (%)"] for e in elements]
        shown.add_row(
            phase, "difference", *(f"{v:+.2f} %" if isfinite(v) else "–" for v in changes), end_section=True
        )
    console.print(shown)


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
            rows = [
                {key: None if isinstance(value, float) and not isfinite(value) else value
                 for key, value in row.items()}
                for row in table.rows()
            ]  # fmt: skip
            typer.echo(json.dumps({"model": network.name, "chosen": rows}, ensure_ascii=False))
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
