"""Checks of metrics and predictions that hold for any configuration; see `phaseseg.testing.check_fields`."""

from __future__ import annotations

import numpy as np

from phaseseg.fields import Fields
from phaseseg.frame import Frame


def check(frame: Frame, fields: Fields) -> None:
    """Assert that probabilities, edges and counts agree with each other."""
    for bonds in fields.level("bond").values():
        i, j = bonds.atoms.T
        apart = frame.positions[j] - frame.positions[i] + bonds.shifts @ frame.cell
        assert np.allclose(np.linalg.norm(apart, axis=1), bonds.columns["length"], rtol=1e-5, atol=1e-6)
    if "frame_glass_probability" not in fields:
        return
    assert 0 <= fields["frame_glass_probability"] <= 1 and 0 <= fields["frame_glass_uncertainty"] <= 0.5
    assert ("glass_probability" in fields) == ("glass_uncertainty" in fields) == ("glass_fraction" in fields)
    if "glass_probability" in fields:
        p, spread = fields["glass_probability"], fields["glass_uncertainty"]
        assert ((p >= 0) & (p <= 1)).all() and ((spread >= 0) & (spread <= 0.5)).all()
        assert 0 <= fields["glass_fraction"] <= 1
    together = {"attention", "attention_bonds", "attention_threshold", "attention_n_disjoint_graphs",
                "attention_n_bb_edges", "attention_n_isolated_a"}  # fmt: skip
    assert together & set(fields) in (set(), together)
    if "attention" in fields:
        columns = fields["attention_bonds"].columns
        assert set(columns) == {"attention", "bb", "length", "kept"}
        attention, kept = columns["attention"], columns["kept"]
        assert attention.dtype == np.float32 and (attention >= 0).all()
        assert abs(attention.mean(dtype=float) - 1) < 1e-3
        assert kept.dtype == np.int8 and columns["bb"].dtype == np.int8
        assert ((attention >= np.float32(fields["attention_threshold"])) == kept).all()
        assert fields["attention_n_bb_edges"] == np.count_nonzero(kept & columns["bb"])
    assert len(fields.messages) >= 1
