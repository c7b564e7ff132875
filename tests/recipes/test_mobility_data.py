"""The committed systems at T = 0.64: what they hold, and how a result is reduced to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg.families.mobility.potentials import KOB_ANDERSEN, LennardJonesMixture
from phaseseg.io import read_frames
from phaseseg.recipes.mobility.data import FIRST_SEED, file_of, reduce_result
from phaseseg.recipes.mobility.systems import OWN_DATA, STATES

FILES = sorted(OWN_DATA.glob(STATES[0.64].pattern))


def test_there_are_systems_of_different_seeds() -> None:
    assert FILES
    for path in FILES:
        number = int(path.stem.removeprefix("ka3d_t064_s"))  # processes may share them, so some are missing
        assert path == file_of(path.parent, number)
        with np.load(path, allow_pickle=False) as found:
            assert int(found["seed"]) == FIRST_SEED + number - 1
    # Forty of them fit into 8 MB.
    assert max(path.stat().st_size for path in FILES) < 2e5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_system_is_an_equilibrated_liquid(path: Path) -> None:
    (frame,) = read_frames(path, fields=True)
    assert np.bincount(frame.species).tolist() == [3277, 819]
    assert frame.n_atoms / frame.volume == pytest.approx(1.2, rel=1e-6)
    wanted = {"temperature": 0.64, "runs": 32, "propensity_time": 16.5, "equilibration": 165}
    assert {name: frame.info[name] for name in wanted} == pytest.approx(wanted)
    assert not frame.messages
    is_a = frame.species == 0
    halves = frame.fields["propensity_half"]
    assert_allclose(halves.mean(axis=1), frame.fields["propensity"], rtol=1e-4)
    c = np.corrcoef(halves[is_a].T)[0, 1]
    assert 0.7 < np.sqrt(2 * c / (1 + c)) < 0.95
    assert 0.3 < frame.fields["propensity"][is_a].mean() < 0.55
    assert frame.fields["propensity"][~is_a].mean() > frame.fields["propensity"][is_a].mean()
    # Our own energy of the configuration is that which LAMMPS found for the liquid, but for fluctuations.
    unshifted = LennardJonesMixture(
        KOB_ANDERSEN.species, KOB_ANDERSEN.epsilon, KOB_ANDERSEN.sigma, KOB_ANDERSEN.cutoff, "none"
    )
    with np.load(path, allow_pickle=False) as found:
        energies = found["energies"]
    assert unshifted.energies(frame).mean() == pytest.approx(energies[-10:].mean(), abs=0.05)
    assert abs(energies[-10:].mean() - energies[-20:-10].mean()) < 0.02


def test_a_result_is_reduced(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    edge = 5.0 + 1e-9
    positions = rng.uniform(0, edge, (30, 3))
    positions[0] = np.nextafter(edge, 0)  # on the upper face as float32
    values = {
        "positions": positions, "types": np.zeros(30, np.int8), "box": np.full(3, edge),
        "propensity": np.ones(30, np.float32), "propensity_half": np.ones((2, 30), np.float32),
        "propensity_time": np.array(16.5), "temperature": np.array(0.64), "runs": np.array(32),
        "seed": np.array(1), "equilibration": np.array(165.0), "units": np.array("lj"),
        "energies": np.zeros(9), "more": np.zeros(4),
    }  # fmt: skip
    np.savez(tmp_path / "whole.npz", **values)
    reduce_result(tmp_path / "whole.npz", tmp_path / "small.npz")
    with np.load(tmp_path / "small.npz") as found:
        assert set(found.files) == set(values) - {"more"}
        assert found["positions"].dtype == np.float32
        assert (found["positions"] < np.float32(edge)).all()
        assert_allclose(found["positions"][1:], positions[1:], atol=1e-6)
    (frame,) = read_frames(tmp_path / "small.npz", fields=True)
    assert frame.info["propensity_time"] == 16.5
