"""`phaseseg evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from phaseseg.display import plural
from phaseseg.families import FAMILIES, Mapped
from phaseseg.terminal import options
from phaseseg.terminal.cluster import workers_at
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, option_flags, refuse_others, with_flags
from phaseseg.terminal.run import add_atoms, check_folder, name_of, run_readers
from phaseseg.terminal.show import FrameBar, frame_bar, note, show, show_json
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
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
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
        from phaseseg.trajectory import over_runs

        with usage_errors():
            options.at_least("--workers", workers, 1)
            options.one_of_both(workers, scheduler)
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
        with workers_at(scheduler) as cluster, frame_bar(name, shown=not quiet and not as_json) as bar:
            over: Mapped = partial(over_runs, workers=workers)
            if cluster is not None:
                over = partial(cluster.over_runs, whole=scene is not None)
            result = evaluate(
                readers, network, device=device, mapped=partial(_counted, over, bar),  # type: ignore[arg-type]
                seen=None if scene is None else scene.add, **chosen,
            )  # fmt: skip
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


def _counted(
    over: Mapped, bar: FrameBar, function: Callable[[Any], Any], runs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """The results of `over`, counted by the bar, which hears what the readers say."""
    for run, frame, result in bar.frames(over(function, runs), "evaluating"):
        bar.heard.add(frame.messages)
        yield run, frame, result
