"""`phaseseg predict`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from phaseseg.cli import predict_glass as glass
from phaseseg.cli.console import (
    AsJson,
    BulkDistance,
    Device,
    Format,
    Frames,
    Input,
    Keep,
    Labeling,
    Model,
    Quiet,
    ReportFolder,
    TimeStep,
    Types,
    exit_codes,
    finish,
    frame_progress,
    frame_reader,
    note,
    output_kind,
    split_names,
    usage_errors,
    write_or_drop,
)
from phaseseg.families.segmentation.rules import PredictionRule

# That of `load_model`, whose module would make `--help` wait for NumPy.
MODEL = "segmentation/gat-v1"


# Options that are of one family alone.
OWN = {
    "segmentation": ("boundary_width", "boundary", "keep", "min_volume", "bulk_distance", "report"),
    "liquid_glass": ("b", "attention", "attention_threshold"),
}


def predict_command(
    context: typer.Context,
    input: Input,
    model: Model = MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Frames (.xyz, .extxyz, .dump, .lammpstrj, each also .gz) or tables (.csv, .json).",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Probability from which on an atom is rich, a configuration a glass.")
    ] = PredictionRule.threshold,
    boundary_width: Annotated[
        float | None, typer.Option(help="Thickness of the boundary, Å; that of the training if left out.")
    ] = None,
    boundary: Annotated[
        str, typer.Option(help="interface | voxels (as in the paper) | learned (where the network has it)")
    ] = PredictionRule.boundary,
    b: Annotated[
        str | None,
        typer.Option(
            "--b", help="liquid_glass: species that are B, with commas, all others A; else they are A and B."
        ),
    ] = None,
    attention: Annotated[
        Path | None, typer.Option(help="liquid_glass: .csv (or .csv.gz) for the edges with their attention.")
    ] = None,
    attention_threshold: Annotated[
        float | None,
        typer.Option(help="liquid_glass: attention from which on an edge is kept; its trough if left out."),
    ] = None,
    device: Device = "auto",
    types: Types = None,
    units: Annotated[
        str | None, typer.Option(help="lj where the file is in reduced units but does not say so.")
    ] = None,
    keep: Keep = PredictionRule.keep,
    min_volume: Annotated[
        float | None, typer.Option(help="Smallest rich domain, Å^3; that of the training if left out.")
    ] = None,
    bulk_distance: BulkDistance = PredictionRule.bulk_distance,
    dt: TimeStep = None,
    frames: Frames = None,
    workers: Annotated[int, typer.Option(help="Processes that work on frames.")] = 1,
    format: Format = None,
    report: ReportFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask a trained network: the phase of every atom of a melt, or whether a mixture is liquid or glass."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.api import load_model, predict

        network = load_model(model)
        family = network.checkpoint.family
        with usage_errors():
            _refuse_others(context, family, network.name)
            network.check_device(device)
            if workers < 1:
                raise ValueError(f"--workers must be at least 1, found {workers}.")
            if units not in (None, "metal", "lj"):
                raise ValueError(f"--units must be lj or metal, found {units!r}.")
            kind = output_kind(output, input)
            options: dict[str, Any]
            if family == "liquid_glass":
                glass.check_edges(attention, input, output)
                options = {
                    "threshold": threshold, "b": None if b is None else split_names(b),
                    "attention": None if attention is None else True,
                    "attention_threshold": attention_threshold,
                }  # fmt: skip
            else:
                options = {
                    "threshold": threshold, "boundary_width": boundary_width, "boundary": boundary,
                    "keep": keep, "min_volume": min_volume, "bulk_distance": bulk_distance,
                }  # fmt: skip
            rule = network.rule(**options)
            reader = frame_reader(input, types, frames, dt, format, fields=kind == "frames", units=units)
            reader()
        # Processes get the name of the file, and each reads it once.
        label = partial(predict, model=network if workers == 1 else model, device=device, **options)  # type: ignore[arg-type]
        settings = {"device": device, "sha256": network.checkpoint.hash}
        with (
            frame_progress(input.name, shown=not quiet and not as_json) as counted,
            glass.edges_file(attention) as edges,
        ):
            run: Labeling | glass.GlassRun
            if family == "liquid_glass":
                run = glass.GlassRun(input.name, rule, label, workers=workers, edges=edges, settings=settings)
            else:
                run = Labeling(
                    input.name, rule, label=label, done="predicted", workers=workers, settings=settings
                )
            write_or_drop(
                counted(run.results(reader()), f"predicting with {network.name}", 30),
                output if kind == "frames" else None,
            )
        tables_to = output if kind == "tables" else None
        if isinstance(run, Labeling):
            finish(run, tables_to, report, as_json=as_json, quiet=quiet)
        else:
            glass.finish(run, tables_to, as_json=as_json, quiet=quiet)
        if not quiet:
            for written in (output, attention):
                if written is not None:
                    note(f"Written: {written}")


def _refuse_others(context: typer.Context, family: str, name: str) -> None:
    """Raise ValueError for options that were given and are of another family."""
    for other, options in OWN.items():
        if other != family:
            for option in options:
                source = context.get_parameter_source(option)
                if source is not None and source.name == "COMMANDLINE":
                    raise ValueError(
                        f"--{option.replace('_', '-')} is an option for networks of the family {other}, and "
                        f"{name} is of the family {family}; leave it out."
                    )
