"""Invariants of the labels and predictions of any frame, for `phaseseg.testing.check_fields`."""

from __future__ import annotations

import numpy as np

from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.fields import Fields
from phaseseg.frame import Frame


def check(frame: Frame, fields: Fields) -> None:
    """Assert that phases, domains, distances, tables and scalars are consistent.

    Raises
    ------
    AssertionError
        If they are not.
    """
    predicted = "phase_probability" in fields
    if predicted:
        assert ((fields["phase_uncertainty"] >= 0) & (fields["phase_uncertainty"] <= 0.5)).all()
        assert 0 <= fields["outside_training"] <= 1
    else:
        assert np.isfinite(fields["phase_density"]).all()
    assert ("score_grid" if predicted else "density_grid") in fields
    phase, distance, domain = fields["phase"], fields["interface_distance"], fields["domain"]
    assert fields["n_phases"] in (1, 2)
    if predicted:
        assert (fields["n_phases"] == 1) == np.isnan(distance).all()
        # With two phases, both sides contain atoms, or the poor side is a void.
        whole, void = len(np.unique(domain > 0)) == 1, (domain > 0).all() and fields["area_rich_void"] > 0
        assert void if fields["n_phases"] == 2 and whole else whole == (fields["n_phases"] == 1)
    if np.isnan(distance).any():
        assert np.isnan(distance).all(), "some atoms have no distance to the interface"
        assert len(np.unique(phase)) == 1 and phase[0] != BOUNDARY, "atoms of a single-phase frame differ"
        assert not domain.any() and fields["n_domains"] == 0 and fields["interface_area"] == 0
    else:
        assert ((distance > 0) <= (domain > 0)).all() and ((distance < 0) <= (domain == 0)).all()
        assert (phase[domain > 0] != POOR).all() and (phase[domain == 0] != RICH).all()
        assert domain.min() >= 0 and domain.max() <= fields["n_domains"]
        assert fields["n_domains"] >= 1 and fields["interface_area"] > 0
    table = {row["phase"]: row for row in fields["composition"].rows()}
    assert table["all"]["atoms"] == frame.n_atoms
    assert sum(table[name]["atoms"] for name in ("rich", "poor", "boundary")) == frame.n_atoms
    assert table["rich side"]["atoms"] + table["poor side"]["atoms"] == frame.n_atoms
    assert fields["mass_balance_residual"] <= 1e-12
    rich_poor, rich_void = fields["area_rich_poor"], fields["area_rich_void"]
    assert min(rich_poor, rich_void, fields["area_poor_void"]) >= 0
    if fields["n_domains"]:
        assert np.isclose(rich_poor + rich_void, fields["interface_area"], rtol=1e-6)
    else:
        assert rich_poor == 0 and min(rich_void, fields["area_poor_void"]) == 0
    for name in ("rich_atom_fraction", "rich_volume_fraction"):
        assert 0 <= fields[name] <= 1
    assert len(fields["domains"]) == fields["n_domains"]
    assert len(fields.messages) >= 1
