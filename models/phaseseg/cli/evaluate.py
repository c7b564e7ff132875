"""`phaseseg evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.families import FAMILIES
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, option_flags, refuse_others, with_flags
from phaseseg.terminal.options import (
    AsJson,
    Device,
    Format,
    Frames,
    Model,
    Quiet,
    Trajectories,
    Types,
    Units,
)
from phaseseg.terminal.run import check_folder, name_of, run_readers
from phaseseg.terminal.show import counted, frame_bar, note, notes, show, show_json
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.frame import Frame


def evaluate_word() -> Callable[..., None]:
    """The word, with the options of all families."""
    return with_flags(_evaluate, option_flags(FAMILIES.values(), "evaluate"), after="model")


def _evaluate(
    context: typer.Context,
    given: Mapping[Flag, Any],
    input: Trajectories,
    model: Model,
    types: Types = None,
    units: Units = None,
    frames: Frames = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page, figures, tables and metrics.json.")
    ] = None,
    device: Device = "auto",
    format: Format = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare the predictions of a network with a reference."""
    with exit_codes(f"The report in {report} was not written." if report else ""):
        from phaseseg.api import evaluate, load_model
        from phaseseg.report import duration

        with usage_errors():
            check_folder(report)
            for flag, value in given.items():
                flag.check(value)
            how = {"types": types, "units": units, "format": format}
            readers = run_readers(input, frames=frames, fields=True, **how)
            options = {
                flag.name: _runs(value if flag.multiple else [value], **how)
                if flag.kind is Path else flag.value(value)
                for flag, value in given.items()
            }  # fmt: skip
        network = load_model(model)
        with usage_errors():
            refuse_others(given, network.checkpoint.family, network.name)
        start, name = perf_counter(), name_of(input)
        with frame_bar(name, shown=not quiet and not as_json) as bar:
            runs = {run: bar.frames(read(), f"evaluating {run}") for run, read in readers.items()}
            result = evaluate(runs, network, device=device, **options)  # type: ignore[arg-type]
        seconds = perf_counter() - start
        about = {
            "version": __version__, "checkpoint": {"name": network.name, "hash": network.checkpoint.hash},
            "inputs": [path.name for path in input], "seconds": seconds,
        }  # fmt: skip
        if report is not None:
            page = result.write(report, about)
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            show_json({**about, **result.to_dict()})
        if not quiet:
            notes(result.messages)
            if not as_json:
                show(result.shown(name))
            note(f"{counted(len(result), 'frame')} evaluated in {duration(seconds)}.")


def _runs(paths: Sequence[Path], **how: Any) -> dict[str, Iterator[Frame]]:
    return {run: read() for run, read in run_readers(paths, **how).items()}
