"""Molecular dynamics of a demixing Fe–Mg–Si–O–N melt: trajectories to try, train and test on.

A classical pair model run in LAMMPS. It is neither ab initio nor fitted to any DFT data: local
structure, two liquids, a diffuse interface and the composition are realistic enough to train and
test a segmentation, and nothing else (no thermodynamics, no transport, no partition coefficients).
Every number of the model stands in `recipes/melt/melt.json`, its limits in the `README.md` beside it.
"""

from __future__ import annotations

import importlib.resources
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.special import erfc

from phaseseg.simulate.engine import Lammps, Progress
from phaseseg.simulate.unfinished import GrowingFile, RunState

_GPA_PER_BAR = 1e-4


@dataclass(frozen=True)
class MeltRun:
    """What a simulation wrote, and the means over its production steps.

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


@cache
def melt_recipe() -> dict[str, Any]:
    """The melt model: composition, masses (g/mol), potentials (eV, Å), protocol (ps, K).

    Raises
    ------
    FileNotFoundError
        If the recipe is missing from the installation.
    """
    path = importlib.resources.files("phaseseg") / "recipes" / "melt" / "melt.json"
    if not path.is_file():
        raise FileNotFoundError(
            "The recipe melt/melt.json is missing from this installation; install it again."
        )
    recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recipe


def _of_pair(table: dict[str, Any], first: str, second: str) -> Any:
    return table.get(f"{first}-{second}", table.get(f"{second}-{first}"))


def melt_pair(first: str, second: str, r: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy and force of one pair of simulated species at the distances `r`.

    Ions: S [k q_i q_j erfc(α r)/r + B exp(−r/ρ) − C/r^6], below r_in a parabola with the same value
    and slope; otherwise Morse, or its repulsive branch alone. Shifted so that energy and force vanish
    at the cut-off.

    Parameters
    ----------
    first, second : simulated species, one of Fe, Mg, Si, O, N, Fe2, Si0, O0, Ns
    r : distances, Å

    Returns
    -------
    energy : float64, eV
    force : float64, eV/Å
        −dE/dr, positive when the pair repels.

    Raises
    ------
    ValueError
        For a species the model does not have.
    """
    recipe = melt_recipe()
    for name in (first, second):
        if name not in recipe["species"]:
            raise ValueError(
                f"The melt model has no species {name!r}; it has {', '.join(recipe['species'])}."
            )
    potential = recipe["potential"]
    cutoff: float = potential["cutoff"]
    distance = np.asarray(r, dtype=np.float64)
    ions, morse, repulsive = potential["ions"], potential["morse"], potential["repulsive"]
    if first in ions["charges"] and second in ions["charges"]:
        inner = _of_pair(ions["inner"], first, second) or ions["inner_default"]

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return _ion_pair(ions, first, second, x)

        energy, force = bare(np.maximum(distance, inner))
        depth = np.minimum(distance - inner, 0.0)
        energy = energy - force * depth + 0.5 * ions["inner_curvature"] * depth**2
        force = force - ions["inner_curvature"] * depth
    elif _of_pair(morse["pairs"], first, second) is not None:
        well, a, center = _of_pair(morse["pairs"], first, second)

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            energy, force = _morse(well, a, center, x)
            return energy + morse["core"] / x**12, force + 12.0 * morse["core"] / x**13

        energy, force = bare(distance)
    else:
        r0: float = _of_pair(repulsive["r0"], first, second)
        strength: float = repulsive["depth"]

        def bare(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            energy, force = _morse(strength, repulsive["a"], r0, np.minimum(x, r0))
            return energy + strength, np.where(x < r0, force, 0.0)

        energy, force = bare(distance)
    end_energy, end_force = bare(np.array(cutoff))
    energy = energy - end_energy + end_force * (distance - cutoff)
    force = force - end_force
    inside = distance < cutoff
    return np.where(inside, energy, 0.0), np.where(inside, force, 0.0)


def _ion_pair(
    ions: dict[str, Any], first: str, second: str, r: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale, alpha = ions["scale"], ions["alpha"]
    strength = scale * ions["coulomb"] * ions["charges"][first] * ions["charges"][second]
    screened = erfc(alpha * r)
    energy = strength * screened / r
    force = strength * (screened / r**2 + 2.0 * alpha / math.sqrt(math.pi) * np.exp(-((alpha * r) ** 2)) / r)
    buckingham = _of_pair(ions["buckingham"], first, second)
    if buckingham is not None:
        b, rho, c = buckingham
        wall = scale * b * np.exp(-r / rho)
        energy = energy + wall - scale * c / r**6
        force = force + wall / rho - 6.0 * scale * c / r**7
    return energy, force


def _morse(
    depth: float, a: float, r0: float, r: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    e = np.exp(-a * (r - r0))
    return depth * (e * e - 2.0 * e), 2.0 * a * depth * (e * e - e)


def melt_species(
    *, temperature: float = 3000.0, composition: str = "metal-silicate", dissolved: bool = True
) -> dict[str, int]:
    """How many atoms of each simulated species a cell of 17 Å has.

    An atom carries a hidden oxidation label, never written to a trajectory: the ions Mg, Si, O, Fe2
    (oxidized iron) and Ns (nitride) belong in the silicate, the neutral Fe, N, Si0 and O0 in the metal.

    Parameters
    ----------
    temperature : K
        Decides how much is dissolved in the other liquid.
    composition : "metal-silicate", "oxidized", "metal" or "silicate"
    dissolved : bool
        False: nothing dissolved, as while a large cell coarsens.

    Raises
    ------
    ValueError
        For an unknown composition.
    """
    recipe = melt_recipe()
    if composition not in recipe["compositions"]:
        raise ValueError(
            f"There is no composition {composition!r}; there are {', '.join(recipe['compositions'])}."
        )
    counts: dict[str, int] = recipe["compositions"][composition]
    if composition in recipe["one_phase"] or not dissolved:
        species = dict(counts)
    else:
        m, ns = _dissolved(temperature)
        species = {
            **counts,
            "Fe": counts["Fe"] - m,
            "Si": counts["Si"] - m,
            "O": counts["O"] - m - ns,
            "N": counts["N"] - ns,
            "Fe2": m,
            "Si0": m,
            "O0": m + ns,
            "Ns": ns,
        }
    return {name: species.get(name, 0) for name in recipe["species"]}


def _dissolved(temperature: float) -> tuple[int, int]:
    rows = [row for row in melt_recipe()["dissolved"]["table"] if row["from_temperature"] <= temperature]
    return int(rows[-1]["m"]), int(rows[-1]["ns"])


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
    output : path; a name ending in .gz is compressed
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
    target = Path(output)
    recipe = melt_recipe()
    settings = _settings(temperature, replicate, steps, seed, every, composition, equilibration, timestep)
    return _Run(recipe, settings, target, resume, progress).go()


def _settings(
    temperature: float,
    replicate: int,
    steps: int,
    seed: int,
    every: int | None,
    composition: str,
    equilibration: float,
    timestep: float | None,
) -> dict[str, Any]:
    recipe = melt_recipe()
    protocol = recipe["protocol"]
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"The temperature must be a positive number of kelvin, found {temperature}.")
    for name, value in (("replicate", replicate), ("steps", steps)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, found {value}.")
    if seed != int(seed) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, found {seed}.")
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
    melt_species(temperature=temperature, composition=composition)
    return {
        "recipe": f"{recipe['name']} {recipe['version']}",
        "temperature": float(temperature),
        "replicate": int(replicate),
        "steps": int(steps),
        "seed": int(seed),
        "every": int(every),
        "composition": composition,
        "equilibration": float(equilibration),
        "timestep": float(timestep),
    }


def _stages(recipe: dict[str, Any], settings: dict[str, Any]) -> list[_Stage]:
    protocol = recipe["protocol"]
    temperature, timestep = settings["temperature"], settings["timestep"]

    def stage(name: str, before: str = "", **changes: float) -> _Stage:
        values = {"temperature": temperature, "timestep": timestep, **protocol[name], **changes}
        steps = round(settings["equilibration"] * values["time"] / values["timestep"])
        return _Stage(name.split("_")[-1], values["temperature"], values["timestep"], steps, before)

    stages = [stage("mixing", "minimize")]
    separation = protocol["separation"]["temperature"]
    if _direct(recipe, settings):
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


def _direct(recipe: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the mixed melt is brought to its temperature without separating at another one first."""
    above = settings["temperature"] > recipe["protocol"]["separation"]["temperature"]
    return bool(above or settings["composition"] in recipe["one_phase"])


class _Run:
    """One call of `simulate_melt`: the stages, the files beside the output, the way back after a stop."""

    def __init__(
        self,
        recipe: dict[str, Any],
        settings: dict[str, Any],
        target: Path,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.output = GrowingFile(target)
        self.state = RunState([self.output], settings, resume=resume)
        self.progress = progress
        self.stages = _stages(recipe, settings)
        self.species = tuple(recipe["species"])
        self.edge = recipe["cell_edge"] * settings["replicate"]
        # Where the run is: stage, steps done in it, whether its atoms are prepared, sums over production.
        self.stage = 0
        self.step = 0
        self.prepared = False
        self.sums = np.zeros(4)
        self.engine: _Engine | None = None

    def go(self) -> MeltRun:
        start = time.monotonic()
        codes, positions, velocities = self._load() or self._lattice()
        with tempfile.TemporaryDirectory(prefix="phaseseg-melt-") as folder, self.state.keeping():
            self.engine = _Engine(self.recipe, Path(folder), codes, positions, velocities, self.edge)
            try:
                while self.stage < len(self.stages):
                    self._run_stage()
                    self.stage, self.step, self.prepared = self.stage + 1, 0, False
            finally:
                engine, self.engine = self.engine, None
                engine.close()
        self.state.finish()
        pressure, energy, temperature = self.sums[:3] / self.sums[3]
        return MeltRun(
            output=self.output.target,
            n_atoms=len(codes),
            n_frames=self.output.n_frames,
            steps=self.settings["steps"],
            timestep=self.settings["timestep"],
            temperature=float(temperature),
            pressure=float(pressure),
            potential_energy=float(energy),
            seconds=time.monotonic() - start,
        )

    def _run_stage(self) -> None:
        engine = self.engine
        assert engine is not None
        stage = self.stages[self.stage]
        production = stage.name == "production"
        if not self.prepared:
            if stage.before == "dissolve":
                codes, positions = _dissolve(
                    self.recipe, self.settings, engine.codes, engine.positions(), self.edge
                )
                engine.rebuild(codes, positions)
            if stage.before:
                self._report(f"{stage.name}: relaxing")
                engine.minimize()
                # New velocities: minimizing leaves atoms that do not move, or moved for nothing.
                # At the temperature of what runs next: a shortened protocol may skip the stage itself.
                next_run = next(later for later in self.stages[self.stage :] if later.steps)
                engine.thermalize(next_run.temperature, self._seed(self.stage))
            self.prepared = True
        engine.thermostat(stage.temperature, stage.timestep)
        # Short enough to answer Ctrl-C and to move a progress bar, long enough to cost nothing.
        chunk = min(500, max(10, 400_000 // len(engine.codes)))
        if production and self.output.n_frames == 0:
            self.output.partial.write_bytes(b"")
            self._save()
        begin = engine.step() - self.step
        try:
            while True:
                if production and self.step == self.output.n_frames * self.settings["every"]:
                    self._write_frame(engine)
                if self.step >= stage.steps:
                    break
                n = min(chunk, stage.steps - self.step)
                if production:
                    n = min(n, self.output.n_frames * self.settings["every"] - self.step)
                engine.run(n)
                self.step = engine.step() - begin
                values = engine.averages()
                if production:
                    self.sums += n * np.array([*values, 1.0])
                done = self.step * stage.timestep
                self._report(f"{stage.name} at {stage.temperature:g} K: {done:.1f} ps, {values[0]:.1f} GPa")
                if self.state.due:
                    self._save()
        except KeyboardInterrupt:
            # LAMMPS returns before Python looks at the signal, so its state is whole here.
            self.step = engine.step() - begin
            self._save()
            raise

    def _report(self, line: str) -> None:
        if self.progress is None:
            return
        total = sum(stage.steps for stage in self.stages)
        done = sum(stage.steps for stage in self.stages[: self.stage]) + self.step
        self.progress(done / total, line)

    def _seed(self, purpose: int) -> int:
        return int(np.random.default_rng([self.settings["seed"], purpose]).integers(1, 2**31 - 1))

    def _lattice(self) -> tuple[NDArray[np.int32], NDArray[np.float64], None]:
        recipe, settings = self.recipe, self.settings
        counts = melt_species(
            temperature=settings["temperature"],
            composition=settings["composition"],
            dissolved=settings["replicate"] == 1 or _direct(recipe, settings),
        )
        n = settings["replicate"]
        rng = np.random.default_rng([settings["seed"], 1000])
        codes = np.repeat(
            np.arange(len(self.species), dtype=np.int32), [n**3 * counts[s] for s in self.species]
        )
        # Shuffled, so that an atom's id says nothing about its species or hidden label.
        rng.shuffle(codes)
        per_edge = recipe["protocol"]["lattice_sites_per_edge"] * n
        sites = rng.permutation(per_edge**3)[: len(codes)]
        grid = np.stack(np.unravel_index(sites, (per_edge,) * 3), axis=1)
        jitter = recipe["protocol"]["lattice_jitter"]
        positions = grid * (self.edge / per_edge) + rng.uniform(-jitter, jitter, (len(codes), 3))
        return codes, positions % self.edge, None

    def _write_frame(self, engine: _Engine) -> None:
        text = _frame_text(self.recipe, self.species, engine.codes, engine.positions(), self.edge, self.step)
        self.output.append(text)

    def _save(self) -> None:
        engine = self.engine
        assert engine is not None
        self.state.save(
            {
                "position": np.array([self.stage, self.step, self.prepared]),
                "sums": self.sums,
                "codes": engine.codes,
                "positions": engine.positions(),
                "velocities": engine.velocities(),
            }
        )

    def _load(self) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]] | None:
        saved = self.state.load()
        if saved is None:
            return None
        self.stage, self.step, prepared = (int(x) for x in saved["position"])
        self.prepared = bool(prepared)
        self.sums = saved["sums"]
        return saved["codes"], saved["positions"], saved["velocities"]


def _frame_text(
    recipe: dict[str, Any],
    species: tuple[str, ...],
    codes: NDArray[np.int32],
    positions: NDArray[np.float64],
    edge: float,
    step: int,
) -> str:
    elements = recipe["elements"]
    labels = [f"{elements.index(recipe['species'][s]) + 1} {recipe['species'][s]}" for s in species]
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


def _dissolve(
    recipe: dict[str, Any],
    settings: dict[str, Any],
    codes: NDArray[np.int32],
    positions: NDArray[np.float64],
    edge: float,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Put the hidden species of `settings["temperature"]` into a coarsened cell that has none.

    Fe of the metal changes places with Si of the silicate, N with O, and O moves from the silicate
    into holes of the metal. Which liquid an atom is in is judged by rank of the local Fe fraction,
    so that a cell that has not separated (a shortened run) is served as well.
    """
    names = list(recipe["species"])
    code = {name: names.index(name) for name in names}
    scale = settings["replicate"] ** 3
    m, ns = (scale * n for n in _dissolved(settings["temperature"]))
    rng = np.random.default_rng([settings["seed"], 2000])
    positions = positions % edge
    n_grid = round(edge)
    cell = np.minimum((positions / edge * n_grid).astype(np.int64), n_grid - 1)

    def density(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        count = np.zeros((n_grid,) * 3)
        np.add.at(count, tuple(cell[mask].T), 1.0)
        smooth: NDArray[np.float64] = gaussian_filter(count, 2.0 * n_grid / edge, mode="wrap")
        return smooth

    fraction = density(codes == code["Fe"]) / density(np.ones(len(codes), dtype=bool))
    local = fraction[tuple(cell.T)]

    def pick(name: str, n: int, metal: bool) -> NDArray[np.int64]:
        members = np.flatnonzero(codes == code[name])
        ranked = members[np.argsort(local[members], kind="stable")]
        half = ranked[len(ranked) // 2 :] if metal else ranked[: (len(ranked) + 1) // 2]
        chosen: NDArray[np.int64] = rng.choice(half, n, replace=False)
        return chosen

    codes, positions = codes.copy(), positions.copy()
    iron, silicon = pick("Fe", m, True), pick("Si", m, False)
    oxygen = pick("O", m + ns, False)
    nitrogen = pick("N", ns, True)
    swapped, moved = oxygen[:ns], oxygen[ns:]
    for a, b in ((iron, silicon), (nitrogen, swapped)):
        positions[a], positions[b] = positions[b].copy(), positions[a].copy()
    codes[iron], codes[silicon], codes[nitrogen], codes[oxygen] = (
        code["Fe2"],
        code["Si0"],
        code["Ns"],
        code["O0"],
    )
    stays = np.ones(len(codes), dtype=bool)
    stays[moved] = False
    positions[moved] = _holes(positions[stays], edge, fraction, len(moved), rng)
    return codes, positions


def _holes(
    positions: NDArray[np.float64],
    edge: float,
    fraction: NDArray[np.float64],
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """`n` roomy points of the metal, where possible 3 Å apart: the largest of many random ones."""
    points = rng.uniform(0.0, edge, (400 * n, 3))
    index = np.minimum((points / edge * len(fraction)).astype(np.int64), len(fraction) - 1)
    local = fraction[tuple(index.T)]
    points = points[local >= np.quantile(local, 0.85)]
    clearance, _ = cKDTree(positions % edge, boxsize=edge).query(points)
    points = points[np.argsort(-clearance, kind="stable")]
    for distance in (3.0, 2.0, 0.0):
        chosen: list[NDArray[np.float64]] = []
        for point in points:
            if chosen:
                apart = np.array(chosen) - point
                apart -= edge * np.rint(apart / edge)
                if (apart**2).sum(axis=1).min() < distance**2:
                    continue
            chosen.append(point)
            if len(chosen) == n:
                return np.array(chosen)
    raise AssertionError("more points than holes are always drawn")


class _Engine(Lammps):
    """A single-core LAMMPS with the atoms of the melt; species codes + 1 are its types."""

    def __init__(
        self,
        recipe: dict[str, Any],
        folder: Path,
        codes: NDArray[np.int32],
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64] | None,
        edge: float,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.edge = edge
        self.codes = codes
        self._fresh = True
        try:
            self._set_up(folder, positions, velocities)
        except BaseException:
            self.close()
            raise

    def _set_up(
        self, folder: Path, positions: NDArray[np.float64], velocities: NDArray[np.float64] | None
    ) -> None:
        names = list(self.recipe["species"])
        potential = self.recipe["potential"]
        self.command("units metal", "atom_style atomic", "atom_modify map array", "boundary p p p")
        self.command(f"region box block 0 {self.edge} 0 {self.edge} 0 {self.edge}")
        self.command(f"create_box {len(names)} box")
        self.command(f"pair_style table linear {potential['table_points']}")
        for first, second in combinations_with_replacement(range(len(names)), 2):
            path = folder / f"{names[first]}-{names[second]}.table"
            _write_table(path, names[first], names[second], potential)
            self.command(f'pair_coeff {first + 1} {second + 1} "{path}" PAIR {potential["cutoff"]}')
        for row, name in enumerate(names, start=1):
            self.command(f"mass {row} {self.recipe['masses'][self.recipe['species'][name]]}")
        self.command("neighbor 1.0 bin", "neigh_modify every 1 delay 2 check yes", "thermo_modify norm no")
        self.command("thermo 1000000000", "compute_modify thermo_temp dynamic/dof no")
        self._create(self.codes, positions, velocities)

    def _create(
        self,
        codes: NDArray[np.int32],
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64] | None,
    ) -> None:
        self.create_atoms(codes, positions % self.edge, velocities)
        self.codes = codes
        self._fresh = True

    def rebuild(self, codes: NDArray[np.int32], positions: NDArray[np.float64]) -> None:
        """The same cell with other species and positions, at rest."""
        self.command("delete_atoms group all compress no")
        self._create(codes, positions, None)

    def minimize(self) -> None:
        self.command("min_style cg")
        n = self.recipe["protocol"]["minimize_iterations"]
        self.command(f"minimize 1e-6 1e-4 {n} {10 * n}")
        self._fresh = True

    def thermalize(self, temperature: float, seed: int) -> None:
        self.command(f"velocity all create {temperature} {seed} mom yes rot no dist gaussian")

    def thermostat(self, temperature: float, timestep: float) -> None:
        protocol = self.recipe["protocol"]
        # fix with a known id replaces the old one, and its Nosé–Hoover chain starts afresh.
        self.command(f"timestep {timestep}")
        self.command(
            f"fix thermostat all nvt temp {temperature} {temperature} {protocol['thermostat_damping']}"
        )
        self.command(f"fix drift all momentum {protocol['momentum_every']} linear 1 1 1")
        self._fresh = True

    def run(self, steps: int) -> None:
        # Only the first chunk of a stage needs LAMMPS' set-up; later ones continue as one long run.
        self.command(f"run {steps} pre {'yes' if self._fresh else 'no'} post no")
        self._fresh = False
        if not math.isfinite(self.thermo("pe")):
            raise RuntimeError("The energy is no longer finite; use a smaller timestep.")

    def averages(self) -> tuple[float, float, float]:
        """Pressure (GPa), potential energy (eV per atom) and temperature (K) of the last step."""
        n = len(self.codes)
        return _GPA_PER_BAR * self.thermo("press"), self.thermo("pe") / n, self.thermo("temp")


def _write_table(path: Path, first: str, second: str, potential: dict[str, Any]) -> None:
    inner, cutoff, n = potential["table_inner"], potential["cutoff"], potential["table_points"]
    r = np.sqrt(np.linspace(inner**2, cutoff**2, n))
    energy, force = melt_pair(first, second, r)
    rows = [
        f"{row} {x:.15g} {e:.15g} {f:.15g}\n"
        for row, (x, e, f) in enumerate(
            zip(r.tolist(), energy.tolist(), force.tolist(), strict=True), start=1
        )
    ]
    path.write_text(f"PAIR\nN {n} RSQ {inner} {cutoff}\n\n" + "".join(rows), encoding="ascii")
