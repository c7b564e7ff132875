"""Molecules: centers of mass, names, and labels that no molecule is split by."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

import naive
from phaseseg import Frame, label_phases, predict, summarize
from phaseseg.display import face
from phaseseg.families.segmentation.labels.molecules import find_molecules
from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.frame import Category
from samples import WATER, two_solvents, wrapped


def water(n=40, lengths=(15.0, 14.0, 16.0), seed=0, cell=None, **more):
    """Whole water molecules at random places and turns."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) if cell is None else np.asarray(cell, float)
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    positions = (rng.random((n, 1, 3)) @ cell + WATER @ turns).reshape(-1, 3)
    return Frame(positions, cell, True, ["O", "H", "H"] * n, molecules=np.repeat(np.arange(n) + 1, 3), **more)


def modulo(frame, places):
    """Fractions of the cell, which are the same for all images."""
    fractions = places @ np.linalg.inv(frame.cell)
    return fractions - np.floor(fractions + 1e-9)


TILTED = [[15.0, 0, 0], [6.0, 14.0, 0], [-4.0, 5.0, 16.0]]


@pytest.mark.parametrize("cell", [None, TILTED])
def test_centers_of_broken_molecules_are_those_of_whole_ones(cell):
    whole = water(cell=cell)
    masses = np.array([15.999, 1.008, 1.008])
    want = (whole.positions.reshape(-1, 3, 3) * masses[:, None]).sum(axis=1) / masses.sum()
    for frame in (whole, wrapped(whole)):
        assert_allclose(modulo(whole, find_molecules(frame).centers()), modulo(whole, want), atol=1e-6)
    moved = wrapped(whole.replace(positions=whole.positions + 7.3))
    assert_allclose(modulo(whole, find_molecules(moved).centers() - 7.3), modulo(whole, want), atol=1e-6)


def test_a_long_chain_is_followed_from_atom_to_atom():
    """29 atoms across more than half of the cell, in any order."""
    rng = np.random.default_rng(0)
    x = 0.5 * np.arange(29)
    order = rng.permutation(29)
    positions = np.c_[x, np.zeros(29), np.zeros(29)][order] % 16.0
    frame = Frame(positions, [16.0] * 3, True, np.full(29, "C"), molecules=np.ones(29))
    center = find_molecules(frame).centers()
    assert_allclose(modulo(frame, center), modulo(frame, [[7.0, 0, 0]]), atol=1e-9)


def test_centers_equal_those_of_loops():
    rng = np.random.default_rng(1)
    n = 300
    frame = Frame(
        rng.random((n, 3)) * 12, [12.0, 12.0, 12.0], (True, False, True), rng.choice(["C", "H", "X", "Q"], n),
        molecules=rng.integers(-1, 60, n),
    )  # fmt: skip
    molecules = find_molecules(frame, "molecule")
    masses = {"C": 12.011, "H": 1.008, "X": 0.0, "Q": np.nan}
    want = naive.centers_of_mass(frame, masses)
    assert len(want) == len(molecules)
    found = molecules.centers()
    for m, members in enumerate(np.split(molecules.atoms, molecules.start[1:-1])):
        assert_allclose(found[m], want[tuple(sorted(members.tolist()))], atol=1e-9)


def test_one_atom_stays_where_it_is():
    rng = np.random.default_rng(2)
    frame = Frame(rng.random((50, 3)) * 90 - 40, [9.0] * 3, True, np.full(50, "Ar"), molecules=np.arange(50))
    molecules = find_molecules(frame, "molecule")
    assert_array_equal(molecules.centers(), frame.positions[molecules.first])


def test_names_are_residues_or_formulas():
    species = [
        "O",
        "H",
        "H",
        "X",
        "C",
        "Cl",
        "Cl",
        "Cl",
        "Cl",
        "Na",
        "H",
        "O",
        "H",
        "C",
        "H",
        "H",
        "H",
        "O",
        "H",
    ]
    numbers = [7, 7, 7, 7, 2, 2, 2, 2, 2, 0, 3, 3, 3, 9, 9, 9, 9, 9, 9]
    frame = Frame(np.random.default_rng(0).random((19, 3)), [9.0] * 3, True, species, molecules=numbers)
    codes, names = find_molecules(frame).names()
    assert [names[code] for code in codes] == ["H2O", "CCl4", "Na", "H2O", "CH4O"]
    words = ["SOL"] * 4 + [" "] * 5 + ["NA"] + ["SOL"] * 3 + ["MeOH"] * 6
    codes, names = find_molecules(frame.replace(categories={"residue": Category.of(words)})).names()
    assert [names[code] for code in codes] == ["SOL", "CCl4", "NA", "SOL", "MeOH"]


def test_names_in_blocks_are_those_at_once(monkeypatch):
    frame = two_solvents()
    frame = frame.take(np.random.default_rng(0).permutation(len(frame)))
    codes, names = find_molecules(frame).names()
    monkeypatch.setattr("phaseseg.families.segmentation.labels.molecules.BLOCK", 7)
    other, again = find_molecules(frame).names()
    assert len(names) == 3 and again == names
    assert_array_equal(other, codes)


def test_by_default_most_atoms_must_be_in_molecules():
    frame = water(20)
    assert find_molecules(frame.replace(molecules=None)) is None
    assert find_molecules(frame, "atom") is None
    assert len(find_molecules(frame)) == 20
    few = np.where(np.arange(60) < 30, frame.molecules, 0)
    assert find_molecules(frame.replace(molecules=few)) is None  # half is not most
    assert len(find_molecules(frame.replace(molecules=few), "molecule")) == 40
    single = frame.replace(molecules=np.arange(60) + 1)
    assert find_molecules(single) is None
    large = frame.replace(molecules=np.repeat([1, 2], [31, 29]))
    assert find_molecules(large) is None
    found = find_molecules(large, "molecule")
    assert len(found) == 32 and found.large.sum() == 31
    sparse = frame.replace(molecules=frame.molecules * 10**15)
    assert_array_equal(find_molecules(sparse).atoms, find_molecules(frame).atoms)
    with pytest.raises(ValueError, match="needs the molecule"):
        find_molecules(frame.replace(molecules=None), "molecule")
    with pytest.raises(ValueError, match="needs the molecule"):
        find_molecules(frame.replace(molecules=np.zeros(60, int)), "molecule")


# Labels -------------------------------------------------------------------------------------------


OPTIONS = {"species": "O", "sigma": 3.0, "boundary_width": 2.0, "min_volume": 0.0}


def same(fields, other, rows=slice(None), atol=1e-3):
    assert_array_equal(fields["phase"][rows], other["phase"])
    assert_array_equal(fields["domain"][rows], other["domain"])
    # Far distances depend on the coarse cells of the grid.
    near = np.abs(other["interface_distance"]) < 3
    assert_allclose(
        fields["interface_distance"][rows][near], other["interface_distance"][near], rtol=0, atol=atol
    )


def test_no_molecule_is_split():
    frame = two_solvents()
    fields = label_phases(frame, **OPTIONS)
    assert fields["n_phases"] == 2 and [m.code for m in fields.messages].count("by-molecule") == 1
    for name in ("phase", "domain", "interface_distance"):
        values = fields[name]
        for number in np.unique(frame.molecules[frame.molecules > 0]):
            assert len(np.unique(values[frame.molecules == number])) == 1
    by_atom = label_phases(frame, by="atom", **OPTIONS)
    split = [
        len(np.unique(by_atom["phase"][frame.molecules == n])) > 1 for n in np.unique(frame.molecules)[1:]
    ]
    assert sum(split) > 20
    assert "by-molecule" not in [m.code for m in by_atom.messages]
    # An ion is its own molecule.
    ions = frame.molecules == 0
    same({k: fields[k][ions] for k in ("phase", "domain", "interface_distance")},
         {k: by_atom[k][ions] for k in ("phase", "domain", "interface_distance")})  # fmt: skip


def test_the_molecule_goes_where_its_center_of_mass_is():
    """The same as by atom with one more atom, which the density does not count, at each center."""
    frame = two_solvents()
    molecules = find_molecules(frame)
    fields = label_phases(frame, **OPTIONS)
    centers = molecules.centers()
    marked = Frame(
        np.concatenate([frame.positions, centers]), frame.cell, True,
        [frame.species_names[code] for code in frame.species] + ["Xe"] * len(centers),
    )  # fmt: skip
    by_atom = label_phases(marked, **OPTIONS)
    for name in ("phase", "domain"):
        assert_array_equal(by_atom[name][frame.n_atoms :], fields[name][molecules.first])
    assert_allclose(
        by_atom["interface_distance"][frame.n_atoms :],
        fields["interface_distance"][molecules.first],
        atol=1e-4,
    )


def test_labels_of_moved_wrapped_permuted_and_repeated_molecules_are_the_same():
    frame = two_solvents(1)
    fields = label_phases(frame, **OPTIONS)
    order = np.random.default_rng(0).permutation(frame.n_atoms)
    same(fields, label_phases(frame.take(order), **OPTIONS), order)
    shifts = np.random.default_rng(1).integers(-2, 3, (frame.n_atoms, 3))
    same(fields, label_phases(frame.replace(positions=frame.positions + shifts @ frame.cell), **OPTIONS))
    # By a whole number of voxels (1.5 Å and less), so that the grid is the same.
    moved = frame.replace(positions=frame.positions + frame.cell.sum(axis=0) / [27, 14, 14] * 4)
    same(fields, label_phases(moved, **OPTIONS), atol=0.02)
    twice = Frame(
        np.concatenate([frame.positions, frame.positions + frame.cell[1]]), np.diag([40.0, 40.0, 20.0]), True,
        np.tile(frame.species, 2), frame.species_names,
        molecules=np.concatenate([frame.molecules, np.where(frame.molecules > 0, frame.molecules + 9999, 0)]),
    )  # fmt: skip
    found = label_phases(twice, **OPTIONS)
    for half in (slice(None, frame.n_atoms), slice(frame.n_atoms, None)):
        assert_array_equal(found["phase"][half], fields["phase"])
    mole = [one["composition"].columns["H2O (mol%)"][:5] for one in (found, fields)]  # without the bulk
    assert_allclose(*mole, rtol=1e-9)


def test_composition_counts_molecules():
    frame = two_solvents()
    fields = label_phases(frame, **OPTIONS)
    rows = {row["phase"]: row for row in fields["composition"].rows()}
    molecules = find_molecules(frame)
    codes, names = molecules.names()
    assert set(names) == {"H2O", "CCl4", "Na"}
    for phase, number in (("poor", 0), ("rich", 1), ("boundary", 2)):
        inside = codes[fields["phase"][molecules.first] == number]
        assert rows[phase]["molecules"] == len(inside)
        assert rows[phase]["molecule fraction"] == pytest.approx(len(inside) / len(codes))
        for code, name in enumerate(names):
            assert rows[phase][f"{name} (mol%)"] == pytest.approx(100 * np.mean(inside == code))
    assert rows["rich bulk"]["H2O (mol%)"] > 90 and rows["poor bulk"]["CCl4 (mol%)"] == 100
    assert "molecules" not in label_phases(frame, by="atom", **OPTIONS)["composition"].columns


def test_the_mean_composition_of_a_run_is_weighted_by_molecules():
    frames = [two_solvents(0), two_solvents(1)]
    table = summarize(frames, **OPTIONS).tables()["composition"]
    [rich] = [row for row in table.rows() if row["phase"] == "rich"]
    numbers = []
    for frame in frames:
        [one] = [
            row for row in label_phases(frame, **OPTIONS)["composition"].rows() if row["phase"] == "rich"
        ]
        numbers.append((one["molecules"], one["H2O (mol%)"]))
    n, content = np.array(numbers).T
    assert rich["molecules"] == pytest.approx(n.mean())
    assert rich["H2O (mol%)"] == pytest.approx(n @ content / n.sum())
    assert rich["H2O (mol%) ±"] > 0


@pytest.mark.parametrize(
    ("where", "remedy"),
    [
        ("command line", "assigned with --by atom."),
        ("Python", "assigned with by='atom', on the command line --by atom."),
        ("OVITO", "assigned with atom in the parameter 'by'."),
    ],
)
def test_the_remedy_is_written_for_the_interface(where, remedy):
    with face(where):
        messages = label_phases(two_solvents(), **OPTIONS).messages
    assert next(m for m in messages if m.code == "by-molecule").endswith(remedy)


def test_a_melt_without_molecules_has_the_same_bits_by_atom(small):
    frame = small[4000][0]
    auto, atom = label_phases(frame), label_phases(frame, by="atom")
    single = label_phases(frame.replace(molecules=np.arange(frame.n_atoms) + 1))
    for fields in (atom, single):
        assert [*fields] == [*auto] and fields.messages == auto.messages
        for name in ("phase", "domain", "interface_distance", "phase_density"):
            assert_array_equal(fields[name], auto[name])
    with pytest.raises(ValueError, match="needs the molecule"):
        label_phases(frame, by="molecule")


def test_atoms_of_large_molecules_stay_by_atom():
    frame = two_solvents()
    polymers = np.minimum(np.arange(frame.n_atoms) // 40, frame.n_atoms // 40 - 1) + 1
    large = frame.replace(molecules=polymers)
    same(label_phases(large, **OPTIONS), label_phases(frame, by="atom", **OPTIONS))
    fields = label_phases(large, by="molecule", **OPTIONS)
    same(fields, label_phases(frame, by="atom", **OPTIONS))


def test_names_of_atoms_and_residues_are_species():
    """The density, the width and the tables follow an atom name or a residue as they follow an element."""
    frame = two_solvents()
    names = np.array(frame.species_names)[frame.species]
    residues = np.where(np.isin(names, ["O", "H"]), "SOL", np.where(names == "Na", "NA", "CCL"))
    named = frame.replace(
        categories={
            "name": Category.of(np.where(names == "O", "OW", names)),
            "residue": Category.of(residues),
        }
    )
    by_element = label_phases(frame, by="atom", **OPTIONS)
    by_name = label_phases(named, by="atom", **OPTIONS | {"species": "name:OW"})
    for name in ("phase", "interface_distance"):
        assert_array_equal(by_name[name], by_element[name])
    for name in ("interface_width", "interface_width_error", "interface_area"):
        assert by_name[name] == by_element[name] or np.isnan(by_element[name])
    table = by_name["proxigram"].columns
    assert_array_equal(table["name:OW (Å^-3)"], table["O (Å^-3)"])
    by_residue = label_phases(named, **OPTIONS | {"species": "residue:SOL"})
    assert by_residue["n_phases"] == 2
    table = by_residue["proxigram"].columns
    assert_allclose(table["residue:SOL (Å^-3)"], table["O (Å^-3)"] + table["H (Å^-3)"])
    assert "SOL (mol%)" in by_residue["composition"].columns


def test_water_of_a_gro_file_is_not_split(stranger):
    from phaseseg import read_frames

    frame = next(iter(read_frames(stranger("water-2-interfaces.gro.gz"))))
    fields = label_phases(frame, "O")
    of_water = fields["phase"].reshape(-1, 3)
    assert (frame.molecules.reshape(-1, 3) == frame.molecules[::3, None]).all()
    assert (of_water == of_water[:, :1]).all()
    assert 3 < fields["interface_width"] < 8 and fields["interface_width_error"] < 1.5


# Predictions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["interface", "voxels", "learned"])
def test_predictions_do_not_split_molecules(make_checkpoint, small, boundary):
    """The atoms of a melt in pairs of neighbors."""
    frame = small[4000][0]
    frame = frame.replace(molecules=pairs(frame))
    model = SegmentationModel(make_checkpoint(n_members=2, species=("Fe", "Mg", "Si", "O", "N"), outputs=3))
    options = {"boundary": boundary, "min_volume": 0.0, "boundary_width": 2.0, "threshold": 0.3}
    fields = predict(frame, model, **options)
    assert [m.code for m in fields.messages].count("by-molecule") == 1 and fields["n_phases"] == 2
    split = {}
    for by in ("auto", "atom"):
        found = predict(frame, model, by=by, **options)
        _, first, of = np.unique(frame.molecules, return_index=True, return_inverse=True)
        split[by] = [np.count_nonzero(found[name] != found[name][first][of]) for name in ("phase", "domain")]
    assert split["auto"] == [0, 0] and min(split["atom"]) > 0
    single = predict(frame.replace(molecules=None), model, **options)
    assert_array_equal(single["phase"], predict(frame, model, by="atom", **options)["phase"])
    with pytest.raises(ValueError, match="needs the molecule"):
        predict(frame.replace(molecules=None), model, by="molecule", **options)


def pairs(frame):
    """Numbers of molecules of two atoms each, the nearest ones first."""
    numbers, n = np.zeros(frame.n_atoms, int), 0
    lengths = np.diag(frame.cell)
    places = (frame.positions - frame.origin) % lengths
    found = cKDTree(places, boxsize=lengths).sparse_distance_matrix(cKDTree(places, boxsize=lengths), 3.0)
    for (a, b), _ in sorted(found.items(), key=lambda pair: pair[1]):
        if a == b:
            continue
        if not numbers[a] and not numbers[b]:
            n += 1
            numbers[a] = numbers[b] = n
    numbers[numbers == 0] = n + 1 + np.arange(np.count_nonzero(numbers == 0))
    return numbers
