"""The OVITO face of mobility: outputs, colors, tables, cancellation, foreign checkpoints, bad input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from traits.api import TraitError

from faces.ovito_data import collection_of, evaluate
from mobility_samples import CHECKPOINT, DEEPMIND, deepmind_system, liquid, needs
from ovito_phaseseg import Mobility
from phaseseg import load_model, predict
from phaseseg.specs import FIELD_SPECS, FLAG_COLORS

ATOM = ("propensity", "propensity_uncertainty", "mobile")


@pytest.fixture
def model(mobility_file):
    return mobility_file


def apply(data, model, **parameters):
    return evaluate(data, Mobility(model_file=model, **parameters))


def test_outputs_are_those_of_the_library(model):
    frame = liquid(300)
    data, expected = apply(collection_of(frame), model), predict(frame, model)
    for name in ATOM:
        np.testing.assert_array_equal(data.particles[FIELD_SPECS[name].title], expected[name], name)
    assert data.particles["Mobile"].dtype == np.int32
    assert "Color" not in apply(collection_of(frame), model, color_by="nothing").particles
    for name, value in expected.level("frame").items():
        assert data.attributes["Mobility." + name] == value, name
    assert data.attributes["Mobility.messages"] == " ".join(expected.messages)
    assert data.attributes["Mobility.model_sha256"] == load_model(model).checkpoint.hash
    histogram, correlation = data.tables["mobility-histogram"], data.tables["mobility-correlation"]
    assert histogram.y.component_names == ("A", "B")
    assert correlation.y.component_names == ("all", "A", "B")
    for part in ("A", "B"):
        column = expected["mobility_histogram"].columns[f"{part} density (σ^-1)"]
        np.testing.assert_array_equal(histogram.y[..., "AB".index(part)], column)


def test_the_share_of_mobile_particles(model):
    frame = liquid(300)
    data = apply(collection_of(frame), model, mobile_share=0.25)
    mobile, values = data.particles["Mobile"][...] > 0, data.particles["Propensity"][...]
    assert data.attributes["Mobility.n_mobile"] == mobile.sum() == 75
    for code in (0, 1):
        own = frame.species == code
        assert values[own & mobile].min() >= values[own & ~mobile].max()


def test_colors_are_percentiles_within_the_type(model):
    frame = liquid(300)
    values = predict(frame, model)
    for color_by, name in {None: "propensity", "uncertainty": "propensity_uncertainty"}.items():
        options = {} if color_by is None else {"color_by": color_by}
        colors = apply(collection_of(frame), model, **options).particles.colors[...]
        for code in (0, 1):
            own = np.flatnonzero(frame.species == code)
            shade = colors[own[np.argsort(values[name][own])], 0]
            assert (np.diff(shade) >= 0).all() and shade[0] < 0.05 and shade[-1] > 0.95, color_by
    colors = apply(collection_of(frame), model, color_by="mobile").particles.colors[...]
    np.testing.assert_allclose(colors, np.array(FLAG_COLORS)[values["mobile"]], atol=1e-6)
    # This network does not minimize, so there is no displacement to show.
    assert "Color" not in apply(collection_of(frame), model, color_by="displacement").particles


@pytest.mark.slow
def test_a_checkpoint_that_minimizes_shows_the_way_to_the_inherent_structure():
    frame, name = liquid(512), "mobility/net-ka3d-minimized-v1"
    expected = predict(frame, name)
    data = evaluate(collection_of(frame), Mobility(model=name, color_by="displacement"))
    for field in (*ATOM, "inherent_displacement"):
        np.testing.assert_array_equal(data.particles[FIELD_SPECS[field].title], expected[field], field)
    assert "Cage Variance" not in data.particles and expected["inherent_displacement"].min() > 0
    own = np.flatnonzero(frame.species == 0)
    order = own[np.argsort(expected["inherent_displacement"][own])]
    assert (np.diff(data.particles.colors[...][order, 0]) >= 0).all()


def test_the_temperature_of_the_file_is_known(model):
    data = collection_of(liquid(300))
    data.attributes["temperature"] = 0.7
    assert "the temperature is 0.7" in apply(data, model).attributes["Mobility.messages"]
    assert "temperature" not in apply(data, model, temperature=0.44).attributes["Mobility.messages"]


@needs(DEEPMIND)
def test_the_checkpoint_of_deepmind_is_opened_by_its_path():
    frame = deepmind_system()
    expected = np.load(DEEPMIND / "predictions_0_2047.npy").ravel()
    data = apply(collection_of(frame), f"{CHECKPOINT}.index")
    np.testing.assert_allclose(data.particles["Propensity"][:2048], expected, atol=1e-5)
    assert "not trained on particles B" in data.attributes["Mobility.messages"]
    assert data.tables["mobility-histogram"].y.component_count <= 1


def test_bad_input(model, glass_file):
    frame = liquid(300)
    data = collection_of(frame)
    for name, value in {"mobile_share": 1.0, "seed": -1, "color_by": "phase", "units": "real"}.items():
        with pytest.raises(TraitError, match=name):
            Mobility(**{name: value})
    with pytest.raises(TypeError, match="Mobility has no parameter share"):
        Mobility(share=0.4)
    start = "^Mobility: "
    with pytest.raises(ValueError, match=start + ".*of the family liquid_glass, not mobility"):
        apply(data, glass_file)
    with pytest.raises(ValueError, match=start + ".*units 'metal'"):
        apply(data, model, units="metal")
    with pytest.raises(ValueError, match=start + "no particle is Xx"):
        apply(data, model, b="Xx")
    with pytest.raises(ValueError, match=start + ".*no prediction for time 3"):
        apply(data, model, time=3.0)
    with pytest.raises(ValueError, match=start + ".*every particle is B"):
        apply(data, model, b="A,B")
    with pytest.raises(ValueError, match=start + ".*[Nn]o such file|cannot be read|does not exist"):
        apply(data, model, potential="nowhere.json")
