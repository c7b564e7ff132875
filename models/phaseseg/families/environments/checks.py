"""What holds for the fields of every frame, beyond shapes and types."""

from __future__ import annotations

import numpy as np

from phaseseg.fields import Fields
from phaseseg.frame import Frame


def check(frame: Frame, fields: Fields) -> None:
    """Assert that labels, distances, numbers and the table agree.

    Raises
    ------
    AssertionError
    """
    if "environment" not in fields:
        return
    labels, distances = fields["environment"], fields["environment_distance"]
    assert labels.dtype == np.int32 and labels.min() >= -1, "environment"
    assert np.isfinite(distances).all() and (distances >= 0).all(), "environment_distance"
    if "outlier_score" in fields:
        scores = fields["outlier_score"]
        assert np.isfinite(scores).all() and (scores >= 0).all(), "outlier_score"
        assert fields["largest_outlier_score"] == scores.max(), "largest_outlier_score"
    present = np.unique(labels[labels >= 0])
    assert fields["n_environments"] == len(present), "n_environments"
    assert fields["n_unassigned"] == (labels < 0).sum(), "n_unassigned"
    assert 0 <= fields["n_unfamiliar"] <= frame.n_atoms, "n_unfamiliar"
    columns = fields["environment_clusters"].columns
    assert np.array_equal(columns["cluster"], present), "environment_clusters: cluster"
    assert np.array_equal(columns["atoms"], [(labels == k).sum() for k in present]), "clusters: atoms"
    assert (columns["share of the fit"] <= 1).all(), "environment_clusters: share of the fit"
