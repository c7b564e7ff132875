"""Single descriptors of the structure: their definitions, and their rows in an evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from families.test_mobility_evaluation import Stub
from phaseseg.families.mobility.baselines import ROUNDS, descriptors_of
from phaseseg.families.mobility.cage import Cage
from phaseseg.families.mobility.evaluation import evaluate
from phaseseg.families.mobility.structure import structure_of
from phaseseg.frame import Frame


@pytest.fixture(scope="module")
def structure():
    """A shaken lattice of the Kob–Andersen mixture."""
    rng = np.random.default_rng(0)
    edge = 7
    sites = np.stack(np.meshgrid(*[np.arange(edge)] * 3), axis=-1).reshape(-1, 3)
    box = edge / 1.2 ** (1 / 3)
    species = (rng.permutation(len(sites)) < 0.2 * len(sites)).astype(np.int32)
    truth = rng.gamma(4, 0.1, len(sites))
    frame = Frame(
        sites * box / edge + rng.normal(0, 0.03, sites.shape), np.eye(3) * box, True, species, ("A", "B"),
        units="lj", fields={"propensity": truth, "truth": truth}, source="lattice",
    )  # fmt: skip
    return structure_of(frame, cage=False)


def naive_averages(positions, box, values):
    apart = positions[:, None] - positions[None]
    r = np.linalg.norm(apart - box * np.round(apart / box), axis=2)
    weights = np.where(r < 2.1, np.exp(-r / 2.1), 0.0)  # that of the particle itself is 1
    for _ in range(ROUNDS):
        values = weights @ values / weights.sum(axis=1)
    return values, weights.sum(axis=1) - 1


@pytest.mark.slow
def test_descriptors_follow_their_definitions(structure):
    box = structure.frame.cell[0, 0]
    found = descriptors_of(structure)
    assert len(found) == 8 and all(values.shape == (343,) for values in found.values())
    assert_allclose(found["potential energy"].mean(), structure.inherent.thermal_energy.mean())
    assert (found["inherent energy"].sum()) < found["potential energy"].sum()
    for name in ("potential energy", "inherent energy", "local density", "inherent displacement"):
        expected, _ = naive_averages(structure.inherent.positions, box, found[name])
        assert_allclose(found[f"{name}, averaged"], expected, rtol=1e-4)
    _, density = naive_averages(structure.frame.positions, box, found["local density"])
    assert_allclose(found["local density"], density, rtol=1e-5)


def test_the_variance_in_the_cage_is_one_of_them_if_it_is_known(structure):
    covariance = np.eye(3) * np.linspace(0.01, 0.02, 343)[:, None, None]
    cage = Cage(
        structure.frame.positions, covariance, np.zeros(343), 100, np.zeros(343),
        np.zeros((1, 343, 3), dtype=np.float32),
    )  # fmt: skip
    found = descriptors_of(replace(structure, cage=cage))
    assert_allclose(found["log cage variance"], np.log(3 * np.linspace(0.01, 0.02, 343)))
    assert found["log cage variance, averaged"].std() < found["log cage variance"].std()


def test_they_are_rows_of_an_evaluation(structure):
    result = evaluate({"run": [structure.frame]}, Stub(noise=0.05, times=(None,)), baselines=True)
    rows = [row for row in result.score_table().rows() if row["type"] == "A"]
    assert [row["method"] for row in rows] == ["mobility/stub", *descriptors_of(structure)]
    assert rows[0]["rho"] > 0.8 and all(-1 < row["rho"] < 0.8 for row in rows[1:])
    assert np.isfinite(rows[0]["rms error"]) and all(np.isnan(row["rms error"]) for row in rows[1:])
