"""Methods without a network, against direct counts."""

import numpy as np
import pytest

from phaseseg.families.segmentation.baselines import (
    CompositionBins,
    ConstantCut,
    FrameCut,
    NeighborFraction,
    baselines,
    best_threshold,
    fit_thresholds,
)
from phaseseg.families.segmentation.fields import BOUNDARY, RICH
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.methods import WIDTHS, WeakLabels, decode
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Frame
from phaseseg.testing import AWKWARD

RULE = LabelRule("Fe", sigma=2.0, threshold=0.04).fixed()


def naive_fraction(frame, cutoff=6.0):
    """Share of iron among the neighbors by all pairs and images."""
    out = np.zeros(len(frame))
    spans = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(frame.cell), axis=0)).astype(int) * frame.pbc
    images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in spans + 1 * frame.pbc), indexing="ij"), -1)
    shifts = images.reshape(-1, 3) @ frame.cell
    iron = np.array(frame.species_names)[frame.species] == "Fe"
    for i in range(len(frame)):
        apart = np.linalg.norm(frame.positions[None] + shifts[:, None] - frame.positions[i], axis=-1)
        near = (apart <= cutoff).sum(axis=0)
        near[i] -= 1
        out[i] = near[iron].sum() / max(near.sum(), 1)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["orthogonal", "triclinic", "open along c", "one atom", "tiny"])
def test_fraction_of_the_neighbors_by_all_pairs(name):
    frame = AWKWARD[name]()
    assert NeighborFraction(("Fe",), 0.5).values(frame) == pytest.approx(naive_fraction(frame), abs=1e-6)


def test_bins_are_counted_in_the_cells_of_the_frame(large):
    frame = large[3000]
    values = CompositionBins(("Fe",), 0.5).values(frame)
    assert len(np.unique(np.round(values, 6))) <= 512  # 8 x 8 x 8 in a cell of 68 Å
    edge = frame.cell[0, 0] / 8
    place = np.floor(((frame.positions - frame.origin) % frame.cell[0, 0]) / edge).astype(int)
    iron = np.array(frame.species_names)[frame.species] == "Fe"
    one = (place == place[0]).all(axis=1)
    assert values[0] == pytest.approx(iron[one].mean())


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_bins_take_any_frame(name):
    frame = AWKWARD[name]()
    values = CompositionBins(("Fe",), 0.5).values(frame)
    assert values.shape == (len(frame),) and ((values >= 0) & (values <= 1)).all()


def test_best_threshold_tries_them_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, rich = rng.integers(0, 12, 60) / 10, rng.random(60) < 0.4
        cut = best_threshold(values, rich)
        wrong = [((values >= at) != rich).sum() for at in np.arange(-0.05, 1.3, 0.1)]
        assert ((values >= cut) != rich).sum() == min(wrong)
    assert best_threshold(np.ones(3), np.zeros(3, bool)) > 1
    with pytest.raises(ValueError, match="no atoms"):
        best_threshold(np.empty(0), np.empty(0, bool))


def test_decoding_a_distance_gives_it_back(slab_frame):
    x = slab_frame.positions[:, 0]
    exact = np.minimum(x - 10.3, 27.8 - x)
    found = decode(slab_frame, np.clip(exact, -3, 3), WIDTHS)
    near = np.abs(exact) < 1.5
    assert np.abs(found.distance[near] - exact[near]).max() < 0.05
    assert np.array_equal(found.rich, exact >= 0) and found.n_domains == 1
    assert (found.phase[0.68] == BOUNDARY).mean() == pytest.approx((np.abs(exact) < 0.34).mean(), abs=0.005)
    for score in (-1.0, 1.0):
        whole = decode(slab_frame, np.full(len(slab_frame), score), WIDTHS)
        assert whole.n_phases == 1 and (whole.rich == (score > 0)).all() and whole.n_domains == 0
        assert np.isnan(whole.distance).all() and (whole.phase[0.68] == (RICH if score > 0 else 0)).all()


def test_all_baselines_on_a_melt(small, large):
    thresholds = fit_thresholds(small[3000][:6], RULE)
    assert 0.2 < thresholds["fraction"] < 0.6 and 0.2 < thresholds["bins"] < 0.6
    assert 0.03 < thresholds["density"] < 0.05 and thresholds["sigma"] == 1.5
    methods = baselines(RULE, thresholds)
    frame = large[3000]
    answer = WeakLabels(RULE)(frame, WIDTHS)
    most = {
        "Fe fraction within 6 Å": 0.03,
        "constant cut, sigma 1.5 Å": 0.02,
        "steepest cut of the frame": 0.02,
        "two-means cut of the frame": 0.02,
        "bins of 8.5 Å": 0.15,
    }
    assert [method.name for method in methods] == list(most)
    for method in methods:
        found = method(frame, WIDTHS)
        assert found.n_phases == 2 and (found.rich != answer.rich).mean() < most[method.name]
        assert sum(found.seconds.values()) < 20
        assert (found.phase[2.7] == BOUNDARY).sum() > (found.phase[0.68] == BOUNDARY).sum() > 0


def test_thresholds_need_two_phases(melt_data):
    frame = Frame(np.random.default_rng(0).random((500, 3)) * 17, np.eye(3) * 17, True, ["Fe", "O"] * 250)
    with pytest.raises(ValueError, match="two phases"):
        fit_thresholds([frame], RULE)


def test_cuts_of_density(small):
    frame = small[4000][0]
    rule = LabelRule("Fe", sigma=1.5, threshold="steepest").fixed()
    same = FrameCut(rule, "steepest")(frame, (0.68,))
    assert np.array_equal(same.phase[0.68], label_frame(frame, rule)["phase"])
    with pytest.raises(ValueError, match="numerical threshold"):
        ConstantCut(rule)


def test_the_cut_of_an_open_frame_ignores_what_is_outside():
    # A cube of iron and oxygen; its faces are open, where the density falls to nothing.
    rng = np.random.default_rng(0)
    positions = rng.random((6000, 3)) * [30, 20, 20]
    iron = rng.random(6000) < np.where(positions[:, 0] < 15, 0.9, 0.3)
    periodic = Frame(positions, [30.0, 20.0, 20.0], True, np.where(iron, "Fe", "O"))
    rule = LabelRule("Fe", sigma=1.5, phases=2, min_volume=0.0).fixed()
    inside = (np.abs(positions[:, 1:] - 10) < 6).all(axis=1) & (np.abs(positions[:, 0] - 15) < 11)
    for threshold in ("steepest", "two-means"):
        found = FrameCut(rule, threshold)(periodic.replace(pbc=[False] * 3), (0.68,))
        assert (found.rich[inside] != (positions[inside, 0] < 15)).mean() < 0.03
