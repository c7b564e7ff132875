"""Logits without stored pairs against PyTorch Geometric in float64 on all pairs over all images."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import naive
from phaseseg import Frame
from phaseseg.families.segmentation import inference, node_features as features_module
from phaseseg.families.segmentation.inference import Network
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.settings import NetworkConfig, Scaling
from phaseseg.large.cut import slabs
from phaseseg.neighbors import bins as bins_module
from phaseseg.testing import AWKWARD, permuted, repeated, translated, wrapped_elsewhere

# Of the largest |logit|, against float64: sums of some hundred float32 terms, layer after layer.
LOGITS = 5e-6
# Of the largest value of a feature.
FEATURES = 3e-6
SPECIES = ("Mg", "Fe", "O", "Q")

NETWORKS = {
    "paper": {},
    "paper, readout": {"readout": 24},
    "one layer": {"layers": 1},
    "odd sizes": {"layers": 3, "hidden": 7, "heads": 3},
    "wide": {"layers": 3, "hidden": 64, "heads": 8},
    "one head": {"hidden": 40, "heads": 1},
    "densities, readout": {"features": "densities", "hidden": 8, "readout": 64, "outputs": 3},
    "densities of any widths": {"features": "densities", "widths": (0.7, 2.1, 0.35, 1.4, 0.9), "hidden": 5},
    "gcn": {"architecture": "gcn"},
    "gcn, readout": {"architecture": "gcn", "hidden": 20, "layers": 3, "readout": 9, "outputs": 3},
    "gcn, one layer": {"architecture": "gcn", "layers": 1},
    "graphconv": {"architecture": "graphconv"},
    "graphconv, readout": {"architecture": "graphconv", "hidden": 11, "layers": 3, "readout": 17},
    "graphconv, one layer": {"architecture": "graphconv", "layers": 1, "features": "densities"},
}  # fmt: skip
SOME = ("paper", "densities, readout", "gcn, readout", "graphconv")


def config_of(name="paper", **changes):
    settings = {"target": ("Fe",), "counter": ("O",), "cutoff": 5.3, **NETWORKS[name], **changes}
    return NetworkConfig(SPECIES, **settings)


def weights_of(config, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.weight_shapes().items():
        # Sums over a hundred neighbors that nothing divides by their number need smaller weights.
        size = scale / np.sqrt(shape[-1]) / (100 if name.endswith("weight_neighbors") else 1)
        weights[name] = (rng.normal(size=shape) * size).astype(np.float32)
    return weights


def codes_of(frame):
    return np.array([SPECIES.index(name) for name in frame.species_names], dtype=np.int32)[frame.species]


def scaling_of(features):
    """As from a varied training set: no feature is blown up because it happens not to vary here."""
    scaling = Scaling.of(features)
    scale = np.maximum(scaling.scale, 0.1 * np.abs(features).max(axis=0).astype(np.float32))
    return Scaling(
        scaling.center, np.where(scale > 0, scale, 1).astype(np.float32), scaling.low, scaling.high
    )


def compare(frame, config, members):
    pytest.importorskip("torch_geometric")
    codes = codes_of(frame)
    pairs = naive.neighbor_pairs(frame, config.cutoff)
    features = naive.node_features(frame, codes, config, pairs)
    scaling = scaling_of(features)
    found = Network(config, scaling, members)(frame, codes)
    assert found.logits.shape == (len(members), frame.n_atoms, config.outputs)
    assert found.logits.dtype == np.float32
    for logits, weights in zip(found.logits, members, strict=True):
        exact = naive.network_logits(config, scaling, weights, features, pairs)
        assert_allclose(logits, exact, rtol=0, atol=LOGITS * np.abs(exact).max())
    largest = np.maximum(np.abs(features).max(axis=0), 1e-3)
    assert_allclose(found.lowest, features.min(axis=0), rtol=0, atol=FEATURES * largest.max())
    assert_allclose(found.highest, features.max(axis=0), rtol=0, atol=FEATURES * largest.max())


def logits_of(frame, config, seed=0, scaling=None):
    codes = codes_of(frame)
    scaling = scaling or scaling_of(node_features(frame, codes, config))
    return Network(config, scaling, [weights_of(config, seed)])(frame, codes).logits[0], scaling


def close(found, expected):
    assert_allclose(found, expected, rtol=0, atol=2 * LOGITS * np.abs(expected).max())


def poisoned(shape, dtype):
    """As `borrow`: whatever else is in memory is not a number."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)


# Oracle -------------------------------------------------------------------------------------------


@cache
def pairs_of(name, cutoff):
    return naive.neighbor_pairs(AWKWARD[name](), cutoff)


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("features", ["counts", "densities"])
def test_features_equal_the_naive_ones(name, features):
    frame = AWKWARD[name]()
    for changes in (
        {},
        {"cutoff": 2.6, "target": ("O", "Q"), "counter": ("O", "Fe")},
        {"widths": (0.4, 1.7)},
    ):
        config = config_of(features=features, **changes)
        exact = naive.node_features(frame, codes_of(frame), config, pairs_of(name, config.cutoff))
        found = node_features(frame, codes_of(frame), config)
        assert found.shape == (frame.n_atoms, config.n_features) and found.dtype == np.float32
        largest = np.abs(exact).max(axis=0)
        assert (np.abs(found - exact) <= FEATURES * np.maximum(largest, 1e-3)).all()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("spread", [60.0, 0.0])
def test_logits_of_some_atoms_are_those_of_the_whole(network, spread, monkeypatch):
    """Layers compute only what these atoms depend on; whatever else is in memory is not a number."""
    rng, cell = np.random.default_rng(5), np.array([[90.0, 0, 0], [4, 13, 0], [-3, 2, 12]])
    frame = Frame(rng.random((900, 3)) @ cell, cell, True, list(rng.choice(SPECIES, 900)))
    config = config_of(network)
    codes, members = codes_of(frame), [weights_of(config), weights_of(config, 1)]
    scaling = scaling_of(node_features(frame, codes, config))
    whole = Network(config, scaling, members)(frame, codes)
    halo, n = config.cutoff * (1 + config.layers), 0
    ranges = features_module._ranges

    def seen(*args):
        nonlocal n
        found = ranges(*args)
        n += found[0].slots != found[-1].slots
        return found

    for module in (inference, features_module, bins_module):
        monkeypatch.setattr(module, "borrow", poisoned)
    monkeypatch.setattr(features_module, "_ranges", seen)
    monkeypatch.setattr(inference, "LARGEST_SPREAD", spread)
    for slab in slabs(frame, halo + 1e-6, 3):
        found = Network(config, scaling, members)(slab.frame, codes[slab.atoms], slab.own)
        for logits, expected in zip(found.logits, whole.logits, strict=True):
            assert_allclose(
                logits[slab.own], expected[slab.atoms[slab.own]], rtol=0,
                atol=2 * LOGITS * np.abs(expected).max(),
            )  # fmt: skip
        assert np.isfinite(found.logits).all()
    assert n == 3


@pytest.mark.parametrize("pbc", [True, (False, True, True)])
@pytest.mark.parametrize("some", [False, True])
def test_parts_of_the_atoms_give_the_logits_of_the_whole(pbc, some, monkeypatch):
    rng, cell = np.random.default_rng(8), np.array([[120.0, 0, 0], [4, 12, 0], [-3, 2, 11]])
    places = rng.random((900, 3))
    places[:, 0] *= 1 - 0.2 * (places[:, 0] > 0.7)  # which leaves bins empty
    frame = Frame(places @ cell, cell, pbc, list(rng.choice(SPECIES, 900)))
    config = config_of("densities, readout", layers=1)
    codes, members = codes_of(frame), [weights_of(config, seed) for seed in range(3)]
    own = (places[:, 0] > 0.3) & (places[:, 0] < 0.6) if some else np.ones(900, dtype=bool)
    network = Network(config, scaling_of(node_features(frame, codes, config)), members)
    whole, parts, seen = network(frame, codes, own).logits[:, own], features_module.Atoms.parts, []

    def counted(self):
        for part in parts(self):
            seen.append(len(part.bins.order))
            yield part

    monkeypatch.setattr(features_module, "PART", 100)
    monkeypatch.setattr(features_module.Atoms, "parts", counted)
    for module in (inference, features_module, bins_module):
        monkeypatch.setattr(module, "borrow", poisoned)
    found = network(frame, codes, own).logits[:, own]
    assert len(seen) > 1 and max(seen) < 0.5 * frame.n_atoms
    assert_allclose(found, whole, rtol=0, atol=LOGITS * np.abs(whole).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_each_member_gives_what_it_gives_alone(network):
    frame, config = AWKWARD["triclinic"](), config_of(network)
    codes, members = codes_of(frame), [weights_of(config, seed) for seed in range(5)]
    scaling = scaling_of(node_features(frame, codes, config))
    together = Network(config, scaling, members)(frame, codes).logits
    for logits, weights in zip(together, members, strict=True):
        alone = Network(config, scaling, [weights])(frame, codes).logits[0]
        assert_allclose(logits, alone, rtol=0, atol=LOGITS * np.abs(alone).max())


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["strongly skewed", "open along c"])
def test_logits_equal_pyg_in_float64(name, network):
    config = config_of(network)
    compare(AWKWARD[name](), config, [weights_of(config, seed) for seed in (1, 2)])


@pytest.mark.slow
@pytest.mark.parametrize("network", SOME)
@pytest.mark.parametrize("name", AWKWARD)
def test_logits_of_awkward_frames(name, network):
    config = config_of(network)
    compare(AWKWARD[name](), config, [weights_of(config)])


@pytest.mark.parametrize("network", SOME)
def test_self_images_in_a_cell_of_7_angstrom(network):
    rng = np.random.default_rng(0)
    frame = Frame(rng.random((36, 3)) * 7, [7.0] * 3, True, rng.integers(0, 4, 36), SPECIES)
    config = config_of(network, cutoff=7.5)
    compare(frame, config, [weights_of(config)])


@pytest.mark.parametrize("network", SOME)
def test_isolated_atoms_and_no_atoms(network):
    config = config_of(network)
    far = [[0.0, 0, 0], [40.0, 0, 0], [43.0, 0, 0], [0, 40.0, 0]]
    compare(Frame(far, [80.0] * 3, True, ["Fe", "O", "Fe", "Mg"]), config, [weights_of(config)])
    empty = Frame(np.empty((0, 3)), [9.0] * 3, True, np.empty(0, int), SPECIES)
    scaling = Scaling(*np.array([[0.0], [1], [0], [1]], dtype="f4").repeat(config.n_features, axis=1))
    found = Network(config, scaling, [weights_of(config)])(empty, np.empty(0, np.int32))
    assert found.logits.shape == (1, 0, config.outputs) and not found.n_outside.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "scale"),
    [
        *((name, 1.0) for name in ("paper", "odd sizes", "wide", "densities, readout", "one layer")),
        *((name, 40.0) for name in ("paper", "odd sizes", "wide", "densities, readout")),
        ("one layer", 400.0),
    ],
)
def test_attention_that_spreads_beyond_float32(network, scale, monkeypatch):
    """The same logits without the products of factors, and where these would be zero or infinite."""
    config = config_of(network)
    weights = weights_of(config)
    for name in weights:
        if "attention" in name:
            weights[name] *= np.float32(scale)
    frame = AWKWARD["triclinic"]()
    calls = []
    exact = inference.neighbor_sums.exact_sums
    monkeypatch.setattr(inference.neighbor_sums, "exact_sums", lambda *args: (calls.append(1), exact(*args)))
    if scale == 1:
        monkeypatch.setattr(inference, "LARGEST_SPREAD", 0.0)
        compare(frame, config, [weights])
        assert calls
        return
    # A score of some hundred is rounded to 1e-5, and with it the logarithm of a weight.
    monkeypatch.setitem(globals(), "LOGITS", 2e-4)
    compare(frame, config, [weights])
    assert calls


# What must not change the logits ------------------------------------------------------------------


@pytest.mark.parametrize("network", SOME)
@pytest.mark.parametrize("name", ["triclinic", "strongly skewed", "open along c", "tiny"])
def test_symmetries(name, network):
    frame, config = AWKWARD[name](), config_of(network)
    logits, scaling = logits_of(frame, config)
    again, _ = logits_of(frame, config, scaling=scaling)
    assert_array_equal(again, logits)
    close(logits_of(translated(frame, (13.7, -2.2, 311.3)), config, scaling=scaling)[0], logits)
    close(logits_of(wrapped_elsewhere(frame, reach=20), config, scaling=scaling)[0], logits)
    order = np.random.default_rng(1).permutation(frame.n_atoms)
    close(logits_of(permuted(frame, order), config, scaling=scaling)[0], logits[order])
    times = tuple(2 if wrap else 1 for wrap in frame.pbc)
    super_logits, _ = logits_of(repeated(frame, times), config, scaling=scaling)
    close(super_logits, np.tile(logits, (int(np.prod(times)), 1)))


def test_far_from_the_origin_no_neighbor_is_gained_or_lost():
    frame = translated(AWKWARD["triclinic"](), (1e4, -1e4, 1e4))
    compare(frame, config_of("graphconv"), [weights_of(config_of("graphconv"))])


def test_members_are_independent_and_in_order():
    frame, config = AWKWARD["triclinic"](), config_of("densities, readout")
    codes = codes_of(frame)
    scaling = scaling_of(node_features(frame, codes, config))
    members = [weights_of(config, seed) for seed in range(3)]
    together = Network(config, scaling, members)(frame, codes).logits
    for member, logits in zip(members, together, strict=True):
        assert_array_equal(Network(config, scaling, [member])(frame, codes).logits[0], logits)


def test_features_beyond_the_training_are_clipped_and_counted():
    frame, config = AWKWARD["triclinic"](), config_of()
    codes = codes_of(frame)
    raw = node_features(frame, codes, config)
    low, high = np.quantile(raw, [0.1, 0.8], axis=0).astype(np.float32)
    one = np.ones(config.n_features, dtype=np.float32)
    found = Network(config, Scaling(0 * one, one, low, high), [weights_of(config)])(frame, codes)
    assert_array_equal(found.n_outside, ((raw < low) | (raw > high)).sum(axis=0))
    assert_array_equal(found.lowest, raw.min(axis=0))
    assert_array_equal(found.highest, raw.max(axis=0))


# Bad input ----------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_are_named():
    config = config_of()
    one = np.ones(config.n_features, dtype=np.float32)
    scaling = Scaling(one, one, one, one)
    good = weights_of(config)
    with pytest.raises(ValueError, match="at least one member"):
        Network(config, scaling, [])
    with pytest.raises(ValueError, match=r"member1\.layer1\.bias is missing"):
        Network(config, scaling, [good, {k: v for k, v in good.items() if k != "layer1.bias"}])
    with pytest.raises(ValueError, match=r"member0\.layer9\.bias is not a weight"):
        Network(config, scaling, [{**good, "layer9.bias": one}])
    with pytest.raises(ValueError, match=r"member0\.layer2\.bias must have the shape \(2,\), found \(3,\)"):
        Network(config, scaling, [{**good, "layer2.bias": np.zeros(3)}])
    with pytest.raises(ValueError, match=r"member0\.layer2\.bias holds numbers that are not finite"):
        Network(config, scaling, [{**good, "layer2.bias": np.array([0, np.nan])}])
    with pytest.raises(ValueError, match=r"feature\.scale must have the shape"):
        Network(config, Scaling(one, one[1:], one, one), [good])
    frame = AWKWARD["triclinic"]()
    with pytest.raises(ValueError, match="have the shape"):
        Network(config, scaling, [good])(frame, np.zeros(3, dtype=np.int32))
