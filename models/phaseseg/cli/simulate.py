"""`phaseseg simulate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.terminal.errors import UsageError, exit_codes
from phaseseg.terminal.options import Quiet, Resume, numbers
from phaseseg.terminal.show import note, work_bar

if TYPE_CHECKING:
    from phaseseg.families import Progress

simulate_app = typer.Typer(no_args_is_help=True, help="Simulate example trajectories with LAMMPS.")


@simulate_app.command("melt")
def simulate_melt_command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="LAMMPS dump to write; .gz or .zst compresses.")
    ],
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


Output = Annotated[
    Path, typer.Option("--output", "-o", help="Extended XYZ to write; .gz or .zst compresses.")
]
NParticles = Annotated[int, typer.Option("--n", help="Number of particles.")]
BFraction = Annotated[float, typer.Option(help="Fraction of B particles.")]
Density = Annotated[float, typer.Option(help="Particles per sigma^2 or sigma^3.")]
CoolingSteps = Annotated[int, typer.Option(help="MD steps from T = 2 to 0.05.")]
Temperatures = Annotated[
    str | None,
    typer.Option(help="Comma-separated temperatures of the frames; default: 21 from 1.99 to 0.05."),
]
Seed = Annotated[int, typer.Option(help="Random seed; each seed gives an independent run.")]
Inherent = Annotated[
    bool, typer.Option("--inherent", help="Also minimize each frame: NAME.inherent.xyz and energies.")
]
EquilibrationSteps = Annotated[int, typer.Option(help="MD steps at T = 2 before cooling.")]
Start = Annotated[Path | None, typer.Option(help="Begin with the configurations of a file, one per system.")]


@simulate_app.command("ka2d")
def simulate_ka2d_command(
    output: Output,
    n: NParticles = 4320,
    b_fraction: BFraction = 0.35,
    cooling_steps: CoolingSteps = 200_000,
    temperatures: Temperatures = None,
    seed: Seed = 1,
    inherent: Inherent = False,
    density: Density = 1.2,
    equilibration_steps: EquilibrationSteps = 20_000,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Cool the Kob-Andersen mixture in two dimensions from T = 2 to a glass with LAMMPS."""
    _cool(
        output, quiet, temperatures, dimensions=2, n_particles=n, b_fraction=b_fraction,
        cooling_steps=cooling_steps, seed=seed, inherent=inherent, density=density,
        equilibration_steps=equilibration_steps, resume=resume,
    )  # fmt: skip


@simulate_app.command("ka3d")
def simulate_ka3d_command(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Extended XYZ to write; .gz or .zst compresses. Propensities also as .npz."
        ),
    ],
    n: NParticles = 4096,
    b_fraction: BFraction = 0.2,
    cooling_steps: CoolingSteps = 200_000,
    temperatures: Temperatures = None,
    seed: Seed = 1,
    inherent: Inherent = False,
    density: Density = 1.2,
    equilibration_steps: EquilibrationSteps = 20_000,
    isoconfigurational: Annotated[
        int | None,
        typer.Option(
            help="Instead of cooling, measure propensities: the number of runs with different velocities "
            "from each configuration (even).",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        str, typer.Option(help="Comma-separated times at which displacements are measured.")
    ] = "16.5",
    temperature: Annotated[float, typer.Option(help="Temperature of equilibration and runs.")] = 0.64,
    equilibration: Annotated[
        float,
        typer.Option(help="Time at that temperature before the runs; 0 with --start takes it as it is."),
    ] = 165.0,
    start: Start = None,
    systems: Annotated[
        int, typer.Option(help="Number of configurations; several files get numbers, NAME_001.npz.")
    ] = 1,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Cool the Kob-Andersen mixture in three dimensions to a glass with LAMMPS, or measure propensities."""
    cooling = {"cooling_steps", "temperatures", "inherent", "equilibration_steps"}
    measuring = {"times", "temperature", "equilibration", "start", "systems"}
    given = {name for name in cooling | measuring if _is_given(context, name)}
    if unused := sorted(given & (measuring if isoconfigurational is None else cooling)):
        flag = "--" + unused[0].replace("_", "-")
        with exit_codes():
            raise UsageError(
                f"{flag} belongs to propensities: give --isoconfigurational 32, too."
                if isoconfigurational is None
                else f"{flag} belongs to cooling and has no meaning with --isoconfigurational."
            )
    if isoconfigurational is None:
        _cool(
            output, quiet, temperatures, dimensions=3, n_particles=n, b_fraction=b_fraction,
            cooling_steps=cooling_steps, seed=seed, inherent=inherent, density=density,
            equilibration_steps=equilibration_steps, resume=resume,
        )  # fmt: skip
        return
    from phaseseg.report import duration

    with _simulating(quiet) as progress:
        from phaseseg.simulate.kob_andersen_3d import simulate_systems

        made = simulate_systems(
            output, systems=systems, start=start, runs=isoconfigurational,
            times=numbers(times, "--times", "1.3,16.5"), temperature=temperature, n_particles=n,
            b_fraction=b_fraction, seed=seed, density=density, equilibration=equilibration, resume=resume,
            progress=progress,
        )  # fmt: skip
    if quiet:
        return
    for run in made:
        shown = ", ".join(
            f"{propensity:.4f} after {t:g} (ceiling {ceiling:.3f})"
            for t, propensity, ceiling in zip(run.times, run.propensity, run.ceiling, strict=True)
        )
        drift = (
            "" if abs(run.energy_drift) < DRIFT or run.energy_drift != run.energy_drift
            else f" The energy still changes, by {run.energy_drift:+.1f} standard errors: equilibrate longer."
        )  # fmt: skip
        note(
            f"{run.runs} runs of {run.n_particles:,} particles at T = {run.temperature:g} in "
            f"{duration(run.seconds)}; mean propensity of A {shown}.{drift}\nWritten: {run.output}"
        )


DRIFT = 4.0
"""Standard errors of the mean energy between two parts of the equilibration that are worth a sentence."""


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _cool(output: Path, quiet: bool, temperatures: str | None, **settings: Any) -> None:
    """Run `simulate_kob_andersen` and print what it made."""
    from phaseseg.report import duration

    with _simulating(quiet) as progress:
        from phaseseg.simulate import simulate_kob_andersen

        if temperatures is not None:
            settings["temperatures"] = numbers(temperatures, "--temperatures", "1.99,0.44,0.05")
        run = simulate_kob_andersen(output, progress=progress, **settings)
    if not quiet:
        energy = "" if run.inherent_energy is None else f", {run.inherent_energy:.4f} at the minimum"
        minimized = "" if run.inherent is None else f", {run.inherent}"
        note(
            f"{run.n_frames} frames of {run.n_particles:,} particles in {duration(run.seconds)}; energy "
            f"{run.energy:.4f} per particle at T = {run.temperature:g}{energy}.\n"
            f"Written: {run.output}{minimized}"
        )


@contextmanager
def _simulating(quiet: bool) -> Iterator[Progress]:
    """Show a progress bar and report invalid arguments as usage errors."""
    with exit_codes():
        try:
            with work_bar(quiet, compiles=False) as progress:
                yield progress
        except (ValueError, FileExistsError, FileNotFoundError) as error:
            raise UsageError(str(error)) from None
