"""The cut of the attention, graphs of what is kept, and liquid against glass."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from phaseseg import predict
from phaseseg.families.liquid_glass.attention import (
    FALLBACK_QUANTILE,
    METRICS,
    compare,
    particle_attention,
    trough,
)
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.inference import Network
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.liquid_glass.structural_metrics import graph_counts

# The cut ------------------------------------------------------------------------------------------


def normals(rng, *parts):
    """exp of normal numbers: (mean, standard deviation, how many) of each part."""
    return np.exp(np.concatenate([rng.normal(mean, width, n) for mean, width, n in parts]))


def lowest_between(parts):
    """Where the density of the logarithm is lowest between the means, and how deep the trough is there."""
    x = np.linspace(parts[0][0], parts[1][0], 20001)
    total = sum(n for *_, n in parts)
    density = sum(n / total / width * np.exp(-0.5 * ((x - mean) / width) ** 2) for mean, width, n in parts)
    middle = int(np.argmin(density))
    ends = density[: middle + 1].max(), density[middle:].max()
    return x[middle], 1 - density[middle] / min(ends)


PAIRS = {
    "alike": ((-1.0, 0.4, 10000), (1.5, 0.4, 10000)),
    "a few": ((-1.0, 0.4, 19000), (2.0, 0.4, 1000)),
    "one wide": ((-2.0, 0.9, 12000), (1.2, 0.3, 8000)),
    "close": ((0.0, 0.5, 10000), (1.8, 0.5, 10000)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_known_trough_is_found(name):
    parts = PAIRS[name]
    wanted, depth = lowest_between(parts)
    for seed in range(3):
        found = trough(normals(np.random.default_rng(seed), *parts))
        assert found.bimodal
        assert np.log(found.threshold) == pytest.approx(wanted, abs=0.2)
        assert np.log(found.low) == pytest.approx(parts[0][0], abs=0.25)
        assert np.log(found.high) == pytest.approx(parts[1][0], abs=0.25)
        assert found.depth == pytest.approx(depth, abs=0.15)
        assert found.sentence.startswith(
            f"The attention threshold is {found.threshold:.3g}, the trough between"
        )


def test_of_three_maxima_the_deepest_trough_counts():
    rng = np.random.default_rng(0)
    values = normals(rng, (-2.0, 0.25, 8000), (-1.0, 0.25, 7000), (2.0, 0.4, 6000))
    found = trough(values)
    assert -0.5 < np.log(found.threshold) < 1.2
    assert np.log([found.low, found.high]) == pytest.approx([-2, 2], abs=0.15)


@pytest.mark.parametrize("name", ["normal", "even", "long tail", "shoulder", "a few outliers"])
def test_one_maximum_is_reported(name):
    rng = np.random.default_rng(1)
    values = {
        "normal": np.exp(rng.normal(0, 0.5, 5000)),
        "even": rng.random(5000) + 1e-3,
        "long tail": np.exp(rng.gamma(1.5, 1, 5000)),
        "shoulder": normals(rng, (0.0, 0.5, 6000), (0.9, 0.5, 4000)),
        "a few outliers": normals(rng, (0.0, 0.5, 6000), (9.0, 0.1, 60)),
    }[name]
    found = trough(values)
    assert not found.bimodal
    assert found.threshold == pytest.approx(np.quantile(values, FALLBACK_QUANTILE))
    assert found.sentence.startswith("The distribution of attention has no trough, so the 20% of")


def test_what_does_not_move_the_cut():
    rng = np.random.default_rng(2)
    for parts in (PAIRS["alike"], ((0.0, 0.5, 700),)):
        values = normals(rng, *parts)
        found = trough(values)
        assert trough(rng.permutation(values)) == found
        again = trough(np.tile(values, 7))
        assert (again.bimodal, again.threshold) == (found.bimodal, pytest.approx(found.threshold, rel=1e-3))
        times = trough(values * 40)
        assert times.threshold == pytest.approx(40 * found.threshold)
        # Rounding to float32 moves it as little.
        noisy = trough(values * (1 + 1e-7 * rng.normal(size=len(values))))
        assert noisy.threshold == pytest.approx(found.threshold, rel=1e-4)


@pytest.mark.parametrize("values", [np.ones(100), 1 + 1e-7 * np.arange(50), np.zeros(3), [2.0]])
def test_equal_values_have_no_cut(values):
    found = trough(values)
    assert found.threshold == np.inf and not found.bimodal and found.depth == 0
    assert found.sentence != trough(np.arange(100.0)).sentence


def test_few_or_strange_values():
    found = trough([1.0] * 5 + [20.0] * 5)
    assert found.bimodal and 2 < found.threshold < 12
    zeros = trough(np.concatenate([np.zeros(4000), normals(np.random.default_rng(0), *PAIRS["alike"])]))
    assert np.isfinite(zeros.threshold)
    for bad, said in (([], "there are no edges"), ([1, -1], "not negative"), ([1, np.nan], "finite")):
        with pytest.raises(ValueError, match=said):
            trough(bad)


# Graphs of what is kept ---------------------------------------------------------------------------


def eyes_for_b(make_glass_checkpoint):
    """A network that pays attention to where an edge comes from: to B 3 tanh(1.8 / 3) more in logarithms."""
    checkpoint = make_glass_checkpoint(attention=True, steps=1, features="types")
    weights = dict(checkpoint.weights)
    first = np.zeros_like(weights["member0.input.weight"])
    first[0, 1] = 1.8  # is B
    weights["member0.input.weight"] = first
    weights["member0.input.bias"] = np.zeros_like(weights["member0.input.bias"])
    weights["member0.attention.weight"] = np.eye(1, 12, dtype=np.float32)
    return type(checkpoint)(
        checkpoint.family, checkpoint.name, checkpoint.config, weights, units="lj", ranges=checkpoint.ranges
    )


def naive_counts(n, is_b, pairs):
    """Disjoint graphs with an edge, B-B edges, isolated A: sets that grow together."""
    groups = [{atom} for atom in range(n)]
    for i, j in pairs:
        one, two = (next(group for group in groups if atom in group) for atom in (i, j))
        if one is not two:
            groups.remove(two)
            one |= two
    joined = {atom for pair in pairs for atom in pair}
    with_edge = sum(1 for group in groups if group & joined)
    return with_edge, sum(is_b[i] and is_b[j] for i, j in pairs), sum(
        not is_b[atom] and atom not in joined for atom in range(n)
    )  # fmt: skip


def test_attention_on_b_gives_graphs_of_b(make_glass_checkpoint, make_disorder):
    """Edges between two B have e^s, mixed ones the mean, those of two A 1; each over the mean of all."""
    frame = make_disorder(225)
    is_b = frame.species == 1
    for cut in (None, 0.8, 2.0):
        fields = predict(frame, eyes_for_b(make_glass_checkpoint), attention_threshold=cut)
        bonds = fields["attention_bonds"]
        n_b = is_b[bonds.atoms].sum(axis=1)
        raw = 1 + n_b / 2 * (np.exp(3 * np.tanh(1.8 / 3)) - 1)
        wanted = raw / raw.mean()
        np.testing.assert_allclose(bonds.columns["attention"], wanted, rtol=1e-5)
        kept = bonds.columns["kept"].astype(bool)
        levels = [wanted[n_b == n][0] for n in range(3)]
        least = np.searchsorted(levels, cut or fields["attention_threshold"])
        assert least == {None: 1, 0.8: 1, 2.0: 2}[cut]
        assert_array_equal(kept, n_b >= least)
        found = [fields[f"attention_{name}"] for name in METRICS]
        assert found == list(naive_counts(225, is_b, bonds.atoms[kept].tolist()))


def test_particles_have_the_mean_attention_of_their_edges(make_disorder):
    config = GlassConfig(attention=True, hidden=8)
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(0, 0.4, s).astype("f4") for k, s in config.weight_shapes().items()}
    graphs = graph_of(make_disorder(400), config)
    attention = Network(config, [weights])(graphs).attention[0]
    mean = 0.5 * (attention + attention[graphs.edges.reverse])
    per_particle = particle_attention(graphs, attention)
    own = slice(graphs.edges.indptr[5], graphs.edges.indptr[6])
    assert per_particle[5] == pytest.approx(mean[own].mean(), rel=1e-6)
    assert graph_counts(3, [True, True, False], np.zeros((0, 2), int))[3:] == (0, 0, 1)


# Liquid against glass -----------------------------------------------------------------------------


def exact_rank_sum(liquid, glass):
    """P(as many or more pairs in which the liquid is greater) over all ways to part the numbers."""
    everything = np.concatenate([liquid, glass])

    def statistic(chosen):
        rest = np.delete(everything, chosen)
        return (everything[list(chosen)][:, None] > rest).sum()

    ways = [statistic(list(way)) for way in combinations(range(len(everything)), len(liquid))]
    return np.mean(np.array(ways) >= statistic(range(len(liquid))))


def test_rank_sums_are_exact_for_few():
    rng = np.random.default_rng(0)
    liquid, glass = {}, {}
    for shift, name in enumerate(METRICS):
        liquid[name], glass[name] = rng.normal(shift, 1, 5), rng.normal(0, 1, 6)
    table = compare(liquid, glass)
    for row, name in zip(table.rows(), METRICS, strict=True):
        assert row["metric"] == name and row["test"] == "rank sum"
        assert (row["n_liquid"], row["n_glass"]) == (5, 6)
        assert row["p"] == pytest.approx(exact_rank_sum(liquid[name], glass[name]))
        assert row["liquid"] == pytest.approx(liquid[name].mean())


def test_runs_are_paired():
    """Eight runs, all of which fall: of 2^8 signs one is as good."""
    liquid = {"n_bb_edges": [30.0, 31, 29, 40, 41, 35, 36, 28, 27, 33]}
    runs = ["a", "a", "b", "c", "c", "d", "e", "f", "g", "h"]
    glass = {"n_bb_edges": [3.0, 4, 2.5, 6, 7.5, 1, 2, 8.1, 50]}
    row = next(compare(liquid, glass, (runs, [*"abcdefgh", "alone"])).rows())
    assert (row["test"], row["n_liquid"], row["n_glass"]) == ("signed rank", 8, 8)
    assert row["p"] == pytest.approx(2.0**-8)
    reversed_row = next(compare(glass, liquid, ([*"abcdefgh", "alone"], runs)).rows())
    assert reversed_row["p"] > 0.99


def test_numbers_that_do_not_differ_prove_nothing():
    same = {"n_bb_edges": [1.0, 2, 3]}
    assert next(compare(same, same, ([1, 2, 3], [1, 2, 3])).rows())["p"] == 1
    assert next(compare({"x": [2, 2, 2]}, {"x": [2, 2]}).rows())["p"] >= 0.5


@pytest.mark.parametrize(
    ("liquid", "glass", "runs", "said"),
    [
        ({"a": []}, {"a": [1]}, None, "a: there are no configurations of the liquid"),
        ({"a": [1]}, {"a": []}, None, "a: there are no configurations of the glass"),
        ({"a": [1]}, {"a": [1]}, ([1], [2]), "no run has both"),
    ],
)
def test_what_cannot_be_compared(liquid, glass, runs, said):
    with pytest.raises(ValueError, match=said):
        compare(liquid, glass, runs)
