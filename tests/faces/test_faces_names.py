"""Molecules, names and species of a file are the same in every face."""

from __future__ import annotations

from itertools import product

import ase.io
import numpy as np
import pytest

from ase_bridge import frame_from_atoms
from phaseseg.io import read_frames

WATER = [("SOL", ("OW", "HW1", "HW2"))] * 3 + [("MET", ("C", "O"))]


@pytest.fixture
def water(tmp_path):
    """A GRO file of three molecules of water and another one."""
    atoms = [(k, *one) for k, (residue, names) in enumerate(WATER, 1) for one in product([residue], names)]
    rows = [
        f"{number:5d}{residue:<5}{name:>5}{row:5d}{0.1 * number:8.3f}{0.01 * row:8.3f}{0.3:8.3f}"
        for row, (number, residue, name) in enumerate(atoms, 1)
    ]
    path = tmp_path / "water.gro"
    path.write_text("\n".join(["water", str(len(rows)), *rows, "   2.00000   2.00000   2.00000"]) + "\n")
    return path


def words(frame, kind):
    codes, names = frame.categories[kind]
    return np.array(names)[codes].tolist()


def species(frame):
    return np.array(frame.species_names)[frame.species].tolist()


def ovito_frame(path, *, types=""):
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg.convert import frame_from_data

    return frame_from_data(io.import_file(path).compute(), types)


def test_molecules_of_a_gro_file(water):
    [frame] = read_frames(water)
    for other in (ovito_frame(water), frame_from_atoms(ase.io.read(water))):
        assert other.molecules.tolist() == frame.molecules.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
        assert words(other, "name") == words(frame, "name")
        assert words(other, "residue") == words(frame, "residue")


def test_molecules_of_a_dump(tmp_path):
    path = tmp_path / "a.dump"
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    path.write_text(
        f"{head}ITEM: ATOMS id mol type element x y z\n1 7 1 O 0 0 0\n2 7 2 H 1 0 0\n3 0 3 Na 2 0 0\n"
    )
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == ovito_frame(path).molecules.tolist() == [7, 7, 0]
