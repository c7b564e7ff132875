"""Cuts against exhaustive search; the one-phase verdict on melts of known state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

import naive
from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.threshold import measure_cuts, pooled_threshold, verdict_sentence
from phaseseg.families.segmentation.rules import CLEAR_CONTRAST, MIN_CONTRAST, LabelRule
from phaseseg.testing import AWKWARD, ROUNDING, slab

FLOAT32 = ROUNDING["float32"]


def with_values(density, values):
    return replace(density, grid=replace(density.grid, values=np.asarray(values, dtype=np.float32)))


# Cuts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["number", "mole-fraction"])
@pytest.mark.parametrize("name", [name for name in AWKWARD if name != "one species"])
def test_cuts_equal_those_of_brute_force(name, field):
    frame = AWKWARD[name]()
    density = density_field(frame, LabelRule("Fe", sigma=1.5, field=field).fixed())
    grid, cuts = density.grid, measure_cuts(density)
    # A flat box closes on itself also where the frame is open.
    weights = naive.fourth_powers_of_slopes(grid.values, grid.cell, density.lattice.wrap)
    # A step has its slopes within a bin of a bulk: the sum over bins is another one there.
    if not (name.startswith("one atom") or (name == "2D, open in the plane" and field == "mole-fraction")):
        found = naive.steepest(grid.values, weights)
        assert cuts.steepest == pytest.approx(found, abs=1e-3 * (cuts.high - cuts.low))
    assert cuts.two_means == pytest.approx(naive.two_means(grid.values), rel=FLOAT32)
    assert (cuts.low, cuts.high) == (grid.values.min(), grid.values.max())
    assert cuts.midpoint == pytest.approx((cuts.low + cuts.high) / 2)
    assert cuts.mean == pytest.approx(grid.values.mean(dtype=float), rel=FLOAT32)


@pytest.mark.parametrize("field", ["number", "mole-fraction"])
@pytest.mark.parametrize("name", [name for name in AWKWARD if name != "one species"])
def test_the_histogram_is_that_of_brute_force(name, field):
    density = density_field(AWKWARD[name](), LabelRule("Fe", sigma=1.5, field=field).fixed())
    found, grid = measure_cuts(density).histogram, density.grid
    values = grid.values.ravel()
    weights = naive.fourth_powers_of_slopes(grid.values, grid.cell, density.lattice.wrap).ravel()
    bins = len(found.counts)
    place = (values - np.float32(found.low)) * np.float32(1 / found.width)
    place = np.clip(place.astype(int), 0, bins - 1)
    assert_allclose(found.counts, np.bincount(place, minlength=bins))
    assert_allclose(found.sums, np.bincount(place, values, bins), rtol=FLOAT32)
    want = density.lattice.voxel_volume * np.bincount(place, weights, bins)
    # In float32, a difference has the error of the values.
    assert_allclose(found.weights, want, rtol=1e-3, atol=FLOAT32 * want.sum())


@pytest.mark.parametrize("temperature", [3000, 4000])
def test_two_means_is_exact_on_a_melt(large, small, temperature):
    for frame in (large[temperature], *small[temperature][::13]):
        density = density_field(frame, LabelRule("Fe", sigma=1.5).fixed())
        exact = naive.two_means(density.grid.values)
        assert measure_cuts(density).two_means == pytest.approx(exact, rel=FLOAT32)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 400),
    st.floats(0.01, 0.99),
    st.floats(0, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 0, 1, 2]),
)
def test_two_means_of_any_two_heaps_is_exact(n, share, apart, seed, decimals):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n) + np.where(rng.random(n) < share, apart, 0)
    values = (values if decimals is None else np.round(values, decimals)).astype(np.float32)
    density = with_values(
        density_field(AWKWARD["orthogonal"](), LabelRule("Fe", sigma=1.5).fixed()), values.reshape(1, 1, n)
    )
    found, exact = measure_cuts(density).two_means, naive.two_means(values)

    def within(cut):
        low, high = values[values < cut].astype(float), values[values >= cut].astype(float)
        return sum(((part - part.mean()) ** 2).sum() for part in (low, high) if len(part))

    # Two splits may be equally good: what counts is how good.
    assert within(found) <= within(exact) * (1 + 1e-5) + 1e-9


def test_a_constant_field_has_its_value_for_every_cut():
    density = density_field(AWKWARD["orthogonal"](), LabelRule("Fe", sigma=1.5).fixed())
    cuts = measure_cuts(with_values(density, np.full(density.grid.shape, 0.25)))
    assert cuts.two_means == cuts.steepest == cuts.midpoint == cuts.mean == 0.25
    assert cuts.contrast(0.25) == 0


def test_steepest_does_not_depend_on_how_much_there_is():
    """A layer from 8 to 32 Å thick in a box of 40 Å; two-means moves, steepest stays."""
    steepest, two_means = [], []
    for thickness in (8, 12, 20, 28, 32):
        fields = label_phases(slab(low=2.0, high=2.0 + thickness), "Fe", sigma=1.5)
        steepest.append(fields["threshold_steepest"])
        two_means.append(fields["threshold_two_means"])
    assert np.ptp(steepest) / np.mean(steepest) < 0.02 < 0.06 < np.ptp(two_means) / np.mean(two_means)


def noisy_slab(noise, seed=0, shape=(60, 30, 30)):
    """A field that is 0, and 1 between two plane faces; the 1 with smooth noise."""
    waves = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2, mode="wrap")
    x = np.arange(shape[0])
    bulk = 1 + noise * (waves - waves.mean()) / waves.std()
    rich = np.tanh(0.4 * np.minimum(x - 15, 45 - x))[:, None, None] / 2 + 0.5
    return with_values(density_field(slab(), LabelRule("Fe", sigma=2.0).fixed()), rich * bulk)


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_a_bulk_does_not_move_the_steepest_cut(seed):
    """The mean with the weight |grad|^4 alone rises from 0.5 to more than 0.8."""
    plain = measure_cuts(noisy_slab(0.0)).steepest
    assert plain == pytest.approx(0.5, abs=0.01)
    noisy = noisy_slab(0.25, seed=seed)
    weights = naive.fourth_powers_of_slopes(noisy.grid.values, noisy.grid.cell, noisy.lattice.wrap)
    assert (weights * noisy.grid.values).sum() / weights.sum() > 0.8
    assert measure_cuts(noisy).steepest == pytest.approx(0.5, abs=0.1)


def test_a_droplet_without_a_bulk_keeps_the_cut_of_its_surface():
    """Taken for noise, the slopes of the droplet would leave a cut below a quarter of its height."""
    shape = (40, 40, 40)
    waves = gaussian_filter(np.random.default_rng(0).normal(size=shape), 2, mode="wrap")
    peak = np.exp(-((np.indices(shape) - 20) ** 2).sum(axis=0) / (2 * 2**2))
    density = density_field(slab(), LabelRule("Fe", sigma=2.0).fixed())
    assert measure_cuts(with_values(density, peak + 0.05 * waves / waves.std())).steepest > 0.3


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.3), st.floats(-2, 2), st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_the_steepest_cut_moves_with_the_field(noise, offset, factor, seed):
    """Scaled, shifted, upside down or rolled: the cut stays where it was in the field."""
    density = noisy_slab(noise, seed=seed)
    values = density.grid.values
    cut = measure_cuts(density).steepest
    assert values.min() <= cut <= values.max()
    moved = measure_cuts(with_values(density, factor * (values + offset))).steepest / factor - offset
    assert moved == pytest.approx(cut, abs=2e-3)
    assert -measure_cuts(with_values(density, -values)).steepest == pytest.approx(cut, abs=2e-3)
    rolled = np.roll(values, (3, 5, 7), axis=(0, 1, 2))
    assert measure_cuts(with_values(density, rolled)).steepest == pytest.approx(cut, abs=1e-4)


@pytest.mark.parametrize(("threshold", "key"), [("steepest", "steepest"), ("two-means", "two_means")])
def test_the_cut_that_was_asked_for_is_used(small, threshold, key):
    fields = label_phases(small[3000][0], "Fe", threshold=threshold)
    assert fields["threshold"] == fields[f"threshold_{key}"]
    assert label_phases(small[3000][0], "Fe", threshold=0.03)["threshold"] == 0.03
    grid = fields["density_grid"].values
    middle = label_phases(small[3000][0], "Fe", threshold="midpoint")["threshold"]
    assert middle == pytest.approx((float(grid.min()) + float(grid.max())) / 2)


def test_a_sentence_says_where_two_means_and_steepest_differ():
    scarce = label_phases(slab(low=2.0, high=5.0), "Fe", sigma=1.5, min_volume=0.0)
    assert abs(scarce["threshold_two_means"] / scarce["threshold_steepest"] - 1) > 0.1
    assert any("Two-means would cut at" in message for message in scarce.messages)
    even = label_phases(slab(low=2.0, high=22.0), "Fe", sigma=1.5)
    assert not any("Two-means" in message for message in even.messages)


# Pooled -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", ["steepest", "two-means", "midpoint"])
def test_a_pooled_cut_is_that_of_all_voxels_together(small, threshold):
    frames = [small[3000][0], small[3000][40], small[4000][20]]
    rule = LabelRule("Fe", sigma=1.5, threshold=threshold).fixed()
    pooled = pooled_threshold(iter(frames), rule)
    grids = [density_field(frame, rule).grid for frame in frames]
    together = np.concatenate([grid.values.ravel() for grid in grids])
    if threshold == "steepest":
        weights = [naive.fourth_powers_of_slopes(g.values, g.cell, g.pbc).ravel() for g in grids]
        want = naive.steepest(together, np.concatenate(weights))
    elif threshold == "two-means":
        want = naive.two_means(together)
    else:
        want = (float(together.min()) + float(together.max())) / 2
    assert pooled.threshold == pytest.approx(want, rel=FLOAT32 if threshold == "midpoint" else 5e-4)
    assert pooled.replace(threshold=threshold) == rule
    alone = pooled_threshold([frames[0]], rule).threshold
    own = label_phases(frames[0], "Fe", sigma=1.5, threshold=threshold)["threshold"]
    assert alone == pytest.approx(own, rel=5e-4)


def test_a_pooled_cut_needs_frames_and_a_rule_that_finds_one(small):
    with pytest.raises(ValueError, match="there are no frames to take a pooled threshold from"):
        pooled_threshold([], LabelRule("Fe", sigma=1.5).fixed())
    with pytest.raises(ValueError, match=r"the threshold is 0\.05"):
        pooled_threshold(small[3000][:1], LabelRule("Fe", sigma=1.5, threshold=0.05).fixed())


# The verdict --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contrast", "code"),
    [(1.2, "one-phase"), (1.5, "one-phase-uncertain"), (2.6, "two-phases-uncertain"), (5.0, "two-phases")],
)
def test_the_message_says_how_certain_the_verdict_is(contrast, code):
    message = verdict_sentence(contrast, 1 if contrast < MIN_CONTRAST else 2)
    assert message.code == code and f"{contrast:.2f}" in message


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [3000, 4000])
def test_the_bundled_melts_are_two_phases(large, small, temperature):
    for frame in (large[temperature], *small[temperature]):
        fields = label_phases(frame, "Fe")
        assert fields["n_phases"] == 2 and fields["phase_contrast"] > MIN_CONTRAST
        assert fields.messages[0].code in ("two-phases", "two-phases-uncertain")


@pytest.mark.parametrize("name", ["control_20000K", "control_oxidized_4000K"])
def test_homogeneous_melts_are_one_phase(melt_data, name):
    contrasts = []
    for frame in melt_data(name):
        fields = label_phases(frame, "Fe")
        contrasts.append(fields["phase_contrast"])
        assert fields["n_phases"] == 1 and len(set(fields["phase"])) == 1
        assert np.isnan(fields["interface_distance"]).all() and fields["n_domains"] == 0
        assert fields.messages[0].code == "one-phase"
    print(f"{name}: contrast {min(contrasts):.2f} to {max(contrasts):.2f}")
    assert max(contrasts) < CLEAR_CONTRAST[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["large_3000K", "large_4000K", "small_3000K", "small_4000K"]
    + [f"small_{temperature}K_s{seed}" for temperature in (3000, 4000) for seed in (11, 12, 13, 14)],
)
def test_separated_melts_are_two_phases(melt_data, name):
    assert {label_phases(frame, "Fe")["n_phases"] for frame in melt_data(name)} == {2}


def test_the_hard_case_is_reported_and_not_judged(melt_data):
    """At 8000 K the melt fluctuates on the scale of the cell: neither answer is wrong."""
    fields = [label_phases(frame, "Fe") for frame in melt_data("control_8000K")]
    contrasts = [f["phase_contrast"] for f in fields]
    share = np.mean([f["n_phases"] == 2 for f in fields])
    print(
        f"8000 K: contrast {min(contrasts):.2f} to {max(contrasts):.2f}; two phases in {share:.0%} of frames"
    )
    assert all(np.isfinite(contrasts))


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9])
def test_species_at_random_are_one_phase(large, share, sigma):
    """Where the atoms are in a real melt, but whose they are drawn by lot."""
    frame = large[4000]
    iron = np.random.default_rng(0).random(len(frame)) < share
    mixed = Frame(frame.positions, frame.cell, True, np.where(iron, "Fe", "O"))
    fields = label_phases(mixed, "Fe", sigma=sigma)
    assert fields["n_phases"] == 1, fields.messages[0]
    assert set(fields["phase"]) == {int(share >= 0.5)}


def test_one_phase_is_cut_only_on_request(large):
    frame = large[3000]
    iron = np.random.default_rng(1).random(len(frame)) < 0.3
    mixed = Frame(frame.positions, frame.cell, True, np.where(iron, "Fe", "O"))
    auto, forced = (label_phases(mixed, "Fe", phases=phases) for phases in ("auto", 2))
    assert auto["n_phases"] == forced["n_phases"] == 1
    assert len(set(auto["phase"])) == 1 and set(forced["phase"]) == {0, 1, 2}
    assert any("No cut was made" in message for message in auto.messages)


def test_a_given_cut_says_which_phase_a_one_phase_frame_is(large):
    frame = large[3000]
    iron = np.random.default_rng(1).random(len(frame)) < 0.3
    mixed = Frame(frame.positions, frame.cell, True, np.where(iron, "Fe", "O"))
    mean = iron.sum() / frame.volume
    assert set(label_phases(mixed, "Fe", threshold=1.5 * mean)["phase"]) == {0}
    assert set(label_phases(mixed, "Fe", threshold=0.5 * mean)["phase"]) == {1}
    # As an oxygen-rich melt it is rich.
    assert set(label_phases(mixed, "O")["phase"]) == {1}


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": "otsu"}, "threshold must be steepest, two-means, midpoint or a number, found 'otsu'"),
        ({"threshold": np.nan}, "threshold must be a finite number, found nan"),
        ({"threshold": np.inf}, "threshold must be a finite number, found inf"),
        ({"sigma": 0.0}, "sigma must be a positive length in Å, found 0"),
        ({"sigma": -1.0}, "sigma must be a positive length in Å, found -1"),
        ({"sigma": np.nan}, "sigma must be a positive length in Å, found nan"),
        ({"voxel": 0.0}, "voxel must be a positive length in Å, found 0"),
        ({"boundary_width": -0.1}, "boundary_width must be finite and at least 0, found -0.1"),
        ({"min_volume": np.inf}, "min_volume must be finite and at least 0, found inf"),
        ({"field": "mass"}, "field must be one of number, mole-fraction; found 'mass'"),
        ({"at": "site"}, "at must be one of atom, voxel; found 'site'"),
        ({"keep": "first"}, "keep must be one of all, largest; found 'first'"),
        ({"phases": 3}, "phases must be one of auto, 2; found 3"),
        ({"species": ("Fe", "")}, "species must be names, or none to choose one"),
        ({"sigma": "wide"}, "sigma must be a positive length in Å or 'auto', found 'wide'"),
    ],
)
def test_a_bad_option_is_refused_by_name(options, sentence):
    frame = AWKWARD["orthogonal"]()
    with pytest.raises(ValueError) as caught:
        label_phases(frame, **options)
    assert sentence in str(caught.value)


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(TypeError) as caught:
        label_phases(AWKWARD["orthogonal"](), "Fe", sigmas=2.0)
    assert "unknown option sigmas; the options are species, sigma, voxel, field, threshold" in str(
        caught.value
    )


@pytest.mark.parametrize("unit", [1e-10, 1e-3, 1e3, 1e8])
@pytest.mark.parametrize("field", ["number", "mole-fraction"])
def test_the_unit_of_length_does_not_matter(unit, field):
    """Fourth powers of slopes leave the range of float32 in meters or kilometers."""
    lengths = {"sigma": 1.5, "voxel": 0.75, "boundary_width": 0.68, "bulk_distance": 5.0}
    frame, numbers = slab(spacing=1.6), []
    for per in (1.0, unit):
        scaled = frame.replace(positions=frame.positions * per, cell=frame.cell * per)
        options = {name: value * per for name, value in lengths.items()}
        fields = label_phases(scaled, "Fe", field=field, min_volume=200 * per**3, **options)
        density = per**3 if field == "number" else 1
        numbers.append([
            fields["n_phases"], fields["interface_area"] / per**2, fields["threshold"] * density,
            fields["threshold_two_means"] * density, fields["phase_contrast"],
        ])  # fmt: skip
        assert np.isfinite(fields["interface_distance"]).all()
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-5)
