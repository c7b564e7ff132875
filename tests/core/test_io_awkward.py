"""Files as strangers write them: odd comment lines, cut off or restarted runs, odd headers, encodings."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms

from io_samples import assert_same, dump_text, make_frame
from phaseseg.io import InputError, frame_from_atoms, read_frames
from phaseseg.io.packing import pack

LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5"'
CUBE = (5 * np.eye(3)).tolist()


def one(folder, comment, name="run.xyz"):
    path = folder / name
    path.write_text(f"1\n{comment}\nFe 0 0 0\n", encoding="utf-8")
    [frame] = read_frames(path)
    return frame


def codes(frame):
    return [message.code for message in frame.messages]


# -------------------------------------------------------------------------------- comment lines


@pytest.mark.parametrize(
    "note",
    [
        r'note="made \"larger\" from Lattice=[16,0,0,0,16,0,0,0,16] temperature=2"',
        r'note="Lattice=\"4 0 0 0 4 0 0 0 4\" temperature=2"',
        r"note='Lattice=\"4 0 0 0 4 0 0 0 4\" temperature=2'",
        "note=[[1, 2], 'Lattice=\"4 0 0 0 4 0 0 0 4\" temperature=2', [3]]",
        "note={a {b Lattice=4} temperature=2}",
        '"a key with Lattice=4 temperature=2"=3',
        'note=see"this Lattice=4 temperature=2"',
        'note="a backslash at the end \\\\"',
        'note="never closed Lattice=4 temperature=2',
        "it's a quarter o'clock",
        "lattice=4 LATTICE=3",
    ],
)
def test_words_in_quotes_are_no_entries(tmp_path, note):
    for comment in (f"{LATTICE} temperature=1 {note}", f"{note} {LATTICE} temperature=1"):
        if "never" in note and comment.startswith("note"):
            continue
        frame = one(tmp_path, comment)
        assert (frame.cell.tolist(), frame.info["temperature"]) == (CUBE, 1.0)


@pytest.mark.parametrize(
    "lattice",
    ["[[5, 0, 0], [0, 5, 0], [0, 0, 5]]", "[5,0,0,0,5,0,0,0,5]", "{5 0 0 0 5 0 0 0 5}", "'5 0 0 0 5 0 0 0 5'",
     '"5.0d0 0 0 0 5D0 0 0 0 5"', ' = "5 0 0 0 5 0 0 0 5"'],
)  # fmt: skip
def test_every_way_to_write_an_array(tmp_path, lattice):
    frame = one(tmp_path, f"open Lattice={lattice.removeprefix(' = ')} pbc=[T, F, true] Origin=[1, 2, 3]")
    assert frame.cell.tolist() == CUBE
    assert (frame.pbc.tolist(), frame.origin.tolist()) == ([True, False, True], [1, 2, 3])
    assert not one(tmp_path, f"{LATTICE} pbc=F").pbc.any()


@pytest.mark.parametrize("value", ["12:30:05", '"1 2"', "[1, 2]", "T", '""', "nan", "1e999", "2024-05-01"])
@pytest.mark.parametrize("key", ["time", "timestep", "Time"])
def test_a_time_that_is_no_number_is_left_out(tmp_path, key, value):
    frame = one(tmp_path, f"{LATTICE} {key}={value}")
    assert (frame.time, frame.timestep, codes(frame)) == (None, None, [f"{key.lower()}-left-out"])
    assert one(tmp_path, f"{LATTICE} {key}=3").messages == ()


def test_a_timestep_beyond_reason_is_left_out(tmp_path):
    assert codes(one(tmp_path, f"{LATTICE} timestep=1e300")) == ["timestep-left-out"]


@pytest.mark.parametrize("value", ["nan", "soon", "1e999", "1 2"])
def test_a_time_in_a_dump_that_is_no_number(tmp_path, value):
    (tmp_path / "run.dump").write_text(DUMP.replace("ITEM: TIMESTEP", f"ITEM: TIME\n{value}\nITEM: TIMESTEP"))
    [frame] = read_frames(tmp_path / "run.dump", dt=0.5)
    assert (frame.time, codes(frame)) == (500.0, ["time-left-out"])


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), "12:30", None, np.nan, {"a": 1}, [1], np.array([3])])
@pytest.mark.parametrize("name", ["run.traj", "atoms"])
def test_a_time_of_ase_that_is_no_number(tmp_path, name, value):
    atoms = Atoms("Fe", [[0, 0, 0]], cell=5 * np.eye(3), info={"time": value, "timestep": value})
    frame = frame_from_atoms(atoms)
    if name == "run.traj":
        ase.io.write(tmp_path / name, atoms)
        [frame] = read_frames(tmp_path / name)
    assert (frame.time, frame.timestep) == (None, None)
    assert len(frame.messages) == (0 if value is None else 2)


@pytest.mark.parametrize("value", ["here", [1, 2], np.eye(3), None])
def test_an_origin_of_ase_must_be_three_numbers(value):
    atoms = Atoms("Fe", [[0, 0, 0]], cell=5 * np.eye(3), info={"Origin": value})
    with pytest.raises(ValueError, match="melt: Origin must be 3 numbers"):
        frame_from_atoms(atoms, source="melt")


# ------------------------------------------------------------------------------- numbers of atoms

GRO = "melt\n{n}\n    1MEL     FE    1   0.000   0.000   0.000\n1 1 1\n"
COUNTED = {
    "run.xyz": f"{{n}}\n{LATTICE}\nFe 0 0 0\n",
    "run.dump": "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{n}\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    "ITEM: ATOMS element x y z\nFe 0 0 0\n",
    "XDATCAR": "melt\n1\n5 0 0\n0 5 0\n0 0 5\nFe\n{n}\nDirect configuration= 1\n0 0 0\n",
    "run.gro": GRO,
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("n_digits", [1, 8, 12, 18, 19, 20, 30, 5000])
def test_more_atoms_announced_than_there_are(tmp_path, name, n_digits):
    (tmp_path / name).write_text(COUNTED[name].format(n="9" * n_digits))
    with pytest.raises(InputError, match=rf"{name}, frame 0.*(ends after|number of atoms|followed by)"):
        list(read_frames(tmp_path / name))


# ------------------------------------------------------------------------- cut off, and restarted

COLUMNS = ["id", "type", "element", "x", "y", "z"]


def dump(seed, n_atoms=30):
    return dump_text(make_frame(seed, n_atoms), COLUMNS, "pp pp ff", number="{:.6f}")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_intact_frames_of_a_cut_file_are_read_as_the_message_says(tmp_path, keep, suffix):
    path = tmp_path / f"run.dump{suffix}"
    text = "".join(dump(k, 2000) for k in range(6)).encode()
    packed = gzip.compress(text) if suffix == ".gz" else pack(text, path.name)
    path.write_bytes(packed[: int(keep * len(packed))])
    with pytest.raises(InputError, match="damaged or cut off") as caught:
        list(read_frames(path))
    n = int(str(caught.value).split("--frames :")[1].split(",")[0])
    assert [len(frame) for frame in read_frames(path, frames=slice(0, n))] == [2000] * n
    assert n in {int(6 * keep), int(6 * keep - 0.5)}  # Zstandard writes blocks of 128 kB
    with pytest.raises(InputError):
        list(read_frames(path, frames=slice(0, n + 1)))


@pytest.mark.parametrize("suffix", ["dump", "xyz"])
def test_a_gz_cut_after_its_last_frame_gives_all_frames_first(tmp_path, suffix):
    text = dump(0, 500) * 3 if suffix == "dump" else f"1\n{LATTICE}\nFe 0 0 0\n" * 3
    path = tmp_path / f"run.{suffix}.gz"
    path.write_bytes(gzip.compress(text.encode())[:-6])  # only the checksum is missing
    n_frames = 0
    with pytest.raises(InputError, match=r"frame 3: .*--frames :3\b"):
        for _ in read_frames(path):
            n_frames += 1
    assert n_frames == 3


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_run_that_was_killed_and_started_again(tmp_path, cut):
    path = tmp_path / "run.dump"
    first, second = dump(0), dump(1)
    path.write_text(first[: len(first) - 40 * cut] + second)
    whole = make_frame(1)
    try:
        frames = list(read_frames(path))
    except InputError as error:
        assert "where another frame begins" in str(error) or "columns" in str(error)
        frames = list(read_frames(path, frames=slice(1, None)))
    assert_same(frames[-1], whole, atol=1e-5)
    assert frames[-1].timestep == whole.timestep


@pytest.mark.parametrize("name", ["run.dump", "run.xyz"])
@pytest.mark.parametrize("n_lost", range(1, 12))
def test_a_last_number_without_line_end(tmp_path, name, n_lost):
    """As long as every column is there the frame is read, and a message warns of the last number."""
    text = (
        dump(0)
        if name == "run.dump"
        else f"1\n{LATTICE} Properties=pos:R:3:species:S:1:q:R:1\n0 0 0 Fe 1.5\n"
    )
    path = tmp_path / name
    path.write_text(text.rstrip() + "\n")
    assert next(read_frames(path)).messages == ()
    path.write_text(text.rstrip()[: 1 - n_lost or None])
    complete = len(path.read_text().splitlines()[-1].split()) == len(text.splitlines()[-1].split())
    if complete:
        assert codes(next(read_frames(path))) == ["no-line-end"]
    else:
        with pytest.raises(InputError, match="columns"):
            list(read_frames(path))


def test_a_dump_of_something_else(tmp_path):
    box = "ITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    for body, match in (
        ("ITEM: NUMBER OF ENTRIES\n1\n" + box + "ITEM: ENTRIES c_1[1]\n1\n", "dump of local data"),
        (box + "ITEM: DIMENSION\n3\nITEM: GRID SIZE\n1 1 1\nITEM: GRID CELLS f\n1\n", "dump of a grid"),
    ):
        (tmp_path / "local.dump").write_text("ITEM: TIMESTEP\n0\n" + body)
        with pytest.raises(InputError, match=match):
            list(read_frames(tmp_path / "local.dump"))


# ---------------------------------------------------------------------------- names and first bytes

XYZ = f"2\n{LATTICE}\nFe 0 0 0\nO 1 1 1\n"
DUMP = dump(0)
VASP = "melt\n1\n5 0 0\n0 5 0\n0 0 5\nFe O\n1 1\nDirect{}\n0 0 0\n.5 .5 .5\n"
GRO_2 = GRO.format(n=2).replace("1 1 1", "    1MEL      O    2   0.100   0.100   0.100\n1 1 1")
DATA = """LAMMPS data file

2 atoms
2 atom types

0 5 xlo xhi
0 5 ylo yhi
0 5 zlo zhi

Masses

1 55.845 # Fe
2 15.999 # O

Atoms # atomic

1 1 0 0 0
2 2 1 1 1
"""
PDB_2 = """CRYST1    5.000    5.000    5.000  90.00  90.00  90.00 P 1           1
ATOM      1 FE    FE A   1       0.000   0.000   0.000  1.00  0.00          FE
ATOM      2  O1   O2 A   2       1.000   1.000   1.000  1.00  0.00           O
END
"""
CONTENTS = {"xyz": XYZ, "dump": DUMP, "xdatcar": VASP.format(" configuration= 1"), "poscar": VASP.format(""),
            "gro": GRO_2, "pdb": PDB_2, "data": DATA}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["dump.xyz", "run.dump.xyz", "dump.melt.5.xyz", "a.dump", "run.lammpstrj", "a.gro", "POSCAR", "a.data",
     "a.txt", "run", "XDATCAR.dump"],
)  # fmt: skip
@pytest.mark.parametrize("kind", CONTENTS)
def test_first_bytes_count_more_than_the_name(tmp_path, name, kind):
    (tmp_path / name).write_text(CONTENTS[kind])
    [frame] = read_frames(tmp_path / name)
    assert len(frame) == (30 if kind == "dump" else 2)


@pytest.mark.parametrize("kind", ["gro", "poscar", "xdatcar", "xyz", "plain"])
def test_a_title_does_not_decide(tmp_path, kind):
    text = {**CONTENTS, "plain": PLAIN}[kind]
    title = "2 atoms" if kind != "xyz" else f"2 atoms {LATTICE}"
    lines = text.split("\n")
    lines[1 if kind in ("xyz", "plain") else 0] = title
    path = tmp_path / {"poscar": "POSCAR", "xdatcar": "XDATCAR", "plain": "a.xyz"}.get(kind, f"run.{kind}")
    path.write_text("\n".join(lines))
    assert len(next(read_frames(path, cell=None if kind != "plain" else CUBE))) == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [("water.dump.gro", "gro"), ("dump.gro.bz2", "gro"), ("melt.POSCAR", "poscar"),
     ("CONTCAR_300K", "poscar"), ("dump.vasp", "poscar")],
)  # fmt: skip
def test_the_last_suffix_counts_most(tmp_path, name, kind):
    (tmp_path / name).write_text(CONTENTS[kind])
    assert len(next(read_frames(tmp_path / name))) == 2


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [*CONTENTS, "cif"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings(tmp_path, kind, encoding, pack):
    if kind == "cif":
        ase.io.write(tmp_path / "a.cif", Atoms("FeO", np.eye(3)[:2], cell=5 * np.eye(3), pbc=True))
        text = (tmp_path / "a.cif").read_text()
    else:
        text = CONTENTS[kind]
    path = tmp_path / {"poscar": "POSCAR", "xdatcar": "XDATCAR"}.get(kind, f"run.{kind}")
    path.write_bytes(text.encode())
    expected = list(read_frames(path))
    path.write_bytes(pack(text.encode(encoding)))
    if kind == "cif" and pack is gzip.compress:
        path.write_bytes(text.encode(encoding))
    found = list(read_frames(path))
    assert len(found) == len(expected) == 1
    assert_same(found[0], expected[0])


# ------------------------------------------------------------------------------------ odd headers


def test_blank_lines_around_frames(tmp_path):
    for name, text, n in (
        ("run.gro", GRO_2 + "\n\n \n", 1),
        ("run.gro", "\n" + GRO_2.split("\n", 1)[1] + "\n" + GRO_2 + "\n", 2),  # a title may be blank
        ("run.gro", GRO_2.replace("melt", "") * 3, 3),
        ("run.xyz", "\n" + XYZ + "\n\n" + XYZ + "\n", 2),
        ("XDATCAR", CONTENTS["xdatcar"].replace("melt", "") * 3, 3),
        ("XDATCAR", CONTENTS["xdatcar"].replace("melt", "1.0") * 2, 2),
        (
            "XDATCAR",
            CONTENTS["xdatcar"].replace("melt", "") + "Direct configuration= 2\n0 0 0\n.5 .5 .5\n\n",
            2,
        ),
        ("POSCAR", CONTENTS["poscar"].replace("melt", ""), 1),
    ):
        (tmp_path / name).write_text(text)
        frames = list(read_frames(tmp_path / name))
        assert [len(frame) for frame in frames] == [2] * n, text
        assert {frame.cell[0, 0] for frame in frames} == {10.0 if name == "run.gro" else 5.0}


def test_exponents_of_fortran_in_headers(tmp_path):
    for name, text in (
        ("run.dump", "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n" +
         "0.0D+00 0.5d+01\n" * 3 + "ITEM: ATOMS element x y z\nFe 0 0 1.0D+00\n"),
        ("run.xyz", '1\nLattice="0.5D+01 0 0 0 5d0 0 0 0 5.D0"\nFe 0 0 1d0\n'),
        ("POSCAR", "melt\n1.0D0\n5.0D0 0 0\n0 5 0\n0 0 5\nFe\n1\nCartesian\n0 0 0.1D+01\n"),
        ("run.gro", GRO.format(n=1).replace("1 1 1", "5D-1 .5 .5").replace("0.000\n", "1.D-1\n")),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        [frame] = read_frames(tmp_path / name)
        assert (frame.cell.tolist(), frame.positions.tolist()) == (CUBE, [[0, 0, 1]])


def test_poscar_agrees_with_ase(tmp_path):
    atoms = Atoms(
        "FeFeOSi", np.arange(12).reshape(4, 3) / 4, cell=[[5, 1, 0], [0, 6, 0.5], [0.2, 0, 7]], pbc=True
    )
    for options in ({"direct": True}, {"direct": False}, {"vasp5": False}):
        ase.io.write(tmp_path / "POSCAR", atoms, **options)
        [frame] = read_frames(tmp_path / "POSCAR")
        assert_same(frame, frame_from_atoms(ase.io.read(tmp_path / "POSCAR")), ids=False)
        assert codes(frame) == (["names-from-title"] if "vasp5" in options else [])
    text = (
        "t\n2.0\n5 0 0\n0 5 0\n0 0 5\n1 2 ! two\nSelective dynamics\ncart\n"
        + "1 1 1 T F T\n" * 3
        + "\n1 1 1\n"
    )
    (tmp_path / "POSCAR").write_text(text)
    with pytest.raises(InputError, match=r"no species for its 2 groups .*--types Fe,O[.]"):
        list(read_frames(tmp_path / "POSCAR"))
    [frame] = read_frames(tmp_path / "POSCAR", types="Fe,O")
    assert (frame.positions.tolist(), frame.species.tolist(), frame.cell[2, 2]) == (
        [[2, 2, 2]] * 3,
        [0, 1, 1],
        10,
    )
    (tmp_path / "POSCAR").write_text(text.replace("2.0", "1 2 3"))
    [frame] = read_frames(tmp_path / "POSCAR", types="Fe,O")
    assert (frame.positions[0].tolist(), np.diag(frame.cell).tolist()) == ([1, 2, 3], [5, 10, 15])


@pytest.mark.parametrize("types", ["0=A,1=B", ["0=A", "1=B"], {0: "A", 1: "B"}, {"0": "A", "1": "B"}])
def test_types_that_begin_with_zero(tmp_path, types):
    path = tmp_path / "run.dump"
    text = DUMP.replace("id type element", "id q type").replace(" Fe ", " 0 ").replace(" Mg ", " 1 ")
    path.write_text(text.replace(" O ", " 0 "))
    [frame] = read_frames(path, types=types)
    assert frame.species_names == ("A", "B")
    with pytest.raises(InputError, match=r"only the types 0, 1\. Name each: .*--types 0=A,1=B"):
        list(read_frames(path))


# ------------------------------------------------------------------------------ files without cell

PLAIN = "2\nwater at 300 K\nFe 0 0 0\nO 1 1 1\n"
PDB = "ATOM      1 FE    FE A   1       0.000   0.000   0.000  1.00  0.00          FE\nEND\n"
WITHOUT_CELL = {"run.xyz": PLAIN, "run.gro": GRO_2.replace("\n1 1 1", "\n0 0 0"), "run.pdb": PDB,
                "ase.xyz": '2\nProperties=species:S:1:pos:R:3 pbc="F F F"\nFe 0 0 0\nO 1 1 1\n'}  # fmt: skip
HEXAGONAL = [[4, 0, 0], [-2, 4 * np.sqrt(0.75), 0], [0, 0, 6]]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("5,5,5", CUBE), ((5, 5, 5), CUBE), ("5 5 5", CUBE), (np.full(3, 5.0), CUBE), (CUBE, CUBE),
        ("5,0,0,0,5,0,0,0,5", CUBE), ((4, 4, 6, 90, 90, 120), HEXAGONAL), (HEXAGONAL, HEXAGONAL),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [*WITHOUT_CELL, "run.traj"])
def test_the_cell_of_a_file_without_one(tmp_path, name, cell, expected):
    path = tmp_path / name
    if name == "run.traj":
        ase.io.write(path, Atoms("FeO", [[0, 0, 0], [1, 1, 1]]))
    else:
        path.write_text(WITHOUT_CELL[name])
    with pytest.raises(InputError, match=rf"{name}, frame 0: the file has no cell.*--cell 30,30,30.*OVITO"):
        list(read_frames(path))
    [frame] = read_frames(path, cell=cell)
    np.testing.assert_allclose(frame.cell, expected, rtol=0, atol=1e-12)
    assert (frame.pbc.all(), frame.messages) == (True, ())


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_cell_of_the_file_counts(tmp_path, kind):
    path = tmp_path / {"poscar": "POSCAR", "xdatcar": "XDATCAR"}.get(kind, f"run.{kind}")
    path.write_text(CONTENTS[kind])
    own, read = next(read_frames(path)), next(read_frames(path, cell=(9, 9, 9)))
    assert_same(read, own, atol=0)
    assert codes(read) == ["cell-not-used"]


@pytest.mark.parametrize(
    "cell",
    ["", "5", "5,5", (5, 5), "a,b,c", (5, 5, -5), (5, 0, 5), np.zeros((3, 3)), "nan,5,5", "inf,5,5",
     "1 0 0 2 0 0 0 0 1", (5, 5, 5, 90, 90, 400), (5, 5, 5, 1, 1, 170), {"a": 5}, [[1, 2], 3]],
)  # fmt: skip
def test_cells_that_are_none(tmp_path, cell):
    (tmp_path / "run.xyz").write_text(PLAIN)
    with pytest.raises(ValueError, match="cell must be 3 edges"):
        read_frames(tmp_path / "run.xyz", cell=cell)


# --------------------------------------------------------------------------- frames without atoms

EMPTY = {
    "run.xyz": f"0\n{LATTICE}\n",
    "run.dump": "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n0\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    "ITEM: ATOMS id type element x y z\n",
    "XDATCAR": CONTENTS["xdatcar"].replace("1 1\n", "0 0\n").split("0 0 0\n.5")[0],
    "run.gro": "melt\n0\n1 1 1\n",
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("order", ["ef", "fe", "fef", "e", "ee"])
@pytest.mark.parametrize("types", [None, ("Fe", "Mg", "O")])
def test_a_frame_without_atoms(tmp_path, name, order, types):
    if types and name in ("run.xyz", "run.gro"):
        return
    filled = CONTENTS[{"XDATCAR": "xdatcar"}.get(name, name.split(".")[-1])]
    (tmp_path / name).write_text("".join(EMPTY[name] if one == "e" else filled for one in order))
    frames = list(read_frames(tmp_path / name, types=types, fields=True))
    assert [len(frame) > 0 for frame in frames] == [one == "f" for one in order]
    for frame in frames:
        assert frame.messages == ()
        assert str(frame)
    if len(set(order)) > 1:
        with pytest.raises(InputError, match="but the first frame read has"):
            list(read_frames(tmp_path / name, types=types, same_atoms=True))


# -------------------------------------------------------------------------------- what ASE reads


def test_gromos96_is_no_gro(tmp_path):
    atoms = Atoms("OHH", [[1, 2, 3], [1.5, 2, 3], [1, 2.5, 3]], cell=[9, 8, 7], pbc=True)
    path = tmp_path / "water.g96"
    ase.io.write(path, atoms, format="gromos")
    [frame] = read_frames(path)
    np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-6)
    np.testing.assert_allclose(frame.cell, atoms.cell.array, atol=1e-6)


def test_a_file_that_ase_takes_for_another(tmp_path):
    path = tmp_path / "elk.in"  # ASE knows elk.in only as geometry.in of FHI-aims
    path.write_text("tasks\n  0\n\navec\n  9 0 0\n  0 9 0\n  0 0 9\n")
    with pytest.raises(InputError, match="neither atoms nor a cell"):
        next(read_frames(path))
