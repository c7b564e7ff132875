"""Naive twins of the fast code: slow, and obviously right. Also the baselines of the benchmarks."""

from naive.cuts import fourth_powers_of_slopes, gradient, steepest, two_means
from naive.fields import (
    VOID_DENSITY,
    density,
    extent_density,
    gemm_density,
    grid_points,
    image_shifts,
    kde_over_images,
    score_field,
    sum_of_gaussians,
    voxel_boundary,
)
from naive.glass import (
    all_distances,
    glass_edges,
    glass_metrics,
    glass_network,
    graphs,
    kob_andersen_energies,
    picture,
    radial_distribution,
)
from naive.interface import distance_to_points, flood_fill, surface_points
from naive.neighbors import nearest_neighbors, symmetrized
from naive.networks import neighbor_pairs, network_logits, node_features, pair_lengths
from naive.potentials import lennard_jones
from naive.tables import block_errors, centers_of_mass, composition, proxigram, shell_volumes

__all__ = [
    "VOID_DENSITY",
    "all_distances",
    "block_errors",
    "centers_of_mass",
    "composition",
    "density",
    "distance_to_points",
    "extent_density",
    "flood_fill",
    "fourth_powers_of_slopes",
    "gemm_density",
    "glass_edges",
    "glass_metrics",
    "glass_network",
    "gradient",
    "graphs",
    "grid_points",
    "image_shifts",
    "kde_over_images",
    "kob_andersen_energies",
    "lennard_jones",
    "nearest_neighbors",
    "neighbor_pairs",
    "network_logits",
    "node_features",
    "pair_lengths",
    "picture",
    "proxigram",
    "radial_distribution",
    "score_field",
    "shell_volumes",
    "steepest",
    "sum_of_gaussians",
    "surface_points",
    "symmetrized",
    "two_means",
    "voxel_boundary",
]
