"""Fields of the structural metrics and the networks: names and units."""

from __future__ import annotations

from functools import partial

from phaseseg.specs import PALE, ClassName, FieldSpec, part_class

PAIRS = (
    ClassName(0, "A-A", (0.75, 0.75, 0.75)),
    ClassName(1, "A-B", (0.50, 0.68, 0.80)),
    ClassName(2, "B-B", (0.72, 0.11, 0.11)),
)
"""Edges, by the number of B at their ends."""
PARTICLES = (
    ClassName(0, "A in a graph", PALE),
    ClassName(1, "isolated A", (0.85, 0.52, 0.06)),
    ClassName(2, "B", (0.13, 0.22, 0.32)),
)

# fmt: off
FIELDS = (
    FieldSpec("graph_id", "Graph ID", "", "atom", "count",
        "number of the nearest-neighbor graph around B, 1 for the largest; 0 without an edge",
        class_of=partial(part_class, "graph", "no graph")),
    FieldSpec("isolated", "Isolated", "", "atom", "flag", "1 for a particle A without an edge to a B",
        (ClassName(0, "no", PALE), PARTICLES[1])),
    FieldSpec("bb_degree", "B-B Degree", "", "atom", "count", "B-B edges at the particle; 0 for A"),
    FieldSpec("glass_bonds", "Glass bonds", "", "bond", "scalar",
        "edges between nearest neighbors that touch a B; bb: both ends are B"),
    FieldSpec("n_disjoint_graphs", "Number of disjoint graphs", "", "frame", "count",
        "connected graphs with at least one edge"),
    FieldSpec("n_bb_edges", "Number of B-B edges", "", "frame", "count", "undirected edges between two Bs"),
    FieldSpec("n_isolated_a", "Number of isolated A", "", "frame", "count",
        "particles A without an edge to a B"),
    FieldSpec("disjoint_graphs_per_particle", "Disjoint graphs per particle", "", "frame", "scalar",
        "connected graphs divided by the number of all particles"),
    FieldSpec("bb_edges_per_particle", "B-B edges per particle", "", "frame", "scalar",
        "B-B edges divided by the number of all particles"),
    FieldSpec("isolated_a_per_particle", "Isolated A per particle", "", "frame", "scalar",
        "particles A without an edge divided by the number of all particles"),
    FieldSpec("glass_probability", "Glass Probability", "", "atom", "scalar",
        "probability that the particle has the surroundings of a glass"),
    FieldSpec("glass_uncertainty", "Glass Uncertainty", "", "atom", "scalar",
        "standard deviation of that probability over the networks of a checkpoint"),
    FieldSpec("attention", "Attention", "", "atom", "scalar",
        "mean attention of the edges at the particle; 1 is the mean of all edges"),
    FieldSpec("attention_bonds", "Attention bonds", "", "bond", "scalar",
        "edges of the graph with their attention; kept: at or above the threshold; bb: both ends are B",
        shown="kept"),
    FieldSpec("frame_glass_probability", "Glass probability of the configuration", "", "frame", "scalar",
        "probability that the whole configuration is a glass"),
    FieldSpec("frame_glass_uncertainty", "Glass uncertainty of the configuration", "", "frame", "scalar",
        "standard deviation of that probability over the networks of a checkpoint"),
    FieldSpec("glass_fraction", "Glass fraction", "", "frame", "scalar",
        "fraction of particles whose glass probability is at or above the threshold"),
    FieldSpec("attention_threshold", "Attention threshold", "", "frame", "scalar",
        "lowest attention of an edge that is kept; by default the trough of the distribution"),
    FieldSpec("attention_n_disjoint_graphs", "Number of attention graphs", "", "frame", "count",
        "connected graphs of kept edges"),
    FieldSpec("attention_n_bb_edges", "Number of B-B attention edges", "", "frame", "count",
        "kept B-B edges"),
    FieldSpec("attention_n_isolated_a", "Number of A without attention", "", "frame", "count",
        "particles A without a kept edge"),
)
# fmt: on
