"""Linear potentials: forces against finite differences, fits against one large system, and known energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import naive.environment_fits as naive
from naive.environments import power_spectrum
from phaseseg import Frame
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.potential import LinearPotential, load_potential
from phaseseg.families.environments.potential_basis import Repulsion, fit_basis
from phaseseg.families.environments.potential_table import FOLDS, PENALTIES, make_table
from phaseseg.neighbors import neighbor_graph
from phaseseg.testing.frames import awkward_frames, permuted, repeated, rotated, wrapped_elsewhere

# Central differences with a step of 1e-4 Å: the third derivative enters with 1e-9, rounding with 1e-10.
DIFFERENCES = 1e-6
ROUNDING = 1e-10

FRAMES = awkward_frames(("Fe", "O"))
SMALL = PowerSpectrum(("Fe", "O"), n_max=3, l_max=3)


def close(found, expected, tolerance=ROUNDING):
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-9)
    np.testing.assert_allclose(
        np.asarray(found) / scale, np.asarray(expected) / scale, rtol=0, atol=tolerance
    )


def cells(n, seed=0, species=("Fe", "O"), atoms=(2, 6)):
    """Small cells of two species."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        count, cell = rng.integers(*atoms), np.diag(rng.uniform(3.5, 5, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
        made.append(
            Frame(rng.random((count, 3)) @ cell, cell, True, rng.integers(0, len(species), count), species)
        )
    return made


def targets(frames):
    """Energies and forces of a pair potential with another depth for every pair of species."""
    energies, forces = [], []
    for frame in frames:
        graph = neighbor_graph(frame, cutoff=4.0)
        i = np.repeat(np.arange(frame.n_atoms), np.diff(graph.indptr))
        vectors = graph.edge_vector
        r = np.linalg.norm(vectors, axis=1)
        depth = np.array([1.0, 1.6, 0.7])[frame.species[i] + frame.species[graph.neighbors]] * np.exp(-r)
        energies.append(0.5 * (depth * (4 - r) ** 3).sum() - 3.0 * (frame.species == 1).sum())
        slope = -depth * (4 - r) ** 2 * (7 - r)
        own = np.zeros((frame.n_atoms, 3))
        np.add.at(own, i, (slope / r)[:, None] * vectors)
        forces.append(own)
    return np.array(energies), np.concatenate(forces)


def sums(frame, basis):
    return basis.energy_rows(frame)[0]


@pytest.mark.parametrize("name", FRAMES)
def test_rows_of_forces_are_derivatives_of_rows_of_energies(name):
    frame = FRAMES[name]()
    basis = fit_basis([frame], SMALL, 3, None)
    rows = basis.force_rows(frame)
    assert np.abs(rows.sum(axis=0)).max() <= ROUNDING * max(np.abs(rows).max(), 1)
    for atom in {0, frame.n_atoms - 1}:
        for x in range(3):
            expected = naive.force_by_differences(lambda one: sums(one, basis), frame, atom, x)
            np.testing.assert_allclose(
                rows[atom, x], expected, rtol=0, atol=DIFFERENCES * max(np.abs(rows).max(), 1e-3)
            )


@pytest.mark.slow
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_forces_are_the_rows_times_the_coefficients(seed):
    frame = cells(1, seed)[0]
    basis = fit_basis(cells(4, seed + 1), SMALL, 4, None)
    weights = np.random.default_rng(seed).normal(size=basis.n_functions)
    close(basis.forces(frame, weights), basis.force_rows(frame) @ weights)
    assert basis.energies(frame, weights).sum() == pytest.approx(
        sums(frame, basis) @ weights, rel=1e-9, abs=1e-9
    )


def test_derivatives_of_the_features_by_direct_integration():
    frame = cells(1, 5, atoms=(3, 4))[0]
    slopes = np.random.default_rng(0).normal(size=(3, SMALL.n_features))

    def energy(one):
        return (power_spectrum(one, ("Fe", "O"), n_max=3, l_max=3) * slopes).sum()

    found = SMALL.forces(frame, slopes)
    expected = naive.force_by_differences(energy, frame, 1, 2, 1e-3)
    assert found[1, 2] == pytest.approx(expected, rel=1e-5)


def test_a_taper_over_the_whole_cutoff():
    spectrum = PowerSpectrum(("Fe", "O"), cutoff=3.0, taper=3.0, n_max=2, l_max=2)
    frame = FRAMES["triclinic"]()
    basis = fit_basis([frame], spectrum, 0, None)
    expected = naive.force_by_differences(lambda one: sums(one, basis), frame, 0, 1)
    close(basis.force_rows(frame)[0, 1], expected, DIFFERENCES)


def potential(seed=0, **options):
    frames = cells(30, seed)
    return LinearPotential.fit(frames, *targets(frames), descriptor=SMALL, **options)


@pytest.fixture(scope="module")
def fitted():
    return potential(n_products=3, repulsion=Repulsion(0.5, 1.5))


def test_forces_of_a_potential_are_derivatives(fitted):
    frame = cells(1, 77)[0]
    forces = fitted.forces([frame])
    for x in range(3):
        expected = naive.force_by_differences(lambda one: fitted.energies([one])[0], frame, 0, x)
        assert forces[0, x] == pytest.approx(expected, rel=1e-5, abs=1e-6 * np.abs(forces).max())


def test_symmetries_of_a_potential(fitted):
    frame = cells(1, 78)[0]
    forces, energies = fitted.forces([frame]), fitted.atomic_energies(frame)
    order = np.random.default_rng(0).permutation(frame.n_atoms)
    close(fitted.forces([permuted(frame, order)]), forces[order], 1e-8)
    close(fitted.forces([wrapped_elsewhere(frame)]), forces, 1e-8)
    turned = rotated(frame)
    close(np.linalg.norm(fitted.forces([turned]), axis=1), np.linalg.norm(forces, axis=1), 1e-8)
    close(fitted.atomic_energies(turned), energies, 1e-8)
    close(fitted.forces([repeated(frame, (2, 1, 1))]), np.tile(forces, (2, 1)), 1e-8)
    assert np.abs(forces.sum(axis=0)).max() <= 1e-8 * np.abs(forces).max()


def test_a_pair_potential_is_learned_and_constants_are_free():
    """Of 30 cells; a fit that ignores the species, or the constants, misses by far."""
    frames = cells(12, 991)
    energies, forces = targets(frames)
    fit = potential()
    assert np.std(fit.energies(frames) - energies) < 0.1 * np.std(energies)
    assert np.std(fit.forces(frames) - forces) < 0.25 * np.std(forces)
    shifted = LinearPotential.fit(
        cells(30), targets(cells(30))[0] + [7.0 * (f.species == 0).sum() for f in cells(30)], descriptor=SMALL
    )
    plain = LinearPotential.fit(cells(30), targets(cells(30))[0], descriptor=SMALL)
    np.testing.assert_allclose(shifted.solution.constants - plain.solution.constants, [7, 0], atol=1e-3)


def test_saved_and_loaded(fitted, tmp_path):
    frames = cells(3, 5)
    for one in (fitted, potential()):
        one.save(tmp_path / "fit.safetensors")
        again = load_potential(tmp_path / "fit.safetensors")
        assert np.array_equal(again.energies(frames), one.energies(frames))
        assert np.array_equal(again.forces(frames), one.forces(frames))
        assert again.solution.penalty == one.solution.penalty and again.basis.descriptor == SMALL
    from phaseseg.families.environments.clusters import cluster

    cluster(np.random.default_rng(0).normal(size=(30, 3)), "kmeans", n_clusters=2).save(
        tmp_path / "c.safetensors"
    )
    with pytest.raises(ValueError, match="no checkpoint of a linear potential"):
        load_potential(tmp_path / "c.safetensors")


# Tables --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    frames = cells(40, 3)
    return make_table(frames, *targets(frames), fit_basis(frames, SMALL, 2, None))


@given(seed=st.integers(0, 1000), weighted=st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_fit_is_the_solution_of_all_weighted_rows(table, seed, weighted):
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(40, rng.integers(1, 40), replace=False))
    weights = {"atom_weights": rng.uniform(0, 2, table.starts[-1]) * (rng.random(table.starts[-1]) < 0.7)}
    weights = weights | {"energy_weights": rng.uniform(0, 2, 40)} if weighted else {}
    found = table.fit(chosen, penalty=1e-4, **weights)
    expected, rows, right = naive.ridge(table, chosen, 1e-4, **weights)
    values = rows @ np.concatenate([found.coefficients, found.constants])
    # The rows of forces are kept in float32.
    np.testing.assert_allclose(values, rows @ expected, rtol=0, atol=1e-4 * np.abs(right).max())


def test_the_penalty_is_the_best_of_cross_validation(table):
    chosen = np.arange(25)
    found = table.fit(chosen, seed=4)
    order = np.random.default_rng(4).permutation(25)
    for k, penalty in enumerate(PENALTIES[::3]):
        loss = 0.0
        for fold in range(FOLDS):
            held = np.sort(chosen[order[fold::FOLDS]])
            w = naive.ridge(table, np.setdiff1d(chosen, held), penalty)[0]
            _, rows, right = naive.ridge(table, held, penalty)
            loss += ((rows @ w - right) ** 2).sum()
        # Rounding of float32 rows matters where the penalty hardly holds the coefficients.
        assert found.losses[3 * k] == pytest.approx(loss, rel=0.05 if penalty < 1e-6 else 1e-3)
    assert found.penalty == PENALTIES[int(np.argmin(found.losses))]


def test_residuals_are_those_of_the_potential(table):
    solution = table.fit()
    energies, forces = table.residuals(solution)
    frames = cells(40, 3)
    one = LinearPotential(table.basis, solution)
    reference = targets(frames)
    np.testing.assert_allclose(energies * table.sizes, reference[0] - one.energies(frames), atol=1e-8)
    np.testing.assert_allclose(forces, reference[1] - one.forces(frames), atol=1e-4)


def test_rows_without_weight_do_not_matter(table):
    chosen, weights = np.arange(20), np.ones(table.starts[-1])
    weights[table.starts[20] :] = 0
    part, masked = table.fit(chosen, penalty=1e-5), table.fit(penalty=1e-5, atom_weights=weights)
    close(masked.coefficients, part.coefficients, 1e-6)


def test_rows_that_need_too_much_memory_are_refused(monkeypatch):
    from phaseseg.families.environments import potential_table

    monkeypatch.setattr(potential_table, "MOST_MEMORY", 1e4)
    frames = cells(3)
    with pytest.raises(ValueError, match=r"rows of .* atoms and 120 functions need"):
        make_table(
            frames, *targets(frames), fit_basis(frames, PowerSpectrum(("Fe", "O"), n_max=2, l_max=5), 0, None)
        )


def test_energies_alone():
    frames = cells(40, 3)
    table = make_table(frames, targets(frames)[0], None, fit_basis(frames, SMALL, 0, None))
    energies, forces = table.residuals(table.fit())
    assert forces is None and np.std(energies) < np.std(targets(frames)[0] / table.sizes)


# Repulsion -----------------------------------------------------------------------------------------


def test_repulsion_of_a_pair():
    """Two bare protons: e^2 / (4 π ε0 r) times the universal screening, by hand."""
    frame = Frame([[0.0, 0, 0], [0.3, 0, 0]], [20.0] * 3, False, ["Fe", "O"])
    energies, forces = Repulsion(1.0, 2.0)(frame)
    x = 0.3 / (0.8854 * 0.52917721 / (26**0.23 + 8**0.23))
    screening = (
        0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x) + 0.28022 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )  # fmt: skip
    assert energies.sum() == pytest.approx(14.399645 * 26 * 8 / 0.3 * screening, rel=1e-12)
    assert forces[0, 0] < 0 and np.array_equal(forces[0], -forces[1])
    assert not Repulsion(1.0, 2.0)(Frame([[0.0, 0, 0], [2.1, 0, 0]], [20.0] * 3, False, ["Fe", "O"]))[0].any()
    assert not Repulsion(1.0, 2.0)(Frame([[0.0, 0, 0], [0.3, 0, 0]], [20.0] * 3, False, ["A", "B"]))[0].any()


def test_forces_of_the_repulsion_are_derivatives():
    repulsion, frame = Repulsion(0.5, 3.0), FRAMES["triclinic"]()
    forces = repulsion(frame)[1]
    for x in range(3):
        expected = naive.force_by_differences(lambda one: repulsion(one)[0].sum(), frame, 3, x)
        assert forces[3, x] == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(forces).max())
    with pytest.raises(ValueError, match="0 <= inner < outer"):
        Repulsion(2.0, 1.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"energies": [1.0]}, "one number for each of the 3 configurations"),
        ({"energies": [1.0, np.nan, 2.0]}, "energy of configuration 1 is nan"),
        ({"forces": np.zeros((2, 3))}, "forces must have shape"),
        ({"forces": "nan"}, "force on atom 1 of the set is not finite"),
        ({"frames": []}, "at least one configuration"),
        ({"n_products": -1}, "n_products must be a whole number"),
        ({"descriptor": PowerSpectrum(("Fe",))}, "descriptor knows only Fe"),
        ({"atom_weights": [1.0]}, "atom_weights must be"),
        ({"energy_weights": [-1.0, 1, 1]}, "energy_weights must be 3 numbers from zero on"),
    ],
)
def test_bad_input(change, message):
    frames = cells(3)
    energies, forces = targets(frames)
    if isinstance(change.get("forces"), str):
        forces[1, 2] = np.nan
        change = {}
    given = {"frames": frames, "energies": energies, "forces": forces, "descriptor": SMALL} | change
    with pytest.raises(ValueError, match=message):
        LinearPotential.fit(**given)
