"""What is trained where nothing else is asked for. Neither torch nor NumPy here: `--help` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phaseseg.families.segmentation.rules import LabelRule

CUTOFF = 6.0
"""Radius of the neighborhood, Å."""
WIDTHS = (1.0, 2**0.5, 2.0)
"""Widths of the densities around an atom, Å."""
RECIPE: Mapping[str, Any] = {
    "architecture": "gat", "cutoff": CUTOFF, "features": "densities", "widths": WIDTHS, "hidden": 8,
    "heads": 2, "layers": 1, "readout": 32,
}  # fmt: skip
"""Settings of the network, those of `NetworkConfig`."""
TRAINING: Mapping[str, Any] = {
    "epochs": 60, "batch_atoms": 5200, "learning_rate": 5e-3, "seeds": (0, 1, 2), "patience": 30,
}  # fmt: skip
"""Settings of the training, those of `phaseseg.training.Settings`."""
RECIPE_RULE = LabelRule(sigma=2.0)
"""Rule of the labels: wider than for labels to be looked at, because a rough label cannot be learned."""
