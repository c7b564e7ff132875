"""`phaseseg label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phaseseg.cli.console import (
    AsJson,
    BulkDistance,
    Format,
    Frames,
    Input,
    Keep,
    Labeling,
    Quiet,
    ReportFolder,
    Species,
    TimeStep,
    Types,
    exit_codes,
    finish,
    frame_progress,
    frame_reader,
    note,
    number_or_name,
    output_kind,
    split_names,
    usage_errors,
    write_or_drop,
)
from phaseseg.families.segmentation.rules import LabelRule

DEFAULT = LabelRule()
SPECIES = ",".join(DEFAULT.species)


def label_command(
    input: Input,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Labeled frames (.xyz, .extxyz, .dump, .lammpstrj, each also .gz), or tables (.csv, .json).",
        ),
    ] = None,
    species: Species = SPECIES,
    types: Types = None,
    sigma: Annotated[float, typer.Option(help="Width of the Gaussian, Å.")] = DEFAULT.sigma,
    voxel: Annotated[float | None, typer.Option(help="Voxel edge, Å; sigma/2 if left out.")] = None,
    field: Annotated[str, typer.Option(help="number | mole-fraction")] = DEFAULT.field,
    boundary_width: Annotated[
        float, typer.Option(help="Thickness of the boundary, Å.")
    ] = DEFAULT.boundary_width,
    threshold: Annotated[str, typer.Option(help="steepest | two-means | midpoint | a number")] = str(
        DEFAULT.threshold
    ),
    pooled: Annotated[
        bool, typer.Option("--pooled", help="One cut for all frames (reads the file twice).")
    ] = False,
    average: Annotated[float | None, typer.Option(help="Average densities over ± this time, ps.")] = None,
    dt: TimeStep = None,
    keep: Keep = DEFAULT.keep,
    min_volume: Annotated[float, typer.Option(help="Smallest rich domain, Å^3.")] = DEFAULT.min_volume,
    at: Annotated[str, typer.Option(help="Decide at the: atom | voxel")] = DEFAULT.at,
    phases: Annotated[str, typer.Option(help="auto, or 2 to cut in any case.")] = str(DEFAULT.phases),
    bulk_distance: BulkDistance = DEFAULT.bulk_distance,
    frames: Frames = None,
    workers: Annotated[int, typer.Option(help="Processes that label frames.")] = 1,
    format: Format = None,
    report: ReportFolder = None,
    boundary_scan: Annotated[
        bool, typer.Option("--boundary-scan", help="Find the boundary width of least variance.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Label every atom as rich, poor or boundary; composition with error bars."""
    with exit_codes(f"{output} was not written." if output else ""):
        with usage_errors():
            rule = LabelRule(
                species=split_names(species), sigma=sigma, voxel=voxel, field=field, at=at, keep=keep,  # type: ignore[arg-type]
                threshold=number_or_name(threshold), min_volume=min_volume, boundary_width=boundary_width,
                phases=2 if phases == "2" else phases, bulk_distance=bulk_distance,  # type: ignore[arg-type]
            )  # fmt: skip
            if workers < 1:
                raise ValueError(f"--workers must be at least 1, found {workers}.")
            if average is not None and not average > 0:
                raise ValueError(f"--average must be a positive time in ps, found {average}.")
            if pooled and not isinstance(rule.threshold, str):
                raise ValueError(
                    "--pooled finds one cut from the frames; it cannot be given as a number too."
                )
            kind = output_kind(output, input)
            reader = frame_reader(input, types, frames, dt, format, fields=kind == "frames")
            reader()
        if average is not None and workers > 1 and not quiet:
            note("--average labels the frames in order, in one process; --workers is not used.")
        with frame_progress(input.name, shown=not quiet and not as_json) as counted:
            if pooled:
                from phaseseg.families.segmentation.labels.weak_labels import pooled_threshold

                rule = pooled_threshold(counted(reader(), "finding one cut"), rule)
            run = Labeling(input.name, rule, average=average, workers=workers, scan=boundary_scan)
            write_or_drop(counted(run.results(reader()), "labeling"), output if kind == "frames" else None)
        finish(run, output if kind == "tables" else None, report, as_json=as_json, quiet=quiet)
        if output and not quiet:
            note(f"Written: {output}")
