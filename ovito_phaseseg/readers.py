"""Files of glass benchmarks in OVITO: NumPy archives and pickles, which OVITO itself does not know."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ovito.io import FileReaderInterface


class GlassArchiveReader(FileReaderInterface):
    """One configuration of a glass former with its propensities.

    Archives (.npz) of GlassBench, of pyg_botan and of `phaseseg simulate ka3d`, and the pickles of Bapst et
    al., of which nothing is executed. Arrays with one row per particle become properties under the names that
    `phaseseg.read_frames` gives them; numbers, such as the temperature, become attributes. OVITO asks this
    reader after its own.
    """

    ENDINGS: ClassVar[tuple[str, ...]] = (".npz", ".pickle", ".pkl")

    @staticmethod
    def detect(filename: str) -> bool:
        """Whether the name and the names of the arrays are those of such a file."""
        path = Path(filename)
        if path.suffix not in GlassArchiveReader.ENDINGS:
            return False
        try:
            if path.suffix != ".npz":
                with path.open("rb") as file:
                    return file.read(1) == b"\x80"
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
        except (OSError, zipfile.BadZipFile):
            return False
        return "types" in names and bool(names & {"positions", "initial_positions"})

    def parse(self, data: Any, *, filename: str, **kwargs: Any) -> None:
        """Read the configuration; the error for a file that is none names what is missing."""
        from phaseseg.io import read_frames

        frame = next(iter(read_frames(filename, fields=True)))
        matrix = np.column_stack([frame.cell.T, frame.origin])
        data.create_cell(matrix, pbc=tuple(map(bool, frame.pbc)))
        if frame.n_dimensions == 2:
            data.cell_.is2D = True
        particles = data.create_particles(count=frame.n_atoms)
        particles.create_property("Position", data=frame.positions)
        types = particles.create_property("Particle Type", data=frame.species + 1)
        for code, name in enumerate(frame.species_names):
            types.add_type_id(code + 1, particles, name=name)
        for name, values in frame.fields.items():
            columns = None if values.ndim == 1 else [str(k + 1) for k in range(values.shape[1])]
            particles.create_property(name.replace(".", "_"), data=values, components=columns)
        for name, value in frame.info.items():
            data.attributes[name] = value
        data.attributes["units"] = frame.units
