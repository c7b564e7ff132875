"""Molecules, atom names and residues of a frame, from every format and back."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms

from phaseseg.frame import Category, Frame
from phaseseg.io import InputError, frame_from_atoms, read_frames, write_frames
from phaseseg.io.names import topology

HEAD = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n4\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\nITEM: ATOMS "


def words(frame, kind):
    codes, names = frame.categories[kind]
    return [names[code] for code in codes]


def gro_line(number, residue, name, row, xyz=(0.1, 0.2, 0.3)):
    return f"{number % 100000:5d}{residue:<5}{name:>5}{row % 100000:5d}" + "".join(f"{x:8.3f}" for x in xyz)


def gro(path, rows):
    path.write_text("\n".join(["water", str(len(rows)), *rows, "2 2 2"]) + "\n")
    [frame] = read_frames(path)
    return frame


def test_gro_residues_are_molecules(tmp_path):
    # Numbers begin again after 99999, and an ion may have the number of the water before it.
    residues = [(99999, "SOL"), (100000, "SOL"), (1, "SOL"), (1, "NA"), (1, "SOL")]
    atoms = [("OW", "HW1", "HW2") if name == "SOL" else ("NA",) for _, name in residues]
    rows = [
        gro_line(number, residue, name, 1)
        for (number, residue), names in zip(residues, atoms, strict=True)
        for name in names
    ]
    frame = gro(tmp_path / "water.gro", rows)
    assert frame.molecules.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 5, 5]
    assert words(frame, "name") == [name for names in atoms for name in names]
    assert words(frame, "residue") == ["SOL"] * 9 + ["NA"] + ["SOL"] * 3
    assert frame.species_mask("residue:NA").sum() == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
def test_gro_lines_of_different_lengths(tmp_path, end):
    path = tmp_path / "a.gro"
    rows = [
        gro_line(1, "SOL", "OW", 1, (1.5, -0.25, 1e2)),
        gro_line(1, "SOL", "HW1", 2) + "  0.1000  0.2000  0.3000",
    ]
    path.write_bytes((end.join(["water", "2", *rows, "2 2 2"]) + end).encode())
    [frame] = read_frames(path)
    np.testing.assert_array_equal(frame.positions, [[15.0, -2.5, 1000.0], [1.0, 2.0, 3.0]])
    assert (words(frame, "name"), frame.molecules.tolist()) == (["OW", "HW1"], [1, 1])


def test_gro_against_ase_on_a_public_file(tmp_path, stranger):
    path = stranger("water-2-interfaces.gro.gz")
    [frame] = read_frames(path)
    (tmp_path / "a.gro").write_bytes(gzip.decompress(path.read_bytes()))
    atoms = ase.io.read(tmp_path / "a.gro")
    np.testing.assert_allclose(frame.positions, atoms.positions, rtol=1e-15)
    assert words(frame, "name") == atoms.arrays["atomtypes"].tolist()
    assert words(frame, "residue") == atoms.arrays["residuenames"].tolist()
    # ASE's numbers, and molecules are three atoms each.
    assert np.bincount(frame.molecules)[1:].tolist() == [3] * 2048
    assert frame.molecules.tolist() == frame_from_atoms(atoms).molecules.tolist()


def test_molecules_of_a_dump(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(
        HEAD
        + "id mol element resname x y z\n1 7 O SOL 0 0 0\n2 7 H SOL 1 0 0\n3 2 H X 2 0 0\n4 0 Na NA 3 0 0\n"
    )
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == [7, 7, 2, 0]
    assert words(frame, "residue") == ["SOL", "SOL", "X", "NA"]
    assert not frame.fields
    [frame] = read_frames(path, fields=True)
    assert (list(frame.fields), frame.molecules.tolist()) == (["mol"], [7, 7, 2, 0])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (title, [5, 5, 1])
        for title in ("mol", "molecule", "mol_id", "molecule_identifier", "MoleculeIdentifier")
    ]
    + [(title, [1, 1, 2]) for title in ("resid", "ResidueIdentifier", "residuenumbers")],
)
def test_molecules_of_extended_xyz(tmp_path, title, expected):
    path = tmp_path / "a.xyz"
    path.write_text(
        f'3\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:{title}:I:1:AtomName:S:1'
        ":residue:S:1\n"
        "O 0 0 0 5 OW SOL\nH 1 0 0 5 HW SOL\nNa 2 0 0 1 Na+ ION\n"
    )
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == expected
    assert (words(frame, "name"), words(frame, "residue")) == (["OW", "HW", "Na+"], ["SOL", "SOL", "ION"])
    assert frame_from_atoms(ase.io.read(path)).molecules.tolist() == expected


def test_text_in_columns_of_numbers(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(
        '3\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:resid:S:1:molecule:S:1\n'
        "O 0 0 0 27 SOL\nH 1 0 0 27A SOL\nH 2 0 0 27A SOL\n"
    )
    [frame] = read_frames(path)
    assert (frame.molecules.tolist(), words(frame, "residue")) == ([1, 2, 2], ["SOL"] * 3)


def test_a_residue_that_is_no_number_spoils_nothing(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(
        HEAD.replace("\n4\n", "\n2\n") + "id mol resid element x y z\n1 1 27 O 0 0 0\n2 1 27A H 1 0 0\n"
    )
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == [1, 1]
    path.write_text(path.read_text().replace("mol resid", "resid mol"))
    assert next(read_frames(path)).molecules.tolist() == [1, 1]


def test_columns_that_cannot_be_molecules_or_words_are_left_out(tmp_path):
    path = tmp_path / "a.xyz"
    rows = "".join(f"O 0 0 {k} {k}.5 n{k}\n" for k in range(300))
    path.write_text(
        f'300\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:mol:R:1:name:S:1\n{rows}'
    )
    [frame] = read_frames(path, fields=True)
    assert frame.molecules is None and not frame.categories
    assert frame.fields["mol"][1] == 1.5


PDB = """CRYST1   20.000   20.000   20.000  90.00  90.00  90.00 P 1           1
ATOM      1  OW  SOL A   1       1.000   2.000   3.000  1.00  0.00           O
ATOM      2  HW1 SOL A   1       2.000   2.000   3.000  1.00  0.00           H
ATOM      3  OW  SOL A   2       1.000   5.000   3.000  1.00  0.00           O
HETATM    4 NA    NA A   2       1.000   5.000   9.000  1.00  0.00          NA
END
"""


def test_pdb_residues_are_molecules(tmp_path):
    path = tmp_path / "a.pdb"
    path.write_text(PDB)
    [frame] = read_frames(path)
    assert frame.molecules.tolist() == [1, 1, 2, 3]
    assert (words(frame, "name"), words(frame, "residue")) == (
        ["OW", "HW1", "OW", "NA"],
        ["SOL"] * 3 + ["NA"],
    )


def test_arrays_of_ase(tmp_path):
    atoms = Atoms("OHHNa", positions=np.arange(12).reshape(4, 3), cell=[20, 20, 20], pbc=True)
    assert frame_from_atoms(atoms).molecules is None
    atoms.arrays["residuenumbers"] = np.array([1, 1, 1, 1])
    atoms.arrays["residuenames"] = np.array(["SOL", "SOL", "SOL", "NA"], dtype=object)
    assert frame_from_atoms(atoms).molecules.tolist() == [1, 1, 1, 2]
    atoms.arrays["mol-id"] = np.array([4, 4, 4, 9])
    assert frame_from_atoms(atoms).molecules.tolist() == [4, 4, 4, 9]


def test_residues_without_numbers():
    names = ["OW", "HW1", "HW2", "OW", "HW1", "HW2", "NA", "NA", "OW", "HW1", "HW2"]
    residues = ["SOL"] * 6 + ["NA"] * 2 + ["SOL"] * 3
    found = topology({"Atom Name": names, "Residue Type": residues})
    assert found["molecules"].tolist() == [1, 1, 1, 2, 2, 2, 3, 4, 5, 5, 5]
    assert topology({"Atom Name": names})["molecules"] is None


RAGGED = np.empty(3, dtype=object)
RAGGED[:] = [1], "a", None


@pytest.mark.parametrize(
    "values",
    [np.ones((3, 2)), RAGGED, np.array([1.5, np.nan, 2]), np.array([1e300, 1, 2]), np.array(["a", "b", "c"]),
     np.full(3, 1 + 1j), np.array([True, False, True]), np.array([1, 2, 3], "datetime64[s]"),
     np.array([b"a", b"\xff", b"c"])],
)  # fmt: skip
@pytest.mark.parametrize("title", ["mol", "residuenumbers", "atomtypes", "residuenames"])
def test_arrays_of_any_kind(title, values):
    atoms = Atoms("OHH", positions=np.arange(9).reshape(3, 3), cell=[20, 20, 20], pbc=True)
    atoms.arrays |= {
        "atomtypes": np.array(["O1", "H", "H"]),
        "residuenames": np.array(["A"] * 3),
        title: values,
    }
    try:
        frame = frame_from_atoms(atoms)
    except InputError:
        assert title == "atomtypes"  # names without an element
    else:
        assert frame.molecules is None or frame.molecules.dtype == np.int64


@pytest.mark.parametrize("name", ["a.xyz", "a.dump"])
def test_written_molecules_come_back(tmp_path, name):
    frame = Frame(
        np.arange(9.0).reshape(3, 3), np.eye(3) * 20, True, ["O", "H", "O"], molecules=[1, 1, 4],
        categories={"name": Category.of(["OW", "HW", "OW"]), "residue": Category.of(["SOL", "SOL", "X"])},
    )  # fmt: skip
    write_frames(tmp_path / name, [frame])
    [read] = read_frames(tmp_path / name)
    assert read.molecules.tolist() == [1, 1, 4]
    if name == "a.xyz":
        assert (words(read, "name"), words(read, "residue")) == (["OW", "HW", "OW"], ["SOL", "SOL", "X"])
    # A file with its own column of molecules keeps that one.
    [read] = read_frames(tmp_path / name, fields=True)
    write_frames(tmp_path / f"again-{name}", [read])
    assert (tmp_path / f"again-{name}").read_text().count("mol") == 1
