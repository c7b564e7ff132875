"""Scores of a classification against reference labels: counts, F1, ROC, calibration, spread over runs.

Not a number (NaN) means that a score has no value: nothing was there to be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TEMPERATURES = (0.01, 100.0)  # between which a fitted temperature lies


# -------------------------------------------------------------------------------------- classes


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of `n_classes` classes; see `class_scores`.

    precision, recall, f1 : (n_classes,) float64
    support : (n_classes,) int64, how often each class occurs in the reference
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    macro_f1: float
    micro_f1: float
    accuracy: float


def confusion_matrix(reference: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count the pairs of reference and predicted class.

    Parameters
    ----------
    reference, predicted : (n,) integers from 0 to n_classes - 1

    Returns
    -------
    (n_classes, n_classes) int64
        Rows are the reference, columns the prediction.

    Examples
    --------
    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])
    """
    rows = _classes(reference, n_classes, "reference")
    columns = _classes(predicted, n_classes, "predicted")
    _same_length(rows, columns)
    return np.bincount(rows * n_classes + columns, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Precision, recall and F1 of each class, and their means.

    With TP, FP and FN the true positives, false positives and false negatives of a class:
    precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN). All three are NaN for
    a class that occurs neither in the reference nor in the prediction, and 0 where only their denominator
    is 0. The macro F1 is the mean over the classes that are not NaN; the micro F1 is the F1 of the TP, FP
    and FN summed over the classes, which with one class per atom equals the accuracy, the share of atoms on
    the diagonal. Without any atoms all are NaN.

    Parameters
    ----------
    confusion : (n_classes, n_classes) integers
        Rows are the reference, columns the prediction.

    Examples
    --------
    >>> scores = class_scores([[3, 1, 0], [1, 5, 0], [0, 0, 0]])
    >>> scores.f1.round(3).tolist(), round(scores.macro_f1, 3), scores.accuracy
    ([0.75, 0.833, nan], 0.792, 0.8)
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu":
        raise ValueError(
            f"A confusion matrix must be square and of integers, found {counts.shape} {counts.dtype}."
        )
    hits = np.diag(counts).astype(np.int64)
    support, found = counts.sum(axis=1, dtype=np.int64), counts.sum(axis=0, dtype=np.int64)
    occurs = support + found > 0

    def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        values = part / np.maximum(whole, 1)
        return np.where(occurs, values, np.nan)

    f1 = ratio(2 * hits, support + found)
    total = int(support.sum())
    accuracy = int(hits.sum()) / total if total else np.nan
    macro = float(f1[occurs].mean()) if occurs.any() else np.nan
    return ClassScores(ratio(hits, found), ratio(hits, support), f1, support, macro, accuracy, accuracy)


# ------------------------------------------------------------------------------------------ ROC


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic; see `roc_curve`.

    threshold : (n_points,) float64, descending from infinity
    false_positive_rate, true_positive_rate : (n_points,) float64
    auc : area under the curve
    """

    threshold: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    auc: float


def roc_curve(reference: ArrayLike, score: ArrayLike) -> RocCurve:
    """ROC curve and the area under it, in O(n log n).

    A point (FPR, TPR) for each distinct score t, where "score >= t" is called positive, after (0, 0) for
    t = infinity; items of equal score enter together. The area is that of the trapezoids below, which is the
    probability that a positive item scores above a negative one, ties counting one half. Without positive
    or without negative items the rate in question and the area are NaN.

    Parameters
    ----------
    reference : (n,) bool, or integers 0 and 1
    score : (n,) numbers, larger for positive; none may be NaN

    Examples
    --------
    >>> roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).auc
    0.75
    """
    positive, values = _binary(reference), _numbers(score, "score", finite=False)
    _same_length(positive, values)
    order = np.argsort(-values, kind="stable")
    values, positive = values[order], positive[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.zeros(0, int)
    above = np.concatenate([[0], np.cumsum(positive, dtype=np.int64)[last]])  # positive items so far
    below = np.concatenate([[0], last + 1]) - above
    n_positive, n_negative = int(above[-1]), int(below[-1])
    # Twice the area in units of one pair of items: whole numbers, exact up to 2e9 items of each kind.
    doubled = int(np.sum(np.diff(below) * (above[1:] + above[:-1])))
    auc = doubled / (2 * n_positive * n_negative) if n_positive and n_negative else np.nan
    return RocCurve(
        np.concatenate([[np.inf], values[last]]),
        below / n_negative if n_negative else np.full(len(below), np.nan),
        above / n_positive if n_positive else np.full(len(above), np.nan),
        auc,
    )


# ---------------------------------------------------------------------------------- calibration


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted probability and observed frequency; see `reliability`.

    edges : (n_bins + 1,) float64
    count : (n_bins,) int64
    mean_probability, frequency : (n_bins,) float64, NaN in empty bins
    expected_calibration_error : float
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    mean_probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    expected_calibration_error: float


def reliability(reference: ArrayLike, probability: ArrayLike, *, n_bins: int = 15) -> Reliability:
    """Bins of the predicted probability of the positive class, and the expected calibration error.

    Bin k of K holds k/K <= p < (k + 1)/K, the last also p = 1. In each, the mean of p stands against the
    frequency, the share of positive items. The error is sum_k n_k/n |frequency_k - mean p_k|; it compares
    the probability of the positive class over its whole range, not the probability of whichever class was
    chosen. NaN without items.

    Parameters
    ----------
    reference : (n,) bool, or integers 0 and 1
    probability : (n,) numbers from 0 to 1
    n_bins : K, of equal width

    Examples
    --------
    >>> reliability([0, 1, 1, 1], [0.5, 0.5, 1.0, 1.0]).expected_calibration_error
    0.0
    """
    positive, values = _binary(reference), _numbers(probability, "probability")
    _same_length(positive, values)
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, found {n_bins}.")
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"A probability must lie from 0 to 1, found {values.min()} to {values.max()}.")
    edges = np.arange(n_bins + 1) / n_bins
    index = np.minimum(np.searchsorted(edges, values, side="right") - 1, n_bins - 1)
    count = np.bincount(index, minlength=n_bins)
    filled = np.where(count > 0, count, np.nan)
    mean = np.bincount(index, weights=values, minlength=n_bins) / filled
    frequency = np.bincount(index, weights=positive, minlength=n_bins) / filled
    gap = np.abs(frequency - mean)[count > 0]
    error = float(np.sum(count[count > 0] * gap) / len(values)) if len(values) else np.nan
    return Reliability(edges, count, mean, frequency, error)


def fit_temperature(logit: ArrayLike, reference: ArrayLike) -> float:
    """Temperature T for which sigmoid(x / T) fits the reference best.

    T minimizes the mean of log(1 + exp(-s x / T)), s = 1 for positive and -1 for negative items. That is
    convex in 1/T, so there is one minimum; it is sought from T = 0.01 to 100. An end of this range is
    returned where the minimum lies beyond it: 0.01 where the sign of x is always right (of one class alone,
    too), 100 where x tells nothing or the opposite. 1 if all x are 0, where T makes no difference.

    Parameters
    ----------
    logit : (n,) finite numbers x: log(p / (1 - p)) of the positive class
    reference : (n,) bool, or integers 0 and 1; n > 0

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> round(fit_temperature([2.0, 2.0, 2.0, -2.0], [1, 1, 0, 0]), 3)  # three of four right: log 3 = 2 / T
    1.82
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    values, positive = _numbers(logit, "logit"), _binary(reference)
    _same_length(positive, values)
    if not len(values):
        raise ValueError("There are no logits to fit a temperature to.")
    size = np.abs(values).max()
    if size / _TEMPERATURES[1] == 0:  # 0, or so small that no temperature is known from it
        return 1.0
    scaled = values / size  # nothing overflows, and the slope is of the order of 1
    wrong_way = np.where(positive, -scaled, scaled)

    def slope(log_beta: float) -> float:
        """Derivative of the mean of log(1 + exp(beta wrong_way)) with beta = size / T."""
        return float(np.mean(wrong_way * expit(np.exp(log_beta) * wrong_way)))

    low, high = (np.log(size / temperature) for temperature in reversed(_TEMPERATURES))
    if slope(low) >= 0:
        return _TEMPERATURES[1]
    if slope(high) <= 0:
        return _TEMPERATURES[0]
    return float(size / np.exp(brentq(slope, low, high, xtol=1e-12)))


# --------------------------------------------------------------------------------------- spread


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a score over runs; see `spread`.

    n : number of values
    deviation : sample standard deviation (n - 1)
    low, high : confidence interval of the mean
    """

    n: int
    mean: float
    deviation: float
    low: float
    high: float


def spread(values: ArrayLike, *, confidence: float = 0.95) -> Spread:
    """Mean, standard deviation and confidence interval of the mean of independent values, as over seeds.

    The interval is mean ± t s / sqrt(n), with s the sample standard deviation and t the quantile of
    Student's distribution of n - 1 degrees of freedom. NaN values are left out and not counted in n. The
    deviation and the interval are NaN for n = 1, all are for n = 0.

    Examples
    --------
    >>> result = spread([0.95, 0.96, 0.97])
    >>> round(result.mean, 3), round(result.deviation, 3), round(result.low, 3), round(result.high, 3)
    (0.96, 0.01, 0.935, 0.985)
    """
    from scipy.special import stdtrit

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}.")
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[~np.isnan(array)]
    n = len(array)
    mean = float(array.mean()) if n else np.nan
    deviation = float(array.std(ddof=1)) if n > 1 else np.nan
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / np.sqrt(n) if n > 1 else np.nan
    return Spread(n, mean, deviation, float(mean - half), float(mean + half))


# --------------------------------------------------------------------------------------- checks


def _classes(values: ArrayLike, n_classes: int, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "biu"):
        raise ValueError(f"{what} must be integers of shape (n,), found {array.dtype} of {array.shape}.")
    array = array.astype(np.int64)
    if len(array) and not (array.min() >= 0 and array.max() < n_classes):
        raise ValueError(f"{what} must lie from 0 to {n_classes - 1}, found {array.min()} to {array.max()}.")
    return array


def _binary(values: ArrayLike) -> NDArray[np.bool_]:
    return _classes(values, 2, "reference").astype(bool)


def _numbers(values: ArrayLike, what: str, *, finite: bool = True) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} must have shape (n,), found {array.shape}.")
    bad = ~np.isfinite(array) if finite else np.isnan(array)
    if bad.any():
        raise ValueError(f"{what} holds {np.count_nonzero(bad)} values that are not numbers.")
    return array


def _same_length(one: NDArray[Any], other: NDArray[Any]) -> None:
    if len(one) != len(other):
        raise ValueError(f"Two arrays must have one length, found {len(one)} and {len(other)}.")
