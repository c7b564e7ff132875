"""Large frames are described in layers: the same rows as of the whole frame, for any cell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from environment_samples import fitted_checkpoint, run_of_crystals
from phaseseg import load_model
from phaseseg.families.environments import learn, parts
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.learn import fit_environments
from phaseseg.families.environments.parts import layers, parts_of_rows
from phaseseg.families.environments.sources import ArrayRows
from phaseseg.testing import AWKWARD, assert_same, repeated, translated

KINDS = (
    "orthogonal", "triclinic", "strongly skewed", "left-handed", "open", "open along c", "tiny",
    "triclinic, open along b", "on the upper bound", "float noise", "shifted origin, open", "2D",
)  # fmt: skip
SPECTRUM = PowerSpectrum(("Fe", "O"), cutoff=3.0, n_max=2, l_max=2)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_layers_are_those_of_the_frame(kind):
    frame = repeated(AWKWARD[kind](), (3, 1, 1)) if AWKWARD[kind]().pbc[0] else AWKWARD[kind]()
    expected = SPECTRUM(frame)
    found = np.full(expected.shape, np.nan)
    n_parts = 0
    for atoms, rows in parts_of_rows(SPECTRUM, frame, most=expected.size // 4):
        assert np.isnan(found[atoms]).all() and len(atoms) == len(np.unique(atoms))
        found[atoms] = rows
        n_parts += 1
    assert n_parts > 1 or kind in ("tiny", "open", "shifted origin, open")
    assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_layers_take_every_atom_once(axis):
    frame = translated(AWKWARD["triclinic"](), [100.0, -37.0, 8.0])
    seen = np.concatenate([atoms[own] for _, own, atoms in layers(frame, 2.0, 3, axis)])
    assert_array_equal(np.sort(seen), np.arange(len(frame)))
    for part, own, atoms in layers(frame, 2.0, 3, axis):
        assert not part.pbc[axis] and len(part) == len(own) == len(atoms)
        assert (part.species == frame.species[atoms]).all()


def test_small_frames_and_other_descriptors_are_not_cut():
    frame = AWKWARD["orthogonal"]().replace(fields={"x": np.zeros(120)})
    for descriptor, most in ((SPECTRUM, None), (ArrayRows("x"), 10), (PowerSpectrum(("Fe", "O"), 12.0), 10)):
        ((atoms, rows),) = parts_of_rows(descriptor, frame, most=most)
        assert_array_equal(atoms, np.arange(120))
        assert_array_equal(rows, descriptor(frame))


def test_a_model_gives_the_same_for_a_frame_in_layers(monkeypatch):
    frames, _ = run_of_crystals()
    frame = repeated(frames[0], (4, 1, 1))
    model = load_model(fitted_checkpoint())
    expected = model.predict(frame)
    seen = []
    monkeypatch.setattr(parts, "MOST_NUMBERS", 50 * 64)
    real = PowerSpectrum.__call__
    monkeypatch.setattr(PowerSpectrum, "__call__", lambda self, f: seen.append(len(f)) or real(self, f))
    found = model.predict(frame)
    assert len(seen) > 1
    assert_array_equal(found["environment"], expected["environment"])
    assert_allclose(found["environment_distance"], expected["environment_distance"], rtol=1e-5)
    assert_allclose(found["outlier_score"], expected["outlier_score"], rtol=1e-4)


def test_a_fit_is_the_same_in_layers(monkeypatch):
    frames = [repeated(frame, (4, 1, 1)) for frame in run_of_crystals()[0][:3]]
    whole = fit_environments(frames, method="kmeans", n_clusters=3)
    monkeypatch.setattr(parts, "MOST_NUMBERS", 50 * 64)
    in_layers = fit_environments(frames, method="kmeans", n_clusters=3)
    assert in_layers.config["shares"] == whole.config["shares"]
    assert_allclose(
        in_layers.weights["clusters.points"].sum(axis=0),
        whole.weights["clusters.points"].sum(axis=0),
        atol=1e-4,
    )
    # A sample has the same atoms, too.
    monkeypatch.setattr(learn, "MOST_ATOMS", 150)
    one = fit_environments(frames, method="kmeans", n_clusters=3)
    monkeypatch.setattr(parts, "MOST_NUMBERS", 10**9)
    other = fit_environments(frames, method="kmeans", n_clusters=3)
    assert one.config["n_fitted"] == 150
    assert_allclose(
        one.weights["clusters.points"].sum(axis=0), other.weights["clusters.points"].sum(axis=0), atol=1e-4
    )
    assert_same(dict(one.config["options"]), dict(other.config["options"]))
