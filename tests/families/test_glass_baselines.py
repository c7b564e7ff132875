"""Methods without a network: pairs counted one by one, energies of LAMMPS, regressions minimized anew."""

import numpy as np
import pytest

import naive
from phaseseg.families.liquid_glass.baselines import (
    BASELINES,
    FIRST_PEAK,
    POTENTIAL_ENERGY,
    RIDGE,
    THREE_METRICS,
    Baseline,
    first_peak,
    kob_andersen_energies,
    radial_distribution,
    three_metrics,
)
from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
from phaseseg.frame import Frame


def mixture(n=60, dimensions=2, pbc=True, seed=0, cell=None):
    """Random particles that do not come too close, a third of them B."""
    rng = np.random.default_rng(seed)
    edge = (n / 1.2) ** (1 / dimensions)
    cell = np.diag([edge, edge, 1.0 if dimensions == 2 else edge]) if cell is None else np.asarray(cell)
    fractions = np.empty((0, 3))
    while len(fractions) < n:
        new = rng.random(3) * (1, 1, dimensions == 3)
        apart = fractions - new
        apart -= np.rint(apart)
        if not len(fractions) or np.linalg.norm(apart @ cell, axis=1).min() > 0.55:
            fractions = np.vstack([fractions, new])
    periodic = np.array([pbc, pbc, pbc and dimensions == 3])
    names = np.where(rng.permutation(n) < n // 3, "B", "A")
    return Frame(fractions @ cell, cell, periodic, names, units="lj")


SKEWED = [[9.0, 0, 0], [3.0, 8.0, 0], [0, 0, 1.0]]
FRAMES = {
    "plane": mixture(), "space": mixture(80, 3), "open plane": mixture(pbc=False),
    "open space": mixture(80, 3, pbc=False), "skewed": mixture(cell=SKEWED), "small": mixture(6),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_pairs_are_counted_one_by_one(name):
    frame = FRAMES[name]
    found = radial_distribution(frame, width=0.1)
    r, g = naive.radial_distribution(frame, 0.1, 15)
    assert found.r == pytest.approx(r) and found.g == pytest.approx(g, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("pbc", [True, False, (True, False, False)])
def test_an_ideal_gas_has_no_structure(dimensions, pbc):
    rng = np.random.default_rng(1)
    n, cell = 20_000, np.array([9.0, 12.0, 1.0 if dimensions == 2 else 10.0])
    gas = Frame(rng.random((n, 3)) * cell * (1, 1, dimensions == 3), cell, pbc, ["A"] * n, units="lj")
    assert radial_distribution(gas, width=0.25).g == pytest.approx(1, abs=0.05)


def test_square_lattice():
    sites = np.stack(np.meshgrid(np.arange(8), np.arange(8), [0], indexing="ij"), -1).reshape(-1, 3)
    lattice = Frame(sites * 1.0, [8, 8, 1], True, ["A"] * 64, units="lj")  # periodic across the plane, too
    found = radial_distribution(lattice, width=0.1, beyond=1.5)
    assert np.flatnonzero(found.g).tolist() == [10, 14]
    # Four neighbors at 1, in a ring from 1.0 to 1.1 of a plane with one particle per σ^2.
    assert found.g[10] == pytest.approx(4 / (np.pi * (1.1**2 - 1)))
    assert first_peak(lattice) == (pytest.approx(4 / (np.pi * (1.05**2 - 1))),)


@pytest.mark.parametrize(("width", "beyond"), [(0, 1), (0.1, -1)])
def test_bins_must_be_positive(width, beyond):
    with pytest.raises(ValueError, match="must be positive"):
        radial_distribution(FRAMES["plane"], width=width, beyond=beyond)


@pytest.mark.parametrize("name", FRAMES)
def test_energies_pair_by_pair(name):
    # Lengths are float32, and terms of hundreds may cancel.
    frame, close = FRAMES[name], {"rel": 1e-5, "abs": 1e-4}
    assert kob_andersen_energies(frame) == pytest.approx(naive.kob_andersen_energies(frame, "B"), **close)


def test_energies_follow_the_particles():
    frame = FRAMES["plane"]
    order = np.random.default_rng(3).permutation(len(frame))
    moved = frame.replace(positions=frame.positions[order] + [0.3, -2, 0], species=frame.species[order])
    assert kob_andersen_energies(moved) == pytest.approx(kob_andersen_energies(frame)[order], rel=1e-4)


def test_three_metrics_are_those_of_the_graph():
    frame = FRAMES["plane"]
    fields = glass_metrics(frame)
    names = ("disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle")
    assert three_metrics(frame) == tuple(fields[name] for name in names)
    only = frame.replace(species=np.zeros(len(frame), dtype=np.int32))
    assert three_metrics(only) == (0.0, 0.0, 1.0)
    assert three_metrics(Frame([[0.0, 0, 0]], [1, 1, 1], False, ["B"], units="lj")) == (0.0, 0.0, 0.0)


def regressed(x, glass):
    return Baseline("any numbers", lambda frame: ()).fit(x, glass)


@pytest.mark.parametrize("n_numbers", [1, 3])
def test_the_regression_minimizes_what_it_says(n_numbers):
    """Against a general minimizer."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, n_numbers)) * (3.0, 0.01, 100.0)[:n_numbers] + 5
    glass = x[:, 0] + rng.normal(size=200) > 5
    z, sign = (x - x.mean(axis=0)) / x.std(axis=0), np.where(glass, 1.0, -1.0)

    def loss(w):
        return np.logaddexp(0, -sign * (z @ w[1:] + w[0])).mean() + RIDGE * (w[1:] ** 2).sum() / 2

    best = minimize(loss, np.zeros(n_numbers + 1), method="BFGS", options={"gtol": 1e-7}).x
    assert regressed(x, glass).logits(x) == pytest.approx(z @ best[1:] + best[0], abs=1e-3)


def test_regression_where_states_do_not_overlap_and_where_numbers_do_not_vary():
    x = np.array([[1.0, 7.0], [2.0, 7.0], [10.0, 7.0], [11.0, 7.0]])
    fitted = regressed(x, [True, True, False, False])
    assert ((fitted.logits(x) > 0) == [True, True, False, False]).all()
    assert np.isfinite(fitted.logits(x)).all()
    assert fitted.logits([[6.0, 7.0]])[0] == pytest.approx(0, abs=1e-6)
    assert fitted.logits([[6.0, 8.0]])[0] == fitted.logits([[6.0, 7.0]])[0]


@pytest.mark.parametrize(
    ("x", "glass", "words"),
    [([[1.0], [2.0]], [True, True], "both liquid and glass"), ([[1.0], [np.nan]], [True, False], "NaN"),
     ([1.0, 2.0], [True, False], "2D array")],
)  # fmt: skip
def test_regression_refuses(x, glass, words):
    with pytest.raises(ValueError, match=words):
        regressed(x, glass)


def test_a_baseline_needs_its_numbers_and_a_fit():
    frame = FRAMES["plane"]
    with pytest.raises(ValueError, match="'potential_energy'"):
        POTENTIAL_ENERGY.measure([frame])
    with pytest.raises(ValueError, match="has not been fitted"):
        FIRST_PEAK.logits([[1.0]])
    numbers = THREE_METRICS.measure([frame, FRAMES["small"]])
    assert numbers.shape == (2, 3) and len({one.name for one in BASELINES}) == len(BASELINES)
    fitted = Baseline("number of particles", lambda frame: (float(len(frame)),)).fit(
        [[1], [2]], [False, True]
    )
    assert (fitted.logits([[1], [2]]) > 0).tolist() == [False, True]
