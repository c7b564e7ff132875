"""The bundled set of two metals: its labels are those of the potential, except where the list says so."""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files

import numpy as np
import pytest
from ase import Atoms

from phaseseg.families.environments.dataset import DataSet, read_data_set
from phaseseg.recipes.environments import data as recipe

DEMO = files("phaseseg") / "demo"


@pytest.fixture(scope="module")
def metals() -> DataSet:
    return read_data_set(str(DEMO / "metals.xyz.gz"))


@pytest.fixture(scope="module")
def truth() -> dict[int, dict[str, str]]:
    with (DEMO / "metals_truth.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["configuration"]): row for row in csv.DictReader(file)}


def atoms_of(data: DataSet, k: int) -> Atoms:
    frame = data.frames[k]
    names = np.array(frame.species_names)[frame.species].tolist()
    return Atoms(names, frame.positions, cell=frame.cell if frame.pbc.any() else None, pbc=frame.pbc)


def labels_of(data: DataSet, k: int) -> tuple[float, np.ndarray, float, np.ndarray]:
    """Energy and forces as they stand in the file, and as the potential gives them."""
    atoms = atoms_of(data, k)
    atoms.calc = recipe.calculator()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    return data.energies[k], data.forces[data.starts[k] : data.starts[k + 1]], energy, forces


def test_the_set_is_what_the_page_says(metals, truth):
    assert metals.species == ("Al", "Cu") and metals.keys["energy"] == "energy"
    mixed = sum(n for _, n in recipe.MIXED.values())
    assert len(metals) == sum(2 * n for _, n in recipe.GROUPS.values()) + mixed + recipe.SPOILED["copy"]
    faults = [row["fault"] for row in truth.values()]
    assert {fault: faults.count(fault) for fault in recipe.SPOILED} == recipe.SPOILED
    assert all(metals.frames[k].words["name"] == row["name"] for k, row in truth.items())


def test_every_fault_is_in_the_set(metals, truth):
    names = [frame.words["name"] for frame in metals.frames]
    for k, row in truth.items():
        energy, forces, true_energy, true_forces = labels_of(metals, k)
        n = metals.sizes[k]
        if row["fault"] == "energy":
            assert energy - true_energy == pytest.approx(recipe.ENERGY_OFFSET * n, abs=1e-5)
        elif row["fault"] == "sign":
            np.testing.assert_allclose(forces, -true_forces, atol=1e-5)
        elif row["fault"] == "scale":
            np.testing.assert_allclose(forces, recipe.FORCE_FACTOR * true_forces, atol=1e-5)
        elif row["fault"] == "copy":
            assert energy == metals.energies[names.index(row["detail"])]
            np.testing.assert_allclose(forces, true_forces, atol=1e-5)
        else:
            off = np.linalg.norm(forces - true_forces, axis=1)
            assert off.argmax() == int(row["detail"]) - 1 and off.max() > 0.3


@pytest.mark.slow
def test_all_other_labels_are_those_of_the_potential(metals, truth):
    for k in range(len(metals)):
        if k not in truth:
            energy, forces, true_energy, true_forces = labels_of(metals, k)
            assert energy == pytest.approx(true_energy, abs=1e-5), metals.names[k]
            np.testing.assert_allclose(forces, true_forces, atol=1e-5, err_msg=metals.names[k])


@pytest.mark.slow
def test_the_recipe_makes_the_set_again(monkeypatch, tmp_path, metals):
    """Everything but the liquids, whose runs take minutes: they are taken from the set."""
    liquids = {
        frame.words["name"]: atoms_of(metals, k)
        for k, frame in enumerate(metals.frames)
        if frame.words["name"].split("_")[1] == "liquid"
    }
    waiting = {metal: iter(sorted(n for n in liquids if n.startswith(metal))) for metal in recipe.LATTICE}
    n = recipe.GROUPS["liquid"][1]
    monkeypatch.setitem(recipe.GROUPS, "liquid", (lambda metal, rng: liquids[next(waiting[metal])], n))
    recipe.write(recipe.make(12), tmp_path)
    new, old = (gzip.decompress((folder / "metals.xyz.gz").read_bytes()) for folder in (tmp_path, DEMO))
    assert new == old
    name = "metals_truth.csv"
    assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


def test_a_liquid_is_the_same_for_the_same_seed(monkeypatch):
    monkeypatch.setitem(recipe.MELT, "Cu", 300.0)
    first, second = (recipe.liquid("Cu", np.random.default_rng(3), steps=4) for _ in range(2))
    assert np.array_equal(first.positions, second.positions)
    assert not np.array_equal(
        first.positions, recipe.liquid("Cu", np.random.default_rng(4), steps=4).positions
    )
