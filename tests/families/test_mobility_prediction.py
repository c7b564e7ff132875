"""Predictions of mobility: what is refused, what is warned of, and how an answer is read."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mobility_samples import liquid, random_checkpoint
from phaseseg import load_model, predict
from phaseseg.checkpoint import Checkpoint, CheckpointError
from phaseseg.families.mobility import predictors
from phaseseg.families.mobility.model import top_share
from phaseseg.families.mobility.predictors import Prediction


@pytest.fixture(scope="module")
def model():
    return load_model(random_checkpoint(2))


def codes(fields):
    return [message.code for message in fields.messages]


def test_one_type_is_refused(model):
    frame = liquid(125)
    for species, words in ((0, "no particle is B"), (1, "every particle is B")):
        with pytest.raises(ValueError, match=words) as found:
            predict(frame.replace(species=np.full(125, species)), model)
        assert "Name the species B with the option b." in str(found.value)


def test_other_species_are_refused_unless_b_is_named(model):
    frame = liquid(125).replace(species_names=("Ni", "P"))
    with pytest.raises(ValueError, match=r"random-v1 does not know Ni, P, only A and B\."):
        predict(frame, model)
    expected = predict(liquid(125), model)
    assert_array_equal(predict(frame, model, b="P")["propensity"], expected["propensity"])
    with pytest.raises(ValueError, match="no particle is X"):
        predict(frame, model, b="X")


def test_planes_and_units_are_refused(model):
    frame = liquid(125)
    flat = frame.replace(positions=frame.positions * [1, 1, 0])
    with pytest.raises(ValueError, match="lie in a plane"):
        predict(flat, model)
    with pytest.raises(ValueError, match="read it with units='lj'"):
        predict(frame.replace(units="metal"), model)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (liquid(125, density=1.0), "there are 1 particles per σ^3 where the training data have 1.2"),
        (liquid(125, share=0.5), "0.504 of the particles are B, but 0.2 in the training data"),
        (liquid(125, info={"temperature": 0.7}), "the temperature is 0.7, but 0.44 in the training data"),
        (liquid(125, pbc=False), "the cell is not periodic along all axes"),
    ],
)
def test_other_states_are_warned_of(model, frame, words):
    fields = predict(frame, model)
    assert codes(fields)[-1] == "outside-training" and words in fields.messages[-1]
    assert "outside-training" not in codes(predict(liquid(125, info={"temperature": 0.44}), model))


def test_a_checkpoint_that_was_trained_there_is_named():
    """One of the same kind, which needs the same structure; none if there is none at this temperature."""
    named = "mobility/net-ka3d-t064-minimized-v1"
    for temperature, expected in ((0.44, []), (0.64, [named]), (0.55, [])):
        fields = predict(liquid(125, info={"temperature": temperature}), "mobility/net-ka3d-minimized-v1")
        found = [one for one in fields.messages if one.code == "other-checkpoint"]
        assert [one.partition(" ")[0] for one in found] == expected
    assert "outside-training" not in codes(predict(liquid(125, info={"temperature": 0.64}), named))
    dilute = liquid(125, density=1.0, info={"temperature": 0.64})
    assert "other-checkpoint" not in codes(predict(dilute, "mobility/net-ka3d-minimized-v1"))
    warned = codes(predict(liquid(125, info={"temperature": 0.64}), "mobility/bapst-ka3d-v1"))
    assert "outside-training" in warned and "other-checkpoint" not in warned


def test_options_out_of_range_are_refused(model, tmp_path):
    for options, words in (
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"mobile_share": 1.0}, "mobile_share must be a share between 0 and 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"b": ()}, "b must name one species"),
        ({"potential": tmp_path / "none.json"}, "there is no such file"),
    ):
        with pytest.raises(ValueError, match=words):
            model.rule(**options)


def test_mobile_particles_are_the_top_of_their_type(model):
    frame = liquid(125)
    output = model.run(frame)
    for share in (0.04, 0.3):
        fields = model.fields(frame, output, mobile_share=share)
        for code in (0, 1):
            own = frame.species == code
            mobile, values = fields["mobile"][own] == 1, fields["propensity"][own]
            assert mobile.sum() == max(1, round(share * own.sum()))
            assert values[mobile].min() >= values[~mobile].max()
    assert top_share(np.ones(4), 0.5).tolist() == [1, 1, 0, 0]


def test_each_of_several_quantities_can_be_asked_for():
    targets = [
        {"name": name, "time": time, "types": ["A", "B"]}
        for name, time in (("order", None), ("propensity", 1.0), ("propensity", 10.0))
    ]
    model, frame = load_model(random_checkpoint(2, targets=targets)), liquid(125)
    output = model.run(frame)
    for number, options in enumerate(({}, {"target": "propensity"}, {"target": "propensity", "time": 10.0})):
        fields = model.fields(frame, output, **options)
        assert_array_equal(fields["propensity"], output.mean[number])
        assert ("propensity_by_time" in fields) == (number > 0)
        assert targets[number]["name"] in fields.messages[0]
    assert fields["propensity_by_time"].columns["time"].tolist() == [1, 10]
    with pytest.raises(ValueError, match=r"does not predict 'energy', but order, propensity\."):
        model.rule(target="energy")
    with pytest.raises(ValueError, match="no prediction for time 1; its times are not stated"):
        model.rule(target="order", time=1.0)


class NeedsCages:
    """A predictor that sees cages, and gives their variance."""

    needs, symmetries, halo = frozenset({"inherent", "cage"}), frozenset({"translation"}), np.inf

    def __init__(self, checkpoint, members):
        self.members = members

    def make(self, kind):
        def apply(seen, progress):
            progress(0.5, "half of it")
            mean = np.stack([seen.structure.cage.variance]).astype(np.float32)
            return Prediction(mean, np.zeros_like(mean))

        return apply


@pytest.fixture
def with_cages(monkeypatch):
    monkeypatch.setitem(predictors.PREDICTORS, "cages", "test_mobility_prediction:NeedsCages")
    monkeypatch.setattr(predictors, "load", lambda reference: NeedsCages)
    config = {**random_checkpoint().config, "method": "cages"}
    made = random_checkpoint()
    return load_model(Checkpoint("mobility", "mobility/cages-v1", config, made.weights, units="lj",
                                 ranges=made.ranges))  # fmt: skip


@pytest.mark.slow
def test_structures_are_found_for_predictors_that_need_them(with_cages):
    frame, seen = liquid(125), []
    with pytest.raises(ValueError, match="the temperature is not in the frame"):
        predict(frame, with_cages)
    fields = predict(frame, with_cages, temperature=0.44, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] == 1
    for name in ("inherent_displacement", "cage_variance"):
        assert fields[name].shape == (125,) and (fields[name] >= 0).all()
    np.testing.assert_allclose(fields["propensity"], fields["cage_variance"], rtol=1e-6)
    again = predict(frame, with_cages, temperature=0.44, seed=1)
    assert (again["cage_variance"] != fields["cage_variance"]).any()
    assert_array_equal(again["inherent_displacement"], fields["inherent_displacement"])
    assert not with_cages.symmetries and with_cages.halo == np.inf


def test_a_potential_for_other_species(with_cages, tmp_path):
    """The table may have the names A and B, or those of the frame."""
    path = tmp_path / "mine.txt"
    path.write_text("A A 1 1\nA B 1.5 0.8\nB B 0.5 0.88\n", "utf-8")
    frame = liquid(125).replace(species_names=("Ni", "P"))
    options = {"temperature": 0.44, "b": "P"}
    plain = predict(frame, with_cages, **options)
    other = predict(frame, with_cages, potential=path, **options)
    np.testing.assert_allclose(other["inherent_displacement"], plain["inherent_displacement"], atol=1e-2)
    path.write_text("A A 1 1\n", "utf-8")
    with pytest.raises(ValueError, match="no entry for Ni, P; its species are A"):
        predict(frame, with_cages, potential=path, **options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "the method 'magic' is unknown"),
        ({"targets": []}, "it has no target"),
        ({"targets": [{"name": "propensity", "types": ["C"]}]}, "the types of a target cannot be"),
        ({"targets": [{"name": "propensity", "types": ["A"], "time": -1}]}, "time must be positive"),
        ({"targets": [{"name": "p", "types": ["A"], "calibration": [[1]]}]}, "a factor and a floor"),
        ({"species": ["A", "A"]}, "species must be two names"),
        ({"standard": {"shift": [[0, 0]], "scale": [[1, 0]]}}, "scale must be positive"),
        ({"standard": {"shift": [[0, 0], [0, 0]], "scale": [[1, 1]]}}, "do not fit the targets"),
        ({"potential": {"species": ["A"]}}, "a potential has the entries"),
    ],
)
def test_damaged_settings_are_refused_in_one_sentence(change, words):
    made = random_checkpoint()
    with pytest.raises(CheckpointError, match=words) as found:
        load_model(
            Checkpoint("mobility", "mobility/bad-v1", made.config | change, made.weights, ranges=made.ranges,
                       units="lj")
        )  # fmt: skip
    assert "\n" not in str(found.value)


def test_weights_that_overflow_are_refused():
    made = random_checkpoint()
    weights = {name: values * np.float32(1e9) for name, values in made.weights.items()}
    large = Checkpoint("mobility", "mobility/large-v1", made.config, weights, ranges=made.ranges, units="lj")
    with pytest.raises(ValueError, match="numbers that are not finite"):
        predict(liquid(125), large)
