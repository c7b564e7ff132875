"""`phaseseg simulate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

Output = Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ to write; .gz compresses.")]
Particles = Annotated[int, typer.Option("--n", help="Number of particles.")]
CoolingSteps = Annotated[int, typer.Option(help="MD steps from T = 2 to 0.05.")]
Temperatures = Annotated[
    str | None, typer.Option(help="At which to write, with commas; 21 from 1.99 to 0.05 if left out.")
]
Seed = Annotated[int, typer.Option(help="Another seed is an independent run.")]
Inherent = Annotated[
    bool, typer.Option("--inherent", help="Minimize each frame, too: NAME.inherent.xyz and the energies.")
]
Equilibration = Annotated[int, typer.Option(help="MD steps at T = 2 before cooling.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]

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
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Simulate the demixing Fe-Mg-Si-O-N melt with LAMMPS (a pair model, not ab initio)."""
    from phaseseg.report import duration

    with _simulating(quiet) as progress:
        from phaseseg.simulate import simulate_melt

        run = simulate_melt(
            output, temperature=temperature, replicate=replicate, steps=steps, seed=seed, every=every,
            composition=composition, equilibration=equilibration, timestep=timestep, resume=resume,
            progress=progress,
        )  # fmt: skip
    if not quiet:
        note(
            f"{run.n_frames} frames of {run.n_atoms:,} atoms in {duration(run.seconds)}: "
            f"{run.temperature:.0f} K, {run.pressure:.1f} GPa.\nWritten: {run.output}"
        )


@simulate_app.command("ka2d")
def simulate_ka2d_command(
    output: Output,
    n: Particles = 4320,
    b_fraction: Annotated[float, typer.Option(help="Share of B.")] = 0.35,
    cooling_steps: CoolingSteps = 200_000,
    temperatures: Temperatures = None,
    seed: Seed = 1,
    inherent: Inherent = False,
    density: Annotated[float, typer.Option(help="Particles per sigma^2.")] = 1.2,
    equilibration_steps: Equilibration = 20_000,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Cool the Kob-Andersen mixture in two dimensions from T = 2 into a glass, with LAMMPS."""
    _kob_andersen(
        output, 2, n, b_fraction, cooling_steps, temperatures, seed, inherent, density, equilibration_steps,
        resume, quiet,
    )  # fmt: skip


@simulate_app.command("ka3d")
def simulate_ka3d_command(
    output: Output,
    n: Particles = 4096,
    b_fraction: Annotated[float, typer.Option(help="Share of B.")] = 0.2,
    cooling_steps: CoolingSteps = 200_000,
    temperatures: Temperatures = None,
    seed: Seed = 1,
    inherent: Inherent = False,
    density: Annotated[float, typer.Option(help="Particles per sigma^3.")] = 1.2,
    equilibration_steps: Equilibration = 20_000,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Cool the Kob-Andersen mixture in three dimensions from T = 2 into a glass, with LAMMPS."""
    _kob_andersen(
        output, 3, n, b_fraction, cooling_steps, temperatures, seed, inherent, density, equilibration_steps,
        resume, quiet,
    )  # fmt: skip


def _kob_andersen(
    output: Path,
    dimensions: int,
    n: int,
    b_fraction: float,
    cooling_steps: int,
    temperatures: str | None,
    seed: int,
    inherent: bool,
    density: float,
    equilibration_steps: int,
    resume: bool,
    quiet: bool,
) -> None:
    from phaseseg.report import duration

    with _simulating(quiet) as progress:
        from phaseseg.simulate import simulate_kob_andersen

        chosen = {} if temperatures is None else {"temperatures": _numbers(temperatures)}
        run = simulate_kob_andersen(
            output, dimensions=dimensions, n_particles=n, b_fraction=b_fraction, cooling_steps=cooling_steps,
            seed=seed, inherent=inherent, density=density, equilibration_steps=equilibration_steps,
            resume=resume, progress=progress, **chosen,
        )  # fmt: skip
    if not quiet:
        energy = "" if run.inherent_energy is None else f", {run.inherent_energy:.4f} at the minimum"
        minimized = "" if run.inherent is None else f", {run.inherent}"
        note(
            f"{run.n_frames} frames of {run.n_particles:,} particles in {duration(run.seconds)}; energy "
            f"{run.energy:.4f} per particle at T = {run.temperature:g}{energy}.\n"
            f"Written: {run.output}{minimized}"
        )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--temperatures must be numbers with commas, as 1.99,0.44,0.05, found {text!r}."
        ) from None


@contextmanager
def _simulating(quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """A bar to report to, and errors in the arguments as such."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:5.1f} %"),
        TimeElapsedColumn(), console=console, transient=True, disable=quiet or not console.is_terminal,
    )  # fmt: skip
    with exit_codes():
        try:
            with bar:
                task = bar.add_task("starting", total=1.0)
                yield lambda done, line: bar.update(task, completed=done, description=line)
        except (ValueError, FileExistsError, FileNotFoundError) as error:
            raise UsageError(str(error)) from None
