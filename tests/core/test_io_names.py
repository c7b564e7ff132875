"""Elements of atom names, names that the caller gives, and types that begin at 0."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from phaseseg import label_phases
from phaseseg.display import face
from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.io import InputError, frame_from_atoms, read_frames
from phaseseg.io.elements import elements_of


def species(frame):
    return [frame.species_names[code] for code in frame.species]


def codes(frame):
    return [message.code for message in frame.messages]


def gro(path, atoms):
    """A GRO file of (residue, atom name), a residue each."""
    rows = [
        f"{k:5d}{residue:<5}{name:>5}{k:5d}{0.1 * k:8.3f}{0.2:8.3f}{0.3:8.3f}"
        for k, (residue, name) in enumerate(atoms, 1)
    ]
    path.write_text("\n".join(["melt", str(len(rows)), *rows, "   9.00000   9.00000   9.00000"]) + "\n")
    return path


def pdb(path, atoms):
    """A PDB file of (residue, atom name, element), a residue each."""
    rows = [
        f"ATOM  {k:5d} {name:<4} {residue:<4}A{k:4d}    {1.0 * k:8.3f}{2:8.3f}{3:8.3f}{1:6.2f}{k:6.2f}"
        f"{element:>12}"
        for k, (residue, name, element) in enumerate(atoms, 1)
    ]
    cell = "CRYST1   50.000   60.000   70.000  90.00  80.00  70.00 P 1           1"
    path.write_text("\n".join([cell, *rows, "END"]) + "\n")
    return path


# Residue: {atom name: element}. A question mark: the reading may be wrong, and a message says so.
KNOWN = {
    "ALA": {"N": "N", "CA": "C", "HA": "H", "CB": "C", "1HB": "H", "C": "C", "O": "O", "OXT": "O"},
    "MET": {"CG": "C", "SD": "S", "CE": "C", "HE1": "H", "HG2": "H"},
    "HIS": {"ND1": "N", "NE2": "N", "CD2": "C", "HD1": "H", "HE1": "H"},
    "CYS": {"SG": "S", "HG": "H"},
    "SER": {"OG": "O", "HG": "H"},
    "HEM": {"FE": "Fe", "NA": "N", "NB": "N", "ND": "N", "CHA": "C", "CAA": "C", "CBA": "C", "O1A": "O"},
    "POPC": {"N": "N", "C13": "C", "C14": "C", "P": "P", "OS1": "O", "HO": "H", "CA1": "C"},
    "ATP": {"PG": "P", "PB": "P", "PA": "P", "C4'": "C", "C5'": "C", "N9": "N", "O5'": "O", "HO3'": "H"},
    "SOL": {"OW": "O", "HW1": "H", "HW2": "H", "MW": "X?", "LP1": "X?"},
    "TIP3": {"OH2": "O", "H1": "H"},
    "NA": {"NA": "Na"},
    "NA+": {"NA+": "Na"},
    "CL": {"CL": "Cl"},
    "CLA": {"CLA": "Cl"},
    "SOD": {"SOD": "Na"},
    "POT": {"POT": "K"},
    "CAL": {"CAL": "Ca"},
    "CA": {"CA": "Ca"},
    "HG": {"HG": "Hg"},
    "ION": {"NA": "Na", "POT": "K", "CA2+": "Ca"},
    "MELT": {"OS": "O?", "FE": "Fe", "SI1": "Si", "CA": "Ca?", "NA": "Na?", "HO": "H?", "AL": "Al"},
    "UNK": {"CA": "C?", "NA": "N?", "HO": "H?", "SOD": "Na?"},
    "W": {"W": "X?"},
    "AR": {"AR": "Ar"},
    "LJ": {"Ar": "Ar", "Os": "Os"},
    "SLAB": {"CU": "Cu", "NI": "Ni", "ZR": "Zr"},
    "STEEL": {"FE": "Fe", "C": "C", "CR": "Cr?", "CO": "Co?", "NB": "Nb?", "MN": "Mn"},
    "LIG": {"C1": "C", "C2": "C", "CO": "C?", "CA": "C", "CS1": "C?", "CU": "Cu", "OS": "O", "CL": "Cl"},
    "CC3": {"CA": "C?", "C": "C", "O1": "O"},
    "MOH": {"Me1": None, "O2": "O", "H3": "H"},
    "DPPC": {"GL1": None, "D2A": None, "C1A": "C", "PO4": "P?", "NC3": "N"},
}  # fmt: skip


def test_elements_of_atom_names():
    pairs = [(name, residue) for residue, names in KNOWN.items() for name in names]
    found = elements_of(pairs)
    wrong = {
        pair: (guess, expected)
        for pair, guess in zip(pairs, found, strict=True)
        if (expected := KNOWN[pair[1]][pair[0]])
        != (guess.element and guess.element + "?" * bool(guess.other))
    }
    assert not wrong


def test_elements_of_molecules_from_ase():
    """Every atom of a molecule, named by its element and a number, gets this element."""
    for name in (
        "CH3CH2OH",
        "C6H6",
        "SiH4",
        "CH3Cl",
        "NaCl",
        "LiF",
        "H2O",
        "C2H6NH",
        "CH3SH",
        "PH3",
        "AlCl3",
    ):
        symbols = molecule(name).get_chemical_symbols()
        names = [f"{symbol.upper()}{k}" for k, symbol in enumerate(symbols)]
        assert [one.element for one in elements_of([(n, "MOL") for n in names])] == symbols


def test_one_message_names_the_guesses_and_the_remedy(tmp_path):
    path = gro(tmp_path / "a.gro", [("MELT", "OS")] * 3 + [("MELT", "Fe"), ("SOL", "MW"), ("SOL", "OW")])
    [frame] = read_frames(path)
    assert species(frame) == ["O"] * 3 + ["Fe", "X", "O"]
    assert codes(frame) == ["guessed-elements"]
    assert "OS as O (3 atoms)" in frame.messages[0] and "MW as X (1 atom)" in frame.messages[0]
    assert "names={'OS': 'Os'}" in frame.messages[0] and "--names OS=Os" in frame.messages[0]
    for names in ({"OS": "O", "MW": "X"}, "OS=O, MW=X", ["OS=O", "MW=X"]):
        [frame] = read_frames(path, names=names)
        assert (species(frame), codes(frame)) == (["O"] * 3 + ["Fe", "X", "O"], [])
    with face("command line"):
        [frame] = read_frames(path)
    assert "--names OS=Os" in frame.messages[0] and "names={" not in frame.messages[0]


def test_names_without_element(tmp_path):
    path = gro(tmp_path / "a.gro", [("MET", "Me1"), ("MET", "O2"), ("MET", "Q")])
    with pytest.raises(
        InputError, match=r"frame 0: the atom names 'Me1', 'Q' .*names=\{'Me1': 'C', 'Q': 'X'\}"
    ):
        list(read_frames(path))
    with face("command line"), pytest.raises(InputError, match=r"as in --names Me1=C,Q=X\.$"):
        list(read_frames(path))
    [frame] = read_frames(path, names="Me1=C,Q=X")
    assert species(frame) == ["C", "O", "X"]


def test_names_rename_elements_and_types_once(tmp_path):
    path = gro(tmp_path / "a.gro", [("ALA", "CA"), ("ALA", "CB"), ("ALA", "O")])
    assert species(next(read_frames(path, names={"CA": "C", "C": "Q"}))) == ["C", "Q", "O"]
    path = tmp_path / "a.dump"
    head = (
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\nITEM: ATOMS "
    )
    path.write_text(head + "id type element x y z\n1 1 Fe 0 0 0\n2 2 O 1 1 1\n")
    assert species(next(read_frames(path, names={"O": "S"}))) == ["Fe", "S"]
    assert species(next(read_frames(path, types="A,B", names="B=C"))) == ["A", "C"]
    assert species(next(read_frames(path, types={"O": "S"}))) == ["Fe", "S"]
    atoms = ase.io.read(path, format="lammps-dump-text")
    atoms.symbols = "FeO"
    assert species(frame_from_atoms(atoms, names="O=S")) == ["Fe", "S"]
    assert species(frame_from_atoms(atoms, species_array="type", names={"1": "Ni"})) == ["Ni", "2"]


def test_names_that_the_file_does_not_have(tmp_path):
    path = gro(tmp_path / "a.gro", [("SOL", "OW"), ("SOL", "HW1")])
    [frame] = read_frames(path, names="Ow=Q,HW1=D,O=O")
    assert (species(frame), codes(frame)) == (["O", "D"], ["names-unused"])
    assert "Ow" in frame.messages[0] and "HW1" not in frame.messages[0]


@pytest.mark.parametrize("names", ["MW", "MW=", "=X", {"MW": ""}, ["MW=X", "Q"]])
def test_bad_names(tmp_path, names):
    with pytest.raises(ValueError, match="names must be pairs like MW=X"):
        read_frames(gro(tmp_path / "a.gro", [("AR", "AR")]), names=names)


def test_types_from_zero(tmp_path):
    path = tmp_path / "ka.dump"
    head = (
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\nITEM: ATOMS "
    )
    first = head + "id type x y z\n1 1 0 0 0\n2 0 1 1 1\n3 0 2 2 2\n"
    path.write_text(first + first.replace("\n2 0 1", "\n2 1 1").replace("\n3 0 2", "\n3 1 2"))
    one, two = read_frames(path, types="A,B")  # the second has type 1 only
    assert (species(one), species(two)) == (["B", "A", "A"], ["B", "B", "B"])
    assert codes(one) == codes(two) == ["types-from-zero"]
    for types in ("0=A,1=B", {0: "A", 1: "B"}):
        one, two = read_frames(path, types=types)
        assert (species(one), species(two), codes(one)) == (["B", "A", "A"], ["B", "B", "B"], [])
    for types in ("1=A,2=B", "A", "0=A"):
        with pytest.raises(InputError, match="has no name among the given types"):
            list(read_frames(path, types=types))
    with pytest.raises(InputError, match=r"no element names, only the types 0, 1.* --types 0=A,1=B"):
        next(read_frames(path))


# ------------------------------------------------------------------------------------------- PDB


def test_pdb_agrees_with_ase(tmp_path):
    path = pdb(
        tmp_path / "a.pdb", [("ALA", "CA", "C"), ("CA", "CA", "CA"), ("SOL", "OW", "O"), ("OS", "OS", "OS")]
    )
    [frame] = read_frames(path, fields=True)
    atoms = ase.io.read(path)
    np.testing.assert_allclose(frame.positions, atoms.positions)
    np.testing.assert_allclose(frame.cell, atoms.cell, atol=1e-12)
    assert (
        species(frame)
        == atoms.get_chemical_symbols()
        == species(frame_from_atoms(atoms))
        == ["C", "Ca", "O", "Os"]
    )
    assert frame.fields["bfactor"].tolist() == [1, 2, 3, 4] and not frame.messages


def test_pdb_without_elements(tmp_path):
    path = pdb(
        tmp_path / "a.pdb", [("ALA", "CA", ""), ("CA", "CA", ""), ("SOL", "OW", ""), ("MELT", "OS", "")]
    )
    [frame] = read_frames(path)
    assert (species(frame), codes(frame)) == (["C", "Ca", "O", "O"], ["guessed-elements"])


def test_pdb_frames_and_cell(tmp_path):
    path = pdb(tmp_path / "a.pdb", [("SOL", "OW", "O"), ("SOL", "HW1", "H")])
    cell, *rows = path.read_text().splitlines()
    atoms = rows[:2]
    title = "TITLE     water t=   2.50000 step= 1250"
    text = [
        title,
        cell,
        "MODEL        1",
        *atoms,
        "TER",
        "ENDMDL",
        title.replace("2.5", "3.5"),
        "MODEL        2",
        *atoms[::-1],
        "ENDMDL",
        "END",
    ]
    path.write_text("\n".join(text) + "\n")
    one, two = read_frames(path)
    assert (one.time, one.timestep, two.time) == (2.5, 1250, 3.5)
    np.testing.assert_array_equal(one.cell, two.cell)
    assert two.positions[:, 0].tolist() == [2.0, 1.0]
    path.write_text("\n".join(text[2:]) + "\n")
    with pytest.raises(InputError, match="the file has no cell"):
        list(read_frames(path))
    path.write_text("\n".join([cell, atoms[0], atoms[1].replace("   2.000", "   2.0x0", 1)]) + "\n")
    with pytest.raises(InputError, match=r"line 3: coordinate x \(columns 31 to 38\) is '2\.0x0'"):
        list(read_frames(path))
    for cut in (1, 9, 30):
        path.write_text("\n".join([cell, atoms[0], atoms[1].rstrip()[: 54 - cut]]))
        with pytest.raises(InputError, match="line 3: the line ends before column 54"):
            list(read_frames(path))
    path.write_text("\n".join([cell.replace("90.00", "90.x0"), *atoms]) + "\n")
    with pytest.raises(InputError, match="CRYST1 must hold three edges"):
        list(read_frames(path))
    for angle in ("170.0", "1e400", "  nan"):
        path.write_text("\n".join([cell.replace("90.00", angle), *atoms]) + "\n")
        with pytest.raises(InputError, match=r"frame 0: (three vectors|cell must be)"):
            list(read_frames(path))


def test_a_box_that_may_be_cut_off(tmp_path):
    path = gro(tmp_path / "a.gro", [("AR", "AR")])
    path.write_text(path.read_text().rstrip())
    assert codes(next(read_frames(path))) == ["no-line-end"]


# ------------------------------------------------------------------------------------ mass of sites


def test_sites_have_no_mass(slab_frame):
    assert element_masses(("X", "O"))[0] == 0
    assert np.isnan(element_masses(("Xy",)))
    names = (*slab_frame.species_names, "X")
    species = np.where(np.arange(len(slab_frame)) % 50 == 0, len(names) - 1, slab_frame.species)
    table = label_phases(slab_frame.replace(species=species, species_names=names))["composition"]
    wt = {name: values for name, values in table.columns.items() if "wt%" in str(name)}
    assert sum(values[-1] for values in wt.values()) == pytest.approx(100)
    assert all(values[-1] == 0 for name, values in wt.items() if str(name).startswith("X"))


def test_a_message_names_the_likely_elements_of_species_without_mass(slab_frame):
    names = tuple({"Fe": "FE1", "O": "OW"}.get(name, name) for name in slab_frame.species_names)
    messages = [
        one
        for one in label_phases(slab_frame.replace(species_names=names), names[0]).messages
        if one.code == "no-mass"
    ]
    assert len(messages) == 1 and "FE1=Fe" in messages[0]
    renamed = slab_frame.replace(species_names=("A", *slab_frame.species_names[1:]))
    assert not any("'names'" in message for message in label_phases(renamed, "A").messages)
