"""Base of simulations that can be interrupted and resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from phaseseg.simulate.engine import Codes, Lammps, Progress, Vectors
from phaseseg.simulate.unfinished import GrowingFile, RunState

Atoms = tuple[Codes, Vectors, Vectors | None]
"""Species codes, positions, velocities (None: at rest)."""


class Simulation(ABC):
    """One call of a simulation.

    settings : all arguments that must be the same to resume, and `seed`
    files : that grow; the first is the output
    kept : what is compared with the settings of an interrupted run, if not `settings`
    """

    # Atoms times steps in a part of a run: short enough to answer Ctrl-C and to move a progress bar, long
    # enough to cost nothing.
    PART: ClassVar[int]

    def __init__(
        self, settings: dict[str, Any], files: list[GrowingFile], resume: bool, progress: Progress | None,
        kept: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.progress, self.output = settings, progress, files[0]
        self.state = RunState(files, settings if kept is None else kept, resume=resume)
        self.step = 0
        self.engine: Any = None

    @abstractmethod
    def start(self) -> Atoms:
        """The atoms of a new run."""

    @abstractmethod
    def make_engine(self, atoms: Atoms) -> Lammps:
        """LAMMPS with these atoms."""

    @abstractmethod
    def simulate(self, *, fresh: bool) -> None:
        """The whole protocol, from `step` on; fresh : whether this is a new run."""

    @abstractmethod
    def done(self, steps: int) -> tuple[float, str]:
        """Run a block of steps; return the completed fraction and a line about it."""

    @abstractmethod
    def position(self) -> dict[str, NDArray[Any]]:
        """The position in the protocol, for the saved state."""

    @abstractmethod
    def resume_at(self, saved: dict[str, NDArray[Any]]) -> None:
        """Restore a `position`."""

    def go(self) -> None:
        """Simulate, from the start or from a saved state, and rename the files at the end."""
        with self.state.keeping():
            saved = self.state.load()
            if saved is None:
                atoms = self.start()
            else:
                self.resume_at(saved)
                atoms = saved["codes"], saved["positions"], saved["velocities"]
            self.engine = self.make_engine(atoms)
            try:
                self.simulate(fresh=saved is None)
            finally:
                self.engine.close()
        self.state.finish()

    def rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.settings["seed"], purpose])

    def seed(self, purpose: int) -> int:
        """A seed for LAMMPS."""
        return int(self.rng(purpose).integers(1, 2**31 - 1))

    def report(self, fraction: float, line: str) -> None:
        if self.progress is not None:
            self.progress(min(fraction, 1.0), line)

    def advance(self, stop: int) -> None:
        """Run to step `stop`."""
        part = min(500, max(10, self.PART // len(self.engine.codes)))
        while self.step < stop:
            n = min(part, stop - self.step)
            self.engine.run(n)
            self.step = self.engine.step
            self.report(*self.done(n))
            if self.state.due:
                self.save()

    @contextmanager
    def saved_if_interrupted(self) -> Iterator[None]:
        """On an interruption save the state, which is whole: LAMMPS returns before Python sees the signal."""
        try:
            yield
        except KeyboardInterrupt:
            self.step = self.engine.step
            self.save()
            raise

    def save(self) -> None:
        engine = self.engine
        atoms = {"codes": engine.codes, "positions": engine.positions(), "velocities": engine.velocities()}
        self.state.save({**self.position(), **atoms})


def random_sites(codes: Codes, per_edge: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n, dimensions) random sites of a square or cubic lattice; the codes are shuffled, too.

    The row of an atom then says nothing about its species.
    """
    rng.shuffle(codes)
    sites = rng.permutation(per_edge**dimensions)[: len(codes)]
    return np.stack(np.unravel_index(sites, (per_edge,) * dimensions), axis=1)


def check_whole(settings: dict[str, Any], **least: int) -> None:
    """Refuse settings that are not whole numbers of at least some value, with a ValueError."""
    for name, lowest in least.items():
        value = settings[name]
        if value != int(value) or value < lowest:
            raise ValueError(f"{name} must be a whole number of at least {lowest}, found {value}.")
        settings[name] = int(value)
