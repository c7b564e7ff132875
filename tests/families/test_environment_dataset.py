"""Data sets: what is read from every kind of file, what is refused, and that nothing is lost in a subset."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from hypothesis import assume, given, settings, strategies as st

from phaseseg.families.environments.dataset import DataSet, read_data_set, write_data_set
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.frame import Frame
from phaseseg.io import InputError, read_frames
from phaseseg.io.reading import is_number

PROPERTIES = "Properties=species:S:1:pos:R:3:magmom:R:1:dft_forces:R:3"
TWO = f"""2
Lattice="4.0 0 0 0 4.0 0 0 0 4.0" {PROPERTIES} dft_energy=-7.123456789012 group=bcc note="two words"
Fe 0.000000000001 0.0 0.0 2.2 0.1 0.2 0.3
Fe 2.0 2.0 2.0 2.3 -0.1 -0.2 -0.3
1
Lattice="3.0 0 0 0 3.0 0 0 0 3.0" {PROPERTIES} dft_energy=-3.5 group=cubic pbc="T T T"
Cu 0.0 0.0 0.0 0.0 0.0 0.0 1e-3
"""


@pytest.fixture
def two(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text(TWO)
    return path


def structures():
    """Three structures with energy, forces and a group, the last one without a cell."""
    rng = np.random.default_rng(0)
    made = [bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.6), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]])]
    for k, atoms in enumerate(made):
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - k, forces=rng.normal(size=(len(atoms), 3)))
        atoms.info["config_type"] = "ab"[k % 2]
    return made


def test_extended_xyz_gives_energies_forces_and_groups(two):
    data = read_data_set(two)
    assert data.energies.tolist() == [-7.123456789012, -3.5]
    assert data.forces.tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3], [0, 0, 1e-3]]
    assert data.groups.tolist() == ["bcc", "cubic"]
    assert data.keys == {"energy": "dft_energy", "forces": "dft_forces", "group": "group"}
    assert data.names == ("two.xyz frame 0", "two.xyz frame 1")
    assert data.species == ("Cu", "Fe")
    assert data.configurations.tolist() == [0, 0, 1] and data.starts.tolist() == [0, 2, 3]


def test_keys_can_be_named_or_left_out(two):
    assert read_data_set(two, energy="", forces="", group="").keys == {}
    assert read_data_set(two, group="note", forces="dft_forces").groups.tolist() == ["two words", "none"]
    with pytest.raises(InputError, match=r"two.xyz frame 0: .*no energy E;.*dft_energy"):
        read_data_set(two, energy="E")
    with pytest.raises(InputError, match=r"two.xyz frame 0: .*forces f;.*magmom, dft_forces"):
        read_data_set(two, forces="f")
    with pytest.raises(InputError, match=r"two.xyz frame 0: the forces magmom have the shape"):
        read_data_set(two, forces="magmom")


@pytest.mark.parametrize("suffix", ["db", "json", "traj"])
def test_files_of_ase(tmp_path, suffix):
    path, made = tmp_path / f"set.{suffix}", structures()
    if suffix == "traj":
        import ase.io

        ase.io.write(path, made)
    else:
        with connect(path) as database:
            for atoms in made:
                database.write(atoms, config_type=atoms.info["config_type"])
    data = read_data_set(path)
    assert data.energies.tolist() == [-1, -2, -3]
    assert np.array_equal(data.forces, np.concatenate([atoms.get_forces() for atoms in made]))
    assert data.groups.tolist() == ["a", "b", "a"]
    assert not data.frames[2].pbc.any() and data.frames[2].volume > 1


@pytest.mark.parametrize("suffix", ["db", "traj"])
def test_a_subset_of_a_file_of_ase_has_everything(tmp_path, suffix):
    import ase.io

    path, made = tmp_path / f"set.{suffix}", structures()
    if suffix == "traj":
        ase.io.write(path, made)
    else:
        with connect(path) as database:
            for atoms in made:
                database.write(atoms, config_type=atoms.info["config_type"], run=7)
    assert write_data_set(tmp_path / "out.xyz", read_data_set(path), [2, 0]) == 2
    back = ase.io.read(tmp_path / "out.xyz", ":")
    assert [atoms.info["config_type"] for atoms in back] == ["a", "a"]
    assert [atoms.get_potential_energy() for atoms in back] == [-1, -3]
    np.testing.assert_allclose(back[1].get_forces(), made[2].get_forces(), atol=1e-8)
    assert suffix == "traj" or back[0].info["run"] == 7


def test_a_dump_gives_forces_and_its_file_as_group(tmp_path):
    text = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp pp
0 3
0 3
0 3
ITEM: ATOMS id type element x y z fx fy fz q
1 1 Fe 0 0 0 0.5 0 -1 2.5
"""
    for name in ("a.dump", "b.dump"):
        (tmp_path / name).write_text(text)
    data = read_data_set(tmp_path / "a.dump", tmp_path / "b.dump")
    assert data.forces.tolist() == [[0.5, 0, -1]] * 2 and data.energies is None
    assert data.groups.tolist() == ["a.dump", "b.dump"]
    assert data.keys == {"forces": "fx, fy, fz", "group": "the file"}
    # Wildcards stand for files, not for one trajectory, of which frame 0 would be left out the second time.
    of_all = read_data_set(tmp_path / "?.dump")
    assert of_all.names == data.names and of_all.groups.tolist() == data.groups.tolist()
    assert write_data_set(tmp_path / "out.xyz", of_all) == 2
    write_data_set(tmp_path / "out.xyz", data, [1])
    (frame,) = read_frames(tmp_path / "out.xyz", fields=True)
    assert frame.fields["q"].tolist() == [2.5] and frame.fields["fz"].tolist() == [-1]


def test_a_subset_is_a_copy_of_every_digit(two, tmp_path):
    write_data_set(tmp_path / "all.xyz", read_data_set(two))
    assert (tmp_path / "all.xyz").read_text() == TWO
    write_data_set(tmp_path / "one.xyz.gz", read_data_set(two), [1])
    assert gzip.decompress((tmp_path / "one.xyz.gz").read_bytes()).decode() == "".join(
        TWO.splitlines(keepends=True)[4:]
    )


def test_entries_and_columns_are_added(two, tmp_path):
    data = read_data_set(two)
    write_data_set(
        tmp_path / "out.xyz", data, entries={"weight": np.array([0.5, 2.0]), "why": np.array(["a b", "c"])},
        columns={"keep": np.array([True, False, True])},
    )  # fmt: skip
    first, second = read_frames(tmp_path / "out.xyz", fields=True)
    assert first.fields["keep"].tolist() == [1, 0] and second.fields["keep"].tolist() == [1]
    assert first.info["weight"] == 0.5 and first.words["why"] == "a b" and first.words["note"] == "two words"
    assert np.array_equal(read_data_set(tmp_path / "out.xyz").forces, data.forces)
    with pytest.raises(ValueError, match="keep must have 3 values"):
        write_data_set(tmp_path / "no.xyz", data, columns={"keep": [1]})
    assert not (tmp_path / "no.xyz").exists()


def test_a_set_made_in_python_is_written(tmp_path):
    frame = Frame(np.array([[0.1, 0, 0]]), np.eye(3) * 3, True, ["Fe"], words={"name": "x"})
    data = DataSet([frame], np.array([-123456.12345678]), np.ones((1, 3)) / 3, np.array(["a b"]))
    write_data_set(tmp_path / "out.xyz", data)
    back = read_data_set(tmp_path / "out.xyz")
    assert back.energies.tolist() == [-123456.12345678] and back.groups.tolist() == ["a b"]
    np.testing.assert_allclose(back.forces, 1 / 3, atol=1e-14)
    assert back.frames[0].words["name"] == "x"


def test_plain_xyz_without_properties(tmp_path):
    path = tmp_path / "plain.xyz"
    path.write_text("1\nenergy=-1.5\nFe 0.0 0.0 0.0\n")
    data = read_data_set(path)
    assert data.energies.tolist() == [-1.5]
    write_data_set(tmp_path / "out.xyz", data, columns={"keep": [1]})
    assert (tmp_path / "out.xyz").read_text() == (
        "1\nenergy=-1.5 Properties=species:S:1:pos:R:3:keep:I:1\nFe 0.0 0.0 0.0 1\n"
    )


def test_a_named_method_is_preferred_and_incomplete_keys_are_refused(two, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(
        TWO.replace("dft_energy=-3.5", "dft_energy=-3.5 energy=1").replace("note", "energy=2 note")
    )
    assert read_data_set(path).energies.tolist() == [-7.123456789012, -3.5]
    path.write_text(TWO.replace(" dft_energy=-3.5", ""))
    with pytest.raises(InputError, match=r"a.xyz frame 1: .*no energy dft_energy; a.xyz frame 0 has it"):
        read_data_set(path)
    assert read_data_set(path, energy="").energies is None
    path.write_text(TWO.replace("dft_energy=-3.5", "dft_energy=nan"))
    with pytest.raises(InputError, match=r"a.xyz frame 1: the energy dft_energy is 'nan'"):
        read_data_set(path)
    path.write_text(TWO.replace("1e-3", "inf"))
    with pytest.raises(InputError, match=r"a.xyz frame 1: the force on atom 1 is not finite"):
        read_data_set(path)


@pytest.mark.parametrize(
    "energy, forces, found",
    [
        ("energy_corrected", "F", ("energy_corrected", "F")),
        ("E_pbe", "F_pbe", ("E_pbe", "F_pbe")),
        ("DFT-energy", "forces_dft", ("DFT-energy", "forces_dft")),
        ("mp2Energy", "mp2Forces", ("mp2Energy", "mp2Forces")),
        ("kinetic_energy", "force_weights", ("", "")),
        ("energy_per_atom", "forces_error", ("", "")),
        ("E=0 energy_a=1 energy_b", "F:R:3:F_pbe", ("", "")),  # which of several is not known
        ("energy=1 energy_corrected", "F", ("energy", "F")),  # a usual name is preferred
    ],
)
def test_unusual_keys(tmp_path, energy, forces, found):
    path = tmp_path / "a.xyz"
    columns = 1 + forces.count(":R:3:")
    text = TWO.replace("dft_energy", energy).replace("dft_forces", forces)
    path.write_text("\n".join(line + " 0 0 0" * (columns - 1) if line[:2] in ("Fe", "Cu") else line
                              for line in text.splitlines()))  # fmt: skip
    keys = read_data_set(path).keys
    assert (keys.get("energy", ""), keys.get("forces", "")) == found


def test_files_with_different_keys(two, tmp_path):
    other = tmp_path / "other.xyz"
    other.write_text(TWO.replace("dft_energy", "energy").replace("group=", "kind="))
    data = read_data_set(two, other)
    assert data.keys["energy"] == "dft_energy (two.xyz), energy (other.xyz)"
    assert data.groups.tolist() == ["bcc", "cubic", "other.xyz", "other.xyz"]
    other.write_text(TWO.replace("dft_energy", "charge"))
    with pytest.raises(
        InputError, match=r"other.xyz frame 0: .*no energy; two.xyz frame 0 has it under dft_"
    ):
        read_data_set(two, other)


def test_bad_input(two, tmp_path):
    empty = tmp_path / "empty.xyz"
    empty.write_text("")
    with pytest.raises(InputError, match="empty"):
        read_data_set(empty)
    empty.write_text("0\nenergy=1\n")
    with pytest.raises(InputError, match="frame 0: the configuration has no atoms"):
        read_data_set(empty)
    with pytest.raises(ValueError, match="at least one file"):
        read_data_set()
    reduced = Frame([[0.0, 0, 0]], [3.0] * 3, True, ["A"], units="lj", source="a.dump")
    with pytest.raises(ValueError, match=r"a.dump: .*reduced units \(lj\).* by the σ"):
        DataSet([reduced])
    data = read_data_set(two)
    with pytest.raises(ValueError, match=r"energies of 2 .*found \(3,\)"):
        DataSet(data.frames, np.zeros(3))
    with pytest.raises(ValueError, match="no configurations"):
        DataSet([])
    with pytest.raises(ValueError, match=r"two.xyz, frame 0: .*Fe, but"):
        data.features(PowerSpectrum(("Cu",)))
    with pytest.raises(ValueError, match=r"two.xyz frame 1: the descriptor has the shape"):
        data.features(lambda frame: np.zeros((frame.n_atoms, frame.n_atoms)))
    with pytest.raises(ValueError, match=r"written as .xyz"):
        write_data_set(tmp_path / "out.csv", data)
    with pytest.raises(ValueError, match="no configurations to write"):
        write_data_set(tmp_path / "out.xyz", data, np.zeros(2, bool))
    for chosen in ([2], [-1], [True]):
        with pytest.raises(ValueError, match="configurations"):
            data.subset(chosen)


def test_subsets_and_features(two):
    data = read_data_set(two)
    one = data.subset([1])
    assert one.names == ("two.xyz frame 1",) and one.forces.tolist() == [[0, 0, 1e-3]]
    assert one.energies.tolist() == [-3.5] and one.groups.tolist() == ["cubic"]
    descriptor, said = PowerSpectrum(("Cu", "Fe")), []
    rows = data.features(descriptor, lambda done, text: said.append(done))
    assert rows.shape == (3, descriptor.n_features) and said == [1.0]
    assert np.array_equal(rows[2:], one.features(descriptor))
    assert data.subset(np.array([False, True])).names == one.names
    assert data.subset([1, 0, 1]).energies.tolist() == [-3.5, -7.123456789012, -3.5]


@settings(max_examples=60, deadline=None)
@given(
    energies=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=3),
    group=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8),
    n_atoms=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_what_is_written_is_read(tmp_path_factory, energies, group, n_atoms, seed):
    assume(not is_number(group))  # groups that are numbers are read as such: 01 is 1
    path = tmp_path_factory.mktemp("set") / "set.xyz"
    rng = np.random.default_rng(seed)
    frames = [
        Frame(rng.random((n_atoms, 3)).round(8), np.eye(3) * 4, True, ["Fe"] * n_atoms) for _ in energies
    ]
    forces = rng.normal(size=(n_atoms * len(frames), 3)).round(9)
    data = DataSet(frames, np.array(energies), forces, np.array([group] * len(frames)))
    write_data_set(path, data, columns={"keep": np.arange(data.n_atoms)})
    back = read_data_set(path, columns=True)
    assert back.energies.tolist() == energies and set(back.groups.tolist()) == {group}
    assert np.array_equal(back.forces, forces)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(frames, back.frames, strict=True))
    again = path.with_name("again.xyz")
    write_data_set(again, back)
    assert again.read_bytes() == path.read_bytes()
