"""Frames in slabs: labels and predictions are those of the whole frame, and nothing is left on the disk."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phaseseg import Frame, load_model
from phaseseg.checkpoint import save_checkpoint
from phaseseg.compiled import threads as threads_module
from phaseseg.families.segmentation.labels import slabs as slabs_module
from phaseseg.families.segmentation.labels.density import smooth_grid
from phaseseg.families.segmentation.labels.in_slabs import label_slabs
from phaseseg.families.segmentation.labels.lattice import plan_lattice
from phaseseg.families.segmentation.labels.slabs import SlabWork
from phaseseg.families.segmentation.labels.weak_labels import label_frame, smallest
from phaseseg.families.segmentation.prediction_in_slabs import predict_slabs
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Category
from phaseseg.io import read_frames, write_frames
from phaseseg.io.pieces import read_pieces
from phaseseg.large.disk import Disk, DiskError
from phaseseg.large.store import FrameStore
from phaseseg.testing import AWKWARD
from samples import shared_disk, two_solvents, wrapped

WATER = Path(__file__).parents[2] / "docs" / "data" / "water.gro.gz"
QUICK = ("triclinic, open along b", "open along c", "one atom, open")
FLAT = [name for name in AWKWARD if name.startswith("2D")]


def in_store(path, disk, rows=3000, progress=None):
    frames = read_pieces(path, rows=rows)
    store = FrameStore.read(next(frames), disk, progress)
    frames.close()
    return store


def assert_labels_are_those_of_the_whole(frame, n, rule, folder, rows=3000, new_disk=Disk):
    path = folder / ("frame.xyz" if frame.categories else "frame.dump")
    write_frames(path, [frame])
    whole = next(read_frames(path))
    assert whole.categories.keys() == frame.categories.keys()
    expected = label_frame(whole, rule)
    with new_disk(folder) as disk:
        found = label_slabs(SlabWork(in_store(path, disk, rows), disk, n), rule)
        assert found.fields.messages == expected.messages
        for name, values in found.columns.items():
            assert_array_equal(values, expected[name], err_msg=name)
        assert {*found.columns, *found.fields} == {*expected}
        for name, value in found.fields.items():
            if name == "density_grid":
                assert_array_equal(value.values, expected[name].values)
            elif name in expected.level("table"):
                assert {*value.columns} == {*expected[name].columns}
                for column, numbers in value.columns.items():
                    assert_array_equal(numbers, expected[name].columns[column], err_msg=f"{name} {column}")
            elif name == "interface_width_resolution":  # from sums in another order
                assert_allclose(value, expected[name], rtol=1e-12)
            else:
                assert_array_equal(value, expected[name], err_msg=name)
        at = 0
        for part, columns in found.pieces().pieces:
            rows_here = slice(at, at + len(part))
            assert_array_equal(part.positions, whole.positions[rows_here])
            assert_array_equal(part.species, whole.species[rows_here])
            assert_array_equal(columns["phase"], expected["phase"][rows_here])
            at += len(part)
        assert at == len(whole) and part.species_names == whole.species_names
    return expected


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, pytest.param(1, marks=pytest.mark.slow),
                               pytest.param(2, marks=pytest.mark.slow),
                               pytest.param(5, marks=pytest.mark.slow)])  # fmt: skip
def test_labels_of_a_melt(large, n, tmp_path):
    fields = assert_labels_are_those_of_the_whole(large[3000], n, LabelRule(), tmp_path, rows=10_000)
    assert fields["n_phases"] == 2


@pytest.mark.slow
def test_labels_on_several_threads(large, tmp_path, monkeypatch):
    monkeypatch.setattr(threads_module, "LONGEST_PART", 300)
    with threads_module.threads(3):
        assert_labels_are_those_of_the_whole(large[4000], 3, LabelRule(), tmp_path, rows=10_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 2.0, "field": "mole-fraction", "threshold": "two-means"},
        {"species": "O", "at": "voxel"},
        {"species": ("Fe", "Mg"), "sigma": 1.8, "keep": "largest", "boundary_width": 3.0},
        {"species": "Fe", "threshold": 1e3, "phases": 2},
    ],
)
def test_labels_with_other_rules(large, options, tmp_path):
    tilt = np.array([[0, 0, 0], [20, 0, 0], [5, -10, 0]])
    frame = large[3000].replace(cell=large[3000].cell + tilt)
    assert_labels_are_those_of_the_whole(frame, 3, LabelRule(**options), tmp_path, rows=10_000)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in AWKWARD
        if name not in FLAT
    ],
)
def test_labels_of_awkward_frames(name, tmp_path):
    assert_labels_are_those_of_the_whole(AWKWARD[name](), 3, LabelRule("Fe"), tmp_path)


@pytest.mark.parametrize("sparse", [False, True])
def test_atoms_of_molecules_are_counted_as_in_memory(sparse, tmp_path):
    """By atom, too, the noise is that of molecules; those of more than 30 atoms count atom by atom."""
    whole = next(read_frames(WATER))
    molecules = np.where(np.arange(len(whole)) < 60, 1, whole.molecules)
    molecules[60:90] = 0
    frame = Frame(
        whole.positions, whole.cell, whole.pbc, whole.species, whole.species_names,
        molecules=molecules * (10**7 if sparse else 1),
    )  # fmt: skip
    rule = LabelRule(("O", "H"), by="atom")
    fields = assert_labels_are_those_of_the_whole(frame, 3, rule, tmp_path, rows=500)
    assert any("molecules per" in text for text in map(str, fields.messages))


SOLVENTS = {"species": "O", "sigma": 3.0, "boundary_width": 2.0, "min_volume": 0.0}


def solvents(kind, seed=0):
    """Small molecules in pieces on either side of many faces, in a file in any order."""
    frame, rng = two_solvents(seed), np.random.default_rng(seed)
    frame = frame.take(rng.permutation(len(frame)))
    if kind == "triclinic":
        frame = wrapped(frame.replace(cell=frame.cell + np.array([[0, 0, 0], [7, 0, 0], [4, -5, 0]])))
    elif kind == "open":
        frame = frame.replace(pbc=(False, True, True))
    elif kind == "open along b":
        frame = frame.replace(pbc=(True, False, True))
    elif kind == "voids":
        frame = frame.replace(cell=frame.cell * [[2], [1], [1]])
    elif kind == "unwrapped":
        frame = frame.replace(positions=frame.positions + rng.integers(-2, 3, (len(frame), 3)) @ frame.cell)
    elif kind == "sparse":
        frame = frame.replace(molecules=frame.molecules * 10**9)
    elif kind == "large":  # a network, chains of many atoms, and atoms of no molecule
        numbers = frame.molecules.copy()
        numbers[numbers % 5 == 0] = 5
        numbers[numbers % 11 == 0] = -1
        frame = frame.replace(molecules=np.where(numbers % 7 == 0, numbers // 14 * 14, numbers))
    elif kind == "residues":
        words = np.where(frame.molecules % 3 == 0, "SOL", "DRG")
        frame = frame.replace(categories={"residue": Category.of(words)})
    return frame


@pytest.fixture
def thin(monkeypatch):
    """Layers and blocks of few atoms and molecules."""
    monkeypatch.setattr("phaseseg.large.store.ATOMS_PER_LAYER", 100)
    monkeypatch.setattr("phaseseg.families.segmentation.labels.molecules.BLOCK", 90)


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        pytest.param(kind, n, marks=[] if n == 4 else pytest.mark.slow)
        for kind in ("triclinic", "open", "open along b", "voids", "unwrapped", "sparse", "large", "residues")
        for n in (1, 2, 4, 7)
    ],
)
def test_labels_by_molecule(kind, n, tmp_path, thin):
    rule = LabelRule(by="molecule" if kind == "large" else "auto", **SOLVENTS)
    fields = assert_labels_are_those_of_the_whole(solvents(kind), n, rule, tmp_path, rows=700)
    assert fields["n_phases"] == 2 and "by-molecule" in [one.code for one in fields.messages]
    assert (fields["area_poor_void"] > 0) == (kind in ("voids", "open", "open along b"))


@pytest.mark.parametrize(
    "options",
    [
        {"species": "O", "at": "voxel", "field": "mole-fraction", "sigma": 2.5},
        {},
        {"species": "Cl", "threshold": 1e3, "phases": 2},
        {"species": "O", "threshold": 1e3},
    ],
)
def test_labels_by_molecule_with_other_rules(options, tmp_path, thin):
    assert_labels_are_those_of_the_whole(solvents("", 1), 3, LabelRule(**options), tmp_path, rows=700)


def test_few_molecules_and_none(tmp_path):
    """Molecules only where they were asked for; without any there is one sentence."""
    frame = solvents("")
    few = frame.replace(molecules=np.where(frame.molecules < 100, frame.molecules, 0))
    for by in ("auto", "molecule"):
        rule = LabelRule(by=by, **SOLVENTS)
        fields = assert_labels_are_those_of_the_whole(few, 3, rule, tmp_path, rows=700)
        assert ("by-molecule" in [one.code for one in fields.messages]) == (by == "molecule")
    write_frames(tmp_path / "none.xyz", [frame.replace(molecules=np.zeros(len(frame), int))])
    with Disk(tmp_path) as disk:
        work = SlabWork(in_store(tmp_path / "none.xyz", disk), disk, 3)
        with pytest.raises(ValueError, match="needs the molecule of every atom"):
            label_slabs(work, LabelRule(by="molecule", **SOLVENTS))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("triclinic", SOLVENTS),
        ("voids", SOLVENTS),
        ("", {"species": "O", "at": "voxel", "field": "mole-fraction", "sigma": 2.5}),
        ("open", {"by": "atom"}),
        ("", {"species": "O", "threshold": 1e3}),
    ],
)
def test_labels_made_on_other_machines(kind, options, tmp_path, thin):
    """Two domains go on through the faces of all slabs; machines read atoms and grids from files."""
    assert_labels_are_those_of_the_whole(
        solvents(kind), 4, LabelRule(**options), tmp_path, rows=700, new_disk=shared_disk
    )
    names = {path.name.rpartition("-")[0] for path in (tmp_path / "shared").iterdir()}
    assert names <= {"", "frame-0-labels"}  # a run that is interrupted later continues with the latter


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [0, 20])
def test_labels_of_a_melt_made_on_other_machines(large, tilt, tmp_path):
    """The grid of a melt is wider than the reach of the Gaussian, unlike those of the smaller frames."""
    frame = large[4000].replace(cell=large[4000].cell + np.array([[0, 0, 0], [tilt, 0, 0], [0, 0, 0]]))
    assert_labels_are_those_of_the_whole(frame, 5, LabelRule(), tmp_path, rows=10_000, new_disk=shared_disk)


def named(seed=0, **more):
    """Solvents whose atoms have names, and whose molecules are residues."""
    frame = solvents("triclinic", seed)
    species = np.array(frame.species_names)[frame.species]
    words = {"O": "SOL", "H": "SOL", "C": "TCM", "Cl": "TCM", "Na": "NA"}
    residues = Category.of([words[name] for name in species])
    return frame.replace(
        categories={"name": Category.of(np.char.add(species, "1")), "residue": residues}, **more
    )


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"species": "name:O1", "sigma": 3.0},
        {"species": ("residue:NA", "name:Cl1", "C"), "sigma": 3.0, "field": "mole-fraction"},
        {"species": "residue:SOL", "by": "atom"},
        {},
    ],
)
def test_labels_of_atom_names_and_residues(options, n, tmp_path, thin):
    """Without a species, residues are candidates as in memory."""
    fields = assert_labels_are_those_of_the_whole(named(), n, LabelRule(**options), tmp_path, rows=700)
    assert fields["n_phases"] == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("name:Xe1", r"no name named 'Xe1'; the names here are O1, Cl1"),
        ("chain:A", r"'chain:A' asks for the chain of the atoms; the frame has name, residue"),
        ("SOL", r"Did you mean residue:SOL\?"),
    ],
)
def test_names_that_the_frame_does_not_have(names, words, tmp_path):
    write_frames(tmp_path / "a.xyz", [named()])
    with Disk(tmp_path) as disk:
        store = in_store(tmp_path / "a.xyz", disk)
        with pytest.raises(ValueError, match=words) as error:
            store.choose(names)
        with pytest.raises(ValueError, match=words) as in_memory:
            next(read_frames(tmp_path / "a.xyz")).species_mask(names)
        assert str(error.value) == str(in_memory.value)


@pytest.mark.parametrize("pbc", [True, (False, True, True)])
def test_domains_that_go_on_through_the_faces_of_slabs(pbc, tmp_path, monkeypatch):
    """A rich column along the first vector percolates; small blocks make every convolution meet its ends."""
    monkeypatch.setattr(slabs_module, "BLOCK", 1)
    rng = np.random.default_rng(3)
    cell = np.array([60.0, 24.0, 24.0])
    positions = rng.random((4000, 3)) * cell
    inside = np.hypot(positions[:, 1] - 12, positions[:, 2] - 12) < 7
    frame = Frame(positions, cell, pbc, np.where(rng.random(4000) < np.where(inside, 0.95, 0.03), "Fe", "O"))
    fields = assert_labels_are_those_of_the_whole(frame, 4, LabelRule("Fe", sigma=2.0), tmp_path)
    assert fields["n_domains"] == 1
    assert fields["domains"].columns["percolates along a"].tolist() == [pbc is True]


def test_empty_slabs(tmp_path):
    """The atoms fill a quarter of a periodic cell; species come later in the file than their types say."""
    frame = AWKWARD["orthogonal"]()
    order = np.argsort(-frame.species, kind="stable")
    frame = frame.take(order, cell=frame.cell * [[4], [1], [1]])
    fields = assert_labels_are_those_of_the_whole(frame, 6, LabelRule("Fe", sigma=2.0), tmp_path)
    assert fields["area_poor_void"] > 0


def test_the_smallest_values_and_of_equal_ones_the_first():
    values = np.array([3, 1, 2, 1, 2, 2], dtype=np.float32)
    assert smallest(values, 4).tolist() == [1, 2, 3, 4]
    assert smallest(values, 9).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "triclinic, open along b"])
def test_smoothing_on_disk_is_smoothing(name, tmp_path, monkeypatch):
    monkeypatch.setattr(slabs_module, "BLOCK", 1)
    frame = AWKWARD[name]()
    path = tmp_path / "frame.dump"
    write_frames(path, [frame])
    lattice = plan_lattice(frame, LabelRule("Fe", sigma=1.0).fixed())
    values = np.random.default_rng(0).random(lattice.shape, dtype=np.float32)
    with Disk(tmp_path) as disk:
        work = SlabWork(in_store(path, disk), disk, 2)
        found = work.smooth(work.copy(values), lattice, 1.0, 0.37)
        assert_array_equal(found, smooth_grid(values, lattice, 1.0, 0.37))


# Predictions --------------------------------------------------------------------------------------


def assert_predictions_are_those_of_the_whole(frame, n, name, folder, new_disk=Disk, **options):
    path = folder / "frame.dump"
    write_frames(path, [frame])
    whole = next(read_frames(path))
    model = load_model(name)
    rule = model.rule(**options)
    expected = model.fields(whole, model.run(whole, rule), rule)
    with new_disk(folder) as disk:
        found = predict_slabs(in_store(path, disk, 10_000), disk, n, model, rule)
        assert {*found.columns, *found.fields} == {*expected}
        assert found.fields.messages == expected.messages
        # Sums over neighbors are scaled by the largest score of a slab, and round differently.
        for column in ("phase", "domain"):
            assert np.count_nonzero(found.columns[column] != expected[column]) <= 1e-5 * len(whole)
        distance = found.columns["interface_distance"]
        assert_allclose(distance, expected["interface_distance"], atol=1e-3)
        scale = model._temperature
        assert_allclose(found.columns["phase_probability"], expected["phase_probability"], atol=1e-5 / scale)
        assert found.fields["outside_training"] == expected["outside_training"]
        assert_allclose(found.fields["interface_area"], expected["interface_area"], rtol=1e-5)
        table = found.fields["composition"].columns
        assert {*table} == {*expected["composition"].columns}
        if (found.columns["phase"] == expected["phase"]).all():
            for column, values in expected["composition"].columns.items():
                assert_array_equal(table[column], values, err_msg=column)
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat-v1", "gcn-3000K-v1"])
def test_predictions_of_a_melt(large, name, tmp_path):
    """Slabs of 14 Å are thinner than their halo on either side of gcn."""
    fields = assert_predictions_are_those_of_the_whole(large[3000], 5, name, tmp_path)
    assert fields["n_phases"] == 2


@pytest.mark.parametrize("boundary", ["interface", "learned"])
def test_predictions_by_molecule(boundary, tmp_path, thin, make_checkpoint):
    """Molecules of a melt that have nothing to do with its bonds, on either side of everything."""
    frame = solvents("triclinic")
    checkpoint = make_checkpoint(outputs=3, species=frame.species_names, target=("O",), cut=0.2)
    path = tmp_path / "pair-v1.safetensors"
    save_checkpoint(checkpoint, path)
    options = {"boundary": boundary, "min_volume": 0.0}
    fields = assert_predictions_are_those_of_the_whole(frame, 4, str(path), tmp_path, **options)
    assert fields["n_phases"] == 2 and "H2O (mol%)" in fields["composition"].columns


def test_predictions_made_on_other_machines(small, tmp_path, thin):
    frame = small[3000][5]
    assert_predictions_are_those_of_the_whole(frame, 3, "gat-v1", tmp_path, shared_disk, min_volume=0.0)


def test_halos_that_are_thicker_than_the_cell(small, tmp_path):
    frame = small[3000][5]
    assert load_model("gat-v1").halo * 2 > np.diag(frame.cell)[0]
    assert_predictions_are_those_of_the_whole(frame, 3, "gat-v1", tmp_path, min_volume=0.0)


def test_predictions_that_need_whole_frames(small, tmp_path):
    path, model = tmp_path / "frame.dump", load_model("gat-v1")
    write_frames(path, [small[3000][5]])
    with Disk(tmp_path) as disk:
        store = in_store(path, disk)
        with pytest.raises(ValueError, match="whole frame in memory"):
            predict_slabs(store, disk, 2, model, model.rule(boundary="voxels"))
        open_frame = small[3000][5].replace(cell=small[3000][5].cell * [[2], [1], [1]])
        write_frames(path, [open_frame])
        with pytest.raises(ValueError, match="free surfaces"):
            predict_slabs(in_store(path, disk), disk, 2, model, model.rule())


# Disk ---------------------------------------------------------------------------------------------


def test_nothing_is_left_on_the_disk(small, tmp_path):
    """Files have no name, so that nothing is left of a process that is killed, either."""
    path, folder = tmp_path / "frame.dump", tmp_path / "temporary"
    folder.mkdir()
    write_frames(path, [small[3000][5]])

    def stop(done: float, text: str) -> None:
        assert not [*folder.iterdir()]
        if text.startswith("labeling"):
            raise KeyboardInterrupt

    with Disk(folder) as disk:
        store = in_store(path, disk, progress=stop)
        with pytest.raises(KeyboardInterrupt):
            label_slabs(SlabWork(store, disk, 2, stop), LabelRule("Fe", phases=2, min_volume=0.0))
    assert not [*folder.iterdir()]


def test_arrays_that_machines_share_are_removed_with_their_last_view(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with shared_disk(tmp_path) as disk:
        values = disk.array((30, 100), np.float32)
        values[:] = 3
        part, (file,) = values[10:12], disk.folder.iterdir()
        assert disk.place(part) == (str(file), (2, 100), "<f4", 4000, (400, 4))
        with Disk(tmp_path) as there:
            other = there.opened(disk.place(part))
            assert_array_equal(other, part)
            there.put(other, 1, np.ones((1, 100)))
            assert_array_equal(part[:, 0], [3, 1])
            with monkeypatch.context() as patch:
                patch.setattr(Path, "open", full)
                with pytest.raises(DiskError, match=r"the disk is full.*another folder with --resume"):
                    there.put(other, 1, np.ones((1, 100)))
        del values
        gc.collect()
        assert file.exists()
        del part
        gc.collect()
        assert not file.exists() and disk.folder.exists()
    assert not disk.folder.exists()


@pytest.mark.slow
def test_arrays_keep_what_is_given_back(tmp_path):
    with Disk(tmp_path) as disk:
        values = disk.array((300, 1000), np.float32)
        values[:] = 3
        disk.give_back()
        assert (values == 3).all() and not [*tmp_path.iterdir()]
        part = values[10:12]
        del values
        gc.collect()
        assert (part == 3).all()


def test_a_full_or_missing_disk(tmp_path):
    with pytest.raises(DiskError, match="temporary files need about"):
        Disk(tmp_path).check(1e30)
    with pytest.raises(DiskError, match="name another folder in the variable TMPDIR"):
        Disk(Path(tmp_path / "missing")).array(10, np.int8)
    with pytest.raises(DiskError, match="a temporary file cannot be written"):
        Disk(tmp_path).array(1 << 55, np.int8)
