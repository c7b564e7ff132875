"""Choosing frames: greedy, diverse, uncertain, and the same every time."""

import numpy as np
import pytest

from phaseseg.families.segmentation.model import SegmentationModel
from phaseseg.families.segmentation.selection import (
    Candidate,
    choice_table,
    describe,
    select_frames,
)


def candidate(place, uncertainty=0.1, number=0):
    return Candidate("run", number, None, uncertainty, uncertainty, uncertainty, np.atleast_1d(float(place)))


def places(choices):
    return [float(one.candidate.descriptor[0]) for one in choices]


def test_equally_uncertain_frames_are_chosen_far_apart():
    pool = [candidate(place) for place in (0.0, 0.1, 0.2, 5.0, 9.0, 10.0)]
    choices = select_frames(pool, 3)
    assert places(choices) == [0.0, 10.0, 5.0]
    assert np.isinf(choices[0].distance) and [one.distance for one in choices[1:]] == [10.0, 5.0]


def test_the_most_uncertain_comes_first_and_weighs_more():
    pool = [candidate(0.0, 0.1), candidate(1.0, 0.9), candidate(3.0, 0.05), candidate(-1.5, 0.9)]
    assert places(select_frames(pool, 2)) == [1.0, -1.5]


def test_redundant_frames_come_last():
    pool = [candidate(0.0)] * 5 + [candidate(1.0), candidate(2.0)]
    assert sorted(places(select_frames(pool, 3))) == [0.0, 1.0, 2.0]


def test_what_is_labeled_already_is_kept_away_from():
    pool = [candidate(place) for place in (0.0, 4.0, 10.0)]
    assert places(select_frames(pool, 1, labeled=[candidate(0.2), candidate(9.0)])) == [4.0]


def test_ties_go_to_the_first_and_nothing_is_random():
    pool = [candidate(0.0, 0.0, number=k) for k in range(4)]
    assert [one.candidate.number for one in select_frames(pool, 4)] == [0, 1, 2, 3]
    rng = np.random.default_rng(0)
    pool = [candidate(rng.random(), rng.random(), k) for k in range(30)]
    first = [one.candidate.number for one in select_frames(pool, 10)]
    assert first == [one.candidate.number for one in select_frames(pool, 10)]
    assert len(set(first)) == 10
    assert first[:4] == [one.candidate.number for one in select_frames(pool, 4)]


@pytest.mark.parametrize(
    ("n", "words"), [(0, "at least 1"), (4, "4 frames were requested, but there are only 3 frames")]
)
def test_numbers_that_cannot_be_had(n, words):
    with pytest.raises(ValueError, match=words):
        select_frames([candidate(k) for k in range(3)], n)
    if n:
        with pytest.raises(ValueError, match="there is only 1 frame"):
            select_frames([candidate(0)], n)


def test_frames_are_described_by_their_atoms(make_checkpoint, small):
    model = SegmentationModel(make_checkpoint(n_members=3, cut=0.33))
    frame = small[3000][0]
    one = describe(frame, model, run="a", number=3)
    n = model.config.n_features
    assert one.descriptor.shape == (1 + 4 * n,) and (one.run, one.number) == ("a", 3)
    scores = model.score(frame)
    p = scores.probability.astype(float)
    assert one.descriptor[0] == (p >= 0.5).mean()
    assert one.disagreement == pytest.approx(2 * scores.uncertainty.mean())
    assert one.closeness == pytest.approx((4 * p * (1 - p)).mean())
    assert 0 < one.uncertainty < 1
    # The share of iron around an atom, of poor and of rich atoms.
    share = one.descriptor[1:].reshape(4, n)[:, len(frame.species_names) + 3]
    assert share[0] < share[2]
    order = np.random.default_rng(0).permutation(len(frame))
    again = describe(
        frame.replace(positions=frame.positions[order], species=frame.species[order], ids=None), model
    )
    assert again.descriptor == pytest.approx(one.descriptor, abs=1e-4)
    next_one = describe(small[3000][1], model)
    other = describe(frame.replace(species=np.full(len(frame), 3, dtype=np.int32)), model)  # oxygen alone
    near, far = (np.linalg.norm(one.descriptor - x.descriptor) for x in (next_one, other))
    assert far > 2 * near and other.descriptor[0] == 0 and not other.descriptor[1 + 2 * n :].any()


def test_the_table_of_a_choice():
    table = choice_table(select_frames([candidate(0.0, 0.2), candidate(1.0, 0.1)], 2))
    rows = list(table.rows())
    assert rows[0]["uncertainty"] == pytest.approx(0.2) and np.isnan(rows[0]["distance to nearest"])
    assert rows[1]["distance to nearest"] == 1.0 and np.isnan(rows[1]["timestep"])
