"""Molecular dynamics of a demixing Fe–Mg–Si–O–N melt: trajectories for trials, training and tests.

A classical pair model, run in LAMMPS. It is neither ab initio nor fitted to DFT data. Local structure, two
liquids, a diffuse interface and the composition are realistic enough to train and test a segmentation;
thermodynamics, transport and partition coefficients are not. All numbers of the model are in
`recipes/melt/melt.json`; the `README.md` next to it states the limits.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.simulate.engine import Codes, Lammps, Progress, Vectors
from phaseseg.simulate.melt_dissolving import dissolve
from phaseseg.simulate.melt_model import dissolved_counts, melt_recipe, melt_species, write_table
from phaseseg.simulate.runner import Atoms, Simulation, check_whole, random_sites
from phaseseg.simulate.unfinished import GrowingFile

_GPA_PER_BAR = 1e-4


@dataclass(frozen=True)
class MeltRun:
    """The result of a simulation, with means over its production steps.

    Parameters
    ----------
    output : the trajectory
    n_atoms, n_frames : counts
    steps : production steps
    timestep : ps
    temperature : mean kinetic temperature, K
    pressure : mean pressure, GPa
    potential_energy : mean potential energy, eV per atom
    seconds : wall time of this call
    """

    output: Path
    n_atoms: int
    n_frames: int
    steps: int
    timestep: float
    temperature: float
    pressure: float
    potential_energy: float
    seconds: float


@dataclass(frozen=True)
class _Stage:
    name: str
    temperature: float
    timestep: float
    steps: int
    before: str = ""  # "minimize" or "dissolve": what is done to the atoms first


def simulate_melt(
    output: str | os.PathLike[str],
    *,
    temperature: float = 3000.0,
    replicate: int = 1,
    steps: int = 18000,
    seed: int = 1,
    every: int | None = None,
    composition: str = "metal-silicate",
    equilibration: float = 1.0,
    timestep: float | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> MeltRun:
    """Simulate the melt at constant volume and temperature and write a LAMMPS dump.

    The dump has the columns `id type element x y z` (Å, wrapped, three decimals), the types 1–5 are
    Fe Mg Si O N, and its timesteps count production steps. One frame is written at step 0 and one
    every `every` steps. The same arguments give the same bytes on one machine, unless the run was
    interrupted and resumed.

    A separated melt of 520 atoms is reached through 10,000 K and 60 ps at 4000 K, and 40 ps at
    `temperature` where that is another one; larger cells coarsen for 50 ps without dissolved atoms,
    which are then put in and given 6 ps. Above 4000 K the mixed melt spends 60 ps at `temperature`,
    from 10,000 K on and with a composition that stays one liquid, 20 ps. At 8000 K the
    melt is neither one liquid nor two.

    While it runs, frames go to `<output>.partial` and, every two minutes, the state of the simulation
    to `<output>.partial.npz`. Both stay behind when the run is interrupted. The partial file is a dump
    like the finished one, but of a compressed one OVITO shows the first frame only.

    Parameters
    ----------
    output : path; a name ending in .gz or .zst is compressed
    temperature : K
    replicate : int
        n gives n^3 × 520 atoms (metal 526, silicate 509) in a cubic cell of n × 17 Å.
    steps : int
        Production steps.
    seed : int
        Of the starting positions, species and velocities. One seed of 520 atoms is about one
        independent morphology.
    every : int, optional
        Steps between frames; 2 ps, or `steps` where that is shorter, when left out.
    composition : what the cell holds
        "metal-silicate" (Fe137 Mg88 Si65 O218 N12), which separates; or one liquid: "oxidized" (Fe100 Mg82
        Si52 O286), "metal" (Fe405 Si30 O51 N40) and "silicate" (Fe11 Mg140 Si69 O286 N3), the bulk of the
        two phases.
    equilibration : float
        Factor on the length of everything before production. Below 1 the melt may not have separated.
    timestep : float, optional, ps
        Of production; 0.001, or 0.0005 from 10,000 K on, when left out.
    resume : bool
        Continue what an interrupted call with the same arguments left, or start where there is
        nothing. The resumed trajectory is a valid continuation, not the same bytes: the thermostat
        starts afresh.
    progress : function of the fraction done (0 to 1) and a line about it, optional

    Raises
    ------
    ValueError
        For an argument out of range, or when the interrupted run had other arguments.
    ImportError
        If LAMMPS, or the MPI library it needs, is not installed.
    OutputError
        If the folder of `output` does not exist, the disk is full, or an interrupted run is in the
        way and `resume` is False.
    RuntimeError
        If LAMMPS stops, or the energy is not finite.
    KeyboardInterrupt
        After an interruption; its message says what was kept.
    """
    settings = _checked({
        "temperature": temperature, "replicate": replicate, "steps": steps, "seed": seed, "every": every,
        "composition": composition, "equilibration": equilibration, "timestep": timestep,
    })  # fmt: skip
    return _Run(settings, Path(output), resume, progress).result()


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments with defaults and plain types, or a ValueError."""
    recipe = melt_recipe()
    protocol = recipe["protocol"]
    temperature, equilibration = settings["temperature"], settings["equilibration"]
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"The temperature must be a positive number of kelvin, found {temperature}.")
    check_whole(settings, replicate=1, steps=1, seed=0)
    steps, every, timestep = settings["steps"], settings["every"], settings["timestep"]
    if not (math.isfinite(equilibration) and equilibration >= 0):
        raise ValueError(f"equilibration must be a factor of at least 0, found {equilibration}.")
    if timestep is None:
        hot = temperature >= protocol["hot_from_temperature"]
        timestep = protocol["hot_timestep" if hot else "timestep"]
    # Above 5 fs the stiff Si–O bond is no longer integrated.
    if not 0 < timestep <= 0.005:
        raise ValueError(f"timestep must lie between 0 and 0.005 ps, found {timestep}.")
    if every is None:
        every = min(round(protocol["frame_interval"] / timestep), steps)
    if every != int(every) or not 1 <= every <= steps:
        raise ValueError(f"every must be a whole number between 1 and the {steps} steps, found {every}.")
    melt_species(temperature=temperature, composition=settings["composition"])
    return {
        "recipe": f"{recipe['name']} {recipe['version']}", **settings, "every": int(every),
        "temperature": float(temperature), "equilibration": float(equilibration), "timestep": float(timestep),
    }  # fmt: skip


def _stages(settings: dict[str, Any]) -> list[_Stage]:
    recipe = melt_recipe()
    protocol = recipe["protocol"]
    temperature, timestep = settings["temperature"], settings["timestep"]

    def stage(name: str, before: str = "", **changes: float) -> _Stage:
        values = {"temperature": temperature, "timestep": timestep, **protocol[name], **changes}
        steps = round(settings["equilibration"] * values["time"] / values["timestep"])
        return _Stage(name.split("_")[-1], values["temperature"], values["timestep"], steps, before)

    stages = [stage("mixing", "minimize")]
    separation = protocol["separation"]["temperature"]
    if _direct(settings):
        hot = temperature >= protocol["hot_from_temperature"]
        one_phase = hot or settings["composition"] in recipe["one_phase"]
        stages.append(stage("one_phase_holding" if one_phase else "direct_holding"))
    elif settings["replicate"] > 1:
        # Held at a low temperature from the start the domains would not grow, hence always 4000 K.
        stages += [stage("coarsening"), stage("settling", "dissolve")]
    else:
        stages.append(stage("separation"))
        if temperature != separation:
            stages.append(stage("holding"))
    return [*stages, _Stage("production", temperature, timestep, settings["steps"])]


def _direct(settings: dict[str, Any]) -> bool:
    """Whether the mixed melt goes straight to its temperature, without separating at another one first."""
    recipe = melt_recipe()
    above = settings["temperature"] > recipe["protocol"]["separation"]["temperature"]
    return bool(above or settings["composition"] in recipe["one_phase"])


class _Run(Simulation):
    """One call of `simulate_melt`: a stage after the other."""

    PART = 400_000

    def __init__(
        self, settings: dict[str, Any], target: Path, resume: bool = False, progress: Progress | None = None
    ) -> None:
        super().__init__(settings, [GrowingFile(target)], resume, progress)
        self.recipe = melt_recipe()
        self.stages = _stages(settings)
        self.edge = self.recipe["cell_edge"] * settings["replicate"]
        # Where the run is: stage, steps done in it (`step`), whether its atoms are prepared, and sums of
        # pressure, energy, temperature and steps over production.
        self.stage, self.prepared, self.sums = 0, False, np.zeros(4)
        self.n_atoms = 0

    def result(self) -> MeltRun:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="phaseseg-melt-") as folder:
            self.folder = Path(folder)
            self.go()
        pressure, energy, temperature = self.sums[:3] / self.sums[3]
        return MeltRun(
            output=self.output.target,
            n_atoms=self.n_atoms,
            n_frames=self.output.n_frames,
            steps=self.settings["steps"],
            timestep=self.settings["timestep"],
            temperature=float(temperature),
            pressure=float(pressure),
            potential_energy=float(energy),
            seconds=time.monotonic() - start,
        )

    def start(self) -> Atoms:
        recipe, settings = self.recipe, self.settings
        counts = melt_species(
            temperature=settings["temperature"],
            composition=settings["composition"],
            dissolved=settings["replicate"] == 1 or _direct(settings),
        )
        n = settings["replicate"]
        rng = self.rng(1000)
        codes = np.repeat(
            np.arange(len(recipe["species"]), dtype=np.int32), [n**3 * counts[s] for s in recipe["species"]]
        )
        per_edge = recipe["protocol"]["lattice_sites_per_edge"] * n
        grid = random_sites(codes, per_edge, 3, rng)
        jitter = recipe["protocol"]["lattice_jitter"]
        positions = grid * (self.edge / per_edge) + rng.uniform(-jitter, jitter, (len(codes), 3))
        return codes, positions % self.edge, None

    def make_engine(self, atoms: Atoms) -> _Engine:
        self.n_atoms = len(atoms[0])
        return _Engine(self.folder, self.edge, *atoms)

    def simulate(self, *, fresh: bool) -> None:
        while self.stage < len(self.stages):
            self._run_stage(self.stages[self.stage])
            self.stage, self.step, self.prepared = self.stage + 1, 0, False

    def _run_stage(self, stage: _Stage) -> None:
        engine = self.engine
        if not self.prepared:
            self._prepare(stage)
            self.prepared = True
        engine.hold(stage.temperature, stage.timestep)
        engine.count_from(self.step)
        if stage.name != "production":
            with self.saved_if_interrupted():
                self.advance(stage.steps)
            return
        if self.output.n_frames == 0:
            self.output.partial.write_bytes(b"")
            self.save()
        with self.saved_if_interrupted():
            while True:
                following = self.output.n_frames * self.settings["every"]
                if self.step == following:
                    self.output.append(_frame_text(engine.codes, engine.positions(), self.edge, self.step))
                elif self.step >= stage.steps:
                    break
                else:
                    self.advance(min(following, stage.steps))

    def _prepare(self, stage: _Stage) -> None:
        engine = self.engine
        if stage.before == "dissolve":
            m, ns = (n * self.settings["replicate"] ** 3
                     for n in dissolved_counts(self.settings["temperature"]))  # fmt: skip
            engine.rebuild(*dissolve(engine.codes, engine.positions(), self.edge, (m, ns), self.rng(2000)))
        if stage.before:
            self.report(self._fraction(), f"{stage.name}: relaxing")
            engine.minimize(1e-6, 1e-4, self.recipe["protocol"]["minimize_iterations"])
            # New velocities: minimizing leaves atoms that do not move, or moved for nothing.
            # At the temperature of what runs next: a shortened protocol may skip the stage itself.
            following = next(later for later in self.stages[self.stage :] if later.steps)
            engine.thermalize(following.temperature, self.seed(self.stage))

    def done(self, steps: int) -> tuple[float, str]:
        stage, values = self.stages[self.stage], self.engine.averages()
        if stage.name == "production":
            self.sums += steps * np.array([*values, 1.0])
        line = f"{stage.name} at {stage.temperature:g} K: {self.step * stage.timestep:.1f} ps"
        return self._fraction(), f"{line}, {values[0]:.1f} GPa"

    def _fraction(self) -> float:
        before = sum(stage.steps for stage in self.stages[: self.stage])
        return (before + self.step) / sum(stage.steps for stage in self.stages)

    def position(self) -> dict[str, NDArray[Any]]:
        return {"position": np.array([self.stage, self.step, self.prepared]), "sums": self.sums}

    def resume_at(self, saved: dict[str, NDArray[Any]]) -> None:
        self.stage, self.step, prepared = (int(x) for x in saved["position"])
        self.prepared, self.sums = bool(prepared), saved["sums"]


def _frame_text(codes: Codes, positions: Vectors, edge: float, step: int) -> str:
    recipe = melt_recipe()
    elements = recipe["elements"]
    labels = [f"{elements.index(name) + 1} {name}" for name in recipe["species"].values()]
    # Rounded before wrapping: an atom just below the upper face must not be printed on it.
    milli = np.rint(positions * 1000.0).astype(np.int64) % round(edge * 1000.0)
    xyz = (milli / 1000.0).tolist()
    bounds = f"0.0 {edge:.6f}\n" * 3
    head = (
        f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(codes)}\nITEM: BOX BOUNDS pp pp pp\n{bounds}"
        "ITEM: ATOMS id type element x y z\n"
    )
    rows = [
        f"{row} {labels[code]} {x:.3f} {y:.3f} {z:.3f}\n"
        for row, (code, (x, y, z)) in enumerate(zip(codes.tolist(), xyz, strict=True), start=1)
    ]
    return head + "".join(rows)


class _Engine(Lammps):
    """LAMMPS with the atoms of the melt; the tables of its potentials go into a folder."""

    advice = "; use a smaller timestep"

    def __init__(self, folder: Path, edge: float, *atoms: Any) -> None:
        self.folder = folder
        super().__init__(edge, *atoms)

    def set_up(self) -> None:
        recipe = melt_recipe()
        names = list(recipe["species"])
        potential = recipe["potential"]
        self.command("units metal", "atom_style atomic", "atom_modify map array", "boundary p p p")
        self.command(f"region box block 0 {self.edge} 0 {self.edge} 0 {self.edge}")
        self.command(f"create_box {len(names)} box")
        self.command(f"pair_style table linear {potential['table_points']}")
        for first, second in combinations_with_replacement(range(len(names)), 2):
            path = self.folder / f"{names[first]}-{names[second]}.table"
            write_table(path, names[first], names[second])
            self.command(f'pair_coeff {first + 1} {second + 1} "{path}" PAIR {potential["cutoff"]}')
        for row, name in enumerate(names, start=1):
            self.command(f"mass {row} {recipe['masses'][recipe['species'][name]]}")
        self.command("neighbor 1.0 bin", "neigh_modify every 1 delay 2 check yes")
        self.command("compute_modify thermo_temp dynamic/dof no")

    def hold(self, temperature: float, timestep: float) -> None:
        """Keep a temperature, without drift of the center of mass."""
        protocol = melt_recipe()["protocol"]
        self.command(f"timestep {timestep}")
        self.thermostat(temperature, temperature, protocol["thermostat_damping"])
        self.command(f"fix drift all momentum {protocol['momentum_every']} linear 1 1 1")

    def averages(self) -> tuple[float, float, float]:
        """Pressure (GPa), potential energy (eV per atom) and temperature (K) of the last step."""
        n = len(self.codes)
        return _GPA_PER_BAR * self.thermo("press"), self.thermo("pe") / n, self.thermo("temp")
