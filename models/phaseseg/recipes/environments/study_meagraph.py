"""Compare MEAGraph, trained and with random weights, with its graph at a raw threshold, without a network.

    python -m phaseseg.recipes.environments.study_meagraph --nets FOLDER [--seeds 5] [--fe-seeds 2]

`--nets` is the folder of the step `train`; `study-meagraph.json` is written into it for the step `cards`.

All methods see the same descriptors, power spectra at their defaults. The network scores the edges of the
graph at the published threshold. For each method the rate, or the threshold of the graph alone, is the best
of a grid by the groups of the set, so all scores are optimistic in the same way. The groups are those of
configurations and not the truth. Isolated atoms count as clusters of their own. Stability is the adjusted
Rand index of the clusters of the same atoms in the whole set and in a part of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.meagraph import Meagraph, meagraph_clusters
from phaseseg.families.environments.meagraph_graph import (
    Scale,
    build_graph,
    component_labels,
    distinct_points,
    threshold_labels,
)
from phaseseg.recipes.cards import put_text, say
from phaseseg.recipes.environments.sets import read_set, sample_by_group, tags_of
from phaseseg.recipes.environments.train import path_of

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

RATES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
LOWS = (0.9, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995)
PER_TAG = 900
"""Atoms of each group of iron."""


def filled(labels: Integers) -> Integers:
    """Isolated atoms as clusters of their own."""
    found, alone = labels.copy(), labels < 0
    found[alone] = labels.max() + 1 + np.arange(np.count_nonzero(alone))
    return found


def scores(tags: Integers, labels: Integers) -> dict[str, Any]:
    """Agreement with the groups, number of clusters and share of isolated atoms."""
    whole = filled(labels)
    return {
        "ARI": float(adjusted_rand_score(tags, whole)),
        "NMI": float(normalized_mutual_info_score(tags, whole)),
        "clusters": int(labels.max()) + 1,
        "isolated": float((labels < 0).mean()),
    }


def labels_by_rate(model: Meagraph, rows: Doubles) -> Iterator[tuple[float, Integers]]:
    """Clusters at every rate; norms and ranges are those of the rows."""
    scale, network = Scale(), model.network
    points = distinct_points(rows, scale)
    graph = build_graph(points, network.config.low)
    begun = network.first_layer(graph, scale)
    for rate in RATES:
        own = Scale(scale.kept)
        first, second = network.encode(graph, [rate] * len(network.config.widths), own, begun).pairs[-1]
        yield rate, component_labels(points.merged, graph.nodes[first], graph.nodes[second])


def raw_by_low(rows: Doubles) -> Iterator[tuple[float, Integers]]:
    """Clusters of the graph alone at every threshold."""
    points = distinct_points(rows)
    tree = points.tree()
    for low in LOWS:
        yield low, threshold_labels(points, low, tree)


def compared(
    name: str, rows: Doubles, tags: Integers, networks: Mapping[str, list[Meagraph]]
) -> list[dict[str, Any]]:
    """One row for every method and seed at its best rate; and for networks at 0.9."""
    found = []

    def add(method: str, seed: int, scanned: Iterator[tuple[float, Integers]], published: float) -> None:
        each = [{"set": name, "method": method, "seed": seed, "rate": rate, **scores(tags, labels)}
                for rate, labels in scanned]  # fmt: skip
        best = max(each, key=lambda one: one["ARI"])
        found.append({**best, "at": "best"})
        found.extend({**one, "at": "0.9"} for one in each if one["rate"] == published)
        say(
            f"{name} {method} seed {seed}: best at {best['rate']}, ARI {best['ARI']:.3f}, NMI "
            f"{best['NMI']:.3f}, {best['clusters']} clusters, {best['isolated']:.1%} isolated"
        )

    add("raw threshold", 0, raw_by_low(rows), 0.9)
    for method, models in networks.items():
        for seed, model in enumerate(models):
            add(method, seed, labels_by_rate(model, rows), 0.9)
    return found


def stability(
    data: DataSet,
    rows: Doubles,
    networks: Mapping[str, list[Meagraph]],
    best: Mapping[tuple[str, int], float],
) -> list[dict[str, Any]]:
    """ARI of the same atoms alone and in the whole set, with norms of the part and of the whole."""
    assert data.groups is not None
    rng = np.random.default_rng(0)
    half = np.zeros(len(data.frames), dtype=bool)
    half[rng.permutation(len(half))[: len(half) // 2]] = True
    volume = np.array([str(group).startswith("Volume_") for group in data.groups])
    parts = {"without Volume_*": ~volume[data.configurations], "random half": half[data.configurations]}
    found = []

    def add(method: str, seed: int, clusters: Callable[[Doubles, bool], Integers]) -> None:
        whole = clusters(rows, False)
        for part, chosen in parts.items():
            row: dict[str, Any] = {"method": method, "seed": seed, "part": part}
            for normalize, fitted in (("batch", False), ("fitted", True)):
                own = clusters(rows[chosen], fitted)
                row[normalize] = float(adjusted_rand_score(filled(whole[chosen]), filled(own)))
            found.append(row)
            say(
                f"stability {method} seed {seed}, {part}: batch {row['batch']:.3f}, "
                f"fitted {row['fitted']:.3f}"
            )

    kept, low = distinct_points(rows).scale.kept, best["raw threshold", 0]

    def raw(values: Doubles, fitted: bool) -> Integers:
        return threshold_labels(distinct_points(values, Scale(kept) if fitted else None), low)

    add("raw threshold", 0, raw)
    for method, models in networks.items():
        for seed, model in enumerate(models):
            add(method, seed, _clusters_of(model.measured(rows, best[method, seed])))
    return found


def _clusters_of(model: Meagraph) -> Callable[[Doubles, bool], Integers]:
    def clusters(values: Doubles, fitted: bool) -> Integers:
        return meagraph_clusters(values, model, normalize="fitted" if fitted else "batch")

    return clusters


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fe-seeds", type=int, default=2)
    chosen = parser.parse_args()
    trained = [Meagraph.of(path_of(chosen.nets, seed)) for seed in range(chosen.seeds)]
    untrained = [Meagraph.untrained(trained[0].network.config.features, seed) for seed in range(chosen.seeds)]
    networks = {"trained": trained, "untrained": untrained}
    ta = read_set("ta")
    rows = ta.features(PowerSpectrum(("Ta",)))
    say(f"Ta: {len(rows):,} atoms")
    table = compared("Ta", rows, tags_of(ta), networks)
    best = {(one["method"], one["seed"]): one["rate"] for one in table if one["at"] == "best"}
    stable = stability(ta, rows, {name: models[:3] for name, models in networks.items()}, best)
    fe = read_set("fe")
    atoms = sample_by_group(fe, PER_TAG)
    say(f"Fe: {len(atoms):,} atoms")
    iron = fe.features(PowerSpectrum(("Fe",)))[atoms]
    table += compared("Fe", iron, tags_of(fe)[atoms], {k: v[: chosen.fe_seeds] for k, v in networks.items()})
    found = {"clusters": table, "stability": stable, "atoms": {"Ta": len(rows), "Fe": len(atoms)}}
    put_text(chosen.nets / "study-meagraph.json", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
