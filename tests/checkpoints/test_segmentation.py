"""The default network of two liquids is as good as its card says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from phaseseg import load_model, predict
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.metrics import class_scores, confusion_matrix, reliability, roc_curve


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_the_default_is_as_good_as_its_card_says(large, temperature):
    """The aims on a cell of 33,280 atoms and of a seed that the network was not trained on."""
    frame = large[temperature]
    model = load_model("segmentation/gat-v1")
    reference = label_frame(frame, model.label_rule)["interface_distance"]
    scores = model.score(frame)
    fields = model.fields(frame, scores)
    found = fields["interface_distance"]
    for width, macro, boundary in ((2.7, 0.97, 0.945), (0.68, 0.92, 0.79)):
        classes = [
            np.where(np.abs(d) <= width / 2, 2, np.where(d >= 0, 1, 0)).astype(np.int64)
            for d in (reference, found)
        ]
        result = class_scores(confusion_matrix(*classes, 3))
        assert result.macro_f1 >= macro and result.f1[2] >= boundary, (width, result)
    rich = reference >= 0
    assert roc_curve(rich, scores.score).auc >= 0.9995
    assert reliability(rich, scores.probability).expected_calibration_error <= 0.02
    codes = {message.code for message in fields.messages}
    assert not codes & {"outside-training", "free-surface"}, (
        "the test cell is inside of the range of validity"
    )


def test_one_liquid_is_one_phase(melt_data):
    for name in ("control_20000K", "control_oxidized_4000K"):
        for frame in melt_data(name, frames=slice(None, None, 5)):
            fields = predict(frame)
            assert fields["n_phases"] == 1, name
            assert_array_equal(fields["phase"], 0)
