"""The command line: `phaseseg predict`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

MODEL = "segmentation/gat-v1"


def predict_command(
    input: Annotated[
        Path,
        typer.Argument(help="LAMMPS dump, extended XYZ, POSCAR, XDATCAR, GRO or what ASE reads; gz too."),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Name of a checkpoint (`phaseseg models list`) or its file."),
    ] = MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Frames (.xyz, .extxyz, .dump, .lammpstrj, each also .gz) or tables (.csv, .json).",
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Probability from which on an atom is rich.")] = 0.5,
    boundary_width: Annotated[
        float | None, typer.Option(help="Thickness of the boundary, Å; that of the training if left out.")
    ] = None,
    boundary: Annotated[
        str, typer.Option(help="interface | voxels (as in the paper) | learned (where the network has it)")
    ] = "interface",
    device: Annotated[
        str, typer.Option(help="auto | cpu | torch (on the processor) | cuda (torch on a GPU)")
    ] = "auto",
    types: Annotated[
        str | None, typer.Option(help="Species of the types 1, 2, ... of a dump: Fe,Mg,Si,O,N.")
    ] = None,
    keep: Annotated[str, typer.Option(help="Rich domains that count: all | largest")] = "all",
    min_volume: Annotated[
        float | None, typer.Option(help="Smallest rich domain, Å^3; that of the training if left out.")
    ] = None,
    bulk_distance: Annotated[float, typer.Option(help="Distance from which on a phase is bulk, Å.")] = 5.0,
    dt: Annotated[float | None, typer.Option(help="ps per MD step, where the file holds no times.")] = None,
    frames: Annotated[str | None, typer.Option(help="Which frames, from 0: start:stop:step.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that work on frames.")] = 1,
    format: Annotated[str | None, typer.Option(help="Format of INPUT where its name does not tell.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for an HTML report, figures and tables.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable results on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Tell the phases apart with a trained network: phase, probability and uncertainty of every atom."""
    from phaseseg import cli

    with cli._exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.predict import load_model, predict

        network = load_model(model)
        options = {
            "threshold": threshold, "boundary_width": boundary_width, "boundary": boundary, "keep": keep,
            "min_volume": min_volume, "bulk_distance": bulk_distance,
        }  # fmt: skip
        with cli._usage():
            rule = network.rule(**options)
            network.check_device(device)
            if workers < 1:
                raise ValueError(f"--workers must be at least 1, found {workers}.")
            kind = cli._output_kind(output, input)
            reader = cli._reader(input, types, frames, dt, format, fields=kind == "frames")
            reader()
        # Processes get the name of the file, and each reads it once.
        label = partial(predict, model=network if workers == 1 else model, device=device, **options)  # type: ignore[arg-type]
        with cli._frame_progress(input.name, shown=not quiet and not as_json) as counted:
            run = cli._Labeling(
                input.name, rule, label=label, done="predicted", workers=workers,
                settings={"device": device, "sha256": network.checkpoint.hash},
            )  # fmt: skip
            cli._write_or_drop(
                counted(run.results(reader()), f"predicting with {network.name}", 30),
                output if kind == "frames" else None,
            )
        cli._finish(run, output if kind == "tables" else None, report, as_json=as_json, quiet=quiet)
        if output and not quiet:
            cli._note(f"Written: {output}")
