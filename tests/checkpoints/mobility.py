"""What is recorded of the bundled networks and regressions for mobility."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobility_samples import liquid
from phaseseg import Frame, predict
from phaseseg.checkpoint import Checkpoint

SHIPPED: set[str] = set()
CARD: set[str] = set()
# Both types are needed, and three dimensions; one atom has three.
REFUSED = {
    "one atom", "one atom, open", "one species", "2D", "2D, open out of the plane", "2D, open in the plane",
}  # fmt: skip
NAMES = ("propensity", "propensity_uncertainty", "mean_propensity_a", "mean_propensity_b")


def frames(checkpoint: Checkpoint) -> dict[str, Frame]:
    """Two configurations of 216 particles at random."""
    return {name: liquid(216, seed=seed, info={"temperature": 0.44}) for seed, name in enumerate("ab")}


def outputs(model: Any, frame: Frame) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    fields = predict(frame, model)
    return {name: np.asarray(fields[name], dtype=np.float32) for name in NAMES if name in fields}


def refused(checkpoint: Checkpoint) -> set[str]:
    """Awkward frames that these networks cannot take."""
    return REFUSED
