"""Inputs on which the fuzzer once found a fault, made small."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pytest

from fuzz import bases
from mobility_samples import random_checkpoint
from phaseseg import api, label_phases
from phaseseg.checkpoint import CheckpointError
from phaseseg.families.segmentation.labels.threshold import Cuts, Histogram
from phaseseg.frame import Frame
from phaseseg.io import InputError, frame_from_atoms, read_frames
from phaseseg.io.packing import pack
from phaseseg.neighbors import nearest_neighbors
from phaseseg.trajectory import map_frames
from samples import cooled, share_checkpoint


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["none of it", "cut", "changed"])
def test_a_compressed_file_of_a_format_that_nothing_shows(tmp_path, suffix, damage):
    """ASE decompresses it to find the format."""
    data = b"".join(f"{number} lines of nothing known\n".encode() for number in range(50))
    packed = (
        pack(data, suffix)
        if suffix == ".zst"
        else {".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix].compress(data)
    )
    content = {
        "none of it": data, "cut": packed[: len(packed) // 2], "changed": packed[:20] + bytes(9) + packed[29:]
    }[damage]  # fmt: skip
    path = tmp_path / f"melt{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        list(read_frames(path))


def test_the_cell_of_an_xdatcar_whose_volume_overflows(tmp_path):
    for old, new in (
        ("8 0 0", "1e308 1e300 0"),
        ("8 0 0", "nan 0 0"),
        ("1.0\n", "1e308\n"),
    ):
        path = tmp_path / "XDATCAR"
        path.write_text(bases.xdatcars()[0].replace(old, new, 1))
        with pytest.raises(InputError, match="XDATCAR"):
            list(read_frames(path))


def test_a_name_that_fills_a_line(tmp_path):
    path = tmp_path / "run.xyz"
    path.write_text(bases.xyzs()[0].replace("\nFe", "\nFe" + "e" * 3000, 1))
    with pytest.raises(InputError, match=r"run\.xyz") as caught:
        list(read_frames(path))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", [-1, 119, 10**6])
def test_atomic_numbers_that_are_no_elements(number):
    from ase import Atoms

    atoms = Atoms("FeO", positions=[[0, 0, 0], [1, 1, 1]], cell=[3, 3, 3])
    atoms.numbers[1] = number
    with pytest.raises(InputError, match=rf"^run: atom 2 has the atomic number {number}"):
        frame_from_atoms(atoms, source="run")


def test_weights_that_do_not_fit_name_the_checkpoint(sphere_frame):
    made = share_checkpoint()
    weights = dict(made.weights)
    weights["member0.readout1.bias"] = np.zeros(0, np.float32)
    object.__setattr__(made, "weights", weights)
    with pytest.raises(CheckpointError, match=r"^segmentation/share-v1: the weights .* shape"):
        api.predict(sphere_frame, made)


def test_text_where_the_settings_of_a_checkpoint_need_a_mapping():
    for change in (
        lambda config: config.update(targets=["propensity"]),
        lambda config: config.update(network="bapst"),
        lambda config: config.update(standard=3),
    ):
        made = random_checkpoint()
        change(made.config)
        with pytest.raises(CheckpointError, match=r"^mobility/random-v1: the settings in the checkpoint"):
            api.load_model(made)
    for part in ("score", "interface", "label_rule", "network"):
        made = share_checkpoint()
        made.config[part] = "x"
        with pytest.raises(CheckpointError, match=r"^segmentation/share-v1: the settings in the checkpoint"):
            api.load_model(made)


def test_a_whole_number_for_a_length_compiles_nothing_anew():
    made = share_checkpoint()
    made.config["network"]["cutoff"] = 6
    assert type(api.load_model(made).config.cutoff) is float


@pytest.mark.parametrize(("n_atoms", "pbc"), [(8, (False, True, True)), (90, (True, True, False))])
def test_labels_of_atoms_on_top_of_each_other(n_atoms, pbc):
    """The field has one value along some axes, and no interface although two phases are asked for."""
    cell = [[7.9, 0.1, -0.4], [0.7, 4.8, -0.04], [-0.7, -0.5, 18.3]]
    frame = Frame(np.full((n_atoms, 3), 2.3), cell, pbc, np.arange(n_atoms) % 2, ("Fe", "O"))
    for sigma in (0.5, 2.0):
        fields = label_phases(frame, phases=2, sigma=sigma, min_volume=0.0)
        assert set(np.unique(fields["phase"])) <= {0, 1, 2}


def test_a_periodic_cell_thinner_than_an_atom():
    """It would have millions of images within the cutoff."""
    rng = np.random.default_rng(0)
    frame = Frame(
        rng.random((100, 3)) * 9, [9.0, 1e-5, 9.0], True, np.arange(100) % 2, ("Fe", "O"), source="run"
    )
    with pytest.raises(ValueError, match=r"^run: the cell is 1e-05 Å thick along a periodic axis"):
        api.predict(frame, share_checkpoint(species=("Fe", "O")))
    with pytest.raises(ValueError, match=r"^run: the cell is 1e-05 Å thick along a periodic axis"):
        nearest_neighbors(frame, 2)


@pytest.mark.parametrize("height", [1e3, 1e5, 1e7])
def test_one_of_a_few_atoms_far_along_an_open_axis(height):
    """All atoms share a bin; its edge was the first distance of a search: millions of images of a layer."""
    rng = np.random.default_rng(0)
    positions = rng.random((8, 3)) * [9.7, 10.3, 13.7]
    near = Frame(positions[:7], [9.7, 10.3, 13.7], (True, True, False), np.arange(7) % 2, ("A", "B"))
    positions[7, 2] = height
    frame = near.replace(positions=positions, species=np.arange(8) % 2)
    found = nearest_neighbors(frame, 2)
    np.testing.assert_allclose(found.lengths[:7], nearest_neighbors(near, 2).lengths, rtol=1e-5)
    np.testing.assert_allclose(found.lengths[7], 9.7, rtol=1e-5)


def test_a_density_below_zero_everywhere_has_a_contrast():
    """A correction of the density can make it negative; the contrast is a number all the same."""
    histogram = Histogram(-2.0, 0.1, np.array([5, 5]), np.array([-9.0, -8.0]), np.zeros(2))
    assert np.isfinite(Cuts(-1.9, -1.9, -2.0, -1.8, histogram, 2.0).contrast(-1.9))


def test_a_number_of_workers_that_no_machine_has():
    assert list(map_frames(len, cooled(n=9), workers=10**10)) == [9, 9, 9]


def test_a_number_that_fills_a_line(tmp_path):
    path = tmp_path / "run.dump"
    path.write_text(bases.dumps()[0].replace("\n1 ", "\n1" + "x" * 3000 + " ", 1))
    with pytest.raises(InputError, match=r"run\.dump") as caught:
        list(read_frames(path))
    assert len(str(caught.value)) < 300
