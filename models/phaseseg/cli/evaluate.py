"""`phaseseg evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from phaseseg.display import plural
from phaseseg.families import FAMILIES
from phaseseg.terminal import options
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, option_flags, refuse_others, with_flags
from phaseseg.terminal.run import add_atoms, check_folder, name_of, run_readers
from phaseseg.terminal.show import frame_bar, note, show, show_json
from phaseseg.version import __version__


def evaluate_word() -> Callable[..., None]:
    """Build the command, with the options of all families."""
    return with_flags(_evaluate, option_flags(FAMILIES.values(), "evaluate"), after="model")


def _evaluate(
    context: typer.Context,
    given: Mapping[Flag, Any],
    input: options.Trajectories,
    model: options.Model,
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    units: options.Units = None,
    frames: options.Frames = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page, figures, tables and metrics.json.")
    ] = None,
    view: options.View = False,
    device: options.Device = "auto",
    format: options.Format = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare the predictions of a network with a reference."""
    with exit_codes(f"The report in {report} was not written." if report else ""):
        from phaseseg.api import evaluate, load_model
        from phaseseg.report import duration

        with usage_errors():
            check_folder(report)
            scene = options.scene(view, report)
            for flag, value in given.items():
                flag.check(value)
            how = {"types": types, "names": names, "cell": cell, "units": units, "format": format}
            readers = run_readers(input, frames=frames, fields=True, **how)
            chosen = {
                flag.name: {
                    run: read()
                    for run, read in run_readers(value if flag.multiple else [value], **how).items()
                }
                if flag.kind is Path else flag.value(value)
                for flag, value in given.items()
            }  # fmt: skip
        network = load_model(model)
        with usage_errors():
            refuse_others(given, network.checkpoint)
        start, name = perf_counter(), name_of(input)
        with frame_bar(name, shown=not quiet and not as_json) as bar:
            runs = {run: bar.frames(read(), f"evaluating {run}") for run, read in readers.items()}
            seen = None if scene is None else scene.add
            result = evaluate(runs, network, device=device, seen=seen, **chosen)  # type: ignore[arg-type]
        seconds = perf_counter() - start
        checkpoint = network.checkpoint
        about = {
            "version": __version__, "checkpoint": {"name": checkpoint.name, "hash": checkpoint.hash},
            "inputs": [path.name for path in input], "seconds": seconds,
        }  # fmt: skip
        if report is not None:
            page = result.write(report, about)
            if scene is not None:
                add_atoms(page, scene, name)
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            show_json({**about, **result.to_dict()})
        if not quiet:
            note(*bar.heard.messages(), *result.messages)
            if not as_json:
                show(result.shown(name))
            note(f"{plural(len(result), 'frame')} evaluated in {duration(seconds)}.")
