"""Clusters of environments: known groups are found, new atoms need no fit, files hold numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

import naive.environments as naive
from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families.environments import components
from phaseseg.families.environments.clusters import cluster, load_clusters, log_shares
from phaseseg.families.environments.exact import from_parts, to_parts
from phaseseg.families.environments.outliers import fit_scale
from phaseseg.families.environments.projection import fit_projection
from phaseseg.families.environments.spanning import by_size
from phaseseg.recipes.environments.sets import data_file
from phaseseg.recipes.environments.study import rows_and_tags
from samples import share_checkpoint

OPTIONS = {
    "mixture": {"n_clusters": (2, 6)},
    "kmeans": {"n_clusters": 4},
    "communities": {"resolution": 0.3},
    "tree": {"smallest": 10},
    "threshold": {"distance": 1.0},
}


def groups(n=400, d=4, seed=0):
    """Rows around four centers, and which; the centers have 40, 30, 20 and 10 % of them."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(4), np.array([4, 3, 2, 1]) * n // 10))
    return np.eye(4, d)[truth] * 20 + rng.normal(0, 0.2, (n, d)), truth


@pytest.mark.slow
@pytest.mark.parametrize("method", OPTIONS)
def test_known_groups(method):
    rows, truth = groups()
    found = cluster(rows, method, compress=False, **OPTIONS[method])
    labels = found.assign(rows)
    inside = labels >= 0
    assert inside.mean() > 0.95 and found.n_clusters >= 4
    assert np.array_equal(labels[inside], truth[inside])  # the largest is 0
    assert (np.diff(np.bincount(labels[inside])) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", OPTIONS)
def test_new_atoms_and_files(method, tmp_path):
    rows, _ = groups()
    new, truth = groups(100, seed=1)
    found = cluster(rows, method, **OPTIONS[method])
    found.save(tmp_path / "clusters.safetensors")
    again = load_clusters(tmp_path / "clusters.safetensors")
    assert again.n_clusters == found.n_clusters and again.scores == found.scores
    assert np.array_equal(again.assign(rows), found.assign(rows))
    assert np.array_equal(again.assign(new), found.assign(new))
    # One atom alone gets the label that it has among others.
    assert [found.assign(new[i : i + 1])[0] for i in range(9)] == found.assign(new)[:9].tolist()
    if method in ("mixture", "kmeans"):
        assert np.array_equal(cluster(rows, method, compress=False, **OPTIONS[method]).assign(new), truth)
    assert found.assign(rows[:0]).shape == (0,)


@pytest.mark.parametrize("method", OPTIONS)
def test_same_seed_same_answer_in_any_order(method):
    rows, _ = groups()
    one, two = (cluster(rows, method, seed=3, **OPTIONS[method]).assign(rows) for _ in range(2))
    assert np.array_equal(one, two)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = cluster(rows[order], method, seed=3, **OPTIONS[method]).assign(rows[order])
    assert adjusted_rand_score(shuffled, one[order]) == 1


def test_threshold_equals_components_of_all_pairs():
    rows, _ = groups(200)
    for distance in (0.2, 0.5, 1.0):
        found = cluster(rows, "threshold", distance=distance)
        expected = naive.components_within(found.projection(rows), distance)
        assert np.array_equal(found.assign(rows), by_size(expected))
    far = rows[:1] + 1000
    assert found.assign(far).tolist() == [-1]


def test_log_shares_are_those_of_scikit_learn():
    points = groups()[0]
    model = GaussianMixture(3, random_state=0).fit(points)
    arrays = {
        "means": model.means_, "cholesky": np.linalg.cholesky(model.covariances_), "weights": model.weights_
    }  # fmt: skip
    ours = log_shares(points, arrays) - 0.5 * points.shape[1] * np.log(2 * np.pi)
    np.testing.assert_allclose(np.log(np.exp(ours).sum(axis=1)), model.score_samples(points), rtol=1e-10)


def test_projection():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, [1.0, 5.0, 0.01], (300, 3)) @ rng.normal(0, 1, (3, 5))
    rows = np.concatenate([rows, np.full((300, 1), 4.0)], axis=1)  # a constant feature
    projection = fit_projection(rows, 9, compress=False)
    points = projection(rows)
    assert points.shape == (300, 3)
    standard = (rows[:, :5] - rows[:, :5].mean(axis=0)) / rows[:, :5].std(axis=0)
    # Distances are those of standardized features.
    np.testing.assert_allclose(
        np.linalg.norm(points[:50, None] - points[:50], axis=-1),
        np.linalg.norm(standard[:50, None] - standard[:50], axis=-1),
        atol=1e-9,
    )
    np.testing.assert_allclose(np.cov(points.T, bias=True), np.diag(projection.explained * 5), atol=1e-9)
    scaled = fit_projection(rows * 7.0, 3)(rows * 7.0)
    np.testing.assert_allclose(scaled, fit_projection(rows, 3)(rows), atol=1e-8)  # units do not matter
    assert fit_projection(np.ones((5, 2)), 3)(np.ones((5, 2))).tolist() == [[0.0]] * 5


@pytest.mark.parametrize("fit", [lambda rows, n: fit_projection(rows, n), fit_scale])
@pytest.mark.parametrize("n_rows", [40, 90])
def test_many_features_do_not_need_all_their_products(monkeypatch, fit, n_rows):
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [rng.normal(size=(n_rows, 6)) @ rng.normal(size=(6, 60)), np.ones((n_rows, 3))], axis=1
    )
    rows[:, :60] += 0.1 * rng.normal(size=(n_rows, 60))
    usual = fit(rows, 5)
    monkeypatch.setattr(components, "MOST_DENSE", 20)
    found = fit(rows, 5)
    # The signs of the axes of outlier scores are arbitrary. The iteration ends before the last digits.
    np.testing.assert_allclose(
        np.abs(found(rows)), np.abs(usual(rows)), atol=1e-5 * np.abs(usual(rows)).max()
    )
    if hasattr(found, "explained"):
        np.testing.assert_allclose(found.explained, usual.explained, rtol=1e-8)
    np.testing.assert_array_equal(fit(rows, 5)(rows), found(rows))
    assert fit(np.repeat(rows[:1], 30, axis=0), 3)(rows[:5]).tolist() == [[0.0]] * 5
    assert fit(rows[:2], 3)(rows[:2]).shape[1] == 1


def test_axes_of_many_rows_and_features(monkeypatch):
    """Where variances fall slowly, the axes of the iteration are nearly the best ones."""
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(300, 200)) * np.arange(1, 201) ** -0.5
    rows -= rows.mean(axis=0)
    every = np.sort(np.linalg.eigvalsh(rows.T @ rows / 300))[::-1]
    monkeypatch.setattr(components, "MOST_DENSE", 50)
    variances, axes, total = components.principal_axes(lambda part: rows[part], 300, 200, 8)
    assert total == pytest.approx(every.sum(), rel=1e-12)
    assert (variances <= every[:8] * (1 + 1e-9)).all() and (variances > 0.95 * every[:8]).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-12)
    points = rows @ axes
    np.testing.assert_allclose(points.T @ points / 300, np.diag(variances), atol=1e-12)
    # Of more rows than fit, a random sample decides.
    monkeypatch.setattr(components, "MOST_BYTES", 8 * 200 * 100)
    sampled = components.principal_axes(lambda part: rows[part], 300, 200, 8)
    assert 0.5 * variances[0] < (rows @ sampled.axes[:, 0]).var() < variances[0]


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda rows: cluster(rows, "dbscan"), "no method 'dbscan'; choose one of mixture"),
        (lambda rows: cluster(rows, "tree", distance=1.0), "tree has no option distance"),
        (lambda rows: cluster(rows, "threshold"), "needs a distance"),
        (lambda rows: cluster(rows, n_clusters=(3, 2)), "a range of them"),
        (lambda rows: cluster(rows[:2], n_clusters=5), "need at least as many atoms, found 2"),
        (lambda rows: cluster(rows, "kmeans", n_clusters=0), "between 1 and the 40 atoms"),
        (lambda rows: cluster(rows[:1]), "at least two rows, found 1"),
        (lambda rows: cluster(rows, n_components=0), "n_components must be"),
        (lambda rows: cluster(rows[0]), "must be an array"),
        (
            lambda rows: cluster(np.where(np.arange(40)[:, None] == 7, np.nan, rows)),
            "of atom 7 is not finite",
        ),
        (lambda rows: cluster(rows, "tree").assign(rows[:, :2]), "fitted on 4 features, and the rows have 2"),
    ],
)
def test_bad_input(action, message):
    with pytest.raises(ValueError, match=message):
        action(groups(40)[0])


def test_numbers_in_files_are_exact():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 50)) * 10 ** rng.uniform(-20, 20, (40, 50))
    for array in (values, np.arange(-5, 5), np.array(2**53 - 1), np.zeros((0, 3)), np.float32([0.1])):
        parts = to_parts(array, "values")
        assert parts.dtype == np.float32 and parts.shape[1:] == np.shape(array)
        assert np.array_equal(from_parts(parts), array)
    assert len(to_parts(np.arange(9), "n")) == 1 and len(to_parts([0.1], "x")) == 3
    for bad in (np.nan, np.inf, 1e31):
        with pytest.raises(ValueError, match="radii holds numbers that are not finite or larger"):
            to_parts([1.0, bad], "radii")
    with pytest.raises(ValueError, match="one to three parts"):
        from_parts(np.float32(1))


def test_distances():
    rows, _ = groups()
    mixture = cluster(rows, n_clusters=4, compress=False)
    labels = mixture.assign(rows)
    points = mixture.projection(rows)
    for row in (0, 17, 399):
        off = points[row] - mixture.arrays["means"][labels[row]]
        lower = mixture.arrays["cholesky"][labels[row]]
        expected = np.sqrt(off @ np.linalg.inv(lower @ lower.T) @ off)
        assert mixture.distances(rows, labels)[row] == pytest.approx(expected)
    for method in ("kmeans", "tree", "threshold"):
        found = cluster(rows, method, compress=False, **OPTIONS[method])
        away = found.distances(rows + 3.0, found.assign(rows + 3.0))
        places = found.arrays["points"]
        naive_away = np.linalg.norm(found.projection(rows + 3.0)[:, None] - places, axis=-1).min(axis=1)
        np.testing.assert_allclose(away, naive_away, atol=1e-12)
        if method != "kmeans":
            assert found.distances(rows, found.assign(rows)).max() < 1e-6
    assert mixture.distances(rows[:0], labels[:0]).shape == (0,)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_clusters(path)
    save_checkpoint(share_checkpoint(), path)
    with pytest.raises(ValueError, match="no checkpoint of fitted environments"):
        load_clusters(path)


@pytest.mark.parametrize("method", OPTIONS)
def test_damaged_checkpoints_are_refused(method, tmp_path):
    """A missing array, one of another shape, and settings that mean nothing become one sentence."""
    rows, _ = groups()
    path = tmp_path / "c.safetensors"
    found = cluster(rows, method, **OPTIONS[method])
    settings, weights = found.to_parts()

    def refused(settings, weights):
        save_checkpoint(Checkpoint("environments", "environments/x", {"clusters": settings}, weights), path)
        with pytest.raises(ValueError, match=r"c\.safetensors: the checkpoint is damaged: .*\.$"):
            load_clusters(path)

    for name in weights:
        if name != "projection.explained":
            refused(settings, {key: value for key, value in weights.items() if key != name})
            refused(settings, weights | {name: np.zeros((1, 3, 3, 3), np.float32)})
    refused({"scores": {}}, weights)
    refused({"method": "dice"}, weights)
    refused(settings | {"scores": 3}, weights)


@pytest.mark.slow
@pytest.mark.parametrize("name, ari, nmi", [("ta", 0.48, 0.65), ("fe", 0.40, 0.53)])
def test_groups_of_public_sets(name, ari, nmi):
    """The requirement on the default method with our descriptors at their defaults."""
    if not data_file(name).is_file():
        pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with mlff/{name}.xyz.gz")
    rows, tags = rows_and_tags(name)
    found = cluster(rows)
    labels = found.assign(rows)
    assert adjusted_rand_score(tags, labels) >= ari
    assert normalized_mutual_info_score(tags, labels) >= nmi
    assert found.n_clusters <= 30
