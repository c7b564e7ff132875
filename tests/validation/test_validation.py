"""Our results compared with those of other libraries, which README.md names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import naive
from phaseseg import Frame
from phaseseg.families.segmentation.inference import Network
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.threshold import measure_cuts, two_means
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import NetworkConfig, Scaling
from phaseseg.metrics import class_scores, confusion_matrix, reliability, roc_curve, spread
from phaseseg.neighbors import nearest_neighbors
from phaseseg.statistics import slope_change
from phaseseg.testing import ROUNDING, translated
from validation.make import NETWORKS, SIGMA, N

FOLDER = Path(__file__).parent
F32, F64 = ROUNDING["float32"], ROUNDING["float64"]
SPECIES = ("Fe", "Mg", "Si", "O", "N")


def arrays(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def given():
    return arrays("inputs")


@pytest.fixture(scope="module")
def freud():
    return arrays("freud")


@pytest.fixture(scope="module")
def scores():
    return arrays("scores")


def frame_of(given, name):
    positions, cell = given[f"{name} positions"], given[f"{name} cell"]
    if name == "melt":
        return Frame(positions, cell, True, given["melt species"], SPECIES)
    flat = name == "liquid"
    species = np.zeros(len(positions), dtype=int)
    return Frame(positions, cell, (True, True, not flat), species, ("A",), units="lj")


# freud --------------------------------------------------------------------------------------------


def test_gaussian_density(given, freud):
    """The density of Fe; freud's grid begins half a step from the corner of the cell, ours at the corner."""
    frame = frame_of(given, "melt")
    frame = translated(frame, -0.5 * frame.cell.sum(axis=0) / N)
    theirs = freud["density"]
    some = np.random.default_rng(0).choice(N**3, 500, replace=False)
    points = np.stack(np.unravel_index(some, theirs.shape), axis=1) / N @ frame.cell
    exact = naive.density(points, frame, "Fe", SIGMA)
    # Twice rounding: freud cuts a Gaussian at 5 σ, where 4e-6 of it is left.
    assert_allclose(theirs.ravel()[some], exact, rtol=0, atol=2 * F32 * theirs.max())
    field = density_field(frame, LabelRule("Fe", sigma=SIGMA, voxel=frame.cell[0, 0] / N * 1.0001).fixed())
    assert field.grid.shape == (N, N, N)
    # What the grid leaves out: 1e-3 of the mean at two voxels to σ, as `density_field` says; here 1.7.
    error = field.grid.values - theirs
    assert np.sqrt((error**2).mean()) < 3e-3 * theirs.mean()


@pytest.mark.parametrize("name", ["melt", "liquid", "skewed"])
def test_nearest_neighbors(given, freud, name):
    k = freud[f"{name} lengths"].shape[1]
    found = nearest_neighbors(frame_of(given, name), k)
    assert_allclose(found.lengths, freud[f"{name} lengths"], rtol=F32)
    assert_array_equal(np.sort(found.neighbors, axis=1), np.sort(freud[f"{name} neighbors"], axis=1))


# scikit-learn, scikit-image -----------------------------------------------------------------------


def test_roc_curve(given, scores):
    found = roc_curve(given["labels"], given["scores"])
    assert_array_equal(found.threshold, scores["cuts"])
    assert_allclose(found.false_positive_rate, scores["fpr"], rtol=F64)
    assert_allclose(found.true_positive_rate, scores["tpr"], rtol=F64)
    assert found.auc == pytest.approx(scores["auc"], rel=F64)


def test_scores_of_classes(given, scores):
    confusion = confusion_matrix(given["classes"], given["guesses"], 3)
    assert_array_equal(confusion, scores["confusion"])
    found = class_scores(confusion)
    for name in ("precision", "recall", "f1"):
        assert_allclose(getattr(found, name), scores[name], rtol=F64, err_msg=name)
    assert found.macro_f1 == pytest.approx(scores["macro f1"], rel=F64)


def test_calibration_curve(given, scores):
    found = reliability(given["labels"], 1 / (1 + np.exp(-given["scores"] - 0.003)), n_bins=10)
    filled = found.count > 0
    assert_allclose(found.frequency[filled], scores["frequency"], rtol=F64)
    assert_allclose(found.mean_probability[filled], scores["mean probability"], rtol=F64)


def test_two_means_and_otsu(given, freud, scores):
    """The cut half way between two means of freud's density; Otsu's threshold parts the same voxels."""
    frame = frame_of(given, "melt")
    histogram = measure_cuts(density_field(frame, LabelRule("Fe", sigma=SIGMA).fixed())).histogram
    values = freud["density"]
    bins = len(histogram.counts)
    low, width = float(values.min()), float(np.ptp(values)) / bins
    place = np.minimum(((values.ravel() - low) / width).astype(int), bins - 1)
    sums = np.bincount(place, values.ravel(), bins)
    own = type(histogram)(low, width, np.bincount(place, minlength=bins), sums, np.zeros(bins))
    cut = two_means(values, own)
    assert cut == pytest.approx(scores["two means"].mean(), rel=F32)
    assert abs(cut - scores["otsu"]) <= np.ptp(values) / 1000  # a bin of scikit-image's histogram


# SciPy --------------------------------------------------------------------------------------------


def test_lines_and_intervals(given, scores):
    t, y = given["temperatures"], given["values"]
    a0, a1, a2, a3 = slope_change(t, y, 0.75).coefficients
    assert_allclose([a0, a1], scores["line below"], rtol=F64)
    assert_allclose([a0 + a2, a1 + a3], scores["line above"], rtol=F64)
    found = spread(y[:8], confidence=0.9)
    assert_allclose([found.mean, found.deviation, found.low, found.high], scores["interval"], rtol=F64)


# PyTorch Geometric --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(given, name):
    theirs = arrays("pyg")
    frame = frame_of(given, "melt")
    config = NetworkConfig(SPECIES, ("Fe",), ("Mg",), cutoff=4.0, **NETWORKS[name])
    scaling = Scaling(*(theirs[f"{name} scaling {part}"] for part in ("center", "scale", "low", "high")))
    weights = {key: theirs[f"{name} weights {key}"] for key in config.weight_shapes()}
    found = Network(config, scaling, [weights])(frame, frame.species).logits[0]
    expected = theirs[f"{name} logits"]
    assert_allclose(found, expected, rtol=0, atol=F32 * np.abs(expected).max())
