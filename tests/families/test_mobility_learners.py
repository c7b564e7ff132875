"""Ridges and graph filter networks of the family mobility: twins, symmetries, calibration, files."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from naive import descriptors as naive
from phaseseg import Frame, fit, load_model
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.mobility.crossvalidation import blend_of, type_scores
from phaseseg.families.mobility.filters import filter_outputs, filters_of, network_inputs
from phaseseg.families.mobility.inherent import inherent_positions
from phaseseg.families.mobility.learner import Learner, LearnerConfig, features_of
from phaseseg.families.mobility.learner_checkpoint import fit_learner
from phaseseg.families.mobility.learner_fit import LearnerTraining, Sample, folds_of, train_learner
from phaseseg.families.mobility.potentials import LennardJonesMixture
from phaseseg.families.mobility.ridge import RidgeSums, standardized
from phaseseg.families.mobility.scalars import CAGE_SCALARS, INHERENT_SCALARS, scalar_values
from phaseseg.families.mobility.stiffness import local_stiffness
from phaseseg.families.mobility.structure import structure_of
from phaseseg.families.mobility.structure_cache import forget_structures
from phaseseg.families.mobility.systems import Quantity
from phaseseg.testing.frames import awkward_frames, permuted, rotated, translated, wrapped_elsewhere
from phaseseg.training.output import TrainingOutput

KA = LennardJonesMixture.kob_andersen()


def liquid(seed=0, n=216, density=1.2):
    """Particles on jittered sites, no two nearer than about 0.7, in a cube; every fifth is B."""
    rng = np.random.default_rng(seed)
    side = round(n ** (1 / 3))
    edge = (n / density) ** (1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = (sites + 0.5 + rng.uniform(-0.12, 0.12, (n, 3))) * edge / side
    species = rng.permutation(np.arange(n) % 5 == 0).astype(int)
    info = {"temperature": 0.44}
    return Frame(positions, [edge] * 3, True, species, ("A", "B"), units="lj", info=info)


def calm_liquid(seed):
    """Near a minimum of the energy: no particle is about to leave its cage."""
    frame = liquid(seed)
    noise = np.random.default_rng(seed).normal(0, 0.03, frame.positions.shape)
    return frame.replace(positions=inherent_positions(frame).positions + noise)


@pytest.fixture(scope="module")
def structures():
    """Small structures with short cage runs."""
    return [structure_of(calm_liquid(seed), temperature=0.44, steps=1200, seed=seed) for seed in range(5)]


def hidden_target(frame, codes, seed):
    """What can be learned from the neighborhood, with noise: the density of A around, more for B."""
    operator = filters_of(frame, codes)
    around = operator(np.ones((frame.n_atoms, 1), dtype=np.float32))
    rng = np.random.default_rng(seed)
    return (0.3 + 0.2 * around[:, 0] - 0.1 * around[:, 2] + 0.1 * codes + 0.02 * rng.normal(size=len(codes)))[
        :, None
    ]


def samples_of(structures, config):
    found = []
    for k, structure in enumerate(structures):
        features = features_of(structure.frame, structure.codes, structure, config)
        calm = structure.frame.replace(positions=structure.inherent.positions)
        found.append(Sample(f"s{k}", features, hidden_target(calm, structure.codes, k)))
    return found


SMALL = LearnerConfig(hidden=8, rounds=2, dropout=0.1)
QUICK = LearnerTraining(folds=2, repeats=1, epochs=15)


# ---------------------------------------------------------------------------------------- operators


@pytest.mark.parametrize("name", ["triclinic", "open", "tiny", "one atom"])
def test_filters_equal_the_naive_sums(name):
    frame = awkward_frames(("A", "B"), "lj", 1.0)[name]()
    codes = np.minimum(frame.species, 1)
    filters = filters_of(frame, codes)
    rows = np.random.default_rng(0).normal(size=(frame.n_atoms, 3)).astype(np.float32)
    assert_allclose(filters(rows), naive.filtered(frame, codes, rows), atol=1e-4, rtol=1e-5)


def test_the_transposed_operator_is_the_adjoint():
    frame = liquid()
    filters = filters_of(frame, frame.species)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(frame.n_atoms, 5)).astype(np.float32)
    y = rng.normal(size=(frame.n_atoms, 20)).astype(np.float32)
    assert np.vdot(filters(x), y) == pytest.approx(np.vdot(x, filters.transposed(y)), rel=1e-4)


def test_stiffness_is_the_derivative_of_the_forces():
    frame = liquid(3)
    blocks = local_stiffness(frame, KA)
    assert_allclose(blocks, blocks.transpose(0, 2, 1), rtol=1e-12, atol=1e-9)
    step = 1e-6
    for i in (0, 7, 100):
        for axis in range(3):
            moved = [frame.positions.copy() for _ in range(2)]
            moved[0][i, axis] += step
            moved[1][i, axis] -= step
            up, down = (KA.forces(frame.replace(positions=p))[i] for p in moved)
            assert_allclose(blocks[i, axis], (down - up) / (2 * step), rtol=1e-4, atol=1e-2)
    alone = Frame([[0.0, 0, 0]], [9, 9, 9], True, ["A"], units="lj")
    assert not local_stiffness(alone, KA).any()


# ------------------------------------------------------------------------------------------ scalars


@pytest.mark.slow
def test_scalars_are_what_their_names_say(structures):
    structure = structures[0]
    names = (*dict.fromkeys(CAGE_SCALARS + INHERENT_SCALARS),)
    found = dict(zip(names, scalar_values(structure, names).T, strict=True))
    away = structure.inherent.positions - structure.frame.positions
    assert_allclose(found["inherent_displacement"], np.linalg.norm(away, axis=1), rtol=1e-5, atol=1e-6)
    variance = np.trace(structure.cage.covariance, axis1=1, axis2=2)
    assert_allclose(found["log_cage_variance"], np.log(variance), rtol=1e-5, atol=1e-5)
    assert (found["log_cage_least"] < found["log_cage_largest"]).all()
    assert (found["log_cage_largest"] < found["log_cage_variance"]).all()
    assert_allclose(found["inherent_energy"].sum(), structure.inherent.energy.sum(), rtol=1e-5)
    assert found["inherent_energy"].mean() < found["cage_energy"].mean()
    assert (found["log_local_least_stiffness"] < found["log_local_stiffness"]).all()
    assert scalar_values(structure, ()).shape == (216, 0)
    with pytest.raises(ValueError, match="unknown scalar softness"):
        scalar_values(structure, ["softness"])
    with pytest.raises(ValueError, match="need cage runs"):
        scalar_values(replace(structure, cage=None), ["cage_energy"])


# -------------------------------------------------------------------------------------------- ridge


def test_ridge_equals_the_textbook_formula():
    rng = np.random.default_rng(0)
    rows = [rng.normal(3, [1, 10, 0.1], size=(n, 3)).astype(np.float32) for n in (50, 70)]
    codes = [rng.integers(0, 2, len(x)) for x in rows]
    targets = [rng.normal(size=(len(x), 2)) for x in rows]
    ridge = RidgeSums(rows, targets, codes).solve([0, 1], penalty=0.1)
    found = ridge(rows[1], codes[1])
    for t in range(2):
        x = np.concatenate([r[c == t] for r, c in zip(rows, codes, strict=True)]).astype(float)
        y = np.concatenate([z[c == t] for z, c in zip(targets, codes, strict=True)])
        mean, scale = x.mean(axis=0), x.std(axis=0)
        z = (x - mean) / scale
        w = np.linalg.solve(z.T @ z + 0.1 * len(x) * np.eye(3), z.T @ y)
        own = codes[1] == t
        assert_allclose(found[own], (rows[1][own] - mean) / scale @ w, rtol=1e-4, atol=1e-5)


def test_a_constant_column_has_no_weight_and_a_missing_type_is_refused():
    rng = np.random.default_rng(0)
    rows = np.c_[rng.normal(size=60), np.full(60, 7.3)].astype(np.float32)
    targets, codes = rng.normal(size=(60, 1)), np.zeros(60, dtype=int)
    with pytest.raises(ValueError, match="type 1 has 0 particles"):
        RidgeSums([rows], [targets], [codes]).solve([0])
    codes[::2] = 1
    ridge = RidgeSums([rows], [targets], [codes]).solve([0])
    assert (ridge.coefficients[:, 1] == 0).all()
    assert np.isfinite(ridge(rows + 100, codes)).all()


def test_standardized_targets():
    values, codes = np.array([[1.0], [3.0], [5.0], [5.0]]), np.array([0, 0, 1, 1])
    found, mean, scale = standardized(values, codes)
    assert found.ravel().tolist() == [-1, 1, 0, 0]
    assert mean.ravel().tolist() == [2, 5] and scale.ravel().tolist() == [1, 1]


# ------------------------------------------------------------------------------------------ network


@pytest.mark.slow
def test_the_network_is_the_same_with_and_without_torch(structures):
    torch = pytest.importorskip("torch")
    from phaseseg.families.mobility.filter_network import FilterNetwork

    sample = samples_of(structures[:1], SMALL)[0]
    torch.manual_seed(0)
    network = FilterNetwork(SMALL.columns + 1, 2, SMALL.hidden, SMALL.rounds, 0.1).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {name: values.numpy() for name, values in network.state_dict().items()}
    assert {name: values.shape for name, values in weights.items()} == SMALL.weight_shapes()
    rows = sample.features.rows
    center, scale = np.stack([rows.mean(axis=0)] * 2), np.stack([rows.std(axis=0) + 1e-3] * 2)
    inputs = network_inputs(rows, sample.features.codes, center, scale)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs), sample.features.filters).numpy()
    found = filter_outputs(weights, inputs, sample.features.filters, SMALL.rounds)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_the_gradient_through_the_operators(structures):
    torch = pytest.importorskip("torch")
    from phaseseg.families.mobility.filter_network import _Sums

    filters = samples_of(structures[:1], SMALL)[0].features.filters
    x = torch.randn(216, 2, requires_grad=True)
    y = torch.randn(216, 8)
    (_Sums.apply(x, filters) * y).sum().backward()
    assert_allclose(x.grad.numpy(), filters.transposed(y.numpy()), rtol=1e-5)


# ----------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained(structures):
    pytest.importorskip("torch")
    samples = samples_of(structures, SMALL)
    return samples, train_learner(samples, SMALL, QUICK)


@pytest.mark.slow
def test_training_learns_what_it_has_not_seen(trained):
    samples, found = trained
    assert set(found.scores) == {"blend", "ridge", "net"}
    assert found.scores["blend"].shape == (5, 2, 1)
    # Three systems of 173 particles A are few, but enough to be far from 0.
    assert found.scores["blend"][:, 0].min() > 0.2
    # Nine of ten errors lie within the intervals, by construction over all systems together.
    assert found.blend.coverage[:, 0, 0].mean() == pytest.approx(0.9, abs=0.03)
    again = train_learner(samples, SMALL, QUICK)
    for name, values in found.weights.items():
        assert_array_equal(values, again.weights[name])


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_the_same_result(trained, structures, tmp_path):
    samples, whole = trained
    frames = [structure.frame for structure in structures]
    quantities = [Quantity("propensity", 10.0)]

    def stop(done, text):
        if "network 2" in text:
            raise KeyboardInterrupt

    def fit(resume, progress=None):
        files = TrainingOutput("mobility", tmp_path / "mine-v1.safetensors", None, resume=resume)
        return fit_learner(
            samples, frames, quantities, SMALL, QUICK, files=files, data_digest="x", progress=progress
        )

    with pytest.raises(KeyboardInterrupt):
        fit(False, stop)
    with pytest.raises(ValueError, match="unfinished training"):
        fit(False)
    checkpoint, resumed = fit(True)
    for name, values in whole.weights.items():
        assert_array_equal(values, resumed.weights[name])
    assert not (tmp_path / "mine-v1.state.safetensors").exists()
    assert load_checkpoint(tmp_path / "mine-v1.safetensors").hash == checkpoint.hash


@pytest.mark.slow
def test_a_checkpoint_predicts_like_its_learner(trained, structures, tmp_path):
    samples, _ = trained
    files = TrainingOutput("mobility", tmp_path / "mine-v1.safetensors", None, resume=False)
    frames = [structure.frame for structure in structures]
    checkpoint, _ = fit_learner(
        samples, frames, [Quantity("propensity", 10.0)], SMALL, QUICK, files=files, data_digest="x"
    )
    model = load_model(tmp_path / "mine-v1.safetensors")
    assert model.predictor.needs == {"inherent", "cage"}
    learner = Learner(SMALL, checkpoint.weights)
    structure = structures[0]
    estimate = learner.predict(structure.frame, structure.codes, structure)
    assert_array_equal(estimate.mean, learner.of_features(samples[0].features).mean)
    assert (estimate.spread > 0).all()
    target = samples[0].targets
    assert (type_scores(estimate.mean, target, structure.codes)[0] > 0.6).all()
    inside = np.abs(estimate.mean - target) < 1.645 * estimate.spread
    assert 0.75 < inside.mean() <= 1
    assert checkpoint.ranges["temperature"] == [0.44, 0.44]


def test_a_ridge_needs_no_torch_and_no_members(structures, tmp_path):
    config = LearnerConfig(method="ridge", positions="inherent", scalars=INHERENT_SCALARS)
    samples = samples_of(structures, config)
    assert samples[0].features.filters is None
    files = TrainingOutput("mobility", tmp_path / "flat-v1.safetensors", None, resume=False)
    frames = [structure.frame for structure in structures]
    checkpoint, found = fit_learner(
        samples, frames, [Quantity("propensity", 10.0)], config, QUICK, files=files, data_digest="x"
    )
    assert set(found.scores) == {"blend", "ridge"} and not found.members
    assert_allclose(found.scores["blend"], found.scores["ridge"], rtol=1e-10)
    fields = load_model(tmp_path / "flat-v1.safetensors").predict(frames[0])
    learner = Learner(config, checkpoint.weights)
    expected = learner.predict(frames[0], structures[0].codes, structures[0]).mean[:, 0]
    assert_allclose(fields["propensity"], expected, rtol=1e-4)


@pytest.mark.slow
def test_symmetries_at_given_structures(structures, trained):
    _, found = trained
    learner = Learner(SMALL, found.weights)
    structure = structures[1]

    def changed(change):
        """The same change of all positions of a structure."""

        def of(positions):
            return change(structure.frame.replace(positions=positions)).positions

        frame = change(structure.frame)
        cage, inherent = structure.cage, structure.inherent
        base = frame.positions
        samples = np.stack([of(structure.frame.positions + one) - base for one in cage.samples])
        return replace(
            structure, frame=frame,
            inherent=replace(inherent, positions=of(inherent.positions)),
            cage=replace(cage, positions=of(cage.positions), samples=samples.astype(np.float32)),
        )  # fmt: skip

    before = learner.predict(structure.frame, structure.codes, structure)
    for change in (
        lambda frame: translated(frame, [0.3, -4.0, 12.0]),
        lambda frame: wrapped_elsewhere(frame, 1),
        lambda frame: rotated(frame, 2),
    ):
        other = changed(change)
        after = learner.predict(other.frame, other.codes, other)
        # Descriptors are sums in float32, see test_mobility_descriptors.
        assert_allclose(after.mean, before.mean, atol=2e-3 * before.mean.std())
    order = np.random.default_rng(0).permutation(structure.frame.n_atoms)
    inherent = replace(
        structure.inherent, positions=structure.inherent.positions[order],
        displacement=structure.inherent.displacement[order], energy=structure.inherent.energy[order],
        thermal_energy=structure.inherent.thermal_energy[order],
    )  # fmt: skip
    old = structure.cage
    cage = replace(
        old, positions=old.positions[order], covariance=old.covariance[order], energy=old.energy[order],
        displacement=old.displacement[order], samples=old.samples[:, order],
    )  # fmt: skip
    other = replace(
        structure, frame=permuted(structure.frame, order), codes=structure.codes[order], inherent=inherent,
        cage=cage,
    )  # fmt: skip
    after = learner.predict(other.frame, other.codes, other)
    assert_allclose(after.mean, before.mean[order], atol=2e-3 * before.mean.std())


# ------------------------------------------------------------------------------------ blend, settings


def test_blend_weighs_network_and_ridge_and_covers_nine_tenths():
    rng = np.random.default_rng(0)
    codes = [np.zeros(4000, dtype=np.int32), np.zeros(4000, dtype=np.int32)]
    truth = [rng.normal(size=(4000, 1)) for _ in codes]
    targets = [5 + 2 * t for t in truth]
    networks = [3 * (t + 0.5 * rng.normal(size=t.shape)) for t in truth]
    ridges = [0.1 * (t + rng.normal(size=t.shape)) for t in truth]
    blend, found = blend_of(networks, ridges, targets, codes, 0.5)
    scores = [type_scores(p, y, c)[0, 0] for p, y, c in zip(found, targets, codes, strict=True)]
    assert min(scores) > max(type_scores(networks[0], targets[0], codes[0])[0, 0], 0.9)
    assert blend.coverage[:, 0, 0] == pytest.approx([0.9, 0.9], abs=0.02)
    assert np.isnan(blend.coverage[:, 1]).all()
    # The deviation of the error of the best linear prediction.
    assert np.exp(blend.spread[0, 0, 0]) == pytest.approx((1 - np.mean(scores) ** 2) ** 0.5, rel=0.05)


def test_folds_keep_groups_together():
    assert folds_of(["a", "b", "a", "c"], 2).tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="1 independent system cannot"):
        folds_of(["a", "a"], 5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "forest"}, "method must be"),
        ({"positions": "crystal"}, "positions must be"),
        ({"positions": "thermal+crystal"}, "positions must be"),
        ({"positions": "thermal+thermal"}, "positions must be"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"penalty": 0.0}, "penalty must be positive"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"targets": ()}, "targets must be distinct"),
        ({"scalar_rounds": -1}, "cannot be negative"),
        ({"ridge_share": -1.0}, "ridge_share must not be negative"),
    ],
)
def test_settings_out_of_range(wrong, said):
    with pytest.raises(ValueError, match=said):
        LearnerConfig(**wrong)


def test_what_a_configuration_needs():
    assert LearnerConfig().needs == {"inherent", "cage"}
    assert LearnerConfig(positions="inherent", scalars=INHERENT_SCALARS).needs == {"inherent"}
    assert LearnerConfig(method="ridge", positions="thermal", scalars=()).needs == frozenset()
    assert LearnerConfig(positions="thermal+inherent", scalars=()).needs == {"inherent"}
    assert LearnerConfig(positions="samples+thermal").needs == {"inherent", "cage"}
    with pytest.raises(ValueError, match="lacks cage or inherent"):
        features_of(liquid(), liquid().species, None, LearnerConfig())


def test_descriptors_of_several_places_follow_one_another(structures):
    structure = structures[0]
    frame, codes = structure.frame, structure.codes
    places = ("cage", "thermal", "inherent")

    def rows(positions):
        config = LearnerConfig(method="ridge", positions=positions, scalars=())
        return features_of(frame, codes, structure, config).rows

    joint = rows("+".join(places))
    assert joint.shape[1] == LearnerConfig(positions="+".join(places), scalars=()).columns
    assert np.array_equal(joint, np.concatenate([rows(place) for place in places], axis=1))
    assert not np.array_equal(rows("cage"), rows("thermal"))


def test_weights_that_do_not_fit(trained):
    _, found = trained
    with pytest.raises(ValueError, match=r"member0.input.bias is missing"):
        Learner(SMALL, {k: v for k, v in found.weights.items() if k != "member0.input.bias"})
    with pytest.raises(ValueError, match=r"shared.blend must have the shape"):
        Learner(SMALL, found.weights | {"shared.blend": np.zeros(3, dtype=np.float32)})


@pytest.mark.slow
def test_training_from_files_by_the_command(structures, tmp_path, monkeypatch):
    """The options of `phaseseg train mobility` reach a ridge and networks; structures are kept."""
    pytest.importorskip("torch")
    forget_structures()
    runs = []
    for k, structure in enumerate(structures[:3]):
        values = hidden_target(structure.frame, structure.codes, k)[:, 0]
        runs.append([structure.frame.replace(fields={"propensity": values})])
    options = {"folds": 3, "structures": str(tmp_path / "kept")}
    ridge = {"method": "ridge", "positions": "inherent", "output": tmp_path / "a-v1.safetensors"}
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)
        without.delitem(sys.modules, "phaseseg.families.mobility.fit", raising=False)
        flat = fit(runs, "mobility", **ridge, **options)
        with pytest.raises(ImportError, match=r"training needs PyTorch"):
            fit(runs, "mobility", positions="thermal", **options)
    assert flat.config["method"] == "ridge" and flat.config["network"]["positions"] == "inherent"
    assert len(list((tmp_path / "kept").glob("inherent-*.npz"))) == 3
    both = fit(runs, "mobility", **(ridge | {"positions": "inherent+thermal"}), **options)
    assert both.config["network"]["scalars"] == flat.config["network"]["scalars"]
    assert np.isfinite(load_model(both).predict(structures[4].frame)["propensity"]).all()
    net = fit(runs, "mobility", method="net", positions="thermal", epochs=2, repeats=2, **options)
    assert net.config["network"]["scalars"] == [] and len(net.card["training"]["best_epochs"]) == 6
    fields = load_model(net).predict(structures[4].frame)
    assert np.isfinite(fields["propensity"]).all() and (fields["propensity_uncertainty"] > 0).all()
    with pytest.raises(ValueError, match="there is no column"):
        fit([[structures[0].frame], [structures[1].frame]], "mobility", method="ridge", **options)


@pytest.mark.parametrize(
    "table", [None, "P P 0.5 0.88\nNi P 1.5 0.8\nNi Ni 1 1\n", "A A 1 1\nA B 1.5 0.8\nB B 0.5 0.88\n"]
)
def test_names_of_the_particles_are_those_of_the_files(structures, tmp_path, table):
    """A checkpoint for nickel and phosphorus is that for A and B, with the potential for either names."""
    frames = [
        one.frame.replace(fields={"propensity": hidden_target(one.frame, one.codes, k)[:, 0]})
        for k, one in enumerate(structures[:3])
    ]
    other = [frame.replace(species_names=("Ni", "P")) for frame in frames]
    options = {"method": "ridge", "positions": "inherent", "folds": 3}
    expected = fit([[frame] for frame in frames], "mobility", **options)
    if table is not None:
        (tmp_path / "table.txt").write_text(table, "utf-8")
        options["potential"] = str(tmp_path / "table.txt")
    found = fit([[frame] for frame in other], "mobility", species=("Ni", "P"), **options)
    for name, values in expected.weights.items():
        assert_array_equal(found.weights[name], values, name)
    one = load_model(expected).predict(frames[0])["propensity"]
    assert_array_equal(load_model(found).predict(other[0])["propensity"], one)
    assert_array_equal(load_model(found).predict(frames[0], b="B")["propensity"], one)
    if table is not None:
        again = load_model(expected).predict(other[0], b="P", potential=options["potential"])
        assert_array_equal(again["propensity"], one)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 32}, "width is a setting of the method bapst, but the method is net"),
        ({"method": "ridge", "epochs": 3}, "epochs is a setting of the method net or bapst"),
        ({"method": "bapst", "positions": "cage"}, "positions is a setting of the method net or ridge"),
        ({"method": "ridge", "repeats": 2}, "repeats is a setting of the method net, but"),
    ],
)
def test_settings_of_another_method_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit([], "mobility", **options)
