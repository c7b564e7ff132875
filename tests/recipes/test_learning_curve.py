"""The learning curve: what is trained on, what is tested, and how often."""

import numpy as np
import pytest

from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.recipes.segmentation.learning_curve import figure, learning_curve, summary


@pytest.mark.slow
def test_a_learning_curve_is_drawn_for_both_ways_to_choose(make_checkpoint, small):
    pool, asked = small[3000][:4] + small[4000][:2], []

    def fit(frames, seed):
        asked.append((seed, len(frames)))
        return SegmentationModel(make_checkpoint(n_members=2, cut=0.3 + 0.01 * len(frames)))

    table = learning_curve(
        pool, {"a": small[3000][5:6], "b": small[4000][5:6]}, fit, begin=[0], add=2, rounds=2, seeds=(0, 1)
    )
    rows = list(table.rows())
    assert {(row["choice"], row["frames"]) for row in rows} == {
        (how, n) for how in ("selected", "random") for n in (1, 3, 5)
    }
    assert asked == [(seed, n) for seed in (0, 1) for n in (1, 3, 5, 3, 5)]
    mean = next(row for row in rows if row["test"] == "all")
    parts = [row["two-class error"] for row in rows[:2]]
    assert mean["two-class error"] == pytest.approx(np.mean(parts))
    assert len(summary(table)) == 2 + 3 * 3 and len(figure(table).axes) == 3
    with pytest.raises(ValueError, match="the pool has only 6"):
        learning_curve(pool, {}, fit, begin=[0], add=3, rounds=2)
