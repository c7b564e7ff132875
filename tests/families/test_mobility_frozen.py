"""A small checkpoint of every kind of message passing, as files of an earlier version: the outputs stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mobility_samples import liquid
from phaseseg import load_model, predict

FOLDER = Path(__file__).parents[1] / "checkpoints" / "recorded"
SMALL = {
    "small-messages": {},
    "small-messages-parallel": {"update": "parallel", "own_weights": True, "type_input": "one-hot"},
}
NAMES = ("propensity", "propensity_uncertainty", "mean_propensity_a", "mean_propensity_b")


@pytest.mark.parametrize("name", SMALL)
def test_a_frozen_checkpoint_gives_what_was_recorded(name):
    fields = predict(liquid(125), FOLDER / f"{name}.safetensors")
    with np.load(FOLDER / f"{name}.npz") as recorded:
        for key in NAMES:
            assert_allclose(fields[key], recorded[key], rtol=0, atol=1e-5, err_msg=key)
    config = load_model(FOLDER / f"{name}.safetensors").predictor.config
    assert all(getattr(config, key) == value for key, value in SMALL[name].items())
