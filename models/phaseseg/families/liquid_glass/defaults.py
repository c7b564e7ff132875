"""What is trained where nothing else is asked for. Neither torch nor NumPy here: `--help` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPE: Mapping[str, Any] = {
    "architecture": "dmpnn", "attention": False, "window": (6.0, 18.0), "k": 2, "hidden": 64, "steps": 3,
    "dropout": 0.0, "ffn_layers": 2, "features": "distances",
}  # fmt: skip
"""Settings of the network on graphs, those of `GlassConfig`."""
IMAGE_RECIPE: Mapping[str, Any] = {
    "architecture": "cnn", "dropout": 0.0, "image_size": 160, "pixels_per_sigma": 8.0, "radii": (0.35, 0.3),
    "pool": 4, "dense": 80, "global_average": True,
}  # fmt: skip
"""Settings of the network on images, of 20 σ: smaller or coarser ones tell liquid from glass less well."""
IMAGES = 16
"""Images of a batch, at least: channels are normalized by what the batch holds."""
TRAINING: Mapping[str, Any] = {
    "epochs": 20, "batch_atoms": 1000, "learning_rate": 2e-3, "patience": 10,
}  # fmt: skip
"""Settings of the training, those of `phaseseg.training.Settings`."""
WINDOWS = 2000
"""Windows of an epoch, half of them of glass."""
HELD_WINDOWS = 600
"""Windows that a member is validated on, half of them of glass."""
FOLDS = 3
"""Parts of the runs, of which each validates one member."""

SEARCH_EPOCHS = 10
"""Epochs of a network of a search, which shall tell settings apart and no more."""
SEARCH_SPACE: Mapping[str, Mapping[str, tuple[float, float, float | str]]] = {
    "dmpnn": {
        "k": (1, 5, 1), "hidden": (16, 96, 16), "steps": (2, 6, 1), "dropout": (0.0, 0.5, 0.05),
        "ffn_layers": (1, 3, 1), "learning_rate": (3e-4, 1e-2, "log"),
    },
    "cnn": {
        "pool": (3, 5, 1), "dense": (20, 100, 20), "dropout": (0.0, 0.5, 0.05),
        "learning_rate": (1e-4, 3e-3, "log"),
    },
}  # fmt: skip
"""What is searched: least, most and step, or "log" for a number drawn on a logarithmic scale.

The settings of the paper, with widths for one core. Windows are not among them: in larger windows every
network is better, so that the largest would always be chosen.
"""
