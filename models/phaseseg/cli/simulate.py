"""`phaseseg simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from phaseseg.cli.console import (
    Quiet,
    UsageError,
    exit_codes,
    note,
)

simulate_app = typer.Typer(no_args_is_help=True, help="Make trajectories to try things on.")


@simulate_app.command("melt")
def simulate_melt_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="LAMMPS dump to write; .gz compresses.")],
    temperature: Annotated[float, typer.Option(help="K.")] = 3000.0,
    replicate: Annotated[int, typer.Option(help="n gives n^3 x 520 atoms.")] = 1,
    steps: Annotated[int, typer.Option(help="MD steps after the melt has separated.")] = 18000,
    seed: Annotated[int, typer.Option(help="Another seed is another melt.")] = 1,
    every: Annotated[int | None, typer.Option(help="Steps between frames; 2 ps if left out.")] = None,
    composition: Annotated[
        str, typer.Option(help="metal-silicate | oxidized | metal | silicate")
    ] = "metal-silicate",
    equilibration: Annotated[float, typer.Option(help="Factor on the time before production.")] = 1.0,
    timestep: Annotated[
        float | None, typer.Option(help="ps; 0.001 if left out, half from 10,000 K on.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate the demixing Fe-Mg-Si-O-N melt with LAMMPS (a pair model, not ab initio)."""
    from phaseseg.report import duration

    with exit_codes():
        from phaseseg.simulate import simulate_melt

        console = Console(stderr=True)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(), console=console, transient=True, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        try:
            with bar:
                task = bar.add_task("starting", total=1.0)
                run = simulate_melt(
                    output, temperature=temperature, replicate=replicate, steps=steps, seed=seed, every=every,
                    composition=composition, equilibration=equilibration, timestep=timestep, resume=resume,
                    progress=lambda done, line: bar.update(task, completed=done, description=line),
                )  # fmt: skip
        except (ValueError, FileExistsError, FileNotFoundError) as error:
            raise UsageError(str(error)) from None
        if not quiet:
            note(
                f"{run.n_frames} frames of {run.n_atoms:,} atoms in {duration(run.seconds)}: "
                f"{run.temperature:.0f} K, {run.pressure:.1f} GPa.\nWritten: {run.output}"
            )
