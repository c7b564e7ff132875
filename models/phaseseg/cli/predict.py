"""`phaseseg predict`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

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
    usage_errors,
    write_or_drop,
)
from phaseseg.families.segmentation.config import PredictionRule

# That of `load_model`, whose module would make `--help` wait for NumPy.
MODEL = "segmentation/gat-v1"


def predict_command(
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
        float, typer.Option(help="Probability from which on an atom is rich.")
    ] = PredictionRule.threshold,
    boundary_width: Annotated[
        float | None, typer.Option(help="Thickness of the boundary, Å; that of the training if left out.")
    ] = None,
    boundary: Annotated[
        str, typer.Option(help="interface | voxels (as in the paper) | learned (where the network has it)")
    ] = PredictionRule.boundary,
    device: Device = "auto",
    types: Types = None,
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
    """Tell the phases apart with a trained network: phase, probability and uncertainty of every atom."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.predict import load_model, predict

        network = load_model(model)
        options = {
            "threshold": threshold, "boundary_width": boundary_width, "boundary": boundary, "keep": keep,
            "min_volume": min_volume, "bulk_distance": bulk_distance,
        }  # fmt: skip
        with usage_errors():
            rule = network.rule(**options)
            network.check_device(device)
            if workers < 1:
                raise ValueError(f"--workers must be at least 1, found {workers}.")
            kind = output_kind(output, input)
            reader = frame_reader(input, types, frames, dt, format, fields=kind == "frames")
            reader()
        # Processes get the name of the file, and each reads it once.
        label = partial(predict, model=network if workers == 1 else model, device=device, **options)  # type: ignore[arg-type]
        with frame_progress(input.name, shown=not quiet and not as_json) as counted:
            run = Labeling(
                input.name, rule, label=label, done="predicted", workers=workers,
                settings={"device": device, "sha256": network.checkpoint.hash},
            )  # fmt: skip
            write_or_drop(
                counted(run.results(reader()), f"predicting with {network.name}", 30),
                output if kind == "frames" else None,
            )
        finish(run, output if kind == "tables" else None, report, as_json=as_json, quiet=quiet)
        if output and not quiet:
            note(f"Written: {output}")
