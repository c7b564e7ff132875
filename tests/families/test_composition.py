"""Composition, partition and proxigram against loops over atoms."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from numpy.testing import assert_allclose

import naive
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels.composition import N_BINS, ROWS
from phaseseg.families.segmentation.labels.counting import count_atoms
from phaseseg.testing import EXACT, LITERATURE, ROUNDING

NAMES = ("Fe", "Mg", "Si", "O", "N")
FLOAT64 = ROUNDING["float64"]


def any_frame(n=400, names=NAMES, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(names), n)
    frame = Frame(rng.random((n, 3)) * 20, np.eye(3) * 20, True, codes, names)
    distance = rng.normal(0, 8, n).astype(np.float32)
    phase = np.where(np.abs(distance) < 0.34, 2, distance > 0).astype(np.int8)
    return frame, phase, distance


def check_composition(frame, phase, distance, bulk_distance=5.0):
    volumes = np.random.default_rng(1).random(N_BINS)
    volumes[::7] = 0
    composition = count_atoms(frame, phase, distance, bulk_distance, volumes)
    masses = {name: atomic_masses[atomic_numbers[name]] for name in frame.species_names}
    want, atoms = naive.composition(frame, phase, distance, masses, bulk_distance)
    rows = {row["phase"]: row for row in composition.table().rows()}
    assert tuple(rows) == ROWS
    for name in ROWS:
        assert rows[name]["atoms"] == atoms[name]
        assert rows[name]["atom fraction"] == pytest.approx(atoms[name] / frame.n_atoms, rel=FLOAT64)
        for element in frame.species_names:
            ours = rows[name][f"{element} (wt%)"], rows[name][f"{element} (at%)"]
            assert_allclose(ours, want[name][element], rtol=FLOAT64)
    assert composition.mass_balance_residual() <= 1e-12
    table = composition.proxigram()
    bins = naive.proxigram(frame, distance, masses, volumes)
    assert_allclose(table.columns["distance (Å)"], [row[0] for row in bins], rtol=0, atol=EXACT)
    assert_allclose(table.columns["atoms"], [row[1] for row in bins], rtol=0, atol=EXACT)
    for element in frame.species_names:
        assert_allclose(table.columns[f"{element} (at%)"], [row[2][element] for row in bins], rtol=FLOAT64)
        assert_allclose(table.columns[f"{element} (Å^-3)"], [row[3][element] for row in bins], rtol=FLOAT64)
    # The naive constant has four digits.
    assert_allclose(table.columns["mass density (g/cm^3)"], [row[4] for row in bins], rtol=1e-4)
    return composition


@pytest.mark.parametrize("seed", range(4))
def test_tables_equal_those_of_loops(seed):
    check_composition(*any_frame(seed=seed), bulk_distance=(5.0, 0.0, 3.3, 100.0)[seed])


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_tables_of_a_melt_equal_those_of_loops(small, temperature):
    frame = small[temperature][7]
    fields = label_phases(frame, "Fe", bulk_distance=5.0)
    composition = check_composition(frame, fields["phase"], fields["interface_distance"])
    for name, values in fields["composition"].columns.items():
        assert_allclose(values, composition.table().columns[name]) if name != "phase" else None


def test_distances_on_the_edges_of_bins_and_beyond_the_last():
    distance = np.array([-30.0, -30.1, 29.99, 30.0, 0.0, -0.0, 0.5, -0.5, 5.0, -5.0], dtype=np.float32)
    frame = Frame(np.zeros((10, 3)), np.eye(3) * 9, True, [0, 1] * 5, ("Fe", "O"))
    check_composition(frame, (distance > 0).astype(np.int8), distance)


@pytest.mark.parametrize("phase", [0, 1])
def test_one_phase_has_a_composition_and_no_partition(phase):
    frame, _, distance = any_frame()
    nan = np.full_like(distance, np.nan)
    check_composition(frame, np.full(len(frame), phase, np.int8), nan)
    composition = count_atoms(frame, np.full(len(frame), phase, np.int8), nan, 5.0)
    assert len(composition.proxigram()) == 0
    partition = composition.partition()
    for column in ("D (wt)", "D (at)", "D bulk (wt)", "D bulk (at)"):
        assert np.isnan(partition.columns[column]).all()


def test_an_element_that_one_phase_lacks():
    """Rich: Fe and N; poor: Fe and O. No warning, zero or infinity, and NaN where neither has it."""
    frame = Frame(np.zeros((6, 3)), np.eye(3) * 9, True, [0, 0, 2, 0, 1, 1], ("Fe", "O", "N", "Mg"))
    phase = np.array([1, 1, 1, 0, 0, 0], np.int8)
    distance = np.array([6, 6, 6, -6, -6, -6], np.float32)
    table = check_composition(frame, phase, distance).partition()
    assert list(table.columns["element"]) == ["Fe", "O", "N", "Mg"]
    assert_allclose(table.columns["D (at)"], [2, 0, np.inf, np.nan], rtol=FLOAT64)
    assert_allclose(table.columns["D bulk (at)"], [2, 0, np.inf, np.nan], rtol=FLOAT64)
    masses = atomic_masses[[26, 8, 7]]
    rich, poor = 2 * masses[0] + masses[2], masses[0] + 2 * masses[1]
    assert table.columns["D (wt)"][0] == pytest.approx(2 * masses[0] / rich / (masses[0] / poor))


def test_names_that_are_no_elements_have_at_percent_only():
    frame, phase, distance = any_frame(names=("A", "Fe"))
    composition = count_atoms(frame, phase, distance, 5.0)
    assert np.isnan(composition.weight_percent()).all() and np.isnan(composition.mass_fractions()).all()
    assert np.isfinite(composition.atom_percent()).all()
    assert composition.mass_balance_residual() <= 1e-12
    positions = np.random.default_rng(0).random((600, 3)) * [30, 15, 15]
    species = np.where(positions[:, 0] < 15, "A", "Q")
    fields = label_phases(Frame(positions, [30.0, 15.0, 15.0], True, species), "A")
    assert np.isnan(fields["rich_mass_fraction"]) and np.isfinite(fields["rich_atom_fraction"])
    assert any(message.startswith("No wt%: A, Q") for message in fields.messages)


def test_a_name_without_atoms_does_not_spoil_the_masses():
    frame, phase, distance = any_frame(names=("Fe", "O"))
    named = frame.replace(species_names=("Fe", "O", "ghost"))
    composition = count_atoms(named, phase, distance, 5.0)
    assert np.isfinite(composition.weight_percent()[-1, :2]).all()
    fields = label_phases(named, "Fe", phases=2, min_volume=0.0)
    assert not any("No wt%" in message for message in fields.messages)
    assert fields["mass_balance_residual"] <= 1e-12


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_mass_balance_closes(large, small, temperature):
    for frame in (large[temperature], *small[temperature][::10]):
        assert label_phases(frame, "Fe")["mass_balance_residual"] <= 1e-12


# Outside truth ------------------------------------------------------------------------------------

# Composition in wt% of the bulk (more than 5 Å from the interface) of the melts, as analyzed when they
# were simulated: mole fraction of Fe smoothed with 2 Å, cut at .35, over the last picoseconds.
PUBLISHED = {
    (3000, "rich bulk"): ("91.6", "0.0", "3.2", "2.9", "2.4"),
    (3000, "poor bulk"): ("4.9", "33.4", "18.7", "42.8", "0.26"),
    (4000, "rich bulk"): ("89.8", "0.0", "4.3", "3.8", "2.1"),
    (4000, "poor bulk"): ("7.1", "33.6", "17.3", "41.6", "0.45"),
}
SIMULATED_WITH = {"sigma": 2.0, "field": "mole-fraction", "threshold": 0.35, "min_volume": 0.0}
# The content of a phase differs by so much from frame to frame (standard deviation, wt%).
SPREAD = {"Fe": 0.6, "Mg": 0.5, "Si": 0.6, "O": 0.3, "N": 0.1}


def contents(fields, row):
    [found] = [entry for entry in fields["composition"].rows() if entry["phase"] == row]
    return np.array([found[f"{element} (wt%)"] for element in NAMES])


@pytest.mark.parametrize(("temperature", "row"), PUBLISHED)
@pytest.mark.parametrize("options", [SIMULATED_WITH, {}], ids=["rule of the simulation", "default"])
def test_the_bundled_melt_has_the_composition_that_was_simulated(large, temperature, row, options):
    found = contents(label_phases(large[temperature], "Fe", **options), row)
    for element, value, printed in zip(NAMES, found, PUBLISHED[temperature, row], strict=True):
        assert abs(value - float(printed)) <= 2 * SPREAD[element] + LITERATURE(printed), element


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_composition_within_its_error_bar(melt_data, temperature):
    """All frames of the large cell: the mean differs by no more than its own error bar."""
    fields = [label_phases(frame, "Fe", **SIMULATED_WITH) for frame in melt_data(f"large_{temperature}K")]
    for row in ("rich bulk", "poor bulk"):
        values = np.array([contents(f, row) for f in fields])
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        print(temperature, row, *(f"{m:.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True)))
        for k, printed in enumerate(PUBLISHED[temperature, row]):
            # 3.2 standard errors of four frames: 95 % (Student).
            assert abs(mean[k] - float(printed)) <= 3.2 * error[k] + LITERATURE(printed), NAMES[k]
