"""Molecules, names and species of a file are the same in every face."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

import ase_bridge
from phaseseg import cli
from phaseseg.io import read_frames

WATER = [("SOL", ("OW", "HW1", "HW2"))] * 3 + [("MET", ("C", "O"))]
# A melt whose names are no elements, four-site water and ions.
HARD = [
    *[("MELT", ("OS",)), ("MELT", ("FE",)), ("MELT", ("SI1",)), ("MELT", ("HO",)), ("MELT", ("CA",))] * 2,
    *[("SOL", ("OW", "HW1", "HW2", "MW"))] * 2,
    *[("NA", ("NA",)), ("CL", ("CL",)), ("SOD", ("SOD",)), ("ALA", ("N", "CA", "CB", "C", "O"))],
]  # fmt: skip


def write(path, molecules):
    """A GRO or PDB file of (residue, atom names), without elements."""
    atoms = [(k, residue, name) for k, (residue, names) in enumerate(molecules, 1) for name in names]
    if path.suffix == ".gro":
        rows = [
            f"{number:5d}{residue:<5}{name:>5}{row:5d}{0.1 * number:8.3f}{0.01 * row:8.3f}{0.3:8.3f}"
            for row, (number, residue, name) in enumerate(atoms, 1)
        ]
        lines = ["water", str(len(rows)), *rows, "   9.00000   9.00000   9.00000"]
    else:
        rows = [
            f"ATOM  {row:5d} {name:<4} {residue:<4}A{number:4d}{1.0 * number:12.3f}{0.1 * row:8.3f}{3:8.3f}"
            for row, (number, residue, name) in enumerate(atoms, 1)
        ]
        lines = ["CRYST1   90.000   90.000   90.000  90.00  90.00  90.00 P 1           1", *rows, "END"]
    path.write_text("\n".join(lines) + "\n")
    return path


def words(frame, kind):
    codes, names = frame.categories[kind]
    return np.array(names)[codes].tolist()


def species(frame):
    return np.array(frame.species_names)[frame.species].tolist()


def ovito_frame(path, **options):
    io = pytest.importorskip("ovito.io")
    from ovito_phaseseg.convert import frame_from_data

    return frame_from_data(io.import_file(path).compute(), **options)


@pytest.mark.parametrize("name", ["water.gro", "water.pdb"])
def test_molecules(tmp_path, name):
    path = write(tmp_path / name, WATER)
    [frame] = read_frames(path)
    for other in (ovito_frame(path), ase_bridge.frame_from_atoms(ase.io.read(path))):
        assert other.molecules.tolist() == frame.molecules.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
        assert words(other, "name") == words(frame, "name")
        assert words(other, "residue") == words(frame, "residue")
        assert species(other) == species(frame)


ELEMENTS = [*["O", "Fe", "Si", "H", "Ca"] * 2, *["O", "H", "H", "X"] * 2, "Na", "Cl", "Na", *"NCCCO"]


@pytest.mark.parametrize("name", ["melt.gro", "melt.pdb"])
def test_guessed_elements(tmp_path, name):
    path = write(tmp_path / name, HARD)
    [frame] = read_frames(path)
    assert species(frame) == ELEMENTS
    assert [message.code for message in frame.messages] == ["guessed-elements"]
    frames = [ovito_frame(path)]
    if name.endswith("gro"):  # ASE refuses a PDB file with an atom MW
        frames.append(ase_bridge.frame_from_atoms(ase.io.read(path)))
    for other in frames:
        assert species(other) == ELEMENTS
        assert [message.code for message in other.messages] == ["guessed-elements"]
    assert "OS=Os in the parameter 'names'" in frames[0].messages[0]
    command = ["label", str(path), "--species", "O", "--sigma", "2", "--phases", "2", "--json"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert any("--names OS=Os" in message for message in json.loads(result.stdout)["messages"])
    table = json.loads(result.stdout)["tables"]["composition"]
    assert all(row["O (wt%)"] is not None for row in table if row["phase"] == "all")


def test_names_in_every_face(tmp_path):
    path = write(tmp_path / "a.gro", [("MET", ("Me1", "O2", "H3")), ("SOL", ("OW", "MW"))])
    names = {"Me1": "C", "MW": "X", "H": "D"}
    text = ",".join(f"{key}={name}" for key, name in names.items())
    atoms = ase.io.read(path)
    found = [
        *(next(read_frames(path, names=one)) for one in (names, text)),
        *(ase_bridge.frame_from_atoms(atoms, names=one) for one in (names, text)),
        ovito_frame(path, names=text),
    ]
    for frame in found:
        assert (species(frame), frame.messages) == (["C", "O", "D", "O", "X"], ())
    for refuse in (
        lambda: list(read_frames(path)),
        lambda: ase_bridge.frame_from_atoms(atoms),
        lambda: ovito_frame(path),
    ):
        with pytest.raises(ValueError, match=r"'Me1' does not begin with an element symbol.*Me1=C"):
            refuse()
    label = ["label", str(path), "--species", "O", "--sigma", "2"]
    result = CliRunner().invoke(cli.app, label)
    assert (
        result.exit_code == 3 and "as in --names Me1=C." in result.output and "names={" not in result.output
    )
    result = CliRunner().invoke(cli.app, [*label, "--names", text, "-o", str(tmp_path / "a.xyz")])
    assert result.exit_code == 0, result.output
    assert species(next(read_frames(tmp_path / "a.xyz"))) == ["C", "O", "D", "O", "X"]


def test_molecules_of_a_dump(tmp_path):
    path = tmp_path / "a.dump"
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    path.write_text(
        f"{head}ITEM: ATOMS id mol type element x y z\n1 7 1 O 0 0 0\n2 7 2 H 1 0 0\n3 0 3 Na 2 0 0\n"
    )
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == ovito_frame(path).molecules.tolist() == [7, 7, 0]


@pytest.mark.parametrize("types", ["A,B", "0=A,1=B"])
def test_types_that_begin_with_zero(tmp_path, types):
    path = tmp_path / "ka.dump"
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    path.write_text(f"{head}ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 0 1 0 0\n3 0 2 0 0\n")
    [frame] = read_frames(path, types=types)
    codes = ["types-from-zero"] if types == "A,B" else []
    for other in (frame, ovito_frame(path, types=types)):
        assert (species(other), [message.code for message in other.messages]) == (["B", "A", "A"], codes)
    atoms = ase.io.read(path, format="lammps-dump-text")
    assert species(ase_bridge.frame_from_atoms(atoms, species_array="type", names="0=A,1=B")) == [
        "B",
        "A",
        "A",
    ]
    result = CliRunner().invoke(
        cli.app, ["label", str(path), "--species", "A", "--types", types, "-o", f"{path}.xyz"]
    )
    assert result.exit_code == 0, result.output
    assert species(next(read_frames(f"{path}.xyz"))) == ["B", "A", "A"]
