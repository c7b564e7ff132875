"""LAMMPS data files: atom styles, names of the types, cells, images."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

from io_samples import COMMENTED, MASSES, NAMES, PLAIN_MASSES as PLAIN, assert_same, data_text, make_frame
from phaseseg.io import InputError, read_frames
from phaseseg.io.lammps_data import STYLES


def read_one(path, **options):
    [frame] = read_frames(path, **options)
    return frame


@pytest.fixture
def frame():
    return make_frame(pbc=True)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_styles(tmp_path, frame, style, images):
    path = tmp_path / "melt.data"
    shifts = np.random.default_rng(0).integers(-2, 3, (len(frame), 3)) if images else None
    for comment, options in ((style, {}), (None, {"file_format": f"lammps-data:{style}"})):
        path.write_text(data_text(frame, style, comment, images=shifts))
        read = read_one(path, **options)
        whole = "mol" in STYLES[style].split()
        moved = frame.positions + shifts @ frame.cell if images and whole else frame.positions
        assert_same(read, frame.replace(positions=moved))
        assert read.timestep == 7000
        assert (read.molecules is None) == (not whole)
        assert read.molecules is None or read.molecules.tolist() == [1 + k // 3 for k in range(30)]
    assert "q" not in read.fields
    fields = read_one(path, fields=True, file_format=f"lammps-data:{style}").fields
    assert set(fields) == set(STYLES[style].split()) - {"id", "mol", "type", "x", "y", "z"}


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("style", ["atomic", "charge", "molecular", "full", "sphere", "bpm/sphere"])
def test_style_without_its_comment(tmp_path, frame, style, images):
    path = tmp_path / "data.melt"
    shifts = np.zeros((len(frame), 3), int) if images else None
    path.write_text(data_text(frame, style, images=shifts))
    read = read_one(path)
    assert_same(read, frame)
    assert (read.molecules is None) == ("mol" not in STYLES[style].split())


@pytest.mark.parametrize("style", ["atomic", "charge", "molecular", "full"])
@pytest.mark.parametrize("triclinic", [False, True])
def test_agrees_with_ase(tmp_path, style, triclinic):
    frame = make_frame(triclinic=triclinic, pbc=True)
    frame = frame.replace(
        positions=frame.positions - frame.origin, origin=np.zeros(3)
    )  # ASE drops the origin
    path = tmp_path / "melt.lmp"
    text = data_text(frame, style, style)
    path.write_text(text[: text.index("Velocities")])
    oracle = ase.io.read(path, format="lammps-data", atom_style=style, sort_by_id=False)
    read = read_one(path)
    np.testing.assert_allclose(read.positions, oracle.positions, rtol=0, atol=1e-9)
    np.testing.assert_allclose(read.cell, oracle.cell, rtol=0, atol=1e-9)
    assert np.array(read.species_names)[read.species].tolist() == oracle.get_chemical_symbols()


def test_ambiguous_styles_must_be_named(tmp_path, frame):
    path = tmp_path / "melt.data"
    ones = np.ones(len(frame), dtype=int)
    text = data_text(frame, "sphere", types=ones)
    path.write_text(text.replace(" 1.0 2.5 ", " 1 2.5 "))
    with pytest.raises(
        InputError, match=r"melt.data, frame 0: .*fit several atom styles \(full, sphere\).*--format"
    ):
        read_one(path)
    assert read_one(path, file_format="lammps-data:sphere").molecules is None
    path.write_text(data_text(frame, "spin"))
    with pytest.raises(InputError, match=r"9 columns fit several atom styles \(dipole, spin\)"):
        read_one(path)
    path.write_text(text.replace(" 2.5 ", " x 2 3 4 5 6 7 "))
    with pytest.raises(InputError, match="13 columns fit no atom style"):
        read_one(path)
    path.write_text(data_text(frame, "full", "charge"))
    with pytest.raises(
        InputError, match=r"has 7 columns, but the atom style charge has 6 \(id type q x y z\)"
    ):
        read_one(path)
    with pytest.raises(InputError, match="'spinning' is not an atom style that is read"):
        read_one(path, file_format="lammps-data:spinning")


def test_hybrid_styles(tmp_path, frame):
    rows = [f"{i} {t + 1} {x!r} {y!r} {z!r} 7 1.0 2.5" for i, t, (x, y, z) in
            zip(frame.ids, frame.species, frame.positions.tolist(), strict=True)]  # fmt: skip
    head, rest = data_text(frame, comment="atomic").split("Atoms # atomic\n\n")
    tail = rest[rest.index("\nVelocities") :]
    path = tmp_path / "melt.data"
    for comment, molecules in (("hybrid molecular sphere", [7] * 30), ("hybrid smd wild", None)):
        path.write_text(head + f"Atoms # {comment}\n\n" + "\n".join(rows) + "\n" + tail)
        read = read_one(path)
        assert_same(read, frame)
        assert molecules == (None if read.molecules is None else read.molecules.tolist())


def said(frame):
    return [message.code for message in frame.messages]


@pytest.mark.parametrize(
    ("masses", "species", "names", "codes"),
    [
        (PLAIN, NAMES, None, ["species-by-mass"]),
        ("1 55.85\n2 24.3050\n3 16.0\n", NAMES, None, ["species-by-mass"]),
        ("1 56\n2 24\n3 16\n", NAMES, None, ["species-by-mass"]),
        (PLAIN.replace("\n", " # OW\n", 1), NAMES, None, ["species-by-mass"]),
        ("1 55.845 # a\n2 24.305 # b\n3 15.999 # OW\n", NAMES, ("a", "b", "OW"), ["species-by-mass"]),
        ("1 15.999 # O\n2 1.008 # H\n3 1e-3 # MW\n", ("O", "H", "X"), ("O", "H", "MW"), ["species-by-mass"]),
        ("1 12 # Ca\n2 1.008 # H1\n3 16 # OS\n", ("C", "H", "O"), ("Ca", "H1", "OS"), ["species-by-mass"]),
        ("1 1.0 # A\n2 1.0 # B\n3 1.0 # W\n", ("A", "B", "W"), None, []),
        ("1 14.027 # CH2\n2 15.035 # CH3\n3 16.043 # CH4\n", ("CH2", "CH3", "CH4"), None, []),
    ],
)  # fmt: skip
def test_names_of_the_types(tmp_path, frame, masses, species, names, codes):
    path = tmp_path / "melt.data"
    path.write_text(data_text(frame, "full", "full", masses=masses))
    read = read_one(path)
    assert (read.species_names, said(read)) == (species, codes)
    np.testing.assert_array_equal(read.species, frame.species)
    if names:
        assert [names[code] for code in frame.species] == [
            read.categories["name"].names[code] for code in read.categories["name"].codes
        ]


@pytest.mark.parametrize(
    "masses",
    ["1 1.0\n2 1.0\n3 1\n", "", "1 14.027\n2 15.999\n3 1.008\n", "1 40.0\n2 15.999\n3 1.008\n",
     "1 2.0 # type 1\n2 3.0 # type 2\n3 5.0 # type 3\n"],
)  # fmt: skip
def test_types_without_names_are_not_guessed(tmp_path, frame, masses):
    path = tmp_path / "melt.data"
    path.write_text(data_text(frame, masses=masses))
    with pytest.raises(InputError, match=r"no element names, only the types 1, 2, 3\. .*--types Fe,O,Mg[.]"):
        read_one(path)
    for types in (NAMES, "1=Fe,2=Mg,3=O"):
        assert_same(read_one(path, types=types), frame)


def test_masses_of_reduced_units_are_no_elements(tmp_path, frame):
    path = tmp_path / "melt.data"
    path.write_text(data_text(frame, masses="1 12.011\n2 1.0\n3 2.0\n", title="units = lj, timestep = 4"))
    with pytest.raises(InputError, match="--types"):
        read_one(path)
    read = read_one(path, types="A,B,C")
    assert (read.units, read.timestep) == ("lj", 4)
    path.write_text(data_text(frame, title="units = si"))
    with pytest.raises(InputError, match="LAMMPS units 'si'"):
        read_one(path)


@pytest.mark.parametrize("words", [False, True])
def test_type_labels(tmp_path, frame, words):
    labels = ("Fe", "Mg", "OW")
    masses = (
        "".join(f"{label} {mass}\n" for label, mass in zip(labels, MASSES, strict=True)) if words else PLAIN
    )
    section = "Atom Type Labels\n\n1 Fe\n2 Mg\n3 OW\n\nMasses"
    types = [labels[code] for code in frame.species] if words else None
    path = tmp_path / "melt.data"
    path.write_text(data_text(frame, "charge", "charge", masses, types=types).replace("Masses", section))
    read = read_one(path)
    assert_same(read, frame)
    assert read.species_mask("name:OW").sum() == (frame.species == 2).sum()


def test_masses_after_the_atoms_and_general_cells(tmp_path, frame):
    text = data_text(frame, "molecular", "molecular")
    moved = text.replace("Masses\n\n" + COMMENTED, "") + "\nMasses\n\n" + COMMENTED
    path = tmp_path / "melt.data"
    path.write_text(moved)
    assert_same(read_one(path), frame)
    lines = [
        f"{' '.join(map(repr, row.tolist()))} {name}vec" for row, name in zip(frame.cell, "abc", strict=True)
    ]
    lines.append(f"{' '.join(map(repr, frame.origin.tolist()))} abc origin")
    start, end = text.index(f"{frame.origin.tolist()[0]!r} "), text.index("\n\nMasses")
    path.write_text(text[:start] + "\n".join(lines) + text[end:])
    assert_same(read_one(path), frame)


def test_molecules_are_made_whole_by_their_images(tmp_path):
    path = tmp_path / "water.data"
    path.write_text(
        "water\n\n3 atoms\n2 atom types\n0 10 xlo xhi\n0 10 ylo yhi\n0 10 zlo zhi\n\nMasses\n\n"
        "1 15.9994\n2 1.008\n\nAtoms # full\n\n1 1 1 -0.8 9.8 5 5 0 0 0\n2 1 2 0.4 0.5 5 5 1 0 0\n"
        "3 1 2 0.4 9.5 9.9 5 0 -1 0 # H\n"
    )
    read = read_one(path)
    np.testing.assert_allclose(read.positions, [[9.8, 5, 5], [10.5, 5, 5], [9.5, -0.1, 5]])
    assert read.molecules.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("30 atoms", "x atoms"), "expected the number of atoms"),
        (lambda text: text.replace("30 atoms", "40 atoms"), "ends after 30 of 40|has . columns"),
        (lambda text: text.replace("ylo yhi", "yl yh"), "'ylo yhi' must be 2 numbers"),
        (lambda text: text.replace("Atoms", "Atom"), "no section 'Atoms'"),
        (lambda text: text.replace("# atomic\n\n", "# atomic\n"), "expected a blank line after 'Atoms'"),
        (lambda text: text.replace("1 55.845", "1 heavy"), "Masses holds '1 heavy # Fe'"),
        (lambda text: text[: text.index("Velocities") - 200], "ends after|columns"),
    ],
)
def test_damaged_data_files(tmp_path, frame, change, match):
    path = tmp_path / "melt.data"
    path.write_text(change(data_text(frame, comment="atomic")))
    with pytest.raises(InputError, match=match) as caught:
        read_one(path, file_format="lammps-data")
    assert "melt.data" in str(caught.value)
