"""Frames: how many dimensions they have, and numbers of the whole frame through files and ASE."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings, strategies as st

from phaseseg import Frame, glass_metrics, label_phases, predict, read_frames, write_frames
from phaseseg.display import Message
from phaseseg.frame import Category
from phaseseg.io import frame_from_atoms
from phaseseg.testing import AWKWARD, permuted, repeated, translated, wrapped_elsewhere

CELL = ((12.0, 0, 0), (-3.0, 11.0, 0), (0, 0, 1.0))
INFO = {
    "temperature": 0.44, "kinetic_temperature": 0.4375, "potential_energy": -3.6012345678,
    "inherent_energy": -3.86744, "seed": 4294967295.0, "cooling_steps": 200000.0, "run": 17.0, "tiny": -1e-12,
}  # fmt: skip


def layer(n_atoms=40, cell=CELL, pbc=(True, True, False), height=0.25, seed=0):
    rng = np.random.default_rng(seed)
    fractions = np.column_stack([rng.random((n_atoms, 2)), np.full(n_atoms, height)])
    species = rng.integers(0, 2, n_atoms)
    return Frame(fractions @ np.array(cell), cell, pbc, species, ("A", "B"), units="lj")


# Dimensions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD)
def test_the_dimensions_of_awkward_frames(name):
    assert AWKWARD[name]().n_dimensions == (2 if name.startswith("2D") else 3)


@pytest.mark.parametrize("pbc", [True, False, (True, True, False), (False, True, True)])
@pytest.mark.parametrize("height", [0.0, 0.25, 0.9999, -3.0, 1e3])
def test_a_layer_has_two_whatever_its_height_and_periodicity(pbc, height):
    assert layer(pbc=pbc, height=height).n_dimensions == 2


def test_a_layer_is_flat_up_to_a_thousandth_of_the_spacing_of_its_atoms():
    """So a file that is rounded in any way is flat: corrugation changes distances only in second order."""
    frame = layer()
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (40, 1)) * [0, 0, 1.0]
    spacing = np.sqrt(12 * 11 / 40)
    for height, expected in ((1e-12, 2), (1e-6, 2), (0.9e-3 * spacing, 2), (1.2e-3 * spacing, 3), (0.1, 3)):
        for pbc in (True, False):
            noisy = frame.replace(positions=frame.positions + height * noise, pbc=pbc)
            assert noisy.n_dimensions == expected, (height, pbc)
    rounded = noise * 1e-8 + np.where(noise < 0, [0, 0, 1.0], 0)  # as a program wraps -1e-9 to the upper end
    assert layer(pbc=True, height=0).replace(positions=frame.positions + rounded).n_dimensions == 2


def test_a_small_cluster_in_a_large_cell_is_measured_by_its_own_spacing():
    cluster = layer(5, ((4.0, 0, 0), (0, 4.0, 0), (0, 0, 1.0)))
    bent = cluster.positions + np.array([[0.05, 0, -0.04, 0.03, 0]]).T * [0, 0, 1]
    for edge in (4.0, 1000.0):
        wide = cluster.replace(positions=bent, cell=np.diag([edge, edge, 30]), pbc=False)
        assert wide.n_dimensions == 3


def test_a_plane_counts_if_it_lies_across_the_third_vector():
    frame = layer()
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    assert frame.replace(positions=frame.positions @ turn, cell=frame.cell @ turn).n_dimensions == 2
    leaning = np.add(CELL, [[0, 0, 0], [0, 0, 0], [0.1, 0, 0]])
    assert frame.replace(cell=leaning, pbc=True).n_dimensions == 3
    # Images: an open axis has none, so its direction means nothing; a periodic one may lean by whole vectors.
    assert frame.replace(cell=leaning).n_dimensions == 2
    assert frame.replace(cell=np.add(CELL, [[0, 0, 0], [0, 0, 0], [24, 0, 0]]), pbc=True).n_dimensions == 2
    assert frame.replace(cell=frame.cell[[2, 0, 1]], pbc=frame.pbc[[2, 0, 1]]).n_dimensions == 3
    # A tall cell is no thinner than a low one.
    assert frame.replace(cell=np.array(CELL) * [[1], [1], [1e4]]).n_dimensions == 2


@pytest.mark.parametrize("n_atoms", [0, 1, 2])
def test_fewer_than_three_atoms_make_no_plane(n_atoms):
    assert layer(n_atoms).n_dimensions == 3


@pytest.mark.parametrize("n_atoms", [3, 4])
def test_three_atoms_do(n_atoms):
    assert layer(n_atoms).n_dimensions == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_what_must_not_change_the_dimensions(seed, flat):
    frame = layer(seed=seed) if flat else AWKWARD["open along c"]()
    rng = np.random.default_rng(seed)
    for other in (
        translated(frame, rng.uniform(-1e3, 1e3, 3)), wrapped_elsewhere(frame, seed),
        permuted(frame, rng.permutation(len(frame))), repeated(frame, (2, 3, 1)),
    ):  # fmt: skip
        assert other.n_dimensions == frame.n_dimensions == 3 - flat


def test_layers_on_top_of_each_other_have_three():
    assert repeated(layer(), (1, 1, 2)).n_dimensions == 3


# Numbers of the frame -----------------------------------------------------------------------------


def test_a_frame_without_numbers_has_an_empty_mapping():
    assert layer().info == {} and layer().replace(info=INFO).info == INFO


@pytest.mark.parametrize("name", ["run.xyz", "run.xyz.gz"])
def test_numbers_go_through_extended_xyz(tmp_path, name):
    frames = [layer(seed=seed).replace(info=INFO | {"temperature": 2.0 - seed}) for seed in range(3)]
    write_frames(tmp_path / name, [(frame, {}) for frame in frames])
    again = list(read_frames(tmp_path / name))
    for frame, read in zip(frames, again, strict=True):
        assert read.info == pytest.approx(frame.info, rel=1e-9, abs=0)
        assert list(read.info) == list(frame.info)
        assert (read.units, read.n_dimensions, read.pbc.tolist()) == ("lj", 2, [True, True, False])
    write_frames(tmp_path / f"second-{name}", [(frame, {}) for frame in again])
    assert [f.info for f in read_frames(tmp_path / f"second-{name}")] == [f.info for f in again]


@pytest.mark.parametrize("origin", [0.0, 3.5])
def test_ase_reads_the_numbers_and_gives_them_back(tmp_path, origin):
    frame = layer().replace(info=INFO, timestep=400, time=2.0, origin=np.full(3, origin))
    frame = frame.replace(species_names=("Ar", "Ne"))  # ASE knows elements alone
    write_frames(tmp_path / "run.xyz", [(frame, {})])
    atoms = ase.io.read(tmp_path / "run.xyz")
    assert {name: atoms.info[name] for name in INFO} == pytest.approx(INFO, rel=1e-9, abs=0)
    read = frame_from_atoms(atoms)
    assert read.info == pytest.approx(INFO, rel=1e-9, abs=0)
    assert (read.timestep, read.time, read.units) == (400, 2.0, "lj")
    ase.io.write(tmp_path / "ase.extxyz", [atoms, atoms])
    for again in read_frames(tmp_path / "ase.extxyz"):
        assert again.info == pytest.approx(INFO, rel=1e-9, abs=0)


def test_numbers_alone_become_numbers(tmp_path):
    """Words, vectors, flags and what is not finite stay behind, alike from a file and from ASE."""
    atoms = Atoms("ArNe", [[0, 0, 0], [1, 1, 1]], cell=[5, 5, 5], pbc=True)
    atoms.info.update(
        temperature=0.5, run=np.int64(3), cooled=np.float32(0.25), note="cold", push=[1.0, 2.0, 3.0],
        frozen=True, thawed=False, lost=float("nan"), beyond=float("inf"), timestep=7, units="lj",
    )  # fmt: skip
    expected = {"temperature": 0.5, "run": 3.0, "cooled": 0.25}
    assert frame_from_atoms(atoms).info == expected
    ase.io.write(tmp_path / "run.extxyz", atoms)
    [frame] = read_frames(tmp_path / "run.extxyz")
    assert frame.info == expected
    assert all(type(value) is float for value in frame.info.values())


def test_numbers_of_an_earlier_analysis_do_not_stand_beside_the_new_ones(tmp_path):
    frame = layer().replace(info={"temperature": 0.5, "n_bb_edges": 12.0, "n_isolated_a": 3.0})
    write_frames(tmp_path / "run.xyz", [(frame, {"n_bb_edges": 7})])
    [read] = read_frames(tmp_path / "run.xyz")
    assert read.info == {"temperature": 0.5, "n_bb_edges": 7.0}


@pytest.mark.parametrize("name", ["run.dump", "run.lammpstrj.gz"])
def test_a_dump_has_no_place_for_them(tmp_path, name):
    write_frames(tmp_path / name, [(layer().replace(info=INFO), {})])
    [read] = read_frames(tmp_path / name)
    assert read.info == {}


# What is printed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD)
def test_a_frame_prints_a_summary_and_no_arrays(name):
    frame = AWKWARD[name]().replace(source="run.dump, frame 3", index=3)
    text, html = str(frame), frame._repr_html_()
    assert f"{len(frame):,} atom" in text and frame.species_names[frame.species[0]] in text
    assert "array(" not in text + html and len(text) < 600 and len(html) < 1200
    assert repr(frame).startswith("<Frame of ") and "run.dump, frame 3" in repr(frame)


def test_a_summary_of_a_frame_names_its_shape_and_units():
    text = str(layer().replace(info={"temperature": 0.44}, time=2.0, fields={"c_pe": np.zeros(40)}))
    assert "12 x 11.4 x 1 σ (90°, 90°, 105.3°), periodic along a and b" in text
    assert "2 τ" in text and "c_pe" in text and "temperature 0.44" in text


@pytest.mark.parametrize("pbc", [True, False, (True, False, True)])
@pytest.mark.parametrize("far", [1e12, -1e20, 1e200])
def test_an_atom_so_far_away_that_its_place_in_the_cell_is_lost_is_refused(pbc, far):
    """Where a coordinate keeps no digit within the cell, bins and grids have no place for the atom."""
    positions = np.full((3, 3), 1.0)
    positions[1, 2] = far
    with pytest.raises(ValueError, match=r"atom 2 \(id 7\) has the coordinates .* too far from the cell"):
        Frame(positions, [17.0, 17, 17], pbc, ["Fe"] * 3, ids=[5, 7, 9])
    positions[1, 2] = 1e9
    assert len(Frame(positions, [17.0, 17, 17], pbc, ["Fe"] * 3)) == 3


# Molecules and categories ------------------------------------------------------------------------


def water(n=2):
    """Molecules O, H, H with the names of a GRO file, and one ion without a molecule."""
    rng = np.random.default_rng(0)
    return Frame(
        rng.random((3 * n + 1, 3)) * 9, [9.0] * 3, True, ["O", "H", "H"] * n + ["Na"],
        molecules=[*np.repeat(np.arange(1, n + 1), 3), 0],
        categories={"name": Category.of(["OW", "HW1", "HW2"] * n + ["NA"]),
                    "residue": Category.of(["SOL"] * 3 * n + ["ION"])},
        fields={"q": np.arange(3.0 * n + 1)},
    )  # fmt: skip


def test_atoms_are_chosen_by_species_name_or_residue():
    frame = water()
    np.testing.assert_array_equal(frame.species_mask("O"), frame.species_mask("name:OW"))
    np.testing.assert_array_equal(frame.species_mask(("O", "H")), frame.species_mask("residue:SOL"))
    np.testing.assert_array_equal(frame.species_mask(("Na", "name:HW2")).nonzero()[0], [2, 5, 6])
    with pytest.raises(ValueError, match=r"no name named 'OX'; the names here are OW, HW1, HW2, NA"):
        frame.species_mask("name:OX")
    with pytest.raises(ValueError, match=r"asks for the chain of the atoms; the frame has name, residue"):
        frame.species_mask("chain:A")
    for word in ("name:OW", "residue:SOL"):
        with pytest.raises(ValueError, match=f"Did you mean {word}"):
            frame.species_mask(word.partition(":")[2])


def test_a_part_of_a_frame_keeps_what_belongs_to_its_atoms():
    frame = water()
    part = frame.take([6, 0, 0])
    assert part.molecules.tolist() == [0, 1, 1]
    assert [part.categories["residue"].names[code] for code in part.categories["residue"].codes] == [
        "ION", "SOL", "SOL",
    ]  # fmt: skip
    assert part.fields["q"].tolist() == [6.0, 0.0, 0.0]
    assert len(np.unique(repeated(frame, (2, 1, 1)).molecules)) == 5
    assert "molecules 2 (SOL, ION)" in " ".join(str(frame).split())


def test_molecules_and_categories_must_fit_the_atoms():
    frame = water()
    with pytest.raises(ValueError, match="7 atoms have 2 molecules"):
        frame.replace(molecules=[1, 2])
    with pytest.raises(ValueError, match="7 atoms have 1 words of the kind name"):
        frame.replace(categories={"name": Category.of(["O"])})
    with pytest.raises(ValueError, match="code of the kind name"):
        frame.replace(categories={"name": Category(np.full(7, 3, np.int32), ("O",))})


@pytest.mark.slow
def test_messages_of_the_reader_reach_every_result(slab_frame, cooled_runs):
    odd = (Message("The file ends without a newline.", "no-final-newline"),)
    melt = slab_frame.replace(messages=odd)
    glass = cooled_runs["glass_ka2d_s901"][-1].replace(messages=odd)
    results = [label_phases(melt), predict(melt, "gcn-3000K-v1"), glass_metrics(glass, b="B")]
    results.append(predict(glass, "liquid_glass/dmpnn-v1"))
    assert [fields.messages[0].code for fields in results] == ["no-final-newline"] * 4
    assert str(melt).endswith("without a newline.")
