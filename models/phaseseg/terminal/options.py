"""Options shared by several commands, and the parsing of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phaseseg.viewer.scene import Scene

Input = Annotated[
    Path,
    typer.Argument(
        help="LAMMPS dump or data file, XYZ, POSCAR, XDATCAR, GRO, PDB, GSD, any ASE format; also .gz, .zst. "
        "A name in quotes with wildcards ('run.*.dump.gz') is one trajectory in many files."
    ),
]
Trajectories = Annotated[
    list[Path],
    typer.Argument(help="Trajectories: LAMMPS dumps, extended XYZ or any ASE format; also .gz, .zst."),
]
Types = Annotated[
    str | None, typer.Option(help="Species of types 1, 2, ..., as in Fe,Mg,O, or of each, as in 0=A,1=B.")
]
Names = Annotated[
    str | None,
    typer.Option(help="What atom names or species in the file stand for, as in MW=X,Me1=C (X: no mass)."),
]
Cell = Annotated[
    str | None,
    typer.Option(
        help="Cell of a file without one, Å: 30,30,30, or with three angles, or nine numbers; open for "
        "molecules and clusters in empty space."
    ),
]
Units = Annotated[str | None, typer.Option(help="lj if the file is in reduced units but does not say so.")]
Frames = Annotated[str | None, typer.Option(help="Frames to read, counted from 0: start:stop:step.")]
TimeStep = Annotated[float | None, typer.Option(help="Time per MD step, ps, if the file contains no times.")]
Format = Annotated[str | None, typer.Option(help="Input format, if the file does not show it.")]
Workers = Annotated[
    int, typer.Option(help="Number of parallel processes, for many frames. Each works on one thread.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        envvar="DASK_SCHEDULER_ADDRESS",
        help="Address of a Dask scheduler (or its .json file), whose workers read, compute and write.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Number of threads, for large frames. Default: one for each physical core.", min=1),
]
Slabs = Annotated[
    str,
    typer.Option(help="Slabs into which a frame is cut: auto (if it would not fit into memory) or a number."),
]
ResumeFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Keep what finished slabs give in this folder until the end; the same command then continues an "
        "interrupted run. Cuts frames into slabs; the workers of --scheduler share the folder.",
    ),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Checkpoint: a name from `phaseseg models list` or a file.")
]
Device = Annotated[str, typer.Option(help="auto | cpu | torch (PyTorch on the CPU) | cuda (PyTorch on GPU)")]
FramesOrTables = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o",
        help="File for frames (.xyz, .extxyz, .dump, .lammpstrj; also .gz, .zst), their columns alone (.npz, "
        ".parquet) or tables (.csv, .json).",
    ),
]  # fmt: skip
ReportFolder = Annotated[Path | None, typer.Option(help="Folder for an HTML report, figures and tables.")]
View = Annotated[bool, typer.Option("--view", help="Put the atoms into the report, to turn in the browser.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

# -------------------------------------------------------------------------------------- values


def scene(view: bool, report: Path | None) -> Scene | None:
    """The scene that collects frames for a report; ValueError without a report."""
    if not view:
        return None
    if report is None:
        raise ValueError("--view is a part of the report; name its folder with --report.")
    from phaseseg.viewer.scene import IN_REPORT, Scene

    return Scene(interface=None, most_bytes=IN_REPORT)


def split_names(text: str) -> tuple[str, ...]:
    """Split comma-separated names."""
    return tuple(name.strip() for name in text.split(","))


def number_or_name(text: str) -> Any:
    """Return a number if the text is one, otherwise the text."""
    try:
        return float(text)
    except ValueError:
        return text


def numbers(text: str, flag: str, example: str) -> tuple[float, ...]:
    """Parse comma-separated numbers; the ValueError for other text shows the example."""
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise ValueError(
            f"{flag} must be comma-separated numbers, as in {example}, found {text!r}."
        ) from None


def at_least(flag: str, value: int, low: int) -> None:
    """Raise ValueError for a number below `low`."""
    if value < low:
        raise ValueError(f"{flag} must be at least {low}, found {value}.")


def left_behind(output: Path | None, resume: Path | None) -> str:
    """What is there after an interruption, in a sentence each."""
    sentences = [f"{output} was not written."] if output else []
    if resume is not None:
        sentences.append(f"Finished slabs are in {resume}; the same command continues.")
    return " ".join(sentences)


def one_of_both(workers: int, scheduler: str | None) -> None:
    """Raise ValueError if processes on this machine and a cluster are asked for."""
    if workers > 1 and scheduler is not None:
        raise ValueError(
            "--workers starts processes on this machine, and --scheduler (or DASK_SCHEDULER_ADDRESS) uses "
            "those of a cluster; give only one of them."
        )
