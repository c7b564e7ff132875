"""Scores against their definitions, written out naively, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose

from phaseseg.metrics import (
    class_scores,
    confusion_matrix,
    fit_temperature,
    reliability,
    roc_curve,
    spread,
)

ROUNDING = 1e-10

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)
# Few distinct scores, so that ties are common.
scored = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda k: k / 8)), max_size=40)


def split(items: list[tuple]) -> tuple[list, list]:
    return [one for one, _ in items], [two for _, two in items]


# -------------------------------------------------------------------------------------- classes


@given(pairs)
def test_confusion_matrix_counts_pairs(items: list[tuple[int, int]]) -> None:
    counts = confusion_matrix(*split(items), 4)
    assert counts.shape == (4, 4)
    for row in range(4):
        for column in range(4):
            assert counts[row, column] == items.count((row, column))


@given(pairs)
def test_class_scores_are_their_definitions(items: list[tuple[int, int]]) -> None:
    scores = class_scores(confusion_matrix(*split(items), 4))
    f1 = []
    for k in range(4):
        hits = items.count((k, k))
        missed = sum(one == k != two for one, two in items)
        wrong = sum(two == k != one for one, two in items)
        found = [scores.precision[k], scores.recall[k], scores.f1[k]]
        if hits + missed + wrong == 0:
            assert np.isnan(found).all()
            continue
        f1.append(2 * hits / (2 * hits + missed + wrong))
        expected = [hits / max(hits + wrong, 1), hits / max(hits + missed, 1), f1[-1]]
        assert_allclose(found, expected, rtol=ROUNDING)
        assert scores.support[k] == hits + missed
    if not items:
        assert math.isnan(scores.macro_f1) and math.isnan(scores.micro_f1) and math.isnan(scores.accuracy)
        return
    assert_allclose(scores.macro_f1, np.mean(f1), rtol=ROUNDING)
    accuracy = sum(one == two for one, two in items) / len(items)
    assert_allclose([scores.micro_f1, scores.accuracy], accuracy, rtol=ROUNDING)


@given(pairs, st.permutations(range(4)))
def test_names_of_classes_do_not_matter(items: list[tuple[int, int]], order: list[int]) -> None:
    scores = class_scores(confusion_matrix(*split(items), 4))
    renamed = class_scores(confusion_matrix(*split([(order[a], order[b]) for a, b in items]), 4))
    assert_allclose(renamed.f1[order], scores.f1, rtol=ROUNDING)
    assert_allclose(renamed.macro_f1, scores.macro_f1, rtol=ROUNDING)


def test_classes_like_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    reference = rng.choice(3, 2000, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(2000) < 0.8, reference, rng.integers(0, 3, 2000))
    counts = confusion_matrix(reference, predicted, 3)
    assert np.array_equal(counts, sklearn.confusion_matrix(reference, predicted))
    scores = class_scores(counts)
    expected = sklearn.precision_recall_fscore_support(reference, predicted)
    found = (scores.precision, scores.recall, scores.f1, scores.support)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=ROUNDING)
    for average in ("macro", "micro"):
        value = sklearn.f1_score(reference, predicted, average=average)
        assert_allclose(getattr(scores, f"{average}_f1"), value, rtol=ROUNDING)
    assert_allclose(scores.accuracy, sklearn.accuracy_score(reference, predicted), rtol=ROUNDING)


def test_a_class_never_found_or_never_there_scores_zero() -> None:
    scores = class_scores([[5, 2, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    assert scores.f1[1:3].tolist() == scores.precision[1:3].tolist() == scores.recall[1:3].tolist() == [0, 0]
    assert np.isnan(scores.f1[3])
    assert_allclose(scores.macro_f1, (10 / 15 + 0 + 0) / 3, rtol=ROUNDING)


def test_bad_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted must lie from 0 to 1, found 0 to 2"):
        confusion_matrix([0, 1], [0, 2], 2)
    with pytest.raises(ValueError, match="reference must lie from 0 to 1, found -1 to 1"):
        confusion_matrix([-1, 1], [0, 1], 2)
    with pytest.raises(ValueError, match="reference must be integers"):
        confusion_matrix([0.0, 1.0], [0, 1], 2)
    with pytest.raises(ValueError, match="one length, found 2 and 3"):
        confusion_matrix([0, 1], [0, 1, 1], 2)
    with pytest.raises(ValueError, match="must be square"):
        class_scores([[1, 2]])


# ------------------------------------------------------------------------------------------ ROC


@given(scored)
def test_auc_is_the_share_of_pairs_in_order(items: list[tuple[bool, float]]) -> None:
    high = [score for positive, score in items if positive]
    low = [score for positive, score in items if not positive]
    curve = roc_curve(*split(items))
    if not high or not low:
        assert math.isnan(curve.auc)
        return
    expected = np.mean([(a > b) + (a == b) / 2 for a in high for b in low])
    assert_allclose(curve.auc, expected, rtol=ROUNDING, atol=ROUNDING)
    for k, threshold in enumerate(curve.threshold):
        assert_allclose(curve.true_positive_rate[k], np.mean(np.array(high) >= threshold), rtol=ROUNDING)
        assert_allclose(curve.false_positive_rate[k], np.mean(np.array(low) >= threshold), rtol=ROUNDING)
    assert len(curve.threshold) == len(set(high + low)) + 1
    assert curve.true_positive_rate[-1] == curve.false_positive_rate[-1] == 1


@given(scored)
def test_auc_of_the_opposite(items: list[tuple[bool, float]]) -> None:
    reference, score = split(items)
    auc = roc_curve(reference, score).auc
    opposite = roc_curve(reference, [-one for one in score]).auc
    assert math.isnan(auc) if math.isnan(opposite) else math.isclose(auc + opposite, 1)


def test_roc_like_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    reference = rng.random(3000) < 0.3
    score = np.round(rng.normal(size=3000) + reference, 1)
    curve = roc_curve(reference, score)
    fpr, tpr, thresholds = sklearn.roc_curve(reference, score, drop_intermediate=False)
    assert_allclose(curve.false_positive_rate, fpr, rtol=ROUNDING)
    assert_allclose(curve.true_positive_rate, tpr, rtol=ROUNDING)
    assert_allclose(curve.threshold[1:], thresholds[1:], rtol=ROUNDING)
    assert_allclose(curve.auc, sklearn.roc_auc_score(reference, score), rtol=ROUNDING)


def test_auc_of_many_items_is_exact() -> None:
    """A million items: counts of pairs stay whole."""
    reference = np.arange(1_000_001) % 2 == 0
    assert roc_curve(reference, np.zeros(1_000_001)).auc == 0.5
    assert roc_curve(reference, reference).auc == 1.0


def test_roc_without_one_kind() -> None:
    curve = roc_curve([1, 1], [0.2, 0.7])
    assert math.isnan(curve.auc) and np.isnan(curve.false_positive_rate).all()
    assert curve.true_positive_rate.tolist() == [0, 0.5, 1]
    assert math.isnan(roc_curve([], []).auc)


def test_infinite_scores_are_scores_and_nan_is_not() -> None:
    assert roc_curve([0, 1, 1], [-np.inf, 0.0, np.inf]).auc == 1
    with pytest.raises(ValueError, match="score holds 1 values that are not numbers"):
        roc_curve([0, 1], [np.nan, 1])
    with pytest.raises(ValueError, match="reference must lie from 0 to 1"):
        roc_curve([0, 2], [0.5, 1])


# ---------------------------------------------------------------------------------- calibration


@given(scored, st.integers(1, 20))
def test_reliability_is_its_definition(items: list[tuple[bool, float]], n_bins: int) -> None:
    result = reliability(*split(items), n_bins=n_bins)
    assert result.count.sum() == len(items)
    error = 0.0
    for k in range(n_bins):
        last = k == n_bins - 1
        inside = [
            (positive, p)
            for positive, p in items
            if k / n_bins <= p and (p < (k + 1) / n_bins or (last and p == 1))
        ]
        assert result.count[k] == len(inside)
        if not inside:
            assert np.isnan(result.frequency[k]) and np.isnan(result.mean_probability[k])
            continue
        frequency, mean = np.mean(inside, axis=0)
        assert_allclose([result.frequency[k], result.mean_probability[k]], [frequency, mean], rtol=ROUNDING)
        error += len(inside) / len(items) * abs(frequency - mean)
    if items:
        assert_allclose(result.expected_calibration_error, error, rtol=ROUNDING, atol=ROUNDING)
    else:
        assert math.isnan(result.expected_calibration_error)


def test_true_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    probability = rng.random(400_000)
    reference = rng.random(400_000) < probability
    assert reliability(reference, probability).expected_calibration_error < 0.005
    # p -> p^2 is off by the mean of p - p^2, which is 1/6.
    assert abs(reliability(reference, probability**2).expected_calibration_error - 1 / 6) < 0.005


def test_bad_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0 to 1, found 0\.5 to 1\.5"):
        reliability([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="1 values that are not numbers"):
        reliability([0, 1], [0.5, np.nan])
    with pytest.raises(ValueError, match="n_bins must be at least 1"):
        reliability([0, 1], [0.5, 1], n_bins=0)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 40.0])
def test_temperature_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(scale=3.0, size=200_000)
    reference = rng.random(200_000) < 1 / (1 + np.exp(-true))
    assert_allclose(fit_temperature(true * temperature, reference), temperature, rtol=0.03)


def loss(logit: np.ndarray, reference: np.ndarray, temperature: float) -> float:
    return float(np.mean(np.logaddexp(0, np.where(reference, -1, 1) * logit / temperature)))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(-1e3, 1e3)), min_size=1, max_size=30), st.floats(-4.6, 4.6)
)
def test_no_temperature_is_better(items: list[tuple[bool, float]], other: float) -> None:
    reference, logit = map(np.array, split(items))
    best = fit_temperature(logit, reference)
    assert 0.01 <= best <= 100
    for temperature in (np.exp(other), best * 1.01, best / 1.01):
        if 0.01 <= temperature <= 100:
            expected = loss(logit, reference, temperature)
            assert loss(logit, reference, best) <= expected * (1 + 1e-9) + 1e-12


def test_temperature_at_the_ends() -> None:
    assert fit_temperature([3.0, -1.0, 2.0], [1, 0, 1]) == 0.01  # always right
    assert fit_temperature([3.0, 1.0], [1, 1]) == 0.01
    assert fit_temperature([3.0, -1.0], [0, 1]) == 100  # always wrong
    assert fit_temperature([2.0, 2.0], [0, 1]) == 100  # tells nothing
    assert fit_temperature([0.0, 0.0], [0, 1]) == fit_temperature([5e-324], [0]) == 1
    for size in (1e-300, 1e300):
        assert 0.01 <= fit_temperature(np.array([2.0, 2.0, 2.0, -2.0]) * size, [1, 1, 0, 0]) <= 100
    with pytest.raises(ValueError, match="no logits"):
        fit_temperature([], [])
    with pytest.raises(ValueError, match="not numbers"):
        fit_temperature([np.inf], [1])


# --------------------------------------------------------------------------------------- spread


def test_spread_is_student_s_interval() -> None:
    """t(0.975; 2) = 4.30265 and t(0.95; 4) = 2.1318, from the tables."""
    result = spread([1.0, 2.0, 3.0])
    assert (result.n, result.mean, result.deviation) == (3, 2.0, 1.0)
    assert_allclose([result.low, result.high], 2 + np.array([-1, 1]) * 4.30265 / 3**0.5, atol=1e-5)
    result = spread([0.0, 0.0, 1.0, 2.0, 2.0], confidence=0.9)
    assert_allclose(result.high - result.mean, 2.1318 * (4 / 4) ** 0.5 / 5**0.5, rtol=1e-4)


def test_spread_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    results = [spread(rng.normal(size=4), confidence=0.8) for _ in range(4000)]
    assert abs(np.mean([one.low <= 0 <= one.high for one in results]) - 0.8) < 0.02


def test_spread_of_few_values() -> None:
    one = spread([0.5])
    assert (one.n, one.mean) == (1, 0.5) and np.isnan([one.deviation, one.low, one.high]).all()
    none = spread([])
    assert none.n == 0 and np.isnan([none.mean, none.deviation, none.low, none.high]).all()
    assert spread([1.0, np.nan, 3.0]) == spread([1.0, 3.0])
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        spread([1.0], confidence=95)
