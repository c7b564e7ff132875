"""`phaseseg simulate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phaseseg.terminal.errors import UsageError, exit_codes
from phaseseg.terminal.options import Quiet, Resume, numbers
from phaseseg.terminal.show import note, work_bar

if TYPE_CHECKING:
    from phaseseg.families import Progress

simulate_app = typer.Typer(no_args_is_help=True, help="Simulate example trajectories with LAMMPS.")


@simulate_app.command("melt")
def simulate_melt_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="LAMMPS dump to write; .gz compresses.")],
    temperature: Annotated[float, typer.Option(help="Temperature, K.")] = 3000.0,
    replicate: Annotated[
        int, typer.Option(help="Copies of the cell along each axis; n gives n^3 x 520 atoms.")
    ] = 1,
    steps: Annotated[int, typer.Option(help="MD steps of production, after the melt has separated.")] = 18000,
    seed: Annotated[int, typer.Option(help="Random seed; each seed gives an independent melt.")] = 1,
    every: Annotated[int | None, typer.Option(help="MD steps between frames; 2 ps by default.")] = None,
    composition: Annotated[
        str, typer.Option(help="metal-silicate | oxidized | metal | silicate")
    ] = "metal-silicate",
    equilibration: Annotated[float, typer.Option(help="Factor on the equilibration time.")] = 1.0,
    timestep: Annotated[
        float | None, typer.Option(help="Time step, ps; 0.001 by default, 0.0005 from 10,000 K.")
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


def _add_kob_andersen(dimensions: int, particles: int, share: float) -> None:
    def simulate(
        output: Annotated[
            Path, typer.Option("--output", "-o", help="Extended XYZ to write; .gz compresses.")
        ],
        n: Annotated[int, typer.Option("--n", help="Number of particles.")] = particles,
        b_fraction: Annotated[float, typer.Option(help="Fraction of B particles.")] = share,
        cooling_steps: Annotated[int, typer.Option(help="MD steps from T = 2 to 0.05.")] = 200_000,
        temperatures: Annotated[
            str | None,
            typer.Option(help="Comma-separated temperatures of the frames; default: 21 from 1.99 to 0.05."),
        ] = None,
        seed: Annotated[int, typer.Option(help="Random seed; each seed gives an independent run.")] = 1,
        inherent: Annotated[
            bool,
            typer.Option("--inherent", help="Also minimize each frame: NAME.inherent.xyz and energies."),
        ] = False,
        density: Annotated[float, typer.Option(help="Particles per sigma^2 or sigma^3.")] = 1.2,
        equilibration_steps: Annotated[int, typer.Option(help="MD steps at T = 2 before cooling.")] = 20_000,
        resume: Resume = False,
        quiet: Quiet = False,
    ) -> None:
        from phaseseg.report import duration

        with _simulating(quiet) as progress:
            from phaseseg.simulate import simulate_kob_andersen

            chosen = {}
            if temperatures is not None:
                chosen["temperatures"] = numbers(temperatures, "--temperatures", "1.99,0.44,0.05")
            run = simulate_kob_andersen(
                output, dimensions=dimensions, n_particles=n, b_fraction=b_fraction,
                cooling_steps=cooling_steps, seed=seed, inherent=inherent, density=density,
                equilibration_steps=equilibration_steps, resume=resume, progress=progress, **chosen,
            )  # fmt: skip
        if not quiet:
            energy = "" if run.inherent_energy is None else f", {run.inherent_energy:.4f} at the minimum"
            minimized = "" if run.inherent is None else f", {run.inherent}"
            note(
                f"{run.n_frames} frames of {run.n_particles:,} particles in {duration(run.seconds)}; energy "
                f"{run.energy:.4f} per particle at T = {run.temperature:g}{energy}.\n"
                f"Written: {run.output}{minimized}"
            )

    words = {2: "two", 3: "three"}[dimensions]
    text = f"Cool the Kob-Andersen mixture in {words} dimensions from T = 2 to a glass with LAMMPS."
    simulate_app.command(f"ka{dimensions}d", help=text)(simulate)


_add_kob_andersen(2, particles=4320, share=0.35)
_add_kob_andersen(3, particles=4096, share=0.2)


@contextmanager
def _simulating(quiet: bool) -> Iterator[Progress]:
    """Show a progress bar and report invalid arguments as usage errors."""
    with exit_codes():
        try:
            with work_bar(quiet) as progress:
                yield progress
        except (ValueError, FileExistsError, FileNotFoundError) as error:
            raise UsageError(str(error)) from None
