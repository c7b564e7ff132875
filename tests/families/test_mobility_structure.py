"""Inherent structures, cages and their cache: minima, statistics, symmetries, interruption, bad input."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

import naive
from phaseseg import Frame
from phaseseg.families.mobility import cage, inherent
from phaseseg.families.mobility.cage import RADIUS, CageError, cage_positions
from phaseseg.families.mobility.inherent import MinimizationError, inherent_positions
from phaseseg.families.mobility.potentials import LennardJonesMixture
from phaseseg.families.mobility.structure import structure_of
from phaseseg.families.mobility.structure_cache import forget_structures
from phaseseg.testing import awkward_frames, permuted, translated, wrapped_elsewhere

KA = LennardJonesMixture.kob_andersen()
AWKWARD = awkward_frames(("A", "B"), "lj", 0.95)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.delenv("PHASESEG_STRUCTURES", raising=False)
    forget_structures()
    yield
    forget_structures()


@pytest.fixture(scope="module")
def liquid():
    """A quenched mixture of 500 particles, shaken: every particle is in a cage of neighbors."""
    rng = np.random.default_rng(5)
    species = (np.arange(500) % 5 == 0).astype(int)
    frame = Frame(rng.uniform(0, 7.47, (500, 3)), [7.47] * 3, True, species, ("A", "B"), units="lj")
    at_rest = inherent_positions(frame).positions
    return frame.replace(positions=at_rest + 0.04 * rng.normal(size=at_rest.shape))


def pair(r=1.3, pbc=False):
    return Frame([[1, 1, 1], [1 + r, 1, 1]], [9.0, 9, 9], pbc, ["A", "A"], units="lj", source="two.xyz")


# Inherent structures ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "open", "unwrapped far away"])
def test_the_end_is_a_minimum_near_the_frame(name):
    frame = AWKWARD[name]()
    found = inherent_positions(frame, tolerance=1e-6)
    at_rest = frame.replace(positions=found.positions)
    energies, forces = naive.lennard_jones(at_rest, KA)
    assert np.abs(forces).max() <= 1.1e-6
    assert found.residual == pytest.approx(np.abs(forces).max(), rel=1e-3)
    assert_allclose(found.energy, energies, atol=1e-9)
    assert_allclose(found.thermal_energy, naive.lennard_jones(frame, KA)[0], atol=1e-8)
    assert_allclose(found.displacement, np.linalg.norm(found.positions - frame.positions, axis=1), atol=1e-6)
    assert found.energy.sum() < found.thermal_energy.sum()
    # Stable against small moves, too: no saddle.
    rng = np.random.default_rng(0)
    for _ in range(10):
        moved = found.positions + 1e-3 * rng.normal(size=found.positions.shape)
        assert KA.energies(frame.replace(positions=moved)).sum() > found.energy.sum()


@pytest.mark.slow
def test_near_a_minimum_another_method_finds_the_same(liquid):
    first = inherent_positions(liquid, tolerance=1e-7).positions
    rng = np.random.default_rng(1)
    start = liquid.replace(positions=first + 0.02 * rng.normal(size=first.shape))
    found = inherent_positions(start, tolerance=1e-7).positions

    def energy(x):
        moved = start.replace(positions=x.reshape(-1, 3))
        energies, forces = KA.energies_and_forces(moved)
        return energies.sum(), -forces.ravel()

    other = minimize(
        energy, start.positions.ravel(), jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-15}
    )
    drift = (found - other.x.reshape(-1, 3)).mean(axis=0)
    assert_allclose(found - drift, other.x.reshape(-1, 3), atol=1e-3)  # soft directions


def test_two_particles_end_at_the_minimum_of_their_potential():
    found = inherent_positions(pair(), tolerance=1e-8)
    assert_allclose(found.positions[1] - found.positions[0], [2 ** (1 / 6), 0, 0], atol=1e-8)
    assert_allclose(found.positions.mean(axis=0), [1.65, 1, 1], atol=1e-9)  # no drift
    assert_allclose(found.displacement, (1.3 - 2 ** (1 / 6)) / 2, atol=1e-8)


def test_translation_wrapping_and_permutation():
    frame = AWKWARD["triclinic"]()
    found = inherent_positions(frame)
    shift = np.array([0.4, -3.3, 1.7])
    assert_allclose(
        inherent_positions(translated(frame, shift)).positions, found.positions + shift, atol=1e-4
    )
    elsewhere = wrapped_elsewhere(frame, 2)
    moved = inherent_positions(elsewhere)
    assert_allclose(moved.positions - elsewhere.positions, found.positions - frame.positions, atol=1e-4)
    order = np.random.default_rng(2).permutation(len(frame))
    assert_allclose(inherent_positions(permuted(frame, order)).positions, found.positions[order], atol=1e-4)


def test_overlapping_particles_are_pushed_apart():
    rng = np.random.default_rng(0)
    frame = Frame(
        rng.uniform(0, 5, (100, 3)), [5.0] * 3, True, rng.integers(0, 2, 100), ("A", "B"), units="lj"
    )
    found = inherent_positions(frame)
    assert found.residual <= 1e-3
    assert np.abs(naive.lennard_jones(frame.replace(positions=found.positions), KA)[1]).max() <= 1.1e-3


def test_nothing_to_minimize():
    one = Frame([[1.0, 1, 1]], [9.0, 9, 9], True, ["A"], units="lj")
    found = inherent_positions(one)
    assert (found.positions.tolist(), found.n_steps, found.residual) == ([[1, 1, 1]], 0, 0.0)
    nothing = Frame(np.zeros((0, 3)), [3.0, 3, 3], True, [], ("A", "B"), units="lj")
    assert inherent_positions(nothing).positions.shape == (0, 3)


def test_minimizations_that_fail():
    with pytest.raises(MinimizationError, match=r"^two.xyz: atoms 1 and 2 are at the same place"):
        inherent_positions(pair(0.0))
    with pytest.raises(
        MinimizationError, match=r"^two.xyz: the minimization did not converge.* after 3 steps"
    ):
        inherent_positions(pair(), max_steps=3)
    with pytest.raises(ValueError, match="tolerance must be a positive"):
        inherent_positions(pair(), tolerance=0)
    with pytest.raises(ValueError, match="no entry for A"):
        inherent_positions(pair(), LennardJonesMixture(("X",), [[1]], [[1]], [[2.5]]))


class StopError(Exception):
    pass


def test_progress_may_stop_the_work(monkeypatch):
    frame = AWKWARD["orthogonal"]()
    calls = []

    def stop(done, text):
        calls.append((done, text))
        if len(calls) == 2:
            raise StopError

    with pytest.raises(StopError):
        cage_positions(frame, 0.5, steps=600, progress=stop)
    assert 0 < calls[0][0] < calls[1][0] < 1
    calls.clear()
    monkeypatch.setattr(cage, "_REPORTED", 20 * len(frame))
    cage_positions(frame, 0.5, steps=600, runs=1, progress=lambda done, text: calls.append(done))
    assert len(calls) == 600 // 20 + 1  # and at the end
    calls.clear()
    inherent_positions(frame, progress=lambda done, text: calls.append((done, text)))
    assert calls[-1] == (1.0, "minimized")


# Cages --------------------------------------------------------------------------------------------


def test_a_lone_particle_fills_its_sphere():
    """Without forces the density in the sphere is uniform: <x> = 0 and <x^2> = R^2 / 5."""
    rng = np.random.default_rng(0)
    n = 300
    sites = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3)[:n] * 6.0
    frame = Frame(sites + rng.uniform(0, 1, sites.shape), [42.0] * 3, True, [0] * n, ("A",), units="lj")
    found = cage_positions(frame, 1.0, steps=3000)
    # 5000 steps are some 100 times the way through the sphere for each of 300 particles.
    covariance = found.covariance.mean(axis=0)
    assert_allclose(np.diag(covariance), RADIUS**2 / 5, rtol=0.05)
    assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=0.002)
    assert np.abs((found.positions - frame.positions).mean(axis=0)).max() < 0.01


def test_a_pair_has_the_statistics_of_boltzmann():
    """Distances of two particles in spheres of 0.5 around their places, against Monte Carlo of the same."""
    temperature, n = 0.7, 200
    sites = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)[:n] * 7.0
    places = np.concatenate([sites, sites + np.array([1.1, 0, 0])])
    frame = Frame(places, [42.0] * 3, True, [0] * 2 * n, ("A",), units="lj")
    found = cage_positions(frame, temperature, steps=3500)
    mean = (found.positions - frame.positions)[n:].mean(axis=0) - (found.positions - frame.positions)[
        :n
    ].mean(axis=0)
    rng = np.random.default_rng(1)
    inside = rng.uniform(-RADIUS, RADIUS, (2, 400_000, 3))
    both = (np.linalg.norm(inside, axis=2) < RADIUS).all(axis=0)
    first, second = inside[:, both]
    r = np.linalg.norm(second + np.array([1.1, 0, 0]) - first, axis=1)
    with np.errstate(over="ignore"):
        weights = np.exp(-4 * (r**-12.0 - r**-6.0) / temperature)
    wanted = np.average(second - first, axis=0, weights=weights)
    variance = (
        np.average((first**2).sum(axis=1), weights=weights)
        - (np.average(first, axis=0, weights=weights) ** 2).sum()
    )
    assert mean == pytest.approx(wanted, abs=0.02)
    assert found.variance.mean() == pytest.approx(variance, rel=0.05)


@pytest.mark.slow
def test_cages_are_deterministic_for_a_seed_and_agree_between_seeds(liquid):
    frame = liquid
    one, other = (cage_positions(frame, 0.05, steps=2000, seed=seed) for seed in (1, 2))
    forget_structures()
    same = cage_positions(frame, 0.05, steps=2000, seed=1)
    assert same is not one
    assert_array_equal(one.positions, same.positions)
    assert_array_equal(one.covariance, same.covariance)
    assert not np.array_equal(one.positions, other.positions)
    ways = [(found.positions - frame.positions).ravel() for found in (one, other)]
    assert np.corrcoef(*ways)[0, 1] > 0.6
    assert np.linalg.norm(one.positions - frame.positions, axis=1).max() < RADIUS
    assert_allclose(one.displacement, np.linalg.norm(one.positions - frame.positions, axis=1), atol=1e-12)
    assert one.n_samples == 2 * 300
    assert (np.linalg.eigvalsh(one.covariance) > 0).all()
    assert_allclose(one.covariance, one.covariance.transpose(0, 2, 1))


def test_the_spread_between_runs_is_in_the_covariance():
    frame = AWKWARD["triclinic"]()
    both = cage_positions(frame, 0.5, steps=600, seed=3)
    first = cage_positions(frame, 0.5, steps=600, seed=3, runs=1)
    second = 2 * both.positions - first.positions
    half = first.positions - both.positions
    between = half[:, :, None] * half[:, None, :]
    # Total = mean of the covariances + that of the means; the second covariance is not negative.
    rest = 2 * (both.covariance - between) - first.covariance
    assert (np.linalg.eigvalsh(rest) > -1e-12).all()
    assert np.linalg.norm(second - frame.positions, axis=1).max() < RADIUS


@pytest.mark.slow
def test_kept_configurations_and_energies_belong_together(liquid):
    found = cage_positions(liquid, 0.05, steps=520, runs=1, seed=4)
    assert found.samples.shape == (2, liquid.n_atoms, 3)
    # Energies count after 500 and 520 steps; a longer run adds that after 540, of its last configuration.
    further = cage_positions(liquid, 0.05, steps=540, runs=1, seed=4)
    last = liquid.replace(positions=liquid.positions + further.samples[-1])  # float32
    assert_allclose(3 * further.energy - 2 * found.energy, KA.energies(last), atol=1e-3)
    longer = cage_positions(liquid, 0.05, steps=3000, seed=4)
    assert longer.samples.shape == (2 * 27, liquid.n_atoms, 3)
    assert_allclose(
        longer.samples.mean(axis=0),
        longer.positions - liquid.positions,
        atol=6 * longer.variance.max() ** 0.5 / 10,
    )
    assert longer.energy.mean() > inherent_positions(liquid).energy.mean()


@pytest.mark.slow
def test_colder_cages_are_smaller(liquid):
    at_rest = liquid.replace(positions=inherent_positions(liquid).positions)
    # Medians: a few particles have room to rearrange.
    temperatures = (0.002, 0.008, 0.1)
    variances = [float(np.median(cage_positions(at_rest, t, steps=1500).variance)) for t in temperatures]
    assert variances == sorted(variances)
    assert variances[0] == pytest.approx(variances[1] / 4, rel=0.3)  # harmonic


def test_cages_that_fail():
    with pytest.raises(CageError, match=r"^two.xyz: atoms 1 and 2 are at the same place"):
        cage_positions(pair(0.0), 0.5)
    with pytest.raises(CageError, match=r"^two.xyz: the forces are not finite in step"):
        cage_positions(pair().replace(positions=[[0, 0, 0], [1e-30, 0, 0]]), 0.5)
    for temperature in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature must be a positive number"):
            cage_positions(pair(), temperature)
    with pytest.raises(ValueError, match="at least 1 run of 520 steps"):
        cage_positions(pair(), 0.5, steps=100)
    with pytest.raises(ValueError, match="seed must be 0 or"):
        cage_positions(pair(), 0.5, seed=-1)
    with pytest.raises(ValueError, match=r"^two.xyz: the temperature is not in the frame"):
        cage_positions(pair())
    nothing = Frame(np.zeros((0, 3)), [3.0, 3, 3], True, [], ("A", "B"), units="lj")
    assert cage_positions(nothing, 0.5).positions.shape == (0, 3)


# Structures and their cache -----------------------------------------------------------------------


def test_a_structure_is_made_once(monkeypatch):
    frame = AWKWARD["triclinic"]().replace(info={"temperature": 0.5})
    first = structure_of(frame, steps=600)
    assert (first.temperature, first.codes.tolist()) == (0.5, frame.species.tolist())

    def never(*args, **options):
        raise AssertionError("computed again")

    with monkeypatch.context() as change:
        change.setattr(inherent, "_minimized", never)
        change.setattr(cage, "_sampled", never)
        assert inherent_positions(frame) is first.inherent
        assert cage_positions(frame, steps=600) is first.cage
        again = structure_of(frame.replace(source="elsewhere", index=4), steps=600)
        assert again.cage is first.cage
        assert structure_of(frame, cage=False).cage is None
        for other in ({"temperature": 0.6}, {"seed": 1}, {"runs": 1}, {"steps": 605}):
            with pytest.raises(AssertionError, match="computed again"):
                structure_of(frame, **({"steps": 600} | other))
        moved = frame.replace(positions=frame.positions + np.eye(1, len(frame), 3).T * 1e-9)
        with pytest.raises(AssertionError, match="computed again"):
            structure_of(moved, steps=600)
        with pytest.raises(AssertionError, match="computed again"):
            structure_of(
                frame, potential=LennardJonesMixture(KA.species, KA.epsilon, KA.sigma, KA.cutoff, "none")
            )


def test_structures_on_disk(tmp_path, monkeypatch):
    frame = AWKWARD["triclinic"]()
    first = structure_of(frame, temperature=0.5, steps=600, folder=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [path.name.partition("-")[0] for path in files] == ["cage", "inherent"]
    forget_structures()
    monkeypatch.setenv("PHASESEG_STRUCTURES", str(tmp_path))
    times = [path.stat().st_mtime_ns for path in files]
    again = structure_of(frame, temperature=0.5, steps=600)
    assert [path.stat().st_mtime_ns for path in files] == times
    assert_array_equal(again.cage.covariance, first.cage.covariance)
    assert_array_equal(again.inherent.energy, first.inherent.energy)
    assert again.inherent.n_steps == first.inherent.n_steps
    # A damaged file is made again.
    forget_structures()
    Path(files[0]).write_bytes(b"no archive")
    repaired = structure_of(frame, temperature=0.5, steps=600)
    assert_array_equal(repaired.cage.positions, first.cage.positions)
    assert np.load(files[0])["positions"].shape == frame.positions.shape


def test_structures_that_are_refused():
    frame = AWKWARD["triclinic"]().replace(source="a.xyz")
    with pytest.raises(ValueError, match=r"^a.xyz: the temperature is not in the frame"):
        structure_of(frame)
    found = structure_of(frame, cage=False)
    with pytest.raises(ValueError, match="not sampled"):
        _ = found.cage_positions


def test_progress_of_both_parts_rises():
    seen = []
    structure_of(
        AWKWARD["orthogonal"](), temperature=0.5, steps=600, progress=lambda f, text: seen.append((f, text))
    )
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"minimized", "cages sampled"} <= {text for _, text in seen}
