"""Options that several words of the command line have, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Input = Annotated[
    Path, typer.Argument(help="LAMMPS dump, extended XYZ, POSCAR, XDATCAR, GRO or what ASE reads; gz too.")
]
Trajectories = Annotated[
    list[Path], typer.Argument(help="Trajectories: LAMMPS dumps, extended XYZ or what ASE reads; gz too.")
]
Types = Annotated[str | None, typer.Option(help="Species of the types 1, 2, ... of a dump: Fe,Mg,Si,O,N.")]
Units = Annotated[str | None, typer.Option(help="lj if the file is in reduced units but does not say so.")]
Frames = Annotated[str | None, typer.Option(help="Frames of a file, counted from 0: start:stop:step.")]
TimeStep = Annotated[float | None, typer.Option(help="ps per MD step, if the file holds no times.")]
Format = Annotated[str | None, typer.Option(help="Format of the input, if its name does not show it.")]
Workers = Annotated[int, typer.Option(help="Number of processes that work on frames.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Name of a checkpoint (`phaseseg models list`) or its file.")
]
Device = Annotated[str, typer.Option(help="auto | cpu | torch (on the processor) | cuda (torch on a GPU)")]
FramesOrTables = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o",
        help="Frames (.xyz, .extxyz, .dump, .lammpstrj, each also .gz) or tables (.csv, .json).",
    ),
]  # fmt: skip
ReportFolder = Annotated[Path | None, typer.Option(help="Folder for an HTML report, figures and tables.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable results on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

# -------------------------------------------------------------------------------------- values


def split_names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(","))


def number_or_name(text: str) -> Any:
    """A number, or the name of a rule."""
    try:
        return float(text)
    except ValueError:
        return text


def numbers(text: str, flag: str, example: str) -> tuple[float, ...]:
    """Numbers with commas between them; ValueError for anything else, with the example."""
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise ValueError(f"{flag} must be numbers with commas, as {example}, found {text!r}.") from None


def at_least(flag: str, value: int, low: int) -> None:
    """Raise ValueError for a number below the lowest."""
    if value < low:
        raise ValueError(f"{flag} must be at least {low}, found {value}.")
