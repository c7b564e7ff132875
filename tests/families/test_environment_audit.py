"""The audit of labels: planted errors in a set whose potential is known, and sets without forces."""

from __future__ import annotations

import numpy as np
import pytest

from phaseseg import Frame
from phaseseg.families.environments.audit import audit, typical_values
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.potential_basis import fit_basis
from phaseseg.families.environments.potential_table import make_table
from phaseseg.neighbors import neighbor_graph

SMALL = PowerSpectrum(("Fe",), n_max=4, l_max=3)


def labeled(n=150, seed=0, noise=0.01):
    """Jittered cells of two atoms with a pair potential and some noise, as a set."""
    rng = np.random.default_rng(seed)
    frames, energies, forces = [], [], []
    for _ in range(n):
        size = rng.uniform(2.7, 3.2)
        positions = size * np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) + rng.normal(0, 0.1, (2, 3))
        frame = Frame(positions, [size] * 3, True, ["Fe", "Fe"])
        graph = neighbor_graph(frame, cutoff=4.5)
        vectors, i = graph.edge_vector, np.repeat([0, 1], np.diff(graph.indptr))
        r = np.linalg.norm(vectors, axis=1)
        energies.append(0.5 * (np.exp(-r) * (4.5 - r) ** 3).sum() + rng.normal(0, noise))
        slope = -np.exp(-r) * (4.5 - r) ** 2 * (7.5 - r)
        own = np.zeros((2, 3))
        np.add.at(own, i, (slope / r)[:, None] * vectors)
        frames.append(frame)
        forces.append(own + rng.normal(0, noise, (2, 3)))
    return DataSet(frames, np.array(energies), np.concatenate(forces))


@pytest.mark.slow
def test_wrong_labels_are_found_and_named():
    data = labeled()
    energies, forces = data.energies.copy(), data.forces.copy()
    energies[5] += 2 * 0.3
    forces[2 * 9 : 2 * 9 + 2] *= -1
    strong = np.linalg.norm(data.forces[18:20], axis=1).min()
    assert strong > 0.3  # a sign that cannot be seen would not be found
    found = audit(DataSet(data.frames, energies, forces), descriptor=SMALL)
    assert int(found.energy_scores.argmax()) == 5 and int(found.force_scores.argmax()) == 9
    assert {5, 9} <= set(found.suspicious.tolist()) and len(found.suspicious) <= 6
    assert found.energy_residuals[5] == pytest.approx(0.3, abs=0.05)
    assert found.factors[9] == pytest.approx(-1, abs=0.2)
    assert np.nanmedian(found.factors) == pytest.approx(1, abs=0.05)
    codes = {message.code for message in found.messages if "configuration 5" in message}
    assert codes == {"suspicious-energy"}
    assert any(m.code == "suspicious-forces" and "configuration 9" in m for m in found.messages)
    assert found.atom_scores.shape == found.force_residuals.shape == (300,)


@pytest.mark.slow
def test_right_labels_are_hardly_suspected():
    found = audit(labeled(seed=3), descriptor=SMALL)
    assert len(found.suspicious) <= 8  # of 150, whose fit is worse for the most strained cells


@pytest.mark.slow
@pytest.mark.parametrize("energy, force", [(1e9, 1e6), (-1e6, 1e4), (2e3, None), (None, 1e7)])
def test_gross_errors_do_not_hide_or_accuse_others(energy, force):
    data = labeled(80)
    usual = set(audit(data, descriptor=SMALL).suspicious.tolist())
    energies, forces = data.energies.copy(), data.forces.copy()
    energies[20] += 2 * 0.3
    if energy is not None:
        energies[6] = energy
    if force is not None:
        forces[2 * 9, 0] = force
    found = audit(DataSet(data.frames, energies, forces), descriptor=SMALL)
    wrong = {20} | ({6} if energy is not None else set()) | ({9} if force is not None else set())
    assert wrong <= set(found.suspicious.tolist())
    assert len(set(found.suspicious.tolist()) - wrong - usual) <= 1


@pytest.mark.slow
def test_a_gross_energy_among_several_species():
    frames = []
    rng = np.random.default_rng(1)
    for k in range(60):
        names = ["Fe", "O"] if k % 3 else ["Fe", "Fe"]
        frames.append(Frame([[0.0, 0, 0], [rng.uniform(2, 3), 0, 0]], [30.0] * 3, False, names))
    energies = np.array([(f.positions[1, 0] - 2.4) ** 2 - 4 * f.species_names.count("O") for f in frames])
    usual = make_table(frames, energies, None, fit_basis(frames, PowerSpectrum(("Fe", "O")), 0, None)).above
    for gross in (1e9, -1e9):
        energies[7] = gross
        table = make_table(frames, energies, None, fit_basis(frames, PowerSpectrum(("Fe", "O")), 0, None))
        others = np.arange(60) != 7
        np.testing.assert_allclose(table.above[others], usual[others], atol=0.1)
        assert audit(DataSet(frames, energies)).suspicious.tolist() == [7]


def test_energies_alone():
    data = labeled(200)
    energies = data.energies.copy()
    energies[11] -= 2 * 0.3
    found = audit(DataSet(data.frames, energies), descriptor=SMALL)
    assert int(found.scores.argmax()) == 11 and len(found.force_scores) == 0
    assert "no-forces" in [message.code for message in found.messages]


def test_progress_and_few_labels():
    steps = []
    found = audit(
        labeled(10), descriptor=SMALL, n_products=8, progress=lambda share, text: steps.append((share, text))
    )
    shares = [share for share, _ in steps]
    assert shares == sorted(shares) and shares[-1] == 1 and all(text for _, text in steps)
    assert "few-labels" in [message.code for message in found.messages]


def test_what_cannot_be_audited():
    data = labeled(12)
    with pytest.raises(ValueError, match="the set has no energies"):
        audit(DataSet(data.frames))
    with pytest.raises(ValueError, match="at least 10 configurations, found 9"):
        audit(data.subset(np.arange(9)))


@pytest.mark.parametrize("window", [1, 5, 101])
def test_typical_values_are_medians_of_neighbors_in_order(window):
    rng = np.random.default_rng(0)
    values, keys = rng.random(31), rng.random(31)
    found = typical_values(values, keys, window)
    order = np.argsort(keys)
    for place in (15, 16):
        half = min(window, 30) // 2
        near = values[order][np.clip(np.arange(place - half, place + half + 1), 0, 30)]
        assert found[order[place]] == pytest.approx(np.median(near))
