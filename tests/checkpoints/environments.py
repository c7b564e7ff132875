"""What is recorded of the bundled checkpoints for atomic environments."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from environment_samples import BASES, crystal, run_of_crystals
from phaseseg import Frame, load_model
from phaseseg.api import prepare
from phaseseg.checkpoint import Checkpoint

SHIPPED = {"contrast-ta-v1", "meagraph-ta-v1", "mixture-v1"}
CARD: set[str] = set()
NAMES = ("environment", "environment_distance")


def frames(checkpoint: Checkpoint) -> dict[str, Frame]:
    """A crystal of each of three kinds."""
    return {kind: crystal(kind, seed=9, name=_species(checkpoint)) for kind in BASES}


def outputs(model: Any, frame: Frame) -> dict[str, NDArray[Any]]:
    """What is compared, by name; a model without clusters learns from crystals of the three kinds."""
    learns = not model.fitted and model.rule().method == "mixture"
    rule = model.rule(n_clusters=3) if learns else model.rule()
    ready = prepare(model, run_of_crystals(name=_species(model.checkpoint))[0], rule)
    fields = ready.predict(frame)
    return {name: fields[name] for name in NAMES}


def _species(checkpoint: Checkpoint) -> str:
    """The element of the descriptor; any element for settings of a fit."""
    return str(checkpoint.config.get("descriptor", {}).get("species", ["W"])[0])


def refused(checkpoint: Checkpoint) -> set[str]:
    """Awkward frames that the model cannot take: the clusters are those of an ordinary frame."""
    assert load_model(checkpoint).checkpoint.name == checkpoint.name
    return set()
