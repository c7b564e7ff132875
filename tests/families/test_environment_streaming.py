"""Clusters over batches: equal to steps over all atoms at once, for any division into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import naive.environments as naive
from phaseseg import Frame, map_frames
from phaseseg.families.environments.clusters import REGULAR, cluster
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.streaming import _sampled, stream_clusters


def drawn(n=900, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.repeat(np.arange(3), [n // 2, n // 3, n - n // 2 - n // 3]))
    return rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)) + 4 * np.eye(3, 4)[kind], kind


def divided(rows, seed):
    return np.split(rows, np.sort(np.random.default_rng(seed).integers(0, len(rows), 6)))


def test_mixture_equals_steps_over_all_atoms():
    rows, _ = drawn()
    options = {"n_clusters": 3, "sample": 300, "seed": 1}
    start = stream_clusters([rows], passes=0, **options)
    found = stream_clusters(divided(rows, 0), passes=3, **options)
    points = start.clusters.projection(rows)
    arrays = start.clusters.arrays
    weights, means, lower = (arrays[name] for name in ("weights", "means", "cholesky"))
    covariances = lower @ np.swapaxes(lower, 1, 2)
    for value in found.objective:
        expected, weights, means, covariances = naive.em_step(points, weights, means, covariances, REGULAR)
        assert value == pytest.approx(expected, rel=1e-9)
    order = np.argsort(-weights)
    ours = found.clusters.arrays
    ranks = np.argsort(-ours["weights"])
    np.testing.assert_allclose(ours["weights"][ranks], weights[order], rtol=1e-8)
    np.testing.assert_allclose(ours["means"][ranks], means[order], rtol=1e-7, atol=1e-8)
    assert found.n_atoms == 900 and found.n_sampled == start.n_sampled == 300
    assert np.array_equal(np.bincount(found.clusters.assign(rows), minlength=3), found.counts)
    assert (np.diff(found.counts) <= 0).all() and found.counts.sum() == 900


def test_kmeans_equals_steps_over_all_atoms():
    rows, _ = drawn(1200, 3)
    options = {"method": "kmeans", "n_clusters": 7, "sample": 200, "seed": 2}
    start = stream_clusters([rows], passes=0, **options)
    found = stream_clusters(lambda: divided(rows, 1), passes=3, **options)
    points, centers = start.clusters.projection(rows), start.clusters.arrays["points"]
    for value in found.objective:
        expected, centers = naive.lloyd_step(points, centers)
        assert value == pytest.approx(expected, rel=1e-10)
    ours = found.clusters.arrays["points"]
    np.testing.assert_allclose(
        ours[np.lexsort(ours.T)], centers[np.lexsort(centers.T)], rtol=1e-9, atol=1e-12
    )
    assert (np.diff(found.objective) <= 1e-12).all()
    assert np.array_equal(np.bincount(found.clusters.assign(rows), minlength=7), found.counts)


@pytest.mark.parametrize("method", ["mixture", "kmeans"])
def test_a_small_set_is_fitted_as_a_whole(method):
    rows, _ = drawn()
    found = stream_clusters(divided(rows, 2), method, passes=0, n_clusters=3)
    expected = cluster(rows, method, n_clusters=3)
    assert found.n_sampled == 900
    assert np.array_equal(found.clusters.assign(rows), expected.assign(rows))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_descriptors_of_a_trajectory_come_from_workers(backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    rng = np.random.default_rng(0)
    frames = [Frame(rng.random((30, 3)) * 7, [7.0] * 3, True, ["Fe"] * 30) for _ in range(4)]
    descriptor = PowerSpectrum(("Fe",))
    found = list(map_frames(descriptor, frames, workers=2, backend=backend))
    assert all(np.array_equal(rows, descriptor(frame)) for rows, frame in zip(found, frames, strict=True))
    one = stream_clusters(lambda: map_frames(descriptor, frames), n_clusters=2)
    two = stream_clusters(found, n_clusters=2)
    assert one.objective == two.objective and np.array_equal(one.counts, two.counts)


@given(seed=st.integers(0, 1000), most=st.integers(2, 40), division=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_sample_does_not_depend_on_the_batches(seed, most, division):
    rows = np.arange(200.0)[:, None]
    one, n = _sampled([rows], most, np.random.default_rng(seed), None)
    two, _ = _sampled(divided(rows, division), most, np.random.default_rng(seed), None)
    assert n == 200 and np.array_equal(one, two) and len(np.unique(one)) == most
    assert (np.diff(one[:, 0]) > 0).all()


def test_the_sample_is_uniform():
    rows = np.arange(40.0)[:, None]
    counts = np.zeros(40)
    for seed in range(600):
        counts[_sampled(divided(rows, seed), 10, np.random.default_rng(seed), None)[0][:, 0].astype(int)] += 1
    assert counts.sum() == 6000 and abs(counts - 150).max() < 5 * np.sqrt(150 * 0.75)


def test_progress_rises_and_may_stop():
    rows, _ = drawn(200)
    seen = []
    stream_clusters(divided(rows, 0), n_clusters=2, progress=lambda done, line: seen.append(done))
    assert seen == sorted(seen) and seen[-1] == 1

    def stop(done, line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_clusters([rows], n_clusters=2, progress=stop)


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda rows: stream_clusters([rows], "tree"), "only mixture and kmeans .* found 'tree'"),
        (lambda rows: stream_clusters([rows], passes=-1), "passes must be a whole number from 0 on"),
        (lambda rows: stream_clusters([rows], sample=1), "at least two atoms, found 1"),
        (lambda rows: stream_clusters([rows[:1]]), "at least two rows, found 1"),
        (lambda rows: stream_clusters([rows, rows[:, :2]]), "has 2 features, and those before have 4"),
        (lambda rows: stream_clusters(iter([rows])), "gave 0 atoms, and the first 200"),
        (lambda rows: stream_clusters([]), "descriptors must be an array"),
    ],
)
def test_bad_input(action, message):
    with pytest.raises(ValueError, match=message):
        action(drawn(200)[0])
