"""phaseseg.io: every reader against ASE's, slices, compression."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
from importlib.resources import as_file, files

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings, strategies as st

from io_samples import NAMES, assert_same, dump_text, make_atoms, make_frame
from phaseseg.io import frame_from_atoms, read_frames, write_frames

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# ------------------------------------------------------------------------------------ LAMMPS dumps


@quick
@given(data=st.data())
def test_dump_agrees_with_ase(tmp_path, data):
    seed = data.draw(st.integers(0, 1000))
    triple = data.draw(st.sampled_from(["", "s", "u", "su"]))
    flags = data.draw(st.lists(st.sampled_from(["pp", "ff", "ss", "mm", "fs"]), min_size=3, max_size=3))
    number = data.draw(st.sampled_from(["{:.10g}", "{:.16e}", "{:+.12f}"]))
    frame = make_frame(seed, triclinic=data.draw(st.booleans()), pbc=[flag == "pp" for flag in flags])
    columns = ["id", "type", "element", *(axis + triple for axis in "xyz"), "q", "c_pe", "vx"]
    columns = data.draw(st.permutations(columns))
    path = tmp_path / "run.dump"
    path.write_text(dump_text(frame, columns, " ".join(flags), number))
    [read] = read_frames(path)
    # ASE reads floats with Python; `order=False` keeps its rows as they are in the file.
    oracle = ase.io.read(path, format="lammps-dump-text", order=False)
    np.testing.assert_allclose(read.cell, oracle.cell, rtol=0, atol=1e-12)
    np.testing.assert_allclose(read.origin, oracle.get_celldisp().ravel(), rtol=0, atol=1e-12)
    expected = oracle.get_scaled_positions(wrap=False) @ read.cell + read.origin
    if "s" not in triple:
        expected = oracle.positions
    np.testing.assert_allclose(read.positions, expected, rtol=1e-15, atol=1e-12)
    assert [NAMES[code] for code in read.species] == oracle.get_chemical_symbols()
    assert read.pbc.tolist() == oracle.pbc.tolist()
    assert_same(read, frame, atol=1e-7)
    assert (read.species_names, read.timestep, read.source) == (NAMES, frame.timestep, "run.dump, frame 0")


NUMBERS = """0 -0.5 1e-300 123456789.123456789 0.1 6.02214076E+23 +7 .5 5. 1d2 0.000000000000000000000001
12345678901234567890.5"""


@pytest.mark.parametrize("text", NUMBERS.split())
def test_numbers_are_read_like_python_reads_them(tmp_path, text):
    path = tmp_path / "a.dump"
    path.write_text(
        dump_text(make_frame(n_atoms=3), ["element", "x", "y", "z", "q"]).replace("-1.5e-03", text)
    )
    expected = float(text.replace("d", "e"))
    found = next(read_frames(path, fields=True)).fields["q"]
    digits = len(text.lower().split("e")[0].replace(".", "").strip("+-0"))
    rounding = (
        0 if digits <= 15 and abs(np.log10(abs(expected) or 1)) < 22 else 1e-15
    )  # three units in the last place
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=0)


@given(st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 7)), min_size=9, max_size=9))
@quick
def test_decimal_numbers_are_exact(tmp_path, values):
    path = tmp_path / "a.xyz"
    rows = [values[:3], values[3:6], values[6:]]
    lines = "".join(f"O {a!r} {b!r} {c!r}\n" for a, b, c in rows)
    path.write_text(f'3\nLattice="9 0 0 0 9 0 0 0 9"\n{lines}')
    assert next(read_frames(path)).positions.tolist() == rows


def test_dump_general_triclinic(tmp_path):
    frame = make_frame()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = frame.replace(cell=frame.cell @ rotation, positions=frame.positions @ rotation)
    path = tmp_path / "run.dump"
    write_frames(path, [(turned, {})])
    assert "BOX BOUNDS abc origin pp pp ff" in path.read_text()
    assert_same(next(read_frames(path)), turned, atol=1e-8)
    oracle = ase.io.read(path, format="lammps-dump-text", order=False)
    np.testing.assert_allclose(oracle.cell, turned.cell, rtol=0, atol=1e-12)


def test_types_name_species_and_win_over_elements(tmp_path):
    frame = make_frame()
    path = tmp_path / "run.lammpstrj"
    path.write_text(dump_text(frame, ["id", "type", "x", "y", "z"]))
    for types in (("Si", "Al", "N"), "Si,Al, N", {3: "N", 1: "Si", 2: "Al"}):
        [read] = read_frames(path, types=types)
        assert read.species_names == ("Si", "Al", "N")
        np.testing.assert_array_equal(read.species, frame.species)
    [read] = read_frames(path, types=("Si", "O", "O"))
    assert read.species_names == ("Si", "O")
    np.testing.assert_array_equal(read.species, np.minimum(frame.species, 1))
    path.write_text(dump_text(frame, ["id", "type", "element", "x", "y", "z"]))
    assert next(read_frames(path, types=("Si", "Al", "N"))).species_names == ("Si", "Al", "N")
    assert next(read_frames(path, types={"O": "S"})).species_names == ("Fe", "Mg", "S")


def test_types_written_as_labels(tmp_path):
    """dump_modify types labels puts words into the column of types."""
    path = tmp_path / "run.lammpstrj"
    path.write_text(text := dump_text(make_frame(), ["id", "element", "x", "y", "z"]))
    [expected] = read_frames(path)
    path.write_text(text.replace("id element", "id type"))
    assert_same(next(read_frames(path)), expected)
    assert next(read_frames(path, names={"Fe": "Ni"})).species_names[0] == "Ni"
    with pytest.raises(ValueError, match="no type column of numbers"):
        next(read_frames(path, types=("Si", "Al", "N")))
    # Elements count more than labels, as they count more than numbers.
    path.write_text(
        dump_text(make_frame(), ["id", "element", "x", "y", "z", "element"]).replace("z element", "z type")
    )
    assert_same(next(read_frames(path)), expected)


def test_element_codes_follow_type_ids_and_stay(tmp_path):
    first, second = make_frame(1), make_frame(2)
    second = second.replace(species=second.species[::-1], positions=second.positions[::-1])
    for columns in (["type", "element", "x", "y", "z"], ["element", "x", "y", "z"]):
        path = tmp_path / "run.dump"
        path.write_text(dump_text(second, columns) + dump_text(first, columns))
        whole = list(read_frames(path))
        if "type" in columns:
            assert whole[0].species_names == NAMES
        assert whole[0].species_names == whole[1].species_names
        # A part of a file has the codes of the whole file: workers may share the frames.
        [part] = read_frames(path, frames=slice(1, None))
        assert part.species_names == whole[1].species_names
        np.testing.assert_array_equal(part.species, whole[1].species)


def test_species_that_appear_later_follow(tmp_path):
    path = tmp_path / "run.xyz"
    block = '2\nLattice="5 0 0 0 5 0 0 0 5"\n{} 0 0 0\n{} 1 1 1\n'
    path.write_text(block.format("O", "Fe") + block.format("Mg", "O"))
    one, two = read_frames(path)
    assert (one.species_names, two.species_names) == (("O", "Fe"), ("O", "Fe", "Mg"))
    assert two.species.tolist() == [2, 0]


def test_units_and_time(tmp_path):
    path = tmp_path / "run.dump"
    frame = make_frame()
    columns = ["element", "x", "y", "z"]
    path.write_text(
        dump_text(frame, columns, time=250.0, units="real") + dump_text(frame, columns, time=500.0)
    )
    assert [f.time for f in read_frames(path, dt=7.0)] == [0.25, 0.5]  # the file wins; real has fs
    path.write_text(dump_text(frame, columns, units="lj") + dump_text(frame, columns))
    assert [f.units for f in read_frames(path)] == ["lj", "lj"]
    assert [f.units for f in read_frames(path, frames=slice(1, 2))] == ["lj"]
    path.write_text(dump_text(frame, columns))
    assert next(read_frames(path)).time is None
    read = next(read_frames(path, dt=0.002, units="lj"))
    assert (read.time, read.units) == (2.0, "lj")


def test_fields_of_a_dump(tmp_path):
    path = tmp_path / "run.dump"
    path.write_text(dump_text(make_frame(), ["id", "vx", "element", "x", "y", "z", "c_pe[1]"]))
    assert not next(read_frames(path)).fields
    [read] = read_frames(path, fields=True)
    assert list(read.fields) == ["vx", "c_pe[1]"]
    assert set(read.fields["vx"]) == {-0.0015}


def test_rows_are_not_sorted(tmp_path):
    frame = make_frame()
    path = tmp_path / "run.dump"
    order = np.random.default_rng(5).permutation(len(frame))
    shuffled = frame.replace(
        positions=frame.positions[order], species=frame.species[order], ids=frame.ids[order]
    )
    path.write_text(dump_text(frame, ["id", "type", "element", "x", "y", "z"]))
    one = next(read_frames(path))
    path.write_text(dump_text(shuffled, ["id", "type", "element", "x", "y", "z"]))
    other = next(read_frames(path))
    np.testing.assert_array_equal(one.positions[order], other.positions)
    np.testing.assert_array_equal(one.species[order], other.species)


def test_bundled_melts():
    with as_file(files("phaseseg") / "demo") as demo:
        frames = list(read_frames(demo / "melt_small_3000K.dump.gz", same_atoms=True))
        assert len(frames) == 66
        assert {len(frame) for frame in frames} == {520}
        assert {frame.species_names for frame in frames} == {frames[0].species_names}
        assert frames[-1].source == "melt_small_3000K.dump.gz, frame 65"
        [large] = read_frames(demo / "melt_large_4000K.dump.gz")
        oracle = ase.io.read(demo / "melt_large_4000K.dump.gz", format="lammps-dump-text", order=False)
    assert len(large) == 33280
    np.testing.assert_array_equal(large.positions, oracle.positions)
    assert np.array(large.species_names)[large.species].tolist() == oracle.get_chemical_symbols()


# ---------------------------------------------------------------------------- frames and compression


@pytest.fixture
def ten_frames(tmp_path):
    path = tmp_path / "ten.dump"
    path.write_text("".join(
        dump_text(make_frame(k, 20 + k, n_frames_in=k), ["id", "element", "x", "y", "z"]) for k in range(10)
    ))  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", [".dump", ".xyz"])
@pytest.mark.parametrize(
    "frames",
    [slice(None), slice(3), slice(2, 7, 2), slice(-3, None), slice(-8, -1, 3), slice(4, -2), slice(20, 30),
     slice(-99, 2), slice(9, None, 5)],
)  # fmt: skip
def test_slices(ten_frames, tmp_path, frames, suffix):
    path = tmp_path / f"other{suffix}"
    write_frames(path, read_frames(ten_frames))
    whole = list(read_frames(path))
    picked = list(read_frames(path, frames=frames))
    assert [f.source for f in picked] == [f.source for f in whole[frames]]
    assert [f.index for f in picked] == list(range(10))[frames]
    for one, other in zip(picked, whole[frames], strict=True):
        assert_same(one, other, atol=0)


def test_reading_is_lazy(ten_frames):
    with ten_frames.open("a") as file:
        file.write("ITEM: TIMESTEP\nrubbish\n")
    frames = read_frames(ten_frames)
    assert next(frames).timestep == 1000
    frames.close()
    assert len(list(read_frames(ten_frames, frames=slice(10)))) == 10


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed(ten_frames, tmp_path, pack):
    suffix = {gzip: ".gz", bz2: ".bz2", lzma: ".xz"}[sys.modules[pack.__module__]]
    packed = tmp_path / f"run.dump{suffix}"
    content = ten_frames.read_bytes()
    packed.write_bytes(pack(content[:5000]) + pack(content[5000:]))  # two members, as cat makes them
    for one, other in zip(read_frames(packed), read_frames(ten_frames), strict=True):
        assert_same(one, other, atol=0)


def test_lines_longer_than_a_chunk_of_the_file(tmp_path):
    """Frames that lie across the pieces in which a file is read."""
    frames = [make_frame(k, 9000) for k in range(3)]
    for name in ("big.dump.gz", "big.xyz"):
        write_frames(tmp_path / name, ((frame, {}) for frame in frames))
        for one, other in zip(read_frames(tmp_path / name), frames, strict=True):
            assert_same(one, other, atol=1e-8)


def test_windows_line_ends(ten_frames):
    expected = list(read_frames(ten_frames))
    ten_frames.write_bytes(ten_frames.read_bytes().replace(b"\n", b"\r\n"))
    for one, other in zip(read_frames(ten_frames), expected, strict=True):
        assert_same(one, other, atol=0)


# ----------------------------------------------------------------------------------- other formats


@pytest.mark.slow
@quick
@given(seed=st.integers(0, 1000), pbc=st.tuples(*[st.booleans()] * 3))
def test_extxyz_agrees_with_ase(tmp_path, seed, pbc):
    atoms = make_atoms(seed, pbc)
    rng = np.random.default_rng(seed)
    atoms.arrays["charge_guess"] = rng.normal(size=len(atoms))
    atoms.arrays["push"] = rng.normal(size=(len(atoms), 3))
    atoms.arrays["kind"] = rng.integers(0, 5, len(atoms))
    atoms.arrays["chosen"] = rng.random(len(atoms)) < 0.5
    atoms.arrays["label"] = np.array([f"a{k}" for k in range(len(atoms))])
    atoms.info.update(timestep=40, note="two words = bad", nested={"a": [1, 2]})
    path = tmp_path / "run.extxyz"
    ase.io.write(path, [atoms, atoms])
    oracle = ase.io.read(path)
    one, two = read_frames(path, fields=True, dt=0.5)
    assert_same(one, frame_from_atoms(oracle), atol=0, ids=False)
    assert_same(two, frame_from_atoms(oracle), atol=0, ids=False)
    assert (one.timestep, one.time, two.source) == (40, 20.0, "run.extxyz, frame 1")
    assert set(one.fields) == {"charge_guess", "push", "kind"}
    for name in one.fields:
        np.testing.assert_allclose(one.fields[name], oracle.arrays[name], rtol=0, atol=1e-15)


def test_xyz_of_numbers_needs_names(tmp_path):
    path = tmp_path / "run.xyz"
    path.write_text('2\nLattice="5 0 0 0 5 0 0 0 5" pbc="T T F" Origin="1 2 3"\n1 0 0 0 extra\n2 1 1 1 x\n')
    [read] = read_frames(path, types=("Fe", "O"))
    assert (read.species_names, read.species.tolist()) == (("Fe", "O"), [0, 1])
    assert (read.origin.tolist(), read.pbc.tolist()) == ([1, 2, 3], [True, True, False])
    path.write_text('1\nLattice="5 0 0 0 5 0 0 0 5" Properties=Z:I:1:pos:R:3\n26 0 0 0\n')
    assert next(read_frames(path)).species_names == ("Fe",)


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR.gz", "run.vasp", "run.traj", "run.json"])
def test_formats_left_to_ase(tmp_path, name):
    atoms = make_atoms(pbc=True)[np.argsort(make_atoms().numbers, kind="stable")]
    ase.io.write(tmp_path / name, atoms)
    [read] = read_frames(tmp_path / name, dt=1.0)
    assert_same(read, frame_from_atoms(atoms), ids=False)
    assert (read.source, read.species_names) == (f"{name}, frame 0", ("O", "Mg", "Fe"))


@pytest.mark.parametrize(("name", "file_format"), [("a.con", "eon"), ("a.sys", "sys")])
def test_cells_that_are_always_periodic(tmp_path, name, file_format):
    """ASE returns them as open, and a liquid that fills its cell got free surfaces."""
    atoms = Atoms("Kr3", positions=[[1, 1, 1], [4, 4, 4], [8, 8, 8]], cell=[20, 20, 30], pbc=True)
    ase.io.write(tmp_path / name, atoms, format=file_format)
    [frame] = read_frames(tmp_path / name)
    assert frame.pbc.all() and frame.cell == pytest.approx(np.diag([20, 20, 30]), abs=1e-5)


def test_trajectory_of_ase_in_slices(tmp_path):
    images = [make_atoms(k) for k in range(5)]
    ase.io.write(tmp_path / "run.traj", images)
    picked = list(read_frames(tmp_path / "run.traj", frames=slice(-3, None, 2)))
    assert [frame.source for frame in picked] == ["run.traj, frame 2", "run.traj, frame 4"]
    np.testing.assert_array_equal(picked[1].positions, images[4].positions)


@pytest.mark.parametrize("variable_cell", [False, True])
def test_xdatcar_agrees_with_ase(tmp_path, variable_cell):
    atoms = make_atoms(pbc=True)[np.argsort(make_atoms().numbers, kind="stable")]
    images = []
    for k in range(3):
        image = atoms.copy()
        image.set_cell(atoms.cell * (1 + 0.1 * k * variable_cell), scale_atoms=True)
        image.rattle(0.1, seed=k)
        images.append(image)
    path = tmp_path / "XDATCAR"
    ase.io.write(path, images[:1] if variable_cell else images, format="vasp-xdatcar")
    if variable_cell:  # ASE writes one header only
        text = ""
        for k, image in enumerate(images):
            ase.io.write(tmp_path / "one", image, format="vasp-xdatcar")
            text += (tmp_path / "one").read_text().replace("configuration=     1", f"configuration= {k + 1}")
        path.write_text(text)
    oracle = ase.io.read(path, ":", format="vasp-xdatcar")
    frames = list(read_frames(path, dt=2.0))
    assert [frame.time for frame in frames] == [2.0, 4.0, 6.0]
    for frame, one in zip(frames, oracle, strict=True):
        assert_same(frame, frame_from_atoms(one), ids=False)


def test_xdatcar_cartesian_scale_and_unnamed_species(tmp_path):
    path = tmp_path / "XDATCAR"
    path.write_text(
        "melt\n2.0\n5 0 0\n0 5 0\n0 0 5\n1 2\nCartesian configuration= 3\n1 0 0\n0 1 0\n0 0 1\n\n"
    )
    [read] = read_frames(path, types=("Fe", "O"))
    np.testing.assert_array_equal(read.positions, 2 * np.eye(3))
    assert (read.cell[0, 0], read.species.tolist(), read.timestep) == (10.0, [0, 1, 1], 3)
    path.write_text(
        "melt\n-27\n1 0 0\n0 1 0\n0 0 1\nFe_pv O/1a2b\n1 1\nDirect configuration= 1\n0 0 0\n.5 .5 .5\n"
    )
    [read] = read_frames(path)
    np.testing.assert_allclose(read.cell, 3 * np.eye(3))
    assert read.species_names == ("Fe", "O")


def test_gro_agrees_with_ase(tmp_path):
    path = tmp_path / "run.gro"
    images = [make_atoms(k, pbc=True) for k in range(3)]
    text = ""
    for k, atoms in enumerate(images):
        atoms.wrap()
        ase.io.write(tmp_path / "one.gro", atoms)
        lines = (tmp_path / "one.gro").read_text().splitlines()
        text += "\n".join([f"melt t= {0.5 * k} step= {10 * k}", *lines[1:]]) + "\n"
    path.write_text(text)
    for k, frame in enumerate(read_frames(path)):
        (tmp_path / "one.gro").write_text("\n".join(text.splitlines()[33 * k : 33 * (k + 1)]) + "\n")
        assert_same(frame, frame_from_atoms(ase.io.read(tmp_path / "one.gro")), ids=False, atol=1e-5)
        assert (frame.timestep, frame.time) == (10 * k, 0.5 * k)


def test_gro_names_digits_and_touching_columns(tmp_path):
    path = tmp_path / "water.gro"
    rows = [
        "    1SOL     OW99999-100.00001-200.00002   3.00003",
        "    1SOL    SI1    1   0.10000   0.20000   0.30000",
    ]
    path.write_text("\n".join(["water", "2", *rows, "1 2 3 0 0 0.5 0 0.1 0.2"]) + "\n")
    [read] = read_frames(path)
    assert read.species_names == ("O", "Si")
    np.testing.assert_allclose(read.positions[0], (-1000.0001, -2000.0002, 30.0003), rtol=1e-12)
    np.testing.assert_allclose(read.cell, [[10, 0, 0], [5, 20, 0], [1, 2, 30]])
    assert next(read_frames(path, types={"SI1": "Fe"})).species_names == ("O", "Fe")


def test_frame_from_atoms():
    atoms = make_atoms()
    atoms.set_celldisp([1, 2, 3])
    atoms.arrays["id"] = np.arange(len(atoms)) + 7
    atoms.arrays["phase"] = np.arange(len(atoms))
    atoms.info.update(timestep=5, time=0.25)
    before = atoms.copy()
    frame = frame_from_atoms(atoms, source="here", species_names=("O", "Mg", "Si", "Fe"), fields=True)
    assert frame.species_names == ("O", "Mg", "Si", "Fe")
    assert np.array(frame.species_names)[frame.species].tolist() == atoms.get_chemical_symbols()
    assert (frame.origin.tolist(), frame.ids[0], frame.timestep, frame.time) == ([1, 2, 3], 7, 5, 0.25)
    assert list(frame.fields) == ["phase"]
    assert atoms == before
    assert not np.shares_memory(frame.positions, atoms.positions)
    with pytest.raises(ValueError, match="no atoms"):
        frame_from_atoms(Atoms(cell=np.eye(3)))
    with pytest.raises(ValueError, match="not among"):
        frame_from_atoms(atoms, species_names=("O",))


@pytest.mark.parametrize("name", ["run.xyz", "run.traj", "XDATCAR", "out.gro"])
def test_every_format_numbers_its_frames(tmp_path, name):
    form = {"XDATCAR": "vasp-xdatcar", "out.gro": "gromacs", "run.xyz": "extxyz"}.get(name, "traj")
    atoms = make_atoms(pbc=True)
    ase.io.write(tmp_path / name, atoms if form == "gromacs" else [atoms] * 3, format=form)
    if form == "gromacs":  # ASE writes one frame
        (tmp_path / name).write_text((tmp_path / name).read_text() * 3)
    assert [frame.index for frame in read_frames(tmp_path / name)] == [0, 1, 2]
    assert [frame.index for frame in read_frames(tmp_path / name, frames=slice(2, None))] == [2]


# ------------------------------------------------------------------------------------------- start


def test_import_is_light():
    code = "import sys, phaseseg.io; print(sorted({'numba', 'ase', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_kernel_compiles_where_nothing_can_be_cached(ten_frames, monkeypatch):
    from phaseseg.compiled import jit
    from phaseseg.io import columns

    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "Cache", refuse)
    columns._kernel.cache_clear()
    try:
        assert len(next(read_frames(ten_frames))) == 20
    finally:
        columns._kernel.cache_clear()
