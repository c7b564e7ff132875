"""Fields of atomic environments: names and units."""

from __future__ import annotations

from colorsys import hls_to_rgb

from phaseseg.specs import UNKNOWN, ClassName, FieldSpec

_GOLDEN = 0.6180339887498949  # 1 / golden ratio: hues of neighboring numbers are far apart


def color_of(label: int) -> tuple[float, float, float]:
    """Color of a cluster, red, green and blue from 0 to 1: always the same for a number, gray for -1.

    >>> color_of(-1), [round(part, 2) for part in color_of(0)]
    ((0.6, 0.6, 0.6), [0.22, 0.53, 0.78])
    """
    if label < 0:
        return UNKNOWN
    # The first color is blue. The lightness changes, too, for readers without color.
    lightness = (0.5, 0.68, 0.36)[label % 3]
    return hls_to_rgb((0.575 + _GOLDEN * label) % 1.0, lightness, 0.56)


def cluster_class(label: int) -> ClassName:
    """Name and color of a cluster."""
    return ClassName(label, f"cluster {label}" if label >= 0 else "none", color_of(label))


# fmt: off
FIELDS = (
    FieldSpec("environment", "Environment", "", "atom", "count",
        "number of the cluster of the atom's environment, by size in the data of the fit: 0 for the largest; "
        "-1 for none", class_of=cluster_class),
    FieldSpec("environment_distance", "Environment Distance", "", "atom", "scalar",
        "distance from the cluster: to its Gaussian in standard deviations (mixture); in principal "
        "components to the nearest center (kmeans) or to the nearest fitted environment (other methods)"),
    FieldSpec("outlier_score", "Outlier Score", "", "atom", "scalar",
        "distance from the environments of other configurations of the fit, in units of a typical atom, less "
        "where these are far apart: 1 is typical, 5 is strange"),
    FieldSpec("n_environments", "Number of environments", "", "frame", "count",
        "clusters that occur in the frame"),
    FieldSpec("n_unassigned", "Number of unassigned atoms", "", "frame", "count",
        "atoms whose environment is in no cluster"),
    FieldSpec("n_unfamiliar", "Number of unfamiliar atoms", "", "frame", "count",
        "atoms whose distance exceeds that of 99 % of the atoms of the fit"),
    FieldSpec("largest_outlier_score", "Largest outlier score", "", "frame", "scalar",
        "outlier score of the strangest atom"),
    FieldSpec("environment_clusters", "Clusters of environments", "", "table", "scalar",
        "atoms of each cluster in the frame, their share here and in the data of the fit, and their mean "
        "distance"),
)
# fmt: on
