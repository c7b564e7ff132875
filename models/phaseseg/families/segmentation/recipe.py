"""What is trained where nothing else is asked for. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phaseseg.families.segmentation.config import LabelRule

RECIPE: Mapping[str, Any] = {
    "architecture": "gat", "features": "densities", "hidden": 8, "heads": 2, "layers": 1, "readout": 32,
}  # fmt: skip
"""Settings of the network, those of `NetworkConfig`."""
RECIPE_RULE = LabelRule(sigma=2.0)
"""Rule of the labels: wider than for labels to be looked at, because a rough label cannot be learned."""
