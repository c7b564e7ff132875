"""Atomic environments of data sets for force fields: descriptors, clusters, spanning trees and coverage."""

from __future__ import annotations

from typing import Any

from phaseseg.families import Family, Option, Paper, register
from phaseseg.families.environments.fields import FIELDS
from phaseseg.families.environments.rules import LARGEST_CUTOFF, METHODS, POWER_SPECTRUM
from phaseseg.families.environments.settings import MeagraphSettings

_CLUSTERS: dict[str, Any] = {"part": "run", "group": "Clusters"}
_DESCRIPTOR: dict[str, Any] = {"part": "run", "group": "Descriptor"}

OPTIONS = (
    Option(
        "method", str, None, "Method that finds the clusters; by default that of the checkpoint.",
        choices=METHODS, label="Method (empty: that of the checkpoint)", **_CLUSTERS,
    ),
    Option(
        "n_clusters", int, None,
        "Number of clusters; by default 20 for kmeans, and chosen by a criterion for the other methods.",
        low=1, label="Number of clusters (none: automatic)", **_CLUSTERS,
    ),
    Option(
        "smallest", int, None, "Fewest atoms of a cluster, for the method tree; by default 20.", low=2,
        label="Smallest cluster (tree)", **_CLUSTERS,
    ),
    Option(
        "distance", float, None,
        "Largest distance of two connected atoms in principal components, for the method threshold.", low=0,
        label="Distance (threshold)", **_CLUSTERS,
    ),
    Option(
        "resolution", float, None,
        "Resolution of the modularity (method communities); by default 0.5; more clusters for a larger one.",
        low=0, open=True, label="Resolution (communities)", **_CLUSTERS,
    ),
    Option(
        "rate", float, None,
        "Edges survive above this normalized score, for the method meagraph; by default that of the network.",
        low=0, high=1, open=True, label="Rate (meagraph)", **_CLUSTERS,
    ),
    Option(
        "n_components", int, None, "Principal components in which the clusters are found; by default 10.",
        low=1, label="Principal components (none: 10)", **_CLUSTERS,
    ),
    Option("seed", int, None, "Seed of what is drawn at random.", low=0, **_CLUSTERS),
    Option(
        "descriptor", str, None,
        f"{POWER_SPECTRUM}, array:NAME (a per-atom array of the frames) or file:PATH (.npy, .csv, .json).",
        label="Descriptor (empty: power spectrum)", placeholder="array:NAME", **_DESCRIPTOR,
    ),
    Option(
        "cutoff", float, None, "Cutoff of the power spectrum (Å); by default 5.", low=1, high=LARGEST_CUTOFF,
        open=True, label="Cutoff (none: 5 Å)", **_DESCRIPTOR,
    ),
    Option(
        "n_max", int, None, "Number of radial functions of the power spectrum; by default 4.", low=1, high=12,
        label="Radial functions (none: 4)", **_DESCRIPTOR,
    ),
    Option(
        "l_max", int, None, "Largest degree of the power spectrum; by default 4.", low=0, high=12,
        label="Largest degree (none: 4)", **_DESCRIPTOR,
    ),
)  # fmt: skip

PAPERS = (
    Paper(
        "sun2025unsupervised", ("H. Sun", "J. A. Vita", "A. Samanta", "V. Lordi"),
        "Unsupervised Atomic Data Mining via Multi-Kernel Graph Autoencoders for Machine Learning Force "
        "Fields", 2025, arxiv="2509.12358", kind="misc",
    ),
    Paper(
        "oord2018representation", ("A. van den Oord", "Y. Li", "O. Vinyals"),
        "Representation Learning with Contrastive Predictive Coding", 2018, arxiv="1807.03748", kind="misc",
    ),
    Paper(
        "thompson2015spectral",
        ("A. P. Thompson", "L. P. Swiler", "C. R. Trott", "S. M. Foiles", "G. J. Tucker"),
        "Spectral neighbor analysis method for automated generation of quantum-accurate interatomic "
        "potentials", 2015, "Journal of Computational Physics", "285", "316-330",
        doi="10.1016/j.jcp.2014.12.018",
    ),
)  # fmt: skip

FAMILY = register(
    Family(
        name="environments",
        title="Atomic environments",
        status="experimental",
        units=("metal",),
        default="environments/mixture-v1",
        fields=FIELDS,
        papers=PAPERS,
        options=OPTIONS,
        symmetries=frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"}),
        invariant=("environment", "environment_distance", "outlier_score", "n_environments"),
        model="phaseseg.families.environments.model:EnvironmentsModel",
        settings=MeagraphSettings,
        fit="phaseseg.families.environments.fit:fit",
        check="phaseseg.families.environments.checks:check",
        commands=("mine=phaseseg.families.environments.commands:mine_command",),
        demo="phaseseg.families.environments.commands:demo",
    )
)  # fmt: skip
