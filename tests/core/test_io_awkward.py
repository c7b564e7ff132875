"""Files as strangers write them: odd comment lines, cut off or restarted runs, odd headers, encodings."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms

from io_samples import assert_same, dump_text, make_frame
from phaseseg.io import InputError, frame_from_atoms, read_frames

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


@pytest.mark.parametrize("value", ["12:30:05", '"1 2"', "[1, 2]", "T", '""', "nan", "1e999", "2024-05-01"])
@pytest.mark.parametrize("key", ["time", "timestep", "Time"])
def test_a_time_that_is_no_number_is_left_out(tmp_path, key, value):
    frame = one(tmp_path, f"{LATTICE} {key}={value}")
    assert (frame.time, frame.timestep, codes(frame)) == (None, None, [f"{key.lower()}-left-out"])
    assert one(tmp_path, f"{LATTICE} {key}=3").messages == ()


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
def test_intact_frames_of_a_cut_gz_are_read_as_the_message_says(tmp_path, keep):
    path = tmp_path / "run.dump.gz"
    packed = gzip.compress("".join(dump(k, 2000) for k in range(6)).encode())
    path.write_bytes(packed[: int(keep * len(packed))])
    with pytest.raises(InputError, match="damaged or cut off") as caught:
        list(read_frames(path))
    n = int(str(caught.value).split("--frames :")[1].split(")")[0])
    assert [len(frame) for frame in read_frames(path, frames=slice(0, n))] == [2000] * n
    assert n == int(6 * keep)
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
