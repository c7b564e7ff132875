"""What is recorded of the bundled networks and regressions for mobility."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobility_samples import liquid
from phaseseg import Frame, load_model, predict
from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.cage import Cage
from phaseseg.families.mobility.inherent import inherent_positions
from phaseseg.families.mobility.potentials import KOB_ANDERSEN
from phaseseg.families.mobility.predictors import Seen
from phaseseg.families.mobility.structure import Structure
from phaseseg.testing.frames import awkward_frames

SHIPPED = {
    "bapst-ka3d-v1", "net-ka3d-v1", "net-ka3d-minimized-v1", "ridge-ka3d-v1",
    "net-ka3d-t064-v1", "net-ka3d-t064-minimized-v1", "ridge-ka3d-t064-v1",
}  # fmt: skip
CARD: set[str] = set()
# Both types are needed, and three dimensions; one atom has three.
REFUSED = {
    "one atom", "one atom, open", "one species", "2D", "2D, open out of the plane", "2D, open in the plane",
}  # fmt: skip
NAMES = ("propensity", "propensity_uncertainty", "mean_propensity_a", "mean_propensity_b")


def frames(checkpoint: Checkpoint) -> dict[str, Frame]:
    """Two configurations of 216 particles at random."""
    return {name: liquid(216, seed=seed, info={"temperature": 0.44}) for seed, name in enumerate("ab")}


def resting(frame: Frame) -> Structure:
    """A structure without simulation: cage runs are chaotic, and no result could be compared with them."""
    inherent = inherent_positions(frame)
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.04, 0.12, frame.n_atoms)
    drift = inherent.positions - frame.positions + rng.normal(0, 0.02, (frame.n_atoms, 3))
    samples = drift + rng.normal(0, 1, (5, frame.n_atoms, 3)) * spread[:, None]
    covariance = np.eye(3) * spread[:, None, None] ** 2
    cage = Cage(
        frame.positions + drift, covariance, np.linalg.norm(drift, axis=1), 5, inherent.energy + 0.5,
        samples.astype(np.float32),
    )  # fmt: skip
    return Structure(frame, frame.species, KOB_ANDERSEN, inherent, cage, 0.44)


def outputs(model: Any, frame: Frame) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    if "cage" in model.predictor.needs:
        seen = Seen(frame, frame.species, resting(frame))
        found = model.predictor.make("cpu")(seen, lambda done, text: None)
        return {"mean": found.mean, "spread": found.spread}
    fields = predict(frame, model)
    return {name: np.asarray(fields[name], dtype=np.float32) for name in NAMES if name in fields}


def refused(checkpoint: Checkpoint) -> set[str]:
    """Awkward frames that these networks cannot take."""
    needs = load_model(checkpoint).predictor.needs
    if "cage" in needs:  # they have no temperature
        return set(awkward_frames())
    # At the same place, or in the same place of the next cell, the potential is infinite.
    return REFUSED | ({"coincident atoms", "on the upper bound"} if needs else set())
