"""What is trained where nothing else is asked for. Neither torch nor NumPy here: `--help` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPE: Mapping[str, Any] = {
    "architecture": "dmpnn", "attention": False, "window": (0.1, 0.3), "k": 2, "hidden": 64, "steps": 3,
    "dropout": 0.0, "ffn_layers": 2, "features": "distances",
}  # fmt: skip
"""Settings of the network on graphs, those of `GlassConfig`."""
IMAGE_RECIPE: Mapping[str, Any] = {
    "architecture": "cnn", "dropout": 0.0, "image_size": 250, "pixels_per_sigma": 250 / 12, "dense": 80,
    "pool": 4,
}  # fmt: skip
"""Settings of the network on images."""
TRAINING: Mapping[str, Any] = {
    "epochs": 30, "batch_atoms": 4000, "learning_rate": 2e-3, "patience": 10,
}  # fmt: skip
"""Settings of the training, those of `phaseseg.training.Settings`."""
WINDOWS = 2000
"""Windows of an epoch, half of them of glass."""
HELD_WINDOWS = 600
"""Windows that a member is validated on, half of them of glass."""
FOLDS = 3
"""Parts of the runs, of which each validates one member."""
