"""Molecules: centers of mass, names, and labels that no molecule is split by."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import naive
from phaseseg import Frame
from phaseseg.families.segmentation.labels.molecules import find_molecules
from phaseseg.frame import Category

WATER = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])


def water(n=40, lengths=(15.0, 14.0, 16.0), seed=0, cell=None, **more):
    """Whole water molecules at random places and turns."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) if cell is None else np.asarray(cell, float)
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    positions = (rng.random((n, 1, 3)) @ cell + WATER @ turns).reshape(-1, 3)
    return Frame(positions, cell, True, ["O", "H", "H"] * n, molecules=np.repeat(np.arange(n) + 1, 3), **more)


def wrapped(frame):
    inverse = np.linalg.inv(frame.cell)
    fractions = (frame.positions - frame.origin) @ inverse
    return frame.replace(positions=frame.positions - np.where(frame.pbc, np.floor(fractions), 0) @ frame.cell)


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
