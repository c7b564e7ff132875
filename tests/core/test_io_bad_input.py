"""What readers say about files that are missing, cut off, damaged or incomplete.

Every message must name the file, the frame, and the line or atom, and say what to do.
"""

from __future__ import annotations

import gzip
import os

import ase.io
import numpy as np
import pytest
from ase import Atoms

from phaseseg.frame import Frame
from phaseseg.io import InputError, read_frames, write_frames

HEADER = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{n}\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
ATOMS = "ITEM: ATOMS id element x y z\n1 Fe 0 0 0\n2 O 1 1 1\n"
GOOD = HEADER.format(n=2) + ATOMS
LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5"'


def refuse(path, match, **options):
    """Read to the end; returns how many frames came before the error."""
    n_frames = 0
    with pytest.raises(InputError, match=match) as caught:
        for _ in read_frames(path, **options):
            n_frames += 1
    message = str(caught.value)
    assert path.name in message
    assert message.endswith((".", "?", "Fe,O", "...", "'Fe'}")), message
    assert "\n" not in message
    return n_frames


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_missing_empty_unknown(tmp_path):
    with pytest.raises(InputError, match=r"none\.xyz: there is no such file"):
        read_frames(tmp_path / "none.xyz")  # at the call, before the first frame is asked for
    with pytest.raises(InputError, match="this is a folder"):
        read_frames(tmp_path)
    for name, content in (("a.dump", b""), ("a.dump.gz", gzip.compress(b"")), ("b.gz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: the file is empty"):
            read_frames(tmp_path / name)
    for name in ("notes.foo", "notes"):
        with pytest.raises(
            InputError, match=rf"{name}: .* is not a format that can be read.*name its format"
        ):
            read_frames(written(tmp_path, name, "some\ntext\n"))
    with pytest.raises(InputError, match="'png' is not a format"):
        read_frames(written(tmp_path, "a.xyz", "1\n"), file_format="png")
    (tmp_path / "a.dump.zst").write_bytes(b"\x28\xb5\x2f\xfd123")
    with pytest.raises(InputError, match=r"a\.dump\.zst.*damaged or cut off"):
        read_frames(tmp_path / "a.dump.zst")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("run.xtc", b"\0\0\x07\xcb", "'xtc' is not a format that can be read. Convert it with its topology"),
        ("restart.500", b"LammpS RestartT\0\1", "'lammps-restart' is not .* Convert it to a data file"),
        ("dump.yaml", b"---\ntimestep: 0\n", "does not begin like .* with the styles atom and custom"),
        ("pw.out", b"     Program PWSCF v.7.1 starts on\n", "ASE finds no structure in it as espresso-out"),
        (
            "tinker.xyz",
            b"   2  title\n 1 Ar 0 0 0 1\n",
            "found '   2  title'. Check the file, or name its format",
        ),
    ],
)
def test_files_of_other_programs(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match):
        list(read_frames(tmp_path / name))


def test_a_package_that_ase_lacks(tmp_path, monkeypatch):
    import ase.io

    def lacking(*_, **__):
        raise ImportError("No module named 'netCDF4'")

    monkeypatch.setattr(ase.io, "iread", lacking)
    with pytest.raises(InputError, match=r"a package that is not installed .*netCDF4.*Install it"):
        list(read_frames(written(tmp_path, "a.gen", "1 C\nAr\n"), file_format="gen"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = written(tmp_path, "a.xyz", "1\n")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_frames(path)


def test_arguments(tmp_path):
    path = written(tmp_path, "a.dump", GOOD)
    for options, match in (
        ({"frames": slice(None, None, -1)}, "forward"),
        ({"frames": slice(None, None, 0)}, "forward"),
        ({"units": "real"}, "'metal' or 'lj'"),
        ({"dt": 0.0}, "positive"),
        ({"dt": float("nan")}, "positive"),
        ({"types": ""}, "name to every type"),
        ({"types": "Fe,,O"}, "name to every type"),
        ({"types": {-1: "Fe"}}, "numbers from 0"),
        ({"types": {10**12: "Fe"}}, "numbers from 0"),
        ({"types": "0=A,=B"}, "not both"),
        ({"types": {1: "Fe", "O": "O"}}, "not both"),
    ):
        with pytest.raises(ValueError, match=match):
            read_frames(path, **options)


# ------------------------------------------------------------------------------------ LAMMPS dumps


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (HEADER.format(n=4) + ATOMS, r"frame 2: ends after 2 of 4 atom lines \(line 33\). The frames before"),
        (HEADER.format(n=3) + ATOMS + "\n\n" + GOOD, "frame 2: ends after 2 of 3 atom lines"),
        (HEADER.format(n=1) + ATOMS, "frame 2: has more atom lines than the 1"),
        (HEADER.format(n=2), "frame 2: the file ends inside the header"),
        ("ITEM: TIMESTEP\n", "frame 2: the file ends inside the header"),
        (HEADER.format(n="two") + ATOMS, "line 26: 'ITEM: NUMBER OF ATOMS' is followed by 'two'"),
        (GOOD.replace("O 1 1 1", "O 1 1.2.3 1"), r"frame 2, line 33: column y is '1\.2\.3', not a number"),
        (GOOD.replace("O 1 1 1", "O 1 1e 1"), "frame 2, line 33: column y is '1e', not a number"),
        (GOOD.replace("O 1 1 1", "O 1 - 1"), "column y is '-', not a number"),
        (GOOD.replace("2 O", "2.5 O"), r"line 33: column id is '2\.5', not an integer"),
        (GOOD.replace("O 1 1 1", "O 1 1"), r"line 33: has 4 columns, but 5 are announced \(id ele"),
        (GOOD.replace("1 Fe 0 0 0\n", "\n"), "line 32: has 0 columns"),
        (GOOD.replace("0 0 0\n2 O", "0 0 02 O"), "line 32: has 9 columns"),
        (GOOD.replace("O 1 1 1", "O 1 nan 1"), r"atom 2 \(id 2\) has the coordinates \[1.0, nan, 1.0\]"),
        (GOOD.replace("Fe 0 0 0", "Fe inf 0 0").replace("O 1 1 1", "O -inf 1 1"), r"atom 1 \(id 1\) has"),
        (GOOD.replace("x y z", "xs ys zs").replace("O 1 1 1", "O 1e309 1 1"), r"atom 2 \(id 2\) has"),
        (GOOD.replace("O 1 1 1", "O 1 \x001 \x00"), "line 33: has 4 columns"),
        (GOOD.replace("O 1 1 1", "O -inf 1 1"), r"atom 2 \(id 2\) has the coordinates \[-inf"),
        (GOOD.replace("x y z", "x y vx"), r"line 31: no complete coordinates .* \(id element x y vx\)"),
        (GOOD.replace("element", "mass").replace("Fe", "55").replace(" O ", " 16 "), "nor types .*Dump elem"),
        (GOOD.replace("0 5\n0 5\n0 5", "0 5\n0 5\n0 0"), "frame 2: the cell is missing or has no volume"),
        (GOOD.replace("0 5\n0 5\n0 5", "0 5\n0 5"), "line 28: the box must be three lines of 2 numbers"),
        (GOOD.replace("0 5\n0 5\n0 5", "0 5\n0 5 1\n0 5"), "the box must be three lines of 2 numbers"),
        (GOOD.replace("pp pp pp", "xy xz yz pp pp pp"), "the box must be three lines of 3 numbers"),
        (GOOD.replace("0 5", "0 five"), "the box must be three lines"),
        (GOOD.replace("ITEM: BOX BOUNDS", "ITEM: BOX"), "no section 'ITEM: BOX BOUNDS'"),
        (GOOD.replace("OF ATOMS", "OF ENTRIES"), "no section 'ITEM: NUMBER OF ATOMS'.*dump of atoms"),
        ("ITEM: UNITS\nsi\n" + GOOD, "in LAMMPS units 'si'"),
        (GOOD.replace(" Fe ", f" {'F' * 80} "), "longer than 64 bytes"),
    ],
)  # fmt: skip
def test_dump(tmp_path, bad, match):
    """The third frame is bad: the two before it must come, and it must be possible to stop before."""
    path = written(tmp_path, "run.dump", GOOD + GOOD + bad)
    assert refuse(path, rf"^run\.dump, {match}" if match.startswith("frame") else match) == 2
    assert len(list(read_frames(path, frames=slice(2)))) == 2


def test_not_a_dump(tmp_path):
    assert (
        refuse(written(tmp_path, "run.dump", "hello\n"), "does not begin like a LAMMPS text dump.*'hello'")
        == 0
    )


def test_types(tmp_path):
    typed = GOOD.replace("element", "type").replace("Fe", "1").replace(" O ", " 3 ")
    path = written(tmp_path, "run.lammpstrj", typed)
    refuse(path, "no element names, only the types 1, 3. Name each: .*--types 1=A,3=B")
    refuse(path, "frame 0, line 11: atom 2 has type 3, .*1 = Fe, 2 = O", types=("Fe", "O"))
    refuse(path, "atom 1 has type 1", types={3: "Fe"})
    path = written(tmp_path, "run.dump", GOOD)
    refuse(path, "the file has no type column", types=("Fe", "O"))
    refuse(path, "the file has no type column", types={1: "Fe"})


def test_too_many_names(tmp_path):
    rows = "".join(f"{k} A{k} 0 0 0\n" for k in range(300))
    refuse(
        written(tmp_path, "run.dump", HEADER.format(n=300) + ATOMS[:29] + rows),
        "more than 256 different names",
    )


def test_other_number_of_atoms_only_on_request(tmp_path):
    path = written(tmp_path, "run.dump", GOOD + HEADER.format(n=1) + "ITEM: ATOMS element x y z\nO 0 0 0\n")
    assert [len(frame) for frame in read_frames(path)] == [2, 1]
    refuse(path, "frame 1: has 1 atoms, but the first frame read has 2", same_atoms=True)


# ------------------------------------------------------------------------------------- compression


def many_frames(path, n_frames=30):
    rng = np.random.default_rng(0)
    frame = Frame(rng.random((2000, 3)), np.eye(3), True, np.zeros(2000, int), ("Fe",))
    write_frames(path, ((frame.replace(positions=rng.random((2000, 3))), {}) for _ in range(n_frames)))
    return path


@pytest.mark.parametrize("name", ["run.dump.gz", "run.xyz.gz", "run.xyz.zst"])
def test_cut_off_gz_gives_its_whole_frames(tmp_path, name):
    path = many_frames(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    n_frames = refuse(
        path, r"frame \d+: the compressed file is damaged or cut off after line \d+ \(the end of"
    )
    assert 13 <= n_frames <= 15
    path.write_bytes(content[:-4])  # only the checksum is missing
    assert refuse(path, r"frame \d+: the compressed file is damaged or cut off") >= 29


@pytest.mark.parametrize("name", ["run.dump.gz", "run.xyz.gz", "run.xyz.zst"])
def test_damaged_gz(tmp_path, name):
    path = many_frames(tmp_path / name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    # Damage may decompress to rubbish before the decompressor notices: some InputError, never a frame of it.
    assert refuse(path, r"run\.\w+\.(gz|zst), frame \d+") <= 15


def test_damaged_gz_for_ase(tmp_path):
    path = tmp_path / "POSCAR.gz"
    path.write_bytes(gzip.compress(b"Fe\n1.0\n" * 100)[:30])
    with pytest.raises(InputError, match=r"POSCAR\.gz"):
        list(read_frames(path))


def test_gz_that_is_none(tmp_path):
    path = written(tmp_path, "run.dump.gz", GOOD)  # renamed, never compressed: no reason to refuse
    assert len(list(read_frames(path))) == 1


# ------------------------------------------------------------------------------------ other formats


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("2\nno cell\nFe 0 0 0\nO 1 1 1\n", r"frame 0: the file has no cell.*--cell 30,30,30.*OVITO"),
        ('2\nLattice="5 0 0 0 5 0"\nFe 0 0 0\nO 1 1 1\n', "frame 0: Lattice must be 9 numbers"),
        ('2\nLattice="5 0 0 5 0 0 0 0 5"\nFe 0 0 0\nO 1 1 1\n', "frame 0: the cell is missing or has no"),
        (f"3\n{LATTICE}\nFe 0 0 0\nO 1 1 1\n", r"frame 0: ends after 2 of 3 atom lines \(line 4\)"),
        (f"1\n{LATTICE}\nFe 0 0 0\nO 1 1 1\n", "frame 1, line 4: expected the number of atoms, found"),
        ("hello\n", "frame 0, line 1: expected the number of atoms, found 'hello'"),
        (f"1\n{LATTICE}\nFe 0 0\n", "frame 0, line 3: has 3 columns"),
        (f"1\n{LATTICE}\nFe 0 0 x\n", "frame 0, line 3: column pos is 'x', not a number"),
        (f"1\n{LATTICE}\nFe 0 0 nan\n", r"frame 0: atom 1 has the coordinates \[0.0, 0.0, nan\]"),
        (f'1\n{LATTICE} pbc="T maybe F"\nFe 0 0 0\n', "line 2: pbc must be"),
        (f"1\n{LATTICE} Properties=species:S:1\nFe\n", "line 2: the atoms have no coord.*found species"),
        (f"1\n{LATTICE} Properties=pos:R:3\n0 0 0\n", "line 2: the atoms have no species .*found pos"),
        (f"1\n{LATTICE} Properties=species:S:1:pos:R:x\nFe 0 0 0\n", "line 2: Properties holds pos:R:x"),
        (f"1\n{LATTICE} Properties=species:S:1:pos:R:3\nFe 0 0 0 9\n", "line 3: has 5 columns, but 4"),
        (f"1\n{LATTICE}\n1 0 0 0\n", "frame 0: the species column holds numbers .*--types"),
        (f"1\n{LATTICE} Properties=Z:I:1:pos:R:3\n999 0 0 0\n", "no element has the atomic number 999"),
    ],
)  # fmt: skip
def test_extxyz(tmp_path, text, match):
    refuse(written(tmp_path, "run.xyz", text), match)


def test_extxyz_types_without_types(tmp_path):
    refuse(written(tmp_path, "run.xyz", f"1\n{LATTICE}\nFe 0 0 0\n"), "no type column", types=("Fe",))


def test_extxyz_types_without_names(tmp_path):
    text = f"1\n{LATTICE} Properties=type:I:1:pos:R:3\n1 0 0 0\n"
    refuse(path := written(tmp_path, "run.xyz", text), "no element names, only the types 1")
    assert next(read_frames(path, types=("Fe",))).species_names == ("Fe",)


XDATCAR = "melt\n1\n5 0 0\n0 5 0\n0 0 5\nFe O\n1 1\nDirect configuration= 1\n0 0 0\n.5 .5 .5\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (XDATCAR + "Direct configuration= 2\n0 0 0\n", r"frame 1: ends after 1 of 2 atom lines \(line 12\)"),
        (XDATCAR.replace("1 1\n", "1\n"), "line 7: 2 species have 1 numbers of atoms"),
        (XDATCAR.replace("1 1\n", "1 one\n"), "expected the number of atoms, found 'one'"),
        (XDATCAR.replace("Direct", "Bent"), "line 8: expected a line 'Direct configuration= 1'"),
        (XDATCAR.replace("0 5 0", "0 5"), "line 3: the cell must be 9 numbers"),
        (XDATCAR.replace("0 0 5\n", "5 5 0\n"), "frame 0: the cell is missing or has no volume"),
        (XDATCAR.replace(".5 .5 .5", ".5 .5"), "frame 0, line 10: has 2 columns"),
        (XDATCAR.replace("Fe O\n", ""), "frame 0: the header names no species.*--types Fe,O[.]"),
    ],
)
def test_xdatcar(tmp_path, text, match):
    refuse(written(tmp_path, "XDATCAR", text), match)


GRO = """melt
2
    1MEL     FE    1   0.000   0.000   0.000
    1MEL     O1    2   0.100   0.100   0.100
1 1 1
"""


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            GRO + "melt\n2\n    1MEL     FE    1   0.000   0.000   0.000\n",
            "frame 1: ends after 1 of 2 atom lines",
        ),
        (GRO + "melt\n", "frame 1, line 6: expected the number of atoms"),
        (GRO.replace("\n2\n", "\ntwo\n"), "frame 0, line 2: expected the number of atoms, found 'two'"),
        (GRO.replace("   0.100\n", "   0.x00\n"), r"line 4: coordinate z \(columns 37 to 44\) is '0\.x00'"),
        (GRO.replace("   0.100\n", "\n"), r"line 4: coordinate z \(columns 37 to 44\) is ''"),
        (
            GRO.replace(" O1 ", " Q1 "),
            "the atom name 'Q1' does not begin with an element symbol.*names=.*--names Q1=X",
        ),
        (GRO.replace("1 1 1", "1 1"), "the box line must hold 3 or 9 numbers"),
        (GRO.replace("1 1 1", "1 1 a"), "the box must be 3 numbers"),
        (GRO.replace("1 1 1", "0 0 0"), "the file has no cell"),
    ],
)
def test_gro(tmp_path, text, match):
    refuse(written(tmp_path, "run.gro", text), match)


def test_gro_has_no_types(tmp_path):
    refuse(written(tmp_path, "run.gro", GRO), "no type column", types=("Fe", "O"))


def test_what_ase_refuses(tmp_path):
    refuse(written(tmp_path, "a.json", "{"), "frame 0: ASE cannot read it as json")


# ------------------------------------------------------------------------------ found by mutation


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("XDATCAR", XDATCAR.replace("= 1", f"= {'9' * 5000}").replace(".5 .5 .5", ".5 .5 x"), "column z"),
        ("POSCAR", XDATCAR.replace("5 0 0", "1e300 0 0").replace("0 5 0", "0 1e300 0"), "cell|coordinates"),
        ("run.xyz", f"1\n{LATTICE} Properties=pos:R:3:species:S:{'9' * 30}\nFe 0 0 0\n", "Properties holds"),
        ("run.xyz", f"1\n{LATTICE} Properties=pos:R:3:species:S:0\nFe 0 0 0\n", "holds species:S:0"),
        ("run.xyz", f"1\n{LATTICE}\nFe 0 0 {'x' * 5000}\n", r"column pos is 'x{39}…"),
        ("run.dump", HEADER.format(n=-1) + ATOMS, "'ITEM: NUMBER OF ATOMS' is followed by '-1'"),
        ("run.gro", GRO.replace("\n2\n", "\n\x1c2\n"), "expected the number of atoms"),
    ],
)  # fmt: skip
def test_numbers_beyond_reason(tmp_path, name, text, match):
    refuse(written(tmp_path, name, text), match)


def test_atomic_numbers_of_a_damaged_trajectory(tmp_path):
    ase.io.write(tmp_path / "run.traj", Atoms("Fe", [[0, 0, 0]], cell=5 * np.eye(3)))
    content = (tmp_path / "run.traj").read_bytes()
    place = content.index((26).to_bytes(8, "little"))
    (tmp_path / "run.traj").write_bytes(content[:place] + (9000).to_bytes(8, "little") + content[place + 8 :])
    refuse(tmp_path / "run.traj", "atom 1 has the atomic number 9000, which is no element")


def test_a_product_that_overflows_is_an_error_and_no_warning(tmp_path):
    (tmp_path / "XDATCAR").write_text(
        "x\n1e200\n1 0 0\n0 1 0\n0 0 1\nFe\n1\nDirect configuration= 1\n1e200 0 0\n"
    )
    with pytest.raises(InputError, match="XDATCAR, frame 0"):
        list(read_frames(tmp_path / "XDATCAR"))
